//! Delivery over bad connections: what is sent arrives once and in order, whatever is lost, doubled, reordered or cut.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use ravelin_aws::proto::channel;
use ravelin_aws::proto::delivery::{
    Delivery, EVENT_BYTES, End, Epoch, Event, Handled, Ignored, Limits, NotSent, RETRY_INITIAL, RETRY_MAX, RETRY_MIN,
    SHARED_BYTES_MIN, Transmit,
};
use ravelin_aws::proto::message::{FIN, MESSAGE_BYTES_MAX, Message, MessageType, PayloadType, SYN};
use ravelin_aws::wire::data_channel as wire;
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

const SMALL: Limits = Limits {
    unacked_bytes_max: 4000,
    unacked_messages_max: 20,
    ahead_bytes_max: 2000,
    ahead_messages_max: 10,
    waiting_bytes_max: 3000,
    waiting_bytes_max_when_blocked: 9000,
};

/// One machine, what was given to it and what came out of it.
struct Side {
    machine: Delivery,
    sent: Vec<Bytes>,
    received: Vec<Bytes>,
}

impl Side {
    fn new(end: End, limits: Limits, start: Instant) -> Self {
        let epoch = Epoch { instant: start, unix_ms: 1_700_000_000_000 };
        Side { machine: Delivery::new(end, limits, epoch, Uuid::from_u128(7)), sent: Vec::new(), received: Vec::new() }
    }

    /// Sends `size` bytes that no other payload has, if there is room.
    fn send(&mut self, size: usize, now: Instant) {
        let mut payload = format!("{}:", self.sent.len()).into_bytes();
        payload.resize(payload.len() + size, b'x');
        let (payload, room) = (Bytes::from(payload), self.machine.room());
        match self.machine.send(PayloadType::Output, payload.clone(), now) {
            Ok(()) => self.sent.push(payload),
            Err(refused) => {
                assert_eq!(refused, NotSent::Full);
                assert!(payload.len() > room);
            }
        }
    }

    fn take(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Data { payload_type: PayloadType::Output, payload } => self.received.push(payload),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(bool, usize),
    /// Transmit, the side and how many.
    Write(bool, usize),
    Deliver(bool, prop::sample::Index),
    Double(bool, prop::sample::Index),
    Lose(bool, prop::sample::Index),
    Take(bool),
    Wait(u64),
    Cut(usize, usize),
}

fn steps(cuts: bool) -> impl Strategy<Value = Vec<Step>> {
    let side = any::<bool>();
    let at = any::<prop::sample::Index>;
    let step = prop_oneof![
        4 => (side, 0..400_usize).prop_map(|(side, size)| Step::Send(side, size)),
        6 => (side, 1..6_usize).prop_map(|(side, count)| Step::Write(side, count)),
        6 => (side, at()).prop_map(|(side, at)| Step::Deliver(side, at)),
        1 => (side, at()).prop_map(|(side, at)| Step::Double(side, at)),
        1 => (side, at()).prop_map(|(side, at)| Step::Lose(side, at)),
        2 => side.prop_map(Step::Take),
        2 => (0..400_u64).prop_map(Step::Wait),
        1 => (0..8_usize, 0..8_usize).prop_map(|(a, b)| Step::Cut(a, b)),
    ];
    prop::collection::vec(
        step.prop_filter("of this network", move |step| match step {
            Step::Cut(..) => cuts,
            Step::Double(..) | Step::Lose(..) => !cuts,
            Step::Send(..) | Step::Write(..) | Step::Deliver(..) | Step::Take(_) | Step::Wait(_) => true,
        }),
        0..300,
    )
}

/// Two machines with a connection between them, which is in order and loses nothing if `ordered`.
struct World {
    sides: [Side; 2],
    /// On its way to the side.
    wires: [VecDeque<Transmit>; 2],
    now: Instant,
    ordered: bool,
}

impl World {
    fn new(ordered: bool) -> Self {
        let now = Instant::now();
        let mut sides = [Side::new(End::Server, SMALL, now), Side::new(End::Client, SMALL, now)];
        for side in &mut sides {
            side.machine.peer_answers_again();
            side.machine.attach(now);
        }
        World { sides, wires: [VecDeque::new(), VecDeque::new()], now, ordered }
    }

