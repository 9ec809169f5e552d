//! How fast the SQLite store is when it is full: pages of 50 out of many rows, for each filter, near and deep; and
//! durable opens by many callers at once.
//!
//! ```text
//! cargo run --release -p ravelin-store --example bench_store -- --rows 1000000 [--db bench.db]
//! ```
//!
//! With `--db` the file is kept and, when it is there already, used as it is. Rows are written by this program itself,
//! since the port gives no say in times; everything that is measured goes through the port.

use ravelin_model::audit::AuditKind;
use ravelin_model::ports::Store;
use ravelin_model::query::{Cursor, Order, SessionFilter, SessionQuery};
use ravelin_model::session::{EndReason, Kind, State};
use ravelin_model::target::Protocol;
use ravelin_model::testkit;
use ravelin_model::{Login, NodeId, PrincipalName, SessionId, Time};
use ravelin_store::{SqliteConfig, SqliteStore};
use rusqlite::{Connection, params};
use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A page, as in the goal: 50 sessions, at most 5 ms for 99 of 100.
const PAGE: u32 = 50;
const GOAL: Duration = Duration::from_millis(5);
/// The deep place: this many pages down, or the filter's last page when it has fewer.
const DEEP_PAGES: u32 = 10_000;
const SAMPLES: usize = 300;
const CALLERS: usize = 64;

const DAY: i64 = 86_400_000_000;
const HISTORY: i64 = 400 * DAY;
const PRINCIPALS: u64 = 2_000;
const TARGETS: u64 = 500;
const CLIENTS: u64 = 5_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut rows: u64 = 1_000_000;
    let mut kept: Option<PathBuf> = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--rows" => rows = value.parse()?,
            "--db" => kept = Some(value.into()),
            _ => return Err(format!("unknown argument {arg}; there are --rows N and --db PATH").into()),
        }
    }
    let scratch = tempfile::tempdir()?;
    let path = kept.unwrap_or_else(|| scratch.path().join("bench.db"));
    fill(&path, rows)?;
    let store = Arc::new(SqliteStore::open(SqliteConfig::new(&path))?);
    pages(&store).await?;
    parallel(&store).await?;
    drop(store);
    opens(scratch.path()).await
}

/// Bits that look random and are the same in every run: xorshift64*, Vigna 2016.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, sides: u64) -> u64 {
        (self.roll() >> 11) % sides
    }

    /// Small numbers are far more frequent than large ones, and every one turns up.
    fn skewed(&mut self, sides: u64) -> u64 {
        let wide = self.below(sides) + 1;
        self.below(wide)
    }
}

fn principal(number: u64) -> String {
    format!("user{number}")
}

fn client(number: u64) -> String {
    format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256)
}

/// Writes `rows` sessions of the last 400 days, unless the file has some. Indexes are made at the end, as for any load.
fn fill(path: &Path, rows: u64) -> Outcome<()> {
    drop(SqliteStore::open(SqliteConfig::new(path))?);
    let mut connection = Connection::open(path)?;
    let stored: i64 = connection.query_row("SELECT count(*) FROM sessions", [], |row| row.get(0))?;
    if stored > 0 {
        println!("{} holds {stored} sessions", path.display());
        return Ok(());
    }
    let started = Instant::now();
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -1_000_000)?;
    let indexes: Vec<(String, String)> = connection
        .prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let tx = connection.transaction()?;
    for (name, _) in &indexes {
        tx.execute_batch(&format!("DROP INDEX {name}"))?;
    }
    write_rows(&tx, rows)?;
    for (_, sql) in &indexes {
        tx.execute_batch(sql)?;
    }
    tx.commit()?;
    connection.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()))?;
    let mib = std::fs::metadata(path)?.len() >> 20;
    println!("wrote {rows} sessions in {:.0} s: {mib} MiB with indexes", started.elapsed().as_secs_f64());
    Ok(())
}

