//! The evidence report: what real clients did is in it, alike from the bastion and from an export.

use ravelin_e2e::{Running, Server, binary, eventually, need, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn a_month_is_reported_alike_from_the_bastion_and_from_an_export() {
    let ssh = need!("E2E_SSH");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut server = Server::dev_in(dir.path());
    assert_eq!(run(server.ssh(&ssh, &[&server.destination()]).arg("echo 42")).ok().trim(), "42");
    let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
    shell.send("echo up-$((40+2))\n");
    shell.expect("up-42");
    let live = server.one_live("connected");
    let id = live["id"].as_str().expect("an id");
    let _ = server.ravelin(&["sessions", "kill", id, "--reason", "for the report"]).ok();
    assert_eq!(shell.wait(), 255);
    let wrong = run(server.command(binary()).arg("whoami").env("RAVELIN_TOKEN", "rvl_0123456789abcdef_nothing"));
    assert_eq!(wrong.code, 4, "{wrong:?}");
    let recorded = || server.history().iter().filter(|session| session["recording"] == "complete").count();
    eventually("both recordings are whole", || (recorded() == 2).then_some(()));
    let month = live["created"].as_str().and_then(|created| created.get(..7)).expect("a time").to_owned();

    // A stop signs what was done so far; the next life reports on it.
    assert_eq!(server.stop(), 0, "{}", server.log());
    drop(server);
    let server = Server::dev_in(dir.path());
    let report = |args: &[&str]| server.ravelin(&[&["report", "--month", &month], args].concat());
    let found = report(&["--format", "json"]).json();
    let at =
        |pointer: &str| found.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is missing in {found}")).clone();
    assert_eq!(
        (at("/chain/whole"), at("/chain/beginning"), at("/record/first")),
        (true.into(), "genesis".into(), 1.into())
    );
    let key = std::fs::read_to_string(dir.path().join("ledger.pub")).expect("the public key");
    assert_eq!((at("/chain/key"), at("/chain/key_from")), (key.trim().into(), "record".into()));
    assert_eq!((at("/sessions/started"), at("/sessions/ended"), at("/hosts/checked")), (2.into(), 2.into(), 2.into()));
    assert_eq!(
        (at("/kills/asked"), at("/kills/confirmed"), at("/kills/latency/count")),
        (1.into(), 1.into(), 1.into())
    );
    assert!(at("/kills/latency/max_ms").as_u64() > Some(0), "{found}");
    assert_eq!(
        (at("/recordings/due"), at("/recordings/complete"), at("/recordings/missing")),
        (2.into(), 2.into(), 0.into())
    );
    assert_eq!((at("/refusals/logins"), at("/made/source")), (1.into(), server.var("RAVELIN_URL").into()));
    let exported = server.ravelin(&["audit", "tail", "-n", "1000", "--event", "record_exported"]).ok();
    assert!(exported.lines().count() >= 1, "a report is on record as an export is: {exported}");

    // The same from an export, without the bastion.
    let file = dir.path().join("record.jsonl").display().to_string();
    let _ = server.ravelin(&["audit", "export", "--out", &file]).ok();
    let offline = |format: &str| {
        let mut command = Command::new(binary());
        command.args(["report", "--month", &month, "--format", format, &file]).env_remove("RAVELIN_URL");
        run(&mut command)
    };
    let again = offline("json").json();
    for member in ["sessions", "kills", "recordings", "hosts"] {
        assert_eq!(again[member], found[member], "{member}");
    }
    assert_eq!(again["refusals"]["logins"], 1);
    let html = offline("html").ok();
    assert!(
        html.contains("default-src 'none'") && html.matches("<svg").count() == 3 && !html.contains("<script"),
        "{html}"
    );
    let markdown = offline("markdown").ok();
    assert!(markdown.contains("## Kills") && markdown.contains("disconnected_by_operator"), "{markdown}");

    // A record that was changed is reported on, and the status says so.
    let text = std::fs::read_to_string(&file).expect("the export");
    std::fs::write(&file, text.replacen("\"session_ended\"", "\"session_failed\"", 1)).expect("may be written");
    let changed = offline("markdown");
    assert!(
        changed.code == 1 && changed.out.contains("NOT WHOLE") && changed.out.contains("was changed"),
        "{changed:?}"
    );
    for (args, what) in [
        (vec!["--month", "2026-13"], "--month"),
        (vec!["--month", "2999-01"], "has not begun yet"),
        (vec!["--month", &month, "--out", &file], "is there already"),
        (vec!["--month", &month, &store(dir.path())], "is a store"),
    ] {
        let said = server.ravelin(&[&["report"], args.as_slice()].concat());
        assert!(said.code == 2 && said.err.contains(what), "{args:?}: {said:?}");
    }
    let said: Value = server.ravelin(&["report", "--month", &month, "--query", "sessions.ended"]).json();
    assert_eq!(said, 2);
}

fn store(dir: &Path) -> String {
    dir.join("ravelin.db").display().to_string()
}
