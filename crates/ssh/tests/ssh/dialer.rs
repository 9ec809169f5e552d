//! Going out for an edge that is not SSH: what it can open on a target, and what the row tells of it.

use crate::support::{Bastion, LIMIT};
use ravelin_engine::egress::{NotOpened, Opening, Terminal};
use ravelin_engine::gate::{Admission, Ask};
use ravelin_engine::leg::Absent;
use ravelin_engine::relay::{Sink, Source, Unit};
use ravelin_model::policy::Action;
use ravelin_model::session::{EndReason, Kind, State};
use ravelin_ssh::Dialer;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const DIALER: Dialer = Dialer { keepalive_interval: Duration::from_secs(30) };

async fn admit(bastion: &Bastion) -> Admission {
    let caller = bastion.operator().await;
    let target = bastion.engine.gate.find(&caller, "web-1").expect("a target");
    let login = target.logins.first().map(|way| way.login.clone());
    let ask = Ask {
        target,
        login,
        kind: Kind::Tunnel,
        document: None,
        reason: None,
        logs: Vec::new(),
        client: Arc::new(Absent),
    };
    bastion.engine.gate.admit(&caller, ask).await.expect("admitted")
}

/// Everything until the source ends: both streams and the exit status.
async fn read_out(source: &mut impl Source) -> (String, String, Option<u32>) {
    let (mut out, mut error, mut status) = (Vec::new(), Vec::new(), None);
    let reading = async {
        while let Some(unit) = source.next().await {
            match unit {
                Unit::Data(bytes) => out.extend_from_slice(&bytes),
                Unit::ErrorData(bytes) => error.extend_from_slice(&bytes),
                Unit::Exit(code) => status = Some(code),
                Unit::Eof | Unit::Resize { .. } | Unit::Signal(_) | Unit::ExitSignal { .. } => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("it ends");
    (String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&error).into_owned(), status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_keep_their_streams_apart_and_shells_have_their_terminal() {
    let bastion = Bastion::start().await;
    let admission = admit(&bastion).await;
    let reached = admission.reach(&DIALER).await.expect("reached");
    admission.connected().await.expect("connected");
    let command = "echo out; echo err >&2; exit 7".to_owned();
    let mut duct = admission.open(&reached, Opening::Exec { command, terminal: None }).await.expect("opened");
    assert_eq!(read_out(&mut duct.source).await, ("out\n".to_owned(), "err\n".to_owned(), Some(7)));
    duct.sink.close().await;

    let terminal = Terminal { name: "xterm".to_owned(), columns: 91, rows: 33 };
    let mut duct = admission.open(&reached, Opening::Shell { terminal }).await.expect("opened");
    duct.sink.put(Unit::Data("stty size; exit 5\n".into())).await.expect("taken");
    let (out, _, status) = read_out(&mut duct.source).await;
    assert!(out.contains("33 91"), "{out}");
    assert_eq!(status, Some(5));
    let row = bastion.until(|s| s.state() == State::Connected).await;
    assert_eq!(row.draft.kind, Kind::Exec, "what it was opened for first");
    let ending = admission.end(EndReason::TargetClosed, "exit status 5").await;
    assert_eq!(ending.reason, EndReason::TargetClosed);
    // The end of the session has closed the target's socket, which is no loss that anybody should hear of.
    let lost = tokio::time::timeout(Duration::from_millis(300), reached.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_target_connects_where_it_is_permitted() {
    let bastion = Bastion::start().await;
    let admission = admit(&bastion).await;
    let reached = admission.reach(&DIALER).await.expect("reached");
    admission.connected().await.expect("connected");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let here = || Opening::Connect { host: "127.0.0.1".to_owned(), port };
    let (opened, accepted) = tokio::join!(admission.open(&reached, here()), listener.accept());
    let (mut duct, (mut peer, _)) = (opened.expect("opened"), accepted.expect("accepted"));
    duct.sink.put(Unit::Data("ping".into())).await.expect("taken");
    let mut four = [0; 4];
    peer.read_exact(&mut four).await.expect("four bytes");
    peer.write_all(b"pong").await.expect("written");
    drop(peer);
    // Half of it is closed now; the other half is ours to close.
    let mut answer = Vec::new();
    let reading = async {
        while let Some(unit) = duct.source.next().await {
            match unit {
                Unit::Data(bytes) => answer.extend_from_slice(&bytes),
                Unit::Eof => return,
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("the peer's end is passed on");
    assert_eq!((&four, answer.as_slice()), (b"ping", b"pong".as_slice()));
    duct.sink.close().await;

    drop(listener);
    let refused = admission.open(&reached, here()).await.err();
    assert!(matches!(refused, Some(NotOpened::Declined(_))), "{refused:?}");
    let socket = admission.open(&reached, Opening::Socket { path: "/nowhere".to_owned() }).await.err();
    assert!(matches!(socket, Some(NotOpened::Declined(_))), "{socket:?}");
    bastion.deny(&[Action::ForwardLocal]);
    let denied = admission.open(&reached, here()).await.err();
    assert!(matches!(denied, Some(NotOpened::Refused(_))), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_there_says_so() {
    let mut bastion = Bastion::start().await;
    if let Some(demo) = bastion.demo.take() {
        demo.stop().await;
    }
    let admission = admit(&bastion).await;
    let unreached = admission.reach(&DIALER).await.err().expect("nobody is there");
    assert_eq!(unreached.reason, EndReason::TargetUnreachable);
    assert!(unreached.detail.starts_with("web-1: "), "{}", unreached.detail);
    admission.end(unreached.reason, &unreached.detail).await;
    let row = bastion.until(|s| s.state() == State::Failed).await;
    assert_eq!(row.ending().map(|ending| ending.reason), Some(EndReason::TargetUnreachable));
}
