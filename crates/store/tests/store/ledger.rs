//! The chain on SQLite: it survives kills, retention and upgrades, and tampering with the file is found.

use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::ledger::{Beginning, Expectations, LedgerFault, LedgerKey};
use ravelin_model::ports::{Ledger, Store};
use ravelin_model::session::Actor;
use ravelin_model::sink::SinkStart;
use ravelin_model::{Refusal, Time};
use ravelin_store::{Outcome, SqliteConfig, SqliteStore, verify_file};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

fn key() -> Arc<LedgerKey> {
    Arc::new(LedgerKey::from_seed(&[7; 32]).expect("a seed"))
}

fn open(path: &Path) -> SqliteStore {
    let config = SqliteConfig { key: Some(key()), ..SqliteConfig::new(path) };
    SqliteStore::open(config).expect("the store opens")
}

fn check(path: &Path) -> Outcome {
    let expect = Expectations { key: key().public(), known: None, at_least: 0, is_part: false };
    verify_file(path, expect).expect("the file can be read")
}

fn deed(number: u64) -> Deed {
    let facts = BTreeMap::from([("claimed".to_owned(), format!("somebody {number}"))]);
    Deed { kind: AuditKind::LoginRefused, actor: Actor::System, session: None, facts }
}

async fn record(store: &SqliteStore, count: u64) {
    for number in 0..count {
        store.record(deed(number)).await.expect("a deed is written");
    }
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("store.db");
    (directory, path)
}

/// Does to the file what somebody can do who has it and not the key.
fn tamper(path: &Path, sql: &str) {
    let connection = rusqlite::Connection::open(path).expect("SQLite opens");
    connection.execute_batch(sql).expect("the file is changed");
}

#[tokio::test]
async fn a_record_verifies_while_it_is_written_and_after() {
    let (_directory, path) = scratch();
    let store = open(&path);
    record(&store, 30).await;
    assert_eq!(store.checkpoint().await, Ok(Some(31)));
    assert_eq!(store.checkpoint().await, Ok(None), "nothing to sign");
    record(&store, 5).await;
    let report = check(&path).expect("nothing was done to it");
    assert_eq!((report.beginning, report.first, report.last), (Beginning::Genesis, 1, 36));
    assert_eq!((report.checkpoints, report.signed_through), (1, 30));
    drop(store);
    let store = open(&path);
    record(&store, 1).await;
    assert_eq!(check(&path).expect("it goes on").last, 37);
    let page = store.entries(30, 2).await.expect("the store answers");
    assert_eq!(page.entries.iter().map(|entry| entry.event.seq).collect::<Vec<_>>(), [31, 32]);
    assert_eq!((page.newest, page.foundation.after), (37, 0));
}

