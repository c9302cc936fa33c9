//! `cargo xtask kubeplane`: the programs of other projects that clusters of tests and of the demo are made of, built from
//! the Go modules below tools/.
//!
//! Each module names its versions in go.mod and their digests in go.sum. What it gives is kept in a folder of the cache
//! that is named by a digest of the module and of Go's version, so that nothing is built twice; a link without the digest
//! leads to the newest.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::process::{cache_folder, cargo, output, run};
use crate::workspace::Workspace;

/// Building the control plane from nothing, on two busy cores.
const LIMIT: Duration = Duration::from_secs(40 * 60);
/// Stands in the digest: raised when the same module is built in another way.
const FORMAT: &str = "1";
/// Hex digits of the digest in a folder's name.
const DIGITS: usize = 12;

/// A Go module below tools/.
struct Module {
    folder: &'static str,
    programs: &'static [Program],
}

/// A program that a module gives.
struct Program {
    name: &'static str,
    package: &'static str,
    /// What the linker writes into variables, such as a version.
    variables: &'static [(&'static str, &'static str)],
    /// Further names, by which it knows what to do.
    links: &'static [&'static str],
}

const MODULES: [Module; 4] = [
    Module { folder: "kubeplane", programs: &[KUBEPLANE, one("agnhost", "k8s.io/kubernetes/test/images/agnhost")] },
    Module { folder: "kwok", programs: &[one("kwok", "sigs.k8s.io/kwok/cmd/kwok")] },
    Module { folder: "coredns", programs: &[one("coredns", "github.com/coredns/coredns")] },
    Module {
        folder: "metrics-server",
        programs: &[one("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server")],
    },
];

const KUBEPLANE: Program = Program {
    name: "kubeplane",
    package: ".",
    variables: &[
        ("k8s.io/component-base/version.gitVersion", "v1.37.2"),
        ("k8s.io/component-base/version.gitMajor", "1"),
        ("k8s.io/component-base/version.gitMinor", "37"),
        ("k8s.io/component-base/version.gitTreeState", "clean"),
    ],
    links: &["etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl"],
};

/// A program as it is.
const fn one(name: &'static str, package: &'static str) -> Program {
    Program { name, package, variables: &[], links: &[] }
}

/// Builds every module whose programs are not in the cache; prints where they are.
///
/// # Errors
/// When there is no Go, or a module does not build.
pub(crate) fn build(workspace: &Workspace) -> Result<()> {
    let cache = cache_folder()?;
    let go = Go::find(&cache)?;
    for module in &MODULES {
        let source = workspace.root.join("tools").join(module.folder);
        let tools = cache.join("tools");
        let name = format!("{}-{}", module.folder, key(&source, &go.version)?);
        let folder = tools.join(&name);
        if !folder.is_dir() {
            println!("building {} from Go modules (once; minutes)", module.folder);
            make(&go, module, &source, &folder)?;
        }
        point(&tools.join(module.folder), &name)?;
        println!("{}", folder.display());
    }
    fill_registry(workspace, &cache)
}

/// Puts the images of clusters, which hold these programs and packages of Debian, into what a registry serves.
fn fill_registry(workspace: &Workspace, cache: &Path) -> Result<()> {
    let packages = cache.join("images/debian-python");
    if !packages.is_dir() {
        fetch_packages(&packages)?;
    }
    let mut fill = cargo();
    fill.args(["run", "--quiet", "--locked", "-p", "monopod-testkit", "--example", "registry", "--"]);
    fill.arg(cache.join("images/registry")).arg(&packages);
    run(fill.current_dir(&workspace.root), LIMIT)
}

/// Fetches Python, a shell and all that they need as Debian packages.
fn fetch_packages(folder: &Path) -> Result<()> {
    let without = "recommends suggests conflicts breaks replaces enhances";
    let mut ask = Command::new("apt-cache");
    ask.args(["depends", "--recurse"]).args(without.split(' ').map(|kind| format!("--no-{kind}")));
    let answer = output(ask.args(["python3", "bash", "dash", "coreutils", "base-files"]))?;
    // An image needs nothing that installs, and no second one of what there are several of.
    let needless = [
        "cdebconf",
        "debconf",
        "dpkg",
        "gawk",
        "install-info",
        "libperl",
        "mailcap",
        "mime-support",
        "original-awk",
        "perl",
    ];
    let packages = answer.lines().filter(|line| !line.starts_with([' ', '<', '|']));
    let packages: Vec<_> = packages.filter(|name| !needless.iter().any(|prefix| name.starts_with(prefix))).collect();
    let half = folder.with_extension(format!("half-{}", std::process::id()));
    fs::create_dir_all(&half).with_context(|| format!("failed to make {}", half.display()))?;
    let mut download = Command::new("apt-get");
    download.args(["-o", "APT::Sandbox::User=root", "-qq", "download"]).args(packages);
    run(download.current_dir(&half), LIMIT)?;
    fs::rename(&half, folder).with_context(|| format!("failed to make {}", folder.display()))
}

