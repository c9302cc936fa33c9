//! What cargo knows of this workspace: where it is, its crates, their layers, sources and edges.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// The workspace as the checks see it.
pub(crate) struct Workspace {
    /// The folder of the root Cargo.toml.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// Its own crates, by name.
    pub(crate) packages: Vec<Package>,
}

/// One of our crates.
pub(crate) struct Package {
    /// Name in Cargo.toml.
    pub(crate) name: String,
    /// Folder, from the root: `core/policy`.
    pub(crate) folder: PathBuf,
    /// Root source files of all targets.
    pub(crate) roots: Vec<PathBuf>,
    /// What it depends on.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a crate's dependency tables.
pub(crate) struct Dependency {
    /// Name of the crate depended on.
    pub(crate) name: String,
    /// Whether only tests, examples and benches use it.
    pub(crate) development: bool,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// When cargo cannot read the manifests.
    pub(crate) fn load() -> Result<Self> {
        let metadata = MetadataCommand::new().no_deps().exec().context("failed to read the workspace with cargo")?;
        let root = metadata.workspace_root.clone().into_std_path_buf();
        let packages = metadata
            .workspace_packages()
            .into_iter()
            .map(|package| {
                let manifest = package.manifest_path.parent().context("a manifest lies in a folder")?;
                Ok(Package {
                    name: package.name.to_string(),
                    folder: manifest.as_std_path().strip_prefix(&root)?.to_path_buf(),
                    roots: package.targets.iter().map(|target| target.src_path.clone().into()).collect(),
                    dependencies: package
                        .dependencies
                        .iter()
                        .map(|dependency| Dependency {
                            name: dependency.name.clone(),
                            development: dependency.kind == DependencyKind::Development,
                        })
                        .collect(),
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { root, target: metadata.target_directory.into_std_path_buf(), packages })
    }
}

impl Package {
    /// The first folder of its path: `core` for `core/policy`.
    pub(crate) fn layer(&self) -> &str {
        self.folder.iter().next().and_then(|part| part.to_str()).unwrap_or_default()
    }
}

/// All files below `folder` that `wanted` accepts, sorted; hidden folders and `target` are left out.
pub(crate) fn files_below(folder: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(current) = folders.pop() {
        for entry in std::fs::read_dir(&current).with_context(|| format!("failed to list {}", current.display()))? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if wanted(&path) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether a path names a Rust source file.
pub(crate) fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}
