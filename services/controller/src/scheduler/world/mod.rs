//! What the scheduler believes of the cluster, and what follows for a Pod. No I/O, no clock: watches tell it of changes,
//! the loop asks it about Pods and tells it what has become of its answers.
//!
//! Nodes are the record of what is taken: a Pod is booked from the moment it is placed here, and until its Node is gone.
//! A Pod that has ended keeps its address as long as its Node is there, and gives the rest back.

mod hosts;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::ResourceExt as _;
use monopod_api::{FargateProfile, MicrovmPod, Subnet, names};
use monopod_policy::admission::Storage;
use monopod_policy::decision::{Outcome, Snapshot, decide};
use monopod_policy::placement::{AddressBlock, Booking, Cluster, CommonLabels, PodRequest, ProfileRules, Trigger};
use monopod_policy::profile::WithoutPhase;
use monopod_policy::record::{self, Record, Taken, default_domain, free_address};
use monopod_policy::sizing::Size;
use monopod_types::{HostName, PodUid, ProfileName};

use super::facts::{has_ended, ignored, is_ignored, profile_rules, uid, waiting, waits};
use super::watches::{Change, Seen};

/// What may make a Pod that waits worth another look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wake {
    Placement(Trigger),
    /// A profile came, changed or went.
    Profile,
    /// A claim or a volume did.
    Storage,
}

/// What is to be done about a Pod.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is to be placed; its place is booked.
    Place(Box<Record>, Box<Size>),
    /// It has a Node already and only lacks its Binding.
    Bind(Box<Unbound>),
    /// It waits, for one of these.
    Wait { reason: String, message: String, wakes: BTreeSet<Wake> },
    /// There is nothing to do: it is gone, bound, or ended.
    Nothing,
}

impl Answer {
    /// Until a profile changes, nothing can be said about a Pod.
    fn unreadable(message: &str) -> Self {
        let (reason, wakes) = ("ProfilesUnreadable".to_owned(), BTreeSet::from([Wake::Profile]));
        Self::Wait { reason, message: message.to_owned(), wakes }
    }
}

/// A Pod whose Node was made before the Binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unbound {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) uid: PodUid,
    pub(crate) node: String,
}

/// What a change asks for.
#[derive(Debug, Default)]
pub(crate) struct Consequences {
    /// Pods to look at.
    pub(crate) look_at: BTreeSet<PodUid>,
    /// What may help Pods that wait.
    pub(crate) wakes: BTreeSet<Wake>,
    /// Nodes whose Pods are gone.
    pub(crate) orphans: Vec<Orphan>,
    /// Pods that have lost the label by which their host finds them.
    pub(crate) unlabelled: Vec<Unlabelled>,
}

/// A Pod whose labels do not say where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unlabelled {
    pub(crate) pod: MicrovmPod,
    pub(crate) host: HostName,
}

/// A Node whose Pod is gone, or whose Host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orphan {
    pub(crate) node: String,
    pub(crate) pod: MicrovmPod,
}

/// A place that is taken.
#[derive(Clone, Debug)]
struct Place {
    node: String,
    taken: Taken,
    /// The Node is there; before, the place is only booked.
    is_written: bool,
    /// Somebody removed the Node while the Pod was bound to it: it may still run.
    is_bare: bool,
    /// The Pod has ended, and holds only its address.
    is_idle: bool,
}

