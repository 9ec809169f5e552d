//! Page tokens: opaque, bound to the question that they continue, and worthless for any other.
//!
//! A token is the place in the order (creation time and id) under a MAC that also covers the question. Tokens
//! outlive restarts, because the key comes from the master key; they carry nothing that the list did not show.

use crate::keys::MasterKey;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ravelin_model::query::Cursor;
use ravelin_model::{SessionId, Time};

/// Seals and opens page tokens.
#[derive(Clone, Debug)]
pub struct Pager {
    key: hmac::Key,
}

impl Pager {
    const MAC_BYTES: usize = 16;
    /// Longest token that is looked at.
    pub const TOKEN_CHARS_MAX: usize = 256;

    /// A pager whose tokens only deployments with the same master key open.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self { key: master.derive("ravelin/page-token") }
    }

    /// A token for `cursor`. `question` is everything that must be the same when the token comes back: the dialect,
    /// the caller, the filter, the order.
    #[must_use]
    pub fn seal(&self, cursor: &Cursor, question: &str) -> String {
        let mut bytes = cursor.created.as_micros().to_be_bytes().to_vec();
        bytes.extend_from_slice(cursor.id.as_str().as_bytes());
        let mac = self.mac(&bytes, question);
        bytes.extend_from_slice(&mac.as_ref()[..Self::MAC_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The place that `token` stands for, if it was sealed for this very question.
    #[must_use]
    pub fn open(&self, token: &str, question: &str) -> Option<Cursor> {
        if token.len() > Self::TOKEN_CHARS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (body, mac) = bytes.split_at_checked(bytes.len().checked_sub(Self::MAC_BYTES)?)?;
        constant_time::verify_slices_are_equal(&self.mac(body, question).as_ref()[..Self::MAC_BYTES], mac).ok()?;
        let (created, id) = body.split_first_chunk::<8>()?;
        let id = SessionId::parse(std::str::from_utf8(id).ok()?).ok()?;
        Some(Cursor { created: Time::from_micros(i64::from_be_bytes(*created)), id })
    }

    fn mac(&self, body: &[u8], question: &str) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(body.len() as u64).to_be_bytes());
        context.update(body);
        context.update(question.as_bytes());
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_own_question_only() {
        let pager = Pager::new(&MasterKey::new([7; 32]));
        let id = SessionId::parse("alice-07a16060613c408b5").expect("a valid id");
        let cursor = Cursor { created: Time::from_micros(42), id };
        let token = pager.seal(&cursor, "history of alice");
        assert_eq!(pager.open(&token, "history of alice"), Some(cursor));
        assert_eq!(pager.open(&token, "history of bob"), None);
        assert_eq!(Pager::new(&MasterKey::new([8; 32])).open(&token, "history of alice"), None);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(forged).expect("still ASCII");
            assert_eq!(pager.open(&forged, "history of alice"), None, "byte {at}");
        }
        for junk in ["", "x", "====", &"A".repeat(10_000)] {
            assert_eq!(pager.open(junk, ""), None);
        }
    }
}
