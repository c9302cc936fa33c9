//! The state that placement decides on, kept as an index: changes come in one at a time, each costs O(log hosts).
//!
//! Changes may come in any order, as watches deliver them: a booking may name a host or a block that is not known yet,
//! and counts as soon as it is. The index of one state is the same, whatever the history that led to it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use monopod_types::{HostName, PodUid, SubnetName, Zone};

use super::counts::{Counts, Spot, Step, Tally};
use super::ranking::{Ranking, Seat};
use super::request::PodRequest;
use super::resources::{Headroom, Resources};
use super::selector::{Labels, PodFilter};
use crate::requirements::{LabelValue, NodeLabels};

/// A machine that runs microVMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Name of the `Host` object.
    pub name: HostName,
    /// Failure domain.
    pub zone: Zone,
    /// Subnets whose addresses it can serve.
    pub subnets: BTreeSet<SubnetName>,
    /// Whether it is to take no more Pods (`spec.unschedulable`).
    pub unschedulable: bool,
    /// Whether it is alive and able to start microVMs.
    pub ready: bool,
    /// What all its microVMs may take together. What is free follows from the bookings.
    pub total: Resources,
}

impl Host {
    /// Whether it takes Pods at all.
    pub(super) fn is_open(&self) -> bool {
        self.ready && !self.unschedulable
    }
}

/// A range of addresses in one zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Name of the `Subnet` object.
    pub name: SubnetName,
    /// Failure domain; hosts of other zones cannot serve it.
    pub zone: Zone,
    /// Its addresses.
    pub cidr: IpNet,
}

/// A part of a subnet, handed to one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    /// Its addresses; two blocks never overlap, so this is also its identity.
    pub network: IpNet,
    /// The subnet it is part of.
    pub subnet: SubnetName,
    /// The host that owns it.
    pub host: HostName,
    /// How many Pods can have an address of it. What is free follows from the bookings.
    pub addresses: u32,
}

/// Where a Pod is, for [`Cluster::book`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Booking {
    /// The host that runs it.
    pub host: HostName,
    /// The block that its address is from.
    pub block: IpNet,
}

/// Hosts among which the first question of a placement, zone and subnet, has one answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Class {
    pub(super) zone: Zone,
    /// Subnets in which the hosts have a free address now.
    pub(super) subnets: BTreeSet<SubnetName>,
}

/// Hosts that offer the same zone and subnets, used up or not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Site {
    pub(super) zone: Zone,
    pub(super) subnets: BTreeSet<SubnetName>,
}

/// How many hosts a site has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SiteSize {
    pub(super) all: usize,
    /// Those that are ready and schedulable.
    pub(super) open: usize,
}

/// What is known of one host: from its object, its bookings and its blocks, whichever came first.
#[derive(Clone, Debug, Default)]
pub(super) struct HostRecord {
    pub(super) host: Option<Host>,
    pub(super) booked: Resources,
    pods: BTreeSet<PodUid>,
    blocks: BTreeSet<IpNet>,
    /// Its class and its leaf there, while it takes Pods.
    seat: Option<(Class, usize)>,
}

impl HostRecord {
    pub(super) fn free(&self, host: &Host) -> Resources {
        host.total.minus(self.booked)
    }

    fn is_unknown(&self) -> bool {
        self.host.is_none() && self.pods.is_empty() && self.blocks.is_empty()
    }
}

/// What is known of one block.
#[derive(Clone, Debug, Default)]
struct BlockRecord {
    block: Option<AddressBlock>,
    booked: u32,
}

/// A booked Pod.
#[derive(Clone, Debug)]
struct Booked {
    pod: PodRequest,
    at: Booking,
}

/// Labels that all microVM nodes of a cluster share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommonLabels {
    /// Value of the region labels.
    pub region: String,
    /// Value of the architecture labels, in Kubernetes' spelling: `amd64`, `arm64`.
    pub architecture: String,
}

impl CommonLabels {
    /// The labels that a Pod's node gets in `zone`, on a host of which `host` is known.
    pub(super) fn node<'a>(&'a self, zone: &'a Zone, host: LabelValue<'a>) -> NodeLabels<'a> {
        NodeLabels {
            zone: LabelValue::Is(zone.as_str()),
            region: LabelValue::Is(&self.region),
            architecture: LabelValue::Is(&self.architecture),
            host,
        }
    }
}

