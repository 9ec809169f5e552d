//! Garbage, floods and impatience at the doors: the service goes on for everybody else.

use ravelin_e2e::{Server, http, http_get, need, run};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

fn ssh_address(server: &Server) -> SocketAddr {
    let port = server.var("RAVELIN_SSH_PORT").parse().expect("a port");
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn http_address(server: &Server) -> SocketAddr {
    let url = server.var("RAVELIN_HTTP_URL");
    let authority = url.trim_start_matches("http://").trim_end_matches('/');
    authority.replace("localhost", "127.0.0.1").parse().expect("an address in RAVELIN_HTTP_URL")
}

#[test]
fn garbage_and_hundreds_of_half_open_connections_leave_ssh_usable() {
    let ssh = need!("E2E_SSH");
    let server = Server::dev();
    let address = ssh_address(&server);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 4096], &[0xff; 65_536], b"SSH-2.0-x\r\n\xff\xff\xff\xff\xff"] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let _closed_early = stream.write_all(garbage);
        let _whatever = stream.read(&mut [0; 1024]);
    }
    let half_open: Vec<_> = (0..300).filter_map(|_| TcpStream::connect(address).ok()).collect();
    assert!(half_open.len() > 200);
    let said = run(&mut server.ssh(&ssh, &[&server.destination(), "echo alive"]));
    assert_eq!(said.ok(), "alive\n");
    drop(half_open);
}

#[test]
fn no_door_of_http_answers_a_stranger_or_falls_over() {
    let server = Server::dev();
    let address = http_address(&server);
    assert!(http_get(address, "/healthz").expect("an answer").starts_with("HTTP/1.1 200"));
    assert!(http_get(address, "/readyz").expect("an answer").starts_with("HTTP/1.1 200"));
    for path in ["/api/v1/sessions", "/api/v1/events", "/api/v1/targets", "/api/v1/credentials"] {
        let answer = http_get(address, path).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 401"), "{path}: {answer}");
    }
    let bodies = ["", "{", "[]", "null", "\u{0}", &"[".repeat(100_000), &"9".repeat(2_000_000)];
    let requests = [
        ("POST /", "X-Amz-Target: AmazonSSM.DescribeSessions\r\nContent-Type: application/x-amz-json-1.1\r\n"),
        ("POST /", "X-Amz-Target: AmazonSSM.\r\n"),
        ("POST /subscriptions/x/resourceGroups/y/providers/Microsoft.Network/bastionHosts/z/getActiveSessions", ""),
        ("POST /api/v1/sessions/terminate", "Content-Type: application/json\r\n"),
        ("POST /tenant/oauth2/v2.0/token", "Content-Type: application/x-www-form-urlencoded\r\n"),
        ("DELETE /", ""),
        ("PUT /no/such/thing", ""),
    ];
    for (line, headers) in requests {
        for body in bodies {
            let request = format!(
                "{line} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let Some(answer) = http(address, &request) else { continue };
            let status = answer.split(' ').nth(1).unwrap_or("");
            assert!(status.starts_with('4') || answer.is_empty(), "{line} with {} bytes: {answer}", body.len());
        }
    }
    assert!(http_get(address, "/healthz").expect("an answer").starts_with("HTTP/1.1 200"));
}

#[test]
fn nothing_that_was_shown_or_logged_holds_a_secret() {
    let server = Server::dev();
    let shown = [
        server.ravelin(&["sessions", "ls", "-o", "json"]).ok(),
        server.ravelin(&["credentials", "ls", "-o", "json"]).ok(),
        server.ravelin(&["targets", "ls", "-o", "json"]).ok(),
        server.log(),
    ]
    .join("\n");
    for name in ["RAVELIN_TOKEN", "AWS_SECRET_ACCESS_KEY", "AZURE_CLIENT_SECRET"] {
        assert!(!shown.contains(server.var(name)), "{name} was shown");
    }
}

#[test]
fn a_hundred_megabytes_are_refused_and_not_held() {
    let curl = need!("E2E_CURL");
    let server = Server::dev();
    let token = super::powershell::arm_token(&server);
    let file = server.dir.join("huge");
    std::fs::File::create(&file).and_then(|file| file.set_len(100_000_000)).expect("a file of holes");
    let peak_kib = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("a running process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let [subscription, group, name] =
        ["AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_BASTION_NAME"].map(|v| server.var(v));
    let url = format!(
        "{}/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network/bastionHosts/{name}\
         /disconnectActiveSessions?api-version=2024-05-01",
        server.var("RAVELIN_ARM_URL")
    );
    let before = peak_kib();
    // Announced and sent at once, without a word about its size, and announced and waited with.
    for header in ["Expect:", "Transfer-Encoding: chunked", "Expect: 100-continue"] {
        for (bearer, status) in [(token.as_str(), "413"), ("nobody", "401")] {
            let mut command = server.command(&curl);
            // HTTP/2 has neither of the headers, and this curl loses an answer that comes with the reset of its stream.
            command.args(["-sS", "--http1.1", "--cacert", server.var("SSL_CERT_FILE"), "-X", "POST"]);
            command.args(["-w", "%{http_code}", "-o"]);
            command.arg(server.dir.join("answer")).args([
                "-H",
                header,
                "-H",
                &format!("Authorization: Bearer {bearer}"),
            ]);
            command.arg("-T").arg(&file).arg(&url);
            let said = run(&mut command);
            // Who waits is told, and so is who sends all the same.
            assert!(said.out.ends_with(status), "{header}, {status}: {said:?}");
        }
    }
    let answer = std::fs::read_to_string(server.dir.join("answer")).expect("an answer");
    assert!(answer.contains("InvalidAuthenticationToken"), "{answer}");
    let grown = peak_kib() - before;
    assert!(grown < 48 * 1024, "it held {grown} KiB of it");
    assert!(server.live().is_empty());
}
