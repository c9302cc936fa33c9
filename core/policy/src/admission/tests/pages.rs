//! Every kind of violation has its page in docs/errors, and every page of admission has its kind.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::Kind;

/// The opening of the line by which a page of docs/errors says that admission decides it.
const MARK: &str = "Decided by: admission.";

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

#[expect(clippy::disallowed_methods, reason = "the test compares the code with the files of the tree")]
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_kind_has_a_short_page_with_all_its_parts() {
    for kind in Kind::ALL {
        let page = kind.page();
        let reason = kind.reason();
        assert!(page.starts_with(&format!("# {reason}\n")), "{reason}: title");
        for part in [MARK, "**What it means.** ", "**Why.** ", "**What to do.** "] {
            assert!(page.lines().any(|line| line.starts_with(part)), "{reason}: {part}");
        }
        let text = format!("{MARK} Text in the message: `{}", kind.group().heading());
        assert!(page.contains(&text), "{reason}: {text}");
        assert!(page.contains("# before\n") && page.contains("# after\n"), "{reason}: before and after");
        assert!(page.lines().count() <= 35, "{reason}: a page is short");
    }
}

#[test]
fn every_page_of_admission_has_a_kind() {
    let reasons: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.reason()).collect();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let is_ours = read(&path).lines().any(|line| line.starts_with(MARK));
        assert!(!is_ours || reasons.contains(stem.as_str()), "{stem} is no kind of violation");
    }
}

#[test]
fn the_index_lists_every_kind_with_its_advice() {
    let index = read(&folder().join("README.md"));
    for kind in Kind::ALL {
        let row = format!("| [{0}]({0}.md) | {1} |", kind.reason(), kind.advice());
        assert!(index.contains(&row), "docs/errors/README.md lacks the row: {row}");
    }
}

#[test]
fn reasons_are_camel_case_and_unique_and_advice_is_one_line() {
    let reasons: BTreeSet<&str> = Kind::ALL.iter().map(|kind| kind.reason()).collect();
    assert_eq!(reasons.len(), Kind::ALL.len());
    for kind in Kind::ALL {
        let is_camel_case = kind.reason().starts_with(|c: char| c.is_ascii_uppercase())
            && kind.reason().chars().all(|c| c.is_ascii_alphanumeric());
        assert!(is_camel_case, "{}", kind.reason());
        assert!(!kind.advice().is_empty() && !kind.advice().contains('\n'), "{}", kind.reason());
    }
}
