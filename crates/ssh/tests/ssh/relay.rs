//! What goes through the bastion, and what the session list says of it.

use crate::support::{Bastion, Client, LIMIT, Outcome, Setup};
use ravelin_model::policy::Action;
use ravelin_model::session::{EndReason, Kind, State};
use russh::ChannelMsg;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let step = |state: &mut u64| {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 24) as u8
    };
    (0..bytes).map(|_| step(&mut state)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_and_the_row_tells_of_it() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:root@web-1").await;
    let outcome = client.exec("echo out; echo err >&2; exit 7", b"").await;
    assert_eq!((outcome.accepted, outcome.status, outcome.closed), (Some(true), Some(7), true));
    assert_eq!((outcome.text().as_str(), outcome.error.as_str()), ("out\n", "err\n"));
    let live = bastion.until(|s| s.state() == State::Connected && s.draft.kind == Kind::Exec).await;
    assert_eq!(live.draft.target.name.as_str(), "web-1");
    assert_eq!(live.draft.login.as_ref().map(ToString::to_string).as_deref(), Some("root"));
    assert!(live.draft.client_software.starts_with("russh"), "{:?}", live.draft.client_software);
    drop(client);
    let ended = bastion.until(|s| s.state() == State::Terminated).await;
    let ending = ended.ending().expect("an ending");
    assert_eq!((ending.reason, ending.detail.as_str()), (EndReason::ClientClosed, "exit status 7"));
    assert_eq!((ended.activity.bytes_in, ended.activity.bytes_out), (0, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_ends_where_it_ends_and_output_goes_on() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let input = noise(5_000_000);
    let outcome = client.exec("wc -c; echo done", &input).await;
    assert_eq!((outcome.text().as_str(), outcome.status), ("5000000\ndone\n", Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_both_ways_at_once_with_a_slow_reader_arrives_whole() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.exec(true, "cat").await.expect("sent");
    let (mut read, write) = channel.split();
    let input = noise(24_000_000);
    let expected = input.clone();
    let sending = tokio::spawn(async move {
        write.data_bytes(input).await.expect("taken");
        write.eof().await.expect("taken");
    });
    let mut got = Vec::new();
    let reading = async {
        while let Some(message) = read.wait().await {
            if let ChannelMsg::Data { data } = message {
                got.extend_from_slice(&data);
                if got.len() % 64 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("nothing waits for itself");
    sending.await.expect("no panic");
    assert!(got == expected, "{} bytes of {}", got.len(), expected.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_upload_holds_neither_siblings_nor_memory() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let stuck = client.handle().channel_open_session().await.expect("a channel");
    stuck.exec(true, "sleep 60").await.expect("sent");
    let (_read, write) = stuck.split();
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let flood = tokio::spawn(async move {
        let block = bytes::Bytes::from(vec![0; 32 * 1024]);
        while write.data_bytes(block.clone()).await.is_ok() {
            counter.fetch_add(block.len(), std::sync::atomic::Ordering::Relaxed);
        }
    });
    // Wait until nothing moves any more.
    let mut before = usize::MAX;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        if now == before {
            break;
        }
        before = now;
    }
    assert!(before < 24 * 1024 * 1024, "{before} bytes were taken from a client whose target takes none");
    let start = std::time::Instant::now();
    let outcome = client.exec("echo alive", b"").await;
    assert_eq!(outcome.text(), "alive\n");
    assert!(start.elapsed() < Duration::from_secs(2), "a sibling waited {:?}", start.elapsed());
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_has_its_size_and_changes_it() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.request_pty(true, "xterm", 91, 37, 0, 0, &[]).await.expect("sent");
    channel.exec(true, "stty size; read x; stty size; echo $TERM").await.expect("sent");
    let (mut read, write) = channel.split();
    let mut seen = String::new();
    let mut resized = false;
    let mut status = None;
    let reading = async {
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Data { data } => seen.push_str(&String::from_utf8_lossy(&data)),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
            if !resized && seen.contains("37 91") {
                resized = true;
                write.window_change(100, 50, 0, 0).await.expect("sent");
                write.data_bytes(&b"go\n"[..]).await.expect("sent");
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("in time");
    assert!(seen.contains("50 100") && seen.contains("xterm"), "{seen:?}");
    assert_eq!(status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_and_forbidden_targets_are_one() {
    let bastion = Bastion::start().await;
    let mut answers = Vec::new();
    for name in ["nothere", "hidden"] {
        let client = bastion.client(&format!("alice:{name}")).await;
        let outcome = client.exec("echo hello", b"").await;
        assert_eq!((outcome.status, outcome.closed), (Some(255), true));
        assert!(outcome.error.contains("was not found, or you may not use it"), "{outcome:?}");
        answers.push(format!("{outcome:?} {}", client.hear_farewell().await).replace(name, "NAME"));
        let jump = bastion.client("alice").await;
        let refused = jump.handle().channel_open_direct_tcpip(name, 22, "127.0.0.1", 1).await;
        answers.push(format!("{:?}", refused.expect_err("refused")).replace(name, "NAME"));
    }
    assert_eq!(answers[0..2], answers[2..4]);
    assert_eq!(bastion.sessions().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_use_asks_the_policy() {
    let bastion = Bastion::start().await;
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = u32::from(server.local_addr().expect("an address").port());
    let path = bastion.directory.path().join("socket").display().to_string();
    let _socket = UnixListener::bind(&path).expect("a socket");
    let uses = [
        Action::OpenExec,
        Action::OpenShell,
        Action::OpenSftp,
        Action::ForwardLocal,
        Action::ForwardRemote,
        Action::OpenTunnel,
    ];
    for denied in uses {
        bastion.deny(&[denied]);
        let client = bastion.client("alice:web-1").await;
        let jump = bastion.client("alice").await;
        for used in uses {
            let allowed = match used {
                Action::OpenExec => client.exec("true", b"").await.status == Some(0),
                Action::OpenShell => {
                    let channel = client.handle().channel_open_session().await.expect("a channel");
                    channel.request_shell(true).await.expect("sent");
                    channel.data_bytes(&b"exit 0\n"[..]).await.expect("sent");
                    Outcome::read(channel.split().0).await.status == Some(0)
                }
                Action::OpenSftp => {
                    let channel = client.handle().channel_open_session().await.expect("a channel");
                    channel.request_subsystem(true, "sftp").await.expect("sent");
                    channel.eof().await.expect("sent");
                    Outcome::read(channel.split().0).await.status == Some(0)
                }
                Action::ForwardLocal => {
                    let by_port = client.handle().channel_open_direct_tcpip("127.0.0.1", port, "127.0.0.1", 1).await;
                    let by_path = client.handle().channel_open_direct_streamlocal(&path).await;
                    assert_eq!(by_port.is_ok(), by_path.is_ok());
                    by_port.is_ok()
                }
                Action::ForwardRemote => client.handle().tcpip_forward("127.0.0.1", 0).await.is_ok(),
                Action::OpenTunnel => {
                    jump.handle().channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 1).await.is_ok()
                }
                _ => unreachable!("not in the list above"),
            };
            assert_eq!(allowed, used != denied, "{used} while {denied} is denied");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_offered_is_refused() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let handle = client.handle();
    assert!(handle.channel_open_x11("127.0.0.1", 1).await.is_err());
    assert!(handle.streamlocal_forward("/tmp/socket").await.is_err());
    let channel = handle.channel_open_session().await.expect("a channel");
    channel.request_subsystem(true, "netconf").await.expect("sent");
    let outcome = Outcome::read(channel.split().0).await;
    assert_eq!(outcome.status, Some(255));
    assert!(outcome.error.contains("sftp"), "{outcome:?}");
    let plain = bastion.client("alice").await;
    let outcome = plain.exec("echo hello", b"").await;
    assert_eq!(outcome.status, Some(255));
    assert!(outcome.error.contains("alice:TARGET"), "{outcome:?}");
    assert!(plain.handle().tcpip_forward("127.0.0.1", 0).await.is_err());
    assert!(plain.handle().channel_open_direct_streamlocal("/tmp/socket").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwards_carry_bytes_both_ways_and_half_close() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = server.local_addr().expect("an address").port();
    let answering = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.expect("accepted");
        let mut got = Vec::new();
        stream.read_to_end(&mut got).await.expect("read");
        stream.write_all(&got).await.expect("written");
    });
    let channel = client.handle().channel_open_direct_tcpip("127.0.0.1", port.into(), "127.0.0.1", 1).await;
    let (read, write) = channel.expect("a forward").split();
    write.data_bytes(noise(300_000)).await.expect("sent");
    write.eof().await.expect("sent");
    let outcome = tokio::time::timeout(LIMIT, Outcome::read(read)).await.expect("in time");
    assert!(outcome.out == noise(300_000), "{} bytes", outcome.out.len());
    answering.await.expect("no panic");

    let mut client = client;
    let port = client.handle().tcpip_forward("127.0.0.1", 0).await.expect("a port");
    let mut outside = TcpStream::connect(("127.0.0.1", port as u16)).await.expect("the target listens");
    let channel = tokio::time::timeout(LIMIT, client.forwarded.recv()).await.expect("in time").expect("a channel");
    channel.data_bytes(&b"hello"[..]).await.expect("sent");
    channel.eof().await.expect("sent");
    let mut got = String::new();
    outside.read_to_string(&mut got).await.expect("read");
    assert_eq!(got, "hello");
    client.handle().cancel_tcpip_forward("127.0.0.1", port).await.expect("cancelled");
    if TcpStream::connect(("127.0.0.1", port as u16)).await.is_ok() {
        // Whoever has the free port now, it does not lead to this client.
        let late = tokio::time::timeout(Duration::from_secs(1), client.forwarded.recv()).await;
        assert!(!matches!(late, Ok(Some(_))), "the target still listens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_is_end_to_end_and_listed_as_a_tunnel() {
    let bastion = Bastion::start().await;
    let port = bastion.demo.as_ref().expect("there").address().port();
    let jump = bastion.client("alice").await;
    for (host, at) in [("web-1", 22), ("mi-00000000000000001", u32::from(port)), ("127.0.0.1", u32::from(port))] {
        let channel = jump.handle().channel_open_direct_tcpip(host, at, "127.0.0.1", 1).await.expect("a tunnel");
        let mut stream = channel.into_stream();
        let mut hello = [0; 8];
        stream.read_exact(&mut hello).await.expect("the target speaks first");
        assert_eq!(&hello, b"SSH-2.0-", "{host}");
        let session = bastion.until(|s| s.state() == State::Connected).await;
        assert_eq!((session.draft.kind, session.draft.login.as_ref()), (Kind::Tunnel, None));
        drop(stream);
        bastion.until(|s| s.state() == State::Terminated).await;
    }
    for (host, at) in [("web-1", 80), ("127.0.0.1", 22), ("192.0.2.1", 22)] {
        let refused = jump.handle().channel_open_direct_tcpip(host, at, "127.0.0.1", 1).await;
        assert!(refused.is_err(), "{host}:{at}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_menu_leads_to_a_target_and_what_was_typed_ahead_too() {
    // A terminal may deliver it in one piece or in several.
    for pieces in
        [&["1\r", "stty size; exit 4\r"][..], &["1\rstty size; ", "exit 4\r"], &["no\r1\r\nstty size; exit 4\r"]]
    {
        the_menu_leads_to_a_target(pieces).await;
    }
}

async fn the_menu_leads_to_a_target(pieces: &[&'static str]) {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice").await;
    let channel = client.handle().channel_open_session().await.expect("a channel");
    channel.request_pty(true, "xterm", 80, 24, 0, 0, &[]).await.expect("sent");
    channel.request_shell(true).await.expect("sent");
    let (mut read, write) = channel.split();
    let (mut seen, mut step, mut status) = (String::new(), 0, None);
    let reading = async {
        while let Some(message) = read.wait().await {
            match message {
                ChannelMsg::Data { data } => seen.push_str(&String::from_utf8_lossy(&data)),
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                _ => {}
            }
            if step == 0 && seen.contains("q to leave: ") {
                assert!(seen.contains("web-1") && seen.contains("env=test") && !seen.contains("hidden"), "{seen}");
                step = 1;
                write.window_change(101, 31, 0, 0).await.expect("sent");
                for piece in pieces {
                    write.data_bytes(piece.as_bytes()).await.expect("sent");
                }
            }
        }
    };
    tokio::time::timeout(LIMIT, reading).await.expect("in time");
    assert!(seen.contains("31 101"), "{seen}");
    assert_eq!(status, Some(4));
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.draft.kind, Kind::Shell);
    assert_eq!(session.ending().expect("an ending").reason, EndReason::ClientClosed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_channels_are_one_session() {
    let bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    for round in 0..20 {
        let outcome = client.exec(&format!("exit {round}"), b"").await;
        assert_eq!(outcome.status, Some(round));
    }
    assert_eq!(bastion.sessions().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_is_not_there_or_another_is_named() {
    let dead = Bastion::start_with(Setup { target: |target| target.port = 1, ..Setup::default() }).await;
    let client = dead.client("alice:web-1").await;
    assert_eq!(client.hear_farewell().await, "cannot reach the target: web-1: connection refused");
    let session = dead.until(|s| s.state() == State::Failed).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::TargetUnreachable);

    let other = Bastion::start_with(Setup {
        target: |target| {
            let key = ravelin_ssh::keys::generate_key();
            target.host_keys = vec![ravelin_ssh::keys::public_line(&key).expect("a line")];
        },
        ..Setup::default()
    })
    .await;
    let client: Client = other.client("alice:web-1").await;
    let text = client.hear_farewell().await;
    assert_eq!(text.matches("SHA256:").count(), 2, "{text}");
    let session = other.until(|s| s.state() == State::Failed).await;
    let ending = session.ending().expect("an ending");
    assert_eq!(ending.reason, EndReason::TargetUnreachable);
    assert_eq!(ending.detail.matches("SHA256:").count(), 2, "{ending:?}");

    let refused = Bastion::start_with(Setup {
        target: |target| {
            target.logins[0].proof = ravelin_model::target::LoginProof::Key(ravelin_ssh::keys::generate_key());
        },
        ..Setup::default()
    })
    .await;
    let client = refused.client("alice:web-1").await;
    assert!(client.hear_farewell().await.contains("refused"));
    let session = refused.until(|s| s.state() == State::Failed).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::AuthFailed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_goes_away_ends_the_session() {
    let mut bastion = Bastion::start().await;
    let client = bastion.client("alice:web-1").await;
    assert_eq!(client.exec("exit 0", b"").await.status, Some(0));
    bastion.demo.take().expect("there").stop().await;
    assert!(client.hear_farewell().await.contains("closed by the target"));
    let session = bastion.until(|s| s.state() == State::Terminated).await;
    assert_eq!(session.ending().expect("an ending").reason, EndReason::TargetClosed);
}
