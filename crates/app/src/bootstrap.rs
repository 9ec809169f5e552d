//! The first credential of a deployment: issued from the machine's own files, because nobody can prove anything yet.
//!
//! Whoever can read the state directory is the deployment; this asks no policy. It is on record like any other issue,
//! with Ravelin itself as the actor.

use crate::cli::screen::{Format, Screen};
use crate::cli::table::{Cell, Column, View};
use crate::config;
use crate::serve::node::in_full;
use crate::state::StateDir;
use anyhow::Context;
use ravelin_engine::control::{self, Issued};
use ravelin_model::PrincipalName;
use ravelin_model::credential::CredentialKind;
use ravelin_model::session::Actor;
use ravelin_store::{SqliteConfig, SqliteStore};
use secrecy::ExposeSecret;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the first credential is to be.
#[derive(clap::Args, Clone, Debug)]
#[command(after_help = "Example:
  ravelin credentials bootstrap -c ravelin.toml --principal alice --kind token

Run it as the user that runs the bastion, on its machine; the bastion may be running.
Every further credential: ravelin credentials issue.")]
pub struct BootstrapArgs {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "ravelin.toml")]
    pub config: PathBuf,
    /// Whom it proves; one of the inventory
    #[arg(long, value_name = "NAME")]
    pub principal: String,
    /// What it is good for
    #[arg(long, value_enum, default_value_t = Kind::Token)]
    pub kind: Kind,
}

/// What a credential is good for, in the words of those who use it.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bearer token of Ravelin's own API and command line
    Token,
    /// An access key for AWS clients
    Aws,
    /// A client id and secret for Azure clients
    Azure,
}

impl Kind {
    /// As the API spells it.
    fn word(self) -> &'static str {
        match self {
            Kind::Token => "token",
            Kind::Aws => "aws",
            Kind::Azure => "azure",
        }
    }

    fn credential(self) -> CredentialKind {
        match self {
            Kind::Token => CredentialKind::Token,
            Kind::Aws => CredentialKind::SigningKey,
            Kind::Azure => CredentialKind::ClientSecret,
        }
    }
}

/// Issues the credential and prints it, once.
pub(crate) async fn carry_out(args: &BootstrapArgs, screen: &Screen) -> ExitCode {
    let loaded = match config::load(&args.config) {
        Ok(loaded) => loaded,
        Err(refused) => {
            for fault in refused.faults {
                eprintln!("{}", fault.line());
            }
            return ExitCode::FAILURE;
        }
    };
    let outcome = async {
        let name = PrincipalName::parse(&args.principal).context("--principal")?;
        let inventory = &loaded.rules.inventory;
        let known: Vec<&str> = inventory.principals().map(|principal| principal.name.as_str()).collect();
        anyhow::ensure!(
            inventory.principal(&name).is_some(),
            "--principal {name}: the inventory has no such principal; it has {}",
            known.join(", ")
        );
        let state = StateDir::open_or_join(&loaded.config.state_dir)?;
        let master = state.master_key()?;
        let store = SqliteStore::open(SqliteConfig::new(state.store_path()))?;
        let kind = args.kind.credential();
        let issued = control::issue(&store, &master, &name, kind, "bootstrap", None, &Actor::System).await;
        let issued = issued.map_err(in_full)?;
        if screen.format == Format::Table {
            let text = lines(args.kind, &issued);
            return std::io::stdout().write_all(text.as_bytes()).context("cannot print the credential");
        }
        let (id, secret) = (issued.credential.id.to_string(), issued.secret.expose_secret());
        let said =
            serde_json::json!({ "id": id, "secret": secret, "principal": name.as_str(), "kind": args.kind.word() });
        let view = || View {
            columns: vec![Column::whole("ID"), Column::whole("SECRET")],
            rows: vec![vec![Cell::new(&id), Cell::new(secret)]],
            empty: "",
        };
        screen.show(&said, view).map_err(|failure| anyhow::anyhow!("cannot print the credential: {}", failure.message))
    };
    crate::finish(outcome.await)
}

/// The credential as lines that a shell takes.
fn lines(kind: Kind, issued: &Issued) -> String {
    let (id, secret) = (&issued.credential.id, issued.secret.expose_secret());
    match kind {
        Kind::Token => format!("RAVELIN_TOKEN={secret}\n"),
        Kind::Aws => format!("AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}\n"),
        Kind::Azure => format!("AZURE_CLIENT_ID={id}\nAZURE_CLIENT_SECRET={secret}\n"),
    }
}
