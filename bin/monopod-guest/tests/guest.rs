//! The guest in a real virtual machine, asked by the real client.
#![expect(clippy::unwrap_used, reason = "a test fails where it panics")]

mod harness;

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use harness::{Guest, personality};
use monopod_agent_client::{Code, SocketTransport, contract};
use monopod_agent_proto::{NONCE_LENGTH, PREAMBLE, v1};
use monopod_testkit::nfs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use v1::put_volume_request::Kind;

fn volume(name: &str, kind: Kind) -> v1::PutVolumeRequest {
    v1::PutVolumeRequest { name: name.to_owned(), kind: Some(kind), ..Default::default() }
}

fn files(count: usize, contents: &str) -> Kind {
    let file = |number| v1::VolumeFile {
        path: format!("file-{number}"),
        data: contents.as_bytes().to_vec(),
        mode: 0o644,
        uid: None,
    };
    Kind::Files(v1::Files { files: (0..count).map(file).collect() })
}

#[tokio::test]
async fn vm_nothing_but_hello_is_answered_before_personalize() {
    let guest = Guest::boot(&[]).await;
    let hello = guest.client.hello().await.unwrap();
    assert!(!hello.personalized && hello.pod_uid.is_empty());
    assert!(hello.guest_version.starts_with(&hello.kernel_release), "{hello:?}");
    let put = guest.client.put_volume(volume("data", Kind::EmptyDir(v1::EmptyDir::default()))).await;
    assert_eq!(put.unwrap_err().code(), Some(Code::FailedPrecondition));
    let stats = guest.client.stats(false).await;
    assert_eq!(stats.unwrap_err().code(), Some(Code::FailedPrecondition));
    let log = guest.client.watch_agent_log().await;
    assert!(log.is_ok(), "the agent's own log holds nothing of a tenant");
}

#[tokio::test]
async fn vm_a_personalized_guest_is_one_pods_own_and_only_once() {
    let files = tempfile::tempdir().unwrap();
    let scratch = harness::scratch_disk(&files.path().join("scratch"), 64);
    let guest = Guest::boot(&[scratch]).await;
    let request = personality();
    let answer = guest.client.personalize(request.clone()).await.unwrap();
    assert_eq!(answer.boot_id.len(), 36, "{answer:?}");
    let late = answer.wall_clock.checked_sub(request.wall_clock).expect("the clock goes forward");
    assert!(late < 10_000_000_000, "the clock is {late} ns off");
    let hello = guest.client.reconnect().await.unwrap();
    assert_eq!((hello.personalized, hello.pod_uid.as_str()), (true, request.pod_uid.as_str()));
    let again = guest.client.personalize(request).await.unwrap_err();
    assert_eq!(again.code(), Some(Code::FailedPrecondition));
    let stats = guest.client.stats(true).await.unwrap();
    let scratch = stats.scratch.unwrap();
    assert!(scratch.capacity > 32 << 20 && scratch.capacity < 64 << 20, "{scratch:?}");
    assert!(stats.network.is_some() && stats.memory_total > 300 << 20);
    assert!(stats.agent_memory > 0 && stats.agent_memory < 8 << 20, "the agent holds {} bytes", stats.agent_memory);
    println!("agent {} KiB, stages {:?}", stats.agent_memory / 1024, answer.stages);
}

#[tokio::test]
async fn vm_a_guest_that_could_not_be_personalized_runs_nothing_ever() {
    let guest = Guest::boot(&[]).await;
    let request = v1::PersonalizeRequest { scratch_serial: String::new(), ..personality() };
    let wrong = v1::PersonalizeRequest { entropy: vec![1; 8], ..request.clone() };
    let error = guest.client.personalize(wrong).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
    let error = guest.client.personalize(request).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
    let put = guest.client.put_volume(volume("data", Kind::EmptyDir(v1::EmptyDir::default()))).await;
    assert_eq!(put.unwrap_err().code(), Some(Code::FailedPrecondition));
}

#[tokio::test]
async fn vm_volumes_of_every_kind_are_made_and_measured() {
    let guest = Guest::personal(&[]).await;
    let client = &guest.client;
    client.put_volume(volume("disk", Kind::EmptyDir(v1::EmptyDir::default()))).await.unwrap();
    let memory = v1::EmptyDir { in_memory: true, size_limit: 1 << 20 };
    client.put_volume(volume("memory", Kind::EmptyDir(memory))).await.unwrap();
    client.put_volume(volume("config", files(100, "first"))).await.unwrap();
    client.put_volume(volume("config", files(100, "second"))).await.unwrap();
    let owned = v1::PutVolumeRequest { fs_group: Some(2000), ..volume("owned", files(1, "x")) };
    client.put_volume(owned).await.unwrap();
    let stats = client.stats(true).await.unwrap();
    let of = |name: &str| stats.volumes.iter().find(|volume| volume.name == name).unwrap().usage.unwrap();
    assert_eq!(of("memory").capacity, 1 << 20);
    assert_eq!(of("disk").capacity, stats.scratch.unwrap().capacity);
    // One folder of a hundred files with their links, the link to it and the root: nothing of the first update is left.
    assert_eq!(of("config").inodes_used, 203);
    let other = client.put_volume(volume("disk", files(1, "x"))).await.unwrap_err();
    assert_eq!(other.code(), Some(Code::AlreadyExists));
    let nfs = v1::Nfs { server: "127.0.0.1".to_owned(), export: "/export".to_owned(), ..Default::default() };
    let error = client.put_volume(volume("nfs", Kind::Nfs(nfs))).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable), "{error}");
    assert!(error.to_string().contains("127.0.0.1:/export"), "{error}");
}

