//! Clients of data channels that others have written, with real shells, commands and ports.

use super::plugin::{Bed, FILE_BYTES, target_port};
use ravelin_e2e::carry::{echo, noise, there_and_back};
use ravelin_e2e::{Running, Server, eventually, need, run};
use serde_json::Value;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

/// What `StartSession` answers, for a client that speaks the data channel only.
fn started(server: &Server, python: &Path) -> Value {
    let script = r#"
import boto3, json, os
started = boto3.client("ssm").start_session(Target=os.environ["RAVELIN_TARGET_AWS_ID"])
print(json.dumps({name: started[name] for name in ("SessionId", "StreamUrl", "TokenValue")}))
"#;
    run(server.command(python).args(["-c", script])).json()
}

/// The one session is over, and ended because its program did.
fn ended_by_its_program(bed: &Bed, id: &str) {
    eventually("the session is over", || bed.server.live().is_empty().then_some(()));
    let ended = bed.server.history().into_iter().next().expect("a session");
    assert_eq!((&ended["id"], &ended["end_reason"]), (&id.into(), &"target_closed".into()), "{ended}");
}

/// The npm package `ssm-session`: no handshake, no client id, names padded on the left, half a digest in digits.
#[test]
fn the_npm_package_ssm_session_has_a_shell() {
    let (python, modules) = (need!("E2E_PYTHON"), need!("E2E_SSM_NODE_MODULES"));
    let bed = Bed::new();
    let started = started(&bed.server, &python);
    let text = |name: &str| started[name].as_str().expect("a text");
    let script = r#"
const { ssm } = require("ssm-session");
const WebSocket = require("ws");
const [url, token] = process.argv.slice(1);
const socket = new WebSocket(url);
socket.binaryType = "arraybuffer";
let shown = "", step = 0, taken = -1;
socket.on("open", () => ssm.init(socket, { token, termOptions: { rows: 31, cols: 97 } }));
socket.on("error", error => { console.error(String(error)); process.exit(2); });
socket.on("close", () => { console.error("closed without a word"); process.exit(3); });
socket.on("message", data => {
  const message = ssm.decode(data);
  const payload = Buffer.from(message.payload).toString();
  if (message.messageType === "channel_closed") {
    process.stdout.write(JSON.stringify({ shown, closed: JSON.parse(payload) }));
    process.exit(0);
  }
  if (message.messageType !== "output_stream_data") return;
  ssm.sendACK(socket, message);
  if (message.payloadType !== 1 || message.sequenceNumber <= taken) return;
  taken = message.sequenceNumber;
  shown += payload;
  if (step === 0) { step = 1; ssm.sendText(socket, "stty size; echo n$((40+2))m\r"); }
  if (step === 1 && shown.includes("n42m")) { step = 2; ssm.sendText(socket, "exit\r"); }
});
"#;
    let mut node = bed.server.command("node");
    node.env("NODE_PATH", &modules).env("NODE_EXTRA_CA_CERTS", bed.server.var("AWS_CA_BUNDLE"));
    let said = run(node.args(["-e", script, text("StreamUrl"), text("TokenValue")])).json();
    assert!(said["shown"].as_str().is_some_and(|shown| shown.contains("31 97")), "{said}");
    assert_eq!(said["closed"]["SessionId"], text("SessionId"));
    ended_by_its_program(&bed, text("SessionId"));
}

/// The crate `aws-ssm-bridge`, which signs its upgrades, in the program that makes it a command.
pub(super) fn bridge(server: &Server, program: &Path, args: &[&str]) -> Command {
    let mut command = server.command(program);
    // What its two TLS libraries trust.
    command.env("SSL_CERT_FILE", server.var("AWS_CA_BUNDLE")).args(args);
    command
}

#[test]
fn the_crate_aws_ssm_bridge_has_shells_commands_and_ssh() {
    let program = need!("E2E_SSM_BRIDGE");
    let bed = Bed::new();
    let target = bed.target();

    let mut shell = Running::start(&mut bridge(&bed.server, &program, &["shell", target]));
    shell.expect("ready: ");
    let live = bed.server.one_live("connected");
    let id = live["id"].as_str().expect("an id").to_owned();
    assert!(shell.printed().contains(&format!("ready: {id} 3.3.0.0")), "{}", shell.printed());
    assert_eq!((&live["kind"], &live["reason"]), (&"shell".into(), &"by hand".into()), "{live}");
    shell.send("stty size; echo n$((40+2))m\r");
    shell.expect("33 101");
    shell.expect("n42m");
    shell.send("exit\r");
    let _code = shell.wait();
    assert!(shell.printed().contains("over: the agent closed the session"), "{}", shell.printed());
    ended_by_its_program(&bed, &id);

    // It merges both streams, and takes the agent's `EXIT_CODE: 7` for no number.
    let said = run(&mut bridge(&bed.server, &program, &["command", target, "echo out; echo err >&2; exit 7"]));
    assert_eq!(said.out, "out\nerr\n", "{said:?}");
    assert!(said.err.contains("exit code None"), "{said:?}");
    let said = run(&mut bridge(&bed.server, &program, &["interactive", target, "tty; exit 3"]));
    assert!(said.out.contains("/dev/pts/"), "{said:?}");

    // The target's own SSH, end to end: its first line comes by itself.
    let port = target_port(&bed.server);
    let mut stream = Running::start(&mut bridge(&bed.server, &program, &["ssh", target, &port]));
    stream.expect("SSH-2.0-");
}

#[test]
fn the_crate_aws_ssm_bridge_forwards_ports_with_every_byte() {
    let program = need!("E2E_SSM_BRIDGE");
    let bed = Bed::new();
    let far = echo().to_string();
    for args in [&["forward", bed.target(), &far][..], &["forward-host", bed.target(), "localhost", &far]] {
        let mut session = Running::start(&mut bridge(&bed.server, &program, args));
        session.expect("port ");
        session.expect("\n");
        let printed = session.printed();
        let port: u16 = printed.trim().trim_start_matches("port ").parse().expect("a port");
        let connect = || TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        there_and_back(connect(), &noise(FILE_BYTES / 8));
        let small = noise(300_000);
        std::thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| there_and_back(connect(), &small));
            }
        });
        session.close_input();
        assert_eq!(session.wait(), 0, "{}", session.printed());
        assert!(session.printed().contains("over: as asked"), "{}", session.printed());
        eventually("the session is over", || bed.server.live().is_empty().then_some(()));
        let ended = bed.server.history().into_iter().next().expect("a session");
        assert_eq!(ended["kind"], "tunnel", "{ended}");
    }
}
