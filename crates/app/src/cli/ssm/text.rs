//! Values as tab-separated text, as `aws --output text` writes them.

use ravelin_aws::client::value::{Map, Value};
use std::collections::BTreeSet;

/// The lines of a value.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    write(value, None, None, &mut out);
    out
}

/// `columns` are the names that every line of a list of objects has a place for.
fn write(value: &Value, name: Option<&str>, columns: Option<&BTreeSet<&str>>, out: &mut String) {
    match value {
        Value::Map(members) => object(members, name, columns, out),
        Value::List(items) => list(items, name, out),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {
            out.push_str(&value.to_str());
            out.push('\n');
        }
    }
}

fn list(items: &[Value], name: Option<&str>, out: &mut String) {
    if items.iter().any(|item| item.as_map().is_some()) {
        let columns: BTreeSet<&str> = items
            .iter()
            .filter_map(Value::as_map)
            .flat_map(|members| members.iter().filter(|(_, value)| value.is_scalar()).map(|(name, _)| name.as_str()))
            .collect();
        for item in items {
            write(item, name, Some(&columns), out);
        }
    } else if items.iter().any(|item| item.as_list().is_some()) {
        let (plain, lists): (Vec<&Value>, Vec<&Value>) = items.iter().partition(|item| item.is_scalar());
        if !plain.is_empty() {
            plain_list(plain.into_iter(), name, out);
        }
        for inner in lists {
            write(inner, name, None, out);
        }
    } else if !items.is_empty() {
        plain_list(items.iter(), name, out);
    }
}

fn plain_list<'a>(items: impl Iterator<Item = &'a Value>, name: Option<&str>, out: &mut String) {
    match name {
        Some(name) => {
            for item in items {
                line([name.to_uppercase(), item.to_str()], out);
            }
        }
        None => line(items.map(Value::to_str), out),
    }
}

fn object(members: &Map, name: Option<&str>, columns: Option<&BTreeSet<&str>>, out: &mut String) {
    let mut names: Vec<&str> = members.keys().map(String::as_str).collect();
    names.sort_unstable();
    let mut cells = Vec::new();
    let mut inner = Vec::new();
    match columns {
        None => {
            for name in names {
                match &members[name] {
                    value if value.is_scalar() => cells.push(value.to_str()),
                    value => inner.push((name, value)),
                }
            }
        }
        Some(columns) => {
            cells.extend(columns.iter().map(|name| members.get(*name).map_or_else(String::new, Value::to_str)));
            inner.extend(names.into_iter().filter(|name| !columns.contains(name)).map(|name| (name, &members[name])));
        }
    }
    if !cells.is_empty() {
        line(name.map(str::to_uppercase).into_iter().chain(cells), out);
    }
    for (name, value) in inner {
        write(value, Some(name), None, out);
    }
}

fn line(cells: impl IntoIterator<Item = String>, out: &mut String) {
    for (index, cell) in cells.into_iter().enumerate() {
        if index > 0 {
            out.push('\t');
        }
        out.push_str(&cell);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(json: &str) -> String {
        text(&Value::parse(json.as_bytes()).expect("JSON"))
    }

    /// The lines of aws-cli 1.46.3 for the same values.
    #[test]
    fn lines_are_those_of_the_aws_cli() {
        assert_eq!(
            shown(
                r#"{"Sessions":[{"SessionId":"a","Target":"t","OutputUrl":{}},{"SessionId":"b","Reason":"r","OutputUrl":{"S3OutputUrl":"s","CloudWatchOutputUrl":"c"}}]}"#
            ),
            "SESSIONS\t\ta\tt\nSESSIONS\tr\tb\t\nOUTPUTURL\tc\ts\n"
        );
        assert_eq!(shown(r#"{"NextToken":{"NextToken":"x"}}"#), "NEXTTOKEN\tx\n");
        assert_eq!(shown(r#"{"Sessions":[]}"#), "");
        assert_eq!(shown(r#"{"Sessions":null}"#), "None\n");
        assert_eq!(shown("null"), "None\n");
        assert_eq!(shown("true"), "True\n");
        assert_eq!(shown(r#"["a","b"]"#), "a\tb\n");
        assert_eq!(shown(r#"[["a",1],["b",2.0]]"#), "a\t1\nb\t2.0\n");
        assert_eq!(shown(r#"{"A":["x","y"],"B":1}"#), "1\nA\tx\nA\ty\n");
        assert_eq!(shown("{}"), "");
    }
}
