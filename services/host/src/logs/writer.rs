//! Appends entries to the log of one attempt of a container, and rotates it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::ContainerLogs;
use super::entry::Entry;

/// How much log is kept of one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes after which a file is rotated.
    pub(crate) file_size: u64,
    /// Files that are kept, the current one included.
    pub(crate) files: usize,
}

impl Default for Limits {
    /// The kubelet's `containerLogMaxSize` and `containerLogMaxFiles`.
    fn default() -> Self {
        Self { file_size: 10 << 20, files: 5 }
    }
}

/// The open log of one attempt.
#[derive(Debug)]
pub(crate) struct Writer {
    logs: ContainerLogs,
    attempt: u32,
    limits: Limits,
    file: File,
    size: u64,
    last: u64,
    /// An incomplete line is in the file, so it must not be rotated away from its rest.
    in_line: bool,
    pending: Vec<u8>,
}

/// Longest line that [`Writer::open`] looks for at the end of a file: an entry of the agent with its head.
const LONGEST_LINE: u64 = 32 << 10;
/// Bytes after which entries are written without being asked to.
const FULL: usize = 64 << 10;

impl Writer {
    /// Opens the log, or goes on with one that is there. A torn last line is cut off.
    pub(crate) fn open(logs: ContainerLogs, attempt: u32, limits: Limits) -> std::io::Result<Self> {
        std::fs::create_dir_all(&logs.folder)?;
        let mut file = OpenOptions::new().create(true).append(true).read(true).open(logs.current(attempt))?;
        let end = end_of(&mut file)?;
        file.set_len(end.size)?;
        let last = if end.last == 0 { last_rotated(&logs, attempt)? } else { end.last };
        Ok(Self { logs, attempt, limits, file, size: end.size, last, in_line: end.in_line, pending: Vec::new() })
    }

    /// Time of the last entry; 0 where there is none.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// Takes an entry; it is safe after the next [`flush`](Self::flush). One that is not newer than the last is there
    /// already and is passed over.
    pub(crate) fn append(&mut self, entry: &Entry<'_>) -> std::io::Result<()> {
        if entry.time <= self.last {
            return Ok(());
        }
        if !self.in_line && self.size + self.pending.len() as u64 >= self.limits.file_size {
            self.flush()?;
            self.rotate()?;
        }
        entry.write(&mut self.pending);
        self.last = entry.time;
        self.in_line = entry.partial;
        if self.pending.len() >= FULL { self.flush() } else { Ok(()) }
    }

    /// Writes what was appended; everything up to [`last`](Self::last) is safe then. A failure leaves it to be tried again.
    pub(crate) fn flush(&mut self) -> std::io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(&self.pending) {
            // What was written of it would be there twice.
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += self.pending.len() as u64;
        // No buffer stays with a container that is silent.
        self.pending = Vec::new();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn rotate_for_test(&mut self) {
        self.rotate().unwrap();
    }

    fn rotate(&mut self) -> std::io::Result<()> {
        let current = self.logs.current(self.attempt);
        let mut rotated = current.clone().into_os_string();
        rotated.push(format!(".{:020}", self.last));
        std::fs::rename(&current, PathBuf::from(rotated))?;
        self.file = OpenOptions::new().create_new(true).append(true).read(true).open(&current)?;
        self.size = 0;
        let files = self.logs.files(self.attempt)?;
        let excess = files.len().saturating_sub(self.limits.files);
        files.iter().take(excess).try_for_each(std::fs::remove_file)
    }
}

/// What is at the end of a log file.
#[derive(Debug, Default)]
struct End {
    /// Bytes up to the end of the last whole line.
    size: u64,
    /// Time of the last entry, 0 for none.
    last: u64,
    in_line: bool,
}

fn end_of(file: &mut File) -> std::io::Result<End> {
    let size = file.seek(SeekFrom::End(0))?;
    let start = size.saturating_sub(2 * LONGEST_LINE);
    file.seek(SeekFrom::Start(start))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else {
        return Ok(End { size: start, ..End::default() });
    };
    let whole = text.get(..end).unwrap_or_default();
    let line = whole.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let entry = Entry::parse(line);
    Ok(End {
        size: start + end as u64 + 1,
        last: entry.map_or(0, |entry| entry.time),
        in_line: entry.is_some_and(|entry| entry.partial),
    })
}

/// Time of the last entry that was rotated away: the daemon may have ended just after a rotation.
fn last_rotated(logs: &ContainerLogs, attempt: u32) -> std::io::Result<u64> {
    let files = logs.files(attempt)?;
    let newest = files.iter().rev().nth(1).and_then(|path| path.extension()?.to_str()?.parse().ok());
    Ok(newest.unwrap_or(0))
}