/// Builds a module's programs into a folder that is there as a whole or not at all.
fn make(go: &Go, module: &Module, source: &Path, folder: &Path) -> Result<()> {
    let half = folder.with_extension(format!("half-{}", std::process::id()));
    fs::create_dir_all(&half).with_context(|| format!("failed to make {}", half.display()))?;
    for program in module.programs {
        let variables = program.variables.iter().map(|(name, value)| format!(" -X {name}={value}"));
        let linker = format!("-s -w{}", variables.collect::<String>());
        let mut build = go.command();
        build.args(["build", "-trimpath", "-ldflags", &linker, "-o"]).arg(half.join(program.name));
        run(build.arg(program.package).current_dir(source), LIMIT)
            .with_context(|| format!("failed to build {} of tools/{}", program.name, module.folder))?;
        for link in program.links {
            symlink(program.name, half.join(link)).with_context(|| format!("failed to link {link}"))?;
        }
    }
    match fs::rename(&half, folder) {
        // Somebody else was quicker with the same.
        Err(_) if folder.is_dir() => fs::remove_dir_all(&half).context("failed to remove what was built twice"),
        renamed => renamed.with_context(|| format!("failed to make {}", folder.display())),
    }
}

/// Digest of a module's files and of Go's version.
fn key(source: &Path, version: &str) -> Result<String> {
    let mut files: Vec<PathBuf> = fs::read_dir(source)
        .with_context(|| format!("failed to list {}", source.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update(bytes.len().to_le_bytes());
        digest.update(bytes);
    };
    add(FORMAT.as_bytes());
    add(version.as_bytes());
    for file in files {
        add(file.file_name().unwrap_or_default().as_encoded_bytes());
        add(&fs::read(&file).with_context(|| format!("failed to read {}", file.display()))?);
    }
    Ok(hex::encode(digest.finalize())[..DIGITS].to_owned())
}

/// Makes `link` lead to `name` beside it, in one step.
fn point(link: &Path, name: &str) -> Result<()> {
    if fs::read_link(link).is_ok_and(|target| target == Path::new(name)) {
        return Ok(());
    }
    let half = link.with_extension(format!("link-{}", std::process::id()));
    symlink(name, &half).with_context(|| format!("failed to make {}", half.display()))?;
    fs::rename(&half, link).with_context(|| format!("failed to make {}", link.display()))
}

/// The Go toolchain, with its caches in ours.
struct Go {
    program: PathBuf,
    cache: PathBuf,
    version: String,
}

impl Go {
    fn find(cache: &Path) -> Result<Self> {
        // Where Go's own archive is unpacked to; not every shell has it in its path.
        let usual = PathBuf::from("/usr/local/go/bin/go");
        let in_path = Command::new("go").arg("version").output().is_ok_and(|output| output.status.success());
        let program = if in_path || !usual.is_file() { PathBuf::from("go") } else { usual };
        let mut go = Self { program, cache: cache.join("go"), version: String::new() };
        // Asked where a go.mod is, an older one answers for the newer one that it fetches.
        go.version = output(go.command().args(["env", "GOVERSION"]))
            .context("there is no Go; scripts/bootstrap says how to get it")?;
        Ok(go)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("GOMODCACHE", self.cache.join("mod"))
            .env("GOCACHE", self.cache.join("build"))
            .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
            .env("GOWORK", "off")
            // One that is too old fetches the one that go.mod asks for.
            .env("GOTOOLCHAIN", "auto")
            .env("CGO_ENABLED", "0");
        command
    }
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn a_folder_is_named_by_every_file_and_by_the_version_of_go() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("go.mod"), "module a\n")?;
        let first = key(folder.path(), "go1")?;
        assert_eq!(first, key(folder.path(), "go1")?);
        assert_ne!(first, key(folder.path(), "go2")?);
        std::fs::write(folder.path().join("main.go"), "package main\n")?;
        assert_ne!(first, key(folder.path(), "go1")?);
        Ok(())
    }
}
