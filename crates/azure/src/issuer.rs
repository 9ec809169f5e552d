//! The key that signs bearer tokens, and the check of what it signed.
//!
//! A token is no credential of its own: it names the client secret that it was issued against, and whoever presents it
//! is taken for that credential's principal only while the credential is good. So revoking the secret cuts every token
//! that came of it.
//!
//! INVARIANT: one algorithm. ES256 is written here and nowhere read from a token.

use crate::config::ConfigFault;
use crate::proto::jwt;
use crate::wire::login as wire;
use aws_lc_rs::digest;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use ravelin_model::Refusal;
use secrecy::{ExposeSecret, SecretString};
use std::sync::{Arc, PoisonError, RwLock};

/// A new signing key as PKCS#8 in PEM, on the curve P-256. Whoever has it can make tokens: the application keeps it
/// where only it can read.
#[must_use]
pub fn generate_signing_key() -> SecretString {
    // The generator fails only when the operating system gives no randomness; without it nothing here may run.
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &aws_lc_rs::rand::SystemRandom::new())
        .expect("the operating system gives random bytes");
    pem(key.as_ref())
}

/// Why a bearer token is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenFault {
    /// Not one of ours: misshapen, otherwise signed, changed, or without a claim that ours have.
    Forged,
    /// It was good.
    Expired,
    /// It will be good.
    TooEarly,
    /// It is for another service.
    Audience,
    /// It is of another issuer or tenant.
    Tenant,
}

impl TokenFault {
    /// What the check of a token's signature and claims says of it, whoever issued it.
    pub(crate) fn of(error: &jsonwebtoken::errors::Error) -> Self {
        match error.kind() {
            ErrorKind::ExpiredSignature => Self::Expired,
            ErrorKind::ImmatureSignature => Self::TooEarly,
            ErrorKind::InvalidAudience => Self::Audience,
            ErrorKind::InvalidIssuer => Self::Tenant,
            // A foreign list that may grow; every other kind means that it is not the issuer's.
            _ => Self::Forged,
        }
    }
}

/// The keys that sign tokens: the newest signs, and the one before it is still believed, so that no token dies of a
/// change. Cheap to clone: a clone is the same keys.
#[derive(Clone)]
pub struct SigningKeys {
    /// The newest first; never empty.
    keys: Arc<RwLock<Vec<Arc<Key>>>>,
}

impl SigningKeys {
    /// Keys that are believed at once: the present one and the one before it.
    const OVERLAP: usize = 2;

    /// From keys that [`generate_signing_key`] made.
    ///
    /// # Errors
    /// [`ConfigFault`] when one of them is none.
    pub fn new(newest: &SecretString, before: Option<&SecretString>) -> Result<Self, ConfigFault> {
        let keys = [Some(newest), before].into_iter().flatten().map(|pem| Key::new(pem).map(Arc::new));
        Ok(Self { keys: Arc::new(RwLock::new(keys.collect::<Result<_, _>>()?)) })
    }

    /// Signs with another key from now on. Tokens of the present one stay good, and tokens of the one before die.
    ///
    /// # Errors
    /// [`ConfigFault`] when it is no key; nothing has changed then.
    pub fn rotate(&self, newest: &SecretString) -> Result<(), ConfigFault> {
        let key = Arc::new(Key::new(newest)?);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.insert(0, key);
        keys.truncate(Self::OVERLAP);
        Ok(())
    }

    fn all(&self) -> Vec<Arc<Key>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One key pair.
struct Key {
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: wire::JsonWebKey,
}

impl Key {
    fn new(signing_key_pem: &SecretString) -> Result<Self, ConfigFault> {
        let fault = || ConfigFault {
            key: "signing key",
            value: String::new(),
            because: "must be a PKCS#8 PEM of an EC key on P-256, as ravelin makes them".to_owned(),
        };
        let encoding = EncodingKey::from_ec_pem(signing_key_pem.expose_secret().as_bytes()).map_err(|_| fault())?;
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::ES256).map_err(|_| fault())?;
        let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| fault())?;
        let AlgorithmParameters::EllipticCurve(point) = jwk.algorithm else { return Err(fault()) };
        // The thumbprint of RFC 7638: the needed members in alphabetical order, without blanks.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, point.x, point.y);
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        let public =
            wire::JsonWebKey { kty: "EC", usage: "sig", alg: "ES256", crv: "P-256", kid, x: point.x, y: point.y };
        let key = Self { encoding, decoding, public };
        // A key on another curve shows itself when it signs.
        key.sign(&()).map_err(|_| fault())?;
        Ok(key)
    }

    fn sign(&self, claims: &impl serde::Serialize) -> Result<String, Refusal> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.public.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.encoding).map_err(Refusal::internal)
    }
}

