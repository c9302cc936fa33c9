//! Node selectors and required node affinity against the nodes that a profile can offer.
//!
//! The node of a microVM does not exist before its Pod, so requirements are held against the labels that it *would*
//! carry. [`NodeRequirements`] is pure evaluation and knows nothing of profiles: the verdict asks it once per zone of
//! the profile, placement can ask it per host.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod};
use monopod_api::names::{COMPUTE_TYPE, COMPUTE_TYPE_FARGATE, HOST_LABEL, ZONE_LABEL};
use monopod_types::{ProfileName, Zone};

use super::{Kind, Violation};

const AFFINITY_PATH: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";

/// The nodes that a profile can offer.
#[derive(Clone, Copy, Debug)]
pub struct ProfileNodes<'a> {
    /// The profile, for the message.
    pub profile: &'a ProfileName,
    /// Zones of the profile's subnets. Empty when they are not known; then every zone counts as possible.
    pub zones: &'a [Zone],
    /// Region of the cluster. `None` when it is not known; then every region counts as possible.
    pub region: Option<&'a str>,
}

/// The labels that a microVM's node carries or would carry, as far as they differ from node to node.
#[derive(Clone, Copy, Debug)]
pub struct NodeLabels<'a> {
    /// Value of `topology.kubernetes.io/zone` and its older name.
    pub zone: LabelValue<'a>,
    /// Value of `topology.kubernetes.io/region` and its older name.
    pub region: LabelValue<'a>,
    /// Value of `monopod.dev/host`.
    pub host: LabelValue<'a>,
}

/// What is known of the value of a label that is present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelValue<'a> {
    /// Exactly this.
    Is(&'a str),
    /// Not known to the caller or still open: whatever is required of it counts as met.
    Any,
    /// Some value that nobody can know beforehand: it never equals a required one.
    Unpredictable,
}

/// What a Pod requires of its node: `nodeSelector` and required node affinity, borrowed from the Pod.
#[derive(Clone, Copy, Debug)]
pub struct NodeRequirements<'a> {
    selector: Option<&'a BTreeMap<String, String>>,
    terms: Option<&'a [NodeSelectorTerm]>,
}

impl<'a> NodeLabels<'a> {
    /// The value of a label; `None` where the node does not carry it.
    pub fn get(&self, key: &str) -> Option<LabelValue<'a>> {
        match key {
            ZONE_LABEL | "failure-domain.beta.kubernetes.io/zone" => Some(self.zone),
            "topology.kubernetes.io/region" | "failure-domain.beta.kubernetes.io/region" => Some(self.region),
            HOST_LABEL => Some(self.host),
            COMPUTE_TYPE => Some(LabelValue::Is(COMPUTE_TYPE_FARGATE)),
            "kubernetes.io/arch" | "beta.kubernetes.io/arch" => Some(LabelValue::Is("amd64")),
            "kubernetes.io/os" | "beta.kubernetes.io/os" => Some(LabelValue::Is("linux")),
            "kubernetes.io/hostname" => Some(LabelValue::Unpredictable),
            _ => None,
        }
    }
}

impl<'a> NodeRequirements<'a> {
    /// The requirements of a Pod; preferred affinity requires nothing.
    pub fn of(pod: &'a Pod) -> Self {
        let spec = pod.spec.as_ref();
        let affinity = spec.and_then(|spec| spec.affinity.as_ref()?.node_affinity.as_ref());
        let required =
            affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
        Self {
            selector: spec.and_then(|spec| spec.node_selector.as_ref()).filter(|selector| !selector.is_empty()),
            terms: required.map(|selector| selector.node_selector_terms.as_slice()),
        }
    }

    /// Any node will do.
    pub fn is_empty(&self) -> bool {
        self.selector.is_none() && self.terms.is_none()
    }

    /// Whether a node with these labels is one that the Pod accepts: every entry of the selector and any affinity term.
    pub fn met_by(&self, labels: &NodeLabels<'_>) -> bool {
        self.selector_met_by(labels) && self.affinity_met_by(labels)
    }

    fn selector_met_by(&self, labels: &NodeLabels<'_>) -> bool {
        self.selector.is_none_or(|selector| selector.iter().all(|(key, value)| entry_met_by(key, value, labels)))
    }

    fn affinity_met_by(&self, labels: &NodeLabels<'_>) -> bool {
        self.terms.is_none_or(|terms| terms.iter().any(|term| term_met_by(term, labels)))
    }
}

fn entry_met_by(key: &str, value: &str, labels: &NodeLabels<'_>) -> bool {
    labels.get(key).is_some_and(|actual| may_equal(actual, value))
}

