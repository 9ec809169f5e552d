//! What the writing thread does for each call of the port, inside one savepoint.
//!
//! INVARIANT: no live session belongs to an earlier life of its node. A node's life begins in [`start_node`], which in
//! one transaction counts the life and ends every live session of the lives before it; from then on [`open`] takes
//! sessions of the new life only. So a process that was declared dead finds its own sessions ended: whatever it still
//! tries to [`apply`] is refused by the transition table, and what it tries to [`flush`] is passed over.

use super::refusal::from_sqlite;
use super::row::{self, SESSION_COLUMNS, integer};
use super::writer::Write;
use super::{archive, ledger};
use ravelin_model::audit::{self, AuditKind, Deed};
use ravelin_model::credential::Credential;
use ravelin_model::ports::{Applied, NodeStart};
use ravelin_model::session::{Activity, Actor, Aged, Draft, Effect, Event};
use ravelin_model::{CredentialId, NodeId, Refusal, Session, SessionId, Time};
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(super) fn start_node(write: &Write<'_>, node: &NodeId) -> Result<NodeStart, Refusal> {
    let now = write.clock.now();
    let latest: Option<i64> = write
        .tx
        .prepare_cached("SELECT at FROM events ORDER BY seq DESC LIMIT 1")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)).optional())
        .map_err(from_sqlite)?;
    let epoch: i64 = write
        .tx
        .prepare_cached(
            "INSERT INTO nodes (node, epoch, started) VALUES (?1, 1, ?2) \
             ON CONFLICT (node) DO UPDATE SET epoch = epoch + 1, started = excluded.started RETURNING epoch",
        )
        .and_then(|mut statement| statement.query_row((node.as_str(), now.as_micros()), |row| row.get(0)))
        .map_err(from_sqlite)?;
    let epoch = epoch.unsigned_abs();
    let mut ended = Vec::new();
    // In batches, so that memory holds few rows at a time; in one transaction, so that the life begins as a whole.
    loop {
        let left_over = left_over_sessions(write.tx, node)?;
        if left_over.is_empty() {
            break;
        }
        for session in left_over {
            let applied = apply_to(write, session, &[Event::NodeLost.into()], now, Duration::ZERO)?;
            ended.push(applied.session.draft.id);
        }
    }
    let facts = BTreeMap::from([
        ("node".to_owned(), node.to_string()),
        ("epoch".to_owned(), epoch.to_string()),
        ("sessions_lost".to_owned(), ended.len().to_string()),
    ]);
    let deed = Deed { kind: AuditKind::NodeStarted, actor: Actor::System, session: None, facts };
    ledger::append(write.tx, &deed, now).map_err(from_sqlite)?;
    Ok(NodeStart { epoch, ended, latest: latest.map(Time::from_micros) })
}

fn left_over_sessions(connection: &Connection, node: &NodeId) -> Result<Vec<Session>, Refusal> {
    const BATCH_ROWS: u32 = 500;
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM sessions INDEXED BY sessions_live \
         WHERE node = ?1 AND ended IS NULL ORDER BY created LIMIT {BATCH_ROWS}"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query([node.as_str()]).map_err(from_sqlite)?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        sessions.push(row::session(row)?);
    }
    Ok(sessions)
}

pub(super) fn open(write: &Write<'_>, draft: Draft) -> Result<Session, Refusal> {
    let epoch: Option<i64> = write
        .tx
        .prepare_cached("SELECT epoch FROM nodes WHERE node = ?1")
        .and_then(|mut statement| statement.query_row([draft.node.as_str()], |row| row.get(0)).optional())
        .map_err(from_sqlite)?;
    match epoch {
        Some(epoch) if epoch == integer(draft.epoch) => {}
        Some(epoch) => {
            return Err(Refusal::Conflict {
                because: format!("{} is in its life {epoch}, not in life {}", draft.node, draft.epoch),
            });
        }
        None => return Err(Refusal::Conflict { because: format!("{} was never started", draft.node) }),
    }
    if stored(write.tx, &draft.id)?.is_some() {
        return Err(Refusal::Conflict { because: format!("session {} exists", draft.id) });
    }
    let (session, effects) = Session::open(draft, write.clock.now());
    row::insert_session(write.tx, &session)
        .and_then(|()| insert_names_and_pairs(write.tx, &session))
        .and_then(|()| archive::insert_logs(write.tx, &session))
        .map_err(from_sqlite)?;
    write_audit(write, &session, &effects, session.created)?;
    Ok(session)
}

