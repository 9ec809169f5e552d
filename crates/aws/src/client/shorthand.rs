//! The short form in which AWS's command line takes lists and structures: `key=Owner,value=alice`, `a=[b,c],d={e=f}`.
//!
//! The grammar is that of the aws CLI's user guide ("shorthand syntax"), with its two oddities: after a comma, what looks
//! like `name=` starts the next pair and anything else is one more item of a list; and a value may hold `=`.
//! `name@=file://…` takes a file's content; whoever calls opens it, this module opens none.

use super::value::{Map, Value};
use thiserror::Error;

/// Characters of one text at most.
pub const CHARS_MAX: usize = 1 << 20;
/// Levels of brackets at most.
pub const DEPTH_MAX: usize = 64;

/// Why a text is none of this form. Its words are those of the aws CLI.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ShorthandFault {
    /// Another character had to stand there.
    #[error("Expected: '{expected}', received: '{actual}' for input:\n{place}")]
    Expected {
        /// What could have stood there.
        expected: String,
        /// What stands there.
        actual: String,
        /// The text with a mark below the place.
        place: String,
    },
    /// A name came twice.
    #[error(
        "Second instance of key \"{key}\" encountered for input:\n{place}\nThis is often because there is a preceding \
         \",\" instead of a space."
    )]
    Twice {
        /// The name.
        key: String,
        /// The text with a mark below the place.
        place: String,
    },
    /// The text is longer or deeper than anybody needs.
    #[error("a value in shorthand syntax has at most {CHARS_MAX} characters and {DEPTH_MAX} levels")]
    TooLarge,
    /// A file that the text names cannot be read.
    #[error("{0}")]
    File(String),
}

/// Reads one text. `file` is given what stands after `@=` and returns a file's content when the text names one.
///
/// # Errors
/// See [`ShorthandFault`].
pub fn parse(text: &str, file: &dyn Fn(&str) -> Result<Option<String>, String>) -> Result<Map, ShorthandFault> {
    // More bytes than `CHARS_MAX` may still be few characters; the bound is about effort, so either will do.
    if text.len() > CHARS_MAX {
        return Err(ShorthandFault::TooLarge);
    }
    let mut parser = Parser { chars: text.chars().collect(), at: 0, from_file: false, file };
    parser.parameter()
}

struct Parser<'a> {
    chars: Vec<char>,
    at: usize,
    /// Whether the value that is read came after `@=`.
    from_file: bool,
    file: &'a dyn Fn(&str) -> Result<Option<String>, String>,
}

type Result<T, E = ShorthandFault> = std::result::Result<T, E>;

