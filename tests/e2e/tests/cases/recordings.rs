//! Recordings through real clients: what was shown is played back to the same screen, what was done is found, and
//! neither a crash nor a changed file goes unnoticed.

use avt::Terminal;
use ravelin_e2e::{Running, Server, eventually, need, run, run_with};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a client on a terminal of its own saw.
pub(super) struct Seen {
    bytes: Vec<u8>,
    /// After how many bytes the terminal had how many columns and rows.
    sizes: Vec<(usize, usize, usize)>,
}

impl Seen {
    /// The screen at the end.
    fn screen(&self) -> Vec<String> {
        let (_, columns, rows) = self.sizes[0];
        let mut terminal = Terminal::new(columns, rows).expect("a terminal");
        let mut from = 0;
        for (until, columns, rows) in &self.sizes {
            terminal.feed(&*String::from_utf8_lossy(&self.bytes[from..*until]));
            terminal.resize(*columns, *rows);
            from = *until;
        }
        terminal.feed(&*String::from_utf8_lossy(&self.bytes[from..]));
        screen(&terminal)
    }
}

pub(super) fn on_a_terminal(server: &Server, python: &Path, ssh: &Path, steps: &Value) -> Seen {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (script, output) = (dir.path().join("steps.json"), dir.path().join("seen"));
    std::fs::write(&script, steps.to_string()).expect("written");
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/on_a_terminal.py");
    let mut command = server.command(python);
    command.env("TERM", "xterm-256color").arg(client).arg(&script).arg(&output).arg(ssh);
    command.args(server.ssh_options()).args(["-q", "-tt", "-p", server.var("RAVELIN_SSH_PORT"), &server.destination()]);
    let said = run(&mut command);
    assert_eq!(said.code, 0, "{said:?}");
    let sizes = std::fs::read(dir.path().join("seen.sizes")).expect("the sizes");
    let sizes = serde_json::from_slice(&sizes).expect("numbers");
    Seen { bytes: std::fs::read(output).expect("what was seen"), sizes }
}

/// The one session of the history, once its recording is complete.
pub(super) fn recorded(server: &Server) -> Value {
    eventually("the recording is complete", || {
        let history = server.history();
        history.into_iter().find(|session| session["recording"] == "complete")
    })
}

pub(super) fn export(server: &Server, id: &str, form: &str) -> String {
    server.ravelin(&["sessions", "export", id, "--form", form, "--file", "-"]).ok()
}

/// `ravelin dev` whose owner may export too.
fn server(dir: &Path) -> Server {
    Server::dev_in(dir)
}

/// All output in a cast.
pub(super) fn shown(cast: &str) -> String {
    cast.lines()
        .skip(1)
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|event| event[1] == "o")
        .map(|event| event[2].as_str().expect("a text").to_owned())
        .collect()
}

/// The screen that a cast leads to.
pub(super) fn played(cast: &str) -> Vec<String> {
    drawn(cast, ["/width", "/height"], &[])
}

/// The same for a cast whose header has the size in these two places, and with events of kinds that change no screen.
pub(super) fn drawn(cast: &str, size: [&str; 2], unseen: &[&str]) -> Vec<String> {
    let mut lines = cast.lines();
    let header: Value = serde_json::from_str(lines.next().expect("a header")).expect("JSON");
    let [columns, rows] = size.map(|place| {
        let side = header.pointer(place).and_then(Value::as_u64).expect("a size");
        usize::try_from(side).expect("small")
    });
    let mut terminal = Terminal::new(columns, rows).expect("a terminal");
    for line in lines {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let text = event[2].as_str().expect("a text");
        match event[1].as_str() {
            Some("o") => terminal.feed(text),
            Some("r") => {
                let (columns, rows) = text.split_once('x').expect("a size");
                terminal.resize(columns.parse().expect("a number"), rows.parse().expect("a number"));
            }
            Some(kind) if unseen.contains(&kind) => {}
            other => panic!("{other:?}"),
        }
    }
    screen(&terminal)
}

pub(super) fn screen(terminal: &Terminal) -> Vec<String> {
    terminal.screen().visible_lines().map(|line| line.text().trim_end().to_owned()).collect()
}

