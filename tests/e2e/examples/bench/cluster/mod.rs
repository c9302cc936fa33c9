//! `bench cluster`: what a start costs on a real control plane, from the Pod's creation until a watch says that its containers run.
//!
//! First real microVMs, one at a time and many at once, beside Pods on a node without a machine (KWOK) in the same cluster. Then
//! many Pods on many hosts whose VMM is a fake, so that everything but guests is measured.

mod fake_hosts;
mod scale;
mod watching;
mod webhooks;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use monopod_testkit::cluster::{Capacity, Cluster, Options, Process, with_cluster};
use serde_json::{Value, json};

pub(crate) use fake_hosts::run as run_fake_hosts;

use crate::figures::{Sample, millis};
use watching::{Started, Watching};

/// How many are started at once.
const CROWDS: [usize; 3] = [5, 10, 20];
/// How long a start may take on a slow machine without KVM, with others beside it.
const START_LIMIT: Duration = Duration::from_secs(600);
/// Where everything happens.
const NAMESPACE: &str = "shop";
/// Rights and kinds.
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/base");
/// A subnet whose blocks have 254 addresses, and a profile for our namespace.
const OBJECTS: &str = r#"
apiVersion: monopod.dev/v1
kind: Subnet
metadata: {name: private}
spec: {cidr: 10.80.0.0/16, zone: zone-a, private: true, natGateway: true}
---
apiVersion: monopod.dev/v1
kind: FargateProfile
metadata: {name: shop}
spec: {selectors: [{namespace: shop, labels: {runs-in: microvm}}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
"#;

/// Measures and prints.
pub(crate) async fn run(program: &Path, rounds: usize) -> Result<()> {
    with_cluster(Options { audit: true, fsync: true, ..Options::default() }, async |cluster| {
        starts(cluster, program, rounds).await
    })
    .await?;
    with_cluster(Options { fsync: true, ..Options::default() }, async |cluster| scale::run(cluster, program).await)
        .await
}

/// Installs everything but hosts.
async fn prepare(cluster: &Cluster, program: &Path) -> Result<Process> {
    cluster.install_monopod(Path::new(DEPLOY)).await?;
    let controller = cluster.start_controller(program, "bench")?;
    cluster.kubectl_with(&["apply", "-f", "-"], OBJECTS).await?;
    for what in [
        &["fargateprofile/shop", "--for=jsonpath={.status.phase}=ACTIVE"][..],
        &["-n", NAMESPACE, "serviceaccount/default", "--for=create"],
    ] {
        cluster.kubectl(&[&["wait", "--timeout=60s"], what].concat()).await?;
    }
    Ok(controller)
}

async fn wait_host(cluster: &Cluster, name: &str) -> Result<()> {
    for what in ["--for=create", "--for=condition=Ready", "--for=jsonpath={.status.addressBlocks}"] {
        cluster.kubectl(&["wait", &format!("host/{name}"), what, "--timeout=180s"]).await?;
    }
    Ok(())
}

/// A Pod that does nothing, in a microVM or on an ordinary node.
fn pod(name: &str, image: &str, runs_in: &str) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"runs-in": runs_in}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": image, "command": ["sh", "-c", "trap exit TERM; sleep 100000 & wait"]}],
        },
    }))?)
}

/// Real microVMs.
async fn starts(cluster: &mut Cluster, program: &Path, rounds: usize) -> Result<()> {
    let images = cluster.serve_images().await?;
    let _controller = prepare(cluster, program).await?;
    let host = cluster.start_host(program, 2, "zone-a", &images, Capacity { cpu: 16, memory_gib: 32 })?;
    wait_host(cluster, host.name()).await?;
    let _nodes = cluster.plain_nodes()?;
    cluster.add_plain_node("plain", "10.81.0.1".parse()?).await?;
    let bench = Bench { client: cluster.client(), watching: Watching::begin(cluster.client(), NAMESPACE).await? };
    let image = "monopod.local/busybox:1";
    // Makes the template, pulls the image, counts for nothing.
    bench.crowd("warm", 1, image, "microvm").await?;
    bench.crowd("warm-plain", 1, image, "plain").await?;
    let (mut microvm, mut plain) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        microvm.extend(bench.crowd(&format!("serial-{round}"), 1, image, "microvm").await?);
        plain.extend(bench.crowd(&format!("plain-{round}"), 1, image, "plain").await?);
    }
    let writes = writes(&cluster.audit_log(), &microvm)?;
    println!(
        "\n| Pod created until a watch says that its containers run | n | p50 | p90 | p99 |\n|---|---|---|---|---|"
    );
    let totals = |starts: &[Started]| Sample::new(starts.iter().map(|start| start.total).collect());
    println!("| microVM from a template, one at a time | {} |", totals(&microvm).cells());
    let outside = Sample::new(microvm.iter().map(Started::outside).collect());
    println!("| of that outside the guest | {} |", outside.cells());
    println!("| a node without a machine (KWOK), one at a time | {} |", totals(&plain).cells());
    println!("\nOutside the guest a start takes {:.2} times as long as all of KWOK's.", outside.times(&totals(&plain)));
    println!("API writes of a start, without events: {writes}.");
    parts(&microvm);
    println!(
        "\n| at once | n | p50 | p90 | p99 | until all run | outside the guest, p50 |\n|---|---|---|---|---|---|---|"
    );
    for size in CROWDS {
        let begun = Instant::now();
        let started = bench.crowd(&format!("crowd-{size}"), size, image, "microvm").await?;
        let all = started.iter().map(|start| start.seen.duration_since(begun)).max().unwrap_or_default();
        let outside = Sample::new(started.iter().map(Started::outside).collect());
        println!("| {size} | {} | {} | {} |", totals(&started).cells(), millis(all), millis(outside.percentile(50)));
    }
    webhooks::run(cluster).await
}

