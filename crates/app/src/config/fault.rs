//! What is wrong with a configuration: where it stands, what it is, and what would be right.

use std::fmt;
use std::sync::Arc;

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as the operator named it.
    pub file: Arc<str>,
    /// Line, from 1; 0 means the file as a whole.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 { f.write_str(&self.file) } else { write!(f, "{}:{}", self.file, self.line) }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Ravelin does not run with this.
    Error,
    /// It runs, and somebody should look at it.
    Warning,
}

/// One thing that is wrong. Its text is one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// How bad it is.
    pub weight: Weight,
    /// Where it stands.
    pub place: Place,
    /// The key with its tables, such as `listen.ssh`; empty when no key is at fault.
    pub key: String,
    /// The value as it was written; `None` when there is none, or when it may be a secret.
    pub value: Option<String>,
    /// What is wrong with it.
    pub what: String,
    /// What would be right.
    pub fix: String,
}

impl Fault {
    /// Longest value that is shown whole, in characters.
    const VALUE_CHARS_MAX: usize = 64;

    /// The whole line with its weight, as a person reads it on a terminal.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}: {self}", self.weight.word())
    }

    /// The value, if it fits into a line.
    pub(super) fn shown(text: &str) -> String {
        let line = text.lines().next().unwrap_or_default();
        let whole = line.len() == text.len() && line.chars().count() <= Self::VALUE_CHARS_MAX;
        if whole {
            return line.to_owned();
        }
        let start: String = line.chars().take(Self::VALUE_CHARS_MAX).collect();
        format!("{start}…")
    }
}

impl Weight {
    /// For the beginning of a line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Weight::Error => "error",
            Weight::Warning => "warning",
        }
    }
}

/// Without its weight, which a log says in its own way.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        match (&self.value, self.key.is_empty()) {
            (Some(value), false) => write!(f, ": {} = {value}", self.key)?,
            (Some(value), true) => write!(f, ": {value}")?,
            (None, false) => write!(f, ": {}", self.key)?,
            (None, true) => {}
        }
        write!(f, ": {}", self.what)?;
        if !self.fix.is_empty() {
            write!(f, "; {}", self.fix)?;
        }
        Ok(())
    }
}

/// Collects faults, so that all of them are told at once.
#[derive(Debug, Default)]
pub(super) struct Faults {
    all: Vec<Fault>,
}

impl Faults {
    pub(super) fn push(&mut self, fault: Fault) {
        // The same file may be named twice; one telling is enough.
        if !self.all.contains(&fault) {
            self.all.push(fault);
        }
    }

    /// Whether something keeps Ravelin from running.
    pub(super) fn any_error(&self) -> bool {
        self.all.iter().any(|fault| fault.weight == Weight::Error)
    }

    /// All of them by place; those at the same place in the order in which they were found.
    pub(super) fn into_sorted(mut self) -> Vec<Fault> {
        self.all.sort_by(|a, b| a.place.cmp(&b.place));
        self.all
    }
}
