//! What the demo shows once everything runs.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use monopod_testkit::cluster::{Cluster, HostMachine};
use monopod_testkit::wait::wait_for;

/// The reason of the event with the stages of a start.
const STAGES: &str = "MicroVMReady";

/// What runs where, how it started, who does not run and why.
pub(crate) async fn all(cluster: &Cluster, hosts: &[HostMachine]) -> Result<()> {
    pods(cluster).await?;
    let refused = refusal(cluster).await;
    println!("\nThe privileged Pod is told why it will not run:\n\n  {refused}");
    let host = hosts.first().context("the demo has hosts")?;
    let url = format!("http://{}:30080/hostname", host.address());
    let page = cluster.namespace().run("curl", &["-sS", "--max-time", "20", &url])?;
    println!("\nThe Service from outside, at {url}: a page of {page}");
    Ok(())
}

async fn pods(cluster: &Cluster) -> Result<()> {
    let client = cluster.client();
    let pods = Api::<Pod>::all(client.clone()).list(&ListParams::default()).await?;
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let events = Api::<Event>::all(client).list(&ListParams::default().fields(&format!("reason={STAGES}"))).await?;
    let ours = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "\nThis machine's kernel is {}. What runs, each Pod in a microVM with a kernel of its own:\n",
        ours.trim()
    );
    let mut rows = vec![["POD", "HOST", "ADDRESS", "SIZE", "KERNEL"].map(str::to_owned)];
    let mut starts = Vec::new();
    for pod in &pods.items {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { continue };
        let node = nodes.items.iter().find(|one| one.name_any() == *node);
        let kernel = node.and_then(|node| Some(node.status.as_ref()?.node_info.as_ref()?.kernel_version.clone()));
        let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let size = pod.annotations().get("CapacityProvisioned").cloned().unwrap_or_default();
        let host = pod.labels().get("monopod.dev/host").cloned().unwrap_or_default();
        rows.push([name.clone(), host, address, size, kernel.unwrap_or_default()]);
        let stages = events.items.iter().find(|event| event.involved_object.uid == pod.uid());
        starts.extend(stages.and_then(|event| event.message.clone()).map(|message| format!("  {name}\n    {message}")));
    }
    print_table(&rows);
    println!("\nHow they started:\n\n{}", starts.join("\n"));
    Ok(())
}

fn print_table(rows: &[[String; 5]]) {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    for row in rows {
        let cells: Vec<String> =
            row.iter().enumerate().map(|(column, text)| format!("{text:<width$}", width = width(column))).collect();
        println!("  {}", cells.join("   ").trim_end());
    }
}

async fn refusal(cluster: &Cluster) -> String {
    let events = Api::<Event>::namespaced(cluster.client(), "shop");
    let of_pod = ListParams::default().fields("involvedObject.name=node-shell,reason=FailedScheduling");
    wait_for("the privileged Pod is told why", async || {
        let found = events.list(&of_pod).await.map_err(|error| error.to_string())?;
        found.items.into_iter().find_map(|event| event.message).ok_or_else(|| "no event yet".to_owned())
    })
    .await
}
