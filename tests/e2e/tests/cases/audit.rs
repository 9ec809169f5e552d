//! The audit record: what real clients did is in it, it verifies, and tampering is found.

use ravelin_e2e::{Server, binary, eventually, need, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
    let ends = |more: &[&str]| {
        let args = [&["audit", "export", "--event", "session_ended"], more].concat();
        // The first line says where the copy begins.
        server.ravelin(&args).ok().lines().count() - 1
    };
    assert_eq!(ends(&["--reason", "target_closed", "--reason", "client_closed"]), 1);
    assert_eq!(ends(&["--reason", "idle_limit"]), 0);
    assert_eq!(ends(&["--actor", "system"]) + ends(&["--actor", "nobody"]), 0);
    assert_eq!(ends(&["--label", "colour=red"]) + ends(&["--tag", "colour=red"]), 0);
    let said = server.ravelin(&["audit", "export", "--label", "colour"]);
    assert!(said.code != 0 && said.err.contains("label: must be key=value"), "{said:?}");

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

/// Issues credentials, each one event, at about `per_second`, until the bastion is gone or `stop` is set; gives the ids
/// that were acknowledged.
fn load(http: std::net::SocketAddr, token: &str, per_second: u64, stop: &AtomicBool) -> Vec<String> {
    let body = r#"{"kind":"token","note":"load"}"#;
    let request = format!(
        "POST /api/v1/credentials HTTP/1.1\r\nHost: {http}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut acknowledged = Vec::new();
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let Some(answer) = ravelin_e2e::http(http, &request) else { break };
        // One that is cut off in its middle acknowledges nothing.
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        if let Ok(issued) = serde_json::from_str::<Value>(body) {
            let id = issued["credential"]["id"].as_str().unwrap_or_else(|| panic!("it was refused: {answer}"));
            acknowledged.push(id.to_owned());
        }
        let due = Duration::from_millis(acknowledged.len() as u64 * 1000 / per_second);
        let early = due.saturating_sub(begun.elapsed());
        ravelin_e2e::rest(u64::try_from(early.as_millis()).unwrap_or(0));
    }
    acknowledged
}

#[test]
fn kill_dash_nine_at_random_moments_under_load_loses_nothing_that_was_acknowledged() {
    const WRITERS: u64 = 4;
    let world = super::sinks::World::new(&[("archive", "type = \"file\"\npath = \"archive.jsonl\"\n".to_owned())]);
    let store = world.dir.path().join("state/ravelin.db");
    // Moments of their own in each run; the first one is told, so that a failure can be looked into.
    let seed = u64::from(std::process::id()) ^ std::time::UNIX_EPOCH.elapsed().map_or(1, |age| age.as_secs());
    println!("moments from seed {seed}");
    let mut random = seed;
    let mut acknowledged = std::collections::BTreeSet::new();
    for round in 0..4 {
        let server = world.serve();
        let token = world.token();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = 300 + (random >> 33) % 2_000;
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        let ids = std::thread::scope(|scope| {
            let writers: Vec<_> =
                (0..WRITERS).map(|_| scope.spawn(|| load(world.http(), &token, 200 / WRITERS, &stop))).collect();
            ravelin_e2e::rest(moment);
            server.kill_dash_nine();
            stop.store(true, Ordering::Relaxed);
            writers.into_iter().flat_map(|writer| writer.join().expect("no panic while writing")).collect::<Vec<_>>()
        });
        println!("round {round}: killed after {moment} ms, {} acknowledged in {:?}", ids.len(), begun.elapsed());
        acknowledged.extend(ids);
        let found = verify(&store, &[]).json();
        assert_eq!(found["whole"], true, "seed {seed}");
    }
    assert!(acknowledged.len() > 40, "there was a load: {}", acknowledged.len());
    let mut server = world.serve();
    assert_eq!(server.stop(), 0, "{}", server.log());
    let archive = world.dir.path().join("archive.jsonl");
    let key = world.dir.path().join("state/ledger.pub").display().to_string();
    let found = verify(&archive, &["--key", &key]).json();
    let store = verify(&store, &[]).json();
    let same = (&found["whole"], &found["last"], &found["head"]);
    assert_eq!(same, (&true.into(), &store["last"], &store["head"]), "seed {seed}");
    let told: std::collections::BTreeSet<String> = lines(&archive)
        .iter()
        .filter(|event| event["kind"] == "credential_issued")
        .filter_map(|event| event["facts"]["credential"].as_str().map(str::to_owned))
        .collect();
    let lost: Vec<&String> = acknowledged.difference(&told).collect();
    assert!(lost.is_empty(), "seed {seed}: acknowledged and not on record: {lost:?}");
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
