//! Keys of the Azure edge: those that sign its tokens, which are changed from time to time, and those of outside issuers,
//! which are fetched.

use crate::state::StateDir;
use anyhow::Context;
use axum::body::Bytes;
use futures_util::StreamExt;
use ravelin_azure::{KeyFetch, SigningKeys};
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// How long a key signs. A token lives for a day at most, and the key before is believed for as long as this.
const LIFE: Duration = Duration::from_secs(90 * 24 * 3600);
/// How often its age is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(3600);
const NEWEST: &str = "azure_signing_key.pem";
const BEFORE: &str = "azure_signing_key.before.pem";

/// The signing keys of the state directory, and the files that they are in.
pub(super) struct SigningKeyFiles {
    pub(super) keys: SigningKeys,
    newest: PathBuf,
    before: PathBuf,
}

impl SigningKeyFiles {
    /// The keys that are there; the first one is made.
    pub(super) fn open(state: &StateDir) -> anyhow::Result<Self> {
        let pem = state.keep_secret(NEWEST, || Ok(ravelin_azure::generate_signing_key().expose_secret().to_owned()))?;
        let newest = SecretString::from(pem.as_str());
        let before = match state.path(BEFORE).exists() {
            true => Some(SecretString::from(state.keep_secret(BEFORE, || Ok(String::new()))?.as_str())),
            false => None,
        };
        let keys = SigningKeys::new(&newest, before.as_ref())
            .with_context(|| format!("{} is damaged; remove it to have a new one", state.path(NEWEST).display()))?;
        Ok(Self { keys, newest: state.path(NEWEST), before: state.path(BEFORE) })
    }

    /// Changes the key when the present one has signed for long enough. Whether it did.
    pub(super) fn rotate_if_old(&self, now: SystemTime) -> anyhow::Result<bool> {
        let made = std::fs::metadata(&self.newest)?.modified()?;
        if now.duration_since(made).unwrap_or_default() < LIFE {
            return Ok(false);
        }
        let next = ravelin_azure::generate_signing_key();
        // First the old one is safe, then the new one is; a crash in between leaves the old one signing.
        let old = std::fs::read(&self.newest).map(zeroize::Zeroizing::new)?;
        crate::state::write_whole(&self.before, &old, 0o600)?;
        crate::state::write_whole(&self.newest, next.expose_secret().as_bytes(), 0o600)?;
        self.keys.rotate(&next)?;
        Ok(true)
    }
}

/// Fetches an outside issuer's documents. Its client is made when it is first needed, because it wants the system's
/// certificates, and a bastion without outside issuers runs on a machine that has none.
#[derive(Default)]
pub(super) struct Fetcher(OnceLock<reqwest::Client>);

impl Fetcher {
    /// From the first byte to the last.
    const TIME_MAX: Duration = Duration::from_secs(5);
    /// Largest document.
    const BYTES_MAX: usize = 256 << 10;

    fn client(&self) -> Result<&reqwest::Client, String> {
        if let Some(client) = self.0.get() {
            return Ok(client);
        }
        let client = reqwest::Client::builder().timeout(Self::TIME_MAX).redirect(reqwest::redirect::Policy::none());
        let client = client.build().map_err(|error| format!("no client for the keys of outside issuers: {error}"))?;
        Ok(self.0.get_or_init(|| client))
    }
}

#[async_trait::async_trait]
impl KeyFetch for Fetcher {
    async fn fetch(&self, url: &str) -> Result<Bytes, String> {
        if !is_fetchable(url) {
            return Err(format!("{url} is not an https URL"));
        }
        let answer = self.client()?.get(url).send().await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{url} answers {}", answer.status()));
        }
        let mut stream = answer.bytes_stream();
        let mut document = Vec::new();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|error| error.to_string())?;
            if document.len() + piece.len() > Self::BYTES_MAX {
                return Err(format!("{url} has more than {} bytes", Self::BYTES_MAX));
            }
            document.extend_from_slice(&piece);
        }
        Ok(document.into())
    }
}

/// Whether keys may come from there: over TLS, or from this machine.
pub(crate) fn is_fetchable(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let local =
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => local,
        Some(_) | None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::get;

    #[test]
    fn a_key_is_changed_when_it_is_old_and_both_are_there_after_a_restart() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = StateDir::open(folder.path()).expect("a new directory");
        let ring = SigningKeyFiles::open(&state).expect("a first key");
        let text = |name: &str| std::fs::read_to_string(state.path(name)).expect("a key");
        let first = text(NEWEST);
        assert!(!ring.rotate_if_old(SystemTime::now()).expect("it looks"));
        assert!(ring.rotate_if_old(SystemTime::now() + LIFE + Duration::from_secs(60)).expect("it changes"));
        assert_eq!(text(BEFORE), first);
        assert_ne!(text(NEWEST), first);
        SigningKeyFiles::open(&state).expect("both keys");
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        for good in
            ["https://login.example/t/v2.0", "http://127.0.0.1:8080/keys", "http://localhost/k", "http://[::1]/k"]
        {
            assert!(is_fetchable(good), "{good}");
        }
        for bad in ["http://login.example/keys", "ftp://127.0.0.1/k", "keys", "", "file:///etc/passwd"] {
            assert!(!is_fetchable(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn documents_are_bounded_and_lead_nowhere_else() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let routes = Router::new()
            .route("/keys", get(|| async { r#"{"keys":[]}"# }))
            .route("/huge", get(|| async { "x".repeat(Fetcher::BYTES_MAX + 1) }))
            .route("/away", get(|| async { (StatusCode::FOUND, [("location", "/keys")]) }));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let fetcher = Fetcher::default();
        assert_eq!(fetcher.fetch(&format!("{base}/keys")).await.as_deref(), Ok(&br#"{"keys":[]}"#[..]));
        for refused in ["/huge", "/away", "/nothing"] {
            fetcher.fetch(&format!("{base}{refused}")).await.expect_err(refused);
        }
    }
}
