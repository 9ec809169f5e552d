//! `DescribeSessions`: the active sessions, or those that ended within the last 30 days; newest first.
//!
//! Filters are joined by "and", also when a key stands twice. Source: API reference of `DescribeSessions`, API version
//! 2014-11-06, and the CLI reference of `describe-sessions`, read 2026-11; what both leave open is decided in
//! `docs/wire/aws.md`.

use super::Call;
use crate::proto::violations::Violations;
use crate::proto::{instant, request};
use crate::refusal::Fault;
use crate::{map, wire};
use ravelin_engine::{Control, Pager};
use ravelin_model::query::{Order, SessionFilter, SessionQuery};
use ravelin_model::session::State;
use ravelin_model::{SessionId, Time};
use std::collections::BTreeSet;
use std::time::Duration;

/// Items on a page when the caller does not say; AWS does not document its own number.
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 200;
const FILTERS_MAX: usize = 6;
const FILTER_VALUE_CHARS_MAX: usize = 400;
const HISTORY: Duration = Duration::from_secs(30 * 24 * 3600);

pub(crate) async fn answer(
    control: &Control,
    pager: &Pager,
    call: &Call<'_>,
) -> Result<wire::DescribeSessionsResponse, Fault> {
    let asked = Asked::read(&request::describe_sessions(call.body).map_err(Fault::Unreadable)?)?;
    let refused = |refusal| call.refused(refusal, map::everything_arn(call.region, &call.config.account_id));
    let question = asked.question(call.caller.name().as_str());
    let after = match &asked.next_token {
        None => None,
        Some(token) => Some(pager.open(token, &question).ok_or(Fault::NextToken)?),
    };
    let now = control.now().await.map_err(refused)?;
    let filter = asked.filter(now, &call.config.account_id);
    let query = SessionQuery { filter, order: Order::NewestFirst, after, limit: asked.limit };
    let page = control.list(call.caller, query).await.map_err(refused)?;
    Ok(wire::DescribeSessionsResponse {
        sessions: page.items.iter().map(|session| map::session(session, &call.config.account_id)).collect(),
        next_token: page.next.map(|cursor| pager.seal(&cursor, &question)),
    })
}

/// The request with its members understood.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    view: View,
    filters: Vec<Filter>,
    limit: u32,
    next_token: Option<String>,
    // What a page token is bound to, in one order whatever the client's was.
    bound: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Active,
    History,
}

const VIEWS: &[(&str, View)] = &[("Active", View::Active), ("History", View::History)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    InvokedAfter,
    InvokedBefore,
    Target,
    Owner,
    Status,
    SessionId,
    AccessType,
}

const KEYS: &[(&str, Key)] = &[
    ("InvokedAfter", Key::InvokedAfter),
    ("InvokedBefore", Key::InvokedBefore),
    ("Target", Key::Target),
    ("Owner", Key::Owner),
    ("Status", Key::Status),
    ("SessionId", Key::SessionId),
    ("AccessType", Key::AccessType),
];

#[derive(Debug, PartialEq, Eq)]
enum Filter {
    InvokedAfter(Time),
    InvokedBefore(Time),
    Target(String),
    Owner(String),
    Status(State),
    SessionId(String),
    AccessType { offered: bool },
}

impl Asked {
    fn read(request: &wire::DescribeSessionsRequest) -> Result<Self, Fault> {
        let mut violations = Violations::default();
        let mut unknown_key = None;
        let view = match &request.state {
            Some(state) => violations.one_of("state", state, VIEWS),
            None => {
                violations.missing("state");
                None
            }
        };
        let limit = match request.max_results {
            Some(wanted) => violations.number("maxResults", wanted, 1, PAGE_MAX),
            None => Some(PAGE_DEFAULT),
        };
        let given = request.filters.as_deref().unwrap_or_default();
        if request.filters.is_some() && given.is_empty() {
            violations.broken("filters", "[]", "have length greater than or equal to 1");
        } else if given.len() > FILTERS_MAX {
            let shown = format!("[{} filters]", given.len());
            violations.broken("filters", shown, &format!("have length less than or equal to {FILTERS_MAX}"));
        }
        let (mut filters, mut bound) = (Vec::new(), Vec::new());
        for (at, filter) in given.iter().enumerate().take(FILTERS_MAX) {
            let member = |name: &str| format!("filters.{}.member.{name}", at + 1);
            let value = violations.text(&member("value"), filter.value.as_deref(), 1, FILTER_VALUE_CHARS_MAX);
            let Some(key) = filter.key.as_deref() else {
                violations.missing(&member("key"));
                continue;
            };
            let Some((_, meaning)) = KEYS.iter().find(|(word, _)| *word == key) else {
                unknown_key.get_or_insert_with(|| key.to_owned());
                continue;
            };
            let Some(value) = value else { continue };
            filters.extend(read_filter(*meaning, value, &member("value"), &mut violations));
            bound.push((key.to_owned(), value.to_owned()));
        }
        bound.sort();
        let (view, limit) = violations.settle(view.zip(limit)).map_err(Fault::Violations)?;
        if let Some(key) = unknown_key {
            let known: Vec<&str> = KEYS.iter().map(|(word, _)| *word).collect();
            return Err(Fault::FilterKey { key, known: known.join(", ") });
        }
        // The skeleton that the command line makes holds an empty token; it stands for none.
        let next_token = request.next_token.clone().filter(|token| !token.is_empty());
        Ok(Self { view, filters, limit, next_token, bound })
    }

