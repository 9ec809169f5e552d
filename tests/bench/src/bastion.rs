//! What is promised to Azure's clients: the list of 10,000 sessions, 1,000 ended in one call, and a tunnel beside a plain
//! TCP relay to the same listener.
//!
//! The tunnel's client here is a few lines over a socket: a WebSocket library on this side would measure itself. It masks
//! as clients must, with one key for all messages, so the bastion's work is the same as for any client.

use crate::crowd::{Crowd, futures_join};
use crate::ssm::{BYTES, PIECE, far_end, transfer};
use crate::world::{Ravelin, ZERO, key, public};
use crate::{Bound, Report, median, millis, percentile};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// The bastion host's path.
fn host_path() -> String {
    format!("/subscriptions/{ZERO}/resourceGroups/ravelin/providers/Microsoft.Network/bastionHosts/ravelin")
}

/// A bearer token, got the way clients get one.
pub(crate) async fn arm_token(http: &reqwest::Client, ravelin: &Ravelin) -> Result<String> {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &ravelin.azure.0),
        ("client_secret", &ravelin.azure.1),
        ("scope", "https://management.azure.com/.default"),
    ];
    let url = format!("{}/{ZERO}/oauth2/v2.0/token", ravelin.http);
    let token: Value = http.post(url).form(&form).send().await?.error_for_status()?.json().await?;
    Ok(token["access_token"].as_str().context("access_token")?.to_owned())
}

/// The whole list through its links: the ids, the time until the first page was here, and until the last one was. What
/// the client makes of the pages costs the client.
pub(crate) async fn whole_list(crowd: &Crowd, token: &str) -> Result<(Vec<String>, Duration, Duration)> {
    let mut url = format!("{}{}/getActiveSessions?api-version=2024-05-01", crowd.ravelin.http, host_path());
    let (mut ids, mut first, mut spent) = (Vec::new(), None, Duration::ZERO);
    loop {
        let request = crowd.http.post(&url).bearer_auth(token).header("content-length", 0);
        let begun = Instant::now();
        let answer = request.send().await?.error_for_status()?.bytes().await?;
        spent += begun.elapsed();
        first.get_or_insert(spent);
        let answer: Value = serde_json::from_slice(&answer)?;
        let page = answer["value"].as_array().context("value")?;
        ids.extend(page.iter().filter_map(|session| session["sessionId"].as_str().map(str::to_owned)));
        match answer["nextLink"].as_str() {
            Some(next) if !next.is_empty() => next.clone_into(&mut url),
            _ => return Ok((ids, first.unwrap_or(spent), spent)),
        }
    }
}

/// 10,000 live sessions: channels through the bastion to a listener that only holds them.
pub(crate) async fn many(report: &mut Report) -> Result<()> {
    const CONNECTIONS: usize = 100;
    const CHANNELS: usize = 100;
    const FIRST_PAGES: usize = 200;
    const LISTS: usize = 20;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let crowd = Crowd::before(port)?;
    let open = async || -> Result<_> {
        let handle = crowd.log_in("alice").await?;
        let mut channels = Vec::with_capacity(CHANNELS);
        for _ in 0..CHANNELS {
            channels.push(handle.channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 0).await?);
        }
        Ok((handle, channels))
    };
    let mut all = Vec::new();
    while all.len() < CONNECTIONS {
        let batch = (CONNECTIONS - all.len()).min(10);
        for opened in futures_join((0..batch).map(|_| open()).collect()).await {
            all.push(opened?);
        }
    }
    let token = arm_token(&crowd.http, &crowd.ravelin).await?;
    let (mut firsts, mut wholes) = (Vec::new(), Vec::new());
    for _ in 0..LISTS {
        let (ids, first, whole) = whole_list(&crowd, &token).await?;
        ensure!(ids.len() == CONNECTIONS * CHANNELS, "{} sessions are listed", ids.len());
        firsts.push(millis(first));
        wholes.push(millis(whole));
    }
    let url = format!("{}{}/getActiveSessions?api-version=2024-05-01", crowd.ravelin.http, host_path());
    while firsts.len() < FIRST_PAGES {
        let begun = Instant::now();
        let request = crowd.http.post(&url).bearer_auth(&token).header("content-length", 0);
        let _page = request.send().await?.error_for_status()?.bytes().await?;
        firsts.push(millis(begun.elapsed()));
    }
    report.add("first page of 10,000 live, Azure dialect, p50", percentile(&mut firsts, 0.5), "ms", None);
    let goal = Some((Bound::AtMost, 25.0));
    report.add("first page of 10,000 live, Azure dialect, p99", percentile(&mut firsts, 0.99), "ms", goal);
    report.add("whole list of 10,000 live, Azure dialect, p50", percentile(&mut wholes, 0.5), "ms", None);
    let goal = Some((Bound::AtMost, 500.0));
    report.add("whole list of 10,000 live, Azure dialect, slowest", percentile(&mut wholes, 1.0), "ms", goal);
    drop(all);
    Ok(())
}

