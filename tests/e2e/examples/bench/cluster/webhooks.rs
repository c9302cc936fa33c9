//! What the webhooks add to the creation of a Pod, as the API server itself measures it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::future::try_join_all;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::PostParams;
use monopod_testkit::cluster::Cluster;
use tokio::time::Instant;

use super::{NAMESPACE, pod};
use crate::figures::Sample;

/// Requests in a second: so many lanes, each at this pace.
const LANES: u32 = 20;
const PACE: Duration = Duration::from_millis(100);
/// How many each lane makes.
const EACH: u32 = 100;
const HISTOGRAM: &str = "apiserver_admission_webhook_admission_duration_seconds_bucket{";

/// Asks for Pods without making them, 200 a second, and prints how long the API server waited for our webhook.
pub(super) async fn run(cluster: &Cluster) -> Result<()> {
    let before = buckets(cluster).await?;
    let pods = Api::<Pod>::namespaced(cluster.client(), NAMESPACE);
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let lanes = (0..LANES).map(async |lane| {
        let mut taken = Vec::new();
        let begun = Instant::now() + PACE * lane / LANES;
        for number in 0..EACH {
            tokio::time::sleep_until(begun + PACE * number).await;
            let asked = Instant::now();
            pods.create(&params, &pod(&format!("asked-{lane}-{number}"), "monopod.local/busybox:1", "microvm")?)
                .await?;
            taken.push(asked.elapsed());
        }
        anyhow::Ok(taken)
    });
    let begun = Instant::now();
    let taken = try_join_all(lanes).await?.concat();
    let rate = u32::try_from(taken.len())? * 1000 / u32::try_from(begun.elapsed().as_millis())?;
    let after = buckets(cluster).await?;
    println!("\n| {rate} Pods a second, asked for and not made | n | p50 | p90 | p99 |\n|---|---|---|---|---|");
    println!("| the whole request, seen by a client | {} |", Sample::new(taken).cells());
    let all = grown(&before, &after, "+Inf").max(1);
    let share = |bound: &str| {
        let tenths = grown(&before, &after, bound) * 1000 / all;
        format!("{}.{} %", tenths / 10, tenths % 10)
    };
    println!(
        "\nOf {all} calls of the webhook the API server waited at most 5 ms for {}, 25 ms for {}.",
        share("0.005"),
        share("0.025")
    );
    Ok(())
}

fn grown(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, bound: &str) -> u64 {
    let of = |buckets: &BTreeMap<String, u64>| buckets.get(bound).copied().unwrap_or_default();
    of(after).saturating_sub(of(before))
}

/// How many calls for new Pods took at most so long, by the bound.
async fn buckets(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for line in cluster.kubectl(&["get", "--raw", "/metrics"]).await?.lines() {
        let Some(rest) = line.strip_prefix(HISTOGRAM) else { continue };
        let (labels, count) = rest.split_once("} ").context("a bucket has a count")?;
        if labels.contains("operation=\"CREATE\"") && labels.contains("fargate") {
            let bound =
                labels.split("le=\"").nth(1).and_then(|rest| rest.split('"').next()).context("a bucket has a bound")?;
            *found.entry(bound.to_owned()).or_default() += count.trim().parse::<u64>()?;
        }
    }
    Ok(found)
}
