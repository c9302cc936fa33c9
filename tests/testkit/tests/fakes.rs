//! The fakes keep the promises of what they stand for.

use std::sync::Arc;
use std::time::Duration;

use monopod_agent_client::contract as agent_contract;
use monopod_agent_client::v1::{CreateContainerRequest, PersonalizeRequest, container_state::Phase};
use monopod_agent_client::{AgentClient, AgentTransport, Deadlines, FnTransport};
use monopod_hostnet::contract;
use monopod_images::{ImageConfig, contract as image_contract};
use monopod_testkit::guest::Script;
use monopod_testkit::image_source::FakeImages;
use monopod_testkit::net::FakeNet;
use monopod_testkit::vmm::{FakeMachine, FakeVmm, NextStart};
use monopod_testkit::wait::wait_until;
use monopod_types::{MiB, MilliCpu};
use monopod_vmm::contract as vm_contract;
use monopod_vmm::{Disk, Vm, VmError, VmExit, VmId, VmSpec, Vmm};

fn id(name: &str) -> VmId {
    VmId::new(name).expect("it is a name")
}

fn spec(name: &str) -> VmSpec {
    VmSpec { id: id(name), cpu: MilliCpu(250), memory: MiB(512), tap: None, disks: Vec::new() }
}

/// The way to an agent as the host daemon takes it.
fn transport(vm: Arc<dyn Vm>) -> impl AgentTransport {
    let open = move || -> std::pin::Pin<Box<dyn Future<Output = std::io::Result<_>> + Send>> {
        let vm = Arc::clone(&vm);
        Box::pin(async move { vm.connect().await.map_err(std::io::Error::other) })
    };
    FnTransport::new(open)
}

fn client(vm: Arc<dyn Vm>) -> AgentClient {
    AgentClient::new(transport(vm), Deadlines::default())
}

async fn personalized(vm: &Arc<dyn Vm>) -> AgentClient {
    let client = client(Arc::clone(vm));
    let request = PersonalizeRequest { pod_uid: "uid".to_owned(), entropy: vec![1; 32], ..Default::default() };
    client.personalize(request).await.expect("it is nobody's yet");
    client
}

#[tokio::test]
async fn the_fake_network_keeps_the_contract() {
    let net = FakeNet::new(6);
    contract::addresses_are_given_once_and_reused_last(&net, 6).await;
    contract::detaching_is_idempotent(&net).await;
    contract::a_wanted_address_is_given(&net).await;
    contract::adopting_keeps_live_pods(&net).await;
}

#[tokio::test]
async fn the_fake_vmm_keeps_the_contract() {
    let vmm = FakeVmm::new();
    let disk = |serial: &str| Disk { serial: serial.to_owned(), path: "/dev/null".into(), read_only: true };
    let subject = vm_contract::Subject { vmm: &vmm, spec: &spec, disk: &disk };
    vm_contract::check_all(&subject).await;
    assert!(vmm.machine().running().is_empty());
}

#[tokio::test]
async fn the_fake_image_source_keeps_the_contract() {
    let images = FakeImages::new().unwrap();
    let name = |name: &str| format!("registry.test/{name}:1");
    image_contract::NAMES.iter().for_each(|known| images.add(&name(known), ImageConfig::default()));
    let image = |known: &str| name(known).parse().unwrap();
    let missing = name("missing").parse().unwrap();
    image_contract::check_all(&image_contract::Subject { source: &images, image: &image, missing }).await;
    assert!(!images.calls().contains(&format!("pull {}", name("never"))), "{:?}", images.calls());
}

#[tokio::test]
async fn the_channel_of_a_fake_vm_keeps_the_contract_of_transports() {
    let vmm = FakeVmm::new();
    let vm = vmm.start(spec("web")).await.unwrap();
    agent_contract::connections_follow_each_other(&transport(vm)).await;
}

#[tokio::test]
async fn a_fake_vm_runs_containers_and_powers_off() {
    let vmm = FakeVmm::new();
    vmm.machine().guest(&id("web")).script("main", Script::runs().runs_for(Duration::from_millis(5)).exits(0));
    let vm = vmm.start(spec("web")).await.unwrap();
    let again = vmm.start(spec("web")).await.unwrap_err();
    assert_eq!(again.reason(), "VmExists");
    let client = personalized(&vm).await;
    let request = CreateContainerRequest { id: "main-0".to_owned(), name: "main".to_owned(), ..Default::default() };
    client.create_container(request).await.unwrap();
    client.start_container("main-0").await.unwrap();
    let mut states = client.watch_containers().await.unwrap();
    while states.next().await.unwrap().expect("the watch goes on").phase() != Phase::Exited {}
    // As with a real guest, the end may overtake the answer.
    let shutdown = client.shutdown().await;
    assert!(shutdown.is_ok() || shutdown.is_err_and(|error| error.reason() == "AgentUnreachable"));
    assert_eq!(vm.wait().await, VmExit::PoweredOff);
    assert!(vmm.machine().running().is_empty());
    assert_eq!(states.next().await.unwrap_err().reason(), "AgentUnreachable");
}

