//! A bastion with three principals and two targets, and a client that signs as the SDKs do.

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningParams, SigningSettings, sign};
use aws_sigv4::sign::v4;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use ravelin_engine::control::{Issued, issue};
use ravelin_engine::egress::{Dialer, Far, Unreached};
use ravelin_engine::gate::{Admission, Ask};
use ravelin_engine::identity::Signed;
use ravelin_engine::leg::Leg;
use ravelin_engine::testkit::{FakeLeg, PolicyFn, principal, rules, target};
use ravelin_engine::{Caller, Config, Contact, Engine, MasterKey};
use ravelin_model::credential::CredentialKind;
use ravelin_model::policy::{Question, Resource, Scope};
use ravelin_model::ports::Store;
use ravelin_model::session::{Actor, EndReason, Kind};
use ravelin_model::target::LoginWay;
use ravelin_model::{NodeId, PrincipalName, Target, Time};
use ravelin_store::SqliteStore;
use secrecy::ExposeSecret;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tower::ServiceExt;

pub(crate) const ACCOUNT: &str = "123456789012";
pub(crate) const HOST: &str = "127.0.0.1:27310";
const PEER: ([u8; 4], u16) = ([127, 0, 0, 1], 40_000);

/// Operators do everything; others see what is shared with their groups and see and end their own sessions. Who is in
/// `nobody` may do nothing.
fn decide(question: &Question<'_>) -> Option<bool> {
    let groups = &question.principal.groups;
    if groups.iter().any(|group| group.as_str() == "operators") {
        return Some(true);
    }
    if groups.iter().any(|group| group.as_str() == "nobody") {
        return Some(false);
    }
    if groups.iter().any(|group| group.as_str() == "watchers") {
        return Some(question.action != ravelin_model::policy::Action::TerminateSession);
    }
    Some(match question.resource {
        Resource::Target(target) => !target.shared_with.is_disjoint(groups),
        Resource::Session { owner, .. } => *owner == question.principal.name,
        Resource::Scope(scope) => scope == Scope::Own,
        Resource::Bastion => true,
    })
}

/// Goes nowhere: targets are spoken to in tests of the whole.
struct NoDialer;

#[async_trait::async_trait]
impl Dialer for NoDialer {
    async fn dial(
        &self,
        _target: &Target,
        _way: &LoginWay,
        _hold: &(dyn Fn(Arc<dyn Leg>) + Send + Sync),
    ) -> Result<Box<dyn Far>, Unreached> {
        Err(Unreached::new(EndReason::TargetUnreachable, "nobody goes there"))
    }
}

/// The access key of a principal.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) session_token: Option<String>,
}

