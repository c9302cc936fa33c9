//! The helper's side: this program started again, under another name, for one job.

mod create;
mod exec;
mod pause;

use std::error::Error;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, fcntl};

use super::control::{self, Job, Reply};

/// Name under which a helper runs.
pub(super) const HELPER: &str = "monopod-container-helper";
/// Name of the process that holds the process namespace which all containers share. People see it in `ps`.
pub(super) const PAUSE: &str = "/pause";

/// Runs the helper that this process was started as, if it is one. Called first thing, while there is one thread.
pub(super) fn main() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    if name.as_bytes() == PAUSE.as_bytes() {
        return Some(pause::run());
    }
    (name.as_bytes() == HELPER.as_bytes()).then(run)
}

fn run() -> ExitCode {
    // Standard input will be another stream in the container's process, so the socket goes elsewhere.
    let Ok(socket) = std::io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    // No copy may survive in the container, or its end would never be seen.
    if fcntl(&socket, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC)).is_err() {
        return ExitCode::FAILURE;
    }
    let outcome = match std::fs::File::open("/dev/null").map(nix::unistd::dup2_stdin) {
        Ok(Ok(())) => serve(&socket),
        Ok(Err(error)) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            // With the agent gone there is nobody to tell.
            let _ = control::send(&socket, &Reply::Refused(text));
            ExitCode::FAILURE
        }
    }
}

fn serve(socket: &UnixStream) -> Result<(), String> {
    let Some((job, stdio)) = control::receive_job(socket).map_err(|error| chain(&error))? else { return Ok(()) };
    match job {
        Job::Create { bundle, state, key, process } => create::run(socket, &bundle, &state, &key, process, stdio),
        Job::Exec { init, cgroup, process } => exec::run(socket, init, &cgroup, &process, stdio.as_ref()),
    }
}

/// An error with all its causes, as one line. A cause that the text before it ends with already is not repeated.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
