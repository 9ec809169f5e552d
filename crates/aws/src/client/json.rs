//! JSON to values.
//!
//! The workspace's JSON library reads a number's last digit only nearly right unless a feature of it is on that would
//! slow down everybody, and it drops the place of a fault as Python tells it. Both show in output that has to be the same
//! byte for byte, so this reader is our own: bounded in depth and in number of values, linear in the text, without
//! recursion into anything but itself.

use super::value::{Map, VALUES_MAX, Value};
use thiserror::Error;

/// Levels of lists and objects at most.
pub const DEPTH_MAX: usize = 128;

/// Why a text is no JSON; the words are those of Python's `json`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}: line {line} column {column} (char {at})")]
pub struct JsonFault {
    /// What was expected or found.
    pub what: &'static str,
    /// The line, from 1.
    pub line: usize,
    /// The character of the line, from 1.
    pub column: usize,
    /// The character of the text, from 0.
    pub at: usize,
}

/// Reads one document with nothing but blanks around it.
///
/// # Errors
/// See [`JsonFault`].
pub fn parse(bytes: &[u8]) -> Result<Value, JsonFault> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let text = std::str::from_utf8(valid).unwrap_or_default();
            return Err(Reader::new(text).fault("Not UTF-8 text", text.len()));
        }
    };
    let mut reader = Reader::new(text);
    reader.blanks();
    let value = reader.value(0)?;
    reader.blanks();
    if reader.at < text.len() { Err(reader.fault("Extra data", reader.at)) } else { Ok(value) }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    /// The next byte; always at the start of a character.
    at: usize,
    /// Values that may still come.
    left: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Reader { text, bytes: text.as_bytes(), at: 0, left: VALUES_MAX }
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonFault> {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => return Err(self.fault("It holds more than a million values", self.at)),
        }
        if depth > DEPTH_MAX {
            return Err(self.fault("It is nested too deep", self.at));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => self.string().map(Value::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                // The last two are Python's own; it writes them for what is too large for a number.
                for (word, value) in [
                    ("null", Value::Null),
                    ("true", Value::Bool(true)),
                    ("false", Value::Bool(false)),
                    ("NaN", Value::Float(f64::NAN)),
                    ("Infinity", Value::Float(f64::INFINITY)),
                ] {
                    if self.word(word) {
                        return Ok(value);
                    }
                }
                Err(self.fault("Expecting value", self.at))
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonFault> {
        let mut members = Map::new();
        self.at += 1;
        self.blanks();
        if self.take(b'}') {
            return Ok(Value::Map(Box::new(members)));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.fault("Expecting property name enclosed in double quotes", self.at));
            }
            let name = self.string()?;
            self.blanks();
            if !self.take(b':') {
                return Err(self.fault("Expecting ':' delimiter", self.at));
            }
            self.blanks();
            let member = self.value(depth + 1)?;
            members.insert(name, member);
            self.blanks();
            if self.take(b'}') {
                return Ok(Value::Map(Box::new(members)));
            }
            if !self.take(b',') {
                return Err(self.fault("Expecting ',' delimiter", self.at));
            }
            self.blanks();
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, JsonFault> {
        let mut items = Vec::new();
        self.at += 1;
        self.blanks();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blanks();
            if self.take(b']') {
                return Ok(Value::List(items));
            }
            if !self.take(b',') {
                return Err(self.fault("Expecting ',' delimiter", self.at));
            }
            self.blanks();
        }
    }

    fn string(&mut self) -> Result<String, JsonFault> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let plain = self.bytes[self.at..].iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f));
            let Some(plain) = plain else { return Err(self.fault("Unterminated string starting at", start)) };
            out.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.bytes[self.at] {
                b'"' => {
                    self.at += 1;
                    return Ok(out);
                }
                b'\\' => out.push(self.escape(start)?),
                _ => return Err(self.fault("Invalid control character at", self.at)),
            }
        }
    }

    fn escape(&mut self, start: usize) -> Result<char, JsonFault> {
        let backslash = self.at;
        let Some(letter) = self.bytes.get(self.at + 1) else {
            return Err(self.fault("Unterminated string starting at", start));
        };
        self.at += 2;
        Ok(match letter {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.unit()?;
                let pair = (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u");
                let code = if pair {
                    self.at += 2;
                    let second = self.unit()?;
                    if !(0xdc00..0xe000).contains(&second) {
                        return Err(self.fault("Invalid \\uXXXX escape", backslash + 1));
                    }
                    0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                } else {
                    first
                };
                match char::from_u32(code) {
                    Some(c) => c,
                    // Python takes half a pair for a character; nothing can be done with one.
                    None => return Err(self.fault("Invalid \\uXXXX escape", backslash + 1)),
                }
            }
            _ => return Err(self.fault("Invalid \\escape", backslash)),
        })
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, JsonFault> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|text| u32::from_str_radix(text, 16).ok());
        let Some(code) = code else { return Err(self.fault("Invalid \\uXXXX escape", self.at - 1)) };
        self.at += 4;
        Ok(code)
    }

    fn number(&mut self) -> Result<Value, JsonFault> {
        let start = self.at;
        if self.word("-Infinity") {
            return Ok(Value::Float(f64::NEG_INFINITY));
        }
        let _sign = self.take(b'-');
        // A zero stands alone; what follows it is none of this number.
        if !self.take(b'0') && self.digits() == 0 {
            return Err(self.fault("Expecting value", start));
        }
        let mut whole = true;
        let mark = self.at;
        if self.take(b'.') {
            if self.digits() > 0 { whole = false } else { self.at = mark }
        }
        let mark = self.at;
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            if self.digits() > 0 { whole = false } else { self.at = mark }
        }
        let text = &self.text[start..self.at];
        // A whole number that is too large for us is shown with an exponent.
        let exact = if whole { text.parse().ok().map(Value::Int) } else { None };
        let value = exact.or_else(|| text.parse().ok().map(Value::Float));
        value.ok_or_else(|| self.fault("Expecting value", start))
    }

    fn digits(&mut self) -> usize {
        let count = self.bytes[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &str) -> bool {
        let there = self.bytes[self.at..].starts_with(word.as_bytes());
        self.at += if there { word.len() } else { 0 };
        there
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn fault(&self, what: &'static str, at: usize) -> JsonFault {
        // A fault may be in the middle of a character only when the text itself ends there.
        let before = self.text.get(..at).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        JsonFault {
            what,
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            at: before.chars().count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fault(text: &str) -> String {
        parse(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn what_is_no_number_reads_back_as_python_reads_it() {
        for (text, shown) in [
            ("2e322", "Infinity"),
            ("-2e322", "-Infinity"),
            ("Infinity", "Infinity"),
            ("[-Infinity]", "[-Infinity]"),
            ("NaN", "NaN"),
        ] {
            let value = parse(text.as_bytes()).expect(text);
            let written = value.to_json(crate::client::value::Json::Tight);
            assert_eq!(written, shown, "{text}");
            assert_eq!(parse(written.as_bytes()).expect(shown).to_repr(), value.to_repr(), "{text}");
        }
    }

    /// The texts of Python 3.11 for the same documents.
    #[test]
    fn faults_are_told_as_python_tells_them() {
        for (text, said) in [
            ("", "Expecting value: line 1 column 1 (char 0)"),
            ("[", "Expecting value: line 1 column 2 (char 1)"),
            ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
            (r#"[{"key":"a""#, "Expecting ',' delimiter: line 1 column 12 (char 11)"),
            (r#"{"a" 1}"#, "Expecting ':' delimiter: line 1 column 6 (char 5)"),
            (r#"{"a":}"#, "Expecting value: line 1 column 6 (char 5)"),
            ("[1 2]", "Expecting ',' delimiter: line 1 column 4 (char 3)"),
            ("[1,]", "Expecting value: line 1 column 4 (char 3)"),
            ("1 2", "Extra data: line 1 column 3 (char 2)"),
            ("-NaN", "Expecting value: line 1 column 1 (char 0)"),
            ("Infinityx", "Extra data: line 1 column 9 (char 8)"),
            ("01", "Extra data: line 1 column 2 (char 1)"),
            ("1.x", "Extra data: line 1 column 2 (char 1)"),
            ("{\n  \"ä\": x}", "Expecting value: line 2 column 8 (char 9)"),
            ("[\"ab", "Unterminated string starting at: line 1 column 2 (char 1)"),
            (r#""\x""#, "Invalid \\escape: line 1 column 2 (char 1)"),
            ("\"a\tb\"", "Invalid control character at: line 1 column 3 (char 2)"),
            (r#""\u12g4""#, "Invalid \\uXXXX escape: line 1 column 3 (char 2)"),
        ] {
            assert_eq!(fault(text), said, "{text}");
        }
    }

    #[test]
    fn depth_and_number_are_bounded() {
        assert!(fault(&"[".repeat(100_000)).starts_with("It is nested too deep"));
        assert!(fault(&r#"{"a":"#.repeat(100_000)).starts_with("It is nested too deep"));
        assert!(fault(&format!("[{}0]", "0,".repeat(VALUES_MAX))).starts_with("It holds more than a million values"));
        assert!(parse(b"\"\xff\"").is_err());
    }

    fn documents() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<u64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
                proptest::collection::hash_map(any::<String>(), inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Both readers agree, whoever wrote the document.
        #[test]
        fn the_librarys_documents_are_read(document in documents()) {
            for text in [document.to_string(), serde_json::to_string_pretty(&document).expect("JSON")] {
                let ours = parse(text.as_bytes()).expect("JSON").to_json(super::super::value::Json::Tight);
                prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).expect("JSON"), document.clone());
            }
        }

        #[test]
        fn every_double_comes_back(number in any::<f64>().prop_filter("a number", |number| number.is_finite())) {
            let text = super::super::value::float(number);
            prop_assert_eq!(parse(text.as_bytes()).expect("JSON"), Value::Float(number));
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in any::<Vec<u8>>(), pieces in "[\\[\\]{},:\"\\\\u0-9eE.+ntf -]{0,40}") {
            for bytes in [bytes.as_slice(), pieces.as_bytes()] {
                let ours = parse(bytes);
                let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
                // Numbers beyond a double's range are the one thing that only we take.
                if theirs.is_ok() {
                    prop_assert!(ours.is_ok(), "{:?}", ours);
                }
            }
        }
    }
}
