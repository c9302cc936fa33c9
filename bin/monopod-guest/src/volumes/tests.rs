//! Volumes below a folder of the test's own. What mounts is tested in a real guest.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use monopod_agent_proto::v1;
use nix::mount::MsFlags;
use v1::put_volume_request::Kind;

use super::ownership::Ownership;
use super::{Volumes, files, nfs, usage};
use crate::paths::Paths;
use crate::reaper::Reaper;

fn files_of(files: &[(&str, &str)]) -> v1::Files {
    let file = |(path, data): &(&str, &str)| v1::VolumeFile {
        path: (*path).to_owned(),
        data: data.as_bytes().to_vec(),
        mode: 0o644,
        uid: None,
    };
    v1::Files { files: files.iter().map(file).collect() }
}

fn write(root: &Path, contents: &[(&str, &str)], group: Option<u32>) {
    let wanted = files_of(contents);
    files::write(root, &files::check(&wanted).unwrap(), group).unwrap();
}

fn names(root: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(root).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_update_switches_all_files_at_once_and_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a", "1"), ("deep/b", "1"), ("old", "1")], None);
    let first = fs::read_link(root.path().join("..data")).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("deep/b")).unwrap(), "1");
    assert_eq!(fs::read_link(root.path().join("a")).unwrap(), Path::new("..data/a"));
    write(root.path(), &[("a", "2"), ("deep/c", "2"), ("new", "2")], None);
    let second = fs::read_link(root.path().join("..data")).unwrap();
    assert_ne!(first, second);
    let mut expected = vec![second.to_str().unwrap(), "..data", "a", "deep", "new"];
    expected.sort_unstable();
    assert_eq!(names(root.path()), expected);
    assert_eq!(names(&root.path().join("deep")), ["c"]);
}

#[test]
fn a_reader_of_one_folder_never_sees_two_updates() {
    let root = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..20).map(|number| format!("file-{number}")).collect();
    let update = |round: u32| {
        let data = round.to_string();
        let contents: Vec<_> = names.iter().map(|name| (name.as_str(), data.as_str())).collect();
        write(root.path(), &contents, None);
    };
    update(0);
    let seen = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = String::new();
            while last != "50" {
                // As a careful program reads: resolve the link once. The folder may go meanwhile, never change.
                let folder = root.path().join(fs::read_link(root.path().join("..data")).unwrap());
                let read: Result<Vec<_>, _> = names.iter().map(|name| fs::read_to_string(folder.join(name))).collect();
                let Ok(read) = read else { continue };
                assert!(read.iter().all(|text| *text == read[0]), "{read:?}");
                last.clone_from(&read[0]);
            }
            last
        });
        (1..=50).for_each(update);
        reader.join().unwrap()
    });
    assert_eq!(seen, "50");
}

#[test]
fn an_update_that_changes_nothing_switches_nothing() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a", "1")], None);
    let first = fs::read_link(root.path().join("..data")).unwrap();
    write(root.path(), &[("a", "1")], None);
    assert_eq!(fs::read_link(root.path().join("..data")).unwrap(), first);
    write(root.path(), &[], None);
    assert_eq!(names(root.path()).len(), 2, "the empty folder and the link to it");
}

#[test]
fn a_folder_of_files_is_named_by_its_time() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), &[("a", "1")], None);
    let name = fs::read_link(root.path().join("..data")).unwrap().into_os_string().into_string().unwrap();
    let pattern: String = name.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    assert_eq!(pattern, "..0000_00_00_00_00_00.000000000");
}

#[test]
fn files_belong_to_the_group_and_to_their_owner() {
    let root = tempfile::tempdir().unwrap();
    let mut wanted = files_of(&[("deep/token", "secret")]);
    wanted.files[0].mode = 0o600;
    wanted.files[0].uid = Some(1000);
    files::write(root.path(), &files::check(&wanted).unwrap(), Some(2000)).unwrap();
    let file = fs::metadata(root.path().join("deep/token")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777), (1000, 2000, 0o640));
    let folder = fs::metadata(root.path().join("deep")).unwrap();
    assert_eq!((folder.gid(), folder.mode() & 0o7777), (2000, 0o2755));
}

