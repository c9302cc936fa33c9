//! Variables, commands and arguments.

use serde_json::{Value, json};

use super::super::{EnvironmentFile, environment_files, required_objects};
use super::support::{container, container_in, read, world};

fn check(env: &Value, expected: &[&str]) {
    let world = container(&json!({"env": env}))
        .with_config_map("m", &json!({"key": "from map", "other": "x"}))
        .with_secret("s", &json!({"key": "from secret"}));
    assert_eq!(
        world.environment().as_deref(),
        Ok(&expected.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()[..]),
        "{env}"
    );
}

fn check_error(env: &Value, expected: &str) {
    let world = container(&json!({"env": env}))
        .with_config_map("m", &json!({"key": "from map"}))
        .with_secret("s", &json!({"key": "from secret"}));
    let error = world.request().unwrap_err();
    assert_eq!((error.to_string().as_str(), error.reason()), (expected, "CreateContainerConfigError"), "{env}");
}

#[test]
fn variables_see_those_before_them_and_nothing_after() {
    check(
        &json!([{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(C)-$$(A)"}, {"name": "C", "value": "3"}]),
        &["A=1", "B=1-$(C)-$(A)", "C=3"],
    );
    check(&json!([{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}]), &["A=12"]);
    check(&json!([{"name": "A"}, {"name": "B", "value": "<$(A)>"}]), &["A=", "B=<>"]);
}

#[test]
fn variables_come_from_keys_and_optional_ones_are_left_out() {
    let key = |source: &str, name: &str, key: &str, optional: bool| json!([{"name": "A", "valueFrom": {source: {"name": name, "key": key, "optional": optional}}}]);
    check(&key("configMapKeyRef", "m", "key", false), &["A=from map"]);
    check(&key("secretKeyRef", "s", "key", false), &["A=from secret"]);
    for (source, name) in [("configMapKeyRef", "m"), ("secretKeyRef", "s")] {
        check(&key(source, name, "none", true), &[]);
        check(&key(source, "none", "key", true), &[]);
    }
    check_error(&key("configMapKeyRef", "none", "key", false), "configmap \"none\" not found");
    check_error(&key("secretKeyRef", "none", "key", false), "secret \"none\" not found");
    check_error(&key("configMapKeyRef", "m", "none", false), "couldn't find key none in ConfigMap shop/m");
    check_error(&key("secretKeyRef", "s", "none", false), "couldn't find key none in Secret shop/s");
}

#[test]
fn env_wins_over_lists_and_a_later_list_over_an_earlier_one() {
    let lists = json!([
        {"configMapRef": {"name": "m"}},
        {"prefix": "S_", "secretRef": {"name": "s"}},
        {"configMapRef": {"name": "later"}},
        {"secretRef": {"name": "none", "optional": true}},
    ]);
    let world = container(&json!({"envFrom": lists, "env": [{"name": "a", "value": "own"}]}))
        .with_config_map("m", &json!({"a": "1", "b": "2"}))
        .with_secret("s", &json!({"a": "3"}))
        .with_config_map("later", &json!({"b": "4"}));
    assert_eq!(world.environment().unwrap(), ["a=own", "b=4", "S_a=3"]);
    let missing = container(&json!({"envFrom": [{"secretRef": {"name": "none"}}]}));
    assert_eq!(missing.environment(), Err("secret \"none\" not found".to_owned()));
}

#[test]
fn a_secret_that_is_no_text_cannot_be_a_variable() {
    let bytes = json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}, "data": {"k": "/w=="}});
    let env = json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]);
    let world = container(&json!({"env": env})).with(bytes);
    assert_eq!(world.environment(), Err("environment variable A contains invalid UTF-8".to_owned()));
}

#[test]
fn fields_of_the_pod_become_variables() {
    for (path, expected) in [
        ("metadata.name", Ok("web")),
        ("metadata.namespace", Ok("shop")),
        ("metadata.uid", Ok("0001")),
        ("metadata.labels['app']", Ok("web")),
        ("metadata.labels['none']", Ok("")),
        ("metadata.labels", Ok("app=\"web\"\ntier=\"front\"")),
        ("metadata.annotations", Ok("note=\"a \\\"b\\\"\\nc\"")),
        ("spec.nodeName", Ok("node")),
        ("spec.host", Ok("node")),
        ("spec.serviceAccountName", Ok("default")),
        ("status.hostIP", Ok("10.0.0.7")),
        ("status.hostIPs", Ok("10.0.0.7")),
        ("status.podIP", Ok("10.0.0.7")),
        ("status.podIPs", Ok("10.0.0.7,fd00::7")),
        ("status.phase", Err("unsupported fieldPath: status.phase")),
        ("spec.restartPolicy", Err("unsupported fieldPath: spec.restartPolicy")),
        ("spec.hostname", Err("field label not supported: spec.hostname")),
        ("metadata.name['x']", Err("field label does not support subscript: metadata.name['x']")),
    ] {
        let env = json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}]);
        match expected {
            Ok(value) => check(&env, &[&format!("A={value}")]),
            Err(message) => check_error(&env, message),
        }
    }
    let other_version = json!({"apiVersion": "v2", "fieldPath": "metadata.name"});
    check_error(&json!([{"name": "A", "valueFrom": {"fieldRef": other_version}}]), "unsupported pod version: v2");
}

