//! Bad configuration: everything that is wrong is said at once, with the place and the fix.

use ravelin_e2e::{Server, binary, free_port, run};
use std::net::TcpListener;
use std::process::Command;

fn check(text: &str) -> ravelin_e2e::Said {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("ravelin.toml");
    std::fs::write(&file, text.replace("DIR", &dir.path().display().to_string())).expect("a file");
    run(Command::new(binary()).args(["check", "-c"]).arg(&file))
}

#[test]
fn all_faults_are_reported_at_once_with_line_key_and_fix() {
    let said = check(
        r#"
[node]
state_dir = "DIR/state"
[listen]
ssh = "127.0.0.1:0"
http = "0.0.0.0:8080"
colour = "red"
[limits]
idle = 600
[[principal]]
name = "alice"
ssh_keys = ["ssh-ed25519 not-a-key"]
[[principal]]
name = "alice"
[[target]]
name = "web-1"
address = "10.0.0.5"
logins = [{ name = "root", key_file = "DIR/missing" }]
"#,
    );
    assert_eq!(said.code, 1, "{said:?}");
    let all = format!("{}{}", said.out, said.err);
    for wanted in ["colour", "ravelin.toml:7", "idle", "ssh_keys", "alice", "host_keys", "missing"] {
        assert!(all.contains(wanted), "{wanted:?} is not reported in:\n{all}");
    }
}

#[test]
fn a_port_in_use_names_the_listener_and_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut dev = Command::new(binary());
    dev.args(["dev", "--ssh", &address, "--https", "127.0.0.1:0", "--http", "127.0.0.1:0", "--state-dir"]);
    let said = run(dev.arg(dir.path()));
    assert_ne!(said.code, 0);
    assert!(said.err.contains(&address) && said.err.contains("ssh"), "{said:?}");
    assert!(!dir.path().join("dev.env").exists(), "dev.env is written only when ready to serve");
}

#[test]
fn dev_binds_loopback_only() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let said = run(Command::new(binary()).args(["dev", "--ssh", "0.0.0.0:0", "--state-dir"]).arg(dir.path()));
    assert_ne!(said.code, 0);
    assert!(said.err.contains("loopback"), "{said:?}");
}

#[test]
fn the_default_ports_are_the_documented_ones() {
    let said = run(Command::new(binary()).args(["dev", "--help"])).ok();
    for address in ["127.0.0.1:2222", "127.0.0.1:8443", "127.0.0.1:8080"] {
        assert!(said.contains(address), "{said}");
    }
}

#[test]
fn clients_say_what_to_do_when_nobody_answers_or_the_token_is_wrong() {
    let server = Server::dev();
    let mut nobody = server.command(binary());
    let nobody = run(nobody.env("RAVELIN_URL", format!("https://127.0.0.1:{}", free_port())).args(["sessions", "ls"]));
    assert_eq!(nobody.code, 5, "{nobody:?}");
    let mut wrong = server.command(binary());
    let wrong = run(wrong.env("RAVELIN_TOKEN", "rvl_0000000000000000_x").args(["sessions", "ls"]));
    assert_eq!(wrong.code, 4, "{wrong:?}");
    assert!(wrong.err.contains("RAVELIN_TOKEN"), "{wrong:?}");
}

#[test]
fn a_revoked_credential_stops_working() {
    let server = Server::dev();
    let issued =
        server.ravelin(&["credentials", "issue", "--principal", "alice", "--kind", "token", "-o", "json"]).json();
    let token = issued["secret"].as_str().or_else(|| issued["token"].as_str()).expect("the secret, once");
    let id = issued["id"].as_str().or_else(|| issued["credential"]["id"].as_str()).expect("an id");
    let who = |server: &Server| run(server.command(binary()).env("RAVELIN_TOKEN", token).args(["whoami"]));
    assert_eq!(who(&server).code, 0);
    assert_eq!(server.ravelin(&["credentials", "revoke", id]).code, 0);
    assert_eq!(who(&server).code, 4);
    let listed = server.ravelin(&["credentials", "ls", "-o", "json"]).ok();
    assert!(!listed.contains(token), "a list shows no secret");
}