impl Parser<'_> {
    fn parameter(&mut self) -> Result<Map> {
        let mut params = Map::new();
        let (key, value) = self.pair()?;
        params.insert(key, value);
        let mut last = self.at;
        while !self.at_end() {
            self.expect(',', true)?;
            let (key, value) = self.pair()?;
            if params.contains_key(&key) {
                return Err(ShorthandFault::Twice { key, place: self.place(last + 1) });
            }
            params.insert(key, value);
            last = self.at;
        }
        Ok(params)
    }

    fn pair(&mut self) -> Result<(String, Value)> {
        let key = self.name()?;
        let value = if self.at_end() {
            Value::text("")
        } else {
            match self.current() {
                Some('[') => self.list(0)?,
                Some('{') => self.hash(0)?,
                _ => self.values()?,
            }
        };
        Ok((key, value))
    }

    /// A name with its `=` or `@=`.
    fn name(&mut self) -> Result<String> {
        let start = self.at;
        while self.current().is_some_and(|c| c.is_ascii_alphanumeric() || "-_.#/:".contains(c)) {
            self.at += 1;
        }
        let key = self.chars[start..self.at].iter().collect();
        self.blanks();
        self.from_file = self.current() == Some('@');
        if self.from_file {
            self.at += 1;
        }
        self.expect('=', true)?;
        Ok(key)
    }

    /// One value, or several with commas between them.
    fn values(&mut self) -> Result<Value> {
        let first = self.value()?;
        self.blanks();
        if self.current() != Some(',') {
            return Ok(Value::Text(first));
        }
        self.expect(',', true)?;
        let mut items = vec![first];
        loop {
            match self.further() {
                Ok(more) => {
                    items.push(more);
                    if self.at_end() {
                        break;
                    }
                    self.expect(',', true)?;
                }
                Err(fault @ (ShorthandFault::TooLarge | ShorthandFault::File(_))) => return Err(fault),
                Err(fault) if self.at_end() => return Err(fault),
                Err(ShorthandFault::Expected { .. } | ShorthandFault::Twice { .. }) => {
                    // That was the next pair: it starts after the comma before this place.
                    while self.at > 0 && self.current() != Some(',') {
                        self.at -= 1;
                    }
                    break;
                }
            }
        }
        Ok(match <[String; 1]>::try_from(items) {
            Ok([only]) => Value::Text(only),
            Err(items) => Value::List(items.into_iter().map(Value::Text).collect()),
        })
    }

    /// One more value, which must be followed by a comma or the end.
    fn further(&mut self) -> Result<String> {
        let value = match self.current() {
            Some('\'' | '"') => self.quoted()?,
            _ => {
                let Some(raw) = self.word(is_second_follow) else { return Err(self.unexpected("<second>", "<none>")) };
                self.resolved(raw)?
            }
        };
        self.blanks();
        match self.current() {
            None | Some(',') => Ok(value),
            Some(other) => Err(self.unexpected(",", &other.to_string())),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value> {
        self.enter(depth)?;
        self.expect('[', true)?;
        let mut items = Vec::new();
        while self.current() != Some(']') {
            items.push(self.inner(depth)?);
            self.separator(']')?;
        }
        self.expect(']', false)?;
        Ok(Value::List(items))
    }

    fn hash(&mut self, depth: usize) -> Result<Value> {
        self.enter(depth)?;
        self.expect('{', true)?;
        let mut members = Map::new();
        while self.current() != Some('}') {
            let key = self.name()?;
            let value = self.inner(depth)?;
            self.separator('}')?;
            members.insert(key, value);
        }
        self.expect('}', false)?;
        Ok(Value::Map(Box::new(members)))
    }

    fn inner(&mut self, depth: usize) -> Result<Value> {
        match self.current() {
            Some('[') => self.list(depth + 1),
            Some('{') => self.hash(depth + 1),
            _ => self.value().map(Value::Text),
        }
    }

    fn separator(&mut self, end: char) -> Result<()> {
        self.blanks();
        if self.current() != Some(end) {
            self.expect(',', false)?;
            self.blanks();
        }
        Ok(())
    }

    fn enter(&self, depth: usize) -> Result<()> {
        if depth < DEPTH_MAX { Ok(()) } else { Err(ShorthandFault::TooLarge) }
    }

    fn value(&mut self) -> Result<String> {
        match self.current() {
            Some('\'' | '"') => self.quoted(),
            _ => match self.word(is_first_follow) {
                None => Ok(String::new()),
                Some(raw) => self.resolved(raw),
            },
        }
    }

    /// Text in quotes; a backslash before the quote or another backslash stands for that character.
    fn quoted(&mut self) -> Result<String> {
        let Some(quote) = self.current() else { return Ok(String::new()) };
        // A quote is escaped when a backslash stands directly before it, even if that one is escaped itself, unless
        // no other quote follows: the aws CLI takes the longest reading that closes.
        let mut close = None;
        let mut at = self.at + 1;
        while let Some(c) = self.chars.get(at) {
            if *c == quote {
                close = Some(at);
                if self.chars[at - 1] != '\\' {
                    break;
                }
            }
            at += 1;
        }
        let Some(close) = close else {
            let name = if quote == '\'' { "<singled quoted>" } else { "<double quoted>" };
            return Err(self.unexpected(name, "<none>"));
        };
        let raw: String = self.chars[self.at + 1..close].iter().collect();
        self.at = close + 1;
        self.resolve(raw.replace(&format!("\\{quote}"), &quote.to_string()).replace("\\\\", "\\"))
    }

    /// Characters up to one that ends a word; `\,` stands for a comma. `None` when no word starts here.
    fn word(&mut self, follows: fn(char) -> bool) -> Option<String> {
        let start = self.at;
        let mut at = self.at;
        loop {
            match (self.chars.get(at), self.chars.get(at + 1)) {
                (Some('\\'), Some(',')) => at += 2,
                (Some(c), _) if at == start && is_start(*c) => at += 1,
                (Some(c), _) if at > start && follows(*c) => at += 1,
                _ => break,
            }
        }
        self.at = at;
        (at > start).then(|| self.chars[start..at].iter().collect())
    }

    fn resolved(&self, raw: String) -> Result<String> {
        self.resolve(raw.replace("\\,", ",").trim_end().to_owned())
    }

    fn resolve(&self, text: String) -> Result<String> {
        if !self.from_file {
            return Ok(text);
        }
        match (self.file)(&text) {
            Ok(content) => Ok(content.unwrap_or(text)),
            Err(error) => Err(ShorthandFault::File(error)),
        }
    }

    fn expect(&mut self, wanted: char, blanks: bool) -> Result<()> {
        if blanks {
            self.blanks();
        }
        match self.current() {
            Some(c) if c == wanted => self.at += 1,
            Some(c) => return Err(self.unexpected(&wanted.to_string(), &c.to_string())),
            None => return Err(self.unexpected(&wanted.to_string(), "EOF")),
        }
        if blanks {
            self.blanks();
        }
        Ok(())
    }

    fn unexpected(&self, expected: &str, actual: &str) -> ShorthandFault {
        let place = self.place(self.at);
        ShorthandFault::Expected { expected: expected.to_owned(), actual: actual.to_owned(), place }
    }

    /// The text with a mark below the character `at`, in its own line.
    fn place(&self, at: usize) -> String {
        let at = at.min(self.chars.len());
        let column = at - self.chars[..at].iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1);
        let end = self.chars[at..].iter().position(|c| *c == '\n').map_or(self.chars.len(), |offset| at + offset);
        let part = |range: &[char]| range.iter().collect::<String>();
        format!("{}\n{}^{}", part(&self.chars[..end]), " ".repeat(column), part(&self.chars[end..]))
    }

    fn current(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn at_end(&self) -> bool {
        self.at >= self.chars.len()
    }

    fn blanks(&mut self) {
        while self.current().is_some_and(is_blank) {
            self.at += 1;
        }
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

/// Python's idea of a blank, which knows four separators more.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// What a word can start with.
fn is_start(c: char) -> bool {
    c > ' ' && !matches!(c, '"' | '\'' | ',' | '=' | '[' | '{') && in_plane(c)
}

/// What a first value can go on with: it may hold blanks and equals signs.
fn is_first_follow(c: char) -> bool {
    (is_space(c) || c > ' ') && !matches!(c, '"' | '\'' | ',' | ']' | '}') && in_plane(c)
}

/// What a further value can go on with: brackets may be in it, an equals sign would make it a name.
fn is_second_follow(c: char) -> bool {
    (is_space(c) || c > ' ') && !matches!(c, '"' | '\'' | ',' | '=') && in_plane(c)
}

/// The grammar knows the first 65,536 characters only; others need quotes.
fn in_plane(c: char) -> bool {
    u32::from(c) <= 0xffff
}

#[cfg(test)]
mod tests {
    use super::super::value::Json;
    use super::*;
    use proptest::prelude::*;

    fn no_file(_text: &str) -> Result<Option<String>, String> {
        Ok(None)
    }

    fn parsed(text: &str) -> String {
        match parse(text, &no_file) {
            Ok(map) => Value::Map(Box::new(map)).to_json(Json::Tight),
            Err(fault) => fault.to_string(),
        }
    }

    /// The results of aws-cli 1.46.3 for the same texts.
    #[test]
    fn the_awss_own_readings() {
        for (text, json) in [
            ("foo=bar", r#"{"foo":"bar"}"#),
            ("foo=", r#"{"foo":""}"#),
            ("foo=bar,baz=qux", r#"{"foo":"bar","baz":"qux"}"#),
            ("foo=a,b,c", r#"{"foo":["a","b","c"]}"#),
            ("foo=a,b,c,bar=d,e,baz=f", r#"{"foo":["a","b","c"],"bar":["d","e"],"baz":"f"}"#),
            ("foo=[a,b],bar=[c]", r#"{"foo":["a","b"],"bar":["c"]}"#),
            ("foo=[]", r#"{"foo":[]}"#),
            ("foo=[[a],[b,[c]]]", r#"{"foo":[["a"],["b",["c"]]]}"#),
            ("foo={a=b,c={d=e}}", r#"{"foo":{"a":"b","c":{"d":"e"}}}"#),
            ("foo=[{a=b},{a=c}]", r#"{"foo":[{"a":"b"},{"a":"c"}]}"#),
            ("foo='a,b'", r#"{"foo":"a,b"}"#),
            (r"foo='it\'s'", r#"{"foo":"it's"}"#),
            (r#"foo="a\"b""#, r#"{"foo":"a\"b"}"#),
            (r"foo=a\,b", r#"{"foo":"a,b"}"#),
            (r"foo=a\,b,c", r#"{"foo":["a,b","c"]}"#),
            ("foo = bar , baz = qux", r#"{"foo":"bar","baz":"qux"}"#),
            ("foo=a b c", r#"{"foo":"a b c"}"#),
            ("foo=bar=baz", r#"{"foo":"bar=baz"}"#),
            (
                "key=Owner,value=arn:aws:sts::1:assumed-role/A/B",
                r#"{"key":"Owner","value":"arn:aws:sts::1:assumed-role/A/B"}"#,
            ),
            ("a=[b,c],d={e=f}", r#"{"a":["b","c"],"d":{"e":"f"}}"#),
            ("foo=a,'b,c',d", r#"{"foo":["a","b,c","d"]}"#),
            ("a.b#c/d:e-f_g=1", r#"{"a.b#c/d:e-f_g":"1"}"#),
            ("foo=ünïcode", r#"{"foo":"\u00fcn\u00efcode"}"#),
            ("=x", r#"{"":"x"}"#),
            ("foo=]x", r#"{"foo":"]x"}"#),
        ] {
            assert_eq!(parsed(text), json, "{text}");
        }
    }

    /// The texts of aws-cli 1.46.3 and 2.9.19 for the same input.
    #[test]
    fn faults_show_the_place() {
        for (text, fault) in [
            ("", "Expected: '=', received: 'EOF' for input:\n\n^"),
            ("foo", "Expected: '=', received: 'EOF' for input:\nfoo\n   ^"),
            ("foo=bar,", "Expected: '<second>', received: '<none>' for input:\nfoo=bar,\n        ^"),
            (
                "key=a,value='x",
                "Expected: '<singled quoted>', received: '<none>' for input:\nkey=a,value='x\n            ^",
            ),
            ("foo=[a", "Expected: ',', received: 'EOF' for input:\nfoo=[a\n      ^"),
            ("foo==bar,\nbar=baz", "Expected: ',', received: '=' for input:\nfoo==bar,\n    ^\nbar=baz"),
            (
                "key=A,key=B",
                "Second instance of key \"key\" encountered for input:\nkey=A,key=B\n      ^\nThis is often because there \
                 is a preceding \",\" instead of a space.",
            ),
        ] {
            assert_eq!(parsed(text), fault, "{text}");
        }
    }

    #[test]
    fn files_are_read_only_where_the_text_says_so() {
        let file = |text: &str| match text.strip_prefix("file://") {
            None => Ok(None),
            Some("gone") => Err("it is gone".to_owned()),
            Some(name) => Ok(Some(format!("<{name}>"))),
        };
        let map = parse("a@=file://x,b=file://y,c@=z", &file).expect("shorthand");
        assert_eq!(Value::Map(Box::new(map)).to_json(Json::Tight), r#"{"a":"<x>","b":"file://y","c":"z"}"#);
        assert_eq!(parse("a@=file://gone", &file), Err(ShorthandFault::File("it is gone".to_owned())));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        assert_eq!(parse(&format!("a={}", "[".repeat(DEPTH_MAX + 1)), &no_file), Err(ShorthandFault::TooLarge));
        assert_eq!(parse(&format!("a={}", "{b=".repeat(DEPTH_MAX + 1)), &no_file), Err(ShorthandFault::TooLarge));
        assert_eq!(parse(&"a".repeat(CHARS_MAX + 1), &no_file), Err(ShorthandFault::TooLarge));
    }

    /// A value in the short form, always with quotes and brackets.
    fn written(value: &Value) -> String {
        match value {
            Value::List(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(",")),
            Value::Map(members) => {
                let pairs: Vec<String> =
                    members.iter().map(|(key, value)| format!("{key}={}", written(value))).collect();
                format!("{{{}}}", pairs.join(","))
            }
            other => format!("'{}'", other.to_str()),
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        // A backslash before a quote has a meaning of its own.
        let leaf = "[^'\\\\]{0,8}".prop_map(Value::Text);
        leaf.prop_recursive(4, 24, 4, |inner| {
            let pairs = proptest::collection::vec(("[a-z]{1,4}", inner.clone()), 0..4);
            prop_oneof![proptest::collection::vec(inner, 0..4).prop_map(Value::List), pairs.prop_map(Value::map)]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in values()) {
            let map = parse(&format!("top={}", written(&value)), &no_file).expect("shorthand");
            prop_assert_eq!(&map["top"], &value);
        }

        #[test]
        fn no_text_is_too_strange(text in any::<String>(), pieces in "[a=,{}\\[\\]'\"@ \\\\]{0,40}") {
            for text in [text, pieces] {
                if let Err(fault) = parse(&text, &no_file) {
                    prop_assert!(!fault.to_string().is_empty());
                }
            }
        }
    }
}
