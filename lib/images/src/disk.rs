//! Makes the disk: `mkfs.erofs` over the folder that an image was unpacked into.
//!
//! The same folder always gives the same bytes: the file system's id and its time are fixed, and files keep the times
//! that their layers gave them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::digest::shortened;
use crate::error::{Context, ImageError};

/// No disk is told from another by this; guests find disks by their serial.
const FILE_SYSTEM_ID: &str = "4d6f6e6f-706f-4d69-8d61-676564697363";

/// When the file system was made, it says: in 2100. mkfs.erofs 1.5 has no other way to fix this time that leaves those
/// of the files alone: `-T` gives its time to all files, and this one only to files that are newer.
const FILE_SYSTEM_TIME: &str = "4102444800";

/// How disks are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskFormat {
    /// The program.
    pub program: PathBuf,
    /// Whether files are compressed with lz4: smaller disks, slower to make and to read.
    pub compress: bool,
}

impl Default for DiskFormat {
    fn default() -> Self {
        Self { program: PathBuf::from("mkfs.erofs"), compress: false }
    }
}

/// Makes a disk of a folder.
///
/// # Errors
/// When the program is missing, fails, or has no space. The file is then incomplete.
pub(crate) async fn make(format: &DiskFormat, folder: &Path, disk: &Path) -> Result<(), ImageError> {
    let mut command = Command::new(&format.program);
    command.env("SOURCE_DATE_EPOCH", FILE_SYSTEM_TIME).args(["--quiet", "-U", FILE_SYSTEM_ID]);
    if format.compress {
        command.arg("-zlz4");
    }
    command.arg(disk).arg(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = command.output().await.while_doing("run", &format.program)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No space left") || free_bytes(disk)? < (1 << 20) {
        return Err(ImageError::DiskFull { path: disk.to_owned() });
    }
    let last = said.trim().lines().last().unwrap_or("no message");
    Err(ImageError::MakeDisk { said: shortened(&format!("{last} ({})", output.status)) })
}

/// Free bytes where a file is or is to be.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, ImageError> {
    let folder = path.parent().unwrap_or(path);
    let stat = nix::sys::statvfs::statvfs(folder).while_doing("look at", folder)?;
    Ok(stat.blocks_available().saturating_mul(stat.fragment_size()))
}
