//! What each event changes in what is known. What follows from it is found afterwards.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerUser, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::action::{Action, Hook, Notice};
use super::event::{Event, Exit, StartStage};
use super::names::{ContainerId, ContainerName};
use super::probe::Probes;
use super::time::{later, seconds};
use super::unit::{InstanceState, Role, Starting, Unit, Waiting, container_of};
use super::{Failure, PodLife, Stop, policy};

/// Prefix of container ids in a Pod's status: what runs it.
const RUNTIME: &str = "monopod";

/// Exit code of a container whose program could not be started, as containerd reports it.
const START_ERROR_CODE: i32 = 128;

impl PodLife {
    pub(super) fn take(&mut self, event: Event, now: Timestamp) {
        match event {
            Event::Begin => self.begin(now),
            Event::SandboxReady(sandbox) => self.sandbox_ready(sandbox),
            Event::SandboxFailed(failure) => self.sandbox_failed(failure, now),
            Event::VolumesReady => self.volumes_ready(),
            Event::VolumeFailed { message } => self.volume_failed(&message, now),
            Event::ImagePulling { container } => {
                if let Some(unit) = self.units.iter().find(|unit| unit.name == container) {
                    let notice = Notice::pulling(unit);
                    self.tell(notice);
                }
            }
            Event::ImageReady { container, image } => {
                if let Some(index) = self.position(&container) {
                    self.image_ready(index, image);
                }
            }
            Event::ImageFailed { container, reason, message } => {
                if let Some(index) = self.position(&container) {
                    self.image_failed(index, reason, message, now);
                }
            }
            Event::ContainerCreated { id, user } => self.container_created(&id, user),
            Event::ContainerStarted { id, at } => self.container_started(&id, at, now),
            Event::ContainerStartFailed { id, stage, reason, message } => {
                self.container_start_failed(&id, stage, Waiting { reason, message }, now);
            }
            Event::ContainerExited { id, exit } => self.container_exited(&id, exit, now),
            Event::ProbeResult { id, kind, outcome } => {
                if let Some(index) = self.position_of_live(&id) {
                    self.probe_answered(index, kind, &outcome, now);
                }
            }
            Event::HookDone { id, hook, result } => {
                if let Some(index) = self.position_of_live(&id) {
                    self.hook_done(index, hook, result, now);
                }
            }
            Event::StopAsked(stop) => self.stop_asked(stop, now),
            Event::PodChanged(pod) => self.pod_changed(*pod, now),
            Event::VmGone { reason, message } => self.vm_gone(Some(Failure { reason, message }), now),
            Event::VmStopped => self.vm_gone(None, now),
            Event::Evict { reason, message } => self.evict(reason, message, now),
            Event::Tick => {}
        }
    }

    fn begin(&mut self, now: Timestamp) {
        if self.start_time.is_some() {
            return;
        }
        let recorded = self.reported.start_time.as_ref().map(|time| time.0);
        self.start_time = Some(recorded.unwrap_or(now));
        if self.ending.is_none() {
            self.ask_for_all_images();
        }
    }

    fn position(&self, name: &ContainerName) -> Option<usize> {
        self.units.iter().position(|unit| unit.name == *name)
    }

    fn position_of_live(&self, id: &ContainerId) -> Option<usize> {
        self.units.iter().position(|unit| unit.live() == Some(id))
    }

    fn container_created(&mut self, id: &ContainerId, user: Option<ContainerUser>) {
        let Some(index) = self.position_of_live(id) else { return };
        let unit = &mut self.units[index];
        let Some(starting) = unit.starting.as_mut().filter(|starting| !starting.is_created) else { return };
        starting.is_created = true;
        starting.user = user;
        unit.next_attempt = starting.attempt + 1;
        let notice = Notice::created(unit);
        self.tell(notice);
    }

