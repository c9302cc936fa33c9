//! What every [`Vmm`] must do, as checks that any implementation can be put through.
//!
//! A test of an implementation gives a [`Subject`] and calls [`check_all`], or the checks one by one. They panic where
//! the contract is broken.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use crate::{Disk, Vm, VmError, VmExit, VmId, VmSpec, Vmm};

/// Most that one call may take, on a busy machine without KVM.
const LONG: Duration = Duration::from_secs(300);

/// An implementation and what its VMs are made of.
pub struct Subject<'a> {
    /// The implementation. None of its VMs runs.
    pub vmm: &'a dyn Vmm,
    /// A small VM of this name, without disks.
    pub spec: &'a (dyn Fn(&str) -> VmSpec + Sync),
    /// A disk with this serial.
    pub disk: &'a (dyn Fn(&str) -> Disk + Sync),
}

impl fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject").field("vmm", &self.vmm).finish_non_exhaustive()
    }
}

/// All checks, one after the other.
pub async fn check_all(subject: &Subject<'_>) {
    an_invalid_vm_is_refused(subject).await;
    a_vm_lives_until_it_is_killed(subject).await;
    a_name_is_taken_until_its_vm_is_gone(subject).await;
    a_start_that_is_given_up_leaves_nothing(subject).await;
    a_kill_ends_a_start(subject).await;
    disks_come_and_go(subject).await;
    vms_do_not_depend_on_each_other(subject).await;
}

async fn start(subject: &Subject<'_>, spec: VmSpec) -> Result<Arc<dyn Vm>, VmError> {
    timeout(LONG, subject.vmm.start(spec)).await.expect("a start ends in time")
}

async fn started(subject: &Subject<'_>, name: &str) -> Arc<dyn Vm> {
    start(subject, (subject.spec)(name)).await.expect("a small VM can be started")
}

async fn killed(vm: &dyn Vm) {
    timeout(LONG, vm.kill()).await.expect("a kill ends in time").expect("a VM can be killed");
    assert_eq!(vm.wait().await, VmExit::Killed);
}

fn id(name: &str) -> VmId {
    VmId::new(name).expect("the name of a test's VM is one")
}

/// A VM that cannot be is refused before anything is made.
pub async fn an_invalid_vm_is_refused(subject: &Subject<'_>) {
    let mut two_of_one = (subject.spec)("two-of-one");
    two_of_one.disks = vec![(subject.disk)("same"), (subject.disk)("same")];
    let mut bad_serial = (subject.spec)("bad-serial");
    bad_serial.disks = vec![Disk { serial: "no,comma".to_owned(), ..(subject.disk)("any") }];
    let mut no_cpu = (subject.spec)("no-cpu");
    no_cpu.cpu = monopod_types::MilliCpu::ZERO;
    for spec in [two_of_one, bad_serial, no_cpu] {
        let error = start(subject, spec).await.expect_err("it cannot be");
        assert_eq!(error.reason(), "InvalidVmSpec", "{error}");
    }
}

/// From its start on it can be connected to, one connection after the other; its end is told to everybody, and for ever.
pub async fn a_vm_lives_until_it_is_killed(subject: &Subject<'_>) {
    let vm = started(subject, "lives").await;
    assert_eq!(vm.id(), &id("lives"));
    assert!(!vm.stages().is_empty(), "a start has stages");
    for _ in 0..2 {
        drop(vm.connect().await.expect("the agent's channel can be connected to"));
    }
    vm.overhead().await.expect("what it costs can be asked");
    assert!(timeout(Duration::ZERO, vm.wait()).await.is_err(), "it has not ended");
    killed(&*vm).await;
    killed(&*vm).await;
    assert_eq!(vm.connect().await.expect_err("it has ended").reason(), "VmGone");
    assert_eq!(vm.attach((subject.disk)("late")).await.expect_err("it has ended").reason(), "VmGone");
    assert_eq!(vm.overhead().await.expect_err("it has ended").reason(), "VmGone");
    subject.vmm.kill(&id("never-was")).await.expect("to kill none is no error");
}

/// No two VMs have one name; it is free again once nothing is left of the first.
pub async fn a_name_is_taken_until_its_vm_is_gone(subject: &Subject<'_>) {
    let vm = started(subject, "name").await;
    let error = start(subject, (subject.spec)("name")).await.expect_err("the name is taken");
    assert_eq!(error.reason(), "VmExists");
    killed(&*vm).await;
    killed(&*started(subject, "name").await).await;
}

/// Dropping the future of a start ends the VM.
pub async fn a_start_that_is_given_up_leaves_nothing(subject: &Subject<'_>) {
    for patience in [0, 20] {
        drop(timeout(Duration::from_millis(patience), subject.vmm.start((subject.spec)("given-up"))).await);
        timeout(LONG, subject.vmm.kill(&id("given-up"))).await.expect("a kill ends in time").expect("it can be killed");
    }
    killed(&*started(subject, "given-up").await).await;
}

/// A VM can be ended while it starts; whoever waits for the start is told.
pub async fn a_kill_ends_a_start(subject: &Subject<'_>) {
    let start = subject.vmm.start((subject.spec)("ended"));
    let kill = async {
        tokio::task::yield_now().await;
        subject.vmm.kill(&id("ended")).await
    };
    let (start, kill) = timeout(LONG, async { tokio::join!(start, kill) }).await.expect("both end in time");
    kill.expect("a VM can be killed while it starts");
    match start {
        // An implementation may have been quicker than the kill.
        Ok(vm) => assert_eq!(vm.wait().await, VmExit::Killed),
        Err(error) => assert_eq!(error.reason(), "VmStartCancelled", "{error}"),
    }
}

/// Disks can be had from the start on, added and taken away; each is known by its serial.
pub async fn disks_come_and_go(subject: &Subject<'_>) {
    let mut spec = (subject.spec)("disks");
    spec.disks = vec![(subject.disk)("first")];
    let vm = start(subject, spec).await.expect("a VM with a disk can be started");
    let long = "a-serial-of-36-characters-0123456789";
    for serial in ["second", long] {
        vm.attach((subject.disk)(serial)).await.expect("a disk can be added");
        let error = vm.attach((subject.disk)(serial)).await.expect_err("it is there already");
        assert_eq!(error.reason(), "InvalidVmSpec");
    }
    for serial in ["first", long] {
        vm.detach(serial).await.expect("a disk can be taken away");
        assert_eq!(vm.detach(serial).await.expect_err("it is gone").reason(), "NoSuchDisk");
    }
    vm.attach((subject.disk)("first")).await.expect("a disk can come again");
    let nowhere = Disk { path: "/nowhere/at/all".into(), ..(subject.disk)("nowhere") };
    vm.attach(nowhere).await.expect_err("there is no such file");
    killed(&*vm).await;
}

/// The end of one is nothing to the other.
pub async fn vms_do_not_depend_on_each_other(subject: &Subject<'_>) {
    let (one, other) = (started(subject, "one").await, started(subject, "other").await);
    killed(&*one).await;
    drop(other.connect().await.expect("the other one lives"));
    killed(&*other).await;
}
