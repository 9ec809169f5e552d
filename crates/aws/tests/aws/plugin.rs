//! The client's side of a session against a server in this process, made of the same machine: what is said arrives once
//! and in order, over any number of cuts, and whatever a server does, a session ends with a reason.

use crate::clock::{Clock, work};
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use ravelin_aws::plugin::console::{Console, Signal};
use ravelin_aws::plugin::{
    Control, Ended, Failure, NotResumed, Options, Patience, Resumed, Started, run, trust, trust_anybody,
};
use ravelin_aws::proto::channel::{self, Flag};
use ravelin_aws::proto::delivery::{Delivery, End, Epoch, Event, Limits, Transmit};
use ravelin_aws::proto::host::LIMITS;
use ravelin_aws::proto::message::{Message, MessageType, PayloadType};
use ravelin_aws::proto::smux;
use ravelin_aws::wire::data_channel as wire;
use secrecy::SecretString;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use uuid::Uuid;

const SESSION: &str = "alice-0123456789abcdef0";

/// The calls of a session, counted.
#[derive(Default)]
struct Calls {
    resumes: AtomicU32,
    terminations: AtomicU32,
    refuse: Option<NotResumed>,
    empty: bool,
}

#[async_trait]
impl Control for Calls {
    async fn resume(&self, session_id: &str) -> Result<Resumed, NotResumed> {
        assert_eq!(session_id, SESSION);
        let number = self.resumes.fetch_add(1, Ordering::SeqCst);
        match &self.refuse {
            Some(not) => Err(not.clone()),
            None if self.empty => Ok(Resumed { token: String::new().into(), stream_url: None }),
            None => Ok(Resumed { token: format!("token-{}", number + 1).into(), stream_url: None }),
        }
    }

    async fn terminate(&self, session_id: &str) -> Result<(), String> {
        assert_eq!(session_id, SESSION);
        self.terminations.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn signer(&self) -> Option<(aws_credential_types::Credentials, String)> {
        let credentials = aws_credential_types::Credentials::new("AKID", "secret", None, None, "test");
        Some((credentials, "eu-west-1".to_owned()))
    }
}

/// A session at work, and both ends of its pipes.
struct Run {
    input: mpsc::Sender<Bytes>,
    output: mpsc::Receiver<Bytes>,
    errors: mpsc::Receiver<Bytes>,
    signals: mpsc::Sender<Signal>,
    session: JoinHandle<Result<Ended, Failure>>,
}

fn options(patience: Patience) -> Options {
    Options { trust: trust(&[]).expect("the system's certificates"), patience, limits: Limits::CLIENT }
}

fn start(url: String, calls: &Arc<Calls>, patience: Patience) -> Run {
    start_with(url, calls, options(patience))
}

fn start_with(url: String, calls: &Arc<Calls>, options: Options) -> Run {
    let (input, from_input) = mpsc::channel(4);
    let (to_output, output) = mpsc::channel(4);
    let (to_errors, errors) = mpsc::channel(64);
    let started = Started { session_id: SESSION.to_owned(), token: SecretString::from("token-0"), stream_url: url };
    let (signals, from_system) = mpsc::channel(4);
    let console = Console::piped(from_input, to_output, to_errors).hearing(from_system);
    let calls: Arc<dyn Control> = Arc::<Calls>::clone(calls);
    let session = tokio::spawn(run(started, calls, options, console));
    Run { input, output, errors, signals, session }
}

impl Run {
    /// All output until the session ends, and how it ended.
    async fn finish(mut self) -> (Vec<u8>, String, Result<Ended, Failure>) {
        drop(self.input);
        let mut all = Vec::new();
        while let Some(piece) = self.output.recv().await {
            all.extend_from_slice(&piece);
        }
        let ended = limit("the end", self.session).await.expect("no panic");
        let mut errors = Vec::new();
        while let Some(piece) = self.errors.recv().await {
            errors.extend_from_slice(&piece);
        }
        (all, String::from_utf8(errors).expect("text"), ended)
    }
}

async fn limit<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.unwrap_or_else(|_| panic!("{what} did not come"))
}

