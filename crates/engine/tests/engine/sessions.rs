//! The engine as an edge sees it: admission, confirmed ends, limits, reloads, stops; over the default store.

use async_trait::async_trait;
use ravelin_engine::control::Termination;
use ravelin_engine::gate::{Admission, Ask};
use ravelin_engine::identity::{SignatureRefusal, Signed};
use ravelin_engine::leg::Leg;
use ravelin_engine::relay::{Flow, ReadSource, WriteSink};
use ravelin_engine::testkit::{FakeLeg, PolicyFn, principal, rules, target};
use ravelin_engine::{Caller, Config, Contact, Engine, MasterKey, Rules, SessionLimits};
use ravelin_model::audit::{AuditKind, Deed, label_fact};
use ravelin_model::credential::{Credential, CredentialKind};
use ravelin_model::meter::{Sample, Value};
use ravelin_model::policy::{Action, Question, Resource, Scope};
use ravelin_model::ports::{Applied, EventPage, Ledger, NodeStart, Sinks, Store};
use ravelin_model::query::{EventFilter, Page, SessionFilter, SessionQuery};
use ravelin_model::session::{Activity, Actor, Aged, Draft, EndReason, Ending, Event, Kind, Session, State};
use ravelin_model::sink::SinkStatus;
use ravelin_model::testkit::store::draft;
use ravelin_model::{
    CredentialId, Keepsake, Login, NodeId, Principal, PrincipalName, Refusal, SessionId, Target, Time,
};
use ravelin_store::SqliteStore;
use secrecy::ExposeSecret;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const ALICE_KEY: &str = "ssh-ed25519 ALICE";
const BOB_KEY: &str = "ssh-ed25519 BOB";

fn person(name: &str, groups: &[&str], key: &str) -> Principal {
    Principal { ssh_keys: vec![key.to_owned()], ..principal(name, groups) }
}

/// Operators do everything; others connect where their group is, and see and end their own.
fn decide(question: &Question<'_>) -> Option<bool> {
    let groups = &question.principal.groups;
    if groups.iter().any(|g| g.as_str() == "operators") {
        return Some(true);
    }
    Some(match question.resource {
        Resource::Target(target) => !target.shared_with.is_disjoint(groups),
        Resource::Session { owner, .. } => *owner == question.principal.name,
        Resource::Scope(scope) => scope == Scope::Own && question.action != Action::IssueCredential,
        Resource::Bastion => true,
    })
}

fn small_rules() -> Rules {
    rules(
        vec![person("alice", &["operators", "web"], ALICE_KEY), person("bob", &["web"], BOB_KEY)],
        vec![
            Target {
                labels: BTreeMap::from([("zone".to_owned(), "z1".to_owned())]),
                ..target("web-1", "127.0.0.1", 1, &["web"])
            },
            target("db-1", "127.0.0.1", 1, &["db"]),
        ],
        Arc::new(PolicyFn(decide)),
    )
}

fn config() -> Config {
    Config::new(NodeId::parse("node-00000001").expect("a node's id"))
}

struct World {
    engine: Engine,
    store: Arc<Flaky>,
}

impl World {
    async fn new() -> Self {
        Self::with(config()).await
    }

    async fn with(config: Config) -> Self {
        let inner = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
        let store = Arc::new(Flaky { inner, broken: AtomicBool::new(false), stuck: watch::Sender::new(false) });
        let engine =
            Engine::start(Arc::clone(&store) as Arc<dyn Store>, small_rules(), MasterKey::new([7; 32]), config)
                .await
                .expect("the engine starts");
        World { engine, store }
    }

    async fn caller(&self, name: &str) -> Caller {
        let key = if name == "alice" { ALICE_KEY } else { BOB_KEY };
        self.engine.identity.ssh_key(name, key, contact()).await.expect("a known key")
    }

    async fn open(&self, who: &Caller, leg: &Arc<FakeLeg>) -> Admission {
        let admission = self.try_open(who, leg).await.expect("admitted");
        admission.connected().await.expect("connected");
        admission
    }

    async fn try_open(&self, who: &Caller, leg: &Arc<FakeLeg>) -> Result<Admission, Refusal> {
        let target = self.engine.gate.find(who, "web-1")?;
        let login = Some(Login::parse("root").expect("a login"));
        let client = Arc::clone(leg) as Arc<dyn Leg>;
        let ask = Ask { target, login, kind: Kind::Shell, document: None, reason: None, logs: Vec::new(), client };
        self.engine.gate.admit(who, ask).await
    }

    /// Takes the store away, or gives it back: it hangs, or it refuses.
    fn away(&self, hangs: bool, is_away: bool) {
        if hangs {
            self.store.stuck.send_replace(is_away);
        } else {
            self.store.broken.store(is_away, Ordering::SeqCst);
        }
    }

    async fn row(&self, id: &SessionId) -> Session {
        self.store.inner.session(id).await.expect("readable").expect("a row")
    }
}

fn contact() -> Contact {
    Contact { address: SocketAddr::from(([192, 0, 2, 7], 4711)), software: "test".to_owned() }
}

const WAIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_kill_is_confirmed_told_and_on_record() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let (client, far) = (FakeLeg::new(), FakeLeg::new());
    let admission = world.open(&bob, &client).await;
    admission.attach_target(far.clone());
    let id = admission.session().clone();
    let live = world.engine.control.list(&alice, SessionQuery::first(SessionFilter::live(), 10)).await.expect("listed");
    assert_eq!(live.items.len(), 1);
    assert_eq!(live.items[0].state(), State::Connected);

    let outcome = world.engine.control.terminate(&alice, &id, "rotating keys", WAIT).await.expect("permitted");
    let Termination::Confirmed { ending, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(ending.reason, EndReason::DisconnectedByOperator);
    assert!(client.is_closed() && far.is_closed(), "both sockets are closed before the answer");
    assert_eq!(client.said(), ["disconnected by alice: rotating keys"]);
    let row = world.row(&id).await;
    assert_eq!(row.state(), State::Terminated);
    assert_eq!(row.ending().expect("a cause").actor.to_string(), "alice");
    assert_eq!(world.engine.live_count(), 0);

    let again = world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("idempotent");
    assert!(matches!(again, Termination::AlreadyEnded { .. }), "{again:?}");
    let kinds: Vec<AuditKind> =
        world.store.events(0, 100).await.expect("a record").events.into_iter().map(|e| e.deed.kind).collect();
    let of_session =
        [AuditKind::SessionOpened, AuditKind::SessionConnected, AuditKind::SessionEnding, AuditKind::SessionEnded];
    assert_eq!(kinds.iter().filter(|k| of_session.contains(k)).copied().collect::<Vec<_>>(), of_session);
    drop(admission);
}

