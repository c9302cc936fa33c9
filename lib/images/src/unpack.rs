//! Unpacks layers, one on top of the other, into a folder.
//!
//! Layers are foreign and the unpacker is root, so nothing here hands a path to the kernel as a whole: [`tree`] walks
//! component by component and keeps every symbolic link inside the folder; [`archive`] reads the tar with bounds on
//! everything that is held in memory; [`layer`] gives entries their meaning, whiteouts included.

pub(crate) mod archive;
mod layer;
mod tree;

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::limits::Limits;

pub(crate) use tree::Tree;

#[cfg(test)]
mod tests;

/// Why a layer was refused or could not be unpacked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// The entry would lie outside the image.
    #[error("entry \"{path}\" leaves the image: {problem}")]
    Escape {
        /// The entry's path, shortened.
        path: String,
        /// How.
        problem: &'static str,
    },
    /// The entry is of a kind that images do not have, or contradicts itself.
    #[error("entry \"{path}\" cannot be unpacked: {problem}")]
    Entry {
        /// The entry's path, shortened.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// The bytes are no tar archive, or a broken one.
    #[error("broken archive: {problem}")]
    Archive {
        /// What is wrong.
        problem: &'static str,
    },
    /// More than we take.
    #[error("more {what} than the limit of {limit}")]
    TooMuch {
        /// Bytes, entries, …
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The content is not what the image's config promises.
    #[error("unpacked content has digest {found}, the config promises {expected}")]
    WrongDiffId {
        /// The promise.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The layer as it is stored is not what the manifest promises.
    #[error("stored content has digest {found}, the manifest promises {expected}")]
    WrongDigest {
        /// The promise.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// A system call failed, or the compressed bytes are broken.
    #[error("failed to {action} \"{path}\"")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The entry's path, shortened; empty for the archive as a whole.
        path: String,
        /// The system's error.
        #[source]
        source: Arc<io::Error>,
    },
    /// Unpacking further would fill the disk.
    #[error("the disk is nearly full")]
    Full,
    /// Nobody waits for it any more.
    #[error("the pull was given up")]
    Cancelled,
}

impl LayerError {
    pub(crate) fn io(action: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: shown(path), source: Arc::new(source.into()) }
    }
}

/// A foreign path for a message.
fn shown(path: &[u8]) -> String {
    crate::digest::shortened(&String::from_utf8_lossy(path))
}

/// What is left of an image's limits, over all its layers; and the ear for being given up.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    bytes: u64,
    entries: u64,
    cancelled: Arc<AtomicBool>,
    /// Bytes until the free space is looked at again.
    until_look: u64,
}

/// How often the free space of the disk is looked at, in bytes written.
const LOOK_EVERY: u64 = 64 << 20;

impl Budget {
    pub(crate) fn new(limits: &Limits, cancelled: Arc<AtomicBool>) -> Self {
        let (bytes, entries) = (limits.uncompressed, limits.entries);
        Self { limits: limits.clone(), bytes, entries, cancelled, until_look: LOOK_EVERY }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn take_entry(&mut self) -> Result<(), LayerError> {
        self.check()?;
        let too_much = LayerError::TooMuch { what: "entries", limit: self.limits.entries };
        self.entries = self.entries.checked_sub(1).ok_or(too_much)?;
        Ok(())
    }

    fn take_bytes(&mut self, bytes: u64, tree: &Tree) -> Result<(), LayerError> {
        self.check()?;
        let too_much = LayerError::TooMuch { what: "unpacked bytes", limit: self.limits.uncompressed };
        self.bytes = self.bytes.checked_sub(bytes).ok_or(too_much)?;
        self.until_look = self.until_look.saturating_sub(bytes);
        if self.until_look == 0 {
            self.until_look = LOOK_EVERY;
            if tree.free_bytes()? < self.limits.keep_free {
                return Err(LayerError::Full);
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), LayerError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(LayerError::Cancelled) } else { Ok(()) }
    }
}

/// Passes bytes on and hashes them.
pub(crate) struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::finish(self.hasher)
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

/// What a layer must come to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Promise {
    /// Of the stored bytes; none when they were checked already.
    pub(crate) digest: Option<Digest>,
    /// Of the bytes after decompression.
    pub(crate) diff_id: Digest,
}

/// Unpacks one stored layer on top of those that are in the tree.
///
/// # Errors
/// When the layer is not what was promised or is refused. The tree is then to be thrown away.
pub(crate) fn unpack(stored: impl Read, promise: Promise, tree: &Tree, budget: &mut Budget) -> Result<(), LayerError> {
    let mut stored = Hashing::new(stored);
    let mut plain = Hashing::new(decompressed(&mut stored)?);
    layer::apply(&mut plain, tree, budget)?;
    // What follows the archive's end belongs to the digests, and is part of the budget.
    drain(&mut plain, tree, budget)?;
    let found = plain.finish();
    if found != promise.diff_id {
        return Err(LayerError::WrongDiffId { expected: promise.diff_id, found });
    }
    let Some(expected) = promise.digest else { return Ok(()) };
    drain(&mut stored, tree, budget)?;
    let found = stored.finish();
    if found == expected { Ok(()) } else { Err(LayerError::WrongDigest { expected, found }) }
}

/// Applies a layer of which nothing is promised, for the fuzz target and tests.
pub(crate) fn apply_unpromised(bytes: &[u8], folder: &Path, limits: &Limits) -> Result<(), LayerError> {
    let tree = Tree::open(folder)?;
    let mut budget = Budget::new(limits, Arc::default());
    layer::apply(&mut decompressed(bytes)?, &tree, &mut budget)
}

fn drain(reader: &mut impl Read, tree: &Tree, budget: &mut Budget) -> Result<(), LayerError> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = reader.read(&mut buffer).map_err(|error| LayerError::io("read", b"", error))?;
        if count == 0 {
            return Ok(());
        }
        budget.take_bytes(count as u64, tree)?;
    }
}

/// Decompresses by what the bytes are, since media types lie.
pub(crate) fn decompressed<'a>(stored: impl Read + 'a) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut stored = BufReader::with_capacity(256 << 10, stored);
    let start = stored.fill_buf().map_err(|error| LayerError::io("read", b"", error))?;
    match start {
        [0x1f, 0x8b, ..] => Ok(Box::new(flate2::bufread::MultiGzDecoder::new(stored))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            let decoder = zstd::stream::read::Decoder::with_buffer(stored);
            Ok(Box::new(decoder.map_err(|error| LayerError::io("decompress", b"", error))?))
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] | [b'B', b'Z', b'h', ..] => {
            Err(LayerError::Archive { problem: "compressed with xz or bzip2, which images do not use" })
        }
        _ => Ok(Box::new(stored)),
    }
}
