//! The mounts of a container: what every container has, then files of the Pod, then volumes, parents before children.

use std::path::{Path, PathBuf};

use oci_spec::OciSpecError;
use oci_spec::runtime::{Mount, MountBuilder};

use super::Input;

/// A file of the Pod at its usual place, unless a volume is mounted there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodFile<'a> {
    pub(crate) source: &'a Path,
    pub(crate) destination: &'static str,
    /// Read-only in a container with a read-only root.
    pub(crate) follows_root: bool,
}

/// Something of this machine at a place in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub(crate) source: PathBuf,
    pub(crate) destination: PathBuf,
    pub(crate) read_only: bool,
}

/// A file system that every container has.
struct Standard {
    destination: &'static str,
    kind: &'static str,
    options: &'static [&'static str],
}

#[rustfmt::skip]
const STANDARD: [Standard; 6] = [
    Standard { destination: "/proc", kind: "proc", options: &["nosuid", "noexec", "nodev"] },
    Standard { destination: "/dev", kind: "tmpfs", options: &["nosuid", "strictatime", "mode=755", "size=65536k"] },
    Standard { destination: "/dev/pts", kind: "devpts", options: &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
    Standard { destination: "/dev/mqueue", kind: "mqueue", options: &["nosuid", "noexec", "nodev"] },
    Standard { destination: "/sys", kind: "sysfs", options: &["nosuid", "noexec", "nodev", "ro"] },
    Standard { destination: "/sys/fs/cgroup", kind: "cgroup", options: &["nosuid", "noexec", "nodev", "relatime", "ro"] },
];

pub(super) fn all(input: &Input<'_>) -> Result<Vec<Mount>, OciSpecError> {
    let taken = |destination: &str| input.binds.iter().any(|bind| bind.destination == Path::new(destination));
    let mut mounts = Vec::new();
    for standard in STANDARD.iter().filter(|standard| !taken(standard.destination)) {
        let options: Vec<String> = standard.options.iter().map(|option| (*option).to_owned()).collect();
        mounts.push(
            MountBuilder::default()
                .destination(standard.destination)
                .typ(standard.kind)
                .source(standard.kind)
                .options(options)
                .build()?,
        );
    }
    for file in input.pod_files.iter().filter(|file| !taken(file.destination)) {
        let read_only = file.follows_root && input.read_only_root;
        mounts.push(bind(file.source, Path::new(file.destination), read_only)?);
    }
    let mut binds: Vec<&Bind> = input.binds.iter().collect();
    // Stable: of two mounts at the same place, the later one is on top.
    binds.sort_by_key(|bind| bind.destination.components().count());
    for volume in binds {
        mounts.push(bind(&volume.source, &volume.destination, volume.read_only)?);
    }
    Ok(mounts)
}

fn bind(source: &Path, destination: &Path, read_only: bool) -> Result<Mount, OciSpecError> {
    let access = if read_only { "ro" } else { "rw" };
    let options: Vec<String> = ["rbind", "rprivate", access].map(str::to_owned).to_vec();
    MountBuilder::default().destination(destination).typ("bind").source(source).options(options).build()
}
