//! The target against the client people have: OpenSSH's `ssh`, `sftp`, `scp` and `ssh-agent`.
//!
//! Where a program is missing the test says so and passes, except under `CI=true`, where it fails.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use ravelin_demo::{Demo, DemoConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

/// Nothing here takes longer, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running target with a client's folder: keys, configuration and a place for files.
struct Bench {
    demo: Demo,
    folder: TempDir,
    home: TempDir,
}

impl Bench {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the client");
        let home = tempfile::tempdir().expect("a folder for the target");
        for key in ["id", "stranger", "host"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(folder.path().join(key))
                .status()
                .await
                .expect("ssh-keygen runs");
            assert!(made.success());
        }
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).expect("ssh-keygen wrote it");
        let demo = ravelin_demo::start(DemoConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            host_key_pem: read("host").into(),
            authorized_keys: vec![read("id.pub")],
            home: Some(home.path().to_owned()),
        })
        .await
        .expect("the target starts");

        let at = folder.path().display();
        let port = demo.address().port();
        let known = read("host.pub");
        fs::write(folder.path().join("known_hosts"), format!("[127.0.0.1]:{port} {known}")).expect("writable");
        let config = format!(
            "Host demo\n HostName 127.0.0.1\n Port {port}\n User anybody\n IdentityFile {at}/id\n IdentitiesOnly yes\n \
             IdentityAgent none\n UserKnownHostsFile {at}/known_hosts\n StrictHostKeyChecking yes\n BatchMode yes\n"
        );
        fs::write(folder.path().join("config"), config).expect("writable");
        Self { demo, folder, home }
    }

    /// A client's program with its configuration.
    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.arg("-F").arg(self.folder.path().join("config")).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    fn ssh<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Command {
        let mut command = self.client("ssh");
        command.args(arguments);
        command
    }

    fn here(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn there(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

/// Starts a bench, or returns from the test when the programs it needs are not installed.
macro_rules! bench_or_skip {
    ($($program:literal),*) => {{
        for program in ["ssh", "ssh-keygen", $($program),*] {
            if !is_installed(program) {
                assert!(std::env::var_os("CI").is_none(), "{program} is not installed");
                println!("skipped: {program} is not installed");
                return;
            }
        }
        Bench::start().await
    }};
}

fn is_installed(program: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|at| at.join(program).is_file()))
}

async fn output(command: &mut Command) -> Output {
    timeout(PATIENCE, command.output()).await.expect("the client ends in time").expect("the client runs")
}

/// Runs a client which gets this on its standard input.
async fn output_of_input(command: &mut Command, input: Vec<u8>) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the client runs");
    let mut stdin = child.stdin.take().expect("piped");
    let writing = tokio::spawn(async move {
        // A program which does not read to the end breaks the pipe.
        let _broken = stdin.write_all(&input).await;
    });
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("the client ends in time").expect("ended");
    writing.await.expect("written");
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Bytes without a pattern that a lost or doubled block would keep.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = vec![0; length];
    for word in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        word.copy_from_slice(&state.to_le_bytes()[..word.len()]);
    }
    bytes
}

/// Waits for something another process does.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Whether a process with this argument runs, zombies excepted.
fn runs(argument: &str) -> bool {
    fs::read_dir("/proc").expect("/proc is there").flatten().any(|entry| {
        fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|word| word == argument.as_bytes()))
    })
}

/// A number of seconds nobody else sleeps.
fn unique_sleep() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}.{}", 40_000 + std::process::id() % 10_000, 1_000 + NEXT.fetch_add(1, Ordering::Relaxed))
}

/// `ssh` on a terminal of its own, as a person has it.
struct Screen {
    pty: pty_process::Pty,
    child: tokio::process::Child,
    seen: String,
}

impl Screen {
    fn open(bench: &Bench, rows: u16, columns: u16, arguments: &[&str]) -> Self {
        let (pty, pts) = pty_process::open().expect("a terminal");
        pty.resize(pty_process::Size::new(rows, columns)).expect("resizable");
        let mut command = Command::new("ssh");
        command.arg("-F").arg(bench.here("config")).args(arguments).kill_on_drop(true).env("TERM", "xterm-test");
        let child = pty_process::Command::from(command).spawn(pts).expect("ssh runs");
        Self { pty, child, seen: String::new() }
    }

