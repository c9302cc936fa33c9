//! How one container is stopped: pre-stop hook, its turn, its signal, and in the end the kill.
//!
//! ```text
//! PreStop --done or out of time--> Turn --those before it have ended--> Signalled --grace over--> Killed
//! ```
//! Grace is one budget for the hook and the turn; what is left of it, but two seconds at least, is for the program.

use std::time::Duration;

use jiff::Timestamp;

use super::PodLife;
use super::action::{Action, Hook, Notice};
use super::handler;
use super::names::ContainerId;
use super::time::{later, seconds, since};
use super::unit::{Role, Unit};

/// Every program gets this long after its signal.
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// A container that is being stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopping {
    step: Step,
    /// Since when the budget is as it stands.
    since: Timestamp,
    /// What is left of the grace.
    left: Duration,
    /// Whether sidecars wait for those that need them.
    is_ordered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    PreStop,
    Turn,
    Signalled { kill_at: Timestamp },
    Killed,
}

impl Stopping {
    /// Takes the time that has passed off the budget; whole seconds, as the kubelet does.
    fn spend(&mut self, now: Timestamp) {
        self.left = self.left.saturating_sub(Duration::from_secs(since(self.since, now).as_secs()));
        self.since = now;
    }

    fn is_out_of_time(&self, now: Timestamp) -> bool {
        later(self.since, self.left) <= now
    }

    /// Leaves no more grace than this from now on.
    fn tighten(&mut self, grace: Duration, now: Timestamp) {
        let passed = since(self.since, now);
        self.left = self.left.min(passed.saturating_add(grace));
        if let Step::Signalled { kill_at } = &mut self.step {
            *kill_at = (*kill_at).min(later(now, grace.max(LEAST_GRACE)));
        }
    }
}

impl PodLife {
    /// Grace as the Pod's object says it.
    pub(super) fn own_grace(&self) -> Duration {
        let of_deletion = self.pod.metadata.deletion_grace_period_seconds;
        let grace = of_deletion.or(self.spec.termination_grace_period_seconds);
        grace.map_or(Duration::from_secs(30), seconds)
    }

    /// Begins to stop a container whose program has been started, unless that has begun.
    pub(super) fn begin_stop(
        &mut self,
        index: usize,
        grace: Duration,
        message: String,
        is_ordered: bool,
        now: Timestamp,
    ) {
        let unit = &mut self.units[index];
        let Some(id) = unit.started().cloned().filter(|_| unit.stopping.is_none()) else { return };
        unit.stopping = Some(Stopping { step: Step::Turn, since: now, left: grace, is_ordered });
        let notice = Notice::killing(unit, message);
        self.tell(notice);
        if grace > Duration::ZERO && self.has_hook(index, Hook::PreStop) {
            self.run_pre_stop(index, id, grace);
        }
    }

    fn run_pre_stop(&mut self, index: usize, id: ContainerId, grace: Duration) {
        match self.hook_action(index, id, Hook::PreStop, Some(grace)) {
            Ok(action) => {
                if let Some(stopping) = &mut self.units[index].stopping {
                    stopping.step = Step::PreStop;
                }
                self.act(action);
            }
            Err(_message) => {
                let notice = Notice::failed_pre_stop(&self.units[index]);
                self.tell(notice);
            }
        }
    }

    /// What is to be done for a hook.
    ///
    /// # Errors
    /// With the reason when the hook cannot be done as written.
    pub(super) fn hook_action(
        &self,
        index: usize,
        id: ContainerId,
        hook: Hook,
        timeout: Option<Duration>,
    ) -> Result<Action, String> {
        let unit = &self.units[index];
        let lifecycle = unit.spec.lifecycle.as_ref();
        let written = lifecycle.and_then(|lifecycle| match hook {
            Hook::PostStart => lifecycle.post_start.as_ref(),
            Hook::PreStop => lifecycle.pre_stop.as_ref(),
        });
        let written = written.ok_or_else(|| "invalid handler: there is no hook".to_owned())?;
        let handler = handler::of_hook(written, &unit.spec, &self.pod_ip())?;
        Ok(Action::RunHook { id, container: unit.name.clone(), hook, handler, timeout })
    }

    /// A pre-stop hook has ended.
    pub(super) fn pre_stop_done(&mut self, index: usize, has_failed: bool, now: Timestamp) {
        let Some(stopping) = &mut self.units[index].stopping else { return };
        if stopping.step != Step::PreStop {
            return;
        }
        stopping.spend(now);
        stopping.step = Step::Turn;
        if has_failed {
            let notice = Notice::failed_pre_stop(&self.units[index]);
            self.tell(notice);
        }
    }

    /// Moves everything that is being stopped on.
    pub(super) fn drive_stops(&mut self, now: Timestamp) {
        for index in 0..self.units.len() {
            let unit = &self.units[index];
            if let (Some(stopping), Some(id)) = (unit.stopping, unit.started().cloned()) {
                self.drive_stop(index, &id, stopping, now);
            }
        }
    }

    fn drive_stop(&mut self, index: usize, id: &ContainerId, mut stopping: Stopping, now: Timestamp) {
        if stopping.step == Step::PreStop && stopping.is_out_of_time(now) {
            stopping.spend(now);
            stopping.step = Step::Turn;
        }
        let is_turn = !stopping.is_ordered || stopping.is_out_of_time(now) || self.is_turn_of(index);
        if stopping.step == Step::Turn && is_turn {
            stopping.spend(now);
            stopping.step = Step::Signalled { kill_at: later(now, stopping.left.max(LEAST_GRACE)) };
            let signal = self.units[index].stop_signal();
            self.act(Action::Signal { id: id.clone(), signal });
        }
        match stopping.step {
            Step::PreStop | Step::Turn => self.wake_by(later(stopping.since, stopping.left)),
            Step::Signalled { kill_at } if kill_at <= now => {
                stopping.step = Step::Killed;
                self.act(Action::Kill { id: id.clone() });
            }
            Step::Signalled { kill_at } => self.wake_by(kill_at),
            Step::Killed => {}
        }
        self.units[index].stopping = Some(stopping);
    }

    /// Whether nobody needs a container any more: main ones need sidecars, and a sidecar those before it.
    fn is_turn_of(&self, index: usize) -> bool {
        let is_down = |unit: &Unit| unit.live().is_none();
        self.units[index].role != Role::Sidecar
            || self.units_of(Role::Main).all(is_down)
                && self.units[index + 1..].iter().find(|unit| unit.role == Role::Sidecar).is_none_or(is_down)
    }

    /// Leaves no container more grace than this from now on.
    pub(super) fn tighten_stops(&mut self, grace: Duration, now: Timestamp) {
        for stopping in self.units.iter_mut().filter_map(|unit| unit.stopping.as_mut()) {
            stopping.tighten(grace, now);
        }
    }
}
