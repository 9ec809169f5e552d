//! `ravelin sessions play ID` and `watch ID`: a recording, or a live session, on this terminal.
//!
//! What is played goes to the terminal as it was recorded, because that is what playing is; everything else that this
//! command line shows is made harmless. Before it ends the terminal is put back in order, and whatever the recording
//! made it answer is thrown away, so that nothing is left to be typed into a shell.

use super::client::Client;
use super::failure::Failure;
use super::recordings::{offset, one};
use super::screen;
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};
use serde_json::Value;
use std::collections::VecDeque;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How far an arrow key goes.
const STEP: Duration = Duration::from_secs(10);
/// Longest line of a recording that is put together.
const LINE_BYTES_MAX: usize = 64 << 20;

/// Play a recording.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Keys: space pauses, . shows the next event, ← and → go 10 s, + and - change the speed, q ends."
)]
pub struct PlayArgs {
    /// The session's id, or as much of it as names one only
    #[arg(value_name = "ID")]
    id: String,
    /// How fast, 0.1 to 100
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Where to begin, in seconds or as H:MM:SS
    #[arg(long, value_name = "TIME", value_parser = moment)]
    seek: Option<Duration>,
    /// Longest pause, in seconds; 0 for none at all
    #[arg(long, value_name = "SECONDS", value_parser = pause)]
    idle_limit: Option<Duration>,
    /// Which channel; the first with a terminal unless given
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
}

fn speed(text: &str) -> Result<f64, String> {
    let factor = text.parse::<f64>().ok().filter(|factor| (0.1..=100.0).contains(factor));
    factor.ok_or_else(|| "write a number from 0.1 to 100".to_owned())
}

fn pause(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, such as 2 or 0.5".to_owned())
}

/// `75`, `1:15` or `0:01:15`.
fn moment(text: &str) -> Result<Duration, String> {
    let wrong = || "write seconds, or H:MM:SS".to_owned();
    let mut seconds = 0.0;
    for part in text.split(':') {
        let part = part.parse::<f64>().ok().filter(|part| (0.0..=1e7).contains(part)).ok_or_else(wrong)?;
        seconds = seconds * 60.0 + part;
    }
    if text.split(':').count() > 3 { Err(wrong()) } else { Ok(Duration::from_secs_f64(seconds.min(1e7))) }
}

/// One line of an asciicast that matters here.
#[derive(Debug, PartialEq)]
enum Cue {
    /// The terminal's size.
    Size(u64, u64),
    /// Show this at this time.
    Show(Duration, String),
    /// Nothing to show, but time goes on.
    Pass(Duration),
}

fn cue(line: &str) -> Option<Cue> {
    match serde_json::from_str(line).ok()? {
        Value::Object(header) => Some(Cue::Size(header.get("width")?.as_u64()?, header.get("height")?.as_u64()?)),
        Value::Array(event) => {
            let at = event.first()?.as_f64().filter(|at| (0.0..=1e9).contains(at))?;
            let at = Duration::from_secs_f64(at);
            match (event.get(1)?.as_str()?, event.get(2)?) {
                ("o", Value::String(text)) => Some(Cue::Show(at, text.clone())),
                _ => Some(Cue::Pass(at)),
            }
        }
        _ => None,
    }
}

/// The lines of an answer.
struct Lines {
    response: reqwest::Response,
    buffer: Vec<u8>,
    ready: VecDeque<Cue>,
}

impl Lines {
    async fn next(&mut self, client: &Client) -> Result<Option<Cue>, Failure> {
        loop {
            if let Some(cue) = self.ready.pop_front() {
                return Ok(Some(cue));
            }
            let Some(bytes) = client.chunk(&mut self.response).await? else { return Ok(None) };
            self.buffer.extend_from_slice(&bytes);
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Failure::other("the recording has a line that is too long"));
            }
            while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                let text = String::from_utf8_lossy(&line);
                self.ready.push_back(cue(text.trim_end()).ok_or_else(|| {
                    Failure::other("the recording cannot be read").hint("is the bastion of this version?")
                })?);
            }
        }
    }
}

/// The terminal in raw mode, until it is dropped.
struct Raw {
    before: Option<Termios>,
}

impl Raw {
    fn enter() -> Self {
        let stdin = std::io::stdin();
        let before =
            (stdin.is_terminal() && std::io::stdout().is_terminal()).then(|| termios::tcgetattr(&stdin).ok()).flatten();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            // Fails for what is no terminal, and then there are no keys.
            let _no_keys = termios::tcsetattr(&stdin, OptionalActions::Now, &raw);
        }
        Self { before }
    }

    fn is_on(&self) -> bool {
        self.before.is_some()
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        // Out of full-screen programs, mouse reports and bracketed paste; colours and cursor as they were.
        let order = b"\x1b[?1049l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[?25h\x1b[0m\x1b[!p\r\n";
        let mut out = std::io::stdout();
        let _gone = out.write_all(order).and_then(|()| out.flush());
        let stdin = std::io::stdin();
        let _flushed = termios::tcflush(&stdin, QueueSelector::IFlush);
        let _restored = termios::tcsetattr(&stdin, OptionalActions::Flush, before);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Pause,
    Step,
    Back,
    Forth,
    Faster,
    Slower,
    End,
}

/// Keys, read in a thread of its own that ends with the process.
fn keys() -> mpsc::Receiver<Key> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut bytes = [0; 64];
        while let Ok(n @ 1..) = stdin.read(&mut bytes) {
            let key = match &bytes[..n] {
                [b' ', ..] => Key::Pause,
                [b'.', ..] => Key::Step,
                [0x1b, b'[', b'D', ..] => Key::Back,
                [0x1b, b'[', b'C', ..] => Key::Forth,
                [b'+' | b'=', ..] => Key::Faster,
                [b'-', ..] => Key::Slower,
                [b'q' | 0x03 | 0x04, ..] => Key::End,
                // Whatever else, also what the recording made the terminal say.
                _ => continue,
            };
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    });
    receiver
}

