//! Why talking to a guest failed.

use std::io;
use std::time::Duration;

use tonic::{Code, Status};

/// Most bytes of a guest's words that are quoted.
const MAX_QUOTED: usize = 1024;

/// When the same call may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After a while.
    After(Duration),
    /// At once; the client connects anew by itself.
    Now,
}

/// Why talking to a guest failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No byte stream could be opened.
    #[error("failed to connect to the guest agent")]
    Connect {
        /// What the transport said.
        #[source]
        source: io::Error,
    },
    /// The connection broke; what the call did is not known.
    #[error("connection to the guest agent broke during {call}")]
    Unreachable {
        /// Name of the call.
        call: &'static str,
        /// What was seen of it.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The guest did not answer in time; what the call did is not known.
    #[error("guest agent did not answer {call} within {after:?}")]
    Timeout {
        /// Name of the call.
        call: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The guest speaks another version of the protocol.
    #[error("guest agent speaks protocol {theirs}, the host speaks {ours}")]
    VersionMismatch {
        /// What the host speaks.
        ours: u32,
        /// What the guest says it speaks.
        theirs: u32,
    },
    /// The guest said no.
    #[error("guest agent refused {call}: {message} ({code:?})")]
    Refused {
        /// Name of the call.
        call: &'static str,
        /// The gRPC code.
        code: Code,
        /// The guest's words, cut and without control characters.
        message: String,
    },
    /// A message is larger than the protocol allows, in either direction.
    #[error("a message of {call} is larger than the protocol allows")]
    TooLarge {
        /// Name of the call.
        call: &'static str,
    },
    /// The guest breaks the protocol.
    #[error("guest agent breaks the protocol during {call}: {what}")]
    Misbehaved {
        /// Name of the call.
        call: &'static str,
        /// Which rule it breaks.
        what: &'static str,
    },
}

impl AgentError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "AgentConnectFailed",
            Self::Unreachable { .. } => "AgentUnreachable",
            Self::Timeout { .. } => "AgentTimeout",
            Self::VersionMismatch { .. } => "AgentVersionMismatch",
            Self::Refused { .. } => "AgentRefused",
            Self::TooLarge { .. } => "AgentMessageTooLarge",
            Self::Misbehaved { .. } => "AgentMisbehaved",
        }
    }

    /// When the same call may be tried again, by whoever knows that it may be repeated.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } => Retry::After(Duration::from_secs(1)),
            Self::Unreachable { .. } => Retry::Now,
            Self::VersionMismatch { .. } | Self::Refused { .. } | Self::TooLarge { .. } | Self::Misbehaved { .. } => {
                Retry::Never
            }
        }
    }

    /// What the guest answered, when it refused.
    pub fn code(&self) -> Option<Code> {
        if let Self::Refused { code, .. } = self { Some(*code) } else { None }
    }

    /// Reads what a call ended with. A status with a source was made on this side, of a broken connection or stream.
    pub(crate) fn from_status(call: &'static str, status: Status) -> Self {
        if std::error::Error::source(&status).is_some() {
            return Self::Unreachable { call, source: Some(Box::new(status)) };
        }
        if status.code() == Code::OutOfRange {
            // The code that tonic gives to messages over a limit; the agent does not use it.
            return Self::TooLarge { call };
        }
        Self::Refused { call, code: status.code(), message: quoted(status.message()) }
    }

    /// A connection that has ended without a word.
    pub(crate) fn broken(call: &'static str) -> Self {
        Self::Unreachable { call, source: None }
    }
}

/// A guest's words, fit for a log line.
fn quoted(text: &str) -> String {
    let mut clean: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    if clean.len() > MAX_QUOTED {
        let end = (0..=MAX_QUOTED).rev().find(|&at| clean.is_char_boundary(at)).unwrap_or(0);
        clean.truncate(end);
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::{AgentError, Code, Status, quoted};

    #[test]
    fn a_guests_words_are_cut_and_cleaned() {
        assert_eq!(quoted("no\n\u{1b}[31m"), "no  [31m");
        let long = quoted(&"ä".repeat(5000));
        assert!(long.len() <= 1024 + '…'.len_utf8() && long.ends_with('…'), "{}", long.len());
    }

    #[test]
    fn a_status_that_was_made_here_is_a_broken_connection() {
        let mut status = Status::unknown("reset");
        status.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
        assert_eq!(AgentError::from_status("Hello", status).reason(), "AgentUnreachable");
        assert_eq!(AgentError::from_status("Hello", Status::out_of_range("")).reason(), "AgentMessageTooLarge");
        assert_eq!(AgentError::from_status("Hello", Status::not_found("no")).code(), Some(Code::NotFound));
    }
}
