//! Who: a person or a service, and how they proved it.

use crate::id::{GroupName, PrincipalName};
use std::collections::BTreeSet;
use std::fmt;

/// A person or a service as the inventory declares it. Having one proves nothing; a proof is the engine's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Unique in the deployment.
    pub name: PrincipalName,
    /// Groups that policies speak of.
    pub groups: BTreeSet<GroupName>,
    /// SSH public keys in the OpenSSH one-line form, without comment: `ssh-ed25519 AAAA…`.
    pub ssh_keys: Vec<String>,
}

/// How a principal proved to be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthMethod {
    /// A signature by an SSH key of the inventory.
    SshKey,
    /// An API token.
    Token,
    /// A request signed with a shared key.
    SignedRequest,
    /// A client id and secret, by way of a short-lived bearer token.
    ClientSecret,
    /// A bearer token of an outside issuer that the configuration trusts.
    OutsideToken,
}

impl AuthMethod {
    /// All methods, in the order of the documents.
    pub const ALL: [AuthMethod; 5] = [
        AuthMethod::SshKey,
        AuthMethod::Token,
        AuthMethod::SignedRequest,
        AuthMethod::ClientSecret,
        AuthMethod::OutsideToken,
    ];

    /// The word used in rows, logs and answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            AuthMethod::SshKey => "ssh_key",
            AuthMethod::Token => "token",
            AuthMethod::SignedRequest => "signed_request",
            AuthMethod::ClientSecret => "client_secret",
            AuthMethod::OutsideToken => "outside_token",
        }
    }

    /// The method that [`AuthMethod::word`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.word() == word)
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
