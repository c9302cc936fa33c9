//! What happens to Pods when something under them breaks.

use std::process::Command;

use crate::machine::{Machine, script_pod};

/// Prints a number ten times a second.
const COUNTER: &str = "n=0; while true; do echo $n; n=$((n+1)); sleep 0.1; done";

#[test]
fn vm_pods_outlive_a_killed_daemon_and_their_logs_have_no_gap() {
    let mut machine = Machine::start();
    machine.detached(&script_pod("counter", COUNTER, "terminationGracePeriodSeconds: 1"), &[]);
    let written = |machine: &Machine| machine.ok(&["logs", "counter"]).lines().count();
    machine.wait_for("the counter counts", |machine| {
        let lines = written(machine);
        if lines >= 5 { Ok(()) } else { Err(format!("{lines} lines")) }
    });
    let boot_id = machine.exec("counter", &["cat", "/proc/sys/kernel/random/boot_id"]);
    let vm = machine.vm_processes();
    machine.kill_daemon();
    assert_eq!(machine.vm_processes(), vm, "the microVM runs on");
    machine.start_daemon();
    assert_eq!(machine.exec("counter", &["cat", "/proc/sys/kernel/random/boot_id"]), boot_id);
    let before = written(&machine);
    let log = machine.wait_for("it still counts", |machine| {
        let log = machine.ok(&["logs", "counter"]);
        if log.lines().count() > before + 5 { Ok(log) } else { Err(format!("no more than {before} lines")) }
    });
    let numbers: Vec<usize> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>());
    let pod = machine.inspect("counter");
    assert_eq!(pod["pod"]["status"]["containerStatuses"][0]["restartCount"], 0);
    machine.ok(&["rm", "--force", "counter"]);
    assert_eq!(machine.traces(), [""; 0]);
}

#[test]
fn vm_a_pod_whose_microvm_is_killed_has_failed_and_leaves_nothing() {
    let machine = Machine::start();
    machine.detached(&script_pod("victim", COUNTER, ""), &[]);
    let [vm] = machine.vm_processes()[..] else { panic!("one microVM was expected") };
    assert!(Command::new("kill").args(["-KILL", &vm.to_string()]).status().unwrap().success());
    let status = machine.wait_failed("victim");
    assert!(status["message"].as_str().is_some_and(|message| !message.is_empty()), "{status}");
    machine.ok(&["rm", "--force", "victim"]);
    assert_eq!(machine.traces(), [""; 0]);
}