    fn container_started(&mut self, id: &ContainerId, at: Timestamp, now: Timestamp) {
        self.container_created(id, None);
        let Some(index) = self.position_of_live(id) else { return };
        let unit = &mut self.units[index];
        let Some(starting) = unit.starting.as_mut().filter(|starting| starting.started_at.is_none()) else { return };
        // The guest's clock is not to be trusted with what is to come.
        starting.started_at = Some(at.min(now));
        unit.must_restart = false;
        let notice = Notice::started(unit);
        self.tell(notice);
        let is_ending = self.ending.is_some() || self.is_restarting_all;
        if is_ending || !self.has_hook(index, Hook::PostStart) {
            self.run(index, now);
            return;
        }
        match self.hook_action(index, id.clone(), Hook::PostStart, None) {
            Ok(action) => self.act(action),
            Err(error) => self.post_start_failed(index, &error, now),
        }
    }

    /// The container counts as running from now on.
    fn run(&mut self, index: usize, now: Timestamp) {
        let unit = &mut self.units[index];
        let Some(started_at) = unit.starting.as_ref().and_then(|starting| starting.started_at) else { return };
        let probes = Probes::new(&unit.spec, started_at, now);
        unit.promote(InstanceState::Running { started_at, probes });
        unit.waiting = None;
    }

    fn container_start_failed(&mut self, id: &ContainerId, stage: StartStage, waiting: Waiting, now: Timestamp) {
        let Some(index) = self.position_of_live(id) else { return };
        if self.units[index].started().is_some() {
            return;
        }
        let retry_at = later(now, self.settings.retry);
        if stage == StartStage::Start {
            self.container_created(id, None);
        }
        if stage == StartStage::Create {
            self.drop_unmade(index, retry_at);
        }
        let unit = &mut self.units[index];
        let notice = Notice::failed(unit, &waiting.message);
        match stage {
            StartStage::Create => {}
            StartStage::Start => unit.end(ContainerStateTerminated {
                exit_code: START_ERROR_CODE,
                reason: Some("StartError".to_owned()),
                message: Some(waiting.message.clone()),
                started_at: Some(Time(Timestamp::UNIX_EPOCH)),
                finished_at: Some(Time(now)),
                ..ContainerStateTerminated::default()
            }),
        }
        unit.waiting = Some(waiting);
        self.tell(notice);
    }

    /// Nothing of a container was made, so its id is free again once remains, if any, are swept away.
    fn drop_unmade(&mut self, index: usize, retry_at: Timestamp) {
        let unit = &mut self.units[index];
        unit.retry_at = Some(retry_at);
        let container = unit.name.clone();
        if let Some(Starting { id, attempt, .. }) = unit.starting.take() {
            self.act(Action::RemoveContainer { id, container, attempt });
        }
    }

    fn container_exited(&mut self, id: &ContainerId, exit: Exit, now: Timestamp) {
        let Some(index) = self.position_of_live(id) else { return };
        self.note_start_of_short_life(index, id, &exit);
        let container_id = self.container_id(id);
        let unit = &mut self.units[index];
        let exit_code = exit.exit_code;
        unit.end(terminated(unit, exit, container_id, now));
        let restarts_all = unit.role != Role::Ephemeral && policy::restarts_all(&unit.spec, exit_code);
        self.is_restarting_all |= restarts_all && self.ending.is_none();
    }

    /// News of a container's end can overtake that of its start.
    fn note_start_of_short_life(&mut self, index: usize, id: &ContainerId, exit: &Exit) {
        if self.units[index].started().is_some() || exit.started_at.is_none() {
            return;
        }
        self.container_created(id, None);
        let notice = Notice::started(&self.units[index]);
        self.tell(notice);
        self.units[index].must_restart = false;
    }

    /// A container's id as statuses write it.
    pub(super) fn container_id(&self, id: &ContainerId) -> String {
        format!("{RUNTIME}://{}-{id}", self.pod.metadata.uid.as_deref().unwrap_or_default())
    }

    fn hook_done(&mut self, index: usize, hook: Hook, result: Result<(), String>, now: Timestamp) {
        match hook {
            Hook::PreStop => self.pre_stop_done(index, result.is_err(), now),
            Hook::PostStart if self.units[index].starting.is_none() || self.units[index].stopping.is_some() => {}
            Hook::PostStart => match result {
                Ok(()) => self.run(index, now),
                Err(error) => self.post_start_failed(index, &error, now),
            },
        }
    }

