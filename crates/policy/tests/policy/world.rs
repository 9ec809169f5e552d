//! A small deployment to ask about, and short ways to ask.

use ravelin_model::policy::{Action, Decision, On, Question, Resource, Scope};
use ravelin_model::ports::{Policy, PolicyDown};
use ravelin_model::target::Protocol;
use ravelin_model::{GroupName, Principal, PrincipalName, SessionId, Target, TargetId, TargetName};
use ravelin_policy::{CedarPolicy, PolicySource};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) fn person(name: &str, groups: &[&str]) -> Principal {
    Principal {
        name: PrincipalName::parse(name).expect("a valid name"),
        groups: group_names(groups),
        ssh_keys: Vec::new(),
    }
}

pub(crate) fn target(name: &str, shared_with: &[&str], labels: &[(&str, &str)]) -> Target {
    Target {
        id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
        name: TargetName::parse(name).expect("a valid name"),
        address: "192.0.2.1".to_owned(),
        port: 22,
        protocol: Protocol::Ssh,
        logins: Vec::new(),
        host_keys: Vec::new(),
        labels: labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        shared_with: group_names(shared_with),
        aliases: BTreeMap::new(),
        recording: ravelin_model::recording::Rule::default(),
    }
}

fn group_names(names: &[&str]) -> BTreeSet<GroupName> {
    names.iter().map(|name| GroupName::parse(name).expect("a valid name")).collect()
}

pub(crate) fn load(text: &str) -> CedarPolicy {
    let source = PolicySource { name: "test.cedar".to_owned(), text: text.to_owned() };
    CedarPolicy::load(&[source]).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// Asks from 192.0.2.7.
pub(crate) fn ask(policy: &CedarPolicy, principal: &Principal, action: Action, resource: Resource<'_>) -> Answer {
    ask_from(policy, principal, action, resource, "192.0.2.7")
}

pub(crate) type Answer = Result<Decision, PolicyDown>;

pub(crate) fn ask_from(
    policy: &CedarPolicy,
    principal: &Principal,
    action: Action,
    resource: Resource<'_>,
    client: &str,
) -> Answer {
    policy.decide(&Question { principal, action, resource, client: client.parse().expect("an address") })
}

/// Asks for `action` on `target`, on a session of `owner` to it, on the scope or on the bastion, as the action wants.
pub(crate) fn ask_about(
    policy: &CedarPolicy,
    principal: &Principal,
    action: Action,
    target: &Target,
    owner: &Principal,
    scope: Scope,
) -> Answer {
    let snapshot = target.snapshot();
    let id = SessionId::new(&owner.name, 7);
    let resource = match action.on() {
        On::Target => Resource::Target(target),
        On::Session => Resource::Session { id: &id, owner: &owner.name, target: &snapshot },
        On::Scope => Resource::Scope(scope),
        On::Bastion => Resource::Bastion,
    };
    ask(policy, principal, action, resource)
}

pub(crate) fn allow(policies: &[&str]) -> Answer {
    Ok(Decision::Allow { policies: policies.iter().map(|name| (*name).to_owned()).collect() })
}

pub(crate) fn deny(policies: &[&str]) -> Answer {
    Ok(Decision::Deny { policies: policies.iter().map(|name| (*name).to_owned()).collect() })
}
