//! The data channel of the real binary, driven by the other end of the same machine and by hostile hands.
//!
//! The client here is written for the test: it signs, opens, shakes hands, and keeps what it is told. The clients that
//! people have are in `tests/e2e`.

use crate::dev::Dev;
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use ravelin_aws::proto::channel::{self, Flag};
use ravelin_aws::proto::delivery::{Delivery, End, Epoch, Event, Limits, Transmit};
use ravelin_aws::proto::message::{Message as Packet, MessageType, PayloadType};
use ravelin_aws::proto::smux::{self, Command as Frame};
use ravelin_aws::wire::data_channel as wire;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use uuid::Uuid;

/// Nothing here takes longer unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// The answer of an operation: status and body.
struct Answer(u16, Value);

impl Answer {
    fn ok(self) -> Value {
        assert_eq!(self.0, 200, "{}", self.1);
        self.1
    }

    /// Code and text of an error.
    fn fault(self) -> (String, String) {
        let of = |member: &str| self.1[member].as_str().unwrap_or_default().to_owned();
        (of("__type"), format!("{}{}", of("message"), of("Message")))
    }
}

impl Dev {
    fn target(&self) -> &str {
        self.var("RAVELIN_TARGET_AWS_ID")
    }

    async fn call(&self, operation: &str, body: Value) -> Answer {
        self.call_as(operation, body, "").await
    }

