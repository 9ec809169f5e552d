//! The audit record: what real clients did is in it, it verifies, and tampering is found.

use ravelin_e2e::{Server, binary, eventually, need, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn verify(file: &Path, args: &[&str]) -> ravelin_e2e::Said {
    run(Command::new(binary()).args(["audit", "verify", "-o", "json"]).arg(file).args(args))
}

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("the export is there");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn what_was_done_is_exported_verified_and_cannot_be_changed() {
    let ssh = need!("E2E_SSH");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::dev_in(dir.path());
    let said = run(server.ssh(&ssh, &[&server.destination()]).arg("echo 42"));
    assert_eq!(said.out.trim(), "42", "{said:?}");
    let newest = server.history();
    assert_eq!(newest.len(), 1);
    let file = dir.path().join("export.jsonl");
    let out = file.display().to_string();
    let _ = server.ravelin(&["audit", "export", "--out", &out]).ok();
    let key = dir.path().join("ledger.pub").display().to_string();
    let whole = verify(&file, &["--key", &key]).json();
    assert_eq!((&whole["whole"], &whole["beginning"], &whole["first"]), (&true.into(), &"genesis".into(), &1.into()));
    let events = lines(&file);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["kind"].as_str()).collect();
    for kind in ["node_started", "login_accepted", "session_opened", "session_ended", "record_exported"] {
        assert!(kinds.contains(&kind), "{kind} is missing in {kinds:?}");
    }
    let tail = server.ravelin(&["audit", "tail", "--event", "session_ended", "-n", "1000"]).ok();
    assert_eq!(tail.lines().count(), 1, "{tail}");
    let filtered =
        server.ravelin(&["audit", "export", "--target", server.var("RAVELIN_TARGET"), "--kind", "exec"]).ok();
    assert!(filtered.lines().count() >= 3 && filtered.contains("session_ended"), "{filtered}");

    // One record is changed, removed, moved, doubled: each is named.
    let text = std::fs::read_to_string(&file).expect("the export is there");
    let all: Vec<&str> = text.lines().collect();
    let at = kinds.iter().position(|kind| *kind == "session_opened").expect("a session") + 1;
    let seq = events[at]["seq"].as_u64().expect("a number");
    type Tamper = fn(&mut Vec<String>, usize);
    let cases: [(&str, Tamper); 4] = [
        ("was changed", |lines, at| lines[at] = lines[at].replace("session_opened", "session_failed")),
        ("was removed", |lines, at| {
            lines.remove(at);
        }),
        ("was moved", |lines, at| lines.swap(at - 1, at)),
        ("was inserted", |lines, at| {
            let line = lines[at].clone();
            lines.insert(at + 1, line);
        }),
    ];
    for (what, tamper) in cases {
        let mut lines: Vec<String> = all.iter().map(ToString::to_string).collect();
        tamper(&mut lines, at);
        std::fs::write(&file, lines.join("\n")).expect("may be written");
        let said = verify(&file, &["--key", &key]);
        assert_eq!(said.code, 1, "{what}: {said:?}");
        let found: Value = serde_json::from_str(&said.out).expect("JSON");
        let fault = found["fault"].as_str().expect("a fault");
        assert!(fault.contains(what) && fault.contains(&seq.to_string()), "{what} {seq}: {fault}");
    }

    // The store itself, while it is in use and after; a checkpoint is made at the stop.
    assert_eq!(verify(&dir.path().join("ravelin.db"), &[]).json()["whole"], true);
    assert_eq!(server.stop(), 0, "{}", server.log());
    let stopped = verify(&dir.path().join("ravelin.db"), &[]).json();
    assert!(stopped["signed_through"].as_u64().expect("a number") >= seq, "{stopped}");
    let foreign = verify(&dir.path().join("ravelin.db"), &["--key", &"ab".repeat(32)]);
    assert_eq!(foreign.code, 1, "{foreign:?}");
}

#[test]
fn after_kill_dash_nine_the_record_verifies_and_sink_and_store_agree() {
    let world = super::sinks::World::new(&[("archive", "type = \"file\"\npath = \"archive.jsonl\"\n".to_owned())]);
    let store = world.dir.path().join("state/ravelin.db");
    for round in 0..3 {
        let server = world.serve();
        // Another process writes into the same chain meanwhile.
        for _ in 0..=round {
            let _ = world.token();
        }
        server.kill_dash_nine();
        let found = verify(&store, &[]).json();
        assert_eq!(found["whole"], true);
    }
    let mut server = world.serve();
    assert_eq!(server.stop(), 0, "{}", server.log());
    let key = world.dir.path().join("state/ledger.pub").display().to_string();
    let found = verify(&world.dir.path().join("archive.jsonl"), &["--key", &key]).json();
    let store = verify(&store, &[]).json();
    assert_eq!((&found["whole"], &found["last"], &found["head"]), (&true.into(), &store["last"], &store["head"]));
}

#[test]
fn a_sink_gets_everything_and_its_file_verifies() {
    let world = super::sinks::World::new(&[("archive", "type = \"file\"\npath = \"archive.jsonl\"\n".to_owned())]);
    let mut server = world.serve();
    world.wrong_login();
    let file = world.dir.path().join("archive.jsonl");
    eventually("the refused login is there", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.contains("login_refused"))
    });
    assert_eq!(server.stop(), 0, "{}", server.log());
    let key = world.dir.path().join("state/ledger.pub").display().to_string();
    let found = verify(&file, &["--key", &key]).json();
    let store = verify(&world.dir.path().join("state/ravelin.db"), &[]).json();
    assert_eq!((&found["whole"], &found["last"], &found["head"]), (&true.into(), &store["last"], &store["head"]));
}
