//! Faults as an operator sees them: each folder of `tests/golden/config` holds a configuration and what is said of it.
//!
//! `UPDATE_GOLDEN=1` writes the expectations anew; the diff is the review. Files run with mode 0600 but those whose
//! name begins with `open_`. The line `{a private key}` stands for a fresh one, so that none lies in the repository.

use super::load;
use secrecy::ExposeSecret;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/config");
    let entries = fs::read_dir(folder).expect("the folder of cases");
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.expect("a case").path()).collect();
    cases.sort();
    cases
}

/// A copy of a case in which files have the modes and keys that they stand for.
fn copied(case: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().expect("a scratch folder");
    for entry in fs::read_dir(case).expect("a case's files") {
        let path = entry.expect("a case's file").path();
        let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).expect("a text");
        let key = ravelin_ssh::keys::generate_key();
        let to = copy.path().join(&name);
        fs::write(&to, text.replace("{a private key}", key.expose_secret())).expect("may be written");
        let mode = if name.starts_with("open_") { 0o644 } else { 0o600 };
        fs::set_permissions(&to, Permissions::from_mode(mode)).expect("may be changed");
    }
    copy
}

fn said_of(path: &Path) -> String {
    let (faults, end) = match load(path) {
        Ok(loaded) => (loaded.warnings, "it can be run\n"),
        Err(refused) => (refused.faults, "it cannot be run\n"),
    };
    faults.iter().map(|fault| fault.line() + "\n").chain([end.to_owned()]).collect()
}

#[test]
fn every_fault_is_said_at_once_with_its_place_and_fix() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let copy = copied(&case);
        let said = said_of(&copy.path().join("ravelin.toml"));
        let said = said.replace(&format!("{}/", copy.path().display()), "");
        let expected = case.join("expected.txt");
        if update {
            fs::write(&expected, &said).expect("may be written");
        } else if fs::read_to_string(&expected).unwrap_or_default() != said {
            differing.push(format!("{}:\n{said}", expected.display()));
        }
    }
    assert!(differing.is_empty(), "what is said has changed (UPDATE_GOLDEN=1 accepts it):\n{}", differing.join("\n"));
}

#[test]
fn the_example_can_be_run_once_its_files_are_there() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ravelin.example.toml");
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("ravelin.toml");
    fs::copy(example, &path).expect("the example is there");
    let key = ravelin_ssh::keys::generate_key();
    let secret = |name: &str, text: &str| {
        let to = folder.path().join(name);
        fs::create_dir_all(to.parent().expect("it lies in a folder")).expect("may be made");
        fs::write(&to, text).expect("may be written");
        fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("may be changed");
    };
    secret("keys/web", key.expose_secret());
    secret("keys/db-password", "not a secret\n");
    assert_eq!(said_of(&path), "it can be run\n");
}

#[test]
fn a_missing_configuration_says_where_to_start() {
    let said = said_of(Path::new("no/such/ravelin.toml"));
    assert!(said.starts_with("error: no/such/ravelin.toml: cannot be read: there is no such file; "), "{said}");
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let said = said_of(Path::new("/dev/null"));
    assert!(said.starts_with("error: /dev/null: is not a regular file; name the configuration with "), "{said}");
}
