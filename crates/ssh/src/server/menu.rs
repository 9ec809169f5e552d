//! Somebody came without saying where to: a list of targets to choose from, or a hint when nobody can choose.

use super::connection::{CLOSING, ChannelLeg, EXIT_NOT_RUN};
use super::program::{Program, ProgramChannel};
use super::session;
use crate::user::Wish;
use bytes::{Buf, Bytes};
use ravelin_engine::relay::Unit;
use ravelin_model::{Login, Target};
use russh::ChannelMsg;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 256;

/// How long the list waits for a choice.
const CHOOSE_MAX: Duration = Duration::from_secs(300);

/// Targets that are shown; all can be named.
const SHOWN_MAX: usize = 200;

/// Serves a session channel of a connection without a target.
pub(super) async fn serve(mut channel: ProgramChannel, program: Program) {
    let (Program::Shell, true) = (&program, channel.setting.terminal.is_some()) else {
        let name = channel.connection.caller.name().clone();
        channel.decline(&format!("no target was named: use {name}:TARGET as user name, or ssh -J")).await;
        return;
    };
    let connection = Arc::clone(&channel.connection);
    let targets = connection.shared.gate.targets(&connection.caller);
    if targets.is_empty() {
        channel.decline("no target is shared with you").await;
        return;
    }
    // A client that is gone is noticed when it is read from.
    let _gone = connection.handle.channel_success(channel.write.id()).await;
    // Whoever does not choose goes, as somebody who asked to leave does.
    let chosen = tokio::time::timeout(CHOOSE_MAX, choose(&mut channel, &targets)).await.ok().flatten();
    let Some(wish) = chosen else {
        if let Err(error) = channel.leave(0).await {
            tracing::debug!(%error, "a client left the menu by closing");
        }
        return;
    };
    let Some(counted) = connection.count_session() else {
        channel.decline(CLOSING).await;
        return;
    };
    let leg = ChannelLeg::new(Arc::clone(&connection), channel.write.id());
    // This task is dropped wherever it stands when the client leaves.
    let closed = leg.close_on_drop();
    match session::admit(&connection, wish, Arc::clone(&leg) as Arc<dyn ravelin_engine::leg::Leg>).await {
        Ok(admission) => {
            let (line, end) = session::line(false);
            tokio::spawn(session::run(Arc::clone(&connection), admission, end, counted));
            let write = Arc::clone(&channel.write);
            let cut = tokio::select! {
                () = channel.run(program, &line) => false,
                // The farewell is said before the cut.
                () = leg.is_cut() => true,
            };
            drop(closed);
            if cut {
                connection.hide_face(write.id());
                let closing = async {
                    write.exit_status(EXIT_NOT_RUN).await?;
                    write.close().await
                };
                // The connection is gone when this was all that it carried.
                let _gone: Result<(), russh::Error> = closing.await;
            }
        }
        Err(text) => {
            if show(&channel, format!("\r\n{text}\r\n")).await && channel.leave(EXIT_NOT_RUN).await.is_err() {
                tracing::debug!("a client left before it could be told why not");
            }
        }
    }
}

async fn show(channel: &ProgramChannel, text: String) -> bool {
    channel.write.data_bytes(Bytes::from(text)).await.is_ok()
}

/// Shows the list and reads answers until one names a target; what was typed after that one stays with the channel, for
/// the program. `None` when the person leaves.
async fn choose(channel: &mut ProgramChannel, targets: &[Arc<Target>]) -> Option<Wish> {
    let name = channel.connection.caller.name().clone();
    if !show(channel, format!("Hello {name}. Where to?\r\n\r\n{}", list(targets))).await {
        return None;
    }
    let mut input = Input::default();
    let mut ahead = Bytes::new();
    loop {
        if !show(channel, "\r\nNumber or name, LOGIN@NAME for another login, q to leave: ".to_owned()).await {
            return None;
        }
        let answer = loop {
            if !ahead.is_empty() {
                let (echo, step) = input.take(&mut ahead);
                if !show(channel, echo).await {
                    return None;
                }
                match step {
                    Step::More => {}
                    Step::Leave => return None,
                    Step::Answer(answer) => break answer,
                }
            }
            match channel.source.message().await? {
                ChannelMsg::Data { data } => ahead = data,
                ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height } => {
                    channel.resize(col_width, row_height, pix_width, pix_height);
                }
                ChannelMsg::Eof | ChannelMsg::Close => return None,
                _ => {}
            }
        };
        match read_answer(&answer, targets) {
            Answer::Leave => return None,
            Answer::Target(wish) => {
                if !ahead.is_empty() {
                    channel.source.hold(Unit::Data(ahead));
                }
                return Some(wish);
            }
            Answer::Nothing => {}
            Answer::Unknown => {
                if !show(channel, format!("{}\r\n", session::not_found(&answer))).await {
                    return None;
                }
            }
        }
    }
}

