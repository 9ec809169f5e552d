//! Values as YAML, as `aws --output yaml` of the second generation writes them: sorted members, block style, text plain
//! where YAML 1.2 would read it back as text, else in single quotes, else in double quotes; lines of 80 columns.

use ravelin_aws::client::value::{Json, Value, float};
use std::fmt::Write;

/// Columns after which text is broken at the next blank.
const WIDTH: usize = 80;

/// The document of a value.
pub(super) fn yaml(value: &Value) -> String {
    if value.is_scalar() {
        return value.to_json(Json::Pretty) + "\n";
    }
    let mut writer = Writer { out: String::new(), column: 0 };
    writer.node(value, 0, false);
    if writer.column > 0 {
        writer.line();
    }
    writer.out
}

struct Writer {
    out: String,
    column: usize,
}

impl Writer {
    /// Writes a value; `started` says that the line holds a mark of a list or a name already.
    fn node(&mut self, value: &Value, indent: usize, started: bool) {
        match value {
            Value::List(items) if items.is_empty() => self.put("[]"),
            Value::Map(members) if members.is_empty() => self.put("{}"),
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if index > 0 || !started {
                        self.start(indent);
                    }
                    self.put("- ");
                    self.node(item, indent + 2, true);
                }
            }
            Value::Map(members) => {
                let mut names: Vec<&String> = members.keys().collect();
                names.sort_unstable();
                for (index, name) in names.into_iter().enumerate() {
                    if index > 0 || !started {
                        self.start(indent);
                    }
                    self.text(name, indent, true);
                    self.put(":");
                    match &members[name] {
                        // A list inside an object stands as far left as the object's names.
                        list @ Value::List(items) if !items.is_empty() => self.node(list, indent, false),
                        map @ Value::Map(inner) if !inner.is_empty() => self.node(map, indent + 2, false),
                        other => {
                            self.put(" ");
                            self.node(other, indent + 2, true);
                        }
                    }
                }
            }
            Value::Null => self.put("null"),
            Value::Bool(yes) => self.put(if *yes { "true" } else { "false" }),
            Value::Int(number) => self.put(&number.to_string()),
            Value::Float(number) => self.put(&float(*number)),
            Value::Text(text) => self.text(text, indent, false),
        }
    }

    fn put(&mut self, text: &str) {
        self.column += text.chars().count();
        self.out.push_str(text);
    }

    fn line(&mut self) {
        self.out.push('\n');
        self.column = 0;
    }

    /// Begins a line, unless one has just begun.
    fn start(&mut self, indent: usize) {
        if self.column > 0 {
            self.line();
        }
        self.put(&" ".repeat(indent));
    }

    /// Breaks a text's line.
    fn wrap(&mut self, indent: usize) {
        self.line();
        self.put(&" ".repeat(indent));
    }

    fn text(&mut self, text: &str, indent: usize, name: bool) {
        match style(text, name) {
            Style::Plain => self.plain(text, indent, !name),
            Style::Single => self.single(text, indent, !name),
            Style::Double => self.double(text, indent, !name),
        }
    }

    fn plain(&mut self, text: &str, indent: usize, breaks: bool) {
        let mut spaced = false;
        let chars: Vec<char> = text.chars().collect();
        for (index, c) in chars.iter().enumerate() {
            let more = chars.get(index + 1);
            if *c == ' ' && breaks && !spaced && self.column > WIDTH && more.is_some_and(|c| *c != ' ') {
                self.wrap(indent);
            } else {
                self.put(c.encode_utf8(&mut [0; 4]));
            }
            spaced = *c == ' ';
        }
    }

    fn single(&mut self, text: &str, indent: usize, breaks: bool) {
        self.put("'");
        let (mut spaced, mut broken) = (false, false);
        let chars: Vec<char> = text.chars().collect();
        for (index, c) in chars.iter().enumerate() {
            let next = chars.get(index + 1);
            match c {
                ' ' => {
                    let inside = index > 0 && next.is_some_and(|c| *c != ' ');
                    if breaks && !spaced && self.column > WIDTH && inside {
                        self.wrap(indent);
                    } else {
                        self.put(" ");
                    }
                    spaced = true;
                }
                c if is_break(*c) => {
                    if !broken && *c == '\n' {
                        self.line();
                    }
                    if *c == '\n' {
                        self.line()
                    } else {
                        self.put(c.encode_utf8(&mut [0; 4]))
                    }
                    broken = true;
                    continue;
                }
                c => {
                    if broken {
                        self.put(&" ".repeat(indent));
                    }
                    if *c == '\'' {
                        self.put("'");
                    }
                    self.put(c.encode_utf8(&mut [0; 4]));
                    spaced = false;
                }
            }
            broken = false;
        }
        if broken {
            self.put(&" ".repeat(indent));
        }
        self.put("'");
    }

    fn double(&mut self, text: &str, indent: usize, breaks: bool) {
        self.put("\"");
        let mut spaced = false;
        let chars: Vec<char> = text.chars().collect();
        for (index, c) in chars.iter().enumerate() {
            match c {
                ' ' => {
                    let inside = index > 0 && index + 1 < chars.len();
                    if breaks && !spaced && self.column > WIDTH && inside {
                        self.wrap(indent);
                        if chars[index + 1] == ' ' {
                            self.put("\\");
                        }
                    } else {
                        self.put(" ");
                    }
                    spaced = true;
                }
                c => {
                    self.escaped(*c);
                    spaced = false;
                }
            }
        }
        self.put("\"");
    }

    fn escaped(&mut self, c: char) {
        if is_printable(c) && !is_break(c) && c != '"' && c != '\\' {
            return self.put(c.encode_utf8(&mut [0; 4]));
        }
        let short = match c {
            '\0' => "\\0",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\t' => "\\t",
            '\n' => "\\n",
            '\u{b}' => "\\v",
            '\u{c}' => "\\f",
            '\r' => "\\r",
            '\u{1b}' => "\\e",
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{85}' => "\\N",
            '\u{2028}' => "\\L",
            '\u{2029}' => "\\P",
            _ => "",
        };
        if !short.is_empty() {
            return self.put(short);
        }
        let code = u32::from(c);
        let mut text = String::new();
        // Writing to a `String` cannot fail.
        let _infallible = match code {
            0..=0xff => write!(text, "\\x{code:02X}"),
            0x100..=0xffff => write!(text, "\\u{code:04X}"),
            _ => write!(text, "\\U{code:08X}"),
        };
        self.put(&text);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
}

