//! The passive readers of file transfers bear whatever passes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_recordings::fuzz::{ScpWatcher, SftpWatcher, transfers};

fuzz_target!(|pieces: Vec<(bool, Vec<u8>)>| {
    let (mut sftp, mut scp) = (SftpWatcher::default(), ScpWatcher::default());
    for (inward, bytes) in pieces {
        transfers(inward, &bytes, &mut sftp, &mut scp);
    }
});
