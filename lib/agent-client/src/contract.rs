//! For tests: the guest's side of a connection, and what every [`AgentTransport`] must do.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::stream::once;
use monopod_agent_proto::v1::agent_server::{Agent, AgentServer};
use monopod_agent_proto::{NONCE_LENGTH, PREAMBLE};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::transport::AgentTransport;

/// A guest's stream behind the handshake: what has been read too far comes first.
#[derive(Debug)]
pub struct Accepted<S> {
    stream: S,
    rest: Bytes,
}

/// Reads on to the next preamble and answers it.
///
/// # Errors
/// When the stream ends first.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<Accepted<S>> {
    let mut read = BytesMut::new();
    let mark = loop {
        let at = read.windows(PREAMBLE.len()).position(|bytes| bytes == PREAMBLE);
        if let Some(at) = at.filter(|at| read.len() >= at + PREAMBLE.len() + NONCE_LENGTH) {
            read.advance(at);
            break read.split_to(PREAMBLE.len() + NONCE_LENGTH);
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    stream.write_all(&mark).await?;
    stream.flush().await?;
    Ok(Accepted { stream, rest: read.freeze() })
}

impl<S: AsyncRead + Unpin> AsyncRead for Accepted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.has_remaining() {
            let length = self.rest.len().min(buffer.remaining());
            buffer.put_slice(&self.rest.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Accepted<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl<S> Connected for Accepted<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Serves one connection, as a guest does: handshake, then gRPC, until the stream ends.
///
/// # Errors
/// When the stream ends before the handshake, or gRPC cannot be served.
pub async fn serve<S, A>(stream: S, agent: AgentServer<A>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    A: Agent,
{
    let accepted = accept(stream).await?;
    let served = Server::builder().add_service(agent).serve_with_incoming(once(async { io::Result::Ok(accepted) }));
    served.await.map_err(io::Error::other)
}

/// What every transport must do, with an agent of our protocol behind it: carry a connection, and another one after the
/// first was dropped, with bytes of the first still under way.
///
/// # Panics
/// When it does not.
pub async fn connections_follow_each_other(transport: &dyn AgentTransport) {
    for _ in 0..3 {
        let mut stream = transport.connect().await.expect("the transport connects");
        let mark = crate::handshake::fresh_mark().expect("the machine has random bytes");
        crate::handshake::find_guest(&mut *stream, &mark).await.expect("the agent answers");
        // The connection's first words, cut off in the middle.
        stream.write_all(b"PRI * HTTP/2.0\r\n").await.expect("the agent listens");
    }
}
