//! `ravelin sessions watch`: follows what happens, and comes back by itself to where it was.

use super::client::{Client, SILENCE_MAX};
use super::failure::{Exit, Failure};
use super::filter::words;
use super::play;
use super::screen::{self, Format, Screen};
use super::sessions::live_view;
use super::span;
use ravelin_model::audit::AuditKind;
use ravelin_native::stream::{Block, Broken, Decoder};
use ravelin_native::wire;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::process::ExitCode;
use std::time::Duration;

/// The first pause before coming back, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What to follow.
#[derive(Clone, Debug, clap::Args)]
pub struct WatchArgs {
    /// A live session whose screen to see: its id, or as much of it as names one only
    #[arg(value_name = "ID", conflicts_with_all = ["cursor", "event", "user", "target", "session", "limit"])]
    id: Option<String>,
    /// Begin after this number of the record; 0 for all that is kept [default: now]
    #[arg(long, value_name = "N")]
    cursor: Option<u64>,
    /// Only this kind of event; may be repeated
    #[arg(long, value_name = "EVENT", value_parser = words(AuditKind::ALL.iter().map(|k| k.word())))]
    event: Vec<String>,
    /// Only what concerns sessions of this person, or what this person did
    #[arg(long, visible_alias = "principal", value_name = "NAME")]
    user: Option<String>,
    /// Only what concerns sessions to this target, by its name
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// Only what concerns the session whose id starts so
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// Stop after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl WatchArgs {
    fn wants(&self, event: &wire::Event) -> bool {
        let fact = |name: &str| event.facts.get(name).map(String::as_str);
        (self.event.is_empty() || self.event.iter().any(|kind| *kind == event.kind))
            && self.user.as_deref().is_none_or(|user| event.actor == user || fact("principal") == Some(user))
            && self.target.as_deref().is_none_or(|t| fact("target").is_some_and(|name| name.eq_ignore_ascii_case(t)))
            && self.session.as_deref().is_none_or(|start| {
                event.session.as_deref().is_some_and(|id| {
                    id.starts_with(start) || id.rsplit_once('-').is_some_and(|(_, hex)| hex.starts_with(start))
                })
            })
    }
}

/// Events that are no longer kept, as a line of its own for scripts.
#[derive(Serialize)]
struct GapLine {
    kind: &'static str,
    #[serde(flatten)]
    gap: wire::EventGap,
}

/// How a connection to the stream ended.
enum Left {
    /// As many as were asked for have been shown.
    Enough,
    /// It broke; coming back makes sense.
    Broken(String),
}

pub(crate) async fn watch(client: &Client, screen: &Screen, args: WatchArgs) -> Result<ExitCode, Failure> {
    if let Some(id) = &args.id {
        return play::live(client, id).await;
    }
    let mut watcher = Watcher { screen, cursor: args.cursor, left: args.limit, args };
    // People see first who is there.
    let mut snapshot = screen.format == Format::Table && watcher.cursor.is_none();
    let mut pause = PAUSE;
    let mut met = false;
    loop {
        let before = watcher.cursor;
        let why = match client.events(watcher.cursor, snapshot).await {
            Ok(response) => {
                met = true;
                match watcher.follow(response).await? {
                    Left::Enough => return Ok(ExitCode::SUCCESS),
                    Left::Broken(why) => why,
                }
            }
            // A bastion that was never met is a mistake; one that was met is coming back.
            Err(failure) if met && failure.exit != Exit::Denied && failure.exit != Exit::Usage => failure.message,
            Err(failure) => return Err(failure),
        };
        snapshot = snapshot && watcher.cursor.is_none();
        pause = if watcher.cursor == before { (pause * 2).min(PAUSE_MAX) } else { PAUSE };
        screen::note(&format!("connection lost: {why}; coming back in {} ms", pause.as_millis()));
        tokio::time::sleep(pause).await;
    }
}

struct Watcher<'a> {
    screen: &'a Screen,
    /// Everything up to here was shown.
    cursor: Option<u64>,
    left: Option<u64>,
    args: WatchArgs,
}

impl Watcher<'_> {
    async fn follow(&mut self, mut response: reqwest::Response) -> Result<Left, Failure> {
        let mut decoder = Decoder::default();
        let mut live = Vec::new();
        loop {
            let bytes = match tokio::time::timeout(SILENCE_MAX, response.chunk()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return Ok(Left::Broken("the bastion ended the stream".to_owned())),
                Ok(Err(_)) => return Ok(Left::Broken("it broke off".to_owned())),
                Err(_elapsed) => return Ok(Left::Broken("the bastion is silent".to_owned())),
            };
            let blocks = match decoder.handle(&bytes) {
                Ok(blocks) => blocks,
                Err(Broken(why)) => return Err(Failure::other(format!("the event stream cannot be read: {why}"))),
            };
            for block in blocks {
                if let Some(left) = self.take(block, &mut live)? {
                    return Ok(left);
                }
            }
        }
    }

    fn take(&mut self, block: Block, live: &mut Vec<wire::Session>) -> Result<Option<Left>, Failure> {
        match block.event.as_str() {
            "" => {}
            "snapshot" => {
                let part: wire::Snapshot = read(&block)?;
                live.extend(part.sessions);
                if !part.more {
                    let live = std::mem::take(live);
                    self.screen.show(&live, || live_view(&live, self.screen))?;
                }
            }
            "gap" => {
                let gap: wire::EventGap = read(&block)?;
                let words = format!("events {} to {} are no longer kept", gap.from, gap.to);
                if self.screen.format == Format::Table {
                    screen::note(&words);
                } else {
                    let line = GapLine { kind: "gap", gap };
                    self.screen.show_one(&line, || format!("gap\t{}\t{}\n", gap.from, gap.to))?;
                }
            }
            "problem" => {
                let problem: wire::Problem = read(&block)?;
                return match problem.status {
                    401 | 403 => Err(Failure::new(Exit::Denied, problem.detail)),
                    _ => Ok(Some(Left::Broken(problem.detail))),
                };
            }
            _ => {
                let event: wire::Event = read(&block)?;
                if self.args.wants(&event) {
                    self.screen.show_one(&event, || line(&event, self.screen))?;
                    if let Some(left) = &mut self.left {
                        *left -= 1;
                        if *left == 0 {
                            return Ok(Some(Left::Enough));
                        }
                    }
                }
            }
        }
        if block.id.is_some() {
            self.cursor = block.id;
        }
        Ok(None)
    }
}

