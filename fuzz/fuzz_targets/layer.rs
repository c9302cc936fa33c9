//! Bytes as a layer: whatever they are, nothing beside the image's folder changes.
//!
//! Unpacking needs root; without it most layers are refused for that.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let (root, outside) = (folder.path().join("root"), folder.path().join("outside"));
    std::fs::create_dir(&root).expect("the folder is new");
    std::fs::write(&outside, "untouched").expect("the folder is writable");
    monopod_images::fuzz::layer(input, &root);
    let beside = std::fs::read_dir(folder.path()).expect("the folder is there").count();
    assert_eq!(beside, 2, "nothing is made beside the image");
    assert_eq!(std::fs::read_to_string(&outside).expect("the file is there"), "untouched");
});
