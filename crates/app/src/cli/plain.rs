//! What untrusted text may look like on a terminal. Names, reasons and client versions come from strangers; none of them
//! may move the cursor, change a title, hide text or end a line.

/// The text with everything but visible characters and blanks written out as an escape.
pub(crate) fn line(text: &str) -> String {
    if !text.chars().any(is_harmful) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 16), |mut out, c| {
        if is_harmful(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        out
    })
}

/// JSON text with harmful characters as `\uXXXX`. They can stand in strings only, where the two forms mean the same.
pub(crate) fn json(text: &str) -> String {
    if !text.chars().any(|c| c != '\n' && is_harmful(c)) {
        return text.to_owned();
    }
    text.chars().fold(String::with_capacity(text.len() + 16), |mut out, c| {
        if c != '\n' && is_harmful(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
        out
    })
}

/// Control characters of both sets, and those that reorder, join or hide text.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visible_text_stays_as_it_is() {
        for text in ["", "alice", "naïve Straße 東京 ✓", "a\\b \"c\""] {
            assert_eq!(line(text), text);
            assert_eq!(json(text), text);
        }
    }

    #[test]
    fn nothing_that_steers_a_terminal_gets_through() {
        assert_eq!(line("a\u{1b}[31mb\tc\r\nd\u{9b}e\u{7f}"), "a\\u{1b}[31mb\\tc\\r\\nd\\u{9b}e\\u{7f}");
        assert_eq!(line("a\u{202e}b\u{200b}c"), "a\\u{202e}b\\u{200b}c");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({ "a": "x\u{9b}2J\u{202e}\u{7f}\u{e0041}\u{1b}\n" });
        let text = json(&serde_json::to_string_pretty(&value).expect("JSON"));
        assert!(!text.chars().any(|c| c != '\n' && is_harmful(c)), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("still JSON"), value);
    }
}
