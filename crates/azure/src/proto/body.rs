//! The bodies: of `disconnectActiveSessions`, of the operations on shareable links, and of a whole bastion host.
//!
//! Of the first, two shapes are in use. The schema and the SDKs' models say `{"sessionIds": ["a", "b"]}`; the specification's own
//! example and the samples made from it send the bare array `["a", "b"]`. Both are read, and so is the `{}` of the
//! generated JavaScript sample, which names no session. Source: `BastionHosts` in the specification of
//! `Microsoft.Network`, example `BastionSessionDelete.json`.
//!
//! A third is printed in an article that people copy from: `sessionIds: ["a", "b"]`, the member without its object. It is
//! read too, because what it means is beyond doubt.

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// Most ids in one request.
pub const IDS_MAX: usize = 10_000;
/// Longest id that is read, in bytes; no session of ours has one that long.
pub const ID_BYTES_MAX: usize = 256;
/// Largest body, in bytes: Azure Resource Manager's own limit.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a body cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyFault {
    /// It is not JSON; the text says where it ceases to be.
    NotJson(String),
    /// It is JSON of another shape; the text names the field.
    Shape(String),
}

/// The ids in the order in which they were sent, repeated ones included.
///
/// # Errors
/// [`BodyFault`], with a text for the caller.
pub fn session_ids(body: &[u8]) -> Result<Vec<String>, BodyFault> {
    let (ids, mut json) = match printed(body) {
        Some(list) => {
            let mut json = serde_json::Deserializer::from_slice(list);
            (Ids.deserialize(&mut json), json)
        }
        None => {
            let mut json = serde_json::Deserializer::from_slice(body);
            (serde::Deserializer::deserialize_any(&mut json, Whole), json)
        }
    };
    ids.and_then(|ids| json.end().map(|()| ids)).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => BodyFault::Shape(error.to_string()),
        serde_json::error::Category::Syntax | serde_json::error::Category::Eof | serde_json::error::Category::Io => {
            BodyFault::NotJson(error.to_string())
        }
    })
}

/// What follows the colon of `sessionIds:`, when the body begins with these words.
fn printed(body: &[u8]) -> Option<&[u8]> {
    const NAME: &[u8] = b"sessionIds";
    let (name, rest) = body.trim_ascii_start().split_at_checked(NAME.len())?;
    let list = rest.trim_ascii_start().strip_prefix(b":")?;
    name.eq_ignore_ascii_case(NAME).then_some(list)
}

/// Largest body of any other operation, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 512 * 1024;
/// Most virtual machines, or tokens, in one request about shareable links.
pub const LINKS_MAX: usize = 500;

/// Why a body of another operation cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldFault {
    /// It is not JSON; the text says where it ceases to be.
    NotJson(String),
    /// A field is not as it has to be: the field, and what it must be.
    Wrong(String, String),
}

/// The ids of `{"vms": [{"vm": {"id": …}}]}`, or `None` when there are no `vms`.
///
/// # Errors
/// [`FieldFault`], with a text for the caller.
pub fn machine_ids(body: &[u8]) -> Result<Option<Vec<String>>, FieldFault> {
    let document = document(body)?;
    let vms = match document.get("vms") {
        None | Some(Value::Null) => return Ok(None),
        Some(vms) => short_list("vms", vms)?,
    };
    let id = |(at, vm): (usize, &Value)| match vm["vm"]["id"].as_str() {
        Some(id) if !id.is_empty() && id.len() <= 1024 => Ok(id.trim_end_matches('/').to_owned()),
        Some(_) | None => Err(wrong(format!("vms[{at}].vm.id"), "must be a virtual machine's id")),
    };
    vms.iter().enumerate().map(id).collect::<Result<_, _>>().map(Some)
}

/// The tokens of `{"tokens": […]}`.
///
/// # Errors
/// [`FieldFault`], with a text for the caller.
pub fn link_tokens(body: &[u8]) -> Result<Vec<String>, FieldFault> {
    let document = document(body)?;
    let tokens = short_list("tokens", document.get("tokens").unwrap_or(&Value::Null))?;
    let token = |(at, token): (usize, &Value)| match token.as_str() {
        Some(token) if token.len() <= 128 => Ok(token.to_owned()),
        Some(_) | None => Err(wrong(format!("tokens[{at}]"), "must be a link's token")),
    };
    tokens.iter().enumerate().map(token).collect()
}

