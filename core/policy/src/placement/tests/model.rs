//! A second, naive reading of the rules: it keeps plain lists, reads Pods as Kubernetes spells them, and tries all hosts.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    NodeSelectorRequirement, NodeSelectorTerm, Pod, PodAffinityTerm, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::placement::{AddressBlock, Booking, Host, ProfileRules, Resources, Subnet};

type Labels = BTreeMap<String, String>;

/// A Pod with what is decided about it before placement.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) pod: Pod,
    pub(super) profile: ProfileRules,
    pub(super) size: Resources,
}

/// The state as plain lists.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) hosts: BTreeMap<String, Host>,
    pub(super) subnets: BTreeMap<String, Subnet>,
    pub(super) blocks: BTreeMap<String, AddressBlock>,
    pub(super) namespaces: BTreeMap<String, Labels>,
    pub(super) pods: BTreeMap<String, (Case, Booking)>,
}

/// The greater, the better.
pub(super) type Rank = (i64, Reverse<u64>, Reverse<usize>, u64, Reverse<String>);

impl World {
    /// The best host for a Pod, with its rank.
    pub(super) fn best(&self, case: &Case) -> Option<Rank> {
        self.hosts.values().filter(|host| self.fits(case, host)).map(|host| self.rank(case, host)).max()
    }

    pub(super) fn free(&self, host: &Host) -> (u64, u64, u64) {
        let mut free = (host.total.cpu.0, host.total.memory.0, host.total.disk.0);
        for (case, at) in self.pods.values() {
            if at.host == host.name {
                free.0 = free.0.saturating_sub(case.size.cpu.0);
                free.1 = free.1.saturating_sub(case.size.memory.0);
                free.2 = free.2.saturating_sub(case.size.disk.0);
            }
        }
        free
    }

    pub(super) fn free_addresses(&self, block: &AddressBlock) -> usize {
        let taken = self.pods.values().filter(|(_, at)| at.block == block.network).count();
        (block.addresses as usize).saturating_sub(taken)
    }

    pub(super) fn gives_address(&self, case: &Case, host: &Host, block: &AddressBlock) -> bool {
        block.host == host.name
            && self.free_addresses(block) > 0
            && allowed(case, block.subnet.as_str())
            && host.subnets.contains(&block.subnet)
            && self
                .subnets
                .get(block.subnet.as_str())
                .is_some_and(|subnet| subnet.zone == host.zone && subnet.cidr.contains(&block.network))
    }

    pub(super) fn fits(&self, case: &Case, host: &Host) -> bool {
        let free = self.free(host);
        host.ready
            && !host.unschedulable
            && free.0 >= case.size.cpu.0
            && free.1 >= case.size.memory.0
            && free.2 >= case.size.disk.0
            && self.blocks.values().any(|block| self.gives_address(case, host, block))
            && node_accepted(&case.pod, host)
            && self.affinity_holds(case, host)
            && self.anti_affinity_holds(case, host)
            && self.spreads(case, "DoNotSchedule").iter().all(|constraint| self.spread_holds(case, host, constraint))
    }

    fn rank(&self, case: &Case, host: &Host) -> Rank {
        let affinity = case.pod.spec.as_ref().unwrap().affinity.clone().unwrap_or_default();
        let mut preference = 0;
        let nodes = affinity.node_affinity.unwrap_or_default();
        for term in nodes.preferred_during_scheduling_ignored_during_execution.unwrap_or_default() {
            preference += if term_matches(&term.preference, &node_labels(host)) { i64::from(term.weight) } else { 0 };
        }
        let company = affinity.pod_affinity.unwrap_or_default();
        for term in company.preferred_during_scheduling_ignored_during_execution.unwrap_or_default() {
            preference += i64::from(term.weight) * self.matching(case, &term.pod_affinity_term, host);
        }
        let distance = affinity.pod_anti_affinity.unwrap_or_default();
        for term in distance.preferred_during_scheduling_ignored_during_execution.unwrap_or_default() {
            preference -= i64::from(term.weight) * self.matching(case, &term.pod_affinity_term, host);
        }
        let soft = self.spreads(case, "ScheduleAnyway");
        let spread = soft.iter().map(|constraint| self.spread_count(case, constraint, host)).sum();
        let of_profile = self.pods.values().filter(|(other, at)| {
            other.profile.name == case.profile.name
                && self.hosts.get(at.host.as_str()).is_some_and(|there| there.zone == host.zone)
        });
        let free = self.free(host);
        let share = |free: u64, total: u64| free * 1_000_000 / total.max(1);
        let headroom = share(free.0, host.total.cpu.0)
            .min(share(free.1, host.total.memory.0))
            .min(share(free.2, host.total.disk.0));
        let name = Reverse(host.name.as_str().to_owned());
        (preference, Reverse(spread), Reverse(of_profile.count()), headroom, name)
    }

