//! A Pod's status, from everything that is known.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, HostIP,
    PodIP, PodStatus, ResourceRequirements, VolumeMount, VolumeMountStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::PodLife;
use super::action::Action;
use super::ending::{is_final, unknown_end};
use super::normal::normalized;
use super::phase::{self, Circumstances};
use super::unit::{Instance, InstanceState, Role, Unit, Waiting};
use crate::plan::qos_class;

impl PodLife {
    /// Works the status out anew; tells when it is another one.
    pub(super) fn publish(&mut self, now: Timestamp) {
        if self.start_time.is_none() {
            return;
        }
        let status = normalized(self.current_status(now));
        if status != self.reported {
            self.reported = status;
            self.act(Action::TellStatus);
        }
    }

    fn current_status(&self, now: Timestamp) -> PodStatus {
        let is_over = self.ending.is_some() && !self.has_live();
        let has_initialized = self.units_of(Role::Main).any(Unit::has_instance);
        let mut containers: Vec<(&Unit, ContainerStatus)> =
            self.units.iter().map(|unit| (unit, self.container_status(unit))).collect();
        let phase = self.phase(&containers, Circumstances { is_over, has_initialized });
        if is_over {
            self.close(&mut containers);
        }
        let conditions = self.conditions(&containers, &phase, now);
        let (reason, message) = self.explanation(&phase);
        let of = |roles: &[Role]| -> Vec<ContainerStatus> {
            let wanted = containers.iter().filter(|(unit, _)| roles.contains(&unit.role));
            wanted.map(|(_, status)| status.clone()).collect()
        };
        let former = self.reported.clone();
        let sandbox = self.setup.sandbox.as_ref();
        let pod_ips: Vec<String> = sandbox.iter().flat_map(|it| &it.pod_ips).map(ToString::to_string).collect();
        let host_ips: Vec<String> = sandbox.iter().flat_map(|it| &it.host_ips).map(ToString::to_string).collect();
        PodStatus {
            phase: Some(phase),
            reason,
            message,
            conditions: Some(conditions),
            start_time: self.start_time.map(Time),
            observed_generation: self.pod.metadata.generation,
            qos_class: Some(qos_class(&self.pod).to_string()),
            host_ip: host_ips.first().cloned().or(former.host_ip),
            host_ips: some(host_ips.into_iter().map(|ip| HostIP { ip }).collect()).or(former.host_ips),
            pod_ip: pod_ips.first().cloned().or(former.pod_ip),
            pod_ips: some(pod_ips.into_iter().map(|ip| PodIP { ip }).collect()).or(former.pod_ips),
            init_container_statuses: some(of(&[Role::Init, Role::Sidecar])),
            container_statuses: some(by_name(of(&[Role::Main]))),
            ephemeral_container_statuses: some(by_name(of(&[Role::Ephemeral]))),
            nominated_node_name: former.nominated_node_name,
            resource_claim_statuses: former.resource_claim_statuses,
            ..PodStatus::default()
        }
    }

    /// A final phase is never left; a Pod that is over has one.
    fn phase(&self, containers: &[(&Unit, ContainerStatus)], circumstances: Circumstances) -> String {
        if let Some(phase) = self.reported.phase.clone().filter(|phase| is_final(phase)) {
            return phase;
        }
        if self.failure.is_some() {
            return "Failed".to_owned();
        }
        let containers = containers.iter().map(|(unit, status)| (*unit, status));
        let phase = phase::of(containers, &self.spec, circumstances);
        let is_unclear = circumstances.is_over && !is_final(phase);
        if is_unclear { "Failed".to_owned() } else { phase.to_owned() }
    }

    fn explanation(&self, phase: &str) -> (Option<String>, Option<String>) {
        if let Some(failure) = &self.failure {
            return (Some(failure.reason.clone()), Some(failure.message.clone()));
        }
        let ending = self.ending.as_ref().filter(|_| is_final(phase));
        let (reason, message) = ending.map_or((None, None), |ending| (ending.reason.clone(), ending.message.clone()));
        (reason.or_else(|| self.reported.reason.clone()), message.or_else(|| self.reported.message.clone()))
    }

