//! `ravelin sessions kill`: ends sessions by id or by filter, and says when each ended.

use super::ask;
use super::client::Client;
use super::failure::{Exit, Failure};
use super::filter::FilterArgs;
use super::resolve::{self, Named};
use super::screen::{self, Format, Screen};
use super::sessions::{in_words, live_view, reason_tone};
use super::span;
use super::table::{Cell, Column, Tone, View};
use ravelin_native::wire::{self, Outcome, OutcomeWord};
use std::process::ExitCode;
use std::time::Duration;

pub(super) const HELP: &str = "Exit status:
  0  all have ended, now or before        3  some have not
  4  not allowed, or no valid token       5  no bastion answers

Examples:
  ravelin sessions kill alice-07a1 --reason \"rotating keys\"
  ravelin sessions kill --user alice --older-than 2h --dry-run
  ravelin sessions kill --target db-prod --yes";

/// Times that a filter is looked at again when what it matches changes under us.
const LOOKS_MAX: u32 = 5;

/// Which sessions to end, and how.
#[derive(Clone, Debug, clap::Args)]
pub struct KillArgs {
    /// Ids, or as much of each, or of its hex part, as names one session only
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Every live session
    #[arg(long)]
    all: bool,
    /// Only show what would be ended
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Do not ask before ending what a filter matches
    #[arg(short, long)]
    yes: bool,
    /// End what a filter matches only if it is this many
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
    /// Why; the person at the keyboard reads it, and the record keeps it
    #[arg(short, long, value_name = "TEXT")]
    reason: Option<String>,
    /// How long to wait until both sides of each session are closed
    #[arg(long, value_name = "SPAN", default_value = "5s", value_parser = wait)]
    wait: Duration,
    #[command(flatten)]
    filter: FilterArgs,
}

fn wait(text: &str) -> Result<Duration, String> {
    let wait = span::span(text)?;
    if wait > Duration::from_secs(60) { Err("must be at most 60s".to_owned()) } else { Ok(wait) }
}

pub(crate) async fn kill(client: &Client, screen: &Screen, args: KillArgs) -> Result<ExitCode, Failure> {
    let filtered = args.all || !args.filter.is_empty();
    match (args.ids.is_empty(), filtered) {
        (false, true) => Err(Failure::usage("give ids or a filter, not both")),
        (true, false) => Err(Failure::usage("say which: ids, a filter such as --user or --target, or --all")
            .hint("what is live: ravelin sessions ls")),
        (true, true) if args.all && !args.filter.is_empty() => {
            Err(Failure::usage("--all is every live session; leave it out to end what the filter matches"))
        }
        (false, false) => by_id(client, screen, args).await,
        (true, true) => by_filter(client, screen, args).await,
    }
}

async fn by_id(client: &Client, screen: &Screen, args: KillArgs) -> Result<ExitCode, Failure> {
    if args.expect.is_some() {
        return Err(Failure::usage("--expect goes with a filter; ids say how many they are"));
    }
    // All names are looked up before the first session is ended: an unclear one refuses the whole.
    let mut named = Vec::new();
    for text in &args.ids {
        named.push((text, resolve::session(client, text, true).await?));
    }
    let ids: Vec<String> = named
        .iter()
        .filter_map(|(_, named)| if let Named::One(id) = named { Some(id.clone()) } else { None })
        .collect();
    if args.dry_run {
        return look_at(client, screen, &ids, &named).await;
    }
    let mut outcomes = Vec::new();
    if !ids.is_empty() {
        let wish = wire::TerminateMany { ids, reason: args.reason, wait_ms: Some(milliseconds(args.wait)) };
        let answer: wire::Outcomes = client.post(&["sessions", "terminate"], &wish, args.wait).await.map_err(unsure)?;
        outcomes = answer.items;
    }
    let unknown = named.into_iter().filter(|(_, named)| *named == Named::None);
    outcomes.extend(unknown.map(|(text, _)| Outcome {
        id: text.clone(),
        outcome: OutcomeWord::NotFound,
        closed_at: None,
        end_reason: None,
        actor: None,
        detail: Some("no session starts so".to_owned()),
    }));
    tell(screen, &outcomes)
}

