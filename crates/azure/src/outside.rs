//! Bearer tokens of other issuers: Entra, or any that speaks OpenID Connect, as far as the configuration trusts them.
//!
//! INVARIANT: what a token says of itself only chooses which issuer's keys it is checked with. The algorithm is one of a
//! fixed list of signatures with a private key, and has to fit the key; so no public key is ever taken for a secret.
//!
//! Source: RFC 7519, RFC 7517, RFC 8725; OpenID Connect Discovery 1.0.

use crate::issuer::TokenFault;
use crate::proto::jwt;
use async_trait::async_trait;
use bytes::Bytes;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// An issuer whose tokens are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutsideIssuer {
    /// `iss`, exactly.
    pub issuer: String,
    /// One of these must be in `aud`. Never empty.
    pub audiences: Vec<String>,
    /// Where its keys are; `None` to read it from the discovery document below the issuer's URL.
    pub jwks_url: Option<String>,
    /// The claim that says who it is.
    pub claim: String,
    /// From that claim's value to a principal's name. Empty: the value is the name.
    pub principals: BTreeMap<String, String>,
}

/// Fetches documents, for whoever has a network: bounded in time and size, without following elsewhere.
#[async_trait]
pub trait KeyFetch: Send + Sync + 'static {
    /// The document at `url`.
    ///
    /// # Errors
    /// What went wrong, for the log.
    async fn fetch(&self, url: &str) -> Result<Bytes, String>;
}

/// Signatures that are believed. None of them can be made with what an issuer publishes.
const ALGORITHMS: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::ES256, Algorithm::ES384];

/// Keys of one issuer at once.
const KEYS_MAX: usize = 64;
/// How old keys may get.
const KEYS_LIFE: Duration = Duration::from_secs(3600);
/// Between two fetches, however many tokens name keys that nobody knows.
const FETCH_PAUSE: Duration = Duration::from_secs(30);
/// How far clocks may differ.
const LEEWAY_SECONDS: u64 = 60;

/// All issuers that are trusted, with their keys as last fetched.
pub(crate) struct Outside {
    issuers: Vec<Trusted>,
    fetch: Arc<dyn KeyFetch>,
}

struct Trusted {
    is: OutsideIssuer,
    keys: Mutex<Keys>,
    /// One fetch at a time; others wait for it and look again.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Keys {
    keys: Arc<Vec<Jwk>>,
    fetched: Option<Instant>,
    tried: Option<Instant>,
}

/// Why an outside token proves nobody.
#[derive(Debug)]
pub(crate) enum OutsideFault {
    Token(TokenFault),
    /// It is for another service than the issuer's tokens for this one are, which have one of these.
    Audience(Vec<String>),
    /// It is good, and its claim names nobody here.
    Nobody(String),
    /// The issuer's keys cannot be had.
    NoKeys(String),
}

impl Outside {
    pub(crate) fn new(issuers: Vec<OutsideIssuer>, fetch: Arc<dyn KeyFetch>) -> Self {
        let trusted = |is| Trusted { is, keys: Mutex::default(), fetching: tokio::sync::Mutex::new(()) };
        Self { issuers: issuers.into_iter().map(trusted).collect(), fetch }
    }

    /// The name of the principal that a token of a trusted issuer proves; `None` when no such issuer made it.
    pub(crate) async fn verify(&self, token: &str) -> Option<Result<String, OutsideFault>> {
        if self.issuers.is_empty() {
            return None;
        }
        let claimed = jwt::claimed(token).ok()?;
        let trusted = self.issuers.iter().find(|trusted| trusted.is.issuer == claimed.issuer)?;
        Some(self.verify_with(trusted, token, &claimed).await)
    }