impl Key {
    fn of(issued: &Issued) -> Self {
        Self {
            id: issued.credential.id.to_string(),
            secret: issued.secret.expose_secret().to_owned(),
            session_token: issued.session_token.as_ref().map(|token| token.expose_secret().to_owned()),
        }
    }
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) router: Router,
    keys: BTreeMap<&'static str, Key>,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|config| config, 1).await
    }

    /// A world whose edge is set differently, and whose target `web-1` listens on this port.
    pub(crate) async fn with(change: impl FnOnce(ravelin_aws::Config) -> ravelin_aws::Config, web_port: u16) -> Self {
        Self::made(change, Arc::new(NoDialer), web_port).await
    }

    /// A world whose targets are reached by this dialer, or listen on this port.
    pub(crate) async fn going_out_by(dialer: Arc<dyn Dialer>, web_port: u16) -> Self {
        Self::made(|config| config, dialer, web_port).await
    }

    async fn made(
        change: impl FnOnce(ravelin_aws::Config) -> ravelin_aws::Config,
        dialer: Arc<dyn Dialer>,
        web_port: u16,
    ) -> Self {
        let sqlite = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
        let store: Arc<dyn Store> = sqlite.clone();
        let master = MasterKey::new([7; 32]);
        let with_alias = |target: Target| {
            let alias = ravelin_aws::target_id(target.id.hex());
            Target { aliases: BTreeMap::from([(ravelin_aws::ALIAS.to_owned(), alias)]), ..target }
        };
        let people = [("alice", "operators"), ("bob", "web"), ("walt", "watchers"), ("nina", "nobody")];
        let rules = rules(
            people.iter().map(|(name, group)| principal(name, &[group])).collect(),
            vec![
                with_alias(target("web-1", "127.0.0.1", web_port, &["web"])),
                with_alias(target("db-1", "127.0.0.1", web_port, &["db"])),
            ],
            Arc::new(PolicyFn(decide)),
        );
        let mut keys = BTreeMap::new();
        for (name, _) in people {
            let owner = PrincipalName::parse(name).expect("a name");
            let issued =
                issue(store.as_ref(), &master, &owner, CredentialKind::SigningKey, "test", None, &Actor::System);
            keys.insert(name, Key::of(&issued.await.expect("an access key")));
        }
        let node = NodeId::parse("node-00000001").expect("a node's id");
        let engine = Engine::start(store, rules, master, Config::new(node)).await.expect("an engine");
        let handles = ravelin_aws::server::Handles {
            control: engine.control.clone(),
            gate: engine.gate.clone(),
            identity: engine.identity.clone(),
            pager: engine.pager.clone(),
            library: engine.library(sqlite),
            dialer,
        };
        let router = ravelin_aws::server::router(handles, change(ravelin_aws::Config::new(ACCOUNT)));
        Self { engine, router, keys }
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        self.keys[name].clone()
    }

    /// A temporary key of somebody, good until then.
    pub(crate) async fn temporary(&self, name: &str, until: Time) -> Key {
        let (alice, owner) = (self.caller("alice").await, PrincipalName::parse(name).expect("a name"));
        let kind = CredentialKind::TemporaryKey;
        let issued = self.engine.control.issue_credential(&alice, &owner, kind, "test", Some(until)).await;
        Key::of(&issued.expect("a temporary key"))
    }

    pub(crate) async fn caller(&self, name: &str) -> Caller {
        let contact = Contact { address: SocketAddr::from(PEER), software: "test".to_owned() };
        let signed = Signed { key: &self.keys[name].id, signature: b"x", session_token: None };
        let proof = self.engine.identity.signed_request(signed, contact, |_| b"x".to_vec());
        proof.await.expect("a caller")
    }

    /// A connected session that closes when it is cut.
    pub(crate) async fn open(&self, who: &str, target: &str) -> Admission {
        let admission = self.open_with(who, target, FakeLeg::new()).await;
        admission.connected().await.expect("connected");
        admission
    }

    pub(crate) async fn open_with(&self, who: &str, target: &str, client: Arc<FakeLeg>) -> Admission {
        let caller = self.caller(who).await;
        // Targets are looked up as an operator; whether `who` may connect is asked at admission.
        let target = self.engine.gate.find(&self.caller("alice").await, target).expect("a target");
        let login = target.logins.first().map(|way| way.login.clone());
        let ask = Ask {
            target,
            login,
            kind: Kind::Shell,
            document: None,
            reason: Some("a test".to_owned()),
            logs: Vec::new(),
            client,
        };
        let admission = self.engine.gate.admit(&caller, ask).await.expect("an admission");
        admission.attach_target(FakeLeg::new());
        admission
    }

    pub(crate) async fn send(&self, request: Request<Vec<u8>>) -> Answer {
        let (mut parts, body) = request.into_parts();
        parts.extensions.insert(ConnectInfo(SocketAddr::from(PEER)));
        let request = Request::from_parts(parts, Body::from(body));
        let response = self.router.clone().oneshot(request).await.expect("the router never fails");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        let text = String::from_utf8(body.to_vec()).expect("answers are UTF-8");
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// A call as an SDK makes it.
    pub(crate) async fn call(&self, who: &str, operation: &str, body: &str) -> Answer {
        self.send(signed(&self.key(who), &request(operation, body), SystemTime::now())).await
    }
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).expect("answers are JSON")
    }

    /// `__type` and text of an error.
    pub(crate) fn fault(&self) -> (String, String) {
        let json = self.json();
        let of = |member: &str| json.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        (of("__type"), if json.get("message").is_some() { of("message") } else { of("Message") })
    }

    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        self.json()
    }
}

/// An unsigned call.
pub(crate) fn request(operation: &str, body: &str) -> Request<Vec<u8>> {
    Request::post("/")
        .header("host", HOST)
        .header("content-type", "application/x-amz-json-1.1")
        .header("x-amz-target", format!("AmazonSSM.{operation}"))
        .header("user-agent", "aws-cli/2 test")
        .body(body.as_bytes().to_vec())
        .expect("a request")
}

pub(crate) fn signed(key: &Key, request: &Request<Vec<u8>>, at: SystemTime) -> Request<Vec<u8>> {
    signed_for(key, request, at, "eu-west-1", "ssm", SigningSettings::default())
}

/// Signs as the SDKs do, with all the signer's knobs.
pub(crate) fn signed_for(
    key: &Key,
    request: &Request<Vec<u8>>,
    at: SystemTime,
    region: &str,
    service: &str,
    settings: SigningSettings,
) -> Request<Vec<u8>> {
    let identity = Credentials::new(&key.id, &key.secret, key.session_token.clone(), None, "test").into();
    let params: SigningParams<'_> = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(at)
        .settings(settings)
        .build()
        .expect("whole parameters")
        .into();
    let headers = request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")));
    let signable = SignableRequest::new(
        request.method().as_str(),
        request.uri().to_string(),
        headers,
        SignableBody::Bytes(request.body()),
    )
    .expect("a signable request");
    let (instructions, _signature) = sign(signable, &params).expect("a signature").into_parts();
    let mut request = request.clone();
    instructions.apply_to_request_http1x(&mut request);
    request
}

pub(crate) fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
