//! `POST /sessions/terminate`: end many sessions by their ids, with an outcome for each.

use super::ending;
use super::show_session::session_id;
use crate::refusal::Fault;
use crate::request::{self, Params};
use crate::wire;
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;
use std::collections::HashSet;

/// End many sessions
///
/// Each id has its own outcome, unknown ones included. An id that is none at all refuses the request as a whole.
#[utoipa::path(
    post,
    path = "/sessions/terminate",
    tag = "sessions",
    request_body = wire::TerminateMany,
    responses(
        (status = 200, body = wire::Outcomes),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn terminate_sessions(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
    request::Json(wish): request::Json<wire::TerminateMany>,
) -> Result<Json<wire::Outcomes>, Fault> {
    params.none()?;
    if wish.ids.is_empty() || wish.ids.len() > ending::SESSIONS_MAX {
        let because = format!("must be 1 to {} ids, these are {}", ending::SESSIONS_MAX, wish.ids.len());
        return Err(Refusal::invalid("ids", because).into());
    }
    let mut seen = HashSet::new();
    let mut ids = Vec::with_capacity(wish.ids.len());
    for (at, text) in wish.ids.iter().enumerate() {
        let id = session_id(&format!("ids[{at}]"), text)?;
        if seen.insert(id.clone()) {
            ids.push(id);
        }
    }
    let reason = ending::reason(wish.reason)?;
    let wait = ending::wait(wish.wait_ms)?;
    let items = ending::in_full(ending::end_all(control, caller, ids, reason, wait)).await?;
    Ok(Json(wire::Outcomes { items }))
}
