//! One session from its seat to its end: a task that owns the admission, the machine and, while there is one, the
//! connection.
//!
//! The connection may break and come back; the target's side and the machine stay. Nothing here waits for a slow peer
//! but with everything else going on: a kill, a limit, the other direction.
//!
//! What is held is bounded: by the machine's own limits, by [`HELD_MAX`] for what the target does not take, and by the
//! dialer's for what the client does not take.

use super::upgrade::{closed, last_word, unix_ms};
use super::{Arrival, TOKEN_LIFE, Taken};
use crate::proto::delivery::{EVENT_BYTES, Epoch, Transmit};
use crate::proto::host::{CHUNK_BYTES_MAX, Event, Host, ONLY, Purpose, STREAMS_MAX, Said};
use async_trait::async_trait;
use axum::extract::ws::{Message as Frame, WebSocket};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use ravelin_engine::Admission;
use ravelin_engine::egress::{
    self, Dialer, Duct, DynSink, FarSink, FarSource, NotOpened, Opening, Reached, Terminal, Unreached,
};
use ravelin_engine::leg::{Leg, SocketHandle, guard};
use ravelin_engine::relay::{Broken, Flow, ReadSource, Relay, Sink, Source, Stopped, Unit, WriteSink};
use ravelin_model::Target;
use ravelin_model::policy::Action;
use ravelin_model::session::{EndReason, Ending};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OnceCell, Semaphore, SemaphorePermit, mpsc};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Bytes that came from the client and that the target has not taken, of all streams.
const HELD_MAX: usize = 128 * 1024;
/// What a session may be opening on its target at once. Besides the streams that there are it counts those that the client
/// has closed meanwhile; while there are more, nothing is heard of what the client wants.
const OPENINGS_MAX: usize = 2 * STREAMS_MAX;
/// Channels that may hold more than 1 MiB at a time, because their client sends much and acknowledges late: 96 MiB in all.
static LOANS: Semaphore = Semaphore::const_new(8);
/// A target that takes nothing on one of several streams for this long loses that stream, so that the others go on.
const STUCK_MAX: Duration = Duration::from_secs(30);
/// How long a stream may go on after the client's end of it, while nothing moves either way: the target has all, and says
/// nothing.
const LINGER_MAX: Duration = Duration::from_secs(600);
/// How often the client is asked whether it is there, and after which silence it is not.
const PING_EVERY: Duration = Duration::from_secs(30);
const SILENCE_MAX: Duration = Duration::from_secs(95);
/// How long a client may owe an acknowledgement before its connection is given up; it may come back.
const OWED_MAX: Duration = Duration::from_secs(300);
/// How long the end of a session may take on the wire without an acknowledgement, and in all: a slow line takes what is
/// left of the output as well as it can.
const LAST_WORD_MAX: Duration = Duration::from_secs(5);
const LAST_WORDS_MAX: Duration = Duration::from_secs(60);
/// How long the client may take what a target said before it was lost.
const LOST_TARGET_MAX: Duration = Duration::from_secs(30);
/// How long a client may take to close the connection after the last word.
const CLOSE_MAX: Duration = Duration::from_secs(1);
/// How long a farewell may take, until the client has closed: enough for one with 200 ms to go there and back, as with ssh
/// (ADR 0006). The engine cuts then, after which nothing of it that is still on its way arrives.
const FAREWELL_MAX: Duration = Duration::from_millis(300);
/// How long a target may take to hear that a session is over.
const LEAVE_MAX: Duration = Duration::from_millis(10);
/// What AWS's clients know as the text for this ending.
const IDLE_TEXT: &str = "Your session timed out due to inactivity and has been terminated.";
/// The terminal before the client has said how large it is, and what it understands.
const COLUMNS: u32 = 80;
const ROWS: u32 = 24;
const TERMINAL: &str = "xterm-256color";

/// What a session opens on its target, stream by stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A shell, and what is typed into it first.
    Shell { profile: Option<String> },
    /// A command.
    Command { command: String, terminal: bool },
    /// Through the target, after Ravelin has logged in there.
    Through(Opening),
    /// The target's own port, without login.
    Direct,
}

/// A session that was admitted, before its client has come.
pub(crate) struct Start {
    pub(crate) admission: Admission,
    pub(crate) taken: Taken,
    pub(crate) way: Way,
    pub(crate) purpose: Purpose,
    pub(crate) dialer: Arc<dyn Dialer>,
    /// How this dialect calls the target.
    pub(crate) target: String,
}

/// Sees the session to its end.
pub(crate) async fn run(start: Start) {
    let Start { admission, mut taken, way, purpose, dialer, target } = start;
    let id = admission.session().to_string();
    let word = |output: &str| closed(&id, &target, output);
    let (reason, detail) = {
        let mut desk = Desk::new(&admission, &way, purpose, dialer.as_ref());
        let outcome = desk.serve(&mut taken, &word).await;
        if let Some(Ok(reached)) = desk.reached.get() {
            let _slow = tokio::time::timeout(LEAVE_MAX, reached.take_leave()).await;
        }
        outcome
    };
    // No token leads here any more, and nothing of the sockets is held.
    drop(taken);
    let ending = admission.end(reason, &detail).await;
    tracing::debug!(session = %id, reason = ending.reason.word(), "a session's task is done");
}

