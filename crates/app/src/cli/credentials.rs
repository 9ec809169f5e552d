//! `ravelin credentials issue|ls|revoke`.

use super::client::Client;
use super::failure::{Exit, Failure};
use super::resolve::near;
use super::screen::{self, Format, Screen};
use super::table::{Cell, Column, Tone, View};
use super::{Globals, plain, span};
use ravelin_native::wire::{self, CredentialKind};
use std::process::ExitCode;
use std::time::Duration;

/// What can be done with credentials.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum CredentialsCommand {
    /// Issue a credential; its secret is shown this once
    #[command(visible_alias = "new")]
    Issue(IssueArgs),
    /// List what was issued, without secrets
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Revoke credentials: they are refused from now on, and sessions that began with them end
    #[command(visible_alias = "rm")]
    Revoke(RevokeArgs),
    /// Issue a deployment's first credential, on its own machine, without having one
    Bootstrap(crate::bootstrap::BootstrapArgs),
}

/// What a credential is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// A bearer token of the own API, also for this command line
    Token,
    /// An AWS access key
    Aws,
    /// An AWS access key with a session token, for 12 hours unless --expires says otherwise
    AwsTemporary,
    /// An Azure client id and secret
    Azure,
}

/// What to issue.
#[derive(Clone, Debug, clap::Args)]
pub struct IssueArgs {
    /// What it is good for
    #[arg(short, long, value_enum, default_value = "token")]
    kind: Kind,
    /// Whom it proves [default: you]
    #[arg(short, long, visible_alias = "principal", value_name = "NAME")]
    user: Option<String>,
    /// A note on it
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// When it stops working: 90d, 12h, or a time in RFC 3339 [default: never, or 12h for aws-temporary]
    #[arg(long, visible_alias = "ttl", value_name = "WHEN")]
    expires: Option<String>,
    /// Print a temporary AWS access key as programs after `credential_process` in ~/.aws/config do
    #[arg(long, conflicts_with = "kind")]
    credential_process: bool,
}

/// What to list.
#[derive(Clone, Debug, clap::Args)]
pub struct LsArgs {
    /// Only those of this person or service
    #[arg(short, long, visible_alias = "principal", value_name = "NAME")]
    user: Option<String>,
    /// Also those that were revoked or have expired
    #[arg(short, long)]
    all: bool,
}

/// What to revoke.
#[derive(Clone, Debug, clap::Args)]
pub struct RevokeArgs {
    /// Ids, or as much of each as names one credential only
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
}

pub(crate) async fn carry_out(
    globals: &Globals,
    screen: &Screen,
    command: CredentialsCommand,
) -> Result<ExitCode, Failure> {
    match command {
        // The one that asks no bastion, but its files.
        CredentialsCommand::Bootstrap(args) => Ok(crate::bootstrap::carry_out(&args, screen).await),
        CredentialsCommand::Issue(args) => issue(&Client::new(globals)?, screen, args).await,
        CredentialsCommand::Ls(args) => ls(&Client::new(globals)?, screen, args).await,
        CredentialsCommand::Revoke(args) => revoke(&Client::new(globals)?, screen, args).await,
    }
}

