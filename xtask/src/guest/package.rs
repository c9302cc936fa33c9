//! Debian's kernel package: fetched by apt once, kept, unpacked without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{output, run};

/// The series of the guest's kernel, and the flavour made for virtual machines.
const PREFIX: &str = "linux-image-6.12.";
const SUFFIX: &str = "+deb12-cloud-amd64";
/// Where Debian 12 has it.
const SUITE: &str = "bookworm-backports";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const APT_LIMIT: Duration = Duration::from_secs(10 * 60);

/// An unpacked kernel package.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Such as 6.12.95+deb12-cloud-amd64.
    pub(super) release: String,
    pub(super) image: PathBuf,
    pub(super) modules: PathBuf,
}

/// The newest kernel package that is kept below `folder`, unpacked; fetched when there is none, or when asked to look
/// for a newer one.
pub(super) fn unpacked(folder: &Path, refresh: bool) -> Result<Kernel> {
    let debs = folder.join("debs");
    fs::create_dir_all(&debs)?;
    let deb = match newest_kept(&debs)? {
        Some(deb) if !refresh => deb,
        Some(_) | None => fetch(folder, &debs)?,
    };
    let name = deb.file_name().and_then(|name| name.to_str()).context("package files have plain names")?;
    let release = release(name).with_context(|| format!("{name} is not a kernel package"))?;
    let unpacked = folder.join("unpacked").join(name);
    if !unpacked.is_dir() {
        let half = unpacked.with_extension("half");
        if half.exists() {
            fs::remove_dir_all(&half)?;
        }
        fs::create_dir_all(&half)?;
        run(Command::new("dpkg-deb").arg("--extract").arg(&deb).arg(&half), APT_LIMIT)?;
        fs::rename(&half, &unpacked)?;
    }
    Ok(Kernel {
        image: unpacked.join(format!("boot/vmlinuz-{release}")),
        modules: unpacked.join(format!("lib/modules/{release}/kernel")),
        release,
    })
}

/// The kernel release in the name of a package or of its file.
pub(super) fn release(name: &str) -> Option<String> {
    let package = name.split('_').next()?;
    let patch = package.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    patch.parse::<u32>().ok()?;
    package.strip_prefix("linux-image-").map(str::to_owned)
}

/// The name with the highest patch number.
pub(super) fn newest<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let patch = |name: &&str| name.strip_prefix(PREFIX)?.split('+').next()?.parse::<u32>().ok();
    names.filter(|name| release(name).is_some()).max_by_key(|name| (patch(name), *name))
}

fn newest_kept(debs: &Path) -> Result<Option<PathBuf>> {
    let names = fs::read_dir(debs)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names: Vec<_> = names.collect::<Result<_>>()?;
    let files = names.iter().map(String::as_str).filter(|name| name.ends_with(".deb"));
    Ok(newest(files).map(|name| debs.join(name)))
}

/// Fetches the newest package with this machine's apt; where that does not know the suite, with settings of our own,
/// made from its own sources, so that the machine stays as it is.
fn fetch(folder: &Path, debs: &Path) -> Result<PathBuf> {
    let own = folder.join("apt");
    let (package, settings) = match newest_offered(&[])? {
        Some(package) => (package, Vec::new()),
        None => {
            let settings = private_settings(&own)?;
            run(Command::new("apt-get").args(&settings).args(["update", "-qq"]), APT_LIMIT)?;
            let package =
                newest_offered(&settings)?.with_context(|| format!("{SUITE} has no package {PREFIX}*{SUFFIX}"))?;
            (package, settings)
        }
    };
    println!("fetching {package}");
    let mut download = Command::new("apt-get");
    download.args(&settings).args(["-o", "APT::Sandbox::User=root", "-qq", "download", &package]).current_dir(debs);
    run(&mut download, APT_LIMIT)?;
    newest_kept(debs)?.context("apt-get download left no package behind")
}

fn newest_offered(settings: &[String]) -> Result<Option<String>> {
    let names = output(Command::new("apt-cache").args(settings).args(["pkgnames", PREFIX]))?;
    Ok(newest(names.lines()).map(str::to_owned))
}

/// Options for apt that keep its lists in a folder of ours and know the suite only.
fn private_settings(folder: &Path) -> Result<Vec<String>> {
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", "$(RELEASE) $(REPO_URI)"]))?;
    let mirror = targets.lines().find_map(|line| line.strip_prefix("bookworm "));
    let Some(mirror) = mirror else {
        bail!("this machine's package sources name no mirror of Debian bookworm; add {SUITE} to them");
    };
    for name in ["lists/partial", "cache/archives/partial", "parts"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let list = folder.join("sources.list");
    fs::write(&list, format!("deb [signed-by={KEYRING}] {mirror} {SUITE} main\n"))?;
    let set = |name: &str, value: PathBuf| format!("-o{name}={}", value.display());
    Ok(vec![
        set("Dir::Etc::SourceList", list),
        set("Dir::Etc::SourceParts", folder.join("parts")),
        set("Dir::State::Lists", folder.join("lists")),
        set("Dir::Cache", folder.join("cache")),
        "-oAPT::Sandbox::User=root".to_owned(),
    ])
}