/// The client's connection.
struct Line {
    sink: SplitSink<WebSocket, Frame>,
    stream: SplitStream<WebSocket>,
    leg: Arc<ChannelLeg>,
    /// Nothing more is said over it once it is dropped: nobody is to wait for a farewell then.
    _said: DropGuard,
    told: mpsc::Receiver<String>,
    outgoing: Option<Frame>,
    dirty: bool,
    heard: Instant,
    /// When it was last left unread on purpose: what had come by then was not heard.
    unread: Instant,
    pinged: Instant,
}

/// A stream of the session, as the desk knows it.
struct Stream {
    /// Tells a stream from an earlier one of the same number.
    generation: u64,
    /// What the target has not taken.
    waiting: VecDeque<Unit>,
    held: Arc<AtomicUsize>,
    /// `None` until it is open.
    feed: Option<mpsc::Sender<Unit>>,
    pump: Option<AbortHandle>,
    /// When the target last took something, or had nothing to take.
    moved: Instant,
    /// Since when the client has ended its side and nothing has moved, or could.
    lingers: Option<Instant>,
    /// Whether it was given up; its end waits to be said.
    given_up: bool,
}

/// What came of going out.
enum Opened {
    Target(Result<(), Unreached>),
    Stream { stream: u32, generation: u64, outcome: Result<Duct, Failed> },
}

enum Failed {
    Unreached(Unreached),
    NotOpened(NotOpened),
}

/// What a target's stream says, with which stream it was.
struct Spoken {
    stream: u32,
    generation: u64,
    said: Said,
}

#[allow(clippy::large_enum_variant, reason = "one value at a time, on the stack of one turn")]
enum Turn {
    Ending(Ending),
    Written(Result<(), axum::Error>),
    Frame(Option<Result<Frame, axum::Error>>),
    Spoken(Spoken),
    Opened(Opened),
    Lost(Unreached),
    Arrival(Option<Arrival>),
    Tell(String),
    Again,
}

struct Desk<'a> {
    admission: &'a Admission,
    way: &'a Way,
    dialer: &'a dyn Dialer,
    reached: Arc<OnceCell<Result<Reached, Unreached>>>,
    bundle: Arc<Bundle>,
    host: Host,
    loan: Option<SemaphorePermit<'static>>,
    line: Option<Line>,
    streams: BTreeMap<u32, Stream>,
    generations: u64,
    pumps: JoinSet<()>,
    speak: mpsc::Sender<Spoken>,
    spoken: mpsc::Receiver<Spoken>,
    /// What the desk itself has to say, when there is room.
    own: VecDeque<Spoken>,
    taken: Arc<Notify>,
    size: (u32, u32),
    connected: bool,
    /// Whether the row says that the client is lost.
    lost: bool,
    /// Since when there has been no client and no target, which the row has no state for.
    nobody: Option<Instant>,
    exit: String,
    /// How the session ends, once that is clear, and since when.
    ends: Option<(EndReason, String, Instant)>,
    /// Since when the last word is written.
    said_all: Option<Instant>,
    /// How the target was lost, and since when.
    target_lost: Option<(Unreached, Instant)>,
}

type Openings<'a> = FuturesUnordered<Pin<Box<dyn Future<Output = Opened> + Send + 'a>>>;

impl<'a> Desk<'a> {
    fn new(admission: &'a Admission, way: &'a Way, purpose: Purpose, dialer: &'a dyn Dialer) -> Self {
        let epoch = Epoch { instant: now(), unix_ms: unix_ms() };
        let (speak, spoken) = mpsc::channel(1);
        Self {
            admission,
            way,
            dialer,
            reached: Arc::default(),
            bundle: Arc::default(),
            host: Host::new(purpose, epoch, Uuid::new_v4()),
            loan: None,
            line: None,
            streams: BTreeMap::new(),
            generations: 0,
            pumps: JoinSet::new(),
            speak,
            spoken,
            own: VecDeque::new(),
            taken: Arc::default(),
            size: (COLUMNS, ROWS),
            connected: false,
            lost: false,
            nobody: None,
            exit: String::new(),
            ends: None,
            said_all: None,
            target_lost: None,
        }
    }

    /// From the seat to the moment at which the session has to end.
    async fn serve(
        &mut self,
        seat: &mut Taken,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
    ) -> (EndReason, String) {
        let first = tokio::select! {
            first = tokio::time::timeout(TOKEN_LIFE, seat.arrivals.recv()) => first,
            ending = self.admission.ending() => return (ending.reason, ending.detail),
        };
        match first {
            Ok(Some(arrival)) => self.arrive(arrival).await,
            Ok(None) | Err(_) => {
                let detail = format!("no data channel was opened within {} s", TOKEN_LIFE.as_secs());
                return (EndReason::ClientClosed, detail);
            }
        }
        if matches!(self.way, Way::Direct) {
            self.admission.attach_target(Arc::clone(&self.bundle) as Arc<dyn Leg>);
        }
        let mut openings: Openings<'a> = FuturesUnordered::new();
        if !(matches!(self.way, Way::Direct) && self.only_stream()) {
            openings.push(self.reach());
        }
        loop {
            let now = now();
            self.settle(&mut openings, word, now);
            self.end_without_target(word, now);
            if let Some(done) = self.done(now) {
                return done;
            }
            match self.turn(seat, &mut openings, now).await {
                Turn::Ending(ending) => {
                    self.farewell(&ending, word).await;
                    return (ending.reason, ending.detail);
                }
                Turn::Written(Ok(())) | Turn::Again => {}
                Turn::Written(Err(error)) => self.drop_line(&error.to_string()).await,
                Turn::Frame(frame) => self.hear(frame).await,
                Turn::Spoken(spoken) => self.own.push_back(spoken),
                Turn::Opened(opened) => self.opened(opened, word).await,
                Turn::Lost(unreached) => self.target_lost = Some((unreached, now)),
                Turn::Arrival(Some(arrival)) => self.arrive(arrival).await,
                Turn::Arrival(None) => return (EndReason::InternalError, "the session lost its seat".to_owned()),
                Turn::Tell(text) => self.tell(&text),
            }
        }
    }

