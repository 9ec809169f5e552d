//! The whole service, in process: real engine, real store in memory, no socket.

use crate::feed::Timing;
use crate::server::with_timing;
use crate::wire;
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use ravelin_engine::control::issue;
use ravelin_engine::gate::{Admission, Ask};
use ravelin_engine::recording::{Outlets, Setup};
use ravelin_engine::testkit::{self, FakeLeg, PolicyFn};
use ravelin_engine::{Config, Contact, Engine, MasterKey};
use ravelin_model::credential::CredentialKind;
use ravelin_model::policy::{Action, Question, Resource, Scope};
use ravelin_model::ports::{Archive, Reading, Recorder, Store, Tape};
use ravelin_model::recording::{Act, ActKind, Broken, Head, Kept, Rule, Source};
use ravelin_model::session::{Actor, EndReason, Kind};
use ravelin_model::{Login, NodeId, PrincipalName, Refusal, SessionId, TargetName, Time};
use ravelin_store::SqliteStore;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tower::ServiceExt;

/// A bastion with the operator `olga` and the people `alice` and `bob`.
struct House {
    engine: Engine,
    store: Arc<SqliteStore>,
    router: Router,
    asked: Arc<Mutex<BTreeSet<Action>>>,
}

const ADDRESS: &str = "192.0.2.9:50022";

fn permits(question: &Question<'_>) -> bool {
    let operator = question.principal.groups.iter().any(|g| g.as_str() == "operators");
    match question.resource {
        Resource::Target(target) => question.principal.groups.iter().any(|g| target.shared_with.contains(g)),
        Resource::Session { owner, .. } => operator || *owner == question.principal.name,
        Resource::Scope(scope) => operator || (scope == Scope::Own && question.action != Action::IssueCredential),
        Resource::Bastion => true,
    }
}

impl House {
    async fn new() -> Self {
        Self::with_timing(Timing::default()).await
    }

    async fn with_timing(timing: Timing) -> Self {
        let asked = Arc::new(Mutex::new(BTreeSet::new()));
        let noted = Arc::clone(&asked);
        let policy = PolicyFn(move |question: &Question<'_>| {
            noted.lock().expect("not poisoned").insert(question.action);
            Some(permits(question))
        });
        let people = vec![
            testkit::principal("olga", &["operators", "web"]),
            testkit::principal("alice", &["web"]),
            testkit::principal("bob", &[]),
        ];
        let targets = vec![testkit::target("web-1", "10.0.0.7", 22, &["web"])];
        let store = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
        let mut config = Config::new(NodeId::new(1));
        config.sessions_per_principal_max = 10_000;
        let setup = Setup {
            recorder: Arc::new(NoTapes),
            archive: Arc::clone(&store) as Arc<dyn Archive>,
            keep: Duration::from_secs(3600),
            keep_by_class: BTreeMap::new(),
            outlets: Outlets::new(),
        };
        let engine = Engine::start_recording(
            Arc::clone(&store) as Arc<dyn Store>,
            testkit::rules(people, targets, Arc::new(policy)),
            MasterKey::new([7; 32]),
            config,
            Some(setup),
        )
        .await
        .expect("the engine starts");
        let router = with_timing(engine.control.clone(), engine.identity.clone(), engine.pager.clone(), timing);
        House { engine, store, router, asked }
    }

    async fn token(&self, principal: &str) -> String {
        let principal = PrincipalName::parse(principal).expect("a valid name");
        let master = MasterKey::new([7; 32]);
        let issued =
            issue(self.store.as_ref(), &master, &principal, CredentialKind::Token, "", None, &Actor::System).await;
        issued.expect("a token").secret.expose_secret().to_owned()
    }

    async fn open(&self, principal: &str) -> Admission {
        self.open_with(principal, FakeLeg::new()).await
    }

    async fn open_with(&self, principal: &str, client: Arc<FakeLeg>) -> Admission {
        let token = SecretString::from(self.token(principal).await);
        let contact = Contact { address: ADDRESS.parse().expect("an address"), software: "test".to_owned() };
        let caller = self.engine.identity.token(&token, contact).await.expect("a good token");
        let target = self.engine.gate.find(&caller, "web-1").expect("a target");
        let ask = Ask {
            target,
            login: Some(Login::parse("root").expect("a login")),
            kind: Kind::Shell,
            document: None,
            reason: None,
            logs: Vec::new(),
            client,
        };
        self.engine.gate.admit(&caller, ask).await.expect("an admission")
    }

    async fn raw(&self, request: Request<Body>) -> (StatusCode, http::HeaderMap, Vec<u8>) {
        let response = self.router.clone().oneshot(request).await.expect("the service answers");
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.expect("the body is whole").to_bytes();
        (parts.status, parts.headers, bytes.to_vec())
    }

    async fn ask(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let request = request(token, method, path, body);
        let (status, headers, bytes) = self.raw(request).await;
        if status.is_client_error() || status.is_server_error() {
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{path}");
        }
        (status, serde_json::from_slice(&bytes).expect("every answer is JSON"))
    }

    async fn get(&self, token: &str, path: &str) -> (StatusCode, Value) {
        self.ask(token, Method::GET, path, None).await
    }

    async fn post(&self, token: &str, path: &str, body: Value) -> (StatusCode, Value) {
        self.ask(token, Method::POST, path, Some(body)).await
    }
}

