//! What can be asked of sessions: one filter language for live and past, and paging that cannot skip or repeat.

use crate::audit::{AuditEvent, AuditKind};
use crate::id::{Login, NodeId, PrincipalName, SessionId};
use crate::session::{EndReason, Kind, State};
use crate::target::Protocol;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

/// Which sessions. Every field that is set must match; an empty set or `None` matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SessionFilter {
    /// In one of these states.
    pub states: BTreeSet<State>,
    /// Of one of these principals.
    pub principals: BTreeSet<PrincipalName>,
    /// To a target that bears or ever bore this name, id or alias in a session, without regard to case; also targets
    /// that left the inventory.
    pub target: Option<String>,
    /// Of one of these ids.
    pub ids: BTreeSet<SessionId>,
    /// Whose id, or the hex part of it, starts so.
    pub id_prefix: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Over this protocol.
    pub protocol: Option<Protocol>,
    /// With this login on the target.
    pub login: Option<Login>,
    /// From this address.
    pub client: Option<IpAddr>,
    /// Owned by this node.
    pub node: Option<NodeId>,
    /// Ending or ended for one of these reasons.
    pub end_reasons: BTreeSet<EndReason>,
    /// Ending or ended by this actor, in its text form.
    pub actor: Option<String>,
    /// Whose target bore this label with this value at the start.
    pub label: Option<(String, String)>,
    /// Which bear this tag with this value.
    pub tag: Option<(String, String)>,
    /// Created at this time or later.
    pub created_from: Option<Time>,
    /// Created before this time.
    pub created_before: Option<Time>,
    /// Ended at this time or later.
    pub ended_from: Option<Time>,
    /// Ended before this time.
    pub ended_before: Option<Time>,
}

impl SessionFilter {
    /// All that are live.
    #[must_use]
    pub fn live() -> Self {
        Self { states: State::ALL.iter().copied().filter(|s| s.is_live()).collect(), ..Self::default() }
    }

    /// All that have ended.
    #[must_use]
    pub fn ended() -> Self {
        Self { states: State::ALL.iter().copied().filter(|s| s.is_final()).collect(), ..Self::default() }
    }
}

/// Which way to walk through time; ids break ties the same way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Order {
    /// Latest creation first.
    #[default]
    NewestFirst,
    /// Earliest creation first.
    OldestFirst,
}

/// The place of a session in the order: everything up to and including it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Its creation time.
    pub created: Time,
    /// Its id.
    pub id: SessionId,
}

/// One page's worth of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionQuery {
    /// Which sessions.
    pub filter: SessionFilter,
    /// Which way.
    pub order: Order,
    /// After which place; `None` from the start.
    pub after: Option<Cursor>,
    /// At most this many items, 1 to [`SessionQuery::LIMIT_MAX`].
    pub limit: u32,
}

impl SessionQuery {
    /// The largest page that a store must serve.
    pub const LIMIT_MAX: u32 = 1000;

    /// The first page, newest first.
    #[must_use]
    pub fn first(filter: SessionFilter, limit: u32) -> Self {
        Self { filter, order: Order::NewestFirst, after: None, limit }
    }
}

/// A part of a list. `next` is there if and only if more items followed when it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The items, in the order asked for.
    pub items: Vec<T>,
    /// Where to go on.
    pub next: Option<Cursor>,
}

/// Which events of the record. Every field that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of one of these kinds.
    pub kinds: BTreeSet<AuditKind>,
    /// That one of these did, or that concern a session or a credential of one of these.
    pub principals: BTreeSet<String>,
    /// That concern the target of this name or id, without regard to case.
    pub target: Option<String>,
    /// On the session whose id, or the hex part of it, starts so.
    pub session: Option<String>,
    /// Done by this actor.
    pub actor: Option<String>,
    /// With all of these facts, each with one of these values.
    pub facts: BTreeMap<String, BTreeSet<String>>,
    /// That came from this address, whatever the port.
    pub client: Option<IpAddr>,
    /// Of this time or later.
    pub from: Option<Time>,
    /// Before this time.
    pub before: Option<Time>,
}

impl EventFilter {
    /// Whether it selects the event.
    #[must_use]
    pub fn matches(&self, event: &AuditEvent) -> bool {
        let fact = |name: &str| event.deed.facts.get(name).map(String::as_str);
        let actor = event.deed.actor.to_string();
        let target_facts = event.deed.facts.iter().filter(|(name, _)| *name == "target" || name.starts_with("target_"));
        let client = || {
            let address = fact("client_address")?;
            address.parse::<std::net::SocketAddr>().map(|a| a.ip()).or_else(|_| address.parse()).ok()
        };
        (self.kinds.is_empty() || self.kinds.contains(&event.deed.kind))
            && (self.principals.is_empty()
                || self.principals.contains(&actor)
                || fact("principal").is_some_and(|principal| self.principals.contains(principal)))
            && self
                .target
                .as_deref()
                .is_none_or(|wanted| target_facts.into_iter().any(|(_, value)| value.eq_ignore_ascii_case(wanted)))
            && self.session.as_deref().is_none_or(|start| {
                event.deed.session.as_ref().is_some_and(|id| {
                    let id = id.as_str();
                    id.starts_with(start) || id.rsplit_once('-').is_some_and(|(_, hex)| hex.starts_with(start))
                })
            })
            && self.actor.as_ref().is_none_or(|wanted| *wanted == actor)
            && self.facts.iter().all(|(name, values)| fact(name).is_some_and(|value| values.contains(value)))
            && self.client.is_none_or(|wanted| client() == Some(wanted.to_canonical()))
            && self.from.is_none_or(|from| event.at >= from)
            && self.before.is_none_or(|before| event.at < before)
    }
}

impl fmt::Display for EventFilter {
    /// What it narrows, for the record of an export; `all` when it narrows nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == EventFilter::default() {
            return f.write_str("all");
        }
        let mut parts: Vec<String> = self.kinds.iter().map(|kind| format!("kind={kind}")).collect();
        parts.extend(self.principals.iter().map(|name| format!("principal={name}")));
        parts.extend(self.target.iter().map(|target| format!("target={target}")));
        parts.extend(self.session.iter().map(|session| format!("session={session}")));
        parts.extend(self.actor.iter().map(|actor| format!("actor={actor}")));
        let facts = self.facts.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
        parts.extend(facts.map(|(name, value)| format!("{name}={value}")));
        parts.extend(self.client.iter().map(|client| format!("client={client}")));
        parts.extend(self.from.iter().map(|from| format!("from={}", from.as_micros())));
        parts.extend(self.before.iter().map(|before| format!("before={}", before.as_micros())));
        f.write_str(&crate::text::printable(&parts.join(" "), 400))
    }
}
