//! `ravelin audit verify|export|tail`: copies of the record, and the proof that nobody changed it.

use super::chain::{self, Chain};
use super::client::Client;
use super::failure::{Exit, Failure};
use super::filter::{TraitArgs, words};
use super::screen::{self, Screen};
use super::{Globals, plain, span, watch};
use crate::state::StateDir;
use jiff::Timestamp;
use ravelin_model::audit::AuditKind;
use ravelin_model::ledger::{
    Beginning, Checkpoint, Digest, Expectations, Foundation, LedgerFault, PublicKey, Report, Signature,
};
use ravelin_model::session::EndReason;
use ravelin_native::wire;
use ravelin_sinks::lines::{self, Parsed};
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// What can be done with the audit record.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum AuditCommand {
    /// Check offline that nobody changed the record: an export, a sink's file, or a store
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// Take a copy of the record, as JSON lines that can be verified
    Export(Box<ExportArgs>),
    /// Show the end of the record
    Tail(Box<TailArgs>),
}

const VERIFY_HELP: &str = "Examples:
  ravelin audit verify audit.jsonl --key ledger.pub --checkpoint last-checkpoint.json
  ravelin audit verify /var/lib/ravelin/ravelin.db

The key is the ledger.pub of the bastion's state directory. Keep a copy of it, and the newest event of kind
ledger_checkpoint, where nobody who can write the bastion's disk can reach them.
Exit status 0: whole. 1: not whole, or it cannot be read; the first fault is named.";

/// What to check, and against what.
#[derive(Clone, Debug, clap::Args)]
pub struct VerifyArgs {
    /// An export, files of a sink in their order (schema ravelin), or one store
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The public key: a file such as ledger.pub, or its 64 hex digits [default: the ledger.pub beside FILE]
    #[arg(long, value_name = "FILE|HEX")]
    key: Option<String>,
    /// A checkpoint that was kept elsewhere: a file with that event in its last line
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Take a part of the record for what it is, and do not ask for its beginning
    #[arg(long)]
    part: bool,
}

/// Which events.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Which events")]
struct EventArgs {
    /// Of this kind of event; may be repeated
    #[arg(long, value_name = "EVENT", value_parser = words(AuditKind::ALL.iter().map(|k| k.word())))]
    event: Vec<String>,
    #[command(flatten)]
    of: TraitArgs,
    /// On the session whose id starts so
    #[arg(long, value_name = "ID")]
    session: Option<String>,
    /// On sessions that end for this reason; may be repeated
    #[arg(long, visible_alias = "end-reason", value_name = "REASON", value_parser = words(EndReason::ALL.iter().map(|r| r.word())))]
    reason: Vec<String>,
    /// Done by: a person, target:NAME or system
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Since then: how long ago, such as 7d, a date, or a time in RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = span::moment_arg)]
    since: Option<Timestamp>,
    /// Until then, likewise
    #[arg(long, value_name = "WHEN", value_parser = span::moment_arg)]
    until: Option<Timestamp>,
}

impl EventArgs {
    /// As parameters of the API.
    fn pairs(&self) -> Vec<(String, String)> {
        let one = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let mut pairs = self.of.pairs();
        pairs.extend(self.event.iter().map(|event| one("event", event)));
        pairs.extend(self.session.iter().map(|session| one("session", session)));
        pairs.extend(self.reason.iter().map(|reason| one("end_reason", reason)));
        pairs.extend(self.actor.iter().map(|actor| one("actor", actor)));
        pairs.extend(self.since.iter().map(|at| one("from", &at.to_string())));
        pairs.extend(self.until.iter().map(|at| one("before", &at.to_string())));
        pairs
    }
}

/// What to copy, and to where.
#[derive(Clone, Debug, clap::Args)]
pub struct ExportArgs {
    /// Write to this file, which must not be there yet, instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Begin after this number of the record
    #[arg(long, value_name = "N", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    which: EventArgs,
}

/// What to show.
#[derive(Clone, Debug, clap::Args)]
pub struct TailArgs {
    /// Look at so many of the newest events
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    lines: u64,
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    which: EventArgs,
}

