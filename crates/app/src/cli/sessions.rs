//! `ravelin sessions ls|show|history`.

use super::client::Client;
use super::failure::Failure;
use super::filter::{FilterArgs, words};
use super::resolve::{self, Named};
use super::screen::{self, Screen};
use super::table::{Cell, Column, Tone, View};
use super::{plain, recordings, span};
use jiff::{Timestamp, ToSpan};
use ravelin_model::session::EndReason;
use ravelin_native::wire;
use std::process::ExitCode;
use std::time::Duration;

/// Live sessions that a bastion is asked for at most.
const LIVE_MAX: usize = 100_000;

/// Who is connected right now.
#[derive(Clone, Debug, clap::Args)]
pub struct LsArgs {
    /// Also those that have ended, the latest first
    #[arg(short, long)]
    all: bool,
    /// At most this many [default: all that are live; 1000 with --all]
    #[arg(long, visible_alias = "max-items", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    filter: FilterArgs,
}

/// One session.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// The id, or as much of it, or of its hex part, as names one session only
    #[arg(value_name = "ID")]
    id: String,
}

/// Who was connected.
#[derive(Clone, Debug, clap::Args)]
pub struct HistoryArgs {
    /// Started since: 7d (so long ago), 2026-11-21, or a time in RFC 3339 [default: 7d]
    #[arg(long, value_name = "WHEN", value_parser = span::moment_arg)]
    since: Option<Timestamp>,
    /// Started before
    #[arg(long, value_name = "WHEN", value_parser = span::moment_arg)]
    until: Option<Timestamp>,
    /// Ended since
    #[arg(long, value_name = "WHEN", value_parser = span::moment_arg)]
    ended_since: Option<Timestamp>,
    /// Ended before
    #[arg(long, value_name = "WHEN", value_parser = span::moment_arg)]
    ended_until: Option<Timestamp>,
    /// Ended for this reason; may be repeated
    #[arg(long, visible_alias = "end-reason", value_name = "REASON", value_parser = words(EndReason::ALL.iter().map(|r| r.word())))]
    reason: Vec<String>,
    /// Ended by: a person, target:NAME or system
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// List what was done whose words are these: commands, files, connections, screens; a* stands for what begins so
    #[arg(long, value_name = "WORDS", conflicts_with_all = ["ended_since", "ended_until", "reason", "actor", "oldest_first"])]
    text: Option<String>,
    /// The oldest first
    #[arg(long)]
    oldest_first: bool,
    /// At most this many; pages are followed as far as that takes
    #[arg(long, visible_alias = "max-items", value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    filter: FilterArgs,
}

