//! What every store has to do, whichever database it stands on.
//!
//! Each case wants a store of its own that nothing was written to. [`crate::for_each_store_case`] holds the list of
//! them, so that a backing cannot forget one. What a filter means is judged by [`Reference`], a naive second
//! implementation that looks at every session.

use crate::audit::{self, AuditEvent, AuditKind, Deed};
use crate::credential::{Credential, CredentialKind};
use crate::ports::Store;
use crate::principal::AuthMethod;
use crate::query::{Cursor, Order, SessionFilter, SessionQuery};
use crate::recording::Mode;
use crate::session::{Activity, Actor, Aged, Draft, EndReason, Ending, Event, Kind, Phase, Session, State};
use crate::target::{Protocol, TargetSnapshot};
use crate::{
    CredentialId, GroupName, Keepsake, Login, NodeId, PrincipalName, Refusal, SessionId, TargetId, TargetName, Time,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Calls the macro named `$each` with the names of all cases: `each! { case_one case_two … }`.
#[macro_export]
macro_rules! for_each_store_case {
    ($each:ident) => {
        $each! {
            a_session_is_kept_as_it_was_opened
            open_refuses_a_known_id_and_a_foreign_life
            moves_obey_the_table
            events_of_one_call_are_applied_all_or_none
            asking_again_changes_nothing
            what_is_told_late_is_dated_by_its_age
            unknown_sessions_are_not_found
            times_grow
            a_flush_never_goes_back
            a_new_life_ends_what_earlier_lives_left
            an_earlier_life_is_fenced_off
            events_are_numbered_without_gaps
            waiting_for_an_event_ends_with_it
            each_field_of_the_filter_selects
            pages_join_to_the_whole_list
            every_place_is_a_cursor
            wrong_limits_are_refused
            credentials_are_issued_and_revoked
            things_are_kept_until_they_expire
            sessions_are_pruned_from_the_old_end
            events_are_pruned_from_the_low_end
        }
    };
}

/// What a filter means, said naively: look at every session that was ever opened.
#[derive(Debug, Default)]
pub struct Reference {
    sessions: Vec<Session>,
    targets_by_name: BTreeMap<String, BTreeSet<TargetId>>,
}

impl Reference {
    /// Over these sessions.
    #[must_use]
    pub fn new(mut sessions: Vec<Session>) -> Self {
        sessions.sort_by(|a, b| (a.created, a.id()).cmp(&(b.created, b.id())));
        let mut targets_by_name: BTreeMap<String, BTreeSet<TargetId>> = BTreeMap::new();
        for session in &sessions {
            let target = &session.draft.target;
            let names = [target.name.as_str(), target.id.as_str()];
            for name in names.into_iter().chain(target.aliases.values().map(String::as_str)) {
                targets_by_name.entry(name.to_lowercase()).or_default().insert(target.id.clone());
            }
        }
        Self { sessions, targets_by_name }
    }

    /// All that the filter selects, in order.
    #[must_use]
    pub fn select(&self, filter: &SessionFilter, order: Order) -> Vec<Session> {
        let mut found: Vec<Session> = self.sessions.iter().filter(|s| self.matches(filter, s)).cloned().collect();
        match order {
            Order::OldestFirst => {}
            Order::NewestFirst => found.reverse(),
        }
        found
    }

    /// Whether the filter selects the session.
    #[must_use]
    pub fn matches(&self, filter: &SessionFilter, session: &Session) -> bool {
        let draft = &session.draft;
        let in_set = |is_empty: bool, holds: bool| is_empty || holds;
        let ending = session.ending();
        in_set(filter.states.is_empty(), filter.states.contains(&session.state()))
            && in_set(filter.principals.is_empty(), filter.principals.contains(&draft.principal))
            && in_set(filter.ids.is_empty(), filter.ids.contains(&draft.id))
            && in_set(filter.end_reasons.is_empty(), ending.is_some_and(|e| filter.end_reasons.contains(&e.reason)))
            && filter.target.as_ref().is_none_or(|name| {
                self.targets_by_name.get(&name.to_lowercase()).is_some_and(|ids| ids.contains(&draft.target.id))
            })
            && filter
                .id_prefix
                .as_ref()
                .is_none_or(|prefix| draft.id.as_str().starts_with(prefix) || draft.id.hex().starts_with(prefix))
            && filter.kind.is_none_or(|kind| kind == draft.kind)
            && filter.protocol.is_none_or(|protocol| protocol == draft.protocol)
            && filter.login.as_ref().is_none_or(|login| Some(login) == draft.login.as_ref())
            && filter.client.is_none_or(|client| client == draft.client_address.ip())
            && filter.node.as_ref().is_none_or(|node| *node == draft.node)
            && filter.actor.as_ref().is_none_or(|actor| ending.is_some_and(|e| e.actor.to_string() == *actor))
            && filter.label.as_ref().is_none_or(|(key, value)| draft.target.labels.get(key) == Some(value))
            && filter.tag.as_ref().is_none_or(|(key, value)| draft.tags.get(key) == Some(value))
            && filter.created_from.is_none_or(|from| session.created >= from)
            && filter.created_before.is_none_or(|before| session.created < before)
            && filter.ended_from.is_none_or(|from| session.ended().is_some_and(|ended| ended >= from))
            && filter.ended_before.is_none_or(|before| session.ended().is_some_and(|ended| ended < before))
    }
}

/// The facts of a plain session by `owner` to a target `web-1`, for tests that care about other things.
#[must_use]
pub fn draft(owner: &str, random: u64, node: &NodeId, epoch: u64) -> Draft {
    let principal = PrincipalName::parse(owner).expect("tests give valid principal names");
    Draft {
        id: SessionId::new(&principal, random),
        principal,
        groups: BTreeSet::from([GroupName::parse("engineers").expect("a valid group name")]),
        auth: AuthMethod::SshKey,
        client_address: SocketAddr::from(([192, 0, 2, 7], 50_022)),
        client_software: "SSH-2.0-OpenSSH_9.2p1".to_owned(),
        target: target(1, "web-1"),
        login: Some(Login::parse("root").expect("a valid login")),
        protocol: Protocol::Ssh,
        kind: Kind::Shell,
        document: None,
        reason: None,
        duration_max: None,
        recording_rule: Some(Mode::Metadata),
        logs: Vec::new(),
        node: node.clone(),
        epoch,
        tags: BTreeMap::new(),
    }
}

fn target(number: u8, name: &str) -> TargetSnapshot {
    TargetSnapshot {
        id: TargetId::from_hex(&format!("{number:017x}")).expect("17 hex digits"),
        name: TargetName::parse(name).expect("tests give valid target names"),
        address: format!("{name}.example"),
        port: 22,
        labels: BTreeMap::from([("zone".to_owned(), format!("z{}", number % 2))]),
        aliases: BTreeMap::from([
            ("one".to_owned(), format!("mi-{number:017x}")),
            ("two".to_owned(), format!("/Groups/G1/Machines/{name}")),
        ]),
    }
}

fn node(number: u32) -> NodeId {
    NodeId::new(number)
}

fn ending(reason: EndReason, detail: &str) -> Ending {
    Ending::new(reason, Actor::Principal(PrincipalName::parse("olga").expect("a valid name")), detail)
}

fn end(reason: EndReason) -> Event {
    Event::End { ending: ending(reason, "rotating keys") }
}

fn closed(store_time: Time) -> Event {
    Event::Closed { activity: Activity { last: store_time, bytes_in: 10, bytes_out: 20 } }
}

async fn open(store: &dyn Store, draft: Draft) -> Session {
    store.open(draft).await.expect("a fitting draft opens")
}

async fn apply(store: &dyn Store, session: &Session, events: Vec<Event>) -> Session {
    store.apply(session.id(), events).await.expect("the table has these moves").session
}

async fn stored(store: &dyn Store, id: &SessionId) -> Session {
    store.session(id).await.expect("the store answers").expect("the session is stored")
}

async fn all_events(store: &dyn Store) -> Vec<AuditEvent> {
    store.events(0, 100_000).await.expect("the store answers").events
}

/// Bits that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        // SplitMix64: a counter, and a mix of its bits. Steele, Lea, Flood 2014.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, sides: u64) -> u64 {
        self.roll() % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.below(sides) == 0
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[usize::try_from(self.below(among.len() as u64)).expect("an index of a slice")]
    }
}

