//! What every archive has to do, whichever database it stands on.

use crate::ports::{Archive, Store};
use crate::recording::{Act, ActKind, Head, Kept, LogKind, LogPlace, Rule, Search, Source};
use crate::session::{Activity, Actor, Draft, EndReason, Ending, Event};
use crate::testkit::store::draft;
use crate::{NodeId, PrincipalName, Refusal, SessionId, TargetName, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// Calls the macro named `$each` with the names of all cases: `each! { case_one case_two … }`.
#[macro_export]
macro_rules! for_each_archive_case {
    ($each:ident) => {
        $each! {
            what_was_done_is_kept_and_replaced
            acts_are_found_by_their_words
            a_search_is_no_language
            holds_and_retention
            what_is_claimed_for_removal_cannot_be_held
            a_recording_that_is_made_can_be_held
            a_session_stays_as_long_as_its_recording
            output_is_due_until_each_place_has_it
        }
    };
}

fn kept(owner: &str, random: u64, texts: &[(ActKind, &str)]) -> Kept {
    let draft = draft(owner, random, &NodeId::new(1), 1);
    let act = |(at, (kind, text)): (usize, &(ActKind, &str))| Act {
        at: Duration::from_secs(at as u64),
        kind: *kind,
        source: Source::Told,
        text: (*text).to_owned(),
        facts: BTreeMap::from([("exit_status".to_owned(), at.to_string())]),
    };
    Kept {
        head: Head {
            session: draft.id,
            principal: draft.principal,
            target: TargetName::parse("web-1").expect("a name"),
            login: None,
            began: Time::from_micros(1_000_000 * i64::try_from(random).expect("small")),
            rule: Rule::default(),
        },
        digest: "ab".repeat(32),
        bytes: 7,
        lasted: Duration::from_secs(9),
        acts: texts.iter().enumerate().map(act).collect(),
    }
}

fn search(text: &str) -> Search {
    Search { text: text.to_owned(), principal: None, target: None, from: None, before: None, limit: 10 }
}

async fn found(archive: &dyn Archive, search: &Search) -> Vec<String> {
    archive.search(search).await.expect("a search is answered").into_iter().map(|found| found.act.text).collect()
}

/// Acts come back as they were noted, without the screens; noting again replaces them.
pub async fn what_was_done_is_kept_and_replaced<S: Archive + Store>(archive: &S) {
    let first = kept("alice", 1, &[(ActKind::Command, "ls -l"), (ActKind::Screen, "total 0"), (ActKind::Exec, "id")]);
    let id = first.head.session.clone();
    assert_eq!(archive.entry(&id).await, Ok(None));
    archive.note(&first, Time::from_micros(5)).await.expect("noted");
    archive.note(&first, Time::from_micros(6)).await.expect("noted again");
    let acts = archive.acts(&id, 0, 10).await.expect("listed");
    assert_eq!(acts, [first.acts[0].clone(), first.acts[2].clone()]);
    assert_eq!(archive.acts(&id, 0, 1).await.expect("listed"), first.acts[..1]);
    assert_eq!(archive.acts(&id, 1, 1).await.expect("listed"), first.acts[2..]);
    assert_eq!(archive.acts(&id, 2, 1).await.expect("listed"), []);
    let entry = archive.entry(&id).await.expect("answered").expect("known");
    assert_eq!((entry.bytes, entry.lasted, entry.keep_until), (7, Duration::from_secs(9), Time::from_micros(6)));
    assert_eq!(found(archive, &search("total")).await, ["total 0"], "once, also after noting twice");
}

/// All words must be there; the newest come first; owner and time narrow it.
pub async fn acts_are_found_by_their_words<S: Archive + Store>(archive: &S) {
    for (owner, random, text) in
        [("alice", 10, "cat /etc/passwd"), ("bob", 20, "rm -rf /etc/nginx"), ("alice", 30, "vim /etc/hosts")]
    {
        archive.note(&kept(owner, random, &[(ActKind::Command, text)]), Time::EPOCH).await.expect("noted");
    }
    assert_eq!(found(archive, &search("etc")).await, ["vim /etc/hosts", "rm -rf /etc/nginx", "cat /etc/passwd"]);
    assert_eq!(found(archive, &search("ETC hosts")).await, ["vim /etc/hosts"]);
    assert_eq!(found(archive, &search("/etc/pass*")).await, ["cat /etc/passwd"]);
    assert!(found(archive, &search("etc absent")).await.is_empty());
    let alice = Some(PrincipalName::parse("alice").expect("a name"));
    let of_alice = Search { principal: alice, limit: 1, ..search("etc") };
    assert_eq!(found(archive, &of_alice).await, ["vim /etc/hosts"]);
    for (target, count) in [("web-1", 3), ("WEB-1", 3), ("web-2", 0)] {
        let target = Some(TargetName::parse(target).expect("a name"));
        assert_eq!(found(archive, &Search { target, ..search("etc") }).await.len(), count);
    }
    let at = |seconds: i64| Some(Time::from_micros(seconds * 1_000_000));
    let between = Search { from: at(15), before: at(30), ..search("etc") };
    assert_eq!(found(archive, &between).await, ["rm -rf /etc/nginx"]);
}

/// Whatever is asked for is words, and a question without any is refused.
pub async fn a_search_is_no_language<S: Archive + Store>(archive: &S) {
    archive.note(&kept("alice", 1, &[(ActKind::Command, "echo \"a\" OR NOT b*c")]), Time::EPOCH).await.expect("noted");
    for text in ["\"", "a OR zzz", "NOT zzz", "text : a", "a NEAR zzz", "(a", "a) zzz", "-a zzz", "*"] {
        match archive.search(&search(text)).await {
            Ok(found) => assert!(found.is_empty() || text == "(a", "{text}"),
            Err(refusal) => assert!(matches!(refusal, Refusal::Invalid { .. }), "{text}: {refusal:?}"),
        }
    }
    for text in [" ", "a\0b", "a \u{1b}"] {
        assert!(matches!(archive.search(&search(text)).await, Err(Refusal::Invalid { .. })), "{text:?}");
    }
    assert_eq!(archive.search(&search("a\tb\n")).await.expect("two words").len(), 1);
    let none = Search { limit: 0, ..search("a") };
    assert!(matches!(archive.search(&none).await, Err(Refusal::Invalid { .. })));
}

/// What is held does not expire; what was removed is forgotten and cannot be held.
pub async fn holds_and_retention<S: Archive + Store>(archive: &S) {
    let (one, two) = (kept("alice", 1, &[(ActKind::Command, "one")]), kept("bob", 2, &[]));
    archive.note(&one, Time::from_micros(10)).await.expect("noted");
    archive.note(&two, Time::from_micros(20)).await.expect("noted");
    let ids = async |now: i64| archive.expired(Time::from_micros(now), 10).await.expect("answered");
    let (one, two): (SessionId, SessionId) = (one.head.session, two.head.session);
    assert_eq!(ids(10).await, []);
    assert_eq!(ids(11).await, std::slice::from_ref(&one));
    assert_eq!(ids(99).await, [one.clone(), two.clone()]);
    let by = Actor::Principal(PrincipalName::parse("olga").expect("a name"));
    let held = archive.hold(&one, Some("case 7"), &by).await.expect("held");
    assert_eq!(held.hold.as_deref(), Some("case 7"));
    assert_eq!(ids(99).await, std::slice::from_ref(&two));
    archive.hold(&one, None, &by).await.expect("released");
    assert_eq!(ids(99).await.len(), 2);
    archive.removed(&one).await.expect("removed");
    archive.removed(&one).await.expect("removing again changes nothing");
    assert_eq!(ids(99).await, [two]);
    assert!(archive.entry(&one).await.expect("answered").expect("still known").removed);
    assert!(archive.acts(&one, 0, 10).await.expect("answered").is_empty());
    assert!(found(archive, &search("one")).await.is_empty());
    assert!(matches!(archive.hold(&one, Some("late"), &by).await, Err(Refusal::NotFound { .. })));
    let events = archive.events(0, 100).await.expect("a record").events;
    let kinds: Vec<&str> = events.iter().map(|event| event.deed.kind.word()).collect();
    assert_eq!(kinds, ["recording_held", "recording_released", "recording_removed"]);
    assert_eq!(events[0].deed.facts["owner"], "alice");
}

/// Whoever holds a recording before it is claimed keeps it, and whoever comes later is told so.
pub async fn what_is_claimed_for_removal_cannot_be_held<S: Archive + Store>(archive: &S) {
    let all: Vec<Kept> = (1..=3).map(|random| kept("alice", random, &[(ActKind::Command, "one")])).collect();
    for (kept, until) in all.iter().zip([10, 20, 30]) {
        archive.note(kept, Time::from_micros(until)).await.expect("noted");
    }
    let ids: Vec<SessionId> = all.into_iter().map(|kept| kept.head.session).collect();
    let (now, by) = (Time::from_micros(25), Actor::Principal(PrincipalName::parse("olga").expect("a name")));
    assert_eq!(archive.expired(now, 10).await.expect("answered"), ids[..2]);
    archive.hold(&ids[1], Some("case 7"), &by).await.expect("held");
    assert_eq!(archive.claim(&ids[0], now).await, Ok(true));
    assert_eq!(archive.claim(&ids[0], now).await, Ok(true), "again");
    assert_eq!(archive.claim(&ids[1], now).await, Ok(false), "it is held");
    assert_eq!(archive.claim(&ids[2], now).await, Ok(false), "its time has not come");
    let late = archive.hold(&ids[0], Some("case 7"), &by).await;
    assert!(matches!(late, Err(Refusal::NotFound { .. })), "{late:?}");
    let entry = archive.entry(&ids[0]).await.expect("answered").expect("known");
    assert_eq!((entry.removed, entry.keep_until), (true, Time::from_micros(10)));
    // A removal that went wrong is tried again, after the others.
    archive.hold(&ids[1], None, &by).await.expect("released");
    assert_eq!(archive.expired(now, 10).await.expect("answered"), [ids[1].clone(), ids[0].clone()]);
    assert_eq!(archive.expired(now, 1).await.expect("answered"), [ids[1].clone()]);
    archive.removed(&ids[0]).await.expect("removed");
    assert_eq!(archive.claim(&ids[0], now).await, Ok(false), "it is gone");
    assert_eq!(archive.expired(now, 10).await.expect("answered"), [ids[1].clone()]);
    let entry = archive.entry(&ids[0]).await.expect("answered").expect("known");
    assert_eq!((entry.removed, entry.keep_until), (true, Time::from_micros(10)));
}

/// A hold may come before the recording is whole, and stays.
pub async fn a_recording_that_is_made_can_be_held<S: Archive + Store>(archive: &S) {
    let node = NodeId::new(1);
    let epoch = archive.start_node(&node).await.expect("a node starts").epoch;
    let by = Actor::Principal(PrincipalName::parse("olga").expect("a name"));
    let whole = kept("alice", 1, &[(ActKind::Command, "one")]);
    let id = &whole.head.session;
    archive.open(draft("alice", 1, &node, epoch)).await.expect("opened");
    let early = archive.hold(id, Some("case 7"), &by).await;
    assert!(matches!(early, Err(Refusal::NotFound { .. })), "nothing is recorded: {early:?}");
    archive.apply(id, vec![Event::RecordingBegan]).await.expect("recorded");
    archive.hold(id, Some("case 6"), &by).await.expect("held");
    archive.hold(id, None, &by).await.expect("released");
    assert_eq!(archive.entry(id).await, Ok(None));
    let held = archive.hold(id, Some("case 7"), &by).await.expect("held again");
    assert_eq!((held.hold.as_deref(), held.bytes), (Some("case 7"), 0));
    assert_eq!(archive.entry(id).await, Ok(Some(held)));
    assert_eq!(archive.expired(Time::MAX, 10).await, Ok(Vec::new()));
    archive.note(&whole, Time::from_micros(5)).await.expect("noted");
    let entry = archive.entry(id).await.expect("answered").expect("known");
    assert_eq!((entry.hold.as_deref(), entry.bytes, entry.keep_until), (Some("case 7"), 7, Time::from_micros(5)));
    assert_eq!(archive.acts(id, 0, 10).await.expect("listed"), whole.acts);
    assert_eq!(archive.claim(id, Time::MAX).await, Ok(false));
    archive.hold(id, None, &by).await.expect("released");
    assert_eq!(archive.expired(Time::MAX, 10).await.expect("answered"), std::slice::from_ref(id));
    let events = archive.events(0, 100).await.expect("a record").events;
    let held = events.iter().find(|event| event.deed.kind.word() == "recording_held").expect("on record");
    assert_eq!((held.deed.facts["owner"].as_str(), held.deed.facts["reason"].as_str()), ("alice", "case 6"));
    assert!(held.deed.facts.contains_key("target"));
}

/// A row is not pruned from under a recording that somebody may still want to play.
pub async fn a_session_stays_as_long_as_its_recording<S: Archive + Store>(archive: &S) {
    let node = NodeId::new(1);
    let epoch = archive.start_node(&node).await.expect("a node starts").epoch;
    for random in [1, 2] {
        let session = archive.open(draft("alice", random, &node, epoch)).await.expect("opened");
        let ending = Ending::new(EndReason::TargetClosed, Actor::System, "");
        let events = vec![Event::End { ending }, Event::Closed { activity: Activity::default() }];
        archive.apply(session.id(), events).await.expect("ended");
    }
    let one = kept("alice", 1, &[]);
    archive.note(&one, Time::EPOCH).await.expect("noted");
    let later = archive.now().await.expect("a time").plus(Duration::from_secs(1));
    assert_eq!(archive.prune_sessions(later, 10).await, Ok(1));
    let id = one.head.session;
    assert!(archive.session(&id).await.expect("answered").is_some());
    archive.removed(&id).await.expect("removed");
    assert_eq!(archive.prune_sessions(later, 10).await, Ok(1));
    assert!(archive.session(&id).await.expect("answered").is_none());
}

/// The output of a session is due once it is over and its recording settled, for each place until that has it; neither
/// the row nor the recording goes before.
pub async fn output_is_due_until_each_place_has_it<S: Archive + Store>(archive: &S) {
    let node = NodeId::new(1);
    let epoch = archive.start_node(&node).await.expect("a node starts").epoch;
    let place = |kind, holder: &str| LogPlace {
        kind,
        holder: holder.to_owned(),
        prefix: "a/b".to_owned(),
        url: "https://logs.example.org".to_owned(),
        streams: kind == LogKind::Stream,
    };
    let places = vec![place(LogKind::Object, "kept"), place(LogKind::Stream, "/kept")];
    let logged = Draft { logs: places.clone(), ..draft("alice", 1, &node, epoch) };
    let id = archive.open(logged).await.expect("opened").draft.id;
    let other = archive.open(draft("alice", 2, &node, epoch)).await.expect("opened");
    let due = async || {
        let mut due = Vec::new();
        for place in archive.logs_behind().await.expect("answered") {
            let sessions = archive.logs_due(place.kind, &place.holder, 10).await.expect("answered");
            assert_eq!((sessions.len() as u64, sessions[0].ended()), (place.sessions, Some(place.oldest)), "{place:?}");
            due.extend(sessions.iter().map(|session| (session.draft.id.clone(), place.kind)));
        }
        due
    };
    assert_eq!(archive.logs_waiting().await, Ok(2));
    let recorded = vec![Event::RecordingBegan];
    archive.apply(&id, recorded).await.expect("recorded");
    for session in [&id, &other.draft.id] {
        let ending = Ending::new(EndReason::ClientClosed, Actor::System, "");
        let end = vec![Event::End { ending }, Event::Closed { activity: Activity::default() }];
        archive.apply(session, end).await.expect("ended");
    }
    assert_eq!(due().await, [], "its recording is not whole yet");
    let mut whole = kept("alice", 1, &[]);
    whole.head.session = id.clone();
    archive.note(&whole, Time::from_micros(1)).await.expect("noted");
    archive.apply(&id, vec![Event::RecordingKept { digest: whole.digest }]).await.expect("kept");
    assert_eq!(due().await, [(id.clone(), LogKind::Object), (id.clone(), LogKind::Stream)]);
    assert_eq!(archive.logs_due(LogKind::Object, "kept", 0).await, Ok(Vec::new()));
    assert_eq!(archive.logs_due(LogKind::Object, "/kept", 10).await, Ok(Vec::new()), "of another kind");
    let stored = archive.session(&id).await.expect("answered").expect("there");
    assert_eq!(stored.draft.logs, places);
    let later = archive.now().await.expect("a clock").plus(Duration::from_secs(1));
    assert_eq!(archive.expired(later, 10).await.expect("answered"), []);
    archive.log_done(&id, LogKind::Stream).await.expect("done");
    archive.log_done(&id, LogKind::Stream).await.expect("doing it again changes nothing");
    assert_eq!(due().await, [(id.clone(), LogKind::Object)]);
    archive.removed(&id).await.expect("removed");
    archive.prune_sessions(later, 10).await.expect("pruned");
    assert!(archive.session(&id).await.expect("answered").is_some(), "the row is still needed");
    archive.log_done(&id, LogKind::Object).await.expect("done");
    assert_eq!((due().await, archive.logs_waiting().await), (Vec::new(), Ok(0)));
    archive.prune_sessions(later, 10).await.expect("pruned");
    assert_eq!(archive.session(&id).await, Ok(None));
}
