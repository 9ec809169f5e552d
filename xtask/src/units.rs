//! The unit, property and golden tests, several test programs side by side.
//!
//! `cargo test` runs one test program after the other, and most of them spend their time waiting. Here cargo builds
//! them all and says where they are; a few run at once, those first that took longest the last time, and each one's
//! output is printed whole when it ends.
//!
//! Who wants an answer soon has those left out that were not built anew since they passed, as long as no other file of
//! the tree has changed since: tests read goldens and documents.

use crate::{announce, cargo_program, root, target_dir};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

/// When the first test program starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// When all are built: nothing else runs beside the tests, and few of them at once.
    AllBuilt,
    /// Each as soon as it is built, beside the compiler. The answer comes sooner.
    EachBuilt,
}

/// A built test program.
struct Program {
    name: String,
    path: PathBuf,
    /// The folder of its package, where cargo would start it as well.
    folder: PathBuf,
    /// Whether it may start the package's binary, which cargo can be done with later than with it.
    runs_binary: bool,
}

/// How a test program ended the last time that it passed.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Passed {
    seconds: f64,
    /// When it was built, and when it began.
    built: SystemTime,
    begun: SystemTime,
}

/// What is built and does not run yet, and how the others ended.
#[derive(Default)]
struct Queue {
    waiting: Vec<Program>,
    /// The folders of packages whose binary is built.
    binaries: BTreeSet<PathBuf>,
    is_complete: bool,
    passed: BTreeMap<String, Passed>,
    failed: BTreeMap<String, String>,
    count: usize,
    /// Programs that are as they were when they passed.
    left_out: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// When a file that is no source was last changed; `None` where all programs are to run.
    others_changed: Option<SystemTime>,
}

