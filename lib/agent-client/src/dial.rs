//! A TCP connection to a port of the Pod's loopback, as a byte stream.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::stream::{Stream, StreamExt, once, unfold};
use monopod_agent_proto::MAX_CHUNK;
use monopod_agent_proto::v1::{DialRequest, DialResponse, StdinEnd, dial_request, dial_response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::error::AgentError;
use crate::messages::Messages;

/// A connected stream. Shutting down its writing half leaves the reading half open; dropping it closes both.
#[derive(Debug)]
pub struct DialStream {
    sender: PollSender<dial_request::Kind>,
    messages: Messages<DialResponse>,
    received: Bytes,
    ended: bool,
}

impl DialStream {
    /// Waits for the guest's word that the connection is made.
    pub(crate) async fn connected(
        sender: mpsc::Sender<dial_request::Kind>,
        mut messages: Messages<DialResponse>,
    ) -> Result<Self, AgentError> {
        let first = messages.next().await?.and_then(|message| message.kind);
        if !matches!(first, Some(dial_response::Kind::Connected(_))) {
            return Err(AgentError::Misbehaved { call: messages.call(), what: "data before the connection is made" });
        }
        Ok(Self { sender: PollSender::new(sender), messages, received: Bytes::new(), ended: false })
    }

    fn send(&mut self, context: &mut Context<'_>, kind: impl FnOnce() -> dial_request::Kind) -> Poll<io::Result<()>> {
        ready!(self.sender.poll_reserve(context)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Poll::Ready(self.sender.send_item(kind()).map_err(|_| io::ErrorKind::BrokenPipe.into()))
    }
}

impl AsyncRead for DialStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.received.is_empty() && !self.ended {
            let message = ready!(self.messages.poll_next(context)).map_err(io::Error::other)?;
            match message.map(|message| message.kind) {
                Some(Some(dial_response::Kind::Data(data))) => self.received = data.into(),
                Some(Some(dial_response::Kind::End(_))) | None => self.ended = true,
                Some(Some(dial_response::Kind::Connected(_)) | None) => {
                    let what = "a message out of turn";
                    let error = AgentError::Misbehaved { call: self.messages.call(), what };
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
        let length = self.received.len().min(buffer.remaining());
        buffer.put_slice(&self.received[..length]);
        self.received.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DialStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let chunk = &bytes[..bytes.len().min(MAX_CHUNK)];
        ready!(self.send(context, || dial_request::Kind::Data(chunk.to_vec())))?;
        Poll::Ready(Ok(chunk.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.sender.is_closed() {
            return Poll::Ready(Ok(()));
        }
        ready!(self.send(context, || dial_request::Kind::End(StdinEnd {})))?;
        self.sender.close();
        Poll::Ready(Ok(()))
    }
}

/// The messages of a dial: the port, then data.
pub(crate) fn dial_requests(
    port: u16,
    data: mpsc::Receiver<dial_request::Kind>,
) -> impl Stream<Item = DialRequest> + Send + 'static {
    let later = unfold(data, |mut data| async move { Some((data.recv().await?, data)) });
    once(async move { dial_request::Kind::Port(port.into()) }).chain(later).map(|kind| DialRequest { kind: Some(kind) })
}
