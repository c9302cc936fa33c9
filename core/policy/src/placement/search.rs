//! The search for the best place.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use ipnet::IpNet;
use monopod_types::{HostName, SubnetName, Zone};

use super::cluster::{Booking, Cluster};
use super::counts::Domain;
use super::refusal::Refusal;
use super::request::PodRequest;
use super::rules::{Candidate, Rules, Score, Special};
use crate::requirements::LabelValue;

/// The place that a Pod gets, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Failure domain of the host.
    pub zone: Zone,
    /// The machine that is to run the microVM.
    pub host: HostName,
    /// The subnet that the Pod's address is from.
    pub subnet: SubnetName,
    /// The block of the host that the address is to be taken from.
    pub block: IpNet,
    /// What spoke for the place.
    pub score: Score,
}

impl Placement {
    /// The place as [`Cluster::book`] takes it.
    pub fn booking(&self) -> Booking {
        Booking { host: self.host.clone(), block: self.block }
    }
}

impl fmt::Display for Placement {
    /// The choice and its reasons in one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { zone, host, subnet, block, score } = self;
        write!(
            f,
            "host {host} in zone {zone}, block {block} of subnet {subnet}: preference {}, {} matching pods of soft \
             spread constraints, {} pods of the profile in the zone, {} of the host free",
            score.preference, score.spread, score.zone_pods, score.headroom
        )
    }
}

impl Cluster {
    /// The best place for a Pod that has none yet; nothing is booked. The same state and Pod give the same answer.
    ///
    /// # Errors
    /// No host fits; the refusal says what each lacks and what event could change it.
    pub fn place(&self, request: &PodRequest) -> Result<Placement, Refusal> {
        let rules = Rules::new(self, request);
        let placement = best(&rules).and_then(|candidate| placement(&rules, &candidate));
        placement.ok_or_else(|| Refusal::explain(&rules))
    }
}

/// The best host that fits.
fn best<'a>(rules: &Rules<'a>) -> Option<Candidate<'a>> {
    if let Some(hosts) = rules.confined_to() {
        return best_of(rules, hosts.iter());
    }
    let special = rules.special_hosts();
    if special.all {
        return best_of(rules, rules.cluster.hosts.keys());
    }
    let ordinary = best_ordinary(rules, &special);
    if !ordinary.a_class_is_full && !special.may_win {
        return ordinary.candidate;
    }
    better(ordinary.candidate, best_of(rules, special.hosts().into_iter()))
}

/// The best among hosts that no preference singles out.
struct Ordinary<'a> {
    candidate: Option<Candidate<'a>>,
    /// A class that could take the Pod has no ordinary host left that fits, so its special hosts may be the best.
    a_class_is_full: bool,
}

fn best_ordinary<'a>(rules: &Rules<'a>, special: &Special<'_>) -> Ordinary<'a> {
    let mut ordinary = Ordinary { candidate: None, a_class_is_full: false };
    let mut scores: BTreeMap<&Zone, Option<Score>> = BTreeMap::new();
    let named = rules.request.requirements.depend_on_host();
    for (class, ranking) in &rules.cluster.classes {
        if !rules.request.profile.allow_any(&class.subnets) {
            continue;
        }
        let zone = &class.zone;
        let Some(score) = *scores.entry(zone).or_insert_with(|| open_zone(rules, zone)) else { continue };
        let candidate = |host: &'a HostName, headroom| Candidate { host, score: Score { headroom, ..score } };
        let Some(top) = ranking.best().map(|seat| candidate(&seat.host, seat.headroom)) else { continue };
        if ordinary.candidate.as_ref().is_some_and(|best| best.beats(&top)) {
            continue;
        }
        let fit = ranking.best_fit(&rules.request.size, |host| {
            !special.contains(host)
                && (!named || rules.accept(zone, LabelValue::Is(host.as_str())))
                && rules.broken_in(Domain::Host(host)).is_none()
        });
        match fit {
            Some(seat) => ordinary.candidate = better(ordinary.candidate, Some(candidate(&seat.host, seat.headroom))),
            None => ordinary.a_class_is_full = true,
        }
    }
    ordinary
}

/// The score of ordinary hosts in a zone, `None` where the Pod's rules close the whole zone.
fn open_zone(rules: &Rules<'_>, zone: &Zone) -> Option<Score> {
    let open = rules.accept(zone, LabelValue::Open) && rules.broken_in(Domain::Zone(zone)).is_none();
    open.then(|| rules.zone_score(zone, LabelValue::Unforeseeable))
}

fn best_of<'a, 'b>(rules: &Rules<'a>, hosts: impl Iterator<Item = &'b HostName>) -> Option<Candidate<'a>> {
    hosts.filter_map(|host| rules.candidate(host)).map(Some).fold(None, better)
}

fn better<'a>(left: Option<Candidate<'a>>, right: Option<Candidate<'a>>) -> Option<Candidate<'a>> {
    match (left, right) {
        (Some(left), Some(right)) => Some(if right.beats(&left) { right } else { left }),
        (left, right) => left.or(right),
    }
}

/// The place on a host: the block with the most free addresses, the lowest among equals.
fn placement(rules: &Rules<'_>, candidate: &Candidate<'_>) -> Option<Placement> {
    let record = rules.cluster.hosts.get(candidate.host)?;
    let host = record.host.as_ref()?;
    let blocks = rules.cluster.usable_blocks(record, host);
    let allowed = blocks.filter(|(block, free)| *free > 0 && rules.request.profile.allow(&block.subnet));
    let (block, _) = allowed.max_by_key(|(block, free)| (*free, Reverse(block.network)))?;
    Some(Placement {
        zone: host.zone.clone(),
        host: host.name.clone(),
        subnet: block.subnet.clone(),
        block: block.network,
        score: candidate.score,
    })
}
