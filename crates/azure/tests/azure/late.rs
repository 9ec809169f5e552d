//! Answers that come later: who may fetch them, for how long, and what a restart and a repeated request do.

use crate::world::{Answer, HOST, SUBSCRIPTION, VERSION, World, host_path};
use http::{Method, StatusCode};
use ravelin_engine::testkit::FakeLeg;
use serde_json::json;
use std::time::Duration;

/// Where to come again: the answer, and how far it is. Both without scheme and host.
pub(crate) fn places(answer: &Answer) -> (String, String) {
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    assert!(answer.body.is_null(), "nothing in it");
    assert_eq!(answer.header("retry-after"), "1", "whole seconds");
    assert_eq!(answer.header("azure-asyncnotification"), "Enabled");
    assert!(!answer.header("x-ms-arm-service-request-id").is_empty());
    let place = |name: &str| {
        let url = answer.header(name);
        url.strip_prefix(&format!("https://{HOST}")).unwrap_or_else(|| panic!("absolute: {name} {url}")).to_owned()
    };
    (place("location"), place("azure-asyncoperation"))
}

/// Polls as clients do, until the answer is there.
pub(crate) async fn fetch(world: &World, bearer: &str, path: &str) -> Answer {
    for _ in 0..1000 {
        let answer = world.ask(Method::GET, bearer, path, "").await;
        if answer.status != StatusCode::ACCEPTED {
            return answer;
        }
        places(&answer);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{path} does not come");
}

#[tokio::test]
async fn who_prefers_it_is_told_to_come_later() {
    let world = World::new().await;
    let session = world.open("bob", "vm01", FakeLeg::new()).await;
    let alice = world.bearer("alice").await;
    let (location, status) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    assert!(location.contains("/locations/local/operationResults/"), "{location}");
    let list = fetch(&world, &alice, &location).await;
    assert_eq!(list.status, StatusCode::OK);
    assert_eq!(list.body["value"][0]["sessionId"], session.session().as_str());
    assert!(list.headers.get("location").is_none() && list.headers.get("azure-asyncoperation").is_none());
    let done = world.ask(Method::GET, &alice, &status, "").await;
    assert_eq!((done.status, done.body["status"].as_str()), (StatusCode::OK, Some("Succeeded")));
    assert_eq!(fetch(&world, &alice, &location).await.body, list.body, "as often as one likes");
    // Another client of the same person, but nobody else, not even one who may see all that is in it.
    assert_eq!(fetch(&world, &world.bearer("alice").await, &location).await.status, StatusCode::OK);
    for other in ["audrey", "bob"] {
        let bearer = world.bearer(other).await;
        for path in [&location, &status] {
            let answer = world.ask(Method::GET, &bearer, path, "").await;
            assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "OperationNotFound"), "{other}");
        }
    }
    // A disconnect too, for who asks for it; by itself it is never late.
    let body = json!([session.session().as_str()]).to_string();
    let (location, _) = places(&world.post_later(&alice, "/disconnectActiveSessions", &body).await);
    assert_eq!(fetch(&world, &alice, &location).await.body["value"][0]["state"], "Disconnected");
}

#[tokio::test]
async fn a_repeated_request_gets_its_answer() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let (_, status) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    loop {
        let progress = world.ask(Method::GET, &alice, &status, "").await;
        if progress.body["status"] == "Succeeded" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // As the article does it: the same request again.
    let session = world.open("bob", "vm01", FakeLeg::new()).await;
    let again = world.post_later(&alice, "/getActiveSessions", "").await;
    assert_eq!((again.status, &again.body["value"]), (StatusCode::OK, &json!([])));
    // The next one begins anew, and so does one for something else.
    let (location, _) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    assert_eq!(fetch(&world, &alice, &location).await.body["value"][0]["sessionId"], session.session().as_str());
    // What was fetched is not given again: what follows is how it is then.
    drop(session);
    let gone = async {
        while world.post_later(&alice, "/getActiveSessions", "").await.body["value"] != json!([]) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the list is as it is");
    assert_eq!(world.post(&world.bearer("bob").await, "/getActiveSessions", "").await.status, StatusCode::OK);
}

/// Waits as a client does that looks at the operation and never at its answer.
async fn succeeds(world: &World, bearer: &str, status: &str) {
    while world.ask(Method::GET, bearer, status, "").await.body["status"] != "Succeeded" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_change_that_is_asked_for_again_is_made_again() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let host = format!("{}?api-version={VERSION}", host_path(""));
    let later = async |team: &str| {
        let body = json!({ "tags": { "team": team } }).to_string();
        let mut request = crate::world::request(Method::PATCH, &host, Some(&alice), &body);
        request.headers_mut().insert("prefer", http::HeaderValue::from_static("respond-async"));
        world.send(request).await
    };
    let team = async || world.ask(Method::GET, &alice, &host, "").await.body["tags"]["team"].clone();
    for name in ["sea", "air"] {
        let (_, status) = places(&later(name).await);
        succeeds(&world, &alice, &status).await;
        assert_eq!(team().await, name);
    }
    // In the place of what came in between, although nobody has read what came of the first one.
    let again = later("sea").await;
    assert_eq!((again.status, &again.body["tags"]["team"]), (StatusCode::OK, &json!("sea")));
    assert_eq!(team().await, "sea");

    let vms =
        json!({ "vms": [{ "vm": { "id": ravelin_azure::target_id(SUBSCRIPTION, "rg1", "web-1") } }] }).to_string();
    let (_, status) = places(&world.post_later(&alice, "/createShareableLinks", &vms).await);
    succeeds(&world, &alice, &status).await;
    let shown = async || world.post(&alice, "/getShareableLinks", "").await.body["value"][0]["bsl"].clone();
    let first = shown().await;
    assert_eq!(world.post(&alice, "/deleteShareableLinks", &vms).await.status, StatusCode::OK);
    let second = world.post(&alice, "/createShareableLinks", &vms).await.body["value"][0]["bsl"].clone();
    assert_eq!(second, shown().await, "not the one that is gone");
    assert_ne!(second, first);
}

#[tokio::test]
async fn links_in_an_answer_are_on_the_name_that_its_request_used() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let (_, status) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    succeeds(&world, &alice, &status).await;
    // The same caller asks the same, by another name.
    let path = format!("{}?api-version={VERSION}", host_path("/getActiveSessions"));
    let mut request = crate::world::request(Method::POST, &path, Some(&alice), "");
    request.headers_mut().insert("host", http::HeaderValue::from_static("other.example"));
    request.headers_mut().insert("prefer", http::HeaderValue::from_static("respond-async"));
    let answer = world.send(request).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "a question of its own");
    assert!(answer.header("location").starts_with("https://other.example/"), "{}", answer.header("location"));
}

