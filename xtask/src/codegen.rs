//! Generated files: what they are, writing them, and telling which are out of date.
//!
//! Each generator is an example of the crate whose data it prints, so that this tool needs to know none of them.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::{cargo, output};
use crate::workspace::Workspace;

/// One program that prints generated files: for each a line `=== PATH`, then its text.
const GENERATORS: [(&str, &str); 2] = [("monopod-api", "crds"), ("monopod", "cli-reference")];

/// Writes every generated file.
///
/// # Errors
/// When a generator fails or a file cannot be written.
pub(crate) fn write(workspace: &Workspace) -> Result<()> {
    for (path, text) in generate()? {
        let path = workspace.root.join(path);
        let folder = path.parent().context("a generated file lies in a folder")?;
        std::fs::create_dir_all(folder).with_context(|| format!("failed to make {}", folder.display()))?;
        std::fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}

/// A complaint for each generated file that is missing or differs from what would be written.
///
/// # Errors
/// When a generator fails.
pub(crate) fn stale(workspace: &Workspace) -> Result<Vec<String>> {
    let differs = |(path, text): (PathBuf, String)| match std::fs::read_to_string(workspace.root.join(&path)) {
        Ok(present) if present == text => None,
        Ok(_) => Some(format!("{}: out of date; run `cargo xtask codegen`", path.display())),
        Err(_) => Some(format!("{}: missing; run `cargo xtask codegen`", path.display())),
    };
    Ok(generate()?.into_iter().filter_map(differs).collect())
}

fn generate() -> Result<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for (package, example) in GENERATORS {
        let printed = output(cargo().args(["run", "--quiet", "--locked", "-p", package, "--example", example]))?;
        files.extend(split(&printed));
    }
    Ok(files)
}

/// Takes apart what a generator printed.
fn split(printed: &str) -> Vec<(PathBuf, String)> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    for line in printed.split_inclusive('\n') {
        match (line.strip_prefix("=== "), files.last_mut()) {
            (Some(path), _) => files.push((PathBuf::from(path.trim_end()), String::new())),
            (None, Some((_, text))) => text.push_str(line),
            (None, None) => {}
        }
    }
    files
}

#[cfg(test)]
mod tests {
    use super::{PathBuf, split};

    #[test]
    fn each_file_starts_at_its_own_mark() {
        let files = split("=== a/b.yaml\none\ntwo\n=== c.md\nthree\n");
        let expected = [("a/b.yaml", "one\ntwo\n"), ("c.md", "three\n")];
        assert_eq!(files, expected.map(|(path, text)| (PathBuf::from(path), text.to_owned())));
    }
}
