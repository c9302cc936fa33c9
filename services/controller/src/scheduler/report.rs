//! What a Pod's owner is told: events under the name `fargate-scheduler`, and the condition `PodScheduled`.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::names;
use monopod_types::PodUid;
use serde_json::json;
use tokio::time::Instant;

/// What was told of Pods that wait, so that nothing is said twice.
#[derive(Debug, Default)]
pub(super) struct Reports {
    told: HashMap<PodUid, (String, String, Instant)>,
}

/// After this long the same is said again: events are forgotten after an hour.
const AGAIN: Duration = Duration::from_secs(600);

impl Reports {
    /// Whether there is news in this.
    pub(super) fn is_news(&mut self, uid: &PodUid, reason: &str, message: &str) -> bool {
        let is_told = |(a, b, at): &(String, String, Instant)| a == reason && b == message && at.elapsed() < AGAIN;
        if self.told.get(uid).is_some_and(is_told) {
            return false;
        }
        self.told.insert(uid.clone(), (reason.to_owned(), message.to_owned(), Instant::now()));
        true
    }

    pub(super) fn forget(&mut self, uid: &PodUid) {
        self.told.remove(uid);
    }
}

/// Says why a Pod waits.
pub(super) async fn waits(client: Client, pod: &Pod, reason: &str, message: &str) {
    event(&client, pod, "Warning", "FailedScheduling", message).await;
    let pods = Api::<Pod>::namespaced(client, &pod.namespace().unwrap_or_default());
    let status = json!({
        "metadata": {"uid": pod.uid()},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "observedGeneration": pod.metadata.generation, "lastTransitionTime": Time(Timestamp::now()),
        }]},
    });
    if let Err(error) = pods.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Strategic(status)).await {
        tracing::debug!(pod = pod.name_any(), error = &error as &dyn std::error::Error, "a condition was not written");
    }
}

/// Says that a Pod has a place.
pub(super) async fn scheduled(client: Client, pod: &Pod, message: &str) {
    event(&client, pod, "Normal", "Scheduled", message).await;
}

async fn event(client: &Client, pod: &Pod, kind: &str, reason: &str, message: &str) {
    let namespace = pod.namespace().unwrap_or_default();
    let now = Timestamp::now();
    let event = Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}.", pod.name_any())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: pod.metadata.name.clone(),
            uid: pod.uid(),
            resource_version: pod.resource_version(),
            ..ObjectReference::default()
        },
        type_: Some(kind.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        source: Some(EventSource { component: Some(names::SCHEDULER_NAME.to_owned()), host: None }),
        reporting_component: Some(names::SCHEDULER_NAME.to_owned()),
        reporting_instance: Some(names::SCHEDULER_NAME.to_owned()),
        ..Event::default()
    };
    if let Err(error) =
        Api::<Event>::namespaced(client.clone(), &namespace).create(&PostParams::default(), &event).await
    {
        tracing::debug!(
            pod = pod.name_any(),
            reason,
            error = &error as &dyn std::error::Error,
            "an event was not written"
        );
    }
}