#[tokio::test]
async fn a_socket_that_stays_open_is_never_reported_as_closed() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    let client = FakeLeg::stuck();
    let admission = world.open(&alice, &client).await;
    let id = admission.session().clone();
    let brief = Duration::from_millis(50);
    let outcome = world.engine.control.terminate(&alice, &id, "", brief).await.expect("permitted");
    assert!(matches!(outcome, Termination::Pending { .. }), "{outcome:?}");
    assert_eq!(world.row(&id).await.state(), State::Terminating);
    client.release();
    let outcome = world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("permitted");
    assert!(matches!(outcome, Termination::Confirmed { .. } | Termination::AlreadyEnded { .. }), "{outcome:?}");
    assert_eq!(world.row(&id).await.state(), State::Terminated);
}

#[tokio::test]
async fn a_target_is_cut_off_before_a_client_that_does_not_listen_is_told() {
    let world = World::with(Config { farewell_max: Duration::from_secs(3600), ..config() }).await;
    let alice = world.caller("alice").await;
    let (client, far) = (FakeLeg::deaf(), FakeLeg::new());
    let admission = world.open(&alice, &client).await;
    admission.attach_target(far.clone());
    let id = admission.session().clone();
    let outcome = world.engine.control.terminate(&alice, &id, "", Duration::ZERO).await.expect("permitted");
    assert!(matches!(outcome, Termination::Pending { .. }), "{outcome:?}");
    tokio::time::timeout(WAIT, far.closed()).await.expect("the target is cut off");
    assert!(!client.is_closed());
    client.release();
    let outcome = world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("permitted");
    assert!(matches!(outcome, Termination::Confirmed { .. } | Termination::AlreadyEnded { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_kill_goes_on_when_whoever_asked_for_it_leaves() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    for _ in 0..20 {
        let client = FakeLeg::new();
        let admission = world.open(&alice, &client).await;
        let id = admission.session().clone();
        // Polled once, then dropped: the wish is on its way at most.
        let asked = Box::pin(world.engine.control.terminate(&alice, &id, "", WAIT));
        let _left = tokio::time::timeout(Duration::from_micros(300), asked).await;
        if world.row(&id).await.state() == State::Terminating {
            assert_eq!(admission.ending().await.reason, EndReason::DisconnectedByOperator);
        }
        assert_ne!(admission.end(EndReason::ClientClosed, "").await.reason, EndReason::InternalError);
        assert!(client.is_closed());
    }
}

#[tokio::test]
async fn a_copy_of_the_record_can_be_narrowed_by_actors_reasons_and_labels() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    for reason in [EndReason::TargetClosed, EndReason::ClientClosed, EndReason::IdleLimit] {
        world.open(&alice, &FakeLeg::new()).await.end(reason, "").await;
    }
    let facts = |name: &str, values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        EventFilter { facts: BTreeMap::from([(name.to_owned(), values)]), ..EventFilter::default() }
    };
    let by = |actor: &str| EventFilter { actor: Some(actor.to_owned()), ..EventFilter::default() };
    let cases = [
        (facts("end_reason", &["target_closed", "client_closed"]), 2),
        (facts("end_reason", &["duration_limit"]), 0),
        (facts(&label_fact("zone"), &["z1"]), 3),
        (facts(&label_fact("zone"), &["z2"]), 0),
        (by("target:web-1"), 1),
        (by("system"), 1),
        (by("bob"), 0),
    ];
    for (filter, count) in cases {
        let filter = EventFilter { kinds: BTreeSet::from([AuditKind::SessionEnded]), ..filter };
        let (page, _) = world.engine.control.export(&alice, &filter, 0, 1000).await.expect("a copy");
        assert_eq!(page.entries.len(), count, "{filter}");
    }
}

#[tokio::test]
async fn others_sessions_are_not_found_and_never_ended() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let admission = world.open(&alice, &FakeLeg::new()).await;
    let id = admission.session().clone();
    let refused = world.engine.control.terminate(&bob, &id, "", WAIT).await;
    assert!(matches!(refused, Err(Refusal::NotFound { .. })), "{refused:?}");
    let mine = world.engine.control.list(&bob, SessionQuery::first(SessionFilter::live(), 10)).await.expect("own");
    assert!(mine.items.is_empty());
    assert!(matches!(world.engine.gate.find(&bob, "db-1"), Err(Refusal::NotFound { .. })));
    assert_eq!(
        world.engine.gate.find(&bob, "db-1").err().map(|e| e.to_string().replace("db-1", "x")),
        world.engine.gate.find(&bob, "db-9").err().map(|e| e.to_string().replace("db-9", "x")),
    );
    assert_eq!(world.row(&id).await.state(), State::Connected);
}

#[tokio::test]
async fn a_list_shows_only_what_its_reader_may_read() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let _hers = world.open(&alice, &FakeLeg::new()).await;
    let _his = world.open(&bob, &FakeLeg::new()).await;
    let mut hiding = small_rules();
    hiding.policy = Arc::new(PolicyFn(|question: &Question<'_>| match question.resource {
        Resource::Session { owner, .. } => Some(owner.as_str() == "bob"),
        Resource::Target(_) | Resource::Scope(_) | Resource::Bastion => Some(true),
    }));
    world.engine.reload(hiding).await.expect("reloaded");
    let page = world.engine.control.list(&alice, SessionQuery::first(SessionFilter::live(), 10)).await.expect("listed");
    let owners: Vec<&str> = page.items.iter().map(|s| s.draft.principal.as_str()).collect();
    assert_eq!(owners, ["bob"]);
}

#[tokio::test]
async fn a_dropped_admission_ends_its_session_with_a_cause() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    let admission = world.open(&bob, &FakeLeg::new()).await;
    let id = admission.session().clone();
    drop(admission);
    world.engine.stop(Duration::from_secs(5)).await.expect("stopped");
    assert_eq!(world.row(&id).await.ending().expect("a cause").reason, EndReason::InternalError);
}

#[tokio::test]
async fn a_natural_end_keeps_its_reason_and_a_failed_dial_is_failed() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    let admission = world.open(&bob, &FakeLeg::new()).await;
    let id = admission.session().clone();
    let ending = admission.end(EndReason::ClientClosed, "exit status 0").await;
    assert_eq!(ending.detail, "exit status 0");
    assert_eq!(world.row(&id).await.ending().expect("a cause").actor.to_string(), "bob");

    let client = FakeLeg::new();
    let admission = world.try_open(&bob, &client).await.expect("admitted");
    let id = admission.session().clone();
    admission.end(EndReason::TargetUnreachable, "connection refused").await;
    let row = world.row(&id).await;
    assert_eq!(row.state(), State::Failed);
    assert_eq!(client.said(), ["cannot reach the target: connection refused"]);
}

