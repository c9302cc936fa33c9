//! Layers entry by entry, also such as no tool would write.

use tar::{EntryType, Header};

/// A layer under construction: a tar archive.
#[derive(Clone, Debug, Default)]
pub struct LayerBuilder {
    tar: Vec<u8>,
    owner: (u64, u64),
    modified: u64,
}

const BLOCK: usize = 512;

impl LayerBuilder {
    /// An empty layer, whose entries belong to root and are from 2020.
    #[must_use]
    pub fn new() -> Self {
        Self { tar: Vec::new(), owner: (0, 0), modified: 1_577_836_800 }
    }

    /// The owner and group of the entries to come.
    #[must_use]
    pub fn owned_by(mut self, user: u64, group: u64) -> Self {
        self.owner = (user, group);
        self
    }

    /// The time of the entries to come, in seconds since 1970.
    #[must_use]
    pub fn modified(mut self, seconds: u64) -> Self {
        self.modified = seconds;
        self
    }

    /// Adds a file.
    #[must_use]
    pub fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, "", mode, (0, 0), content)
    }

    /// Adds a folder.
    #[must_use]
    pub fn folder(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Directory, path, "", mode, (0, 0), &[])
    }

    /// Adds a symbolic link.
    #[must_use]
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Symlink, path, target, 0o777, (0, 0), &[])
    }

    /// Adds a hard link to something that the image has already.
    #[must_use]
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(EntryType::Link, path, target, 0o644, (0, 0), &[])
    }

    /// Adds a character device.
    #[must_use]
    pub fn character_device(self, path: &str, mode: u32, major: u32, minor: u32) -> Self {
        self.entry(EntryType::Char, path, "", mode, (major, minor), &[])
    }

    /// Adds a fifo.
    #[must_use]
    pub fn fifo(self, path: &str, mode: u32) -> Self {
        self.entry(EntryType::Fifo, path, "", mode, (0, 0), &[])
    }

    /// Takes away what lower layers have under a path.
    #[must_use]
    pub fn whiteout(self, path: &str) -> Self {
        let (folder, name) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
        let slash = if folder.is_empty() { "" } else { "/" };
        self.file(&format!("{folder}{slash}.wh.{name}"), 0o644, &[])
    }

    /// Takes away everything that lower layers have in a folder.
    #[must_use]
    pub fn opaque(self, folder: &str) -> Self {
        self.file(&format!("{folder}/.wh..wh..opq"), 0o644, &[])
    }

    /// Says PAX records of the next entry.
    #[must_use]
    pub fn records(self, records: &[(&str, &[u8])]) -> Self {
        let mut text = Vec::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            // The length counts its own digits.
            let mut length = rest + 1;
            while length != rest + length.to_string().len() {
                length = rest + length.to_string().len();
            }
            text.extend_from_slice(format!("{length} {key}=").as_bytes());
            text.extend_from_slice(value);
            text.push(b'\n');
        }
        self.entry(EntryType::XHeader, "pax", "", 0o644, (0, 0), &text)
    }

    /// Adds an entry of any kind. Names that are too long for the header get GNU's long form.
    #[must_use]
    pub fn entry(
        mut self,
        kind: EntryType,
        path: &str,
        link: &str,
        mode: u32,
        (major, minor): (u32, u32),
        content: &[u8],
    ) -> Self {
        for (long, kind) in [(path, EntryType::GNULongName), (link, EntryType::GNULongLink)] {
            if long.len() > 100 {
                let text = [long.as_bytes(), b"\0"].concat();
                self = self.entry(kind, "././@LongLink", "", 0o644, (0, 0), &text);
            }
        }
        let mut header = Header::new_gnu();
        // The crate's own setters refuse the paths that tests are about.
        put(&mut header.as_old_mut().name, path);
        put(&mut header.as_old_mut().linkname, link);
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(self.owner.0);
        header.set_gid(self.owner.1);
        header.set_mtime(self.modified);
        header.set_size(content.len() as u64);
        if let Some(gnu) = header.as_gnu_mut() {
            gnu.set_device_major(major);
            gnu.set_device_minor(minor);
        }
        header.set_cksum();
        self.raw(header.as_bytes()).raw(content)
    }

    /// Adds bytes, filled up with zeros to whole blocks.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.tar.extend_from_slice(bytes);
        self.tar.resize(self.tar.len().next_multiple_of(BLOCK), 0);
        self
    }

    /// The archive.
    #[must_use]
    pub fn into_tar(mut self) -> Vec<u8> {
        self.tar.resize(self.tar.len() + 2 * BLOCK, 0);
        self.tar
    }
}

fn put(field: &mut [u8; 100], text: &str) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text.as_bytes()[..length]);
}
