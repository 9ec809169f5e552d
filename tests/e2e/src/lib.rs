//! The harness of the end-to-end tests: it starts the real binary on free ports and runs real clients against it.
//!
//! Clients are found through the environment that `cargo xtask e2e` sets. A test whose client is missing says so and
//! is skipped on a person's machine; under `CI=true` it fails. Nothing here knows the product's code.

pub mod carry;

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long anything here may take before a test calls it stuck.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A client on this machine, or `None` after saying that the test is skipped.
///
/// # Panics
/// Under `CI=true`, where a missing client is a failure.
#[must_use]
pub fn client(variable: &str) -> Option<PathBuf> {
    let found = std::env::var_os(variable).map(PathBuf::from).filter(|path| path.exists());
    if found.is_none() {
        skip(&format!("{variable} names no program here; `cargo xtask e2e` installs what it can and sets it"));
    }
    found
}

/// Names the running test as skipped, for what this machine lacks.
///
/// # Panics
/// Under `CI=true`, where nothing may be lacking.
pub fn skip(why: &str) {
    assert!(std::env::var("CI").map_or(true, |v| v != "true"), "{why}");
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    eprintln!("SKIPPED {test}: {why}");
}

/// Leaves the test when a client is missing, see [`client`].
#[macro_export]
macro_rules! need {
    ($variable:literal) => {
        match $crate::client($variable) {
            Some(path) => path,
            None => return,
        }
    };
}

/// The binary under test.
#[must_use]
pub fn binary() -> PathBuf {
    std::env::var_os("RAVELIN_BIN")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/debug/ravelin"), PathBuf::from)
}

/// Tries until `probe` gives something, or calls it stuck.
///
/// # Panics
/// When [`PATIENCE`] is over.
pub fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "gave up waiting: {what}");
        pause();
    }
}

/// A short wait between two looks at another process; there is no event of it that could be awaited.
#[allow(clippy::disallowed_methods, reason = "another process gives no event to wait for")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// A wait for something of which nobody tells the end.
#[allow(clippy::disallowed_methods, reason = "another process gives no event to wait for")]
pub fn rest(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// A program at the other end, which ends with the test.
pub struct Peer(Child);

impl Peer {
    /// Starts it, and waits until it listens on this port of loopback.
    ///
    /// # Panics
    /// When it cannot be started, or does not listen in time.
    pub fn start(command: &mut Command, port: u16) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let peer = Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
        eventually("the peer listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free loopback port");
    listener.local_addr().expect("a bound address").port()
}

/// What a finished client said.
#[derive(Debug)]
pub struct Said {
    /// Exit status; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The output, after a look at the exit status.
    ///
    /// # Panics
    /// When the client failed.
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// The output as JSON, after a look at the exit status.
    ///
    /// # Panics
    /// When the client failed or printed something else.
    #[must_use]
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}"))
    }
}

/// Runs a client to its end with something on its standard input.
///
/// # Panics
/// When it cannot be started or does not end within [`PATIENCE`].
#[must_use]
pub fn run_with(command: &mut Command, input: &[u8]) -> Said {
    run_to_its_end(command, input, PATIENCE * 2)
}

/// Runs a client to its end without input, for those that take long by their nature.
///
/// # Panics
/// When it cannot be started or does not end within `patience`.
#[must_use]
pub fn run_within(command: &mut Command, patience: Duration) -> Said {
    run_to_its_end(command, b"", patience)
}

fn run_to_its_end(command: &mut Command, input: &[u8], patience: Duration) -> Said {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // A client may end without reading everything; its output decides then.
        let _broken_pipe = stdin.write_all(&input);
    });
    let guard = watchdog(&child, command, patience);
    let output = child.wait_with_output().expect("a client's output");
    guard.disarm();
    writer.join().expect("no panic while writing");
    Said::of(output)
}

/// Runs a client to its end without input.
///
/// # Panics
/// See [`run_with`].
#[must_use]
pub fn run(command: &mut Command) -> Said {
    run_with(command, b"")
}

struct Armed(Arc<Mutex<bool>>);

impl Armed {
    fn disarm(self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Ends a client that hangs, so that its test fails with what it said so far.
fn watchdog(child: &Child, command: &Command, patience: Duration) -> Armed {
    let pid = child.id();
    let armed = Arc::new(Mutex::new(true));
    let ours = Arc::clone(&armed);
    let name = format!("{command:?}");
    std::thread::spawn(move || {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            pause();
            if !*ours.lock().unwrap_or_else(PoisonError::into_inner) {
                return;
            }
        }
        eprintln!("stuck, ending it: {name}");
        kill(pid, "KILL");
    });
    Armed(armed)
}

/// Sends a signal.
///
/// # Panics
/// When there is no `kill` command.
pub fn kill(pid: u32, signal: &str) {
    let _gone = Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("kill is part of every system");
}

/// A running `ravelin dev`, or any other form of the server.
pub struct Server {
    child: Child,
    /// What it wrote to standard error so far.
    log: Arc<Mutex<String>>,
    /// Its state directory.
    pub dir: PathBuf,
    /// What `dev.env` says; empty for `serve`.
    pub env: BTreeMap<String, String>,
    _keep: Option<tempfile::TempDir>,
}

impl Server {
    /// `ravelin dev` on free ports with a fresh state directory.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn dev() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut server = Self::dev_in(dir.path());
        server._keep = Some(dir);
        server
    }