#[tokio::test]
async fn each_tampering_with_the_file_is_found() {
    type IsIt = fn(&LedgerFault) -> bool;
    let cases: [(&str, IsIt); 9] = [
        ("UPDATE events SET facts = '{}' WHERE seq = 12", |f| *f == LedgerFault::Changed { from: 1, seq: 12 }),
        ("UPDATE events SET facts = 'no JSON' WHERE seq = 12", |f| *f == LedgerFault::Changed { from: 12, seq: 12 }),
        ("UPDATE events SET at = at - 1 WHERE seq = 1", |f| *f == LedgerFault::Changed { from: 1, seq: 1 }),
        ("UPDATE events SET hash = NULL WHERE seq = 12", |f| *f == LedgerFault::Changed { from: 12, seq: 12 }),
        ("DELETE FROM events WHERE seq BETWEEN 12 AND 14", |f| *f == LedgerFault::Removed { from: 12, to: 14 }),
        ("DELETE FROM events WHERE seq <= 3", |f| *f == LedgerFault::Removed { from: 1, to: 3 }),
        ("DELETE FROM events WHERE seq > 25", |f| matches!(f, LedgerFault::Truncated { last: 25, .. })),
        ("DELETE FROM events WHERE seq <= 3; UPDATE ledger SET cut_after = 3", |f| {
            matches!(f, LedgerFault::Beginning { .. })
        }),
        (
            "UPDATE events SET seq = -1 WHERE seq = 12; UPDATE events SET seq = 12 WHERE seq = 13; \
             UPDATE events SET seq = 13 WHERE seq = -1",
            |f| *f == LedgerFault::Changed { from: 1, seq: 12 },
        ),
    ];
    for (sql, is_it) in cases {
        let (_directory, path) = scratch();
        let store = open(&path);
        record(&store, 20).await;
        store.checkpoint().await.expect("it is signed");
        record(&store, 10).await;
        drop(store);
        assert!(check(&path).is_ok());
        tamper(&path, sql);
        let fault = check(&path).expect_err(sql);
        assert!(is_it(&fault), "{sql}: {fault}");
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_off_shows_also_after_the_next_write() {
    let (_directory, path) = scratch();
    let store = open(&path);
    record(&store, 20).await;
    drop(store);
    tamper(&path, "DELETE FROM events WHERE seq > 15");
    let store = open(&path);
    record(&store, 1).await;
    assert_eq!(check(&path), Err(LedgerFault::Removed { from: 16, to: 20 }));
}

#[tokio::test]
async fn many_events_are_signed_without_being_asked() {
    let (_directory, path) = scratch();
    let store = Arc::new(open(&path));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..25 {
        let store = Arc::clone(&store);
        writers.spawn(async move { record(&store, 100).await });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("no writer fails");
    }
    let report = check(&path).expect("nothing was done to it");
    assert!(report.checkpoints >= 2, "{report:?}");
    assert_eq!(report.last, 2500 + report.checkpoints);
}

#[tokio::test]
async fn retention_leaves_a_chain_that_verifies_and_what_sinks_have_yet_to_take() {
    let (_directory, path) = scratch();
    let store = open(&path);
    record(&store, 10).await;
    assert_eq!(store.join_sink("archive", SinkStart::Oldest).await, Ok(0));
    assert_eq!(store.join_sink("pager", SinkStart::Now).await, Ok(11));
    assert_eq!(store.join_sink("archive", SinkStart::Now).await, Ok(0), "it has its place");
    assert_eq!(store.prune_events(Time::MAX, 100).await, Ok(0), "the archive has nothing yet");
    store.advance_sink("archive", 7).await.expect("it has a place");
    store.advance_sink("archive", 3).await.expect("it never goes back");
    assert_eq!(store.prune_events(Time::MAX, 4).await, Ok(4));
    assert_eq!(store.prune_events(Time::MAX, 100).await, Ok(3));
    let report = check(&path).expect("what is kept is whole");
    assert_eq!((report.beginning, report.first, report.last), (Beginning::SignedCut, 8, 12));
    assert_eq!(store.sink_places().await, Ok(vec![("archive".to_owned(), 7), ("pager".to_owned(), 11)]));
    store.leave_sink("archive").await.expect("it had a place");
    store.leave_sink("pager").await.expect("it had a place");
    store.leave_sink("pager").await.expect("leaving again is no fault");
    assert!(matches!(store.advance_sink("pager", 12).await, Err(Refusal::NotFound { .. })));
    assert_eq!(store.prune_events(Time::MAX, 100).await, Ok(7));
    record(&store, 1).await;
    let report = check(&path).expect("what is kept is whole");
    assert_eq!((report.first, report.last), (15, 15));
}

#[tokio::test]
async fn a_record_from_before_the_chain_is_chained_and_its_beginning_adopted_by_a_new_key() {
    let (_directory, path) = scratch();
    let store = open(&path);
    record(&store, 20).await;
    drop(store);
    // As a release without a chain would have left it, after its retention.
    tamper(
        &path,
        "DELETE FROM events WHERE seq <= 5; UPDATE events SET hash = NULL; \
         UPDATE ledger SET cut_after = 5, cut_head = NULL, chained = 0",
    );
    let new = SqliteConfig { key: Some(key()), key_is_new: true, ..SqliteConfig::new(&path) };
    let store = SqliteStore::open(new).expect("the store opens");
    record(&store, 1).await;
    store.checkpoint().await.expect("it is signed");
    let report = check(&path).expect("it is whole");
    assert_eq!((report.beginning, report.first, report.signed_through), (Beginning::SignedCut, 6, 21));
}

/// The child records 200 events a second and says so after each answer, until it is killed without warning.
#[tokio::test]
async fn kills_at_random_moments_leave_a_chain_that_verifies() {
    const PATH: &str = "RAVELIN_LEDGER_TEST_PATH";
    if let Some(path) = std::env::var_os(PATH) {
        let store = open(Path::new(&path));
        let mut ticks = tokio::time::interval(std::time::Duration::from_millis(5));
        for number in 0.. {
            ticks.tick().await;
            let seq = store.record(deed(number)).await.expect("a deed is written");
            if number % 50 == 0 {
                store.checkpoint().await.expect("it is signed");
            }
            println!("\nacknowledged {seq}");
        }
    }
    let (_directory, path) = scratch();
    let mut known = 0;
    for round in 1..=4_u64 {
        let mut child = Command::new(std::env::current_exe().expect("the test knows its own path"))
            .args(["--exact", "ledger::kills_at_random_moments_leave_a_chain_that_verifies", "--nocapture"])
            .env(PATH, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test runs itself");
        let mut lines = BufReader::new(child.stdout.take().expect("the output is piped")).lines();
        let mut acknowledged = 0;
        let mut count = 0;
        // Another number of events in each round, so that the kill meets another moment.
        while let Some(Ok(line)) = lines.next() {
            if let Some(seq) = line.strip_prefix("acknowledged ") {
                acknowledged = seq.parse().expect("a number");
                count += 1;
            }
            if count == 37 * round + u64::from(std::process::id() % 23) {
                child.kill().expect("the child is killed");
                break;
            }
        }
        child.wait().expect("the child is gone");
        let report = check(&path).expect("the chain is whole");
        assert!(report.last >= acknowledged && acknowledged > known, "{report:?}");
        known = report.last;
    }
}
