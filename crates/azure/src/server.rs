//! The door: one router, and the order in which a request is judged.
//!
//! Under `/subscriptions`: proof, quota, api-version, names, method, then the operation, which asks the policy. What is
//! open without a proof is the list in `Edge::serve`: metadata, discovery, keys, token.
//!
//! The tunnels' data plane has its own order, in `tunnels`.
//!
//! Every answer carries the service's ids and is kept out of caches. Neither a token, a secret nor a query is logged.

mod tunnels;

use crate::api::{self, Operation, get_active_sessions};
use crate::config::{Config, ConfigFault};
use crate::issuer::{Issuer, TokenFault};
use crate::map;
use crate::proto::api_version::{self, Family};
use crate::proto::path::{self, ArmPath, Authority, Resource, Route};
use crate::proto::{body, is_guid, query, token_request};
use crate::quota::{Draw, Quota};
use crate::refusal::{self, Extra, Fault, Ground, LoginFault};
use crate::tickets::Tickets;
use crate::wire::arm::{CloudError, CloudErrorBody};
use crate::wire::login::TokenError;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE, USER_AGENT, WWW_AUTHENTICATE};
use http::request::Parts;
use http::uri::{Authority as HostName, Scheme};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt;
use jiff::Timestamp;
use ravelin_engine::identity::TOKEN_PREFIX;
use ravelin_engine::{Caller, Contact, Control, Gate, Identity, Pager};
use ravelin_model::Refusal;
use ravelin_model::principal::AuthMethod;
use secrecy::SecretString;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// The edge as a router whose fallback serves every path for which [`crate::owns_path`] is true, and answers 404 to
/// others. `signing_key_pem` is from [`crate::generate_signing_key`]; tokens outlive a restart as long as it is kept.
///
/// The caller puts `ConnectInfo<SocketAddr>` and `http::uri::Scheme` into the request's extensions, and over HTTP/1.1 the
/// connection's `SocketHandle`, without which no tunnel is opened.
///
/// # Errors
/// [`ConfigFault`] names the setting that cannot stand.
pub fn router(
    control: Control,
    gate: Gate,
    identity: Identity,
    pager: Pager,
    signing_key_pem: SecretString,
    config: Config,
) -> Result<Router, ConfigFault> {
    let config = config.checked()?;
    let edge = Arc::new(Edge {
        control,
        gate,
        identity,
        pager,
        tickets: Tickets::default(),
        node: Uuid::new_v4().simple().to_string(),
        issuer: Issuer::new(&signing_key_pem)?,
        quota: Quota::new(config.requests_burst_max, config.requests_per_second),
        config,
    });
    Ok(Router::new().fallback(move |request: Request| {
        let edge = Arc::clone(&edge);
        async move { edge.serve(request).await }
    }))
}

struct Edge {
    control: Control,
    gate: Gate,
    identity: Identity,
    pager: Pager,
    tickets: Tickets,
    /// What tunnel clients are told as this node's name; they bring it back and nothing depends on it.
    node: String,
    issuer: Issuer,
    quota: Quota,
    config: Config,
}

impl Edge {
    async fn serve(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let exchange = Exchange::new(&parts, &self.config);
        let mut response = match path::parse(parts.uri.path()) {
            Route::Arm(path) => self.arm(&exchange, &path, &parts, body).await,
            Route::CloudMetadata => self.cloud_metadata(&exchange, &parts),
            Route::Discovery(authority) => self.login(&exchange, self.discovery(&exchange, &authority, &parts)),
            Route::Keys(authority) => self.login(&exchange, self.keys(&authority, &parts)),
            Route::Token(authority) => {
                let outcome = self.token(&exchange, &authority, &parts, body).await;
                self.login(&exchange, outcome)
            }
            Route::OtherLogin => self.login(&exchange, Err(LoginFault::NotOffered)),
            Route::Tunnel(path) => self.tunnel(&exchange, &path, parts, body).await,
            Route::Elsewhere => {
                let ground = self.ground(&exchange);
                error_response(&refusal::arm(&Fault::PathUnknown, &ground), &ground)
            }
        };
        exchange.stamp(response.headers_mut(), &self.config);
        response
    }

