//! What a Pod gets of the network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;

use ipnet::{IpNet, Ipv4Net};

/// Address of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// What the guest is to know of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Name of the tap on the host.
    pub tap_name: String,
    /// The guest's card.
    pub mac: Mac,
    /// The guest's addresses, each alone in its prefix.
    pub addresses: Vec<IpNet>,
    /// One per address family; on the link, whatever the prefix says.
    pub gateways: Vec<IpAddr>,
    /// Largest packet.
    pub mtu: u32,
}

/// Addresses of Pods that another host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerBlock {
    /// Its block.
    pub block: Ipv4Net,
    /// The address of the host, on a link of this one.
    pub host: Ipv4Addr,
}

/// A Pod's connection, ready for its VM.
#[derive(Debug)]
pub struct Attachment {
    /// The open tap, with virtio-net headers; the VM's end of the cable. It exists while this is open.
    pub tap: OwnedFd,
    /// What the guest is to know.
    pub lease: Lease,
}

/// Packets and bytes, as the guest sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes to the guest.
    pub received_bytes: u64,
    /// Packets to the guest.
    pub received_packets: u64,
    /// Packets to the guest that were lost.
    pub received_dropped: u64,
    /// Bytes from the guest.
    pub sent_bytes: u64,
    /// Packets from the guest.
    pub sent_packets: u64,
    /// Packets from the guest that were lost.
    pub sent_dropped: u64,
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Lease {
    /// The first IPv4 address, by which the host reaches the guest.
    pub fn address(&self) -> Option<IpAddr> {
        self.addresses.first().map(IpNet::addr)
    }
}
