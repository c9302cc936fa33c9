//! The routes to the Pods of other hosts: one for each of their address blocks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Api, ResourceExt as _};
use monopod_api::Host;
use monopod_hostnet::{HostNet, PeerBlock};
use monopod_watching::Retry;

use super::Link;

/// Between attempts to set routes.
const PAUSE: Duration = Duration::from_secs(5);

/// Keeps the routes as the Host objects say. Never ends.
pub(super) async fn follow(link: Arc<Link>, net: Arc<dyn HostNet>) {
    let (hosts, writer) = reflector::store::<Host>();
    let watching = watcher(Api::<Host>::all(link.client.clone()), watcher::Config::default()).backoff(Retry::default());
    // All events, for the store has what was listed only when the list is complete.
    let mut changes = reflector(writer, watching).boxed();
    let mut set = BTreeSet::new();
    loop {
        match changes.next().await {
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "Hosts cannot be watched");
                continue;
            }
            None => tokio::time::sleep(PAUSE).await,
        }
        let wanted: BTreeSet<PeerBlock> = hosts.state().iter().flat_map(|host| peers(&link, host)).collect();
        while wanted != set {
            match net.route_peers(&wanted.iter().copied().collect::<Vec<_>>()).await {
                Ok(()) => set.clone_from(&wanted),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "routes to other hosts are not up to date"
                    );
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The blocks of another host.
fn peers(link: &Link, host: &Host) -> Vec<PeerBlock> {
    let Some(status) = host.status.as_ref().filter(|_| host.name_any() != link.settings.host_name) else {
        return Vec::new();
    };
    let Some(address) = status.address.as_deref().and_then(|address| address.parse::<Ipv4Addr>().ok()) else {
        return Vec::new();
    };
    let blocks = status.address_blocks.iter().filter_map(|block| block.cidr.parse().ok());
    blocks.map(|block| PeerBlock { block, host: address }).collect()
}