    /// Azure Resource Manager: the answer, its quota header, and a line in the log.
    async fn arm(&self, exchange: &Exchange, path: &ArmPath, parts: &Parts, body: Body) -> Response {
        let mut so_far = SoFar { ground: self.ground(exchange), operation: None, left: None };
        let outcome = self.arm_outcome(exchange, path, parts, body, &mut so_far).await;
        let mut response = match &outcome {
            Ok(answer) => json_response(StatusCode::OK, answer.clone()),
            Err(fault) => error_response(&refusal::arm(fault, &so_far.ground), &so_far.ground),
        };
        if let Some((name, left)) = so_far.left {
            response.headers_mut().insert(name, HeaderValue::from(left));
        }
        let status = response.status().as_u16();
        let operation = so_far.operation.map_or("none", Operation::name);
        let client = &so_far.ground.client;
        let (request_id, correlation_id) = (&exchange.request_id, &exchange.correlation_id);
        let client_request_id = exchange.client_request_id.as_deref().unwrap_or_default();
        if let Err(Fault::Refused(refusal)) = &outcome
            && let Some(detail) = refusal.detail()
        {
            let detail = detail.for_log();
            tracing::error!(operation, status, client, %request_id, correlation_id, client_request_id, detail, "azure");
        } else {
            tracing::info!(operation, status, client, %request_id, correlation_id, client_request_id, "azure");
        }
        response
    }

    async fn arm_outcome(
        &self,
        exchange: &Exchange,
        path: &ArmPath,
        parts: &Parts,
        body: Body,
        so_far: &mut SoFar<'_>,
    ) -> Result<Bytes, Fault> {
        let config = &self.config;
        let caller = self.authenticate(exchange, bearer_of(&parts.headers)?).await?;
        so_far.ground.client = caller.credential().map_or_else(|| caller.name().to_string(), ToString::to_string);
        so_far.ground.object = map::object_id(&config.tenant_id, caller.name());
        self.draw(&parts.method, so_far)?;

        let origin = exchange.origin.as_deref().ok_or(Fault::HostMissing)?;
        let query = query::parse(parts.uri.query().unwrap_or_default());
        let (family, kind) = api::family(&path.resource);
        let version = query.api_version.as_deref();
        api_version::accept(family, version).map_err(|fault| {
            let given = version.unwrap_or_default().chars().filter(|c| !c.is_control()).take(64).collect();
            Fault::Version { kind, given, fault }
        })?;
        self.check_names(path)?;
        let operation = api::resolve(path, &parts.method, query.skip_token.is_some())?;
        so_far.operation = Some(operation);
        so_far.ground.permission = operation.permission();
        so_far.ground.scope = self.scope_of(operation);

        let (control, dns_name) = (&self.control, dns_name_of(origin));
        match operation {
            Operation::GetActiveSessions => {
                let place = get_active_sessions::Place {
                    skip_token: query.skip_token.as_deref(),
                    api_version: version.unwrap_or_default(),
                    origin,
                };
                json(&get_active_sessions::answer(control, &self.pager, &caller, config, place).await?)
            }
            Operation::DisconnectActiveSessions => {
                let body = read_body(body, body::BODY_BYTES_MAX).await.map_err(|fault| match fault {
                    BodyStop::TooLarge => Fault::BodyTooLarge,
                    BodyStop::TooSlow => Fault::BodyTooSlow,
                    BodyStop::Broken => Fault::BodyBroken,
                })?;
                json(&api::disconnect_active_sessions::answer(control, &caller, config, &body).await?)
            }
            Operation::HostsGet => {
                json(&api::bastion_hosts::read(control, &caller, config, self.look(dns_name)).await?)
            }
            Operation::HostsList | Operation::HostsListByGroup => {
                json(&api::bastion_hosts::list(control, &caller, config, self.look(dns_name)).await?)
            }
            Operation::SubscriptionsList => json(&api::subscriptions::list(control, &caller, config).await?),
            Operation::SubscriptionsGet => json(&api::subscriptions::read(control, &caller, config).await?),
            Operation::GroupsList => json(&api::resource_groups::list(control, &caller, config).await?),
            Operation::GroupsGet => json(&api::resource_groups::read(control, &caller, config).await?),
        }
    }

