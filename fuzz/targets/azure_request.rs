//! Paths, queries, bodies, token and tunnel requests and bearer tokens of the Azure dialect.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_azure::proto::{body, jwt, path, query, token_request, tunnel_request};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(ids) = body::session_ids(bytes) {
        assert!(ids.len() <= 10_000);
    }
    if let Ok(Some(ids)) = body::machine_ids(bytes) {
        assert!(ids.len() <= body::LINKS_MAX);
    }
    let _tokens = body::link_tokens(bytes);
    let _wish = tunnel_request::token_form(bytes);
    let _wish = tunnel_request::connection(bytes);
    let text = String::from_utf8_lossy(bytes);
    let _query = query::parse(&text);
    let _inspected = jwt::inspect(&text);
    let _request = token_request::parse(bytes, None);
    let _basic = token_request::parse(b"grant_type=client_credentials", Some(&text));
    // Case does not matter in a path's own words.
    let lower = path::parse(&text.to_ascii_lowercase());
    let upper = path::parse(&text.to_ascii_uppercase());
    assert_eq!(std::mem::discriminant(&lower), std::mem::discriminant(&upper));
});