    /// Pods with the host that each is on, where the host is known.
    fn placed(&self) -> impl Iterator<Item = (&Pod, &Host)> {
        self.pods.values().filter_map(|(case, at)| Some((&case.pod, self.hosts.get(at.host.as_str())?)))
    }

    fn affinity_holds(&self, case: &Case, host: &Host) -> bool {
        let affinity = case.pod.spec.as_ref().unwrap().affinity.clone().unwrap_or_default();
        let company = affinity.pod_affinity.unwrap_or_default();
        let terms: Vec<_> = company
            .required_during_scheduling_ignored_during_execution
            .unwrap_or_default()
            .into_iter()
            .filter(|term| domain(&term.topology_key, host).is_some())
            .collect();
        let all_match = |pod: &Pod| terms.iter().all(|term| self.term_selects(&case.pod, term, pod));
        let company: Vec<&Host> = self.placed().filter(|(pod, _)| all_match(pod)).map(|(_, there)| there).collect();
        if company.is_empty() && all_match(&case.pod) {
            return true;
        }
        terms.iter().all(|term| {
            company.iter().any(|there| domain(&term.topology_key, there) == domain(&term.topology_key, host))
        })
    }

    fn anti_affinity_holds(&self, case: &Case, host: &Host) -> bool {
        self.placed().all(|(other, there)| {
            let apart = |owner: &Pod, subject: &Pod| {
                required_distance(owner).iter().all(|term| {
                    let here = domain(&term.topology_key, host);
                    here.is_none()
                        || here != domain(&term.topology_key, there)
                        || !self.term_selects(owner, term, subject)
                })
            };
            apart(&case.pod, other) && apart(other, &case.pod)
        })
    }

    fn spreads(&self, case: &Case, when: &str) -> Vec<TopologySpreadConstraint> {
        let all = case.pod.spec.as_ref().unwrap().topology_spread_constraints.clone().unwrap_or_default();
        all.into_iter().filter(|constraint| constraint.when_unsatisfiable == when).collect()
    }

    fn spread_selects(case: &Case, constraint: &TopologySpreadConstraint, pod: &Pod) -> bool {
        let own = labels(&case.pod);
        let keys = constraint.match_label_keys.iter().flatten();
        namespace(&case.pod) == namespace(pod)
            && selects(constraint.label_selector.as_ref(), &labels(pod))
            && keys.filter_map(|key| own.get_key_value(key)).all(|(key, value)| labels(pod).get(key) == Some(value))
    }

    fn spread_count(&self, case: &Case, constraint: &TopologySpreadConstraint, host: &Host) -> u64 {
        let key = &constraint.topology_key;
        let Some(here) = domain(key, host) else { return 0 };
        let selected = self.placed().filter(|(pod, _)| Self::spread_selects(case, constraint, pod));
        selected.filter(|(_, there)| domain(key, there).as_ref() == Some(&here)).count() as u64
    }

    fn spread_holds(&self, case: &Case, host: &Host, constraint: &TopologySpreadConstraint) -> bool {
        let key = &constraint.topology_key;
        if domain(key, host).is_none() {
            return true;
        }
        let mut domains = BTreeMap::new();
        for other in self.hosts.values() {
            let by_affinity =
                constraint.node_affinity_policy.as_deref() == Some("Ignore") || node_accepted(&case.pod, other);
            let by_taints =
                constraint.node_taints_policy.as_deref() != Some("Honor") || (other.ready && !other.unschedulable);
            if by_affinity && by_taints && other.subnets.iter().any(|subnet| allowed(case, subnet.as_str())) {
                domains.insert(domain(key, other), self.spread_count(case, constraint, other));
            }
        }
        let enough = domains.len() >= usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap();
        let least = if enough { domains.values().min().copied().unwrap_or(0) } else { 0 };
        let itself = u64::from(Self::spread_selects(case, constraint, &case.pod));
        self.spread_count(case, constraint, host) + itself <= least + u64::try_from(constraint.max_skew).unwrap()
    }

    fn matching(&self, case: &Case, term: &PodAffinityTerm, host: &Host) -> i64 {
        let Some(here) = domain(&term.topology_key, host) else { return 0 };
        let there = self.placed().filter(|(_, there)| domain(&term.topology_key, there).as_ref() == Some(&here));
        let selected = there.filter(|(pod, _)| self.term_selects(&case.pod, term, pod));
        i64::try_from(selected.count()).unwrap()
    }