    /// What of the host depends on the request and on the rules of the moment.
    fn look<'a>(&self, dns_name: &'a str) -> map::HostLook<'a> {
        map::HostLook { dns_name, reaches_addresses: self.gate.reaches_addresses() }
    }

    /// Who asks: by a bearer token of this edge's own issuer, or by an API token of the deployment.
    async fn authenticate(&self, exchange: &Exchange, token: &str) -> Result<Caller, Fault> {
        let contact = exchange.contact()?;
        if token.starts_with(TOKEN_PREFIX) {
            return Ok(self.identity.token(&SecretString::from(token), contact).await?);
        }
        let audiences = self.audiences(exchange);
        let issuer = api::token::issuer_name(&self.config);
        match self.issuer.verify(token, &issuer, &self.config.tenant_id, &audiences) {
            Ok(claims) => Ok(self.identity.bearer(&claims.appid, contact).await?),
            Err(TokenFault::Forged) => {
                // The record learns of it; the answer stays this dialect's own.
                let _same_for_all = self.identity.refuse(&contact, AuthMethod::ClientSecret, "").await;
                Err(Fault::Token(TokenFault::Forged))
            }
            Err(fault) => Err(Fault::Token(fault)),
        }
    }

    fn draw(&self, method: &Method, so_far: &mut SoFar<'_>) -> Result<(), Fault> {
        let (draw, name) = if method == Method::GET {
            (Draw::Read, "x-ms-ratelimit-remaining-subscription-reads")
        } else if method == Method::DELETE {
            (Draw::Write, "x-ms-ratelimit-remaining-subscription-deletes")
        } else {
            (Draw::Write, "x-ms-ratelimit-remaining-subscription-writes")
        };
        let taken = self.quota.take(&so_far.ground.client, draw, Instant::now());
        so_far.left = Some((HeaderName::from_static(name), taken.unwrap_or(0)));
        taken.map(|_| ()).map_err(|retry_after| Fault::TooFast { retry_after })
    }

    /// Whether the names in a path are this deployment's, from the left to the right.
    fn check_names(&self, path: &ArmPath) -> Result<(), Fault> {
        let same = |given: &str, ours: &str| given.eq_ignore_ascii_case(ours);
        let shown = |given: &str| given.chars().filter(|c| !c.is_control()).take(128).collect::<String>();
        match &path.subscription {
            Some(id) if same(id, &self.config.subscription_id) => {}
            Some(id) if is_guid(id) => return Err(Fault::SubscriptionUnknown(shown(id))),
            Some(id) => return Err(Fault::SubscriptionMalformed(shown(id))),
            None => {}
        }
        match &path.group {
            Some(group) if !same(group, &self.config.resource_group) => return Err(Fault::GroupUnknown(shown(group))),
            Some(_) | None => {}
        }
        match &path.resource {
            Resource::Host { name } | Resource::HostAction { name, .. } if !same(name, &self.config.bastion_name) => {
                Err(Fault::HostUnknown { group: self.config.resource_group.clone(), name: shown(name) })
            }
            Resource::Host { .. }
            | Resource::HostAction { .. }
            | Resource::Subscriptions
            | Resource::Subscription
            | Resource::Groups
            | Resource::Group
            | Resource::Hosts
            | Resource::Foreign { .. }
            | Resource::Nothing => Ok(()),
        }
    }

    fn scope_of(&self, operation: Operation) -> String {
        let config = &self.config;
        match operation {
            Operation::GetActiveSessions | Operation::DisconnectActiveSessions | Operation::HostsGet => {
                map::host_id(config)
            }
            Operation::HostsListByGroup | Operation::GroupsGet => {
                map::group_id(&config.subscription_id, &config.resource_group)
            }
            Operation::HostsList | Operation::GroupsList | Operation::SubscriptionsGet => {
                format!("/subscriptions/{}", config.subscription_id)
            }
            Operation::SubscriptionsList => "/".to_owned(),
        }
    }

    fn ground(&self, exchange: &Exchange) -> Ground<'_> {
        Ground {
            config: &self.config,
            origin: exchange.origin.clone().unwrap_or_default(),
            client: String::new(),
            object: String::new(),
            permission: "",
            scope: String::new(),
        }
    }

    fn audiences(&self, exchange: &Exchange) -> Vec<String> {
        let origins: Vec<&str> =
            [&exchange.origin, &exchange.reached].into_iter().flatten().map(String::as_str).collect();
        api::token::audiences(&self.config, &origins)
    }

    fn cloud_metadata(&self, exchange: &Exchange, parts: &Parts) -> Response {
        let ground = self.ground(exchange);
        let outcome = (|| {
            let origin = exchange.origin.as_deref().ok_or(Fault::HostMissing)?;
            if parts.method != Method::GET {
                return Err(Fault::Method { allowed: "GET" });
            }
            let query = query::parse(parts.uri.query().unwrap_or_default());
            let version = query.api_version.as_deref();
            api::cloud_metadata::answer(api_version::accept(Family::Resources, version), origin).map_err(|fault| {
                let given = version.unwrap_or_default().chars().filter(|c| !c.is_control()).take(64).collect();
                Fault::Version { kind: "endpoints", given, fault }
            })
        })();
        match outcome.and_then(|document| json(&document)) {
            Ok(document) => json_response(StatusCode::OK, document),
            Err(fault) => error_response(&refusal::arm(&fault, &ground), &ground),
        }
    }

    /// Writes what came of a request to the login side.
    fn login(&self, exchange: &Exchange, outcome: Result<Bytes, LoginFault>) -> Response {
        let fault = match outcome {
            Ok(answer) => return json_response(StatusCode::OK, answer),
            Err(fault) => fault,
        };
        let said = refusal::login(&fault, &self.config);
        let (trace_id, correlation_id) = (exchange.request_id.to_string(), exchange.correlation_id.clone());
        if let LoginFault::Refused(refusal) = &fault
            && let Some(detail) = refusal.detail()
        {
            tracing::error!(trace_id, detail = detail.for_log(), "azure login");
        }
        tracing::info!(status = said.status.as_u16(), code = said.code, trace_id, correlation_id, "azure login");
        let timestamp = exchange.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
        let error = TokenError {
            error: said.error,
            error_description: format!(
                "AADSTS{}: {} Trace ID: {trace_id} Correlation ID: {correlation_id} Timestamp: {timestamp}",
                said.code, said.message
            ),
            error_codes: [said.code],
            timestamp,
            trace_id,
            correlation_id,
        };
        let body = json::<LoginFault>(&error).unwrap_or_default();
        let mut response = json_response(said.status, body);
        put_extra(response.headers_mut(), &said.extra, "");
        response
    }

    fn discovery(&self, exchange: &Exchange, authority: &Authority, parts: &Parts) -> Result<Bytes, LoginFault> {
        self.check_authority(authority)?;
        allow(parts, "GET")?;
        let origin = exchange.origin.as_deref().ok_or(LoginFault::HostMissing)?;
        json(&api::discovery::answer(&self.config, authority, origin))
    }

    fn keys(&self, authority: &Authority, parts: &Parts) -> Result<Bytes, LoginFault> {
        self.check_authority(authority)?;
        allow(parts, "GET")?;
        json(&self.issuer.keys())
    }

    async fn token(
        &self,
        exchange: &Exchange,
        authority: &Authority,
        parts: &Parts,
        body: Body,
    ) -> Result<Bytes, LoginFault> {
        self.check_authority(authority)?;
        allow(parts, "POST")?;
        let authorization = match parts.headers.get(AUTHORIZATION) {
            None => None,
            Some(value) => Some(value.to_str().map_err(|_| LoginFault::Form(token_request::FormFault::Header))?),
        };
        let contact = exchange.contact()?;
        let form = read_body(body, token_request::FORM_BYTES_MAX).await.map_err(|fault| match fault {
            BodyStop::TooLarge => LoginFault::FormTooLarge,
            BodyStop::TooSlow => LoginFault::FormTooSlow,
            BodyStop::Broken => LoginFault::FormBroken,
        })?;
        let audiences = self.audiences(exchange);
        let (identity, issuer) = (&self.identity, &self.issuer);
        let answer =
            api::token::answer(identity, issuer, &self.config, contact, &audiences, &form, authorization).await?;
        json(&answer)
    }

    fn check_authority(&self, authority: &Authority) -> Result<(), LoginFault> {
        match authority {
            Authority::Adfs => Ok(()),
            Authority::Tenant(tenant) if tenant.eq_ignore_ascii_case(&self.config.tenant_id) => Ok(()),
            Authority::Tenant(tenant) => {
                Err(LoginFault::TenantUnknown(tenant.chars().filter(|c| !c.is_control()).take(64).collect()))
            }
        }
    }
}

