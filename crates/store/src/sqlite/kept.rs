//! Things that edges keep: reads, and what the writing thread does for them.

use super::ledger;
use super::refusal::from_sqlite;
use super::writer::Write;
use ravelin_model::audit::Deed;
use ravelin_model::{Keepsake, PrincipalName, Refusal, Time};
use rusqlite::{Connection, OptionalExtension, Row};

const COLUMNS: &str = "key, owner, text, created, expires";

pub(super) fn keep(write: &Write<'_>, mut thing: Keepsake, deed: Option<&Deed>) -> Result<Keepsake, Refusal> {
    if thing.key.is_empty() || thing.key.len() > Keepsake::KEY_BYTES_MAX {
        return Err(Refusal::invalid("key", format!("must have 1 to {} bytes", Keepsake::KEY_BYTES_MAX)));
    }
    if thing.text.len() > Keepsake::TEXT_BYTES_MAX {
        return Err(Refusal::invalid("text", format!("may have at most {} bytes", Keepsake::TEXT_BYTES_MAX)));
    }
    let (others, of_owner): (u32, u32) = write
        .tx
        .prepare_cached("SELECT count(*), count(*) FILTER (WHERE owner = ?3) FROM kept WHERE shelf = ?1 AND key <> ?2")
        .and_then(|mut statement| {
            let others = (thing.shelf, &thing.key, thing.owner.as_str());
            statement.query_row(others, |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .map_err(from_sqlite)?;
    let limit = if others >= Keepsake::PER_SHELF_MAX {
        Some(format!("{} things of the kind {}", Keepsake::PER_SHELF_MAX, thing.shelf))
    } else if of_owner >= Keepsake::PER_OWNER_MAX {
        Some(format!("{} things of the kind {} of one principal", Keepsake::PER_OWNER_MAX, thing.shelf))
    } else {
        None
    };
    if let Some(limit) = limit {
        return Err(Refusal::LimitReached { limit, retry_after: None });
    }
    thing.created = write.clock.now();
    write
        .tx
        .prepare_cached(
            "INSERT OR REPLACE INTO kept (shelf, key, owner, text, created, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut statement| {
            let expires = thing.expires.map(Time::as_micros);
            let (key, owner, text) = (&thing.key, thing.owner.as_str(), &thing.text);
            statement.execute((thing.shelf, key, owner, text, thing.created.as_micros(), expires))
        })
        .map_err(from_sqlite)?;
    if let Some(deed) = deed {
        ledger::append(write.tx, deed, thing.created).map_err(from_sqlite)?;
    }
    Ok(thing)
}

pub(super) fn one(
    connection: &Connection,
    shelf: &'static str,
    key: &str,
    now: Time,
) -> Result<Option<Keepsake>, Refusal> {
    let sql = format!("SELECT {COLUMNS} FROM kept WHERE shelf = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?3)");
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let found = statement.query_row((shelf, key, now.as_micros()), |row| Ok(thing(shelf, row))).optional();
    found.map_err(from_sqlite)?.transpose()
}

pub(super) fn all(connection: &Connection, shelf: &'static str, now: Time) -> Result<Vec<Keepsake>, Refusal> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kept WHERE shelf = ?1 AND (expires IS NULL OR expires > ?2) ORDER BY created, key"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query((shelf, now.as_micros())).map_err(from_sqlite)?;
    let mut things = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        things.push(thing(shelf, row)?);
    }
    Ok(things)
}

pub(super) fn forget(write: &Write<'_>, shelf: &'static str, key: &str, deed: Option<&Deed>) -> Result<bool, Refusal> {
    let removed = write
        .tx
        .prepare_cached("DELETE FROM kept WHERE shelf = ?1 AND key = ?2")
        .and_then(|mut statement| statement.execute((shelf, key)))
        .map_err(from_sqlite)?;
    if let (Some(deed), true) = (deed, removed > 0) {
        ledger::append(write.tx, deed, write.clock.now()).map_err(from_sqlite)?;
    }
    Ok(removed > 0)
}

pub(super) fn prune(write: &Write<'_>, limit: u32) -> Result<u64, Refusal> {
    let removed = write
        .tx
        .prepare_cached(
            "DELETE FROM kept WHERE (shelf, key) IN (SELECT shelf, key FROM kept WHERE expires <= ?1 LIMIT ?2)",
        )
        .and_then(|mut statement| statement.execute((write.clock.now().as_micros(), limit)))
        .map_err(from_sqlite)?;
    Ok(removed as u64)
}

fn thing(shelf: &'static str, row: &Row<'_>) -> Result<Keepsake, Refusal> {
    let owner: String = row.get("owner").map_err(from_sqlite)?;
    Ok(Keepsake {
        shelf,
        key: row.get("key").map_err(from_sqlite)?,
        owner: PrincipalName::parse(&owner).map_err(Refusal::internal)?,
        text: row.get("text").map_err(from_sqlite)?,
        created: Time::from_micros(row.get("created").map_err(from_sqlite)?),
        expires: row.get::<_, Option<i64>>("expires").map_err(from_sqlite)?.map(Time::from_micros),
    })
}
