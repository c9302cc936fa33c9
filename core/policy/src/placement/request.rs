//! What one Pod asks of its place, read once from the Pod, its profile and its size.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Affinity, Pod, PodAffinityTerm, PodSpec, TopologySpreadConstraint};
use monopod_api::names::{HOST_LABEL, ZONE_LABEL};
use monopod_types::{PodUid, ProfileName, SubnetName, Zone};

use super::error::RequestError;
use super::resources::Resources;
use super::selector::{Labels, PodFilter, Selector, Subject};
use crate::requirements::{self, HOSTNAME_LABEL, LEGACY_ZONE_LABEL, NodeRequirements, NodeTerm, Requirement};

/// The profile that a Pod runs under, as far as placement cares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileRules {
    /// Name of the profile: its Pods are spread over the zones.
    pub name: ProfileName,
    /// Subnets that the Pods get their addresses from; empty means all.
    pub subnets: BTreeSet<SubnetName>,
}

impl ProfileRules {
    /// Whether Pods of the profile may have an address of `subnet`.
    pub(super) fn allow(&self, subnet: &SubnetName) -> bool {
        self.subnets.is_empty() || self.subnets.contains(subnet)
    }

    /// Whether Pods of the profile may have an address of any of `subnets`.
    pub(super) fn allow_any(&self, subnets: &BTreeSet<SubnetName>) -> bool {
        subnets.iter().any(|subnet| self.allow(subnet))
    }
}

/// What kind of failure domain a topology rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topology {
    /// `topology.kubernetes.io/zone`, or its name before Kubernetes 1.17.
    Zone,
    /// `monopod.dev/host`: the machine under the microVM.
    Host,
}

impl Topology {
    /// The kind that a topology key stands for, `None` for keys that placement does not honour.
    fn of(key: &str) -> Option<Self> {
        match key {
            ZONE_LABEL | LEGACY_ZONE_LABEL => Some(Self::Zone),
            HOST_LABEL => Some(Self::Host),
            _ => None,
        }
    }
}

/// A set of Pods, counted per failure domain of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Neighbours {
    pub(super) filter: PodFilter,
    pub(super) topology: Topology,
}

/// Required Pod affinity: in each kind of domain there must be a Pod that matches all terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RequiredAffinity {
    pub(super) filter: PodFilter,
    pub(super) topologies: BTreeSet<Topology>,
}

/// One topology spread constraint that must hold (`DoNotSchedule`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) neighbours: Neighbours,
    pub(super) max_skew: u64,
    pub(super) min_domains: usize,
    /// Domains without a host that the Pod's node requirements accept do not take part (the default).
    pub(super) honour_requirements: bool,
    /// Domains without a host that is ready and schedulable do not take part (not the default).
    pub(super) honour_taints: bool,
}

/// What one Pod asks of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRequest {
    pub(super) uid: PodUid,
    pub(super) namespace: String,
    pub(super) labels: Labels,
    pub(super) profile: ProfileRules,
    pub(super) size: Resources,
    pub(super) requirements: NodeRequirements,
    pub(super) preferred_nodes: Vec<(NodeTerm, i64)>,
    pub(super) affinity: Option<RequiredAffinity>,
    pub(super) anti_affinity: Vec<Neighbours>,
    /// Preferred affinity with its weight, preferred anti-affinity with its weight below zero.
    pub(super) preferred_neighbours: Vec<(Neighbours, i64)>,
    pub(super) spreads: Vec<Spread>,
    pub(super) preferred_spreads: Vec<Neighbours>,
    ignored_topology_keys: BTreeSet<String>,
}

impl PodRequest {
    /// Reads the Pod's placement rules.
    ///
    /// # Errors
    /// A rule that cannot be evaluated, named by its key, or a Pod that has no UID.
    pub fn parse(pod: &Pod, profile: ProfileRules, size: Resources) -> Result<Self, RequestError> {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let Some(uid) = &metadata.uid else {
            let name = metadata.name.clone().unwrap_or_default();
            return Err(RequestError::NoUid { namespace, name });
        };
        let requirements = NodeRequirements::parse(pod)?;
        let mut request = Self {
            uid: PodUid::new(uid),
            namespace,
            labels: metadata.labels.clone().unwrap_or_default(),
            profile,
            size,
            requirements,
            preferred_nodes: Vec::new(),
            affinity: None,
            anti_affinity: Vec::new(),
            preferred_neighbours: Vec::new(),
            spreads: Vec::new(),
            preferred_spreads: Vec::new(),
            ignored_topology_keys: BTreeSet::new(),
        };
        if let Some(spec) = &pod.spec {
            request.read_spec(spec)?;
        }
        Ok(request)
    }

    /// The Pod.
    pub fn uid(&self) -> &PodUid {
        &self.uid
    }

    /// Topology keys that the Pod's rules name and placement passes over, as the reference passes over all of them.
    ///
    /// Anti-affinity and spread over `kubernetes.io/hostname` are not among them: every Pod has a node of its own, so
    /// they always hold.
    pub fn ignored_topology_keys(&self) -> &BTreeSet<String> {
        &self.ignored_topology_keys
    }