    /// Everything that can be done without waiting.
    fn settle(
        &mut self,
        openings: &mut Openings<'a>,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
        now: Instant,
    ) {
        while self.held() < HELD_MAX && openings.len() < OPENINGS_MAX {
            match self.host.poll_event(now) {
                Some(event) => self.react(event, openings, word, now),
                None => break,
            }
        }
        self.feed(now);
        if self.host.wants_loan(self.loan.is_some()) != self.loan.is_some() {
            self.loan = if self.loan.is_none() { LOANS.try_acquire().ok() } else { None };
            self.host.lend(self.loan.is_some());
        }
        while self.host.room() >= CHUNK_BYTES_MAX {
            match self.own.pop_front() {
                Some(spoken) => self.say(spoken, word, now),
                None => break,
            }
        }
        if let Some(line) = &mut self.line
            && line.outgoing.is_none()
        {
            line.outgoing = match self.host.poll_transmit(now) {
                Some(Transmit::Message(bytes)) => Some(Frame::Binary(bytes)),
                Some(Transmit::Ping(bytes)) => Some(Frame::Ping(bytes)),
                None if now.duration_since(line.pinged) >= PING_EVERY => {
                    line.pinged = now;
                    Some(Frame::Ping(Bytes::from_static(b"keepalive")))
                }
                None => None,
            };
        }
    }

    /// Ends a session whose target was lost, once all is taken that the target had said before, or has had its time.
    fn end_without_target(
        &mut self,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
        now: Instant,
    ) {
        let Some((_, since)) = &self.target_lost else { return };
        let all_said = self.pumps.is_empty() && self.spoken.is_empty() && self.own.is_empty();
        if !all_said && now.duration_since(*since) < LOST_TARGET_MAX {
            return;
        }
        if let Some((unreached, _)) = self.target_lost.take()
            && self.ends.is_none()
        {
            let text =
                if self.exit.is_empty() { format!("the target was lost: {}", unreached.detail) } else { String::new() };
            self.finish(unreached.reason, unreached.detail, &text, word);
        }
    }

    /// Whether the session's end has gone out, or has had its time.
    fn done(&mut self, now: Instant) -> Option<(EndReason, String)> {
        // A client that left before the target was there may come back as long as a token is good.
        let given_up = self.nobody.is_some_and(|since| now.duration_since(since) >= TOKEN_LIFE);
        let Some((reason, detail, since)) = self.ends.as_ref() else {
            let detail = || format!("the client was lost and did not come back within {} s", TOKEN_LIFE.as_secs());
            return given_up.then(|| (EndReason::ClientClosed, detail()));
        };
        let written =
            self.host.is_finished() && self.line.as_ref().is_none_or(|line| line.outgoing.is_none() && !line.dirty);
        if written {
            self.said_all.get_or_insert(now);
        }
        // The client closes when it has read the last word. Whoever closes first may lose what was said last.
        let closed = self.line.is_none() || self.said_all.is_some_and(|at| now.duration_since(at) >= CLOSE_MAX);
        let gone_out = written && closed;
        // Who is away may come back for the last word, as long as a client may stay away at all.
        let moved = self.host.acknowledged_at().map_or(*since, |at| at.max(*since));
        let timed_out = self.line.is_some()
            && (now.duration_since(moved) >= LAST_WORD_MAX || now.duration_since(*since) >= LAST_WORDS_MAX);
        (gone_out || timed_out || given_up || *reason == EndReason::ClientClosed).then(|| (*reason, detail.clone()))
    }

