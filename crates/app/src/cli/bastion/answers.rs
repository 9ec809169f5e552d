//! `ravelin bastion list|show|get-active-sessions|disconnect-active-sessions`. JSON and YAML carry the members as the
//! service spelled them, also those that are newer than this code; tables show those that people ask for.

use super::place::{HostArgs, Place};
use crate::cli::failure::{Exit, Failure};
use crate::cli::screen::{self, Screen};
use crate::cli::sessions::facts_view;
use crate::cli::table::{Cell, Column, Tone, View};
use crate::cli::{ask, span};
use ravelin_azure::client::Item;
use ravelin_azure::client::arm::Answer;
use serde_json::{Value, json};
use std::process::ExitCode;
use std::time::Duration;

/// Whose sessions to list.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ActiveArgs {
    #[command(flatten)]
    host: HostArgs,
    #[command(flatten)]
    wait: WaitArgs,
}

/// What to do with an answer that comes later.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct WaitArgs {
    /// Do not wait for an answer that comes later; show where it will be
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for an answer that comes later
    #[arg(long, value_name = "SPAN", default_value = "2m", value_parser = span::span)]
    timeout: Duration,
}

/// Which sessions to end.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DisconnectArgs {
    #[command(flatten)]
    host: HostArgs,
    /// Ids as get-active-sessions shows them
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// The same, as the vendor's command line takes them; a script's list may be empty
    #[arg(long, num_args = 0.., value_name = "ID", required_unless_present_any = ["all", "user", "ids"])]
    session_ids: Vec<String>,
    /// Every active session
    #[arg(long, conflicts_with_all = ["session_ids", "ids"])]
    all: bool,
    /// Every active session of this person
    #[arg(long, value_name = "NAME", conflicts_with_all = ["session_ids", "ids"])]
    user: Option<String>,
    /// Only show what would be ended
    #[arg(long)]
    dry_run: bool,
    /// Do not ask before ending sessions that were not named by id
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn list(place: &Place, screen: &Screen) -> Result<ExitCode, Failure> {
    let group = place.args.resource_group.as_deref().filter(|group| !group.is_empty());
    let hosts = place.arm.hosts(place.subscription()?, group).await.map_err(|error| place.failed(error))?;
    screen.show(&hosts, || View {
        columns: vec![
            Column::whole("NAME"),
            Column::whole("GROUP").dispensable(1),
            Column::whole("SKU").dispensable(2),
            Column::whole("LOCATION").dispensable(3),
            Column::whole("DNS NAME").cut_to(20).dispensable(4),
        ],
        rows: hosts
            .iter()
            .map(|host| {
                let id = text(host, &["id"]);
                let mut segments = id.split('/').skip_while(|segment| !segment.eq_ignore_ascii_case("resourceGroups"));
                vec![
                    cell(host, &["name"]),
                    Cell::new(segments.nth(1).unwrap_or_default()),
                    cell(host, &["sku", "name"]),
                    cell(host, &["location"]),
                    cell(host, &["properties", "dnsName"]),
                ]
            })
            .collect(),
        empty: "no bastion host",
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn show(place: &Place, screen: &Screen, host: HostArgs) -> Result<ExitCode, Failure> {
    let host = place.arm.host(&place.host(&host)?).await.map_err(|error| place.failed(error))?;
    screen.show(&host, || {
        let mut facts = vec![
            ("name", cell(&host, &["name"])),
            ("id", cell(&host, &["id"])),
            ("sku", cell(&host, &["sku", "name"])),
            ("location", cell(&host, &["location"])),
            ("state", cell(&host, &["properties", "provisioningState"])),
            ("data plane", cell(&host, &["properties", "dnsName"])),
        ];
        let offers = [
            ("tunnels", "enableTunneling"),
            ("by address", "enableIpConnect"),
            ("shareable links", "enableShareableLink"),
            ("recording", "enableSessionRecording"),
        ];
        facts.extend(offers.map(|(shown, name)| (shown, cell(&host, &["properties", name]))));
        facts_view(facts)
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn active(place: &Place, screen: &Screen, args: ActiveArgs) -> Result<ExitCode, Failure> {
    let host = place.host(&args.host)?;
    let wait = (!args.wait.no_wait).then_some(args.wait.timeout);
    match place.arm.active_sessions(&host, wait).await.map_err(|error| place.failed(error))? {
        Answer::Here(sessions) => screen.show(&sessions, || active_view(&sessions, screen))?,
        Answer::Later(link) => {
            let link = link.to_string();
            screen.show(&json!({ "location": link }), || facts_view(vec![("answer will be at", Cell::new(&link))]))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn disconnect(place: &Place, screen: &Screen, args: DisconnectArgs) -> Result<ExitCode, Failure> {
    /// Longest wait for the list that a filter looks through.
    const LIST_MAX: Duration = Duration::from_secs(120);
    let host = place.host(&args.host)?;
    let named: Vec<String> = args.ids.into_iter().chain(args.session_ids).collect();
    let mut ids = named.clone();
    if args.all || args.user.is_some() || args.dry_run {
        let listed = place.arm.active_sessions(&host, Some(LIST_MAX)).await.map_err(|error| place.failed(error))?;
        let Answer::Here(mut sessions) = listed else {
            return Err(Failure::other("the list of active sessions did not come"));
        };
        sessions.retain(|session| match &args.user {
            Some(user) => text(session, &["userName"]).eq_ignore_ascii_case(user),
            None => args.all || named.iter().any(|id| id == text(session, &["sessionId"])),
        });
        if args.dry_run {
            screen.show(&sessions, || active_view(&sessions, screen))?;
            return Ok(ExitCode::SUCCESS);
        }
        ids = sessions.iter().map(|session| text(session, &["sessionId"]).to_owned()).collect();
        if ids.is_empty() {
            screen::note("no session matches");
            return Ok(ExitCode::SUCCESS);
        }
        if !args.yes {
            let count = if ids.len() == 1 { "1 session".to_owned() } else { format!("{} sessions", ids.len()) };
            if !ask::somebody_is_there() {
                return Err(Failure::usage(format!("{count} would be ended, and nobody is there to be asked"))
                    .hint("say --yes, or see first with --dry-run"));
            }
            if !ask::yes(&format!("End {count} on {}?", host.name)) {
                return Err(Failure::other("nothing was ended"));
            }
        }
    }
    let (outcomes, whole) = place.arm.disconnect(&host, &ids).await;
    let stopped = whole.err().map(|error| place.failed(error));
    if outcomes.is_empty()
        && let Some(failure) = stopped
    {
        return Err(failure);
    }
    // What is not there any more has ended; only an id that somebody gave may be a wrong one.
    let from_list = named.is_empty();
    let is_gone = |outcome: &Item| is_disconnected(outcome) || (from_list && is_missing(outcome));
    screen.show(&outcomes, || View {
        columns: vec![Column::whole("ID"), Column::whole("STATE"), Column::whole("MESSAGE").cut_to(20)],
        rows: outcomes
            .iter()
            .map(|outcome| {
                let tone = if is_gone(outcome) { Tone::Good } else { Tone::Bad };
                vec![cell(outcome, &["sessionId"]), cell(outcome, &["state"]).tone(tone), cell(outcome, &["message"])]
            })
            .collect(),
        empty: "no session",
    })?;
    // What the answer does not speak of is not known to have ended.
    let gone: Vec<&str> = outcomes.iter().filter(|outcome| is_gone(outcome)).map(|o| text(o, &["sessionId"])).collect();
    let open = ids.iter().filter(|id| !gone.iter().any(|gone| gone.eq_ignore_ascii_case(id))).count();
    if let Some(failure) = stopped {
        screen::note(&format!("not all were asked for: {}", failure.message));
    }
    if open > 0 {
        screen::note(&format!("{open} of {} not disconnected", ids.len()));
        return Ok(Exit::NotAllEnded.into());
    }
    Ok(ExitCode::SUCCESS)
}

fn is_disconnected(outcome: &Item) -> bool {
    text(outcome, &["state"]).eq_ignore_ascii_case("Disconnected")
}

fn is_missing(outcome: &Item) -> bool {
    text(outcome, &["state"]).eq_ignore_ascii_case("NotFound")
}

fn active_view(sessions: &[Item], screen: &Screen) -> View {
    View {
        columns: vec![
            Column::whole("ID"),
            Column::whole("USER").cut_to(8),
            Column::whole("TARGET").cut_to(10),
            Column::whole("PROTOCOL").dispensable(2),
            Column::whole("ADDRESS").dispensable(3),
            Column::whole("STARTED").dispensable(1),
            Column::whole("MINUTES").dispensable(4),
        ],
        rows: sessions
            .iter()
            .map(|session| {
                vec![
                    cell(session, &["sessionId"]),
                    cell(session, &["userName"]),
                    cell(session, &["targetHostName"]),
                    cell(session, &["protocol"]),
                    cell(session, &["targetIpAddress"]),
                    screen.time(text(session, &["startTime"])),
                    cell(session, &["sessionDurationInMins"]),
                ]
            })
            .collect(),
        empty: "no active session",
    }
}

/// The text at a path of members; empty when there is none.
fn text<'a>(item: &'a Item, path: &[&str]) -> &'a str {
    at(item, path).and_then(Value::as_str).unwrap_or_default()
}

fn cell(item: &Item, path: &[&str]) -> Cell {
    match at(item, path) {
        None | Some(Value::Null) => Cell::default(),
        Some(Value::String(text)) => Cell::new(text),
        Some(Value::Bool(yes)) => Cell::shown_as(yes.to_string(), if *yes { "yes" } else { "no" }),
        Some(other) => Cell::new(other.to_string()),
    }
}

fn at<'a>(item: &'a Item, path: &[&str]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(item.get(*first)?, |value, name| value.get(name))
}
