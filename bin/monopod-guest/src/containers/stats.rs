//! What one container uses.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use monopod_agent_proto::v1::{ContainerStats, Filesystem};
use nix::sys::statvfs::statvfs;

use super::container::Container;

/// Bytes in a block of `stat`.
const BLOCK: u64 = 512;

pub(super) fn of(container: &Container, disk_usage: bool) -> ContainerStats {
    ContainerStats {
        id: container.id.clone(),
        name: container.name.clone(),
        usage: Some(container.cgroup.usage()),
        root: disk_usage.then(|| filesystem(&container.folder.writable_layer())),
    }
}

/// What a folder holds, on a file system with that much room.
fn filesystem(folder: &Path) -> Filesystem {
    let (used, inodes_used) = holdings(folder);
    let mut usage = Filesystem { used, inodes_used, ..Filesystem::default() };
    if let Ok(status) = statvfs(folder) {
        usage.capacity = status.blocks() * status.fragment_size();
        usage.available = status.blocks_available() * status.fragment_size();
        usage.inodes = status.files();
        usage.inodes_free = status.files_free();
    }
    usage
}

/// Bytes and files below a folder. What vanishes on the way does not count.
fn holdings(folder: &Path) -> (u64, u64) {
    let (mut bytes, mut files) = (0, 0);
    let mut todo: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            bytes += metadata.blocks() * BLOCK;
            files += 1;
            if metadata.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    (bytes, files)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::holdings;

    #[test]
    fn everything_below_a_folder_counts_once() {
        let folder = std::env::temp_dir().join(format!("monopod-holdings-{}", std::process::id()));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::write(folder.join("a/b/file"), vec![1; 8192]).unwrap();
        std::os::unix::fs::symlink("/", folder.join("root")).unwrap();
        let (bytes, files) = holdings(&folder);
        assert!((8192..65_536).contains(&bytes), "{bytes}");
        assert_eq!(files, 4);
        fs::remove_dir_all(folder).unwrap();
    }
}
