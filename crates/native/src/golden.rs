//! Golden files: what was agreed once, kept as files. `UPDATE_GOLDEN=1` rewrites them; the difference is the review.

use std::path::Path;

/// Compares `text` with the file at `path`, relative to this crate's folder.
pub(crate) fn check(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).expect("the folder of golden files can be made");
        }
        std::fs::write(&path, text).expect("a golden file can be written");
        return;
    }
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        known == text,
        "{} is not what the code says; run with UPDATE_GOLDEN=1 and review the difference.\n--- code says:\n{text}",
        path.display()
    );
}

/// Compares a value in its JSON form.
pub(crate) fn check_json(path: &str, value: &impl serde::Serialize) {
    let mut text = serde_json::to_string_pretty(value).expect("wire types are JSON");
    text.push('\n');
    check(path, &text);
}
