//! Which containers are started again after they ended.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, PodSpec};

const ALWAYS: &str = "Always";
const ON_FAILURE: &str = "OnFailure";
const NEVER: &str = "Never";

/// The rule's action that starts all containers of the Pod again.
const RESTART_ALL_CONTAINERS: &str = "RestartAllContainers";

/// Whether a container is started again after it ended with an exit code. Its own rules go before its own policy, and that
/// before the Pod's.
pub(super) fn should_restart(container: &Container, pod: &PodSpec, exit_code: i32) -> bool {
    if let Some(own) = &container.restart_policy {
        let actions = ["Restart", RESTART_ALL_CONTAINERS];
        if matching_rule(container, exit_code).is_some_and(|rule| actions.contains(&rule.action.as_str())) {
            return true;
        }
        if let Some(verdict) = by_policy(own, exit_code) {
            return verdict;
        }
    }
    pod.restart_policy.as_deref().and_then(|policy| by_policy(policy, exit_code)).unwrap_or(true)
}

/// Whether a container that is killed for its health is started again. There is no exit code for rules to look at.
pub(super) fn restarts_when_unhealthy(container: &Container, pod: &PodSpec) -> bool {
    let policy = container.restart_policy.as_ref().or(pod.restart_policy.as_ref());
    policy.is_none_or(|policy| policy != NEVER)
}

/// Whether a container's end starts all containers again.
pub(super) fn restarts_all(container: &Container, exit_code: i32) -> bool {
    matching_rule(container, exit_code).is_some_and(|rule| rule.action == RESTART_ALL_CONTAINERS)
}

/// Whether any container's end may start all containers again.
pub(super) fn may_restart_all(pod: &PodSpec) -> bool {
    let containers = pod.init_containers.iter().flatten().chain(&pod.containers);
    let mut rules = containers.flat_map(|container| container.restart_policy_rules.iter().flatten());
    rules.any(|rule| rule.action == RESTART_ALL_CONTAINERS)
}

/// Whether an init container is a sidecar.
pub(super) fn is_sidecar(init_container: &Container) -> bool {
    init_container.restart_policy.as_deref() == Some(ALWAYS)
}

fn by_policy(policy: &str, exit_code: i32) -> Option<bool> {
    match policy {
        ALWAYS => Some(true),
        ON_FAILURE => Some(exit_code != 0),
        NEVER => Some(false),
        _ => None,
    }
}

fn matching_rule(container: &Container, exit_code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let is_listed = codes.values.iter().flatten().any(|code| *code == exit_code);
            match codes.operator.as_str() {
                "In" => is_listed,
                "NotIn" => !is_listed,
                _ => false,
            }
        })
    })
}
