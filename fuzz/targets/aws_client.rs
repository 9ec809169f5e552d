//! What the AWS client half reads: answers, what a person types in shorthand, tokens that go on with a listing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::client::page::Pager;
use ravelin_aws::client::shape::{OPERATIONS, Times, read};
use ravelin_aws::client::value::{Json, Map, Value};
use ravelin_aws::client::{check, shorthand};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = Value::parse(bytes) {
        // What was read can be written, and reads back as the same.
        for style in [Json::Pretty, Json::Line, Json::Tight] {
            let again = Value::parse(value.to_json(style).as_bytes());
            assert_eq!(again.as_ref().map(Value::to_repr), Ok(value.to_repr()));
        }
        for operation in OPERATIONS {
            let _faults = check::check(&operation.input, &value);
            let times = Times::Iso(jiff::tz::TimeZone::UTC);
            let Ok(Value::Map(mut page)) = read(&operation.output, value.clone(), "", &times) else { continue };
            if let (Some(items), Ok(mut pager)) = (operation.paged, Pager::new(Some("x___1"), Some(2))) {
                let _more = pager.take(&mut page, items);
                let _resume = pager.resume_token();
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(map) = shorthand::parse(text, &|_| Ok(None)) {
            let _shown = Value::Map(Box::new(map)).to_json(Json::Line);
        }
        if let Ok(pager) = Pager::new(Some(text), None) {
            pager.prepare(&mut Map::new());
        }
    }
});
