//! Delivery over the data channel: each payload once and in order, whatever happens to the connections under it.
//!
//! One machine serves either [`End`]. It numbers what is sent and keeps it until the peer acknowledges it, sends the
//! oldest again when that takes too long, and everything when a new connection is attached; it puts what is received in
//! order, drops what came before, and acknowledges both. It knows no socket and no clock:
//!
//! - [`Delivery::attach`] and [`Delivery::detach`] when a connection comes and goes;
//! - [`Delivery::handle`] takes each binary message, [`Delivery::handle_pong`] each WebSocket pong;
//! - [`Delivery::poll_transmit`] until it has none: what to write to the connection, which may be slow;
//! - [`Delivery::poll_timeout`]: when to poll again though nothing happened;
//! - [`Delivery::poll_event`] until it has none: what arrived;
//! - [`Delivery::send`] while there is [`Delivery::room`].
//!
//! # What is bounded
//!
//! What is kept until acknowledged, what waits for a gap to close and what waits to be polled each have a limit in
//! [`Limits`]. A sender stops at the first ([`Delivery::room`] is 0). What exceeds the others is neither kept nor
//! acknowledged, so that it comes again; a driver avoids that by not reading while [`Delivery::wants_read`] is false.
//!
//! # Peers that do not acknowledge what they have
//!
//! The vendor's plugin ignores what it has seen before: an acknowledgement that is lost with its connection never comes
//! again. A WebSocket is in order, so an answer to anything sent later, a pong included, proves that the peer has read
//! what was sent before. What was sent on an earlier connection, and was read three times on this one without an
//! acknowledgement, is taken as delivered; but not by a peer that is known to answer again, as ours does
//! ([`Delivery::peer_answers_again`]): it may have had no place for it. What was sent on this connection only is never taken so: the plugin does not
//! acknowledge what comes before it is ready, and wants it again.
//!
//! Source: `src/datachannel/streaming.go` of `aws/session-manager-plugin` (1.2.677) and `agent/session/datachannel` of
//! `aws/amazon-ssm-agent` (3.3), read 2026-11; the estimator is RFC 6298's, with the vendor's bounds.

use super::channel::{self, Unreadable};
use super::message::{FIN, Fault, Message, MessageType, PAYLOAD_BYTES_MAX, PayloadType, SYN};
use crate::wire::data_channel as wire;
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How long an acknowledgement may take before anything is known about the peer.
pub const RETRY_INITIAL: Duration = Duration::from_millis(200);
/// Shortest wait before anything is sent again.
pub const RETRY_MIN: Duration = Duration::from_millis(50);
/// Longest wait before something is sent again.
pub const RETRY_MAX: Duration = Duration::from_secs(1);
/// How long the last word waits for what was said before it.
pub const FINISH_WAIT: Duration = Duration::from_secs(2);
/// How often a message of an earlier connection must have been read on this one, unanswered, to count as delivered.
const READ_UNANSWERED: u32 = 3;
/// Payloads that are no stream bytes may exceed the window by this many bytes and messages.
const CONTROL_BYTES: usize = 64 * 1024;
const CONTROL_MESSAGES: usize = 64;
/// Acknowledgements that wait to be written; more are forgotten, and asked for again by the peer.
const ACKNOWLEDGEMENTS_MAX: usize = 4096;
const _: () = assert!(ACKNOWLEDGEMENTS_MAX * size_of::<Owed>() <= 128 * 1024);
/// From here on a payload is kept as a part of the buffer that it came in, so that bulk is not copied. That buffer may be
/// as large as a message and what was read with it, and lives as long as any part of it: a smaller payload is copied.
pub const SHARED_BYTES_MIN: usize = 32 * 1024;
/// How long a probe may be on its way before another is made.
const PROBE_WAIT: Duration = Duration::from_secs(2);
/// The least that the clock of the estimator tells apart.
const GRANULARITY: Duration = Duration::from_millis(10);

/// What a payload that waits costs besides its own bytes.
pub const EVENT_BYTES: usize = 64;

/// Which end of the channel the machine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Sends `input_stream_data`.
    Client,
    /// Sends `output_stream_data`.
    Server,
}