    fn arrive(&mut self, to: usize, transmit: &Transmit) {
        match transmit {
            Transmit::Message(bytes) => {
                self.sides[to].machine.handle(bytes, self.now).expect("one of ours");
            }
            // A WebSocket answers pings by itself, and in order.
            Transmit::Ping(number) if self.ordered => {
                let from = 1 - to;
                // The pong overtakes nothing here only because acknowledgements are written at once.
                self.write(to, usize::MAX);
                let before: Vec<Transmit> = self.wires[from].drain(..).collect();
                for transmit in &before {
                    if let Transmit::Message(bytes) = transmit {
                        self.sides[from].machine.handle(bytes, self.now).expect("one of ours");
                    }
                }
                self.sides[from].machine.handle_pong(number, self.now);
            }
            Transmit::Ping(_) => {}
        }
    }

    fn write(&mut self, from: usize, count: usize) {
        for _ in 0..count {
            let Some(transmit) = self.sides[from].machine.poll_transmit(self.now) else { break };
            self.wires[1 - from].push_back(transmit);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Send(side, size) => self.sides[usize::from(side)].send(size, self.now),
            Step::Write(side, count) => self.write(usize::from(side), count),
            Step::Take(side) => self.sides[usize::from(side)].take(),
            Step::Wait(ms) => self.now += Duration::from_millis(ms),
            Step::Deliver(side, at) | Step::Double(side, at) | Step::Lose(side, at) => {
                let to = usize::from(side);
                if self.wires[to].is_empty() {
                    return;
                }
                let at = if self.ordered { 0 } else { at.index(self.wires[to].len()) };
                match step {
                    Step::Lose(..) => drop(self.wires[to].remove(at)),
                    Step::Double(..) => {
                        let transmit = self.wires[to][at].clone();
                        self.arrive(to, &transmit);
                    }
                    _ => {
                        let transmit = self.wires[to].remove(at).expect("an index into it");
                        self.arrive(to, &transmit);
                    }
                }
            }
            Step::Cut(first, second) => {
                // Some of what was written arrives, the rest never does, and nothing of it is answered.
                for (to, count) in [(0, first), (1, second)] {
                    for transmit in self.wires[to].drain(..).take(count).collect::<Vec<_>>() {
                        if let Transmit::Message(bytes) = transmit {
                            self.sides[to].machine.handle(&bytes, self.now).expect("one of ours");
                        }
                    }
                }
                for (wire, side) in self.wires.iter_mut().zip(&mut self.sides) {
                    wire.clear();
                    side.machine.detach();
                    assert_eq!(side.machine.poll_transmit(self.now), None);
                    assert_eq!(side.machine.poll_timeout(), None);
                    side.machine.attach(self.now);
                }
            }
        }
    }

    /// Everything arrives from now on; until nobody waits for anything.
    fn settle(&mut self) {
        for _round in 0..10_000 {
            for from in [0, 1] {
                self.write(from, usize::MAX);
                while let Some(transmit) = self.wires[1 - from].pop_front() {
                    self.arrive(1 - from, &transmit);
                    self.sides[1 - from].take();
                }
                self.sides[from].take();
            }
            if self.sides.iter().all(|side| side.machine.is_drained()) {
                return;
            }
            let next = self.sides.iter().filter_map(|side| side.machine.poll_timeout()).min();
            self.now = next.expect("somebody waits").max(self.now + Duration::from_micros(1));
        }
        panic!("never settled: {:?}", self.sides.each_ref().map(|side| (side.sent.len(), side.received.len())));
    }

