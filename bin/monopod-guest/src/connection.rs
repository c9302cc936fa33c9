//! Connections over the one byte stream there is: finds where the next one begins, serves it, begins anew.
//!
//! The stream outlives connections and host daemons alike, so a new connection begins wherever its preamble turns up
//! (contracts/agent-proto says how). A connection ends when the host hangs up, when HTTP/2 finds it broken, or when a
//! read ends in a preamble: then a new host is waiting for an answer, whatever the old one left unsaid.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use monopod_agent_proto::{NONCE_LENGTH, PREAMBLE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tonic::transport::server::Connected;

use crate::server::Agent;

const MARK: usize = PREAMBLE.len() + NONCE_LENGTH;
/// How often an answer is tried that the port does not take.
const ANSWER_ATTEMPTS: u32 = 500;
/// Between two of these attempts.
const ANSWER_PAUSE: Duration = Duration::from_millis(1);

/// The last bytes of a stream, to tell whether they are a preamble with its nonce.
#[derive(Debug, Default)]
struct Tail {
    bytes: [u8; MARK],
    seen: usize,
}

impl Tail {
    fn push(&mut self, data: &[u8]) {
        let kept = &data[data.len().saturating_sub(MARK)..];
        self.bytes.copy_within(kept.len().., 0);
        self.bytes[MARK - kept.len()..].copy_from_slice(kept);
        self.seen = (self.seen + data.len()).min(MARK);
    }

    /// The nonce, if the stream ends in a preamble and a nonce.
    fn nonce(&self) -> Option<[u8; NONCE_LENGTH]> {
        if self.seen < MARK || self.bytes[..PREAMBLE.len()] != PREAMBLE {
            return None;
        }
        self.bytes[PREAMBLE.len()..].try_into().ok()
    }
}

/// The stream and what was seen of it.
#[derive(Debug)]
struct Line<P> {
    port: P,
    tail: Tail,
}

/// Serves connections over `port` for ever. What they started goes on when they end.
///
/// # Errors
/// When the port itself cannot be read or written any more.
pub(crate) async fn serve<P>(port: P, agent: &Agent) -> io::Result<()>
where
    P: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    let line = Arc::new(Mutex::new(Line { port, tail: Tail::default() }));
    loop {
        // Waits until the connection before has let go of the line.
        let mut line = Arc::clone(&line).lock_owned().await;
        line.accept().await?;
        let incoming = tokio_stream::once(Ok::<_, io::Error>(Connection { line }));
        let server = tonic::transport::Server::builder().add_service(agent.service());
        if let Err(error) = server.serve_with_incoming(incoming).await {
            tracing::warn!(%error, "failed to serve a connection");
        }
    }
}

impl<P: AsyncRead + AsyncWrite + Unpin> Line<P> {
    /// Reads on until a new connection begins, and answers it.
    async fn accept(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(nonce) = self.tail.nonce() {
                self.tail = Tail::default();
                if self.answer(nonce).await? {
                    return Ok(());
                }
            }
            let count = self.port.read(&mut buffer).await?;
            if count == 0 {
                // Hung up; the next read waits for the next host.
                self.tail = Tail::default();
            }
            self.tail.push(&buffer[..count]);
        }
    }
}

impl<P: AsyncWrite + Unpin> Line<P> {
    /// Answers a preamble; whether the host has taken it.
    ///
    /// The host's first data may be here before the kernel has heard that the host has opened the port, and until then no
    /// write goes through. So a port that says it is closed is asked again for a while.
    async fn answer(&mut self, nonce: [u8; NONCE_LENGTH]) -> io::Result<bool> {
        let answer = [&PREAMBLE[..], &nonce].concat();
        for _ in 0..ANSWER_ATTEMPTS {
            match self.port.write_all(&answer).await {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => tokio::time::sleep(ANSWER_PAUSE).await,
                answered => return answered.map(|()| true),
            }
        }
        // It has hung up already.
        Ok(false)
    }
}

/// The line, lent to one connection.
struct Connection<P> {
    line: OwnedMutexGuard<Line<P>>,
}

impl<P: AsyncRead + Unpin> AsyncRead for Connection<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let line = &mut *self.line;
        if line.tail.nonce().is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut line.port).poll_read(context, buffer))?;
        line.tail.push(&buffer.filled()[before..]);
        if line.tail.nonce().is_some() {
            // End of this connection: what has just come belongs to the next.
            buffer.set_filled(before);
        }
        Poll::Ready(Ok(()))
    }
}

impl<P: AsyncWrite + Unpin> AsyncWrite for Connection<P> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.line.tail.nonce().is_some() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        Pin::new(&mut self.line.port).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.line.port).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The port stays open for the next connection.
        Poll::Ready(Ok(()))
    }
}

impl<P> Connected for Connection<P> {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

#[cfg(test)]
mod tests;