    async fn turn(&mut self, seat: &mut Taken, openings: &mut Openings<'a>, now: Instant) -> Turn {
        let tick = now + Duration::from_secs(1);
        // While something waits to be written, nothing more can be: what is due then would be due again at once.
        let blocked = self.line.as_ref().is_some_and(|line| line.outgoing.is_some());
        let at = self.host.poll_timeout().filter(|_| !blocked).map_or(tick, |at| at.min(tick));
        let room = self.host.room() >= CHUNK_BYTES_MAX && self.own.is_empty() && self.ends.is_none();
        let wants_read = self.host.wants_read();
        let reached = Arc::clone(&self.reached);
        let lost = async {
            match reached.get() {
                Some(Ok(reached)) => reached.lost().await,
                Some(Err(_)) | None => std::future::pending().await,
            }
        };
        let (mut writing, mut reading, mut told) = (None, None, None);
        if let Some(Line { sink, stream, told: words, outgoing, dirty, .. }) = &mut self.line {
            (writing, reading, told) = (Some((sink, outgoing, dirty)), Some(stream), Some(words));
        }
        let (ended, target_lost) = (self.ends.is_some(), self.target_lost.is_some());
        tokio::select! {
            ending = self.admission.ending() => Turn::Ending(ending),
            written = write(writing.as_mut()) => Turn::Written(written),
            frame = read(reading.as_mut()), if wants_read => Turn::Frame(frame),
            Some(spoken) = self.spoken.recv(), if room => Turn::Spoken(spoken),
            Some(opened) = openings.next(), if !openings.is_empty() => Turn::Opened(opened),
            unreached = lost, if !ended && !target_lost => Turn::Lost(unreached),
            arrival = seat.arrivals.recv() => Turn::Arrival(arrival),
            Some(text) = hear_word(told.as_mut()) => Turn::Tell(text),
            Some(_) = self.pumps.join_next(), if !self.pumps.is_empty() => Turn::Again,
            () = self.taken.notified() => Turn::Again,
            () = tokio::time::sleep_until(at.into()) => Turn::Again,
        }
    }

    /// A connection is there: the first, or another in place of one that broke or that the client has left.
    async fn arrive(&mut self, arrival: Arrival) {
        let now = now();
        if self.line.is_some() {
            self.drop_line("the client opened another").await;
        }
        let Arrival { socket, handle } = arrival;
        let (tell, told) = mpsc::channel(4);
        let leg = Arc::new(ChannelLeg { socket: handle, tell, said: CancellationToken::new() });
        let (sink, stream) = socket.split();
        if std::mem::take(&mut self.lost) {
            // Fails when the session was asked to end meanwhile, which the next turn sees.
            if let Err(refusal) = self.admission.resumed(leg.clone()).await {
                tracing::debug!(%refusal, "a client came back too late");
            }
        } else {
            self.admission.attach_client(leg.clone());
        }
        self.host.attach(now);
        // Whoever comes back for the last word has the whole time for it.
        if let Some((_, _, since)) = &mut self.ends {
            *since = now;
        }
        self.said_all = None;
        self.nobody = None;
        let said = leg.said.clone().drop_guard();
        self.line = Some(Line {
            sink,
            stream,
            leg,
            _said: said,
            told,
            outgoing: None,
            dirty: false,
            heard: now,
            unread: now,
            pinged: now,
        });
    }

    /// The connection is gone; the session waits for another.
    async fn drop_line(&mut self, because: &str) {
        let Some(line) = self.line.take() else { return };
        tracing::debug!(session = %self.admission.session(), because, "a data channel was lost");
        line.leg.cut();
        drop(line);
        self.host.detach();
        self.lose().await;
    }

    /// Puts on record that the client is lost, also when only the last word is left to say: it may come back for that.
    /// Before the target is there, there is no state for it.
    async fn lose(&mut self) {
        if self.line.is_some() {
            return;
        }
        self.nobody = (!self.connected).then(|| self.nobody.unwrap_or_else(now));
        // Whoever has heard the last word, or has said theirs, does not come back.
        let over = self.ends.as_ref().is_some_and(|(reason, ..)| *reason == EndReason::ClientClosed)
            || self.host.is_finished();
        if self.connected && !self.lost && !over {
            self.lost = true;
            if let Err(refusal) = self.admission.disconnected().await {
                tracing::debug!(%refusal, "a session could not be put down as disconnected");
            }
        }
    }

    async fn hear(&mut self, frame: Option<Result<Frame, axum::Error>>) {
        let now = now();
        if let Some(line) = &mut self.line {
            line.heard = now;
        }
        match frame {
            Some(Ok(Frame::Binary(bytes))) => self.host.handle(&bytes, now),
            Some(Ok(Frame::Pong(payload))) => self.host.handle_pong(&payload, now),
            Some(Ok(Frame::Ping(_))) => {
                // The answer lies in the sink and goes out with the next flush.
                if let Some(line) = &mut self.line {
                    line.dirty = true;
                }
            }
            // After the opening there is no text.
            Some(Ok(Frame::Text(_))) => {}
            Some(Ok(Frame::Close(_))) | None => self.drop_line("the client closed it").await,
            Some(Err(error)) => self.drop_line(&error.to_string()).await,
        }
    }

    fn react(
        &mut self,
        event: Event,
        openings: &mut Openings<'a>,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
        now: Instant,
    ) {
        if self.ends.is_some() {
            return;
        }
        match event {
            Event::Ready => {
                let client = self.host.client_version();
                tracing::debug!(session = %self.admission.session(), client, "a data channel is open");
            }
            Event::Open { stream } => {
                self.generations += 1;
                let generation = self.generations;
                let opened = Stream {
                    generation,
                    waiting: VecDeque::new(),
                    held: Arc::default(),
                    feed: None,
                    pump: None,
                    moved: now,
                    lingers: None,
                    given_up: false,
                };
                self.streams.insert(stream, opened);
                openings.push(self.open(stream, generation));
            }
            Event::Data { stream, bytes } => self.hold(stream, Unit::Data(bytes)),
            Event::Eof { stream } => {
                self.hold(stream, Unit::Eof);
                // A program may work on for long after its input has ended; a forwarded connection is half dead.
                if !self.only_stream()
                    && let Some(stream) = self.streams.get_mut(&stream)
                {
                    stream.lingers = Some(now);
                }
            }
            Event::Close { stream } => self.close(stream),
            Event::Resize { columns, rows } => {
                self.size = (columns, rows);
                self.hold(ONLY, Unit::Resize { columns, rows, width_px: 0, height_px: 0 });
            }
            Event::Terminate => {
                self.finish(EndReason::ClientClosed, self.exit.clone(), "", word);
            }
            Event::Broken(because) => {
                let text = format!("the session cannot go on: {because}");
                self.finish(EndReason::ProtocolError, because, &text, word);
            }
        }
    }

