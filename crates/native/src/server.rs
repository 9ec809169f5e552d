//! Routes, authentication, and what is answered where no operation is.
//!
//! Every path under `/api/v1` but the document itself is closed to callers without a valid token, paths that do not
//! exist included.

use crate::api;
use crate::feed::{Seats, Timing};
use crate::refusal::Fault;
use crate::wire;
use axum::Router;
use axum::extract::{ConnectInfo, FromRef, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, USER_AGENT, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use ravelin_engine::{Contact, Control, Identity, Pager};
use ravelin_model::Refusal;
use secrecy::SecretString;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

/// Longest that a readiness check waits for the store.
const READY_MAX: Duration = Duration::from_secs(2);

/// The service: `/api/v1/**`, `/healthz`, `/readyz`. It has no fallback of its own outside of `/api/v1`, so it can be
/// merged with other routers.
///
/// Whoever serves it puts the peer's address into each request as `ConnectInfo<SocketAddr>`.
pub fn router(control: Control, identity: Identity, pager: Pager) -> Router {
    with_timing(control, identity, pager, Timing::default())
}

/// As [`router`], with another beat of the event stream.
pub(crate) fn with_timing(control: Control, identity: Identity, pager: Pager, timing: Timing) -> Router {
    let edge = Edge { control, identity, pager, timing, seats: Arc::default() };
    let (operations, _) = api::operations().split_for_parts();
    let closed = operations
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(middleware::from_fn_with_state(edge.clone(), authenticate));
    // A nested router does not take its own prefix with a slash at the end.
    let slash = any(unknown_path).layer(middleware::from_fn_with_state(edge.clone(), authenticate));
    Router::new()
        .nest(api::PREFIX, closed)
        .route("/api/v1/", slash)
        .route("/api/v1/openapi.json", get(document).fallback(unknown_method))
        .layer(middleware::map_response(seal))
        .route("/healthz", get(healthy).fallback(unknown_method))
        .route("/readyz", get(ready).fallback(unknown_method))
        .with_state(edge)
}

/// The document that describes the API: what `/api/v1/openapi.json` answers.
#[must_use]
pub fn openapi() -> OpenApi {
    let described = OpenApiRouter::<Edge>::with_openapi(Front::openapi()).nest(api::PREFIX, api::operations());
    let mut document = described.into_openapi();
    let components = document.components.get_or_insert_with(Default::default);
    components.add_security_scheme("token", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
    document
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Ravelin",
        description = "Who is connected to what, right now and before, and how to end it.\n\n\
            Every operation needs an API token: `Authorization: Bearer rvl_…`.\n\
            Errors are `application/problem+json`; programs decide by `code`.\n\
            Unknown parameters and members are refused by name.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(wire::Problem, wire::Event, wire::EventGap, wire::Snapshot))
)]
struct Front;

/// What the operations may take, each for itself.
#[derive(Clone)]
pub(crate) struct Edge {
    control: Control,
    identity: Identity,
    pager: Pager,
    timing: Timing,
    seats: Arc<Seats>,
}

impl FromRef<Edge> for Control {
    fn from_ref(edge: &Edge) -> Self {
        edge.control.clone()
    }
}

impl FromRef<Edge> for Identity {
    fn from_ref(edge: &Edge) -> Self {
        edge.identity.clone()
    }
}

impl FromRef<Edge> for Pager {
    fn from_ref(edge: &Edge) -> Self {
        edge.pager.clone()
    }
}

impl FromRef<Edge> for Timing {
    fn from_ref(edge: &Edge) -> Self {
        edge.timing
    }
}

impl FromRef<Edge> for Arc<Seats> {
    fn from_ref(edge: &Edge) -> Self {
        Arc::clone(&edge.seats)
    }
}

/// The proof that a caller came with, for what outlives the request: it is shown again from time to time.
#[derive(Clone)]
pub(crate) struct Proof(pub(crate) SecretString);

/// Lets nobody in without a valid token; puts the caller and their proof beside the request.
async fn authenticate(State(identity): State<Identity>, mut request: Request, next: Next) -> Result<Response, Fault> {
    let Some(ConnectInfo(address)) = request.extensions().get::<ConnectInfo<SocketAddr>>().copied() else {
        return Err(Refusal::internal("the listener did not say where a request comes from").into());
    };
    let contact = Contact { address, software: software(request.headers()) };
    let Some(token) = bearer(request.headers()) else {
        return Err(Refusal::Unauthenticated { because: "send an API token as authorization: Bearer rvl_…" }.into());
    };
    let caller = identity.token(&token, contact).await?;
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(Proof(token));
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<SecretString> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer")).then(|| SecretString::from(token.trim()))
}

fn software(headers: &HeaderMap) -> String {
    const CHARS_MAX: usize = 200;
    let text = headers.get(USER_AGENT).map(|v| String::from_utf8_lossy(v.as_bytes())).unwrap_or_default();
    text.chars().filter(|c| !c.is_control()).take(CHARS_MAX).collect()
}

/// Keeps answers out of caches, and browsers from guessing what they are.
async fn seal(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn unknown_path(uri: axum::extract::OriginalUri) -> Fault {
    Fault::UnknownPath { path: uri.path().chars().take(200).collect() }
}

async fn unknown_method(method: Method, _: Uri) -> Fault {
    Fault::UnknownMethod { method: method.as_str().chars().take(32).collect() }
}

async fn document() -> Response {
    match openapi().to_json() {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => Fault::from(Refusal::internal(error)).into_response(),
    }
}

async fn healthy() -> Response {
    axum::Json(wire::Health { status: Cow::Borrowed("ok") }).into_response()
}

/// Whether requests would be answered: the store is asked for an answer, in bounded time.
async fn ready(State(control): State<Control>) -> Result<Response, Fault> {
    match tokio::time::timeout(READY_MAX, control.ready()).await {
        Ok(Ok(())) => Ok((StatusCode::OK, axum::Json(wire::Health { status: Cow::Borrowed("ok") })).into_response()),
        Ok(Err(refusal)) => Err(refusal.into()),
        Err(_elapsed) => Err(Refusal::unavailable("the store", "no answer to a readiness check").into()),
    }
}
