//! Who is let in, and what the door bears.

use crate::support::{Bastion, Client, LIMIT, Setup};
use ravelin_ssh::keys;
use russh::keys::PrivateKeyWithHashAlg;
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_owner_of_a_key_is_let_in() {
    let bastion = Bastion::start().await;
    for (user, key, let_in) in [
        ("alice", &bastion.person, true),
        ("alice:web-1", &bastion.person, true),
        ("bob", &bastion.person, false),
        ("alice", &bastion.stranger, false),
        ("nobody", &bastion.person, false),
        ("", &bastion.person, false),
        ("alice ", &bastion.person, false),
    ] {
        assert_eq!(bastion.knock(user, key).await.1, let_in, "{user:?}");
    }
    assert!(!bastion.knock("alice", &keys::generate_key()).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_user_in_the_middle_carries_nothing_over() {
    let bastion = Bastion::start().await;
    let mut client = Client::connect(bastion.address).await;
    let handle = client.handle.as_mut().expect("connected");
    let key = |pem: &secrecy::SecretString| {
        let key = russh::keys::decode_secret_key(pem.expose_secret(), None).expect("a key");
        PrivateKeyWithHashAlg::new(Arc::new(key), None)
    };
    // Alice's key as Bob, Bob's as Alice; then Bob as himself, who is Bob and nobody else.
    assert!(!handle.authenticate_publickey("bob", key(&bastion.person)).await.expect("an answer").success());
    assert!(!handle.authenticate_publickey("alice:web-1", key(&bastion.stranger)).await.expect("an answer").success());
    assert!(handle.authenticate_publickey("bob:web-1", key(&bastion.stranger)).await.expect("an answer").success());
    assert_eq!(client.exec("exit 0", b"").await.status, Some(0));
    let session = bastion.until(|_| true).await;
    assert_eq!(session.draft.principal.as_str(), "bob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_methods_are_not_offered() {
    let bastion = Bastion::start().await;
    let mut client = Client::connect(bastion.address).await;
    let handle = client.handle.as_mut().expect("connected");
    let start = std::time::Instant::now();
    let russh::client::AuthResult::Failure { remaining_methods, .. } =
        handle.authenticate_none("alice").await.expect("an answer")
    else {
        panic!("let in without any proof");
    };
    assert!(start.elapsed() < Duration::from_secs(1), "the probe is answered at once");
    assert_eq!(&*remaining_methods, &[russh::MethodKind::PublicKey]);
    assert!(!handle.authenticate_password("alice", "alice").await.expect("an answer").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slow_and_the_loud_are_shown_out() {
    let bastion = Bastion::start_with(Setup {
        config: |config| {
            // Enough for somebody honest on a busy machine.
            config.login_grace = Duration::from_secs(5);
            config.bytes_before_login_max = 4096;
        },
        ..Setup::default()
    })
    .await;
    let closes = async |first: &[u8]| {
        let mut stream = TcpStream::connect(bastion.address).await.expect("connected");
        // It may be closed before all is written.
        let _closed = stream.write_all(first).await;
        let mut rest = Vec::new();
        tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("closed in time").unwrap_or(0)
    };
    // A packet that is announced as large and never comes to an end.
    let mut loud = b"SSH-2.0-loud\r\n\x00\x03\x00\x00".to_vec();
    loud.resize(100_000, 0x41);
    tokio::join!(
        closes(b""),
        closes(b"SSH-2.0-slow\r\n"),
        closes(b"GET / HTTP/1.1\r\n\r\n"),
        closes(&[0; 300]),
        closes(&loud),
        // One that is announced as larger than any.
        closes(b"SSH-2.0-large\r\n\xff\xff\xff\xff"),
    );
    assert!(bastion.knock("alice", &bastion.person).await.1, "the door is open to others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_at_the_door_harms_nobody_inside() {
    let bastion = Bastion::start_with(Setup {
        config: |config| {
            config.login_grace = Duration::from_secs(2);
            config.unauthenticated_max = 20;
            config.unauthenticated_per_address_max = 20;
        },
        ..Setup::default()
    })
    .await;
    let inside = bastion.client("alice:web-1").await;
    let mut crowd = Vec::new();
    for at in 0..300 {
        let mut stream = TcpStream::connect(bastion.address).await.expect("connected");
        if at % 2 == 0 {
            // The door closes on most of them.
            let _closed = stream.write_all(b"SSH-2.0-x\r\n\x00\x00\x10\x00garbage").await;
        }
        crowd.push(stream);
    }
    assert_eq!(inside.exec("exit 3", b"").await.status, Some(3));
    drop(crowd);
    // Places are given back as soon as the crowd has gone.
    let coming = async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(bastion.address).await {
                let mut hello = [0; 8];
                if stream.read_exact(&mut hello).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, coming).await.expect("a place");
    assert!(bastion.knock("alice", &bastion.person).await.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_have_a_limit() {
    let bastion =
        Bastion::start_with(Setup { config: |config| config.channels_per_connection_max = 4, ..Setup::default() })
            .await;
    let client = bastion.client("alice:web-1").await;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(client.handle().channel_open_session().await.expect("a channel"));
    }
    assert!(client.handle().channel_open_session().await.is_err(), "a fifth");
    for channel in channels {
        channel.close().await.expect("sent");
    }
    let freed = async {
        while client.handle().channel_open_session().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, freed).await.expect("places are given back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_carries_nothing_is_closed() {
    const IDLE: Duration = Duration::from_secs(1);
    let bastion =
        Bastion::start_with(Setup { config: |config| config.idle_connection_max = IDLE, ..Setup::default() }).await;
    let farewell = "disconnected: nothing was open on this connection for 1 s";
    let named = bastion.client("alice:web-1").await;
    let idle = bastion.client("alice").await;
    let busy = bastion.client("alice").await;
    let channel = busy.handle().channel_open_session().await.expect("a channel");
    assert_eq!(idle.hear_farewell().await, farewell);
    tokio::time::sleep(IDLE).await;
    assert!(!busy.handle().is_closed(), "it has a channel");
    let start = std::time::Instant::now();
    channel.close().await.expect("sent");
    assert_eq!(busy.hear_farewell().await, farewell);
    assert!(start.elapsed() >= IDLE, "the time begins anew with the last channel's end");
    assert_eq!(named.exec("exit 3", b"").await.status, Some(3), "a session may be silent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_inside_have_a_limit() {
    let bastion = Bastion::start_with(Setup {
        config: |config| {
            config.connections_max = 3;
            config.connections_per_principal_max = 2;
        },
        ..Setup::default()
    })
    .await;
    let one = bastion.client("alice").await;
    let _two = bastion.client("alice:web-1").await;
    let (third, _) = bastion.knock("alice", &bastion.person).await;
    assert_eq!(third.hear_farewell().await, "alice has 2 connections, which is the limit");
    let (_bob, accepted) = bastion.knock("bob", &bastion.stranger).await;
    assert!(accepted, "another person is let in");
    drop(one);
    let coming = async {
        loop {
            let (client, _) = bastion.knock("alice", &bastion.person).await;
            if client.handle().channel_open_session().await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(LIMIT, coming).await.expect("a place is given back");
}
