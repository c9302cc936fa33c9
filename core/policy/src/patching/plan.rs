//! What to do now: one step or one wait for every outdated Pod.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use monopod_types::{PodUid, Zone};

use super::budget::Slots;
use super::event::Announcement;
use super::{GuestVersion, Record, Rollout, RunningPod, later};

/// What to do with one Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the owner when the Pod will be evicted.
    Notify {
        /// That date.
        evict_at: Timestamp,
    },
    /// Call the Eviction API.
    Evict,
    /// Tell the owner that the eviction was refused and when the Pod ends all the same.
    Announce(Announcement),
    /// Call the Eviction API for the last time; no event follows.
    Retry,
    /// Delete the Pod, with its own grace period.
    Delete,
}

/// Why a step is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The guest is older than the current one.
    GuestOutdated {
        /// Guest of the Pod.
        running: GuestVersion,
        /// Guest of the rollout.
        current: GuestVersion,
    },
    /// The date of the notice is further away than a more urgent patch allows.
    UrgencyRaised {
        /// Guest of the rollout.
        current: GuestVersion,
    },
    /// The date of the notice has come.
    EvictionDue {
        /// That date.
        evict_at: Timestamp,
    },
    /// The first eviction was refused.
    EvictionRefused {
        /// What the Eviction API said.
        message: String,
    },
    /// The announced time has come.
    TerminationDue {
        /// That time.
        terminate_at: Timestamp,
    },
    /// Both evictions were refused and the announced time has come.
    SecondEvictionRefused {
        /// What the Eviction API said.
        message: String,
    },
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The Pod; calls carry its UID as precondition.
    pub pod: PodUid,
    /// What.
    pub action: Action,
    /// Why.
    pub reason: Reason,
}

/// What an outdated Pod waits for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wait {
    /// Its date has not come.
    #[error("eviction is due at {evict_at}")]
    NotDue {
        /// The date of the notice.
        evict_at: Timestamp,
    },
    /// Its announced time has not come.
    #[error("termination is due at {terminate_at}")]
    Announced {
        /// `scheduledTerminationTime`.
        terminate_at: Timestamp,
    },
    /// Another zone is not done.
    #[error("zone {zone} is not done")]
    OtherZone {
        /// That zone.
        zone: Zone,
    },
    /// Pods created before it, in its own zone too, are not done.
    #[error("Pods of an earlier notice period are not done")]
    EarlierWave,
    /// As many Pods of its profile are on their way out as may be.
    #[error("{in_flight} Pods of its profile are on their way out, which is the budget")]
    ProfileBudget {
        /// So many.
        in_flight: usize,
    },
    /// As many Pods of its zone are on their way out as may be.
    #[error("{in_flight} Pods of its zone are on their way out, which is the budget")]
    ZoneBudget {
        /// So many.
        in_flight: usize,
    },
    /// It is on its way out itself.
    #[error("the Pod is terminating")]
    Leaving,
}

/// A Pod that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The Pod.
    pub pod: PodUid,
    /// For what.
    pub wait: Wait,
}

/// Every outdated Pod of the snapshot, in one list or the other, in the order of their turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What to do now.
    pub steps: Vec<Step>,
    /// Who waits.
    pub waiting: Vec<Waiting>,
}

/// Where in the order of a rollout a Pod has its turn.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Turn<'a> {
    /// 0 for Pods created before the notice, then one more per notice period.
    wave: i64,
    zone: &'a Zone,
}

/// The zone that may evict.
struct Gate<'a> {
    head: Option<Turn<'a>>,
    begun: BTreeSet<&'a Zone>,
}

/// Plans the next steps of `rollout` for the Pods of the cluster.
pub fn plan(rollout: &Rollout, pods: &[RunningPod], now: Timestamp) -> Plan {
    let mut outdated: Vec<_> = pods.iter().filter(|pod| pod.is_outdated(rollout)).collect();
    outdated.sort_by_key(|pod| (Turn::of(rollout, pod), &pod.namespace, &pod.name, &pod.uid));
    let gate = Gate::new(rollout, &outdated);
    let mut slots = Slots::count(rollout, pods);
    let mut plan = Plan::default();
    for pod in outdated {
        match decide(rollout, pod, &gate, &mut slots, now) {
            Ok((action, reason)) => plan.steps.push(Step { pod: pod.uid.clone(), action, reason }),
            Err(wait) => plan.waiting.push(Waiting { pod: pod.uid.clone(), wait }),
        }
    }
    plan
}