/// All fields come back as they were given.
pub async fn a_session_is_kept_as_it_was_opened(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let mut rich = draft("jane-roe", 0xdead_beef, &node(1), start.epoch);
    rich.client_address = "[2001:db8::1]:4711".parse().expect("an address");
    rich.groups = ["b", "a", "c=d"].iter().map(|g| GroupName::parse(g).expect("a valid group name")).collect();
    rich.document = Some("Start\"Session'".to_owned());
    rich.reason = Some("ticket 42; DROP TABLE sessions; -- \u{1f511}".to_owned());
    rich.client_software = "it's \"quoted\" \\ and \u{e4}".to_owned();
    rich.tags = BTreeMap::from([("team".to_owned(), "a\"b".to_owned()), ("e".to_owned(), String::new())]);
    let mut bare = draft("bob", 1, &node(1), start.epoch);
    bare.login = None;
    bare.groups.clear();
    bare.client_software.clear();
    bare.target.labels.clear();
    bare.target.aliases.clear();
    for given in [rich, bare] {
        let opened = open(store, given.clone()).await;
        assert_eq!(opened, Session::open(given, opened.created).0, "a new session is what the model says");
        assert_eq!(stored(store, opened.id()).await, opened, "by id");
        let only = SessionFilter { ids: BTreeSet::from([opened.id().clone()]), ..SessionFilter::default() };
        let page = store.sessions(&SessionQuery::first(only, 10)).await.expect("the store answers");
        assert_eq!(page.items, std::slice::from_ref(&opened), "in a list");
        let event = all_events(store).await.pop().expect("opening is an event");
        assert_eq!(event.at, opened.created);
        assert_eq!(event.deed.kind, AuditKind::SessionOpened);
        assert_eq!(event.deed.session.as_ref(), Some(opened.id()));
        assert_eq!(event.deed.actor, audit::session_actor(&opened));
        assert_eq!(event.deed.facts, audit::session_facts(&opened));
    }
}

/// A draft must bear a new id, and belong to the present life of a node that was started.
pub async fn open_refuses_a_known_id_and_a_foreign_life(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let first = open(store, draft("alice", 1, &node(1), start.epoch)).await;
    let before = all_events(store).await;
    let mut same_id = draft("alice", 1, &node(1), start.epoch);
    same_id.kind = Kind::Exec;
    for (what, wrong) in [
        ("a known id", same_id),
        ("an earlier life", draft("alice", 2, &node(1), start.epoch - 1)),
        ("a later life", draft("alice", 3, &node(1), start.epoch + 1)),
        ("a node that was never started", draft("alice", 4, &node(2), 1)),
    ] {
        let refusal = store.open(wrong).await.expect_err(what);
        assert!(matches!(refusal, Refusal::Conflict { .. }), "{what}: {refusal:?}");
    }
    assert_eq!(stored(store, first.id()).await, first);
    assert_eq!(all_events(store).await, before, "a refused draft leaves no event");
}

/// In each state each event does what [`Session::apply`] says: the same session, the same effects, the same refusal.
pub async fn moves_obey_the_table(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let now = store.now().await.expect("the store tells the time");
    let fail = || Event::Failed { ending: ending(EndReason::TargetUnreachable, "timed out") };
    let ways: [&[Event]; 7] = [
        &[],
        &[Event::Connected],
        &[Event::Connected, Event::Disconnected],
        &[Event::Connected, end(EndReason::DisconnectedByOperator)],
        &[end(EndReason::IdleLimit)],
        &[Event::Connected, end(EndReason::ClientClosed), closed(now)],
        &[fail()],
    ];
    let events = [
        Event::Connected,
        Event::Classified { kind: Kind::Sftp },
        Event::Disconnected,
        Event::Resumed,
        fail(),
        end(EndReason::DurationLimit),
        closed(now.plus(Duration::from_secs(1))),
        Event::NodeLost,
    ];
    let mut random = 0;
    for way in ways {
        for event in &events {
            random += 1;
            let mut draft = draft("alice", random, &node(1), start.epoch);
            draft.kind = Kind::Tunnel;
            let opened = open(store, draft).await;
            let before = apply(store, &opened, way.to_vec()).await;
            let events_before = all_events(store).await.len();
            let what = format!("{event:?} when {}", before.state());
            match store.apply(before.id(), vec![event.clone()]).await {
                Ok(applied) => {
                    let (session, effects) = before.apply(event, applied.at).expect(&what);
                    assert_eq!(applied.session, session, "{what}");
                    assert_eq!(applied.effects, effects, "{what}");
                    assert_eq!(stored(store, before.id()).await, session, "{what}");
                    let told = all_events(store).await.split_off(events_before);
                    let kinds: Vec<AuditKind> = told.iter().map(|e| e.deed.kind).collect();
                    let wanted: Vec<AuditKind> = effects
                        .iter()
                        .filter_map(|effect| match effect {
                            crate::session::Effect::Audit(kind) => Some(*kind),
                            crate::session::Effect::TellPerson(_)
                            | crate::session::Effect::CloseLegs
                            | crate::session::Effect::Confirm => None,
                        })
                        .collect();
                    assert_eq!(kinds, wanted, "{what}");
                    for event in told {
                        assert_eq!(event.at, applied.at, "{what}");
                        assert_eq!(event.deed.actor, audit::session_actor(&session), "{what}");
                        assert_eq!(event.deed.facts, audit::session_facts(&session), "{what}");
                    }
                }
                Err(refusal) => {
                    assert_eq!(before.apply(event, now), Err(refusal), "{what}");
                    assert_eq!(stored(store, before.id()).await, before, "{what}");
                    assert_eq!(all_events(store).await.len(), events_before, "{what}");
                }
            }
        }
    }
}

