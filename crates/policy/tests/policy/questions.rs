//! What an answer depends on, that the cache keeps to it, and what happens when a policy fails.

use crate::world::{allow, ask, ask_from, deny, load, person, target};
use proptest::prelude::*;
use ravelin_model::policy::{Action, On, Question, Resource, Scope};
use ravelin_model::ports::Policy;
use ravelin_model::{Principal, SessionId, Target};
use ravelin_policy::{CedarPolicy, PolicySource};
use std::sync::LazyLock;

const SHELL_IF_SHARED: &str = r#"@id("shared")
    permit(principal, action in Action::"connect", resource) when { principal in resource.shared_with };"#;

#[test]
fn a_forbid_wins() {
    let policy = load(&format!(
        "{SHELL_IF_SHARED} @id(\"no-prod\") forbid(principal, action in Action::\"connect\", resource)
         when {{ resource.labels.contains(\"env=prod\") }};"
    ));
    let alice = person("alice", &["web"]);
    let lab = target("web-1", &["web"], &[("env", "lab")]);
    let prod = target("web-1", &["web"], &[("env", "prod")]);
    assert_eq!(ask(&policy, &alice, Action::OpenShell, Resource::Target(&lab)), allow(&["shared"]));
    assert_eq!(ask(&policy, &alice, Action::OpenShell, Resource::Target(&prod)), deny(&["no-prod"]));
    assert_eq!(ask(&policy, &alice, Action::ReadTarget, Resource::Target(&lab)), deny(&[]));
}

#[test]
fn all_deciding_policies_are_named_in_order() {
    let read = r#"permit(principal, action == Action::"read_bastion", resource);"#;
    let policy = load(&format!("@id(\"b\") {read} @id(\"c\") {read} @id(\"a\") {read}"));
    let answer = ask(&policy, &person("alice", &[]), Action::ReadBastion, Resource::Bastion);
    assert_eq!(answer, allow(&["a", "b", "c"]));
}

#[test]
fn changed_facts_get_a_fresh_answer() {
    let policy = load(SHELL_IF_SHARED);
    let shared = target("web-1", &["web"], &[]);
    let not_any_more = target("web-1", &["database"], &[]);
    let shell = |principal: &Principal, target: &Target| {
        ask(&policy, principal, Action::OpenShell, Resource::Target(target)).expect("no failure").is_allow()
    };
    assert!(shell(&person("alice", &["web"]), &shared));
    assert!(!shell(&person("alice", &[]), &shared), "left the group");
    assert!(!shell(&person("alice", &["web"]), &not_any_more), "no longer shared");
    assert!(shell(&person("alice", &["web"]), &shared));
}

#[test]
fn the_client_address_counts_where_a_policy_asks_for_it() {
    let policy = load(
        r#"@id("office") permit(principal, action == Action::"open_shell", resource)
           when { context.client_ip.isInRange(ip("10.0.0.0/8")) || context.client_ip.isInRange(ip("2001:db8::/32")) };"#,
    );
    let alice = person("alice", &[]);
    let web = target("web-1", &[], &[]);
    let from = |client: &str| {
        ask_from(&policy, &alice, Action::OpenShell, Resource::Target(&web), client).expect("no failure").is_allow()
    };
    assert!(from("10.1.2.3"));
    assert!(!from("192.0.2.7"));
    assert!(from("::ffff:10.1.2.3"), "an IPv4 client of a listener for both families");
    assert!(!from("::ffff:192.0.2.7"));
    assert!(from("2001:db8::1"));
    assert!(!from("2001:db9::1"));
    assert!(from("10.1.2.3"));
}

#[test]
fn a_question_that_does_not_fit_is_not_answered() {
    let policy = load("permit(principal, action, resource);");
    let alice = person("alice", &["operators"]);
    ask(&policy, &alice, Action::OpenShell, Resource::Bastion).expect_err("a shell on no target");
    ask(&policy, &alice, Action::TerminateSession, Resource::Scope(Scope::Own)).expect_err("no session");
}

/// Fits the schema, but the sum is out of range when it is evaluated.
const FAILS: &str = r#"(resource.name == "web-1" && 9223372036854775807 + 1 == 0)"#;

#[test]
fn a_failing_forbid_is_not_passed_over() {
    let policy = load(&format!(
        "{SHELL_IF_SHARED} @id(\"broken\") forbid(principal, action == Action::\"open_shell\", resource) when {{ {FAILS} }};"
    ));
    let alice = person("alice", &["web"]);
    let broken = target("web-1", &["web"], &[]);
    let down = ask(&policy, &alice, Action::OpenShell, Resource::Target(&broken)).expect_err("cannot be answered");
    assert!(down.detail.for_log().contains("broken"), "{down:?}");
    assert!(!down.to_string().contains("broken"), "{down}");
    // Asked again, it is not answered from the cache either.
    ask(&policy, &alice, Action::OpenShell, Resource::Target(&broken)).expect_err("cannot be answered");
    // Where the policy does not fail, and where it does not apply, answers go on.
    let other = target("web-2", &["web"], &[]);
    assert_eq!(ask(&policy, &alice, Action::OpenShell, Resource::Target(&other)), allow(&["shared"]));
    assert_eq!(ask(&policy, &alice, Action::OpenExec, Resource::Target(&broken)), allow(&["shared"]));
    // Denied with or without the broken policy.
    assert_eq!(ask(&policy, &person("bob", &[]), Action::OpenShell, Resource::Target(&broken)), deny(&[]));
}

#[test]
fn a_failing_permit_matters_only_where_it_could_permit() {
    let policy = load(&format!(
        "{SHELL_IF_SHARED}
         @id(\"broken\") permit(principal, action == Action::\"open_shell\", resource) when {{ {FAILS} }};
         @id(\"no-mallory\") forbid(principal == Principal::\"mallory\", action, resource);"
    ));
    let broken = target("web-1", &["web"], &[]);
    let shell = |principal: &Principal| ask(&policy, principal, Action::OpenShell, Resource::Target(&broken));
    assert_eq!(shell(&person("alice", &["web"])), allow(&["shared"]));
    assert_eq!(shell(&person("mallory", &["web"])), deny(&["no-mallory"]));
    shell(&person("bob", &[])).expect_err("it might have been permitted");
}

/// One question out of a space that is small enough to meet the same question, or nearly the same, often.
#[derive(Clone, Debug)]
struct Asked {
    principal: Principal,
    action: Action,
    target: Target,
    owner: Principal,
    scope: Scope,
    client: &'static str,
}

fn asked() -> impl Strategy<Value = Asked> {
    let names = || prop::sample::select(vec!["alice", "bob", "a", "al"]);
    let groups = || prop::sample::subsequence(vec!["ab", "a", "b", "operators", "web", "forwarding"], 0..=3);
    let labels = prop::sample::subsequence(vec![("env", "prod"), ("en", "vprod"), ("team", "web"), ("t", "")], 0..=2);
    let clients = prop::sample::select(vec!["10.0.0.1", "192.0.2.7", "::ffff:10.0.0.1", "2001:db8::1"]);
    (
        (names(), groups(), prop::sample::select(Action::ALL.to_vec())),
        (prop::sample::select(vec!["web-1", "web"]), groups(), labels),
        (names(), any::<bool>(), clients),
    )
        .prop_map(|((name, groups, action), (target_name, shared, labels), (owner, everyone, client))| Asked {
            principal: person(name, &groups),
            action,
            target: target(target_name, &shared, &labels),
            owner: person(owner, &[]),
            scope: if everyone { Scope::Everyone } else { Scope::Own },
            client,
        })
}

/// Depends on every fact there is.
const CURIOUS: &str = r#"
    @id("network") permit(principal, action in Action::"connect", resource)
        when { context.client_ip.isInRange(ip("10.0.0.0/8")) && resource.labels.contains("env=prod") };
    @id("named") permit(principal == Principal::"al", action in [Action::"open_shell", Action::"read_target"], resource)
        when { resource.protocol == "ssh" && resource.name == "web" };
    @id("labelled") permit(principal in Group::"web", action == Action::"read_session", resource)
        when { resource.target_labels.contains("team=web") && resource.target_name == "web-1" };
    @id("not-bobs") forbid(principal in Group::"ab", action, resource is Session) when { resource.owner == "bob" };
"#;

/// The default policies, alone or with others.
fn set(curious: bool) -> CedarPolicy {
    let mut sources = vec![PolicySource::built_in()];
    if curious {
        sources.push(PolicySource { name: "curious.cedar".to_owned(), text: CURIOUS.to_owned() });
    }
    CedarPolicy::load(&sources).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

/// Loaded once, so that the answers of all cases pile up in one cache.
static SETS: LazyLock<[CedarPolicy; 2]> = LazyLock::new(|| [set(false), set(true)]);

proptest! {
    #[test]
    fn the_cache_never_changes_an_answer(questions in prop::collection::vec(asked(), 1..20)) {
        for asked in questions.iter().chain(&questions) {
            let snapshot = asked.target.snapshot();
            let id = SessionId::new(&asked.owner.name, 1);
            let resource = match asked.action.on() {
                On::Target => Resource::Target(&asked.target),
                On::Session => Resource::Session { id: &id, owner: &asked.owner.name, target: &snapshot },
                On::Scope => Resource::Scope(asked.scope),
                On::Bastion => Resource::Bastion,
            };
            let client = asked.client.parse().expect("an address");
            let question = Question { principal: &asked.principal, action: asked.action, resource, client };
            for policy in SETS.iter() {
                prop_assert_eq!(policy.decide(&question), policy.decide_uncached(&question));
            }
        }
    }
}
