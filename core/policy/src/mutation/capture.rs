//! What makes a Pod one of a profile: label, scheduler, priority.
//!
//! Source of the values: Pods as AWS Fargate leaves them, seen in `kubectl get pod -o yaml`.

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use monopod_api::names;
use monopod_types::ProfileName;
use serde_json::json;

use super::edits::{Edits, pointer};

/// Writes the profile's label, the scheduler and the priority, whatever the user has set there.
pub(super) fn plan(metadata: &ObjectMeta, spec: &PodSpec, profile: &ProfileName, edits: &mut Edits) {
    label(metadata, profile, edits);
    edits.set(&["spec", "schedulerName"], spec.scheduler_name.as_deref(), names::SCHEDULER_NAME);
    edits.set(&["spec", "priorityClassName"], spec.priority_class_name.as_deref(), names::PRIORITY_CLASS);
    edits.set(&["spec", "priority"], spec.priority, names::PRIORITY);
    // The API server fills this in from the class, before and after the webhook, and refuses a Pod that disagrees. So a
    // policy that came from the user's own class must go with that class.
    if let Some(policy) = spec.preemption_policy.as_deref() {
        edits.set(&["spec", "preemptionPolicy"], Some(policy), names::PREEMPTION_POLICY);
    }
}

fn label(metadata: &ObjectMeta, profile: &ProfileName, edits: &mut Edits) {
    match metadata.labels.as_ref().filter(|labels| !labels.is_empty()) {
        Some(labels) => {
            let current = labels.get(names::PROFILE_LABEL).map(String::as_str);
            edits.set(&["metadata", "labels", names::PROFILE_LABEL], current, profile.as_str());
        }
        None => edits.add(pointer(&["metadata", "labels"]), json!({ names::PROFILE_LABEL: profile.as_str() })),
    }
}
