//! Rows and what they stand for. The only file that knows how a value of the model is spelled in a column.

use ravelin_model::audit::{AuditEvent, AuditKind, Deed};
use ravelin_model::credential::{Credential, CredentialKind};
use ravelin_model::principal::AuthMethod;
use ravelin_model::recording::{LogKind, LogPlace, Mode};
use ravelin_model::session::{Activity, Actor, Draft, EndReason, Ending, Kind, Phase, Recording, State};
use ravelin_model::target::{Protocol, TargetSnapshot};
use ravelin_model::{
    CredentialId, GroupName, Login, NodeId, PrincipalName, Refusal, Session, SessionId, TargetId, TargetName, Time,
};
use rusqlite::types::{FromSql, ValueRef};
use rusqlite::{Connection, Row, named_params};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// The columns that [`session`] reads.
pub(super) const SESSION_COLUMNS: &str = "state, connected, end_reason, end_actor, end_detail, since, ended, id, \
    principal, groups, auth, client_address, client_software, target_id, target_name, target_address, target_port, \
    target_labels, target_aliases, login, protocol, kind, document, reason, duration_max, node, epoch, tags, last_activity, \
    bytes_in, bytes_out, recording, recording_digest, recording_rule, logs, created";

/// The columns that [`event`] reads.
pub(super) const EVENT_COLUMNS: &str = "seq, at, kind, actor, session, facts";

/// The columns that [`credential`] reads.
pub(super) const CREDENTIAL_COLUMNS: &str = "id, kind, principal, digest, note, created, expires, revoked";

/// Lengths of sessions fall into classes: class n holds those of less than 4^n seconds (and of no lower class), the
/// last one all longer ones.
pub(super) const SPAN_CLASSES: u32 = 14;

/// The class of a length in microseconds.
pub(super) fn span_class(micros: i64) -> u32 {
    (0..SPAN_CLASSES - 1).find(|class| micros < span_bound(*class)).unwrap_or(SPAN_CLASSES - 1)
}

/// Sessions of `class` are shorter than this many microseconds; those of later classes are not.
pub(super) fn span_bound(class: u32) -> i64 {
    if class >= SPAN_CLASSES - 1 { i64::MAX } else { 4_i64.pow(class) * 1_000_000 }
}

/// Writes a whole new row.
pub(super) fn insert_session(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    let draft = &session.draft;
    let target = &draft.target;
    let place = Place::of(session);
    connection
        .prepare_cached(
            "INSERT INTO sessions (created, id, principal, groups, auth, client_address, client_ip, client_software, \
             target_id, target_name, target_address, target_port, target_labels, target_aliases, login, protocol, \
             kind, document, reason, duration_max, node, epoch, tags, state, connected, since, ended, span, end_reason, end_actor, \
             end_detail, last_activity, bytes_in, bytes_out, recording, recording_digest, recording_rule, logs) VALUES \
             (:created, :id, :principal, :groups, :auth, :client_address, :client_ip, :client_software, :target_id, \
             :target_name, :target_address, :target_port, :target_labels, :target_aliases, :login, :protocol, :kind, \
             :document, :reason, :duration_max, :node, :epoch, :tags, :state, :connected, :since, :ended, :span, :end_reason, \
             :end_actor, :end_detail, :last_activity, :bytes_in, :bytes_out, :recording, :recording_digest, \
             :recording_rule, :logs)",
        )?
        .execute(named_params! {
            ":created": session.created.as_micros(),
            ":id": draft.id.as_str(),
            ":principal": draft.principal.as_str(),
            ":groups": json_list(&draft.groups),
            ":auth": draft.auth.word(),
            ":client_address": draft.client_address.to_string(),
            ":client_ip": draft.client_address.ip().to_string(),
            ":client_software": draft.client_software,
            ":target_id": target.id.as_str(),
            ":target_name": target.name.as_str(),
            ":target_address": target.address,
            ":target_port": target.port,
            ":target_labels": json_map(&target.labels),
            ":target_aliases": json_map(&target.aliases),
            ":login": draft.login.as_ref().map(Login::as_str),
            ":protocol": draft.protocol.word(),
            ":kind": draft.kind.word(),
            ":document": draft.document,
            ":reason": draft.reason,
            ":duration_max": draft.duration_max.map(micros),
            ":node": draft.node.as_str(),
            ":epoch": integer(draft.epoch),
            ":tags": json_map(&draft.tags),
            ":state": session.state().word(),
            ":connected": place.connected,
            ":since": place.since,
            ":ended": place.ended,
            ":span": place.span,
            ":end_reason": place.ending.map(|e| e.reason.word()),
            ":end_actor": place.ending.map(|e| e.actor.to_string()),
            ":end_detail": place.ending.map(|e| e.detail.as_str()),
            ":last_activity": session.activity.last.as_micros(),
            ":bytes_in": integer(session.activity.bytes_in),
            ":bytes_out": integer(session.activity.bytes_out),
            ":recording": session.recording.word(),
            ":recording_digest": session.recording_digest,
            ":recording_rule": draft.recording_rule.map(Mode::word),
            ":logs": (!draft.logs.is_empty()).then(|| logs_to_json(&draft.logs)),
        })
        .map(|_| ())
}

