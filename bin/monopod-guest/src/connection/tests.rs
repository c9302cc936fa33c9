//! A pipe stands for the port. The real port, which can hang up, is tested in a real guest.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use monopod_agent_proto::{NONCE_LENGTH, PREAMBLE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, duplex};

use super::{Line, MARK, Tail, serve};
use crate::agent_log::AgentLog;
use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::server::{Agent, Identity};

/// What an HTTP/2 client says first, and the beginning of a frame whose rest never comes.
const CUT_OFF: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x40\0\x01\x04\0\0\0\x01half a header";

fn mark(nonce: u8) -> Vec<u8> {
    [&PREAMBLE[..], &[nonce; NONCE_LENGTH]].concat()
}

#[test]
fn a_preamble_in_pieces_is_seen_when_its_last_byte_is() {
    let mut tail = Tail::default();
    tail.push(b"the rest of a frame");
    for piece in mark(7).chunks(5) {
        assert_eq!(tail.nonce(), None);
        tail.push(piece);
    }
    assert_eq!(tail.nonce(), Some([7; NONCE_LENGTH]));
    tail.push(b"x");
    assert_eq!(tail.nonce(), None);
}

fn guest() -> DuplexStream {
    let (host, port) = duplex(1 << 16);
    let identity = Identity { image_version: "test".to_owned(), kernel_release: "test".to_owned() };
    let folder = std::env::temp_dir().join("monopod-nowhere");
    let agent = Agent::new(identity, Paths::below(folder), Reaper::default(), AgentLog::default());
    tokio::spawn(async move { serve(port, &agent).await });
    host
}

/// Reads on until the guest has answered the mark.
async fn answered(host: &mut DuplexStream, mark: &[u8]) {
    let mut seen = Vec::new();
    let reading = async {
        while !seen.ends_with(mark) {
            seen.push(host.read_u8().await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("the guest answers");
}

#[tokio::test]
async fn a_new_host_is_answered_whatever_the_old_one_left_unsaid() {
    let mut host = guest();
    host.write_all(&[0xff; 10_000]).await.unwrap();
    host.write_all(&mark(0)[..MARK - 1]).await.unwrap();
    for nonce in 1..20 {
        for piece in mark(nonce).chunks(usize::from(nonce)) {
            host.write_all(piece).await.unwrap();
        }
        answered(&mut host, &mark(nonce)).await;
        host.write_all(CUT_OFF).await.unwrap();
    }
}

#[tokio::test]
async fn a_host_that_talks_nonsense_is_left_and_the_next_one_answered() {
    let mut host = guest();
    for nonce in 1..4 {
        host.write_all(&mark(nonce)).await.unwrap();
        answered(&mut host, &mark(nonce)).await;
        host.write_all(&[0xab; 4096]).await.unwrap();
    }
}

/// A port whose kernel has not heard yet that the host has opened it: data comes, and the first writes find it closed.
struct LatePort {
    pipe: DuplexStream,
    refusals: u32,
}

impl AsyncRead for LatePort {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(context, buffer)
    }
}

impl AsyncWrite for LatePort {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.pipe).poll_write(context, data)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn data_that_comes_before_the_word_of_an_open_port_is_answered() {
    let (mut host, pipe) = duplex(1 << 16);
    let mut line = Line { port: LatePort { pipe, refusals: 3 }, tail: Tail::default() };
    host.write_all(&mark(5)).await.unwrap();
    line.accept().await.unwrap();
    answered(&mut host, &mark(5)).await;
}
