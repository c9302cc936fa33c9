//! Prices and costs, exact: no floating point, and no rounding before a figure is shown.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};
use std::str::FromStr;

use super::{GiBSeconds, MiBSeconds, MilliCpuSeconds};

/// Parts of a nano-dollar that [`Money`] counts. A price is per hour and 1000 milli-vCPU or 1024 MiB; this is the
/// smallest number that 3600 · 1000 and 3600 · 1024 divide, so every cost is a whole number of parts.
const PARTS_PER_NANO_DOLLAR: i128 = 460_800_000;
/// Parts for one milli-vCPU-second at one nano-dollar per vCPU-hour.
const PARTS_PER_MILLI_CPU_SECOND: u128 = 128;
/// Parts for one MiB-second at one nano-dollar per GiB-hour.
const PARTS_PER_MIB_SECOND: u128 = 125;
/// Parts for one GiB-second at one nano-dollar per GiB-hour.
const PARTS_PER_GIB_SECOND: u128 = 128_000;
const NANOS_PER_DOLLAR: u64 = 1_000_000_000;

/// A price, in thousand-millionths of a US dollar. Read from decimal text such as `0.04048`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NanoDollars(pub u64);

/// What machine time costs; a setting of the installation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceList {
    /// One vCPU for one hour.
    pub vcpu_hour: NanoDollars,
    /// One GiB of memory for one hour.
    pub memory_gib_hour: NanoDollars,
    /// One GiB of ephemeral storage above the free 20 GiB for one hour.
    pub storage_gib_hour: NanoDollars,
}

/// An exact amount of money, negative where something costs more instead of saving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    parts: i128,
}

/// Why a text is not a price.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PriceError {
    /// Something other than digits and at most one point.
    #[error("price {text:?} is not a decimal number of dollars such as 0.04048")]
    NotDecimal {
        /// The text as given.
        text: String,
    },
    /// A part below a nano-dollar would be lost.
    #[error("price {text:?} has more than nine decimals")]
    TooPrecise {
        /// The text as given.
        text: String,
    },
    /// More than a price can be.
    #[error("price {text:?} is too large")]
    TooLarge {
        /// The text as given.
        text: String,
    },
}

impl Default for PriceList {
    /// AWS Fargate's list prices for Linux/x86 in us-east-1 (AWS Fargate pricing page).
    fn default() -> Self {
        Self {
            vcpu_hour: NanoDollars(40_480_000),
            memory_gib_hour: NanoDollars(4_445_000),
            storage_gib_hour: NanoDollars(111_000),
        }
    }
}

impl PriceError {
    /// Reason for events, conditions and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotDecimal { .. } => "PriceNotDecimal",
            Self::TooPrecise { .. } => "PriceTooPrecise",
            Self::TooLarge { .. } => "PriceTooLarge",
        }
    }
}

impl FromStr for NanoDollars {
    type Err = PriceError;

    fn from_str(text: &str) -> Result<Self, PriceError> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(decimals) {
            return Err(PriceError::NotDecimal { text: text.to_owned() });
        }
        if decimals.len() > 9 {
            return Err(PriceError::TooPrecise { text: text.to_owned() });
        }
        let nanos = format!("{whole}{decimals:0<9}").parse();
        nanos.map(Self).map_err(|_| PriceError::TooLarge { text: text.to_owned() })
    }
}

impl Money {
    pub(super) fn for_cpu(used: MilliCpuSeconds, vcpu_hour: NanoDollars) -> Self {
        Self::of(used.0.saturating_mul(PARTS_PER_MILLI_CPU_SECOND), vcpu_hour)
    }

    pub(super) fn for_memory(used: MiBSeconds, gib_hour: NanoDollars) -> Self {
        Self::of(used.0.saturating_mul(PARTS_PER_MIB_SECOND), gib_hour)
    }

    pub(super) fn for_storage(used: GiBSeconds, gib_hour: NanoDollars) -> Self {
        Self::of(used.0.saturating_mul(PARTS_PER_GIB_SECOND), gib_hour)
    }

    fn of(amount: u128, price: NanoDollars) -> Self {
        let parts = amount.saturating_mul(u128::from(price.0));
        Self { parts: i128::try_from(parts).unwrap_or(i128::MAX) }
    }

    /// In nano-dollars, rounded to the nearest, halves away from zero. Round sums, do not add what was rounded.
    pub fn nano_dollars(self) -> i128 {
        let half = PARTS_PER_NANO_DOLLAR / 2 * self.parts.signum();
        self.parts.saturating_add(half) / PARTS_PER_NANO_DOLLAR
    }
}

impl fmt::Display for Money {
    /// In dollars with nine decimals: `$0.000674667`, `-$1.500000000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.nano_dollars();
        let sign = if nanos < 0 { "-" } else { "" };
        let (size, dollar) = (nanos.unsigned_abs(), u128::from(NANOS_PER_DOLLAR));
        write!(f, "{sign}${}.{:09}", size / dollar, size % dollar)
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self { parts: self.parts.saturating_add(other.parts) }
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self { parts: self.parts.saturating_sub(other.parts) }
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}