/// When one event of a call is refused, none was applied and none is told of.
pub async fn events_of_one_call_are_applied_all_or_none(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let opened = open(store, draft("alice", 1, &node(1), start.epoch)).await;
    let before = all_events(store).await;
    let refusal = store.apply(opened.id(), vec![Event::Connected, Event::Resumed]).await;
    assert!(matches!(refusal, Err(Refusal::Conflict { .. })), "{refusal:?}");
    assert_eq!(stored(store, opened.id()).await, opened);
    assert_eq!(all_events(store).await, before);
    let applied = store
        .apply(opened.id(), vec![Event::Connected, end(EndReason::ClientClosed), closed(opened.created)])
        .await
        .expect("the table has these moves");
    assert_eq!(applied.session.state(), State::Terminated);
    assert_eq!(all_events(store).await.len(), before.len() + 3);
}

/// The end of a session can be asked for twice; the first reason stands.
pub async fn asking_again_changes_nothing(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let opened = open(store, draft("alice", 1, &node(1), start.epoch)).await;
    let ending = apply(store, &opened, vec![Event::Connected, end(EndReason::DisconnectedByOperator)]).await;
    let before = all_events(store).await;
    let again = store.apply(opened.id(), vec![end(EndReason::IdleLimit)]).await.expect("asking again is allowed");
    assert_eq!(again.session, ending);
    assert_eq!(again.effects, []);
    let nothing = store.apply(opened.id(), Vec::new()).await.expect("no event is no fault");
    assert_eq!(nothing.session, ending);
    assert_eq!(all_events(store).await, before);
}

/// A session is ended when its sockets were closed, not when the store could be told; its moves stay in order whatever
/// the ages are, and the record stays in the order of writing.
pub async fn what_is_told_late_is_dated_by_its_age(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let age = Duration::from_millis;
    for (random, asked_age, closed_age) in [(1, age(40), age(30)), (2, age(30), age(40)), (3, Duration::MAX, age(5))] {
        let opened = open(store, draft("alice", random, &node(1), start.epoch)).await;
        let connected = apply(store, &opened, vec![Event::Connected]).await;
        let reached = connected.connected().expect("it is connected");
        while store.now().await.expect("the store tells the time") < reached.plus(age(50)) {}
        let told = vec![Aged::new(end(EndReason::IdleLimit), asked_age), Aged::new(closed(reached), closed_age)];
        let applied = store.apply_aged(opened.id(), told).await.expect("the table has these moves");
        let ended = applied.session.ended().expect("it has ended");
        assert_eq!(stored(store, opened.id()).await, applied.session);
        // The store itself may have let the call wait, so an end may lie before this, and never behind it.
        let latest = applied.at.minus(asked_age.min(closed_age));
        assert!(reached <= ended && ended <= latest, "{reached:?} {ended:?} {latest:?}");
        let events = all_events(store).await;
        assert!(events.is_sorted_by_key(|event| event.at), "the record is in the order of writing");
        let last = events.last().expect("an end is an event");
        assert_eq!((last.deed.kind, last.at), (AuditKind::SessionEnded, applied.at));
        assert_eq!(last.deed.facts.get("ended_micros"), Some(&ended.as_micros().to_string()));
        let within = SessionFilter {
            ended_from: Some(ended),
            ended_before: Some(ended.plus(Duration::from_micros(1))),
            ..SessionFilter::default()
        };
        let found = walk(store, &within, Order::NewestFirst, 10).await;
        assert_eq!(found, std::slice::from_ref(&applied.session), "the end is found where it was");
    }
    let opened = open(store, draft("alice", 9, &node(1), start.epoch)).await;
    let failed = Event::Failed { ending: ending(EndReason::TargetUnreachable, "timed out") };
    let applied = store.apply_aged(opened.id(), vec![Aged::new(failed, age(60_000))]).await.expect("it may fail");
    assert_eq!(applied.session.ended(), Some(opened.created), "nothing ends before it was created");
}

/// An id that was never opened.
pub async fn unknown_sessions_are_not_found(store: &dyn Store) {
    let id = SessionId::parse("nobody-00000000000000000").expect("a valid id");
    assert_eq!(store.session(&id).await, Ok(None));
    let refusal = store.apply(&id, vec![Event::Connected]).await;
    assert!(matches!(refusal, Err(Refusal::NotFound { what: "session", .. })), "{refusal:?}");
    assert_eq!(all_events(store).await, []);
}

/// No two sessions share a creation time, and no time lies before an earlier one.
pub async fn times_grow(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let mut last = store.now().await.expect("the store tells the time");
    for random in 0..50 {
        let opened = open(store, draft("alice", random, &node(1), start.epoch)).await;
        assert!(opened.created > last, "{:?} is not after {last:?}", opened.created);
        let applied = store.apply(opened.id(), vec![Event::Connected]).await.expect("it connects");
        assert!(applied.at >= opened.created);
        last = store.now().await.expect("the store tells the time");
        assert!(last >= applied.at);
    }
    assert!(all_events(store).await.is_sorted_by_key(|event| event.at));
}

