//! The daemon itself: which Pods there are, and what can be asked of them.
//!
//! ```text
//!  api (gRPC over a Unix socket) ──▶ Host ──▶ PodHandle per Pod ──▶ PodTask
//! ```
//! At its start it goes on with what a former daemon left: microVMs that still run are adopted, everything else is removed.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use monopod_api::Sizing;
use monopod_hostnet::HostNet;
use monopod_images::{ImageSource, Images};
use monopod_types::PodUid;
use monopod_vmm::{Vm, VmId, Vmm};
use monopod_volumes::{Owner, ScratchDisks};
use tokio::sync::Notify;

use crate::admission::{self, Admitted, Placed};
use crate::change::changed;
use crate::error::HostError;
use crate::housekeeping;
use crate::identity::{PodName, new_uid};
use crate::journal::{Journal, Journals, PodRecord, PortRecord, SizeRecord, StateRecord};
use crate::logs::pod_folder;
use crate::machine::Machine;
use crate::metrics::Metrics;
use crate::news::{Finished, Item};
use crate::objects::Objects;
use crate::pod::{Beginning, LogBook, PodHandle, PodShared, PodTask, Recovered};
use crate::ports::BoundPort;
use crate::probes::Prober;
use crate::settings::Settings;

/// What the daemon is made of.
#[derive(Debug)]
pub struct Parts {
    /// What it was told.
    pub settings: Settings,
    /// Makes microVMs.
    pub vmm: Arc<dyn Vmm>,
    /// Connects them.
    pub net: Arc<dyn HostNet>,
    /// Gives images.
    pub images: Images,
    /// Gives scratch disks.
    pub disks: ScratchDisks,
    /// The user that scratch disks belong to.
    pub disk_owner: Owner,
}

/// The daemon. Shared by everything that asks of it.
#[derive(Debug)]
pub struct Host {
    pub(crate) machine: Arc<Machine>,
    pub(crate) images: Images,
    pub(crate) started_at: Timestamp,
    pods: Mutex<BTreeMap<PodName, Entry>>,
    pub(crate) journals: Journals,
    pub(crate) logs: PathBuf,
}

/// A name that is taken.
#[derive(Clone, Debug)]
enum Entry {
    /// Its Pod is being admitted.
    Reserved,
    Pod(PodHandle),
}

/// A Pod to run.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunRequest {
    pub(crate) pod: Vec<u8>,
    pub(crate) objects: Vec<Vec<u8>>,
    pub(crate) sizing: Sizing,
    pub(crate) archives: Vec<PathBuf>,
    pub(crate) ports: Vec<PortRecord>,
}

