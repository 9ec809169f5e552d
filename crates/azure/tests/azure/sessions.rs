//! Listing and disconnecting, who may, how a list goes on, and what bad requests get.

use crate::world::{HOST, SUBSCRIPTION, TENANT, VERSION, World, host_path, request};
use axum::body::Body;
use http::{Method, Request, StatusCode};
use ravelin_azure::OPERATIONS;
use ravelin_engine::testkit::FakeLeg;
use ravelin_model::policy::Action;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test]
async fn the_list_has_every_field_of_the_reference() {
    let world = World::new().await;
    let first = world.open("bob", "vm01", FakeLeg::new()).await;
    let second = world.open("bob", "web-1", FakeLeg::new()).await;
    let list = world.list(&world.bearer("alice").await).await;
    assert_eq!(list.len(), 2);
    let item = |id: &str| list.iter().find(|item| item["sessionId"] == id).expect("listed").clone();

    let vm01 = item(first.session().as_str());
    let start = vm01["startTime"].as_str().expect("a string");
    assert!(start.len() == 28 && start.ends_with('Z') && start.starts_with("20"), "{start}");
    assert!(vm01["sessionDurationInMins"].as_f64().expect("a number") < 1.0);
    assert_eq!(vm01["targetSubscriptionId"], "11111111-2222-3333-4444-555555555555");
    assert_eq!(vm01["targetResourceGroup"], "other-rg");
    assert_eq!(
        vm01["targetResourceId"],
        "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/other-rg/providers/Microsoft.Compute/virtualMachines/vm01"
    );
    for (field, value) in [
        ("resourceType", "VM"),
        ("targetHostName", "vm01"),
        ("userName", "bob"),
        ("targetIpAddress", "10.1.1.1"),
        ("protocol", "SSH"),
    ] {
        assert_eq!(vm01[field], value, "{field}");
    }
    assert_eq!(vm01.as_object().expect("an object").len(), 11, "nothing else leaves");

    let web = item(second.session().as_str());
    assert_eq!(web["targetSubscriptionId"], SUBSCRIPTION);
    assert_eq!(web["targetResourceId"], ravelin_azure::target_id(SUBSCRIPTION, "rg1", "web-1"));
    assert_eq!(web["targetIpAddress"], "web-1.internal");
}

#[tokio::test]
async fn a_disconnect_tells_of_each_id_in_the_order_asked() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let client = FakeLeg::new();
    let (first, second) =
        (world.open("bob", "vm01", client.clone()).await, world.open("bob", "web-1", FakeLeg::new()).await);
    let id = first.session().to_string();
    let body = json!({ "sessionIds": ["session1", id, "bob-00000000000000000", id, "x\n\"y"] }).to_string();
    let answer = world.post(&alice, "/disconnectActiveSessions", &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    let gone = json!({ "sessionId": id, "message": format!("session {id} invalidated!"), "state": "Disconnected" });
    let unknown =
        |id: &str| json!({ "sessionId": id, "message": format!("session {id} not found!"), "state": "NotFound" });
    assert_eq!(
        answer.body,
        json!({ "value": [unknown("session1"), gone, unknown("bob-00000000000000000"), gone, unknown("x\n\"y")] })
    );
    assert!(client.is_closed(), "the socket is closed before the answer");
    assert_eq!(client.said(), ["disconnected by alice: through Azure disconnectActiveSessions"]);

    // Asking again is harmless and says what happened.
    let again = world.post(&alice, "/disconnectActiveSessions", &json!([id]).to_string()).await;
    assert_eq!(again.body["value"][0]["state"], "NotFound");
    let message = again.body["value"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with(&format!("session {id} not found! It ended at 20")), "{message}");
    assert!(message.ends_with("disconnected by alice: through Azure disconnectActiveSessions."), "{message}");

    // The sibling lives, and goes by the bare array.
    let left = world.list(&alice).await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["sessionId"], second.session().as_str());
    let body = json!([second.session().as_str()]).to_string();
    let answer = world.post(&alice, "/disconnectActiveSessions", &body).await;
    assert_eq!(answer.body["value"][0]["state"], "Disconnected");
    assert!(world.list(&alice).await.is_empty());
}

