//! `monopod stats`: what Pods use.

use std::io::IsTerminal;
use std::time::Duration;

use monopod_host_proto::v1::{PodStats, StatsRequest};

use crate::Exit;
use crate::daemon::{Client, Folders};
use crate::failure::Failure;
use crate::pods::Named;
use crate::terminal;

/// Between two samples, from which the CPU time used is worked out.
const PERIOD: Duration = Duration::from_secs(1);

/// Show what running Pods use of what they were sold.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this Pod.
    #[arg(value_name = "[NAMESPACE/]POD")]
    pod: Option<Named>,
    /// Print once and end, also on a terminal.
    #[arg(long)]
    no_stream: bool,
    #[command(flatten)]
    folders: Folders,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let mut before = sample(&mut client, &arguments).await?;
    let once = arguments.no_stream || !std::io::stdout().is_terminal();
    loop {
        tokio::time::sleep(PERIOD).await;
        let now = sample(&mut client, &arguments).await?;
        let rows: Vec<_> =
            now.iter().map(|pod| row(pod, before.iter().find(|earlier| earlier.name == pod.name))).collect();
        let header = ["NAME", "CPU", "MEMORY", "PROCESSES", "DISK", "RECEIVED", "SENT", "VM OVERHEAD"];
        let text = terminal::table(&header, &rows);
        if once {
            terminal::print_text(&text)?;
            return Ok(Exit::Success);
        }
        // Home, print, clear what is left of the last table.
        terminal::print_text(&format!("\x1b[H{text}\x1b[J"))?;
        before = now;
    }
}

async fn sample(client: &mut Client, arguments: &Arguments) -> Result<Vec<PodStats>, Failure> {
    let pod = arguments.pod.as_ref().map(|pod| pod.to_proto(None));
    Ok(client.stats(StatsRequest { pod, disk_usage: false }).await?.into_inner().pods)
}

fn row(pod: &PodStats, before: Option<&PodStats>) -> Vec<String> {
    let usage = pod.usage.unwrap_or_default();
    let size = pod.size.unwrap_or_default();
    let cpu = before.map_or(0, |before| {
        let used = usage.cpu_nanoseconds.saturating_sub(before.usage.unwrap_or_default().cpu_nanoseconds);
        let elapsed = pod.time.saturating_sub(before.time).max(1);
        used.saturating_mul(1_000) / elapsed
    });
    vec![
        pod.name.as_ref().map(crate::pods::shown).unwrap_or_default(),
        format!("{cpu}m / {}m", size.cpu_millis),
        format!("{} / {}", terminal::bytes(usage.memory_working_set), terminal::bytes(size.memory)),
        usage.processes.to_string(),
        format!("{} / {}", terminal::bytes(pod.disk_used), terminal::bytes(pod.disk_capacity)),
        terminal::bytes(pod.received_bytes),
        terminal::bytes(pod.sent_bytes),
        terminal::bytes(pod.overhead),
    ]
}
