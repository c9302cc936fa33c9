//! What the cluster is told of a Pod's status: only what is new, and not more often than somebody needs.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use monopod_api::names;
use serde_json::{Map, Value, json};

use super::resizing;
use crate::journal::StageRecord;

/// The patch that makes one status of another; `None` when they are equal.
///
/// It is a strategic merge patch. Lists whose items have a key are merged by it, so conditions of others stay; what is no
/// longer there is named with null. With the uid, so that it cannot hit another Pod of the same name.
pub(super) fn patch(uid: &str, before: &PodStatus, now: &PodStatus) -> Option<Value> {
    let (before, now) = (to_map(before), to_map(now));
    let mut changed = Map::new();
    for (key, value) in &now {
        if before.get(key) != Some(value) {
            changed.insert(key.clone(), value.clone());
        }
    }
    // The scheduler's fields are not ours to take away.
    for key in before.keys().filter(|key| !now.contains_key(*key) && !FOREIGN.contains(&key.as_str())) {
        changed.insert(key.clone(), Value::Null);
    }
    if let (Some(Value::Array(conditions)), Some(Value::Array(known))) =
        (changed.get_mut("conditions"), before.get("conditions"))
    {
        unset_what_is_left(conditions, known);
        // The only condition of ours that goes away again.
        let has = |conditions: &[Value]| conditions.iter().any(|one| one["type"] == resizing::PENDING);
        if has(known) && !has(conditions) {
            conditions.push(json!({"$patch": "delete", "type": resizing::PENDING}));
        }
    }
    if changed.is_empty() { None } else { Some(json!({"metadata": {"uid": uid}, "status": changed})) }
}

/// A status that also says when each stage of the start was done, and how long it took: one condition per stage.
pub(super) fn with_stages(mut status: PodStatus, admitted_at: Timestamp, stages: &[StageRecord]) -> PodStatus {
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|one| !one.type_.starts_with(names::STAGE_CONDITION_PREFIX));
    // Those with a slash are parts of others.
    for stage in stages.iter().filter(|stage| !stage.name.contains('/')) {
        let kind = format!("{}{}", names::STAGE_CONDITION_PREFIX, stage.name);
        let [took, since] = [stage.nanoseconds, stage.since_start_nanoseconds].map(Duration::from_nanos);
        let done = admitted_at.checked_add(since).unwrap_or(admitted_at);
        let condition = PodCondition {
            type_: kind,
            status: "True".to_owned(),
            reason: Some("StageDone".to_owned()),
            message: Some(format!("took {}, done {} after admission", millis(took), millis(since))),
            last_transition_time: Some(Time(done)),
            ..PodCondition::default()
        };
        // An image is a stage of each container; the last one says when all were there.
        conditions.retain(|one| one.type_ != condition.type_);
        conditions.push(condition);
    }
    status
}

/// Such as `12.3 ms`.
fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1e3)
}

/// A condition that has no reason any more must say so: the patch is merged into what was there.
fn unset_what_is_left(conditions: &mut [Value], known: &[Value]) {
    for condition in conditions.iter_mut().filter_map(Value::as_object_mut) {
        let Some(before) = known.iter().find(|one| one.get("type") == condition.get("type")) else { continue };
        for key in before.as_object().into_iter().flat_map(Map::keys) {
            condition.entry(key).or_insert(Value::Null);
        }
    }
}

/// Whether somebody else has changed what is ours to say: Kubernetes itself calls the Pods of a node that is silent not ready.
pub(super) fn is_contradicted(ours: &PodStatus, said: &PodStatus) -> bool {
    let is_other = |one: &PodCondition| {
        let theirs = said.conditions.iter().flatten().find(|other| other.type_ == one.type_);
        theirs.is_some_and(|theirs| theirs.status != one.status)
    };
    ours.phase != said.phase || ours.conditions.iter().flatten().any(is_other)
}

/// Fields of a status that others write.
const FOREIGN: [&str; 4] = ["nominatedNodeName", "qosClass", "resize", "resourceClaimStatuses"];

/// Whether somebody waits for this: otherwise it may wait for what comes next.
pub(super) fn is_urgent(before: &PodStatus, now: &PodStatus) -> bool {
    let essence = |status: &PodStatus| {
        let containers = |all: &Option<Vec<ContainerStatus>>| {
            all.iter().flatten().map(|one| (one.restart_count, one.ready, complaint(one))).collect::<Vec<_>>()
        };
        (
            status.phase.clone().filter(|phase| phase != "Pending"),
            status.reason.clone(),
            ready(status),
            containers(&status.init_container_statuses),
            containers(&status.container_statuses),
            containers(&status.ephemeral_container_statuses),
        )
    };
    let settled = |status: &PodStatus| status.container_statuses.as_ref().is_none_or(Vec::is_empty);
    // Of a Pod that nothing was told of, the first news are those of its start.
    if settled(before) && now.phase.as_deref() == Some("Pending") && !has_complaint(now) {
        return false;
    }
    essence(before) != essence(now)
}

