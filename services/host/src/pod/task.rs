//! The task that owns a Pod: it steps the machine of `monopod_podplan::life`, keeps the journal, and ends when the Pod has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use monopod_agent_proto::v1::ContainerState;
use monopod_agent_proto::v1::container_state::Phase;
use monopod_images::Image;
use monopod_podplan::life::{Action, ContainerId, ContainerName, Event, Outcome, PodLife, Stop};
use monopod_podplan::plan::MachineShape;
use monopod_types::{GiB, MiB, MilliCpu};
use monopod_vmm::VmExit;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::clock::Clock;
use super::containers::{self, Instance};
use super::images::Early;
use super::work::{Work, plan_settings};
use super::{Command, PodHandle, PodShared, Sandbox};
use crate::journal::{FinishedRecord, ImageRecord, Journal, PodRecord, SizeRecord, StateRecord, StopRecord};
use crate::machine::Machine;
use crate::news::{Finished, Item};
use crate::objects::Objects;
use crate::ports::{BoundPort, PublishedPort};

/// What jobs tell the task.
#[derive(Debug)]
pub(super) enum Note {
    /// News for the machine.
    Life(Event),
    /// The microVM runs.
    Sandbox(Arc<Sandbox>),
    /// An image is held.
    Image { container: ContainerName, image: Box<Image> },
    /// The guest says what a container does.
    Container(Box<ContainerState>),
    /// All output of an instance is in its log.
    LogComplete { id: String },
    /// The microVM has ended, wanted or not.
    VmExit(VmExit),
}

/// Everything that a task starts with.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) shared: Arc<PodShared>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) objects: Objects,
    pub(crate) record: PodRecord,
    pub(crate) state: StateRecord,
    pub(crate) journal: Journal,
    pub(crate) ports: Vec<BoundPort>,
    /// Of a Pod that is adopted.
    pub(crate) adopted: Option<AdoptedLife>,
}

/// The life of a Pod that goes on.
#[derive(Debug)]
pub(crate) struct AdoptedLife {
    pub(super) life: PodLife,
    pub(super) actions: Vec<Action>,
    pub(super) sandbox: Option<Arc<Sandbox>>,
    pub(super) images: BTreeMap<ContainerName, Image>,
}

/// Notes that may wait for the task.
const NOTES: usize = 64;
/// Requests that may wait for it.
const COMMANDS: usize = 8;
/// Between attempts to write a journal that could not be written.
const SAVE_PAUSE: Duration = Duration::from_secs(2);

/// The task.
#[derive(Debug)]
pub(crate) struct PodTask {
    pub(super) work: Work,
    clock: Clock,
    pub(super) life: PodLife,
    pub(super) state: StateRecord,
    pub(super) jobs: JoinSet<()>,
    pub(super) early: Early,
    pub(super) images: BTreeMap<ContainerName, Image>,
    /// The end of the microVM is wanted.
    pub(super) is_stopping_vm: bool,
    record: PodRecord,
    journal: Journal,
    bound: Vec<BoundPort>,
    published: Vec<PublishedPort>,
    commands: mpsc::Receiver<Command>,
    notes: mpsc::Receiver<Note>,
    milestones: Milestones,
    is_unsaved: bool,
}

/// Steps of the start that the status tells.
#[derive(Debug)]
struct Milestones {
    /// The ones to come, the next first.
    left: &'static [Milestone],
    last: Instant,
}

