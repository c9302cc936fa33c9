//! What the scheduler writes down of a placement, and how it is read back.
//!
//! Exactly three writes make a Pod's place, in this order:
//!
//! ```text
//! Pod:     annotation CapacityProvisioned, labels of host, profile ─▶ the host may prepare, and starts nothing yet
//! Node:    the microVM, with the uid of its Pod                   ─▶ the address is taken: names of objects are unique
//! Binding: the Pod belongs to the Node                            ─▶ the host starts it
//! ```
//!
//! A scheduler that dies in between leaves a state that says how to go on. Without the Node nothing is decided, and the
//! Pod is placed anew. With it, [`read`] gives the place, which is booked, and the Binding is made up for. The name of a
//! Node comes from its address, so the API server itself refuses to give one address twice while the Subnet's domain, which
//! the name ends in, stays the same.
//!
//! The Node's addresses, port and conditions are not here: the host writes them when it serves the Node. A Node must
//! not be made with `Ready: False` either, for the node lifecycle controller would taint it at once, and evict a Pod that
//! tolerates nothing before it runs; of a Node that has said nothing yet it waits for the first word.

mod name;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Binding, Node, NodeSpec, NodeStatus, ObjectReference, Pod, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use monopod_api::{Microvm, MicrovmPod, names};
use monopod_types::{GiB, HostName, MiB, MilliCpu, PodUid, ProfileName, SubnetName, Zone};
use serde_json::{Value, json};

pub use name::{NameError, NodeName, address_of, default_domain};

use crate::placement::{Booking, CommonLabels, Placement, Resources};
use crate::sizing::Size;

/// A Pod with its place, complete: everything that the three writes need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Namespace of the Pod.
    pub namespace: String,
    /// Name of the Pod.
    pub pod: String,
    /// Uid of the Pod.
    pub uid: PodUid,
    /// The profile that took it.
    pub profile: ProfileName,
    /// Size of its microVM.
    pub size: Resources,
    /// The host that is to run it.
    pub host: HostName,
    /// Failure domain of the host.
    pub zone: Zone,
    /// The subnet of its address.
    pub subnet: SubnetName,
    /// The block of its address.
    pub block: IpNet,
    /// Its address.
    pub address: IpAddr,
    /// Name of its Node.
    pub node: NodeName,
}

/// Why a Node is not the record of a microVM.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It does not carry the annotation: it is another's Node.
    #[error("node {node} has no annotation {}", names::MICROVM_ANNOTATION)]
    NotOurs {
        /// Name of the Node.
        node: String,
    },
    /// Somebody changed the annotation.
    #[error("annotation {} of node {node} cannot be read", names::MICROVM_ANNOTATION)]
    Malformed {
        /// Name of the Node.
        node: String,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl ReadError {
    /// Event reason, condition reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "NodeNotOurs",
            Self::Malformed { .. } => "MicrovmAnnotationMalformed",
        }
    }
}

/// What a Node's annotation says is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The Pod that has the place.
    pub pod: MicrovmPod,
    /// The place, as [`Cluster::book`](crate::placement::Cluster::book) takes it.
    pub booking: Booking,
    /// The address.
    pub address: IpAddr,
    /// What the microVM takes of its host.
    pub size: Resources,
}

/// The lowest address of a block that no Pod has. In a block of IPv4 the first and the last address are left out where
/// it has more than two: some programs take them for those of a network.
pub fn free_address(block: &IpNet, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    block.hosts().find(|address| !taken.contains(address))
}

impl Record {
    /// The record of a placement at `address`, which must be in the placement's block. `domain` is what the name of the
    /// Node ends in, see [`default_domain`].
    ///
    /// # Errors
    /// The domain makes no name of a Node.
    pub fn new(
        pod: &Pod,
        profile: &ProfileName,
        size: Resources,
        at: &Placement,
        address: IpAddr,
        domain: &str,
    ) -> Result<Self, NameError> {
        Ok(Self {
            namespace: pod.metadata.namespace.clone().unwrap_or_default(),
            pod: pod.metadata.name.clone().unwrap_or_default(),
            uid: PodUid::new(pod.metadata.uid.as_deref().unwrap_or_default()),
            profile: profile.clone(),
            size,
            host: at.host.clone(),
            zone: at.zone.clone(),
            subnet: at.subnet.clone(),
            block: at.block,
            address,
            node: NodeName::new(address, domain)?,
        })
    }

    /// The first write: a JSON merge patch of the Pod. A Pod that came past the webhook gets the label of its profile here.
    /// With the uid, so that it cannot hit another Pod of the same name:
    /// the API server answers such a patch with a conflict.
    pub fn pod_patch(&self, size: &Size) -> Value {
        json!({
            "metadata": {
                "uid": self.uid.as_str(),
                "annotations": { names::CAPACITY_PROVISIONED: size.shape.capacity_provisioned() },
                "labels": { names::HOST_LABEL: self.host.as_str(), names::PROFILE_LABEL: self.profile.as_str() },
            }
        })
    }

