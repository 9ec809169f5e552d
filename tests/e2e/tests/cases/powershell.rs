//! PowerShell's requests, byte for byte from files, because PowerShell itself cannot be had here.
//!
//! Source of the files: the module in `clients/powershell`, and the requests that PowerShell 7.4 and Az.Accounts 3
//! document for the lines in `docs/howto/powershell.md`. Words in braces stand for what differs from run to run.

use ravelin_e2e::{PATIENCE, Server, need};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

const MODULE: &str = include_str!("../../../../clients/powershell/Ravelin/Ravelin.psm1");

/// Sends a golden request; the answer's status and body.
fn send(server: &Server, golden: &str, words: &[(&str, &str)]) -> (u16, Value) {
    let address: SocketAddr =
        server.var("RAVELIN_HTTP_URL").trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
    let mut request = golden.replace("{HOST}", &address.to_string());
    for (word, value) in words {
        request = request.replace(&format!("{{{word}}}"), value);
    }
    let body = request.split_once("\r\n\r\n").expect("a head").1.len();
    request = request.replace("{LENGTH}", &body.to_string());
    let mut stream = TcpStream::connect(address).expect("the HTTP listener");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let n = stream.read(&mut chunk).expect("an answer");
        answer.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let length: usize = length.expect("a length").parse().expect("a number");
            if body.len() >= length || n == 0 {
                let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
                return (status, serde_json::from_str(body).unwrap_or(Value::Null));
            }
        }
        assert_ne!(n, 0, "the answer ended early: {text}");
    }
}

fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// A token for the control API, asked for as PowerShell asks.
pub(super) fn arm_token(server: &Server) -> String {
    let secret = encoded(server.var("AZURE_CLIENT_SECRET"));
    let words =
        [("TENANT", server.var("AZURE_TENANT_ID")), ("CLIENT", server.var("AZURE_CLIENT_ID")), ("SECRET", &secret)];
    let (status, answer) = send(server, include_str!("../../golden/powershell/arm_token.http"), &words);
    assert_eq!(status, 200, "{answer}");
    answer["access_token"].as_str().expect("a token").to_owned()
}

fn bastion(server: &Server) -> String {
    let [subscription, group, name] =
        ["AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_BASTION_NAME"].map(|v| server.var(v));
    format!("/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network/bastionHosts/{name}")
}

#[test]
fn the_module_lists_shows_and_ends() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let token = server.var("RAVELIN_TOKEN");
    let (status, none) = send(&server, include_str!("../../golden/powershell/get_sessions.http"), &[("TOKEN", token)]);
    assert_eq!((status, none["items"].as_array().map(Vec::len)), (200, Some(0)), "{none}");

    let (mut session, live) = server.session_by_ssh(&ssh);
    let of_user = include_str!("../../golden/powershell/get_sessions_of_a_user.http");
    let (status, list) = send(&server, of_user, &[("TOKEN", token)]);
    assert_eq!((status, list["items"].as_array().map(Vec::len)), (200, Some(1)), "{list}");
    let id = list["items"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(id, live);

    let words = [("TOKEN", token), ("SESSION", id.as_str())];
    let (status, one) = send(&server, include_str!("../../golden/powershell/get_one_session.http"), &words);
    assert_eq!(
        (status, one["id"].as_str(), one["principal"].as_str()),
        (200, Some(id.as_str()), Some("alice")),
        "{one}"
    );

    let stop = include_str!("../../golden/powershell/stop_session.http");
    let (status, outcomes) = send(&server, stop, &words);
    let outcome = &outcomes["items"][0];
    assert_eq!((status, outcome["outcome"].as_str()), (200, Some("ended")), "{outcomes}");
    assert!(outcome["closed_at"].is_string(), "{outcome}");
    // What is not there is an outcome too, and no error.
    let (status, outcomes) = send(&server, stop, &[("TOKEN", token), ("SESSION", "alice-0aaaaaaaaaaaaaaaa")]);
    assert_eq!((status, outcomes["items"][0]["outcome"].as_str()), (200, Some("not_found")), "{outcomes}");
    session.wait();
    assert!(session.printed().contains("disconnected by alice: rotating keys"), "{}", session.printed());

    let words = [("TOKEN", token), ("TARGET", server.var("RAVELIN_TARGET"))];
    let (status, history) = send(&server, include_str!("../../golden/powershell/get_history.http"), &words);
    assert_eq!((status, history["items"][0]["id"].as_str()), (200, Some(id.as_str())), "{history}");
}

#[test]
fn the_articles_calls_list_and_end() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let (mut session, id) = server.session_by_ssh(&ssh);
    let (token, bastion) = (arm_token(&server), bastion(&server));
    let words = [("ARM_TOKEN", token.as_str()), ("BASTION", bastion.as_str()), ("SESSION", id.as_str())];
    for golden in [
        include_str!("../../golden/powershell/arm_get_active_sessions.http"),
        include_str!("../../golden/powershell/az_get_active_sessions.http"),
    ] {
        let (status, list) = send(&server, golden, &words);
        assert_eq!((status, list["value"][0]["sessionId"].as_str()), (200, Some(id.as_str())), "{list}");
    }
    let golden = include_str!("../../golden/powershell/az_disconnect_active_sessions.http");
    let (status, states) = send(&server, golden, &words);
    assert_eq!((status, states["value"][0]["state"].as_str()), (200, Some("Disconnected")), "{states}");
    session.wait();
    assert!(server.live().is_empty());
    // Whoever helps a caller finds what the caller's own log calls the request.
    assert!(server.log().contains("5f0cbb54-2f4c-4f57-9f6e-0f4b8c1d2e3f"), "{}", server.log());
}

#[test]
fn the_files_are_what_the_module_sends() {
    // Each request line of the files is a template of the module, filled in.
    for (template, file) in [
        ("'{0}/sessions/{1}' -f", include_str!("../../golden/powershell/get_one_session.http")),
        ("'{0}/sessions?{1}' -f", include_str!("../../golden/powershell/get_sessions.http")),
        ("'{0}/sessions/terminate' -f", include_str!("../../golden/powershell/stop_session.http")),
    ] {
        assert!(MODULE.contains(template), "the module no longer builds {template}");
        let path = template.split('\'').nth(1).expect("quoted").replace("{0}", "/api/v1").replace("{1}", "");
        let fixed = path.split("//").next().expect("a beginning");
        assert!(file.split(' ').nth(1).expect("a path").starts_with(fixed), "{template}: {file}");
    }
    for word in [
        "'state=live'",
        "'state=ended'",
        "'principal='",
        "'target='",
        "'limit=500'",
        "ids = @($Id); wait_ms =",
        "'application/json'",
    ] {
        assert!(MODULE.contains(word), "the module no longer says {word}");
    }
}
