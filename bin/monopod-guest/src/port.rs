//! The virtio-serial port to the host: found by name, opened once, read and written without blocking.
//!
//! The port says EOF while the host has it closed, and it says so for ever: what is watched are changes (edge-triggered),
//! through an epoll instance of our own for each direction. Tokio alone would take the first hang-up for the last.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::sys::{self, Changes};

/// The open port.
#[derive(Debug)]
pub(crate) struct Port {
    file: File,
    /// The reader knows that the host has hung up.
    end_told: bool,
    readable: AsyncFd<Changes>,
    writable: AsyncFd<Changes>,
}

/// The device node of the port with that name, if the machine has one.
pub(crate) fn find(name: &str) -> io::Result<Option<PathBuf>> {
    let ports = Path::new("/sys/class/virtio-ports");
    let entries = match std::fs::read_dir(ports) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let found = std::fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            return Ok(Some(Path::new("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

impl Port {
    /// Opens the port. Once in a life: what lies in its buffers is lost when it is opened again.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
        let readable = changes(&file, EpollFlags::EPOLLIN)?;
        let writable = changes(&file, EpollFlags::EPOLLOUT)?;
        Ok(Self { file, end_told: false, readable, writable })
    }

    /// Whether the host has the port closed.
    fn hung_up(&self) -> bool {
        let mut asked = [PollFd::new(self.file.as_fd(), PollFlags::empty())];
        poll(&mut asked, PollTimeout::ZERO).is_ok()
            && asked[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

/// Becomes readable with each change of the port; [`wait`] takes the change in.
fn changes(file: &File, interest: EpollFlags) -> io::Result<AsyncFd<Changes>> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(file, EpollEvent::new(interest | EpollFlags::EPOLLET, 0))?;
    sys::watch_changes(Changes(epoll))
}

/// Resolves after the next change.
fn wait(changes: &AsyncFd<Changes>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    loop {
        let mut guard = ready!(changes.poll_read_ready(context))?;
        let count = guard.get_inner().0.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO)?;
        if count > 0 {
            return Poll::Ready(Ok(()));
        }
        guard.clear_ready();
    }
}

impl AsyncRead for Port {
    /// Reads nothing (EOF) once for each time that the host hangs up, then waits for it to come back.
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match (&self.file).read(buffer.initialize_unfilled()) {
                Ok(0) if self.end_told => ready!(wait(&self.readable, context))?,
                Ok(count) => {
                    self.end_told = count == 0;
                    buffer.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.end_told = false;
                    ready!(wait(&self.readable, context))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match (&self.file).write(data) {
                Ok(count) => return Poll::Ready(Ok(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.hung_up() {
                        return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                    }
                    ready!(wait(&self.writable, context))?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
