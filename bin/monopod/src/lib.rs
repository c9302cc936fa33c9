//! Arguments and wiring of the `monopod` program: one module per subcommand, no rule of its own.

mod cp;
mod daemon;
mod exec;
mod exit;
mod explain;
mod failure;
mod images;
mod lifecycle;
mod logs;
mod pods;
mod port_forward;
mod ports;
mod ps;
mod run;
mod session;
mod stats;
mod terminal;

use std::future::Future;

use clap::{Parser, Subcommand};

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
    }
}

/// Runs a subcommand that talks to the daemon.
fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
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
