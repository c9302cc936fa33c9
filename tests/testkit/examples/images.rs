//! Writes the images of examples/ and of the demo as `docker save` archives into a folder, and prints where they are.
#![expect(clippy::print_stdout, reason = "a build tool talks to the terminal")]

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use monopod_testkit::images::{TestImage, busybox, digest, web};

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).context("usage: images FOLDER")?);
    fs::create_dir_all(&folder).with_context(|| format!("failed to make {}", folder.display()))?;
    for image in [busybox()?, web()?] {
        println!("{}", write(&folder, &image)?.display());
    }
    Ok(())
}

/// Writes an archive under a name that has its digest in it, and points `NAME.tar` at it.
fn write(folder: &Path, image: &TestImage) -> Result<PathBuf> {
    let bytes = image.docker_archive()?;
    let name = image.name().rsplit('/').next().and_then(|name| name.split(':').next()).context("images have a name")?;
    let key = digest(&bytes).trim_start_matches("sha256:").chars().take(16).collect::<String>();
    let file = format!("{name}-{key}.tar");
    let path = folder.join(&file);
    let failed = || format!("failed to write {}", path.display());
    if !path.exists() {
        // Another one may be writing the same; a name is given to whole files only.
        let partial = folder.join(format!("{file}.{}", std::process::id()));
        fs::write(&partial, bytes).with_context(failed)?;
        fs::rename(&partial, &path).with_context(failed)?;
    }
    let link = folder.join(format!("{name}.tar"));
    let partial = folder.join(format!("{name}.tar.{}", std::process::id()));
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(failed),
        Ok(()) | Err(_) => {}
    }
    symlink(&file, &partial).with_context(failed)?;
    fs::rename(&partial, &link).with_context(failed)?;
    Ok(link)
}
