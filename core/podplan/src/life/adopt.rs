//! Going on with a Pod whose microVM has outlived the daemon: from the status that was told last and what the guest
//! reports. Nothing that runs is touched; what had failed or waited is found again by the ordinary pass.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Pod, PodStatus};

use super::action::Action;
use super::back_off::BackOff;
use super::ending::unknown_end;
use super::event::{Exit, ImageFacts, Sandbox};
use super::names::{ContainerId, ContainerName};
use super::news::terminated;
use super::probe::Probes;
use super::setup::{Vm, Volumes};
use super::unit::{Ended, Instance, InstanceState, Unit};
use super::{LifeSettings, PodLife};

/// A container instance that a microVM reported after a restart of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Which instance.
    pub id: ContainerId,
    /// Of which container.
    pub container: ContainerName,
    /// The signal that its image wants to be stopped with, as recorded.
    pub stop_signal: Option<String>,
    /// What it does.
    pub state: ObservedState,
}

/// What a reported instance does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObservedState {
    /// Its program was not started.
    Created,
    /// Its program runs.
    Running {
        /// Since when.
        started_at: Timestamp,
    },
    /// Its program has ended.
    Exited(Exit),
}

/// What a restarted daemon knows of a Pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Adopted {
    /// The status that was told last.
    pub status: PodStatus,
    /// The microVM, if it still runs and answers.
    pub sandbox: Option<Sandbox>,
    /// Everything that the guest reports.
    pub containers: Vec<Observed>,
}

impl PodLife {
    /// Goes on with a Pod that a former daemon ran, and says what is to be done.
    ///
    /// A Pod that was being stopped is told so again by the caller, with what is left of its grace. Without a microVM the
    /// Pod has lost it, unless it had none yet: then its life begins.
    pub fn adopt(pod: &Pod, settings: LifeSettings, adopted: Adopted, now: Timestamp) -> (Self, Vec<Action>) {
        let mut life = Self::new(pod, settings);
        let Adopted { status, sandbox, containers } = adopted;
        life.start_time = status.start_time.as_ref().map(|time| time.0);
        life.reported = status.clone();
        let had_sandbox = status.pod_ip.is_some();
        life.restore_units(&status, containers, now);
        match sandbox {
            Some(sandbox) => {
                life.start_time.get_or_insert(now);
                life.setup.vm = Vm::Ready;
                life.setup.sandbox = Some(sandbox);
                if life.units.iter().any(Unit::has_instance) {
                    life.setup.volumes = Volumes::Ready;
                }
            }
            None if had_sandbox || life.has_final_phase() => life.vm_gone(None, now),
            None => {}
        }
        if life.has_final_phase() {
            let grace = life.own_grace();
            life.begin_end(grace, now);
        }
        life.sync(now);
        let actions = std::mem::take(&mut life.actions);
        (life, actions)
    }

    fn restore_units(&mut self, status: &PodStatus, containers: Vec<Observed>, now: Timestamp) {
        let told = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        let told: BTreeMap<&str, &ContainerStatus> =
            told.into_iter().flatten().flatten().map(|status| (status.name.as_str(), status)).collect();
        let mut observed: BTreeMap<ContainerName, Vec<Observed>> = BTreeMap::new();
        for instance in containers {
            observed.entry(instance.container.clone()).or_default().push(instance);
        }
        for index in 0..self.units.len() {
            let name = self.units[index].name.clone();
            let instances = observed.remove(&name).unwrap_or_default();
            self.restore(index, told.get(name.as_str()).copied(), instances, now);
        }
    }

