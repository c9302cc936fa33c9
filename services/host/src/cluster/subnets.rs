//! What Subnets say of the Pods of this machine: how they reach the outside, and how names are resolved for them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use ipnet::IpNet;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, Client, ResourceExt as _};
use monopod_api::Subnet;
use monopod_hostnet::{HostNet, Nat, Outside};
use monopod_watching::Retry;

use super::registration::Block;
use super::{ClusterError, Link};
use crate::journal::ResolverRecord;

/// Between attempts to set rules.
const PAUSE: Duration = Duration::from_secs(5);

/// The Subnets as they were seen last.
pub(super) struct Subnets {
    seen: Mutex<Vec<Arc<Subnet>>>,
}

impl Subnets {
    /// Reads them.
    pub(super) async fn read(client: &Client) -> Result<Self, ClusterError> {
        let subnets = Api::<Subnet>::all(client.clone()).list(&ListParams::default()).await;
        let subnets = subnets.map_err(ClusterError::asking("list Subnets"))?;
        Ok(Self { seen: Mutex::new(subnets.items.into_iter().map(Arc::new).collect()) })
    }

    fn seen(&self) -> Vec<Arc<Subnet>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How Pods of these blocks reach the outside. Pods of the cluster see each other's own addresses.
    pub(super) fn outside(&self, blocks: &[Block]) -> Outside {
        let seen = self.seen();
        let nat = blocks.iter().filter_map(|block| {
            let spec = &of_block(&seen, block)?.spec;
            // Pods have IPv4 addresses only.
            let address = spec.nat_address.as_ref().and_then(|address| address.parse::<Ipv4Addr>().ok());
            spec.nat_gateway.then(|| Nat { guests: block.range.into(), address: address.map(IpAddr::V4) })
        });
        Outside { nat: nat.collect(), direct: seen.iter().filter_map(|subnet| subnet.spec.cidr.parse().ok()).collect() }
    }

    /// How names are resolved in place of the machine's own way, for Pods of a block.
    pub(super) fn resolver(&self, blocks: &[Block], range: IpNet) -> Option<ResolverRecord> {
        let block = blocks.iter().find(|block| IpNet::V4(block.range) == range)?;
        let seen = self.seen();
        let dns = &of_block(&seen, block)?.spec.dns;
        let resolver = ResolverRecord { nameservers: dns.nameservers.clone(), searches: dns.search.clone() };
        (resolver != ResolverRecord::default()).then_some(resolver)
    }
}

fn of_block<'a>(subnets: &'a [Arc<Subnet>], block: &Block) -> Option<&'a Arc<Subnet>> {
    subnets.iter().find(|subnet| subnet.name_any() == block.subnet)
}

/// Keeps up with the Subnets, and the packet filter with them. Never ends.
pub(super) async fn follow(link: Arc<Link>, net: Arc<dyn HostNet>) {
    let (store, writer) = reflector::store::<Subnet>();
    let watching =
        watcher(Api::<Subnet>::all(link.client.clone()), watcher::Config::default()).backoff(Retry::default());
    // All events, for the store has what was listed only when the list is complete.
    let mut changes = reflector(writer, watching).boxed();
    let mut set = link.outside();
    loop {
        match changes.next().await {
            Some(Ok(watcher::Event::Init | watcher::Event::InitApply(_))) => continue,
            Some(Ok(watcher::Event::InitDone | watcher::Event::Apply(_) | watcher::Event::Delete(_))) => {}
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Subnets cannot be watched");
                continue;
            }
            None => tokio::time::sleep(PAUSE).await,
        }
        *link.subnets.seen.lock().unwrap_or_else(PoisonError::into_inner) = store.state();
        let wanted = link.outside();
        while wanted != set {
            match net.set_outside(wanted.clone()).await {
                Ok(()) => set.clone_from(&wanted),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "how Pods reach the outside is not as the Subnets say"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use monopod_api::Subnet;
    use monopod_hostnet::Nat;
    use serde_json::json;

    use super::{Block, Subnets};
    use crate::journal::ResolverRecord;

    fn subnets() -> Subnets {
        let specs = [
            ("plain", json!({"cidr": "10.0.0.0/24", "zone": "a", "private": true})),
            ("nat", json!({"cidr": "10.0.1.0/24", "zone": "a", "private": true, "natGateway": true})),
            (
                "both",
                json!({"cidr": "10.0.2.0/24", "zone": "a", "private": true, "natGateway": true, "natAddress": "192.0.2.1",
                       "dns": {"nameservers": ["192.0.2.53"], "search": ["corp.example"]}}),
            ),
        ];
        let subnet = |(name, spec)| Arc::new(Subnet::new(name, serde_json::from_value(spec).unwrap()));
        Subnets { seen: Mutex::new(specs.map(subnet).into()) }
    }

    fn blocks() -> Vec<Block> {
        let block = |(subnet, range): (&str, &str)| Block { subnet: subnet.to_owned(), range: range.parse().unwrap() };
        [("plain", "10.0.0.0/28"), ("nat", "10.0.1.0/28"), ("both", "10.0.2.16/28"), ("gone", "10.0.9.0/28")]
            .map(block)
            .into()
    }

    #[test]
    fn pods_have_another_address_outside_where_their_subnet_has_a_gateway() {
        let outside = subnets().outside(&blocks());
        let nat = |guests: &str, address: &str| Nat { guests: guests.parse().unwrap(), address: address.parse().ok() };
        assert_eq!(outside.nat, [nat("10.0.1.0/28", ""), nat("10.0.2.16/28", "192.0.2.1")]);
        let direct: Vec<String> = outside.direct.iter().map(ToString::to_string).collect();
        assert_eq!(direct, ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"]);
    }

    #[test]
    fn names_are_resolved_as_the_subnet_says_where_it_says_so() {
        let resolver = |range: &str| subnets().resolver(&blocks(), range.parse().unwrap());
        let told =
            ResolverRecord { nameservers: vec!["192.0.2.53".to_owned()], searches: vec!["corp.example".to_owned()] };
        assert_eq!(resolver("10.0.2.16/28"), Some(told));
        assert_eq!((resolver("10.0.0.0/28"), resolver("10.0.9.0/28"), resolver("10.9.0.0/28")), (None, None, None));
    }
}
