//! JSON values that keep the order of their members, and how Python writes them.
//!
//! AWS's command line is a Python program: what it prints follows Python's `json`, `str` and `repr`. Scripts compare those
//! bytes, so this file writes the same ones.

use super::json::{self, JsonFault};
use indexmap::IndexMap;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt::{self, Write};

/// Values in one document at most.
pub const VALUES_MAX: usize = 1_000_000;

/// Members in the order in which they came.
pub type Map = IndexMap<String, Value>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number without fraction and exponent.
    Int(i128),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Value>),
    /// An object.
    Map(Box<Map>),
}

/// How JSON is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Json {
    /// Four blanks per level, text as it is: what is printed.
    Pretty,
    /// One line with a blank after each separator, all but ASCII escaped: what is inside a token.
    Line,
    /// One line without blanks, all but ASCII escaped.
    Tight,
}

impl Value {
    /// Reads one JSON document.
    ///
    /// # Errors
    /// When it is none, is nested deeper than [`json::DEPTH_MAX`] levels, or holds more than [`VALUES_MAX`] values.
    pub fn parse(text: &[u8]) -> Result<Value, JsonFault> {
        json::parse(text)
    }

    /// Text.
    pub fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// An object.
    pub fn map(members: impl IntoIterator<Item = (String, Value)>) -> Value {
        Value::Map(Box::new(members.into_iter().collect()))
    }

    /// The text, when it is text.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The items, when it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::Map(_) => None,
        }
    }

    /// The members, when it is an object.
    #[must_use]
    pub fn as_map(&self) -> Option<&Map> {
        match self {
            Value::Map(members) => Some(members),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) | Value::List(_) => None,
        }
    }

    /// Whether it is neither a list nor an object.
    #[must_use]
    pub fn is_scalar(&self) -> bool {
        self.as_list().is_none() && self.as_map().is_none()
    }

    /// Whether Python takes it for true.
    #[must_use]
    pub fn is_truthy(&self) -> bool {
        match self {
            Value::Null => false,
            Value::Bool(yes) => *yes,
            Value::Int(number) => *number != 0,
            Value::Float(number) => *number != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(members) => !members.is_empty(),
        }
    }

    /// The value as JSON.
    #[must_use]
    pub fn to_json(&self, style: Json) -> String {
        let mut out = String::new();
        write_json(self, style, 0, &mut out);
        out
    }

    /// The value as Python's `str` writes it.
    #[must_use]
    pub fn to_str(&self) -> String {
        match self {
            Value::Text(text) => text.clone(),
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::List(_) | Value::Map(_) => {
                self.to_repr()
            }
        }
    }

    /// The value as Python's `repr` writes it.
    #[must_use]
    pub fn to_repr(&self) -> String {
        let mut out = String::new();
        write_repr(self, &mut out);
        out
    }

    /// The name of its type in Python.
    #[must_use]
    pub fn python_type(&self) -> &'static str {
        match self {
            Value::Null => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Text(_) => "str",
            Value::List(_) => "list",
            Value::Map(_) => "dict",
        }
    }
}

fn write_json(value: &Value, style: Json, depth: usize, out: &mut String) {
    let (comma, colon) = match style {
        Json::Pretty => (",", ": "),
        Json::Line => (", ", ": "),
        Json::Tight => (",", ":"),
    };
    let line = |depth: usize, out: &mut String| {
        if style == Json::Pretty {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str("    "));
        }
    };
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(yes) => out.push_str(if *yes { "true" } else { "false" }),
        Value::Int(number) => push(out, format_args!("{number}")),
        Value::Float(number) => out.push_str(&float(*number)),
        Value::Text(text) => write_json_text(text, style, out),
        Value::List(items) if items.is_empty() => out.push_str("[]"),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(comma);
                }
                line(depth + 1, out);
                write_json(item, style, depth + 1, out);
            }
            line(depth, out);
            out.push(']');
        }
        Value::Map(members) if members.is_empty() => out.push_str("{}"),
        Value::Map(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push_str(comma);
                }
                line(depth + 1, out);
                write_json_text(name, style, out);
                out.push_str(colon);
                write_json(member, style, depth + 1, out);
            }
            line(depth, out);
            out.push('}');
        }
    }
}

fn write_json_text(text: &str, style: Json, out: &mut String) {
    let ascii = match style {
        Json::Pretty => false,
        Json::Line | Json::Tight => true,
    };
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && c > '~') => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    push(out, format_args!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A number as Python's `repr` writes it: the shortest digits that read back as the same number.
#[must_use]
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned();
    }
    let scientific = format!("{number:e}");
    // Rust writes `d.ddde-7`; both parts are always there.
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{number}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

