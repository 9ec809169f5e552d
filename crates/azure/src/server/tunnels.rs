//! The data plane: from a wish with a bearer token in its form, over a token in a path, to a session on a WebSocket.
//!
//! INVARIANT: no token of a form, of a path or of an answer reaches a log, a session's row or the record.

use super::{BodyStop, Edge, Exchange, json, json_response, put_extra, read_body};
use crate::io::{self, TunnelLeg};
use crate::proto::path::TunnelPath;
use crate::proto::tunnel_request::{self, Destination, TunnelRequest};
use crate::quota::Draw;
use crate::refusal::{self, Fault, Ground, TunnelFault};
use crate::tickets::{OpenTunnel, Opener, Ticket};
use crate::wire::tunnel as wire;
use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::extract::ws::WebSocketUpgrade;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{Method, StatusCode};
use ravelin_engine::gate::Ask;
use ravelin_engine::leg::SocketHandle;
use ravelin_engine::{Admission, Caller};
use ravelin_model::policy::Action;
use ravelin_model::session::{EndReason, Kind};
use ravelin_model::{Refusal, Target};
use secrecy::ExposeSecret;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

impl Edge {
    /// The answer, and a line in the log.
    pub(super) async fn tunnel(
        &self,
        exchange: &Exchange,
        path: &TunnelPath,
        mut parts: Parts,
        body: Body,
    ) -> Response {
        let mut ground = self.ground(exchange);
        let outcome = match path {
            TunnelPath::Tokens => self.make_tokens(exchange, &parts, body, &mut ground).await,
            TunnelPath::Token(token) => self.delete_token(&parts, token),
            TunnelPath::Connection => self.connection(exchange, &parts, body, &mut ground).await,
            TunnelPath::Socket(token) => {
                self.open(exchange, &mut parts, Opener::WebsocketToken, token, &mut ground).await
            }
            TunnelPath::OlderSocket(token) => {
                self.open(exchange, &mut parts, Opener::AuthToken, token, &mut ground).await
            }
        };
        let response = match &outcome {
            Ok(_) => None,
            Err(fault) => Some(tunnel_error(fault, &ground)),
        };
        let status = match (&response, &outcome) {
            (Some(response), _) | (None, Ok(response)) => response.status().as_u16(),
            (None, Err(_)) => 0,
        };
        let detail = match &outcome {
            Err(TunnelFault::Refused(refusal) | TunnelFault::Proof(Fault::Refused(refusal))) => refusal.detail(),
            Ok(_) | Err(_) => None,
        };
        let (client, request_id, correlation_id) = (&ground.client, &exchange.request_id, &exchange.correlation_id);
        let client_request_id = exchange.client_request_id.as_deref().unwrap_or_default();
        match detail {
            Some(detail) => {
                let detail = detail.for_log();
                tracing::error!(?path, status, client, %request_id, correlation_id, client_request_id, detail, "azure tunnel");
            }
            None => {
                tracing::info!(?path, status, client, %request_id, correlation_id, client_request_id, "azure tunnel")
            }
        }
        response.unwrap_or_else(|| outcome.unwrap_or_default())
    }

    /// `POST /api/tokens`: two secrets for a wish that is granted now, and asked about again when the socket opens.
    async fn make_tokens(
        &self,
        exchange: &Exchange,
        parts: &Parts,
        body: Body,
        ground: &mut Ground<'_>,
    ) -> Result<Response, TunnelFault> {
        allow(parts, &Method::POST, "POST")?;
        let wish = tunnel_request::token_form(&read(body).await?).map_err(TunnelFault::Wish)?;
        let (caller, target) = self.wished(exchange, &wish, ground).await?;
        let username = caller.name().to_string();
        let ticket = Ticket { caller, destination: wish.destination, target: target.name.clone() };
        let pair = self.tickets.issue(ticket, Instant::now())?;
        let answer = wire::TunnelTokens {
            auth_token: pair.auth_token,
            username,
            data_source: "default",
            available_data_sources: ["default"],
            node_id: self.node.clone(),
            websocket_token: pair.websocket_token,
        };
        Ok(json_response(StatusCode::OK, json::<TunnelFault>(&answer)?))
    }

    /// `POST /api/connection`, of the Developer SKU: under which name the tunnel's data plane is reached. The whole text
    /// of the answer is that name.
    async fn connection(
        &self,
        exchange: &Exchange,
        parts: &Parts,
        body: Body,
        ground: &mut Ground<'_>,
    ) -> Result<Response, TunnelFault> {
        allow(parts, &Method::POST, "POST")?;
        let wish = tunnel_request::connection(&read(body).await?).map_err(TunnelFault::Wish)?;
        self.wished(exchange, &wish, ground).await?;
        let origin = exchange.origin.as_deref().ok_or(TunnelFault::Proof(Fault::HostMissing))?;
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        Ok(([(CONTENT_TYPE, plain)], super::dns_name_of(origin).to_owned()).into_response())
    }

    /// `DELETE /api/tokens/{authToken}`: whoever has the token may end what it opened.
    fn delete_token(&self, parts: &Parts, token: &str) -> Result<Response, TunnelFault> {
        allow(parts, &Method::DELETE, "DELETE")?;
        if self.tickets.delete(token) {
            Ok(StatusCode::NO_CONTENT.into_response())
        } else {
            Err(TunnelFault::NothingToDelete)
        }
    }

