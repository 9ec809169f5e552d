//! Which endpoint, which subscription, which bastion host; and what is said when one of them is not there.

use super::credential::{self, Auth};
use crate::cli::client::{ca_file, http_client, is_loopback, not_trusted, why_not_reached};
use crate::cli::failure::{Exit, Failure};
use ravelin_azure::client::TokenSource;
use ravelin_azure::client::arm::{API_VERSION, Arm, ArmError, Host, PUBLIC_ENDPOINT};
use ravelin_azure::client::tunnel::{TunnelError, Tunnels, data_plane};
use reqwest::Url;
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Where the bastion is, for every verb.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Azure options")]
pub(crate) struct PlaceArgs {
    /// The endpoint of Azure Resource Manager, or the HTTPS address of a Ravelin
    #[arg(long, global = true, env = "RAVELIN_ARM_URL", value_name = "URL", default_value = PUBLIC_ENDPOINT)]
    pub(super) endpoint: String,
    /// The subscription's id
    #[arg(long, global = true, env = "AZURE_SUBSCRIPTION_ID", value_name = "ID")]
    pub(super) subscription: Option<String>,
    /// The resource group's name
    #[arg(short = 'g', long, global = true, env = "AZURE_RESOURCE_GROUP", value_name = "NAME")]
    pub(super) resource_group: Option<String>,
    /// Where tokens come from
    #[arg(long, global = true, value_enum, value_name = "SOURCE", default_value = "auto")]
    pub(super) auth: Auth,
    /// Version of the control API to ask for
    #[arg(long, global = true, value_name = "DATE", default_value = API_VERSION)]
    pub(super) api_version: String,
    /// Certificates to trust, in place of the system's
    #[arg(long, global = true, env = "SSL_CERT_FILE", value_name = "FILE")]
    pub(super) ca: Option<OsString>,
}

/// One host.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct HostArgs {
    /// The bastion host's name
    #[arg(short, long, env = "AZURE_BASTION_NAME", value_name = "NAME")]
    pub(super) name: Option<String>,
}

/// An endpoint with somebody's credential.
pub(super) struct Place {
    pub(super) arm: Arm,
    pub(super) args: PlaceArgs,
    tokens: Arc<dyn TokenSource>,
    endpoint: Url,
    ca: Option<PathBuf>,
}

impl Place {
    pub(super) fn new(args: PlaceArgs) -> Result<Self, Failure> {
        let endpoint = endpoint(&args.endpoint)?;
        let ca = ca_file(args.ca.as_ref());
        let http = http_client(&endpoint, ca.as_deref())?;
        let tokens = credential::tokens(args.auth, &endpoint, http.clone())?;
        let arm = Arm::new(http, endpoint.clone(), Arc::clone(&tokens), &args.api_version);
        Ok(Self { arm, args, tokens, endpoint, ca })
    }

    pub(super) fn subscription(&self) -> Result<&str, Failure> {
        given(self.args.subscription.as_deref(), "no subscription was named", "--subscription", "AZURE_SUBSCRIPTION_ID")
    }

    pub(super) fn resource_group(&self) -> Result<&str, Failure> {
        given(self.args.resource_group.as_deref(), "no resource group was named", "-g", "AZURE_RESOURCE_GROUP")
    }