    fn hold(&mut self, stream: u32, unit: Unit) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.held.fetch_add(weight(&unit), Ordering::Relaxed);
            stream.waiting.push_back(unit);
        }
    }

    fn held(&self) -> usize {
        self.streams.values().map(|stream| stream.held.load(Ordering::Relaxed)).sum()
    }

    /// Gives the streams what they take, and gives up those that take nothing while others wait for them.
    fn feed(&mut self, now: Instant) {
        let many = self.streams.len() > 1;
        // What a target may have said already waits for the client.
        let client_takes = self.host.room() >= CHUNK_BYTES_MAX && self.own.is_empty();
        let mut given_up = Vec::new();
        for (number, stream) in &mut self.streams {
            if let Some(feed) = &stream.feed {
                while let Some(unit) = stream.waiting.pop_front() {
                    match feed.try_send(unit) {
                        Ok(()) => stream.moved = now,
                        Err(mpsc::error::TrySendError::Full(unit)) => {
                            stream.waiting.push_front(unit);
                            break;
                        }
                        // Its pump has stopped; what it says last is on its way.
                        Err(mpsc::error::TrySendError::Closed(_)) => {
                            stream.waiting.clear();
                            stream.held.store(0, Ordering::Relaxed);
                        }
                    }
                }
            }
            let has_all = stream.held.load(Ordering::Relaxed) == 0;
            if has_all {
                stream.moved = now;
            }
            if !(has_all && client_takes) && stream.lingers.is_some() {
                stream.lingers = Some(now);
            }
            let stuck = many && now.duration_since(stream.moved) >= STUCK_MAX;
            let lingered = stream.lingers.is_some_and(|since| now.duration_since(since) >= LINGER_MAX);
            if (stuck || lingered) && !std::mem::replace(&mut stream.given_up, true) {
                given_up.push((*number, stream.generation));
            }
        }
        for (stream, generation) in given_up {
            tracing::debug!(stream, "a stream was given up: its target takes nothing, or says nothing after its end");
            self.own.push_back(Spoken { stream, generation, said: Said::Closed });
            if let Some(pump) = self.streams.get_mut(&stream).and_then(|stream| stream.pump.take()) {
                pump.abort();
            }
        }
        if let Some(line) = &mut self.line {
            if !self.host.wants_read() {
                line.unread = now;
            }
            let since = |then: Instant| now.saturating_duration_since(then.max(line.unread));
            let silent = since(line.heard) >= SILENCE_MAX;
            let owes = self.host.owed_since().is_some_and(|owed| since(owed) >= OWED_MAX);
            if silent || owes {
                // The read that waits sees the end.
                line.leg.cut();
            }
        }
    }

    /// Says what a target's stream said, if the stream is still that one.
    fn say(
        &mut self,
        spoken: Spoken,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
        now: Instant,
    ) {
        let Spoken { stream, generation, said } = spoken;
        let Some(known) = self.streams.get_mut(&stream).filter(|known| known.generation == generation) else { return };
        if known.lingers.is_some() {
            known.lingers = Some(now);
        }
        if let Said::Exit(code) = &said {
            self.exit = format!("exit status {code}");
        }
        let over = matches!(said, Said::Closed | Said::Unreachable);
        if let Err(error) = self.host.say(stream, said, now) {
            tracing::error!(%error, "the window has no room for what was asked for because it had");
        }
        if over {
            self.close(stream);
            self.ended_by_target(word);
        }
    }

    /// Whether the session is its one stream, and ends with it.
    fn only_stream(&self) -> bool {
        !self.host.forwards()
    }

    fn ended_by_target(&mut self, word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync)) {
        // How a target was lost says more than that its program is gone, unless the program has ended.
        let lost_says_more = self.target_lost.is_some() && self.exit.is_empty();
        if self.only_stream() && self.ends.is_none() && !lost_says_more {
            self.finish(EndReason::TargetClosed, self.exit.clone(), "", word);
        }
    }

    fn close(&mut self, stream: u32) {
        if let Some(stream) = self.streams.remove(&stream) {
            // Its pump ends because nobody feeds it; what it still says is of a generation that is gone.
            drop(stream.feed);
        }
    }

    fn finish(
        &mut self,
        reason: EndReason,
        detail: String,
        text: &str,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
    ) {
        if self.ends.is_none() {
            let now = now();
            self.host.finish(&word(text), now);
            self.ends = Some((reason, detail, now));
        }
    }

    fn tell(&mut self, text: &str) {
        if matches!(self.way, Way::Shell { .. } | Way::Command { terminal: true, .. })
            && let Some(stream) = self.streams.get(&ONLY)
        {
            let said = Said::Output(format!("\r\n*** {text}\r\n").into());
            self.own.push_back(Spoken { stream: ONLY, generation: stream.generation, said });
        }
    }

    /// Somebody ends the session: the last word goes out now, behind what is on its way, and is waited for until the client
    /// has read it and closes. The target is cut off already.
    async fn farewell(
        &mut self,
        ending: &Ending,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
    ) {
        let Some(line) = &mut self.line else { return };
        let text = match ending.reason {
            EndReason::IdleLimit => IDLE_TEXT.to_owned(),
            EndReason::ClientClosed => String::new(),
            EndReason::TargetClosed
            | EndReason::DisconnectedByOperator
            | EndReason::DurationLimit
            | EndReason::RightsRevoked
            | EndReason::NodeStopped
            | EndReason::NodeLost
            | EndReason::TargetUnreachable
            | EndReason::AuthFailed
            | EndReason::Denied
            | EndReason::RecordingFailed
            | EndReason::ProtocolError
            | EndReason::InternalError => ending.message(),
        };
        let frame = Frame::Binary(last_word(&word(&text)));
        let Line { sink, stream, outgoing, leg, .. } = line;
        let saying = async {
            if let Some(before) = outgoing.take() {
                sink.feed(before).await?;
            }
            sink.feed(frame).await?;
            sink.flush().await
        };
        // Read all the while: whoever cannot write may not read either, and what was left unread would end the connection
        // before the last word has gone out.
        let leaving = async {
            loop {
                match stream.next().await {
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => return,
                    Some(Ok(Frame::Binary(_) | Frame::Text(_) | Frame::Ping(_) | Frame::Pong(_))) => {}
                }
            }
        };
        let told = async {
            tokio::pin!(leaving);
            tokio::select! {
                said = saying => said?,
                () = &mut leaving => return Ok(()),
            }
            leaving.await;
            Ok::<(), axum::Error>(())
        };
        match tokio::time::timeout(FAREWELL_MAX, told).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a client left before it was told why"),
            Err(_elapsed) => tracing::debug!("a client did not close after the farewell"),
        }
        leg.said.cancel();
    }

    async fn opened(
        &mut self,
        opened: Opened,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
    ) {
        match opened {
            Opened::Target(Ok(())) => {
                self.connected = true;
                self.lose().await;
            }
            Opened::Target(Err(unreached)) => self.unreached(unreached, word),
            Opened::Stream { stream, generation, outcome } => match outcome {
                Ok(duct) => {
                    self.connected = true;
                    self.begin(stream, generation, duct);
                    self.lose().await;
                }
                Err(Failed::Unreached(unreached)) if self.only_stream() || !self.connected => {
                    self.unreached(unreached, word);
                }
                Err(Failed::NotOpened(why)) if self.only_stream() => {
                    let (reason, detail) = match why {
                        NotOpened::Refused(refusal) => (EndReason::Denied, refusal.to_string()),
                        NotOpened::Declined(text) => (EndReason::TargetClosed, text),
                        // Why is said by the connection's own end.
                        NotOpened::Lost => return,
                    };
                    let text = format!("cannot open it on the target: {detail}");
                    self.finish(reason, detail, &text, word);
                }
                Err(Failed::Unreached(_) | Failed::NotOpened(_)) => {
                    self.own.push_back(Spoken { stream, generation, said: Said::Unreachable });
                }
            },
        }
    }

    fn unreached(
        &mut self,
        unreached: Unreached,
        word: &(dyn Fn(&str) -> crate::wire::data_channel::ChannelClosed + Sync),
    ) {
        let text = Ending::new(unreached.reason, ravelin_model::session::Actor::System, &unreached.detail).message();
        self.finish(unreached.reason, unreached.detail, &text, word);
    }

    /// Joins an opened stream to the relay.
    fn begin(&mut self, number: u32, generation: u64, duct: Duct) {
        let Some(stream) = self.streams.get_mut(&number).filter(|stream| stream.generation == generation) else {
            // Closed while it was opened.
            self.pumps.spawn(duct.sink.close());
            return;
        };
        if let Way::Shell { profile: Some(profile) } = self.way {
            let unit = Unit::Data(format!("{profile}\n").into());
            stream.held.fetch_add(weight(&unit), Ordering::Relaxed);
            stream.waiting.push_front(unit);
        }
        let (feed, units) = mpsc::channel(1);
        stream.feed = Some(feed);
        let from_client = Fed { units, given: 0, held: Arc::clone(&stream.held), taken: Arc::clone(&self.taken) };
        let to_client = Voice { stream: number, generation, speak: self.speak.clone() };
        let pumping = pump(self.admission.relay(), duct, from_client, to_client);
        stream.pump = Some(self.pumps.spawn(pumping));
    }

    /// Goes to the target while the client still shakes hands.
    fn reach(&self) -> Pin<Box<dyn Future<Output = Opened> + Send + 'a>> {
        let (admission, dialer, way) = (self.admission, self.dialer, self.way);
        let reached = Arc::clone(&self.reached);
        Box::pin(async move {
            if matches!(way, Way::Direct) {
                // It answered when the session was started; each connection is made when it is wanted.
                return Opened::Target(connected(admission).await);
            }
            let reached = reached.get_or_init(|| login(admission, dialer)).await;
            Opened::Target(reached.as_ref().map(|_| ()).map_err(Clone::clone))
        })
    }

    fn open(&self, stream: u32, generation: u64) -> Pin<Box<dyn Future<Output = Opened> + Send + 'a>> {
        let (admission, dialer) = (self.admission, self.dialer);
        let (reached, bundle) = (Arc::clone(&self.reached), Arc::clone(&self.bundle));
        let (columns, rows) = self.size;
        let only = self.only_stream();
        let terminal = || Terminal { name: TERMINAL.to_owned(), columns, rows };
        let opening = match self.way {
            Way::Shell { .. } => Some(Opening::Shell { terminal: terminal() }),
            Way::Command { command, terminal: wanted } => {
                Some(Opening::Exec { command: command.clone(), terminal: wanted.then(terminal) })
            }
            Way::Through(opening) => Some(opening.clone()),
            Way::Direct => None,
        };
        Box::pin(async move {
            let outcome = match opening {
                None if only => match direct(admission, &bundle).await {
                    Ok(duct) => connected(admission).await.map(|()| duct).map_err(Failed::Unreached),
                    Err(failed) => Err(failed),
                },
                None => direct(admission, &bundle).await,
                Some(opening) => match reached.get_or_init(|| login(admission, dialer)).await {
                    Ok(reached) => admission.open(reached, opening).await.map_err(Failed::NotOpened),
                    Err(unreached) => Err(Failed::Unreached(unreached.clone())),
                },
            };
            Opened::Stream { stream, generation, outcome }
        })
    }
}

