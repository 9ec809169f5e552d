//! Signature Version 4 against AWS's own signer: what it signs is accepted, and no byte of it may change.

use crate::world::{HOST, Key, World, minutes, request, signed, signed_for};
use aws_sigv4::http_request::{PayloadChecksumKind, SignatureLocation, SigningSettings};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use proptest::prelude::*;
use ravelin_aws::proto::sigv4::{self, Claim, Fault, Terms};
use ravelin_model::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn key() -> Key {
    Key { id: "AKIDEXAMPLE".to_owned(), secret: SECRET.to_owned(), session_token: None }
}

fn read(request: &Request<Vec<u8>>) -> Result<Claim, Fault> {
    let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    Claim::read(&sigv4::Request {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or(""),
        headers: &headers,
    })
}

fn verify(request: &Request<Vec<u8>>, at: SystemTime, service: &str) -> Result<(), Fault> {
    let claim = read(request)?;
    let micros = at.duration_since(UNIX_EPOCH).expect("after 1970").as_micros();
    let now = Time::from_micros(i64::try_from(micros).expect("a time of this era"));
    claim.check(now, &Terms { service, regions: None, skew_max: minutes(5) })?;
    let digest = sigv4::body_sha256(request.body());
    claim.check_body(&digest)?;
    // Another key has another secret.
    if claim.key_id() == key().id && claim.signature(SECRET, &digest) == claim.presented() {
        Ok(())
    } else {
        Err(Fault::Refused("mismatch".to_owned()))
    }
}

/// Every byte of `text` replaced by every one of `by` that differs.
fn mutations<'a>(text: &'a str, by: &'a [u8]) -> impl Iterator<Item = String> + 'a {
    (0..text.len()).flat_map(move |at| {
        by.iter().filter(move |b| **b != text.as_bytes()[at]).map(move |b| {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = *b;
            String::from_utf8(bytes).expect("ASCII stays ASCII")
        })
    })
}

