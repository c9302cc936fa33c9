//! Why a scratch disk could not be made or removed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use monopod_types::{Bytes, GiB};

/// When the same may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After a while.
    After(Duration),
}

/// Why a scratch disk could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    /// No such disk can be made.
    #[error("scratch disk of {size} is not from 1 to {largest}")]
    InvalidSize {
        /// What was asked for.
        size: GiB,
        /// The largest.
        largest: GiB,
    },
    /// The UID is not fit for a file's name.
    #[error("pod UID {uid:?} cannot name a scratch disk")]
    InvalidName {
        /// The UID.
        uid: String,
    },
    /// The Pod has a disk already.
    #[error("scratch disk {path} exists already", path = path.display())]
    Exists {
        /// Where it is.
        path: PathBuf,
    },
    /// Too little room is left, or none.
    #[error("no room for a scratch disk in {folder}: {available} left, {reserve} kept free", folder = folder.display())]
    DiskFull {
        /// Where disks are.
        folder: PathBuf,
        /// Room that is left.
        available: Bytes,
        /// Room that must stay.
        reserve: Bytes,
    },
    /// The file system could not be made.
    #[error("failed to format a disk of {size} with {program}: {message}")]
    Format {
        /// The size.
        size: GiB,
        /// The program.
        program: PathBuf,
        /// Its last words, or why it could not be run.
        message: String,
    },
    /// A file could not be made, read or removed.
    #[error("failed to {what} {path}", path = path.display())]
    File {
        /// Such as `copy`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ScratchError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidSize { .. } => "ScratchSizeInvalid",
            Self::InvalidName { .. } => "ScratchNameInvalid",
            Self::Exists { .. } => "ScratchExists",
            Self::DiskFull { .. } => "ScratchDiskFull",
            Self::Format { .. } => "ScratchFormatFailed",
            Self::File { .. } => "ScratchFailed",
        }
    }

    /// When the same may be tried again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::InvalidSize { .. } | Self::InvalidName { .. } | Self::Exists { .. } => Retry::Never,
            Self::DiskFull { .. } => Retry::After(Duration::from_secs(30)),
            Self::Format { .. } | Self::File { .. } => Retry::After(Duration::from_secs(5)),
        }
    }
}
