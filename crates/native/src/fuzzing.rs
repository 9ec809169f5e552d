//! Doors for the fuzz targets: what decodes a client's queries and bodies, without a server around it. Compiled under
//! `--cfg fuzzing` only, so that it widens nobody's API.

use crate::api::{list_sessions, terminate_matching};
use crate::request::Params;
use crate::{map, wire};
use axum::extract::Query;
use http::Uri;
use ravelin_model::Time;
use ravelin_model::query::{Order, SessionFilter};
use serde::de::DeserializeOwned;

/// The filter, order and limit that a query string asks for, where it asks for sessions.
#[must_use]
pub fn list_query(query: &str) -> Option<(SessionFilter, Order, u32)> {
    let uri: Uri = format!("/api/v1/sessions?{query}").parse().ok()?;
    let Query(pairs) = Query::try_from_uri(&uri).ok()?;
    let (filter, order, limit, _cursor) = list_sessions::asked(Params(pairs)).ok()?;
    Some((filter, order, limit))
}

/// The sessions that a body of `terminate-matching` means to end.
#[must_use]
pub fn matching_body(body: &[u8]) -> Option<SessionFilter> {
    let wish: wire::TerminateMatching = serde_json::from_slice(body).ok()?;
    terminate_matching::filter(&wish).ok()
}

/// Decodes a body as each of the shapes that operations take.
pub fn bodies(body: &[u8]) {
    fn decode<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
        serde_json::from_slice(body).ok()
    }
    let _one = decode::<wire::Terminate>(body);
    let _many = decode::<wire::TerminateMany>(body);
    if let Some(wish) = decode::<wire::IssueCredential>(body)
        && let Some(expires) = &wish.expires
    {
        let now = Time::from_micros(1_795_300_143_123_456);
        if let Ok(at) = map::expiry("expires", expires, now) {
            assert!(at > now, "what is issued has not expired");
        }
    }
}
