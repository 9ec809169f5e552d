//! A network that breaks while sessions go on: nothing is lost, nothing comes twice, and each session stays one.

use super::forwards::{forward_by, interrupt};
use super::plugin::{Bed, ssh, target_port};
use ravelin_e2e::carry::{Network, noise};
use ravelin_e2e::{Peer, Running, binary, eventually, free_port, need, run, run_with};
use std::path::Path;
use std::process::Command;

/// Large enough for several connections' worth of bytes, and small enough for a busy machine.
const FILE_BYTES: usize = 12 << 20;

/// A server behind a network that breaks.
struct Shaky {
    bed: Bed,
    network: Network,
}

impl Shaky {
    fn new(seed: u64, bytes: std::ops::Range<u64>, cuts_max: usize) -> Self {
        let bed = Bed::new();
        let url = bed.server.var("AWS_ENDPOINT_URL_SSM");
        let port = url.rsplit(':').next().and_then(|port| port.trim_end_matches('/').parse().ok()).expect("a port");
        let network = Network::in_front_of(port, seed, bytes, cuts_max);
        Self { bed, network }
    }

    /// The same command, over this network: the endpoint is the network's, and the server's stream URL follows it.
    fn over(&self, mut command: Command) -> Command {
        command.env("AWS_ENDPOINT_URL_SSM", format!("https://{}", self.network.address));
        command
    }

    fn start_session(&self, args: &[&str]) -> Command {
        let mut command = self.bed.server.command(binary());
        command.args(["ssm", "start-session", "--target", self.bed.target()]).args(args);
        self.over(command)
    }

    /// All sessions are over, there were so many of them, and the network did break.
    fn settle(&self, sessions: usize, cuts_min: usize) {
        eventually("all is over", || self.bed.server.live().is_empty().then_some(()));
        let history = self.bed.server.history();
        assert_eq!(history.len(), sessions, "{history:?}");
        let cuts = self.network.cuts();
        assert!(cuts >= cuts_min, "the network broke {cuts} times only");
    }
}

/// Text, so that it can be compared as a client's output.
fn letters(count: usize) -> String {
    noise(count).into_iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}

#[test]
fn output_and_input_arrive_whole() {
    let shaky = Shaky::new(0x51f1_5eed, 500_000..3_000_000, 100);
    let folder = tempfile::tempdir().expect("a folder");
    let text = letters(FILE_BYTES);
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("out"), &text).expect("a file");
    let command = |line: String| {
        let parameters = serde_json::json!({ "command": [line] }).to_string();
        shaky.start_session(&["--document-name", "AWS-StartNonInteractiveCommand", "--parameters", &parameters])
    };
    let said = run(&mut command(format!("cat {}; exit 3", path("out").display())));
    assert!(
        said.code == 3 && said.out == text,
        "{}: {} bytes of {}; {}",
        said.code,
        said.out.len(),
        text.len(),
        said.err
    );
    let after_output = shaky.network.cuts();
    assert!(after_output >= 3, "the network broke {after_output} times only");
    let line = format!("cat > {}; exit 4", path("in").display());
    let said = run_with(&mut command(line), text.as_bytes());
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(std::fs::read_to_string(path("in")).expect("a file") == text, "the input is something else");
    shaky.settle(2, after_output + 3);
}

/// Lines that are typed into a shell.
const LINES: usize = 250;

#[test]
fn a_shell_answers_each_line_once_and_in_order() {
    let shaky = Shaky::new(0x0b5e_55ed, 9_000..40_000, 10);
    let line = format!("{} ssm start-session --target {}", binary().display(), shaky.bed.target());
    let mut command = shaky.bed.server.command("script");
    command.env("SHELL", "/bin/sh").args(["-q", "-e", "-c", &line, "/dev/null"]);
    let mut shell = Running::start(&mut shaky.over(command));
    let _connected = shaky.bed.server.one_live("connected");
    shell.send("stty -echo; PS1=; echo quiet-$((1+1))\r");
    shell.expect("quiet-2");
    for at in 0..LINES {
        shell.send(&format!("echo n$(({at}+0))n\r"));
        if at % 25 == 24 {
            shell.expect(&format!("n{at}n"));
        }
    }
    shell.send("exit 5\r");
    assert_eq!(shell.wait(), 5, "{}", shell.printed());
    let printed = shell.printed();
    let answers = printed.split_once("quiet-2").expect("the beginning").1;
    let answers: Vec<usize> =
        answers.split_whitespace().filter_map(|word| word.strip_prefix('n')?.strip_suffix('n')?.parse().ok()).collect();
    assert_eq!(answers, (0..LINES).collect::<Vec<_>>(), "{printed}");
    shaky.settle(1, 3);
}

