//! Node selectors and required node affinity against the nodes that a profile can offer.
//!
//! The node of a microVM does not exist before its Pod, so the question is whether one that the Pod accepts could be
//! made: the verdict asks [`requirements`](crate::requirements) once per zone of the profile.

use k8s_openapi::api::core::v1::Pod;
use monopod_types::{ProfileName, Zone};

use super::{Kind, Violation};
use crate::requirements::{LabelValue, NodeLabels, NodeRequirements, Requirement};

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

impl ProfileNodes<'_> {
    /// Whether any node that the profile can offer passes: one kind of node per zone.
    fn any(&self, passes: impl Fn(&NodeLabels<'_>) -> bool) -> bool {
        if self.zones.is_empty() {
            return passes(&self.node_in(LabelValue::Open));
        }
        self.zones.iter().any(|zone| passes(&self.node_in(LabelValue::Is(zone.as_str()))))
    }

    fn node_in<'a>(&'a self, zone: LabelValue<'a>) -> NodeLabels<'a> {
        NodeLabels {
            zone,
            region: self.region.map_or(LabelValue::Open, LabelValue::Is),
            architecture: LabelValue::Is("amd64"),
            host: LabelValue::Open,
        }
    }

    fn violation(&self, field: impl Into<String>, message: String) -> Violation {
        let fragment = format!(
            "MatchNodeSelector failed: Fargate profile {} cannot satisfy pod's node selector/affinity requirements",
            self.profile
        );
        Violation { kind: Kind::UnsatisfiableNodeSelector, field: field.into(), fragment, message }
    }
}

/// Requirements that no node of the profile can meet, among them those that cannot be evaluated at all. The API server
/// refuses most of the latter (an operator that it does not know), but not every Pod comes from there:
/// `monopod explain` reads files.
pub(super) fn check(pod: &Pod, nodes: &ProfileNodes<'_>, found: &mut Vec<Violation>) {
    match NodeRequirements::parse(pod) {
        Ok(requirements) if nodes.any(|node| requirements.matches(node)) => {}
        Ok(requirements) => explain(pod, &requirements, nodes, found),
        Err(error) => found.push(nodes.violation(AFFINITY_PATH, error.to_string())),
    }
}

/// Why no node will do: each entry of the selector, then the affinity, then, where each could be met for itself, all
/// of them together.
fn explain(pod: &Pod, requirements: &NodeRequirements, nodes: &ProfileNodes<'_>, found: &mut Vec<Violation>) {
    let before = found.len();
    let profile = nodes.profile;
    let selector = pod.spec.iter().flat_map(|spec| spec.node_selector.iter().flatten());
    for (key, value) in selector.clone() {
        let requirement = Requirement::equals(key, value);
        if !nodes.any(|node| requirement.met_by(node)) {
            let message = format!("no node of Fargate profile \"{profile}\" has the label {key}={value}");
            found.push(nodes.violation(format!("spec.nodeSelector[{key}]"), message));
        }
    }
    if !nodes.any(|node| requirements.affinity_matches(node)) {
        let message = format!("no node of Fargate profile \"{profile}\" meets the required node affinity");
        found.push(nodes.violation(AFFINITY_PATH, message));
    }
    if found.len() == before {
        let field = if selector.count() > 0 { "spec.nodeSelector" } else { AFFINITY_PATH };
        let message = format!("no node of Fargate profile \"{profile}\" meets all node requirements at once");
        found.push(nodes.violation(field, message));
    }
}