    async fn types(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).await.expect("the terminal takes keys");
    }

    /// Reads to the end, as the client waits for its last words to be seen, and returns its status.
    async fn ends(mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        let mut chunk = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.pty.read(&mut chunk)).await {
                Ok(Ok(read @ 1..)) => self.seen.push_str(&text(&chunk[..read])),
                Ok(_) => break,
                Err(_) => panic!("did not end but showed {:?}", self.seen),
            }
        }
        timeout(PATIENCE, self.child.wait()).await.expect("the client ends in time").expect("ended").code()
    }

    /// Reads until this is on the screen, and forgets everything up to it.
    async fn shows(&mut self, wanted: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut chunk = [0; 4096];
        loop {
            if let Some(at) = self.seen.find(wanted) {
                self.seen.drain(..at + wanted.len());
                return;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let read = timeout(left, self.pty.read(&mut chunk)).await;
            match read {
                Ok(Ok(read @ 1..)) => self.seen.push_str(&text(&chunk[..read])),
                end => panic!("never showed {wanted:?} ({end:?}) but {:?}", self.seen),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_tells_its_status_and_keeps_its_outputs_apart() {
    let bench = bench_or_skip!();
    let ran = output(&mut bench.ssh(["demo", "echo out; echo err >&2; exit 7"])).await;
    assert_eq!((text(&ran.stdout), ran.status.code()), ("out\n".to_owned(), Some(7)));
    assert_eq!(text(&ran.stderr), "err\n");

    let ran =
        output(&mut bench.ssh(["demo", "pwd; echo $HOME; echo $SSH_CONNECTION | wc -w; test -t 0 || echo pipe"])).await;
    let home = bench.home.path().display().to_string();
    assert_eq!(text(&ran.stdout), format!("{home}\n{home}\n4\npipe\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_closes_its_outputs_first_still_tells_its_status() {
    let bench = bench_or_skip!();
    let socket = bench.here("master").display().to_string();
    let mut master = bench.ssh(["-M", "-S", &socket, "-N", "demo"]).spawn().expect("the master runs");
    eventually("the master listens", || bench.here("master").exists()).await;
    for through in [socket.as_str(), "none"] {
        let mut ssh = bench.ssh(["-S", through, "demo", "cat; exec >&- 2>&-; sleep 1; exit 3"]);
        let ran = output_of_input(&mut ssh, b"done".to_vec()).await;
        assert_eq!(ran.status.code(), Some(3), "{through}: {}", text(&ran.stderr));
        assert_eq!(text(&ran.stdout), "done", "{through}");
    }
    master.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_by_signal_is_told_as_such() {
    let bench = bench_or_skip!();
    let ran = output(&mut bench.ssh(["-v", "demo", "kill -TERM $$"])).await;
    assert_eq!(ran.status.code(), Some(255));
    assert!(text(&ran.stderr).contains("rtype exit-signal"), "{}", text(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_algorithms_are_the_best_both_know() {
    let bench = bench_or_skip!();
    let ran = output(&mut bench.ssh(["-vv", "-c", "aes256-gcm@openssh.com", "demo", "true"])).await;
    let log = text(&ran.stderr);
    assert!(ran.status.success(), "{log}");
    // Since 9.9 OpenSSH knows ML-KEM.
    assert!(
        log.contains("kex: algorithm: mlkem768x25519-sha256") || log.contains("kex: algorithm: curve25519"),
        "{log}"
    );
    let offers = log.split("peer server KEXINIT proposal").nth(1).expect("the server's offers");
    assert!(offers.contains("KEX algorithms: mlkem768x25519-sha256,"), "{offers}");
    assert!(offers.contains("ciphers stoc: aes256-gcm@openssh.com,"), "{offers}");
    assert!(offers.contains("kex-strict-s-v00@openssh.com"), "{offers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_no_key_stays_outside() {
    let bench = bench_or_skip!();
    let stranger = format!("IdentityFile={}", bench.here("stranger").display());
    let config = fs::read_to_string(bench.here("config")).expect("readable").replace("/id\n", "/stranger\n");
    fs::write(bench.here("config"), config).expect("writable");
    let ran = output(&mut bench.ssh(["-o", &stranger, "demo", "echo inside"])).await;
    assert_eq!((text(&ran.stdout), ran.status.code()), (String::new(), Some(255)));
    assert!(text(&ran.stderr).contains("Permission denied (publickey)"), "{}", text(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn input_ends_where_the_client_ends_it() {
    let bench = bench_or_skip!();
    let ran = output_of_input(&mut bench.ssh(["demo", "wc -c; echo after"]), noise(3_000_001)).await;
    assert_eq!(text(&ran.stdout).split_whitespace().collect::<Vec<_>>(), ["3000001", "after"]);

    let sent = noise(20_000_003);
    let ran = output_of_input(&mut bench.ssh(["demo", "cat"]), sent.clone()).await;
    assert!(ran.stdout == sent, "{} of {} bytes came back", ran.stdout.len(), sent.len());
    assert!(ran.status.success());

    // A program which does not read is not waited for.
    let ran = output_of_input(&mut bench.ssh(["demo", "exit 3"]), noise(8_000_000)).await;
    assert_eq!(ran.status.code(), Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_neither_deadlocks_nor_loses_bytes() {
    let bench = bench_or_skip!();
    // Both directions fill up: nobody reads what `cat` writes until long after everything could have been sent.
    let config = bench.here("config").display().to_string();
    let line = format!("head -c 60000000 /dev/zero | ssh -F {config} demo cat | (sleep 2; wc -c)");
    let ran = output(Command::new("sh").args(["-c", &line])).await;
    assert_eq!(text(&ran.stdout).trim(), "60000000", "{}", text(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_share_a_connection_and_none_stops_the_others() {
    let bench = bench_or_skip!();
    let socket = bench.here("master").display().to_string();
    let mut master = bench.ssh(["-M", "-S", &socket, "-N", "demo"]).spawn().expect("the master runs");
    eventually("the master listens", || bench.here("master").exists()).await;

    // This one reads nothing until the file is there, though it is sent more than any window or queue holds.
    let mut stalled = bench.ssh(["-S", &socket, "demo", "while ! test -e go; do sleep 0.1; done; wc -c"]);
    let stalled = output_of_input(&mut stalled, noise(50_000_000));
    let others = async {
        let each = (0..60).map(|number: u32| {
            let command = format!("cat; echo {number}; exit {}", number % 50);
            let mut ssh = bench.ssh(["-S", &socket, "demo", &command]);
            async move {
                let ran = output_of_input(&mut ssh, noise(200_000)).await;
                (number, ran)
            }
        });
        let started = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for one in each {
            running.spawn(one);
        }
        while let Some(done) = running.join_next().await {
            let (number, ran) = done.expect("no panic");
            let mut wanted = noise(200_000);
            wanted.extend_from_slice(format!("{number}\n").as_bytes());
            assert!(ran.stdout == wanted, "{number}: {} bytes: {}", ran.stdout.len(), text(&ran.stderr));
            let code = Some(i32::try_from(number % 50).expect("small"));
            assert_eq!(ran.status.code(), code, "{number}: {}", text(&ran.stderr));
        }
        println!("60 channels beside a stalled one took {:?}", started.elapsed());
        fs::write(bench.there("go"), "").expect("writable");
    };
    let (stalled, ()) = tokio::join!(stalled, others);
    assert_eq!(text(&stalled.stdout).trim(), "50000000");
    master.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_on_a_terminal_runs_as_typed() {
    let bench = bench_or_skip!();
    let script = "stty size; tty; echo \"term=$TERM shell=$0\"\nexit 5\n";
    let ran = output_of_input(bench.ssh(["-tt", "demo"]).env("TERM", "xterm-script"), script.into()).await;
    let screen = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(5), "{screen}");
    assert!(screen.contains("24 80\r\n"), "{screen}");
    assert!(screen.contains("/dev/pts/"), "{screen}");
    assert!(screen.contains("term=xterm-script shell=-"), "a login shell: {screen}");

    let ran = output(&mut bench.ssh(["-tt", "demo", "test -t 0 && test -t 1 && echo $SSH_TTY && exit 9"])).await;
    assert_eq!(ran.status.code(), Some(9));
    assert!(text(&ran.stdout).starts_with("/dev/pts/"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_at_a_terminal_has_size_echo_and_job_control() {
    let bench = bench_or_skip!();
    let mut screen = Screen::open(&bench, 41, 133, &["demo", "exec sh -i"]);
    // Without a shell's own terminal a command gets one only when asked.
    screen.shows("can't access tty").await;
    drop(screen);

    let mut screen = Screen::open(&bench, 41, 133, &["-t", "demo", "PS1='ready> ' exec sh -i"]);
    screen.shows("ready> ").await;
    screen.types("stty size\r").await;
    screen.shows("stty size").await;
    screen.shows("41 133").await;
    screen.pty.resize(pty_process::Size::new(17, 71)).expect("resizable");
    // The client tells the new size in its own time; ask until it is there.
    screen.types("until test \"$(stty size)\" = '17 71'; do sleep 0.05; done; echo re''sized\r").await;
    screen.shows("resized").await;

    let pause = unique_sleep();
    screen.types(&format!("sleep {pause}\r")).await;
    eventually("the program runs", || runs(&pause)).await;
    screen.types("\x03").await;
    screen.types("echo status=$?\r").await;
    screen.shows("status=130").await;
    eventually("the program is gone", || !runs(&pause)).await;

    screen.types(&format!("sleep {pause}\r")).await;
    eventually("the program runs again", || runs(&pause)).await;
    screen.types("\x1a").await;
    screen.shows("Stopped").await;
    // Some shells want to hear it twice after a stopped job.
    screen.types("kill -KILL %1; wait %1; exit 4\rexit 4\r").await;
    assert_eq!(screen.ends().await, Some(4));
}

/// A server which a script put into the background inherits ignored SIGINT and SIGQUIT. The state belongs to a whole
/// process, so that the test starts itself again in one which has it.
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_works_though_the_server_ignores_it() {
    const INNER: &str = "RAVELIN_TEST_INNER";
    if std::env::var_os(INNER).is_none() {
        let this = std::env::current_exe().expect("a test has a program");
        let name = "ctrl_c_works_though_the_server_ignores_it";
        let ran = output(
            Command::new("sh")
                .args(["-c", "trap '' INT QUIT HUP TERM; exec \"$0\" --exact \"$1\" --nocapture"])
                .arg(this)
                .arg(name)
                .env(INNER, "yes"),
        )
        .await;
        assert!(ran.status.success(), "{}{}", text(&ran.stdout), text(&ran.stderr));
        return;
    }
    let bench = bench_or_skip!();
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let ran = output(&mut bench.ssh(["demo", "grep SigIgn /proc/self/status; grep SigBlk /proc/self/status"])).await;
    let signals = text(&ran.stdout);
    // Above 31 are the C library's own.
    let masks = signals.lines().filter_map(|line| u64::from_str_radix(line.split_whitespace().nth(1)?, 16).ok());
    let masks: Vec<_> = masks.map(|mask| mask & 0x7fff_ffff).collect();
    assert_eq!(masks, [0, 0], "server: {status} program: {signals}");

    let pause = unique_sleep();
    let mut screen = Screen::open(&bench, 24, 80, &["-t", "demo", &format!("sleep {pause}")]);
    eventually("the program runs", || runs(&pause)).await;
    screen.types("\x03").await;
    eventually("the program is gone", || !runs(&pause)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_takes_its_programs_along() {
    let bench = bench_or_skip!();
    let (plain, nested, on_terminal) = (unique_sleep(), unique_sleep(), unique_sleep());
    let mut clients = [
        bench.ssh(["demo", &format!("exec sleep {plain}")]),
        bench.ssh(["demo", &format!("nohup sh -c 'sleep {nested}; true' & wait")]),
        bench.ssh(["-tt", "demo", &format!("trap '' HUP; sleep {on_terminal}; true")]),
    ]
    .map(|mut ssh| ssh.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ssh runs"));
    for argument in [&plain, &nested, &on_terminal] {
        eventually("the program runs", || runs(argument)).await;
    }
    for client in &mut clients {
        client.kill().await.expect("killed");
    }
    for argument in [&plain, &nested, &on_terminal] {
        eventually("the program is gone", || !runs(argument)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outlives_the_server() {
    let bench = bench_or_skip!();
    let (left, kept, on_terminal) = (unique_sleep(), unique_sleep(), unique_sleep());
    // As with any sshd, what is put aside survives its channel.
    let put_aside = format!("setsid nohup sleep {left} >/dev/null 2>&1 </dev/null &");
    assert!(output(&mut bench.ssh(["demo", &put_aside])).await.status.success());
    let mut clients = [
        bench.ssh(["demo", &format!("sleep {kept}")]),
        bench.ssh(["-tt", "demo", &format!("nohup sleep {on_terminal} & wait")]),
    ]
    .map(|mut ssh| ssh.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ssh runs"));
    for argument in [&left, &kept, &on_terminal] {
        eventually("the program runs", || runs(argument)).await;
    }
    let Bench { demo, folder: _folder, home: _home } = bench;
    let address = demo.address();
    timeout(PATIENCE, demo.stop()).await.expect("stops in time");
    for argument in [&left, &kept, &on_terminal] {
        assert!(!runs(argument), "{argument} outlived the server");
    }
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
    for client in &mut clients {
        timeout(PATIENCE, client.wait()).await.expect("the client notices").expect("ended");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_server_stops_it_too() {
    let bench = bench_or_skip!();
    let kept = unique_sleep();
    let mut client = bench.ssh(["demo", &format!("sleep {kept}")]).spawn().expect("ssh runs");
    eventually("the program runs", || runs(&kept)).await;
    drop(bench.demo);
    eventually("the program is gone", || !runs(&kept)).await;
    timeout(PATIENCE, client.wait()).await.expect("the client notices").expect("ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_does_what_is_asked() {
    let bench = bench_or_skip!("sftp");
    let content = noise(3_333_333);
    fs::write(bench.here("file"), &content).expect("writable");
    fs::set_permissions(bench.here("file"), fs::Permissions::from_mode(0o640)).expect("ours");
    fs::write(bench.there("part"), &content[..1_000_000]).expect("writable");
    let here = bench.folder.path().display();
    let batch = format!(
        "pwd\nmkdir sub\nput -p {here}/file sub/one\nrename sub/one sub/two\nsymlink two sub/link\nln sub/two sub/three\n\
         ls -la sub\nchmod 600 sub/three\nget -p sub/link {here}/back\ndf sub\nrm sub/three\n\
         -rmdir sub\n-get nothing {here}/nothing\nreput {here}/file part\n"
    );
    fs::write(bench.here("batch"), batch).expect("writable");
    let mut sftp = bench.client("sftp");
    let ran = output(sftp.arg("-b").arg(bench.here("batch")).arg("demo")).await;
    let said = text(&ran.stdout);
    assert!(ran.status.success(), "{said}{}", text(&ran.stderr));
    assert!(said.contains(&format!("Remote working directory: {}", bench.home.path().display())), "{said}");
    assert!(said.contains("link -> ") || said.contains(" link") || said.contains("sub/link"), "{said}");
    assert!(fs::read(bench.there("sub/two")).expect("put") == content);
    assert!(fs::read(bench.here("back")).expect("got") == content);
    assert!(fs::read(bench.there("part")).expect("resumed") == content);
    let put = fs::metadata(bench.there("sub/two")).expect("put");
    assert_eq!((put.mode() & 0o7777, put.nlink()), (0o600, 1), "the second name was removed, its mode stays");
    assert_eq!(put.mtime(), fs::metadata(bench.here("file")).expect("there").mtime());
    assert_eq!(fs::read_link(bench.there("sub/link")).expect("a link"), Path::new("two"));
    assert!(!bench.here("nothing").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_lists_a_large_folder_whole() {
    let bench = bench_or_skip!("sftp");
    for number in 0..700 {
        fs::write(bench.there(&format!("entry-{number:04}")), "").expect("writable");
    }
    let ran = output_of_input(bench.client("sftp").args(["-b", "-", "demo"]), b"ls -1\n".to_vec()).await;
    let said = text(&ran.stdout);
    assert_eq!(said.lines().filter(|line| line.contains("entry-")).count(), 700, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_copies_trees_both_ways_to_the_byte() {
    let bench = bench_or_skip!("scp");
    let tree = bench.here("tree");
    fs::create_dir_all(tree.join("deep/er")).expect("writable");
    let files = [("large", 20_000_011), ("deep/empty", 0), ("deep/er/odd name é", 32_769), ("deep/block", 262_144)];
    for (name, length) in files {
        fs::write(tree.join(name), noise(length)).expect("writable");
    }
    let long_ago = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let odd = fs::File::options().write(true).open(tree.join("deep/er/odd name é")).expect("there");
    odd.set_times(fs::FileTimes::new().set_modified(long_ago).set_accessed(long_ago)).expect("ours");
    odd.set_permissions(fs::Permissions::from_mode(0o751)).expect("ours");

    let started = Instant::now();
    let ran = output(bench.client("scp").args(["-r", "-p"]).arg(&tree).arg("demo:copy")).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    println!("20 MB up: {:?}", started.elapsed());
    let started = Instant::now();
    let ran = output(bench.client("scp").args(["-r", "-p", "demo:copy"]).arg(bench.here("back"))).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    println!("20 MB down: {:?}", started.elapsed());
    for root in [bench.there("copy"), bench.here("back")] {
        for (name, length) in files {
            let same = fs::read(root.join(name)).expect("copied") == noise(length);
            assert!(same, "{name} differs in {}", root.display());
        }
        let odd = fs::metadata(root.join("deep/er/odd name é")).expect("copied");
        assert_eq!((odd.mtime(), odd.mode() & 0o7777), (1_000_000_000, 0o751));
    }

    // The old protocol needs the program on both sides, which here is the same one.
    let ran = output(bench.client("scp").args(["-O", "demo:copy/deep/block"]).arg(bench.here("old"))).await;
    assert!(ran.status.success(), "{}", text(&ran.stderr));
    assert!(fs::read(bench.here("old")).expect("copied") == noise(262_144));
}

/// Answers each connection with the number of bytes it sent, once it has said that it is done.
async fn counter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut all = Vec::new();
                stream.read_to_end(&mut all).await.expect("readable");
                stream.write_all(format!("{}\n", all.len()).as_bytes()).await.expect("writable");
            });
        }
    });
    port
}

async fn counted(port: u16, bytes: usize) -> String {
    let count = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.expect("the forward listens");
        stream.write_all(&noise(bytes)).await.expect("writable");
        stream.shutdown().await.expect("half-closed");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("readable");
        answer
    };
    timeout(PATIENCE, count).await.expect("the forward answers in time")
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    listener.local_addr().expect("bound").port()
}

async fn listens(port: u16) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {port}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_forwarded_in_both_directions() {
    let bench = bench_or_skip!();
    let counter = counter().await;
    let (local, remote) = (free_port().await, free_port().await);
    let near = format!("{local}:127.0.0.1:{counter}");
    let far = format!("{remote}:127.0.0.1:{counter}");
    let options = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", &near, "-R", &far, "demo"];
    let mut ssh = bench.ssh(options).spawn().expect("ssh runs");
    listens(local).await;
    listens(remote).await;
    let all = [(local, 5_000_001), (remote, 5_000_002), (local, 0), (remote, 0), (local, 1), (remote, 70_000)];
    let mut running = tokio::task::JoinSet::new();
    for (port, bytes) in all {
        running.spawn(async move { (bytes, counted(port, bytes).await) });
    }
    while let Some(done) = running.join_next().await {
        let (bytes, answer) = done.expect("no panic");
        assert_eq!(answer, format!("{bytes}\n"));
    }
    ssh.kill().await.expect("killed");
    eventually("the forwarded port is free again", || std::net::TcpStream::connect(("127.0.0.1", remote)).is_err())
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_to_nowhere_is_refused() {
    let bench = bench_or_skip!();
    let nowhere = format!("127.0.0.1:{}", free_port().await);
    let ran = output(&mut bench.ssh(["-W", &nowhere, "demo"])).await;
    assert!(!ran.status.success());
    assert!(text(&ran.stderr).contains("open failed: connect failed"), "{}", text(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_client_comes_in_through_the_first() {
    let bench = bench_or_skip!();
    // The same machine twice, as with `-J`, through the stdio forward that `-J` is made of.
    let through = format!("ProxyCommand=ssh -F {} -W %h:%p demo", bench.here("config").display());
    let ran = output(&mut bench.ssh(["-o", &through, "demo", "echo inside"])).await;
    assert_eq!(text(&ran.stdout), "inside\n", "{}", text(&ran.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dynamic_forward_serves_socks() {
    let bench = bench_or_skip!();
    let (counter, socks) = (counter().await, free_port().await);
    let mut ssh = bench.ssh(["-N", "-D", &socks.to_string(), "demo"]).spawn().expect("ssh runs");
    listens(socks).await;
    let mut stream = TcpStream::connect(("127.0.0.1", socks)).await.expect("listens");
    // RFC 1928: version 5, one method, none; then CONNECT to a name.
    stream.write_all(&[5, 1, 0]).await.expect("writable");
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.expect("answered");
    assert_eq!(chosen, [5, 0]);
    let mut request = vec![5, 1, 0, 3, 9];
    request.extend_from_slice(b"localhost");
    request.extend_from_slice(&counter.to_be_bytes());
    stream.write_all(&request).await.expect("writable");
    let mut connected = [0; 10];
    stream.read_exact(&mut connected).await.expect("answered");
    assert_eq!(connected[..2], [5, 0]);
    stream.write_all(b"seven!!").await.expect("writable");
    stream.shutdown().await.expect("half-closed");
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("readable");
    assert_eq!(answer, "7\n");
    ssh.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_reach_the_clients_agent() {
    let bench = bench_or_skip!("ssh-agent", "ssh-add");
    let socket = bench.here("agent");
    let mut agent =
        Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).kill_on_drop(true).spawn().expect("runs");
    eventually("the agent listens", || socket.exists()).await;
    let added =
        output(Command::new("ssh-add").arg("-q").arg(bench.here("stranger")).env("SSH_AUTH_SOCK", &socket)).await;
    assert!(added.status.success(), "{}", text(&added.stderr));

    let agent_option = format!("IdentityAgent={}", socket.display());
    let config = fs::read_to_string(bench.here("config")).expect("readable");
    fs::write(bench.here("config"), config.replace(" IdentityAgent none\n", "")).expect("writable");
    let command = "ssh-add -l; ssh-add -l; dirname $SSH_AUTH_SOCK; stat -c %a $(dirname $SSH_AUTH_SOCK)";
    let ran = output(bench.ssh(["-A", "-o", &agent_option, "demo", command]).env("SSH_AUTH_SOCK", &socket)).await;
    let said = text(&ran.stdout);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(said.matches("ED25519").count(), 2, "{said}{}", text(&ran.stderr));
    assert_eq!(lines.last(), Some(&"700"), "{said}");
    let folder = PathBuf::from(lines[lines.len() - 2]);
    eventually("the socket is removed", || !folder.exists()).await;

    let ran = output(&mut bench.ssh(["-a", "-o", &agent_option, "demo", "echo ${SSH_AUTH_SOCK:-none}"])).await;
    assert_eq!(text(&ran.stdout), "none\n");
    agent.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_at_the_door_are_bounded() {
    let bench = bench_or_skip!();
    let mut waiting = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(bench.demo.address()).await.expect("listens");
        let mut banner = [0; 8];
        stream.read_exact(&mut banner).await.expect("greeted");
        assert_eq!(&banner, b"SSH-2.0-");
        waiting.push(stream);
    }
    let mut one_more = TcpStream::connect(bench.demo.address()).await.expect("listens");
    let read = timeout(PATIENCE, one_more.read(&mut [0; 8])).await.expect("in time");
    assert!(matches!(read, Ok(0) | Err(_)), "dropped at once");
    drop(waiting);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ran = output(&mut bench.ssh(["demo", "echo inside"])).await;
        if text(&ran.stdout) == "inside\n" {
            break;
        }
        assert!(Instant::now() < deadline, "there is room again: {}", text(&ran.stderr));
    }
}
