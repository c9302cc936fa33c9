//! Archives and layouts, also such as nobody should have made.

use monopod_testkit::images::{Compression, LayerBuilder, TestImage};
use serde_json::json;

use super::*;

fn read_tar(tar: &[u8]) -> Result<Vec<Found>, ImageError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("My Image.tar");
    std::fs::write(&path, tar).unwrap();
    read(&path, &Limits::default(), NamedTempFile::new)
}

fn image() -> TestImage {
    TestImage::named("shop/web:2").layer(LayerBuilder::new().file("a", 0o644, b"1"))
}

fn names(found: &[Found]) -> Vec<String> {
    found.iter().flat_map(|found| &found.references).map(ToString::to_string).collect()
}

#[test]
fn both_kinds_of_archives_are_read_and_agree_on_the_config() {
    let docker = read_tar(&image().docker_archive().unwrap()).unwrap();
    let layout = read_tar(&image().oci_archive(Compression::Gzip).unwrap()).unwrap();
    assert_eq!(names(&docker), ["docker.io/shop/web:2"]);
    assert_eq!(names(&layout), ["docker.io/shop/web:2"]);
    assert_eq!(docker[0].order.manifest.config, layout[0].order.manifest.config);
}

#[test]
fn an_image_without_a_name_is_called_like_its_file() {
    let config = image().config();
    let archive = LayerBuilder::new()
        .file("c.json", 0o644, &config)
        .file("l.tar", 0o644, &LayerBuilder::new().file("a", 0o644, b"1").into_tar())
        .file("manifest.json", 0o644, json!([{"Config": "c.json", "Layers": ["l.tar"]}]).to_string().as_bytes());
    assert_eq!(names(&read_tar(&archive.into_tar()).unwrap()), ["monopod.local/my-image:latest"]);
}

#[test]
fn layers_that_are_links_to_others_are_found() {
    let layer = LayerBuilder::new().file("a", 0o644, b"1").into_tar();
    let image = image().tar_layer(layer.clone());
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["a:1", "b:1"], "Layers": ["one/layer.tar", "./two/layer.tar"]}]);
    let archive = LayerBuilder::new()
        .file("one/layer.tar", 0o644, &layer)
        .symlink("two/layer.tar", "../one/layer.tar")
        .file("c.json", 0o644, &image.config())
        .file("manifest.json", 0o644, manifest.to_string().as_bytes());
    let found = read_tar(&archive.into_tar()).unwrap();
    assert_eq!(names(&found), ["docker.io/library/a:1", "docker.io/library/b:1"]);
    assert_eq!(found[0].order.manifest.layers.len(), 2);
}

#[test]
fn what_holds_no_image_is_refused_by_name() {
    let with = |manifest: &str| LayerBuilder::new().file("manifest.json", 0o644, manifest.as_bytes());
    let circle = LayerBuilder::new().symlink("manifest.json", "manifest.json");
    for (archive, words) in [
        (LayerBuilder::new(), "holds no image"),
        (LayerBuilder::new().file("index.json", 0o644, b"{}"), "neither layers nor manifests"),
        (with("{}"), "invalid manifest.json"),
        (with(r#"[{"Config":"../../etc/passwd","Layers":[]}]"#), "is missing"),
        (with(r#"[{"Config":"c","Layers":[]}]"#), "is missing"),
        (circle, "holds no image"),
        (LayerBuilder::new().raw(b"no tar"), "broken archive"),
    ] {
        let error = read_tar(&archive.into_tar()).unwrap_err();
        assert!(error.to_string().contains(words), "{words}: {error}");
    }
}

#[test]
fn a_layout_does_not_lead_out_of_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    image().write_oci_layout(&layout, Compression::Gzip).unwrap();
    let found = read(&layout, &Limits::default(), NamedTempFile::new).unwrap();
    let digest = found[0].order.manifest.config.digest;
    let blob = layout.join("blobs/sha256").join(digest.hex());
    let moved = folder.path().join("config");
    std::fs::rename(&blob, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &blob).unwrap();
    let error = read(&layout, &Limits::default(), NamedTempFile::new).unwrap_err();
    assert!(error.to_string().contains("is missing"), "{error}");
    std::fs::remove_file(&blob).unwrap();
    std::fs::write(&blob, "another").unwrap();
    let error = read(&layout, &Limits::default(), NamedTempFile::new).unwrap_err();
    assert!(matches!(error, ImageError::WrongDigest { .. }), "{error}");
}