/// Counts and times only grow; ended and unknown sessions are passed over, and the rest of the batch is written.
pub async fn a_flush_never_goes_back(store: &dyn Store) {
    let start = store.start_node(&node(1)).await.expect("a node starts");
    let live = open(store, draft("alice", 1, &node(1), start.epoch)).await;
    let ended = open(store, draft("alice", 2, &node(1), start.epoch)).await;
    let ended = apply(store, &ended, vec![end(EndReason::ClientClosed), closed(ended.created)]).await;
    let unknown = SessionId::parse("nobody-00000000000000000").expect("a valid id");
    let later = live.created.plus(Duration::from_secs(5));
    let more = Activity { last: later, bytes_in: 100, bytes_out: 1000 };
    let events_before = all_events(store).await;
    let batch = vec![(unknown, more), (ended.id().clone(), more), (live.id().clone(), more)];
    store.flush(batch).await.expect("the flush is written");
    assert_eq!(stored(store, live.id()).await.activity, more);
    assert_eq!(stored(store, ended.id()).await, ended);
    let mixed = Activity { last: live.created, bytes_in: 99, bytes_out: 1001 };
    store.flush(vec![(live.id().clone(), mixed)]).await.expect("the flush is written");
    let kept = stored(store, live.id()).await;
    assert_eq!(kept.activity, Activity { last: later, bytes_in: 100, bytes_out: 1001 });
    assert_eq!(Session { activity: live.activity, ..kept }, live, "nothing else changes");
    store.flush(Vec::new()).await.expect("an empty flush is no fault");
    assert_eq!(all_events(store).await, events_before, "a flush is no event");
}

/// The start of a node ends its own left-over sessions, at their last sign of life, and nobody else's.
pub async fn a_new_life_ends_what_earlier_lives_left(store: &dyn Store) {
    let mine = store.start_node(&node(1)).await.expect("a node starts");
    let other = store.start_node(&node(2)).await.expect("a node starts");
    assert_eq!((mine.ended, mine.latest), (Vec::new(), None));
    assert!(other.latest.is_some(), "the first node's start is on record");
    let of = |random| draft("alice", random, &node(1), mine.epoch);
    let connecting = open(store, of(1)).await;
    let connected = open(store, of(2)).await;
    let connected = apply(store, &connected, vec![Event::Connected]).await;
    let disconnected = open(store, of(3)).await;
    let disconnected = apply(store, &disconnected, vec![Event::Connected, Event::Disconnected]).await;
    let terminating = open(store, of(4)).await;
    let asked = end(EndReason::DisconnectedByOperator);
    let terminating = apply(store, &terminating, vec![Event::Connected, asked]).await;
    let ended = open(store, of(5)).await;
    let ended = apply(store, &ended, vec![end(EndReason::ClientClosed), closed(ended.created)]).await;
    let others = open(store, draft("alice", 6, &node(2), other.epoch)).await;
    let last = terminating.created.plus(Duration::from_secs(1));
    let activity = Activity { last, bytes_in: 7, bytes_out: 8 };
    let batch = vec![(connected.id().clone(), activity), (terminating.id().clone(), activity)];
    store.flush(batch).await.expect("the flush is written");
    let before = all_events(store).await;
    let events_before = before.len();

    let again = store.start_node(&node(1)).await.expect("a node starts again");
    assert_eq!(again.epoch, mine.epoch + 1);
    assert_eq!(again.latest, before.last().map(|event| event.at));
    let lost = [&connecting, &connected, &disconnected, &terminating];
    let wanted: BTreeSet<SessionId> = lost.iter().map(|s| s.id().clone()).collect();
    assert_eq!(again.ended.iter().cloned().collect::<BTreeSet<_>>(), wanted);
    assert_eq!(again.ended.len(), wanted.len());
    for before in lost {
        let after = stored(store, before.id()).await;
        let has_flushed = [connected.id(), terminating.id()].contains(&before.id());
        let activity = if has_flushed { activity } else { before.activity };
        let flushed = Session { activity, ..before.clone() };
        let (expected, _) = flushed.apply(&Event::NodeLost, after.created).expect("a live session can lose its node");
        assert_eq!(after, expected);
        assert_eq!(after.state(), State::Terminated);
        let reason =
            if before.id() == terminating.id() { EndReason::DisconnectedByOperator } else { EndReason::NodeLost };
        assert_eq!(after.ending().map(|e| e.reason), Some(reason));
        if has_flushed {
            assert_eq!(after.ended(), Some(last), "the last sign of life is the end");
        }
    }
    assert_eq!(stored(store, ended.id()).await, ended, "what had ended stays as it was");
    assert_eq!(stored(store, others.id()).await, others, "another node's sessions go on");
    let told = all_events(store).await.split_off(events_before);
    let count = |kind| told.iter().filter(|event| event.deed.kind == kind).count();
    assert_eq!(count(AuditKind::SessionEnded), 4);
    assert_eq!(count(AuditKind::NodeStarted), 1);
    assert_eq!(told.len(), 5);
    let third = store.start_node(&node(1)).await.expect("a node starts again");
    assert_eq!((third.epoch, third.ended), (again.epoch + 1, Vec::new()));
}

/// Whatever an earlier life of a node still tries, changes nothing.
pub async fn an_earlier_life_is_fenced_off(store: &dyn Store) {
    let first = store.start_node(&node(1)).await.expect("a node starts");
    let opened = open(store, draft("alice", 1, &node(1), first.epoch)).await;
    let second = store.start_node(&node(1)).await.expect("a node starts again");
    let ended = stored(store, opened.id()).await;
    let refusal = store.open(draft("alice", 2, &node(1), first.epoch)).await;
    assert!(matches!(refusal, Err(Refusal::Conflict { .. })), "{refusal:?}");
    let later = Activity { last: opened.created.plus(Duration::from_secs(60)), bytes_in: 1, bytes_out: 1 };
    let tries = [
        Event::Connected,
        Event::Classified { kind: Kind::Exec },
        end(EndReason::ClientClosed),
        Event::Closed { activity: later },
        Event::NodeLost,
    ];
    for event in tries {
        let refusal = store.apply(opened.id(), vec![event]).await;
        assert!(matches!(refusal, Err(Refusal::Conflict { .. })), "{refusal:?}");
    }
    store.flush(vec![(opened.id().clone(), later)]).await.expect("a late flush is passed over");
    assert_eq!(stored(store, opened.id()).await, ended);
    open(store, draft("alice", 2, &node(1), second.epoch)).await;
}

