//! The real aws CLI and boto3, pointed here through nothing but their documented endpoint settings.

use ravelin_e2e::{Said, Server, eventually, need, run};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn describe(server: &Server, aws: &Path, args: &[&str]) -> Said {
    run(server.command(aws).args(["ssm", "describe-sessions"]).args(args))
}

/// A server on which `n` short sessions were run, one after the other.
fn with_history(ssh: &Path, n: usize) -> Server {
    let server = Server::dev();
    for _ in 0..n {
        assert_eq!(run(&mut server.ssh(ssh, &[&server.destination(), "true"])).code, 0);
    }
    eventually("all are in the history", || (server.history().len() == n).then_some(()));
    server
}

fn ids(answer: &Value) -> Vec<String> {
    let sessions = answer["Sessions"].as_array().expect("Sessions");
    sessions.iter().map(|s| s["SessionId"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn pages_join_to_the_whole_whoever_turns_them() {
    let ssh = need!("E2E_SSH");
    let aws = need!("E2E_AWS");
    let server = with_history(&ssh, 5);
    let history = ["--state", "History", "--output", "json"];
    let all = ids(&describe(&server, &aws, &history).json());
    assert_eq!(all.len(), 5);
    let ours: Vec<String> = server.history().iter().map(|s| s["id"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(all, ours, "newest first in both");

    let paged = describe(&server, &aws, &[&history[..], &["--page-size", "2"]].concat()).json();
    assert_eq!(ids(&paged), all);

    let first = describe(&server, &aws, &[&history[..], &["--max-items", "3"]].concat()).json();
    assert_eq!(ids(&first), all[..3]);
    let token = first["NextToken"].as_str().expect("the client's own token");
    let rest = describe(&server, &aws, &[&history[..], &["--starting-token", token]].concat()).json();
    assert_eq!(ids(&rest), all[3..]);

    let single = describe(&server, &aws, &[&history[..], &["--max-results", "2"]].concat()).json();
    assert_eq!(ids(&single), all[..2]);
    let token = single["NextToken"].as_str().expect("the server's token");
    let next = describe(&server, &aws, &[&history[..], &["--max-results", "2", "--next-token", token]].concat());
    assert_eq!(ids(&next.json()), all[2..4]);

    // The same token for another question is refused.
    let foreign = describe(&server, &aws, &["--state", "Active", "--max-results", "2", "--next-token", token]);
    assert!(foreign.err.contains("InvalidNextToken"), "{foreign:?}");

    let text = describe(&server, &aws, &["--state", "History", "--output", "text", "--query", "Sessions[].SessionId"]);
    assert_eq!(text.ok().split_whitespace().map(str::to_owned).collect::<Vec<_>>(), all);
}

#[test]
fn every_filter_key_filters() {
    let ssh = need!("E2E_SSH");
    let aws = need!("E2E_AWS");
    let server = with_history(&ssh, 3);
    let history = describe(&server, &aws, &["--state", "History", "--output", "json"]).json();
    let all = ids(&history);
    let newest = &history["Sessions"][0];
    let owner = newest["Owner"].as_str().expect("an owner");
    let target = newest["Target"].as_str().expect("a target");
    let filtered = |filter: &str| {
        let said = describe(&server, &aws, &["--state", "History", "--output", "json", "--filters", filter]);
        ids(&said.json())
    };
    assert_eq!(filtered(&format!("key=SessionId,value={}", all[1])), all[1..2]);
    assert_eq!(filtered(&format!("key=Owner,value={owner}")), all);
    assert_eq!(filtered(&format!("key=Owner,value={owner}x")), Vec::<String>::new());
    assert_eq!(filtered(&format!("key=Target,value={target}")), all);
    assert_eq!(filtered("key=Target,value=mi-00000000000000000"), Vec::<String>::new());
    assert_eq!(filtered("key=Status,value=Terminated"), all);
    assert_eq!(filtered("key=Status,value=Failed"), Vec::<String>::new());
    assert_eq!(filtered("key=AccessType,value=Standard"), all);
    assert_eq!(filtered("key=InvokedAfter,value=2018-08-29T00:00:00Z"), all);
    assert_eq!(filtered("key=InvokedBefore,value=2018-08-29T00:00:00Z"), Vec::<String>::new());
}

#[test]
fn bad_questions_get_the_services_own_errors() {
    let aws = need!("E2E_AWS");
    let server = Server::dev();
    let cases: &[(&[&str], &str)] = &[
        (&["--state", "Bogus"], "ValidationException"),
        (&["--state", "Active", "--max-results", "500"], "ValidationException"),
        (&["--state", "Active", "--filters", "key=Colour,value=red"], "ValidationException|InvalidFilterKey"),
        (&["--state", "Active", "--filters", "key=InvokedAfter,value=yesterday"], "ValidationException"),
        (&["--state", "Active", "--next-token", "abc"], "InvalidNextToken"),
    ];
    for (args, codes) in cases {
        let said = describe(&server, &aws, args);
        assert_eq!(said.code, 255, "{args:?}: {said:?}");
        assert!(codes.split('|').any(|code| said.err.contains(&format!("({code})"))), "{args:?}: {said:?}");
    }
    let unsigned = describe(&server, &aws, &["--state", "Active", "--no-sign-request"]);
    assert!(unsigned.err.contains("MissingAuthenticationToken"), "{unsigned:?}");
    let mut forged = server.command(&aws);
    forged.env("AWS_SECRET_ACCESS_KEY", "x".repeat(40)).args(["ssm", "describe-sessions", "--state", "Active"]);
    let forged = run(&mut forged);
    assert!(forged.err.contains("(InvalidSignatureException)"), "{forged:?}");
    let mut stranger = server.command(&aws);
    stranger.env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE").args(["ssm", "describe-sessions", "--state", "Active"]);
    let stranger = run(&mut stranger);
    assert!(stranger.err.contains("(UnrecognizedClientException)"), "{stranger:?}");
    let other = run(server.command(&aws).args(["ssm", "list-commands"]));
    assert!(other.err.contains("(UnknownOperationException)"), "{other:?}");
}

#[test]
fn connection_status_tells_the_truth() {
    let aws = need!("E2E_AWS");
    let server = Server::dev();
    let status = |target: &str| {
        let args = ["ssm", "get-connection-status", "--output", "json", "--target", target];
        run(server.command(&aws).args(args)).json()["Status"].clone()
    };
    assert_eq!(status(server.var("RAVELIN_TARGET_AWS_ID")), "connected");
    assert_eq!(status("mi-00000000000000000"), "notconnected");
}

#[test]
fn boto3_pages_and_reads_times() {
    let ssh = need!("E2E_SSH");
    let python = need!("E2E_PYTHON");
    let server = with_history(&ssh, 3);
    let out = run(server.command(&python).args([
        "-c",
        r#"
import boto3, json
ssm = boto3.client("ssm")
pages = list(ssm.get_paginator("describe_sessions").paginate(State="History", PaginationConfig={"PageSize": 2}))
sessions = [s for p in pages for s in p["Sessions"]]
assert all(s["EndDate"] >= s["StartDate"] for s in sessions), sessions
assert all(p["ResponseMetadata"]["RequestId"] for p in pages)
def code(call):
    try:
        call()
    except ssm.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
print(json.dumps({
    "pages": len(pages), "sessions": len(sessions),
    "unknown": code(lambda: ssm.terminate_session(SessionId="alice-0ffffffffffffffff")),
}))
"#,
    ]))
    .json();
    assert_eq!(out["pages"], 2);
    assert_eq!(out["sessions"], 3);
    assert_eq!(out["unknown"], "DoesNotExistException");
}

#[test]
fn temporary_keys_work_in_every_client_until_they_are_revoked() {
    let (python, aws) = (need!("E2E_PYTHON"), need!("E2E_AWS"));
    let bed = super::plugin::Bed::new();
    let server = &bed.server;
    let issue = |args: &[&str]| {
        server.ravelin(&[&["credentials", "issue", "--kind", "aws-temporary", "-o", "json"], args].concat()).json()
    };
    let issued = issue(&["--ttl", "1h"]);
    let text = |name: &str| issued[name].as_str().expect("a text").to_owned();
    let id = issued["credential"]["id"].as_str().expect("an id").to_owned();
    assert_eq!(issued["credential"]["kind"], "aws_temporary");
    let too_long = server.ravelin(&["credentials", "issue", "--kind", "aws-temporary", "--expires", "37h"]);
    assert!(too_long.code != 0 && too_long.err.contains("at most 36 hours"), "{too_long:?}");
    let with = |mut command: Command| {
        command.env("AWS_ACCESS_KEY_ID", &id).env("AWS_SECRET_ACCESS_KEY", text("secret"));
        command.env("AWS_SESSION_TOKEN", text("session_token"));
        command
    };
    let codes = || {
        let mut script = with(server.command(&python));
        script.args([
            "-c",
            r#"
import boto3, json, os
keys = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
token = os.environ["AWS_SESSION_TOKEN"]
def code(token):
    try:
        boto3.Session(**keys, aws_session_token=token).client("ssm").describe_sessions(State="Active")
    except boto3.client("ssm").exceptions.ClientError as error:
        return error.response["Error"]["Code"]
print(json.dumps([code(token), code(token[:-1]), code(None)]))
"#,
        ]);
        run(&mut script).json()
    };
    let unknown = "UnrecognizedClientException";
    assert_eq!(codes(), serde_json::json!([null, unknown, unknown]));
    // A whole session: the plugin signs its upgrade with the token, too.
    let mut shell = with(bed.aws(&aws, &[]));
    let said = ravelin_e2e::run_with(&mut shell, b"echo a$((40+2))b\nexit 0\n");
    assert!(said.code == 0 && said.out.contains("a42b"), "{said:?}");
    // The program that a profile names.
    let config = server.dir.join("config");
    let program = ravelin_e2e::binary().display().to_string();
    let profile = format!("[default]\ncredential_process = {program} credentials issue --credential-process\n");
    std::fs::write(&config, profile).expect("a file");
    let mut by_program = server.command(&aws);
    by_program.env("AWS_CONFIG_FILE", &config).env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let said = run(by_program.args(["ssm", "get-connection-status", "--target", bed.target(), "--output", "json"]));
    assert_eq!(said.json()["Status"], "connected");
    assert_eq!(server.ravelin(&["credentials", "revoke", &id]).code, 0);
    assert_eq!(codes(), serde_json::json!([unknown, unknown, unknown]));
}

#[test]
fn boto3_starts_resumes_and_ends_sessions_and_keeps_documents() {
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let out = run(server.command(&python).args([
        "-c",
        r#"
import boto3, json, os
ssm = boto3.client("ssm")
target = os.environ["RAVELIN_TARGET_AWS_ID"]
def code(call):
    try:
        call()
    except ssm.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
content = {"schemaVersion": "1.0", "description": "short", "sessionType": "Standard_Stream",
           "inputs": {"maxSessionDuration": "15", "idleSessionTimeout": "5"}}
made = ssm.create_document(Name="Short", DocumentType="Session", Content=json.dumps(content))
content["inputs"]["maxSessionDuration"] = "20"
ssm.update_document(Name="Short", Content=json.dumps(content), DocumentVersion="$LATEST")
ssm.update_document_default_version(Name="Short", DocumentVersion="2")
ssm.add_tags_to_resource(ResourceType="Document", ResourceId="Short", Tags=[{"Key": "team", "Value": "web"}])
started = ssm.start_session(Target=target, DocumentName="Short", Reason="a try")
resumed = ssm.resume_session(SessionId=started["SessionId"])
shown = ssm.describe_sessions(State="Active", Filters=[{"key": "SessionId", "value": started["SessionId"]}])["Sessions"][0]
ssm.terminate_session(SessionId=started["SessionId"])
late = ssm.resume_session(SessionId=started["SessionId"])
names = [d["Name"] for p in ssm.get_paginator("list_documents").paginate(PaginationConfig={"PageSize": 3})
         for d in p["DocumentIdentifiers"]]
instances = [i for p in ssm.get_paginator("describe_instance_information").paginate()
             for i in p["InstanceInformationList"]]
print(json.dumps({
    "status": made["DocumentDescription"]["Status"],
    "content": json.loads(ssm.get_document(Name="Short")["Content"])["inputs"]["maxSessionDuration"],
    "tags": ssm.list_tags_for_resource(ResourceType="Document", ResourceId="Short")["TagList"],
    "tokens_differ": started["TokenValue"] != resumed["TokenValue"],
    "same_url": started["StreamUrl"] == resumed["StreamUrl"], "url": started["StreamUrl"],
    "shown": [shown["Status"], shown["Reason"], shown["DocumentName"], shown["MaxSessionDuration"]],
    "late": late.get("TokenValue", ""),
    "names": len(names), "unique": len(set(names)), "has": "Short" in names,
    "instances": [[i["InstanceId"] == target, i["PingStatus"], i["ResourceType"]] for i in instances],
    "unknown": code(lambda: ssm.start_session(Target="mi-00000000000000000")),
    "port": code(lambda: ssm.start_session(Target=target, DocumentName="AWS-StartSSHSession", Parameters={"portNumber": ["70000"]})),
    "exists": code(lambda: ssm.create_document(Name="Short", DocumentType="Session", Content=json.dumps(content))),
    "same": code(lambda: ssm.update_document(Name="Short", Content=json.dumps(content), DocumentVersion="$LATEST")),
    "gone": [ssm.delete_document(Name="Short") and None, code(lambda: ssm.get_document(Name="Short"))][1],
    "setting": ssm.get_service_setting(SettingId="/ssm/managed-instance/activation-tier")["ServiceSetting"]["SettingValue"],
    "foreign": code(lambda: ssm.send_command(DocumentName="AWS-RunShellScript", InstanceIds=[])),
}))
"#,
    ]))
    .json();
    assert_eq!(out["status"], "Active");
    assert_eq!(out["content"], "20");
    assert_eq!(out["tags"], serde_json::json!([{"Key": "team", "Value": "web"}]));
    assert_eq!((&out["tokens_differ"], &out["same_url"]), (&Value::Bool(true), &Value::Bool(true)));
    assert!(out["url"].as_str().is_some_and(|url| url.starts_with("wss://127.0.0.1:")), "{out}");
    assert_eq!(out["shown"], serde_json::json!(["Connecting", "a try", "Short", "20"]));
    assert_eq!(out["late"], "");
    assert_eq!(out["names"], out["unique"], "pages do not repeat");
    assert_eq!(out["has"], true);
    assert_eq!(out["instances"], serde_json::json!([[true, "Online", "ManagedInstance"]]));
    for (what, code) in [
        ("unknown", "TargetNotConnected"),
        ("port", "BadRequest"),
        ("exists", "DocumentAlreadyExists"),
        ("same", "DuplicateDocumentContent"),
        ("gone", "InvalidDocument"),
        ("foreign", "UnknownOperationException"),
    ] {
        assert_eq!(out[what], code, "{what}");
    }
    assert_eq!(out["setting"], "advanced");
}
