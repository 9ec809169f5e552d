//! The file: making it, its permissions, its schema, its connections.

use super::{SqliteConfig, ledger, write};
use ravelin_model::{Refusal, Time};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

mod migrations {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Marks the file as ours: `RVLN`.
const APPLICATION_ID: i64 = 0x5256_4c4e;
/// How long a connection waits for another process that writes into the same file.
const BUSY_WAIT: Duration = Duration::from_secs(5);
/// Statements that each connection keeps ready.
const STATEMENTS_KEPT: usize = 128;

/// Why the store could not be opened. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// The file is not there and cannot be made.
    #[error("cannot create the store {}: {source}; make its directory, or set another path", path.display())]
    CannotCreate {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file, or its directory, may not be read and written.
    #[error("no permission to read and write the store {}; it and its directory must belong to the user that runs ravelin", path.display())]
    NoPermission {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{} is not a database; move it away, or set another path", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
    },
    /// The file is a database of another program.
    #[error("{} is a database of another program; set another path", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a later release.
    #[error("the store {} has schema {found}, this release knows up to {known}; run the release that wrote it, or a later one", path.display())]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: i64,
        /// Latest version that this release knows.
        known: i64,
    },
    /// The schema could not be brought up to date; the file is as it was.
    #[error("cannot bring the store {} up to date: {because}; restore it from a copy or ask for help", path.display())]
    CannotMigrate {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        because: String,
    },
    /// The file cannot be opened or read.
    #[error("cannot open the store {}: {because}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        because: String,
    },
    /// The system gave no thread.
    #[error("cannot start the store's writing thread: {source}; raise the limit of threads")]
    NoThread {
        /// What the system said.
        source: io::Error,
    },
}

/// How long a commit waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// Until what it wrote survives a loss of power.
    Full,
    /// Not at all.
    None,
}

/// What is needed to run a store.
pub(super) struct Opened {
    pub(super) writing: Connection,
    pub(super) reading: Vec<Connection>,
    /// The latest time in the file.
    pub(super) latest: Time,
    /// The highest event number given out.
    pub(super) newest: u64,
}

pub(super) fn open(config: &SqliteConfig, durability: Durability) -> Result<Opened, StoreOpenError> {
    let path = config.path.as_path();
    make_private(path)?;
    let mut writing = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    check_is_ours(path, &writing)?;
    check_schema(path, &writing)?;
    prepare(&writing, durability).map_err(|error| refused(path, &error))?;
    // All or none: an older release still opens a file that could not be brought up to date.
    migrations::migrations::runner().set_grouped(true).run(&mut writing).map_err(|error| {
        let path = path.to_owned();
        StoreOpenError::CannotMigrate { path, because: chain(&error) }
    })?;
    let adopting = config.key.as_deref().filter(|_| config.key_is_new);
    ledger::settle(&mut writing, adopting).map_err(|error| refused(path, &error))?;
    let latest = latest_time(&writing).map_err(|error| refused(path, &error))?;
    let newest = write::newest_event(&writing).map_err(|refusal| {
        let because = refusal.detail().map_or_else(|| refusal.to_string(), |d| d.for_log().to_owned());
        StoreOpenError::Unreadable { path: path.to_owned(), because }
    })?;
    let reading = (0..config.readers.max(1))
        .map(|_| connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY))
        .collect::<Result<_, _>>()?;
    Ok(Opened { writing, reading, latest, newest })
}

/// Opens a file that is there, to read it and nothing else.
pub(super) fn open_to_read(path: &Path) -> Result<Connection, StoreOpenError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check_is_ours(path, &connection)?;
    check_schema(path, &connection)?;
    Ok(connection)
}

/// What a failed reading means.
pub(super) fn unreadable(path: &Path, error: &rusqlite::Error) -> StoreOpenError {
    refused(path, error)
}

/// Makes the file if need be, for its owner's eyes only. SQLite gives the files beside it the same permissions.
fn make_private(path: &Path) -> Result<(), StoreOpenError> {
    let refused = |source: io::Error| match source.kind() {
        io::ErrorKind::PermissionDenied => StoreOpenError::NoPermission { path: path.to_owned() },
        _ => StoreOpenError::CannotCreate { path: path.to_owned(), source },
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(refused)?;
    let mut permissions = file.metadata().map_err(refused)?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        file.set_permissions(permissions).map_err(refused)?;
    }
    Ok(())
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreOpenError> {
    // Each connection is used by one thread at a time: no lock within SQLite is needed.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_WAIT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        // KiB, as negative values are. A page of a list touches a few hundred KiB; the system's cache holds the rest.
        connection.pragma_update(None, "cache_size", -4096)?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| refused(path, &error))
}

