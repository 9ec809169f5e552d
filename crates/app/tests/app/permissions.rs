//! No door forgets to ask: every operation of every HTTP dialect and every kind of SSH channel, without a proof, with a
//! wrong one, and with a right one but without rights.
//!
//! The tables come from the edges. An operation that is added there and not known here fails the test, so that nobody
//! adds one without saying how it is refused; and what was tried is counted, so that no case is left out either.

use futures_util::future::join_all;
use ravelin_model::policy::Action;
use russh::keys::ssh_key::private::{Ed25519Keypair, PrivateKey};
use russh::keys::{PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// What a channel, a request on one, or a global request of SSH asks for. That the edge asks each of these is proven
/// one by one in its own tests, where a target is at hand.
const SSH: &[(&str, Action)] = &[
    ("session: shell", Action::OpenShell),
    ("session: exec", Action::OpenExec),
    ("session: subsystem sftp", Action::OpenSftp),
    ("session: auth-agent-req@openssh.com", Action::ForwardAgent),
    ("direct-tcpip to a target", Action::OpenTunnel),
    ("direct-tcpip through a target", Action::ForwardLocal),
    ("direct-streamlocal@openssh.com", Action::ForwardLocal),
    ("tcpip-forward", Action::ForwardRemote),
];

/// A real bastion in whose policies nobody may do anything, with one target that must never hear of anybody.
struct Bastion {
    child: Child,
    http: String,
    ssh: SocketAddr,
    key: PrivateKey,
    token: String,
    client_id: String,
    client_secret: String,
    signing_key: (String, String),
    target: tokio::net::TcpListener,
    _folder: tempfile::TempDir,
}

impl Drop for Bastion {
    fn drop(&mut self) {
        // It may be gone already, when a test failed for that reason.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Bastion {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("ravelin.toml");
        let target = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&[7; 32]));
        let line = key.public_key().to_openssh().expect("a public key has a line");
        let config = format!(
            "policies = [\"nobody.cedar\"]\nnode.state_dir = \"state\"\n\
             [listen]\nssh = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\
             [ssh]\nlogin_grace = \"6 s\"\n\
             [[principal]]\nname = \"alice\"\ngroups = [\"operators\", \"web\"]\nssh_keys = [\"{line}\"]\n\
             [[principal]]\nname = \"nobody\"\n\
             [[target]]\nname = \"web-1\"\naddress = \"127.0.0.1\"\nport = {}\nhost_keys = [\"{line}\"]\n\
             shared_with = [\"web\"]\nlogins = [{{ name = \"root\", agent = true }}]\n",
            target.local_addr().expect("a bound address").port()
        );
        std::fs::write(&path, config).expect("may be written");
        let policy = "@id(\"only-nobody\") permit (principal == Principal::\"nobody\", action, resource);\n";
        std::fs::write(folder.path().join("nobody.cedar"), policy).expect("may be written");

        let binary = env!("CARGO_BIN_EXE_ravelin");
        let mut serve = Command::new(binary);
        serve.args(["serve", "--log-format", "json", "--log", "info", "-c"]).arg(&path);
        let mut child = serve.stderr(Stdio::piped()).spawn().expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut listens = BTreeMap::new();
        let ready = log.by_ref().map_while(Result::ok).any(|line| {
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if let (Some(what), Some(address)) = (event["listener"].as_str(), event["address"].as_str()) {
                listens.insert(what.to_owned(), address.to_owned());
            }
            event["message"] == "ready"
        });
        assert!(ready, "it did not come up");
        // A pipe that nobody reads would stop it in the end.
        std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));

        let issue = |kind: &str| -> BTreeMap<String, String> {
            let mut command = Command::new(binary);
            command.args(["credentials", "bootstrap", "--principal", "alice", "--kind", kind, "-c"]).arg(&path);
            let said = command.output().expect("it runs");
            assert!(said.status.success(), "{said:?}");
            let text = String::from_utf8(said.stdout).expect("text");
            let pairs = text.lines().filter_map(|line| line.split_once('='));
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let (token, client, signing) = (issue("token"), issue("azure"), issue("aws"));
        Self {
            http: format!("http://{}", listens["http"]),
            ssh: listens["ssh"].parse().expect("an address"),
            key,
            token: token["RAVELIN_TOKEN"].clone(),
            client_id: client["AZURE_CLIENT_ID"].clone(),
            client_secret: client["AZURE_CLIENT_SECRET"].clone(),
            signing_key: (signing["AWS_ACCESS_KEY_ID"].clone(), signing["AWS_SECRET_ACCESS_KEY"].clone()),
            target,
            child,
            _folder: folder,
        }
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&str>, headers: &[(&str, &str)]) -> (u16, String) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let mut request = reqwest::Client::new().request(method, format!("{}{path}", self.http));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.unwrap_or_default().to_owned();
        let answer = request.body(body).send().await.expect("an answer");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    /// Nobody has come to the target.
    async fn target_is_alone(&self) {
        tokio::select! {
            biased;
            _ = self.target.accept() => panic!("somebody reached the target"),
            () = std::future::ready(()) => {}
        }
    }
}

