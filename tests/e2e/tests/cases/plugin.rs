//! `ravelin` in the place of AWS's session-manager-plugin: the stock aws CLI starts it, `ssh` and `scp` go through it.

use super::forwards::{forward_by, interrupt};
use ravelin_e2e::carry::{echo, noise, there_and_back};
use ravelin_e2e::{Running, Said, Server, binary, eventually, need, run, run_with};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file's size in the tests that compare what went through.
pub(super) const FILE_BYTES: usize = 64 << 20;

/// A server, and a folder in which `session-manager-plugin` is a link to the binary.
pub(super) struct Bed {
    pub(super) server: Server,
    path: String,
    plugin: PathBuf,
    folder: tempfile::TempDir,
}

impl Bed {
    pub(super) fn new() -> Self {
        let server = Server::dev();
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().display().to_string();
        let made = server.ravelin(&["ssm", "install-plugin", "--dir", &dir]).ok();
        assert!(made.contains("session-manager-plugin -> "), "{made}");
        let path = format!("{dir}:{}", std::env::var("PATH").unwrap_or_default());
        let plugin = folder.path().join("session-manager-plugin");
        Bed { server, path, plugin, folder }
    }

    pub(super) fn target(&self) -> &str {
        self.server.var("RAVELIN_TARGET_AWS_ID")
    }

    /// `aws ssm start-session` with the plugin on PATH.
    pub(super) fn aws(&self, aws: &Path, args: &[&str]) -> Command {
        let mut command = self.server.command(aws);
        command.env("PATH", &self.path).args(["ssm", "start-session", "--target", self.target()]).args(args);
        command
    }

    /// The same command line within a terminal.
    pub(super) fn in_terminal(&self, aws: &Path, args: &[&str]) -> Command {
        let aws = aws.display().to_string();
        let line = [&[aws.as_str(), "ssm", "start-session", "--target", self.target()][..], args].concat();
        let mut command = self.server.command("script");
        command.env("PATH", &self.path).env("SHELL", "/bin/sh").args(["-q", "-e", "-c", &line.join(" "), "/dev/null"]);
        command
    }

    /// How the newest session of the history ended.
    pub(super) fn ended(&self) -> String {
        let ended = eventually("the session is in the history", || {
            self.server.live().is_empty().then(|| self.server.history().first().cloned()).flatten()
        });
        ended.to_string()
    }
}

#[test]
fn the_aws_cli_gets_a_shell_in_a_terminal() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let mut shell = Running::start(&mut bed.in_terminal(&aws, &[]));
    shell.expect("Starting session with SessionId: ");
    let _connected = bed.server.one_live("connected");
    shell.send("echo a$((40+2))b; stty size; tty\r");
    shell.expect("a42b");
    shell.expect("/dev/pts/");
    // Ctrl-C interrupts what runs there and not what runs here.
    shell.send("echo s$((40+2))t; sleep 600\r");
    shell.expect("s42t");
    shell.send("\u{3}");
    shell.send("echo after$((1+1))\r");
    shell.expect("after2");
    shell.send("exit\r");
    shell.expect("Exiting session with sessionId: ");
    assert_eq!(shell.wait(), 0, "{}", shell.printed());
    assert!(bed.ended().contains("target_closed"));
}

#[test]
fn a_tilde_and_a_dot_leave_a_session_and_end_it() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let mut shell = Running::start(&mut bed.in_terminal(&aws, &[]));
    shell.expect("Starting session with SessionId: ");
    let _connected = bed.server.one_live("connected");
    shell.send("echo x$((1+1))y\r");
    shell.expect("x2y");
    shell.send("~?");
    shell.expect("leave and end the session");
    shell.send("\r~.");
    assert_eq!(shell.wait(), 0, "{}", shell.printed());
    eventually("the session is over", || bed.server.live().is_empty().then_some(()));
}