#[test]
fn paths_that_leave_or_clash_are_refused() {
    for paths in [&["../a"][..], &["/a"], &["..data"], &["..a/b"], &["a", "a"], &["a", "a/b"], &[""]] {
        let contents: Vec<_> = paths.iter().map(|path| (*path, "")).collect();
        assert!(files::check(&files_of(&contents)).is_err(), "{paths:?}");
    }
}

#[test]
fn a_group_gets_everything_but_follows_no_link() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(root.path().join("file"), "").unwrap();
    fs::set_permissions(root.path().join("file"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink(outside.path(), root.path().join("link")).unwrap();
    let before = fs::metadata(outside.path()).unwrap();
    Ownership { group: 2000, on_root_mismatch: false }.apply(root.path()).unwrap();
    let file = fs::metadata(root.path().join("file")).unwrap();
    assert_eq!((file.gid(), file.mode() & 0o7777), (2000, 0o660));
    let folder = fs::metadata(root.path()).unwrap();
    assert_eq!((folder.gid(), folder.mode() & 0o2770), (2000, 0o2770));
    let after = fs::metadata(outside.path()).unwrap();
    assert_eq!((before.gid(), before.mode()), (after.gid(), after.mode()));
    fs::write(root.path().join("later"), "").unwrap();
    fs::set_permissions(root.path().join("later"), fs::Permissions::from_mode(0o600)).unwrap();
    Ownership { group: 2000, on_root_mismatch: true }.apply(root.path()).unwrap();
    assert_eq!(fs::metadata(root.path().join("later")).unwrap().mode() & 0o7777, 0o600, "the root matches");
}

#[test]
fn mount_options_become_flags_and_data() {
    let texts = ["nfsvers=4.1,rsize=1048576", "hard", "noatime", "_netdev"].map(str::to_owned);
    let options = nfs::options(&texts, true).unwrap();
    assert_eq!(options.flags, MsFlags::MS_NOATIME | MsFlags::MS_RDONLY);
    assert_eq!(options.data, ["rsize=1048576", "hard"]);
    assert_eq!(options.version.as_deref(), Some("4.1"));
    for refused in ["vers=3", "addr=10.0.0.1", "tls"] {
        assert!(nfs::options(&[refused.to_owned()], false).is_err(), "{refused}");
    }
    assert_eq!(nfs::source("fd00::1".parse().unwrap(), "/a"), "[fd00::1]:/a");
}

#[test]
fn a_file_with_two_names_counts_once() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), vec![1; 65536]).unwrap();
    let alone = usage::folder(root.path()).unwrap();
    fs::hard_link(root.path().join("a"), root.path().join("b")).unwrap();
    let linked = usage::folder(root.path()).unwrap();
    assert_eq!((alone.used, alone.inodes_used), (linked.used, linked.inodes_used));
    assert!(alone.used >= 65536 && alone.capacity > alone.used);
}

#[tokio::test]
async fn a_volume_keeps_its_kind_and_its_contents() {
    let root = tempfile::tempdir().unwrap();
    let volumes = Volumes::new(Paths::below(root.path()), Reaper::default());
    let put =
        |name: &str, kind| volumes.put(v1::PutVolumeRequest { name: name.to_owned(), kind, ..Default::default() });
    let empty = || Some(Kind::EmptyDir(v1::EmptyDir::default()));
    put("data", empty()).await.unwrap();
    let volume = volumes.get("data").unwrap();
    assert!(!volume.files);
    fs::write(volume.root.join("kept"), "").unwrap();
    put("data", empty()).await.unwrap();
    assert!(volume.root.join("kept").exists());
    let error = put("data", Some(Kind::Files(v1::Files::default()))).await.unwrap_err();
    assert_eq!(error.reason(), "InvalidVolume");
    assert!(put("../data", empty()).await.is_err() && put("none", None).await.is_err());
    assert_eq!(volumes.usage().await.len(), 1);
}
