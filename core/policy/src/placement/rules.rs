//! One Pod's rules against one state of the cluster: which domains and hosts they leave, and in which order.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeSet;

use monopod_types::{HostName, Zone};

use super::cluster::{Cluster, Host, HostRecord};
use super::counts::{Domain, Tally};
use super::refusal::Cause;
use super::request::{Neighbours, PodRequest, Spread, Topology};
use super::resources::Headroom;
use super::selector::PodFilter;
use crate::requirements::{LabelValue, SpecialHosts};

/// Why a place was preferred. Places are compared part by part in this order, and last by the name of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// Sum of the weights of preferred node affinity that the place meets, and for preferred Pod (anti-)affinity of
    /// weight times matching Pods in the domain. More is better.
    pub preference: i64,
    /// Matching Pods in the domains of all `ScheduleAnyway` constraints. Fewer is better.
    pub spread: u64,
    /// Pods of the profile in the zone. Fewer is better.
    pub zone_pods: u32,
    /// How much of the host is free before the Pod is there. More is better.
    pub headroom: Headroom,
}

impl Score {
    /// The greater, the better.
    fn rank(&self) -> (i64, Reverse<u64>, Reverse<u32>, Headroom) {
        (self.preference, Reverse(self.spread), Reverse(self.zone_pods), self.headroom)
    }
}

/// A host that the Pod can have.
#[derive(Clone, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) host: &'a HostName,
    pub(super) score: Score,
}

impl Candidate<'_> {
    pub(super) fn beats(&self, other: &Self) -> bool {
        (self.score.rank(), Reverse(self.host)) > (other.score.rank(), Reverse(other.host))
    }
}

/// Pods that a rule speaks of, by domains of one kind.
#[derive(Debug)]
struct Counted<'a> {
    topology: Topology,
    tally: Cow<'a, Tally>,
}

impl Counted<'_> {
    /// How many are in `domain`, none where the rule is about domains of the other kind.
    fn count(&self, domain: Domain<'_>) -> u32 {
        if domain.topology() == self.topology { self.tally.count(domain) } else { 0 }
    }
}

/// A spread constraint with the most Pods that a domain may have for one more to be allowed.
#[derive(Debug)]
struct Limit<'a> {
    counted: Counted<'a>,
    most: u64,
    max_skew: u64,
}