    /// The second write: the Node.
    pub fn node(&self, common: &CommonLabels) -> Node {
        let amounts = amounts(self.size);
        Node {
            metadata: ObjectMeta {
                name: Some(self.node.as_str().to_owned()),
                labels: Some(self.labels(common)),
                annotations: Some(self.annotations()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                // Without one, a cloud's controllers look for a machine of the Node's name, and remove a Node that has none.
                provider_id: Some(format!("monopod:///{}/{}/{}", self.zone, self.host, self.uid)),
                taints: Some(vec![taint()]),
                ..NodeSpec::default()
            }),
            status: Some(NodeStatus {
                capacity: Some(amounts.clone()),
                allocatable: Some(amounts),
                ..NodeStatus::default()
            }),
        }
    }

    /// The third write: the Binding. With the uid, for the same reason as the first.
    pub fn binding(&self) -> Binding {
        binding(&self.namespace, &self.pod, &self.uid, self.node.as_str())
    }

    /// What the event `Scheduled` says; the words are kube-scheduler's.
    pub fn message(&self) -> String {
        format!("Successfully assigned {}/{} to {}", self.namespace, self.pod, self.node)
    }

    fn labels(&self, common: &CommonLabels) -> BTreeMap<String, String> {
        let zone = self.zone.as_str();
        let pairs = [
            (names::COMPUTE_TYPE, names::COMPUTE_TYPE_FARGATE),
            (names::HOST_LABEL, self.host.as_str()),
            ("kubernetes.io/arch", &common.architecture),
            ("beta.kubernetes.io/arch", &common.architecture),
            ("kubernetes.io/os", "linux"),
            ("beta.kubernetes.io/os", "linux"),
            ("kubernetes.io/hostname", self.node.hostname_label()),
            ("topology.kubernetes.io/region", &common.region),
            ("failure-domain.beta.kubernetes.io/region", &common.region),
            (names::ZONE_LABEL, zone),
            ("failure-domain.beta.kubernetes.io/zone", zone),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn annotations(&self) -> BTreeMap<String, String> {
        let microvm = json!(Microvm {
            pod: MicrovmPod {
                namespace: self.namespace.clone(),
                name: self.pod.clone(),
                uid: self.uid.as_str().to_owned(),
                profile: self.profile.as_str().to_owned(),
            },
            host: self.host.as_str().to_owned(),
            subnet: self.subnet.as_str().to_owned(),
            block: self.block,
            address: self.address,
            milli_cpu: self.size.cpu.0,
            memory_mib: self.size.memory.0,
            disk_gib: self.size.disk.0,
        });
        let pairs = [
            (names::MICROVM_ANNOTATION, microvm.to_string()),
            ("node.alpha.kubernetes.io/ttl", "0".to_owned()),
            ("volumes.kubernetes.io/controller-managed-attach-detach", "true".to_owned()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }
}

/// The Binding of a Pod to the Node that was made for it.
pub fn binding(namespace: &str, pod: &str, uid: &PodUid, node: &str) -> Binding {
    Binding {
        metadata: ObjectMeta {
            namespace: Some(namespace.to_owned()),
            name: Some(pod.to_owned()),
            uid: Some(uid.as_str().to_owned()),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    }
}

/// What a microVM of this size takes of its host, before what one costs beyond its size.
pub fn resources(size: &Size) -> Resources {
    Resources { cpu: size.shape.cpu, memory: size.shape.memory, disk: size.ephemeral }
}

/// Reads back from a Node what is taken.
///
/// # Errors
/// The Node is not ours, or somebody changed its annotation.
pub fn read(node: &Node) -> Result<Taken, ReadError> {
    let name = || node.metadata.name.clone().unwrap_or_default();
    let annotation = node.metadata.annotations.as_ref().and_then(|all| all.get(names::MICROVM_ANNOTATION));
    let text = annotation.ok_or_else(|| ReadError::NotOurs { node: name() })?;
    let microvm: Microvm =
        serde_json::from_str(text).map_err(|source| ReadError::Malformed { node: name(), source })?;
    Ok(Taken {
        pod: microvm.pod,
        booking: Booking { host: HostName::new(microvm.host), block: microvm.block },
        address: microvm.address,
        size: Resources {
            cpu: MilliCpu(microvm.milli_cpu),
            memory: MiB(microvm.memory_mib),
            disk: GiB(microvm.disk_gib),
        },
    })
}

/// Keeps Pods of other schedulers away.
fn taint() -> Taint {
    Taint {
        key: names::COMPUTE_TYPE.to_owned(),
        value: Some(names::COMPUTE_TYPE_FARGATE.to_owned()),
        effect: "NoSchedule".to_owned(),
        time_added: None,
    }
}

fn amounts(size: Resources) -> BTreeMap<String, Quantity> {
    let pairs = [
        ("cpu", format!("{}m", size.cpu.0)),
        ("memory", format!("{}Mi", size.memory.0)),
        ("ephemeral-storage", format!("{}Gi", size.disk.0)),
        ("pods", "1".to_owned()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), Quantity(value))).collect()
}