    /// Everything that is counted for this Pod.
    pub(super) fn filters(&self) -> BTreeSet<&PodFilter> {
        let affinity = self.affinity.iter().map(|affinity| &affinity.filter);
        let spreads = self.spreads.iter().map(|spread| &spread.neighbours);
        let preferred = self.preferred_neighbours.iter().map(|(neighbours, _)| neighbours);
        let neighbours = self.anti_affinity.iter().chain(&self.preferred_spreads).chain(spreads).chain(preferred);
        affinity.chain(neighbours.map(|neighbours| &neighbours.filter)).collect()
    }

    /// The Pod as filters see it.
    pub(super) fn subject<'a>(&'a self, namespace_labels: &'a Labels) -> Subject<'a> {
        Subject { namespace: &self.namespace, namespace_labels, labels: &self.labels }
    }

    /// The zones to which the Pod confines itself.
    pub(super) fn only_zones(&self) -> Option<BTreeSet<Zone>> {
        let zones = self.requirements.only(ZONE_LABEL).or_else(|| self.requirements.only(LEGACY_ZONE_LABEL))?;
        Some(zones.into_iter().map(Zone::from).collect())
    }

    fn read_spec(&mut self, spec: &PodSpec) -> Result<(), RequestError> {
        self.preferred_nodes = requirements::preferences(spec)?;
        for constraint in spec.topology_spread_constraints.iter().flatten() {
            self.read_spread(constraint)?;
        }
        spec.affinity.as_ref().map_or(Ok(()), |affinity| self.read_affinity(affinity))
    }

    fn read_spread(&mut self, constraint: &TopologySpreadConstraint) -> Result<(), RequestError> {
        let selector = Selector::parse(constraint.label_selector.as_ref())?.with_label_keys(
            constraint.match_label_keys.as_deref(),
            &self.labels,
            Requirement::equals,
        );
        let filter = PodFilter::in_namespace(&self.namespace, selector);
        let Some(topology) = Topology::of(&constraint.topology_key) else {
            self.ignore_unless_hostname(&constraint.topology_key);
            return Ok(());
        };
        let neighbours = Neighbours { filter, topology };
        if constraint.when_unsatisfiable == "ScheduleAnyway" {
            self.preferred_spreads.push(neighbours);
            return Ok(());
        }
        self.spreads.push(Spread {
            neighbours,
            max_skew: u64::try_from(constraint.max_skew).unwrap_or(0).max(1),
            min_domains: constraint.min_domains.and_then(|least| usize::try_from(least).ok()).unwrap_or(1),
            honour_requirements: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honour_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        });
        Ok(())
    }

    fn read_affinity(&mut self, affinity: &Affinity) -> Result<(), RequestError> {
        if let Some(rules) = &affinity.pod_affinity {
            for term in rules.required_during_scheduling_ignored_during_execution.iter().flatten() {
                self.require_neighbours(term)?;
            }
            for term in rules.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
                self.prefer_neighbours(&term.pod_affinity_term, i64::from(term.weight))?;
            }
        }
        if let Some(rules) = &affinity.pod_anti_affinity {
            for term in rules.required_during_scheduling_ignored_during_execution.iter().flatten() {
                if let Some(neighbours) = self.anti_neighbours(term)? {
                    self.anti_affinity.push(neighbours);
                }
            }
            for term in rules.preferred_during_scheduling_ignored_during_execution.iter().flatten() {
                if let Some(neighbours) = self.anti_neighbours(&term.pod_affinity_term)? {
                    self.preferred_neighbours.push((neighbours, -i64::from(term.weight)));
                }
            }
        }
        self.preferred_neighbours.retain(|(_, weight)| *weight != 0);
        Ok(())
    }

    /// As in kube-scheduler, a Pod counts only when it matches all required terms.
    fn require_neighbours(&mut self, term: &PodAffinityTerm) -> Result<(), RequestError> {
        let Some(Neighbours { filter, topology }) = self.neighbours(term)? else {
            self.ignored_topology_keys.insert(term.topology_key.clone());
            return Ok(());
        };
        let (filter, mut topologies) = match self.affinity.take() {
            Some(affinity) => (affinity.filter.and(filter), affinity.topologies),
            None => (filter, BTreeSet::new()),
        };
        topologies.insert(topology);
        self.affinity = Some(RequiredAffinity { filter, topologies });
        Ok(())
    }

    fn prefer_neighbours(&mut self, term: &PodAffinityTerm, weight: i64) -> Result<(), RequestError> {
        match self.neighbours(term)? {
            Some(neighbours) => self.preferred_neighbours.push((neighbours, weight)),
            None => drop(self.ignored_topology_keys.insert(term.topology_key.clone())),
        }
        Ok(())
    }

    fn anti_neighbours(&mut self, term: &PodAffinityTerm) -> Result<Option<Neighbours>, RequestError> {
        let neighbours = self.neighbours(term)?;
        if neighbours.is_none() {
            self.ignore_unless_hostname(&term.topology_key);
        }
        Ok(neighbours)
    }

    /// The Pods and domains that a term is about, `None` for a topology key that is not honoured.
    fn neighbours(&self, term: &PodAffinityTerm) -> Result<Option<Neighbours>, RequestError> {
        let filter = PodFilter::parse(term, &self.namespace, &self.labels)?;
        Ok(Topology::of(&term.topology_key).map(|topology| Neighbours { filter, topology }))
    }

    fn ignore_unless_hostname(&mut self, key: &str) {
        if key != HOSTNAME_LABEL {
            self.ignored_topology_keys.insert(key.to_owned());
        }
    }
}
