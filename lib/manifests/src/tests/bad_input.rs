//! What users get wrong, with the whole text that they are told.

use super::{errors, pod_with};

/// Each row: what is wrong, the input, all that is said about it.
fn check(rows: &[(&str, &str, &str)]) {
    for (name, input, expected) in rows {
        assert_eq!(errors(input), *expected, "{name}");
    }
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c}]}\n";

#[test]
fn a_document_that_is_no_object_is_named_with_its_place() {
    check(&[
        ("a list", "- a\n", "t.yaml:1:1: document 1: not a Kubernetes object: expected a map with apiVersion and kind"),
        (
            "a text",
            "hello\n",
            "t.yaml:1:1: document 1: not a Kubernetes object: expected a map with apiVersion and kind",
        ),
        ("no kind", "apiVersion: v1\n", "t.yaml:1:1: document 1: kind: every object needs one, written as text"),
        ("no version", "kind: Pod\n", "t.yaml:1:1: document 1: apiVersion: every object needs one, written as text"),
        (
            "a kind that is a number",
            "apiVersion: v1\nkind: 7\n",
            "t.yaml:2:7: document 1: kind: every object needs one, written as text",
        ),
        (
            "an unclosed bracket",
            "apiVersion: [v1\nkind: Pod\n",
            "t.yaml:2:5: document 1: illegal placement of ':' indicator",
        ),
        (
            "a tab as indentation",
            "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: web\n",
            "t.yaml:4:2: document 1: tabs disallowed within this context (block indentation)",
        ),
        (
            "a key twice",
            "apiVersion: v1\nkind: Pod\nkind: Job\n",
            "t.yaml:3:1: document 1: duplicate mapping key `kind` is not allowed here",
        ),
        (
            "an alias without anchor",
            "apiVersion: v1\nkind: *here\n",
            "t.yaml:2:7: document 1: reference to unknown value",
        ),
        (
            "the second of two documents",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: [\n",
            "t.yaml:5:7: document 2: unclosed bracket '['",
        ),
        (
            "JSON that ends too early",
            "{\"apiVersion\": \"v1\",\n \"kind\": ",
            "t.yaml:1:1: document 1: unclosed bracket '{'",
        ),
    ]);
}

#[test]
fn a_value_of_the_wrong_type_is_named_with_field_and_place() {
    check(&[
        (
            "a number for a text",
            &pod_with("workingDir: 7"),
            "t.yaml:9:17: document 1: spec.containers[0].workingDir: invalid type: integer `7`, expected a string; write it in quotes: \"7\"",
        ),
        (
            "a YAML 1.1 boolean for a text",
            &pod_with("env: [{name: TLS, value: yes}]"),
            "t.yaml:9:30: document 1: spec.containers[0].env[0].value: invalid type: boolean `true`, expected a string; write it in quotes: \"yes\"",
        ),
        (
            "a YAML 1.1 boolean in the second document",
            &format!("---\n---\n{}", pod_with("workingDir: off # not on")),
            "t.yaml:11:17: document 2: spec.containers[0].workingDir: invalid type: boolean `false`, expected a string; write it in quotes: \"off\"",
        ),
        (
            "a fraction as a label",
            &pod_with("tty: true").replace("name: web\nspec", "name: web\n  labels: {version: 1.10}\nspec"),
            "t.yaml:5:21: document 1: metadata.labels.version: invalid type: floating point `1.1`, expected a string; write it in quotes: \"1.10\"",
        ),
        (
            "a boolean in JSON",
            "{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\",\n \"metadata\": {\"name\": \"m\"}, \"data\": {\"a\": true}}",
            "t.yaml:2:43: document 1: data.a: invalid type: boolean `true`, expected a string; write it in quotes: \"true\"",
        ),
        (
            "a text for a number",
            &pod_with("ports: [{containerPort: http}]"),
            "t.yaml:9:29: document 1: spec.containers[0].ports[0].containerPort: invalid type: string \"http\", expected i32",
        ),
        (
            "a map for a list",
            &pod_with("args: {a: b}"),
            "t.yaml:9:11: document 1: spec.containers[0].args: invalid type: map, expected a sequence",
        ),
        (
            "a text for a boolean",
            &pod_with("stdin: 'true'"),
            "t.yaml:9:12: document 1: spec.containers[0].stdin: invalid type: string \"true\", expected a boolean",
        ),
        (
            "a list for a quantity",
            &pod_with("resources: {requests: {cpu: [1]}}"),
            "t.yaml:9:33: document 1: spec.containers[0].resources.requests.cpu: invalid type: sequence, expected Quantity",
        ),
    ]);
}

#[test]
fn an_object_that_kubernetes_would_refuse_at_once_is_refused() {
    check(&[
        (
            "a Pod without containers",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\n",
            "t.yaml:1:1: document 1: spec.containers: a Pod needs at least one container",
        ),
        (
            "a CronJob without containers",
            "apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: web}\nspec: {jobTemplate: {spec: {template: {spec: {}}}}}\n",
            "t.yaml:4:46: document 1: spec.jobTemplate.spec.template.spec.containers: a Pod needs at least one container",
        ),
        (
            "an object without name",
            "apiVersion: v1\nkind: ConfigMap\ndata: {a: b}\n",
            "t.yaml:1:1: document 1: metadata.name: every object needs a name",
        ),
        (
            "a version that is gone",
            "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: web}\n",
            "t.yaml:1:13: document 1: apiVersion: a Deployment is of apps/v1, not of extensions/v1beta1",
        ),
        (
            "a version of another group",
            "apiVersion: v1\nkind: Deployment\nmetadata: {name: web}\n",
            "t.yaml:1:13: document 1: apiVersion: a Deployment is of apps/v1, not of v1",
        ),
        (
            "a kind that is not read, in another group",
            "apiVersion: apps/v1\nkind: Service\nmetadata: {name: web}\n",
            "t.yaml:1:13: document 1: apiVersion: a Service is of v1, not of apps/v1",
        ),
        (
            "a kind in lower case",
            "apiVersion: v1\nkind: pod\nmetadata: {name: web}\n",
            "t.yaml:2:7: document 1: kind: there is no pod in v1; did you mean Pod?",
        ),
        (
            "a kind with two letters swapped",
            "apiVersion: apps/v1\nkind: Deploymnet\nmetadata: {name: web}\n",
            "t.yaml:2:7: document 1: kind: there is no Deploymnet in apps/v1; did you mean Deployment?",
        ),
        (
            "a misspelt kind in another group",
            "apiVersion: apps/v1\nkind: cronjob\nmetadata: {name: web}\n",
            "t.yaml:2:7: document 1: kind: there is no cronjob in apps/v1; did you mean CronJob of batch/v1?",
        ),
        (
            "a kind of nobody",
            "apiVersion: v1\nkind: Ingress\nmetadata: {name: web}\n",
            "t.yaml:2:7: document 1: kind: there is no Ingress in v1; kinds of other groups need the API version of their group",
        ),
    ]);
}

#[test]
fn an_object_of_ours_is_held_to_its_fields_and_its_rules() {
    let profile = |spec: &str| {
        format!("apiVersion: monopod.dev/v1\nkind: FargateProfile\nmetadata:\n  name: web\nspec:\n  {spec}\n")
    };
    check(&[
        (
            "a version that we do not have",
            "apiVersion: monopod.dev/v2\nkind: Host\nmetadata: {name: a}\n",
            "t.yaml:2:7: document 1: kind: there is no Host in monopod.dev/v2; monopod.dev/v1 has FargateProfile, Subnet and Host",
        ),
        (
            "a kind that we do not have",
            "apiVersion: monopod.dev/v1\nkind: Profile\nmetadata: {name: a}\n",
            "t.yaml:2:7: document 1: kind: there is no Profile in monopod.dev/v1; monopod.dev/v1 has FargateProfile, Subnet and Host",
        ),
        (
            "a field that we do not have",
            &profile("selectors: [{namespace: shop}]\n  sizeing: Exact"),
            "t.yaml:7:12: document 1: spec.sizeing: there is no such field; there are podExecutionRole, selectors, sizing, subnets, tags, waitingPods",
        ),
        (
            "a field of a selector that we do not have",
            &profile("selectors: [{namespaces: shop}]"),
            "t.yaml:6:28: document 1: spec.selectors[0].namespaces: there is no such field; there are labels, namespace\nt.yaml:6:15: document 1: spec.selectors[0].namespace: Fargate Profile must have at least one selector with at least one namespace value.",
        ),
        (
            "a field beside the spec",
            &format!("{}specs: {{}}\n", profile("selectors: [{namespace: shop}]")),
            "t.yaml:7:8: document 1: specs: there is no such field; there are spec, status",
        ),
        (
            "a sizing that we do not have",
            &profile("selectors: [{namespace: shop}]\n  sizing: Huge"),
            "t.yaml:7:11: document 1: spec.sizing: unknown variant `Huge`, expected `Fargate` or `Exact`",
        ),
        (
            "a name that no object can have, in a namespace",
            "apiVersion: monopod.dev/v1\nkind: Host\nmetadata: {name: Host_1, namespace: shop}\nspec: {zone: a}\n",
            "t.yaml:3:18: document 1: metadata.name: A name is made of lower-case letters, digits, '-' and '.', with a letter or digit at the ends of every part.\nt.yaml:3:37: document 1: metadata.namespace: The object belongs to the cluster and to no namespace; leave the field out.",
        ),
        (
            "no spec",
            "apiVersion: monopod.dev/v1\nkind: FargateProfile\nmetadata: {name: web}\n",
            "t.yaml:1:1: document 1: FargateProfile: missing field `spec`",
        ),
        (
            "every broken rule at once",
            &profile("selectors: [{namespace: shop}, {labels: {a: b}}]\n  tags: {'aws:x': z}"),
            "t.yaml:6:34: document 1: spec.selectors[1].namespace: Fargate Profile must have at least one selector with at least one namespace value.\nt.yaml:7:9: document 1: spec.tags: A tag key must not start with the reserved prefix 'aws:'.",
        ),
    ]);
}

#[test]
fn subnets_of_one_input_must_not_overlap() {
    let subnet = |name: &str, cidr: &str| {
        format!(
            "apiVersion: monopod.dev/v1\nkind: Subnet\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}, zone: a, private: true}}\n---\n"
        )
    };
    let input = format!("{}{}", subnet("wide", "10.0.0.0/8"), subnet("narrow", "10.1.0.0/16"));
    check(&[(
        "one in the other",
        &input,
        "t.yaml:6:1: document 2: spec.cidr: 10.1.0.0/16 of Subnet narrow overlaps 10.0.0.0/8 of Subnet wide",
    )]);
}

#[test]
fn the_same_object_twice_is_an_error_that_names_both_places() {
    let twice = format!("{POD}---\n{POD}");
    let elsewhere = format!("{POD}---\n{}", POD.replace("name: web}", "name: web, namespace: default}"));
    check(&[
        (
            "word for word",
            &twice,
            "t.yaml:6:1: document 2: Pod default/web is defined twice, first at t.yaml:1:1: document 1",
        ),
        (
            "once with the default namespace written out",
            &elsewhere,
            "t.yaml:6:1: document 2: Pod default/web is defined twice, first at t.yaml:1:1: document 1",
        ),
    ]);
}

#[test]
fn an_error_in_a_list_is_named_from_the_entry_and_with_its_line() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: web}\n  spec:\n    containers:\n    - name: 7\n";
    check(&[(
        "a number as a name",
        list,
        "t.yaml:9:13: document 1: spec.containers[0].name: invalid type: integer `7`, expected a string; write it in quotes: \"7\"",
    )]);
}

#[test]
fn every_error_of_an_input_is_reported_and_not_the_first_only() {
    let input = "kind: Pod\n---\napiVersion: [\n---\napiVersion: v1\n";
    assert_eq!(errors(input).lines().count(), 3);
}