pub(crate) async fn ls(client: &Client, screen: &Screen, args: LsArgs) -> Result<ExitCode, Failure> {
    let mut filter = args.filter.into_wire(screen.now);
    filter.state = vec![if args.all { "any" } else { "live" }.to_owned()];
    let most = match args.limit {
        Some(limit) => limit as usize,
        None if args.all => 1000,
        None => LIVE_MAX,
    };
    let (sessions, more) = client.sessions(&filter, "newest", most).await?;
    screen.show(&sessions, || live_view(&sessions, screen))?;
    note_more(more, most);
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn history(client: &Client, screen: &Screen, args: HistoryArgs) -> Result<ExitCode, Failure> {
    let mut filter = args.filter.into_wire(screen.now);
    if let Some(text) = args.text {
        let mut query = vec![("text".to_owned(), text), ("limit".to_owned(), args.limit.min(1000).to_string())];
        query.extend(args.since.map(|at| ("from".to_owned(), at.to_string())));
        query.extend(args.until.map(|at| ("before".to_owned(), at.to_string())));
        match filter.principal.as_slice() {
            [] => {}
            [principal] => query.push(("principal".to_owned(), principal.clone())),
            _ => return Err(Failure::usage("--text takes one --user")),
        }
        query.extend(filter.target.take().map(|target| ("target".to_owned(), target)));
        let rest = wire::SessionFilter { principal: Vec::new(), ..filter };
        if rest != wire::SessionFilter::default() {
            return Err(Failure::usage("--text goes with --user, --target, --since, --until and --limit only"));
        }
        return recordings::search(client, screen, query).await;
    }
    filter.state = vec!["ended".to_owned()];
    let since = match args.since {
        Some(since) => Some(since),
        // A window on the end replaces the usual one on the start.
        None if args.ended_since.is_some() || args.ended_until.is_some() || args.until.is_some() => None,
        None => screen.now.checked_sub((7 * 24).hours()).ok(),
    };
    filter.created_from = since.map(|at| at.to_string());
    if let Some(until) = args.until {
        // `--older-than` may say so as well; the earlier of the two holds.
        let older = filter.created_before.as_deref().and_then(span::wire);
        filter.created_before = Some(older.map_or(until, |older| older.min(until)).to_string());
    }
    filter.ended_from = args.ended_since.map(|at| at.to_string());
    filter.ended_before = args.ended_until.map(|at| at.to_string());
    filter.end_reason = args.reason;
    filter.actor = args.actor;
    let most = args.limit as usize;
    let order = if args.oldest_first { "oldest" } else { "newest" };
    let (sessions, more) = client.sessions(&filter, order, most).await?;
    screen.show(&sessions, || history_view(&sessions, screen))?;
    note_more(more, most);
    Ok(ExitCode::SUCCESS)
}

fn note_more(more: bool, most: usize) {
    if more {
        screen::note(&format!("there are more than {most}; raise --limit or narrow the filter"));
    }
}

pub(crate) async fn show(client: &Client, screen: &Screen, args: ShowArgs) -> Result<ExitCode, Failure> {
    let Named::One(id) = resolve::session(client, &args.id, false).await? else {
        return Err(resolve::not_found(client, &args.id).await);
    };
    let shown: Result<wire::Session, Failure> = client.get(&["sessions", &id], &[]).await;
    let session = match shown {
        Ok(session) => session,
        Err(failure) if failure.missing => {
            return Err(resolve::not_found(client, &args.id).await);
        }
        Err(failure) => return Err(failure),
    };
    screen.show(&session, || facts_view(facts(&session, screen)))?;
    Ok(ExitCode::SUCCESS)
}

/// `root@web-1`, or `web-1` where nobody logs in.
pub(crate) fn destination(session: &wire::Session) -> String {
    match &session.login {
        Some(login) => format!("{login}@{}", session.target.name),
        None => session.target.name.clone(),
    }
}

pub(crate) fn state(word: &str) -> Cell {
    let tone = match word {
        "connected" => Tone::Good,
        "connecting" | "disconnected" | "terminating" => Tone::Warn,
        "failed" => Tone::Bad,
        "terminated" => Tone::Faint,
        _ => Tone::Plain,
    };
    Cell::new(word).tone(tone)
}

/// The list of those that are live.
pub(crate) fn live_view(sessions: &[wire::Session], screen: &Screen) -> View {
    View {
        columns: vec![
            Column::whole("ID"),
            Column::whole("USER").cut_to(8).dispensable(5),
            Column::whole("TARGET").cut_to(10),
            Column::whole("KIND").dispensable(3),
            Column::whole("STATE").dispensable(1),
            Column::whole("FROM").dispensable(4),
            Column::whole("STARTED").dispensable(1),
            Column::whole("ACTIVE").dispensable(2),
            Column::whole("IN").dispensable(6),
            Column::whole("OUT").dispensable(6),
        ],
        rows: sessions
            .iter()
            .map(|session| {
                vec![
                    Cell::new(&session.id),
                    Cell::new(&session.principal),
                    Cell::new(destination(session)),
                    Cell::new(session.kind.as_ref()),
                    state(&session.state),
                    Cell::new(&session.client_address),
                    screen.time(&session.created),
                    screen.time(&session.last_activity),
                    bytes(session.bytes_in),
                    bytes(session.bytes_out),
                ]
            })
            .collect(),
        empty: "no session",
    }
}

fn history_view(sessions: &[wire::Session], screen: &Screen) -> View {
    View {
        columns: vec![
            Column::whole("ID"),
            Column::whole("USER").cut_to(8).dispensable(5),
            Column::whole("TARGET").cut_to(10),
            Column::whole("KIND").dispensable(3),
            Column::whole("FROM").dispensable(4),
            Column::whole("STARTED").dispensable(2),
            Column::whole("LASTED").dispensable(2),
            Column::whole("ENDED").dispensable(1),
            Column::whole("REASON").cut_to(12),
            Column::whole("BY").cut_to(6).dispensable(1),
            Column::whole("DETAIL").cut_to(10).dispensable(3),
        ],
        rows: sessions
            .iter()
            .map(|session| {
                let reason = session.end_reason.as_deref().unwrap_or_default();
                vec![
                    Cell::new(&session.id),
                    Cell::new(&session.principal),
                    Cell::new(destination(session)),
                    Cell::new(session.kind.as_ref()),
                    Cell::new(&session.client_address),
                    screen.time(&session.created),
                    lasted(session),
                    session.ended.as_deref().map_or_else(Cell::default, |ended| screen.time(ended)),
                    Cell::new(reason).tone(reason_tone(reason)),
                    Cell::new(session.actor.as_deref().unwrap_or_default()),
                    Cell::new(session.detail.as_deref().unwrap_or_default()),
                ]
            })
            .collect(),
        empty: "no session",
    }
}

pub(crate) fn reason_tone(reason: &str) -> Tone {
    match reason {
        "client_closed" | "target_closed" => Tone::Plain,
        "disconnected_by_operator" | "idle_limit" | "duration_limit" | "rights_revoked" | "node_stopped" => Tone::Warn,
        _ => Tone::Bad,
    }
}

/// From the start to the end; in seconds for scripts.
fn lasted(session: &wire::Session) -> Cell {
    let ends = (span::wire(&session.created), session.ended.as_deref().and_then(span::wire));
    let (Some(from), Some(to)) = ends else { return Cell::default() };
    let lasted = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    Cell::shown_as(format!("{:.3}", lasted.as_secs_f64()), span::length(lasted))
}

/// `17 B`, `4.0 KiB`; the number itself for scripts.
fn bytes(count: u64) -> Cell {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return Cell::shown_as(count.to_string(), format!("{count} B"));
    }
    let mut scaled = count as f64 / 1024.0;
    let mut unit = 0;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    Cell::shown_as(count.to_string(), format!("{scaled:.1} {}", UNITS[unit]))
}

