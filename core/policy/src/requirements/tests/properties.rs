//! Node requirements against a model that reads the documentation of Kubernetes word by word.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{OPEN, parse, required};
use crate::requirements::{LabelValue, NodeLabels};

/// One requirement against a label with one definite value or none, as the documentation of Kubernetes words it.
fn model(operator: &str, values: &[String], actual: Option<&str>) -> bool {
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || Some((number(actual?)?, number(values.first()?).filter(|_| values.len() == 1)?));
    match operator {
        "In" => actual.is_some_and(|actual| values.contains(&actual.to_owned())),
        "NotIn" => !actual.is_some_and(|actual| values.contains(&actual.to_owned())),
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => compared().is_some_and(|(actual, bound)| actual > bound),
        "Lt" => compared().is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

/// Whether a requirement has a meaning: an operator of Kubernetes, and exactly one integer to compare with.
fn can_be_evaluated(operator: &str, values: &[String]) -> bool {
    match operator {
        "In" | "NotIn" | "Exists" | "DoesNotExist" => true,
        "Gt" | "Lt" => values.len() == 1 && values[0].parse::<i64>().is_ok(),
        _ => false,
    }
}

/// Whether the node meets the requirements of a Pod with this spec, `None` where one of them cannot be evaluated.
fn answer(spec: &Value, node: &NodeLabels<'_>) -> Option<bool> {
    parse(spec).ok().map(|requirements| requirements.matches(node))
}

fn owned(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

const KEYS: [&str; 4] = ["topology.kubernetes.io/zone", "kubernetes.io/os", "disktype", "kubernetes.io/hostname"];
const VALUES: [&str; 6] = ["1", "2", "3", "z", "linux", ""];
/// Equal to no value that a requirement can name here.
const NOBODY: &str = "a name that nobody knows";

fn requirement() -> impl Strategy<Value = (&'static str, &'static str, Vec<&'static str>)> {
    let operator = prop::sample::select(vec!["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Like"]);
    let values = prop::collection::vec(prop::sample::select(VALUES.to_vec()), 0..3);
    (prop::sample::select(KEYS.to_vec()), operator, values)
}

proptest! {
    #[test]
    fn terms_agree_with_kubernetes_rules(
        terms in prop::collection::vec(prop::collection::vec(requirement(), 0..3), 0..3),
        selector in prop::collection::btree_map(
            prop::sample::select(KEYS.to_vec()), prop::sample::select(VALUES.to_vec()), 0..3),
        zone in prop::sample::select(VALUES.to_vec()),
    ) {
        let actual = BTreeMap::from([(KEYS[0], zone), (KEYS[1], "linux"), (KEYS[3], NOBODY)]);
        let expected = selector.iter().all(|(key, value)| actual.get(key) == Some(value))
            && terms.iter().any(|term| !term.is_empty() && term.iter().all(|(key, operator, values)| {
                model(operator, &owned(values), actual.get(key).copied())
            }));
        let evaluated = terms.iter().flatten().all(|(_, operator, values)| can_be_evaluated(operator, &owned(values)));
        let list: Vec<Value> = terms.iter().map(|term| {
            let expressions: Vec<Value> = term.iter().map(|(key, operator, values)| {
                json!({ "key": key, "operator": operator, "values": values })
            }).collect();
            json!({ "matchExpressions": expressions })
        }).collect();
        let mut spec = super::terms(&json!(list));
        spec["nodeSelector"] = json!(selector);
        let node = NodeLabels { zone: LabelValue::Is(zone), ..OPEN };
        prop_assert_eq!(answer(&spec, &node), evaluated.then_some(expected));
    }

    /// An open value meets a requirement exactly when some value does.
    #[test]
    fn an_open_value_stands_for_every_value((_, operator, values) in requirement()) {
        let named = owned(&values);
        let mut candidates = vec!["0", "4", NOBODY];
        candidates.extend(VALUES);
        let expected = candidates.iter().any(|actual| model(operator, &named, Some(actual)));
        let spec = required(&json!({ "key": KEYS[0], "operator": operator, "values": values }));
        prop_assert_eq!(answer(&spec, &OPEN), can_be_evaluated(operator, &named).then_some(expected));
    }
}
