//! One request on its way: proof, dispatch, answer. The only file of this edge that knows HTTP.
//!
//! Order, as AWS has it: signature (its form, clock and scope before the body is read; then the signature itself),
//! operation, body, members, permission. Whoever cannot prove who they are learns nothing else.

use crate::api::start_session::{Answers, Starter};
use crate::api::{
    Call, describe_instances, describe_sessions, documents, get_connection_status, resume_session, settings,
    start_session, terminate_session,
};
use crate::channel::{Lobby, upgrade};
use crate::proto::sigv4::{self, Claim, Terms};
use crate::refusal::{About, Fault, Spoken, TokenFault};
use crate::{Config, OPERATIONS};
use axum::Router;
use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{ConnectInfo, FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderName, Method, Request, StatusCode};
use http_body_util::BodyExt;
use ravelin_engine::egress::Dialer;
use ravelin_engine::identity::{SignatureRefusal, Signed};
use ravelin_engine::leg::SocketHandle;
use ravelin_engine::{Caller, Contact, Control, Gate, Identity, Library, Pager};
use ravelin_model::principal::AuthMethod;
use ravelin_model::{PrincipalName, Refusal};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Largest body that is read, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a body.
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest user agent that a session or a record keeps, in characters.
const SOFTWARE_CHARS_MAX: usize = 256;
const SERVICE: &str = "ssm";
/// What upgrades of data channels are signed for.
const CHANNEL_SERVICE: &str = "ssmmessages";
const TARGET_PREFIX: &str = "AmazonSSM.";
const CONTENT: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Names a call; all tries of it bear the same.
const INVOCATION: HeaderName = HeaderName::from_static("amz-sdk-invocation-id");
/// What whoever signed a data channel wrongly is told.
const BAD_SIGNATURE: &str = "this data channel cannot be opened: its request is signed, and the signature does not hold; \
                             check the keys of your profile and the clock, or use a client that does not sign";
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// What the edge is given of the engine, and who goes out for it.
pub struct Handles {
    /// Lists, shows and ends sessions.
    pub control: Control,
    /// Admits sessions.
    pub gate: Gate,
    /// Turns signatures into callers.
    pub identity: Identity,
    /// Seals and opens page tokens.
    pub pager: Pager,
    /// Documents and settings.
    pub library: Library,
    /// Goes out to targets.
    pub dialer: Arc<dyn Dialer>,
}

/// The whole edge as a service. It answers every path and method in this dialect, so it is to be called with the
/// requests that are its own (those with an `X-Amz-Target` header or a signature, and [`crate::owns_path`]), not merged
/// with other routes.
///
/// Each request must carry `ConnectInfo<SocketAddr>` of its peer as an extension, and should carry its
/// `http::uri::Scheme`; one that may be upgraded carries the [`SocketHandle`] of its connection.
pub fn router(handles: Handles, config: Config) -> Router {
    let Handles { control, gate, identity, pager, library, dialer } = handles;
    let lobby = Arc::new(Lobby::default());
    let answers = Answers::default();
    let starter = Starter { control, gate, library, dialer, lobby, answers };
    let server = Arc::new(Server { starter, identity, pager, config });
    let channels = format!("{}{{session}}", upgrade::PATH);
    Router::new().route(&channels, any(open_channel)).route("/", any(answer)).fallback(answer).with_state(server)
}

struct Server {
    starter: Starter,
    identity: Identity,
    pager: Pager,
    config: Config,
}

