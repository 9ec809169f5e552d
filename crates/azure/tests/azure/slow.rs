//! A store that is slow, broken or behind the time, and what its clients are told: the default store with switches.

use crate::late::{fetch, places};
use crate::world::{VERSION, World, host_path};
use async_trait::async_trait;
use http::{Method, StatusCode};
use ravelin_engine::testkit::FakeLeg;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::credential::Credential;
use ravelin_model::ports::{Applied, EventPage, Ledger, NodeStart, Store};
use ravelin_model::query::{Page, SessionQuery};
use ravelin_model::session::{Activity, Actor, Aged, Draft};
use ravelin_model::{CredentialId, Keepsake, NodeId, Refusal, Session, SessionId, Time};
use ravelin_store::SqliteStore;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longer than any test here takes.
const LONG: Duration = Duration::from_secs(600);

struct Slow {
    inner: SqliteStore,
    /// Lists are not answered while this is set.
    is_held: watch::Sender<bool>,
    /// The next look at a credential fails in a way that nobody foresaw.
    fails_once: AtomicBool,
    /// How many seconds ago the clock says it is.
    behind_seconds: AtomicU64,
}

impl Slow {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: SqliteStore::in_memory().expect("a store in memory"),
            is_held: watch::Sender::new(false),
            fails_once: AtomicBool::new(false),
            behind_seconds: AtomicU64::new(0),
        })
    }

    fn hold(&self) {
        self.is_held.send_replace(true);
    }

    fn release(&self) {
        self.is_held.send_replace(false);
    }

    async fn let_go(&self) {
        let mut held = self.is_held.subscribe();
        held.wait_for(|held| !held).await.expect("the switch is there");
    }
}

#[async_trait]
impl Store for Slow {
    async fn start_node(&self, node: &NodeId) -> Result<NodeStart, Refusal> {
        self.inner.start_node(node).await
    }
    async fn open(&self, draft: Draft) -> Result<Session, Refusal> {
        self.inner.open(draft).await
    }
    async fn apply_aged(&self, id: &SessionId, events: Vec<Aged>) -> Result<Applied, Refusal> {
        self.inner.apply_aged(id, events).await
    }
    async fn flush(&self, batch: Vec<(SessionId, Activity)>) -> Result<(), Refusal> {
        self.inner.flush(batch).await
    }
    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Refusal> {
        self.inner.session(id).await
    }
    async fn sessions(&self, query: &SessionQuery) -> Result<Page<Session>, Refusal> {
        self.let_go().await;
        self.inner.sessions(query).await
    }
    async fn prune_sessions(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.inner.prune_sessions(before, limit).await
    }
    async fn prune_events(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.inner.prune_events(before, limit).await
    }
    async fn record(&self, deed: Deed) -> Result<u64, Refusal> {
        self.inner.record(deed).await
    }
    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, Refusal> {
        self.inner.events(after, limit).await
    }
    async fn wait_for_event(&self, after: u64) {
        self.inner.wait_for_event(after).await;
    }
    async fn add_credential(&self, credential: Credential, by: &Actor) -> Result<Credential, Refusal> {
        self.inner.add_credential(credential, by).await
    }
    async fn credential(&self, id: &CredentialId) -> Result<Option<Credential>, Refusal> {
        if self.fails_once.swap(false, Ordering::SeqCst) {
            return Err(Refusal::internal("page 7 of the file is torn"));
        }
        self.inner.credential(id).await
    }
    async fn credentials(&self) -> Result<Vec<Credential>, Refusal> {
        self.inner.credentials().await
    }
    async fn revoke_credential(&self, id: &CredentialId, by: &Actor) -> Result<Credential, Refusal> {
        self.inner.revoke_credential(id, by).await
    }
    async fn keep(&self, thing: Keepsake, deed: Option<Deed>) -> Result<Keepsake, Refusal> {
        self.inner.keep(thing, deed).await
    }
    async fn kept(&self, shelf: &'static str, key: &str) -> Result<Option<Keepsake>, Refusal> {
        self.inner.kept(shelf, key).await
    }
    async fn all_kept(&self, shelf: &'static str) -> Result<Vec<Keepsake>, Refusal> {
        self.inner.all_kept(shelf).await
    }
    async fn forget(&self, shelf: &'static str, key: &str, deed: Option<Deed>) -> Result<bool, Refusal> {
        self.inner.forget(shelf, key, deed).await
    }
    async fn prune_kept(&self, limit: u32) -> Result<u64, Refusal> {
        self.inner.prune_kept(limit).await
    }
    async fn now(&self) -> Result<Time, Refusal> {
        let now = self.inner.now().await?.as_micros();
        let behind = i64::try_from(self.behind_seconds.load(Ordering::SeqCst)).expect("seconds");
        Ok(Time::from_micros(now - behind * 1_000_000))
    }
    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.ledger()
    }
}

