//! TLS of the HTTPS listener: whose certificate, which versions, and a change of it without a restart.
//!
//! Either the operator names PEM files, or the deployment has a certificate authority of its own, made at the first
//! start and kept in the state directory. The authority's key stays on disk; the server's key is made anew at each
//! start and is never written.

use crate::state::StateDir;
use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

/// The beginning of a day in the type that only rcgen names.
macro_rules! midnight {
    ($date:expr) => {{
        let date: jiff::civil::Date = $date;
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    }};
}

/// What is wrong with a certificate or its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PemFault {
    /// The certificate's file.
    #[error("holds no usable certificate: {0}")]
    Certificate(String),
    /// The key's file.
    #[error("holds no usable private key: {0}")]
    Key(String),
    /// Each is fine, but they do not belong together.
    #[error("does not fit the certificate")]
    Mismatch,
}

/// A certificate with its chain and key, checked to belong together.
pub(crate) fn certified(chain_pem: &str, key_pem: &str) -> Result<CertifiedKey, PemFault> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| PemFault::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(PemFault::Certificate("there is no CERTIFICATE block".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| PemFault::Key(error.to_string()))?;
    join(chain, key)
}

fn join(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, PemFault> {
    let signing = aws_lc_rs::sign::any_supported_type(&key).map_err(|error| PemFault::Key(error.to_string()))?;
    let certified = CertifiedKey::new(chain, signing);
    match certified.keys_match() {
        Ok(()) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Err(PemFault::Mismatch),
        // A kind of key whose public half cannot be told is shown to clients as it is.
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(PemFault::Certificate(error.to_string())),
    }
}

/// The certificate in force, replaced while connections go on.
pub(crate) struct Certificate {
    present: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    pub(crate) fn new(certified: CertifiedKey) -> Arc<Self> {
        Arc::new(Self { present: RwLock::new(Arc::new(certified)) })
    }

    /// New connections see this one from now on.
    pub(crate) fn replace(&self, certified: CertifiedKey) {
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate")
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.present.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// TLS 1.2 and 1.3, a post-quantum exchange first, HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(certificate: Arc<Certificate>) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let provider: Arc<CryptoProvider> = Arc::new(aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .context("cannot set up TLS")?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The deployment's own certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    path: PathBuf,
}

impl Authority {
    const CERTIFICATE_FILE: &'static str = "ca.pem";
    const KEY_FILE: &'static str = "ca.key";
    /// Life of the authority.
    const YEARS: i32 = 10;
    /// Life of a server certificate: what browsers accept.
    const SERVER_DAYS: i32 = 397;
    /// Names that every server certificate bears.
    const NAMES: [&'static str; 3] = ["localhost", "127.0.0.1", "::1"];

    /// The authority of this state directory; made when there is none.
    pub(crate) fn open(state: &StateDir) -> anyhow::Result<Self> {
        let key_pem = state.keep_secret(Self::KEY_FILE, || {
            KeyPair::generate().map(|key| key.serialize_pem()).context("cannot make the certificate authority's key")
        })?;
        let key = KeyPair::from_pem(&key_pem).with_context(|| {
            format!("{} is damaged; remove it to have a new one", state.path(Self::KEY_FILE).display())
        })?;
        // The name is fixed and the authority is known by its key, so the parameters need not be read back from the
        // certificate. The tail tells authorities of several deployments apart in a trust store.
        let params = Self::params(&key);
        let path = state.path(Self::CERTIFICATE_FILE);
        let pem = state.keep_public(Self::CERTIFICATE_FILE, || {
            params.self_signed(&key).map(|made| made.pem()).context("cannot make the certificate authority")
        })?;
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
            .with_context(|| format!("{} is damaged; remove it to have it made again", path.display()))?;
        Ok(Self { issuer: Issuer::new(params, key), certificate, path })
    }

    /// The certificate's file, for those who are to trust it.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A new server certificate for the usual local names and `names`.
    pub(crate) fn issue(&self, names: &[String]) -> anyhow::Result<CertifiedKey> {
        let all: BTreeSet<String> = Self::NAMES.into_iter().map(str::to_owned).chain(names.iter().cloned()).collect();
        let all: Vec<String> = all.into_iter().collect();
        let mut params = CertificateParams::new(all).context("cannot make a certificate for these names")?;
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("localhost", String::as_str));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        params.not_before = midnight!(today - jiff::Span::new().days(1));
        params.not_after = midnight!(today + jiff::Span::new().days(Self::SERVER_DAYS));
        let key = KeyPair::generate().context("cannot make the server's key")?;
        let made = params.signed_by(&key, &self.issuer).context("cannot sign the server's certificate")?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|because| anyhow::anyhow!("cannot use the server's key: {because}"))?;
        join(vec![made.der().clone(), self.certificate.clone()], key).context("cannot use the server's certificate")
    }

    fn params(key: &KeyPair) -> CertificateParams {
        let mut params = CertificateParams::default();
        let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, key.public_key_raw());
        let tail: String = digest.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("Ravelin authority {tail}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
        params.not_before = midnight!(today - jiff::Span::new().days(1));
        params.not_after = midnight!(today + jiff::Span::new().years(Self::YEARS));
        params
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pems() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["bastion.example".to_owned()]).expect("a name");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    #[test]
    fn a_certificate_and_its_key_must_belong_together() {
        let ((cert, key), (_, other)) = (pems(), pems());
        assert!(certified(&cert, &key).is_ok());
        assert_eq!(certified(&cert, &other).expect_err("another's key"), PemFault::Mismatch);
        assert!(matches!(certified("", &key).expect_err("nothing"), PemFault::Certificate(_)));
        assert!(matches!(certified(&cert, "nothing").expect_err("no key"), PemFault::Key(_)));
    }

    #[test]
    fn the_authority_stays_and_its_certificates_are_trusted_through_it() {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let state = StateDir::open(folder.path()).expect("a new directory");
        let first = Authority::open(&state).expect("a new authority").certificate;
        let again = Authority::open(&state).expect("the same authority");
        assert_eq!(first, again.certificate);
        let certified = again.issue(&["bastion.example".to_owned()]).expect("a certificate");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(first).expect("a usable authority");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
            .build()
            .expect("a verifier");
        let now = rustls::pki_types::UnixTime::now();
        for name in ["localhost", "127.0.0.1", "::1", "bastion.example"] {
            let name = rustls::pki_types::ServerName::try_from(name).expect("a name");
            let chain = &certified.cert;
            rustls::client::danger::ServerCertVerifier::verify_server_cert(
                verifier.as_ref(),
                &chain[0],
                &chain[1..],
                &name,
                &[],
                now,
            )
            .expect("it is trusted");
        }
    }
}
