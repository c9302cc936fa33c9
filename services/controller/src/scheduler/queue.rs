//! Pods that wait for a place: when each is to be looked at.
//!
//! A Pod that was refused sleeps until something changes that may help it, and then still for its back-off, which doubles
//! with every refusal: 1 s to 10 s, as kube-scheduler's. What nobody foresaw is covered by a look every five minutes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use monopod_types::PodUid;
use tokio::time::Instant;

use super::world::Wake;

const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(10);
const LONGEST_SLEEP: Duration = Duration::from_secs(300);

#[derive(Debug)]
struct Waiting {
    wakes: BTreeSet<Wake>,
    /// Not before this, whatever happens.
    rests_until: Instant,
    refusals: u32,
}

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Pods to be looked at, by when; the number keeps those of one moment in order.
    due: BTreeMap<(Instant, u64), PodUid>,
    places: HashMap<PodUid, (Instant, u64)>,
    waiting: HashMap<PodUid, Waiting>,
    next: u64,
}

impl Queue {
    /// Has a Pod looked at, now or when its back-off is over.
    pub(crate) fn add(&mut self, uid: PodUid, now: Instant) {
        let at = self.waiting.get(&uid).map_or(now, |waiting| waiting.rests_until.max(now));
        self.schedule(uid, at);
    }

    /// A Pod was refused.
    pub(crate) fn refuse(&mut self, uid: PodUid, wakes: BTreeSet<Wake>, now: Instant) {
        let refusals = self.waiting.get(&uid).map_or(0, |waiting| waiting.refusals);
        let pause = FIRST_BACK_OFF.saturating_mul(1 << refusals.min(10)).min(LONGEST_BACK_OFF);
        let waiting = Waiting { wakes, rests_until: now + pause, refusals: refusals.saturating_add(1) };
        self.waiting.insert(uid.clone(), waiting);
        self.unschedule(&uid);
        self.schedule(uid, now + LONGEST_SLEEP);
    }

    /// What was tried failed for no reason of the Pod's: it is tried again after its back-off.
    pub(crate) fn fail(&mut self, uid: PodUid, now: Instant) {
        self.refuse(uid.clone(), BTreeSet::new(), now);
        self.add(uid, now);
    }

    /// Something happened that may help.
    pub(crate) fn wake(&mut self, wakes: &BTreeSet<Wake>, now: Instant) {
        if wakes.is_empty() {
            return;
        }
        let helped = self.waiting.iter().filter(|(_, waiting)| !waiting.wakes.is_disjoint(wakes));
        let helped: Vec<PodUid> = helped.map(|(uid, _)| uid.clone()).collect();
        for uid in helped {
            self.add(uid, now);
        }
    }

    /// There is nothing more to do for a Pod.
    pub(crate) fn forget(&mut self, uid: &PodUid) {
        self.waiting.remove(uid);
        self.unschedule(uid);
    }

    /// Pods whose time has come, not more than so many.
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Vec<PodUid> {
        let mut due = Vec::new();
        while due.len() < most
            && let Some(entry) = self.due.first_entry().filter(|entry| entry.key().0 <= now)
        {
            let uid = entry.remove();
            self.places.remove(&uid);
            due.push(uid);
        }
        due
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    fn schedule(&mut self, uid: PodUid, at: Instant) {
        if let Some(place) = self.places.get(&uid) {
            if place.0 <= at {
                return;
            }
            self.due.remove(&place.clone());
        }
        self.next += 1;
        let place = (at, self.next);
        self.due.insert(place, uid.clone());
        self.places.insert(uid, place);
    }

    fn unschedule(&mut self, uid: &PodUid) {
        if let Some(place) = self.places.remove(uid) {
            self.due.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use monopod_types::PodUid;
    use tokio::time::Instant;

    use super::Queue;
    use crate::scheduler::world::Wake;

    fn uid(name: &str) -> PodUid {
        PodUid::new(name)
    }

    #[test]
    fn pods_come_in_the_order_in_which_they_were_added() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        for name in ["a", "b", "c", "a"] {
            queue.add(uid(name), now);
        }
        assert_eq!(queue.take_due(now, 2), [uid("a"), uid("b")]);
        assert_eq!(queue.take_due(now, 9), [uid("c")]);
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn a_refused_pod_sleeps_until_something_helps_and_its_back_off_is_over() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.refuse(uid("a"), BTreeSet::from([Wake::Storage]), now);
        queue.wake(&BTreeSet::from([Wake::Profile]), now);
        assert_eq!(queue.take_due(now + Duration::from_secs(20), 9), []);
        queue.wake(&BTreeSet::from([Wake::Storage]), now);
        assert_eq!(queue.take_due(now + Duration::from_millis(999), 9), []);
        assert_eq!(queue.take_due(now + Duration::from_secs(1), 9), [uid("a")]);
    }

    #[test]
    fn the_back_off_doubles_to_ten_seconds_and_is_forgotten_with_the_pod() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let pauses = [1, 2, 4, 8, 10, 10].map(Duration::from_secs);
        for pause in pauses {
            queue.fail(uid("a"), now);
            assert_eq!(queue.next_due(), Some(now + pause));
            queue.take_due(now + pause, 1);
        }
        queue.forget(&uid("a"));
        queue.add(uid("a"), now);
        assert_eq!(queue.next_due(), Some(now));
    }

    #[test]
    fn what_nobody_foresaw_is_looked_at_in_the_end() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.refuse(uid("a"), BTreeSet::new(), now);
        assert_eq!(queue.next_due(), Some(now + Duration::from_secs(300)));
    }
}