/// Signs and checks tokens.
pub(crate) struct Issuer {
    keys: SigningKeys,
}

impl Issuer {
    pub(crate) fn new(keys: SigningKeys) -> Self {
        Self { keys }
    }

    /// The public halves, for whoever wants to check tokens.
    pub(crate) fn keys(&self) -> wire::JsonWebKeySet {
        wire::JsonWebKeySet { keys: self.keys.all().iter().map(|key| key.public.clone()).collect() }
    }

    /// A signed token with these claims.
    pub(crate) fn sign(&self, claims: &impl serde::Serialize) -> Result<String, Refusal> {
        let keys = self.keys.all();
        let newest = keys.first().ok_or_else(|| Refusal::internal("there is no signing key"))?;
        newest.sign(claims)
    }

    /// The claims of a token that this issuer signed, for one of `audiences`, and that is good now.
    ///
    /// # Errors
    /// [`TokenFault`]. What a claim says comes into question only after the signature was found right.
    pub(crate) fn verify(
        &self,
        token: &str,
        issuer: &str,
        tenant: &str,
        audiences: &[String],
    ) -> Result<wire::Claims, TokenFault> {
        let kid = jwt::inspect(token).ok().flatten().ok_or(TokenFault::Forged)?;
        let keys = self.keys.all();
        let key = keys.iter().find(|key| key.public.kid == kid).ok_or(TokenFault::Forged)?;
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(audiences);
        validation.validate_nbf = true;
        validation.leeway = 0;
        let claims = jsonwebtoken::decode::<wire::Claims>(token, &key.decoding, &validation)
            .map_err(|error| TokenFault::of(&error))?;
        if claims.claims.tid == tenant { Ok(claims.claims) } else { Err(TokenFault::Tenant) }
    }
}

