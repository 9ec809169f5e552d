//! To what: a machine's service that sessions lead to.

use crate::id::{GroupName, Login, TargetId, TargetName};
use crate::recording::Rule;
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is spoken with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Secure Shell.
    Ssh,
    /// Remote Desktop.
    Rdp,
    /// Any other byte stream.
    Tcp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Protocol; 3] = [Protocol::Ssh, Protocol::Rdp, Protocol::Tcp];

    /// The word used in files, rows and answers.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Ssh => "ssh",
            Protocol::Rdp => "rdp",
            Protocol::Tcp => "tcp",
        }
    }

    /// The protocol that [`Protocol::word`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|p| p.word() == word)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// How Ravelin proves itself to the target. The secrets cannot be printed.
#[derive(Clone, Debug)]
pub enum LoginProof {
    /// A private key in OpenSSH PEM form.
    Key(SecretString),
    /// A password.
    Password(SecretString),
    /// The person's own agent, forwarded through the client's connection.
    ForwardedAgent,
}

/// One way to log in on a target.
#[derive(Clone, Debug)]
pub struct LoginWay {
    /// The user name on the target.
    pub login: Login,
    /// What is shown to the target as proof.
    pub proof: LoginProof,
}

/// A target as the inventory declares it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Stable id, a digest of the name unless the inventory gives one.
    pub id: TargetId,
    /// Unique in the deployment.
    pub name: TargetName,
    /// Host name or address that Ravelin dials.
    pub address: String,
    /// TCP port that Ravelin dials.
    pub port: u16,
    /// What is spoken there.
    pub protocol: Protocol,
    /// Ways in; the first is the default.
    pub logins: Vec<LoginWay>,
    /// Public keys, in the OpenSSH one-line form, one of which the target must show. Never empty for SSH.
    pub host_keys: Vec<String>,
    /// Free key/value pairs, for policies and lists.
    pub labels: BTreeMap<String, String>,
    /// Groups this target is shared with.
    pub shared_with: BTreeSet<GroupName>,
    /// Names this target bears in foreign dialects: dialect to id.
    pub aliases: BTreeMap<String, String>,
    /// What is kept of sessions to it.
    pub recording: Rule,
}

impl Target {
    /// The way in under `login`, or the default way when none is named.
    #[must_use]
    pub fn way(&self, login: Option<&Login>) -> Option<&LoginWay> {
        match login {
            None => self.logins.first(),
            Some(login) => self.logins.iter().find(|way| way.login == *login),
        }
    }

    /// What a session keeps of this target for ever.
    #[must_use]
    pub fn snapshot(&self) -> TargetSnapshot {
        TargetSnapshot {
            id: self.id.clone(),
            name: self.name.clone(),
            address: self.address.clone(),
            port: self.port,
            labels: self.labels.clone(),
            aliases: self.aliases.clone(),
        }
    }
}

/// A target as it was when a session started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetSnapshot {
    /// See [`Target::id`].
    pub id: TargetId,
    /// See [`Target::name`].
    pub name: TargetName,
    /// See [`Target::address`].
    pub address: String,
    /// See [`Target::port`].
    pub port: u16,
    /// See [`Target::labels`].
    pub labels: BTreeMap<String, String>,
    /// See [`Target::aliases`].
    pub aliases: BTreeMap<String, String>,
}
