//! `GET /events`: follow the record as it grows.

use crate::feed::{self, Feed, Seats, Timing};
use crate::refusal::Fault;
use crate::request::{Params, number, once, truth, unknown};
use crate::server::Proof;
use crate::wire;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, header};
use ravelin_engine::{Caller, Control, Identity};
use ravelin_model::Refusal;
use std::convert::Infallible;
use std::sync::Arc;

/// Follow the record
///
/// Server-sent events. `id` is the number in the record, `event` the kind, `data` an `Event`. A client that comes back
/// with `Last-Event-ID` (or `cursor`) misses nothing and sees nothing twice. Besides the kinds of the record there are
/// `snapshot` (data `Snapshot`), `gap` (data `EventGap`: these are no longer kept) and `problem` (data `Problem`: the
/// stream ends after it).
#[utoipa::path(
    get,
    path = "/events",
    tag = "events",
    params(
        ("cursor" = Option<u64>, Query, description = "Begin after this number; without it, with what happens from now on."),
        ("snapshot" = Option<bool>, Query, description = "Begin with the live sessions, and again after a gap."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The last `id` that was seen. Goes before `cursor`.")
    ),
    responses(
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
#[expect(clippy::too_many_arguments, reason = "each extractor is one narrow handle")]
pub(crate) async fn stream_events(
    State(control): State<Control>,
    State(identity): State<Identity>,
    State(timing): State<Timing>,
    State(seats): State<Arc<Seats>>,
    Extension(caller): Extension<Caller>,
    Extension(Proof(token)): Extension<Proof>,
    headers: HeaderMap,
    Params(params): Params,
) -> Result<Response, Fault> {
    let (mut cursor, mut snapshot) = (None, None);
    for (name, value) in params {
        match name.as_str() {
            "cursor" => once(&mut cursor, "cursor", number("cursor", &value)?)?,
            "snapshot" => once(&mut snapshot, "snapshot", truth("snapshot", &value)?)?,
            other => return Err(unknown(other, &["cursor", "snapshot"]).into()),
        }
    }
    let resumed = last_event_id(&headers)?;
    let snapshot = snapshot.unwrap_or(false);
    let seat = seats.take(caller.name())?;
    let newest = control.events(&caller, feed::PAST_ALL, 1).await?.0.newest;
    let start = resumed.or(cursor).unwrap_or(newest);
    if start > newest {
        let field = if resumed.is_some() { LAST_EVENT_ID } else { "cursor" };
        return Err(feed::beyond(field, start, newest).into());
    }
    // Whoever comes back has had their snapshot.
    let begin_with_snapshot = snapshot && resumed.is_none();
    let feed = Feed::new(control, identity, token, caller, start, snapshot, begin_with_snapshot, timing, seat);
    let chunks =
        stream::unfold(feed, async |mut feed| feed.next().await.map(|chunk| (Ok::<_, Infallible>(chunk), feed)));
    let head = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store, no-transform")];
    Ok((head, [("x-accel-buffering", "no")], Body::from_stream(chunks)).into_response())
}

const LAST_EVENT_ID: &str = "last-event-id";

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    match headers.get(LAST_EVENT_ID) {
        None => Ok(None),
        Some(value) if value.is_empty() => Ok(None),
        Some(value) => number(LAST_EVENT_ID, &String::from_utf8_lossy(value.as_bytes())).map(Some),
    }
}
