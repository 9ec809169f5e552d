//! The server's side of data channels over real sockets, with a target and a clock under the test's hand.

use crate::clock::{Clock, work};
use crate::world::World;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, Request};
use axum::middleware::{Next, from_fn};
use axum::serve::{IncomingStream, Listener};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use http::uri::Scheme;
use ravelin_aws::proto::channel::{self, Flag};
use ravelin_aws::proto::delivery::{Delivery, End, Epoch, Event, Limits, Transmit};
use ravelin_aws::proto::message::PayloadType;
use ravelin_aws::proto::smux::{self, Command, Decoder};
use ravelin_aws::wire::data_channel as wire;
use ravelin_engine::egress::{Dialer, Duct, DynSink, Far, FarSink, FarSource, NotOpened, Opening, Unreached};
use ravelin_engine::leg::{GuardedStream, Leg, SocketHandle, guard};
use ravelin_engine::relay::{Broken, Source, Unit};
use ravelin_engine::testkit::FakeLeg;
use ravelin_model::Target;
use ravelin_model::session::EndReason;
use ravelin_model::target::LoginWay;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// One program on the target, in the test's hands.
struct Program {
    says: mpsc::Sender<Unit>,
    takes: mpsc::Receiver<Unit>,
}

impl Program {
    async fn says(&self, unit: Unit) {
        self.says.send(unit).await.expect("somebody listens");
    }

    async fn data(&self, bytes: impl Into<Bytes>) {
        self.says(Unit::Data(bytes.into())).await;
    }
}

