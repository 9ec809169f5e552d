//! `ravelin report`: what the record says of a month, for those who have to prove it.
//!
//! - [`evidence`]: counting; memory does not grow with the month.
//! - [`paper`]: Markdown and HTML.
//!
//! The events come from the bastion, by the right to export the record and on record as an export, or from files; either
//! way they run through the same verifier as in `ravelin audit verify`.

mod evidence;
mod paper;
#[cfg(test)]
mod tests;

use super::audit::{self, PAGE};
use super::chain::{self, Chain};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::screen::{self, Screen};
use super::{Globals, plain};
use evidence::{ChainStatus, Counting, Evidence, Made};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, civil};
use ravelin_model::ledger::{Beginning, Checkpoint, Digest, Expectations, Foundation, PublicKey};
use ravelin_native::wire;
use ravelin_sinks::lines::{self, Parsed};
use std::fs::OpenOptions;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) const HELP: &str = "Examples:
  ravelin report --month 2026-11 --key ledger.pub --format html --out 2026-11.html
  ravelin report --month 2026-11 --key ledger.pub record.jsonl

Without files it asks the bastion, which takes the right export_audit and goes on record as an export does.
Exit status 0: made, and the chain is whole. 1: the chain is not whole, or something else went wrong.";

/// What to report on, from what, and in which form.
#[derive(Clone, Debug, clap::Args)]
pub struct ReportArgs {
    /// The month, in UTC
    #[arg(long, value_name = "YYYY-MM", value_parser = month_arg)]
    month: Month,
    /// As what: Markdown, JSON, or one HTML page with plots [default: markdown]
    #[arg(long, value_enum, value_name = "FORM")]
    format: Option<Form>,
    /// Write to this file, which must not be there yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The public key: a file such as ledger.pub, or its 64 hex digits [default: the ledger.pub beside FILE; without files, the key that the record names]
    #[arg(long, value_name = "FILE|HEX")]
    key: Option<String>,
    /// An export, or files of a sink in their order (schema ravelin), in place of the bastion
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    globals: Globals,
}

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// For people, and for whatever shows Markdown
    Markdown,
    /// For programs
    Json,
    /// One page, with plots, that needs nothing else
    Html,
}

/// A month of UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Month {
    first: civil::Date,
    from: Timestamp,
    before: Timestamp,
}

impl Month {
    fn name(self) -> String {
        self.first.strftime("%Y-%m").to_string()
    }
}

fn month_arg(text: &str) -> Result<Month, String> {
    month(text, Timestamp::now())
}

fn month(text: &str, now: Timestamp) -> Result<Month, String> {
    let shape = || "must be a year and a month, such as 2026-11".to_owned();
    let (year, number) = text.split_once('-').ok_or_else(shape)?;
    let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(year, 4) || !is_number(number, 2) {
        return Err(shape());
    }
    let first = format!("{text}-01").parse::<civil::Date>().map_err(|_| shape())?;
    let midnight = |date: civil::Date| date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let next = first.checked_add(1.month()).map_err(|_| shape())?;
    let (from, before) = (midnight(first).map_err(|_| shape())?, midnight(next).map_err(|_| shape())?);
    if from > now {
        return Err("has not begun yet".to_owned());
    }
    Ok(Month { first, from, before })
}

pub(crate) async fn report(args: ReportArgs) -> Result<ExitCode, Failure> {
    let screen = Screen::new(&args.globals.shown)?;
    let on_screen = args.globals.shown.output.is_some() || args.globals.shown.query.is_some();
    if on_screen && (args.format.is_some() || args.out.is_some()) {
        return Err(Failure::usage(
            "--output and --query show the report; --format and --out write it; give one of both",
        ));
    }
    if let Some(path) = args.out.as_ref().filter(|path| path.exists()) {
        return Err(Failure::usage(format!("--out {}: it is there already", path.display())).hint("name another file"));
    }
    let evidence = if args.files.is_empty() {
        from_bastion(&Client::new(&args.globals)?, &args).await?
    } else {
        from_files(&args)?
    };
    let whole = evidence.chain.whole;
    if on_screen {
        screen.show_one(&evidence, || paper::markdown(&evidence))?;
    } else {
        write(args.out.as_deref(), &written(&evidence, args.format.unwrap_or(Form::Markdown))?)?;
    }
    Ok(if whole { ExitCode::SUCCESS } else { Exit::Other.into() })
}