    async fn verify_with(
        &self,
        trusted: &Trusted,
        token: &str,
        claimed: &jwt::Claimed,
    ) -> Result<String, OutsideFault> {
        let forged = || OutsideFault::Token(TokenFault::Forged);
        let algorithm: Algorithm = claimed.algorithm.parse().map_err(|_| forged())?;
        if !ALGORITHMS.contains(&algorithm) {
            return Err(forged());
        }
        let keys = self.keys(trusted, claimed.kid.as_deref()).await?;
        let named = |key: &&Jwk| claimed.kid.as_ref().is_none_or(|kid| key.common.key_id.as_ref() == Some(kid));
        for key in keys.iter().filter(named).filter(|key| fits(key, algorithm)) {
            return match claims(token, key, algorithm, &trusted.is) {
                Ok(claims) => principal(&claims, &trusted.is),
                Err(TokenFault::Forged) => continue,
                // It is this key's, so no other one has anything to say of it.
                Err(TokenFault::Audience) => Err(OutsideFault::Audience(trusted.is.audiences.clone())),
                Err(fault @ (TokenFault::Expired | TokenFault::TooEarly | TokenFault::Tenant)) => {
                    Err(OutsideFault::Token(fault))
                }
            };
        }
        Err(forged())
    }

    /// The issuer's keys, fetched anew when they are old or lack the one that a token names, as often as is decent.
    async fn keys(&self, trusted: &Trusted, kid: Option<&str>) -> Result<Arc<Vec<Jwk>>, OutsideFault> {
        let good = |keys: &Keys| {
            let young = keys.fetched.is_some_and(|at| at.elapsed() < KEYS_LIFE);
            let known = kid.is_none_or(|kid| keys.keys.iter().any(|key| key.common.key_id.as_deref() == Some(kid)));
            young && known
        };
        let now = trusted.look();
        if good(&now) {
            return Ok(now.keys);
        }
        let _one = trusted.fetching.lock().await;
        let now = trusted.look();
        if good(&now) || now.tried.is_some_and(|at| at.elapsed() < FETCH_PAUSE) {
            return trusted.usable(now);
        }
        match self.fetched(&trusted.is).await {
            Ok(keys) => {
                let at = Some(Instant::now());
                let now = Keys { keys: Arc::new(keys), fetched: at, tried: at };
                *trusted.keys.lock().unwrap_or_else(PoisonError::into_inner) = now.clone();
                Ok(now.keys)
            }
            Err(because) => {
                tracing::error!(issuer = trusted.is.issuer, because, "an issuer's keys cannot be had");
                trusted.keys.lock().unwrap_or_else(PoisonError::into_inner).tried = Some(Instant::now());
                trusted.usable(now)
            }
        }
    }

    async fn fetched(&self, issuer: &OutsideIssuer) -> Result<Vec<Jwk>, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let url = match &issuer.jwks_url {
            Some(url) => url.clone(),
            None => {
                let base = issuer.issuer.trim_end_matches('/');
                let bytes = self.fetch.fetch(&format!("{base}/.well-known/openid-configuration")).await?;
                let found: Discovery = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
                if found.issuer != issuer.issuer {
                    return Err("the discovery document is another issuer's".to_owned());
                }
                found.jwks_uri
            }
        };
        let bytes = self.fetch.fetch(&url).await?;
        let set: Set = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        // A key of a kind that nobody here knows does not spoil the others.
        Ok(set.keys.into_iter().take(KEYS_MAX).filter_map(|key| serde_json::from_value(key).ok()).collect())
    }
}

impl Trusted {
    fn look(&self) -> Keys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keys that are somewhat old are better than none: an issuer that is away for a moment locks nobody out.
    fn usable(&self, keys: Keys) -> Result<Arc<Vec<Jwk>>, OutsideFault> {
        match keys.fetched {
            Some(at) if at.elapsed() < KEYS_LIFE * 24 => Ok(keys.keys),
            Some(_) | None => Err(OutsideFault::NoKeys(self.is.issuer.clone())),
        }
    }
}

/// Whether a key is made for an algorithm: by its kind, and by what it says of itself. Source: RFC 7517, sections 4.2
/// and 4.4; RFC 8725, section 3.1.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    let for_signatures = key.common.public_key_use.as_ref().is_none_or(|made_for| *made_for == PublicKeyUse::Signature);
    let named = key.common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(algorithm));
    for_signatures && named && fits_in_kind(key, algorithm)
}

fn fits_in_kind(key: &Jwk, algorithm: Algorithm) -> bool {
    match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256].contains(&algorithm)
        }
        AlgorithmParameters::EllipticCurve(point) => matches!(
            (&point.curve, algorithm),
            (EllipticCurve::P256, Algorithm::ES256) | (EllipticCurve::P384, Algorithm::ES384)
        ),
        // Shared secrets and what nobody here signs with; a foreign list that may grow.
        _ => false,
    }
}

