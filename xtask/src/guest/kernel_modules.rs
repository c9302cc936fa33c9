//! Which kernel modules the guest needs, and what they need in turn: read from the modules themselves, since the package
//! holds no list (depmod writes that on the machine that installs it).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::archive::Entry;

/// Modules by the name of the list that the agent loads them by: at boot, and when a volume asks for it.
const LISTS: [(&str, &[&str]); 2] =
    [("boot", &["virtio_scsi", "sd_mod", "erofs", "overlay", "virtio_net", "virtio_rng"]), ("nfs", &["nfsv4"])];

/// The modules and their lists, as entries of the image.
pub(super) fn entries(folder: &Path) -> Result<Vec<Entry>> {
    let mut files = BTreeMap::new();
    find(folder, &mut files)?;
    let mut read = BTreeMap::new();
    let mut entries = Vec::new();
    for (list, roots) in LISTS {
        let mut order = Vec::new();
        for root in roots {
            require(root, &files, &mut read, &mut order)?;
        }
        let lines: Vec<_> = order.iter().map(|name| format!("{name}.ko\n")).collect();
        entries.push(Entry::file(&format!("lib/modules/{list}.list"), 0o644, lines.concat().into_bytes()));
    }
    let modules = read.into_iter().map(|(name, data)| Entry::file(&format!("lib/modules/{name}.ko"), 0o644, data));
    entries.extend(modules);
    Ok(entries)
}

/// Every module below a folder, by its name in the kernel.
fn find(folder: &Path, files: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if let Some((name, _)) =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.split_once(".ko"))
        {
            files.insert(name.replace('-', "_"), path.clone());
        }
    }
    Ok(())
}

/// Puts a module into `order`, behind everything it needs.
fn require(
    name: &str,
    files: &BTreeMap<String, PathBuf>,
    read: &mut BTreeMap<String, Vec<u8>>,
    order: &mut Vec<String>,
) -> Result<()> {
    if order.iter().any(|there| there == name) {
        return Ok(());
    }
    if !read.contains_key(name) {
        let path = files.get(name).with_context(|| format!("the kernel package has no module {name}"))?;
        read.insert(name.to_owned(), contents(path)?);
    }
    for needed in needs(&read[name]) {
        require(&needed, files, read, order)?;
    }
    order.push(name.to_owned());
    Ok(())
}

/// A module, unpacked.
fn contents(path: &Path) -> Result<Vec<u8>> {
    let is = |extension: &str| path.extension().is_some_and(|found| found == extension);
    if is("ko") {
        return fs::read(path).with_context(|| format!("failed to read {}", path.display()));
    }
    if !is("xz") {
        bail!("do not know how to unpack {}", path.display());
    }
    let output = Command::new("xz").args(["--decompress", "--stdout"]).arg(path).stderr(Stdio::inherit()).output();
    let output = output.context("failed to start xz; install the package xz-utils")?;
    if !output.status.success() {
        bail!("failed to unpack {}", path.display());
    }
    Ok(output.stdout)
}

/// The modules that a module names as needed, in its `depends` field.
pub(super) fn needs(module: &[u8]) -> Vec<String> {
    const FIELD: &[u8] = b"\0depends=";
    let Some(start) = module.windows(FIELD.len()).position(|window| window == FIELD) else { return Vec::new() };
    let value = module[start + FIELD.len()..].split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value);
    names.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}
