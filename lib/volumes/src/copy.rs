//! Copies a sparse file: only what holds data, shared with the original where the file system can do that.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{OpenOptionsExt, fchown};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::disks::Owner;

/// Makes a copy that belongs to its owner alone. A half-made copy may be left after an error.
pub(crate) fn sparse_copy(from: &Path, to: &Path, owner: Owner) -> io::Result<()> {
    let from = File::open(from)?;
    let to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut at = 0;
    while let Some((start, end)) = next_data(&from, at)? {
        copy_range(&from, &to, start, end)?;
        at = end;
    }
    fchown(&to, Some(owner.uid), Some(owner.gid))
}

/// The next stretch of data, from an offset on.
fn next_data(file: &File, at: i64) -> io::Result<Option<(i64, i64)>> {
    match lseek(file, at, Whence::SeekData) {
        Ok(start) => Ok(Some((start, lseek(file, start, Whence::SeekHole)?))),
        // Nothing but a hole up to the end.
        Err(Errno::ENXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn copy_range(mut from: &File, mut to: &File, start: i64, end: i64) -> io::Result<()> {
    let offset = SeekFrom::Start(start.unsigned_abs());
    from.seek(offset)?;
    to.seek(offset)?;
    // The standard library has the kernel copy from file to file.
    let length = start.abs_diff(end);
    if io::copy(&mut from.take(length), &mut to)? < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
