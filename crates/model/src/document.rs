//! Documents that steer sessions, and settings of the deployment: both are changed through dialects and kept in the
//! store, each change with its event in the record.
//!
//! What a document says is its dialect's business; here it is text with a name and versions.

use crate::id::DocumentName;
use crate::session::Actor;
use crate::time::Time;
use std::collections::BTreeMap;

/// How a document's text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentFormat {
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl DocumentFormat {
    /// All formats.
    pub const ALL: [DocumentFormat; 2] = [DocumentFormat::Json, DocumentFormat::Yaml];

    /// The word used in rows.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            DocumentFormat::Json => "json",
            DocumentFormat::Yaml => "yaml",
        }
    }

    /// The format that [`DocumentFormat::word`] names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }
}

/// The text of a document at one time. Never changed once it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentVersion {
    /// From 1, without gaps.
    pub number: u32,
    /// The text; at most [`Document::CONTENT_BYTES_MAX`].
    pub content: String,
    /// How it is written.
    pub format: DocumentFormat,
    /// A name for this version; unique in its document.
    pub label: Option<String>,
    /// When it was written.
    pub created: Time,
    /// By whom.
    pub author: Actor,
}

/// A document with all its versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Unique in the deployment.
    pub name: DocumentName,
    /// A name for people.
    pub display_name: Option<String>,
    /// The version that is meant when none is named.
    pub default_version: u32,
    /// Oldest first; never empty.
    pub versions: Vec<DocumentVersion>,
    /// Free key/value pairs.
    pub tags: BTreeMap<String, String>,
    /// When it was first written.
    pub created: Time,
    /// By whom.
    pub owner: Actor,
}

impl Document {
    /// Longest text of one version, in bytes.
    pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
    /// Most versions of one document.
    pub const VERSIONS_MAX: usize = 100;
    /// Most documents of a deployment.
    pub const DOCUMENTS_MAX: usize = 500;

    /// The version of that number.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&DocumentVersion> {
        self.versions.iter().find(|version| version.number == number)
    }

    /// The newest version.
    #[must_use]
    pub fn latest(&self) -> Option<&DocumentVersion> {
        self.versions.last()
    }
}

/// What lists show of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentHead {
    /// See [`Document::name`].
    pub name: DocumentName,
    /// See [`Document::display_name`].
    pub display_name: Option<String>,
    /// See [`Document::default_version`].
    pub default_version: u32,
    /// The newest version's number.
    pub latest_version: u32,
    /// How the default version is written.
    pub format: DocumentFormat,
    /// See [`Document::created`].
    pub created: Time,
    /// See [`Document::owner`].
    pub owner: Actor,
    /// See [`Document::tags`].
    pub tags: BTreeMap<String, String>,
}

/// One change of one document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DocumentChange {
    /// A new document with its first version, which is its default.
    Create {
        /// The text.
        content: String,
        /// How it is written.
        format: DocumentFormat,
        /// A name for the version.
        label: Option<String>,
        /// A name for people.
        display_name: Option<String>,
        /// Free key/value pairs.
        tags: BTreeMap<String, String>,
    },
    /// One more version. The default stays.
    AddVersion {
        /// The text.
        content: String,
        /// How it is written.
        format: DocumentFormat,
        /// A name for the version.
        label: Option<String>,
        /// A new name for people, when one is given.
        display_name: Option<String>,
    },
    /// Another version becomes the default.
    SetDefault {
        /// Which.
        version: u32,
    },
    /// Other tags in place of those that are there.
    Retag {
        /// All that are to be there.
        tags: BTreeMap<String, String>,
    },
    /// The document with all its versions goes.
    Delete,
}

impl DocumentChange {
    /// The word used in the record.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            DocumentChange::Create { .. } => "create",
            DocumentChange::AddVersion { .. } => "add_version",
            DocumentChange::SetDefault { .. } => "set_default",
            DocumentChange::Retag { .. } => "retag",
            DocumentChange::Delete => "delete",
        }
    }
}

/// A setting of the deployment that somebody has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its value.
    pub value: String,
    /// When it was set.
    pub modified: Time,
    /// By whom.
    pub author: Actor,
}
