//! Shareable links: who gives them out, what they show, and that they open nothing.

use crate::world::{HOST, SUBSCRIPTION, VERSION, World, host_path, named, request, rules_with};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use ravelin_azure::target_id;
use ravelin_engine::Rules;
use ravelin_engine::egress::Egress;
use ravelin_engine::testkit::PolicyFn;
use ravelin_model::audit::AuditKind;
use ravelin_model::policy::Question;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tower::ServiceExt;

fn vms(ids: &[&str]) -> String {
    let vms: Vec<Value> = ids.iter().map(|id| json!({ "vm": { "id": id } })).collect();
    json!({ "vms": vms }).to_string()
}

fn web() -> String {
    target_id(SUBSCRIPTION, "rg1", "web-1")
}

async fn page(world: &World, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).header("host", HOST).body(Body::empty()).expect("a request");
    let answer = world.router.clone().oneshot(request).await.expect("it answers");
    assert!(answer.headers()["content-security-policy"].to_str().expect("text").starts_with("default-src 'none'"));
    let status = answer.status();
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8(bytes.to_vec()).expect("text"))
}

#[tokio::test]
async fn a_link_is_given_out_shown_and_taken_back() {
    let world = World::with(|config| config.ssh_port = Some(2222)).await;
    let alice = world.bearer("alice").await;
    let body = vms(&[&web(), "/subscriptions/x/vm"]);
    let made = world.post(&alice, "/createShareableLinks", &body).await;
    assert_eq!(made.status, StatusCode::OK, "{}", made.body);
    let link = &made.body["value"][0];
    assert_eq!(link["vm"]["id"], web());
    assert!(link["createdAt"].as_str().is_some_and(|at| at.ends_with('Z')), "{link}");
    let bsl = link["bsl"].as_str().expect("a link").to_owned();
    let path = bsl.strip_prefix(&format!("https://{HOST}")).expect("absolute").to_owned();
    let missing = &made.body["value"][1];
    assert!(
        missing.get("bsl").is_none() && missing["message"].as_str().is_some_and(|m| m.contains("not found")),
        "{missing}"
    );
    // Once more is the same link.
    let again = world.post(&alice, "/createShareableLinks", &vms(&[&web().to_uppercase()])).await;
    assert_eq!(again.body["value"][0]["bsl"], bsl);

    let (status, text) = page(&world, &path).await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.contains("web-1") && text.contains("ssh -p 2222 YOU:web-1@bastion.example"), "{text}");
    assert!(text.contains("lets nobody in"), "{text}");
    assert_eq!(page(&world, "/api/shareable-url/guessed").await.0, StatusCode::NOT_FOUND);

    let all = world.post(&alice, "/getShareableLinks", "").await;
    assert_eq!(all.body["value"].as_array().map(Vec::len), Some(1), "{}", all.body);
    assert_eq!(world.post(&alice, "/getShareableLinks", &vms(&["/other"])).await.body, json!({ "value": [] }));
    // Who may see the target sees its links, and may neither make nor remove them; others see none.
    let bob = world.bearer("bob").await;
    assert_eq!(world.post(&bob, "/getShareableLinks", "").await.body["value"][0]["bsl"], bsl);
    let audrey = world.bearer("audrey").await;
    assert_eq!(world.post(&audrey, "/getShareableLinks", "").await.body, json!({ "value": [] }));
    let token = bsl.rsplit('/').next().expect("a token").to_owned();
    let by_token = json!({ "tokens": [token] }).to_string();
    for (rest, body) in [("/createShareableLinks", vms(&[&web()])), ("/deleteShareableLinks", vms(&[&web()]))] {
        let refused = world.post(&audrey, rest, &body).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "AuthorizationFailed"), "{rest}");
    }

    let gone = world.post(&alice, "/deleteShareableLinksByToken", &by_token).await;
    assert_eq!(gone.status, StatusCode::ACCEPTED, "the specification knows no other answer");
    let location = gone.header("location").strip_prefix(&format!("https://{HOST}")).expect("absolute").to_owned();
    let done = loop {
        let answer = world.ask(Method::GET, &alice, &location, "").await;
        if answer.status != StatusCode::ACCEPTED {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(done.status, StatusCode::OK);
    assert_eq!(page(&world, &path).await.0, StatusCode::NOT_FOUND);
    for _ in 0..2 {
        let again = world.post(&alice, "/deleteShareableLinksByToken", &by_token).await;
        assert_eq!(again.status, StatusCode::ACCEPTED, "the SDKs take nothing else, each time");
    }
    let events = world.events().await;
    for kind in [AuditKind::LinkCreated, AuditKind::LinkDeleted] {
        assert_eq!(events.iter().filter(|event| **event == kind).count(), 1, "{kind}");
    }

    world.post(&alice, "/createShareableLinks", &vms(&[&web()])).await;
    let gone = world.post(&alice, "/deleteShareableLinks", &vms(&[&web()])).await;
    assert_eq!((gone.status, gone.body.is_null()), (StatusCode::OK, true));
    assert_eq!(world.post(&alice, "/getShareableLinks", "{}").await.body, json!({ "value": [] }));
}

#[tokio::test]
async fn many_links_at_once_ask_the_policy_about_their_own_targets() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let names: Vec<String> = (0..100).map(|n| format!("app-{n}")).collect();
    let targets = names.iter().map(|name| named(name, "10.1.2.3", None)).collect();
    let policy = Arc::new(PolicyFn(move |_: &Question<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
        Some(true)
    }));
    let rules = Rules { policy, ..rules_with(targets, Egress::default()) };
    world.engine.reload(rules).await.expect("reloaded");
    asked.store(0, Ordering::SeqCst);
    let ids: Vec<String> = names.iter().map(|name| target_id(SUBSCRIPTION, "rg1", name)).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let made = world.post(&alice, "/createShareableLinks", &vms(&ids)).await;
    let links = made.body["value"].as_array().expect("a list");
    assert_eq!(links.iter().filter(|link| link["bsl"].is_string()).count(), 100, "{}", made.body);
    let asked = asked.load(Ordering::SeqCst);
    assert!(asked < 1000, "{asked} questions for a hundred links");
}

