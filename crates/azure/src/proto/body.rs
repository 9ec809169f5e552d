//! The body of `disconnectActiveSessions`.
//!
//! Two shapes are in use. The schema and the SDKs' models say `{"sessionIds": ["a", "b"]}`; the specification's own
//! example and the samples made from it send the bare array `["a", "b"]`. Both are read, and so is the `{}` of the
//! generated JavaScript sample, which names no session. Source: `BastionHosts` in the specification of
//! `Microsoft.Network`, example `BastionSessionDelete.json`.

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
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
    let mut json = serde_json::Deserializer::from_slice(body);
    serde::Deserializer::deserialize_any(&mut json, Whole).and_then(|ids| json.end().map(|()| ids)).map_err(|error| {
        match error.classify() {
            serde_json::error::Category::Data => BodyFault::Shape(error.to_string()),
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => BodyFault::NotJson(error.to_string()),
        }
    })
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
        assert!(shape("null").contains("sessionIds"));
        assert!(shape(&format!("[\"{}\"]", "a".repeat(257))).contains("sessionIds[0]: may have at most 256"));
        for broken in ["", "[", "[\"a\"", "{\"sessionIds\"", "[\"a\"] x", "sessionIds: [\"a\"]", "\u{0}"] {
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

    proptest! {
        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ids = session_ids(&body);
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
