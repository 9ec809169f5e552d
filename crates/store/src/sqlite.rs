//! The store on SQLite: one file, one process that runs a node on it.
//!
//! - [`SqliteStore`] is the port; each call is handed to one of the two sides below.
//! - `writer`: the one writing thread and group commit; `write`: what it does for each call.
//! - `readers`: parallel read-only connections; `select`: how a filter becomes a bounded walk over indexes.
//! - `archive`: what is known of recordings, and the search in it.
//! - `ledger`: the chain behind the record, and the places of sinks.
//! - `row`: the spelling of the model's values in columns. `clock`: the store's clock. `file`: opening, permissions,
//!   migrations.
//!
//! Readers see only what is committed, and an answer to a write comes after its commit: a caller reads its own writes.

mod archive;
mod clock;
mod file;
mod kept;
mod ledger;
mod library;
mod readers;
mod refusal;
mod row;
mod select;
mod write;
mod writer;

pub use file::StoreOpenError;
pub use ledger::Outcome;

use async_trait::async_trait;
use clock::Clock;
use ravelin_model::audit::{AuditEvent, Deed};
use ravelin_model::credential::Credential;
use ravelin_model::ledger::{Expectations, LedgerKey};
use ravelin_model::ports::{Applied, Archive, EntryPage, EventPage, Ledger, NodeStart, Store};
use ravelin_model::query::{Page, SessionQuery};
use ravelin_model::recording::{Act, Entry, Found, Kept, LogKind, LogsBehind, Search};
use ravelin_model::session::{Activity, Actor, Aged, Draft};
use ravelin_model::sink::SinkStart;
use ravelin_model::{CredentialId, Keepsake, NodeId, Refusal, Session, SessionId, Time};
use readers::Readers;
use refusal::from_sqlite;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;
use writer::Writer;

/// Where the store is and how much it may use.
#[derive(Clone, Debug)]
pub struct SqliteConfig {
    /// The file; it is made, readable by its owner only, when it is not there. Its directory must exist.
    pub path: PathBuf,
    /// Connections that read in parallel, at least 1. More than cores are of use only while the disk is waited for.
    pub readers: usize,
    /// Signs the record's checkpoints and cuts; without one nothing is signed.
    pub key: Option<Arc<LedgerKey>>,
    /// Whether the key was made just now: then it also signs where the record begins, should an earlier release have
    /// removed events without a signature.
    pub key_is_new: bool,
}

impl SqliteConfig {
    /// Readers unless told otherwise.
    pub const READERS: usize = 4;

    /// A store in the file at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: Self::READERS, key: None, key_is_new: false }
    }
}

/// Sessions, audit record and credentials in a SQLite file.
///
/// Dropping it finishes the writes that were accepted, closes the file and blocks the caller for that long (about one
/// commit).
#[derive(Debug)]
pub struct SqliteStore {
    // INVARIANT: fields are dropped in this order; the scratch directory goes last, when the files are closed.
    writer: Writer,
    readers: Readers,
    clock: Arc<Clock>,
    newest_event: watch::Receiver<u64>,
    node_lock: Arc<file::NodeLock>,
    _scratch: Option<file::ScratchDirectory>,
}

impl SqliteStore {
    /// Opens the file, or makes it, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreOpenError`] says what is wrong with the file and what to do about it.
    pub fn open(config: SqliteConfig) -> Result<Self, StoreOpenError> {
        Self::from_file(&config, file::Durability::Full, None)
    }

    /// A store of its own that vanishes when it is dropped, for tests and trials. It behaves as any other, but does
    /// not wait for the disk.
    ///
    /// # Errors
    /// [`StoreOpenError`] when the directory for temporary files cannot be used.
    pub fn in_memory() -> Result<Self, StoreOpenError> {
        let scratch = file::ScratchDirectory::new()?;
        let config = SqliteConfig::new(scratch.path().join("store.db"));
        Self::from_file(&config, file::Durability::None, Some(scratch))
    }