    fn check(&mut self) {
        self.settle();
        for (from, to) in [(0, 1), (1, 0)] {
            assert_eq!(self.sides[from].sent, self.sides[to].received);
            assert_eq!(self.sides[from].machine.room().min(4000), 4000);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_doubled_or_reordered_by_a_bad_wire(steps in steps(false)) {
        let mut world = World::new(false);
        for step in steps {
            world.step(step);
        }
        world.ordered = true;
        world.check();
    }

    #[test]
    fn nothing_is_lost_or_doubled_by_cuts(steps in steps(true)) {
        let mut world = World::new(true);
        for step in steps {
            world.step(step);
        }
        world.check();
    }

    /// A peer that behaves as the vendor's plugin does: it never acknowledges twice, and not before it is ready.
    #[test]
    fn a_peer_that_never_acknowledges_again_gets_everything_once(
        sizes in prop::collection::vec(1..300_usize, 1..60),
        ready_after in 0..600_u64,
        cuts in prop::collection::vec((1..40_usize, 0..12_usize), 0..6),
    ) {
        let mut now = Instant::now();
        let mut side = Side::new(End::Server, SMALL, now);
        let ready_at = now + Duration::from_millis(ready_after);
        let mut plugin = Plugin::default();
        side.machine.attach(now);
        let mut cuts = cuts.into_iter();
        let mut cut = cuts.next();
        let mut sizes = sizes.into_iter().peekable();
        let mut written = 0;
        for _round in 0..20_000 {
            while let Some(size) = sizes.peek() {
                if side.machine.room() < *size + 20 { break }
                side.send(sizes.next().expect("peeked"), now);
            }
            while let Some(transmit) = side.machine.poll_transmit(now) {
                match transmit {
                    Transmit::Message(bytes) => {
                        written += 1;
                        if let Some((after, answered)) = cut && now > ready_at && written >= after {
                            // What was written arrived, and some acknowledgements of it are lost.
                            let acknowledgement = plugin.read(&bytes, true);
                            plugin.owed.extend(acknowledgement);
                            let owed: Vec<Bytes> = plugin.owed.drain(..).collect();
                            for acknowledgement in owed.into_iter().take(answered) {
                                side.machine.handle(&acknowledgement, now).expect("an acknowledgement");
                            }
                            cut = cuts.next();
                            written = 0;
                            side.machine.detach();
                            side.machine.attach(now);
                        } else {
                            let acknowledgement = plugin.read(&bytes, now >= ready_at);
                            plugin.owed.extend(acknowledgement);
                        }
                    }
                    Transmit::Ping(number) => {
                        for acknowledgement in plugin.owed.drain(..) {
                            side.machine.handle(&acknowledgement, now).expect("an acknowledgement");
                        }
                        side.machine.handle_pong(&number, now);
                    }
                }
            }
            if plugin.owed.len() > 5 || plugin.owed.len() == side.sent.len() - plugin.acknowledged {
                for acknowledgement in plugin.owed.drain(..) {
                    plugin.acknowledged += 1;
                    side.machine.handle(&acknowledgement, now).expect("an acknowledgement");
                }
            }
            if side.machine.is_drained() {
                if sizes.peek().is_none() { break }
                continue;
            }
            let next = side.machine.poll_timeout().expect("something is owed");
            prop_assert!(next <= now + RETRY_MAX);
            now = next.max(now + Duration::from_micros(1));
            for acknowledgement in plugin.owed.drain(..) {
                plugin.acknowledged += 1;
                side.machine.handle(&acknowledgement, now).expect("an acknowledgement");
            }
        }
        prop_assert!(side.machine.is_drained());
        prop_assert_eq!(side.sent, plugin.received);
    }
}

/// The vendor's plugin, as `HandleOutputMessage` of its `streaming.go` has it.
#[derive(Default)]
struct Plugin {
    expected: u64,
    ahead: BTreeMap<u64, Bytes>,
    received: Vec<Bytes>,
    owed: VecDeque<Bytes>,
    acknowledged: usize,
}

impl Plugin {
    fn read(&mut self, bytes: &Bytes, ready: bool) -> Option<Bytes> {
        let message = Message::decode(bytes).expect("one of ours");
        assert_eq!(message.message_type, MessageType::OutputStreamData);
        if message.sequence < self.expected || (message.sequence == self.expected && !ready) {
            return None;
        }
        if message.sequence == self.expected {
            self.received.push(message.payload.clone());
            self.expected += 1;
            while let Some(payload) = self.ahead.remove(&self.expected) {
                self.received.push(payload);
                self.expected += 1;
            }
        } else {
            self.ahead.insert(message.sequence, message.payload.clone());
        }
        Some(acknowledgement(&message, MessageType::OutputStreamData))
    }
}

fn acknowledgement(of: &Message, message_type: MessageType) -> Bytes {
    let content = wire::AcknowledgeContent {
        message_type: message_type.as_str().to_owned(),
        message_id: of.id.to_string(),
        sequence_number: i64::try_from(of.sequence).expect("small"),
        is_sequential_message: true,
    };
    message(MessageType::Acknowledge, 0, channel::encode(&content))
}

fn message(message_type: MessageType, sequence: u64, payload: impl Into<Bytes>) -> Bytes {
    Message {
        message_type,
        created_ms: 1,
        sequence,
        flags: 0,
        id: Uuid::from_u128(9),
        payload_type: PayloadType::Output,
        payload: payload.into(),
    }
    .encode()
}

fn server(now: Instant) -> Delivery {
    let mut machine = Side::new(End::Server, SMALL, now).machine;
    machine.attach(now);
    machine
}

fn written(machine: &mut Delivery, now: Instant) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(transmit) = machine.poll_transmit(now) {
        if let Transmit::Message(bytes) = transmit {
            messages.push(Message::decode(&bytes).expect("one of ours"));
        }
    }
    messages
}

#[test]
fn the_oldest_is_written_again_with_growing_pauses() {
    let start = Instant::now();
    let mut machine = server(start);
    for _ in 0..3 {
        machine.send(PayloadType::Output, Bytes::from_static(b"x"), start).expect("room");
    }
    let first = written(&mut machine, start);
    assert_eq!(first.iter().map(|message| message.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(first.iter().map(|message| message.flags).collect::<Vec<_>>(), [SYN, 0, 0]);
    let mut now = start;
    for pause in [RETRY_INITIAL, RETRY_INITIAL * 2, RETRY_INITIAL * 4, RETRY_MAX, RETRY_MAX] {
        assert_eq!(machine.poll_timeout(), Some(now + pause));
        assert_eq!(written(&mut machine, now + pause - Duration::from_millis(1)), []);
        now += pause;
        assert_eq!(written(&mut machine, now), first[..1]);
    }
    assert_eq!(machine.owed_since(), Some(start));
}

#[test]
fn nothing_is_owed_for_the_time_before_it_was_written() {
    let mut now = Instant::now();
    let mut machine = server(now);
    for _ in 0..3 {
        // Everything before is acknowledged, and then nobody says anything for a long time.
        now += Duration::from_secs(600);
        assert_eq!(machine.owed_since(), None);
        let since = now;
        machine.send(PayloadType::Output, Bytes::from_static(b"x"), now).expect("room");
        let first = written(&mut machine, now);
        for _ in 0..3 {
            now = machine.poll_timeout().expect("it is owed");
            assert_eq!(written(&mut machine, now), first);
            assert_eq!(machine.owed_since(), Some(since));
        }
        machine.handle(&acknowledgement(&first[0], MessageType::OutputStreamData), now).expect("an acknowledgement");
    }
}

#[test]
fn what_was_read_past_is_written_again_at_once() {
    let now = Instant::now();
    let mut machine = server(now);
    for _ in 0..3 {
        machine.send(PayloadType::Output, Bytes::from_static(b"x"), now).expect("room");
    }
    let first = written(&mut machine, now);
    let answer = acknowledgement(&first[2], MessageType::OutputStreamData);
    assert_eq!(machine.handle(&answer, now), Ok(Handled::Acknowledged));
    assert_eq!(machine.handle(&answer, now), Ok(Handled::Stale));
    assert_eq!(written(&mut machine, now), first[..1]);
    // And not again and again: the peer may not be ready for it.
    assert_eq!(written(&mut machine, now), []);
}

#[test]
fn a_pong_may_overtake_an_acknowledgement() {
    let mut now = Instant::now();
    let mut machine = server(now);
    machine.send(PayloadType::Output, Bytes::from_static(b"x"), now).expect("room");
    let first = written(&mut machine, now);
    // A silence, so that it asks.
    now += RETRY_INITIAL;
    let Some(Transmit::Message(_)) = machine.poll_transmit(now) else { panic!("it is written again") };
    let Some(Transmit::Ping(number)) = machine.poll_transmit(now) else { panic!("it asks") };
    machine.handle_pong(&number, now);
    assert_eq!(written(&mut machine, now), []);
    assert_eq!(machine.poll_timeout(), Some(now + RETRY_MIN));
    now += RETRY_MIN;
    assert_eq!(written(&mut machine, now), first);
}

#[test]
fn acknowledgements_of_what_was_not_written_mean_nothing() {
    let now = Instant::now();
    let mut machine = server(now);
    machine.send(PayloadType::Output, Bytes::from_static(b"x"), now).expect("room");
    let early = acknowledgement(
        &Message::decode(&message(MessageType::OutputStreamData, 0, "x")).expect("one of ours"),
        MessageType::OutputStreamData,
    );
    assert_eq!(machine.handle(&early, now), Ok(Handled::Stale));
    assert_eq!(written(&mut machine, now).len(), 1);
    let of_input = acknowledgement(
        &Message::decode(&message(MessageType::InputStreamData, 0, "x")).expect("one of ours"),
        MessageType::InputStreamData,
    );
    assert_eq!(machine.handle(&of_input, now), Ok(Handled::Stale));
    assert!(!machine.is_drained());
}

#[test]
fn input_is_put_in_order_and_acknowledged_whenever_it_comes() {
    let now = Instant::now();
    let mut machine = server(now);
    let mut read = |sequence, text: &'static str| {
        let handled = machine.handle(&message(MessageType::InputStreamData, sequence, text), now);
        let answers: Vec<i64> = written(&mut machine, now)
            .iter()
            .map(|message| {
                assert_eq!(
                    (message.message_type, message.sequence, message.flags),
                    (MessageType::Acknowledge, 0, SYN | FIN)
                );
                assert_eq!(message.payload_type, PayloadType::Unset);
                channel::acknowledge(&message.payload).expect("an acknowledgement").sequence_number
            })
            .collect();
        (handled, answers)
    };
    assert_eq!(read(1, "b"), (Ok(Handled::Ahead), vec![1]));
    assert_eq!(read(1, "b"), (Ok(Handled::Seen), vec![1]));
    assert_eq!(read(0, "a"), (Ok(Handled::Taken), vec![0]));
    assert_eq!(read(0, "a"), (Ok(Handled::Seen), vec![0]));
    assert_eq!(read(2, "c"), (Ok(Handled::Taken), vec![2]));
    let mut joined = Vec::new();
    while let Some(Event::Data { payload, .. }) = machine.poll_event() {
        joined.extend_from_slice(&payload);
    }
    assert_eq!(joined, b"abc");
}

#[test]
fn whatever_it_wants_to_read_is_taken() {
    let now = Instant::now();
    for size in [1, 7, 100, 1023, 1024, 2999, 3000] {
        let mut machine = server(now);
        let mut sequence = 0;
        for _ in 0..5 {
            while machine.wants_read() {
                let data = message(MessageType::InputStreamData, sequence, "x".repeat(size));
                assert_eq!(machine.handle(&data, now), Ok(Handled::Taken), "message {sequence} of {size} bytes");
                sequence += 1;
            }
            assert!(machine.poll_event().is_some());
        }
    }
}

#[test]
fn what_comes_before_acknowledgements_is_kept_while_they_are_awaited() {
    let now = Instant::now();
    let mut machine = server(now);
    // Not full, but without room for anything large, as drivers leave it.
    for _ in 0..5 {
        machine.send(PayloadType::Output, vec![b'x'; 500].into(), now).expect("room");
    }
    let _sent = written(&mut machine, now);
    let mut fed = 0;
    let mut feed = |machine: &mut Delivery, bytes: usize| {
        let handled = machine.handle(&message(MessageType::InputStreamData, fed, "y".repeat(bytes)), now);
        fed += u64::from(handled == Ok(Handled::Taken));
        handled
    };
    // Far more than it takes when its own window is open, to a limit.
    for _ in 0..9 {
        assert!(machine.wants_read());
        assert_eq!(feed(&mut machine, 1000), Ok(Handled::Taken));
    }
    assert_eq!(feed(&mut machine, 1000), Ok(Handled::Refused));
    // Acknowledgements get through, and what waits has to be taken before more is read.
    for number in 0..2 {
        let acknowledgement = format!(
            r#"{{"AcknowledgedMessageType":"output_stream_data","AcknowledgedMessageId":"00000000-0000-0000-0000-000000000000","AcknowledgedMessageSequenceNumber":{number},"IsSequentialMessage":true}}"#
        );
        let handled = machine.handle(&message(MessageType::Acknowledge, 0, acknowledgement), now);
        assert_eq!(handled, Ok(Handled::Acknowledged));
    }
    assert!(!machine.wants_read());
    assert_eq!(feed(&mut machine, 1000), Ok(Handled::Refused));
    while machine.poll_event().is_some() {}
    assert!(machine.wants_read());
    assert_eq!(feed(&mut machine, 1000), Ok(Handled::Taken));
}

#[test]
fn a_hostile_peer_fills_nothing() {
    let now = Instant::now();
    let mut machine = server(now);
    // Ahead of a gap, to the limits in bytes and messages.
    let taken = (1..100_000).take_while(|sequence| {
        machine.handle(&message(MessageType::InputStreamData, *sequence, "x"), now) == Ok(Handled::Ahead)
    });
    assert_eq!(taken.count(), SMALL.ahead_messages_max);
    let mut machine = server(now);
    let big = "x".repeat(1999);
    assert_eq!(machine.handle(&message(MessageType::InputStreamData, 1, big.clone()), now), Ok(Handled::Ahead));
    assert_eq!(machine.handle(&message(MessageType::InputStreamData, 2, big.clone()), now), Ok(Handled::Refused));
    // Far away: a number is no size.
    let far = i64::MAX.unsigned_abs();
    assert_eq!(machine.handle(&message(MessageType::InputStreamData, far, "x"), now), Ok(Handled::Ahead));
    // In order, with nobody who takes it; even empty payloads cost.
    let mut machine = server(now);
    let taken = (0..100_000_u64).take_while(|sequence| {
        machine.handle(&message(MessageType::InputStreamData, *sequence, ""), now) == Ok(Handled::Taken)
    });
    assert_eq!(taken.count(), SMALL.waiting_bytes_max.div_ceil(EVENT_BYTES));
    assert!(machine.poll_event().is_some() && machine.poll_event().is_some());
    // Repeats are acknowledged, up to a number of acknowledgements that nobody reads.
    for _ in 0..10_000 {
        machine.handle(&message(MessageType::InputStreamData, 0, ""), now).expect("a message");
    }
    assert!(written(&mut machine, now).len() <= 4096);
    // What is no message, or goes the other way, changes nothing.
    for (bytes, direction) in [
        (Bytes::from_static(b"nonsense"), false),
        (vec![0; MESSAGE_BYTES_MAX + 1].into(), false),
        (message(MessageType::Acknowledge, 0, "{}"), false),
        (message(MessageType::OutputStreamData, 0, "x"), true),
        (message(MessageType::ChannelClosed, 0, "{}"), true),
        (message(MessageType::StartPublication, 0, ""), true),
    ] {
        let ignored = machine.handle(&bytes, now).expect_err("nothing to handle");
        assert_eq!(matches!(ignored, Ignored::Direction(_)), direction, "{ignored}");
    }
    // A server's last word comes once, whatever it says again.
    let mut client = Side::new(End::Client, SMALL, now).machine;
    let mut heard = 0;
    for _ in 0..100 {
        client.handle(&message(MessageType::ChannelClosed, 0, r#"{"Output":"bye"}"#), now).expect("a last word");
        client.handle(&message(MessageType::PausePublication, 0, ""), now).expect("a notice");
    }
    while client.poll_event().is_some() {
        heard += 1;
    }
    assert_eq!(heard, 2);
}

#[test]
fn a_small_payload_that_waits_holds_nothing_but_itself() {
    let now = Instant::now();
    for size in [1, 1000, SHARED_BYTES_MIN - 1] {
        let mut machine = Delivery::new(End::Server, Limits::CLIENT, Epoch { instant: now, unix_ms: 1 }, Uuid::nil());
        // Two messages in one large buffer, as they are read from a socket; the second is ahead of the first.
        let mut buffer = BytesMut::with_capacity(4 * SHARED_BYTES_MIN);
        buffer.extend_from_slice(&message(MessageType::InputStreamData, 1, "x".repeat(size)));
        let first = buffer.split().freeze();
        buffer.extend_from_slice(&message(MessageType::InputStreamData, 0, "x".repeat(size)));
        assert_eq!(machine.handle(&first, now), Ok(Handled::Ahead));
        assert_eq!(machine.handle(&buffer.freeze(), now), Ok(Handled::Taken));
        drop(first);
        for _ in 0..2 {
            let Some(Event::Data { payload, .. }) = machine.poll_event() else { panic!("two payloads") };
            let own = payload.try_into_mut().expect("nobody else has any of it");
            assert_eq!((own.len(), own.capacity()), (size, size));
        }
    }
    // A large one is not copied.
    let mut machine = Delivery::new(End::Server, Limits::CLIENT, Epoch { instant: now, unix_ms: 1 }, Uuid::nil());
    let large = message(MessageType::InputStreamData, 0, "x".repeat(SHARED_BYTES_MIN));
    machine.handle(&large, now).expect("a message");
    let Some(Event::Data { payload, .. }) = machine.poll_event() else { panic!("a payload") };
    assert!(large.as_ptr_range().contains(&payload.as_ptr()));
}

#[test]
fn a_full_window_stops_the_stream_and_not_the_flags() {
    let now = Instant::now();
    let mut machine = server(now);
    let part = Bytes::from(vec![b'x'; machine.room()]);
    machine.send(PayloadType::Output, part, now).expect("room");
    assert_eq!(machine.room(), 0);
    assert_eq!(machine.send(PayloadType::Output, Bytes::from_static(b"x"), now), Err(NotSent::Full));
    machine.send(PayloadType::ExitCode, channel::encode_exit_code(7), now).expect("an exit code always fits");
    for _ in 0..100_000 {
        if machine.send(PayloadType::Flag, channel::Flag::ConnectToPortError.encode(), now).is_err() {
            return;
        }
    }
    panic!("flags without end");
}

#[test]
fn the_last_word_waits_for_what_was_said_before_but_not_for_ever() {
    let start = Instant::now();
    let closed = wire::ChannelClosed { output: "bye".to_owned(), ..Default::default() };
    // Acknowledged: at once.
    let mut machine = server(start);
    machine.send(PayloadType::Output, Bytes::from_static(b"x"), start).expect("room");
    let data = written(&mut machine, start);
    machine.finish(&closed, start);
    assert_eq!(machine.send(PayloadType::Output, Bytes::from_static(b"x"), start), Err(NotSent::Finished));
    assert_eq!(written(&mut machine, start), []);
    machine.handle(&acknowledgement(&data[0], MessageType::OutputStreamData), start).expect("an acknowledgement");
    let last = written(&mut machine, start);
    assert_eq!(last[0].message_type, MessageType::ChannelClosed);
    assert_eq!(channel::channel_closed(&last[0].payload).expect("a last word"), closed);
    assert!(machine.is_finished());
    assert_eq!((written(&mut machine, start), machine.poll_timeout()), (vec![], None));
    // Who comes back before reading it is told again.
    machine.detach();
    machine.attach(start);
    assert!(!machine.is_finished());
    assert_eq!(written(&mut machine, start)[0].message_type, MessageType::ChannelClosed);
    // Never acknowledged: after a while.
    let mut machine = server(start);
    machine.send(PayloadType::Output, Bytes::from_static(b"x"), start).expect("room");
    machine.finish(&closed, start);
    let mut now = start;
    loop {
        written(&mut machine, now);
        if machine.is_finished() {
            break;
        }
        now = machine.poll_timeout().expect("it waits");
    }
    assert_eq!(now, start + Duration::from_secs(2));
    // On a slow line, for as long as what was said before gets there.
    let mut machine = server(start);
    for _ in 0..3 {
        machine.send(PayloadType::Output, Bytes::from_static(b"x"), start).expect("room");
    }
    let mut now = start;
    let data = written(&mut machine, now);
    machine.finish(&closed, now);
    for message in &data {
        now += Duration::from_millis(1_900);
        written(&mut machine, now);
        assert!(!machine.is_finished());
        machine.handle(&acknowledgement(message, MessageType::OutputStreamData), now).expect("an acknowledgement");
    }
    assert_eq!(written(&mut machine, now)[0].message_type, MessageType::ChannelClosed);
}