/// 1,000 shells ended by one request, each confirmed.
pub(crate) async fn cut(report: &mut Report) -> Result<()> {
    const LIVE: usize = 1_000;
    const ROUNDS: usize = 3;
    let crowd = Crowd::start().await?;
    let token = arm_token(&crowd.http, &crowd.ravelin).await?;
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let all = crowd.connect_many(LIVE).await?;
        let (ids, _, _) = whole_list(&crowd, &token).await?;
        ensure!(ids.len() == LIVE, "{} sessions are listed", ids.len());
        let url = format!("{}{}/disconnectActiveSessions?api-version=2024-05-01", crowd.ravelin.http, host_path());
        let request = crowd.http.post(url).bearer_auth(&token).json(&json!({ "sessionIds": ids }));
        let begun = Instant::now();
        let answer = request.send().await?.error_for_status()?.bytes().await?;
        seconds.push(begun.elapsed().as_secs_f64());
        let answer: Value = serde_json::from_slice(&answer)?;
        let states = answer["value"].as_array().context("value")?;
        let confirmed = states.iter().filter(|state| state["state"] == "Disconnected").count();
        ensure!(confirmed == LIVE, "{confirmed} of {LIVE} are confirmed");
        // The other side of the promise: each client finds its connection ended.
        for mut live in all {
            let ended = async { while live.channel.wait().await.is_some() {} };
            let bound = Duration::from_secs(30);
            tokio::time::timeout(bound, ended).await.context("a client's connection was not ended")?;
        }
    }
    let goal = Some((Bound::AtMost, 2.0));
    report.add("disconnect of 1,000 in one call, slowest", percentile(&mut seconds, 1.0), "s", goal);
    Ok(())
}

/// One stream each way.
pub(crate) async fn tunnel(report: &mut Report) -> Result<()> {
    const ROUNDS: usize = 5;
    let dir = tempfile::tempdir()?;
    let (user, host) = (key(dir.path(), "user")?, key(dir.path(), "host")?);
    let far = far_end()?;
    let ravelin = Ravelin::start(dir.path(), far, &public(&host)?, "root", &user)?;
    let http = reqwest::Client::new();
    let token = arm_token(&http, &ravelin).await?;
    let relay_port = relay(far).await?;
    // The service's own command line sends 4 KiB in a message, `ravelin bastion tunnel` as much as there is.
    for (way, name, message_bytes) in [
        (b'd', "download", 4 << 10),
        (b'u', "upload in messages of 4 KiB", 4 << 10),
        (b'u', "upload in messages of 32 KiB", 32 << 10),
    ] {
        let (mut speeds, mut ratios) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let their_speed = tokio::task::spawn_blocking(move || transfer(relay_port, way)).await??;
            let socket = Socket::open(&http, &ravelin, &token, far).await?;
            let our_speed = tokio::task::spawn_blocking(move || socket.transfer(way, message_bytes)).await??;
            speeds.push(our_speed);
            ratios.push(our_speed / their_speed);
        }
        report.add(&format!("tunnel, {name}"), median(speeds), "MB/s", None);
        let goal = Some((Bound::AtLeast, 0.7));
        report.add(&format!("tunnel, {name} ÷ TCP relay"), median(ratios), "", goal);
    }
    Ok(())
}