#[tokio::test]
async fn a_kill_works_while_the_policy_engine_is_down() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let admission = world.open(&bob, &FakeLeg::new()).await;
    let id = admission.session().clone();
    let mut down = small_rules();
    down.policy = Arc::new(PolicyFn(|_: &Question<'_>| None));
    let ended = world.engine.reload(down).await.expect("reloaded");
    assert_eq!(ended, 0, "an engine that cannot answer takes no rights away");
    assert!(world.try_open(&alice, &FakeLeg::new()).await.is_err(), "nothing opens without an engine");
    let outcome = world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("operators still may");
    assert!(matches!(outcome, Termination::Confirmed { .. }), "{outcome:?}");
}

#[tokio::test]
async fn a_kill_works_while_the_store_is_down_and_the_row_follows() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let client = FakeLeg::new();
    let admission = world.open(&bob, &client).await;
    let id = admission.session().clone();
    world.store.broken.store(true, Ordering::SeqCst);
    let brief = Duration::from_millis(100);
    let outcome = world.engine.control.terminate(&alice, &id, "", brief).await.expect("permitted");
    assert!(matches!(outcome, Termination::Pending { .. }), "the row is not closed yet: {outcome:?}");
    assert!(client.is_closed(), "the sockets are");
    world.store.broken.store(false, Ordering::SeqCst);
    let outcome = world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("permitted");
    assert!(matches!(outcome, Termination::Confirmed { .. } | Termination::AlreadyEnded { .. }), "{outcome:?}");
    assert_eq!(world.row(&id).await.ending().expect("a cause").reason, EndReason::DisconnectedByOperator);
    let refused = {
        world.store.broken.store(true, Ordering::SeqCst);
        world.try_open(&bob, &FakeLeg::new()).await.err()
    };
    assert!(matches!(refused, Some(Refusal::Unavailable { .. })), "no session without a durable row: {refused:?}");
    assert_eq!(world.engine.live_count(), 0);
}

