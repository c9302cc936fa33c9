//! What may change in a Pod that runs.

use crate::machine::{Machine, script_pod};

/// The Pod with one label, and what else stands in its spec.
fn pod(colour: &str, more: &str) -> String {
    let volume = "volumes:
- name: about
  downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}";
    let mounts = "    volumeMounts: [{name: about, mountPath: /about}]\n";
    let grace = "terminationGracePeriodSeconds: 0";
    let pod = script_pod("app", "echo up; exec sleep 3600", &format!("{grace}\n{volume}\n{more}"));
    format!("{}{mounts}", pod.replace("{name: app}", &format!("{{name: app, labels: {{colour: {colour}}}}}")))
}

#[test]
fn vm_labels_and_ephemeral_containers_of_a_running_pod_may_change_and_nothing_else() {
    let machine = Machine::start();
    machine.detached(&pod("blue", ""), &[]);
    assert_eq!(machine.exec("app", &["cat", "/about/labels"]), "colour=\"blue\"");

    let debug = "ephemeralContainers:
- {name: debug, image: 'monopod.local/busybox:1', command: [sh, -c, 'echo here; exec sleep 3600']}";
    let applied = machine.monopod_with(&["apply", "-"], pod("green", debug).as_bytes());
    assert_eq!((applied.stdout.as_str(), applied.code), ("1 Pods applied\n", 0), "{}", applied.stderr);
    machine.wait_for("the label is in the file, and the container runs", |machine| {
        let labels = machine.exec("app", &["cat", "/about/labels"]);
        let log = machine.monopod(&["logs", "app", "-c", "debug"]);
        if labels == "colour=\"green\"" && log.stdout == "here\n" { Ok(()) } else { Err(format!("{labels} {log:?}")) }
    });
    assert_eq!(machine.ok(&["exec", "app", "-c", "debug", "--", "cat", "/proc/1/comm"]), "sleep\n");
    let status = &machine.inspect("app")["pod"]["status"];
    assert!(status["ephemeralContainerStatuses"][0]["state"]["running"].is_object(), "{status}");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);

    let other = pod("green", "").replace("echo up", "echo other");
    let refused = machine.monopod_with(&["apply", "-"], other.as_bytes());
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(refused.stderr.contains("may not change while the Pod runs"), "{}", refused.stderr);
    let hostile =
        debug.replace("name: debug", "name: more").replace("command", "securityContext: {privileged: true}, command");
    let refused = machine.monopod_with(&["apply", "-"], pod("green", &hostile).as_bytes());
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("Privileged"), "{}", refused.stderr);
}
