//! What `docs/wire/aws.md` says is held by a test, is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every Rust file below a folder.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for folder in ["crates/aws", "crates/app/tests", "tests/e2e/tests"] {
        sources(&root.join(folder), &mut files);
    }
    let code: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect();
    let document = std::fs::read_to_string(root.join("docs/wire/aws.md")).expect("the document exists");
    // Names of tests are sentences; nothing else between backticks has so many words.
    let names: BTreeSet<&str> = document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| {
            name.matches('_').count() >= 3
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        })
        .collect();
    assert!(names.len() > 50, "{names:?}");
    let missing: Vec<&&str> =
        names.iter().filter(|name| !code.iter().any(|text| text.contains(&format!("fn {name}(")))).collect();
    assert!(missing.is_empty(), "the document names tests that are not there: {missing:#?}");
}
