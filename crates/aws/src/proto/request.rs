//! Bodies of requests: bytes in, [`crate::wire`] requests out.
//!
//! Members that are not known are passed over and `null` is the same as absent, as AWS has it. What is there and has
//! another JSON type is refused with the member's name; whether a value is allowed is asked later, for all at once.
//! Nesting is held by the JSON parser's own limit (128 levels).

use crate::wire;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Why a body cannot be read. The text names the member where one is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// The body of `DescribeSessions`.
///
/// # Errors
/// [`Unreadable`].
pub fn describe_sessions(body: &[u8]) -> Result<wire::DescribeSessionsRequest, Unreadable> {
    let top = members(body)?;
    let filter = |at: usize, value: &Value| {
        let place = format!("Filters[{at}]");
        let filter = value.as_object().ok_or_else(|| unexpected(&place, value, "a structure"))?;
        Ok(wire::SessionFilter {
            key: text(filter, &format!("{place}."), "key")?,
            value: text(filter, &format!("{place}."), "value")?,
        })
    };
    Ok(wire::DescribeSessionsRequest {
        state: text(&top, "", "State")?,
        max_results: integer(&top, "MaxResults")?,
        next_token: text(&top, "", "NextToken")?,
        filters: list(&top, "Filters", filter)?,
    })
}

/// The body of `TerminateSession`.
///
/// # Errors
/// [`Unreadable`].
pub fn terminate_session(body: &[u8]) -> Result<wire::TerminateSessionRequest, Unreadable> {
    Ok(wire::TerminateSessionRequest { session_id: text(&members(body)?, "", "SessionId")? })
}

/// The body of `GetConnectionStatus`.
///
/// # Errors
/// [`Unreadable`].
pub fn connection_status(body: &[u8]) -> Result<wire::GetConnectionStatusRequest, Unreadable> {
    Ok(wire::GetConnectionStatusRequest { target: text(&members(body)?, "", "Target")? })
}

/// The members of a body, read one by one by operations whose requests have many.
pub struct Members(Map<String, Value>);

/// A filter of any operation's: its key, its values, and where it stands, for complaints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `filters.1.member`.
    pub place: String,
    /// As sent; `None` when it is missing.
    pub key: Option<String>,
    /// As sent.
    pub values: Vec<String>,
    /// `Operator`, where the operation has one.
    pub operator: Option<String>,
}

impl Members {
    /// The members of this body.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(body: &[u8]) -> Result<Self, Unreadable> {
        members(body).map(Self)
    }

    /// A text.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn text(&self, name: &str) -> Result<Option<String>, Unreadable> {
        text(&self.0, "", name)
    }

    /// A whole number.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Unreadable> {
        integer(&self.0, name)
    }

    /// Whether the member is there.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| !value.is_null())
    }

    /// A list of texts.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>, Unreadable> {
        list(&self.0, name, |at, value| item_text(&format!("{name}[{at}]"), value))
    }

    /// A map of names to lists of texts, such as `Parameters`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn text_lists(&self, name: &str) -> Result<BTreeMap<String, Vec<String>>, Unreadable> {
        let map = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(BTreeMap::new()),
            Some(Value::Object(map)) => map,
            Some(other) => return Err(unexpected(name, other, "a map")),
        };
        map.iter()
            .map(|(key, value)| {
                let place = format!("{name}.{key}");
                let values = match value {
                    Value::Array(values) => values,
                    other => return Err(unexpected(&place, other, "a list")),
                };
                let texts = values.iter().map(|value| item_text(&place, value)).collect::<Result<_, _>>()?;
                Ok((key.clone(), texts))
            })
            .collect()
    }

    /// A list of `{Key, Value}`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn pairs(&self, name: &str) -> Result<Option<Vec<(String, String)>>, Unreadable> {
        list(&self.0, name, |at, value| {
            let place = format!("{name}[{at}]");
            let pair = value.as_object().ok_or_else(|| unexpected(&place, value, "a structure"))?;
            let of = |member| Ok(text(pair, &format!("{place}."), member)?.unwrap_or_default());
            Ok((of("Key")?, of("Value")?))
        })
    }

    /// A list of filters whose members are spelled `key` and `values` (or `value`) in the operation's own way.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn filters(&self, name: &str, key: &str, values: &str) -> Result<Option<Vec<Filter>>, Unreadable> {
        let mut spelled = name.to_owned();
        if let Some(first) = spelled.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        list(&self.0, name, |at, value| {
            let place = format!("{name}[{at}]");
            let filter = value.as_object().ok_or_else(|| unexpected(&place, value, "a structure"))?;
            let given = match filter.get(values) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::String(one)) if values == "value" => vec![one.clone()],
                Some(Value::Array(many)) if values != "value" => {
                    many.iter().map(|value| item_text(&format!("{place}.{values}"), value)).collect::<Result<_, _>>()?
                }
                Some(other) => return Err(unexpected(&format!("{place}.{values}"), other, "a list")),
            };
            Ok(Filter {
                place: format!("{spelled}.{}.member", at + 1),
                key: text(filter, &format!("{place}."), key)?,
                values: given,
                operator: text(filter, &format!("{place}."), "Operator")?,
            })
        })
    }
}

