//! A client of data channels that others have written, with a real shell.

use super::plugin::Bed;
use ravelin_e2e::{Server, eventually, need, run};
use serde_json::Value;
use std::path::Path;

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
