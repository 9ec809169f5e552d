//! `ravelin targets ls|show`.

use super::client::Client;
use super::failure::Failure;
use super::resolve::near;
use super::screen::Screen;
use super::sessions::facts_view;
use super::table::{Cell, Column, View};
use ravelin_native::wire;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// What can be asked about targets.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum TargetsCommand {
    /// List the targets that you may see
    #[command(visible_alias = "list")]
    Ls,
    /// Show one target
    #[command(visible_alias = "get")]
    Show(ShowArgs),
}

/// One target.
#[derive(Clone, Debug, clap::Args)]
pub struct ShowArgs {
    /// Its name, its id, or its name in a cloud's dialect
    #[arg(value_name = "TARGET")]
    name: String,
}

pub(crate) async fn carry_out(client: &Client, screen: &Screen, command: TargetsCommand) -> Result<ExitCode, Failure> {
    match command {
        TargetsCommand::Ls => {
            let targets = list(client).await?;
            screen.show(&targets, || view(&targets))?;
        }
        TargetsCommand::Show(args) => {
            let target = show(client, &args.name).await?;
            screen.show(&target, || facts_view(facts(&target)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client) -> Result<Vec<wire::Target>, Failure> {
    let list: wire::Targets = client.get(&["targets"], &[]).await?;
    Ok(list.items)
}

async fn show(client: &Client, name: &str) -> Result<wire::Target, Failure> {
    let shown: Result<wire::Target, Failure> = client.get(&["targets", name], &[]).await;
    match shown {
        Err(failure) if failure.missing => {
            let known = list(client).await?;
            let near = near(name, known.iter().map(|target| target.name.as_str()));
            Err(near.into_iter().fold(failure, |failure, name| failure.hint(format!("did you mean {name}?"))))
        }
        other => other,
    }
}

fn pairs(pairs: &BTreeMap<String, String>) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

fn view(targets: &[wire::Target]) -> View {
    View {
        columns: vec![
            Column::whole("NAME"),
            Column::whole("PROTOCOL").dispensable(2),
            Column::whole("ADDRESS").cut_to(15),
            Column::whole("LOGINS").cut_to(8).dispensable(1),
            Column::whole("LABELS").cut_to(10).dispensable(3),
            Column::whole("ID").dispensable(4),
        ],
        rows: targets
            .iter()
            .map(|target| {
                vec![
                    Cell::new(&target.name),
                    Cell::new(target.protocol.as_ref()),
                    Cell::new(format!("{}:{}", target.address, target.port)),
                    Cell::new(target.logins.join(",")),
                    Cell::new(pairs(&target.labels)),
                    Cell::new(&target.id),
                ]
            })
            .collect(),
        empty: "no target",
    }
}

fn facts(target: &wire::Target) -> Vec<(&'static str, Cell)> {
    vec![
        ("name", Cell::new(&target.name)),
        ("id", Cell::new(&target.id)),
        ("also known as", Cell::new(target.aliases.values().cloned().collect::<Vec<_>>().join(", "))),
        ("protocol", Cell::new(target.protocol.as_ref())),
        ("address", Cell::new(format!("{} port {}", target.address, target.port))),
        ("logins", Cell::new(target.logins.join(", "))),
        ("labels", Cell::new(pairs(&target.labels))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_listed_with_what_leads_to_them() {
        let golden = include_str!("../../../native/tests/golden/target/ssh.json");
        let target: wire::Target = serde_json::from_str(golden).expect("the API's own example");
        let text = view(&[target]).text();
        assert!(text.starts_with("web-1\tssh\t10.0.0.7:22\troot,deploy\t\ttgt-"), "{text}");
    }
}