/// Where the time goes.
fn parts(starts: &[Started]) {
    println!("\n| part of a start | n | p50 | p90 | p99 |\n|---|---|---|---|---|");
    let print = |what: &str, of: &dyn Fn(&Started) -> Option<Duration>| {
        println!("| {what} | {} |", Sample::new(starts.iter().filter_map(of).collect()).cells());
    };
    print("created until bound, seen", &|start| Some(start.bound));
    for stage in ["admitted", "image", "network", "vm", "agent", "volumes", "init", "started"] {
        print(stage, &|start| start.stage(stage).map(|(took, _)| took));
    }
    print("bound until containers run, told, seen; without the stages", &|start| Some(start.telling()));
}

/// What is asked of a cluster.
struct Bench {
    client: Client,
    watching: Watching,
}

impl Bench {
    /// Starts so many Pods at once, waits until all run, and removes them.
    async fn crowd(&self, name: &str, size: usize, image: &str, runs_in: &str) -> Result<Vec<Started>> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), NAMESPACE);
        let names: Vec<String> = (0..size).map(|number| format!("{name}-{number}")).collect();
        let starts = names.iter().map(async |name| {
            let created = Instant::now();
            pods.create(&PostParams::default(), &pod(name, image, runs_in)?).await?;
            self.watching.started(name, created, START_LIMIT).await
        });
        let started = try_join_all(starts).await?;
        for name in &names {
            pods.delete(name, &DeleteParams::default()).await?;
        }
        for name in &names {
            self.watching.gone(name, START_LIMIT).await?;
        }
        Ok(started)
    }
}

/// How many writes the API server has taken for one start, and which: of the Pod, its Node and the Node's Lease, until it ran.
fn writes(audit_log: &Path, starts: &[Started]) -> Result<String> {
    let log = std::fs::read_to_string(audit_log)?;
    let mut kinds = BTreeMap::<String, usize>::new();
    for line in log.lines() {
        let Ok(entry) = serde_json::from_str::<Value>(line) else { continue };
        let (object, verb) = (&entry["objectRef"], entry["verb"].as_str().unwrap_or_default());
        let asked: Timestamp = entry["requestReceivedTimestamp"].as_str().unwrap_or_default().parse()?;
        let is_start = starts.iter().any(|start| {
            let is_about = object["name"] == start.pod || object["name"] == start.node;
            // A node's name is the next Pod's, too.
            let since = start.at - SignedDuration::try_from(start.total).unwrap_or_default();
            is_about && (since..=start.at).contains(&asked)
        });
        let is_write = matches!(verb, "create" | "update" | "patch");
        let user = entry["user"]["username"].as_str().unwrap_or_default();
        // The creation itself is the user's.
        let is_ours = user.starts_with("system:node:") || user.contains("monopod");
        if entry["stage"] == "ResponseComplete" && is_start && is_write && is_ours && object["resource"] != "events" {
            let part = object["subresource"].as_str().map(|part| format!("/{part}")).unwrap_or_default();
            let kind = format!("{verb} {}{part}", object["resource"].as_str().unwrap_or_default());
            *kinds.entry(kind).or_default() += 1;
        }
    }
    ensure!(!kinds.is_empty(), "the audit log says nothing of the starts");
    let count = starts.len().max(1);
    let each = |number: usize| format!("{}.{}", number / count, number * 10 / count % 10);
    let shown: Vec<String> = kinds.iter().map(|(kind, number)| format!("{kind} {}", each(*number))).collect();
    Ok(format!("{} ({})", each(kinds.values().sum()), shown.join(", ")))
}
