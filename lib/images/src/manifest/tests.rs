//! Manifests, indexes and configs as registries give them.

use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn parse(document: &Value) -> Result<Document, ImageError> {
    Document::parse(document.to_string().as_bytes(), &Limits::default())
}

fn descriptor(size: u64) -> Value {
    json!({"mediaType": "application/octet-stream", "digest": DIGEST, "size": size})
}

fn platform(os: &str, architecture: &str, variant: Option<&str>, size: u64) -> Value {
    let mut entry = descriptor(size);
    entry["platform"] = json!({"os": os, "architecture": architecture});
    if let Some(variant) = variant {
        entry["platform"]["variant"] = variant.into();
    }
    entry
}

fn chosen(entries: &[Value]) -> Option<u64> {
    let index = json!({"schemaVersion": 2, "manifests": entries});
    let Document::Index(entries) = parse(&index).unwrap() else { panic!("an index") };
    choose(&entries, "web").ok().map(|entry| entry.blob.size)
}

#[test]
fn a_manifest_is_told_by_its_fields_and_not_its_type() {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "config": descriptor(2),
        "layers": [descriptor(3)],
    });
    let Document::Manifest(read) = parse(&manifest).unwrap() else { panic!("a manifest") };
    assert_eq!((read.config.size, read.layers.len(), read.layers[0].size), (2, 1, 3));
    assert_eq!(read.digest, Digest::of(manifest.to_string().as_bytes()));
}

#[test]
fn what_is_no_manifest_is_refused_with_its_reason() {
    let many: Vec<_> = (0..257).map(|_| descriptor(1)).collect();
    let manifest = |config: Value, layers: Value| json!({"schemaVersion": 2, "config": config, "layers": layers});
    let mut other = descriptor(1);
    other["digest"] = "sha512:00".into();
    let mut negative = descriptor(1);
    negative["size"] = (-1).into();
    for (document, words) in [
        (json!([]), "invalid manifest"),
        (json!({}), "neither layers nor manifests"),
        (json!({"schemaVersion": 1, "fsLayers": []}), "schema 1"),
        (json!({"schemaVersion": 2, "manifests": [], "layers": []}), "two kinds"),
        (manifest(descriptor(1), many.into()), "number of layers"),
        (manifest(descriptor(1), json!([descriptor(u64::MAX), descriptor(2)])), "image is larger"),
        (manifest(descriptor(9 << 20), json!([])), "config is larger"),
        (manifest(other, json!([])), "invalid manifest"),
        (manifest(negative, json!([])), "invalid manifest"),
    ] {
        let error = parse(&document).unwrap_err();
        assert!(error.to_string().contains(words), "{document}: {error}");
        assert_eq!(error.reason(), "ErrImagePull");
    }
}

#[test]
fn the_image_that_fits_best_is_chosen() {
    let arm = platform("linux", "arm64", None, 1);
    let plain = platform("linux", "amd64", None, 2);
    let newer = platform("linux", "amd64", Some("v3"), 3);
    let windows = platform("windows", "amd64", None, 4);
    let attestation = platform("unknown", "unknown", None, 5);
    let silent = descriptor(6);
    assert_eq!(chosen(&[arm.clone(), newer.clone(), plain.clone()]), Some(2));
    assert_eq!(chosen(&[silent.clone(), newer, arm.clone()]), Some(3));
    assert_eq!(chosen(&[arm.clone(), silent]), Some(6));
    assert_eq!(chosen(&[arm, windows, attestation]), None);
    assert_eq!(chosen(&[]), None);
}

#[test]
fn a_config_is_read_with_everything_or_nothing_in_it() {
    let full = json!({
        "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
        "config": {
            "User": "app:www", "Env": ["A=1"], "Entrypoint": ["/a"], "Cmd": ["b"], "WorkingDir": "/w",
            "Volumes": {"/z": {}, "/data": {}}, "Labels": {"a": "b"}, "StopSignal": "SIGQUIT",
            "ExposedPorts": {"80/tcp": {}}, "Healthcheck": {"Test": ["NONE"]}, "OnBuild": null,
        },
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created_by": "x", "empty_layer": true}],
    });
    let read = read_config(full.to_string().as_bytes(), "web").unwrap();
    let text = |text: &str| text.to_owned();
    let expected = ImageConfig {
        entrypoint: vec![text("/a")],
        cmd: vec![text("b")],
        env: vec![text("A=1")],
        user: text("app:www"),
        working_dir: text("/w"),
        stop_signal: Some(text("SIGQUIT")),
        volumes: vec![text("/data"), text("/z")],
        labels: [(text("a"), text("b"))].into(),
    };
    assert_eq!((read.config, read.diff_ids.len()), (expected, 1));
    for config in [json!({}), json!(null), json!({"Entrypoint": null, "Env": null, "Volumes": null, "Labels": null})] {
        let bare = json!({
            "architecture": "amd64", "os": "linux", "config": config, "rootfs": {"type": "layers", "diff_ids": []},
        });
        let read = read_config(bare.to_string().as_bytes(), "web").unwrap();
        assert_eq!(read.config, ImageConfig::default());
    }
}

#[test]
fn an_image_for_another_machine_is_refused() {
    for (os, architecture) in [("linux", "arm64"), ("windows", "amd64")] {
        let config = json!({"architecture": architecture, "os": os, "rootfs": {"type": "layers", "diff_ids": []}});
        let error = read_config(config.to_string().as_bytes(), "web").unwrap_err();
        assert!(matches!(error, ImageError::NoPlatform { .. }), "{error}");
    }
}
