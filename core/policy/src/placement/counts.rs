//! Which Pods run in which failure domain, counted as Pods come and go so that no placement has to count them.
//!
//! A filter is counted for as long as a booked Pod uses it: the first replica of a workload pays for the counting, the
//! rest look the figures up. Filters are indexed by the namespace they are confined to, so a Pod is compared only with
//! filters that could match it.

use std::collections::BTreeMap;

use monopod_types::{HostName, ProfileName, Zone};

use super::request::{Neighbours, PodRequest, Topology};
use super::selector::{Labels, PodFilter, Subject};

/// Where a Pod runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot<'a> {
    pub(super) zone: &'a Zone,
    pub(super) host: &'a HostName,
}

/// One failure domain.
#[derive(Clone, Copy, Debug)]
pub(super) enum Domain<'a> {
    Zone(&'a Zone),
    Host(&'a HostName),
}

impl Domain<'_> {
    pub(super) fn topology(&self) -> Topology {
        match self {
            Self::Zone(_) => Topology::Zone,
            Self::Host(_) => Topology::Host,
        }
    }
}

/// Whether a Pod comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Comes,
    Goes,
}

impl Step {
    /// Domains without a Pod are not kept.
    fn apply<K: Clone + Ord>(self, counts: &mut BTreeMap<K, u32>, key: &K) {
        match self {
            Self::Comes => *counts.entry(key.clone()).or_default() += 1,
            Self::Goes => match counts.get_mut(key) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) | None => drop(counts.remove(key)),
            },
        }
    }
}

/// Pods of one kind per zone and per host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    zones: BTreeMap<Zone, u32>,
    hosts: BTreeMap<HostName, u32>,
}

impl Tally {
    pub(super) fn step(&mut self, step: Step, spot: Spot<'_>) {
        step.apply(&mut self.zones, spot.zone);
        step.apply(&mut self.hosts, spot.host);
    }

    pub(super) fn count(&self, domain: Domain<'_>) -> u32 {
        match domain {
            Domain::Zone(zone) => self.zones.get(zone),
            Domain::Host(host) => self.hosts.get(host),
        }
        .copied()
        .unwrap_or(0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Hosts with at least one of the Pods.
    pub(super) fn hosts(&self) -> impl ExactSizeIterator<Item = &HostName> {
        self.hosts.keys()
    }
}

/// Things found by the filter that they belong to and by the namespace of a Pod that the filter could match.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Registry<K, V> {
    at_home: BTreeMap<String, BTreeMap<K, V>>,
    anywhere: BTreeMap<K, V>,
}

impl<K: Ord, V> Registry<K, V> {
    const fn new() -> Self {
        Self { at_home: BTreeMap::new(), anywhere: BTreeMap::new() }
    }

    fn get(&self, home: Option<&str>, key: &K) -> Option<&V> {
        match home {
            Some(home) => self.at_home.get(home)?.get(key),
            None => self.anywhere.get(key),
        }
    }

    fn slot(&mut self, home: Option<&str>) -> &mut BTreeMap<K, V> {
        match home {
            Some(home) => self.at_home.entry(home.to_owned()).or_default(),
            None => &mut self.anywhere,
        }
    }

    fn remove(&mut self, home: Option<&str>, key: &K) {
        let slot = self.slot(home);
        slot.remove(key);
        if let (true, Some(home)) = (slot.is_empty(), home) {
            self.at_home.remove(home);
        }
    }

    fn candidates(&self, namespace: &str) -> impl Iterator<Item = (&K, &V)> {
        self.at_home.get(namespace).into_iter().flatten().chain(&self.anywhere)
    }

    fn candidates_mut(&mut self, namespace: &str) -> impl Iterator<Item = (&K, &mut V)> {
        self.at_home.get_mut(namespace).into_iter().flatten().chain(&mut self.anywhere)
    }
}

/// A filter that booked Pods use.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Watched {
    users: u32,
    matching: Tally,
}

/// All counts of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    profiles: BTreeMap<ProfileName, BTreeMap<Zone, u32>>,
    watched: Registry<PodFilter, Watched>,
    /// Required anti-affinity of booked Pods, with where those Pods are.
    repelling: Registry<Neighbours, Tally>,
}

impl Default for Counts {
    fn default() -> Self {
        Self { profiles: BTreeMap::new(), watched: Registry::new(), repelling: Registry::new() }
    }
}

impl Counts {
    /// Counts `pod` in or out at `spot`, everywhere it matters.
    pub(super) fn step(&mut self, step: Step, pod: &PodRequest, namespace_labels: &Labels, spot: Spot<'_>) {
        let zones = self.profiles.entry(pod.profile.name.clone()).or_default();
        step.apply(zones, spot.zone);
        if zones.is_empty() {
            self.profiles.remove(&pod.profile.name);
        }
        let subject = pod.subject(namespace_labels);
        for (filter, watched) in self.watched.candidates_mut(&pod.namespace) {
            if filter.matches(&subject) {
                watched.matching.step(step, spot);
            }
        }
        for neighbours in &pod.anti_affinity {
            self.step_repelling(step, neighbours, spot);
        }
    }

    fn step_repelling(&mut self, step: Step, neighbours: &Neighbours, spot: Spot<'_>) {
        let home = neighbours.filter.home();
        let carriers = self.repelling.slot(home).entry(neighbours.clone()).or_default();
        carriers.step(step, spot);
        if carriers.is_empty() {
            self.repelling.remove(home, neighbours);
        }
    }

    /// Registers one more user of `filter`; `count` is asked when it is the first.
    pub(super) fn watch(&mut self, filter: &PodFilter, count: impl FnOnce() -> Tally) {
        let slot = self.watched.slot(filter.home());
        match slot.get_mut(filter) {
            Some(watched) => watched.users += 1,
            None => drop(slot.insert(filter.clone(), Watched { users: 1, matching: count() })),
        }
    }

    /// Takes one user of `filter` away.
    pub(super) fn unwatch(&mut self, filter: &PodFilter) {
        match self.watched.slot(filter.home()).get_mut(filter) {
            Some(watched) if watched.users > 1 => watched.users -= 1,
            Some(_) | None => self.watched.remove(filter.home(), filter),
        }
    }

    /// The Pods that `filter` matches, where some booked Pod uses the filter.
    pub(super) fn matching(&self, filter: &PodFilter) -> Option<&Tally> {
        self.watched.get(filter.home(), filter).map(|watched| &watched.matching)
    }

    /// Where the Pods are whose required anti-affinity forbids `pod`, by kind of domain.
    pub(super) fn repelling(&self, pod: &Subject<'_>) -> Vec<(Topology, &Tally)> {
        let candidates = self.repelling.candidates(pod.namespace);
        let matching = candidates.filter(|(neighbours, _)| neighbours.filter.matches(pod));
        matching.map(|(neighbours, carriers)| (neighbours.topology, carriers)).collect()
    }

    /// Pods of `profile` in `zone`.
    pub(super) fn of_profile(&self, profile: &ProfileName, zone: &Zone) -> u32 {
        self.profiles.get(profile).and_then(|zones| zones.get(zone)).copied().unwrap_or(0)
    }
}
