//! The images of clusters: programs of other projects, built by `cargo xtask kubeplane`, and a Debian with Python.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use super::examples::{PATH, base};
use super::{LayerBuilder, TestImage};
use crate::cluster::program;

/// What Kubernetes tests itself with: servers and clients of many kinds in one program. Ours has busybox's tools beside it.
///
/// # Errors
/// When it is not built.
pub fn agnhost() -> Result<TestImage> {
    let layer = LayerBuilder::new()
        .file("agnhost", 0o755, &built("kubeplane", "agnhost")?)
        .symlink("agnhost-2", "agnhost")
        .folder("uploads", 0o755);
    let image = TestImage::named("monopod.local/agnhost:2.66.1").layer(base()?).layer(layer);
    let image = image.with("Env", vec![PATH]).with("Entrypoint", vec!["/agnhost"]).with("Cmd", vec!["pause"]);
    Ok(image
        .with("ExposedPorts", json!({"80/tcp": {}, "8080/tcp": {}, "8081/tcp": {}, "9376/tcp": {}, "5000/tcp": {}})))
}

/// The DNS server of clusters.
///
/// # Errors
/// When it is not built.
pub fn coredns() -> Result<TestImage> {
    let layer = LayerBuilder::new().file("coredns", 0o755, &built("coredns", "coredns")?);
    let image = TestImage::named("monopod.local/coredns:1.15.0").layer(layer);
    Ok(image.with("Entrypoint", vec!["/coredns"]).with("ExposedPorts", json!({"53/tcp": {}, "53/udp": {}})))
}

/// What `kubectl top` and autoscalers ask.
///
/// # Errors
/// When it is not built.
pub fn metrics_server() -> Result<TestImage> {
    let layer = LayerBuilder::new().folder("tmp", 0o1777).file(
        "metrics-server",
        0o755,
        &built("metrics-server", "metrics-server")?,
    );
    let image = TestImage::named("monopod.local/metrics-server:0.9.0").layer(layer);
    Ok(image.with("Entrypoint", vec!["/metrics-server"]).with("User", "65534"))
}

/// A Debian with Python, of the packages in a folder: each is a layer.
///
/// # Errors
/// When there are none, or one cannot be read.
pub fn python(packages: &Path) -> Result<TestImage> {
    let entries = fs::read_dir(packages).with_context(|| format!("failed to list {}", packages.display()))?;
    let mut files: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "deb"));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no Debian packages", packages.display());
    let mut image = TestImage::named("monopod.local/python:3");
    for file in files {
        let output =
            Command::new("dpkg-deb").arg("--fsys-tarfile").arg(&file).output().context("failed to run dpkg-deb")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "failed to unpack {}: {errors}", file.display());
        image = image.tar_layer(output.stdout);
    }
    // What packages would do by a script when they are installed.
    let layer = LayerBuilder::new()
        .symlink("bin/sh", "dash")
        .file(
            "etc/passwd",
            0o644,
            b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
        )
        .file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")
        .folder("tmp", 0o1777);
    Ok(image.layer(layer).with("Env", vec![PATH]).with("Cmd", vec!["python3"]))
}

fn built(module: &str, name: &str) -> Result<Vec<u8>> {
    let path = program(module, name)?;
    fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
}
