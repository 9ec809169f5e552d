//! No text but one that was sealed opens as a page token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_engine::{MasterKey, Pager};

fuzz_target!(|text: &str| {
    let pager = Pager::new(&MasterKey::new([7; 32]));
    assert_eq!(pager.open(text, "a question"), None);
});
