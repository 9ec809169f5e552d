//! The chain: how an event gets its number and its hash, and what signs, cuts and ships it.
//!
//! INVARIANT: every event is written by [`append`], inside the transaction of the change that it tells of, and builds on
//! the newest event that this transaction sees. SQLite lets one transaction write at a time, so the chain is one line,
//! whichever process writes.

use super::refusal::from_sqlite;
use super::row;
use super::writer::Write;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::ledger::{
    CHECKPOINT_EVENTS, Checkpoint, Digest, Entry, Expectations, Foundation, LedgerFault, LedgerKey, Line, Report,
    Signature, Verifier, encode, genesis, link,
};
use ravelin_model::ports::EntryPage;
use ravelin_model::session::Actor;
use ravelin_model::sink::SinkStart;
use ravelin_model::{Refusal, SessionId, Time};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::BTreeMap;

/// Writes a deed under the next number, which is returned.
pub(super) fn append(connection: &Connection, deed: &Deed, at: Time) -> rusqlite::Result<u64> {
    let (newest, before) = head(connection)?;
    let seq = newest + 1;
    let actor = deed.actor.to_string();
    let session = deed.session.as_ref().map(SessionId::as_str);
    let facts = deed.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let hash = link(&before, &encode(seq, at.as_micros(), deed.kind.word(), &actor, session, facts));
    connection
        .prepare_cached(
            "INSERT INTO events (seq, at, kind, actor, session, facts, hash) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute((
            row::integer(seq),
            at.as_micros(),
            deed.kind.word(),
            actor,
            session,
            row::json_map(&deed.facts),
            hash.0,
        ))?;
    Ok(seq)
}

/// The highest number given out, and the hash that the next event builds on. Where the newest events were taken away
/// behind our back, the number goes on and the hash does not, so that the gap shows.
fn head(connection: &Connection) -> rusqlite::Result<(u64, Digest)> {
    let foundation = foundation(connection)?;
    let newest = newest(connection)?.max(foundation.after);
    let last: Option<[u8; 32]> = connection
        .prepare_cached("SELECT hash FROM events ORDER BY seq DESC LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok((newest, last.map_or(foundation.head, Digest)))
}

/// The highest number given out, 0 when none was.
pub(super) fn newest(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()
        .map(|newest| newest.map_or(0, i64::unsigned_abs))
}

/// What the chain that is kept stands on.
pub(super) fn foundation(connection: &Connection) -> rusqlite::Result<Foundation> {
    connection.prepare_cached("SELECT deployment, cut_after, cut_head, cut_signature FROM ledger")?.query_row(
        [],
        |row| {
            let deployment: String = row.get(0)?;
            let head = row.get::<_, Option<[u8; 32]>>(2)?.map_or_else(|| genesis(&deployment), Digest);
            let signature = row.get::<_, Option<[u8; 64]>>(3)?.map(Signature);
            Ok(Foundation { deployment, after: row.get::<_, i64>(1)?.unsigned_abs(), head, signature })
        },
    )
}

/// Gives a hash to what was written before there was a chain, and a signature to the place where it begins, when
/// `adopting` key is one that was made just now.
pub(super) fn settle(connection: &mut Connection, adopting: Option<&LedgerKey>) -> rusqlite::Result<()> {
    const BATCH_ROWS: u32 = 1000;
    let tx = connection.transaction()?;
    let chained: bool = tx.query_row("SELECT chained FROM ledger", [], |row| row.get(0))?;
    if !chained {
        let mut before = foundation(&tx)?.head;
        let mut after = 0;
        loop {
            let sql = "SELECT seq, at, kind, actor, session, facts FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
            let hashes: Vec<(i64, Digest)> = tx
                .prepare_cached(sql)?
                .query_map((after, BATCH_ROWS), |row| {
                    let raw = Raw::of(row)?;
                    before = link(&before, &raw.encoding());
                    Ok((raw.seq, before))
                })?
                .collect::<rusqlite::Result<_>>()?;
            let Some((last, _)) = hashes.last() else { break };
            after = *last;
            let mut update = tx.prepare_cached("UPDATE events SET hash = ?2 WHERE seq = ?1")?;
            for (seq, hash) in hashes {
                update.execute((seq, hash.0))?;
            }
        }
        tx.execute("UPDATE ledger SET chained = 1", [])?;
    }
    let foundation = foundation(&tx)?;
    if let Some(key) = adopting
        && foundation.after > 0
        && foundation.signature.is_none()
    {
        let signature = key.sign_cut(&foundation.deployment, foundation.after, &foundation.head);
        tx.execute("UPDATE ledger SET cut_head = ?1, cut_signature = ?2", (foundation.head.0, signature.0))?;
    }
    tx.commit()
}

/// A row of the record as it lies there, whether or not it makes sense.
struct Raw {
    seq: i64,
    at: i64,
    kind: String,
    actor: String,
    session: Option<String>,
    facts: Option<BTreeMap<String, String>>,
}

impl Raw {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let facts = row.get_ref(5)?.as_str()?;
        Ok(Self {
            seq: row.get(0)?,
            at: row.get(1)?,
            kind: row.get(2)?,
            actor: row.get(3)?,
            session: row.get(4)?,
            facts: serde_json::from_str(facts).ok(),
        })
    }

    /// Empty for facts that are none: no chain has a place for that.
    fn encoding(&self) -> Vec<u8> {
        let Some(facts) = &self.facts else { return Vec::new() };
        let facts = facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        encode(self.seq.unsigned_abs(), self.at, &self.kind, &self.actor, self.session.as_deref(), facts)
    }
}

