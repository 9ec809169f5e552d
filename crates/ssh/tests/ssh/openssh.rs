//! The client that people have: OpenSSH, through the bastion, to the demo target.
//!
//! Where it is missing, the tests say so and pass; under `CI=true` they fail.

use crate::support::{Bastion, Detour, LIMIT, Setup};
use ravelin_model::Target;
use ravelin_model::session::{EndReason, Kind, State};
use ravelin_model::target::LoginProof;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};

/// The client's configuration, or nothing when there is no client.
async fn configure(bastion: &Bastion) -> Option<String> {
    let found = Command::new("ssh").arg("-V").stderr(Stdio::null()).status().await.is_ok_and(|s| s.success());
    if !found {
        assert!(std::env::var("CI").is_err(), "OpenSSH's client is missing");
        eprintln!("skipped: OpenSSH's client is missing");
        return None;
    }
    let text = format!(
        "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
         ConnectTimeout 10\n  BatchMode yes\nHost bastion\n  HostName 127.0.0.1\n  Port {}\nHost demo\n  HostName \
         127.0.0.1\n  Port {}\n",
        bastion.key_file().display(),
        bastion.address.port(),
        bastion.demo.as_ref().expect("there").address().port(),
    );
    let path = bastion.directory.path().join("ssh_config");
    std::fs::write(&path, text).expect("written");
    Some(path.display().to_string())
}

async fn run(program: &str, config: &str, arguments: &[&str], input: &[u8]) -> Output {
    finish(Command::new(program).args(["-F", config]).args(arguments), input).await
}