/// What the server does once the session has begun.
#[derive(Clone, Debug)]
enum Play {
    /// Says everything back; Ctrl-D or the flag ends it with this exit code.
    Echo { code: i64 },
    /// Says so many bytes, takes so many, and ends when both are done.
    Both { says: usize, takes: usize },
    /// Says back what comes on each smux stream, and its end.
    Mux,
}

/// What the server saw.
#[derive(Default)]
struct Seen {
    taken: Vec<u8>,
    tokens: Vec<String>,
    signed: Vec<bool>,
}

struct Server {
    machine: Delivery,
    play: Play,
    to_say: VecDeque<Bytes>,
    said: usize,
    begun: bool,
    ended: bool,
    decoder: smux::Decoder,
    seen: Arc<Mutex<Seen>>,
}

/// Bytes that tell a lost or doubled piece.
fn pattern(from: usize, count: usize) -> Bytes {
    (from..from + count).map(|at| u8::try_from((at * 31 + at / 251) % 256).expect("below 256")).collect()
}

#[expect(clippy::result_large_err, reason = "the shape of the callback is the library's")]
async fn serve(
    listener: TcpListener,
    session_type: &'static str,
    properties: Value,
    play: Play,
    seen: Arc<Mutex<Seen>>,
) {
    let epoch = Epoch { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
    let mut server = Server {
        machine: Delivery::new(End::Server, LIMITS, epoch, Uuid::new_v4()),
        play,
        to_say: VecDeque::new(),
        said: 0,
        begun: false,
        ended: false,
        decoder: smux::Decoder::new(),
        seen,
    };
    let request = json!({
        "AgentVersion": "3.3.0.0",
        "RequestedClientActions": [
            {"ActionType": "SessionType", "ActionParameters": {"SessionType": session_type, "Properties": properties}}
        ],
        "RavelinPayloadBytesMax": 65_536,
    });
    let request = Bytes::from(request.to_string());
    server.machine.send(PayloadType::HandshakeRequest, request, Instant::now()).expect("room");
    loop {
        let (tcp, _) = listener.accept().await.expect("a connection");
        let mut signed = false;
        let callback = |request: &http::Request<()>, response| {
            let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
            signed = authorization.is_some_and(|value| value.contains("/eu-west-1/ssmmessages/aws4_request"));
            Ok(response)
        };
        let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(tcp, callback).await else { continue };
        let Some(Ok(Frame::Text(opening))) = socket.next().await else { continue };
        let opening = channel::opening(opening.as_bytes()).expect("an opening");
        {
            let mut seen = server.seen.lock().expect("no panic");
            seen.tokens.push(opening.token_value);
            seen.signed.push(signed);
        }
        server.machine.attach(Instant::now());
        server.ride(socket).await;
        server.machine.detach();
        if server.ended && server.machine.is_drained() {
            return;
        }
    }
}

impl Server {
    async fn ride(&mut self, mut socket: WebSocketStream<TcpStream>) {
        loop {
            let now = Instant::now();
            self.act(now);
            while let Some(transmit) = self.machine.poll_transmit(now) {
                let frame = match transmit {
                    Transmit::Message(bytes) => Frame::Binary(bytes),
                    Transmit::Ping(bytes) => Frame::Ping(bytes),
                };
                if socket.feed(frame).await.is_err() {
                    return;
                }
            }
            if socket.flush().await.is_err() {
                return;
            }
            let at = self.machine.poll_timeout().unwrap_or(now + Duration::from_secs(60));
            tokio::select! {
                frame = socket.next() => match frame {
                    Some(Ok(Frame::Binary(bytes))) => {
                        self.machine.handle(&bytes, Instant::now()).expect("a message of ours");
                    }
                    Some(Ok(Frame::Pong(payload))) => self.machine.handle_pong(&payload, Instant::now()),
                    Some(Ok(Frame::Text(_) | Frame::Ping(_) | Frame::Frame(_))) => {}
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                },
                () = tokio::time::sleep_until(at.into()) => {}
            }
        }
    }

    fn act(&mut self, now: Instant) {
        while let Some(event) = self.machine.poll_event() {
            let Event::Data { payload_type, payload } = event else { panic!("{event:?}") };
            match payload_type {
                PayloadType::HandshakeResponse => {
                    let complete = wire::HandshakeCompletePayload::default();
                    let complete = channel::encode(&complete);
                    self.machine.send(PayloadType::HandshakeComplete, complete, now).expect("room");
                    self.begun = true;
                }
                PayloadType::Output => self.take(&payload),
                PayloadType::Flag if Flag::decode(&payload) == Ok(Flag::EndOfInput) => self.end_of_input(),
                PayloadType::Size => {}
                other => panic!("{other:?}"),
            }
        }
        if !self.begun {
            return;
        }
        if let Play::Both { says, takes } = self.play {
            while self.said < says && self.machine.room() > 30_000 {
                let count = 30_000.min(says - self.said);
                self.machine.send(PayloadType::Output, pattern(self.said, count), now).expect("room");
                self.said += count;
            }
            self.ended |= self.said == says && self.seen.lock().expect("no panic").taken.len() >= takes;
        }
        while let Some(piece) = self.to_say.front_mut() {
            let room = self.machine.room().min(piece.len());
            if room == 0 {
                return;
            }
            self.machine.send(PayloadType::Output, piece.split_to(room), now).expect("room");
            if piece.is_empty() {
                self.to_say.pop_front();
            }
        }
        if self.ended {
            if let Play::Echo { code } = self.play {
                // Nothing can be sent after the last word.
                self.machine.send(PayloadType::ExitCode, channel::encode_exit_code(code), now).ok();
            }
            self.machine.finish(&wire::ChannelClosed::default(), now);
        }
    }

    fn take(&mut self, payload: &Bytes) {
        match self.play {
            Play::Echo { .. } => {
                let end = payload.iter().position(|byte| *byte == 4);
                self.to_say.push_back(payload.slice(..end.unwrap_or(payload.len())));
                self.to_say.retain(|piece| !piece.is_empty());
                self.ended |= end.is_some();
            }
            Play::Both { .. } => self.seen.lock().expect("no panic").taken.extend_from_slice(payload),
            Play::Mux => {
                self.decoder.push(payload.clone());
                while let Some(frame) = self.decoder.poll_frame().expect("frames") {
                    let mut back = BytesMut::new();
                    match frame.command {
                        smux::Command::Psh => smux::encode_data(frame.stream, &frame.data, &mut back),
                        smux::Command::Fin => smux::encode(smux::Command::Fin, frame.stream, &mut back),
                        smux::Command::Syn | smux::Command::Nop => {}
                    }
                    self.to_say.push_back(back.freeze());
                }
                self.to_say.retain(|piece| !piece.is_empty());
            }
        }
    }

    fn end_of_input(&mut self) {
        match self.play {
            Play::Echo { .. } => self.ended = true,
            Play::Both { .. } | Play::Mux => {}
        }
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url =
        format!("ws://{}/v1/data-channel/{SESSION}?role=publish_subscribe", listener.local_addr().expect("bound"));
    (listener, url)
}

/// A server behind a wire that is cut after each of these numbers of bytes; the last connection holds.
async fn bed(
    session_type: &'static str,
    properties: Value,
    play: Play,
    cuts: Vec<usize>,
) -> (String, Arc<Mutex<Seen>>) {
    let (listener, _) = listen().await;
    let to = listener.local_addr().expect("bound");
    let seen = Arc::new(Mutex::new(Seen::default()));
    tokio::spawn(serve(listener, session_type, properties, play, Arc::clone(&seen)));
    let (wire, url) = listen().await;
    tokio::spawn(async move {
        let mut cuts = cuts.into_iter();
        loop {
            let (mut near, _) = wire.accept().await.expect("a connection");
            let mut far = TcpStream::connect(to).await.expect("the server");
            match cuts.next() {
                Some(after) => carry(&mut near, &mut far, after).await,
                None => drop(tokio::io::copy_bidirectional(&mut near, &mut far).await),
            }
        }
    });
    (url, seen)
}

/// Carries so many bytes, either way, and not one more.
async fn carry(near: &mut TcpStream, far: &mut TcpStream, mut left: usize) {
    let (mut a, mut b) = (vec![0; 4096], vec![0; 4096]);
    while left > 0 {
        let (count, up) = tokio::select! {
            count = near.read(&mut a[..left.min(4096)]) => (count.unwrap_or(0), true),
            count = far.read(&mut b[..left.min(4096)]) => (count.unwrap_or(0), false),
        };
        left = left.saturating_sub(count);
        let written = if up { far.write_all(&a[..count]).await } else { near.write_all(&b[..count]).await };
        if count == 0 || written.is_err() {
            return;
        }
    }
}

/// Numbers that differ from run to run are no use in a test that failed: these do not.
fn cuts(seed: usize, count: usize, up_to: usize) -> Vec<usize> {
    (0..count).map(|at| 2500 + (seed * 7919 + at * 104_729 + at * at * 31) % up_to).collect()
}

#[tokio::test]
async fn a_shell_with_pipes_gets_all_of_its_input_and_tells_its_exit_code() {
    let (url, seen) = bed("Standard_Stream", Value::Null, Play::Echo { code: 7 }, vec![]).await;
    let calls = Arc::default();
    let run = start(url, &calls, Patience::default());
    // Bytes that the vendor's plugin rewrites, one by one.
    for piece in ["ls\r", "\n", "\x0a", "\x0b", "\x0c", "\x0d", "\u{3}", "é", "last"] {
        run.input.send(Bytes::from(piece)).await.expect("it listens");
    }
    let (output, errors, ended) = limit("all output", run.finish()).await;
    // A last line without its end gets one, for a program that reads lines.
    assert_eq!(String::from_utf8_lossy(&output), "ls\r\n\x0a\x0b\x0c\x0d\u{3}élast\n");
    assert_eq!(ended, Ok(Ended { status: 7 }));
    assert!(errors.contains("Starting session with SessionId: alice-"), "{errors}");
    let seen = seen.lock().expect("no panic");
    assert_eq!((&seen.tokens[..], &seen.signed[..]), (&["token-0".to_owned()][..], &[true][..]));
    assert_eq!(calls.resumes.load(Ordering::SeqCst), 0);
    assert_eq!(calls.terminations.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_survives_cuts_in_both_directions_at_once() {
    const BYTES: usize = 4 * 1024 * 1024;
    for seed in 1..4 {
        let play = Play::Both { says: BYTES, takes: BYTES };
        let (url, seen) = bed("Port", json!({"portNumber": "22"}), play, cuts(seed, 12, 900_000)).await;
        let calls = Arc::default();
        let mut run = start(url, &calls, Patience::default());
        let input = run.input.clone();
        tokio::spawn(async move {
            let mut at = 0;
            while at < BYTES {
                let count = 50_000.min(BYTES - at);
                input.send(pattern(at, count)).await.expect("it listens");
                at += count;
            }
        });
        let mut output = Vec::new();
        while output.len() < BYTES {
            output.extend_from_slice(&limit("output", run.output.recv()).await.expect("more"));
        }
        let (rest, _, ended) = limit("the end", run.finish()).await;
        assert_eq!(rest, b"");
        assert_eq!(ended, Ok(Ended { status: 0 }));
        assert_eq!(digest(&SHA256, &output).as_ref(), digest(&SHA256, &pattern(0, BYTES)).as_ref());
        let seen = seen.lock().expect("no panic");
        assert_eq!(digest(&SHA256, &seen.taken).as_ref(), digest(&SHA256, &pattern(0, BYTES)).as_ref());
        // The last connection may end with the last word, and each resume brings a new token.
        assert!(calls.resumes.load(Ordering::SeqCst) >= 8, "{} resumes", calls.resumes.load(Ordering::SeqCst));
        let mut tokens = seen.tokens.clone();
        tokens.dedup();
        assert_eq!(tokens.len(), seen.tokens.len());
    }
}

/// The port that was announced.
async fn announced(run: &mut Run) -> u16 {
    let mut text = String::new();
    loop {
        text.push_str(&String::from_utf8_lossy(&limit("the port", run.output.recv()).await.expect("it opens")));
        if text.contains("Waiting for connections...") {
            let port = text.strip_prefix("Port ").and_then(|rest| rest.split(' ').next()).expect("a port");
            return port.parse().expect("a number");
        }
    }
}

async fn echo_through(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    seed: usize,
    bytes: usize,
) {
    let sent = pattern(seed, bytes);
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let say = async {
        writer.write_all(&sent).await.expect("it takes");
        writer.shutdown().await.expect("it ends");
    };
    let mut back = Vec::new();
    let hear = async { reader.read_to_end(&mut back).await.expect("it says") };
    tokio::join!(say, hear);
    assert!(back == sent, "stream {seed}: {} of {} bytes", back.len(), sent.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_are_carried_at_once_over_cuts() {
    let properties = json!({"portNumber": "80", "type": "LocalPortForwarding"});
    let (url, _) = bed("Port", properties, Play::Mux, cuts(5, 10, 400_000)).await;
    let calls = Arc::default();
    let mut run = start(url, &calls, Patience::default());
    let port = announced(&mut run).await;
    let mut output = run.output;
    tokio::spawn(async move { while output.recv().await.is_some() {} });
    let connections: Vec<_> = (0..20)
        .map(|seed| {
            tokio::spawn(async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
                echo_through(stream, seed, 150_000).await;
            })
        })
        .collect();
    for connection in connections {
        if let Err(panic) = limit("a connection", connection).await {
            let ended = tokio::time::timeout(Duration::from_secs(1), run.session).await;
            panic!("{panic}; {ended:?}; {} resumes", calls.resumes.load(Ordering::SeqCst));
        }
    }
    assert!(calls.resumes.load(Ordering::SeqCst) >= 5);
    run.session.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_nothing_is_closed_so_that_others_go_on() {
    let properties = json!({"portNumber": "80", "type": "LocalPortForwarding"});
    let (url, _) = bed("Port", properties, Play::Mux, vec![]).await;
    let patience = Patience { stuck: Duration::from_secs(1), ..Patience::default() };
    let calls = Arc::default();
    let mut run = start(url, &calls, patience);
    let port = announced(&mut run).await;
    let mut output = run.output;
    tokio::spawn(async move { while output.recv().await.is_some() {} });
    let mut stuck = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    // Says and never reads, until the system's buffers and ours are full and it is closed.
    let flood = tokio::spawn(async move {
        let piece = vec![7; 64 * 1024];
        while stuck.write_all(&piece).await.is_ok() {}
    });
    let other = TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    limit("the other connection", echo_through(other, 1, 100_000)).await;
    limit("the stuck connection's end", flood).await.expect("no panic");
    run.session.abort();
}

#[tokio::test]
async fn a_socket_is_listened_on_as_well_and_goes_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let properties = json!({
        "portNumber": "80", "type": "LocalPortForwarding", "localConnectionType": "unix",
        "localUnixSocket": path.display().to_string(),
    });
    let (url, _) = bed("Port", properties, Play::Mux, vec![]).await;
    let calls = Arc::default();
    let mut run = start(url, &calls, Patience::default());
    let text = limit("the socket", run.output.recv()).await.expect("it opens");
    assert!(String::from_utf8_lossy(&text).starts_with("Unix socket /"), "{text:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).expect("it is there").permissions());
    assert_eq!(mode & 0o777, 0o600);
    limit("an echo", echo_through(UnixStream::connect(&path).await.expect("it listens"), 3, 10_000)).await;
    run.session.abort();
    limit("the end", async { run.session.await.expect_err("aborted") }).await;
    assert!(!path.exists());
}

/// How a session with this server ends: never without a reason.
async fn end_with<F: Future<Output = ()> + Send + 'static>(
    calls: Calls,
    patience: Patience,
    server: impl Fn(WebSocketStream<TcpStream>) -> F + Send + 'static,
) -> (Failure, Arc<Calls>) {
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            if let Ok(mut socket) = tokio_tungstenite::accept_async(tcp).await {
                let _opening = socket.next().await;
                tokio::spawn(server(socket));
            }
        }
    });
    let calls = Arc::new(calls);
    let run = start(url, &calls, patience);
    // Input is there, so that something is owed.
    run.input.send(Bytes::from_static(b"x")).await.ok();
    let (_, _, ended) = limit("the end", run.finish()).await;
    (ended.expect_err("no success"), calls)
}

fn message(message_type: MessageType, payload_type: PayloadType, sequence: u64, payload: &str) -> Bytes {
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let id = Uuid::new_v4();
    Message { message_type, created_ms: 1, sequence, flags: 0, id, payload_type, payload }.encode()
}

#[tokio::test]
async fn a_hostile_server_ends_the_session_and_says_why() {
    let short = Patience {
        connect: Duration::from_secs(20),
        resume: Duration::from_millis(300),
        owed: Duration::from_secs(1),
        silence: Duration::from_secs(30),
        stuck: Duration::from_secs(1),
    };
    // A frame of 4 GiB is announced: the connection is left, and so is the server that does it again and again.
    let (failure, calls) = end_with(Calls::default(), short, |socket| async move {
        let mut raw = socket.into_inner();
        raw.write_all(&[0x82, 127, 0, 0, 0, 1, 0, 0, 0, 0]).await.ok();
        raw.write_all(&[0; 4096]).await.ok();
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    assert!(matches!(&failure, Failure::Fruitless(because) if because.contains("too long")), "{failure}");
    assert_eq!(calls.terminations.load(Ordering::SeqCst), 1);

    // Closed at once, with nothing said.
    let (failure, _) = end_with(Calls::default(), short, |mut socket| async move {
        socket.close(None).await.ok();
    })
    .await;
    assert!(matches!(failure, Failure::Fruitless(_)), "{failure}");

    // Closed at once, and not to be resumed: that is the token.
    let refused = NotResumed { because: "DoesNotExistException: no such session".to_owned(), again: false };
    let calls = Calls { refuse: Some(refused), ..Calls::default() };
    let (failure, calls) = end_with(calls, short, |mut socket| async move {
        socket.close(None).await.ok();
    })
    .await;
    assert!(matches!(&failure, Failure::Token(because) if because.contains("no such session")), "{failure}");
    assert_eq!(calls.terminations.load(Ordering::SeqCst), 0);

    // Over, says the service by a token that is empty.
    let calls = Calls { empty: true, ..Calls::default() };
    let (failure, _) = end_with(calls, short, |mut socket| async move {
        socket.close(None).await.ok();
    })
    .await;
    assert_eq!(failure, Failure::TimedOut(SESSION.to_owned()));

    // A session that begins and acknowledges nothing.
    let (failure, _) = end_with(Calls::default(), short, |mut socket| async move {
        let begin = message(MessageType::OutputStreamData, PayloadType::Output, 0, "$ ");
        socket.send(Frame::Binary(begin)).await.ok();
        while socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    })
    .await;
    assert_eq!(failure, Failure::Silent(Duration::from_secs(1)));

    // A handshake without end.
    let (failure, _) = end_with(Calls::default(), short, |mut socket| async move {
        let actions = r#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Standard_Stream"}}]}"#;
        for sequence in 0.. {
            let request = message(MessageType::OutputStreamData, PayloadType::HandshakeRequest, sequence, actions);
            if socket.send(Frame::Binary(request)).await.is_err() {
                return;
            }
        }
    })
    .await;
    assert!(matches!(&failure, Failure::Broken(because) if because.contains("second handshake")), "{failure}");

    // Garbage instead of frames inside a forwarding.
    let (failure, _) = end_with(Calls::default(), short, |mut socket| async move {
        let actions = r#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":{"SessionType":"Port","Properties":{"type":"LocalPortForwarding"}}}]}"#;
        for (sequence, payload_type, payload) in [
            (0, PayloadType::HandshakeRequest, actions),
            (1, PayloadType::HandshakeComplete, "{}"),
            (2, PayloadType::Output, "SSH-2.0-what"),
        ] {
            let text = message(MessageType::OutputStreamData, payload_type, sequence, payload);
            socket.send(Frame::Binary(text)).await.ok();
        }
        while socket.next().await.is_some_and(|frame| frame.is_ok()) {}
    })
    .await;
    assert!(matches!(&failure, Failure::Broken(because) if because.contains("smux version 83")), "{failure}");
}

#[tokio::test]
async fn bad_digests_are_passed_over_until_the_handshake_has_had_its_time() {
    let short = Patience { silence: Duration::from_secs(2), resume: Duration::ZERO, ..Patience::default() };
    let refused = NotResumed { because: "no".to_owned(), again: false };
    let calls = Calls { refuse: Some(refused), ..Calls::default() };
    let (failure, _) = end_with(calls, short, |mut socket| async move {
        for sequence in 0..200 {
            let mut bad = message(MessageType::OutputStreamData, PayloadType::Output, sequence, "$ ").to_vec();
            bad[85] ^= 1;
            socket.send(Frame::Binary(bad.into())).await.ok();
        }
        socket.close(None).await.ok();
    })
    .await;
    assert!(matches!(failure, Failure::Token(_)), "{failure}");
}

#[tokio::test]
async fn what_cannot_be_reached_or_trusted_is_said() {
    let patience = Patience::default();
    let end = async |url: String| {
        let calls = Arc::<Calls>::default();
        let run = start(url, &calls, patience);
        let (_, _, ended) = limit("the end", run.finish()).await;
        ended.expect_err("no success").to_string()
    };
    // Nobody listens.
    let (listener, url) = listen().await;
    drop(listener);
    assert!(end(url).await.starts_with("cannot reach 127.0.0.1:"));
    // Not a URL, and not one of ours.
    assert!(end("nonsense".to_owned()).await.contains("none of a WebSocket"));
    assert!(end("https://127.0.0.1/".to_owned()).await.contains("none of a WebSocket"));
    // An HTTP server that does not want.
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.expect("a connection");
        let _request = tcp.read(&mut [0; 4096]).await;
        tcp.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nnot you").await.expect("it reads");
        let _end = tcp.read(&mut [0; 4096]).await;
    });
    let text = end(url).await;
    assert!(text.contains("403 Forbidden"), "{text}");
    // A certificate of nobody we know.
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate with its key");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, url) = listen().await;
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let acceptor = acceptor.clone();
            tokio::spawn(async move { acceptor.accept(tcp).await.map(drop) });
        }
    });
    let url = url.replace("ws://", "wss://");
    let text = end(url.clone()).await;
    assert!(text.contains("is not trusted") && text.contains("SSL_CERT_FILE"), "{text}");
    // Unless nobody wants to know; then it is the server that does not go on.
    let options = Options { trust: trust_anybody().expect("nothing is needed"), ..options(patience) };
    let run = start_with(url, &Arc::<Calls>::default(), options);
    let (_, _, ended) = limit("the end", run.finish()).await;
    let text = ended.expect_err("no success").to_string();
    assert!(text.contains("no WebSocket") || text.contains("closed"), "{text}");
}