/// All of them, looked up once per placement.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) request: &'a PodRequest,
    affinity: Vec<Counted<'a>>,
    anti_affinity: Vec<Counted<'a>>,
    repelling: Vec<Counted<'a>>,
    limits: Vec<Limit<'a>>,
    preferred: Vec<(Counted<'a>, i64)>,
    preferred_spreads: Vec<Counted<'a>>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(cluster: &'a Cluster, request: &'a PodRequest) -> Self {
        let subject = request.subject(cluster.namespace_labels(&request.namespace));
        let counted = |neighbours: &Neighbours| Counted {
            topology: neighbours.topology,
            tally: tally(cluster, &neighbours.filter),
        };
        let repelling = cluster.counts.repelling(&subject).into_iter();
        Self {
            cluster,
            request,
            affinity: required_affinity(cluster, request),
            anti_affinity: request.anti_affinity.iter().map(counted).collect(),
            repelling: repelling.map(|(topology, tally)| Counted { topology, tally: Cow::Borrowed(tally) }).collect(),
            limits: request.spreads.iter().map(|spread| limit(cluster, request, spread)).collect(),
            preferred: request.preferred_neighbours.iter().map(|(term, weight)| (counted(term), *weight)).collect(),
            preferred_spreads: request.preferred_spreads.iter().map(counted).collect(),
        }
    }

    /// The first topology rule that keeps the Pod out of `domain`.
    pub(super) fn broken_in(&self, domain: Domain<'_>) -> Option<Cause> {
        let topology = domain.topology();
        if self.affinity.iter().any(|term| term.topology == topology && term.count(domain) == 0) {
            return Some(Cause::Affinity(topology));
        }
        if self.anti_affinity.iter().any(|term| term.count(domain) > 0) {
            return Some(Cause::AntiAffinity(topology));
        }
        if self.repelling.iter().any(|term| term.count(domain) > 0) {
            return Some(Cause::Repelled(topology));
        }
        let broken = self.limits.iter().find(|limit| u64::from(limit.counted.count(domain)) > limit.most)?;
        Some(Cause::Spread { topology, max_skew: broken.max_skew })
    }

    /// Whether the Pod's node requirements accept a host of `zone`: the host `host`, or any for [`LabelValue::Open`].
    pub(super) fn accept(&self, zone: &Zone, host: LabelValue<'_>) -> bool {
        accepts(self.cluster, self.request, zone, host)
    }

    /// What keeps the Pod off a host, the first of its rules in their order; `None` when it fits.
    pub(super) fn cause(&self, record: &HostRecord, host: &Host) -> Option<Cause> {
        let profile = &self.request.profile;
        if !profile.allow_any(&host.subnets) {
            return Some(if self.serves_zone(&host.zone) { Cause::ServesNoSubnet } else { Cause::OutsideZones });
        }
        if !self.accept(&host.zone, LabelValue::Is(host.name.as_str())) {
            return Some(Cause::Requirements);
        }
        if host.unschedulable {
            return Some(Cause::Unschedulable);
        }
        if !host.ready {
            return Some(Cause::NotReady);
        }
        Cause::of_shortage(&record.free(host), &self.request.size)
            .or_else(|| self.without_address(record, host))
            .or_else(|| self.broken_in(Domain::Zone(&host.zone)))
            .or_else(|| self.broken_in(Domain::Host(&host.name)))
    }

    /// The host as a candidate, if the Pod fits there.
    pub(super) fn candidate(&self, name: &HostName) -> Option<Candidate<'a>> {
        let record = self.cluster.hosts.get(name)?;
        let host = record.host.as_ref()?;
        if self.cause(record, host).is_some() {
            return None;
        }
        let mut score = self.zone_score(&host.zone, LabelValue::Is(host.name.as_str()));
        self.add(&mut score, Domain::Host(&host.name));
        score.headroom = Headroom::of(&record.free(host), &host.total);
        Some(Candidate { host: &host.name, score })
    }

    /// The score of any host of `zone` that no preference singles out, but for its headroom.
    pub(super) fn zone_score(&self, zone: &Zone, host: LabelValue<'_>) -> Score {
        let node = self.cluster.common.node(zone, host);
        let met = self.request.preferred_nodes.iter().filter(|(term, _)| term.matches(&node));
        let mut score = Score {
            preference: met.map(|(_, weight)| weight).sum(),
            spread: 0,
            zone_pods: self.cluster.counts.of_profile(&self.request.profile.name, zone),
            headroom: Headroom::default(),
        };
        self.add(&mut score, Domain::Zone(zone));
        score
    }

    /// Hosts that alone can fit, where the rules name them.
    pub(super) fn confined_to(&self) -> Option<BTreeSet<HostName>> {
        if let Some(names) = self.request.requirements.only(monopod_api::names::HOST_LABEL) {
            return Some(names.into_iter().map(HostName::from).collect());
        }
        let on_hosts = self.affinity.iter().find(|term| term.topology == Topology::Host)?;
        Some(on_hosts.tally.hosts().cloned().collect())
    }

    /// Hosts that preferences tell apart from the others of their zone.
    pub(super) fn special_hosts(&self) -> Special<'_> {
        let mut special = Special { named: BTreeSet::new(), counted: Vec::new(), all: false, may_win: false };
        for (term, _) in &self.request.preferred_nodes {
            match term.special_hosts() {
                SpecialHosts::Any => special.all = true,
                SpecialHosts::Named(names) => special.named.extend(names.into_iter().map(HostName::from)),
            }
        }
        let attracts = |(term, weight): &(Counted<'_>, i64)| term.topology == Topology::Host && *weight > 0;
        special.may_win = !special.named.is_empty() || self.preferred.iter().any(attracts);
        let counted = self.preferred.iter().map(|(term, _)| term).chain(&self.preferred_spreads);
        let on_hosts = counted.filter(|term| term.topology == Topology::Host);
        special.counted = on_hosts.map(|term| term.tally.as_ref()).collect();
        special
    }

    /// Whether the profile has a subnet in `zone`.
    fn serves_zone(&self, zone: &Zone) -> bool {
        let mut subnets = self.cluster.subnets.values();
        subnets.any(|subnet| subnet.zone == *zone && self.request.profile.allow(&subnet.name))
    }

    fn without_address(&self, record: &HostRecord, host: &Host) -> Option<Cause> {
        let profile = &self.request.profile;
        let mut blocks = self.cluster.usable_blocks(record, host);
        if blocks.any(|(block, addresses)| addresses > 0 && profile.allow(&block.subnet)) {
            return None;
        }
        Some(Cause::NoAddress(host.subnets.iter().filter(|subnet| profile.allow(subnet)).cloned().collect()))
    }

    /// Adds what the preferences about domains of this kind give `domain`.
    fn add(&self, score: &mut Score, domain: Domain<'_>) {
        let gains = self.preferred.iter().map(|(term, weight)| weight * i64::from(term.count(domain)));
        score.preference += gains.sum::<i64>();
        score.spread += self.preferred_spreads.iter().map(|term| u64::from(term.count(domain))).sum::<u64>();
    }
}

/// Hosts that have to be looked at one by one, because preferences give them a score of their own.
#[derive(Debug)]
pub(super) struct Special<'a> {
    named: BTreeSet<HostName>,
    counted: Vec<&'a Tally>,
    /// Every host is special.
    pub(super) all: bool,
    /// Whether one can be better than the others of its class. If not, each is worse than any of those.
    pub(super) may_win: bool,
}

