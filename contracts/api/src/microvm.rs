//! What a Node says of the microVM that it stands for: the value of the annotation `monopod.dev/microvm`.
//!
//! The scheduler writes it together with the Node and never again. With it the Node is the record of a placement: a
//! scheduler that starts anew reads from it what is taken, and which Pod still waits for its Binding.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The microVM of one Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Microvm {
    /// The Pod that it is made for, and for no other.
    pub pod: MicrovmPod,
    /// Name of the `Host` that runs it.
    pub host: String,
    /// Name of the `Subnet` that its address is from.
    pub subnet: String,
    /// The block of the host that its address is from.
    pub block: IpNet,
    /// Its address.
    pub address: IpAddr,
    /// CPU in thousandths of a vCPU.
    pub milli_cpu: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk of the Pod in GiB.
    pub disk_gib: u64,
}

/// The Pod of a microVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmPod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, by which it differs from another of the same name.
    pub uid: String,
    /// The profile that took it.
    pub profile: String,
}
