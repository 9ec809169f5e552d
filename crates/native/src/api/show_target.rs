//! `GET /targets/{name}`: one target by any of its names.

use crate::refusal::Fault;
use crate::request::{Params, Segment};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};

/// One target
#[utoipa::path(
    get,
    path = "/targets/{name}",
    tag = "targets",
    params(("name" = String, Path, description = "Name, id or alias; a slash in it is written %2F.")),
    responses(
        (status = 200, body = wire::Target),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn show_target(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(name): Segment,
    params: Params,
) -> Result<Json<wire::Target>, Fault> {
    params.none()?;
    Ok(Json(map::target(&*control.target(&caller, &name)?)))
}