/// A recorder of nothing: what is known of recordings is in the store.
struct NoTapes;

#[async_trait]
impl Recorder for NoTapes {
    async fn begin(&self, _head: Head) -> Result<Box<dyn Tape>, Broken> {
        Err(Broken::new("nothing is recorded here"))
    }

    async fn recover(&self) -> Vec<(SessionId, Result<Kept, Broken>)> {
        Vec::new()
    }

    async fn settle(&self, _session: &SessionId) -> Result<(), Broken> {
        Ok(())
    }

    async fn read(
        &self,
        session: &SessionId,
        _request: ravelin_model::recording::Request,
    ) -> Result<Box<dyn Reading>, Refusal> {
        Err(Refusal::not_found("recording", session))
    }

    async fn remove(&self, _session: &SessionId) -> Result<(), Broken> {
        Ok(())
    }
}

fn request(token: &str, method: Method, path: &str, body: Option<Value>) -> Request<Body> {
    let mut builder = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = match body {
        Some(body) => {
            builder = builder.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        }
        None => Body::empty(),
    };
    let mut request = builder.body(body).expect("a request");
    let address: SocketAddr = ADDRESS.parse().expect("an address");
    request.extensions_mut().insert(ConnectInfo(address));
    request
}

/// Every operation of the document: method, path with its variables filled in, and the name in [`crate::OPERATIONS`].
fn documented() -> Vec<(Method, String, String)> {
    let document = serde_json::to_value(crate::openapi()).expect("the document is JSON");
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, _) in item.as_object().expect("operations") {
            let method = Method::from_bytes(method.to_ascii_uppercase().as_bytes()).expect("a method");
            let filled = path.replace("{id}", "alice-07a16060613c408b5").replace("{name}", "web-1");
            all.push((method.clone(), filled, format!("{method} {path}")));
        }
    }
    all
}

#[test]
fn the_document_is_the_one_that_was_agreed() {
    crate::golden::check_json("openapi.json", &crate::openapi());
}

#[test]
fn the_document_and_the_table_name_the_same_operations() {
    let documented: BTreeSet<String> = documented().into_iter().map(|(_, _, name)| name).collect();
    let tabled: BTreeSet<String> = crate::OPERATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(documented, tabled);
}

#[tokio::test]
async fn nothing_answers_without_a_token() {
    let house = House::new().await;
    let mut closed: Vec<(Method, String)> = documented().into_iter().map(|(method, path, _)| (method, path)).collect();
    closed.extend(["/api/v1", "/api/v1/", "/api/v1/nothing"].map(|path| (Method::GET, path.to_owned())));
    closed.push((Method::PUT, "/api/v1/sessions".to_owned()));
    for (method, path) in closed {
        for header in
            [None, Some("Bearer"), Some("Bearer rvl_0123456789abcdef_AAAA"), Some("Basic QTpC"), Some("Bearer ")]
        {
            let mut request = request("", method.clone(), &path, Some(json!({})));
            if let Some(header) = header {
                request.headers_mut().insert(header::AUTHORIZATION, header.parse().expect("a header"));
            }
            let (status, headers, body) = house.raw(request).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path} with {header:?}");
            assert_eq!(headers[header::WWW_AUTHENTICATE], "Bearer realm=\"ravelin\"");
            let problem: wire::Problem = serde_json::from_slice(&body).expect("a problem");
            assert_eq!(problem.code, "unauthenticated");
        }
    }
}

#[tokio::test]
async fn every_operation_asks_the_policy_for_its_action() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let table: std::collections::HashMap<&str, Action> = crate::OPERATIONS.iter().copied().collect();
    for (method, path, name) in documented() {
        let admission = house.open("alice").await;
        let id = admission.session().to_string();
        let path = path.replace("alice-07a16060613c408b5", &id);
        let path = if method == Method::DELETE { path.replace(&id, "unknown") } else { path };
        let path = path.replace("/recordings/search", "/recordings/search?text=a");
        let body = match name.as_str() {
            "POST /api/v1/sessions/terminate" => json!({ "ids": [id] }),
            "POST /api/v1/sessions/terminate-matching" => json!({ "filter": { "id": [id] }, "expect": 1 }),
            "POST /api/v1/credentials" => json!({ "kind": "token" }),
            _ => json!({}),
        };
        house.asked.lock().expect("not poisoned").clear();
        let body = (method == Method::POST).then_some(body);
        // The head of the answer is enough: the event stream has no end.
        let answer = house.router.clone().oneshot(request(&olga, method, &path, body)).await.expect("an answer");
        assert!(answer.status().is_success() || answer.status() == StatusCode::NOT_FOUND, "{name}: {answer:?}");
        let asked = house.asked.lock().expect("not poisoned").clone();
        assert!(asked.contains(&table[name.as_str()]), "{name} asked for {asked:?}");
    }
}

#[tokio::test]
async fn the_open_paths_answer_without_a_token() {
    let house = House::new().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(house.get("", path).await, (StatusCode::OK, json!({ "status": "ok" })));
    }
    let (status, document) = house.get("", "/api/v1/openapi.json").await;
    assert_eq!((status, &document["openapi"]), (StatusCode::OK, &json!("3.1.0")));
}

