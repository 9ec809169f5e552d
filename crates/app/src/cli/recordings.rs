//! `ravelin sessions export|acts|hold|release` and `history --text`.

use super::client::Client;
use super::failure::Failure;
use super::resolve::{self, Named};
use super::screen::{self, Screen};
use super::table::{Cell, Column, Tone, View};
use ravelin_native::wire;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Take a recording away.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// The session's id, or as much of it as names one only
    #[arg(value_name = "ID")]
    id: String,
    /// As what: asciicast 2 or 3, text, a page that plays it offline, lines with their times, or every event
    #[arg(long, value_name = "FORM", default_value = "cast", value_parser = ["cast", "cast3", "text", "html", "lines", "events"])]
    form: String,
    /// Which channel; the first with a terminal unless given
    #[arg(long, value_name = "N")]
    channel: Option<u32>,
    /// The file to write, which must not be there; - for standard output [default: the id with an ending]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// A session by its id.
#[derive(Clone, Debug, clap::Args)]
pub struct OneArgs {
    /// The session's id, or as much of it as names one only
    #[arg(value_name = "ID")]
    id: String,
}

/// Keep a recording from being removed.
#[derive(Clone, Debug, clap::Args)]
pub struct HoldArgs {
    /// The session's id, or as much of it as names one only
    #[arg(value_name = "ID")]
    id: String,
    /// Why; it is kept with the recording and in the record
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// The full id of the one session that `text` names.
pub(crate) async fn one(client: &Client, text: &str, live_first: bool) -> Result<String, Failure> {
    match resolve::session(client, text, live_first).await? {
        Named::One(id) => Ok(id),
        Named::None => Err(resolve::not_found(client, text).await),
    }
}

pub(crate) async fn export(client: &Client, args: ExportArgs) -> Result<ExitCode, Failure> {
    let id = one(client, &args.id, false).await?;
    let mut query = vec![("form".to_owned(), args.form.clone())];
    query.extend(args.channel.map(|channel| ("channel".to_owned(), channel.to_string())));
    let mut response = client.stream(&["sessions", &id, "export"], &query).await?;
    let ending = match args.form.as_str() {
        "text" => "txt",
        "html" => "html",
        "lines" | "events" => "ndjson",
        _ => "cast",
    };
    let path = args.file.unwrap_or_else(|| PathBuf::from(format!("{id}.{ending}")));
    if path == Path::new("-") {
        let mut out = std::io::stdout().lock();
        while let Some(bytes) = client.chunk(&mut response).await? {
            out.write_all(&bytes).map_err(|error| Failure::other(format!("cannot write: {error}")))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let unfit = |error: std::io::Error| Failure::other(format!("cannot write {}: {error}", path.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(|error| unfit(error).hint("name another file with --file, or - for standard output"))?;
    let written = async {
        let mut bytes_written = 0;
        while let Some(bytes) = client.chunk(&mut response).await? {
            file.write_all(&bytes).map_err(unfit)?;
            bytes_written += bytes.len();
        }
        file.sync_all().map_err(unfit)?;
        Ok(bytes_written)
    };
    match written.await {
        Ok(bytes) => {
            screen::note(&format!("{} bytes in {}", bytes, path.display()));
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            // A part of a recording must not be taken for the whole.
            let _gone = std::fs::remove_file(&path);
            Err(failure)
        }
    }
}

pub(crate) async fn acts(client: &Client, screen: &Screen, args: OneArgs) -> Result<ExitCode, Failure> {
    let id = one(client, &args.id, false).await?;
    let mut acts: wire::Acts = client.get(&["sessions", &id, "acts"], &[]).await?;
    while acts.more {
        let skip = [("skip".to_owned(), acts.items.len().to_string())];
        let next: wire::Acts = client.get(&["sessions", &id, "acts"], &skip).await?;
        // Forgotten meanwhile, with the recording.
        acts.more = next.more && !next.items.is_empty();
        acts.items.extend(next.items);
    }
    screen.show(&acts, || View {
        columns: vec![
            Column::whole("AT"),
            Column::whole("KIND"),
            Column::whole("KNOWN"),
            Column::whole("WHAT").cut_to(20),
            Column::whole("FACTS").cut_to(20).dispensable(1),
        ],
        rows: acts
            .items
            .iter()
            .map(|act| {
                vec![
                    Cell::new(offset(Duration::from_millis(act.at_ms))),
                    Cell::new(act.kind.as_ref()),
                    source(&act.source),
                    Cell::new(&act.text),
                    Cell::new(facts(act)),
                ]
            })
            .collect(),
        empty: "nothing is known to have been done",
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is only guessed shows so.
fn source(word: &str) -> Cell {
    Cell::new(word).tone(if word == "prompt" { Tone::Warn } else { Tone::Plain })
}

fn facts(act: &wire::Act) -> String {
    act.facts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// `00:01:02`, as players show it.
pub(crate) fn offset(at: Duration) -> String {
    let seconds = at.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// What `history --text` finds.
pub(crate) async fn search(
    client: &Client,
    screen: &Screen,
    query: Vec<(String, String)>,
) -> Result<ExitCode, Failure> {
    let found: wire::FoundActs = client.get(&["recordings", "search"], &query).await?;
    screen.show(&found.items, || View {
        columns: vec![
            Column::whole("WHEN"),
            Column::whole("USER").cut_to(8).dispensable(2),
            Column::whole("TARGET").cut_to(10).dispensable(1),
            Column::whole("SESSION"),
            Column::whole("KIND").dispensable(3),
            Column::whole("KNOWN").dispensable(3),
            Column::whole("WHAT").cut_to(20),
        ],
        rows: found
            .items
            .iter()
            .map(|found| {
                vec![
                    screen.time(&found.at),
                    Cell::new(&found.principal),
                    Cell::new(&found.target),
                    Cell::new(&found.session),
                    Cell::new(found.act.kind.as_ref()),
                    source(&found.act.source),
                    Cell::new(found.act.text.lines().collect::<Vec<_>>().join(" ")),
                ]
            })
            .collect(),
        empty: "nothing that was done holds these words",
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn hold(client: &Client, screen: &Screen, args: HoldArgs) -> Result<ExitCode, Failure> {
    let id = one(client, &args.id, false).await?;
    let wish = wire::Hold { reason: Some(args.reason) };
    let entry: wire::RecordingEntry = client.post(&["sessions", &id, "hold"], &wish, Duration::ZERO).await?;
    screen.show_one(&entry, || format!("{id} is held until it is released\n"))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn release(client: &Client, screen: &Screen, args: OneArgs) -> Result<ExitCode, Failure> {
    let id = one(client, &args.id, false).await?;
    let wish = serde_json::Map::<String, serde_json::Value>::new();
    let entry: wire::RecordingEntry = client.post(&["sessions", &id, "release"], &wish, Duration::ZERO).await?;
    screen.show_one(&entry, || format!("{id} is released; it is kept until {}\n", entry.keep_until))?;
    Ok(ExitCode::SUCCESS)
}
