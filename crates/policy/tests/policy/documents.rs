//! The examples of `docs/howto/write-policies.md` load beside the default policies and do what the text says.

use crate::world::{Answer, allow, ask_about, ask_from, deny, person, target};
use ravelin_model::policy::{Action, Resource, Scope};
use ravelin_policy::{CedarPolicy, PolicySource};

const HOWTO: &str = include_str!("../../../../docs/howto/write-policies.md");

/// The default policies with the example whose block holds this `@id`.
fn with_example(name: &str) -> CedarPolicy {
    let example = HOWTO
        .split("```cedar\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .find(|block| block.contains(&format!("@id({name:?})")))
        .unwrap_or_else(|| panic!("no example holds {name}"));
    let sources = [PolicySource::built_in(), PolicySource { name: "site.cedar".to_owned(), text: example.to_owned() }];
    CedarPolicy::load(&sources).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

#[test]
fn contractors_stay_out_of_production() {
    let policy = with_example("contractors-stay-out-of-production");
    let prod = target("db-1", &["database"], &[("env", "prod")]);
    let lab = target("lab-1", &["database"], &[("env", "lab")]);
    let contractor = person("carl", &["contractors", "database"]);
    let shell = |who, on| ask_about(&policy, who, Action::OpenShell, on, who, Scope::Own);
    assert_eq!(shell(&contractor, &prod), deny(&["contractors-stay-out-of-production"]));
    assert_eq!(shell(&contractor, &lab), allow(&["people-connect-to-shared-targets"]));
    assert_eq!(shell(&person("dora", &["database"]), &prod), allow(&["people-connect-to-shared-targets"]));
    let own = ask_about(&policy, &contractor, Action::TerminateSession, &prod, &contractor, Scope::Own);
    assert_eq!(own, allow(&["everybody-runs-own-sessions"]));
}

#[test]
fn the_helpdesk_sees_everything_and_ends_nothing() {
    let policy = with_example("helpdesk-sees-everything");
    let web = target("web-1", &["web"], &[]);
    let helper = person("ada", &["helpdesk"]);
    let others = |action| ask_about(&policy, &helper, action, &web, &person("dora", &[]), Scope::Everyone);
    for action in [Action::ListSessions, Action::ReadSession, Action::WatchEvents] {
        assert_eq!(others(action), allow(&["helpdesk-sees-everything"]), "{action}");
    }
    for action in [Action::TerminateSession, Action::OpenShell, Action::ListCredentials] {
        assert_eq!(others(action), deny(&[]), "{action}");
    }
}

#[test]
fn files_only_from_the_office() {
    let policy = with_example("no-files-from-outside-the-office");
    let web = target("web-1", &["web"], &[]);
    let alice = person("alice", &["web"]);
    let from = |action, client| -> Answer { ask_from(&policy, &alice, action, Resource::Target(&web), client) };
    assert_eq!(from(Action::OpenSftp, "203.0.113.9"), allow(&["people-connect-to-shared-targets"]));
    assert_eq!(from(Action::OpenSftp, "192.0.2.7"), deny(&["no-files-from-outside-the-office"]));
    assert_eq!(from(Action::ForwardLocal, "192.0.2.7"), deny(&["no-files-from-outside-the-office"]));
    assert_eq!(from(Action::OpenShell, "192.0.2.7"), allow(&["people-connect-to-shared-targets"]));
}

#[test]
fn the_faulty_line_of_the_text_gives_the_message_of_the_text() {
    let (_, after) = HOWTO.split_once("```text\n").expect("the text shows a message");
    let (message, _) = after.split_once("\n```").expect("a closed block");
    let text = "@id(\"x\")\npermit (\n    principal in Group::\"web\",\n    action == Action::\"open_shel\",\n    resource\n);\n";
    let source = PolicySource { name: "site.cedar".to_owned(), text: text.to_owned() };
    let faults = CedarPolicy::load(&[source]).expect_err("a wrong action");
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(texts, [message]);
}

#[test]
fn the_howto_lists_every_action() {
    for action in Action::ALL {
        assert!(HOWTO.contains(&format!("`{action}`")), "{action} is not explained");
    }
}
