//! `Host`: a Linux machine that runs microVMs.
//!
//! The spec belongs to the platform team, the status to the host daemon; the heartbeat is a Lease and not here, so
//! that a quiet machine causes no writes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::{DISK_PRESSURE, MEMORY_PRESSURE};
use crate::problem::{FieldProblem, Problems, check_metadata, is_label_value};

const BAD_ZONE: &str = "The zone becomes the value of a Node label: 1 to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends.";
const BAD_NAME: &str =
    "The name of a Host becomes the value of a Node label and should not be greater than 63 characters.";
const EMPTY_SUBNET: &str = "The name of a Subnet must not be empty.";

/// A Linux machine that runs microVMs.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(group = "monopod.dev", version = "v1", kind = "Host", status = "HostStatus")]
#[kube(derive = "PartialEq", derive = "Default", shortname = "mhost", category = "monopod")]
#[kube(doc = "A Linux machine that runs microVMs.")]
#[kube(printcolumn(name = "Zone", type_ = "string", json_path = ".spec.zone"))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"))]
#[kube(printcolumn(name = "CPU-Free", type_ = "string", json_path = ".status.free.cpu"))]
#[kube(printcolumn(name = "Memory-Free", type_ = "string", json_path = ".status.free.memory"))]
#[kube(printcolumn(name = "Accelerator", type_ = "string", json_path = ".status.accelerator.kind"))]
#[kube(printcolumn(name = "Unschedulable", type_ = "boolean", json_path = ".spec.unschedulable", priority = "1"))]
#[kube(printcolumn(name = "Guest-Kernel", type_ = "string", json_path = ".status.guestKernel", priority = "1"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[kube(validation = Rule::new("self.metadata.name.size() <= 63").message(Message::Message(format!("metadata.name: {BAD_NAME}"))))]
#[serde(rename_all = "camelCase")]
pub struct HostSpec {
    /// The failure domain that the machine stands in, the value of `topology.kubernetes.io/zone`.
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$')").message(BAD_ZONE))]
    pub zone: String,
    /// Names of the Subnets that the machine can give addresses from; empty means all of its zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 253)))]
    #[x_kube(validation = Rule::new("self.all(name, name != '')").message(EMPTY_SUBNET))]
    pub subnets: Vec<String>,
    /// Takes no new Pods when true; those that run go on.
    #[serde(default)]
    pub unschedulable: bool,
}

/// What the host daemon says about its machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The machine's address: the API server reaches its nodes' kubelets there, and other hosts its Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What the machine has for microVMs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<HostResources>,
    /// What of it no microVM has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<HostResources>,
    /// What runs the guests' instructions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accelerator: Option<Accelerator>,
    /// Version of the kernel that new guests boot, as `uname -r` says it in them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest_kernel: Option<String>,
    /// Blocks of addresses that the machine gives to its Pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub address_blocks: Vec<AddressBlock>,
    /// Conditions in the form of Kubernetes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// Amounts of what microVMs take.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostResources {
    /// vCPU.
    pub cpu: Quantity,
    /// Memory.
    pub memory: Quantity,
    /// Disk for images and for the Pods' own files.
    pub ephemeral_storage: Quantity,
}

/// What runs the guests' instructions, and the proof.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accelerator {
    /// Which one it is.
    pub kind: AcceleratorKind,
    /// How it was proven, such as a guest that was started and answered. A device that opens proves nothing.
    pub proof: String,
    /// When it was proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proven_at: Option<Time>,
}

/// Ways to run a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AcceleratorKind {
    /// The processor runs them, by the kernel's KVM.
    #[serde(rename = "KVM")]
    Kvm,
    /// QEMU translates them.
    #[serde(rename = "TCG")]
    Tcg,
}

/// Addresses of one Subnet that a host holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressBlock {
    /// Name of the Subnet.
    pub subnet: String,
    /// The block, a part of the Subnet's range.
    pub cidr: String,
    /// Addresses of the block that no Pod has.
    pub free: i32,
}

impl Host {
    /// Whether the host says that it takes Pods, and nobody has given it up since.
    pub fn is_ready(&self) -> bool {
        self.is("Ready")
    }

    /// Whether the machine is short of memory or disk, so that it should get no further Pods.
    pub fn is_short(&self) -> bool {
        self.is(MEMORY_PRESSURE) || self.is(DISK_PRESSURE)
    }

    fn is(&self, condition: &str) -> bool {
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|one| one.type_ == condition && one.status == "True")
    }

    /// Everything that is wrong with the name and the spec; nothing when the Host is good.
    pub fn validate(&self) -> Vec<FieldProblem> {
        let mut problems = Problems::default();
        check_metadata(&self.metadata, &mut problems);
        let name = self.metadata.name.as_deref().unwrap_or_default();
        problems.require(name.len() <= 63, "metadata.name", BAD_NAME);
        problems.require(is_label_value(&self.spec.zone), "spec.zone", BAD_ZONE);
        problems.require(self.spec.subnets.iter().all(|name| !name.is_empty()), "spec.subnets", EMPTY_SUBNET);
        problems.into_vec()
    }
}