impl End {
    fn sends(self) -> MessageType {
        match self {
            End::Client => MessageType::InputStreamData,
            End::Server => MessageType::OutputStreamData,
        }
    }

    fn receives(self) -> MessageType {
        match self {
            End::Client => MessageType::OutputStreamData,
            End::Server => MessageType::InputStreamData,
        }
    }
}

/// What a machine may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes sent and not acknowledged: the window.
    pub unacked_bytes_max: usize,
    /// Messages sent and not acknowledged.
    pub unacked_messages_max: usize,
    /// Payload bytes received ahead of a gap.
    pub ahead_bytes_max: usize,
    /// Messages received ahead of a gap.
    pub ahead_messages_max: usize,
    /// Bytes in order that wait for [`Delivery::poll_event`], above which no payload is taken; so the last one may exceed
    /// it. Each payload counts for [`EVENT_BYTES`] more than it has.
    pub waiting_bytes_max: usize,
    /// The same with a loan ([`Delivery::lend`]) and a full window: acknowledgements come behind what the peer had sent by
    /// then, and what is refused meanwhile comes again one message in a tenth of a second, as some clients go about it.
    pub waiting_bytes_max_when_blocked: usize,
}

impl Limits {
    /// A client's: enough for line speed over long ways.
    pub const CLIENT: Self = Self {
        unacked_bytes_max: 4 * 1024 * 1024,
        unacked_messages_max: 8192,
        ahead_bytes_max: 4 * 1024 * 1024,
        ahead_messages_max: 8192,
        waiting_bytes_max: 1024 * 1024,
        waiting_bytes_max_when_blocked: 12 * 1024 * 1024,
    };
}

/// Time, as a machine is told it when it is made: everything later is an [`Instant`].
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// Some moment.
    pub instant: Instant,
    /// The same moment in milliseconds since 1970, not 0.
    pub unix_ms: u64,
}

/// Something to write to the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A binary WebSocket message.
    Message(Bytes),
    /// The payload of a WebSocket ping; its pong goes to [`Delivery::handle_pong`].
    Ping(Bytes),
}

/// Something that arrived, in order.
#[derive(Clone, PartialEq)]
pub enum Event {
    /// Stream data.
    Data {
        /// What the payload is.
        payload_type: PayloadType,
        /// Never empty, unless a peer sent it so.
        payload: Bytes,
    },
    /// The server's last word. What was received in order before it comes first.
    Closed(wire::ChannelClosed),
    /// `start_publication` (true) or `pause_publication`: whether the far side is there.
    Publication(bool),
}

/// Payloads are what people type and see: only their size is shown.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Event::Data { payload_type, payload } => {
                write!(f, "Data({payload_type:?}, {} bytes)", payload.len())
            }
            Event::Closed(closed) => write!(f, "Closed({:?})", closed.output),
            Event::Publication(there) => write!(f, "Publication({there})"),
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It was the next in order, or no stream data: there may be events.
    Taken,
    /// It came ahead of a gap and waits.
    Ahead,
    /// It was there before; it is acknowledged again.
    Seen,
    /// There was no place for it: it is not acknowledged, and comes again.
    Refused,
    /// It acknowledged something that waited for it.
    Acknowledged,
    /// It acknowledged what nobody waits for.
    Stale,
}

/// Why a message is passed over. Its sender, hearing nothing, sends it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ignored {
    /// It is none.
    #[error(transparent)]
    Message(#[from] Fault),
    /// It has a payload that is none.
    #[error(transparent)]
    Payload(#[from] Unreadable),
    /// It is what this end sends, and not what it is sent.
    #[error("a message of type {} from the wrong end", .0.as_str())]
    Direction(MessageType),
}

/// Why something is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSent {
    /// The window is full; [`Delivery::room`] says how much fits.
    #[error("too much waits to be acknowledged")]
    Full,
    /// The payload is longer than [`PAYLOAD_BYTES_MAX`].
    #[error("a payload of {0} bytes is longer than any may be")]
    Long(usize),
    /// The last word is said.
    #[error("the channel is closing")]
    Finished,
}

