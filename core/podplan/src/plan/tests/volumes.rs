//! Volumes of files and of scratch space.

use monopod_agent_proto::v1::PutVolumeRequest;
use monopod_agent_proto::v1::put_volume_request::Kind;
use monopod_types::Bytes;
use serde_json::{Value, json};

use super::super::{TokenRequest, VolumeError, empty_dir_limits, possible_volumes, required_tokens, volume_updates};
use super::support::{World, container_in, read, world};

/// A world whose only container mounts this volume `v`.
fn with_volume(source: &Value, spec: &Value) -> World {
    let mut volume = source.clone();
    volume["name"] = json!("v");
    let mut spec = spec.clone();
    spec["volumes"] = json!([volume]);
    container_in(&json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}]}), &spec)
        .with(json!({"kind": "ConfigMap", "metadata": {"name": "m", "namespace": "shop"},
            "data": {"a": "text", "b": "more"}, "binaryData": {"c": "/w=="}}))
        .with_secret("s", &json!({"password": "secret"}))
}

/// Every file as `path mode data`, with its user where it has one.
fn listed(request: &PutVolumeRequest) -> Vec<String> {
    let Some(Kind::Files(files)) = &request.kind else { panic!("{request:?} is not of files") };
    let line = |file: &monopod_agent_proto::v1::VolumeFile| {
        let user = file.uid.map(|uid| format!(" of {uid}")).unwrap_or_default();
        format!("{} {:o} {}{user}", file.path, file.mode, String::from_utf8_lossy(&file.data))
    };
    files.files.iter().map(line).collect()
}

fn files(source: &Value) -> Vec<String> {
    listed(&with_volume(source, &json!({})).volumes().unwrap()[0])
}

fn error(source: &Value) -> String {
    let errors = with_volume(source, &json!({})).volumes().unwrap_err();
    assert_eq!(errors.0.iter().map(VolumeError::reason).collect::<Vec<_>>(), ["FailedMount"]);
    errors.to_string()
}

#[test]
fn config_maps_and_secrets_become_files() {
    assert_eq!(files(&json!({"configMap": {"name": "m"}})), ["a 644 text", "b 644 more", "c 644 \u{fffd}"]);
    assert_eq!(files(&json!({"secret": {"secretName": "s", "defaultMode": 256}})), ["password 400 secret"]);
    let items = json!([{"key": "a", "path": "dir/./x", "mode": 448}, {"key": "c", "path": "c"}]);
    let expected = ["c 400 \u{fffd}", "dir/x 700 text"];
    assert_eq!(files(&json!({"configMap": {"name": "m", "items": items, "defaultMode": 256}})), expected);
}

#[test]
fn what_is_missing_is_told_in_the_kubelets_words_unless_it_is_optional() {
    let failed = |message: &str| format!("MountVolume.SetUp failed for volume \"v\" : {message}");
    let items = json!([{"key": "none", "path": "x"}]);
    for (source, message) in [
        (json!({"configMap": {"name": "none"}}), "configmap \"none\" not found"),
        (json!({"secret": {"secretName": "none"}}), "secret \"none\" not found"),
        (json!({"configMap": {"name": "m", "items": items}}), "configmap references non-existent config key: none"),
        (json!({"secret": {"secretName": "s", "items": items}}), "references non-existent secret key: none"),
    ] {
        assert_eq!(error(&source), failed(message), "{source}");
        let mut optional = source;
        let kind = if optional["secret"].is_null() { "configMap" } else { "secret" };
        optional[kind]["optional"] = json!(true);
        assert_eq!(files(&optional), [""; 0], "{optional}");
    }
    for (path, message) in [
        ("/a", "invalid path: must be relative path: /a"),
        ("a/../b", "invalid path: must not contain '..': a/../b"),
        ("..a", "invalid path: must not start with '..': ..a"),
        ("", "invalid path: must not be empty: \"\""),
    ] {
        let source = json!({"configMap": {"name": "m", "items": [{"key": "a", "path": path}]}});
        assert_eq!(error(&source), failed(message));
    }
}