/// Everything that is known.
pub(crate) struct World {
    common: CommonLabels,
    cluster: Cluster,
    pods: HashMap<PodUid, Arc<Pod>>,
    places: HashMap<PodUid, Place>,
    addresses: BTreeMap<IpNet, BTreeSet<IpAddr>>,
    /// Of each block: its subnet and host, and how many of its addresses idle Pods hold.
    blocks: BTreeMap<IpNet, (AddressBlock, u32)>,
    hosts: BTreeMap<HostName, BTreeSet<IpNet>>,
    subnets: BTreeMap<String, Subnet>,
    profiles: BTreeMap<String, FargateProfile>,
    claims: BTreeMap<(String, String), PersistentVolumeClaim>,
    volumes: BTreeMap<String, PersistentVolume>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (pods, places) = (self.pods.len(), self.places.len());
        f.debug_struct("World").field("pods", &pods).field("places", &places).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(common: CommonLabels) -> Self {
        Self {
            cluster: Cluster::new(common.clone()),
            common,
            pods: HashMap::new(),
            places: HashMap::new(),
            addresses: BTreeMap::new(),
            blocks: BTreeMap::new(),
            hosts: BTreeMap::new(),
            subnets: BTreeMap::new(),
            profiles: BTreeMap::new(),
            claims: BTreeMap::new(),
            volumes: BTreeMap::new(),
        }
    }

    /// Labels that all nodes have.
    pub(crate) fn common(&self) -> &CommonLabels {
        &self.common
    }

    /// A Pod that is known.
    pub(crate) fn pod(&self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.pods.get(uid).cloned()
    }