#[test]
fn no_single_byte_of_a_signed_request_may_change() {
    let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let key = Key { session_token: Some("FwoGZXIvYXdzEBc/+a==".to_owned()), ..key() };
    let good = signed(&key, &request("DescribeSessions", r#"{"State":"Active"}"#), at);
    assert_eq!(verify(&good, at, "ssm"), Ok(()));
    let alphabet = b"0aAfzZ9./:;-_ ";
    let mut tried = 0;
    let mut refused = |what: &str, changed: Request<Vec<u8>>| {
        tried += 1;
        assert!(verify(&changed, at, "ssm").is_err(), "{what}: {changed:?}");
    };
    for method in mutations("POST", b"GAUTHP") {
        let mut changed = good.clone();
        *changed.method_mut() = Method::from_bytes(method.as_bytes()).expect("a method");
        refused("method", changed);
    }
    for name in ["x-amz-target", "host", "x-amz-date", "content-type", "x-amz-security-token", "authorization"] {
        let value = good.headers()[name].to_str().expect("ASCII").to_owned();
        for value in mutations(&value, alphabet) {
            // Blanks at an end, beside a blank or after a comma are no part of the value.
            let same = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            if same(&value) == same(good.headers()[name].to_str().expect("ASCII")) {
                continue;
            }
            let mut changed = good.clone();
            changed.headers_mut().insert(name, HeaderValue::from_str(&value).expect("a value"));
            refused(name, changed);
        }
    }
    for at in 0..good.body().len() {
        for by in 0..=u8::MAX {
            if good.body()[at] != by {
                let mut changed = good.clone();
                changed.body_mut()[at] = by;
                refused("body", changed);
            }
        }
    }
    for uri in ["/a", "/?a=b", "/?X-Amz-Signature=00"] {
        let mut changed = good.clone();
        *changed.uri_mut() = uri.parse().expect("a path");
        refused("uri", changed);
    }
    for name in ["x-amz-date", "host", "content-type", "x-amz-target", "x-amz-security-token", "authorization"] {
        let mut changed = good.clone();
        changed.headers_mut().remove(name);
        refused("header taken away", changed);
        let mut changed = good.clone();
        let value = changed.headers()[name].clone();
        changed.headers_mut().append(name, value);
        refused("header doubled", changed);
    }
    let mut changed = good.clone();
    changed.headers_mut().insert("x-amz-new", HeaderValue::from_static("1"));
    refused("an unsigned header of AWS's own", changed);
    assert!(tried > 5_000, "{tried}");
}

#[test]
fn headers_that_proxies_add_do_not_matter() {
    let at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let mut good = signed(&key(), &request("DescribeSessions", "{}"), at);
    for name in ["x-amzn-trace-id", "x-forwarded-for", "amz-sdk-invocation-id", "via"] {
        good.headers_mut().insert(HeaderName::from_static(name), HeaderValue::from_static("anything"));
    }
    assert_eq!(verify(&good, at, "ssm"), Ok(()));
}

fn header_value() -> impl Strategy<Value = String> {
    "[!-~]([ -~]{0,20}[!-~])?"
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_the_signer_signs_is_accepted(
        method in prop::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH"]),
        path in "(/([A-Za-z0-9._~@:=$-]|%20|%2F|%E1%88%B4){0,6}){1,4}",
        query in prop::option::of("(([a-zA-Z0-9._~-]|%20|%3D|%26){1,5}=([a-zA-Z0-9._~:/-]|%20|%2B){0,5}&){0,4}q"),
        extra in prop::collection::vec(("(x-amz-[a-z]{1,6}|my-[a-z]{1,6})", header_value()), 0..4),
        body in prop::collection::vec(any::<u8>(), 0..200),
        seconds in 0_u64..4_000_000_000,
        drift in -299_i64..=299,
        presign in any::<bool>(),
        checksum in any::<bool>(),
        session_token in prop::option::of("[A-Za-z0-9+/=._~%& -]{0,60}[A-Za-z0-9+/=._~%&-]"),
    ) {
        let at = UNIX_EPOCH + Duration::from_secs(seconds + 1_000);
        let uri = query.map_or(path.clone(), |query| format!("{path}?{query}"));
        let mut builder = Request::builder().method(method).uri(format!("http://{HOST}{uri}")).header("host", HOST);
        for (name, value) in &extra {
            // These have a meaning of their own.
            if !["x-amz-date", "x-amz-target", "x-amz-algorithm"].contains(&name.as_str()) {
                builder = builder.header(name, value);
            }
        }
        let request = builder.body(body).expect("a request");
        let mut settings = SigningSettings::default();
        if presign {
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(minutes(10));
        } else if checksum {
            settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        }
        // Blanks in a header's value are not told apart by their number, so none stands at its begin or beside another.
        let token = session_token.map(|text| text.split_ascii_whitespace().collect::<Vec<_>>().join(" "));
        let key = Key { session_token: token.clone(), ..key() };
        let request = signed_for(&key, &request, at, "us-east-1", "service", settings);
        let now = at.checked_add_signed(drift);
        prop_assert_eq!(verify(&request, now, "service"), Ok(()));
        let claim = read(&request).expect("it was just verified");
        prop_assert_eq!(claim.session_token(), token.as_deref().map(str::as_bytes));
        if let Some(token) = token.filter(|token| token.len() > 20) {
            let shown = format!("{claim:?} {}", claim.canonical_for_log());
            prop_assert!(!shown.contains(&token) && !shown.contains(&token.replace('=', "%3D")), "{}", shown);
            prop_assert_eq!(shown.matches("(hidden)").count(), 1);
        }
    }

    #[test]
    fn no_bytes_make_the_readers_panic(
        authorization in any::<Vec<u8>>(),
        text in "\\PC{0,200}",
        date in "\\PC{0,20}",
        query in "\\PC{0,100}",
        path in "\\PC{0,100}",
    ) {
        let _ = sigv4::parse_authorization(&text);
        let _ = sigv4::parse_authorization(&format!("{} {text}", sigv4::ALGORITHM));
        let _ = (sigv4::canonical_path(&path), sigv4::canonical_query(&query), sigv4::canonical_value(&authorization));
        let headers: [(&str, &[u8]); 3] =
            [("authorization", &authorization), ("x-amz-date", date.as_bytes()), ("host", b"h")];
        for headers in [&headers[..], &headers[1..]] {
            for query in [query.clone(), format!("X-Amz-Signature={query}")] {
                let _ = Claim::read(&sigv4::Request { method: "POST", path: &path, query: &query, headers });
            }
        }
    }
}

trait Drift {
    fn checked_add_signed(self, seconds: i64) -> SystemTime;
}

impl Drift for SystemTime {
    fn checked_add_signed(self, seconds: i64) -> SystemTime {
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { self - by } else { self + by }
    }
}

async fn answered(world: &World, request: Request<Vec<u8>>) -> (StatusCode, String, String) {
    let answer = world.send(request).await;
    let (code, text) = answer.fault();
    assert_eq!(answer.headers["x-amzn-errortype"].to_str().expect("ASCII"), code);
    (answer.status, code, text)
}

#[tokio::test]
async fn each_wrong_proof_has_its_own_code() {
    let world =
        World::with(|config| ravelin_aws::Config { regions: Some(vec!["eu-west-1".to_owned()]), ..config }, 1).await;
    let (alice, now) = (world.key("alice"), SystemTime::now());
    let plain = request("DescribeSessions", r#"{"State":"Active"}"#);
    let sign = |at, region, service| signed_for(&alice, &plain, at, region, service, SigningSettings::default());
    let with = |name: &'static str, value: &'static str| {
        let mut plain = plain.clone();
        plain.headers_mut().insert(name, HeaderValue::from_static(value));
        plain
    };
    let token = |key: &Key, token: Option<&str>| Key { session_token: token.map(str::to_owned), ..key.clone() };
    let hour = world.engine.control.now().await.expect("a time").plus(minutes(60));
    let temporary = world.temporary("alice", hour).await;
    let others = world.temporary("bob", hour).await.session_token.expect("a token");
    let expired = world.temporary("alice", Time::EPOCH).await;
    let expired_liar = Key { secret: "x".repeat(40), ..expired.clone() };
    let mut unsigned_token = signed(&temporary, &plain, now);
    unsigned_token.headers_mut().remove("x-amz-security-token");
    let mut added_token = signed(&alice, &plain, now);
    added_token.headers_mut().insert("x-amz-security-token", HeaderValue::from_static("token"));
    let wrong_body = with("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    let stranger = Key { id: "AKIDEXAMPLE".to_owned(), ..alice.clone() };
    let liar = Key { secret: "x".repeat(40), ..alice.clone() };
    let cases = [
        (plain.clone(), "MissingAuthenticationTokenException", "missing Authentication Token"),
        (with("authorization", "Bearer rvl_x"), "IncompleteSignatureException", "'Bearer'"),
        (with("authorization", "AWS4-HMAC-SHA256 Credential=a"), "IncompleteSignatureException", "'SignedHeaders'"),
        (sign(now - minutes(6), "eu-west-1", "ssm"), "InvalidSignatureException", "Signature expired: "),
        (sign(now + minutes(6), "eu-west-1", "ssm"), "InvalidSignatureException", "Signature not yet current: "),
        (sign(now, "eu-west-1", "ssmmessages"), "InvalidSignatureException", "correct service: 'ssm'"),
        (sign(now, "mars-1", "ssm"), "InvalidSignatureException", "valid region, not 'mars-1'"),
        (signed(&stranger, &plain, now), "UnrecognizedClientException", "security token included"),
        (signed(&liar, &plain, now), "InvalidSignatureException", "does not match the signature you provided"),
        (signed(&token(&alice, Some("token")), &plain, now), "UnrecognizedClientException", "unset AWS_SESSION_TOKEN"),
        (signed(&token(&temporary, None), &plain, now), "UnrecognizedClientException", "set AWS_SESSION_TOKEN to"),
        (signed(&token(&temporary, Some("token")), &plain, now), "UnrecognizedClientException", "is not the one"),
        (signed(&token(&temporary, Some(&others)), &plain, now), "UnrecognizedClientException", "is not the one"),
        (unsigned_token, "InvalidSignatureException", "'x-amz-security-token' is not in the request"),
        (added_token, "InvalidSignatureException", "'x-amz-security-token' must be a 'SignedHeader'"),
        (signed(&expired, &plain, now), "ExpiredTokenException", "is expired"),
        (signed(&expired_liar, &plain, now), "InvalidSignatureException", "does not match the signature you provided"),
        (signed(&alice, &wrong_body, now), "InvalidSignatureException", "x-amz-content-sha256"),
    ];
    for (request, code, text) in cases {
        let (status, got, message) = answered(&world, request).await;
        assert_eq!((status, got.as_str()), (StatusCode::BAD_REQUEST, code), "{message}");
        assert!(message.contains(text), "{text} is not in {message}");
    }
    // The same faults come before anything else about the request is looked at.
    let nonsense = request("Nonsense", "not JSON");
    let (_, code, _) = answered(&world, nonsense.clone()).await;
    assert_eq!(code, "MissingAuthenticationTokenException");
    let (_, code, _) = answered(&world, signed(&liar, &nonsense, now)).await;
    assert_eq!(code, "InvalidSignatureException");
}

#[tokio::test]
async fn temporary_keys_work_with_their_token_and_until_they_are_revoked() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    let hour = world.engine.control.now().await.expect("a time").plus(minutes(60));
    let key = world.temporary("bob", hour).await;
    let plain = request("DescribeSessions", r#"{"State":"Active"}"#);
    let mut presigned = SigningSettings::default();
    presigned.signature_location = SignatureLocation::QueryParams;
    presigned.expires_in = Some(minutes(1));
    let both = || {
        let mut query = plain.clone();
        *query.uri_mut() = format!("http://{HOST}/").parse().expect("a URI");
        let mut query = signed_for(&key, &query, SystemTime::now(), "eu-west-1", "ssm", presigned.clone());
        *query.uri_mut() = query.uri().path_and_query().expect("a path").as_str().parse().expect("a path");
        assert!(query.uri().query().is_some_and(|query| query.contains("X-Amz-Security-Token=RVLS")));
        [signed(&key, &plain, SystemTime::now()), query]
    };
    for request in both() {
        world.send(request).await.ok();
    }
    // The token stands in one place, and the signature covers it there.
    let [mut header, mut query] = both();
    let token = HeaderValue::from_str(key.session_token.as_deref().expect("a token")).expect("a value");
    query.headers_mut().insert("x-amz-security-token", token);
    assert_eq!(world.send(query).await.fault().0, "IncompleteSignatureException");
    header.headers_mut().insert("x-amz-security-token", HeaderValue::from_static("RVLSother"));
    assert_eq!(world.send(header).await.fault().0, "UnrecognizedClientException");
    let id = ravelin_model::CredentialId::parse(&key.id).expect("a key's id");
    world.engine.control.revoke_credential(&alice, &id).await.expect("revoked");
    for request in both() {
        let (code, text) = world.send(request).await.fault();
        assert_eq!(
            (code.as_str(), text.as_str()),
            ("UnrecognizedClientException", "The security token included in the request is invalid.")
        );
    }
}

#[tokio::test]
async fn a_revoked_key_is_an_unknown_key() {
    let world = World::new().await;
    let alice = world.caller("alice").await;
    assert_eq!(world.call("bob", "DescribeSessions", r#"{"State":"Active"}"#).await.status, StatusCode::OK);
    let id = ravelin_model::CredentialId::parse(&world.key("bob").id).expect("a key's id");
    world.engine.control.revoke_credential(&alice, &id).await.expect("revoked");
    let answer = world.call("bob", "DescribeSessions", r#"{"State":"Active"}"#).await;
    assert_eq!(answer.fault().0, "UnrecognizedClientException");
}

#[tokio::test]
async fn presigned_requests_are_good_until_they_expire() {
    let world = World::new().await;
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(minutes(60));
    let plain = request("DescribeSessions", r#"{"State":"Active"}"#);
    let presign = |at| {
        let mut plain = plain.clone();
        *plain.uri_mut() = format!("http://{HOST}/").parse().expect("a URI");
        let mut request = signed_for(&world.key("alice"), &plain, at, "eu-west-1", "ssm", settings.clone());
        *request.uri_mut() = request.uri().path_and_query().expect("a path").as_str().parse().expect("a path");
        request
    };
    let now = SystemTime::now();
    assert_eq!(world.send(presign(now - minutes(50))).await.status, StatusCode::OK);
    let (code, text) = world.send(presign(now - minutes(70))).await.fault();
    assert_eq!(code, "InvalidSignatureException");
    assert!(text.starts_with("Signature expired: "), "{text}");
    let mut unsigned_target = presign(now);
    unsigned_target.headers_mut().insert("x-amz-target", HeaderValue::from_static("AmazonSSM.TerminateSession"));
    assert_eq!(world.send(unsigned_target).await.fault().0, "InvalidSignatureException");
}
