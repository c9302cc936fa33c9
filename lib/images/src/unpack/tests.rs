//! What layers may do, and what hostile ones may not. Needs root, as unpacking does.

mod hostile;
mod reading;

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use monopod_testkit::images::LayerBuilder;
use tempfile::TempDir;

use super::*;
use crate::error::ImageError;

/// A folder to unpack into, and beside it one that nothing may touch.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("root")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        Self { folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn apply(&self, layer: LayerBuilder) -> Result<(), LayerError> {
        apply_unpromised(&layer.into_tar(), &self.root(), &limits())
    }

    fn is_untouched_outside(&self) -> bool {
        let outside = self.folder.path().join("outside");
        let names: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        let beside = fs::read_dir(self.folder.path()).unwrap().count();
        let secret = fs::metadata(outside.join("secret")).unwrap();
        let is_same = fs::read_to_string(outside.join("secret")).unwrap() == "secret" && secret.nlink() == 1;
        names == ["secret"] && beside == 2 && is_same
    }
}

fn limits() -> Limits {
    Limits {
        uncompressed: 1 << 20,
        entries: 500,
        path: 1000,
        depth: 20,
        extended_header: 4096,
        keep_free: 0,
        ..Limits::default()
    }
}

fn layer() -> LayerBuilder {
    LayerBuilder::new()
}

#[test]
fn a_whiteout_takes_away_what_is_below_and_not_what_is_beside() {
    let place = Place::new();
    place
        .apply(layer().file("a", 0o644, b"1").folder("d", 0o755).file("d/x", 0o644, b"1").file("e", 0o644, b"1"))
        .unwrap();
    // Before or after: a layer's own files stay.
    let upper = layer().whiteout("a").file("e", 0o644, b"2").whiteout("e").whiteout("d").whiteout("never/was/there");
    place.apply(upper).unwrap();
    assert_eq!(place.names(""), ["e", "never"]);
    assert_eq!(place.read("e"), "2");
}

#[test]
fn an_opaque_folder_keeps_only_what_its_layer_brings() {
    let place = Place::new();
    let lower =
        layer().folder("d", 0o755).file("d/old", 0o644, b"1").folder("d/sub", 0o755).file("d/sub/old", 0o644, b"1");
    place.apply(lower).unwrap();
    let upper = layer()
        .folder("d", 0o755)
        .folder("d/sub", 0o755)
        .file("d/sub/new", 0o644, b"2")
        .opaque("d")
        .file("d/new", 0o644, b"2");
    place.apply(upper).unwrap();
    assert_eq!(
        (place.names("d"), place.names("d/sub")),
        (vec!["new".to_owned(), "sub".to_owned()], vec!["new".to_owned()])
    );
}

#[test]
fn kinds_replace_each_other() {
    let place = Place::new();
    place.apply(layer().folder("a", 0o755).file("a/x", 0o644, b"1").file("b", 0o644, b"1").symlink("c", "a")).unwrap();
    let upper = layer().file("a", 0o644, b"2").folder("b", 0o700).file("b/y", 0o644, b"2").folder("c", 0o755);
    place.apply(upper).unwrap();
    assert_eq!(place.read("a"), "2");
    assert_eq!(place.read("b/y"), "2");
    assert!(fs::symlink_metadata(place.path("c")).unwrap().is_dir());
    assert_eq!(fs::metadata(place.path("b")).unwrap().mode() & 0o7777, 0o700);
}

#[test]
fn a_folder_that_is_there_keeps_its_content_and_takes_the_new_look() {
    let place = Place::new();
    place.apply(layer().folder("a", 0o755).file("a/x", 0o644, b"1")).unwrap();
    place.apply(layer().owned_by(5, 6).modified(7).folder("a", 0o1700)).unwrap();
    let metadata = fs::metadata(place.path("a")).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.uid(), metadata.gid(), metadata.mtime()), (0o1700, 5, 6, 7));
    assert_eq!(place.read("a/x"), "1");
}

#[test]
fn links_in_the_middle_of_a_path_lead_where_the_image_sees_them() {
    let place = Place::new();
    let lower =
        layer().folder("usr", 0o755).folder("usr/bin", 0o755).symlink("bin", "usr/bin").symlink("run", "/var/run");
    place.apply(lower).unwrap();
    place.apply(layer().file("bin/tool", 0o755, b"1").file("run/lock", 0o644, b"2")).unwrap();
    assert_eq!((place.read("usr/bin/tool"), place.read("var/run/lock")), ("1".to_owned(), "2".to_owned()));
    assert!(fs::symlink_metadata(place.path("bin")).unwrap().is_symlink());
}

#[test]
fn hard_links_share_their_file_across_layers() {
    let place = Place::new();
    place.apply(layer().file("a", 0o644, b"1")).unwrap();
    place.apply(layer().hard_link("b", "./a").whiteout("a")).unwrap();
    assert_eq!((place.names(""), place.read("b")), (vec!["b".to_owned()], "1".to_owned()));
}

