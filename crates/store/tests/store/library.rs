//! Documents and settings in the default store.

use ravelin_model::audit::AuditKind;
use ravelin_model::document::{Document, DocumentChange, DocumentFormat};
use ravelin_model::ports::{Library, Store};
use ravelin_model::session::Actor;
use ravelin_model::{DocumentName, PrincipalName, Refusal};
use ravelin_store::{SqliteConfig, SqliteStore};
use std::collections::BTreeMap;

fn name(text: &str) -> DocumentName {
    DocumentName::parse(text).expect("a document's name")
}

fn alice() -> Actor {
    Actor::Principal(PrincipalName::parse("alice").expect("a name"))
}

fn create(content: &str) -> DocumentChange {
    DocumentChange::Create {
        content: content.to_owned(),
        format: DocumentFormat::Json,
        label: Some("first".to_owned()),
        display_name: None,
        tags: BTreeMap::from([("team".to_owned(), "web".to_owned())]),
    }
}

fn version(content: &str) -> DocumentChange {
    let content = content.to_owned();
    DocumentChange::AddVersion { content, format: DocumentFormat::Yaml, label: None, display_name: None }
}

#[tokio::test]
async fn a_document_lives_from_its_first_version_to_its_end_and_each_change_is_on_record() {
    let store = SqliteStore::in_memory().expect("a store");
    let (short, by) = (name("Short-Sessions"), alice());
    assert_eq!(store.document(&short).await, Ok(None));
    let made = store.change_document(&short, create("{}"), &by).await.expect("made");
    assert_eq!((made.default_version, made.versions.len(), &made.owner), (1, 1, &by));
    assert_eq!(made.versions[0].label.as_deref(), Some("first"));
    let again = store.change_document(&short, create("{}"), &by).await;
    assert!(matches!(again, Err(Refusal::Conflict { .. })), "{again:?}");

    let more = store.change_document(&short, version("a: 1"), &by).await.expect("one more");
    assert_eq!((more.default_version, more.latest().map(|v| v.number)), (1, Some(2)));
    let missing = store.change_document(&short, DocumentChange::SetDefault { version: 3 }, &by).await;
    assert!(matches!(missing, Err(Refusal::NotFound { .. })), "{missing:?}");
    let moved = store.change_document(&short, DocumentChange::SetDefault { version: 2 }, &by).await.expect("moved");
    assert_eq!((moved.default_version, moved.versions[0].content.as_str()), (2, "{}"));
    let tags = BTreeMap::from([("stage".to_owned(), "prod".to_owned())]);
    let tagged =
        store.change_document(&short, DocumentChange::Retag { tags: tags.clone() }, &by).await.expect("tagged");
    assert_eq!(tagged.tags, tags);

    let heads = store.documents().await.expect("a list");
    assert_eq!(heads.len(), 1);
    let head = &heads[0];
    assert_eq!((head.default_version, head.latest_version, head.format), (2, 2, DocumentFormat::Yaml));
    store.change_document(&short, DocumentChange::Delete, &by).await.expect("gone");
    assert_eq!(store.document(&short).await, Ok(None));
    let gone = store.change_document(&short, version("a: 1"), &by).await;
    assert!(matches!(gone, Err(Refusal::NotFound { .. })), "{gone:?}");

    let record = store.events(0, 100).await.expect("a record").events;
    let changes: Vec<String> = record
        .into_iter()
        .filter(|event| event.deed.kind == AuditKind::DocumentChanged)
        .map(|event| event.deed.facts["change"].clone())
        .collect();
    assert_eq!(changes, ["create", "add_version", "set_default", "retag", "delete"], "and no refused one");
}

#[tokio::test]
async fn versions_have_a_bound() {
    let store = SqliteStore::in_memory().expect("a store");
    let (long, by) = (name("Long"), alice());
    store.change_document(&long, create("{}"), &by).await.expect("made");
    for at in 2..=Document::VERSIONS_MAX {
        store.change_document(&long, version(&format!("a: {at}")), &by).await.expect("one more");
    }
    let over = store.change_document(&long, version("over"), &by).await;
    assert!(matches!(over, Err(Refusal::LimitReached { .. })), "{over:?}");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = || SqliteConfig::new(folder.path().join("store.db"));
    {
        let store = SqliteStore::open(config()).expect("opens");
        store.change_document(&name("Kept"), create("{}"), &alice()).await.expect("made");
        store.change_setting("idle", Some("5"), &alice()).await.expect("set");
    }
    let store = SqliteStore::open(config()).expect("opens again");
    assert!(store.document(&name("Kept")).await.expect("readable").is_some());
    let setting = store.setting("idle").await.expect("readable").expect("there");
    assert_eq!((setting.value.as_str(), &setting.author), ("5", &alice()));
    assert_eq!(store.change_setting("idle", None, &alice()).await, Ok(None));
    assert_eq!(store.setting("idle").await, Ok(None));
}
