//! The agent inside a microVM: its PID 1, and the only program of ours in there.
//!
//! It makes the machine usable (mounts, kernel modules), waits on a virtio-serial port for the host, becomes one Pod's
//! own when the host says so, and then carries out what the host has decided: volumes, containers, streams, statistics.
//! It knows nothing of Kubernetes. [`server`] is the list of what can be asked.
#![allow(rustdoc::private_intra_doc_links, reason = "a program: its docs are read with all that is private")]

pub mod agent_log;
mod connection;
pub mod containers;
mod dial;
pub mod disks;
mod init;
mod kernel_modules;
pub mod paths;
mod personalize;
mod port;
pub mod reaper;
pub mod safe_path;
pub mod server;
mod shutdown;
mod stats;
mod sys;
pub mod volumes;

use std::process::ExitCode;

/// Runs whatever this process was started for: a helper of [`volumes`] or [`containers`], or the whole agent.
#[must_use]
pub fn main() -> ExitCode {
    if let Some(code) = volumes::helper_main().or_else(containers::helper_main) {
        return code;
    }
    init::run()
}
