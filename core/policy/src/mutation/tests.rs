//! The documented changes, one row per fact, and what must hold for any Pod.

mod any_pod;
mod capturing;
mod irsa;

use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use monopod_types::ProfileName;
use serde_json::{Value, json};

use super::{IdentitySettings, apply, plan};

const ROLE: &str = "arn:aws:iam::111122223333:role/s3-reader";

/// A Pod in namespace `shop` with this `spec`.
fn pod(spec: &Value) -> Pod {
    serde_json::from_value(json!({ "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })).unwrap()
}

fn annotated(mut pod: Pod, key: &str, value: &str) -> Pod {
    pod.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    pod
}

/// A `ServiceAccount` with these annotations.
fn service_account(annotations: &[(&str, &str)]) -> ServiceAccount {
    let mut account = ServiceAccount::default();
    let owned = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    account.metadata.annotations = Some(owned.collect());
    account
}

fn in_region(region: &str) -> IdentitySettings {
    IdentitySettings { region: Some(region.to_owned()), ..IdentitySettings::default() }
}

/// The Pod as the API server stores it after the webhook, as JSON.
fn mutated(pod: &Pod, account: Option<&ServiceAccount>, settings: &IdentitySettings) -> Value {
    let patch = plan(pod, &ProfileName::new("p"), account, settings);
    serde_json::to_value(apply(pod, &patch).unwrap()).unwrap()
}
