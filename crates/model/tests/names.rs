//! Names, ids and words: what prints parses back, what does not parse says why, and nothing panics.

use proptest::prelude::*;
use ravelin_model::audit::AuditKind;
use ravelin_model::credential::CredentialKind;
use ravelin_model::policy::Action;
use ravelin_model::principal::AuthMethod;
use ravelin_model::session::{Actor, EndReason, Kind, Recording, State};
use ravelin_model::target::Protocol;
use ravelin_model::{
    CredentialId, GroupName, Login, NodeId, PrincipalName, Refusal, SessionId, TargetId, TargetName, Time,
};
use std::collections::BTreeSet;
use std::time::Duration;

/// A text that parsed prints as it was given and parses again; one that did not says why, in words fit for a person.
macro_rules! check_parse {
    ($text:expr, $($name:ident),+) => {$(
        match $name::parse($text) {
            Ok(name) => {
                prop_assert_eq!(name.as_str(), $text);
                prop_assert_eq!(name.to_string(), $text);
                prop_assert_eq!(format!("{name:?}"), format!("{:?}", $text));
                prop_assert_eq!($name::parse(&name.to_string()), Ok(name));
            }
            Err(error) => {
                let message = error.to_string();
                prop_assert!(message.starts_with(error.what) && !message.ends_with('.'), "{}", message);
                prop_assert!(!message.chars().any(char::is_control), "{:?}", message);
            }
        }
    )+};
}

/// Texts that are often names, and nearly as often just not.
fn near_names() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[A-Za-z0-9_.@=,+-]{0,70}",
        "[a-z0-9-]{1,8}-[0-9a-f]{16,18}",
        "(tgt|node)-[0-9a-f]{7,18}",
        "(target:)?[a-z]{0,4}",
        "[ -~]{0,66}",
        "[Ss][Yy]STEM|system",
        "[é-ü]{1,70}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_text_is_a_name_or_says_why_not(text in near_names()) {
        let text = text.as_str();
        check_parse!(text, PrincipalName, GroupName, TargetName, TargetId, Login, NodeId, CredentialId, SessionId);
    }

    #[test]
    fn documented_names_parse(principal in "[A-Za-z0-9_.@=,+-]{1,64}", target in "[A-Za-z0-9][A-Za-z0-9._-]{0,62}") {
        prop_assert_eq!(PrincipalName::parse(&principal).is_ok(), !principal.eq_ignore_ascii_case("system"));
        prop_assert!(GroupName::parse(&principal).is_ok());
        prop_assert!(TargetName::parse(&target).is_ok());
    }

    #[test]
    fn ids_are_made_as_they_are_read(owner in "[A-Za-z0-9_.@=,+-]{1,64}", random in any::<u64>(), node in any::<u32>()) {
        prop_assume!(!owner.eq_ignore_ascii_case("system"));
        let owner = PrincipalName::parse(&owner).expect("made of allowed characters");
        let id = SessionId::new(&owner, random);
        prop_assert_eq!(SessionId::parse(id.as_str()), Ok(id.clone()));
        prop_assert_eq!(id.as_str(), format!("{owner}-{}", id.hex()));
        prop_assert_eq!(id.hex().len(), SessionId::HEX_DIGITS);
        prop_assert!(id.hex().starts_with('0'));
        prop_assert_eq!(u64::from_str_radix(id.hex(), 16), Ok(random));

        let node = NodeId::new(node);
        prop_assert_eq!(NodeId::parse(node.as_str()), Ok(node));

        let target = TargetId::from_hex(id.hex()).expect("17 digits");
        prop_assert_eq!(target.hex(), id.hex());
        prop_assert_eq!(TargetId::parse(target.as_str()), Ok(target));
    }

    #[test]
    fn actors_are_read_as_they_are_printed(text in near_names()) {
        if let Some(actor) = Actor::from_text(&text) {
            prop_assert_eq!(actor.to_string(), text.as_str());
        }
        let principal = PrincipalName::parse(&text).ok().map(Actor::Principal);
        let target = TargetName::parse(&text).ok().map(Actor::Target);
        for actor in principal.into_iter().chain(target) {
            prop_assert_eq!(Actor::from_text(&actor.to_string()), Some(actor));
        }
    }

    #[test]
    fn a_refusal_keeps_its_detail_to_itself(detail in "[a-z]{5}secret[a-z0-9]{12}", what in "[a-z]{1,8}") {
        for refusal in [Refusal::internal(&detail), Refusal::unavailable(what.clone(), &detail)] {
            prop_assert!(!refusal.to_string().contains(&detail), "{}", refusal);
            prop_assert_eq!(refusal.detail().map(|kept| kept.for_log()), Some(detail.as_str()));
        }
    }

    #[test]
    fn times_never_overflow(a in any::<i64>(), b in any::<i64>(), secs in any::<u64>(), nanos in 0..1_000_000_000_u32) {
        let (a, b, by) = (Time::from_micros(a), Time::from_micros(b), Duration::new(secs, nanos));
        prop_assert!(a.plus(by) >= a && a.minus(by) <= a);
        prop_assert_eq!(a.since(b) == Duration::ZERO, a <= b);
    }

    #[test]
    fn times_add_up(a in -(1_i64 << 60)..1 << 60, by in 0..1_u64 << 60) {
        let (a, by) = (Time::from_micros(a), Duration::from_micros(by));
        prop_assert_eq!(a.plus(by).since(a), by);
        prop_assert_eq!(a.plus(by).minus(by), a);
    }
}