/// A data channel. Whatever is wrong with it is said over it, because clients show nothing else.
async fn open_channel(
    State(server): State<Arc<Server>>,
    Path(session): Path<String>,
    request: Request<Body>,
) -> Response {
    let (mut parts, _no_body) = request.into_parts();
    let Some(handle) = parts.extensions.get::<SocketHandle>().cloned() else {
        return plain(StatusCode::BAD_REQUEST, "a data channel needs a connection of its own: use HTTP/1.1\n");
    };
    let signer = server.signer(&parts).await;
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade::answer(upgrade, session, signer, handle, Arc::clone(&server.starter.lobby)),
        Err(rejection) => rejection.into_response(),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn answer(State(server): State<Arc<Server>>, request: Request<Body>) -> Response {
    let id = Uuid::new_v4();
    match server.serve(request).await {
        Ok(json) => respond(id, StatusCode::OK, json),
        Err(fault) => {
            let spoken = fault.speak();
            note(id, &fault, &spoken);
            refuse(id, spoken)
        }
    }
}

impl Server {
    async fn serve(&self, request: Request<Body>) -> Result<Bytes, Fault> {
        let (parts, body) = request.into_parts();
        let claim = self.claim(&parts).await?;
        let body = tokio::time::timeout(BODY_WAIT_MAX, read(&parts, body)).await.map_err(|_elapsed| Fault::Slow)??;
        let caller = self.prove(&parts, &claim, &body).await?;
        let operation = operation(&parts).ok_or(Fault::UnknownOperation)?;
        let channels = channels(&parts, &self.config);
        let invocation = parts.headers.get(INVOCATION).and_then(|id| id.to_str().ok());
        let call = Call {
            operation: operation.name(),
            caller: &caller,
            region: claim.region(),
            body: &body,
            invocation,
            channels: &channels,
            config: &self.config,
        };
        let Starter { control, library, lobby, .. } = &self.starter;
        let pager = &self.pager;
        match operation {
            Operation::DescribeSessions => json(&describe_sessions::answer(control, pager, &call).await?),
            Operation::TerminateSession => json(&terminate_session::answer(control, &call).await?),
            Operation::GetConnectionStatus => json(&get_connection_status::answer(control, &call).await?),
            Operation::StartSession => json(&start_session::answer(&self.starter, &call).await?),
            Operation::ResumeSession => json(&resume_session::answer(control, lobby, &call).await?),
            Operation::DescribeInstanceInformation => {
                json(&describe_instances::information(control, pager, &call).await?)
            }
            Operation::DescribeInstanceProperties => {
                json(&describe_instances::properties(control, pager, &call).await?)
            }
            Operation::CreateDocument => json(&documents::create(library, &call).await?),
            Operation::UpdateDocument => json(&documents::update(library, &call).await?),
            Operation::UpdateDocumentDefaultVersion => json(&documents::set_default(library, &call).await?),
            Operation::DeleteDocument => json(&documents::delete(library, &call).await?),
            Operation::GetDocument => json(&documents::get(library, &call).await?),
            Operation::DescribeDocument => json(&documents::describe(library, &call).await?),
            Operation::ListDocuments => json(&documents::list(library, pager, &call).await?),
            Operation::ListDocumentVersions => json(&documents::versions(library, pager, &call).await?),
            Operation::AddTagsToResource => json(&documents::add_tags(library, &call).await?),
            Operation::RemoveTagsFromResource => json(&documents::remove_tags(library, &call).await?),
            Operation::ListTagsForResource => json(&documents::list_tags(library, &call).await?),
            Operation::GetServiceSetting => json(&settings::get(control, library, &call).await?),
            Operation::UpdateServiceSetting => json(&settings::update(library, &call).await?),
            Operation::ResetServiceSetting => json(&settings::reset(control, library, &call).await?),
        }
    }

    /// Who signed an upgrade; `None` when nobody did. A signature that is there has to hold.
    async fn signer(&self, parts: &Parts) -> Result<Option<PrincipalName>, &'static str> {
        let signed = parts.headers.contains_key(http::header::AUTHORIZATION)
            || parts.uri.query().is_some_and(|query| query.contains("X-Amz-Signature="));
        if !signed {
            return Ok(None);
        }
        let proved = async {
            let claim = self.claim_for(parts, CHANNEL_SERVICE).await?;
            self.prove(parts, &claim, &[]).await
        };
        match proved.await {
            Ok(caller) => Ok(Some(caller.name().clone())),
            Err(fault) => {
                tracing::info!(code = fault.speak().code, "a data channel's signature was refused");
                Err(BAD_SIGNATURE)
            }
        }
    }

    /// What the request claims, if the claim may stand.
    async fn claim(&self, parts: &Parts) -> Result<Claim, Fault> {
        self.claim_for(parts, SERVICE).await
    }

    async fn claim_for(&self, parts: &Parts, service: &str) -> Result<Claim, Fault> {
        let claim = Claim::read(&signed_request(parts, &headers(parts))).map_err(Fault::Signature)?;
        let now = self.starter.control.now().await.map_err(refused)?;
        let terms = Terms { service, regions: self.config.regions.as_deref(), skew_max: self.config.skew_max };
        let Err(fault) = claim.check(now, &terms) else { return Ok(claim) };
        self.identity.refuse(&contact(parts)?, AuthMethod::SignedRequest, claim.key_id()).await;
        Err(Fault::Signature(fault))
    }

    async fn prove(&self, parts: &Parts, claim: &Claim, body: &[u8]) -> Result<Caller, Fault> {
        let digest = sigv4::body_sha256(body);
        let contact = contact(parts)?;
        if let Err(fault) = claim.check_body(&digest) {
            self.identity.refuse(&contact, AuthMethod::SignedRequest, claim.key_id()).await;
            return Err(Fault::Signature(fault));
        }
        let expected = |secret: &secrecy::SecretString| claim.signature(secret.expose_secret(), &digest).into_bytes();
        let signed = Signed {
            key: claim.key_id(),
            signature: claim.presented().as_bytes(),
            session_token: claim.session_token(),
        };
        let proof = self.identity.signed_request(signed, contact, expected).await;
        proof.map_err(|refusal| match refusal {
            SignatureRefusal::UnknownKey => Fault::UnknownKey,
            SignatureRefusal::NeedlessToken => Fault::SessionToken(TokenFault::Needless),
            SignatureRefusal::WrongToken if claim.session_token().is_none() => Fault::SessionToken(TokenFault::Missing),
            SignatureRefusal::WrongToken => Fault::SessionToken(TokenFault::Wrong),
            SignatureRefusal::Expired => Fault::SessionToken(TokenFault::Expired),
            SignatureRefusal::WrongSignature => {
                let canonical = claim.canonical_for_log();
                tracing::debug!(key = claim.key_id(), %canonical, body = digest, "a signature does not match");
                Fault::WrongSignature
            }
            SignatureRefusal::Other(refusal) => refused(refusal),
        })
    }
}