impl Program {
    /// What it takes until the end of its input.
    async fn takes_all(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            match self.takes.recv().await.expect("an end of its own") {
                Unit::Data(bytes) => all.extend_from_slice(&bytes),
                Unit::Eof => return all,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// The target: it is reached when the test says so, and lost when it says so.
struct Stage {
    answers: watch::Sender<Option<Result<(), Unreached>>>,
    lost: CancellationToken,
    programs: mpsc::Sender<Program>,
    /// How often something was to be opened there.
    asked: AtomicUsize,
}

struct Stages(Arc<Stage>);

#[async_trait::async_trait]
impl Dialer for Stages {
    async fn dial(
        &self,
        _target: &Target,
        _way: &LoginWay,
        hold: &(dyn Fn(Arc<dyn Leg>) + Send + Sync),
    ) -> Result<Box<dyn Far>, Unreached> {
        hold(FakeLeg::new());
        let mut answers = self.0.answers.subscribe();
        let answer = answers.wait_for(Option::is_some).await.expect("the stage lives").clone();
        answer.expect("waited for").map(|()| Box::new(Stages(Arc::clone(&self.0))) as Box<dyn Far>)
    }
}

#[async_trait::async_trait]
impl Far for Stages {
    async fn open(&self, _opening: Opening) -> Result<Duct, NotOpened> {
        self.0.asked.fetch_add(1, Ordering::Relaxed);
        let (says, said) = mpsc::channel(64);
        let (to_program, takes) = mpsc::channel(1);
        self.0.programs.send(Program { says, takes }).await.expect("the test goes on");
        Ok(Duct { source: FarSource::new(Said(said)), sink: FarSink::new(Takes(Some(to_program))) })
    }

    async fn lost(&self) -> Unreached {
        self.0.lost.cancelled().await;
        Unreached::new(EndReason::TargetClosed, "")
    }

    async fn take_leave(&self) {}
}

struct Said(mpsc::Receiver<Unit>);

impl Source for Said {
    async fn next(&mut self) -> Option<Unit> {
        self.0.recv().await
    }
}

struct Takes(Option<mpsc::Sender<Unit>>);

#[async_trait::async_trait]
impl DynSink for Takes {
    async fn put_unit(&mut self, unit: Unit) -> Result<(), Broken> {
        let Some(program) = &self.0 else { return Err(Broken) };
        program.send(unit).await.map_err(|_| Broken)
    }

    async fn close(&mut self) {
        self.0 = None;
    }
}

/// The bastion's door.
struct Door(TcpListener);

#[derive(Clone)]
struct Visitor {
    address: SocketAddr,
    handle: SocketHandle,
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.address.fmt(f)
    }
}

impl Listener for Door {
    type Io = GuardedStream;
    type Addr = Visitor;

    async fn accept(&mut self) -> (GuardedStream, Visitor) {
        let (stream, address) = self.0.accept().await.expect("a connection");
        let (stream, handle) = guard(stream);
        (stream, Visitor { address, handle })
    }

    fn local_addr(&self) -> std::io::Result<Visitor> {
        Err(std::io::ErrorKind::Unsupported.into())
    }
}

impl Connected<IncomingStream<'_, Door>> for Visitor {
    fn connect_info(stream: IncomingStream<'_, Door>) -> Self {
        stream.remote_addr().clone()
    }
}

async fn introduced(
    ConnectInfo(visitor): ConnectInfo<Visitor>,
    mut request: Request,
    next: Next,
) -> axum::response::Response {
    let extensions = request.extensions_mut();
    extensions.insert(ConnectInfo(visitor.address));
    extensions.insert(visitor.handle);
    extensions.insert(Scheme::HTTP);
    next.run(request).await
}

/// A bastion whose target `web-1` is a stage, or, for who goes there without a login, a listener.
struct Bed {
    world: World,
    door: SocketAddr,
    stage: Arc<Stage>,
    programs: mpsc::Receiver<Program>,
    /// What comes in at the target's own port.
    own: mpsc::Receiver<TcpStream>,
}

impl Bed {
    async fn new() -> Self {
        let target = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = target.local_addr().expect("bound").port();
        let (to_own, own) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Ok((stream, _)) = target.accept().await {
                to_own.send(stream).await.ok();
            }
        });
        let (to_test, programs) = mpsc::channel(64);
        let stage = Arc::new(Stage {
            answers: watch::Sender::new(None),
            lost: CancellationToken::new(),
            programs: to_test,
            asked: AtomicUsize::new(0),
        });
        let world = World::going_out_by(Arc::new(Stages(Arc::clone(&stage))), port).await;
        let door = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = door.local_addr().expect("bound");
        let router = world.router.clone().layer(from_fn(introduced));
        let service = router.into_make_service_with_connect_info::<Visitor>();
        tokio::spawn(async move { axum::serve(Door(door), service).await });
        Self { world, door: address, stage, programs, own }
    }

    fn reached(&self) {
        self.stage.answers.send_replace(Some(Ok(())));
    }

    /// Starts a session; the probe of the target is not among its connections.
    async fn begin(&mut self, document: &str, parameters: Value) -> Value {
        let body = json!({"Target": "web-1", "DocumentName": document, "Parameters": parameters});
        let started = self.world.call("alice", "StartSession", &body.to_string()).await.ok();
        while let Ok(_probe) = self.own.try_recv() {}
        started
    }

    async fn command(&mut self) -> Value {
        self.begin("AWS-StartNonInteractiveCommand", json!({"command": ["a program"]})).await
    }

    async fn resume(&self, peer: &mut Peer) {
        let body = json!({"SessionId": peer.session}).to_string();
        let answer = self.world.call("alice", "ResumeSession", &body).await.ok();
        peer.attach(self.door, answer["TokenValue"].as_str().expect("a token")).await;
    }

    async fn open(&self, started: &Value) -> Peer {
        let mut peer = Peer::new(started["SessionId"].as_str().expect("an id"));
        peer.attach(self.door, started["TokenValue"].as_str().expect("a token")).await;
        peer
    }

    /// A client in a session that has begun, and the program that runs for it.
    async fn join(&mut self, started: &Value) -> (Peer, Program) {
        let mut peer = self.open(started).await;
        peer.until("the session begins", |peer| peer.begun).await;
        (peer, self.program().await)
    }

    /// A client whose program runs, on a bed where time stands still.
    async fn at_work() -> (Self, Clock, Peer, Program) {
        let mut bed = Self::new().await;
        bed.reached();
        let started = bed.command().await;
        let clock = Clock::stop();
        let (peer, program) = bed.join(&started).await;
        bed.until_shown(&peer.session, "Connected").await;
        (bed, clock, peer, program)
    }

    async fn program(&mut self) -> Program {
        self.programs.recv().await.expect("the stage lives")
    }

    /// The session as the service shows it.
    async fn shown(&self, session: &str) -> Value {
        for state in ["Active", "History"] {
            let body = json!({"State": state, "Filters": [{"key": "SessionId", "value": session}]}).to_string();
            let answer = self.world.call("alice", "DescribeSessions", &body).await.ok();
            if answer["Sessions"][0].is_object() {
                return answer["Sessions"][0].clone();
            }
        }
        panic!("{session} is in neither list");
    }

    /// Waits until it is shown so.
    async fn until_shown(&self, session: &str, status: &str) -> Value {
        let begun = Instant::now();
        loop {
            let shown = self.shown(session).await;
            if shown["Status"] == status {
                return shown;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "{status}: {shown}");
            work(Duration::from_millis(5)).await;
        }
    }
}