#[test]
fn resources_become_variables_in_units_rounded_up() {
    let own = json!({"requests": {"cpu": "250m", "memory": "64Mi"}, "limits": {"cpu": "1500m", "memory": "100M"}});
    for (resource, divisor, expected) in [
        ("requests.cpu", None, Ok("1")),
        ("requests.cpu", Some("1m"), Ok("250")),
        ("limits.cpu", None, Ok("2")),
        ("requests.memory", None, Ok("67108864")),
        ("requests.memory", Some("1Mi"), Ok("64")),
        ("limits.memory", Some("1Mi"), Ok("96")),
        ("requests.ephemeral-storage", None, Ok("0")),
        ("limits.ephemeral-storage", Some("1Gi"), Ok("20")),
        ("limits.hugepages-2Mi", None, Ok("0")),
        ("limits.storage", None, Err("unsupported container resource : limits.storage")),
        ("cpu", None, Err("unsupported container resource : cpu")),
    ] {
        let mut selector = json!({"resource": resource});
        if let Some(divisor) = divisor {
            selector["divisor"] = json!(divisor);
        }
        let env = json!([{"name": "A", "valueFrom": {"resourceFieldRef": selector}}]);
        let found = container(&json!({"env": env, "resources": own})).environment();
        assert_eq!(found, expected.map(|v| vec![format!("A={v}")]).map_err(str::to_owned), "{resource}");
    }
}

#[test]
fn a_missing_limit_is_the_pods_and_then_the_machines() {
    let env =
        json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}}]);
    let fields = json!({"env": env});
    assert_eq!(container(&fields).environment().unwrap(), ["A=2048"]);
    let of_pod = container_in(&fields, &json!({"resources": {"limits": {"memory": "300Mi"}}}));
    assert_eq!(of_pod.environment().unwrap(), ["A=300"]);
    let named = json!({"resource": "limits.memory", "containerName": "none"});
    check_error(&json!([{"name": "A", "valueFrom": {"resourceFieldRef": named}}]), "container none not found");
}

#[test]
fn services_of_the_namespace_and_the_api_server_become_variables() {
    let service = |namespace: &str, name: &str, ip: &str| {
        json!({"kind": "Service", "metadata": {"name": name, "namespace": namespace}, "spec": {
            "clusterIP": ip, "ports": [{"port": 80}, {"name": "side-door", "port": 81, "protocol": "UDP"}]}})
    };
    let with_services = |spec: &Value| {
        container_in(&json!({"env": [{"name": "URL", "value": "$(MY_DB_PORT)"}, {"name": "MY_DB_SERVICE_PORT", "value": "own"}]}), spec)
            .with(service("shop", "my-db", "10.1.0.1"))
            .with(service("shop", "headless", "None"))
            .with(service("bank", "other", "10.1.0.2"))
            .with(service("default", "kubernetes", "fd00::1"))
            .environment()
            .unwrap()
    };
    let api_server = [
        "KUBERNETES_SERVICE_HOST=fd00::1",
        "KUBERNETES_SERVICE_PORT=80",
        "KUBERNETES_SERVICE_PORT_SIDE_DOOR=81",
        "KUBERNETES_PORT=tcp://[fd00::1]:80",
        "KUBERNETES_PORT_80_TCP_PROTO=tcp",
        "KUBERNETES_PORT_80_TCP_PORT=80",
        "KUBERNETES_PORT_80_TCP_ADDR=fd00::1",
        "KUBERNETES_PORT_80_TCP=tcp://[fd00::1]:80",
        "KUBERNETES_PORT_81_UDP_PROTO=udp",
        "KUBERNETES_PORT_81_UDP_PORT=81",
        "KUBERNETES_PORT_81_UDP_ADDR=fd00::1",
        "KUBERNETES_PORT_81_UDP=udp://[fd00::1]:81",
    ];
    let found = with_services(&json!({}));
    assert_eq!(found[..2], ["URL=tcp://10.1.0.1:80", "MY_DB_SERVICE_PORT=own"]);
    assert_eq!(found[2..14], api_server);
    assert_eq!(found[14], "MY_DB_SERVICE_HOST=10.1.0.1");
    assert_eq!(found.len(), 14 + 11, "{found:?}");
    let found = with_services(&json!({"enableServiceLinks": false}));
    assert_eq!(found[0], "URL=$(MY_DB_PORT)");
    assert_eq!(found[2..], api_server);
}