/// PKCS#8 in the armour of RFC 7468.
fn pem(der: &[u8]) -> SecretString {
    let body = STANDARD.encode(der);
    let mut text = String::with_capacity(body.len() + 80);
    text.push_str("-----BEGIN PRIVATE KEY-----\n");
    for at in (0..body.len()).step_by(64) {
        text.push_str(&body[at..body.len().min(at + 64)]);
        text.push('\n');
    }
    text.push_str("-----END PRIVATE KEY-----\n");
    SecretString::from(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::get_current_timestamp;
    use serde_json::{Value, json};

    const ISS: &str = "https://bastion.example/t1/v2.0";
    const AUD: &str = "https://management.azure.com";

    fn fresh() -> Issuer {
        of(&generate_signing_key())
    }

    fn of(pem: &SecretString) -> Issuer {
        Issuer::new(SigningKeys::new(pem, None).expect("a right key"))
    }

    fn public(issuer: &Issuer) -> wire::JsonWebKey {
        issuer.keys().keys.remove(0)
    }

    fn claims() -> Value {
        let now = get_current_timestamp();
        json!({
            "aud": AUD, "iss": ISS, "iat": now, "nbf": now - 300, "exp": now + 60, "appid": "c1", "appidacr": "1",
            "idtyp": "app", "oid": "o1", "sub": "o1", "tid": "t1", "uti": "u1", "ver": "1.0",
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().expect("claims are an object").remove(name);
        claims
    }

    fn check(issuer: &Issuer, token: &str) -> Result<String, TokenFault> {
        issuer.verify(token, ISS, "t1", &[AUD.to_owned(), format!("{AUD}/")]).map(|claims| claims.appid)
    }

    #[test]
    fn a_token_holds_until_a_claim_is_wrong() {
        let issuer = fresh();
        let now = get_current_timestamp();
        let judged = |claims: Value| check(&issuer, &issuer.sign(&claims).expect("signed"));
        assert_eq!(judged(claims()), Ok("c1".to_owned()));
        assert_eq!(judged(with("aud", json!("https://management.azure.com/"))), Ok("c1".to_owned()));
        for (claims, fault) in [
            (with("exp", json!(now - 1)), TokenFault::Expired),
            (with("nbf", json!(now + 60)), TokenFault::TooEarly),
            (with("aud", json!("https://graph.microsoft.com")), TokenFault::Audience),
            (with("aud", json!([AUD])), TokenFault::Forged),
            (with("aud", json!(7)), TokenFault::Forged),
            (with("iss", json!("https://sts.windows.net/t1/")), TokenFault::Tenant),
            (with("tid", json!("t2")), TokenFault::Tenant),
            (with("exp", json!("tomorrow")), TokenFault::Forged),
            (without("exp"), TokenFault::Forged),
            (without("nbf"), TokenFault::Forged),
            (without("aud"), TokenFault::Forged),
            (without("iss"), TokenFault::Forged),
            (without("tid"), TokenFault::Forged),
            (without("appid"), TokenFault::Forged),
        ] {
            assert_eq!(judged(claims.clone()), Err(fault), "{claims}");
        }
    }

    #[test]
    fn what_another_key_or_no_key_signed_is_forged() {
        let issuer = fresh();
        let forged = |token: &str| assert_eq!(check(&issuer, token), Err(TokenFault::Forged), "{token}");
        let good = issuer.sign(&claims()).expect("signed");
        let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };

        // Another key that claims to be this one.
        let other = generate_signing_key();
        forged(&of(&other).sign(&claims()).expect("signed"));
        let mut pretender = Key::new(&other).expect("a right key");
        pretender.public.kid = public(&issuer).kid;
        forged(&pretender.sign(&claims()).expect("signed"));

        // No signature, in the ways libraries have fallen for.
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let kid = &public(&issuer).kid;
        for alg in ["none", "None", "NONE"] {
            let header = part(&format!(r#"{{"alg":"{alg}","typ":"JWT","kid":"{kid}"}}"#));
            forged(&format!("{header}.{payload}."));
            forged(&format!("{header}.{payload}.{signature}"));
        }
        forged(&format!("{header}.{payload}."));

        // The public key used as a shared secret, in each form in which it is to be had.
        let raw = [&public(&issuer).x, &public(&issuer).y].map(|c| URL_SAFE_NO_PAD.decode(c).expect("base64")).concat();
        let jwk = serde_json::to_vec(&public(&issuer)).expect("JSON");
        for secret in [raw.clone(), [vec![4], raw].concat(), jwk] {
            let mut header = Header::new(Algorithm::HS256);
            header.kid = Some(kid.clone());
            let key = EncodingKey::from_secret(&secret);
            forged(&jsonwebtoken::encode(&header, &claims(), &key).expect("signed by HMAC"));
        }

        // Changed, cut short, blown up.
        let raised = part(&with("appid", json!("c2")).to_string());
        forged(&format!("{header}.{raised}.{signature}"));
        for cut in [1, 10, signature.len(), signature.len() + 1, good.len() - 1] {
            forged(&good[..good.len() - cut]);
        }
        forged(&format!("{good}{}", "A".repeat(100_000)));
        forged(&format!("{good}."));
        forged("");
    }

    #[test]
    fn only_a_key_on_the_right_curve_is_taken() {
        for wrong in ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "not a key"] {
            let fault = SigningKeys::new(&SecretString::from(wrong), None).err().expect("no key");
            assert_eq!(fault.key, "signing key");
        }
        let algorithm = &aws_lc_rs::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let other = EcdsaKeyPair::generate_pkcs8(algorithm, &aws_lc_rs::rand::SystemRandom::new()).expect("a key");
        assert!(SigningKeys::new(&pem(other.as_ref()), None).is_err());
    }

    #[test]
    fn the_published_key_checks_our_tokens() {
        let key = generate_signing_key();
        let issuer = of(&key);
        let jwk: Jwk = serde_json::from_value(serde_json::to_value(public(&issuer)).expect("JSON")).expect("a JWK");
        let stranger = DecodingKey::from_jwk(&jwk).expect("a key");
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUD]);
        let token = issuer.sign(&claims()).expect("signed");
        assert!(jsonwebtoken::decode::<Value>(&token, &stranger, &validation).is_ok());
        assert_eq!(public(&of(&key)).kid, public(&issuer).kid);
    }

    #[test]
    fn a_change_of_the_key_kills_no_token_and_a_second_one_does() {
        let keys = SigningKeys::new(&generate_signing_key(), None).expect("a right key");
        let issuer = Issuer::new(keys.clone());
        let first = issuer.sign(&claims()).expect("signed");
        keys.rotate(&generate_signing_key()).expect("a right key");
        let second = issuer.sign(&claims()).expect("signed");
        assert_eq!(issuer.keys().keys.len(), 2, "both are published");
        assert_eq!((check(&issuer, &first), check(&issuer, &second)), (Ok("c1".to_owned()), Ok("c1".to_owned())));
        keys.rotate(&generate_signing_key()).expect("a right key");
        assert_eq!((check(&issuer, &first), check(&issuer, &second)), (Err(TokenFault::Forged), Ok("c1".to_owned())));
        assert_eq!(issuer.keys().keys.len(), 2);
        keys.rotate(&SecretString::from("no key")).expect_err("no key");
        assert_eq!(check(&issuer, &second), Ok("c1".to_owned()));
    }
}