/// An object; an empty body is an empty one.
///
/// # Errors
/// [`FieldFault`], with a text for the caller.
pub fn document(body: &[u8]) -> Result<Map<String, Value>, FieldFault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) => Err(wrong("the content".to_owned(), "must be an object")),
        Err(error) => Err(FieldFault::NotJson(error.to_string())),
    }
}

/// The tags of a resource: at most 50, with names of at most 512 and values of at most 256 characters, as the service
/// has it.
///
/// # Errors
/// [`FieldFault`], with a text for the caller.
pub fn tags(tags: &Value) -> Result<BTreeMap<String, String>, FieldFault> {
    let Value::Object(tags) = tags else { return Err(wrong("tags".to_owned(), "must be an object of texts")) };
    if tags.len() > 50 {
        return Err(wrong("tags".to_owned(), "may hold at most 50 tags"));
    }
    let tag = |(name, value): (&String, &Value)| match value.as_str() {
        Some(value) if (1..=512).contains(&name.chars().count()) && value.chars().count() <= 256 => {
            Ok((name.clone(), value.to_owned()))
        }
        Some(_) | None => {
            let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
            Err(wrong(format!("tags.{name}"), "must be a text of at most 256 characters, its name one of 1 to 512"))
        }
    };
    tags.iter().map(tag).collect()
}

fn short_list<'a>(field: &str, list: &'a Value) -> Result<&'a Vec<Value>, FieldFault> {
    match list.as_array() {
        Some(list) if list.len() <= LINKS_MAX => Ok(list),
        Some(_) | None => Err(wrong(field.to_owned(), &format!("must be a list of at most {LINKS_MAX}"))),
    }
}

fn wrong(field: String, must: &str) -> FieldFault {
    FieldFault::Wrong(field, must.to_owned())
}

struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{\"sessionIds\": [\"id\", ...]} or [\"id\", ...]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Ids.visit_seq(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut ids: Option<Vec<String>> = None;
        let mut other: Option<String> = None;
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("sessionIds") {
                if ids.is_some() {
                    return Err(A::Error::custom("sessionIds: is there twice"));
                }
                ids = Some(map.next_value_seed(Ids)?);
            } else {
                map.next_value::<IgnoredAny>()?;
                other.get_or_insert(key);
            }
        }
        match (ids, other) {
            (Some(ids), _) => Ok(ids),
            (None, None) => Ok(Vec::new()),
            (None, Some(other)) => {
                let other: String = other.chars().take(64).collect();
                Err(A::Error::custom(format!("sessionIds: is missing, there is only {other:?}")))
            }
        }
    }
}

struct Ids;

impl<'de> DeserializeSeed<'de> for Ids {
    type Value = Vec<String>;

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Ids {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sessionIds as a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut ids = Vec::new();
        while let Some(id) = list.next_element_seed(Id { at: ids.len() })? {
            if ids.len() == IDS_MAX {
                return Err(A::Error::custom(format!("sessionIds: may hold at most {IDS_MAX} ids, this holds more")));
            }
            ids.push(id);
        }
        Ok(ids)
    }
}

struct Id {
    at: usize,
}

