//! How many Pods may be out of service at once, and what is left of it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use monopod_types::{ProfileName, Zone};

use super::{Rollout, RunningPod, Wait};

/// Bounds on the Pods that a rollout has out of service at once: evicted or deleted and not yet gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Of the running Pods of each profile.
    pub per_profile: Limit,
    /// Of the running Pods of each zone.
    pub per_zone: Limit,
}

/// Part of a number of Pods. It always allows one, else a rollout could not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// So many.
    Pods(NonZeroUsize),
    /// So many in a hundred, rounded down, but one at least.
    Percent(Percent),
}

/// A percentage from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u8);

/// The number is no percentage that allows progress.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("percentage {number} of Pods is not from 1 to 100")]
pub struct PercentError {
    /// The number as given.
    pub number: u8,
}

/// What a profile and a zone have left, while a plan is made.
pub(super) struct Slots<'a> {
    profiles: BTreeMap<&'a ProfileName, Room>,
    zones: BTreeMap<&'a Zone, Room>,
}

#[derive(Clone, Copy, Default)]
struct Room {
    running: usize,
    in_flight: usize,
}

impl Default for Budget {
    /// A tenth of the Pods of a profile and a quarter of those of a zone.
    fn default() -> Self {
        Self { per_profile: Limit::Percent(Percent(10)), per_zone: Limit::Percent(Percent(25)) }
    }
}

impl PercentError {
    /// Reason for events, conditions and metrics.
    pub fn reason(&self) -> &'static str {
        "InvalidPercentage"
    }
}

impl TryFrom<u8> for Percent {
    type Error = PercentError;

    fn try_from(number: u8) -> Result<Self, PercentError> {
        if (1..=100).contains(&number) { Ok(Self(number)) } else { Err(PercentError { number }) }
    }
}

impl Limit {
    /// How many of `running` Pods may be out of service.
    pub fn of(self, running: usize) -> usize {
        match self {
            Self::Pods(pods) => pods.get(),
            Self::Percent(Percent(percent)) => (running.saturating_mul(usize::from(percent)) / 100).max(1),
        }
    }
}

impl<'a> Slots<'a> {
    /// Counts who runs and who is on the way out. A Pod that its owner deletes by himself takes a slot too.
    pub(super) fn count(rollout: &Rollout, pods: &'a [RunningPod]) -> Self {
        let mut slots = Self { profiles: BTreeMap::new(), zones: BTreeMap::new() };
        for pod in pods {
            let in_flight = usize::from(pod.is_outdated(rollout) && (pod.terminating || pod.record.is_leaving()));
            for room in [slots.profiles.entry(&pod.profile).or_default(), slots.zones.entry(&pod.zone).or_default()] {
                room.running += 1;
                room.in_flight += in_flight;
            }
        }
        slots
    }

    /// Takes a slot of the Pod's profile and one of its zone, or neither and says which is used up.
    pub(super) fn take(&mut self, budget: &Budget, pod: &'a RunningPod) -> Result<(), Wait> {
        let profile = self.profiles.entry(&pod.profile).or_default();
        if profile.in_flight >= budget.per_profile.of(profile.running) {
            return Err(Wait::ProfileBudget { in_flight: profile.in_flight });
        }
        let zone = self.zones.entry(&pod.zone).or_default();
        if zone.in_flight >= budget.per_zone.of(zone.running) {
            return Err(Wait::ZoneBudget { in_flight: zone.in_flight });
        }
        profile.in_flight += 1;
        zone.in_flight += 1;
        Ok(())
    }
}
