//! What the agent and its helpers say to each other: one job, descriptors with it, then replies until the end.
//!
//! A helper is this program once more, in a process of its own with one thread: making containers and entering
//! namespaces change the process that does it. The socket between the two is its standard input.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::process::{ProcessPlan, Stdio};
use super::sys;

/// Most bytes in one message: a request from the host has fewer.
const LARGEST: u32 = 64 << 20;

/// What a helper shall do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) enum Job {
    /// Make a container by the runtime, up to the point where its program is started.
    Create {
        /// Folder with config.json.
        bundle: PathBuf,
        /// Where the runtime keeps its state.
        state: PathBuf,
        /// The runtime's name for it.
        key: String,
        process: ProcessPlan,
    },
    /// Run a further program in a container.
    Exec {
        /// First process of the container.
        init: i32,
        /// Its cgroup.procs.
        cgroup: PathBuf,
        process: ProcessPlan,
    },
}

impl Job {
    /// Whether the process gets the standard streams that come with the job.
    pub(super) fn takes_stdio(&self) -> bool {
        match self {
            Self::Create { process, .. } | Self::Exec { process, .. } => !process.tty,
        }
    }
}

/// What a helper has to say. Several may come, the end of the stream is the last word.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The process, as the agent counts processes.
    Process(i32),
    /// A descriptor follows: the host's end of the process's terminal.
    Terminal,
    /// Why the process cannot run.
    Refused(String),
}

/// Writes one message, in one piece: the two processes of a helper write to the same socket.
pub(super) fn send(mut socket: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(body);
    socket.write_all(&bytes)
}

/// Reads one message; none at the end.
pub(super) fn receive<T: DeserializeOwned>(mut socket: &UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match socket.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length);
    if length > LARGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message of a helper is too long"));
    }
    let mut body = Vec::new();
    socket.take(u64::from(length)).read_to_end(&mut body)?;
    Ok(Some(serde_json::from_slice(&body)?))
}

/// Sends a job and the streams that its process gets.
pub(super) fn send_job(socket: &UnixStream, job: &Job, stdio: Option<&Stdio>) -> io::Result<()> {
    send(socket, job)?;
    if let Some(stdio) = stdio {
        let streams = [stdio.stdin.as_fd(), stdio.stdout.as_fd(), stdio.stderr.as_fd()];
        sys::send_descriptors(socket.as_fd(), &streams)?;
    }
    Ok(())
}

/// Receives a job with its streams; none when there is no agent any more.
pub(super) fn receive_job(socket: &UnixStream) -> io::Result<Option<(Job, Option<Stdio>)>> {
    let Some(job) = receive::<Job>(socket)? else { return Ok(None) };
    if !job.takes_stdio() {
        return Ok(Some((job, None)));
    }
    let mut streams = sys::receive_descriptors(socket.as_fd(), 3)?.into_iter();
    let mut next = || streams.next().expect("exactly three descriptors were received");
    let stdio = Stdio { stdin: next(), stdout: next(), stderr: next() };
    Ok(Some((job, Some(stdio))))
}

/// Hands over a terminal.
pub(super) fn send_terminal(socket: &UnixStream, terminal: BorrowedFd<'_>) -> io::Result<()> {
    send(socket, &Reply::Terminal)?;
    Ok(sys::send_descriptors(socket.as_fd(), &[terminal])?)
}

/// Takes the terminal that a [`Reply::Terminal`] announced.
pub(super) fn receive_terminal(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut received = sys::receive_descriptors(socket.as_fd(), 1)?;
    Ok(received.pop().expect("exactly one descriptor was received"))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::{Reply, receive, receive_terminal, send, send_terminal};

    #[test]
    fn messages_and_descriptors_keep_their_order() {
        let (agent, helper) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writing = thread::spawn(move || {
            send(&helper, &Reply::Process(7)).unwrap();
            send_terminal(&helper, writer.as_fd()).unwrap();
            send(&helper, &Reply::Refused("x".repeat(1 << 20))).unwrap();
        });
        assert_eq!(receive(&agent).unwrap(), Some(Reply::Process(7)));
        assert_eq!(receive(&agent).unwrap(), Some(Reply::Terminal));
        let mut received = File::from(receive_terminal(&agent).unwrap());
        received.write_all(b"through").unwrap();
        drop(received);
        assert_eq!(receive(&agent).unwrap(), Some(Reply::Refused("x".repeat(1 << 20))));
        assert_eq!(receive::<Reply>(&agent).unwrap(), None);
        writing.join().unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
    }
}