#[test]
fn full_screen_programs_wide_letters_sizes_and_binary_are_played_back_to_the_same_screen() {
    let (ssh, python) = (need!("E2E_SSH"), need!("E2E_PYTHON"));
    let (vim, less, htop) = (need!("E2E_VIM"), need!("E2E_LESS"), need!("E2E_HTOP"));
    let dir = tempfile::tempdir().expect("a temporary folder");
    let noise: Vec<u8> = (0..40_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(dir.path().join("noise"), &noise).expect("written");
    let text: String = (0..400).map(|i| format!("line {i} {}\n", "x".repeat(i % 200))).collect();
    std::fs::write(dir.path().join("text"), text).expect("written");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let mark = |n: u32| format!("end-of-{n}");
    // Each ends on a screen that nothing else overwrites: the shell says goodbye and is gone.
    let bye = |n: u32| vec![json!(["send", format!("printf 'end-of-%d' {n}; exit\r")]), json!(["expect", mark(n)])];
    let mut cases: Vec<(&str, Vec<Value>)> = vec![
        (
            "vim, and a change of size in it",
            vec![
                json!(["size", 100, 30]),
                json!(["rest", 800]),
                json!(["send", format!("{} -u NONE -N {}\r", vim.display(), path("text"))]),
                json!(["expect", "line 5"]),
                json!(["rest", 500]),
                json!(["send", "Gihello \u{6f22}\u{5b57} \u{e9}\u{1b}"]),
                json!(["rest", 500]),
                json!(["size", 120, 40]),
                json!(["rest", 800]),
                json!(["send", ":q!\r"]),
                json!(["rest", 500]),
            ],
        ),
        (
            "less and htop on 300 columns",
            vec![
                json!(["size", 300, 50]),
                json!(["rest", 800]),
                json!(["send", format!("{} {}\r", less.display(), path("text"))]),
                json!(["expect", "line 5"]),
                json!(["send", "G"]),
                json!(["expect", "line 399"]),
                json!(["send", "q"]),
                json!(["rest", 300]),
                json!(["send", format!("{} -d 100\r", htop.display())]),
                json!(["expect", "Mem"]),
                json!(["rest", 800]),
                json!(["send", "q"]),
                json!(["rest", 500]),
            ],
        ),
        (
            "a binary file on the screen",
            vec![
                json!(["size", 80, 24]),
                json!(["rest", 800]),
                json!(["send", format!("cat {}\r", path("noise"))]),
                json!(["rest", 1500]),
                json!(["send", "\r"]),
                json!(["rest", 500]),
            ],
        ),
    ];
    for (number, (what, steps)) in cases.iter_mut().enumerate() {
        let state = tempfile::tempdir().expect("a temporary folder");
        let server = server(state.path());
        steps.extend(bye(u32::try_from(number).expect("small")));
        let seen = on_a_terminal(&server, &python, &ssh, &json!(steps));
        let session = recorded(&server);
        let cast = export(&server, session["id"].as_str().expect("an id"), "cast");
        // What the client saw and what was recorded are the same bytes.
        let shown = shown(&cast);
        let shown = shown.trim_end_matches(['\r', '\n']);
        let bytes = String::from_utf8_lossy(&seen.bytes);
        assert!(bytes.trim_end_matches(['\r', '\n']).starts_with(shown), "{what}: the bytes differ");
        assert_eq!(seen.screen(), played(&cast), "{what}");
        assert!(played(&cast).iter().any(|line| line.contains("end-of-")), "{what}: {:?}", played(&cast));
        let page = export(&server, session["id"].as_str().expect("an id"), "html");
        // It may hold addresses, as text: htop shows other programs' arguments. What counts is that it asks for none.
        assert!(page.contains("default-src 'none'"), "{what}");
        let own = page.split("const TITLE=").next().expect("a part").to_owned()
            + page.rsplit("const LAST=").next().expect("a part");
        assert!(!own.contains("http://") && !own.contains("https://"), "{what}: the player names an address");
    }
}

#[test]
fn what_was_done_is_listed_found_and_on_record() {
    let (ssh, sftp) = (need!("E2E_SSH"), need!("E2E_SFTP"));
    let server = Server::dev();
    let to = server.destination();
    assert_eq!(run(&mut server.ssh(&ssh, &[&to, "echo needle-in-hay; exit 3"])).code, 3);
    let dir = tempfile::tempdir().expect("a temporary folder");
    let data = vec![7_u8; 1_000_000];
    std::fs::write(dir.path().join("one"), &data).expect("written");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let batch = format!("put {} {}\nget {} {}\nrm {}\n", at("one"), at("two"), at("two"), at("three"), at("two"));
    let mut command = server.command(&sftp);
    let user = format!("User={}:{}", server.var("RAVELIN_SSH_USER"), server.var("RAVELIN_TARGET"));
    command.args(server.ssh_options()).args(["-P", server.var("RAVELIN_SSH_PORT"), "-b", "-", "-o", &user]);
    let said = run_with(command.arg(server.var("RAVELIN_SSH_HOST")), batch.as_bytes());
    assert_eq!(said.code, 0, "{said:?}");
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &to]));
    // The shell is there when it shows a prompt of its own; what is typed ahead is found too, but not as surely.
    ravelin_e2e::rest(1500);
    shell.send("PS1='pro''mpt$ '\n");
    shell.expect("prompt$ ");
    shell.send("echo typed-$((40+2))\n");
    shell.expect("typed-42");
    shell.send("exit\n");
    shell.wait();

    let sessions = eventually("all three are complete", || {
        let history = server.history();
        let complete = history.len() == 3 && history.iter().all(|session| session["recording"] == "complete");
        complete.then_some(history)
    });
    let acts = |kind: &str| -> Vec<Value> {
        let session = sessions.iter().find(|session| session["kind"] == kind).expect("a session of this kind");
        let id = session["id"].as_str().expect("an id");
        server.ravelin(&["sessions", "acts", id, "-o", "json"]).json()["items"].as_array().expect("a list").clone()
    };
    let exec = acts("exec");
    assert_eq!(exec.len(), 1, "{exec:?}");
    assert_eq!(
        (&exec[0]["text"], &exec[0]["facts"]["exit_status"]),
        (&json!("echo needle-in-hay; exit 3"), &json!("3"))
    );

    let sum = run(std::process::Command::new("sha256sum").arg(dir.path().join("one"))).ok();
    let sum = sum.split_whitespace().next().expect("a digest").to_owned();
    let files: Vec<Value> =
        acts("sftp").into_iter().filter(|act| act["text"].as_str().is_some_and(|t| t.ends_with("/two"))).collect();
    let facts: Vec<_> = files.iter().map(|act| &act["facts"]).collect();
    assert_eq!(facts[0]["operation"], "write", "{facts:?}");
    assert_eq!(
        (&facts[0]["bytes"], &facts[0]["sha256"], &facts[0]["outcome"]),
        (&json!("1000000"), &json!(sum), &json!("ok"))
    );
    let down = facts.iter().find(|facts| facts["operation"] == "read").expect("a download");
    assert_eq!((&down["direction"], &down["sha256"]), (&json!("download"), &json!(sum)));
    assert!(facts.iter().any(|facts| facts["operation"] == "remove" && facts["outcome"] == "ok"), "{facts:?}");

    let typed = acts("shell");
    let typed = typed.iter().find(|act| act["text"] == "echo typed-$((40+2))").expect("the command");
    assert_eq!(typed["source"], "prompt");

    let found = server.ravelin(&["sessions", "history", "--text", "needle*", "-o", "json"]).json();
    assert_eq!(found[0]["act"]["text"], "echo needle-in-hay; exit 3", "{found}");
    let shown = &sessions[0];
    for kind in ["recording_began", "recording_kept", "recording_read", "recordings_searched"] {
        let events = ["sessions", "watch", "--cursor", "0", "--event", kind, "--limit", "1", "-o", "json"];
        assert!(server.ravelin(&events).ok().contains(kind), "no {kind}");
    }
    let digest = shown["recording_digest"].as_str().expect("a digest");
    let file = files_in(&server.dir.join("recordings"))
        .into_iter()
        .find(|path| path.file_stem().and_then(|stem| stem.to_str()) == shown["id"].as_str());
    let file = file.expect("its file");
    assert!(run(std::process::Command::new("sha256sum").arg(&file)).ok().starts_with(digest));
    let bytes = std::fs::read(&file).expect("readable");
    assert!(!bytes.windows(6).any(|window| window == b"needle"), "it lies sealed");
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for shelf in std::fs::read_dir(folder).expect("a folder").map_while(Result::ok) {
        files.extend(
            std::fs::read_dir(shelf.path()).into_iter().flatten().map_while(Result::ok).map(|file| file.path()),
        );
    }
    files
}

