//! The folder of a container: root, files and mounts, on a disk of the test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::{Folder, make_below, open_below};
use crate::paths::Paths;

/// A folder of this test's own, gone with it.
struct Own(PathBuf);

impl Own {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("monopod-folder-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_part_of_a_volume_never_leaves_the_volume() {
    let own = Own::new("escape");
    let (volume, outside) = (own.0.join("volume"), own.0.join("outside"));
    fs::create_dir_all(&volume).unwrap();
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "x").unwrap();
    symlink("/etc", volume.join("absolute")).unwrap();
    symlink("../outside", volume.join("relative")).unwrap();
    for path in ["absolute/passwd", "relative/secret", "../outside/secret"] {
        assert_eq!(open_below(&volume, path, OFlag::O_PATH).unwrap_err(), Errno::ENOENT, "{path}");
    }
    assert!(make_below(&volume, "relative/made", fs::Permissions::from_mode(0o755)).is_err());
    assert!(!outside.join("made").exists());
}

#[test]
fn links_within_a_volume_are_followed() {
    let own = Own::new("inside");
    fs::create_dir_all(own.0.join("..2024")).unwrap();
    fs::write(own.0.join("..2024/key"), "value").unwrap();
    symlink("..2024", own.0.join("..data")).unwrap();
    symlink("..data/key", own.0.join("key")).unwrap();
    assert!(open_below(&own.0, "key", OFlag::O_PATH).is_ok());
    symlink("/..2024", own.0.join("rooted")).unwrap();
    assert!(open_below(&own.0, "rooted/key", OFlag::O_PATH).is_ok(), "the volume is the root of its links");
}

#[test]
fn missing_parts_are_made_with_the_mode_that_was_asked_for() {
    let own = Own::new("make");
    let mode = fs::Permissions::from_mode(0o2775);
    make_below(&own.0, "a/b", mode.clone()).unwrap();
    make_below(&own.0, "a/b/c", mode).unwrap();
    for path in ["a", "a/b", "a/b/c"] {
        assert_eq!(fs::metadata(own.0.join(path)).unwrap().permissions().mode() & 0o7777, 0o2775, "{path}");
    }
}

#[test]
fn a_termination_message_is_the_end_of_its_file() {
    let own = Own::new("message");
    let folder = Folder::new(&Paths::below(&own.0), "c1".to_owned());
    assert_eq!(folder.termination_message(), b"");
    fs::create_dir_all(folder.bundle()).unwrap();
    fs::write(folder.termination_log(), "short").unwrap();
    assert_eq!(folder.termination_message(), b"short");
    fs::write(folder.termination_log(), format!("{}end", "x".repeat(5000))).unwrap();
    let message = folder.termination_message();
    assert_eq!(message.len(), 4096);
    assert!(message.ends_with(b"xend"));
}
