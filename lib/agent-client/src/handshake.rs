//! Finds the place in a byte stream where a new connection begins; see `contracts/agent-proto`.
//!
//! Called by the connection, before HTTP/2. What the guest has sent beyond its answer is handed back: it belongs to HTTP/2.

use std::fs::File;
use std::io::{self, Read};

use bytes::{Bytes, BytesMut};
use monopod_agent_proto::{NONCE_LENGTH, PREAMBLE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::transport::ByteStream;

/// Preamble and nonce.
pub(crate) const MARK_LENGTH: usize = PREAMBLE.len() + NONCE_LENGTH;

/// Most bytes of an earlier connection that may stand before the answer; more is no agent.
pub(crate) const MAX_REST: usize = 16 << 20;

/// What both sides write at the start of a connection.
pub(crate) type Mark = [u8; MARK_LENGTH];

/// A mark that no earlier connection has used.
pub(crate) fn fresh_mark() -> io::Result<Mark> {
    let mut mark = [0; MARK_LENGTH];
    let (preamble, nonce) = mark.split_at_mut(PREAMBLE.len());
    preamble.copy_from_slice(&PREAMBLE);
    File::open("/dev/urandom")?.read_exact(nonce)?;
    Ok(mark)
}

/// Says the mark and reads up to the guest's echo of it; returns what has been read beyond.
///
/// # Guarantees
/// Holds a few KiB, whatever the guest sends.
///
/// # Errors
/// `UnexpectedEof` when the stream ends first, `InvalidData` when the guest sends [`MAX_REST`] bytes without the mark.
/// It has no deadline of its own.
pub(crate) async fn find_guest(stream: &mut dyn ByteStream, mark: &Mark) -> io::Result<Bytes> {
    stream.write_all(mark).await?;
    stream.flush().await?;
    let mut window = BytesMut::with_capacity(4096);
    let mut passed = 0;
    loop {
        if let Some(at) = window.windows(MARK_LENGTH).position(|bytes| bytes == mark) {
            return Ok(window.split_off(at + MARK_LENGTH).freeze());
        }
        // All but what may be the first part of the mark is of no use any more.
        let useless = window.len().saturating_sub(MARK_LENGTH - 1);
        passed += useless;
        if passed > MAX_REST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no agent answers in what the guest sends"));
        }
        window = BytesMut::from(&window[useless..]);
        window.reserve(4096);
        if stream.read_buf(&mut window).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the guest hung up before it answered"));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::{MARK_LENGTH, find_guest, fresh_mark};

    #[tokio::test]
    async fn the_answer_is_found_behind_the_rest_of_an_old_connection_in_any_pieces() {
        let mark = fresh_mark().unwrap();
        let stale = fresh_mark().unwrap();
        for piece in [1, 7, 24, 4096] {
            let (mut ours, mut theirs) = duplex(1 << 20);
            let mut sent = vec![0xff; 5000];
            sent.extend(stale);
            sent.extend(&mark[..MARK_LENGTH - 1]);
            sent.extend(mark);
            sent.extend(b"http2");
            let guest = tokio::spawn(async move {
                for bytes in sent.chunks(piece) {
                    theirs.write_all(bytes).await.unwrap();
                }
                theirs
            });
            let mut rest = find_guest(&mut ours, &mark).await.unwrap().to_vec();
            let mut theirs = guest.await.unwrap();
            theirs.shutdown().await.unwrap();
            ours.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, b"http2", "{piece}");
        }
    }

    #[tokio::test]
    async fn endless_garbage_is_no_agent() {
        let (mut ours, mut theirs) = duplex(1 << 16);
        let guest = tokio::spawn(async move { while theirs.write_all(&[7; 4096]).await.is_ok() {} });
        let error = find_guest(&mut ours, &fresh_mark().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
        drop(ours);
        guest.await.unwrap();
    }

    #[tokio::test]
    async fn a_guest_that_hangs_up_is_noticed() {
        let (mut ours, theirs) = duplex(1024);
        drop(theirs);
        assert!(find_guest(&mut ours, &fresh_mark().unwrap()).await.is_err());
    }
}
