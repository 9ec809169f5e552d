//! What is said when something was not done, and the exit status that goes with it.
//!
//! Every failure says what happened and, where there is something, what to do next.

use super::plain;
use std::process::ExitCode;

/// How a command ends when it did not do what it was asked; `docs/operations/exit-codes.md` explains each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something that has no status of its own.
    Other,
    /// The command line says nothing that can be done.
    Usage,
    /// At least one session did not end.
    NotAllEnded,
    /// The token is missing or not valid, or its holder may not do this.
    Denied,
    /// No bastion answers.
    Unreachable,
}

impl Exit {
    /// The number that the shell sees.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Other => 1,
            Exit::Usage => 2,
            Exit::NotAllEnded => 3,
            Exit::Denied => 4,
            Exit::Unreachable => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// Why a command ends early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    pub(crate) hints: Vec<String>,
    /// Whether the bastion does not know what was asked for, so that a name nearby may help.
    pub(crate) missing: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Failure { exit, message: message.into(), hints: Vec::new(), missing: false }
    }

    pub(crate) fn other(message: impl Into<String>) -> Self {
        Failure::new(Exit::Other, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Failure::new(Exit::Usage, message)
    }

    /// Adds a line that says what to do next.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The lines for standard error. Texts of a server are in them, so they are made harmless.
    fn text(&self) -> String {
        let mut text = format!("error: {}\n", plain::line(&self.message));
        for hint in &self.hints {
            text.push_str("  ");
            text.push_str(&plain::line(hint));
            text.push('\n');
        }
        text
    }

    /// Says it on standard error.
    pub(crate) fn tell(&self) -> ExitCode {
        eprint!("{}", self.text());
        self.exit.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_hints_and_without_escape_sequences() {
        let failure = Failure::other("no session \u{1b}[2Jx").hint("did you mean a\nb?");
        assert_eq!(failure.text(), "error: no session \\u{1b}[2Jx\n  did you mean a\\nb?\n");
    }

    #[test]
    fn the_document_lists_every_status() {
        let document = include_str!("../../../../docs/operations/exit-codes.md");
        for exit in [Exit::Other, Exit::Usage, Exit::NotAllEnded, Exit::Denied, Exit::Unreachable] {
            assert!(document.contains(&format!("| {} |", exit.code())), "{exit:?} is missing");
        }
    }
}