/// A step's name, and whether a status says that it is done.
type Milestone = (&'static str, fn(&PodStatus) -> bool);

const MILESTONES: [Milestone; 3] = [
    ("init", |status| is_true(status, "Initialized")),
    ("started", all_started),
    ("ready", |status| is_true(status, "Ready")),
];

impl PodTask {
    /// Starts the task, and one that looks after it.
    pub(crate) fn spawn(beginning: Beginning) -> PodHandle {
        let (commands, requests) = mpsc::channel(COMMANDS);
        let (shared, machine) = (Arc::clone(&beginning.shared), Arc::clone(&beginning.machine));
        let handle = PodHandle::new(Arc::clone(&shared), commands);
        let journal = beginning.journal.clone();
        let running = tokio::spawn(Self::live(beginning, requests));
        tokio::spawn(async move {
            if let Err(failed) = running.await {
                give_up(&shared, &machine, &journal, &failed).await;
            }
        });
        handle
    }

    async fn live(beginning: Beginning, commands: mpsc::Receiver<Command>) {
        let (tell, notes) = mpsc::channel(NOTES);
        let Beginning { shared, machine, objects, record, state, journal, ports, adopted } = beginning;
        let work = Work {
            pod: Arc::new(record.pod.clone()),
            objects: Arc::new(objects),
            shape: shape(record.size),
            address: record.address,
            plan: Arc::new(plan_settings(&machine, record.resolver.as_ref())),
            notes: tell,
            shared,
            machine,
        };
        let clock = Clock::begin();
        let now = clock.now();
        let is_new = adopted.is_none();
        let AdoptedLife { life, actions, sandbox, images } = adopted.unwrap_or_else(|| {
            let mut life = PodLife::new(&record.pod, work.machine.settings.life.clone());
            let actions = life.handle(Event::Begin, now);
            AdoptedLife { life, actions, sandbox: None, images: BTreeMap::new() }
        });
        let early = if is_new { Early::begin(&work) } else { Early::default() };
        let left = if is_new { &MILESTONES[..] } else { &[] };
        let mut task = Self {
            work,
            clock,
            life,
            state,
            jobs: JoinSet::new(),
            early,
            images,
            is_stopping_vm: false,
            record,
            journal,
            bound: ports,
            published: Vec::new(),
            commands,
            notes,
            milestones: Milestones { left, last: Instant::now() },
            is_unsaved: false,
        };
        if let Some(sandbox) = sandbox {
            task.pump_again(&sandbox);
            task.take_sandbox(sandbox);
        }
        task.go_on_stopping(now);
        task.carry_out(actions);
        task.tell_status();
        task.run().await;
    }

    async fn run(mut self) {
        let outcome = loop {
            self.save();
            if let Some(outcome) = self.life.is_finished() {
                break outcome;
            }
            let wake = self.life.wake_at().map(|at| self.clock.until(at));
            let save = self.is_unsaved.then_some(SAVE_PAUSE);
            let wake = wake.into_iter().chain(save).min();
            let sleep = tokio::time::sleep(wake.unwrap_or_default());
            tokio::select! {
                biased;
                Some(note) = self.notes.recv() => self.take(note),
                Some(command) = self.commands.recv() => self.obey(command),
                Some(done) = self.jobs.join_next() => if let Err(error) = done
                    && error.is_panic()
                {
                    tracing::error!(pod = %self.work.shared.name, %error, "a job of the pod panicked");
                    let message = "a part of the host that served this Pod failed".to_owned();
                    self.happen(Event::VmGone { reason: "InternalError".to_owned(), message });
                },
                () = sleep, if wake.is_some() => self.happen(Event::Tick),
            }
        };
        self.finish(outcome).await;
    }

    /// Tells the machine, and begins what it asks for.
    pub(super) fn happen(&mut self, event: Event) {
        let actions = self.life.handle(event, self.clock.now());
        self.carry_out(actions);
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Life(event) => self.happen(event),
            Note::Sandbox(sandbox) => self.take_sandbox(sandbox),
            Note::Image { container, image } => self.take_image(container, *image),
            Note::Container(state) => self.take_container(&state),
            Note::LogComplete { id } => {
                if let Some(instance) = self.state.instances.get_mut(&id) {
                    instance.log_complete = true;
                    self.is_unsaved = true;
                }
            }
            Note::VmExit(exit) => self.take_exit(&exit),
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Stop { grace } => {
                let grace_seconds = grace.map(|grace| grace.as_secs());
                self.state.stop = Some(StopRecord { asked_at: Timestamp::now(), grace_seconds });
                self.is_unsaved = true;
                self.happen(Event::StopAsked(Stop { grace, ..Stop::default() }));
                self.tell_status();
            }
            Command::Update(newer) => self.update(&newer),
            Command::Change { pod, done } => {
                self.change(*pod);
                // Nobody may wait for it any more.
                let _ = done.send(());
            }
        }
    }

    /// Seconds that a stop leaves to the containers.
    fn grace(&self, stop: StopRecord) -> u64 {
        let own = self.work.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        stop.grace_seconds.or_else(|| own.and_then(|own| u64::try_from(own).ok())).unwrap_or(30)
    }

    /// A Pod that is being stopped looks like one that is being deleted from a cluster.
    fn mark_deleted(&self, pod: &mut Pod, stop: StopRecord) {
        let grace = self.grace(stop);
        let seconds = jiff::SignedDuration::from_secs(i64::try_from(grace).unwrap_or(i64::MAX));
        let until = stop.asked_at.saturating_add(seconds).unwrap_or(Timestamp::MAX);
        pod.metadata.deletion_timestamp = Some(Time(until));
        pod.metadata.deletion_grace_period_seconds = i64::try_from(grace).ok();
    }

    /// A stop that a former daemon was asked for goes on, with what is left of its grace.
    fn go_on_stopping(&mut self, now: Timestamp) {
        let Some(stop) = self.state.stop else { return };
        let grace = self.grace(stop);
        let passed = until(now, stop.asked_at);
        let grace = Some(Duration::from_secs(grace).saturating_sub(passed));
        self.happen(Event::StopAsked(Stop { grace, ..Stop::default() }));
    }

    fn update(&mut self, newer: &Objects) {
        let before = self.work.clone();
        let mut objects = (*before.objects).clone();
        objects.update(newer);
        let objects = objects.of_pod(&self.work.pod);
        if objects == *before.objects {
            return;
        }
        self.record.objects = objects.to_values();
        self.work.objects = Arc::new(objects);
        self.refresh(before);
    }

    fn change(&mut self, mut pod: Pod) {
        // How it fares is for us to say, but for what others of a cluster say of it, such as readiness gates.
        if self.record.address.is_none() {
            pod.status.clone_from(&self.record.pod.status);
        }
        pod.metadata.deletion_timestamp = None;
        pod.metadata.deletion_grace_period_seconds = None;
        if pod == self.record.pod {
            return;
        }
        let before = self.work.clone();
        self.record.pod = pod.clone();
        self.work.pod = Arc::new(pod.clone());
        self.happen(Event::PodChanged(Box::new(pod)));
        self.tell_status();
        self.refresh(before);
    }

    /// Writes down what the Pod and its objects are now, and brings its files up to date.
    fn refresh(&mut self, before: Work) {
        if let Err(error) = self.journal.write_pod(&self.record) {
            tracing::error!(pod = %self.work.shared.name, error = &error as &dyn std::error::Error, "journal is not up to date");
        }
        if let Some(sandbox) = self.work.sandbox() {
            let work = self.work.clone();
            self.jobs.spawn(async move { super::volumes::update(&work, &before, &sandbox).await });
        }
    }

    fn take_sandbox(&mut self, sandbox: Arc<Sandbox>) {
        let facts = &sandbox.facts;
        self.state.addresses.clone_from(&facts.addresses);
        self.state.mac = Some(facts.mac.clone());
        self.state.boot_id = Some(facts.boot_id.clone());
        self.state.guest_kernel = Some(facts.guest_kernel.clone());
        self.state.is_personal = true;
        self.is_unsaved = true;
        if let Some(address) = facts.addresses.first() {
            let ports = std::mem::take(&mut self.bound);
            self.published.extend(ports.into_iter().map(|port| port.publish(*address)));
        }
        self.work.shared.set_sandbox(Some(Arc::clone(&sandbox)));
        self.jobs.spawn(containers::watch(self.work.clone(), Arc::clone(&sandbox)));
        self.jobs.spawn(super::eviction::watch(self.work.clone(), Arc::clone(&sandbox)));
        self.jobs.spawn(super::agent_log::watch(self.work.clone(), Arc::clone(&sandbox)));
        let work = self.work.clone();
        self.jobs.spawn(async move {
            let exit = sandbox.vm.wait().await;
            sandbox.gone.cancel();
            work.note(Note::VmExit(exit)).await;
        });
    }

    /// Goes on with the logs of instances that a former daemon has made.
    fn pump_again(&self, sandbox: &Arc<Sandbox>) {
        for (id, record) in self.state.instances.iter().filter(|(_, record)| !record.log_complete) {
            let container = ContainerName::new(record.container.clone());
            let id = ContainerId::new(id.clone());
            containers::spawn_pump(
                &self.work,
                sandbox,
                &Instance { id, container, attempt: record.attempt, target: None },
            );
        }
    }

    fn take_image(&mut self, container: ContainerName, image: Image) {
        let record = ImageRecord {
            reference: image.reference.to_string(),
            digest: image.digest.to_string(),
            id: image.id.to_string(),
            serial: image.serial.clone(),
            stop_signal: image.config.stop_signal.clone(),
        };
        self.state.images.insert(container.as_str().to_owned(), record);
        self.images.insert(container, image);
        self.is_unsaved = true;
    }

    fn take_container(&mut self, state: &ContainerState) {
        // The guest is believed only about what it was asked to make.
        let Some(known) = self.state.instances.get(&state.id) else { return };
        let container = ContainerName::new(known.container.clone());
        let id = ContainerId::new(state.id.clone());
        match state.phase() {
            Phase::Running => self.work.shared.set_running(container.as_str(), Some(id.clone())),
            Phase::Exited if self.work.shared.running(container.as_str()).as_ref() == Some(&id) => {
                self.work.shared.set_running(container.as_str(), None);
            }
            Phase::Unknown | Phase::Created | Phase::Exited => {}
        }
        let Some(event) = containers::event(state) else { return };
        let instance = Instance { id, container, attempt: known.attempt, target: None };
        if state.phase() == Phase::Exited {
            let work = self.work.clone();
            self.jobs.spawn(async move { containers::tell_exit(&work, instance, event).await });
        } else {
            self.happen(event);
        }
    }

    fn take_exit(&mut self, exit: &VmExit) {
        if !self.is_stopping_vm {
            tracing::warn!(pod = %self.work.shared.name, %exit, "microVM has ended on its own");
            self.happen(Event::VmGone { reason: exit.reason().to_owned(), message: exit.to_string() });
        }
    }

    /// Shows the machine's status to everybody.
    pub(super) fn tell_status(&mut self) {
        let status = self.life.status();
        if let Some(((name, is_reached), rest)) = self.milestones.left.split_first()
            && is_reached(&status)
        {
            self.work.shared.stage(name, self.milestones.last);
            self.milestones = Milestones { left: rest, last: Instant::now() };
            return self.tell_status();
        }
        let mut pod = Pod::clone(&self.work.pod);
        pod.status = Some(status.clone());
        if let Some(stop) = self.state.stop {
            self.mark_deleted(&mut pod, stop);
        }
        self.state.status = status;
        self.is_unsaved = true;
        self.work.shared.news.tell(Timestamp::now(), Item::Status(Arc::new(pod)));
    }

    /// Writes the journal, when there is news.
    pub(super) fn save(&mut self) {
        if !std::mem::take(&mut self.is_unsaved) {
            return;
        }
        self.state.stages = self.work.shared.news.stages();
        if let Err(error) = self.journal.write_state(&self.state) {
            // It is tried again, with the next news or after a while.
            self.is_unsaved = true;
            tracing::error!(pod = %self.work.shared.name, error = &error as &dyn std::error::Error, "journal is not up to date");
        }
    }

    pub(super) fn mark_unsaved(&mut self) {
        self.is_unsaved = true;
    }

    async fn finish(mut self, outcome: Outcome) {
        self.jobs.shutdown().await;
        self.published.clear();
        self.bound.clear();
        if let Some(sandbox) = self.work.sandbox() {
            sandbox.gone.cancel();
        }
        self.work.shared.set_sandbox(None);
        self.work.machine.release(&self.work.uid()).await;
        self.images.clear();
        self.tell_status();
        let finished_at = Timestamp::now();
        self.state.finished = Some(FinishedRecord { exit_code: outcome.exit_code, finished_at });
        self.save();
        let finished = finished(&self.state.status, outcome.exit_code);
        self.work.shared.news.tell(finished_at, Item::Finished(finished));
        // A daemon that came now would not know of the end. Once the Pod is removed there is nothing left to write to.
        while self.is_unsaved && self.journal.exists() {
            tokio::time::sleep(SAVE_PAUSE).await;
            self.save();
        }
    }
}

