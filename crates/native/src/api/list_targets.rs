//! `GET /targets`: where sessions can lead, as far as the caller may know.

use crate::refusal::Fault;
use crate::request::Params;
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};

/// The targets that the caller may see
#[utoipa::path(
    get,
    path = "/targets",
    tag = "targets",
    responses(
        (status = 200, body = wire::Targets),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list_targets(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<wire::Targets>, Fault> {
    params.none()?;
    let items = control.targets(&caller).iter().map(|target| map::target(target)).collect();
    Ok(Json(wire::Targets { items }))
}
