//! The guest's one network card: its MAC, addresses and default routes, by netlink; no DHCP.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use monopod_agent_proto::v1;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("{what} {value:?} cannot be used")]
    Invalid { what: &'static str, value: String },
    #[error("the machine has no network card")]
    NoCard,
    #[error("failed to {what}")]
    System {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("failed to {what} {value}")]
    Netlink {
        what: &'static str,
        value: String,
        #[source]
        source: rtnetlink::Error,
    },
}

impl NetworkError {
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "InvalidNetwork",
            Self::NoCard => "NetworkCardMissing",
            Self::System { .. } | Self::Netlink { .. } => "NetworkFailed",
        }
    }
}

/// What the host wants, read and checked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) mac: [u8; 6],
    /// The card's own where it is 0.
    pub(super) mtu: u32,
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
}

impl TryFrom<&v1::Network> for Network {
    type Error = NetworkError;

    fn try_from(wire: &v1::Network) -> Result<Self, NetworkError> {
        let addresses: Vec<IpNet> =
            wire.addresses.iter().map(|text| parse("address", text)).collect::<Result<_, _>>()?;
        let gateways: Vec<IpAddr> =
            wire.gateways.iter().map(|text| parse("gateway", text)).collect::<Result<_, _>>()?;
        for family in [true, false] {
            if let Some(second) = gateways.iter().filter(|gateway| gateway.is_ipv4() == family).nth(1) {
                return Err(invalid("second gateway of a family", &second.to_string()));
            }
        }
        Ok(Self { mac: mac(&wire.mac)?, mtu: wire.mtu, addresses, gateways })
    }
}

fn invalid(what: &'static str, value: &str) -> NetworkError {
    NetworkError::Invalid { what, value: value.to_owned() }
}

fn parse<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, NetworkError> {
    text.parse().map_err(|_| invalid(what, text))
}

/// Six pairs of hex digits with colons; not a group's.
pub(super) fn mac(text: &str) -> Result<[u8; 6], NetworkError> {
    let mut bytes = [0; 6];
    let mut pairs = text.split(':');
    for byte in &mut bytes {
        let pair = pairs.next().filter(|pair| pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit()));
        *byte = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).ok_or_else(|| invalid("MAC address", text))?;
    }
    if pairs.next().is_some() || bytes[0] & 1 == 1 { Err(invalid("MAC address", text)) } else { Ok(bytes) }
}

/// Brings up the loopback, and the card where the host wants a network.
pub(super) async fn set_up(network: Option<&Network>) -> Result<(), NetworkError> {
    let system = |what| move |source| NetworkError::System { what, source };
    let (connection, handle, _) = rtnetlink::new_connection().map_err(system("open a netlink socket"))?;
    let driver = tokio::spawn(connection);
    let outcome = configure(&handle, network).await;
    driver.abort();
    outcome
}

async fn configure(handle: &Handle, network: Option<&Network>) -> Result<(), NetworkError> {
    let failed = |what, value: &str| {
        let value = value.to_owned();
        move |source| NetworkError::Netlink { what, value, source }
    };
    let loopback = LinkUnspec::new_with_name("lo").up().build();
    handle.link().set(loopback).execute().await.map_err(failed("bring up", "lo"))?;
    let Some(network) = network else { return Ok(()) };
    let Card { name, index } = card(Path::new("/sys/class/net"))?;
    quiet_ipv6(&name)?;
    let mut link = LinkUnspec::new_with_index(index).address(network.mac.to_vec());
    if network.mtu != 0 {
        link = link.mtu(network.mtu);
    }
    handle.link().set(link.build()).execute().await.map_err(failed("set MAC and MTU of", &name))?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle.link().set(up).execute().await.map_err(failed("bring up", &name))?;
    for address in &network.addresses {
        let request = handle.address().add(index, address.addr(), address.prefix_len());
        request.execute().await.map_err(failed("add address", &address.to_string()))?;
    }
    for gateway in &network.gateways {
        let route = match gateway {
            IpAddr::V4(gateway) => {
                RouteMessageBuilder::<Ipv4Addr>::new().gateway(*gateway).output_interface(index).onlink().build()
            }
            IpAddr::V6(gateway) => {
                RouteMessageBuilder::<Ipv6Addr>::new().gateway(*gateway).output_interface(index).onlink().build()
            }
        };
        let request = handle.route().add(route);
        request.execute().await.map_err(failed("add the default route through", &gateway.to_string()))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) name: String,
    pub(super) index: u32,
}

/// The first interface that is a device.
pub(super) fn card(interfaces: &Path) -> Result<Card, NetworkError> {
    let system = |source| NetworkError::System { what: "list network interfaces", source };
    let mut names: Vec<_> = fs::read_dir(interfaces)
        .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>())
        .map_err(system)?;
    names.sort();
    let name = names.into_iter().find(|name| interfaces.join(name).join("device").exists());
    let name = name.and_then(|name| name.into_string().ok()).ok_or(NetworkError::NoCard)?;
    let index = fs::read_to_string(interfaces.join(&name).join("ifindex")).map_err(system)?;
    Ok(Card { index: parse("interface index", index.trim_end())?, name })
}

/// The host says which addresses there are: none is made up from advertisements, and none waits to be found unique.
fn quiet_ipv6(name: &str) -> Result<(), NetworkError> {
    for parameter in ["accept_ra", "autoconf", "accept_dad"] {
        let path = format!("/proc/sys/net/ipv6/conf/{name}/{parameter}");
        fs::write(path, "0").map_err(|source| NetworkError::System { what: "quieten IPv6", source })?;
    }
    Ok(())
}
