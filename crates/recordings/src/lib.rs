//! Backing: recordings of sessions, made, kept and read; behind [`ravelin_model::ports::Recorder`].
//!
//! ```text
//! directory   the recorder: one sealed file for each session, in a directory; what a crash left is finished at the start
//! far         an object store, where whole recordings are moved to; mover moves them, and proves it before it removes
//! tape        notes -> events -> frames          echo      which typed lines may be kept
//! container   the file: header, sealed frames, index       keys   who can open it
//! event       what a frame of events holds
//! sftp, scp   which files a transfer touches, read as it passes
//! index       what is learnt once it is over: commands, screens
//! read        a recording as asciicast, text, a page, events      page   the page's player      lines  as lines
//! ```
//!
//! The format is `docs/wire/recording-format.md`. This crate never knows: the relay, the store, a policy, a dialect.

mod container;
mod directory;
mod echo;
mod event;
mod far;
mod index;
mod keys;
mod lines;
mod mover;
mod page;
mod read;
mod scp;
mod sftp;
mod tape;

pub use directory::{Config, DirectoryRecorder};
pub use far::{AccessKey, Far, FarFault, Secret, StoreConfig, Vendor};
pub use keys::{KeyFault, KeyRing};
pub use mover::Mover;

/// What fuzzing reaches; no part of the interface.
#[doc(hidden)]
pub mod fuzz {
    use ravelin_model::recording::Flow;
    use std::time::Duration;

    /// Feeds both passive readers of file transfers.
    pub fn transfers(inward: bool, bytes: &[u8], sftp: &mut SftpWatcher, scp: &mut ScpWatcher) {
        let flow = if inward { Flow::In } else { Flow::Out };
        let mut acts = Vec::new();
        sftp.0.handle(flow, bytes, Duration::ZERO, &mut acts);
        scp.0.handle(flow, bytes, Duration::ZERO, &mut acts);
    }

    /// Takes a frame's events apart.
    pub fn events(raw: &[u8]) {
        let _read = crate::event::decode(0, raw);
    }

    /// See [`transfers`].
    #[derive(Default)]
    pub struct SftpWatcher(crate::sftp::Watcher);

    /// See [`transfers`].
    pub struct ScpWatcher(crate::scp::Watcher);

    impl Default for ScpWatcher {
        fn default() -> Self {
            Self(crate::scp::Watcher::new("scp -t x"))
        }
    }
}