fn written(evidence: &Evidence, form: Form) -> Result<String, Failure> {
    match form {
        Form::Markdown => Ok(paper::markdown(evidence)),
        Form::Html => Ok(paper::html(evidence)),
        Form::Json => {
            let text = serde_json::to_string_pretty(evidence)
                .map_err(|error| Failure::other(format!("the report cannot be written: {error}")))?;
            Ok(plain::json(&text) + "\n")
        }
    }
}

fn write(out: Option<&Path>, text: &str) -> Result<(), Failure> {
    let Some(path) = out else { return screen::print(text) };
    let unfit = |error: std::io::Error| Failure::other(format!("cannot write {}: {error}", path.display()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(unfit)?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // A part of a report must not be taken for the whole.
        let _gone = std::fs::remove_file(path);
        return Err(unfit(error));
    }
    screen::note(&format!("written to {}", path.display()));
    Ok(())
}

/// Events on their way into a report.
struct Reading {
    month: Month,
    chain: Chain,
    counting: Counting,
    key: Option<PublicKey>,
    key_from: &'static str,
}

impl Reading {
    fn new(month: Month, key: Option<PublicKey>, key_from: &'static str, is_part: bool) -> Self {
        // Without a key there is no checkpoint either, so nothing is held against this one.
        let held = key.unwrap_or(PublicKey([0; 32]));
        let expect = Expectations { key: held, known: None, at_least: 0, is_part };
        Self { month, chain: Chain::new(expect), counting: Counting::new(month.from, month.before), key, key_from }
    }

    /// Takes in a line; breaks when the month is over and its last event is signed, or when it has no end to find.
    fn line(&mut self, parsed: Parsed) -> Result<ControlFlow<()>, &'static str> {
        let Some((stand, told)) = self.chain.take(parsed)? else { return Ok(ControlFlow::Continue(())) };
        self.counting.event(stand.seq, stand.hash, &told);
        let is_signed = match (self.counting.last(), stand.signed_through) {
            (None, _) => true,
            (Some(last), Some(through)) => through >= last,
            (Some(_), None) => self.chain.fault().is_some(),
        };
        Ok(if self.counting.is_closed() && is_signed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn finish(self, source: String, principal: Option<String>, now: Timestamp) -> Result<Evidence, Failure> {
        let Self { month, chain, counting, key, key_from } = self;
        let deployment = chain.foundation().map(|foundation| foundation.deployment.clone()).unwrap_or_default();
        let mut status = ChainStatus {
            whole: false,
            fault: None,
            beginning: None,
            first: None,
            last: None,
            checkpoints: None,
            signed_through: None,
            key: None,
            key_from,
        };
        let nothing = || Failure::other("there is nothing in it; an export has at least its first line");
        match chain.finish().ok_or_else(nothing)? {
            Ok(found) => {
                status.whole = true;
                status.beginning = Some(match found.beginning {
                    Beginning::Genesis => "genesis",
                    Beginning::SignedCut => "signed_cut",
                    Beginning::Unproven => "part",
                });
                (status.first, status.last) = (Some(found.first), Some(found.last));
                (status.checkpoints, status.signed_through) = (Some(found.checkpoints), Some(found.signed_through));
                status.key = key.filter(|_| found.checkpoints > 0).map(|key| key.to_string());
            }
            Err(fault) => {
                status.fault = Some(fault.to_string());
                status.key = key.map(|key| key.to_string());
            }
        }
        let made = Made {
            at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source,
            principal,
        };
        Ok(counting.finish(month.name(), made, now >= month.before, status, deployment))
    }
}

fn from_files(args: &ReportArgs) -> Result<Evidence, Failure> {
    if chain::is_store(&args.files[0])? {
        return Err(Failure::usage(format!("{} is a store", args.files[0].display()))
            .hint("ask the bastion that runs on it, or make an export: ravelin audit export --out record.jsonl"));
    }
    let key = audit::public_key(args.key.as_deref(), &args.files[0])?;
    let mut reading = Reading::new(args.month, Some(key), "given", true);
    chain::read_files(&args.files, |parsed| reading.line(parsed))?;
    let names: Vec<String> = args.files.iter().map(|path| path.display().to_string()).collect();
    reading.finish(names.join(" "), None, Timestamp::now())
}

async fn from_bastion(client: &Client, args: &ReportArgs) -> Result<Evidence, Failure> {
    let me: wire::Whoami = client.get(&["whoami"], &[]).await?;
    let bounds = audit::page(client, &[], 0, 1).await?;
    let kept = audit::from_wire(&bounds.foundation)?;
    // The record grows while it is read, by this very reading; what comes after now is of no matter.
    let newest = bounds.newest;
    let before = before_month(client, &args.month, kept.after, newest).await?;
    let (key, key_from) = match &args.key {
        Some(text) => (Some(audit::public_key(Some(text), Path::new(""))?), "given"),
        None => (named_key(client, kept.after).await?, "record"),
    };
    let is_part = before > kept.after;
    let mut reading = Reading::new(args.month, key, key_from, is_part);
    if is_part {
        let page = audit::page(client, &[], before - 1, 1).await?;
        let at = page.items.first().filter(|item| item.event.seq == before).map(|item| &item.hash);
        let head = at.and_then(|hash| Digest::parse(hash));
        let head =
            head.ok_or_else(|| Failure::other(format!("the bastion has no event {before} any more; try again")))?;
        reading.chain.begin(Foundation { after: before, head, signature: None, ..kept });
        reading.counting.preceded();
    } else {
        reading.chain.begin(kept);
    }
    let mut after = before;
    'pages: while after < newest {
        let page = audit::page(client, &[], after, PAGE).await?;
        for item in &page.items {
            let unreadable = |why: String| Failure::other(format!("event {} cannot be read: {why}", item.event.seq));
            let text = serde_json::to_string(item).map_err(|error| unreadable(error.to_string()))?;
            let parsed = lines::parse(text.as_bytes()).map_err(unreadable)?;
            let outcome = reading.line(parsed).map_err(|why| unreadable(why.to_owned()))?;
            if outcome == ControlFlow::Break(()) || item.event.seq >= newest {
                break 'pages;
            }
        }
        if page.next_after <= after {
            break;
        }
        after = page.next_after;
    }
    reading.finish(client.place().to_owned(), Some(me.principal), Timestamp::now())
}

/// The number of the last event before the month, by halving; `kept` when all that are kept come later.
async fn before_month(client: &Client, month: &Month, kept: u64, newest: u64) -> Result<u64, Failure> {
    // INVARIANT: the event `low` lies before the month, or is the last one that is not kept; what lies above `high`
    // does not.
    let (mut low, mut high) = (kept, newest);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        let page = audit::page(client, &[], middle - 1, 1).await?;
        let at = page.items.first().and_then(|item| item.event.at.parse::<Timestamp>().ok());
        let at = at.ok_or_else(|| Failure::other(format!("the bastion's record has no event {middle}; try again")))?;
        if at < month.from {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}

/// The key that the first checkpoint names that is kept.
async fn named_key(client: &Client, kept: u64) -> Result<Option<PublicKey>, Failure> {
    let which = [("event".to_owned(), "ledger_checkpoint".to_owned())];
    let mut after = kept;
    loop {
        let page = audit::page(client, &which, after, 1).await?;
        if let Some(item) = page.items.first() {
            let checkpoint = Checkpoint::from_facts(|name| item.event.facts.get(name).map(String::as_str));
            return Ok(checkpoint.map(|checkpoint| checkpoint.key));
        }
        if page.next_after <= after || page.next_after >= page.newest {
            return Ok(None);
        }
        after = page.next_after;
    }
}
