//! What is left of a test that was killed goes all the same.
#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::{Child, Command};

use monopod_testkit::remains::{Remains, Remover};

/// A program that would run for long, whose own thread puts it into a control group first.
fn long(command: &mut Command, group: &Path) -> Child {
    command.args(["-c", "echo $$ > \"$0\" && exec sleep 600"]).arg(group.join("cgroup.procs")).spawn().unwrap()
}

#[test]
fn vm_what_a_killed_test_leaves_is_removed() {
    let name = format!("monopod-remains-{}", std::process::id());
    let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].map(Path::new);
    let root = roots.into_iter().find(|root| root.join("cgroup.procs").exists()).unwrap();
    let (group, folder) = (root.join(&name), tempfile::tempdir().unwrap().keep());
    let below = group.join("vm");
    std::fs::create_dir_all(&below).unwrap();
    let mut remover = Remover::start().unwrap();
    for what in [Remains::Namespace(&name), Remains::Group(&name), Remains::Folder(&folder)] {
        remover.tell(what).unwrap();
    }
    let ip = |arguments: &[&str]| Command::new("ip").args(arguments).output().unwrap();
    assert!(ip(&["netns", "add", &name]).status.success());
    let mut in_group = long(&mut Command::new("sh"), &below);
    let mut in_namespace = Command::new("ip").args(["netns", "exec", &name, "sleep", "600"]).spawn().unwrap();
    // Whoever is killed before being there is killed as well as everybody else, or not at all.
    while std::fs::read_to_string(below.join("cgroup.procs")).unwrap().is_empty()
        || ip(&["netns", "pids", &name]).stdout.is_empty()
    {
        std::thread::yield_now();
    }
    remover.finish().unwrap();
    for child in [&mut in_group, &mut in_namespace] {
        assert!(!child.wait().unwrap().success());
    }
    assert!(!group.exists() && !folder.exists());
    assert!(!String::from_utf8_lossy(&ip(&["netns", "list"]).stdout).contains(&name));
}
