//! Docs may say «this is shown by that test»: docs/compatibility.md and docs/faults.md do so row by row. Such a test must
//! exist.
//!
//! A reference stands in backticks as `CRATE: path::to::test_name`, for instance
//! `monopod-policy: sizing::tests::rule_6_no_requests`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use crate::workspace::{Package, Workspace, files_below, is_rust};

/// Documents whose references are checked.
const DOCUMENTS: [&str; 2] = ["docs/compatibility.md", "docs/faults.md"];

/// Every reference to a test that does not exist.
///
/// # Errors
/// When a document or a source file cannot be read.
pub(super) fn complaints(workspace: &Workspace) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for document in DOCUMENTS {
        let path = workspace.root.join(document);
        let text = std::fs::read_to_string(&path).with_context(|| format!("failed to read {document}"))?;
        for (line, reference) in references(&text) {
            let Some(package) = workspace.packages.iter().find(|package| package.name == reference.package) else {
                complaints.push(format!("{document}:{line}: no crate is called {}", reference.package));
                continue;
            };
            if !has_test(workspace, package, &reference.path)? {
                complaints.push(format!("{document}:{line}: {} has no test {}", reference.package, reference.path));
            }
        }
    }
    Ok(complaints)
}

/// One mention of a test.
#[derive(Debug, PartialEq, Eq)]
struct Reference {
    package: String,
    path: String,
}

/// All references of a text with their line numbers.
fn references(text: &str) -> Vec<(usize, Reference)> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for quoted in line.split('`').skip(1).step_by(2) {
            let Some((package, path)) = quoted.split_once(": ") else { continue };
            if path.contains("::") && !path.contains(' ') && !package.contains(' ') {
                found.push((index + 1, Reference { package: package.to_owned(), path: path.to_owned() }));
            }
        }
    }
    found
}

/// Whether the crate has a test function of that name in a file of that module path.
fn has_test(workspace: &Workspace, package: &Package, path: &str) -> Result<bool> {
    let segments: Vec<&str> = path.split("::").collect();
    let Some((name, modules)) = segments.split_last() else { return Ok(false) };
    for file in files_below(&workspace.root.join(&package.folder), &is_rust)? {
        let in_path: BTreeSet<String> =
            file.iter().map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
        let text = std::fs::read_to_string(&file).with_context(|| format!("failed to read {}", file.display()))?;
        let declares = |module: &&str| in_path.contains(*module) || text.contains(&format!("mod {module} {{"));
        if modules.iter().all(declares) && test_names(&text).contains(*name) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names of the functions under a test attribute (`#[test]`, `#[tokio::test]`), proptest's included.
fn test_names(text: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        let signature = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some(signature) = signature {
            if marked {
                names.extend(signature.split(['(', '<']).next());
            }
            marked = false;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::{Reference, references, test_names};

    #[test]
    fn a_reference_is_a_crate_and_a_path_in_backticks() {
        let text = "| x | `a: b` | `monopod-policy: sizing::tests::fits` |\n`eks.amazonaws.com/x: fargate`\n";
        let expected = Reference { package: "monopod-policy".into(), path: "sizing::tests::fits".into() };
        assert_eq!(references(text), [(1, expected)]);
    }

    #[test]
    fn only_functions_under_a_test_attribute_count() {
        let text = "#[test]\nfn yes() {}\nfn no() {}\n#[tokio::test]\nasync fn also() {}\n#[test]\n#[ignore]\nfn third(x in 0..1) {}";
        assert_eq!(test_names(text).into_iter().collect::<Vec<_>>(), ["also", "third", "yes"]);
    }
}
