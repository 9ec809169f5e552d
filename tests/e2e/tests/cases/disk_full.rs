//! A disk that is really full below the recordings: a session ends, or its row says so, as the target's rule has it.

use super::object_store::World;
use ravelin_e2e::{Said, Server, binary, eventually, items, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// `ravelin serve` that sees a disk of 256 KiB in this folder. `None` where the system does not let us make one,
/// which is said, and fails in CI.
fn serve_on_a_small_disk(world: &mut World, folder: &Path) -> Option<Server> {
    let is_root = run(Command::new("id").arg("-u")).ok().trim() == "0";
    // A mount namespace of its own, so that nobody else sees the disk and nothing has to be cleaned up.
    let apart: &[&str] = if is_root { &["--mount"] } else { &["--user", "--map-root-user", "--mount"] };
    let mount = "mount -t tmpfs -o size=256k none \"$1\"";
    let disk = folder.display().to_string();
    let may = run(Command::new("unshare").args(apart).args(["sh", "-c", mount, "sh", &disk]));
    if may.code != 0 {
        ravelin_e2e::skip(&format!("a small disk cannot be mounted here: {}", may.err.trim()));
        return None;
    }
    let script = format!("{mount} && exec \"$2\" serve -c \"$3\"");
    let mut command = Command::new("unshare");
    command.args(apart).args(["sh", "-c", &script, "sh", &disk]).arg(binary()).arg(world.config());
    Some(world.serve_by(&mut command))
}

/// The session of the history that led to this target.
fn session(world: &World, target: &str) -> Value {
    eventually("it is in the history, and its recording failed", || {
        let history = items(&world.ravelin(&["sessions", "history", "-o", "json"]).json());
        history.into_iter().find(|one| one["target"]["name"] == target && one["recording"] == "failed")
    })
}

/// Seconds of the day in a time such as `2026-11-27T12:00:01.5Z`.
fn seconds(time: &Value) -> f64 {
    let clock = time.as_str().and_then(|text| text.split('T').nth(1)).expect("a time").trim_end_matches('Z');
    let parts: Vec<f64> = clock.split(':').map(|part| part.parse().expect("a number")).collect();
    parts[0] * 3600.0 + parts[1] * 60.0 + parts[2]
}

#[test]
fn a_full_disk_ends_a_session_or_marks_it_as_its_rule_has_it() {
    let disk = tempfile::tempdir().expect("a temporary folder");
    let Some(mut world) = World::new(&format!("folder = \"{}\"", disk.path().display())) else { return };
    let Some(server) = serve_on_a_small_disk(&mut world, disk.path()) else { return };
    // Far more than the disk holds, whatever it is packed with, and then nothing for longer than a session may go on.
    let much = "head -c 1000000 /dev/urandom | base64 -w 0; echo; echo all-of-it";
    let said: Said = run(&mut world.on_terminal("web-1", &format!("{much}; exec sleep 600")));
    assert_ne!(said.code, 0, "the session was cut");
    let ended = session(&world, "web-1");
    assert_eq!((&ended["state"], &ended["end_reason"]), (&Value::from("terminated"), &Value::from("recording_failed")));
    let after = (seconds(&ended["ended"]) - seconds(&ended["last_activity"])).rem_euclid(86_400.0);
    assert!(after < 10.0, "{after} s after the last byte");
    assert!(server.log().contains("a recording failed"), "{}", server.log());
    // The other goes on to its own end, with every byte, and its row says what is missing.
    let said = run(&mut world.on_terminal("web-3", &format!("{much}; exit 4")));
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.out.contains("all-of-it"));
    let marked = session(&world, "web-3");
    assert_eq!(marked["detail"], "exit status 4", "{marked}");
    assert!(world.figure("ravelin_recordings_failed_total") >= 2.0);
    // Nothing is left to begin with: the next session does not go on unrecorded.
    let said = run(&mut world.on_terminal("web-1", "sleep 600"));
    assert_ne!(said.code, 0, "{said:?}");
    eventually("it is in the history too", || {
        let history = items(&world.ravelin(&["sessions", "history", "-o", "json"]).json());
        (history.iter().filter(|one| one["end_reason"] == "recording_failed").count() == 2).then_some(())
    });
}
