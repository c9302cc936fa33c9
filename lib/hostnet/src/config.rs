//! What the platform team may set about a host's network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

/// A host's network for microVMs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NetConfig {
    /// Addresses for Pods. Of large blocks, the first 4,096 usable addresses count.
    pub blocks: Vec<Ipv4Net>,
    /// IPv6 addresses for Pods, as many at least; without it guests have no IPv6 at all.
    pub block6: Option<Ipv6Net>,
    /// How guests reach the outside, until it is set otherwise.
    pub outside: Outside,
    /// Let the outside reach guests, as Pods of a cluster are; without it, only answers come in.
    pub inbound: bool,
    /// What guests may reach on the host, besides a ping of their gateway.
    pub host_services: Vec<HostService>,
    /// Ports of the host, over TCP, that guests may reach: the kubelets of a cluster's nodes, which ask who comes.
    pub host_ports: Option<(u16, u16)>,
    /// Destinations that no guest reaches, besides link-local ones and the metadata services of clouds.
    pub blocked: Vec<IpNet>,
    /// What names of taps begin with; no other interface's name may.
    pub prefix: String,
    /// Name of our tables of the packet filter.
    pub table: String,
    /// What guests have as gateway.
    pub gateway: Ipv4Addr,
    /// The same for IPv6; link-local.
    pub gateway6: Ipv6Addr,
    /// Largest packet.
    pub mtu: u32,
    /// How many taps are made ahead.
    pub ready: usize,
}

/// How guests reach the outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Outside {
    /// Guests that have another address there; all others have their own.
    pub nat: Vec<Nat>,
    /// Destinations that see the guests' own addresses all the same.
    pub direct: Vec<IpNet>,
}

/// Guests that have another address towards the outside.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Nat {
    /// Their own addresses.
    pub guests: IpNet,
    /// The address that they have there; without one, that of the interface by which they leave the host.
    pub address: Option<IpAddr>,
}

/// Something on the host that guests may talk to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HostService {
    /// An address of the host.
    pub address: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Default for Outside {
    /// All guests have the host's address.
    fn default() -> Self {
        let everybody = [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()];
        let nat = everybody.map(|guests| Nat { guests, address: None }).into();
        Self { nat, direct: Vec::new() }
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            blocks: vec![Ipv4Net::new_assert(Ipv4Addr::new(10, 205, 0, 0), 22)],
            block6: None,
            outside: Outside::default(),
            inbound: false,
            host_services: Vec::new(),
            host_ports: None,
            blocked: Vec::new(),
            prefix: "mpod".to_owned(),
            table: "monopod".to_owned(),
            gateway: Ipv4Addr::new(169, 254, 1, 1),
            gateway6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
            mtu: 1500,
            ready: 4,
        }
    }
}

impl Protocol {
    /// As the packet filter names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
