//! Placement equals the model that tries every host, and the index equals one built from scratch.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use monopod_types::{PodUid, Zone};
use proptest::prelude::*;

use super::fixtures::common;
use super::generate::{Change, Dice, any_case, change, opening};
use super::model::{Case, World};
use crate::placement::ranking::Seat;
use crate::placement::{Cluster, Placement, PodRequest, Refusal, Trigger};

fn request(case: &Case) -> PodRequest {
    PodRequest::parse(&case.pod, case.profile.clone(), case.size).unwrap()
}

/// Both readings of the state, changed in step.
struct Pair {
    cluster: Cluster,
    world: World,
}

impl Pair {
    fn new() -> Self {
        Self { cluster: Cluster::new(common()), world: World::default() }
    }

    fn apply(&mut self, change: Change) {
        let Self { cluster, world } = self;
        match change {
            Change::Host(host) => {
                world.hosts.insert(host.name.to_string(), host.clone());
                cluster.upsert_host(host);
            }
            Change::NoHost(name) => {
                world.hosts.remove(&name);
                cluster.remove_host(&name.as_str().into());
            }
            Change::Subnet(subnet) => {
                world.subnets.insert(subnet.name.to_string(), subnet.clone());
                cluster.upsert_subnet(subnet);
            }
            Change::NoSubnet(name) => {
                world.subnets.remove(&name);
                cluster.remove_subnet(&name.as_str().into());
            }
            Change::Block(block) => {
                world.blocks.insert(block.network.to_string(), block.clone());
                cluster.upsert_block(block);
            }
            Change::NoBlock(block) => {
                world.blocks.remove(&block.network.to_string());
                cluster.remove_block(&block.network);
            }
            Change::Namespace(name, team) => {
                let labels = BTreeMap::from([("team".to_owned(), team)]);
                world.namespaces.insert(name.clone(), labels.clone());
                cluster.upsert_namespace(&name, labels);
            }
            Change::NoNamespace(name) => {
                world.namespaces.remove(&name);
                cluster.remove_namespace(&name);
            }
            Change::Place(case) => self.place(case),
            Change::Book(case, booking) => {
                world.pods.insert(case.pod.metadata.uid.clone().unwrap(), (case.clone(), booking.clone()));
                cluster.book(request(&case), booking);
            }
            Change::Release(uid) => {
                let was_booked = world.pods.remove(&uid).is_some();
                assert_eq!(cluster.release(&PodUid::new(uid)), was_booked);
            }
        }
    }

    fn place(&mut self, case: Case) {
        let uid = case.pod.metadata.uid.clone().unwrap();
        self.apply(Change::Release(uid));
        if let Some(placement) = self.check(&case) {
            self.apply(Change::Book(case, placement.booking()));
        }
    }

    /// Both readings agree on whether and where the Pod fits.
    fn check(&self, case: &Case) -> Option<Placement> {
        let answer = self.cluster.place(&request(case));
        let expected = self.world.best(case);
        let found = answer.as_ref().ok().map(|placement| {
            let score = placement.score;
            (
                score.preference,
                Reverse(score.spread),
                Reverse(score.zone_pods as usize),
                score.headroom.millionths(),
                Reverse(placement.host.to_string()),
            )
        });
        assert_eq!(found, expected, "answer {answer:?}");
        match answer {
            Ok(placement) => {
                self.check_block(case, &placement);
                Some(placement)
            }
            Err(refusal) => {
                self.check_refusal(&refusal);
                None
            }
        }
    }

    fn check_block(&self, case: &Case, placement: &Placement) {
        let host = &self.world.hosts[placement.host.as_str()];
        assert_eq!(placement.zone, host.zone);
        let given = self.world.blocks.values().filter(|block| self.world.gives_address(case, host, block));
        let best = given.max_by_key(|block| (self.world.free_addresses(block), Reverse(block.network))).unwrap();
        assert_eq!((placement.block, &placement.subnet), (best.network, &best.subnet));
    }

