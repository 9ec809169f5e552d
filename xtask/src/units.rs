//! The unit, property and golden tests, several test programs side by side.
//!
//! `cargo test` runs one test program after the other, and most of them spend their time waiting. Here cargo builds
//! them all and says where they are; a few run at once, those first that took longest the last time, and each one's
//! output is printed whole when it ends.

use crate::{announce, cargo_program, root, target_dir};
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// When the first test program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// When all are built: nothing else runs beside the tests, and few of them at once.
    AllBuilt,
    /// Each as soon as it is built, beside the compiler, which stands back. The answer comes sooner.
    EachBuilt,
}

/// A built test program.
struct Program {
    name: String,
    path: PathBuf,
    /// The folder of its package, where cargo would start it as well.
    folder: PathBuf,
    /// Whether it may start the package's binary, which cargo can be done with later.
    runs_binary: bool,
}

/// What is built and does not run yet, and how the others ended.
#[derive(Default)]
struct Queue {
    waiting: Vec<Program>,
    is_complete: bool,
    /// In seconds.
    took: BTreeMap<String, f64>,
    failed: Vec<String>,
    count: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

/// Builds all test programs but the real clients', and runs them.
///
/// # Errors
///
/// When one does not build, or when a test fails; every test program that was started has ended by then.
pub(crate) fn run(start: Start) -> Result<()> {
    announce("unit, property and golden tests");
    let begun = Instant::now();
    let times_file = target_dir()?.join("unit-tests.json");
    // Without these times the order is any; nothing else depends on them.
    let before: BTreeMap<String, f64> =
        std::fs::read(&times_file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let shared = Shared { queue: Mutex::default(), changed: Condvar::new() };
    let at_once = cores() + 1;
    let built = std::thread::scope(|scope| {
        let begin = || (0..at_once).for_each(|_| drop(scope.spawn(|| shared.work(&before, start))));
        if start == Start::EachBuilt {
            begin();
        }
        let built = shared.build(start).map(|()| begun.elapsed().as_secs_f64());
        shared.hold().is_complete = true;
        shared.changed.notify_all();
        if start == Start::AllBuilt && built.is_ok() {
            begin();
        }
        built
    });
    let queue = shared.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    let built = built?;
    if !queue.failed.is_empty() {
        bail!("{} of {} test programs failed:\n  {}", queue.failed.len(), queue.count, queue.failed.join("\n  "));
    }
    std::fs::write(&times_file, serde_json::to_vec(&queue.took)?).context("cannot note how long the tests took")?;
    let all = begun.elapsed().as_secs_f64();
    println!("── unit, property and golden tests: {all:.1} s; all were built after {built:.1} s");
    Ok(())
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the test programs, and queues each as cargo tells of it.
    fn build(&self, start: Start) -> Result<()> {
        let mut build = match start {
            Start::AllBuilt => Command::new(cargo_program()),
            Start::EachBuilt => {
                let mut nice = Command::new("nice");
                nice.args(["-n", "10"]).arg(cargo_program());
                nice
            }
        };
        build.args(["test", "--workspace", "--exclude", "ravelin-e2e", "--no-run"]).current_dir(root());
        build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut building = build.spawn().context("cannot start cargo")?;
        let messages = building.stdout.take().context("cargo's messages")?;
        for line in BufReader::new(messages).lines() {
            let message: Value = serde_json::from_str(&line?).context("cargo's messages")?;
            let (Some(path), true) = (message["executable"].as_str(), message["profile"]["test"] == true) else {
                continue;
            };
            let manifest = message["manifest_path"].as_str().context("an artefact without a manifest")?;
            let folder = Path::new(manifest).parent().context("a manifest without a folder")?.to_owned();
            let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let mut queue = self.hold();
            let runs_binary = message["target"]["kind"][0] == "test" && folder.join("src/main.rs").exists();
            queue.waiting.push(Program {
                name: format!("{package}: {target}"),
                path: path.into(),
                folder,
                runs_binary,
            });
            queue.count += 1;
            self.changed.notify_one();
        }
        let status = building.wait()?;
        if !status.success() {
            bail!("the tests do not build: {status}");
        }
        Ok(())
    }

    /// Runs what is queued, until all is built and nothing waits.
    fn work(&self, before: &BTreeMap<String, f64>, start: Start) {
        while let Some(program) = self.take(before) {
            let begun = Instant::now();
            let outcome = program.run(begun, start);
            let mut queue = self.hold();
            queue.took.insert(program.name.clone(), begun.elapsed().as_secs_f64());
            if let Err(error) = outcome {
                queue.failed.push(format!("{}: {error:#}", program.name));
            }
        }
    }

    fn take(&self, before: &BTreeMap<String, f64>) -> Option<Program> {
        let mut queue = self.hold();
        loop {
            // One that was never run may take long.
            let time = |program: &Program| before.get(&program.name).copied().unwrap_or(f64::MAX);
            let may_start = |program: &&Program| queue.is_complete || !program.runs_binary;
            let ready = queue.waiting.iter().enumerate().filter(|(_, program)| may_start(program));
            let longest = ready.max_by(|one, other| time(one.1).total_cmp(&time(other.1)));
            if let Some((index, _)) = longest {
                return Some(queue.waiting.swap_remove(index));
            }
            if queue.is_complete {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

impl Program {
    fn run(&self, begun: Instant, start: Start) -> Result<()> {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).stdin(Stdio::null());
        if start == Start::EachBuilt {
            // Most of them wait most of the time.
            command.env("RUST_TEST_THREADS", (cores() * 2).to_string());
        }
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
