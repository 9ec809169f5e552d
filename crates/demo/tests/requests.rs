//! What OpenSSH's client never sends, or sends only by hand, through the SSH library's own client: signals, terminal
//! modes, sizes, and more input than a program reads.

use std::sync::Arc;
use std::time::Duration;

use ravelin_demo::{Demo, DemoConfig};
use russh::client::{self, Handle, Msg};
use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelMsg, Pty, Sig};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

struct Trusting;

impl client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_seed(&[seed; 32])), "").expect("a plain key")
}

async fn start() -> (Demo, Handle<Trusting>) {
    let demo = ravelin_demo::start(DemoConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        host_key_pem: key(1).to_openssh(LineEnding::LF).expect("encodable").to_string().into(),
        authorized_keys: vec![key(2).public_key().to_openssh().expect("encodable")],
        home: None,
    })
    .await
    .expect("the target starts");
    let mut client = client::connect(Arc::default(), demo.address(), Trusting).await.expect("connects");
    let key = PrivateKeyWithHashAlg::new(Arc::new(key(2)), None);
    assert!(client.authenticate_publickey("anybody", key).await.expect("answered").success());
    (demo, client)
}

/// Reads until the text is there, and returns everything up to it.
async fn read_until(channel: &mut Channel<Msg>, wanted: &str) -> String {
    let mut seen = String::new();
    let read = async {
        // Only what is new can bring it, and what it began with before.
        let mut looked_at = 0;
        while !seen.get(looked_at..).unwrap_or(&seen).contains(wanted) {
            looked_at = seen.floor_char_boundary(seen.len().saturating_sub(wanted.len()));
            match channel.wait().await {
                Some(ChannelMsg::Data { data }) => seen.push_str(&String::from_utf8_lossy(&data)),
                Some(_) => {}
                None => return false,
            }
        }
        true
    };
    let found = timeout(PATIENCE, read).await;
    assert!(matches!(found, Ok(true)), "never said {wanted:?} but {seen:?}");
    seen
}