#[tokio::test]
async fn a_socket_that_stays_open_is_reported_as_failed() {
    let world = World::with(|config| config.disconnect_wait = Duration::from_millis(20)).await;
    let stuck = FakeLeg::stuck();
    let admission = world.open("bob", "vm01", stuck.clone()).await;
    let body = json!([admission.session().as_str()]).to_string();
    let answer = world.post(&world.bearer("alice").await, "/disconnectActiveSessions", &body).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.body["value"][0]["state"], "Failed");
    let message = answer.body["value"][0]["message"].as_str().expect("a message");
    assert!(message.starts_with(&format!("session {} could not be disconnected!", admission.session())), "{message}");
    stuck.release();
}

#[tokio::test]
async fn who_may_do_what() {
    let world = World::new().await;
    let bobs = world.open("bob", "vm01", FakeLeg::new()).await;
    let alices = world.open("alice", "vm01", FakeLeg::new()).await;
    let (bob, audrey, eve) = (world.bearer("bob").await, world.bearer("audrey").await, world.bearer("eve").await);
    let own: Vec<Value> = world.list(&bob).await;
    assert_eq!(own.len(), 1, "bob sees his own");
    assert_eq!(world.list(&audrey).await.len(), 2, "an auditor sees all");

    let body = json!([alices.session().as_str()]).to_string();
    let answer = world.post(&bob, "/disconnectActiveSessions", &body).await;
    assert_eq!(answer.body["value"][0]["state"], "NotFound", "what bob may not see is not there");
    let answer = world.post(&audrey, "/disconnectActiveSessions", &body).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "AuthorizationFailed"));
    let message = answer.body["error"]["message"].as_str().expect("a message");
    let scope = host_path("");
    assert!(message.contains("'Microsoft.Network/bastionHosts/disconnectActiveSessions/action'"), "{message}");
    assert!(message.contains(&format!("over scope '{scope}'")), "{message}");

    let answer = world.post(&eve, "/getActiveSessions", "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::FORBIDDEN, "AuthorizationFailed"));
    let answer = world.post(&eve, "/disconnectActiveSessions", &body).await;
    assert_eq!(answer.body["value"][0]["state"], "NotFound");

    // A denial of some is said of those, and the others end.
    let body = json!([bobs.session().as_str(), alices.session().as_str()]).to_string();
    let answer = world.post(&bob, "/disconnectActiveSessions", &body).await;
    let states: Vec<&Value> = answer.body["value"].as_array().expect("a list").iter().map(|i| &i["state"]).collect();
    assert_eq!(states, ["Disconnected", "NotFound"]);
}

