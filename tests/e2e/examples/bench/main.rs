//! What a start of a Pod and a running Pod cost, on this machine: `cargo xtask bench start`, `memory` and `cluster`.
//!
//! `start` compares, in one run and in turns, a bare QEMU that boots the guest's kernel, Pods that are booted, Pods that are
//! restored from a template without and with a process that waits for them, and `runc`. `memory` weighs the daemon, the
//! agent and QEMU. `cluster` does the same on a real control plane. Everything runs in network namespaces and folders that are gone afterwards. Prints Markdown.
#![expect(clippy::print_stdout, reason = "a benchmark prints what it has measured")]

mod bare;
mod bundle;
mod cluster;
mod figures;
mod memory;
mod place;
mod start;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

/// How often each start is measured when nothing is said.
const ROUNDS: usize = 20;

const USAGE: &str = "usage: bench start|memory|cluster PROGRAM [ROUNDS]";

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().context(USAGE)?;
    let program = PathBuf::from(arguments.next().context(USAGE)?);
    if what == "fake-hosts" {
        // A part of `cluster`, in a process of its own.
        return cluster::run_fake_hosts(&program, arguments.map(PathBuf::from).collect()).await;
    }
    let rounds = arguments.next().map_or(Ok(ROUNDS), |rounds| rounds.parse()).context(USAGE)?;
    println!("Load when it began: {}", load());
    match what.as_str() {
        "start" => start::run(&program, rounds).await?,
        "cluster" => cluster::run(&program, rounds).await?,
        "memory" => memory::run(&program).await?,
        _ => bail!(USAGE),
    }
    println!("\nLoad when it ended: {}", load());
    Ok(())
}

/// Load of this machine over 1, 5 and 15 minutes, without which no figure means a thing.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
