//! The real Azure SDK for Python, pointed here through nothing but its documented settings.

use ravelin_e2e::{Running, Server, eventually, need, run};

macro_rules! client {
    ($body:literal) => {
        concat!(
            r#"
import json, os, sys, urllib.error, urllib.request
from azure.identity import ClientSecretCredential
from azure.mgmt.network import NetworkManagementClient
e = os.environ
credential = ClientSecretCredential(
    e["AZURE_TENANT_ID"], e["AZURE_CLIENT_ID"], e["AZURE_CLIENT_SECRET"],
    authority=e["AZURE_AUTHORITY_HOST"], disable_instance_discovery=True)
client = NetworkManagementClient(credential, e["AZURE_SUBSCRIPTION_ID"], base_url=e["RAVELIN_ARM_URL"])
group, name = e["AZURE_RESOURCE_GROUP"], e["AZURE_BASTION_NAME"]
def plain(item):
    """Camel case as on the wire, whichever way this SDK version spells its attributes."""
    return item.as_dict() if not hasattr(item, "serialize") else item.serialize(keep_readonly=True)
"#,
            $body
        )
    };
}

/// Prints the active sessions as a JSON list.
pub(super) const LIST: &str = client!(
    "print(json.dumps([plain(s) for s in client.begin_get_active_sessions(group, name).result()], default=str))\n"
);

/// Disconnects the ids given as arguments and prints the states as a JSON list.
pub(super) const DISCONNECT: &str = client!(
    r#"
from azure.mgmt.network.models import SessionIds
answer = client.disconnect_active_sessions(group, name, SessionIds(session_ids=sys.argv[1:]))
print(json.dumps([plain(s) for s in answer], default=str))
"#
);

#[test]
fn an_empty_bastion_gives_an_empty_list() {
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let list = run(server.command(&python).args(["-c", LIST])).json();
    assert_eq!(list, serde_json::json!([]));
}

#[test]
fn errors_arrive_as_the_sdk_knows_them() {
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let said = run(server.command(&python).args([
        "-c",
        client!(
            r#"
from azure.core.exceptions import ClientAuthenticationError, ResourceNotFoundError, HttpResponseError
def attempt(what):
    try:
        list(what())
        return "nothing"
    except HttpResponseError as error:
        return [type(error).__name__, error.status_code, error.error.code if error.error else None]
    except ClientAuthenticationError as error:
        return [type(error).__name__]
out = {}
out["unknown bastion"] = attempt(lambda: client.begin_get_active_sessions(group, "nobody").result())
out["unknown group"] = attempt(lambda: client.begin_get_active_sessions("nowhere", name).result())
wrong = ClientSecretCredential(e["AZURE_TENANT_ID"], e["AZURE_CLIENT_ID"], "wrong",
    authority=e["AZURE_AUTHORITY_HOST"], disable_instance_discovery=True)
other = NetworkManagementClient(wrong, e["AZURE_SUBSCRIPTION_ID"], base_url=e["RAVELIN_ARM_URL"])
out["wrong secret"] = attempt(lambda: other.begin_get_active_sessions(group, name).result())
print(json.dumps(out))
"#
        ),
    ]));
    let out = said.json();
    assert_eq!(out["unknown bastion"], serde_json::json!(["ResourceNotFoundError", 404, "ResourceNotFound"]));
    assert_eq!(out["unknown group"], serde_json::json!(["ResourceNotFoundError", 404, "ResourceGroupNotFound"]));
    assert_eq!(out["wrong secret"][0], "ClientAuthenticationError", "{out}");
}

