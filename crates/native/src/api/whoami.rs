//! `GET /whoami`: as whom the bastion knows the caller.

use crate::refusal::Fault;
use crate::request::Params;
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};

/// Who is asking
#[utoipa::path(
    get,
    path = "/whoami",
    tag = "whoami",
    responses(
        (status = 200, body = wire::Whoami),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn whoami(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<wire::Whoami>, Fault> {
    params.none()?;
    control.read_bastion(&caller).await?;
    Ok(Json(map::whoami(&caller)))
}
