//! Reads tar archives: ustar, GNU and PAX, as layers have them.
//!
//! An own reader, since the usual crate reads long names and extended headers whole, however long they say they are.
//! Here each is bounded, sizes are checked before anything is reserved, and kinds that layers do not have are errors.

use std::io::Read;

use super::{LayerError, shown};
use crate::limits::Limits;

/// One entry; its data is what [`Archive::read_data`] gives until the next one is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    /// The target of a link.
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Time,
    pub(crate) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    File,
    Folder,
    HardLink,
    SymbolicLink,
    CharacterDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// A tar archive that is read from front to back.
pub(crate) struct Archive<'a, R> {
    reader: R,
    limits: &'a Limits,
    /// Bytes of the present entry that were not read yet, and the zeros behind them.
    data: u64,
    padding: u64,
    /// Bytes read so far, for those that come back to an entry later.
    position: u64,
}

/// What extended headers say of the next entry.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<Time>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

const BLOCK: usize = 512;
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

impl<'a, R: Read> Archive<'a, R> {
    pub(crate) fn new(reader: R, limits: &'a Limits) -> Self {
        Self { reader, limits, data: 0, padding: 0, position: 0 }
    }

    /// Where the present entry's data begins or goes on.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next entry, or none at the end. Data of the present one that was not read is passed over.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut extensions = Extensions::default();
        let mut held = 0;
        loop {
            self.skip()?;
            let Some(block) = self.header()? else { return Ok(None) };
            let size = unsigned(&block[124..136])?;
            let kind = block[156];
            self.expect_data(size)?;
            match kind {
                b'L' | b'K' | b'x' => {
                    held += size;
                    let text = self.held_data(size, held)?;
                    extensions.take(kind, &text)?;
                }
                // Said of the whole archive; layers have nothing of use in it.
                b'g' => {}
                _ => return self.entry(&block, size, extensions).map(Some),
            }
        }
    }

    /// Reads data of the present entry; 0 at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let most = usize::try_from(self.data).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..most]).map_err(|error| LayerError::io("read", b"", error))?;
        if count == 0 {
            return Err(LayerError::Archive { problem: "ends within an entry" });
        }
        self.data -= count as u64;
        self.position += count as u64;
        Ok(count)
    }

    fn entry(&mut self, block: &[u8; BLOCK], size: u64, extensions: Extensions) -> Result<Entry, LayerError> {
        let path = extensions.path.unwrap_or_else(|| path_of(block));
        let device = || Ok::<_, LayerError>((number32(&block[329..337])?, number32(&block[337..345])?));
        let is_folder_name = path.ends_with(b"/");
        let kind = match block[156] {
            0 | b'0' | b'7' if is_folder_name => Kind::Folder,
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::SymbolicLink,
            b'3' => device().map(|(major, minor)| Kind::CharacterDevice { major, minor })?,
            b'4' => device().map(|(major, minor)| Kind::BlockDevice { major, minor })?,
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            b'S' => return Err(LayerError::Entry { path: shown(&path), problem: "sparse files are not supported" }),
            _ => return Err(LayerError::Entry { path: shown(&path), problem: "unknown kind of entry" }),
        };
        let size = extensions.size.unwrap_or(size);
        // Some writers give links the size of their target, without data.
        let size = if kind == Kind::File { size } else { 0 };
        self.expect_data(size)?;
        Ok(Entry {
            link: extensions.link.unwrap_or_else(|| text_of(&block[157..257])),
            path,
            kind,
            size,
            mode: u32::try_from(unsigned(&block[100..108])? & 0o7777).expect("twelve bits fit"),
            uid: extensions.uid.map_or_else(|| number32(&block[108..116]), Ok)?,
            gid: extensions.gid.map_or_else(|| number32(&block[116..124]), Ok)?,
            modified: match extensions.modified {
                Some(modified) => modified,
                None => Time { seconds: number(&block[136..148])?, nanos: 0 },
            },
            attributes: extensions.attributes,
        })
    }

    fn expect_data(&mut self, size: u64) -> Result<(), LayerError> {
        if size > i64::MAX as u64 - BLOCK as u64 {
            return Err(LayerError::Archive { problem: "an entry's size is out of range" });
        }
        self.data = size;
        self.padding = size.next_multiple_of(BLOCK as u64) - size;
        Ok(())
    }

    /// Data of an extended header, which is held in memory; `held` is all that is held for one entry.
    fn held_data(&mut self, size: u64, held: u64) -> Result<Vec<u8>, LayerError> {
        let limit = self.limits.extended_header;
        if held > limit {
            return Err(LayerError::TooMuch { what: "bytes in an extended header", limit });
        }
        let mut data = vec![0; usize::try_from(size).expect("the limit fits")];
        let mut at = 0;
        while at < data.len() {
            at += self.read_data(&mut data[at..])?;
        }
        Ok(data)
    }

    fn skip(&mut self) -> Result<(), LayerError> {
        let mut buffer = [0; 16 << 10];
        while self.data > 0 {
            self.read_data(&mut buffer)?;
        }
        self.data = std::mem::take(&mut self.padding);
        while self.data > 0 {
            self.read_data(&mut buffer)?;
        }
        Ok(())
    }

    /// The next header, or none at the end: a block of zeros, or nothing at all.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, LayerError> {
        let mut block = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            let count = self.reader.read(&mut block[at..]).map_err(|error| LayerError::io("read", b"", error))?;
            if count == 0 && at == 0 {
                return Ok(None);
            }
            if count == 0 {
                return Err(LayerError::Archive { problem: "ends within a header" });
            }
            at += count;
        }
        self.position += BLOCK as u64;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let counted = |range: std::ops::Range<usize>| block[range].iter().map(|byte| i64::from(*byte)).sum::<i64>();
        // The field of the sum itself counts as blanks.
        let sum = counted(0..148) + 8 * i64::from(b' ') + counted(156..BLOCK);
        if number(&block[148..156])? != sum {
            return Err(LayerError::Archive { problem: "a header's check sum is wrong" });
        }
        Ok(Some(block))
    }
}