fn write_rows(connection: &Connection, rows: u64) -> rusqlite::Result<()> {
    let mut dice = Dice(42);
    let now = i64::try_from(
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_micros(),
    )
    .unwrap_or(i64::MAX);
    let step = HISTORY / i64::try_from(rows).unwrap_or(i64::MAX).max(1);
    let mut insert = connection.prepare(
        "INSERT INTO sessions (created, id, principal, groups, auth, client_address, client_ip, client_software, \
         target_id, target_name, target_address, target_port, target_labels, target_aliases, login, protocol, kind, \
         document, reason, node, epoch, tags, state, connected, since, ended, span, end_reason, end_actor, end_detail, \
         last_activity, bytes_in, bytes_out, recording) VALUES (?1, ?2, ?3, '[\"engineers\",\"on-call\"]', 'ssh_key', ?4, \
         ?5, 'SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u7', ?6, ?7, ?8, 22, ?9, ?10, ?11, ?12, ?13, NULL, NULL, ?14, 1, ?15, \
         ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, 4096, 65536, 'none')",
    )?;
    let mut name = connection.prepare("INSERT OR IGNORE INTO target_names VALUES (?1, ?2)")?;
    let mut label = connection.prepare("INSERT INTO session_labels VALUES (?1, ?2, ?3)")?;
    let mut tag = connection.prepare("INSERT INTO session_tags VALUES (?1, ?2, ?3)")?;
    for number in 0..rows {
        let created =
            now - HISTORY + step * i64::try_from(number).unwrap_or(0) + i64::try_from(dice.below(1000)).unwrap_or(0);
        // A third of all sessions are one principal's.
        let owner = principal(if dice.below(3) == 0 { 0 } else { dice.below(PRINCIPALS) });
        let target = dice.skewed(TARGETS);
        let (target_id, target_name) = (format!("tgt-{target:017x}"), format!("host-{target}"));
        let aliases = [
            format!("mi-{target:017x}"),
            format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/host-{target}"),
        ];
        if number < 50_000 {
            for text in aliases.iter().chain([&target_id, &target_name]) {
                name.execute(params![text.to_lowercase(), target_id])?;
            }
        }
        // From a second to nine hours, short ones as many as long ones; one in a hundred lasts for days.
        let mut length = 1_000_000_i64 << dice.below(15);
        length += i64::try_from(dice.below(length.unsigned_abs())).unwrap_or(0);
        if dice.below(100) == 0 {
            length *= 24;
        }
        let ended = Some(created + length).filter(|ended| *ended < now && dice.below(100_000) != 0);
        let (state, reason) = match (ended, dice.below(100)) {
            (None, 0..10) => ("disconnected", None),
            (None, _) => ("connected", None),
            (Some(_), 0..2) => ("failed", Some("target_unreachable")),
            (Some(_), 2..4) => ("terminated", Some("disconnected_by_operator")),
            (Some(_), 4..14) => ("terminated", Some("idle_limit")),
            (Some(_), 14) if dice.below(100) == 0 => ("terminated", Some("rights_revoked")),
            (Some(_), 15..40) => ("terminated", Some("target_closed")),
            (Some(_), _) => ("terminated", Some("client_closed")),
        };
        let actor = reason.map(|reason| match reason {
            "disconnected_by_operator" => principal(dice.below(10)),
            "target_closed" => format!("target:{target_name}"),
            "client_closed" => owner.clone(),
            _ => "system".to_owned(),
        });
        let address = client(dice.skewed(CLIENTS));
        let (zone, team) = (format!("z{}", target % 3), format!("team{}", target % 40));
        let ticket = (dice.below(5) == 0).then(|| format!("T{}", dice.below(20_000)));
        insert.execute(params![
            created,
            format!("{owner}-0{:016x}", dice.roll()),
            owner,
            format!("{address}:50000"),
            address,
            target_id,
            target_name,
            format!("10.9.{}.{}", target / 256, target % 256),
            format!("{{\"team\":\"{team}\",\"zone\":\"{zone}\"}}"),
            format!("{{\"aws\":\"{}\",\"azure\":\"{}\"}}", aliases[0], aliases[1]),
            (dice.below(10) != 0).then(|| format!("login{}", dice.skewed(20))),
            ["ssh", "ssh", "ssh", "ssh", "ssh", "ssh", "ssh", "ssh", "rdp", "tcp"][dice.below(10) as usize],
            ["shell", "shell", "shell", "exec", "exec", "exec", "exec", "exec", "sftp", "tunnel"]
                [dice.below(10) as usize],
            format!("node-{:08x}", dice.skewed(3)),
            ticket.as_ref().map_or("{}".to_owned(), |ticket| format!("{{\"ticket\":\"{ticket}\"}}")),
            state,
            (state != "failed").then_some(created + 1000),
            (state == "disconnected").then_some(created + 2000),
            ended,
            ended.map(|_| span_class(length)),
            reason,
            actor,
            reason.map(|_| ""),
            ended.unwrap_or(created + 2000),
        ])?;
        label.execute(params!["zone", zone, created])?;
        label.execute(params!["team", team, created])?;
        if let Some(ticket) = ticket {
            tag.execute(params!["ticket", ticket, created])?;
        }
    }
    Ok(())
}

