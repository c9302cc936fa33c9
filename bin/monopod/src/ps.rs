//! `monopod ps`: the Pods of this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use monopod_host_proto::v1::{ListPodsRequest, PodSummary, Size};

use crate::Exit;
use crate::daemon::Folders;
use crate::failure::Failure;
use crate::terminal;

/// List the Pods of this machine, those that have ended too.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only Pods of this namespace.
    #[arg(short, long)]
    namespace: Option<String>,
    /// Only the names, one per line.
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    folders: Folders,
}

/// Runs the subcommand.
pub(crate) async fn run(arguments: Arguments) -> Result<Exit, Failure> {
    let mut client = arguments.folders.connect().await?;
    let request = ListPodsRequest { namespace: arguments.namespace.unwrap_or_default() };
    let pods = client.list_pods(request).await?.into_inner().pods;
    if arguments.quiet {
        pods.iter().try_for_each(|pod| terminal::print_line(&name(pod)))?;
        return Ok(Exit::Success);
    }
    let rows: Vec<_> = pods.iter().map(row).collect();
    let header = ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "SIZE", "ADDRESS", "PORTS"];
    terminal::print_text(&terminal::table(&header, &rows))?;
    Ok(Exit::Success)
}

fn name(pod: &PodSummary) -> String {
    pod.name.as_ref().map(crate::pods::shown).unwrap_or_default()
}

fn row(pod: &PodSummary) -> Vec<String> {
    let ports = pod.published_ports.iter().map(|port| {
        format!("{}:{}->{}", crate::ports::shown_address(&port.host_address), port.host_port, port.pod_port)
    });
    vec![
        name(pod),
        format!("{}/{}", pod.ready, pod.containers),
        pod.shown_status.clone(),
        pod.restarts.to_string(),
        terminal::age(since(pod.created_at)),
        pod.size.as_ref().map(size).unwrap_or_default(),
        pod.address.clone(),
        ports.collect::<Vec<_>>().join(", "),
    ]
}

/// Time since then; none where the clock says that it is still to come.
fn since(nanoseconds: u64) -> Duration {
    let then = UNIX_EPOCH + Duration::from_nanos(nanoseconds);
    SystemTime::now().duration_since(then).unwrap_or_default()
}

/// What a microVM is sold as: `0.25vCPU 0.5 GiB`.
pub(crate) fn size(size: &Size) -> String {
    let (whole, thousandths) = (size.cpu_millis / 1000, size.cpu_millis % 1000);
    let cpu = format!("{whole}.{thousandths:03}");
    format!("{}vCPU {}", cpu.trim_end_matches('0').trim_end_matches('.'), terminal::bytes(size.memory))
}

#[cfg(test)]
mod tests {
    use super::{Size, size};

    #[test]
    fn sizes_are_short() {
        let shown = |cpu_millis, memory| size(&Size { cpu_millis, memory, scratch: 0 });
        assert_eq!(shown(250, 512 << 20), "0.25vCPU 512.00 MiB");
        assert_eq!(shown(2000, 9 << 30), "2vCPU 9.00 GiB");
    }
}
