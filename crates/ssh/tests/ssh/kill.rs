//! Ending sessions from outside: confirmed, told, and fast, whatever the session is doing.

use crate::support::{Bastion, Detour, LIMIT, Outcome, Setup};
use ravelin_model::session::{EndReason, State};
use russh::ChannelMsg;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Far above what is measured, also on a busy machine, and far below what waiting for a stuck peer would take. How fast it
/// is, the benchmark says.
const KILL_MAX: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_session_is_told_why() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.exec(true, "echo up; sleep 60").await.expect("sent");
    let (mut read, _write) = channel.split();
    while !matches!(read.wait().await.expect("output"), ChannelMsg::Data { .. }) {}
    let session = bastion.until(|s| s.state() == State::Connected).await;
    let took = bastion.kill(&session, "rotating keys").await;
    assert!(took < KILL_MAX, "{took:?}");
    let outcome = Outcome::read(read).await;
    assert_eq!(outcome.error, "disconnected by alice: rotating keys\n");
    assert_eq!(client.hear_farewell().await, "disconnected by alice: rotating keys");
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::DisconnectedByOperator);
    bastion.until_live(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_nobody_reads_is_killed_at_once() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.exec(true, "cat /dev/zero").await.expect("sent");
    // The library's queue fills, and its loop reads no more: the socket is full from here to the target.
    let session = stalled(&bastion).await;
    let took = bastion.kill(&session, "stalled").await;
    assert!(took < KILL_MAX, "{took:?}");
    drop(channel);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_answer_is_waited_for_briefly() {
    let bastion = Bastion::start().await;
    let detour = Detour::start(bastion.address, Duration::ZERO).await;
    let client = bastion.client_by("alice:web-1", detour.address).await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.exec(true, "echo up; sleep 60").await.expect("sent");
    let (mut read, _write) = channel.split();
    while !matches!(read.wait().await.expect("output"), ChannelMsg::Data { .. }) {}
    let session = bastion.until(|s| s.state() == State::Connected).await;
    detour.freeze();
    let took = bastion.kill(&session, "gone quiet").await;
    assert!(took < KILL_MAX, "{took:?}");
    bastion.until_live(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_nobody_reads_is_killed_at_once() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.exec(true, "sleep 60").await.expect("sent");
    let (_read, write) = channel.split();
    tokio::spawn(async move {
        let block = bytes::Bytes::from(vec![0; 32 * 1024]);
        while write.data_bytes(block.clone()).await.is_ok() {}
    });
    let session = stalled(&bastion).await;
    let took = bastion.kill(&session, "stalled").await;
    assert!(took < KILL_MAX, "{took:?}");
    // It may be stuck in writing itself, and hear nothing; its connection is gone all the same.
    let _heard_or_not = client.hear_farewell().await;
}

/// Waits until bytes went and no more go.
async fn stalled(bastion: &Bastion) -> ravelin_model::Session {
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let session = bastion.until(|s| s.state() == State::Connected).await;
        let now = session.activity.bytes_in + session.activity.bytes_out;
        if now > 0 && now == before {
            return session;
        }
        before = now;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_tunnel_of_two_goes_alone_and_the_last_takes_the_connection() {
    let bastion = Bastion::start().await;
    let jump = bastion.client("alice").await;
    let tunnel = async || {
        let channel = jump.handle().channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 1).await.expect("a tunnel");
        let mut stream = channel.into_stream();
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await.expect("the target speaks first");
        (stream, bastion.until(|s| s.state() == State::Connected).await)
    };
    let (mut one, first) = tunnel().await;
    let (mut other, second) = tunnel().await;
    assert_ne!(first.id(), second.id());
    assert!(bastion.kill(&first, "one").await < KILL_MAX);
    let mut rest = Vec::new();
    tokio::time::timeout(LIMIT, one.read_to_end(&mut rest)).await.expect("closed").expect("cleanly");
    other.write_all(b"SSH-2.0-test\r\n").await.expect("the other is alive");
    bastion.until_live(1).await;
    assert!(bastion.kill(&second, "both").await < KILL_MAX);
    assert_eq!(jump.hear_farewell().await, "disconnected by alice: both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_never_takes_a_sibling_that_was_admitted_meanwhile() {
    let bastion = Bastion::start().await;
    let (mut refused, mut admitted) = (0, 0);
    for round in 0..60_u64 {
        let jump = bastion.client("alice").await;
        let open = async || jump.handle().channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 1).await;
        let _first = open().await.expect("a tunnel");
        let session = bastion.until(|s| s.state() == State::Connected).await;
        let opening = async {
            // The moment is what is tested, so there is no event to wait for.
            tokio::time::sleep(Duration::from_micros(100 * round)).await;
            match open().await {
                Ok(channel) => {
                    let mut stream = channel.into_stream();
                    let mut hello = [0; 8];
                    stream.read_exact(&mut hello).await.expect("an admitted sibling is served");
                    Some(stream)
                }
                Err(_) => None,
            }
        };
        let (second, _took) = tokio::join!(opening, bastion.kill(&session, "one"));
        match second {
            None => refused += 1,
            Some(_stream) => {
                admitted += 1;
                let sibling = bastion.until(|s| s.state() == State::Connected).await;
                assert_ne!(sibling.id(), session.id());
                bastion.kill(&sibling, "other").await;
            }
        }
        for session in bastion.sessions().await {
            let ending = session.ending().expect("an ending");
            assert_eq!(ending.reason, EndReason::DisconnectedByOperator, "{refused} {admitted} {session:#?}");
        }
    }
    assert_eq!(refused + admitted, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.exec(true, "sleep 60").await.expect("sent");
    bastion.until(|s| s.state() == State::Connected).await;
    drop((client, channel));
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::ClientClosed);
    bastion.until_live(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_falls_silent_is_told_from_one_that_left() {
    let bastion = Bastion::start_with(Setup {
        config: |config| config.keepalive_interval = Duration::from_millis(500),
        ..Setup::default()
    })
    .await;
    let detour = Detour::start(bastion.address, Duration::ZERO).await;
    let client = bastion.client_by("alice:web-1", detour.address).await;
    assert_eq!(client.exec("exit 3", b"").await.status, Some(3));
    detour.freeze();
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    let ending = session.ending().expect("an ending");
    assert_eq!(ending.reason, EndReason::ClientClosed);
    assert_eq!(ending.detail, "the client was lost: nothing was heard of it for 2 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_the_menu_at_any_moment_leaves_no_session_behind() {
    let bastion = Bastion::start().await;
    let mut chosen = 0;
    for round in 0..84_u64 {
        let client = bastion.client("alice").await;
        let channel = client.handle().channel_open_session().await.expect("a channel");
        channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.expect("sent");
        channel.request_shell(true).await.expect("sent");
        let (mut read, write) = channel.split();
        let mut seen = Vec::new();
        while !seen.ends_with(b"q to leave: ") {
            if let ChannelMsg::Data { data } = read.wait().await.expect("the menu") {
                seen.extend_from_slice(&data);
            }
        }
        write.data_bytes(&b"1\r"[..]).await.expect("sent");
        // The moment is what is tested, so there is no event to wait for.
        tokio::time::sleep(Duration::from_micros(250 * round)).await;
        drop((client, read, write));
        chosen += 1;
    }
    let ending = async {
        loop {
            let sessions = bastion.sessions().await;
            if bastion.engine.live_count() == 0 && sessions.iter().all(|s| s.state().is_final()) {
                return sessions.len();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let Ok(sessions) = tokio::time::timeout(LIMIT, ending).await else {
        panic!("sessions are left behind: {:#?}", bastion.sessions().await)
    };
    assert!(sessions > 0 && sessions <= chosen, "{sessions} sessions of {chosen} choices");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_graceful_stop_tells_everybody() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    bastion.until(|s| s.state() == State::Connected).await;
    bastion.engine.stop(Duration::ZERO).await.expect("stopped");
    assert_eq!(client.hear_farewell().await, "disconnected: the bastion is stopping");
    let late = TcpStream::connect(bastion.address).await;
    drop(late);
}
