//! Which containers are to run, and the way of each to its start: back-off, image, creation.
//!
//! Init containers run one after the other; a sidecar lets the next one begin once it has started. Containers start one at a
//! time in the Pod's order, and a post-start hook holds up those behind it, as programs that wait for their proxy expect.

use jiff::Timestamp;

use super::action::{Action, Notice};
use super::names::ContainerId;
use super::policy;
use super::time::later;
use super::unit::{Ended, ImageState, Role, Starting, Unit, Waiting};
use super::{Hook, PodLife};

/// What the kubelet says of containers that are started anew all together.
pub(super) const RESTARTING_ALL: &str = "RestartingAllContainers";
const RESTARTING_ALL_MESSAGE: &str = "The container is removed because RestartAllContainers in place";

/// How far the Pod's initialization is.
enum Initialization {
    /// These have to run next (none while one runs).
    Next(Vec<usize>),
    /// One has failed and does not run again.
    Failed,
    /// Main containers may run; these sidecars have to run again.
    Done(Vec<usize>),
}

/// Whether the containers behind one may be looked at.
#[derive(PartialEq, Eq)]
enum Progress {
    GoOn,
    Wait,
}

impl PodLife {
    /// Asks for the images of all containers at once, so that none has to be waited for later.
    pub(super) fn ask_for_all_images(&mut self) {
        for index in 0..self.units.len() {
            if self.units[index].role != Role::Ephemeral {
                self.ask_for_image(index);
            }
        }
    }

    /// Starts what has to run and can; finds out that nothing has to run any more.
    pub(super) fn drive_starts(&mut self, now: Timestamp) {
        for unit in &mut self.units {
            unit.is_due = false;
        }
        if self.ending.is_some() || self.is_restarting_all {
            return;
        }
        let due = match self.initialization() {
            Initialization::Next(due) => due,
            Initialization::Failed => return self.begin_end(self.own_grace(), now),
            Initialization::Done(mut due) => {
                let sidecars = due.len();
                due.extend(self.due_main());
                if due.len() == sidecars && self.units_of(Role::Main).all(|unit| unit.live().is_none()) {
                    return self.begin_end(self.own_grace(), now);
                }
                due
            }
        };
        let ephemeral = self.indices(|unit| unit.role == Role::Ephemeral && !unit.has_instance());
        for index in ephemeral.iter().chain(&due) {
            self.units[*index].is_due = true;
        }
        if self.setup.is_complete() {
            // A person who looks around waits for nobody.
            for index in ephemeral {
                self.advance(index, now);
            }
            self.start_in_order(&due, now);
        }
    }

    /// Ends all containers to start them anew, when one's end asked for it.
    pub(super) fn drive_restart_of_all(&mut self, now: Timestamp) {
        if !self.is_restarting_all || self.ending.is_some() {
            return;
        }
        let others = self.indices(|unit| unit.role != Role::Ephemeral && unit.live().is_some());
        for index in &others {
            self.begin_stop(*index, std::time::Duration::ZERO, "killing".to_owned(), false, now);
        }
        if others.is_empty() {
            self.is_restarting_all = false;
            for index in self.indices(|unit| unit.role != Role::Ephemeral && unit.has_instance()) {
                self.forget_instances(index);
            }
        }
    }

    fn indices(&self, wanted: impl Fn(&Unit) -> bool) -> Vec<usize> {
        (0..self.units.len()).filter(|index| wanted(&self.units[*index])).collect()
    }

    /// Back to where a container was before its first start, but for its count.
    fn forget_instances(&mut self, index: usize) {
        self.remove_previous(index);
        let unit = &mut self.units[index];
        let Some(instance) = unit.current.take() else { return };
        unit.waiting = None;
        unit.must_restart = false;
        let state = k8s_openapi::api::core::v1::ContainerStateTerminated {
            exit_code: 137,
            reason: Some(RESTARTING_ALL.to_owned()),
            message: Some(RESTARTING_ALL_MESSAGE.to_owned()),
            ..Default::default()
        };
        unit.previous = Some(Ended { id: instance.id, attempt: instance.attempt, state, is_removed: false });
        self.remove_previous(index);
    }

