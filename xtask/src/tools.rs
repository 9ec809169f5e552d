//! What the tests need beside Rust, a C compiler and Python 3: said first, installed then, and only what is missing.
//!
//! System packages need root; Python packages go into a folder under `target` and need none. On a person's machine a
//! missing client means skipped tests, named one by one; under `CI=true` it is a failure.

use crate::{announce, in_ci, root, step, target_dir};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs of the system, and the Debian packages that carry them.
const SYSTEM: &[(&str, &str)] = &[
    ("ssh", "openssh-client"),
    ("sftp", "openssh-client"),
    ("ssh-agent", "openssh-client"),
    ("sshd", "openssh-server"),
    ("python3", "python3"),
];

/// Python packages with the versions that the protocol facts were taken from.
const PYTHON: &[&str] = &["boto3==1.44.5", "awscli==1.46.3", "azure-mgmt-network==33.1.0", "azure-identity==1.27.0"];

/// The licence checker.
const CARGO_DENY: &str = "0.20.2";

/// Says what the tests use and what of it is missing.
pub(crate) fn describe() -> Result<()> {
    announce("what the tests install");
    let missing = missing_packages();
    if missing.is_empty() {
        println!("system packages: none, all are here");
    } else {
        println!("system packages (apt-get install, needs root): {}", missing.join(" "));
    }
    if python_is_ready()? {
        println!("Python packages: none, all are here");
    } else {
        println!("Python packages, into {}: {}", venv()?.display(), PYTHON.join(" "));
    }
    if in_ci() && find("cargo-deny").is_none() && !deny_path()?.exists() {
        println!("cargo-deny {CARGO_DENY}, into {}", tools_dir()?.display());
    }
    Ok(())
}

/// Installs what is missing, as far as that is possible here, and gives the environment that the tests find it by.
pub(crate) fn install() -> Result<BTreeMap<&'static str, PathBuf>> {
    let missing = missing_packages();
    if !missing.is_empty() {
        install_packages(&missing)?;
    }
    if !python_is_ready()? {
        install_python()?;
    }
    let mut env = BTreeMap::new();
    for program in ["ssh", "sftp", "scp", "sshd", "ssh-agent", "ssh-add", "ssh-keygen", "ssh-keyscan"] {
        if let Some(path) = find(program) {
            let name = match program {
                "ssh" => "E2E_SSH",
                "sftp" => "E2E_SFTP",
                "scp" => "E2E_SCP",
                "sshd" => "E2E_SSHD",
                "ssh-agent" => "E2E_SSH_AGENT",
                "ssh-add" => "E2E_SSH_ADD",
                "ssh-keygen" => "E2E_SSH_KEYGEN",
                _ => "E2E_SSH_KEYSCAN",
            };
            env.insert(name, path);
        }
    }
    if python_is_ready()? {
        env.insert("E2E_PYTHON", venv()?.join("bin/python"));
        env.insert("E2E_AWS", venv()?.join("bin/aws"));
    }
    Ok(env)
}

/// `cargo deny`, installed first when in CI. `None` on a person's machine without it.
pub(crate) fn cargo_deny() -> Result<Option<Command>> {
    if let Some(path) = find("cargo-deny") {
        return Ok(Some(Command::new(path)));
    }
    let ours = deny_path()?;
    if !ours.exists() {
        if !in_ci() {
            println!("skipped: licences, bans and sources (cargo install cargo-deny --locked --version {CARGO_DENY})");
            return Ok(None);
        }
        let mut install = crate::cargo(&["install", "cargo-deny", "--locked", "--version", CARGO_DENY]);
        // Its own build is used once; speed of the result does not matter.
        install.args(["--debug", "--root"]).arg(tools_dir()?);
        step("install cargo-deny", install)?;
    }
    Ok(Some(Command::new(ours)))
}

/// A C++ compiler, which the fuzzing engine is built with.
pub(crate) fn cxx() -> Result<()> {
    if find("c++").is_none() { install_packages(&["g++"]) } else { Ok(()) }
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> =
        SYSTEM.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    missing.dedup();
    missing
}

fn install_packages(packages: &[&str]) -> Result<()> {
    let root_user = Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout.starts_with(b"0\n"));
    if !root_user || find("apt-get").is_none() {
        let how = format!("install them yourself: sudo apt-get install {}", packages.join(" "));
        if in_ci() {
            bail!("missing system packages and no right to install them; {how}");
        }
        println!("skipped: tests that need {} ({how})", packages.join(", "));
        return Ok(());
    }
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        command
    };
    step("apt-get update", apt(&["update", "-q"]))?;
    let mut args = vec!["install", "-q", "-y", "--no-install-recommends"];
    args.extend_from_slice(packages);
    step(&format!("apt-get install {}", packages.join(" ")), apt(&args))
}

fn install_python() -> Result<()> {
    let Some(python) = find("python3") else {
        if in_ci() {
            bail!("python3 is missing");
        }
        println!("skipped: tests that need Python packages (python3 is missing)");
        return Ok(());
    };
    let venv = venv()?;
    std::fs::create_dir_all(venv.parent().unwrap_or(Path::new(".")))?;
    let mut create = Command::new(&python);
    create.args(["-m", "venv"]).arg(&venv).stdout(Stdio::null());
    if step("python3 -m venv", create).is_err() {
        // Debian keeps the module in a package of its own.
        install_packages(&["python3-venv"])?;
        let mut again = Command::new(&python);
        again.args(["-m", "venv", "--clear"]).arg(&venv);
        step("python3 -m venv", again)?;
    }
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PYTHON);
    step(&format!("pip install {}", PYTHON.join(" ")), pip)?;
    std::fs::write(venv.join("ready"), PYTHON.join("\n")).context("cannot note that the Python packages are there")
}

fn python_is_ready() -> Result<bool> {
    Ok(std::fs::read_to_string(venv()?.join("ready")).is_ok_and(|text| text == PYTHON.join("\n")))
}

fn tools_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("test-tools"))
}

fn venv() -> Result<PathBuf> {
    Ok(tools_dir()?.join("venv"))
}

fn deny_path() -> Result<PathBuf> {
    Ok(tools_dir()?.join("bin/cargo-deny"))
}

/// Where a program is; system daemons live outside of a person's PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
        .map(|found| if found.is_absolute() { found } else { root().join(found) })
}
