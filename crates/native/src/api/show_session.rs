//! `GET /sessions/{id}`: one session, live or past.

use crate::refusal::Fault;
use crate::request::{Params, Segment};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};
use ravelin_model::{Refusal, SessionId};

/// One session
#[utoipa::path(
    get,
    path = "/sessions/{id}",
    tag = "sessions",
    params(("id" = String, Path, description = "The full id.")),
    responses(
        (status = 200, body = wire::Session),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn show_session(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<wire::Session>, Fault> {
    params.none()?;
    let session = control.describe(&caller, &session_id("id", &id)?).await?;
    let whereabouts = control.whereabouts(&session).await?;
    Ok(Json(map::session_with(session, whereabouts)))
}

/// A full session id out of a path or a body.
pub(super) fn session_id(field: &str, text: &str) -> Result<SessionId, Refusal> {
    SessionId::parse(text).map_err(|invalid| Refusal::invalid(field, invalid.because))
}
