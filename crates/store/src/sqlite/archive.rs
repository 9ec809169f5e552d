//! What is known of recordings, and the search in what was done.
//!
//! A search is a walk over the full-text index, newest first: acts are numbered as they are noted, so the index's own
//! order is near enough to time, and a page costs what its words cost, not what the table holds.
//!
//! A removal that has begun shows in `keep_until`: all its bits are turned, so that it is below zero, is in the index of
//! what expires, and can be turned back. A recording that is held while it is made has a row without bytes until it is
//! noted.

use super::refusal::from_sqlite;
use super::row::{self, SESSION_COLUMNS, integer, json_map, map_from_json};
use super::write::{record, stored};
use super::writer::Write;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::recording::{Act, ActKind, Entry, Found, Kept, LogKind, LogsBehind, Search, Source};
use ravelin_model::session::{Actor, Recording};
use ravelin_model::{PrincipalName, Refusal, Session, SessionId, TargetName, Time};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use std::collections::BTreeMap;
use std::time::Duration;

/// Words of one search.
const WORDS_MAX: usize = 16;

pub(super) fn note(write: &Write<'_>, kept: &Kept, keep_until: Time) -> Result<(), Refusal> {
    let head = &kept.head;
    let id = head.session.as_str();
    let began = head.began.as_micros();
    let noting = || -> rusqlite::Result<()> {
        write.tx.prepare_cached("DELETE FROM acts WHERE session = ?1")?.execute([id])?;
        write
            .tx
            .prepare_cached(
                "INSERT INTO recordings (session, began, principal, target, bytes, lasted, keep_until) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (session) DO UPDATE SET \
                 began = excluded.began, bytes = excluded.bytes, lasted = excluded.lasted, \
                 keep_until = excluded.keep_until",
            )?
            .execute((
                id,
                began,
                head.principal.as_str(),
                head.target.as_str(),
                integer(kept.bytes),
                micros(kept.lasted),
                keep_until.as_micros(),
            ))?;
        let mut statement = write.tx.prepare_cached(
            "INSERT INTO acts (session, principal, at, kind, source, text, facts) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        for act in kept.acts.iter().take(Act::PER_SESSION_MAX) {
            let at = began.saturating_add(micros(act.at));
            let (kind, source) = (act.kind.word(), act.source.word());
            statement.execute((id, head.principal.as_str(), at, kind, source, &act.text, json_map(&act.facts)))?;
        }
        Ok(())
    };
    noting().map_err(from_sqlite)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

const ENTRY: &str =
    "SELECT bytes, lasted, keep_until, hold, removed, principal, target FROM recordings WHERE session = ?1";

struct Known {
    entry: Entry,
    is_gone: bool,
    principal: String,
    target: String,
}

fn known(connection: &Connection, session: &SessionId) -> Result<Option<Known>, Refusal> {
    let read = |row: &Row<'_>| -> rusqlite::Result<Known> {
        let (keep_until, is_gone): (i64, bool) = (row.get(2)?, row.get(4)?);
        let entry = Entry {
            session: session.clone(),
            bytes: row.get::<_, i64>(0)?.unsigned_abs(),
            lasted: Duration::from_micros(row.get::<_, i64>(1)?.unsigned_abs()),
            keep_until: Time::from_micros(if keep_until < 0 { !keep_until } else { keep_until }),
            hold: row.get(3)?,
            removed: is_gone || keep_until < 0,
        };
        Ok(Known { entry, is_gone, principal: row.get(5)?, target: row.get(6)? })
    };
    connection
        .prepare_cached(ENTRY)
        .and_then(|mut statement| statement.query_row([session.as_str()], read).optional())
        .map_err(from_sqlite)
}

pub(super) fn entry(connection: &Connection, session: &SessionId) -> Result<Option<Entry>, Refusal> {
    Ok(known(connection, session)?.map(|known| known.entry))
}

pub(super) fn acts(connection: &Connection, session: &SessionId, skip: u32, limit: u32) -> Result<Vec<Act>, Refusal> {
    let reading = || -> rusqlite::Result<Vec<(i64, i64, RawAct)>> {
        connection
            .prepare_cached(
                "SELECT a.at, r.began, a.kind, a.source, a.text, a.facts FROM acts AS a \
                 JOIN recordings AS r ON r.session = a.session \
                 WHERE a.session = ?1 AND a.kind <> 'screen' ORDER BY a.at, a.id LIMIT ?2 OFFSET ?3",
            )?
            .query_map((session.as_str(), limit, skip), |row| Ok((row.get(0)?, row.get(1)?, RawAct::read(row, 2)?)))?
            .collect()
    };
    reading().map_err(from_sqlite)?.into_iter().map(|(at, began, raw)| raw.into_act(since(at, began))).collect()
}

