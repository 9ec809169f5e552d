//! The deployment's master key and what is derived from it. Keys are handles: they compute, they cannot be printed.

use aws_lc_rs::{digest, hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use std::sync::Arc;

/// 32 secret bytes from which every derived secret of the deployment comes.
#[derive(Clone)]
pub struct MasterKey(Arc<SecretBox<[u8; MasterKey::BYTES]>>);

impl MasterKey {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// From the bytes that the deployment keeps.
    #[must_use]
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Arc::new(SecretBox::new(Box::new(bytes))))
    }

    /// A new one from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::new(random_bytes())
    }

    /// The bytes, for the one place that writes them to the deployment's key file.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        self.0.expose_secret()
    }

    /// A key for one purpose; purposes cannot be turned into each other.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> hmac::Key {
        let master = hmac::Key::new(hmac::HMAC_SHA256, self.expose());
        hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&master, purpose.as_bytes()).as_ref())
    }

    /// The secret of the signing key `id`: 40 characters. The same id gives the same secret, and none is stored.
    #[must_use]
    pub fn signing_secret(&self, id: &str) -> SecretString {
        let tag = hmac::sign(&self.derive("ravelin/signing-key"), id.as_bytes());
        let mut text = STANDARD_NO_PAD.encode(tag.as_ref());
        text.truncate(40);
        SecretString::from(text)
    }

    /// The token that requests of the temporary key `id` bear: 47 characters that no URL has to encode. As with the
    /// secret, the same id gives the same token, and none is stored.
    #[must_use]
    pub fn session_token(&self, id: &str) -> SecretString {
        let tag = hmac::sign(&self.derive("ravelin/session-token"), id.as_bytes());
        SecretString::from(format!("RVLS{}", URL_SAFE_NO_PAD.encode(tag.as_ref())))
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey")
    }
}

/// Bytes from the operating system.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The operating system's generator does not fail once the system is up; without it nothing here may run.
    rand::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A secret of 32 random bytes as 43 URL-safe characters. Its first one is a letter or a digit: command lines that are
/// given a secret take one that begins with a hyphen for an option.
pub(crate) fn random_secret() -> String {
    loop {
        let secret = URL_SAFE_NO_PAD.encode(random_bytes::<32>());
        if secret.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            return secret;
        }
    }
}

/// What is stored of a secret with full entropy. Passwords people choose must never come here.
pub(crate) fn secret_digest(secret: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_looks_like_an_option() {
        for _ in 0..2_000 {
            let secret = random_secret();
            assert!(secret.len() == 43 && secret.as_bytes()[0].is_ascii_alphanumeric());
        }
    }

    #[test]
    fn signing_secrets_are_stable_and_differ_by_id_and_master() {
        let one = MasterKey::new([1; 32]);
        let two = MasterKey::new([2; 32]);
        let secret = |k: &MasterKey, id: &str| k.signing_secret(id).expose_secret().to_owned();
        assert_eq!(secret(&one, "A"), secret(&one, "A"));
        assert_eq!(secret(&one, "A").len(), 40);
        assert_ne!(secret(&one, "A"), secret(&one, "B"));
        assert_ne!(secret(&one, "A"), secret(&two, "A"));
        assert_eq!(format!("{one:?}"), "MasterKey");
        let token = |k: &MasterKey, id: &str| k.session_token(id).expose_secret().to_owned();
        assert_eq!((token(&one, "A"), token(&one, "A").len()), (token(&one, "A"), 47));
        assert_ne!(token(&one, "A"), token(&one, "B"));
        assert_ne!(token(&one, "A"), token(&two, "A"));
        assert!(!token(&one, "A").contains(&secret(&one, "A")[..20]), "each has a purpose of its own");
    }
}