async fn login(admission: &Admission, dialer: &dyn Dialer) -> Result<Reached, Unreached> {
    let reached = admission.reach(dialer).await?;
    connected(admission).await?;
    Ok(reached)
}

async fn connected(admission: &Admission) -> Result<(), Unreached> {
    let refused = |refusal: ravelin_model::Refusal| Unreached::new(EndReason::InternalError, refusal.to_string());
    let connected = admission.connected().await;
    if connected.is_err() && admission.ending().now_or_never().is_some() {
        // Refused because the session was asked to end, of which its desk hears.
        return std::future::pending().await;
    }
    connected.map_err(refused)
}

/// By the clock that timers go by.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One connection to the target's own port.
async fn direct(admission: &Admission, bundle: &Arc<Bundle>) -> Result<Duct, Failed> {
    let target = admission.target();
    admission.permit(Action::OpenTunnel).await.map_err(|refusal| Failed::NotOpened(NotOpened::Refused(refusal)))?;
    let unreached = |error: std::io::Error| Failed::Unreached(cannot_dial(target, &error));
    let (stream, socket) = guard(egress::dial(target).await.map_err(unreached)?);
    let kept = bundle.add(socket);
    let (read, write) = tokio::io::split(stream);
    let sink = TcpSink { sink: WriteSink::new(write), _kept: kept };
    Ok(Duct { source: FarSource::new(ReadSource::new(read)), sink: FarSink::new(sink) })
}