#[tokio::test]
async fn a_session_is_listed_shown_ended_and_kept() {
    let house = House::new().await;
    let (olga, alice, bob) = (house.token("olga").await, house.token("alice").await, house.token("bob").await);
    let leg = FakeLeg::new();
    let admission = house.open_with("alice", Arc::clone(&leg)).await;
    admission.connected().await.expect("it connects");
    let id = admission.session().to_string();

    for token in [&olga, &alice] {
        let (status, page) = house.get(token, "/api/v1/sessions?state=live").await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(page["items"][0]["id"], json!(id));
        assert_eq!(page["items"][0]["state"], "connected");
        assert_eq!(page.get("next_cursor"), None);
    }
    assert_eq!(house.get(&bob, "/api/v1/sessions").await.1, json!({ "items": [] }));
    let path = format!("/api/v1/sessions/{id}");
    let (status, problem) = house.get(&bob, &path).await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    assert_eq!(house.post(&bob, &format!("{path}/terminate"), json!({})).await.0, StatusCode::NOT_FOUND);

    let wish = json!({ "reason": "rotating keys", "wait_ms": 60000 });
    let (status, outcome) = house.post(&olga, &format!("{path}/terminate"), wish).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(outcome["outcome"], "ended");
    assert_eq!(outcome["end_reason"], "disconnected_by_operator");
    assert_eq!(outcome["actor"], "olga");
    assert_eq!(outcome["detail"], "rotating keys");
    assert!(leg.is_closed());
    assert!(leg.said().iter().any(|line| line.contains("disconnected by olga: rotating keys")), "{:?}", leg.said());

    let (_, again) = house.ask(&olga, Method::POST, &format!("{path}/terminate"), None).await;
    assert_eq!(again["outcome"], "already_ended");
    assert_eq!(again["closed_at"], outcome["closed_at"]);
    let (_, shown) = house.get(&alice, &path).await;
    assert_eq!(shown["ended"], outcome["closed_at"]);
    assert_eq!(shown["actor"], "olga");
    assert_eq!(house.get(&olga, "/api/v1/sessions?state=live").await.1, json!({ "items": [] }));
    let (_, past) =
        house.get(&olga, "/api/v1/sessions?end_reason=disconnected_by_operator&actor=olga&client=192.0.2.9").await;
    assert_eq!(past["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_session_that_does_not_close_is_pending_and_can_be_asked_again() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let leg = FakeLeg::stuck();
    let admission = house.open_with("alice", Arc::clone(&leg)).await;
    let path = format!("/api/v1/sessions/{}/terminate", admission.session());
    let (status, outcome) = house.post(&olga, &path, json!({ "wait_ms": 1 })).await;
    assert_eq!((status, &outcome["outcome"]), (StatusCode::ACCEPTED, &json!("pending")));
    assert_eq!(outcome.get("closed_at"), None);
    leg.release();
    let (status, outcome) = house.post(&olga, &path, json!({ "wait_ms": 60000 })).await;
    assert_eq!(status, StatusCode::OK, "{outcome}");
}

#[tokio::test]
async fn a_wish_to_end_is_carried_out_although_the_client_hung_up() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let leg = FakeLeg::new();
    let admission = house.open_with("alice", Arc::clone(&leg)).await;
    let path = format!("/api/v1/sessions/{}/terminate", admission.session());
    let answer = house.router.clone().oneshot(request(&olga, Method::POST, &path, None));
    // The first use of a token is an event of its own; the wish shall be the next one.
    house.raw(request(&olga, Method::GET, "/api/v1/whoami", None)).await;
    // Dropped as soon as the wish is in the record, as a server does when the connection goes away.
    let newest = house.store.events(0, 1).await.expect("events").newest;
    tokio::select! {
        biased;
        _ = answer => {}
        () = house.store.wait_for_event(newest) => {}
    }
    assert_eq!(admission.ending().await.reason, EndReason::DisconnectedByOperator);
}

#[tokio::test]
async fn many_have_an_outcome_each() {
    let house = House::new().await;
    let (olga, alice) = (house.token("olga").await, house.token("alice").await);
    let (mine, hers) = (house.open("alice").await, house.open("olga").await);
    let unknown = "alice-00000000000000000";
    let ids = json!([mine.session().as_str(), unknown, hers.session().as_str(), mine.session().as_str()]);
    let (status, answer) = house.post(&alice, "/api/v1/sessions/terminate", json!({ "ids": ids })).await;
    assert_eq!(status, StatusCode::OK);
    let words: Vec<&str> =
        answer["items"].as_array().expect("items").iter().filter_map(|o| o["outcome"].as_str()).collect();
    assert_eq!(words, ["ended", "not_found", "not_found"], "others' sessions are as unknown as unknown ones");
    let (_, answer) = house.post(&olga, "/api/v1/sessions/terminate", json!({ "ids": ids })).await;
    let words: Vec<&str> =
        answer["items"].as_array().expect("items").iter().filter_map(|o| o["outcome"].as_str()).collect();
    assert_eq!(words, ["already_ended", "not_found", "ended"]);
}

#[tokio::test]
async fn ending_by_filter_takes_a_look_and_a_count() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let path = "/api/v1/sessions/terminate-matching";
    let (first, second, other) = (house.open("alice").await, house.open("alice").await, house.open("olga").await);
    let filter = json!({ "principal": ["alice"] });

    let (status, look) = house.post(&olga, path, json!({ "filter": filter, "dry_run": true })).await;
    assert_eq!((status, &look["matching"], &look["dry_run"]), (StatusCode::OK, &json!(2), &json!(true)));
    let listed: BTreeSet<&str> =
        look["sessions"].as_array().expect("sessions").iter().filter_map(|s| s["id"].as_str()).collect();
    assert_eq!(listed, BTreeSet::from([first.session().as_str(), second.session().as_str()]));

    let (status, problem) = house.post(&olga, path, json!({ "filter": filter })).await;
    assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("expect")));
    let third = house.open("alice").await;
    let (status, problem) = house.post(&olga, path, json!({ "filter": filter, "expect": 2 })).await;
    assert_eq!(
        (status, &problem["code"], &problem["matching"]),
        (StatusCode::CONFLICT, &json!("count_changed"), &json!(3))
    );
    assert_eq!(house.engine.live_count(), 4, "nothing was ended");

    let (status, done) = house.post(&olga, path, json!({ "filter": filter, "expect": 3, "reason": "x" })).await;
    assert_eq!((status, &done["matching"]), (StatusCode::OK, &json!(3)));
    assert!(done["outcomes"].as_array().expect("outcomes").iter().all(|o| o["outcome"] == "ended"), "{done}");
    assert_eq!(third.ending().await.detail, "x");
    assert_eq!(house.engine.live_count(), 1);
    for state in ["ended", "failed", "any"] {
        let (status, problem) =
            house.post(&olga, path, json!({ "filter": { "state": [state] }, "dry_run": true })).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("filter.state")));
    }
    drop(other);
}