/// A plain TCP relay: what it copies, it copies as fast as the runtime's own function does.
async fn relay(to: u16) -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await?;
                near.set_nodelay(true)?;
                far.set_nodelay(true)?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await.map(|_| ())
            });
        }
    });
    Ok(port)
}

/// The client's side of a tunnel.
struct Socket {
    stream: TcpStream,
}

impl Socket {
    const MASK: [u8; 4] = [0x5a, 0x13, 0xc7, 0x08];

    async fn open(http: &reqwest::Client, ravelin: &Ravelin, token: &str, port: u16) -> Result<Self> {
        let machine =
            format!("/subscriptions/{ZERO}/resourceGroups/ravelin/providers/Microsoft.Compute/virtualMachines/web-1");
        let port = port.to_string();
        let form = [
            ("resourceId", machine.as_str()),
            ("protocol", "tcptunnel"),
            ("workloadHostPort", &port),
            ("aztoken", token),
        ];
        let url = format!("{}/api/tokens", ravelin.http);
        let tokens: Value = http.post(url).form(&form).send().await?.error_for_status()?.json().await?;
        let path = format!("/webtunnelv2/{}?X-Node-Id=", tokens["websocketToken"].as_str().context("a token")?);
        let address = ravelin.http.trim_start_matches("http://").to_owned();
        tokio::task::spawn_blocking(move || Self::shake_hands(&address, &path)).await?
    }

    fn shake_hands(address: &str, path: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        let (mut answer, mut byte) = (Vec::new(), [0]);
        while !answer.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte)?;
            answer.push(byte[0]);
        }
        ensure!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        Ok(Self { stream })
    }

    /// Megabytes per second of one transfer, as [`transfer`] makes it through a port.
    fn transfer(mut self, way: u8, message_bytes: usize) -> Result<f64> {
        let begun = Instant::now();
        self.stream.write_all(&message(&[way])?)?;
        let mut incoming = BufReader::with_capacity(PIECE, self.stream.try_clone()?);
        let mut scratch = vec![0; PIECE];
        if way == b'd' {
            let mut total = 0;
            while let Some(count) = next_message(&mut incoming, &mut scratch)? {
                total += count;
            }
            ensure!(total == BYTES, "{total} of {BYTES} bytes came");
        } else {
            let piece = message(&vec![0; message_bytes])?.repeat(PIECE / message_bytes);
            for _ in 0..BYTES / PIECE {
                self.stream.write_all(&piece)?;
            }
            let said = next_message(&mut incoming, &mut scratch)?;
            ensure!(said == Some(1), "the far end did not take everything");
        }
        Ok(BYTES as f64 / 1e6 / begun.elapsed().as_secs_f64())
    }
}

/// A binary message with a mask: RFC 6455, section 5.2.
fn message(payload: &[u8]) -> Result<Vec<u8>> {
    let mut frame = vec![0x82];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short)?),
        long => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&u16::try_from(long)?.to_be_bytes());
        }
    }
    frame.extend_from_slice(&Socket::MASK);
    frame.extend(payload.iter().zip(Socket::MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(frame)
}

/// The payload's length of the next binary message, or `None` at the close frame.
fn next_message(incoming: &mut impl Read, scratch: &mut [u8]) -> Result<Option<usize>> {
    let mut head = [0; 2];
    incoming.read_exact(&mut head)?;
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            incoming.read_exact(&mut length)?;
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            incoming.read_exact(&mut length)?;
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    let length = usize::try_from(length)?;
    ensure!(length <= scratch.len(), "a message of {length} bytes");
    incoming.read_exact(&mut scratch[..length])?;
    match head[0] & 0x0f {
        2 => Ok(Some(length)),
        8 => Ok(None),
        other => bail!("a frame of the kind {other}"),
    }
}
