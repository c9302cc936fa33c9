//! What the columns of `kubectl get pods` say of a Pod; `monopod ps` says the same.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

/// The columns READY, STATUS and RESTARTS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) ready: usize,
    pub(super) containers: usize,
    pub(super) status: String,
    pub(super) restarts: u32,
}

/// What is told of a Pod.
pub(super) fn shown(pod: &Pod) -> Shown {
    let status = pod.status.clone().unwrap_or_default();
    let phase = status.phase.as_deref().unwrap_or("Pending");
    let mains = pod.spec.as_ref().map_or(0, |spec| spec.containers.len());
    let sidecars = init_statuses(&status).filter(|one| is_sidecar(pod, one));
    let mut shown = Shown {
        ready: init_statuses(&status).filter(|one| is_sidecar(pod, one) && is_up(one)).count(),
        containers: mains + sidecars_of(pod),
        status: status.reason.clone().unwrap_or_else(|| phase.to_owned()),
        restarts: init_statuses(&status).map(restarts).sum(),
    };
    let initializing = initializing(pod, &status);
    let is_initialized = has_condition(&status, "Initialized");
    if let Some(words) = &initializing {
        shown.status.clone_from(words);
    }
    if initializing.is_none() || is_initialized {
        shown.restarts = sidecars.map(restarts).sum();
        add_containers(&mut shown, &status);
    }
    let is_over = ["Succeeded", "Failed"].contains(&phase);
    if pod.metadata.deletion_timestamp.is_some() && !is_over {
        "Terminating".clone_into(&mut shown.status);
    }
    shown
}

/// The last of the containers that waits or has ended gives its word; the first in the list comes last.
fn add_containers(shown: &mut Shown, status: &PodStatus) {
    let mut has_running = false;
    for one in status.container_statuses.iter().flatten().rev() {
        shown.restarts += restarts(one);
        let ContainerState { running, terminated, waiting } = one.state.clone().unwrap_or_default();
        if let Some(reason) = waiting.and_then(|waiting| waiting.reason).filter(|reason| !reason.is_empty()) {
            shown.status = reason;
        } else if let Some(end) = terminated {
            shown.status = end_word(&end);
        } else if one.ready && running.is_some() {
            has_running = true;
            shown.ready += 1;
        }
    }
    if shown.status == "Completed" && has_running {
        let is_ready = has_condition(status, "Ready");
        shown.status = if is_ready { "Running" } else { "NotReady" }.to_owned();
    }
}

/// How far the init containers have come; none when they are done.
fn initializing(pod: &Pod, status: &PodStatus) -> Option<String> {
    let total = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref()).map_or(0, Vec::len);
    let (index, one) = init_statuses(status).enumerate().find(|(_, one)| {
        let has_ended_well = state(one).terminated.is_some_and(|end| end.exit_code == 0);
        !(has_ended_well || is_sidecar(pod, one) && one.started == Some(true))
    })?;
    let ContainerState { terminated, waiting, .. } = state(one);
    if let Some(end) = terminated {
        return Some(format!("Init:{}", end_word(&end)));
    }
    let reason = waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
    let is_telling = !reason.is_empty() && reason != "PodInitializing";
    Some(if is_telling { format!("Init:{reason}") } else { format!("Init:{index}/{total}") })
}

fn end_word(end: &ContainerStateTerminated) -> String {
    let reason = end.reason.clone().filter(|reason| !reason.is_empty());
    reason.unwrap_or_else(|| match end.signal {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        Some(_) | None => format!("ExitCode:{}", end.exit_code),
    })
}

fn init_statuses(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    status.init_container_statuses.iter().flatten()
}

fn sidecars_of(pod: &Pod) -> usize {
    let init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init.filter(|container| container.restart_policy.as_deref() == Some("Always")).count()
}

fn is_sidecar(pod: &Pod, one: &ContainerStatus) -> bool {
    let mut init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init.any(|container| container.name == one.name && container.restart_policy.as_deref() == Some("Always"))
}

