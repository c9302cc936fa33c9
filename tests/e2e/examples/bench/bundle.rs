//! The same root file system under `runc`: what a container costs that shares the machine's kernel.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use monopod_testkit::images;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::bare::{MARKER, spawn, until_marker};

/// Unpacks the layers of an archive in its folder to `rootfs` and writes the default configuration.
const UNPACK: &str = "mkdir rootfs layers && tar -xf image.tar -C layers && \
                      for layer in layers/*/layer.tar; do tar -xf $layer -C rootfs; done && runc spec";

/// A folder that `runc` can run.
#[derive(Debug)]
pub(crate) struct Bundle {
    folder: TempDir,
}

impl Bundle {
    /// Unpacks the image that the Pods run.
    pub(crate) async fn new() -> Result<Self> {
        let there = Command::new("runc").arg("--version").output().await;
        ensure!(there.is_ok(), "there is no runc on this machine; install it with scripts/bootstrap (Debian: runc)");
        let bundle = Self { folder: tempfile::tempdir()? };
        images::busybox()?.write_docker_archive(&bundle.folder.path().join("image.tar"))?;
        let unpacked = Command::new("sh").args(["-ec", UNPACK]).current_dir(bundle.folder.path()).output().await?;
        ensure!(unpacked.status.success(), "no bundle: {}", String::from_utf8_lossy(&unpacked.stderr));
        let path = bundle.configuration();
        let mut configuration: Value = serde_json::from_slice(&fs::read(&path)?)?;
        configuration["process"]["terminal"] = false.into();
        configuration["process"]["args"] = json!(["sh", "-c", format!("echo {MARKER}")]);
        fs::write(&path, configuration.to_string())?;
        Ok(bundle)
    }

    fn configuration(&self) -> PathBuf {
        self.folder.path().join("config.json")
    }

    /// Runs it once; the time until its program has spoken.
    pub(crate) async fn run(&self, round: usize) -> Result<Duration> {
        let name = format!("monopod-bench-{}-{round}", std::process::id());
        let begun = Instant::now();
        let mut command = Command::new("runc");
        command.arg("--root").arg(self.folder.path().join("state")).args(["run", "--bundle"]);
        command.arg(self.folder.path()).arg(&name);
        let mut container = spawn(command).context("failed to start runc")?;
        let took = until_marker(&mut container, begun).await?;
        let status = container.wait().await?;
        ensure!(status.success(), "runc ended with {status}");
        Ok(took)
    }
}
