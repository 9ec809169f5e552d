//! The servers of a run: a target sshd, a jump sshd, a two-hop sshd, and Ravelin before the same target.

use anyhow::{Context, Result, bail};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The cipher of every hop, pinned on both legs of both sides.
pub(crate) const CIPHER: &str = "aes256-gcm@openssh.com";

/// The tenant and the subscription of the Azure dialect.
pub(crate) const ZERO: &str = "00000000-0000-0000-0000-000000000000";

/// A child process that ends with its owner.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Everything that the comparisons with OpenSSH need.
pub(crate) struct Peers {
    pub(crate) target: Server,
    pub(crate) jump: Server,
    pub(crate) two_hop: Server,
    pub(crate) ravelin: Ravelin,
    pub(crate) dir: tempfile::TempDir,
}

/// A running `ravelin serve` in front of one target, with an operator's proofs.
pub(crate) struct Ravelin {
    pub(crate) server: Server,
    pub(crate) http: String,
    pub(crate) token: String,
    pub(crate) aws: (String, String),
    pub(crate) azure: (String, String),
}

pub(crate) fn tool(variable: &str) -> Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set; run `cargo xtask bench`"))
}

pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

pub(crate) fn key(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    let status = Command::new(tool("E2E_SSH_KEYGEN")?)
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"])
        .arg(&path)
        .status()?;
    if !status.success() {
        bail!("ssh-keygen failed");
    }
    Ok(path)
}

pub(crate) fn public(path: &Path) -> Result<String> {
    let line = std::fs::read_to_string(path.with_extension("pub"))?;
    Ok(line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
}

pub(crate) fn until_it_listens(port: u16) -> Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("nothing listens on port {port}");
        }
        wait(20);
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "the benchmark's own thread waits for another process")]
pub(crate) fn wait(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

impl Peers {
    pub(crate) fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = dir.path();
        key(path, "user")?;
        key(path, "host")?;
        std::fs::copy(path.join("user.pub"), path.join("authorized_keys"))?;
        std::fs::create_dir_all("/run/sshd").context("sshd started by root wants /run/sshd")?;
        let target = sshd(path, "target", "")?;
        let jump = sshd(path, "jump", "")?;
        let inner = format!(
            "{ssh} -F none -i {key} -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR \
             -o KexAlgorithms=curve25519-sha256 -c {CIPHER} -p {port} 127.0.0.1 \"$SSH_ORIGINAL_COMMAND\"",
            ssh = tool("E2E_SSH")?.display(),
            key = path.join("user").display(),
            port = target.port,
        );
        let script = path.join("two-hop.sh");
        std::fs::write(&script, format!("exec {inner}\n"))?;
        let two_hop = sshd(path, "two_hop", &format!("ForceCommand /bin/sh {}\n", script.display()))?;
        let ravelin = Ravelin::start(path, target.port, &public(&path.join("host"))?, &login()?, &path.join("user"))?;
        Ok(Peers { target, jump, two_hop, ravelin, dir })
    }

    /// One more Ravelin before the same target, in a folder of its own, that records this much of each session.
    pub(crate) fn recording(&self, mode: &str) -> Result<Ravelin> {
        let (path, dir) = (self.dir.path(), self.dir.path().join(format!("recording-{mode}")));
        std::fs::create_dir(&dir)?;
        let host_key = public(&path.join("host"))?;
        Ravelin::start_recording(&dir, self.target.port, &host_key, &login()?, &path.join("user"), mode)
    }

    /// `ssh` with everything pinned, to this port, without a destination.
    pub(crate) fn ssh(&self, port: u16) -> Result<Command> {
        let mut command = Command::new(tool("E2E_SSH")?);
        command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-i"]);
        command.arg(self.dir.path().join("user"));
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "KexAlgorithms=curve25519-sha256", "-c", CIPHER, "-p", &port.to_string()]);
        command.env_remove("SSH_AUTH_SOCK").stderr(Stdio::inherit());
        Ok(command)
    }
}

/// The user that we are.
fn login() -> Result<String> {
    Ok(String::from_utf8(Command::new("id").arg("-un").output()?.stdout)?.trim().to_owned())
}

