//! Containers: made from a request, run by libcontainer, watched until they end.
//!
//! ```text
//! create ──▶ CREATED ──start──▶ RUNNING ──process ends──▶ EXITED ──remove──▶ gone
//!               └── cannot be started: start ──────────────▶ EXITED with start_error
//! ```
//!
//! The work on namespaces and mounts is done by helpers, which are this program once more ([`helper`], [`launch`]).
//! What runs inside is prepared in [`process`], the same way for first and for further processes.

mod attach;
mod capabilities;
mod cgroup;
mod container;
mod control;
mod create;
mod devices;
mod environment;
pub mod error;
mod exec;
mod folder;
mod helper;
mod images;
mod launch;
mod logs;
mod lookup;
mod process;
mod resources;
mod seccomp;
mod spec;
mod stats;
mod streams;
mod sys;
pub mod users;
mod watching;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use monopod_agent_proto::v1;
use monopod_agent_proto::v1::container_state::Phase;
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::OnceCell;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::paths::Paths;
use crate::reaper::Reaper;
use crate::volumes::Volumes;

use cgroup::Cgroup;
use container::{Begin, Changes, Container};
use create::Surroundings;
use error::ContainerError;
use folder::Folder;
use images::Images;
use streams::Ends;

/// How long killed containers may take to end when everything is stopped.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// What a stream of answers is, whatever makes it.
pub type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What containers need to know of the Pod they belong to. Made once, by a successful Personalize.
#[derive(Clone, Debug)]
pub struct PodContext {
    /// Where things are. `scratch`, `shm`, `hosts`, `resolv_conf` and `hostname` exist by now.
    pub paths: Paths,
    /// The Pod's host name, which the UTS namespace that all containers share has already.
    pub hostname: String,
    /// One process namespace for all containers, instead of one each.
    pub share_process_namespace: bool,
    /// Tells how processes ended. Nobody else may wait for one.
    pub reaper: Reaper,
    /// The Pod's volumes, by name.
    pub volumes: Volumes,
}

/// All containers of the Pod. Clones are handles to the same ones.
#[derive(Clone, Debug)]
pub struct Containers {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    context: PodContext,
    images: Images,
    slots: Mutex<BTreeMap<String, Slot>>,
    changes: Changes,
    /// How many there have been.
    count: AtomicU64,
    /// The process that holds the process namespace which all share.
    pause: OnceCell<Pid>,
}

/// What an id stands for.
#[derive(Clone, Debug)]
enum Slot {
    /// One that is being made.
    Making,
    Made(Arc<Container>),
}

