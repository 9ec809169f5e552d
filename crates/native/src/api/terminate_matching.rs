//! `POST /sessions/terminate-matching`: end every live session that a filter matches, after a look at what that is.

use super::ending;
use crate::refusal::Fault;
use crate::request::{self, Params};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};
use ravelin_model::query::{Order, SessionFilter, SessionQuery};
use ravelin_model::{Refusal, Session};

/// End every live session that a filter matches
///
/// First with `dry_run`, which answers what would be ended and how many that are; then with `expect` set to that
/// number. When another number matches by then, nothing is ended and the answer has code `count_changed`. Exactly the
/// sessions that were counted are ended, and each has its own outcome.
#[utoipa::path(
    post,
    path = "/sessions/terminate-matching",
    tag = "sessions",
    request_body = wire::TerminateMatching,
    responses(
        (status = 200, body = wire::Matching),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn terminate_matching(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    params: Params,
    request::Json(wish): request::Json<wire::TerminateMatching>,
) -> Result<Json<wire::Matching>, Fault> {
    params.none()?;
    let filter = filter(&wish)?;
    let reason = ending::reason(wish.reason)?;
    let wait = ending::wait(wish.wait_ms)?;
    if !wish.dry_run && wish.expect.is_none() {
        let because = "is missing; ask with dry_run first and give the number of sessions that it says match";
        return Err(Refusal::invalid("expect", because).into());
    }
    let found = every(&control, &caller, filter).await?;
    let matching = found.len() as u64;
    match wish.expect {
        Some(expected) if expected != matching => Err(Fault::CountChanged { expected, matching }),
        Some(_) | None if wish.dry_run => {
            let sessions = found.into_iter().map(map::session).collect();
            Ok(Json(wire::Matching { dry_run: true, matching, sessions: Some(sessions), outcomes: None }))
        }
        Some(_) | None => {
            let ids = found.iter().map(|session| session.id().clone()).collect();
            let outcomes = ending::in_full(ending::end_all(control, caller, ids, reason, wait)).await?;
            Ok(Json(wire::Matching { dry_run: false, matching, sessions: None, outcomes: Some(outcomes) }))
        }
    }
}

/// Which sessions the wish means.
pub(crate) fn filter(wish: &wire::TerminateMatching) -> Result<SessionFilter, Refusal> {
    live_only(map::filter(&wish.filter).map_err(within_filter)?, &wish.filter.state)
}

/// The filter held to live sessions; what has ended cannot be ended.
fn live_only(mut filter: SessionFilter, words: &[String]) -> Result<SessionFilter, Refusal> {
    if filter.states.iter().any(|state| state.is_final()) || words.iter().any(|word| word == "any") {
        let because = "may name live states only, leave it out for all of them";
        return Err(Refusal::invalid("filter.state", because));
    }
    if filter.states.is_empty() {
        filter.states = SessionFilter::live().states;
    }
    Ok(filter)
}

/// Names the member by its place in the body.
fn within_filter(refusal: Refusal) -> Refusal {
    if let Refusal::Invalid { field, because } = refusal {
        Refusal::Invalid { field: format!("filter.{field}"), because }
    } else {
        refusal
    }
}

async fn every(control: &Control, caller: &Caller, filter: SessionFilter) -> Result<Vec<Session>, Fault> {
    let mut query = SessionQuery { filter, order: Order::NewestFirst, after: None, limit: SessionQuery::LIMIT_MAX };
    let mut found = Vec::new();
    loop {
        let page = control.list(caller, query.clone()).await?;
        found.extend(page.items);
        if found.len() > ending::SESSIONS_MAX || (found.len() == ending::SESSIONS_MAX && page.next.is_some()) {
            let because = format!("matches more than {} sessions, narrow it", ending::SESSIONS_MAX);
            return Err(Refusal::invalid("filter", because).into());
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(found),
        }
    }
}
