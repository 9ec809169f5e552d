//! Lines of an export of the audit record, as somebody who wants to deceive a verifier may write them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_model::ledger::{Expectations, PublicKey, Verifier};
use ravelin_sinks::lines::{self, Parsed};

fuzz_target!(|data: &[u8]| {
    let expect = Expectations { key: PublicKey([1; 32]), known: None, at_least: 0, is_part: true };
    let mut verifier = None;
    for line in data.split(|byte| *byte == b'\n') {
        match (lines::parse(line), &mut verifier) {
            (Ok(Parsed::Foundation(foundation)), _) => {
                let read = lines::parse(lines::head(&foundation).as_bytes());
                assert!(matches!(read, Ok(Parsed::Foundation(again)) if again == foundation));
                verifier = Some(Verifier::new(&foundation, expect.clone()));
            }
            (Ok(Parsed::Event(line, _)), Some(verifier)) => verifier.handle(line),
            (Ok(Parsed::Event(..)) | Err(_), _) => {}
        }
    }
    if let Some(verifier) = verifier {
        let _report_or_fault = verifier.finish();
    }
});
