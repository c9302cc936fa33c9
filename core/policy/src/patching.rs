//! Which Pods run an outdated guest, and when each is told, evicted, tried again and deleted.
//!
//! Called by the patching controller with a snapshot of the running Pods; [`plan()`] answers what to do now and why, and
//! what waits and for what. The order of things is the reference's (AWS EKS user guide, Fargate Pod patching): a
//! notice with a date, eviction at that date zone by zone under PodDisruptionBudgets, after a refusal an event with a
//! `scheduledTerminationTime`, at that time one more eviction, and only then deletion.
//!
//! ```text
//! Untold ──Notify──▶ Noticed ──Evict──┬─ accepted ─▶ Evicted ─▶ (gone)
//!                                     └─ refused ──▶ Refused ──Announce──▶ Announced ──Retry──┐
//!                                     ┌───────────────────────────────────────────────────────┘
//!                                     ├─ accepted ─▶ Evicted ─▶ (gone)
//!                                     └─ refused ──▶ RefusedAgain ──Delete──▶ Deleted ─▶ (gone)
//! ```
//!
//! # Guarantees
//!
//! - No Pod is deleted before its notice, a first eviction at the notified date, an announcement and the announced time.
//! - A plan never takes more Pods of a profile, or of a zone, out of service at once than the [`Budget`] allows.
//! - One zone at a time, in the order of their names; the next begins when no outdated Pod of the one before is left.
//!   An announced Pod holds its zone, so a blocked zone costs the others at most the time that was announced.
//! - Every outdated Pod is handled in the end. Pods that still start on an old guest after the notice come in later
//!   *waves*, one per notice period, so that a host that was forgotten cannot hold back the other zones for ever.
//! - The plan depends on nothing but its arguments: asked again with the same state it is the same plan.
//!
//! # Assumptions
//!
//! The caller carries the steps out, writes each [`Outcome`] into the Pod's [`Record`] and asks again with what it
//! wrote. A Pod leaves the snapshot when its microVM has ended. A recreated Pod has a new UID and a new record.

mod budget;
mod event;
mod plan;
mod record;
#[cfg(test)]
mod tests;
mod version;

use jiff::{SignedDuration, Timestamp};
use monopod_types::{PodUid, ProfileName, Zone};

pub use budget::{Budget, Limit, Percent, PercentError};
pub use event::{
    Announcement, Cluster, DETAIL_TYPE, EVENT_SOURCE, EVENT_VERSION, EVICT_ERROR_DISRUPTION_BUDGET,
    EVICT_ERROR_SEVERAL_BUDGETS, TerminationDetail, TerminationEvent, termination_time_text,
};
pub use plan::{Action, Plan, Reason, Step, Wait, Waiting, plan};
pub use record::{Outcome, Record};
pub use version::{GuestVersion, GuestVersionError};

/// One new guest, and how it is brought to the Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rollout {
    /// The guest that new Pods start on.
    pub guest: GuestVersion,
    /// When the patch was made known. Pods created before it are in scope first.
    pub announced_at: Timestamp,
    /// How long each Pod is given.
    pub deadlines: Deadlines,
    /// How many Pods may be out of service at once.
    pub budget: Budget,
}

/// How much a patch can wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// Regular updates.
    #[default]
    Routine,
    /// A hole that is known and hard to use.
    Urgent,
    /// A hole that is in use.
    Critical,
}

/// Times that a Pod is given; a setting, by default from the [`Urgency`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// From a Pod's notice to its first eviction.
    pub notice: SignedDuration,
    /// From a refused eviction to the `scheduledTerminationTime`.
    pub termination: SignedDuration,
}

/// A Pod with a running microVM, patched or not; those that are up to date count for the budgets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningPod {
    /// `metadata.uid`.
    pub uid: PodUid,
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// Profile it runs under.
    pub profile: ProfileName,
    /// Zone of its Node.
    pub zone: Zone,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Guest that its Node reports.
    pub guest: GuestVersion,
    /// `metadata.deletionTimestamp` is set, whoever asked for it.
    pub terminating: bool,
    /// What was done to it so far, as its annotations and conditions keep it.
    pub record: Record,
}

impl Default for Deadlines {
    fn default() -> Self {
        Urgency::default().deadlines()
    }
}

impl Urgency {
    /// The times for this urgency; for routine patches those of the reference's sample, three days to termination.
    pub fn deadlines(self) -> Deadlines {
        let hours = SignedDuration::from_hours;
        match self {
            Self::Routine => Deadlines { notice: hours(7 * 24), termination: hours(3 * 24) },
            Self::Urgent => Deadlines { notice: hours(24), termination: hours(24) },
            Self::Critical => Deadlines { notice: hours(1), termination: hours(4) },
        }
    }
}

impl RunningPod {
    /// Whether the patch concerns this Pod: its guest is older than the rollout's, whenever the Pod was created.
    pub fn is_outdated(&self, rollout: &Rollout) -> bool {
        self.guest < rollout.guest
    }
}

/// `instant` and a duration later, or the end of time.
fn later(instant: Timestamp, duration: SignedDuration) -> Timestamp {
    instant.checked_add(duration).unwrap_or(Timestamp::MAX)
}
