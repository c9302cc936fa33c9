//! Frames of SPDY/3.1, read and written.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::SpdyError;
use super::headers::{HeaderReader, HeaderWriter, Headers};

/// The head of every frame.
const HEAD: usize = 8;
/// The largest control frame that is taken.
const MAX_CONTROL: usize = 32 << 10;
/// The largest piece of data that is handed on at once.
const MAX_PIECE: usize = 32 << 10;
/// The largest frame of data that is written.
const MAX_DATA: usize = (1 << 24) - 1;
const VERSION: u16 = 3;
const FIN: u8 = 1;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const SETTINGS: u16 = 4;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const WINDOW_UPDATE: u16 = 9;

/// What the two ends say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The peer opens a stream.
    SynStream {
        /// Its number.
        stream: u32,
        /// What it is for.
        headers: Headers,
        /// The peer will send nothing on it.
        fin: bool,
    },
    /// A stream is taken.
    SynReply {
        /// Its number.
        stream: u32,
        /// What is said about it.
        headers: Headers,
    },
    /// A stream is ended at once, in both directions.
    RstStream {
        /// Its number.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// To be sent back as it is.
    Ping(u32),
    /// No more streams.
    GoAway {
        /// The last stream that was taken.
        last: u32,
    },
    /// Bytes of a stream; a long frame is read as several pieces.
    Data {
        /// Its number.
        stream: u32,
        /// The bytes.
        data: Bytes,
        /// Nothing more follows in this direction.
        fin: bool,
    },
    /// Of no use here: settings, windows, later headers, kinds that nobody knows.
    Ignored,
}

/// The rest of a frame of data.
#[derive(Debug)]
struct Pending {
    stream: u32,
    left: usize,
    fin: bool,
}

/// Reads and writes the frames of one connection, which share the state of its compression.
#[derive(Debug)]
pub struct SpdyCodec {
    reader: HeaderReader,
    writer: HeaderWriter,
    pending: Option<Pending>,
}

impl Default for SpdyCodec {
    fn default() -> Self {
        Self { reader: HeaderReader::new(), writer: HeaderWriter::default(), pending: None }
    }
}

impl SpdyCodec {
    /// The next piece of a frame of data.
    fn piece(&mut self, mut pending: Pending, source: &mut BytesMut) -> Option<Frame> {
        if source.is_empty() && pending.left > 0 {
            self.pending = Some(pending);
            return None;
        }
        let data = source.split_to(pending.left.min(source.len()).min(MAX_PIECE)).freeze();
        pending.left -= data.len();
        let stream = pending.stream;
        if pending.left == 0 {
            return Some(Frame::Data { stream, data, fin: pending.fin });
        }
        self.pending = Some(pending);
        Some(Frame::Data { stream, data, fin: false })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: BytesMut) -> Result<Frame, SpdyError> {
        let malformed = || SpdyError::Malformed { kind };
        let number = |payload: &mut BytesMut| payload.try_get_u32().map_err(|_| malformed());
        match kind {
            SYN_STREAM => {
                let stream = stream_number(number(&mut payload)?, kind)?;
                // The stream that this one belongs to, its priority, and a slot for credentials.
                number(&mut payload)?;
                payload.try_get_u16().map_err(|_| malformed())?;
                Ok(Frame::SynStream { stream, headers: self.reader.read(&payload)?, fin: flags & FIN != 0 })
            }
            SYN_REPLY => {
                let stream = stream_number(number(&mut payload)?, kind)?;
                Ok(Frame::SynReply { stream, headers: self.reader.read(&payload)? })
            }
            HEADERS => {
                number(&mut payload)?;
                // Read all the same, since the state of the compression goes on.
                self.reader.read(&payload)?;
                Ok(Frame::Ignored)
            }
            RST_STREAM => {
                let stream = stream_number(number(&mut payload)?, kind)?;
                Ok(Frame::RstStream { stream, status: number(&mut payload)? })
            }
            PING => Ok(Frame::Ping(number(&mut payload)?)),
            GOAWAY => Ok(Frame::GoAway { last: number(&mut payload)? }),
            // Unknown kinds are to be ignored.
            SETTINGS | WINDOW_UPDATE | 0 | 5 | 10.. => Ok(Frame::Ignored),
        }
    }
}

