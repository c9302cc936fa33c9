//! Mounts and unmounts in a process of its own, because a network file system may keep it waiting for as long as its
//! server likes, and a process can be killed where a thread cannot.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::reaper::{Ended, Reaper};

/// What this program is called as a helper.
const MOUNT: &str = "monopod-mount";
const UNMOUNT: &str = "monopod-unmount";
/// Of the helper, when its arguments make no sense. No error number of Linux is so high.
const NONSENSE: u8 = 255;

/// One call of mount(2).
#[derive(Debug)]
pub(super) struct Mount<'a> {
    pub(super) source: &'a str,
    pub(super) target: &'a Path,
    pub(super) kind: &'a str,
    pub(super) flags: MsFlags,
    pub(super) data: &'a str,
}

/// How a helper failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HelperError {
    #[error("failed to start the helper that mounts")]
    Start(#[source] io::Error),
    #[error("no answer within {} s", .0.as_secs())]
    Late(Duration),
    #[error("the helper that mounts ended with {0}")]
    Broken(i32),
    #[error(transparent)]
    Refused(Errno),
}

/// Runs the helper if the process was started as one.
pub(crate) fn helper_main() -> Option<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first()?.to_str()?;
    let texts: Vec<&str> = arguments.iter().skip(1).filter_map(|argument| argument.to_str()).collect();
    let outcome = match (name, texts.as_slice()) {
        (MOUNT, [source, target, kind, flags, data]) => {
            let flags = MsFlags::from_bits_retain(flags.parse().ok()?);
            mount(Some(*source), *target, Some(*kind), flags, Some(*data))
        }
        (UNMOUNT, [target]) => umount2(*target, MntFlags::MNT_FORCE),
        (MOUNT | UNMOUNT, _) => return Some(ExitCode::from(NONSENSE)),
        _ => return None,
    };
    let code = outcome.map_or_else(|error| u8::try_from(error as i32).unwrap_or(NONSENSE), |()| 0);
    Some(ExitCode::from(code))
}

impl Mount<'_> {
    /// Mounts, or gives up after `limit`.
    pub(super) async fn run(&self, reaper: &Reaper, limit: Duration) -> Result<(), HelperError> {
        let mut command = helper(MOUNT);
        let flags = self.flags.bits().to_string();
        command.arg(self.source).arg(self.target).args([self.kind, &flags, self.data]);
        run(command, reaper, limit).await
    }
}

/// Unmounts a network file system, or gives up after `limit`.
pub(crate) async fn unmount(target: &Path, reaper: &Reaper, limit: Duration) -> Result<(), HelperError> {
    let mut command = helper(UNMOUNT);
    command.arg(target);
    run(command, reaper, limit).await
}

fn helper(name: &str) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).env_clear().stdin(Stdio::null());
    command
}

async fn run(mut command: Command, reaper: &Reaper, limit: Duration) -> Result<(), HelperError> {
    let child = command.spawn().map_err(HelperError::Start)?;
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive"));
    let ended = reaper.watch(pid);
    match tokio::time::timeout(limit, ended).await {
        Ok(Ended::Exited(0)) => Ok(()),
        Ok(Ended::Exited(code)) if code != i32::from(NONSENSE) => Err(HelperError::Refused(Errno::from_raw(code))),
        Ok(ended) => Err(HelperError::Broken(ended.code())),
        Err(_) => {
            // It waits in the kernel, where only this ends it; the reaper takes it in whenever that is.
            let _ = kill(pid, Signal::SIGKILL);
            Err(HelperError::Late(limit))
        }
    }
}
