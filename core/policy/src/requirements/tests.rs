//! The evaluator of node requirements, operator by operator.

mod properties;

use serde_json::{Value, json};

use super::{LabelValue, NodeLabels, NodeRequirements, RequirementError};

/// A node of which nothing is settled.
const OPEN: NodeLabels<'_> = NodeLabels {
    zone: LabelValue::Open,
    region: LabelValue::Open,
    architecture: LabelValue::Open,
    host: LabelValue::Open,
};

fn required(expression: &Value) -> Value {
    terms(&json!([{"matchExpressions": [expression]}]))
}

fn terms(terms: &Value) -> Value {
    json!({"affinity": {"nodeAffinity":
        {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
}

fn parse(spec: &Value) -> Result<NodeRequirements, RequirementError> {
    let pod = serde_json::from_value(json!({"spec": spec})).expect("the test writes a Pod");
    NodeRequirements::parse(&pod)
}

/// The answer for a node in zone `a` of region `north`, on this host.
fn accepted(spec: &Value, host: LabelValue<'_>) -> bool {
    let (zone, region, architecture) = (LabelValue::Is("a"), LabelValue::Is("north"), LabelValue::Is("amd64"));
    parse(spec).unwrap().matches(&NodeLabels { zone, region, architecture, host })
}

#[test]
fn each_operator_tests_the_label_as_kubernetes_does() {
    let zone = "topology.kubernetes.io/zone";
    for (key, operator, values, expected) in [
        (zone, "In", json!(["a", "b"]), true),
        (zone, "In", json!(["b"]), false),
        (zone, "In", json!([]), false),
        (zone, "NotIn", json!(["b"]), true),
        (zone, "NotIn", json!(["a"]), false),
        (zone, "Exists", json!(null), true),
        (zone, "DoesNotExist", json!(null), false),
        (zone, "Gt", json!(["1"]), false),
        ("disk", "In", json!(["ssd"]), false),
        ("disk", "NotIn", json!(["ssd"]), true),
        ("disk", "Exists", json!(null), false),
        ("disk", "DoesNotExist", json!(null), true),
        ("disk", "Lt", json!(["1"]), false),
        ("monopod.dev/host", "Gt", json!(["16"]), true),
        ("monopod.dev/host", "Gt", json!(["17"]), false),
        ("monopod.dev/host", "Lt", json!(["18"]), true),
        ("monopod.dev/host", "Lt", json!(["17"]), false),
    ] {
        let spec = required(&json!({"key": key, "operator": operator, "values": values}));
        assert_eq!(accepted(&spec, LabelValue::Is("17")), expected, "{spec}");
    }
}

#[test]
fn a_future_node_has_the_labels_of_a_fargate_node() {
    for (key, value) in [
        ("topology.kubernetes.io/zone", "a"),
        ("failure-domain.beta.kubernetes.io/zone", "a"),
        ("topology.kubernetes.io/region", "north"),
        ("failure-domain.beta.kubernetes.io/region", "north"),
        ("eks.amazonaws.com/compute-type", "fargate"),
        ("kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/arch", "amd64"),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/os", "linux"),
        ("monopod.dev/host", "17"),
    ] {
        assert!(accepted(&json!({"nodeSelector": {key: value}}), LabelValue::Is("17")), "{key}");
        assert!(!accepted(&json!({"nodeSelector": {key: "other"}}), LabelValue::Is("17")), "{key}");
    }
}

#[test]
fn the_name_of_a_future_node_can_be_shunned_but_not_asked_for() {
    for (operator, values, expected) in [
        ("In", json!(["n"]), false),
        ("NotIn", json!(["n"]), true),
        ("Exists", json!(null), true),
        ("DoesNotExist", json!(null), false),
    ] {
        let by_label = json!({"key": "kubernetes.io/hostname", "operator": operator, "values": values});
        assert_eq!(accepted(&required(&by_label), LabelValue::Open), expected, "{by_label}");
    }
    for (operator, expected) in [("In", false), ("NotIn", true)] {
        let field = json!({"key": "metadata.name", "operator": operator, "values": ["n"]});
        assert_eq!(accepted(&terms(&json!([{"matchFields": [field]}])), LabelValue::Open), expected, "{field}");
    }
}

#[test]
fn one_term_is_enough_and_all_its_expressions_must_hold() {
    let zone = |name: &str| json!({"key": "topology.kubernetes.io/zone", "operator": "In", "values": [name]});
    let disk = json!({"key": "disk", "operator": "Exists"});
    for (list, expected) in [
        (json!([{"matchExpressions": [zone("b")]}, {"matchExpressions": [zone("a")]}]), true),
        (json!([{"matchExpressions": [zone("a"), disk]}]), false),
        (json!([{}]), false),
        (json!([]), false),
    ] {
        assert_eq!(accepted(&terms(&list), LabelValue::Open), expected, "{list}");
    }
    let mut both = terms(&json!([{"matchExpressions": [zone("a")]}]));
    both["nodeSelector"] = json!({"disk": "ssd"});
    assert!(!accepted(&both, LabelValue::Open), "nodeSelector holds beside the terms");
}

#[test]
fn with_no_host_chosen_a_requirement_on_the_host_can_be_met() {
    for (operator, values) in
        [("In", json!(["x"])), ("NotIn", json!(["x"])), ("Gt", json!(["1"])), ("Lt", json!(["1"]))]
    {
        let on_host = json!({"key": "monopod.dev/host", "operator": operator, "values": values});
        assert!(accepted(&required(&on_host), LabelValue::Open), "{on_host}");
    }
    let none = json!({"key": "monopod.dev/host", "operator": "DoesNotExist"});
    assert!(!accepted(&required(&none), LabelValue::Open));
    for (operator, bound) in [("Gt", i64::MAX), ("Lt", i64::MIN)] {
        let beyond = json!({"key": "monopod.dev/host", "operator": operator, "values": [bound.to_string()]});
        assert!(!accepted(&required(&beyond), LabelValue::Open), "{beyond}");
    }
}

#[test]
fn a_requirement_that_cannot_be_evaluated_is_named() {
    let on_zone =
        |operator: &str, values: Value| required(&json!({"key": "zone", "operator": operator, "values": values}));
    for (spec, text) in [
        (
            on_zone("Near", json!(["a"])),
            "requirement on `zone` has operator `Near`, use In, NotIn, Exists or DoesNotExist",
        ),
        (on_zone("Gt", json!(["a"])), "requirement on `zone` compares with `a`, give exactly one integer"),
        (on_zone("Lt", json!(["1", "2"])), "requirement on `zone` compares with `1,2`, give exactly one integer"),
        (
            terms(&json!([{"matchFields": [{"key": "spec.x", "operator": "In", "values": ["a"]}]}])),
            "matchFields names `spec.x`, only metadata.name can be matched",
        ),
    ] {
        let error = parse(&spec).unwrap_err();
        assert_eq!((error.to_string().as_str(), error.reason()), (text, "InvalidPlacementRule"));
    }
}