#[tokio::test]
async fn a_put_is_answered_at_once_whatever_is_preferred() {
    let world = World::with(|config| config.respond_within = Duration::ZERO).await;
    let alice = world.bearer("alice").await;
    let host = format!("{}?api-version={VERSION}", host_path(""));
    let mut request = crate::world::request(Method::PUT, &host, Some(&alice), "{}");
    request.headers_mut().insert("prefer", http::HeaderValue::from_static("respond-async"));
    assert_eq!(world.send(request).await.status, StatusCode::OK, "clients take nothing else of a PUT");
}

#[tokio::test]
async fn an_answer_that_takes_too_long_comes_later() {
    let world = World::with(|config| config.respond_within = Duration::ZERO).await;
    let alice = world.bearer("alice").await;
    let first = world.post(&alice, "/getActiveSessions", "").await;
    let (location, _) = places(&first);
    assert_eq!(fetch(&world, &alice, &location).await.body, json!({ "value": [] }));
    let again = world.post(&alice, "/getActiveSessions", "").await;
    assert_eq!((again.status, again.body), (StatusCode::OK, json!({ "value": [] })));
    // What the specification knows no 202 of has none.
    let answer = world.post(&alice, "/disconnectActiveSessions", "[]").await;
    assert_eq!(answer.status, StatusCode::OK);
    let host = world.ask(Method::GET, &alice, &format!("{}?api-version={VERSION}", host_path("")), "").await;
    assert_eq!(host.status, StatusCode::OK);
}

#[tokio::test]
async fn a_refusal_comes_later_as_itself() {
    let world = World::new().await;
    let eve = world.bearer("eve").await;
    // She may not even look for an answer; alice may, and asks for what cannot be.
    let (location, _) = places(&world.post_later(&eve, "/getActiveSessions", "").await);
    assert_eq!(fetch(&world, &eve, &location).await.status, StatusCode::FORBIDDEN);
    let alice = world.bearer("alice").await;
    let (location, status) = places(&world.post_later(&alice, "/disconnectActiveSessions", "{").await);
    let answer = fetch(&world, &alice, &location).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, "InvalidRequestContent"));
    let done = world.ask(Method::GET, &alice, &status, "").await;
    assert_eq!(done.body["status"], "Failed");
    assert_eq!(done.body["error"]["code"], "InvalidRequestContent");
}

#[tokio::test]
async fn answers_survive_a_restart_and_what_it_took_away_is_told() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let (location, status) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    fetch(&world, &alice, &location).await;
    world.leave_begun("alice", "half").await;
    let world = world.restarted().await;
    assert_eq!(fetch(&world, &alice, &location).await.body, json!({ "value": [] }));
    assert_eq!(world.ask(Method::GET, &alice, &status, "").await.body["status"], "Succeeded");
    let place = |kind: &str| {
        let base = format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/locations/local");
        format!("{base}/{kind}/half?api-version={VERSION}")
    };
    let lost = world.ask(Method::GET, &alice, &place("operationResults"), "").await;
    assert_eq!((lost.status, lost.code()), (StatusCode::CONFLICT, "OperationInterrupted"));
    let lost = world.ask(Method::GET, &alice, &place("operations"), "").await;
    assert_eq!((lost.status, &lost.body["status"]), (StatusCode::OK, &json!("Failed")));
    assert_eq!(lost.body["error"]["code"], "OperationInterrupted");
}

#[tokio::test]
async fn answers_expire() {
    let world = World::with(|config| config.answers_keep = Duration::from_micros(1)).await;
    let alice = world.bearer("alice").await;
    let (location, _) = places(&world.post_later(&alice, "/getActiveSessions", "").await);
    // The store's clock runs ahead by a moment when much is written at once.
    let expired = async {
        loop {
            let answer = fetch(&world, &alice, &location).await;
            if answer.status != StatusCode::OK {
                return answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), expired).await.expect("it expires");
    assert_eq!((answer.status, answer.code()), (StatusCode::NOT_FOUND, "OperationNotFound"));
}