fn stream_number(number: u32, kind: u16) -> Result<u32, SpdyError> {
    match number & 0x7fff_ffff {
        0 => Err(SpdyError::Malformed { kind }),
        stream => Ok(stream),
    }
}

impl Decoder for SpdyCodec {
    type Item = Frame;
    type Error = SpdyError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if let Some(pending) = self.pending.take() {
            return Ok(self.piece(pending, source));
        }
        let Some(mut head) = source.get(..HEAD) else { return Ok(None) };
        let (first, second) = (head.get_u32(), head.get_u32());
        let [flags, ..] = second.to_be_bytes();
        let length = usize::try_from(second & 0x00ff_ffff).unwrap_or(usize::MAX);
        if first & 0x8000_0000 == 0 {
            let stream = stream_number(first, 0)?;
            source.advance(HEAD);
            return Ok(self.piece(Pending { stream, left: length, fin: flags & FIN != 0 }, source));
        }
        let [version_high, version_low, kind_high, kind_low] = first.to_be_bytes();
        let version = u16::from_be_bytes([version_high & 0x7f, version_low]);
        if version != VERSION {
            return Err(SpdyError::Version { version });
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::TooLarge { length });
        }
        if source.len() < HEAD + length {
            source.reserve(HEAD + length - source.len());
            return Ok(None);
        }
        source.advance(HEAD);
        let payload = source.split_to(length);
        self.control(u16::from_be_bytes([kind_high, kind_low]), flags, payload).map(Some)
    }
}

impl Encoder<Frame> for SpdyCodec {
    type Error = SpdyError;

    fn encode(&mut self, frame: Frame, target: &mut BytesMut) -> Result<(), SpdyError> {
        match frame {
            Frame::SynStream { stream, headers, fin } => {
                let mut payload = Vec::new();
                payload.put_u32(stream);
                payload.put_u32(0);
                payload.put_u16(0);
                payload.extend(self.writer.write(&headers));
                put_control(target, SYN_STREAM, if fin { FIN } else { 0 }, &payload)
            }
            Frame::SynReply { stream, headers } => {
                let mut payload = Vec::new();
                payload.put_u32(stream);
                payload.extend(self.writer.write(&headers));
                put_control(target, SYN_REPLY, 0, &payload)
            }
            Frame::RstStream { stream, status } => put_control(target, RST_STREAM, 0, &pair(stream, status)),
            Frame::Ping(id) => put_control(target, PING, 0, &id.to_be_bytes()),
            Frame::GoAway { last } => put_control(target, GOAWAY, 0, &pair(last, 0)),
            Frame::Data { stream, data, fin } => {
                let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                if data.len() > MAX_DATA {
                    return Err(SpdyError::TooLarge { length: data.len() });
                }
                target.reserve(HEAD + data.len());
                target.put_u32(stream);
                target.put_u32(length | if fin { u32::from(FIN) << 24 } else { 0 });
                target.put(data);
                Ok(())
            }
            Frame::Ignored => Ok(()),
        }
    }
}

fn pair(first: u32, second: u32) -> [u8; 8] {
    ((u64::from(first) << 32) | u64::from(second)).to_be_bytes()
}

