//! `ravelin bastion` against the real binary: the control API's verbs, their exit statuses, and what they say.

use ravelin_e2e::{Running, Said, Server, binary, eventually, need, run, run_with};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

fn refused(said: Said, code: i32, text: &str) {
    assert_eq!(said.code, code, "stdout: {}\nstderr: {}", said.out, said.err);
    assert!(said.err.contains(text), "{}", said.err);
}

#[test]
fn it_lists_shows_and_ends() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let name = server.var("AZURE_BASTION_NAME");
    assert!(server.ravelin(&["bastion", "list"]).ok().contains(name));
    assert!(server.ravelin(&["bastion", "show"]).ok().contains("Succeeded"));
    let shown = server.ravelin(&["bastion", "show", "-o", "json"]).json();
    assert_eq!(shown["properties"]["provisioningState"], "Succeeded");
    assert_eq!(server.ravelin(&["bastion", "get-active-sessions"]).ok(), "no active session\n");

    let (mut session, id) = server.session_by_ssh(&ssh);
    let list = server.ravelin(&["bastion", "get-active-sessions", "-o", "json"]).json();
    assert_eq!((list[0]["sessionId"].as_str(), list[0]["userName"].as_str()), (Some(id.as_str()), Some("alice")));
    let picked = server.ravelin(&["bastion", "sessions", "--query", "[].targetHostName", "-o", "text"]).ok();
    assert_eq!(picked.trim(), server.var("RAVELIN_TARGET"));

    let dry = server.ravelin(&["bastion", "disconnect-active-sessions", "--user", "alice", "--dry-run"]).ok();
    assert!(dry.contains(&id), "{dry}");
    refused(server.ravelin(&["bastion", "disconnect-active-sessions", "--all"]), 2, "nobody is there to be asked");
    assert_eq!(server.live().len(), 1, "nothing was ended so far");
    let unknown = "alice-0aaaaaaaaaaaaaaaa";
    let both = server.ravelin(&["bastion", "disconnect-active-sessions", "--session-ids", &id, unknown, "-o", "json"]);
    assert_eq!(both.code, 3, "{}", both.err);
    let states: serde_json::Value = serde_json::from_str(&both.out).expect("JSON");
    assert_eq!((states[0]["state"].as_str(), states[1]["state"].as_str()), (Some("Disconnected"), Some("NotFound")));
    session.wait();
    assert!(server.live().is_empty());
}

#[test]
fn what_is_wrong_is_said() {
    let server = Server::dev();
    refused(server.ravelin(&["bastion", "show", "-n", "nope"]), 1, "ResourceNotFound");
    refused(server.ravelin(&["bastion", "show", "--endpoint", "http://bastion:8080"]), 2, "must start with https://");
    refused(server.ravelin(&["bastion", "list", "--api-version", "tomorrow"]), 1, "InvalidApiVersionParameter");
    refused(server.ravelin(&["bastion", "list", "--auth", "token"]), 4, "AZURE_ACCESS_TOKEN is not set");
    let run = |variable: &str, value: Option<&str>| {
        let mut command = server.command(ravelin_e2e::binary());
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
        ravelin_e2e::run(command.args(["bastion", "get-active-sessions"]))
    };
    let wrong = run("AZURE_CLIENT_SECRET", Some("wrong"));
    assert!(!wrong.err.contains("troubleshoot"), "{}", wrong.err);
    refused(wrong, 4, "AADSTS7000215");
    refused(run("AZURE_ACCESS_TOKEN", Some("not-a-token")), 4, "InvalidAuthenticationToken");
    refused(run("AZURE_RESOURCE_GROUP", None), 2, "give -g or set AZURE_RESOURCE_GROUP");
    refused(run("SSL_CERT_FILE", None), 4, "the certificate of the token endpoint is not trusted");
}

/// Options of an ssh that comes to the demo target through a tunnel: the same key, but the target's own host key, which
/// is not in the bastion's list.
fn options(server: &Server) -> Vec<String> {
    let known = format!("UserKnownHostsFile={}", server.dir.join("tunnel_known_hosts").display());
    let options = ["-F", "none", "-o", &known, "-o", "StrictHostKeyChecking=accept-new", "-o", "BatchMode=yes"];
    options.map(str::to_owned).to_vec()
}