#[test]
fn devices_and_fifos_are_made_and_not_opened() {
    let place = Place::new();
    place.apply(layer().character_device("null", 0o666, 1, 3).fifo("pipe", 0o600)).unwrap();
    let device = fs::symlink_metadata(place.path("null")).unwrap();
    assert!(device.file_type().is_char_device());
    assert_eq!((device.rdev(), device.mode() & 0o7777), (nix::sys::stat::makedev(1, 3), 0o666));
    assert!(fs::symlink_metadata(place.path("pipe")).unwrap().file_type().is_fifo());
}

#[test]
fn special_bits_survive_the_change_of_owner() {
    let place = Place::new();
    place.apply(layer().owned_by(7, 8).file("a", 0o6755, b"1").folder("t", 0o3777)).unwrap();
    assert_eq!(fs::metadata(place.path("a")).unwrap().mode() & 0o7777, 0o6755);
    assert_eq!(fs::metadata(place.path("t")).unwrap().mode() & 0o7777, 0o3777);
}

#[test]
fn attributes_of_the_image_are_kept_and_those_of_its_builder_are_not() {
    let place = Place::new();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let records: [(&str, &[u8]); 3] = [
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.note", b"a\nb=c"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
    ];
    place.apply(layer().records(&records).file("a", 0o755, b"1")).unwrap();
    let mut names: Vec<_> = xattr::list(place.path("a")).unwrap().map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["security.capability", "user.note"]);
    assert_eq!(xattr::get(place.path("a"), "security.capability").unwrap().unwrap(), capability);
    assert_eq!(xattr::get(place.path("a"), "user.note").unwrap().unwrap(), b"a\nb=c");
}

#[test]
fn folders_keep_their_time_when_a_later_layer_writes_into_them() {
    let place = Place::new();
    place.apply(layer().modified(1000).folder("a", 0o755).folder("a/b", 0o755).file("a/b/x", 0o644, b"1")).unwrap();
    place
        .apply(layer().modified(2000).file("a/b/y", 0o644, b"1").file("a/new/z", 0o644, b"1").whiteout("a/b/x"))
        .unwrap();
    let time = |path: &str| fs::metadata(place.path(path)).unwrap().mtime();
    assert_eq!((time("a"), time("a/b"), time("a/new"), time("a/b/y")), (1000, 1000, 0, 2000));
}

#[test]
fn all_ways_of_storing_a_layer_come_to_the_same() {
    let tar = layer().file("a", 0o644, b"1").into_tar();
    let diff_id = Digest::of(&tar);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    io::Write::write_all(&mut gzip, &tar).unwrap();
    for stored in [tar.clone(), gzip.finish().unwrap(), zstd::encode_all(tar.as_slice(), 1).unwrap()] {
        let place = Place::new();
        let tree = Tree::open(&place.root()).unwrap();
        let promise = Promise { digest: Some(Digest::of(&stored)), diff_id };
        let mut budget = Budget::new(&limits(), Arc::default());
        unpack(stored.as_slice(), promise, &tree, &mut budget).unwrap();
        assert_eq!(place.read("a"), "1");
        // Either digest wrong is an error, also when only the part behind the archive's end differs.
        let mut longer = tar.clone();
        longer.extend_from_slice(&[0; 512]);
        let mut budget = Budget::new(&limits(), Arc::default());
        let error = unpack(longer.as_slice(), promise, &tree, &mut budget).unwrap_err();
        assert!(matches!(error, LayerError::WrongDiffId { .. }), "{error}");
        let wrong = Promise { digest: Some(Digest::of(b"")), diff_id };
        let mut budget = Budget::new(&limits(), Arc::default());
        let error = unpack(stored.as_slice(), wrong, &tree, &mut budget).unwrap_err();
        assert!(matches!(error, LayerError::WrongDigest { .. }), "{error}");
    }
}

#[test]
fn unpacking_ends_when_it_is_given_up() {
    let place = Place::new();
    let tree = Tree::open(&place.root()).unwrap();
    let mut budget = Budget::new(&limits(), Arc::new(true.into()));
    let tar = layer().file("a", 0o644, b"1").into_tar();
    let error = unpack(tar.as_slice(), Promise { digest: None, diff_id: Digest::of(&tar) }, &tree, &mut budget);
    assert!(matches!(error, Err(LayerError::Cancelled)));
}

#[test]
fn unpacking_ends_before_the_disk_is_full() {
    let place = Place::new();
    let limits = Limits { keep_free: u64::MAX, uncompressed: 1 << 30, ..limits() };
    let big = layer().file("a", 0o644, &vec![0; 65 << 20]).into_tar();
    let error = apply_unpromised(&big, &place.root(), &limits).unwrap_err();
    assert!(matches!(error, LayerError::Full), "{error}");
    let error = ImageError::layer(Digest::of(b""), Path::new("/"), error);
    assert!(matches!(error, ImageError::DiskFull { .. }));
}