#[test]
fn both_body_shapes_and_all_api_versions_are_taken() {
    let ssh = need!("E2E_SSH");
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let shells: Vec<Running> = (0..2)
        .map(|_| {
            let mut shell = Running::start(&mut server.ssh(&ssh, &["-tt", &server.destination()]));
            shell.send("echo up-$((40+2))\n");
            shell.expect("up-42");
            shell
        })
        .collect();
    eventually("both are listed", || (server.live().len() == 2).then_some(()));
    let out = run(server.command(&python).args([
        "-c",
        client!(
            r#"
token = credential.get_token("https://management.azure.com/.default").token
base = (e["RAVELIN_ARM_URL"] + "/subscriptions/" + e["AZURE_SUBSCRIPTION_ID"] + "/RESOURCEGROUPS/" + group.upper()
        + "/providers/microsoft.network/BASTIONHOSTS/" + name)
def post(action, body=None, version="2022-07-01", token=token):
    data = b"" if body is None else json.dumps(body).encode()
    request = urllib.request.Request(base + "/" + action + "?api-version=" + version, data=data, method="POST")
    request.add_header("Authorization", "Bearer " + token)
    if body is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.loads(answer.read()), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), dict(error.headers)
out = {}
for version in ["2019-09-01", "2020-11-01", "2022-07-01", "2024-05-01", "2026-03-01"]:
    status, body, _ = post("getActiveSessions", version=version)
    assert status == 200 and len(body["value"]) == 2, (version, status, body)
out["too old"] = post("getActiveSessions", version="2018-01-01")[:2]
out["no sense"] = post("getActiveSessions", version="soon")[:2]
status, body, headers = post("GETACTIVESESSIONS")
assert status == 200, body
one, two = [s["sessionId"] for s in body["value"]]
out["request id"] = any(h.lower() == "x-ms-request-id" for h in headers)
out["bare"] = post("disconnectActiveSessions", [one])[1]
out["object"] = post("disconnectActiveSessions", {"sessionIds": [two, one]})[1]
out["empty"] = post("disconnectActiveSessions", {"sessionIds": []})[:2]
out["junk"] = post("disconnectActiveSessions", "x")[0]
out["bad token"] = post("getActiveSessions", token="a.b.c")[:2]
print(json.dumps(out))
"#
        ),
    ]))
    .json();
    assert_eq!(out["bare"]["value"][0]["state"], "Disconnected", "{out}");
    assert_eq!(out["object"]["value"][0]["state"], "Disconnected", "{out}");
    assert_eq!(out["empty"], serde_json::json!([200, { "value": [] }]));
    assert_eq!(out["junk"], 400);
    assert_eq!(out["too old"][0], 400);
    assert_eq!(out["no sense"][0], 400);
    assert_eq!(out["bad token"][0], 401);
    assert_eq!(out["bad token"][1]["error"]["code"], "InvalidAuthenticationToken");
    assert_eq!(out["request id"], true);
    assert!(server.live().is_empty());
    drop(shells);
}

#[test]
fn an_answer_that_was_lost_is_asked_for_again_and_the_end_is_on_record_once() {
    let ssh = need!("E2E_SSH");
    let python = need!("E2E_PYTHON");
    let server = Server::dev();
    let (mut shell, _id) = server.session_by_ssh(&ssh);
    // The SDK's own retries, over a way on which the first answer becomes a 500.
    let out = run(server.command(&python).args([
        "-c",
        client!(
            r#"
from azure.core.pipeline.transport import RequestsTransport
from azure.mgmt.network.models import SessionIds
posts = []
class Lossy(RequestsTransport):
    def send(self, request, **options):
        response = super().send(request, **options)
        if "/disconnectActiveSessions" in request.url:
            posts.append(response.status_code)
            if len(posts) == 1:
                response.status_code = response.internal_response.status_code = 500
        return response
ids = [s.session_id for s in client.begin_get_active_sessions(group, name).result()]
lossy = NetworkManagementClient(credential, e["AZURE_SUBSCRIPTION_ID"], base_url=e["RAVELIN_ARM_URL"], transport=Lossy())
states = [[s.session_id, s.state, s.message] for s in lossy.disconnect_active_sessions(group, name, SessionIds(session_ids=ids))]
print(json.dumps({"posts": posts, "ids": ids, "states": states}))
"#
        ),
    ]))
    .json();
    assert_eq!(out["posts"], serde_json::json!([200, 200]), "sent twice: {out}");
    assert_eq!(out["states"][0][1], "NotFound", "{out}");
    assert!(out["states"][0][2].as_str().is_some_and(|text| text.contains("It ended at")), "{out}");
    let ended = server.ravelin(&["audit", "export", "--event", "session_ended"]).ok();
    assert_eq!(ended.lines().filter(|line| line.contains("session_ended")).count(), 1, "{ended}");
    shell.wait();
}
