//! What a host offers and a microVM takes.

use monopod_types::{GiB, MiB, MilliCpu};

/// An amount of each resource that placement books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// CPU time.
    pub cpu: MilliCpu,
    /// Memory, with what a microVM costs beyond its size.
    pub memory: MiB,
    /// Disk.
    pub disk: GiB,
}

impl Resources {
    /// Whether there is at least `need` of every resource.
    pub fn cover(&self, need: &Self) -> bool {
        self.cpu >= need.cpu && self.memory >= need.memory && self.disk >= need.disk
    }

    /// Both together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory, disk: self.disk + other.disk }
    }

    /// What is left without `other`, nothing where that is more.
    pub(super) fn minus(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory, disk: self.disk - other.disk }
    }

    /// The most of each resource.
    pub(super) fn max(self, other: Self) -> Self {
        Self { cpu: self.cpu.max(other.cpu), memory: self.memory.max(other.memory), disk: self.disk.max(other.disk) }
    }
}

/// How much of a host is free: millionths of its scarcest resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Headroom(u64);

impl Headroom {
    const WHOLE: u64 = 1_000_000;

    pub(super) fn of(free: &Resources, total: &Resources) -> Self {
        let shares = [(free.cpu.0, total.cpu.0), (free.memory.0, total.memory.0), (free.disk.0, total.disk.0)];
        Self(shares.into_iter().map(|(free, total)| Self::share(free, total)).min().unwrap_or(0))
    }

    fn share(free: u64, total: u64) -> u64 {
        let share = u128::from(free) * u128::from(Self::WHOLE) / u128::from(total.max(1));
        u64::try_from(share).map_or(Self::WHOLE, |share| share.min(Self::WHOLE))
    }

    /// In millionths.
    pub fn millionths(self) -> u64 {
        self.0
    }
}

impl std::fmt::Display for Headroom {
    /// As a percentage with one decimal: `81.2 %`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} %", self.0 / 10_000, self.0 / 1_000 % 10)
    }
}