#[tokio::test]
async fn the_end_is_the_moment_of_closing_however_late_the_store_hears_of_it() {
    let mut impatient = config();
    impatient.store_wait_max = Duration::from_secs(1);
    for hangs in [false, true] {
        let world = World::with(impatient.clone()).await;
        let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
        let client = FakeLeg::new();
        let killed = world.open(&bob, &client).await;
        let unreached = world.try_open(&bob, &FakeLeg::new()).await.expect("admitted");
        let ids = [killed.session().clone(), unreached.session().clone()];
        // Bytes that nobody has looked at yet must not move the end to the time of the look.
        let mut sink = WriteSink::new(tokio::io::sink());
        killed.relay().pump(Flow::Out, &mut ReadSource::new(&b"bytes"[..]), &mut sink).await;
        let before = world.store.inner.now().await.expect("its clock");
        world.away(hangs, true);
        let unreached = tokio::spawn(unreached.end(EndReason::TargetUnreachable, "timed out"));
        let outcome = world.engine.control.terminate(&alice, &ids[0], "", Duration::from_millis(100)).await;
        let Ok(Termination::Pending { because }) = outcome else { panic!("{outcome:?}") };
        assert!(because.starts_with("both sockets are closed"), "{because}");
        let closed = world.store.inner.now().await.expect("its clock");
        // Long enough for the reaper to come by.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        world.away(hangs, false);
        let outcome = world.engine.control.terminate(&alice, &ids[0], "", WAIT).await.expect("permitted");
        let row = world.row(&ids[0]).await;
        let ended = row.ended().expect("it has ended");
        match outcome {
            Termination::Confirmed { closed: at, .. } | Termination::AlreadyEnded { ended: at, .. } => {
                assert_eq!(at, ended);
            }
            Termination::Pending { because } => panic!("{because}"),
        }
        assert!(before <= ended && ended <= closed, "hangs: {hangs}, {before:?} <= {ended:?} <= {closed:?}");
        assert_eq!(row.activity.bytes_out, 5);
        unreached.await.expect("no panic");
        let row = world.row(&ids[1]).await;
        assert_eq!(row.state(), State::Failed);
        let ended = row.ended().expect("it has ended");
        assert!(before <= ended && ended <= closed, "hangs: {hangs}, {before:?} <= {ended:?} <= {closed:?}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_holds_nobody_and_leaves_no_ghost() {
    let mut impatient = config();
    impatient.store_wait_max = Duration::from_millis(200);
    // Longer than all the answers below take together.
    impatient.idle_max = Some(Duration::from_secs(9));
    let world = World::with(impatient).await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let control = &world.engine.control;
    let client = FakeLeg::new();
    let held = world.open(&bob, &client).await;
    let connecting = world.try_open(&bob, &FakeLeg::new()).await.expect("admitted");
    let (id, other) = (held.session().clone(), connecting.session().clone());
    let token = control.issue_credential(&alice, bob.name(), CredentialKind::Token, "", None).await.expect("issued");
    world.away(true, true);

    let unavailable = |refusal: Option<Refusal>, what: &str| {
        assert!(matches!(refusal, Some(Refusal::Unavailable { .. })), "{what}: {refusal:?}");
    };
    let asking = async {
        let live = SessionQuery::first(SessionFilter::live(), 10);
        unavailable(control.list(&alice, live).await.err(), "list");
        unavailable(control.describe(&alice, &id).await.err(), "describe");
        unavailable(control.events(&alice, 0, 10).await.err(), "events");
        unavailable(control.credentials(&alice).await.err(), "credentials");
        let issued = control.issue_credential(&alice, bob.name(), CredentialKind::Token, "", None).await;
        unavailable(issued.err(), "issue");
        unavailable(control.revoke_credential(&alice, &token.credential.id).await.err(), "revoke");
        unavailable(control.now().await.err(), "now");
        unavailable(control.ready().await.err(), "ready");
        unavailable(world.engine.identity.token(&token.secret, contact()).await.err(), "token");
        unavailable(world.engine.identity.ssh_key("bob", BOB_KEY, contact()).await.err(), "key");
        unavailable(world.try_open(&bob, &FakeLeg::new()).await.err(), "admit");
        unavailable(connecting.connected().await.err(), "connected");
        unavailable(world.engine.reload(small_rules()).await.err(), "reload");
        let unknown = SessionId::parse("bob-07a16060613c408b5").expect("an id");
        unavailable(control.terminate(&alice, &unknown, "", WAIT).await.err(), "terminate of an unknown one");
        // The limits hold without the store.
        assert_eq!(held.ending().await.reason, EndReason::IdleLimit);
        connecting.end(EndReason::TargetUnreachable, "").await
    };
    // Every answer comes while the store hangs; only the last one waits for it, as it has to.
    let answered =
        async { tokio::time::timeout(Duration::from_secs(60), asking).await.expect("nobody waits without end") };
    let back = async {
        while !client.is_closed() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.away(true, false);
    };
    let (ending, ()) = tokio::join!(answered, back);
    assert!(matches!(ending.reason, EndReason::TargetUnreachable | EndReason::IdleLimit), "{ending:?}");

    // What was given up took effect late, or not at all; either way nothing stays behind.
    drop(held);
    assert!(world.row(&other).await.connected().is_some(), "the word of it was written late");
    while world.engine.live_count() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let alive = world.store.inner.sessions(&SessionQuery::first(SessionFilter::live(), 10)).await.expect("readable");
    assert_eq!(alive.items, [], "a row without a connection is a ghost");
    let all = world.store.inner.sessions(&SessionQuery::first(SessionFilter::default(), 10)).await.expect("readable");
    assert_eq!(all.items.len(), 3, "the one whose row came too late is on record as well");
}

#[tokio::test]
async fn figures_tell_what_happened_and_a_ghost_is_found() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let figure = |name: &str, label: &str| -> Option<Value> {
        let family = world.engine.meters.read().into_iter().find(|family| family.name == name).expect("a family");
        let is_it = |sample: &&Sample| label.is_empty() || sample.labels.iter().any(|(_, value)| value == label);
        family.samples.iter().find(is_it).map(|sample| sample.value.clone())
    };
    let killed = world.open(&bob, &FakeLeg::new()).await;
    let kept = world.open(&alice, &FakeLeg::new()).await;
    assert_eq!(figure("ravelin_sessions", "web-1"), Some(Value::Level(2.0)));
    let id = killed.session().clone();
    world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("permitted");
    assert!(world.engine.identity.ssh_key("bob", "ssh-ed25519 WRONG", contact()).await.is_err());
    assert_eq!(figure("ravelin_sessions", "connected"), Some(Value::Level(1.0)));
    assert_eq!(figure("ravelin_sessions_started", "ssh"), Some(Value::Count(2)));
    assert_eq!(figure("ravelin_sessions_ended", "disconnected_by_operator"), Some(Value::Count(1)));
    assert_eq!(figure("ravelin_sessions_ended", "internal_error"), Some(Value::Count(0)));
    assert_eq!(figure("ravelin_logins_refused", "ssh_key"), Some(Value::Count(1)));
    let Some(Value::Spread(kills)) = figure("ravelin_kill_seconds", "") else { panic!("a histogram") };
    assert_eq!(kills.buckets.iter().map(|(_, count)| count).sum::<u64>(), 1);
    kept.disconnected().await.expect("its client is lost");
    assert_eq!(figure("ravelin_sessions", "disconnected"), Some(Value::Level(1.0)));
    assert_eq!(figure("ravelin_sessions", "connected"), None);
    let Some(Value::Spread(opens)) = figure("ravelin_store_seconds", "open") else { panic!("a histogram") };
    assert_eq!(opens.buckets.iter().map(|(_, count)| count).sum::<u64>(), 2);

    assert_eq!(world.engine.look_for_ghosts().await, Ok(0));
    let ghost = draft("bob", 7, &config().node, 1);
    world.store.inner.open(ghost).await.expect("a row that nobody stands behind");
    assert_eq!(world.engine.look_for_ghosts().await, Ok(1));
    assert_eq!(figure("ravelin_ghosts", ""), Some(Value::Level(1.0)));
    assert_eq!(figure("ravelin_ready", ""), Some(Value::Level(1.0)));
    world.away(false, true);
    assert!(world.engine.control.ready().await.is_err());
    assert_eq!(figure("ravelin_ready", ""), Some(Value::Level(0.0)));
    assert_eq!(figure("ravelin_store_failures", "events"), Some(Value::Count(1)));
    world.away(false, false);
    drop(kept);
}

#[tokio::test]
async fn a_row_without_a_connection_is_ended_for_the_first_reason_that_was_given() {
    let world = World::new().await;
    let ghost = draft("bob", 7, &config().node, 1);
    world.store.inner.open(ghost.clone()).await.expect("a row that nobody stands behind");
    let first = Ending::new(EndReason::IdleLimit, Actor::System, "10 min");
    let asked = world.store.inner.apply(&ghost.id, vec![Event::End { ending: first.clone() }]).await;
    assert_eq!(asked.expect("asked to end").session.state(), State::Terminating);
    let alice = world.caller("alice").await;
    let outcome = world.engine.control.terminate(&alice, &ghost.id, "again", WAIT).await.expect("permitted");
    let Termination::Confirmed { ending, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!((Some(&ending), ending.clone()), (world.row(&ghost.id).await.ending(), first));
}

#[tokio::test]
async fn a_kill_that_takes_longer_than_its_caller_waits_is_timed_when_it_is_done() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let leg = FakeLeg::stuck();
    let admission = world.open(&bob, &leg).await;
    let kills = || {
        let family = world.engine.meters.read().into_iter().find(|family| family.name == "ravelin_kill_seconds");
        let Some(Value::Spread(kills)) = family.map(|family| family.samples[0].value.clone()) else { panic!("there") };
        kills.buckets.iter().map(|(_, count)| count).sum::<u64>()
    };
    let short = Duration::from_millis(20);
    let ended = world.engine.control.terminate(&alice, admission.session(), "", short).await.expect("permitted");
    assert!(matches!(ended, Termination::Pending { .. }), "{ended:?}");
    assert_eq!(kills(), 0, "its socket is still open");
    leg.release();
    admission.ending().await;
    while world.engine.live_count() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(kills(), 1);
}

#[tokio::test]
async fn limits_refuse_the_next_and_end_the_idle() {
    let mut config = config();
    config.sessions_per_principal_max = 2;
    config.idle_max = Some(Duration::from_secs(1));
    let world = World::with(config).await;
    let bob = world.caller("bob").await;
    let legs = [FakeLeg::new(), FakeLeg::new()];
    let first = world.open(&bob, &legs[0]).await;
    let second = world.open(&bob, &legs[1]).await;
    let third = world.try_open(&bob, &FakeLeg::new()).await.err();
    assert!(matches!(third, Some(Refusal::LimitReached { .. })), "{third:?}");
    let ending = first.ending().await;
    assert_eq!(ending.reason, EndReason::IdleLimit);
    assert_eq!(ending.actor, Actor::System);
    second.ending().await;
}

#[tokio::test]
async fn a_reload_ends_exactly_the_sessions_whose_rights_are_gone() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let (hers, his) = (FakeLeg::new(), FakeLeg::new());
    let kept = world.open(&alice, &hers).await;
    let cut = world.open(&bob, &his).await;
    let mut without_bob = small_rules();
    without_bob.inventory = rules(
        vec![person("alice", &["operators", "web"], ALICE_KEY), person("bob", &["nobody"], BOB_KEY)],
        vec![target("web-1", "127.0.0.1", 1, &["web"])],
        Arc::new(PolicyFn(decide)),
    )
    .inventory;
    assert_eq!(world.engine.reload(without_bob).await.expect("reloaded"), 1);
    assert_eq!(cut.ending().await.reason, EndReason::RightsRevoked);
    assert!(hers.said().is_empty());
    assert_eq!(world.row(kept.session()).await.state(), State::Connected);
}

