//! Whole Pods come and go, in real microVMs, and nothing of them stays. How many are cheap without microVMs is tried in
//! tests/e2e, and microVMs alone in lib/vmm-qemu.

use crate::machine::{Machine, script_pod};

/// Pods in all, and those before what is held is measured.
const PODS: usize = 15;
const WARM: usize = 3;
/// Most KiB that the daemon may grow by.
const GROWTH: usize = 4 << 10;

/// What the daemon holds: open files, threads, KiB of memory.
fn held(machine: &Machine) -> [usize; 3] {
    let process = format!("/proc/{}", machine.daemon_process());
    let files = std::fs::read_dir(format!("{process}/fd")).unwrap().count();
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    [files, value("Threads:"), value("VmRSS:")]
}

#[test]
fn vm_pods_come_and_go_and_leave_nothing() {
    let machine = Machine::start();
    let once = |number: usize| {
        let name = format!("cycle-{number}");
        let answer = machine.run(&script_pod(&name, "echo $HOSTNAME", ""));
        assert_eq!((answer.code, answer.stdout), (0, format!("{name}\n")), "{}", answer.stderr);
        machine.ok(&["rm", &name]);
    };
    (0..WARM).for_each(once);
    let [files, _, memory] = held(&machine);
    let network = machine.network();
    (WARM..PODS).for_each(once);
    assert_eq!(machine.traces(), [""; 0]);
    machine.wait_for("files and network are as before", |machine| {
        let ([now, ..], links) = (held(machine), machine.network());
        let is_same = now <= files && links.lines().count() == network.lines().count();
        if is_same { Ok(()) } else { Err(format!("{now} files, {files} before;\n{links}\nbefore:\n{network}")) }
    });
    let [_, threads, after] = held(&machine);
    println!("{memory} KiB after {WARM} Pods, {after} KiB and {threads} threads after {PODS}");
    assert!(after < memory + GROWTH, "{memory} KiB after {WARM} Pods, {after} KiB after {PODS}");
}