/// All expressions and all fields; a term without either matches nothing (Kubernetes API, `NodeSelectorTerm`).
fn term_met_by(term: &NodeSelectorTerm, labels: &NodeLabels<'_>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|expression| requirement_met_by(expression, labels.get(&expression.key)))
        && fields.iter().all(|field| requirement_met_by(field, node_field(&field.key)))
}

/// The one field that Kubernetes lets a term name: the node's name, which nobody can know beforehand.
fn node_field(key: &str) -> Option<LabelValue<'static>> {
    (key == "metadata.name").then_some(LabelValue::Unpredictable)
}

fn requirement_met_by(requirement: &NodeSelectorRequirement, actual: Option<LabelValue<'_>>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    match requirement.operator.as_str() {
        "In" => actual.is_some_and(|actual| values.iter().any(|value| may_equal(actual, value))),
        "NotIn" => actual.is_none_or(|actual| may_differ(actual, values)),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => actual.is_some_and(|actual| may_compare(actual, values, |actual, bound| actual > bound)),
        "Lt" => actual.is_some_and(|actual| may_compare(actual, values, |actual, bound| actual < bound)),
        // An operator that this version does not know is not met, as for Kubernetes.
        _ => false,
    }
}

fn may_equal(actual: LabelValue<'_>, value: &str) -> bool {
    match actual {
        LabelValue::Is(actual) => actual == value,
        LabelValue::Any => true,
        LabelValue::Unpredictable => false,
    }
}

fn may_differ(actual: LabelValue<'_>, values: &[String]) -> bool {
    match actual {
        LabelValue::Is(actual) => values.iter().all(|value| value != actual),
        LabelValue::Any | LabelValue::Unpredictable => true,
    }
}

/// Integer comparison with the one value that `Gt` and `Lt` take.
fn may_compare(actual: LabelValue<'_>, values: &[String], holds: impl Fn(i64, i64) -> bool) -> bool {
    let [bound] = values else { return false };
    let Ok(bound) = bound.parse() else { return false };
    match actual {
        LabelValue::Is(actual) => actual.parse().is_ok_and(|actual| holds(actual, bound)),
        LabelValue::Any => true,
        LabelValue::Unpredictable => false,
    }
}

/// Requirements that no node of the profile can meet: each entry of the selector, then the affinity, then, where each
/// could be met for itself, the two together.
pub(super) fn check(pod: &Pod, nodes: &ProfileNodes<'_>, found: &mut Vec<Violation>) {
    let requirements = NodeRequirements::of(pod);
    if requirements.is_empty() || any_node(nodes, |labels| requirements.met_by(labels)) {
        return;
    }
    let before = found.len();
    for (key, value) in requirements.selector.into_iter().flatten() {
        if !any_node(nodes, |labels| entry_met_by(key, value, labels)) {
            let message = format!("no node of Fargate profile \"{}\" has the label {key}={value}", nodes.profile);
            found.push(violation(nodes, format!("spec.nodeSelector[{key}]"), message));
        }
    }
    if !any_node(nodes, |labels| requirements.affinity_met_by(labels)) {
        let message = format!("no node of Fargate profile \"{}\" meets the required node affinity", nodes.profile);
        found.push(violation(nodes, AFFINITY_PATH.to_owned(), message));
    }
    if found.len() == before {
        let field = if requirements.selector.is_some() { "spec.nodeSelector" } else { AFFINITY_PATH };
        let message = format!("no node of Fargate profile \"{}\" meets all node requirements at once", nodes.profile);
        found.push(violation(nodes, field.to_owned(), message));
    }
}

/// Whether any node that the profile can offer passes: one kind of node per zone.
fn any_node(nodes: &ProfileNodes<'_>, passes: impl Fn(&NodeLabels<'_>) -> bool) -> bool {
    let region = nodes.region.map_or(LabelValue::Any, LabelValue::Is);
    let node_in = |zone| NodeLabels { zone, region, host: LabelValue::Any };
    if nodes.zones.is_empty() {
        return passes(&node_in(LabelValue::Any));
    }
    nodes.zones.iter().any(|zone| passes(&node_in(LabelValue::Is(zone.as_str()))))
}

fn violation(nodes: &ProfileNodes<'_>, field: String, message: String) -> Violation {
    let fragment = format!(
        "MatchNodeSelector failed: Fargate profile {} cannot satisfy pod's node selector/affinity requirements",
        nodes.profile
    );
    Violation { kind: Kind::UnsatisfiableNodeSelector, field, fragment, message }
}