#[test]
fn scp_copies_exactly_both_ways() {
    let aws = need!("E2E_AWS");
    let scp = need!("E2E_SCP");
    let shaky = Shaky::new(0x5c9f_11e5, 400_000..4_000_000, 12);
    let port = target_port(&shaky.bed.server);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let data = noise(FILE_BYTES);
    std::fs::write(path("from"), &data).expect("a file");
    let far = format!("127.0.0.1:{}", path("far").display());
    let up = run(shaky.over(ssh(&shaky.bed, &aws, &scp)).args(["-q", "-P", &port]).arg(path("from")).arg(&far));
    assert_eq!(up.code, 0, "{up:?}");
    let down = run(shaky.over(ssh(&shaky.bed, &aws, &scp)).args(["-q", "-P", &port]).arg(&far).arg(path("back")));
    assert_eq!(down.code, 0, "{down:?}");
    for name in ["far", "back"] {
        assert!(std::fs::read(path(name)).expect("a file") == data, "{name} is something else");
    }
    shaky.settle(2, 4);
}

/// Bytes that differ from file to file.
fn file(at: usize, bytes: usize) -> Vec<u8> {
    let mut data = noise(bytes + 8 * at);
    data.drain(..8 * at);
    data
}

#[test]
fn a_forwarded_port_carries_many_downloads_uploads_and_copies_whole() {
    let (aws, curl, scp) = (need!("E2E_AWS"), need!("E2E_CURL"), need!("E2E_SCP"));
    let python = need!("E2E_PYTHON");
    let shaky = Shaky::new(0x7a11_0ca7, 400_000..4_000_000, 100);
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: String| folder.path().join(name);
    let far = free_port();
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/files_over_http.py");
    let _far = Peer::start(Command::new(python).arg(server).arg(far.to_string()).current_dir(folder.path()), far);
    let forwarded = |port: &str| {
        let parameters = format!("portNumber={port}");
        let args = ["--document-name", "AWS-StartPortForwardingSession", "--parameters", &parameters];
        forward_by(&mut shaky.over(shaky.bed.aws(&aws, &args)))
    };

    // Three each way at the same time, over connections of one session.
    let (session, port) = forwarded(&far.to_string());
    let files: Vec<Vec<u8>> = (0..6).map(|at| file(at, (2 << 20) + at)).collect();
    for (at, data) in files.iter().enumerate() {
        std::fs::write(path(format!("from-{at}")), data).expect("a file");
    }
    std::thread::scope(|scope| {
        for at in 0..files.len() {
            let (curl, path) = (&curl, &path);
            scope.spawn(move || {
                let mut command = Command::new(curl);
                command.args(["--fail", "--silent", "--show-error", "--max-time", "60", "--noproxy", "*"]);
                let url = |name: &str| format!("http://127.0.0.1:{port}/{name}-{at}");
                let said = if at % 2 == 0 {
                    run(command.arg("--output").arg(path(format!("to-{at}"))).arg(url("from")))
                } else {
                    run(command.arg("--upload-file").arg(path(format!("from-{at}"))).arg(url("to")))
                };
                assert_eq!(said.code, 0, "{at}: {said:?}");
            });
        }
    });
    for (at, data) in files.iter().enumerate() {
        assert!(std::fs::read(path(format!("to-{at}"))).expect("a file") == *data, "{at} is something else");
    }
    interrupt(&shaky.bed, session);
    let after_curl = shaky.network.cuts();
    assert!(after_curl >= 3, "the network broke {after_curl} times only");
    assert!(after_curl <= 40, "the same went out again and again: the network broke {after_curl} times");

    // And the SSH of the target, with several copies at once.
    let (session, port) = forwarded(&target_port(&shaky.bed.server));
    let copy = |from: &str, to: &str| {
        let mut command = shaky.bed.server.command(&scp);
        command.args(["-F", "none", "-q", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-i"]);
        command.args([shaky.bed.server.var("RAVELIN_SSH_KEY"), "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-P", &port.to_string(), from, to]);
        let said = run(&mut command);
        assert_eq!(said.code, 0, "{from} {to}: {said:?}");
    };
    std::thread::scope(|scope| {
        for at in 0..4 {
            let (copy, path) = (&copy, &path);
            scope.spawn(move || {
                let near = |name: &str| path(format!("{name}-{at}")).display().to_string();
                let far = |name: &str| format!("127.0.0.1:{}", near(name));
                if at % 2 == 0 { copy(&near("from"), &far("copied")) } else { copy(&far("from"), &near("copied")) }
            });
        }
    });
    for (at, data) in files.iter().take(4).enumerate() {
        assert!(std::fs::read(path(format!("copied-{at}"))).expect("a file") == *data, "{at} is something else");
    }
    interrupt(&shaky.bed, session);
    shaky.settle(2, after_curl + 2);
}