    /// What a page token of this caller's question is bound to.
    fn question(&self, caller: &str) -> String {
        let view = match self.view {
            View::Active => "Active",
            View::History => "History",
        };
        format!("aws DescribeSessions {:?}", (caller, view, &self.bound))
    }

    /// The question in the engine's words.
    fn filter(&self, now: Time, account: &str) -> SessionFilter {
        let mut filter = match self.view {
            View::Active => SessionFilter::live(),
            View::History => SessionFilter { ended_from: Some(now.minus(HISTORY)), ..SessionFilter::ended() },
        };
        let mut possible = true;
        for wanted in &self.filters {
            possible &= match wanted {
                Filter::InvokedAfter(time) => {
                    filter.created_from = filter.created_from.max(Some(*time));
                    true
                }
                Filter::InvokedBefore(time) => {
                    filter.created_before = Some(filter.created_before.map_or(*time, |before| before.min(*time)));
                    true
                }
                Filter::Target(name) => match filter.target.replace(name.clone()) {
                    Some(other) => other.eq_ignore_ascii_case(name),
                    None => true,
                },
                Filter::Owner(owner) => {
                    map::principal(account, owner).is_some_and(|principal| keep_only(&mut filter.principals, principal))
                }
                Filter::Status(state) => keep_only(&mut filter.states, *state),
                Filter::SessionId(id) => SessionId::parse(id).is_ok_and(|id| keep_only(&mut filter.ids, id)),
                Filter::AccessType { offered } => *offered,
            };
        }
        if !possible {
            // The list is asked all the same, because it also asks whether the caller may list at all.
            filter.created_from = Some(Time::MAX);
        }
        filter
    }
}

fn read_filter(key: Key, value: &str, member: &str, violations: &mut Violations) -> Option<Filter> {
    let mut time = || {
        let time = instant::parse(value);
        if time.is_none() {
            violations.broken(member, value, "be an ISO 8601 date and time, such as 2018-08-29T00:00:00Z");
        }
        time
    };
    match key {
        Key::InvokedAfter => time().map(Filter::InvokedAfter),
        Key::InvokedBefore => time().map(Filter::InvokedBefore),
        Key::Target => Some(Filter::Target(value.to_owned())),
        Key::Owner => Some(Filter::Owner(value.to_owned())),
        Key::Status => violations.one_of(member, value, map::STATUSES).map(Filter::Status),
        Key::SessionId => Some(Filter::SessionId(value.to_owned())),
        Key::AccessType => violations
            .one_of(member, value, &[(map::ACCESS_TYPE, true), ("JustInTime", false)])
            .map(|offered| Filter::AccessType { offered }),
    }
}

