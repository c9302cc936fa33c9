//! The daemon's side of the jail: starts the program and hands it its order.

use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::thread;

use monopod_vmm::VmError;
use nix::sched::{CloneFlags, unshare};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt;

use super::order::{MOST, Order};
use crate::config::JailCommand;

/// Most files that go with an order.
const MOST_FILES: usize = 16;

/// A process on its way into the jail.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    socket: UnixStream,
}

/// Starts a process that carries out the order. `log` takes what it says on its standard error.
pub(crate) fn launch(
    command: &JailCommand,
    order: &Order,
    files: &[BorrowedFd<'_>],
    log: File,
) -> Result<Launched, VmError> {
    let name = || VmError::host(format!("start {}", command.program.display()));
    let (socket, theirs) = UnixStream::pair().map_err(name())?;
    let mut child = Command::new(&command.program);
    child.args(&command.arguments).env_clear().current_dir("/");
    child.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(log);
    let mut child = first_of_namespace(child).map_err(name())?;
    if let Err(error) = hand_over(&socket, order, files) {
        drop(child.kill());
        drop(child.wait());
        return Err(VmError::host("hand over to the jail")(error));
    }
    Ok(Launched { child, socket })
}

/// Starts a command as the first process of a new PID namespace. The namespace belongs to the thread that asks for it,
/// so that is one of its own, and the rest of the daemon never sees it.
fn first_of_namespace(mut command: Command) -> io::Result<Child> {
    let start = move || {
        unshare(CloneFlags::CLONE_NEWPID)?;
        command.spawn()
    };
    let thread = thread::Builder::new().name("jail".to_owned()).stack_size(128 << 10).spawn(start)?;
    thread.join().map_err(|_| io::Error::other("the thread that starts it failed"))?
}

fn hand_over(socket: &UnixStream, order: &Order, files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let text = serde_json::to_vec(order)?;
    if text.len() > MOST || files.len() > MOST_FILES {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() {
        ancillary.push(SendAncillaryMessage::ScmRights(files));
    }
    let sent = sendmsg(socket, &[IoSlice::new(&text)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent != text.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    socket.shutdown(std::net::Shutdown::Write)
}

impl Launched {
    /// Waits until it has become the program of the order.
    pub(crate) async fn entered(socket: UnixStream) -> Result<(), VmError> {
        let name = "hear from the jail";
        socket.set_nonblocking(true).map_err(VmError::host(name))?;
        let socket = tokio::net::UnixStream::from_std(socket).map_err(VmError::host(name))?;
        let mut complaint = String::new();
        let read = socket.take(4096).read_to_string(&mut complaint).await;
        read.map_err(VmError::host(name))?;
        if complaint.is_empty() { Ok(()) } else { Err(VmError::Jail { what: complaint }) }
    }

    pub(crate) fn into_parts(self) -> (Child, UnixStream) {
        (self.child, self.socket)
    }
}
