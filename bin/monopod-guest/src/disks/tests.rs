//! A folder made to look like /sys/block.

use std::fs;

use super::{designators, look, unit_serial};

fn page(code: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[0, code], &length[..], body].concat()
}

fn designator(name: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, u8::try_from(name.len()).unwrap()], name].concat()
}

#[test]
fn a_disk_is_found_by_unit_serial_device_id_or_virtio_serial() {
    let blocks = tempfile::tempdir().unwrap();
    for (name, file, contents) in [
        ("sda", "device/vpd_pg80", page(0x80, b"scratch-1 ")),
        (
            "sdb",
            "device/vpd_pg83",
            page(0x83, &[designator(b"first"), designator(b"image-of-a-long-name-17")].concat()),
        ),
        ("vda", "serial", b"plain\n".to_vec()),
    ] {
        let path = blocks.path().join(name).join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    let found = |serial| look(blocks.path(), serial).unwrap();
    assert_eq!(found("scratch-1").as_deref(), Some("sda"));
    assert_eq!(found("image-of-a-long-name-17").as_deref(), Some("sdb"));
    assert_eq!(found("plain").as_deref(), Some("vda"));
    assert_eq!(found("scratch"), None);
}

#[test]
fn a_page_that_lies_about_its_length_holds_nothing() {
    assert_eq!(unit_serial(&[0, 0x80, 0xff, 0xff, b'a']), None);
    assert_eq!(unit_serial(&[0]), None);
    assert_eq!(designators(&[0, 0x83, 0, 9, 2, 0, 0, 200, b'a']).count(), 0);
}
