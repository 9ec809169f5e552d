//! The client half of the command line: a client of the own API, and of the clouds' own.
//!
//! ```text
//! sessions  kill  watch  play  recordings  credentials  targets  audit  report  sinks  whoami  completions   the verbs of our own API
//! bastion                                                             the verbs of Azure Bastion, ours or the real one
//! client    requests and what is said when they fail
//! filter    flags -> filter       resolve   short ids     span         durations and times as people write them
//! chain     lines of the record -> a verifier
//! screen    how an answer is shown          table  columns that fit    plain   what untrusted text may look like
//! failure   what is said, and the exit status             ask          questions to the person
//! ssm       Session Manager as `aws ssm`; a world of its own, which knows none of the above but plain and screen
//! ```
//!
//! This module never knows: the store, the engine, a configuration file of the server. Exit statuses stand in
//! `docs/operations/exit-codes.md`.

mod ask;
mod audit;
mod bastion;
mod chain;
mod client;
mod completions;
mod credentials;
mod failure;
mod filter;
mod kill;
mod plain;
mod play;
mod recordings;
mod report;
mod resolve;
pub(crate) mod screen;
mod sessions;
mod sinks;
mod span;
mod ssm;
pub(crate) mod table;
mod targets;
mod watch;
mod whoami;

use client::Client;
use failure::Failure;
use screen::{Format, Screen};
use std::ffi::OsString;
use std::process::ExitCode;

pub(crate) use ssm::install::NAME as PLUGIN;

/// The verbs of a client.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Command {
    /// See sessions, and end them
    #[command(visible_alias = "session")]
    Sessions(Asked<SessionsCommand>),
    /// Issue, list and revoke credentials
    #[command(visible_alias = "credential")]
    Credentials(Asked<credentials::CredentialsCommand>),
    /// See where sessions can lead
    #[command(visible_alias = "target")]
    Targets(Asked<targets::TargetsCommand>),
    /// Check, copy and follow the audit record
    Audit(Asked<audit::AuditCommand>),
    /// Report on a month: sessions, kills, recordings, hosts, refusals, and whether the record is whole
    #[command(after_help = report::HELP)]
    Report(Box<report::ReportArgs>),
    /// See how far the audit record was shipped
    #[command(visible_alias = "sink")]
    Sinks(Asked<sinks::SinksCommand>),
    /// See and end the sessions of an Azure Bastion, or of a Ravelin that speaks like one, and reach machines through it
    #[command(after_help = bastion::HELP)]
    Bastion(bastion::BastionArgs),
    /// Say as whom the bastion knows you
    Whoami(Globals),
    /// Call AWS Session Manager, or any Ravelin, as `aws ssm` does
    #[command(disable_help_flag = true)]
    Ssm(ssm::SsmArgs),
    /// Write a completion script for a shell
    #[command(after_help = completions::HELP)]
    Completions(completions::CompletionsArgs),
}

/// A verb's own command, with what holds for every verb of a client.
#[derive(Clone, Debug, clap::Args)]
pub struct Asked<C: clap::Subcommand> {
    #[command(subcommand)]
    command: C,
    #[command(flatten)]
    globals: Globals,
}

/// What can be done with sessions.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SessionsCommand {
    /// List who is connected right now
    #[command(visible_alias = "list")]
    Ls(Box<sessions::LsArgs>),
    /// Show one session, live or past
    #[command(visible_alias = "get")]
    Show(sessions::ShowArgs),
    /// End sessions, and say when each ended
    #[command(visible_alias = "terminate", after_help = kill::HELP)]
    Kill(Box<kill::KillArgs>),
    /// Follow what happens; with an ID, see a live session's screen
    Watch(Box<watch::WatchArgs>),
    /// List who was connected, or what was done, by --text
    History(Box<sessions::HistoryArgs>),
    /// Play a recording on this terminal
    Play(play::PlayArgs),
    /// Take a recording away: as asciicast, text, or a page that plays it
    Export(recordings::ExportArgs),
    /// List what was done in a session: commands, files, connections
    Acts(recordings::OneArgs),
    /// Keep a recording from being removed, whatever its time
    Hold(recordings::HoldArgs),
    /// Let a recording be removed once its time is over
    Release(recordings::OneArgs),
}