/// A request for each operation.
fn sample(operation: &str) -> (Method, String) {
    let location = |rest| format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/locations/local/{rest}");
    let machines =
        |group, rest| format!("/subscriptions/{SUBSCRIPTION}{group}/providers/Microsoft.Compute/virtualMachines{rest}");
    let (method, path) = match operation {
        "GetActiveSessions" => (Method::POST, host_path("/getActiveSessions")),
        "DisconnectActiveSessions" => (Method::POST, host_path("/disconnectActiveSessions")),
        "BastionHosts_Get" => (Method::GET, host_path("")),
        "BastionHosts_List" => {
            (Method::GET, format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network/bastionHosts"))
        }
        "BastionHosts_ListByResourceGroup" => (
            Method::GET,
            format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1/providers/Microsoft.Network/bastionHosts"),
        ),
        "BastionHosts_CreateOrUpdate" => (Method::PUT, host_path("")),
        "BastionHosts_UpdateTags" => (Method::PATCH, host_path("")),
        "BastionHosts_Delete" => (Method::DELETE, host_path("")),
        "PutBastionShareableLink" => (Method::POST, host_path("/createShareableLinks")),
        "GetBastionShareableLink" => (Method::POST, host_path("/getShareableLinks")),
        "DeleteBastionShareableLink" => (Method::POST, host_path("/deleteShareableLinks")),
        "DeleteBastionShareableLinkByToken" => (Method::POST, host_path("/deleteShareableLinksByToken")),
        "AsyncOperations_Status" => (Method::GET, location("operations/none")),
        "AsyncOperations_Result" => (Method::GET, location("operationResults/none")),
        "VirtualMachines_Get" => (Method::GET, machines("/resourceGroups/rg1", "/web-1")),
        "VirtualMachines_List" => (Method::GET, machines("/resourceGroups/rg1", "")),
        "VirtualMachines_ListAll" => (Method::GET, machines("", "")),
        "Providers_List" => (Method::GET, format!("/subscriptions/{SUBSCRIPTION}/providers")),
        "Providers_Get" => (Method::GET, format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Network")),
        "Tenants_List" => (Method::GET, "/tenants".to_owned()),
        "Subscriptions_List" => (Method::GET, "/subscriptions".to_owned()),
        "Subscriptions_Get" => (Method::GET, format!("/subscriptions/{SUBSCRIPTION}")),
        "ResourceGroups_List" => (Method::GET, format!("/subscriptions/{SUBSCRIPTION}/resourcegroups")),
        "ResourceGroups_Get" => (Method::GET, format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/rg1")),
        other => panic!("{other} has no sample: give it one, so that it is tested without a proof and without a right"),
    };
    (method, format!("{path}?api-version=2022-09-01"))
}

#[tokio::test]
async fn every_operation_wants_a_proof_and_a_right() {
    let world = World::new().await;
    let bobs = world.open("bob", "vm01", FakeLeg::new()).await;
    let ids = json!([bobs.session().as_str()]).to_string();
    let (eve, audrey, alice) = (world.bearer("eve").await, world.bearer("audrey").await, world.bearer("alice").await);
    for (operation, action) in OPERATIONS {
        let (method, path) = sample(operation);
        let body = match *operation {
            "DisconnectActiveSessions" => ids.as_str(),
            "DeleteBastionShareableLinkByToken" => r#"{"tokens":["x"]}"#,
            "PutBastionShareableLink" | "DeleteBastionShareableLink" => r#"{"vms":[{"vm":{"id":"/x"}}]}"#,
            _ => "{}",
        };
        let ask = |bearer: Option<&str>| world.send(request(method.clone(), &path, bearer, body));

        let answer = ask(None).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNAUTHORIZED, "AuthenticationFailed"), "{operation}");
        let challenge = answer.header("www-authenticate");
        let uri = format!("Bearer authorization_uri=\"https://{HOST}/{TENANT}\", error=\"invalid_token\"");
        assert!(challenge.starts_with(&uri), "{challenge}");

        // An auditor sees the session, so that a lack of the right to end it shows as such.
        let stranger = if *action == Action::TerminateSession { &audrey } else { &eve };
        let answer = ask(Some(stranger)).await;
        match *operation {
            "Subscriptions_List" | "Tenants_List" | "VirtualMachines_List" | "VirtualMachines_ListAll" => {
                assert_eq!(answer.body, json!({ "value": [] }), "{operation}");
            }
            "VirtualMachines_Get" => assert_eq!(answer.code(), "ResourceNotFound", "{operation}"),
            // What comes of it is told to who comes for it.
            "DeleteBastionShareableLinkByToken" => assert_eq!(answer.status, StatusCode::ACCEPTED, "{operation}"),
            _ => assert_eq!(
                (answer.status, answer.code()),
                (StatusCode::FORBIDDEN, "AuthorizationFailed"),
                "{operation}"
            ),
        }
        let wanted = match *operation {
            "AsyncOperations_Status" | "AsyncOperations_Result" => StatusCode::NOT_FOUND,
            "BastionHosts_Delete" => StatusCode::CONFLICT,
            "DeleteBastionShareableLinkByToken" => StatusCode::ACCEPTED,
            _ => StatusCode::OK,
        };
        assert_eq!(ask(Some(&alice)).await.status, wanted, "{operation}");
    }
}

#[tokio::test]
async fn a_long_list_goes_on_behind_its_link() {
    let world = World::new().await;
    let mut open = Vec::new();
    for _ in 0..1003 {
        open.push(world.open("bob", "vm01", FakeLeg::new()).await);
    }
    let (alice, bob) = (world.bearer("alice").await, world.bearer("bob").await);
    let first = world.post(&alice, "/getActiveSessions", "").await;
    assert_eq!(first.body["value"].as_array().map(Vec::len), Some(1000));
    let link = first.body["nextLink"].as_str().expect("a link").to_owned();
    let beginning = format!("https://{HOST}{}?api-version={VERSION}&$skiptoken=", host_path("/getActiveSessions"));
    assert!(link.starts_with(&beginning), "{link}");
    let path = link.strip_prefix(&format!("https://{HOST}")).expect("on this host").to_owned();

    for method in [Method::GET, Method::POST] {
        let next = world.send(request(method, &path, Some(&alice), "")).await;
        assert_eq!(next.body["value"].as_array().map(Vec::len), Some(3));
        assert!(next.body.get("nextLink").is_none());
        let mut seen: Vec<&Value> = [&first, &next]
            .into_iter()
            .flat_map(|page| page.body["value"].as_array().expect("a list"))
            .map(|item| &item["sessionId"])
            .collect();
        seen.sort_by_key(|id| id.as_str().map(str::to_owned));
        seen.dedup();
        assert_eq!(seen.len(), 1003, "nothing twice, nothing left out");
    }
    // As the Python SDK writes it back.
    let escaped = path.replace("$skiptoken", "%24skiptoken");
    assert_eq!(world.send(request(Method::GET, &escaped, Some(&alice), "")).await.status, StatusCode::OK);

    // A page is a page also for a client that puts its wish for late answers on each request, and also while the answer
    // to the first request is still to be had.
    let (_, status) = crate::late::places(&world.post_later(&alice, "/getActiveSessions", "").await);
    while world.ask(Method::GET, &alice, &status, "").await.body["status"] != "Succeeded" {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for _ in 0..2 {
        let mut page = request(Method::GET, &path, Some(&alice), "");
        page.headers_mut().insert("prefer", http::HeaderValue::from_static("respond-async"));
        let page = world.send(page).await;
        assert_eq!((page.status, page.body["value"].as_array().map(Vec::len)), (StatusCode::OK, Some(3)));
    }
    assert_eq!(world.post(&alice, "/getActiveSessions", "").await.body["value"].as_array().map(Vec::len), Some(1000));

    for (bearer, path) in
        [(&bob, path.clone()), (&alice, format!("{path}A")), (&alice, path.replace("token=", "token=x"))]
    {
        let answer = world.send(request(Method::GET, &path, Some(bearer), "")).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::BAD_REQUEST, "InvalidSkipToken"));
    }
    assert_eq!(world.send(request(Method::GET, &path, None, "")).await.status, StatusCode::UNAUTHORIZED);
    let first_by_get = format!("{}?api-version={VERSION}", host_path("/getActiveSessions"));
    let answer = world.send(request(Method::GET, &first_by_get, Some(&alice), "")).await;
    assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
}

