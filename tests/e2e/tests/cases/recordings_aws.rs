//! A recording of what came in through AWS's door: the stock aws CLI with `ravelin` as its plugin.

use avt::Terminal;
use ravelin_e2e::{Server, eventually, need, run};
use serde_json::{Value, json};
use std::path::Path;

/// The one session of the history, once its recording is complete.
fn recorded(server: &Server) -> Value {
    eventually("the recording is complete", || {
        let history = server.history();
        history.into_iter().find(|session| session["recording"] == "complete")
    })
}

fn export(server: &Server, id: &str, form: &str) -> String {
    server.ravelin(&["sessions", "export", id, "--form", form, "--file", "-"]).ok()
}

/// The screen that a cast leads to.
fn played(cast: &str) -> Vec<String> {
    let mut lines = cast.lines();
    let header: Value = serde_json::from_str(lines.next().expect("a header")).expect("JSON");
    let side = |name: &str| usize::try_from(header[name].as_u64().expect("a size")).expect("small");
    let mut terminal = Terminal::new(side("width"), side("height")).expect("a terminal");
    for line in lines {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let text = event[2].as_str().expect("a text");
        match event[1].as_str() {
            Some("o") => terminal.feed(text),
            Some("r") => {
                let (columns, rows) = text.split_once('x').expect("a size");
                terminal.resize(columns.parse().expect("a number"), rows.parse().expect("a number"));
            }
            other => panic!("{other:?}"),
        }
    }
    screen(&terminal)
}

fn screen(terminal: &Terminal) -> Vec<String> {
    terminal.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect()
}

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
    let shown: String = cast
        .lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|event| event[1] == "o")
        .map(|event| event[2].as_str().expect("a text").to_owned())
        .collect();
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