fn cannot_dial(target: &Target, error: &std::io::Error) -> Unreached {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    Unreached::new(EndReason::TargetUnreachable, format!("{}: {}", target.name, text.to_lowercase()))
}

async fn write(
    line: Option<&mut (&mut SplitSink<WebSocket, Frame>, &mut Option<Frame>, &mut bool)>,
) -> Result<(), axum::Error> {
    let Some((sink, outgoing, dirty)) = line else { return std::future::pending().await };
    if outgoing.is_some() {
        poll_fn(|cx| sink.poll_ready_unpin(cx)).await?;
        if let Some(frame) = outgoing.take() {
            sink.start_send_unpin(frame)?;
            **dirty = true;
        }
        Ok(())
    } else if **dirty {
        sink.flush().await?;
        **dirty = false;
        Ok(())
    } else {
        std::future::pending().await
    }
}

async fn read(stream: Option<&mut &mut SplitStream<WebSocket>>) -> Option<Result<Frame, axum::Error>> {
    match stream {
        Some(stream) => stream.next().await,
        None => std::future::pending().await,
    }
}

async fn hear_word(told: Option<&mut &mut mpsc::Receiver<String>>) -> Option<String> {
    match told {
        Some(told) => told.recv().await,
        None => std::future::pending().await,
    }
}

/// Both directions of a stream, until the target's end of it, or until nobody feeds it any more.
async fn pump(relay: Relay, duct: Duct, mut from_client: Fed, mut to_client: Voice) {
    let Duct { mut source, mut sink } = duct;
    let over = {
        let inward = relay.pump(Flow::In, &mut from_client, &mut sink);
        let outward = relay.pump(Flow::Out, &mut source, &mut to_client);
        tokio::pin!(inward, outward);
        let stopped = tokio::select! {
            stopped = &mut outward => stopped,
            stopped = &mut inward => match stopped {
                // A target that takes no more may still have something to say.
                Stopped::SinkClosed => outward.await,
                Stopped::SourceClosed | Stopped::Ended => stopped,
            },
        };
        matches!(stopped, Stopped::Ended)
    };
    sink.close().await;
    // A stream that ended with its session has no end of its own to tell of.
    if !over {
        // The desk may be gone.
        let _gone = to_client.say(Said::Closed).await;
    }
}

