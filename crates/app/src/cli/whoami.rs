//! `ravelin whoami`.

use super::client::Client;
use super::failure::Failure;
use super::screen::Screen;
use super::sessions::facts_view;
use super::table::Cell;
use ravelin_native::wire;
use std::process::ExitCode;

pub(crate) async fn whoami(client: &Client, screen: &Screen) -> Result<ExitCode, Failure> {
    let me: wire::Whoami = client.get(&["whoami"], &[]).await?;
    screen.show(&me, || {
        facts_view(vec![
            ("user", Cell::new(&me.principal)),
            ("groups", Cell::new(me.groups.join(", "))),
            ("proved by", Cell::new(me.auth_method.as_ref())),
            ("credential", Cell::new(me.credential.as_deref().unwrap_or_default())),
            ("from", Cell::new(&me.client_address)),
        ])
    })?;
    Ok(ExitCode::SUCCESS)
}
