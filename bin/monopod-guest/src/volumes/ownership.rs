//! Gives a volume's contents to a group, as fsGroup does.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

/// Added to a file: the group may do what its owner may.
const FILE_BITS: u32 = 0o660;
/// Added to a folder: the group may enter it, and what is made in it belongs to the group.
const FOLDER_BITS: u32 = 0o2770;

/// The group, and when to leave things alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ownership {
    pub(super) group: u32,
    /// Nothing is changed when the root has the group and the bits already.
    pub(super) on_root_mismatch: bool,
}

impl Ownership {
    /// Changes everything below the root, and the root last: should it fail half-way, the root still tells.
    pub(super) fn apply(self, root: &Path) -> io::Result<()> {
        if self.on_root_mismatch && self.is_right(root)? {
            return Ok(());
        }
        self.descend(root)
    }

    fn is_right(self, root: &Path) -> io::Result<bool> {
        let found = fs::metadata(root)?;
        Ok(found.gid() == self.group && found.mode() & FOLDER_BITS == FOLDER_BITS)
    }

    fn descend(self, path: &Path) -> io::Result<()> {
        let found = fs::symlink_metadata(path)?;
        let kind = found.file_type();
        if kind.is_dir() {
            for entry in fs::read_dir(path)? {
                self.descend(&entry?.path())?;
            }
        }
        lchown(path, None, Some(self.group))?;
        if kind.is_symlink() {
            return Ok(());
        }
        let bits = if kind.is_dir() { FOLDER_BITS } else { FILE_BITS };
        fs::set_permissions(path, fs::Permissions::from_mode((found.mode() & 0o7777) | bits))
    }
}
