//! The bastion host as a resource that tools declare, and the machines, providers and tenants beside it.

use crate::world::{SUBSCRIPTION, TENANT, VERSION, World, host_path};
use http::{Method, StatusCode};
use ravelin_model::audit::AuditKind;
use serde_json::{Value, json};

fn host() -> String {
    format!("{}?api-version={VERSION}", host_path(""))
}

#[tokio::test]
async fn a_put_of_what_stands_succeeds_and_another_is_told_the_difference() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let standing = world.ask(Method::GET, &alice, &host(), "").await.body;
    let put = world.ask(Method::PUT, &alice, &host(), &standing.to_string()).await;
    assert_eq!((put.status, &put.body), (StatusCode::OK, &standing));
    let sparse = json!({ "location": "Local", "sku": { "name": "standard" }, "properties": { "scaleUnits": 2 } });
    assert_eq!(world.ask(Method::PUT, &alice, &host(), &sparse.to_string()).await.status, StatusCode::OK);
    for (wanted, said) in [
        (json!({ "sku": { "name": "Premium" } }), "sku.name is \"Standard\""),
        (json!({ "properties": { "scaleUnits": 3 } }), "properties.scaleUnits is 2"),
        (json!({ "properties": { "ipConfigurations": [{ "name": "a" }] } }), "properties.ipConfigurations is []"),
    ] {
        let refused = world.ask(Method::PUT, &alice, &host(), &wanted.to_string()).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::CONFLICT, "OperationNotAllowed"), "{wanted}");
        assert!(refused.body["error"]["message"].as_str().is_some_and(|m| m.contains(said)), "{}", refused.body);
    }
    let gone = world.ask(Method::DELETE, &alice, &host(), "").await;
    assert_eq!((gone.status, gone.code()), (StatusCode::CONFLICT, "OperationNotAllowed"));
    assert!(!gone.header("x-ms-ratelimit-remaining-subscription-deletes").is_empty());
    assert!(!world.events().await.contains(&AuditKind::BastionChanged), "nothing was changed");
    // Who may only look changes nothing, not even to what stands.
    let audrey = world.bearer("audrey").await;
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let refused = world.ask(method.clone(), &audrey, &host(), &standing.to_string()).await;
        assert_eq!((refused.status, refused.code()), (StatusCode::FORBIDDEN, "AuthorizationFailed"), "{method}");
    }
}

