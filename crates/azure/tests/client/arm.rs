//! The control API: lists, pages, answers that come later, refusals, links that lead away.

use super::{TOKEN, http, serve, tokens};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use http::{Request, Response, StatusCode};
use ravelin_azure::client::arm::{API_VERSION, Answer, Arm, ArmError, Host};
use reqwest::Url;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One answer: status, headers, body. `{base}` in them stands for the server's address.
type Line = (u16, Vec<(&'static str, &'static str)>, Value);

/// What is answered, in order, and what was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Line>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Script {
    async fn played(lines: Vec<Line>) -> (Self, Arm) {
        let script = Script { answers: Arc::new(Mutex::new(lines.into())), ..Script::default() };
        let url = serve(Router::new().fallback(answer).with_state(script.clone())).await;
        let arm = Arm::new(http(), url, tokens(), API_VERSION);
        (script, arm)
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").iter().map(|(line, _)| line.clone()).collect()
    }

    fn bodies(&self) -> Vec<Value> {
        self.asked.lock().expect("not poisoned").iter().map(|(_, body)| body.clone()).collect()
    }
}

async fn answer(State(script): State<Script>, request: Request<Body>) -> Response<Body> {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers["authorization"], format!("Bearer {TOKEN}"));
    let host = head.headers["host"].to_str().expect("a host").to_owned();
    let body: Bytes = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    let asked = format!("{} {}", head.method, head.uri);
    script.asked.lock().expect("not poisoned").push((asked, body));
    let next = script.answers.lock().expect("not poisoned").pop_front();
    let (status, headers, body) = next.unwrap_or((500, Vec::new(), json!({ "error": { "code": "ScriptEnded" } })));
    let filled = |text: &str| text.replace("{base}", &format!("http://{host}"));
    let mut response = Response::new(Body::from(filled(&body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    for (name, value) in headers {
        response.headers_mut().insert(name, filled(value).parse().expect("a value"));
    }
    response
}

fn host() -> Host {
    Host { subscription: "sub".to_owned(), resource_group: "rg 1".to_owned(), name: "b/1".to_owned() }
}

const ACTION: &str =
    "/subscriptions/sub/resourceGroups/rg%201/providers/Microsoft.Network/bastionHosts/b%2F1/getActiveSessions";

fn session(id: &str) -> Value {
    json!({ "sessionId": id, "userName": "alice", "ofNextYear": { "kept": true } })
}

fn ids(answer: &Answer) -> Vec<&str> {
    match answer {
        Answer::Here(items) => items.iter().filter_map(|item| item["sessionId"].as_str()).collect(),
        Answer::Later(link) => panic!("later at {link}"),
    }
}

const LONG: Option<Duration> = Some(Duration::from_secs(30));

#[tokio::test]
async fn pages_are_joined_and_unknown_members_kept() {
    let (script, arm) = Script::played(vec![
        (200, vec![], json!({ "value": [session("a")], "nextLink": "{base}/next?page=2" })),
        (200, vec![], json!({ "value": [session("b")], "nextLink": "/next?page=3" })),
        (200, vec![], json!({ "value": [], "nextLink": "" })),
    ])
    .await;
    let answer = arm.active_sessions(&host(), LONG).await.expect("a list");
    assert_eq!(ids(&answer), ["a", "b"]);
    let Answer::Here(items) = answer else { unreachable!("looked at above") };
    assert_eq!(items[0]["ofNextYear"]["kept"], true);
    let first = format!("POST {ACTION}?api-version={API_VERSION}");
    assert_eq!(script.asked(), [first.as_str(), "GET /next?page=2", "GET /next?page=3"]);
}

#[tokio::test]
async fn a_list_without_a_value_is_empty() {
    let (_, arm) = Script::played(vec![(200, vec![], json!({}))]).await;
    assert!(ids(&arm.active_sessions(&host(), LONG).await.expect("a list")).is_empty());
}

#[tokio::test]
async fn an_answer_that_comes_later_is_fetched_from_its_location() {
    let later = |retry| vec![("location", "{base}/result?t=1"), ("retry-after", retry)];
    let (script, arm) = Script::played(vec![
        (202, later("0"), Value::Null),
        (202, later("0"), Value::Null),
        (200, vec![], json!({ "value": [session("a")] })),
    ])
    .await;
    assert_eq!(ids(&arm.active_sessions(&host(), LONG).await.expect("a list")), ["a"]);
    assert_eq!(script.asked()[1..], ["GET /result?t=1", "GET /result?t=1"]);
}

#[tokio::test]
async fn the_state_of_an_operation_is_asked_before_its_result() {
    let both = vec![("azure-asyncoperation", "{base}/op"), ("location", "{base}/result"), ("retry-after", "0")];
    let soon = || vec![("retry-after", "0")];
    let (script, arm) = Script::played(vec![
        (202, both, Value::Null),
        (200, soon(), json!({ "status": "InProgress" })),
        (200, soon(), json!({ "status": "Succeeded" })),
        (200, vec![], json!({ "value": [session("a")] })),
    ])
    .await;
    assert_eq!(ids(&arm.active_sessions(&host(), LONG).await.expect("a list")), ["a"]);
    assert_eq!(script.asked()[1..], ["GET /op", "GET /op", "GET /result"]);
    // Without a location, what says that it succeeded is the list.
    let only = vec![("azure-asyncoperation", "{base}/op"), ("retry-after", "0")];
    let succeeded = json!({ "status": "Succeeded", "value": [session("b")] });
    let (_, arm) = Script::played(vec![(202, only, Value::Null), (200, vec![], succeeded)]).await;
    assert_eq!(ids(&arm.active_sessions(&host(), LONG).await.expect("a list")), ["b"]);
}

#[tokio::test]
async fn a_failed_operation_is_its_error() {
    let only = vec![("azure-asyncoperation", "{base}/op"), ("retry-after", "0")];
    let failed = json!({ "status": "Failed", "error": { "code": "NodeUnreachable", "message": "node b is away" } });
    let (_, arm) = Script::played(vec![(202, only, Value::Null), (200, vec![], failed)]).await;
    let error = arm.active_sessions(&host(), LONG).await.expect_err("it failed");
    assert_eq!(error.to_string(), "NodeUnreachable: node b is away");
}

#[tokio::test]
async fn whoever_does_not_wait_gets_the_link() {
    let later = vec![("location", "{base}/result"), ("retry-after", "20")];
    let (_, arm) = Script::played(vec![(202, later.clone(), Value::Null)]).await;
    let Answer::Later(link) = arm.active_sessions(&host(), None).await.expect("a link") else { panic!("a list") };
    assert_eq!(link.path(), "/result");
    let (_, arm) = Script::played(vec![(202, later, Value::Null)]).await;
    let error = arm.active_sessions(&host(), Some(Duration::from_millis(50))).await.expect_err("too slow");
    assert!(matches!(error, ArmError::Slow { .. }), "{error}");
}

#[tokio::test]
async fn a_bastion_that_names_no_pause_is_not_asked_without_one() {
    let later = || (202, vec![("location", "{base}/result"), ("retry-after", "0")], Value::Null);
    let (script, arm) = Script::played((0..1000).map(|_| later()).collect()).await;
    let error = arm.active_sessions(&host(), Some(Duration::from_millis(450))).await.expect_err("too slow");
    assert!(matches!(error, ArmError::Slow { .. }), "{error}");
    assert!(script.asked().len() <= 5, "{} requests", script.asked().len());
}

#[tokio::test]
async fn a_token_is_not_sent_where_a_link_leads_away() {
    let away = "http://198.51.100.7/steal";
    let lines: Vec<Line> = vec![
        (200, vec![], json!({ "value": [], "nextLink": away })),
        (202, vec![("location", "http://198.51.100.7/steal")], Value::Null),
        (202, vec![("azure-asyncoperation", "http://198.51.100.7/steal")], Value::Null),
    ];
    for line in lines {
        let (_, arm) = Script::played(vec![line]).await;
        let error = arm.active_sessions(&host(), LONG).await.expect_err("refused");
        assert!(matches!(&error, ArmError::LeadsAway(url) if url.as_str() == away), "{error}");
    }
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_the_rest_is_told() {
    let busy = || (503, vec![("retry-after", "0")], json!({ "error": { "code": "Busy", "message": "later" } }));
    let (script, arm) = Script::played(vec![busy(), busy(), (200, vec![], json!({ "value": [] }))]).await;
    assert!(ids(&arm.active_sessions(&host(), LONG).await.expect("a list")).is_empty());
    assert_eq!(script.asked().len(), 3);
    let (script, arm) = Script::played(vec![busy(), busy(), busy(), busy(), busy()]).await;
    let error = arm.active_sessions(&host(), LONG).await.expect_err("still busy");
    assert_eq!((error.to_string().as_str(), script.asked().len()), ("Busy: later", 4));
    let denied = json!({ "error": { "code": "AuthorizationFailed", "message": "no right" } });
    let (script, arm) = Script::played(vec![(403, vec![], denied)]).await;
    let error = arm.active_sessions(&host(), LONG).await.expect_err("denied");
    assert!(matches!(&error, ArmError::Refused { status: 403, code, .. } if code == "AuthorizationFailed"), "{error}");
    assert_eq!(script.asked().len(), 1);
}

#[tokio::test]
async fn nonsense_is_named() {
    let lines: Vec<Line> = vec![
        (200, vec![], json!([1])),
        (200, vec![], json!({ "value": 7 })),
        (200, vec![], json!({ "value": ["a"] })),
        (202, vec![], Value::Null),
        (202, vec![("azure-asyncoperation", "{base}/op"), ("retry-after", "0")], Value::Null),
    ];
    for line in lines {
        let (_, arm) = Script::played(vec![line.clone(), (200, vec![], json!({}))]).await;
        let error = arm.active_sessions(&host(), LONG).await.expect_err("nonsense");
        assert!(matches!(error, ArmError::Strange(_)), "{line:?}: {error}");
    }
}

#[tokio::test]
async fn a_list_that_never_ends_is_left() {
    async fn endless() -> axum::Json<Value> {
        axum::Json(json!({ "value": [], "nextLink": "/again" }))
    }
    let url: Url = serve(Router::new().fallback(endless)).await;
    let arm = Arm::new(http(), url, tokens(), API_VERSION);
    let error = arm.active_sessions(&host(), LONG).await.expect_err("endless");
    assert!(matches!(&error, ArmError::Strange(why) if why.contains("pages")), "{error}");
}

#[tokio::test]
async fn many_ids_go_in_parts_and_keep_their_order() {
    let state = |id: &str| json!({ "sessionId": id, "state": "Disconnected", "message": "" });
    let lines =
        vec![(200, vec![], json!({ "value": [state("first")] })), (200, vec![], json!({ "value": [state("second")] }))];
    let (script, arm) = Script::played(lines).await;
    let wanted: Vec<String> = (0..1_001).map(|n| format!("id-{n}")).collect();
    let (outcomes, whole) = arm.disconnect(&host(), &wanted).await;
    whole.expect("all of it");
    assert_eq!(outcomes.iter().filter_map(|o| o["sessionId"].as_str()).collect::<Vec<_>>(), ["first", "second"]);
    let bodies = script.bodies();
    let counts: Vec<_> = bodies.iter().map(|body| body["sessionIds"].as_array().map(Vec::len)).collect();
    assert_eq!(counts, [Some(1_000), Some(1)]);
    assert_eq!(bodies[1]["sessionIds"][0], "id-1000");
}

#[tokio::test]
async fn what_came_of_the_first_part_is_told_when_the_next_one_fails() {
    let state = json!({ "sessionId": "first", "state": "Disconnected", "message": "" });
    let denied = json!({ "error": { "code": "AuthorizationFailed", "message": "no right" } });
    let lines = vec![(200, vec![], json!({ "value": [state] })), (403, vec![], denied)];
    let (script, arm) = Script::played(lines).await;
    let wanted: Vec<String> = (0..3_000).map(|n| format!("id-{n}")).collect();
    let (outcomes, whole) = arm.disconnect(&host(), &wanted).await;
    assert_eq!((outcomes.len(), &outcomes[0]["sessionId"]), (1, &json!("first")));
    assert!(matches!(whole, Err(ArmError::Refused { status: 403, .. })), "{whole:?}");
    assert_eq!(script.asked().len(), 2, "nothing more is asked");
}
