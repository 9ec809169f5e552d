//! `ResumeSession`: a new token for a session that is alive; the one before is void.
//!
//! Only its owner can come back to a session. One that has ended is answered with an empty token, which clients show as
//! "timed out". Source: API reference of `ResumeSession`, API version 2014-11-06, and `src/sessionmanagerplugin/session`
//! of the vendor's plugin, read 2026-11.

use super::Call;
use crate::channel::Lobby;
use crate::proto::request;
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::{map, wire};
use ravelin_engine::Control;
use ravelin_model::{Refusal, SessionId};
use secrecy::ExposeSecret;

const SESSION_ID_CHARS_MAX: usize = 96;

pub(crate) async fn answer(
    control: &Control,
    lobby: &Lobby,
    call: &Call<'_>,
) -> Result<wire::StartSessionResponse, Fault> {
    let request = request::terminate_session(call.body).map_err(Fault::Unreadable)?;
    let mut violations = Violations::default();
    let text = violations.text("sessionId", request.session_id.as_deref(), 1, SESSION_ID_CHARS_MAX);
    let text = violations.settle(text).map_err(Fault::Violations)?;
    let refused = |refusal| call.refused(refusal, map::session_arn(call.region, &call.config.account_id, text));
    let id = SessionId::parse(text).map_err(|_not_an_id| refused(Refusal::not_found("session", text)))?;
    let session = control.resumable(call.caller, &id).await.map_err(refused)?;
    let token = if session.state().is_live() { lobby.renew(&id) } else { None };
    Ok(wire::StartSessionResponse {
        token_value: token.map(|token| token.expose_secret().to_owned()).unwrap_or_default(),
        stream_url: call.stream_url(id.as_str()),
        session_id: id.to_string(),
    })
}
