//! What can be asked of sessions: one filter language for live and past, and paging that cannot skip or repeat.

use crate::id::{Login, NodeId, PrincipalName, SessionId};
use crate::session::{EndReason, Kind, State};
use crate::target::Protocol;
use crate::time::Time;
use std::collections::BTreeSet;
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
