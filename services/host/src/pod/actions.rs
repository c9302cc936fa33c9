//! What the machine asks for becomes jobs.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monopod_podplan::life::{Action, ContainerId, ContainerName, Event, Sandbox as Ready};

use super::containers::{self, Instance};
use super::images;
use super::probing::{self, HookRun, Probe};
use super::sandbox;
use super::task::{Note, PodTask};
use super::work::Work;
use super::{Sandbox, volumes};
use crate::journal::InstanceRecord;

/// How long the logs of ended containers are waited for before their microVM goes.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

impl PodTask {
    /// Begins everything, in order.
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.begin(action);
        }
    }

    fn begin(&mut self, action: Action) {
        let work = self.work.clone();
        match action {
            Action::StartVm => {
                self.jobs.spawn(async move { start_vm(&work).await });
            }
            Action::MountVolumes => self.with_sandbox(|work, sandbox| async move {
                volumes::mount(&work, &sandbox).await;
            }),
            Action::PullImage { container, image, policy } => {
                let early = self.early.take(&container);
                self.jobs.spawn(async move { images::pull(&work, early, container, image, policy).await });
            }
            Action::CreateAndStart { container, id, attempt, image_id: _ } => {
                self.create_and_start(Instance { target: self.target(&container), id, container, attempt });
            }
            Action::Signal { id, signal } => self.with_sandbox(move |work, sandbox| async move {
                containers::signal(&work, &sandbox, &id, signal).await;
            }),
            Action::Kill { id } => self.with_sandbox(move |work, sandbox| async move {
                containers::kill(&work, &sandbox, &id).await;
            }),
            Action::RunHook { id, container, hook, handler, timeout } => {
                let run = HookRun { id, container, hook, handler, timeout };
                self.with_sandbox(move |work, sandbox| async move { probing::hook(&work, &sandbox, run).await });
            }
            Action::RunProbe { id, container, kind, handler, timeout } => {
                let probe = Probe { id, container, kind, handler, timeout };
                self.with_sandbox(move |work, sandbox| async move { probing::probe(&work, &sandbox, probe).await });
            }
            Action::RemoveContainer { id, container, attempt } => {
                self.state.instances.remove(id.as_str());
                self.mark_unsaved();
                let (sandbox, instance) = (work.sandbox(), Instance { id, container, attempt, target: None });
                self.jobs.spawn(async move { containers::remove(&work, sandbox, instance).await });
            }
            Action::Emit(notice) => work.shared.news.tell_event(Timestamp::now(), notice),
            Action::StopVm => {
                self.is_stopping_vm = true;
                self.jobs.spawn(async move { stop_vm(&work).await });
            }
            Action::TellStatus => self.tell_status(),
        }
    }

    fn create_and_start(&mut self, instance: Instance) {
        let record = InstanceRecord {
            container: instance.container.as_str().to_owned(),
            attempt: instance.attempt,
            log_complete: false,
        };
        self.state.instances.insert(instance.id.as_str().to_owned(), record);
        self.mark_unsaved();
        // Written before the guest knows of it, so that no instance is ever unknown to the next daemon.
        self.save();
        let image = self.images.get(&instance.container).cloned();
        self.with_sandbox(move |work, sandbox| async move {
            containers::create_and_start(&work, &sandbox, image, instance).await;
        });
    }

    /// The instance whose processes an ephemeral container shares.
    fn target(&self, container: &ContainerName) -> Option<ContainerId> {
        let spec = self.work.pod.spec.as_ref()?;
        let ephemeral = spec.ephemeral_containers.iter().flatten().find(|one| one.name == container.as_str())?;
        self.work.shared.running(ephemeral.target_container_name.as_deref()?)
    }

    /// Begins a job that needs the microVM. Without one there is nothing to do, and the machine knows it or soon will.
    fn with_sandbox<J>(&mut self, job: impl FnOnce(Work, Arc<Sandbox>) -> J)
    where
        J: Future<Output = ()> + Send + 'static,
    {
        if let Some(sandbox) = self.work.sandbox() {
            self.jobs.spawn(job(self.work.clone(), sandbox));
        }
    }
}

async fn start_vm(work: &Work) {
    let at_hand = images::at_hand(work).await;
    match sandbox::start(work, &at_hand).await {
        Ok(sandbox) => {
            let addresses = sandbox.facts.addresses.clone();
            work.note(Note::Sandbox(Arc::new(sandbox))).await;
            let host_ips = work.machine.settings.host_addresses(&addresses);
            let ready = Ready { pod_ips: addresses, host_ips };
            work.tell(Event::SandboxReady(ready)).await;
        }
        Err(error) => {
            tracing::warn!(pod = %work.shared.name, error = &error as &dyn std::error::Error, "microVM could not be started");
            work.tell(Event::SandboxFailed(error.failure())).await;
        }
    }
}

async fn stop_vm(work: &Work) {
    if let Some(sandbox) = work.sandbox() {
        power_off(work, &sandbox).await;
        sandbox.gone.cancel();
        work.shared.set_sandbox(None);
    }
    work.machine.release(&work.uid()).await;
    work.tell(Event::VmStopped).await;
}

/// Lets the guest flush its disks and network file systems; what it does not do in time is not waited for.
async fn power_off(work: &Work, sandbox: &Sandbox) {
    let logs = work.shared.logs.wait_ended();
    if tokio::time::timeout(LOG_PATIENCE, logs).await.is_err() {
        tracing::warn!(pod = %work.shared.name, "the end of a log was not waited for");
    }
    let patience = work.machine.settings.shutdown_patience;
    let off = async {
        // The answer may be lost with the guest.
        let _ = sandbox.agent.shutdown().await;
        sandbox.vm.wait().await
    };
    if tokio::time::timeout(patience, off).await.is_err() {
        tracing::warn!(pod = %work.shared.name, ?patience, "guest does not power off and is ended");
    }
}