    /// A call whose tries bear this id.
    async fn call_as(&self, operation: &str, body: Value, invocation: &str) -> Answer {
        let body = body.to_string();
        let url = format!("{}/", self.var("RAVELIN_HTTP_URL"));
        let host = url.strip_prefix("http://").expect("plain").trim_end_matches('/');
        let target = format!("AmazonSSM.{operation}");
        let headers =
            [("host", host), ("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        let signed = self.sign("POST", &url, &headers, body.as_bytes(), "ssm");
        let mut request = reqwest::Client::new().post(&url);
        for (name, value) in headers.iter().skip(1) {
            request = request.header(*name, *value);
        }
        for (name, value) in signed {
            request = request.header(name, value);
        }
        if !invocation.is_empty() {
            request = request.header("amz-sdk-invocation-id", invocation);
        }
        let answer = request.body(body).send().await.expect("an answer");
        let status = answer.status().as_u16();
        let text = answer.text().await.expect("a text");
        Answer(status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    fn sign(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        service: &str,
    ) -> Vec<(String, String)> {
        use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
        let (id, secret) = (self.var("AWS_ACCESS_KEY_ID"), self.var("AWS_SECRET_ACCESS_KEY"));
        let identity = aws_credential_types::Credentials::new(id, secret, None, None, "test").into();
        let params = aws_sigv4::sign::v4::SigningParams::builder()
            .identity(&identity)
            .region(self.var("AWS_REGION"))
            .name(service)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .expect("whole parameters")
            .into();
        let signable =
            SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body)).expect("signable");
        let (instructions, _) = sign(signable, &params).expect("a signature").into_parts();
        instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    async fn begin(&self, document: Option<&str>, parameters: Value) -> Value {
        let mut body = json!({"Target": self.target(), "Parameters": parameters});
        if let Some(document) = document {
            body["DocumentName"] = json!(document);
        }
        self.call("StartSession", body).await.ok()
    }

    /// The session as a view shows it; waits until it fits.
    async fn until(&self, id: &str, view: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let filters = json!([{"key": "SessionId", "value": id}]);
            let answer = self.call("DescribeSessions", json!({"State": view, "Filters": filters})).await.ok();
            let session = answer["Sessions"][0].clone();
            if fits(&session) {
                return session;
            }
            assert!(begun.elapsed() < PATIENCE, "{view}: {session}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A client: the other end of the machine, over any number of connections.
struct Peer {
    socket: Option<Socket>,
    delivery: Delivery,
    session: String,
    out: Vec<u8>,
    errors: Vec<u8>,
    exit: Option<i64>,
    flags: Vec<Flag>,
    ready: bool,
    closed: Option<String>,
    frames: smux::Decoder,
    streams: BTreeMap<u32, (Vec<u8>, bool)>,
    muxed: bool,
}

fn opening(token: &str) -> Message {
    let opening = wire::OpenDataChannelInput {
        message_schema_version: "1.0".to_owned(),
        request_id: Uuid::new_v4().to_string(),
        token_value: token.to_owned(),
        client_id: Uuid::new_v4().to_string(),
        client_version: Some("1.2.677.0".to_owned()),
    };
    Message::text(String::from_utf8(channel::encode(&opening).to_vec()).expect("JSON is text"))
}

async fn connect(url: &str, token: &str) -> Socket {
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
    socket.send(opening(token)).await.expect("sent");
    socket
}

impl Peer {
    async fn open(started: &Value) -> Self {
        let epoch = Epoch { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
        let mut peer = Self {
            socket: None,
            delivery: Delivery::new(End::Client, Limits::CLIENT, epoch, Uuid::new_v4()),
            session: started["SessionId"].as_str().expect("an id").to_owned(),
            out: Vec::new(),
            errors: Vec::new(),
            exit: None,
            flags: Vec::new(),
            ready: false,
            closed: None,
            frames: smux::Decoder::new(),
            streams: BTreeMap::new(),
            muxed: false,
        };
        peer.attach(started).await;
        peer
    }

    async fn attach(&mut self, answer: &Value) {
        let (url, token) =
            (answer["StreamUrl"].as_str().expect("a URL"), answer["TokenValue"].as_str().expect("a token"));
        self.socket = Some(connect(url, token).await);
        self.delivery.attach(Instant::now());
    }

    /// As a network does it: nothing is said.
    fn cut(&mut self) {
        self.socket = None;
        self.delivery.detach();
    }

    fn send(&mut self, payload_type: PayloadType, payload: impl Into<Bytes>) {
        self.delivery.send(payload_type, payload.into(), Instant::now()).expect("room");
    }

    fn types(&mut self, text: &str) {
        self.send(PayloadType::Output, text.to_owned());
    }

    fn frame(&mut self, command: Frame, stream: u32, data: &[u8]) {
        let mut out = BytesMut::new();
        if command == Frame::Psh {
            smux::encode_data(stream, data, &mut out);
        } else {
            smux::encode(command, stream, &mut out);
        }
        if command == Frame::Syn {
            self.streams.insert(stream, (Vec::new(), false));
        }
        self.send(PayloadType::Output, out.freeze());
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Goes on until something is so.
    async fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}, closed {:?}", self.text(), self.closed);
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let Some(socket) = &mut self.socket else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            return;
        };
        let now = Instant::now();
        while let Some(transmit) = self.delivery.poll_transmit(now) {
            let message = match transmit {
                Transmit::Message(bytes) => Message::Binary(bytes),
                Transmit::Ping(bytes) => Message::Ping(bytes),
            };
            if socket.feed(message).await.is_err() {
                return self.cut();
            }
        }
        if socket.flush().await.is_err() {
            return self.cut();
        }
        match tokio::time::timeout(Duration::from_millis(20), socket.next()).await {
            Err(_quiet) => {}
            Ok(Some(Ok(Message::Binary(bytes)))) => {
                self.delivery.handle(&bytes, Instant::now()).expect("the server's messages are sound");
            }
            Ok(Some(Ok(Message::Pong(payload)))) => self.delivery.handle_pong(&payload, Instant::now()),
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => self.cut(),
            Ok(Some(Ok(Message::Ping(_) | Message::Text(_) | Message::Frame(_)))) => {}
        }
        while let Some(event) = self.delivery.poll_event() {
            match event {
                Event::Data { payload_type, payload } => self.take(payload_type, &payload),
                Event::Closed(closed) => self.closed = Some(closed.output),
                Event::Publication(_) => {}
            }
        }
    }

    fn take(&mut self, payload_type: PayloadType, payload: &Bytes) {
        match payload_type {
            PayloadType::HandshakeRequest => {
                let request = channel::handshake_request(payload).expect("a request");
                assert_eq!(request.agent_version.split('.').count(), 4, "clients count the numbers");
                let processed = request
                    .requested_client_actions
                    .iter()
                    .map(|action| wire::ProcessedClientAction {
                        action_type: action.action_type.clone(),
                        action_status: 1,
                        action_result: Value::Null,
                        error: String::new(),
                    })
                    .collect();
                let response = wire::HandshakeResponsePayload {
                    client_version: "1.2.677.0".to_owned(),
                    processed_client_actions: processed,
                    errors: Vec::new(),
                    ravelin_exit_code: false,
                };
                self.send(PayloadType::HandshakeResponse, channel::encode(&response));
            }
            PayloadType::HandshakeComplete => self.ready = true,
            PayloadType::Output if self.muxed => {
                self.frames.push(payload.clone());
                while let Some(frame) = self.frames.poll_frame().expect("the server's frames are sound") {
                    let stream = self.streams.entry(frame.stream).or_default();
                    stream.0.extend_from_slice(&frame.data);
                    stream.1 |= frame.command == Frame::Fin;
                }
            }
            PayloadType::Output => self.out.extend_from_slice(payload),
            PayloadType::StdErr => self.errors.extend_from_slice(payload),
            PayloadType::ExitCode => self.exit = Some(channel::exit_code(payload).expect("a number")),
            PayloadType::Flag => self.flags.push(Flag::decode(payload).expect("a flag")),
            other => panic!("the server sent {other:?}"),
        }
    }
}

async fn resume(dev: &Dev, peer: &mut Peer) {
    let answer = dev.call("ResumeSession", json!({"SessionId": peer.session})).await.ok();
    assert_eq!(answer["SessionId"], peer.session.as_str());
    peer.attach(&answer).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_has_its_size_and_ends_with_its_program() {
    let dev = Dev::start().await;
    let started = dev.begin(None, json!({})).await;
    let connecting = dev.until(started["SessionId"].as_str().expect("an id"), "Active", Value::is_object).await;
    assert_eq!(connecting["Status"], "Connecting");
    assert_eq!(connecting["DocumentName"], "SSM-SessionManagerRunShell");
    let mut peer = Peer::open(&started).await;
    peer.until("the session begins", |peer| peer.ready).await;
    peer.send(PayloadType::Size, channel::encode(&wire::SizeData { cols: 91, rows: 33 }));
    peer.types("stty size; echo $((6*7)).\n");
    peer.until("it answers", |peer| peer.text().contains("33 91") && peer.text().contains("42.")).await;
    dev.until(&peer.session.clone(), "Active", |session| session["Status"] == "Connected").await;
    peer.types("exit 3\n");
    peer.until("it ends", |peer| peer.closed.is_some()).await;
    assert_eq!(peer.closed.as_deref(), Some(""), "an orderly end needs no words");
    let ended = dev.until(&peer.session.clone(), "History", Value::is_object).await;
    assert_eq!(ended["Status"], "Terminated");
    assert_eq!(ended["Details"], "target_closed by target:demo: exit status 3");
    let late = dev.call("ResumeSession", json!({"SessionId": peer.session})).await.ok();
    assert_eq!(late["TokenValue"], "", "what has ended cannot be resumed, and clients show that as timed out");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_tell_their_streams_and_their_exit_code_apart() {
    let dev = Dev::start().await;
    let command = json!({"command": ["echo out; echo err >&2; exit 7"]});
    let started = dev.begin(Some("AWS-StartNonInteractiveCommand"), command.clone()).await;
    let mut peer = Peer::open(&started).await;
    peer.until("it ends", |peer| peer.closed.is_some()).await;
    assert_eq!((peer.text().as_str(), peer.errors.as_slice(), peer.exit), ("out\n", &b"err\n"[..], Some(7)));

    let joined = json!({"command": ["echo out; echo err >&2; exit 7"], "separateOutputStream": ["False"]});
    let mut peer = Peer::open(&dev.begin(Some("AWS-StartNonInteractiveCommand"), joined).await).await;
    peer.until("it ends", |peer| peer.closed.is_some()).await;
    assert!(peer.text().contains("out\n") && peer.text().contains("err\n") && peer.exit.is_none(), "{}", peer.text());

    let mut peer = Peer::open(&dev.begin(Some("AWS-StartInteractiveCommand"), command).await).await;
    peer.until("it ends", |peer| peer.closed.is_some()).await;
    assert_eq!(peer.text(), "out\r\nerr\r\n", "on a terminal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_cut_goes_on_with_nothing_lost_and_nothing_doubled() {
    let dev = Dev::start().await;
    let started = dev.begin(Some("AWS-StartNonInteractiveCommand"), json!({"command": ["seq 1 300000; cat"]})).await;
    let mut peer = Peer::open(&started).await;
    let wanted: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    let mut cuts = 0;
    for at in [1_000, 200_000, 700_000, 1_200_000] {
        peer.until("some output", |peer| peer.out.len() >= at).await;
        peer.cut();
        cuts += 1;
        dev.until(&peer.session.clone(), "Active", |session| session["Status"] == "Disconnected").await;
        resume(&dev, &mut peer).await;
        dev.until(&peer.session.clone(), "Active", |session| session["Status"] == "Connected").await;
    }
    assert_eq!(cuts, 4);
    peer.until("all output", |peer| peer.out.len() >= wanted.len()).await;
    assert!(peer.text() == wanted, "the output is whole and in order");
    // And the other way: what is typed before and after a cut arrives once.
    peer.types("before\n");
    peer.cut();
    peer.types("after\n");
    resume(&dev, &mut peer).await;
    let len = wanted.len();
    peer.until("the echo", |peer| peer.out.len() >= len + "before\nafter\n".len()).await;
    assert_eq!(&peer.text()[len..], "before\nafter\n");
    // A client that opens another connection without closing the first takes it over.
    let mut left = peer.socket.take();
    resume(&dev, &mut peer).await;
    peer.types("third\n");
    peer.until("the echo", |peer| peer.text().ends_with("third\n")).await;
    let gone = async { while let Some(Ok(_)) = left.as_mut().expect("a socket").next().await {} };
    tokio::time::timeout(PATIENCE, gone).await.expect("the first is closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_is_told_and_works_while_the_client_is_away() {
    let dev = Dev::start().await;
    let mut peer = Peer::open(&dev.begin(None, json!({})).await).await;
    peer.until("the session begins", |peer| peer.ready && !peer.out.is_empty()).await;
    let killing = dev.call("TerminateSession", json!({"SessionId": peer.session}));
    let (answer, ()) =
        tokio::join!(killing, peer.until("the last word", |peer| peer.closed.is_some() || peer.socket.is_none()));
    answer.ok();
    assert_eq!(peer.closed.as_deref(), Some("disconnected by alice: aws ssm terminate-session"));

    let mut away = Peer::open(&dev.begin(None, json!({})).await).await;
    away.until("the session begins", |peer| peer.ready && !peer.out.is_empty()).await;
    away.cut();
    dev.until(&away.session.clone(), "Active", |session| session["Status"] == "Disconnected").await;
    dev.call("TerminateSession", json!({"SessionId": away.session})).await.ok();
    let ended = dev.until(&away.session.clone(), "History", Value::is_object).await;
    assert_eq!(ended["Details"], "disconnected_by_operator by alice: aws ssm terminate-session");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forwarding_carries_many_connections_and_says_which_it_cannot() {
    let dev = Dev::start().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                // A banner first, as databases do it, then an echo.
                stream.write_all(b"hello\n").await.expect("written");
                let (mut read, mut write) = stream.split();
                let _closed = tokio::io::copy(&mut read, &mut write).await;
                let _closed = write.shutdown().await;
            });
        }
    });
    let parameters = json!({"portNumber": [port.to_string()], "localPortNumber": ["0"]});
    let mut peer = Peer::open(&dev.begin(Some("AWS-StartPortForwardingSession"), parameters).await).await;
    peer.muxed = true;
    peer.until("the session begins", |peer| peer.ready).await;
    let streams: Vec<u32> = (0..20).map(|n| smux::FIRST_CLIENT_STREAM + 2 * n).collect();
    for stream in &streams {
        peer.frame(Frame::Syn, *stream, b"");
    }
    let noise = |stream: u32| {
        (0..100_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13 ^ stream) as u8).collect::<Vec<u8>>()
    };
    peer.until("a banner on each", |peer| peer.streams.values().all(|(data, _)| data == b"hello\n")).await;
    for stream in &streams {
        peer.frame(Frame::Psh, *stream, &noise(*stream));
        peer.step().await;
    }
    peer.until("an echo on each", |peer| peer.streams.values().all(|(data, _)| data.len() == 100_006)).await;
    for stream in &streams {
        assert!(peer.streams[stream].0[6..] == noise(*stream)[..], "stream {stream} is whole");
        peer.frame(Frame::Fin, *stream, b"");
    }
    peer.until("each ends", |peer| peer.streams.values().all(|(_, ended)| *ended)).await;
    peer.send(PayloadType::Flag, Flag::TerminateSession.encode());
    let session = peer.session.clone();
    let ended = dev.until(&session, "History", Value::is_object);
    let (ended, ()) = tokio::join!(ended, peer.until("gone", |peer| peer.socket.is_none()));
    assert!(ended["Details"].as_str().is_some_and(|details| details.starts_with("client_closed by alice")), "{ended}");

    // Nobody listens on port 1.
    let mut peer =
        Peer::open(&dev.begin(Some("AWS-StartPortForwardingSession"), json!({"portNumber": ["1"]})).await).await;
    peer.muxed = true;
    peer.until("the session begins", |peer| peer.ready).await;
    peer.frame(Frame::Syn, 3, b"");
    peer.until("it is told", |peer| peer.streams[&3].1 && !peer.flags.is_empty()).await;
    assert_eq!(peer.flags, [Flag::ConnectToPortError]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_stream_reaches_the_targets_own_ssh_server() {
    let dev = Dev::start().await;
    let mut peer = Peer::open(&dev.begin(Some("AWS-StartSSHSession"), json!({})).await).await;
    peer.until("the banner", |peer| peer.out.contains(&b'\n')).await;
    assert!(peer.text().starts_with("SSH-2.0-"), "{}", peer.text());
    peer.types("not ssh at all\r\n");
    peer.until("the target closes", |peer| peer.closed.is_some()).await;
    let ended = dev.until(&peer.session.clone(), "History", Value::is_object).await;
    assert!(ended["Details"].as_str().is_some_and(|details| details.starts_with("target_closed")), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_one_channel_once_and_refusals_can_be_read() {
    let dev = Dev::start().await;
    let (one, other) = (dev.begin(None, json!({})).await, dev.begin(None, json!({})).await);
    let refused = async |url: &str, token: &str| -> String {
        let mut socket = connect(url, token).await;
        let last =
            tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("a word").expect("sound");
        let Message::Binary(bytes) = last else { panic!("{last:?}") };
        let packet = Packet::decode(&bytes).expect("a message");
        assert_eq!(packet.message_type, MessageType::ChannelClosed);
        channel::channel_closed(&packet.payload).expect("a last word").output
    };
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let (url, token) = (text(&one["StreamUrl"]), text(&one["TokenValue"]));
    let foreign = refused(&url, &text(&other["TokenValue"])).await;
    assert!(foreign.contains("token is not valid"), "{foreign}");
    assert_eq!(refused(&url.replace(&text(&one["SessionId"]), "alice-00000000000000000"), &token).await, foreign);
    let mut peer = Peer::open(&one).await;
    peer.until("the session begins", |peer| peer.ready).await;
    assert_eq!(refused(&url, &token).await, foreign, "used");
    // A renewed token voids the one before.
    let first = dev.call("ResumeSession", json!({"SessionId": peer.session})).await.ok();
    let second = dev.call("ResumeSession", json!({"SessionId": peer.session})).await.ok();
    assert_eq!(refused(&url, &text(&first["TokenValue"])).await, foreign);
    peer.cut();
    peer.attach(&second).await;
    peer.types("echo back$((1+1))\n");
    peer.until("it goes on", |peer| peer.text().contains("back2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_that_is_there_has_to_hold() {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let dev = Dev::start().await;
    for (service, holds) in [("ssmmessages", true), ("ssm", false)] {
        let started = dev.begin(None, json!({})).await;
        let url = started["StreamUrl"].as_str().expect("a URL");
        let mut request = url.into_client_request().expect("a request");
        let host = request.uri().authority().expect("a host").to_string();
        let http = url.replacen("ws://", "http://", 1);
        for (name, value) in dev.sign("GET", &http, &[("host", &host)], b"", service) {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
        socket.send(opening(started["TokenValue"].as_str().expect("a token"))).await.expect("sent");
        let first =
            tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time").expect("a word").expect("sound");
        let Message::Binary(bytes) = first else { panic!("{first:?}") };
        let packet = Packet::decode(&bytes).expect("a message");
        assert_eq!(packet.message_type == MessageType::OutputStreamData, holds, "{service}: {packet:?}");
        if !holds {
            let closed = channel::channel_closed(&packet.payload).expect("a last word");
            assert!(closed.output.contains("the signature does not hold"), "{}", closed.output);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_clients_cost_their_own_session_only() {
    let dev = Dev::start().await;
    let mut good = Peer::open(&dev.begin(None, json!({})).await).await;
    good.until("the session begins", |peer| peer.ready && !peer.out.is_empty()).await;

    // Bad digests, sizes, types and directions are passed over; what is sound between them counts, in its order.
    let mut peer = Peer::open(&dev.begin(None, json!({})).await).await;
    peer.until("the session begins", |peer| peer.ready && !peer.out.is_empty()).await;
    let sound = Packet {
        message_type: MessageType::InputStreamData,
        created_ms: 1,
        sequence: 999,
        flags: 0,
        id: Uuid::new_v4(),
        payload_type: PayloadType::Output,
        payload: Bytes::from_static(b"echo wrong\n"),
    };
    let mut broken = sound.encode().to_vec();
    broken[90] ^= 1;
    let output = Packet { message_type: MessageType::OutputStreamData, ..sound.clone() };
    for bytes in [broken, vec![0; 120], vec![1; 3], output.encode().to_vec(), sound.encode().to_vec()] {
        peer.socket.as_mut().expect("connected").send(Message::Binary(bytes.into())).await.expect("sent");
    }
    peer.types("echo right$((1+1))\n");
    peer.until("it goes on", |peer| peer.text().contains("right2")).await;
    assert!(!peer.text().contains("wrong"), "what is ahead of a gap waits for ever");

    // A frame of 4 GiB is announced, over the bare connection.
    let started = dev.begin(None, json!({})).await;
    let mut socket =
        connect(started["StreamUrl"].as_str().expect("a URL"), started["TokenValue"].as_str().expect("a token")).await;
    let MaybeTlsStream::Plain(raw) = socket.get_mut() else { panic!("plain") };
    raw.write_all(&[0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]).await.expect("written");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, raw.read_to_end(&mut rest)).await.expect("it is closed");
    drop(ended);

    // Thousands of streams: each beyond the bound is refused, and the others go on.
    let mut peer =
        Peer::open(&dev.begin(Some("AWS-StartPortForwardingSession"), json!({"portNumber": ["1"]})).await).await;
    peer.muxed = true;
    peer.until("the session begins", |peer| peer.ready).await;
    for n in 0..2_000 {
        peer.frame(Frame::Syn, 3 + 2 * n, b"");
        if n % 50 == 0 {
            peer.step().await;
        }
    }
    peer.until("each is refused", |peer| peer.streams.values().all(|(_, ended)| *ended)).await;
    // What is no frame ends the session, with a reason.
    peer.send(PayloadType::Output, Bytes::from_static(b"no frame"));
    peer.until("the last word", |peer| peer.closed.is_some()).await;
    assert!(
        peer.closed.as_deref().is_some_and(|text| text.starts_with("the session cannot go on")),
        "{:?}",
        peer.closed
    );

    good.types("echo still$((1+1))\n");
    good.until("the other one goes on", |peer| peer.text().contains("still2")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_takes_nothing_is_bounded_in_memory() {
    let dev = Dev::start().await;
    let pid = dev.pid();
    let resident = || -> u64 {
        let status = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/status"))).expect("on Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    let mut stuck = Vec::new();
    let endless = json!({"command": ["yes 0123456789012345678901234567890123456789"]});
    // The first ones pay for what all share.
    for n in 0..24 {
        let mut peer = Peer::open(&dev.begin(Some("AWS-StartNonInteractiveCommand"), endless.clone()).await).await;
        peer.until("it flows", |peer| peer.out.len() > 1_000_000).await;
        stuck.push(peer);
        if n == 3 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    let before = resident();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let after = resident();
    assert!(after < before + 24 * 1024, "{before} KiB, {after} KiB: what nobody takes must not be held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_is_answered_by_name_and_a_repeated_call_starts_one_session() {
    let dev = Dev::start().await;
    let target = dev.target();
    for (body, code, part) in [
        (json!({}), "ValidationException", "'target'"),
        (json!({"Target": ""}), "ValidationException", "'target'"),
        (json!({"Target": "mi-00000000000000000"}), "TargetNotConnected", "mi-00000000000000000"),
        (json!({"Target": target, "DocumentName": "AWS-StartNothing"}), "InvalidDocument", "AWS-StartNothing"),
        (json!({"Target": target, "DocumentName": "x"}), "ValidationException", "'documentName'"),
        (json!({"Target": target, "Parameters": {"x": ["1"]}}), "BadRequest", "'x'"),
        (json!({"Target": target, "Parameters": {"x": "1"}}), "SerializationException", "Parameters.x"),
        (json!({"Target": target, "Reason": "r".repeat(257)}), "ValidationException", "'reason'"),
        (
            json!({"Target": target, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["0"]}}),
            "BadRequest",
            "'portNumber'",
        ),
        (
            json!({"Target": target, "DocumentName": "AWS-StartSSHSession", "Parameters": {"portNumber": ["70000"]}}),
            "BadRequest",
            "'portNumber'",
        ),
        (
            json!({"Target": target, "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
                   "Parameters": {"host": ["169.254.169.254"], "portNumber": ["80"]}}),
            "BadRequest",
            "169.254.169.254",
        ),
    ] {
        let (found, text) = dev.call("StartSession", body.clone()).await.fault();
        assert!(found == code && text.contains(part), "{body}: {found}: {text}");
    }
    let (code, _) = dev.call("ResumeSession", json!({"SessionId": "alice-00000000000000000"})).await.fault();
    assert_eq!(code, "DoesNotExistException");

    let body = json!({"Target": "demo", "Reason": "a change"});
    let first = dev.call_as("StartSession", body.clone(), "7d2f0a1e").await.ok();
    let again = dev.call_as("StartSession", body.clone(), "7d2f0a1e").await.ok();
    assert_eq!(first, again);
    let another = dev.call_as("StartSession", body, "7d2f0a1f").await.ok();
    assert_ne!(first["SessionId"], another["SessionId"]);
    let session = dev.until(first["SessionId"].as_str().expect("an id"), "Active", Value::is_object).await;
    assert_eq!(session["Reason"], "a change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_steer_sessions_and_targets_show_what_is_known() {
    let dev = Dev::start().await;
    let content = json!({
        "schemaVersion": "1.0", "sessionType": "InteractiveCommands", "description": "one thing",
        "parameters": {"word": {"type": "String", "default": "none", "allowedPattern": "[a-z]+"}},
        "properties": {"linux": {"commands": "echo '[{{ word }}]'", "runAsElevated": false}},
        "inputs": {"maxSessionDuration": "30", "idleSessionTimeout": "5"},
    });
    let create = json!({"Name": "One-Thing", "Content": content.to_string(), "DocumentType": "Session",
                        "Tags": [{"Key": "team", "Value": "web"}]});
    let made = dev.call("CreateDocument", create.clone()).await.ok();
    assert_eq!(made["DocumentDescription"]["DocumentVersion"], "1");
    assert_eq!(made["DocumentDescription"]["Parameters"][0]["Name"], "word");
    assert_eq!(dev.call("CreateDocument", create).await.fault().0, "DocumentAlreadyExists");
    let mut peer = Peer::open(&dev.begin(Some("One-Thing"), json!({"word": ["hi"]})).await).await;
    let shown = dev.until(&peer.session.clone(), "Active", Value::is_object).await;
    assert_eq!((&shown["MaxSessionDuration"], &shown["DocumentName"]), (&json!("30"), &json!("One-Thing")));
    peer.until("it ends", |peer| peer.closed.is_some()).await;
    assert_eq!(peer.text(), "[hi]\r\n");
    let wrong = json!({"Target": dev.target(), "DocumentName": "One-Thing", "Parameters": {"word": ["a; id"]}});
    assert_eq!(dev.call("StartSession", wrong).await.fault().0, "BadRequest");

    let information = dev.call("DescribeInstanceInformation", json!({})).await.ok();
    let demo = &information["InstanceInformationList"][0];
    assert_eq!((&demo["InstanceId"], &demo["PingStatus"]), (&json!(dev.target()), &json!("Online")));
    assert_eq!((&demo["Name"], &demo["IPAddress"]), (&json!("demo"), &json!("127.0.0.1")));
    let lost = json!({"Filters": [{"Key": "PingStatus", "Values": ["ConnectionLost"]}]});
    assert_eq!(dev.call("DescribeInstanceInformation", lost).await.ok()["InstanceInformationList"], json!([]));
    let properties = json!({"FiltersWithOperator": [{"Key": "tag:env", "Values": ["de"], "Operator": "BeginWith"}]});
    let found = dev.call("DescribeInstanceProperties", properties).await.ok();
    assert_eq!(found["InstanceProperties"].as_array().map(Vec::len), Some(1));

    let tier = "/ssm/managed-instance/activation-tier";
    assert_eq!(
        dev.call("GetServiceSetting", json!({"SettingId": tier})).await.ok()["ServiceSetting"]["SettingValue"],
        "advanced"
    );
    dev.call("UpdateServiceSetting", json!({"SettingId": tier, "SettingValue": "standard"})).await.ok();
    assert_eq!(dev.call("StartSession", json!({"Target": "demo"})).await.fault().0, "BadRequest");
    let reset = dev.call("ResetServiceSetting", json!({"SettingId": tier})).await.ok();
    assert_eq!(reset["ServiceSetting"]["Status"], "Default");
    dev.call("StartSession", json!({"Target": "demo"})).await.ok();
}
