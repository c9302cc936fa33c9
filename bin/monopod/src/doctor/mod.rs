//! `monopod doctor`: whether this machine can run Pods, found by running guests.

mod checks;
mod start;

use clap::ValueEnum;
use serde::Serialize;

use crate::Exit;
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::host::Guests;
use crate::terminal;

/// Find out whether this machine can run Pods, and how quickly they start.
///
/// Each thing that the host daemon needs is tried: guests are run, a network is made in a namespace of its own, a disk is
/// formatted. A running daemon is not disturbed, and nothing is left behind. Exits with 0 when Pods can run here, else
/// with 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How the result is printed.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    #[command(flatten)]
    guests: Guests,
    #[command(flatten)]
    folders: Folders,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// For programs: `ready`, and `checks` with `name`, `verdict`, `found` and `advice`.
    Json,
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    /// What is there, or why it does not work.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Pods run, but not as well as they could.
    Warning,
    /// No Pod can run.
    Failed,
}

#[derive(Serialize)]
struct Report<'a> {
    ready: bool,
    checks: &'a [Check],
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, found: found.into(), advice: None }
    }

    fn warning(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warning, found: found.into(), advice: Some(advice.into()) }
    }

    fn failed(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Failed, found: found.into(), advice: Some(advice.into()) }
    }

    fn text(&self) -> String {
        let mark = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "FAILED",
        };
        let advice = self.advice.iter().map(|advice| format!("\n{:22}{advice}", ""));
        format!("{mark:8}{:14}{}{}\n", self.name, self.found, advice.collect::<String>())
    }
}

/// The checks so far. For people each is printed as soon as it is known.
#[derive(Debug)]
struct Checks {
    output: Output,
    done: Vec<Check>,
}

impl Checks {
    fn add(&mut self, check: Check) -> Result<(), Failure> {
        if self.output == Output::Text {
            terminal::print_text(&check.text())?;
        }
        self.done.push(check);
        Ok(())
    }

    fn ready(&self) -> bool {
        self.done.iter().all(|check| check.verdict != Verdict::Failed)
    }
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut checks = Checks { output: arguments.output, done: Vec::new() };
    tokio::select! {
        done = checks::all(&arguments.guests, &arguments.folders, &mut checks) => done?,
        // What has been started is ended as the checks are dropped.
        _ = tokio::signal::ctrl_c() => return Err(Failure::Input("interrupted".to_owned())),
    }
    let ready = checks.ready();
    match arguments.output {
        Output::Json => {
            let report = Report { ready, checks: &checks.done };
            terminal::print_line(&serde_json::to_string_pretty(&report)?)?;
        }
        Output::Text if ready => terminal::print_line("\nPods can run on this machine.")?,
        Output::Text => terminal::print_line("\nPods cannot run on this machine; see what FAILED above.")?,
    }
    Ok(if ready { Exit::Success } else { Exit::Refused })
}

#[cfg(test)]
mod tests {
    use super::{Check, Checks, Output};

    #[test]
    fn a_check_is_a_line_and_its_advice_another() {
        assert_eq!(Check::ok("QEMU", "10.0.8").text(), "ok      QEMU          10.0.8\n");
        let failed = Check::failed("disk", "full", "make room").text();
        assert_eq!(failed, "FAILED  disk          full\n                      make room\n");
    }

    #[test]
    fn a_warning_lets_pods_run_and_a_failure_does_not() {
        let mut checks = Checks { output: Output::Json, done: Vec::new() };
        checks.add(Check::warning("KVM", "none", "")).unwrap();
        assert!(checks.ready());
        checks.add(Check::failed("QEMU", "none", "")).unwrap();
        assert!(!checks.ready());
    }
}
