//! The time by which a Pod lives.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// The machine's time when it was made, and from then on as time passes: when the machine's clock is moved, no probe and no
/// back-off waits for the difference. The guest's clock goes on the same way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    at: Timestamp,
    begun: Instant,
}

impl Clock {
    pub(super) fn begin() -> Self {
        Self { at: Timestamp::now(), begun: Instant::now() }
    }

    pub(super) fn now(self) -> Timestamp {
        self.at.checked_add(self.begun.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// How long it is until then; nothing when that is past.
    pub(super) fn until(self, at: Timestamp) -> Duration {
        at.duration_since(self.now()).try_into().unwrap_or_default()
    }
}
