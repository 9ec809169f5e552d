//! The binary `ravelin`: the one place that knows every crate, reads files and environment, and opens sockets.
//!
//! The server half:
//!
//! - [`config`]: what an operator writes, and everything that is wrong with it.
//! - [`state`]: what a node keeps over restarts.
//! - [`serve`]: a running node; `ravelin serve`.
//! - [`dev`]: the whole bastion on loopback with nothing to set up; `ravelin dev`.
//! - [`check`]: `ravelin check`. [`bootstrap`]: the first credential of a deployment.
//! - [`log`]: lines on standard error. `tls`: certificates.
//!
//! The client half is [`cli`].
//!
//! No other crate may depend on this one. It is a library only so that tests can reach its parts.

pub mod bootstrap;
pub mod check;
pub mod cli;
pub mod config;
pub mod dev;
pub mod log;
pub mod serve;
pub mod state;
mod tls;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A self-hosted bastion: people reach machines through it, operators see and end sessions, auditors know who was where
#[derive(Debug, Parser)]
#[command(name = "ravelin", version, about, max_term_width = 100, after_help = EXAMPLES)]
struct Ravelin {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  ravelin dev                          try it: everything on loopback, with a demo target
  ravelin check -c ravelin.toml        say what is wrong with a configuration
  ravelin serve -c ravelin.toml        the real thing
  ravelin sessions ls                  who is connected to what right now
  ravelin sessions kill ID             end a session, and know that it ended";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the whole bastion on loopback, with a demo target: no set-up
    Dev(dev::DevArgs),
    /// Run the bastion
    Serve(serve::ServeArgs),
    /// Say what is wrong with a configuration before it runs
    Check(check::CheckArgs),
    #[command(flatten)]
    Client(cli::Command),
}

/// Runs what the command line says, or a session when it is called by the name of AWS's plugin; exit status 2 when it says nothing that can be run.
#[must_use]
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    if args.next().is_some_and(|program| cli::is_plugin(&program)) {
        return cli::run_as_plugin(args);
    }
    let Ravelin { command } = Ravelin::parse();
    match command {
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Client(command) => cli::run(command),
    }
}

/// Runs a server's future on all cores.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(future);
    // Whatever still runs then has been told to stop and given its time.
    runtime.shutdown_background();
    outcome
}

/// The exit status of an outcome, after its error was told.
fn finish(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
