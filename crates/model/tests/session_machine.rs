//! The session machine against a second, smaller one that was written from the promise and shares no code with it.
//!
//! Random events arrive at random times, clocks jump back, and after every single step both must agree: on the state,
//! on the ending, on the counts and on who is told.

use proptest::prelude::*;
use ravelin_model::audit::AuditKind;
use ravelin_model::principal::AuthMethod;
use ravelin_model::session::{
    Activity, Actor, Aged, Draft, Effect, EndReason, Ending, Event, Kind, Phase, Recording, State,
};
use ravelin_model::target::{Protocol, TargetSnapshot};
use ravelin_model::text::is_printable;
use ravelin_model::{Login, NodeId, PrincipalName, Refusal, Session, SessionId, TargetId, TargetName, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Where the reference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Connecting,
    Connected,
    Disconnected,
    Terminating,
    Terminated,
    Failed,
}

impl At {
    fn state(self) -> State {
        match self {
            At::Connecting => State::Connecting,
            At::Connected => State::Connected,
            At::Disconnected => State::Disconnected,
            At::Terminating => State::Terminating,
            At::Terminated => State::Terminated,
            At::Failed => State::Failed,
        }
    }
}

/// What can happen, without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happening {
    Connected,
    Disconnected,
    Resumed,
    Failed,
    End,
    Closed,
    NodeLost,
}

const HAPPENINGS: [Happening; 7] = [
    Happening::Connected,
    Happening::Disconnected,
    Happening::Resumed,
    Happening::Failed,
    Happening::End,
    Happening::Closed,
    Happening::NodeLost,
];

/// What the table says of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Go there.
    Go(At),
    /// Nothing changes and nobody is told.
    Stay,
    /// Refuse.
    No,
}

/// One line for each state; columns as in [`HAPPENINGS`].
const TABLE: [(At, [Verdict; 7]); 6] = {
    use At::{Connected, Connecting, Disconnected, Failed, Terminated, Terminating};
    use Verdict::{Go, No, Stay};
    [
        (Connecting, [Go(Connected), No, No, Go(Failed), Go(Terminating), No, Go(Terminated)]),
        (Connected, [No, Go(Disconnected), No, No, Go(Terminating), No, Go(Terminated)]),
        (Disconnected, [No, No, Go(Connected), No, Go(Terminating), No, Go(Terminated)]),
        (Terminating, [No, No, No, Go(Terminated), Stay, Go(Terminated), Go(Terminated)]),
        (Terminated, [No, No, No, No, No, No, No]),
        (Failed, [No, No, No, No, No, No, No]),
    ]
};

fn verdict(at: At, happening: Happening) -> Verdict {
    let (_, line) = TABLE.iter().find(|(state, _)| *state == at).expect("a line for each state");
    let column = HAPPENINGS.iter().position(|h| *h == happening).expect("a column for each happening");
    line[column]
}

/// The reference: a state, what an ended session must know, and what was counted.
#[derive(Clone, Debug)]
struct Reference {
    at: At,
    kind: Kind,
    ever_connected: bool,
    ending: Option<Ending>,
    activity: Activity,
    recording: Recording,
}

impl Reference {
    fn new(kind: Kind, now: Time) -> Self {
        let activity = Activity { last: now, bytes_in: 0, bytes_out: 0 };
        Self { at: At::Connecting, kind, ever_connected: false, ending: None, activity, recording: Recording::None }
    }

