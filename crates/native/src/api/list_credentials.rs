//! `GET /credentials`: what was issued, without secrets.

use crate::refusal::Fault;
use crate::request::Params;
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};

/// The credentials that the caller may list
#[utoipa::path(
    get,
    path = "/credentials",
    tag = "credentials",
    responses(
        (status = 200, body = wire::Credentials),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list_credentials(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<wire::Credentials>, Fault> {
    params.none()?;
    let items = control.credentials(&caller).await?.iter().map(map::credential).collect();
    Ok(Json(wire::Credentials { items }))
}