    /// In a Pod that is over every container has ended, those too that were never seen to.
    fn close(&self, containers: &mut [(&Unit, ContainerStatus)]) {
        let is_terminated =
            |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.terminated.is_some());
        let was_seen = |status: &ContainerStatus| {
            let is_waiting = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
            !is_waiting || status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
        };
        let init: Vec<usize> = (0..containers.len())
            .filter(|index| matches!(containers[*index].0.role, Role::Init | Role::Sidecar))
            .collect();
        let last_seen = init.iter().rposition(|index| was_seen(&containers[*index].1)).unwrap_or(0);
        let is_initialized = init.is_empty()
            || containers.iter().any(|(unit, status)| unit.role == Role::Main && was_seen(status))
            || init.last().is_some_and(|index| is_terminated_well(&containers[*index].1));
        for (index, (unit, status)) in containers.iter_mut().enumerate() {
            let is_to_close = match unit.role {
                Role::Main => is_initialized,
                Role::Init | Role::Sidecar => init.get(last_seen).is_some_and(|last| index <= *last),
                Role::Ephemeral => false,
            };
            if is_to_close && !is_terminated(status) {
                status.state = Some(terminated_state(unknown_end()));
            }
        }
    }

    fn container_status(&self, unit: &Unit) -> ContainerStatus {
        let instance = unit.current.as_ref();
        let is_wanted = self.ending.is_none() && (unit.live().is_some() || self.should_run(unit));
        let waiting = unit.waiting.as_ref().filter(|_| is_wanted && (unit.is_due || unit.live().is_some()));
        let (state, last_state) = self.states(unit, waiting);
        let facts = instance.map(|instance| &instance.facts);
        let attempt = unit.starting.as_ref().map_or(unit.next_attempt, |starting| starting.attempt);
        let is_completed = unit.role == Role::Init && unit.ended().is_some_and(|state| state.exit_code == 0);
        let has_times = unit.role != Role::Ephemeral;
        ContainerStatus {
            name: unit.name.to_string(),
            image: facts.map_or_else(|| unit.image_name().to_owned(), |facts| facts.image.clone()),
            image_id: facts.map(|facts| facts.image_id.clone()).unwrap_or_default(),
            container_id: instance.map(|instance| self.container_id(&instance.id)),
            restart_count: i32::try_from(instance.map_or(attempt, |instance| instance.attempt)).unwrap_or(i32::MAX),
            ready: is_completed || unit.role != Role::Init && has_times && unit.is_ready(),
            started: has_times.then(|| unit.is_started()),
            state: Some(state),
            last_state: last_state.map(terminated_state),
            allocated_resources: instance.and_then(|_| unit.spec.resources.as_ref()?.requests.clone()),
            resources: instance.map(|_| resources(unit)),
            stop_signal: unit.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
            user: instance.and_then(|instance| instance.user.clone()),
            volume_mounts: some(unit.spec.volume_mounts.iter().flatten().map(mount_status).collect()),
            ..ContainerStatus::default()
        }
    }

    fn states(&self, unit: &Unit, waiting: Option<&Waiting>) -> (ContainerState, Option<ContainerStateTerminated>) {
        let previous = unit.previous.as_ref().map(|ended| ended.state.clone());
        match (unit.current.as_ref(), waiting) {
            (Some(Instance { state: InstanceState::Running { started_at, .. }, .. }), _) => {
                let running = ContainerStateRunning { started_at: Some(Time(*started_at)) };
                (ContainerState { running: Some(running), ..ContainerState::default() }, previous)
            }
            (Some(Instance { state: InstanceState::Ended(end), .. }), None) => {
                (terminated_state(end.clone()), previous)
            }
            (Some(Instance { state: InstanceState::Ended(end), .. }), Some(waiting)) => {
                (waiting_state(waiting.clone()), Some(end.clone()))
            }
            (None, Some(waiting)) => (waiting_state(waiting.clone()), previous),
            (None, None) => (self.not_yet(), previous),
        }
    }

    /// The state of a container that is on its way or has to wait for others.
    fn not_yet(&self) -> ContainerState {
        let has_init = self.spec.init_containers.as_ref().is_some_and(|containers| !containers.is_empty());
        let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
        waiting_state(Waiting { reason: reason.to_owned(), message: String::new() })
    }
}

fn is_terminated_well(status: &ContainerStatus) -> bool {
    let states = [status.state.as_ref(), status.last_state.as_ref()];
    let mut ends = states.into_iter().flatten().filter_map(|state| state.terminated.as_ref());
    ends.any(|end| end.exit_code == 0)
}

fn terminated_state(end: ContainerStateTerminated) -> ContainerState {
    ContainerState { terminated: Some(end), ..ContainerState::default() }
}

fn waiting_state(Waiting { reason, message }: Waiting) -> ContainerState {
    let message = Some(message).filter(|message| !message.is_empty());
    let waiting = ContainerStateWaiting { reason: Some(reason), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn resources(unit: &Unit) -> ResourceRequirements {
    unit.spec.resources.clone().unwrap_or_default()
}

fn mount_status(mount: &VolumeMount) -> VolumeMountStatus {
    let is_read_only = mount.read_only == Some(true);
    let is_recursive = |mode: &str| mode == "Enabled" || mode == "IfPossible";
    let mode = match mount.recursive_read_only.as_deref() {
        Some(mode) if is_recursive(mode) => "Enabled",
        Some(_) | None => "Disabled",
    };
    VolumeMountStatus {
        mount_path: mount.mount_path.clone(),
        name: mount.name.clone(),
        read_only: is_read_only.then_some(true),
        recursive_read_only: is_read_only.then(|| mode.to_owned()),
        volume_status: None,
    }
}

fn by_name(mut statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    statuses.sort_by(|one, other| one.name.cmp(&other.name));
    statuses
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    Some(list).filter(|list| !list.is_empty())
}
