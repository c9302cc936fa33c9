//! Amounts of CPU, memory and disk, one type per unit.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Sub};

/// Defines one unsigned amount with checked-by-saturation arithmetic: an absurd request saturates
/// and is then refused as too large, it never wraps round to a small one.
macro_rules! amount {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// Nothing of it.
            pub const ZERO: Self = Self(0);

            /// `self - other`, or nothing where `other` is more.
            pub fn saturating_sub(self, other: Self) -> Self {
                Self(self.0.saturating_sub(other.0))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0.saturating_add(other.0))
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                self.saturating_sub(other)
            }
        }

        impl Sum for $name {
            fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
                amounts.fold(Self::ZERO, Add::add)
            }
        }
    };
}

amount!(
    /// Thousandths of a vCPU, as in the Kubernetes quantity `250m`.
    MilliCpu
);
amount!(
    /// Bytes of memory or disk.
    Bytes
);
amount!(
    /// Mebibytes (1024 × 1024 bytes) of memory or disk.
    MiB
);
amount!(
    /// Gibibytes (1024 MiB) of disk.
    GiB
);

impl fmt::Display for MilliCpu {
    /// In vCPU with as many decimals as needed: `0.25 vCPU`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, thousandths) = (self.0 / 1000, self.0 % 1000);
        if thousandths == 0 {
            return write!(f, "{whole} vCPU");
        }
        let decimals = format!("{thousandths:03}");
        write!(f, "{whole}.{} vCPU", decimals.trim_end_matches('0'))
    }
}

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0)
    }
}

impl fmt::Display for GiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} GiB", self.0)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl From<MiB> for Bytes {
    fn from(amount: MiB) -> Self {
        Self(amount.0.saturating_mul(1 << 20))
    }
}

impl From<GiB> for Bytes {
    fn from(amount: GiB) -> Self {
        MiB::from(amount).into()
    }
}

impl From<GiB> for MiB {
    fn from(amount: GiB) -> Self {
        Self(amount.0.saturating_mul(1024))
    }
}

#[cfg(test)]
mod tests {
    use super::{Bytes, GiB, MiB, MilliCpu};

    #[test]
    fn vcpu_prints_no_needless_decimals() {
        for (milli, text) in [(0, "0 vCPU"), (250, "0.25 vCPU"), (1000, "1 vCPU"), (16_001, "16.001 vCPU")] {
            assert_eq!(MilliCpu(milli).to_string(), text);
        }
    }

    #[test]
    fn larger_units_turn_into_smaller_ones() {
        assert_eq!(Bytes::from(MiB(3)), Bytes(3_145_728));
        assert_eq!(Bytes::from(GiB(2)), Bytes(2_147_483_648));
        assert_eq!(MiB::from(GiB(2)), MiB(2048));
    }

    #[test]
    fn amounts_saturate_and_never_wrap() {
        assert_eq!(MiB(u64::MAX) + MiB(1), MiB(u64::MAX));
        assert_eq!(MiB(1) - MiB(2), MiB::ZERO);
        assert_eq!(MiB::from(GiB(u64::MAX)), MiB(u64::MAX));
        assert_eq!(Bytes::from(MiB(u64::MAX)), Bytes(u64::MAX));
        assert_eq!([MilliCpu(1), MilliCpu(2)].into_iter().sum::<MilliCpu>(), MilliCpu(3));
    }
}
