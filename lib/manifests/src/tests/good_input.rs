//! What is read, and as what.

use crate::{Source, parse};
use k8s_openapi::api::core::v1::Pod;

use super::{good, pod_with};
use crate::{Workload, WorkloadKind};

fn workloads(text: &str) -> Vec<Workload> {
    good(text).workloads.into_iter().map(|located| located.object).collect()
}

fn only_pod(text: &str) -> Pod {
    let mut found = workloads(text);
    assert_eq!(found.len(), 1, "{text}");
    found.remove(0).pod
}

fn templated(kind: &str, api_version: &str) -> String {
    let template = "template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}";
    let spec = if kind == "CronJob" { format!("jobTemplate: {{spec: {{{template}}}}}") } else { template.to_owned() };
    format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: web, namespace: shop}}\nspec: {{{spec}}}\n")
}

#[test]
fn every_controller_gives_the_pod_that_it_would_make_first() {
    use WorkloadKind::{CronJob, DaemonSet, Deployment, Job, ReplicaSet, ReplicationController, StatefulSet};
    for (kind, api_version, owner) in [
        (Deployment, "apps/v1", "ReplicaSet"),
        (ReplicaSet, "apps/v1", "ReplicaSet"),
        (StatefulSet, "apps/v1", "StatefulSet"),
        (DaemonSet, "apps/v1", "DaemonSet"),
        (Job, "batch/v1", "Job"),
        (CronJob, "batch/v1", "Job"),
        (ReplicationController, "v1", "ReplicationController"),
    ] {
        let found = workloads(&templated(kind.as_str(), api_version));
        let [Workload { kind: found_kind, namespace, name, pod, .. }] = found.as_slice() else {
            panic!("{kind}: {found:?}")
        };
        assert_eq!((*found_kind, namespace.as_str(), name.as_str()), (kind, "shop", "web"));
        let owners = pod.metadata.owner_references.as_ref().unwrap();
        assert_eq!((owners[0].kind.as_str(), owners[0].controller), (owner, Some(true)), "{kind}");
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["app"], "web", "{kind}");
        assert_eq!(pod.metadata.namespace.as_deref(), Some("shop"), "{kind}");
        assert_eq!(pod.spec.as_ref().unwrap().containers[0].image.as_deref(), Some("i"), "{kind}");
    }
}

#[test]
fn a_pod_without_namespace_is_in_default_and_has_no_owner() {
    let pod = only_pod(&pod_with("tty: true"));
    assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(pod.metadata.owner_references, None);
}

#[test]
fn a_stateful_set_brings_the_claims_of_its_first_pod() {
    let text = templated("StatefulSet", "apps/v1").replace(
        "spec: {template",
        "spec: {volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: fast}}], template",
    );
    let objects = good(&text);
    let claim = &objects.persistent_volume_claims[0].object;
    assert_eq!(claim.metadata.name.as_deref(), Some("data-web-0"));
    assert_eq!(claim.metadata.namespace.as_deref(), Some("shop"));
    let pod = &objects.workloads[0].object.pod;
    assert_eq!(pod.metadata.name.as_deref(), Some("web-0"));
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    assert_eq!(volume.persistent_volume_claim.as_ref().unwrap().claim_name, "data-web-0");
}

#[test]
fn scalars_are_read_as_kubernetes_reads_them() {
    let read = |line: &str| only_pod(&pod_with(line)).spec.unwrap().containers.remove(0);
    assert_eq!(read("tty: yes").tty, Some(true), "YAML 1.1 booleans");
    assert_eq!(read("tty: off").tty, Some(false), "YAML 1.1 booleans");
    assert_eq!(read("workingDir: 'yes'").working_dir.as_deref(), Some("yes"), "quoted is text");
    assert_eq!(read("workingDir: 2026-01-01").working_dir.as_deref(), Some("2026-01-01"), "a date is text");
    assert_eq!(read("workingDir: ~").working_dir, None, "null is absent");
    assert_eq!(read("ports: [{containerPort: 0644}]").ports.unwrap()[0].container_port, 0o644, "YAML 1.1 octal");
    let cpu = |line: &str| read(line).resources.unwrap().requests.unwrap()["cpu"].0.clone();
    assert_eq!(cpu("resources: {requests: {cpu: 2}}"), "2", "a number is a quantity");
    assert_eq!(cpu("resources: {requests: {cpu: 0.5}}"), "0.5", "a fraction is a quantity");
}

#[test]
fn anchors_and_merge_keys_work_within_a_document() {
    let pod = only_pod(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - &base {name: a, image: i}\n  - <<: *base\n    name: b\n",
    );
    let containers = pod.spec.unwrap().containers;
    assert_eq!((containers[1].name.as_str(), containers[1].image.as_deref()), ("b", Some("i")));
}

