//! One container of the Pod over all its instances.
//!
//! ```text
//! (none) --CreateAndStart--> starting --Started, hook done--> current: running --Exited--> current: ended
//!                               \------- failed or exited ------------------------------------^
//! ```
//! A new instance begins in `starting` while `current` still holds the ended one before it; once it runs, that one moves to
//! `previous`. So there is never more than one live instance.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStateTerminated, ContainerUser, EphemeralContainer};

use super::action::PullPolicy;
use super::back_off::BackOff;
use super::event::ImageFacts;
use super::names::{ContainerId, ContainerName, Signal};
use super::probe::Probes;
use super::stop::Stopping;

/// Which part a container plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Runs once, before what stands behind it.
    Init,
    /// An init container that keeps running.
    Sidecar,
    /// What the Pod is for.
    Main,
    /// Added by a person to look around; never restarted.
    Ephemeral,
}

/// A container and all that is known of it.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) name: ContainerName,
    pub(super) role: Role,
    pub(super) spec: Container,
    pub(super) image: ImageState,
    pub(super) image_back_off: BackOff,
    /// Of the image that was found last.
    pub(super) facts: Option<ImageFacts>,
    pub(super) starting: Option<Starting>,
    pub(super) current: Option<Instance>,
    pub(super) previous: Option<Ended>,
    pub(super) stopping: Option<Stopping>,
    /// Restarts that the next instance will count; numbers its id too.
    pub(super) next_attempt: u32,
    pub(super) crash_back_off: BackOff,
    /// Whether the restart that is due has waited long enough and its waiting time is entered.
    pub(super) is_cleared: bool,
    /// Whether people were told that the restart that is due has to wait.
    pub(super) is_back_off_told: bool,
    /// Why it does not run, as long as it should.
    pub(super) waiting: Option<Waiting>,
    /// After a failed start: not again before then.
    pub(super) retry_at: Option<Timestamp>,
    /// Killed for its health or its new image: restarted whatever its exit code says.
    pub(super) must_restart: bool,
    /// Whether it should run now; only then is a missing image anybody's business.
    pub(super) is_due: bool,
}

/// What is known of the image that the next instance will run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ImageState {
    /// Not asked for.
    Idle,
    /// Asked for; stale when the Pod names another image since.
    Asked { is_stale: bool },
    /// There.
    Ready,
    /// Not to be had; asked for again at a time.
    Failed {
        reason: String,
        message: String,
        /// When the reason gives way to a back-off, where it does.
        back_off_from: Option<Timestamp>,
        until: Timestamp,
    },
}

/// An instance that does not count as running yet.
#[derive(Clone, Debug)]
pub(super) struct Starting {
    pub(super) id: ContainerId,
    pub(super) attempt: u32,
    pub(super) is_created: bool,
    /// Set while its post-start hook runs.
    pub(super) started_at: Option<Timestamp>,
    pub(super) user: Option<ContainerUser>,
    pub(super) facts: ImageFacts,
}

/// An instance that runs or has run.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    pub(super) id: ContainerId,
    pub(super) attempt: u32,
    pub(super) user: Option<ContainerUser>,
    pub(super) facts: ImageFacts,
    pub(super) state: InstanceState,
}

/// Whether it still runs.
#[derive(Clone, Debug)]
pub(super) enum InstanceState {
    /// It runs.
    Running { started_at: Timestamp, probes: Probes },
    /// It has ended.
    Ended(ContainerStateTerminated),
}

/// An instance before the current one.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) id: ContainerId,
    pub(super) attempt: u32,
    pub(super) state: ContainerStateTerminated,
    /// Whether nothing of it is left in the microVM.
    pub(super) is_removed: bool,
}

/// A waiting state of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) reason: String,
    pub(super) message: String,
}

impl Unit {
    pub(super) fn new(role: Role, spec: Container) -> Self {
        Self {
            name: ContainerName::new(spec.name.as_str()),
            role,
            spec,
            image: ImageState::Idle,
            image_back_off: BackOff::default(),
            facts: None,
            starting: None,
            current: None,
            previous: None,
            stopping: None,
            next_attempt: 0,
            crash_back_off: BackOff::default(),
            is_cleared: false,
            is_back_off_told: false,
            waiting: None,
            retry_at: None,
            must_restart: false,
            is_due: false,
        }
    }

    pub(super) fn image_name(&self) -> &str {
        self.spec.image.as_deref().unwrap_or_default()
    }

    /// As the Pod says, else as the API server would fill it in.
    pub(super) fn pull_policy(&self) -> PullPolicy {
        match self.spec.image_pull_policy.as_deref() {
            Some("Always") => PullPolicy::Always,
            Some("Never") => PullPolicy::Never,
            Some("IfNotPresent") => PullPolicy::IfNotPresent,
            Some(_) | None => default_pull_policy(self.image_name()),
        }
    }