#[tokio::test]
async fn a_reload_counts_no_session_that_was_ending_already() {
    let world = World::new().await;
    let leg = FakeLeg::stuck();
    let held = world.open(&world.caller("bob").await, &leg).await;
    let without_bob = || {
        let people = vec![person("alice", &["operators"], ALICE_KEY)];
        rules(people, vec![target("web-1", "127.0.0.1", 1, &["web"])], Arc::new(PolicyFn(decide)))
    };
    assert_eq!(world.engine.reload(without_bob()).await.expect("reloaded"), 1);
    assert_eq!(world.engine.reload(without_bob()).await.expect("reloaded"), 0);
    leg.release();
    assert_eq!(held.end(EndReason::ClientClosed, "").await.reason, EndReason::RightsRevoked);
}

#[tokio::test]
async fn a_further_use_is_judged_by_the_target_as_it_is_now() {
    // Whoever has a shell on a machine in zone z2 forwards nothing there.
    let by_zone = |question: &Question<'_>| match question.resource {
        Resource::Target(target) if question.action == Action::ForwardLocal => {
            Some(target.labels.get("zone").is_some_and(|zone| zone == "z1"))
        }
        _ => decide(question),
    };
    let in_zone = |zone: &str| {
        let labels = BTreeMap::from([("zone".to_owned(), zone.to_owned())]);
        let people = vec![person("bob", &["web"], BOB_KEY)];
        rules(people, vec![Target { labels, ..target("web-1", "127.0.0.1", 1, &["web"]) }], Arc::new(PolicyFn(by_zone)))
    };
    let world = World::new().await;
    world.engine.reload(in_zone("z1")).await.expect("reloaded");
    let held = world.open(&world.caller("bob").await, &FakeLeg::new()).await;
    assert_eq!(world.engine.reload(in_zone("z2")).await.expect("reloaded"), 0, "a shell is still permitted");
    let refused = held.permit(Action::ForwardLocal).await;
    assert!(matches!(refused, Err(Refusal::Denied { .. })), "{refused:?}");
    world.engine.reload(in_zone("z1")).await.expect("reloaded");
    assert_eq!(held.permit(Action::ForwardLocal).await, Ok(()));
}

#[tokio::test]
async fn a_removed_key_shuts_out_whoever_came_in_with_it() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    let held = world.open(&bob, &FakeLeg::new()).await;
    let mut other_key = small_rules();
    other_key.inventory = rules(
        vec![person("alice", &["operators", "web"], ALICE_KEY), person("bob", &["web"], "ssh-ed25519 NEW")],
        vec![target("web-1", "127.0.0.1", 1, &["web"])],
        Arc::new(PolicyFn(decide)),
    )
    .inventory;
    assert_eq!(world.engine.reload(other_key).await.expect("reloaded"), 1);
    assert_eq!(held.ending().await.reason, EndReason::RightsRevoked);
    let again = world.try_open(&bob, &FakeLeg::new()).await.err();
    assert!(matches!(again, Some(Refusal::NotFound { .. })), "{again:?}");
    assert!(world.engine.control.list(&bob, SessionQuery::first(SessionFilter::live(), 10)).await.is_err());
}

#[tokio::test]
async fn a_target_that_became_another_machine_or_lost_the_login_ends_its_sessions() {
    let changes: [fn(&mut ravelin_model::Target); 4] = [
        |t| t.logins.retain(|way| way.login.as_str() != "root"),
        |t| t.address = "127.0.0.9".to_owned(),
        |t| t.port = 2,
        |t| t.host_keys = vec!["ssh-ed25519 OTHER".to_owned()],
    ];
    for change in changes {
        let world = World::new().await;
        let bob = world.caller("bob").await;
        let held = world.open(&bob, &FakeLeg::new()).await;
        let mut changed = target("web-1", "127.0.0.1", 1, &["web"]);
        change(&mut changed);
        let people = vec![person("alice", &["operators"], ALICE_KEY), person("bob", &["web"], BOB_KEY)];
        let next = rules(people, vec![changed], Arc::new(PolicyFn(decide)));
        assert_eq!(world.engine.reload(next).await.expect("reloaded"), 1);
        assert_eq!(held.ending().await.reason, EndReason::RightsRevoked);
    }
}

/// Sinks of which one may be too far behind.
struct Behind(AtomicBool);

impl Sinks for Behind {
    fn statuses(&self) -> Vec<SinkStatus> {
        Vec::new()
    }

    fn full(&self) -> Option<String> {
        self.0.load(Ordering::SeqCst).then(|| "sink archive is 9 events behind".to_owned())
    }
}

#[tokio::test]
async fn no_session_begins_while_a_sink_is_too_far_behind_and_those_that_began_go_on() {
    let world = World::new().await;
    let sinks = Arc::new(Behind(AtomicBool::new(false)));
    world.engine.attach_sinks(Arc::<Behind>::clone(&sinks));
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let held = world.open(&bob, &FakeLeg::new()).await;
    sinks.0.store(true, Ordering::SeqCst);
    let refused = world.try_open(&bob, &FakeLeg::new()).await.err().expect("refused");
    assert!(refused.to_string().contains("a sink is too far behind"), "{refused}");
    assert!(!refused.to_string().contains("archive"), "which one is for the log: {refused}");
    assert_eq!(world.row(held.session()).await.state(), State::Connected);
    let ready = || {
        let families = world.engine.meters.read().into_iter();
        families.filter(|family| family.name == "ravelin_ready").map(|family| family.samples[0].value.clone()).next()
    };
    let unready = world.engine.control.ready().await.expect_err("nobody should be sent here");
    assert!(unready.to_string().contains("a sink is too far behind"), "{unready}");
    assert_eq!(ready(), Some(Value::Level(0.0)));
    let ended = world.engine.control.terminate(&alice, held.session(), "", WAIT).await.expect("ended");
    assert!(matches!(ended, Termination::Confirmed { .. }), "a kill works all the same: {ended:?}");
    sinks.0.store(false, Ordering::SeqCst);
    assert_eq!(world.engine.control.ready().await, Ok(()));
    assert_eq!(ready(), Some(Value::Level(1.0)));
    assert!(world.try_open(&bob, &FakeLeg::new()).await.is_ok());
}