    /// `ravelin dev` on free ports with this state directory.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn dev_in(dir: &Path) -> Self {
        let mut command = Command::new(binary());
        command.args(["dev", "--ssh", "127.0.0.1:0", "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state-dir"]);
        command.arg(dir);
        let env_file = dir.join("dev.env");
        // A file of an earlier life must not be taken for this one's.
        let _absent = std::fs::remove_file(&env_file);
        let mut server = Self::start(&mut command, dir);
        let text = eventually("dev.env is written", || {
            server.must_live();
            std::fs::read_to_string(&env_file).ok().filter(|text| text.contains("RAVELIN_URL"))
        });
        server.env = parse_env(&text);
        server
    }

    /// `ravelin serve` with this configuration file; returns when `/readyz` on `http` answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn serve(config: &Path, dir: &Path, http: SocketAddr) -> Self {
        Self::serve_by(Command::new(binary()).args(["serve", "-c"]).arg(config), dir, http)
    }

    /// The same by a command that leads to `ravelin serve` in the same process.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn serve_by(command: &mut Command, dir: &Path, http: SocketAddr) -> Self {
        let mut server = Self::start(command, dir);
        eventually("the server is ready", || {
            server.must_live();
            http_get(http, "/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200"))
        });
        server
    }

    fn start(command: &mut Command, dir: &Path) -> Self {
        command.env_remove("RAVELIN_URL").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let log = Arc::new(Mutex::new(String::new()));
        for pipe in [
            child.stdout.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
            child.stderr.take().map(|p| Box::new(p) as Box<dyn Read + Send>),
        ] {
            let pipe = pipe.expect("both are piped");
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    log.push_str(&line);
                    log.push('\n');
                }
            });
        }
        Server { child, log, dir: dir.to_owned(), env: BTreeMap::new(), _keep: None }
    }

    fn must_live(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("the server ended with {status}: {}", self.log());
        }
    }

    /// What it printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One variable of `dev.env`.
    ///
    /// # Panics
    /// When it is not there.
    #[must_use]
    pub fn var(&self, name: &str) -> &str {
        self.env.get(name).unwrap_or_else(|| panic!("dev.env has no {name}: {:?}", self.env.keys()))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub fn kill_dash_nine(mut self) -> Option<tempfile::TempDir> {
        self.child.kill().expect("the server runs");
        self.child.wait().expect("the server's end");
        self._keep.take()
    }

    /// Asks it to stop and waits for the exit status.
    ///
    /// # Panics
    /// When it does not stop.
    pub fn stop(&mut self) -> i32 {
        kill(self.child.id(), "TERM");
        let status = eventually("the server stops", || self.child.try_wait().expect("a child of ours"));
        status.code().unwrap_or(-1)
    }

    /// A command with the variables of `dev.env` set.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.envs(&self.env).env("NO_COLOR", "1").env("HOME", &self.dir).env("AWS_PAGER", "");
        command.env_remove("SSH_AUTH_SOCK").env_remove("AWS_PROFILE");
        command
    }

    /// `ravelin …` as a client of this server.
    #[must_use]
    pub fn ravelin(&self, args: &[&str]) -> Said {
        run(self.command(binary()).args(args))
    }

    /// `ssh` with the development key, without a destination yet.
    #[must_use]
    pub fn ssh(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = self.command(program);
        command.args(self.ssh_options()).args(["-p", self.var("RAVELIN_SSH_PORT")]).args(args);
        command
    }

    /// The options that make any OpenSSH client take the development key and host keys, and nothing of the machine's.
    #[must_use]
    pub fn ssh_options(&self) -> Vec<String> {
        let known = format!("UserKnownHostsFile={}", self.var("RAVELIN_SSH_KNOWN_HOSTS"));
        let options = ["-F", "none", "-i", self.var("RAVELIN_SSH_KEY"), "-o", &known];
        let fixed = ["-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"];
        options.into_iter().chain(fixed).map(str::to_owned).collect()
    }

    /// `user:target@host` for the development target.
    #[must_use]
    pub fn destination(&self) -> String {
        let [user, target, host] = ["RAVELIN_SSH_USER", "RAVELIN_TARGET", "RAVELIN_SSH_HOST"].map(|v| self.var(v));
        format!("{user}:{target}@{host}")
    }

    /// A live session over ssh that goes on until somebody ends it, with its id.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn session_by_ssh(&self, ssh: &Path) -> (Running, String) {
        let mut session = Running::start(&mut self.ssh(ssh, &["-tt", &self.destination(), "echo up; sleep 600"]));
        session.expect("up");
        let id = self.one_live("connected")["id"].as_str().expect("an id").to_owned();
        (session, id)
    }

    /// The live sessions as our own command line lists them.
    #[must_use]
    pub fn live(&self) -> Vec<Value> {
        items(&self.ravelin(&["sessions", "ls", "-o", "json"]).json())
    }

    /// The ended sessions as our own command line lists them.
    #[must_use]
    pub fn history(&self) -> Vec<Value> {
        items(&self.ravelin(&["sessions", "history", "-o", "json"]).json())
    }

    /// One live session of this state, waited for.
    #[must_use]
    pub fn one_live(&self, state: &str) -> Value {
        eventually("a live session", || self.live().into_iter().find(|s| s["state"] == state))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            kill(self.child.id(), "TERM");
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(5) && self.child.try_wait().ok().flatten().is_none() {
                pause();
            }
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}\n---", self.log());
        }
    }
}

