//! The system calls of containers that no crate wraps safely.
#![expect(unsafe_code, reason = "fork, terminal ioctls, seccomp, eBPF, received descriptors")]

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use monopod_agent_proto::v1::TerminalSize;
use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::{ForkResult, Pid};
use seccompiler::BpfProgram;
use tokio::io::unix::AsyncFd;

use super::devices::Instruction;

/// Most descriptors in one message.
const MOST_DESCRIPTORS: usize = 3;

mod ioctls {
    //! Requests to a terminal.
    use nix::libc;
    use nix::pty::Winsize;
    use nix::{ioctl_write_int_bad, ioctl_write_ptr_bad};

    ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);
    ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, Winsize);
}

/// Makes a copy of this process, which must have one thread: helpers have, the agent has not.
pub(crate) fn fork_single_threaded() -> nix::Result<ForkResult> {
    // SAFETY: the caller has one thread, so that no lock can be left taken in the child.
    unsafe { nix::unistd::fork() }
}

/// Makes a terminal the one that controls this session.
pub(crate) fn take_terminal(terminal: BorrowedFd<'_>) -> nix::Result<()> {
    // SAFETY: the descriptor is open, and the request takes a number.
    unsafe { ioctls::tiocsctty(terminal.as_raw_fd(), 0) }.map(drop)
}

/// Tells a terminal its size.
pub(crate) fn resize(terminal: BorrowedFd<'_>, size: TerminalSize) -> nix::Result<()> {
    let bounded = |cells: u32| u16::try_from(cells).unwrap_or(u16::MAX);
    let size = Winsize { ws_row: bounded(size.rows), ws_col: bounded(size.columns), ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptor is open, and the kernel reads one `Winsize`.
    unsafe { ioctls::tiocswinsz(terminal.as_raw_fd(), &raw const size) }.map(drop)
}

/// Installs one seccomp program for this process. Needs CAP_SYS_ADMIN or no_new_privs.
pub(crate) fn install_filter(program: &BpfProgram) -> nix::Result<()> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| Errno::EINVAL)?;
    // The kernel only reads the instructions; the field is not const for historical reasons.
    let filter = program.as_ptr().cast::<libc::sock_filter>().cast_mut();
    let program = libc::sock_fprog { len: length, filter };
    // SAFETY: `sock_filter` of both crates is the kernel's, the pointer is to `len` of them, and both outlive the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    Errno::result(result).map(drop)
}

/// Gives a program the signals as it expects them: Rust's start-up ignores SIGPIPE, and that would be inherited.
pub(crate) fn default_broken_pipe() -> nix::Result<()> {
    // SAFETY: no handler is installed that would have to be safe to run in a signal.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.map(drop)
}

/// Lets the kernel reap this process's children.
pub(crate) fn forget_children() -> nix::Result<()> {
    // SAFETY: as above.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.map(drop)
}

/// Sends descriptors over a Unix socket, with one byte to carry them.
pub(crate) fn send_descriptors(socket: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> nix::Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&[0])], &rights, MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

/// Receives descriptors, exactly as many as asked for.
pub(crate) fn receive_descriptors(socket: BorrowedFd<'_>, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; MOST_DESCRIPTORS]);
    let mut received = Vec::new();
    let mut buffers = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut buffers, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control {
            // SAFETY: the kernel has just made these descriptors for us, and nobody else knows them.
            received.extend(descriptors.into_iter().map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }));
        }
    }
    if received.len() == count {
        Ok(received)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("received {} descriptors for {count}", received.len())))
    }
}

/// Sends a signal by its number, of which real-time signals have no name.
pub(crate) fn kill(pid: Pid, signal: i32) -> nix::Result<()> {
    // SAFETY: takes two numbers and touches no memory of ours.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// Has the runtime watch a descriptor that does not block.
pub(crate) fn register(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` always gives the same descriptor, and keeps it open as long as it lives.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}

/// Has the kernel ask a program whenever a process of a cgroup opens or makes a device.
pub(crate) fn attach_device_program(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> nix::Result<()> {
    /// As `union bpf_attr` for BPF_PROG_LOAD; what follows in there may be left out.
    #[repr(C)]
    struct Load {
        program_type: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buffer: u64,
        kernel_version: u32,
        flags: u32,
    }
    /// The same for BPF_PROG_ATTACH.
    #[repr(C)]
    struct Attach {
        target: RawFd,
        program: RawFd,
        attach_type: u32,
        flags: u32,
    }
    const PROG_LOAD: libc::c_int = 5;
    const PROG_ATTACH: libc::c_int = 8;
    const CGROUP_DEVICE_PROGRAM: u32 = 15;
    const CGROUP_DEVICE: u32 = 6;

    let load = Load {
        program_type: CGROUP_DEVICE_PROGRAM,
        count: u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?,
        instructions: program.as_ptr().addr() as u64,
        license: c"Apache-2.0".as_ptr().addr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the kernel reads `Load`, and through it `count` instructions and a terminated text, which live on.
    let loaded = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const load, size_of::<Load>()) };
    let loaded = RawFd::try_from(Errno::result(loaded)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let loaded = unsafe { OwnedFd::from_raw_fd(loaded) };
    let attach =
        Attach { target: cgroup.as_raw_fd(), program: loaded.as_raw_fd(), attach_type: CGROUP_DEVICE, flags: 0 };
    // SAFETY: the kernel reads `Attach`, which names two open descriptors.
    let attached = unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attach, size_of::<Attach>()) };
    Errno::result(attached).map(drop)
}
