//! The kill of a live session by each interface: confirmed, told, and on record.

use ravelin_e2e::{Running, Server, eventually, need, run};
use serde_json::Value;
use std::path::Path;

/// A shell that is up, and its session as our own interface lists it.
fn shell(server: &Server, ssh: &Path) -> (Running, Value) {
    let before: Vec<Value> = server.live().iter().map(|s| s["id"].clone()).collect();
    let mut shell = Running::start(&mut server.ssh(ssh, &["-tt", &server.destination()]));
    shell.send("echo up-$((40+2))\n");
    shell.expect("up-42");
    let session = eventually("the new session is listed", || {
        server.live().into_iter().find(|s| s["state"] == "connected" && !before.contains(&s["id"]))
    });
    (shell, session)
}

/// The person was told by whom and why, the client ended, and the history says the same.
fn told_and_recorded(server: &Server, mut shell: Running, id: &Value, reason: &str) {
    let code = shell.wait();
    assert_eq!(code, 255, "ssh reports a lost connection; it printed {}", shell.printed());
    let actor = server.var("RAVELIN_SSH_USER");
    let told = format!("disconnected by {actor}");
    assert!(shell.printed().contains(&told), "wanted {told:?} in {:?}", shell.printed());
    assert!(!server.live().iter().any(|s| s["id"] == *id), "it is still listed");
    let ended = server.history().into_iter().find(|s| s["id"] == *id).expect("it is in the history");
    assert_eq!(ended["end_reason"], "disconnected_by_operator");
    assert_eq!(ended["actor"], actor);
    assert!(ended["detail"].as_str().is_some_and(|d| d.contains(reason)), "{ended}");
}

#[test]
fn our_own_command_line_kills_by_short_id() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let (shell, session) = shell(&server, &ssh);
    let id = session["id"].as_str().expect("an id");
    let (_, hex) = id.rsplit_once('-').expect("a hyphen");
    let said = server.ravelin(&["sessions", "kill", &hex[..6], "--reason", "rotating keys", "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    let outcome = said.json();
    let outcome = ravelin_e2e::items(&outcome).remove(0);
    assert_eq!(outcome["outcome"], "ended");
    assert!(outcome["closed_at"].is_string(), "{outcome}");
    // Again: idempotent.
    let again = server.ravelin(&["sessions", "kill", id]);
    assert_eq!(again.code, 0, "{again:?}");
    assert!(shell.printed().contains("rotating keys") || !shell.printed().is_empty());
    told_and_recorded(&server, shell, &session["id"], "rotating keys");
}

#[test]
fn aws_terminate_session_kills() {
    let ssh = need!("E2E_SSH");
    let aws = need!("E2E_AWS");
    let server = Server::dev();
    let (shell, session) = shell(&server, &ssh);
    let id = session["id"].as_str().expect("an id");
    let answer = run(server.command(&aws).args(["ssm", "terminate-session", "--session-id", id])).json();
    assert_eq!(answer["SessionId"], id);
    told_and_recorded(&server, shell, &session["id"], "");
    let again = run(server.command(&aws).args(["ssm", "terminate-session", "--session-id", id])).json();
    assert_eq!(again["SessionId"], id);
}

#[test]
fn azure_disconnect_kills_one_and_leaves_the_other() {
    let ssh = need!("E2E_SSH");
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let (one, first) = shell(&server, &ssh);
    let (mut other, second) = shell(&server, &ssh);
    let id = first["id"].as_str().expect("an id");
    let answer = run(server.command(&python).args(["-c", super::azure::DISCONNECT, id, "no-such-session"])).json();
    assert_eq!(answer[0]["sessionId"], id);
    assert_eq!(answer[0]["state"], "Disconnected");
    assert_eq!(answer[1]["state"], "NotFound");
    told_and_recorded(&server, one, &first["id"], "");
    assert!(server.live().iter().any(|s| s["id"] == second["id"]));
    other.send("echo still-$((1+1))\n");
    other.expect("still-2");
}

#[test]
fn a_filter_kills_after_a_dry_run_and_counts() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let shells = [shell(&server, &ssh), shell(&server, &ssh), shell(&server, &ssh)];
    let target = server.var("RAVELIN_TARGET").to_owned();
    let dry = server.ravelin(&["sessions", "kill", "--target", &target, "--dry-run", "-o", "json"]);
    assert_eq!(dry.code, 0, "{dry:?}");
    assert_eq!(server.live().len(), 3, "a dry run ends nothing");
    let refused = server.ravelin(&["sessions", "kill", "--target", &target]);
    assert_eq!(refused.code, 2, "off a terminal it asks for --yes: {refused:?}");
    assert_eq!(server.live().len(), 3);
    let done = server.ravelin(&["sessions", "kill", "--target", &target, "--yes", "--reason", "maintenance"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(server.live().is_empty());
    for (shell, session) in shells {
        told_and_recorded(&server, shell, &session["id"], "maintenance");
    }
}

#[test]
fn a_kill_reaches_a_stalled_bulk_transfer() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    // A client that is stopped takes nothing any more while the target goes on sending.
    let mut bulk = Running::start(&mut server.ssh(&ssh, &[&server.destination(), "cat /dev/zero"]));
    let session = eventually("bytes flow", || {
        server.live().into_iter().find(|s| s["bytes_out"].as_u64().is_some_and(|n| n > 1_000_000))
    });
    ravelin_e2e::kill(bulk.pid(), "STOP");
    let stalled = eventually("the transfer stalls", || {
        let read = || server.live().first().and_then(|s| s["bytes_out"].as_u64());
        let one = read()?;
        (Some(one) == read()).then_some(one)
    });
    assert!(stalled > 0);
    let id = session["id"].as_str().expect("an id");
    let begun = std::time::Instant::now();
    let said = server.ravelin(&["sessions", "kill", id, "-o", "json"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(begun.elapsed().as_secs() < 3, "took {:?}", begun.elapsed());
    assert!(server.live().is_empty());
    ravelin_e2e::kill(bulk.pid(), "CONT");
    assert_eq!(bulk.wait(), 255);
}

#[test]
fn an_unknown_id_is_an_error_with_its_own_exit_code() {
    let server = Server::dev();
    let said = server.ravelin(&["sessions", "kill", "alice-0aaaaaaaaaaaaaaaa"]);
    assert_eq!(said.code, 3, "{said:?}");
    assert!(said.err.contains("not found") || said.out.contains("not found"), "{said:?}");
}
