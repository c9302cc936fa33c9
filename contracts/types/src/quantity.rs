//! Kubernetes quantities (`250m`, `1.5Gi`, `2e3`), read exactly.
//!
//! Whoever meets a quantity in an object parses it here once and goes on with [`MilliCpu`], [`MiB`] and the like. The
//! grammar is the one in the documentation of the Kubernetes type `resource.Quantity`:
//!
//! ```text
//! quantity = [sign] number [suffix]              sign     = "+" | "-"
//! number   = digits | digits "." [digits] | "." digits
//! suffix   = n u m k M G T P E                   powers of 1000
//!          | Ki Mi Gi Ti Pi Ei                   powers of 1024
//!          | ("e" | "E") [sign] digits           power of 10; `1E` alone is one exa
//! ```
//!
//! No floating point is involved. What is finer than a billionth is rounded up, away from zero, and what is above
//! 2^63 - 1 is capped there, both as Kubernetes documents it. A number needs a digit: the bare `Mi`, which the API server
//! reads as zero, is refused as the slip that it is. Blanks around a quantity are passed over, as by the API server.
//! Signs are kept: the consumer refuses a negative amount, since only it can name the field.

use std::ops::Add;
use std::str::FromStr;

use crate::units::{Bytes, GiB, MiB, MilliCpu};

const NANOS: u128 = 1_000_000_000;
const NANOS_PER_MILLI: i128 = 1_000_000;
const NANOS_PER_BYTE: i128 = 1_000_000_000;
/// 2^63 - 1 units in billionths.
const MAX_NANOS: u128 = 9_223_372_036_854_775_807 * NANOS;
/// How much of a wrong suffix an error repeats, in characters.
const SHOWN_CHARACTERS: usize = 16;

/// An amount read from a Kubernetes quantity, exact to a billionth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is no Kubernetes quantity.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum QuantityError {
    /// There is no text at all.
    #[error("quantity is empty")]
    Empty,
    /// The text does not begin with a number.
    #[error("quantity does not begin with a number such as 250 or 1.5")]
    NoNumber,
    /// The number is followed by something that is neither a suffix nor an exponent.
    #[error(
        "quantity has the unknown suffix {suffix:?}, use n, u, m, k, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi, Ei or an exponent \
         such as e3"
    )]
    UnknownSuffix {
        /// What follows the number, shortened.
        suffix: String,
    },
}

/// What a suffix multiplies by: `10^power_of_ten * factor`.
#[derive(Clone, Copy)]
struct Scale {
    power_of_ten: i64,
    factor: u128,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0 };

    /// The largest quantity, 2^63 - 1; a text that says more is read as this.
    pub const MAX: Self = Self { nanos: MAX_NANOS.cast_signed() };

    /// Less than nothing, which no resource can be.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// Rounded up to a thousandth, as the API server does to every amount in a resource list.
    #[must_use]
    pub fn rounded_up_to_milli(self) -> Self {
        Self { nanos: div_ceil(self.nanos, NANOS_PER_MILLI) * NANOS_PER_MILLI }
    }

    /// As CPU in thousandths of a core, rounded up; a negative amount counts as nothing.
    pub fn to_milli_cpu(self) -> MilliCpu {
        MilliCpu(self.to_unit(NANOS_PER_MILLI))
    }

    /// As a number of bytes, rounded up; a negative amount counts as nothing.
    pub fn to_bytes(self) -> Bytes {
        Bytes(self.to_unit(NANOS_PER_BYTE))
    }

    /// As bytes in MiB, rounded up; a negative amount counts as nothing.
    pub fn to_mib(self) -> MiB {
        MiB(self.to_unit(NANOS_PER_BYTE << 20))
    }

    /// As bytes in GiB, rounded up; a negative amount counts as nothing.
    pub fn to_gib(self) -> GiB {
        GiB(self.to_unit(NANOS_PER_BYTE << 30))
    }

    /// How many units of so many nanos hold it.
    fn to_unit(self, nanos: i128) -> u64 {
        u64::try_from(div_ceil(self.nanos.max(0), nanos)).unwrap_or(u64::MAX)
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum; it may be above [`Quantity::MAX`], which bounds one text and not a total.
    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(QuantityError::Empty);
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(unsigned);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        if whole.is_empty() && fraction.is_empty() {
            return Err(QuantityError::NoNumber);
        }
        let nanos = to_nanos(whole.as_bytes(), fraction.as_bytes(), scale_of(suffix)?).cast_signed();
        Ok(Self { nanos: if negative { -nanos } else { nanos } })
    }
}

