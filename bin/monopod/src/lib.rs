//! Arguments and wiring of the `monopod` program: one module per subcommand, no rule of its own.

mod controller;
mod cp;
mod daemon;
mod doctor;
mod exec;
mod exit;
mod explain;
mod failure;
mod host;
mod images;
mod lifecycle;
mod logs;
mod pods;
mod port_forward;
mod ports;
mod ps;
mod run;
mod service;
mod session;
mod stats;
mod terminal;

use std::future::Future;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

pub use exit::Exit;

use failure::Failure;

/// Serverless Pods for any Kubernetes cluster: every Pod in a microVM of its own.
#[derive(Debug, Parser)]
#[command(name = "monopod", version, max_term_width = 100)]
pub struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Explain(explain::Arguments),
    Run(run::Arguments),
    Ps(ps::Arguments),
    Logs(logs::Arguments),
    Exec(exec::ExecArguments),
    Attach(exec::AttachArguments),
    PortForward(port_forward::Arguments),
    Cp(cp::Arguments),
    Stats(stats::Arguments),
    Inspect(lifecycle::InspectArguments),
    Apply(lifecycle::ApplyArguments),
    Stop(lifecycle::StopArguments),
    Rm(lifecycle::RemoveArguments),
    Images(images::Arguments),
    Prune(images::PruneArguments),
    Host(host::Arguments),
    Controller(controller::Arguments),
    Doctor(doctor::Arguments),
    /// The way into the jail of a VMM process; the daemon calls it.
    #[command(name = JAIL_COMMAND, hide = true)]
    VmJail,
}

/// Name of the subcommand that the daemon starts in a new PID namespace.
const JAIL_COMMAND: &str = "vm-jail";

/// Becomes a VMM process in its jail, when that is what the arguments say. Before anything else, for that process is to
/// have no thread and next to no memory of its own.
pub fn enter_jail() -> Option<ExitCode> {
    (std::env::args_os().nth(1)? == JAIL_COMMAND).then(monopod_vmm_qemu::jail::main)
}

/// Runs one subcommand to its end. Results go to standard output, everything else to standard error.
pub fn run(arguments: Arguments) -> Exit {
    match arguments.task {
        Task::Explain(arguments) => explain::run(&arguments),
        Task::Run(arguments) => block_on(run::run(arguments)),
        Task::Ps(arguments) => block_on(ps::run(arguments)),
        Task::Logs(arguments) => block_on(logs::run(arguments)),
        Task::Exec(arguments) => block_on(exec::exec(arguments)),
        Task::Attach(arguments) => block_on(exec::attach(arguments)),
        Task::PortForward(arguments) => block_on(port_forward::run(arguments)),
        Task::Cp(arguments) => block_on(cp::run(arguments)),
        Task::Stats(arguments) => block_on(stats::run(arguments)),
        Task::Inspect(arguments) => block_on(lifecycle::inspect(arguments)),
        Task::Apply(arguments) => block_on(lifecycle::apply(arguments)),
        Task::Stop(arguments) => block_on(lifecycle::stop(arguments)),
        Task::Rm(arguments) => block_on(lifecycle::remove(arguments)),
        Task::Images(arguments) => block_on(images::run(arguments)),
        Task::Prune(arguments) => block_on(images::prune(arguments)),
        Task::Host(arguments) => block_on_many(DAEMON_THREADS, async { Ok(host::run(arguments).await) }),
        Task::Controller(arguments) => block_on_many(DAEMON_THREADS, async { Ok(controller::run(arguments).await) }),
        Task::Doctor(arguments) => block_on(doctor::run(arguments)),
        // Only when somebody calls it by hand, with the arguments of no daemon.
        Task::VmJail => Exit::BadInput,
    }
}

/// Threads of the daemon. What takes long by itself, such as unpacking an image, has threads of its own.
const DAEMON_THREADS: usize = 4;

/// Runs a subcommand that talks to the daemon.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Exit {
    run_in(&mut Builder::new_current_thread(), command)
}

/// Runs the daemon.
fn block_on_many(threads: usize, command: impl Future<Output = Result<Exit, Failure>>) -> Exit {
    run_in(Builder::new_multi_thread().worker_threads(threads), command)
}

fn run_in(builder: &mut Builder, command: impl Future<Output = Result<Exit, Failure>>) -> Exit {
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(source) => return failed(&Failure::Io { action: "failed to start".to_owned(), source }),
    };
    let exit = runtime.block_on(command).unwrap_or_else(|failure| failed(&failure));
    // A read of standard input that nobody waits for any more must not hold us.
    runtime.shutdown_background();
    exit
}

fn failed(failure: &Failure) -> Exit {
    failure.print();
    failure.exit()
}
