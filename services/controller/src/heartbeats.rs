//! Hosts that are silent: one whose heartbeat is overdue gets no more Pods until it is heard of again.
//!
//! Its Pods stay. Kubernetes itself finds their nodes unreachable, and evicts them after the time that they tolerate it; they
//! count as running until the host is back, or somebody removes its object.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::{Host, names};
use serde_json::json;

/// Between two looks; that of heartbeats.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks after heartbeats until it is dropped.
pub(crate) async fn run(client: Client) {
    let mut ticks = tokio::time::interval(PERIOD);
    loop {
        ticks.tick().await;
        if let Err(error) = look(&client).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "heartbeats of hosts cannot be looked after");
        }
    }
}

async fn look(client: &Client) -> Result<(), kube::Error> {
    let leases =
        Api::<Lease>::namespaced(client.clone(), names::HEARTBEAT_NAMESPACE).list(&ListParams::default()).await?;
    let heard: BTreeMap<String, LeaseSpec> =
        leases.items.into_iter().filter_map(|lease| Some((lease.name_any(), lease.spec?))).collect();
    let hosts = Api::<Host>::all(client.clone());
    let now = Timestamp::now();
    for host in hosts.list(&ListParams::default()).await?.items {
        let name = host.name_any();
        if !host.is_ready() || heard.get(&name).is_some_and(|lease| !is_overdue(lease, now)) {
            continue;
        }
        tracing::warn!(host = name, "the host is silent and gets no more Pods");
        let condition = json!({
            "type": "Ready", "status": "Unknown", "reason": "HostSilent", "message": "the heartbeat of the host is overdue",
            "lastTransitionTime": Time(now),
        });
        // With the version that was read: a host that has just spoken up keeps its word.
        let patch =
            json!({"metadata": {"resourceVersion": host.resource_version()}, "status": {"conditions": [condition]}});
        match hosts.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            result => drop(result?),
        }
    }
    Ok(())
}

fn is_overdue(lease: &LeaseSpec, now: Timestamp) -> bool {
    let patience = SignedDuration::from_secs(lease.lease_duration_seconds.unwrap_or_default().into());
    lease.renew_time.as_ref().is_none_or(|renewed| now.duration_since(renewed.0) > patience)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};
    use k8s_openapi::api::coordination::v1::LeaseSpec;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    use super::is_overdue;

    #[test]
    fn a_heartbeat_counts_as_long_as_its_lease_says() {
        let now = Timestamp::now();
        let renewed = |seconds: i64| LeaseSpec {
            lease_duration_seconds: Some(40),
            renew_time: Some(MicroTime(now - SignedDuration::from_secs(seconds))),
            ..LeaseSpec::default()
        };
        assert!(!is_overdue(&renewed(39), now));
        assert!(is_overdue(&renewed(41), now));
        assert!(is_overdue(&LeaseSpec::default(), now));
    }
}
