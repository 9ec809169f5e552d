//! Ours and theirs: the only file that names both a domain type and its spelling on this wire.

use crate::{ALIAS, target_id, wire};
use ravelin_model::recording::LogKind;
use ravelin_model::session::{Ending, Recording, Session, State};
use ravelin_model::{PrincipalName, TargetId, Time};
use std::collections::BTreeMap;

/// The states as this dialect spells them; one to one.
pub(crate) const STATUSES: &[(&str, State)] = &[
    ("Connected", State::Connected),
    ("Connecting", State::Connecting),
    ("Disconnected", State::Disconnected),
    ("Terminated", State::Terminated),
    ("Terminating", State::Terminating),
    ("Failed", State::Failed),
];

/// The only way in that is offered: by standing rights.
pub(crate) const ACCESS_TYPE: &str = "Standard";

const REASON_CHARS_MAX: usize = 256;
const DETAILS_CHARS_MAX: usize = 1024;

/// A session as `DescribeSessions` shows it.
pub(crate) fn session(session: &Session, account: &str) -> wire::Session {
    let draft = &session.draft;
    let target = instance(&draft.target.aliases, &draft.target.id);
    wire::Session {
        session_id: draft.id.to_string(),
        target,
        status: status(session.state()),
        start_date: timestamp(session.created),
        end_date: session.ended().map(timestamp),
        document_name: draft.document.clone(),
        owner: owner(account, &draft.principal),
        reason: draft.reason.as_deref().and_then(|text| line(text, REASON_CHARS_MAX)),
        details: session.ending().and_then(|ending| line(&details(ending), DETAILS_CHARS_MAX)),
        output_url: output_url(session),
        max_session_duration: draft.duration_max.map(|limit| limit.as_secs().div_ceil(60).clamp(1, 1440).to_string()),
        access_type: ACCESS_TYPE,
    }
}

/// Where the output of a session is, or will be once it is delivered. Empty while the session lives; one that opened
/// nothing has no output.
fn output_url(session: &Session) -> Option<wire::SessionManagerOutputUrl> {
    if session.state().is_live() {
        return Some(wire::SessionManagerOutputUrl::default());
    }
    if session.draft.logs.is_empty() || session.recording == Recording::None {
        return None;
    }
    let find = |kind| {
        let place = session.draft.logs.iter().find(|place| place.kind == kind)?;
        Some(format!("{}{}", place.url, place.name(&session.draft.id)))
    };
    Some(wire::SessionManagerOutputUrl {
        s3_output_url: find(LogKind::Object),
        cloud_watch_output_url: find(LogKind::Stream),
    })
}

fn status(state: State) -> &'static str {
    match state {
        State::Connecting => "Connecting",
        State::Connected => "Connected",
        State::Disconnected => "Disconnected",
        State::Terminating => "Terminating",
        State::Terminated => "Terminated",
        State::Failed => "Failed",
    }
}

/// `disconnected_by_operator by alice: rotating keys`.
fn details(ending: &Ending) -> String {
    let cause = format!("{} by {}", ending.reason, ending.actor);
    if ending.detail.is_empty() { cause } else { format!("{cause}: {}", ending.detail) }
}

/// Text that fits a member of one line; `None` when nothing is left of it.
fn line(text: &str, chars_max: usize) -> Option<String> {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars_max).collect();
    (!line.is_empty()).then_some(line)
}

/// Whole milliseconds, cut off: a filter `InvokedAfter` with the shown date finds the session again.
pub(crate) fn timestamp(time: Time) -> wire::Timestamp {
    wire::Timestamp(time.as_micros().div_euclid(1000))
}

/// A principal as this dialect names it.
pub(crate) fn owner(account: &str, name: &PrincipalName) -> String {
    format!("arn:aws:iam::{account}:user/{name}")
}

/// The principal whom an `Owner` filter means: by the ARN that lists show, by the bare name, or by the ARN of an assumed
/// role whose session bears the principal's name. `None` when it can be nobody here.
pub(crate) fn principal(account: &str, owner: &str) -> Option<PrincipalName> {
    let name = match owner.strip_prefix("arn:aws:") {
        None => owner,
        Some(rest) => {
            let user = rest.strip_prefix("iam::").and_then(|rest| rest.strip_prefix(account)?.strip_prefix(":user/"));
            let role = || {
                let path = rest.strip_prefix("sts::")?.strip_prefix(account)?.strip_prefix(":assumed-role/")?;
                path.split_once('/').map(|(_role, session)| session)
            };
            user.or_else(role)?
        }
    };
    PrincipalName::parse(name).ok()
}

/// How this dialect calls a target.
pub(crate) fn instance(aliases: &BTreeMap<String, String>, id: &TargetId) -> String {
    aliases.get(ALIAS).cloned().unwrap_or_else(|| target_id(id.hex()))
}

/// The ARN of a target.
pub(crate) fn instance_arn(region: &str, account: &str, instance: &str) -> String {
    let kind = if instance.starts_with("i-") { "ec2" } else { "ssm" };
    let noun = if instance.starts_with("i-") { "instance" } else { "managed-instance" };
    format!("arn:aws:{kind}:{region}:{account}:{noun}/{instance}")
}

/// The ARN of a document.
pub(crate) fn document_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:document/{name}")
}

/// The ARN of a setting, whose id begins with a slash or not.
pub(crate) fn setting_arn(region: &str, account: &str, id: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:servicesetting/{}", id.trim_start_matches('/'))
}

/// The ARN of a session.
pub(crate) fn session_arn(region: &str, account: &str, id: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:session/{id}")
}

/// The ARN that stands for all of the account's things.
pub(crate) fn everything_arn(region: &str, account: &str) -> String {
    format!("arn:aws:ssm:{region}:{account}:*")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::session::{Actor, EndReason};

    #[test]
    fn statuses_are_one_to_one() {
        assert_eq!(STATUSES.len(), State::ALL.len());
        for state in State::ALL {
            assert!(STATUSES.contains(&(status(*state), *state)), "{state}");
        }
    }

    #[test]
    fn an_owner_is_found_by_what_lists_show() {
        let account = "123456789012";
        let alice = PrincipalName::parse("alice").expect("a name");
        for text in [
            owner(account, &alice),
            "alice".to_owned(),
            "arn:aws:sts::123456789012:assumed-role/Administrator/alice".to_owned(),
        ] {
            assert_eq!(principal(account, &text), Some(alice.clone()), "{text}");
        }
        for text in [
            "arn:aws:iam::210987654321:user/alice",
            "arn:aws:iam::123456789012:role/alice",
            "arn:aws:sts::123456789012:assumed-role/alice",
            "arn:aws:iam::123456789012:user/",
            "al ice",
            "",
        ] {
            assert_eq!(principal(account, text), None, "{text}");
        }
    }

    #[test]
    fn details_hold_cause_actor_and_words() {
        let alice = Actor::Principal(PrincipalName::parse("alice").expect("a name"));
        let ending = Ending::new(EndReason::DisconnectedByOperator, alice, "rotating keys");
        assert_eq!(details(&ending), "disconnected_by_operator by alice: rotating keys");
        let ending = Ending::new(EndReason::NodeStopped, Actor::System, "");
        assert_eq!(details(&ending), "node_stopped by system");
        assert_eq!(line("a\nb", 9).as_deref(), Some("a b"));
        assert_eq!(line("", 9), None);
        assert_eq!(line("ééé", 2).as_deref(), Some("éé"));
    }
}