#[tokio::test]
async fn a_list_that_the_store_does_not_give_comes_later() {
    let store = Slow::new();
    let world = World::over(store.clone(), LONG, |config| config.respond_within = Duration::from_millis(50)).await;
    let session = world.open("bob", "vm01", FakeLeg::new()).await;
    let (alice, bob) = (world.bearer("alice").await, world.bearer("bob").await);
    store.hold();
    let (location, status) = places(&world.post(&alice, "/getActiveSessions", "").await);
    for _ in 0..3 {
        let poll = world.ask(Method::GET, &alice, &location, "").await;
        assert_eq!(places(&poll).0, location, "it says where to come again, each time");
        let poll = world.ask(Method::GET, &alice, &status, "").await;
        assert_eq!((poll.status, &poll.body["status"]), (StatusCode::OK, &json!("InProgress")));
        assert_eq!(poll.header("retry-after"), "1");
    }
    // The same request again waits for the same answer, another caller's has its own.
    assert_eq!(places(&world.post(&alice, "/getActiveSessions", "").await).0, location);
    let (other, _) = places(&world.post(&bob, "/getActiveSessions", "").await);
    assert_ne!(other, location);
    // What needs no list is not held up.
    let body = json!([session.session().as_str()]).to_string();
    let cut = world.post(&alice, "/disconnectActiveSessions", &body).await;
    assert_eq!((cut.status, &cut.body["value"][0]["state"]), (StatusCode::OK, &json!("Disconnected")));
    store.release();
    for (bearer, location) in [(&alice, &location), (&bob, &other)] {
        let answer = fetch(&world, bearer, location).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({ "value": [] })));
    }
    let again = world.post(&alice, "/getActiveSessions", "").await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &json!({ "value": [] })));
    assert_eq!(again.header("location"), "", "a final answer has nowhere else to go");
}

#[tokio::test]
async fn two_who_ask_the_same_at_the_same_time_both_get_it() {
    let store = Slow::new();
    let world = World::over(store.clone(), LONG, |config| config.respond_within = Duration::from_millis(200)).await;
    let alice = world.bearer("alice").await;
    store.hold();
    let (one, two) =
        tokio::join!(world.post(&alice, "/getActiveSessions", ""), world.post(&alice, "/getActiveSessions", ""));
    let both = [places(&one), places(&two)];
    for (location, status) in &both {
        assert_eq!(world.ask(Method::GET, &alice, location, "").await.status, StatusCode::ACCEPTED);
        assert_eq!(world.ask(Method::GET, &alice, status, "").await.body["status"], "InProgress");
    }
    store.release();
    for (location, _) in &both {
        assert_eq!(fetch(&world, &alice, location).await.body, json!({ "value": [] }));
    }
}

#[tokio::test]
async fn a_store_that_never_answers_is_told_as_unavailable() {
    let store = Slow::new();
    let wait = Duration::from_millis(200);
    let world = World::over(store.clone(), wait, |config| config.respond_within = Duration::from_millis(50)).await;
    let alice = world.bearer("alice").await;
    store.hold();
    let (location, status) = places(&world.post(&alice, "/getActiveSessions", "").await);
    let answer = fetch(&world, &alice, &location).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"));
    let done = world.ask(Method::GET, &alice, &status, "").await;
    assert_eq!((&done.body["status"], &done.body["error"]["code"]), (&json!("Failed"), &json!("ServiceUnavailable")));
    // At once, where there is time enough for it.
    let world = World::over(store, wait, |_| {}).await;
    let answer = world.post(&world.bearer("alice").await, "/getActiveSessions", "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"));
    assert_eq!(answer.header("retry-after"), "5");
}

