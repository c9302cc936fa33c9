//! A Pod that is made: the profile that takes it, and what that changes.

use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, Operation};
use monopod_policy::mutation;

use super::{Known, ReviewError, patched};

pub(super) fn review(request: &AdmissionRequest<Pod>, known: Known<'_>) -> Result<AdmissionResponse, ReviewError> {
    let response = AdmissionResponse::from(request);
    let (Operation::Create, Some(pod)) = (&request.operation, &request.object) else { return Ok(response) };
    let pod = in_namespace(pod, request.namespace.as_deref());
    let Some(profile) = known.profiles.taker(&pod) else { return Ok(response) };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let account = (known.service_account)(namespace, mutation::service_account_name(&pod));
    patched(response, mutation::plan(&pod, profile, account.as_ref(), known.identity))
}

/// The Pod with the namespace that the request is for: its own field may still be empty when the webhook is asked.
fn in_namespace(pod: &Pod, namespace: Option<&str>) -> Pod {
    let mut pod = pod.clone();
    if pod.metadata.namespace.is_none() {
        pod.metadata.namespace = namespace.map(str::to_owned);
    }
    pod
}