    fn post_start_failed(&mut self, index: usize, error: &str, now: Timestamp) {
        let (pod, grace) = (self.described(), self.own_grace());
        let unit = &mut self.units[index];
        let message = post_start_message(unit, &pod, error);
        unit.waiting = Some(Waiting { reason: "PostStartHookError".to_owned(), message });
        let notice = Notice::failed_post_start(unit);
        self.tell(notice);
        self.begin_stop(index, grace, "FailedPostStartHook".to_owned(), false, now);
    }

    /// Takes over what may change in a Pod: labels and the like, new ephemeral containers, images, a nearer deadline.
    fn pod_changed(&mut self, pod: Pod, now: Timestamp) {
        self.spec = pod.spec.clone().unwrap_or_default();
        self.pod = pod;
        let all = self.spec.init_containers.iter().flatten().chain(&self.spec.containers).cloned();
        for spec in all.collect::<Vec<_>>() {
            if let Some(index) = self.position(&ContainerName::new(spec.name.as_str())) {
                self.container_changed(index, spec, now);
            }
        }
        let ephemeral: Vec<_> = self.spec.ephemeral_containers.iter().flatten().map(container_of).collect();
        for spec in ephemeral {
            if self.position(&ContainerName::new(spec.name.as_str())).is_none() {
                self.units.push(Unit::new(Role::Ephemeral, spec));
            }
        }
        if self.pod.metadata.deletion_timestamp.is_some() {
            let grace = self.pod.metadata.deletion_grace_period_seconds.map(seconds);
            self.stop_asked(Stop { grace, ..Stop::default() }, now);
        }
    }

    fn container_changed(&mut self, index: usize, spec: k8s_openapi::api::core::v1::Container, now: Timestamp) {
        let grace = self.own_grace();
        let unit = &mut self.units[index];
        let is_other_image = unit.spec.image != spec.image;
        unit.spec = spec;
        if !is_other_image {
            return;
        }
        unit.change_image();
        let message = match unit.role {
            Role::Main => format!("Container {} definition changed, will be restarted", unit.name),
            Role::Sidecar => format!("Init container {} definition changed", unit.name),
            // These run once.
            Role::Init | Role::Ephemeral => return,
        };
        if unit.started().is_some() && self.ending.is_none() {
            unit.must_restart = true;
            self.begin_stop(index, grace, message, false, now);
        }
    }
}

/// How an exit stands in the status.
pub(super) fn terminated(unit: &Unit, exit: Exit, container_id: String, now: Timestamp) -> ContainerStateTerminated {
    let reason = match exit.exit_code {
        _ if exit.oom_killed => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    let falls_back = unit.spec.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
    let has_failed = exit.exit_code != 0 || exit.oom_killed;
    let message = if exit.termination_message.is_empty() && falls_back && has_failed {
        exit.log_tail
    } else {
        exit.termination_message
    };
    let known_start = match unit.current.as_ref().map(|instance| &instance.state) {
        Some(InstanceState::Running { started_at, .. }) => Some(*started_at),
        Some(InstanceState::Ended(_)) | None => unit.starting.as_ref().and_then(|starting| starting.started_at),
    };
    ContainerStateTerminated {
        container_id: Some(container_id),
        exit_code: exit.exit_code,
        finished_at: Some(Time(exit.finished_at.unwrap_or(now).min(now))),
        message: Some(message).filter(|message| !message.is_empty()),
        reason: Some(reason.to_owned()),
        signal: None,
        started_at: exit.started_at.or(known_start).map(|at| Time(at.min(now))),
    }
}

fn post_start_message(unit: &Unit, pod: &str, error: &str) -> String {
    let hook = unit.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    let about = |what: &str, detail: &str| {
        format!(
            "{what} lifecycle hook ({detail}) for Container {:?} in Pod {pod:?} failed - error: {error}",
            unit.name.as_str()
        )
    };
    let Some(hook) = hook else { return error.to_owned() };
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default().join(" ");
        return about("Exec", &format!("[{command}]"));
    }
    if let Some(get) = &hook.http_get {
        return about("HTTP", get.path.as_deref().unwrap_or_default());
    }
    match &hook.sleep {
        Some(sleep) => about("Sleep", &sleep.seconds.to_string()),
        None => format!("Cannot run handler: {error}"),
    }
}
