//! `ravelin sinks ls`: how far the audit record was shipped, and what is in the way.

use super::client::Client;
use super::failure::Failure;
use super::screen::Screen;
use super::table::{Cell, Column, View};
use ravelin_native::wire;
use std::process::ExitCode;

/// What can be asked about sinks.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum SinksCommand {
    /// List the sinks, how far each is behind, and why
    #[command(visible_alias = "list")]
    Ls,
}

pub(crate) async fn carry_out(client: &Client, screen: &Screen, command: SinksCommand) -> Result<ExitCode, Failure> {
    match command {
        SinksCommand::Ls => {
            let sinks: wire::Sinks = client.get(&["sinks"], &[]).await?;
            screen.show(&sinks.items, || view(&sinks.items, screen))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn view(sinks: &[wire::Sink], screen: &Screen) -> View {
    View {
        columns: vec![
            Column::whole("NAME"),
            Column::whole("TYPE").dispensable(2),
            Column::whole("DESTINATION").cut_to(16).dispensable(3),
            Column::whole("POSITION").dispensable(4),
            Column::whole("BEHIND"),
            Column::whole("OLDEST WAITING").dispensable(1),
            Column::whole("LAST ERROR").cut_to(20),
        ],
        rows: sinks
            .iter()
            .map(|sink| {
                vec![
                    Cell::new(&sink.name),
                    Cell::new(&sink.kind),
                    Cell::new(&sink.destination),
                    Cell::new(sink.position.map(|position| position.to_string()).unwrap_or_default()),
                    Cell::new(sink.behind.to_string()),
                    sink.oldest_waiting.as_deref().map_or_else(|| Cell::new(""), |at| screen.time(at)),
                    Cell::new(sink.last_error.as_deref().unwrap_or("")),
                ]
            })
            .collect(),
        empty: "no sink and no place for the output of sessions is configured; see docs/howto/ship-logs.md",
    }
}
