//! Hosts that are silent: one whose heartbeat is overdue gets no more Pods until it is heard of again.
//!
//! Its Pods stay. Kubernetes itself finds their nodes unreachable, and evicts them after the time that they tolerate it; they
//! count as running until the host is back, or somebody removes its object.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::{Host, Verdict, names};
use serde_json::json;
use tokio::time::Instant;

use crate::renewals::Renewals;

/// Between two looks; that of heartbeats.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks after heartbeats until it is dropped.
pub(crate) async fn run(client: Client) {
    let (mut ticks, mut renewals) = (tokio::time::interval(PERIOD), Renewals::default());
    loop {
        ticks.tick().await;
        if let Err(error) = look(&client, &mut renewals).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "heartbeats of hosts cannot be looked after");
        }
    }
}

async fn look(client: &Client, renewals: &mut Renewals) -> Result<(), kube::Error> {
    let leases =
        Api::<Lease>::namespaced(client.clone(), names::HEARTBEAT_NAMESPACE).list(&ListParams::default()).await?;
    let heard: BTreeMap<String, LeaseSpec> =
        leases.items.into_iter().filter_map(|lease| Some((lease.name_any(), lease.spec?))).collect();
    renewals.retain(|name| heard.contains_key(name));
    let hosts = Api::<Host>::all(client.clone());
    let now = Instant::now();
    for host in hosts.list(&ListParams::default()).await?.items {
        let name = host.name_any();
        let is_silent = heard.get(&name).is_none_or(|lease| renewals.is_overdue(&name, lease, now));
        if !host.is_ready() || !is_silent {
            continue;
        }
        tracing::warn!(host = name, "the host is silent and gets no more Pods");
        // With the version that was read: a host that has just spoken up keeps its word.
        let patch = json!({
            "metadata": {"resourceVersion": host.resource_version()},
            "status": {"conditions": silent(&host, Timestamp::now())},
        });
        match hosts.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            result => drop(result?),
        }
    }
    Ok(())
}

/// The conditions of a host of which nothing is heard; all but one stay what they were.
fn silent(host: &Host, now: Timestamp) -> Vec<Condition> {
    let known = host.status.iter().flat_map(|status| &status.conditions);
    let mut conditions: Vec<Condition> = known.filter(|one| one.type_ != "Ready").cloned().collect();
    let message = "the heartbeat of the host is overdue";
    let verdict = Verdict { kind: "Ready", is_true: None, reason: "HostSilent", message };
    conditions.push(verdict.after(&[], host.metadata.generation, Time(now)));
    conditions
}
