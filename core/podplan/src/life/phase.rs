//! A Pod's phase, from the states of its containers.

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, PodSpec};

use super::policy;
use super::starts::RESTARTING_ALL;
use super::unit::{Role, Unit};

/// How many containers are in which state; the kubelet decides by these numbers.
#[derive(Debug, Default)]
struct Count {
    pending_init: usize,
    pending_sidecars: usize,
    has_failed_init: bool,
    running: usize,
    waiting: usize,
    stopped: usize,
    stopped_for_good: usize,
    succeeded: usize,
}

/// What a phase depends on besides the containers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// The Pod ends and no container lives: none is restarted any more.
    pub(super) is_over: bool,
    /// A main container was started.
    pub(super) has_initialized: bool,
}

/// The phase of a Pod with these containers, ephemeral ones left out.
pub(super) fn of<'a>(
    containers: impl Iterator<Item = (&'a Unit, &'a ContainerStatus)>,
    spec: &PodSpec,
    circumstances: Circumstances,
) -> &'static str {
    let mut count = Count::default();
    for (unit, status) in containers {
        count.add(unit, status, spec);
    }
    count.phase(circumstances)
}

impl Count {
    fn add(&mut self, unit: &Unit, status: &ContainerStatus, spec: &PodSpec) {
        let state = status.state.as_ref();
        let terminated = state.and_then(|state| state.terminated.as_ref());
        let before = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
        let is_running = state.is_some_and(|state| state.running.is_some());
        let is_final = |end: &ContainerStateTerminated| {
            let is_restarted = unit.must_restart || end.reason.as_deref() == Some(RESTARTING_ALL);
            !is_restarted && !policy::should_restart(&unit.spec, spec, end.exit_code)
        };
        match unit.role {
            Role::Init => match terminated.or_else(|| before.filter(|_| !is_running)) {
                Some(end) => self.has_failed_init |= end.exit_code != 0 && is_final(end),
                None => self.pending_init += 1,
            },
            Role::Sidecar if is_running => {
                self.running += 1;
                self.pending_sidecars += usize::from(status.started != Some(true));
            }
            Role::Sidecar if terminated.or(before).is_none() => {
                self.waiting += 1;
                self.pending_sidecars += 1;
            }
            Role::Main if is_running => self.running += 1,
            Role::Main => match terminated.or(before) {
                Some(end) => {
                    self.stopped += 1;
                    self.stopped_for_good += usize::from(is_final(end));
                    self.succeeded += usize::from(terminated.is_some_and(|end| end.exit_code == 0));
                }
                None => self.waiting += 1,
            },
            Role::Sidecar | Role::Ephemeral => {}
        }
    }

    fn phase(&self, Circumstances { is_over, has_initialized }: Circumstances) -> &'static str {
        if self.has_failed_init {
            return "Failed";
        }
        let is_initializing = self.pending_init > 0 || self.pending_sidecars > 0 && !has_initialized;
        if is_initializing || self.waiting > 0 {
            return "Pending";
        }
        if self.running > 0 {
            return "Running";
        }
        if self.stopped == 0 {
            return "Pending";
        }
        if !is_over && self.stopped != self.stopped_for_good {
            // At least one is about to be restarted.
            return "Running";
        }
        if self.stopped == self.succeeded { "Succeeded" } else { "Failed" }
    }
}