fn demo_port(server: &Server) -> String {
    server.ravelin(&["targets", "show", server.var("RAVELIN_TARGET"), "-o", "json"]).json()["port"].to_string()
}

#[test]
fn ssh_goes_through_a_tunnel_on_standard_input_and_output() {
    let ssh: std::path::PathBuf = need!("E2E_SSH");
    let server = Server::dev();
    let (ours, target, port) = (binary(), server.var("RAVELIN_TARGET"), demo_port(&server));
    let login = run(Command::new("id").arg("-un")).ok().trim().to_owned();
    let (key, proxy) = (server.var("RAVELIN_SSH_KEY"), proxy_command(&ours));
    // More than any buffer holds, both ways.
    let bulk = "x".repeat(3_000_000);
    let mut command = server.command(&ssh);
    command.args(options(&server)).args(["-i", key, "-o", &proxy, "-p", &port, "-l", &login, target, "cat; echo done"]);
    let said = run_with(&mut command, bulk.as_bytes());
    assert!(said.out == format!("{bulk}done\n"), "{} bytes came back; {}", said.out.len(), said.err);
    let session = eventually("the session's end", || server.history().into_iter().next());
    assert_eq!(session["kind"], "tunnel");
    // ssh says goodbye to the target before it closes, and either may be the faster to close then.
    assert!(matches!(session["end_reason"].as_str(), Some("client_closed" | "target_closed")), "{session}");
    assert!(session["bytes_in"].as_u64() > Some(3_000_000), "{session}");

    // The same with the ssh that ravelin starts.
    let mut command = server.command(&ours);
    command.args(["bastion", "ssh", "--target-resource-id", target, "--resource-port", &port, "--username", &login]);
    command.args(["--ssh-key", key, "--"]).args(options(&server)).arg("echo hello");
    let said = run(&mut command);
    assert_eq!((said.code, said.out.as_str()), (0, "hello\n"), "{}", said.err);
}

fn proxy_command(ours: &Path) -> String {
    format!("ProxyCommand={} bastion tunnel --stdio --target-resource-id %h --resource-port %p", ours.display())
}

#[test]
fn a_local_port_takes_many_connections_and_says_why_one_was_cut() {
    let server = Server::dev();
    let mut command = server.command(binary());
    command.args(["bastion", "tunnel", "--target-resource-id", server.var("RAVELIN_TARGET")]);
    let mut tunnel = Running::start(command.args(["--resource-port", &demo_port(&server)]));
    tunnel.expect("Ctrl-C ends it");
    let printed = tunnel.printed();
    let local = printed.split("listening on ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an address");
    let connect = || {
        let mut stream = TcpStream::connect(local).expect("a local port");
        stream.set_read_timeout(Some(ravelin_e2e::PATIENCE)).expect("a socket");
        let mut banner = [0; 8];
        stream.read_exact(&mut banner).expect("the target's version");
        assert_eq!(&banner, b"SSH-2.0-");
        stream
    };
    let streams = [connect(), connect(), connect()];
    let ids: Vec<String> = server.live().iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(ids.len(), 3, "one session for each connection");

    let outcome = server.ravelin(&["sessions", "kill", &ids[0], "--reason", "rotating keys", "-o", "json"]).json();
    assert_eq!(outcome[0]["outcome"], "ended", "{outcome}");
    tunnel.expect("disconnected by alice: rotating keys");
    assert_eq!(server.live().len(), 2, "its siblings live on");
    drop(connect());
    // A connection that was cut is at its end; the others wait for this side to speak.
    let ended = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(std::time::Duration::from_millis(300))).expect("a socket");
        let mut rest = [0; 4096];
        loop {
            match stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    };
    assert_eq!(streams.into_iter().map(ended).filter(|ended| *ended).count(), 1);
    eventually("all of them end", || server.live().is_empty().then_some(()));
    ravelin_e2e::kill(tunnel.pid(), "INT");
    assert_eq!(tunnel.wait(), 0);
}

