//! Why a command about Pods could not do its work, and what the user can do about it.

use std::io;
use std::path::PathBuf;

use monopod_host_proto::REASON_METADATA;
use monopod_host_proto::v1::Refusal;
use monopod_manifests::ManifestErrors;
use prost::Message;
use tonic::{Code, Status};

use crate::Exit;

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// Bad manifests, each error with its place.
    #[error(transparent)]
    Manifests(#[from] ManifestErrors),
    /// An argument or an input that cannot be used.
    #[error("{0}")]
    Input(String),
    #[error("no host daemon answers on {}; `monopod run` starts one, or start `monopod host` yourself", socket.display())]
    NoDaemon { socket: PathBuf, source: io::Error },
    #[error("the host daemon did not start; the end of its log {}:\n{words}", log.display())]
    DaemonEnded { log: PathBuf, words: String },
    #[error("{action}")]
    Io { action: String, source: io::Error },
    /// The daemon's answer.
    #[error("{}", told(.0))]
    Status(Box<Status>),
    #[error("the daemon sent what this program does not understand ({0}); use the same version of both")]
    Answer(&'static str),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(_: serde_json::Error) -> Self {
        Self::Answer("JSON")
    }
}

/// What the daemon said, with its reason where the message does not begin with it.
fn told(status: &Status) -> String {
    let reason = status.metadata().get(REASON_METADATA).and_then(|reason| reason.to_str().ok());
    match (status.code(), reason) {
        (Code::Unavailable, None) => format!("the host daemon is gone: {}", status.message()),
        (_, Some(reason)) if !status.message().starts_with(reason) => format!("{} ({reason})", status.message()),
        (_, Some(_) | None) => status.message().to_owned(),
    }
}

impl Failure {
    /// Prints it for a person.
    pub(crate) fn print(&self) {
        match self {
            Self::Manifests(errors) => errors.iter().for_each(|error| crate::terminal::error(error)),
            Self::Status(status) => {
                crate::terminal::error(self);
                print_advice(status);
            }
            Self::Input(_) | Self::NoDaemon { .. } | Self::DaemonEnded { .. } | Self::Io { .. } | Self::Answer(_) => {
                crate::terminal::error(self);
            }
        }
    }

    /// What the program exits with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Manifests(_) | Self::Input(_) => Exit::BadInput,
            Self::Status(status) if status.code() == Code::InvalidArgument => Exit::BadInput,
            // Only a refusal has details.
            Self::Status(status) if !status.details().is_empty() => Exit::Refused,
            Self::NoDaemon { .. } | Self::DaemonEnded { .. } | Self::Io { .. } | Self::Status(_) | Self::Answer(_) => {
                Exit::Failed
            }
        }
    }
}

/// What to do about each thing that stands against a Pod.
fn print_advice(status: &Status) {
    let Ok(refusal) = Refusal::decode(status.details()) else { return };
    for violation in refusal.violations {
        crate::terminal::note(&format!("{}: {}", violation.field, violation.message));
        crate::terminal::note(&format!("  {}: {}", violation.reason, violation.advice));
    }
}