fn read<T: DeserializeOwned>(block: &Block) -> Result<T, Failure> {
    serde_json::from_str(&block.data)
        .map_err(|error| Failure::other(format!("an event of kind {} cannot be read: {error}", block.event)))
}

/// An event on one line.
pub(super) fn line(event: &wire::Event, screen: &Screen) -> String {
    if screen.format == Format::Text {
        let facts: Vec<String> = event.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let session = event.session.clone().unwrap_or_default();
        let parts = [event.seq.to_string(), event.at.clone(), event.kind.to_string(), event.actor.clone(), session];
        let parts: Vec<String> = parts.iter().chain(&facts).map(|part| super::plain::line(part)).collect();
        return parts.join("\t") + "\n";
    }
    let at = span::wire(&event.at).map_or_else(|| event.at.clone(), |at| span::absolute(at, screen.utc));
    let what = event.session.as_deref().unwrap_or("-");
    format!("{}  {:<20}  {what}  {}\n", at, event.kind, super::plain::line(&told(event))).replace('\u{1b}', "")
}

/// What an event says, in words.
fn told(event: &wire::Event) -> String {
    let fact = |name: &str| event.facts.get(name).map_or("", String::as_str);
    let (principal, target, detail) = (fact("principal"), fact("target"), fact("detail"));
    let destination = if fact("login").is_empty() { target.to_owned() } else { format!("{}@{target}", fact("login")) };
    let ending = if detail.is_empty() {
        format!("{} by {}", fact("end_reason"), event.actor)
    } else {
        format!("{} by {}: {detail}", fact("end_reason"), event.actor)
    };
    match event.kind.as_ref() {
        "session_opened" => format!("{principal} from {} to {destination}", fact("client_address")),
        "session_connected" | "session_classified" => format!("{principal} to {destination} ({})", fact("kind")),
        "session_ending" | "session_ended" | "session_failed" => ending,
        _ => {
            let facts: Vec<String> = event.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
            format!("by {} {}", event.actor, facts.join(" ")).trim_end().to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::screen;
    use super::*;

    fn ended() -> wire::Event {
        let golden = include_str!("../../../native/tests/golden/event/session_ended.json");
        serde_json::from_str(golden).expect("the API's own example")
    }

    fn args() -> WatchArgs {
        WatchArgs { id: None, cursor: None, event: Vec::new(), user: None, target: None, session: None, limit: None }
    }

    #[test]
    fn an_event_is_one_harmless_line() {
        let mut event = ended();
        event.facts.insert("detail".to_owned(), "x\u{1b}[2J\ny".to_owned());
        assert_eq!(
            line(&event, &screen(Format::Table, None)),
            "2026-11-21 22:29:03Z  session_ended         alice-07a16060613c408b5  disconnected_by_operator by carol: \
             x\\u{1b}[2J\\ny\n"
        );
        let text = line(&event, &screen(Format::Text, None));
        assert!(text.starts_with("42\t2026-11-21T22:29:03.123456Z\tsession_ended\tcarol\talice-07a16060613c408b5\t"));
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn only_what_was_asked_for_is_shown() {
        let event = ended();
        assert!(args().wants(&event));
        let one = |change: fn(&mut WatchArgs)| {
            let mut args = args();
            change(&mut args);
            args.wants(&event)
        };
        assert!(one(|a| a.event = vec!["session_ended".into(), "session_opened".into()]));
        assert!(!one(|a| a.event = vec!["session_opened".into()]));
        assert!(one(|a| a.user = Some("alice".into())), "whose session it is");
        assert!(one(|a| a.user = Some("carol".into())), "who did it");
        assert!(!one(|a| a.user = Some("bob".into())));
        assert!(one(|a| a.target = Some("WEB-1".into())));
        assert!(!one(|a| a.target = Some("web".into())));
        assert!(one(|a| a.session = Some("07a1".into())));
        assert!(!one(|a| a.session = Some("7a1".into())));
    }

    #[test]
    fn the_place_moves_with_what_was_shown_and_a_gap_is_told() {
        let screen = screen(Format::Table, None);
        let mut watcher = Watcher { screen: &screen, cursor: None, left: Some(1), args: args() };
        let mut live = Vec::new();
        let mut take = |event: &str, id, data: &str| {
            let block = Block { id, event: event.to_owned(), data: data.to_owned() };
            watcher.take(block, &mut live).map(|left| (left.is_some(), watcher.cursor))
        };
        assert_eq!(take("", Some(3), ""), Ok((false, Some(3))));
        assert_eq!(take("gap", Some(7), r#"{"from":4,"to":7}"#), Ok((false, Some(7))));
        let event = serde_json::to_string(&ended()).expect("JSON");
        assert_eq!(take("session_ended", Some(8), &event).map(|(enough, _)| enough), Ok(true));
        assert!(take("session_ended", Some(9), "{").is_err());
    }
}
