//! `bench memory`: what the daemon, the agent and a microVM hold of the machine's memory.

use std::path::Path;

use anyhow::{Context as _, Result};
use monopod_e2e::client::pod_name;
use monopod_host_proto::v1::{PodStats, StatsRequest};
use serde_json::json;

use crate::figures::mebibytes;
use crate::place::{Place, Way, idle_pod};

/// Pods over which the daemon's growth is spread.
const MORE_PODS: u64 = 10;
/// Containers that have run in one guest when its agent is weighed again.
const CONTAINERS: usize = 40;
/// Sizes of microVMs that are weighed.
const SIZES: [(&str, &str); 4] = [("250m", "512Mi"), ("1", "2Gi"), ("2", "4Gi"), ("4", "8Gi")];

/// Measures and prints.
pub(crate) async fn run(program: &Path) -> Result<()> {
    let place = Place::new(program, Way::Template).await?;
    println!("\n| memory | measured |\n|---|---|");
    println!("| the daemon, idle | {} |", mebibytes(place.info().await?.memory));
    place.start(idle_pod("first", "250m", "512Mi")).await?;
    let with_one = place.info().await?.memory;
    println!("| the daemon, one Pod | {} |", mebibytes(with_one));
    for number in 1..=MORE_PODS {
        place.start(idle_pod(&format!("more-{number}"), "250m", "512Mi")).await?;
    }
    let with_all = place.info().await?.memory;
    println!("| the daemon, {} Pods | {} |", MORE_PODS + 1, mebibytes(with_all));
    println!("| the daemon, each further Pod | {} KiB |", with_all.saturating_sub(with_one) / MORE_PODS / 1024);
    println!("| the agent, one container | {} |", mebibytes(stats(&place, "first").await?.agent_memory));
    for number in 1..=MORE_PODS {
        place.remove(&format!("more-{number}")).await?;
    }
    place.remove("first").await?;
    place.start(busy_pod()).await?;
    let agent = stats(&place, "busy").await?.agent_memory;
    println!("| the agent, after {CONTAINERS} containers | {} |", mebibytes(agent));
    place.remove("busy").await?;
    for (cpu, memory) in SIZES {
        place.start(idle_pod("sized", cpu, memory)).await?;
        let overhead = stats(&place, "sized").await?.overhead;
        println!("| QEMU beyond the guest's own memory, {cpu} CPU, {memory} | {} |", mebibytes(overhead));
        place.remove("sized").await?;
    }
    Ok(())
}

/// A Pod that has run many containers once it is up.
fn busy_pod() -> serde_json::Value {
    let mut pod = idle_pod("busy", "1", "512Mi");
    let container =
        |number| json!({"name": format!("init-{number}"), "image": "monopod.local/busybox:1", "command": ["true"]});
    let containers: Vec<_> = (1..CONTAINERS).map(container).collect();
    pod["spec"]["initContainers"] = containers.into();
    pod
}

async fn stats(place: &Place, name: &str) -> Result<PodStats> {
    let request = StatsRequest { pod: Some(pod_name(name)), disk_usage: false };
    let mut answer = place.client()?.calls.clone().stats(request).await?.into_inner();
    answer.pods.pop().context("there are statistics of a Pod that runs")
}
