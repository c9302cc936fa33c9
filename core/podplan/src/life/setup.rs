//! What a Pod needs before its containers: its microVM and its volumes.

use jiff::Timestamp;

use super::action::{Action, Notice};
use super::back_off::BackOff;
use super::event::{Sandbox, SandboxFailure};
use super::time::later;
use super::{Failure, PodLife};

/// State of the microVM and the volumes.
#[derive(Clone, Debug, Default)]
pub(super) struct Setup {
    pub(super) vm: Vm,
    vm_back_off: BackOff,
    /// What the microVM reported when it was ready; kept when it is gone.
    pub(super) sandbox: Option<Sandbox>,
    pub(super) volumes: Volumes,
    volumes_back_off: BackOff,
}

/// State of the microVM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Vm {
    /// Not asked for yet.
    #[default]
    Absent,
    Starting,
    /// It did not start and is tried again.
    Retry(Timestamp),
    Ready,
    Stopping,
    Gone,
}

/// State of the volumes, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Volumes {
    #[default]
    Absent,
    Asked,
    Retry(Timestamp),
    Ready,
}

impl Setup {
    /// Whether containers can start.
    pub(super) fn is_complete(&self) -> bool {
        self.vm == Vm::Ready && self.volumes == Volumes::Ready
    }
}

impl PodLife {
    /// Asks for the microVM and then for the volumes, again after failures.
    pub(super) fn drive_setup(&mut self, now: Timestamp) {
        if self.ending.is_some() {
            return;
        }
        match self.setup.vm {
            Vm::Retry(at) if at > now => self.wake_by(at),
            Vm::Absent | Vm::Retry(_) => {
                self.setup.vm = Vm::Starting;
                self.act(Action::StartVm);
            }
            Vm::Ready => self.drive_volumes(now),
            Vm::Starting | Vm::Stopping | Vm::Gone => {}
        }
    }

    fn drive_volumes(&mut self, now: Timestamp) {
        match self.setup.volumes {
            Volumes::Retry(at) if at > now => self.wake_by(at),
            Volumes::Absent | Volumes::Retry(_) => {
                self.setup.volumes = Volumes::Asked;
                self.act(Action::MountVolumes);
            }
            Volumes::Asked | Volumes::Ready => {}
        }
    }

    pub(super) fn sandbox_ready(&mut self, sandbox: Sandbox) {
        if self.setup.vm == Vm::Starting {
            self.setup.vm = Vm::Ready;
            self.setup.sandbox = Some(sandbox);
        }
    }

    pub(super) fn sandbox_failed(&mut self, failure: SandboxFailure, now: Timestamp) {
        match self.setup.vm {
            Vm::Starting => {}
            Vm::Stopping => {
                self.setup.vm = Vm::Gone;
                return;
            }
            Vm::Absent | Vm::Retry(_) | Vm::Ready | Vm::Gone => return,
        }
        self.tell(Notice::sandbox_failed(&failure.message));
        if failure.is_final {
            self.setup.vm = Vm::Gone;
            self.fail(Failure { reason: failure.reason, message: failure.message }, now);
            return;
        }
        let settings = self.settings.setup;
        self.setup.vm_back_off.enter(&settings, now, now);
        self.setup.vm = Vm::Retry(later(now, self.setup.vm_back_off.delay()));
    }

    pub(super) fn volumes_ready(&mut self) {
        self.setup.volumes = Volumes::Ready;
    }

    pub(super) fn volume_failed(&mut self, message: &str, now: Timestamp) {
        if self.setup.volumes != Volumes::Asked {
            return;
        }
        self.tell(Notice::mount_failed(message));
        let settings = self.settings.setup;
        self.setup.volumes_back_off.enter(&settings, now, now);
        self.setup.volumes = Volumes::Retry(later(now, self.setup.volumes_back_off.delay()));
    }
}
