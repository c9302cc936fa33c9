//! Holds the process namespace that all containers of a Pod share, and takes in its orphans.
//!
//! It is process 1 of that namespace, so containers see it: it keeps no power, no files and nothing of the machine in
//! sight that they could reach through it.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::{ForkResult, Gid, Uid, chdir, pivot_root, setgroups, setresgid, setresuid, setsid};

use crate::containers::control::{self, Reply};
use crate::containers::lookup::describe;
use crate::containers::sys;

/// User and group that can do nothing.
const NOBODY: u32 = 65_535;
/// A folder that is there in every guest, to mount an empty root on.
const ANCHOR: &str = "/tmp";

pub(super) fn run() -> ExitCode {
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    match hold(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn hold(socket: UnixStream) -> nix::Result<()> {
    if let Err(error) = unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS) {
        // With the agent gone there is nobody to tell.
        let _ = control::send(&socket, &Reply::Refused(describe(error)));
        return Err(error);
    }
    match sys::fork_single_threaded()? {
        ForkResult::Parent { child } => {
            control::send(&socket, &Reply::Process(child.as_raw())).map_err(|_| nix::errno::Errno::EPIPE)
        }
        ForkResult::Child => {
            drop(socket);
            seclude()?;
            sys::forget_children()?;
            close_streams()?;
            loop {
                nix::unistd::pause();
            }
        }
    }
}

fn seclude() -> nix::Result<()> {
    setsid()?;
    let none: Option<&Path> = None;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), ANCHOR, Some("tmpfs"), flags, Some("size=4k,mode=0555"))?;
    chdir(ANCHOR)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    let clear = |set| caps::clear(None, set).map_err(|_| nix::errno::Errno::EPERM);
    for capability in caps::all() {
        // One that this kernel does not have cannot be dropped, nor used.
        let _ = caps::drop(None, caps::CapSet::Bounding, capability);
    }
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    clear(caps::CapSet::Permitted)?;
    prctl::set_no_new_privs()?;
    prctl::set_dumpable(false)?;
    prctl::set_name(c"pause")
}

fn close_streams() -> nix::Result<()> {
    // The root is empty, so there is no /dev/null to put in their place; the socket's end is the agent's sign to go on.
    nix::unistd::close(0)?;
    nix::unistd::close(1)?;
    nix::unistd::close(2)
}
