//! The server's end of a data channel as a machine: handshake, kinds of sessions, streams inside a session, last word.
//!
//! It stands on [`super::delivery`], which cares for order and loss. Bytes and `now` go in, things to write and events
//! come out; it knows no socket, no clock and no target. Whoever drives it opens streams on the target when
//! [`Event::Open`] says so, feeds them with [`Event::Data`], and gives back what they say with [`Host::say`].
//!
//! How many streams there are depends on the kind of session:
//!
//! | kind | streams |
//! |---|---|
//! | shell, command, plain stream | one, 0, from the handshake to the end |
//! | forwarding, client before 1.1.70 | one at a time, 0, opened by the first data after the one before has closed |
//! | forwarding | any number up to [`STREAMS_MAX`], by smux |
//!
//! Source: `agent/session/datachannel`, `plugins/port` and `plugins/sessionplugin` of `aws/amazon-ssm-agent` (3.3) and
//! `src/sessionmanagerplugin/session` of `aws/session-manager-plugin` (1.2.677), read 2026-11.

use super::channel::{self, Flag};
use super::delivery::{self, Delivery, End, Epoch, Limits, NotSent, Transmit};
use super::message::PayloadType;
use super::smux::{self, Command};
use crate::wire::data_channel as wire;
use bytes::{Bytes, BytesMut};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What this end calls itself: four numbers, by which clients choose what they speak. An agent of this version speaks
/// smux and needs no sign of life inside it.
pub const AGENT_VERSION: &str = "3.3.0.0";
/// How long a client may take to answer the handshake.
pub const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Streams that one forwarding session has at once.
pub const STREAMS_MAX: usize = 64;
/// Most bytes that go out in one payload. AWS's agent sends 1 KiB; the vendor's plugin takes 64.
pub const CHUNK_BYTES_MAX: usize = 32 * 1024;
/// Most bytes that are asked for in one payload, of clients that look at it. Others send 1 KiB.
const ASKED_BYTES_MAX: u32 = 64 * 1024;
/// What the refusal of a stream takes.
const REFUSAL_BYTES: usize = 1024;
/// Clients from this version on speak smux.
const MUX_SINCE: [u64; 3] = [1, 1, 70];
/// Clients after this version know payloads for the stream of errors and for exit codes.
const APART_AFTER: [u64; 3] = [1, 2, 295];
/// What a host holds for a peer that takes nothing and a target that takes nothing: well below 1 MiB in all. With a loan,
/// what the clients in use have on their way at most: ten thousand messages of 1 KiB.
pub const LIMITS: Limits = Limits {
    unacked_bytes_max: 256 * 1024,
    unacked_messages_max: 2048,
    ahead_bytes_max: 128 * 1024,
    ahead_messages_max: 1024,
    waiting_bytes_max: 128 * 1024,
    waiting_bytes_max_when_blocked: 12 * 1024 * 1024,
};

/// What a session is for, as far as the client is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Purpose {
    /// `Standard_Stream`, `InteractiveCommands`, `NonInteractiveCommands` or `Port`.
    pub session_type: &'static str,
    /// What the client has to know of it, see [`wire::PortProperties`].
    pub properties: Value,
    /// Whether it is a listener of the client's, behind which there are connections.
    pub forwards: bool,
    /// Whether the stream of errors and the exit code are told apart.
    pub separate: bool,
    /// What the client prints when the session begins; empty for nothing.
    pub welcome: String,
}

/// The only stream of sessions that have one.
pub const ONLY: u32 = 0;

