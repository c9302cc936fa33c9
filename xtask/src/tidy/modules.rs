//! Every source file belongs to a module tree, opens with a `//!` header and stays readable in size.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace::{Workspace, files_below, is_rust};

/// Above this a file must be split. The aim is 500.
const MOST_LINES: usize = 800;

/// Every orphan, headless or oversized file of our crates.
///
/// # Errors
/// When a source file cannot be read.
pub(super) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut reached = BTreeSet::new();
    for root in workspace.packages.iter().flat_map(|package| &package.roots) {
        reach(root, true, &mut reached)?;
    }
    let mut complaints = Vec::new();
    for package in &workspace.packages {
        for file in files_below(&workspace.root.join(&package.folder), &is_rust)? {
            let shown = file.strip_prefix(&workspace.root).unwrap_or(&file).display().to_string();
            let text = read(&file)?;
            if !reached.contains(&file) {
                complaints.push(format!("{shown}: in no module tree; declare it with `mod` or delete it"));
            }
            if !text.starts_with("//!") {
                complaints.push(format!("{shown}: opens without a `//!` line that says what it decides"));
            }
            let lines = text.lines().count();
            if lines > MOST_LINES {
                complaints.push(format!("{shown}: {lines} lines, more than {MOST_LINES}; split it"));
            }
        }
    }
    Ok(complaints)
}

/// Adds `file` and, recursively, the files of the modules that it declares.
fn reach(file: &Path, is_root: bool, reached: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !reached.insert(file.to_path_buf()) {
        return Ok(());
    }
    let folder = file.parent().context("a source file lies in a folder")?;
    let stem = file.file_stem().unwrap_or_default();
    let own = if is_root || stem == "mod" { folder.to_path_buf() } else { folder.join(stem) };
    for declared in declared_modules(&read(file)?) {
        let candidates = [
            own.join(format!("{declared}.rs")),
            own.join(&declared).join("mod.rs"),
            // A file module declared inside `mod tests { .. }` lies one folder deeper.
            own.join("tests").join(format!("{declared}.rs")),
        ];
        if let Some(found) = candidates.into_iter().find(|path| path.is_file()) {
            reach(&found, false, reached)?;
        }
    }
    Ok(())
}

/// Names in `mod name;` declarations.
fn declared_modules(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim();
            let line = line.strip_prefix("pub(crate) ").or_else(|| line.strip_prefix("pub(super) ")).unwrap_or(line);
            let name = line.strip_prefix("pub ").unwrap_or(line).strip_prefix("mod ")?.strip_suffix(';')?;
            Some(name.to_owned())
        })
        .collect()
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::declared_modules;

    #[test]
    fn file_modules_are_seen_whatever_their_visibility_and_inline_ones_are_not() {
        let text = "mod a;\npub mod b;\npub(crate) mod c;\n    mod d;\nmod e {\n}\n// mod f;\n";
        assert_eq!(declared_modules(text), ["a", "b", "c", "d"]);
    }
}
