//! What a recorder costs for each byte that passes: `cargo run --release -p ravelin-recordings --example cost`.
//!
//! It writes to a directory as the engine does, in units of a relay, and prints processor time and throughput for
//! different kinds of output; then what finishing, seeking and searching for commands takes. The processor time is that
//! of the whole process, from `/proc/self/stat`.

use bytes::Bytes;
use ravelin_model::ports::Recorder;
use ravelin_model::recording::{Counts, Flow, Form, Head, Mode, Note, Purpose, Request, Rule, Terminal, What};
use ravelin_model::{PrincipalName, SessionId, TargetName, Time};
use ravelin_recordings::{Config, DirectoryRecorder, KeyRing};
use std::sync::Arc;
use std::time::{Duration, Instant};

const UNIT_BYTES: usize = 32 * 1024;
const WRITE_UNITS: usize = 16;
const TOTAL_BYTES: usize = 256 << 20;

/// Processor time of this process so far.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has it");
    let after = stat.rsplit_once(')').expect("its form").1;
    let ticks: u64 = after.split_whitespace().skip(11).take(2).map(|t| t.parse::<u64>().expect("a number")).sum();
    // USER_HZ is 100 on every Linux that Rust's standard library runs on.
    Duration::from_millis(ticks * 10)
}

fn log_lines() -> Vec<u8> {
    let line = |n: usize| {
        format!("Nov 21 10:{:02}:{:02} web-1 nginx[{n}]: GET /item/{} 200\r\n", n / 60 % 60, n % 60, n * 7919)
    };
    (0..).flat_map(|n| line(n).into_bytes()).take(UNIT_BYTES * 64).collect()
}

fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(UNIT_BYTES * 64)
    .collect()
}

fn head(number: u64) -> Head {
    let principal = PrincipalName::parse("alice").expect("a name");
    Head {
        session: SessionId::new(&principal, number),
        principal,
        target: TargetName::parse("web-1").expect("a name"),
        login: None,
        began: Time::from_micros(0),
        rule: Rule { mode: Mode::Full, ..Rule::default() },
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = KeyRing::parse(&KeyRing::generate()).expect("a ring");
    let config = Config { folder: folder.path().to_path_buf(), keys, screen_text: false, far: None };
    let recorder = DirectoryRecorder::open(config).expect("a recorder");
    println!("{:>12} {:>8} {:>10} {:>10} {:>10}", "output", "MiB", "ns/byte", "MiB/s", "on disk");
    for (number, (what, source)) in [("log lines", log_lines()), ("noise", noise())].into_iter().enumerate() {
        let head = head(number as u64);
        let id = head.session.clone();
        let mut tape = recorder.begin(head).await.expect("begun");
        let terminal = Some(Terminal { name: "xterm".to_owned(), columns: 80, rows: 24 });
        let opened = What::Opened { purpose: Purpose::Shell { terminal }, counts: Arc::<Counts>::default() };
        tape.write(vec![Note { at: Duration::ZERO, channel: 0, what: opened }]).await.expect("written");
        let units: Vec<Bytes> = source.chunks(UNIT_BYTES).map(Bytes::copy_from_slice).collect();
        let (begun, used) = (Instant::now(), processor());
        let mut sent = 0;
        let mut next = units.iter().cycle();
        while sent < TOTAL_BYTES {
            let notes = next.by_ref().take(WRITE_UNITS).map(|bytes| {
                sent += bytes.len();
                // As fast as four hours' work in a quarter of a gibibyte.
                let at = Duration::from_secs(4 * 3600).mul_f64(sent as f64 / TOTAL_BYTES as f64);
                Note { at, channel: 0, what: What::Data { flow: Flow::Out, bytes: bytes.clone() } }
            });
            tape.write(notes.collect()).await.expect("written");
        }
        let (took, used) = (begun.elapsed(), processor() - used);
        let finishing = Instant::now();
        let kept = tape.finish().await.expect("finished");
        let per_byte = used.as_nanos() as f64 / sent as f64;
        let rate = sent as f64 / took.as_secs_f64() / f64::from(1 << 20);
        println!("{what:>12} {:>8} {per_byte:>10.2} {rate:>10.0} {:>9}%", sent >> 20, kept.bytes * 100 / sent as u64);
        println!("{:>12} finished in {} ms", "", finishing.elapsed().as_millis());
        for percent in [1_u64, 10, 50, 90, 99] {
            let from = Duration::from_secs(4 * 3600) * u32::try_from(percent).expect("small") / 100;
            let begun = Instant::now();
            let request = Request { form: Form::Cast, from, channel: None, follow: false };
            let mut reading = recorder.read(&id, request).await.expect("readable");
            let first = reading.next().await.expect("readable").expect("a screen").len();
            println!("{:>12} seek to {percent} % of 4 h: {} ms, {first} bytes", "", begun.elapsed().as_millis());
        }
    }
}
