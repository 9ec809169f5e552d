//! Wrong requests, each with its answer pinned in `tests/golden/<operation>/<case>.txt`; `UPDATE_GOLDEN=1` rewrites.

use crate::world::{Answer, World, request, signed};
use http::{Method, Request, StatusCode};
use ravelin_aws::OPERATIONS;
use ravelin_aws::server::BODY_BYTES_MAX;
use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

/// The answer as text, without what differs from call to call.
fn transcript(operation: &str, body: &str, answer: &Answer) -> String {
    let mut text = format!("> AmazonSSM.{operation}\n> {body}\n\n< {}\n", answer.status);
    for (name, value) in &answer.headers {
        let value = if name == "x-amzn-requestid" { "(a UUID)" } else { value.to_str().expect("ASCII") };
        writeln!(text, "< {name}: {value}").expect("a string takes it");
    }
    writeln!(text, "< {}", answer.text).expect("a string takes it");
    text
}

/// `DescribeSessions` as `describe_sessions`.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[tokio::test]
async fn wrong_members_are_answered_as_pinned() {
    let world = World::new().await;
    let seven = format!(r#"{{"State":"Active","Filters":[{}]}}"#, [r#"{"key":"Owner","value":"a"}"#; 7].join(","));
    let cases = [
        ("DescribeSessions", "state_missing", "{}"),
        ("DescribeSessions", "state_unknown", r#"{"State":"Bogus"}"#),
        ("DescribeSessions", "max_results_zero", r#"{"State":"Active","MaxResults":0}"#),
        ("DescribeSessions", "max_results_500", r#"{"State":"Active","MaxResults":500}"#),
        ("DescribeSessions", "max_results_text", r#"{"State":"Active","MaxResults":"5"}"#),
        ("DescribeSessions", "two_errors", r#"{"State":"active","MaxResults":201}"#),
        ("DescribeSessions", "filters_empty", r#"{"State":"Active","Filters":[]}"#),
        ("DescribeSessions", "filters_seven", &seven),
        ("DescribeSessions", "filter_key_unknown", r#"{"State":"Active","Filters":[{"key":"Colour","value":"red"}]}"#),
        ("DescribeSessions", "filter_key_missing", r#"{"State":"Active","Filters":[{"value":"red"}]}"#),
        ("DescribeSessions", "filter_value_empty", r#"{"State":"Active","Filters":[{"key":"Owner","value":""}]}"#),
        (
            "DescribeSessions",
            "filter_status_unknown",
            r#"{"State":"Active","Filters":[{"key":"Status","value":"Dead"}]}"#,
        ),
        (
            "DescribeSessions",
            "filter_date_wrong",
            r#"{"State":"Active","Filters":[{"key":"InvokedAfter","value":"yesterday"}]}"#,
        ),
        (
            "DescribeSessions",
            "filter_date_of_no_calendar",
            r#"{"State":"Active","Filters":[{"key":"InvokedBefore","value":"2026-02-30T00:00:00Z"}]}"#,
        ),
        ("DescribeSessions", "next_token_foreign", r#"{"State":"Active","NextToken":"AAAA"}"#),
        ("DescribeSessions", "body_not_json", "State=Active"),
        ("DescribeSessions", "body_a_list", "[]"),
        ("DescribeSessions", "none_active", r#"{"State":"Active","Unknown":{"a":[null]}}"#),
        ("TerminateSession", "session_id_missing", "{}"),
        ("TerminateSession", "session_id_empty", r#"{"SessionId":""}"#),
        ("TerminateSession", "session_id_unknown", r#"{"SessionId":"alice-00000000000000000"}"#),
        ("GetConnectionStatus", "target_missing", "{}"),
        ("GetConnectionStatus", "target_unknown", r#"{"Target":"mi-00000000000000000"}"#),
        ("StartNothing", "operation_unknown", "{}"),
        ("StartSession", "target_missing", "{}"),
        ("StartSession", "target_unknown", r#"{"Target":"mi-00000000000000000"}"#),
        ("StartSession", "document_unknown", r#"{"Target":"web-1","DocumentName":"AWS-StartNothing"}"#),
        ("StartSession", "document_name_wrong", r#"{"Target":"web-1","DocumentName":"a b"}"#),
        ("StartSession", "parameter_undefined", r#"{"Target":"web-1","Parameters":{"x":["1"]}}"#),
        ("StartSession", "parameters_no_map", r#"{"Target":"web-1","Parameters":[]}"#),
        (
            "StartSession",
            "port_70000",
            r#"{"Target":"web-1","DocumentName":"AWS-StartSSHSession","Parameters":{"portNumber":["70000"]}}"#,
        ),
        (
            "StartSession",
            "port_0",
            r#"{"Target":"web-1","DocumentName":"AWS-StartPortForwardingSession","Parameters":{"portNumber":["0"]}}"#,
        ),
        ("StartSession", "target_empty", r#"{"Target":""}"#),
        ("StartSession", "parameter_missing", r#"{"Target":"web-1","DocumentName":"AWS-StartInteractiveCommand"}"#),
        (
            "StartSession",
            "parameter_value_empty",
            r#"{"Target":"web-1","DocumentName":"AWS-StartSSHSession","Parameters":{"portNumber":[""]}}"#,
        ),
        ("StartSession", "reason_empty", r#"{"Target":"web-1","Reason":""}"#),
        ("ResumeSession", "session_id_missing", "{}"),
        ("ResumeSession", "session_id_unknown", r#"{"SessionId":"alice-00000000000000000"}"#),
        ("DescribeInstanceInformation", "max_results_four", r#"{"MaxResults":4}"#),
        ("DescribeInstanceInformation", "filter_key_unknown", r#"{"Filters":[{"Key":"Colour","Values":["red"]}]}"#),
        (
            "DescribeInstanceInformation",
            "filter_value_wrong",
            r#"{"InstanceInformationFilterList":[{"key":"PingStatus","valueSet":["Gone"]}]}"#,
        ),
        ("DescribeInstanceInformation", "instance_id_wrong", r#"{"Filters":[{"Key":"InstanceIds","Values":["x"]}]}"#),
        (
            "DescribeInstanceProperties",
            "filter_values_empty",
            r#"{"FiltersWithOperator":[{"Key":"PingStatus","Values":[]}]}"#,
        ),
        (
            "DescribeInstanceProperties",
            "filter_values_in_the_old_form",
            r#"{"InstancePropertyFilterList":[{"key":"PingStatus","valueSet":[]},{"key":"AgentVersion","valueSet":[""]}]}"#,
        ),
        ("DescribeInstanceProperties", "filters_empty", r#"{"FiltersWithOperator":[]}"#),
        (
            "DescribeInstanceProperties",
            "filter_values_41",
            r#"{"FiltersWithOperator":[{"Key":"AgentVersion","Values":["1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1","1"]}]}"#,
        ),
        ("CreateDocument", "content_missing", r#"{"Name":"Mine"}"#),
        ("CreateDocument", "name_reserved", r#"{"Name":"AWS-Mine","Content":"{}","DocumentType":"Session"}"#),
        ("CreateDocument", "type_command", r#"{"Name":"Mine","Content":"{}"}"#),
        ("CreateDocument", "schema_missing", r#"{"Name":"Mine","Content":"{}","DocumentType":"Session"}"#),
        ("CreateDocument", "content_not_json", r#"{"Name":"Mine","Content":"{","DocumentType":"Session"}"#),
        ("UpdateDocument", "document_unknown", r#"{"Name":"Mine","Content":"{}"}"#),
        ("GetDocument", "built_in", r#"{"Name":"AWS-StartSSHSession"}"#),
        ("GetDocument", "document_unknown", r#"{"Name":"Mine"}"#),
        ("GetDocument", "version_unknown", r#"{"Name":"AWS-StartSSHSession","DocumentVersion":"2"}"#),
        ("DescribeDocument", "built_in", r#"{"Name":"AWS-StartInteractiveCommand"}"#),
        ("ListDocuments", "one_of_ours", r#"{"Filters":[{"Key":"Name","Values":["Ravelin-"]}]}"#),
        ("ListDocuments", "filter_key_unknown", r#"{"Filters":[{"Key":"Colour","Values":["red"]}]}"#),
        ("ListDocuments", "next_token_foreign", r#"{"NextToken":"2"}"#),
        ("ListDocumentVersions", "next_token_foreign", r#"{"Name":"AWS-StartSSHSession","NextToken":"0"}"#),
        ("DeleteDocument", "document_unknown", r#"{"Name":"Mine"}"#),
        (
            "AddTagsToResource",
            "resource_type_wrong",
            r#"{"ResourceType":"Parameter","ResourceId":"x","Tags":[{"Key":"a","Value":"b"}]}"#,
        ),
        ("ListTagsForResource", "built_in", r#"{"ResourceType":"Document","ResourceId":"AWS-StartSSHSession"}"#),
        ("GetServiceSetting", "setting_unknown", r#"{"SettingId":"/ssm/parameter-store/high-throughput-enabled"}"#),
        (
            "UpdateServiceSetting",
            "value_wrong",
            r#"{"SettingId":"/ssm/managed-instance/activation-tier","SettingValue":"gold"}"#,
        ),
    ];
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut differing = Vec::new();
    for (operation, case, body) in cases {
        let folder = if OPERATIONS.iter().any(|(name, _)| *name == operation) {
            snake(operation)
        } else {
            "envelope".to_owned()
        };
        let text = transcript(operation, body, &world.call("alice", operation, body).await);
        let path = golden.join(folder).join(format!("{case}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the golden file can be written");
        } else if std::fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            differing.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(differing.is_empty(), "UPDATE_GOLDEN=1 rewrites:\n{}", differing.join("\n"));
}

#[tokio::test]
async fn an_operation_is_named_by_one_header_a_post_and_the_root() {
    let world = World::new().await;
    let alice = world.key("alice");
    let good = request("DescribeSessions", r#"{"State":"Active"}"#);
    let changed = |change: &dyn Fn(&mut Request<Vec<u8>>)| {
        let mut request = good.clone();
        change(&mut request);
        signed(&alice, &request, SystemTime::now())
    };
    let target = |value: &'static str| {
        changed(&move |request| {
            request.headers_mut().insert("x-amz-target", http::HeaderValue::from_static(value));
        })
    };
    for request in [
        target("DescribeSessions"),
        target("AmazonEC2.DescribeSessions"),
        target("AmazonSSM.describesessions"),
        target("AmazonSSM."),
        changed(&|request| drop(request.headers_mut().remove("x-amz-target"))),
        changed(&|request| *request.method_mut() = Method::GET),
        changed(&|request| *request.uri_mut() = "/elsewhere".parse().expect("a path")),
        changed(&|request| {
            let again = request.headers()["x-amz-target"].clone();
            request.headers_mut().append("x-amz-target", again);
        }),
    ] {
        let answer = world.send(request).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(answer.text, r#"{"__type":"UnknownOperationException"}"#);
    }
}

#[tokio::test]
async fn no_operation_answers_who_has_not_proved_themselves() {
    let world = World::new().await;
    for (operation, _action) in OPERATIONS {
        let answer = world.send(request(operation, "{}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{operation}");
        assert_eq!(answer.fault().0, "MissingAuthenticationTokenException", "{operation}");
    }
}

#[tokio::test]
async fn bodies_are_bounded() {
    let world = World::new().await;
    let send = async |bytes: usize| {
        let body = format!(r#"{{"State":"Active"{}}}"#, " ".repeat(bytes - 18));
        world.call("alice", "DescribeSessions", &body).await
    };
    assert_eq!(send(BODY_BYTES_MAX).await.status, StatusCode::OK);
    let answer = send(BODY_BYTES_MAX + 1).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.fault().0, "RequestEntityTooLargeException");

    let mut announced = signed(&world.key("alice"), &request("DescribeSessions", "{}"), SystemTime::now());
    announced.headers_mut().insert("content-length", http::HeaderValue::from_static("99999999999"));
    assert_eq!(world.send(announced).await.fault().0, "RequestEntityTooLargeException");

    let nested = format!(r#"{{"State":{}"#, "[".repeat(500_000));
    assert_eq!(world.call("alice", "DescribeSessions", &nested).await.fault().0, "SerializationException");
}

#[tokio::test]
async fn every_answer_carries_an_id_and_its_length() {
    let world = World::new().await;
    let mut ids = std::collections::BTreeSet::new();
    for body in [r#"{"State":"Active"}"#, "{}"] {
        let answer = world.call("alice", "DescribeSessions", body).await;
        assert_eq!(answer.headers["content-type"], "application/x-amz-json-1.1");
        assert_eq!(answer.headers["content-length"], answer.text.len().to_string());
        assert!(ids.insert(answer.headers["x-amzn-requestid"].clone()), "ids do not repeat");
    }
}
