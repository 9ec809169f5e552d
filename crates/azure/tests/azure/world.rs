//! A small deployment in memory: alice operates, bob works, audrey may look at everything, eve may do nothing.

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use ravelin_azure::{ALIAS, Config};
use ravelin_engine::egress::Egress;
use ravelin_engine::gate::{Admission, Ask};
use ravelin_engine::testkit::{FakeLeg, PolicyFn, principal, rules, target};
use ravelin_engine::{Caller, Contact, Engine, MasterKey, Rules};
use ravelin_model::credential::CredentialKind;
use ravelin_model::policy::{Action, Question, Resource};
use ravelin_model::ports::Store;
use ravelin_model::session::Kind;
use ravelin_model::{Login, NodeId, Principal, PrincipalName, Session, SessionId, Target};
use ravelin_store::SqliteStore;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

pub(crate) const TENANT: &str = "6d0f2b6e-9f52-4c2e-8c0a-0a4b6a1f3c55";
pub(crate) const SUBSCRIPTION: &str = "0b1f6471-1bf0-4dda-aec3-cb9272f09590";
pub(crate) const HOST: &str = "bastion.example:8443";
pub(crate) const VERSION: &str = "2024-05-01";

/// The bastion host's path, with `rest` behind it.
pub(crate) fn host_path(rest: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network/bastionHosts/bastion{rest}")
}

/// Fetches over real sockets, from this machine.
struct Loopback;

#[async_trait::async_trait]
impl ravelin_azure::KeyFetch for Loopback {
    async fn fetch(&self, url: &str) -> Result<bytes::Bytes, String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let rest = url.strip_prefix("http://").ok_or("loopback speaks plain HTTP")?;
        let (authority, path) = rest.split_once('/').ok_or("no path")?;
        let mut stream = tokio::net::TcpStream::connect(authority).await.map_err(|error| error.to_string())?;
        let head = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no head")?;
        Ok(bytes::Bytes::copy_from_slice(&answer[end + 4..]))
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) router: Router,
    pub(crate) signing_key: SecretString,
    alice: Caller,
    store: Arc<dyn Store>,
    config: Config,
    store_wait_max: Duration,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("a header of ASCII"))
    }

    /// `code` of an ARM error.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

fn decide(question: &Question<'_>) -> Option<bool> {
    let in_group = |name: &str| question.principal.groups.iter().any(|group| group.as_str() == name);
    Some(if in_group("operators") {
        true
    } else if in_group("auditors") {
        matches!(question.action, Action::ListSessions | Action::ReadSession | Action::ReadBastion)
    } else if in_group("nobodies") {
        false
    } else {
        match question.resource {
            Resource::Target(target) => !target.shared_with.is_disjoint(&question.principal.groups),
            Resource::Session { owner, .. } => *owner == question.principal.name,
            Resource::Scope(scope) => scope == ravelin_model::policy::Scope::Own,
            Resource::Bastion => true,
        }
    })
}

pub(crate) fn named(name: &str, address: &str, alias: Option<String>) -> Target {
    let mut target = target(name, address, 22, &["web"]);
    target.aliases = alias.into_iter().map(|alias| (ALIAS.to_owned(), alias)).collect();
    target
}

fn small_rules() -> Rules {
    rules_with(Vec::new(), Egress::default())
}