async fn issue(client: &Client, screen: &Screen, args: IssueArgs) -> Result<ExitCode, Failure> {
    let wanted = if args.credential_process { Kind::AwsTemporary } else { args.kind };
    let kind = match wanted {
        Kind::Token => CredentialKind::Token,
        Kind::Aws => CredentialKind::Aws,
        Kind::AwsTemporary => CredentialKind::AwsTemporary,
        Kind::Azure => CredentialKind::Azure,
    };
    let wish = wire::IssueCredential { kind, principal: args.user, note: args.note, expires: args.expires };
    let issued: wire::IssuedCredential = client.post(&["credentials"], &wish, Duration::ZERO).await?;
    if args.credential_process {
        screen::print(&for_process(&issued))?;
    } else if screen.format == Format::Table {
        screen::print(&paste(&issued))?;
        let until = issued.credential.expires.as_deref().map_or_else(
            || "it does not expire".to_owned(),
            |expires| format!("it expires {}", screen.time(expires).shown),
        );
        screen::note(&format!("for {}; {until}; the secret is not shown again", issued.credential.principal));
    } else {
        screen.show(&issued, || View {
            columns: ["ID", "SECRET"]
                .into_iter()
                .chain(issued.session_token.as_ref().map(|_| "SESSION TOKEN"))
                .map(Column::whole)
                .collect(),
            rows: vec![
                [&issued.credential.id, &issued.secret]
                    .into_iter()
                    .chain(&issued.session_token)
                    .map(Cell::new)
                    .collect(),
            ],
            empty: "",
        })?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Lines to paste into a shell. Ids and secrets hold letters, digits and `-_+/` only; anything else stays out of a line
/// that is meant to be run.
fn paste(issued: &wire::IssuedCredential) -> String {
    let quoted = |text: &str| format!("'{}'", plain::line(text).replace('\'', ""));
    let (id, secret) = (quoted(&issued.credential.id), quoted(&issued.secret));
    match issued.credential.kind {
        CredentialKind::Token => format!("export RAVELIN_TOKEN={secret}\n"),
        CredentialKind::Aws | CredentialKind::AwsTemporary => {
            let token = issued.session_token.as_deref().map(quoted);
            let token = token.map(|token| format!("export AWS_SESSION_TOKEN={token}\n")).unwrap_or_default();
            format!("export AWS_ACCESS_KEY_ID={id}\nexport AWS_SECRET_ACCESS_KEY={secret}\n{token}")
        }
        CredentialKind::Azure => format!("export AZURE_CLIENT_ID={id}\nexport AZURE_CLIENT_SECRET={secret}\n"),
    }
}

/// What the SDKs read of a program that `credential_process` names.
///
/// Source: "Source credentials with an external process", AWS SDKs and Tools Reference Guide, read 2026-11.
fn for_process(issued: &wire::IssuedCredential) -> String {
    let wire::IssuedCredential { credential, secret, session_token } = issued;
    let said = serde_json::json!({
        "Version": 1,
        "AccessKeyId": credential.id,
        "SecretAccessKey": secret,
        "SessionToken": session_token,
        "Expiration": credential.expires,
    });
    format!("{said}\n")
}

async fn ls(client: &Client, screen: &Screen, args: LsArgs) -> Result<ExitCode, Failure> {
    let mut all = list(client).await?;
    all.retain(|credential| {
        args.user.as_deref().is_none_or(|user| credential.principal == user)
            && (args.all || standing(credential, screen) == "valid")
    });
    screen.show(&all, || view(&all, screen))?;
    Ok(ExitCode::SUCCESS)
}

async fn revoke(client: &Client, screen: &Screen, args: RevokeArgs) -> Result<ExitCode, Failure> {
    let all = list(client).await?;
    let ids: Vec<&str> = all.iter().map(|credential| credential.id.as_str()).collect();
    let mut wanted = Vec::new();
    for text in &args.ids {
        wanted.push(named(text, &ids)?);
    }
    let mut revoked: Vec<wire::Credential> = Vec::new();
    for id in wanted {
        revoked.push(client.delete(&["credentials", id]).await?);
    }
    screen.show(&revoked, || view(&revoked, screen))?;
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client) -> Result<Vec<wire::Credential>, Failure> {
    let list: wire::Credentials = client.get(&["credentials"], &[]).await?;
    Ok(list.items)
}

/// The one id that `text` is, or starts.
fn named<'a>(text: &str, ids: &[&'a str]) -> Result<&'a str, Failure> {
    if let Some(id) = ids.iter().find(|id| **id == text) {
        return Ok(id);
    }
    let fitting: Vec<&str> = ids.iter().copied().filter(|id| !text.is_empty() && id.starts_with(text)).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => {
            let failure = Failure::other(format!("credential {text:?} was not found"));
            let near = near(text, ids.iter().copied());
            Err(near.into_iter().fold(failure, |failure, id| failure.hint(format!("did you mean {id}?"))))
        }
        more => {
            let mut failure =
                Failure::new(Exit::Usage, format!("{text:?} fits more than one credential; give more of the id"));
            failure.hints = more.iter().map(ToString::to_string).collect();
            Err(failure)
        }
    }
}