    /// Every host is accounted for, and there is an event to wait for.
    fn check_refusal(&self, refusal: &Refusal) {
        assert!(refusal.retry_after().contains(&Trigger::HostChange));
        let causes = match refusal {
            Refusal::NoHosts => {
                assert!(self.world.hosts.is_empty());
                return;
            }
            Refusal::UnsupportedZone { zones } => {
                assert!(!self.world.hosts.values().any(|host| zones.contains(&host.zone)));
                return;
            }
            Refusal::NoSubnet { causes }
            | Refusal::NodeSelector { causes, .. }
            | Refusal::NoCapacity { causes }
            | Refusal::NoAddress { causes }
            | Refusal::Constraints { causes } => causes,
        };
        assert_eq!(causes.iter().map(|(_, hosts)| hosts).sum::<usize>(), self.world.hosts.len());
    }

    /// The cluster as it would be had it been told of the state at once, Pods first.
    fn rebuilt(&self) -> Cluster {
        let mut cluster = Cluster::new(common());
        for (case, booking) in self.world.pods.values().rev() {
            cluster.book(request(case), booking.clone());
        }
        for (name, labels) in &self.world.namespaces {
            cluster.upsert_namespace(name, labels.clone());
        }
        self.world.blocks.values().for_each(|block| cluster.upsert_block(block.clone()));
        self.world.hosts.values().rev().for_each(|host| cluster.upsert_host(host.clone()));
        self.world.subnets.values().for_each(|subnet| cluster.upsert_subnet(subnet.clone()));
        cluster
    }
}

/// The ranked hosts of each class, without the order of leaves, which is history.
fn seats(cluster: &Cluster) -> Vec<(&Zone, Vec<&str>, Vec<&Seat>)> {
    let classes = cluster.classes.iter().map(|(class, ranking)| {
        let mut seats: Vec<&Seat> = ranking.seats().collect();
        seats.sort_by_key(|seat| &seat.host);
        (&class.zone, class.subnets.iter().map(|subnet| subnet.as_str()).collect(), seats)
    });
    classes.collect()
}

fn assert_same_index(left: &Cluster, right: &Cluster) {
    assert_eq!(seats(left), seats(right));
    assert_eq!(left.counts, right.counts);
    assert_eq!(left.sites, right.sites);
    assert_eq!(left.hosts.keys().collect::<Vec<_>>(), right.hosts.keys().collect::<Vec<_>>());
    for name in left.hosts.keys() {
        assert_eq!(left.free(name), right.free(name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    /// Through any history, a Pod is placed exactly when the model finds a host, and on the best one.
    #[test]
    fn a_pod_gets_the_best_of_all_hosts_and_none_only_when_none_fits(
        drawn in proptest::collection::vec(any::<u16>(), 200..900),
    ) {
        let mut dice = Dice::new(drawn);
        let mut pair = Pair::new();
        opening(&mut dice).into_iter().for_each(|change| pair.apply(change));
        while !dice.is_used_up() {
            pair.apply(change(&mut dice));
            let case = any_case(&mut dice);
            if !pair.world.pods.contains_key(case.pod.metadata.uid.as_ref().unwrap()) {
                pair.check(&case);
            }
        }
    }

    /// What is booked and released one by one is what a fresh start would compute.
    #[test]
    fn the_index_equals_one_built_from_scratch(drawn in proptest::collection::vec(any::<u16>(), 200..900)) {
        let mut dice = Dice::new(drawn);
        let mut pair = Pair::new();
        opening(&mut dice).into_iter().for_each(|change| pair.apply(change));
        while !dice.is_used_up() {
            pair.apply(change(&mut dice));
        }
        assert_same_index(&pair.cluster, &pair.rebuilt());
        for uid in pair.world.pods.keys().cloned().collect::<Vec<_>>() {
            pair.apply(Change::Release(uid));
        }
        assert_same_index(&pair.cluster, &pair.rebuilt());
        for host in pair.world.hosts.values() {
            prop_assert_eq!(pair.cluster.free(&host.name), Some(host.total));
        }
    }
}