/// The leading decimal digits, and what follows them.
fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn scale_of(suffix: &str) -> Result<Scale, QuantityError> {
    let decimal = |power_of_ten| Ok(Scale { power_of_ten, factor: 1 });
    let binary = |power_of_two: u32| Ok(Scale { power_of_ten: 0, factor: 1 << power_of_two });
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => decimal(exponent_of(other).ok_or_else(|| unknown(other))?),
    }
}

/// The exponent in `e3`, `E+3` or `e-3`. One beyond all bounds saturates: its quantity is capped, or rounded up, anyway.
fn exponent_of(suffix: &str) -> Option<i64> {
    let signed = suffix.strip_prefix(['e', 'E'])?;
    let (negative, digits) = match signed.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, signed.strip_prefix('+').unwrap_or(signed)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(i64::MAX);
    Some(if negative { -size } else { size })
}

fn unknown(suffix: &str) -> QuantityError {
    QuantityError::UnknownSuffix { suffix: suffix.chars().take(SHOWN_CHARACTERS).collect() }
}

/// `whole.fraction * scale` in billionths, rounded up and capped at [`MAX_NANOS`].
///
/// The decimal point is first moved by the power of ten (and nine more, for billionths). What is then left of it is an
/// integer; what is right of it counts only through the factor.
fn to_nanos(whole: &[u8], fraction: &[u8], scale: Scale) -> u128 {
    let written = i64::try_from(whole.len()).unwrap_or(i64::MAX);
    let point = written.saturating_add(scale.power_of_ten).saturating_add(9);
    let left = usize::try_from(point).unwrap_or(0);
    let (whole_left, whole_right) = whole.split_at(left.min(whole.len()));
    let (fraction_left, fraction_right) = fraction.split_at(left.saturating_sub(whole.len()).min(fraction.len()));

    let integer =
        digits(whole_left, fraction_left).fold(0, |sum: u128, digit| sum.saturating_mul(10).saturating_add(digit));
    let zeros = left.saturating_sub(whole.len() + fraction.len());
    let integer = integer.saturating_mul(power_of_ten(zeros)).saturating_mul(scale.factor);

    // Rounding up at every digit gives the same as rounding up once at the end: ceil(ceil(x) / 10) = ceil(x / 10).
    let part =
        digits(whole_right, fraction_right).rev().fold(0, |sum, digit| (digit * scale.factor + sum).div_ceil(10));
    let zeros = usize::try_from(point.min(0).unsigned_abs()).unwrap_or(usize::MAX);
    let part = part.div_ceil(power_of_ten(zeros));
    integer.saturating_add(part).min(MAX_NANOS)
}

/// The values of the digits of two texts, one after the other.
fn digits<'text>(first: &'text [u8], second: &'text [u8]) -> impl DoubleEndedIterator<Item = u128> + 'text {
    first.iter().chain(second).map(|digit| u128::from(digit - b'0'))
}

/// `10^exponent`, saturating: whatever is multiplied or divided by a saturated one is capped or rounded up to one.
fn power_of_ten(exponent: usize) -> u128 {
    u32::try_from(exponent).ok().and_then(|exponent| 10_u128.checked_pow(exponent)).unwrap_or(u128::MAX)
}

/// Division that rounds up; the divisor is positive.
fn div_ceil(dividend: i128, divisor: i128) -> i128 {
    let floor = dividend.div_euclid(divisor);
    if dividend.rem_euclid(divisor) == 0 { floor } else { floor + 1 }
}

#[cfg(test)]
mod tests;