/// Signs the chain up to its newest event, unless that is a checkpoint; returns the new event's number.
pub(super) fn checkpoint(connection: &Connection, key: &LedgerKey, now: Time) -> rusqlite::Result<Option<u64>> {
    let (newest, head) = head(connection)?;
    if newest <= checkpointed(connection)? {
        return Ok(None);
    }
    let seq = append(connection, &key.checkpoint(&foundation(connection)?.deployment, newest, &head), now)?;
    connection.prepare_cached("UPDATE ledger SET checkpointed = ?1")?.execute([row::integer(seq)])?;
    Ok(Some(seq))
}

/// Signs the chain when a checkpoint is due for the number of events since the last one.
pub(super) fn checkpoint_if_due(connection: &Connection, key: &LedgerKey, now: Time) -> rusqlite::Result<()> {
    if newest(connection)?.saturating_sub(checkpointed(connection)?) >= CHECKPOINT_EVENTS {
        checkpoint(connection, key, now)?;
    }
    Ok(())
}

fn checkpointed(connection: &Connection) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT checkpointed FROM ledger")?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// Removes up to `limit` events older than `before` from the low end, but none that a sink has yet to take, and notes
/// (with a key: signs) where what is left begins.
pub(super) fn prune(
    connection: &Connection,
    key: Option<&LedgerKey>,
    before: Time,
    limit: u32,
) -> rusqlite::Result<u64> {
    let taken: Option<i64> =
        connection.prepare_cached("SELECT min(position) FROM sinks")?.query_row([], |row| row.get(0))?;
    // Times grow with the numbers, so that what is old enough lies together at the low end.
    let last: Option<i64> = connection
        .prepare_cached(
            "SELECT max(seq) FROM (SELECT seq, at FROM events ORDER BY seq LIMIT ?2) WHERE at < ?1 AND seq <= ?3",
        )?
        .query_row((before.as_micros(), limit, taken.unwrap_or(i64::MAX)), |row| row.get(0))?;
    let Some(last) = last else { return Ok(0) };
    let head: [u8; 32] =
        connection.prepare_cached("SELECT hash FROM events WHERE seq = ?1")?.query_row([last], |row| row.get(0))?;
    let removed = connection.prepare_cached("DELETE FROM events WHERE seq <= ?1")?.execute([last])?;
    let deployment = foundation(connection)?.deployment;
    let signature = key.map(|key| key.sign_cut(&deployment, last.unsigned_abs(), &Digest(head)).0);
    connection
        .prepare_cached("UPDATE ledger SET cut_after = ?1, cut_head = ?2, cut_signature = ?3")?
        .execute((last, head, signature))?;
    Ok(removed as u64)
}

pub(super) fn entries(connection: &Connection, after: u64, limit: u32) -> Result<EntryPage, Refusal> {
    let foundation = foundation(connection).map_err(from_sqlite)?;
    let newest = newest(connection).map_err(from_sqlite)?.max(foundation.after);
    let sql = format!("SELECT {}, hash FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2", row::EVENT_COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query((row::integer(after), limit)).map_err(from_sqlite)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        let hash = Digest(row.get("hash").map_err(from_sqlite)?);
        entries.push(Entry { event: row::event(row)?, hash });
    }
    Ok(EntryPage { entries, foundation, newest })
}

