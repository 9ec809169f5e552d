//! Bearer tokens of another issuer, which runs here on loopback: discovery, keys, their change, and every forgery.

use crate::world::World;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use ravelin_azure::OutsideIssuer;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// An issuer on a free port.
struct Issuer {
    url: String,
    keys: Arc<Mutex<Vec<Value>>>,
    fetches: Arc<AtomicUsize>,
}

struct Signer {
    key: EncodingKey,
    kid: &'static str,
    jwk: Value,
}

fn signer(kid: &'static str) -> Signer {
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pair.as_ref()));
    let key = EncodingKey::from_ec_pem(pem.as_bytes()).expect("a key");
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).expect("a JWK")).expect("JSON");
    jwk["kid"] = json!(kid);
    Signer { key, kid, jwk }
}

impl Signer {
    fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.to_owned());
        jsonwebtoken::encode(&header, claims, &self.key).expect("signed")
    }
}

impl Issuer {
    async fn start(keys: Vec<Value>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (keys, fetches) = (Arc::new(Mutex::new(keys)), Arc::new(AtomicUsize::new(0)));
        let (base, served, counted) = (url.clone(), Arc::clone(&keys), Arc::clone(&fetches));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = vec![0; 4096];
                let n = stream.read(&mut head).await.unwrap_or(0);
                let body = if head[..n].starts_with(b"GET /.well-known/openid-configuration ") {
                    json!({ "issuer": base, "jwks_uri": format!("{base}/keys"), "other": [1] })
                } else {
                    counted.fetch_add(1, Ordering::SeqCst);
                    json!({ "keys": *served.lock().expect("not poisoned") })
                };
                let body = body.to_string();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _gone = stream.write_all(format!("{head}{body}").as_bytes()).await;
            }
        });
        Self { url, keys, fetches }
    }

    fn trusted(&self) -> OutsideIssuer {
        OutsideIssuer {
            issuer: self.url.clone(),
            audiences: vec!["api://ravelin".to_owned()],
            jwks_url: None,
            claim: "upn".to_owned(),
            principals: BTreeMap::from([("alice@example.org".to_owned(), "alice".to_owned())]),
        }
    }

    fn claims(&self) -> Value {
        let now = get_current_timestamp();
        json!({ "iss": self.url, "aud": "api://ravelin", "exp": now + 600, "nbf": now, "upn": "alice@example.org" })
    }

    fn with(&self, name: &str, value: Value) -> Value {
        let mut claims = self.claims();
        claims[name] = value;
        claims
    }
}

async fn judged(world: &World, token: &str) -> (StatusCode, String) {
    let answer = world.post(token, "/getActiveSessions", "").await;
    (answer.status, answer.code().to_owned())
}

#[tokio::test]
async fn a_trusted_issuers_token_is_its_principal_until_a_claim_is_wrong() {
    let key = signer("k1");
    // Keys that nobody here can use do not spoil the set.
    let odd = json!({ "kty": "XYZ", "kid": "odd" });
    let issuer = Issuer::start(vec![odd, key.jwk.clone()]).await;
    let world = World::with(|config| config.outside_issuers = vec![issuer.trusted()]).await;
    assert_eq!(judged(&world, &key.sign(&issuer.claims())).await.0, StatusCode::OK);
    let listed = key.sign(&issuer.with("aud", json!(["other", "api://ravelin"])));
    assert_eq!(judged(&world, &listed).await.0, StatusCode::OK);
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1, "the keys are kept");
    let now = get_current_timestamp();
    for (claims, code) in [
        (issuer.with("exp", json!(now - 120)), "ExpiredAuthenticationToken"),
        (issuer.with("nbf", json!(now + 120)), "InvalidAuthenticationToken"),
        (issuer.with("aud", json!("https://graph.microsoft.com")), "InvalidAuthenticationTokenAudience"),
        (issuer.with("upn", json!("mallory@example.org")), "InvalidAuthenticationToken"),
        (issuer.with("upn", json!("alice")), "InvalidAuthenticationToken"),
        (issuer.with("upn", json!(null)), "InvalidAuthenticationToken"),
        (issuer.with("iss", json!("https://elsewhere.example")), "InvalidAuthenticationToken"),
        (issuer.with("exp", json!("tomorrow")), "InvalidAuthenticationToken"),
        (issuer.with("exp", json!(null)), "InvalidAuthenticationToken"),
    ] {
        let token = key.sign(&claims);
        assert_eq!(judged(&world, &token).await, (StatusCode::UNAUTHORIZED, code.to_owned()), "{claims}");
    }
    // The token endpoint's own tokens go on beside it.
    assert_eq!(judged(&world, &world.bearer("alice").await).await.0, StatusCode::OK);
}

