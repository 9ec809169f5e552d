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
    ("curl", "curl"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("python3", "python3"),
    // What people run on terminals, for recordings to be judged by.
    ("vim", "vim"),
    ("less", "less"),
    ("htop", "htop"),
    // A browser, in which recordings are played.
    ("chromium", "chromium"),
    // The second generation of the aws CLI, whose output `ravelin ssm` is held against.
    (AWS_2, "awscli"),
    ("rsyslogd", "rsyslog"),
    ("openssl", "openssl"),
];

/// rsyslog's module for TLS, and the Debian package that carries it.
const RSYSLOG_TLS: (&str, &str) = ("rsyslog/lmnsd_ossl.so", "rsyslog-openssl");

/// Where Debian puts the aws CLI; an `aws` earlier in the PATH may be of the first generation.
const AWS_2: &str = "/usr/bin/aws";

/// Packages of one registry that live in a folder of their own, with the versions that the protocol facts were taken
/// from. A set whose list changes is installed anew.
struct Set {
    name: &'static str,
    packages: &'static [&'static str],
}

/// The Python packages that tests import or run.
const PYTHON: Set = Set {
    name: "venv",
    packages: &[
        "boto3==1.44.5",
        "awscli==1.46.3",
        "azure-mgmt-network==33.1.0",
        "azure-identity==1.27.0",
        "moto[server]==5.2.1",
        // What rows for Log Analytics are held against.
        "azure-monitor-ingestion==1.1.0",
        // The asynchronous half of the SDK stands on the first; the second is the tunnels' independent client.
        "aiohttp==3.14.5",
        "websocket-client==1.9.2",
    ],
};

/// The Azure CLI pins versions of everything, so it lives alone.
const AZURE_CLI: Set = Set { name: "azure-cli", packages: &["azure-cli==2.91.0"] };

/// All sets of Python packages.
const PYTHON_SETS: &[Set] = &[PYTHON, AZURE_CLI];

/// The npm packages that tests import or run.
const NODE: Set =
    Set { name: "node", packages: &["@azure/arm-network@36.0.0", "@azure/identity@4.13.1", "azurite@3.37.0"] };

/// An independent client of Session Manager's data channels, and the WebSocket that it leaves to others.
const NODE_SSM: Set = Set { name: "node-ssm", packages: &["ssm-session@1.0.6", "ws@8.23.0"] };

/// The player of recordings that people have on their pages.
const NODE_PLAYER: Set = Set { name: "node-player", packages: &["asciinema-player@3.17.0"] };

/// All sets of npm packages.
const NODE_SETS: &[Set] = &[NODE, NODE_SSM, NODE_PLAYER];

/// An independent client of Session Manager from crates.io, as a program: not in the workspace, because it brings
/// OpenSSL. It shares the workspace's target folder, so that what both need is built once.
const SSM_BRIDGE: &str = "tests/e2e/clients/ssm-bridge/Cargo.toml";

/// What it is built against: the system's OpenSSL, and what finds it.
const OPENSSL_DEVELOPMENT: &[&str] = &["pkg-config", "libssl-dev"];

/// The package of the C++ compiler.
const CXX: &str = "g++";

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
    for (what, set) in PYTHON_SETS.iter().map(|set| ("Python", set)).chain(NODE_SETS.iter().map(|set| ("npm", set))) {
        if set.is_ready()? {
            println!("{what} packages for {}: none, all are here", set.name);
        } else {
            println!("{what} packages, into {}: {}", set.folder()?.display(), set.packages.join(" "));
        }
    }
    if !ssm_bridge_path()?.exists() {
        println!("ssm-bridge, an independent client of Session Manager, built from {SSM_BRIDGE}");
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
    if has_openssl_development() {
        let target = target_dir()?;
        let mut build = crate::cargo(&["build", "--locked", "--quiet", "--manifest-path", SSM_BRIDGE, "--target-dir"]);
        build.arg(&target);
        step("build ssm-bridge", build)?;
    }
    for set in PYTHON_SETS {
        if !set.is_ready()? {
            install_python(set)?;
        }
    }
    for set in NODE_SETS {
        if !set.is_ready()? {
            install_node(set)?;
        }
    }
    let mut env = BTreeMap::new();
    let programs = [("vim", "E2E_VIM"), ("less", "E2E_LESS"), ("htop", "E2E_HTOP"), ("chromium", "E2E_CHROMIUM")];
    for (program, name) in programs {
        if let Some(path) = find(program) {
            env.insert(name, path);
        }
    }
    for program in ["ssh", "sftp", "scp", "sshd", "ssh-agent", "ssh-add", "ssh-keygen", "ssh-keyscan", "curl"] {
        if let Some(path) = find(program) {
            let name = match program {
                "ssh" => "E2E_SSH",
                "sftp" => "E2E_SFTP",
                "scp" => "E2E_SCP",
                "sshd" => "E2E_SSHD",
                "ssh-agent" => "E2E_SSH_AGENT",
                "ssh-add" => "E2E_SSH_ADD",
                "ssh-keygen" => "E2E_SSH_KEYGEN",
                "curl" => "E2E_CURL",
                _ => "E2E_SSH_KEYSCAN",
            };
            env.insert(name, path);
        }
    }
    if ssm_bridge_path()?.exists() {
        env.insert("E2E_SSM_BRIDGE", ssm_bridge_path()?);
    }
    if is_aws_2() {
        env.insert("E2E_AWS2", PathBuf::from(AWS_2));
    }
    if PYTHON.is_ready()? {
        env.insert("E2E_PYTHON", PYTHON.folder()?.join("bin/python"));
        env.insert("E2E_AWS", PYTHON.folder()?.join("bin/aws"));
        env.insert("E2E_MOTO", PYTHON.folder()?.join("bin/moto_server"));
    }
    if AZURE_CLI.is_ready()? {
        env.insert("E2E_AZ", AZURE_CLI.folder()?.join("bin/az"));
    }
    if NODE.is_ready()? {
        env.insert("E2E_NODE_MODULES", NODE.folder()?.join("node_modules"));
        env.insert("E2E_AZURITE", NODE.folder()?.join("node_modules/.bin/azurite-blob"));
    }
    if NODE_SSM.is_ready()? {
        env.insert("E2E_SSM_NODE_MODULES", NODE_SSM.folder()?.join("node_modules"));
    }
    if NODE_PLAYER.is_ready()? {
        let bundle = "node_modules/asciinema-player/dist/bundle";
        env.insert("E2E_ASCIINEMA_PLAYER", NODE_PLAYER.folder()?.join(bundle));
    }
    if let Some(path) = find("rsyslogd") {
        env.insert("E2E_RSYSLOGD", path);
    }
    if let Some(path) = find("openssl") {
        env.insert("E2E_OPENSSL", path);
    }
    if let Some(path) = rsyslog_tls() {
        env.insert("E2E_RSYSLOG_TLS", path);
    }
    Ok(env)
}