#[tokio::test]
async fn a_restart_while_the_store_is_silent_loses_the_answer_and_says_so() {
    let store = Slow::new();
    let world = World::over(store.clone(), LONG, |config| config.respond_within = Duration::from_millis(50)).await;
    let alice = world.bearer("alice").await;
    store.hold();
    let (location, status) = places(&world.post(&alice, "/getActiveSessions", "").await);
    let world = world.restarted().await;
    let lost = world.ask(Method::GET, &alice, &location, "").await;
    assert_eq!((lost.status, lost.code()), (StatusCode::CONFLICT, "OperationInterrupted"));
    let lost = world.ask(Method::GET, &alice, &status, "").await;
    assert_eq!((&lost.body["status"], &lost.body["error"]["code"]), (&json!("Failed"), &json!("OperationInterrupted")));
    // The request itself is as good as ever.
    let (location, _) = places(&world.post(&alice, "/getActiveSessions", "").await);
    store.release();
    assert_eq!(fetch(&world, &alice, &location).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_answer_is_kept_for_an_hour() {
    let store = Slow::new();
    let world = World::over(store.clone(), LONG, |_| {}).await;
    let alice = world.bearer("alice").await;
    // What was kept a minute before the hour is over is there.
    store.behind_seconds.store(59 * 60, Ordering::SeqCst);
    let (location, _) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    assert_eq!(fetch(&world, &alice, &location).await.status, StatusCode::OK);
    let world = world.restarted().await;
    assert_eq!(fetch(&world, &alice, &location).await.status, StatusCode::OK, "also after a restart");
    // What was kept an hour ago is not, and a request that repeats it is a new one.
    store.behind_seconds.store(60 * 60, Ordering::SeqCst);
    let (location, status) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    for path in [&location, &status] {
        // While it is being worked on, whoever asks is served; nothing is kept yet whose hour could be over.
        let mut answer = world.ask(Method::GET, &alice, path, "").await;
        let asked = Instant::now();
        while answer.status != StatusCode::NOT_FOUND && asked.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            answer = world.ask(Method::GET, &alice, path, "").await;
        }
        assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "OperationNotFound"));
    }
    store.behind_seconds.store(0, Ordering::SeqCst);
    assert_eq!(world.post(&alice, "/getActiveSessions", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_disconnect_is_repeated_after_an_error_of_ours_and_is_on_record_once() {
    let store = Slow::new();
    let world = World::over(store.clone(), LONG, |_| {}).await;
    let leg = FakeLeg::new();
    let session = world.open("bob", "vm01", leg.clone()).await;
    let alice = world.bearer("alice").await;
    let body = json!({ "sessionIds": [session.session().as_str()] }).to_string();
    let ended = async || world.events().await.iter().filter(|kind| **kind == AuditKind::SessionEnded).count();

    store.fails_once.store(true, Ordering::SeqCst);
    let answer = world.post(&alice, "/disconnectActiveSessions", &body).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"));
    assert!(!answer.body.to_string().contains("torn"), "what went wrong stays in our log: {}", answer.body);
    assert!(!leg.is_closed(), "nothing is half done");
    assert_eq!(ended().await, 0);

    let answer = world.post(&alice, "/disconnectActiveSessions", &body).await;
    assert_eq!((answer.status, &answer.body["value"][0]["state"]), (StatusCode::OK, &json!("Disconnected")));
    // An answer that did not reach its client, who asks again: harmless, and one effect on record.
    let answer = world.post(&alice, "/disconnectActiveSessions", &body).await;
    let state = &answer.body["value"][0];
    assert_eq!((answer.status, &state["state"]), (StatusCode::OK, &json!("NotFound")));
    assert!(state["message"].as_str().is_some_and(|text| text.contains("It ended at")), "{state}");
    assert_eq!(ended().await, 1);
}

#[tokio::test]
async fn what_one_of_two_sessions_does_not_obey_is_said_of_that_one() {
    let world = World::with(|config| config.disconnect_wait = Duration::from_millis(100)).await;
    let (stuck, fine) = (FakeLeg::stuck(), FakeLeg::new());
    let first = world.open("bob", "vm01", stuck.clone()).await;
    let second = world.open("bob", "web-1", fine.clone()).await;
    let ids = json!({ "sessionIds": [first.session().as_str(), second.session().as_str(), "nobody's"] });
    let answer = world.post(&world.bearer("alice").await, "/disconnectActiveSessions", &ids.to_string()).await;
    let states: Vec<&str> =
        answer.body["value"].as_array().expect("a list").iter().filter_map(|item| item["state"].as_str()).collect();
    assert_eq!((answer.status, states), (StatusCode::OK, vec!["Failed", "Disconnected", "NotFound"]));
    let said = answer.body["value"][0]["message"].as_str().expect("a message");
    assert!(said.contains("could not be disconnected!") && said.len() > 60, "it says what is open: {said}");
    assert!(fine.is_closed() && !stuck.is_closed());
    stuck.release();
}

#[tokio::test]
async fn no_way_to_a_list_is_open_without_its_own_proof() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let (location, status) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    fetch(&world, &alice, &location).await;
    let page = format!("{}?api-version={VERSION}&$skiptoken=AAAA", host_path("/getActiveSessions"));
    for path in [&location, &status, &page] {
        let answer = world.send(crate::world::request(Method::GET, path, None, "")).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "AuthenticationFailed"), "{path}");
    }
    // Ids that were never given out, however they look.
    for id in ["00000000-0000-4000-8000-000000000000", "..", "%2e%2e%2fbastion", "a'b", "\u{e4}"] {
        let path = location.split("/operationResults/").next().expect("a beginning");
        let id = spelled(id);
        let path = format!("{path}/operationResults/{id}?api-version={VERSION}");
        assert_eq!(world.ask(Method::GET, &alice, &path, "").await.status, StatusCode::NOT_FOUND, "{id}");
    }
}

/// Everything but letters, digits and hyphens as a path spells it.
fn spelled(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() || b == b'-' { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
