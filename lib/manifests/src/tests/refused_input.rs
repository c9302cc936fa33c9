//! What the API server refuses and the reader only warns of, with the whole text.

use super::{pod_with, warnings};

const WOULD: &str = "document 1 the API server would refuse this:";
const NO_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character";
const NO_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character";

fn check(rows: &[(&str, &str, &str, &str)]) {
    for (name, input, place, told) in rows {
        let expected = if told.is_empty() { String::new() } else { format!("t.yaml:{place}: {WOULD} {told}") };
        assert_eq!(warnings(input), expected, "{name}");
    }
}

/// A Pod with this spec on its fourth line.
fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {spec}\n")
}

#[test]
fn slips_in_containers_are_told_in_the_words_of_the_api_server() {
    check(&[
        ("no image", &pod("{containers: [{name: a}]}"), "4:21", "spec.containers[0].image: Required value"),
        (
            "an empty image of an init container",
            &pod("{containers: [{name: a, image: i}], initContainers: [{name: b, image: ''}]}"),
            "4:77",
            "spec.initContainers[0].image: Required value",
        ),
        ("no name", &pod("{containers: [{image: i}]}"), "4:21", "spec.containers[0].name: Required value"),
        (
            "a name twice",
            &pod("{containers: [{name: a, image: i}], initContainers: [{name: a, image: i}]}"),
            "4:67",
            "spec.initContainers[0].name: Duplicate value: \"a\"",
        ),
        (
            "a name in upper case",
            &pod("{containers: [{name: Web, image: i}]}"),
            "4:28",
            &format!("spec.containers[0].name: Invalid value: \"Web\": {NO_LABEL}"),
        ),
        (
            "a request above the limit",
            &pod_with("resources: {requests: {cpu: 2}, limits: {cpu: 1500m}}"),
            "9:33",
            "spec.containers[0].resources.requests.cpu: Invalid value: \"2\": must be less than or equal to cpu limit of 1500m",
        ),
        ("a request at the limit", &pod_with("resources: {requests: {cpu: 2}, limits: {cpu: 2000m}}"), "", ""),
    ]);
}

#[test]
fn slips_in_the_spec_are_told_in_the_words_of_the_api_server() {
    let volume =
        |sources: &str| pod(&format!("{{containers: [{{name: a, image: i}}], volumes: [{{name: v, {sources}}}]}}"));
    let policy = |policy: &str| pod(&format!("{{containers: [{{name: a, image: i}}], restartPolicy: {policy}}}"));
    let of = |kind: &str, version: &str, policy: &str| {
        format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: w}}\nspec: {{template: {{spec: {{containers: [{{name: a, image: i}}]{policy}}}}}}}\n"
        )
    };
    check(&[
        (
            "two sources of one volume",
            &volume("emptyDir: {}, secret: {secretName: s}"),
            "4:85",
            "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
        ),
        ("one source", &volume("emptyDir: {}"), "", ""),
        (
            "a policy that does not exist",
            &policy("Sometimes"),
            "4:58",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        ("a policy of Pods", &policy("Never"), "", ""),
        (
            "a policy that a Deployment cannot have",
            &of("Deployment", "apps/v1", ", restartPolicy: Never"),
            "4:76",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (
            "a Job without policy",
            &of("Job", "batch/v1", ""),
            "4:25",
            "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ),
        ("a Job with a policy", &of("Job", "batch/v1", ", restartPolicy: OnFailure"), "", ""),
    ]);
}

#[test]
fn slips_in_names_are_told_in_the_words_of_the_api_server() {
    let map = |metadata: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{{metadata}}}\n");
    check(&[
        (
            "a name with an underscore",
            &map("name: my_map"),
            "3:18",
            &format!("metadata.name: Invalid value: \"my_map\": {NO_SUBDOMAIN}"),
        ),
        ("a name with dots", &map("name: a.b"), "", ""),
        ("a prefix that ends in a hyphen", &map("generateName: a-"), "", ""),
        (
            "a prefix in upper case",
            &map("generateName: A-"),
            "3:26",
            &format!("metadata.generateName: Invalid value: \"A-\": {NO_SUBDOMAIN}"),
        ),
        (
            "a namespace with a dot",
            &map("name: a, namespace: b.c"),
            "3:32",
            &format!("metadata.namespace: Invalid value: \"b.c\": {NO_LABEL}"),
        ),
    ]);
}
