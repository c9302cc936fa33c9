//! The parts that need neither network nor a build.

use super::Image;
use super::archive::{Entry, write};
use super::kernel_modules::needs;
use super::package::{newest, release};

fn image(agent: &[u8]) -> Image {
    let entries = vec![Entry::console(), Entry::file("init", 0o755, agent.to_vec())];
    Image { kernel_release: "6.12.1".to_owned(), kernel: b"kernel".to_vec(), entries }
}

#[test]
fn the_same_contents_are_the_same_bytes_and_version() {
    let (one, mut other) = (image(b"agent"), image(b"agent"));
    other.entries.reverse();
    assert_eq!(one.initrd().unwrap(), other.initrd().unwrap());
    assert_eq!(one.version(), other.version());
    assert!(one.version().starts_with("6.12.1-"));
}

#[test]
fn another_agent_is_another_version() {
    assert_ne!(image(b"agent").version(), image(b"agent 2").version());
}

#[test]
fn an_image_is_written_as_a_whole_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(b"agent");
    let target = folder.path().join(image.version());
    image.write(&target).unwrap();
    let description: serde_json::Value =
        serde_json::from_slice(&std::fs::read(target.join("guest.json")).unwrap()).unwrap();
    assert_eq!(description["version"], image.version());
    assert_eq!(std::fs::read(target.join("initrd")).unwrap(), image.initrd().unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_archive_holds_folders_before_what_lies_in_them() {
    let archive = write(&[Entry::file("a/b/c", 0o644, b"x".to_vec())]);
    let text = String::from_utf8_lossy(&archive);
    let names: Vec<_> = text.split("070701").skip(1).map(|entry| &entry[104..]).collect();
    let starts: Vec<_> = names.iter().map(|name| name.split('\0').next().unwrap()).collect();
    assert_eq!(starts, ["a", "a/b", "a/b/c", "TRAILER!!!"]);
    assert_eq!(archive.len() % 4, 0);
}

#[test]
fn a_module_says_what_it_needs() {
    assert_eq!(needs(b"\x7fELF..\0depends=net_failover,virtio-x\0retpoline=Y\0"), ["net_failover", "virtio_x"]);
    assert_eq!(needs(b"..\0depends=\0name=sd_mod\0"), [""; 0]);
    assert_eq!(needs(b"nothing"), [""; 0]);
}

#[test]
fn the_newest_kernel_of_the_series_is_taken() {
    let names = [
        "linux-image-6.12.9+deb12-cloud-amd64",
        "linux-image-6.12.95+deb12-cloud-amd64",
        "linux-image-6.12.96+deb12-cloud-amd64-unsigned",
        "linux-image-6.12.97+deb12-amd64",
        "linux-image-6.13.1+deb12-cloud-amd64",
    ];
    assert_eq!(newest(names.into_iter()), Some(names[1]));
    let file = "linux-image-6.12.95+deb12-cloud-amd64_6.12.95-1~bpo12+1_amd64.deb";
    assert_eq!(release(file).as_deref(), Some("6.12.95+deb12-cloud-amd64"));
}