impl Containers {
    /// None yet.
    ///
    /// # Errors
    /// When the folders they need cannot be made.
    pub fn new(context: PodContext) -> Result<Self, std::io::Error> {
        for folder in [context.paths.containers(), context.paths.layers(), context.paths.images()] {
            std::fs::create_dir_all(folder)?;
        }
        devices::guard(Cgroup::of_pod().folder())?;
        let images = Images::new(context.paths.clone());
        let shared = Shared {
            context,
            images,
            slots: Mutex::default(),
            changes: Changes::new(),
            count: AtomicU64::new(0),
            pause: OnceCell::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// `CreateContainer`.
    ///
    /// # Errors
    /// When it cannot be made. What is wrong with its program only is told when it is started.
    pub async fn create(&self, request: v1::CreateContainerRequest) -> Result<(), Status> {
        create::check(&request)?;
        let id = request.id.clone();
        match self.slots().entry(id.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => return Err(ContainerError::Exists { id }.into()),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Slot::Making),
        };
        // In a task of its own, so that a host that hangs up leaves no half of a container.
        let making = tokio::spawn({
            let ours = self.clone();
            async move {
                let made = ours.make(request).await;
                let mut slots = ours.slots();
                match made {
                    Ok(container) => {
                        slots.insert(id, Slot::Made(container));
                        Ok(())
                    }
                    Err(error) => {
                        slots.remove(&id);
                        Err(error)
                    }
                }
            }
        });
        making.await.map_err(|_| ContainerError::Stopped)?.map_err(Status::from)
    }

    async fn make(&self, request: v1::CreateContainerRequest) -> Result<Arc<Container>, ContainerError> {
        let shared = &self.shared;
        let image = shared.images.root(&request.image_serial).await?;
        let shares_with = if !request.target_container.is_empty() {
            Some(self.get(&request.target_container)?.running()?)
        } else if shared.context.share_process_namespace {
            Some(self.pause().await?)
        } else {
            None
        };
        let key = format!("c{}", shared.count.fetch_add(1, Ordering::Relaxed) + 1);
        let around = Surroundings {
            context: shared.context.clone(),
            folder: Folder::new(&shared.context.paths, key),
            image,
            shares_with,
            changes: shared.changes.clone(),
        };
        let (container, ends) = blocking(move || create::make(request, around)).await?;
        watch_over(shared.context.reaper.clone(), container.clone(), ends);
        Ok(container)
    }

    /// The process namespace of all, made for the first container.
    async fn pause(&self) -> Result<Pid, ContainerError> {
        let reaper = self.shared.context.reaper.clone();
        let start = || blocking(move || launch::pause(&reaper).map_err(ContainerError::Helper));
        self.shared.pause.get_or_try_init(start).await.copied()
    }

    /// `StartContainer`. A program that cannot be run is no error of this call: the container's state tells.
    ///
    /// # Errors
    /// When it is not a created one.
    pub async fn start(&self, request: v1::StartContainerRequest) -> Result<(), Status> {
        let container = self.get(&request.id)?;
        if container.begin()? == Begin::Refused {
            return Ok(());
        }
        let go = async {
            let mut socket = UnixStream::connect(container.folder.start_socket()).await?;
            socket.write_all(b"start container").await?;
            socket.shutdown().await
        };
        if let Err(error) = go.await {
            // Its process is gone, and how it ended is about to be known.
            tracing::warn!(%error, container = %container.name, "a container ended before it was started");
        }
        Ok(())
    }

    /// `SignalContainer`.
    ///
    /// # Errors
    /// When the container or the signal does not exist.
    pub async fn signal(&self, request: v1::SignalContainerRequest) -> Result<(), Status> {
        Ok(self.get(&request.id)?.signal(request.signal, request.all_processes)?)
    }

    /// `RemoveContainer`.
    ///
    /// # Errors
    /// When it still runs.
    pub async fn remove(&self, request: v1::RemoveContainerRequest) -> Result<(), Status> {
        let container = match self.slots().get(&request.id) {
            None => return Ok(()),
            Some(Slot::Making) => return Err(ContainerError::State { state: "CONTAINER_UNKNOWN" }.into()),
            Some(Slot::Made(container)) => container.clone(),
        };
        match container.phase() {
            Phase::Running | Phase::Unknown => {
                return Err(ContainerError::State { state: container::state_name(container.phase()) }.into());
            }
            Phase::Created if container.init.is_some() => {
                container.signal(nix::libc::SIGKILL, false)?;
                container.ended().await;
            }
            Phase::Created | Phase::Exited => {}
        }
        self.slots().remove(&request.id);
        let remove = move || {
            container.folder.remove();
            container.cgroup.remove();
            Ok(())
        };
        Ok(blocking(remove).await?)
    }

    /// `WatchContainers`.
    #[must_use]
    pub fn watch(&self) -> Answers<v1::ContainerState> {
        watching::states(self.clone())
    }

    /// `ReadLogs`.
    ///
    /// # Errors
    /// When the first message does not say of which container.
    pub async fn read_logs(&self, requests: Streaming<v1::ReadLogsRequest>) -> Result<Answers<v1::LogEntry>, Status> {
        watching::logs(self, requests).await
    }

    /// `Exec`.
    ///
    /// # Errors
    /// When the first message is not a start, or the container does not run.
    pub async fn exec(&self, requests: Streaming<v1::ExecRequest>) -> Result<Answers<v1::ExecResponse>, Status> {
        exec::run(self, requests).await
    }

    /// `Attach`.
    ///
    /// # Errors
    /// When the first message is not a start, or the container has ended.
    pub async fn attach(&self, requests: Streaming<v1::AttachRequest>) -> Result<Answers<v1::AttachResponse>, Status> {
        attach::run(self, requests).await
    }

    /// The containers' part of `GetStats`.
    pub async fn stats(&self, disk_usage: bool) -> Vec<v1::ContainerStats> {
        let all = self.all();
        let measure = move || Ok(all.iter().map(|container| stats::of(container, disk_usage)).collect());
        blocking(measure).await.unwrap_or_default()
    }

    /// What all containers together use.
    #[must_use]
    pub fn pod_usage(&self) -> v1::CpuMemory {
        Cgroup::of_pod().usage()
    }

    /// Kills what still runs and waits until it has ended. Called once, by `Shutdown`; nothing is started after it.
    pub async fn kill_all(&self) {
        let running: Vec<_> =
            self.all().into_iter().filter(|one| one.init.is_some() && one.phase() != Phase::Exited).collect();
        if let Err(error) = Cgroup::of_pod().kill() {
            tracing::warn!(%error, "failed to kill the containers");
        }
        let ends = async {
            for container in running {
                container.ended().await;
            }
        };
        if tokio::time::timeout(KILL_LIMIT, ends).await.is_err() {
            tracing::warn!("containers still run after they were killed");
        }
        let all = self.all();
        let remove = move || {
            for container in &all {
                container.folder.unmount();
            }
            Ok(())
        };
        // Fails only when the runtime is shutting down.
        let _ = blocking(remove).await;
    }

    fn get(&self, id: &str) -> Result<Arc<Container>, ContainerError> {
        match self.slots().get(id) {
            Some(Slot::Made(container)) => Ok(container.clone()),
            Some(Slot::Making) | None => Err(ContainerError::Unknown { id: id.to_owned() }),
        }
    }

    /// Those that are made, by id.
    fn all(&self) -> Vec<Arc<Container>> {
        let made = |slot: &Slot| match slot {
            Slot::Made(container) => Some(container.clone()),
            Slot::Making => None,
        };
        self.slots().values().filter_map(made).collect()
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sees to a container until it has ended: its output, and how it ends.
fn watch_over(reaper: Reaper, container: Arc<Container>, ends: Ends) {
    let (logs, output) = (container.logs.clone(), container.output.clone());
    let pumps = ends
        .outputs
        .into_iter()
        .map(|(stream, end)| tokio::spawn(streams::pump(stream, end, logs.clone(), output.clone())));
    let pumps: Vec<_> = pumps.collect();
    tokio::spawn(async move {
        for pump in pumps {
            // A pump that was stopped has nothing more to say either.
            let _ = pump.await;
        }
        logs.end();
        output.close();
    });
    let Some(init) = container.init else { return };
    tokio::spawn(async move {
        let ended = reaper.watch(init).await;
        let inspect = {
            let container = container.clone();
            move || {
                let oom_killed = container.cgroup.was_out_of_memory();
                // Without a process namespace of its own, what it has left behind would go on.
                if let Err(error) = container.cgroup.kill() {
                    tracing::warn!(%error, container = %container.name, "failed to kill what a container left behind");
                }
                Ok((oom_killed, container.folder.termination_message()))
            }
        };
        let (oom_killed, message) = blocking(inspect).await.unwrap_or_default();
        container.end(ended, oom_killed, message);
    });
}

/// Does something that blocks, on a thread that may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ContainerError> + Send + 'static,
) -> Result<T, ContainerError> {
    // Not joined only when the runtime is shutting down, or after a panic, which is logged where it happens.
    tokio::task::spawn_blocking(work).await.map_err(|_| ContainerError::Stopped)?
}

/// Nanoseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs the helper that this process was started as, if its arguments say that it is one. Called first thing, while
/// the process has one thread.
#[must_use]
pub fn helper_main() -> Option<ExitCode> {
    helper::main()
}
