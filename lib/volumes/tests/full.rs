//! A file system that is really full. Needs root, for a mount in a namespace of the test's own.

use std::fs;

use monopod_types::{Bytes, GiB, PodUid};
use monopod_volumes::{Owner, ScratchConfig, ScratchDisks};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

#[test]
fn vm_a_full_disk_is_told_and_leaves_nothing_half_made() {
    // The thread's own view of the file system, which ends with it.
    let test = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("needs root: a mount namespace for the test");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        let folder = tempfile::tempdir().unwrap();
        mount(Some("scratch"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=2m")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fill(folder.path()));
        nix::mount::umount(folder.path()).unwrap();
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn fill(folder: &std::path::Path) {
    let config = ScratchConfig { reserve: Bytes(0), ..ScratchConfig::new(folder) };
    let disks = ScratchDisks::open(config).expect("it can be opened");
    let owner = Owner { uid: 4_000_001, gid: 4_000_001 };
    let mut made = 0;
    let error = loop {
        match disks.create(&PodUid::new(format!("pod-{made}")), GiB(20), owner).await {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
        assert!(made < 100, "2 MiB do not hold so many disks");
    };
    assert_eq!(error.reason(), "ScratchDiskFull", "{error}");
    let names = fs::read_dir(folder.join("pods")).expect("it is there").count();
    assert!(made > 0 && names == made, "{names} files, {made} disks");
    disks.remove(&PodUid::new("pod-0")).expect("it can be removed");
    disks.create(&PodUid::new("pod-0"), GiB(20), owner).await.expect("there is room again");
}
