//! `fargate-scheduler`: finds a host and an address for every Pod of a profile, and removes the Nodes of Pods that are gone.
//!
//! ```text
//! watches ─▶ World (what is there, what is taken) ─▶ Answer per Pod ─▶ three writes, or why it waits
//!              ▲                                         │
//!              └────── Queue: what may help whom ◀───────┘
//! ```
//! One task owns the world and decides; writes run beside it. A place counts as taken from the moment it is decided.

mod facts;
pub mod harness;
mod queue;
mod report;
#[cfg(test)]
mod tests;
mod watches;
mod world;
mod write;

use std::collections::HashSet;
use std::sync::Arc;

use kube::Client;
use kube::ResourceExt as _;
use monopod_policy::placement::CommonLabels;
use monopod_policy::record::Record;
use monopod_types::PodUid;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use queue::Queue;
use report::Reports;
use watches::{Change, Seen};
use world::{Answer, Consequences, Orphan, World};
use write::Written;

use crate::status::Status;

/// Pods that are decided on with one look at profiles and claims.
const BATCH: usize = 256;
/// Placements that are written at once.
const WRITES: usize = 64;
/// Changes that are taken before Pods are looked at again.
const CHANGES: usize = 1024;

/// What came of a write.
#[derive(Debug)]
enum Done {
    Placed(Box<Record>, Written),
    Bound(PodUid, Written),
}

/// The task.
struct Scheduler {
    client: Client,
    world: World,
    queue: Queue,
    reports: Reports,
    status: Arc<Status>,
    /// Pods whose placement or Binding is being written.
    writing: HashSet<PodUid>,
    places: Arc<Semaphore>,
    /// They end with us: the next leader is not to meet our late writes.
    writes: JoinSet<()>,
    done: mpsc::UnboundedSender<Done>,
}

/// Schedules until it is dropped.
pub(crate) async fn run(client: Client, common: CommonLabels, status: Arc<Status>) {
    let mut changes = watches::begin(&client);
    let (done, mut results) = mpsc::unbounded_channel();
    let (world, queue, reports) = (World::new(common), Queue::default(), Reports::default());
    let mut scheduler = Scheduler {
        client,
        world,
        queue,
        reports,
        status,
        writing: HashSet::new(),
        places: Arc::new(Semaphore::new(WRITES)),
        writes: JoinSet::new(),
        done,
    };
    // Nothing is decided before everything is known: a host may look empty whose Nodes are not listed yet.
    let mut orphans = Vec::new();
    while let Some(change) = changes.recv_unlisted().await {
        orphans.extend(scheduler.take(change));
    }
    // A host may have been removed while nobody looked.
    orphans.extend(scheduler.world.homeless().into_iter().map(|orphan| (orphan, true)));
    for orphan in orphans {
        scheduler.remove_if_orphaned(orphan);
    }
    tracing::info!(
        pods = scheduler.world.counts().0,
        taken = scheduler.world.counts().1,
        "the scheduler knows the cluster"
    );
    loop {
        scheduler.look();
        let (pods, places) = scheduler.world.counts();
        scheduler.status.knows(pods, places);
        let due = scheduler.queue.next_due();
        let sleep = tokio::time::sleep_until(due.unwrap_or_else(Instant::now));
        tokio::select! {
            biased;
            Some(done) = results.recv() => scheduler.finish(done),
            Some(change) = changes.recv() => {
                scheduler.change(change);
                for _ in 0..CHANGES {
                    let Some(change) = changes.try_recv() else { break };
                    scheduler.change(change);
                }
            }
            Some(_) = scheduler.writes.join_next() => {}
            () = sleep, if due.is_some() => {}
        }
    }
}

impl Scheduler {
    fn change(&mut self, change: Change) {
        for orphan in self.take(change) {
            self.remove_if_orphaned(orphan);
        }
    }

