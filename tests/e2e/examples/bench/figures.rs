//! Percentiles and tables.

use std::time::Duration;

/// Measurements of one kind, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    sorted: Vec<Duration>,
}

impl Sample {
    pub(crate) fn new(mut values: Vec<Duration>) -> Self {
        values.sort();
        Self { sorted: values }
    }

    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// The smallest value that so many of a hundred do not exceed; none of nothing.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.sorted.len() * percent).div_ceil(100).max(1);
        self.sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// Number of measurements, p50, p90 and p99 as cells of a table.
    pub(crate) fn cells(&self) -> String {
        let [p50, p90, p99] = [50, 90, 99].map(|percent| millis(self.percentile(percent)));
        format!("{} | {p50} | {p90} | {p99}", self.len())
    }

    /// How many times the other's median this one's is.
    pub(crate) fn times(&self, other: &Self) -> f64 {
        self.percentile(50).as_secs_f64() / other.percentile(50).as_secs_f64()
    }
}

/// Such as `12.3 ms`, or `1234 ms`.
pub(crate) fn millis(duration: Duration) -> String {
    let millis = duration.as_secs_f64() * 1e3;
    if millis < 100.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

/// Such as `12.3 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    let tenths = bytes * 10 / (1 << 20);
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}