    /// How many Pods, and how many places are taken.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.pods.len(), self.places.len())
    }

    /// Nodes on hosts that are not known, once all hosts are.
    pub(crate) fn homeless(&self) -> Vec<Orphan> {
        let lost = self.places.values().filter(|place| !self.hosts.contains_key(&place.taken.booking.host));
        lost.map(|place| Orphan { node: place.node.clone(), pod: place.taken.pod.clone() }).collect()
    }

    /// Takes a change; what follows from it.
    pub(crate) fn apply(&mut self, change: Change) -> Consequences {
        let mut follows = Consequences::default();
        match change {
            Change::Pod(Seen::Is(pod)) => self.see_pod(*pod, &mut follows),
            Change::Pod(Seen::Gone(pod)) => self.lose_pod(&pod, &mut follows),
            Change::Node(Seen::Is(node)) => self.see_node(&node, &mut follows),
            Change::Node(Seen::Gone(node)) => self.lose_node(&node, &mut follows),
            Change::Host(Seen::Is(host)) => self.see_host(&host, &mut follows),
            Change::Host(Seen::Gone(host)) => self.lose_host(&host, &mut follows),
            Change::Subnet(seen) => self.take_subnet(seen, &mut follows),
            Change::Profile(seen) => {
                match seen {
                    Seen::Is(profile) => self.profiles.insert(profile.name_any(), *profile),
                    Seen::Gone(profile) => self.profiles.remove(&profile.name_any()),
                };
                follows.wakes.extend([Wake::Profile, Wake::Placement(Trigger::ProfileChange)]);
            }
            Change::Claim(seen) => {
                let key = |claim: &PersistentVolumeClaim| (claim.namespace().unwrap_or_default(), claim.name_any());
                match seen {
                    Seen::Is(claim) => self.claims.insert(key(&claim), *claim),
                    Seen::Gone(claim) => self.claims.remove(&key(&claim)),
                };
                follows.wakes.insert(Wake::Storage);
            }
            Change::Volume(seen) => {
                match seen {
                    Seen::Is(volume) => self.volumes.insert(volume.name_any(), *volume),
                    Seen::Gone(volume) => self.volumes.remove(&volume.name_any()),
                };
                follows.wakes.insert(Wake::Storage);
            }
            Change::Namespace(Seen::Is(namespace)) => {
                let labels = namespace.labels().clone();
                self.cluster.upsert_namespace(&namespace.name_any(), labels);
                follows.wakes.insert(Wake::Placement(Trigger::NamespaceChange));
            }
            Change::Namespace(Seen::Gone(namespace)) => self.cluster.remove_namespace(&namespace.name_any()),
        }
        follows
    }

    /// What is to be done about each of these Pods.
    pub(crate) fn answer(&mut self, uids: &[PodUid]) -> Vec<(PodUid, Answer)> {
        // Moved out, so that what is read from them can be used while places are booked.
        let (profiles, subnets) = (std::mem::take(&mut self.profiles), std::mem::take(&mut self.subnets));
        let (claims, volumes) = (std::mem::take(&mut self.claims), std::mem::take(&mut self.volumes));
        let all_subnets: Vec<Subnet> = subnets.values().cloned().collect();
        let snapshot = Snapshot::new(profiles.values(), WithoutPhase::Pending, &all_subnets);
        let answers = match snapshot {
            Ok(snapshot) => {
                let storage = Storage::new(claims.values(), volumes.values());
                let snapshot = snapshot.with_storage(storage).with_region(self.common.region.clone());
                let answer = |uid: &PodUid| (uid.clone(), self.answer_one(uid, &snapshot, &profiles, &subnets));
                uids.iter().map(answer).collect()
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "profiles cannot be read");
                let message = format!("profiles cannot be read: {error}");
                uids.iter().map(|uid| (uid.clone(), Answer::unreadable(&message))).collect()
            }
        };
        (self.profiles, self.subnets, self.claims, self.volumes) = (profiles, subnets, claims, volumes);
        answers
    }

    fn answer_one(
        &mut self,
        uid: &PodUid,
        snapshot: &Snapshot<'_>,
        profiles: &BTreeMap<String, FargateProfile>,
        subnets: &BTreeMap<String, Subnet>,
    ) -> Answer {
        let Some(pod) = self.pods.get(uid).cloned().filter(|pod| waits(pod)) else { return Answer::Nothing };
        if let Some(place) = self.places.get(uid) {
            if !place.is_written {
                return Answer::Nothing;
            }
            let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
            return Answer::Bind(Box::new(Unbound {
                namespace,
                pod: name,
                uid: uid.clone(),
                node: place.node.clone(),
            }));
        }
        let decision = decide(&pod, snapshot);
        match (decision.outcome(), decision.choice.taker, decision.size.as_ref()) {
            (_, Some(profile), _) if is_ignored(&pod, profile, profiles) => ignored(profile),
            (Outcome::Runs, Some(profile), Ok(size)) => {
                let rules = profile_rules(profile, profiles);
                self.place(&pod, rules, size, subnets)
            }
            _ => waiting(&decision),
        }
    }

    fn place(&mut self, pod: &Pod, profile: ProfileRules, size: &Size, subnets: &BTreeMap<String, Subnet>) -> Answer {
        let resources = record::resources(size);
        let name = profile.name.clone();
        let request = match PodRequest::parse(pod, profile, resources) {
            Ok(request) => request,
            Err(error) => {
                return Answer::Wait {
                    reason: error.reason().to_owned(),
                    message: error.to_string(),
                    wakes: BTreeSet::new(),
                };
            }
        };
        let placement = match self.cluster.place(&request) {
            Ok(placement) => placement,
            Err(refusal) => {
                let wakes = refusal.retry_after().into_iter().map(Wake::Placement).collect();
                return Answer::Wait { reason: refusal.reason().to_owned(), message: refusal.to_string(), wakes };
            }
        };
        let taken = self.addresses.entry(placement.block).or_default();
        let Some(address) = free_address(&placement.block, taken) else {
            let message = format!("address block {} of host {} has no free address", placement.block, placement.host);
            let wakes = BTreeSet::from([Wake::Placement(Trigger::AddressFreed)]);
            return Answer::Wait { reason: "NoAddress".to_owned(), message, wakes };
        };
        let domain = subnets.get(placement.subnet.as_str()).and_then(|subnet| subnet.spec.dns.domain.clone());
        let domain = domain.unwrap_or_else(|| default_domain(&self.common.region));
        match Record::new(pod, &name, resources, &placement, address, &domain) {
            Ok(record) => {
                self.book(&record, request);
                Answer::Place(Box::new(record), Box::new(*size))
            }
            Err(error) => {
                let wakes = BTreeSet::from([Wake::Placement(Trigger::HostChange)]);
                Answer::Wait { reason: error.reason().to_owned(), message: error.to_string(), wakes }
            }
        }
    }

    fn book(&mut self, record: &Record, request: PodRequest) {
        let booking = Booking { host: record.host.clone(), block: record.block };
        self.addresses.entry(record.block).or_default().insert(record.address);
        self.cluster.book(request, booking.clone());
        let pod = MicrovmPod {
            namespace: record.namespace.clone(),
            name: record.pod.clone(),
            uid: record.uid.as_str().to_owned(),
            profile: record.profile.as_str().to_owned(),
        };
        let taken = Taken { pod, booking, address: record.address, size: record.size };
        let place =
            Place { node: record.node.as_str().to_owned(), taken, is_written: false, is_bare: false, is_idle: false };
        self.places.insert(record.uid.clone(), place);
    }

    /// Gives a place back that was booked and never written.
    pub(crate) fn give_up(&mut self, uid: &PodUid) -> BTreeSet<Wake> {
        if self.places.get(uid).is_none_or(|place| place.is_written) {
            return BTreeSet::new();
        }
        self.release(uid)
    }

    /// An address turned out to be taken, by a Node that we have not heard of yet: it is not given again until then.
    pub(crate) fn avoid(&mut self, block: IpNet, address: IpAddr) {
        self.addresses.entry(block).or_default().insert(address);
    }

    fn release(&mut self, uid: &PodUid) -> BTreeSet<Wake> {
        let Some(place) = self.places.remove(uid) else { return BTreeSet::new() };
        let block = place.taken.booking.block;
        if let Some(addresses) = self.addresses.get_mut(&block) {
            addresses.remove(&place.taken.address);
        }
        if place.is_idle {
            self.count_idle(block, |idle| idle.saturating_sub(1));
        }
        self.cluster.release(uid);
        [Trigger::PodGone, Trigger::AddressFreed].map(Wake::Placement).into()
    }

    fn see_pod(&mut self, pod: Pod, follows: &mut Consequences) {
        let Some(uid) = uid(&pod) else { return };
        let pod = Arc::new(pod);
        let before = self.pods.insert(uid.clone(), Arc::clone(&pod));
        let is_new = before.is_none();
        if let Some(place) = self.places.get(&uid).cloned() {
            let host = pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::HOST_LABEL));
            if place.is_written && host.map(String::as_str) != Some(place.taken.booking.host.as_str()) {
                let (pod, host) = (place.taken.pod.clone(), place.taken.booking.host.clone());
                follows.unlabelled.push(Unlabelled { pod, host });
            }
            if has_ended(&pod) && place.is_bare {
                follows.wakes.extend(self.release(&uid));
            } else if has_ended(&pod) {
                self.make_idle(&uid, follows);
            } else if is_new || before.is_some_and(|before| before.metadata.labels != pod.metadata.labels) {
                self.rebook(&uid, &place);
            }
        }
        if waits(&pod) {
            follows.look_at.insert(uid);
        }
    }

    /// Counts what a Pod has, with its own labels and rules.
    fn rebook(&mut self, uid: &PodUid, place: &Place) {
        let pod = self.pods.get(uid).cloned();
        let profile = ProfileRules { name: ProfileName::new(&*place.taken.pod.profile), subnets: BTreeSet::new() };
        let bare = || Pod {
            metadata: kube::api::ObjectMeta {
                namespace: Some(place.taken.pod.namespace.clone()),
                name: Some(place.taken.pod.name.clone()),
                uid: Some(uid.as_str().to_owned()),
                ..kube::api::ObjectMeta::default()
            },
            ..Pod::default()
        };
        let parsed = pod.and_then(|pod| PodRequest::parse(&pod, profile.clone(), place.taken.size).ok());
        // A Pod that cannot be read, or is not known yet, takes its place all the same.
        let request = parsed.or_else(|| PodRequest::parse(&bare(), profile, place.taken.size).ok());
        if let Some(request) = request {
            self.cluster.book(request, place.taken.booking.clone());
        }
    }

    fn make_idle(&mut self, uid: &PodUid, follows: &mut Consequences) {
        let Some(place) = self.places.get_mut(uid).filter(|place| !place.is_idle) else { return };
        place.is_idle = true;
        let block = place.taken.booking.block;
        self.cluster.release(uid);
        self.count_idle(block, |idle| idle.saturating_add(1));
        follows.wakes.insert(Wake::Placement(Trigger::PodGone));
    }

    fn count_idle(&mut self, network: IpNet, change: impl FnOnce(u32) -> u32) {
        if let Some((block, idle)) = self.blocks.get_mut(&network) {
            *idle = change(*idle);
            let addresses = block.addresses.saturating_sub(*idle);
            self.cluster.upsert_block(AddressBlock { addresses, ..block.clone() });
        }
    }

    fn lose_pod(&mut self, pod: &Pod, follows: &mut Consequences) {
        let Some(uid) = uid(pod) else { return };
        self.pods.remove(&uid);
        if self.places.get(&uid).is_some_and(|place| place.is_bare) {
            follows.wakes.extend(self.release(&uid));
        } else if let Some(place) = self.places.get(&uid).filter(|place| place.is_written) {
            follows.orphans.push(Orphan { node: place.node.clone(), pod: place.taken.pod.clone() });
        }
    }

    fn see_node(&mut self, node: &Node, follows: &mut Consequences) {
        let taken = match record::read(node) {
            Ok(taken) => taken,
            Err(record::ReadError::NotOurs { .. }) => return,
            Err(error) => {
                tracing::warn!(
                    node = node.name_any(),
                    error = &error as &dyn std::error::Error,
                    "a node is passed over"
                );
                return;
            }
        };
        let uid = PodUid::new(&*taken.pod.uid);
        let (block, address) = (taken.booking.block, taken.address);
        let known = self.places.get(&uid).is_some_and(|place| place.is_written);
        let is_same = self.places.get(&uid).is_some_and(|place| place.taken == taken);
        if known && is_same {
            self.places.entry(uid).and_modify(|place| place.is_bare = false);
            return;
        }
        let was_booked = is_same;
        let place = Place { node: node.name_any(), taken, is_written: true, is_bare: false, is_idle: false };
        self.addresses.entry(block).or_default().insert(address);
        self.places.insert(uid.clone(), place.clone());
        if !was_booked {
            self.rebook(&uid, &place);
        }
        match self.pods.get(&uid).cloned() {
            Some(pod) if has_ended(&pod) => self.make_idle(&uid, follows),
            Some(pod) if waits(&pod) => drop(follows.look_at.insert(uid)),
            Some(_) => {}
            None => follows.orphans.push(Orphan { node: place.node, pod: place.taken.pod }),
        }
        follows.wakes.insert(Wake::Placement(Trigger::PodPlaced));
    }

    fn lose_node(&mut self, node: &Node, follows: &mut Consequences) {
        let Ok(taken) = record::read(node) else { return };
        let uid = PodUid::new(&*taken.pod.uid);
        let Some(place) = self.places.get_mut(&uid).filter(|place| place.node == node.name_any()) else { return };
        let pod = self.pods.get(&uid);
        // Its microVM runs until the Pod is removed, which Kubernetes does to Pods without a Node after a while.
        if pod.is_some_and(|pod| !waits(pod) && !has_ended(pod)) {
            place.is_bare = true;
            return;
        }
        // A Pod that lost its Node before it was bound begins anew.
        let begins_anew = pod.is_some();
        follows.wakes.extend(self.release(&uid));
        if begins_anew {
            follows.look_at.insert(uid);
        }
    }
}