    /// Who is told, or `None` when the event is refused.
    fn step(&mut self, event: &Event) -> Option<Vec<Effect>> {
        let (happening, ending) = match event {
            Event::Classified { kind } => return self.classify(*kind),
            Event::RecordingBegan | Event::RecordingKept { .. } | Event::RecordingBroke => return self.record(event),
            Event::Connected => (Happening::Connected, None),
            Event::Disconnected => (Happening::Disconnected, None),
            Event::Resumed => (Happening::Resumed, None),
            Event::Failed { ending } => (Happening::Failed, Some(ending.clone())),
            Event::End { ending } => (Happening::End, Some(ending.clone())),
            Event::Closed { .. } => (Happening::Closed, None),
            Event::NodeLost => {
                let lost = Ending { reason: EndReason::NodeLost, actor: Actor::System, detail: String::new() };
                (Happening::NodeLost, Some(lost))
            }
        };
        let from = self.at;
        let to = match verdict(from, happening) {
            Verdict::No => return None,
            Verdict::Stay => return Some(Vec::new()),
            Verdict::Go(to) => to,
        };
        self.at = to;
        self.ever_connected |= to == At::Connected;
        if let Event::Closed { activity } = event {
            self.activity.last = self.activity.last.max(activity.last);
            self.activity.bytes_in = self.activity.bytes_in.max(activity.bytes_in);
            self.activity.bytes_out = self.activity.bytes_out.max(activity.bytes_out);
        }
        // The first ending stands.
        self.ending = self.ending.take().or(ending);
        let message = self.ending.as_ref().map(Ending::message).unwrap_or_default();
        Some(match (from, to) {
            (At::Disconnected, At::Connected) => vec![Effect::Audit(AuditKind::SessionResumed)],
            (_, At::Connected) => vec![Effect::Audit(AuditKind::SessionConnected)],
            (_, At::Disconnected) => vec![Effect::Audit(AuditKind::SessionDisconnected)],
            (_, At::Terminating) => {
                vec![Effect::Audit(AuditKind::SessionEnding), Effect::TellPerson(message), Effect::CloseLegs]
            }
            (_, At::Terminated) => vec![Effect::Audit(AuditKind::SessionEnded), Effect::Confirm],
            (_, At::Failed) => vec![
                Effect::Audit(AuditKind::SessionFailed),
                Effect::TellPerson(message),
                Effect::CloseLegs,
                Effect::Confirm,
            ],
            (_, At::Connecting) => unreachable!("the table leads nobody back to the start"),
        })
    }

    /// A recording begins once, and ends once, whatever the session does.
    fn record(&mut self, event: &Event) -> Option<Vec<Effect>> {
        let (to, kind) = match (self.recording, event) {
            (Recording::None, Event::RecordingBegan) => (Recording::Live, AuditKind::RecordingBegan),
            (Recording::Live, Event::RecordingKept { .. }) => (Recording::Complete, AuditKind::RecordingKept),
            (Recording::None | Recording::Live, Event::RecordingBroke) => {
                (Recording::Failed, AuditKind::RecordingBroke)
            }
            (Recording::None, _) => return None,
            (_, _) => return Some(Vec::new()),
        };
        self.recording = to;
        Some(vec![Effect::Audit(kind)])
    }

    /// What began as a tunnel may turn out to be more, once, while the session lives.
    fn classify(&mut self, kind: Kind) -> Option<Vec<Effect>> {
        if matches!(self.at, At::Terminated | At::Failed) {
            return None;
        }
        if self.kind != Kind::Tunnel || kind == Kind::Tunnel {
            return Some(Vec::new());
        }
        self.kind = kind;
        Some(vec![Effect::Audit(AuditKind::SessionClassified)])
    }
}

