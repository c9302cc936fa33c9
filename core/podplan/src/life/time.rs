//! Arithmetic with points in time that cannot fail.

use std::time::Duration;

use jiff::Timestamp;

/// A point in time so much later, at most the last one there is.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long ago something was; nothing for what lies ahead.
pub(super) fn since(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO)
}

/// Seconds of a Pod's field, where negative ones count as none.
pub(super) fn seconds(value: i64) -> Duration {
    Duration::from_secs(u64::try_from(value).unwrap_or(0))
}

/// The earlier of two, where nothing is later than everything.
pub(super) fn sooner(one: Option<Timestamp>, other: Timestamp) -> Option<Timestamp> {
    Some(one.map_or(other, |one| one.min(other)))
}
