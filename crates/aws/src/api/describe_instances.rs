//! `DescribeInstanceInformation` and `DescribeInstanceProperties`: the targets that the caller may see, with what is really
//! known of them.
//!
//! Whether a target can be reached, and what it says of itself (an SSH server's first line), is looked at when somebody
//! asks and kept for half a minute. What is not known is left out; nothing is made up, but `AgentVersion`: it names what
//! the data channel speaks, which is what callers choose by.
//!
//! Source: API reference of both operations, API version 2014-11-06, read 2026-11.

use super::{Call, Pages, of_model};
use crate::proto::host::AGENT_VERSION;
use crate::proto::request::{Filter, Members};
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::{map, wire};
use futures_util::stream::{self, StreamExt};
use ravelin_engine::egress::Sight;
use ravelin_engine::{Control, Pager};
use ravelin_model::{Target, Time};
use std::net::IpAddr;
use std::sync::Arc;

/// Targets that are looked at at the same time for one answer.
const LOOKS: usize = 32;
const FILTERS_MAX: usize = 40;
const PAGE_DEFAULT: u32 = 50;

/// Which of the two operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Information,
    Properties,
}

impl View {
    fn page_max(self) -> u32 {
        match self {
            View::Information => 50,
            View::Properties => 1000,
        }
    }

    /// Values of one filter.
    fn values_max(self) -> usize {
        match self {
            View::Information => 100,
            View::Properties => 40,
        }
    }

    fn wrong_value(self) -> &'static str {
        match self {
            View::Information => "InvalidInstanceInformationFilterValue",
            View::Properties => "InvalidInstancePropertyFilterValue",
        }
    }
}

pub(crate) async fn information(
    control: &Control,
    pager: &Pager,
    call: &Call<'_>,
) -> Result<wire::DescribeInstanceInformationResponse, Fault> {
    let (instances, next_token) = page(control, pager, call, View::Information).await?;
    Ok(wire::DescribeInstanceInformationResponse { instance_information_list: instances, next_token })
}

pub(crate) async fn properties(
    control: &Control,
    pager: &Pager,
    call: &Call<'_>,
) -> Result<wire::DescribeInstancePropertiesResponse, Fault> {
    let (instances, next_token) = page(control, pager, call, View::Properties).await?;
    Ok(wire::DescribeInstancePropertiesResponse { instance_properties: instances, next_token })
}

async fn page(
    control: &Control,
    pager: &Pager,
    call: &Call<'_>,
    view: View,
) -> Result<(Vec<wire::Instance>, Option<String>), Fault> {
    let asked = Asked::read(call.body, view)?;
    let refused = |refusal| call.refused(refusal, map::everything_arn(call.region, &call.config.account_id));
    let pages = Pages::new(pager, call, &asked.bound);
    let skip = pages.skip(asked.next_token.as_deref())?;
    let now = control.now().await.map_err(refused)?;
    let targets: Vec<Arc<Target>> = control
        .targets(call.caller)
        .into_iter()
        .filter(|target| asked.conditions.iter().all(|c| c.fits(target)))
        .collect();
    let mut found = Vec::new();
    let mut looked = skip;
    // Looked at in order, several at a time, and not beyond what fills the page.
    let mut sights = stream::iter(targets.iter().skip(skip).cloned().map(|target| async move {
        let sight = control.look(&target).await;
        (target, sight)
    }))
    .buffered(LOOKS.min(asked.limit as usize));
    while found.len() < asked.limit as usize {
        let Some((target, sight)) = sights.next().await else { break };
        looked += 1;
        if asked.conditions.iter().all(|condition| condition.fits_sight(&sight)) {
            found.push(instance(&target, &sight, now));
        }
    }
    let next = (looked < targets.len()).then(|| pages.after(looked));
    Ok((found, next))
}