/// The rows beside the session's own: what its target is called, its target's labels, its tags.
pub(super) fn insert_names_and_pairs(connection: &Connection, session: &Session) -> rusqlite::Result<()> {
    let target = &session.draft.target;
    let names: BTreeSet<String> = [target.name.as_str(), target.id.as_str()]
        .into_iter()
        .chain(target.aliases.values().map(String::as_str))
        .map(str::to_lowercase)
        .collect();
    let mut statement =
        connection.prepare_cached("INSERT OR IGNORE INTO target_names (name, target_id) VALUES (?1, ?2)")?;
    for name in names {
        statement.execute((name, target.id.as_str()))?;
    }
    for (sql, pairs) in [
        ("INSERT INTO session_labels (key, value, created) VALUES (?1, ?2, ?3)", &target.labels),
        ("INSERT INTO session_tags (key, value, created) VALUES (?1, ?2, ?3)", &session.draft.tags),
    ] {
        for (key, value) in pairs {
            connection.prepare_cached(sql)?.execute((key, value, session.created.as_micros()))?;
        }
    }
    Ok(())
}

pub(super) fn apply(write: &Write<'_>, id: &SessionId, events: &[Aged], waited: Duration) -> Result<Applied, Refusal> {
    let session = stored(write.tx, id)?.ok_or_else(|| Refusal::not_found("session", id))?;
    apply_to(write, session, events, write.clock.now(), waited)
}

fn apply_to(
    write: &Write<'_>,
    before: Session,
    events: &[Aged],
    now: Time,
    waited: Duration,
) -> Result<Applied, Refusal> {
    let mut session = before.clone();
    let mut all_effects = Vec::new();
    for aged in events {
        let (next, effects) = session.apply(&aged.event, aged.at(now, waited))?;
        write_audit(write, &next, &effects, now)?;
        session = next;
        all_effects.extend(effects);
    }
    if session != before {
        row::update_session(write.tx, &session).map_err(from_sqlite)?;
    }
    Ok(Applied { session, effects: all_effects, at: now })
}

fn write_audit(write: &Write<'_>, session: &Session, effects: &[Effect], at: Time) -> Result<(), Refusal> {
    for effect in effects {
        match effect {
            Effect::Audit(kind) => {
                let deed = Deed {
                    kind: *kind,
                    actor: audit::session_actor(session),
                    session: Some(session.id().clone()),
                    facts: audit::session_facts(session),
                };
                ledger::append(write.tx, &deed, at).map_err(from_sqlite)?;
            }
            // For the engine, which gets them with the answer.
            Effect::TellPerson(_) | Effect::CloseLegs | Effect::Confirm => {}
        }
    }
    Ok(())
}

pub(super) fn flush(write: &Write<'_>, batch: &[(SessionId, Activity)]) -> Result<(), Refusal> {
    let mut statement = write
        .tx
        .prepare_cached(
            "UPDATE sessions SET last_activity = max(last_activity, ?2), bytes_in = max(bytes_in, ?3), \
             bytes_out = max(bytes_out, ?4) WHERE id = ?1 AND ended IS NULL",
        )
        .map_err(from_sqlite)?;
    for (id, activity) in batch {
        let values = (id.as_str(), activity.last.as_micros(), integer(activity.bytes_in), integer(activity.bytes_out));
        statement.execute(values).map_err(from_sqlite)?;
    }
    Ok(())
}

/// One session, as the connection sees it.
pub(super) fn stored(connection: &Connection, id: &SessionId) -> Result<Option<Session>, Refusal> {
    let sql = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?1");
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query([id.as_str()]).map_err(from_sqlite)?;
    rows.next().map_err(from_sqlite)?.map(row::session).transpose()
}

pub(super) fn prune_sessions(write: &Write<'_>, before: Time, limit: u32) -> Result<u64, Refusal> {
    prune_ended(write.tx, before, limit).map_err(from_sqlite)
}

