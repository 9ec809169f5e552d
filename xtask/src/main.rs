//! The commands that people type; there is nothing to install before them.
//!
//! `cargo xtask test` is what CI runs. Start reading at [`main`]; [`tools`] is what gets installed and when,
//! [`tidy`] and [`graph`] are the rules about the tree itself.

mod graph;
mod tidy;
mod tools;
mod units;

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

const USAGE: &str = "\
usage: cargo xtask <command>

  test [--fast]      format, lint, tidy, licences, unit, property and golden tests, then the real clients;
                     --fast is format, tidy and the unit, property and golden tests, and answers within a minute
  e2e [NAME]         only the real clients (installs what they need), or those tests whose name holds NAME
  check              format, lint and tidy only
  bench [ARGS]       measures both sides in one run and prints ratios; see docs/operations/performance.md
  fuzz [TARGET] [S]  fuzzes one target, or each, for S seconds (10 unless told)
  golden             rewrites the golden files; the diff is the review
  tools              says what the tests install, and what of it is missing";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["test"] => test(),
        ["test", "--fast"] => test_fast(),
        ["e2e", rest @ ..] => e2e(rest.first().copied()),
        ["check"] => check(),
        ["bench", rest @ ..] => bench(rest),
        ["fuzz", rest @ ..] => fuzz(rest),
        ["golden"] => golden(),
        ["tools"] => tools::describe(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn test() -> Result<()> {
    tools::describe()?;
    check()?;
    licences()?;
    units::run(units::Start::AllBuilt)?;
    e2e(None)?;
    if in_ci() {
        fuzz(&["all", "5"])?;
    }
    println!("\nall of it passed");
    Ok(())
}

fn test_fast() -> Result<()> {
    shape()?;
    units::run(units::Start::EachBuilt)
}

fn check() -> Result<()> {
    shape()?;
    lint()
}

fn shape() -> Result<()> {
    step("format", cargo(&["fmt", "--all", "--check"]))?;
    announce("tidy");
    tidy::check(&root())?;
    graph::check(&root())
}

fn lint() -> Result<()> {
    step("lint", cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

fn licences() -> Result<()> {
    let Some(mut deny) = tools::cargo_deny()? else { return Ok(()) };
    deny.args(["--workspace", "check", "licenses", "bans", "sources"]).current_dir(root());
    step("licences, bans and sources", deny)
}

fn e2e(name: Option<&str>) -> Result<()> {
    let env = tools::install()?;
    step("build the binary", cargo(&["build", "--package", "ravelin"]))?;
    let mut command = cargo(&["test", "--package", "ravelin-e2e", "--"]);
    command.arg("--test-threads=2");
    if let Some(name) = name {
        command.args([name, "--nocapture"]);
    }
    command.envs(env).env("RAVELIN_BIN", target_dir()?.join("debug/ravelin"));
    step("real clients", command)
}

fn bench(args: &[&str]) -> Result<()> {
    let env = tools::install()?;
    step(
        "build for the benchmark",
        cargo(&["build", "--release", "--package", "ravelin", "--package", "ravelin-bench"]),
    )?;
    let release = target_dir()?.join("release");
    let mut command = Command::new(release.join("ravelin-bench"));
    command.args(args).envs(env).env("RAVELIN_BIN", release.join("ravelin")).current_dir(root());
    step("benchmark", command)
}

/// Coverage-guided fuzzing on the stable compiler: the instrumentation is an LLVM pass, and naming the target keeps it
/// out of build scripts.
fn fuzz(args: &[&str]) -> Result<()> {
    let seconds = args.get(1).copied().unwrap_or("10");
    seconds.parse::<u32>().with_context(|| format!("seconds to fuzz: {seconds:?} is not a number"))?;
    let all = fuzz_targets()?;
    let wanted: Vec<&String> = match args.first().copied() {
        None | Some("all") => all.iter().collect(),
        Some(name) => {
            let known = all.iter().find(|t| *t == name);
            vec![known.with_context(|| format!("no fuzz target {name:?}; there are: {}", all.join(", ")))?]
        }
    };
    tools::cxx()?;
    let triple = host_triple()?;
    let mut build = cargo(&["build", "--release", "--manifest-path", "fuzz/Cargo.toml", "--target", &triple]);
    build.env(
        "RUSTFLAGS",
        "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
         -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
         -Ccodegen-units=1",
    );
    step("build the fuzz targets", build)?;
    for target in wanted {
        let corpus = root().join("fuzz/corpus").join(target);
        let found = root().join("fuzz/artifacts").join(target);
        std::fs::create_dir_all(&corpus)?;
        std::fs::create_dir_all(&found)?;
        // New inputs go to a scratch folder, so that a run in CI leaves the committed corpus as it is.
        let scratch = root().join("fuzz/target/found").join(target);
        std::fs::create_dir_all(&scratch)?;
        let mut run = Command::new(root().join("fuzz/target").join(&triple).join("release").join(target));
        run.arg(&scratch)
            .arg(&corpus)
            .arg(format!("-max_total_time={seconds}"))
            .arg("-timeout=5")
            .arg("-rss_limit_mb=1024")
            .arg("-print_final_stats=0")
            .arg("-verbosity=0")
            .arg(format!("-artifact_prefix={}/", found.display()));
        step(&format!("fuzz {target} for {seconds} s"), run)?;
    }
    Ok(())
}

fn host_triple() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(line.context("rustc -vV names no host")?.to_owned())
}

fn fuzz_targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("fuzz/targets")).context("fuzz/targets")? {
        if let Some(name) = entry?.file_name().to_str().and_then(|n| n.strip_suffix(".rs")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn golden() -> Result<()> {
    let mut command = cargo(&["test", "--workspace", "--exclude", "ravelin-e2e"]);
    command.env("UPDATE_GOLDEN", "1");
    step("rewrite the golden files", command)?;
    println!("\nread `git diff` now: the diff is the review");
    Ok(())
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn target_dir() -> Result<PathBuf> {
    let metadata = graph::metadata(&root())?;
    let dir = metadata["target_directory"].as_str().context("cargo metadata names no target folder")?;
    Ok(PathBuf::from(dir))
}

fn in_ci() -> bool {
    std::env::var("CI").is_ok_and(|v| v == "true")
}

fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(cargo_program());
    command.args(args).current_dir(root());
    command
}

fn cargo_program() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

fn announce(what: &str) {
    println!("\n── {what}");
}

fn step(what: &str, mut command: Command) -> Result<()> {
    announce(what);
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {:?}", command.get_program()))?;
    if !status.success() {
        bail!("{what} failed: {status}");
    }
    println!("── {what}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(())
}
