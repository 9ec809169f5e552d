//! `GET /sessions`: live and past, any filter, page by page.

use crate::refusal::Fault;
use crate::request::{Params, number, once, unknown};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control, Pager};
use ravelin_model::Refusal;
use ravelin_model::query::{Order, SessionFilter, SessionQuery};

/// Items of a page unless the client says otherwise.
const LIMIT_DEFAULT: u32 = 50;

/// Sessions, live and past
///
/// Without a parameter: the latest 50 of all that the caller may list. Those who may list only their own get only
/// their own.
#[utoipa::path(
    get,
    path = "/sessions",
    tag = "sessions",
    params(wire::SessionFilter, wire::ListPage),
    responses(
        (status = 200, body = wire::SessionPage),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn list_sessions(
    State(control): State<Control>,
    State(pager): State<Pager>,
    Extension(caller): Extension<Caller>,
    params: Params,
) -> Result<Json<wire::SessionPage>, Fault> {
    let (filter, order, limit, cursor) = asked(params)?;
    let question = question(&caller, &filter, order);
    let after = match cursor {
        None => None,
        Some(cursor) => Some(pager.open(&cursor, &question).ok_or_else(|| {
            Refusal::invalid("cursor", "is not one of this list; it belongs to one caller, filter and order")
        })?),
    };
    let found = control.list(&caller, SessionQuery { filter, order, after, limit }).await?;
    Ok(Json(wire::SessionPage {
        next_cursor: found.next.map(|cursor| pager.seal(&cursor, &question)),
        items: found.items.into_iter().map(map::session).collect(),
    }))
}

/// The parameters, understood: filter, order, limit and cursor.
pub(crate) fn asked(params: Params) -> Result<(SessionFilter, Order, u32, Option<String>), Refusal> {
    let (filter, page) = read(params)?;
    let filter = map::filter(&filter)?;
    let order = map::order(page.order.as_deref())?;
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > SessionQuery::LIMIT_MAX {
        let because = format!("must be 1 to {}, this is {limit}", SessionQuery::LIMIT_MAX);
        return Err(Refusal::invalid("limit", because));
    }
    Ok((filter, order, limit, page.cursor))
}

/// What must be the same when a cursor comes back.
fn question(caller: &Caller, filter: &SessionFilter, order: Order) -> String {
    format!("native list_sessions\n{}\n{order:?}\n{filter:?}", caller.name())
}

fn read(params: Params) -> Result<(wire::SessionFilter, wire::ListPage), Refusal> {
    const KNOWN: &[&str] = &[
        "state",
        "principal",
        "id",
        "end_reason",
        "target",
        "id_prefix",
        "kind",
        "protocol",
        "login",
        "client",
        "node",
        "actor",
        "label",
        "tag",
        "created_from",
        "created_before",
        "ended_from",
        "ended_before",
        "order",
        "limit",
        "cursor",
    ];
    let mut filter = wire::SessionFilter::default();
    let mut page = wire::ListPage::default();
    for (name, value) in params.0 {
        let slot = match name.as_str() {
            "state" | "principal" | "id" | "end_reason" => {
                let list = match name.as_str() {
                    "state" => &mut filter.state,
                    "principal" => &mut filter.principal,
                    "id" => &mut filter.id,
                    _ => &mut filter.end_reason,
                };
                list.push(value);
                continue;
            }
            "limit" => {
                let limit = number(&name, &value)?;
                once(&mut page.limit, &name, limit)?;
                continue;
            }
            "target" => &mut filter.target,
            "id_prefix" => &mut filter.id_prefix,
            "kind" => &mut filter.kind,
            "protocol" => &mut filter.protocol,
            "login" => &mut filter.login,
            "client" => &mut filter.client,
            "node" => &mut filter.node,
            "actor" => &mut filter.actor,
            "label" => &mut filter.label,
            "tag" => &mut filter.tag,
            "created_from" => &mut filter.created_from,
            "created_before" => &mut filter.created_before,
            "ended_from" => &mut filter.ended_from,
            "ended_before" => &mut filter.ended_before,
            "order" => &mut page.order,
            "cursor" => &mut page.cursor,
            other => return Err(unknown(other, KNOWN)),
        };
        once(slot, &name, value)?;
    }
    Ok((filter, page))
}