#[tokio::test]
async fn a_thousand_sessions_end_in_one_call() {
    let world = World::new().await;
    let mut open = Vec::new();
    for _ in 0..1000 {
        open.push(world.open("bob", "vm01", FakeLeg::new()).await);
    }
    let ids: Vec<&str> = open.iter().map(|admission| admission.session().as_str()).collect();
    let answer = world.post(&world.bearer("alice").await, "/disconnectActiveSessions", &json!(ids).to_string()).await;
    let states = answer.body["value"].as_array().expect("a list");
    assert_eq!(states.len(), 1000);
    assert!(states.iter().zip(&ids).all(|(state, id)| state["state"] == "Disconnected" && state["sessionId"] == *id));
    assert_eq!(world.engine.live_count(), 0);
}

#[tokio::test]
async fn paths_in_any_case_with_doubled_slashes_and_every_version() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let path = host_path("/getActiveSessions");
    for spelled in [path.to_ascii_uppercase(), path.to_ascii_lowercase(), path.replace('/', "//"), format!("{path}/")] {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{HOST}{spelled}?API-VERSION=2019-09-01"))
            .header("accept", "*/*")
            .header("authorization", format!("bearer {alice}"))
            .body(Body::empty())
            .expect("a request");
        assert_eq!(world.send(request).await.status, StatusCode::OK, "{spelled}");
        assert!(ravelin_azure::owns_path(&spelled), "{spelled}");
    }
    for version in ravelin_azure::proto::api_version::NETWORK_VERSIONS {
        let path = format!("{path}?api-version={version}");
        assert_eq!(
            world.send(request(Method::POST, &path, Some(&alice), "")).await.status,
            StatusCode::OK,
            "{version}"
        );
    }
}