/// How a Pod with this last status ended.
pub(super) fn finished(status: &PodStatus, exit_code: i32) -> Finished {
    Finished {
        exit_code,
        phase: status.phase.clone().unwrap_or_default(),
        reason: status.reason.clone().unwrap_or_default(),
        message: status.message.clone().unwrap_or_default(),
    }
}

/// The task itself failed: everything of the Pod goes, and it counts as failed.
async fn give_up(shared: &Arc<PodShared>, machine: &Machine, journal: &Journal, failed: &tokio::task::JoinError) {
    tracing::error!(pod = %shared.name, uid = shared.uid, error = %failed, "the task of the pod failed");
    if let Some(sandbox) = shared.sandbox() {
        sandbox.gone.cancel();
    }
    shared.set_sandbox(None);
    machine.release(&monopod_types::PodUid::new(shared.uid.clone())).await;
    let now = Timestamp::now();
    let mut pod = shared.news.pod().map(|pod| Pod::clone(&pod)).unwrap_or_default();
    let status = pod.status.get_or_insert_default();
    status.phase = Some("Failed".to_owned());
    status.reason = Some("InternalError".to_owned());
    status.message = Some("the part of the host that served this Pod failed".to_owned());
    let status = status.clone();
    let told = finished(&status, 255);
    shared.news.tell(now, Item::Status(Arc::new(pod)));
    let finished = Some(FinishedRecord { exit_code: told.exit_code, finished_at: now });
    let state = StateRecord { status, finished, ..StateRecord::default() };
    if let Err(error) = journal.write_state(&state) {
        tracing::error!(pod = %shared.name, error = &error as &dyn std::error::Error, "journal is not up to date");
    }
    shared.news.tell(now, Item::Finished(told));
}

fn shape(size: SizeRecord) -> MachineShape {
    MachineShape { cpu: MilliCpu(size.milli_cpu), memory: MiB(size.memory_mib), scratch: GiB(size.scratch_gib) }
}

/// Time from `now` until `at`; nothing when that is past.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    at.duration_since(now).try_into().unwrap_or_default()
}

fn is_true(status: &PodStatus, condition: &str) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|one| one.type_ == condition && one.status == "True")
}

fn all_started(status: &PodStatus) -> bool {
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let has_started = |state: &k8s_openapi::api::core::v1::ContainerState| {
        state.running.is_some() || state.terminated.as_ref().is_some_and(|end| end.started_at.is_some())
    };
    !containers.is_empty() && containers.iter().all(|one| one.state.as_ref().is_some_and(has_started))
}