fn draft(kind: Kind) -> Draft {
    let principal = PrincipalName::parse("alice").expect("a valid name");
    Draft {
        id: SessionId::new(&principal, 1),
        principal,
        groups: BTreeSet::new(),
        auth: AuthMethod::SshKey,
        client_address: "192.0.2.7:50000".parse().expect("an address"),
        client_software: "SSH-2.0-test".to_owned(),
        target: TargetSnapshot {
            id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
            name: TargetName::parse("web-1").expect("a valid name"),
            address: "192.0.2.1".to_owned(),
            port: 22,
            labels: BTreeMap::new(),
            aliases: BTreeMap::new(),
        },
        login: Some(Login::parse("root").expect("a valid login")),
        protocol: Protocol::Ssh,
        kind,
        document: None,
        reason: None,
        duration_max: None,
        recording_rule: None,
        logs: Vec::new(),
        node: NodeId::new(1),
        epoch: 1,
        tags: BTreeMap::new(),
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

fn reasons() -> impl Strategy<Value = EndReason> {
    prop::sample::select(EndReason::ALL.to_vec())
}

fn endings() -> impl Strategy<Value = Ending> {
    let actors = prop_oneof![
        Just(Actor::System),
        Just(Actor::Principal(PrincipalName::parse("bob").expect("a valid name"))),
        Just(Actor::Target(TargetName::parse("web-1").expect("a valid name"))),
    ];
    (reasons(), actors, ".{0,12}").prop_map(|(reason, actor, detail)| Ending::new(reason, actor, &detail))
}

/// Mostly close together, so that steps forward, steps back and equal times are all common; sometimes far off.
fn times() -> impl Strategy<Value = Time> {
    prop_oneof![
        8 => (1_000_i64..1_020).prop_map(Time::from_micros),
        1 => any::<i64>().prop_map(Time::from_micros),
    ]
}

fn activities() -> impl Strategy<Value = Activity> {
    (times(), 0..1000_u64, 0..1000_u64).prop_map(|(last, bytes_in, bytes_out)| Activity { last, bytes_in, bytes_out })
}

/// Moves that keep a session alive are more common, so that long lives are tried as well.
fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Connected),
        4 => Just(Event::Disconnected),
        4 => Just(Event::Resumed),
        2 => kinds().prop_map(|kind| Event::Classified { kind }),
        2 => endings().prop_map(|ending| Event::End { ending }),
        1 => endings().prop_map(|ending| Event::Failed { ending }),
        2 => activities().prop_map(|activity| Event::Closed { activity }),
        1 => Just(Event::NodeLost),
        2 => Just(Event::RecordingBegan),
        1 => Just(Event::RecordingKept { digest: "ab".repeat(32) }),
        1 => Just(Event::RecordingBroke),
    ]
}

