//! The bodies of the AWS operations, and the instants in their filters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::{instant, request};

fuzz_target!(|body: &[u8]| {
    let _sessions = request::describe_sessions(body);
    let _terminate = request::terminate_session(body);
    let _status = request::connection_status(body);
    if let Ok(text) = std::str::from_utf8(body) {
        let _instant = instant::parse(text);
    }
});
