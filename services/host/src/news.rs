//! What is told about one Pod: to those who listen now, and to those who come later.
//!
//! The task of the Pod is the only one that tells. Kept are the stages of the start, the last status and the last events;
//! progress of pulls is told and forgotten. A listener that falls behind misses progress and old statuses, never the
//! end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use monopod_podplan::life::{Notice, Severity};
use tokio::sync::broadcast;

use crate::journal::{PortRecord, SizeRecord, StageRecord};

/// Events that are kept of one Pod.
const KEPT_EVENTS: usize = 64;
/// News that a listener may be behind.
const BACKLOG: usize = 64;

/// The news of one Pod. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct News {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<Told>,
    tell: broadcast::Sender<TimedItem>,
}

/// One piece of news.
#[derive(Clone, Debug)]
pub(crate) struct TimedItem {
    pub(crate) time: Timestamp,
    pub(crate) item: Item,
}

/// What there is to tell.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    Admitted { uid: String, size: SizeRecord },
    Stage(StageRecord),
    Pull(PullProgress),
    Event(SeenEvent),
    Status(Arc<Pod>),
    Published(PortRecord),
    Finished(Finished),
}

/// How far an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PullProgress {
    pub(crate) image: String,
    pub(crate) step: &'static str,
    pub(crate) done: u64,
    pub(crate) total: u64,
}

/// An event as Kubernetes would keep it: said again, it is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenEvent {
    pub(crate) notice: Notice,
    pub(crate) count: u32,
    pub(crate) first_seen: Timestamp,
    pub(crate) last_seen: Timestamp,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finished {
    pub(crate) exit_code: i32,
    pub(crate) phase: String,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// All that is kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) admitted: Option<TimedItem>,
    pub(crate) stages: Vec<(Timestamp, StageRecord)>,
    pub(crate) events: VecDeque<SeenEvent>,
    pub(crate) published: Vec<(Timestamp, PortRecord)>,
    pub(crate) status: Option<(Timestamp, Arc<Pod>)>,
    pub(crate) finished: Option<(Timestamp, Finished)>,
}

impl News {
    /// Nothing is told yet.
    pub(crate) fn new() -> Self {
        let (tell, _) = broadcast::channel(BACKLOG);
        Self { shared: Arc::new(Shared { state: Mutex::default(), tell }) }
    }

    /// Tells, and keeps what is to be kept.
    pub(crate) fn tell(&self, time: Timestamp, item: Item) {
        // Told while the lock is held, so that a new listener gets each item exactly once.
        let mut told = self.lock();
        told.keep(time, &item);
        // That nobody listens is no error.
        let _ = self.shared.tell.send(TimedItem { time, item });
    }

    /// Tells an event, counting it when the same was said before.
    pub(crate) fn tell_event(&self, now: Timestamp, notice: Notice) {
        let mut told = self.lock();
        let event = told.count(now, notice);
        let _ = self.shared.tell.send(TimedItem { time: now, item: Item::Event(event) });
    }

    /// All that was kept, and what comes from here on.
    pub(crate) fn listen(&self) -> (Told, broadcast::Receiver<TimedItem>) {
        let told = self.lock();
        (told.clone(), self.shared.tell.subscribe())
    }

    /// All that was kept.
    pub(crate) fn told(&self) -> Told {
        self.lock().clone()
    }

    /// The stages of the start so far.
    pub(crate) fn stages(&self) -> Vec<StageRecord> {
        self.lock().stages.iter().map(|(_, stage)| stage.clone()).collect()
    }

    /// The last status.
    pub(crate) fn pod(&self) -> Option<Arc<Pod>> {
        self.lock().status.as_ref().map(|(_, pod)| Arc::clone(pod))
    }

    /// How it ended, when it has.
    pub(crate) fn finished(&self) -> Option<Finished> {
        self.lock().finished.as_ref().map(|(_, finished)| finished.clone())
    }