    pub(super) fn host(&self, host: &HostArgs) -> Result<Host, Failure> {
        let name = given(host.name.as_deref(), "no bastion host was named", "-n", "AZURE_BASTION_NAME")?;
        Ok(Host {
            subscription: self.subscription()?.to_owned(),
            resource_group: self.resource_group()?.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The way to a host's data plane.
    pub(super) async fn tunnels(&self, host: &Host) -> Result<Tunnels, Failure> {
        let shown = self.arm.host(host).await.map_err(|error| self.failed(error))?;
        let sku = shown.get("sku").and_then(|sku| sku.get("name")).and_then(Value::as_str).unwrap_or_default();
        let is_shared = ["Developer", "QuickConnect"].iter().any(|shared| sku.eq_ignore_ascii_case(shared));
        let properties = shown.get("properties");
        let property = |name: &str| properties.and_then(|properties| properties.get(name));
        // Hosts that share a data plane have tunnels of their own kind, whatever this says.
        if !is_shared && property("enableTunneling").and_then(Value::as_bool) == Some(false) {
            return Err(Failure::other(format!("{} does not offer tunnels", host.name))
                .hint("its property enableTunneling is false; at Azure it needs the Standard or Premium SKU"));
        }
        let name = property("dnsName").and_then(Value::as_str).unwrap_or_default();
        // Whoever answers for the host says where its data plane is, but not how it is spoken to.
        let scheme = if self.endpoint.scheme() == "http" { "http" } else { "https" };
        let Some(base) = data_plane(scheme, name) else {
            return Err(Failure::other(format!("{} names no data plane: its dnsName is {name:?}", host.name)));
        };
        let http = http_client(&base, self.ca.as_deref())?;
        let tunnels = Tunnels::new(http, base, Arc::clone(&self.tokens));
        let id = shown.get("id").and_then(Value::as_str).unwrap_or_default();
        Ok(if is_shared { tunnels.shared(id.to_owned()) } else { tunnels })
    }

    /// What to say when the control API gave no answer.
    pub(super) fn failed(&self, error: ArmError) -> Failure {
        match error {
            ArmError::NoToken(why) => credential::missing(&why),
            ArmError::Unreachable(error) => {
                self.unreachable(&self.endpoint, &error, "check --endpoint (or RAVELIN_ARM_URL)")
            }
            ArmError::Refused { status, code, message } => {
                let exit = if matches!(status, 401 | 403) { Exit::Denied } else { Exit::Other };
                let failure = Failure::new(exit, format!("{code}: {message}"));
                match (status, code.as_str()) {
                    (401, _) => failure.hint(credential::HINT),
                    (403, _) => failure.hint("your rights on the bastion do not include this"),
                    (404, "SubscriptionNotFound") => failure.hint("check --subscription"),
                    (404, "ResourceGroupNotFound") => failure.hint("check -g"),
                    (404, _) => failure.hint("list what there is: ravelin bastion list"),
                    (429, _) => failure.hint("try again in a moment"),
                    _ => failure,
                }
            }
            ArmError::Strange(_) => Failure::new(Exit::Unreachable, format!("{}: {error}", self.endpoint))
                .hint("check --endpoint: it is https://management.azure.com or the HTTPS address of a Ravelin"),
            ArmError::LeadsAway(_) => Failure::other(error.to_string()),
            ArmError::Slow { .. } => Failure::other(error.to_string()).hint("give it longer: --timeout"),
        }
    }

    /// What to say when there is no tunnel.
    pub(super) fn no_tunnel(&self, tunnels: &Tunnels, error: TunnelError) -> Failure {
        match error {
            TunnelError::NoToken(why) => credential::missing(&why),
            TunnelError::Unreachable(error) => {
                self.unreachable(tunnels.base(), &error, "that is the host's data plane; its property dnsName names it")
            }
            TunnelError::Refused { status, message } => {
                let exit = if matches!(status, 401 | 403) { Exit::Denied } else { Exit::Other };
                Failure::new(exit, format!("the bastion refuses the tunnel: {message}"))
            }
            TunnelError::Strange(_) => Failure::new(Exit::Unreachable, error.to_string()),
        }
    }

    fn unreachable(&self, url: &Url, error: &reqwest::Error, hint: &str) -> Failure {
        not_trusted(url, self.ca.as_deref(), error).unwrap_or_else(|| {
            Failure::new(Exit::Unreachable, format!("nothing answers at {url}: {}", why_not_reached(error))).hint(hint)
        })
    }
}

fn given<'a>(value: Option<&'a str>, what: &str, flag: &str, variable: &str) -> Result<&'a str, Failure> {
    match value.filter(|value| !value.is_empty()) {
        Some(value) => Ok(value),
        None => Err(Failure::usage(format!("{what}; give {flag} or set {variable}"))),
    }
}

fn endpoint(text: &str) -> Result<Url, Failure> {
    let unfit = |why: &str| {
        Failure::usage(format!("{text:?} is no endpoint: {why}")).hint("write it as https://management.azure.com")
    };
    let url = Url::parse(text).map_err(|error| unfit(&error.to_string()))?;
    if url.host_str().is_none() || !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(unfit("it must be a scheme, a host and a port"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err(unfit("it must start with https://")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_over_tls_or_stay_on_this_machine() {
        for good in [PUBLIC_ENDPOINT, "https://bastion:8443/", "http://127.0.0.1:8080"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "bastion", "http://bastion:8080", "ftp://bastion", "https://me@bastion", "https://bastion?x=1"]
        {
            assert_eq!(endpoint(bad).expect_err(bad).exit, Exit::Usage);
        }
    }
}
