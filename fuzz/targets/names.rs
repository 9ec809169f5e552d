//! Names and ids: what parses prints as it was given.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_model::session::{Actor, Ending, EndReason};
use ravelin_model::{CredentialId, Login, NodeId, PrincipalName, SessionId, TargetId, TargetName};

fuzz_target!(|text: &str| {
    macro_rules! round_trip {
        ($($name:ident),+) => { $( if let Ok(value) = $name::parse(text) { assert_eq!(value.as_str(), text); } )+ };
    }
    round_trip!(SessionId, PrincipalName, TargetName, TargetId, NodeId, Login, CredentialId);
    if let Some(actor) = Actor::from_text(text) {
        assert_eq!(actor.to_string(), text);
    }
    let ending = Ending::new(EndReason::Denied, Actor::System, text);
    assert!(!ending.message().chars().any(char::is_control));
});