async fn look_at(
    client: &Client,
    screen: &Screen,
    ids: &[String],
    named: &[(&String, Named)],
) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    if !ids.is_empty() {
        let filter =
            wire::SessionFilter { state: vec!["live".to_owned()], id: ids.to_vec(), ..wire::SessionFilter::default() };
        found = client.sessions(&filter, "newest", ids.len()).await?.0;
    }
    screen.show(&found, || live_view(&found, screen))?;
    let unknown: Vec<&str> = named.iter().filter(|(_, n)| *n == Named::None).map(|(text, _)| text.as_str()).collect();
    if unknown.is_empty() {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::new(Exit::NotAllEnded, format!("no session is called {}", unknown.join(", "))))
    }
}

async fn by_filter(client: &Client, screen: &Screen, args: KillArgs) -> Result<ExitCode, Failure> {
    if !args.dry_run && !args.yes && !ask::somebody_is_there() {
        return Err(Failure::usage("nobody is there to confirm; add --yes to end what the filter matches")
            .hint("look first with --dry-run"));
    }
    let path = ["sessions", "terminate-matching"];
    let filter = args.filter.into_wire(screen.now);
    let look = wire::TerminateMatching { filter, dry_run: true, ..wire::TerminateMatching::default() };
    for _ in 0..LOOKS_MAX {
        let found: wire::Matching = client.post(&path, &look, Duration::ZERO).await?;
        let sessions = found.sessions.unwrap_or_default();
        if args.dry_run {
            screen.show(&sessions, || live_view(&sessions, screen))?;
            screen::note(&format!("{} would be ended", counted(found.matching)));
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(expected) = args.expect
            && expected != found.matching
        {
            let message = format!("{} match, not {expected}; nothing was ended", counted(found.matching));
            return Err(Failure::new(Exit::NotAllEnded, message));
        }
        if found.matching == 0 {
            return tell(screen, &[]);
        }
        if !args.yes && !confirmed(&sessions, screen) {
            return Err(Failure::new(Exit::NotAllEnded, "nothing was ended"));
        }
        let wish = wire::TerminateMatching {
            filter: look.filter.clone(),
            dry_run: false,
            expect: Some(found.matching),
            reason: args.reason.clone(),
            wait_ms: Some(milliseconds(args.wait)),
        };
        match client.post::<wire::Matching>(&path, &wish, args.wait).await {
            Ok(done) => return tell(screen, &done.outcomes.unwrap_or_default()),
            // Sessions came or went since the look. Look again, unless the person said how many it must be.
            Err(failure) if failure.exit == Exit::NotAllEnded && args.expect.is_none() => {
                screen::note("what matches has changed since; looking again");
            }
            Err(failure) => return Err(unsure(failure)),
        }
    }
    Err(Failure::new(Exit::NotAllEnded, "what the filter matches keeps changing; nothing was ended")
        .hint("try again, or end sessions by their ids"))
}

/// Shows what would be ended and asks.
fn confirmed(sessions: &[wire::Session], screen: &Screen) -> bool {
    if let [only] = sessions {
        return ask::yes(&format!("end {}?", in_words(only)));
    }
    eprint!("{}", live_view(sessions, screen).table(screen::questions_width(), false));
    ask::yes(&format!("end these {}?", counted(sessions.len() as u64)))
}

fn counted(count: u64) -> String {
    if count == 1 { "1 session".to_owned() } else { format!("{count} sessions") }
}

fn milliseconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// After a wish to end was sent and no answer came, nobody knows whether it arrived.
fn unsure(failure: Failure) -> Failure {
    if failure.exit == Exit::Unreachable {
        failure.hint("the sessions may have been ended all the same; asking again is harmless")
    } else {
        failure
    }
}

fn tell(screen: &Screen, outcomes: &[Outcome]) -> Result<ExitCode, Failure> {
    screen.show(&outcomes, || view(outcomes, screen))?;
    let exit = exit(outcomes);
    if screen.format == Format::Table && exit.is_some() {
        let open = outcomes.iter().filter(|outcome| !has_ended(outcome.outcome)).count();
        screen::note(&format!("{open} of {} not ended", outcomes.len()));
    }
    Ok(exit.map_or(ExitCode::SUCCESS, ExitCode::from))
}

fn has_ended(outcome: OutcomeWord) -> bool {
    match outcome {
        OutcomeWord::Ended | OutcomeWord::AlreadyEnded => true,
        OutcomeWord::Pending | OutcomeWord::NotFound | OutcomeWord::Denied | OutcomeWord::Error => false,
    }
}

/// `None` when all have ended.
fn exit(outcomes: &[Outcome]) -> Option<Exit> {
    let mut open = outcomes.iter().filter(|outcome| !has_ended(outcome.outcome)).peekable();
    open.peek()?;
    Some(if open.all(|outcome| outcome.outcome == OutcomeWord::Denied) { Exit::Denied } else { Exit::NotAllEnded })
}

fn view(outcomes: &[Outcome], screen: &Screen) -> View {
    View {
        columns: vec![
            Column::whole("ID"),
            Column::whole("OUTCOME"),
            Column::whole("CLOSED").dispensable(2),
            Column::whole("WHY").dispensable(3),
            Column::whole("BY").cut_to(6).dispensable(3),
            Column::whole("DETAIL").cut_to(10).dispensable(4),
        ],
        rows: outcomes
            .iter()
            .map(|outcome| {
                let (word, shown, tone) = match outcome.outcome {
                    OutcomeWord::Ended => ("ended", "ended", Tone::Good),
                    OutcomeWord::AlreadyEnded => ("already_ended", "had ended before", Tone::Plain),
                    OutcomeWord::Pending => ("pending", "still open", Tone::Bad),
                    OutcomeWord::NotFound => ("not_found", "not found", Tone::Bad),
                    OutcomeWord::Denied => ("denied", "denied", Tone::Bad),
                    OutcomeWord::Error => ("error", "error", Tone::Bad),
                };
                let why = outcome.end_reason.as_deref().unwrap_or_default();
                vec![
                    Cell::new(&outcome.id),
                    Cell::shown_as(word, shown).tone(tone),
                    outcome.closed_at.as_deref().map_or_else(Cell::default, |closed| screen.exact_time(closed)),
                    Cell::new(why).tone(reason_tone(why)),
                    Cell::new(outcome.actor.as_deref().unwrap_or_default()),
                    Cell::new(outcome.detail.as_deref().unwrap_or_default()),
                ]
            })
            .collect(),
        empty: "no live session matches",
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::screen;
    use super::*;

    fn outcome(word: OutcomeWord) -> Outcome {
        let name = match word {
            OutcomeWord::Ended => include_str!("../../../native/tests/golden/outcome/ended.json"),
            OutcomeWord::AlreadyEnded => include_str!("../../../native/tests/golden/outcome/already_ended.json"),
            OutcomeWord::Pending => include_str!("../../../native/tests/golden/outcome/pending.json"),
            OutcomeWord::NotFound => include_str!("../../../native/tests/golden/outcome/not_found.json"),
            OutcomeWord::Denied => include_str!("../../../native/tests/golden/outcome/denied.json"),
            OutcomeWord::Error => include_str!("../../../native/tests/golden/outcome/error.json"),
        };
        serde_json::from_str(name).expect("the API's own example")
    }

    #[test]
    fn the_exit_status_tells_the_worst() {
        use OutcomeWord::{AlreadyEnded, Denied, Ended, Error, NotFound, Pending};
        let of = |words: &[OutcomeWord]| exit(&words.iter().copied().map(outcome).collect::<Vec<_>>());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[Ended, AlreadyEnded]), None);
        assert_eq!(of(&[Ended, Pending]), Some(Exit::NotAllEnded));
        assert_eq!(of(&[NotFound]), Some(Exit::NotAllEnded));
        assert_eq!(of(&[Error, Denied]), Some(Exit::NotAllEnded));
        assert_eq!(of(&[Ended, Denied]), Some(Exit::Denied));
    }

    #[test]
    fn each_session_is_told_when_it_closed_and_why() {
        let outcomes = [outcome(OutcomeWord::Ended), outcome(OutcomeWord::Pending)];
        let text = view(&outcomes, &screen(Format::Table, None)).table(Some(140), false);
        let first = text.lines().nth(1).expect("a row");
        assert_eq!(
            first,
            "alice-07a16060613c408b5  ended       2026-11-21 22:29:03.123Z  disconnected_by_operator  carol  rotating keys"
        );
        assert!(text.lines().nth(2).expect("a row").contains("still open"), "{text}");
        let raw = view(&outcomes, &screen(Format::Text, None)).text();
        assert!(raw.starts_with(
            "alice-07a16060613c408b5\tended\t2026-11-21T22:29:03.123456Z\tdisconnected_by_operator\tcarol\t"
        ));
    }

    #[test]
    fn a_wait_is_bounded() {
        assert_eq!(wait("60s"), Ok(Duration::from_secs(60)));
        assert!(wait("61s").is_err());
        assert!(wait("5").is_err());
    }
}