#[test]
fn piped_input_passes_before_the_end_and_exit_codes_are_told() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let said = run_with(&mut bed.aws(&aws, &[]), b"echo a$((40+2))b\nexit 0\n");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("a42b"), "{said:?}");
    // Without any exit: the end of the input ends the shell.
    let said = run_with(&mut bed.aws(&aws, &[]), b"echo c$((40+2))d");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("c42d"), "{said:?}");
    // The aws CLI tells of any other exit code of its plugin by 255 and a text.
    let said = run_with(&mut bed.aws(&aws, &[]), b"exit 7\n");
    assert!(said.code == 255 && said.err.contains("returned non-zero exit status 7"), "{said:?}");
}

#[test]
fn a_command_keeps_its_streams_apart_and_tells_its_exit_code() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let command = |text: &str| {
        let parameters = format!(r#"{{"command":["{text}"]}}"#);
        run(&mut bed.aws(&aws, &["--document-name", "AWS-StartNonInteractiveCommand", "--parameters", &parameters]))
    };
    let said = command("echo out; echo err >&2; exit 0");
    assert_eq!((said.code, said.out.as_str()), (0, "out\n"), "{said:?}");
    assert!(said.err.contains("err\n"), "{said:?}");
    let said = command("exit 9");
    assert!(said.err.contains("returned non-zero exit status 9"), "{said:?}");
}