    /// Whether an answer about an image is waited for. One about an image that is not wanted any more leads to another
    /// question.
    pub(super) fn takes_image_answer(&mut self) -> bool {
        match self.image {
            ImageState::Asked { is_stale: true } => {
                self.image = ImageState::Idle;
                false
            }
            ImageState::Asked { is_stale: false } => true,
            ImageState::Idle | ImageState::Ready | ImageState::Failed { .. } => false,
        }
    }

    /// The Pod names another image.
    pub(super) fn change_image(&mut self) {
        self.image = match self.image {
            ImageState::Asked { .. } => ImageState::Asked { is_stale: true },
            ImageState::Idle | ImageState::Ready | ImageState::Failed { .. } => ImageState::Idle,
        };
    }

    /// The live instance, if there is one.
    pub(super) fn live(&self) -> Option<&ContainerId> {
        let running = self.running().map(|(id, _)| id);
        self.starting.as_ref().map(|starting| &starting.id).or(running)
    }

    /// The live instance whose program has been started.
    pub(super) fn started(&self) -> Option<&ContainerId> {
        match &self.starting {
            Some(starting) => starting.started_at.map(|_| &starting.id),
            None => self.running().map(|(id, _)| id),
        }
    }

    /// The instance that counts as running, with its probes.
    pub(super) fn running(&self) -> Option<(&ContainerId, &Probes)> {
        let instance = self.current.as_ref()?;
        match &instance.state {
            InstanceState::Running { probes, .. } => Some((&instance.id, probes)),
            InstanceState::Ended(_) => None,
        }
    }

    /// The probes of the instance that counts as running.
    pub(super) fn probes_mut(&mut self) -> Option<&mut Probes> {
        match &mut self.current.as_mut()?.state {
            InstanceState::Running { probes, .. } => Some(probes),
            InstanceState::Ended(_) => None,
        }
    }

    /// How the newest instance ended, if it has.
    pub(super) fn ended(&self) -> Option<&ContainerStateTerminated> {
        match &self.current.as_ref()?.state {
            InstanceState::Running { .. } => None,
            InstanceState::Ended(state) => Some(state),
        }
    }

    /// Whether there was ever an instance, in the present round of the Pod.
    pub(super) fn has_instance(&self) -> bool {
        self.starting.is_some() || self.current.is_some()
    }

    /// Whether it runs and has passed its startup probe.
    pub(super) fn is_started(&self) -> bool {
        self.running().is_some_and(|(_, probes)| probes.has_started())
    }

    /// Whether it can serve.
    pub(super) fn is_ready(&self) -> bool {
        self.running().is_some_and(|(_, probes)| probes.has_started() && probes.is_ready())
    }

    /// The signal that asks it to end: the Pod's, else the image's, else `SIGTERM`.
    pub(super) fn stop_signal(&self) -> Signal {
        let starting = self.starting.as_ref().map(|starting| &starting.facts);
        let facts = starting.or_else(|| self.current.as_ref().map(|instance| &instance.facts));
        let own = self.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
        let of_image = facts.and_then(|facts| facts.stop_signal.as_deref());
        own.and_then(Signal::parse).or_else(|| of_image.and_then(Signal::parse)).unwrap_or(Signal::TERM)
    }

    /// Moves the instance that is starting into its place; the one before it becomes the previous one.
    pub(super) fn promote(&mut self, state: InstanceState) {
        let Some(starting) = self.starting.take() else { return };
        let Starting { id, attempt, user, facts, .. } = starting;
        let former = self.current.replace(Instance { id, attempt, user, facts, state });
        if let Some(Instance { id, attempt, state: InstanceState::Ended(state), .. }) = former {
            self.previous = Some(Ended { id, attempt, state, is_removed: false });
        }
    }

    /// Notes that the live instance has ended.
    pub(super) fn end(&mut self, state: ContainerStateTerminated) {
        if self.starting.is_some() {
            self.promote(InstanceState::Ended(state));
        } else if let Some(instance) = &mut self.current {
            instance.state = InstanceState::Ended(state);
        }
        self.stopping = None;
        self.is_cleared = false;
        self.is_back_off_told = false;
    }
}

/// What a container of a person's debugging session has in common with the others.
pub(super) fn container_of(ephemeral: &EphemeralContainer) -> Container {
    let EphemeralContainer {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_mounts,
        working_dir,
        ..
    } = ephemeral.clone();
    Container {
        args,
        command,
        env,
        env_from,
        image,
        image_pull_policy,
        name,
        security_context,
        stdin,
        stdin_once,
        termination_message_path,
        termination_message_policy,
        tty,
        volume_mounts,
        working_dir,
        ..Container::default()
    }
}

/// `Always` for an image that is named without tag or by `latest`.
fn default_pull_policy(image: &str) -> PullPolicy {
    if image.contains('@') {
        return PullPolicy::IfNotPresent;
    }
    // A colon before the last slash belongs to a registry's port.
    let name = image.rsplit('/').next().unwrap_or(image);
    match name.split_once(':') {
        None | Some((_, "latest")) => PullPolicy::Always,
        Some(_) => PullPolicy::IfNotPresent,
    }
}
