//! Bytes in and out of a process: pipes or a terminal on one side, log and clients on the other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use monopod_agent_proto::v1::{Output, OutputStream, TerminalSize};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::logs::{LineSplitter, LogBuffer};
use super::process::Stdio;
use super::sys;

/// Most bytes that are read at once.
const CHUNK: usize = 16 << 10;

/// One end of a pipe or terminal, for waiting reads and writes.
#[derive(Debug)]
pub(super) struct End(AsyncFd<OwnedFd>);

impl End {
    pub(super) fn new(descriptor: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(fcntl(&descriptor, FcntlArg::F_GETFL)?);
        fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(sys::register(descriptor)?))
    }

    /// What is there to read; nothing at the end.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|end| nix::unistd::read(end.as_fd(), buffer).map_err(io::Error::from)) {
                // A terminal that nobody holds any more ends with an error instead of an end.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::EIO as i32) => return Ok(0),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            match ready.try_io(|end| nix::unistd::write(end.as_fd(), bytes).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => bytes = &bytes[result?..],
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// Tells the terminal its size.
    pub(super) fn resize(&self, size: TerminalSize) {
        if let Err(error) = sys::resize(self.0.as_fd(), size) {
            tracing::warn!(%error, "failed to resize a terminal");
        }
    }
}

/// The agent's ends of a process's streams.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) stdin: Option<Arc<End>>,
    pub(super) outputs: Vec<(OutputStream, Arc<End>)>,
    /// The terminal, which is also the one output and the input.
    pub(super) terminal: Option<Arc<End>>,
}

/// Pipes as they are made: for the process, and for the agent.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) theirs: Stdio,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Pipes {
    pub(super) fn new(with_stdin: bool) -> io::Result<Self> {
        let (stdin, ours) = if with_stdin {
            let (reader, writer) = io::pipe()?;
            (reader.into(), Some(writer.into()))
        } else {
            (std::fs::File::open("/dev/null")?.into(), None)
        };
        let (stdout, their_stdout) = io::pipe()?;
        let (stderr, their_stderr) = io::pipe()?;
        let theirs = Stdio { stdin, stdout: their_stdout.into(), stderr: their_stderr.into() };
        Ok(Self { theirs, stdin: ours, stdout: stdout.into(), stderr: stderr.into() })
    }

    /// Lets go of the process's ends, which it has by now, and keeps ours.
    pub(super) fn into_ends(self) -> io::Result<Ends> {
        let end = |descriptor| End::new(descriptor).map(Arc::new);
        Ok(Ends {
            stdin: self.stdin.map(end).transpose()?,
            outputs: vec![(OutputStream::Stdout, end(self.stdout)?), (OutputStream::Stderr, end(self.stderr)?)],
            terminal: None,
        })
    }
}

impl Ends {
    pub(super) fn of_terminal(master: OwnedFd, with_stdin: bool) -> io::Result<Self> {
        let terminal = Arc::new(End::new(master)?);
        Ok(Self {
            stdin: with_stdin.then(|| terminal.clone()),
            outputs: vec![(OutputStream::Stdout, terminal.clone())],
            terminal: Some(terminal),
        })
    }

    /// Streams of a process that never was.
    pub(super) fn none() -> Self {
        Self { stdin: None, outputs: Vec::new(), terminal: None }
    }
}

/// Clients that see a container's output as it comes.
#[derive(Debug, Default)]
pub(super) struct Fanout {
    clients: Mutex<Option<Vec<Client>>>,
}

#[derive(Clone, Debug)]
struct Client {
    stdout: bool,
    stderr: bool,
    sender: mpsc::Sender<Output>,
}

impl Fanout {
    pub(super) fn new() -> Self {
        Self { clients: Mutex::new(Some(Vec::new())) }
    }

    /// The output from now on; ends with it.
    pub(super) fn subscribe(&self, stdout: bool, stderr: bool) -> mpsc::Receiver<Output> {
        let (sender, receiver) = mpsc::channel(4);
        if let Some(clients) = self.lock().as_mut() {
            clients.push(Client { stdout, stderr, sender });
        }
        receiver
    }

    /// Gives everybody the bytes, and waits until they have them.
    async fn send(&self, stream: OutputStream, bytes: &[u8]) {
        let clients = self.lock().clone().unwrap_or_default();
        let mut gone = false;
        for client in clients {
            let wanted = match stream {
                OutputStream::Stdout => client.stdout,
                OutputStream::Stderr => client.stderr,
            };
            if wanted {
                gone |= client.sender.send(Output { stream: stream.into(), data: bytes.to_vec() }).await.is_err();
            }
        }
        if gone && let Some(clients) = self.lock().as_mut() {
            clients.retain(|client| !client.sender.is_closed());
        }
    }

    /// There will be no more.
    pub(super) fn close(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Moves one output of a container into its log and to its clients, until its end.
pub(super) async fn pump(stream: OutputStream, end: Arc<End>, logs: Arc<LogBuffer>, fanout: Arc<Fanout>) {
    let mut buffer = vec![0; CHUNK];
    let mut splitter = LineSplitter::default();
    loop {
        match end.read(&mut buffer).await {
            Ok(0) => break,
            Ok(count) => {
                fanout.send(stream, &buffer[..count]).await;
                for piece in splitter.feed(&buffer[..count]) {
                    logs.push(stream, piece, super::now()).await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "failed to read a container's output");
                break;
            }
        }
    }
    if let Some(piece) = splitter.finish() {
        logs.push(stream, piece, super::now()).await;
    }
}

/// Moves one output of a further program to its one client. Once the program has ended, what does not come within
/// `patience` is not waited for: something that it left behind may hold the pipe for ever.
pub(super) async fn forward(
    stream: OutputStream,
    end: Arc<End>,
    client: mpsc::Sender<Output>,
    mut ended: oneshot::Receiver<()>,
    patience: Duration,
) {
    let mut buffer = vec![0; CHUNK];
    let mut limit = None;
    loop {
        let read = end.read(&mut buffer);
        let count = match limit {
            Some(patience) => match tokio::time::timeout(patience, read).await {
                Ok(count) => count,
                Err(_elapsed) => return,
            },
            None => tokio::select! {
                count = read => count,
                _ = &mut ended => {
                    limit = Some(patience);
                    continue;
                }
                () = client.closed() => return,
            },
        };
        match count {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let output = Output { stream: stream.into(), data: buffer[..count].to_vec() };
                if client.send(output).await.is_err() {
                    return;
                }
            }
        }
    }
}