#[test]
fn the_second_generation_of_the_aws_cli_has_every_kind_of_session() {
    let stock = need!("E2E_AWS2");
    let program = need!("E2E_SSH");
    let bed = Bed::new();
    // Version 2.9 knows no variable for the endpoint.
    let aws = bed.folder.path().join("aws");
    let script = format!("#!/bin/sh\nexec {} --endpoint-url \"$AWS_ENDPOINT_URL_SSM\" \"$@\"\n", stock.display());
    std::fs::write(&aws, script).expect("a script");
    std::fs::set_permissions(&aws, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    let mut shell = Running::start(&mut bed.in_terminal(&aws, &[]));
    shell.expect("Starting session with SessionId: ");
    shell.send("echo a$((40+2))b; exit\r");
    shell.expect("a42b");
    shell.expect("Exiting session with sessionId: ");
    assert_eq!(shell.wait(), 0, "{}", shell.printed());
    let parameters = r#"{"command":["echo out; echo err >&2; exit 9"]}"#;
    let command = ["--document-name", "AWS-StartNonInteractiveCommand", "--parameters", parameters];
    let said = run(&mut bed.aws(&aws, &command));
    assert_eq!(said.out, "out\n", "{said:?}");
    assert!(said.err.contains("err\n") && said.err.contains("returned non-zero exit status 9"), "{said:?}");
    let port = target_port(&bed.server);
    let said = run(ssh(&bed, &aws, &program).args(["-p", &port, "127.0.0.1", "echo out; exit 5"]));
    assert_eq!((said.code, said.out.as_str()), (5, "out\n"), "{said:?}");
    let parameters = format!("portNumber={}", echo());
    let forward = ["--document-name", "AWS-StartPortForwardingSession", "--parameters", &parameters];
    let (session, port) = forward_by(&mut bed.aws(&aws, &forward));
    there_and_back(TcpStream::connect(("127.0.0.1", port)).expect("it listens"), &noise(1 << 20));
    interrupt(&bed, session);
}

/// `ssh` options that make it go through the plugin.
fn through(bed: &Bed, aws: &Path) -> Vec<String> {
    let proxy = format!(
        "ProxyCommand=env PATH={} {} ssm start-session --target {} --document-name AWS-StartSSHSession --parameters \
         portNumber=%p",
        bed.path,
        aws.display(),
        bed.target()
    );
    vec!["-o".to_owned(), proxy, "-o".to_owned(), "StrictHostKeyChecking=no".to_owned()]
}

/// The port that the development target listens on, as its inventory has it.
pub(super) fn target_port(server: &Server) -> String {
    let targets = server.ravelin(&["targets", "ls", "-o", "json"]).json();
    let target = ravelin_e2e::items(&targets).into_iter().next().expect("the development target");
    target["port"].to_string()
}

/// `ssh` or `scp` through the plugin.
pub(super) fn ssh(bed: &Bed, aws: &Path, program: &Path) -> Command {
    let mut command = bed.server.command(program);
    command.args(["-F", "none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-i"]);
    command.args([bed.server.var("RAVELIN_SSH_KEY"), "-o", "UserKnownHostsFile=/dev/null"]);
    command.args(through(bed, aws));
    command
}

#[test]
fn ssh_and_scp_go_through_and_files_arrive_whole() {
    let aws = need!("E2E_AWS");
    let program = need!("E2E_SSH");
    let scp = need!("E2E_SCP");
    let bed = Bed::new();
    let port = target_port(&bed.server);
    let said = run(ssh(&bed, &aws, &program).args(["-p", &port, "127.0.0.1", "echo out; exit 5"]));
    assert_eq!((said.code, said.out.as_str()), (5, "out\n"), "{said:?}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("from"), noise(FILE_BYTES)).expect("a file");
    let far = format!("127.0.0.1:{}", path("far").display());
    let up = run(ssh(&bed, &aws, &scp).args(["-q", "-P", &port]).arg(path("from")).arg(&far));
    assert_eq!(up.code, 0, "{up:?}");
    let down = run(ssh(&bed, &aws, &scp).args(["-q", "-P", &port]).arg(&far).arg(path("back")));
    assert_eq!(down.code, 0, "{down:?}");
    for name in ["far", "back"] {
        assert!(std::fs::read(path(name)).expect("a file") == noise(FILE_BYTES), "{name} is something else");
    }
}

#[test]
fn the_name_answers_as_the_aws_cli_asks() {
    let bed = Bed::new();
    let plugin = |args: &[&str]| -> Said { run(bed.server.command(&bed.plugin).args(args)) };
    let version = plugin(&["--version"]).ok();
    assert_eq!(version.trim().split('.').filter(|part| part.parse::<u32>().is_ok()).count(), 4, "{version}");
    assert_eq!(plugin(&[]).code, 0);
    let endpoint = bed.server.var("AWS_ENDPOINT_URL_SSM").to_owned();
    for (args, text) in [
        (&["nonsense"][..], "no call of the aws CLI"),
        (&["{}", "eu-west-1", "StopSession", "", "{}", &endpoint], "not for this program"),
        (&["{", "eu-west-1", "StartSession", "", "{}", &endpoint], "no JSON"),
        (&["{}", "eu-west-1", "StartSession", "", "{}", &endpoint], "lacks SessionId"),
        (&["AWS_SSM_START_SESSION_RESPONSE", "eu-west-1", "StartSession", "", "{}", &endpoint], "is not set"),
        (
            &[
                r#"{"SessionId":"alice-0123456789abcdef0","TokenValue":"t","StreamUrl":"wss://127.0.0.1:1/x?token=q"}"#,
                "eu-west-1",
                "StartSession",
                "",
                "{}",
                &endpoint,
            ],
            "cannot reach 127.0.0.1:1",
        ),
    ] {
        let said = plugin(args);
        assert!(said.code != 0 && said.err.contains(text), "{args:?}: {said:?}");
    }
    // A token that opens nothing, at a server that is there.
    let url = endpoint.replacen("http", "ws", 1);
    let answer = format!(
        r#"{{"SessionId":"alice-0123456789abcdef0","TokenValue":"t","StreamUrl":"{url}/v1/data-channel/alice-0123456789abcdef0"}}"#
    );
    let said = plugin(&[&answer, "eu-west-1", "StartSession", "", "{}", &endpoint]);
    assert!(said.code == 1 && said.err.contains("token is not valid"), "{said:?}");
    // What is ours is made again, what is not stays.
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().display().to_string();
    std::fs::write(folder.path().join("session-manager-plugin"), "the vendor's").expect("a file");
    let refused = bed.server.ravelin(&["ssm", "install-plugin", "--dir", &dir]);
    assert!(refused.code != 0 && refused.err.contains("--force"), "{refused:?}");
    assert!(binary().exists());
}