    fn take(&mut self, change: Change) -> Vec<(Orphan, bool)> {
        let now = Instant::now();
        let host_is_gone = matches!(change, Change::Host(Seen::Gone(_)));
        if let Change::Pod(Seen::Gone(pod)) = &change
            && let Some(uid) = pod.uid().map(PodUid::new)
        {
            self.queue.forget(&uid);
            self.reports.forget(&uid);
            self.status.waits_no_more(uid.as_str());
        }
        let Consequences { look_at, wakes, orphans, unlabelled } = self.world.apply(change);
        for one in unlabelled {
            let client = self.client.clone();
            tokio::spawn(async move { write::label(&client, &one).await });
        }
        look_at.into_iter().for_each(|uid| self.queue.add(uid, now));
        self.queue.wake(&wakes, now);
        orphans.into_iter().map(|orphan| (orphan, host_is_gone)).collect()
    }

    fn remove_if_orphaned(&self, (orphan, host_is_gone): (Orphan, bool)) {
        let client = self.client.clone();
        tokio::spawn(async move {
            while let Err(error) = write::remove_orphan(&client, &orphan, host_is_gone).await {
                tracing::warn!(
                    node = orphan.node,
                    error = &error as &dyn std::error::Error,
                    "the node of a pod that is gone is still there"
                );
                tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            }
        });
    }

    /// Looks at all Pods that are due.
    fn look(&mut self) {
        loop {
            let mut due = self.queue.take_due(Instant::now(), BATCH);
            if due.is_empty() {
                return;
            }
            // What comes of the writes decides whether to look again.
            due.retain(|uid| !self.writing.contains(uid));
            for (uid, answer) in self.world.answer(&due) {
                self.act(uid, answer);
            }
        }
    }

    fn act(&mut self, uid: PodUid, answer: Answer) {
        let (client, done, places) = (self.client.clone(), self.done.clone(), Arc::clone(&self.places));
        match answer {
            Answer::Nothing => self.queue.forget(&uid),
            Answer::Place(record, size) => {
                self.status.attempted("placed");
                self.writing.insert(uid);
                let status = Arc::clone(&self.status);
                let common = self.world.common().clone();
                self.writes.spawn(async move {
                    let _place = places.acquire().await;
                    let begun = Instant::now();
                    let written = write::place(&client, &record, &size, &common).await;
                    status.placed(begun.elapsed());
                    // The scheduler is gone when nobody listens; the next one reads from the cluster how far this came.
                    let _ = done.send(Done::Placed(record, written));
                });
            }
            Answer::Bind(unbound) => {
                self.writing.insert(uid.clone());
                self.writes.spawn(async move {
                    let _place = places.acquire().await;
                    let written = write::bind(&client, &unbound).await;
                    let _ = done.send(Done::Bound(uid, written));
                });
            }
            Answer::Wait { reason, message, wakes } => {
                self.status.attempted(&reason);
                if let Some(pod) = self.world.pod(&uid)
                    && self.reports.is_news(&uid, &reason, &message)
                {
                    let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
                    self.status.waits(uid.as_str(), &name, &reason, &message);
                    tokio::spawn(async move { report::waits(client, &pod, &reason, &message).await });
                }
                self.queue.refuse(uid, wakes, Instant::now());
            }
        }
    }

    fn finish(&mut self, done: Done) {
        let now = Instant::now();
        let (uid, written, record) = match done {
            Done::Placed(record, written) => (record.uid.clone(), written, Some(record)),
            Done::Bound(uid, written) => (uid, written, None),
        };
        self.writing.remove(&uid);
        match written {
            Written::Bound => {
                self.queue.forget(&uid);
                self.reports.forget(&uid);
                self.status.waits_no_more(uid.as_str());
                if let (Some(record), Some(pod)) = (record, self.world.pod(&uid)) {
                    let (client, message) = (self.client.clone(), record.message());
                    tokio::spawn(async move { report::scheduled(client, &pod, &message).await });
                }
            }
            Written::PodGone => {
                self.queue.forget(&uid);
                let wakes = self.world.give_up(&uid);
                self.queue.wake(&wakes, now);
            }
            Written::AddressTaken => {
                let wakes = self.world.give_up(&uid);
                if let Some(record) = record {
                    self.world.avoid(record.block, record.address);
                }
                self.queue.wake(&wakes, now);
                self.queue.add(uid, now);
            }
            Written::Failed(error) => {
                tracing::warn!(
                    uid = uid.as_str(),
                    error = &error as &dyn std::error::Error,
                    "a placement was not written"
                );
                let wakes = self.world.give_up(&uid);
                self.queue.wake(&wakes, now);
                self.queue.fail(uid, now);
            }
        }
    }
}