    fn initialization(&self) -> Initialization {
        let init = self.indices(|unit| matches!(unit.role, Role::Init | Role::Sidecar));
        let is_sidecar_down = |index: &usize| {
            let unit = &self.units[*index];
            unit.role == Role::Sidecar && unit.live().is_none()
        };
        let is_initialized = self.units_of(Role::Main).any(Unit::has_instance);
        let frontier = init.iter().rposition(|index| self.units[*index].has_instance());
        let Some(frontier) = frontier else {
            return match init.first() {
                Some(first) if !is_initialized => Initialization::Next(vec![*first]),
                Some(_) | None => Initialization::Done(init.into_iter().filter(is_sidecar_down).collect()),
            };
        };
        if is_initialized {
            return Initialization::Done(init.into_iter().filter(is_sidecar_down).collect());
        }
        let mut due: Vec<usize> = init[..frontier].iter().copied().filter(is_sidecar_down).collect();
        let unit = &self.units[init[frontier]];
        let is_complete = match (unit.role, unit.ended()) {
            (Role::Init, Some(state)) => state.exit_code == 0,
            (Role::Init, None) => false,
            (Role::Sidecar | Role::Main | Role::Ephemeral, _) => unit.is_started(),
        };
        if !is_complete {
            if unit.live().is_none() {
                if unit.role == Role::Init && !self.should_run(unit) {
                    return Initialization::Failed;
                }
                due.push(init[frontier]);
            }
            return Initialization::Next(due);
        }
        match init.get(frontier + 1) {
            Some(next) => {
                due.push(*next);
                Initialization::Next(due)
            }
            None => Initialization::Done(due),
        }
    }

    fn due_main(&self) -> Vec<usize> {
        self.indices(|unit| unit.role == Role::Main && unit.live().is_none() && self.should_run(unit))
    }

    /// Whether a container that is not live should be.
    pub(super) fn should_run(&self, unit: &Unit) -> bool {
        let restarts = |exit_code| policy::should_restart(&unit.spec, &self.spec, exit_code);
        unit.must_restart || unit.ended().is_none_or(|state| restarts(state.exit_code))
    }

    fn start_in_order(&mut self, due: &[usize], now: Timestamp) {
        let is_one_starting = self.units.iter().any(|unit| unit.role != Role::Ephemeral && unit.starting.is_some());
        if is_one_starting {
            return;
        }
        for index in due {
            if self.advance(*index, now) == Progress::Wait {
                return;
            }
        }
    }

    /// Brings one container one step nearer to its start.
    fn advance(&mut self, index: usize, now: Timestamp) -> Progress {
        if let Some(at) = self.units[index].retry_at.filter(|at| *at > now) {
            self.wake_by(at);
            return Progress::GoOn;
        }
        if let Some(until) = self.crash_back_off(index, now) {
            self.wake_by(until);
            return Progress::GoOn;
        }
        match self.units[index].image.clone() {
            ImageState::Idle => self.ask_for_image(index),
            ImageState::Asked { .. } => {}
            ImageState::Ready => self.create(index),
            ImageState::Failed { reason, message, back_off_from, until } => {
                if until <= now {
                    self.ask_for_image(index);
                    return Progress::Wait;
                }
                self.wake_by(until);
                self.show_image_failure(index, (reason, message), back_off_from, now);
                return Progress::GoOn;
            }
        }
        Progress::Wait
    }

    /// Until when a restart has to wait, if it has to. Once it does not, the next waiting time is entered.
    fn crash_back_off(&mut self, index: usize, now: Timestamp) -> Option<Timestamp> {
        let (settings, pod) = (self.settings.crash, self.described());
        let unit = &mut self.units[index];
        if unit.is_cleared {
            return None;
        }
        // What is killed for its health counts from the end before, as the kubelet has no other yet when it decides.
        let last = if unit.must_restart { unit.previous.as_ref().map(|ended| &ended.state) } else { unit.ended() };
        let Some(failed_at) = last.and_then(|state| state.finished_at.as_ref()).map(|time| time.0) else {
            unit.is_cleared = true;
            return None;
        };
        let until = unit.crash_back_off.until(&settings, failed_at).filter(|until| *until > now);
        if until.is_none() {
            unit.crash_back_off.enter(&settings, failed_at, now);
            unit.is_cleared = true;
            return None;
        }
        let delay = super::back_off::go_duration(unit.crash_back_off.delay());
        let message = format!("back-off {delay} restarting failed container={} pod={pod}", unit.name);
        unit.waiting = Some(Waiting { reason: "CrashLoopBackOff".to_owned(), message });
        if !unit.is_back_off_told {
            unit.is_back_off_told = true;
            let notice = Notice::crash_back_off(unit, &pod);
            self.tell(notice);
        }
        until
    }

