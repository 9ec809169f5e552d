//! Where tokens for the control API come from: the vendor's own credential library, which also asks `az`.

use crate::cli::client::{causes, certificate_fault};
use crate::cli::failure::{Exit, Failure};
use async_trait::async_trait;
use azure_core::credentials::{AccessToken, Secret, TokenCredential};
use azure_core::http::{ClientOptions, ExponentialRetryOptions, RetryOptions, Transport};
use azure_core::time::OffsetDateTime;
use azure_identity::{
    AzureCliCredential, AzureDeveloperCliCredential, ClientAssertionCredentialOptions, ClientSecretCredential,
    ClientSecretCredentialOptions, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use ravelin_azure::client::TokenSource;
use ravelin_azure::client::arm::PUBLIC_ENDPOINT;
use reqwest::Url;
use secrecy::SecretString;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) const HINT: &str = "set AZURE_CLIENT_ID, AZURE_CLIENT_SECRET and AZURE_TENANT_ID, or log in with `az login`; \
    for a Ravelin: ravelin credentials issue --kind azure";

/// Where tokens come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Auth {
    /// The first of the others that this environment speaks of; `az` and `azd` otherwise
    Auto,
    /// AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_TENANT_ID
    ClientSecret,
    /// AZURE_CLIENT_ID, AZURE_TENANT_ID, AZURE_FEDERATED_TOKEN_FILE
    WorkloadIdentity,
    /// The identity of the machine that this runs on
    ManagedIdentity,
    /// Whoever is logged in with `az`
    Az,
    /// Whoever is logged in with `azd`
    Azd,
    /// AZURE_ACCESS_TOKEN, as it is
    Token,
}

