//! Small things that an edge keeps over restarts: an answer that is fetched later, a link that was given out, a note.
//!
//! The engine says what may be kept and who may see it; the text is the edge's own.

use crate::id::PrincipalName;
use crate::time::Time;

/// One kept thing. A shelf and a key name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepsake {
    /// What kind of thing it is: a fixed word of the engine.
    pub shelf: &'static str,
    /// Unique on its shelf; 1 to [`Keepsake::KEY_BYTES_MAX`] bytes.
    pub key: String,
    /// Whose it is.
    pub owner: PrincipalName,
    /// What is kept; at most [`Keepsake::TEXT_BYTES_MAX`] bytes, never a secret.
    pub text: String,
    /// Since when.
    pub created: Time,
    /// Until when, if not for ever. From then on it is not there.
    pub expires: Option<Time>,
}

impl Keepsake {
    /// Longest key.
    pub const KEY_BYTES_MAX: usize = 128;
    /// Longest text.
    pub const TEXT_BYTES_MAX: usize = 8 << 20;
    /// Things on one shelf at once; a new one beyond it is refused.
    pub const PER_SHELF_MAX: u32 = 20_000;
    /// Things of one owner on one shelf at once, so that nobody fills it for everybody.
    pub const PER_OWNER_MAX: u32 = 1_000;
}
