//! The default policies against a table that was written from the promise, not from the policies.

use crate::world::{ask_about, deny, load, person, target};
use ravelin_model::policy::{Action, Decision, Scope, without_engine};
use ravelin_model::policy::{On, Question, Resource};
use ravelin_model::{Principal, SessionId};
use ravelin_policy::{CedarPolicy, PolicySource};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    /// In `operators` only.
    Operator,
    /// In `web`, which the shared target is shared with.
    Member,
    /// In a group that nothing is shared with.
    Outsider,
    /// In `web` and `forwarding`.
    Forwarder,
    /// In `auditors` only.
    Auditor,
    /// In no group.
    Nobody,
}

const EVERY_WHO: [Who; 6] = [Who::Operator, Who::Member, Who::Outsider, Who::Forwarder, Who::Auditor, Who::Nobody];

/// A target shared with the asker's groups or not; the asker's own session, list or credential or somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Own,
    Other,
}

fn groups(who: Who) -> &'static [&'static str] {
    match who {
        Who::Operator => &["operators"],
        Who::Member => &["web"],
        Who::Outsider => &["accounts"],
        Who::Forwarder => &["web", "forwarding"],
        Who::Auditor => &["auditors"],
        Who::Nobody => &[],
    }
}

/// The promise. No wildcard: a new action does not compile before somebody decided who may.
fn may(who: Who, action: Action, whose: Whose) -> bool {
    let operator = who == Who::Operator;
    let auditor = who == Who::Auditor;
    let own = whose == Whose::Own;
    let shared = own && matches!(who, Who::Member | Who::Forwarder);
    match action {
        Action::OpenShell | Action::OpenExec | Action::OpenSftp | Action::OpenTunnel | Action::ForwardLocal => shared,
        Action::ForwardRemote | Action::ForwardAgent => shared && who == Who::Forwarder,
        Action::ReadTarget => operator || shared,
        Action::ListSessions | Action::WatchEvents | Action::ReadSession => operator || auditor || own,
        Action::TerminateSession => operator || own,
        Action::WatchSession => operator,
        Action::PlayRecording | Action::SearchRecordings => operator || auditor,
        Action::ExportRecording | Action::HoldRecording => auditor,
        Action::ResumeSession => own,
        Action::ReadBastion | Action::ReadDocuments | Action::ReadSettings => true,
        Action::ManageDocuments | Action::ManageSettings => operator,
        Action::ListCredentials | Action::RevokeCredential => operator || own,
        Action::IssueCredential | Action::WriteBastion => operator,
        Action::ExportAudit | Action::ReadSinks => operator || auditor,
    }
}

fn default_policy() -> CedarPolicy {
    CedarPolicy::load(&[PolicySource::built_in()]).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn answer(policy: &CedarPolicy, asker: &Principal, action: Action, whose: Whose) -> Decision {
    let shared = target("web-1", &["web"], &[]);
    let unshared = target("db-1", &["database"], &[]);
    let stranger = person("stranger", &["web"]);
    let (target, owner, scope) = match whose {
        Whose::Own => (&shared, asker, Scope::Own),
        Whose::Other => (&unshared, &stranger, Scope::Everyone),
    };
    ask_about(policy, asker, action, target, owner, scope).expect("the default policies do not fail")
}

#[test]
fn everybody_may_what_the_promise_says_and_nothing_else() {
    let policy = default_policy();
    for action in Action::ALL.iter().copied() {
        for who in EVERY_WHO {
            for whose in [Whose::Own, Whose::Other] {
                let decision = answer(&policy, &person("asker", groups(who)), action, whose);
                assert_eq!(decision.is_allow(), may(who, action, whose), "{who:?} {action} {whose:?}: {decision:?}");
                let (Decision::Allow { policies } | Decision::Deny { policies }) = &decision;
                assert_eq!(policies.is_empty(), !decision.is_allow(), "a yes has a reason: {decision:?}");
            }
        }
    }
}

#[test]
fn every_action_is_permitted_to_somebody() {
    let policy = default_policy();
    for action in Action::ALL.iter().copied() {
        let somebody = EVERY_WHO
            .into_iter()
            .any(|who| answer(&policy, &person("asker", groups(who)), action, Whose::Own).is_allow());
        assert!(somebody, "nobody may {action}");
    }
}

#[test]
fn what_holds_without_the_engine_holds_with_it() {
    let policy = default_policy();
    let unshared = target("db-1", &["database"], &[]).snapshot();
    let stranger = person("stranger", &[]);
    for who in EVERY_WHO {
        let asker = person("asker", groups(who));
        for action in Action::ALL.iter().copied() {
            for whose in [Whose::Own, Whose::Other] {
                let owner = if whose == Whose::Own { &asker } else { &stranger };
                let scope = if whose == Whose::Own { Scope::Own } else { Scope::Everyone };
                let id = SessionId::new(&owner.name, 1);
                let resource = match action.on() {
                    On::Session => Resource::Session { id: &id, owner: &owner.name, target: &unshared },
                    On::Scope => Resource::Scope(scope),
                    On::Target | On::Bastion => continue,
                };
                let client = "192.0.2.7".parse().expect("an address");
                if without_engine(&Question { principal: &asker, action, resource, client }) {
                    assert!(answer(&policy, &asker, action, whose).is_allow(), "{who:?} {action} {whose:?}");
                }
            }
        }
    }
}

#[test]
fn every_default_policy_has_a_name_and_a_sentence() {
    let policy = default_policy();
    let text = CedarPolicy::default_text();
    for name in policy.names() {
        let (before, _) = text.split_once(&format!("@id({name:?})")).unwrap_or_else(|| panic!("{name} has no @id"));
        let last_line = before.trim_end().lines().last().unwrap_or_default();
        assert!(last_line.starts_with("// ") && last_line.ends_with('.'), "{name}: {last_line:?}");
    }
}

#[test]
fn the_default_policies_do_not_ask_for_the_client_address() {
    // Not even in a comment: the word alone makes every answer be kept per address.
    assert!(!CedarPolicy::default_text().contains("context"));
}

#[test]
fn without_policies_everything_is_denied() {
    let policy = load("");
    for action in Action::ALL.iter().copied() {
        let operator = person("root", &["operators", "web", "forwarding"]);
        let web = target("web-1", &["web"], &[]);
        assert_eq!(ask_about(&policy, &operator, action, &web, &operator, Scope::Own), deny(&[]), "{action}");
    }
}