fn is_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// What libyaml writes as it is; it escapes all beyond the first 65,536 characters.
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fefe}' | '\u{ff00}'..='\u{fffd}')
}

/// The least form that keeps a text what it is.
fn style(text: &str, name: bool) -> Style {
    if text.is_empty() {
        return Style::Single;
    }
    let chars: Vec<char> = text.chars().collect();
    let (mut marks, mut special, mut breaks) = (text.starts_with("---") || text.starts_with("..."), false, false);
    let (mut break_space, mut space_break) = (false, false);
    for (index, c) in chars.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|at| chars.get(at));
        let after = chars.get(index + 1);
        let blank_after = after.is_none_or(|c| *c == ' ' || *c == '\t' || is_break(*c));
        let blank_before = before.is_none_or(|c| *c == ' ' || *c == '\t' || is_break(*c));
        marks |= match c {
            '#' if index == 0 => true,
            ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%' | '@' | '`' => index == 0,
            '-' | '?' => index == 0 && blank_after,
            ':' => blank_after,
            '#' => blank_before,
            _ => false,
        };
        special |= !is_printable(*c);
        breaks |= is_break(*c);
        break_space |= *c == ' ' && before.is_some_and(|c| is_break(*c));
        space_break |= is_break(*c) && before == Some(&' ');
    }
    let edge = |c: Option<&char>| c.is_some_and(|c| *c == ' ' || is_break(*c));
    if special || break_space || space_break || (name && breaks) {
        return Style::Double;
    }
    if marks || breaks || edge(chars.first()) || edge(chars.last()) || !reads_as_text(text) {
        return Style::Single;
    }
    Style::Plain
}

/// Whether a plain word is text to YAML 1.2, and no number, date, truth or nothing.
fn reads_as_text(text: &str) -> bool {
    let word = matches!(
        text,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" | "~" | "null" | "Null" | "NULL" | "=" | "<<"
    );
    !(word || is_integer(text) || is_float(text) || is_date(text))
}

fn unsigned(text: &str) -> &str {
    text.strip_prefix(['-', '+']).unwrap_or(text)
}

fn all(text: &str, test: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(test)
}

fn is_integer(text: &str) -> bool {
    let body = unsigned(text);
    let after = |prefix: &str, test: fn(char) -> bool| body.strip_prefix(prefix).is_some_and(|rest| all(rest, test));
    after("0b", |c| matches!(c, '0' | '1' | '_'))
        || after("0o", |c| matches!(c, '0'..='7' | '_'))
        || after("0x", |c| c.is_ascii_hexdigit() || c == '_')
        // A word that starts with `_` is looked up nowhere, so it is text.
        || (all(body, |c| c.is_ascii_digit() || c == '_') && !text.starts_with('_'))
}

fn is_float(text: &str) -> bool {
    let body = unsigned(text);
    if matches!(body, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let (number, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], Some(&body[at + 1..])),
        None => (body, None),
    };
    if exponent.is_some_and(|exponent| !all(unsigned(exponent), |c| c.is_ascii_digit())) {
        return false;
    }
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || c == '_');
    match number.split_once('.') {
        Some(("", fraction)) => fraction.starts_with(|c: char| c.is_ascii_digit() || c == '_') && digits(fraction),
        Some((whole, fraction)) => whole.starts_with(|c: char| c.is_ascii_digit()) && digits(whole) && digits(fraction),
        None => exponent.is_some() && number.starts_with(|c: char| c.is_ascii_digit()) && digits(number),
    }
}

/// `2001-12-14` and `2001-12-14t21:59:43.10-05:00` with its variants.
fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |from: usize, count: usize| {
        bytes.get(from..from + count).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
    };
    if !(digits(0, 4) && bytes.get(4) == Some(&b'-')) {
        return false;
    }
    if bytes.len() == 10 && digits(5, 2) && bytes[7] == b'-' && digits(8, 2) {
        return true;
    }
    let Some((date, time)) = text.find(['T', 't', ' ', '\t']).map(|at| text.split_at(at)) else { return false };
    let mut parts = date.split('-').skip(1);
    let short = |part: Option<&str>| {
        part.is_some_and(|part| (1..=2).contains(&part.len()) && all(part, |c| c.is_ascii_digit()))
    };
    if !(short(parts.next()) && short(parts.next()) && parts.next().is_none()) {
        return false;
    }
    let time = match time.strip_prefix(['T', 't']) {
        Some(time) => time,
        None => time.trim_start_matches([' ', '\t']),
    };
    let end = time.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(time.len());
    let (clock, mut zone) = time.split_at(end);
    let clock: Vec<&str> = clock.split(':').collect();
    let clock_fits = match clock[..] {
        [hour, minute, second] => {
            (1..=2).contains(&hour.len())
                && hour.bytes().all(|b| b.is_ascii_digit())
                && minute.len() == 2
                && second.len() == 2
        }
        _ => false,
    };
    if !clock_fits {
        return false;
    }
    if let Some(rest) = zone.strip_prefix('.') {
        zone = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone = zone.trim_start_matches([' ', '\t']);
    let offset = zone.strip_prefix(['-', '+']).is_some_and(|offset| {
        let mut parts = offset.split(':');
        short(parts.next())
            && parts.next().is_none_or(|minutes| minutes.len() == 2 && all(minutes, |c| c.is_ascii_digit()))
            && parts.next().is_none()
    });
    zone.is_empty() || zone == "Z" || offset
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        yaml(&Value::parse(json.as_bytes()).expect("JSON"))
    }

    /// Written by aws-cli 2.9.19 for the same values.
    #[test]
    fn documents_are_those_of_the_aws_cli() {
        assert_eq!(
            shown(
                r#"{"Sessions":[{"SessionId":"a","StartDate":"2019-02-20T15:35:38.352000+00:00","OutputUrl":{}},{"SessionId":"b","MaxSessionDuration":"60","Reason":"ä \"x\" <b> \u2028","OutputUrl":{"S3OutputUrl":"https://x/y","CloudWatchOutputUrl":"cw"},"Details":"line\ttab"}],"NextToken":"p2"}"#
            ),
            "\
NextToken: p2
Sessions:
- OutputUrl: {}
  SessionId: a
  StartDate: '2019-02-20T15:35:38.352000+00:00'
- Details: \"line\\ttab\"
  MaxSessionDuration: '60'
  OutputUrl:
    CloudWatchOutputUrl: cw
    S3OutputUrl: https://x/y
  Reason: \"ä \\\"x\\\" <b> \\L\"
  SessionId: b
"
        );
        assert_eq!(
            shown(r#"[1,null,true,1.5,"","a b",[],{},[[1]]]"#),
            "- 1\n- null\n- true\n- 1.5\n- ''\n- a b\n- []\n- {}\n- - - 1\n"
        );
        assert_eq!(shown(r#"{"a":1,"b":[1,2],"c":[{"x":1,"y":[]}]}"#), "a: 1\nb:\n- 1\n- 2\nc:\n- x: 1\n  y: []\n");
        assert_eq!(shown("5"), "5\n");
        assert_eq!(shown(r#""x: y""#), "\"x: y\"\n");
    }

    /// `golden/yaml.tsv` holds values and what ruamel.yaml 0.17.21, which aws-cli 2.9.19 writes YAML with, made of them.
    #[test]
    fn texts_are_quoted_broken_and_escaped_as_the_aws_cli_does() {
        let mut wrong = Vec::new();
        for line in include_str!("golden/yaml.tsv").lines() {
            let (value, wanted) = line.split_once('\t').expect("two columns");
            let wanted: String = serde_json::from_str(wanted).expect("JSON text");
            let ours = shown(value);
            if ours != wanted {
                wrong.push(format!("{value}: {ours:?} and not {wanted:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
