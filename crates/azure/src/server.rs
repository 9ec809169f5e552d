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
use crate::issuer::{Issuer, SigningKeys, TokenFault};
use crate::map;
use crate::operations::{KeptAnswer, Making, Operations, Question};
use crate::outside::{KeyFetch, Outside, OutsideFault};
use crate::proto::api_version::{self, Family};
use crate::proto::path::{self, ArmPath, Authority, Resource, Route};
use crate::proto::{body, is_guid, query, token_request};
use crate::quota::{Draw, Quota};
use crate::refusal::{self, Extra, Fault, Ground, LoginFault};
use crate::tickets::Tickets;
use crate::wire::arm::{AsyncOperation, CloudError, CloudErrorBody};
use crate::wire::login::TokenError;
use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::response::{IntoResponse, Response};
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
/// others. Tokens outlive a restart as long as `signing_keys` are kept. `key_fetch` gets the keys of outside issuers.
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
    signing_keys: SigningKeys,
    key_fetch: Arc<dyn KeyFetch>,
    config: Config,
) -> Result<Router, ConfigFault> {
    let config = config.checked()?;
    let edge = Arc::new(Edge {
        control,
        gate,
        identity,
        pager,
        tickets: Tickets::default(),
        operations: Operations::default(),
        node: Uuid::new_v4().simple().to_string(),
        issuer: Issuer::new(signing_keys),
        outside: Outside::new(config.outside_issuers.clone(), key_fetch),
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
    operations: Operations,
    /// What tunnel clients are told as this node's name; they bring it back and nothing depends on it.
    node: String,
    issuer: Issuer,
    outside: Outside,
    quota: Quota,
    config: Config,
}

impl Edge {
    async fn serve(self: &Arc<Self>, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let exchange = Exchange::new(&parts, &self.config);
        let mut response = match path::parse(parts.uri.path()) {
            Route::Arm(path) => self.arm(&exchange, path, &parts, body).await,
            Route::CloudMetadata => self.cloud_metadata(&exchange, &parts),
            Route::Discovery(authority) => self.login(&exchange, self.discovery(&exchange, &authority, &parts)),
            Route::Keys(authority) => self.login(&exchange, self.keys(&authority, &parts)),
            Route::Token(authority) => {
                let outcome = self.token(&exchange, &authority, &parts, body).await;
                self.login(&exchange, outcome)
            }
            Route::OtherLogin => self.login(&exchange, Err(LoginFault::NotOffered)),
            Route::SharedLink(token) => self.shared_link(&exchange, &token, &parts).await,
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
    async fn arm(self: &Arc<Self>, exchange: &Exchange, path: ArmPath, parts: &Parts, body: Body) -> Response {
        let mut so_far = SoFar { ground: self.ground(exchange), operation: None, left: None };
        let outcome = self.arm_outcome(exchange, path, parts, body, &mut so_far).await;
        let mut response = match &outcome {
            // Whoever asks only whether it is there takes nothing else for a yes.
            Ok(Given::Now(_)) if parts.method == Method::HEAD => StatusCode::NO_CONTENT.into_response(),
            Ok(Given::Now(answer)) => json_response(StatusCode::OK, answer.clone()),
            Ok(Given::Kept(status, answer)) => json_response(*status, answer.clone()),
            Ok(Given::Progress(answer)) => {
                let mut response = json_response(StatusCode::OK, answer.clone());
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(POLL_SECONDS));
                response
            }
            Ok(Given::Later { id, version }) => self.come_later(exchange, id, version),
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
        self: &Arc<Self>,
        exchange: &Exchange,
        path: ArmPath,
        parts: &Parts,
        body: Body,
        so_far: &mut SoFar<'_>,
    ) -> Result<Given, Fault> {
        let config = &self.config;
        let caller = self.authenticate(exchange, bearer_of(&parts.headers)?).await?;
        so_far.ground.client = caller.credential().map_or_else(|| caller.name().to_string(), ToString::to_string);
        so_far.ground.object = map::object_id(&config.tenant_id, caller.name());
        self.draw(&parts.method, so_far)?;

        let origin = exchange.origin.clone().ok_or(Fault::HostMissing)?;
        let query = query::parse(parts.uri.query().unwrap_or_default());
        let (family, kind) = api::family(&path.resource);
        let version = query.api_version.as_deref();
        api_version::accept(family, version).map_err(|fault| {
            let given = version.unwrap_or_default().chars().filter(|c| !c.is_control()).take(64).collect();
            Fault::Version { family, kind, given, fault }
        })?;
        // A target may bear the id of a machine in another subscription; who looks for it is told of the names then.
        if !matches!(path.resource, Resource::Machine { .. } | Resource::Machines) {
            self.check_names(&path)?;
        }
        let operation = api::resolve(&path, &parts.method, query.skip_token.is_some())?;
        so_far.operation = Some(operation);
        so_far.ground.permission = operation.permission();
        so_far.ground.scope = self.scope_of(operation);
        let body = match operation {
            Operation::DisconnectActiveSessions
            | Operation::HostsPut
            | Operation::HostsPatch
            | Operation::LinksPut
            | Operation::LinksGet
            | Operation::LinksDelete
            | Operation::LinksDeleteByToken => {
                let bytes_max = if operation == Operation::DisconnectActiveSessions {
                    body::BODY_BYTES_MAX
                } else {
                    body::DOCUMENT_BYTES_MAX
                };
                read_body(body, bytes_max).await.map_err(|fault| match fault {
                    BodyStop::TooLarge => Fault::BodyTooLarge { bytes_max },
                    BodyStop::TooSlow => Fault::BodyTooSlow,
                    BodyStop::Broken => Fault::BodyBroken,
                })?
            }
            Operation::GetActiveSessions
            | Operation::HostsGet
            | Operation::HostsList
            | Operation::HostsListByGroup
            | Operation::HostsDelete
            | Operation::StatusGet
            | Operation::ResultGet
            | Operation::MachinesGet
            | Operation::MachinesList
            | Operation::MachinesListAll
            | Operation::ProvidersList
            | Operation::ProvidersGet
            | Operation::TenantsList
            | Operation::SubscriptionsList
            | Operation::SubscriptionsGet
            | Operation::GroupsList
            | Operation::GroupsGet => Bytes::new(),
        };
        let prefers_later = parts.headers.get_all("prefer").iter().any(|value| {
            let words = value.to_str().unwrap_or_default().split(',');
            words.map(str::trim).any(|word| word.eq_ignore_ascii_case("respond-async"))
        });
        let call = Call {
            operation,
            caller,
            path,
            skip_token: query.skip_token,
            version: version.unwrap_or_default().to_owned(),
            origin,
            body,
        };
        match (&call.operation, &call.path.resource) {
            (Operation::StatusGet, Resource::OperationStatus { id }) => self.progress(&call, id).await,
            (Operation::ResultGet, Resource::OperationResult { id }) => self.result(&call, id).await,
            // A further page is fetched as a page, whatever else its client puts on each request.
            (Operation::GetActiveSessions, _) if call.skip_token.is_some() => self.perform(&call).await.map(Given::Now),
            _ if operation.is_always_late() || (prefers_later && operation.heeds_prefer()) => {
                self.later(call, true).await
            }
            _ if operation.may_be_late() => self.later(call, false).await,
            _ => self.perform(&call).await.map(Given::Now),
        }
    }

    /// Does what was asked for.
    async fn perform(&self, call: &Call) -> Result<Bytes, Fault> {
        let (config, control, caller, origin) = (&self.config, &self.control, &call.caller, call.origin.as_str());
        let look = self.look(dns_name_of(origin));
        let subscription = call.path.subscription.as_deref().unwrap_or_default();
        match call.operation {
            Operation::GetActiveSessions => {
                let skip_token = call.skip_token.as_deref();
                let place = get_active_sessions::Place { skip_token, api_version: &call.version, origin };
                json(&get_active_sessions::answer(control, &self.pager, caller, config, place).await?)
            }
            Operation::DisconnectActiveSessions => {
                json(&api::disconnect_active_sessions::answer(control, caller, config, &call.body).await?)
            }
            Operation::HostsGet => json(&api::bastion_hosts::read(control, caller, config, look).await?),
            Operation::HostsList | Operation::HostsListByGroup => {
                json(&api::bastion_hosts::list(control, caller, config, look).await?)
            }
            Operation::HostsPut => {
                json(&api::bastion_hosts::create_or_update(control, caller, config, look, &call.body).await?)
            }
            Operation::HostsPatch => {
                json(&api::bastion_hosts::update_tags(control, caller, config, look, &call.body).await?)
            }
            Operation::HostsDelete => api::bastion_hosts::delete(control, caller).await.map(|()| Bytes::new()),
            Operation::LinksPut => {
                json(&api::shareable_links::create(control, caller, config, origin, &call.body).await?)
            }
            Operation::LinksGet => {
                json(&api::shareable_links::list(control, caller, config, origin, &call.body).await?)
            }
            Operation::LinksDelete => {
                api::shareable_links::delete(control, caller, config, &call.body).await.map(|()| Bytes::new())
            }
            Operation::LinksDeleteByToken => {
                api::shareable_links::delete_by_token(control, caller, &call.body).await.map(|()| Bytes::new())
            }
            Operation::MachinesGet => self.machine(call),
            Operation::MachinesList | Operation::MachinesListAll => {
                let group = call.path.group.as_deref();
                let list = api::virtual_machines::list(control, caller, config, subscription, group);
                if list.value.is_empty() {
                    self.check_names(&call.path)?;
                }
                json(&list)
            }
            Operation::ProvidersList => json(&api::providers::list(control, caller, config).await?),
            Operation::ProvidersGet => match &call.path.resource {
                Resource::Provider { namespace } => {
                    json(&api::providers::read(control, caller, config, namespace).await?)
                }
                _other => Err(Fault::PathUnknown),
            },
            Operation::TenantsList => json(&api::providers::tenants(control, caller, config).await?),
            Operation::SubscriptionsList => json(&api::subscriptions::list(control, caller, config).await?),
            Operation::SubscriptionsGet => json(&api::subscriptions::read(control, caller, config).await?),
            Operation::GroupsList => json(&api::resource_groups::list(control, caller, config).await?),
            Operation::GroupsGet => json(&api::resource_groups::read(control, caller, config).await?),
            // Answered before anything is performed.
            Operation::StatusGet | Operation::ResultGet => Err(Fault::PathUnknown),
        }
    }

    fn machine(&self, call: &Call) -> Result<Bytes, Fault> {
        let (subscription, group, name) = match &call.path {
            ArmPath { subscription: Some(s), group: Some(g), resource: Resource::Machine { name } } => (s, g, name),
            _other => return Err(Fault::PathUnknown),
        };
        let id = map::target_id(subscription, group, name);
        match api::virtual_machines::find(&self.control, &call.caller, &self.config, &id) {
            Some(target) => json(&map::machine(&target, &self.config)),
            None => {
                self.check_names(&call.path)?;
                let name = name.chars().filter(|c| !c.is_control()).take(128).collect();
                Err(Fault::MachineUnknown { group: self.config.resource_group.clone(), name })
            }
        }
    }

    /// The answer at once, or, when it takes too long or the caller prefers that, the word to come for it later. A request
    /// that repeats one whose answer came later gets that answer; or one of its own, at once, when that was fetched, is
    /// old, or tells of a change that may have been changed back since.
    async fn later(self: &Arc<Self>, call: Call, at_once: bool) -> Result<Given, Fault> {
        let question = Question::new(call.caller.name(), call.operation.name(), &call.origin, &call.body);
        // Of what is always late, each request has an operation of its own: its clients take no 200.
        let begun = if call.operation.is_always_late() { None } else { self.operations.begun(&question) };
        if let Some(begun) = begun {
            return match tokio::time::timeout(self.config.respond_within, begun.done()).await {
                Ok(is_wanted) => {
                    self.operations.forget(&question, &begun.id);
                    let is_good = is_wanted && call.operation.may_be_answered_once();
                    let kept = if is_good { self.kept(&call.caller, &begun.id).await? } else { None };
                    match kept {
                        Some(answer) if !answer.is_begun() => given(answer),
                        // Kept for as long as it was to be, or never.
                        Some(_) | None => self.perform(&call).await.map(Given::Now),
                    }
                }
                Err(_elapsed) => Ok(Given::Later { id: begun.id, version: call.version }),
            };
        }
        let (caller, version) = (call.caller.clone(), call.version.clone());
        let ground = self.ground_of(&call);
        let id = Uuid::new_v4().to_string();
        let begin = async || -> Result<Making, Fault> {
            self.keep(&caller, &id, &KeptAnswer::begun()).await?;
            Ok(self.operations.begin(question.clone(), id.clone())?)
        };
        let waits = !at_once && !self.config.respond_within.is_zero();
        // Where nothing is waited for, nothing is done before it is sure that its answer can be kept.
        let early = if waits { None } else { Some(begin().await?) };
        let edge = Arc::clone(self);
        let mut making = tokio::spawn(async move { edge.perform(&call).await });
        let begun = match early {
            Some(begun) => begun,
            None => match tokio::time::timeout(self.config.respond_within, &mut making).await {
                Ok(made) => return made.map_err(Refusal::internal)?.map(Given::Now),
                Err(_elapsed) => begin().await?,
            },
        };
        let (edge, key) = (Arc::clone(self), id.clone());
        tokio::spawn(async move {
            let made = making.await.unwrap_or_else(|panic| Err(Refusal::internal(panic).into()));
            let answer = match made {
                Ok(body) => KeptAnswer { status: 200, body: String::from_utf8_lossy(&body).into_owned() },
                Err(fault) => {
                    let said = refusal::arm(&fault, &ground.borrow(&edge.config));
                    let error = CloudErrorBody { code: said.code, message: said.message, target: said.target };
                    let body = json::<Fault>(&CloudError { error }).unwrap_or_default();
                    KeptAnswer { status: said.status.as_u16(), body: String::from_utf8_lossy(&body).into_owned() }
                }
            };
            if let Err(fault) = edge.keep(&caller, &key, &answer).await {
                tracing::error!(operation = key, ?fault, "an answer that comes later could not be kept");
            }
            begun.done();
        });
        Ok(Given::Later { id, version })
    }

    async fn keep(&self, caller: &Caller, id: &str, answer: &KeptAnswer) -> Result<(), Fault> {
        let text = serde_json::to_string(answer).map_err(Refusal::internal)?;
        Ok(self.control.keep_answer(caller, id, text, self.config.answers_keep).await?)
    }

    async fn kept(&self, caller: &Caller, id: &str) -> Result<Option<KeptAnswer>, Fault> {
        let text = self.control.answer(caller, id).await?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose().map_err(Refusal::internal)?)
    }

    /// `GET …/operationResults/{id}`: the answer itself, once it is there.
    async fn result(&self, call: &Call, id: &str) -> Result<Given, Fault> {
        self.control.read_bastion(&call.caller).await?;
        // INVARIANT: asked before the store is read. An answer is kept before its making is done, so what was not being
        // made before the reading, and is not there after it, never comes.
        let is_making = self.operations.is_making(id);
        match self.kept(&call.caller, id).await? {
            None => Err(Fault::OperationUnknown(shown_id(id))),
            Some(answer) if !answer.is_begun() => {
                self.operations.fetched(id);
                given(answer)
            }
            Some(_) if is_making => Ok(Given::Later { id: id.to_owned(), version: call.version.clone() }),
            Some(_) => Err(Fault::OperationLost),
        }
    }

    /// `GET …/operations/{id}`: how far it is.
    async fn progress(&self, call: &Call, id: &str) -> Result<Given, Fault> {
        self.control.read_bastion(&call.caller).await?;
        // In the same order as for the result.
        let is_making = self.operations.is_making(id);
        let answer = self.kept(&call.caller, id).await?.ok_or_else(|| Fault::OperationUnknown(shown_id(id)))?;
        let (status, error) = if answer.is_begun() && is_making {
            ("InProgress", None)
        } else if answer.is_begun() {
            let said = refusal::arm(&Fault::OperationLost, &self.ground_of(call).borrow(&self.config));
            ("Failed", Some(serde_json::json!({ "code": said.code, "message": said.message })))
        } else if answer.is_success() {
            ("Succeeded", None)
        } else {
            let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap_or_default();
            ("Failed", Some(body["error"].clone()))
        };
        let (name, id) = (id.to_owned(), operation_path(&self.config, "operations", id));
        let progress = json::<Fault>(&AsyncOperation { id, name, status, error })?;
        Ok(if status == "InProgress" { Given::Progress(progress) } else { Given::Now(progress) })
    }

    /// 202, with everything that clients look for to come again.
    fn come_later(&self, exchange: &Exchange, id: &str, version: &str) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::ACCEPTED;
        let origin = exchange.origin.as_deref().unwrap_or_default();
        let mut put = |name: &'static str, value: String| {
            // The origin, the region and the version were checked, and the id is ours.
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        };
        let place = |kind| format!("{origin}{}?api-version={version}", operation_path(&self.config, kind, id));
        put("location", place("operationResults"));
        put("azure-asyncoperation", place("operations"));
        put("retry-after", POLL_SECONDS.to_string());
        put("azure-asyncnotification", "Enabled".to_owned());
        put("x-ms-arm-service-request-id", exchange.request_id.to_string());
        response
    }

    fn ground_of(&self, call: &Call) -> OwnGround {
        OwnGround {
            origin: call.origin.clone(),
            client: call.caller.credential().map_or_else(|| call.caller.name().to_string(), ToString::to_string),
            object: map::object_id(&self.config.tenant_id, call.caller.name()),
            permission: call.operation.permission(),
            scope: self.scope_of(call.operation),
        }
    }

    /// `GET /api/shareable-url/{token}`: a page for people. It is open, and so is what it says to who has the link.
    async fn shared_link(&self, exchange: &Exchange, token: &str, parts: &Parts) -> Response {
        let host = exchange.origin.as_deref().map(dns_name_of).unwrap_or_default();
        let (status, page) = if parts.method != Method::GET && parts.method != Method::HEAD {
            (StatusCode::METHOD_NOT_ALLOWED, api::shareable_links::no_page())
        } else {
            match self.control.follow_link(token).await {
                Ok(target) => (StatusCode::OK, api::shareable_links::page(&target, host, self.config.ssh_port)),
                Err(Refusal::NotFound { .. }) => (StatusCode::NOT_FOUND, api::shareable_links::no_page()),
                Err(refusal) => {
                    let detail = refusal.detail().map(ravelin_model::Detail::for_log);
                    tracing::error!(detail, "a shared link cannot be followed");
                    (StatusCode::SERVICE_UNAVAILABLE, api::shareable_links::no_page())
                }
            }
        };
        tracing::info!(status = status.as_u16(), request_id = %exchange.request_id, "azure shared link");
        let mut response = Response::new(Body::from(page));
        *response.status_mut() = status;
        let mut put = |name, value| response.headers_mut().insert(name, HeaderValue::from_static(value));
        put(header::CONTENT_TYPE, "text/html; charset=utf-8");
        put(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'");
        put(header::REFERRER_POLICY, "no-referrer");
        response
    }

    /// What of the host depends on the request and on the rules of the moment.
    fn look<'a>(&self, dns_name: &'a str) -> map::HostLook<'a> {
        map::HostLook { dns_name, reaches_addresses: self.gate.reaches_addresses() }
    }

    /// Who asks: by a bearer token of this edge's own issuer or of one that is trusted, or by an API token of the
    /// deployment.
    async fn authenticate(&self, exchange: &Exchange, token: &str) -> Result<Caller, Fault> {
        let contact = exchange.contact()?;
        if token.starts_with(TOKEN_PREFIX) {
            return Ok(self.identity.token(&SecretString::from(token), contact).await?);
        }
        if let Some(outcome) = self.outside.verify(token).await {
            return match outcome {
                Ok(principal) => Ok(self.identity.outside_token(&principal, contact).await?),
                Err(OutsideFault::Nobody(claimed)) => {
                    Err(self.identity.refuse(&contact, AuthMethod::OutsideToken, &claimed).await.into())
                }
                Err(OutsideFault::NoKeys(issuer)) => {
                    Err(Refusal::unavailable("the token's issuer", format!("no keys of {issuer}")).into())
                }
                Err(OutsideFault::Audience(audiences)) => Err(Fault::OutsideAudience { audiences }),
                Err(OutsideFault::Token(fault)) => {
                    if fault == TokenFault::Forged {
                        let _same_for_all = self.identity.refuse(&contact, AuthMethod::OutsideToken, "").await;
                    }
                    Err(Fault::Token(fault))
                }
            };
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
        let (draw, name) = if method == Method::GET || method == Method::HEAD {
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
            | Resource::Tenants
            | Resource::Machines
            | Resource::Machine { .. }
            | Resource::Providers
            | Resource::Provider { .. }
            | Resource::OperationStatus { .. }
            | Resource::OperationResult { .. }
            | Resource::Foreign { .. }
            | Resource::Nothing => Ok(()),
        }
    }

    fn scope_of(&self, operation: Operation) -> String {
        let config = &self.config;
        match operation {
            Operation::GetActiveSessions
            | Operation::DisconnectActiveSessions
            | Operation::HostsGet
            | Operation::HostsPut
            | Operation::HostsPatch
            | Operation::HostsDelete
            | Operation::LinksPut
            | Operation::LinksGet
            | Operation::LinksDelete
            | Operation::LinksDeleteByToken => map::host_id(config),
            Operation::HostsListByGroup | Operation::GroupsGet | Operation::MachinesGet | Operation::MachinesList => {
                map::group_id(&config.subscription_id, &config.resource_group)
            }
            Operation::HostsList
            | Operation::GroupsList
            | Operation::SubscriptionsGet
            | Operation::MachinesListAll
            | Operation::ProvidersList
            | Operation::ProvidersGet
            | Operation::StatusGet
            | Operation::ResultGet => {
                format!("/subscriptions/{}", config.subscription_id)
            }
            Operation::SubscriptionsList | Operation::TenantsList => "/".to_owned(),
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
                Fault::Version { family: Family::Resources, kind: "endpoints", given, fault }
            })
        })();
        match outcome.and_then(|document| json(&document)) {
            Ok(document) => json_response(StatusCode::OK, document),
            Err(fault) => error_response(&refusal::arm(&fault, &ground), &ground),
        }
    }

    /// Writes what came of a request to the login side, and a line in the log.
    fn login(&self, exchange: &Exchange, outcome: Result<Bytes, LoginFault>) -> Response {
        let (trace_id, correlation_id) = (exchange.request_id.to_string(), exchange.correlation_id.clone());
        let client_request_id = exchange.client_request_id.as_deref().unwrap_or_default();
        let fault = match outcome {
            Ok(answer) => {
                tracing::info!(status = 200, trace_id, correlation_id, client_request_id, "azure login");
                return json_response(StatusCode::OK, answer);
            }
            Err(fault) => fault,
        };
        let said = refusal::login(&fault, &self.config);
        let (status, code) = (said.status.as_u16(), said.code);
        if let LoginFault::Refused(refusal) = &fault
            && let Some(detail) = refusal.detail()
        {
            let detail = detail.for_log();
            tracing::error!(status, code, trace_id, correlation_id, client_request_id, detail, "azure login");
        } else {
            tracing::info!(status, code, trace_id, correlation_id, client_request_id, "azure login");
        }
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

/// One request, judged as far as everything but its operation's own question.
struct Call {
    operation: Operation,
    caller: Caller,
    path: ArmPath,
    skip_token: Option<String>,
    version: String,
    origin: String,
    body: Bytes,
}

/// What an operation's request comes to.
enum Given {
    /// 200 with this body.
    Now(Bytes),
    /// An answer that was made before, with its status.
    Kept(StatusCode, Bytes),
    /// How far an operation is that goes on.
    Progress(Bytes),
    /// 202: come for the answer of this operation later.
    Later { id: String, version: String },
}

/// When a client should come again, in seconds.
const POLL_SECONDS: u32 = 1;

fn given(answer: KeptAnswer) -> Result<Given, Fault> {
    let status = StatusCode::from_u16(answer.status).map_err(Refusal::internal)?;
    Ok(Given::Kept(status, Bytes::from(answer.body)))
}

fn operation_path(config: &Config, kind: &str, id: &str) -> String {
    let subscription = &config.subscription_id;
    format!("/subscriptions/{subscription}/providers/Microsoft.Network/locations/{}/{kind}/{id}", config.location)
}

fn shown_id(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// A [`Ground`] that outlives its request.
struct OwnGround {
    origin: String,
    client: String,
    object: String,
    permission: &'static str,
    scope: String,
}

impl OwnGround {
    fn borrow<'a>(&self, config: &'a Config) -> Ground<'a> {
        Ground {
            config,
            origin: self.origin.clone(),
            client: self.client.clone(),
            object: self.object.clone(),
            permission: self.permission,
            scope: self.scope.clone(),
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