/// What is known of a request while it is being judged; errors speak of it.
struct SoFar<'a> {
    ground: Ground<'a>,
    operation: Option<Operation>,
    /// The quota header with what is left.
    left: Option<(HeaderName, u32)>,
}

/// One request's ids, its time, and the names by which it came.
struct Exchange {
    request_id: Uuid,
    correlation_id: String,
    /// The client's own id for the request.
    client_request_id: Option<String>,
    /// Whether the client wants it back.
    returns_client_request_id: bool,
    at: Timestamp,
    /// Scheme and name for links: the public URL, or else what the request used.
    origin: Option<String>,
    /// Scheme and name that the request used.
    reached: Option<String>,
    peer: Option<SocketAddr>,
    software: String,
}

impl Exchange {
    /// Longest id that is taken over from a client.
    const ID_CHARS_MAX: usize = 128;
    /// Longest user agent that is kept.
    const SOFTWARE_CHARS_MAX: usize = 256;

    fn new(parts: &Parts, config: &Config) -> Self {
        let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let id = |name: &str| {
            let fits = |id: &&str| !id.is_empty() && id.len() <= Self::ID_CHARS_MAX;
            text(name).filter(fits).map(str::to_owned)
        };
        let scheme = parts.extensions.get::<Scheme>().map_or("https", Scheme::as_str);
        let host = parts.uri.authority().map(HostName::as_str).or_else(|| text(header::HOST.as_str()));
        let reached = host.and_then(host_name).map(|host| format!("{scheme}://{host}"));
        Self {
            request_id: Uuid::new_v4(),
            correlation_id: id("x-ms-correlation-request-id").unwrap_or_else(|| Uuid::new_v4().to_string()),
            client_request_id: id("x-ms-client-request-id").or_else(|| id("client-request-id")),
            returns_client_request_id: text("x-ms-return-client-request-id")
                .or_else(|| text("return-client-request-id"))
                .is_some_and(|wish| wish.eq_ignore_ascii_case("true")),
            at: Timestamp::now(),
            origin: config.public_url.clone().or_else(|| reached.clone()),
            reached,
            peer: parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0),
            software: text(USER_AGENT.as_str()).unwrap_or_default().chars().take(Self::SOFTWARE_CHARS_MAX).collect(),
        }
    }

    fn contact(&self) -> Result<Contact, Refusal> {
        let address = self.peer.ok_or_else(|| Refusal::internal("a request without its peer's address"))?;
        Ok(Contact { address, software: self.software.clone() })
    }

    /// Puts on an answer what every answer carries.
    fn stamp(&self, headers: &mut HeaderMap, config: &Config) {
        let mut put = |name: &'static str, value: &str| {
            // Ids that came in a header can go out in one; the others are hex digits and the checked region.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        let stamp = self.at.strftime("%Y%m%dT%H%M%SZ");
        put("x-ms-request-id", &self.request_id.to_string());
        put("x-ms-correlation-request-id", &self.correlation_id);
        put(
            "x-ms-routing-request-id",
            &format!("{}:{stamp}:{}", config.location.to_ascii_uppercase(), self.request_id),
        );
        if let (Some(id), true) = (&self.client_request_id, self.returns_client_request_id) {
            put("x-ms-client-request-id", id);
        }
        put("cache-control", "no-store, no-cache");
        put("pragma", "no-cache");
        put("expires", "-1");
        put("x-content-type-options", "nosniff");
        // On a developer's own machine the promise would bind every other server under the same name.
        if self.reached.as_deref().is_some_and(|origin| origin.starts_with("https://") && !is_local(origin)) {
            put("strict-transport-security", "max-age=31536000; includeSubDomains");
        }
    }
}