fn put_control(target: &mut BytesMut, kind: u16, flags: u8, payload: &[u8]) -> Result<(), SpdyError> {
    let too_large = SpdyError::TooLarge { length: payload.len() };
    let length = u32::try_from(payload.len()).ok().filter(|length| *length < 1 << 24).ok_or(too_large)?;
    target.reserve(HEAD + payload.len());
    target.put_u16(0x8000 | VERSION);
    target.put_u16(kind);
    target.put_u32((u32::from(flags) << 24) | length);
    target.put_slice(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut as _, Bytes, BytesMut};
    use proptest::prelude::*;
    use tokio_util::codec::{Decoder as _, Encoder as _};

    use super::{Frame, MAX_PIECE, SpdyCodec};
    use crate::spdy::{Headers, SpdyError};

    fn headers() -> impl Strategy<Value = Headers> {
        proptest::collection::btree_map("[a-z:-]{1,12}", "[ -~]{0,40}", 0..6)
            .prop_map(|all| all.into_iter().collect::<Headers>())
    }

    fn frames() -> impl Strategy<Value = Vec<Frame>> {
        let stream = 1_u32..0x8000_0000;
        let data = proptest::collection::vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let frame = prop_oneof![
            (stream.clone(), headers(), any::<bool>()).prop_map(|(stream, headers, fin)| Frame::SynStream {
                stream,
                headers,
                fin
            }),
            (stream.clone(), headers()).prop_map(|(stream, headers)| Frame::SynReply { stream, headers }),
            (stream.clone(), any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
            any::<u32>().prop_map(|last| Frame::GoAway { last }),
            (stream, data, any::<bool>()).prop_map(|(stream, data, fin)| Frame::Data { stream, data, fin }),
        ];
        proptest::collection::vec(frame, 0..12)
    }

    /// All that a codec reads from bytes that arrive in pieces of a size.
    fn read(bytes: &[u8], size: usize) -> Result<Vec<Frame>, SpdyError> {
        let (mut codec, mut buffer, mut read) = (SpdyCodec::default(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(size) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = codec.decode(&mut buffer)? {
                read.push(frame);
            }
        }
        Ok(read)
    }

    /// Frames with the pieces of one stream's data put together again.
    fn joined(frames: Vec<Frame>) -> Vec<Frame> {
        let mut all: Vec<Frame> = Vec::new();
        let mut is_open = false;
        for frame in frames {
            match (all.last_mut(), frame) {
                (Some(Frame::Data { stream, data, fin }), Frame::Data { stream: same, data: more, fin: end })
                    if is_open && *stream == same =>
                {
                    *data = [data.as_ref(), more.as_ref()].concat().into();
                    *fin = end;
                }
                (_, frame) => {
                    is_open = matches!(&frame, Frame::Data { fin: false, data, .. } if !data.is_empty());
                    all.push(frame);
                }
            }
        }
        all
    }

    proptest! {
        /// What is written is read, however it is cut up on its way.
        #[test]
        fn what_is_written_is_read(frames in frames(), size in 1_usize..300) {
            let mut codec = SpdyCodec::default();
            let mut bytes = BytesMut::new();
            for frame in frames.clone() {
                codec.encode(frame, &mut bytes).unwrap();
            }
            prop_assert_eq!(joined(read(&bytes, size).unwrap()), joined(frames));
        }

        /// Whatever comes, reading ends, and nothing large is waited for.
        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = read(&bytes, 7);
        }
    }

    #[test]
    fn long_data_comes_in_pieces_and_ends_with_the_last() {
        let data = Bytes::from(vec![7; MAX_PIECE + 1]);
        let mut bytes = BytesMut::new();
        SpdyCodec::default().encode(Frame::Data { stream: 5, data, fin: true }, &mut bytes).unwrap();
        let read = read(&bytes, usize::MAX).unwrap();
        let shown: Vec<_> = read
            .iter()
            .map(|frame| {
                let Frame::Data { stream: 5, data, fin } = frame else { panic!("{frame:?}") };
                (data.len(), *fin)
            })
            .collect();
        assert_eq!(shown, [(MAX_PIECE, false), (1, true)]);
    }

    #[test]
    fn a_control_frame_that_is_too_large_is_refused_before_it_is_there() {
        let mut bytes = BytesMut::new();
        bytes.put_u32(0x8003_0001);
        bytes.put_u32(0x00ff_ffff);
        assert_eq!(read(&bytes, usize::MAX), Err(SpdyError::TooLarge { length: 0x00ff_ffff }));
    }
}
