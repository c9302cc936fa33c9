//! A host as the machine sees it: it carries actions out, answers when it is told to, and minds what it may not be asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, EphemeralContainer, Pod, PodStatus};

use super::super::time::later;
use super::super::*;
use super::script::start;

/// An answer that the machine waits for.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Pending {
    Vm,
    Volumes,
    Image(ContainerName),
    Create(ContainerId),
    Hook(ContainerId, Hook),
    Probe(ContainerId, ProbeKind),
    VmStop,
}

/// What the microVM knows of an instance.
#[derive(Clone, Debug)]
struct Known {
    container: ContainerName,
    started_at: Option<Timestamp>,
    exit: Option<Exit>,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) life: PodLife,
    pub(super) pod: Pod,
    pub(super) now: Timestamp,
    pub(super) pending: Vec<Pending>,
    known: BTreeMap<ContainerId, Known>,
    used: BTreeSet<ContainerId>,
    has_vm: bool,
    asked_to_end: bool,
    told: PodStatus,
}

impl World {
    pub(super) fn of(pod: Pod) -> Self {
        let life = PodLife::new(&pod, LifeSettings::default());
        let (known, used) = (BTreeMap::new(), BTreeSet::new());
        let told = life.status();
        let mut world =
            Self { life, pod, now: start(), pending: vec![], known, used, has_vm: false, asked_to_end: false, told };
        world.send(Event::Begin);
        world
    }

    pub(super) fn send(&mut self, event: Event) {
        let actions = self.life.handle(event, self.now);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        let tells = actions.iter().filter(|action| **action == Action::TellStatus).count();
        actions.into_iter().for_each(|action| self.begin(action));
        let status = self.life.status();
        assert_eq!(tells, usize::from(status != self.told), "a changed status is told once, an unchanged one never");
        if let Some(wake) = self.life.wake_at() {
            assert!(wake > self.now, "the machine waits for a time to come");
        }
        check_order(&self.told, &status);
        self.told = status;
    }

    fn begin(&mut self, action: Action) {
        match action {
            Action::StartVm => {
                assert!(!self.has_vm && !self.pending.contains(&Pending::Vm), "one microVM at a time");
                self.pending.push(Pending::Vm);
            }
            Action::StopVm => {
                self.pending.retain(|pending| *pending != Pending::Vm);
                self.pending.push(Pending::VmStop);
            }
            Action::MountVolumes => self.pending.push(Pending::Volumes),
            Action::PullImage { container, .. } => {
                let pull = Pending::Image(container);
                assert!(!self.pending.contains(&pull), "one pull at a time for {pull:?}");
                self.pending.push(pull);
            }
            Action::CreateAndStart { container, id, .. } => self.create(container, id),
            Action::Signal { id, .. } | Action::Kill { id } => self.expect_live(&id),
            Action::RunHook { id, hook, .. } => {
                self.expect_live(&id);
                self.pending.push(Pending::Hook(id, hook));
            }
            Action::RunProbe { id, kind, .. } => {
                self.expect_live(&id);
                let probe = Pending::Probe(id, kind);
                assert!(!self.pending.contains(&probe), "a probe is asked again before it has answered");
                self.pending.push(probe);
            }
            Action::RemoveContainer { id, .. } => {
                let known = self.known.remove(&id);
                let is_dead = known.is_none_or(|known| known.exit.is_some() || known.started_at.is_none());
                assert!(is_dead, "{id} is removed while it runs");
            }
            Action::Emit(notice) => assert!(!notice.message.is_empty()),
            Action::TellStatus => {}
        }
    }

    fn create(&mut self, container: ContainerName, id: ContainerId) {
        assert!(self.has_vm, "containers need a microVM");
        assert!(!self.asked_to_end, "nothing is started in a Pod that ends");
        assert!(!self.used.contains(&id), "{id} is used a second time");
        let is_twice = self.known.values().any(|known| known.container == container && known.exit.is_none());
        assert!(!is_twice, "a second instance of {container} beside a live one");
        self.known.insert(id.clone(), Known { container, started_at: None, exit: None });
        self.pending.push(Pending::Create(id));
    }

