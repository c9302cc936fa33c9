//! A Pod's conditions. Those of others, such as readiness gates, are kept as they are.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::setup::Vm;
use super::unit::{Role, Unit};
use super::{PodLife, policy};

const READY_TO_START: &str = "PodReadyToStartContainers";
const INITIALIZED: &str = "Initialized";
const READY: &str = "Ready";
const CONTAINERS_READY: &str = "ContainersReady";
const SCHEDULED: &str = "PodScheduled";
const ALL_RESTARTING: &str = "AllContainersRestarting";

/// Conditions that the kubelet answers for.
const OWN: [&str; 6] = [READY_TO_START, INITIALIZED, READY, CONTAINERS_READY, SCHEDULED, ALL_RESTARTING];

/// The conditions of a status that others answer for, such as readiness gates.
pub fn foreign_conditions(status: &PodStatus) -> Vec<PodCondition> {
    let all = status.conditions.iter().flatten();
    all.filter(|condition| !OWN.contains(&condition.type_.as_str())).cloned().collect()
}

/// What a condition says, without its times.
struct Verdict {
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes() -> Self {
        Self { is_true: true, reason: None, message: None }
    }

    fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            is_true: false,
            reason: Some(reason),
            message: Some(message.into()).filter(|message| !message.is_empty()),
        }
    }
}

impl PodLife {
    /// All conditions, in the kubelet's order.
    pub(super) fn conditions(
        &self,
        containers: &[(&Unit, ContainerStatus)],
        phase: &str,
        now: Timestamp,
    ) -> Vec<PodCondition> {
        let foreign = self.pod.status.as_ref().map(foreign_conditions).unwrap_or_default();
        let containers_ready = containers_ready(containers, phase);
        let ready = if containers_ready.is_true {
            self.readiness_gates(&foreign)
        } else {
            Verdict { message: containers_ready.message.clone(), ..containers_ready }
        };
        let mut conditions = foreign;
        conditions.extend([
            self.condition(READY_TO_START, self.ready_to_start(), now),
            self.condition(INITIALIZED, self.initialized(containers, phase), now),
            self.condition(READY, ready, now),
            self.condition(CONTAINERS_READY, self::containers_ready(containers, phase), now),
            self.condition(SCHEDULED, Verdict::yes(), now),
        ]);
        if policy::may_restart_all(&self.spec) {
            let condition = self.condition(ALL_RESTARTING, self.all_restarting(phase), now);
            conditions.push(PodCondition { observed_generation: None, ..condition });
        }
        conditions
    }

    fn condition(&self, type_: &str, Verdict { is_true, reason, message }: Verdict, now: Timestamp) -> PodCondition {
        let status = if is_true { "True" } else { "False" };
        let before = self.reported_condition(type_).filter(|condition| condition.status == status);
        let since = before.and_then(|condition| condition.last_transition_time.clone());
        PodCondition {
            last_probe_time: None,
            last_transition_time: Some(since.unwrap_or(Time(now))),
            message,
            observed_generation: self.pod.metadata.generation,
            reason: reason.map(str::to_owned),
            status: status.to_owned(),
            type_: type_.to_owned(),
        }
    }

    fn reported_condition(&self, type_: &str) -> Option<&PodCondition> {
        self.reported.conditions.iter().flatten().find(|condition| condition.type_ == type_)
    }

    fn ready_to_start(&self) -> Verdict {
        let reason = "PodSandboxNotReady";
        match self.setup.vm {
            Vm::Ready if self.setup.is_complete() => Verdict::yes(),
            Vm::Absent | Vm::Starting | Vm::Retry(_) | Vm::Ready => Verdict::no(reason, "no pod sandbox exists"),
            Vm::Stopping | Vm::Gone => Verdict::no(reason, "pod sandbox is not ready"),
        }
    }

    fn initialized(&self, containers: &[(&Unit, ContainerStatus)], phase: &str) -> Verdict {
        if phase == "Succeeded" {
            return Verdict { reason: Some("PodCompleted"), ..Verdict::yes() };
        }
        let was_initialized = self.reported_condition(INITIALIZED).is_some_and(|condition| condition.status == "True");
        let has_main_started = containers.iter().any(|(unit, status)| {
            let state = status.state.as_ref();
            unit.role == Role::Main && state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
        });
        if was_initialized || has_main_started {
            return Verdict::yes();
        }
        let is_incomplete = |(unit, status): &&(&Unit, ContainerStatus)| match unit.role {
            Role::Init => !status.ready,
            Role::Sidecar => status.started != Some(true),
            Role::Main | Role::Ephemeral => false,
        };
        let incomplete = names(containers.iter().filter(is_incomplete));
        if incomplete.is_empty() {
            return Verdict::yes();
        }
        let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
        Verdict::no("ContainersNotInitialized", message)
    }

    fn readiness_gates(&self, foreign: &[PodCondition]) -> Verdict {
        let gates = self.spec.readiness_gates.iter().flatten();
        let complaint = |gate: &str| match foreign.iter().find(|condition| condition.type_ == gate) {
            None => Some(format!("corresponding condition of pod readiness gate {gate:?} does not exist.")),
            Some(condition) if condition.status != "True" => {
                let status = &condition.status;
                Some(format!("the status of pod readiness gate {gate:?} is not \"True\", but {status}"))
            }
            Some(_) => None,
        };
        let complaints: Vec<String> = gates.filter_map(|gate| complaint(&gate.condition_type)).collect();
        if complaints.is_empty() {
            Verdict::yes()
        } else {
            Verdict::no("ReadinessGatesNotReady", complaints.join(", "))
        }
    }

    fn all_restarting(&self, phase: &str) -> Verdict {
        match phase {
            "Succeeded" => Verdict::no("PodCompleted", ""),
            "Failed" => Verdict::no("PodFailed", ""),
            _ if self.is_restarting_all => Verdict {
                is_true: true,
                reason: Some("RestartAllContainersStarted"),
                message: Some("container exited with restart policy rule".to_owned()),
            },
            _ => Verdict { is_true: false, reason: None, message: None },
        }
    }
}

fn containers_ready(containers: &[(&Unit, ContainerStatus)], phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", ""),
        "Failed" => return Verdict::no("PodFailed", ""),
        _ => {}
    }
    let counts = |(unit, _): &&(&Unit, ContainerStatus)| matches!(unit.role, Role::Sidecar | Role::Main);
    let unready = names(containers.iter().filter(counts).filter(|(_, status)| !status.ready));
    if unready.is_empty() {
        return Verdict::yes();
    }
    Verdict::no("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn names<'a>(containers: impl Iterator<Item = &'a (&'a Unit, ContainerStatus)>) -> Vec<&'a str> {
    containers.map(|(unit, _)| unit.name.as_str()).collect()
}