fn list(targets: &[Arc<Target>]) -> String {
    let width = targets.iter().take(SHOWN_MAX).map(|t| t.name.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for (at, target) in targets.iter().take(SHOWN_MAX).enumerate() {
        let labels: Vec<String> = target.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let labels: String = labels.join(" ").chars().filter(|c| !c.is_control()).collect();
        // Writing into a string cannot fail.
        let _infallible = write!(text, "  {:>3}  {:<width$}  {labels}\r\n", at + 1, target.name.as_str());
    }
    if targets.len() > SHOWN_MAX {
        let _infallible = write!(text, "       and {} more, by name\r\n", targets.len() - SHOWN_MAX);
    }
    text
}

/// A line being typed on a raw terminal.
#[derive(Default)]
struct Input {
    line: Vec<u8>,
    escape: Escape,
}

/// Where in an escape sequence, such as an arrow key sends, the last byte was.
#[derive(Default, PartialEq, Eq)]
enum Escape {
    #[default]
    Outside,
    /// After ESC, which may have been typed by itself.
    Begun,
    Inside,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    More,
    Answer(String),
    Leave,
}

impl Input {
    /// Takes what was typed, up to the end of a line; returns what the terminal shows for it. A terminal delivers in one
    /// piece whatever was typed fast, so the rest is the next answer's, or the program's.
    fn take(&mut self, bytes: &mut Bytes) -> (String, Step) {
        let mut echo = String::new();
        while !bytes.is_empty() {
            let byte = bytes.get_u8();
            match byte {
                0x1b => self.escape = Escape::Begun,
                b'[' | b'O' if self.escape == Escape::Begun => self.escape = Escape::Inside,
                b'@'..=b'~' if self.escape == Escape::Inside => self.escape = Escape::Outside,
                b' '..=b'?' if self.escape == Escape::Inside => {}
                b'\r' | b'\n' => {
                    // Both together are one end of a line.
                    if byte == b'\r' && bytes.first() == Some(&b'\n') {
                        bytes.advance(1);
                    }
                    echo.push_str("\r\n");
                    self.escape = Escape::Outside;
                    let line = std::mem::take(&mut self.line);
                    return (echo, Step::Answer(String::from_utf8_lossy(&line).trim().to_owned()));
                }
                // Ctrl-C, Ctrl-D.
                0x03 | 0x04 => {
                    echo.push_str("\r\n");
                    return (echo, Step::Leave);
                }
                // Backspace and delete.
                0x08 | 0x7f => echo.push_str(self.line.pop().map_or("", |_| "\u{8} \u{8}")),
                // Ctrl-U.
                0x15 => {
                    echo.push_str(&"\u{8} \u{8}".repeat(self.line.len()));
                    self.line.clear();
                }
                printable if (b' '..=b'~').contains(&printable) && self.line.len() < ANSWER_BYTES_MAX => {
                    self.escape = Escape::Outside;
                    self.line.push(printable);
                    echo.push(char::from(printable));
                }
                _ => {}
            }
        }
        (echo, Step::More)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Nothing,
    Leave,
    Unknown,
    Target(Wish),
}

fn read_answer(answer: &str, targets: &[Arc<Target>]) -> Answer {
    match answer {
        "" => return Answer::Nothing,
        "q" | "Q" | "quit" | "exit" => return Answer::Leave,
        _ => {}
    }
    let (login, place) = match answer.split_once('@') {
        None => (None, answer),
        Some((login, place)) => match Login::parse(login) {
            Ok(login) => (Some(login), place),
            Err(_) => return Answer::Unknown,
        },
    };
    let by_number = place.parse::<usize>().ok().and_then(|number| targets.get(number.checked_sub(1)?));
    let named = |target: &&Arc<Target>| target.name.as_str().eq_ignore_ascii_case(place) || target.id.as_str() == place;
    match by_number.or_else(|| targets.iter().find(named)) {
        Some(target) => Answer::Target(Wish::Target { login, name: target.name.to_string() }),
        None => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ravelin_engine::testkit;

    fn targets() -> Vec<Arc<Target>> {
        ["web-1", "db-1"].map(|name| Arc::new(testkit::target(name, "192.0.2.1", 22, &[]))).to_vec()
    }

    fn wish(login: Option<&str>, name: &str) -> Answer {
        let login = login.map(|l| Login::parse(l).expect("a login"));
        Answer::Target(Wish::Target { login, name: name.to_owned() })
    }

    #[test]
    fn answers() {
        let targets = targets();
        assert_eq!(read_answer("1", &targets), wish(None, "web-1"));
        assert_eq!(read_answer("db-1", &targets), wish(None, "db-1"));
        assert_eq!(read_answer("DB-1", &targets), wish(None, "db-1"));
        assert_eq!(read_answer("root@2", &targets), wish(Some("root"), "db-1"));
        assert_eq!(read_answer("q", &targets), Answer::Leave);
        assert_eq!(read_answer("", &targets), Answer::Nothing);
        for unknown in ["0", "3", "99999999999999999999", "mail", "@1", "a b@1"] {
            assert_eq!(read_answer(unknown, &targets), Answer::Unknown, "{unknown}");
        }
    }

    #[test]
    fn typing() {
        let mut input = Input::default();
        let mut take = |typed: &'static [u8]| {
            let mut typed = Bytes::from_static(typed);
            let (echo, step) = input.take(&mut typed);
            (echo, step, typed)
        };
        let nothing = Bytes::new();
        let answer = |text: &str| Step::Answer(text.to_owned());
        assert_eq!(take(b"wex"), ("wex".to_owned(), Step::More, nothing.clone()));
        assert_eq!(take(b"\x7f"), ("\u{8} \u{8}".to_owned(), Step::More, nothing.clone()));
        assert_eq!(take(b"\x1b[Ab\r"), ("b\r\n".to_owned(), answer("web"), nothing.clone()));
        assert_eq!(take(b"\x1b[1;5Dw\x1b").0, "w");
        assert_eq!(take(b"e\x1b\r"), ("e\r\n".to_owned(), answer("we"), nothing.clone()));
        assert_eq!(take(b"\x1b\x03").1, Step::Leave);
        assert_eq!(take(b"\x1b[\x03").1, Step::Leave);
        assert_eq!(take(b"abc\x15\r").1, answer(""));
        assert_eq!(take(b"1\rls\r"), ("1\r\n".to_owned(), answer("1"), Bytes::from_static(b"ls\r")));
        assert_eq!(take(b"1\r\nls\r"), ("1\r\n".to_owned(), answer("1"), Bytes::from_static(b"ls\r")));
        assert_eq!(take(b"1\n\nls"), ("1\r\n".to_owned(), answer("1"), Bytes::from_static(b"\nls")));
    }

    proptest! {
        #[test]
        fn typing_never_panics_and_stays_short(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let mut input = Input::default();
            let mut bytes = Bytes::from(bytes);
            let before = bytes.len();
            let (echo, step) = input.take(&mut bytes);
            prop_assert!(input.line.len() <= ANSWER_BYTES_MAX);
            prop_assert!(!echo.contains('\x1b'));
            prop_assert!(before == 0 || bytes.len() < before);
            prop_assert!(step != Step::More || bytes.is_empty());
        }
    }
}