/// Something that happened.
#[derive(Clone, PartialEq, Eq)]
pub enum Event {
    /// The handshake is done.
    Ready,
    /// The client wants a stream.
    Open {
        /// Its number.
        stream: u32,
    },
    /// The client says something on a stream.
    Data {
        /// Its number.
        stream: u32,
        /// What.
        bytes: Bytes,
    },
    /// The client says nothing more on a stream.
    Eof {
        /// Its number.
        stream: u32,
    },
    /// The client has closed the stream.
    Close {
        /// Its number.
        stream: u32,
    },
    /// The client's terminal has another size.
    Resize {
        /// Columns of characters.
        columns: u32,
        /// Rows of characters.
        rows: u32,
    },
    /// The client ends the session.
    Terminate,
    /// The client does not speak this protocol, or not as far as is needed. The text may be shown.
    Broken(String),
}

/// Data is what people type: only its size is shown.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Ready => f.write_str("Ready"),
            Event::Open { stream } => write!(f, "Open({stream})"),
            Event::Data { stream, bytes } => write!(f, "Data({stream}, {} bytes)", bytes.len()),
            Event::Eof { stream } => write!(f, "Eof({stream})"),
            Event::Close { stream } => write!(f, "Close({stream})"),
            Event::Resize { columns, rows } => write!(f, "Resize({columns}, {rows})"),
            Event::Terminate => f.write_str("Terminate"),
            Event::Broken(text) => write!(f, "Broken({text:?})"),
        }
    }
}

/// What a stream of the target says.
#[derive(Clone, PartialEq, Eq)]
pub enum Said {
    /// Bytes.
    Output(Bytes),
    /// Bytes of the stream of errors.
    Error(Bytes),
    /// Nothing more comes.
    Eof,
    /// The program ended so.
    Exit(i64),
    /// The stream is gone.
    Closed,
    /// The stream could not be opened.
    Unreachable,
}

#[derive(Debug)]
enum Phase {
    /// The request is on its way since then.
    Shaking { since: Instant },
    /// The session goes on.
    Open(Streams),
    /// Nothing that comes counts any more.
    Over,
}

#[derive(Debug)]
enum Streams {
    /// One, for ever.
    One,
    /// One at a time: whether it is open.
    Basic { open: bool },
    /// Many.
    Mux(Mux),
}

#[derive(Debug, Default)]
struct Mux {
    decoder: smux::Decoder,
    /// Open streams, with whether each side has said its last.
    streams: BTreeMap<u32, Half>,
    /// A stream beyond [`STREAMS_MAX`], until there is room to say so. Nothing more is read before.
    refused: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Half {
    client_done: bool,
    target_done: bool,
}

/// The machine; see the module.
#[derive(Debug)]
pub struct Host {
    delivery: Delivery,
    purpose: Purpose,
    phase: Phase,
    /// When a handshake was asked for that the client went on without; it may answer yet.
    unshaken: Option<Instant>,
    /// Whether errors and exit codes have payloads of their own.
    apart: bool,
    /// Whether the exit code is told in any case.
    tells_exit: bool,
    events: VecDeque<Event>,
    client_version: String,
}

impl Host {
    /// A machine for one session. `seed` is random.
    #[must_use]
    pub fn new(purpose: Purpose, epoch: Epoch, seed: Uuid) -> Self {
        let mut delivery = Delivery::new(End::Server, LIMITS, epoch, seed);
        delivery.lend(false);
        let request = wire::HandshakeRequestPayload {
            agent_version: AGENT_VERSION.to_owned(),
            requested_client_actions: vec![wire::RequestedClientAction {
                action_type: "SessionType".to_owned(),
                action_parameters: serde_json::json!({
                    "SessionType": purpose.session_type,
                    "Properties": purpose.properties,
                }),
            }],
            ravelin_payload_bytes_max: Some(ASKED_BYTES_MAX),
        };
        let mut events = VecDeque::new();
        if delivery.send(PayloadType::HandshakeRequest, channel::encode(&request), epoch.instant).is_err() {
            events.push_back(Event::Broken("the parameters are too long".to_owned()));
        }
        let phase = Phase::Shaking { since: epoch.instant };
        Self {
            delivery,
            purpose,
            phase,
            unshaken: None,
            apart: false,
            tells_exit: false,
            events,
            client_version: String::new(),
        }
    }

