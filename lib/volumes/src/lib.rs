//! Scratch disks of Pods: an empty ext4 file system each, sparse, of the size that the Pod's ephemeral storage asks for.
//!
//! The host daemon is the caller. A disk is a sparse copy of a file system that was formatted once per size, so it is
//! there in a few milliseconds and takes a few hundred KiB until the Pod writes. It belongs to the unprivileged user that
//! its VM runs as, and is removed with the Pod.
//!
//! The file system has no journal: a scratch disk never outlives a crash of its guest or host, so there is nothing to
//! recover, and every write of the Pod costs one write. All blocks count as zeroed, so no guest kernel writes zeros into
//! the sparse file in the background.

mod base;
mod copy;
mod disks;
mod error;

pub use disks::{Owner, ScratchConfig, ScratchDisk, ScratchDisks};
pub use error::{Retry, ScratchError};

#[cfg(test)]
mod tests;
