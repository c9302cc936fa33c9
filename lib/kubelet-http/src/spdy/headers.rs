//! Blocks of names and values in SPDY/3.1: compressed over the whole connection, with a dictionary that both ends know.
//!
//! Reading takes whatever a peer's zlib makes. Writing stores without compressing, which every zlib reads: the kubelet's
//! side says next to nothing in headers.

use bytes::{Buf as _, BufMut as _};
use flate2::{Decompress, FlushDecompress, Status};

use super::SpdyError;
use super::dictionary::{DICTIONARY, DICTIONARY_ID};

/// A block, once it is decompressed.
const MAX_BLOCK: usize = 16 << 10;
/// Names in a block.
const MAX_HEADERS: u32 = 64;
/// What one stored block of zlib can hold.
const MAX_STORED: usize = 0xffff;
/// A stored block without content, after which a reader has all that was before it.
const FLUSH: [u8; 5] = [0, 0, 0, 0xff, 0xff];

/// Names, in lower case, with their values, in the order of the peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The value of a name, which is in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    fn parse(mut block: &[u8]) -> Result<Self, SpdyError> {
        let count = block.try_get_u32().map_err(|_| SpdyError::Headers)?;
        if count > MAX_HEADERS {
            return Err(SpdyError::HeadersTooLarge);
        }
        let mut headers = Self::default();
        for _ in 0..count {
            let name = text(&mut block)?;
            let value = text(&mut block)?;
            let is_lower = !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase());
            if !is_lower || headers.get(&name).is_some() {
                return Err(SpdyError::Headers);
            }
            headers.0.push((name, value));
        }
        if block.is_empty() { Ok(headers) } else { Err(SpdyError::Headers) }
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(all: I) -> Self {
        Self(all.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn text(block: &mut &[u8]) -> Result<String, SpdyError> {
    let length = block.try_get_u32().map_err(|_| SpdyError::Headers)?;
    let length = usize::try_from(length).map_err(|_| SpdyError::Headers)?;
    let (text, rest) = block.split_at_checked(length).ok_or(SpdyError::Headers)?;
    *block = rest;
    String::from_utf8(text.to_vec()).map_err(|_| SpdyError::Headers)
}

/// Reads the blocks of one connection, in their order.
#[derive(Debug)]
pub(super) struct HeaderReader {
    inflater: Decompress,
    has_begun: bool,
}

impl HeaderReader {
    pub(super) fn new() -> Self {
        Self { inflater: Decompress::new(false), has_begun: false }
    }

    pub(super) fn read(&mut self, mut block: &[u8]) -> Result<Headers, SpdyError> {
        if !self.has_begun {
            block = self.begin(block)?;
            self.has_begun = true;
        }
        Headers::parse(&self.inflate(block)?)
    }

    /// Reads what a zlib stream begins with, and gives the rest.
    fn begin<'a>(&mut self, mut block: &'a [u8]) -> Result<&'a [u8], SpdyError> {
        let head = block.try_get_u16().map_err(|_| SpdyError::Compression)?;
        if head & 0x0f00 != 0x0800 || head % 31 != 0 {
            return Err(SpdyError::Compression);
        }
        if head & 0x20 != 0 {
            let id = block.try_get_u32().map_err(|_| SpdyError::Compression)?;
            if id != DICTIONARY_ID {
                return Err(SpdyError::Compression);
            }
            // What follows refers to the dictionary as to text that was sent before, so it is.
            self.inflate(&stored(DICTIONARY))?;
        }
        Ok(block)
    }

    fn inflate(&mut self, mut input: &[u8]) -> Result<Vec<u8>, SpdyError> {
        let mut output = Vec::new();
        let mut buffer = [0; 2048];
        loop {
            let (read, written) = (self.inflater.total_in(), self.inflater.total_out());
            let status = self.inflater.decompress(input, &mut buffer, FlushDecompress::Sync);
            let status = status.map_err(|_| SpdyError::Compression)?;
            let read = counted(self.inflater.total_in() - read);
            let written = counted(self.inflater.total_out() - written);
            input = input.get(read..).unwrap_or_default();
            output.extend_from_slice(buffer.get(..written).unwrap_or_default());
            if output.len() > MAX_BLOCK {
                return Err(SpdyError::HeadersTooLarge);
            }
            if status == Status::StreamEnd || (read == 0 && written == 0) {
                return if input.is_empty() { Ok(output) } else { Err(SpdyError::Compression) };
            }
        }
    }
}

