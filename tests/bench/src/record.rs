//! What recording costs a session: the same bytes to the same terminal through two servers, one that records in full and
//! one that records nothing, in turn.
//!
//! The bytes are lines as a log has them, at full speed: the worst that a terminal session can be. What is learnt from a
//! recording once its session is over is paid by nobody who waits; it is told apart.

use crate::world::{Peers, Ravelin, cpu_seconds, wait};
use crate::{Bound, Report, median};
use anyhow::{Context, Result, bail};
use std::fmt::Write as _;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Bytes of the file that is shown.
const FILE_BYTES: usize = 64 << 20;
/// Times that one session shows it.
const TIMES: u64 = 4;
const ROUNDS: usize = 5;
/// Longest that a recording may take to be whole after its session.
const WHOLE_MAX: Duration = Duration::from_secs(300);

/// Lines that are alike and never the same, as logs are.
fn lines() -> String {
    let mut text = String::with_capacity(FILE_BYTES + 256);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut number = 0_u64;
    while text.len() < FILE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        number += 1;
        let level = ["\u{1b}[32mINFO\u{1b}[0m", "\u{1b}[33mWARN\u{1b}[0m", "DEBUG"][(state % 3) as usize];
        // Writing into a text cannot fail.
        let _never = writeln!(
            text,
            "2026-11-27T12:{:02}:{:02}.{:06}Z {level} server::worker{{id={}}} request {state:016x} took {} us, {} bytes\r",
            number / 60 % 60,
            number % 60,
            state % 1_000_000,
            state >> 60,
            state >> 48,
            (state >> 32) & 0xffff,
        );
    }
    text.truncate(FILE_BYTES);
    text
}

struct Side {
    ravelin: Ravelin,
    seconds: Vec<f64>,
    cpu: Vec<f64>,
    cpu_after: Vec<f64>,
}

/// Throughput and the server's CPU with and without recording.
pub(crate) fn cost(peers: &Peers, report: &mut Report) -> Result<()> {
    let file = peers.dir.path().join("lines");
    std::fs::write(&file, lines())?;
    let side = |mode| -> Result<Side> {
        Ok(Side { ravelin: peers.recording(mode)?, seconds: vec![], cpu: vec![], cpu_after: vec![] })
    };
    let (mut off, mut full) = (side("none")?, side("full")?);
    for round in 0..ROUNDS {
        // Whoever comes second finds a warmer machine, so they take turns at that too.
        let order = if round % 2 == 0 { [&mut off, &mut full] } else { [&mut full, &mut off] };
        for side in order {
            session(peers, &file, side)?;
        }
        let folder = peers.dir.path().join("recording-full/state/recordings");
        until_whole(&folder, round + 1)?;
        let pid = full.ravelin.server.pid();
        let spent = cpu_seconds(pid)? - full.cpu_after.pop().context("a figure")?;
        full.cpu_after.push(spent);
    }
    let ratios = |of: fn(&Side) -> &Vec<f64>, above: &Side, below: &Side| {
        median(of(above).iter().zip(of(below)).map(|(a, b)| a / b).collect())
    };
    let throughput = ratios(|side| &side.seconds, &off, &full);
    report.add("recorded, throughput \u{f7} not recorded", throughput, "", Some((Bound::AtLeast, 0.9)));
    let cpu = ratios(|side| &side.cpu, &full, &off);
    report.add("recorded, relay CPU \u{f7} not recorded", cpu, "", Some((Bound::AtMost, 1.15)));
    #[allow(clippy::cast_precision_loss, reason = "a few hundred mebibytes")]
    let gib = (FILE_BYTES as u64 * TIMES) as f64 / f64::from(1 << 30);
    report.add("not recorded, relay CPU", median(off.cpu) / gib, "s/GiB", None);
    report.add("recorded, relay CPU", median(full.cpu) / gib, "s/GiB", None);
    report.add("learning from a recording of 256 MiB, CPU after the session", median(full.cpu_after), "s", None);
    Ok(())
}

/// Shows the file on a terminal and notes what that took.
fn session(peers: &Peers, file: &Path, side: &mut Side) -> Result<()> {
    let show = format!("stty raw -echo; for i in $(seq {TIMES}); do cat {}; done", file.display());
    let before = cpu_seconds(side.ravelin.server.pid())?;
    let begun = Instant::now();
    let mut ssh = peers.ssh(side.ravelin.server.port)?;
    let mut child =
        ssh.args(["-tt", "alice:web-1@127.0.0.1", &show]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let mut out = child.stdout.take().context("stdout")?;
    let mut buffer = vec![0; 1 << 18];
    let mut total = 0;
    loop {
        match out.read(&mut buffer)? {
            0 => break,
            n => total += n as u64,
        }
    }
    if total != FILE_BYTES as u64 * TIMES {
        bail!("{total} bytes came, and not {}", FILE_BYTES as u64 * TIMES);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("ssh ended with {status}");
    }
    side.seconds.push(begun.elapsed().as_secs_f64());
    let after = cpu_seconds(side.ravelin.server.pid())?;
    side.cpu.push(after - before);
    side.cpu_after.push(after);
    Ok(())
}

/// Waits until this many recordings are whole, and none is being made.
fn until_whole(folder: &Path, wanted: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let mut whole = 0;
        for shelf in std::fs::read_dir(folder)? {
            for file in std::fs::read_dir(shelf?.path())? {
                whole += usize::from(file?.path().extension().is_some_and(|suffix| suffix == "rvr"));
            }
        }
        if whole == wanted {
            return Ok(());
        }
        if begun.elapsed() > WHOLE_MAX {
            bail!("{whole} of {wanted} recordings are whole");
        }
        wait(100);
    }
}
