//! What a person types, and what of it is meant for the client: `~.` and its like at the beginning of a line.
//!
//! The tilde is held back until the next character says whether it is one of these; everything else passes as it is.

/// What is meant for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escape {
    /// `~.`: leave the session.
    Leave,
    /// `~?`: say what there is.
    Help,
}

/// What `~?` says; lines end as in a terminal that changes nothing.
pub const HELP: &str = "\r\nAt the beginning of a line:\r\n  ~.  leave and end the session\r\n  ~?  this text\r\n  \
                        ~-  no more of these in this session\r\n  ~~  send one tilde\r\n";

/// Reads what is typed.
#[derive(Clone, Copy, Debug)]
pub struct Escapes {
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    LineStart,
    Tilde,
    InLine,
    Off,
}

impl Escapes {
    /// At the beginning of a line; or not looking at all.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { state: if on { State::LineStart } else { State::Off } }
    }

    /// Takes what was typed; appends what is to be sent to `out`. Stops at the first escape that asks for something:
    /// the second value is how many bytes were taken.
    pub fn take(&mut self, typed: &[u8], out: &mut Vec<u8>) -> (Option<Escape>, usize) {
        for (at, byte) in typed.iter().enumerate() {
            match (self.state, byte) {
                (State::Off, _) => {
                    out.extend_from_slice(&typed[at..]);
                    return (None, typed.len());
                }
                (State::LineStart, b'~') => self.state = State::Tilde,
                (State::Tilde, b'.') => {
                    self.state = State::InLine;
                    return (Some(Escape::Leave), at + 1);
                }
                (State::Tilde, b'?') => {
                    self.state = State::LineStart;
                    return (Some(Escape::Help), at + 1);
                }
                (State::Tilde, b'-') => self.state = State::Off,
                (State::Tilde, b'~') => {
                    out.push(b'~');
                    self.state = State::InLine;
                }
                (before, other) => {
                    if before == State::Tilde {
                        out.push(b'~');
                    }
                    out.push(*other);
                    self.state = if matches!(other, b'\r' | b'\n') { State::LineStart } else { State::InLine };
                }
            }
        }
        (None, typed.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(text: &str) -> (String, Vec<Escape>) {
        let (mut escapes, mut out, mut seen) = (Escapes::new(true), Vec::new(), Vec::new());
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            let (escape, taken) = escapes.take(rest, &mut out);
            seen.extend(escape);
            rest = &rest[taken..];
        }
        (String::from_utf8(out).expect("as typed"), seen)
    }

    #[test]
    fn tildes_count_at_the_beginning_of_a_line_only() {
        for (text, sent, escapes) in [
            ("~.", "", &[Escape::Leave][..]),
            ("ls\r~.", "ls\r", &[Escape::Leave]),
            ("ls\n~?x", "ls\nx", &[Escape::Help]),
            ("a~.\r", "a~.\r", &[]),
            ("~~.\r", "~.\r", &[]),
            ("~x~.", "~x~.", &[]),
            ("~\r~.", "~\r", &[Escape::Leave]),
            ("~-~.\r~.", "~.\r~.", &[]),
            ("~", "", &[]),
        ] {
            assert_eq!(typed(text), (sent.to_owned(), escapes.to_vec()), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(text in "[~.?\\-\rax]{0,30}", cut in 0..30_usize) {
            let cut = cut.min(text.len());
            let run = |parts: &[&str]| {
                let (mut escapes, mut out, mut seen) = (Escapes::new(true), Vec::new(), Vec::new());
                for part in parts {
                    let mut rest = part.as_bytes();
                    while !rest.is_empty() {
                        let (escape, taken) = escapes.take(rest, &mut out);
                        seen.extend(escape);
                        rest = &rest[taken..];
                    }
                }
                (out, seen)
            };
            prop_assert_eq!(run(&[&text]), run(&[&text[..cut], &text[cut..]]));
        }

        #[test]
        fn without_escapes_every_byte_passes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut out = Vec::new();
            prop_assert_eq!(Escapes::new(false).take(&bytes, &mut out), (None, bytes.len()));
            prop_assert_eq!(out, bytes);
        }
    }
}
