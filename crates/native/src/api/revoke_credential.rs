//! `DELETE /credentials/{id}`: it is refused from now on, and what began with it ends; the record keeps it.

use crate::refusal::Fault;
use crate::request::{Params, Segment};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};
use ravelin_model::{CredentialId, Refusal};

/// Revoke a credential
///
/// Revoking again changes nothing. Live sessions that began with it end as `rights_revoked`, and event streams that were
/// opened with it within 15 seconds.
#[utoipa::path(
    delete,
    path = "/credentials/{id}",
    tag = "credentials",
    params(("id" = String, Path, description = "The public id.")),
    responses(
        (status = 200, body = wire::Credential),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn revoke_credential(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Segment(id): Segment,
    params: Params,
) -> Result<Json<wire::Credential>, Fault> {
    params.none()?;
    let id = CredentialId::parse(&id).map_err(|invalid| Refusal::invalid("id", invalid.because))?;
    Ok(Json(map::credential(&control.revoke_credential(&caller, &id).await?)))
}
