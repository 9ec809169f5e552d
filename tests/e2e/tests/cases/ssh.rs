//! Real OpenSSH through the bastion: to the demo target, and to a real sshd.

use ravelin_e2e::carry::noise;
use ravelin_e2e::{Running, Server, Sshd, eventually, free_port, need, run, run_with};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().to_owned();
    (dir, path)
}

#[test]
fn exec_passes_output_errors_input_and_exit_status() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let to = server.destination();
    let said = run(&mut server.ssh(&ssh, &[&to, "echo out; echo err >&2; exit 7"]));
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (7, "out\n", "err\n"));
    let said = run_with(&mut server.ssh(&ssh, &[&to, "wc -c"]), &noise(100_000));
    assert_eq!(said.ok().trim(), "100000", "the end of the input gets through");
    let said = run(&mut server.ssh(&ssh, &[&to, "kill -TERM $$"]));
    assert_ne!(said.code, 0);
    let kinds: Vec<_> = eventually("three are in the history", || {
        let history = server.history();
        (history.len() == 3).then(|| history.iter().map(|s| s["kind"].clone()).collect())
    });
    assert_eq!(kinds, ["exec", "exec", "exec"]);
}

#[test]
fn a_shell_has_a_terminal_with_the_right_size_and_signals() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("tty && echo has-$((1+1))-tty\n");
    shell.expect("has-2-tty");
    shell.send("sleep 1000\n");
    shell.expect("sleep 1000");
    shell.send("\u{3}");
    shell.send("echo after-$((2+3))\n");
    shell.expect("after-5");
    shell.send("exit 9\n");
    assert_eq!(shell.wait(), 9);
}

#[test]
fn big_transfers_are_exact_both_ways_also_while_keys_are_renewed() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let (_keep, dir) = folder();
    let data = noise(20_000_000);
    std::fs::write(dir.join("data"), &data).expect("a file");
    let path = dir.join("data").display().to_string();
    for options in [&[][..], &["-o", "RekeyLimit=1M"][..]] {
        let mut down = server.ssh(&ssh, options);
        let output = down.arg(server.destination()).arg(format!("cat {path}")).output().expect("ssh runs");
        assert!(output.stdout == data, "{options:?}: {} bytes came down", output.stdout.len());
        let copy = dir.join("copy").display().to_string();
        let mut up = server.ssh(&ssh, options);
        let said = run_with(up.arg(server.destination()).arg(format!("cat > {copy}")), &data);
        assert_eq!(said.code, 0, "{said:?}");
        assert!(std::fs::read(&copy).expect("the copy") == data, "{options:?}: the upload differs");
    }
    let session = server.history().remove(0);
    assert!(session["bytes_in"].as_u64().expect("a count") >= 20_000_000, "{session}");
}

#[test]
fn scp_and_sftp_copy_files_exactly() {
    let scp = need!("E2E_SCP");
    let sftp = need!("E2E_SFTP");
    let server = Server::dev();
    let (_keep, dir) = folder();
    let data = noise(3_000_000);
    std::fs::write(dir.join("one"), &data).expect("a file");
    let options = server.ssh_options();
    let port = server.var("RAVELIN_SSH_PORT").to_owned();
    // A colon in the user name ends the host part of scp's short form, so the URI form is the documented one.
    let uri = |path: &Path| {
        let user = format!("{}%3A{}", server.var("RAVELIN_SSH_USER"), server.var("RAVELIN_TARGET"));
        format!("scp://{user}@{}:{port}/{}", server.var("RAVELIN_SSH_HOST"), path.display())
    };
    let up = run(server.command(&scp).args(&options).arg("-q").arg(dir.join("one")).arg(uri(&dir.join("two"))));
    assert_eq!(up.code, 0, "{up:?}");
    let down = run(server.command(&scp).args(&options).arg("-q").arg(uri(&dir.join("two"))).arg(dir.join("three")));
    assert_eq!(down.code, 0, "{down:?}");
    assert!(std::fs::read(dir.join("three")).expect("the copy") == data);

    let batch = format!("put {0}/one {0}/four\nget {0}/four {0}/five\nls -l {0}\n", dir.display());
    let mut command = server.command(&sftp);
    // Here the part before a colon is the host, so the person and the target go where the user name goes.
    let user = format!("User={}:{}", server.var("RAVELIN_SSH_USER"), server.var("RAVELIN_TARGET"));
    command.args(&options).args(["-P", &port, "-b", "-", "-o", &user, server.var("RAVELIN_SSH_HOST")]);
    let said = run_with(&mut command, batch.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    assert!(std::fs::read(dir.join("five")).expect("the copy") == data);
    let kinds: Vec<_> = server.history().iter().map(|s| s["kind"].clone()).collect();
    assert!(kinds.iter().all(|kind| kind == "sftp" || kind == "exec"), "{kinds:?}");
}

/// A server that sends back what it gets, in upper case, one connection after the other.
fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut text = String::new();
                if stream.read_to_string(&mut text).is_ok() {
                    let _gone = stream.write_all(text.to_uppercase().as_bytes());
                }
            });
        }
    });
    port
}