/// Hosts, subnets, blocks and booked Pods.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) common: CommonLabels,
    pub(super) hosts: BTreeMap<HostName, HostRecord>,
    pub(super) subnets: BTreeMap<SubnetName, Subnet>,
    blocks: BTreeMap<IpNet, BlockRecord>,
    namespaces: BTreeMap<String, Labels>,
    pods: BTreeMap<PodUid, Booked>,
    pods_by_namespace: BTreeMap<String, BTreeSet<PodUid>>,
    pub(super) counts: Counts,
    pub(super) classes: BTreeMap<Class, Ranking>,
    pub(super) sites: BTreeMap<Site, SiteSize>,
}

/// Labels of a namespace that is not known.
static NO_LABELS: Labels = Labels::new();

impl Cluster {
    /// A cluster of no hosts.
    pub fn new(common: CommonLabels) -> Self {
        Self {
            common,
            hosts: BTreeMap::new(),
            subnets: BTreeMap::new(),
            blocks: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            pods: BTreeMap::new(),
            pods_by_namespace: BTreeMap::new(),
            counts: Counts::default(),
            classes: BTreeMap::new(),
            sites: BTreeMap::new(),
        }
    }

    /// Takes a new or changed host.
    pub fn upsert_host(&mut self, host: Host) {
        let name = host.name.clone();
        self.replace_host(&name, Some(host));
    }

    /// Forgets a host. Bookings on it stay until they are released; they count again when the host returns.
    pub fn remove_host(&mut self, name: &HostName) {
        self.replace_host(name, None);
    }

    /// Takes a new or changed subnet.
    pub fn upsert_subnet(&mut self, subnet: Subnet) {
        let name = subnet.name.clone();
        self.subnets.insert(name.clone(), subnet);
        self.refresh_hosts_of_subnet(&name);
    }

    /// Forgets a subnet; its blocks give no more addresses.
    pub fn remove_subnet(&mut self, name: &SubnetName) {
        self.subnets.remove(name);
        self.refresh_hosts_of_subnet(name);
    }

    /// Takes a new or changed block.
    pub fn upsert_block(&mut self, block: AddressBlock) {
        self.replace_block(block.network, Some(block));
    }

    /// Forgets a block. Bookings in it stay until they are released.
    pub fn remove_block(&mut self, network: &IpNet) {
        self.replace_block(*network, None);
    }

    /// Takes the labels of a namespace, which `namespaceSelector` asks for.
    pub fn upsert_namespace(&mut self, name: &str, labels: BTreeMap<String, String>) {
        self.replace_namespace(name, Some(labels));
    }

