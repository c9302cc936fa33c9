//! The files of a layout or an archive, wherever they lie. Names come from foreign JSON and are only ever looked up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::libc::O_NOFOLLOW;
use tempfile::NamedTempFile;

use crate::digest::Digest;
use crate::error::{Context, ImageError};
use crate::limits::Limits;
use crate::unpack::archive::{Archive, Kind};
use crate::unpack::decompressed;

/// Links from one file of an archive to another, at most.
const MAX_LINKS: usize = 4;

/// Files by their name.
#[derive(Debug)]
pub(super) enum Files {
    Folder(PathBuf),
    Archive(Arc<Place>, HashMap<Vec<u8>, Member>),
}

/// The archive's own file, which goes away afterwards if it is only the unpacked one.
#[derive(Debug)]
pub(crate) enum Place {
    Given(PathBuf),
    Scratch(NamedTempFile),
}

#[derive(Clone, Debug)]
pub(super) enum Member {
    File { offset: u64, size: u64 },
    Link(Vec<u8>),
}

/// Where the bytes of a layer are.
#[derive(Clone, Debug)]
pub(crate) struct LayerFile {
    place: Arc<Place>,
    offset: u64,
    pub(crate) size: u64,
    /// Of the stored bytes, if that was promised.
    pub(crate) digest: Option<Digest>,
}

impl Place {
    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Scratch(file) => file.path(),
        }
    }
}

impl LayerFile {
    /// The bytes, from the first on.
    pub(crate) fn open(&self) -> Result<io::Take<File>, ImageError> {
        let path = self.place.path();
        let mut file = File::open(path).while_doing("open", path)?;
        file.seek(SeekFrom::Start(self.offset)).while_doing("read", path)?;
        Ok(file.take(self.size))
    }
}

impl Files {
    pub(super) fn open(
        path: &Path,
        limits: &Limits,
        scratch: impl FnOnce() -> io::Result<NamedTempFile>,
    ) -> Result<Self, ImageError> {
        if path.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let mut file = File::open(path).while_doing("open", path)?;
        let mut start = [0; 4];
        let count = file.read(&mut start).while_doing("read", path)?;
        file.seek(SeekFrom::Start(0)).while_doing("read", path)?;
        let is_compressed = matches!(&start[..count], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]);
        let place = if is_compressed {
            let scratch = scratch().while_doing("make a file for", path)?;
            Place::Scratch(unpacked(file, path, limits, scratch)?)
        } else {
            Place::Given(path.to_owned())
        };
        let members = members(&place, path, limits)?;
        Ok(Self::Archive(Arc::new(place), members))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.layer(name, None).is_ok()
    }

    /// A small file, whole.
    pub(super) fn read(&self, name: &str, what: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let file = self.layer(name, None)?;
        if file.size > limit {
            return Err(ImageError::TooLarge { what: what.to_owned(), limit });
        }
        let mut bytes = Vec::new();
        file.open()?.read_to_end(&mut bytes).while_doing("read", file.place.path())?;
        Ok(bytes)
    }

    /// A blob of an OCI layout, checked.
    pub(super) fn blob(&self, digest: &Digest, what: &str, limit: u64) -> Result<Vec<u8>, ImageError> {
        let bytes = self.read(&blob_name(digest), what, limit)?;
        let found = Digest::of(&bytes);
        if found == *digest {
            return Ok(bytes);
        }
        Err(ImageError::WrongDigest { what: what.to_owned(), expected: *digest, found })
    }

    /// Where a file's bytes are.
    pub(super) fn layer(&self, name: &str, digest: Option<Digest>) -> Result<LayerFile, ImageError> {
        let missing = || ImageError::malformed("archive", format!("{name} is missing"));
        match self {
            Self::Folder(folder) => {
                // The name may be foreign, so it must be a plain one.
                if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
                    return Err(missing());
                }
                let path = folder.join(name);
                let file = File::options().read(true).custom_flags(O_NOFOLLOW).open(&path).map_err(|_| missing())?;
                let metadata = file.metadata().while_doing("look at", &path)?;
                if !metadata.is_file() {
                    return Err(missing());
                }
                Ok(LayerFile { place: Arc::new(Place::Given(path)), offset: 0, size: metadata.len(), digest })
            }
            Self::Archive(place, members) => {
                let (offset, size) = member(members, name.as_bytes()).ok_or_else(missing)?;
                Ok(LayerFile { place: Arc::clone(place), offset, size, digest })
            }
        }
    }
}

/// The name of a blob in an OCI layout.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn member(members: &HashMap<Vec<u8>, Member>, name: &[u8]) -> Option<(u64, u64)> {
    let mut name = normal(name);
    for _ in 0..MAX_LINKS {
        match members.get(&name)? {
            Member::File { offset, size } => return Some((*offset, *size)),
            Member::Link(target) => name.clone_from(target),
        }
    }
    None
}

fn unpacked(file: File, path: &Path, limits: &Limits, scratch: NamedTempFile) -> Result<NamedTempFile, ImageError> {
    let failed = |error| ImageError::malformed(format!("archive {}", path.display()), error);
    let plain = decompressed(file).map_err(failed)?;
    let mut writer = scratch.as_file();
    let copied = copy_bounded(plain, &mut writer, limits.uncompressed).while_doing("unpack", path)?;
    if copied > limits.uncompressed {
        return Err(ImageError::TooLarge { what: format!("archive {}", path.display()), limit: limits.uncompressed });
    }
    Ok(scratch)
}

/// Copies until more than the limit has come.
fn copy_bounded(reader: impl Read, writer: &mut impl Write, limit: u64) -> io::Result<u64> {
    io::copy(&mut reader.take(limit.saturating_add(1)), writer)
}

/// Where each file of an archive begins.
fn members(place: &Place, path: &Path, limits: &Limits) -> Result<HashMap<Vec<u8>, Member>, ImageError> {
    let failed = |error| ImageError::malformed(format!("archive {}", path.display()), error);
    let file = File::open(place.path()).while_doing("open", place.path())?;
    let mut archive = Archive::new(BufReader::with_capacity(1 << 20, file), limits);
    let mut members = HashMap::new();
    while let Some(entry) = archive.next_entry().map_err(failed)? {
        if members.len() as u64 > limits.entries {
            return Err(ImageError::TooLarge { what: "number of files".to_owned(), limit: limits.entries });
        }
        let name = normal(&entry.path);
        let member = match entry.kind {
            Kind::File => Member::File { offset: archive.position(), size: entry.size },
            Kind::HardLink => Member::Link(normal(&entry.link)),
            // Old archives share layers by links that are relative to their own folder.
            Kind::SymbolicLink => {
                let folder = name.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
                Member::Link(normal(&[folder, b"/", &entry.link].concat()))
            }
            Kind::Folder | Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => continue,
        };
        members.insert(name, member);
    }
    Ok(members)
}

/// A name without `.`, `..` and needless slashes. It is a key and never becomes a path.
fn normal(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}