/// Writes what can change in a session's life.
pub(super) fn update_session(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    let place = Place::of(session);
    connection
        .prepare_cached(
            "UPDATE sessions SET kind = :kind, state = :state, connected = :connected, since = :since, \
             ended = :ended, span = :span, end_reason = :end_reason, end_actor = :end_actor, \
             end_detail = :end_detail, last_activity = :last_activity, bytes_in = :bytes_in, \
             bytes_out = :bytes_out, recording = :recording, recording_digest = :recording_digest \
             WHERE created = :created",
        )?
        .execute(named_params! {
            ":created": session.created.as_micros(),
            ":kind": session.draft.kind.word(),
            ":state": session.state().word(),
            ":connected": place.connected,
            ":since": place.since,
            ":ended": place.ended,
            ":span": place.span,
            ":end_reason": place.ending.map(|e| e.reason.word()),
            ":end_actor": place.ending.map(|e| e.actor.to_string()),
            ":end_detail": place.ending.map(|e| e.detail.as_str()),
            ":last_activity": session.activity.last.as_micros(),
            ":bytes_in": integer(session.activity.bytes_in),
            ":bytes_out": integer(session.activity.bytes_out),
            ":recording": session.recording.word(),
            ":recording_digest": session.recording_digest,
        })
        .map(|_| ())
}

/// A phase, spread over its columns.
struct Place<'a> {
    connected: Option<i64>,
    since: Option<i64>,
    ended: Option<i64>,
    span: Option<u32>,
    ending: Option<&'a Ending>,
}

impl<'a> Place<'a> {
    fn of(session: &'a Session) -> Self {
        let since = match &session.phase {
            Phase::Disconnected { since, .. } | Phase::Terminating { since, .. } => Some(since.as_micros()),
            Phase::Connecting | Phase::Connected { .. } | Phase::Terminated { .. } | Phase::Failed { .. } => None,
        };
        let ended = session.ended().map(Time::as_micros);
        Self {
            connected: session.connected().map(Time::as_micros),
            since,
            ended,
            span: ended.map(|ended| span_class(ended.saturating_sub(session.created.as_micros()))),
            ending: session.ending(),
        }
    }
}

