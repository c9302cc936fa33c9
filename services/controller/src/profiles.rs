//! The profile controller: where each profile is in its life, what Pods it has, and the end of its Pods with its own.
//!
//! A profile that is deleted takes no more Pods; those that it has are evicted, which honours their budgets, and when the
//! last is gone so is the profile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{EvictParams, Patch, PatchParams};
use kube::runtime::reflector::{Store, store};
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::{FargateProfile, FargateProfileStatus, ProfilePhase, Rejection, Verdict, names};
use monopod_watching::Retry;
use serde_json::json;
use tokio::time::Instant;

use crate::subnets::is_listed;

/// Keeps a profile until its Pods are gone.
const FINALIZER: &str = "monopod.dev/pods";
/// How many rejections are shown.
const REJECTIONS: usize = 5;
/// Statuses are written at most this often: a rollout changes counts with every Pod.
const PAUSE: Duration = Duration::from_secs(1);
/// How often evictions that a budget forbids are tried again.
const EVICTION_PAUSE: Duration = Duration::from_secs(5);

/// Keeps profiles until it is dropped.
pub(crate) async fn run(client: Client) {
    let (profiles, profile_writer) = store::<FargateProfile>();
    let (pods, pod_writer) = store::<Pod>();
    let all = watcher::Config::default();
    let ours = watcher::Config::default().labels(names::PROFILE_LABEL);
    let seen =
        reflector(profile_writer, watcher(Api::<FargateProfile>::all(client.clone()), all).backoff(Retry::default()));
    let pods_seen = watcher(Api::<Pod>::all(client.clone()), ours).backoff(Retry::default());
    let pods_seen = reflector(pod_writer, pods_seen.modify(|pod| pod.managed_fields_mut().clear()));
    let (seen, pods_seen) = (seen.map(|event| event.map(drop)), pods_seen.map(|event| event.map(drop)));
    let mut changes = futures_util::stream::select(seen.boxed(), pods_seen.boxed());
    let mut due = None;
    loop {
        let at = due.unwrap_or_else(Instant::now);
        tokio::select! {
            Some(event) = changes.next() => match event {
                Ok(()) => due = Some(due.unwrap_or_else(|| Instant::now() + PAUSE)),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "profiles cannot be watched"),
            },
            () = tokio::time::sleep_until(at), if due.is_some() => {
                // Before all Pods are listed, a profile would seem to have none.
                if !(is_listed(&profiles).await && is_listed(&pods).await) {
                    due = Some(Instant::now() + PAUSE);
                    continue;
                }
                due = match keep_all(&client, &profiles, &pods).await {
                    Ok(next) => next.map(|pause| Instant::now() + pause),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "a profile is not up to date");
                        Some(Instant::now() + PAUSE)
                    }
                };
            }
        }
    }
}

/// Brings all profiles up to date; after which pause it must look again.
async fn keep_all(
    client: &Client,
    profiles: &Store<FargateProfile>,
    pods: &Store<Pod>,
) -> Result<Option<Duration>, kube::Error> {
    let mut of_profile: BTreeMap<String, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in pods.state() {
        if let Some(profile) = pod.labels().get(names::PROFILE_LABEL).filter(|_| is_ours(&pod)) {
            of_profile.entry(profile.clone()).or_default().push(Arc::clone(&pod));
        }
    }
    let (mut again, mut failed) = (None, None);
    for profile in profiles.state() {
        let pods = of_profile.remove(&profile.name_any()).unwrap_or_default();
        // One that cannot be written holds up no other.
        match keep_one(client, &profile, &pods).await {
            Ok(next) => again = again.or(next),
            Err(error) => failed = Some(error),
        }
    }
    failed.map_or(Ok(again), Err)
}