/// As the store's schema says: the least n for which the length is below 4^n seconds, at most 13.
fn span_class(micros: i64) -> u32 {
    (0..13).find(|class| micros < 4_i64.pow(*class) * 1_000_000).unwrap_or(13)
}

fn filters(store_now: Time) -> Outcome<Vec<(&'static str, SessionFilter)>> {
    let any = SessionFilter::default;
    let ago = |days: u32| Some(store_now.minus(Duration::from_secs(u64::from(days) * 86_400)));
    let names = |from: u64, count: u64| -> Outcome<BTreeSet<PrincipalName>> {
        Ok((from..from + count).map(|n| PrincipalName::parse(&principal(n))).collect::<Result<_, _>>()?)
    };
    let reasons = |some: &[EndReason]| some.iter().copied().collect::<BTreeSet<_>>();
    let prefix = |text: &str| SessionFilter { id_prefix: Some(text.to_owned()), ..any() };
    let label = |key: &str, value: &str| SessionFilter { label: Some((key.to_owned(), value.to_owned())), ..any() };
    let month = || (ago(60), ago(30));
    Ok(vec![
        ("(none)", any()),
        ("states: live", SessionFilter::live()),
        ("states: ended", SessionFilter::ended()),
        ("states: failed, connected", SessionFilter { states: [State::Failed, State::Connected].into(), ..any() }),
        ("states: terminating (none is)", SessionFilter { states: [State::Terminating].into(), ..any() }),
        ("principal: a third of all", SessionFilter { principals: names(0, 1)?, ..any() }),
        ("principal: 330", SessionFilter { principals: names(777, 1)?, ..any() }),
        ("principals: 5", SessionFilter { principals: names(0, 5)?, ..any() }),
        ("principals: 100", SessionFilter { principals: names(100, 100)?, ..any() }),
        ("target by name", SessionFilter { target: Some("HOST-3".to_owned()), ..any() }),
        ("target by alias, rare", SessionFilter { target: Some(format!("mi-{:017x}", 490)), ..any() }),
        ("id prefix: user1 (half of principals)", prefix("user1")),
        ("id prefix: user0-", prefix("user0-")),
        ("id prefix: user0-0a", prefix("user0-0a")),
        ("id prefix: u", prefix("u")),
        ("id prefix: hex 0", prefix("0")),
        ("id prefix: hex 0a", prefix("0a")),
        ("id prefix: hex 0ab", prefix("0ab")),
        ("id prefix: hex 0abcd", prefix("0abcd")),
        ("kind: exec", SessionFilter { kind: Some(Kind::Exec), ..any() }),
        ("kind: sftp", SessionFilter { kind: Some(Kind::Sftp), ..any() }),
        ("protocol: ssh", SessionFilter { protocol: Some(Protocol::Ssh), ..any() }),
        ("protocol: rdp", SessionFilter { protocol: Some(Protocol::Rdp), ..any() }),
        ("login", SessionFilter { login: Some(Login::parse("login2")?), ..any() }),
        ("client: frequent", SessionFilter { client: Some(client(3).parse()?), ..any() }),
        ("client: rare", SessionFilter { client: Some(client(4_900).parse()?), ..any() }),
        ("node: most", SessionFilter { node: Some(NodeId::new(0)), ..any() }),
        ("end reason: client_closed", SessionFilter { end_reasons: reasons(&[EndReason::ClientClosed]), ..any() }),
        ("end reason: rights_revoked", SessionFilter { end_reasons: reasons(&[EndReason::RightsRevoked]), ..any() }),
        ("end reasons: all 14", SessionFilter { end_reasons: reasons(EndReason::ALL), ..any() }),
        ("actor: system", SessionFilter { actor: Some("system".to_owned()), ..any() }),
        ("actor: user7", SessionFilter { actor: Some("user7".to_owned()), ..any() }),
        ("label: zone", label("zone", "z1")),
        ("label: team", label("team", "team39")),
        ("tag: one ticket", SessionFilter { tag: Some(("ticket".to_owned(), "T77".to_owned())), ..any() }),
        ("created: 30 days", SessionFilter { created_from: month().0, created_before: month().1, ..any() }),
        ("ended: since yesterday", SessionFilter { ended_from: ago(1), ..any() }),
        ("ended: before 200 days ago", SessionFilter { ended_before: ago(200), ..any() }),
        ("ended: 30 days", SessionFilter { ended_from: month().0, ended_before: month().1, ..any() }),
        (
            "ended: one hour",
            SessionFilter {
                ended_from: ago(60),
                ended_before: ago(60).map(|at| at.plus(Duration::from_secs(3600))),
                ..any()
            },
        ),
        ("two: principal, ended", SessionFilter { principals: names(777, 1)?, ..SessionFilter::ended() }),
        ("two: principal, live", SessionFilter { principals: names(0, 1)?, ..SessionFilter::live() }),
        ("two: target, kind", SessionFilter { target: Some("host-3".to_owned()), kind: Some(Kind::Sftp), ..any() }),
        (
            "two: label, end reason",
            SessionFilter { end_reasons: reasons(&[EndReason::RightsRevoked]), ..label("zone", "z1") },
        ),
        (
            "two: ended 30 days, kind",
            SessionFilter { ended_from: month().0, ended_before: month().1, kind: Some(Kind::Sftp), ..any() },
        ),
    ])
}

