//! Each fault with its place and its fix, and all of them at once.

use ravelin_policy::{CedarPolicy, MentionKind, PolicyFault, PolicySource};

fn source(name: &str, text: &str) -> PolicySource {
    PolicySource { name: name.to_owned(), text: text.to_owned() }
}

fn faults(text: &str) -> Vec<PolicyFault> {
    match CedarPolicy::load(&[source("p.cedar", text)]) {
        Ok(policy) => panic!("loaded: {policy:?}"),
        Err(faults) => faults,
    }
}

/// The text has this one fault.
fn assert_fault(text: &str, place: (usize, usize), what: &str, fix: &str) {
    let faults = faults(text);
    let [fault] = faults.as_slice() else { panic!("{faults:#?}") };
    assert_eq!((fault.line, fault.column), place, "{fault}");
    assert!(fault.what.contains(what), "{fault}");
    assert!(fault.fix.as_deref().unwrap_or_default().contains(fix), "{fault}");
    assert!(!fault.to_string().contains("policy0"), "a name that nobody gave: {fault}");
}

#[test]
fn what_does_not_parse() {
    assert_fault("\n  permti(principal, action, resource);", (2, 3), "invalid policy effect: permti", "`permit`");
    assert_fault("permit(principal, action, resource)", (1, 36), "unexpected end of input", "`;`");
    let equals = "permit(principal, action, resource)\nwhen { principal.name = \"x\" };";
    assert_fault(equals, (2, 8), "'=' is not a valid operator", "'=='");
}

#[test]
fn what_does_not_fit_the_schema() {
    let action = r#"permit(principal, action == Action::"open_shel", resource);"#;
    assert_fault(action, (1, 29), r#"unrecognized action `Action::"open_shel"`"#, r#"Action::"open_shell""#);
    let kind = r#"permit(principal in Grop::"x", action == Action::"open_shell", resource);"#;
    assert_fault(kind, (1, 21), "unrecognized entity type `Grop`", "`Group`");
    let scope = r#"permit(principal, action == Action::"list_sessions", resource == Scope::"owm");"#;
    assert_fault(scope, (1, 66), r#""owm""#, r#""everyone", "own""#);
    let fact = r#"permit(principal, action == Action::"open_shell", resource) when { resource.label.contains("x") };"#;
    assert_fault(fact, (1, 68), "attribute `label` on entity type `Target` not found", "`labels`");
    let bastion =
        r#"permit(principal, action == Action::"read_bastion", resource) when { resource.labels.isEmpty() };"#;
    assert_fault(bastion, (1, 70), "attribute `labels` on entity type `Bastion` not found", "resource is Target");
    let types = r#"permit(principal, action == Action::"open_shell", resource) when { resource.labels == "x" };"#;
    assert_fault(types, (1, 68), "String and Set<String> are not compatible", "`==`");
    let network = r#"permit(principal, action == Action::"open_shell", resource)
        when { context.client_ip.isInRange(ip("10.0.0.0/99")) };"#;
    assert_fault(network, (2, 44), "failed to parse as IP address", "CIDR");
    // An owner's groups are not known to the question; the schema does not let a policy ask for them.
    let owner = r#"forbid(principal, action, resource is Session) when { resource.owner in Group::"chiefs" };"#;
    assert!(!faults(owner).is_empty());
}

#[test]
fn what_can_never_apply() {
    let scope = "// Mine.\npermit(principal, action == Action::\"open_shell\", resource == Scope::\"own\");";
    assert_fault(scope, (2, 1), "can never apply: none of its actions fits", "schema");
    let condition = r#"forbid(principal, action == Action::"open_shell", resource) when { 1 == 2 };"#;
    assert_fault(condition, (1, 1), "can never apply: its condition is false", "");
}

#[test]
fn what_is_not_what_it_seems() {
    // The first letter is Cyrillic.
    let name =
        "permit(principal, action == Action::\"open_shell\", resource) when { principal.name == \"\u{430}lice\" };";
    assert_fault(name, (1, 86), "mixed scripts", "");
}

#[test]
fn what_cannot_be_decided_by() {
    let template = "permit(principal == ?principal, action == Action::\"open_shell\", resource);";
    assert_fault(template, (1, 1), "a template decides nothing", "?principal");
    let session =
        "permit(principal, action == Action::\"read_session\",\n resource == Session::\"alice-07a16060613c408b5\");";
    assert_fault(session, (2, 14), "cannot name a session", "resource.owner");
}

#[test]
fn names_of_policies() {
    let empty = "@id(\"\") permit(principal, action == Action::\"open_shell\", resource);";
    assert_fault(empty, (1, 1), "is not a name", "printable");
    let control = "@id(\"a\\nb\") permit(principal, action == Action::\"open_shell\", resource);";
    assert_fault(control, (1, 1), "is not a name", "printable");

    let read = r#"permit(principal, action == Action::"read_bastion", resource);"#;
    let policy = CedarPolicy::load(&[source("a.cedar", &format!("// 1\n{read}\n@id(\"z\") {read}\n{read}"))]);
    assert_eq!(policy.expect("no fault").names(), ["a.cedar:2", "a.cedar:4", "z"]);

    let sources =
        [source("a.cedar", &format!("\n@id(\"x\") {read}")), source("b.cedar", &format!("  @id(\"x\") {read}"))];
    let faults = CedarPolicy::load(&sources).expect_err("two of one name");
    let [fault] = faults.as_slice() else { panic!("{faults:#?}") };
    assert_eq!(
        fault.to_string(),
        r#"b.cedar:1:3: a policy named "x" stands at a.cedar:2:1 already (give each policy its own @id)"#
    );
}

#[test]
fn all_faults_of_all_sources_at_once() {
    let sources = [
        source("a.cedar", "permti(principal, action, resource);"),
        source("b.cedar", CedarPolicy::default_text()),
        source(
            "c.cedar",
            "permit(principal, action == Action::\"fly\", resource);\npermit(principal in Grp::\"x\", action, resource);\n@id permit(principal, action == Action::\"read_bastion\", resource);",
        ),
    ];
    let faults = CedarPolicy::load(&sources).expect_err("four faults");
    let places: Vec<(&str, usize, usize)> = faults.iter().map(|f| (f.file.as_str(), f.line, f.column)).collect();
    assert_eq!(places, [("a.cedar", 1, 1), ("c.cedar", 1, 29), ("c.cedar", 2, 21), ("c.cedar", 3, 1)], "{faults:#?}");
}

#[test]
fn columns_count_characters() {
    let text = "@id(\"größe\") permit(principal, action == Action::\"fly\", resource);";
    assert_fault(text, (1, 42), "unrecognized action", "");
}

#[test]
fn what_a_policy_names_can_be_checked_against_the_inventory() {
    let policy = CedarPolicy::load(&[source(
        "p.cedar",
        r#"@id("m") permit(principal in Group::"web", action == Action::"open_shell", resource == Target::"web-1")
           unless { principal == Principal::"mallory" || principal in Group::"web" };"#,
    )])
    .expect("no fault");
    let mentions: Vec<(MentionKind, &str, &str)> =
        policy.mentions().iter().map(|m| (m.kind, m.name.as_str(), m.policy.as_str())).collect();
    assert_eq!(
        mentions,
        [
            (MentionKind::Group, "web", "m"),
            (MentionKind::Principal, "mallory", "m"),
            (MentionKind::Target, "web-1", "m")
        ]
    );
}