/// A host name with perhaps a port, in lower case, or nothing when the text is more or less than that.
fn host_name(text: &str) -> Option<String> {
    let name: HostName = text.parse().ok()?;
    (text.len() <= 255 && !text.contains('@') && !name.host().is_empty()).then(|| text.to_ascii_lowercase())
}

fn is_local(origin: &str) -> bool {
    let name = dns_name_of(origin);
    ["localhost", "127.", "[::1]"].iter().any(|local| name.starts_with(local))
}

/// An origin without its scheme.
fn dns_name_of(origin: &str) -> &str {
    origin.split_once("://").map_or(origin, |(_, name)| name)
}

/// The token of an `Authorization: Bearer` header.
fn bearer_of(headers: &HeaderMap) -> Result<&str, Fault> {
    let header = headers.get(AUTHORIZATION).ok_or(Fault::TokenMissing)?;
    let header = header.to_str().map_err(|_| Fault::TokenScheme)?;
    match header.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        Some(_) | None => Err(Fault::TokenScheme),
    }
}

fn allow(parts: &Parts, allowed: &'static str) -> Result<(), LoginFault> {
    if parts.method.as_str() == allowed { Ok(()) } else { Err(LoginFault::Method { allowed }) }
}

/// Why a body was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyStop {
    TooLarge,
    TooSlow,
    Broken,
}

