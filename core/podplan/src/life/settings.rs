//! What the kubelet has as flags, configuration or constants.

use std::time::Duration;

/// Times that decide. The default is the kubelet's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LifeSettings {
    /// Between restarts of a container.
    pub crash: BackOffSettings,
    /// Between attempts to pull an image.
    pub image: BackOffSettings,
    /// Between attempts to start the microVM and to make volumes.
    pub setup: BackOffSettings,
    /// Between attempts to start a container that could not be made.
    pub retry: Duration,
    /// How long the reason for a missing image is shown before the back-off is.
    pub show_error: Duration,
    /// How long a killed container may take to end before its microVM is taken from it, when the Pod stops.
    pub kill_patience: Duration,
    /// Grace of a Pod that is evicted.
    pub eviction_grace: Duration,
}

/// Waiting times that double.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackOffSettings {
    /// The first.
    pub initial: Duration,
    /// The longest.
    pub longest: Duration,
    /// After this long without a failure the next one counts as the first.
    pub forget: Duration,
}

impl Default for LifeSettings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        let ten_seconds_to_five_minutes =
            BackOffSettings { initial: seconds(10), longest: seconds(300), forget: seconds(600) };
        Self {
            crash: ten_seconds_to_five_minutes,
            image: ten_seconds_to_five_minutes,
            setup: BackOffSettings { initial: Duration::from_millis(500), longest: seconds(122), forget: seconds(244) },
            retry: seconds(10),
            show_error: seconds(3),
            kill_patience: seconds(10),
            eviction_grace: seconds(1),
        }
    }
}
