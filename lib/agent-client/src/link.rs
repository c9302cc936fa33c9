//! One byte stream under one HTTP/2 connection, which the client can cut at any time.
//!
//! HTTP/2 owns the [`LinkStream`] end, the connection keeps the [`Link`]: closing it drops the transport's stream at once,
//! whatever calls and streams still hold on to the HTTP/2 connection. So a new connection never waits for an old one.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::meter::FrameMeter;
use crate::transport::ByteStream;

/// The client's hold on a byte stream.
#[derive(Debug)]
pub(crate) struct Link {
    state: Mutex<State>,
}

/// HTTP/2's end of a link.
#[derive(Debug)]
pub(crate) struct LinkStream(Arc<Link>);

#[derive(Debug)]
struct State {
    stream: Option<Box<dyn ByteStream>>,
    /// What was read of HTTP/2 during the handshake.
    rest: Bytes,
    meter: FrameMeter,
    flooded: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Link {
    /// Takes a stream behind its handshake.
    pub(crate) fn new(stream: Box<dyn ByteStream>, rest: Bytes) -> (Arc<Self>, LinkStream) {
        let now = Instant::now();
        let mut meter = FrameMeter::new(now);
        // A handful of bytes cannot be a flood.
        let flooded = !meter.read(&rest, now);
        let state = State { stream: Some(stream), rest, meter, flooded, reader: None, writer: None };
        let link = Arc::new(Self { state: Mutex::new(state) });
        (Arc::clone(&link), LinkStream(link))
    }

    /// Drops the stream; everything above it ends with an error.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        let stream = state.stream.take();
        let wakers = [state.reader.take(), state.writer.take()];
        drop(state);
        drop(stream);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether the stream has ended, by whichever side.
    pub(crate) fn is_closed(&self) -> bool {
        self.state().stream.is_none()
    }

    /// Whether the guest has sent more frames than it may.
    pub(crate) fn is_flooded(&self) -> bool {
        self.state().flooded
    }

    /// Notes that the caller has taken a message.
    pub(crate) fn delivered(&self) {
        self.state().meter.delivered();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves nothing half-done here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.rest.has_remaining() {
            let length = self.rest.len().min(buffer.remaining());
            buffer.put_slice(&self.rest.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(())) };
        let before = buffer.filled().len();
        if Pin::new(stream).poll_read(context, buffer)?.is_pending() {
            self.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        if buffer.filled().len() == before && buffer.remaining() > 0 {
            self.stream = None;
        } else if !self.meter.read(&buffer.filled()[before..], Instant::now()) {
            self.flooded = true;
            self.stream = None;
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the guest sends too many frames")));
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let written = Pin::new(stream).poll_write(context, bytes);
        if written.is_pending() {
            self.writer = Some(context.waker().clone());
        }
        let written = ready!(written)?;
        self.meter.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        let flushed = Pin::new(stream).poll_flush(context);
        if flushed.is_pending() {
            self.writer = Some(context.waker().clone());
        }
        flushed
    }
}

impl AsyncRead for LinkStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = self.0.state().read(context, buffer);
        if let Poll::Ready(Err(_)) = read {
            self.0.close();
        }
        read
    }
}

impl AsyncWrite for LinkStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.state().write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.state().flush(context)
    }

    /// Half-closed streams are of no use to either side: the end of writing is the end.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.close();
        Poll::Ready(Ok(()))
    }
}

impl Drop for LinkStream {
    fn drop(&mut self) {
        self.0.close();
    }
}
