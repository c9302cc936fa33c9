//! What a Pod asks of the labels of its node: `nodeSelector`, required and preferred node affinity.
//!
//! The one evaluator of node requirements: [`placement`](crate::placement) asks it about every host,
//! [`admission`](crate::admission) about a profile's zones. A node is made for its Pod, so the question is asked before
//! the node exists. [`NodeLabels`] knows which labels the node will have, [`LabelValue`] how much of each is known
//! already. The rules are those of kube-scheduler (Kubernetes documentation, "Assigning Pods to Nodes") but for one:
//! a term that cannot be evaluated is an error even beside terms that can, so that it is told and not passed over.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{NodeAffinity, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};
use monopod_api::names::{COMPUTE_TYPE, COMPUTE_TYPE_FARGATE, HOST_LABEL, ZONE_LABEL};

mod error;
#[cfg(test)]
mod tests;

pub use error::RequirementError;

/// Zone label of nodes before Kubernetes 1.17, still on every node.
pub(crate) const LEGACY_ZONE_LABEL: &str = "failure-domain.beta.kubernetes.io/zone";
/// Name label of nodes; a microVM's node is named after its address.
pub(crate) const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";
/// The only field that `matchFields` may name.
const NAME_FIELD: &str = "metadata.name";

/// How much is known of one label of a node that is still to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelValue<'a> {
    /// The node will not have the label.
    Absent,
    /// The node will have the label with this value.
    Is(&'a str),
    /// The node will have the label, with a value that no manifest can know: its name follows from its address.
    Unforeseeable,
    /// The node will have the label with a value that is not settled, or not known to the caller: a requirement on it
    /// is met where some value would meet it.
    Open,
}

/// What is known of the labels of a future node, as far as they can differ from node to node.
#[derive(Clone, Copy, Debug)]
pub struct NodeLabels<'a> {
    /// `topology.kubernetes.io/zone` and its older name.
    pub zone: LabelValue<'a>,
    /// `topology.kubernetes.io/region` and its older name.
    pub region: LabelValue<'a>,
    /// `kubernetes.io/arch` and its older name, in Kubernetes' spelling: `amd64`, `arm64`.
    pub architecture: LabelValue<'a>,
    /// `monopod.dev/host`: [`LabelValue::Open`] while no host is chosen.
    pub host: LabelValue<'a>,
}

impl<'a> NodeLabels<'a> {
    /// What is known of the label `key`.
    pub fn get(&self, key: &str) -> LabelValue<'a> {
        match key {
            ZONE_LABEL | LEGACY_ZONE_LABEL => self.zone,
            HOST_LABEL => self.host,
            COMPUTE_TYPE => LabelValue::Is(COMPUTE_TYPE_FARGATE),
            "kubernetes.io/os" | "beta.kubernetes.io/os" => LabelValue::Is("linux"),
            "kubernetes.io/arch" | "beta.kubernetes.io/arch" => self.architecture,
            "topology.kubernetes.io/region" | "failure-domain.beta.kubernetes.io/region" => self.region,
            HOSTNAME_LABEL => LabelValue::Unforeseeable,
            _ => LabelValue::Absent,
        }
    }
}

/// A test on one key, of a node's labels or of a Pod's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Requirement {
    key: String,
    test: Test,
}

/// What must hold for the value of the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
    Gt(i64),
    Lt(i64),
}