/// Reads a row of [`SESSION_COLUMNS`].
pub(super) fn session(row: &Row<'_>) -> Result<Session, Refusal> {
    static COLUMNS: Columns = OnceLock::new();
    let row = &Cells::of(row, SESSION_COLUMNS, &COLUMNS);
    let state = parsed(row, "state", State::from_word)?;
    let ending = || {
        Ok(Ending {
            reason: parsed(row, "end_reason", EndReason::from_word)?,
            actor: parsed(row, "end_actor", Actor::from_text)?,
            detail: value(row, "end_detail")?,
        })
    };
    let connected = || value::<Option<i64>>(row, "connected").map(|at| at.map(Time::from_micros));
    let phase = match state {
        State::Connecting => Phase::Connecting,
        State::Connected => Phase::Connected { connected: time(row, "connected")? },
        State::Disconnected => Phase::Disconnected { connected: time(row, "connected")?, since: time(row, "since")? },
        State::Terminating => {
            Phase::Terminating { connected: connected()?, ending: ending()?, since: time(row, "since")? }
        }
        State::Terminated => {
            Phase::Terminated { connected: connected()?, ending: ending()?, ended: time(row, "ended")? }
        }
        State::Failed => Phase::Failed { ending: ending()?, ended: time(row, "ended")? },
    };
    let draft = Draft {
        id: parsed(row, "id", ok(SessionId::parse))?,
        principal: parsed(row, "principal", ok(PrincipalName::parse))?,
        groups: parsed(row, "groups", |text| {
            if text == "[]" {
                return Some(BTreeSet::new());
            }
            let names: Vec<String> = serde_json::from_str(text).ok()?;
            names.iter().map(|name| GroupName::parse(name).ok()).collect()
        })?,
        auth: parsed(row, "auth", AuthMethod::from_word)?,
        client_address: parsed(row, "client_address", |text| text.parse().ok())?,
        client_software: value(row, "client_software")?,
        target: TargetSnapshot {
            id: parsed(row, "target_id", ok(TargetId::parse))?,
            name: parsed(row, "target_name", ok(TargetName::parse))?,
            address: value(row, "target_address")?,
            port: value(row, "target_port")?,
            labels: parsed(row, "target_labels", map_from_json)?,
            aliases: parsed(row, "target_aliases", map_from_json)?,
        },
        login: parsed_if_set(row, "login", ok(Login::parse))?,
        protocol: parsed(row, "protocol", Protocol::from_word)?,
        kind: parsed(row, "kind", Kind::from_word)?,
        document: value(row, "document")?,
        reason: value(row, "reason")?,
        duration_max: value::<Option<i64>>(row, "duration_max")?.map(|at| Duration::from_micros(at.unsigned_abs())),
        recording_rule: parsed_if_set(row, "recording_rule", Mode::from_word)?,
        logs: parsed_if_set(row, "logs", logs_from_json)?.unwrap_or_default(),
        node: parsed(row, "node", ok(NodeId::parse))?,
        epoch: count(row, "epoch")?,
        tags: parsed(row, "tags", map_from_json)?,
    };
    let activity = Activity {
        last: time(row, "last_activity")?,
        bytes_in: count(row, "bytes_in")?,
        bytes_out: count(row, "bytes_out")?,
    };
    let recording = parsed(row, "recording", Recording::from_word)?;
    let recording_digest = value(row, "recording_digest")?;
    Ok(Session { draft, created: time(row, "created")?, activity, recording, recording_digest, phase })
}

fn logs_to_json(logs: &[LogPlace]) -> String {
    let logs = logs.iter().map(|place| (place.kind.word(), &place.holder, &place.prefix, &place.url, place.streams));
    serde_json::json!(logs.collect::<Vec<_>>()).to_string()
}

fn logs_from_json(text: &str) -> Option<Vec<LogPlace>> {
    let logs: Vec<(String, String, String, String, bool)> = serde_json::from_str(text).ok()?;
    let place = |(kind, holder, prefix, url, streams): (String, String, String, String, bool)| {
        Some(LogPlace { kind: LogKind::from_word(&kind)?, holder, prefix, url, streams })
    };
    logs.into_iter().map(place).collect()
}

/// Reads a row that begins with [`EVENT_COLUMNS`].
pub(super) fn event(row: &Row<'_>) -> Result<AuditEvent, Refusal> {
    static COLUMNS: Columns = OnceLock::new();
    let row = &Cells::of(row, EVENT_COLUMNS, &COLUMNS);
    let deed = Deed {
        kind: parsed(row, "kind", AuditKind::from_word)?,
        actor: parsed(row, "actor", Actor::from_text)?,
        session: parsed_if_set(row, "session", ok(SessionId::parse))?,
        facts: parsed(row, "facts", map_from_json)?,
    };
    Ok(AuditEvent { seq: count(row, "seq")?, at: time(row, "at")?, deed })
}

/// Reads a row of [`CREDENTIAL_COLUMNS`].
pub(super) fn credential(row: &Row<'_>) -> Result<Credential, Refusal> {
    static COLUMNS: Columns = OnceLock::new();
    let row = &Cells::of(row, CREDENTIAL_COLUMNS, &COLUMNS);
    Ok(Credential {
        id: parsed(row, "id", ok(CredentialId::parse))?,
        kind: parsed(row, "kind", CredentialKind::from_word)?,
        principal: parsed(row, "principal", ok(PrincipalName::parse))?,
        digest: value(row, "digest")?,
        note: value(row, "note")?,
        created: time(row, "created")?,
        expires: value::<Option<i64>>(row, "expires")?.map(Time::from_micros),
        revoked: value::<Option<i64>>(row, "revoked")?.map(Time::from_micros),
    })
}