fn since(at: i64, began: i64) -> Duration {
    Duration::from_micros(at.saturating_sub(began).max(0).unsigned_abs())
}

struct RawAct {
    kind: String,
    source: String,
    text: String,
    facts: String,
}

impl RawAct {
    fn read(row: &Row<'_>, first: usize) -> rusqlite::Result<Self> {
        let (kind, source) = (row.get(first)?, row.get(first + 1)?);
        Ok(Self { kind, source, text: row.get(first + 2)?, facts: row.get(first + 3)? })
    }

    fn into_act(self, at: Duration) -> Result<Act, Refusal> {
        let unreadable = || Refusal::internal(format!("an act cannot be read: {}, {}", self.kind, self.source));
        Ok(Act {
            at,
            kind: ActKind::from_word(&self.kind).ok_or_else(unreadable)?,
            source: Source::from_word(&self.source).ok_or_else(unreadable)?,
            facts: map_from_json(&self.facts).ok_or_else(unreadable)?,
            text: self.text,
        })
    }
}

/// What FTS5 is asked for: every word quoted, so that no text is an operator of its language.
fn words(text: &str) -> Result<String, Refusal> {
    // A NUL would end the question in the middle of a word.
    if text.chars().any(|c| c.is_control() && !c.is_whitespace()) {
        return Err(Refusal::invalid("text", "must hold no control characters"));
    }
    let mut words = Vec::new();
    for word in text.split_whitespace() {
        let (word, star) = match word.strip_suffix('*') {
            Some(start) => (start, "*"),
            None => (word, ""),
        };
        if word.chars().any(char::is_alphanumeric) {
            words.push(format!("\"{}\"{star}", word.replace('"', "\"\"")));
        }
    }
    if words.is_empty() || words.len() > WORDS_MAX {
        return Err(Refusal::invalid("text", format!("must hold 1 to {WORDS_MAX} words with letters or digits")));
    }
    Ok(words.join(" "))
}

pub(super) fn search(connection: &Connection, search: &Search) -> Result<Vec<Found>, Refusal> {
    if search.limit == 0 || search.limit > Search::LIMIT_MAX {
        let because = format!("must be 1 to {}, this is {}", Search::LIMIT_MAX, search.limit);
        return Err(Refusal::invalid("limit", because));
    }
    let mut sql = "SELECT a.session, a.principal, r.target, a.at, r.began, a.kind, a.source, a.text, a.facts \
                   FROM acts_words AS w JOIN acts AS a ON a.id = w.rowid JOIN recordings AS r ON r.session = a.session \
                   WHERE acts_words MATCH ?1"
        .to_owned();
    let mut values = vec![Value::from(words(&search.text)?)];
    if let Some(principal) = &search.principal {
        values.push(Value::from(principal.to_string()));
        sql.push_str(&format!(" AND a.principal = ?{}", values.len()));
    }
    if let Some(target) = &search.target {
        values.push(Value::from(target.to_string()));
        sql.push_str(&format!(" AND r.target = ?{} COLLATE NOCASE", values.len()));
    }
    for (bound, operator) in [(search.from, ">="), (search.before, "<")] {
        if let Some(bound) = bound {
            values.push(Value::from(bound.as_micros()));
            sql.push_str(&format!(" AND a.at {operator} ?{}", values.len()));
        }
    }
    values.push(Value::from(i64::from(search.limit)));
    sql.push_str(&format!(" ORDER BY w.rowid DESC LIMIT ?{}", values.len()));
    type Raw = (String, String, String, i64, i64, RawAct);
    let reading = || -> rusqlite::Result<Vec<Raw>> {
        connection
            .prepare_cached(&sql)?
            .query_map(params_from_iter(values), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, RawAct::read(row, 5)?))
            })?
            .collect()
    };
    let unreadable = |error| Refusal::internal(format!("an act cannot be read: {error}"));
    let found = reading().map_err(from_sqlite)?.into_iter().map(|(session, principal, target, at, began, raw)| {
        Ok(Found {
            session: SessionId::parse(&session).map_err(unreadable)?,
            principal: PrincipalName::parse(&principal).map_err(unreadable)?,
            target: TargetName::parse(&target).map_err(unreadable)?,
            at: Time::from_micros(at),
            act: raw.into_act(since(at, began))?,
        })
    });
    found.collect()
}

