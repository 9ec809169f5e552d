//! The page about the dialect: the tests that it names exist.

use std::path::Path;

const PAGE: &str = include_str!("../../../../docs/wire/azure.md");

/// All Rust sources below these folders, as one text.
fn sources(folders: &[&str]) -> String {
    let mut text = String::new();
    let mut left: Vec<_> = folders.iter().map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).collect();
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&std::fs::read_to_string(&path).expect("a source"));
            }
        }
    }
    text
}

#[test]
fn the_tests_that_hold_the_facts_exist() {
    let (_, table) = PAGE.split_once("## Where each fact is tested").expect("the section");
    let (ours, with_clients) = (sources(&["src", "tests"]), sources(&["../../tests/e2e/tests/cases"]));
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.trim_end_matches(" |").rsplit_once(" | ").expect("two columns").1;
        for test in tests.split(", ") {
            let (name, place) = match test.strip_prefix("● ") {
                Some(name) => (name, &with_clients),
                None => (test, &ours),
            };
            assert!(place.contains(&format!("fn {}(", name.trim_matches('`'))), "{test} is not there: {row}");
            count += 1;
        }
    }
    assert!(count > 60, "{count} tests are named");
}
