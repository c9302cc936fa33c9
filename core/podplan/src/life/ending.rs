//! The end of a Pod: why it ends, and what is left to do until nothing of it is there.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::action::{Action, Notice};
use super::event::Stop;
use super::setup::Vm;
use super::time::{later, seconds, since};
use super::unit::Unit;
use super::{Failure, PodLife};

const DEADLINE_REASON: &str = "DeadlineExceeded";
const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

/// What the kubelet says of a container that it cannot find any more.
pub(super) const UNKNOWN_REASON: &str = "ContainerStatusUnknown";
pub(super) const UNKNOWN_MESSAGE: &str = "The container could not be located when the pod was terminated";
pub(super) const UNKNOWN_EXIT_CODE: i32 = 137;

/// How a Pod ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For whoever ran the Pod from a terminal: 0 when all went well, else that of the first container that failed.
    pub exit_code: i32,
    /// Whether the Pod's phase is `Succeeded`.
    pub has_succeeded: bool,
}

/// A Pod on its way out.
#[derive(Clone, Debug)]
pub(super) struct Ending {
    began_at: Timestamp,
    grace: Duration,
    /// When the microVM is taken from containers that do not end.
    force_at: Timestamp,
    /// Of whoever asked for it.
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
}

impl PodLife {
    /// Set when the Pod has ended for good and nothing of it is needed any more.
    pub fn is_finished(&self) -> Option<Outcome> {
        (self.ending.is_some() && self.setup.vm == Vm::Gone).then(|| outcome(&self.reported, &self.units))
    }

    /// Begins the end, or hurries it.
    pub(super) fn begin_end(&mut self, grace: Duration, now: Timestamp) {
        // The kill comes two seconds after the grace at the latest.
        let force_at =
            later(now, grace.saturating_add(Duration::from_secs(2)).saturating_add(self.settings.kill_patience));
        match &mut self.ending {
            Some(ending) => {
                let left = ending.grace.saturating_sub(since(ending.began_at, now));
                if grace < left {
                    (ending.began_at, ending.grace) = (now, grace);
                    ending.force_at = ending.force_at.min(force_at);
                    self.tighten_stops(grace, now);
                }
            }
            None => {
                self.ending = Some(Ending { began_at: now, grace, force_at, reason: None, message: None });
                self.tighten_stops(grace, now);
            }
        }
    }

    /// Somebody wants the Pod to end.
    pub(super) fn stop_asked(&mut self, stop: Stop, now: Timestamp) {
        self.start_time.get_or_insert(now);
        let grace = stop.grace.unwrap_or_else(|| self.own_grace());
        self.begin_end(grace, now);
        if let Some(ending) = &mut self.ending {
            ending.reason = ending.reason.take().or(stop.reason);
            ending.message = ending.message.take().or(stop.message);
        }
        if self.setup.vm == Vm::Absent {
            self.setup.vm = Vm::Gone;
        }
    }

    /// The Pod has failed, whatever its containers do.
    pub(super) fn fail(&mut self, failure: Failure, now: Timestamp) {
        let grace = self.own_grace();
        self.fail_within(failure, grace, now);
    }

    fn fail_within(&mut self, failure: Failure, grace: Duration, now: Timestamp) {
        if self.failure.is_none() && !self.has_final_phase() {
            self.failure = Some(failure);
        }
        self.begin_end(grace, now);
    }

    /// The Pod broke a limit.
    pub(super) fn evict(&mut self, reason: String, message: String, now: Timestamp) {
        if self.failure.is_some() || self.has_final_phase() {
            return;
        }
        self.tell(Notice::evicted(&message));
        let grace = self.settings.eviction_grace;
        self.fail_within(Failure { reason, message }, grace, now);
    }

