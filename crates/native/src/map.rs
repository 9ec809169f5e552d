//! Domain <-> wire: the only file that names both sides.

use crate::wire;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use ravelin_engine::Caller;
use ravelin_engine::control::Termination;
use ravelin_model::audit::AuditEvent;
use ravelin_model::credential::{Credential, CredentialKind};
use ravelin_model::id::InvalidName;
use ravelin_model::ledger::{Entry as LedgerEntry, Foundation};
use ravelin_model::query::{Order, SessionFilter};
use ravelin_model::recording::{Act, Entry, Found, LogKind, Whereabouts};
use ravelin_model::session::{Actor, EndReason, Ending, Kind, Session, State};
use ravelin_model::sink::{LogPlaceStatus, SinkStatus};
use ravelin_model::target::{Protocol, Target, TargetSnapshot};
use ravelin_model::text::printable;
use ravelin_model::{Login, NodeId, PrincipalName, Refusal, SessionId, Time};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// A time as this dialect writes it. Times beyond what RFC 3339 can write are held at its ends.
pub(crate) fn stamp(time: Time) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(6));
    let edge = if time < Time::EPOCH { Timestamp::MIN } else { Timestamp::MAX };
    let timestamp = Timestamp::from_microsecond(time.as_micros()).unwrap_or(edge);
    PRINTER.timestamp_to_string(&timestamp)
}

/// A time as a client writes it.
pub(crate) fn time(field: &str, text: &str) -> Result<Time, Refusal> {
    match text.parse::<Timestamp>() {
        Ok(timestamp) => Ok(Time::from_micros(timestamp.as_microsecond())),
        Err(_) => Err(Refusal::invalid(
            field,
            format!("must be a time in RFC 3339 such as 2026-11-21T22:28:54Z, not {}", quoted(text)),
        )),
    }
}

/// When something stops: a time, or a time span from `now` such as `90d`.
pub(crate) fn expiry(field: &str, text: &str, now: Time) -> Result<Time, Refusal> {
    let at = match span(text) {
        Some(span) => now.plus(span),
        None => time(field, text).map_err(|_| {
            Refusal::invalid(
                field,
                format!("must be a time in RFC 3339, or a span such as 90d or 12h, not {}", quoted(text)),
            )
        })?,
    };
    if at > now { Ok(at) } else { Err(Refusal::invalid(field, format!("must lie ahead, {} does not", stamp(at)))) }
}

/// `90d`, `12h`, `30m`, `45s`, `2w`; at most 100 years.
fn span(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<u64>().ok()?.checked_mul(seconds)?;
    (seconds <= 100 * 366 * 86_400).then(|| Duration::from_secs(seconds))
}

/// Untrusted text for a sentence: cut, quoted, control characters escaped.
fn quoted(text: &str) -> String {
    const CHARS_MAX: usize = 64;
    let short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() { format!("{short:?}…") } else { format!("{short:?}") }
}

/// The filter that a client wrote down.
///
/// # Errors
/// [`Refusal::Invalid`] with the member's name.
pub(crate) fn filter(wire: &wire::SessionFilter) -> Result<SessionFilter, Refusal> {
    Ok(SessionFilter {
        states: states(&wire.state)?,
        principals: all("principal", &wire.principal, PrincipalName::parse)?,
        target: one("target", wire.target.as_deref(), some_text)?,
        ids: all("id", &wire.id, SessionId::parse)?,
        id_prefix: one("id_prefix", wire.id_prefix.as_deref(), some_text)?,
        kind: one("kind", wire.kind.as_deref(), |t| word(t, Kind::from_word, Kind::ALL.iter().map(|k| k.word())))?,
        protocol: one("protocol", wire.protocol.as_deref(), |t| {
            word(t, Protocol::from_word, Protocol::ALL.iter().map(|p| p.word()))
        })?,
        login: one("login", wire.login.as_deref(), Login::parse)?,
        client: one("client", wire.client.as_deref(), |t| {
            // As sessions bear it.
            t.parse::<IpAddr>()
                .map(|ip| ip.to_canonical())
                .map_err(|_| format!("must be an IP address, not {}", quoted(t)))
        })?,
        node: one("node", wire.node.as_deref(), NodeId::parse)?,
        end_reasons: all("end_reason", &wire.end_reason, |t| {
            word(t, EndReason::from_word, EndReason::ALL.iter().map(|r| r.word()))
        })?,
        actor: wire.actor.as_deref().map(actor).transpose()?,
        label: wire.label.as_deref().map(|text| pair("label", text)).transpose()?,
        tag: wire.tag.as_deref().map(|text| pair("tag", text)).transpose()?,
        created_from: instant("created_from", wire.created_from.as_deref())?,
        created_before: instant("created_before", wire.created_before.as_deref())?,
        ended_from: instant("ended_from", wire.ended_from.as_deref())?,
        ended_before: instant("ended_before", wire.ended_before.as_deref())?,
    })
}