/// What holds in every state of every session, whatever the clock did.
fn check_invariants(session: &Session) -> Result<(), TestCaseError> {
    let state = session.state();
    prop_assert_eq!(state.is_live(), !state.is_final());
    prop_assert_eq!(state.is_final(), session.ended().is_some());
    prop_assert_eq!(state.is_final() || state == State::Terminating, session.ending().is_some());
    prop_assert!(session.connected().is_none_or(|connected| session.created <= connected));
    if let Some(ended) = session.ended() {
        prop_assert!(session.created <= ended);
        prop_assert!(session.connected().is_none_or(|connected| connected <= ended));
        prop_assert!(session.activity.last <= ended);
    }
    match &session.phase {
        Phase::Disconnected { connected, since } => prop_assert!(connected <= since),
        Phase::Terminating { connected, since, .. } => {
            prop_assert!(session.created <= *since);
            prop_assert!(connected.is_none_or(|connected| connected <= *since));
        }
        Phase::Connecting | Phase::Connected { .. } | Phase::Terminated { .. } | Phase::Failed { .. } => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_machine_does_what_the_reference_does(
        kind in kinds(),
        created in times(),
        steps in prop::collection::vec((events(), times()), 0..24),
    ) {
        let (mut session, effects) = Session::open(draft(kind), created);
        prop_assert_eq!(effects, vec![Effect::Audit(AuditKind::SessionOpened)]);
        let mut reference = Reference::new(kind, created);
        let (mut confirmed, mut told, mut closed) = (0, 0, 0);
        for (event, now) in &steps {
            let before = session.clone();
            match (session.apply(event, *now), reference.step(event)) {
                (Ok((next, effects)), Some(expected)) => {
                    prop_assert_eq!(&effects, &expected, "{:?} in {}", event, before.state());
                    if effects.is_empty() {
                        prop_assert_eq!(&next, &before, "nobody is told, so nothing may change");
                    }
                    for effect in &effects {
                        match effect {
                            Effect::Confirm => confirmed += 1,
                            Effect::TellPerson(_) => told += 1,
                            Effect::CloseLegs => closed += 1,
                            Effect::Audit(_) => {}
                        }
                    }
                    session = next;
                }
                (Err(Refusal::Conflict { because }), None) => {
                    prop_assert!(because.contains(before.state().word()), "{}", because);
                }
                (ours, theirs) => {
                    prop_assert!(false, "{event:?} in {}: {ours:?}, reference {theirs:?}", before.state());
                }
            }
            prop_assert_eq!(session.state(), reference.at.state());
            prop_assert_eq!(session.draft.kind, reference.kind);
            prop_assert_eq!(session.recording, reference.recording);
            let complete = session.recording == Recording::Complete;
            prop_assert_eq!(session.recording_digest.is_some(), complete);
            prop_assert_eq!(session.ending(), reference.ending.as_ref());
            prop_assert_eq!(session.activity, reference.activity);
            prop_assert_eq!(session.connected().is_some(), reference.ever_connected);
            check_invariants(&session)?;
        }
        // Whoever waits for the end hears of it exactly once, and the person is told at most once.
        prop_assert_eq!(confirmed, u32::from(session.state().is_final()));
        prop_assert!(told <= 1);
        prop_assert_eq!(told, closed);
        prop_assert!(told == 1 || session.ending().is_none_or(|ending| ending.reason == EndReason::NodeLost));
    }

    #[test]
    fn asking_again_changes_nothing(
        kind in kinds(),
        created in times(),
        connects in any::<bool>(),
        (first, second) in (endings(), endings()),
        (at, again) in (times(), times()),
    ) {
        let (mut session, _) = Session::open(draft(kind), created);
        if connects {
            session = session.apply(&Event::Connected, created).expect("it is connecting").0;
        }
        let (ending, _) = session.apply(&Event::End { ending: first.clone() }, at).expect("it is live");
        let (still, effects) = ending.apply(&Event::End { ending: second }, again).expect("asking again is harmless");
        prop_assert_eq!(&still, &ending);
        prop_assert!(effects.is_empty());
        prop_assert_eq!(still.ending(), Some(&first));
    }

    #[test]
    fn a_lost_node_ends_a_session_at_its_last_sign_of_life(
        created in (0..1000_i64).prop_map(Time::from_micros),
        (to_connect, to_last, to_end, to_now) in (0..1000_i64, 0..1000_i64, 0..1000_i64, 0..1000_i64),
        asked in any::<bool>(),
    ) {
        let later = |from: Time, by: i64| Time::from_micros(from.as_micros() + by);
        let (session, _) = Session::open(draft(Kind::Shell), created);
        let connected = later(created, to_connect);
        let (mut session, _) = session.apply(&Event::Connected, connected).expect("it is connecting");
        session.activity.last = later(connected, to_last);
        let mut last_sign = session.activity.last;
        if asked {
            let ending = Ending::new(EndReason::IdleLimit, Actor::System, "");
            let asked_at = later(connected, to_end);
            session = session.apply(&Event::End { ending }, asked_at).expect("it is live").0;
            last_sign = last_sign.max(asked_at);
        }
        let (ended, _) = session.apply(&Event::NodeLost, later(last_sign, to_now)).expect("it is live");
        prop_assert_eq!(ended.ended(), Some(last_sign));
        let reason = if asked { EndReason::IdleLimit } else { EndReason::NodeLost };
        prop_assert_eq!(ended.ending().map(|ending| ending.reason), Some(reason));
    }

    #[test]
    fn what_is_told_late_ends_when_it_happened_and_never_out_of_order(
        created in times(),
        connected in times(),
        // By the store's clock, which may have been set forth or back since the session connected.
        now in times(),
        (asked_age, closed_age, waited) in (0..40_u64, 0..40_u64, 0..10_u64),
        activity in activities(),
    ) {
        let micros = Duration::from_micros;
        let (session, _) = Session::open(draft(Kind::Shell), created);
        let session = session.apply(&Event::Connected, connected).expect("it is connecting").0;
        let ending = Ending::new(EndReason::IdleLimit, Actor::System, "");
        let asked = Aged::new(Event::End { ending }, micros(asked_age));
        let closed = Aged::new(Event::Closed { activity }, micros(closed_age));
        let waited = micros(waited);
        let (ending, _) = session.apply(&asked.event, asked.at(now, waited)).expect("it is live");
        let (ended, _) = ending.apply(&closed.event, closed.at(now, waited)).expect("it is ending");
        check_invariants(&ended)?;
        let at = ended.ended().expect("it has ended");
        // The reference: the store's time less all that passed, behind every earlier move and the last byte.
        let back = |age: u64| if age == 0 { 0 } else { age + u64::try_from(waited.as_micros()).expect("small") };
        let since = |age: u64| now.as_micros().saturating_sub(i64::try_from(back(age)).expect("small"));
        let moves = [created.as_micros(), connected.as_micros(), since(asked_age), since(closed_age)];
        let signs = [activity.last.as_micros(), created.as_micros()];
        let expected = moves.into_iter().chain(signs).max().expect("a list with members");
        prop_assert_eq!(at.as_micros(), expected);
    }

    #[test]
    fn an_ending_holds_nothing_that_deceives_a_reader(reason in reasons(), detail in any::<String>(), repeats in 1..80_usize) {
        let detail = format!("\r\n\u{1b}[2J{}\u{9b}", detail.repeat(repeats));
        let ending = Ending::new(reason, Actor::System, &detail);
        let kept: String = detail.chars().filter(|c| is_printable(*c)).take(Ending::DETAIL_CHARS_MAX).collect();
        prop_assert_eq!(&ending.detail, &kept);
        let message = ending.message();
        prop_assert!(!message.chars().any(char::is_control));
        prop_assert!(message.ends_with(&ending.detail));
    }

    #[test]
    fn activity_never_goes_back(a in activities(), b in activities()) {
        let both = a.later_of(b);
        prop_assert_eq!(both, b.later_of(a));
        prop_assert_eq!(both.later_of(a), both);
        prop_assert!(both.last >= a.last && both.bytes_in >= a.bytes_in && both.bytes_out >= a.bytes_out);
    }
}

#[test]
fn the_transition_table_is_the_documented_one() {
    for (at, line) in TABLE {
        let from = at.state();
        for to in State::ALL.iter().copied() {
            // A dead node takes two moves at once.
            let reached = HAPPENINGS.iter().zip(line).any(|(happening, verdict)| {
                *happening != Happening::NodeLost && matches!(verdict, Verdict::Go(next) if next.state() == to)
            });
            assert_eq!(from.may_become(to), reached, "{from} to {to}");
        }
        assert_eq!(from.is_final(), line.iter().all(|verdict| *verdict == Verdict::No), "{from}");
    }
    assert_eq!(TABLE.len(), State::ALL.len());
}

#[test]
fn a_message_says_what_ended_it() {
    let alice = Actor::Principal(PrincipalName::parse("alice").expect("a valid name"));
    let ending = Ending::new(EndReason::DisconnectedByOperator, alice.clone(), "rotating keys");
    assert_eq!(ending.message(), "disconnected by alice: rotating keys");
    assert_eq!(Ending::new(EndReason::DisconnectedByOperator, alice, "").message(), "disconnected by alice");
    let messages: BTreeSet<String> =
        EndReason::ALL.iter().map(|reason| Ending::new(*reason, Actor::System, "").message()).collect();
    assert_eq!(messages.len(), EndReason::ALL.len(), "each reason has a message of its own");
}