/// What a unit counts for that waits: sizes and ends take room, too.
fn weight(unit: &Unit) -> usize {
    let bytes = if let Unit::Data(bytes) = unit { bytes.len() } else { 0 };
    bytes + EVENT_BYTES
}

/// What the client says on one stream.
struct Fed {
    units: mpsc::Receiver<Unit>,
    given: usize,
    held: Arc<AtomicUsize>,
    taken: Arc<Notify>,
}

impl Source for Fed {
    async fn next(&mut self) -> Option<Unit> {
        // Whoever asks again has passed the last one on.
        self.held.fetch_sub(std::mem::take(&mut self.given), Ordering::Relaxed);
        self.taken.notify_one();
        let unit = self.units.recv().await?;
        self.given = weight(&unit);
        self.taken.notify_one();
        Some(unit)
    }
}

/// What the target says on one stream.
struct Voice {
    stream: u32,
    generation: u64,
    speak: mpsc::Sender<Spoken>,
}

impl Voice {
    async fn say(&self, said: Said) -> Result<(), Broken> {
        let spoken = Spoken { stream: self.stream, generation: self.generation, said };
        self.speak.send(spoken).await.map_err(|_| Broken)
    }
}

impl Sink for Voice {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        let in_pieces = |bytes: Bytes| {
            let mut rest = bytes;
            std::iter::from_fn(move || {
                let n = rest.len().min(CHUNK_BYTES_MAX);
                (n > 0).then(|| rest.split_to(n))
            })
        };
        match unit {
            Unit::Data(bytes) => {
                for piece in in_pieces(bytes) {
                    self.say(Said::Output(piece)).await?;
                }
                Ok(())
            }
            Unit::ErrorData(bytes) => {
                for piece in in_pieces(bytes) {
                    self.say(Said::Error(piece)).await?;
                }
                Ok(())
            }
            Unit::Eof => self.say(Said::Eof).await,
            Unit::Exit(status) => self.say(Said::Exit(i64::from(status))).await,
            // As a shell tells of it: 128 and the number, which is not known for names beyond the usual.
            Unit::ExitSignal { name, .. } => self.say(Said::Exit(128 + signal_number(&name))).await,
            Unit::Resize { .. } | Unit::Signal(_) => Ok(()),
        }
    }
}

/// The numbers of POSIX signals on Linux.
fn signal_number(name: &str) -> i64 {
    match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "ILL" => 4,
        "ABRT" => 6,
        "FPE" => 8,
        "KILL" => 9,
        "USR1" => 10,
        "SEGV" => 11,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        _ => 0,
    }
}

/// The client's side, for the engine's hand.
struct ChannelLeg {
    socket: SocketHandle,
    tell: mpsc::Sender<String>,
    said: CancellationToken,
}

#[async_trait]
impl Leg for ChannelLeg {
    async fn tell(&self, text: &str) {
        // A client that has not read the last four is told no fifth.
        let _full = self.tell.try_send(text.to_owned());
    }

    /// The session's task says it, with the words of this dialect.
    async fn farewell(&self, _text: &str) {
        self.said.cancelled().await;
    }

    fn cut(&self) {
        self.socket.cut();
    }

    async fn closed(&self) {
        self.socket.closed().await;
    }
}

/// All connections that a session has made to the target's own port, under one hand.
#[derive(Default)]
struct Bundle {
    state: Mutex<Sockets>,
}

#[derive(Default)]
struct Sockets {
    cut: bool,
    made: u64,
    open: HashMap<u64, SocketHandle>,
}

/// One connection's place in its bundle.
struct Kept {
    bundle: Arc<Bundle>,
    number: u64,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.bundle.state().open.remove(&self.number);
    }
}

impl Bundle {
    fn add(self: &Arc<Self>, socket: SocketHandle) -> Kept {
        let mut state = self.state();
        if state.cut {
            socket.cut();
        }
        state.made += 1;
        let number = state.made;
        state.open.insert(number, socket);
        Kept { bundle: Arc::clone(self), number }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Sockets> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Leg for Bundle {
    async fn tell(&self, _text: &str) {}

    async fn farewell(&self, _text: &str) {}

    fn cut(&self) {
        let mut state = self.state();
        state.cut = true;
        for socket in state.open.values() {
            socket.cut();
        }
    }

    async fn closed(&self) {
        loop {
            let next = self.state().open.values().next().cloned();
            match next {
                Some(socket) => socket.closed().await,
                None => return,
            }
            // It leaves the bundle in the same breath as it closes.
            tokio::task::yield_now().await;
        }
    }
}

struct TcpSink<W> {
    sink: WriteSink<W>,
    _kept: Kept,
}

#[async_trait]
impl<W: tokio::io::AsyncWrite + Unpin + Send> DynSink for TcpSink<W> {
    async fn put_unit(&mut self, unit: Unit) -> Result<(), Broken> {
        self.sink.put(unit).await
    }

    async fn close(&mut self) {
        // The target may be gone, which comes to the same.
        let _gone = self.sink.put(Unit::Eof).await;
    }
}