/// The items of a list, whether the output is the list itself or an object around it.
#[must_use]
pub fn items(value: &Value) -> Vec<Value> {
    value.as_array().or_else(|| value["items"].as_array()).cloned().unwrap_or_else(|| panic!("no list: {value}"))
}

/// Shell `export` lines as a map.
#[must_use]
pub fn parse_env(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("export "))
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| {
            let bare = value.trim().trim_matches(|c| c == '\'' || c == '"');
            (name.trim().to_owned(), bare.to_owned())
        })
        .collect()
}

/// A client that goes on running, with what it printed so far at hand.
pub struct Running {
    child: Child,
    stdin: Option<std::process::ChildStdin>,
    out: Arc<Mutex<String>>,
}

impl Running {
    /// Starts it with both outputs collected together.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdin = child.stdin.take();
        let out = Arc::new(Mutex::new(String::new()));
        let pipes: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("stdout is piped")),
            Box::new(child.stderr.take().expect("stderr is piped")),
        ];
        for mut pipe in pipes {
            let out = Arc::clone(&out);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n) = pipe.read(&mut buffer) {
                    if n == 0 {
                        return;
                    }
                    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    out.lock().unwrap_or_else(PoisonError::into_inner).push_str(&text);
                }
            });
        }
        Running { child, stdin, out }
    }

    /// Types something.
    ///
    /// # Panics
    /// When the client takes no input any more.
    pub fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("input is open");
        stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush()).expect("the client reads");
    }

    /// Ends its input.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    /// What it printed so far.
    #[must_use]
    pub fn printed(&self) -> String {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it printed `text`.
    ///
    /// # Panics
    /// When it does not.
    pub fn expect(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.printed().contains(text) {
            assert!(begun.elapsed() < PATIENCE, "waited for {text:?}, got: {}", self.printed());
            pause();
        }
    }

    /// Waits for its end; the exit status, -1 for a signal.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> i32 {
        let printed = Arc::clone(&self.out);
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child of ours") {
                // The reading threads may be a moment behind.
                pause();
                return status.code().unwrap_or(-1);
            }
            let so_far = printed.lock().unwrap_or_else(PoisonError::into_inner).clone();
            assert!(begun.elapsed() < PATIENCE, "it does not end; it printed: {so_far}");
            pause();
        }
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// When the system cannot tell.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child of ours").is_some()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a chance to clean up.
    pub fn kill_dash_nine(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill_dash_nine();
    }
}

/// One plain HTTP GET; the whole answer, or `None` when nobody listens.
#[must_use]
pub fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    http(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))
}

/// One plain HTTP exchange as written.
#[must_use]
pub fn http(address: SocketAddr, request: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

/// A real sshd on a free port, which knows one key for the current user.
pub struct Sshd {
    child: Child,
    /// Its port on loopback.
    pub port: u16,
    /// Its public host key, one line.
    pub host_key: String,
    /// A private key that it lets in.
    pub user_key: PathBuf,
    /// The current user's name.
    pub user: String,
    _dir: tempfile::TempDir,
}

impl Sshd {
    /// Starts it.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(sshd: &Path, ssh_keygen: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        for name in ["host_key", "user_key"] {
            let mut keygen = Command::new(ssh_keygen);
            let _made = run(keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path(name))).ok();
        }
        std::fs::copy(path("user_key.pub"), path("authorized_keys")).expect("a copy");
        let port = free_port();
        let config = format!(
            "ListenAddress 127.0.0.1\nPort {port}\nHostKey {host}\nAuthorizedKeysFile {keys}\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nSubsystem sftp internal-sftp\nMaxStartups 200\nMaxSessions 100\nAcceptEnv E2E_*\n\
             AllowAgentForwarding yes\nAllowTcpForwarding yes\n",
            host = path("host_key").display(),
            keys = path("authorized_keys").display(),
        );
        std::fs::write(path("sshd_config"), config).expect("a configuration file");
        if std::fs::create_dir_all("/run/sshd").is_err() {
            eprintln!("/run/sshd cannot be made; sshd needs it only when it is started by root");
        }
        let mut command = Command::new(sshd);
        command.arg("-D").arg("-e").arg("-f").arg(path("sshd_config"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("sshd starts");
        eventually("sshd listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        let line = std::fs::read_to_string(path("host_key.pub")).expect("the public half");
        let host_key = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let user = run(Command::new("id").arg("-un")).ok().trim().to_owned();
        Sshd { child, port, host_key, user_key: path("user_key"), user, _dir: dir }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
