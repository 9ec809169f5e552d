//! Where calls go and how answers are shown: options, then the environment, then the profile, as the aws CLI has it.

use super::args::{OUTPUTS, Options};
use super::fault::{Fault, Generation};
use super::input::not_a_number;
use super::{args, chain};
use aws_config::profile::ProfileSet;
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_types::os_shim_internal::{Env, Fs};
use jiff::tz::TimeZone;
use ravelin_aws::client::shape::Times;
use ravelin_aws::client::{Client, Config, Retry};
use ravelin_aws::plugin::{self, Failure, Trust};
use reqwest::{Certificate, Url, redirect};
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

/// Seconds to connect, and of silence, unless told otherwise.
const TIMEOUT: u64 = 60;
/// Bytes of a file with certificates at most.
const CERTIFICATES_BYTES_MAX: u64 = 16 << 20;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Text,
    Table,
    Yaml,
    YamlStream,
}

/// Environment and profile.
pub(super) struct Settings {
    profiles: ProfileSet,
    /// The profile that was asked for by an option, which then wins over keys in the environment.
    chosen: Option<String>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Settings {
    /// Reads the profile files.
    pub(super) async fn load(globals: &Options) -> Result<Settings, Fault> {
        let chosen = globals.one("profile").map(str::to_owned);
        let named = chosen.clone().or_else(|| variable("AWS_PROFILE")).or_else(|| variable("AWS_DEFAULT_PROFILE"));
        let profiles = aws_config::profile::load(
            &Fs::real(),
            &Env::real(),
            &EnvConfigFiles::default(),
            named.clone().map(Into::into),
        )
        .await
        .map_err(|error| Fault::other(format!("Unable to parse config file: {}", super::causes(&error))))?;
        match named {
            Some(name) if profiles.get_profile(&name).is_none() && name != "default" => {
                Err(Fault::other(format!("The config profile ({name}) could not be found")))
            }
            _ => Ok(Settings { profiles, chosen }),
        }
    }

    fn profile(&self, name: &str) -> Option<String> {
        self.profiles.get(name).map(str::to_owned).filter(|value| !value.is_empty())
    }

    /// The form that was asked for.
    pub(super) fn format(&self, globals: &Options) -> Result<Format, Fault> {
        let name = globals.one("output").map(str::to_owned).or_else(|| variable("AWS_DEFAULT_OUTPUT"));
        match name.or_else(|| self.profile("output")).as_deref() {
            None | Some("json") => Ok(Format::Json),
            Some("text") => Ok(Format::Text),
            Some("table") => Ok(Format::Table),
            Some("yaml") => Ok(Format::Yaml),
            Some("yaml-stream") => Ok(Format::YamlStream),
            Some(other) => {
                debug_assert!(!OUTPUTS.contains(&other), "every choice of the option is handled");
                Err(Fault::other(format!("Unknown output type: {other}")))
            }
        }
    }

    /// How times are shown. Only the second generation knows YAML, so its times are that one's.
    pub(super) fn times(&self, format: Format, generation: Generation) -> Result<Times, Fault> {
        let iso = || Times::Iso(TimeZone::system());
        match (self.profile("cli_timestamp_format").as_deref(), format, generation) {
            (Some("iso8601"), _, _) | (None, Format::Yaml | Format::YamlStream, _) | (None, _, Generation::Two) => {
                Ok(iso())
            }
            (Some("none" | "wire"), _, _) | (None, Format::Json | Format::Text | Format::Table, Generation::One) => {
                Ok(Times::Wire)
            }
            (Some(other), _, _) => {
                let text = format!(
                    "Unknown cli_timestamp_format value: {other}, valid values are \"none\", \"wire\" and \"iso8601\""
                );
                Err(Fault::other(text))
            }
        }
    }

    /// A client for what was asked for.
    pub(super) fn client(&self, globals: &Options, generation: Generation, times: Times) -> Result<Client, Fault> {
        let region = self.region(globals)?;
        let endpoint = self.endpoint(globals, &region)?;
        let http = self.http(globals, &endpoint)?;
        let credentials = if globals.has("no-sign-request") {
            None
        } else {
            whole_keys(self.chosen.is_some())?;
            Some(chain::credentials(http.clone(), &region, self.chosen.as_deref()))
        };
        let retry = self.retry(generation)?;
        let endpoint_is_clear = endpoint.scheme() == "http" && !is_loopback(&endpoint);
        if endpoint_is_clear {
            tracing::debug!(%endpoint, "the request travels in clear text");
        }
        Ok(Client::new(http, Config { endpoint, region, credentials, retry, times }))
    }

    /// The region of calls.
    pub(super) fn region(&self, globals: &Options) -> Result<String, Fault> {
        let region = globals.one("region").map(str::to_owned).filter(|region| !region.is_empty());
        let region = region.or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION"));
        let Some(region) = region.or_else(|| self.profile("region")) else {
            let text = "You must specify a region. You can also configure your region by running \"aws configure\".";
            return Err(Fault::configuration(text));
        };
        let fits = region.len() <= 63
            && region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !region.starts_with('-')
            && !region.ends_with('-');
        if fits {
            Ok(region)
        } else {
            Err(Fault::other(format!("Provided region_name '{region}' doesn't match a supported format.")))
        }
    }

    fn endpoint(&self, globals: &Options, region: &str) -> Result<Url, Fault> {
        if let Some(text) = globals.one("endpoint-url") {
            if !text.contains(':') || text.starts_with(':') {
                return Err(Fault::parameter(format!(
                    "Bad value for --endpoint-url \"{text}\": scheme is missing.  Must be of the form http://<hostname>/ or \
                     https://<hostname>/"
                )));
            }
            return url(text);
        }
        let ignored =
            variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").or_else(|| self.profile("ignore_configured_endpoint_urls"));
        if !ignored.is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            let configured = variable("AWS_ENDPOINT_URL_SSM")
                .or_else(|| variable("AWS_ENDPOINT_URL"))
                .or_else(|| self.service("endpoint_url"))
                .or_else(|| self.profile("endpoint_url"));
            if let Some(text) = configured {
                return url(&text);
            }
        }
        let fips = variable("AWS_USE_FIPS_ENDPOINT").or_else(|| self.profile("use_fips_endpoint"));
        let fips = fips.is_some_and(|value| value.eq_ignore_ascii_case("true"));
        url(&regional(region, fips))
    }