pub(super) fn sink_places(connection: &Connection) -> Result<Vec<(String, u64)>, Refusal> {
    let mut statement =
        connection.prepare_cached("SELECT name, position FROM sinks ORDER BY name").map_err(from_sqlite)?;
    let places = statement
        .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))
        .and_then(Iterator::collect);
    places.map_err(from_sqlite)
}

pub(super) fn join_sink(write: &Write<'_>, name: &str, start: SinkStart) -> Result<u64, Refusal> {
    let known = place(write.tx, name).map_err(from_sqlite)?;
    if let Some(place) = known {
        return Ok(place);
    }
    let place = match start {
        SinkStart::Oldest => foundation(write.tx).map(|foundation| foundation.after),
        SinkStart::Now => newest(write.tx),
    }
    .map_err(from_sqlite)?;
    let facts = BTreeMap::from([("sink".to_owned(), name.to_owned()), ("after".to_owned(), place.to_string())]);
    let deed = Deed { kind: AuditKind::SinkAdded, actor: Actor::System, session: None, facts };
    write
        .tx
        .prepare_cached("INSERT INTO sinks (name, position) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute((name, row::integer(place))))
        .and_then(|_| append(write.tx, &deed, write.clock.now()))
        .map_err(from_sqlite)?;
    Ok(place)
}

pub(super) fn advance_sink(write: &Write<'_>, name: &str, through: u64) -> Result<(), Refusal> {
    let changed = write
        .tx
        .prepare_cached("UPDATE sinks SET position = max(position, ?2) WHERE name = ?1")
        .and_then(|mut statement| statement.execute((name, row::integer(through))))
        .map_err(from_sqlite)?;
    if changed == 0 { Err(Refusal::not_found("sink", name)) } else { Ok(()) }
}

pub(super) fn leave_sink(write: &Write<'_>, name: &str) -> Result<(), Refusal> {
    let Some(place) = place(write.tx, name).map_err(from_sqlite)? else { return Ok(()) };
    let untaken = newest(write.tx).map_err(from_sqlite)?.saturating_sub(place);
    let facts = BTreeMap::from([
        ("sink".to_owned(), name.to_owned()),
        ("through".to_owned(), place.to_string()),
        ("untaken".to_owned(), untaken.to_string()),
    ]);
    let deed = Deed { kind: AuditKind::SinkRemoved, actor: Actor::System, session: None, facts };
    write
        .tx
        .prepare_cached("DELETE FROM sinks WHERE name = ?1")
        .and_then(|mut statement| statement.execute([name]))
        .and_then(|_| append(write.tx, &deed, write.clock.now()))
        .map_err(from_sqlite)?;
    Ok(())
}

fn place(connection: &Connection, name: &str) -> rusqlite::Result<Option<u64>> {
    connection
        .prepare_cached("SELECT position FROM sinks WHERE name = ?1")?
        .query_row([name], |row| row.get::<_, i64>(0))
        .optional()
        .map(|place| place.map(i64::unsigned_abs))
}

/// Checks the chain that a connection sees, event by event.
pub(super) fn verify(connection: &Connection, mut expect: Expectations) -> rusqlite::Result<Outcome> {
    let taken: i64 = connection.query_row("SELECT coalesce(max(position), 0) FROM sinks", [], |row| row.get(0))?;
    expect.at_least = expect.at_least.max(newest(connection)?).max(taken.unsigned_abs());
    let mut verifier = Verifier::new(&foundation(connection)?, expect);
    let mut statement =
        connection.prepare("SELECT seq, at, kind, actor, session, facts, hash FROM events ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        let hash = row.get::<_, [u8; 32]>(6).ok().map(Digest);
        // What cannot be read was not written by us.
        let line = match Raw::of(row) {
            Err(_) => Line { seq: seq.unsigned_abs(), encoding: Vec::new(), hash, checkpoint: None },
            Ok(raw) => Line {
                seq: seq.unsigned_abs(),
                encoding: raw.encoding(),
                hash,
                checkpoint: (raw.kind == AuditKind::LedgerCheckpoint.word()).then(|| {
                    let facts = raw.facts.as_ref()?;
                    Checkpoint::from_facts(|name| facts.get(name).map(String::as_str))
                }),
            },
        };
        verifier.handle(line);
        if verifier.fault().is_some() {
            break;
        }
    }
    Ok(verifier.finish())
}

/// What a check found.
pub type Outcome = Result<Report, LedgerFault>;
