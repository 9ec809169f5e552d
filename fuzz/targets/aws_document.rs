//! Session documents and the parameters that are given to them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::request::Members;
use ravelin_aws::proto::session_document::SessionDocument;

fuzz_target!(|input: (&str, &str)| {
    let (content, parameters) = input;
    let Ok(members) = Members::read(parameters.as_bytes()) else { return };
    let Ok(given) = members.text_lists("Parameters") else { return };
    let Ok(value) = serde_json::from_str(content) else { return };
    if let Ok(document) = SessionDocument::read(&value) {
        let _plan = document.plan(&given);
    }
});
