//! A running node: the engine with its doors. `ravelin serve` and `ravelin dev` both are one.
//!
//! The order of a start is the point of this module: sockets are taken first, so that a port in use is told at once;
//! then the engine starts and ends what an earlier life left behind; only then does any socket listen.
//!
//! - `node`: that order, and the order of a stop.
//! - `http`, `doors`, `front`: connections; whose request it is; what a browser sees.
//! - `descriptors`: how many files may be open.
//! - `keys`: the Azure edge's signing keys, and how keys of outside issuers are fetched.
//! - `metrics`: the figures, for Prometheus.
//! - `reload`: files that change while the node runs.
//! - `signals`: what the system tells the process, and what the process tells its service manager.

pub(crate) mod descriptors;
mod doors;
mod front;
mod http;
pub(crate) mod keys;
mod metrics;
pub(crate) mod node;
mod reload;
pub(crate) mod signals;

use crate::config::{self, Loaded};
use crate::log::{self, LogArgs};
use crate::state::StateDir;
use anyhow::Context;
use node::{Node, Sockets};
use reload::Reloader;
use signals::Signals;
use std::path::PathBuf;
use std::process::ExitCode;

/// What `ravelin serve` is told.
#[derive(clap::Args, Debug)]
pub struct ServeArgs {
    /// The configuration; ravelin.example.toml is one to start from
    #[arg(short, long, value_name = "FILE", default_value = "ravelin.toml")]
    pub config: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs `ravelin serve` until it is told to stop. Exit status 0 after a stop in good order, 1 when it cannot run.
pub fn run(args: &ServeArgs) -> ExitCode {
    log::start(&args.log);
    match config::load(&args.config) {
        Ok(loaded) => crate::finish(crate::block_on(serve(args, loaded))),
        Err(refused) => {
            for fault in refused.faults {
                eprintln!("{}", fault.line());
            }
            ExitCode::FAILURE
        }
    }
}

async fn serve(args: &ServeArgs, loaded: Loaded) -> anyhow::Result<()> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(warning) = descriptors::shortage(loaded.config.limits.sessions, descriptors::take_all()) {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen()?;
    let mut hangup = Signals::hangup()?;
    let mut reloader = Reloader::new(&args.config, &loaded);
    let config = &loaded.config;
    let state = StateDir::open(&config.state_dir)?;
    let sockets = Sockets::take(config)?;
    let mut node = Node::start(config, loaded.rules.clone(), &state).await?;
    node.engine.record_rules(reload::facts(&loaded)).await.map_err(node::in_full)?;
    let doors = node.open(sockets, config, &state).context("cannot open the doors")?;
    for (what, address) in doors.addresses() {
        tracing::info!(listener = what, %address, "listening");
    }
    if let Some(authority) = doors.authority() {
        tracing::warn!(
            ca = %authority.display(),
            "no TLS files are named: clients have to trust this self-signed authority"
        );
    }
    signals::tell_service_manager("READY=1");
    tracing::info!("ready");
    tokio::select! {
        () = signals.stop() => {}
        () = reloader.run(&node, &mut hangup) => {}
    }
    signals::tell_service_manager("STOPPING=1");
    node.stop(config.drain, &mut signals).await
}