fn write_repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(yes) => out.push_str(if *yes { "True" } else { "False" }),
        Value::Int(number) => push(out, format_args!("{number}")),
        Value::Float(number) if number.is_finite() => out.push_str(&float(*number)),
        // Here Python has other words than in JSON: `inf`, `-inf`, `nan`.
        Value::Float(number) => out.push_str(&number.to_string().to_lowercase()),
        Value::Text(text) => repr_text(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(item, out);
            }
            out.push(']');
        }
        Value::Map(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                repr_text(name, out);
                out.push_str(": ");
                write_repr(member, out);
            }
            out.push('}');
        }
    }
}

fn repr_text(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c < ' ' || ('\u{7f}'..='\u{a0}').contains(&c) || c == '\u{ad}' => {
                push(out, format_args!("\\x{:02x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Bytes as Python's `repr` writes them.
#[must_use]
pub fn repr_bytes(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            byte if char::from(*byte) == quote => {
                out.push('\\');
                out.push(quote);
            }
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => push(&mut out, format_args!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

/// Writing to a `String` cannot fail.
fn push(out: &mut String, text: fmt::Arguments<'_>) {
    let _infallible = out.write_fmt(text);
}

/// Reads a value as long as there are any left.
#[derive(Clone, Copy)]
struct Seed<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.0.get().checked_sub(1) else {
            return Err(de::Error::custom(format_args!("it holds more than {VALUES_MAX} values")));
        };
        self.0.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(i128::from(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Int(i128::from(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let member = map.next_value_seed(self)?;
            members.insert(name, member);
        }
        Ok(Value::Map(Box::new(members)))
    }
}

impl<'de> de::Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Seed(&Cell::new(VALUES_MAX)).deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Value {
        Value::parse(text.as_bytes()).expect("JSON")
    }

    #[test]
    fn numbers_print_as_python_prints_them() {
        for (number, text) in [
            (1_550_676_938.352, "1550676938.352"),
            (1_550_676_842.0, "1550676842.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-0.0, "-0.0"),
            (1.5e300, "1.5e+300"),
        ] {
            assert_eq!(float(number), text);
        }
    }

    #[test]
    fn members_keep_their_order_and_the_last_of_two_stands_in_the_place_of_the_first() {
        assert_eq!(parsed(r#"{"b":1,"a":2,"b":3}"#).to_json(Json::Line), r#"{"b": 3, "a": 2}"#);
    }

    #[test]
    fn each_style_is_pythons() {
        let value = parsed(r#"{"a":["ä\u2028\u0001\"\\",1,2.50,null,true,[],{}],"😀":{}}"#);
        assert_eq!(
            value.to_json(Json::Pretty),
            "{\n    \"a\": [\n        \"ä\u{2028}\\u0001\\\"\\\\\",\n        1,\n        2.5,\n        null,\n        true,\n        \
             [],\n        {}\n    ],\n    \"😀\": {}\n}"
        );
        assert_eq!(
            value.to_json(Json::Tight),
            r#"{"a":["\u00e4\u2028\u0001\"\\",1,2.5,null,true,[],{}],"\ud83d\ude00":{}}"#
        );
        assert_eq!(value.to_repr(), "{'a': ['ä\u{2028}\\x01\"\\\\', 1, 2.5, None, True, [], {}], '😀': {}}");
        assert_eq!(parsed(r#""it's""#).to_repr(), "\"it's\"");
        assert_eq!(repr_bytes(b"a'\xff\n"), "b\"a'\\xff\\n\"");
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused() {
        assert!(Value::parse("[".repeat(200).as_bytes()).is_err());
        let many = format!("[{}0]", "0,".repeat(VALUES_MAX));
        assert!(Value::parse(many.as_bytes()).expect_err("too many").to_string().contains("more than"));
        assert!(Value::parse(b"1 2").is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_written_reads_back(text in any::<String>(), number in any::<i64>(), fraction in -1e300..1e300f64) {
            let value = Value::map([
                (text.clone(), Value::List(vec![Value::Int(i128::from(number)), Value::Float(fraction)])),
                (format!("{text}x"), Value::text(text)),
            ]);
            for style in [Json::Pretty, Json::Line, Json::Tight] {
                prop_assert_eq!(&Value::parse(value.to_json(style).as_bytes()).expect("JSON"), &value);
            }
        }
    }
}
