//! How fast the record is written with fsync, checked, and caught up with.
//!
//! `cargo run --release -p ravelin-sinks --example bench_audit -- DIRECTORY [EVENTS]`: the directory should lie on the disk
//! that is to be measured; 1 000 000 events unless given. `docs/operations/performance.md` has figures.

use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::ledger::{Expectations, LedgerKey, Verifier};
use ravelin_model::ports::{Ledger, Sinks, Store};
use ravelin_model::session::Actor;
use ravelin_sinks::config::DestinationConfig;
use ravelin_sinks::lines::{self, Parsed};
use ravelin_sinks::{Names, Shipping, SinkConfig};
use ravelin_store::{SqliteConfig, SqliteStore, verify_file};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Writers at the same time.
const WRITERS: u64 = 64;

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("usage: bench_audit DIRECTORY [EVENTS]");
    let events: u64 = args.next().map_or(1_000_000, |text| text.parse().expect("a number of events"));
    let folder = Path::new(&folder);
    let path = folder.join("bench_audit.db");
    let key = Arc::new(LedgerKey::from_seed(&[7; 32]).expect("a seed"));
    let config = SqliteConfig { key: Some(Arc::clone(&key)), ..SqliteConfig::new(&path) };
    let store = Arc::new(SqliteStore::open(config).expect("a new store in the directory"));

    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            for number in 0..events / WRITERS {
                store.record(deed(writer, number)).await.expect("a deed is written");
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.expect("no writer fails");
    }
    said("written with fsync, 64 callers", events, begun.elapsed());

    let expect = Expectations { key: key.public(), known: None, at_least: 0, is_part: false };
    let begun = Instant::now();
    let report = verify_file(&path, expect.clone()).expect("readable").expect("whole");
    said("verified in the store", report.last, begun.elapsed());

    let file = folder.join("bench_audit.jsonl");
    let destination = DestinationConfig::File { path: file.clone(), bytes_max: u64::MAX, keep: 0 };
    let sink = SinkConfig::new("file", destination);
    let begun = Instant::now();
    let ledger: Arc<dyn Ledger> = Arc::<SqliteStore>::clone(&store);
    let shipping = Shipping::start(ledger, vec![sink], Names::default()).await.expect("the ledger answers");
    let newest = store.events(u64::MAX >> 1, 1).await.expect("the store answers").newest;
    while shipping.statuses()[0].position < newest {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    said("caught up with by a file sink", newest, begun.elapsed());
    shipping.stop(Duration::from_secs(10)).await;

    let begun = Instant::now();
    let foundation = store.entries(u64::MAX >> 1, 1).await.expect("the store answers").foundation;
    let mut verifier = Verifier::new(&foundation, expect);
    let mut reader = BufReader::with_capacity(1 << 20, std::fs::File::open(&file).expect("the sink's file"));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).expect("readable") > 0 {
        line.pop();
        match lines::parse(&line).expect("a record") {
            Parsed::Event(event, _) => verifier.handle(event),
            Parsed::Foundation(_) => {}
        }
        line.clear();
    }
    let report = verifier.finish().expect("whole");
    said("verified in a file of JSON lines", report.last, begun.elapsed());
    for name in ["bench_audit.db", "bench_audit.db-wal", "bench_audit.db-shm", "bench_audit.jsonl"] {
        // Some may be gone already.
        let _absent = std::fs::remove_file(folder.join(name));
    }
}

fn said(what: &str, count: u64, took: Duration) {
    let rate = count as f64 / took.as_secs_f64();
    println!("{what}: {count} events in {:.1} s, {rate:.0} a second", took.as_secs_f64());
}

/// An event of the usual size.
fn deed(writer: u64, number: u64) -> Deed {
    let facts = [
        ("auth", "ssh_key"),
        ("client_address", "192.0.2.9:50022"),
        ("client_software", "SSH-2.0-OpenSSH_10.0"),
        ("created_micros", "1795300134123456"),
        ("kind", "shell"),
        ("login", "root"),
        ("node", "node-0000beef"),
        ("principal", "alice"),
        ("protocol", "ssh"),
        ("state", "connected"),
        ("target", "web-1"),
        ("target_address", "10.0.0.5"),
        ("target_aws", "mi-07a16060613c408b5"),
        ("target_id", "tgt-07a16060613c408b5"),
        ("target_port", "22"),
    ];
    let mut facts: BTreeMap<String, String> = facts.map(|(n, v)| (n.to_owned(), v.to_owned())).into();
    facts.insert("number".to_owned(), format!("{writer}-{number}"));
    Deed { kind: AuditKind::SessionConnected, actor: Actor::System, session: None, facts }
}