#[test]
fn somebody_watches_a_live_session_and_the_person_is_told() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("echo before-$((40+2))\n");
    shell.expect("before-42");
    let id = server.one_live("connected")["id"].as_str().expect("an id").to_owned();
    let mut watcher = Running::start(server.command(ravelin_e2e::binary()).args(["sessions", "watch", &id]));
    watcher.expect("before-42");
    shell.expect("is watching this session");
    shell.send("echo after-$((40+3))\n");
    watcher.expect("after-43");
    shell.send("exit\n");
    shell.wait();
    assert_eq!(watcher.wait(), 0, "{}", watcher.printed());
}

#[test]
fn a_crash_costs_a_second_at_most_and_a_changed_file_is_found() {
    let ssh = need!("E2E_SSH");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path());
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("echo kept-$((40+2))\n");
    shell.expect("kept-42");
    let id = server.one_live("connected")["id"].as_str().expect("an id").to_owned();
    // Longer than anything may be behind.
    ravelin_e2e::rest(1500);
    server.kill_dash_nine();
    shell.wait();
    let server = self::server(dir.path());
    let session = recorded(&server);
    assert_eq!((session["id"].as_str(), &session["end_reason"]), (Some(id.as_str()), &json!("node_lost")));
    assert!(export(&server, &id, "text").contains("kept-42"));

    let file = eventually("it is settled", || {
        let mut files = files_in(&dir.path().join("recordings"));
        files.retain(|path| path.extension().is_some_and(|suffix| suffix == "rvr"));
        files.pop()
    });
    let mut bytes = std::fs::read(&file).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("written");
    let said = server.ravelin(&["sessions", "export", &id, "--form", "cast", "--file", "-"]);
    assert_ne!(said.code, 0, "{said:?}");
    bytes[middle] ^= 1;
    std::fs::write(&file, &bytes).expect("written");
    assert!(export(&server, &id, "cast").contains("kept-42"));
    drop(server);
    // Another key: no silent plain text, and a reason.
    std::fs::write(dir.path().join("recordings.key"), format!("first {}\n", "0".repeat(64))).expect("written");
    let server = self::server(dir.path());
    let said = server.ravelin(&["sessions", "export", &id, "--form", "cast", "--file", "-"]);
    assert_ne!(said.code, 0, "{said:?}");
    assert!(said.err.contains("does not open it"), "{said:?}");
}
