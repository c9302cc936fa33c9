//! What keeps the Pods of a `DaemonSet` off our nodes: a requirement of its Pods on the label `compute-type`.
//!
//! Without it a `DaemonSet` that tolerates every taint makes a Pod for each microVM, which waits for ever. Terms of a
//! node affinity are alternatives, so each gets the requirement. Left alone are: a term that names the label, for its
//! author knows of it; a term without a requirement, which matches nothing until it gets one; a `DaemonSet` that selects
//! by the label; and one that opted out.

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{NodeSelectorTerm, PodSpec};
use monopod_api::names::{COMPUTE_TYPE, COMPUTE_TYPE_FARGATE, DAEMON_SET_ON_FARGATE};
use serde_json::{Value, json};

use super::edits::{Edits, Place, pointer};

const AFFINITY: [&str; 4] = ["spec", "template", "spec", "affinity"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

pub(super) fn plan(daemon_set: &DaemonSet, edits: &mut Edits) {
    let Some(spec) = &daemon_set.spec.template.spec else { return };
    if opted_out(daemon_set) || selects_by_label(spec) {
        return;
    }
    let term = json!({ "matchExpressions": [requirement()] });
    let required = json!({ "nodeSelectorTerms": [term] });
    let node_affinity = json!({ REQUIRED: required });
    let [one, two, three, four] = AFFINITY;
    let Some(affinity) = &spec.affinity else {
        return edits.add(pointer(&AFFINITY), json!({ "nodeAffinity": node_affinity }));
    };
    let Some(present) = &affinity.node_affinity else {
        return edits.add(pointer(&[one, two, three, four, "nodeAffinity"]), node_affinity);
    };
    let Some(present) = &present.required_during_scheduling_ignored_during_execution else {
        return edits.add(pointer(&[one, two, three, four, "nodeAffinity", REQUIRED]), required);
    };
    for (index, term) in present.node_selector_terms.iter().enumerate().filter(|(_, term)| wants_requirement(term)) {
        let index = index.to_string();
        let path = [one, two, three, four, "nodeAffinity", REQUIRED, "nodeSelectorTerms", &index, "matchExpressions"];
        let length = term.match_expressions.as_ref().map_or(0, Vec::len);
        edits.insert(&path, length, Place::Last, vec![requirement()]);
    }
}

fn requirement() -> Value {
    json!({ "key": COMPUTE_TYPE, "operator": "NotIn", "values": [COMPUTE_TYPE_FARGATE] })
}

fn opted_out(daemon_set: &DaemonSet) -> bool {
    let annotation = daemon_set.metadata.annotations.as_ref().and_then(|all| all.get(DAEMON_SET_ON_FARGATE));
    annotation.is_some_and(|value| value == "true")
}

fn selects_by_label(spec: &PodSpec) -> bool {
    spec.node_selector.as_ref().is_some_and(|selector| selector.contains_key(COMPUTE_TYPE))
}

fn wants_requirement(term: &NodeSelectorTerm) -> bool {
    let mut expressions = term.match_expressions.iter().flatten().peekable();
    let is_empty = expressions.peek().is_none() && term.match_fields.as_ref().is_none_or(Vec::is_empty);
    !is_empty && !expressions.any(|requirement| requirement.key == COMPUTE_TYPE)
}

#[cfg(test)]
mod tests {
    use super::{DaemonSet, Edits, Value, json, plan, requirement};

    /// The node affinity after the change, as JSON.
    fn changed(metadata: &Value, spec: &Value) -> Value {
        let set = json!({"metadata": metadata, "spec": {"selector": {}, "template": {"spec": spec}}});
        let set: DaemonSet = serde_json::from_value(set).unwrap();
        let mut document = serde_json::to_value(&set).unwrap();
        let mut edits = Edits::default();
        plan(&set, &mut edits);
        json_patch::patch(&mut document, &edits.into_patch()).unwrap();
        let again: DaemonSet = serde_json::from_value(document.clone()).unwrap();
        let mut edits = Edits::default();
        plan(&again, &mut edits);
        assert!(edits.into_patch().0.is_empty(), "asked again, it changes nothing");
        document["spec"]["template"]["spec"]["affinity"].take()
    }

    fn required(terms: &Value) -> Value {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}})
    }

    fn spec(affinity: &Value) -> Value {
        json!({"containers": [], "affinity": affinity})
    }

    #[test]
    fn whatever_affinity_is_there_is_kept() {
        let ours = required(&json!([{"matchExpressions": [requirement()]}]));
        let linux = json!({"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]});
        let field = json!([{"key": "metadata.name", "operator": "In", "values": ["n"]}]);
        let weight = json!([{"weight": 1, "preference": {"matchExpressions": [linux]}}]);
        let preferred = json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": weight}});
        let mut both = ours.clone();
        both["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"] = weight;
        let rows = [
            (json!({"containers": []}), ours.clone()),
            (spec(&json!({})), ours),
            (spec(&preferred), both),
            (
                spec(&required(&json!([{"matchExpressions": [linux]}, {"matchFields": field}]))),
                required(&json!([
                    {"matchExpressions": [linux, requirement()]},
                    {"matchExpressions": [requirement()], "matchFields": field},
                ])),
            ),
        ];
        for (spec, expected) in rows {
            assert_eq!(changed(&json!({}), &spec), expected);
        }
    }

    #[test]
    fn who_knows_of_the_label_or_opted_out_is_left_alone() {
        let asks = json!({"key": "eks.amazonaws.com/compute-type", "operator": "Exists"});
        for terms in [json!([{"matchExpressions": [asks]}]), json!([{}])] {
            assert_eq!(changed(&json!({}), &spec(&required(&terms))), required(&terms));
        }
        let selects = json!({"containers": [], "nodeSelector": {"eks.amazonaws.com/compute-type": "fargate"}});
        assert_eq!(changed(&json!({}), &selects), Value::Null);
        let opted_out = json!({"annotations": {"monopod.dev/daemonset-on-fargate": "true"}});
        assert_eq!(changed(&opted_out, &json!({"containers": []})), Value::Null);
    }
}