/// Numbers start at 1 and none is left out, whatever fails in between; stretches can be read from anywhere.
pub async fn events_are_numbered_without_gaps(store: &dyn Store) {
    let page = store.events(0, 10).await.expect("the store answers");
    assert_eq!((page.events, page.oldest, page.newest), (Vec::new(), 1, 0));
    let start = store.start_node(&node(1)).await.expect("a node starts");
    for random in 0..20 {
        let opened = open(store, draft("alice", random, &node(1), start.epoch)).await;
        let again = store.open(draft("alice", random, &node(1), start.epoch)).await;
        assert!(again.is_err(), "a known id is refused");
        let half = store.apply(opened.id(), vec![Event::Connected, Event::Connected]).await;
        assert!(half.is_err(), "a second connect is refused");
        apply(store, &opened, vec![Event::Connected]).await;
    }
    let deed = Deed {
        kind: AuditKind::LoginRefused,
        actor: Actor::Target(TargetName::parse("web-1").expect("a valid name")),
        session: None,
        facts: BTreeMap::from([("client_address".to_owned(), "192.0.2.1".to_owned())]),
    };
    let number = store.record(deed.clone()).await.expect("a deed is written");
    let events = all_events(store).await;
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=number).collect::<Vec<_>>());
    assert_eq!(number, 1 + 40 + 1);
    assert_eq!(events.last().map(|event| &event.deed), Some(&deed));
    for after in [0, 1, 17, number - 1, number, number + 5] {
        for limit in [1, 7, 1000] {
            let page = store.events(after, limit).await.expect("the store answers");
            assert_eq!((page.oldest, page.newest), (1, number));
            let wanted: Vec<AuditEvent> =
                events.iter().filter(|event| event.seq > after).take(limit as usize).cloned().collect();
            assert_eq!(page.events, wanted, "after {after}, at most {limit}");
        }
    }
}

/// It resolves when there is such an event, at once when there already is.
pub async fn waiting_for_an_event_ends_with_it(store: &dyn Store) {
    let deed = Deed { kind: AuditKind::InventoryLoaded, actor: Actor::System, session: None, facts: BTreeMap::new() };
    let first = store.record(deed.clone()).await.expect("a deed is written");
    store.wait_for_event(first - 1).await;
    let mut wait = pin!(store.wait_for_event(first));
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(wait.as_mut().poll(&mut context), Poll::Pending, "no such event exists yet");
    let second = store.record(deed).await.expect("a deed is written");
    wait.await;
    let page = store.events(first, 10).await.expect("the store answers");
    assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [second]);
}

/// A population with every state, and values that many, few and no sessions share.
async fn populate(store: &dyn Store, dice: &mut Dice, count: u64) -> Vec<Session> {
    let nodes = [node(1), node(2)];
    let mut epochs = Vec::new();
    for node in &nodes {
        epochs.push(store.start_node(node).await.expect("a node starts").epoch);
    }
    let owners = ["alice", "al", "alice-b", "bob", "carol@example", "0a"];
    let mut sessions = Vec::new();
    for number in 0..count {
        let at = usize::from(dice.one_in(4));
        // Few first digits, so that short beginnings are shared; the low bits keep ids apart.
        let first_digit = *dice.pick(&[0x0_u64, 0xa, 0xa, 0xb]) << 60;
        let random = first_digit | (dice.below(3) << 56) | (dice.roll() >> 24 << 16) | number;
        let mut draft = draft(dice.pick::<&str>(&owners), random, &nodes[at], epochs[at]);
        draft.target = match dice.below(5) {
            0 => target(1, "web-1"),
            1 => target(2, "Web-2"),
            // The same machine under two names.
            2 => target(3, "db"),
            3 => target(3, "db-prod"),
            _ => target(4, "gone"),
        };
        draft.client_address = *dice.pick(&[
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1000),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 2000),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 1000),
            SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 9)), 1),
        ]);
        draft.login = dice.pick(&[None, Some("root"), Some("deploy")]).map(|l| Login::parse(l).expect("a valid login"));
        draft.kind = *dice.pick(Kind::ALL);
        draft.protocol = *dice.pick(&Protocol::ALL);
        if dice.one_in(2) {
            draft.tags.insert("team".to_owned(), dice.pick(&["red", "blue", ""]).to_string());
        }
        if dice.one_in(3) {
            draft.tags.insert("env".to_owned(), "prod".to_owned());
        }
        sessions.push(open(store, draft).await);
        // Sessions overlap: now and then an older one moves on.
        for _ in 0..2 {
            let at = usize::try_from(dice.below(sessions.len() as u64)).expect("an index of a list");
            let session = sessions[at].clone();
            let reason = *dice.pick(EndReason::ALL);
            let actor = match dice.below(3) {
                0 => Actor::System,
                1 => Actor::Principal(session.draft.principal.clone()),
                _ => Actor::Target(session.draft.target.name.clone()),
            };
            let ending = Ending::new(reason, actor, "");
            let event = match (&session.phase, dice.below(3)) {
                (Phase::Connecting, 0) => Event::Failed { ending },
                (Phase::Connecting, _) => Event::Connected,
                (Phase::Connected { .. }, 0) => Event::Disconnected,
                (Phase::Disconnected { .. }, 0) => Event::Resumed,
                (Phase::Connected { .. } | Phase::Disconnected { .. }, _) => Event::End { ending },
                (Phase::Terminating { .. }, _) => closed(session.created),
                (Phase::Terminated { .. } | Phase::Failed { .. }, _) => continue,
            };
            sessions[at] = apply(store, &session, vec![event]).await;
        }
    }
    sessions
}

