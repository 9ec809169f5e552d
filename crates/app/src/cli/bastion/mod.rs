//! `ravelin bastion`: an Azure Bastion, or a Ravelin that speaks like one, from the command line.
//!
//! ```text
//! answers     list, show, get-active-sessions, disconnect-active-sessions
//! tunnel      a local port, or standard input and output, joined to a machine's port      ssh   OpenSSH through a tunnel
//! place       which endpoint and which host                                 credential   where tokens come from
//! ```
//!
//! The calls themselves are the client half of `ravelin-azure`. This module never knows our own API.

mod answers;
mod credential;
mod place;
mod ssh;
mod tunnel;

use super::Shown;
use super::failure::Failure;
use super::screen::Screen;
use place::{HostArgs, Place};
use std::process::ExitCode;

pub(super) const HELP: &str =
    "Who you are comes from AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, from a workload or managed
identity, or from `az login`; see --auth.

Examples:
  ravelin bastion get-active-sessions -g rg1 -n bastion1
  ravelin bastion disconnect-active-sessions -g rg1 -n bastion1 --session-ids ID ID
  ravelin bastion ssh -g rg1 -n bastion1 --target-resource-id vm01 --username root
  ssh -o ProxyCommand='ravelin bastion tunnel --stdio --target-resource-id %h --resource-port %p' root@vm01";

/// What to do, and with which bastion.
#[derive(Clone, Debug, clap::Args)]
pub struct BastionArgs {
    #[command(subcommand)]
    command: BastionCommand,
    #[command(flatten)]
    place: place::PlaceArgs,
    #[command(flatten)]
    shown: Shown,
}

/// What can be done with a bastion.
#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum BastionCommand {
    /// List the bastion hosts of a subscription, or of one resource group
    List,
    /// Show a bastion host
    Show(HostArgs),
    /// List who is connected right now
    #[command(visible_alias = "sessions")]
    GetActiveSessions(answers::ActiveArgs),
    /// End sessions, and say what came of each
    #[command(visible_alias = "disconnect")]
    DisconnectActiveSessions(answers::DisconnectArgs),
    /// Join a local port, or standard input and output, to a port of a machine
    #[command(after_help = tunnel::HELP)]
    Tunnel(Box<tunnel::TunnelArgs>),
    /// Run ssh through a tunnel
    Ssh(Box<ssh::SshArgs>),
}

pub(super) async fn carry_out(args: BastionArgs) -> Result<ExitCode, Failure> {
    let BastionArgs { command, place, shown } = args;
    let screen = Screen::new(&shown)?;
    let place = Place::new(place)?;
    match command {
        BastionCommand::List => answers::list(&place, &screen).await,
        BastionCommand::Show(host) => answers::show(&place, &screen, host).await,
        BastionCommand::GetActiveSessions(args) => answers::active(&place, &screen, args).await,
        BastionCommand::DisconnectActiveSessions(args) => answers::disconnect(&place, &screen, args).await,
        BastionCommand::Tunnel(args) => tunnel::tunnel(&place, *args).await,
        BastionCommand::Ssh(args) => ssh::ssh(&place, *args).await,
    }
}
