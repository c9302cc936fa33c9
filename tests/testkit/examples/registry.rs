//! Fills a folder with what a registry keeps, for clusters of tests and of the demo: `registry FOLDER DEBIAN_PACKAGES`.
//! The folder is named by its content, and `FOLDER` becomes a link to it; prints where it is.
#![expect(clippy::print_stdout, reason = "a build tool talks to the terminal")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use monopod_testkit::images::{
    Compression, Dialect, TestImage, agnhost, busybox, coredns, digest, metrics_server, python, web,
};
use monopod_testkit::registry::TestRegistry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (link, packages) = (arguments.next(), arguments.next());
    let (link, packages) = link.zip(packages).context("usage: registry FOLDER DEBIAN_PACKAGES")?;
    let images = [busybox()?, web()?, agnhost()?, coredns()?, metrics_server()?, python(&packages)?];
    let configs: Vec<u8> = images.iter().flat_map(TestImage::config).collect();
    let key: String = digest(&configs).trim_start_matches("sha256:").chars().take(12).collect();
    let name = link.file_name().context("a folder has a name")?.to_string_lossy().into_owned();
    let folder = link.with_file_name(format!("{name}-{key}"));
    if !folder.is_dir() {
        let half = link.with_file_name(format!("{name}-half-{}", std::process::id()));
        fs::create_dir_all(&half).with_context(|| format!("failed to make {}", half.display()))?;
        let registry = TestRegistry::start_in(&half).await?;
        for image in &images {
            let (_, short) = image.name().rsplit_once('/').context("images have a registry")?;
            let (repository, tag) = short.split_once(':').context("images have a tag")?;
            // Not compressed: whoever pulls is on the same machine.
            registry.push(repository, tag, &image.stored(Compression::Plain, Dialect::Oci)?).await?;
            println!("{}", image.name());
        }
        drop(registry);
        fs::rename(&half, &folder).with_context(|| format!("failed to make {}", folder.display()))?;
    }
    let half = link.with_file_name(format!("{name}-link-{}", std::process::id()));
    symlink(folder.file_name().context("a folder has a name")?, &half).context("failed to make a link")?;
    fs::rename(&half, &link).with_context(|| format!("failed to make {}", link.display()))?;
    println!("{}", folder.display());
    Ok(())
}