fn claims(
    token: &str,
    key: &Jwk,
    algorithm: Algorithm,
    issuer: &OutsideIssuer,
) -> Result<Map<String, Value>, TokenFault> {
    let key = DecodingKey::from_jwk(key).map_err(|_| TokenFault::Forged)?;
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_audience(&issuer.audiences);
    validation.validate_nbf = true;
    validation.leeway = LEEWAY_SECONDS;
    jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
        .map(|data| data.claims)
        .map_err(|error| TokenFault::of(&error))
}

fn principal(claims: &Map<String, Value>, issuer: &OutsideIssuer) -> Result<String, OutsideFault> {
    let claimed = claims.get(&issuer.claim).and_then(Value::as_str).unwrap_or_default();
    let name =
        if issuer.principals.is_empty() { Some(claimed) } else { issuer.principals.get(claimed).map(String::as_str) };
    match name.filter(|name| !name.is_empty()) {
        Some(name) => Ok(name.to_owned()),
        None => Err(OutsideFault::Nobody(claimed.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::{EncodingKey, Header, get_current_timestamp};
    use secrecy::ExposeSecret;
    use serde_json::json;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    const ISSUER: &str = "https://login.example/t";

    /// An issuer in memory: its keys, whether it answers, and how often it was asked for keys.
    #[derive(Default)]
    struct Issuer {
        keys: Mutex<Vec<Value>>,
        away: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl KeyFetch for Arc<Issuer> {
        async fn fetch(&self, url: &str) -> Result<Bytes, String> {
            if url.ends_with("/.well-known/openid-configuration") {
                return Ok(json!({ "issuer": ISSUER, "jwks_uri": "https://keys.example/k" }).to_string().into());
            }
            assert_eq!(url, "https://keys.example/k");
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.away.load(Ordering::SeqCst) {
                return Err("no answer".to_owned());
            }
            let keys = self.keys.lock().expect("not poisoned").clone();
            Ok(json!({ "keys": keys }).to_string().into())
        }
    }

    struct Signer {
        key: EncodingKey,
        jwk: Value,
    }

    impl Signer {
        fn new(kid: &str) -> Self {
            let pem = crate::issuer::generate_signing_key();
            let key = EncodingKey::from_ec_pem(pem.expose_secret().as_bytes()).expect("a key");
            let jwk = Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a JWK");
            let mut jwk = serde_json::to_value(jwk).expect("JSON");
            jwk["kid"] = json!(kid);
            Self { key, jwk }
        }

        fn with(mut self, name: &str, value: &str) -> Self {
            self.jwk[name] = json!(value);
            self
        }

        fn token(&self) -> String {
            let kid = self.jwk["kid"].as_str().map(str::to_owned);
            self.sign(kid, &claims_of(get_current_timestamp() + 600, "us"))
        }

        fn sign(&self, kid: Option<String>, claims: &Value) -> String {
            let mut header = Header::new(Algorithm::ES256);
            header.kid = kid;
            jsonwebtoken::encode(&header, claims, &self.key).expect("signed")
        }
    }

    fn claims_of(exp: u64, aud: &str) -> Value {
        json!({ "iss": ISSUER, "aud": aud, "exp": exp, "sub": "alice" })
    }

    fn outside(issuer: &Arc<Issuer>) -> Outside {
        let is = OutsideIssuer {
            issuer: ISSUER.to_owned(),
            audiences: vec!["us".to_owned()],
            jwks_url: None,
            claim: "sub".to_owned(),
            principals: BTreeMap::new(),
        };
        Outside::new(vec![is], Arc::new(Arc::clone(issuer)))
    }

    fn publish(issuer: &Issuer, signers: &[&Signer]) {
        *issuer.keys.lock().expect("not poisoned") = signers.iter().map(|signer| signer.jwk.clone()).collect();
    }

    async fn is_good(outside: &Outside, signer: &Signer) -> bool {
        outside.verify(&signer.token()).await.expect("a trusted issuer's").is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_fetched_and_one_that_is_gone_is_not_believed_any_more() {
        let issuer = Arc::new(Issuer::default());
        let (old, new) = (Signer::new("k1"), Signer::new("k2"));
        publish(&issuer, &[&old]);
        let outside = outside(&issuer);
        assert!(is_good(&outside, &old).await);
        // The issuer changes its key at once, without the overlap that it should have.
        publish(&issuer, &[&new]);
        assert!(!is_good(&outside, &new).await, "asked a moment ago");
        tokio::time::advance(FETCH_PAUSE).await;
        assert!(is_good(&outside, &new).await);
        assert!(!is_good(&outside, &old).await);
        assert_eq!(issuer.asked.load(Ordering::SeqCst), 2);
        // Without anybody's new key, the set is looked at once an hour.
        publish(&issuer, &[]);
        tokio::time::advance(KEYS_LIFE - Duration::from_secs(1)).await;
        assert!(is_good(&outside, &new).await);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!is_good(&outside, &new).await);
        assert_eq!(issuer.asked.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_names_no_key_is_judged_by_the_one_that_signed_it() {
        let issuer = Arc::new(Issuer::default());
        let (first, second) = (Signer::new("k1"), Signer::new("k2"));
        publish(&issuer, &[&first, &second]);
        let outside = outside(&issuer);
        let now = get_current_timestamp();
        for signer in [&first, &second] {
            let judged = async |exp, aud| {
                let token = signer.sign(None, &claims_of(exp, aud));
                outside.verify(&token).await.expect("a trusted issuer's")
            };
            assert_eq!(judged(now + 600, "us").await.expect("good"), "alice");
            let old = judged(now - 600, "us").await.expect_err("too old");
            assert!(matches!(old, OutsideFault::Token(TokenFault::Expired)), "{old:?}");
            let other = judged(now + 600, "them").await.expect_err("for another service");
            assert!(matches!(&other, OutsideFault::Audience(right) if right == &["us"]), "{other:?}");
        }
        let stranger = Signer::new("k3").sign(None, &claims_of(now + 600, "us"));
        let forged = outside.verify(&stranger).await.expect("a trusted issuer's").expect_err("forged");
        assert!(matches!(forged, OutsideFault::Token(TokenFault::Forged)), "{forged:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_keys_cost_one_fetch_in_half_a_minute_and_lock_nobody_out() {
        let issuer = Arc::new(Issuer::default());
        let known = Signer::new("k1");
        publish(&issuer, &[&known]);
        let outside = outside(&issuer);
        let strangers: Vec<Signer> = (0..10).map(|at| Signer::new(&format!("x{at}"))).collect();
        for _ in 0..60 {
            for stranger in &strangers {
                assert!(!is_good(&outside, stranger).await);
            }
            assert!(is_good(&outside, &known).await);
            tokio::time::advance(Duration::from_secs(5)).await;
        }
        // Five minutes, six hundred tokens.
        assert_eq!(issuer.asked.load(Ordering::SeqCst), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_is_away_locks_nobody_out_for_a_day() {
        let issuer = Arc::new(Issuer::default());
        let key = Signer::new("k1");
        publish(&issuer, &[&key]);
        let outside = outside(&issuer);
        assert!(is_good(&outside, &key).await);
        issuer.away.store(true, Ordering::SeqCst);
        tokio::time::advance(KEYS_LIFE * 23).await;
        assert!(is_good(&outside, &key).await);
        tokio::time::advance(KEYS_LIFE * 2).await;
        let fault = outside.verify(&key.token()).await.expect("a trusted issuer's").expect_err("too old");
        assert!(matches!(fault, OutsideFault::NoKeys(issuer) if issuer == ISSUER));
        issuer.away.store(false, Ordering::SeqCst);
        tokio::time::advance(FETCH_PAUSE).await;
        assert!(is_good(&outside, &key).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_good_for_what_it_says_it_is_made_for() {
        for (name, value, good) in [
            ("use", "sig", true),
            ("use", "enc", false),
            ("alg", "ES256", true),
            ("alg", "ES384", false),
            ("alg", "ECDH-ES", false),
        ] {
            let issuer = Arc::new(Issuer::default());
            let key = Signer::new("k1").with(name, value);
            publish(&issuer, &[&key]);
            assert_eq!(is_good(&outside(&issuer), &key).await, good, "{name} {value}");
        }
    }
}