macro_rules! operations {
    ($($name:ident)+) => {
        /// What is offered. The same list, with the actions that it asks for, is [`OPERATIONS`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Operation { $($name,)+ }

        impl Operation {
            const ALL: [Operation; OPERATIONS.len()] = [$(Operation::$name,)+];

            fn name(self) -> &'static str {
                match self { $(Operation::$name => stringify!($name),)+ }
            }
        }
    };
}

operations!(
    DescribeSessions
    TerminateSession
    GetConnectionStatus
    StartSession
    ResumeSession
    DescribeInstanceInformation
    DescribeInstanceProperties
    CreateDocument
    UpdateDocument
    UpdateDocumentDefaultVersion
    DeleteDocument
    GetDocument
    DescribeDocument
    ListDocuments
    ListDocumentVersions
    AddTagsToResource
    RemoveTagsFromResource
    ListTagsForResource
    GetServiceSetting
    UpdateServiceSetting
    ResetServiceSetting
);

/// The scheme and host of data channels, as clients reach them.
fn channels(parts: &Parts, config: &Config) -> String {
    let as_socket = |url: &str| match url.split_once("://") {
        Some(("http", rest)) => format!("ws://{}", rest.trim_end_matches('/')),
        Some((_, rest)) => format!("wss://{}", rest.trim_end_matches('/')),
        None => format!("wss://{url}"),
    };
    if let Some(url) = &config.public_url {
        return as_socket(url);
    }
    let scheme = match parts.extensions.get::<Scheme>() {
        Some(scheme) if *scheme == Scheme::HTTP => "ws",
        Some(_) | None => "wss",
    };
    let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| parts.uri.authority().map(http::uri::Authority::as_str)).unwrap_or("localhost");
    format!("{scheme}://{host}")
}

