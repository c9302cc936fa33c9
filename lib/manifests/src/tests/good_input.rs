//! What is read, and as what.

use crate::{Purpose, Source, parse};
use k8s_openapi::api::core::v1::Pod;

use super::{good, pod_with, warnings};
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
fn volumes_of_claim_templates_leave_the_others_in_place_and_are_found_where_they_were_written() {
    let text = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec:\n  volumeClaimTemplates:\n  - metadata: {name: new}\n  - metadata: {name: old}\n  template:\n    spec:\n      containers: [{name: c, image: i}]\n      volumes:\n      - {name: old, emptyDir: {}}\n      - {name: other, emptyDir: {}}\n";
    let workload = &workloads(text)[0];
    let volumes = workload.pod.spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let found = volumes.iter().enumerate().map(|(index, volume)| {
        let origin = workload.origin_of(&format!("spec.volumes[{index}].persistentVolumeClaim")).unwrap();
        (volume.name.as_str(), volume.persistent_volume_claim.is_some(), origin.line)
    });
    assert_eq!(found.collect::<Vec<_>>(), [("old", true, 7), ("other", false, 13), ("new", true, 6)]);
}

#[test]
fn a_volume_without_a_source_is_an_empty_dir_and_one_with_an_unknown_source_is_not() {
    for (volume, is_empty_dir) in [
        ("{name: v}", true),
        ("{name: v, emptyDir: ~}", true),
        ("{name: v, hostPath: ~}", true),
        ("{name: v, quantumDisk: {}}", false),
        ("{name: v, configMap: {name: m}}", false),
    ] {
        for text in [
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: w}}\nspec: {{containers: [{{name: c}}], volumes: [{volume}]}}\n"
            ),
            templated("CronJob", "batch/v1").replace("containers:", &format!("volumes: [{volume}], containers:")),
        ] {
            let volumes = only_pod(&text).spec.unwrap().volumes.unwrap();
            assert_eq!(volumes[0].empty_dir.is_some(), is_empty_dir, "{text}");
        }
    }
}

#[test]
fn an_empty_namespace_is_the_default_one() {
    let text = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: c, namespace: \"\"}\n";
    let namespace = &good(text).persistent_volume_claims[0].object.metadata.namespace;
    assert_eq!(namespace.as_deref(), Some("default"));
    let text = pod_with("tty: true").replace("name: web\nspec", "name: web\n  namespace: ''\nspec");
    assert_eq!(only_pod(&text).metadata.namespace.as_deref(), Some("default"));
}

#[test]
fn a_null_in_a_map_counts_as_nothing_and_is_told() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: {app: ~}\nspec:\n  nodeSelector: {disk: }\n  containers:\n  - name: web\n    image: i\n    resources: {requests: {cpu: null, memory: 1Gi}}\n";
    let pod = only_pod(text);
    assert_eq!(pod.metadata.labels.unwrap()["app"], "");
    let spec = pod.spec.unwrap();
    assert_eq!(spec.node_selector.unwrap()["disk"], "");
    assert_eq!(spec.containers[0].resources.as_ref().unwrap().requests.as_ref().unwrap()["cpu"].0, "0");
    let expected = "t.yaml:5:17: document 1 null at \"metadata.labels.app\" counts as \"\"\nt.yaml:7:22: document 1 null at \"spec.nodeSelector.disk\" counts as \"\"\nt.yaml:11:33: document 1 null at \"spec.containers[0].resources.requests.cpu\" counts as \"0\"";
    assert_eq!(warnings(text), expected);
}

#[test]
fn of_a_secret_only_the_keys_are_read() {
    let rows = [
        ("data: {a: aGk=}\nstringData: {b: hi}", ""),
        ("data: {a: 'ENC[AES256_GCM,data:TOPSECRET]'}\nstringData: {b: ~}", ""),
        (
            "data: {a: TOPSECRET}\nstringData: {b: 314159}",
            "t.yaml:5:17: document 1 the API server would refuse this: stringData.b: Invalid value: must be a text",
        ),
        (
            "data: {a: [TOPSECRET], b: x}",
            "t.yaml:4:11: document 1 the API server would refuse this: data.a: Invalid value: must be a text",
        ),
    ];
    for (fields, told) in rows {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s}}\n{fields}\n");
        let objects = good(&text);
        let secret = &objects.secrets[0].object;
        let data = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.len()));
        let texts = secret.string_data.iter().flatten().map(|(key, value)| (key.as_str(), value.len()));
        assert_eq!(data.chain(texts).collect::<Vec<_>>(), [("a", 0), ("b", 0)], "{fields}");
        assert_eq!(warnings(&text), told);
        assert!(!format!("{objects:?}").contains("TOPSECRET"));
    }
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: TOPSECRET\n";
    let expected =
        "t.yaml:4:7: document 1 the API server would refuse this: data: Invalid value: must be a map of texts";
    assert_eq!(warnings(text), expected);
}

