//! Files and directories as kubectl takes them.

use std::fs;
use std::path::Path;

use crate::{Input, MAX_SOURCE_BYTES, Source, read};

fn read_names(directory: &Path, recursive: bool) -> Vec<String> {
    let sources = read(&[Input::Path { path: directory.into(), recursive }]).unwrap();
    let name = |source: &Source| Path::new(&*source.file).file_name().unwrap().to_str().unwrap().to_owned();
    sources.iter().map(name).collect()
}

#[test]
fn a_directory_is_its_yaml_yml_and_json_by_name_and_deeper_only_when_asked() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("c-deep")).unwrap();
    for file in ["b.yml", "a.yaml", "d.json", "README.md", "c-deep/e.yaml"] {
        fs::write(root.path().join(file), "").unwrap();
    }
    assert_eq!(read_names(root.path(), false), ["a.yaml", "b.yml", "d.json"]);
    assert_eq!(read_names(root.path(), true), ["a.yaml", "b.yml", "e.yaml", "d.json"]);
}

#[test]
fn a_file_named_outright_is_read_whatever_its_name() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("manifest.txt");
    fs::write(&path, "kind: Pod\n").unwrap();
    let sources = read(&[Input::Path { path, recursive: false }]).unwrap();
    assert_eq!(sources[0].text, "kind: Pod\n");
}

#[test]
fn what_cannot_be_read_is_named_and_all_of_it() {
    let root = tempfile::tempdir().unwrap();
    let missing = root.path().join("missing.yaml");
    let inputs = [root.path().to_path_buf(), missing.clone()].map(|path| Input::Path { path, recursive: false });
    let errors = read(&inputs).unwrap_err();
    let expected = format!(
        "directory {} has no file that ends in .yaml, .yml or .json\nfailed to read {}",
        root.path().display(),
        missing.display()
    );
    assert_eq!(errors.to_string(), expected);
}

#[test]
fn bytes_that_are_no_text_and_bytes_without_end_are_refused() {
    let error = Source::new("t.yaml", b"a: b\n\xff\n".to_vec()).unwrap_err();
    assert_eq!(error.to_string(), "t.yaml:2: is not UTF-8 text");
    let error = Source::new("t.yaml", vec![b'a'; MAX_SOURCE_BYTES + 1]).unwrap_err();
    assert_eq!(error.to_string(), "t.yaml: is larger than the limit of 33554432 bytes");
}