#[test]
fn json_documents_follow_each_other_and_keep_their_lines() {
    let object = |name: &str| {
        format!("{{\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\", \"metadata\": {{\"name\": \"{name}\"}}}}\n")
    };
    let objects = good(&format!("{}{}", object("a"), object("b")));
    let origins: Vec<String> = objects.namespaces.iter().map(|found| found.origin.to_string()).collect();
    assert_eq!(origins, ["t.yaml:1:1: document 1", "t.yaml:3:1: document 2"]);
}

#[test]
fn documents_are_numbered_as_written_and_empty_ones_count() {
    let text = "# a comment\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n# nothing\n--- # b\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n...\n";
    let objects = good(text);
    let origins: Vec<String> = objects.namespaces.iter().map(|found| found.origin.to_string()).collect();
    assert_eq!(origins, ["t.yaml:3:1: document 1", "t.yaml:9:1: document 3"]);
}

#[test]
fn lists_are_unrolled_and_entries_of_a_typed_list_take_its_kind() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- apiVersion: v1\n  kind: ConfigMapList\n  items:\n  - {metadata: {name: b}, data: {k: v}}\n";
    let objects = good(list);
    assert_eq!(objects.namespaces.len(), 1);
    assert_eq!(objects.config_maps[0].object.metadata.name.as_deref(), Some("b"));
    assert_eq!(objects.config_maps[0].origin.line, 8);
}

#[test]
fn other_kinds_are_ignored_with_a_note() {
    let objects = good(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n---\napiVersion: v1\nkind: Service\n",
    );
    let notes: Vec<_> = objects.ignored.iter().map(|found| (found.kind.as_str(), found.name.as_str())).collect();
    assert_eq!(notes, [("Ingress", "web"), ("Service", "")]);
}

#[test]
fn unknown_fields_of_kubernetes_kinds_are_warnings_that_name_the_path() {
    for (line, expected) in [
        ("imag: nginx", "t.yaml:9:11: document 1 unknown field \"spec.containers[0].imag\""),
        (
            "resources: {request: {cpu: 1}}",
            "t.yaml:9:26: document 1 unknown field \"spec.containers[0].resources.request\"",
        ),
        ("env: [{name: A, valeu: x}]", "t.yaml:9:28: document 1 unknown field \"spec.containers[0].env[0].valeu\""),
        ("workingDir: ~", ""),
        ("resources: {}", ""),
    ] {
        let warnings = good(&pod_with(line)).warnings;
        let texts: Vec<String> = warnings.iter().map(|found| format!("{} {}", found.origin, found.message)).collect();
        assert_eq!(texts.join("\n"), expected, "{line}");
    }
}

#[test]
fn objects_of_ours_are_read_and_their_status_may_be_newer_than_we_are() {
    let text = "apiVersion: monopod.dev/v1\nkind: FargateProfile\nmetadata: {name: web}\nspec: {selectors: [{namespace: shop}]}\nstatus: {phase: ACTIVE, fromTheFuture: 1}\n---\napiVersion: monopod.dev/v1\nkind: Subnet\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16, zone: z, private: true}\n---\napiVersion: monopod.dev/v1\nkind: Host\nmetadata: {name: h}\nspec: {zone: z}\n";
    let objects = good(text);
    assert_eq!((objects.profiles.len(), objects.subnets.len(), objects.hosts.len()), (1, 1, 1));
    assert_eq!(objects.warnings, []);
}

#[test]
fn two_pods_of_one_generate_name_are_two_pods() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {generateName: web-}\nspec: {containers: [{name: c}]}\n---\n";
    assert_eq!(workloads(&pod.repeat(2)).len(), 2);
}

#[test]
fn a_field_of_a_pod_is_found_where_it_was_written_in_the_object_that_makes_it() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    metadata:\n      labels: {a.b/c: d}\n    spec:\n      containers:\n        - name: web\n          resources:\n            limits: {cpu: 1}\n";
    let source = Source::new("web.yaml", text.as_bytes().to_vec()).unwrap();
    let objects = parse(&[source]).unwrap();
    let workload = &objects.workloads[0].object;
    for (field, line) in [
        ("spec.containers[0].resources.limits[cpu]", 12),
        ("spec.containers[0].resources.limits[nvidia.com/gpu]", 12),
        ("spec.containers[0].image", 10),
        ("metadata.labels[a.b/c]", 7),
        ("metadata.ownerReferences[0]", 7),
        ("status.phase", 1),
    ] {
        assert_eq!(workload.origin_of(field).map(|origin| origin.line), Some(line), "{field}");
    }
}
