//! `GET /audit`: the record with its chain, page by page, for copies that can be verified.

use crate::refusal::Fault;
use crate::request::{Params, number, once, unknown};
use crate::{map, wire};
use axum::extract::State;
use axum::{Extension, Json};
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;
use ravelin_model::audit::{AuditKind, label_fact, tag_fact};
use ravelin_model::query::EventFilter;

/// Most events of one answer.
const LIMIT_MAX: u32 = 1000;
/// Events of an answer unless the client says otherwise.
const LIMIT_DEFAULT: u32 = 500;
/// Longest value of a filter, in characters.
const VALUE_CHARS_MAX: usize = 512;

/// Facts that can be filtered by, called alike here and in the record.
const FACTS: &[&str] = &["kind", "protocol", "login", "node", "end_reason"];

const PARAMETERS: &[&str] = &[
    "after",
    "limit",
    "event",
    "principal",
    "target",
    "session",
    "client",
    "from",
    "before",
    "kind",
    "protocol",
    "login",
    "node",
    "end_reason",
    "actor",
    "label",
    "tag",
];

/// The record with its chain
///
/// Go on with `next_after` until it is `newest`. Without a filter the lines form a chain that can be verified offline.
#[utoipa::path(
    get,
    path = "/audit",
    tag = "audit",
    params(
        ("after" = Option<u64>, Query, description = "Only events with higher numbers; 0 unless given."),
        ("limit" = Option<u32>, Query, description = "At most this many, 1 to 1000; 500 unless given."),
        ("event" = Option<Vec<String>>, Query, description = "Of one of these kinds of event."),
        ("principal" = Option<Vec<String>>, Query, description = "That one of these did or that concern theirs."),
        ("target" = Option<String>, Query, description = "That concern the target of this name or id."),
        ("session" = Option<String>, Query, description = "On the session whose id starts so."),
        ("client" = Option<String>, Query, description = "From this IP address."),
        ("from" = Option<String>, Query, description = "Of this time or later, RFC 3339."),
        ("before" = Option<String>, Query, description = "Before this time, RFC 3339."),
        ("kind" = Option<String>, Query, description = "On sessions of this kind."),
        ("protocol" = Option<String>, Query, description = "On sessions over this protocol."),
        ("login" = Option<String>, Query, description = "On sessions with this login on the target."),
        ("node" = Option<String>, Query, description = "On sessions of this node."),
        ("end_reason" = Option<Vec<String>>, Query, description = "On sessions that end for one of these reasons."),
        ("actor" = Option<String>, Query, description = "Done by this principal, target:NAME or system."),
        ("label" = Option<String>, Query, description = "On sessions whose target bore this label, key=value."),
        ("tag" = Option<String>, Query, description = "On sessions with this tag, key=value.")
    ),
    responses(
        (status = 200, body = wire::LedgerPage),
        (status = "default", body = wire::Problem, content_type = "application/problem+json")
    )
)]
pub(crate) async fn export_audit(
    State(control): State<Control>,
    Extension(caller): Extension<Caller>,
    Params(params): Params,
) -> Result<Json<wire::LedgerPage>, Fault> {
    let (mut after, mut limit) = (None, None);
    let mut filter = EventFilter::default();
    for (name, value) in params {
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(Refusal::invalid(name, format!("must have at most {VALUE_CHARS_MAX} characters")).into());
        }
        match name.as_str() {
            "after" => once(&mut after, "after", number("after", &value)?)?,
            "limit" => once(&mut limit, "limit", number("limit", &value)?)?,
            "event" => {
                let kind = AuditKind::from_word(&value);
                let unknown = || Refusal::invalid("event", "is not a kind of event");
                filter.kinds.insert(kind.ok_or_else(unknown)?);
            }
            "principal" => {
                filter.principals.insert(value);
            }
            "target" => once(&mut filter.target, "target", value)?,
            "session" => once(&mut filter.session, "session", value)?,
            "client" => {
                let address = value.parse().map_err(|_| Refusal::invalid("client", "must be an IP address"))?;
                once(&mut filter.client, "client", address)?;
            }
            "from" => once(&mut filter.from, "from", map::time("from", &value)?)?,
            "before" => once(&mut filter.before, "before", map::time("before", &value)?)?,
            "actor" => once(&mut filter.actor, "actor", map::actor(&value)?)?,
            "label" => {
                let (key, value) = map::pair("label", &value)?;
                filter.facts.entry(label_fact(&key)).or_default().insert(value);
            }
            "tag" => {
                let (key, value) = map::pair("tag", &value)?;
                filter.facts.entry(tag_fact(&key)).or_default().insert(value);
            }
            other if FACTS.contains(&other) => {
                filter.facts.entry(name).or_default().insert(value);
            }
            other => return Err(unknown(other, PARAMETERS).into()),
        }
    }
    let after: u64 = after.unwrap_or(0);
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if limit == 0 || limit > LIMIT_MAX {
        return Err(Refusal::invalid("limit", format!("must be 1 to {LIMIT_MAX}, this is {limit}")).into());
    }
    let (page, looked) = control.export(&caller, &filter, after, limit).await?;
    if after > page.newest {
        return Err(crate::feed::beyond("after", after, page.newest).into());
    }
    Ok(Json(wire::LedgerPage {
        foundation: map::foundation(&page.foundation),
        next_after: looked,
        newest: page.newest,
        items: page.entries.into_iter().map(map::ledger_event).collect(),
    }))
}