    fn expect_live(&self, id: &ContainerId) {
        let known = self.known.get(id);
        assert!(known.is_some_and(|known| known.exit.is_none()), "{id} is not there");
    }

    /// Containers whose program runs.
    pub(super) fn running(&self) -> Vec<ContainerId> {
        let running = self.known.iter().filter(|(_, known)| known.started_at.is_some() && known.exit.is_none());
        running.map(|(id, _)| id.clone()).collect()
    }

    /// Answers one of the pending questions, well or badly.
    pub(super) fn answer(&mut self, index: usize, is_good: bool) {
        let pending = self.pending.remove(index);
        let message = "no".to_owned();
        match pending {
            Pending::Vm if is_good => {
                self.has_vm = true;
                let pod_ips = vec!["10.0.1.2".parse().unwrap()];
                self.send(Event::SandboxReady(Sandbox { pod_ips, host_ips: vec![] }));
            }
            Pending::Vm => {
                let reason = "No".to_owned();
                self.send(Event::SandboxFailed(SandboxFailure { reason, message, is_final: false }));
            }
            Pending::Volumes if is_good => self.send(Event::VolumesReady),
            Pending::Volumes => self.send(Event::VolumeFailed { message }),
            Pending::Image(container) if is_good => self.send(Event::ImageReady {
                container,
                image: ImageFacts { image: "i".into(), image_id: "i".into(), stop_signal: None, pulled: None },
            }),
            Pending::Image(container) => {
                self.send(Event::ImageFailed { container, reason: "ErrImagePull".to_owned(), message });
            }
            Pending::Create(id) => self.create_answered(id, is_good),
            Pending::Hook(id, hook) => {
                self.send(Event::HookDone { id, hook, result: if is_good { Ok(()) } else { Err(message) } });
            }
            Pending::Probe(id, kind) => {
                let outcome = if is_good { ProbeOutcome::Success } else { ProbeOutcome::Failure(message) };
                self.send(Event::ProbeResult { id, kind, outcome });
            }
            Pending::VmStop => {
                self.lose_vm();
                self.send(Event::VmStopped);
            }
        }
    }

    fn create_answered(&mut self, id: ContainerId, is_good: bool) {
        let Some(known) = self.known.get_mut(&id) else { return };
        if is_good {
            self.used.insert(id.clone());
            known.started_at = Some(self.now);
            self.send(Event::ContainerCreated { id: id.clone(), user: None });
            self.send(Event::ContainerStarted { id, at: self.now });
            return;
        }
        // Half of them were made.
        let stage = if self.now.as_second() % 2 == 0 { StartStage::Create } else { StartStage::Start };
        match stage {
            StartStage::Create => drop(self.known.remove(&id)),
            StartStage::Start => {
                self.used.insert(id.clone());
                known.exit = Some(Exit { exit_code: 128, finished_at: Some(self.now), ..Exit::default() });
            }
        }
        let reason = "RunContainerError".to_owned();
        self.send(Event::ContainerStartFailed { id, stage, reason, message: "no".to_owned() });
    }

    pub(super) fn exit(&mut self, id: &ContainerId, exit_code: i32) {
        let Some(known) = self.known.get_mut(id) else { return };
        let exit = Exit { exit_code, started_at: known.started_at, finished_at: Some(self.now), ..Exit::default() };
        known.exit = Some(exit.clone());
        self.pending.retain(|pending| match pending {
            Pending::Hook(of, _) | Pending::Probe(of, _) => of != id,
            Pending::Vm | Pending::Volumes | Pending::Image(_) | Pending::Create(_) | Pending::VmStop => true,
        });
        self.send(Event::ContainerExited { id: id.clone(), exit });
    }

    /// Nothing is left of the microVM, nor of the questions about it.
    pub(super) fn lose_vm(&mut self) {
        self.has_vm = false;
        self.known.clear();
        self.pending.retain(|pending| matches!(pending, Pending::Image(_)));
    }

    pub(super) fn has_vm(&self) -> bool {
        self.has_vm
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = later(self.now, time);
        self.send(Event::Tick);
    }