/// `any` among them lifts the restriction, whatever else is named.
fn states(words: &[String]) -> Result<BTreeSet<State>, Refusal> {
    let mut states = BTreeSet::new();
    for text in words {
        match text.as_str() {
            "live" => states.extend(State::ALL.iter().filter(|s| s.is_live())),
            "ended" => states.extend(State::ALL.iter().filter(|s| s.is_final())),
            "any" => {}
            other => {
                let known = ["live", "ended", "any"].into_iter().chain(State::ALL.iter().map(|s| s.word()));
                states.insert(
                    word(other, State::from_word, known).map_err(|because| Refusal::invalid("state", because))?,
                );
            }
        }
    }
    if words.iter().any(|w| w == "any") {
        states.clear();
    }
    Ok(states)
}

fn all<T: Ord, E: Because>(
    field: &str,
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<BTreeSet<T>, Refusal> {
    texts.iter().map(|text| parse(text).map_err(|e| Refusal::invalid(field, e.because()))).collect()
}

fn one<T, E: Because>(
    field: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, Refusal> {
    text.map(|text| parse(text).map_err(|e| Refusal::invalid(field, e.because()))).transpose()
}

fn instant(field: &str, text: Option<&str>) -> Result<Option<Time>, Refusal> {
    text.map(|text| time(field, text)).transpose()
}

/// What is wrong with a value, ready to follow the field's name.
trait Because {
    fn because(self) -> String;
}

impl Because for String {
    fn because(self) -> String {
        self
    }
}

impl Because for InvalidName {
    fn because(self) -> String {
        self.because
    }
}

fn word<T>(
    text: &str,
    parse: impl Fn(&str) -> Option<T>,
    known: impl Iterator<Item = &'static str>,
) -> Result<T, String> {
    parse(text).ok_or_else(|| format!("must be one of {}, not {}", known.collect::<Vec<_>>().join(", "), quoted(text)))
}

fn some_text(text: &str) -> Result<String, String> {
    const CHARS_MAX: usize = 512;
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else if text.chars().count() > CHARS_MAX {
        Err(format!("must have at most {CHARS_MAX} characters"))
    } else {
        Ok(text.to_owned())
    }
}

/// An actor that a client named, as it stands in the record.
///
/// # Errors
/// [`Refusal::Invalid`].
pub(crate) fn actor(text: &str) -> Result<String, Refusal> {
    let because = || format!("must be a principal's name, target:<name> or system, not {}", quoted(text));
    let actor = Actor::from_text(text).ok_or_else(|| Refusal::invalid("actor", because()))?;
    Ok(actor.to_string())
}

/// A label or a tag that a client named in `field`.
///
/// # Errors
/// [`Refusal::Invalid`] with the field.
pub(crate) fn pair(field: &'static str, text: &str) -> Result<(String, String), Refusal> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(Refusal::invalid(field, format!("must be key=value, not {}", quoted(text)))),
    }
}

/// The order that a client named.
pub(crate) fn order(text: Option<&str>) -> Result<Order, Refusal> {
    match text {
        None | Some("newest") => Ok(Order::NewestFirst),
        Some("oldest") => Ok(Order::OldestFirst),
        Some(other) => Err(Refusal::invalid("order", format!("must be newest or oldest, not {}", quoted(other)))),
    }
}

/// A session, taken apart rather than copied where that is possible.
pub(crate) fn session(session: Session) -> wire::Session {
    let state = session.state();
    let connected = session.connected();
    let ended = session.ended();
    let (end_reason, actor, detail) = match session.ending() {
        Some(ending) => {
            (Some(Cow::Borrowed(ending.reason.word())), Some(ending.actor.to_string()), Some(ending.detail.clone()))
        }
        None => (None, None, None),
    };
    let draft = session.draft;
    wire::Session {
        id: draft.id.to_string(),
        state: Cow::Borrowed(state.word()),
        principal: draft.principal.to_string(),
        groups: draft.groups.iter().map(ToString::to_string).collect(),
        auth_method: Cow::Borrowed(draft.auth.word()),
        client_address: draft.client_address.ip().to_string(),
        client_port: draft.client_address.port(),
        client_software: draft.client_software,
        target: snapshot(draft.target),
        login: draft.login.map(|login| login.to_string()),
        protocol: Cow::Borrowed(draft.protocol.word()),
        kind: Cow::Borrowed(draft.kind.word()),
        document: draft.document,
        reason: draft.reason,
        created: stamp(session.created),
        connected: connected.map(stamp),
        last_activity: stamp(session.activity.last),
        ended: ended.map(stamp),
        bytes_in: session.activity.bytes_in,
        bytes_out: session.activity.bytes_out,
        end_reason,
        actor,
        detail,
        recording: Cow::Borrowed(session.recording.word()),
        recording_digest: session.recording_digest,
        recording_place: None,
        recording_awaits: None,
        node: draft.node.to_string(),
        epoch: draft.epoch,
        tags: draft.tags,
    }
}

/// A session, and where its recording lies.
pub(crate) fn session_with(session: Session, whereabouts: Option<Whereabouts>) -> wire::Session {
    let mut shown = self::session(session);
    if let Some(Whereabouts { place, awaits, because }) = whereabouts {
        shown.recording_place = Some(place.unwrap_or_else(|| "directory".to_owned()));
        shown.recording_awaits = awaits.map(|place| match because {
            Some(because) => format!("{place}: {because}"),
            None => place,
        });
    }
    shown
}

fn snapshot(target: TargetSnapshot) -> wire::SessionTarget {
    wire::SessionTarget {
        id: target.id.to_string(),
        name: target.name.to_string(),
        address: target.address,
        port: target.port,
        labels: target.labels,
        aliases: target.aliases,
    }
}

/// What came of asking one session to end.
pub(crate) fn outcome(id: &SessionId, result: Result<Termination, Refusal>) -> wire::Outcome {
    let plain = |outcome, detail: Option<String>| wire::Outcome {
        id: id.to_string(),
        outcome,
        closed_at: None,
        end_reason: None,
        actor: None,
        detail,
    };
    let closed = |outcome, at: Time, ending: Ending| wire::Outcome {
        id: id.to_string(),
        outcome,
        closed_at: Some(stamp(at)),
        end_reason: Some(Cow::Borrowed(ending.reason.word())),
        actor: Some(ending.actor.to_string()),
        detail: Some(ending.detail).filter(|detail| !detail.is_empty()),
    };
    match result {
        Ok(Termination::Confirmed { closed: at, ending }) => closed(wire::OutcomeWord::Ended, at, ending),
        Ok(Termination::AlreadyEnded { ended, ending }) => closed(wire::OutcomeWord::AlreadyEnded, ended, ending),
        Ok(Termination::Pending { because }) => plain(wire::OutcomeWord::Pending, Some(because)),
        Err(refusal) => {
            let word = match &refusal {
                Refusal::NotFound { .. } => wire::OutcomeWord::NotFound,
                Refusal::Denied { .. } => wire::OutcomeWord::Denied,
                Refusal::Unauthenticated { .. }
                | Refusal::Invalid { .. }
                | Refusal::Conflict { .. }
                | Refusal::LimitReached { .. }
                | Refusal::Unavailable { .. }
                | Refusal::Internal { .. } => wire::OutcomeWord::Error,
            };
            if let Some(detail) = refusal.detail() {
                tracing::error!(session = %id, detail = detail.for_log(), "a session could not be ended");
            }
            plain(word, Some(refusal.to_string()))
        }
    }
}

/// One line of the record.
pub(crate) fn event(event: AuditEvent) -> wire::Event {
    wire::Event {
        seq: event.seq,
        at: stamp(event.at),
        kind: Cow::Borrowed(event.deed.kind.word()),
        actor: event.deed.actor.to_string(),
        session: event.deed.session.map(|id| id.to_string()),
        facts: event.deed.facts,
    }
}

/// Something that was done.
pub(crate) fn act(act: Act) -> wire::Act {
    wire::Act {
        at_ms: millis(act.at),
        kind: Cow::Borrowed(act.kind.word()),
        source: Cow::Borrowed(act.source.word()),
        text: act.text,
        facts: act.facts,
    }
}

/// An act with where it belongs.
pub(crate) fn found(found: Found) -> wire::FoundAct {
    wire::FoundAct {
        session: found.session.to_string(),
        principal: found.principal.to_string(),
        target: found.target.to_string(),
        at: stamp(found.at),
        act: act(found.act),
    }
}

/// What is known of a recording.
pub(crate) fn entry(entry: Entry) -> wire::RecordingEntry {
    wire::RecordingEntry {
        session: entry.session.to_string(),
        bytes: entry.bytes,
        lasted_ms: millis(entry.lasted),
        keep_until: stamp(entry.keep_until),
        hold: entry.hold,
        removed: entry.removed,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A line of the record with its hash.
pub(crate) fn ledger_event(entry: LedgerEntry) -> wire::LedgerEvent {
    wire::LedgerEvent { event: event(entry.event), hash: entry.hash.to_string() }
}

/// What the chain stands on.
pub(crate) fn foundation(foundation: &Foundation) -> wire::LedgerFoundation {
    wire::LedgerFoundation {
        deployment: foundation.deployment.clone(),
        after: foundation.after,
        head: foundation.head.to_string(),
        signature: foundation.signature.map(|signature| signature.to_string()),
    }
}

/// How a sink is. What a far end said is shown without what deceives a reader.
pub(crate) fn sink(status: &SinkStatus) -> wire::Sink {
    wire::Sink {
        name: status.name.clone(),
        kind: status.kind.to_owned(),
        destination: status.destination.clone(),
        position: Some(status.position),
        behind: status.behind,
        oldest_waiting: status.oldest_waiting.map(stamp),
        behind_max: Some(status.behind_max),
        delivered: status.delivered,
        last_delivery: status.last_delivery.map(stamp),
        last_error: status.last_error.as_deref().map(|error| printable(error, 500)),
        failures: status.failures,
    }
}

/// How a place for the output of sessions is; in the same words as a sink.
pub(crate) fn log_place(status: &LogPlaceStatus) -> wire::Sink {
    let kind = match status.kind {
        LogKind::Object => "log_bucket",
        LogKind::Stream => "log_group",
    };
    wire::Sink {
        name: status.name.clone(),
        kind: kind.to_owned(),
        destination: status.destination.clone(),
        position: None,
        behind: status.behind,
        oldest_waiting: status.oldest_waiting.map(stamp),
        behind_max: None,
        delivered: status.delivered,
        last_delivery: status.last_delivery.map(stamp),
        last_error: status.last_error.as_deref().map(|error| printable(error, 500)),
        failures: status.failures,
    }
}

/// A target of the inventory, without its proofs.
pub(crate) fn target(target: &Target) -> wire::Target {
    wire::Target {
        id: target.id.to_string(),
        name: target.name.to_string(),
        address: target.address.clone(),
        port: target.port,
        protocol: Cow::Borrowed(target.protocol.word()),
        logins: target.logins.iter().map(|way| way.login.to_string()).collect(),
        labels: target.labels.clone(),
        aliases: target.aliases.clone(),
    }
}

/// The public half of a credential.
pub(crate) fn credential(credential: &Credential) -> wire::Credential {
    wire::Credential {
        id: credential.id.to_string(),
        kind: match credential.kind {
            CredentialKind::Token => wire::CredentialKind::Token,
            CredentialKind::SigningKey => wire::CredentialKind::Aws,
            CredentialKind::TemporaryKey => wire::CredentialKind::AwsTemporary,
            CredentialKind::ClientSecret => wire::CredentialKind::Azure,
        },
        principal: credential.principal.to_string(),
        note: credential.note.clone(),
        created: stamp(credential.created),
        expires: credential.expires.map(stamp),
        revoked: credential.revoked.map(stamp),
    }
}

/// The kind that a client asked for.
pub(crate) fn credential_kind(kind: wire::CredentialKind) -> CredentialKind {
    match kind {
        wire::CredentialKind::Token => CredentialKind::Token,
        wire::CredentialKind::Aws => CredentialKind::SigningKey,
        wire::CredentialKind::AwsTemporary => CredentialKind::TemporaryKey,
        wire::CredentialKind::Azure => CredentialKind::ClientSecret,
    }
}

/// Who is asking.
pub(crate) fn whoami(caller: &Caller) -> wire::Whoami {
    wire::Whoami {
        principal: caller.name().to_string(),
        groups: caller.principal().groups.iter().map(ToString::to_string).collect(),
        auth_method: Cow::Borrowed(caller.method().word()),
        credential: caller.credential().map(ToString::to_string),
        client_address: caller.contact().address.ip().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use ravelin_engine::testkit;
    use ravelin_model::audit::{Deed, session_actor, session_facts};
    use ravelin_model::principal::AuthMethod;
    use ravelin_model::session::{Activity, Draft, Event};
    use ravelin_model::{CredentialId, GroupName};
    use std::collections::BTreeMap;

    fn at(seconds: i64) -> Time {
        Time::from_micros(1_795_300_134_123_456 + seconds * 1_000_000)
    }

    fn draft() -> Draft {
        let mut target = testkit::target("web-1", "10.0.0.7", 22, &["web"]);
        target.labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        Draft {
            id: SessionId::parse("alice-07a16060613c408b5").expect("a valid id"),
            principal: PrincipalName::parse("alice").expect("a valid name"),
            groups: BTreeSet::from([GroupName::parse("web").expect("a valid name")]),
            auth: AuthMethod::SshKey,
            client_address: "192.0.2.9:50022".parse().expect("an address"),
            client_software: "SSH-2.0-OpenSSH_10.0".to_owned(),
            target: target.snapshot(),
            login: Some(Login::parse("root").expect("a valid login")),
            protocol: Protocol::Ssh,
            kind: Kind::Shell,
            document: None,
            reason: Some("ticket 4711".to_owned()),
            duration_max: None,
            recording_rule: None,
            logs: Vec::new(),
            node: NodeId::new(0xbeef),
            epoch: 3,
            tags: BTreeMap::from([("ticket".to_owned(), "4711".to_owned())]),
        }
    }

    fn ended() -> Session {
        let carol = Actor::Principal(PrincipalName::parse("carol").expect("a valid name"));
        let ending = Ending::new(EndReason::DisconnectedByOperator, carol, "rotating keys");
        let activity = Activity { last: at(9), bytes_in: 17, bytes_out: 4096 };
        let events = [Event::Connected, Event::End { ending }, Event::Closed { activity }];
        let (first, _) = Session::open(draft(), at(0));
        events
            .iter()
            .zip(1..)
            .fold(first, |session, (event, n)| session.apply(event, at(n * 3)).expect("a legal move").0)
    }

    #[test]
    fn sessions_have_this_shape() {
        let (fresh, _) = Session::open(draft(), at(0));
        golden::check_json("tests/golden/session/connecting.json", &session(fresh));
        golden::check_json("tests/golden/session/terminated.json", &session(ended()));
        let mut tunnel = draft();
        (tunnel.login, tunnel.kind, tunnel.reason) = (None, Kind::Tunnel, None);
        tunnel.tags.clear();
        let (tunnel, _) = Session::open(tunnel, at(0));
        let (tunnel, _) = tunnel.apply(&Event::Connected, at(1)).expect("a legal move");
        golden::check_json("tests/golden/session/tunnel.json", &session(tunnel));
    }

    #[test]
    fn outcomes_have_this_shape() {
        let id = draft().id;
        let ending = ended().ending().expect("it ended").clone();
        let cases = [
            ("ended", Ok(Termination::Confirmed { closed: at(9), ending: ending.clone() })),
            ("already_ended", Ok(Termination::AlreadyEnded { ended: at(9), ending })),
            ("pending", Ok(Termination::Pending { because: "something is still open".to_owned() })),
            ("not_found", Err(Refusal::not_found("session", &id))),
            (
                "denied",
                Err(Refusal::Denied {
                    action: ravelin_model::policy::Action::TerminateSession,
                    because: "no policy permits it".to_owned(),
                }),
            ),
            ("error", Err(Refusal::unavailable("the store", "/secret/path"))),
        ];
        for (word, result) in cases {
            golden::check_json(&format!("tests/golden/outcome/{word}.json"), &outcome(&id, result));
        }
    }

    #[test]
    fn events_and_targets_and_credentials_have_this_shape() {
        let session = ended();
        let deed = Deed {
            kind: ravelin_model::audit::AuditKind::SessionEnded,
            actor: session_actor(&session),
            session: Some(session.id().clone()),
            facts: session_facts(&session),
        };
        golden::check_json("tests/golden/event/session_ended.json", &event(AuditEvent { seq: 42, at: at(9), deed }));
        golden::check_json(
            "tests/golden/target/ssh.json",
            &target(&testkit::target("web-1", "10.0.0.7", 22, &["web"])),
        );
        let stored = Credential {
            id: CredentialId::parse("RVLKABCDEFGHIJKLMNOP").expect("a valid id"),
            kind: CredentialKind::SigningKey,
            principal: PrincipalName::parse("alice").expect("a valid name"),
            digest: None,
            note: "nightly report".to_owned(),
            created: at(0),
            expires: Some(at(86_400)),
            revoked: None,
        };
        golden::check_json("tests/golden/credential/aws.json", &credential(&stored));
    }

    #[test]
    fn times_have_microseconds_and_stay_in_range() {
        assert_eq!(stamp(Time::EPOCH), "1970-01-01T00:00:00.000000Z");
        assert_eq!(stamp(Time::from_micros(1)), "1970-01-01T00:00:00.000001Z");
        assert_eq!(stamp(Time::MAX), stamp(Time::MAX.minus(Duration::from_secs(1))));
        let now = at(0);
        assert_eq!(time("t", &stamp(now)), Ok(now));
        assert_eq!(time("t", "2026-11-21T23:28:54+01:00"), time("t", "2026-11-21T22:28:54Z"));
        for bad in ["", "yesterday", "2026-11-21", "2026-11-21T22:28:54", "1795300134"] {
            assert!(time("t", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn an_expiry_is_a_span_or_a_time_ahead() {
        let now = at(0);
        assert_eq!(expiry("e", "90d", now), Ok(now.plus(Duration::from_secs(90 * 86_400))));
        assert_eq!(expiry("e", &stamp(at(5)), now), Ok(at(5)));
        for bad in ["", "d", "0d", "-1d", "+1d", "1y", "90", "99999999999999999999d", &stamp(now), "1 d"] {
            assert!(expiry("e", bad, now).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn state_words_add_up_and_any_lifts_them() {
        let words = |list: &[&str]| states(&list.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(words(&[]), Ok(BTreeSet::new()));
        assert_eq!(words(&["live"]), Ok(SessionFilter::live().states));
        assert_eq!(words(&["failed", "terminated"]), words(&["ended"]));
        assert_eq!(words(&["live", "any"]), Ok(BTreeSet::new()));
        let refused = words(&["Active"]).expect_err("a foreign word").to_string();
        assert!(refused.starts_with("state: must be one of live, ended, any, connecting"), "{refused}");
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_both_its_forms() {
        let client = |text: &str| {
            let wire = wire::SessionFilter { client: Some(text.to_owned()), ..wire::SessionFilter::default() };
            filter(&wire).expect("an address").client
        };
        assert_eq!(client("::ffff:192.0.2.9"), client("192.0.2.9"));
    }

    #[test]
    fn each_wrong_member_is_named() {
        type Break = fn(&mut wire::SessionFilter);
        let long = "x".repeat(600);
        let cases: &[(&str, Break)] = &[
            ("state", |f| f.state = vec![String::new()]),
            ("principal", |f| f.principal = vec!["a:b".into()]),
            ("id", |f| f.id = vec!["alice".into()]),
            ("end_reason", |f| f.end_reason = vec!["boredom".into()]),
            ("target", |f| f.target = Some(String::new())),
            ("id_prefix", |f| f.id_prefix = Some("x".repeat(600))),
            ("kind", |f| f.kind = Some("Shell".into())),
            ("protocol", |f| f.protocol = Some("telnet".into())),
            ("login", |f| f.login = Some("a b".into())),
            ("client", |f| f.client = Some("localhost".into())),
            ("node", |f| f.node = Some("node-1".into())),
            ("actor", |f| f.actor = Some("a:b".into())),
            ("label", |f| f.label = Some("env".into())),
            ("tag", |f| f.tag = Some("=x".into())),
            ("created_from", |f| f.created_from = Some("soon".into())),
            ("created_before", |f| f.created_before = Some("soon".into())),
            ("ended_from", |f| f.ended_from = Some("soon".into())),
            ("ended_before", |f| f.ended_before = Some("soon".into())),
        ];
        for (name, spoil) in cases {
            let mut wire = wire::SessionFilter::default();
            spoil(&mut wire);
            match filter(&wire) {
                Err(Refusal::Invalid { field, because }) => {
                    assert_eq!(field, *name);
                    assert!(!because.contains(&long), "what a client sends is not echoed at length");
                }
                other => panic!("{name}: {other:?}"),
            }
        }
    }
}
