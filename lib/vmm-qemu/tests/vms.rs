//! Real guests under QEMU.

mod common;

use common::{Bench, LONG, ask, run, spec};
use monopod_vmm::{Vm, VmExit, Vmm};
use monopod_vmm_qemu::QemuVmm;

async fn connected(vm: &dyn Vm) -> Box<dyn monopod_vmm::ByteStream> {
    let mut stream = vm.connect().await.unwrap();
    assert_eq!(ask(&mut stream, "hello").await, "ready");
    stream
}

async fn exit_of(vm: &dyn Vm) -> VmExit {
    tokio::time::timeout(LONG, vm.wait()).await.expect("the VM ends in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn vm_restored_guest_sees_what_it_was_sold() {
    let bench = Bench::new();
    let vmm = QemuVmm::new(bench.config.clone()).await.unwrap();
    let vm = vmm.start(spec("sold")).await.unwrap();
    println!("{:?}", vm.stages());
    let mut stream = connected(&*vm).await;
    assert_eq!(run(&mut stream, "/bin/busybox nproc").await, "1");
    println!("overhead {}", vm.overhead().await.unwrap());
    vm.kill().await.unwrap();
    assert_eq!(exit_of(&*vm).await, VmExit::Killed);
}