/// With what proof a door is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum With {
    NoProof,
    WrongProof,
    NoRights,
}

/// What was tried, operation by operation.
#[derive(Default)]
struct Tried(Mutex<BTreeSet<(String, With)>>);

impl Tried {
    fn note(&self, operation: &str, with: With) {
        let is_new = self.0.lock().expect("no panic before").insert((operation.to_owned(), with));
        assert!(is_new, "{operation} is tried twice {with:?}");
    }

    /// Every operation of the tables was tried in every way, those whose proof is their path with a wrong one, and nothing
    /// else.
    fn covers(self, tables: &[&[(&str, Action)]], proof_in_path: &[(&str, Action)]) {
        let wanted: BTreeSet<(String, With)> = tables
            .iter()
            .flat_map(|table| table.iter())
            .flat_map(|(operation, _)| {
                [With::NoProof, With::WrongProof, With::NoRights].map(|with| ((*operation).to_owned(), with))
            })
            .chain(proof_in_path.iter().map(|(operation, _)| ((*operation).to_owned(), With::WrongProof)))
            .collect();
        let tried = self.0.into_inner().expect("no panic before");
        let forgotten: Vec<_> = wanted.difference(&tried).collect();
        assert!(forgotten.is_empty(), "not tried: {forgotten:?}");
        assert_eq!(tried.len(), wanted.len(), "something was tried that no table names");
    }
}

/// Whether an operation of the tunnels' data plane carries its proof in its path: it cannot be called without one, and
/// none is given to whoever has no rights.
fn in_path((operation, _): &(&str, Action)) -> bool {
    operation.contains('{')
}