    fn from_file(
        config: &SqliteConfig,
        durability: file::Durability,
        scratch: Option<file::ScratchDirectory>,
    ) -> Result<Self, StoreOpenError> {
        let file::Opened { writing, reading, latest, newest } = file::open(config, durability)?;
        let clock = Arc::new(Clock::after(latest));
        let (newest_sender, newest_event) = watch::channel(newest);
        let writer = Writer::start(writing, Arc::clone(&clock), newest_sender, config.key.clone())
            .map_err(|source| StoreOpenError::NoThread { source })?;
        Ok(Self {
            writer,
            readers: Readers::new(reading, readers::READ_MAX),
            clock,
            newest_event,
            node_lock: Arc::new(file::NodeLock::beside(&config.path)),
            _scratch: scratch,
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    /// Takes the file for this process: while the store is open no other process can start a node on it. Reading, and
    /// issuing credentials, stay open to others.
    async fn start_node(&self, node: &NodeId) -> Result<NodeStart, Refusal> {
        let lock = Arc::clone(&self.node_lock);
        let node = node.clone();
        self.writer
            .write(move |write| {
                lock.take()?;
                write::start_node(write, &node)
            })
            .await
    }

    async fn open(&self, draft: Draft) -> Result<Session, Refusal> {
        self.writer.write(move |write| write::open(write, draft)).await
    }

    async fn apply_aged(&self, id: &SessionId, events: Vec<Aged>) -> Result<Applied, Refusal> {
        let (id, called) = (id.clone(), Instant::now());
        self.writer.write(move |write| write::apply(write, &id, &events, called.elapsed())).await
    }

    async fn flush(&self, batch: Vec<(SessionId, Activity)>) -> Result<(), Refusal> {
        self.writer.write(move |write| write::flush(write, &batch)).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Refusal> {
        let id = id.clone();
        self.readers.read(move |connection| write::stored(connection, &id)).await
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<Page<Session>, Refusal> {
        let query = query.clone();
        self.readers.read(move |connection| select::sessions(connection, &query)).await
    }

    async fn prune_sessions(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.writer.write(move |write| write::prune_sessions(write, before, limit)).await
    }

    async fn prune_events(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.writer.write(move |write| write::prune_events(write, before, limit)).await
    }

    async fn record(&self, deed: Deed) -> Result<u64, Refusal> {
        self.writer.write(move |write| write::record(write, &deed)).await
    }

    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, Refusal> {
        self.readers.read(move |connection| event_page(connection, after, limit)).await
    }

    /// Events that another process writes into the file wake nobody before this process's next commit.
    async fn wait_for_event(&self, after: u64) {
        let mut newest = self.newest_event.clone();
        if newest.wait_for(|newest| *newest > after).await.is_err() {
            // The writing thread is gone, so no such event can come any more.
            std::future::pending::<()>().await;
        }
    }

    async fn add_credential(&self, credential: Credential, by: &Actor) -> Result<Credential, Refusal> {
        let by = by.clone();
        self.writer.write(move |write| write::add_credential(write, credential, &by)).await
    }

    async fn credential(&self, id: &CredentialId) -> Result<Option<Credential>, Refusal> {
        let id = id.clone();
        self.readers.read(move |connection| write::stored_credential(connection, &id)).await
    }

    async fn credentials(&self) -> Result<Vec<Credential>, Refusal> {
        self.readers.read(all_credentials).await
    }

    async fn revoke_credential(&self, id: &CredentialId, by: &Actor) -> Result<Credential, Refusal> {
        let (id, by) = (id.clone(), by.clone());
        self.writer.write(move |write| write::revoke_credential(write, &id, &by)).await
    }

    async fn keep(&self, thing: Keepsake, deed: Option<Deed>) -> Result<Keepsake, Refusal> {
        self.writer.write(move |write| kept::keep(write, thing, deed.as_ref())).await
    }

    async fn kept(&self, shelf: &'static str, key: &str) -> Result<Option<Keepsake>, Refusal> {
        let (key, now) = (key.to_owned(), self.clock.now());
        self.readers.read(move |connection| kept::one(connection, shelf, &key, now)).await
    }

    async fn all_kept(&self, shelf: &'static str) -> Result<Vec<Keepsake>, Refusal> {
        let now = self.clock.now();
        self.readers.read(move |connection| kept::all(connection, shelf, now)).await
    }

    async fn forget(&self, shelf: &'static str, key: &str, deed: Option<Deed>) -> Result<bool, Refusal> {
        let key = key.to_owned();
        self.writer.write(move |write| kept::forget(write, shelf, &key, deed.as_ref())).await
    }

    async fn prune_kept(&self, limit: u32) -> Result<u64, Refusal> {
        self.writer.write(move |write| kept::prune(write, limit)).await
    }

    async fn now(&self) -> Result<Time, Refusal> {
        Ok(self.clock.now())
    }

    fn ledger(&self) -> Option<&dyn Ledger> {
        Some(self)
    }
}

#[async_trait]
impl Ledger for SqliteStore {
    async fn entries(&self, after: u64, limit: u32) -> Result<EntryPage, Refusal> {
        self.readers.read(move |connection| ledger::entries(connection, after, limit)).await
    }

    async fn wait_for_entry(&self, after: u64) {
        self.wait_for_event(after).await;
    }

    async fn checkpoint(&self) -> Result<Option<u64>, Refusal> {
        self.writer
            .write(|write| match write.key {
                Some(key) => ledger::checkpoint(write.tx, key, write.clock.now()).map_err(from_sqlite),
                None => Ok(None),
            })
            .await
    }

    async fn join_sink(&self, name: &str, start: SinkStart) -> Result<u64, Refusal> {
        let name = name.to_owned();
        self.writer.write(move |write| ledger::join_sink(write, &name, start)).await
    }

    async fn advance_sink(&self, name: &str, through: u64) -> Result<(), Refusal> {
        let name = name.to_owned();
        self.writer.write(move |write| ledger::advance_sink(write, &name, through)).await
    }

    async fn sink_places(&self) -> Result<Vec<(String, u64)>, Refusal> {
        self.readers.read(ledger::sink_places).await
    }

    async fn leave_sink(&self, name: &str) -> Result<(), Refusal> {
        let name = name.to_owned();
        self.writer.write(move |write| ledger::leave_sink(write, &name)).await
    }
}

/// Checks the chain in a store's file, which may be in use. Needs no more than to read it.
///
/// # Errors
/// [`StoreOpenError`] when it cannot be read; what is wrong with the chain stands in the [`Outcome`].
pub fn verify_file(path: &Path, expect: Expectations) -> Result<Outcome, StoreOpenError> {
    let connection = file::open_to_read(path)?;
    // One transaction, so that a node that goes on writing does not change what is seen.
    connection.execute_batch("BEGIN").map_err(|error| file::unreadable(path, &error))?;
    ledger::verify(&connection, expect).map_err(|error| file::unreadable(path, &error))
}

#[async_trait]
impl Archive for SqliteStore {
    async fn note(&self, kept: &Kept, keep_until: Time) -> Result<(), Refusal> {
        let kept = kept.clone();
        self.writer.write(move |write| archive::note(write, &kept, keep_until)).await
    }

    async fn entry(&self, session: &SessionId) -> Result<Option<Entry>, Refusal> {
        let session = session.clone();
        self.readers.read(move |connection| archive::entry(connection, &session)).await
    }

    async fn acts(&self, session: &SessionId, skip: u32, limit: u32) -> Result<Vec<Act>, Refusal> {
        let session = session.clone();
        self.readers.read(move |connection| archive::acts(connection, &session, skip, limit)).await
    }

    async fn search(&self, search: &Search) -> Result<Vec<Found>, Refusal> {
        let search = search.clone();
        self.readers.read(move |connection| archive::search(connection, &search)).await
    }

    async fn hold(&self, session: &SessionId, reason: Option<&str>, by: &Actor) -> Result<Entry, Refusal> {
        let (session, reason, by) = (session.clone(), reason.map(str::to_owned), by.clone());
        self.writer.write(move |write| archive::hold(write, &session, reason.as_deref(), &by)).await
    }

    async fn logs_behind(&self) -> Result<Vec<LogsBehind>, Refusal> {
        self.readers.read(archive::logs_behind).await
    }

    async fn logs_due(&self, kind: LogKind, holder: &str, limit: u32) -> Result<Vec<Session>, Refusal> {
        let holder = holder.to_owned();
        self.readers.read(move |connection| archive::logs_due(connection, kind, &holder, limit)).await
    }

    async fn logs_waiting(&self) -> Result<u64, Refusal> {
        self.readers.read(archive::logs_waiting).await
    }

    async fn log_done(&self, session: &SessionId, kind: LogKind) -> Result<(), Refusal> {
        let session = session.clone();
        self.writer.write(move |write| archive::log_done(write, &session, kind)).await
    }

    async fn expired(&self, now: Time, limit: u32) -> Result<Vec<SessionId>, Refusal> {
        self.readers.read(move |connection| archive::expired(connection, now, limit)).await
    }

    async fn claim(&self, session: &SessionId, now: Time) -> Result<bool, Refusal> {
        let session = session.clone();
        self.writer.write(move |write| archive::claim(write, &session, now)).await
    }

    async fn removed(&self, session: &SessionId) -> Result<(), Refusal> {
        let session = session.clone();
        self.writer.write(move |write| archive::removed(write, &session)).await
    }
}

fn event_page(connection: &Connection, after: u64, limit: u32) -> Result<EventPage, Refusal> {
    let newest = write::newest_event(connection)?;
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT min(seq) FROM events")
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(from_sqlite)?;
    let sql = format!("SELECT {} FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2", row::EVENT_COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query((row::integer(after), limit)).map_err(from_sqlite)?;
    let mut events: Vec<AuditEvent> = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        events.push(row::event(row)?);
    }
    // Nothing kept: the next event will be the lowest.
    Ok(EventPage { events, oldest: oldest.map_or(newest + 1, i64::unsigned_abs), newest })
}

fn all_credentials(connection: &Connection) -> Result<Vec<Credential>, Refusal> {
    let sql = format!("SELECT {} FROM credentials ORDER BY created, id", row::CREDENTIAL_COLUMNS);
    let mut statement = connection.prepare_cached(&sql).map_err(from_sqlite)?;
    let mut rows = statement.query([]).map_err(from_sqlite)?;
    let mut credentials = Vec::new();
    while let Some(row) = rows.next().map_err(from_sqlite)? {
        credentials.push(row::credential(row)?);
    }
    Ok(credentials)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::session::{EndReason, Ending, Event};
    use ravelin_model::testkit::store::draft;
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    #[tokio::test]
    async fn what_a_call_waits_in_the_queue_does_not_move_an_end() {
        let store = SqliteStore::in_memory().expect("a temporary store opens");
        let node = NodeId::new(1);
        let start = store.start_node(&node).await.expect("a node starts");
        let opened = store.open(draft("alice", 1, &node, start.epoch)).await.expect("a session opens");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let (go, wait) = sync_channel::<()>(1);
        let holding = store.writer.write(move |_| {
            let _let_go = wait.recv();
            Ok(())
        });
        let ending = Ending::new(EndReason::IdleLimit, Actor::System, "");
        let activity = Activity { last: opened.created, bytes_in: 0, bytes_out: 0 };
        let age = Duration::from_millis(10);
        let told = [Event::End { ending }, Event::Closed { activity }].map(|event| Aged::new(event, age)).to_vec();
        let telling = store.apply_aged(opened.id(), told);
        let asked = store.clock.now();
        let letting_go = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            go.send(()).expect("the command waits");
        };
        let (held, applied, ()) = tokio::join!(holding, telling, letting_go);
        held.expect("held");
        let applied = applied.expect("the table has these moves");
        let ended = applied.session.ended().expect("it has ended");
        assert!(ended < asked && asked < applied.at, "{ended:?} < {asked:?} < {:?}", applied.at);
    }
}