async fn finish(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writing = tokio::spawn(async move {
        // The program may have closed it.
        let _closed = stdin.write_all(&input).await;
    });
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await.expect("in time").expect("an output");
    writing.abort();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_files_and_terminals() {
    let bastion = Bastion::start().await;
    let Some(config) = configure(&bastion).await else { return };
    let path = |name: &str| bastion.directory.path().join(name).display().to_string();

    let output = run("ssh", &config, &["alice:web-1@bastion", "cat; echo err >&2; exit 9"], b"in").await;
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(9), "in"));
    assert!(text(&output.stderr).contains("err"));

    let output = run("ssh", &config, &["-tt", "alice:root@web-1@bastion"], b"echo $((40+2)); exit 5\n").await;
    assert_eq!(output.status.code(), Some(5));
    assert!(text(&output.stdout).contains("42"), "{}", text(&output.stdout));

    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let output = run("ssh", &config, &["-o", "RekeyLimit=1M", "alice:web-1@bastion", "cat"], &big).await;
    assert!(output.stdout == big, "{} bytes through many new keys", output.stdout.len());

    std::fs::write(path("big"), &big).expect("written");
    for (style, copy) in [("-s", "by-sftp"), ("-O", "by-scp")] {
        let there = format!("bastion:{}", path(copy));
        let output = run("scp", &config, &[style, "-o", "User=alice:web-1", &path("big"), &there], b"").await;
        assert!(output.status.success(), "{style} {}", text(&output.stderr));
        let back = path("back");
        let output = run("scp", &config, &[style, "-o", "User=alice:web-1", &there, &back], b"").await;
        assert!(output.status.success(), "{style} {}", text(&output.stderr));
        assert!(std::fs::read(&back).expect("read") == big, "{style}");
    }
    let there = format!("alice%web-1@bastion:{}", path("by-name"));
    for arguments in [[path("big"), there.clone()], [there, path("back")]] {
        let output = run("scp", &config, &["-O", &arguments[0], &arguments[1]], b"").await;
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.draft.kind, Kind::Exec, "scp -O is a command");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_pauses_in_a_download_for_many_keepalives_gets_the_rest_of_it() {
    let setup = Setup { config: |config| config.keepalive_interval = Duration::from_millis(200), ..Setup::default() };
    let bastion = Bastion::start_with(setup).await;
    let Some(config) = configure(&bastion).await else { return };
    let mut client = Command::new("ssh")
        .args(["-F", &config, "alice:web-1@bastion", "head -c 30000000 /dev/zero; exit 4"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let mut output = client.stdout.take().expect("piped");
    let mut bytes = vec![0; 1_000];
    output.read_exact(&mut bytes).await.expect("it begins");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let reading = tokio::time::timeout(LIMIT, output.read_to_end(&mut bytes)).await;
    reading.expect("in time").expect("readable");
    let status = client.wait().await.expect("it ends");
    assert_eq!((bytes.len(), status.code()), (30_000_000, Some(4)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_on_the_target_is_forwarded() {
    let bastion = Bastion::start().await;
    let Some(config) = configure(&bastion).await else { return };
    let path = |name: &str| bastion.directory.path().join(name).display().to_string();
    let far = UnixListener::bind(path("far")).expect("a socket");
    let forward = format!("{}:{}", path("near"), path("far"));
    let mut client = Command::new("ssh")
        .args(["-F", &config, "-N", "-L", &forward, "alice:web-1@bastion"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let connecting = async {
        loop {
            match UnixStream::connect(path("near")).await {
                Ok(near) => return near,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let mut near = tokio::time::timeout(LIMIT, connecting).await.expect("OpenSSH listens");
    let (mut far, _) = tokio::time::timeout(LIMIT, far.accept()).await.expect("in time").expect("connected");
    arrives(&mut near, &mut far, b"there").await;
    arrives(&mut far, &mut near, b"again").await;
    client.kill().await.expect("killed");
}

async fn arrives(from: &mut UnixStream, to: &mut UnixStream, said: &[u8; 5]) {
    from.write_all(said).await.expect("written");
    let mut heard = [0; 5];
    tokio::time::timeout(LIMIT, to.read_exact(&mut heard)).await.expect("in time").expect("read");
    assert_eq!(&heard, said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_and_shared_connections() {
    let bastion = Bastion::start().await;
    let Some(config) = configure(&bastion).await else { return };
    let output = run("ssh", &config, &["-J", "alice@bastion", "root@demo", "cat; exit 6"], b"end to end").await;
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(6), "end to end"));
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!((session.draft.kind, session.draft.login.as_ref()), (Kind::Tunnel, None));

    let socket = format!("ControlPath={}", bastion.directory.path().join("mux").display());
    let mut master = Command::new("ssh")
        .args(["-F", &config, "-o", &socket, "-MN", "alice:web-1@bastion"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    bastion.until(|s| s.state() == State::Connected).await;
    let ready = async {
        while !run("ssh", &config, &["-o", &socket, "-O", "check", "bastion"], b"").await.status.success() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, ready).await.expect("a master");
    for status in [0, 3, 77] {
        let command = format!("exit {status}");
        let output = run("ssh", &config, &["-o", &socket, "bastion", &command], b"").await;
        assert_eq!(output.status.code(), Some(status), "an exit status that comes after the end of file is not lost");
    }
    let session = bastion.until(|s| s.state() == State::Connected).await;
    assert_eq!(bastion.sessions().await.len(), 2, "one jump, and one session for all of these");
    bastion.kill(&session, "maintenance").await;
    let output = tokio::time::timeout(LIMIT, master.wait()).await.expect("in time").expect("a status");
    assert_eq!(output.code(), Some(255));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_whose_client_is_killed_ends() {
    let bastion = Bastion::start().await;
    let Some(config) = configure(&bastion).await else { return };
    let mut client = Command::new("ssh")
        .args(["-F", &config, "-J", "alice@bastion", "root@demo", "echo up; sleep 300"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a process");
    let mut up = [0; 3];
    let reading = client.stdout.as_mut().expect("piped").read_exact(&mut up);
    tokio::time::timeout(LIMIT, reading).await.expect("in time").expect("output");
    client.kill().await.expect("killed");
    let start = std::time::Instant::now();
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(session.ending().expect("an ending").reason, EndReason::ClientClosed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_reads_why() {
    // However busy the machine is: the line comes first because the client has answered, not because time has passed.
    let patient = Setup {
        config: |config| config.answer_max = LIMIT,
        engine: |engine| engine.farewell_max = LIMIT,
        ..Setup::default()
    };
    let bastion = Bastion::start_with(patient).await;
    let Some(config) = configure(&bastion).await else { return };
    let output = run("ssh", &config, &["alice:nowhere@bastion", "true"], b"").await;
    assert_eq!(output.status.code(), Some(255));
    assert!(text(&output.stderr).contains("target \"nowhere\" was not found, or you may not use it"));
    let output = run("ssh", &config, &["-N", "alice:nowhere@bastion"], b"").await;
    assert!(text(&output.stderr).contains("was not found, or you may not use it"), "{}", text(&output.stderr));

    for arguments in [&["alice:web-1@bastion"][..], &["-tt", "alice:web-1@bastion"]] {
        reads_why_it_is_killed(&bastion, &config, arguments).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_far_away_reads_why() {
    let bastion = Bastion::start().await;
    let Some(config) = configure(&bastion).await else { return };
    let detour = Detour::start(bastion.address, Duration::from_millis(50)).await;
    let port = format!("Port={}", detour.address.port());
    reads_why_it_is_killed(&bastion, &config, &["-o", &port, "alice:web-1@bastion"]).await;
}

/// Kills a running command, and wants the reason on a line of its own, besides the disconnect message.
async fn reads_why_it_is_killed(bastion: &Bastion, config: &str, arguments: &[&str]) {
    let arguments = [arguments, &["echo up; sleep 60"]].concat();
    let reading = run("ssh", config, &arguments, b"");
    let killing = async {
        let session = bastion.until(|s| s.state() == State::Connected && s.activity.bytes_out > 0).await;
        bastion.kill(&session, "rotating keys").await;
    };
    let (output, ()) = tokio::join!(reading, killing);
    assert_eq!(output.status.code(), Some(255));
    let told = text(&output.stderr).lines().any(|line| line.trim() == "disconnected by alice: rotating keys");
    assert!(told, "{arguments:?}: {}", text(&output.stderr));
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::DisconnectedByOperator);
}

/// An agent that holds the person's key, and its socket.
async fn agent(bastion: &Bastion) -> (Child, String) {
    let socket = bastion.directory.path().join("agent").display().to_string();
    let agent = Command::new("ssh-agent")
        .args(["-D", "-a", &socket])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("an agent");
    let waiting = async {
        while !Path::new(&socket).exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("an agent's socket");
    let key = bastion.key_file();
    let added = Command::new("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &socket).stderr(Stdio::null()).status().await;
    assert!(added.expect("ssh-add").success());
    (agent, socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_before_the_agent_is_refused_and_costs_nothing() {
    let by_agent = |target: &mut Target| target.logins[0].proof = LoginProof::ForwardedAgent;
    let bastion = Bastion::start_with(Setup { target: by_agent, ..Setup::default() }).await;
    let Some(config) = configure(&bastion).await else { return };
    let (mut agent, socket) = agent(&bastion).await;
    let ssh = |arguments: &[&str]| {
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", &config, "-A"]).args(arguments).env("SSH_AUTH_SOCK", &socket);
        ssh
    };
    // OpenSSH asks for the forward before it opens the channel that lends the agent.
    let mut remote = ssh(&["-R", "7:127.0.0.1:1", "alice:web-1@bastion", "echo up; exit 5"]);
    let output = finish(&mut remote, b"").await;
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(5), "up\n"), "{}", text(&output.stderr));
    let why = "port 7 is not forwarded from the target: the login on this target needs your own agent";
    assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::ClientClosed);

    // Without a program the agent never comes.
    let mut local = ssh(&["-W", "127.0.0.1:1", "alice:web-1@bastion"]);
    let output = finish(&mut local, b"").await;
    assert!(text(&output.stderr).contains("the login on this target needs your own agent"), "{}", text(&output.stderr));
    bastion.until_live(0).await;
    let session = bastion.until(|s| s.state().is_final()).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::ClientClosed);
    agent.kill().await.expect("killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_lent_when_it_may_be() {
    let bastion = Bastion::start().await;
    let Some(config) = configure(&bastion).await else { return };
    let (mut agent, socket) = agent(&bastion).await;
    let mut lending = Command::new("ssh");
    lending.args(["-F", &config, "-A", "alice:web-1@bastion", "ssh-add -l"]).env("SSH_AUTH_SOCK", &socket);
    let output = finish(&mut lending, b"").await;
    let fingerprint = ravelin_ssh::keys::fingerprint(&ravelin_ssh::keys::public_line(&bastion.person).expect("a line"));
    assert!(text(&output.stdout).contains(&fingerprint), "{} {}", text(&output.stdout), text(&output.stderr));

    bastion.deny(&[ravelin_model::policy::Action::ForwardAgent]);
    let output = finish(&mut lending, b"").await;
    assert_ne!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("your agent is not forwarded"), "{}", text(&output.stderr));
    agent.kill().await.expect("killed");
}
