//! What the webhook writes into a Pod that a profile takes: scheduler, label, priority, and identity for IRSA.
//!
//! [`plan`] gives the change as a JSON Patch; [`apply`] carries one out on a Pod outside an API server. The webhook and
//! `monopod explain` call them. A plan for a Pod that was already changed is empty, so the webhook may be asked again.
//!
//! [`plan_daemon_set`] is what it writes into a `DaemonSet`, whose Pods are to keep off the nodes of microVMs.
//!
//! Nothing else of a Pod is touched: no toleration, no request or limit, no node selector. A Pod that no profile takes is left
//! alone altogether, as is the label by which it chose a profile in vain.

mod capture;
mod daemon_set;
mod edits;
mod identity;
#[cfg(test)]
mod tests;

use json_patch::{Patch, PatchError};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use monopod_types::ProfileName;

pub use identity::{IdentitySettings, TokenExpiration, role_arn, service_account_name};

use edits::Edits;

/// Why a patch could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The patch names something that the Pod does not have: it was planned for another Pod.
    #[error("patch does not fit pod {pod}")]
    Misfit {
        /// `metadata.name` of the Pod.
        pod: String,
        /// What does not fit.
        #[source]
        source: PatchError,
    },
    /// The result is no Pod: the patch puts a value where another kind of value belongs.
    #[error("patched pod {pod} is not a pod")]
    NotAPod {
        /// `metadata.name` of the Pod.
        pod: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl ApplyError {
    /// The error as one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Misfit { .. } => "PatchMisfit",
            Self::NotAPod { .. } => "PatchedPodInvalid",
        }
    }
}

/// The change that makes `pod` a Pod of `profile`, and gives it the identity of its `ServiceAccount` where that has a
/// role.
///
/// `service_account` is the one of the Pod's namespace that [`service_account_name`] names; `None` when there is none.
/// A Pod without `spec` gets no change; the API server refuses it with a message of its own.
pub fn plan(
    pod: &Pod,
    profile: &ProfileName,
    service_account: Option<&ServiceAccount>,
    settings: &IdentitySettings,
) -> Patch {
    let mut edits = Edits::default();
    if let Some(spec) = &pod.spec {
        capture::plan(&pod.metadata, spec, profile, &mut edits);
        if let Some(service_account) = service_account {
            identity::plan(&pod.metadata, spec, service_account, settings, &mut edits);
        }
    }
    edits.into_patch()
}

/// The change that keeps the Pods of a `DaemonSet` off the nodes of microVMs, where they could never run.
pub fn plan_daemon_set(daemon_set: &DaemonSet) -> Patch {
    let mut edits = Edits::default();
    daemon_set::plan(daemon_set, &mut edits);
    edits.into_patch()
}

/// The Pod as the API server would store it after `patch`.
///
/// # Errors
/// When the patch was planned for another Pod.
pub fn apply(pod: &Pod, patch: &Patch) -> Result<Pod, ApplyError> {
    let name = || pod.metadata.name.clone().unwrap_or_default();
    let mut document = serde_json::to_value(pod).map_err(|source| ApplyError::NotAPod { pod: name(), source })?;
    json_patch::patch(&mut document, patch).map_err(|source| ApplyError::Misfit { pod: name(), source })?;
    serde_json::from_value(document).map_err(|source| ApplyError::NotAPod { pod: name(), source })
}
