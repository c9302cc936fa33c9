//! Links, addresses, neighbours and routes, by netlink.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use ipnet::Ipv4Net;
use monopod_types::PodUid;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::error::NetError;
use crate::plan::{Plan, Slot};
use crate::types::{PeerBlock, Traffic};

/// The host's end of every cable has the same address, as it has the same gateway.
const HOST_MAC: [u8; 6] = [0x02, 0x6d, 0, 0, 0, 1];

/// By which our routes to other hosts are known; a number that nobody else has.
const PEERS: RouteProtocol = RouteProtocol::Other(137);

/// A netlink socket in the namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    handle: Handle,
}

/// A tap as the kernel knows it.
#[derive(Clone, Debug)]
pub(crate) struct FoundTap {
    pub(crate) slot: Slot,
    pub(crate) index: u32,
    pub(crate) pod: Option<PodUid>,
}

impl Links {
    pub(crate) fn open() -> Result<Self, NetError> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| NetError::NetlinkSocket { source })?;
        // Ends when the last handle is dropped.
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(crate) async fn index_of(&self, name: &str) -> Result<u32, NetError> {
        let mut links = Box::pin(self.handle.link().get().match_name(name.to_owned()).execute());
        let found = links.try_next().await.map_err(failed(|| format!("find tap {name}")))?;
        let gone = || NetError::Tap { name: name.to_owned(), source: io::ErrorKind::NotFound.into() };
        Ok(found.ok_or_else(gone)?.header.index)
    }

    /// All taps of the plan that exist.
    pub(crate) async fn taps(&self, plan: &Plan) -> Result<Vec<FoundTap>, NetError> {
        let links = self.handle.link().get().execute();
        let links: Vec<LinkMessage> =
            links.try_collect().await.map_err(failed(|| "list network interfaces".to_owned()))?;
        Ok(links.iter().filter_map(|link| found_tap(plan, link)).collect())
    }

    /// Gives a tap everything that its guest needs; may be repeated.
    pub(crate) async fn configure(&self, plan: &Plan, slot: Slot, index: u32) -> Result<(), NetError> {
        let name = plan.tap_name(slot);
        let up = LinkUnspec::new_with_index(index).address(HOST_MAC.to_vec()).mtu(plan.config.mtu).up().build();
        self.handle.link().set(up).execute().await.map_err(failed(|| format!("set up tap {name}")))?;
        self.add_gateway(index, &name, plan.config.gateway.into(), 32).await?;
        self.add_guest(index, plan.address(slot).into(), plan, slot).await?;
        if let Some(address6) = plan.address6(slot) {
            self.add_gateway(index, &name, plan.config.gateway6.into(), 64).await?;
            self.add_guest(index, address6.into(), plan, slot).await?;
        }
        Ok(())
    }

    async fn add_gateway(&self, index: u32, name: &str, address: IpAddr, prefix: u8) -> Result<(), NetError> {
        let mut request = self.handle.address().add(index, address, prefix).replace();
        request.message_mut().header.scope = AddressScope::Link;
        if address.is_ipv6() {
            // Nobody else is on the link, and waiting for others would delay the guest.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        request.execute().await.map_err(failed(|| format!("give {name} address {address}")))
    }

    async fn add_guest(&self, index: u32, address: IpAddr, plan: &Plan, slot: Slot) -> Result<(), NetError> {
        let mac = plan.mac(slot);
        let neighbour = self.handle.neighbours().add(index, address).link_layer_address(&mac.0).replace();
        neighbour.execute().await.map_err(failed(|| format!("make {address} a neighbour")))?;
        let route = match address {
            IpAddr::V4(address) => RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(address, 32)
                .scope(RouteScope::Link)
                .output_interface(index)
                .build(),
            IpAddr::V6(address) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(address, 128)
                .output_interface(index)
                .build(),
        };
        let added = self.handle.route().add(route).replace().execute().await;
        added.map_err(failed(|| format!("add a route to {address}")))
    }

    /// Makes the routes to other hosts' Pods these.
    pub(crate) async fn route_peers(&self, peers: &[PeerBlock]) -> Result<(), NetError> {
        for PeerBlock { block, host } in peers {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(block.network(), block.prefix_len())
                .gateway(*host)
                .protocol(PEERS)
                .build();
            let added = self.handle.route().add(route).replace().execute().await;
            added.map_err(failed(|| format!("add a route to {block}")))?;
        }
        let all = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
        let all: Vec<RouteMessage> = all.try_collect().await.map_err(failed(|| "list routes".to_owned()))?;
        for route in all.into_iter().filter(|route| route.header.protocol == PEERS) {
            let block = destination(&route);
            if block.is_none_or(|block| !peers.iter().any(|peer| peer.block == block)) {
                let removed = self.handle.route().del(route).execute().await;
                removed.map_err(failed(|| format!("remove the route to {block:?}")))?;
            }
        }
        Ok(())
    }

    /// Writes on a tap whose it is.
    pub(crate) async fn name_pod(&self, index: u32, pod: &PodUid) -> Result<(), NetError> {
        let named = LinkUnspec::new_with_index(index).alias(pod.as_str()).build();
        self.handle.link().set(named).execute().await.map_err(failed(|| format!("name a tap after pod {pod}")))
    }

    /// Removes a link; one that is gone already is no error.
    pub(crate) async fn remove(&self, index: u32) -> Result<(), NetError> {
        match self.handle.link().del(index).execute().await {
            Err(error) if !is_gone(&error) => {
                Err(NetError::Netlink { what: format!("remove link {index}"), source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// What went over a tap, from the guest's side; `None` when it is gone.
    pub(crate) async fn traffic(&self, index: u32) -> Result<Option<Traffic>, NetError> {
        let mut links = Box::pin(self.handle.link().get().match_index(index).execute());
        match links.try_next().await {
            Ok(link) => Ok(link.and_then(|link| traffic(&link))),
            Err(error) if is_gone(&error) => Ok(None),
            Err(source) => Err(NetError::Netlink { what: format!("read link {index}"), source }),
        }
    }
}

fn failed(what: impl FnOnce() -> String) -> impl FnOnce(rtnetlink::Error) -> NetError {
    |source| NetError::Netlink { what: what(), source }
}

/// Whether a link did not exist.
fn is_gone(error: &rtnetlink::Error) -> bool {
    if let rtnetlink::Error::NetlinkError(message) = error { message.raw_code() == -nix::libc::ENODEV } else { false }
}

/// Where an IPv4 route leads.
fn destination(route: &RouteMessage) -> Option<Ipv4Net> {
    let address = route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute else { return None };
        Some(*address)
    })?;
    Ipv4Net::new(address, route.header.destination_prefix_length).ok()
}

fn found_tap(plan: &Plan, link: &LinkMessage) -> Option<FoundTap> {
    let (mut name, mut alias) = (None, None);
    for attribute in &link.attributes {
        if let LinkAttribute::IfName(text) = attribute {
            name = Some(text);
        } else if let LinkAttribute::IfAlias(text) = attribute {
            alias = Some(text);
        }
    }
    let slot = plan.slot_of(name?)?;
    Some(FoundTap { slot, index: link.header.index, pod: alias.map(|alias| PodUid::new(alias.as_str())) })
}

fn traffic(link: &LinkMessage) -> Option<Traffic> {
    link.attributes.iter().find_map(|attribute| {
        let LinkAttribute::Stats64(stats) = attribute else { return None };
        // The host receives what the guest sends.
        Some(Traffic {
            received_bytes: stats.tx_bytes,
            received_packets: stats.tx_packets,
            received_dropped: stats.tx_dropped,
            sent_bytes: stats.rx_bytes,
            sent_packets: stats.rx_packets,
            sent_dropped: stats.rx_dropped,
        })
    })
}