#[test]
fn limit_ranges_and_runtime_classes_are_read() {
    let objects = good(
        "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l}\nspec: {limits: [{type: Container, default: {cpu: 1}}]}\n---\napiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: r}\nhandler: h\noverhead: {podFixed: {memory: 1Mi}}\n",
    );
    let range = &objects.limit_ranges[0].object;
    assert_eq!(range.metadata.namespace.as_deref(), Some("default"));
    assert_eq!(range.spec.as_ref().unwrap().limits[0].default.as_ref().unwrap()["cpu"].0, "1");
    assert_eq!(objects.runtime_classes[0].object.handler, "h");
    assert_eq!(objects.warnings, []);
}

#[test]
fn a_claim_in_the_input_stands_before_the_one_that_its_stateful_set_would_make() {
    let set = templated("StatefulSet", "apps/v1")
        .replace("spec: {template", "spec: {volumeClaimTemplates: [{metadata: {name: data}, spec: {}}], template");
    let claim = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data-web-0, namespace: shop}\nspec: {volumeName: pv}";
    for text in [format!("{set}\n---\n{claim}"), format!("{claim}\n---\n{set}")] {
        let [found] = good(&text).persistent_volume_claims.try_into().expect("one claim");
        assert_eq!(found.object.spec.unwrap().volume_name.as_deref(), Some("pv"), "{text}");
    }
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
        format!("{{\"apiVersion\": \"v1\",\n\t\"kind\": \"ServiceAccount\", \"metadata\": {{\"name\": \"{name}\"}}}}\n")
    };
    let objects = good(&format!("{}{}", object("a"), object("b")));
    let origins: Vec<String> = objects.service_accounts.iter().map(|found| found.origin.to_string()).collect();
    assert_eq!(origins, ["t.yaml:1:1: document 1", "t.yaml:3:1: document 2"]);
}

#[test]
fn documents_are_numbered_as_written_and_empty_ones_count() {
    let text = "# a comment\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n---\n# nothing\n--- # b\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: b}\n...\n";
    let objects = good(text);
    let origins: Vec<String> = objects.service_accounts.iter().map(|found| found.origin.to_string()).collect();
    assert_eq!(origins, ["t.yaml:3:1: document 1", "t.yaml:9:1: document 3"]);
}

#[test]
fn lists_are_unrolled_and_entries_of_a_typed_list_take_its_kind() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ServiceAccount, metadata: {name: a}}\n- apiVersion: v1\n  kind: ConfigMapList\n  items:\n  - {metadata: {name: b}, data: {k: v}}\n";
    let objects = good(list);
    assert_eq!(objects.service_accounts.len(), 1);
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
        assert_eq!(warnings(&pod_with(line)), expected, "{line}");
    }
}

#[test]
fn objects_of_ours_are_read_and_their_status_may_be_newer_than_we_are() {
    let text = "apiVersion: monopod.dev/v1\nkind: FargateProfile\nmetadata: {name: web}\nspec: {selectors: [{namespace: shop}]}\nstatus: {phase: ACTIVE, fromTheFuture: 1}\n---\napiVersion: monopod.dev/v1\nkind: Subnet\nmetadata: {name: a}\nspec: {cidr: 10.0.0.0/16, zone: z, private: true}\n---\napiVersion: monopod.dev/v1\nkind: Host\nmetadata: {name: h}\nspec: {zone: z}\n";
    let objects = good(text);
    assert_eq!((objects.profiles.len(), objects.subnets.len()), (1, 1));
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
    let objects = parse(&[source], Purpose::Decide).unwrap();
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