/// Opens the guest's port. QEMU takes one client at a time, and lets one more wait.
async fn connect(guest: &Guest) -> UnixStream {
    let connecting = async {
        loop {
            match UnixStream::connect(guest.socket()).await {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                connected => return connected.unwrap(),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), connecting).await.expect("QEMU takes the next client")
}

/// Writes bytes to the guest's port as a host would that is gone afterwards.
async fn stray(guest: &Guest, bytes: &[u8]) {
    let mut stream = connect(guest).await;
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}

#[tokio::test]
async fn vm_a_host_that_hangs_up_anywhere_can_come_back() {
    let guest = Guest::boot(&[]).await;
    guest.client.disconnect().await;
    stray(&guest, &[0xff; 5000]).await;
    stray(&guest, &PREAMBLE[..3]).await;
    for round in 0..10_u8 {
        // A connection that ends in the middle of a frame: a DATA frame of which most is missing.
        let mut stream = connect(&guest).await;
        let nonce = [round; NONCE_LENGTH];
        stream.write_all(&[&PREAMBLE[..], &nonce].concat()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(&[&PREAMBLE[..], &nonce].concat()) {
            answer.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\x40\0\x01\x01\0\0\0\x01ha")
            .await
            .unwrap();
        drop(stream);
        let hello = guest.client.reconnect().await.unwrap();
        assert!(!hello.guest_version.is_empty());
        guest.client.disconnect().await;
    }
}

#[tokio::test]
async fn vm_the_port_of_a_real_guest_keeps_the_contract_of_transports() {
    let guest = Guest::boot(&[]).await;
    guest.client.disconnect().await;
    contract::connections_follow_each_other(&SocketTransport::new(guest.socket())).await;
    guest.client.hello().await.unwrap();
}

#[tokio::test]
async fn vm_shutdown_powers_the_machine_off() {
    let mut guest = Guest::personal(&[]).await;
    guest.client.shutdown().await.unwrap();
    assert!(guest.ended().await, "QEMU ends without an error");
}

/// Starts an NFS server for a folder, at the machine's gateway.
fn nfs_server(folder: &Path) -> String {
    let server = nfs::server(folder).unwrap();
    fs::write(folder.join("export/file"), "shared").unwrap();
    format!(
        "ip link set lo up\nip tuntap add tap0 mode tap\nip addr add 10.9.0.1/24 dev tap0\nip link set tap0 up\n({server}) &"
    )
}

#[tokio::test]
async fn vm_a_network_file_system_is_mounted_and_a_silent_server_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let tap = "tap,ifname=tap0,script=no,downscript=no";
    let guest = Guest::boot_beside(&nfs_server(folder.path()), tap, &[]).await;
    let mut request = v1::PersonalizeRequest { scratch_serial: String::new(), ..personality() };
    let network = request.network.as_mut().unwrap();
    (network.addresses, network.gateways) = (vec!["10.9.0.2/24".to_owned()], Vec::new());
    guest.client.personalize(request).await.unwrap();
    let nfs = |server: &str| v1::Nfs {
        server: server.to_owned(),
        export: "/export".to_owned(),
        options: vec!["hard".to_owned(), "noresvport".to_owned()],
        read_only: false,
    };
    let shared = volume("shared", Kind::Nfs(nfs("10.9.0.1")));
    guest.client.put_volume(v1::PutVolumeRequest { fs_group: Some(2000), ..shared }).await.unwrap();
    let file = fs::metadata(folder.path().join("export/file")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o777), (2000, 0o664), "the guest can change what is on the server");
    let stats = guest.client.stats(true).await.unwrap();
    assert!(stats.volumes.iter().any(|volume| volume.name == "shared" && volume.usage.unwrap().capacity > 0));
    let silent = guest.client.put_volume(volume("silent", Kind::Nfs(nfs("10.9.0.77")))).await.unwrap_err();
    assert!(matches!(silent.code(), Some(Code::DeadlineExceeded | Code::Unavailable)), "{silent}");
    guest.client.shutdown().await.unwrap();
}
