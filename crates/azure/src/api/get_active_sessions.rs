//! `POST …/getActiveSessions`: everybody's live sessions, or the caller's own, newest first.
//!
//! The answer is complete at once: 200 and no `Location`, so no client has to poll. Source:
//! <https://learn.microsoft.com/rest/api/virtualnetwork/get-active-sessions/get-active-sessions>.

use crate::config::Config;
use crate::map;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control, Pager};
use ravelin_model::query::{SessionFilter, SessionQuery};

/// Sessions on one page.
pub(crate) const PAGE_ITEMS: u32 = 1000;

/// Where a request goes on, and how the link to the next page begins.
pub(crate) struct Place<'a> {
    /// From the query.
    pub(crate) skip_token: Option<&'a str>,
    /// The version that the caller speaks; it goes into the link.
    pub(crate) api_version: &'a str,
    /// Scheme and name under which the caller reaches us.
    pub(crate) origin: &'a str,
}

/// One page.
pub(crate) async fn answer(
    control: &Control,
    pager: &Pager,
    caller: &Caller,
    config: &Config,
    place: Place<'_>,
) -> Result<wire::BastionActiveSessionListResult, Fault> {
    let host = map::host_id(config);
    let question = format!("azure getActiveSessions\n{host}\n{}", caller.name());
    let mut query = SessionQuery::first(SessionFilter::live(), PAGE_ITEMS);
    if let Some(token) = place.skip_token {
        query.after = Some(pager.open(token, &question).ok_or(Fault::SkipToken)?);
    }
    let page = control.list(caller, query).await?;
    let now = control.now().await?;
    let next_link = page.next.map(|cursor| {
        let token = pager.seal(&cursor, &question);
        format!("{}{host}/getActiveSessions?api-version={}&$skiptoken={token}", place.origin, place.api_version)
    });
    let value = page.items.iter().map(|session| map::active_session(session, now, config)).collect();
    Ok(wire::BastionActiveSessionListResult { value, next_link })
}