fn item_text(place: &str, value: &Value) -> Result<String, Unreadable> {
    value.as_str().map(str::to_owned).ok_or_else(|| unexpected(place, value, "a String"))
}

/// The members of the object that a body is. No body at all is an object without members.
fn members(body: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(other) => Err(Unreadable(format!("the body must be a JSON object, it is {}", noun(&other)))),
        Err(error) => Err(Unreadable(format!("the body is not JSON: {error}"))),
    }
}

fn text(members: &Map<String, Value>, place: &str, name: &str) -> Result<Option<String>, Unreadable> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(unexpected(&format!("{place}{name}"), other, "a String")),
    }
}

fn integer(members: &Map<String, Value>, name: &str) -> Result<Option<i64>, Unreadable> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| unexpected(name, value, "an Integer")),
    }
}

fn list<T>(
    members: &Map<String, Value>,
    name: &str,
    item: impl Fn(usize, &Value) -> Result<T, Unreadable>,
) -> Result<Option<Vec<T>>, Unreadable> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(at, value)| item(at, value)).collect::<Result<_, _>>().map(Some)
        }
        Some(other) => Err(unexpected(name, other, "a list")),
    }
}

fn unexpected(place: &str, found: &Value, wanted: &str) -> Unreadable {
    Unreadable(format!("{} can not be converted to {wanted} at '{place}'", noun(found)))
}

/// A value's kind in the words of AWS's parser.
fn noun(value: &Value) -> &'static str {
    match value {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) => "START_ARRAY",
        Value::Object(_) => "START_OBJECT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(body: &str) -> String {
        describe_sessions(body.as_bytes()).expect_err(body).to_string()
    }

    #[test]
    fn unknown_members_and_nulls_are_passed_over() {
        let body = br#"{"State":"Active","Nonsense":{"a":[1]},"MaxResults":null,"Filters":[{"key":"Owner","value":"x","y":1}]}"#;
        let request = describe_sessions(body).expect("a readable body");
        assert_eq!(request.state.as_deref(), Some("Active"));
        assert_eq!(request.max_results, None);
        assert_eq!(request.filters.map(|filters| filters.len()), Some(1));
        assert_eq!(describe_sessions(b""), describe_sessions(b"{}"));
    }

    #[test]
    fn a_wrong_type_is_named_with_its_member() {
        assert_eq!(
            complaint(r#"{"MaxResults":"5"}"#),
            "STRING_VALUE can not be converted to an Integer at 'MaxResults'"
        );
        assert_eq!(
            complaint(r#"{"MaxResults":5.5}"#),
            "NUMBER_VALUE can not be converted to an Integer at 'MaxResults'"
        );
        assert_eq!(complaint(r#"{"State":1}"#), "NUMBER_VALUE can not be converted to a String at 'State'");
        assert_eq!(complaint(r#"{"Filters":{}}"#), "START_OBJECT can not be converted to a list at 'Filters'");
        assert_eq!(
            complaint(r#"{"Filters":["x"]}"#),
            "STRING_VALUE can not be converted to a structure at 'Filters[0]'"
        );
        assert_eq!(
            complaint(r#"{"Filters":[{"key":"Owner","value":true}]}"#),
            "TRUE_VALUE can not be converted to a String at 'Filters[0].value'"
        );
        assert_eq!(complaint("[]"), "the body must be a JSON object, it is START_ARRAY");
        assert!(complaint("{").starts_with("the body is not JSON: "));
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        let body = format!("{{\"State\":{}", "[".repeat(1 << 20));
        assert!(complaint(&body).contains("recursion limit"));
    }
}
