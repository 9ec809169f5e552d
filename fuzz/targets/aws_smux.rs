//! smux frames: cut anywhere, they are read the same, and what waits is bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::smux::{self, Decoder};

fuzz_target!(|data: &[u8]| {
    let whole = read(data, data.len().max(1));
    assert_eq!(read(data, 1), whole);
    assert_eq!(read(data, 7), whole);
});

fn read(data: &[u8], piece: usize) -> (Vec<smux::Frame>, Option<smux::Fault>) {
    let (mut decoder, mut frames) = (Decoder::new(), Vec::new());
    for piece in data.chunks(piece) {
        decoder.push(piece.to_vec().into());
        loop {
            match decoder.poll_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(fault) => return (frames, Some(fault)),
            }
        }
        assert!(decoder.waiting() < smux::HEADER_BYTES + smux::DATA_BYTES_MAX);
    }
    (frames, None)
}
