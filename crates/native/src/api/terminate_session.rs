//! `POST /sessions/{id}/terminate`: end one session and say when it ended.

use super::ending;
use super::show_session::session_id;
use crate::refusal::Fault;
use crate::request::{self, Params, Segment};
use crate::{map, wire};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::StatusCode;
use ravelin_engine::control::Termination;
use ravelin_engine::{Caller, Control};

/// End a session
///
/// Answers when both sockets are closed, or after the wait with outcome `pending`. Asking again is harmless.
#[utoipa::path(
    post,
    path = "/sessions/{id}/terminate",
    tag = "sessions",
    params(("id" = String, Path, description = "The full id.")),
    request_body(content = Option<wire::Terminate>),
    responses(
        (status = 200, description = "It has ended, now or before.", body = wire::Outcome),
        (status = 202, description = "It was asked to end, and something is still open.", body = wire::Outcome),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn terminate_session(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    params: Params,
    request::Json(wish): request::Json<wire::Terminate>,
) -> Result<Response, Fault> {
    params.none()?;
    let id = session_id("id", &id)?;
    let reason = ending::reason(wish.reason)?;
    let wait = ending::wait(wish.wait_ms)?;
    let asked = id.clone();
    let result = ending::in_full(async move { control.terminate(&caller, &asked, &reason, wait).await }).await?;
    let termination = result?;
    let status = match &termination {
        Termination::Confirmed { .. } | Termination::AlreadyEnded { .. } => StatusCode::OK,
        Termination::Pending { .. } => StatusCode::ACCEPTED,
    };
    Ok((status, Json(map::outcome(&id, Ok(termination)))).into_response())
}