#[test]
fn the_downward_api_tells_metadata_and_resources() {
    let items = json!([
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 384},
        {"path": "meta/name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "memory", "resourceFieldRef": {"containerName": "c", "resource": "limits.memory", "divisor": "1Mi"}},
    ]);
    let expected = ["labels 600 app=\"web\"\ntier=\"front\"", "memory 644 2048", "meta/name 644 web"];
    assert_eq!(files(&json!({"downwardAPI": {"items": items}})), expected);
    let wrong = json!([
        {"path": "a", "fieldRef": {"fieldPath": "status.podIP"}},
        {"path": "b", "resourceFieldRef": {"containerName": "none", "resource": "limits.cpu"}},
    ]);
    assert_eq!(
        error(&json!({"downwardAPI": {"items": wrong}})),
        "MountVolume.SetUp failed for volume \"v\" : [unsupported fieldPath: status.podIP, container none not found]"
    );
}

fn token_volume() -> Value {
    json!({"projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "ca.crt"}]}},
        {"secret": {"name": "s"}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[test]
fn projected_volumes_join_their_sources_and_later_ones_win() {
    let mut world = with_volume(&token_volume(), &json!({}));
    world.token = Some((TokenRequest { audience: String::new(), expiration_seconds: 3607 }, "jwt"));
    let expected = ["ca.crt 644 text", "namespace 644 shop", "password 644 secret", "token 644 jwt"];
    assert_eq!(listed(&world.volumes().unwrap()[0]), expected);
    let tokens: Vec<TokenRequest> = required_tokens(&read(&world.pod)).into_iter().collect();
    assert_eq!(tokens, [world.token.unwrap().0]);

    let twice = json!({"projected": {"sources": [
        {"configMap": {"name": "m", "items": [{"key": "a", "path": "x"}]}},
        {"configMap": {"name": "m", "items": [{"key": "b", "path": "x"}]}},
    ]}});
    assert_eq!(files(&twice), ["x 644 more"]);
}

#[test]
fn a_token_is_private_to_the_one_user_or_the_group_of_the_pod() {
    let token = |pod_security: &Value, own_security: &Value| {
        let mut world = with_volume(&token_volume(), &json!({"securityContext": pod_security}));
        world.pod["spec"]["containers"][0]["securityContext"] = own_security.clone();
        world.token = Some((TokenRequest { audience: String::new(), expiration_seconds: 3607 }, "jwt"));
        let request = world.volumes().unwrap().remove(0);
        (listed(&request).pop().unwrap(), request.fs_group)
    };
    assert_eq!(token(&json!({}), &json!({})), ("token 644 jwt".to_owned(), None));
    assert_eq!(token(&json!({"runAsUser": 5}), &json!({})), ("token 600 jwt of 5".to_owned(), None));
    assert_eq!(token(&json!({"runAsUser": 5}), &json!({"runAsUser": 6})), ("token 600 jwt of 6".to_owned(), None));
    assert_eq!(token(&json!({"fsGroup": 7}), &json!({})), ("token 640 jwt".to_owned(), Some(7)));
}

#[test]
fn tokens_and_certificates_that_are_not_there_are_told_together() {
    let sources = json!([
        {"serviceAccountToken": {"path": "token", "audience": "sts"}},
        {"clusterTrustBundle": {"name": "bundle", "path": "a"}},
        {"clusterTrustBundle": {"signerName": "signer", "path": "b"}},
        {"clusterTrustBundle": {"name": "bundle", "path": "c", "optional": true}},
        {"podCertificate": {"keyType": "ED25519", "signerName": "signer"}},
    ]);
    assert_eq!(
        error(&json!({"projected": {"sources": sources}})),
        "MountVolume.SetUp failed for volume \"v\" : [failed to fetch token: no token for audience \"sts\" was issued to \
         serviceaccount \"default\", while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io \"bundle\" not \
         found, combination of signerName and labelSelector matched zero ClusterTrustBundles, podCertificate projections are \
         not supported]"
    );
    let optional = json!({"projected": {"sources": [sources[3]]}});
    assert_eq!(files(&optional), ["c 644 "]);
}

#[test]
fn a_pods_group_owns_and_reads_its_volumes() {
    let group = |policy: &str| json!({"securityContext": {"fsGroup": 2000, "fsGroupChangePolicy": policy}});
    let request = |source: &Value, policy: &str| with_volume(source, &group(policy)).volumes().unwrap().remove(0);
    let secret = request(&json!({"secret": {"secretName": "s", "defaultMode": 256}}), "Always");
    assert_eq!((secret.fs_group, secret.fs_group_on_root_mismatch), (Some(2000), false));
    assert_eq!(listed(&secret), ["password 440 secret"]);
    let scratch = request(&json!({"emptyDir": {}}), "OnRootMismatch");
    assert_eq!((scratch.fs_group, scratch.fs_group_on_root_mismatch), (Some(2000), true));
    let nfs = request(&json!({"nfs": {"server": "s", "path": "/p"}}), "OnRootMismatch");
    assert_eq!((nfs.fs_group, nfs.fs_group_on_root_mismatch), (None, false), "what others use too is left as it is");
}

#[test]
fn an_empty_dir_in_memory_is_bounded_by_its_limit_the_pod_and_the_machine() {
    let size = |limit: Value, memory: Value| {
        let source = json!({"emptyDir": {"medium": "Memory", "sizeLimit": limit}});
        let mut world = with_volume(&source, &json!({}));
        world.pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": memory}});
        match world.volumes().unwrap().remove(0).kind {
            Some(Kind::EmptyDir(dir)) => (dir.in_memory, dir.size_limit >> 20),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(size(json!("64Mi"), json!("128Mi")), (true, 64));
    assert_eq!(size(json!("1Gi"), json!("128Mi")), (true, 128));
    assert_eq!(size(json!(null), json!("128Mi")), (true, 128));
    assert_eq!(size(json!("0"), json!("64Gi")), (true, 2048));
    let source = json!({"emptyDir": {"medium": "Floppy"}});
    assert_eq!(error(&source), "MountVolume.SetUp failed for volume \"v\" : unknown storage medium \"Floppy\"");
    let on_disk = with_volume(&json!({"emptyDir": {"sizeLimit": "1Gi"}}), &json!({}));
    assert_eq!(empty_dir_limits(&read(&on_disk.pod)), [("v".to_owned(), Bytes(1 << 30))].into());
}

#[test]
fn volumes_that_nobody_mounts_are_not_made_and_every_problem_is_told() {
    let spec = json!({
        "volumes": [
            {"name": "unused", "secret": {"secretName": "none"}},
            {"name": "one", "secret": {"secretName": "none"}},
            {"name": "two", "hostPath": {"path": "/"}},
            {"name": "three", "emptyDir": {}},
        ],
        "initContainers": [{"name": "i", "volumeMounts": [{"name": "one", "mountPath": "/a"}]}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "two", "mountPath": "/a"}]}],
        "ephemeralContainers": [{"name": "e", "volumeMounts": [{"name": "three", "mountPath": "/a"}]}],
    });
    let errors = world(&spec).volumes().unwrap_err();
    let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    assert_eq!(
        texts,
        [
            "MountVolume.SetUp failed for volume \"one\" : secret \"none\" not found",
            "Unable to attach or mount volumes: unmounted volumes=[two], unattached volumes=[], failed to process \
             volumes=[two]: failed to get Plugin from volumeSpec for volume \"two\" err=no volume plugin matched",
        ]
    );
    let possible: Vec<String> = world(&spec).ask(possible_volumes).0.into_iter().map(|request| request.name).collect();
    assert_eq!(possible, ["three"]);
    let mut good = spec;
    good["volumes"][1] = json!({"name": "one", "emptyDir": {}});
    good["volumes"][2] = json!({"name": "two", "emptyDir": {}});
    let names: Vec<String> = world(&good).volumes().unwrap().into_iter().map(|request| request.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
}

#[test]
fn a_changed_object_is_an_update_of_the_volumes_that_show_it() {
    let spec = json!({
        "volumes": [{"name": "map", "configMap": {"name": "m"}}, {"name": "secret", "secret": {"secretName": "s"}},
            {"name": "scratch", "emptyDir": {}}, {"name": "later", "emptyDir": {}}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "map", "mountPath": "/a"},
            {"name": "secret", "mountPath": "/b"}, {"name": "scratch", "mountPath": "/c"}]}],
    });
    let plan = |spec: &Value, value: &str| {
        world(spec).with_config_map("m", &json!({"a": value})).with_secret("s", &json!({"b": "x"})).volumes().unwrap()
    };
    let names = |updates: Vec<PutVolumeRequest>| updates.into_iter().map(|request| request.name).collect::<Vec<_>>();
    let before = plan(&spec, "1");
    assert_eq!(names(volume_updates(&before, &plan(&spec, "1"))), [""; 0]);
    assert_eq!(names(volume_updates(&before, &plan(&spec, "2"))), ["map"]);
    let mut more = spec;
    more["ephemeralContainers"] = json!([{"name": "e", "volumeMounts": [{"name": "later", "mountPath": "/d"}]}]);
    assert_eq!(names(volume_updates(&before, &plan(&more, "1"))), ["later"]);
}
