//! Sizes as the reference documents and users measured them, the rules of Kubernetes that they rest on, and properties
//! against small independent models.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use monopod_api::Sizing;

use super::{Size, SizingError, SizingSettings};

mod exact;
mod fargate;
mod limits;
mod properties;
mod requests;

type ResourceList = BTreeMap<String, Quantity>;

/// `"cpu=250m memory=1Gi"` as a resource list.
fn amounts(text: &str) -> ResourceList {
    text.split_whitespace()
        .map(|amount| amount.split_once('=').unwrap())
        .map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned())))
        .collect()
}

/// A container that requests and is limited to so much; an empty text is an absent list.
fn container(requests: &str, limits: &str) -> Container {
    Container { resources: Some(resources(requests, limits)), ..Container::default() }
}

fn resources(requests: &str, limits: &str) -> ResourceRequirements {
    let list = |text: &str| Some(amounts(text)).filter(|list| !list.is_empty());
    ResourceRequirements { requests: list(requests), limits: list(limits), claims: None }
}

fn asks(requests: &str) -> Container {
    container(requests, "")
}

fn sidecar(requests: &str) -> Container {
    Container { restart_policy: Some("Always".into()), ..asks(requests) }
}

fn pod(init_containers: Vec<Container>, containers: Vec<Container>) -> Pod {
    let spec = PodSpec { init_containers: Some(init_containers), containers, ..PodSpec::default() };
    Pod { spec: Some(spec), ..Pod::default() }
}

/// A Pod of one container with these requests.
fn pod_that_asks(requests: &str) -> Pod {
    pod(vec![], vec![asks(requests)])
}

fn fargate(pod: &Pod) -> Result<Size, SizingError> {
    super::size(pod, Sizing::Fargate, &SizingSettings::default())
}

fn exact(pod: &Pod) -> Result<Size, SizingError> {
    super::size(pod, Sizing::Exact, &SizingSettings::default())
}

/// `CapacityProvisioned` of the Pod in the Fargate mode.
fn provisioned(pod: &Pod) -> String {
    fargate(pod).unwrap().shape.capacity_provisioned()
}