fn ask(port: u16, text: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(text.as_bytes()).ok()?;
    stream.shutdown(std::net::Shutdown::Write).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

#[test]
fn local_and_remote_forwards_carry_connections_with_half_close() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let upstream = echo_server();
    for way in ["-L", "-R"] {
        let port = free_port();
        let forward = format!("127.0.0.1:{port}:127.0.0.1:{upstream}");
        let to = server.destination();
        let options = ["-N", "-o", "ExitOnForwardFailure=yes", way, &forward, &to];
        let client = Running::start(&mut server.ssh(&ssh, &options));
        let answer = eventually("the forward carries", || ask(port, "hello"));
        assert_eq!(answer, "HELLO", "{way}: {}", client.printed());
        let session = server.one_live("connected");
        assert_eq!(session["kind"], "tunnel", "{way}");
        drop(client);
        eventually("it is over", || server.live().is_empty().then_some(()));
    }
}

#[test]
fn dynamic_forwards_speak_socks() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let upstream = echo_server();
    let port = free_port();
    let socks = format!("127.0.0.1:{port}");
    let _client = Running::start(&mut server.ssh(&ssh, &["-N", "-D", &socks, &server.destination()]));
    let answer = eventually("the proxy answers", || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        // RFC 1928: no authentication, then CONNECT to 127.0.0.1:upstream.
        stream.write_all(&[5, 1, 0]).ok()?;
        let mut two = [0; 2];
        stream.read_exact(&mut two).ok()?;
        let [high, low] = upstream.to_be_bytes();
        stream.write_all(&[5, 1, 0, 1, 127, 0, 0, 1, high, low]).ok()?;
        let mut ten = [0; 10];
        stream.read_exact(&mut ten).ok()?;
        stream.write_all(b"by proxy").ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    });
    assert_eq!(answer, "BY PROXY");
}

#[test]
fn a_jump_is_end_to_end_and_listed_as_a_tunnel() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let options = server.ssh_options().join(" ");
    let jump = format!(
        "ProxyCommand={} {options} -p {} -W %h:%p {}@{}",
        ssh.display(),
        server.var("RAVELIN_SSH_PORT"),
        server.var("RAVELIN_SSH_USER"),
        server.var("RAVELIN_SSH_HOST")
    );
    let user = run(Command::new("id").arg("-un")).ok().trim().to_owned();
    let to = format!("{user}@{}", server.var("RAVELIN_TARGET"));
    let mut command = server.command(&ssh);
    command.args(server.ssh_options()).args(["-o", &jump, "-tt", &to]);
    let mut shell = Running::start(&mut command);
    shell.send("echo jumped-$((3*3))\n");
    shell.expect("jumped-9");
    let session = server.one_live("connected");
    assert_eq!(session["kind"], "tunnel");
    assert_eq!(session["target"]["name"], server.var("RAVELIN_TARGET"));
    assert!(session["login"].is_null(), "{session}");
    let said = server.ravelin(&["sessions", "kill", session["id"].as_str().expect("an id")]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(shell.wait(), 255);
    assert!(shell.printed().contains("disconnected by"), "{}", shell.printed());
}

#[test]
fn one_connection_carries_many_channels_and_is_one_session() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let (_keep, dir) = folder();
    let socket = format!("ControlPath={}/c", dir.display());
    let to = server.destination();
    let mut master = Running::start(&mut server.ssh(&ssh, &["-o", "ControlMaster=yes", "-o", &socket, "-N", &to]));
    eventually("the master is up", || dir.join("c").exists().then_some(()));
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (server, ssh, socket, to) = (&server, &ssh, &socket, &to);
            scope.spawn(move || {
                let said = run(&mut server.ssh(ssh, &["-o", socket, to, &format!("echo {n}; exit {n}")]));
                assert_eq!((said.code, said.out), (n, format!("{n}\n")));
            });
        }
    });
    assert_eq!(server.live().len(), 1);
    master.kill_dash_nine();
    eventually("it is over", || server.live().is_empty().then_some(()));
    assert_eq!(server.history().len(), 1);
}

