//! What the tests of images share.
#![allow(dead_code, reason = "each test program uses a part")]

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use monopod_images::{Config, Images, Limits, Patience};
use monopod_testkit::images::{LayerBuilder, TestImage, digest};
use tempfile::TempDir;

/// A store in a folder of its own.
pub(crate) struct Store {
    pub(crate) images: Images,
    pub(crate) folder: TempDir,
}

impl Store {
    pub(crate) fn new() -> Result<Self> {
        Self::with(|_| {})
    }

    /// A store whose configuration differs from that of tests, which waits for little.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let images = Images::open(config(folder.path(), change))?;
        Ok(Self { images, folder })
    }

    /// Names of what lies in one of the store's folders.
    pub(crate) fn names(&self, folder: &str) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(self.folder.path().join(folder))?;
        let mut names: Vec<_> =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    }
}

pub(crate) fn config(folder: &Path, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::new(folder);
    config.patience = Patience {
        connect: Duration::from_secs(5),
        stall: Duration::from_secs(10),
        attempts: 3,
        pause: Duration::from_millis(5),
    };
    config.limits = Limits { keep_free: 0, ..Limits::default() };
    change(&mut config);
    config
}

/// An image with everything that layers can say.
pub(crate) fn sample() -> TestImage {
    let lower = LayerBuilder::new()
        .folder("bin", 0o755)
        .file("bin/serve", 0o4755, b"#!/bin/sh\n")
        .hard_link("bin/copy", "bin/serve")
        .folder("dev", 0o755)
        .character_device("dev/null", 0o666, 1, 3)
        .folder("etc", 0o755)
        .file("etc/gone", 0o644, b"x")
        .symlink("etc/site", "/var/www")
        .folder("run", 0o755)
        .fifo("run/pipe", 0o600)
        .folder("var", 0o755)
        .folder("var/www", 0o755)
        .file("var/www/old", 0o644, b"old")
        .folder("var/www/folder", 0o755)
        .file("var/www/folder/old", 0o644, b"old")
        .file("implied/deep/file", 0o644, b"no folder was said");
    let upper = LayerBuilder::new()
        .whiteout("etc/gone")
        .modified(1_600_000_000)
        .owned_by(1000, 1001)
        .file("etc/mine", 0o640, &[7; 70_000])
        .owned_by(0, 0)
        .folder("var/www", 0o755)
        .modified(1_577_836_800)
        .file("var/www/new", 0o644, b"new")
        .opaque("var/www");
    TestImage::named("monopod.local/sample:1").layer(lower).layer(upper).with("Entrypoint", vec!["/bin/serve"])
}

/// The digest of a file.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(digest(&bytes))
}

/// What a disk holds, as the kernel sees it: a line for each file. It is mounted where nobody else sees it.
pub(crate) fn files_of(disk: &Path) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let script = r#"mount -t erofs -o loop,ro "$0" "$1" && cd "$1" &&
        find . -exec stat -c '%N %A %u:%g %Y links=%h %t,%T' {} + | LC_ALL=C sort"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(disk).arg(folder.path()).env("LC_ALL", "C");
    let output = command.output().context("failed to run unshare")?;
    ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Waits until something is so.
pub(crate) async fn wait_for(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while std::time::Instant::now() < deadline {
        if is_so()? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("{what} did not come about")
}