impl<'de> DeserializeSeed<'de> for Id {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl Visitor<'_> for Id {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sessionIds[{}] as a string", self.at)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        if text.len() > ID_BYTES_MAX {
            return Err(E::custom(format!("sessionIds[{}]: may have at most {ID_BYTES_MAX} bytes", self.at)));
        }
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(body: &str) -> String {
        match session_ids(body.as_bytes()) {
            Err(BodyFault::Shape(text)) => text,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn both_shapes_are_read_in_order() {
        let ids = |body: &str| session_ids(body.as_bytes()).expect(body);
        assert_eq!(ids(r#"{"sessionIds":["session1","session2","session1"]}"#), ["session1", "session2", "session1"]);
        assert_eq!(ids(r#" [ "session1" , "session\u0032" ] "#), ["session1", "session2"]);
        assert_eq!(ids(r#"{"SessionIds":["a"],"more":{"x":[1]}}"#), ["a"]);
        assert_eq!(ids("sessionIds: [\n\"session1\",\n\"session2\"\n]"), ["session1", "session2"]);
        assert!(ids("\nsessionIds :[]").is_empty());
        for empty in ["{}", "[]", r#"{"sessionIds":[]}"#] {
            assert!(ids(empty).is_empty(), "{empty}");
        }
    }

    #[test]
    fn a_fault_names_the_field() {
        assert!(shape(r#"{"sessionIds":["a",7]}"#).contains("sessionIds[1] as a string"));
        assert!(shape(r#"["a",null]"#).contains("sessionIds[1]"));
        assert!(shape(r#"{"sessionIds":"a"}"#).contains("sessionIds as a list"));
        assert!(shape(r#"{"sessionIds":null}"#).contains("sessionIds as a list"));
        assert!(shape(r#"{"ids":["a"]}"#).contains("sessionIds: is missing, there is only \"ids\""));
        assert!(shape(r#"{"sessionIds":[],"sessionIds":[]}"#).contains("twice"));
        assert!(shape("\"a\"").contains("sessionIds"));
        assert!(shape("sessionIds: \"a\"").contains("sessionIds as a list"));
        assert!(shape("sessionIds: [1]").contains("sessionIds[0] as a string"));
        for text in ["sessionIds", "sessionIds:", "sessionIds: [\"a\"", "sessionIds: [\"a\"] and more", "ids: []"] {
            assert!(matches!(session_ids(text.as_bytes()), Err(BodyFault::NotJson(_))), "{text}");
        }
        assert!(shape("null").contains("sessionIds"));
        assert!(shape(&format!("[\"{}\"]", "a".repeat(257))).contains("sessionIds[0]: may have at most 256"));
        for broken in ["", "[", "[\"a\"", "{\"sessionIds\"", "[\"a\"] x", "\u{0}"] {
            assert!(matches!(session_ids(broken.as_bytes()), Err(BodyFault::NotJson(_))), "{broken:?}");
        }
        let deep = "[".repeat(100_000);
        assert!(session_ids(deep.as_bytes()).is_err());
    }

    #[test]
    fn a_million_ids_are_refused_by_the_limits_name() {
        let million = format!("[{}\"x\"]", "\"x\",".repeat(999_999));
        assert!(shape(&million).contains("at most 10000 ids"));
        let full = format!("[{}\"x\"]", "\"x\",".repeat(IDS_MAX - 1));
        assert_eq!(session_ids(full.as_bytes()).map(|ids| ids.len()), Ok(IDS_MAX));
    }

    #[test]
    fn bodies_about_links_are_read_and_bounded() {
        let vms = br#"{"vms":[{"vm":{"id":"/a/b/"}},{"vm":{"id":"/c"}}]}"#;
        assert_eq!(machine_ids(vms), Ok(Some(vec!["/a/b".to_owned(), "/c".to_owned()])));
        for all in [&b""[..], b" ", b"{}", br#"{"vms":null}"#] {
            assert_eq!(machine_ids(all), Ok(None));
        }
        let field = |fault| match fault {
            Err(FieldFault::Wrong(field, _)) => field,
            other => panic!("{other:?}"),
        };
        assert_eq!(field(machine_ids(br#"{"vms":[{"vm":{"id":"/a"}},{"vm":{}}]}"#).map(|_| ())), "vms[1].vm.id");
        assert_eq!(field(machine_ids(br#"{"vms":{}}"#).map(|_| ())), "vms");
        assert_eq!(field(machine_ids(b"[]").map(|_| ())), "the content");
        assert!(matches!(machine_ids(b"{"), Err(FieldFault::NotJson(_))));
        let many = format!("{{\"vms\":[{}{{}}]}}", "{},".repeat(LINKS_MAX));
        assert_eq!(field(machine_ids(many.as_bytes()).map(|_| ())), "vms");
        assert_eq!(link_tokens(br#"{"tokens":["a"]}"#), Ok(vec!["a".to_owned()]));
        assert_eq!(field(link_tokens(br#"{"tokens":[7]}"#).map(|_| ())), "tokens[0]");
        assert_eq!(field(link_tokens(b"{}").map(|_| ())), "tokens");
        assert_eq!(field(tags(&serde_json::json!({"a": 7})).map(|_| ())), "tags.a");
    }

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ids = session_ids(&body);
            let _ids = machine_ids(&body);
            let _tokens = link_tokens(&body);
        }

        #[test]
        fn what_was_written_is_read(ids in prop::collection::vec("\\PC{0,40}", 0..20)) {
            let body = serde_json::to_vec(&ids).expect("strings are JSON");
            prop_assert_eq!(session_ids(&body), Ok(ids.clone()));
            let body = serde_json::to_vec(&serde_json::json!({"sessionIds": ids})).expect("strings are JSON");
            prop_assert_eq!(session_ids(&body), Ok(ids));
        }
    }
}
