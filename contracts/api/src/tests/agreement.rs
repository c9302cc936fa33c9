//! The same good and bad objects go through the CEL rules of the CRD and through `validate`, so that the API server
//! and the CLI cannot come to disagree.

use kube::CustomResourceExt;
use kube::core::cel::{Validator, compile_schema};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{FargateProfile, FieldProblem, Host, Subnet, SubnetOverlap, overlaps};

/// One object and the problems it has, each as `field: message`.
struct Case {
    name: &'static str,
    object: Value,
    problems: Vec<String>,
}

fn case<const N: usize>(name: &'static str, object: Value, problems: [&str; N]) -> Case {
    Case { name, object, problems: problems.map(str::to_owned).to_vec() }
}

fn crd_schema<K: CustomResourceExt>() -> Value {
    let crd = serde_json::to_value(K::crd()).unwrap();
    crd.pointer("/spec/versions/0/schema/openAPIV3Schema").unwrap().clone()
}

/// What the API server would say: the schema's defaults first, then its CEL rules.
fn problems_by_cel<K: CustomResourceExt>(object: &Value) -> Vec<String> {
    let answer = Validator::new().validate_with_defaults(&crd_schema::<K>(), object, None);
    let errors = answer.err().map(|errors| errors.into_vec()).unwrap_or_default();
    // A rule at the root gives its path with a leading dot, as fieldPath is written; the API server shows none.
    let mut problems: Vec<String> =
        errors.iter().map(|error| error.to_string().trim_start_matches('.').into()).collect();
    problems.sort();
    problems
}

fn problems_by_rust(found: &[FieldProblem]) -> Vec<String> {
    let mut problems: Vec<String> = found.iter().map(ToString::to_string).collect();
    problems.sort();
    problems
}

fn check<K: CustomResourceExt + DeserializeOwned>(cases: Vec<Case>, validate: fn(&K) -> Vec<FieldProblem>) {
    for mut case in cases {
        case.problems.sort();
        let typed: K = serde_json::from_value(case.object.clone()).unwrap();
        assert_eq!(problems_by_rust(&validate(&typed)), case.problems, "Rust: {}", case.name);
        assert_eq!(problems_by_cel::<K>(&case.object), case.problems, "CEL: {}", case.name);
    }
}

fn profile(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "monopod.dev/v1", "kind": "FargateProfile", "metadata": {"name": name}, "spec": spec})
}

/// A profile that is good but for what `change` puts into its spec.
fn profile_with(change: &Value) -> Value {
    let mut spec = json!({"selectors": [{"namespace": "shop"}]});
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    profile("web", &spec)
}

