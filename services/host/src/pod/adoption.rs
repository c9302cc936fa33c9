//! Goes on with a Pod that a former daemon ran.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use monopod_agent_proto::v1::ContainerState;
use monopod_agent_proto::v1::container_state::Phase;
use monopod_images::{Image, Images};
use monopod_podplan::life::{self, Adopted, ContainerId, ContainerName, Observed, ObservedState, PodLife};
use monopod_types::PodUid;
use monopod_vmm::Vm;

use super::sandbox::{Sandbox, SandboxFacts, StartError, agent, greet};
use super::task::{AdoptedLife, Beginning, finished};
use super::{LogBook, PodShared, containers};
use crate::identity::PodName;
use crate::journal::{ImageRecord, Journal, PodRecord, StateRecord};
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::news::{Item, warning};
use crate::objects::{ObjectError, Objects, namespace_of};
use crate::ports::BoundPort;

/// What a journal tells, and the microVM if there is one.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) record: PodRecord,
    pub(crate) state: StateRecord,
    pub(crate) journal: Journal,
    pub(crate) vm: Option<Arc<dyn Vm>>,
}

impl Recovered {
    /// What others see of the Pod.
    pub(crate) fn shared(&self, uid: &str, logs: &std::path::Path, metrics: Arc<Metrics>) -> Arc<PodShared> {
        let metadata = &self.record.pod.metadata;
        let name =
            PodName { namespace: namespace_of(metadata).to_owned(), name: metadata.name.clone().unwrap_or_default() };
        let folder = crate::logs::pod_folder(logs, &name.namespace, &name.name, uid);
        let (size, at) = (self.record.size, self.record.admitted_at);
        let shared = PodShared::new(name, uid.to_owned(), size, at, LogBook::new(folder), metrics);
        shared.news.tell(at, Item::Admitted { uid: uid.to_owned(), size });
        for stage in &self.state.stages {
            shared.news.tell(at, Item::Stage(stage.clone()));
        }
        Arc::new(shared)
    }

    /// Shows a Pod that has ended before.
    pub(crate) fn tell_end(&self, shared: &PodShared) {
        let Some(end) = self.state.finished else { return };
        let mut pod = self.record.pod.clone();
        pod.status = Some(self.state.status.clone());
        shared.news.tell(end.finished_at, Item::Status(Arc::new(pod)));
        let finished = finished(&self.state.status, end.exit_code);
        shared.news.tell(end.finished_at, Item::Finished(finished));
    }

    /// Everything that the Pod's task needs to go on.
    ///
    /// # Errors
    /// When the journal's objects cannot be read.
    pub(crate) async fn into_beginning(
        self,
        shared: Arc<PodShared>,
        machine: Arc<Machine>,
        images: Option<&Images>,
    ) -> Result<Beginning, ObjectError> {
        let Self { record, state, journal, vm } = self;
        let objects = Objects::from_values(&record.objects)?;
        let uid = PodUid::new(shared.uid.clone());
        let found = match vm {
            Some(vm) if state.is_personal => find(&shared, &machine, &state, vm).await,
            Some(_) | None => None,
        };
        if found.is_none() {
            machine.release(&uid).await;
        }
        let (sandbox, containers) = found.unzip();
        // Whoever asks the daemon as soon as it answers finds what runs.
        shared.set_sandbox(sandbox.clone());
        for (id, _) in containers.iter().flatten().filter(|(_, seen)| seen.phase() == Phase::Running) {
            if let Some(known) = state.instances.get(id) {
                shared.set_running(&known.container, Some(ContainerId::new(id.clone())));
            }
        }
        let adopted = Adopted {
            status: state.status.clone(),
            sandbox: sandbox.as_ref().map(|_| life::Sandbox {
                pod_ips: state.addresses.clone(),
                host_ips: machine.settings.host_addresses(&state.addresses),
            }),
            containers: containers.iter().flatten().filter_map(|(_, seen)| observed(&state, seen)).collect(),
        };
        let settings = machine.settings.life.clone();
        let (mut life, mut actions) = PodLife::adopt(&record.pod, settings, adopted, Timestamp::now());
        if !state.is_personal && sandbox.is_none() {
            // It had not come far: it begins again.
            actions.extend(life.handle(life::Event::Begin, Timestamp::now()));
        }
        let held = held_images(images, &state.images);
        let ports = bind(&shared, &record).await;
        let adopted = AdoptedLife { life, actions, sandbox, images: held };
        Ok(Beginning { shared, machine, objects, record, state, journal, ports, adopted: Some(adopted) })
    }
}