pub(super) fn hold(write: &Write<'_>, session: &SessionId, reason: Option<&str>, by: &Actor) -> Result<Entry, Refusal> {
    let known = match known(write.tx, session)? {
        None => being_made(write.tx, session)?,
        known => known,
    };
    let known = known.filter(|known| !known.entry.removed);
    let mut known = known.ok_or_else(|| Refusal::not_found("recording", session))?;
    if known.entry.hold.as_deref() == reason {
        return Ok(known.entry);
    }
    let is_whole = known.entry.bytes > 0;
    let writing = || match (is_whole, reason) {
        (true, _) => write
            .tx
            .prepare_cached("UPDATE recordings SET hold = ?2 WHERE session = ?1")?
            .execute((session.as_str(), reason)),
        // Nothing is known of it but that it is held.
        (false, None) => {
            write.tx.prepare_cached("DELETE FROM recordings WHERE session = ?1")?.execute([session.as_str()])
        }
        (false, Some(reason)) => write
            .tx
            .prepare_cached(
                "INSERT INTO recordings (session, began, principal, target, bytes, lasted, keep_until, hold) \
                 VALUES (?1, ?2, ?3, ?4, 0, 0, ?2, ?5) ON CONFLICT (session) DO UPDATE SET hold = excluded.hold",
            )?
            .execute((session.as_str(), known.entry.keep_until.as_micros(), &known.principal, &known.target, reason)),
    };
    writing().map_err(from_sqlite)?;
    let kind = if reason.is_some() { AuditKind::RecordingHeld } else { AuditKind::RecordingReleased };
    let said = reason.map(|reason| ("reason".to_owned(), reason.to_owned()));
    record(write, &deed(kind, by.clone(), session, &known, said))?;
    known.entry.hold = reason.map(str::to_owned);
    Ok(known.entry)
}

/// A recording that is not noted yet.
fn being_made(connection: &Connection, session: &SessionId) -> Result<Option<Known>, Refusal> {
    let found = stored(connection, session)?.filter(|session| session.recording == Recording::Live);
    Ok(found.map(|found| Known {
        entry: Entry {
            session: session.clone(),
            bytes: 0,
            lasted: Duration::ZERO,
            keep_until: found.created,
            hold: None,
            removed: false,
        },
        is_gone: false,
        principal: found.draft.principal.to_string(),
        target: found.draft.target.name.to_string(),
    }))
}

fn deed(kind: AuditKind, actor: Actor, session: &SessionId, known: &Known, more: Option<(String, String)>) -> Deed {
    let facts = [("owner".to_owned(), known.principal.clone()), ("target".to_owned(), known.target.clone())];
    let facts: BTreeMap<_, _> = facts.into_iter().chain(more).collect();
    Deed { kind, actor, session: Some(session.clone()), facts }
}

/// Whether a recording may be removed at the time `?1`, by the columns of its row.
const IS_OVER: &str = "keep_until BETWEEN 0 AND ?1 - 1 AND removed = 0 AND hold IS NULL AND bytes > 0 \
     AND NOT EXISTS (SELECT 1 FROM logs_due AS d WHERE d.session = recordings.session)";

