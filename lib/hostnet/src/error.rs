//! Why something about a Pod's network failed.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use monopod_types::PodUid;

/// When the same may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// It will fail again.
    Never,
    /// After a while.
    After(Duration),
}

/// Why something about a Pod's network failed.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The configuration cannot be.
    #[error("network configuration: {field} {problem}")]
    Config {
        /// Which setting.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// Every address is in use.
    #[error("all {total} addresses of this host are in use")]
    AddressesExhausted {
        /// How many there are.
        total: usize,
    },
    /// Another Pod has the wanted address, or had it until now.
    #[error("address {address} is in use")]
    AddressTaken {
        /// Which one.
        address: Ipv4Addr,
    },
    /// The wanted address is not one for this host's Pods.
    #[error("address {address} is in no address block of this host")]
    ForeignAddress {
        /// Which one.
        address: Ipv4Addr,
    },
    /// The Pod is connected already.
    #[error("pod {pod} is connected to the network already")]
    AlreadyAttached {
        /// Which Pod.
        pod: PodUid,
    },
    /// The Pod is not connected.
    #[error("pod {pod} is not connected to the network")]
    NotAttached {
        /// Which Pod.
        pod: PodUid,
    },
    /// The kernel did not give a tap.
    #[error("failed to open tap {name}")]
    Tap {
        /// Its name.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses, routes or neighbours.
    #[error("failed to {what}")]
    Netlink {
        /// Such as `add route to 10.0.0.2`.
        what: String,
        /// What the kernel said.
        #[source]
        source: rtnetlink::Error,
    },
    /// No netlink socket could be opened.
    #[error("failed to open a netlink socket")]
    NetlinkSocket {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The packet filter could not be set.
    #[error("failed to set packet filter table {table}")]
    Rules {
        /// Name of the table.
        table: String,
        /// What nft said.
        #[source]
        source: Box<nftables::helper::NftablesError>,
    },
    /// A kernel setting could not be written.
    #[error("failed to set {path}")]
    Setting {
        /// The file below /proc/sys.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl NetError {
    /// Event reason and metric label.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Config { .. } => "NetworkConfigInvalid",
            Self::AddressesExhausted { .. } => "AddressesExhausted",
            Self::AddressTaken { .. } => "AddressTaken",
            Self::ForeignAddress { .. } => "ForeignAddress",
            Self::AlreadyAttached { .. } => "NetworkAlreadyAttached",
            Self::NotAttached { .. } => "NetworkNotAttached",
            Self::Tap { .. } => "TapFailed",
            Self::Netlink { .. } | Self::NetlinkSocket { .. } => "NetlinkFailed",
            Self::Rules { .. } => "PacketFilterFailed",
            Self::Setting { .. } => "NetworkSettingFailed",
        }
    }

    /// When the same may be tried again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Config { .. } | Self::AlreadyAttached { .. } | Self::NotAttached { .. } => Retry::Never,
            Self::AddressesExhausted { .. } => Retry::After(Duration::from_secs(10)),
            Self::AddressTaken { .. }
            | Self::ForeignAddress { .. }
            | Self::Tap { .. }
            | Self::Netlink { .. }
            | Self::NetlinkSocket { .. }
            | Self::Rules { .. }
            | Self::Setting { .. } => Retry::After(Duration::from_secs(2)),
        }
    }
}
