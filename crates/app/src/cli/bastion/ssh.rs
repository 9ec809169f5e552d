//! `ravelin bastion ssh`: the person's own OpenSSH, with a tunnel as its ProxyCommand.

use super::place::Place;
use super::tunnel::{DestinationArgs, last_part};
use crate::cli::failure::Failure;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// How the person proves who they are to the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthType {
    /// A password, asked for by ssh
    Password,
    /// A private key
    SshKey,
}

/// Whom to be on which machine.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SshArgs {
    #[command(flatten)]
    to: DestinationArgs,
    /// TCP port of the machine's SSH server
    #[arg(long, value_name = "PORT", default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    resource_port: u16,
    /// Login on the machine
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A private key's file
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// How to log in [default: whatever ssh finds]
    #[arg(long, value_enum, value_name = "TYPE")]
    auth_type: Option<AuthType>,
    /// Everything else goes to ssh as it is
    #[arg(last = true, value_name = "SSH ARGUMENTS")]
    rest: Vec<OsString>,
}

pub(super) async fn ssh(place: &Place, args: SshArgs) -> Result<ExitCode, Failure> {
    let host = place.host(&args.to.host)?;
    let to = args.to.settle(place, args.resource_port)?;
    if args.auth_type == Some(AuthType::SshKey) && args.ssh_key.is_none() {
        return Err(Failure::usage("--auth-type ssh-key needs --ssh-key"));
    }
    // What would fail inside of ssh's ProxyCommand is said better here.
    let _reachable = place.tunnels(&host).await?;
    let ours =
        std::env::current_exe().map_err(|error| Failure::other(format!("cannot find ravelin itself: {error}")))?;
    let mut proxy = vec![quoted(&ours.display().to_string()), "bastion".to_owned(), "tunnel".to_owned()];
    let mut option = |name: &str, value: &str| proxy.extend([name.to_owned(), quoted(value)]);
    option("--endpoint", &place.args.endpoint);
    option("--api-version", &place.args.api_version);
    option("--subscription", &host.subscription);
    option("--resource-group", &host.resource_group);
    option("--name", &host.name);
    option("--resource-port", &to.port.to_string());
    if let Some(value) = clap::ValueEnum::to_possible_value(&place.args.auth) {
        option("--auth", value.get_name());
    }
    if let Some(ca) = place.args.ca.as_ref().and_then(|ca| ca.to_str()).filter(|ca| !ca.is_empty()) {
        option("--ca", ca);
    }
    match &to.address {
        Some(address) => option("--target-ip-address", address),
        None => option("--target-resource-id", &to.resource_id),
    }
    proxy.push("--stdio".to_owned());
    let mut command = Command::new("ssh");
    command.arg("-o").arg(format!("ProxyCommand={}", proxy.join(" ")));
    // Each machine has its own entry among the known hosts, whichever bastion leads to it.
    let name = last_part(&to.resource_id);
    command.arg("-o").arg(format!("HostKeyAlias={name}"));
    if let Some(key) = &args.ssh_key {
        command.arg("-i").arg(key).args(["-o", "IdentitiesOnly=yes"]);
    }
    if args.auth_type == Some(AuthType::Password) {
        command.args(["-o", "PreferredAuthentications=keyboard-interactive,password", "-o", "PubkeyAuthentication=no"]);
    }
    if let Some(login) = &args.username {
        command.arg("-l").arg(login);
    }
    command.arg(name).args(&args.rest);
    let error = command.exec();
    Err(Failure::other(format!("cannot run ssh: {error}")).hint("install OpenSSH's client; it must be on PATH"))
}

/// For the shell that ssh runs the command with. A percent sign would be one of ssh's own tokens.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''").replace('%', "%%"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_name_reaches_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a'; rm -rf $HOME; '%h"), "'a'\\''; rm -rf $HOME; '\\''%%h'");
    }
}