#[tokio::test]
async fn accepted_credentials_are_on_record_once_in_a_while_for_each_network() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    let issued = world.engine.control.issue_credential(&alice, alice.name(), CredentialKind::Token, "", None).await;
    let token = issued.expect("issued").secret;
    for last in 0..200_u8 {
        let contact = Contact { address: SocketAddr::from(([192, 0, 2, last % 2], 4711)), software: "test".to_owned() };
        world.engine.identity.token(&token, contact.clone()).await.expect("a good token");
        world.engine.identity.outside_token("alice", contact).await.expect("a good token of somebody else's");
    }
    let events = world.store.events(0, 1000).await.expect("a record").events;
    for method in ["token", "outside_token"] {
        let by_token = events.iter().filter(|event| event.deed.facts.get("method").is_some_and(|m| m == method));
        assert_eq!(by_token.filter(|event| event.deed.kind == AuditKind::LoginAccepted).count(), 2, "{method}");
    }
}

#[tokio::test]
async fn denials_are_on_record_but_cannot_fill_it() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    for _ in 0..100 {
        let name = PrincipalName::parse("bob").expect("a name");
        assert!(world.engine.control.issue_credential(&bob, &name, CredentialKind::Token, "", None).await.is_err());
    }
    let events = world.store.events(0, 1000).await.expect("a record").events;
    let denied = events.iter().filter(|e| e.deed.kind == AuditKind::AccessDenied).count();
    assert!((1..=30).contains(&denied), "{denied}");
}

#[tokio::test]
async fn a_stop_ends_although_a_socket_stays_open() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    let admission = world.open(&bob, &FakeLeg::stuck()).await;
    let id = admission.session().clone();
    world.engine.stop(Duration::ZERO).await.expect("stopped");
    let row = world.row(&id).await;
    assert_ne!(row.state(), State::Terminated, "it is not said to be closed");
    assert!(world.engine.control.ready().await.is_err());
}

#[tokio::test]
async fn a_stop_announces_drains_and_ends_what_is_left() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    let client = FakeLeg::new();
    let admission = world.open(&bob, &client).await;
    let id = admission.session().clone();
    world.engine.stop(Duration::from_millis(1100)).await.expect("stopped");
    assert_eq!(client.said()[0], "the bastion stops in 1 s: finish what you are doing");
    assert_eq!(world.row(&id).await.ending().expect("a cause").reason, EndReason::NodeStopped);
    let refused = world.try_open(&bob, &FakeLeg::new()).await.err();
    assert!(matches!(refused, Some(Refusal::Unavailable { .. })), "{refused:?}");
    drop(admission);
}

#[tokio::test]
async fn left_over_sessions_end_before_the_next_life_serves() {
    let store = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
    let start = |store: Arc<SqliteStore>| async move {
        Engine::start(store as Arc<dyn Store>, small_rules(), MasterKey::new([7; 32]), config()).await.expect("started")
    };
    let engine = start(Arc::clone(&store)).await;
    let caller = engine.identity.ssh_key("bob", BOB_KEY, contact()).await.expect("known");
    let target = engine.gate.find(&caller, "web-1").expect("found");
    let client = FakeLeg::stuck();
    let ask = Ask { target, login: None, kind: Kind::Tunnel, document: None, reason: None, logs: Vec::new(), client };
    let admission = engine.gate.admit(&caller, ask).await.expect("admitted");
    let id = admission.session().clone();
    let next = start(Arc::clone(&store)).await;
    assert_eq!(next.left_over, std::slice::from_ref(&id));
    let row = store.session(&id).await.expect("readable").expect("a row");
    assert_eq!(row.ending().expect("a cause").reason, EndReason::NodeLost);
    drop(admission);
}

#[tokio::test]
async fn what_is_too_old_is_removed_soon_after_the_start() {
    let config = Config { history_keep: Duration::ZERO, ..config() };
    let world = World::with(config).await;
    let alice = world.caller("alice").await;
    let admission = world.open(&alice, &FakeLeg::new()).await;
    let live = world.open(&alice, &FakeLeg::new()).await;
    let id = admission.session().clone();
    admission.end(EndReason::TargetClosed, "").await;
    let begun = Instant::now();
    while world.store.inner.session(&id).await.expect("readable").is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(world.row(live.session()).await.state().is_live(), "what goes on is no history");
}

