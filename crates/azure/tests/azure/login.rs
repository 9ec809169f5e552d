//! The token endpoint, its documents, and tokens that must not be believed.

use crate::world::{HOST, TENANT, World, host_path, request};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{Method, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use ravelin_model::credential::CredentialKind;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

fn form(id: &str, secret: &str, scope: &str) -> String {
    let scope: String = form_urlencoded::byte_serialize(scope.as_bytes()).collect();
    format!("client_id={id}&client_secret={secret}&grant_type=client_credentials&client_info=1&scope={scope}")
}

fn claims_of(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("claims")
}

#[tokio::test]
async fn every_audience_that_clients_ask_for() {
    let world = World::with(|config| config.audiences = vec!["https://other.example".to_owned()]).await;
    let (id, secret) = world.credential("alice", CredentialKind::ClientSecret).await;
    for (path, scope, audience) in [
        (
            format!("/{TENANT}/oauth2/v2.0/token"),
            "https://management.azure.com/.default",
            "https://management.azure.com",
        ),
        (
            format!("/{}/oauth2/v2.0/token", TENANT.to_ascii_uppercase()),
            "https://management.core.windows.net//.default",
            "https://management.core.windows.net/",
        ),
        (
            format!("/{TENANT}/oauth2/v2.0/token?client-request-id=1"),
            "https://bastion.example:8443/.default",
            "https://bastion.example:8443",
        ),
        ("/adfs/oauth2/token".to_owned(), "https://bastion.example:8443//.default", "https://bastion.example:8443/"),
        ("//adfs//oauth2/token".to_owned(), "https://OTHER.example:443/.default openid", "https://other.example"),
    ] {
        let answer = world.send(request(Method::POST, &path, None, &form(&id, &secret, scope))).await;
        assert_eq!(answer.status, StatusCode::OK, "{scope}: {}", answer.body);
        assert_eq!(answer.body["token_type"], "Bearer");
        assert_eq!(answer.body["expires_in"], 3600);
        assert!(answer.header("cache-control").contains("no-store"));
        let token = answer.body["access_token"].as_str().expect("a token");
        let claims = claims_of(token);
        assert_eq!(claims["aud"], audience);
        assert_eq!((&claims["appid"], &claims["tid"]), (&json!(id), &json!(TENANT)));
        assert_eq!(claims["oid"], claims["sub"]);
        assert!(!claims.to_string().contains(&secret));
        assert_eq!(world.post(token, "/getActiveSessions", "").await.status, StatusCode::OK, "{scope}");
    }
    let older = format!(
        "client_id={id}&client_secret={secret}&grant_type=client_credentials&resource=https://management.azure.com/"
    );
    let answer = world.send(request(Method::POST, &format!("/{TENANT}/oauth2/token"), None, &older)).await;
    assert_eq!(answer.status, StatusCode::OK);

    let basic = STANDARD.encode(format!("{id}:{secret}"));
    let grant = "grant_type=client_credentials&scope=https%3A%2F%2Fmanagement.azure.com%2F.default";
    let mut by_header = request(Method::POST, &format!("/{TENANT}/oauth2/v2.0/token"), None, grant);
    by_header.headers_mut().insert("authorization", format!("Basic {basic}").parse().expect("a header"));
    assert_eq!(world.send(by_header).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_wrong_form_gets_an_oauth_error() {
    let world = World::new().await;
    let (id, secret) = world.credential("alice", CredentialKind::ClientSecret).await;
    let scope = "https://management.azure.com/.default";
    let unknown = "11111111-2222-4333-8444-555555555555";
    let token = format!("/{TENANT}/oauth2/v2.0/token");
    let cases: Vec<(&str, String, u16, &str, u64)> = vec![
        (&token, form(&id, "wrong", scope), 401, "invalid_client", 7_000_215),
        (&token, form(unknown, &secret, scope), 401, "invalid_client", 7_000_215),
        (&token, form("not-a-guid", &secret, scope), 400, "unauthorized_client", 700_016),
        (&token, form(&id, &secret, "https://graph.microsoft.com/.default"), 400, "invalid_resource", 500_011),
        (&token, form(&id, &secret, "openid"), 400, "invalid_scope", 1_002_012),
        (&token, String::new(), 400, "invalid_request", 900_144),
        (&token, "grant_type=password".to_owned(), 400, "unsupported_grant_type", 70_003),
        (&token, format!("grant_type=client_credentials&client_id={id}"), 401, "invalid_client", 7_000_216),
        (&token, "x".repeat(70_000), 413, "invalid_request", 9_002_313),
        ("/contoso/oauth2/v2.0/token", form(&id, &secret, scope), 400, "invalid_tenant", 90_002),
        ("/adfs/oauth2/authorize", String::new(), 404, "invalid_request", 9_002_313),
    ];
    for (path, body, status, error, code) in cases {
        let answer = world.send(request(Method::POST, path, None, &body)).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (status, &json!(error)), "{path} {}", answer.body);
        assert_eq!(answer.body["error_codes"], json!([code]));
        let description = answer.body["error_description"].as_str().expect("a description");
        assert!(description.starts_with(&format!("AADSTS{code}: ")), "{description}");
        assert!(description.contains(answer.body["trace_id"].as_str().expect("a trace id")));
        assert!(!answer.body.to_string().contains(&secret), "no secret comes back");
    }
    let answer = world.send(request(Method::GET, &token, None, "")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}

#[tokio::test]
async fn revoking_the_secret_cuts_its_tokens() {
    let world = World::new().await;
    let (id, secret) = world.credential("alice", CredentialKind::ClientSecret).await;
    let token = world.bearer_for(&id, &secret).await;
    assert_eq!(world.post(&token, "/getActiveSessions", "").await.status, StatusCode::OK);
    world.revoke(&id).await;
    let answer = world.post(&token, "/getActiveSessions", "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken"));
    let scope = "https://management.azure.com/.default";
    let answer = world.send(request(Method::POST, "/adfs/oauth2/token", None, &form(&id, &secret, scope))).await;
    assert_eq!(answer.body["error"], "invalid_client");
}

#[tokio::test]
async fn an_api_token_is_a_proof_here_too() {
    let world = World::new().await;
    let (_, token) = world.credential("alice", CredentialKind::Token).await;
    assert_eq!(world.post(&token, "/getActiveSessions", "").await.status, StatusCode::OK);
    let answer = world.post(&format!("{token}x"), "/getActiveSessions", "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "InvalidAuthenticationToken"));
}

#[tokio::test]
async fn hostile_tokens_are_refused() {
    let world = World::new().await;
    let good = world.bearer("alice").await;
    let claims = claims_of(&good);
    let header: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(good.split('.').next().expect("a header")).expect("base64url"))
            .expect("JSON");
    let key = EncodingKey::from_ec_pem(world.signing_key.expose_secret().as_bytes()).expect("the key");
    // Signed by the right key: only a claim is wrong.
    let minted = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        let mut ours = Header::new(Algorithm::ES256);
        ours.kid = header["kid"].as_str().map(str::to_owned);
        jsonwebtoken::encode(&ours, &claims, &key).expect("signed")
    };
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let none = format!("{}.{}.", part(&json!({ "alg": "none", "kid": header["kid"] })), part(&claims));
    let jwks = world.send(request(Method::GET, &format!("/{TENANT}/discovery/v2.0/keys"), None, "")).await.body;
    let mut confused = Header::new(Algorithm::HS256);
    confused.kid = header["kid"].as_str().map(str::to_owned);
    let public = EncodingKey::from_secret(jwks["keys"][0].to_string().as_bytes());
    let confused = jsonwebtoken::encode(&confused, &claims, &public).expect("signed by HMAC");
    let now = get_current_timestamp();
    let invalid = "InvalidAuthenticationToken";
    for (what, token, code) in [
        ("unsigned", none, invalid),
        ("public key as HMAC secret", confused, invalid),
        ("cut short", good[..good.len() - 5].to_owned(), invalid),
        ("100 kB", format!("{good}{}", "A".repeat(100_000)), invalid),
        ("not a token", "hello".to_owned(), invalid),
        ("expired", minted("exp", json!(now - 1)), "ExpiredAuthenticationToken"),
        ("not yet valid", minted("nbf", json!(now + 600)), invalid),
        ("other audience", minted("aud", json!("https://graph.microsoft.com")), "InvalidAuthenticationTokenAudience"),
        ("other issuer", minted("iss", json!("https://sts.windows.net/x/")), "InvalidAuthenticationTokenTenant"),
        (
            "other tenant",
            minted("tid", json!("7d0f2b6e-9f52-4c2e-8c0a-0a4b6a1f3c55")),
            "InvalidAuthenticationTokenTenant",
        ),
        ("unknown client", minted("appid", json!("11111111-2222-4333-8444-555555555555")), invalid),
    ] {
        let answer = world.post(&token, "/getActiveSessions", "").await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, code), "{what}");
        assert!(answer.header("www-authenticate").contains("invalid_token"), "{what}");
    }
    assert_eq!(world.post(&minted("x", json!(1)), "/getActiveSessions", "").await.status, StatusCode::OK);

    let other = World::new().await;
    let answer = other.post(&good, "/getActiveSessions", "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, invalid), "another deployment's token");

    for scheme in ["Basic eDp5", "Bearer", "Token x", ""] {
        let mut request = request(Method::POST, &host_path("/getActiveSessions?api-version=2024-05-01"), None, "");
        request.headers_mut().insert("authorization", scheme.parse().expect("a header"));
        let answer = world.send(request).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "AuthenticationFailedInvalidHeader"));
    }
}

#[tokio::test]
async fn documents_of_a_host_without_a_name_or_with_an_odd_one() {
    let world = World::new().await;
    let path = format!("/{TENANT}/v2.0/.well-known/openid-configuration");
    for host in ["a@b", "bad host", "/etc"] {
        let mut request = request(Method::GET, &path, None, "");
        request.headers_mut().insert("host", host.parse().expect("a header"));
        assert_eq!(world.send(request).await.status, StatusCode::BAD_REQUEST, "{host}");
    }
    let answer = world.send(request(Method::GET, "/metadata/endpoints", None, "")).await;
    assert_eq!(answer.code(), "MissingApiVersionParameter");
    let answer = world.send(request(Method::GET, "/elsewhere", None, "")).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "NotFound"));
    assert!(!ravelin_azure::owns_path("/elsewhere"));
    let answer = world.send(request(Method::GET, &path, None, "")).await;
    assert_eq!(answer.body["token_endpoint"], format!("https://{HOST}/{TENANT}/oauth2/v2.0/token"));
}
