//! Ends of sessions over the data channel that nobody asked for: what the person reads, and what the record says.

use ravelin_e2e::carry::{echo, noise, there_and_back};
use ravelin_e2e::{Running, Server, Sshd, binary, eventually, free_port, need, parse_env, run};
use serde_json::Value;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// A bastion whose limits a test can wait for. Whoever prints all the time is never idle; nobody reaches the other limit
/// before they have been idle for longer.
const IDLE_SECONDS: u64 = 10;
const DURATION_SECONDS: u64 = 18;

struct Bed {
    server: Server,
    _sshd: Sshd,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn new(sshd: Sshd, keygen: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let unknown =
            Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(path("unknown")).status();
        assert!(unknown.expect("ssh-keygen runs").success());
        let (http, nobody) = (free_port(), free_port());
        let config = format!(
            r#"
listen.http = "127.0.0.1:{http}"
node.state_dir = "{state}"
limits.idle = "{IDLE_SECONDS} s"
limits.duration = "{DURATION_SECONDS} s"
[[principal]]
name = "alice"
groups = ["operators"]
[[target]]
name = "web-1"
address = "127.0.0.1"
port = {port}
protocol = "ssh"
host_keys = ["{pin}"]
shared_with = ["operators"]
logins = [{{ name = "{user}", key_file = "{key}" }}]
[[target]]
name = "web-2"
address = "127.0.0.1"
port = {port}
protocol = "ssh"
host_keys = ["{pin}"]
shared_with = ["operators"]
logins = [{{ name = "{user}", key_file = "{unknown}" }}]
[[target]]
name = "web-3"
address = "127.0.0.1"
port = {nobody}
protocol = "ssh"
host_keys = ["{pin}"]
shared_with = ["operators"]
logins = [{{ name = "{user}", key_file = "{key}" }}]
[[target]]
name = "db-1"
address = "127.0.0.1"
port = {echo}
protocol = "tcp"
shared_with = ["operators"]
"#,
            echo = echo(),
            state = path("state").display(),
            port = sshd.port,
            pin = sshd.host_key,
            user = sshd.user,
            key = sshd.user_key.display(),
            unknown = path("unknown").display(),
        );
        std::fs::write(path("ravelin.toml"), config).expect("a configuration file");
        let http = std::net::SocketAddr::from(([127, 0, 0, 1], http));
        let mut server = Server::serve(&path("ravelin.toml"), folder.path(), http);
        for kind in ["token", "aws"] {
            let mut bootstrap = Command::new(binary());
            bootstrap.args(["credentials", "bootstrap", "--principal", "alice", "--kind", kind, "-c"]);
            let lines = run(bootstrap.arg(path("ravelin.toml"))).ok();
            let exports: String = lines.lines().map(|line| format!("export {line}\n")).collect();
            server.env.extend(parse_env(&exports));
        }
        for (name, value) in
            [("RAVELIN_URL", format!("http://{http}")), ("AWS_ENDPOINT_URL_SSM", format!("http://{http}"))]
        {
            server.env.insert(name.to_owned(), value);
        }
        server.env.insert("AWS_DEFAULT_REGION".to_owned(), "eu-west-1".to_owned());
        Self { server, _sshd: sshd, _folder: folder }
    }

    /// `ravelin ssm start-session` within a terminal.
    fn shell(&self, target: &str) -> Running {
        let line = format!("{} ssm start-session --target {target}", binary().display());
        let mut command = self.server.command("script");
        command.env("SHELL", "/bin/sh").args(["-q", "-e", "-c", &line, "/dev/null"]);
        Running::start(&mut command)
    }
}

#[test]
fn whoever_is_cut_off_by_a_limit_reads_which() {
    let (sshd, keygen) = (need!("E2E_SSHD"), need!("E2E_SSH_KEYGEN"));
    let bed = Bed::new(Sshd::start(&sshd, &keygen), &keygen);
    // Both at once, so that their waits are one.
    let mut idle = bed.shell("web-1");
    idle.send("echo up-$((1+1))\r");
    idle.expect("up-2");
    let mut busy = bed.shell("web-1");
    busy.send("while :; do echo tick; sleep 1; done\r");
    idle.expect("Your session timed out due to inactivity and has been terminated.");
    assert_eq!(idle.wait(), 1, "{}", idle.printed());
    busy.expect("disconnected: duration limit reached");
    assert_eq!(busy.wait(), 1, "{}", busy.printed());
    let history = eventually("both are in the history", || {
        let history = bed.server.history();
        (history.len() == 2).then_some(history)
    });
    let mut reasons: Vec<&Value> = history.iter().map(|session| &session["end_reason"]).collect();
    reasons.sort_by_key(|reason| reason.to_string());
    assert_eq!(reasons, ["duration_limit", "idle_limit"], "{history:?}");
}

#[test]
fn whoever_does_not_get_through_to_the_target_reads_why() {
    let (sshd, keygen) = (need!("E2E_SSHD"), need!("E2E_SSH_KEYGEN"));
    let bed = Bed::new(Sshd::start(&sshd, &keygen), &keygen);
    let mut refused = bed.shell("web-2");
    refused.expect("the target refused the login");
    assert_eq!(refused.wait(), 1, "{}", refused.printed());
    let history = eventually("it is in the history", || {
        let history = bed.server.history();
        (!history.is_empty()).then_some(history)
    });
    assert_eq!(history[0]["end_reason"], "auth_failed", "{history:?}");
    let mut absent = bed.shell("web-3");
    absent.expect("(TargetNotConnected)");
    assert_ne!(absent.wait(), 0, "{}", absent.printed());
    assert_eq!(bed.server.history().len(), 1, "a target that is not there begins no session");
}

/// What the bastion would have to reach by itself, because the target cannot be asked to, is refused with what works.
#[test]
fn a_target_that_speaks_no_ssh_is_reached_at_its_own_port_only() {
    let (sshd, keygen) = (need!("E2E_SSHD"), need!("E2E_SSH_KEYGEN"));
    let bed = Bed::new(Sshd::start(&sshd, &keygen), &keygen);
    let targets = bed.server.ravelin(&["targets", "ls", "-o", "json"]).json();
    let own = ravelin_e2e::items(&targets).into_iter().find(|target| target["name"] == "db-1").expect("a target");
    let start = |document: &str, parameters: &str| {
        let mut command = bed.server.command(binary());
        command.args(["ssm", "start-session", "--target", "db-1", "--document-name", document]);
        command.args(["--parameters", parameters]);
        command
    };
    let own = own["port"].to_string();
    for (document, parameters) in [
        ("AWS-StartPortForwardingSessionToRemoteHost", "host=localhost,portNumber=80"),
        ("AWS-StartPortForwardingSession", "portNumber=1"),
        ("AWS-StartInteractiveCommand", "command=id"),
    ] {
        let said = run(&mut start(document, parameters));
        let text = format!("db-1 speaks tcp, not ssh: only a port forwarding session to port {own} leads there");
        assert!(said.code == 255 && said.err.contains("(BadRequest)") && said.err.contains(&text), "{said:?}");
    }
    let mut session = Running::start(&mut start("AWS-StartPortForwardingSession", &format!("portNumber={own}")));
    session.expect("Waiting for connections...");
    let port = session.printed().split("Port ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    there_and_back(TcpStream::connect(("127.0.0.1", port.expect("a port"))).expect("it listens"), &noise(16 << 20));
    ravelin_e2e::kill(session.pid(), "INT");
    assert_eq!(session.wait(), 0, "{}", session.printed());
}
