//! The unit, property and golden tests, several test programs side by side.
//!
//! `cargo test` runs one test program after the other, and most of them spend their time waiting. Here cargo builds
//! them all and says where they are; then a few run at once, and each one's output is printed whole when it ends.

use crate::{announce, cargo};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

/// A built test program.
struct Program {
    name: String,
    path: PathBuf,
    /// The folder of its package, where cargo would start it as well.
    folder: PathBuf,
}

/// Builds all test programs but the real clients', and runs them.
///
/// # Errors
///
/// When one does not build, or when a test fails; every other one has run by then.
pub(crate) fn run() -> Result<()> {
    announce("unit, property and golden tests");
    let begun = Instant::now();
    let programs = build()?;
    let built = begun.elapsed().as_secs_f64();
    let count = programs.len();
    let queue = Mutex::new(VecDeque::from(programs));
    let failed = Mutex::new(Vec::new());
    let at_once = std::thread::available_parallelism().map_or(2, usize::from) + 1;
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                while let Some(program) = take(&queue) {
                    if let Err(error) = program.run() {
                        lock(&failed).push(format!("{}: {error:#}", program.name));
                    }
                }
            });
        }
    });
    let failed = lock(&failed);
    if !failed.is_empty() {
        bail!("{} of {count} test programs failed:\n  {}", failed.len(), failed.join("\n  "));
    }
    let ran = begun.elapsed().as_secs_f64() - built;
    println!("── unit, property and golden tests: {ran:.1} s, and {built:.1} s to build them");
    Ok(())
}

/// Builds the test programs; those that take longest stand first, as far as their size tells.
fn build() -> Result<Vec<Program>> {
    let mut build = cargo(&["test", "--workspace", "--exclude", "ravelin-e2e", "--no-run"]);
    build.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests do not build: {}", output.status);
    }
    let mut programs: Vec<(u64, Program)> = Vec::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's messages")?;
        let (Some(path), true) = (message["executable"].as_str(), message["profile"]["test"] == true) else { continue };
        let manifest = message["manifest_path"].as_str().context("an artefact without a manifest")?;
        let folder = Path::new(manifest).parent().context("a manifest without a folder")?.to_owned();
        let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let target = message["target"]["name"].as_str().unwrap_or_default();
        let name = format!("{package}: {target}");
        let size = std::fs::metadata(path).map_or(0, |data| data.len());
        programs.push((size, Program { name, path: path.into(), folder }));
    }
    programs.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    Ok(programs.into_iter().map(|(_, program)| program).collect())
}

impl Program {
    fn run(&self) -> Result<()> {
        let begun = Instant::now();
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).stdin(Stdio::null());
        let output = command.output().with_context(|| format!("cannot start {}", self.path.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        let took = begun.elapsed().as_secs_f64();
        if output.status.success() {
            let result = said.lines().filter(|line| line.starts_with("test result")).collect::<Vec<_>>().join("\n");
            println!("{} ({took:.1} s)\n  {result}", self.name);
            return Ok(());
        }
        println!("{} ({took:.1} s)\n{said}\n{}", self.name, String::from_utf8_lossy(&output.stderr));
        bail!("{}", output.status)
    }
}

fn take(queue: &Mutex<VecDeque<Program>>) -> Option<Program> {
    lock(queue).pop_front()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