/// Longest time for a whole body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// A body of at most `bytes_max`. What comes after them is left to the listener, which sees to it that the sender can
/// read the answer.
async fn read_body(body: Body, bytes_max: usize) -> Result<Bytes, BodyStop> {
    let read = async {
        let mut body = body;
        let mut kept = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| BodyStop::Broken)?.into_data() else { continue };
            if data.len() > bytes_max - kept.len() {
                return Err(BodyStop::TooLarge);
            }
            kept.extend_from_slice(&data);
        }
        Ok(Bytes::from(kept))
    };
    tokio::time::timeout(BODY_TIME_MAX, read).await.unwrap_or(Err(BodyStop::TooSlow))
}

fn json<E: From<Refusal>>(answer: &impl Serialize) -> Result<Bytes, E> {
    serde_json::to_vec(answer).map(Bytes::from).map_err(|error| Refusal::internal(error).into())
}

fn json_response(status: StatusCode, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn error_response(said: &refusal::Said, ground: &Ground<'_>) -> Response {
    let error = CloudErrorBody { code: said.code, message: said.message.clone(), target: said.target.clone() };
    let body = json::<Fault>(&CloudError { error }).unwrap_or_default();
    let mut response = json_response(said.status, body);
    put_extra(response.headers_mut(), &said.extra, &challenge(ground, &said.message));
    response
}

fn challenge(ground: &Ground<'_>, message: &str) -> String {
    format!(
        "Bearer authorization_uri=\"{}/{}\", error=\"invalid_token\", error_description=\"{}\"",
        ground.origin,
        ground.config.tenant_id,
        message.replace(['"', '\\'], "'")
    )
}

fn put_extra(headers: &mut HeaderMap, extra: &Extra, challenge: &str) {
    match extra {
        Extra::None => {}
        Extra::Challenge => {
            let value = HeaderValue::from_str(challenge).unwrap_or(HeaderValue::from_static("Bearer"));
            headers.insert(WWW_AUTHENTICATE, value);
        }
        Extra::RetryAfter(seconds) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*seconds));
        }
        Extra::Allow(allowed) => {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        Extra::Gateway => {
            headers.insert("x-ms-failure-cause", HeaderValue::from_static("gateway"));
        }
        Extra::Upgrade => {
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
    }
}
