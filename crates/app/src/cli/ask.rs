//! Questions to the person, on standard error, so that answers stay alone on standard output.

use super::plain;
use std::io::{BufRead, IsTerminal, Write};

/// Whether somebody is there to answer.
pub(crate) fn somebody_is_there() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

/// Whether the person says yes. No answer is a no.
pub(crate) fn yes(question: &str) -> bool {
    let mut err = std::io::stderr().lock();
    if write!(err, "{} [y/N] ", plain::line(question)).and_then(|()| err.flush()).is_err() {
        return false;
    }
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(_) => matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"),
        Err(_) => false,
    }
}
