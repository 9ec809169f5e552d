//! `TerminateSession`: ends a session and answers when it has ended. Asking again is harmless.
//!
//! AWS's model knows no error for an unknown id; here it is `DoesNotExistException`, because an answer of success would
//! say that something ended. Source: API reference of `TerminateSession`, API version 2014-11-06, read 2026-11.

use super::Call;
use crate::proto::request;
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::{map, wire};
use ravelin_engine::Control;
use ravelin_engine::control::Termination;
use ravelin_model::{Refusal, SessionId};

/// What is put on record as the reason; the operation has no member for one.
const REASON: &str = "aws ssm terminate-session";
const SESSION_ID_CHARS_MAX: usize = 96;

pub(crate) async fn answer(control: &Control, call: &Call<'_>) -> Result<wire::TerminateSessionResponse, Fault> {
    let request = request::terminate_session(call.body).map_err(Fault::Unreadable)?;
    let mut violations = Violations::default();
    let text = violations.text("sessionId", request.session_id.as_deref(), 1, SESSION_ID_CHARS_MAX);
    let text = violations.settle(text).map_err(Fault::Violations)?;
    let refused = |refusal| call.refused(refusal, map::session_arn(call.region, &call.config.account_id, text));
    // What cannot be an id is the id of nothing.
    let id = SessionId::parse(text).map_err(|_not_an_id| refused(Refusal::not_found("session", text)))?;
    match control.terminate(call.caller, &id, REASON, Control::WAIT_DEFAULT).await.map_err(refused)? {
        Termination::Confirmed { .. } | Termination::AlreadyEnded { .. } => {
            Ok(wire::TerminateSessionResponse { session_id: id.to_string() })
        }
        Termination::Pending { because } => Err(Fault::StillOpen { session: id.to_string(), because }),
    }
}