pub(crate) fn rules_with(targets: Vec<Target>, egress: Egress) -> Rules {
    let key = |name: &str, groups: &[&str]| Principal {
        ssh_keys: vec![format!("ssh-ed25519 {name}")],
        ..principal(name, groups)
    };
    let elsewhere = ravelin_azure::target_id("11111111-2222-3333-4444-555555555555", "other-rg", "vm01");
    let usual = [named("vm01", "10.1.1.1", Some(elsewhere)), named("web-1", "web-1.internal", None)];
    let rules = rules(
        vec![
            key("alice", &["operators"]),
            key("bob", &["web"]),
            key("audrey", &["auditors"]),
            key("eve", &["nobodies"]),
        ],
        usual.into_iter().chain(targets).collect(),
        Arc::new(PolicyFn(decide)),
    );
    Rules { egress, ..rules }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(set: impl FnOnce(&mut Config)) -> Self {
        Self::of(small_rules(), set).await
    }

    /// With these targets beside the usual ones, and with these addresses open.
    pub(crate) async fn reaching(targets: Vec<Target>, egress: Egress) -> Self {
        Self::of(rules_with(targets, egress), |_| {}).await
    }

    async fn of(rules: Rules, set: impl FnOnce(&mut Config)) -> Self {
        let store = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
        let mut config = Config::new(TENANT, SUBSCRIPTION, "rg1", "bastion");
        set(&mut config);
        let wait = ravelin_engine::Config::new(NodeId::new(1)).store_wait_max;
        Self::start(store, rules, config, ravelin_azure::generate_signing_key(), wait).await
    }

    /// Over a store of the test's own, which may take this long to answer.
    pub(crate) async fn over(store: Arc<dyn Store>, store_wait_max: Duration, set: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(TENANT, SUBSCRIPTION, "rg1", "bastion");
        set(&mut config);
        Self::start(store, small_rules(), config, ravelin_azure::generate_signing_key(), store_wait_max).await
    }

    /// The next life of the same deployment: only what is in the store, and the key, is still there.
    pub(crate) async fn restarted(self) -> Self {
        let Self { store, config, signing_key, engine, store_wait_max, .. } = self;
        engine.stop(Duration::ZERO).await.expect("it stops");
        Self::start(store, small_rules(), config, signing_key, store_wait_max).await
    }

    async fn start(
        store: Arc<dyn Store>,
        rules: Rules,
        config: Config,
        signing_key: SecretString,
        store_wait_max: Duration,
    ) -> Self {
        let mut settings = ravelin_engine::Config::new(NodeId::new(1));
        settings.sessions_per_principal_max = 5000;
        settings.store_wait_max = store_wait_max;
        let master = MasterKey::new([7; 32]);
        let engine = Engine::start(store.clone(), rules, master, settings).await.expect("the engine starts");
        let router = ravelin_azure::server::router(
            engine.control.clone(),
            engine.gate.clone(),
            engine.identity.clone(),
            engine.pager.clone(),
            ravelin_azure::SigningKeys::new(&signing_key, None).expect("a right key"),
            Arc::new(Loopback),
            config.clone(),
        )
        .expect("a right configuration");
        let alice = ssh_caller(&engine, "alice").await;
        Self { engine, router, signing_key, alice, store, config, store_wait_max }
    }

    /// One session, as alice sees it.
    pub(crate) async fn session(&self, id: &SessionId) -> Session {
        self.engine.control.describe(&self.alice, id).await.expect("alice sees every session")
    }

    /// A session of `who` to `target`, with the client's leg to look at.
    pub(crate) async fn open(&self, who: &str, target: &str, client: Arc<FakeLeg>) -> Admission {
        let caller = ssh_caller(&self.engine, who).await;
        let target = self.engine.gate.find(&caller, target).expect("a target");
        let login = Some(Login::parse("root").expect("a login"));
        let ask = Ask { target, login, kind: Kind::Shell, document: None, reason: None, logs: Vec::new(), client };
        let admission = self.engine.gate.admit(&caller, ask).await.expect("admitted");
        admission.connected().await.expect("connected");
        admission
    }

    /// A credential's id and secret; for an API token the whole token.
    pub(crate) async fn credential(&self, who: &str, kind: CredentialKind) -> (String, String) {
        let name = PrincipalName::parse(who).expect("a name");
        let control = &self.engine.control;
        let issued = control.issue_credential(&self.alice, &name, kind, "", None).await.expect("issued");
        (issued.credential.id.to_string(), issued.secret.expose_secret().to_owned())
    }

    pub(crate) async fn revoke(&self, id: &str) {
        let id = ravelin_model::CredentialId::parse(id).expect("a credential's id");
        self.engine.control.revoke_credential(&self.alice, &id).await.expect("revoked");
    }

    /// A bearer token of `who`, got the way clients get one.
    pub(crate) async fn bearer(&self, who: &str) -> String {
        let (id, secret) = self.credential(who, CredentialKind::ClientSecret).await;
        self.bearer_for(&id, &secret).await
    }

    pub(crate) async fn bearer_for(&self, id: &str, secret: &str) -> String {
        let form = format!(
            "client_id={id}&client_secret={secret}&grant_type=client_credentials&client_info=1\
             &scope=https%3A%2F%2Fmanagement.azure.com%2F.default"
        );
        let answer = self.send(request(Method::POST, &format!("/{TENANT}/oauth2/v2.0/token"), None, &form)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["access_token"].as_str().expect("a token").to_owned()
    }

    pub(crate) async fn send(&self, mut request: Request<Body>) -> Answer {
        let peer = SocketAddr::from(([192, 0, 2, 7], 4711));
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(Scheme::HTTPS);
        let response = self.router.clone().oneshot(request).await.expect("the router cannot fail");
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.into_body().collect().await.expect("a body").to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub(crate) async fn post(&self, bearer: &str, rest: &str, body: &str) -> Answer {
        let path = format!("{}?api-version={VERSION}", host_path(rest));
        self.send(request(Method::POST, &path, Some(bearer), body)).await
    }

    /// A request to the bastion host's path that wants its answer later.
    pub(crate) async fn post_later(&self, bearer: &str, rest: &str, body: &str) -> Answer {
        let path = format!("{}?api-version={VERSION}", host_path(rest));
        let mut request = request(Method::POST, &path, Some(bearer), body);
        request.headers_mut().insert("prefer", http::HeaderValue::from_static("respond-async, wait=1"));
        self.send(request).await
    }

    pub(crate) async fn ask(&self, method: Method, bearer: &str, path: &str, body: &str) -> Answer {
        self.send(request(method, path, Some(bearer), body)).await
    }

    /// The kinds of events on record.
    pub(crate) async fn events(&self) -> Vec<ravelin_model::audit::AuditKind> {
        let (page, _) = self.engine.control.events(&self.alice, 0, 1000).await.expect("alice sees every event");
        page.events.iter().map(|event| event.deed.kind).collect()
    }

    /// Leaves an operation of `who` behind as a crash would: begun and not answered.
    pub(crate) async fn leave_begun(&self, who: &str, id: &str) {
        let caller = ssh_caller(&self.engine, who).await;
        let text = r#"{"status":0,"body":""}"#.to_owned();
        let kept = self.engine.control.keep_answer(&caller, id, text, Duration::from_secs(60)).await;
        kept.expect("it is kept");
    }

    pub(crate) async fn list(&self, bearer: &str) -> Vec<Value> {
        let answer = self.post(bearer, "/getActiveSessions", "").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body["value"].as_array().expect("a list").clone()
    }
}

pub(crate) fn request(method: Method, path: &str, bearer: Option<&str>, body: &str) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("host", HOST);
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    request.body(Body::from(body.to_owned())).expect("a request")
}

async fn ssh_caller(engine: &Engine, name: &str) -> Caller {
    let contact = Contact { address: SocketAddr::from(([192, 0, 2, 8], 22)), software: "test".to_owned() };
    engine.identity.ssh_key(name, &format!("ssh-ed25519 {name}"), contact).await.expect("a known key")
}