    /// Waits for the end.
    pub(crate) async fn wait_finished(&self) -> Finished {
        let mut listener = self.shared.tell.subscribe();
        loop {
            if let Some(finished) = self.finished() {
                return finished;
            }
            // Lagging only means that there is something to look at; we hold a sender, so it is never closed.
            let _ = listener.recv().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Told> {
        // Every change is one assignment or push, so a panic elsewhere leaves nothing half done.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn keep(&mut self, time: Timestamp, item: &Item) {
        match item {
            Item::Admitted { .. } => self.admitted = Some(TimedItem { time, item: item.clone() }),
            Item::Stage(stage) => self.stages.push((time, stage.clone())),
            Item::Event(event) => self.events.push_back(event.clone()),
            Item::Status(pod) => self.status = Some((time, Arc::clone(pod))),
            Item::Published(port) => self.published.push((time, port.clone())),
            Item::Finished(finished) => self.finished = Some((time, finished.clone())),
            Item::Pull(_) => {}
        }
    }

    fn count(&mut self, now: Timestamp, notice: Notice) -> SeenEvent {
        let known = self.events.iter().position(|event| event.notice == notice);
        let event = match known.and_then(|index| self.events.remove(index)) {
            Some(event) => SeenEvent { count: event.count.saturating_add(1), last_seen: now, ..event },
            None => SeenEvent { notice, count: 1, first_seen: now, last_seen: now },
        };
        if self.events.len() >= KEPT_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        event
    }

    /// As a list of news in the order of their times, the end last.
    pub(crate) fn into_items(self) -> Vec<TimedItem> {
        let mut items: Vec<TimedItem> = Vec::new();
        items.extend(self.stages.into_iter().map(|(time, stage)| TimedItem { time, item: Item::Stage(stage) }));
        items
            .extend(self.events.into_iter().map(|event| TimedItem { time: event.last_seen, item: Item::Event(event) }));
        items.extend(self.published.into_iter().map(|(time, port)| TimedItem { time, item: Item::Published(port) }));
        items.extend(self.status.map(|(time, pod)| TimedItem { time, item: Item::Status(pod) }));
        items.sort_by_key(|item| item.time);
        let finished = self.finished.map(|(time, finished)| TimedItem { time, item: Item::Finished(finished) });
        self.admitted.into_iter().chain(items).chain(finished).collect()
    }
}

/// A notice of the daemon itself.
pub(crate) fn warning(reason: &'static str, message: impl Into<String>) -> Notice {
    Notice { severity: Severity::Warning, reason, message: message.into(), field_path: String::new() }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::{Finished, Item, KEPT_EVENTS, News, warning};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn finished() -> Finished {
        Finished { exit_code: 3, phase: "Failed".to_owned(), reason: String::new(), message: String::new() }
    }

    #[test]
    fn the_same_event_is_counted() {
        let news = News::new();
        news.tell_event(at(1), warning("BackOff", "again"));
        news.tell_event(at(2), warning("Failed", "no"));
        news.tell_event(at(3), warning("BackOff", "again"));
        let told = news.told();
        let seen: Vec<_> = told.events.iter().map(|event| (event.notice.reason, event.count)).collect();
        assert_eq!(seen, [("Failed", 1), ("BackOff", 2)]);
        assert_eq!(told.events.back().map(|event| (event.first_seen, event.last_seen)), Some((at(1), at(3))));
    }

    #[test]
    fn old_events_go() {
        let news = News::new();
        for number in 0..200 {
            news.tell_event(at(number), warning("Failed", number.to_string()));
        }
        assert_eq!(news.told().events.len(), KEPT_EVENTS);
    }

    #[tokio::test]
    async fn who_waits_learns_of_the_end_and_who_comes_later_too() {
        let news = News::new();
        let waiting = tokio::spawn({
            let news = news.clone();
            async move { news.wait_finished().await }
        });
        for number in 0..200 {
            news.tell_event(at(number), warning("Failed", number.to_string()));
        }
        news.tell(at(300), Item::Finished(finished()));
        assert_eq!(waiting.await.unwrap(), finished());
        assert_eq!(news.wait_finished().await, finished());
        let items = news.told().into_items();
        assert!(matches!(items.last().map(|item| &item.item), Some(Item::Finished(_))));
    }
}