/// Writes a whole new row.
pub(super) fn insert_credential(connection: &Connection, credential: &Credential) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO credentials (id, kind, principal, digest, note, created, expires, revoked) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute((
            credential.id.as_str(),
            credential.kind.word(),
            credential.principal.as_str(),
            credential.digest,
            &credential.note,
            credential.created.as_micros(),
            credential.expires.map(Time::as_micros),
            credential.revoked.map(Time::as_micros),
        ))
        .map(|_| ())
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX)
}

/// SQLite's integers end at `i64::MAX`; a count beyond it is held there.
pub(super) fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn json_list<T: AsRef<str>>(names: &BTreeSet<T>) -> String {
    serde_json::Value::from_iter(names.iter().map(AsRef::as_ref)).to_string()
}

pub(super) fn json_map(pairs: &BTreeMap<String, String>) -> String {
    serde_json::Value::from_iter(pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))).to_string()
}

pub(super) fn map_from_json(text: &str) -> Option<BTreeMap<String, String>> {
    if text == "{}" {
        return Some(BTreeMap::new());
    }
    serde_json::from_str(text).ok()
}

/// A parser that tells why, as one that does not.
fn ok<T, E>(parse: impl Fn(&str) -> Result<T, E>) -> impl Fn(&str) -> Option<T> {
    move |text| parse(text).ok()
}

/// A row whose columns are found by name, at the price of one comparison each when they are read in their order.
struct Cells<'a> {
    row: &'a Row<'a>,
    columns: &'static [&'static str],
    /// Where the next one is expected.
    next: Cell<usize>,
}

type Columns = OnceLock<Vec<&'static str>>;

impl<'a> Cells<'a> {
    /// `columns` is the list that the row was selected with; `split` is that list's own.
    fn of(row: &'a Row<'a>, columns: &'static str, split: &'static Columns) -> Self {
        let columns = split.get_or_init(|| columns.split(", ").collect());
        Self { row, columns, next: Cell::new(0) }
    }

    fn place(&self, column: &'static str) -> Result<usize, Refusal> {
        let expected = self.next.get();
        let place = if self.columns.get(expected) == Some(&column) {
            expected
        } else {
            let found = self.columns.iter().position(|name| *name == column);
            found.ok_or_else(|| unreadable(column, "it was not selected"))?
        };
        self.next.set(place + 1);
        Ok(place)
    }
}

fn value<T: FromSql>(cells: &Cells<'_>, column: &'static str) -> Result<T, Refusal> {
    cells.row.get(cells.place(column)?).map_err(|error| unreadable(column, error))
}

fn time(cells: &Cells<'_>, column: &'static str) -> Result<Time, Refusal> {
    value(cells, column).map(Time::from_micros)
}

fn count(cells: &Cells<'_>, column: &'static str) -> Result<u64, Refusal> {
    u64::try_from(value::<i64>(cells, column)?).map_err(|error| unreadable(column, error))
}

fn parsed<T>(cells: &Cells<'_>, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Refusal> {
    let cell = cells.row.get_ref(cells.place(column)?).map_err(|error| unreadable(column, error))?;
    let text = cell.as_str().map_err(|error| unreadable(column, error))?;
    parse(text).ok_or_else(|| unreadable(column, format_args!("{text:?} is not a value of it")))
}

fn parsed_if_set<T>(
    cells: &Cells<'_>,
    column: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    let cell = cells.row.get_ref(cells.place(column)?).map_err(|error| unreadable(column, error))?;
    if cell == ValueRef::Null { Ok(None) } else { parsed(cells, column, parse).map(Some) }
}

pub(super) fn unreadable(column: &'static str, because: impl fmt::Display) -> Refusal {
    Refusal::internal(format!("cannot read column {column}: {because}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_classes_cover_all_lengths_without_overlap() {
        for class in 0..SPAN_CLASSES {
            assert_eq!(span_class(span_bound(class) - 1), class);
            if class + 1 < SPAN_CLASSES {
                assert_eq!(span_class(span_bound(class)), class + 1);
            }
        }
        assert_eq!(span_class(0), 0);
        assert_eq!(span_class(-1), 0, "a clock's fault must not lose a session");
    }
}
