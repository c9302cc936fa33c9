//! Mounts and the rest of a container.

use monopod_agent_proto::v1::Mount;
use serde_json::{Value, json};

use super::super::{ImageConfig, find_container, stop_signal};
use super::support::{container_in, read, world};

fn mounts(mounts: &Value, volumes: &Value) -> Result<Vec<Mount>, String> {
    let env = json!([{"name": "POD", "value": "web"}, {"name": "EMPTY"}]);
    let world = container_in(&json!({"volumeMounts": mounts, "env": env}), &json!({"volumes": volumes}));
    Ok(world.request().map_err(|error| error.to_string())?.mounts)
}

fn one(mount: &Value) -> Result<(String, String, bool), String> {
    let mut mount = mount.clone();
    mount["name"] = json!("v");
    let found = mounts(&json!([mount]), &json!([{"name": "v", "emptyDir": {}}]))?.remove(0);
    Ok((found.destination, found.sub_path, found.read_only))
}

#[test]
fn sub_paths_are_expanded_cleaned_and_kept_inside_their_volume() {
    for (mount, expected) in [
        (json!({"mountPath": "/data"}), Ok(("/data", "", false))),
        (json!({"mountPath": "data"}), Ok(("/data", "", false))),
        (json!({"mountPath": "/data", "readOnly": true}), Ok(("/data", "", true))),
        (json!({"mountPath": "/data", "subPath": "a//./b/"}), Ok(("/data", "a/b", false))),
        (json!({"mountPath": "/data", "subPathExpr": "logs/$(POD)/$$(X)"}), Ok(("/data", "logs/web/$(X)", false))),
        (json!({"mountPath": "/data", "subPath": "/a"}), Err("error SubPath `/a` must not be an absolute path")),
        (
            json!({"mountPath": "/data", "subPath": "a/../b"}),
            Err("unable to provision SubPath `a/../b`: must not contain '..'"),
        ),
        (json!({"mountPath": "/data", "subPathExpr": "$(Y)/$(X)/$(EMPTY)"}), Err("missing value for EMPTY, X, Y")),
    ] {
        let expected = expected.map(|(path, sub, ro)| (path.to_owned(), sub.to_owned(), ro)).map_err(str::to_owned);
        assert_eq!(one(&mount), expected, "{mount}");
    }
}

#[test]
fn recursive_read_only_needs_read_only_and_no_propagation() {
    let mount = |mode: &str, read_only: bool, propagation: &str| {
        one(
            &json!({"mountPath": "/d", "recursiveReadOnly": mode, "readOnly": read_only, "mountPropagation": propagation}),
        )
    };
    let start = "failed to resolve recursive read-only mode:";
    assert!(mount("Disabled", false, "HostToContainer").is_ok());
    assert!(mount("Enabled", true, "None").unwrap().2);
    assert!(mount("IfPossible", true, "None").unwrap().2);
    let message = format!("{start} volume \"v\" requested recursive read-only mode, but it is not read-only");
    assert_eq!(mount("Enabled", false, "None"), Err(message));
    let message = format!(
        "{start} volume \"v\" requested recursive read-only mode, but it is not compatible with propagation \"HostToContainer\""
    );
    assert_eq!(mount("Enabled", true, "HostToContainer"), Err(message));
    assert_eq!(mount("Some", true, "None"), Err(format!("{start} unknown recursive read-only mode \"Some\"")));
}

#[test]
fn volumes_of_files_are_read_only_whatever_the_mount_says() {
    let volumes = json!([
        {"name": "a", "configMap": {"name": "m"}}, {"name": "b", "secret": {"secretName": "s"}},
        {"name": "c", "projected": {"sources": []}}, {"name": "d", "downwardAPI": {}},
        {"name": "e", "nfs": {"server": "s", "path": "/", "readOnly": true}},
        {"name": "f", "nfs": {"server": "s", "path": "/"}}, {"name": "g", "emptyDir": {}},
    ]);
    let all = json!(["a", "b", "c", "d", "e", "f", "g"].map(|name| json!({"name": name, "mountPath": "/x"})));
    let found: Vec<bool> = mounts(&all, &volumes).unwrap().into_iter().map(|mount| mount.read_only).collect();
    assert_eq!(found, [true, true, true, true, true, false, false]);
}