/// `count` pairs whose keys and values are made of the number.
fn pairs(count: usize) -> Value {
    (0..count)
        .map(|number| (format!("key{number}"), json!(number.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn selectors(count: usize) -> Value {
    (0..count).map(|number| json!({"namespace": format!("team-{number}")})).collect()
}

#[test]
fn names_of_profiles_follow_the_reference_and_fit_a_label() {
    let good = json!({"selectors": [{"namespace": "shop"}]});
    let too_long = "metadata.name: The Fargate profile name parameter should not be greater than 100 characters.";
    let no_label = "metadata.name: The Fargate profile name becomes the value of a Pod label and should not be greater than 63 characters.";
    let reserved = "metadata.name: The fargate profile name starts with the reserved prefix: 'eks-'.";
    check(
        vec![
            case("an ordinary name", profile("web", &good), []),
            case("63 characters", profile(&"n".repeat(63), &good), []),
            case("64 characters", profile(&"n".repeat(64), &good), [no_label]),
            case("100 characters", profile(&"n".repeat(100), &good), [no_label]),
            case("more than 100 characters", profile(&"n".repeat(101), &good), [too_long]),
            case("the reserved prefix", profile("eks-web", &good), [reserved]),
            case("the reserved prefix further in", profile("my-eks-web", &good), []),
            case("two problems of one name", profile(&format!("eks-{}", "n".repeat(97)), &good), [too_long, reserved]),
        ],
        FargateProfile::validate,
    );
}

#[test]
fn selectors_of_profiles_have_the_limits_and_texts_of_the_reference() {
    let no_namespace = "Fargate Profile must have at least one selector with at least one namespace value.";
    let at = |index: usize, message: &str| format!("spec.selectors[{index}].namespace: {message}");
    let impossible = at(
        0,
        "No namespace can match: write at most 63 lower-case letters, digits and '-', with '*' for any text and '?' for one character.",
    );
    let none = "spec.selectors: Fargate Profile requires at least one selector.";
    let one = |selector: &Value| profile("web", &json!({"selectors": [selector]}));
    check(
        vec![
            case("no selector", profile("web", &json!({"selectors": []})), [none]),
            case("the field selectors left out", profile("web", &json!({})), [none]),
            case("five selectors", profile("web", &json!({"selectors": selectors(5)})), []),
            case(
                "six selectors",
                profile("web", &json!({"selectors": selectors(6)})),
                ["spec.selectors: Fargate Profile must have at most 5 selectors."],
            ),
            case("a selector without namespace", one(&json!({"labels": {"a": "b"}})), [at(0, no_namespace).as_str()]),
            case("an empty namespace", one(&json!({"namespace": ""})), [at(0, no_namespace).as_str()]),
            case(
                "the second selector without namespace",
                profile("web", &json!({"selectors": [{"namespace": "shop"}, {}]})),
                [at(1, no_namespace).as_str()],
            ),
            case("wildcards in the namespace", one(&json!({"namespace": "prod-*-?"})), []),
            case("a namespace that cannot exist", one(&json!({"namespace": "Shop_1"})), [impossible.as_str()]),
            case("a namespace of 64 characters", one(&json!({"namespace": "n".repeat(64)})), [impossible.as_str()]),
        ],
        FargateProfile::validate,
    );
}

#[test]
fn label_pairs_of_selectors_have_the_limits_and_texts_of_the_reference() {
    let one = |labels: &Value| profile("web", &json!({"selectors": [{"namespace": "shop", "labels": labels}]}));
    let field = "spec.selectors[0].labels";
    let bad_key = format!("{field}: A label key must have 1 to 127 characters.");
    let bad_value = format!("{field}: A label value must have at most 255 characters.");
    check(
        vec![
            case("five label pairs", one(&pairs(5)), []),
            case(
                "six label pairs",
                one(&pairs(6)),
                [format!("{field}: Request contains Selector with more than 5 Label pairs").as_str()],
            ),
            case("wildcards in key and value", one(&json!({"app.*/?": "web-*"})), []),
            case("an empty label key", one(&json!({"": "x"})), [bad_key.as_str()]),
            case("a label key of 127 characters", one(&json!({"k".repeat(127): "x"})), []),
            case("a label key of 128 characters", one(&json!({"k".repeat(128): "x"})), [bad_key.as_str()]),
            case("a label value of 255 characters", one(&json!({"k": "v".repeat(255)})), []),
            case("a label value of 256 characters", one(&json!({"k": "v".repeat(256)})), [bad_value.as_str()]),
        ],
        FargateProfile::validate,
    );
}

#[test]
fn tags_of_profiles_have_the_limits_of_the_reference() {
    let tags = |tags: &Value| profile_with(&json!({"tags": tags}));
    let bad_key = "spec.tags: A tag key must have 1 to 128 characters.";
    check(
        vec![
            case("fifty tags", tags(&pairs(50)), []),
            case("fifty-one tags", tags(&pairs(51)), ["spec.tags: A Fargate profile can have at most 50 tags."]),
            case("a tag key of 128 characters", tags(&json!({"k".repeat(128): "x"})), []),
            case("a tag key of 129 characters", tags(&json!({"k".repeat(129): "x"})), [bad_key]),
            case("an empty tag key", tags(&json!({"": "x"})), [bad_key]),
            case("a tag value of 256 characters", tags(&json!({"k": "v".repeat(256)})), []),
            case(
                "a tag value of 257 characters",
                tags(&json!({"k": "v".repeat(257)})),
                ["spec.tags: A tag value must have at most 256 characters."],
            ),
            case(
                "the reserved tag prefix",
                tags(&json!({"aws:team": "x"})),
                ["spec.tags: A tag key must not start with the reserved prefix 'aws:'."],
            ),
        ],
        FargateProfile::validate,
    );
}

#[test]
fn subnets_and_role_of_profiles_are_named_or_left_out() {
    check(
        vec![
            case("two subnets", profile_with(&json!({"subnets": ["a", "b"]})), []),
            case(
                "a subnet without name",
                profile_with(&json!({"subnets": ["a", ""]})),
                ["spec.subnets: The name of a Subnet must not be empty."],
            ),
            case(
                "a subnet named twice",
                profile_with(&json!({"subnets": ["a", "b", "a"]})),
                ["spec.subnets: A Subnet must not be named twice."],
            ),
            case("a role", profile_with(&json!({"podExecutionRole": "puller"})), []),
            case(
                "an empty role",
                profile_with(&json!({"podExecutionRole": ""})),
                ["spec.podExecutionRole: Name a role or leave the field out."],
            ),
            case("exact sizing", profile_with(&json!({"sizing": "Exact"})), []),
            case("waiting Pods left alone", profile_with(&json!({"waitingPods": "Ignore"})), []),
        ],
        FargateProfile::validate,
    );
}

/// Not in the tables above: the CEL interpreter at hand counts bytes, the API server's counts characters.
#[test]
fn lengths_are_counted_in_characters_and_not_in_bytes() {
    let object = profile_with(&json!({"tags": {"ü".repeat(128): "ü".repeat(256)}}));
    let typed: FargateProfile = serde_json::from_value(object).unwrap();
    assert_eq!(typed.validate(), []);
}

fn subnet_with(change: &Value) -> Value {
    let mut spec = json!({"cidr": "10.0.0.0/16", "zone": "zone-a", "private": true});
    spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    json!({"apiVersion": "monopod.dev/v1", "kind": "Subnet", "metadata": {"name": "a"}, "spec": spec})
}

#[test]
fn subnets_are_private_ranges_of_sane_size() {
    let cidr = |cidr: &str| subnet_with(&json!({"cidr": cidr}));
    let not_a_range = "spec.cidr: Not a range of addresses; write one such as 10.0.0.0/16 or fd00:1::/64.";
    let bits = "spec.cidr: The address has bits set beyond the prefix; write the first address of the range.";
    let prefix = "spec.cidr: The prefix length must be 8 to 28 for IPv4 and 32 to 112 for IPv6.";
    let public = "spec.private: Subnet a provided in Fargate Profile is not a private subnet";
    let without_private = json!({
        "apiVersion": "monopod.dev/v1", "kind": "Subnet", "metadata": {"name": "a"},
        "spec": {"cidr": "10.0.0.0/16", "zone": "zone-a"},
    });
    check(
        vec![
            case("an IPv4 range", cidr("10.0.0.0/8"), []),
            case("the smallest IPv4 range", cidr("10.0.0.16/28"), []),
            case("an IPv6 range", cidr("fd00:1::/64"), []),
            case("a name instead of a range", cidr("lan"), [not_a_range]),
            case("an address without prefix", cidr("10.0.0.0"), [not_a_range]),
            case("an octet over 255", cidr("10.0.256.0/24"), [not_a_range]),
            case("an empty range", cidr(""), [not_a_range]),
            case("bits beyond the prefix", cidr("10.0.0.1/16"), [bits]),
            case("an IPv4 range too large", cidr("0.0.0.0/0"), [prefix]),
            case("an IPv4 range too small", cidr("10.0.0.0/29"), [prefix]),
            case("an IPv6 range too large", cidr("fd00::/8"), [prefix]),
            case("an IPv6 range too small", cidr("fd00::/120"), [prefix]),
            case("two problems of one range", cidr("10.0.0.1/29"), [bits, prefix]),
            case("a public subnet", subnet_with(&json!({"private": false})), [public]),
            case("the field private left out", without_private, [public]),
        ],
        Subnet::validate,
    );
}

#[test]
fn zone_nat_and_dns_of_subnets_are_checked() {
    let zone = "spec.zone: The zone becomes the value of a Node label: 1 to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends.";
    let nat = |enabled: bool, address: &str| subnet_with(&json!({"natGateway": enabled, "natAddress": address}));
    check(
        vec![
            case("a zone of 63 characters", subnet_with(&json!({"zone": "z".repeat(63)})), []),
            case("a zone of one character", subnet_with(&json!({"zone": "z"})), []),
            case("a zone of 64 characters", subnet_with(&json!({"zone": "z".repeat(64)})), [zone]),
            case("an empty zone", subnet_with(&json!({"zone": ""})), [zone]),
            case("a zone that ends in a dash", subnet_with(&json!({"zone": "zone-"})), [zone]),
            case("a NAT address", nat(true, "192.0.2.7"), []),
            case(
                "a NAT address without NAT",
                nat(false, "192.0.2.7"),
                ["spec.natAddress: An address for NAT needs natGateway: true."],
            ),
            case("a NAT address that is a name", nat(true, "gateway"), ["spec.natAddress: Not an IP address."]),
            case(
                "a NAT address of the other family",
                nat(true, "2001:db8::7"),
                ["spec.natAddress: The address must be of the same family as the Subnet's range."],
            ),
            case("a name server", subnet_with(&json!({"dns": {"nameservers": ["10.0.0.2", "fd00::2"]}})), []),
            case(
                "a name server by name",
                subnet_with(&json!({"dns": {"nameservers": ["resolver"]}})),
                ["spec.dns.nameservers: Each entry must be an IP address."],
            ),
        ],
        Subnet::validate,
    );
}

#[test]
fn hosts_have_a_zone_and_a_name_that_fit_a_label() {
    let host = |name: &str, spec: Value| json!({"apiVersion": "monopod.dev/v1", "kind": "Host", "metadata": {"name": name}, "spec": spec});
    let zone = "spec.zone: The zone becomes the value of a Node label: 1 to 63 letters, digits, '-', '_' and '.', a letter or digit at both ends.";
    check(
        vec![
            case("a host", host("rack-1", json!({"zone": "zone-a", "subnets": ["a"], "unschedulable": true})), []),
            case("a bad zone", host("rack-1", json!({"zone": "zone a"})), [zone]),
            case(
                "a name of 64 characters",
                host(&"h".repeat(64), json!({"zone": "zone-a"})),
                [
                    "metadata.name: The name of a Host becomes the value of a Node label and should not be greater than 63 characters.",
                ],
            ),
            case(
                "a subnet without name",
                host("rack-1", json!({"zone": "z", "subnets": [""]})),
                ["spec.subnets: The name of a Subnet must not be empty."],
            ),
        ],
        Host::validate,
    );
}

/// The API server bounds what a rule may cost by the limits of the schema; a list without one is refused there.
#[test]
fn every_rule_compiles_and_every_list_it_walks_is_bounded() {
    fn walk(node: &Value, rules: &mut usize) {
        if let Some(found) = node.get("x-kubernetes-validations") {
            let compiled = compile_schema(node);
            assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
            let limits = ["maxItems", "maxProperties", "maxLength"];
            let bounded = node["type"] == "object" && node.get("properties").is_some();
            assert!(bounded || limits.iter().any(|limit| node.get(limit).is_some()), "{node}");
            *rules += found.as_array().unwrap().len();
        }
        match node {
            Value::Object(fields) => fields.values().for_each(|field| walk(field, rules)),
            Value::Array(items) => items.iter().for_each(|item| walk(item, rules)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let mut rules = 0;
    for schema in [crd_schema::<FargateProfile>(), crd_schema::<Subnet>(), crd_schema::<Host>()] {
        walk(&schema, &mut rules);
    }
    assert_eq!(rules, 31, "a rule was added or lost: extend the tables above");
}

fn subnet(name: &str, cidr: &str) -> Subnet {
    let mut subnet: Subnet = serde_json::from_value(subnet_with(&json!({"cidr": cidr}))).unwrap();
    subnet.metadata.name = Some(name.to_owned());
    subnet
}

fn overlap_names(subnets: &[Subnet]) -> Vec<(String, String)> {
    let pair = |overlap: &SubnetOverlap| (overlap.first.to_string(), overlap.second.to_string());
    overlaps(subnets).iter().map(pair).collect()
}

/// What CEL cannot say: a rule sees one object only.
#[test]
fn subnets_that_share_addresses_are_found_and_neighbours_are_not() {
    let pair = |first: &str, second: &str| (first.to_owned(), second.to_owned());
    let apart = [subnet("a", "10.0.0.0/17"), subnet("b", "10.0.128.0/17"), subnet("c", "fd00::/64")];
    assert_eq!(overlap_names(&apart), []);
    let twins = [subnet("b", "10.0.0.0/16"), subnet("a", "10.0.0.0/16")];
    assert_eq!(overlap_names(&twins), [pair("a", "b")]);
    let nested = [subnet("inner", "10.1.2.0/24"), subnet("outer", "10.0.0.0/8"), subnet("later", "10.200.0.0/16")];
    assert_eq!(overlap_names(&nested), [pair("outer", "inner"), pair("outer", "later")]);
    let without_range = [subnet("a", "lan"), subnet("b", "lan")];
    assert_eq!(overlap_names(&without_range), [], "what is no range is reported by validate");
}

/// Objects may come from newer definitions than ours, during an upgrade. That a typing error does not pass for a setting is seen
/// to by the API server and by whoever reads files.
#[test]
fn what_a_newer_version_has_written_is_read() {
    let mut newer = profile_with(&json!({"fromTheFuture": {"x": 1}}));
    newer["status"] = json!({"phase": "ACTIVE", "matched": 1, "running": 1, "rejected": 0, "fromTheFuture": {"x": 1}});
    assert_eq!(serde_json::from_value::<FargateProfile>(newer).unwrap().status.unwrap().matched, 1);
}