#[tokio::test]
async fn what_the_issuer_did_not_sign_is_refused() {
    let key = signer("k1");
    let issuer = Issuer::start(vec![key.jwk.clone()]).await;
    let world = World::with(|config| config.outside_issuers = vec![issuer.trusted()]).await;
    let good = key.sign(&issuer.claims());
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let mut forged = vec![format!("{header}.{payload}."), signer("k1").sign(&issuer.claims())];
    for alg in ["none", "None", "HS256", "ES256K"] {
        let header = part(&format!(r#"{{"alg":"{alg}","kid":"k1"}}"#));
        forged.extend([format!("{header}.{payload}."), format!("{header}.{payload}.{signature}")]);
    }
    // The published key taken for a shared secret, in the forms in which it is to be had.
    let coordinates = ["x", "y"].map(|c| URL_SAFE_NO_PAD.decode(key.jwk[c].as_str().expect("text")).expect("base64"));
    let raw = coordinates.concat();
    for secret in [raw.clone(), [vec![4], raw].concat(), key.jwk.to_string().into_bytes()] {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        forged.push(jsonwebtoken::encode(&header, &issuer.claims(), &EncodingKey::from_secret(&secret)).expect("made"));
    }
    let raised = part(&issuer.with("upn", json!("bob@example.org")).to_string());
    forged.push(format!("{header}.{raised}.{signature}"));
    for token in forged {
        assert_eq!(judged(&world, &token).await.0, StatusCode::UNAUTHORIZED, "{token}");
    }
    assert_eq!(judged(&world, &good).await.0, StatusCode::OK);
    // A secret in the issuer's own list makes no other kind of token good.
    let secret = json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(b"secret"), "kid": "s1", "alg": "HS256" });
    let issuer = Issuer::start(vec![secret]).await;
    let world = World::with(|config| config.outside_issuers = vec![issuer.trusted()]).await;
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("s1".to_owned());
    let token = jsonwebtoken::encode(&header, &issuer.claims(), &EncodingKey::from_secret(b"secret")).expect("made");
    assert_eq!(judged(&world, &token).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn keys_change_and_strangers_cannot_make_us_fetch_without_end() {
    let (old, new) = (signer("k1"), signer("k2"));
    let issuer = Issuer::start(vec![old.jwk.clone(), new.jwk.clone()]).await;
    let world = World::with(|config| config.outside_issuers = vec![issuer.trusted()]).await;
    assert_eq!(judged(&world, &old.sign(&issuer.claims())).await.0, StatusCode::OK);
    assert_eq!(judged(&world, &new.sign(&issuer.claims())).await.0, StatusCode::OK, "both in the time of overlap");
    let stranger = signer("k9");
    for _ in 0..20 {
        assert_eq!(judged(&world, &stranger.sign(&issuer.claims())).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
    issuer.keys.lock().expect("not poisoned").clear();
    assert_eq!(judged(&world, &new.sign(&issuer.claims())).await.0, StatusCode::OK, "kept for an hour");
    // An issuer that cannot be asked is our trouble and not the caller's.
    let gone = OutsideIssuer { issuer: "http://127.0.0.1:1".to_owned(), ..issuer.trusted() };
    let world = World::with(|config| config.outside_issuers = vec![gone]).await;
    let token = new.sign(&issuer.with("iss", json!("http://127.0.0.1:1")));
    assert_eq!(judged(&world, &token).await, (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable".to_owned()));
}