#[tokio::test]
async fn a_machine_survives_its_daemon() {
    let machine = FakeMachine::default();
    let vm = FakeVmm::on(&machine).start(spec("web")).await.unwrap();
    let before = personalized(&vm).await;
    before.hello().await.unwrap();
    drop((vm, before));

    let after = FakeVmm::on(&machine);
    let adopted = after.adopt().await.unwrap();
    assert_eq!(adopted.iter().map(|vm| vm.id().as_str()).collect::<Vec<_>>(), ["web"]);
    assert!(client(Arc::clone(&adopted[0])).hello().await.unwrap().personalized);
    after.kill(&id("web")).await.unwrap();
    assert_eq!(adopted[0].wait().await, VmExit::Killed);
    assert!(machine.running().is_empty());
}

#[tokio::test]
async fn fake_vms_fail_when_told_to() {
    let vmm = FakeVmm::new();
    let machine = vmm.machine();
    machine.next_start(NextStart::Fails(VmError::Died { how: "exit status 1".to_owned() }));
    assert_eq!(vmm.start(spec("web")).await.unwrap_err().reason(), "VmDied");
    assert!(machine.running().is_empty());

    // One that is dropped while it starts is gone, too.
    machine.next_start(NextStart::Takes(Duration::from_secs(3600)));
    let starting = vmm.clone();
    let task = tokio::spawn(async move { starting.start(spec("slow")).await });
    wait_until("it starts", || machine.running() == [id("slow")]).await;
    vmm.kill(&id("slow")).await.unwrap();
    assert!(task.await.unwrap().is_err());

    let vm = vmm.start(spec("web")).await.unwrap();
    let missing = Disk { serial: "a".to_owned(), path: "/nowhere".into(), read_only: true };
    assert!(vm.attach(missing).await.is_err());
    let disk = Disk { serial: "a".to_owned(), path: "/dev/null".into(), read_only: true };
    vm.attach(disk.clone()).await.unwrap();
    assert_eq!(machine.disks(&id("web")), [disk]);
    vm.detach("a").await.unwrap();
    assert_eq!(vm.detach("a").await.unwrap_err().reason(), "NoSuchDisk");
    machine.end(&id("web"), VmExit::Panicked("oops".to_owned()));
    assert_eq!(vm.wait().await, VmExit::Panicked("oops".to_owned()));
    assert_eq!(vm.connect().await.unwrap_err().reason(), "VmGone");
}

#[tokio::test]
async fn a_thousand_fake_vms_leave_nothing() {
    let vmm = FakeVmm::new();
    let open_files = || std::fs::read_dir("/proc/self/fd").expect("it is there").count();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = open_files();
    for round in 0..1000 {
        let vm = vmm.start(spec(&format!("vm-{round}"))).await.unwrap();
        client(Arc::clone(&vm)).hello().await.unwrap();
        vm.kill().await.unwrap();
    }
    assert!(vmm.machine().running().is_empty());
    wait_until("no task is left", || tasks() == 0).await;
    // Other tests of this program open files at the same time.
    assert!(open_files() < before + 50, "{} files, {before} before", open_files());
}

#[test]
fn vm_namespaces_are_apart_connected_and_gone_in_the_end() {
    use monopod_testkit::netns::Namespace;
    let (left, right) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    left.connect("cable", "10.98.0.1/24", &right, "cable", "10.98.0.2/24").unwrap();
    let listening = right
        .block_on(|| async {
            let listener = tokio::net::TcpListener::bind("10.98.0.2:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            (listener.into_std().unwrap(), port)
        })
        .unwrap();
    let port = listening.1;
    left.block_on(move || async move { tokio::net::TcpStream::connect(("10.98.0.2", port)).await.unwrap() }).unwrap();
    let names = [left.name().to_owned(), right.name().to_owned()];
    drop((left, right));
    let known = std::process::Command::new("ip").args(["netns", "list"]).output().unwrap().stdout;
    let known = String::from_utf8(known).unwrap();
    assert!(!names.iter().any(|name| known.contains(name.as_str())), "{known}");
}
