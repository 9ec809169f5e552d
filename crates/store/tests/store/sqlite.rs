//! What the SQLite store promises beyond the port: its file, its crashes, its callers at once.

use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::ports::Store;
use ravelin_model::query::{Order, SessionFilter, SessionQuery};
use ravelin_model::session::{Actor, EndReason, Event, State};
use ravelin_model::testkit::store::draft;
use ravelin_model::{NodeId, Refusal, SessionId};
use ravelin_store::{SqliteConfig, SqliteStore, StoreOpenError};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::task::JoinSet;

fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(SqliteConfig::new(path)).expect("the store opens")
}

fn refusal(path: &Path) -> StoreOpenError {
    SqliteStore::open(SqliteConfig::new(path)).expect_err("the store does not open")
}

fn node() -> NodeId {
    NodeId::new(1)
}

async fn everything(store: &dyn Store) -> Vec<ravelin_model::Session> {
    let query = SessionQuery { order: Order::OldestFirst, ..SessionQuery::first(SessionFilter::default(), 1000) };
    store.sessions(&query).await.expect("the store answers").items
}

#[tokio::test]
async fn all_is_there_after_opening_again_and_time_goes_on() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    let first = open(&path);
    let epoch = first.start_node(&node()).await.expect("a node starts").epoch;
    for random in 0..10 {
        first.open(draft("alice", random, &node(), epoch)).await.expect("a session opens");
    }
    let (sessions, record) = (everything(&first).await, first.events(0, 100).await);
    let last = first.now().await.expect("the store tells the time");
    drop(first);

    let second = open(&path);
    assert_eq!(everything(&second).await, sessions);
    assert_eq!(second.events(0, 100).await, record);
    second.wait_for_event(10).await;
    assert!(second.now().await.expect("the store tells the time") > last);
    let start = second.start_node(&node()).await.expect("a node starts again");
    assert_eq!((start.epoch, start.ended.len()), (epoch + 1, 10));
    let deed = Deed { kind: AuditKind::NodeStopped, actor: Actor::System, session: None, facts: BTreeMap::new() };
    assert_eq!(second.record(deed).await, Ok(11 + 10 + 1 + 1));
}

/// The child opens sessions and says so after each answer, until it is killed without warning.
#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    const PATH: &str = "RAVELIN_STORE_TEST_PATH";
    if let Some(path) = std::env::var_os(PATH) {
        let store = open(Path::new(&path));
        let epoch = store.start_node(&node()).await.expect("a node starts").epoch;
        for random in 0.. {
            let session = store.open(draft("alice", random, &node(), epoch)).await.expect("a session opens");
            store.apply(session.id(), vec![Event::Connected]).await.expect("it connects");
            println!("\nacknowledged {}", session.id());
        }
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    let mut child = Command::new(std::env::current_exe().expect("the test knows its own path"))
        .args(["--exact", "sqlite::what_was_acknowledged_survives_a_kill", "--nocapture"])
        .env(PATH, &path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test runs itself");
    let mut lines = BufReader::new(child.stdout.take().expect("the output is piped")).lines();
    let mut acknowledged = BTreeSet::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some(id) = line.strip_prefix("acknowledged ") {
            acknowledged.insert(SessionId::parse(id).expect("a whole id"));
        }
        if acknowledged.len() == 200 {
            child.kill().expect("the child is killed");
            break;
        }
    }
    // What it still said before it died counts as well; the very last line may be cut.
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let rest = rest.iter().filter_map(|line| SessionId::parse(line.strip_prefix("acknowledged ")?).ok());
    acknowledged.extend(rest);
    child.wait().expect("the child is gone");
    assert!(acknowledged.len() >= 200, "the child wrote too little");

    let store = open(&path);
    for id in &acknowledged {
        let session = store.session(id).await.expect("the store answers").expect("what was acknowledged is stored");
        assert_eq!(session.state(), State::Connected);
    }
    let ended = store.start_node(&node()).await.expect("the node starts again").ended;
    assert!(ended.iter().cloned().collect::<BTreeSet<_>>().is_superset(&acknowledged));
    let live = store.sessions(&SessionQuery::first(SessionFilter::live(), 10)).await.expect("the store answers");
    assert_eq!(live.items, [], "no ghost");
    let lost = SessionFilter { end_reasons: [EndReason::NodeLost].into(), ..SessionFilter::default() };
    let lost = store.sessions(&SessionQuery::first(lost, 1000)).await.expect("the store answers").items;
    assert!(lost.iter().all(|session| session.ended() >= session.connected()));
    let record = store.events(0, 100_000).await.expect("the store answers");
    let numbers: Vec<u64> = record.events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=record.newest).collect::<Vec<_>>(), "no gap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_at_once_see_their_own_writes_and_leave_no_gap() {
    const CALLERS: u64 = 64;
    const EACH: u64 = 5;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let epoch = store.start_node(&node()).await.expect("a node starts").epoch;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(&store);
        callers.spawn(async move {
            for number in 0..EACH {
                let given = draft("alice", caller * EACH + number, &node(), epoch);
                let opened = store.open(given.clone()).await.expect("a session opens");
                assert_eq!(store.session(opened.id()).await, Ok(Some(opened.clone())));
                assert!(matches!(store.open(given).await, Err(Refusal::Conflict { .. })));
                let applied = store.apply(opened.id(), vec![Event::Connected]).await.expect("it connects");
                let mine = SessionFilter { ids: [opened.id().clone()].into(), ..SessionFilter::default() };
                let page = store.sessions(&SessionQuery::first(mine, 1)).await.expect("the store answers");
                assert_eq!(page.items, [applied.session]);
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.expect("no caller fails");
    }
    let record = store.events(0, 100_000).await.expect("the store answers");
    assert_eq!(record.newest, 1 + CALLERS * EACH * 2);
    assert!(record.events.iter().map(|event| event.seq).eq(1..=record.newest));
    assert!(record.events.is_sorted_by_key(|event| event.at));
    let created: BTreeSet<_> = everything(&*store).await.iter().map(|session| session.created).collect();
    assert_eq!(created.len() as u64, CALLERS * EACH, "no two sessions share a time");
}

#[tokio::test]
async fn only_one_process_runs_a_node_on_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    let (first, second) = (open(&path), open(&path));
    let epoch = first.start_node(&node()).await.expect("a node starts").epoch;
    let session = first.open(draft("alice", 1, &node(), epoch)).await.expect("a session opens");
    let refused = second.start_node(&node()).await;
    assert!(matches!(refused, Err(Refusal::Conflict { .. })), "{refused:?}");
    assert_eq!(second.session(session.id()).await, Ok(Some(session.clone())), "reading is open to all");
    assert_eq!(first.start_node(&node()).await.map(|start| start.ended), Ok(vec![session.id().clone()]));
    drop(first);
    assert_eq!(second.start_node(&node()).await.map(|start| start.epoch), Ok(epoch + 2));
}

