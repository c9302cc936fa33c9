//! Resizing in place: a microVM has its size for life, so we say what a kubelet says of a size that it cannot give, and
//! whoever asked (VPA, for one) makes a new Pod.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The condition (core/v1, `PodResizePending`).
pub(super) const PENDING: &str = "PodResizePending";
/// Its reason, for what will not come.
const INFEASIBLE: &str = "Infeasible";
/// The event's reason (kubelet, `events.ResizeInfeasible`).
pub(super) const EVENT: &str = "ResizeInfeasible";
/// What people read.
pub(super) const MESSAGE: &str =
    "a microVM keeps the size that it was made with; delete the Pod to have it made anew with the new size";

/// Takes away what a newer spec says of the size; whether it was another than the running Pod's.
pub(super) fn keep_size(newer: &mut PodSpec, running: &PodSpec) -> bool {
    let mut is_other = newer.resources != running.resources;
    newer.resources.clone_from(&running.resources);
    let known: Vec<&Container> = containers(running).collect();
    for container in newer.init_containers.iter_mut().flatten().chain(&mut newer.containers) {
        let Some(known) = known.iter().find(|one| one.name == container.name) else { continue };
        is_other |= container.resources != known.resources;
        container.resources.clone_from(&known.resources);
        container.resize_policy.clone_from(&known.resize_policy);
    }
    is_other
}

fn containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// The condition of a Pod that is wanted in another size than it runs with.
pub(super) fn pending(wanted: &Pod, running: &PodSpec) -> Option<PodCondition> {
    let is_other = keep_size(&mut wanted.spec.clone()?, running);
    let before = wanted.status.as_ref().and_then(condition);
    is_other.then(|| PodCondition {
        type_: PENDING.to_owned(),
        status: "True".to_owned(),
        reason: Some(INFEASIBLE.to_owned()),
        message: Some(MESSAGE.to_owned()),
        observed_generation: wanted.metadata.generation,
        last_transition_time: before
            .and_then(|before| before.last_transition_time.clone())
            .or_else(|| Some(Time(Timestamp::now()))),
        ..PodCondition::default()
    })
}

/// What a status says of a size that is pending.
pub(super) fn condition(status: &PodStatus) -> Option<&PodCondition> {
    status.conditions.iter().flatten().find(|one| one.type_ == PENDING)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, PodSpec};
    use serde_json::{Value, json};

    use super::{keep_size, pending};

    fn spec(resources: &Value) -> PodSpec {
        serde_json::from_value(json!({
            "containers": [{"name": "a", "image": "one", "resources": resources}, {"name": "b"}],
        }))
        .unwrap()
    }

    #[test]
    fn the_size_stays_and_everything_else_is_taken() {
        let (running, mut newer) = (spec(&json!({"requests": {"cpu": "1"}})), spec(&json!({"requests": {"cpu": "2"}})));
        newer.containers[0].image = Some("two".to_owned());
        assert!(keep_size(&mut newer, &running));
        assert_eq!(newer.containers[0].resources, running.containers[0].resources);
        assert_eq!(newer.containers[0].image.as_deref(), Some("two"));
        assert!(!keep_size(&mut newer, &running));
    }

    #[test]
    fn another_size_is_infeasible_since_it_was_first_wanted() {
        let (running, resources) = (spec(&json!({"requests": {"cpu": "1"}})), json!({"requests": {"cpu": "2"}}));
        let mut pod = Pod { spec: Some(running.clone()), ..Pod::default() };
        assert_eq!(pending(&pod, &running), None);
        (pod.spec, pod.metadata.generation) = (Some(spec(&resources)), Some(2));
        let mut known = pending(&pod, &running).unwrap();
        assert_eq!((known.reason.as_deref(), known.observed_generation), (Some("Infeasible"), Some(2)));
        known.last_transition_time = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        pod.status = serde_json::from_value(json!({"conditions": [known]})).unwrap();
        assert_eq!(pending(&pod, &running), Some(known));
    }
}