#[tokio::test]
async fn cursors_walk_the_list_and_fit_no_other() {
    let house = House::new().await;
    let (olga, alice) = (house.token("olga").await, house.token("alice").await);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(house.open("alice").await);
    }
    let opened: Vec<&str> = held.iter().map(|a| a.session().as_str()).collect();
    for (order, wanted) in [("oldest", opened.clone()), ("newest", opened.iter().rev().copied().collect())] {
        let mut seen = Vec::new();
        let mut path = format!("/api/v1/sessions?state=live&limit=2&order={order}");
        loop {
            let (status, page) = house.get(&olga, &path).await;
            assert_eq!(status, StatusCode::OK, "{page}");
            seen.extend(
                page["items"].as_array().expect("items").iter().map(|s| s["id"].as_str().expect("id").to_owned()),
            );
            let Some(cursor) = page.get("next_cursor").and_then(Value::as_str) else { break };
            for foreign in [
                format!("/api/v1/sessions?state=ended&limit=2&order={order}&cursor={cursor}"),
                format!("/api/v1/sessions?state=live&cursor={cursor}x&order={order}"),
            ] {
                let (status, problem) = house.get(&olga, &foreign).await;
                assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!("cursor")));
            }
            let same = format!("/api/v1/sessions?state=live&limit=2&order={order}&cursor={cursor}");
            assert_eq!(house.get(&alice, &same).await.0, StatusCode::BAD_REQUEST, "another caller's");
            path = same;
        }
        assert_eq!(seen, wanted);
    }
}

#[tokio::test]
async fn every_documented_parameter_is_taken_and_no_other() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let document = serde_json::to_value(crate::openapi()).expect("JSON");
    let parameters = document["paths"]["/api/v1/sessions"]["get"]["parameters"].as_array().expect("parameters");
    let properties = document["components"]["schemas"]["SessionFilter"]["properties"].as_object().expect("members");
    let names: BTreeSet<&str> = parameters.iter().filter_map(|p| p["name"].as_str()).collect();
    let members: BTreeSet<&str> = properties.keys().map(String::as_str).collect();
    assert_eq!(names, members.into_iter().chain(["order", "limit", "cursor"]).collect());
    for name in names {
        // No value is right for all of them, but a known parameter is refused for its value, if at all.
        let (status, answer) = house.get(&olga, &format!("/api/v1/sessions?{name}=%C3%A4%00=")).await;
        if status != StatusCode::OK {
            assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!(name)), "{answer}");
            assert!(!answer["detail"].as_str().expect("detail").contains("unknown"), "{answer}");
        }
    }
    for (path, field) in [
        ("/api/v1/sessions?stat=live", "stat"),
        ("/api/v1/sessions?limit=0", "limit"),
        ("/api/v1/sessions?limit=1001", "limit"),
        ("/api/v1/sessions?limit=ten", "limit"),
        ("/api/v1/sessions?limit=1&limit=2", "limit"),
        ("/api/v1/sessions?target=a&target=b", "target"),
        ("/api/v1/sessions?order=up", "order"),
        ("/api/v1/sessions/alice", "id"),
        ("/api/v1/whoami?x=1", "x"),
        ("/api/v1/targets?x", "x"),
        ("/api/v1/events?snapshot=yes", "snapshot"),
        ("/api/v1/events?cursor=-1", "cursor"),
        ("/api/v1/events?cursor=18446744073709551615", "cursor"),
        ("/api/v1/events?since=1", "since"),
        ("/api/v1/events/list?after=999999", "after"),
        ("/api/v1/events/list?after=18446744073709551615", "after"),
        ("/api/v1/events/list?limit=1001", "limit"),
        ("/api/v1/recordings/search", "text"),
        ("/api/v1/recordings/search?text=%20", "text"),
        ("/api/v1/recordings/search?text=a%00b", "text"),
        ("/api/v1/recordings/search?text=a%1b", "text"),
        ("/api/v1/recordings/search?text=a&principal=b%00", "principal"),
        ("/api/v1/recordings/search?text=a&from=%00", "from"),
        ("/api/v1/recordings/search?text=a&before=1", "before"),
        ("/api/v1/recordings/search?text=a&limit=0", "limit"),
    ] {
        let (status, problem) = house.get(&olga, path).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{path}: {problem}");
    }
}