    /// A connection is there. See [`Delivery::attach`].
    pub fn attach(&mut self, now: Instant) {
        self.delivery.attach(now);
        if let Phase::Shaking { since } = &mut self.phase {
            *since = now;
        }
    }

    /// The connection is gone.
    pub fn detach(&mut self) {
        self.delivery.detach();
    }

    /// Takes one binary message of the connection. What is none is passed over, as the protocol has it.
    pub fn handle(&mut self, bytes: &Bytes, now: Instant) {
        if let Err(ignored) = self.delivery.handle(bytes, now) {
            tracing::trace!(%ignored, "a message of a data channel was passed over");
        }
    }

    /// Takes a pong.
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.delivery.handle_pong(payload, now);
    }

    /// What to write next.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        self.delivery.poll_transmit(now)
    }

    /// When to poll again though nothing happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let shaking = match &self.phase {
            Phase::Shaking { since } if self.delivery.is_attached() => Some(*since + HANDSHAKE_MAX),
            Phase::Shaking { .. } | Phase::Open(_) | Phase::Over => None,
        };
        [self.delivery.poll_timeout(), shaking].into_iter().flatten().min()
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self, now: Instant) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.next_frame(now) {
                return Some(event);
            }
            if let Phase::Open(Streams::Mux(Mux { refused: Some(_), .. })) = &self.phase {
                return None;
            }
            match self.delivery.poll_event() {
                Some(delivery::Event::Data { payload_type, payload }) => self.take(payload_type, payload, now),
                // Only a client is told these.
                Some(delivery::Event::Closed(_) | delivery::Event::Publication(_)) => {}
                None => return self.overdue(now),
            }
        }
    }

    fn overdue(&mut self, now: Instant) -> Option<Event> {
        match &self.phase {
            Phase::Shaking { since } if self.delivery.is_attached() && *since + HANDSHAKE_MAX <= now => {
                self.phase = Phase::Over;
                Some(Event::Broken(format!("no handshake within {} s", HANDSHAKE_MAX.as_secs())))
            }
            Phase::Shaking { .. } | Phase::Open(_) | Phase::Over => None,
        }
    }

    fn take(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match payload_type {
            PayloadType::HandshakeResponse => self.shake(&payload, now),
            PayloadType::Output => {
                self.begin_unshaken();
                if matches!(self.phase, Phase::Shaking { .. }) {
                    return self.broken("data before the handshake");
                }
                self.input(payload);
            }
            PayloadType::Size => match channel::size(&payload) {
                Ok(wire::SizeData { cols, rows }) => {
                    self.events.push_back(Event::Resize { columns: cols, rows });
                    self.begin_unshaken();
                }
                Err(error) => tracing::debug!(%error, "a size was passed over"),
            },
            PayloadType::Flag => match Flag::decode(&payload) {
                Ok(Flag::TerminateSession) => self.events.push_back(Event::Terminate),
                Ok(Flag::DisconnectToPort) => {
                    if let Phase::Open(Streams::Basic { open }) = &mut self.phase
                        && std::mem::take(open)
                    {
                        self.events.push_back(Event::Close { stream: ONLY });
                    }
                }
                Ok(Flag::EndOfInput) => {
                    if matches!(self.phase, Phase::Open(Streams::One)) {
                        self.events.push_back(Event::Eof { stream: ONLY });
                    }
                }
                Ok(Flag::ConnectToPortError) | Err(_) => tracing::debug!("a flag was passed over"),
            },
            PayloadType::Unset
            | PayloadType::Error
            | PayloadType::Parameter
            | PayloadType::HandshakeRequest
            | PayloadType::HandshakeComplete
            | PayloadType::EncChallengeRequest
            | PayloadType::EncChallengeResponse
            | PayloadType::StdErr
            | PayloadType::ExitCode
            | PayloadType::Other(_) => {}
        }
    }

    fn shake(&mut self, payload: &[u8], now: Instant) {
        let since = match (&self.phase, self.unshaken.take()) {
            (&Phase::Shaking { since }, _) | (Phase::Open(_), Some(since)) => since,
            (Phase::Open(_) | Phase::Over, _) => return,
        };
        let response = match channel::handshake_response(payload) {
            Ok(response) => response,
            Err(error) => return self.broken(&error.to_string()),
        };
        let failed = response.processed_client_actions.iter().find(|action| action.action_status != 1);
        if failed.is_some() || !response.errors.is_empty() {
            return self.broken("the client does not know this kind of session");
        }
        let took = now.saturating_duration_since(since).as_nanos();
        let complete = wire::HandshakeCompletePayload {
            handshake_time_to_complete: i64::try_from(took).unwrap_or(i64::MAX),
            customer_message: self.purpose.welcome.clone(),
        };
        if self.delivery.send(PayloadType::HandshakeComplete, channel::encode(&complete), now).is_err() {
            return self.broken("the handshake could not be completed");
        }
        self.tells_exit = response.ravelin_exit_code;
        if self.tells_exit {
            self.delivery.peer_answers_again();
        }
        if matches!(self.phase, Phase::Open(_)) {
            let _known = self.meet(&response.client_version);
        } else {
            self.begin(&response.client_version);
        }
    }

    /// Old clients and small ones speak at once, and what a shell shows first may be what they wait for. Only a shell can go
    /// without a handshake.
    fn begin_unshaken(&mut self) {
        if let Phase::Shaking { since } = self.phase
            && self.purpose.session_type != "Port"
        {
            self.unshaken = Some(since);
            self.begin("");
        }
    }

    /// Notes which client it is, and what that means for what it is told.
    fn meet(&mut self, client_version: &str) -> Option<[u64; 3]> {
        let version = numbers(client_version);
        self.apart = self.purpose.separate && version.is_some_and(|version| version > APART_AFTER);
        self.client_version = client_version.chars().filter(char::is_ascii_graphic).take(64).collect();
        version
    }

    fn begin(&mut self, client_version: &str) {
        let version = self.meet(client_version);
        self.phase = Phase::Open(match (self.purpose.forwards, version) {
            (false, _) => Streams::One,
            (true, Some(version)) if version >= MUX_SINCE => Streams::Mux(Mux::default()),
            (true, _) => Streams::Basic { open: false },
        });
        self.events.push_back(Event::Ready);
        if !self.purpose.forwards {
            self.events.push_back(Event::Open { stream: ONLY });
        }
    }

    fn input(&mut self, bytes: Bytes) {
        match &mut self.phase {
            Phase::Open(Streams::One) => self.events.push_back(Event::Data { stream: ONLY, bytes }),
            Phase::Open(Streams::Basic { open }) => {
                if !std::mem::replace(open, true) {
                    self.events.push_back(Event::Open { stream: ONLY });
                }
                self.events.push_back(Event::Data { stream: ONLY, bytes });
            }
            Phase::Open(Streams::Mux(mux)) => mux.decoder.push(bytes),
            Phase::Shaking { .. } | Phase::Over => {}
        }
    }

    /// The next frame inside the stream that means something.
    fn next_frame(&mut self, now: Instant) -> Option<Event> {
        loop {
            let has_room = self.delivery.room() >= REFUSAL_BYTES;
            let Phase::Open(Streams::Mux(mux)) = &mut self.phase else { return None };
            if let Some(stream) = mux.refused {
                if !has_room {
                    return None;
                }
                // As a port that is refused: the client closes its connection and says so.
                mux.refused = None;
                mux.streams.insert(stream, Half::default());
                if self.say(stream, Said::Unreachable, now).is_err() {
                    self.broken("too many streams");
                }
                continue;
            }
            let frame = match mux.decoder.poll_frame() {
                Ok(frame) => frame?,
                Err(fault) => {
                    self.broken(&fault.to_string());
                    return self.events.pop_front();
                }
            };
            let stream = frame.stream;
            match frame.command {
                Command::Syn if mux.streams.contains_key(&stream) => {}
                Command::Syn if mux.streams.len() >= STREAMS_MAX => mux.refused = Some(stream),
                Command::Syn => {
                    mux.streams.insert(stream, Half::default());
                    return Some(Event::Open { stream });
                }
                Command::Psh => match mux.streams.get(&stream) {
                    Some(half) if !half.client_done && !frame.data.is_empty() => {
                        return Some(Event::Data { stream, bytes: frame.data });
                    }
                    Some(_) | None => {}
                },
                Command::Fin => match mux.streams.get_mut(&stream) {
                    Some(half) if half.target_done => {
                        mux.streams.remove(&stream);
                        return Some(Event::Close { stream });
                    }
                    Some(half) if !half.client_done => {
                        half.client_done = true;
                        return Some(Event::Eof { stream });
                    }
                    Some(_) | None => {}
                },
                Command::Nop => {}
            }
        }
    }

    /// How many bytes a stream may say now; at most [`CHUNK_BYTES_MAX`] should be said at once.
    #[must_use]
    pub fn room(&self) -> usize {
        // A frame's header needs some, and so does the last frame of a stream.
        self.delivery.room().saturating_sub(64).min(CHUNK_BYTES_MAX)
    }

    /// Says what a stream of the target says. Data longer than [`Host::room`] may not fit.
    ///
    /// # Errors
    /// [`NotSent`]; nothing has changed then.
    pub fn say(&mut self, stream: u32, said: Said, now: Instant) -> Result<(), NotSent> {
        let (apart, tells_exit) = (self.apart, self.tells_exit);
        match &mut self.phase {
            Phase::Open(Streams::One) => match said {
                Said::Output(bytes) => self.delivery.send(PayloadType::Output, bytes, now),
                Said::Error(bytes) if apart => self.delivery.send(PayloadType::StdErr, bytes, now),
                Said::Error(bytes) => self.delivery.send(PayloadType::Output, bytes, now),
                Said::Exit(code) if apart || tells_exit => {
                    self.delivery.send(PayloadType::ExitCode, channel::encode_exit_code(code), now)
                }
                Said::Exit(_) | Said::Eof | Said::Closed | Said::Unreachable => Ok(()),
            },
            Phase::Open(Streams::Basic { open }) => match said {
                Said::Output(bytes) | Said::Error(bytes) => self.delivery.send(PayloadType::Output, bytes, now),
                Said::Closed => {
                    *open = false;
                    Ok(())
                }
                Said::Unreachable => {
                    *open = false;
                    self.delivery.send(PayloadType::Flag, Flag::ConnectToPortError.encode(), now)
                }
                Said::Exit(_) | Said::Eof => Ok(()),
            },
            Phase::Open(Streams::Mux(mux)) => {
                let Some(half) = mux.streams.get_mut(&stream) else { return Ok(()) };
                match said {
                    Said::Output(bytes) | Said::Error(bytes) => {
                        if half.target_done {
                            return Ok(());
                        }
                        let mut framed = BytesMut::with_capacity(bytes.len() + 2 * smux::HEADER_BYTES);
                        smux::encode_data(stream, &bytes, &mut framed);
                        self.delivery.send(PayloadType::Output, framed.freeze(), now)
                    }
                    Said::Eof => {
                        if half.target_done {
                            return Ok(());
                        }
                        half.target_done = true;
                        self.delivery.send(PayloadType::Output, fin(stream), now)
                    }
                    Said::Closed | Said::Unreachable => {
                        let known = mux.streams.remove(&stream).unwrap_or_default();
                        if !known.target_done {
                            self.delivery.send(PayloadType::Output, fin(stream), now)?;
                        }
                        if said == Said::Unreachable {
                            // A flag may exceed the window; so it comes last.
                            self.delivery.send(PayloadType::Flag, Flag::ConnectToPortError.encode(), now)?;
                        }
                        Ok(())
                    }
                    Said::Exit(_) => Ok(()),
                }
            }
            Phase::Shaking { .. } | Phase::Over => Ok(()),
        }
    }

    /// Ends the session: the last word goes out when all before it is acknowledged, or after two seconds.
    pub fn finish(&mut self, closed: &wire::ChannelClosed, now: Instant) {
        self.phase = Phase::Over;
        self.delivery.finish(closed, now);
    }

    /// Whether the last word was written.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.delivery.is_finished()
    }

    /// Whether a loan is needed, or still used: see [`Host::lend`].
    #[must_use]
    pub fn wants_loan(&self, has_one: bool) -> bool {
        self.delivery.is_full() && (has_one || self.delivery.is_blocked())
    }

    /// See [`Delivery::lend`]; nothing is lent at first.
    pub fn lend(&mut self, lent: bool) {
        self.delivery.lend(lent);
    }

    /// Whether the connection should be read now.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.delivery.wants_read()
    }

    /// See [`Delivery::acknowledged_at`].
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<Instant> {
        self.delivery.acknowledged_at()
    }

    /// Since when the peer owes an acknowledgement.
    #[must_use]
    pub fn owed_since(&self) -> Option<Instant> {
        self.delivery.owed_since()
    }

    /// Whether there are connections behind a listener of the client's, and not one stream.
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.purpose.forwards
    }

    /// What the client called itself in the handshake; empty before.
    #[must_use]
    pub fn client_version(&self) -> &str {
        &self.client_version
    }

    fn broken(&mut self, because: &str) {
        self.phase = Phase::Over;
        self.events.push_back(Event::Broken(because.to_owned()));
    }
}