fn prune_ended(connection: &Connection, before: Time, limit: u32) -> rusqlite::Result<u64> {
    let doomed: Vec<i64> = connection
        .prepare_cached(
            "SELECT created FROM sessions INDEXED BY sessions_ended WHERE ended < ?1 AND NOT EXISTS \
             (SELECT 1 FROM recordings AS r WHERE r.session = sessions.id AND r.removed = 0) AND NOT EXISTS \
             (SELECT 1 FROM logs_due AS d WHERE d.session = sessions.id) ORDER BY ended LIMIT ?2",
        )?
        .query_map((before.as_micros(), limit), |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for created in &doomed {
        for sql in [
            "DELETE FROM session_labels WHERE created = ?1 AND (key, value) IN \
             (SELECT pair.key, pair.value FROM sessions AS s, json_each(s.target_labels) AS pair WHERE s.created = ?1)",
            "DELETE FROM session_tags WHERE created = ?1 AND (key, value) IN \
             (SELECT pair.key, pair.value FROM sessions AS s, json_each(s.tags) AS pair WHERE s.created = ?1)",
            "DELETE FROM sessions WHERE created = ?1",
        ] {
            connection.prepare_cached(sql)?.execute([created])?;
        }
    }
    Ok(doomed.len() as u64)
}

pub(super) fn prune_events(write: &Write<'_>, before: Time, limit: u32) -> Result<u64, Refusal> {
    ledger::prune(write.tx, write.key, before, limit).map_err(from_sqlite)
}

pub(super) fn record(write: &Write<'_>, deed: &Deed) -> Result<u64, Refusal> {
    ledger::append(write.tx, deed, write.clock.now()).map_err(from_sqlite)
}

/// The highest number given out, 0 when none was.
pub(super) fn newest_event(connection: &Connection) -> Result<u64, Refusal> {
    ledger::newest(connection).map_err(from_sqlite)
}

pub(super) fn add_credential(write: &Write<'_>, mut credential: Credential, by: &Actor) -> Result<Credential, Refusal> {
    if stored_credential(write.tx, &credential.id)?.is_some() {
        return Err(Refusal::Conflict { because: format!("credential {} exists", credential.id) });
    }
    credential.created = write.clock.now();
    row::insert_credential(write.tx, &credential).map_err(from_sqlite)?;
    credential_event(write, AuditKind::CredentialIssued, &credential, by, credential.created)?;
    Ok(credential)
}

pub(super) fn revoke_credential(write: &Write<'_>, id: &CredentialId, by: &Actor) -> Result<Credential, Refusal> {
    let mut credential = stored_credential(write.tx, id)?.ok_or_else(|| Refusal::not_found("credential", id))?;
    if credential.revoked.is_some() {
        return Ok(credential);
    }
    let now = write.clock.now();
    credential.revoked = Some(now);
    write
        .tx
        .prepare_cached("UPDATE credentials SET revoked = ?2 WHERE id = ?1")
        .and_then(|mut statement| statement.execute((id.as_str(), now.as_micros())))
        .map_err(from_sqlite)?;
    credential_event(write, AuditKind::CredentialRevoked, &credential, by, now)?;
    Ok(credential)
}

fn credential_event(
    write: &Write<'_>,
    kind: AuditKind,
    credential: &Credential,
    by: &Actor,
    at: Time,
) -> Result<(), Refusal> {
    let facts = BTreeMap::from([
        ("credential".to_owned(), credential.id.to_string()),
        ("credential_kind".to_owned(), credential.kind.word().to_owned()),
        ("principal".to_owned(), credential.principal.to_string()),
    ]);
    let deed = Deed { kind, actor: by.clone(), session: None, facts };
    ledger::append(write.tx, &deed, at).map_err(from_sqlite).map(|_| ())
}

/// One credential, as the connection sees it.
pub(super) fn stored_credential(connection: &Connection, id: &CredentialId) -> Result<Option<Credential>, Refusal> {
    let sql = format!("SELECT {} FROM credentials WHERE id = ?1", row::CREDENTIAL_COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query([id.as_str()]).map_err(from_sqlite)?;
    rows.next().map_err(from_sqlite)?.map(row::credential).transpose()
}