/// The microVM with its containers, if it still is the Pod's and answers.
async fn find(
    shared: &PodShared,
    machine: &Machine,
    state: &StateRecord,
    vm: Arc<dyn Vm>,
) -> Option<(Arc<Sandbox>, BTreeMap<String, ContainerState>)> {
    let client = agent(&vm, machine.settings.deadlines);
    let facts = SandboxFacts {
        addresses: state.addresses.clone(),
        mac: state.mac.clone().unwrap_or_default(),
        boot_id: state.boot_id.clone().unwrap_or_default(),
        guest_kernel: state.guest_kernel.clone().unwrap_or_default(),
    };
    let attached = state.images.values().map(|image| image.serial.clone()).collect();
    let sandbox = Arc::new(Sandbox::adopted(vm, client, facts, attached));
    match observe(shared, &sandbox, state, machine.settings.adopt_patience).await {
        Ok(containers) => Some((sandbox, containers)),
        Err(error) => {
            tracing::error!(pod = %shared.name, uid = shared.uid, error = &error as &dyn std::error::Error, "microVM cannot be adopted and is ended");
            None
        }
    }
}

async fn observe(
    shared: &PodShared,
    sandbox: &Sandbox,
    state: &StateRecord,
    patience: Duration,
) -> Result<BTreeMap<String, ContainerState>, StartError> {
    let hello = greet(&sandbox.agent, &sandbox.vm, patience).await?;
    if !hello.personalized || hello.pod_uid != shared.uid {
        return Err(StartError::Foreign { uid: hello.pod_uid });
    }
    Ok(containers::observe(sandbox, state.instances.keys().cloned()).await?)
}

fn observed(state: &StateRecord, seen: &ContainerState) -> Option<Observed> {
    let known = state.instances.get(&seen.id)?;
    let started_at = Timestamp::from_nanosecond(i128::from(seen.started_at)).unwrap_or_else(|_| Timestamp::now());
    let now = match seen.phase() {
        Phase::Unknown | Phase::Created => ObservedState::Created,
        Phase::Running => ObservedState::Running { started_at },
        Phase::Exited => ObservedState::Exited(containers::exit(seen)),
    };
    Some(Observed {
        id: ContainerId::new(seen.id.clone()),
        container: ContainerName::new(known.container.clone()),
        stop_signal: state.images.get(&known.container).and_then(|image| image.stop_signal.clone()),
        state: now,
    })
}

/// Holds the images of the Pod again, so that their disks stay.
fn held_images(images: Option<&Images>, records: &BTreeMap<String, ImageRecord>) -> BTreeMap<ContainerName, Image> {
    let Some(images) = images else { return BTreeMap::new() };
    let hold = |record: &ImageRecord| {
        let reference = Images::reference(&record.reference).ok()?;
        images.hold(&reference, record.digest.parse().ok()?, record.id.parse().ok()?).ok().flatten()
    };
    let held =
        records.iter().filter_map(|(container, record)| Some((ContainerName::new(container.clone()), hold(record)?)));
    held.collect()
}

/// Takes the Pod's published ports again; one that somebody else has now is told.
async fn bind(shared: &PodShared, record: &PodRecord) -> Vec<BoundPort> {
    let mut bound = Vec::new();
    for port in &record.published_ports {
        match BoundPort::bind(port).await {
            Ok(port) => {
                shared.news.tell(record.admitted_at, Item::Published(port.record().clone()));
                bound.push(port);
            }
            Err(error) => {
                let message = format!("port {}:{} is taken: {error}", port.host_address, port.host_port);
                shared.news.tell_event(Timestamp::now(), warning("PortNotPublished", message));
            }
        }
    }
    bound
}