/// A filter with the one field that `field` numbers set to something that `session` has, or, with `None`, that none has.
/// `None` when the session lacks it or the number is beyond the last field.
fn filter_on(field: u64, session: &Session, all: &[Session], dice: &mut Dice) -> Option<SessionFilter> {
    let draft = &session.draft;
    let mut filter = SessionFilter::default();
    let another = |dice: &mut Dice| dice.pick(all).clone();
    match field {
        0 => {
            filter.states.insert(session.state());
            if dice.one_in(2) {
                filter.states.insert(another(dice).state());
            }
        }
        1 => {
            filter.principals.insert(draft.principal.clone());
            if dice.one_in(2) {
                filter.principals.insert(another(dice).draft.principal);
            }
        }
        2 => {
            let target = &draft.target;
            let names = [target.name.as_str(), target.id.as_str(), &target.aliases["one"], &target.aliases["two"]];
            let name = *dice.pick(&names);
            filter.target = Some(if dice.one_in(2) { name.to_uppercase() } else { name.to_owned() });
        }
        3 => {
            filter.ids.insert(draft.id.clone());
            for _ in 0..dice.below(4) {
                filter.ids.insert(another(dice).id().clone());
            }
        }
        4 => {
            let text = if dice.one_in(2) { draft.id.as_str() } else { draft.id.hex() };
            let end = usize::try_from(dice.below(text.len() as u64 + 1)).expect("at most the text's length");
            filter.id_prefix = Some(text[..end].to_owned());
        }
        5 => filter.kind = Some(draft.kind),
        6 => filter.protocol = Some(draft.protocol),
        7 => filter.login = Some(draft.login.clone()?),
        8 => filter.client = Some(draft.client_address.ip()),
        9 => filter.node = Some(draft.node.clone()),
        10 => {
            filter.end_reasons.insert(session.ending()?.reason);
            for _ in 0..dice.below(3) {
                filter.end_reasons.insert(*dice.pick(EndReason::ALL));
            }
        }
        11 => filter.actor = Some(session.ending()?.actor.to_string()),
        12 => filter.label = draft.target.labels.first_key_value().map(|(k, v)| (k.clone(), v.clone())),
        13 => filter.tag = Some(draft.tags.first_key_value().map(|(k, v)| (k.clone(), v.clone()))?),
        14 => filter.created_from = Some(session.created),
        15 => filter.created_before = Some(session.created),
        16 => filter.ended_from = Some(session.ended()?),
        17 => filter.ended_before = Some(session.ended()?),
        _ => return None,
    }
    Some(filter)
}

const FILTER_FIELDS: u64 = 18;

/// Both filters at once, as far as they set different fields.
fn both(a: SessionFilter, b: SessionFilter) -> SessionFilter {
    let set = |is_empty: bool| !is_empty;
    SessionFilter {
        states: if set(a.states.is_empty()) { a.states } else { b.states },
        principals: if set(a.principals.is_empty()) { a.principals } else { b.principals },
        target: a.target.or(b.target),
        ids: if set(a.ids.is_empty()) { a.ids } else { b.ids },
        id_prefix: a.id_prefix.or(b.id_prefix),
        kind: a.kind.or(b.kind),
        protocol: a.protocol.or(b.protocol),
        login: a.login.or(b.login),
        client: a.client.or(b.client),
        node: a.node.or(b.node),
        end_reasons: if set(a.end_reasons.is_empty()) { a.end_reasons } else { b.end_reasons },
        actor: a.actor.or(b.actor),
        label: a.label.or(b.label),
        tag: a.tag.or(b.tag),
        created_from: a.created_from.or(b.created_from),
        created_before: a.created_before.or(b.created_before),
        ended_from: a.ended_from.or(b.ended_from),
        ended_before: a.ended_before.or(b.ended_before),
    }
}

/// Every page of the list, joined; checks each page's size and that `next` is there if and only if more follows.
async fn walk(store: &dyn Store, filter: &SessionFilter, order: Order, limit: u32) -> Vec<Session> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let query = SessionQuery { filter: filter.clone(), order, after, limit };
        let page = store.sessions(&query).await.expect("the store answers");
        assert!(page.items.len() <= limit as usize, "{query:?}");
        let last = page.items.last().map(|s| Cursor { created: s.created, id: s.id().clone() });
        found.extend(page.items);
        match page.next {
            None => return found,
            Some(next) => {
                assert_eq!(Some(&next), last.as_ref(), "the cursor is the place of the last item: {query:?}");
                after = Some(next);
            }
        }
    }
}

/// Each field on its own means what [`Reference`] says, for values that are there and for some that are not.
pub async fn each_field_of_the_filter_selects(store: &dyn Store) {
    let mut dice = Dice(1);
    let sessions = populate(store, &mut dice, 60).await;
    let reference = Reference::new(sessions.clone());
    for field in 0..FILTER_FIELDS {
        let mut tried = 0;
        for session in &sessions {
            let Some(filter) = filter_on(field, session, &sessions, &mut dice) else { continue };
            tried += 1;
            let found = walk(store, &filter, Order::NewestFirst, 1000).await;
            assert_eq!(found, reference.select(&filter, Order::NewestFirst), "{filter:?}");
        }
        assert!(tried > 0, "no session has field {field}");
    }
    let nobody = PrincipalName::parse("nobody").expect("a valid name");
    let nowhere = [
        SessionFilter { principals: BTreeSet::from([nobody.clone()]), ..SessionFilter::default() },
        SessionFilter { target: Some("web".to_owned()), ..SessionFilter::default() },
        SessionFilter { target: Some(String::new()), ..SessionFilter::default() },
        SessionFilter { ids: BTreeSet::from([SessionId::new(&nobody, 1)]), ..SessionFilter::default() },
        SessionFilter { id_prefix: Some("ALICE".to_owned()), ..SessionFilter::default() },
        SessionFilter { id_prefix: Some("%".to_owned()), ..SessionFilter::default() },
        SessionFilter { id_prefix: Some("\u{e4}".to_owned()), ..SessionFilter::default() },
        SessionFilter { node: Some(node(9)), ..SessionFilter::default() },
        SessionFilter { actor: Some("nobody".to_owned()), ..SessionFilter::default() },
        SessionFilter { label: Some(("zone".to_owned(), "z9".to_owned())), ..SessionFilter::default() },
        SessionFilter { label: Some(("team".to_owned(), "red".to_owned())), ..SessionFilter::default() },
        SessionFilter { tag: Some(("zone".to_owned(), "z0".to_owned())), ..SessionFilter::default() },
        SessionFilter { created_from: Some(Time::MAX), ..SessionFilter::default() },
        SessionFilter { created_before: Some(Time::EPOCH), ..SessionFilter::default() },
        SessionFilter { created_before: Some(Time::from_micros(i64::MIN)), ..SessionFilter::default() },
        SessionFilter { ended_from: Some(Time::MAX), ..SessionFilter::default() },
        SessionFilter { ended_before: Some(Time::EPOCH), ..SessionFilter::default() },
    ];
    for filter in nowhere {
        assert_eq!(walk(store, &filter, Order::OldestFirst, 10).await, [], "{filter:?}");
    }
    for filter in [
        SessionFilter::default(),
        SessionFilter::live(),
        SessionFilter::ended(),
        SessionFilter { id_prefix: Some(String::new()), ..SessionFilter::default() },
        SessionFilter { ended_before: Some(Time::MAX), ..SessionFilter::default() },
        SessionFilter { ended_from: Some(Time::from_micros(i64::MIN)), ..SessionFilter::default() },
    ] {
        let found = walk(store, &filter, Order::OldestFirst, 1000).await;
        assert_eq!(found, reference.select(&filter, Order::OldestFirst), "{filter:?}");
    }
}

