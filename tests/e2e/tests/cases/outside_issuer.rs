//! Bearer tokens of an outside issuer with real keys, before `ravelin serve`: who they are taken for, and what is refused.

use ravelin_e2e::{Server, binary, free_port, need, run, run_within};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;

const TENANT: &str = "6d0f2b6e-9f52-4c2e-8c0a-0a4b6a1f3c55";
const SUBSCRIPTION: &str = "0b1f6471-1bf0-4dda-aec3-cb9272f09590";

#[test]
fn an_outside_issuers_tokens_are_its_people_and_forgeries_are_nobody() {
    let python = need!("E2E_PYTHON");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (http, issuer) = (free_port(), free_port());
    let file = dir.path().join("ravelin.toml");
    let config = format!(
        r#"
node.state_dir = "state"
listen.http = "127.0.0.1:{http}"
[azure]
tenant = "{TENANT}"
subscription = "{SUBSCRIPTION}"
resource_group = "rg1"
bastion_name = "bastion"
[[azure.issuer]]
issuer = "http://127.0.0.1:{issuer}/tenant/v2.0"
audiences = ["api://ravelin"]
claim = "upn"
[azure.issuer.principals]
"alice@example.org" = "alice"
"bob@example.org" = "bob"
"carol@example.org" = "carol"
[[principal]]
name = "alice"
groups = ["operators"]
[[principal]]
name = "bob"
"#
    );
    std::fs::write(&file, config).expect("may be written");
    let server = Server::serve(&file, dir.path(), format!("127.0.0.1:{http}").parse().expect("an address"));

    let host =
        format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network/bastionHosts/bastion");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/outside_issuer.py");
    let mut command = Command::new(&python);
    command.args([script, &issuer.to_string(), &format!("http://127.0.0.1:{http}"), &host]);
    let mut out = run_within(&mut command, Duration::from_secs(180)).json();
    let mut take = |what: &str| out.as_object_mut().expect("an object").remove(what).unwrap_or_default();

    let fine = json!([200, null, null]);
    for what in ["rs256", "es256", "one audience of several", "the operator"] {
        assert_eq!(take(what), fine, "{what}");
    }
    assert_eq!(take("the other"), json!([403, "AuthorizationFailed", "bob"]));
    for what in ["the new key", "the old key, still published", "still good"] {
        assert_eq!(take(what), fine, "{what}");
    }
    // One fetch when the first token came; the unknown keys of forgers, all within half a minute, were not worth another.
    let until = take("fetches until then");
    assert!(until["keys"].as_u64().is_some_and(|count| (1..=2).contains(&count)), "{until}");
    let end = take("fetches in the end");
    assert!(end["keys"].as_u64() <= until["keys"].as_u64().map(|count| count + 1), "{until}, then {end}");
    assert_eq!(take("asked elsewhere"), json!([]), "no address of a token is followed");
    assert_eq!(take("expired"), json!([401, "ExpiredAuthenticationToken", null]));
    for what in ["another audience", "no audience"] {
        let said = take(what);
        assert_eq!(said[0], 401, "{what}: {said}");
    }
    // Everything that is left is a forgery, or somebody who is nobody here.
    let left = out.as_object().expect("an object");
    assert!(left.len() >= 24, "{left:?}");
    for (what, said) in left {
        let code = said[1].as_str().unwrap_or_default();
        assert_eq!(said[0], 401, "{what}: {said}");
        assert!(code.starts_with("InvalidAuthenticationToken"), "{what}: {said}");
    }

    // Who came is on record, also who came for nothing; no token is, and none is in the log.
    let export = |arguments: &[&str]| {
        let bootstrap = ["credentials", "bootstrap", "--principal", "alice", "-c"];
        let token = run(Command::new(binary()).args(bootstrap).arg(&file)).ok();
        let mut command = Command::new(binary());
        command.env("RAVELIN_URL", format!("http://127.0.0.1:{http}"));
        command.env("RAVELIN_TOKEN", token.trim().trim_start_matches("RAVELIN_TOKEN=")).args(arguments);
        run(&mut command).ok()
    };
    let record = export(&["audit", "export"]);
    let refused = record.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let refused = refused.filter(|line| line.to_string().contains("login_refused")).count();
    assert!(refused >= 1, "{record}");
    for text in [record, server.log()] {
        assert!(!text.contains("eyJ"), "a token is in it");
    }
}
