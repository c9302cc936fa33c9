//! What stands beside a Pod in its manifest: ConfigMaps and Secrets as variables and files, and their updates.

use crate::machine::{Machine, script_pod};

const OBJECTS: &str = "apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue, page: first}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {token: hunter2}
---
";

#[test]
fn vm_config_maps_and_secrets_are_variables_and_files_and_files_follow_updates() {
    let machine = Machine::start();
    let volumes = "volumes:
- name: settings
  configMap: {name: settings}
- name: keys
  secret: {secretName: keys, defaultMode: 0400}
- name: fast
  emptyDir: {medium: Memory, sizeLimit: 1Mi}";
    let container = "    env:
    - name: COLOUR
      valueFrom: {configMapKeyRef: {name: settings, key: colour}}
    - name: TOKEN
      valueFrom: {secretKeyRef: {name: keys, key: token}}
    volumeMounts:
    - {name: settings, mountPath: /settings}
    - {name: keys, mountPath: /keys, readOnly: true}
    - {name: fast, mountPath: /fast}
";
    let script = "echo $COLOUR $TOKEN $(cat /settings/page) $(cat /keys/token); exec sleep 3600";
    let pod = script_pod("reader", script, &format!("terminationGracePeriodSeconds: 0\n{volumes}"));
    machine.detached(&format!("{OBJECTS}{pod}{container}"), &[]);
    machine.wait_for("the Pod has read its settings", |machine| {
        let log = machine.ok(&["logs", "reader"]);
        if log == "blue hunter2 first hunter2\n" { Ok(()) } else { Err(log) }
    });
    assert_eq!(machine.exec("reader", &["stat", "-L", "-c", "%a", "/keys/token"]), "400\n");
    let full = machine.monopod(&["exec", "reader", "--", "dd", "if=/dev/zero", "of=/fast/big", "bs=1M", "count=2"]);
    assert!(full.stderr.contains("No space left on device"), "{}", full.stderr);
    let update = OBJECTS.replace("page: first", "page: second");
    let applied = machine.monopod_with(&["apply", "-"], update.as_bytes());
    assert_eq!(applied.stdout, "2 objects applied, used by 1 running Pods\n", "{}", applied.stderr);
    machine.wait_for("the file follows", |machine| {
        let page = machine.exec("reader", &["cat", "/settings/page"]);
        if page == "second" { Ok(()) } else { Err(page) }
    });
}

#[test]
fn vm_a_container_that_fails_its_liveness_probe_is_restarted() {
    let machine = Machine::start();
    let probe = "    livenessProbe:
      exec: {command: [test, -e, /tmp/alive]}
      periodSeconds: 1
      failureThreshold: 1
";
    let script = "touch /tmp/alive; echo started; sleep 2; rm /tmp/alive; exec sleep 3600";
    let pod = script_pod("moody", script, "terminationGracePeriodSeconds: 0");
    machine.detached(&format!("{}{probe}", pod.replace("restartPolicy: Never", "restartPolicy: Always")), &[]);
    machine.wait_for("it is restarted", |machine| {
        let pod = machine.inspect("moody");
        let status = &pod["pod"]["status"]["containerStatuses"][0];
        if status["restartCount"].as_i64() >= Some(1) { Ok(()) } else { Err(status.to_string()) }
    });
    let events = machine.inspect("moody")["events"].to_string();
    assert!(events.contains("Liveness probe failed"), "{events}");
    assert_eq!(machine.ok(&["logs", "--previous", "moody"]), "started\n");
}
