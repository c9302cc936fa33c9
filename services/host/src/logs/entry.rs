//! One entry of a log: `2026-11-25T10:00:00.000000001Z stdout F text`.

use std::io::Write;

use jiff::Timestamp;

/// Where a container wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    /// Standard output, and all of a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A line, or a piece of one that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// Nanoseconds since the Unix epoch.
    pub(crate) time: u64,
    /// Where it was written.
    pub(crate) stream: Stream,
    /// More of the same line follows.
    pub(crate) partial: bool,
    /// Without the end of the line.
    pub(crate) text: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Reads a line without its end; nothing, when it is not one of ours.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time: Timestamp = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let stream = match parts.next()? {
            b"stdout" => Stream::Stdout,
            b"stderr" => Stream::Stderr,
            _ => return None,
        };
        let partial = match parts.next()? {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        Some(Self { time: nanoseconds(time), stream, partial, text: parts.next()? })
    }

    /// Writes the line with its end.
    pub(crate) fn write(&self, to: &mut Vec<u8>) {
        let tag = if self.partial { 'P' } else { 'F' };
        // Writing to a vector cannot fail.
        let _ = write!(to, "{} {} {tag} ", shown_time(self.time), self.stream.as_str());
        // A line's end within comes from a guest that means to write lines in another's name.
        to.extend(self.text.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
        to.push(b'\n');
    }
}

/// A time as in logs, always with nine decimals.
pub(crate) fn shown_time(nanoseconds: u64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::MAX);
    format!("{time:.9}")
}

/// Nanoseconds since the Unix epoch; 0 for what was before.
pub(crate) fn nanoseconds(time: Timestamp) -> u64 {
    u64::try_from(time.as_nanosecond()).unwrap_or(0)
}
