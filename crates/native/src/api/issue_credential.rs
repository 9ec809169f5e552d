//! `POST /credentials`: a new credential; its secret is in this one answer and nowhere else.

use crate::refusal::Fault;
use crate::request::{self, Params};
use crate::{map, wire};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use http::{StatusCode, header};
use ravelin_engine::{Caller, Control};
use ravelin_model::{PrincipalName, Refusal};
use secrecy::ExposeSecret;

/// Longest note.
const NOTE_CHARS_MAX: usize = 200;

/// Issue a credential
///
/// The secret is shown this once.
#[utoipa::path(
    post,
    path = "/credentials",
    tag = "credentials",
    request_body = wire::IssueCredential,
    responses(
        (status = 201, body = wire::IssuedCredential),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn issue_credential(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
    request::Json(wish): request::Json<wire::IssueCredential>,
) -> Result<Response, Fault> {
    params.none()?;
    let principal = match &wish.principal {
        None => caller.name().clone(),
        Some(name) => PrincipalName::parse(name).map_err(|invalid| Refusal::invalid("principal", invalid.because))?,
    };
    let note = wish.note.unwrap_or_default();
    if note.chars().count() > NOTE_CHARS_MAX {
        return Err(Refusal::invalid("note", format!("must have at most {NOTE_CHARS_MAX} characters")).into());
    }
    let expires = match &wish.expires {
        None => None,
        Some(text) => Some(map::expiry("expires", text, control.now().await?)?),
    };
    let issued = control.issue_credential(&caller, &principal, map::credential_kind(wish.kind), &note, expires).await?;
    let place = format!("{}/credentials/{}", super::PREFIX, issued.credential.id);
    let body = wire::IssuedCredential {
        credential: map::credential(&issued.credential),
        secret: issued.secret.expose_secret().to_owned(),
        session_token: issued.session_token.map(|token| token.expose_secret().to_owned()),
    };
    Ok((StatusCode::CREATED, [(header::LOCATION, place)], Json(body)).into_response())
}