fn instance(target: &Target, sight: &Sight, now: Time) -> wire::Instance {
    let instance_id = map::instance(&target.aliases, &target.id);
    let platform = sight.greeting.as_deref().map(platform).unwrap_or_default();
    wire::Instance {
        resource_type: resource_type(&instance_id),
        instance_id,
        ping_status: ping_status(sight),
        last_ping_date_time: sight.reachable.then(|| map::timestamp(now.minus(sight.age))),
        agent_version: agent_version(),
        is_latest_version: true,
        platform_type: platform.kind,
        platform_name: platform.name,
        platform_version: platform.version,
        name: target.name.to_string(),
        ip_address: target.address.parse::<IpAddr>().ok().map(|address| address.to_string()),
        computer_name: target.address.parse::<IpAddr>().is_err().then(|| target.address.clone()),
    }
}

/// Three numbers, as the member's pattern wants them at least.
fn agent_version() -> &'static str {
    AGENT_VERSION
}

fn ping_status(sight: &Sight) -> &'static str {
    if sight.reachable { "Online" } else { "ConnectionLost" }
}

fn resource_type(instance: &str) -> &'static str {
    if instance.starts_with("i-") { "EC2Instance" } else { "ManagedInstance" }
}

/// What a server's first line says of the machine below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Platform {
    kind: Option<&'static str>,
    name: Option<&'static str>,
    version: Option<String>,
}

/// Reads `SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3` and its like. What the line does not say stays unknown.
fn platform(greeting: &str) -> Platform {
    let of = |kind, name, version: Option<String>| Platform { kind: Some(kind), name, version };
    let Some(rest) = greeting.strip_prefix("SSH-2.0-") else { return Platform::default() };
    if rest.starts_with("OpenSSH_for_Windows") {
        return of("Windows", Some("Microsoft Windows"), None);
    }
    if let Some((_, package)) = rest.split_once(" Debian-") {
        let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
        let version = package.split_once("+deb").map(|(_, release)| digits(release)).filter(|v| !v.is_empty());
        return of("Linux", Some("Debian GNU/Linux"), version);
    }
    if rest.contains(" Ubuntu-") {
        return of("Linux", Some("Ubuntu"), None);
    }
    if rest.contains(" Raspbian-") {
        return of("Linux", Some("Raspbian GNU/Linux"), None);
    }
    // A BSD is none of the three kinds that there are; an OpenSSH without a word may be on any.
    Platform::default()
}

/// The request with its members understood.
struct Asked {
    conditions: Vec<Condition>,
    limit: u32,
    next_token: Option<String>,
    bound: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    BeginWith,
    LessThan,
    GreaterThan,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("Equal", Operator::Equal),
    ("NotEqual", Operator::NotEqual),
    ("BeginWith", Operator::BeginWith),
    ("LessThan", Operator::LessThan),
    ("GreaterThan", Operator::GreaterThan),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    InstanceIds,
    AgentVersion,
    PingStatus,
    PlatformTypes,
    ResourceType,
    /// What no target here has: activations, roles, associations, documents.
    Never,
    Tag(String),
}

struct Condition {
    key: Key,
    operator: Operator,
    values: Vec<String>,
}

const KEYS: &[(&str, Key)] = &[
    ("InstanceIds", Key::InstanceIds),
    ("AgentVersion", Key::AgentVersion),
    ("PingStatus", Key::PingStatus),
    ("PlatformTypes", Key::PlatformTypes),
    ("ActivationIds", Key::Never),
    ("IamRole", Key::Never),
    ("ResourceType", Key::ResourceType),
    ("AssociationStatus", Key::Never),
];

