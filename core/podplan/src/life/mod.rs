//! Life of one Pod, as the kubelet would live it: which container starts, is probed, restarted or stopped when, and what
//! the Pod's status says at each moment.
//!
//! [`PodLife`] is one deterministic machine: [`Event`]s and the time go in, [`Action`]s come out. The task that owns the
//! Pod on its host carries the actions out and answers with events; it sends [`Event::Tick`] at [`PodLife::wake_at`].
//!
//! Inside, an event only changes what is known (`news`); then one pass over everything (`sync`) finds what follows from it
//! at this time: the microVM and volumes (`setup`), containers to start (`starts`), to stop (`stop`), to probe (`probing`),
//! the end of the Pod (`ending`), and its status (`status`). A pass that is made twice asks for nothing twice.
//!
//! Where this is not the kubelet to the letter, it is for one of these reasons:
//! - A microVM is not started twice: with it the Pod fails, where the kubelet would make a new sandbox.
//! - All images are asked for at the beginning, together with the microVM; pods start sooner so.
//! - What the kubelet does at its next turn happens at once: restarts, back-offs, probes (the first one right after the
//!   start and the initial delay), the final phase (with the last container's end).
//! - A stop does not wait for a post-start hook.

mod action;
mod adopt;
mod back_off;
mod conditions;
mod ending;
mod event;
mod handler;
mod names;
mod news;
mod normal;
mod notice;
mod phase;
mod policy;
mod probe;
mod probing;
mod settings;
mod setup;
mod starts;
mod status;
mod stop;
mod time;
mod unit;

#[cfg(test)]
mod tests;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};

pub use action::{Action, Handler, Hook, HttpRequest, Notice, ProbeKind, PullPolicy, Severity};
pub use adopt::{Adopted, Observed, ObservedState};
pub use conditions::foreign_conditions;
pub use ending::Outcome;
pub use event::{Event, Exit, ImageFacts, ProbeOutcome, Pulled, Sandbox, SandboxFailure, StartStage, Stop};
pub use names::{ContainerId, ContainerName, Signal};
pub use settings::{BackOffSettings, LifeSettings};

use ending::Ending;
use setup::Setup;
use time::sooner;
use unit::{Role, Unit, container_of};

/// The machine. Not shared: one task owns it.
#[derive(Clone, Debug)]
pub struct PodLife {
    pod: Pod,
    spec: PodSpec,
    settings: LifeSettings,
    /// Init containers, then main ones, then ephemeral ones, each kind in the Pod's order.
    units: Vec<Unit>,
    setup: Setup,
    start_time: Option<Timestamp>,
    ending: Option<Ending>,
    /// Why the phase is `Failed` whatever the containers say.
    failure: Option<Failure>,
    /// All containers are being ended to be started anew.
    is_restarting_all: bool,
    reported: PodStatus,
    wake: Option<Timestamp>,
    actions: Vec<Action>,
}

/// What made a Pod fail that was not its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Failure {
    reason: String,
    message: String,
}

impl PodLife {
    /// The life of a Pod that has not begun; [`Event::Begin`] begins it.
    pub fn new(pod: &Pod, settings: LifeSettings) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let init = spec.init_containers.iter().flatten().map(|container| {
            let role = if policy::is_sidecar(container) { Role::Sidecar } else { Role::Init };
            Unit::new(role, container.clone())
        });
        let main = spec.containers.iter().map(|container| Unit::new(Role::Main, container.clone()));
        let ephemeral = spec.ephemeral_containers.iter().flatten();
        let ephemeral = ephemeral.map(|container| Unit::new(Role::Ephemeral, container_of(container)));
        Self {
            units: init.chain(main).chain(ephemeral).collect(),
            pod: pod.clone(),
            settings,
            setup: Setup::default(),
            start_time: None,
            ending: None,
            failure: None,
            is_restarting_all: false,
            reported: pod.status.clone().unwrap_or_default(),
            wake: None,
            actions: Vec::new(),
            spec,
        }
    }

    /// Takes news in and says what is to be done.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        self.take(event, now);
        self.sync(now);
        std::mem::take(&mut self.actions)
    }

    /// When time alone changes something; send [`Event::Tick`] then.
    pub fn wake_at(&self) -> Option<Timestamp> {
        self.wake
    }

    /// The Pod's status, complete.
    pub fn status(&self) -> PodStatus {
        self.reported.clone()
    }

    /// Everything that follows from what is known at this time.
    fn sync(&mut self, now: Timestamp) {
        self.wake = None;
        if self.start_time.is_some() {
            self.enforce_deadline(now);
            self.drive_setup(now);
            self.drive_restart_of_all(now);
            self.drive_starts(now);
            self.drive_end(now);
            self.drive_stops(now);
            self.drive_probes(now);
            self.drive_vm_stop(now);
        }
        self.publish(now);
    }

    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn tell(&mut self, notice: Notice) {
        self.actions.push(Action::Emit(notice));
    }

    fn wake_by(&mut self, at: Timestamp) {
        self.wake = sooner(self.wake, at);
    }

    /// As the kubelet's messages name a Pod.
    fn described(&self) -> String {
        let metadata = &self.pod.metadata;
        let name = metadata.name.as_deref().unwrap_or_default();
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        format!("{name}_{namespace}({})", metadata.uid.as_deref().unwrap_or_default())
    }

    fn units_of(&self, role: Role) -> impl Iterator<Item = &Unit> {
        self.units.iter().filter(move |unit| unit.role == role)
    }

    fn has_live(&self) -> bool {
        self.units.iter().any(|unit| unit.live().is_some())
    }

    fn pod_ip(&self) -> String {
        let first = self.setup.sandbox.as_ref().and_then(|sandbox| sandbox.pod_ips.first());
        first.map(ToString::to_string).unwrap_or_default()
    }
}