impl Requirement {
    /// `key` must have exactly `value`.
    pub(crate) fn equals(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), test: Test::In(BTreeSet::from([value.to_owned()])) }
    }

    /// `key` must be absent or have another value than `value`.
    pub(crate) fn differs(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), test: Test::NotIn(BTreeSet::from([value.to_owned()])) }
    }

    /// Reads a requirement as the API spells it, for node and label selectors alike.
    ///
    /// # Errors
    /// An operator that Kubernetes does not know, or `Gt`/`Lt` without exactly one integer.
    pub(crate) fn parse(key: &str, operator: &str, values: &[String]) -> Result<Self, RequirementError> {
        let integer = || match values {
            [value] => value.parse().map_err(|_| RequirementError::not_an_integer(key, value)),
            _ => Err(RequirementError::not_an_integer(key, &values.join(","))),
        };
        let test = match operator {
            "In" => Test::In(values.iter().cloned().collect()),
            "NotIn" => Test::NotIn(values.iter().cloned().collect()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::DoesNotExist,
            "Gt" => Test::Gt(integer()?),
            "Lt" => Test::Lt(integer()?),
            _ => return Err(RequirementError::unknown_operator(key, operator)),
        };
        Ok(Self { key: key.to_owned(), test })
    }

    /// The key under test.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Whether a node with these labels meets the requirement.
    pub(crate) fn met_by(&self, node: &NodeLabels<'_>) -> bool {
        self.matches(node.get(&self.key))
    }

    /// Whether the value meets the requirement; an [`LabelValue::Open`] one does where some value would.
    pub(crate) fn matches(&self, value: LabelValue<'_>) -> bool {
        match value {
            LabelValue::Absent => matches!(self.test, Test::NotIn(_) | Test::DoesNotExist),
            LabelValue::Is(text) => self.accepts(text),
            LabelValue::Unforeseeable => matches!(self.test, Test::NotIn(_) | Test::Exists),
            LabelValue::Open => self.accepts_any(),
        }
    }

    /// Whether there is any value that it accepts.
    fn accepts_any(&self) -> bool {
        match &self.test {
            Test::In(values) => !values.is_empty(),
            Test::NotIn(_) | Test::Exists => true,
            Test::DoesNotExist => false,
            Test::Gt(bound) => *bound < i64::MAX,
            Test::Lt(bound) => *bound > i64::MIN,
        }
    }

    fn accepts(&self, text: &str) -> bool {
        let number = || text.parse::<i64>().ok();
        match &self.test {
            Test::In(values) => values.contains(text),
            Test::NotIn(values) => !values.contains(text),
            Test::Exists => true,
            Test::DoesNotExist => false,
            Test::Gt(bound) => number().is_some_and(|number| number > *bound),
            Test::Lt(bound) => number().is_some_and(|number| number < *bound),
        }
    }

    /// The values that alone are accepted, where the requirement lists them.
    fn only(&self) -> Option<&BTreeSet<String>> {
        match &self.test {
            Test::In(values) => Some(values),
            Test::NotIn(_) | Test::Exists | Test::DoesNotExist | Test::Gt(_) | Test::Lt(_) => None,
        }
    }
}

/// One node selector term: all its requirements must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeTerm {
    labels: Vec<Requirement>,
    name: Vec<Requirement>,
}

impl NodeTerm {
    /// # Errors
    /// A requirement that Kubernetes could not evaluate either, or a field other than `metadata.name`.
    fn parse(term: &NodeSelectorTerm) -> Result<Self, RequirementError> {
        let parse = |requirement: &NodeSelectorRequirement| {
            let values = requirement.values.as_deref().unwrap_or_default();
            Requirement::parse(&requirement.key, &requirement.operator, values)
        };
        let labels = term.match_expressions.iter().flatten().map(parse).collect::<Result<_, _>>()?;
        let name = term.match_fields.iter().flatten().map(parse).collect::<Result<Vec<_>, _>>()?;
        match name.iter().find(|requirement| requirement.key != NAME_FIELD) {
            Some(requirement) => Err(RequirementError::UnknownField { field: requirement.key.clone() }),
            None => Ok(Self { labels, name }),
        }
    }

    /// Whether a node with these labels meets the term; an empty term matches no node.
    pub(crate) fn matches(&self, node: &NodeLabels<'_>) -> bool {
        !(self.labels.is_empty() && self.name.is_empty())
            && self.labels.iter().all(|requirement| requirement.met_by(node))
            && self.name.iter().all(|requirement| requirement.matches(LabelValue::Unforeseeable))
    }

