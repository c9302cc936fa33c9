//! `cargo xtask bench`: what starts and memory of microVMs cost on this machine. Figures of a good day are in
//! docs/benchmarks.md.

use std::time::Duration;

use anyhow::Result;
use clap::Subcommand;

use crate::guest;
use crate::kubeplane;
use crate::process::{cargo, run};
use crate::workspace::Workspace;

/// Building the program from nothing.
const BUILD_LIMIT: Duration = Duration::from_secs(40 * 60);
/// A whole run on a busy machine without KVM.
const RUN_LIMIT: Duration = Duration::from_secs(60 * 60);

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Starts: bare QEMU, booted Pods, Pods from templates, runc; one at a time, then many at once.
    Start {
        /// How often each is measured.
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// A cluster: starts on a real control plane with their parts, beside KWOK; 1,000 Pods on 20 hosts without guests.
    Cluster {
        /// How often a single start is measured.
        #[arg(long, default_value_t = 20)]
        rounds: u32,
    },
    /// Memory: the daemon, the agent in the guest, QEMU beyond the guest's own.
    Memory,
}

/// Builds what is measured as it is released, then measures it. What measures is no part of it, and is built for
/// debugging.
///
/// # Errors
/// When something does not build, or a Pod does not start.
pub(crate) fn measure(workspace: &Workspace, bench: &Bench) -> Result<()> {
    run(cargo().args(["build", "--locked", "--release", "-p", "monopod"]), BUILD_LIMIT)?;
    guest::build(workspace, false)?;
    if matches!(bench, Bench::Cluster { .. }) {
        kubeplane::build(workspace)?;
    }
    let words = "build --quiet --locked -p monopod-e2e --example bench";
    run(cargo().args(words.split(' ')), BUILD_LIMIT)?;
    let program = workspace.target.join("release/monopod");
    let mut command = cargo();
    command.args(["run", "--quiet", "--locked", "-p", "monopod-e2e", "--example", "bench", "--"]);
    match bench {
        Bench::Start { rounds } => command.arg("start").arg(program).arg(rounds.to_string()),
        Bench::Cluster { rounds } => command.arg("cluster").arg(program).arg(rounds.to_string()),
        Bench::Memory => command.arg("memory").arg(program),
    };
    run(&mut command, RUN_LIMIT)
}