#[test]
fn without_a_target_there_is_a_menu_and_the_choice_becomes_the_session() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let to = format!("{}@{}", server.var("RAVELIN_SSH_USER"), server.var("RAVELIN_SSH_HOST"));
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &to]));
    shell.expect(server.var("RAVELIN_TARGET"));
    assert!(server.live().is_empty(), "a menu is not a session");
    // In one piece, as a terminal may deliver what is typed fast: the choice, and what the target's shell is to have.
    shell.send("1\recho chosen-$((5*5))\n");
    shell.expect("chosen-25");
    assert_eq!(server.one_live("connected")["kind"], "shell");
    shell.send("exit\n");
    assert_eq!(shell.wait(), 0);
    let said = run(&mut server.ssh(&ssh, &[&to, "true"]));
    assert_ne!(said.code, 0);
    assert!(said.err.contains(':'), "it says how to name a target: {said:?}");
}

#[test]
fn an_unknown_target_is_refused_with_a_reason_and_no_session() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let to = format!("{}:nowhere@{}", server.var("RAVELIN_SSH_USER"), server.var("RAVELIN_SSH_HOST"));
    let said = run(&mut server.ssh(&ssh, &[&to, "true"]));
    assert_eq!(said.code, 255, "{said:?}");
    assert!(said.err.contains("nowhere"), "{said:?}");
    assert!(server.live().is_empty());
    let stranger = format!("mallory:{}@{}", server.var("RAVELIN_TARGET"), server.var("RAVELIN_SSH_HOST"));
    let said = run(&mut server.ssh(&ssh, &[&stranger, "true"]));
    assert_eq!(said.code, 255);
    assert!(said.err.contains("Permission denied"), "{said:?}");
}

/// A configuration that leads to a real sshd, with the person `alice`.
struct Real {
    server: Server,
    sshd: Sshd,
    known_hosts: PathBuf,
    alice_key: PathBuf,
    ssh_port: u16,
    dir: tempfile::TempDir,
}

impl Real {
    fn start(pin: impl Fn(&Sshd) -> String, login: impl Fn(&Sshd) -> String) -> Option<Self> {
        let (sshd, keygen) = (ravelin_e2e::client("E2E_SSHD")?, ravelin_e2e::client("E2E_SSH_KEYGEN")?);
        let sshd = Sshd::start(&sshd, &keygen);
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = |name: &str| dir.path().join(name);
        for name in ["alice", "bob", "host"] {
            let _made =
                run(Command::new(&keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path(name)));
        }
        let key = |name: &str| std::fs::read_to_string(path(name).with_extension("pub")).expect("a public key");
        let (ssh_port, http_port) = (free_port(), free_port());
        let config = format!(
            r#"
policies = []
[node]
state_dir = "{state}"
[listen]
ssh = "127.0.0.1:{ssh_port}"
http = "127.0.0.1:{http_port}"
[ssh]
host_key = "{host}"
[[principal]]
name = "alice"
groups = ["web", "forwarding"]
ssh_keys = ["{alice}"]
[[principal]]
name = "bob"
groups = ["other"]
ssh_keys = ["{bob}"]
[[target]]
name = "web-1"
address = "127.0.0.1"
port = {port}
protocol = "ssh"
host_keys = ["{pin}"]
shared_with = ["web"]
logins = [{login}]
"#,
            state = path("state").display(),
            host = path("host").display(),
            alice = key("alice").trim(),
            bob = key("bob").trim(),
            port = sshd.port,
            pin = pin(&sshd),
            login = login(&sshd),
        );
        let config = config.replace("policies = []\n", "");
        std::fs::write(path("ravelin.toml"), config).expect("a configuration file");
        let known_hosts = path("known_hosts");
        std::fs::write(&known_hosts, format!("[127.0.0.1]:{ssh_port} {}", key("host"))).expect("a file");
        let http = std::net::SocketAddr::from(([127, 0, 0, 1], http_port));
        let server = Server::serve(&path("ravelin.toml"), dir.path(), http);
        let alice_key = path("alice");
        Some(Real { server, sshd, known_hosts, alice_key, ssh_port, dir })
    }

    fn ssh(&self, ssh: &Path, who: &str, args: &[&str]) -> Command {
        let mut command = self.server.command(ssh);
        let key = self.dir.path().join(who);
        command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]).arg(key);
        command.args(["-o", &format!("UserKnownHostsFile={}", self.known_hosts.display())]);
        command.args(["-o", "StrictHostKeyChecking=yes", "-p", &self.ssh_port.to_string()]).args(args);
        command
    }
}