/// What holds for every verb of a client.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Client options")]
pub struct Globals {
    /// The bastion's address, such as https://bastion:8443
    #[arg(long, global = true, env = "RAVELIN_URL", value_name = "URL")]
    pub url: Option<String>,
    /// An API token; better given by the environment than on the command line, which others can see
    #[arg(long, global = true, env = "RAVELIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Token>,
    /// Certificates to trust, in place of the system's
    #[arg(long, global = true, env = "SSL_CERT_FILE", value_name = "FILE")]
    pub ca: Option<OsString>,
    /// How answers are shown
    #[command(flatten)]
    pub shown: Shown,
}

/// How answers are shown, for every verb that shows one.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Output options")]
pub struct Shown {
    /// How to show answers; a table unless given, JSON with --query
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// Pick from the answer by a JMESPath expression, such as "[].id"
    #[arg(long, global = true, value_name = "JMESPATH")]
    pub query: Option<String>,
    /// Show times in UTC instead of as local and relative ones
    #[arg(long, global = true)]
    pub utc: bool,
    /// Show no colours; the variable NO_COLOR does the same
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// A token that does not show itself.
#[derive(Clone)]
pub struct Token(secrecy::SecretString);

impl std::str::FromStr for Token {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Token(secrecy::SecretString::from(text.trim())))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Whether this program was started in the place of AWS's session-manager-plugin.
#[must_use]
pub fn is_plugin(program: &std::ffi::OsStr) -> bool {
    ssm::install::is_called_as_plugin(program)
}

/// Does what the aws CLI wants of its plugin.
#[must_use]
pub fn run_as_plugin(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = args.map(|arg| arg.to_string_lossy().into_owned()).collect();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(ssm::session::as_plugin(args)),
        Err(error) => Failure::other(format!("cannot start: {error}")).tell(),
    }
}

/// Does what the command says and tells the outcome by the exit status.
#[must_use]
pub fn run(command: Command) -> ExitCode {
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(carry_out(command));
            // Whoever read from standard input may still wait for it, and nobody cares any more.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(Failure::other(format!("cannot start: {error}"))),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.tell(),
    }
}

async fn carry_out(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Sessions(Asked { command, globals }) => {
            let (screen, client) = (Screen::new(&globals.shown)?, Client::new(&globals)?);
            match command {
                SessionsCommand::Ls(args) => sessions::ls(&client, &screen, *args).await,
                SessionsCommand::Show(args) => sessions::show(&client, &screen, args).await,
                SessionsCommand::Kill(args) => kill::kill(&client, &screen, *args).await,
                SessionsCommand::Watch(args) => watch::watch(&client, &screen, *args).await,
                SessionsCommand::History(args) => sessions::history(&client, &screen, *args).await,
                SessionsCommand::Play(args) => play::play(&client, args).await,
                SessionsCommand::Export(args) => recordings::export(&client, args).await,
                SessionsCommand::Acts(args) => recordings::acts(&client, &screen, args).await,
                SessionsCommand::Hold(args) => recordings::hold(&client, &screen, args).await,
                SessionsCommand::Release(args) => recordings::release(&client, &screen, args).await,
            }
        }
        Command::Credentials(Asked { command, globals }) => {
            credentials::carry_out(&globals, &Screen::new(&globals.shown)?, command).await
        }
        Command::Targets(Asked { command, globals }) => {
            targets::carry_out(&Client::new(&globals)?, &Screen::new(&globals.shown)?, command).await
        }
        Command::Audit(Asked { command, globals }) => {
            audit::carry_out(&globals, &Screen::new(&globals.shown)?, command).await
        }
        Command::Report(args) => report::report(*args).await,
        Command::Sinks(Asked { command, globals }) => {
            sinks::carry_out(&Client::new(&globals)?, &Screen::new(&globals.shown)?, command).await
        }
        Command::Bastion(args) => bastion::carry_out(args).await,
        Command::Whoami(globals) => whoami::whoami(&Client::new(&globals)?, &Screen::new(&globals.shown)?).await,
        Command::Ssm(args) => Ok(ssm::run(args).await),
        Command::Completions(args) => completions::write(args),
    }
}
