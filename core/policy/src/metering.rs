//! Seconds that a Pod used, by the reference's rules and by ours, and what they cost.
//!
//! Called by the usage controller and `monopod usage` with what Kubernetes and the host recorded of a Pod. The
//! reference's rules are those of the AWS Fargate pricing page and the EKS user guide:
//!
//! ```text
//! image pull starts         last container ends            Pod object deleted
//!        ├──────────────── ours ────┤                               │
//!        ├──────────────────────── reference ───────────────────────┤   at least 60 s
//! ```
//!
//! # Which second belongs to which report
//!
//! The billed seconds of a Pod are numbered: second `k` begins at the start of the image pull plus `k` seconds. By the
//! reference's rules there are `max(60, ⌈end − start⌉)` of them, by ours `⌈end − start⌉`. A report over `[from, to)`
//! holds exactly the seconds that *begin* in it. So every second is in one of several adjacent reports and their sums
//! are the whole; and what fills up the first minute of a short Pod is reported where the clock was then, even if the
//! Pod was gone by that time. A report that ended before `now` never changes later.
//!
//! # Clocks
//!
//! Creation and deletion are told by the clock of the API server, the rest by that of the host, and `now` by a third.
//! A pull cannot start before its Pod was created, so an unset host clock adds no decades; an end before the start
//! counts as the start; an end in the future counts as `now`; a start in the future has not happened yet.

mod money;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::{Add, Range};

use jiff::Timestamp;
use monopod_types::{GiB, ProfileName};

pub use money::{Money, NanoDollars, PriceError, PriceList};
pub use usage::{GiBSeconds, MiBSeconds, MilliCpuSeconds, Usage};

use crate::sizing::{DEFAULT_EPHEMERAL_STORAGE, Shape};

/// What the reference bills at least for a Pod that began to pull an image, in seconds.
const MINIMUM_SECONDS: u64 = 60;
/// Ephemeral storage that costs nothing: what every Pod gets.
const FREE_STORAGE: GiB = DEFAULT_EPHEMERAL_STORAGE;

/// When things happened to one Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodTimes {
    /// `metadata.creationTimestamp`, by the clock of the API server.
    pub created: Timestamp,
    /// The first image pull began, by the clock of the host; `None` while it has not: nothing is metered.
    pub image_pull_started: Option<Timestamp>,
    /// The last container ended for good and the microVM was released; `None` while one runs or will restart.
    pub last_container_ended: Option<Timestamp>,
    /// The Pod object was gone, its grace period over; `None` while it exists.
    pub deleted: Option<Timestamp>,
}

/// What of a machine is metered: a shape and its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmSize {
    /// vCPU and memory.
    pub shape: Shape,
    /// Ephemeral storage, the part included in the price counted.
    pub ephemeral: GiB,
}

/// One Pod as the meter reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeteredPod {
    /// When things happened to it.
    pub times: PodTimes,
    /// The combination that the reference provisions and bills (`CapacityProvisioned`), not what the Pod requested.
    pub provisioned: VmSize,
    /// What the microVM takes of its host: the same under sizing `Fargate`, less under `Exact`.
    pub allocated: VmSize,
}

/// What a Pod, or a group of Pods, used by either set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metered {
    /// By the reference's rules: until the Pod object is deleted, one minute or more, the provisioned size.
    pub reference: Usage,
    /// By ours: until the last container ended, no minimum, the allocated size.
    pub ours: Usage,
}

/// What a report is broken down by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// Namespace of the Pods.
    pub namespace: String,
    /// Profile they ran under.
    pub profile: ProfileName,
    /// Value of the label that the report asks for; `None` for Pods without it, and where no label was asked for.
    pub label: Option<String>,
}

/// Meters one Pod over the report's interval, as far as it is known `now`.
///
/// The interval is half open; one whose end is not after its start holds nothing. The whole life of a Pod is
/// `Timestamp::MIN..Timestamp::MAX`.
pub fn meter(pod: &MeteredPod, interval: &Range<Timestamp>, now: Timestamp) -> Metered {
    let Some(start) = pod.times.start(now) else {
        return Metered::default();
    };
    let until_deleted = seconds_between(start..pod.times.reference_end(now)).max(MINIMUM_SECONDS);
    let until_ended = seconds_between(start..pod.times.our_end(now));
    let reference = BilledSpan { start, seconds: until_deleted };
    let ours = BilledSpan { start, seconds: until_ended };
    Metered {
        reference: Usage::of(&pod.provisioned, reference.seconds_in(interval)),
        ours: Usage::of(&pod.allocated, ours.seconds_in(interval)),
    }
}

/// Adds up what Pods used, per group, in the order of the groups.
pub fn sum(pods: impl IntoIterator<Item = (Group, Metered)>) -> BTreeMap<Group, Metered> {
    let mut groups = BTreeMap::new();
    for (group, metered) in pods {
        let total: &mut Metered = groups.entry(group).or_default();
        *total = *total + metered;
    }
    groups
}

impl PodTimes {
    /// When metering begins, or `None` if it has not by `now`.
    fn start(&self, now: Timestamp) -> Option<Timestamp> {
        self.image_pull_started.map(|pull| pull.max(self.created)).filter(|start| *start <= now)
    }

    fn reference_end(&self, now: Timestamp) -> Timestamp {
        self.deleted.map_or(now, |deleted| deleted.min(now))
    }

    /// Never after the reference's end: a Pod whose object is gone costs nothing under either rule.
    fn our_end(&self, now: Timestamp) -> Timestamp {
        let deleted = self.reference_end(now);
        self.last_container_ended.map_or(deleted, |ended| ended.min(deleted))
    }
}

/// The billed seconds of one Pod: second `k` begins at `start + k`.
struct BilledSpan {
    start: Timestamp,
    seconds: u64,
}

impl BilledSpan {
    fn seconds_in(&self, interval: &Range<Timestamp>) -> u64 {
        self.begun_before(interval.end).saturating_sub(self.begun_before(interval.start))
    }

    fn begun_before(&self, instant: Timestamp) -> u64 {
        seconds_between(self.start..instant).min(self.seconds)
    }
}

/// Length of the span in seconds, rounded up; nothing where it ends before it starts.
fn seconds_between(span: Range<Timestamp>) -> u64 {
    let length = span.end.duration_since(span.start);
    let begun = i64::from(length.subsec_nanos() > 0);
    u64::try_from(length.as_secs().saturating_add(begun)).unwrap_or(0)
}

impl Metered {
    /// What our rules save against the reference's at these prices; negative where they cost more.
    pub fn saving(&self, prices: &PriceList) -> Money {
        self.reference.cost(prices) - self.ours.cost(prices)
    }
}

impl Add for Metered {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { reference: self.reference + other.reference, ours: self.ours + other.ours }
    }
}

impl Sum for Metered {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), Add::add)
    }
}
