//! Tests of the verdict: the reference's messages row by row, what is supported, claims, node requirements, the host's
//! line, properties, and the pages of docs/errors.

mod host;
mod node_requirements;
mod pages;
mod properties;
mod reference;
mod storage;
mod support;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use monopod_types::{ProfileName, Zone};
use serde_json::{Value, json};

use super::{Inputs, Kind, ProfileNodes, Storage, Verdict, host_verdict, verdict};

/// A Pod `shop/web` as it stands in the cluster after the webhook, with these fields of the spec and, unless they say
/// otherwise, one plain container.
fn pod(spec: Value) -> Pod {
    let mut whole = json!({ "schedulerName": "fargate-scheduler", "containers": [{ "name": "app" }] });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    pod_object(json!({ "metadata": { "namespace": "shop", "name": "web", "uid": "web-uid" }, "spec": whole }))
}

fn pod_object(object: Value) -> Pod {
    serde_json::from_value(object).unwrap()
}

/// A Pod whose only container `app` has these fields.
fn container(fields: Value) -> Pod {
    let mut whole = json!({ "name": "app" });
    whole.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    pod(json!({ "containers": [whole] }))
}

/// The scheduler's verdict with these claims and volumes, in profile `fp` with the zones `z1` and `z2` of region `r`.
fn verdict_with(pod: &Pod, claims: &[PersistentVolumeClaim], volumes: &[PersistentVolume]) -> Verdict {
    let (profile, zones) = (ProfileName::from("fp"), [Zone::from("z1"), Zone::from("z2")]);
    let nodes = ProfileNodes { profile: &profile, zones: &zones, region: Some("r") };
    let storage = Storage::new(claims, volumes);
    verdict(pod, &Inputs { storage: &storage, nodes: Some(&nodes) })
}

fn verdict_of(pod: &Pod) -> Verdict {
    verdict_with(pod, &[], &[])
}

fn host_verdict_of(pod: &Pod) -> Verdict {
    host_verdict(pod, &Storage::default())
}

fn kinds(verdict: &Verdict) -> Vec<Kind> {
    verdict.violations().iter().map(super::Violation::kind).collect()
}

fn fields(verdict: &Verdict) -> Vec<&str> {
    verdict.violations().iter().map(super::Violation::field).collect()
}

fn claim(name: &str, phase: &str, volume: Option<&str>) -> PersistentVolumeClaim {
    serde_json::from_value(json!({
        "metadata": { "namespace": "shop", "name": name, "uid": format!("{name}-uid") },
        "spec": { "volumeName": volume },
        "status": { "phase": phase },
    }))
    .unwrap()
}

/// A volume bound to the claim `shop/CLAIM`, with this source.
fn volume(name: &str, claim: &str, source: Value) -> PersistentVolume {
    let claim_ref = json!({ "namespace": "shop", "name": claim, "uid": format!("{claim}-uid") });
    let mut spec = json!({ "claimRef": claim_ref });
    spec.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}