fn decide<'a>(
    rollout: &Rollout,
    pod: &'a RunningPod,
    gate: &Gate<'a>,
    slots: &mut Slots<'a>,
    now: Timestamp,
) -> Result<(Action, Reason), Wait> {
    if pod.terminating {
        return Err(Wait::Leaving);
    }
    match &pod.record {
        Record::Untold => {
            let reason = Reason::GuestOutdated { running: pod.guest, current: rollout.guest };
            Ok((notify(rollout, now), reason))
        }
        Record::Noticed { evict_at } if *evict_at > later(now, rollout.deadlines.notice) => {
            Ok((notify(rollout, now), Reason::UrgencyRaised { current: rollout.guest }))
        }
        Record::Noticed { evict_at } if *evict_at > now => Err(Wait::NotDue { evict_at: *evict_at }),
        Record::Noticed { evict_at } => {
            gate.admit(Turn::of(rollout, pod))?;
            slots.take(&rollout.budget, pod)?;
            Ok((Action::Evict, Reason::EvictionDue { evict_at: *evict_at }))
        }
        Record::Refused { message } => {
            let announcement = Announcement {
                scheduled_termination_time: later(now, rollout.deadlines.termination),
                evict_error_message: message.clone(),
            };
            Ok((Action::Announce(announcement), Reason::EvictionRefused { message: message.clone() }))
        }
        Record::Announced { terminate_at } | Record::RefusedAgain { terminate_at, .. } if *terminate_at > now => {
            Err(Wait::Announced { terminate_at: *terminate_at })
        }
        Record::Announced { terminate_at } => {
            slots.take(&rollout.budget, pod)?;
            Ok((Action::Retry, Reason::TerminationDue { terminate_at: *terminate_at }))
        }
        Record::RefusedAgain { message, .. } => {
            slots.take(&rollout.budget, pod)?;
            Ok((Action::Delete, Reason::SecondEvictionRefused { message: message.clone() }))
        }
        Record::Evicted | Record::Deleted => Err(Wait::Leaving),
    }
}

fn notify(rollout: &Rollout, now: Timestamp) -> Action {
    Action::Notify { evict_at: later(now, rollout.deadlines.notice) }
}

impl Reason {
    /// Reason for events, conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::GuestOutdated { .. } => "GuestOutdated",
            Self::UrgencyRaised { .. } => "PatchUrgencyRaised",
            Self::EvictionDue { .. } => "PatchEvictionDue",
            Self::EvictionRefused { .. } => "PatchEvictionRefused",
            Self::TerminationDue { .. } => "PatchTerminationDue",
            Self::SecondEvictionRefused { .. } => "PatchSecondEvictionRefused",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuestOutdated { running, current } => {
                write!(f, "guest {running} is outdated, the current one is {current}")
            }
            Self::UrgencyRaised { current } => {
                write!(f, "guest {current} is more urgent than the patch of the earlier notice")
            }
            Self::EvictionDue { evict_at } => write!(f, "the eviction date {evict_at} has come"),
            Self::EvictionRefused { message } => write!(f, "the eviction was refused: {message}"),
            Self::TerminationDue { terminate_at } => {
                write!(f, "the scheduled termination time {terminate_at} has come")
            }
            Self::SecondEvictionRefused { message } => write!(f, "the second eviction was refused as well: {message}"),
        }
    }
}

impl<'a> Turn<'a> {
    fn of(rollout: &Rollout, pod: &'a RunningPod) -> Self {
        let age = pod.created.duration_since(rollout.announced_at).as_secs();
        let period = rollout.deadlines.notice.as_secs().max(1);
        let wave = if pod.created <= rollout.announced_at { 0 } else { 1 + age / period };
        Self { wave, zone: &pod.zone }
    }
}

impl<'a> Gate<'a> {
    fn new(rollout: &Rollout, outdated: &[&'a RunningPod]) -> Self {
        let head = outdated.iter().map(|pod| Turn::of(rollout, pod)).min();
        let begun = outdated.iter().filter(|pod| pod.record.has_begun()).map(|pod| &pod.zone).collect();
        Self { head, begun }
    }

    /// Lets a Pod pass whose turn it is, unless another zone has begun and is not done.
    fn admit(&self, turn: Turn<'a>) -> Result<(), Wait> {
        if let Some(zone) = self.begun.iter().find(|zone| **zone != turn.zone) {
            return Err(Wait::OtherZone { zone: (*zone).clone() });
        }
        match self.head {
            Some(head) if head.zone != turn.zone => Err(Wait::OtherZone { zone: head.zone.clone() }),
            Some(head) if head != turn => Err(Wait::EarlierWave),
            Some(_) | None => Ok(()),
        }
    }
}
