//! One Pod on this host: the task that owns it, and the handle by which others reach it.
//!
//! ```text
//!  PodHandle ──Command──▶ PodTask ──Event──▶ monopod_podplan::life::PodLife
//!     │                    │  ▲                 │
//!     │ news, logs,        │  └── Note ── jobs ◀┘ Action (start, pull, mount, probe, ...)
//!     ▼ agent              ▼
//!  PodShared ◀──────── Sandbox (microVM, agent, network)
//! ```
//!
//! The task alone steps the machine and writes the journal. Every action runs as a job of its own and answers with a
//! note, so a slow pull never holds up a stop. A panic in the task or a job ends this Pod and no other.

mod actions;
mod adoption;
mod agent_log;
mod clock;
mod containers;
mod eviction;
mod images;
mod log_book;
mod log_pump;
mod nfs;
mod probing;
mod sandbox;
mod task;
mod volumes;
mod work;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use monopod_podplan::life::ContainerId;
use tokio::sync::{mpsc, oneshot};

pub(crate) use adoption::Recovered;
pub(crate) use log_book::{Found, LogBook};
pub(crate) use sandbox::Sandbox;
pub(crate) use task::{Beginning, PodTask};
pub(crate) use work::chain;

use crate::identity::PodName;
use crate::journal::{SizeRecord, StageRecord};
use crate::metrics::Metrics;
use crate::news::{Finished, Item, News};
use crate::objects::Objects;

/// A Pod as others see it.
#[derive(Clone, Debug)]
pub(crate) struct PodHandle {
    pub(crate) shared: Arc<PodShared>,
    commands: mpsc::Sender<Command>,
}

/// What the task and everybody who asks share.
#[derive(Debug)]
pub(crate) struct PodShared {
    pub(crate) name: PodName,
    pub(crate) uid: String,
    pub(crate) size: SizeRecord,
    pub(crate) admitted_at: Timestamp,
    pub(crate) news: News,
    pub(crate) logs: LogBook,
    metrics: Arc<Metrics>,
    state: Mutex<Reachable>,
    /// When the request came; stages count from here.
    begun: Instant,
}

/// How often probes have answered what: by container, kind and result.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProbeCounts(pub(crate) BTreeMap<(String, &'static str, &'static str), u64>);

/// What changes of a Pod, and others read.
#[derive(Debug, Default)]
struct Reachable {
    sandbox: Option<Arc<Sandbox>>,
    /// The instance of each container that runs.
    running: BTreeMap<String, ContainerId>,
    probes: ProbeCounts,
}

/// What the task is asked from outside.
#[derive(Debug)]
pub(crate) enum Command {
    /// End the Pod.
    Stop { grace: Option<Duration> },
    /// Newer versions of objects that it may refer to.
    Update(Arc<Objects>),
    /// What has become of the Pod's own object.
    Change {
        pod: Box<Pod>,
        /// Told once it counts.
        done: oneshot::Sender<()>,
    },
}

impl PodShared {
    pub(crate) fn new(
        name: PodName,
        uid: String,
        size: SizeRecord,
        admitted_at: Timestamp,
        logs: LogBook,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (news, state, begun) = (News::new(), Mutex::default(), Instant::now());
        Self { name, uid, size, admitted_at, news, logs, metrics, state, begun }
    }

    /// The microVM, while it runs.
    pub(crate) fn sandbox(&self) -> Option<Arc<Sandbox>> {
        self.lock().sandbox.clone()
    }

    /// The running instance of a container.
    pub(crate) fn running(&self, container: &str) -> Option<ContainerId> {
        self.lock().running.get(container).cloned()
    }

    /// How often probes have answered what.
    pub(crate) fn probe_counts(&self) -> ProbeCounts {
        self.lock().probes.clone()
    }

    fn count_probe(&self, container: &str, kind: &'static str, result: &'static str) {
        let mut state = self.lock();
        let count = state.probes.0.entry((container.to_owned(), kind, result)).or_default();
        *count = count.saturating_add(1);
    }

    fn set_sandbox(&self, sandbox: Option<Arc<Sandbox>>) {
        self.lock().sandbox = sandbox;
    }

    fn set_running(&self, container: &str, id: Option<ContainerId>) {
        let mut state = self.lock();
        match id {
            Some(id) => state.running.insert(container.to_owned(), id),
            None => state.running.remove(container),
        };
    }

    /// Tells that policy has taken the Pod, which has its size and, on one machine, its place.
    pub(crate) fn admitted(&self, since: Timestamp) {
        let took = Timestamp::now().duration_since(since).try_into().unwrap_or_default();
        for step in ["admitted", "sized", "placed"] {
            self.stage_took(step, took);
        }
    }

    /// Tells that a step of the start is done that has begun at `since`.
    fn stage(&self, name: &str, since: Instant) {
        self.stage_took(name, since.elapsed());
    }

    fn stage_took(&self, name: &str, took: Duration) {
        let since_start = self.begun.elapsed();
        self.metrics.stage(name, took, since_start);
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let stage = StageRecord {
            name: name.to_owned(),
            nanoseconds: nanoseconds(took),
            since_start_nanoseconds: nanoseconds(since_start),
        };
        self.news.tell(Timestamp::now(), Item::Stage(stage));
        monopod_faults::point(&format!("host/{name}"));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Reachable> {
        // Every change is one assignment, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PodHandle {
    /// A Pod that has ended before; nothing of it runs.
    pub(crate) fn ended(shared: Arc<PodShared>) -> Self {
        let (commands, _) = mpsc::channel(1);
        Self { shared, commands }
    }

    fn new(shared: Arc<PodShared>, commands: mpsc::Sender<Command>) -> Self {
        Self { shared, commands }
    }

    /// Asks for the end, and waits for it.
    pub(crate) async fn stop(&self, grace: Option<Duration>) -> Finished {
        // A task that is gone has told the end already, or its supervisor will.
        let _ = self.commands.send(Command::Stop { grace }).await;
        self.shared.news.wait_finished().await
    }

    /// Brings what has become of the Pod's own object.
    pub(crate) async fn change(&self, pod: Pod) {
        // A Pod that has ended does not change.
        let (done, is_done) = oneshot::channel();
        let _ = self.commands.send(Command::Change { pod: Box::new(pod), done }).await;
        let _ = is_done.await;
    }

    /// Brings newer objects.
    pub(crate) async fn update(&self, objects: Arc<Objects>) {
        // A Pod that has ended needs none.
        let _ = self.commands.send(Command::Update(objects)).await;
    }
}
