//! How anything in Ravelin says no: by what the caller can do about it.
//!
//! A [`Refusal`] has two texts. Its `Display` may leave the house in any dialect; its [`Detail`] is for our own log
//! only. Each edge translates the variants in one total match.

use crate::policy::Action;
use std::fmt;
use std::time::Duration;

/// Text for our own log. It has no `Display`, so it cannot slip into an answer.
#[derive(Clone, PartialEq, Eq)]
pub struct Detail(String);

impl Detail {
    /// Wraps any error or text.
    pub fn new(text: impl fmt::Display) -> Self {
        Self(text.to_string())
    }

    /// For the log, never for an answer.
    #[must_use]
    pub fn for_log(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Why something was not done, sorted by what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not there, or the caller may not know that it is.
    #[error("{what} {name:?} was not found")]
    NotFound {
        /// The noun: `session`, `target`, `credential`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// The caller is known and may not do this.
    #[error("not allowed to {}: {because}", action.words())]
    Denied {
        /// What was asked of the policy.
        action: Action,
        /// A reason that may be shown.
        because: String,
    },
    /// The caller's proof is missing or wrong. Says nothing on which part was wrong.
    #[error("not authenticated: {because}")]
    Unauthenticated {
        /// A reason that may be shown.
        because: &'static str,
    },
    /// The request cannot be right whatever the state; the caller must change it.
    #[error("{field}: {because}")]
    Invalid {
        /// The member, parameter or key.
        field: String,
        /// What is wrong and what would be right.
        because: String,
    },
    /// The request does not fit the present state.
    #[error("{because}")]
    Conflict {
        /// A reason that may be shown.
        because: String,
    },
    /// A limit is reached; trying later makes sense.
    #[error("limit reached: {limit}")]
    LimitReached {
        /// The limit's name and value.
        limit: String,
        /// When to try again, if that is known.
        retry_after: Option<Duration>,
    },
    /// Something needed is out of reach; trying later makes sense.
    #[error("{what} is not available now, try again later")]
    Unavailable {
        /// Which part: `store`, `policy`, `target web-1`.
        what: String,
        /// For the log.
        detail: Detail,
    },
    /// Our own fault.
    #[error("internal error")]
    Internal {
        /// For the log.
        detail: Detail,
    },
}

impl Refusal {
    /// [`Refusal::NotFound`].
    pub fn not_found(what: &'static str, name: impl fmt::Display) -> Self {
        Refusal::NotFound { what, name: name.to_string() }
    }

    /// [`Refusal::Invalid`].
    pub fn invalid(field: impl Into<String>, because: impl fmt::Display) -> Self {
        Refusal::Invalid { field: field.into(), because: because.to_string() }
    }

    /// [`Refusal::Internal`].
    pub fn internal(detail: impl fmt::Display) -> Self {
        Refusal::Internal { detail: Detail::new(detail) }
    }

    /// [`Refusal::Unavailable`].
    pub fn unavailable(what: impl Into<String>, detail: impl fmt::Display) -> Self {
        Refusal::Unavailable { what: what.into(), detail: Detail::new(detail) }
    }

    /// The text for the log, where there is one beside the public text.
    #[must_use]
    pub fn detail(&self) -> Option<&Detail> {
        match self {
            Refusal::Unavailable { detail, .. } | Refusal::Internal { detail } => Some(detail),
            Refusal::NotFound { .. }
            | Refusal::Denied { .. }
            | Refusal::Unauthenticated { .. }
            | Refusal::Invalid { .. }
            | Refusal::Conflict { .. }
            | Refusal::LimitReached { .. } => None,
        }
    }
}