fn operation(parts: &Parts) -> Option<Operation> {
    let mut targets = parts.headers.get_all("x-amz-target").iter();
    let (Some(target), None) = (targets.next(), targets.next()) else { return None };
    let name = target.to_str().ok()?.strip_prefix(TARGET_PREFIX)?;
    let operation = Operation::ALL.into_iter().find(|operation| operation.name() == name)?;
    (parts.method == Method::POST && parts.uri.path() == "/").then_some(operation)
}

fn contact(parts: &Parts) -> Result<Contact, Fault> {
    let Some(ConnectInfo(address)) = parts.extensions.get::<ConnectInfo<SocketAddr>>() else {
        return Err(refused(Refusal::internal("a request arrived without the address of its peer")));
    };
    let software = parts.headers.get(http::header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
    let software = String::from_utf8_lossy(software);
    let software = software.chars().filter(|c| !c.is_control()).take(SOFTWARE_CHARS_MAX).collect();
    Ok(Contact { address: *address, software })
}

/// All headers; over HTTP/2 the authority stands for the missing `host`.
fn headers(parts: &Parts) -> Vec<(&str, &[u8])> {
    let sent = parts.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let authority = parts.uri.authority().filter(|_| !parts.headers.contains_key(http::header::HOST));
    sent.chain(authority.map(|authority| ("host", authority.as_str().as_bytes()))).collect()
}

fn signed_request<'a>(parts: &'a Parts, headers: &'a [(&'a str, &'a [u8])]) -> sigv4::Request<'a> {
    sigv4::Request {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query().unwrap_or(""),
        headers,
    }
}

/// The whole body, unless it is or says that it is too large.
async fn read(parts: &Parts, mut body: Body) -> Result<Bytes, Fault> {
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(Fault::TooLarge);
    }
    let mut whole = BytesMut::with_capacity(announced.unwrap_or(0));
    while let Some(frame) = body.frame().await {
        // The client went away or broke the framing; nobody will read the answer.
        let Ok(frame) = frame else { return Err(Fault::Slow) };
        if let Ok(data) = frame.into_data() {
            if whole.len() + data.len() > BODY_BYTES_MAX {
                return Err(Fault::TooLarge);
            }
            whole.extend_from_slice(&data);
        }
    }
    Ok(whole.freeze())
}

/// A refusal that concerns no operation yet.
fn refused(refusal: Refusal) -> Fault {
    Fault::Refused { refusal, about: About::default() }
}

fn json(answer: &impl Serialize) -> Result<Bytes, Fault> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| refused(Refusal::internal(error)))
}

fn respond(id: Uuid, status: StatusCode, json: Bytes) -> Response {
    let length = json.len();
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, CONTENT);
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    // A UUID is ASCII.
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

fn refuse(id: Uuid, spoken: Spoken) -> Response {
    // `__type` stands first, as the service has it; a map would sort it behind its text.
    let quoted = |text: &str| Value::from(text).to_string();
    let text = spoken.text.map(|text| format!(",\"{}\":{}", spoken.member, quoted(&text))).unwrap_or_default();
    let body = format!("{{\"__type\":{}{text}}}", quoted(spoken.code));
    let mut response = respond(id, spoken.status, Bytes::from(body));
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(spoken.code));
    if let Some(wait) = spoken.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

/// Our own faults are worth a line; a client's mistakes are its own.
fn note(id: Uuid, fault: &Fault, spoken: &Spoken) {
    match fault {
        Fault::Refused { refusal, about } if refusal.detail().is_some() => {
            let detail = refusal.detail().map(ravelin_model::Detail::for_log);
            tracing::error!(request = %id, operation = about.operation, detail, "{refusal}");
        }
        _ => tracing::debug!(request = %id, code = spoken.code, text = spoken.text, "refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offered_operation_is_dispatched() {
        let names: Vec<&str> = Operation::ALL.into_iter().map(Operation::name).collect();
        let offered: Vec<&str> = OPERATIONS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, offered);
    }
}