#[test]
fn a_tunnel_on_standard_input_that_is_cut_ends_at_once_and_says_why() {
    let server = Server::dev();
    let mut command = server.command(binary());
    command.args(["bastion", "tunnel", "--stdio", "--target-resource-id", server.var("RAVELIN_TARGET")]);
    let mut tunnel = Running::start(command.args(["--resource-port", &demo_port(&server)]));
    tunnel.expect("SSH-2.0-");
    let id = server.live()[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(server.ravelin(&["sessions", "kill", &id, "--reason", "rotating keys"]).code, 0);
    // Nobody types anything, and its standard input stays open.
    assert_eq!(tunnel.wait(), 1, "a cut is no success");
    assert!(tunnel.printed().contains("disconnected by alice: rotating keys"), "{}", tunnel.printed());
}

/// A control API that gives one answer to each path's last part; `base` in it stands for its address.
fn control_api(answers: &'static [(&'static str, &'static str)]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut asked = String::new();
            // A body that is not read breaks the connection before the answer is.
            while !is_whole(&asked) {
                let mut piece = [0; 4096];
                match stream.read(&mut piece).expect("a request") {
                    0 => break,
                    n => asked.push_str(&String::from_utf8_lossy(&piece[..n])),
                }
            }
            let path = asked.split([' ', '?']).nth(1).unwrap_or_default();
            let found = answers.iter().find(|(last, _)| path.ends_with(last));
            let (status, body) = found.map_or((404, "{}"), |(_, body)| (200, *body));
            let head = format!("HTTP/1.1 {status} Fine\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _gone = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    base
}

/// Whether a request is there with its body.
fn is_whole(request: &str) -> bool {
    let Some((head, body)) = request.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// `ravelin bastion` with the host `b` of that control API.
fn bastion(endpoint: &str, args: &[&str]) -> Said {
    let mut command = Command::new(binary());
    command.env("AZURE_ACCESS_TOKEN", "t").env("AZURE_BASTION_NAME", "b").arg("bastion").args(args);
    run(command.args(["--endpoint", endpoint, "--subscription", "s", "-g", "g"]))
}

#[test]
fn a_data_plane_that_does_not_answer_is_named_and_not_the_control_api() {
    // The port of that name is never somebody's.
    let endpoint = control_api(&[("/b", r#"{"properties":{"dnsName":"127.0.0.1:1","enableTunneling":true}}"#)]);
    let said = bastion(&endpoint, &["tunnel", "--stdio", "--target-resource-id", "vm"]);
    assert!(!said.err.contains(&endpoint) && !said.err.contains("--endpoint"), "{}", said.err);
    refused(said, 5, "nothing answers at http://127.0.0.1:1/");
}

#[test]
fn a_session_that_ended_by_itself_is_as_good_as_ended() {
    let endpoint = control_api(&[
        ("/getActiveSessions", r#"{"value":[{"sessionId":"x1","userName":"alice"}]}"#),
        ("/disconnectActiveSessions", r#"{"value":[{"sessionId":"x1","state":"NotFound","message":"not found!"}]}"#),
    ]);
    let by_list = bastion(&endpoint, &["disconnect-active-sessions", "--user", "alice", "--yes"]);
    assert_eq!(by_list.code, 0, "it is gone: {}", by_list.err);
    // What a script puts in the place of the ids may be nothing, when nobody is connected.
    assert_eq!(bastion(&endpoint, &["disconnect-active-sessions", "--session-ids"]).ok(), "no session\n");
    refused(bastion(&endpoint, &["disconnect-active-sessions"]), 2, "--session-ids");
    // An id that somebody typed may be a wrong one.
    refused(bastion(&endpoint, &["disconnect-active-sessions", "x1"]), 3, "1 of 1 not disconnected");
}

#[test]
fn a_machines_name_is_no_option_of_sshs() {
    let endpoint = control_api(&[]);
    for name in ["/subscriptions/s/-oProxyCommand=id", "-x", "///"] {
        let said = bastion(&endpoint, &["ssh", &format!("--target-resource-id={name}")]);
        assert_eq!(said.code, 2, "{name}: {}", said.err);
    }
}
