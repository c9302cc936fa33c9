//! What the API server is answered when an object is made or changed: bytes of an `AdmissionReview` in, bytes out.
//!
//! ```text
//! /mutate/pods        a profile takes the Pod: scheduler, label, priority, identity
//! /mutate/daemonsets  its Pods keep off the nodes of microVMs
//! /validate/...       one of our objects is as it must be, with every field that is not
//! ```
//!
//! No answer waits for anything: what it depends on is in [`Known`], taken from caches. A Pod is never refused here.

mod objects;
mod pods;
#[cfg(test)]
mod tests;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Resource;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation, SerializePatchError};
use monopod_api::{FargateProfile, Host, Subnet};
use monopod_policy::mutation::{self, IdentitySettings};
use monopod_policy::profile::Profiles;
use serde::de::DeserializeOwned;

/// What answers depend on besides the question.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// The profiles of the cluster.
    pub profiles: &'a Profiles,
    /// The Subnets of the cluster, among which a new one must not overlap.
    pub subnets: &'a [Subnet],
    /// The `ServiceAccount` of a namespace and name.
    pub service_account: &'a dyn Fn(&str, &str) -> Option<ServiceAccount>,
    /// What the platform team sets about identities.
    pub identity: &'a IdentitySettings,
}

/// Why there is no answer to a question. The API server then does what its configuration says of failures.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// Nobody answers there.
    #[error("no webhook at path {path}")]
    UnknownPath {
        /// The path.
        path: String,
    },
    /// The body is no review of an object of the path's kind.
    #[error("the body sent to {path} is no admission review")]
    Malformed {
        /// The path.
        path: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The body is a review that asks nothing.
    #[error("the admission review sent to {path} has no request")]
    NoRequest {
        /// The path.
        path: String,
    },
    /// The patch cannot be written as JSON.
    #[error("failed to write the patch")]
    Patch(#[from] SerializePatchError),
    /// The answer cannot be written as JSON.
    #[error("failed to write the answer")]
    Answer(#[source] serde_json::Error),
}

impl ReviewError {
    /// Metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownPath { .. } => "UnknownPath",
            Self::Malformed { .. } => "ReviewMalformed",
            Self::NoRequest { .. } => "ReviewWithoutRequest",
            Self::Patch(_) | Self::Answer(_) => "AnswerNotWritten",
        }
    }
}

impl std::fmt::Debug for Known<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("profiles", self.profiles).field("subnets", &self.subnets).finish_non_exhaustive()
    }
}

/// Answers the review that the API server sent to `path`.
///
/// # Errors
/// The path or the body is not one that the API server sends by our configuration.
pub fn answer(path: &str, body: &[u8], known: Known<'_>) -> Result<Vec<u8>, ReviewError> {
    let response = match path {
        "/mutate/pods" => pods::review(&read::<Pod>(path, body)?, known)?,
        "/mutate/daemonsets" => daemon_set(&read(path, body)?)?,
        "/validate/fargateprofiles" => objects::review(&read::<FargateProfile>(path, body)?, FargateProfile::validate),
        "/validate/hosts" => objects::review(&read::<Host>(path, body)?, Host::validate),
        "/validate/subnets" => {
            objects::review(&read::<Subnet>(path, body)?, |subnet| objects::subnet(subnet, known.subnets))
        }
        _ => return Err(ReviewError::UnknownPath { path: path.to_owned() }),
    };
    write(response).map_err(ReviewError::Answer)
}

/// The patch in base64, as the API is described. kube would write it as a list of numbers, which the API server reads
/// too, but which is three times as long.
fn write(mut response: AdmissionResponse) -> Result<Vec<u8>, serde_json::Error> {
    let patch = response.patch.take().map(ByteString);
    let mut review = serde_json::to_value(response.into_review())?;
    if let Some(patch) = patch {
        review["response"]["patch"] = serde_json::to_value(patch)?;
    }
    serde_json::to_vec(&review)
}

fn read<T: Resource + DeserializeOwned>(path: &str, body: &[u8]) -> Result<AdmissionRequest<T>, ReviewError> {
    let review: AdmissionReview<T> =
        serde_json::from_slice(body).map_err(|source| ReviewError::Malformed { path: path.to_owned(), source })?;
    review.try_into().map_err(|_| ReviewError::NoRequest { path: path.to_owned() })
}

fn daemon_set(request: &AdmissionRequest<DaemonSet>) -> Result<AdmissionResponse, ReviewError> {
    let response = AdmissionResponse::from(request);
    match (&request.operation, &request.object) {
        (Operation::Create | Operation::Update, Some(daemon_set)) => {
            patched(response, mutation::plan_daemon_set(daemon_set))
        }
        (Operation::Create | Operation::Update | Operation::Delete | Operation::Connect, _) => Ok(response),
    }
}

/// With the patch, unless it changes nothing: the API server then saves itself a comparison.
fn patched(response: AdmissionResponse, patch: json_patch::Patch) -> Result<AdmissionResponse, ReviewError> {
    if patch.0.is_empty() { Ok(response) } else { Ok(response.with_patch(patch)?) }
}