fn is_up(one: &ContainerStatus) -> bool {
    let has_ended_well = state(one).terminated.is_some_and(|end| end.exit_code == 0);
    one.ready && one.started == Some(true) && !has_ended_well
}

fn state(one: &ContainerStatus) -> ContainerState {
    one.state.clone().unwrap_or_default()
}

fn restarts(one: &ContainerStatus) -> u32 {
    u32::try_from(one.restart_count).unwrap_or(0)
}

fn has_condition(status: &PodStatus, kind: &str) -> bool {
    status.conditions.iter().flatten().any(|one| one.type_ == kind && one.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::shown;

    /// Of a Pod with main containers a and b, init container i and sidecar s: STATUS, READY and RESTARTS.
    fn check(metadata: &Value, status: &Value, expected: (&str, &str, u32)) {
        let pod = json!({"metadata": metadata, "status": status, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}],
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}]}});
        let shown = shown(&serde_json::from_value(pod).unwrap());
        let ready = format!("{}/{}", shown.ready, shown.containers);
        assert_eq!((shown.status.as_str(), ready.as_str(), shown.restarts), expected, "{status}");
    }

    fn container(name: &str, ready: bool, state: Value) -> Value {
        json!({"name": name, "ready": ready, "started": ready, "restartCount": 1, "image": "", "imageID": "", "state": state})
    }

    fn running(name: &str) -> Value {
        container(name, true, json!({"running": {}}))
    }

    fn ended(name: &str, code: i32, reason: &str) -> Value {
        container(name, false, json!({"terminated": {"exitCode": code, "reason": reason}}))
    }

    fn waits(name: &str, reason: &str) -> Value {
        container(name, false, json!({"waiting": {"reason": reason}}))
    }

    #[test]
    fn a_pod_is_shown_as_kubectl_shows_it() {
        let plain = json!({});
        let check = |phase: &str, init: &[Value], main: &[Value], expected| {
            let status = json!({"phase": phase, "initContainerStatuses": init, "containerStatuses": main});
            check(&plain, &status, expected);
        };
        let done = [ended("i", 0, "Completed"), running("s")];
        check("Pending", &[], &[], ("Pending", "0/3", 0));
        check("Pending", &[waits("i", "PodInitializing")], &[], ("Init:0/2", "0/3", 1));
        check("Pending", &[waits("i", "CrashLoopBackOff")], &[], ("Init:CrashLoopBackOff", "0/3", 1));
        check("Pending", &[ended("i", 3, "")], &[], ("Init:ExitCode:3", "0/3", 1));
        check("Pending", &[ended("i", 0, "Completed"), waits("s", "")], &[], ("Init:1/2", "0/3", 2));
        check("Running", &done, &[running("a"), running("b")], ("Running", "3/3", 3));
        check("Running", &done, &[running("a"), ended("b", 0, "Completed")], ("NotReady", "2/3", 3));
        check("Running", &done, &[waits("a", "ImagePullBackOff"), running("b")], ("ImagePullBackOff", "2/3", 3));
        let main = [ended("a", 143, "Error"), ended("b", 0, "Completed")];
        check("Failed", &done[..1], &main, ("Error", "0/3", 2));
        check("Failed", &done[..1], &[ended("a", 9, ""), ended("b", 0, "")], ("ExitCode:9", "0/3", 2));
    }

    #[test]
    fn a_pod_that_is_stopped_terminates_until_it_is_over() {
        let metadata = json!({"deletionTimestamp": "2026-11-26T09:00:00Z"});
        let status = json!({"phase": "Running", "containerStatuses": [running("a"), running("b")]});
        check(&metadata, &status, ("Terminating", "2/3", 2));
        let status =
            json!({"phase": "Failed", "containerStatuses": [ended("a", 137, "Error"), ended("b", 0, "Completed")]});
        check(&metadata, &status, ("Error", "0/3", 2));
        let status = json!({"phase": "Failed", "reason": "Evicted"});
        check(&metadata, &status, ("Evicted", "0/3", 0));
    }
}