#[tokio::test]
async fn proofs_of_every_kind_lead_to_one_principal_and_can_be_revoked() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    let bob = PrincipalName::parse("bob").expect("a name");
    let control = &world.engine.control;
    let issue = |kind| control.issue_credential(&alice, &bob, kind, "test", None);
    let identity = &world.engine.identity;

    let token = issue(CredentialKind::Token).await.expect("issued");
    assert_eq!(identity.token(&token.secret, contact()).await.expect("valid").name(), &bob);
    let wrong = secrecy::SecretString::from(format!("{}x", token.secret.expose_secret()));
    assert!(identity.token(&wrong, contact()).await.is_err());

    let client = issue(CredentialKind::ClientSecret).await.expect("issued");
    let id = client.credential.id.as_str();
    assert!(identity.client_secret(id, &client.secret, contact()).await.is_ok());
    assert!(identity.client_secret(token.credential.id.as_str(), &token.secret, contact()).await.is_err());

    let key = issue(CredentialKind::SigningKey).await.expect("issued");
    let id = key.credential.id.as_str();
    let sign = |secret: &secrecy::SecretString| secret.expose_secret().as_bytes().to_vec();
    let secret = key.secret.expose_secret().as_bytes();
    let plain = Signed { key: id, signature: secret, session_token: None };
    assert_eq!(identity.signed_request(plain, contact(), sign).await.expect("valid").name(), &bob);
    let refused = async |signed| identity.signed_request(signed, contact(), sign).await.expect_err("refused");
    assert_eq!(refused(Signed { signature: b"other", ..plain }).await, SignatureRefusal::WrongSignature);
    assert_eq!(refused(Signed { session_token: Some(b""), ..plain }).await, SignatureRefusal::NeedlessToken);

    let temporary = issue(CredentialKind::TemporaryKey).await.expect("issued");
    let session_token = temporary.session_token.as_ref().expect("a temporary key has a token").expose_secret();
    let whole = Signed {
        key: temporary.credential.id.as_str(),
        signature: temporary.secret.expose_secret().as_bytes(),
        session_token: Some(session_token.as_bytes()),
    };
    assert_eq!(identity.signed_request(whole, contact(), sign).await.expect("valid").name(), &bob);
    let cut = session_token.get(..session_token.len() - 1).expect("ASCII");
    for token in [None, Some(&b""[..]), Some(cut.as_bytes())] {
        assert_eq!(refused(Signed { session_token: token, ..whole }).await, SignatureRefusal::WrongToken);
    }
    assert_eq!(refused(Signed { signature: b"other", ..whole }).await, SignatureRefusal::WrongSignature);
    let life = temporary.credential.expires.expect("it ends").since(temporary.credential.created);
    assert!(life <= Duration::from_secs(12 * 3600), "{life:?}");
    let too_long = temporary.credential.created.plus(Duration::from_secs(37 * 3600));
    let refusal = control.issue_credential(&alice, &bob, CredentialKind::TemporaryKey, "", Some(too_long)).await;
    assert!(matches!(&refusal, Err(Refusal::Invalid { field, .. }) if field == "expires"), "{refusal:?}");
    // One that has expired: whoever holds all of it is told so, anybody else is not.
    let gone = Some(temporary.credential.created);
    let gone = control.issue_credential(&alice, &bob, CredentialKind::TemporaryKey, "", gone).await.expect("issued");
    let expired = Signed {
        key: gone.credential.id.as_str(),
        signature: gone.secret.expose_secret().as_bytes(),
        session_token: gone.session_token.as_ref().map(|token| token.expose_secret().as_bytes()),
    };
    assert_eq!(refused(expired).await, SignatureRefusal::Expired);
    assert_eq!(refused(Signed { signature: b"other", ..expired }).await, SignatureRefusal::WrongSignature);

    for issued in [&token, &client, &key, &temporary] {
        control.revoke_credential(&alice, &issued.credential.id).await.expect("revoked");
    }
    assert!(identity.token(&token.secret, contact()).await.is_err());
    assert!(identity.client_secret(client.credential.id.as_str(), &client.secret, contact()).await.is_err());
    for signed in [plain, whole] {
        assert_eq!(refused(signed).await, SignatureRefusal::UnknownKey, "a revoked key is no key");
    }

    let himself = world.caller("bob").await;
    let refused = control.issue_credential(&himself, &bob, CredentialKind::Token, "", None).await;
    assert!(matches!(refused, Err(Refusal::Denied { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_revoked_credential_ends_the_sessions_that_began_with_it_and_begins_no_more() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    let bob = PrincipalName::parse("bob").expect("a name");
    let control = &world.engine.control;
    let mut callers = Vec::new();
    for _ in 0..2 {
        let issued = control.issue_credential(&alice, &bob, CredentialKind::Token, "", None).await.expect("issued");
        let caller = world.engine.identity.token(&issued.secret, contact()).await.expect("valid");
        callers.push((issued.credential.id, caller));
    }
    let [(id, caller), (_, other)] = &callers[..] else { panic!("two") };
    let leg = FakeLeg::new();
    let (ends, goes_on) = (world.open(caller, &leg).await, world.open(other, &FakeLeg::new()).await);
    control.revoke_credential(&alice, id).await.expect("revoked");
    let ending = ends.ending().await;
    assert_eq!((ending.reason, ending.actor), (EndReason::RightsRevoked, Actor::from_text("alice").expect("a name")));
    assert!(world.row(goes_on.session()).await.state().is_live());
    let refusal = world.try_open(caller, &FakeLeg::new()).await.err();
    assert!(matches!(refusal, Some(Refusal::Unauthenticated { .. })), "{refusal:?}");
}

#[tokio::test]
async fn refused_logins_are_on_record_but_cannot_fill_it() {
    let world = World::new().await;
    for _ in 0..200 {
        assert!(world.engine.identity.ssh_key("bob", "ssh-ed25519 WRONG", contact()).await.is_err());
    }
    let events = world.store.events(0, 1000).await.expect("a record").events;
    let refused = events.iter().filter(|e| e.deed.kind == AuditKind::LoginRefused).count();
    assert!((1..=30).contains(&refused), "{refused}");
}

#[tokio::test]
async fn people_follow_their_own_sessions_events_only() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let _hers = world.open(&alice, &FakeLeg::new()).await;
    let _his = world.open(&bob, &FakeLeg::new()).await;
    let (page, looked) = world.engine.control.events(&bob, 0, 100).await.expect("own");
    assert!(!page.events.is_empty());
    assert!(page.events.iter().all(|e| e.deed.facts.get("principal").is_some_and(|p| p == "bob")));
    assert_eq!(looked, page.newest, "nothing is left to look at");
    let (all, _) = world.engine.control.events(&alice, 0, 100).await.expect("all");
    let numbers: Vec<u64> = all.events.iter().map(|e| e.seq).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "no gaps");
}

#[tokio::test]
async fn own_events_are_found_behind_any_number_of_others() {
    let world = World::new().await;
    let bob = world.caller("bob").await;
    // More than one answer looks at.
    let deed =
        || Deed { kind: AuditKind::InventoryLoaded, actor: Actor::System, session: None, facts: BTreeMap::new() };
    futures_util::future::join_all((0..10_100).map(|_| world.store.inner.record(deed()))).await;
    let his = world.open(&bob, &FakeLeg::new()).await;
    let (page, looked) = world.engine.control.events(&bob, 0, 10).await.expect("own");
    assert_eq!(page.events, []);
    assert!(looked < page.newest, "it says that there is more: {looked} of {}", page.newest);
    let (page, looked) = world.engine.control.events(&bob, looked, 1).await.expect("own");
    let [opened] = page.events.as_slice() else { panic!("{page:?}") };
    assert_eq!((opened.deed.session.as_ref(), opened.seq), (Some(his.session()), looked));
}

/// The default store with a switch that breaks it, and one that makes every call hang until it is let go.
struct Flaky {
    inner: Arc<SqliteStore>,
    broken: AtomicBool,
    stuck: watch::Sender<bool>,
}

impl Flaky {
    async fn up(&self) -> Result<&SqliteStore, Refusal> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(Refusal::unavailable("the store", "switched off by the test"));
        }
        let_go(self.stuck.subscribe()).await;
        Ok(&self.inner)
    }
}

async fn let_go(mut stuck: watch::Receiver<bool>) {
    while *stuck.borrow_and_update() && stuck.changed().await.is_ok() {}
}

