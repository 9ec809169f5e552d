//! `POST …/disconnectActiveSessions`: ends the sessions named and says of each, in the order asked, what became of it.
//!
//! `Disconnected` is said when both of a session's sockets are closed. Asking again is harmless, so clients may repeat
//! the request after an error of ours. Source:
//! <https://learn.microsoft.com/rest/api/virtualnetwork/disconnect-active-sessions/disconnect-active-sessions>.

use crate::config::Config;
use crate::map;
use crate::proto::body;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::control::Termination;
use ravelin_engine::{Caller, Control};
use ravelin_model::{Refusal, SessionId};
use std::collections::{BTreeSet, HashMap};

/// What the person at the keyboard and the record are told.
const REASON: &str = "through Azure disconnectActiveSessions";

/// The state of each id.
pub(crate) async fn answer(
    control: &Control,
    caller: &Caller,
    config: &Config,
    body: &[u8],
) -> Result<wire::BastionSessionDeleteResult, Fault> {
    let asked = body::session_ids(body).map_err(Fault::Body)?;
    // An id that is named twice is ended once; what is no id of ours is known to be unknown.
    let known: BTreeSet<&str> = asked.iter().map(String::as_str).collect();
    let ids: Vec<SessionId> = known.into_iter().filter_map(|id| SessionId::parse(id).ok()).collect();
    let outcomes = control.terminate_many(caller, &ids, REASON, config.disconnect_wait).await;
    if let Some(denied) = denied_throughout(&outcomes) {
        return Err(Fault::Refused(denied));
    }
    let states: HashMap<&str, wire::BastionSessionState> =
        outcomes.iter().map(|(id, outcome)| (id.as_str(), map::session_state(id.as_str(), outcome))).collect();
    for (id, outcome) in &outcomes {
        if let Err(refusal) = outcome
            && let Some(detail) = refusal.detail()
        {
            tracing::error!(session = %id, detail = detail.for_log(), "a session could not be disconnected");
        }
    }
    let value =
        asked.iter().map(|id| states.get(id.as_str()).cloned().unwrap_or_else(|| map::session_not_found(id))).collect();
    Ok(wire::BastionSessionDeleteResult { value })
}

/// The denial, when the caller may end none of the sessions that they may know of. Nothing was ended then, and the whole
/// request is refused as the service refuses a caller without the right.
fn denied_throughout(outcomes: &[(SessionId, Result<Termination, Refusal>)]) -> Option<Refusal> {
    let mut denied = None;
    for (_, outcome) in outcomes {
        match outcome {
            Err(refusal @ Refusal::Denied { .. }) => denied = Some(refusal.clone()),
            Err(Refusal::NotFound { .. }) => {}
            Ok(_)
            | Err(
                Refusal::Unauthenticated { .. }
                | Refusal::Invalid { .. }
                | Refusal::Conflict { .. }
                | Refusal::LimitReached { .. }
                | Refusal::Unavailable { .. }
                | Refusal::Internal { .. },
            ) => return None,
        }
    }
    denied
}