    /// Whether `term`, written in the Pod `owner`, speaks of the Pod `subject`.
    fn term_selects(&self, owner: &Pod, term: &PodAffinityTerm, subject: &Pod) -> bool {
        let listed = term.namespaces.clone().unwrap_or_default();
        let own_only = listed.is_empty() && term.namespace_selector.is_none();
        let its_labels = self.namespaces.get(&namespace(subject)).cloned().unwrap_or_default();
        let in_namespace = (own_only && namespace(owner) == namespace(subject))
            || listed.contains(&namespace(subject))
            || selects(term.namespace_selector.as_ref(), &its_labels);
        let (own, its) = (labels(owner), labels(subject));
        let mut same = term.match_label_keys.iter().flatten();
        let mut other = term.mismatch_label_keys.iter().flatten();
        in_namespace
            && selects(term.label_selector.as_ref(), &its)
            && same.all(|key| !own.contains_key(key) || own.get(key) == its.get(key))
            && other.all(|key| !own.contains_key(key) || own.get(key) != its.get(key))
    }
}

fn allowed(case: &Case, subnet: &str) -> bool {
    case.profile.subnets.is_empty() || case.profile.subnets.iter().any(|name| name.as_str() == subnet)
}

fn labels(pod: &Pod) -> Labels {
    pod.metadata.labels.clone().unwrap_or_default()
}

fn namespace(pod: &Pod) -> String {
    pod.metadata.namespace.clone().unwrap()
}

fn required_distance(pod: &Pod) -> Vec<PodAffinityTerm> {
    let affinity = pod.spec.as_ref().unwrap().affinity.clone().unwrap_or_default();
    let distance = affinity.pod_anti_affinity.unwrap_or_default();
    distance.required_during_scheduling_ignored_during_execution.unwrap_or_default()
}

/// The domain of a host, for the two topology keys that are honoured.
fn domain(key: &str, host: &Host) -> Option<String> {
    match key {
        "topology.kubernetes.io/zone" => Some(host.zone.to_string()),
        "monopod.dev/host" => Some(host.name.to_string()),
        _ => None,
    }
}

fn node_labels(host: &Host) -> Labels {
    let labels = [
        ("topology.kubernetes.io/zone", host.zone.as_str()),
        ("topology.kubernetes.io/region", "north"),
        ("eks.amazonaws.com/compute-type", "fargate"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/hostname", "-known later-"),
        ("monopod.dev/host", host.name.as_str()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn node_accepted(pod: &Pod, host: &Host) -> bool {
    let (spec, labels) = (pod.spec.as_ref().unwrap(), node_labels(host));
    let by_selector = spec.node_selector.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    let affinity = spec.affinity.clone().unwrap_or_default().node_affinity.unwrap_or_default();
    let required = affinity.required_during_scheduling_ignored_during_execution;
    by_selector && required.is_none_or(|any| any.node_selector_terms.iter().any(|term| term_matches(term, &labels)))
}

fn term_matches(term: &NodeSelectorTerm, labels: &Labels) -> bool {
    let expressions = term.match_expressions.clone().unwrap_or_default();
    !expressions.is_empty() && expressions.iter().all(|expression| expression_matches(expression, labels))
}

fn expression_matches(expression: &NodeSelectorRequirement, labels: &Labels) -> bool {
    let (value, values) = (labels.get(&expression.key), expression.values.clone().unwrap_or_default());
    let number = value.and_then(|value| value.parse::<i64>().ok());
    match expression.operator.as_str() {
        "Gt" => number.is_some_and(|number| number > values[0].parse().unwrap()),
        "Lt" => number.is_some_and(|number| number < values[0].parse().unwrap()),
        operator => operator_holds(operator, value, &values),
    }
}

fn operator_holds(operator: &str, value: Option<&String>, values: &[String]) -> bool {
    match operator {
        "In" => value.is_some_and(|value| values.contains(value)),
        "NotIn" => value.is_none_or(|value| !values.contains(value)),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        other => panic!("the generator made no operator {other}"),
    }
}

fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> bool {
    let Some(selector) = selector else { return false };
    let by_labels = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    by_labels
        && selector.match_expressions.iter().flatten().all(|expression| {
            let values = expression.values.clone().unwrap_or_default();
            operator_holds(&expression.operator, labels.get(&expression.key), &values)
        })
}

/// The names of all subnets that a host could be asked for.
pub(super) fn subnet_names(names: &[&str]) -> BTreeSet<monopod_types::SubnetName> {
    names.iter().map(|name| monopod_types::SubnetName::from(*name)).collect()
}