    /// Fails a Pod that was active for longer than it may be.
    pub(super) fn enforce_deadline(&mut self, now: Timestamp) {
        let (Some(allowed), Some(start)) = (self.spec.active_deadline_seconds, self.start_time) else { return };
        if self.failure.is_some() || self.ending.is_some() || self.has_final_phase() {
            return;
        }
        let deadline = later(start, seconds(allowed));
        if deadline > now {
            self.wake_by(deadline);
            return;
        }
        self.tell(Notice::deadline_exceeded(DEADLINE_MESSAGE));
        let failure = Failure { reason: DEADLINE_REASON.to_owned(), message: DEADLINE_MESSAGE.to_owned() };
        self.fail(failure, now);
    }

    /// Stops all containers of a Pod that ends.
    pub(super) fn drive_end(&mut self, now: Timestamp) {
        let Some(ending) = self.ending.clone() else { return };
        let left = ending.grace.saturating_sub(since(ending.began_at, now));
        for index in 0..self.units.len() {
            let message = format!("Stopping container {}", self.units[index].name);
            self.begin_stop(index, left, message, true, now);
            if let Some(probes) = self.units[index].probes_mut() {
                probes.rest();
            }
        }
    }

    /// Powers the microVM off when nothing lives in it any more, or what lives there does not end.
    pub(super) fn drive_vm_stop(&mut self, now: Timestamp) {
        let Some(ending) = self.ending.clone() else { return };
        let is_over = !self.has_live();
        if !is_over && ending.force_at > now {
            self.wake_by(ending.force_at);
            return;
        }
        match self.setup.vm {
            Vm::Absent | Vm::Retry(_) => self.setup.vm = Vm::Gone,
            Vm::Starting | Vm::Ready => {
                self.setup.vm = Vm::Stopping;
                self.act(Action::StopVm);
            }
            Vm::Stopping | Vm::Gone => {}
        }
    }

    /// The microVM has ended, asked or not.
    pub(super) fn vm_gone(&mut self, failure: Option<Failure>, now: Timestamp) {
        let was_expected = matches!(self.setup.vm, Vm::Stopping | Vm::Gone);
        self.setup.vm = Vm::Gone;
        for unit in &mut self.units {
            if unit.live().is_some() {
                unit.end(unknown_end());
            }
        }
        if was_expected {
            return;
        }
        let failure = failure.unwrap_or_else(|| Failure {
            reason: "MicroVMGone".to_owned(),
            message: "The microVM of the pod has ended".to_owned(),
        });
        if !self.has_final_phase() {
            self.tell(Notice::vm_gone(&failure.message));
        }
        self.fail_within(failure, Duration::ZERO, now);
    }

    pub(super) fn has_final_phase(&self) -> bool {
        self.reported.phase.as_deref().is_some_and(is_final)
    }
}

/// Whether a Pod never leaves a phase again.
pub(super) fn is_final(phase: &str) -> bool {
    ["Succeeded", "Failed"].contains(&phase)
}

/// The end of a container of which nothing is known but that it is not there.
pub(super) fn unknown_end() -> ContainerStateTerminated {
    ContainerStateTerminated {
        exit_code: UNKNOWN_EXIT_CODE,
        reason: Some(UNKNOWN_REASON.to_owned()),
        message: Some(UNKNOWN_MESSAGE.to_owned()),
        // The kubelet has no times either, which the API writes as the beginning of the epoch or not at all.
        finished_at: None::<Time>,
        ..ContainerStateTerminated::default()
    }
}

fn outcome(status: &PodStatus, units: &[Unit]) -> Outcome {
    let has_succeeded = status.phase.as_deref() == Some("Succeeded");
    let codes = units.iter().filter(|unit| unit.role != super::Role::Ephemeral && unit.role != super::Role::Sidecar);
    let first = codes.filter_map(|unit| unit.ended().map(|state| state.exit_code)).find(|code| *code != 0);
    let exit_code = if has_succeeded { 0 } else { first.unwrap_or(1) };
    Outcome { exit_code, has_succeeded }
}