fn has_complaint(status: &PodStatus) -> bool {
    let all = [&status.init_container_statuses, &status.container_statuses];
    all.into_iter().flatten().flatten().any(|one| complaint(one).is_some())
}

/// Why a container does not run, unless it is just about to.
fn complaint(container: &ContainerStatus) -> Option<String> {
    let state = container.state.as_ref()?;
    if let Some(ended) = &state.terminated {
        return Some(format!("{:?} {}", ended.reason, ended.exit_code));
    }
    let reason = state.waiting.as_ref()?.reason.clone()?;
    (!matches!(reason.as_str(), "ContainerCreating" | "PodInitializing")).then_some(reason)
}

fn ready(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}

fn to_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        Ok(_) | Err(_) => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::api::core::v1::PodStatus;
    use serde_json::{Value, json};

    use super::{is_contradicted, is_urgent, patch, with_stages};
    use crate::journal::StageRecord;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn only_what_is_new_is_said() {
        let before = status(json!({"phase": "Pending", "reason": "Waiting", "qosClass": "Burstable"}));
        let now = status(json!({"phase": "Running", "podIP": "10.0.0.1"}));
        let said = patch("u", &before, &now).unwrap();
        let expected = json!({"phase": "Running", "podIP": "10.0.0.1", "reason": null});
        assert_eq!(said, json!({"metadata": {"uid": "u"}, "status": expected}));
        assert_eq!(patch("u", &now, &now), None);
    }

    #[test]
    fn a_condition_loses_the_reason_that_it_has_no_more() {
        let before = json!({"type": "Ready", "status": "False", "reason": "ContainersNotReady", "message": "no"});
        let now = json!({"type": "Ready", "status": "True"});
        let of = |condition: &Value| status(json!({"conditions": [condition]}));
        let said = patch("u", &of(&before), &of(&now)).unwrap();
        let expected = json!([{"type": "Ready", "status": "True", "reason": null, "message": null}]);
        assert_eq!(said["status"]["conditions"], expected);
        assert!(is_contradicted(&of(&now), &of(&before)) && !is_contradicted(&of(&now), &of(&now)));
    }

    #[test]
    fn a_size_that_is_not_wanted_any_more_is_not_pending() {
        let ready = json!({"type": "Ready", "status": "True"});
        let before = status(json!({"conditions": [ready, {"type": "PodResizePending", "status": "True"}]}));
        let said = patch("u", &before, &status(json!({"conditions": [ready]}))).unwrap();
        let expected = json!([ready, {"$patch": "delete", "type": "PodResizePending"}]);
        assert_eq!(said["status"]["conditions"], expected);
    }

    #[test]
    fn each_stage_of_a_start_is_a_condition_with_its_time() {
        let stage = |name: &str, took, since| StageRecord {
            name: name.to_owned(),
            nanoseconds: took,
            since_start_nanoseconds: since,
        };
        let stages = [
            stage("image", 1_000_000, 2_000_000),
            stage("vm/spawn", 1, 1),
            stage("vm", 40_000_000, 45_000_000),
            stage("image", 2_000_000, 1_500_000_000),
        ];
        let status = status(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}));
        let once = with_stages(status, Timestamp::UNIX_EPOCH, &stages);
        assert_eq!(with_stages(once.clone(), Timestamp::UNIX_EPOCH, &stages), once);
        let said: Vec<_> = once.conditions.iter().flatten().map(|one| (&*one.type_, one.message.as_deref())).collect();
        let image = ("start.monopod.dev/image", Some("took 2.0 ms, done 1500.0 ms after admission"));
        let vm = ("start.monopod.dev/vm", Some("took 40.0 ms, done 45.0 ms after admission"));
        assert_eq!(said, [("Ready", None), vm, image]);
    }

    #[test]
    fn a_start_is_told_when_it_is_done_and_trouble_at_once() {
        let new = status(json!({"phase": "Pending"}));
        let container = |state: Value| json!([{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]);
        let creating = status(
            json!({"phase": "Pending", "containerStatuses": container(json!({"waiting": {"reason": "ContainerCreating"}}))}),
        );
        let failing = status(
            json!({"phase": "Pending", "containerStatuses": container(json!({"waiting": {"reason": "ErrImagePull"}}))}),
        );
        let running = status(json!({"phase": "Running", "containerStatuses": container(json!({"running": {}}))}));
        assert!(!is_urgent(&new, &creating));
        assert!(is_urgent(&new, &failing));
        assert!(is_urgent(&creating, &failing));
        assert!(is_urgent(&new, &running) && is_urgent(&creating, &running));
        assert!(!is_urgent(&running, &running));
    }
}
