//! Node selectors and required node affinity against the nodes of a profile.

use monopod_types::ProfileName;
use serde_json::{Value, json};

use super::super::{Inputs, Kind, ProfileNodes, Storage, verdict};
use super::{fields, kinds, pod, verdict_of};

const SENTENCE: &str =
    "MatchNodeSelector failed: Fargate profile fp cannot satisfy pod's node selector/affinity requirements";
const AFFINITY: &str = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";

fn affinity(terms: Value) -> Value {
    json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": { "nodeSelectorTerms": terms } } })
}

fn term(key: &str, operator: &str, values: &[&str]) -> Value {
    json!({ "matchExpressions": [{ "key": key, "operator": operator, "values": values }] })
}

#[test]
fn a_selector_that_a_node_of_the_profile_can_meet_is_supported() {
    let selectors = [
        json!({}),
        json!({ "topology.kubernetes.io/zone": "z2" }),
        json!({ "failure-domain.beta.kubernetes.io/zone": "z1" }),
        json!({ "topology.kubernetes.io/region": "r" }),
        json!({ "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64" }),
        json!({ "eks.amazonaws.com/compute-type": "fargate" }),
        json!({ "monopod.dev/host": "host-1" }),
    ];
    for selector in selectors {
        let verdict = verdict_of(&pod(json!({ "nodeSelector": selector })));
        assert!(verdict.is_supported(), "{selector}");
    }
}

#[test]
fn another_selector_is_refused_in_the_references_words_alone() {
    let rows = [
        ("disktype", "ssd"),
        ("topology.kubernetes.io/zone", "z3"),
        ("kubernetes.io/arch", "arm64"),
        ("kubernetes.io/os", "windows"),
        ("kubernetes.io/hostname", "ip-10-0-0-1"),
        ("eks.amazonaws.com/compute-type", "ec2"),
    ];
    for (key, value) in rows {
        let verdict = verdict_of(&pod(json!({ "nodeSelector": { key: value } })));
        assert_eq!(verdict.message(), SENTENCE);
        assert_eq!(fields(&verdict), [format!("spec.nodeSelector[{key}]")]);
    }
}

#[test]
fn every_entry_that_cannot_be_met_is_reported_and_the_sentence_is_said_once() {
    let spec = json!({
        "nodeSelector": { "disktype": "ssd", "kubernetes.io/os": "linux", "size": "big" },
        "affinity": affinity(json!([term("gpu", "Exists", &[])])),
    });
    let verdict = verdict_of(&pod(spec));
    assert_eq!(fields(&verdict), ["spec.nodeSelector[disktype]", "spec.nodeSelector[size]", AFFINITY]);
    assert_eq!(verdict.message(), SENTENCE);
}

#[test]
fn selector_and_affinity_that_exclude_each_other_are_refused() {
    let spec = json!({
        "nodeSelector": { "topology.kubernetes.io/zone": "z1" },
        "affinity": affinity(json!([term("topology.kubernetes.io/zone", "NotIn", &["z1"])])),
    });
    let verdict = verdict_of(&pod(spec));
    assert_eq!(kinds(&verdict), [Kind::UnsatisfiableNodeSelector]);
    assert_eq!(fields(&verdict), ["spec.nodeSelector"]);
}

#[test]
fn affinity_terms_are_alternatives_and_empty_ones_match_nothing() {
    let zone = |zone| term("topology.kubernetes.io/zone", "In", &[zone]);
    let rows = [
        ("one of two terms", json!([zone("z9"), zone("z1")]), true),
        ("no term matches", json!([zone("z8"), zone("z9")]), false),
        ("no terms", json!([]), false),
        ("an empty term", json!([{}]), false),
        ("NotIn fargate", json!([term("eks.amazonaws.com/compute-type", "NotIn", &["fargate"])]), false),
        ("NotIn of an absent label", json!([term("disktype", "NotIn", &["hdd"])]), true),
        ("an absent label exists", json!([term("disktype", "Exists", &[])]), false),
        ("an absent label does not exist", json!([term("disktype", "DoesNotExist", &[])]), true),
        ("a present label does not exist", json!([term("kubernetes.io/hostname", "DoesNotExist", &[])]), false),
        ("not a certain hostname", json!([term("kubernetes.io/hostname", "NotIn", &["a"])]), true),
        ("greater than a word", json!([term("topology.kubernetes.io/zone", "Gt", &["1"])]), false),
        ("an unknown operator", json!([term("kubernetes.io/os", "Like", &["linux"])]), false),
        (
            "a node's name",
            json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["node-1"] }] }]),
            false,
        ),
        (
            "any node's name but one",
            json!([{ "matchFields": [{ "key": "metadata.name", "operator": "NotIn", "values": ["node-1"] }] }]),
            true,
        ),
    ];
    for (name, terms, supported) in rows {
        assert_eq!(verdict_of(&pod(json!({ "affinity": affinity(terms) }))).is_supported(), supported, "{name}");
    }
}

#[test]
fn a_requirement_that_cannot_be_evaluated_is_refused_and_named_even_beside_one_that_is_met() {
    let met = term("topology.kubernetes.io/zone", "In", &["z1"]);
    let rows = [
        (term("disktype", "Like", &["ssd"]), "requirement on `disktype` has operator `Like`"),
        (term("disktype", "Gt", &["big"]), "requirement on `disktype` compares with `big`"),
        (
            json!({ "matchFields": [{ "key": "spec.podCIDR", "operator": "Exists" }] }),
            "matchFields names `spec.podCIDR`",
        ),
    ];
    for (term, message) in rows {
        let verdict = verdict_of(&pod(json!({ "affinity": affinity(json!([met, term])) })));
        assert_eq!((verdict.message().as_str(), fields(&verdict)), (SENTENCE, vec![AFFINITY]), "{term}");
        assert!(verdict.violations()[0].message().starts_with(message), "{term}");
    }
}

#[test]
fn preferred_affinity_requires_nothing() {
    let preferred = json!([{ "weight": 1, "preference": term("disktype", "In", &["ssd"]) }]);
    let affinity = json!({ "nodeAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": preferred } });
    assert!(verdict_of(&pod(json!({ "affinity": affinity }))).is_supported());
}

#[test]
fn zones_and_region_that_are_not_known_count_as_possible() {
    let profile = ProfileName::from("fp");
    let nodes = ProfileNodes { profile: &profile, zones: &[], region: None };
    let storage = Storage::default();
    let inputs = Inputs { storage: &storage, nodes: Some(&nodes) };
    let anywhere = json!({ "topology.kubernetes.io/zone": "eu-1a", "topology.kubernetes.io/region": "eu-1" });
    assert!(verdict(&pod(json!({ "nodeSelector": anywhere })), &inputs).is_supported());
    assert!(!verdict(&pod(json!({ "nodeSelector": { "disktype": "ssd" } })), &inputs).is_supported());
}

#[test]
fn without_nodes_node_selectors_are_not_examined() {
    let storage = Storage::default();
    let inputs = Inputs { storage: &storage, nodes: None };
    assert!(verdict(&pod(json!({ "nodeSelector": { "disktype": "ssd" } })), &inputs).is_supported());
}

#[test]
fn the_message_puts_an_unmet_selector_last() {
    let verdict = verdict_of(&pod(json!({ "hostIPC": true, "nodeSelector": { "disktype": "ssd" } })));
    assert_eq!(verdict.message(), format!("Pod not supported on Fargate: fields not supported: HostIPC, {SENTENCE}"));
}
