//! Many Pods on many hosts, through a real API server; hosts are real but for their VMM, network and guests.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use monopod_testkit::cluster::{Cluster, Part};
use monopod_testkit::images::busybox;

use super::watching::Watching;
use super::{NAMESPACE, pod, prepare, wait_host};
use crate::figures::{Sample, mebibytes, millis};

const HOSTS: u8 = 20;
const PODS: usize = 1000;
/// Pods that are created at once.
const LANES: usize = 20;
/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);
/// Certificates of nodes on each host that must be there before it begins: as many Pods as it gets, and some.
const CERTIFICATES: usize = 64;

/// Measures and prints.
pub(super) async fn run(cluster: &mut Cluster, program: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    busybox()?.write_docker_archive(&folder.path().join("busybox.tar"))?;
    let controller = prepare(cluster, program).await?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("fake-hosts").arg(folder.path());
    for number in 1..=HOSTS {
        // Addresses by which the API server reaches their nodes.
        cluster.namespace().run("ip", &["addr", "add", &format!("10.95.0.{number}/32"), "dev", "lo"])?;
        command.arg(cluster.kubeconfig_of(&format!("monopod:host:fake-{number}"), &["monopod:hosts"])?);
    }
    let hosts = cluster.run_beside("fake-hosts", command)?;
    for number in 1..=HOSTS {
        wait_host(cluster, &format!("fake-{number}")).await.with_context(|| hosts.last_words())?;
    }
    wait_certificates(folder.path()).await.with_context(|| hosts.last_words())?;
    let [idle_hosts, idle_controller] = [hosts.resident_kib(), controller.resident_kib()];
    let watching = Watching::begin(cluster.client(), NAMESPACE).await?;
    let pods = Api::<Pod>::namespaced(cluster.client(), NAMESPACE);
    let begun = Instant::now();
    let starts = stream::iter(0..PODS).map(async |number| {
        let (name, created) = (format!("pod-{number}"), Instant::now());
        pods.create(&PostParams::default(), &pod(&name, "monopod.local/busybox:1", "microvm")?).await?;
        anyhow::Ok((name, created))
    });
    let created: Vec<_> = starts.buffer_unordered(LANES).try_collect().await?;
    let all_created = begun.elapsed();
    let mut started = Vec::new();
    for (name, at) in created {
        started.push(watching.started(&name, at, LIMIT).await.with_context(|| hosts.last_words())?);
    }
    let all = started.iter().map(|start| start.seen.duration_since(begun)).max().unwrap_or_default();
    let totals = Sample::new(started.iter().map(|start| start.total).collect());
    let bound = Sample::new(started.iter().map(|start| start.bound).collect());
    println!("\n| {PODS} Pods on {HOSTS} hosts without guests | n | p50 | p90 | p99 |\n|---|---|---|---|---|");
    println!("| created until bound | {} |", bound.cells());
    println!("| created until its containers run | {} |", totals.cells());
    let rate = |time: Duration| 1.0 / (time / u32::try_from(PODS).unwrap_or(u32::MAX)).as_secs_f64();
    println!("\n| | |\n|---|---|");
    println!("| all created after | {} ({:.0} a second) |", millis(all_created), rate(all_created));
    println!("| all run after | {} ({:.0} a second) |", millis(all), rate(all));
    let kib = |kib: u64| mebibytes(kib << 10);
    println!("| controller, idle and with all Pods | {}, {} |", kib(idle_controller), kib(controller.resident_kib()));
    let each = u64::from(HOSTS);
    println!("| one host, idle and with all Pods | {}, {} |", kib(idle_hosts / each), kib(hosts.resident_kib() / each));
    let server = cluster.part(Part::ApiServer).map_or(0, |server| server.resident_kib());
    println!("| API server, for comparison | {} |", kib(server));
    Ok(())
}

/// Waits until the hosts have their certificates, which are made once for each address.
async fn wait_certificates(folder: &Path) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let made: usize = (1..=HOSTS).map(|number| certificates(&folder.join(format!("fake-{number}/nodes")))).sum();
        if made >= CERTIFICATES * usize::from(HOSTS) {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < deadline, "only {made} certificates were made");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn certificates(folder: &Path) -> usize {
    let clusters = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let files = clusters.flat_map(|cluster| std::fs::read_dir(cluster.path()).into_iter().flatten().flatten());
    files.filter(|file| file.file_name().to_string_lossy().starts_with("fargate-")).count()
}

/// How many certificates a host makes ahead.
pub(super) fn certificates_ahead() -> usize {
    CERTIFICATES
}