impl Special<'_> {
    pub(super) fn contains(&self, host: &HostName) -> bool {
        self.named.contains(host) || self.counted.iter().any(|tally| tally.count(Domain::Host(host)) > 0)
    }

    pub(super) fn hosts(&self) -> BTreeSet<&HostName> {
        self.named.iter().chain(self.counted.iter().flat_map(|tally| tally.hosts())).collect()
    }
}

fn tally<'a>(cluster: &'a Cluster, filter: &PodFilter) -> Cow<'a, Tally> {
    cluster.counts.matching(filter).map_or_else(|| Cow::Owned(cluster.count(filter)), Cow::Borrowed)
}

/// Required affinity, unless the Pod is the first of a group that asks for its own company: as in kube-scheduler, it
/// may then go anywhere.
fn required_affinity<'a>(cluster: &'a Cluster, request: &PodRequest) -> Vec<Counted<'a>> {
    let Some(affinity) = &request.affinity else { return Vec::new() };
    let matching = tally(cluster, &affinity.filter);
    let subject = request.subject(cluster.namespace_labels(&request.namespace));
    if matching.is_empty() && affinity.filter.matches(&subject) {
        return Vec::new();
    }
    let terms = affinity.topologies.iter();
    terms.map(|topology| Counted { topology: *topology, tally: matching.clone() }).collect()
}

fn limit<'a>(cluster: &'a Cluster, request: &PodRequest, spread: &Spread) -> Limit<'a> {
    let tally = tally(cluster, &spread.neighbours.filter);
    let subject = request.subject(cluster.namespace_labels(&request.namespace));
    let itself = u64::from(spread.neighbours.filter.matches(&subject));
    let least = match spread.neighbours.topology {
        Topology::Zone => least_in_zones(cluster, request, spread, &tally),
        Topology::Host => least_on_hosts(cluster, request, spread, &tally),
    };
    let counted = Counted { topology: spread.neighbours.topology, tally };
    Limit { counted, most: (spread.max_skew + u64::from(least)) - itself, max_skew: spread.max_skew }
}

/// Fewest matching Pods in a zone that takes part; none when fewer than `minDomains` take part.
fn least_in_zones(cluster: &Cluster, request: &PodRequest, spread: &Spread, tally: &Tally) -> u32 {
    let zones: BTreeSet<&Zone> = participants(cluster, request, spread).into_iter().map(|(zone, _)| zone).collect();
    if zones.len() < spread.min_domains {
        return 0;
    }
    zones.into_iter().map(|zone| tally.count(Domain::Zone(zone))).min().unwrap_or(0)
}

/// The same for hosts. They are gone through only when each might have a matching Pod.
fn least_on_hosts(cluster: &Cluster, request: &PodRequest, spread: &Spread, tally: &Tally) -> u32 {
    let hosts: usize = participants(cluster, request, spread).into_iter().map(|(_, hosts)| hosts).sum();
    if hosts < spread.min_domains || tally.hosts().len() < hosts {
        return 0;
    }
    let taking_part = cluster.known_hosts().filter(|(_, host)| takes_part(cluster, request, spread, host));
    taking_part.map(|(_, host)| tally.count(Domain::Host(&host.name))).min().unwrap_or(0)
}

/// Zones, and how many of their hosts take part in a spread constraint; a zone may come more than once. Hosts are gone
/// through only for a Pod whose node requirements tell hosts apart.
fn participants<'a>(cluster: &'a Cluster, request: &PodRequest, spread: &Spread) -> Vec<(&'a Zone, usize)> {
    if spread.honour_requirements && request.requirements.depend_on_host() {
        let hosts = cluster.known_hosts().filter(|(_, host)| takes_part(cluster, request, spread, host));
        return hosts.map(|(_, host)| (&host.zone, 1)).collect();
    }
    let sites = cluster.sites.iter().filter(|(site, _)| {
        request.profile.allow_any(&site.subnets)
            && (!spread.honour_requirements || accepts(cluster, request, &site.zone, LabelValue::Open))
    });
    let sizes = sites.map(|(site, size)| (&site.zone, if spread.honour_taints { size.open } else { size.all }));
    sizes.filter(|(_, hosts)| *hosts > 0).collect()
}

fn takes_part(cluster: &Cluster, request: &PodRequest, spread: &Spread, host: &Host) -> bool {
    request.profile.allow_any(&host.subnets)
        && (!spread.honour_requirements || accepts(cluster, request, &host.zone, LabelValue::Is(host.name.as_str())))
        && (!spread.honour_taints || host.is_open())
}

fn accepts(cluster: &Cluster, request: &PodRequest, zone: &Zone, host: LabelValue<'_>) -> bool {
    request.requirements.matches(&cluster.common.node(zone, host))
}
