//! The program's side of the jail: takes the order, locks itself in, becomes QEMU.
//!
//! It runs before any thread, as the first process of a PID namespace. When a step fails it says which over the socket
//! and ends.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, dup2_stdin, execve, pivot_root, setgroups, setresgid, setresuid, setsid};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use super::order::{Access, Bind, MOST, Order, with_numbers};

/// Most files that come with an order.
const MOST_FILES: usize = 16;

/// Most files that QEMU may have open.
const OPEN_FILES: u64 = 4096;

/// The step that failed, and why.
struct Failure {
    step: String,
    error: io::Error,
}

type Step<T> = Result<T, Failure>;

/// Locks this process in and becomes the program of the order on standard input. Returns only when that fails.
#[must_use]
pub fn main() -> ExitCode {
    let failed = ExitCode::from(126);
    let Ok(socket) = io::stdin().as_fd().try_clone_to_owned() else { return failed };
    let mut socket = UnixStream::from(socket);
    let Err(Failure { step, error }) = enter(&mut socket);
    // Nobody is left to be told when the daemon has ended.
    drop(socket.write_all(format!("failed to {step}: {error}").as_bytes()));
    failed
}

fn at<T, E: Into<io::Error>>(step: impl Into<String>, outcome: Result<T, E>) -> Step<T> {
    outcome.map_err(|error| Failure { step: step.into(), error: error.into() })
}

fn enter(socket: &mut UnixStream) -> Step<Infallible> {
    let (order, files) = at("read the order", receive(socket))?;
    at("close standard input", close_input())?;
    for entrance in &order.cgroup_entrances {
        at(format!("join the control group by {}", entrance.display()), fs::write(entrance, "0"))?;
    }
    // It leads a session already when it was started by a terminal's shell for a try.
    let _ = setsid();
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    at("make namespaces", unshare(namespaces))?;
    enter_root(&order)?;
    give_up_privileges(order.user)?;
    become_program(&order, &files)
}

/// Reads the order to its end, and the files that come with its first bytes.
fn receive(socket: &mut UnixStream) -> io::Result<(Order, Vec<OwnedFd>)> {
    let mut text = vec![0; MOST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FILES))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(&*socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    text.truncate(received.bytes);
    let mut files = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            files.extend(received);
        }
    }
    socket.take(MOST as u64).read_to_end(&mut text)?;
    Ok((serde_json::from_slice(&text)?, files))
}

/// Standard input is the socket; what we become gets nothing instead.
fn close_input() -> io::Result<()> {
    Ok(dup2_stdin(fs::File::open("/dev/null")?)?)
}

fn enter_root(order: &Order) -> Step<()> {
    let (none, root) = (None::<&str>, &order.root);
    at("make mounts private", mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))?;
    let locked = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    at("mount the new root", mount(Some("jail"), root, Some("tmpfs"), locked, Some("mode=0755,size=1m")))?;
    for folder in ["proc", "tmp"] {
        at("make folders", fs::create_dir(root.join(folder)))?;
    }
    for bind in &order.binds {
        at(format!("mount {}", bind.from.display()), show(bind, root))?;
    }
    at("follow the links of the host's root", copy_links(root))?;
    at("enter the new root", chdir(root))?;
    at("change the root", pivot_root(".", "."))?;
    at("leave the old root", umount2(".", MntFlags::MNT_DETACH))?;
    at("enter the new root", chdir("/"))?;
    let read_only = locked | MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    at("close the new root", mount(none, "/", none, read_only, none))
}

fn show(bind: &Bind, root: &Path) -> io::Result<()> {
    let none = None::<&str>;
    let target = root.join(bind.to.strip_prefix("/").unwrap_or(&bind.to));
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if fs::metadata(&bind.from)?.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        fs::File::create(&target)?;
    }
    mount(Some(&bind.from), &target, none, MsFlags::MS_BIND, none)?;
    let access = match bind.access {
        Access::ReadOnly => MsFlags::MS_RDONLY | MsFlags::MS_NODEV,
        Access::ReadWrite => MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Access::Device => MsFlags::MS_NOEXEC,
    };
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | access;
    Ok(mount(none, &target, none, flags, none)?)
}

/// On most machines /lib and its like are links into /usr, which is mounted.
fn copy_links(root: &Path) -> io::Result<()> {
    for name in ["bin", "lib", "lib32", "lib64"] {
        if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
            std::os::unix::fs::symlink(target, root.join(name))?;
        }
    }
    Ok(())
}

fn give_up_privileges(user: u32) -> Step<()> {
    at("forbid core dumps", setrlimit(Resource::RLIMIT_CORE, 0, 0))?;
    at("limit open files", setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES))?;
    umask(Mode::from_bits_truncate(0o077));
    let capabilities = |set| caps::clear(None, set).map_err(io::Error::other);
    at("drop capabilities", capabilities(caps::CapSet::Ambient))?;
    at("drop capabilities", capabilities(caps::CapSet::Bounding))?;
    let (uid, gid) = (Uid::from_raw(user), Gid::from_raw(user));
    at("leave all groups", setgroups(&[]))?;
    at("change the group", setresgid(gid, gid, gid))?;
    at("change the user", setresuid(uid, uid, uid))?;
    at("forbid new privileges", prctl::set_no_new_privs())
}

fn become_program(order: &Order, files: &[OwnedFd]) -> Step<Infallible> {
    for file in files {
        at("keep files open", fcntl(file, FcntlArg::F_SETFD(FdFlag::empty())))?;
    }
    let numbers: Vec<i32> = files.iter().map(AsRawFd::as_raw_fd).collect();
    let words = with_numbers(&order.command, &numbers).into_iter().map(CString::new);
    let words: Vec<CString> = at("read the command", words.collect::<Result<_, _>>().map_err(io::Error::from))?;
    let Some(program) = words.first() else {
        return at("read the command", Err(io::Error::from(io::ErrorKind::InvalidInput)));
    };
    let environment: [&std::ffi::CStr; 0] = [];
    at(format!("start {}", program.to_string_lossy()), execve(program, &words, &environment))
}
