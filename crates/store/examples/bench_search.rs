//! How fast `sessions history --text` is over the commands of many recordings: words that are rare, that are everywhere,
//! that never meet, of one person, of one time.
//!
//! ```text
//! cargo run --release -p ravelin-store --example bench_search -- --recordings 10000 [--db search.db]
//! ```
//!
//! With `--db` the file is kept and, when it is there already, used as it is. Writing and searching go through the ports
//! alone; each search is followed by what the engine asks of the store before it gives out an answer: the session of
//! each act that was found.

use ravelin_model::ports::{Archive, Store};
use ravelin_model::recording::{Act, ActKind, Head, Kept, Mode, Rule, Search, Source};
use ravelin_model::{PrincipalName, SessionId, TargetName, Time};
use ravelin_store::{SqliteConfig, SqliteStore};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// 99 of 100 searches.
const GOAL: Duration = Duration::from_millis(500);
/// Commands of one recording: a shell that is used for an hour or two.
const COMMANDS: u64 = 50;
const SAMPLES: usize = 100;
const LIMIT: u32 = 50;
const PRINCIPALS: u64 = 200;
const TARGETS: u64 = 100;
const HOUR: i64 = 3_600_000_000;
/// Now, as far as this program is concerned: 2026-11-27 12:00 UTC.
const NOW: i64 = 1_795_780_800_000_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut recordings: u64 = 10_000;
    let mut kept: Option<PathBuf> = None;
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} wants a value"))?;
        match arg.as_str() {
            "--recordings" => recordings = value.parse()?,
            "--db" => kept = Some(value.into()),
            _ => return Err(format!("unknown argument {arg}; there are --recordings N and --db PATH").into()),
        }
    }
    let scratch = tempfile::tempdir()?;
    let path = kept.unwrap_or_else(|| scratch.path().join("search.db"));
    let is_new = !path.exists();
    let store = SqliteStore::open(SqliteConfig::new(&path))?;
    if is_new {
        fill(&store, recordings).await?;
        println!("{} MiB", std::fs::metadata(&path)?.len() >> 20);
    }
    search(&store, recordings).await
}

/// Bits that look random and are the same in every run: xorshift64*, Vigna 2016.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % sides
    }
}

/// A line as people type them; `sudo` is in a third of all, `systemctl` in a tenth, one host's name in a hundredth.
fn command(dice: &mut Dice, number: u64) -> String {
    let sudo = if dice.below(3) == 0 { "sudo " } else { "" };
    let host = dice.below(100);
    match dice.below(10) {
        0 => format!("{sudo}systemctl restart worker-{}.service", dice.below(500)),
        1 => format!("{sudo}journalctl -u worker-{} --since '{} min ago'", dice.below(500), dice.below(60)),
        2 => format!("ssh app-{host}.example.org uptime"),
        3 => format!("{sudo}tail -n {} /var/log/app-{host}/request.log", dice.below(1_000)),
        4 => format!("grep -rn {:x} /etc/app-{host}", dice.below(1 << 40)),
        5 => format!("kubectl -n team{} get pods -o wide", dice.below(40)),
        6 => format!("{sudo}docker exec -it c{:x} sh", dice.below(1 << 32)),
        7 => format!("cd /srv/app-{host}/releases/{}", dice.below(100_000)),
        8 => format!("git log --oneline -n {} -- src/module_{}", dice.below(100), dice.below(900)),
        _ => format!("echo ticket-{number}"),
    }
}

