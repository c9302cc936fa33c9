//! Why a Pod could not be read as a request for a place.

use crate::requirements::RequirementError;

/// A Pod that nobody could place: not one from the API server, or with a rule that cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Only objects from the API server can be placed.
    #[error("pod {namespace}/{name} has no uid: it does not come from the API server")]
    NoUid {
        /// Namespace of the Pod.
        namespace: String,
        /// Name of the Pod.
        name: String,
    },
    /// A requirement on labels, of nodes or of Pods, cannot be evaluated.
    #[error(transparent)]
    Requirement(#[from] RequirementError),
}

impl RequestError {
    /// Event reason, condition reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoUid { .. } => "PodWithoutUid",
            Self::Requirement(error) => error.reason(),
        }
    }
}