    fn restore(&mut self, index: usize, told: Option<&ContainerStatus>, mut instances: Vec<Observed>, now: Timestamp) {
        let name = self.units[index].name.clone();
        instances.sort_by_key(|instance| instance.id.attempt(&name));
        let last_attempt = instances.last().and_then(|instance| instance.id.attempt(&name));
        // What was made and never started is of no use.
        let (unused, mut instances): (Vec<_>, Vec<_>) =
            instances.into_iter().partition(|instance| instance.state == ObservedState::Created);
        self.sweep(unused);
        let current = instances.pop();
        let previous = instances.pop();
        self.sweep(instances);
        let previous = previous.and_then(|instance| self.ended(index, instance, now));
        let told_previous = told.and_then(|told| told.last_state.as_ref()?.terminated.clone());
        let current = match current {
            Some(observed) => Some(self.instance(index, observed, told, now)),
            None => told.and_then(|told| self.missing_instance(index, told)),
        };
        let current_id = current.as_ref().map(|current| self.container_id(&current.id));
        let crash = self.settings.crash;
        let unit = &mut self.units[index];
        unit.previous = previous.or_else(|| {
            let state = told_previous?;
            // A container in back-off shows the end of its newest instance there.
            let is_current = state.container_id.is_some() && state.container_id == current_id;
            let attempt = current.as_ref().map_or(0, |current| current.attempt.saturating_sub(1));
            let id = ContainerId::numbered(&unit.name, 0);
            (!is_current).then_some(Ended { id, attempt, state, is_removed: true })
        });
        let told_count = told.and_then(|told| u32::try_from(told.restart_count).ok()).unwrap_or(0);
        let known_count = current.as_ref().map_or(told_count, |current| current.attempt + 1);
        unit.next_attempt = last_attempt.map_or(known_count, |last| known_count.max(last + 1));
        unit.crash_back_off = BackOff::after(unit.next_attempt.saturating_sub(1), &crash, now);
        unit.current = current;
    }

    /// Instances of which nothing is to be kept.
    fn sweep(&mut self, instances: Vec<Observed>) {
        for Observed { id, container, .. } in instances {
            let attempt = id.attempt(&container).unwrap_or(0);
            self.act(Action::RemoveContainer { id, container, attempt });
        }
    }

    fn instance(&self, index: usize, observed: Observed, told: Option<&ContainerStatus>, now: Timestamp) -> Instance {
        let unit = &self.units[index];
        let is_told = told.is_some_and(|told| told.container_id.as_deref() == Some(&self.container_id(&observed.id)));
        let told = told.filter(|_| is_told);
        let state = match observed.state {
            ObservedState::Running { started_at } => {
                let started_at = started_at.min(now);
                let mut probes = Probes::new(&unit.spec, started_at, now);
                let has_started = told.and_then(|told| told.started).unwrap_or(false);
                probes.recall(has_started, told.is_some_and(|told| told.ready));
                InstanceState::Running { started_at, probes }
            }
            ObservedState::Exited(exit) => {
                InstanceState::Ended(terminated(unit, exit, self.container_id(&observed.id), now))
            }
            ObservedState::Created => InstanceState::Ended(unknown_end()),
        };
        let facts = ImageFacts {
            image: told.map_or_else(|| unit.image_name().to_owned(), |told| told.image.clone()),
            image_id: told.map(|told| told.image_id.clone()).unwrap_or_default(),
            stop_signal: observed.stop_signal,
            pulled: None,
        };
        let user = told.and_then(|told| told.user.clone());
        let attempt = observed.id.attempt(&unit.name).unwrap_or(0);
        Instance { id: observed.id, attempt, user, facts, state }
    }

    fn ended(&self, index: usize, observed: Observed, now: Timestamp) -> Option<Ended> {
        let ObservedState::Exited(exit) = observed.state else { return None };
        let state = terminated(&self.units[index], exit, self.container_id(&observed.id), now);
        let attempt = observed.id.attempt(&observed.container).unwrap_or(0);
        Some(Ended { id: observed.id, attempt, state, is_removed: false })
    }

    /// An instance that the status tells of and the guest does not: it has ended, with what was told or with nothing known.
    fn missing_instance(&self, index: usize, told: &ContainerStatus) -> Option<Instance> {
        let unit = &self.units[index];
        let state = told.state.as_ref()?;
        let of_waiting = told.last_state.as_ref().and_then(|state| state.terminated.clone());
        let end = match (&state.terminated, &state.running) {
            (Some(end), _) => end.clone(),
            (None, Some(_)) => unknown_end(),
            // A container in back-off shows its last end here.
            (None, None) => of_waiting?,
        };
        let ContainerStateTerminated { container_id, .. } = &end;
        let told_id = container_id.as_ref().or(told.container_id.as_ref());
        let prefix = self.container_id(&ContainerId::new(""));
        let id = told_id.and_then(|id| id.strip_prefix(&prefix)).map(ContainerId::new);
        let attempt = u32::try_from(told.restart_count).unwrap_or(0);
        let facts =
            ImageFacts { image: told.image.clone(), image_id: told.image_id.clone(), stop_signal: None, pulled: None };
        Some(Instance {
            id: id.unwrap_or_else(|| ContainerId::numbered(&unit.name, attempt)),
            attempt,
            user: told.user.clone(),
            facts,
            state: InstanceState::Ended(end),
        })
    }
}