    /// A person adds a container to look around.
    pub(super) fn add_debugger(&mut self) {
        let debuggers = self.pod.spec.as_mut().unwrap().ephemeral_containers.get_or_insert_default();
        let name = format!("debug-{}", debuggers.len());
        debuggers.push(EphemeralContainer { name, image: Some("debug:1".to_owned()), ..EphemeralContainer::default() });
        self.send(Event::PodChanged(Box::new(self.pod.clone())));
    }

    /// A person gives the first main container another image.
    pub(super) fn change_image(&mut self) {
        let container = &mut self.pod.spec.as_mut().unwrap().containers[0];
        container.image = container.image.take().map(|image| format!("{image}1"));
        self.send(Event::PodChanged(Box::new(self.pod.clone())));
    }

    pub(super) fn stop(&mut self) {
        self.asked_to_end = true;
        self.send(Event::StopAsked(Stop::default()));
    }

    /// The daemon dies, and another one goes on with what the microVM reports.
    pub(super) fn restart_daemon(&mut self) {
        self.pending.clear();
        // What had been asked for last did not arrive.
        self.known.retain(|_, known| known.started_at.is_some() || known.exit.is_some());
        let containers = self.known.iter().map(|(id, known)| Observed {
            id: id.clone(),
            container: known.container.clone(),
            stop_signal: None,
            state: match (&known.exit, known.started_at) {
                (Some(exit), _) => ObservedState::Exited(exit.clone()),
                (None, Some(started_at)) => ObservedState::Running { started_at },
                (None, None) => ObservedState::Created,
            },
        });
        let pod_ips = vec!["10.0.1.2".parse().unwrap()];
        let sandbox = self.has_vm.then(|| Sandbox { pod_ips, host_ips: vec![] });
        // It reads what the former one has written.
        let written = serde_json::to_string(&self.told).unwrap();
        let adopted =
            Adopted { status: serde_json::from_str(&written).unwrap(), sandbox, containers: containers.collect() };
        let (life, actions) = PodLife::adopt(&self.pod, LifeSettings::default(), adopted, self.now);
        self.life = life;
        let before = self.told.clone();
        self.carry_out(actions);
        if self.has_vm {
            let after = running(&self.told);
            let goes_on = |(name, count): (&String, &i32)| after.get(name) == Some(count);
            assert!(running(&before).iter().all(goes_on), "what ran goes on");
        }
        if self.asked_to_end {
            self.stop();
        }
    }

    /// A host where everything works, until nothing of the Pod is left.
    pub(super) fn end(&mut self) -> Outcome {
        self.stop();
        for _ in 0..1000 {
            if let Some(outcome) = self.life.is_finished() {
                return outcome;
            }
            if !self.pending.is_empty() {
                self.answer(0, true);
            } else if let Some(id) = self.running().first() {
                self.exit(id, 0);
            } else {
                let wake = self.life.wake_at().expect("a Pod that ends waits for something");
                self.now = wake;
                self.send(Event::Tick);
            }
        }
        panic!("the Pod does not end: {:?}", self.life);
    }
}

/// Names and restarts of the containers that run by a status.
fn running(status: &PodStatus) -> BTreeMap<String, i32> {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let is_running = |status: &&ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    let running = lists.into_iter().flatten().flatten().filter(is_running);
    running.map(|status| (status.name.clone(), status.restart_count)).collect()
}

/// A final phase is not left, and no count of restarts goes down.
fn check_order(before: &PodStatus, after: &PodStatus) {
    if let Some(phase @ ("Succeeded" | "Failed")) = before.phase.as_deref() {
        assert_eq!(after.phase.as_deref(), Some(phase), "a final phase is not left");
    }
    let count = |status: &ContainerStatus| (status.name.clone(), status.restart_count);
    let lists = |status: &PodStatus| -> BTreeMap<String, i32> {
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        lists.into_iter().flatten().flatten().map(count).collect()
    };
    let (before, after) = (lists(before), lists(after));
    for (name, count) in &before {
        assert!(after.get(name).is_some_and(|after| after >= count), "{name} was restarted {count} times already");
    }
}