#[test]
fn the_files_are_for_their_owner_only() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    std::fs::write(&path, "").expect("a file is written");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).expect("its mode is set");
    let _store = open(&path);
    let mut files = 0;
    for entry in std::fs::read_dir(directory.path()).expect("the directory is read") {
        let entry = entry.expect("an entry is read");
        let mode = entry.metadata().expect("it has metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
        files += 1;
    }
    assert!(files >= 2, "the log lies beside the file");
}

#[test]
fn a_temporary_store_leaves_nothing_behind() {
    let of_mine = || {
        let prefix = format!("ravelin-store-{}-", std::process::id());
        std::fs::read_dir(std::env::temp_dir())
            .expect("the directory is read")
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
            .map(|entry| entry.file_name())
            .collect::<BTreeSet<_>>()
    };
    let before = of_mine();
    let store = SqliteStore::in_memory().expect("a temporary store opens");
    let mine: Vec<_> = of_mine().difference(&before).cloned().collect();
    assert!(!mine.is_empty());
    drop(store);
    // Other tests of this process may make and drop theirs meanwhile.
    assert!(mine.iter().any(|name| !of_mine().contains(name)));
}

#[test]
fn a_file_that_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");

    let text = "this is a letter, and long enough to be taken for a database's first page. ".repeat(100);
    std::fs::write(&path, &text).expect("a file is written");
    assert!(matches!(refusal(&path), StoreOpenError::NotADatabase { .. }));
    assert_eq!(std::fs::read_to_string(&path).expect("the file is read"), text);
    std::fs::remove_file(&path).expect("the file is removed");

    let other = rusqlite::Connection::open(&path).expect("SQLite opens");
    other.execute_batch("CREATE TABLE recipes (name TEXT)").expect("a table is made");
    drop(other);
    let error = refusal(&path);
    assert!(matches!(error, StoreOpenError::NotOurs { .. }), "{error}");

    let missing = directory.path().join("nowhere").join("store.db");
    let error = refusal(&missing);
    assert!(matches!(error, StoreOpenError::CannotCreate { .. }), "{error}");
    assert!(error.to_string().contains("nowhere/store.db"), "{error}");
    assert!(matches!(refusal(directory.path()), StoreOpenError::CannotCreate { .. }));

    let locked = directory.path().join("locked.db");
    std::fs::write(&locked, "").expect("a file is written");
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o000)).expect("its mode is set");
    // Nothing is forbidden to root.
    if std::fs::read(&locked).is_err() {
        assert!(matches!(refusal(&locked), StoreOpenError::NoPermission { .. }));
    }
}

#[test]
fn a_later_releases_file_is_refused_with_both_versions() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    drop(open(&path));
    let connection = rusqlite::Connection::open(&path).expect("SQLite opens");
    connection
        .execute_batch(
            "INSERT INTO refinery_schema_history SELECT 99, 'later', applied_on, checksum FROM refinery_schema_history \
             WHERE version = 1",
        )
        .expect("a later version is noted");
    drop(connection);
    let error = refusal(&path);
    assert!(matches!(error, StoreOpenError::NewerSchema { found: 99, known: 1..99, .. }), "{error}");
}

#[test]
fn a_file_that_cannot_be_brought_up_to_date_is_left_as_it_was() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    let tables = || -> Vec<String> {
        let connection = rusqlite::Connection::open(&path).expect("SQLite opens");
        let mut statement = connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'refinery%' ORDER BY name")
            .expect("the statement is valid");
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).expect("SQLite answers")
    };
    let connection = rusqlite::Connection::open(&path).expect("SQLite opens");
    // In the way of the last step, not of those before it.
    connection
        .execute_batch("PRAGMA application_id = 0x52564c4e; CREATE TABLE logs_due (name TEXT)")
        .expect("a table is made");
    drop(connection);
    let error = refusal(&path);
    assert!(matches!(error, StoreOpenError::CannotMigrate { .. }), "{error}");
    assert_eq!(tables(), ["logs_due"]);
}
