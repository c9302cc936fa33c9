//! A plan becomes the specification that the runtime is given.

use std::path::{Path, PathBuf};

use monopod_agent_proto::v1;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::{Bind, Input, PodFile, build};

fn volume(source: &str, destination: &str, read_only: bool) -> Bind {
    Bind { source: PathBuf::from(source), destination: PathBuf::from(destination), read_only }
}

fn spec_of(read_only_root: bool, process_namespace: Option<&Path>, binds: &[Bind]) -> Spec {
    let security = v1::Security { masked_paths: vec!["/proc/kcore".to_owned()], ..v1::Security::default() };
    let resources = v1::Resources { memory_limit: 1 << 20, oom_score_adj: 900, ..v1::Resources::default() };
    let hosts = PodFile { source: Path::new("/run/hosts"), destination: "/etc/hosts", follows_root: true };
    let shm = PodFile { source: Path::new("/run/shm"), destination: "/dev/shm", follows_root: false };
    build(&Input {
        rootfs: Path::new("/run/c1/rootfs"),
        read_only_root,
        cgroup: Path::new("/pod/c1"),
        process_namespace,
        security: &security,
        resources: &resources,
        pod_files: &[hosts, shm],
        binds,
    })
    .unwrap()
}

/// Destinations with their first option that is `ro` or `rw`, in order.
fn mounts(spec: &Spec) -> Vec<String> {
    let describe = |mount: &oci_spec::runtime::Mount| {
        let options = mount.options().clone().unwrap_or_default();
        let access = options.into_iter().find(|option| option == "ro" || option == "rw").unwrap_or_default();
        format!("{} {access}", mount.destination().display())
    };
    spec.mounts().as_ref().unwrap().iter().map(describe).collect()
}

#[test]
fn every_container_has_the_usual_file_systems() {
    let expected = [
        "/proc ",
        "/dev ",
        "/dev/pts ",
        "/dev/mqueue ",
        "/sys ro",
        "/sys/fs/cgroup ro",
        "/etc/hosts rw",
        "/dev/shm rw",
    ];
    assert_eq!(mounts(&spec_of(false, None, &[])), expected);
}

#[test]
fn pod_files_follow_a_read_only_root_but_shared_memory_does_not() {
    let spec = spec_of(true, None, &[]);
    assert!(spec.root().as_ref().unwrap().readonly().unwrap());
    assert_eq!(mounts(&spec)[6..], ["/etc/hosts ro", "/dev/shm rw"]);
}

#[test]
fn volumes_come_last_with_parents_before_children() {
    let binds =
        [volume("/v/a", "/data/inner", true), volume("/v/b", "/data", false), volume("/v/c", "/etc/hosts", true)];
    let spec = spec_of(false, None, &binds);
    assert_eq!(mounts(&spec)[6..], ["/dev/shm rw", "/data rw", "/data/inner ro", "/etc/hosts ro"]);
}

#[test]
fn processes_are_apart_unless_they_are_shared() {
    let namespace = |spec: &Spec| {
        let all = spec.linux().as_ref().unwrap().namespaces().clone().unwrap();
        all.into_iter().find(|space| space.typ() == LinuxNamespaceType::Pid).unwrap().path().clone()
    };
    assert_eq!(namespace(&spec_of(false, None, &[])), None);
    let shared = Path::new("/proc/77/ns/pid");
    assert_eq!(namespace(&spec_of(false, Some(shared), &[])), Some(shared.to_owned()));
}

#[test]
fn limits_and_hidden_paths_reach_the_runtime() {
    let spec = spec_of(false, None, &[]);
    let linux = spec.linux().as_ref().unwrap();
    let memory = linux.resources().as_ref().unwrap().memory().as_ref().unwrap().limit();
    assert_eq!(memory, Some(1 << 20));
    assert_eq!(linux.masked_paths().clone().unwrap(), ["/proc/kcore"]);
    assert_eq!(spec.process().as_ref().unwrap().oom_score_adj(), Some(900));
}