fn show(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::other(format!("cannot write: {error}")))
}

fn note_size(columns: u64, rows: u64) {
    let Some((terminal_size::Width(has_columns), terminal_size::Height(has_rows))) = terminal_size::terminal_size()
    else {
        return;
    };
    if u64::from(has_columns) < columns || u64::from(has_rows) < rows {
        screen::note(&format!(
            "it was recorded on {columns}x{rows}, and this terminal has {has_columns}x{has_rows}: it may look disturbed"
        ));
    }
}

pub(crate) async fn play(client: &Client, args: PlayArgs) -> Result<ExitCode, Failure> {
    let id = one(client, &args.id, false).await?;
    let open = async |from: Duration| {
        let mut query = vec![("from_ms".to_owned(), from.as_millis().to_string())];
        query.extend(args.channel.map(|channel| ("channel".to_owned(), channel.to_string())));
        let response = client.stream(&["sessions", &id, "playback"], &query).await?;
        Ok::<_, Failure>(Lines { response, buffer: Vec::new(), ready: VecDeque::new() })
    };
    let mut base = args.seek.unwrap_or_default();
    let mut lines = open(base).await?;
    let first = lines.next(client).await?;
    if let Some(Cue::Size(columns, rows)) = first {
        note_size(columns, rows);
    }
    let raw = Raw::enter();
    let mut keys = raw.is_on().then(keys);
    let mut rate = args.speed;
    let mut paused = false;
    // The time of the recording that is shown, since `base`.
    let mut shown = Duration::ZERO;
    let mut since = Instant::now();
    while let Some(cue) = lines.next(client).await? {
        let (at, text) = match cue {
            Cue::Size(..) => continue,
            Cue::Show(at, text) => (at, text),
            Cue::Pass(at) => (at, String::new()),
        };
        let mut gap = at.saturating_sub(shown);
        if let Some(limit) = args.idle_limit {
            gap = gap.min(limit);
        }
        let mut jump = None;
        loop {
            let due = since + gap.div_f64(rate);
            tokio::select! {
                () = tokio::time::sleep_until(due), if !paused => break,
                key = pressed(&mut keys) => match key {
                    Key::Pause => {
                        paused = !paused;
                        since = Instant::now();
                        gap = Duration::ZERO;
                    }
                    Key::Step => break,
                    Key::Faster => rate = (rate * 2.0).min(100.0),
                    Key::Slower => rate = (rate / 2.0).max(0.1),
                    Key::End => return Ok(ExitCode::SUCCESS),
                    Key::Back => jump = Some((base + shown).saturating_sub(STEP)),
                    Key::Forth => jump = Some(base + shown + STEP),
                }
            }
            if jump.is_some() {
                break;
            }
        }
        since = Instant::now();
        if let Some(to) = jump {
            lines = open(to).await?;
            (base, shown) = (to, Duration::ZERO);
            // A screen of its own comes first.
            show("\x1b[0m\x1b[?1049l\x1b[r\x1b[H\x1b[2J")?;
            continue;
        }
        shown = at;
        show(&text)?;
    }
    drop(raw);
    screen::note(&format!("the recording ends at {}", offset(base + shown)));
    Ok(ExitCode::SUCCESS)
}

async fn pressed(keys: &mut Option<mpsc::Receiver<Key>>) -> Key {
    match keys {
        Some(keys) => match keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Shows a live session until it is over.
pub(crate) async fn live(client: &Client, id: &str) -> Result<ExitCode, Failure> {
    let id = one(client, id, true).await?;
    let response = client.stream(&["sessions", &id, "live"], &[]).await?;
    let mut lines = Lines { response, buffer: Vec::new(), ready: VecDeque::new() };
    screen::note(&format!("watching {id}; q ends"));
    let raw = Raw::enter();
    let mut keys = raw.is_on().then(keys);
    loop {
        tokio::select! {
            cue = lines.next(client) => match cue? {
                Some(Cue::Show(_, text)) => show(&text)?,
                Some(Cue::Size(columns, rows)) => note_size(columns, rows),
                Some(Cue::Pass(_)) => {}
                None => break,
            },
            key = pressed(&mut keys) => if key == Key::End {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    drop(raw);
    screen::note("the session is over");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_cast_become_cues_and_nothing_else_does() {
        assert_eq!(cue(r#"{"version":2,"width":80,"height":24}"#), Some(Cue::Size(80, 24)));
        let at = Duration::from_millis(1500);
        assert_eq!(cue(r#"[1.5,"o","hi\u001b[0m"]"#), Some(Cue::Show(at, "hi\u{1b}[0m".to_owned())));
        assert_eq!(cue(r#"[1.5,"r","80x24"]"#), Some(Cue::Pass(at)));
        for bad in ["", "{}", "[]", "[-1,\"o\",\"x\"]", "[1e300,\"o\",\"x\"]", "null"] {
            assert_eq!(cue(bad), None, "{bad}");
        }
    }

    #[test]
    fn moments_are_read_as_people_write_them() {
        assert_eq!(moment("75"), Ok(Duration::from_secs(75)));
        assert_eq!(moment("1:15"), Ok(Duration::from_secs(75)));
        assert_eq!(moment("1:00:00"), Ok(Duration::from_secs(3600)));
        for bad in ["", "x", "-1", "1:2:3:4", "1e99"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
