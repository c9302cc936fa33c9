//! Hosts and Subnets: what there is to place Pods on.

use std::collections::BTreeSet;

use ipnet::IpNet;
use kube::ResourceExt as _;
use monopod_api::{Host, Subnet};
use monopod_policy::placement::{AddressBlock, Trigger};
use monopod_types::{HostName, SubnetName, Zone};

use super::super::facts::{NOTHING, capacity, read_block};
use super::super::watches::Seen;
use super::{Consequences, Orphan, Wake, World};

impl World {
    pub(super) fn see_host(&mut self, host: &Host, follows: &mut Consequences) {
        let name = HostName::new(host.name_any());
        let status = host.status.clone().unwrap_or_default();
        let blocks: Vec<AddressBlock> =
            status.address_blocks.iter().filter_map(|block| read_block(&name, block)).collect();
        let networks: BTreeSet<IpNet> = blocks.iter().map(|block| block.network).collect();
        for gone in self.hosts.insert(name.clone(), networks.clone()).unwrap_or_default().difference(&networks) {
            self.blocks.remove(gone);
            self.cluster.remove_block(gone);
        }
        self.cluster.upsert_host(monopod_policy::placement::Host {
            name: name.clone(),
            zone: Zone::new(&*host.spec.zone),
            subnets: blocks.iter().map(|block| block.subnet.clone()).collect(),
            unschedulable: host.spec.unschedulable || host.metadata.deletion_timestamp.is_some(),
            ready: host.is_ready() && !host.is_short(),
            total: status.capacity.as_ref().map_or(NOTHING, capacity),
        });
        for block in blocks {
            let idle = self.places.values().filter(|place| place.is_idle && place.taken.booking.block == block.network);
            let idle = u32::try_from(idle.count()).unwrap_or(u32::MAX);
            self.blocks.insert(block.network, (block.clone(), idle));
            self.cluster.upsert_block(AddressBlock { addresses: block.addresses.saturating_sub(idle), ..block });
        }
        follows.wakes.insert(Wake::Placement(Trigger::HostChange));
    }

    /// Somebody says that the machine is gone: so are its microVMs.
    pub(super) fn lose_host(&mut self, host: &Host, follows: &mut Consequences) {
        let name = HostName::new(host.name_any());
        for block in self.hosts.remove(&name).unwrap_or_default() {
            self.blocks.remove(&block);
            self.cluster.remove_block(&block);
        }
        self.cluster.remove_host(&name);
        let lost = self.places.values().filter(|place| place.is_written && place.taken.booking.host == name);
        follows.orphans.extend(lost.map(|place| Orphan { node: place.node.clone(), pod: place.taken.pod.clone() }));
    }

    pub(super) fn take_subnet(&mut self, seen: Seen<Subnet>, follows: &mut Consequences) {
        match seen {
            Seen::Is(subnet) => {
                if let Some(cidr) = subnet.network() {
                    let (name, zone) = (SubnetName::new(subnet.name_any()), Zone::new(&*subnet.spec.zone));
                    self.cluster.upsert_subnet(monopod_policy::placement::Subnet { name, zone, cidr });
                }
                self.subnets.insert(subnet.name_any(), *subnet);
            }
            Seen::Gone(subnet) => {
                self.cluster.remove_subnet(&SubnetName::new(subnet.name_any()));
                self.subnets.remove(&subnet.name_any());
            }
        }
        follows.wakes.extend([Wake::Placement(Trigger::HostChange), Wake::Profile]);
    }
}
