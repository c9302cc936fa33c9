//! Version of a guest: its kernel and agent, released together.

use std::fmt;
use std::str::FromStr;

/// Version of the guest image (kernel and agent together) that a microVM was started from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GuestVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

/// The text is not a guest version.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("guest version {text:?} is not three numbers such as 1.4.2")]
pub struct GuestVersionError {
    /// The text as given.
    pub text: String,
}

impl GuestVersionError {
    /// Reason for events, conditions and metrics.
    pub fn reason(&self) -> &'static str {
        "InvalidGuestVersion"
    }
}

impl FromStr for GuestVersion {
    type Err = GuestVersionError;

    fn from_str(text: &str) -> Result<Self, GuestVersionError> {
        let number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok()).flatten();
        let numbers: Option<Vec<u32>> = text.split('.').map(number).collect();
        match numbers.as_deref() {
            Some(&[major, minor, patch]) => Ok(Self { major, minor, patch }),
            Some(_) | None => Err(GuestVersionError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for GuestVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