impl Auth {
    fn settled(self) -> Self {
        match self {
            Auth::Auto if is_set("AZURE_ACCESS_TOKEN") => Auth::Token,
            Auth::Auto if is_set("AZURE_CLIENT_SECRET") => Auth::ClientSecret,
            Auth::Auto if is_set("AZURE_FEDERATED_TOKEN_FILE") => Auth::WorkloadIdentity,
            Auth::Auto if is_set("IDENTITY_ENDPOINT") => Auth::ManagedIdentity,
            other => other,
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
}

fn is_set(name: &str) -> bool {
    variable(name).is_some()
}

fn needed(name: &str) -> Result<String, Failure> {
    variable(name).ok_or_else(|| Failure::new(Exit::Denied, format!("{name} is not set")).hint(HINT))
}

/// Tokens for `endpoint`. `http` is what the token endpoint is asked with, so that a private CA counts there too.
pub(super) fn tokens(auth: Auth, endpoint: &Url, http: reqwest::Client) -> Result<Arc<dyn TokenSource>, Failure> {
    // A person waits for it: what cannot be had within seconds is said.
    let patience = ExponentialRetryOptions { max_retries: 3, ..ExponentialRetryOptions::default() };
    let client_options = || ClientOptions {
        retry: RetryOptions::exponential(patience.clone()),
        transport: Some(Transport::new(Arc::new(http.clone()))),
        ..ClientOptions::default()
    };
    let credential: Arc<dyn TokenCredential> = match auth.settled() {
        Auth::Token => return Ok(Arc::new(Given(SecretString::from(needed("AZURE_ACCESS_TOKEN")?)))),
        Auth::ClientSecret => {
            let (id, secret) = (needed("AZURE_CLIENT_ID")?, Secret::new(needed("AZURE_CLIENT_SECRET")?));
            let options = ClientSecretCredentialOptions { client_options: client_options() };
            ClientSecretCredential::new(&needed("AZURE_TENANT_ID")?, id, secret, Some(options)).map_err(unfit)?
        }
        Auth::WorkloadIdentity => {
            let credential_options = ClientAssertionCredentialOptions { client_options: client_options() };
            let options = WorkloadIdentityCredentialOptions { credential_options, ..Default::default() };
            WorkloadIdentityCredential::new(Some(options)).map_err(unfit)?
        }
        Auth::ManagedIdentity => {
            let user_assigned_id = variable("AZURE_CLIENT_ID").map(UserAssignedId::ClientId);
            let options = ManagedIdentityCredentialOptions { user_assigned_id, ..Default::default() };
            ManagedIdentityCredential::new(Some(options)).map_err(unfit)?
        }
        Auth::Az => AzureCliCredential::new(None).map_err(unfit)?,
        Auth::Azd => AzureDeveloperCliCredential::new(None).map_err(unfit)?,
        Auth::Auto => DeveloperToolsCredential::new(None).map_err(unfit)?,
    };
    Ok(Arc::new(Asked::new(credential, scope(endpoint))))
}

/// What a token is asked for. The public cloud's own name, or the endpoint's, which other clouds and a Ravelin know.
fn scope(endpoint: &Url) -> String {
    let origin = endpoint.origin().ascii_serialization();
    let audience = if origin == PUBLIC_ENDPOINT { PUBLIC_ENDPOINT } else { &origin };
    format!("{audience}/.default")
}

fn unfit(error: azure_core::Error) -> Failure {
    missing(&in_words(&error))
}

/// What to say when there is no token.
pub(super) fn missing(why: &str) -> Failure {
    Failure::new(Exit::Denied, format!("no token: {}", why.trim())).hint(HINT)
}

/// A token that somebody else got.
struct Given(SecretString);

#[async_trait]
impl TokenSource for Given {
    async fn token(&self) -> Result<SecretString, String> {
        Ok(self.0.clone())
    }
}

/// A token that is good for less than this is not used any more.
const LEFT_MIN: Duration = Duration::from_secs(5 * 60);

/// Remembers the library's token: some of its credentials do not, and start a program at each request.
struct Asked {
    credential: Arc<dyn TokenCredential>,
    scope: String,
    kept: Mutex<Option<AccessToken>>,
    /// One asks at a time; others wait for it and look again.
    asking: tokio::sync::Mutex<()>,
}

impl Asked {
    fn new(credential: Arc<dyn TokenCredential>, scope: String) -> Self {
        Self { credential, scope, kept: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn kept(&self) -> Option<SecretString> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let good = kept.as_ref().filter(|token| token.expires_on > OffsetDateTime::now_utc() + LEFT_MIN)?;
        Some(SecretString::from(good.token.secret()))
    }
}

#[async_trait]
impl TokenSource for Asked {
    async fn token(&self) -> Result<SecretString, String> {
        if let Some(token) = self.kept() {
            return Ok(token);
        }
        let _one = self.asking.lock().await;
        if let Some(token) = self.kept() {
            return Ok(token);
        }
        let got = self.credential.get_token(&[&self.scope], None).await.map_err(|error| in_words(&error))?;
        let token = SecretString::from(got.token.secret());
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(got);
        Ok(token)
    }
}

/// What went wrong, without what the library says about where to read on.
fn in_words(error: &azure_core::Error) -> String {
    if let Some(why) = certificate_fault(error) {
        return format!(
            "the certificate of the token endpoint is not trusted: {why}; SSL_CERT_FILE (or --ca) names those to trust"
        );
    }
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(lost) = cause.downcast_ref::<reqwest::Error>() {
            return format!("the token endpoint does not answer: {}", causes(lost));
        }
        next = cause.source();
    }
    let text = error.to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("To troubleshoot"));
    lines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use azure_core::credentials::TokenRequestOptions;
    use secrecy::ExposeSecret;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Gives out numbered tokens, each good for so long; slowly, as a program that has to start.
    #[derive(Debug)]
    struct Program {
        started: AtomicUsize,
        life: Duration,
    }

    #[async_trait]
    impl TokenCredential for Program {
        async fn get_token(
            &self,
            scopes: &[&str],
            _: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            assert_eq!(scopes, ["https://bastion/.default"]);
            tokio::time::sleep(Duration::from_millis(20)).await;
            let number = self.started.fetch_add(1, Ordering::SeqCst);
            Ok(AccessToken::new(format!("token-{number}"), OffsetDateTime::now_utc() + self.life))
        }
    }

    #[tokio::test]
    async fn a_token_is_asked_for_once_for_as_long_as_it_is_good() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (life, started) in [(minutes(60), 1), (minutes(6), 1), (minutes(4), 3)] {
            let program = Arc::new(Program { started: AtomicUsize::new(0), life });
            let asked = Asked::new(program.clone(), "https://bastion/.default".to_owned());
            // Two at once, and one later.
            let (one, two) = tokio::join!(asked.token(), asked.token());
            let three = asked.token().await;
            for token in [one, two, three] {
                assert!(token.expect("a token").expose_secret().starts_with("token-"));
            }
            assert_eq!(program.started.load(Ordering::SeqCst), started, "{life:?}");
        }
    }

    #[test]
    fn scopes_name_who_will_read_the_token() {
        let scope = |text: &str| scope(&Url::parse(text).expect("an address"));
        assert_eq!(scope("https://management.azure.com/"), "https://management.azure.com/.default");
        assert_eq!(scope("https://management.chinacloudapi.cn"), "https://management.chinacloudapi.cn/.default");
        assert_eq!(scope("https://localhost:8443"), "https://localhost:8443/.default");
    }
}
