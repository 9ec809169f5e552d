//! What an operator can set on this edge, and what is wrong with it.
//!
//! Only the application reads files; it fills in a [`Config`], and [`crate::server::router`] checks it.

use crate::outside::OutsideIssuer;
use crate::proto::is_guid;
use http::Uri;
use std::time::Duration;

/// The names under which this deployment appears to Azure's clients, and the edge's limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory in which clients have their ids: a GUID.
    pub tenant_id: String,
    /// The one subscription: a GUID.
    pub subscription_id: String,
    /// The one resource group: 1 to 90 letters, digits and `. _ ( ) -`.
    pub resource_group: String,
    /// The bastion host's name: 1 to 80 letters, digits and `. _ -`.
    pub bastion_name: String,
    /// The region shown: 1 to 40 letters, digits and `-`.
    pub location: String,
    /// `https://name[:port]` under which clients reach this edge. Links and the issuer are built from it; without it,
    /// links follow the name that each request used.
    pub public_url: Option<String>,
    /// How long a bearer token is good: one minute to one day.
    pub token_ttl: Duration,
    /// Further audiences that tokens are issued for and accepted with, beside Azure's own two and this edge's URL.
    pub audiences: Vec<String>,
    /// Other issuers whose bearer tokens are believed.
    pub outside_issuers: Vec<OutsideIssuer>,
    /// How long a disconnect waits for a session's sockets to close before it reports that one as failed.
    pub disconnect_wait: Duration,
    /// How long an answer may take before the caller is told to come for it later, where the operation allows for it;
    /// zero: it always does.
    pub respond_within: Duration,
    /// How long an answer that comes later is kept.
    pub answers_keep: Duration,
    /// How long a shared link is good.
    pub link_life: Duration,
    /// The port of the SSH listener, for the page that a shared link shows.
    pub ssh_port: Option<u16>,
    /// Requests of one client that are answered without a pause, counted apart for reads and for writes.
    pub requests_burst_max: u32,
    /// How many of them come back each second.
    pub requests_per_second: u32,
}

impl Config {
    /// The defaults, for a deployment of these names.
    #[must_use]
    pub fn new(tenant_id: &str, subscription_id: &str, resource_group: &str, bastion_name: &str) -> Self {
        Self {
            tenant_id: tenant_id.to_owned(),
            subscription_id: subscription_id.to_owned(),
            resource_group: resource_group.to_owned(),
            bastion_name: bastion_name.to_owned(),
            location: "local".to_owned(),
            public_url: None,
            token_ttl: Duration::from_secs(3600),
            audiences: Vec::new(),
            outside_issuers: Vec::new(),
            disconnect_wait: ravelin_engine::Control::WAIT_DEFAULT,
            respond_within: Duration::from_secs(5),
            answers_keep: Duration::from_secs(3600),
            link_life: Duration::from_secs(7 * 24 * 3600),
            ssh_port: None,
            requests_burst_max: 12_000,
            requests_per_second: 500,
        }
    }

    /// The configuration in the form in which it is used, or the first thing that is wrong with it.
    pub(crate) fn checked(mut self) -> Result<Self, ConfigFault> {
        let fault = |key, value: &str, because: &str| {
            Err(ConfigFault { key, value: value.to_owned(), because: because.to_owned() })
        };
        for (key, value) in [("tenant_id", &self.tenant_id), ("subscription_id", &self.subscription_id)] {
            if !is_guid(value) {
                return fault(key, value, "must be a GUID such as 6d0f2b6e-9f52-4c2e-8c0a-0a4b6a1f3c55");
            }
        }
        for (key, value, chars_max, marks) in [
            ("resource_group", &self.resource_group, 90, "._()-"),
            ("bastion_name", &self.bastion_name, 80, "._-"),
            ("location", &self.location, 40, "-"),
        ] {
            let fits = (1..=chars_max).contains(&value.len())
                && value.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c));
            if !fits {
                let marks: Vec<String> = marks.chars().map(String::from).collect();
                let because = format!("must have 1 to {chars_max} letters, digits and {}", marks.join(" "));
                return fault(key, value, &because);
            }
        }
        if let Some(url) = &mut self.public_url {
            if !is_origin(url.trim_end_matches('/')) {
                return fault(
                    "public_url",
                    url,
                    "must be a scheme, a name and perhaps a port: https://bastion.example",
                );
            }
            *url = url.trim_end_matches('/').to_owned();
        }
        if !(Duration::from_secs(60)..=Duration::from_secs(24 * 3600)).contains(&self.token_ttl) {
            return fault("token_ttl", &format!("{:?}", self.token_ttl), "must be one minute to one day");
        }
        for (key, value) in
            [("requests_burst_max", self.requests_burst_max), ("requests_per_second", self.requests_per_second)]
        {
            if value == 0 {
                return fault(key, "0", "must be at least 1");
            }
        }
        Ok(self)
    }
}

/// A setting that cannot stand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("azure: {key} {value:?} {because}")]
pub struct ConfigFault {
    /// The field of [`Config`], or `signing key`.
    pub key: &'static str,
    /// What it was set to; empty where it is a secret.
    pub value: String,
    /// What is wrong and what would be right, ready to follow the value.
    pub because: String,
}

fn is_origin(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let web = matches!(uri.scheme_str(), Some("https" | "http"));
    let bare = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
    web && bare && uri.authority().is_some_and(|authority| !authority.as_str().contains('@')) && !url.contains('#')
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "6d0f2b6e-9f52-4c2e-8c0a-0a4b6a1f3c55";

    #[test]
    fn a_fault_names_the_key_and_the_fix() {
        let good = || Config::new(GUID, GUID, "rg1", "bastion");
        assert!(good().checked().is_ok());
        let mut with_url = good();
        with_url.public_url = Some("https://bastion.example:8443/".to_owned());
        let url = with_url.checked().expect("a right URL").public_url;
        assert_eq!(url.as_deref(), Some("https://bastion.example:8443"));

        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 9] = [
            ("tenant_id", |c| c.tenant_id = "common".to_owned()),
            ("subscription_id", |c| c.subscription_id.clear()),
            ("resource_group", |c| c.resource_group = "a/b".to_owned()),
            ("bastion_name", |c| c.bastion_name = "b".repeat(81)),
            ("location", |c| c.location = "west europe".to_owned()),
            ("public_url", |c| c.public_url = Some("https://b.example/arm".to_owned())),
            ("public_url", |c| c.public_url = Some("b.example".to_owned())),
            ("token_ttl", |c| c.token_ttl = Duration::from_secs(5)),
            ("requests_per_second", |c| c.requests_per_second = 0),
        ];
        for (key, spoil) in cases {
            let mut config = good();
            spoil(&mut config);
            let fault = config.checked().expect_err(key);
            assert_eq!(fault.key, key);
            assert!(fault.to_string().contains("must"), "{fault}");
        }
    }
}
