//! Waiting times that double with each failure and are forgotten after a long time without one.

use std::time::Duration;

use jiff::Timestamp;

use super::settings::BackOffSettings;
use super::time::{later, since};

/// Waiting time of one thing that may fail. The first failure costs no wait of its own: the waiting time is entered when the
/// thing is tried again, and counts from the failure after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BackOff(Option<Entry>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    delay: Duration,
    entered_at: Timestamp,
}

impl BackOff {
    /// When trying again is allowed after a failure; nothing when it is at once.
    pub(super) fn until(&self, settings: &BackOffSettings, failed_at: Timestamp) -> Option<Timestamp> {
        let entry = self.0?;
        let is_forgotten = since(entry.entered_at, failed_at) > settings.forget;
        (!is_forgotten).then(|| later(failed_at, entry.delay))
    }

    /// The waiting time as it stands.
    pub(super) fn delay(&self) -> Duration {
        self.0.map_or(Duration::ZERO, |entry| entry.delay)
    }

    /// Notes one more try after a failure, which doubles the waiting time.
    pub(super) fn enter(&mut self, settings: &BackOffSettings, failed_at: Timestamp, now: Timestamp) {
        let current = self.0.filter(|entry| since(entry.entered_at, failed_at) <= settings.forget);
        let delay = current.map_or(settings.initial, |entry| entry.delay.saturating_mul(2).min(settings.longest));
        self.0 = Some(Entry { delay, entered_at: now });
    }

    /// As it stands after so many tries.
    pub(super) fn after(tries: u32, settings: &BackOffSettings, now: Timestamp) -> Self {
        let mut back_off = Self::default();
        // The waiting time does not grow for ever.
        for _ in 0..tries.min(32) {
            back_off.enter(settings, now, now);
        }
        back_off
    }
}

/// A duration as Go prints it: `10s`, `1m20s`, `5m0s`, `1.234s`, `500ms`.
pub(super) fn go_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    if milliseconds < 1000 {
        return format!("{milliseconds}ms");
    }
    let (minutes, rest) = (milliseconds / 60_000, milliseconds % 60_000);
    let fraction = format!("{:03}", rest % 1000);
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let seconds = format!("{}{dot}{fraction}s", rest / 1000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}
