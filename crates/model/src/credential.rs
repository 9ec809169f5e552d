//! Proofs that Ravelin issues: API tokens, signing keys, client secrets.
//!
//! None of them is stored. A token and a client secret leave a digest behind; a signing key's secret is derived from
//! the deployment's master key and the id, so nothing is left to steal.

use crate::id::{CredentialId, PrincipalName};
use crate::time::Time;
use std::fmt;
use std::time::Duration;

/// How long a temporary key lasts unless its issuer says otherwise.
pub const TEMPORARY_KEY_LIFE: Duration = Duration::from_secs(12 * 3600);
/// How long a temporary key may last.
pub const TEMPORARY_KEY_LIFE_MAX: Duration = Duration::from_secs(36 * 3600);

/// What a credential is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialKind {
    /// A bearer token of our own API.
    Token,
    /// A shared key that signs requests.
    SigningKey,
    /// A shared key that signs requests for some hours, beside a token that goes with each of them.
    TemporaryKey,
    /// A client id and secret for the token endpoint.
    ClientSecret,
}

impl CredentialKind {
    /// All kinds.
    pub const ALL: [CredentialKind; 4] =
        [CredentialKind::Token, CredentialKind::SigningKey, CredentialKind::TemporaryKey, CredentialKind::ClientSecret];

    /// The word used in rows, logs and answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            CredentialKind::Token => "token",
            CredentialKind::SigningKey => "signing_key",
            CredentialKind::TemporaryKey => "temporary_key",
            CredentialKind::ClientSecret => "client_secret",
        }
    }

    /// The kind that [`CredentialKind::word`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.word() == word)
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The stored half of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Public; shown in lists.
    pub id: CredentialId,
    /// What it is good for.
    pub kind: CredentialKind,
    /// Whom it proves.
    pub principal: PrincipalName,
    /// SHA-256 of the secret; `None` for a key that signs, of either kind.
    pub digest: Option<[u8; 32]>,
    /// What the issuer noted on it.
    pub note: String,
    /// When it was issued.
    pub created: Time,
    /// When it stops working, if ever.
    pub expires: Option<Time>,
    /// When it was revoked, if it was.
    pub revoked: Option<Time>,
}

impl Credential {
    /// Whether it proves anything at `now`.
    #[must_use]
    pub fn is_valid(&self, now: Time) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|at| now < at)
    }
}
