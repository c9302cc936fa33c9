//! The agent's side of a helper: starts one, gives it a job, hears it out.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio as Stream};
use std::time::Duration;

use nix::libc;
use nix::unistd::Pid;

use super::control::{self, Job, Reply};
use super::helper;
use super::process::Stdio;
use super::sys;
use crate::reaper::Reaper;

/// This very program, wherever it is.
const PROGRAM: &str = "/proc/self/exe";
/// How long a helper may be silent.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came of a job.
#[derive(Debug)]
pub(super) enum Launched {
    /// There is a process.
    Running {
        pid: Pid,
        /// The host's end of its terminal, where it has one.
        terminal: Option<OwnedFd>,
    },
    /// There is none, and this is why.
    Refused(String),
}

/// Runs a job. Blocks until the process is there; for a thread that may.
pub(super) fn run(reaper: &Reaper, job: &Job, stdio: Option<&Stdio>) -> io::Result<Launched> {
    let (socket, helper) = start(reaper, helper::HELPER)?;
    let launched = hear_out(reaper, &socket, job, stdio);
    if launched.is_err() {
        // One that does not answer is not left to itself. It may have ended by now.
        let _ = sys::kill(helper, libc::SIGKILL);
    }
    launched
}

fn hear_out(reaper: &Reaper, socket: &UnixStream, job: &Job, stdio: Option<&Stdio>) -> io::Result<Launched> {
    control::send_job(socket, job, stdio)?;
    let mut terminal = None;
    let mut pid = None;
    while let Some(reply) = control::receive(socket)? {
        match reply {
            Reply::Process(number) => pid = Some(Pid::from_raw(number)),
            Reply::Terminal => terminal = Some(control::receive_terminal(socket)?),
            Reply::Refused(text) => {
                // What was begun ends by itself; nobody else asks how.
                pid.into_iter().for_each(|pid| drop(reaper.watch(pid)));
                return Ok(Launched::Refused(text));
            }
        }
        // A container's process holds its end of the socket until it is started, so there is no end to wait for.
        if pid.is_some() && matches!(job, Job::Create { .. }) {
            break;
        }
    }
    let gone = || io::Error::new(io::ErrorKind::UnexpectedEof, "the helper ended without a word");
    Ok(Launched::Running { pid: pid.ok_or_else(gone)?, terminal })
}

/// Starts the process that holds the process namespace of all containers.
pub(super) fn pause(reaper: &Reaper) -> io::Result<Pid> {
    let (socket, _helper) = start(reaper, helper::PAUSE)?;
    match control::receive(&socket)? {
        Some(Reply::Process(number)) => Ok(Pid::from_raw(number)),
        Some(Reply::Refused(text)) => Err(io::Error::other(text)),
        Some(Reply::Terminal) | None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn start(reaper: &Reaper, name: &str) -> io::Result<(UnixStream, Pid)> {
    let (ours, theirs) = UnixStream::pair()?;
    ours.set_read_timeout(Some(PATIENCE))?;
    ours.set_write_timeout(Some(PATIENCE))?;
    let child = Command::new(PROGRAM).arg0(name).env_clear().stdin(Stream::from(OwnedFd::from(theirs))).spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    // Claims its end, so that it is not kept for somebody who asks later.
    drop(reaper.watch(pid));
    Ok((ours, pid))
}
