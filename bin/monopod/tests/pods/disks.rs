//! Disks that fill up under running Pods: their own, and the host's.

use std::os::unix::fs::symlink;
use std::path::Path;

use monopod_testkit::disk;

use crate::machine::{Machine, script_pod};

/// Waits for its end and has room for the writes of the tests.
const IDLE: &str = "trap 'exit 0' TERM; while true; do sleep 0.1; done";

#[test]
fn vm_a_full_scratch_disk_is_an_error_in_the_container_and_the_pod_goes_on() {
    let machine = Machine::start();
    machine.detached(&script_pod("idle", IDLE, "terminationGracePeriodSeconds: 5"), &[]);
    let answer = machine.monopod(&["exec", "idle", "--", "fallocate", "-l", "100G", "/large"]);
    assert_ne!(answer.code, 0);
    assert!(answer.stderr.contains("No space left on device"), "{}", answer.stderr);
    machine.exec("idle", &["sh", "-c", "rm -f /large && echo still here > /small && cat /small"]);
    let status = machine.inspect("idle")["pod"]["status"].clone();
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0, "{status}");
}

#[test]
fn vm_a_pod_that_writes_more_than_its_limit_is_evicted_with_the_kubelets_words() {
    let machine = Machine::start();
    let script = "dd if=/dev/zero of=/large bs=1M count=32 2>/dev/null; while true; do sleep 1; done";
    let limits = "    resources: {limits: {ephemeral-storage: 16Mi}}\n";
    machine.detached(&(script_pod("greedy", script, "") + limits), &[]);
    let status = machine.wait_failed("greedy");
    assert_eq!(status["reason"], "Evicted", "{status}");
    let words = "Pod ephemeral local storage usage exceeds the total limit of containers 16Mi. ";
    assert_eq!(status["message"], words, "{status}");
    machine.ok(&["rm", "--force", "greedy"]);
    assert_eq!(machine.traces(), [""; 0]);
}

/// Scratch disks are sparse, so that the host's disk may be full long before a Pod's is.
#[test]
fn vm_a_full_disk_of_the_host_is_an_error_in_the_guest_and_no_standstill() {
    disk::with_mounts_of_its_own(|| {
        let folder = tempfile::tempdir().unwrap();
        let (scratch, filler) = (folder.path().join("scratch"), folder.path().join("scratch/filler"));
        let _disk = disk::mount_ext4(&scratch, &folder.path().join("disk"), 3 << 30).unwrap();
        let mut machine = Machine::without_daemon();
        std::fs::create_dir_all(machine.root()).unwrap();
        symlink(&scratch, machine.root().join("scratch")).unwrap();
        machine.start_daemon();
        writes_to_a_host_that_is_full(&machine, &scratch, &filler);
        Ok(())
    })
    .unwrap();
}

fn writes_to_a_host_that_is_full(machine: &Machine, scratch: &Path, filler: &Path) {
    machine.detached(&script_pod("writer", IDLE, "terminationGracePeriodSeconds: 5"), &[]);
    let write = ["exec", "writer", "--", "dd", "if=/dev/zero", "of=/large", "bs=1M", "count=32", "conv=fsync"];
    disk::fill(scratch, filler).unwrap();
    let answer = machine.monopod(&write);
    assert_ne!(answer.code, 0, "{}", answer.stdout);
    assert!(answer.stderr.contains("No space left") || answer.stderr.contains("I/O error"), "{}", answer.stderr);
    // Neither the guest nor its agent wait for room.
    assert_eq!(machine.exec("writer", &["echo", "alive"]), "alive\n");
    std::fs::remove_file(filler).unwrap();
    machine.ok(&write);
    let status = machine.inspect("writer")["pod"]["status"].clone();
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0, "{status}");
    machine.ok(&["stop", "writer"]);
    machine.ok(&["rm", "writer"]);
    assert_eq!(machine.traces(), [""; 0]);
}