/// Everything that is known of a session, as names and values.
fn facts(session: &wire::Session, screen: &Screen) -> Vec<(&'static str, Cell)> {
    let text = |text: &Option<String>| Cell::new(text.as_deref().unwrap_or_default());
    let time = |text: &Option<String>| text.as_deref().map_or_else(Cell::default, |text| screen.full_time(text));
    let pairs = |pairs: &std::collections::BTreeMap<String, String>| {
        Cell::new(pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", "))
    };
    vec![
        ("id", Cell::new(&session.id)),
        ("state", state(&session.state)),
        ("user", Cell::new(&session.principal)),
        ("groups", Cell::new(session.groups.join(", "))),
        ("proved by", Cell::new(session.auth_method.as_ref())),
        ("from", Cell::new(format!("{} port {}", session.client_address, session.client_port))),
        ("software", Cell::new(&session.client_software)),
        ("target", Cell::new(&session.target.name)),
        ("address", Cell::new(format!("{} port {}", session.target.address, session.target.port))),
        ("target id", Cell::new(&session.target.id)),
        ("also known as", Cell::new(session.target.aliases.values().cloned().collect::<Vec<_>>().join(", "))),
        ("labels", pairs(&session.target.labels)),
        ("login", text(&session.login)),
        ("protocol", Cell::new(session.protocol.as_ref())),
        ("kind", Cell::new(session.kind.as_ref())),
        ("document", text(&session.document)),
        ("reason", text(&session.reason)),
        ("created", screen.full_time(&session.created)),
        ("connected", time(&session.connected)),
        ("last activity", screen.full_time(&session.last_activity)),
        ("ended", time(&session.ended)),
        ("bytes in", bytes(session.bytes_in)),
        ("bytes out", bytes(session.bytes_out)),
        ("end reason", Cell::new(session.end_reason.as_deref().unwrap_or_default())),
        ("ended by", text(&session.actor)),
        ("detail", text(&session.detail)),
        ("recording", Cell::new(session.recording.as_ref())),
        ("recording digest", Cell::new(session.recording_digest.as_deref().unwrap_or_default())),
        ("recording lies in", text(&session.recording_place)),
        ("it is to move to", text(&session.recording_awaits)),
        ("node", Cell::new(format!("{} start {}", session.node, session.epoch))),
        ("tags", pairs(&session.tags)),
    ]
}