#[test]
fn outer_mounts_come_before_inner_ones() {
    let volumes = json!([{"name": "v", "emptyDir": {}}]);
    let inner_first = json!(["/a/b/c", "/z", "/a/b", "/a/"].map(|path| json!({"name": "v", "mountPath": path})));
    let found: Vec<String> = mounts(&inner_first, &volumes).unwrap().into_iter().map(|m| m.destination).collect();
    assert_eq!(found, ["/z", "/a/", "/a/b", "/a/b/c"]);
    let missing = mounts(&json!([{"name": "none", "mountPath": "/x"}]), &volumes);
    assert_eq!(missing, Err("cannot find volume \"none\" to mount into container \"c\"".to_owned()));
}

#[test]
fn working_directory_terminal_and_termination_message_have_the_defaults_of_kubernetes() {
    let mut world = container_in(&json!({}), &json!({}));
    let plain = world.request().unwrap();
    assert_eq!(
        (plain.working_directory.as_str(), plain.termination_message_path.as_str()),
        ("/", "/dev/termination-log")
    );
    assert!(!plain.tty && !plain.stdin && !plain.stdin_once && !plain.read_only_root);
    assert_eq!((plain.id.as_str(), plain.name.as_str(), plain.image_serial.as_str()), ("c-0", "c", "serial"));
    world.image.working_dir = "/image".to_owned();
    assert_eq!(world.request().unwrap().working_directory, "/image");
    let fields =
        json!({"workingDir": "/own", "tty": true, "stdin": true, "stdinOnce": true, "terminationMessagePath": "end"});
    let own = container_in(&fields, &json!({})).request().unwrap();
    assert_eq!((own.working_directory.as_str(), own.termination_message_path.as_str()), ("/own", "/end"));
    assert!(own.tty && own.stdin && own.stdin_once);
}

#[test]
fn open_files_and_processes_are_limited_as_on_fargate_and_settable() {
    let mut world = container_in(&json!({}), &json!({}));
    let limits = |world: &super::support::World| -> Vec<(String, u64, u64)> {
        let limits = world.request().unwrap().rlimits;
        limits.into_iter().map(|limit| (limit.name, limit.soft, limit.hard)).collect()
    };
    let name = |name: &str| (name.to_owned(), 1024, 65_535);
    assert_eq!(limits(&world), [name("RLIMIT_NOFILE"), name("RLIMIT_NPROC")]);
    world.settings.rlimits.truncate(1);
    world.settings.rlimits[0].hard = 2048;
    assert_eq!(limits(&world), [("RLIMIT_NOFILE".to_owned(), 1024, 2048)]);
}

#[test]
fn init_and_ephemeral_containers_are_found_by_name_too() {
    let spec = json!({
        "initContainers": [{"name": "i", "args": ["init"]}], "containers": [{"name": "c", "args": ["main"]}],
        "ephemeralContainers": [{"name": "e", "args": ["debug"], "targetContainerName": "c", "stdin": true}],
    });
    let world = world(&spec);
    for (name, args) in [("i", "init"), ("c", "main"), ("e", "debug")] {
        assert_eq!(world.request_of(name).unwrap().args, [args]);
    }
    assert_eq!(world.request_of("x").unwrap_err().to_string(), "container x not found");
    let pod = read(&world.pod);
    assert_eq!(find_container(&pod, "e").unwrap().stdin, Some(true));
}

#[test]
fn the_stop_signal_is_the_pods_then_the_images_then_sigterm() {
    let pod = read(
        &world(&json!({"containers": [{"name": "c"}, {"name": "d", "lifecycle": {"stopSignal": "SIGUSR1"}}]})).pod,
    );
    let silent = ImageConfig::default();
    let image = ImageConfig { stop_signal: "SIGQUIT".to_owned(), ..ImageConfig::default() };
    assert_eq!(stop_signal(&pod, "c", &silent), "SIGTERM");
    assert_eq!(stop_signal(&pod, "c", &image), "SIGQUIT");
    assert_eq!(stop_signal(&pod, "d", &image), "SIGUSR1");
}