/// One direction pair of a data channel; see the module.
#[derive(Debug)]
pub struct Delivery {
    end: End,
    limits: Limits,
    epoch: Epoch,
    ids: Ids,
    attached: bool,
    /// Counts what was written, over all connections: what proves that a peer has read something.
    transmitted: u64,
    /// The peer has read everything that was written before this.
    read_before: u64,
    /// The same, as far as acknowledgements say so.
    answered_before: u64,
    /// When a pong last said so.
    ponged_at: Instant,
    // Out.
    next_sequence: u64,
    unacked: BTreeMap<u64, Unacked>,
    unacked_bytes: usize,
    /// Everything from here on is still to be written to this connection.
    unwritten: u64,
    retry: Retry,
    acknowledged_at: Option<Instant>,
    probe: Probe,
    last_word: Option<LastWord>,
    // In.
    acknowledgements: VecDeque<Owed>,
    expected: u64,
    ahead: BTreeMap<u64, (PayloadType, Bytes)>,
    ahead_bytes: usize,
    events: VecDeque<Event>,
    waiting_bytes: usize,
    closed: bool,
    /// Whether more than usual may wait.
    lent: bool,
    /// Whether the peer acknowledges again what it has seen before.
    answers_again: bool,
}

/// An acknowledgement that is not written yet. As a message it is ten times as large.
#[derive(Debug)]
struct Owed {
    sequence: u64,
    id: Uuid,
}

/// A payload as it may be kept: what is counted for it is what it holds.
fn kept(payload: Bytes) -> Bytes {
    if payload.len() < SHARED_BYTES_MIN { Bytes::copy_from_slice(&payload) } else { payload }
}

fn weight(payload: &Bytes) -> usize {
    payload.len() + EVENT_BYTES
}

#[derive(Debug)]
struct Unacked {
    encoded: Bytes,
    payload_bytes: usize,
    /// Whether it was written to an earlier connection.
    earlier: bool,
    /// How often it was written to this one.
    writes: u32,
    first_write: u64,
    last_write: u64,
    /// When it was first written to this one.
    first_written_at: Instant,
    written_at: Instant,
}

/// Names for messages: they must differ, and nobody relies on more.
#[derive(Debug)]
struct Ids {
    seed: u128,
    made: u128,
}

impl Ids {
    fn next(&mut self) -> Uuid {
        self.made += 1;
        Uuid::from_u128(self.seed ^ self.made)
    }
}

/// How long to wait for an acknowledgement: RFC 6298.
#[derive(Debug, Default)]
struct Retry {
    smoothed: Option<(Duration, Duration)>,
}

impl Retry {
    fn sample(&mut self, took: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (took, took / 2),
            Some((mean, deviation)) => ((mean * 7 + took) / 8, (deviation * 3 + mean.abs_diff(took)) / 4),
        });
    }

    /// After `writes` writes: it doubles with each.
    fn wait(&self, writes: u32) -> Duration {
        let first = match self.smoothed {
            None => RETRY_INITIAL,
            Some((mean, deviation)) => (mean + GRANULARITY.max(deviation * 4)).max(RETRY_MIN),
        };
        first.saturating_mul(1 << writes.saturating_sub(1).min(16)).min(RETRY_MAX)
    }
}

#[derive(Debug, Default)]
struct Probe {
    wanted: bool,
    on_its_way: Option<Instant>,
}

#[derive(Debug)]
struct LastWord {
    payload: Bytes,
    by: Instant,
    written: bool,
}

impl Delivery {
    /// A machine without a connection. `seed` is random: names of messages are made of it.
    #[must_use]
    pub fn new(end: End, limits: Limits, epoch: Epoch, seed: Uuid) -> Self {
        Self {
            end,
            limits,
            epoch,
            ids: Ids { seed: seed.as_u128(), made: 0 },
            attached: false,
            transmitted: 0,
            read_before: 0,
            answered_before: 0,
            ponged_at: epoch.instant,
            next_sequence: 0,
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            unwritten: 0,
            retry: Retry::default(),
            acknowledged_at: None,
            probe: Probe::default(),
            last_word: None,
            acknowledgements: VecDeque::new(),
            expected: 0,
            ahead: BTreeMap::new(),
            ahead_bytes: 0,
            events: VecDeque::new(),
            waiting_bytes: 0,
            closed: false,
            lent: true,
            answers_again: false,
        }
    }

