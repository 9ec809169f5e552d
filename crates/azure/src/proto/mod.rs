//! Decoders of what strangers send. Bytes in, values out: no I/O, no clock, no keys, no panic whatever comes.
//!
//! Each public function is a target for a fuzzer: [`path::parse`], [`query::parse`], [`api_version::accept`],
//! [`body::session_ids`], [`body::machine_ids`], [`body::link_tokens`], [`body::document`], [`jwt::inspect`], [`jwt::claimed`], [`token_request::parse`], [`tunnel_request::token_form`],
//! [`tunnel_request::connection`].

pub mod api_version;
pub mod body;
pub mod jwt;
pub mod path;
pub mod query;
pub mod token_request;
pub mod tunnel_request;

/// Whether `text` is 32 hex digits in the groups of a GUID, in either case.
#[must_use]
pub fn is_guid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}
