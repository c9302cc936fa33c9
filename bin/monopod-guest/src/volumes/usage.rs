//! How much a file system or a folder holds.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use monopod_agent_proto::v1;
use nix::sys::statvfs::statvfs;

/// What the file system at a path has and holds.
pub(crate) fn filesystem(path: &Path) -> io::Result<v1::Filesystem> {
    let found = statvfs(path)?;
    let block = found.fragment_size();
    Ok(v1::Filesystem {
        capacity: found.blocks() * block,
        available: found.blocks_available() * block,
        used: (found.blocks() - found.blocks_free()) * block,
        inodes: found.files(),
        inodes_free: found.files_free(),
        inodes_used: found.files() - found.files_free(),
    })
}

/// What a folder holds, within the room of the file system it shares with others. Each file counts once, however many
/// names it has; other file systems mounted below do not count.
pub(super) fn folder(root: &Path) -> io::Result<v1::Filesystem> {
    let mut seen = HashSet::new();
    let device = fs::symlink_metadata(root)?.dev();
    let (mut blocks, mut waiting) = (0, vec![root.to_path_buf()]);
    while let Some(path) = waiting.pop() {
        let found = match fs::symlink_metadata(&path) {
            Ok(found) => found,
            // It was removed in the meantime.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if found.dev() != device || !seen.insert(found.ino()) {
            continue;
        }
        blocks += found.blocks();
        if found.is_dir() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            waiting.extend(entries.flatten().map(|entry| entry.path()));
        }
    }
    let inodes_used = u64::try_from(seen.len()).unwrap_or(u64::MAX);
    Ok(v1::Filesystem { used: blocks * 512, inodes_used, ..filesystem(root)? })
}