#[tokio::test]
async fn acts_are_listed_in_parts_that_say_whether_more_come() {
    let house = House::new().await;
    let (olga, admission) = (house.token("olga").await, house.open("alice").await);
    let act = |at| Act {
        at: Duration::from_secs(at),
        kind: ActKind::File,
        source: Source::Told,
        text: at.to_string(),
        facts: BTreeMap::new(),
    };
    let head = Head {
        session: admission.session().clone(),
        principal: PrincipalName::parse("alice").expect("a name"),
        target: TargetName::parse("web-1").expect("a name"),
        login: None,
        began: Time::EPOCH,
        rule: Rule::default(),
    };
    let (acts, lasted) = ((0..6_001).map(act).collect(), Duration::ZERO);
    let kept = Kept { head, digest: "ab".repeat(32), bytes: 1, lasted, acts };
    house.store.note(&kept, Time::MAX).await.expect("noted");
    let path = format!("/api/v1/sessions/{}/acts", admission.session());
    let mut seen = Vec::new();
    for (skip, count, more) in [("", 5_000, true), ("?skip=5000", 1_001, false), ("?skip=6001", 0, false)] {
        let (status, answer) = house.get(&olga, &format!("{path}{skip}")).await;
        assert_eq!((status, &answer["more"]), (StatusCode::OK, &json!(more)), "{skip}");
        let items = answer["items"].as_array().expect("acts");
        assert_eq!(items.len(), count, "{skip}");
        seen.extend(items.iter().map(|act| act["text"].as_str().expect("text").to_owned()));
    }
    assert!(seen.iter().enumerate().all(|(at, text)| *text == at.to_string()));
    for (query, field) in [("skip=-1", "skip"), ("skip=1&skip=2", "skip"), ("limit=1", "limit")] {
        let (status, problem) = house.get(&olga, &format!("{path}?{query}")).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{query}");
    }
}

