//! Reads the log of one attempt of a container as people want to see it: lines put together again, from a place on.

use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::ContainerLogs;
use super::entry::{Entry, Stream, shown_time};

/// What is wanted of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Put the time before each line.
    pub(crate) timestamps: bool,
    /// Only so many lines from the end.
    pub(crate) tail_lines: Option<u64>,
    /// Only entries of this time (nanoseconds since the Unix epoch) and later.
    pub(crate) since: u64,
    /// No more bytes than these.
    pub(crate) limit_bytes: Option<u64>,
    /// Only what was written there.
    pub(crate) stream: Option<Stream>,
}

/// A place in the log of one attempt.
#[derive(Debug)]
pub(crate) struct Reader {
    logs: ContainerLogs,
    attempt: u32,
    options: Options,
    file: Option<BufReader<File>>,
    /// A piece of a line that has no end yet.
    unread: Vec<u8>,
    /// The line that the next entry of this stream belongs to has begun already.
    in_line: [bool; 2],
    left: u64,
}

/// Bytes in one chunk, about.
const CHUNK: usize = 48 << 10;

impl Reader {
    /// Opens the log at the place that the options name.
    pub(crate) fn open(logs: ContainerLogs, attempt: u32, options: Options) -> std::io::Result<Self> {
        let left = options.limit_bytes.unwrap_or(u64::MAX);
        let file = match options.tail_lines {
            Some(lines) => logs.settled(attempt, |files| tail(files, lines))?,
            None => logs.settled(attempt, oldest)?,
        };
        let file = file.map(BufReader::new);
        Ok(Self { logs, attempt, options, file, unread: Vec::new(), in_line: [false; 2], left })
    }

    /// The next piece of text; nothing at the present end of the log, or when the limit is reached.
    pub(crate) fn next_chunk(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let mut chunk = Vec::new();
        while chunk.len() < CHUNK && self.left > 0 && self.next_line()? {
            let line = std::mem::take(&mut self.unread);
            self.show(&line, &mut chunk);
        }
        if (chunk.len() as u64) > self.left {
            chunk.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        }
        self.left -= chunk.len() as u64;
        Ok(if chunk.is_empty() { None } else { Some(chunk) })
    }

    /// The limit is reached; nothing will come any more.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.left == 0
    }

    /// Reads a whole line into `unread`; false when there is none yet.
    fn next_line(&mut self) -> std::io::Result<bool> {
        loop {
            if self.file.is_none() {
                self.file = self.logs.settled(self.attempt, oldest)?.map(BufReader::new);
            }
            let Some(file) = &mut self.file else { return Ok(false) };
            file.read_until(b'\n', &mut self.unread)?;
            if self.unread.ends_with(b"\n") {
                return Ok(true);
            }
            if !self.move_on()? {
                return Ok(false);
            }
        }
    }

    /// At the end of a file: whether there is a newer one, which is open then.
    fn move_on(&mut self) -> std::io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        let own = file.get_ref().metadata()?;
        let is_own = |other: Metadata| (other.dev(), other.ino()) == (own.dev(), own.ino());
        let next = self.logs.settled(self.attempt, |files| {
            let position = files.iter().position(|path| path.metadata().is_ok_and(is_own));
            files.get(position.map_or(0, |position| position + 1)).map(File::open).transpose()
        })?;
        let Some(next) = next else { return Ok(false) };
        // Something may have been written between our reading and the rotation.
        file.read_until(b'\n', &mut self.unread)?;
        if !self.unread.ends_with(b"\n") {
            self.unread.clear();
            self.file = Some(BufReader::new(next));
        } else {
            // The loop of the caller would read another line: hand this one back by seeking before it.
            let length = i64::try_from(self.unread.len()).unwrap_or(0);
            file.seek_relative(-length)?;
            self.unread.clear();
        }
        Ok(true)
    }

    fn show(&mut self, line: &[u8], chunk: &mut Vec<u8>) {
        let Some(entry) = Entry::parse(line.strip_suffix(b"\n").unwrap_or(line)) else { return };
        let is_wanted = self.options.stream.is_none_or(|stream| stream == entry.stream);
        if entry.time < self.options.since || !is_wanted {
            return;
        }
        let in_line = match entry.stream {
            Stream::Stdout => &mut self.in_line[0],
            Stream::Stderr => &mut self.in_line[1],
        };
        if self.options.timestamps && !*in_line {
            chunk.extend_from_slice(shown_time(entry.time).as_bytes());
            chunk.push(b' ');
        }
        chunk.extend_from_slice(entry.text);
        if !entry.partial {
            chunk.push(b'\n');
        }
        *in_line = entry.partial;
    }
}

fn oldest(files: &[PathBuf]) -> std::io::Result<Option<File>> {
    files.first().map(File::open).transpose()
}

/// The file in which the last lines begin, at the place where they do.
fn tail(files: &[PathBuf], lines: u64) -> std::io::Result<Option<File>> {
    let mut wanted = usize::try_from(lines).unwrap_or(usize::MAX);
    let mut begin: Option<(&PathBuf, u64)> = None;
    for path in files.iter().rev() {
        let starts = last_lines(path, wanted)?;
        if wanted == 0 {
            // The end of the newest file: only what is still to come.
            begin = Some((path, path.metadata()?.len()));
            break;
        }
        if let Some(first) = starts.front() {
            begin = Some((path, *first));
        }
        wanted -= starts.len();
        if wanted == 0 {
            break;
        }
    }
    let Some((path, offset)) = begin else { return files.last().map(File::open).transpose() };
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Some(file))
}

/// Where the last lines of a file begin; pieces of one line count as one.
fn last_lines(path: &PathBuf, wanted: usize) -> std::io::Result<VecDeque<u64>> {
    let mut starts = VecDeque::new();
    if wanted == 0 {
        return Ok(starts);
    }
    let mut file = BufReader::with_capacity(CHUNK, File::open(path)?);
    let (mut offset, mut line, mut in_line) = (0, Vec::new(), false);
    while file.read_until(b'\n', &mut line)? > 0 {
        let entry = Entry::parse(line.strip_suffix(b"\n").unwrap_or(&line));
        if let Some(entry) = entry {
            if !in_line {
                starts.push_back(offset);
            }
            in_line = entry.partial;
        }
        if starts.len() > wanted {
            starts.pop_front();
        }
        offset += line.len() as u64;
        line.clear();
    }
    Ok(starts)
}