#[tokio::test]
async fn links_survive_a_restart_and_expire() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let made = world.post(&alice, "/createShareableLinks", &vms(&[&web()])).await;
    let bsl = made.body["value"][0]["bsl"].as_str().expect("a link").to_owned();
    let path = bsl.strip_prefix(&format!("https://{HOST}")).expect("absolute").to_owned();
    let world = world.restarted().await;
    assert_eq!(page(&world, &path).await.0, StatusCode::OK);

    let world = World::with(|config| config.link_life = Duration::from_micros(1)).await;
    let alice = world.bearer("alice").await;
    let made = world.post(&alice, "/createShareableLinks", &vms(&[&web()])).await;
    let bsl = made.body["value"][0]["bsl"].as_str().expect("a link").to_owned();
    let path = bsl.strip_prefix(&format!("https://{HOST}")).expect("absolute").to_owned();
    assert_eq!(page(&world, &path).await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.post(&alice, "/getShareableLinks", "").await.body, json!({ "value": [] }));
}

#[tokio::test]
async fn bad_bodies_name_the_field() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    for (rest, body, target) in [
        ("/createShareableLinks", "{}", Some("vms")),
        ("/createShareableLinks", r#"{"vms":[{"vm":{}}]}"#, Some("vms[0].vm.id")),
        ("/deleteShareableLinks", r#"{"vms":[]}"#, Some("vms")),
        ("/deleteShareableLinks", "[1]", Some("the content")),
        ("/getShareableLinks", r#"{"vms":7}"#, Some("vms")),
        ("/createShareableLinks", "{", None),
    ] {
        let answer = world.post(&alice, rest, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{rest} {body}: {}", answer.body);
        assert_eq!(answer.body["error"]["target"].as_str(), target, "{rest} {body}");
    }
    let path = format!("{}?api-version={VERSION}", host_path("/createShareableLinks"));
    let answer = world.send(request(Method::GET, &path, Some(&alice), "")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}