/// A request for an operation of the own API: method, path, body.
fn native_request(operation: &str) -> (&str, String, Option<&'static str>) {
    let (method, path) = operation.split_once(' ').expect("a method and a path");
    let path = path
        .replace("/sessions/{id}", "/sessions/alice-07a16060613c408b5")
        .replace("/credentials/{id}", "/credentials/0123456789abcdef")
        .replace("/recordings/search", "/recordings/search?text=word")
        .replace("{name}", "web-1");
    assert!(!path.contains('{'), "{operation}: say here what stands for its parameters");
    let body = match operation {
        "POST /api/v1/sessions/{id}/terminate" => Some("{}"),
        "POST /api/v1/sessions/terminate" => Some(r#"{"ids":["alice-07a16060613c408b5"]}"#),
        "POST /api/v1/sessions/terminate-matching" => Some(r#"{"filter":{"target":"web-1"},"dry_run":true}"#),
        "POST /api/v1/credentials" => Some(r#"{"kind":"token","principal":"alice"}"#),
        "POST /api/v1/sessions/{id}/hold" => Some("{}"),
        "POST /api/v1/sessions/{id}/release" => Some("{}"),
        other if other.starts_with("GET ") || other.starts_with("DELETE ") => None,
        other => panic!("{other}: say here what its body is"),
    };
    (method, path, body)
}

/// A request for an operation of the Azure edge: method, path after the host, body.
fn azure_request(operation: &str) -> (&'static str, String, Option<&'static str>) {
    let subscription = "/subscriptions/00000000-0000-4000-8000-000000000002";
    let group = format!("{subscription}/resourceGroups/ravelin");
    let hosts = "providers/Microsoft.Network/bastionHosts";
    let machines = "providers/Microsoft.Compute/virtualMachines";
    let locations = "providers/Microsoft.Network/locations/local";
    const LINKS: &str = r#"{"vms":[{"vm":{"id":"/x"}}]}"#;
    let (network, resources) = ("?api-version=2024-05-01", "?api-version=2022-12-01");
    match operation {
        "GetActiveSessions" => ("POST", format!("{group}/{hosts}/ravelin/getActiveSessions{network}"), Some("")),
        "DisconnectActiveSessions" => (
            "POST",
            format!("{group}/{hosts}/ravelin/disconnectActiveSessions{network}"),
            Some(r#"{"sessionIds":["alice-07a16060613c408b5"]}"#),
        ),
        "BastionHosts_Get" => ("GET", format!("{group}/{hosts}/ravelin{network}"), None),
        "BastionHosts_List" => ("GET", format!("{subscription}/{hosts}{network}"), None),
        "BastionHosts_ListByResourceGroup" => ("GET", format!("{group}/{hosts}{network}"), None),
        "BastionHosts_CreateOrUpdate" => ("PUT", format!("{group}/{hosts}/ravelin{network}"), Some("{}")),
        "BastionHosts_UpdateTags" => ("PATCH", format!("{group}/{hosts}/ravelin{network}"), Some("{}")),
        "BastionHosts_Delete" => ("DELETE", format!("{group}/{hosts}/ravelin{network}"), None),
        "PutBastionShareableLink" => {
            ("POST", format!("{group}/{hosts}/ravelin/createShareableLinks{network}"), Some(LINKS))
        }
        "GetBastionShareableLink" => {
            ("POST", format!("{group}/{hosts}/ravelin/getShareableLinks{network}"), Some("{}"))
        }
        "DeleteBastionShareableLink" => {
            ("POST", format!("{group}/{hosts}/ravelin/deleteShareableLinks{network}"), Some(LINKS))
        }
        "DeleteBastionShareableLinkByToken" => {
            let path = format!("{group}/{hosts}/ravelin/deleteShareableLinksByToken{network}");
            ("POST", path, Some(r#"{"tokens":["x"]}"#))
        }
        "AsyncOperations_Status" => ("GET", format!("{subscription}/{locations}/operations/x{network}"), None),
        "AsyncOperations_Result" => ("GET", format!("{subscription}/{locations}/operationResults/x{network}"), None),
        "VirtualMachines_Get" => ("GET", format!("{group}/{machines}/web-1{resources}"), None),
        "VirtualMachines_List" => ("GET", format!("{group}/{machines}{resources}"), None),
        "VirtualMachines_ListAll" => ("GET", format!("{subscription}/{machines}{resources}"), None),
        "Providers_List" => ("GET", format!("{subscription}/providers{resources}"), None),
        "Providers_Get" => ("GET", format!("{subscription}/providers/Microsoft.Network{resources}"), None),
        "Tenants_List" => ("GET", format!("/tenants{resources}"), None),
        "Subscriptions_List" => ("GET", format!("/subscriptions{resources}"), None),
        "Subscriptions_Get" => ("GET", format!("{subscription}{resources}"), None),
        "ResourceGroups_List" => ("GET", format!("{subscription}/resourceGroups{resources}"), None),
        "ResourceGroups_Get" => ("GET", format!("{group}{resources}"), None),
        other => panic!("{other}: say here how it is called"),
    }
}

#[tokio::test]
async fn every_door_refuses_whoever_has_no_proof_and_whoever_has_no_rights() {
    let bastion = Bastion::start().await;
    let tried = Tried::default();
    tokio::join!(
        native(&bastion, &tried),
        azure(&bastion, &tried),
        aws(&bastion, &tried),
        data_channel(&bastion),
        ssh(&bastion, &tried),
    );
    let (with_paths, with_forms): (Vec<_>, Vec<_>) = ravelin_azure::DATA_OPERATIONS.iter().copied().partition(in_path);
    tried.covers(
        &[ravelin_native::OPERATIONS, ravelin_azure::OPERATIONS, ravelin_aws::OPERATIONS, SSH, &with_forms],
        &with_paths,
    );
    bastion.target_is_alone().await;
}

async fn native(bastion: &Bastion, tried: &Tried) {
    let bearer = format!("Bearer {}", bastion.token);
    for (operation, action) in ravelin_native::OPERATIONS {
        let (method, path, body) = native_request(operation);
        let json = ("content-type", "application/json");
        let (status, text) = bastion.ask(method, &path, body, &[json]).await;
        assert_eq!(status, 401, "{operation} ({action}) without a proof: {text}");
        tried.note(operation, With::NoProof);
        let (status, text) = bastion.ask(method, &path, body, &[json, ("authorization", "Bearer rvl_x_y")]).await;
        assert_eq!(status, 401, "{operation} ({action}) with a wrong proof: {text}");
        tried.note(operation, With::WrongProof);
        let (status, text) = bastion.ask(method, &path, body, &[json, ("authorization", &bearer)]).await;
        match *operation {
            // A list of what one may see; one may see nothing.
            "GET /api/v1/targets" => assert_eq!((status, text.as_str()), (200, r#"{"items":[]}"#), "{operation}"),
            // Each id has an outcome of its own.
            "POST /api/v1/sessions/terminate" => assert!(text.contains("not_found"), "{operation}: {status} {text}"),
            // Who one is, is no secret to oneself.
            "GET /api/v1/whoami" => assert!(matches!(status, 200 | 403), "{operation}: {status} {text}"),
            _ => assert!(matches!(status, 403 | 404), "{operation} ({action}) without rights: {status} {text}"),
        }
        tried.note(operation, With::NoRights);
    }
    let (status, _) = bastion.ask("GET", "/api/v1/nothing", None, &[]).await;
    assert_eq!(status, 401, "a path that is not there is closed as well");
}

async fn azure(bastion: &Bastion, tried: &Tried) {
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", &bastion.client_id),
        ("client_secret", &bastion.client_secret),
        ("scope", "https://management.azure.com/.default"),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .join("&");
    let (status, text) = bastion
        .ask(
            "POST",
            "/00000000-0000-4000-8000-000000000001/oauth2/v2.0/token",
            Some(&form),
            &[("content-type", "application/x-www-form-urlencoded")],
        )
        .await;
    assert_eq!(status, 200, "{text}");
    let token: Value = serde_json::from_str(&text).expect("JSON");
    let bearer = format!("Bearer {}", token["access_token"].as_str().expect("a token"));
    azure_data(bastion, tried, token["access_token"].as_str().expect("a token")).await;
    for (operation, action) in ravelin_azure::OPERATIONS {
        let (method, path, body) = azure_request(operation);
        let json = ("content-type", "application/json");
        let (status, text) = bastion.ask(method, &path, body, &[json]).await;
        assert_eq!(status, 401, "{operation} ({action}) without a proof: {text}");
        tried.note(operation, With::NoProof);
        let (status, text) = bastion.ask(method, &path, body, &[json, ("authorization", "Bearer e30.e30.e30")]).await;
        assert_eq!(status, 401, "{operation} ({action}) with a wrong proof: {text}");
        tried.note(operation, With::WrongProof);
        let (status, text) = bastion.ask(method, &path, body, &[json, ("authorization", &bearer)]).await;
        match *operation {
            // Each id has an outcome of its own.
            "DisconnectActiveSessions" => {
                assert!(text.contains("NotFound"), "{operation} ({action}) without rights: {status} {text}");
            }
            // A list of what one may see; one may see nothing.
            "Subscriptions_List" | "Tenants_List" | "VirtualMachines_List" | "VirtualMachines_ListAll" => {
                assert_eq!((status, text.as_str()), (200, r#"{"value":[]}"#), "{operation}");
            }
            "VirtualMachines_Get" => assert_eq!(status, 404, "{operation} ({action}) without rights: {text}"),
            // Its only answer; what comes of it is told to who comes for it.
            "DeleteBastionShareableLinkByToken" => assert_eq!(status, 202, "{operation} ({action}): {text}"),
            _ => assert_eq!(status, 403, "{operation} ({action}) without rights: {text}"),
        }
        tried.note(operation, With::NoRights);
    }
}

/// The tunnels' data plane: proofs are in forms and in paths there.
async fn azure_data(bastion: &Bastion, tried: &Tried, bearer: &str) {
    let vm = "/subscriptions/00000000-0000-4000-8000-000000000002/resourceGroups/ravelin/providers\
              /Microsoft.Compute/virtualMachines/web-1";
    let form = |token: &str| format!("resourceId={vm}&protocol=tcptunnel&workloadHostPort=22&aztoken={token}");
    let json = |token: &str| format!(r#"{{"resourceId":"{vm}","vmPort":22,"azToken":"{token}"}}"#);
    let socket = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    for (operation, action) in ravelin_azure::DATA_OPERATIONS {
        let (method, path) = operation.split_once(' ').expect("a method and a path");
        match *operation {
            "POST /api/tokens" | "POST /api/connection" => {
                let body = |token: &str| if path.ends_with("tokens") { form(token) } else { json(token) };
                let (status, text) = bastion.ask(method, path, Some(&body("")), &[]).await;
                assert!(matches!(status, 400 | 401), "{operation} ({action}) without a proof: {status} {text}");
                tried.note(operation, With::NoProof);
                let (status, text) = bastion.ask(method, path, Some(&body("e30.e30.e30")), &[]).await;
                assert_eq!(status, 401, "{operation} ({action}) with a wrong proof: {text}");
                tried.note(operation, With::WrongProof);
                let (status, text) = bastion.ask(method, path, Some(&body(bearer)), &[]).await;
                assert_eq!(status, 404, "{operation} ({action}) without rights: {text}");
                tried.note(operation, With::NoRights);
            }
            "DELETE /api/tokens/{authToken}" => {
                let (status, text) = bastion.ask(method, "/api/tokens/guessed", None, &[]).await;
                assert_eq!(status, 404, "{operation} ({action}) with a wrong proof: {text}");
                tried.note(operation, With::WrongProof);
            }
            "GET /api/shareable-url/{token}" => {
                let (status, text) = bastion.ask(method, "/api/shareable-url/guessed", None, &[]).await;
                assert!(status == 404 && !text.contains("web-1"), "{operation} ({action}): {status} {text}");
                tried.note(operation, With::WrongProof);
            }
            sockets if sockets.starts_with("GET ") => {
                let at = path.rfind('/').expect("a path");
                let (status, text) = bastion.ask(method, &format!("{}/guessed", &path[..at]), None, &socket).await;
                assert_eq!(status, 401, "{operation} ({action}) with a wrong proof: {text}");
                tried.note(operation, With::WrongProof);
            }
            other => panic!("{other}: say here how it is called"),
        }
    }
}

/// The body of an operation of the AWS edge.
fn aws_body(operation: &str) -> &'static str {
    match operation {
        "DescribeSessions" => r#"{"State":"Active"}"#,
        "TerminateSession" | "ResumeSession" => r#"{"SessionId":"alice-07a16060613c408b5"}"#,
        "StartSession" | "GetConnectionStatus" => r#"{"Target":"web-1"}"#,
        "DescribeInstanceInformation" | "DescribeInstanceProperties" | "ListDocuments" => "{}",
        "CreateDocument" | "UpdateDocument" => r#"{"Name":"Mine","Content":"{}","DocumentType":"Session"}"#,
        "UpdateDocumentDefaultVersion" => r#"{"Name":"Mine","DocumentVersion":"1"}"#,
        "DeleteDocument" | "GetDocument" | "DescribeDocument" | "ListDocumentVersions" => r#"{"Name":"Mine"}"#,
        "AddTagsToResource" => r#"{"ResourceType":"Document","ResourceId":"Mine","Tags":[{"Key":"a","Value":"b"}]}"#,
        "RemoveTagsFromResource" => r#"{"ResourceType":"Document","ResourceId":"Mine","TagKeys":["a"]}"#,
        "ListTagsForResource" => r#"{"ResourceType":"Document","ResourceId":"Mine"}"#,
        "GetServiceSetting" | "ResetServiceSetting" => r#"{"SettingId":"/ssm/managed-instance/activation-tier"}"#,
        "UpdateServiceSetting" => r#"{"SettingId":"/ssm/managed-instance/activation-tier","SettingValue":"standard"}"#,
        other => panic!("{other}: say here what its body is"),
    }
}

async fn aws(bastion: &Bastion, tried: &Tried) {
    let (key, secret) = &bastion.signing_key;
    for (operation, action) in ravelin_aws::OPERATIONS {
        let target = format!("AmazonSSM.{operation}");
        let named = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
        let body = aws_body(operation);
        let (status, text) = bastion.ask("POST", "/", Some(body), &named).await;
        // The service itself answers 400 here and says why by name.
        assert!(
            status == 400 && text.contains("MissingAuthenticationToken"),
            "{operation} ({action}): {status} {text}"
        );
        tried.note(operation, With::NoProof);

        let wrong = signature(bastion, key, "not the key's secret", &named, body);
        let (status, text) = bastion.ask("POST", "/", Some(body), &joined(&named, &wrong)).await;
        assert!(
            matches!(status, 400 | 403) && text.contains("InvalidSignatureException"),
            "{operation} ({action}) with a wrong proof: {status} {text}"
        );
        tried.note(operation, With::WrongProof);

        let right = signature(bastion, key, secret, &named, body);
        let (status, text) = bastion.ask("POST", "/", Some(body), &joined(&named, &right)).await;
        match *operation {
            // To whoever may not know of a session or a target, it is not there.
            "TerminateSession" | "ResumeSession" => {
                assert!(status == 400 && text.contains("DoesNotExistException"), "{operation}: {status} {text}");
            }
            "StartSession" => {
                assert!(status == 400 && text.contains("TargetNotConnected"), "{operation}: {status} {text}");
            }
            "DescribeInstanceInformation" | "DescribeInstanceProperties" => {
                assert!(status == 200 && text.ends_with(":[]}"), "{operation}: {status} {text}");
            }
            "GetConnectionStatus" => {
                assert!(status == 200 && text.contains("notconnected"), "{operation}: {status} {text}");
            }
            _ => assert!(
                status == 400 && text.contains("AccessDeniedException"),
                "{operation} ({action}) without rights: {status} {text}"
            ),
        }
        tried.note(operation, With::NoRights);
    }
}

/// A data channel opens with the token of a session, which whoever has no rights never gets.
async fn data_channel(bastion: &Bastion) {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;
    let path = "/v1/data-channel/alice-07a16060613c408b5?role=publish_subscribe";
    let (status, text) = bastion.ask("GET", path, None, &[]).await;
    assert!((400..500).contains(&status), "no upgrade: {status} {text}");
    let url = format!("{}{path}", bastion.http.replacen("http://", "ws://", 1));
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
    let opening = r#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"t","ClientId":"c"}"#;
    socket.send(Message::text(opening)).await.expect("sent");
    let said = socket.next().await.expect("a last word").expect("sound").into_data();
    let message = ravelin_aws::proto::message::Message::decode(&said).expect("a message");
    assert_eq!(message.message_type, ravelin_aws::proto::message::MessageType::ChannelClosed);
}

fn joined<'a>(some: &[(&'a str, &'a str)], more: &'a [(String, String)]) -> Vec<(&'a str, &'a str)> {
    some.iter().copied().chain(more.iter().map(|(name, value)| (name.as_str(), value.as_str()))).collect()
}

/// The headers that sign a request of now, by AWS's own signer.
fn signature(
    bastion: &Bastion,
    key: &str,
    secret: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Vec<(String, String)> {
    use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
    let identity = aws_credential_types::Credentials::new(key, secret, None, None, "test").into();
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("ssm")
        .time(std::time::SystemTime::now())
        .settings(SigningSettings::default())
        .build()
        .expect("all is set")
        .into();
    let url = format!("{}/", bastion.http);
    let body = SignableBody::Bytes(body.as_bytes());
    let request = SignableRequest::new("POST", &url, headers.iter().copied(), body).expect("a request");
    let (instructions, _signature) = sign(request, &params).expect("signed").into_parts();
    instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A client that takes any host key and notes when its agent is asked for.
#[derive(Clone, Default)]
struct Anything {
    agent_asked: Arc<AtomicBool>,
}

impl russh::client::Handler for Anything {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: russh::Channel<russh::client::Msg>,
        reply: russh::client::ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        self.agent_asked.store(true, Ordering::SeqCst);
        drop(reply);
        Ok(())
    }
}

struct Client {
    handle: russh::client::Handle<Anything>,
    agent_asked: Arc<AtomicBool>,
}

async fn connect(bastion: &Bastion) -> Client {
    let config = Arc::new(russh::client::Config::default());
    let handler = Anything::default();
    let agent_asked = Arc::clone(&handler.agent_asked);
    let handle = russh::client::connect(config, bastion.ssh, handler).await.expect("it answers");
    Client { handle, agent_asked }
}

async fn ssh(bastion: &Bastion, tried: &Tried) {
    let stranger = Arc::new(PrivateKey::from(Ed25519Keypair::from_seed(&[8; 32])));
    // All at once: who does not log in is heard out until the end of the grace.
    join_all(SSH.iter().map(|(kind, action)| ssh_kind(bastion, tried, &stranger, kind, *action))).await;
}

async fn ssh_kind(bastion: &Bastion, tried: &Tried, stranger: &Arc<PrivateKey>, kind: &str, action: Action) {
    // As `ssh -J` comes in, and as everybody else does.
    let user = if action == Action::OpenTunnel { "alice" } else { "alice:web-1" };
    // Without any login: the bastion must not so much as open a channel.
    let without_login = async {
        let mut nobody = connect(bastion).await;
        assert!(!opens(&mut nobody, kind).await, "{kind} ({action}) without a login");
        tried.note(kind, With::NoProof);
    };
    let with_a_strangers_key = async {
        let mut nobody = connect(bastion).await;
        let key = PrivateKeyWithHashAlg::new(Arc::clone(stranger), None);
        let login = nobody.handle.authenticate_publickey(user, key).await;
        assert!(!login.is_ok_and(|login| login.success()), "{kind} ({action}) with a wrong proof");
        assert!(!opens(&mut nobody, kind).await, "{kind} ({action}) with a wrong proof");
        tried.note(kind, With::WrongProof);
    };
    let without_rights = async {
        let mut alice = connect(bastion).await;
        let key = PrivateKeyWithHashAlg::new(Arc::new(bastion.key.clone()), None);
        let login = alice.handle.authenticate_publickey(user, key).await.expect("an answer");
        assert!(login.success(), "{kind}: the proof is right");
        assert!(!opens(&mut alice, kind).await, "{kind} ({action}) without rights");
        tried.note(kind, With::NoRights);
    };
    tokio::join!(without_login, with_a_strangers_key, without_rights);
}

/// Whether what was asked for was granted.
async fn opens(client: &mut Client, kind: &str) -> bool {
    let handle = &mut client.handle;
    match kind {
        "direct-tcpip to a target" => handle.channel_open_direct_tcpip("web-1", 22, "127.0.0.1", 1).await.is_ok(),
        "direct-tcpip through a target" => {
            handle.channel_open_direct_tcpip("127.0.0.1", 80, "127.0.0.1", 1).await.is_ok()
        }
        "direct-streamlocal@openssh.com" => handle.channel_open_direct_streamlocal("/tmp/socket").await.is_ok(),
        "tcpip-forward" => handle.tcpip_forward("127.0.0.1", 0).await.is_ok(),
        session => {
            let Ok(mut channel) = handle.channel_open_session().await else { return false };
            let asked = match session {
                "session: shell" => channel.request_shell(true).await,
                "session: exec" => channel.exec(true, "true").await,
                "session: subsystem sftp" => channel.request_subsystem(true, "sftp").await,
                // The offer is only noted; what counts is whether anybody takes it when a program starts.
                "session: auth-agent-req@openssh.com" => match channel.agent_forward(true).await {
                    Ok(()) => channel.exec(true, "true").await,
                    Err(error) => Err(error),
                },
                other => panic!("{other}: say here how it is asked for"),
            };
            if asked.is_err() {
                return false;
            }
            let exited = loop {
                match channel.wait().await {
                    Some(russh::ChannelMsg::ExitStatus { exit_status }) => break exit_status == 0,
                    Some(russh::ChannelMsg::Failure | russh::ChannelMsg::Close) | None => break false,
                    Some(_) => {}
                }
            };
            exited || client.agent_asked.load(Ordering::SeqCst)
        }
    }
}

#[test]
fn every_action_is_asked_for_by_some_door() {
    let tables = [ravelin_aws::OPERATIONS, ravelin_azure::OPERATIONS, ravelin_native::OPERATIONS, SSH];
    let asked: BTreeSet<Action> = tables.into_iter().flatten().map(|(_, action)| *action).collect();
    let forgotten: Vec<&Action> = Action::ALL.iter().filter(|action| !asked.contains(action)).collect();
    assert!(forgotten.is_empty(), "no door asks for {forgotten:?}");
}
