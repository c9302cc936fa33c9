//! Events of a Pod, as its kubelet writes them.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use monopod_podplan::life::Severity;
use serde_json::json;
use tokio::sync::mpsc;

use crate::identity::{hex, random};
use crate::news::SeenEvent;

/// The component that Kubernetes' own tools look for.
const COMPONENT: &str = "kubelet";
/// Events that may wait. More are dropped: a Pod's status says the same.
const WAITING: usize = 64;

/// Begins to write the events of a Pod, one after another. It ends with the sender.
pub(super) fn writer(client: Client, pod: Arc<Pod>, node: String) -> mpsc::Sender<SeenEvent> {
    let (tell, mut told) = mpsc::channel::<SeenEvent>(WAITING);
    tokio::spawn(async move {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let events = Api::<Event>::namespaced(client, &namespace);
        let mut written: HashMap<(&'static str, String, String), String> = HashMap::new();
        while let Some(seen) = told.recv().await {
            let notice = &seen.notice;
            let key = (notice.reason, notice.message.clone(), notice.field_path.clone());
            let result = match written.get(&key) {
                Some(name) => {
                    let again = json!({"count": seen.count, "lastTimestamp": Time(seen.last_seen)});
                    events.patch(name, &PatchParams::default(), &Patch::Merge(again)).await
                }
                None => events.create(&PostParams::default(), &event(&pod, &node, &seen)).await,
            };
            match result {
                Ok(event) => {
                    written.insert(key, event.metadata.name.unwrap_or_default());
                }
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        reason = notice.reason,
                        "an event was not written"
                    );
                    // It may have expired; the next one is a new one.
                    written.remove(&key);
                }
            }
        }
    });
    tell
}

fn event(pod: &Pod, node: &str, seen: &SeenEvent) -> Event {
    let (metadata, notice) = (&pod.metadata, &seen.notice);
    let name = metadata.name.clone().unwrap_or_default();
    // That there are no random bytes makes two events one at worst.
    let suffix = hex(&random::<8>().unwrap_or_default());
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{suffix}")),
            namespace: metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
            field_path: Some(notice.field_path.clone()).filter(|path| !path.is_empty()),
        },
        reason: Some(notice.reason.to_owned()),
        message: Some(notice.message.clone()),
        type_: Some(match notice.severity {
            Severity::Normal => "Normal".to_owned(),
            Severity::Warning => "Warning".to_owned(),
        }),
        count: Some(i32::try_from(seen.count).unwrap_or(i32::MAX)),
        first_timestamp: Some(Time(seen.first_seen)),
        last_timestamp: Some(Time(seen.last_seen)),
        source: Some(EventSource { component: Some(COMPONENT.to_owned()), host: Some(node.to_owned()) }),
        reporting_component: Some(COMPONENT.to_owned()),
        reporting_instance: Some(node.to_owned()),
        ..Event::default()
    }
}