fn standing(credential: &wire::Credential, screen: &Screen) -> &'static str {
    if credential.revoked.is_some() {
        return "revoked";
    }
    match credential.expires.as_deref().and_then(span::wire) {
        Some(expires) if expires <= screen.now => "expired",
        Some(_) | None => "valid",
    }
}

fn view(credentials: &[wire::Credential], screen: &Screen) -> View {
    View {
        columns: vec![
            Column::whole("ID"),
            Column::whole("KIND"),
            Column::whole("USER").cut_to(8),
            Column::whole("STANDING"),
            Column::whole("CREATED").dispensable(2),
            Column::whole("EXPIRES").dispensable(1),
            Column::whole("NOTE").cut_to(10).dispensable(3),
        ],
        rows: credentials
            .iter()
            .map(|credential| {
                let kind = match credential.kind {
                    CredentialKind::Token => "token",
                    CredentialKind::Aws => "aws",
                    CredentialKind::AwsTemporary => "aws-temporary",
                    CredentialKind::Azure => "azure",
                };
                let standing = standing(credential, screen);
                let tone = if standing == "valid" { Tone::Good } else { Tone::Faint };
                vec![
                    Cell::new(&credential.id),
                    Cell::new(kind),
                    Cell::new(&credential.principal),
                    Cell::new(standing).tone(tone),
                    screen.time(&credential.created),
                    credential
                        .expires
                        .as_deref()
                        .map_or_else(|| Cell::shown_as("", "never"), |expires| screen.time(expires)),
                    Cell::new(&credential.note),
                ]
            })
            .collect(),
        empty: "no credential",
    }
}

#[cfg(test)]
mod tests {
    use super::super::screen::tests::screen;
    use super::*;

    fn aws() -> wire::Credential {
        let golden = include_str!("../../../native/tests/golden/credential/aws.json");
        serde_json::from_str(golden).expect("the API's own example")
    }

    #[test]
    fn a_credential_is_valid_until_it_expires_or_is_revoked() {
        let mut screen = screen(Format::Table, None);
        assert_eq!(standing(&aws(), &screen), "valid");
        screen.now = "2026-11-22T22:28:55Z".parse().expect("a time");
        assert_eq!(standing(&aws(), &screen), "expired");
        let revoked = wire::Credential { revoked: Some("2026-11-21T22:28:54Z".to_owned()), ..aws() };
        assert_eq!(standing(&revoked, &screen), "revoked");
        assert!(view(&[aws()], &screen).text().starts_with("RVLKABCDEFGHIJKLMNOP\taws\talice\texpired\t"));
    }

    #[test]
    fn ids_may_be_shortened() {
        let ids = ["RVLKAAAA", "RVLKAABB", "0123", "01234567"];
        assert_eq!(named("RVLKAAA", &ids), Ok("RVLKAAAA"));
        assert_eq!(named("0123", &ids), Ok("0123"), "a whole id is never unclear");
        assert_eq!(named("RVLKAA", &ids).map_err(|f| f.hints.len()), Err(2));
        assert_eq!(
            named("RVLKAAAC", &ids).map_err(|f| f.hints.first().cloned()),
            Err(Some("did you mean RVLKAAAA?".into()))
        );
        assert!(named("", &ids).is_err());
    }

    #[test]
    fn a_secret_can_be_pasted() {
        let mut issued = wire::IssuedCredential { credential: aws(), secret: "s'$(x)".to_owned(), session_token: None };
        let plain = "export AWS_ACCESS_KEY_ID='RVLKABCDEFGHIJKLMNOP'\nexport AWS_SECRET_ACCESS_KEY='s$(x)'\n";
        assert_eq!(paste(&issued), plain);
        issued.credential.kind = CredentialKind::AwsTemporary;
        issued.session_token = Some("RVLSt".to_owned());
        assert_eq!(paste(&issued), format!("{plain}export AWS_SESSION_TOKEN='RVLSt'\n"));
        let process: serde_json::Value = serde_json::from_str(&for_process(&issued)).expect("JSON");
        assert_eq!((&process["Version"], &process["SessionToken"]), (&1.into(), &"RVLSt".into()));
    }
}