    /// A setting of the section `services` that the profile names.
    fn service(&self, name: &str) -> Option<String> {
        let section = self.profile("services")?;
        let sections = self.profiles.other_sections();
        let key = chain::service_key(&section, "ssm", name)?;
        sections.get(&key).map(|value| value.to_string()).filter(|value| !value.is_empty())
    }

    fn retry(&self, generation: Generation) -> Result<Retry, Fault> {
        let mode = variable("AWS_RETRY_MODE").or_else(|| self.profile("retry_mode"));
        let standard = match mode.as_deref() {
            None => generation == Generation::Two,
            Some("legacy") => false,
            Some("standard" | "adaptive") => true,
            Some(other) => {
                return Err(Fault::other(format!(
                    "Invalid value provided to \"mode\": \"{other}\" must be one of: legacy, standard, adaptive"
                )));
            }
        };
        let attempts = match variable("AWS_MAX_ATTEMPTS").or_else(|| self.profile("max_attempts")) {
            None => {
                if standard {
                    3
                } else {
                    5
                }
            }
            Some(text) => {
                let number = args::number(&text).ok_or_else(|| not_a_number(&text))?;
                u32::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| {
                    Fault::other(format!(
                        "Value provided to \"max_attempts\": {number} must be an integer greater than or equal to 1."
                    ))
                })?
            }
        };
        Ok(Retry { attempts_max: attempts, always_told: standard })
    }

    fn bundle(&self, globals: &Options) -> Option<String> {
        let bundle = globals.one("ca-bundle").map(str::to_owned).or_else(|| variable("AWS_CA_BUNDLE"));
        bundle.or_else(|| self.profile("ca_bundle")).or_else(|| variable("REQUESTS_CA_BUNDLE"))
    }

    /// Whom a data channel trusts: the certificates in these files, or the system's. The vendor's plugin looks at the second
    /// kind only, and the aws CLI at the first only.
    pub(super) fn trust(&self, globals: &Options) -> Result<Trust, Failure> {
        if globals.has("no-verify-ssl") {
            return plugin::trust_anybody();
        }
        let mut files: Vec<PathBuf> =
            [self.bundle(globals), variable("SSL_CERT_FILE")].into_iter().flatten().map(PathBuf::from).collect();
        files.dedup();
        plugin::trust(&files)
    }

    fn http(&self, globals: &Options, endpoint: &Url) -> Result<reqwest::Client, Fault> {
        let seconds = |name: &str| match globals.one(name) {
            None => Ok(TIMEOUT),
            Some(text) => {
                args::number(text).and_then(|number| u64::try_from(number).ok()).ok_or_else(|| not_a_number(text))
            }
        };
        let (connect, read) = (seconds("cli-connect-timeout")?, seconds("cli-read-timeout")?);
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ravelin/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none());
        if connect > 0 {
            builder = builder.connect_timeout(Duration::from_secs(connect));
        }
        if read > 0 {
            builder = builder.read_timeout(Duration::from_secs(read));
        }
        if is_loopback(endpoint) {
            builder = builder.no_proxy();
        }
        let bundle = self.bundle(globals);
        if globals.has("no-verify-ssl") {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if let Some(path) = bundle {
            builder = builder.tls_certs_only(certificates(&path)?);
        }
        builder.build().map_err(|error| Fault::other(format!("Cannot set up TLS: {}", super::causes(&error))))
    }
}

