//! Real guests under QEMU.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Bench, LONG, ask, run, spec};
use monopod_types::{MiB, MilliCpu};
use monopod_vmm::contract::{Subject, check_all};
use monopod_vmm::{ByteStream, Vm, VmExit, VmSpec, Vmm};
use monopod_vmm_qemu::{Accelerator, QemuVmm, probe};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

async fn vmm(bench: &Bench) -> QemuVmm {
    QemuVmm::new(bench.config.clone()).await.unwrap()
}

async fn connected(vm: &dyn Vm) -> Box<dyn ByteStream> {
    let mut stream = vm.connect().await.unwrap();
    assert_eq!(ask(&mut stream, "hello").await, "ready");
    stream
}

async fn exit_of(vm: &dyn Vm) -> VmExit {
    tokio::time::timeout(LONG, vm.wait()).await.expect("the VM ends in time")
}

/// The process of the only VM.
fn process(bench: &Bench) -> Pid {
    let record = fs::read(bench.config.run.join("vm-0/record.json")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    Pid::from_raw(i32::try_from(record["process"]["pid"].as_i64().unwrap()).unwrap())
}

fn has_stage(vm: &dyn Vm, name: &str) -> bool {
    vm.stages().iter().any(|stage| stage.name == name)
}

/// What caps the CPU time of the only VM, in millionths of each tenth of a second; none with control groups of version two.
fn quota(bench: &Bench) -> Option<String> {
    let group = Path::new("/sys/fs/cgroup/cpu").join(&bench.config.cgroup).join("vm-0");
    Some(fs::read_to_string(group.join("cpu.cfs_quota_us")).ok()?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_restored_guest_sees_what_it_was_sold() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    let vm = vmm.start(VmSpec { cpu: MilliCpu(250), ..spec("sold") }).await.unwrap();
    assert!(has_stage(&*vm, "load"), "{:?}", vm.stages());
    let mut stream = connected(&*vm).await;
    assert_eq!(run(&mut stream, "$B nproc").await, "1");
    let total: u64 = run(&mut stream, "$B awk '/MemTotal/ { print $2 }' /proc/meminfo").await.parse().unwrap();
    assert!((180 << 10..=256 << 10).contains(&total), "{total} KiB");
    if let Some(mut now) = quota(&bench) {
        // Whole CPUs for its start, then a quarter of one and what the devices may use.
        let begun = Instant::now();
        while now != "27000" {
            assert!(begun.elapsed() < LONG, "its CPU time is not capped: {now}");
            tokio::time::sleep(Duration::from_millis(50)).await;
            now = quota(&bench).unwrap();
        }
    }
    let overhead = vm.overhead().await.unwrap();
    println!("{:?}; overhead {overhead}", vm.stages());
    assert!(overhead < MiB(128), "{overhead}");
    vm.kill().await.unwrap();
    assert_eq!(exit_of(&*vm).await, VmExit::Killed);
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_keeps_the_contract() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    let disk = |serial: &str| bench.disk(serial, "contract", false);
    check_all(&Subject { vmm: &vmm, spec: &spec, disk: &disk }).await;
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_without_a_usable_template_is_booted() {
    let mut bench = Bench::new();
    // Makes the real one.
    vmm(&bench).await.start(spec("first")).await.unwrap().kill().await.unwrap();
    let broken = bench.with_broken_templates();
    assert!(!broken.is_empty());
    let vmm = vmm(&bench).await;
    let vm = vmm.start(spec("booted")).await.unwrap();
    assert!(has_stage(&*vm, "restore-failed"), "{:?}", vm.stages());
    connected(&*vm).await;
    let left = broken.iter().filter(|folder| folder.exists()).count();
    assert_eq!(left, broken.len() - 1, "a template that cannot be restored is removed");
    vm.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_finds_its_disks_by_serial_and_lets_them_go() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    let long = "0c6e6a2e-6f0b-4a0e-9d7e-0f6d2f0f5b1c";
    let disks = vec![bench.disk("root-1", "first", true), bench.disk(long, "second", false)];
    let vm = vmm.start(VmSpec { disks, ..spec("disks") }).await.unwrap();
    let mut stream = connected(&*vm).await;
    let find = |serial: &str| {
        format!(
            "for i in $($B seq 300); do d=$($B grep -l {serial} /sys/block/*/device/vpd_pg80); [ -n \"$d\" ] && break; \
                 $B sleep 0.1; done; d=$(echo $d | $B cut -d/ -f4); $B head -c 6 /dev/$d; echo; $B cat /sys/block/$d/ro"
        )
    };
    assert_eq!(run(&mut stream, &find("root-1")).await.replace('\0', ""), "first\n1");
    assert_eq!(run(&mut stream, &find(long)).await, "second\n0");
    vm.attach(bench.disk("later", "third", false)).await.unwrap();
    assert_eq!(run(&mut stream, &find("later")).await.replace('\0', ""), "third\n0");
    run(&mut stream, "echo changed > /dev/$d; $B sync").await;
    vm.detach("later").await.unwrap();
    assert!(fs::read(bench.folder().join("later")).unwrap().starts_with(b"changed\n"));
    vm.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_shares_no_writable_disk_and_a_failed_start_keeps_the_template() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    let with_disk = |id: &str| VmSpec { disks: vec![bench.disk("scratch", "mine", false)], ..spec(id) };
    let first = vmm.start(with_disk("first")).await.unwrap();
    let error = vmm.start(with_disk("second")).await.unwrap_err();
    assert_eq!(error.reason(), "VmmRefused", "{error}");
    first.kill().await.unwrap();
    let second = vmm.start(with_disk("second")).await.unwrap();
    assert!(has_stage(&*second, "load"), "{:?}", second.stages());
    second.kill().await.unwrap();
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_ends_are_told_apart() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    for (order, expect) in [("panic", "GuestPanicked"), ("off", "PoweredOff"), ("reset", "GuestPanicked")] {
        let vm = vmm.start(spec("ends")).await.unwrap();
        let mut stream = connected(&*vm).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{order}\n").as_bytes()).await.unwrap();
        let exit = exit_of(&*vm).await;
        assert_eq!(exit.reason(), expect, "{exit}");
        if order == "panic" {
            assert!(exit.to_string().contains("Kernel panic - not syncing: sysrq triggered crash"), "{exit}");
        }
    }
    let vm = vmm.start(spec("ends")).await.unwrap();
    kill(process(&bench), Signal::SIGKILL).unwrap();
    assert_eq!(exit_of(&*vm).await, VmExit::VmmDied("killed by signal 9".to_owned()));
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_process_is_jailed() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    let vm = vmm.start(spec("jailed")).await.unwrap();
    let pid = process(&bench);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    let user = bench.config.users.first.to_string();
    assert!(value("Uid:").split_ascii_whitespace().all(|id| id == user), "{}", value("Uid:"));
    assert!(value("Gid:").split_ascii_whitespace().all(|id| id == user), "{}", value("Gid:"));
    assert_eq!(value("Groups:"), "");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    assert!(value("NSpid:").ends_with("\t1"), "it is the first of a namespace: {}", value("NSpid:"));
    for namespace in ["mnt", "net", "pid", "ipc", "uts", "cgroup"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&pid.to_string()), of("self"), "{namespace}");
    }
    let mut root: Vec<_> = fs::read_dir(format!("/proc/{pid}/root")).unwrap().map(|e| e.unwrap().file_name()).collect();
    root.retain(|name| !["lib", "lib32", "lib64", "bin", "usr", "etc"].iter().any(|usual| name == usual));
    root.sort();
    assert_eq!(root, ["dev", "proc", "template", "tmp"]);
    assert!(fs::write(format!("/proc/{pid}/root/tmp/x"), "").is_err(), "its root is read-only");
    assert_eq!(fs::read(format!("/proc/{pid}/environ")).unwrap(), b"");
    vm.kill().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_is_adopted_by_a_later_life_and_an_unfinished_one_is_removed() {
    let bench = Bench::new();
    // The daemon's first life is a runtime that is torn down in the middle of everything: what its tasks held is closed,
    // and nothing is told to anybody, as when it is killed.
    let life = tokio::runtime::Runtime::new().unwrap();
    let (mut config, disks) = (bench.config.clone(), vec![bench.disk("root-1", "first", true)]);
    // Its CPU time is not capped yet when the daemon is killed.
    config.allowance.start = LONG;
    let started = life.spawn(async move {
        let vmm = QemuVmm::new(config).await.unwrap();
        let vm = vmm.start(VmSpec { disks, cpu: MilliCpu(250), ..spec("adopted") }).await.unwrap();
        drop(connected(&*vm).await);
    });
    started.await.unwrap();
    tokio::task::spawn_blocking(move || life.shutdown_timeout(LONG)).await.unwrap();
    fs::create_dir(bench.config.run.join("vm-7")).unwrap();
    fs::write(bench.config.run.join("vm-7/record.json"), "{\"version\": 1, \"id").unwrap();
    let second = vmm(&bench).await;
    let adopted: Vec<Arc<dyn Vm>> = tokio::time::timeout(LONG, second.adopt()).await.unwrap().unwrap();
    assert_eq!(adopted.iter().map(|vm| vm.id().as_str()).collect::<Vec<_>>(), ["adopted"]);
    assert_eq!(quota(&bench).as_deref().unwrap_or("27000"), "27000");
    let vm = &adopted[0];
    drop(connected(&**vm).await);
    assert_eq!(second.start(spec("adopted")).await.unwrap_err().reason(), "VmExists");
    vm.detach("root-1").await.unwrap();
    let pid = process(&bench);
    vm.kill().await.unwrap();
    // It was this process that started it, so nobody else waits for it; a daemon's child falls to init.
    let _ = waitpid(pid, None);
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_probe_finds_an_accelerator_and_remembers_it() {
    let bench = Bench::new();
    let report = probe::probe(&bench.config, false).await.unwrap();
    println!("{report:?}");
    assert!(report.templates.ignore_shared && report.templates.mapped_ram);
    assert!(report.chosen().is_some(), "{}", report.why());
    assert!(matches!(report.accelerator().unwrap(), Accelerator::Kvm | Accelerator::Tcg));
    let again = probe::probe(&bench.config, false).await.unwrap();
    assert!(again.kept);
    assert_eq!(again.attempts, report.attempts);
    fs::remove_file(bench.config.run.join("probe.json")).unwrap();
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_starts_and_ends_a_hundred_times_without_leaving_a_thing() {
    let bench = Bench::new();
    let vmm = vmm(&bench).await;
    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let (mut files, mut memory) = (0, 0);
    let mut took: Vec<Duration> = Vec::new();
    for round in 0..100 {
        // Disks of its own: the kernel may close a file, and give up its lock, a moment after the process that had it.
        let disks = vec![bench.disk(&format!("root-{round}"), "first", false)];
        let tap = Some(common::tap::in_a_network_of_its_own("mpcycle"));
        let vm = vmm.start(VmSpec { disks, tap, ..spec("cycle") }).await.unwrap();
        let outside = vm.stages().iter().filter(|stage| stage.name != "template").map(|stage| stage.took).sum();
        took.push(outside);
        vm.attach(bench.disk(&format!("later-{round}"), "second", false)).await.unwrap();
        vm.kill().await.unwrap();
        drop(vm);
        // What is made once has been made by then.
        if round == 10 {
            (files, memory) = (open_files(), resident_kib());
        }
    }
    took.sort();
    println!("start without the guest: p50 {:?}, p90 {:?}", took[50], took[90]);
    let closed = async {
        while open_files() > files {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, closed).await.expect("no file stays open, nor a tap");
    let after = resident_kib();
    println!("{memory} KiB after 11 microVMs, {after} KiB after 100");
    assert!(after < memory + (2 << 10), "{memory} KiB after 11 microVMs, {after} KiB after 100");
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

/// KiB of this process that are in memory.
fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_ten_at_once_start_and_end() {
    let bench = Bench::new();
    let vmm = Arc::new(vmm(&bench).await);
    let mut starts = tokio::task::JoinSet::new();
    for number in 0..10 {
        let vmm = Arc::clone(&vmm);
        starts.spawn(async move {
            let vm = vmm.start(spec(&format!("at-once-{number}"))).await.unwrap();
            drop(connected(&*vm).await);
            vm.kill().await.unwrap();
        });
    }
    let started = Instant::now();
    while let Some(outcome) = tokio::time::timeout(LONG, starts.join_next()).await.unwrap() {
        outcome.unwrap();
    }
    println!("ten at once answered and ended in {:?}", started.elapsed());
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_starts_from_a_spare_with_disk_and_tap() {
    let mut bench = Bench::new();
    bench.config.spares = 1;
    let vmm = vmm(&bench).await;
    let mut took: Vec<Duration> = Vec::new();
    let mut before: Option<Arc<dyn Vm>> = None;
    for round in 0..21 {
        let disks = vec![bench.disk(&format!("root-{round}"), "first", false)];
        let (id, tap) =
            (format!("spare-{round}"), Some(common::tap::in_a_network_of_its_own(&format!("mptest{round}"))));
        let vm = vmm.start(VmSpec { disks, tap, ..spec(&id) }).await.unwrap();
        if let Some(before) = before.replace(Arc::clone(&vm)) {
            before.kill().await.unwrap();
        }
        if has_stage(&*vm, "spare") {
            took.push(vm.stages().iter().map(|stage| stage.took).sum());
        }
        drop(connected(&*vm).await);
        let waits = async {
            while vmm.spares() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(LONG, waits).await.expect("a spare is made");
    }
    assert!(took.len() >= 19, "{} of 20 came from spares", took.len());
    took.sort();
    println!(
        "start from a spare without the guest: p50 {:?}, p90 {:?}",
        took[took.len() / 2],
        took[took.len() * 9 / 10]
    );
    before.unwrap().kill().await.unwrap();
    vmm.close().await;
    let groups = ["cpu", "memory", "."].map(|one| Path::new("/sys/fs/cgroup").join(one).join(&bench.config.cgroup));
    assert!(groups.iter().all(|group| !group.exists()), "{groups:?}");
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}
