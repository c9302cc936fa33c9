//! Formats the file system that disks of one size are copies of.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;

use monopod_types::{Bytes, GiB};
use tokio::process::Command;

use crate::error::ScratchError;

/// No journal, no room for growth, no blocks for root only, and nothing left to be zeroed; see the crate's words.
const OPTIONS: [&str; 9] = [
    "-q",
    "-F",
    "-m",
    "0",
    "-O",
    "^has_journal,^resize_inode,sparse_super2",
    "-E",
    "nodiscard,assume_storage_prezeroed=1,lazy_itable_init=0",
    "--",
];

/// Makes an empty file system of a size in a new sparse file.
///
/// # Errors
/// When the file cannot be made, or the program does not do it. A half-made file may be left.
pub(crate) async fn format(program: &Path, path: &Path, size: GiB) -> Result<(), ScratchError> {
    let made = File::create(path).and_then(|file| file.set_len(Bytes::from(size).0));
    made.map_err(|source| ScratchError::File { what: "make", path: path.to_owned(), source })?;
    let failed = |message| ScratchError::Format { size, program: program.to_owned(), message };
    let mut command = Command::new(program);
    command.args(OPTIONS).arg(path).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error: io::Error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned();
    Err(failed(last))
}
