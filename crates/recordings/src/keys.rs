//! Keys: each recording has a data key of its own, which is kept in it, sealed by a key of the ring.
//!
//! The ring is a text: one key a line, its id and 64 hex digits. The first seals; all open. So a new key goes to the top,
//! and an old one may leave once no recording names it.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use ravelin_model::recording::Broken;
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of a key.
const KEY_BYTES: usize = 32;
/// Bytes of a sealed data key: nonce, key, tag.
pub(crate) const SEALED_BYTES: usize = NONCE_LEN + KEY_BYTES + TAG_BYTES;
/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Longest id of a key.
const ID_BYTES_MAX: usize = 64;

/// Why a text is no ring of keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// There is none in it.
    #[error("holds no key; write one line such as \"2026-11 \" and 64 hex digits: openssl rand -hex 32")]
    Empty,
    /// This line is none.
    #[error("line {0} is no key; write its id (letters, digits, . _ -), a blank, and 64 hex digits")]
    Line(usize),
    /// Two keys bear the same id.
    #[error("line {0} bears the id of another key; give each its own")]
    Twice(usize),
}

/// Keys that seal data keys.
pub struct KeyRing {
    keys: Vec<(String, LessSafeKey)>,
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(id, _)| id)).finish()
    }
}

impl KeyRing {
    /// Reads a ring. Empty lines and lines that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`KeyFault`] says what is wrong, never what was written.
    pub fn parse(text: &str) -> Result<Self, KeyFault> {
        let mut keys: Vec<(String, LessSafeKey)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = KeyFault::Line(index + 1);
            let Some((id, digits)) = line.split_once(char::is_whitespace) else { return Err(fault) };
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if id.len() > ID_BYTES_MAX || !id.chars().all(plain) {
                return Err(fault);
            }
            if keys.iter().any(|(other, _)| other == id) {
                return Err(KeyFault::Twice(index + 1));
            }
            let Some(key) = unhex(digits.trim()) else { return Err(fault) };
            let Ok(key) = UnboundKey::new(&AES_256_GCM, key.as_slice()) else { return Err(fault) };
            keys.push((id.to_owned(), LessSafeKey::new(key)));
        }
        if keys.is_empty() { Err(KeyFault::Empty) } else { Ok(Self { keys }) }
    }

    /// A new ring with one key, as a text.
    #[must_use]
    pub fn generate() -> Zeroizing<String> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random(key.as_mut_slice());
        let digits: Zeroizing<String> = Zeroizing::new(key.iter().map(|byte| format!("{byte:02x}")).collect());
        Zeroizing::new(format!("first {}\n", *digits))
    }

    /// The id of the key that seals.
    pub(crate) fn current(&self) -> &str {
        &self.keys[0].0
    }

    /// A new data key and its sealed form; `about` is what it is bound to.
    pub(crate) fn seal(&self, about: &[u8]) -> Result<(DataKey, Vec<u8>), Broken> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        random(key.as_mut_slice());
        let mut nonce = [0; NONCE_LEN];
        random(&mut nonce);
        let mut sealed = key.to_vec();
        let by = &self.keys[0].1;
        let sealing = by.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(about), &mut sealed);
        sealing.map_err(|_| Broken::new("a data key cannot be sealed"))?;
        let data_key = DataKey::new(key.as_slice())?;
        Ok((data_key, [nonce.as_slice(), &sealed].concat()))
    }

    /// The data key in `sealed`.
    pub(crate) fn open(&self, id: &str, about: &[u8], sealed: &[u8]) -> Result<DataKey, OpenFault> {
        let Some((_, by)) = self.keys.iter().find(|(known, _)| known == id) else { return Err(OpenFault::Unknown) };
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or(OpenFault::Wrong)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenFault::Wrong)?;
        let mut bytes = Zeroizing::new(sealed.to_vec());
        let key = by.open_in_place(nonce, Aad::from(about), &mut bytes).map_err(|_| OpenFault::Wrong)?;
        DataKey::new(key).map_err(|_| OpenFault::Wrong)
    }
}

