//! What a watch of Pods says, and when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::names::STAGE_CONDITION_PREFIX;
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A watch that goes on, and what it has told.
pub(super) struct Watching {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    changes: watch::Receiver<u64>,
    task: AbortHandle,
}

/// When what was seen of a Pod first.
#[derive(Clone, Debug, Default)]
struct Seen {
    bound: Option<Instant>,
    started: Option<Instant>,
    gone: bool,
    pod: Pod,
}

/// A start, as a watch has seen it.
#[derive(Clone, Debug)]
pub(super) struct Started {
    pub(super) pod: String,
    pub(super) node: String,
    /// From the Pod's creation until its containers ran.
    pub(super) total: Duration,
    /// From its creation until it was bound.
    pub(super) bound: Duration,
    /// When its containers were seen to run.
    pub(super) seen: Instant,
    /// The same by the clock.
    pub(super) at: Timestamp,
    /// Of each stage: how long it took, and how long after admission it was done.
    stages: Vec<(String, Duration, Duration)>,
}

impl Started {
    /// How long a stage took, and when it was done.
    pub(super) fn stage(&self, name: &str) -> Option<(Duration, Duration)> {
        self.stages.iter().find(|(stage, _, _)| stage == name).map(|(_, took, done)| (*took, *done))
    }

    /// What the guest does: all from when its microVM runs until its containers have started.
    fn guest(&self) -> Duration {
        let done = |name: &str| self.stage(name).map(|(_, done)| done).unwrap_or_default();
        done("started").saturating_sub(done("vm"))
    }

    /// All the rest.
    pub(super) fn outside(&self) -> Duration {
        self.total.saturating_sub(self.guest())
    }

    /// From the binding on, what is no stage of the start: hearing of the Pod, reading what it refers to, telling.
    pub(super) fn telling(&self) -> Duration {
        let stages = self.stage("started").map(|(_, done)| done).unwrap_or_default();
        self.total.saturating_sub(self.bound).saturating_sub(stages)
    }
}

impl Watching {
    /// Begins to watch the Pods of a namespace.
    pub(super) async fn begin(client: Client, namespace: &str) -> Result<Self> {
        let pods = Api::<Pod>::namespaced(client, namespace);
        let version = pods.list(&kube::api::ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
        let stream = pods.watch(&WatchParams::default().timeout(290), &version).await?;
        let (tell, changes) = watch::channel(0);
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let book = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let (mut version, mut stream) = (version, stream.boxed());
            loop {
                while let Some(Ok(event)) = stream.next().await {
                    if let Some(newest) = note(&book, event) {
                        version = newest;
                    }
                    tell.send_modify(|count| *count += 1);
                }
                // It ends after its time, and goes on where it was.
                if let Ok(next) = pods.watch(&WatchParams::default().timeout(290), &version).await {
                    stream = next.boxed();
                }
            }
        });
        Ok(Self { seen, changes, task: task.abort_handle() })
    }

    /// Waits until the containers of a Pod run.
    pub(super) async fn started(&self, name: &str, created: Instant, limit: Duration) -> Result<Started> {
        let seen = self.until(name, limit, |seen| seen.started.is_some() && has_stages(&seen.pod)).await?;
        let (bound, started) = (seen.bound.context("it is bound")?, seen.started.context("it has started")?);
        Ok(Started {
            pod: name.to_owned(),
            node: seen.pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            total: started.duration_since(created),
            bound: bound.duration_since(created),
            seen: started,
            at: Timestamp::now() - SignedDuration::try_from(started.elapsed())?,
            stages: stages(&seen.pod),
        })
    }

    /// Waits until a Pod is gone.
    pub(super) async fn gone(&self, name: &str, limit: Duration) -> Result<()> {
        self.until(name, limit, |seen| seen.gone).await.map(drop)
    }

    async fn until(&self, name: &str, limit: Duration, wanted: impl Fn(&Seen) -> bool) -> Result<Seen> {
        let mut changes = self.changes.clone();
        let waiting = async {
            loop {
                changes.mark_unchanged();
                let found = lock(&self.seen).get(name).filter(|seen| wanted(seen)).cloned();
                if let Some(found) = found {
                    return anyhow::Ok(found);
                }
                changes.changed().await?;
            }
        };
        let what =
            || format!("Pod {name}; seen of it: {:?}", lock(&self.seen).get(name).map(|seen| seen.pod.status.clone()));
        tokio::time::timeout(limit, waiting).await.with_context(what)?
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(seen: &Mutex<HashMap<String, Seen>>) -> MutexGuard<'_, HashMap<String, Seen>> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes an event; the version after it.
fn note(book: &Mutex<HashMap<String, Seen>>, event: WatchEvent<Pod>) -> Option<String> {
    let (pod, gone) = match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => (pod, false),
        WatchEvent::Deleted(pod) => (pod, true),
        WatchEvent::Bookmark(_) | WatchEvent::Error(_) => return None,
    };
    let (now, version) = (Instant::now(), pod.resource_version());
    let mut book = lock(book);
    let seen = book.entry(pod.name_any()).or_default();
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        seen.bound.get_or_insert(now);
    }
    if pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running")) {
        seen.started.get_or_insert(now);
    }
    (seen.gone, seen.pod) = (gone, pod);
    version
}

/// Whether a Pod has told the stages of its start, as those in microVMs do.
fn has_stages(pod: &Pod) -> bool {
    pod.labels().get("runs-in").is_none_or(|place| place != "microvm")
        || stages(pod).iter().any(|(stage, _, _)| stage == "started")
}

/// The stages that a Pod's conditions tell.
fn stages(pod: &Pod) -> Vec<(String, Duration, Duration)> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let told = conditions.filter_map(|condition| {
        let name = condition.type_.strip_prefix(STAGE_CONDITION_PREFIX)?.to_owned();
        let words: Vec<&str> = condition.message.as_deref()?.split(' ').collect();
        let millis = |word: Option<&&str>| Some(Duration::from_secs_f64(word?.parse::<f64>().ok()? / 1e3));
        Some((name, millis(words.get(1))?, millis(words.get(4))?))
    });
    told.collect()
}