/// Narrows a set, in which "empty" means "all", to one member; `false` when nothing is left.
fn keep_only<T: Ord>(set: &mut BTreeSet<T>, member: T) -> bool {
    let fits = set.is_empty() || set.contains(&member);
    *set = BTreeSet::from([member]);
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNT: &str = "123456789012";
    const NOW: Time = Time::from_micros(1_800_000_000_000_000);

    fn asked(state: &str, filters: &[(&str, &str)]) -> Result<Asked, Fault> {
        let filters: Vec<_> = filters
            .iter()
            .map(|(key, value)| wire::SessionFilter { key: Some((*key).to_owned()), value: Some((*value).to_owned()) })
            .collect();
        Asked::read(&wire::DescribeSessionsRequest {
            state: Some(state.to_owned()),
            filters: (!filters.is_empty()).then_some(filters),
            ..wire::DescribeSessionsRequest::default()
        })
    }

    fn filter(state: &str, filters: &[(&str, &str)]) -> SessionFilter {
        asked(state, filters).expect("a valid question").filter(NOW, ACCOUNT)
    }

    fn complaint(result: Result<Asked, Fault>) -> String {
        result.expect_err("a wrong question").speak().text.expect("a text")
    }

    fn impossible(filter: &SessionFilter) -> bool {
        filter.created_from == Some(Time::MAX)
    }

    #[test]
    fn active_is_every_live_state_and_history_the_last_30_days() {
        assert_eq!(filter("Active", &[]), SessionFilter::live());
        let history = filter("History", &[]);
        assert_eq!(history.states, SessionFilter::ended().states);
        assert_eq!(history.ended_from, Some(NOW.minus(Duration::from_secs(30 * 86_400))));
    }

    #[test]
    fn filters_are_joined_by_and() {
        let both = filter(
            "Active",
            &[
                ("InvokedAfter", "2026-01-01"),
                ("InvokedAfter", "2026-02-01"),
                ("InvokedBefore", "2026-04-01"),
                ("InvokedBefore", "2026-03-01"),
                ("Target", "mi-1"),
                ("Target", "MI-1"),
            ],
        );
        assert_eq!(both.created_from, instant::parse("2026-02-01"));
        assert_eq!(both.created_before, instant::parse("2026-03-01"));
        assert!(!impossible(&both));
        for pair in [
            [("Owner", "alice"), ("Owner", "bob")],
            [("Status", "Connected"), ("Status", "Terminating")],
            [("Target", "a"), ("Target", "b")],
            [("SessionId", "a-07a16060613c408b5"), ("SessionId", "b-07a16060613c408b5")],
            [("Status", "Terminated"), ("AccessType", "Standard")],
            [("AccessType", "JustInTime"), ("AccessType", "Standard")],
            [("SessionId", "nonsense"), ("Owner", "alice")],
            [("Owner", "arn:aws:iam::000000000000:user/alice"), ("Owner", "alice")],
        ] {
            assert!(impossible(&filter("Active", &pair)), "{pair:?}");
        }
        assert!(!impossible(&filter(
            "Active",
            &[("Owner", "alice"), ("Owner", "arn:aws:iam::123456789012:user/alice")]
        )));
    }

    #[test]
    fn a_token_is_bound_to_caller_state_and_filters_but_not_to_their_order() {
        let of = |state, filters: &[_], caller| asked(state, filters).expect("a valid question").question(caller);
        let one = of("Active", &[("Owner", "a"), ("Target", "b")], "alice");
        assert_eq!(one, of("Active", &[("Target", "b"), ("Owner", "a")], "alice"));
        for other in [
            of("History", &[("Owner", "a"), ("Target", "b")], "alice"),
            of("Active", &[("Owner", "a")], "alice"),
            of("Active", &[("Owner", "a"), ("Target", "c")], "alice"),
            of("Active", &[("Owner", "a\", \"b"), ("Target", "b")], "alice"),
            of("Active", &[("Owner", "a"), ("Target", "b")], "bob"),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn everything_wrong_is_listed_at_once() {
        let text = complaint(Asked::read(&wire::DescribeSessionsRequest {
            state: Some("Bogus".to_owned()),
            max_results: Some(500),
            filters: Some(vec![
                wire::SessionFilter { key: Some("Status".to_owned()), value: Some("Dead".to_owned()) },
                wire::SessionFilter { key: Some("InvokedAfter".to_owned()), value: Some("soon".to_owned()) },
                wire::SessionFilter { key: None, value: Some(String::new()) },
            ]),
            next_token: None,
        }));
        for part in [
            "6 validation errors detected: Value 'Bogus' at 'state'",
            "Value '500' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 200",
            "Value 'Dead' at 'filters.1.member.value' failed to satisfy constraint: Member must satisfy enum value set: [Connected, ",
            "Value 'soon' at 'filters.2.member.value' failed to satisfy constraint: Member must be an ISO 8601 date",
            "Value '' at 'filters.3.member.value' failed to satisfy constraint: Member must have length greater than or equal to 1",
            "Value null at 'filters.3.member.key'",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let seven = [("Owner", "a"); 7];
        assert!(
            complaint(asked("Active", &seven))
                .contains("'filters' failed to satisfy constraint: Member must have length less")
        );
        assert!(complaint(Asked::read(&wire::DescribeSessionsRequest::default())).contains("Value null at 'state'"));
    }

    #[test]
    fn an_unknown_key_is_its_own_error() {
        let spoken = asked("Active", &[("owner", "alice")]).expect_err("keys are spelled exactly").speak();
        assert_eq!(spoken.code, "InvalidFilterKey");
        assert!(spoken.text.expect("a text").contains("'owner' is not valid. Valid keys: InvokedAfter, "));
    }
}