    /// Who wishes, and the target, when they may open a tunnel to it by the rules of this moment.
    async fn wished(
        &self,
        exchange: &Exchange,
        wish: &TunnelRequest,
        ground: &mut Ground<'_>,
    ) -> Result<(Caller, Arc<Target>), TunnelFault> {
        let caller = self.authenticate(exchange, wish.bearer.expose_secret()).await.map_err(TunnelFault::Proof)?;
        ground.client = caller.credential().map_or_else(|| caller.name().to_string(), ToString::to_string);
        let taken = self.quota.take(&ground.client, Draw::Write, Instant::now());
        taken.map_err(|retry_after| TunnelFault::Proof(Fault::TooFast { retry_after }))?;
        let target = self.target(&caller, &wish.destination)?;
        self.gate.permit(&caller, Action::OpenTunnel, &target).await?;
        Ok((caller, target))
    }

    fn target(&self, caller: &Caller, destination: &Destination) -> Result<Arc<Target>, Refusal> {
        match destination {
            Destination::Resource { id, port } => self.gate.find_port(caller, id, *port),
            Destination::Address { address, port } => self.gate.find_address(caller, *address, *port),
        }
    }

    /// A WebSocket: the session is admitted, and its row durable, before the answer says that it is open.
    async fn open(
        &self,
        exchange: &Exchange,
        parts: &mut Parts,
        opener: Opener,
        token: &str,
        ground: &mut Ground<'_>,
    ) -> Result<Response, TunnelFault> {
        allow(parts, &Method::GET, "GET")?;
        // A request that cannot become a socket does not use the token up.
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await.map_err(|_| TunnelFault::NotAWebSocket)?;
        let socket = parts.extensions.get::<SocketHandle>().cloned().ok_or(TunnelFault::NotHttp1)?;
        let (ticket, open) = self.tickets.take(opener, token, Instant::now()).ok_or(TunnelFault::TokenUnknown)?;
        // Whose credential was revoked, and whose rights are gone since the token was made, gets nothing for it.
        let caller = self.identity.again(&ticket.caller, exchange.contact()?).await?;
        ground.client = caller.credential().map_or_else(|| caller.name().to_string(), ToString::to_string);
        let target = self.target(&caller, &ticket.destination)?;
        if target.name != ticket.target {
            return Err(Refusal::Conflict { because: format!("{} means another target now", ticket.target) }.into());
        }
        let leg = TunnelLeg::new(socket);
        let client = Arc::clone(&leg);
        let ask =
            Ask { target, login: None, kind: Kind::Tunnel, document: None, reason: None, logs: Vec::new(), client };
        let admission = self.gate.admit(&caller, ask).await?;
        tracing::info!(session = %admission.session(), "azure tunnel: a session was admitted");
        Ok(hand_over(upgrade, admission, leg, open))
    }
}

/// The answer that opens the socket. Who does not come to take it over has closed it.
fn hand_over(upgrade: WebSocketUpgrade, admission: Admission, leg: Arc<TunnelLeg>, open: OpenTunnel) -> Response {
    // One of the two takes what is in here; the other finds nothing.
    let slot = Arc::new(Mutex::new(Some((admission, leg, open))));
    let unopened = Arc::clone(&slot);
    let take = |slot: &Mutex<Option<_>>| slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    upgrade
        .max_frame_size(io::MESSAGE_BYTES_MAX)
        .max_message_size(io::MESSAGE_BYTES_MAX)
        .read_buffer_size(io::READ_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(io::MESSAGE_BYTES_MAX)
        .on_failed_upgrade(move |error| {
            tracing::debug!(%error, "a tunnel's client left before its socket was open");
            if let Some((admission, _leg, open)) = take(&unopened) {
                tokio::spawn(async move {
                    drop(open);
                    admission.end(EndReason::ClientClosed, "the client left before its socket was open").await;
                });
            }
        })
        .on_upgrade(move |socket| async move {
            if let Some((admission, leg, open)) = take(&slot) {
                io::serve(socket, admission, leg, open).await;
            }
        })
}

async fn read(body: Body) -> Result<axum::body::Bytes, TunnelFault> {
    read_body(body, tunnel_request::BODY_BYTES_MAX).await.map_err(|stop| match stop {
        BodyStop::TooLarge => TunnelFault::BodyTooLarge,
        BodyStop::TooSlow => TunnelFault::BodyTooSlow,
        BodyStop::Broken => TunnelFault::BodyBroken,
    })
}

fn allow(parts: &Parts, method: &Method, allowed: &'static str) -> Result<(), TunnelFault> {
    if parts.method == *method { Ok(()) } else { Err(TunnelFault::Method { allowed }) }
}

fn tunnel_error(fault: &TunnelFault, ground: &Ground<'_>) -> Response {
    let said = refusal::tunnel(fault, ground);
    let body = json::<TunnelFault>(&wire::TunnelError { message: said.message.clone() }).unwrap_or_default();
    let mut response = json_response(said.status, body);
    put_extra(response.headers_mut(), &said.extra, &super::challenge(ground, &said.message));
    response
}
