//! The process of one VM, started by this daemon or an earlier life of it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::{Mutex, PoisonError};

use monopod_types::MiB;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::record::ProcessRecord;

/// A process that can be killed and waited for without ever meaning another one of the same number.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    handle: AsyncFd<OwnedFd>,
    /// None when an earlier life of the daemon started it: then nobody knows how it ended.
    child: Option<Mutex<Child>>,
}

impl Process {
    /// Takes a child of ours.
    pub(crate) fn started(child: Child) -> io::Result<Self> {
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        let handle = open(pid)?;
        Ok(Self { pid: Pid::from_raw(pid), handle, child: Some(Mutex::new(child)) })
    }

    /// Finds a process of an earlier life; none when it has ended.
    pub(crate) fn adopt(record: ProcessRecord) -> io::Result<Option<Self>> {
        let handle = match open(record.pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Asked with the handle open, so that it is about the process of the handle.
        if start_time(record.pid) != Some(record.start_time) {
            return Ok(None);
        }
        Ok(Some(Self { pid: Pid::from_raw(record.pid), handle, child: None }))
    }

    /// What to write down of it.
    pub(crate) fn record(&self) -> Option<ProcessRecord> {
        let pid = self.pid.as_raw();
        start_time(pid).map(|start_time| ProcessRecord { pid, start_time })
    }

    /// Kills it, if it has not ended.
    pub(crate) fn kill(&self) {
        // The only error is that it has ended.
        let _ = pidfd_send_signal(self.handle.get_ref(), Signal::KILL);
    }

    /// Waits for its end and says how that was. May be dropped and called again.
    pub(crate) async fn ended(&self) -> String {
        if let Err(error) = self.handle.ready(Interest::READABLE).await {
            return format!("it cannot be waited for: {error}");
        }
        let Some(child) = &self.child else {
            return "how is not known, as it was not started by this daemon".to_owned();
        };
        match child.lock().unwrap_or_else(PoisonError::into_inner).wait() {
            Ok(status) => how(status),
            Err(error) => format!("how cannot be asked: {error}"),
        }
    }

    /// Memory that is its alone, but for the guest's.
    pub(crate) fn overhead(&self) -> io::Result<MiB> {
        let text = fs::read_to_string(format!("/proc/{}/smaps", self.pid))?;
        Ok(MiB(overhead(&text).div_ceil(1024)))
    }
}

#[expect(deprecated, reason = "sound for an `OwnedFd`, and what replaces it is unsafe")]
fn open(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    AsyncFd::with_interest(pidfd_open(pid, PidfdFlags::empty())?, Interest::READABLE)
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "how is not known".to_owned(),
    }
}

/// When a process was started, in clock ticks since the machine was; none when it has ended.
fn start_time(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before the last parenthesis may hold anything, blanks and parentheses too.
    let (_, after) = text.rsplit_once(')')?;
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok()).flatten()
}

/// KiB of resident memory in mappings other than the guest's, each shared page counted by its share.
fn overhead(smaps: &str) -> u64 {
    let (mut guest, mut sum) = (false, 0);
    for line in smaps.lines() {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if !first.ends_with(':') {
            guest = line.ends_with("/memory") || line.contains("memory-backend");
        } else if first == "Pss:" && !guest {
            sum += line.split_ascii_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::{how, overhead, start_time};
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    #[test]
    fn the_guests_own_pages_are_no_overhead() {
        let smaps = "7f0000000000-7f0010000000 r--p 00000000 fe:00 12 /template/memory\nRss:  900 kB\nPss:  800 kB\n\
                     7f1000000000-7f1000100000 rw-p 00000000 00:00 0\nRss:  300 kB\nPss:  200 kB\nVmFlags: rd wr\n\
                     55d000000000-55d000100000 r-xp 00000000 fe:00 9 /usr/bin/qemu-system-x86_64\nPss:  50 kB\n";
        assert_eq!(overhead(smaps), 250);
    }

    #[test]
    fn a_process_that_runs_has_a_start_time_and_another_has_none() {
        assert!(start_time(i32::try_from(std::process::id()).unwrap()).is_some());
        assert_eq!(start_time(i32::MAX), None);
    }

    #[test]
    fn an_end_is_told_by_code_or_signal() {
        assert_eq!(how(ExitStatus::from_raw(9)), "killed by signal 9");
        assert_eq!(how(ExitStatus::from_raw(1 << 8)), "exit code 1");
    }
}