impl Asked {
    fn read(body: &[u8], view: View) -> Result<Self, Fault> {
        let members = Members::read(body).map_err(Fault::Unreadable)?;
        let (old, new) = match view {
            View::Information => (("InstanceInformationFilterList", "valueSet"), ("Filters", "Values")),
            View::Properties => (("InstancePropertyFilterList", "valueSet"), ("FiltersWithOperator", "Values")),
        };
        let first = members.filters(old.0, "key", old.1).map_err(Fault::Unreadable)?;
        let second = members.filters(new.0, "Key", new.1).map_err(Fault::Unreadable)?;
        let max_results = members.integer("MaxResults").map_err(Fault::Unreadable)?;
        let next_token = members.text("NextToken").map_err(Fault::Unreadable)?.filter(|token| !token.is_empty());
        let mut violations = Violations::default();
        if first.is_some() && second.is_some() {
            let must = format!("not stand beside {}", new.0);
            violations.broken(old.0, "(a list)", &must);
        }
        let limit = match max_results {
            None => Some(PAGE_DEFAULT),
            Some(number) => violations.number("maxResults", number, 5, view.page_max()),
        };
        if view == View::Properties {
            for (name, list) in [("instancePropertyFilterList", &first), ("filtersWithOperator", &second)] {
                if list.as_ref().is_some_and(Vec::is_empty) {
                    violations.broken(name, "[]", "have length greater than or equal to 1");
                }
            }
        }
        let named = |list: Option<Vec<Filter>>, name| list.into_iter().flatten().map(move |filter| (filter, name));
        let given: Vec<(Filter, &str)> = named(first, "valueSet").chain(named(second, "values")).collect();
        if given.len() > FILTERS_MAX {
            violations.broken("filters", format!("[{} filters]", given.len()), "have length less than or equal to 40");
        }
        let mut unknown = None;
        let mut wrong = None;
        let mut conditions = Vec::new();
        let mut bound = Vec::new();
        for filter in given.into_iter().take(FILTERS_MAX) {
            let (Filter { place, key, values, operator }, member) = filter;
            let Some(name) = key else {
                violations.missing(&format!("{place}.key"));
                continue;
            };
            let key = match name.strip_prefix("tag:") {
                Some(label) => Some(Key::Tag(label.to_owned())),
                None if name == "DocumentName" && view == View::Properties => Some(Key::Never),
                None => KEYS.iter().find(|(word, _)| *word == name).map(|(_, key)| key.clone()),
            };
            let (member, most) = (format!("{place}.{member}"), view.values_max());
            if values.is_empty() {
                violations.broken(&member, "[]", "have length greater than or equal to 1");
            } else if values.len() > most {
                violations.broken(&member, "[…]", &format!("have length less than or equal to {most}"));
            } else if values.iter().any(String::is_empty) {
                let must = "satisfy constraint: [Member must have length greater than or equal to 1]";
                violations.broken(&member, format!("{values:?}"), must);
            }
            let operator = match &operator {
                None => Some(Operator::Equal),
                Some(word) => violations.one_of(&format!("{place}.operator"), word, OPERATORS),
            };
            let Some(key) = key else {
                unknown.get_or_insert(name);
                continue;
            };
            let allowed: &[&str] = match key {
                Key::PingStatus => &["Online", "ConnectionLost", "Inactive"],
                Key::PlatformTypes => &["Windows", "Linux", "MacOS"],
                Key::ResourceType => &["ManagedInstance", "EC2Instance"],
                Key::InstanceIds | Key::AgentVersion | Key::Never | Key::Tag(_) => &[],
            };
            if let Some(value) = values.iter().find(|value| !allowed.is_empty() && !allowed.contains(&value.as_str())) {
                let known = allowed.join(", ");
                wrong.get_or_insert(of_model(
                    view.wrong_value(),
                    format!("{value} is no {name}. Valid values: {known}."),
                ));
            }
            if key == Key::InstanceIds
                && let Some(value) = values.iter().find(|value| !is_instance_id(value))
            {
                wrong.get_or_insert(of_model("InvalidInstanceId", format!("{value} is not an instance id.")));
            }
            bound.push(format!("{name}={values:?}{operator:?}"));
            if let Some(operator) = operator {
                conditions.push(Condition { key, operator, values });
            }
        }
        bound.sort();
        let limit = violations.settle(limit).map_err(Fault::Violations)?;
        if let Some(key) = unknown {
            let known: Vec<&str> = KEYS.iter().map(|(word, _)| *word).collect();
            return Err(Fault::FilterKey { key, known: format!("{}, tag:KEY", known.join(", ")) });
        }
        match wrong {
            Some(fault) => Err(fault),
            None => Ok(Self { conditions, limit, next_token, bound }),
        }
    }
}

