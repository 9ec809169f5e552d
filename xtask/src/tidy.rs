//! Rules about the text of the tree that no compiler checks.

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// Words that rings 1 and 2 must not hold: a vendor's name there means that a dialect leaked inwards.
const VENDOR_WORDS: &[&str] = &["aws", "azure", "amazon", "microsoft", "sigv4", "bastionhosts"];

/// Fails with every place that breaks a rule.
pub(crate) fn check(root: &Path) -> Result<()> {
    let mut faults = Vec::new();
    let mut sources = Vec::new();
    for folder in ["crates", "xtask", "tests"] {
        collect(&root.join(folder), &mut sources)?;
    }
    for path in &sources {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root).unwrap_or(path).display().to_string();
        faults.extend(source_faults(&name, &text));
    }
    if sources.len() < 20 {
        bail!("tidy found only {} sources under {}: it looks in the wrong place", sources.len(), root.display());
    }
    if !faults.is_empty() {
        bail!("untidy:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn source_faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let first = text.lines().find(|line| !line.trim().is_empty());
    if !first.is_some_and(|line| line.starts_with("//!") || line.starts_with("#!")) {
        faults.push(format!("{name}: starts without //! (what it is for, what it must not know)"));
    }
    let inner_ring = name.starts_with("crates/model/src") || name.starts_with("crates/engine/src");
    let mut in_example = false;
    for (number, line) in text.lines().enumerate() {
        let at = number + 1;
        let fence = line.trim_start().trim_start_matches(['/', '!']).trim_start();
        if fence.len() < line.trim_start().len() && fence.starts_with("```") {
            in_example = !in_example;
            if in_example && fence != "```text" {
                faults.push(format!("{name}:{at}: an example that no test runs; say ```text, or make it a test"));
            }
        }
        if inner_ring {
            let lower = line.to_lowercase();
            // `aws-lc-rs` is the cryptography library, not a dialect.
            let lower = lower.replace("aws_lc_rs", "").replace("aws-lc-rs", "");
            for word in VENDOR_WORDS {
                if lower.contains(word) {
                    faults.push(format!("{name}:{at}: {word:?} has no place in the rings"));
                }
            }
        }
        if !name.starts_with("xtask/src/tidy.rs") && (line.contains("FIXME") || line.contains("XXX:")) {
            faults.push(format!("{name}:{at}: unfinished"));
        }
        if line.trim_end() != line {
            faults.push(format!("{name}:{at}: blanks at the end of the line"));
        }
    }
    faults
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|n| n != "target" && n != "golden") {
                collect(&path, into)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
    into.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_bites() {
        assert_eq!(source_faults("crates/x/src/lib.rs", "fn f() {}\n").len(), 1);
        assert_eq!(source_faults("crates/model/src/a.rs", "//! a\n// the AWS form\n").len(), 1);
        assert_eq!(source_faults("crates/engine/src/a.rs", "//! a\nuse aws_lc_rs::hmac;\n").len(), 0);
        assert_eq!(source_faults("crates/aws/src/a.rs", "//! a\n// the AWS form\n").len(), 0);
        assert_eq!(source_faults("crates/x/src/a.rs", "//! a\nlet x = 1; \n").len(), 1);
        assert_eq!(source_faults("crates/x/src/a.rs", "//! a\n//! ```\n//! f()\n//! ```\n").len(), 1);
        assert_eq!(source_faults("crates/x/src/a.rs", "//! a\n//! ```text\n//! f()\n//! ```\n").len(), 0);
    }
}
