//! Queries and bodies of the own API.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_model::query::SessionQuery;
use ravelin_native::fuzzing;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Some((filter, _order, limit)) = fuzzing::list_query(text)
    {
        assert!((1..=SessionQuery::LIMIT_MAX).contains(&limit));
        assert!(filter.target.is_none_or(|name| !name.is_empty()));
    }
    if let Some(filter) = fuzzing::matching_body(bytes) {
        // Whoever ends sessions by a filter never reaches those that have ended, and never all by an empty set.
        assert!(!filter.states.is_empty() && filter.states.iter().all(|state| state.is_live()));
    }
    fuzzing::bodies(bytes);
});