impl Host {
    /// Opens the daemon's folders and goes on with what a former one left.
    ///
    /// # Errors
    /// When folders, the network or microVMs cannot be had. A single Pod that cannot be adopted is no error.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, HostError> {
        let Parts { settings, vmm, net, images, disks, disk_owner } = parts;
        let journals = Journals::open(settings.root.join("pods"))?;
        let logs = settings.root.join("logs").join("pods");
        let source: Arc<dyn ImageSource> = Arc::new(images.clone());
        let prober = Prober::new()?;
        let room_wanted = Notify::new();
        let period = settings.housekeeping_period;
        let metrics = Arc::new(Metrics::new());
        let machine = Machine { vmm, net, images: source, disks, disk_owner, prober, metrics, room_wanted, settings };
        let machine = Arc::new(machine);
        let pods = Mutex::default();
        let host = Arc::new(Self { machine, images, started_at: Timestamp::now(), pods, journals, logs });
        host.adopt().await?;
        tokio::spawn(housekeeping::keep(Arc::downgrade(&host), period));
        Ok(host)
    }

    /// Takes back what no Pod uses. MicroVMs go on running; the next daemon adopts them.
    pub async fn close(&self) {
        if let Err(error) = self.machine.net.close().await {
            tracing::error!(error = &error as &dyn std::error::Error, "part of the network is left behind");
        }
    }

    async fn adopt(self: &Arc<Self>) -> Result<(), HostError> {
        let mut vms: BTreeMap<VmId, Arc<dyn Vm>> =
            self.machine.vmm.adopt().await?.into_iter().map(|vm| (vm.id().clone(), vm)).collect();
        let mut recovered = Vec::new();
        for uid in self.journals.uids()? {
            let journal = self.journals.of(&uid);
            match journal.read() {
                Ok((record, state)) => {
                    let vm = VmId::new(uid.clone()).ok().and_then(|id| vms.remove(&id));
                    recovered.push((uid, Recovered { record, state, journal, vm }));
                }
                Err(error) => {
                    tracing::error!(uid, error = &error as &dyn std::error::Error, "pod cannot be adopted");
                    forget(&journal);
                }
            }
        }
        for vm in vms.into_values() {
            tracing::warn!(vm = vm.id().as_str(), "microVM without a Pod is ended");
            vm.kill().await?;
        }
        let has_vm = |one: &&(String, Recovered)| one.1.vm.is_some() && one.1.state.finished.is_none();
        let live: Vec<PodUid> = recovered.iter().filter(has_vm).map(|(uid, _)| PodUid::new(uid.clone())).collect();
        self.machine.net.adopt(&live).await?;
        self.machine.disks.adopt(&live)?;
        // Side by side: a guest that does not answer holds up nobody but its own Pod.
        let adopting = recovered.into_iter().map(|(uid, recovered)| async move {
            self.adopt_pod(&uid, recovered).await;
        });
        join_all(adopting).await;
        Ok(())
    }

    async fn adopt_pod(self: &Arc<Self>, uid: &str, recovered: Recovered) {
        let shared = recovered.shared(uid, &self.logs, Arc::clone(&self.machine.metrics));
        let (name, journal) = (shared.name.clone(), recovered.journal.clone());
        if recovered.state.finished.is_some() {
            recovered.tell_end(&shared);
            self.lock().insert(name, Entry::Pod(PodHandle::ended(shared)));
            return;
        }
        let (machine, images) = (Arc::clone(&self.machine), Some(&self.images));
        match recovered.into_beginning(shared, machine, images).await {
            Ok(beginning) => {
                tracing::info!(pod = %name, uid, "pod is adopted");
                let handle = PodTask::spawn(beginning);
                self.lock().insert(name, Entry::Pod(handle));
            }
            Err(error) => {
                tracing::error!(uid, error = &error as &dyn std::error::Error, "pod cannot be adopted");
                self.machine.release(&PodUid::new(uid)).await;
                forget(&journal);
            }
        }
    }

    /// Admits a Pod and starts it.
    pub(crate) async fn run(self: &Arc<Self>, request: RunRequest) -> Result<PodHandle, HostError> {
        let pod = admission::read(&request.pod)?;
        let objects = Objects::parse(request.objects.iter().map(Vec::as_slice))?;
        let mut local = Vec::new();
        for archive in &request.archives {
            let images = self.images.import_archive(archive, |_| {}).await?;
            local.extend(images.into_iter().map(|image| image.reference));
        }
        let is_local = |name: &str| Images::reference(name).is_ok_and(|reference| local.contains(&reference));
        let uid = new_uid().map_err(|source| HostError::System { what: "get random bytes", source })?;
        let now = Timestamp::now();
        let admitted = admission::admit(pod, objects, request.sizing, uid, now, &is_local)?;
        self.take(admitted, &request.ports, now).await
    }

    /// Starts a Pod that the scheduler of a cluster has sent here.
    pub(crate) async fn run_placed(self: &Arc<Self>, placed: Placed) -> Result<PodHandle, HostError> {
        let now = Timestamp::now();
        self.take(admission::admit_placed(placed)?, &[], now).await
    }

    async fn take(
        self: &Arc<Self>,
        admitted: Admitted,
        ports: &[PortRecord],
        now: Timestamp,
    ) -> Result<PodHandle, HostError> {
        let name = admitted.name.clone();
        self.reserve(&name)?;
        let started = self.start(admitted, ports, now).await;
        let mut pods = self.lock();
        match started {
            Ok(handle) => {
                pods.insert(name, Entry::Pod(handle.clone()));
                Ok(handle)
            }
            Err(error) => {
                pods.remove(&name);
                Err(error)
            }
        }
    }

    fn reserve(&self, name: &PodName) -> Result<(), HostError> {
        let mut pods = self.lock();
        if pods.contains_key(name) {
            return Err(HostError::Exists(name.clone()));
        }
        pods.insert(name.clone(), Entry::Reserved);
        Ok(())
    }

    async fn start(
        self: &Arc<Self>,
        admitted: Admitted,
        wanted: &[PortRecord],
        now: Timestamp,
    ) -> Result<PodHandle, HostError> {
        let Admitted { pod, name, uid, objects, machine, address, resolver } = admitted;
        let mut ports = Vec::new();
        for port in wanted {
            let taken = BoundPort::bind(port).await;
            let address = || format!("{}:{}", port.host_address, port.host_port);
            ports.push(taken.map_err(|source| HostError::Port { address: address(), source })?);
        }
        let size =
            SizeRecord { milli_cpu: machine.cpu.0, memory_mib: machine.memory.0, scratch_gib: machine.scratch.0 };
        let published_ports = ports.iter().map(|port| port.record().clone()).collect();
        let objects_record = objects.to_values();
        let record =
            PodRecord { pod, objects: objects_record, size, published_ports, address, resolver, admitted_at: now };
        let journal = self.journals.of(&uid);
        journal.write_pod(&record)?;
        let logs = LogBook::new(pod_folder(&self.logs, &name.namespace, &name.name, &uid));
        let shared = Arc::new(PodShared::new(name, uid.clone(), size, now, logs, Arc::clone(&self.machine.metrics)));
        shared.news.tell(now, Item::Admitted { uid, size });
        for port in &record.published_ports {
            shared.news.tell(now, Item::Published(port.clone()));
        }
        shared.admitted(now);
        let (machine, state) = (Arc::clone(&self.machine), StateRecord::default());
        let beginning = Beginning { shared, machine, objects, record, state, journal, ports, adopted: None };
        Ok(PodTask::spawn(beginning))
    }

    /// A Pod by its name.
    pub(crate) fn pod(&self, name: &PodName) -> Result<PodHandle, HostError> {
        match self.lock().get(name) {
            Some(Entry::Pod(handle)) => Ok(handle.clone()),
            Some(Entry::Reserved) | None => Err(HostError::NotFound(name.clone())),
        }
    }

    /// All Pods, by name.
    pub(crate) fn pods(&self) -> Vec<PodHandle> {
        let pods = self.lock();
        let handles = pods.values().filter_map(|entry| match entry {
            Entry::Pod(handle) => Some(handle.clone()),
            Entry::Reserved => None,
        });
        handles.collect()
    }

    /// Ends a Pod orderly.
    pub(crate) async fn stop(&self, name: &PodName, grace: Option<Duration>) -> Result<Finished, HostError> {
        let handle = self.pod(name)?;
        match handle.shared.news.finished() {
            Some(finished) => Ok(finished),
            None => Ok(handle.stop(grace).await),
        }
    }

    /// Forgets a Pod that has ended; one that runs is ended first when that is wanted.
    pub(crate) async fn remove(&self, name: &PodName, force: bool) -> Result<(), HostError> {
        let handle = self.pod(name)?;
        if handle.shared.news.finished().is_none() {
            if !force {
                return Err(HostError::Running(name.clone()));
            }
            handle.stop(Some(Duration::ZERO)).await;
        }
        let uid = &handle.shared.uid;
        self.journals.of(uid).remove()?;
        remove_folder(handle.shared.logs.folder());
        let mut pods = self.lock();
        // Another Pod may have the name by now.
        if matches!(pods.get(name), Some(Entry::Pod(other)) if &other.shared.uid == uid) {
            pods.remove(name);
        }
        Ok(())
    }

    /// Brings a newer version of a Pod that runs.
    pub(crate) async fn change(&self, newer: &Pod) -> Result<(), HostError> {
        let name = admission::checked_name(newer)?;
        let handle = self.pod(&name)?;
        let running = handle.shared.news.pod().filter(|_| handle.shared.news.finished().is_none());
        let running = running.ok_or_else(|| HostError::NotRunning(name.clone()))?;
        let pod = changed(&running, newer)?;
        let objects = Objects::from_values(&self.journals.of(&handle.shared.uid).read()?.0.objects)?;
        admission::check(&pod, &objects, &name)?;
        handle.change(pod).await;
        Ok(())
    }

    /// Brings newer objects to all Pods; how many use one of them.
    pub(crate) async fn apply(&self, objects: Objects) -> u32 {
        let objects = Arc::new(objects);
        let mut users = 0;
        for handle in self.pods() {
            let Some(pod) = handle.shared.news.pod() else { continue };
            if handle.shared.news.finished().is_some() || objects.of_pod(&pod) == Objects::default() {
                continue;
            }
            users += 1;
            handle.update(Arc::clone(&objects)).await;
        }
        users
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<PodName, Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address to listen on where none is named.
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn forget(journal: &Journal) {
    if let Err(error) = journal.remove() {
        tracing::error!(error = &error as &dyn std::error::Error, "journal is left behind");
    }
}

pub(crate) fn remove_folder(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::error!(folder = %folder.display(), error = &error as &dyn std::error::Error, "logs are left behind");
    }
}