    /// Hosts on which the answer can differ from that on any other host of the zone.
    pub(crate) fn special_hosts(&self) -> SpecialHosts<'_> {
        let mut named = BTreeSet::new();
        for requirement in self.labels.iter().filter(|requirement| requirement.key == HOST_LABEL) {
            match &requirement.test {
                Test::In(values) | Test::NotIn(values) => named.extend(values.iter().map(String::as_str)),
                Test::Gt(_) | Test::Lt(_) => return SpecialHosts::Any,
                Test::Exists | Test::DoesNotExist => {}
            }
        }
        SpecialHosts::Named(named)
    }
}

/// Hosts that a term tells apart from the rest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SpecialHosts<'a> {
    /// These; all others get one and the same answer.
    Named(BTreeSet<&'a str>),
    /// It compares names as numbers, so each host may get its own answer.
    Any,
}

/// What a Pod demands of its node: all of `nodeSelector`, and one of the required terms where there are any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeRequirements {
    selector: Vec<Requirement>,
    terms: Option<Vec<NodeTerm>>,
}

impl NodeRequirements {
    /// Reads `spec.nodeSelector` and `spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution`; a Pod
    /// that sets neither, as most do, costs no allocation.
    ///
    /// # Errors
    /// A requirement that cannot be evaluated, named by its key.
    pub fn parse(pod: &Pod) -> Result<Self, RequirementError> {
        let Some(spec) = &pod.spec else { return Ok(Self::default()) };
        let selector = spec.node_selector.iter().flatten().map(|(key, value)| Requirement::equals(key, value));
        let required = node_affinity(spec)
            .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        let terms = required
            .map(|required| required.node_selector_terms.iter().map(NodeTerm::parse).collect::<Result<_, _>>())
            .transpose()?;
        Ok(Self { selector: selector.collect(), terms })
    }

    /// Whether a node with these labels would do; where some are [`LabelValue::Open`], whether it could.
    pub fn matches(&self, node: &NodeLabels<'_>) -> bool {
        self.selector.iter().all(|requirement| requirement.met_by(node)) && self.affinity_matches(node)
    }

    /// Whether it would do as far as required node affinity goes.
    pub(crate) fn affinity_matches(&self, node: &NodeLabels<'_>) -> bool {
        self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// Whether the answer can differ between two hosts of one zone.
    pub(crate) fn depend_on_host(&self) -> bool {
        let in_terms = self.terms.iter().flatten().flat_map(|term| &term.labels);
        self.selector.iter().chain(in_terms).any(|requirement| requirement.key == HOST_LABEL)
    }

    /// The values to which the label `key` is confined, `None` where it is not.
    pub fn only(&self, key: &str) -> Option<BTreeSet<&str>> {
        let by_selector = confined(&self.selector, key);
        let by_terms = self.terms.as_ref().and_then(|terms| {
            let each = terms.iter().map(|term| confined(&term.labels, key)).collect::<Option<Vec<_>>>()?;
            Some(each.into_iter().flatten().collect::<BTreeSet<_>>())
        });
        match (by_selector, by_terms) {
            (Some(left), Some(right)) => Some(left.intersection(&right).copied().collect()),
            (left, right) => left.or(right),
        }
    }
}

/// The values that every requirement on `key` accepts, where one of them lists some.
fn confined<'a>(requirements: &'a [Requirement], key: &str) -> Option<BTreeSet<&'a str>> {
    let lists = requirements.iter().filter(|requirement| requirement.key == key).filter_map(Requirement::only);
    lists
        .map(|values| values.iter().map(String::as_str).collect::<BTreeSet<_>>())
        .reduce(|left, right| left.intersection(&right).copied().collect())
}

/// Preferred node affinity: terms with their weights.
///
/// # Errors
/// A requirement that cannot be evaluated, named by its key.
pub(crate) fn preferences(spec: &PodSpec) -> Result<Vec<(NodeTerm, i64)>, RequirementError> {
    let preferred = node_affinity(spec)
        .into_iter()
        .flat_map(|affinity| affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten());
    preferred.map(|term| Ok((NodeTerm::parse(&term.preference)?, i64::from(term.weight)))).collect()
}

fn node_affinity(spec: &PodSpec) -> Option<&NodeAffinity> {
    spec.affinity.as_ref()?.node_affinity.as_ref()
}