/// A client: the other end of the machine, over any number of connections.
struct Peer {
    session: String,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    delivery: Delivery,
    version: &'static str,
    ours: bool,
    begun: bool,
    out: Vec<u8>,
    exit: Option<i64>,
    closed: Option<String>,
    /// Whether it writes anything, acknowledgements included.
    quiet: bool,
    /// How often it was asked whether it is there.
    pings: usize,
    /// How often it was answered when it asked.
    pongs: usize,
}

impl Peer {
    fn new(session: &str) -> Self {
        let epoch = Epoch { instant: Instant::now(), unix_ms: 1_700_000_000_000 };
        Self {
            session: session.to_owned(),
            socket: None,
            delivery: Delivery::new(End::Client, Limits::CLIENT, epoch, Uuid::new_v4()),
            version: "1.2.677.0",
            ours: true,
            begun: false,
            out: Vec::new(),
            exit: None,
            closed: None,
            quiet: false,
            pings: 0,
            pongs: 0,
        }
    }

    async fn attach(&mut self, door: SocketAddr, token: &str) {
        let url = format!("ws://{door}/v1/data-channel/{}?role=publish_subscribe", self.session);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
        let opening = wire::OpenDataChannelInput {
            message_schema_version: "1.0".to_owned(),
            request_id: Uuid::new_v4().to_string(),
            token_value: token.to_owned(),
            client_id: Uuid::new_v4().to_string(),
            client_version: Some(self.version.to_owned()),
        };
        let opening = String::from_utf8(channel::encode(&opening).to_vec()).expect("JSON is text");
        socket.send(Frame::text(opening)).await.expect("sent");
        self.socket = Some(socket);
        self.delivery.attach(now());
    }

    /// As a network does it: nothing is said.
    fn cut(&mut self) {
        self.socket = None;
        self.delivery.detach();
    }

    fn send(&mut self, payload_type: PayloadType, payload: impl Into<Bytes>) {
        self.delivery.send(payload_type, payload.into(), now()).expect("room");
    }

    /// Sends frames of smux.
    fn frames(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut frames = BytesMut::new();
        write(&mut frames);
        self.send(PayloadType::Output, frames);
    }

    /// The frames of smux that came, as stream and data; an end has none.
    fn heard(&self) -> Vec<(u32, Bytes)> {
        let mut decoder = Decoder::new();
        decoder.push(Bytes::copy_from_slice(&self.out));
        std::iter::from_fn(|| decoder.poll_frame().expect("frames")).map(|frame| (frame.stream, frame.data)).collect()
    }

    /// So many seconds, one by one. Time stands still while it hears and is heard, now and then.
    async fn rests(&mut self, clock: &Clock, count: u32) {
        for second in 0..count {
            clock.pass(Duration::from_secs(1)).await;
            turns().await;
            self.step().await;
            if second % 10 == 0 {
                self.pongs = 0;
                let socket = self.socket.as_mut().expect("it is still there");
                socket.send(Frame::Ping(Bytes::from_static(b"?"))).await.expect("sent");
                self.until("an answer to a ping", |peer| peer.pongs > 0).await;
            }
        }
    }

