//! `GET /events/list`: a stretch of the record, for those who would rather ask than follow.

use crate::feed;
use crate::refusal::Fault;
use crate::request::{Params, number, once, unknown};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;

/// Most events of one answer.
const LIMIT_MAX: u32 = 1000;
/// Events of an answer unless the client says otherwise.
const LIMIT_DEFAULT: u32 = 100;

/// A stretch of the record
///
/// Go on with `next_after` until it is `newest`.
#[utoipa::path(
    get,
    path = "/events/list",
    tag = "events",
    params(
        ("after" = Option<u64>, Query, description = "Only events with higher numbers; 0 unless given."),
        ("limit" = Option<u32>, Query, description = "At most this many, 1 to 1000; 100 unless given.")
    ),
    responses(
        (status = 200, body = wire::EventPage),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list_events(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Params(params): Params,
) -> Result<Json<wire::EventPage>, Fault> {
    let (mut after, mut limit) = (None, None);
    for (name, value) in params {
        match name.as_str() {
            "after" => once(&mut after, "after", number("after", &value)?)?,
            "limit" => once(&mut limit, "limit", number("limit", &value)?)?,
            other => return Err(unknown(other, &["after", "limit"]).into()),
        }
    }
    let after: u64 = after.unwrap_or(0);
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(Refusal::invalid("limit", format!("must be 1 to {LIMIT_MAX}, this is {limit}")).into());
    }
    let (page, looked) = control.events(&caller, after, limit).await?;
    if after > page.newest {
        return Err(feed::beyond("after", after, page.newest).into());
    }
    let gap = feed::gap(after, &page);
    Ok(Json(wire::EventPage {
        next_after: looked,
        newest: page.newest,
        gap,
        items: page.events.into_iter().map(map::event).collect(),
    }))
}