    fn ask_for_image(&mut self, index: usize) {
        let unit = &mut self.units[index];
        unit.image = ImageState::Asked { is_stale: false };
        let (container, image, policy) = (unit.name.clone(), unit.image_name().to_owned(), unit.pull_policy());
        self.act(Action::PullImage { container, image, policy });
    }

    /// Shows why an image is missing; after a while, that it is backed off from.
    fn show_image_failure(
        &mut self,
        index: usize,
        (reason, message): (String, String),
        back_off_from: Option<Timestamp>,
        now: Timestamp,
    ) {
        let is_back_off = back_off_from.is_some_and(|at| at <= now);
        if let Some(at) = back_off_from.filter(|_| !is_back_off) {
            self.wake_by(at);
        }
        let unit = &mut self.units[index];
        let waiting = if is_back_off {
            let message = format!("Back-off pulling image {:?}: {reason}: {message}", unit.image_name());
            Waiting { reason: "ImagePullBackOff".to_owned(), message }
        } else {
            Waiting { reason, message }
        };
        if unit.waiting.as_ref() == Some(&waiting) {
            return;
        }
        let notices = is_back_off.then(|| [Notice::image_back_off(unit), Notice::failed(unit, "ImagePullBackOff")]);
        unit.waiting = Some(waiting);
        notices.into_iter().flatten().for_each(|notice| self.tell(notice));
    }

    fn create(&mut self, index: usize) {
        self.remove_previous(index);
        let unit = &mut self.units[index];
        let Some(facts) = unit.facts.clone() else { return };
        let id = ContainerId::numbered(&unit.name, unit.next_attempt);
        unit.image = ImageState::Idle;
        unit.retry_at = None;
        let (container, attempt, image_id) = (unit.name.clone(), unit.next_attempt, facts.image_id.clone());
        let starting = Starting { id: id.clone(), attempt, is_created: false, started_at: None, user: None, facts };
        unit.starting = Some(starting);
        self.act(Action::CreateAndStart { container, id, attempt, image_id });
    }

    /// Gives up the instance before the last, so that one ended instance is kept.
    fn remove_previous(&mut self, index: usize) {
        let unit = &mut self.units[index];
        let Some(ended) = unit.previous.as_mut().filter(|ended| !ended.is_removed) else { return };
        ended.is_removed = true;
        let (id, attempt, container) = (ended.id.clone(), ended.attempt, unit.name.clone());
        self.act(Action::RemoveContainer { id, container, attempt });
    }

    /// The image of a container is there.
    pub(super) fn image_ready(&mut self, index: usize, facts: super::ImageFacts) {
        let unit = &mut self.units[index];
        if !unit.takes_image_answer() {
            return;
        }
        unit.image = ImageState::Ready;
        let notice = Notice::pulled(unit, &facts);
        unit.facts = Some(facts);
        self.tell(notice);
    }

    /// The image of a container is not to be had for now.
    pub(super) fn image_failed(&mut self, index: usize, reason: String, message: String, now: Timestamp) {
        let (settings, retry, show) = (self.settings.image, self.settings.retry, self.settings.show_error);
        let unit = &mut self.units[index];
        if !unit.takes_image_answer() {
            return;
        }
        let notices = [Notice::image_failed(unit, &reason, &message), Notice::failed(unit, &reason)];
        let is_pull = !["ErrImageNeverPull", "InvalidImageName", "ImageInspectError"].contains(&reason.as_str());
        let wait = if is_pull {
            unit.image_back_off.enter(&settings, now, now);
            unit.image_back_off.delay()
        } else {
            retry
        };
        let back_off_from = is_pull.then(|| later(now, show));
        unit.image = ImageState::Failed { reason, message, back_off_from, until: later(now, wait) };
        notices.into_iter().for_each(|notice| self.tell(notice));
    }

    /// Whether a container has something to do at such a moment.
    pub(super) fn has_hook(&self, index: usize, hook: Hook) -> bool {
        let lifecycle = self.units[index].spec.lifecycle.as_ref();
        lifecycle.is_some_and(|lifecycle| match hook {
            Hook::PostStart => lifecycle.post_start.is_some(),
            Hook::PreStop => lifecycle.pre_stop.is_some(),
        })
    }
}