pub(super) fn expired(connection: &Connection, now: Time, limit: u32) -> Result<Vec<SessionId>, Refusal> {
    let reading = || -> rusqlite::Result<Vec<String>> {
        let sql = format!(
            "SELECT session FROM recordings INDEXED BY recordings_expiry WHERE {IS_OVER} ORDER BY keep_until LIMIT ?2"
        );
        let mut ids: Vec<String> = connection
            .prepare_cached(&sql)?
            .query_map((now.as_micros(), limit), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        // One whose removal goes wrong again and again comes after the others, and is not the first of its kind each time.
        let begun = "SELECT session FROM recordings INDEXED BY recordings_expiry \
                     WHERE keep_until < 0 AND removed = 0 AND hold IS NULL ORDER BY random() LIMIT ?1";
        let left = limit.saturating_sub(u32::try_from(ids.len()).unwrap_or(limit));
        let more =
            connection.prepare_cached(begun)?.query_map([left], |row| row.get(0))?.collect::<Result<Vec<_>, _>>();
        ids.extend(more?);
        Ok(ids)
    };
    let ids = reading().map_err(from_sqlite)?;
    ids.iter().map(|id| SessionId::parse(id).map_err(Refusal::internal)).collect()
}

pub(super) fn claim(write: &Write<'_>, session: &SessionId, now: Time) -> Result<bool, Refusal> {
    let Some(known) = known(write.tx, session)?.filter(|known| !known.is_gone) else { return Ok(false) };
    if known.entry.removed {
        return Ok(true);
    }
    let sql = format!("UPDATE recordings SET keep_until = ~keep_until WHERE session = ?2 AND {IS_OVER}");
    let claimed =
        write.tx.prepare_cached(&sql).and_then(|mut statement| statement.execute((now.as_micros(), session.as_str())));
    Ok(claimed.map_err(from_sqlite)? > 0)
}

pub(super) fn removed(write: &Write<'_>, session: &SessionId) -> Result<(), Refusal> {
    let Some(known) = known(write.tx, session)?.filter(|known| !known.is_gone) else { return Ok(()) };
    for (sql, values) in [
        ("DELETE FROM acts WHERE session = ?1", vec![Value::from(session.to_string())]),
        (
            "UPDATE recordings SET removed = 1, keep_until = ?2 WHERE session = ?1",
            vec![Value::from(session.to_string()), Value::from(known.entry.keep_until.as_micros())],
        ),
    ] {
        write
            .tx
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params_from_iter(values)))
            .map_err(from_sqlite)?;
    }
    record(write, &deed(AuditKind::RecordingRemoved, Actor::System, session, &known, None)).map(|_| ())
}

/// Notes which places are to get the output of a new session.
pub(super) fn insert_logs(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    for place in &session.draft.logs {
        connection
            .prepare_cached("INSERT INTO logs_due (session, place) VALUES (?1, ?2)")?
            .execute((session.id().as_str(), place.kind.word()))?;
    }
    Ok(())
}

/// What is due, with the name of its place; from what is due to its session, and not through all sessions.
const LOGS_DUE: &str = "SELECT sessions.*, d.place AS place, \
     coalesce((SELECT json_extract(l.value, '$[1]') FROM json_each(logs) AS l \
               WHERE json_extract(l.value, '$[0]') = d.place), '') AS holder \
     FROM logs_due AS d CROSS JOIN sessions ON id = d.session \
     WHERE ended IS NOT NULL AND recording IN ('none', 'complete', 'failed')";

pub(super) fn logs_behind(connection: &Connection) -> Result<Vec<LogsBehind>, Refusal> {
    let sql = format!("SELECT place, holder, count(*), min(ended) FROM ({LOGS_DUE}) GROUP BY place, holder");
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query([]).map_err(from_sqlite)?;
    let mut behind = Vec::new();
    while let Some(found) = rows.next().map_err(from_sqlite)? {
        let place: String = found.get(0).map_err(from_sqlite)?;
        behind.push(LogsBehind {
            kind: LogKind::from_word(&place)
                .ok_or_else(|| Refusal::internal(format!("{place:?} is no kind of place for sessions' output")))?,
            holder: found.get(1).map_err(from_sqlite)?,
            sessions: found.get::<_, i64>(2).map_err(from_sqlite)?.unsigned_abs(),
            oldest: Time::from_micros(found.get(3).map_err(from_sqlite)?),
        });
    }
    Ok(behind)
}

pub(super) fn logs_due(
    connection: &Connection,
    kind: LogKind,
    holder: &str,
    limit: u32,
) -> Result<Vec<Session>, Refusal> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM ({LOGS_DUE}) WHERE place = ?1 AND holder = ?2 ORDER BY ended, id LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query((kind.word(), holder, limit)).map_err(from_sqlite)?;
    let mut due = Vec::new();
    while let Some(found) = rows.next().map_err(from_sqlite)? {
        due.push(row::session(found)?);
    }
    Ok(due)
}

pub(super) fn logs_waiting(connection: &Connection) -> Result<u64, Refusal> {
    connection
        .prepare_cached("SELECT count(*) FROM logs_due")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
        .map(i64::unsigned_abs)
        .map_err(from_sqlite)
}

pub(super) fn log_done(write: &Write<'_>, session: &SessionId, kind: LogKind) -> Result<(), Refusal> {
    write
        .tx
        .prepare_cached("DELETE FROM logs_due WHERE session = ?1 AND place = ?2")
        .and_then(|mut statement| statement.execute((session.as_str(), kind.word())))
        .map(|_| ())
        .map_err(from_sqlite)
}