async fn fill(store: &SqliteStore, recordings: u64) -> Outcome<()> {
    let mut dice = Dice(42);
    let started = Instant::now();
    for number in 0..recordings {
        // A third of all is one principal's.
        let owner = if dice.below(3) == 0 { 0 } else { dice.below(PRINCIPALS) };
        let principal = PrincipalName::parse(&format!("user{owner}"))?;
        let back = HOUR * i64::try_from(recordings - number)?;
        let acts = (0..COMMANDS).map(|at| Act {
            at: Duration::from_secs(60 * at),
            kind: ActKind::Command,
            source: Source::Prompt,
            text: command(&mut dice, number),
            facts: BTreeMap::new(),
        });
        let kept = Kept {
            acts: acts.collect(),
            head: Head {
                session: SessionId::new(&principal, dice.below(u64::MAX)),
                target: TargetName::parse(&format!("host-{}", dice.below(TARGETS)))?,
                principal,
                login: None,
                began: Time::from_micros(NOW - back),
                rule: Rule { mode: Mode::Full, ..Rule::default() },
            },
            digest: "0".repeat(64),
            bytes: 100_000,
            lasted: Duration::from_secs(60 * COMMANDS),
        };
        store.note(&kept, Time::from_micros(NOW + 400 * 24 * HOUR)).await?;
    }
    println!("{recordings} recordings with {COMMANDS} commands in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

async fn search(store: &SqliteStore, recordings: u64) -> Outcome<()> {
    let mut dice = Dice(7);
    let mut worst = Duration::ZERO;
    println!("\n{LIMIT} acts at most, ms: p50 p99 over {SAMPLES} searches");
    let of = |text: String| Search { text, principal: None, target: None, from: None, before: None, limit: LIMIT };
    let old = |search: Search, recordings: u64| -> Outcome<Search> {
        // The oldest tenth: behind everything that is newer.
        let before = NOW - HOUR * i64::try_from(recordings / 10 * 9)?;
        Ok(Search { before: Some(Time::from_micros(before)), ..search })
    };
    let whose =
        |number: u64| -> Outcome<Option<PrincipalName>> { Ok(Some(PrincipalName::parse(&format!("user{number}"))?)) };
    type Make = Box<dyn Fn(&mut Dice) -> Outcome<Search>>;
    let cases: [(&str, Make); 10] = [
        ("one word, in one act", Box::new(move |dice| Ok(of(format!("ticket-{}", dice.below(recordings)))))),
        ("one word, in a hundredth", Box::new(move |dice| Ok(of(format!("app-{}", dice.below(100)))))),
        ("one word, in a third", Box::new(move |_| Ok(of("sudo".to_owned())))),
        ("the beginning of a word", Box::new(move |dice| Ok(of(format!("modul* {}", dice.below(900)))))),
        ("two words that meet often", Box::new(move |_| Ok(of("sudo systemctl".to_owned())))),
        ("two words that never meet", Box::new(move |_| Ok(of("kubectl systemctl".to_owned())))),
        ("a word nowhere", Box::new(move |_| Ok(of("nowhere".to_owned())))),
        (
            "a frequent word of one person in 300",
            Box::new(move |dice| {
                Ok(Search { principal: whose(1 + dice.below(PRINCIPALS - 1))?, ..of("sudo".to_owned()) })
            }),
        ),
        (
            "a frequent word of nobody",
            Box::new(move |_| Ok(Search { principal: whose(PRINCIPALS + 1)?, ..of("sudo".to_owned()) })),
        ),
        ("a frequent word of long ago", Box::new(move |_| old(of("sudo".to_owned()), recordings))),
    ];
    for (name, make) in cases {
        let mut samples = Vec::with_capacity(SAMPLES);
        let mut found = 0;
        for _ in 0..SAMPLES {
            let search = make(&mut dice)?;
            let started = Instant::now();
            let acts = store.search(&search).await?;
            let sessions: BTreeSet<&SessionId> = acts.iter().map(|act| &act.session).collect();
            for session in sessions {
                store.session(session).await?;
            }
            samples.push(started.elapsed());
            found += acts.len();
        }
        samples.sort_unstable();
        let ms = |percent: usize| samples[(SAMPLES * percent / 100).min(SAMPLES - 1)].as_secs_f64() * 1e3;
        let p99 = samples[SAMPLES * 99 / 100];
        worst = worst.max(p99);
        let mark = if p99 > GOAL { "  above the goal" } else { "" };
        println!("{name:40} {:8.2} {:8.2}   {:4} found{mark}", ms(50), ms(99), found / SAMPLES);
    }
    println!("worst p99: {:.2} ms, goal {} ms", worst.as_secs_f64() * 1e3, GOAL.as_millis());
    Ok(())
}
