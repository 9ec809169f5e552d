//! A frame of events is taken apart, whatever is in it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| ravelin_recordings::fuzz::events(raw));
