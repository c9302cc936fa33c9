//! Decides which disks to remove when the file system fills up. Pure; [`crate::Images`] carries it out.

use std::time::{Duration, SystemTime};

use crate::digest::Digest;
use crate::store::Disk;

/// When to collect and how far, as the kubelet does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// Begin when more than this many percent of the file system are used.
    pub high_percent: u8,
    /// Stop when no more than this many are.
    pub low_percent: u8,
    /// Leave images alone that were used within this time.
    pub minimum_age: Duration,
}

impl Default for Watermarks {
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, minimum_age: Duration::from_secs(120) }
    }
}

/// The file system that images lie on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) capacity: u64,
    pub(crate) available: u64,
}

/// What a collection has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Bytes that the watermarks wanted free.
    pub wanted: u64,
    /// Bytes that were freed.
    pub freed: u64,
    /// The images that were removed, by id.
    pub removed: Vec<Digest>,
}

/// Bytes to free; 0 below the high watermark.
pub(crate) fn wanted(space: Space, watermarks: Watermarks) -> u64 {
    let percent = |part: u8| u128::from(space.capacity) * u128::from(part.min(100));
    let used = u128::from(space.capacity.saturating_sub(space.available)) * 100;
    if used < percent(watermarks.high_percent) {
        return 0;
    }
    let excess = used.saturating_sub(percent(watermarks.low_percent)).div_ceil(100);
    u64::try_from(excess).unwrap_or(u64::MAX)
}

/// The disks that may go, in the order in which they should. Whether one is in use shows when it is removed.
pub(crate) fn candidates(disks: &[Disk], watermarks: Watermarks, now: SystemTime) -> Vec<Disk> {
    let is_old = |disk: &Disk| now.duration_since(disk.used).is_ok_and(|age| age >= watermarks.minimum_age);
    let mut old: Vec<_> = disks.iter().copied().filter(is_old).collect();
    old.sort_by_key(|disk| disk.used);
    old
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space = Space { capacity: 1000, available: 140 };

    #[test]
    fn nothing_is_wanted_below_the_high_watermark() {
        assert_eq!(wanted(Space { available: 151, ..SPACE }, Watermarks::default()), 0);
        assert_eq!(wanted(Space { capacity: 0, available: 0 }, Watermarks::default()), 0);
    }

    #[test]
    fn from_the_high_watermark_on_all_above_the_low_one_is_wanted() {
        assert_eq!(wanted(Space { available: 150, ..SPACE }, Watermarks::default()), 50);
        assert_eq!(wanted(SPACE, Watermarks::default()), 60);
        assert_eq!(wanted(Space { available: 0, ..SPACE }, Watermarks::default()), 200);
        assert_eq!(wanted(Space { capacity: u64::MAX, available: 0 }, Watermarks::default()), u64::MAX / 5);
    }

    #[test]
    fn the_least_recently_used_goes_first_and_the_young_stay() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000);
        let disk = |name: u8, age: u64| Disk {
            id: Digest::of(&[name]),
            bytes: 1,
            used: now.checked_sub(Duration::from_secs(age)).unwrap(),
        };
        let future = Disk { used: now + Duration::from_secs(5), ..disk(4, 0) };
        let disks = [disk(1, 300), disk(2, 119), disk(3, 500), future, disk(5, 120)];
        let order = candidates(&disks, Watermarks::default(), now);
        assert_eq!(order, [disk(3, 500), disk(1, 300), disk(5, 120)]);
    }
}