    async fn until(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            let out = self.out.len();
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {out} bytes, closed {:?}", self.closed);
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let now = now();
        let Some(socket) = &mut self.socket else { return tokio::task::yield_now().await };
        while !self.quiet
            && let Some(transmit) = self.delivery.poll_transmit(now)
        {
            let frame = match transmit {
                Transmit::Message(bytes) => Frame::Binary(bytes),
                Transmit::Ping(bytes) => Frame::Ping(bytes),
            };
            let sent = socket.send(frame);
            tokio::select! {
                biased;
                sent = sent => if sent.is_err() {
                    return self.cut();
                },
                // The server does not read.
                () = turns() => return,
            }
        }
        let frame = tokio::select! {
            biased;
            frame = socket.next() => frame,
            () = turns() => return,
        };
        match frame {
            Some(Ok(Frame::Binary(bytes))) => {
                self.delivery.handle(&bytes, now).expect("the server's messages are sound");
            }
            Some(Ok(Frame::Pong(payload))) => {
                self.pongs += usize::from(&payload[..] == b"?");
                self.delivery.handle_pong(&payload, now);
            }
            Some(Ok(Frame::Close(_)) | Err(_)) | None => self.cut(),
            Some(Ok(Frame::Ping(payload))) => self.pings += usize::from(&payload[..] == b"keepalive"),
            Some(Ok(Frame::Text(_) | Frame::Frame(_))) => {}
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
                let response = wire::HandshakeResponsePayload {
                    client_version: self.version.to_owned(),
                    processed_client_actions: Vec::new(),
                    errors: Vec::new(),
                    ravelin_exit_code: self.ours,
                };
                self.send(PayloadType::HandshakeResponse, channel::encode(&response));
            }
            PayloadType::HandshakeComplete => self.begun = true,
            PayloadType::Output => self.out.extend_from_slice(payload),
            PayloadType::ExitCode => self.exit = Some(channel::exit_code(payload).expect("a number")),
            other => panic!("the server sent {other:?}"),
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A few turns of everybody else.
async fn turns() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whoever_comes_back_after_the_end_hears_all_of_it() {
    let (bed, clock, mut peer, program) = Bed::at_work().await;
    peer.cut();
    bed.until_shown(&peer.session, "Disconnected").await;
    program.data(vec![b'x'; 100_000]).await;
    program.says(Unit::Exit(7)).await;
    drop(program);
    // Long after the program has ended, and not so long that the session is over.
    seconds(&clock, 60).await;
    bed.resume(&mut peer).await;
    peer.until("the last word", |peer| peer.closed.is_some()).await;
    assert_eq!((peer.out.len(), peer.exit, peer.closed.as_deref()), (100_000, Some(7), Some("")));
    peer.cut();
    let shown = bed.until_shown(&peer.session, "Terminated").await;
    assert_eq!(shown["Details"], "target_closed by target:web-1: exit status 7");
}

/// So many seconds, one by one, with everybody at work in each.
async fn seconds(clock: &Clock, count: u32) {
    for _ in 0..count {
        clock.pass(Duration::from_secs(1)).await;
        turns().await;
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_target_is_there_leaves_nothing_behind() {
    // Before it has answered the handshake, so that no target was asked for.
    let mut bed = Bed::new().await;
    let stream = bed.begin("AWS-StartSSHSession", json!({})).await;
    let clock = Clock::stop();
    let mut gone = bed.open(&stream).await;
    gone.cut();
    seconds(&clock, 61).await;
    let shown = bed.until_shown(&gone.session, "Terminated").await;
    assert!(shown["Details"].as_str().is_some_and(|text| text.starts_with("client_closed")), "{shown}");

    // While the target is dialled, which then answers.
    drop(clock);
    let command = bed.command().await;
    let clock = Clock::stop();
    let mut gone = bed.open(&command).await;
    gone.until("the session begins", |peer| peer.begun).await;
    gone.cut();
    work(Duration::from_millis(50)).await;
    bed.reached();
    let _program = bed.program().await;
    bed.until_shown(&gone.session, "Disconnected").await;

    // While it is dialled, which then fails.
    drop(clock);
    let other = bed.command().await;
    let clock = Clock::stop();
    bed.stage.answers.send_replace(None);
    let mut gone = bed.open(&other).await;
    gone.until("the session begins", |peer| peer.begun).await;
    gone.cut();
    work(Duration::from_millis(50)).await;
    bed.stage.answers.send_replace(Some(Err(Unreached::new(EndReason::TargetUnreachable, "no"))));
    work(Duration::from_millis(50)).await;
    seconds(&clock, 61).await;
    let shown = bed.until_shown(&gone.session, "Failed").await;
    assert!(shown["Details"].as_str().is_some_and(|text| text.starts_with("target_unreachable")), "{shown}");
}

#[tokio::test]
async fn a_client_that_is_lost_before_the_last_word_is_shown_so() {
    let (bed, _clock, mut peer, program) = Bed::at_work().await;
    peer.quiet = true;
    program.data("the end").await;
    drop(program);
    peer.until("output", |peer| !peer.out.is_empty()).await;
    work(Duration::from_millis(50)).await;
    peer.cut();
    bed.until_shown(&peer.session, "Disconnected").await;
    peer.quiet = false;
    bed.resume(&mut peer).await;
    peer.until("the last word", |peer| peer.closed.is_some()).await;
    assert_eq!(peer.out, b"the end");
}

#[tokio::test]
async fn a_target_that_reads_nothing_for_minutes_costs_nobody_the_connection() {
    let (_bed, clock, mut peer, _program) = Bed::at_work().await;
    for _ in 0..40 {
        peer.send(PayloadType::Output, vec![b'x'; 10_000]);
        peer.step().await;
    }
    for _ in 0..20 {
        seconds(&clock, 5).await;
        peer.step().await;
    }
    assert!(peer.socket.is_some(), "it is still there");
}

#[tokio::test]
async fn sizes_that_a_target_does_not_take_are_bounded() {
    let mut bed = Bed::new().await;
    // The target is not there yet, so that nobody takes them.
    let started = bed.command().await;
    let mut peer = bed.open(&started).await;
    peer.until("the session begins", |peer| peer.begun && peer.delivery.is_drained()).await;
    for columns in 1..6000 {
        peer.send(PayloadType::Size, channel::encode(&wire::SizeData { cols: columns, rows: 24 }));
        peer.step().await;
    }
    let begun = Instant::now();
    peer.until("a while", |_| begun.elapsed() > Duration::from_secs(1)).await;
    assert!(!peer.delivery.is_drained(), "some are left with the client");
}

#[tokio::test]
async fn what_a_target_said_before_it_was_lost_is_heard() {
    let mut bed = Bed::new().await;
    bed.reached();
    let started = bed.command().await;
    let (mut peer, program) = bed.join(&started).await;
    for _ in 0..30 {
        program.data(vec![b'x'; 1_000]).await;
    }
    program.says(Unit::Exit(7)).await;
    drop(program);
    bed.stage.lost.cancel();
    peer.until("the last word", |peer| peer.closed.is_some()).await;
    assert_eq!((peer.out.len(), peer.exit, peer.closed.as_deref()), (30_000, Some(7), Some("")));
    peer.cut();
    let shown = bed.until_shown(&peer.session, "Terminated").await;
    assert_eq!(shown["Details"], "target_closed by target:web-1: exit status 7");
}

/// A forwarding session with one connection.
async fn forwarded(bed: &mut Bed) -> (Peer, Program) {
    bed.reached();
    let started = bed.begin("AWS-StartPortForwardingSession", json!({"portNumber": ["1"]})).await;
    let mut peer = bed.open(&started).await;
    peer.until("the session begins", |peer| peer.begun).await;
    peer.frames(|out| smux::encode(Command::Syn, 3, out));
    peer.step().await;
    let program = bed.program().await;
    (peer, program)
}

#[tokio::test]
async fn an_answer_that_takes_minutes_reaches_a_client_that_has_ended_its_side() {
    let mut bed = Bed::new().await;
    let (mut peer, mut program) = forwarded(&mut bed).await;
    let clock = Clock::stop();
    peer.frames(|out| {
        smux::encode_data(3, b"a question", out);
        smux::encode(Command::Fin, 3, out);
    });
    peer.step().await;
    assert_eq!(program.takes_all().await, b"a question");
    for answer in ["one", "two"] {
        peer.rests(&clock, 590).await;
        program.data(answer).await;
        let wanted = (3, Bytes::from(answer));
        peer.until("an answer", |peer| peer.heard().contains(&wanted)).await;
    }
    // But not for ever.
    peer.rests(&clock, 590).await;
    assert!(!peer.heard().contains(&(3, Bytes::new())));
    peer.rests(&clock, 20).await;
    peer.until("its end", |peer| peer.heard().contains(&(3, Bytes::new()))).await;
}

#[tokio::test]
async fn what_waits_for_a_slow_target_is_not_lost_because_its_client_has_ended() {
    let mut bed = Bed::new().await;
    let (mut peer, mut program) = forwarded(&mut bed).await;
    let clock = Clock::stop();
    for _ in 0..20 {
        peer.frames(|out| smux::encode_data(3, &[b'x'; 1000], out));
        peer.step().await;
    }
    peer.frames(|out| smux::encode(Command::Fin, 3, out));
    peer.rests(&clock, 700).await;
    assert_eq!(program.takes_all().await, vec![b'x'; 20_000]);
    program.data("thanks").await;
    peer.until("an answer", |peer| peer.heard().contains(&(3, Bytes::from_static(b"thanks")))).await;
}

#[tokio::test]
async fn a_stream_that_stands_still_is_given_up_for_the_others() {
    let mut bed = Bed::new().await;
    let (mut peer, _stuck) = forwarded(&mut bed).await;
    let clock = Clock::stop();
    peer.frames(|out| smux::encode(Command::Syn, 5, out));
    peer.step().await;
    let mut other = bed.program().await;
    for _ in 0..20 {
        peer.frames(|out| smux::encode_data(3, &[b'x'; 10_000], out));
        peer.step().await;
    }
    let ended = (3, Bytes::new());
    peer.rests(&clock, 29).await;
    assert!(!peer.heard().contains(&ended), "not yet");
    peer.rests(&clock, 2).await;
    peer.until("the end of one", |peer| peer.heard().contains(&ended)).await;
    peer.frames(|out| {
        smux::encode_data(5, b"a question", out);
        smux::encode(Command::Fin, 5, out);
    });
    peer.step().await;
    assert_eq!(other.takes_all().await, b"a question", "what waited behind the other");
    other.data("an answer").await;
    peer.until("an answer", |peer| peer.heard().contains(&(5, Bytes::from_static(b"an answer")))).await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_asked_and_then_given_up() {
    let (bed, clock, mut peer, _program) = Bed::at_work().await;
    peer.rests(&clock, 200).await;
    assert!((6..=7).contains(&peer.pings), "{} pings", peer.pings);
    assert!(peer.socket.is_some(), "whoever is there stays");
    // It is there and says nothing.
    seconds(&clock, 60).await;
    assert_eq!(bed.shown(&peer.session).await["Status"], "Connected");
    seconds(&clock, 60).await;
    bed.until_shown(&peer.session, "Disconnected").await;
}

#[tokio::test]
async fn signs_of_life_are_no_activity() {
    let mut bed = Bed::new().await;
    let preferences = json!({
        "schemaVersion": "1.0", "sessionType": "Standard_Stream", "inputs": {"idleSessionTimeout": "1"},
    });
    let body = json!({
        "Name": "SSM-SessionManagerRunShell", "DocumentType": "Session", "Content": preferences.to_string(),
    });
    bed.world.call("alice", "CreateDocument", &body.to_string()).await.ok();
    let (mut peer, program) = forwarded(&mut bed).await;
    let clock = Clock::stop();
    bed.until_shown(&peer.session, "Connected").await;
    // What the target says is activity, and its acknowledgement is none any more.
    peer.rests(&clock, 40).await;
    program.data("still here").await;
    peer.until("output", |peer| !peer.out.is_empty()).await;
    for _ in 0..5 {
        peer.frames(|out| smux::encode(Command::Nop, 0, out));
        peer.rests(&clock, 10).await;
    }
    assert_eq!(peer.closed, None);
    peer.frames(|out| smux::encode(Command::Nop, 0, out));
    peer.step().await;
    seconds(&clock, 15).await;
    peer.until("the last word", |peer| peer.closed.is_some()).await;
    assert_eq!(peer.closed.as_deref(), Some("Your session timed out due to inactivity and has been terminated."));
}

#[tokio::test]
async fn a_client_that_is_killed_leaves_a_session_that_ends_by_itself() {
    let (bed, clock, mut peer, _program) = Bed::at_work().await;
    peer.cut();
    bed.until_shown(&peer.session, "Disconnected").await;
    seconds(&clock, 20 * 60 - 10).await;
    assert_eq!(bed.shown(&peer.session).await["Status"], "Disconnected");
    seconds(&clock, 20).await;
    let shown = bed.until_shown(&peer.session, "Terminated").await;
    assert!(shown["Details"].as_str().is_some_and(|text| text.starts_with("client_closed")), "{shown}");
}

#[tokio::test]
async fn what_a_target_does_not_take_is_left_with_the_client() {
    let mut bed = Bed::new().await;
    bed.reached();
    let started = bed.command().await;
    let (mut peer, _program) = bed.join(&started).await;
    let (mut sent, begun) = (0, Instant::now());
    while begun.elapsed() < Duration::from_secs(2) {
        while peer.delivery.room() >= 1000 {
            peer.send(PayloadType::Output, vec![b'x'; 1000]);
            sent += 1000;
        }
        peer.step().await;
    }
    let window = Limits::CLIENT.unacked_bytes_max;
    let taken = sent - window.min(sent);
    assert!((100 * 1024..384 * 1024).contains(&taken), "{taken} bytes are with the server");
}

#[tokio::test]
async fn a_kill_is_read_behind_output_that_flows() {
    let (bed, clock, mut peer, program) = Bed::at_work().await;
    let flowing = tokio::spawn(async move {
        // Until nobody listens.
        while program.says.send(Unit::Data(Bytes::from_static(&[b'x'; 8_000]))).await.is_ok() {}
    });
    peer.until("it flows", |peer| peer.out.len() > 1_000_000).await;
    // More than the client's system takes by itself is on its way.
    work(Duration::from_millis(100)).await;
    let body = json!({"SessionId": peer.session}).to_string();
    let ending = bed.world.call("alice", "TerminateSession", &body);
    tokio::pin!(ending);
    // The client reads on, and acknowledges, when the last word is on its way.
    tokio::select! {
        _answer = &mut ending => {}
        () = work(Duration::from_millis(100)) => {}
    }
    peer.until("the last word", |peer| peer.closed.is_some() || peer.socket.is_none()).await;
    let said = peer.closed.clone().expect("it is read before the connection ends");
    assert!(said.starts_with("disconnected"), "{said}");
    // A client that has read it and does not close is waited for, but not for long.
    work(Duration::from_millis(100)).await;
    assert_eq!(bed.shown(&peer.session).await["Status"], "Terminating");
    clock.pass(Duration::from_millis(310)).await;
    assert_eq!(ending.await.ok()["SessionId"], peer.session);
    flowing.await.expect("no panic");
}

#[tokio::test]
async fn a_kill_waits_for_no_client_that_has_closed() {
    let (bed, _clock, mut peer, _program) = Bed::at_work().await;
    let body = json!({"SessionId": peer.session}).to_string();
    let ending = bed.world.call("alice", "TerminateSession", &body);
    let leaving = async {
        peer.until("the last word", |peer| peer.closed.is_some()).await;
        peer.cut();
    };
    let (answer, ()) = tokio::join!(ending, leaving);
    assert_eq!(answer.ok()["SessionId"], peer.session);
}

#[tokio::test]
async fn connections_that_do_not_come_up_are_bounded_however_often_they_are_closed() {
    let mut bed = Bed::new().await;
    bed.reached();
    let started = bed.begin("AWS-StartPortForwardingSession", json!({"portNumber": ["1"]})).await;
    let mut peer = bed.open(&started).await;
    peer.version = "1.1.60.0";
    peer.until("the session begins", |peer| peer.begun).await;
    let asked = |bed: &Bed| bed.stage.asked.load(Ordering::Relaxed);
    for _ in 0..600 {
        peer.send(PayloadType::Output, &b"x"[..]);
        peer.send(PayloadType::Flag, Flag::DisconnectToPort.encode());
        peer.step().await;
    }
    let begun = Instant::now();
    peer.until("a while", |_| begun.elapsed() > Duration::from_secs(1)).await;
    // The target takes some, whatever becomes of them, and then nothing more comes of any.
    let taken = bed.programs.max_capacity();
    assert!((taken + 1..=taken + 128).contains(&asked(&bed)), "{} connections", asked(&bed));
    // They go on as soon as some come up.
    while asked(&bed) < 600 {
        assert!(begun.elapsed() < Duration::from_secs(20), "{} connections", asked(&bed));
        while bed.programs.try_recv().is_ok() {}
        peer.step().await;
    }
}
