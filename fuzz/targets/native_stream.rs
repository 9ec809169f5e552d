//! The client half of the event stream: the same blocks however the bytes arrive.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_native::stream::{BLOCK_BYTES_MAX, Block, Broken, Decoder};

/// What the pieces give together.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Block>, Broken> {
    let mut decoder = Decoder::default();
    let mut all = Vec::new();
    for piece in pieces {
        all.extend(decoder.handle(piece)?);
    }
    Ok(all)
}

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let whole = decode(std::iter::once(bytes));
    let pieces = decode(bytes.chunks(usize::from(*size).max(1)));
    assert_eq!(whole, pieces);
    for block in whole.unwrap_or_default() {
        assert!(block.data.len() <= BLOCK_BYTES_MAX);
    }
});