fn by_key(sshd: &Sshd) -> String {
    format!(r#"{{ name = "{}", key_file = "{}" }}"#, sshd.user, sshd.user_key.display())
}

fn by_agent(sshd: &Sshd) -> String {
    format!(r#"{{ name = "{}", agent = true }}"#, sshd.user)
}

#[test]
fn a_real_sshd_behind_the_bastion_serves_every_kind() {
    let ssh = need!("E2E_SSH");
    let Some(real) = Real::start(|s| s.host_key.clone(), by_key) else { return };
    let said = run(&mut real.ssh(&ssh, "alice", &["alice:web-1@127.0.0.1", "echo real; exit 5"]));
    assert_eq!((said.code, said.out.as_str()), (5, "real\n"), "{said:?}");
    let named = format!("alice:{}@web-1@127.0.0.1", real.sshd.user);
    let said = run(&mut real.ssh(&ssh, "alice", &[&named, "id -un"]));
    assert_eq!(said.ok().trim(), real.sshd.user);
    let mut command = real.ssh(&ssh, "alice", &["-o", "SendEnv=E2E_*", "alice:web-1@127.0.0.1", "echo $E2E_X"]);
    assert_eq!(run(command.env("E2E_X", "passed on")).ok(), "passed on\n");
    let mut shell = Running::start(&mut real.ssh(&ssh, "alice", &["-tt", "alice:web-1@127.0.0.1"]));
    shell.send("stty size; echo size-$((6+6))\n");
    shell.expect("size-12");
    shell.send("exit\n");
    assert_eq!(shell.wait(), 0);
    let data = noise(5_000_000);
    let said = run_with(&mut real.ssh(&ssh, "alice", &["alice:web-1@127.0.0.1", "cksum"]), &data);
    let local = run_with(&mut Command::new("cksum"), &data);
    assert_eq!(said.ok(), local.ok());
}

#[test]
fn forbidden_and_unknown_targets_cannot_be_told_apart() {
    let ssh = need!("E2E_SSH");
    let Some(real) = Real::start(|s| s.host_key.clone(), by_key) else { return };
    let forbidden = run(&mut real.ssh(&ssh, "bob", &["bob:web-1@127.0.0.1", "true"]));
    let unknown = run(&mut real.ssh(&ssh, "bob", &["bob:web-2@127.0.0.1", "true"]));
    assert_eq!(forbidden.code, 255, "{forbidden:?}");
    assert_eq!(forbidden.err.replace("web-1", "web-2"), unknown.err);
    for host in ["web-1:22", "web-2:22", "web-1:8080"] {
        let said = run(&mut real.ssh(&ssh, "bob", &["-W", host, "bob@127.0.0.1"]));
        assert_eq!(said.code, 255, "{said:?}");
        assert!(said.err.contains("was not found, or you may not use it"), "{said:?}");
    }
    let said = run(&mut real.ssh(&ssh, "alice", &["-W", "web-1:8080", "alice@127.0.0.1"]));
    assert!(said.err.contains("web-1 has no target on port 8080"), "{said:?}");
}

#[test]
fn a_changed_host_key_is_refused_with_both_fingerprints() {
    let ssh = need!("E2E_SSH");
    let wrong = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1nRZ9Q1Q0pGGyWQxXo8Zr2h1bJ1pYqQm2m3mB0yQ5V";
    let Some(real) = Real::start(|_| wrong.to_owned(), by_key) else { return };
    let said = run(&mut real.ssh(&ssh, "alice", &["alice:web-1@127.0.0.1", "true"]));
    assert_eq!(said.code, 255, "{said:?}");
    let prints: BTreeSet<&str> =
        said.err.split_whitespace().filter_map(|w| w.find("SHA256:").map(|at| &w[at..at + 50])).collect();
    assert_eq!(prints.len(), 2, "the shown and the expected one: {said:?}");
}

#[test]
fn the_persons_own_agent_can_open_the_target() {
    let ssh = need!("E2E_SSH");
    let agent = need!("E2E_SSH_AGENT");
    let add = need!("E2E_SSH_ADD");
    let Some(real) = Real::start(|s| s.host_key.clone(), by_agent) else { return };
    let socket = real.dir.path().join("agent");
    let _agent = Running::start(Command::new(agent).arg("-D").arg("-a").arg(&socket));
    eventually("the agent listens", || socket.exists().then_some(()));
    let _added = run(Command::new(add).arg("-q").arg(&real.sshd.user_key).env("SSH_AUTH_SOCK", &socket)).ok();
    let mut with = real.ssh(&ssh, "alice", &["-A", "alice:web-1@127.0.0.1", "echo by agent; ssh-add -l | wc -l"]);
    let said = run(with.env("SSH_AUTH_SOCK", &socket));
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.starts_with("by agent\n"), "{said:?}");
    let said = run(&mut real.ssh(&ssh, "alice", &["alice:web-1@127.0.0.1", "true"]));
    assert_eq!(said.code, 255);
    assert!(said.err.contains("agent"), "it says that an agent is wanted: {said:?}");
    assert!(real.alice_key.exists());
}