impl Extensions {
    fn take(&mut self, kind: u8, text: &[u8]) -> Result<(), LayerError> {
        match kind {
            b'L' => self.path = Some(text_of(text)),
            b'K' => self.link = Some(text_of(text)),
            _ => self.take_records(text)?,
        }
        Ok(())
    }

    /// PAX records: `LENGTH KEY=VALUE\n`, the length counting all of it.
    fn take_records(&mut self, mut text: &[u8]) -> Result<(), LayerError> {
        let broken = || LayerError::Archive { problem: "an extended header is broken" };
        while !text.is_empty() {
            let blank = text.iter().take(20).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = decimal(&text[..blank]).ok_or_else(broken)?;
            let record = text.get(blank + 1..length).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            self.take_record(&record[..equals], &record[equals + 1..]).ok_or_else(broken)?;
            if record.starts_with(b"GNU.sparse.") {
                return Err(LayerError::Archive { problem: "sparse files are not supported" });
            }
            text = &text[length..];
        }
        Ok(())
    }

    fn take_record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(decimal(value)?),
            b"gid" => self.gid = Some(decimal(value)?),
            b"mtime" => self.modified = Some(time(value)?),
            _ => {
                if let Some(name) = key.strip_prefix(ATTRIBUTE) {
                    self.attributes.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

fn decimal<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds with an optional fraction, of which nine digits count.
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let whole: i64 = seconds.parse().ok()?;
    if seconds.starts_with('-') && nanos > 0 {
        return Some(Time { seconds: whole.checked_sub(1)?, nanos: 1_000_000_000 - nanos });
    }
    Some(Time { seconds: whole, nanos })
}

/// Text up to the first zero.
fn text_of(field: &[u8]) -> Vec<u8> {
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

fn path_of(block: &[u8; BLOCK]) -> Vec<u8> {
    let name = text_of(&block[0..100]);
    let prefix = text_of(&block[345..500]);
    // GNU's older format has other things where ustar has the prefix.
    if prefix.is_empty() || &block[257..263] != b"ustar\0" {
        return name;
    }
    [prefix, name].join(&b'/')
}

/// A number in octal digits, or in base 256 when the first bit says so.
fn number(field: &[u8]) -> Result<i64, LayerError> {
    let broken = LayerError::Archive { problem: "a header has a broken number" };
    if field[0] & 0x80 != 0 {
        let is_negative = field[0] & 0x40 != 0;
        let first = if is_negative { field[0] } else { field[0] & 0x7f };
        let start = if is_negative { i128::from(first) - 256 } else { i128::from(first) };
        let fold = |value: Option<i128>, byte: &u8| value?.checked_mul(256)?.checked_add(i128::from(*byte));
        let value = field[1..].iter().fold(Some(start), fold);
        return value.and_then(|value| i64::try_from(value).ok()).ok_or(broken);
    }
    let is_blank = |byte: &u8| matches!(*byte, 0 | b' ');
    let start = field.iter().position(|byte| !is_blank(byte)).unwrap_or(field.len());
    let digits = field[start..].split(is_blank).next().unwrap_or_default();
    if digits.is_empty() {
        return Ok(0);
    }
    let text = std::str::from_utf8(digits).map_err(|_| broken.clone())?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(broken);
    }
    i64::from_str_radix(text, 8).map_err(|_| broken)
}

fn unsigned(field: &[u8]) -> Result<u64, LayerError> {
    u64::try_from(number(field)?).map_err(|_| LayerError::Archive { problem: "a header has a negative number" })
}

fn number32(field: &[u8]) -> Result<u32, LayerError> {
    u32::try_from(number(field)?).map_err(|_| LayerError::Archive { problem: "a header has a number out of range" })
}