/// Brings a profile up to date; after which pause it must be looked at again.
async fn keep_one(
    client: &Client,
    profile: &FargateProfile,
    pods: &[Arc<Pod>],
) -> Result<Option<Duration>, kube::Error> {
    let (objects, name) = (Api::<FargateProfile>::all(client.clone()), profile.name_any());
    let is_finalized = profile.finalizers().iter().any(|one| one == FINALIZER);
    let mut again = None;
    if profile.metadata.deletion_timestamp.is_some() {
        if !is_finalized {
            return Ok(None);
        }
        if pods.is_empty() {
            release(&objects, profile).await?;
            return Ok(None);
        }
        again = Some(EVICTION_PAUSE);
        evict(client, pods).await;
    } else if !is_finalized {
        let finalizers: Vec<_> = profile.finalizers().iter().cloned().chain([FINALIZER.to_owned()]).collect();
        let patch = json!({"metadata": {"resourceVersion": profile.resource_version(), "finalizers": finalizers}});
        objects.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    let status = status(profile, pods);
    if profile.status.as_ref() != Some(&status) {
        let patch = json!({"status": status});
        objects.patch_status(&name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    }
    Ok(again)
}

fn is_ours(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| spec.scheduler_name.as_deref() == Some(names::SCHEDULER_NAME))
}

async fn release(objects: &Api<FargateProfile>, profile: &FargateProfile) -> Result<(), kube::Error> {
    let finalizers: Vec<_> = profile.finalizers().iter().filter(|one| *one != FINALIZER).collect();
    let patch = json!({"metadata": {"resourceVersion": profile.resource_version(), "finalizers": finalizers}});
    match objects.patch(&profile.name_any(), &PatchParams::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

/// Asks for the end of these Pods. What a budget forbids now is asked for again.
async fn evict(client: &Client, pods: &[Arc<Pod>]) {
    for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
        let objects = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        match objects.evict(&pod.name_any(), &EvictParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 429) => {}
            Err(error) => {
                let (namespace, pod) = (pod.namespace().unwrap_or_default(), pod.name_any());
                tracing::warn!(namespace, pod, error = &error as &dyn std::error::Error, "a pod is not evicted");
            }
        }
    }
}

fn status(profile: &FargateProfile, pods: &[Arc<Pod>]) -> FargateProfileStatus {
    let is_deleted = profile.metadata.deletion_timestamp.is_some();
    let phase = if is_deleted { ProfilePhase::Deleting } else { ProfilePhase::Active };
    let running =
        |pod: &&Arc<Pod>| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running"));
    let mut rejections: Vec<Rejection> = pods.iter().filter_map(|pod| rejection(pod)).collect();
    rejections.sort_by(|one, other| other.time.0.cmp(&one.time.0).then_with(|| one.pod.cmp(&other.pod)));
    let rejected = count(rejections.len());
    rejections.truncate(REJECTIONS);
    let before = profile.status.as_ref().map(|status| &*status.conditions).unwrap_or_default();
    let ready = if is_deleted {
        Verdict {
            kind: "Ready",
            is_true: Some(false),
            reason: "Deleting",
            message: "the Pods of the profile are evicted",
        }
    } else {
        Verdict { kind: "Ready", is_true: Some(true), reason: "InForce", message: "new Pods that match are taken" }
    };
    let ready = ready.after(before, profile.metadata.generation, Time(Timestamp::now()));
    FargateProfileStatus {
        observed_generation: profile.metadata.generation,
        phase: Some(phase),
        matched: count(pods.len()),
        running: count(pods.iter().filter(running).count()),
        rejected,
        last_rejections: rejections,
        conditions: vec![ready],
    }
}

/// Why a Pod cannot run as it is written. One that only waits for room is not rejected.
fn rejection(pod: &Pod) -> Option<Rejection> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled: &PodCondition =
        conditions.iter().find(|one| one.type_ == "PodScheduled" && one.status == "False")?;
    let reason = scheduled.reason.clone().filter(|reason| reason.starts_with("POD_"))?;
    Some(Rejection {
        namespace: pod.namespace().unwrap_or_default(),
        pod: pod.name_any(),
        reason,
        message: scheduled.message.clone().unwrap_or_default(),
        time: scheduled.last_transition_time.clone().unwrap_or(Time(Timestamp::UNIX_EPOCH)),
    })
}

fn count(items: usize) -> i32 {
    i32::try_from(items).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Pod;
    use monopod_api::{FargateProfile, FargateProfileSpec, ProfilePhase};
    use serde_json::json;

    use super::status;

    fn pod(name: &str, phase: &str, reason: &str, time: &str) -> Arc<Pod> {
        let condition = json!({"type": "PodScheduled", "status": "False", "reason": reason, "message": "no", "lastTransitionTime": time});
        let status = json!({"phase": phase, "conditions": [condition]});
        Arc::new(
            serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "status": status})).unwrap(),
        )
    }

    #[test]
    fn pods_are_counted_and_the_latest_rejections_come_first() {
        let pods = [
            pod("a", "Running", "", "2026-01-01T00:00:00Z"),
            pod("b", "Pending", "NoCapacity", "2026-01-01T00:00:00Z"),
            pod("c", "Pending", "POD_UNSUPPORTED_ON_FARGATE", "2026-01-01T00:00:00Z"),
            pod("d", "Pending", "POD_UNSUPPORTED_ON_FARGATE", "2026-01-02T00:00:00Z"),
        ];
        let status = status(&FargateProfile::new("shop", FargateProfileSpec::default()), &pods);
        assert_eq!((status.matched, status.running, status.rejected), (4, 1, 2));
        assert_eq!(status.last_rejections.iter().map(|one| &*one.pod).collect::<Vec<_>>(), ["d", "c"]);
        assert_eq!(status.phase, Some(ProfilePhase::Active));
    }
}
