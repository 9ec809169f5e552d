//! The user name of a login, and public keys from files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_ssh::{keys, user};

fuzz_target!(|text: &str| {
    let _user = user::parse(text);
    if let Ok(line) = keys::parse_public_line(text) {
        assert_eq!(keys::parse_public_line(&line).as_deref().ok(), Some(line.as_str()));
        assert!(keys::fingerprint(&line).starts_with("SHA256:"));
    }
});
