//! Core crates decide and do nothing else: their dependency list holds no runtime, no randomness, no log and no
//! client, and the state machines of core/vmstate spell out every case.
//!
//! core/clippy.toml refuses the calls of the standard library; this refuses the crates.

use anyhow::{Context, Result};

use crate::workspace::{Package, Workspace, files_below, is_rust};

/// What would let a core crate wait, roll dice, talk or remember.
const IMPURE: [&str; 12] = [
    "async-trait",
    "axum",
    "fastrand",
    "futures",
    "getrandom",
    "hyper",
    "log",
    "rand",
    "reqwest",
    "tokio",
    "tonic",
    "tracing",
];

/// Every impure dependency of a core crate, and every wildcard arm in core/vmstate.
///
/// # Errors
/// When a source file cannot be read.
pub(super) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = impure_dependencies(&workspace.packages);
    for package in workspace.packages.iter().filter(|package| package.folder.ends_with("core/vmstate")) {
        for file in files_below(&workspace.root.join(&package.folder).join("src"), &is_rust)? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
            complaints.extend(
                wildcard_arms(&text).map(|line| format!("{}:{line}: a wildcard arm; name every case", file.display())),
            );
        }
    }
    Ok(complaints)
}

fn impure_dependencies(packages: &[Package]) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in packages.iter().filter(|package| package.layer() == "core") {
        for dependency in package.dependencies.iter().filter(|dependency| !dependency.development) {
            if IMPURE.contains(&dependency.name.as_str()) {
                complaints.push(format!("{} depends on {}: core crates are pure", package.name, dependency.name));
            }
        }
    }
    complaints
}

/// Numbers of the lines that have `_ =>` or `, _)` in a pattern. Clippy's lints do not see these inside a match on a
/// tuple.
fn wildcard_arms(text: &str) -> impl Iterator<Item = usize> {
    text.lines().enumerate().filter_map(|(index, line)| {
        let code = line.split("//").next().unwrap_or_default().trim();
        let wildcard = code.starts_with("_ =>") || (code.contains("=>") && code.contains(", _)"));
        wildcard.then_some(index + 1)
    })
}

#[cfg(test)]
mod tests {
    use super::wildcard_arms;

    #[test]
    fn wildcards_are_found_in_arms_and_nowhere_else() {
        let text = "match (a, b) {\n    (A, B) => 1,\n    (A, _) => 2,\n    _ => 3, // _ => no\n}\nlet _ = f(a, _x);\n";
        assert_eq!(wildcard_arms(text).collect::<Vec<_>>(), [3, 4]);
    }
}
