//! Runs a further program in a container: joins its namespaces and cgroup, then takes the same last steps.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{ForkResult, setsid};

use super::chain;
use crate::containers::control::{self, Reply};
use crate::containers::lookup::describe;
use crate::containers::process::{self, ProcessPlan, Role, Stdio};
use crate::containers::sys;

/// The namespaces that a container has to itself, in the order in which they can be joined.
const NAMESPACES: [(&str, CloneFlags); 3] =
    [("cgroup", CloneFlags::CLONE_NEWCGROUP), ("pid", CloneFlags::CLONE_NEWPID), ("mnt", CloneFlags::CLONE_NEWNS)];

pub(super) fn run(
    socket: &UnixStream,
    init: i32,
    cgroup: &Path,
    plan: &ProcessPlan,
    stdio: Option<&Stdio>,
) -> Result<(), String> {
    // Everything that has a path out here is opened before this process loses sight of it.
    let open =
        |(name, flag): (&str, CloneFlags)| File::open(format!("/proc/{init}/ns/{name}")).map(|file| (file, flag));
    let namespaces = NAMESPACES.map(open).into_iter().collect::<Result<Vec<_>, _>>();
    let namespaces = namespaces.map_err(|_| "cannot exec in a stopped container".to_owned())?;
    let members =
        OpenOptions::new().write(true).open(cgroup).map_err(|error| format!("failed to open cgroup: {error}"))?;
    fs::write("/proc/self/oom_score_adj", plan.oom_score_adj.to_string())
        .map_err(|error| format!("failed to set the OOM score: {error}"))?;
    for (namespace, flag) in namespaces {
        setns(namespace, flag).map_err(|error| format!("failed to join a namespace: {}", describe(error)))?;
    }
    // A process gets into another process namespace only by being born there.
    match sys::fork_single_threaded().map_err(|error| format!("failed to fork: {}", describe(error)))? {
        ForkResult::Parent { child } => {
            control::send(socket, &Reply::Process(child.as_raw())).map_err(|error| error.to_string())
        }
        ForkResult::Child => Err(become_program(socket, members, plan, stdio)),
    }
}

/// Returns only with a reason why there is no program.
fn become_program(socket: &UnixStream, mut members: File, plan: &ProcessPlan, stdio: Option<&Stdio>) -> String {
    if let Err(error) = members.write_all(b"0") {
        return format!("failed to join the cgroup: {error}");
    }
    if let Err(error) = setsid() {
        return format!("failed to start a session: {}", describe(error));
    }
    let hand_over = |terminal: BorrowedFd<'_>| control::send_terminal(socket, terminal).map_err(|_| Errno::EPIPE);
    match process::prepare(plan, Role::Further, stdio, hand_over) {
        Ok(ready) => {
            let error = ready.run();
            format!("exec {}: {}", ready.program(), describe(error))
        }
        Err(error) => chain(&error),
    }
}
