//! The three operations over a live engine.

use crate::world::{ACCOUNT, World, signed};
use http::{HeaderValue, StatusCode};
use ravelin_engine::testkit::FakeLeg;
use ravelin_model::session::EndReason;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::SystemTime;

fn ids(answer: &Value) -> Vec<String> {
    let sessions = answer["Sessions"].as_array().expect("a list");
    sessions.iter().map(|session| session["SessionId"].as_str().expect("a text").to_owned()).collect()
}

#[tokio::test]
async fn a_session_is_shown_in_both_views_with_all_that_is_known() {
    let world = World::new().await;
    let admission = world.open("bob", "web-1").await;
    let id = admission.session().to_string();
    let target = ravelin_aws::target_id(admission.target().id.hex());
    let active = world.call("alice", "DescribeSessions", r#"{"State":"Active"}"#).await.ok();
    let session = &active["Sessions"][0];
    assert_eq!(session["SessionId"], id);
    assert_eq!(session["Target"], target);
    assert_eq!(session["Status"], "Connected");
    assert_eq!(session["Owner"], format!("arn:aws:iam::{ACCOUNT}:user/bob"));
    assert_eq!(session["Reason"], "a test");
    assert_eq!(session["OutputUrl"], json!({}));
    assert_eq!(session["AccessType"], "Standard");
    assert!(session["StartDate"].is_number());
    for absent in ["EndDate", "Details", "DocumentName", "MaxSessionDuration"] {
        assert_eq!(session.get(absent), None, "{absent}");
    }
    assert_eq!(active.get("NextToken"), None);
    let none = world.call("alice", "DescribeSessions", r#"{"State":"History"}"#).await.ok();
    assert_eq!(none, json!({"Sessions": []}));

    admission.end(EndReason::ClientClosed, "exit 0").await;
    let history = world.call("alice", "DescribeSessions", r#"{"State":"History"}"#).await.ok();
    let session = &history["Sessions"][0];
    assert_eq!(session["Status"], "Terminated");
    assert_eq!(session["Details"], "client_closed by bob: exit 0");
    assert!(session["EndDate"].as_f64() >= session["StartDate"].as_f64());
    assert_eq!(session.get("OutputUrl"), None);
    let none = world.call("alice", "DescribeSessions", r#"{"State":"Active"}"#).await.ok();
    assert_eq!(none, json!({"Sessions": []}));
}

#[tokio::test]
async fn pages_are_walked_without_gap_or_repeat_and_tokens_stay_with_their_question() {
    let world = World::new().await;
    let mut live = Vec::new();
    for at in 0..7 {
        live.push(world.open(if at % 2 == 0 { "bob" } else { "alice" }, "web-1").await);
    }
    let newest_first: Vec<String> = live.iter().rev().map(|admission| admission.session().to_string()).collect();
    let (mut seen, mut token, mut tokens) = (Vec::new(), Value::Null, Vec::new());
    loop {
        let body = json!({"State": "Active", "MaxResults": 3, "NextToken": token}).to_string();
        let page = world.call("alice", "DescribeSessions", &body).await.ok();
        seen.extend(ids(&page));
        match page.get("NextToken") {
            Some(next) => {
                assert_ne!(next, "");
                tokens.push(next.clone());
                token = next.clone();
            }
            None => break,
        }
    }
    assert_eq!(seen, newest_first);
    assert_eq!(tokens.len(), 2);
    for (who, body) in [
        ("alice", json!({"State": "History", "NextToken": tokens[0]})),
        ("alice", json!({"State": "Active", "NextToken": tokens[0], "Filters": [{"key": "Owner", "value": "bob"}]})),
        ("walt", json!({"State": "Active", "NextToken": tokens[0]})),
        ("alice", json!({"State": "Active", "NextToken": "nonsense"})),
    ] {
        let answer = world.call(who, "DescribeSessions", &body.to_string()).await;
        assert_eq!((answer.status, answer.fault().0.as_str()), (StatusCode::BAD_REQUEST, "InvalidNextToken"));
    }
    // The number of items per page may change on the way, and the empty token of a skeleton is none.
    let body = json!({"State": "Active", "MaxResults": 200, "NextToken": tokens[1]}).to_string();
    assert_eq!(ids(&world.call("alice", "DescribeSessions", &body).await.ok()), newest_first[6..]);
    let body = json!({"State": "Active", "NextToken": ""}).to_string();
    assert_eq!(ids(&world.call("alice", "DescribeSessions", &body).await.ok()), newest_first);
}

#[tokio::test]
async fn pages_of_documents_are_walked_and_their_tokens_stay_with_their_question() {
    let world = World::new().await;
    let names = |page: &Value| -> Vec<String> {
        let documents = page["DocumentIdentifiers"].as_array().expect("a list");
        documents.iter().map(|document| document["Name"].as_str().expect("a name").to_owned()).collect()
    };
    let all = names(&world.call("alice", "ListDocuments", "{}").await.ok());
    let (mut seen, mut token, mut first) = (Vec::new(), Value::Null, Value::Null);
    loop {
        let body = json!({"MaxResults": 2, "NextToken": token}).to_string();
        let page = world.call("alice", "ListDocuments", &body).await.ok();
        seen.extend(names(&page));
        let Some(next) = page.get("NextToken") else { break };
        if first.is_null() {
            first = next.clone();
        }
        token = next.clone();
    }
    assert!(all.len() > 4 && seen == all, "{seen:?}");
    for (who, operation, body) in [
        ("alice", "ListDocuments", json!({"NextToken": first, "Filters": [{"Key": "Name", "Values": ["AWS-"]}]})),
        ("bob", "ListDocuments", json!({"NextToken": first})),
        ("alice", "ListDocumentVersions", json!({"Name": "AWS-StartSSHSession", "NextToken": first})),
        ("alice", "ListDocuments", json!({"NextToken": "2"})),
    ] {
        let answer = world.call(who, operation, &body.to_string()).await;
        assert_eq!(answer.fault().0, "InvalidNextToken", "{who} {operation} {body}");
    }
}

#[tokio::test]
async fn every_filter_key_narrows() {
    let world = World::new().await;
    let first = world.open("bob", "web-1").await;
    let second = world.open_with("alice", "db-1", FakeLeg::new()).await;
    let both = world.call("alice", "DescribeSessions", r#"{"State":"Active"}"#).await.ok();
    let started = |at: usize| both["Sessions"][at]["StartDate"].as_f64().expect("a number");
    let (first_id, second_id) = (first.session().to_string(), second.session().to_string());
    let (first_target, second_target) =
        (ravelin_aws::target_id(first.target().id.hex()), second.target().name.to_string());
    let year = |years: i64| new_year(started(0), years);
    let all = BTreeSet::from([first_id.clone(), second_id.clone()]);
    let only = |id: &String| BTreeSet::from([id.clone()]);
    type Case = (Vec<(&'static str, String)>, BTreeSet<String>);
    let cases: Vec<Case> = vec![
        (vec![("InvokedAfter", year(-1))], all.clone()),
        (vec![("InvokedAfter", year(1))], BTreeSet::new()),
        (vec![("InvokedBefore", year(1))], all.clone()),
        (vec![("InvokedBefore", year(-1))], BTreeSet::new()),
        (vec![("Target", first_target)], only(&first_id)),
        (vec![("Target", second_target)], only(&second_id)),
        (vec![("Target", "mi-00000000000000000".to_owned())], BTreeSet::new()),
        (vec![("Owner", format!("arn:aws:iam::{ACCOUNT}:user/bob"))], only(&first_id)),
        (vec![("Owner", "alice".to_owned())], only(&second_id)),
        (vec![("Owner", "arn:aws:iam::000000000000:user/bob".to_owned())], BTreeSet::new()),
        (vec![("Status", "Connected".to_owned())], only(&first_id)),
        (vec![("Status", "Connecting".to_owned())], only(&second_id)),
        (vec![("Status", "Terminated".to_owned())], BTreeSet::new()),
        (vec![("SessionId", first_id.clone())], only(&first_id)),
        (vec![("SessionId", "nobody".to_owned())], BTreeSet::new()),
        (vec![("AccessType", "Standard".to_owned())], all),
        (vec![("AccessType", "JustInTime".to_owned())], BTreeSet::new()),
        (
            vec![
                ("InvokedAfter", year(-1)),
                ("InvokedBefore", year(1)),
                ("Owner", "bob".to_owned()),
                ("Status", "Connected".to_owned()),
                ("SessionId", first_id.clone()),
                ("AccessType", "Standard".to_owned()),
            ],
            only(&first_id),
        ),
    ];
    for (filters, wanted) in cases {
        let listed: Vec<Value> = filters.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
        let body = json!({"State": "Active", "Filters": listed}).to_string();
        let found = ids(&world.call("alice", "DescribeSessions", &body).await.ok());
        assert_eq!(BTreeSet::from_iter(found), wanted, "{filters:?}");
    }
}

/// 1 January of the year so many years from a time in seconds since 1970, roughly; far enough from it.
fn new_year(seconds: f64, years: i64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "a year of this era")]
    let year = 1970 + (seconds / 31_556_952.0) as i64 + years;
    format!("{year}-01-01T00:00:00Z")
}

#[tokio::test]
async fn people_see_their_own_and_operators_everybodys() {
    let world = World::new().await;
    let of_bob = world.open("bob", "web-1").await;
    let _of_alice = world.open("alice", "web-1").await;
    let active = r#"{"State":"Active"}"#;
    assert_eq!(ids(&world.call("bob", "DescribeSessions", active).await.ok()), [of_bob.session().to_string()]);
    assert_eq!(ids(&world.call("alice", "DescribeSessions", active).await.ok()).len(), 2);
    let answer = world.call("nina", "DescribeSessions", active).await;
    let (code, text) = answer.fault();
    assert_eq!((answer.status, code.as_str()), (StatusCode::BAD_REQUEST, "AccessDeniedException"));
    assert!(text.starts_with(&format!(
        "User: arn:aws:iam::{ACCOUNT}:user/nina is not authorized to perform: ssm:DescribeSessions on resource: \
         arn:aws:ssm:eu-west-1:{ACCOUNT}:*"
    )));
    // A filter that can match nothing does not open the door either.
    let body = r#"{"State":"Active","Filters":[{"key":"SessionId","value":"x"}]}"#;
    assert_eq!(world.call("nina", "DescribeSessions", body).await.fault().0, "AccessDeniedException");
}

#[tokio::test]
async fn terminate_closes_both_sides_before_it_answers_and_may_be_asked_again() {
    let world = World::new().await;
    let client = FakeLeg::new();
    let admission = world.open_with("bob", "web-1", client.clone()).await;
    admission.connected().await.expect("connected");
    let id = admission.session().to_string();
    let body = json!({"SessionId": id}).to_string();
    for _ in 0..2 {
        assert_eq!(world.call("alice", "TerminateSession", &body).await.ok(), json!({"SessionId": id}));
        assert!(client.is_closed());
    }
    assert_eq!(client.said().last().map(String::as_str), Some("disconnected by alice: aws ssm terminate-session"));
    let history = world.call("bob", "DescribeSessions", r#"{"State":"History"}"#).await.ok();
    assert_eq!(history["Sessions"][0]["Details"], "disconnected_by_operator by alice: aws ssm terminate-session");
    let ending = admission.ending().await;
    assert_eq!(ending.reason, EndReason::DisconnectedByOperator);
}

#[tokio::test]
async fn terminate_says_no_truthfully() {
    let world = World::new().await;
    let of_alice = world.open("alice", "web-1").await;
    let id = of_alice.session().to_string();
    let body = json!({"SessionId": id}).to_string();
    let unknown = json!({"SessionId": "alice-00000000000000000"}).to_string();
    // Who may not see it cannot tell it from one that never was.
    let hidden = world.call("bob", "TerminateSession", &body).await.fault();
    let never = world.call("bob", "TerminateSession", &unknown).await.fault();
    assert_eq!(hidden.0, "DoesNotExistException");
    assert_eq!(hidden.1.replace(&id, "alice-00000000000000000"), never.1);
    let odd = world.call("alice", "TerminateSession", r#"{"SessionId":"s-1"}"#).await;
    assert_eq!((odd.status, odd.fault().0.as_str()), (StatusCode::BAD_REQUEST, "DoesNotExistException"));
    // Who may see it and not end it is told so.
    let (code, text) = world.call("walt", "TerminateSession", &body).await.fault();
    assert_eq!(code, "AccessDeniedException");
    assert!(text.starts_with(&format!(
        "User: arn:aws:iam::{ACCOUNT}:user/walt is not authorized to perform: ssm:TerminateSession on resource: \
         arn:aws:ssm:eu-west-1:{ACCOUNT}:session/{id}"
    )));
    let still = world.call("alice", "DescribeSessions", r#"{"State":"Active"}"#).await.ok();
    assert_eq!(ids(&still), [id]);
}

#[tokio::test]
async fn terminate_does_not_claim_an_end_that_has_not_come() {
    let world = World::new().await;
    let stuck = FakeLeg::stuck();
    let admission = world.open_with("bob", "web-1", stuck.clone()).await;
    admission.connected().await.expect("connected");
    let id = admission.session().to_string();
    let body = json!({"SessionId": id}).to_string();
    let answer = world.call("alice", "TerminateSession", &body).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    let (code, text) = answer.fault();
    assert_eq!(code, "InternalServerError");
    assert!(text.contains("ordered to end") && text.contains("safe to ask again"), "{text}");
    let active = world.call("alice", "DescribeSessions", r#"{"State":"Active"}"#).await.ok();
    assert_eq!(active["Sessions"][0]["Status"], "Terminating");
    stuck.release();
    assert_eq!(world.call("alice", "TerminateSession", &body).await.ok(), json!({"SessionId": id}));
}

#[tokio::test]
async fn connection_status_is_true_and_tells_nothing_of_hidden_targets() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let world = World::with(|config| config, port).await;
    let web = world.engine.gate.find(&world.caller("alice").await, "web-1").expect("a target");
    let id = ravelin_aws::target_id(web.id.hex());
    let status = async |who: &str, target: &str| {
        let answer = world.call(who, "GetConnectionStatus", &json!({"Target": target}).to_string()).await.ok();
        assert_eq!(answer["Target"], target);
        answer["Status"].as_str().expect("a text").to_owned()
    };
    assert_eq!(status("bob", &id).await, "connected");
    assert_eq!(status("bob", "web-1").await, "connected");
    assert_eq!(status("alice", "db-1").await, "connected");
    assert_eq!(status("bob", "db-1").await, "notconnected");
    assert_eq!(status("bob", "mi-00000000000000000").await, "notconnected");
    assert_eq!(status("nina", &id).await, "notconnected");

    let closed = World::with(|config| config, 1).await;
    let answer = closed.call("alice", "GetConnectionStatus", r#"{"Target":"web-1"}"#).await.ok();
    assert_eq!(answer["Status"], "notconnected");
}

#[tokio::test]
async fn the_user_agent_is_kept_as_the_clients_software() {
    let world = World::new().await;
    let body = r#"{"State":"Active"}"#;
    let mut request = signed(&world.key("alice"), &crate::world::request("DescribeSessions", body), SystemTime::now());
    // Never signed, never trusted, and no bytes of it may hurt.
    request.headers_mut().insert("user-agent", HeaderValue::from_bytes(b"\xff odd").expect("a value"));
    assert_eq!(world.send(request).await.status, StatusCode::OK);
}
