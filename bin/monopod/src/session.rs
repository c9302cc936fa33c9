//! A terminal session with a program in a Pod: what goes in, what comes out, and the terminal in between.
//!
//! `exec` and `attach` differ in their messages only; both are translated from and to the types here.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::os::fd::AsFd;

use futures_util::{Stream, StreamExt};
use monopod_host_proto::MAX_CHUNK;
use monopod_host_proto::v1::TerminalSize;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::Exit;
use crate::failure::Failure;

/// What we send after the first message.
pub(crate) enum Outgoing {
    Stdin(Vec<u8>),
    StdinEnd,
    Resize(TerminalSize),
}

/// What we are sent.
pub(crate) enum Incoming {
    Started {
        tty: bool,
    },
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exit {
        code: i32,
        error: String,
    },
    /// A message of a newer daemon.
    Unknown,
}

/// What of our terminal takes part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) stdin: bool,
    pub(crate) tty: bool,
}

/// The terminal as it was, put back when the session ends.
struct RawMode(Termios);

impl RawMode {
    /// Hands every key to the program. `None` where standard input is no terminal.
    fn enter() -> Option<Self> {
        if !stdin().is_terminal() {
            return None;
        }
        let before = tcgetattr(stdin().as_fd()).ok()?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = tcsetattr(stdin().as_fd(), SetArg::TCSANOW, &self.0);
    }
}

/// Size of our terminal, when there is one.
pub(crate) fn size() -> Option<TerminalSize> {
    let (columns, rows) = crate::terminal::size()?;
    Some(TerminalSize { columns: u32::from(columns), rows: u32::from(rows) })
}

/// Input and changes of size, for as long as the session lasts.
pub(crate) fn outgoing(terminal: Terminal) -> impl Stream<Item = Outgoing> + Send + 'static {
    let (sender, receiver) = mpsc::channel(4);
    if terminal.stdin {
        tokio::spawn(send_input(sender.clone()));
    }
    if terminal.tty {
        tokio::spawn(send_sizes(sender.clone()));
    }
    // Without either the stream must stay open all the same: its end would end the session.
    tokio::spawn(async move { sender.closed().await });
    ReceiverStream::new(receiver)
}

async fn send_input(sender: mpsc::Sender<Outgoing>) {
    let mut input = tokio::io::stdin();
    let mut buffer = vec![0; MAX_CHUNK / 2];
    loop {
        let read = input.read(&mut buffer).await.unwrap_or(0);
        let message = if read == 0 { Outgoing::StdinEnd } else { Outgoing::Stdin(buffer[..read].to_vec()) };
        if sender.send(message).await.is_err() || read == 0 {
            return;
        }
    }
}

async fn send_sizes(sender: mpsc::Sender<Outgoing>) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return };
    while changes.recv().await.is_some() {
        let Some(size) = size() else { return };
        if sender.send(Outgoing::Resize(size)).await.is_err() {
            return;
        }
    }
}

/// Writes what comes until the program has ended, and says with what.
pub(crate) async fn run(
    terminal: Terminal,
    mut incoming: impl Stream<Item = Result<Incoming, tonic::Status>> + Unpin,
) -> Result<Exit, Failure> {
    let mut raw = None;
    while let Some(message) = incoming.next().await {
        match message? {
            Incoming::Started { tty } => {
                if terminal.stdin && terminal.tty && tty {
                    raw = RawMode::enter();
                }
            }
            Incoming::Stdout(data) => write(&mut stdout().lock(), &data)?,
            Incoming::Stderr(data) => write(&mut std::io::stderr().lock(), &data)?,
            Incoming::Exit { code, error } => {
                drop(raw);
                if error.is_empty() {
                    return Ok(Exit::of_program(code));
                }
                crate::terminal::error(&Failure::Input(error));
                return Ok(Exit::of_program(if code == 0 { 126 } else { code }));
            }
            Incoming::Unknown => {}
        }
    }
    Err(Failure::Answer("a session without an end"))
}

fn write(output: &mut dyn Write, data: &[u8]) -> Result<(), Failure> {
    let written = output.write_all(data).and_then(|()| output.flush());
    written.map_err(|source| Failure::Io { action: "failed to write the output".to_owned(), source })
}
