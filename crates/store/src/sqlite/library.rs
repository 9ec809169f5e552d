//! Documents and settings: the port [`Library`] on SQLite.

use super::SqliteStore;
use super::ledger;
use super::refusal::from_sqlite;
use super::row;
use super::writer::Write;
use async_trait::async_trait;
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::document::{Document, DocumentChange, DocumentFormat, DocumentHead, DocumentVersion, Setting};
use ravelin_model::ports::Library;
use ravelin_model::session::Actor;
use ravelin_model::{DocumentName, Refusal, Time};
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::BTreeMap;

#[async_trait]
impl Library for SqliteStore {
    async fn documents(&self) -> Result<Vec<DocumentHead>, Refusal> {
        self.readers.read(heads).await
    }

    async fn document(&self, name: &DocumentName) -> Result<Option<Document>, Refusal> {
        let name = name.clone();
        self.readers.read(move |connection| stored(connection, &name)).await
    }

    async fn change_document(
        &self,
        name: &DocumentName,
        change: DocumentChange,
        by: &Actor,
    ) -> Result<Document, Refusal> {
        let (name, by) = (name.clone(), by.clone());
        self.writer.write(move |write| change_document(write, &name, change, &by)).await
    }

    async fn setting(&self, key: &str) -> Result<Option<Setting>, Refusal> {
        let key = key.to_owned();
        self.readers.read(move |connection| stored_setting(connection, &key)).await
    }

    async fn change_setting(&self, key: &str, value: Option<&str>, by: &Actor) -> Result<Option<Setting>, Refusal> {
        let (key, value, by) = (key.to_owned(), value.map(str::to_owned), by.clone());
        self.writer.write(move |write| change_setting(write, &key, value.as_deref(), &by)).await
    }
}

fn heads(connection: &Connection) -> Result<Vec<DocumentHead>, Refusal> {
    let mut statement = connection
        .prepare_cached(
            "SELECT name, display_name, default_version, tags, created, owner, \
             (SELECT max(version) FROM document_versions AS v WHERE v.name = d.name), \
             (SELECT format FROM document_versions AS v WHERE v.name = d.name AND v.version = d.default_version) \
             FROM documents AS d ORDER BY name",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement.query([]).map_err(from_sqlite)?;
    let mut heads = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        heads.push(DocumentHead {
            name: parsed(row, 0, |text| DocumentName::parse(text).ok())?,
            display_name: row.get(1).map_err(from_sqlite)?,
            default_version: row.get(2).map_err(from_sqlite)?,
            tags: parsed(row, 3, row::map_from_json)?,
            created: row.get(4).map(Time::from_micros).map_err(from_sqlite)?,
            owner: parsed(row, 5, Actor::from_text)?,
            latest_version: row.get(6).map_err(from_sqlite)?,
            format: parsed(row, 7, DocumentFormat::from_word)?,
        });
    }
    Ok(heads)
}

fn stored(connection: &Connection, name: &DocumentName) -> Result<Option<Document>, Refusal> {
    let mut statement = connection
        .prepare_cached("SELECT display_name, default_version, tags, created, owner FROM documents WHERE name = ?1")
        .map_err(from_sqlite)?;
    let mut rows = statement.query([name.as_str()]).map_err(from_sqlite)?;
    let Some(row) = rows.next().map_err(from_sqlite)? else { return Ok(None) };
    Ok(Some(Document {
        name: name.clone(),
        display_name: row.get(0).map_err(from_sqlite)?,
        default_version: row.get(1).map_err(from_sqlite)?,
        tags: parsed(row, 2, row::map_from_json)?,
        created: row.get(3).map(Time::from_micros).map_err(from_sqlite)?,
        owner: parsed(row, 4, Actor::from_text)?,
        versions: versions(connection, name)?,
    }))
}

fn versions(connection: &Connection, name: &DocumentName) -> Result<Vec<DocumentVersion>, Refusal> {
    let mut statement = connection
        .prepare_cached(
            "SELECT version, content, format, label, created, author FROM document_versions \
             WHERE name = ?1 ORDER BY version",
        )
        .map_err(from_sqlite)?;
    let mut rows = statement.query([name.as_str()]).map_err(from_sqlite)?;
    let mut versions = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        versions.push(DocumentVersion {
            number: row.get(0).map_err(from_sqlite)?,
            content: row.get(1).map_err(from_sqlite)?,
            format: parsed(row, 2, DocumentFormat::from_word)?,
            label: row.get(3).map_err(from_sqlite)?,
            created: row.get(4).map(Time::from_micros).map_err(from_sqlite)?,
            author: parsed(row, 5, Actor::from_text)?,
        });
    }
    Ok(versions)
}