fn fin(stream: u32) -> Bytes {
    let mut frame = BytesMut::with_capacity(smux::HEADER_BYTES);
    smux::encode(Command::Fin, stream, &mut frame);
    frame.freeze()
}

/// The first three numbers of a version. A client without a version is older than any that has one.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let mut parts = version.split('.');
    let mut next = || parts.next()?.parse::<u64>().ok();
    Some([next()?, next()?, next()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn purpose(forwards: bool) -> Purpose {
        Purpose {
            session_type: if forwards { "Port" } else { "Standard_Stream" },
            properties: Value::Null,
            forwards,
            separate: false,
            welcome: String::new(),
        }
    }

    /// Both ends, over a line that may lose everything that is on it.
    struct Pair {
        host: Host,
        client: Delivery,
        now: Instant,
    }

    impl Pair {
        fn new(forwards: bool) -> Self {
            let now = Instant::now();
            let epoch = Epoch { instant: now, unix_ms: 1 };
            let mut host = Host::new(purpose(forwards), epoch, Uuid::from_u128(1));
            let mut client = Delivery::new(End::Client, Limits::CLIENT, epoch, Uuid::from_u128(2));
            host.attach(now);
            client.attach(now);
            Self { host, client, now }
        }

        fn says(&mut self, payload_type: PayloadType, payload: impl Into<Bytes>) {
            self.client.send(payload_type, payload.into(), self.now).expect("room");
        }

        fn shakes(&mut self, version: &str) {
            let response = wire::HandshakeResponsePayload {
                client_version: version.to_owned(),
                processed_client_actions: Vec::new(),
                errors: Vec::new(),
                ravelin_exit_code: false,
            };
            self.says(PayloadType::HandshakeResponse, channel::encode(&response));
        }

        /// What happens at the host, and what the client gets, once everything on the line has arrived.
        fn run(&mut self) -> (Vec<Event>, Vec<(PayloadType, Bytes)>) {
            let (mut events, mut got) = (Vec::new(), Vec::new());
            loop {
                let mut moved = false;
                while let Some(Transmit::Message(bytes)) = self.client.poll_transmit(self.now) {
                    self.host.handle(&bytes, self.now);
                    moved = true;
                }
                while let Some(event) = self.host.poll_event(self.now) {
                    events.push(event);
                    moved = true;
                }
                while let Some(transmit) = self.host.poll_transmit(self.now) {
                    moved = true;
                    if let Transmit::Message(bytes) = transmit {
                        self.client.handle(&bytes, self.now).expect("sound");
                    }
                }
                while let Some(event) = self.client.poll_event() {
                    if let delivery::Event::Data { payload_type, payload } = event {
                        got.push((payload_type, payload));
                    }
                }
                if !moved {
                    return (events, got);
                }
            }
        }
    }

    #[test]
    fn an_old_client_has_one_connection_at_a_time() {
        let mut pair = Pair::new(true);
        pair.shakes("1.1.60.0");
        assert_eq!(pair.run().0, [Event::Ready]);
        pair.says(PayloadType::Output, &b"one"[..]);
        let data = |bytes: &'static [u8]| Event::Data { stream: ONLY, bytes: Bytes::from_static(bytes) };
        assert_eq!(pair.run().0, [Event::Open { stream: ONLY }, data(b"one")]);
        pair.says(PayloadType::Flag, Flag::DisconnectToPort.encode());
        pair.says(PayloadType::Output, &b"two"[..]);
        assert_eq!(pair.run().0, [Event::Close { stream: ONLY }, Event::Open { stream: ONLY }, data(b"two")]);
        // The port is gone: the client is told, and its next data connects anew.
        pair.host.say(ONLY, Said::Unreachable, pair.now).expect("room");
        assert_eq!(pair.run().1, [(PayloadType::Flag, Flag::ConnectToPortError.encode())]);
        pair.says(PayloadType::Output, &b"three"[..]);
        assert_eq!(pair.run().0, [Event::Open { stream: ONLY }, data(b"three")]);
        pair.says(PayloadType::Flag, Flag::TerminateSession.encode());
        assert_eq!(pair.run().0, [Event::Terminate]);
    }

    #[test]
    fn a_shell_needs_no_handshake_and_a_port_does() {
        let mut pair = Pair::new(false);
        pair.says(PayloadType::Output, &b"ls\n"[..]);
        let events = pair.run().0;
        assert_eq!(events[..2], [Event::Ready, Event::Open { stream: ONLY }]);
        // A size is enough, because what the shell shows first may be waited for; a handshake that comes later is completed.
        let size = || br#"{"cols":97,"rows":31}"#.to_vec();
        let resize = || Event::Resize { columns: 97, rows: 31 };
        let mut pair = Pair::new(false);
        pair.says(PayloadType::Size, size());
        assert_eq!(pair.run().0, [resize(), Event::Ready, Event::Open { stream: ONLY }]);
        pair.shakes("1.2.677.0");
        let (events, got) = pair.run();
        let got: Vec<PayloadType> = got.into_iter().map(|(payload_type, _)| payload_type).collect();
        assert_eq!((events, got), (Vec::new(), vec![PayloadType::HandshakeComplete]));
        assert_eq!(pair.host.client_version(), "1.2.677.0");
        pair.shakes("1.2.677.0");
        assert!(pair.run().1.is_empty(), "once");
        let mut pair = Pair::new(true);
        pair.says(PayloadType::Size, size());
        assert_eq!(pair.run().0, [resize()]);
        pair.says(PayloadType::Output, &b"x"[..]);
        assert!(matches!(pair.run().0[..], [Event::Broken(_)]));
    }

    #[test]
    fn a_client_that_does_not_answer_or_does_not_know_how_is_told() {
        let mut pair = Pair::new(false);
        pair.run();
        pair.now += HANDSHAKE_MAX;
        assert!(matches!(pair.run().0[..], [Event::Broken(_)]));
        let mut pair = Pair::new(false);
        let response = br#"{"ClientVersion":"1.2.0.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":3,"ActionResult":null,"Error":"?"}]}"#;
        pair.says(PayloadType::HandshakeResponse, &response[..]);
        assert!(matches!(pair.run().0[..], [Event::Broken(_)]));
    }

    #[test]
    fn streams_beyond_the_bound_are_refused_and_the_others_go_on() {
        let mut pair = Pair::new(true);
        pair.shakes("1.2.677.0");
        pair.run();
        let mut frames = BytesMut::new();
        for n in 0..=STREAMS_MAX {
            smux::encode(Command::Syn, 3 + 2 * n as u32, &mut frames);
        }
        smux::encode_data(3, b"hello", &mut frames);
        pair.says(PayloadType::Output, frames.freeze());
        let (events, got) = pair.run();
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Open { .. })).count(), STREAMS_MAX);
        assert_eq!(events.last(), Some(&Event::Data { stream: 3, bytes: Bytes::from_static(b"hello") }));
        let refused = 3 + 2 * STREAMS_MAX as u32;
        let wanted = [(PayloadType::Output, fin(refused)), (PayloadType::Flag, Flag::ConnectToPortError.encode())];
        assert_eq!(got, wanted);
    }

    #[test]
    fn each_side_of_a_stream_ends_by_itself() {
        let mut pair = Pair::new(true);
        pair.shakes("1.2.677.0");
        pair.run();
        let frame = |command| {
            let mut out = BytesMut::new();
            smux::encode(command, 3, &mut out);
            out.freeze()
        };
        pair.says(PayloadType::Output, frame(Command::Syn));
        pair.says(PayloadType::Output, frame(Command::Fin));
        assert_eq!(pair.run().0, [Event::Open { stream: 3 }, Event::Eof { stream: 3 }]);
        pair.host.say(3, Said::Output(Bytes::from_static(b"late")), pair.now).expect("room");
        pair.host.say(3, Said::Eof, pair.now).expect("room");
        pair.host.say(3, Said::Closed, pair.now).expect("room");
        let got: Vec<u8> = pair.run().1.into_iter().flat_map(|(_, payload)| payload).collect();
        let mut wanted = BytesMut::new();
        smux::encode_data(3, b"late", &mut wanted);
        wanted.extend_from_slice(&fin(3));
        assert_eq!(got, wanted, "and one end only");
    }

    proptest! {
        /// Whatever the client sends, in whatever pieces, is what the streams get.
        #[test]
        fn what_goes_in_comes_out(
            sends in prop::collection::vec((0..4_u32, prop::collection::vec(any::<u8>(), 1..2000)), 1..30),
            piece in 1..5000_usize,
        ) {
            let mut pair = Pair::new(true);
            pair.shakes("1.2.677.0");
            pair.run();
            let mut wire = BytesMut::new();
            let mut wanted: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            for (n, data) in &sends {
                let stream = 3 + 2 * n;
                if !wanted.contains_key(&stream) {
                    smux::encode(Command::Syn, stream, &mut wire);
                }
                wanted.entry(stream).or_default().extend_from_slice(data);
                smux::encode_data(stream, data, &mut wire);
            }
            let mut found: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
            while !wire.is_empty() {
                let piece = wire.split_to(piece.min(wire.len())).freeze();
                pair.says(PayloadType::Output, piece);
                for event in pair.run().0 {
                    if let Event::Data { stream, bytes } = event {
                        found.entry(stream).or_default().extend_from_slice(&bytes);
                    }
                }
            }
            prop_assert_eq!(found, wanted);
        }

        #[test]
        fn no_message_panics(messages in prop::collection::vec((0..13_u32, prop::collection::vec(any::<u8>(), 0..200)), 0..20)) {
            for forwards in [false, true] {
                let mut pair = Pair::new(forwards);
                for (payload_type, payload) in &messages {
                    pair.says(PayloadType::from(*payload_type), payload.clone());
                }
                pair.run();
            }
        }
    }
}
