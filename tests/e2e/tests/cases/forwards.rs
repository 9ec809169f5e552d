//! Port forwarding of every kind under the stock aws CLI, with ours in the plugin's place.

use super::plugin::{Bed, FILE_BYTES};
use ravelin_e2e::carry::{echo, echo_at, noise, there_and_back};
use ravelin_e2e::{Running, eventually, free_port, need, run};
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

/// A session that listens, once it does.
fn listening(bed: &Bed, aws: &Path, document: &str, parameters: &str) -> Running {
    let mut session = Running::start(&mut bed.aws(aws, &["--document-name", document, "--parameters", parameters]));
    session.expect("Waiting for connections...");
    session
}

/// The same, and the port on which it listens.
fn forward(bed: &Bed, aws: &Path, document: &str, parameters: &str) -> (Running, u16) {
    forward_by(&mut bed.aws(aws, &["--document-name", document, "--parameters", parameters]))
}

/// The same by a command that may have more to it.
pub(super) fn forward_by(command: &mut Command) -> (Running, u16) {
    let mut session = Running::start(command);
    session.expect("Waiting for connections...");
    let printed = session.printed();
    let port = printed.split("Port ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a port");
    (session, port.parse().expect("a number"))
}

/// Ctrl-C is how a forwarding session ends.
pub(super) fn interrupt(bed: &Bed, mut session: Running) {
    ravelin_e2e::kill(session.pid(), "INT");
    let plugin = eventually("the plugin's process", || child_of(session.pid()));
    ravelin_e2e::kill(plugin, "INT");
    assert_eq!(session.wait(), 0, "{}", session.printed());
    eventually("the session is over", || bed.server.live().is_empty().then_some(()));
}

/// The one child of a process.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

#[test]
fn a_port_is_forwarded_with_every_byte_for_many_connections_at_once() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let far = echo();
    let (session, port) = forward(&bed, &aws, "AWS-StartPortForwardingSession", &format!("portNumber={far}"));
    let connect = || TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    there_and_back(connect(), &noise(FILE_BYTES));
    let small = noise(300_000);
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| there_and_back(connect(), &small));
        }
    });
    interrupt(&bed, session);
}

#[test]
fn a_host_behind_the_target_is_reached_with_every_byte_and_metadata_services_never() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let document = "AWS-StartPortForwardingSessionToRemoteHost";
    for host in [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "169.16689662",
        "0251.0376.0251.0376",
        "fd00:ec2::254",
        "fd00:ec2::254%1",
        "::ffff:169.254.169.254",
        "169.254.170.2",
        "metadata.google.internal",
        "Instance-Data.",
    ] {
        let parameters = format!("host={host},portNumber=80");
        let said = run(&mut bed.aws(&aws, &["--document-name", document, "--parameters", &parameters]));
        assert_eq!(said.code, 255, "{host}: {said:?}");
        assert!(said.err.contains("(BadRequest)") && said.err.contains(host), "{host}: {said:?}");
    }
    assert!(bed.server.live().is_empty() && bed.server.history().is_empty(), "what is denied begins no session");
    let far = echo();
    let (session, port) = forward(&bed, &aws, document, &format!("host=localhost,portNumber={far}"));
    let live = bed.server.one_live("connected");
    assert_eq!((&live["kind"], &live["document"]), (&"tunnel".into(), &document.into()), "{live}");
    there_and_back(TcpStream::connect(("127.0.0.1", port)).expect("it listens"), &noise(FILE_BYTES));
    interrupt(&bed, session);
}

#[test]
fn sockets_on_either_side_carry_every_byte() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let data = noise(FILE_BYTES);

    let far = echo();
    let parameters = format!("portNumber={far},localSocket={}", path("near").display());
    let session = listening(&bed, &aws, "AWS-StartPortForwardingSessionToSocket", &parameters);
    there_and_back(UnixStream::connect(path("near")).expect("it listens"), &data);
    interrupt(&bed, session);
    assert!(!path("near").exists(), "a socket of a session that is over is gone");

    echo_at(&path("far"));
    let parameters = format!("socket={}", path("far").display());
    let (session, port) = forward(&bed, &aws, "Ravelin-StartPortForwardingSessionToRemoteSocket", &parameters);
    there_and_back(TcpStream::connect(("127.0.0.1", port)).expect("it listens"), &data);
    interrupt(&bed, session);
}

#[test]
fn a_port_that_nobody_listens_on_is_told_of_and_the_session_goes_on() {
    let aws = need!("E2E_AWS");
    let bed = Bed::new();
    let nobody = free_port();
    let (mut session, port) = forward(&bed, &aws, "AWS-StartPortForwardingSession", &format!("portNumber={nobody}"));
    for _ in 0..2 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    session.expect("Connection to destination port failed");
}