#[tokio::test]
async fn each_wrong_request_gets_its_own_error() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1");
    let network = format!("{group}/providers/Microsoft.Network");
    let version = "?api-version=2024-05-01";
    let other = "99999999-1bf0-4dda-aec3-cb9272f09590";
    let cases: Vec<(Method, String, u16, &str)> = vec![
        (Method::POST, host_path("/getActiveSessions"), 400, "MissingApiVersionParameter"),
        (Method::POST, host_path("/getActiveSessions?api-version="), 400, "MissingApiVersionParameter"),
        (Method::POST, host_path("/getActiveSessions?api-version=latest"), 400, "InvalidApiVersionParameter"),
        (Method::POST, host_path("/getActiveSessions?api-version=2018-01-01"), 400, "NoRegisteredProviderFound"),
        (Method::POST, host_path("/getActiveSessions?api-version=2030-01-01"), 400, "NoRegisteredProviderFound"),
        (Method::GET, "/subscriptions?api-version=2010-01-01".to_owned(), 400, "InvalidApiVersionParameter"),
        (
            Method::GET,
            format!("/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/virtualMachines?api-version=2010-01-01"),
            400,
            "NoRegisteredProviderFound",
        ),
        (Method::GET, format!("/subscriptions/subid{version}"), 400, "InvalidSubscriptionId"),
        (Method::GET, format!("/subscriptions/{other}{version}"), 404, "SubscriptionNotFound"),
        (
            Method::GET,
            format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg2{version}"),
            404,
            "ResourceGroupNotFound",
        ),
        (Method::GET, format!("{network}/bastionHosts/other{version}"), 404, "ResourceNotFound"),
        (Method::POST, format!("{network}/bastionHosts/other/getActiveSessions{version}"), 404, "ResourceNotFound"),
        (Method::GET, format!("{network}/virtualNetworks/v1{version}"), 404, "InvalidResourceType"),
        (Method::POST, host_path(&format!("/restart{version}")), 404, "InvalidResourceType"),
        (Method::GET, format!("{group}/providers/Microsoft.Compute/disks{version}"), 404, "InvalidResourceType"),
        (
            Method::GET,
            format!("{group}/providers/Microsoft.Compute/virtualMachines/vm9{version}"),
            404,
            "ResourceNotFound",
        ),
        (
            Method::GET,
            format!("{group}/providers/Microsoft.Storage/storageAccounts{version}"),
            404,
            "InvalidResourceNamespace",
        ),
        (Method::GET, format!("{group}/nothing{version}"), 404, "NotFound"),
        (Method::GET, format!("/subscriptions/%FF{version}"), 404, "NotFound"),
        (Method::GET, host_path(&format!("/getActiveSessions{version}")), 405, "MethodNotAllowed"),
        (Method::POST, host_path(version), 405, "MethodNotAllowed"),
        (Method::DELETE, host_path(version), 409, "OperationNotAllowed"),
    ];
    for (method, path, status, code) in cases {
        let answer = world.send(request(method.clone(), &path, Some(&alice), "")).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{method} {path}");
        assert_eq!(answer.header("content-type"), "application/json; charset=utf-8");
        assert_eq!(answer.header("x-ms-failure-cause") == "gateway", code == "ResourceNotFound");
        assert!(!answer.body["error"]["message"].as_str().expect("a message").is_empty());
    }
    let bodies: Vec<(String, u16, &str)> = vec![
        (String::new(), 400, "InvalidRequestContent"),
        ("sessionIds: session1".to_owned(), 400, "InvalidRequestContent"),
        ("[1]".to_owned(), 400, "InvalidRequestFormat"),
        ("{\"ids\":[]}".to_owned(), 400, "InvalidRequestFormat"),
        (format!("[{}\"x\"]", "\"x\",".repeat(999_999)), 400, "InvalidRequestFormat"),
        (format!("[\"{}\"]", "x".repeat(5 * 1024 * 1024)), 413, "RequestContentTooLarge"),
    ];
    for (body, status, code) in bodies {
        let answer = world.post(&alice, "/disconnectActiveSessions", &body).await;
        let shown: String = body.chars().take(40).collect();
        assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{shown}");
    }
    for empty in ["{}", "[]", "{\"sessionIds\":[]}"] {
        let answer = world.post(&alice, "/disconnectActiveSessions", empty).await;
        assert_eq!((answer.status, answer.body), (StatusCode::OK, json!({ "value": [] })), "{empty}");
    }
}