#[tokio::test]
async fn a_session_whose_idle_connections_are_cut_again_and_again_goes_on() {
    let (listener, url) = listen().await;
    let calls = Arc::<Calls>::default();
    let run = start(url, &calls, Patience::default());
    let (to_test, mut sockets) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.expect("a connection");
            let mut socket = tokio_tungstenite::accept_async(tcp).await.expect("an upgrade");
            let _opening = socket.next().await;
            to_test.send(socket).await.ok();
        }
    });
    let mut socket = limit("a connection", sockets.recv()).await.expect("it listens");
    let clock = Clock::stop();
    let begin = message(MessageType::OutputStreamData, PayloadType::Output, 0, "$ ");
    socket.send(Frame::Binary(begin)).await.expect("it reads");
    for _ in 0..20 {
        work(Duration::from_millis(10)).await;
        clock.pass(Duration::from_secs(60)).await;
        drop(socket);
        socket = loop {
            assert!(!run.session.is_finished(), "it goes on");
            match sockets.try_recv() {
                Ok(socket) => break socket,
                Err(_none_yet) => {
                    work(Duration::from_millis(1)).await;
                    clock.pass(Duration::from_millis(50)).await;
                }
            }
        };
    }
    drop(clock);
    run.session.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_nothing_for_a_while_keeps_the_connection() {
    const BYTES: usize = 8 * 1024 * 1024;
    let play = Play::Both { says: BYTES, takes: 1 };
    let (url, _) = bed("Port", json!({"portNumber": "22"}), play, vec![]).await;
    let calls = Arc::default();
    let patience =
        Patience { owed: Duration::from_millis(500), silence: Duration::from_millis(500), ..Patience::default() };
    let mut run = start(url, &calls, patience);
    let mut count = limit("output", run.output.recv()).await.expect("it begins").len();
    tokio::time::sleep(Duration::from_millis(200)).await;
    run.input.send(Bytes::from_static(b"x")).await.expect("it listens");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    while count < BYTES {
        count += limit("output", run.output.recv()).await.expect("more").len();
    }
    let (_, _, ended) = limit("the end", run.finish()).await;
    assert_eq!(ended, Ok(Ended { status: 0 }));
    assert_eq!(calls.resumes.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_nothing_when_the_connection_is_cut_is_connected_again_meanwhile() {
    const BYTES: usize = 600_000;
    let play = Play::Both { says: BYTES, takes: 1 };
    let (url, _) = bed("Port", json!({"portNumber": "22"}), play, vec![400_000]).await;
    let calls = Arc::<Calls>::default();
    let mut run = start(url, &calls, Patience::default());
    let mut count = limit("output", run.output.recv()).await.expect("it begins").len();
    let resumed = async {
        while calls.resumes.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    limit("a new connection", resumed).await;
    run.input.send(Bytes::from_static(b"x")).await.expect("it listens");
    while count < BYTES {
        count += limit("output", run.output.recv()).await.expect("more").len();
    }
    let (_, _, ended) = limit("the end", run.finish()).await;
    assert_eq!((count, ended), (BYTES, Ok(Ended { status: 0 })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_are_heard_while_nobody_reads_the_output() {
    for (kind, properties) in [
        ("Port", json!({"portNumber": "22"})),
        ("NonInteractiveCommands", Value::Null),
        ("Standard_Stream", Value::Null),
    ] {
        let play = Play::Both { says: 8 * 1024 * 1024, takes: 1 };
        let (url, _) = bed(kind, properties, play, vec![]).await;
        let calls = Arc::<Calls>::default();
        let run = start(url, &calls, Patience::default());
        // Nothing moves any more.
        let full = async {
            while run.output.len() < run.output.max_capacity() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        limit("output", full).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        run.signals.send(Signal::Terminate).await.expect("it listens");
        let ended = limit("the end", run.session).await.expect("no panic");
        assert_eq!(ended, Ok(Ended { status: 128 + 15 }), "{kind}");
        assert_eq!(calls.terminations.load(Ordering::SeqCst), 1, "{kind}");
    }
}