/// Whether Debian's aws CLI is here and of the second generation, as in all releases since 12.
fn is_aws_2() -> bool {
    Command::new(AWS_2).arg("--version").output().is_ok_and(|output| output.stdout.starts_with(b"aws-cli/2."))
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
    if find("c++").is_none() { install_packages(&[CXX]) } else { Ok(()) }
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> =
        SYSTEM.iter().filter(|(program, _)| find(program).is_none()).map(|(_, package)| *package).collect();
    if rsyslog_tls().is_none() {
        missing.push(RSYSLOG_TLS.1);
    }
    if !has_openssl_development() {
        missing.extend(OPENSSL_DEVELOPMENT);
    }
    if find("python3").is_some_and(|python| !makes_venvs(&python)) {
        missing.push("python3-venv");
    }
    // Only CI fuzzes as a part of the tests.
    if in_ci() && find("c++").is_none() {
        missing.push(CXX);
    }
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

impl Set {
    fn folder(&self) -> Result<PathBuf> {
        Ok(tools_dir()?.join(self.name))
    }

    fn is_ready(&self) -> Result<bool> {
        let noted = std::fs::read_to_string(self.folder()?.join("ready"));
        Ok(noted.is_ok_and(|text| self.note().is_ok_and(|note| note == text)))
    }

    fn note_ready(&self) -> Result<()> {
        std::fs::write(self.folder()?.join("ready"), self.note()?)
            .with_context(|| format!("cannot note that the packages of {} are there", self.name))
    }

    /// What is there, and where: programs of Python name the folder that they were installed into.
    fn note(&self) -> Result<String> {
        Ok(format!("{}\n{}", self.folder()?.display(), self.packages.join("\n")))
    }
}

fn install_python(set: &Set) -> Result<()> {
    let Some(python) = find("python3") else { return cannot("python3 is missing", set) };
    let venv = set.folder()?;
    std::fs::create_dir_all(tools_dir()?)?;
    let mut create = Command::new(&python);
    create.args(["-m", "venv", "--clear"]).arg(&venv).stdout(Stdio::null());
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(set.packages);
    let made = step("python3 -m venv", create);
    match made.and_then(|()| step(&format!("pip install {}", set.packages.join(" ")), pip)) {
        Ok(()) => set.note_ready(),
        Err(error) => cannot(&format!("{error:#}"), set),
    }
}

/// Whether the Python makes environments that can install: Debian keeps that in a package of its own.
fn makes_venvs(python: &Path) -> bool {
    let mut probe = Command::new(python);
    probe.args(["-c", "import ensurepip, venv"]).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn install_node(set: &Set) -> Result<()> {
    let Some(npm) = find("npm") else { return cannot("npm is missing", set) };
    let folder = set.folder()?;
    std::fs::create_dir_all(&folder)?;
    let mut install = Command::new(npm);
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]).arg(&folder);
    install.args(set.packages);
    match step(&format!("npm install {}", set.packages.join(" ")), install) {
        Ok(()) => set.note_ready(),
        Err(error) => cannot(&format!("{error:#}"), set),
    }
}

/// On a person's machine some tests are skipped then; CI has no such excuse.
fn cannot(why: &str, set: &Set) -> Result<()> {
    if in_ci() {
        bail!("{why}, so {} cannot be installed", set.packages.join(" "));
    }
    println!("skipped: tests that need {} ({why})", set.packages.join(" "));
    Ok(())
}

fn tools_dir() -> Result<PathBuf> {
    Ok(target_dir()?.join("test-tools"))
}

fn deny_path() -> Result<PathBuf> {
    Ok(tools_dir()?.join("bin/cargo-deny"))
}

fn ssm_bridge_path() -> Result<PathBuf> {
    Ok(target_dir()?.join("debug/ssm-bridge"))
}

/// Whether programs can be built against the system's OpenSSL.
fn has_openssl_development() -> bool {
    Command::new("pkg-config").args(["--exists", "openssl"]).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
}

/// Where rsyslog's module for TLS is: in the folder of the machine's architecture, or directly in the libraries'.
fn rsyslog_tls() -> Option<PathBuf> {
    let libraries = PathBuf::from("/usr/lib");
    let folders = std::fs::read_dir(&libraries).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    let folders = folders.chain(["/usr/lib64", "/usr/lib"].map(PathBuf::from));
    folders.map(|folder| folder.join(RSYSLOG_TLS.0)).find(|module| module.is_file())
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