#[async_trait]
impl Store for Flaky {
    async fn start_node(&self, node: &NodeId) -> Result<NodeStart, Refusal> {
        self.up().await?.start_node(node).await
    }
    async fn open(&self, draft: Draft) -> Result<Session, Refusal> {
        self.up().await?.open(draft).await
    }
    async fn apply_aged(&self, id: &SessionId, events: Vec<Aged>) -> Result<Applied, Refusal> {
        // As a real store does it: a call that was given up takes effect all the same.
        let (inner, id, stuck) = (Arc::clone(&self.inner), id.clone(), self.stuck.subscribe());
        if self.broken.load(Ordering::SeqCst) {
            return Err(Refusal::unavailable("the store", "switched off by the test"));
        }
        let applying = tokio::spawn(async move {
            let_go(stuck).await;
            inner.apply_aged(&id, events).await
        });
        applying.await.expect("no panic")
    }
    async fn flush(&self, batch: Vec<(SessionId, Activity)>) -> Result<(), Refusal> {
        self.up().await?.flush(batch).await
    }
    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Refusal> {
        self.up().await?.session(id).await
    }
    async fn sessions(&self, query: &SessionQuery) -> Result<Page<Session>, Refusal> {
        self.up().await?.sessions(query).await
    }
    async fn prune_sessions(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.up().await?.prune_sessions(before, limit).await
    }
    async fn prune_events(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.up().await?.prune_events(before, limit).await
    }
    async fn record(&self, deed: Deed) -> Result<u64, Refusal> {
        self.up().await?.record(deed).await
    }
    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, Refusal> {
        self.up().await?.events(after, limit).await
    }
    async fn wait_for_event(&self, after: u64) {
        self.inner.wait_for_event(after).await;
    }
    async fn add_credential(&self, credential: Credential, by: &Actor) -> Result<Credential, Refusal> {
        self.up().await?.add_credential(credential, by).await
    }
    async fn credential(&self, id: &CredentialId) -> Result<Option<Credential>, Refusal> {
        self.up().await?.credential(id).await
    }
    async fn credentials(&self) -> Result<Vec<Credential>, Refusal> {
        self.up().await?.credentials().await
    }
    async fn revoke_credential(&self, id: &CredentialId, by: &Actor) -> Result<Credential, Refusal> {
        self.up().await?.revoke_credential(id, by).await
    }
    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.ledger()
    }
    async fn keep(&self, thing: Keepsake, deed: Option<Deed>) -> Result<Keepsake, Refusal> {
        self.up().await?.keep(thing, deed).await
    }
    async fn kept(&self, shelf: &'static str, key: &str) -> Result<Option<Keepsake>, Refusal> {
        self.up().await?.kept(shelf, key).await
    }
    async fn all_kept(&self, shelf: &'static str) -> Result<Vec<Keepsake>, Refusal> {
        self.up().await?.all_kept(shelf).await
    }
    async fn forget(&self, shelf: &'static str, key: &str, deed: Option<Deed>) -> Result<bool, Refusal> {
        self.up().await?.forget(shelf, key, deed).await
    }
    async fn prune_kept(&self, limit: u32) -> Result<u64, Refusal> {
        self.up().await?.prune_kept(limit).await
    }
    async fn now(&self) -> Result<Time, Refusal> {
        self.up().await?.now().await
    }
}

#[tokio::test]
async fn a_lost_client_may_come_back_and_a_kill_works_meanwhile() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let (first, second, far) = (FakeLeg::new(), FakeLeg::new(), FakeLeg::new());
    let admission = world.open(&bob, &first).await;
    admission.attach_target(far.clone());
    let id = admission.session().clone();
    admission.disconnected().await.expect("lost");
    assert_eq!(world.row(&id).await.state(), State::Disconnected);
    admission.resumed(second.clone()).await.expect("back");
    assert_eq!(world.row(&id).await.state(), State::Connected);
    admission.disconnected().await.expect("lost again");
    assert!(matches!(admission.disconnected().await, Err(Refusal::Conflict { .. })));

    let outcome = world.engine.control.terminate(&alice, &id, "", WAIT).await.expect("permitted");
    assert!(matches!(outcome, Termination::Confirmed { .. }), "{outcome:?}");
    assert!(far.is_closed());
    assert_eq!(second.said(), Vec::<String>::new(), "nobody is there to be told");
    assert!(matches!(admission.resumed(FakeLeg::new()).await, Err(Refusal::Conflict { .. })), "too late");
}

#[tokio::test]
async fn a_lost_client_that_stays_away_ends_its_session() {
    let world = World::with(Config { disconnected_max: Duration::from_secs(1), ..config() }).await;
    let bob = world.caller("bob").await;
    let admission = world.open(&bob, &FakeLeg::new()).await;
    admission.disconnected().await.expect("lost");
    let ending = admission.ending().await;
    assert_eq!(ending.reason, EndReason::ClientClosed);
    assert_eq!(ending.detail, "the client was lost and did not come back within 1 s");
}

#[tokio::test]
async fn a_session_may_have_tighter_limits_than_its_node() {
    let world = World::with(Config { idle_max: Some(Duration::from_secs(3600)), ..config() }).await;
    let bob = world.caller("bob").await;
    let ask = |client: Arc<FakeLeg>| {
        let target = world.engine.gate.find(&bob, "web-1").expect("a target");
        let login = Some(Login::parse("root").expect("a login"));
        Ask { target, login, kind: Kind::Shell, document: None, reason: None, logs: Vec::new(), client }
    };
    let seconds = |count: u64| Some(Duration::from_secs(count));
    let idle = SessionLimits { idle_max: seconds(1), duration_max: None };
    let idle = world.engine.gate.admit_within(&bob, ask(FakeLeg::new()), idle).await.expect("admitted");
    let short = SessionLimits { idle_max: None, duration_max: seconds(2) };
    let short = world.engine.gate.admit_within(&bob, ask(FakeLeg::new()), short).await.expect("admitted");
    let id = short.session().clone();
    assert_eq!(short.ending().await.reason, EndReason::DurationLimit);
    let idled = idle.ending().await;
    assert_eq!((idled.reason, idled.detail.as_str()), (EndReason::IdleLimit, "1 s"));
    assert_eq!(world.row(&id).await.draft.duration_max, seconds(2));
}

#[tokio::test]
async fn a_session_is_resumed_by_its_owner_only() {
    let world = World::new().await;
    let (alice, bob) = (world.caller("alice").await, world.caller("bob").await);
    let admission = world.open(&bob, &FakeLeg::new()).await;
    let id = admission.session().clone();
    assert!(world.engine.control.resumable(&bob, &id).await.is_ok());
    let others = world.engine.control.resumable(&alice, &id).await;
    assert!(matches!(others, Err(Refusal::NotFound { .. })), "{others:?}");
}