#[tokio::test]
async fn what_is_no_request_of_this_api_is_refused_in_its_dialect() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let (status, problem) = house.get(&olga, "/api/v1/sesions").await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("unknown_path")));
    for path in ["/api/v1", "/api/v1/", "/api/v1/sessions/", "/api/v1/sessions/a/b/c"] {
        assert_eq!(house.get(&olga, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/api/v1/sessions", "/api/v1/openapi.json", "/healthz"] {
        let (status, headers, body) = house.raw(request(&olga, Method::PUT, path, None)).await;
        let problem: wire::Problem = serde_json::from_slice(&body).expect("a problem");
        assert_eq!((status, problem.code.as_ref()), (StatusCode::METHOD_NOT_ALLOWED, "unknown_method"), "{path}");
        assert!(headers[header::ALLOW].to_str().expect("text").contains("GET"), "{path}");
    }
    let path = "/api/v1/sessions/terminate";
    let cases: [(&str, String, StatusCode, &str); 9] = [
        ("application/json", "{".to_owned(), StatusCode::BAD_REQUEST, "malformed"),
        ("application/json", "[]".to_owned(), StatusCode::BAD_REQUEST, "malformed"),
        ("application/json", r#"{"ids":"x"}"#.to_owned(), StatusCode::BAD_REQUEST, "malformed"),
        ("application/json", r#"{"ids":[],"resaon":""}"#.to_owned(), StatusCode::BAD_REQUEST, "malformed"),
        ("application/json", r#"{"ids":["x"]}"#.to_owned(), StatusCode::BAD_REQUEST, "invalid"),
        ("application/json", "[".repeat(100_000), StatusCode::BAD_REQUEST, "malformed"),
        ("application/json", "\u{1}".to_owned(), StatusCode::BAD_REQUEST, "malformed"),
        ("application/x-www-form-urlencoded", "ids=x".to_owned(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json"),
        ("application/json", " ".repeat(1024 * 1024 + 1), StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
    ];
    for (content_type, body, wanted, code) in cases {
        let start: String = body.chars().take(30).collect();
        let mut request = request(&olga, Method::POST, path, None);
        request.headers_mut().insert(header::CONTENT_TYPE, content_type.parse().expect("a header"));
        *request.body_mut() = Body::from(body);
        let (status, _, bytes) = house.raw(request).await;
        let problem: wire::Problem = serde_json::from_slice(&bytes).expect("a problem");
        assert_eq!((status, problem.code.as_ref()), (wanted, code), "{start:?}");
        if start.contains("resaon") {
            assert!(problem.detail.contains("`resaon`"), "{}", problem.detail);
        }
    }
    let matching = "/api/v1/sessions/terminate-matching";
    for (path, body, field) in [
        (path, json!({ "ids": [] }), "ids"),
        (path, json!({ "ids": ["alice-07a16060613c408b5", "x"] }), "ids[1]"),
        (path, json!({ "ids": ["alice-07a16060613c408b5"], "reason": "x".repeat(401) }), "reason"),
        (path, json!({ "ids": ["alice-07a16060613c408b5"], "wait_ms": 60001 }), "wait_ms"),
        (matching, json!({ "filter": { "client": "x" }, "dry_run": true }), "filter.client"),
        (matching, json!({ "filter": {} }), "expect"),
        ("/api/v1/credentials", json!({ "kind": "token", "expires": "soon" }), "expires"),
        ("/api/v1/credentials", json!({ "kind": "token", "principal": "a:b" }), "principal"),
        ("/api/v1/credentials", json!({ "kind": "token", "note": "x".repeat(201) }), "note"),
    ] {
        let (status, problem) = house.post(&olga, path, body).await;
        assert_eq!((status, &problem["field"]), (StatusCode::BAD_REQUEST, &json!(field)), "{problem}");
    }
    // A percent-encoded byte that is no text.
    assert_eq!(house.get(&olga, "/api/v1/targets/%FF").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn targets_show_any_of_their_names_and_no_proof() {
    let house = House::new().await;
    let (alice, bob) = (house.token("alice").await, house.token("bob").await);
    let (_, all) = house.get(&alice, "/api/v1/targets").await;
    assert_eq!(all["items"][0]["name"], "web-1");
    assert_eq!(all["items"][0]["logins"], json!(["root", "deploy"]));
    assert!(!all.to_string().contains("not a secret"));
    for name in ["web-1", "WEB-1", "alias-of-web-1"] {
        assert_eq!(house.get(&alice, &format!("/api/v1/targets/{name}")).await.1["name"], "web-1");
    }
    assert_eq!(house.get(&bob, "/api/v1/targets").await.1, json!({ "items": [] }));
    let (unknown, forbidden) =
        (house.get(&bob, "/api/v1/targets/web-2").await, house.get(&bob, "/api/v1/targets/web-1").await);
    assert_eq!(unknown.0, StatusCode::NOT_FOUND);
    assert_eq!(forbidden.1.to_string().replace("web-1", "web-2"), unknown.1.to_string());
}

#[tokio::test]
async fn credentials_are_issued_once_shown_once_and_revoked() {
    let house = House::new().await;
    let (olga, alice) = (house.token("olga").await, house.token("alice").await);
    let wish = json!({ "kind": "token", "principal": "alice", "note": "laptop", "expires": "90d" });
    assert_eq!(house.post(&alice, "/api/v1/credentials", wish.clone()).await.0, StatusCode::FORBIDDEN);
    let unknown = json!({ "kind": "token", "principal": "nobody" });
    assert_eq!(house.post(&olga, "/api/v1/credentials", unknown).await.0, StatusCode::NOT_FOUND);
    let (status, issued) = house.post(&olga, "/api/v1/credentials", wish).await;
    assert_eq!(status, StatusCode::CREATED);
    let (secret, id) = (issued["secret"].as_str().expect("secret"), issued["credential"]["id"].as_str().expect("id"));
    let (_, me) = house.get(secret, "/api/v1/whoami").await;
    assert_eq!(
        me,
        json!({ "principal": "alice", "groups": ["web"], "auth_method": "token", "credential": id, "client_address": "192.0.2.9" })
    );
    let (_, listed) = house.get(&alice, "/api/v1/credentials").await;
    assert!(listed["items"].as_array().expect("items").iter().all(|c| c["principal"] == "alice"));
    assert!(!listed.to_string().contains(secret));
    let path = format!("/api/v1/credentials/{id}");
    let (status, revoked) = house.ask(&alice, Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::OK);
    assert!(revoked["revoked"].is_string());
    assert_eq!(house.get(secret, "/api/v1/whoami").await.0, StatusCode::UNAUTHORIZED);
    for (kind, prefix) in [("aws", "RVLK"), ("azure", "")] {
        let (status, issued) = house.post(&olga, "/api/v1/credentials", json!({ "kind": kind })).await;
        assert_eq!((status, &issued["credential"]["kind"]), (StatusCode::CREATED, &json!(kind)));
        assert_eq!(issued["credential"]["principal"], "olga");
        assert!(issued["credential"]["id"].as_str().expect("id").starts_with(prefix));
    }
}

/// A reader of the event stream.
struct Reader {
    body: Body,
    text: String,
}

#[derive(Debug, Default, PartialEq)]
struct Seen {
    id: Option<u64>,
    event: String,
    data: Value,
}

impl Reader {
    async fn connect(house: &House, token: &str, path: &str, last_event_id: Option<u64>) -> Self {
        let mut request = request(token, Method::GET, path, None);
        if let Some(id) = last_event_id {
            request.headers_mut().insert("last-event-id", id.into());
        }
        let response = house.router.clone().oneshot(request).await.expect("the service answers");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        let mut reader = Reader { body: response.into_body(), text: String::new() };
        let hello = reader.block().await.expect("a first block");
        assert!(hello.contains("retry: 1000"), "{hello}");
        reader
    }

    /// The next block, or `None` at the end of the stream.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                return Some(block);
            }
            let frame = tokio::time::timeout(Duration::from_secs(20), self.body.frame()).await.expect("in time")?;
            let data = frame.expect("no transport error").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
    }

    /// The next event, heartbeats left out.
    async fn next(&mut self) -> Option<Seen> {
        loop {
            let block = self.block().await?;
            let mut seen = Seen::default();
            for line in block.lines() {
                match line.split_once(": ").expect("a field") {
                    ("id", id) => seen.id = Some(id.parse().expect("a number")),
                    ("event", event) => event.clone_into(&mut seen.event),
                    ("data", data) => seen.data = serde_json::from_str(data).expect("JSON"),
                    (_, _) => {}
                }
            }
            if !seen.event.is_empty() {
                return Some(seen);
            }
        }
    }

    async fn until(&mut self, kind: &str) -> Vec<Seen> {
        let mut all = Vec::new();
        loop {
            let seen = self.next().await.expect("the stream goes on");
            let found = seen.event == kind;
            all.push(seen);
            if found {
                return all;
            }
        }
    }
}

#[tokio::test]
async fn the_stream_tells_each_event_once_across_reconnects() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let mut reader = Reader::connect(&house, &olga, "/api/v1/events?cursor=0", None).await;
    let admission = house.open("alice").await;
    let id = admission.session().clone();
    let mut all = reader.until("session_opened").await;
    let last = all.last().and_then(|seen| seen.id);
    drop(reader);
    // What happens while nobody listens is told to whoever comes back.
    admission.end(EndReason::ClientClosed, "").await;
    let mut reader = Reader::connect(&house, &olga, "/api/v1/events?cursor=0", last).await;
    all.extend(reader.until("session_ended").await);
    let ids: Vec<u64> = all.iter().filter_map(|seen| seen.id).collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<_>>(), "neither a hole nor a double");
    let ended = all.last().expect("an event");
    assert_eq!(ended.data["session"], json!(id.as_str()));
    assert_eq!(ended.data["seq"].as_u64(), ended.id);
    assert_eq!(ended.data["facts"]["end_reason"], "client_closed");
    let (_, list) = house.get(&olga, "/api/v1/events/list").await;
    let listed: Vec<&Value> = list["items"].as_array().expect("items").iter().collect();
    assert_eq!(listed, all.iter().map(|seen| &seen.data).collect::<Vec<_>>(), "the list and the stream say the same");
    assert_eq!(list["next_after"], list["newest"]);
}

#[tokio::test]
async fn a_stream_without_a_cursor_begins_now_and_says_where_that_is() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let request = request(&olga, Method::GET, "/api/v1/events", None);
    let response = house.router.clone().oneshot(request).await.expect("the service answers");
    let mut reader = Reader { body: response.into_body(), text: String::new() };
    let hello = reader.block().await.expect("a first block");
    let newest = house.store.events(0, 1).await.expect("events").newest;
    assert!(hello.ends_with(&format!("id: {newest}")), "{hello}");
    let _admission = house.open("alice").await;
    assert_eq!(reader.next().await.and_then(|seen| seen.id), Some(newest + 1));
}

#[tokio::test]
async fn a_snapshot_comes_first_and_is_whole() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let mut held = Vec::new();
    for _ in 0..230 {
        held.push(house.open("alice").await);
    }
    let mut reader = Reader::connect(&house, &olga, "/api/v1/events?snapshot=true", None).await;
    let mut ids = BTreeSet::new();
    loop {
        let seen = reader.next().await.expect("a part");
        assert_eq!(seen.event, "snapshot");
        let part: wire::Snapshot = serde_json::from_value(seen.data).expect("a snapshot");
        ids.extend(part.sessions.into_iter().map(|session| session.id));
        assert_eq!(seen.id.is_none(), part.more, "only the last part may be gone on from");
        if !part.more {
            break;
        }
    }
    assert_eq!(ids, held.iter().map(|a| a.session().to_string()).collect());
    let one = held.pop().expect("a session");
    one.end(EndReason::ClientClosed, "").await;
    assert_eq!(reader.next().await.map(|seen| seen.event), Some("session_ending".to_owned()));
}

#[tokio::test]
async fn people_follow_their_own_sessions_only() {
    let house = House::new().await;
    let alice = house.token("alice").await;
    let mut reader = Reader::connect(&house, &alice, "/api/v1/events?cursor=0", None).await;
    let _others = house.open("olga").await;
    let own = house.open("alice").await;
    let seen = reader.next().await.expect("an event");
    assert_eq!((seen.event.as_str(), &seen.data["session"]), ("session_opened", &json!(own.session().as_str())));
    let (_, list) = house.get(&alice, "/api/v1/events/list").await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_no_longer_kept_is_told_as_a_gap() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let _admission = house.open("alice").await;
    let newest = house.store.events(0, 1).await.expect("events").newest;
    let now = house.store.now().await.expect("a time");
    let pruned = house.store.prune_events(now, 2).await.expect("pruned");
    assert_eq!(pruned, 2);
    let mut reader = Reader::connect(&house, &olga, "/api/v1/events?cursor=0&snapshot=true", Some(0)).await;
    let seen = reader.next().await.expect("a gap");
    // Its place is that of the snapshot: whoever is cut off in between is told again.
    assert_eq!((seen.id, seen.event.as_str(), seen.data), (None, "gap", json!({ "from": 1, "to": 2 })));
    let seen = reader.next().await.expect("a snapshot");
    assert_eq!((seen.id, seen.event.as_str()), (Some(2), "snapshot"));
    assert_eq!(reader.next().await.and_then(|seen| seen.id), Some(3));
    assert!(newest >= 3);
    let (_, list) = house.get(&olga, "/api/v1/events/list?after=1").await;
    assert_eq!(list["gap"], json!({ "from": 2, "to": 2 }));
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked_and_beats_until_then() {
    let beat = Duration::from_millis(20);
    let house = House::with_timing(Timing { heartbeat: beat, recheck: beat }).await;
    let (olga, alice) = (house.token("olga").await, house.token("alice").await);
    let mut reader = Reader::connect(&house, &alice, "/api/v1/events", None).await;
    let heartbeat = reader.block().await.expect("a heartbeat");
    assert!(heartbeat.starts_with(": heartbeat\nid: "), "{heartbeat}");
    let (_, me) = house.get(&alice, "/api/v1/whoami").await;
    let id = me["credential"].as_str().expect("an id");
    let (status, _) = house.ask(&olga, Method::DELETE, &format!("/api/v1/credentials/{id}"), None).await;
    assert_eq!(status, StatusCode::OK);
    let seen = reader.next().await.expect("a last word");
    assert_eq!((seen.event.as_str(), &seen.data["code"]), ("problem", &json!("unauthenticated")));
    assert_eq!(reader.block().await, None, "the stream is over");
}

#[tokio::test]
async fn a_stream_ends_in_time_after_a_revocation_although_nothing_happens() {
    let (heartbeat, recheck) = (Duration::from_secs(60), Duration::from_millis(500));
    let house = House::with_timing(Timing { heartbeat, recheck }).await;
    let (olga, alice) = (house.token("olga").await, house.token("alice").await);
    let mut reader = Reader::connect(&house, &alice, "/api/v1/events", None).await;
    let (_, me) = house.get(&alice, "/api/v1/whoami").await;
    let path = format!("/api/v1/credentials/{}", me["credential"].as_str().expect("an id"));
    let (status, _) = house.ask(&olga, Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::OK);
    let ended = tokio::time::timeout(Duration::from_secs(20), reader.until("problem")).await.expect("in time");
    assert_eq!(ended.last().map(|seen| &seen.data["code"]), Some(&json!("unauthenticated")));
}

#[tokio::test]
async fn streams_have_seats_and_give_them_back() {
    let house = House::new().await;
    let alice = house.token("alice").await;
    let mut readers = Vec::new();
    for _ in 0..64 {
        readers.push(Reader::connect(&house, &alice, "/api/v1/events", None).await);
    }
    let (status, problem) = house.get(&alice, "/api/v1/events").await;
    assert_eq!((status, &problem["code"]), (StatusCode::TOO_MANY_REQUESTS, &json!("limit_reached")));
    readers.pop();
    readers.push(Reader::connect(&house, &alice, "/api/v1/events", None).await);
}

/// How long it takes is printed (`cargo test --release -p ravelin-native thousand -- --nocapture`); what it must not take
/// is for the benchmark to say, because a test shares the machine with others.
#[tokio::test]
async fn a_thousand_live_sessions_are_listed_at_once() {
    let house = House::new().await;
    let olga = house.token("olga").await;
    let token = SecretString::from(house.token("alice").await);
    let contact = Contact { address: ADDRESS.parse().expect("an address"), software: "test".to_owned() };
    let caller = house.engine.identity.token(&token, contact).await.expect("a good token");
    let target = house.engine.gate.find(&caller, "web-1").expect("a target");
    let mut held = Vec::new();
    for _ in 0..1000 {
        let ask = Ask {
            target: Arc::clone(&target),
            login: Some(Login::parse("root").expect("a login")),
            kind: Kind::Shell,
            document: None,
            reason: None,
            logs: Vec::new(),
            client: FakeLeg::new(),
        };
        held.push(house.engine.gate.admit(&caller, ask).await.expect("an admission"));
    }
    let mut times = Vec::new();
    for _ in 0..20 {
        let start = Instant::now();
        let (status, _, body) =
            house.raw(request(&olga, Method::GET, "/api/v1/sessions?state=live&limit=1000", None)).await;
        times.push(start.elapsed());
        assert_eq!(status, StatusCode::OK);
        let page: wire::SessionPage = serde_json::from_slice(&body).expect("a page");
        let ids: BTreeSet<&str> = page.items.iter().map(|session| session.id.as_str()).collect();
        assert_eq!((ids.len(), page.next_cursor), (1000, None));
    }
    times.sort();
    println!("1000 live sessions: median {:?}, slowest {:?}", times[10], times[19]);
}
