//! An initramfs: a cpio archive ("newc"), the same bytes for the same entries.

use std::collections::BTreeMap;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;
const END: &str = "TRAILER!!!";

/// One thing in an archive. It belongs to root and was changed at the epoch.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    path: String,
    mode: u32,
    data: Vec<u8>,
    /// Major and minor number of a device.
    device: (u32, u32),
}

impl Entry {
    /// A file, by its path without a leading slash.
    pub(super) fn file(path: &str, permissions: u32, data: Vec<u8>) -> Self {
        Self { path: path.to_owned(), mode: FILE | permissions, data, device: (0, 0) }
    }

    /// /dev/console, which the kernel opens for PID 1 before anything is mounted.
    pub(super) fn console() -> Self {
        Self { path: "dev/console".to_owned(), mode: CHARACTER_DEVICE | 0o600, data: Vec::new(), device: (5, 1) }
    }

    fn folder(path: &str) -> Self {
        Self { path: path.to_owned(), mode: FOLDER | 0o755, data: Vec::new(), device: (0, 0) }
    }
}

/// The archive, with the folders that the entries lie in. The order of the entries makes no difference.
pub(super) fn write(entries: &[Entry]) -> Vec<u8> {
    let mut sorted = BTreeMap::new();
    for entry in entries {
        for (end, _) in entry.path.match_indices('/') {
            let folder = &entry.path[..end];
            sorted.entry(folder.to_owned()).or_insert_with(|| Entry::folder(folder));
        }
        sorted.insert(entry.path.clone(), entry.clone());
    }
    let mut archive = Vec::new();
    for (number, entry) in (1..).zip(sorted.values()) {
        append(&mut archive, number, entry);
    }
    append(&mut archive, 0, &Entry { path: END.to_owned(), mode: 0, data: Vec::new(), device: (0, 0) });
    archive
}

fn append(archive: &mut Vec<u8>, inode: u32, entry: &Entry) {
    let size = u32::try_from(entry.data.len()).expect("no file of a guest image has 4 GiB");
    let name_size = u32::try_from(entry.path.len() + 1).expect("paths in an image are short");
    let (major, minor) = entry.device;
    archive.extend(b"070701");
    // Inode, mode, uid, gid, links, time, size, device of the file system (2), device of the node (2), name, checksum.
    for field in [inode, entry.mode, 0, 0, 1, 0, size, 0, 0, major, minor, name_size, 0] {
        archive.extend(format!("{field:08x}").as_bytes());
    }
    archive.extend(entry.path.as_bytes());
    archive.push(0);
    pad(archive);
    archive.extend(&entry.data);
    pad(archive);
}

fn pad(archive: &mut Vec<u8>) {
    archive.resize(archive.len().next_multiple_of(4), 0);
}