#[test]
fn the_images_variables_come_first_and_the_pod_overrides_them_in_place() {
    let mut world =
        container(&json!({"tty": true, "env": [{"name": "B", "value": "pod"}, {"name": "C", "value": "$(A)"}]}));
    world.image.env = ["A=image", "B=image", "EMPTY=", "E=a=b", "bare"].map(str::to_owned).into();
    // The Pod's references do not see the image's variables.
    assert_eq!(world.environment().unwrap(), ["TERM=xterm", "A=image", "B=pod", "EMPTY=", "E=a=b", "C=$(A)"]);
}

#[test]
fn command_and_args_replace_the_images_as_documented() {
    let rows: [(&[&str], &[&str], &[&str]); 4] = [
        (&[], &[], &["/entry", "first", "image"]),
        (&["/own"], &[], &["/own"]),
        (&[], &["own"], &["/entry", "first", "own"]),
        (&["/own"], &["$(A)", "$$(A)", "$(B)"], &["/own", "a", "$(A)", "$(B)"]),
    ];
    for (command, args, expected) in rows {
        let fields = json!({"command": command, "args": args, "env": [{"name": "A", "value": "a"}]});
        let mut world = container(&fields);
        world.image.entrypoint = ["/entry", "first"].map(str::to_owned).into();
        world.image.cmd = vec!["image".to_owned()];
        assert_eq!(world.request().unwrap().args, expected, "{command:?} {args:?}");
    }
}

#[test]
fn a_container_without_any_command_is_told_as_the_runtime_tells_it() {
    let mut world = container(&json!({}));
    world.image.cmd.clear();
    world.image.entrypoint = vec![String::new()];
    let error = world.request().unwrap_err();
    assert_eq!((error.to_string().as_str(), error.reason()), ("no command specified", "CreateContainerError"));
}

#[test]
fn variables_are_read_from_a_file_in_a_volume() {
    let file = EnvironmentFile { volume: "v".to_owned(), path: "dir/env".to_owned() };
    let selector = |key: &str, optional: bool| {
        json!({"env": [{"name": "A", "valueFrom": {"fileKeyRef":
            {"volumeName": "v", "path": "dir/env", "key": key, "optional": optional}}}]})
    };
    let contents = "# comment\n\n  ONE='1' # one\r\nMANY='a\nb $(ONE) \"'\nNONE= 'x'\nLAST='end'";
    for (key, expected) in [
        ("ONE", Ok("A=1")),
        ("MANY", Ok("A=a\nb $(ONE) \"")),
        ("LAST", Ok("A=end")),
        ("NONE", Err("environment variable key \"NONE\" not found in file \"dir/env\"")),
        ("OTHER", Err("environment variable key \"OTHER\" not found in file \"dir/env\"")),
    ] {
        let mut world = container(&selector(key, false));
        world.environment_files.insert(file.clone(), contents.as_bytes().to_vec());
        let expected = expected.map(|value| vec![value.to_owned()]).map_err(str::to_owned);
        assert_eq!(world.environment(), expected, "{key}");
    }
    for malformed in ["A", "='x'", "A ='x'", "A=x", "A=\"x\"", "A='x", "A='x' y", "A="] {
        let mut world = container(&selector("KEY", true));
        assert_eq!(world.environment(), Err("couldn't parse env file".to_owned()), "the file is not there");
        world.environment_files.insert(file.clone(), malformed.as_bytes().to_vec());
        assert_eq!(world.environment(), Err("couldn't parse env file".to_owned()), "{malformed}");
    }
    let pod = read(&container(&selector("ONE", false)).pod);
    assert_eq!(environment_files(&pod, "c").into_iter().collect::<Vec<_>>(), [file]);
}

#[test]
fn every_object_that_a_pod_names_is_required() {
    let env_from = json!([{"configMapRef": {"name": "m1"}}, {"secretRef": {"name": "s1", "optional": true}}]);
    let env = json!([
        {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m2", "key": "k"}}},
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
    ]);
    let sources = json!([{"configMap": {"name": "m4"}}, {"secret": {"name": "s4"}}]);
    let world = world(&json!({
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"name": "i", "envFrom": env_from}],
        "containers": [{"name": "c", "env": env}],
        "ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "m5"}}]}],
        "volumes": [
            {"name": "a", "configMap": {"name": "m3"}},
            {"name": "b", "secret": {"secretName": "s3"}},
            {"name": "c", "projected": {"sources": sources}},
            {"name": "d", "persistentVolumeClaim": {"claimName": "claim"}},
            {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        ],
    }));
    let required = required_objects(&read(&world.pod));
    assert_eq!(required.config_maps.into_iter().collect::<Vec<_>>(), ["m1", "m2", "m3", "m4", "m5"]);
    assert_eq!(required.secrets.into_iter().collect::<Vec<_>>(), ["pull", "s1", "s2", "s3", "s4"]);
    assert_eq!(required.claims.into_iter().collect::<Vec<_>>(), ["claim", "web-e"]);
    assert!(required.services);
}
