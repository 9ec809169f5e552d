//! Packets of SFTP as the demo target takes them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| ravelin_demo::fuzz::packets(raw));
