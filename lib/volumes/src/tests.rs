//! Disks in a folder of the test's own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use monopod_types::{Bytes, GiB, PodUid};
use tempfile::TempDir;

use super::{Owner, ScratchConfig, ScratchDisks};

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

fn disks(folder: &TempDir) -> ScratchDisks {
    ScratchDisks::open(config(folder)).expect("it can be opened")
}

fn config(folder: &TempDir) -> ScratchConfig {
    ScratchConfig { reserve: Bytes(1 << 20), ..ScratchConfig::new(folder.path()) }
}

fn ourselves() -> Owner {
    Owner { uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() }
}

fn files(folder: &TempDir) -> Vec<String> {
    let mut names: Vec<String> = ["bases", "pods"]
        .iter()
        .flat_map(|part| fs::read_dir(folder.path().join(part)).unwrap())
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_disk_is_an_empty_sound_file_system_that_takes_next_to_nothing() {
    let folder = folder();
    let disk = disks(&folder).create(&PodUid::new("a-1"), GiB(20), ourselves()).await.unwrap();
    let metadata = fs::metadata(&disk.path).unwrap();
    assert_eq!((metadata.len(), metadata.mode() & 0o777), (20 << 30, 0o600));
    assert!(metadata.blocks() * 512 < 1 << 20, "{} bytes", metadata.blocks() * 512);
    let check = Command::new("e2fsck").arg("-fn").arg(&disk.path).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[tokio::test]
async fn many_at_once_make_one_original_and_a_disk_each() {
    let folder = folder();
    let disks = disks(&folder);
    let pods: Vec<PodUid> = (0..20).map(|number| PodUid::new(format!("pod-{number}"))).collect();
    let made = pods.iter().map(|pod| disks.create(pod, GiB(1), ourselves()));
    for disk in futures_util::future::join_all(made).await {
        assert!(disk.unwrap().path.exists());
    }
    assert_eq!(files(&folder).len(), 21);
    let again = disks.create(&pods[0], GiB(1), ourselves()).await.unwrap_err();
    assert_eq!(again.reason(), "ScratchExists");
    for pod in &pods {
        disks.remove(pod).unwrap();
        disks.remove(pod).unwrap();
    }
    assert_eq!(files(&folder), ["1.ext4"]);
}

#[tokio::test]
async fn a_restart_keeps_disks_of_live_pods_and_removes_the_rest() {
    let folder = folder();
    let live = PodUid::new("live");
    let before = disks(&folder);
    let disk = before.create(&live, GiB(2), ourselves()).await.unwrap();
    before.create(&PodUid::new("dead"), GiB(2), ourselves()).await.unwrap();
    fs::write(folder.path().join("pods/new.ext4.partial"), "half").unwrap();
    fs::write(folder.path().join("bases/9.ext4.partial"), "half").unwrap();

    let after = disks(&folder);
    assert_eq!(after.adopt(&[live.clone(), PodUid::new("vanished")]).unwrap(), [(live.clone(), disk)]);
    assert_eq!(files(&folder), ["2.ext4", "live.ext4"]);
    assert!(after.used(&live).unwrap() < Bytes(1 << 20));
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_leaves_nothing() {
    let folder = folder();
    let disks = disks(&folder);
    for uid in ["", ".", "../escape", "a/b", "with space", "nul\0"] {
        let error = disks.create(&PodUid::new(uid), GiB(1), ourselves()).await.unwrap_err();
        assert_eq!(error.reason(), "ScratchNameInvalid", "{uid:?}");
    }
    for size in [GiB(0), GiB(1 << 20)] {
        let error = disks.create(&PodUid::new("pod"), size, ourselves()).await.unwrap_err();
        assert_eq!(error.reason(), "ScratchSizeInvalid");
    }
    let all = ScratchConfig { reserve: Bytes(u64::MAX), ..config(&folder) };
    let error = ScratchDisks::open(all).unwrap().create(&PodUid::new("pod"), GiB(1), ourselves()).await.unwrap_err();
    assert_eq!(error.reason(), "ScratchDiskFull");
    let broken = ScratchConfig { mkfs: "/bin/false".into(), ..config(&folder) };
    let error = ScratchDisks::open(broken).unwrap().create(&PodUid::new("pod"), GiB(1), ourselves()).await.unwrap_err();
    assert_eq!(error.reason(), "ScratchFormatFailed");
    assert!(files(&folder).is_empty(), "{:?}", files(&folder));
}