/// Builds all test programs but the real clients', and runs them.
///
/// # Errors
///
/// When one does not build, or when a test fails; every test program that was started has ended by then.
pub(crate) fn run(start: Start) -> Result<()> {
    announce("unit, property and golden tests");
    let begun = Instant::now();
    let passed_file = target_dir()?.join("unit-tests.json");
    // Without it the order is any, and all of them run.
    let before: BTreeMap<String, Passed> =
        std::fs::read(&passed_file).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let others_changed = if start == Start::EachBuilt { others_changed() } else { None };
    let shared = Shared { queue: Mutex::default(), changed: Condvar::new(), others_changed };
    let at_once = cores() + 1;
    let built = std::thread::scope(|scope| {
        let begin = || (0..at_once).for_each(|_| drop(scope.spawn(|| shared.work(&before, start))));
        if start == Start::EachBuilt {
            begin();
        }
        let built = shared.build(&before).map(|()| begun.elapsed().as_secs_f64());
        shared.hold().is_complete = true;
        shared.changed.notify_all();
        if start == Start::AllBuilt && built.is_ok() {
            begin();
        }
        built
    });
    let queue = shared.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    let built = built?;
    let all_passed = before.iter().chain(&queue.passed).filter(|(name, _)| !queue.failed.contains_key(*name));
    let passed: BTreeMap<&String, &Passed> = all_passed.collect();
    std::fs::write(&passed_file, serde_json::to_vec(&passed)?).context("cannot note which tests passed")?;
    if !queue.failed.is_empty() {
        let failed: Vec<String> = queue.failed.iter().map(|(name, error)| format!("{name}: {error}")).collect();
        bail!("{} of {} test programs failed:\n  {}", queue.failed.len(), queue.count, failed.join("\n  "));
    }
    let all = begun.elapsed().as_secs_f64();
    println!("── unit, property and golden tests: {all:.1} s; all were built after {built:.1} s");
    if queue.left_out > 0 {
        println!(
            "   {} of {} test programs are as they were when they passed, and did not run",
            queue.left_out, queue.count
        );
    }
    Ok(())
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Builds the test programs, and queues each as cargo tells of it.
    fn build(&self, before: &BTreeMap<String, Passed>) -> Result<()> {
        let mut build = Command::new(cargo_program());
        build.args(["test", "--workspace", "--exclude", "ravelin-e2e", "--no-run"]).current_dir(root());
        build.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut building = build.spawn().context("cannot start cargo")?;
        let messages = building.stdout.take().context("cargo's messages")?;
        for line in BufReader::new(messages).lines() {
            let message: Value = serde_json::from_str(&line?).context("cargo's messages")?;
            let Some(path) = message["executable"].as_str() else { continue };
            let manifest = message["manifest_path"].as_str().context("an artefact without a manifest")?;
            let folder = Path::new(manifest).parent().context("a manifest without a folder")?.to_owned();
            if message["profile"]["test"] != true {
                self.hold().binaries.insert(folder);
                self.changed.notify_all();
                continue;
            }
            let package = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let target = message["target"]["name"].as_str().unwrap_or_default();
            let runs_binary = message["target"]["kind"][0] == "test" && folder.join("src/main.rs").exists();
            let program = Program { name: format!("{package}: {target}"), path: path.into(), folder, runs_binary };
            let mut queue = self.hold();
            queue.count += 1;
            if before.get(&program.name).is_some_and(|passed| self.is_as_it_was(&program, passed)) {
                queue.left_out += 1;
            } else {
                queue.waiting.push(program);
                self.changed.notify_one();
            }
        }
        let status = building.wait()?;
        if !status.success() {
            bail!("the tests do not build: {status}");
        }
        Ok(())
    }

    /// Whether a program would find nothing new.
    fn is_as_it_was(&self, program: &Program, passed: &Passed) -> bool {
        let is_same = program.built().is_some_and(|built| built == passed.built);
        is_same && !program.runs_binary && self.others_changed.is_some_and(|changed| changed < passed.begun)
    }

    /// Runs what is queued, until all is built and nothing waits.
    fn work(&self, before: &BTreeMap<String, Passed>, start: Start) {
        while let Some(program) = self.take(before) {
            let (begun, at, built) = (Instant::now(), SystemTime::now(), program.built());
            let outcome = program.run(begun, start);
            let mut queue = self.hold();
            match (outcome, built) {
                (Ok(()), Some(built)) => {
                    let passed = Passed { seconds: begun.elapsed().as_secs_f64(), built, begun: at };
                    queue.passed.insert(program.name, passed);
                }
                (Ok(()), None) => {}
                (Err(error), _) => drop(queue.failed.insert(program.name, format!("{error:#}"))),
            }
        }
    }

    fn take(&self, before: &BTreeMap<String, Passed>) -> Option<Program> {
        let mut queue = self.hold();
        loop {
            // One that never passed may take long.
            let time = |program: &Program| before.get(&program.name).map_or(f64::MAX, |passed| passed.seconds);
            let has_all = |program: &Program| !program.runs_binary || queue.binaries.contains(&program.folder);
            let ready = queue.waiting.iter().enumerate().filter(|(_, program)| queue.is_complete || has_all(program));
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

/// When a file of the tree that is no source was last changed; `None` when that cannot be told.
fn others_changed() -> Option<SystemTime> {
    let mut list = Command::new("git");
    list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listed = list.output().ok().filter(|output| output.status.success())?;
    let names = listed.stdout.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let others = names.filter(|name| !name.is_empty() && !name.ends_with(".rs"));
    // One that is gone was removed at a time that nobody knows.
    others
        .map(|name| root().join(&*name).symlink_metadata().ok()?.modified().ok())
        .try_fold(SystemTime::UNIX_EPOCH, |latest, changed| Some(latest.max(changed?)))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

impl Program {
    fn built(&self) -> Option<SystemTime> {
        self.path.metadata().ok()?.modified().ok()
    }

    fn run(&self, begun: Instant, start: Start) -> Result<()> {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder).stdin(Stdio::null());
        if start == Start::EachBuilt {
            // Most of them wait most of the time.
            command.env("RUST_TEST_THREADS", (cores() * 2).to_string());
            // An eighth of the usual cases, for those tests that do not say themselves how many they need.
            command.env("PROPTEST_CASES", "32");
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
