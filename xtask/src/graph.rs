//! The direction of dependencies, kept by a machine.
//!
//! An arrow reads "may depend on". Dev-dependencies are looser: an edge's tests may use the default store.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Who may depend on whom, among our own crates. A crate that is not in here fails the check.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ravelin-model", &[]),
    ("ravelin-engine", &["ravelin-model"]),
    ("ravelin-store", &["ravelin-model"]),
    ("ravelin-policy", &["ravelin-model"]),
    ("ravelin-recordings", &["ravelin-model"]),
    ("ravelin-sinks", &["ravelin-model"]),
    ("ravelin-aws", &["ravelin-engine", "ravelin-model"]),
    ("ravelin-azure", &["ravelin-engine", "ravelin-model"]),
    ("ravelin-native", &["ravelin-engine", "ravelin-model"]),
    ("ravelin-ssh", &["ravelin-engine", "ravelin-model"]),
    ("ravelin-demo", &[]),
    (
        "ravelin",
        &[
            "ravelin-model",
            "ravelin-engine",
            "ravelin-store",
            "ravelin-policy",
            "ravelin-recordings",
            "ravelin-sinks",
            "ravelin-aws",
            "ravelin-azure",
            "ravelin-native",
            "ravelin-ssh",
            "ravelin-demo",
        ],
    ),
    ("ravelin-e2e", &[]),
    ("ravelin-bench", &["ravelin-model", "ravelin-store"]),
    ("xtask", &[]),
];

/// What a ring must not depend on, whatever the reason.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("ravelin-model", &["tokio", "axum", "rusqlite", "russh", "jiff", "rand"]),
    ("ravelin-engine", &["axum", "hyper", "http", "rusqlite", "russh", "serde", "serde_json", "cedar-policy"]),
    ("ravelin-store", &["axum", "russh", "cedar-policy"]),
    ("ravelin-policy", &["axum", "russh", "rusqlite", "tokio"]),
    ("ravelin-recordings", &["axum", "russh", "rusqlite", "cedar-policy"]),
    ("ravelin-sinks", &["axum", "russh", "rusqlite", "cedar-policy"]),
    ("ravelin-aws", &["russh", "rusqlite", "cedar-policy"]),
    ("ravelin-azure", &["russh", "rusqlite", "cedar-policy"]),
    ("ravelin-native", &["russh", "rusqlite", "cedar-policy"]),
    ("ravelin-ssh", &["axum", "rusqlite", "cedar-policy"]),
];

/// `cargo metadata` of the workspace, without dependencies' own details.
pub(crate) fn metadata(root: &Path) -> Result<Value> {
    let output = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()))
        .args(["metadata", "--format-version=1", "--no-deps"])
        .current_dir(root)
        .output()
        .context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")
}

/// Fails with every arrow that must not be.
pub(crate) fn check(root: &Path) -> Result<()> {
    let faults = faults(&metadata(root)?)?;
    if !faults.is_empty() {
        bail!("dependencies that must not be:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

fn faults(metadata: &Value) -> Result<Vec<String>> {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ALLOWED.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    let forbidden: BTreeMap<&str, BTreeSet<&str>> =
        FORBIDDEN.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().context("no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        let Some(ours) = allowed.get(name) else {
            faults.push(format!("{name} is not on the map in xtask/src/graph.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().context("no dependencies")? {
            if dependency["kind"].as_str() == Some("dev") {
                continue;
            }
            let to = dependency["name"].as_str().context("a dependency without a name")?;
            if allowed.contains_key(to) && !ours.contains(to) {
                faults.push(format!("{name} -> {to}"));
            }
            if forbidden.get(name).is_some_and(|banned| banned.contains(to)) {
                faults.push(format!("{name} -> {to} (this ring must not know it)"));
            }
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, dependencies: &[(&str, Option<&str>)]) -> Value {
        let dependencies: Vec<Value> =
            dependencies.iter().map(|(name, kind)| json!({ "name": name, "kind": kind })).collect();
        json!({ "name": name, "dependencies": dependencies })
    }

    #[test]
    fn a_wrong_arrow_is_found_and_a_dev_arrow_is_not() {
        let metadata = json!({ "packages": [
            package("ravelin-model", &[("ravelin-engine", None)]),
            package("ravelin-aws", &[("ravelin-azure", None), ("ravelin-store", Some("dev")), ("russh", None)]),
            package("ravelin-new", &[]),
        ]});
        assert_eq!(
            faults(&metadata).expect("readable"),
            [
                "ravelin-model -> ravelin-engine",
                "ravelin-aws -> ravelin-azure",
                "ravelin-aws -> russh (this ring must not know it)",
                "ravelin-new is not on the map in xtask/src/graph.rs",
            ]
        );
    }

    #[test]
    fn the_workspace_obeys() {
        check(&crate::root()).expect("the workspace's own arrows");
    }
}