/// `i-` and 8 or 17, `mi-` and 17 word characters.
fn is_instance_id(text: &str) -> bool {
    let word = |tail: &str| tail.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    match (text.strip_prefix("mi-"), text.strip_prefix("i-")) {
        (Some(tail), _) => tail.len() == 17 && word(tail),
        (None, Some(tail)) => matches!(tail.len(), 8 | 17) && word(tail),
        (None, None) => false,
    }
}

impl Condition {
    /// Whether the inventory alone permits the target. What has to be looked at is passed over.
    fn fits(&self, target: &Target) -> bool {
        let id = map::instance(&target.aliases, &target.id);
        match &self.key {
            Key::InstanceIds => self.holds(&id),
            Key::AgentVersion => self.holds(agent_version()),
            Key::ResourceType => self.holds(resource_type(&id)),
            Key::Never => self.operator == Operator::NotEqual,
            Key::Tag(label) => match target.labels.get(label) {
                Some(value) => self.holds(value),
                None => self.operator == Operator::NotEqual,
            },
            Key::PingStatus | Key::PlatformTypes => true,
        }
    }

    /// Whether what was seen of the target permits it.
    fn fits_sight(&self, sight: &Sight) -> bool {
        match &self.key {
            Key::PingStatus => self.holds(ping_status(sight)),
            Key::PlatformTypes => match sight.greeting.as_deref().and_then(|greeting| platform(greeting).kind) {
                Some(kind) => self.holds(kind),
                None => self.operator == Operator::NotEqual,
            },
            Key::InstanceIds | Key::AgentVersion | Key::ResourceType | Key::Never | Key::Tag(_) => true,
        }
    }

    fn holds(&self, found: &str) -> bool {
        let any = |holds: &dyn Fn(&str) -> bool| self.values.iter().any(|value| holds(value));
        match self.operator {
            Operator::Equal => any(&|value| found.eq_ignore_ascii_case(value)),
            Operator::NotEqual => !any(&|value| found.eq_ignore_ascii_case(value)),
            Operator::BeginWith => any(&|value| found.starts_with(value)),
            Operator::LessThan => any(&|value| numbers(found) < numbers(value)),
            Operator::GreaterThan => any(&|value| numbers(found) > numbers(value)),
        }
    }
}

/// The numbers of a version, which compare as such.
fn numbers(text: &str) -> Vec<u64> {
    text.split('.').map(|part| part.parse().unwrap_or(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_line_says_no_more_than_it_says() {
        let linux = |name, version: Option<&str>| Platform {
            kind: Some("Linux"),
            name: Some(name),
            version: version.map(str::to_owned),
        };
        assert_eq!(platform("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"), linux("Debian GNU/Linux", Some("12")));
        assert_eq!(platform("SSH-2.0-OpenSSH_9.6p1 Ubuntu-3ubuntu13.5"), linux("Ubuntu", None));
        assert_eq!(platform("SSH-2.0-OpenSSH_for_Windows_9.5").kind, Some("Windows"));
        for unknown in
            ["SSH-2.0-OpenSSH_9.9", "SSH-2.0-OpenSSH_9.7 FreeBSD-20240806", "220 ready", "SSH-2.0-dropbear", ""]
        {
            assert_eq!(platform(unknown), Platform::default(), "{unknown}");
        }
    }

    #[test]
    fn ids_have_their_form() {
        for id in ["mi-01234567890abcdef", "i-01234567", "i-01234567890abcdef"] {
            assert!(is_instance_id(id), "{id}");
        }
        for id in ["web-1", "mi-1", "i-", "i-0123456", ""] {
            assert!(!is_instance_id(id), "{id}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        let condition =
            |operator, value: &str| Condition { key: Key::AgentVersion, operator, values: vec![value.to_owned()] };
        assert!(condition(Operator::LessThan, "3.10.0").holds("3.9.0"));
        assert!(condition(Operator::GreaterThan, "3.2.0.0").holds("3.3.0.0"));
        assert!(!condition(Operator::NotEqual, "3.3.0.0").holds("3.3.0.0"));
        assert!(condition(Operator::BeginWith, "3.").holds("3.3.0.0"));
    }
}
