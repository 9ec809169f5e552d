//! The signature's headers and query, as a stranger may send them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::sigv4;

fuzz_target!(|text: &str| {
    if let Ok(authorization) = sigv4::parse_authorization(text) {
        assert!(!format!("{authorization:?}").is_empty());
    }
    // What is canonical stays as it is.
    let query = sigv4::canonical_query(text);
    assert_eq!(sigv4::canonical_query(&query), query);
    let _path = sigv4::canonical_path(text);
    let value = sigv4::canonical_value(text.as_bytes());
    assert_eq!(sigv4::canonical_value(&value), value);
});
