//! Arguments and wiring of the `monopod` program: one module per subcommand, no rule of its own.

mod exit;
mod explain;
mod terminal;

use clap::{Parser, Subcommand};

pub use exit::Exit;

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
}

/// Runs one subcommand to its end. Results go to standard output, everything else to standard error.
pub fn run(arguments: Arguments) -> Exit {
    match arguments.task {
        Task::Explain(arguments) => explain::run(&arguments),
    }
}