/// AWS's own address for a region. Source: the service's endpoint rules in botocore 1.43.62, read 2026-11.
fn regional(region: &str, fips: bool) -> String {
    let suffix = match region.split('-').take(2).collect::<Vec<_>>()[..] {
        ["cn", _] => "amazonaws.com.cn",
        ["us", "iso"] => "c2s.ic.gov",
        ["us", "isob"] => "sc2s.sgov.gov",
        ["eu", "isoe"] => "cloud.adc-e.uk",
        ["us", "isof"] => "csp.hci.ic.gov",
        ["eusc", _] => "amazonaws.eu",
        _ => "amazonaws.com",
    };
    let fips = if fips && !region.starts_with("us-gov-") { "-fips" } else { "" };
    format!("https://ssm{fips}.{region}.{suffix}")
}

fn url(text: &str) -> Result<Url, Fault> {
    let parsed = Url::parse(text).ok().filter(Url::has_host);
    match parsed {
        Some(url) if matches!(url.scheme(), "http" | "https") => Ok(url),
        Some(url) => Err(Fault::other(format!(
            "An HTTP Client raised an unhandled exception: Not supported URL scheme {}",
            url.scheme()
        ))),
        None => Err(Fault::other(format!("Invalid endpoint: {text}"))),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Half a pair of keys in the environment is a mistake that would be hard to find later.
fn whole_keys(profile_chosen: bool) -> Result<(), Fault> {
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    if !profile_chosen && variable(id).is_some() && variable(secret).is_none() {
        return Err(Fault::other(format!("Partial credentials found in env, missing: {secret}")));
    }
    Ok(())
}

fn certificates(path: &str) -> Result<Vec<Certificate>, Fault> {
    let unusable = |because: String| {
        Fault::other(format!("Could not find a suitable TLS CA certificate bundle, invalid path: {path} ({because})"))
    };
    let mut pem = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CERTIFICATES_BYTES_MAX).read_to_end(&mut pem))
        .map_err(|error| unusable(error.to_string()))?;
    let certificates = Certificate::from_pem_bundle(&pem).map_err(|error| unusable(super::causes(&error)))?;
    if certificates.is_empty() { Err(unusable("it holds no certificate".to_owned())) } else { Ok(certificates) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_have_the_addresses_that_aws_gives_them() {
        for (region, fips, address) in [
            ("eu-central-1", false, "https://ssm.eu-central-1.amazonaws.com"),
            ("us-east-1", true, "https://ssm-fips.us-east-1.amazonaws.com"),
            ("us-gov-west-1", true, "https://ssm.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", false, "https://ssm.cn-north-1.amazonaws.com.cn"),
            ("us-iso-east-1", false, "https://ssm.us-iso-east-1.c2s.ic.gov"),
            ("us-isob-east-1", false, "https://ssm.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(regional(region, fips), address);
            assert!(url(address).is_ok());
        }
    }

    #[test]
    fn an_endpoint_is_an_address_of_http() {
        assert_eq!(url("http://127.0.0.1:8080").expect("an address").as_str(), "http://127.0.0.1:8080/");
        assert_eq!(
            url("ftp://x").expect_err("not HTTP").message,
            "An HTTP Client raised an unhandled exception: Not supported URL scheme ftp"
        );
        assert!(url("http://").is_err());
    }
}