#[tokio::test]
async fn answers_carry_the_services_headers() {
    let world = World::with(|config| config.location = "westeurope".to_owned()).await;
    let alice = world.bearer("alice").await;
    let ask = |returns: &'static str| {
        let mut request =
            request(Method::POST, &host_path("/getActiveSessions?api-version=2024-05-01"), Some(&alice), "");
        let headers = request.headers_mut();
        for (name, value) in [
            ("x-ms-correlation-request-id", "c0ffee00-0000-0000-0000-000000000001"),
            ("x-ms-client-request-id", "my-request"),
            ("x-ms-return-client-request-id", returns),
        ] {
            headers.insert(name, value.parse().expect("a header"));
        }
        world.send(request)
    };
    let answer = ask("true").await;
    assert_eq!(answer.header("x-ms-correlation-request-id"), "c0ffee00-0000-0000-0000-000000000001");
    assert_eq!(answer.header("x-ms-client-request-id"), "my-request");
    assert_eq!(ask("false").await.header("x-ms-client-request-id"), "");
    assert_eq!(answer.header("x-ms-request-id").len(), 36);
    let routing: Vec<&str> = answer.header("x-ms-routing-request-id").split(':').collect();
    assert!(routing[0] == "WESTEUROPE" && routing[1].len() == 16 && routing[2].len() == 36, "{routing:?}");
    for (name, value) in [
        ("cache-control", "no-store, no-cache"),
        ("pragma", "no-cache"),
        ("expires", "-1"),
        ("x-content-type-options", "nosniff"),
        ("strict-transport-security", "max-age=31536000; includeSubDomains"),
        ("x-ms-ratelimit-remaining-subscription-writes", "11999"),
        ("location", ""),
        ("azure-asyncoperation", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let world = World::with(|config| {
        config.requests_burst_max = 2;
        config.requests_per_second = 1;
    })
    .await;
    let (alice, bob) = (world.bearer("alice").await, world.bearer("bob").await);
    assert_eq!(world.post(&alice, "/getActiveSessions", "").await.status, StatusCode::OK);
    assert_eq!(world.post(&alice, "/getActiveSessions", "").await.status, StatusCode::OK);
    let answer = world.post(&alice, "/getActiveSessions", "").await;
    assert_eq!((answer.status, answer.code()), (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"));
    assert_eq!(answer.header("retry-after"), "1");
    assert_eq!(answer.header("x-ms-ratelimit-remaining-subscription-writes"), "0");
    assert_eq!(world.post(&bob, "/getActiveSessions", "").await.status, StatusCode::OK, "others are not held up");
}

#[tokio::test]
async fn links_and_challenges_use_the_public_url_when_there_is_one() {
    let world = World::with(|config| config.public_url = Some("https://arm.example".to_owned())).await;
    let answer = world.send(request(Method::GET, "/subscriptions?api-version=2022-12-01", None, "")).await;
    assert!(answer.header("www-authenticate").contains(&format!("\"https://arm.example/{TENANT}\"")));
    let answer = world
        .send(request(Method::GET, &host_path("?api-version=2024-05-01"), Some(&world.bearer("alice").await), ""))
        .await;
    assert_eq!(answer.body["properties"]["dnsName"], "arm.example");
}