/// Times of some calls, in order of length.
struct Times(Vec<Duration>);

impl Times {
    fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    fn share(&self, percent: usize) -> Duration {
        self.0.get((self.0.len() * percent / 100).min(self.0.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    fn shown(&self) -> String {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        format!("{:6.2} {:6.2}", ms(self.share(50)), ms(self.share(99)))
    }
}

async fn pages(store: &SqliteStore) -> Outcome<()> {
    let now = store.now().await?;
    println!(
        "\npage of {PAGE}, ms: p50 p99 over {SAMPLES} calls, newest first and oldest first in turn at random places"
    );
    println!("{:40} {:>13} {:>7} {:>13} {:>13}", "filter", "first page", "page", "deep", "random place");
    let mut worst = Duration::ZERO;
    let mut dice = Dice(7);
    for (name, filter) in filters(now)? {
        let first = timed(store, &filter, |_| (Order::NewestFirst, None)).await?;
        let (depth, place) = deep_place(store, &filter).await?;
        let deep = timed(store, &filter, |_| (Order::NewestFirst, place.clone())).await?;
        let nobody = SessionId::parse("nobody-00000000000000000")?;
        let random = timed(store, &filter, |number| {
            let back = i64::try_from(dice.below(HISTORY.unsigned_abs())).unwrap_or(0);
            let created = Time::from_micros(now.as_micros() - back);
            let order = if number % 2 == 0 { Order::NewestFirst } else { Order::OldestFirst };
            (order, Some(Cursor { created, id: nobody.clone() }))
        })
        .await?;
        let p99 = first.share(99).max(deep.share(99)).max(random.share(99));
        worst = worst.max(p99);
        let mark = if p99 > GOAL { "  above the goal" } else { "" };
        println!("{name:40} {} {depth:7} {} {}{mark}", first.shown(), deep.shown(), random.shown());
    }
    println!("worst p99: {:.2} ms, goal {:.0} ms", worst.as_secs_f64() * 1e3, GOAL.as_secs_f64() * 1e3);
    Ok(())
}

async fn timed(
    store: &SqliteStore,
    filter: &SessionFilter,
    mut place: impl FnMut(usize) -> (Order, Option<Cursor>),
) -> Outcome<Times> {
    let mut samples = Vec::with_capacity(SAMPLES);
    for number in 0..SAMPLES {
        let (order, after) = place(number);
        let query = SessionQuery { filter: filter.clone(), order, after, limit: PAGE };
        let started = Instant::now();
        store.sessions(&query).await?;
        samples.push(started.elapsed());
    }
    Ok(Times::of(samples))
}

/// The place before page 10,000, or before the last page; and that page's number.
async fn deep_place(store: &SqliteStore, filter: &SessionFilter) -> Outcome<(u32, Option<Cursor>)> {
    const STRIDE: u32 = SessionQuery::LIMIT_MAX / PAGE;
    let mut query = SessionQuery::first(filter.clone(), SessionQuery::LIMIT_MAX);
    let mut depth = 1;
    while depth + STRIDE <= DEEP_PAGES
        && let Some(next) = store.sessions(&query).await?.next
    {
        query.after = Some(next);
        depth += STRIDE;
    }
    Ok((depth, query.after))
}

/// Lists by 32 callers at once, as when dashboards poll.
async fn parallel(store: &Arc<SqliteStore>) -> Outcome<()> {
    let started = Instant::now();
    let callers: Vec<_> = (0..32)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut samples = Vec::new();
                for _ in 0..100 {
                    let began = Instant::now();
                    store.sessions(&SessionQuery::first(SessionFilter::live(), PAGE)).await?;
                    samples.push(began.elapsed());
                }
                Ok::<_, ravelin_model::Refusal>(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for caller in callers {
        samples.extend(caller.await??);
    }
    let rate = samples.len() as f64 / started.elapsed().as_secs_f64();
    println!("\n32 callers list the live ones: {rate:.0} pages/s, ms p50 p99 {}", Times::of(samples).shown());
    Ok(())
}

/// Durable opens by 64 callers at once, on a file of their own.
async fn opens(directory: &Path) -> Outcome<()> {
    const OPENS: u64 = 32_000;
    let store = Arc::new(SqliteStore::open(SqliteConfig::new(directory.join("opens.db")))?);
    let node = NodeId::new(1);
    let epoch = store.start_node(&node).await?.epoch;
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|caller| {
            let (store, node) = (Arc::clone(&store), node.clone());
            tokio::spawn(async move {
                let mut samples = Vec::new();
                for number in 0..OPENS / CALLERS as u64 {
                    let draft = testkit::store::draft("alice", caller << 32 | number, &node, epoch);
                    let began = Instant::now();
                    store.open(draft).await?;
                    samples.push(began.elapsed());
                }
                Ok::<_, ravelin_model::Refusal>(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for caller in callers {
        samples.extend(caller.await??);
    }
    let rate = samples.len() as f64 / started.elapsed().as_secs_f64();
    println!("{CALLERS} callers open durably: {rate:.0} opens/s, ms p50 p99 {}", Times::of(samples).shown());
    let record = store.events(0, 1).await?;
    let opened = record.newest - 1;
    if opened != OPENS || record.events.first().map(|event| event.deed.kind) != Some(AuditKind::NodeStarted) {
        return Err(format!("{opened} opens are in the record, not {OPENS}").into());
    }
    Ok(())
}