/// Whatever is asked for, in either order, in pages of any size: the pages joined are the whole list.
pub async fn pages_join_to_the_whole_list(store: &dyn Store) {
    let mut dice = Dice(2);
    let sessions = populate(store, &mut dice, 120).await;
    let reference = Reference::new(sessions.clone());
    let orders = [Order::NewestFirst, Order::OldestFirst];
    for round in 0..400 {
        let mut filter = SessionFilter::default();
        for _ in 0..dice.below(4) {
            let session = dice.pick(&sessions).clone();
            let field = dice.below(FILTER_FIELDS);
            if let Some(more) = filter_on(field, &session, &sessions, &mut dice) {
                filter = both(filter, more);
            }
        }
        let limits: &[u32] = if round % 40 == 0 { &[1, 2, 3, 7, 50, 119, 120, 121, 1000] } else { &[5] };
        for &limit in limits {
            let order = *dice.pick(&orders);
            let found = walk(store, &filter, order, limit).await;
            assert_eq!(found, reference.select(&filter, order), "{filter:?} {order:?} in pages of {limit}");
        }
    }
}

/// A cursor is a place in the order, whether a session is there or not.
pub async fn every_place_is_a_cursor(store: &dyn Store) {
    let mut dice = Dice(3);
    let sessions = populate(store, &mut dice, 30).await;
    let reference = Reference::new(sessions.clone());
    let ids: Vec<SessionId> = ["0", "alice-00000000000000000", "zz-0ffffffffffffffff"]
        .iter()
        .filter_map(|id| SessionId::parse(id).ok())
        .chain(sessions.iter().map(|s| s.id().clone()))
        .collect();
    for _ in 0..300 {
        let near = dice.pick(&sessions).created.as_micros();
        let created = *dice.pick(&[near - 1, near, near, near + 1, i64::MIN, i64::MAX, 0]);
        let cursor = Cursor { created: Time::from_micros(created), id: dice.pick(&ids).clone() };
        let order = *dice.pick(&[Order::NewestFirst, Order::OldestFirst]);
        let filter = if dice.one_in(2) { SessionFilter::default() } else { SessionFilter::live() };
        let query = SessionQuery { filter: filter.clone(), order, after: Some(cursor.clone()), limit: 1000 };
        let page = store.sessions(&query).await.expect("the store answers");
        let place = (cursor.created, &cursor.id);
        let mut wanted = reference.select(&filter, order);
        wanted.retain(|session| match order {
            Order::NewestFirst => (session.created, session.id()) < place,
            Order::OldestFirst => (session.created, session.id()) > place,
        });
        assert_eq!(page.items, wanted, "{query:?}");
        assert_eq!(page.next, None, "{query:?}");
    }
}

/// The size of a page has bounds.
pub async fn wrong_limits_are_refused(store: &dyn Store) {
    for limit in [0, SessionQuery::LIMIT_MAX + 1, u32::MAX] {
        let refusal = store.sessions(&SessionQuery::first(SessionFilter::default(), limit)).await;
        assert!(matches!(&refusal, Err(Refusal::Invalid { field, .. }) if field == "limit"), "{refusal:?}");
    }
    let whole = SessionQuery::first(SessionFilter::default(), SessionQuery::LIMIT_MAX);
    assert_eq!(store.sessions(&whole).await.expect("the largest page is served").items, []);
}

/// Issued once, listed oldest first, revoked once; each is an event, and none tells a digest.
pub async fn credentials_are_issued_and_revoked(store: &dyn Store) {
    let by = Actor::Principal(PrincipalName::parse("olga").expect("a valid name"));
    let given = |id: &str, kind, digest| Credential {
        id: CredentialId::parse(id).expect("a valid id"),
        kind,
        principal: PrincipalName::parse("alice").expect("a valid name"),
        digest,
        note: "for the \"build\" host".to_owned(),
        created: Time::EPOCH,
        expires: None,
        revoked: None,
    };
    let first = given("z-first", CredentialKind::Token, Some([7; 32]));
    let mut second = given("AKIA2", CredentialKind::SigningKey, None);
    let now = store.now().await.expect("the store tells the time");
    second.expires = Some(now.plus(Duration::from_secs(60)));
    let third = given("client-3", CredentialKind::ClientSecret, Some([0; 32]));
    let fourth = Credential { expires: second.expires, ..given("ASIA4", CredentialKind::TemporaryKey, None) };
    let mut issued = Vec::new();
    for credential in [first, second, third, fourth] {
        let added = store.add_credential(credential.clone(), &by).await.expect("a new credential is added");
        assert!(added.created > now);
        assert_eq!(added, Credential { created: added.created, ..credential });
        assert_eq!(store.credential(&added.id).await, Ok(Some(added.clone())));
        issued.push(added);
    }
    assert_eq!(store.credentials().await, Ok(issued.clone()));
    let again = store.add_credential(issued[0].clone(), &by).await;
    assert!(matches!(again, Err(Refusal::Conflict { .. })), "{again:?}");
    let unknown = CredentialId::parse("nothing").expect("a valid id");
    assert_eq!(store.credential(&unknown).await, Ok(None));
    let missing = store.revoke_credential(&unknown, &by).await;
    assert!(matches!(missing, Err(Refusal::NotFound { what: "credential", .. })), "{missing:?}");

    let revoked = store.revoke_credential(&issued[0].id, &by).await.expect("a credential is revoked");
    let at = revoked.revoked.expect("a revoked credential says when");
    assert!(at > issued[0].created && !revoked.is_valid(at));
    assert_eq!(store.revoke_credential(&issued[0].id, &Actor::System).await, Ok(revoked.clone()), "only once");
    issued[0] = revoked;
    assert_eq!(store.credentials().await, Ok(issued.clone()));

    let events = all_events(store).await;
    let kinds: Vec<AuditKind> = events.iter().map(|event| event.deed.kind).collect();
    let issue = AuditKind::CredentialIssued;
    assert_eq!(kinds, [issue, issue, issue, issue, AuditKind::CredentialRevoked]);
    for event in events {
        assert_eq!(event.deed.actor, by);
        assert!(event.deed.facts.values().any(|fact| fact == "alice"), "whom it proves: {event:?}");
        assert!(!event.deed.facts.values().any(|fact| fact.contains("0707")), "a digest: {event:?}");
    }
}