#[tokio::test]
async fn tags_are_changed_kept_and_on_record() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let before = world.ask(Method::GET, &alice, &host(), "").await.body["etag"].clone();
    let patch = world.ask(Method::PATCH, &alice, &host(), r#"{"tags":{"team":"sea","x":""}}"#).await;
    assert_ne!(patch.body["etag"], before, "another state, another tag for it");
    assert_eq!((patch.status, &patch.body["tags"]), (StatusCode::OK, &json!({ "team": "sea", "x": "" })));
    assert_eq!(world.ask(Method::PATCH, &alice, &host(), "{}").await.body["tags"]["team"], "sea", "nothing said");
    let events = world.events().await;
    assert_eq!(events.iter().filter(|event| **event == AuditKind::BastionChanged).count(), 1);
    let world = world.restarted().await;
    assert_eq!(world.ask(Method::GET, &alice, &host(), "").await.body["tags"], json!({ "team": "sea", "x": "" }));
    let put = world.ask(Method::PUT, &alice, &host(), r#"{"tags":{}}"#).await;
    assert_eq!((put.status, &put.body["tags"]), (StatusCode::OK, &json!({})));
    assert_eq!(put.body["etag"], before, "as it was");
    let refused = world.ask(Method::PATCH, &alice, &host(), r#"{"tags":{"a":1}}"#).await;
    assert_eq!((refused.status, refused.body["error"]["target"].as_str()), (StatusCode::BAD_REQUEST, Some("tags.a")));
    let refused = world.ask(Method::PATCH, &alice, &host(), r#"{"sku":{"name":"Basic"}}"#).await;
    assert_eq!(refused.code(), "OperationNotAllowed");
}

#[tokio::test]
async fn targets_are_machines_where_their_ids_say_so() {
    let world = World::new().await;
    let bob = world.bearer("bob").await;
    let machines = |scope: &str| format!("{scope}/providers/Microsoft.Compute/virtualMachines?api-version=2026-04-01");
    let group = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/rg1");
    let names = |body: &Value| -> Vec<String> {
        let list = body["value"].as_array().unwrap_or_else(|| panic!("{body}"));
        list.iter().map(|vm| vm["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&world.ask(Method::GET, &bob, &machines(&group), "").await.body), ["web-1"]);
    let other = "/subscriptions/11111111-2222-3333-4444-555555555555";
    assert_eq!(names(&world.ask(Method::GET, &bob, &machines(other), "").await.body), ["vm01"], "by its own id");
    let vm = format!(
        "{other}/resourceGroups/OTHER-RG/providers/microsoft.compute/virtualMachines/VM01?api-version=2023-03-01"
    );
    let vm = world.ask(Method::GET, &bob, &vm, "").await;
    assert_eq!((vm.status, &vm.body["properties"]["provisioningState"]), (StatusCode::OK, &json!("Succeeded")));
    assert_eq!(vm.body["properties"]["storageProfile"]["osDisk"]["osType"], "Linux");
    // What one may not see is not there.
    let eve = world.bearer("eve").await;
    assert_eq!(world.ask(Method::GET, &eve, &machines(&group), "").await.body, json!({ "value": [] }));
    let web = format!("{group}/providers/Microsoft.Compute/virtualMachines/web-1?api-version=2023-03-01");
    let unseen = world.ask(Method::GET, &eve, &web, "").await;
    assert_eq!((unseen.status, unseen.code()), (StatusCode::NOT_FOUND, "ResourceNotFound"));
    let strange = "/subscriptions/99999999-2222-3333-4444-555555555555";
    let unknown = world.ask(Method::GET, &bob, &machines(strange), "").await;
    assert_eq!((unknown.status, unknown.code()), (StatusCode::NOT_FOUND, "SubscriptionNotFound"));
}

#[tokio::test]
async fn providers_and_tenants_are_what_command_lines_ask_for() {
    let world = World::new().await;
    let bob = world.bearer("bob").await;
    let base = format!("/subscriptions/{SUBSCRIPTION}/providers");
    let compute = world.ask(Method::GET, &bob, &format!("{base}/microsoft.compute?api-version=2022-09-01"), "").await;
    assert_eq!(compute.body["namespace"], "Microsoft.Compute");
    assert_eq!(compute.body["resourceTypes"][0]["resourceType"], "virtualMachines");
    let all = world.ask(Method::GET, &bob, &format!("{base}?api-version=2022-09-01"), "").await;
    assert_eq!(all.body["value"].as_array().map(Vec::len), Some(3));
    let none = world.ask(Method::GET, &bob, &format!("{base}/Microsoft.Storage?api-version=2022-09-01"), "").await;
    assert_eq!((none.status, none.code()), (StatusCode::NOT_FOUND, "InvalidResourceNamespace"));
    let tenants = world.ask(Method::GET, &bob, "/tenants?api-version=2022-12-01", "").await;
    assert_eq!(tenants.body["value"][0]["tenantId"], TENANT);
    let eve = world.bearer("eve").await;
    assert_eq!(world.ask(Method::GET, &eve, "/tenants?api-version=2022-12-01", "").await.body, json!({ "value": [] }));
}

#[tokio::test]
async fn whether_a_group_is_there_is_answered_without_a_word() {
    let world = World::new().await;
    let alice = world.bearer("alice").await;
    let group = |name: &str| format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/{name}?api-version=2022-09-01");
    let there = world.ask(Method::HEAD, &alice, &group("RG1"), "").await;
    assert_eq!((there.status, there.body.is_null()), (StatusCode::NO_CONTENT, true));
    assert!(!there.header("x-ms-ratelimit-remaining-subscription-reads").is_empty());
    assert_eq!(world.ask(Method::HEAD, &alice, &group("rg2"), "").await.status, StatusCode::NOT_FOUND);
    let eve = world.bearer("eve").await;
    assert_eq!(world.ask(Method::HEAD, &eve, &group("rg1"), "").await.status, StatusCode::FORBIDDEN);
    let host = world.ask(Method::HEAD, &alice, &host(), "").await;
    assert_eq!((host.status, host.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, PUT, PATCH, DELETE"));
}
