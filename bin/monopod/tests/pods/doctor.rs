//! `monopod doctor` beside a machine with Pods.

use serde_json::Value;

use crate::machine::{Machine, script_pod};

#[test]
fn vm_doctor_says_by_running_guests_whether_pods_can_run_and_disturbs_none() {
    let machine = Machine::start();
    machine.detached(&script_pod("bystander", "exec sleep 600", ""), &[]);
    let before = machine.vm_processes();
    let answer = machine.monopod(&["doctor", "-o", "json"]);
    let report: Value = serde_json::from_str(&answer.stdout).unwrap();
    assert_eq!((answer.code, &report["ready"]), (0, &Value::Bool(true)), "{}{}", answer.stdout, answer.stderr);
    let found = |name: &str| {
        let check = report["checks"].as_array().unwrap().iter().find(|check| check["name"] == name);
        check.unwrap_or_else(|| panic!("no check {name}: {report}"))["found"].as_str().unwrap().to_owned()
    };
    assert!(found("start").contains("ms from a template"), "{report}");
    assert!(found("accelerator").contains("the first that ran a guest"), "{report}");
    assert!(found("network").contains("10.205."), "{report}");
    assert_eq!(machine.vm_processes(), before);
    let left = std::fs::read_dir(machine.root()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with("doctor-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn vm_doctor_says_what_is_missing_and_what_to_do() {
    let machine = Machine::start();
    let answer = machine.monopod(&["doctor", "--qemu", "/nowhere/qemu"]);
    assert_eq!(answer.code, 1, "{}", answer.stderr);
    let line = answer.stdout.lines().find(|line| line.contains("QEMU")).unwrap();
    assert!(line.starts_with("FAILED") && line.contains("/nowhere/qemu"), "{}", answer.stdout);
    assert!(answer.stdout.contains("install qemu-system-x86"), "{}", answer.stdout);
    assert!(answer.stdout.ends_with("Pods cannot run on this machine; see what FAILED above.\n"), "{}", answer.stdout);
}