    /// The peer acknowledges again what it has seen before, as ours does: what it does not acknowledge it does not have.
    pub fn peer_answers_again(&mut self) {
        self.answers_again = true;
    }

    /// A new connection is there, and the opening frame is behind: all that is not acknowledged will be written to it.
    /// Counters go on. Replaces the connection before, if that was not detached.
    pub fn attach(&mut self, now: Instant) {
        self.attached = true;
        self.unwritten = self.unacked.first_key_value().map_or(self.next_sequence, |(first, _)| *first);
        for unacked in self.unacked.values_mut() {
            unacked.earlier |= unacked.writes > 0;
            unacked.writes = 0;
        }
        self.acknowledged_at = Some(now);
        self.probe = Probe { wanted: self.unacked.values().any(|unacked| unacked.earlier), on_its_way: None };
        if let Some(last_word) = &mut self.last_word {
            last_word.written = false;
            last_word.by = now + FINISH_WAIT;
        }
    }

    /// The connection is gone. Nothing is transmitted and nothing times out until another is attached.
    pub fn detach(&mut self) {
        self.attached = false;
    }

    /// Whether a connection is attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.attached
    }

    /// How many bytes of the stream may be sent now. 0 until something is acknowledged.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.last_word.is_some() || self.unacked.len() >= self.limits.unacked_messages_max {
            return 0;
        }
        self.limits.unacked_bytes_max.saturating_sub(self.unacked_bytes).min(PAYLOAD_BYTES_MAX)
    }

    /// Takes a payload to deliver, with or without a connection. An empty one is nothing: peers never send such.
    /// Handshakes, sizes, flags and exit codes may exceed the window a little, so that they never wait for the stream.
    ///
    /// # Errors
    /// [`NotSent`]; nothing has changed then.
    pub fn send(&mut self, payload_type: PayloadType, payload: Bytes, now: Instant) -> Result<(), NotSent> {
        if payload.is_empty() {
            return Ok(());
        }
        if self.last_word.is_some() {
            return Err(NotSent::Finished);
        }
        if payload.len() > PAYLOAD_BYTES_MAX {
            return Err(NotSent::Long(payload.len()));
        }
        let (bytes, messages) = match payload_type {
            PayloadType::Output | PayloadType::StdErr => (0, 0),
            PayloadType::Unset
            | PayloadType::Error
            | PayloadType::Size
            | PayloadType::Parameter
            | PayloadType::HandshakeRequest
            | PayloadType::HandshakeResponse
            | PayloadType::HandshakeComplete
            | PayloadType::EncChallengeRequest
            | PayloadType::EncChallengeResponse
            | PayloadType::Flag
            | PayloadType::ExitCode
            | PayloadType::Other(_) => (CONTROL_BYTES, CONTROL_MESSAGES),
        };
        if self.unacked.len() >= self.limits.unacked_messages_max + messages
            || self.unacked_bytes + payload.len() > self.limits.unacked_bytes_max + bytes
        {
            return Err(NotSent::Full);
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let flags = match self.end {
            End::Server if sequence == 0 => SYN,
            End::Server | End::Client => 0,
        };
        let payload_bytes = payload.len();
        let message = self.message(self.end.sends(), sequence, flags, payload_type, payload, now);
        self.unacked_bytes += payload_bytes;
        self.unacked.insert(
            sequence,
            Unacked {
                encoded: message.encode(),
                payload_bytes,
                earlier: false,
                writes: 0,
                first_write: 0,
                last_write: 0,
                first_written_at: now,
                written_at: now,
            },
        );
        Ok(())
    }

    /// When the peer last acknowledged something on this connection, or the connection was attached.
    #[must_use]
    pub fn acknowledged_at(&self) -> Option<Instant> {
        self.acknowledged_at
    }

    /// Says the last word, `channel_closed`, as soon as all before it is acknowledged, or when nothing was for
    /// [`FINISH_WAIT`].
    /// Nothing can be sent from now on. The first call counts.
    pub fn finish(&mut self, closed: &wire::ChannelClosed, now: Instant) {
        let payload = channel::encode(closed);
        self.last_word.get_or_insert(LastWord { payload, by: now + FINISH_WAIT, written: false });
    }

    /// Whether the last word was written to the connection that is attached.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.last_word.as_ref().is_some_and(|last_word| last_word.written)
    }

    /// Whether the peer has everything.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.unacked.is_empty()
    }

    /// Whether the connection should be read. False while enough waits for [`Delivery::poll_event`], unless what is to be
    /// sent waits for acknowledgements, which must be read.
    #[must_use]
    pub fn wants_read(&self) -> bool {
        !self.is_full() || self.is_blocked()
    }

    /// Whether so much waits for [`Delivery::poll_event`] that no more is taken without a loan.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.waiting_bytes >= self.limits.waiting_bytes_max
    }

    /// Whether up to [`Limits::waiting_bytes_max_when_blocked`] may wait while the window is full. True until it is said
    /// otherwise; a driver with many machines lends to some at a time.
    pub fn lend(&mut self, lent: bool) {
        self.lent = lent;
    }

    /// Whether what is to be sent waits for acknowledgements. Drivers wait for room for a large payload, not for a byte.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        let large = PAYLOAD_BYTES_MAX.min(self.limits.unacked_bytes_max / 2);
        self.room() < large && self.last_word.is_none()
    }

    /// Since when an acknowledgement is owed, on this connection: `None` when none is. A driver gives the peer up after
    /// some minutes of it.
    #[must_use]
    pub fn owed_since(&self) -> Option<Instant> {
        let written = self.oldest_written()?.first_written_at;
        Some(self.acknowledged_at.map_or(written, |at| at.max(written)))
    }

    /// Takes one binary message of the connection.
    ///
    /// # Errors
    /// [`Ignored`]; nothing has changed then.
    pub fn handle(&mut self, bytes: &Bytes, now: Instant) -> Result<Handled, Ignored> {
        let message = Message::decode(bytes)?;
        match (message.message_type, self.end) {
            (MessageType::Acknowledge, _) => {
                let acknowledged = channel::acknowledge(&message.payload)?;
                Ok(self.handle_acknowledgement(&acknowledged, now))
            }
            (MessageType::InputStreamData, End::Server) | (MessageType::OutputStreamData, End::Client) => {
                Ok(self.handle_data(message))
            }
            (MessageType::ChannelClosed, End::Client) => {
                let closed = channel::channel_closed(&message.payload)?;
                if std::mem::replace(&mut self.closed, true) {
                    return Ok(Handled::Seen);
                }
                self.events.push_back(Event::Closed(closed));
                Ok(Handled::Taken)
            }
            (MessageType::StartPublication | MessageType::PausePublication, End::Client) => {
                // Only the last one counts, so that a peer cannot fill the queue.
                let there = message.message_type == MessageType::StartPublication;
                if let Some(Event::Publication(last)) = self.events.back_mut() {
                    *last = there;
                } else {
                    self.events.push_back(Event::Publication(there));
                }
                Ok(Handled::Taken)
            }
            (MessageType::OutputStreamData | MessageType::ChannelClosed, End::Server)
            | (MessageType::StartPublication | MessageType::PausePublication, End::Server)
            | (MessageType::InputStreamData, End::Client) => Err(Ignored::Direction(message.message_type)),
        }
    }

    fn handle_data(&mut self, message: Message) -> Handled {
        let Message { sequence, payload_type, payload, id, .. } = message;
        let handled = match sequence.cmp(&self.expected) {
            std::cmp::Ordering::Less => Handled::Seen,
            std::cmp::Ordering::Equal => {
                let lent = self.lent && self.is_blocked();
                let limits = &self.limits;
                let most = if lent { limits.waiting_bytes_max_when_blocked } else { limits.waiting_bytes_max };
                // Whatever [`Delivery::wants_read`] asked for is taken: a gap costs far more than one payload too many.
                if self.waiting_bytes >= most {
                    return Handled::Refused;
                }
                self.take(payload_type, kept(payload));
                while let Some((payload_type, payload)) = self.ahead.remove(&self.expected) {
                    self.ahead_bytes -= payload.len();
                    self.take(payload_type, payload);
                }
                Handled::Taken
            }
            std::cmp::Ordering::Greater if self.ahead.contains_key(&sequence) => Handled::Seen,
            std::cmp::Ordering::Greater => {
                if self.ahead.len() >= self.limits.ahead_messages_max
                    || self.ahead_bytes + payload.len() > self.limits.ahead_bytes_max
                {
                    return Handled::Refused;
                }
                self.ahead_bytes += payload.len();
                self.ahead.insert(sequence, (payload_type, kept(payload)));
                Handled::Ahead
            }
        };
        if self.acknowledgements.len() < ACKNOWLEDGEMENTS_MAX {
            self.acknowledgements.push_back(Owed { sequence, id });
        }
        handled
    }

    fn take(&mut self, payload_type: PayloadType, payload: Bytes) {
        self.expected += 1;
        self.waiting_bytes += weight(&payload);
        self.events.push_back(Event::Data { payload_type, payload });
    }

    fn acknowledgement(&mut self, owed: &Owed, now: Instant) -> Bytes {
        let content = wire::AcknowledgeContent {
            message_type: self.end.receives().as_str().to_owned(),
            message_id: owed.id.hyphenated().to_string(),
            sequence_number: i64::try_from(owed.sequence).unwrap_or(i64::MAX),
            is_sequential_message: true,
        };
        let payload = channel::encode(&content);
        self.message(MessageType::Acknowledge, 0, SYN | FIN, PayloadType::Unset, payload, now).encode()
    }

    fn handle_acknowledgement(&mut self, acknowledged: &wire::AcknowledgeContent, now: Instant) -> Handled {
        let Ok(sequence) = u64::try_from(acknowledged.sequence_number) else { return Handled::Stale };
        if acknowledged.message_type != self.end.sends().as_str() {
            return Handled::Stale;
        }
        // What was not written to any connection cannot have been received.
        if !self.unacked.get(&sequence).is_some_and(|unacked| unacked.writes > 0 || unacked.earlier) {
            return Handled::Stale;
        }
        let Some(unacked) = self.forget(sequence) else { return Handled::Stale };
        self.acknowledged_at = Some(now);
        if let Some(last_word) = self.last_word.as_mut().filter(|last_word| !last_word.written) {
            last_word.by = now + FINISH_WAIT;
        }
        if unacked.writes > 0 {
            // Which of several writes is answered is not known: the first proves the least.
            self.answered_before = self.answered_before.max(unacked.first_write);
            self.read_before = self.read_before.max(self.answered_before);
            if unacked.writes == 1 && !unacked.earlier {
                self.retry.sample(now.saturating_duration_since(unacked.written_at));
            }
        }
        self.presume_delivered();
        Handled::Acknowledged
    }

    /// Takes a pong of the connection. One that answers no ping of ours proves nothing and is passed over.
    pub fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        let Ok(number) = <[u8; 8]>::try_from(payload).map(u64::from_be_bytes) else { return };
        if number > self.transmitted || self.probe.on_its_way.take().is_none() {
            return;
        }
        self.read_before = self.read_before.max(number);
        self.ponged_at = now;
        self.presume_delivered();
    }

    /// Forgets what an earlier connection delivered and whose acknowledgement was lost with it; see the module.
    fn presume_delivered(&mut self) {
        if self.answers_again {
            return;
        }
        let read_before = self.read_before;
        let unanswered = |unacked: &Unacked, reads: u32| {
            unacked.earlier && unacked.writes >= reads && unacked.last_write < read_before
        };
        if !self.unacked.first_key_value().is_some_and(|(_, oldest)| unanswered(oldest, READ_UNANSWERED)) {
            return;
        }
        // Those behind it were read while the peer was taking messages: they would have been acknowledged, were they new.
        while let Some((sequence, _)) = self.unacked.first_key_value().filter(|(_, oldest)| unanswered(oldest, 1)) {
            let sequence = *sequence;
            let _delivered = self.forget(sequence);
        }
    }

    fn forget(&mut self, sequence: u64) -> Option<Unacked> {
        let unacked = self.unacked.remove(&sequence)?;
        self.unacked_bytes -= unacked.payload_bytes;
        Some(unacked)
    }

    /// The next thing to write to the connection, in the order to write it. `None` when there is none for now. What was
    /// polled counts as written.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit> {
        if !self.attached {
            return None;
        }
        if let Some(owed) = self.acknowledgements.pop_front() {
            return Some(Transmit::Message(self.acknowledgement(&owed, now)));
        }
        if self.retry_at().is_some_and(|at| at <= now) {
            // The wait is over for the oldest, and it was written before: a probe tells whether it arrives.
            self.probe.wanted = true;
            let (first, _) = self.unacked.first_key_value()?;
            return self.write(*first, now);
        }
        if let Some((sequence, _)) = self.unacked.range(self.unwritten..).next() {
            let sequence = *sequence;
            self.unwritten = sequence + 1;
            return self.write(sequence, now);
        }
        if self.probe.wanted && self.probe.on_its_way.is_none_or(|since| since + PROBE_WAIT <= now) {
            self.probe = Probe { wanted: false, on_its_way: Some(now) };
            self.transmitted += 1;
            return Some(Transmit::Ping(Bytes::copy_from_slice(&self.transmitted.to_be_bytes())));
        }
        let drained = self.unacked.is_empty();
        let last_word = self.last_word.as_mut().filter(|last_word| !last_word.written)?;
        if !drained && now < last_word.by {
            return None;
        }
        last_word.written = true;
        let payload = last_word.payload.clone();
        let message = self.message(MessageType::ChannelClosed, 0, SYN | FIN, PayloadType::Unset, payload, now);
        Some(Transmit::Message(message.encode()))
    }

    fn write(&mut self, sequence: u64, now: Instant) -> Option<Transmit> {
        let unacked = self.unacked.get_mut(&sequence)?;
        self.transmitted += 1;
        if unacked.writes == 0 {
            unacked.first_write = self.transmitted;
            unacked.first_written_at = now;
        }
        unacked.writes = unacked.writes.saturating_add(1);
        unacked.last_write = self.transmitted;
        unacked.written_at = now;
        Some(Transmit::Message(unacked.encoded.clone()))
    }

    fn oldest_written(&self) -> Option<&Unacked> {
        if !self.attached {
            return None;
        }
        self.unacked.first_key_value().filter(|(sequence, _)| **sequence < self.unwritten).map(|(_, oldest)| oldest)
    }

    /// When the oldest is to be written again: after a silence, or soon once the peer is known to have read past it.
    fn retry_at(&self) -> Option<Instant> {
        let oldest = self.oldest_written()?;
        if oldest.last_write < self.read_before {
            // A pong may overtake an acknowledgement by a little, because libraries write it themselves. What went out on
            // an earlier connection is missing, or its acknowledgement is.
            if oldest.last_write >= self.answered_before && !oldest.earlier {
                return Some(oldest.written_at.max(self.ponged_at) + RETRY_MIN);
            }
            let pause = if oldest.writes > 1 { RETRY_MIN } else { Duration::ZERO };
            return Some(oldest.written_at + pause);
        }
        let heard = self.acknowledged_at.map_or(oldest.written_at, |at| at.max(oldest.written_at));
        Some(heard + self.retry.wait(oldest.writes))
    }

    /// When [`Delivery::poll_transmit`] should be asked again though nothing else happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.attached {
            return None;
        }
        let last_word = self.last_word.as_ref().filter(|last_word| !last_word.written).map(|last_word| last_word.by);
        [self.retry_at(), last_word].into_iter().flatten().min()
    }

    /// The next thing that arrived.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front()?;
        if let Event::Data { payload, .. } = &event {
            self.waiting_bytes -= weight(payload);
        }
        Some(event)
    }

    fn message(
        &mut self,
        message_type: MessageType,
        sequence: u64,
        flags: u64,
        payload_type: PayloadType,
        payload: Bytes,
        now: Instant,
    ) -> Message {
        let since = now.saturating_duration_since(self.epoch.instant).as_millis();
        let created_ms = self.epoch.unix_ms.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)).max(1);
        Message { message_type, created_ms, sequence, flags, id: self.ids.next(), payload_type, payload }
    }
}
