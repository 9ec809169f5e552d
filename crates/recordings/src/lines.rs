//! What was shown, line by line and as it comes: the bytes of a channel without what moves a cursor or changes colours.
//!
//! A terminal would know better what a line looked like in the end; but it knows that only once the line has left the
//! screen, and here each line is wanted at once. The same bytes always give the same lines, so that whoever has some of
//! them can go on after those.

use crate::event::{Event, HeadText, OpenedText, Stamped, Utf8};
use crate::read::line;
use ravelin_model::text::is_printable;
use serde_json::json;

/// Characters at which a line is cut that does not end: few enough for what holds lines elsewhere, however a line is
/// escaped there.
const LINE_CHARS_MAX: usize = 4_096;

/// Where in a control sequence the text is (ECMA-48, 5th edition, 5.3 to 5.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Within {
    #[default]
    Text,
    Escape,
    Sequence,
    String,
    StringEscape,
}

/// Makes lines of what is shown.
#[derive(Default)]
pub(crate) struct Lines {
    utf8: Utf8,
    within: Within,
    line: String,
    chars: usize,
    at: u64,
    is_open: bool,
}

impl Lines {
    pub(crate) fn event(&mut self, stamped: &Stamped, head: Option<&HeadText>, out: &mut Vec<u8>) {
        match &stamped.event {
            Event::Opened(OpenedText { size, output, .. }) => self.is_open |= size.is_some() || *output,
            Event::Output(bytes) => {
                self.at = stamped.at;
                for c in self.utf8.text(bytes).chars() {
                    self.shown(c, head, out);
                }
            }
            _nothing_shown => {}
        }
    }

    fn shown(&mut self, c: char, head: Option<&HeadText>, out: &mut Vec<u8>) {
        self.within = match (self.within, c) {
            (Within::String, '\u{7}') | (Within::StringEscape, '\\') => Within::Text,
            (Within::String, '\u{1b}') => Within::StringEscape,
            (Within::String | Within::StringEscape, _) => Within::String,
            (_, '\u{1b}') => Within::Escape,
            (Within::Escape, '[') => Within::Sequence,
            (Within::Escape, ']' | 'P' | 'X' | '^' | '_') => Within::String,
            (Within::Escape, ' '..='/') => Within::Escape,
            (Within::Sequence, ' '..='?') => Within::Sequence,
            (Within::Escape | Within::Sequence, '\n') | (Within::Text, _) => {
                self.plain(c, head, out);
                Within::Text
            }
            (Within::Escape | Within::Sequence, _) => Within::Text,
        };
    }

    fn plain(&mut self, c: char, head: Option<&HeadText>, out: &mut Vec<u8>) {
        match c {
            '\n' => self.end_line(head, out),
            // As a shell takes back what was typed.
            '\u{8}' => {
                self.chars -= usize::from(self.line.pop().is_some());
            }
            c if c == '\t' || is_printable(c) => {
                self.line.push(c);
                self.chars += 1;
                if self.chars >= LINE_CHARS_MAX {
                    self.end_line(head, out);
                }
            }
            _not_shown => {}
        }
    }

    fn end_line(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) {
        let began = head.map_or(0, |head| head.began_us);
        let at = began.saturating_add_unsigned(self.at).div_euclid(1_000);
        line(out, &json!([at, self.line]));
        self.line.clear();
        self.chars = 0;
    }

    /// Everything was read. `false` when there was nothing that shows lines.
    pub(crate) fn end(&mut self, head: Option<&HeadText>, out: &mut Vec<u8>) -> bool {
        if !self.line.is_empty() {
            self.end_line(head, out);
        }
        self.is_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for (at, piece) in pieces.iter().enumerate() {
            let event = Event::Output(piece.to_vec());
            lines.event(&Stamped { at: at as u64 * 1_000, channel: 0, event }, None, &mut out);
        }
        lines.end(None, &mut out);
        let text = String::from_utf8(out).expect("text");
        text.lines().map(|line| serde_json::from_str::<(i64, String)>(line).expect("a line").1).collect()
    }

    #[test]
    fn control_sequences_are_left_out_and_the_rest_is_kept() {
        let shown: &[u8] = b"\x1b]0;title\x07\x1b[1;31mred\x1b[0m \x1b(Bplain\r\n\r\n\x1b]8;;u\x1b\\link\x1b]8;;\x1b\\ la\x08\x08ls\tx\nend";
        assert_eq!(lines(&[shown]), ["red plain", "", "link ls\tx", "end"]);
        let bytes: Vec<&[u8]> = shown.chunks(1).collect();
        assert_eq!(lines(&bytes), lines(&[shown]), "however it is cut");
        assert_eq!(lines(&[b"\x1b[\nafter"]), ["", "after"], "a sequence that is cut off does not eat what follows");
        let long = "x".repeat(LINE_CHARS_MAX + 1);
        assert_eq!(lines(&[long.as_bytes()]).concat(), long);
    }

    proptest! {
        #[test]
        fn the_same_bytes_give_the_same_lines(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0_usize..200) {
            let (before, after) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(lines(&[before, after]), lines(&[&bytes]));
        }
    }
}