/// Each word names its value and no other, in lower case with underscores, as rows and answers hold it.
macro_rules! check_words {
    ($($name:ident),+) => {$({
        let mut words = BTreeSet::new();
        for value in $name::ALL.iter().copied() {
            assert_eq!($name::from_word(value.word()), Some(value));
            assert!(words.insert(value.word()), "{} stands twice", value.word());
            assert!(value.word().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", value.word());
            assert_eq!($name::from_word(&value.word().to_uppercase()), None);
            assert_eq!(value.to_string(), value.word());
        }
        assert_eq!($name::from_word(""), None);
    })+};
}

#[test]
fn words_name_their_values() {
    check_words!(State, Kind, EndReason, Recording, AuditKind, CredentialKind, AuthMethod, Protocol);
    let words: BTreeSet<&str> = Action::ALL.iter().map(|action| action.word()).collect();
    assert_eq!(words.len(), Action::ALL.len());
}

#[test]
fn every_refusal_has_a_public_text() {
    let refusals = [
        Refusal::not_found("target", "web-1"),
        Refusal::Denied { action: Action::OpenShell, because: "no policy permits it".to_owned() },
        Refusal::Unauthenticated { because: "a proof is needed" },
        Refusal::invalid("limit", "must be 1 to 1000"),
        Refusal::Conflict { because: "the session has ended".to_owned() },
        Refusal::LimitReached { limit: "100 sessions".to_owned(), retry_after: None },
        Refusal::unavailable("store", "disk full"),
        Refusal::internal("a bug"),
    ];
    for refusal in refusals {
        // No wildcard: a new refusal does not compile here before somebody also adds it to the list above.
        let has_detail = match refusal {
            Refusal::NotFound { .. }
            | Refusal::Denied { .. }
            | Refusal::Unauthenticated { .. }
            | Refusal::Invalid { .. }
            | Refusal::Conflict { .. }
            | Refusal::LimitReached { .. } => false,
            Refusal::Unavailable { .. } | Refusal::Internal { .. } => true,
        };
        assert_eq!(refusal.detail().is_some(), has_detail, "{refusal}");
        let text = refusal.to_string();
        assert!(!text.is_empty() && !text.ends_with('.'), "{text}");
        assert!(!text.contains("disk full") && !text.contains("a bug"), "{text}");
    }
}

#[test]
fn lengths_are_counted_in_characters() {
    let error = PrincipalName::parse(&"é".repeat(40)).expect_err("not an allowed letter");
    assert!(error.to_string().contains("'é'"), "{error}");
    let error = PrincipalName::parse(&"a".repeat(65)).expect_err("too long");
    assert!(error.to_string().contains("at most 64") && error.to_string().contains("65"), "{error}");
}

#[test]
fn nobody_is_called_system() {
    for name in ["system", "System", "SYSTEM"] {
        let error = PrincipalName::parse(name).expect_err("the record could not tell them from Ravelin");
        assert!(error.to_string().contains("Ravelin itself"), "{error}");
    }
    assert!(PrincipalName::parse("systems").is_ok());
    assert_eq!(Actor::from_text("system"), Some(Actor::System));
}