fn sshd(dir: &Path, name: &str, extra: &str) -> Result<Server> {
    let port = free_port()?;
    let config = dir.join(format!("{name}.conf"));
    std::fs::write(
        &config,
        format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {keys}\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nMaxStartups 500\nMaxSessions 500\nLogLevel ERROR\n{extra}",
            host = dir.join("host").display(),
            keys = dir.join("authorized_keys").display(),
        ),
    )?;
    let mut command = Command::new(tool("E2E_SSHD")?);
    command.args(["-D", "-e", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let server = Server { child: command.spawn().context("sshd")?, port };
    until_it_listens(port)?;
    Ok(server)
}

impl Ravelin {
    /// Serves `web-1` at this port with this host key, for the person `alice` with the key `user`.
    pub(crate) fn start(dir: &Path, target: u16, host_key: &str, login: &str, user: &Path) -> Result<Self> {
        Self::start_recording(dir, target, host_key, login, user, "none")
    }

    /// The same, with this much of each session recorded.
    pub(crate) fn start_recording(
        dir: &Path,
        target: u16,
        host_key: &str,
        login: &str,
        user: &Path,
        mode: &str,
    ) -> Result<Self> {
        let (ssh, http) = (free_port()?, free_port()?);
        let config = dir.join("ravelin.toml");
        std::fs::write(
            &config,
            format!(
                r#"
[node]
state_dir = "{state}"
[listen]
ssh = "127.0.0.1:{ssh}"
http = "127.0.0.1:{http}"
[limits]
sessions = 12000
sessions_per_principal = 12000
[recordings]
mode = "{mode}"
[azure]
tenant = "{ZERO}"
subscription = "{ZERO}"
resource_group = "ravelin"
bastion_name = "ravelin"
[[principal]]
name = "alice"
groups = ["operators", "web"]
ssh_keys = ["{key}"]
[[target]]
name = "web-1"
address = "127.0.0.1"
port = {target}
protocol = "ssh"
host_keys = ["{host_key}"]
shared_with = ["web"]
logins = [{{ name = "{login}", key_file = "{user}" }}]
"#,
                state = dir.join("state").display(),
                key = public(user)?,
                user = user.display(),
            ),
        )?;
        let binary = tool("RAVELIN_BIN")?;
        // It prints lines of the form NAME=value: one for a token, two for the others.
        let proof = |kind: &str| -> Result<Vec<String>> {
            let output = Command::new(&binary)
                .args(["credentials", "bootstrap", "--principal", "alice", "--kind", kind, "-c"])
                .arg(&config)
                .output()?;
            if !output.status.success() {
                bail!("credentials bootstrap: {}", String::from_utf8_lossy(&output.stderr));
            }
            let text = String::from_utf8(output.stdout)?;
            Ok(text.lines().filter_map(|line| line.split_once('=')).map(|(_, value)| value.to_owned()).collect())
        };
        let pair = |kind: &str| -> Result<(String, String)> {
            <[String; 2]>::try_from(proof(kind)?).map(|[id, secret]| (id, secret)).ok().context("an id and a secret")
        };
        let token = proof("token")?.pop().context("a token")?;
        let (aws, azure) = (pair("aws")?, pair("azure")?);
        let mut command = Command::new(&binary);
        command.args(["serve", "--log", "warn", "-c"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null());
        let server = Server { child: command.spawn().context("ravelin")?, port: ssh };
        until_it_listens(ssh)?;
        until_it_listens(http)?;
        Ok(Ravelin { server, http: format!("http://127.0.0.1:{http}"), token, aws, azure })
    }
}

/// User and system CPU seconds of a process and of its children that were waited for.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after_name = stat.rsplit_once(')').context("a stat line")?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // Fields 14 to 17 of proc(5), counted from the state, which is the third.
    let ticks: f64 = fields[11..15].iter().filter_map(|f| f.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// Private resident memory in KiB.
pub(crate) fn private_kib(pid: u32) -> Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let sum = rollup
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum();
    Ok(sum)
}
