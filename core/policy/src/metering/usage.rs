//! Machine multiplied by time, in units that keep every amount a whole number.

use std::fmt;
use std::ops::Add;

use super::{FREE_STORAGE, Money, PriceList, VmSize};

/// What was used by one set of rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Billed seconds, of all Pods together.
    pub seconds: u64,
    /// vCPU over time.
    pub cpu: MilliCpuSeconds,
    /// Memory over time.
    pub memory: MiBSeconds,
    /// Ephemeral storage above the 20 GiB that every Pod has free, over time.
    pub storage: GiBSeconds,
}

/// Defines one amount over time; wide enough that no real cluster saturates it.
macro_rules! amount_seconds {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(pub u128);

        impl $name {
            fn new(amount: u64, seconds: u64) -> Self {
                Self(u128::from(amount).saturating_mul(u128::from(seconds)))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }
    };
}

amount_seconds!(
    /// Thousandths of a vCPU-second.
    MilliCpuSeconds
);
amount_seconds!(
    /// MiB-seconds, 1024 of which are a GiB-second.
    MiBSeconds
);
amount_seconds!(
    /// GiB-seconds.
    GiBSeconds
);

impl Usage {
    pub(super) fn of(size: &VmSize, seconds: u64) -> Self {
        Self {
            seconds,
            cpu: MilliCpuSeconds::new(size.shape.cpu.0, seconds),
            memory: MiBSeconds::new(size.shape.memory.0, seconds),
            storage: GiBSeconds::new(size.ephemeral.saturating_sub(FREE_STORAGE).0, seconds),
        }
    }

    /// What this costs. The cost of a sum is the sum of the costs, exactly.
    pub fn cost(&self, prices: &PriceList) -> Money {
        Money::for_cpu(self.cpu, prices.vcpu_hour)
            + Money::for_memory(self.memory, prices.memory_gib_hour)
            + Money::for_storage(self.storage, prices.storage_gib_hour)
    }
}

impl Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            seconds: self.seconds.saturating_add(other.seconds),
            cpu: self.cpu + other.cpu,
            memory: self.memory + other.memory,
            storage: self.storage + other.storage,
        }
    }
}

impl fmt::Display for MilliCpuSeconds {
    /// In vCPU-seconds with three decimals, which is exact.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} vCPU-seconds", self.0 / 1000, self.0 % 1000)
    }
}

impl fmt::Display for MiBSeconds {
    /// In GiB-seconds with three decimals, rounded down.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} GiB-seconds", self.0 / 1024, self.0 % 1024 * 1000 / 1024)
    }
}

impl fmt::Display for GiBSeconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB-seconds", self.0)
    }
}
