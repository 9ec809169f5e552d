//! A recording of what came in through AWS's door: the stock aws CLI with `ravelin` as its plugin.

use super::recordings::{export, played, recorded, screen, shown};
use avt::Terminal;
use ravelin_e2e::{Server, need, run};
use serde_json::json;
use std::path::Path;

#[test]
fn a_shell_through_the_aws_cli_is_played_back_to_the_same_screen_and_its_commands_are_listed() {
    let (aws, python) = (need!("E2E_AWS"), need!("E2E_PYTHON"));
    let server = Server::dev();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let at = |name: &str| dir.path().join(name);
    let _made = server.ravelin(&["ssm", "install-plugin", "--dir", &dir.path().display().to_string()]).ok();
    let steps = json!([
        ["size", 90, 25],
        ["expect", "Starting session with SessionId: "],
        ["rest", 1500],
        ["send", "PS1='pro''mpt$ '\r"],
        ["expect", "prompt$ "],
        ["send", "clear; printf '\\033[5;10Hat-%s \\346\\274\\242' place\r"],
        ["expect", "at-place"],
        ["send", "\r"],
        ["expect", "prompt$ "],
        ["send", "echo typed-$((40+2))\r"],
        ["expect", "typed-42"],
        ["expect", "prompt$ "],
        ["send", "exit\r"],
        ["expect", "Exiting session with sessionId: "],
    ]);
    std::fs::write(at("steps.json"), steps.to_string()).expect("written");
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/on_a_terminal.py");
    let mut command = server.command(python);
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    command.env("PATH", path).env("TERM", "xterm-256color").arg(client).arg(at("steps.json")).arg(at("seen")).arg(aws);
    command.args(["ssm", "start-session", "--target", server.var("RAVELIN_TARGET_AWS_ID")]);
    let said = run(&mut command);
    assert_eq!(said.code, 0, "{said:?}");
    let seen = String::from_utf8_lossy(&std::fs::read(at("seen")).expect("what was seen")).into_owned();
    let session = recorded(&server);
    let id = session["id"].as_str().expect("an id");
    let cast = export(&server, id, "cast");
    let shown = shown(&cast);
    // The aws CLI and the plugin say something before and after; between that is what was recorded, byte by byte.
    let begins = seen.find(shown.as_str()).unwrap_or_else(|| panic!("recorded {shown:?}\nseen {seen:?}"));
    let mut judge = Terminal::new(90, 25).expect("a terminal");
    judge.feed(&seen[..begins + shown.len()]);
    assert_eq!(screen(&judge), played(&cast));
    assert!(played(&cast).iter().any(|line| line.contains("at-place \u{6f22}")), "{:?}", played(&cast));
    let acts = server.ravelin(&["sessions", "acts", id, "-o", "json"]).json();
    let typed = acts["items"].as_array().expect("a list").iter().find(|act| act["text"] == "echo typed-$((40+2))");
    assert_eq!(typed.unwrap_or_else(|| panic!("{acts}"))["source"], "prompt");
    let found = server.ravelin(&["sessions", "history", "--text", "typed*", "-o", "json"]).json();
    assert_eq!(found[0]["session"], id, "{found}");
}