fn check_is_ours(path: &Path, connection: &Connection) -> Result<(), StoreOpenError> {
    let found = || -> rusqlite::Result<(i64, i64)> {
        let application = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
        let tables = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        Ok((application, tables))
    };
    let (application, tables) = found().map_err(|error| refused(path, &error))?;
    if application == APPLICATION_ID || tables == 0 {
        Ok(())
    } else {
        Err(StoreOpenError::NotOurs { path: path.to_owned() })
    }
}

fn check_schema(path: &Path, connection: &Connection) -> Result<(), StoreOpenError> {
    let known = migrations::migrations::runner()
        .get_migrations()
        .iter()
        .map(|migration| i64::from(migration.version()))
        .max()
        .unwrap_or(0);
    let found = || -> rusqlite::Result<i64> {
        if !connection.table_exists(None, "refinery_schema_history")? {
            return Ok(0);
        }
        connection.query_row("SELECT coalesce(max(version), 0) FROM refinery_schema_history", [], |row| row.get(0))
    };
    let found = found().map_err(|error| refused(path, &error))?;
    if found > known {
        return Err(StoreOpenError::NewerSchema { path: path.to_owned(), found, known });
    }
    Ok(())
}

fn prepare(connection: &Connection, durability: Durability) -> rusqlite::Result<()> {
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::None => "OFF",
    };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // After a burst the log shrinks to this many bytes again.
    connection.pragma_update_and_check(None, "journal_size_limit", 64 * 1024 * 1024, |_| Ok(()))
}

/// The latest time that the store gave out and still holds. (Ends are left out: an owner's word on the last sign of life
/// may move them.)
fn latest_time(connection: &Connection) -> rusqlite::Result<Time> {
    connection
        .query_row(
            "SELECT max(coalesce((SELECT max(created) FROM sessions), 0), \
             coalesce((SELECT at FROM events ORDER BY seq DESC LIMIT 1), 0), \
             coalesce((SELECT max(started) FROM nodes), 0), \
             coalesce((SELECT max(max(created), coalesce(max(revoked), 0)) FROM credentials), 0))",
            [],
            |row| row.get(0),
        )
        .map(Time::from_micros)
}

/// What a failed first contact with the file means.
fn refused(path: &Path, error: &rusqlite::Error) -> StoreOpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => StoreOpenError::NotADatabase { path },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            StoreOpenError::NoPermission { path }
        }
        // Foreign enum: whatever else it says stands in the text.
        _ => StoreOpenError::Unreadable { path, because: error.to_string() },
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Keeps a second process from starting a node on the same file: it would take this process's live sessions for
/// left-overs and end them in the record while they go on.
#[derive(Debug)]
pub(super) struct NodeLock {
    path: PathBuf,
    held: Mutex<Option<File>>,
}

impl NodeLock {
    /// The lock of the store at `path`, not taken yet. It lies in a file of its own beside it.
    pub(super) fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-node");
        Self { path: PathBuf::from(name), held: Mutex::new(None) }
    }

    /// Takes the lock until this value is dropped or the process dies; taking it again changes nothing.
    pub(super) fn take(&self) -> Result<(), Refusal> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(());
        }
        let out_of_reach = |error| super::refusal::unavailable(format_args!("{}: {error}", self.path.display()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(out_of_reach)?;
        match file.try_lock() {
            Ok(()) => {
                *held = Some(file);
                Ok(())
            }
            Err(TryLockError::WouldBlock) => Err(Refusal::Conflict {
                because: "another process runs a node on this store; stop it, or use another state directory"
                    .to_owned(),
            }),
            Err(TryLockError::Error(error)) => Err(out_of_reach(error)),
        }
    }
}

/// A directory that vanishes with this value.
#[derive(Debug)]
pub(super) struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    pub(super) fn new() -> Result<Self, StoreOpenError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let base = std::env::temp_dir();
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("ravelin-store-{}-{number}", std::process::id()));
            match fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Self { path }),
                // Left over by a process that was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(StoreOpenError::CannotCreate { path, source }),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove a temporary store");
        }
    }
}