/// Names and values, one pair a line; those without a value are left out.
pub(crate) fn facts_view(facts: Vec<(&'static str, Cell)>) -> View {
    View {
        columns: vec![Column::whole(""), Column::whole("").cut_to(20)],
        rows: facts
            .into_iter()
            .filter(|(_, cell)| !cell.raw.is_empty())
            .map(|(name, cell)| vec![Cell::new(name).tone(Tone::Faint), cell])
            .collect(),
        empty: "",
    }
}

/// A session in a few words, for a question or a note.
pub(crate) fn in_words(session: &wire::Session) -> String {
    plain::line(&format!("{} to {} ({})", session.id, destination(session), session.kind))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::screen::Format;
    use super::super::screen::tests::screen;
    use super::*;

    pub(crate) fn ended() -> wire::Session {
        let golden = include_str!("../../../native/tests/golden/session/terminated.json");
        serde_json::from_str(golden).expect("the API's own example")
    }

    #[test]
    fn lists_show_what_matters() {
        let screen = screen(Format::Table, None);
        let mut hostile = ended();
        hostile.detail = Some("\u{1b}]0;owned\u{7}".to_owned());
        let history = history_view(&[hostile], &screen).table(Some(220), false);
        let wanted = "alice-07a16060613c408b5  alice  root@web-1  shell  192.0.2.9  2026-11-21 22:28:54Z  9s      \
                      2026-11-21 22:29:03Z  disconnected_by_operator  carol  \\u{1b}]0;owned\\u{7}";
        assert_eq!(history.lines().nth(1), Some(wanted));
        let live = live_view(&[ended()], &screen).text();
        assert_eq!(
            live,
            "alice-07a16060613c408b5\talice\troot@web-1\tshell\tterminated\t192.0.2.9\t2026-11-21T22:28:54.123456Z\t\
             2026-11-21T22:29:03.123456Z\t17\t4096\n"
        );
    }

    #[test]
    fn lists_fit_80_cells() {
        let screen = screen(Format::Table, None);
        for view in [live_view(&[ended()], &screen), history_view(&[ended()], &screen)] {
            let text = view.table(Some(80), false);
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains("alice-07a16060613c408b5"));
        }
    }

    #[test]
    fn a_session_is_shown_with_every_fact_that_it_has() {
        let facts = facts(&ended(), &screen(Format::Table, None));
        let text = facts_view(facts).text();
        for wanted in
            ["rotating keys", "env=prod", "ticket=4711", "ticket 4711", "node-0000beef start 3", "SSH-2.0-OpenSSH_10.0"]
        {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        assert!(!text.contains("document"), "what is not known is not shown");
    }

    #[test]
    fn counts_of_bytes_are_short() {
        for (count, shown) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB"), (u64::MAX, "16384.0 PiB")]
        {
            assert_eq!(bytes(count), Cell::shown_as(count.to_string(), shown));
        }
    }
}
