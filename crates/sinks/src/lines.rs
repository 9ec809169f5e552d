//! Our own form of an event: one JSON object on one line, which can be verified. Written and read here.
//!
//! Specification: `docs/wire/ledger.md`.

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use ravelin_model::Time;
use ravelin_model::ledger::{Checkpoint, Digest, Entry, Foundation, Line, Signature, encode};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Longest line that is read, in bytes.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// A time as all forms write it: RFC 3339 with six digits after the second.
#[must_use]
pub fn stamp(time: Time) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    let edge = if time < Time::EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    PRINTER.timestamp_to_string(&Timestamp::from_microsecond(time.as_micros()).unwrap_or(edge))
}

/// An event with its hash; `deployment` tells whose it is, for destinations that gather several.
#[must_use]
pub fn event(deployment: &str, entry: &Entry) -> Value {
    let deed = &entry.event.deed;
    json!({
        "seq": entry.event.seq,
        "at": stamp(entry.event.at),
        "kind": deed.kind.word(),
        "actor": deed.actor.to_string(),
        "session": deed.session.as_ref().map(ravelin_model::SessionId::as_str),
        "facts": deed.facts,
        "hash": entry.hash.to_string(),
        "deployment": deployment,
    })
}

/// What a line of an export is.
#[derive(Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are events; boxing each would cost more than the one head saves"
)]
pub enum Parsed {
    /// Its head.
    Foundation(Foundation),
    /// An event: what a verifier needs of it, and what it tells.
    Event(Line, Told),
}

/// What an event tells, as it was read; a later release may know words that this one does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When, to the microsecond.
    pub at: Time,
    /// What kind of event, see [`ravelin_model::audit::AuditKind`].
    pub kind: String,
    /// By whom: a principal, `target:<name>` or `system`.
    pub actor: String,
    /// On which session.
    pub session: Option<String>,
    /// Facts.
    pub facts: BTreeMap<String, String>,
    /// Whose record it is, where the line says so.
    pub deployment: Option<String>,
}

/// Reads a line of an export, or of a file that a sink wrote.
///
/// # Errors
/// What is wrong with it.
pub fn parse(line: &[u8]) -> Result<Parsed, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("it has more than {LINE_BYTES_MAX} bytes"));
    }
    if line.starts_with(b"{\"ravelin_ledger\"") {
        let head: Head = serde_json::from_slice(line).map_err(|error| error.to_string())?;
        if head.ravelin_ledger != 1 {
            return Err(format!("it is of version {}, this release knows version 1", head.ravelin_ledger));
        }
        let signature = match &head.signature {
            None => None,
            Some(text) => Some(Signature::parse(text).ok_or("its signature is none")?),
        };
        let foundation = Foundation {
            deployment: head.deployment,
            after: head.after,
            head: Digest::parse(&head.head).ok_or("its head is no hash")?,
            signature,
        };
        return Ok(Parsed::Foundation(foundation));
    }
    let event: Event = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let at = event.at.parse::<Timestamp>().map_err(|_| "its time is none")?;
    if at.subsec_nanosecond() % 1000 != 0 {
        return Err("its time is finer than a microsecond".to_owned());
    }
    let facts = event.facts.0.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let session = event.session.as_deref();
    let checkpoint = (event.kind == ravelin_model::audit::AuditKind::LedgerCheckpoint.word())
        .then(|| Checkpoint::from_facts(|name| event.facts.0.get(name).map(String::as_str)));
    let line = Line {
        seq: event.seq,
        encoding: encode(event.seq, at.as_microsecond(), &event.kind, &event.actor, session, facts),
        hash: Digest::parse(&event.hash),
        checkpoint,
    };
    let Event { kind, actor, session, facts: Facts(facts), deployment, .. } = event;
    let at = Time::from_micros(at.as_microsecond());
    Ok(Parsed::Event(line, Told { at, kind, actor, session, facts, deployment }))
}

/// The head of an export, as a line without its end.
#[must_use]
pub fn head(foundation: &Foundation) -> String {
    // Written by hand for the order of its members: the first one tells what it is.
    format!(
        "{{\"ravelin_ledger\":1,\"deployment\":{},\"after\":{},\"head\":\"{}\",\"signature\":{}}}",
        Value::from(foundation.deployment.as_str()),
        foundation.after,
        foundation.head,
        foundation.signature.map_or_else(|| "null".to_owned(), |signature| format!("\"{signature}\""))
    )
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    ravelin_ledger: u32,
    deployment: String,
    after: u64,
    head: String,
    signature: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    seq: u64,
    at: String,
    kind: String,
    actor: String,
    session: Option<String>,
    facts: Facts,
    hash: String,
    deployment: Option<String>,
}

/// Facts, each once: of two with one name, one reader would see the one and another the other.
struct Facts(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Facts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Facts;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Facts, A::Error> {
                let mut facts = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    if facts.insert(name, value).is_some() {
                        return Err(A::Error::custom("a fact stands there twice"));
                    }
                }
                Ok(Facts(facts))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::audit::{AuditEvent, AuditKind, Deed};
    use ravelin_model::ledger::{encode_event, genesis, link};
    use ravelin_model::session::Actor;

    fn entry() -> Entry {
        let facts = BTreeMap::from([("claimed".to_owned(), "a\u{1b}[2J\"\n".to_owned())]);
        let deed = Deed { kind: AuditKind::LoginRefused, actor: Actor::System, session: None, facts };
        let event = AuditEvent { seq: 1, at: Time::from_micros(1_795_300_134_000_001), deed };
        let hash = link(&genesis("d"), &encode_event(&event));
        Entry { event, hash }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same() {
        let written = event("d", &entry()).to_string();
        assert!(!written.contains('\n') && !written.contains('\u{1b}'), "{written}");
        let Ok(Parsed::Event(line, told)) = parse(written.as_bytes()) else { panic!("{written}") };
        assert_eq!((line.seq, line.encoding, line.hash), (1, encode_event(&entry().event), Some(entry().hash)));
        assert_eq!((told.at, told.kind.as_str()), (entry().event.at, "login_refused"));
        assert_eq!((told.facts, told.deployment.as_deref()), (entry().event.deed.facts, Some("d")));
        let foundation = Foundation {
            deployment: "d".to_owned(),
            after: 7,
            head: genesis("d"),
            signature: Some(Signature([3; 64])),
        };
        let Ok(Parsed::Foundation(read)) = parse(head(&foundation).as_bytes()) else { panic!("no head") };
        assert_eq!(read, foundation);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        let written = event("d", &entry()).to_string();
        let doubled = written.replace("\"facts\":{", "\"facts\":{\"claimed\":\"x\",");
        let unknown = written.replace("\"seq\":", "\"note\":1,\"seq\":");
        let twice = written.replace("\"seq\":", "\"seq\":9,\"seq\":");
        let fine = written.replace("000001Z", "0000011Z");
        for bad in [doubled, unknown, twice, fine, "{}".to_owned(), String::new(), "[".to_owned()] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