/// Reads to the end, and returns how the program ended.
async fn ending(channel: &mut Channel<Msg>) -> Option<ChannelMsg> {
    let read = async {
        let mut ending = None;
        while let Some(message) = channel.wait().await {
            if matches!(message, ChannelMsg::ExitStatus { .. } | ChannelMsg::ExitSignal { .. }) {
                ending = Some(message);
            }
        }
        ending
    };
    timeout(PATIENCE, read).await.expect("the channel ends in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_reach_the_program_and_its_death_is_told() {
    let (demo, client) = start().await;
    let mut channel = client.channel_open_session().await.expect("opened");
    channel.exec(true, "trap 'echo caught' USR1; echo ready; while :; do sleep 0.05; done").await.expect("sent");
    read_until(&mut channel, "ready\n").await;
    channel.signal(Sig::USR1).await.expect("sent");
    read_until(&mut channel, "caught\n").await;
    channel.signal(Sig::KILL).await.expect("sent");
    match ending(&mut channel).await {
        Some(ChannelMsg::ExitSignal { signal_name: Sig::KILL, core_dumped: false, .. }) => {}
        other => panic!("not killed: {other:?}"),
    }
    demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_has_the_size_and_modes_asked_for() {
    let (demo, client) = start().await;
    let mut channel = client.channel_open_session().await.expect("opened");
    let modes = [(Pty::ECHO, 0), (Pty::VINTR, 7), (Pty::ONLCR, 0), (Pty::TTY_OP_ISPEED, 38_400)];
    channel.request_pty(true, "vt100", 101, 43, 640, 480, &modes).await.expect("sent");
    channel.set_env(true, "LC_TEST", "kept").await.expect("sent");
    channel.set_env(true, "HOME", "/refused").await.expect("sent");
    // The last word is the shell's own: one that waits for a program leaves an interrupt to the program, and goes on when
    // that ends well all the same.
    let command =
        "stty size; stty -a; echo $TERM $LC_TEST $HOME; read line; echo got $line; stty size; echo done; read line";
    channel.exec(true, command).await.expect("sent");
    let seen = read_until(&mut channel, "kept").await;
    assert!(seen.starts_with("43 101\n"), "{seen}");
    for mode in ["-echo ", "intr = ^G;", "-onlcr", "vt100 kept"] {
        assert!(seen.contains(mode), "{mode}: {seen}");
    }
    channel.window_change(55, 12, 0, 0).await.expect("sent");
    channel.data(&b"a line\n"[..]).await.expect("sent");
    let seen = read_until(&mut channel, "done").await;
    assert!(seen.contains("got a line\n12 55\n") && !seen.contains("/refused"), "{seen}");
    // The interrupt character is the one the client named.
    channel.data(&b"\x07"[..]).await.expect("sent");
    match ending(&mut channel).await {
        Some(ChannelMsg::ExitSignal { signal_name: Sig::INT, .. }) => {}
        Some(ChannelMsg::ExitStatus { exit_status: 130 }) => {}
        other => panic!("not interrupted: {other:?}"),
    }
    demo.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_had_is_refused_and_nothing_else_suffers() {
    let (demo, client) = start().await;
    let mut channel = client.channel_open_session().await.expect("opened");
    channel.request_subsystem(true, "netconf").await.expect("sent");
    assert!(matches!(timeout(PATIENCE, channel.wait()).await, Ok(Some(ChannelMsg::Failure))));
    channel.request_x11(true, false, "MIT-MAGIC-COOKIE-1", "00", 0).await.expect("sent");
    assert!(matches!(timeout(PATIENCE, channel.wait()).await, Ok(Some(ChannelMsg::Failure))));
    channel.exec(true, "exit 6").await.expect("sent");
    channel.exec(true, "exit 7").await.expect("sent");
    match ending(&mut channel).await {
        Some(ChannelMsg::ExitStatus { exit_status: 6 }) => {}
        other => panic!("one channel runs one program: {other:?}"),
    }
    // File transfer, with bytes that are no SFTP at all.
    let mut channel = client.channel_open_session().await.expect("opened");
    channel.request_subsystem(true, "sftp").await.expect("sent");
    channel.data(&b"\xff\xff\xff\xffnonsense"[..]).await.expect("sent");
    match ending(&mut channel).await {
        Some(ChannelMsg::ExitStatus { exit_status: 1 }) => {}
        other => panic!("not ended: {other:?}"),
    }
    demo.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_does_not_read_costs_bounded_memory() {
    const OFFERED: usize = 300 * 1024 * 1024;
    const ALLOWED: usize = 64 * 1024 * 1024;
    fn resident_bytes() -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is there");
        let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
        pages * 4096
    }

    let (demo, client) = start().await;
    let mut channel = client.channel_open_session().await.expect("opened");
    let pause = format!("3000.{}", std::process::id());
    channel.exec(true, format!("echo started; exec sleep {pause}")).await.expect("sent");
    read_until(&mut channel, "started\n").await;
    let before = resident_bytes();
    let mut input = channel.make_writer();
    let sending = tokio::spawn(async move {
        let chunk = vec![0; 1024 * 1024];
        for _ in 0..OFFERED / chunk.len() {
            if tokio::io::AsyncWriteExt::write_all(&mut input, &chunk).await.is_err() {
                return;
            }
        }
        panic!("everything was taken for a program that reads nothing");
    });
    // The connection stays alive for others, again and again, while this one is stuck.
    for number in 0..8 {
        let mut other = client.channel_open_session().await.expect("opened");
        other.exec(true, format!("cat; echo {number}")).await.expect("sent");
        other.data(&vec![b'x'; 3 * 1024 * 1024][..]).await.expect("sent");
        other.eof().await.expect("sent");
        read_until(&mut other, &format!("{number}\n")).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < ALLOWED, "{grown} bytes");
    // And closing the channel ends the program, though its input is stuck.
    let runs = || {
        std::fs::read_dir("/proc").expect("/proc is there").flatten().any(|entry| {
            std::fs::read_to_string(entry.path().join("cmdline"))
                .is_ok_and(|line| line.split('\0').any(|word| word == pause))
        })
    };
    assert!(runs());
    channel.close().await.expect("sent");
    let ended = async {
        while runs() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("the program ends in time");
    sending.abort();
    timeout(PATIENCE, demo.stop()).await.expect("stops in time");
}