pub(crate) async fn carry_out(globals: &Globals, screen: &Screen, command: AuditCommand) -> Result<ExitCode, Failure> {
    match command {
        // The one that asks no bastion, but files.
        AuditCommand::Verify(args) => verify(screen, &args),
        AuditCommand::Export(args) => export(&Client::new(globals)?, *args).await,
        AuditCommand::Tail(args) => tail(&Client::new(globals)?, screen, *args).await,
    }
}

/// Most events of one answer.
pub(crate) const PAGE: u64 = 1000;

pub(crate) async fn page(
    client: &Client,
    which: &[(String, String)],
    after: u64,
    limit: u64,
) -> Result<wire::LedgerPage, Failure> {
    let mut query = which.to_vec();
    query.push(("after".to_owned(), after.to_string()));
    query.push(("limit".to_owned(), limit.to_string()));
    client.get(&["audit"], &query).await
}

async fn export(client: &Client, args: ExportArgs) -> Result<ExitCode, Failure> {
    let which = args.which.pairs();
    let unwritable = |error: std::io::Error| Failure::other(format!("cannot write the export: {error}"));
    let mut out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(BufWriter::new(
            File::create_new(path)
                .map_err(|error| Failure::other(format!("cannot make {}: {error}", path.display())))?,
        )),
        None => Box::new(BufWriter::new(std::io::stdout())),
    };
    let mut after = args.after;
    let mut foundation = page(client, &which, after, 1).await?.foundation;
    if after > foundation.after {
        let before = page(client, &[], after - 1, 1).await?;
        let at = before.items.first().filter(|item| item.event.seq == after);
        let at = at.ok_or_else(|| Failure::usage(format!("--after {after}: there is no such event")))?;
        foundation = wire::LedgerFoundation { after, head: at.hash.clone(), signature: None, ..foundation };
    }
    after = after.max(foundation.after);
    writeln!(out, "{}", lines::head(&from_wire(&foundation)?)).map_err(unwritable)?;
    let mut count = 0_u64;
    loop {
        let page = page(client, &which, after, PAGE).await?;
        for item in &page.items {
            let text = serde_json::to_string(item)
                .map_err(|error| Failure::other(format!("an event cannot be written: {error}")))?;
            writeln!(out, "{}", plain::json(&text)).map_err(unwritable)?;
            count += 1;
        }
        if page.next_after <= after || page.next_after >= page.newest {
            break;
        }
        after = page.next_after;
    }
    out.flush().map_err(unwritable)?;
    if let Some(path) = &args.out {
        screen::note(&format!("{count} events written to {}", path.display()));
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn from_wire(wire: &wire::LedgerFoundation) -> Result<Foundation, Failure> {
    let unreadable = || Failure::other("the bastion's answer holds no hash where one belongs");
    let signature = match &wire.signature {
        None => None,
        Some(text) => Some(Signature::parse(text).ok_or_else(unreadable)?),
    };
    Ok(Foundation {
        deployment: wire.deployment.clone(),
        after: wire.after,
        head: Digest::parse(&wire.head).ok_or_else(unreadable)?,
        signature,
    })
}

async fn tail(client: &Client, screen: &Screen, args: TailArgs) -> Result<ExitCode, Failure> {
    /// How often the record is looked at.
    const LOOK_EVERY: Duration = Duration::from_secs(1);
    let which = args.which.pairs();
    let newest = page(client, &which, 0, 1).await?.newest;
    let mut after = newest.saturating_sub(args.lines);
    loop {
        let page = page(client, &which, after, PAGE).await?;
        for item in &page.items {
            screen.show_one(item, || watch::line(&item.event, screen))?;
        }
        let is_end = page.next_after <= after || page.next_after >= page.newest;
        after = page.next_after.max(after);
        match (is_end, args.follow) {
            (true, false) => return Ok(ExitCode::SUCCESS),
            (true, true) => tokio::time::sleep(LOOK_EVERY).await,
            (false, _) => {}
        }
    }
}

/// What a check found, for scripts.
#[derive(Serialize)]
struct Finding {
    whole: bool,
    fault: Option<String>,
    first: Option<u64>,
    last: Option<u64>,
    beginning: Option<&'static str>,
    checkpoints: Option<u64>,
    signed_through: Option<u64>,
    head: Option<String>,
}

fn verify(screen: &Screen, args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let key = public_key(args.key.as_deref(), &args.files[0])?;
    let known = args.checkpoint.as_deref().map(known_checkpoint).transpose()?;
    let expect = Expectations { key, known, at_least: 0, is_part: args.part };
    let outcome = if chain::is_store(&args.files[0])? {
        if args.files.len() > 1 {
            return Err(Failure::usage("a store is checked alone"));
        }
        ravelin_store::verify_file(&args.files[0], expect).map_err(|error| Failure::other(error.to_string()))?
    } else {
        verify_lines(&args.files, expect)?
    };
    let finding = match &outcome {
        Ok(report) => Finding {
            whole: true,
            fault: None,
            first: Some(report.first),
            last: Some(report.last),
            beginning: Some(match report.beginning {
                Beginning::Genesis => "genesis",
                Beginning::SignedCut => "signed_cut",
                Beginning::Unproven => "unproven",
            }),
            checkpoints: Some(report.checkpoints),
            signed_through: Some(report.signed_through),
            head: Some(report.head.to_string()),
        },
        Err(fault) => Finding {
            whole: false,
            fault: Some(fault.to_string()),
            first: None,
            last: None,
            beginning: None,
            checkpoints: None,
            signed_through: None,
            head: None,
        },
    };
    screen.show_one(&finding, || outcome.as_ref().map_or_else(said_fault, said))?;
    Ok(if outcome.is_ok() { ExitCode::SUCCESS } else { Exit::Other.into() })
}

fn said(report: &Report) -> String {
    if report.last == 0 || report.first == 0 {
        return "whole: there are no records\n".to_owned();
    }
    let beginning = match report.beginning {
        Beginning::Genesis => "from the deployment's first record on",
        Beginning::SignedCut => "what was before was removed by retention, which is signed",
        Beginning::Unproven => "a part: nothing says what was before it",
    };
    let Report { first, last, checkpoints, signed_through, head, .. } = report;
    format!(
        "whole: records {first} to {last}, {beginning}\n\
         signed: {checkpoints} checkpoints, through record {signed_through}\n\
         head: {head}\n"
    )
}

fn said_fault(fault: &LedgerFault) -> String {
    format!("NOT WHOLE: {fault}\n")
}

/// The key that is given, as a file or in digits, or the `ledger.pub` beside `file`.
pub(crate) fn public_key(given: Option<&str>, file: &Path) -> Result<PublicKey, Failure> {
    let hint = "name the ledger.pub of the bastion's state directory, or its 64 hex digits, with --key";
    let text = match given {
        Some(text) if PublicKey::parse(text).is_some() => text.to_owned(),
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("--key {path}: {error}")).hint(hint))?,
        None => {
            let beside = file.with_file_name(StateDir::LEDGER_PUBLIC_FILE);
            std::fs::read_to_string(&beside).map_err(|_| Failure::usage("no key was given").hint(hint))?
        }
    };
    PublicKey::parse(text.trim()).ok_or_else(|| Failure::usage("the key is none").hint(hint))
}

fn known_checkpoint(path: &Path) -> Result<Checkpoint, Failure> {
    let unfit = |why: &str| Failure::usage(format!("--checkpoint {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| unfit(&error.to_string()))?;
    let last = text.lines().rfind(|line| !line.trim().is_empty()).ok_or_else(|| unfit("it is empty"))?;
    match lines::parse(last.as_bytes()) {
        Ok(Parsed::Event(line, _)) => {
            line.checkpoint.flatten().ok_or_else(|| unfit("its last line is no event of kind ledger_checkpoint"))
        }
        Ok(Parsed::Foundation(_)) => Err(unfit("its last line is no event")),
        Err(why) => Err(unfit(&why)),
    }
}

/// Checks JSON lines.
fn verify_lines(files: &[PathBuf], expect: Expectations) -> Result<Result<Report, LedgerFault>, Failure> {
    let mut chain = Chain::new(expect);
    chain::read_files(files, |parsed| {
        chain.take(parsed)?;
        Ok(if chain.fault().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    chain.finish().ok_or_else(|| Failure::other("there is nothing in it; an export has at least its first line"))
}