/// Only what ended before the given time goes, in batches, and no list shows it any more.
pub async fn sessions_are_pruned_from_the_old_end(store: &dyn Store) {
    let mut dice = Dice(4);
    let sessions = populate(store, &mut dice, 80).await;
    let mut ends: Vec<Time> = sessions.iter().filter_map(Session::ended).collect();
    ends.sort();
    let before = ends[ends.len() / 2];
    let (old, kept): (Vec<Session>, Vec<Session>) =
        sessions.into_iter().partition(|session| session.ended().is_some_and(|ended| ended < before));
    let events = all_events(store).await;
    let mut removed = 0;
    loop {
        let batch = store.prune_sessions(before, 7).await.expect("the store prunes");
        assert!(batch <= 7);
        removed += batch;
        if batch < 7 {
            break;
        }
    }
    assert_eq!(removed, old.len() as u64);
    assert_eq!(store.prune_sessions(before, 7).await, Ok(0));
    for session in &old {
        assert_eq!(store.session(session.id()).await, Ok(None));
    }
    let reference = Reference::new(kept.clone());
    for field in 0..FILTER_FIELDS {
        let session = dice.pick(&kept).clone();
        if let Some(filter) = filter_on(field, &session, &kept, &mut dice) {
            let found = walk(store, &filter, Order::NewestFirst, 9).await;
            assert_eq!(found, reference.select(&filter, Order::NewestFirst), "{filter:?}");
        }
    }
    assert_eq!(all_events(store).await, events, "the record has its own retention");
    assert!(store.prune_sessions(Time::MAX, 1000).await.is_ok());
    let live = store.sessions(&SessionQuery::first(SessionFilter::default(), 1000)).await.expect("the store answers");
    assert!(live.items.iter().all(|session| session.state().is_live()), "live sessions stay");
    assert_eq!(live.items.len(), kept.iter().filter(|session| session.state().is_live()).count());
}

/// The record loses its old end only; numbers are never given again.
pub async fn events_are_pruned_from_the_low_end(store: &dyn Store) {
    let deed = Deed { kind: AuditKind::InventoryLoaded, actor: Actor::System, session: None, facts: BTreeMap::new() };
    for _ in 0..20 {
        store.record(deed.clone()).await.expect("a deed is written");
    }
    let before = all_events(store).await[10].at;
    assert_eq!(store.prune_events(before, 4).await, Ok(4));
    let page = store.events(0, 100).await.expect("the store answers");
    assert_eq!((page.oldest, page.newest, page.events.len()), (5, 20, 16));
    assert_eq!(store.prune_events(before, 100).await, Ok(6));
    assert_eq!(store.prune_events(before, 100).await, Ok(0));
    assert_eq!(store.prune_events(Time::MAX, 100).await, Ok(10));
    let page = store.events(0, 100).await.expect("the store answers");
    assert_eq!((page.oldest, page.newest, page.events.len()), (21, 20, 0));
    assert_eq!(store.record(deed).await, Ok(21));
    assert_eq!(all_events(store).await.len(), 1);
}

/// Things that edges keep: replaced by key, apart by shelf, gone when expired, each change with its deed or without.
pub async fn things_are_kept_until_they_expire(store: &dyn Store) {
    let owner = PrincipalName::parse("alice").expect("a name");
    let now = store.now().await.expect("a clock");
    let thing = |shelf, key: &str, text: &str, expires| Keepsake {
        shelf,
        key: key.to_owned(),
        owner: owner.clone(),
        text: text.to_owned(),
        created: Time::EPOCH,
        expires,
    };
    let deed = |kind| Deed { kind, actor: Actor::Principal(owner.clone()), session: None, facts: BTreeMap::new() };
    let later = Some(now.plus(Duration::from_secs(3600)));
    let first = store.keep(thing("a", "k1", "one", later), Some(deed(AuditKind::LinkCreated))).await.expect("kept");
    assert!(first.created >= now, "by the store's clock");
    assert_eq!(store.kept("a", "k1").await, Ok(Some(first.clone())));
    assert_eq!(store.kept("b", "k1").await, Ok(None), "another shelf");
    store.keep(thing("b", "k1", "other", None), None).await.expect("kept");
    let second = store.keep(thing("a", "k2", "two", None), None).await.expect("kept");
    assert_eq!(store.all_kept("a").await, Ok(vec![first, second.clone()]));
    let again = store.keep(thing("a", "k1", "uno", None), None).await.expect("replaced");
    assert_eq!(store.kept("a", "k1").await.map(|kept| kept.map(|kept| kept.text)), Ok(Some("uno".to_owned())));
    assert_eq!(store.all_kept("a").await, Ok(vec![second, again]), "oldest first");
    store.keep(thing("a", "k3", "past", Some(now)), None).await.expect("kept");
    assert_eq!(store.kept("a", "k3").await, Ok(None), "it has expired");
    assert_eq!(store.all_kept("a").await.map(|all| all.len()), Ok(2));
    assert_eq!(store.prune_kept(10).await, Ok(1));
    assert_eq!(store.forget("a", "k1", Some(deed(AuditKind::LinkDeleted))).await, Ok(true));
    assert_eq!(store.forget("a", "k1", Some(deed(AuditKind::LinkDeleted))).await, Ok(false), "nothing to tell of");
    assert_eq!(store.kept("b", "k1").await.map(|kept| kept.is_some()), Ok(true));
    let events = store.events(0, 100).await.expect("events").events;
    let kinds: Vec<AuditKind> = events.iter().map(|event| event.deed.kind).collect();
    assert_eq!(kinds, [AuditKind::LinkCreated, AuditKind::LinkDeleted]);
    for at in 1..Keepsake::PER_OWNER_MAX {
        store.keep(thing("b", &format!("n{at}"), "x", None), None).await.expect("there is room");
    }
    let refused = store.keep(thing("b", "one more", "x", None), None).await;
    assert!(matches!(refused, Err(Refusal::LimitReached { .. })), "{refused:?}");
    store.keep(thing("b", "n1", "y", None), None).await.expect("in the place of another");
    let others = Keepsake { owner: PrincipalName::parse("bob").expect("a name"), ..thing("b", "his", "x", None) };
    store.keep(others, None).await.expect("another's room is another's");
    for wrong in [thing("a", "", "x", None), thing("a", &"k".repeat(Keepsake::KEY_BYTES_MAX + 1), "x", None)] {
        let refused = store.keep(wrong, None).await;
        assert!(matches!(refused, Err(Refusal::Invalid { .. })), "{refused:?}");
    }
}
