//! The seam below the client: something that opens byte streams to one guest.

use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// A byte stream both ways.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> ByteStream for S {}

impl fmt::Debug for dyn ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByteStream")
    }
}

/// Opens byte streams to the agent of one guest, one at a time: the client closes the earlier one first.
#[async_trait]
pub trait AgentTransport: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream.
    ///
    /// # Errors
    /// When there is nothing to connect to, now or for good.
    async fn connect(&self) -> io::Result<Box<dyn ByteStream>>;
}

/// A Unix socket, such as QEMU's end of a virtio-serial port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketTransport {
    path: PathBuf,
}

impl SocketTransport {
    /// Connects to the socket at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }
}

#[async_trait]
impl AgentTransport for SocketTransport {
    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new(UnixStream::connect(&self.path).await?))
    }
}

/// What a function opens, such as `Vm::connect`.
pub struct FnTransport<F> {
    open: F,
}

impl<F> FnTransport<F> {
    /// Connects by calling a function.
    pub fn new(open: F) -> Self {
        Self { open }
    }
}

impl<F> fmt::Debug for FnTransport<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnTransport").finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, S> AgentTransport for FnTransport<F>
where
    F: Fn() -> Pin<Box<dyn Future<Output = io::Result<S>> + Send>> + Send + Sync + 'static,
    S: ByteStream,
{
    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        Ok(Box::new((self.open)().await?))
    }
}

/// A pipe in memory: each connection arrives as a stream at the receiver that was made with it.
#[derive(Debug)]
pub struct PipeTransport {
    guest: mpsc::Sender<DuplexStream>,
}

impl PipeTransport {
    /// Bytes that a pipe holds in each direction.
    const CAPACITY: usize = 64 << 10;

    /// A transport and the guest's end of what it connects.
    pub fn new() -> (Self, mpsc::Receiver<DuplexStream>) {
        let (guest, streams) = mpsc::channel(1);
        (Self { guest }, streams)
    }
}

#[async_trait]
impl AgentTransport for PipeTransport {
    async fn connect(&self) -> io::Result<Box<dyn ByteStream>> {
        let (ours, theirs) = duplex(Self::CAPACITY);
        let gone = |_| io::Error::new(io::ErrorKind::ConnectionRefused, "the guest is gone");
        self.guest.send(theirs).await.map_err(gone)?;
        Ok(Box::new(ours))
    }
}
