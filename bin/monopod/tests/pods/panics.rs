//! A guest whose kernel breaks down under a Pod. Containers cannot do that to it, so the guest has a watcher that can.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::machine::{Machine, script_pod};

/// Runs the guest's own init beside a watcher, which looks with its own eyes for a process with a certain word.
const INIT: &str = "#!/watcher/busybox sh
B=/watcher/busybox
# What the shell starts in the background reads from there.
$B mkdir -p /dev
[ -e /dev/null ] || $B mknod /dev/null c 1 3
(
  $B mount -t proc proc /watcher/proc
  until $B grep -qs 'break-[d]own' /watcher/proc/[0-9]*/cmdline; do $B sleep 0.5; done
  echo c > /watcher/proc/sysrq-trigger
) &
exec /init
";

#[test]
fn vm_a_guest_whose_kernel_panics_fails_its_pod_with_its_last_words_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut machine = Machine::without_daemon();
    machine.set("MONOPOD_GUEST", fragile_guest(folder.path()));
    machine.start_daemon();
    machine.detached(&script_pod("other", "while true; do sleep 1; done", "terminationGracePeriodSeconds: 0"), &[]);
    // The word is whole only once its time has come.
    let script = "echo before; until [ -e /tmp/now ]; do sleep 0.1; done
                  what=down; exec sh -c 'while true; do sleep 1; done' break-$what";
    machine.detached(&script_pod("victim", script, ""), &[]);
    machine.wait_for("its output has arrived", |machine| {
        let log = machine.ok(&["logs", "victim"]);
        if log == "before\n" { Ok(()) } else { Err(log) }
    });
    // Its answer may not come through any more.
    machine.monopod(&["exec", "victim", "--", "touch", "/tmp/now"]);
    let status = machine.wait_failed("victim");
    assert_eq!(status["reason"], "GuestPanicked", "{status}");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("Kernel panic - not syncing: sysrq triggered crash"), "{message}");
    assert_eq!(machine.ok(&["logs", "victim"]), "before\n");
    machine.wait_for("nothing of it is left but the other Pod", |machine| {
        let processes = machine.vm_processes();
        let disks = machine.root().join("scratch/pods").read_dir().unwrap().count();
        if (processes.len(), disks) == (1, 1) { Ok(()) } else { Err(format!("{processes:?}, {disks} disks")) }
    });
    assert_eq!(machine.exec("other", &["echo", "alive"]), "alive\n");
}

/// The current guest image with the watcher.
fn fragile_guest(folder: &Path) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"));
    let image = std::fs::canonicalize(cache.join("monopod/guest/current"));
    let image = image.expect("there is a guest image; make one with `cargo xtask guest`");
    let guest = folder.join("guest");
    std::fs::create_dir(&guest).unwrap();
    symlink(image.join("vmlinuz"), guest.join("vmlinuz")).unwrap();
    let mut initrd = std::fs::read(image.join("initrd")).unwrap();
    // An archive begins at a multiple of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(watcher(folder));
    std::fs::write(guest.join("initrd"), initrd).unwrap();
    let mut about: Value = serde_json::from_slice(&std::fs::read(image.join("guest.json")).unwrap()).unwrap();
    let line = about["kernelCommandLine"].as_str().unwrap().replace("rdinit=/init", "rdinit=/watcher/init");
    assert!(line.contains("watcher"), "{line}");
    about["kernelCommandLine"] = line.into();
    std::fs::write(guest.join("guest.json"), about.to_string()).unwrap();
    guest
}

/// An archive with the watcher.
fn watcher(folder: &Path) -> Vec<u8> {
    let files = folder.join("files");
    std::fs::create_dir_all(files.join("watcher/proc")).unwrap();
    std::fs::copy("/bin/busybox", files.join("watcher/busybox")).expect("busybox-static is installed");
    std::fs::write(files.join("watcher/init"), INIT).unwrap();
    std::fs::set_permissions(files.join("watcher/init"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet"]).current_dir(&files);
    let mut child = cpio.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("cpio is installed");
    let names = b"watcher\nwatcher/proc\nwatcher/busybox\nwatcher/init\n";
    child.stdin.take().unwrap().write_all(names).unwrap();
    child.wait_with_output().unwrap().stdout
}
