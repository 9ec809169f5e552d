//! `ravelin check`: everything that is wrong with a configuration, before it runs.

use crate::config::{self, Bind, Config, Loaded, Tls, Weight, units};
use crate::serve::node::{Sockets, outlets};
use crate::state::StateDir;
use ravelin_model::recording::LogKind;
use ravelin_recordings::Far;
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Longest that a place for recordings or for the output of sessions may take to answer.
const REACH_MAX: Duration = Duration::from_secs(20);

/// What `ravelin check` is told.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit status: 0 when it can run, 1 when not; each fault is one line with file, line, key and fix."
)]
pub struct CheckArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "ravelin.toml")]
    pub config: PathBuf,
}

/// Runs `ravelin check`. What is wrong goes to standard output: it is what was asked for.
pub fn run(args: &CheckArgs) -> ExitCode {
    let outcome = crate::block_on(async { Ok(report(args).await) });
    let (text, fine) = match outcome {
        Ok(report) => report,
        Err(error) => return crate::finish(Err(error)),
    };
    if let Err(error) = std::io::stdout().write_all(text.as_bytes()) {
        return crate::finish(Err(error.into()));
    }
    if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The report, and whether Ravelin would run.
async fn report(args: &CheckArgs) -> (String, bool) {
    let path = args.config.display();
    match config::load(&args.config) {
        Ok(loaded) => {
            let warnings: String = loaded.warnings.iter().map(|warning| warning.line() + "\n").collect();
            let taken = taken(&loaded.config);
            if !taken.is_empty() {
                return (format!("{warnings}{}{path} cannot be run\n", taken.concat()), false);
            }
            let unreached = unreached(&loaded.config).await;
            (format!("{warnings}{unreached}{path} is fine\n{}", summary(&loaded)), true)
        }
        Err(refused) => {
            let taken = refused.config.as_deref().map(taken).unwrap_or_default();
            let errors = refused.faults.iter().filter(|fault| fault.weight == Weight::Error).count() + taken.len();
            let faults: String = refused.faults.iter().map(|fault| fault.line() + "\n").chain(taken).collect();
            let plural = if errors == 1 { "" } else { "s" };
            (format!("{faults}{path} cannot be run: {errors} error{plural}\n"), false)
        }
    }
}

/// A line for each listener that cannot have its address. A running node has its own ports; that they are in use says
/// nothing then.
fn taken(config: &Config) -> Vec<String> {
    if StateDir::is_in_use(&config.state_dir) {
        return Vec::new();
    }
    match Sockets::take(config) {
        Ok(_free) => Vec::new(),
        Err(error) => error.to_string().lines().map(|line| format!("error: {line}\n")).collect(),
    }
}

/// Warnings when the object store of recordings, or a place for the output of sessions, does not do what it has to. It
/// may be there once it is needed, so it is no error.
async fn unreached(config: &Config) -> String {
    let mut said = Vec::new();
    if let Some(store) = &config.recordings.store {
        let outcome = match Far::new(store) {
            Ok(far) => reach(far.place(), far.probe()).await,
            Err(fault) => Err(fault.to_string()),
        };
        said.push(("recordings.store".to_owned(), outcome));
    }
    match outlets(config) {
        Ok(outlets) => {
            for ((kind, name), outlet) in outlets {
                let table = match kind {
                    LogKind::Object => "log_buckets",
                    LogKind::Stream => "log_groups",
                };
                said.push((format!("aws.{table} {name:?}"), reach(&outlet.destination(), outlet.probe()).await));
            }
        }
        Err(error) => said.push(("aws".to_owned(), Err(format!("{error:#}")))),
    }
    let warning = |(key, outcome): (String, Result<(), String>)| Some(format!("warning: {key}: {}\n", outcome.err()?));
    said.into_iter().filter_map(warning).collect()
}

async fn reach<E: Display>(place: &str, probe: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(REACH_MAX, probe).await {
        Ok(said) => said.map_err(|error| error.to_string()),
        Err(_elapsed) => Err(format!("{place} does not answer within {} s", REACH_MAX.as_secs())),
    }
}

fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let listens: Vec<String> = [("ssh", &config.ssh), ("https", &config.https), ("http", &config.http)]
        .into_iter()
        .filter_map(|(what, bind)| bind.as_ref().map(|Bind { address, .. }| format!("{what} {address}")))
        .collect();
    let certificate = match &config.tls {
        Tls::Files { .. } => "from the files that are named",
        Tls::OwnAuthority { .. } => "from an authority of its own, which clients have to trust",
    };
    let limit = |limit: Option<_>| limit.map_or("none".to_owned(), units::in_words);
    let rows = [
        ("listens on", listens.join(", ")),
        ("certificate", certificate.to_owned()),
        ("state", config.state_dir.display().to_string()),
        ("idle limit", limit(config.limits.idle)),
        ("time limit", limit(config.limits.duration)),
        ("keeps history", units::in_words(config.history_keep)),
        ("recordings", recordings(config)),
        ("principals", loaded.rules.inventory.principals().count().to_string()),
        ("targets", loaded.rules.inventory.targets().len().to_string()),
        ("policies", loaded.policies.join(", ")),
    ];
    rows.into_iter().map(|(name, value)| format!("  {name:<14} {value}\n")).collect()
}

/// How much is recorded unless a target says otherwise, and where it goes.
fn recordings(config: &Config) -> String {
    let recordings = &config.recordings;
    let folder = recordings.folder.clone().unwrap_or_else(|| config.state_dir.join("recordings"));
    let mode = recordings.rule.mode.word();
    match recordings.store.as_ref().map(Far::new) {
        Some(Ok(far)) => format!("{mode}, in {}, then in {}", folder.display(), far.place()),
        Some(Err(_)) | None => format!("{mode}, in {}", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_named_with_its_line_beside_what_else_is_wrong() {
        let there = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = there.local_addr().expect("an address");
        let folder = tempfile::tempdir().expect("a scratch folder");
        let config = folder.path().join("ravelin.toml");
        let state = folder.path().join("state");
        let fine = format!("[node]\nstate_dir = {state:?}\n\n[listen]\nssh = \"{address}\"\n");
        let busy = format!("ravelin.toml:5: listen.ssh: cannot listen on {address}: the port is in use");
        for (text, last) in
            [(fine.clone(), "cannot be run\n"), (fine + "colour = \"red\"\n", "cannot be run: 2 errors\n")]
        {
            std::fs::write(&config, &text).expect("written");
            let (said, is_fine) = report(&CheckArgs { config: config.clone() }).await;
            assert!(!is_fine && said.contains(&busy) && said.ends_with(last), "{said}");
            assert_eq!(text.contains("colour"), said.contains("listen.colour"), "{said}");
        }
    }
}
