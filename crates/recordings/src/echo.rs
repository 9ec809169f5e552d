//! Which lines that were typed may be kept: those that came back on the screen, letter by letter, before anything else.
//!
//! A relay does not see whether a terminal echoes. It sees what was typed and what was shown. So a line is held back
//! until its end, and is kept only when each of its letters was shown, in order and with nothing else between. A
//! password is not shown, so it is not kept; neither is a line that a shell redrew or completed, which costs a line of
//! the recording and no secret. (What a shell was given is on the screen anyhow.)

use std::collections::VecDeque;

/// Longest line that is held back.
const LINE_BYTES_MAX: usize = 4096;

/// Follows one terminal.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    line: Vec<u8>,
    // Typed and not shown yet.
    unshown: VecDeque<u8>,
    unfit: bool,
    // A line whose end was typed, and which waits for the end of the line on the screen.
    ended: Option<Line>,
    escape: Escape,
    rubbed: bool,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    unshown: VecDeque<u8>,
    unfit: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Control,
    Text,
}

impl Escape {
    /// Whether the byte belongs to a control sequence.
    fn takes(&mut self, byte: u8) -> bool {
        let (next, takes) = match (*self, byte) {
            (_, 0x1b) => (Escape::Begun, true),
            (Escape::Begun, b'[') => (Escape::Control, true),
            (Escape::Begun, b']' | b'P' | b'_' | b'^') => (Escape::Text, true),
            (Escape::Begun, _) => (Escape::None, true),
            (Escape::Control, 0x40..=0x7e) => (Escape::None, true),
            (Escape::Control, _) => (Escape::Control, true),
            (Escape::Text, 0x07 | 0x9c) => (Escape::None, true),
            (Escape::Text, _) => (Escape::Text, true),
            (Escape::None, _) => (Escape::None, false),
        };
        *self = next;
        takes
    }
}

impl Echo {
    /// Something was typed.
    pub(crate) fn typed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\r' | b'\n' => {
                    let line = Line {
                        bytes: std::mem::take(&mut self.line),
                        unshown: std::mem::take(&mut self.unshown),
                        unfit: std::mem::take(&mut self.unfit),
                    };
                    // Two ends before the screen has shown one: which letters belong to which cannot be told.
                    let both = self.ended.is_some();
                    self.ended = Some(Line { unfit: line.unfit || both, ..line });
                }
                0x7f | 0x08 => {
                    // Takes back the last letter, whether it was shown already or not.
                    self.line.pop();
                    self.unshown.pop_back();
                }
                0x20..=0x7e | 0x80.. => {
                    if self.line.len() >= LINE_BYTES_MAX {
                        self.unfit = true;
                    } else {
                        self.line.push(*byte);
                        self.unshown.push_back(*byte);
                    }
                }
                0x03 | 0x04 | 0x15 | 0x1a => {
                    // The line is given up.
                    self.line.clear();
                    self.unshown.clear();
                    self.unfit = false;
                }
                // Completion, history, cursor keys: what the line is after it cannot be told.
                _ => self.unfit = true,
            }
        }
    }

    /// Something was shown. Returns the line that is known now to have been typed in the open.
    pub(crate) fn shown(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut open = None;
        for byte in bytes {
            if self.escape.takes(*byte) {
                continue;
            }
            if *byte == b'\n' {
                if let Some(line) = self.ended.take()
                    && !line.unfit
                    && line.unshown.is_empty()
                    && !line.bytes.is_empty()
                {
                    open = Some(line.bytes);
                }
                continue;
            }
            if *byte == 0x08 {
                self.rubbed = true;
                continue;
            }
            let rubbed = std::mem::take(&mut self.rubbed);
            if *byte < 0x20 || *byte == 0x7f || (rubbed && *byte == b' ') {
                continue;
            }
            let (unshown, unfit) = match &mut self.ended {
                Some(line) => (&mut line.unshown, &mut line.unfit),
                None => (&mut self.unshown, &mut self.unfit),
            };
            match unshown.front() {
                Some(expected) if expected == byte => {
                    unshown.pop_front();
                }
                // Something else came first: this line's letters are not what is shown.
                Some(_) => *unfit = true,
                None => {}
            }
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of a dialogue: `<` was typed, `>` was shown.
    fn kept(dialogue: &[(char, &str)]) -> Vec<String> {
        let mut echo = Echo::default();
        let mut kept = Vec::new();
        for (way, text) in dialogue {
            if *way == '<' {
                echo.typed(text.as_bytes());
            } else if let Some(line) = echo.shown(text.as_bytes()) {
                kept.push(String::from_utf8(line).expect("text"));
            }
        }
        kept
    }

    #[test]
    fn a_line_that_is_echoed_is_kept() {
        let one_by_one =
            [('>', "$ "), ('<', "l"), ('>', "l"), ('<', "s"), ('>', "s"), ('<', "\r"), ('>', "\r\nfile\r\n$ ")];
        assert_eq!(kept(&one_by_one), ["ls"]);
        assert_eq!(
            kept(&[('<', "echo hi\r"), ('>', "echo hi\r\nhi\r\n")]),
            ["echo hi"],
            "also when the echo comes late"
        );
        assert_eq!(kept(&[('<', "é\r"), ('>', "\u{1b}[1mé\u{1b}[0m\r\n")]), ["é"], "colours are no letters");
        let corrected = [('<', "lx"), ('>', "lx"), ('<', "\u{7f}"), ('>', "\u{8} \u{8}"), ('<', "s\r"), ('>', "s\r\n")];
        assert_eq!(kept(&corrected), ["ls"]);
    }

    #[test]
    fn what_is_not_echoed_is_never_kept() {
        assert_eq!(kept(&[('>', "Password: "), ('<', "secret\r"), ('>', "\r\n$ ")]), Vec::<String>::new());
        assert_eq!(kept(&[('<', "secret\r"), ('>', "******\r\n")]), Vec::<String>::new(), "stars are not the letters");
        // A program that prints meanwhile must not count as an echo, even if all the letters are in what it prints.
        let busy =
            [('<', "secret"), ('>', "some very clever text\r\nabout secret things\r\n"), ('<', "\r"), ('>', "\r\n")];
        assert_eq!(kept(&busy), Vec::<String>::new());
        assert_eq!(kept(&[('<', "sec"), ('>', "x"), ('<', "ret\r"), ('>', "secret\r\n")]), Vec::<String>::new());
        assert_eq!(kept(&[('<', "one\rtwo\r"), ('>', "\r\n\r\n")]), Vec::<String>::new());
        assert_eq!(kept(&[('<', "\u{1b}[A\r"), ('>', "ls\r\n")]), Vec::<String>::new(), "from the history");
        assert_eq!(kept(&[('<', "secret\u{3}"), ('>', "^C\r\n$ "), ('<', "ls\r"), ('>', "ls\r\n")]), ["ls"]);
    }
}
