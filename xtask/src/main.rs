//! Chores of the workspace, run as `cargo xtask TASK`.
//!
//! `ci` is the whole gate and what `make test` runs; every other task is one of its steps or makes something that a
//! step checks.
#![expect(clippy::print_stdout, reason = "a build tool talks to the terminal")]

mod bench;
mod ci;
mod codegen;
mod demo;
mod fuzz;
mod guest;
mod image;
mod kubeplane;
mod process;
mod tidy;
mod tools;
mod workspace;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Chores of the Monopod workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// The whole gate: format, lints, docs, tidy, tests, a short run of every fuzz target.
    Ci,
    /// Layer edges, module headers, orphan files, file sizes, generated files, tests named in docs.
    Tidy,
    /// Runs the main job, a cluster with a shop in microVMs, and says what to try next.
    Demo {
        /// Without a cluster: one Pod, and the decisions about examples/.
        #[arg(long)]
        local: bool,
    },
    /// Ends the demo.
    DemoDown,
    /// Measures starts and memory of microVMs; needs root, as the demo does.
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
    /// Writes the generated files: CRDs in deploy/crds, docs/cli.md.
    Codegen,
    /// Builds the guest image: kernel, initramfs with the agent, their version.
    Guest {
        /// Look whether Debian has a newer kernel package than the one that is kept.
        #[arg(long)]
        refresh: bool,
        /// Take this program as the agent instead of building it.
        #[arg(long, value_name = "FILE")]
        agent: Option<PathBuf>,
    },
    /// Writes the images that examples and the demo run, as archives into ~/.cache/monopod/images.
    Image,
    /// Builds the Kubernetes control plane of tests and demo, and what runs beside it, from the Go modules in tools/.
    Kubeplane,
    /// Runs every fuzz target for a while (stable toolchain, libFuzzer).
    Fuzz {
        /// Seconds per target.
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
}

fn main() -> Result<()> {
    let workspace = Workspace::load()?;
    match Arguments::parse().task {
        Task::Ci => ci::gate(&workspace),
        Task::Tidy => tidy::run(&workspace),
        Task::Demo { local: true } => demo::run_local(&workspace),
        Task::Demo { local: false } => demo::up(&workspace),
        Task::DemoDown => demo::down(),
        Task::Bench { bench } => bench::measure(&workspace, &bench),
        Task::Codegen => codegen::write(&workspace),
        Task::Guest { refresh, agent: Some(agent) } => guest::build_with(&agent, refresh),
        Task::Guest { refresh, agent: None } => guest::build(&workspace, refresh),
        Task::Image => image::write(&workspace),
        Task::Kubeplane => kubeplane::build(&workspace),
        Task::Fuzz { seconds } => fuzz::run_all(&workspace, seconds),
    }
}
