//! `GET /sinks`: how far the record was shipped, and what is in the way.

use crate::refusal::Fault;
use crate::request::Params;
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};

/// How far the record was shipped
#[utoipa::path(
    get,
    path = "/sinks",
    tag = "audit",
    responses(
        (status = 200, body = wire::Sinks),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list_sinks(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<wire::Sinks>, Fault> {
    params.none()?;
    let mut items: Vec<wire::Sink> = control.sinks(&caller).await?.iter().map(map::sink).collect();
    items.extend(control.log_places(&caller).await?.iter().map(map::log_place));
    Ok(Json(wire::Sinks { items }))
}
