//! How watches of the API server are tried again.
//!
//! The pauses grow as client-go's do, but to five seconds and not to thirty: a Pod that was bound while the API server came back waits
//! as long as its host's watch does. They are spread, so that not all hosts ask at once.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use kube::runtime::utils::Backoff;

/// The first pause.
const FIRST: Duration = Duration::from_millis(400);
/// How many times it doubles, to about five seconds.
const DOUBLINGS: u32 = 4;

/// The pauses between attempts, for [`kube::runtime::WatchStreamExt::backoff`]. A watch that succeeds begins anew.
#[derive(Clone, Debug, Default)]
pub struct Retry {
    attempts: u32,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let whole = FIRST * (1 << self.attempts.min(DOUBLINGS));
        self.attempts = self.attempts.saturating_add(1);
        // Between three quarters and all of it.
        let quarters = RandomState::new().build_hasher().finish() % 256;
        Some(whole - whole / 1024 * u32::try_from(quarters).unwrap_or_default())
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kube::runtime::utils::Backoff as _;

    use super::Retry;

    #[test]
    fn pauses_double_up_to_some_seconds_and_begin_anew_after_a_success() {
        let mut retry = Retry::default();
        for whole in [400, 800, 1600, 3200, 6400, 6400, 6400] {
            let pause = retry.next().unwrap();
            let whole = Duration::from_millis(whole);
            assert!((whole * 3 / 4..=whole).contains(&pause), "{pause:?} of {whole:?}");
        }
        retry.reset();
        assert!(retry.next().unwrap() <= Duration::from_millis(400));
    }
}