fn change_document(
    write: &Write<'_>,
    name: &DocumentName,
    change: DocumentChange,
    by: &Actor,
) -> Result<Document, Refusal> {
    let now = write.clock.now();
    let word = change.word();
    let before = stored(write.tx, name)?;
    let there = || before.clone().ok_or_else(|| Refusal::not_found("document", name));
    let execute = |sql: &str, values: &[&dyn rusqlite::ToSql]| {
        write.tx.prepare_cached(sql).and_then(|mut statement| statement.execute(values)).map_err(from_sqlite)
    };
    let mut version = None;
    match change {
        DocumentChange::Create { content, format, label, display_name, tags } => {
            if before.is_some() {
                return Err(Refusal::Conflict { because: format!("document {name} exists") });
            }
            let count: u32 =
                write.tx.query_row("SELECT count(*) FROM documents", [], |row| row.get(0)).map_err(from_sqlite)?;
            if count as usize >= Document::DOCUMENTS_MAX {
                return Err(limit(format!("{} documents", Document::DOCUMENTS_MAX)));
            }
            execute(
                "INSERT INTO documents (name, display_name, default_version, tags, created, owner) \
                 VALUES (?1, ?2, 1, ?3, ?4, ?5)",
                &[&name.as_str(), &display_name, &row::json_map(&tags), &now.as_micros(), &by.to_string()],
            )?;
            insert_version(write, name, 1, (&content, format, label.as_deref()), by, now)?;
            version = Some(1);
        }
        DocumentChange::AddVersion { content, format, label, display_name } => {
            let document = there()?;
            if document.versions.len() >= Document::VERSIONS_MAX {
                return Err(limit(format!("{} versions of a document", Document::VERSIONS_MAX)));
            }
            let next = document.latest().map_or(1, |latest| latest.number + 1);
            insert_version(write, name, next, (&content, format, label.as_deref()), by, now)?;
            if display_name.is_some() {
                let sql = "UPDATE documents SET display_name = ?2 WHERE name = ?1";
                execute(sql, &[&name.as_str(), &display_name])?;
            }
            version = Some(next);
        }
        DocumentChange::SetDefault { version: wanted } => {
            if there()?.version(wanted).is_none() {
                return Err(Refusal::not_found("document version", wanted));
            }
            execute("UPDATE documents SET default_version = ?2 WHERE name = ?1", &[&name.as_str(), &wanted])?;
            version = Some(wanted);
        }
        DocumentChange::Retag { tags } => {
            there()?;
            execute("UPDATE documents SET tags = ?2 WHERE name = ?1", &[&name.as_str(), &row::json_map(&tags)])?;
        }
        DocumentChange::Delete => {
            there()?;
            execute("DELETE FROM document_versions WHERE name = ?1", &[&name.as_str()])?;
            execute("DELETE FROM documents WHERE name = ?1", &[&name.as_str()])?;
        }
    }
    let mut facts = BTreeMap::from([("document".to_owned(), name.to_string()), ("change".to_owned(), word.to_owned())]);
    if let Some(version) = version {
        facts.insert("version".to_owned(), version.to_string());
    }
    let deed = Deed { kind: AuditKind::DocumentChanged, actor: by.clone(), session: None, facts };
    ledger::append(write.tx, &deed, now).map_err(from_sqlite)?;
    match stored(write.tx, name)?.or(before) {
        Some(document) => Ok(document),
        None => Err(Refusal::internal(format!("document {name} was changed and is not there"))),
    }
}

fn insert_version(
    write: &Write<'_>,
    name: &DocumentName,
    number: u32,
    (content, format, label): (&str, DocumentFormat, Option<&str>),
    by: &Actor,
    now: Time,
) -> Result<(), Refusal> {
    write
        .tx
        .prepare_cached(
            "INSERT INTO document_versions (name, version, content, format, label, created, author) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .and_then(|mut statement| {
            statement.execute((name.as_str(), number, content, format.word(), label, now.as_micros(), by.to_string()))
        })
        .map(|_| ())
        .map_err(from_sqlite)
}

fn stored_setting(connection: &Connection, key: &str) -> Result<Option<Setting>, Refusal> {
    let found = connection
        .prepare_cached("SELECT value, modified, author FROM settings WHERE key = ?1")
        .and_then(|mut statement| {
            statement.query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?))).optional()
        })
        .map_err(from_sqlite)?;
    let Some((value, modified, author)) = found else { return Ok(None) };
    let author = Actor::from_text(&author).ok_or_else(|| row::unreadable("author", "it names nobody"))?;
    Ok(Some(Setting { value, modified: Time::from_micros(modified), author }))
}

fn change_setting(write: &Write<'_>, key: &str, value: Option<&str>, by: &Actor) -> Result<Option<Setting>, Refusal> {
    let now = write.clock.now();
    match value {
        Some(value) => write
            .tx
            .prepare_cached(
                "INSERT INTO settings (key, value, modified, author) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (key) DO UPDATE SET value = ?2, modified = ?3, author = ?4",
            )
            .and_then(|mut statement| statement.execute((key, value, now.as_micros(), by.to_string()))),
        None => write
            .tx
            .prepare_cached("DELETE FROM settings WHERE key = ?1")
            .and_then(|mut statement| statement.execute([key])),
    }
    .map_err(from_sqlite)?;
    let facts = BTreeMap::from([
        ("setting".to_owned(), key.to_owned()),
        ("value".to_owned(), value.unwrap_or("(default)").to_owned()),
    ]);
    let deed = Deed { kind: AuditKind::SettingChanged, actor: by.clone(), session: None, facts };
    ledger::append(write.tx, &deed, now).map_err(from_sqlite)?;
    stored_setting(write.tx, key)
}

fn limit(limit: String) -> Refusal {
    Refusal::LimitReached { limit, retry_after: None }
}

fn parsed<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> Result<T, Refusal> {
    let text: String = row.get(column).map_err(from_sqlite)?;
    parse(&text).ok_or_else(|| row::unreadable("of a document", "its value is not known"))
}