    /// Forgets the labels of a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.replace_namespace(name, None);
    }

    /// Records that a Pod is at a place, replacing what was booked for it before. A fact, not a question: it is booked
    /// even where the place is full or unknown, as bookings read back from the cluster may be.
    pub fn book(&mut self, pod: PodRequest, at: Booking) {
        self.release(&pod.uid);
        for filter in pod.filters() {
            let mut counts = std::mem::take(&mut self.counts);
            counts.watch(filter, || self.count(filter));
            self.counts = counts;
        }
        let uid = pod.uid.clone();
        self.pods_by_namespace.entry(pod.namespace.clone()).or_default().insert(uid.clone());
        let record = self.hosts.entry(at.host.clone()).or_default();
        record.pods.insert(uid.clone());
        record.booked = record.booked.plus(pod.size);
        self.blocks.entry(at.block).or_default().booked += 1;
        self.pods.insert(uid.clone(), Booked { pod, at: at.clone() });
        self.step_pod(Step::Comes, &uid);
        self.refresh_booked(&at);
    }

    /// Forgets a Pod; answers whether it was booked.
    pub fn release(&mut self, uid: &PodUid) -> bool {
        self.step_pod(Step::Goes, uid);
        let Some(Booked { pod, at }) = self.pods.remove(uid) else { return false };
        for filter in pod.filters() {
            self.counts.unwatch(filter);
        }
        if let Some(pods) = self.pods_by_namespace.get_mut(&pod.namespace) {
            pods.remove(uid);
            if pods.is_empty() {
                self.pods_by_namespace.remove(&pod.namespace);
            }
        }
        if let Some(record) = self.hosts.get_mut(&at.host) {
            record.pods.remove(uid);
            record.booked = record.booked.minus(pod.size);
        }
        if let Some(record) = self.blocks.get_mut(&at.block) {
            record.booked -= 1;
        }
        self.refresh_booked(&at);
        true
    }

    /// Where a Pod is booked.
    pub fn booking(&self, uid: &PodUid) -> Option<&Booking> {
        self.pods.get(uid).map(|booked| &booked.at)
    }

    /// What is free on a host, `None` for a host that is not known.
    pub fn free(&self, name: &HostName) -> Option<Resources> {
        let record = self.hosts.get(name)?;
        record.host.as_ref().map(|host| record.free(host))
    }

    /// Addresses that are free in a block, `None` for a block that is not known.
    pub fn free_addresses(&self, network: &IpNet) -> Option<u32> {
        let record = self.blocks.get(network)?;
        record.block.as_ref().map(|block| block.addresses.saturating_sub(record.booked))
    }

    /// All hosts that are known, by name.
    pub(super) fn known_hosts(&self) -> impl Iterator<Item = (&HostRecord, &Host)> {
        self.hosts.values().filter_map(|record| Some((record, record.host.as_ref()?)))
    }

    pub(super) fn namespace_labels(&self, namespace: &str) -> &Labels {
        self.namespaces.get(namespace).unwrap_or(&NO_LABELS)
    }

    /// The blocks that a host can give addresses of, with how many are free. A block that lies outside its subnet, or
    /// whose subnet is not in the host's zone or not served by the host, gives none.
    pub(super) fn usable_blocks<'a>(
        &'a self,
        record: &'a HostRecord,
        host: &'a Host,
    ) -> impl Iterator<Item = (&'a AddressBlock, u32)> {
        record.blocks.iter().filter_map(|network| {
            let BlockRecord { block, booked } = self.blocks.get(network)?;
            let block = block.as_ref()?;
            let subnet = self.subnets.get(&block.subnet)?;
            let served = subnet.zone == host.zone && host.subnets.contains(&subnet.name);
            (served && subnet.cidr.contains(network)).then(|| (block, block.addresses.saturating_sub(*booked)))
        })
    }

    /// Counts the booked Pods that `filter` matches, one by one.
    pub(super) fn count(&self, filter: &PodFilter) -> Tally {
        let namespaces = match filter.home() {
            Some(home) => self.pods_by_namespace.get_key_value(home).into_iter().collect::<Vec<_>>(),
            None => self.pods_by_namespace.iter().collect(),
        };
        let mut tally = Tally::default();
        for (namespace, pods) in namespaces {
            let namespace_labels = self.namespace_labels(namespace);
            for Booked { pod, at } in pods.iter().filter_map(|uid| self.pods.get(uid)) {
                let Some(host) = self.hosts.get(&at.host).and_then(|record| record.host.as_ref()) else { continue };
                if filter.matches(&pod.subject(namespace_labels)) {
                    tally.step(Step::Comes, Spot { zone: &host.zone, host: &host.name });
                }
            }
        }
        tally
    }

    /// Counts a booked Pod in or out; one on an unknown host is in no domain.
    fn step_pod(&mut self, step: Step, uid: &PodUid) {
        let Some(Booked { pod, at }) = self.pods.get(uid) else { return };
        let Some(host) = self.hosts.get(&at.host).and_then(|record| record.host.as_ref()) else { return };
        let namespace_labels = self.namespaces.get(&pod.namespace).unwrap_or(&NO_LABELS);
        self.counts.step(step, pod, namespace_labels, Spot { zone: &host.zone, host: &host.name });
    }

    fn replace_host(&mut self, name: &HostName, new: Option<Host>) {
        let record = self.hosts.entry(name.clone()).or_default();
        let moves = record.host.as_ref().map(|host| &host.zone) != new.as_ref().map(|host| &host.zone);
        let pods: Vec<PodUid> = if moves { record.pods.iter().cloned().collect() } else { Vec::new() };
        for uid in &pods {
            self.step_pod(Step::Goes, uid);
        }
        let old = self.hosts.get_mut(name).and_then(|record| std::mem::replace(&mut record.host, new.clone()));
        self.step_site(Step::Goes, old.as_ref());
        self.step_site(Step::Comes, new.as_ref());
        for uid in &pods {
            self.step_pod(Step::Comes, uid);
        }
        self.refresh(name);
    }

    fn step_site(&mut self, step: Step, host: Option<&Host>) {
        let Some(host) = host else { return };
        let site = Site { zone: host.zone.clone(), subnets: host.subnets.clone() };
        let size = self.sites.entry(site.clone()).or_default();
        let open = usize::from(host.is_open());
        match step {
            Step::Comes => *size = SiteSize { all: size.all + 1, open: size.open + open },
            Step::Goes => *size = SiteSize { all: size.all - 1, open: size.open - open },
        }
        if size.all == 0 {
            self.sites.remove(&site);
        }
    }

    fn replace_block(&mut self, network: IpNet, new: Option<AddressBlock>) {
        let to = new.as_ref().map(|block| block.host.clone());
        let record = self.blocks.entry(network).or_default();
        let from = std::mem::replace(&mut record.block, new).map(|block| block.host);
        self.drop_unknown_block(&network);
        if let Some(host) = &from {
            self.hosts.entry(host.clone()).or_default().blocks.remove(&network);
        }
        if let Some(host) = &to {
            self.hosts.entry(host.clone()).or_default().blocks.insert(network);
        }
        from.iter().chain(&to).for_each(|host| self.refresh(host));
    }

    fn replace_namespace(&mut self, name: &str, new: Option<Labels>) {
        let pods: Vec<PodUid> = self.pods_by_namespace.get(name).into_iter().flatten().cloned().collect();
        for uid in &pods {
            self.step_pod(Step::Goes, uid);
        }
        match new {
            Some(labels) => drop(self.namespaces.insert(name.to_owned(), labels)),
            None => drop(self.namespaces.remove(name)),
        }
        for uid in &pods {
            self.step_pod(Step::Comes, uid);
        }
    }

    fn refresh_hosts_of_subnet(&mut self, subnet: &SubnetName) {
        let blocks = self.blocks.values().filter_map(|record| record.block.as_ref());
        let hosts: BTreeSet<HostName> =
            blocks.filter(|block| block.subnet == *subnet).map(|block| block.host.clone()).collect();
        hosts.iter().for_each(|host| self.refresh(host));
    }

    /// The block of a booking belongs to its host, unless it was handed on since.
    fn refresh_booked(&mut self, at: &Booking) {
        let owner = self.blocks.get(&at.block).and_then(|record| record.block.as_ref()).map(|block| block.host.clone());
        self.drop_unknown_block(&at.block);
        self.refresh(&at.host);
        if let Some(owner) = owner.filter(|owner| *owner != at.host) {
            self.refresh(&owner);
        }
    }

    fn drop_unknown_block(&mut self, network: &IpNet) {
        if self.blocks.get(network).is_some_and(|record| record.block.is_none() && record.booked == 0) {
            self.blocks.remove(network);
        }
    }

    /// Brings a host's seat in line with what is known of the host.
    fn refresh(&mut self, name: &HostName) {
        let wanted = self.hosts.get(name).and_then(|record| self.wanted_seat(record));
        let Some(record) = self.hosts.get_mut(name) else { return };
        match (record.seat.take(), wanted) {
            (Some((class, leaf)), Some((wanted, seat))) if class == wanted => {
                if let Some(ranking) = self.classes.get_mut(&class) {
                    ranking.update(leaf, seat);
                }
                record.seat = Some((class, leaf));
            }
            (old, wanted) => {
                if let Some((class, leaf)) = old
                    && let Some(ranking) = self.classes.get_mut(&class)
                {
                    ranking.remove(leaf);
                    if ranking.is_empty() {
                        self.classes.remove(&class);
                    }
                }
                record.seat = wanted.map(|(class, seat)| {
                    let leaf = self.classes.entry(class.clone()).or_default().insert(seat);
                    (class, leaf)
                });
            }
        }
        if record.is_unknown() {
            self.hosts.remove(name);
        }
    }

    /// The seat that a host should have: none while it takes no Pods.
    fn wanted_seat(&self, record: &HostRecord) -> Option<(Class, Seat)> {
        let host = record.host.as_ref().filter(|host| host.is_open())?;
        let free = record.free(host);
        let with_address = self.usable_blocks(record, host).filter(|(_, addresses)| *addresses > 0);
        let subnets = with_address.map(|(block, _)| block.subnet.clone()).collect();
        let seat = Seat { host: host.name.clone(), free, headroom: Headroom::of(&free, &host.total) };
        Some((Class { zone: host.zone.clone(), subnets }, seat))
    }
}