fn counted(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Writes the blocks of one connection.
#[derive(Debug, Default)]
pub(super) struct HeaderWriter {
    has_begun: bool,
}

impl HeaderWriter {
    pub(super) fn write(&mut self, headers: &Headers) -> Vec<u8> {
        let mut block = Vec::new();
        block.put_u32(length(headers.0.len()));
        for text in headers.0.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(length(text.len()));
            block.put_slice(text.as_bytes());
        }
        let mut output = Vec::new();
        if !self.has_begun {
            // A zlib stream with deflate, without a dictionary.
            output.put_u16(0x7801);
            self.has_begun = true;
        }
        output.extend(stored(&block));
        output.put_slice(&FLUSH);
        output
    }
}

fn length(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}

/// Bytes as deflate stores them without compressing.
fn stored(bytes: &[u8]) -> Vec<u8> {
    let mut output = Vec::with_capacity(bytes.len() + 5);
    for piece in bytes.chunks(MAX_STORED) {
        let length = u16::try_from(piece.len()).unwrap_or(u16::MAX);
        output.put_u8(0);
        output.put_u16_le(length);
        output.put_u16_le(!length);
        output.put_slice(piece);
    }
    output
}

#[cfg(test)]
mod tests {
    use super::{HeaderReader, HeaderWriter, Headers};
    use crate::spdy::SpdyError;

    /// The first two blocks of a connection of moby/spdystream 0.5.1, which is what the API server speaks:
    /// `streamtype: error`, then `port: 8080, requestid: 0, streamtype: data`.
    const OF_A_CLIENT: [&str; 2] = [
        "78f9e3c6a7c26260606004a7b392a2d4c45c6851c29a0a0a6800000000ffff",
        "02a54748d15c04ce05160616060c0c0c9c4590a8cc04257146030ccda0722811000000ffff",
    ];

    #[test]
    fn headers_of_the_api_servers_library_are_read() {
        let mut reader = HeaderReader::new();
        let mut read = |text: &str| reader.read(&hex::decode(text).unwrap()).unwrap();
        assert_eq!(read(OF_A_CLIENT[0]), Headers::from_iter([("streamtype", "error")]));
        let second = read(OF_A_CLIENT[1]);
        assert_eq!(second.get("port"), Some("8080"));
        assert_eq!(second.get("requestid"), Some("0"));
        assert_eq!(second.get("streamtype"), Some("data"));
    }

    #[test]
    fn a_small_block_does_not_become_a_large_one() {
        let zeros = vec![0; 1 << 20];
        let mut compressor = flate2::Compress::new(flate2::Compression::best(), true);
        let mut block = Vec::with_capacity(1 << 16);
        compressor.compress_vec(&zeros, &mut block, flate2::FlushCompress::Sync).unwrap();
        assert!(block.len() < 2048);
        assert_eq!(HeaderReader::new().read(&block), Err(SpdyError::HeadersTooLarge));
    }

    #[test]
    fn names_come_once_and_in_lower_case() {
        for names in [vec!["a", "a"], vec!["A"], vec![""]] {
            let block = HeaderWriter::default().write(&names.into_iter().map(|name| (name, "x")).collect());
            assert_eq!(HeaderReader::new().read(&block), Err(SpdyError::Headers));
        }
    }
}