/// Why a data key does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenFault {
    /// No key of the ring bears the id.
    Unknown,
    /// The key of that id is another, or the header was changed.
    Wrong,
}

/// The key of one recording.
pub(crate) struct DataKey(LessSafeKey);

impl DataKey {
    fn new(bytes: &[u8]) -> Result<Self, Broken> {
        let key = UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| Broken::new("a data key has another length"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Seals the bytes in place, and returns the tag that belongs behind them.
    pub(crate) fn seal(&self, nonce: FrameNonce, about: &[u8], bytes: &mut [u8]) -> Result<[u8; TAG_BYTES], Broken> {
        let sealing = self.0.seal_in_place_separate_tag(nonce.into(), Aad::from(about), bytes);
        let tag = sealing.ok().and_then(|tag| <[u8; TAG_BYTES]>::try_from(tag.as_ref()).ok());
        tag.ok_or_else(|| Broken::new("a frame cannot be sealed"))
    }

    /// The text of a sealed frame, if nothing of it was changed.
    pub(crate) fn open<'a>(&self, nonce: FrameNonce, about: &[u8], sealed: &'a mut [u8]) -> Option<&'a mut [u8]> {
        self.0.open_in_place(nonce.into(), Aad::from(about), sealed).ok()
    }
}

/// What a frame is sealed with beside the key.
///
/// INVARIANT: a data key is of one recording, and no two of these are the same in it but for the same frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameNonce {
    /// The frame's number.
    pub(crate) number: u64,
    /// 0 for events; for what was added once they were over, which try at that it was of.
    pub(crate) adding: u8,
}

impl From<FrameNonce> for Nonce {
    fn from(of: FrameNonce) -> Nonce {
        let mut bytes = [0; NONCE_LEN];
        bytes[0] = of.adding >> 1;
        bytes[NONCE_LEN - 8..].copy_from_slice(&of.number.to_be_bytes());
        Nonce::assume_unique_for_key(bytes)
    }
}

fn random(bytes: &mut [u8]) {
    rand::fill(bytes).expect("the system's random source does not fail once the process runs");
}

fn unhex(digits: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    if digits.len() != 2 * KEY_BYTES || !digits.is_ascii() {
        return None;
    }
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(text: &str) -> KeyRing {
        KeyRing::parse(text).expect("a good ring")
    }

    #[test]
    fn a_data_key_opens_by_its_own_key_only_and_nowhere_else() {
        let old = format!("old {}\n", "1".repeat(64));
        let (_, sealed) = ring(&old).seal(b"this one").expect("sealed");
        let rotated = ring(&format!("# since November\nnew {}\n{old}", "2".repeat(64)));
        assert_eq!(rotated.current(), "new");
        assert!(rotated.open("old", b"this one", &sealed).is_ok(), "an old key still opens");
        assert_eq!(rotated.open("old", b"another", &sealed).err(), Some(OpenFault::Wrong));
        assert_eq!(rotated.open("new", b"this one", &sealed).err(), Some(OpenFault::Wrong));
        assert_eq!(rotated.open("gone", b"this one", &sealed).err(), Some(OpenFault::Unknown));
        assert_eq!(rotated.open("old", b"this one", &sealed[..7]).err(), Some(OpenFault::Wrong));
    }

    #[test]
    fn a_ring_is_made_as_it_is_read_and_shows_no_key() {
        let text = KeyRing::generate();
        assert_eq!(format!("{:?}", ring(&text)), "[\"first\"]");
        assert_eq!(KeyRing::parse("\n# none\n").err(), Some(KeyFault::Empty));
        assert_eq!(KeyRing::parse("a 12").err(), Some(KeyFault::Line(1)));
        let key = "0".repeat(64);
        assert_eq!(KeyRing::parse(&format!("a {key}\na {key}")).err(), Some(KeyFault::Twice(2)));
    }
}
