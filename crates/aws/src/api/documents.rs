//! Session documents and their tags: `CreateDocument`, `UpdateDocument`, `UpdateDocumentDefaultVersion`, `DeleteDocument`,
//! `GetDocument`, `DescribeDocument`, `ListDocuments`, `ListDocumentVersions`, `AddTagsToResource`,
//! `RemoveTagsFromResource`, `ListTagsForResource`.
//!
//! Only documents of type `Session` are kept. Those whose names begin with `AWS-` and the like are built in and cannot be
//! changed; [`PREFERENCES`] is built in too until somebody writes their own.
//!
//! Source: API reference of these operations, API version 2014-11-06, read 2026-11.

use super::{Call, Pages, of_model, session_logs};
use crate::proto::request::Members;
use crate::proto::session_document::{self, BUILT_IN, Fault as DocumentFault, PREFERENCES, SessionDocument};
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::{map, wire};
use aws_lc_rs::digest;
use ravelin_engine::{Library, Pager};
use ravelin_model::document::{Document, DocumentChange, DocumentFormat, DocumentHead, DocumentVersion};
use ravelin_model::policy::Action;
use ravelin_model::session::Actor;
use ravelin_model::{DocumentName, Refusal, Time};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Beginnings of names that only built-in documents have.
const RESERVED: &[&str] = &["aws-", "amazon", "amzn", "ravelin-"];
const TAGS_MAX: usize = 50;
const PAGE_DEFAULT: u32 = 50;
const FORMATS: &[(&str, DocumentFormat)] = &[("JSON", DocumentFormat::Json), ("YAML", DocumentFormat::Yaml)];
/// When the built-in documents came into being: the service model's own date, because AWS shows one.
const BUILT_IN_SINCE: Time = Time::from_micros(1_415_232_000_000_000);

/// The value that a document's text is; `None` when it cannot be read.
pub(crate) fn value_of(content: &str, format: DocumentFormat) -> Option<Value> {
    match format {
        DocumentFormat::Json => serde_json::from_str(content).ok(),
        DocumentFormat::Yaml => serde_saphyr::from_str(content).ok(),
    }
}

pub(crate) async fn create(library: &Library, call: &Call<'_>) -> Result<wire::DescribeDocumentAnswer, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let name = name(&members, &mut violations)?;
    let content = content(&members, &mut violations)?;
    let format = format(&members, &mut violations)?;
    let kind = text(&members, "DocumentType")?;
    let label = label(&members, &mut violations)?;
    let display_name = display_name(&members, &mut violations)?;
    let tags = tags(&members, "Tags", &mut violations)?;
    for absent in ["Requires", "Attachments"] {
        if members.has(absent) {
            violations.broken(absent, "(a list)", "not be there: session documents have none");
        }
    }
    let (name, content) = violations.settle(name.zip(content)).map_err(Fault::Violations)?;
    library.permit(call.caller, Action::ManageDocuments).await.map_err(|r| refused(call, r, &name))?;
    if kind.as_deref() != Some("Session") {
        let kind = kind.unwrap_or_else(|| "Command".to_owned());
        return Err(of_model(
            "InvalidDocumentContent",
            format!("Documents of type {kind} are not kept here: only Session."),
        ));
    }
    let name = writable(&name)?;
    check_content(call, &content, format)?;
    let change = DocumentChange::Create { content, format, label, display_name, tags };
    let document = library.change_document(call.caller, &name, change).await.map_err(|refusal| match refusal {
        Refusal::Conflict { .. } => {
            of_model("DocumentAlreadyExists", format!("Document with name {name} already exists."))
        }
        Refusal::LimitReached { limit, .. } => {
            of_model("DocumentLimitExceeded", format!("There can be at most {limit}."))
        }
        other => refused(call, other, name.as_str()),
    })?;
    described(call, &document, 1)
}

pub(crate) async fn update(library: &Library, call: &Call<'_>) -> Result<wire::DescribeDocumentAnswer, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let name = name(&members, &mut violations)?;
    let content = content(&members, &mut violations)?;
    let format = format(&members, &mut violations)?;
    let label = label(&members, &mut violations)?;
    let display_name = display_name(&members, &mut violations)?;
    let version = text(&members, "DocumentVersion")?;
    let (name, content) = violations.settle(name.zip(content)).map_err(Fault::Violations)?;
    let name = writable(&name)?;
    library.permit(call.caller, Action::ManageDocuments).await.map_err(|r| refused(call, r, name.as_str()))?;
    let document = own(library, call, &name).await?;
    // Which version it is meant to follow; only its being there is asked.
    number(&document, version.as_deref())?;
    check_content(call, &content, format)?;
    if document.latest().is_some_and(|latest| latest.content == content && latest.format == format) {
        return Err(of_model(
            "DuplicateDocumentContent",
            "The content of this version is the same as that of the latest version.",
        ));
    }
    if label.is_some() && document.versions.iter().any(|version| version.label == label) {
        return Err(of_model(
            "DuplicateDocumentVersionName",
            "A version of this name exists; version names are unique.",
        ));
    }
    let change = DocumentChange::AddVersion { content, format, label, display_name };
    let document = library.change_document(call.caller, &name, change).await.map_err(|refusal| match refusal {
        Refusal::LimitReached { limit, .. } => of_model(
            "DocumentVersionLimitExceeded",
            format!("There can be at most {limit}: delete the document and make it anew."),
        ),
        other => refused(call, other, name.as_str()),
    })?;
    let latest = document.latest().map_or(1, |latest| latest.number);
    described(call, &document, latest)
}

pub(crate) async fn set_default(library: &Library, call: &Call<'_>) -> Result<wire::DefaultVersionAnswer, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let name = name(&members, &mut violations)?;
    let version = text(&members, "DocumentVersion")?;
    let version = violations.text("documentVersion", version.as_deref(), 1, 8).map(str::to_owned);
    let (name, version) = violations.settle(name.zip(version)).map_err(Fault::Violations)?;
    let name = writable(&name)?;
    library.permit(call.caller, Action::ManageDocuments).await.map_err(|r| refused(call, r, name.as_str()))?;
    let document = own(library, call, &name).await?;
    let number = number(&document, Some(&version))?;
    let change = DocumentChange::SetDefault { version: number };
    let document = library
        .change_document(call.caller, &name, change)
        .await
        .map_err(|refusal| refused(call, refusal, name.as_str()))?;
    let label = document.version(number).and_then(|version| version.label.clone());
    Ok(wire::DefaultVersionAnswer {
        description: wire::DocumentDefaultVersionDescription {
            name: name.to_string(),
            default_version: number.to_string(),
            default_version_name: label,
        },
    })
}

pub(crate) async fn delete(library: &Library, call: &Call<'_>) -> Result<wire::Nothing, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let name = name(&members, &mut violations)?;
    let name = violations.settle(name).map_err(Fault::Violations)?;
    if members.has("DocumentVersion") || members.has("VersionName") {
        return Err(of_model("InvalidDocumentOperation", "Single versions are not deleted here: delete the document."));
    }
    let name = writable(&name)?;
    library.change_document(call.caller, &name, DocumentChange::Delete).await.map_err(|refusal| match refusal {
        Refusal::NotFound { .. } => unknown(name.as_str()),
        other => refused(call, other, name.as_str()),
    })?;
    Ok(wire::Nothing {})
}

pub(crate) async fn get(library: &Library, call: &Call<'_>) -> Result<wire::GetDocumentResponse, Fault> {
    let (document, version, wanted) = look_up(library, call).await?;
    let content = match wanted.filter(|wanted| *wanted != version.format) {
        None => version.content.clone(),
        Some(wanted) => converted(&version, wanted)?,
    };
    let format = wanted.unwrap_or(version.format);
    Ok(wire::GetDocumentResponse {
        name: document.name.to_string(),
        display_name: document.display_name,
        created_date: map::timestamp(version.created),
        version_name: version.label,
        document_version: version.number.to_string(),
        status: "Active",
        content,
        document_type: "Session",
        document_format: spelled(format),
    })
}

pub(crate) async fn describe(library: &Library, call: &Call<'_>) -> Result<wire::DescribeDocumentResponse, Fault> {
    let (document, version, _) = look_up(library, call).await?;
    Ok(wire::DescribeDocumentResponse { document: description(call, &document, &version) })
}

pub(crate) async fn versions(
    library: &Library,
    pager: &Pager,
    call: &Call<'_>,
) -> Result<wire::ListDocumentVersionsResponse, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let name = name(&members, &mut violations)?;
    let max = members.integer("MaxResults").map_err(Fault::Unreadable)?;
    let limit = match max {
        None => Some(PAGE_DEFAULT),
        Some(max) => violations.number("maxResults", max, 1, 50),
    };
    let token = text(&members, "NextToken")?.filter(|token| !token.is_empty());
    let (name, limit) = violations.settle(name.zip(limit)).map_err(Fault::Violations)?;
    let pages = Pages::new(pager, call, &name);
    let skip = pages.skip(token.as_deref())?;
    let document = readable(library, call, &name).await?;
    let rest: Vec<&DocumentVersion> = document.versions.iter().rev().skip(skip).collect();
    let page: Vec<_> = rest
        .iter()
        .take(limit as usize)
        .map(|version| wire::DocumentVersionInfo {
            name: document.name.to_string(),
            document_version: version.number.to_string(),
            version_name: version.label.clone(),
            created_date: map::timestamp(version.created),
            is_default_version: version.number == document.default_version,
            document_format: spelled(version.format),
            status: "Active",
        })
        .collect();
    let next_token = (rest.len() > page.len()).then(|| pages.after(skip + page.len()));
    Ok(wire::ListDocumentVersionsResponse { document_versions: page, next_token })
}

pub(crate) async fn list(
    library: &Library,
    pager: &Pager,
    call: &Call<'_>,
) -> Result<wire::ListDocumentsResponse, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let old = members.filters("DocumentFilterList", "key", "value").map_err(Fault::Unreadable)?;
    let new = members.filters("Filters", "Key", "Values").map_err(Fault::Unreadable)?;
    let max = members.integer("MaxResults").map_err(Fault::Unreadable)?;
    let limit = match max {
        None => Some(PAGE_DEFAULT),
        Some(max) => violations.number("maxResults", max, 1, 50),
    };
    let token = text(&members, "NextToken")?.filter(|token| !token.is_empty());
    let filters: Vec<_> = old.into_iter().chain(new).flatten().collect();
    if filters.len() > 6 {
        violations.broken("filters", format!("[{} filters]", filters.len()), "have length less than or equal to 6");
    }
    let limit = violations.settle(limit).map_err(Fault::Violations)?;
    let mut bound: Vec<_> = filters.iter().map(|filter| (&filter.key, &filter.values)).collect();
    bound.sort();
    let pages = Pages::new(pager, call, &bound);
    let skip = pages.skip(token.as_deref())?;
    let mut all = library.documents(call.caller).await.map_err(|refusal| refused(call, refusal, "*"))?;
    let stored: Vec<String> = all.iter().map(|head| head.name.to_string()).collect();
    for (name, _) in BUILT_IN.iter().filter(|(name, _)| !stored.iter().any(|known| known == name)) {
        all.extend(DocumentName::parse(name).ok().map(built_in_head));
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let own_account = call.config.account_id.as_str();
    for filter in &filters {
        let key = filter.key.as_deref().unwrap_or_default();
        let any = |fits: &dyn Fn(&str) -> bool| filter.values.iter().any(|value| fits(value));
        match key {
            "Name" => all.retain(|head| any(&|value| head.name.as_str().starts_with(value))),
            "SearchKeyword" => all.retain(|head| {
                let name = head.name.as_str().to_ascii_lowercase();
                any(&|value| name.contains(&value.to_ascii_lowercase()))
            }),
            "Owner" => all.retain(|head| {
                let built_in = is_built_in(head);
                any(&|value| match value {
                    "All" => true,
                    "Amazon" | "AWS" => built_in,
                    "Self" | "Private" => !built_in,
                    other => !built_in && other == own_account,
                })
            }),
            "DocumentType" => {
                if !any(&|value| value == "Session") {
                    all.clear();
                }
            }
            "PlatformTypes" => {
                if !any(&|value| value == "Linux") {
                    all.clear();
                }
            }
            "TargetType" => all.clear(),
            other => match other.strip_prefix("tag:") {
                Some(tag) => all.retain(|head| head.tags.get(tag).is_some_and(|found| any(&|value| value == found))),
                None => {
                    let known =
                        "Name, Owner, DocumentType, PlatformTypes, TargetType, SearchKeyword, tag:KEY".to_owned();
                    return Err(Fault::FilterKey { key: other.to_owned(), known });
                }
            },
        }
    }
    let rest = all.len().saturating_sub(skip);
    let page: Vec<_> = all.iter().skip(skip).take(limit as usize).map(|head| identifier(call, head)).collect();
    let next_token = (rest > page.len()).then(|| pages.after(skip + page.len()));
    Ok(wire::ListDocumentsResponse { document_identifiers: page, next_token })
}

pub(crate) async fn add_tags(library: &Library, call: &Call<'_>) -> Result<wire::Nothing, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let new = tags(&members, "Tags", &mut violations)?;
    if new.is_empty() {
        violations.missing("tags");
    }
    let name = tagged(&members, violations)?;
    let document = tagged_document(library, call, &name, true).await?;
    let mut all = document.tags;
    all.extend(new);
    if all.len() > TAGS_MAX {
        return Err(of_model("TooManyTagsError", format!("A document can have at most {TAGS_MAX} tags.")));
    }
    retag(library, call, &document.name, all).await
}

pub(crate) async fn remove_tags(library: &Library, call: &Call<'_>) -> Result<wire::Nothing, Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let keys = members.texts("TagKeys").map_err(Fault::Unreadable)?;
    if keys.is_none() {
        violations.missing("tagKeys");
    }
    let name = tagged(&members, violations)?;
    let document = tagged_document(library, call, &name, true).await?;
    let mut all = document.tags;
    all.retain(|key, _| !keys.as_deref().unwrap_or_default().contains(key));
    retag(library, call, &document.name, all).await
}

pub(crate) async fn list_tags(library: &Library, call: &Call<'_>) -> Result<wire::ListTagsResponse, Fault> {
    let name = tagged(&members(call)?, Violations::default())?;
    let document = tagged_document(library, call, &name, false).await?;
    Ok(wire::ListTagsResponse { tag_list: in_tags(&document.tags) })
}

async fn retag(
    library: &Library,
    call: &Call<'_>,
    name: &DocumentName,
    tags: BTreeMap<String, String>,
) -> Result<wire::Nothing, Fault> {
    let change = DocumentChange::Retag { tags };
    library
        .change_document(call.caller, name, change)
        .await
        .map_err(|refusal| refused(call, refusal, name.as_str()))?;
    Ok(wire::Nothing {})
}

/// The document whose tags are meant.
fn tagged(members: &Members, mut violations: Violations) -> Result<String, Fault> {
    let kind = text(members, "ResourceType")?;
    let id = text(members, "ResourceId")?;
    let kind = violations.text("resourceType", kind.as_deref(), 1, 64).map(str::to_owned);
    let id = violations.text("resourceId", id.as_deref(), 1, 1024).map(str::to_owned);
    let (kind, id) = violations.settle(kind.zip(id)).map_err(Fault::Violations)?;
    if kind != "Document" {
        return Err(of_model("InvalidResourceType", format!("{kind} bears no tags here: only Document.")));
    }
    Ok(id)
}

async fn tagged_document(library: &Library, call: &Call<'_>, name: &str, to_write: bool) -> Result<Document, Fault> {
    let absent = || of_model("InvalidResourceId", format!("Document with name {name} does not exist."));
    let action = if to_write { Action::ManageDocuments } else { Action::ReadDocuments };
    library.permit(call.caller, action).await.map_err(|refusal| refused(call, refusal, name))?;
    let parsed = DocumentName::parse(name).map_err(|_no_name| absent())?;
    let stored = library.steering(&parsed).await.map_err(|refusal| refused(call, refusal, name))?;
    match stored {
        Some(document) => Ok(document),
        None if !to_write => built_in(&parsed).ok_or_else(absent),
        None => Err(absent()),
    }
}

fn members(call: &Call<'_>) -> Result<Members, Fault> {
    Members::read(call.body).map_err(Fault::Unreadable)
}

fn text(members: &Members, name: &str) -> Result<Option<String>, Fault> {
    members.text(name).map_err(Fault::Unreadable)
}

/// A document's name, or the one in its ARN.
fn name(members: &Members, violations: &mut Violations) -> Result<Option<String>, Fault> {
    let Some(name) = text(members, "Name")? else {
        violations.missing("name");
        return Ok(None);
    };
    let bare = name.rsplit_once(":document/").map_or(name.as_str(), |(_, name)| name);
    if DocumentName::parse(bare).is_err() {
        violations.broken("name", &name, "satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.]{3,128}$");
        return Ok(None);
    }
    Ok(Some(bare.to_owned()))
}

fn content(members: &Members, violations: &mut Violations) -> Result<Option<String>, Fault> {
    let content = text(members, "Content")?;
    match content {
        None => violations.missing("content"),
        Some(content) if content.is_empty() => {
            violations.broken("content", "", "have length greater than or equal to 1")
        }
        Some(content) if content.len() > Document::CONTENT_BYTES_MAX => {
            return Err(of_model("MaxDocumentSizeExceeded", "The size limit of a document is 64 KB."));
        }
        Some(content) => return Ok(Some(content)),
    }
    Ok(None)
}

fn format(members: &Members, violations: &mut Violations) -> Result<DocumentFormat, Fault> {
    let given = text(members, "DocumentFormat")?;
    Ok(given.and_then(|word| violations.one_of("documentFormat", &word, FORMATS)).unwrap_or(DocumentFormat::Json))
}

fn label(members: &Members, violations: &mut Violations) -> Result<Option<String>, Fault> {
    let label = text(members, "VersionName")?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if let Some(label) = &label
        && (label.is_empty() || label.len() > 128 || !label.chars().all(plain))
    {
        violations.broken("versionName", label, "satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.]{1,128}$");
    }
    Ok(label)
}

fn display_name(members: &Members, violations: &mut Violations) -> Result<Option<String>, Fault> {
    let name = text(members, "DisplayName")?;
    if let Some(name) = &name
        && (name.chars().count() > 1024 || name.chars().any(char::is_control))
    {
        violations.broken("displayName", name, "have length less than or equal to 1024");
    }
    Ok(name.filter(|name| !name.is_empty()))
}

fn tags(members: &Members, member: &str, violations: &mut Violations) -> Result<BTreeMap<String, String>, Fault> {
    let given = members.pairs(member).map_err(Fault::Unreadable)?.unwrap_or_default();
    if given.len() > TAGS_MAX {
        return Err(of_model("TooManyTagsError", format!("A document can have at most {TAGS_MAX} tags.")));
    }
    for (key, value) in &given {
        if key.is_empty() || key.chars().count() > 128 || key.to_ascii_lowercase().starts_with("aws:") {
            violations.broken("tags.key", key, "have 1 to 128 characters and not begin with aws:");
        }
        if value.chars().count() > 256 {
            violations.broken("tags.value", value, "have length less than or equal to 256");
        }
    }
    Ok(given.into_iter().collect())
}

/// The name of a document that may be written.
fn writable(name: &str) -> Result<DocumentName, Fault> {
    let lower = name.to_ascii_lowercase();
    if let Some(reserved) = RESERVED.iter().find(|reserved| lower.starts_with(**reserved)) {
        let mut violations = Violations::default();
        violations.broken("name", name, &format!("not begin with {reserved}"));
        return Err(Fault::Violations(violations.settle(None::<()>).err().unwrap_or_default()));
    }
    DocumentName::parse(name).map_err(|_no_name| unknown(name))
}

fn check_content(call: &Call<'_>, content: &str, format: DocumentFormat) -> Result<(), Fault> {
    let value = value_of(content, format)
        .ok_or_else(|| of_model("InvalidDocumentContent", format!("The content is not {}.", spelled(format))))?;
    let document = SessionDocument::read(&value).map_err(|fault| match fault {
        DocumentFault::Content(text) => of_model("InvalidDocumentContent", text),
        DocumentFault::Schema(_) => of_model("InvalidDocumentSchemaVersion", fault.to_string()),
    })?;
    session_logs::places(&document.logs, call.config)
        .map(|_| ())
        .map_err(|because| of_model("InvalidDocumentContent", because))
}

fn unknown(name: &str) -> Fault {
    of_model("InvalidDocument", format!("Document with name {name} does not exist."))
}

fn refused(call: &Call<'_>, refusal: Refusal, name: &str) -> Fault {
    match refusal {
        Refusal::NotFound { what: "document", .. } => unknown(name),
        other => call.refused_document(other, name),
    }
}

/// A stored document, to write to it. The preferences are there to be written to also when nobody has yet.
async fn own(library: &Library, call: &Call<'_>, name: &DocumentName) -> Result<Document, Fault> {
    let stored = library.steering(name).await.map_err(|refusal| refused(call, refusal, name.as_str()))?;
    match stored {
        Some(document) => Ok(document),
        None if name.as_str() == PREFERENCES => {
            let change = DocumentChange::Create {
                content: session_document::built_in(PREFERENCES).unwrap_or_default().to_owned(),
                format: DocumentFormat::Json,
                label: None,
                display_name: None,
                tags: BTreeMap::new(),
            };
            library
                .change_document(call.caller, name, change)
                .await
                .map_err(|refusal| refused(call, refusal, name.as_str()))
        }
        None => Err(unknown(name.as_str())),
    }
}

/// A document, stored or built in, after the caller was found to be one who may read it.
async fn readable(library: &Library, call: &Call<'_>, name: &str) -> Result<Document, Fault> {
    let parsed = DocumentName::parse(name).map_err(|_no_name| unknown(name))?;
    let stored = library.document(call.caller, &parsed).await.map_err(|refusal| refused(call, refusal, name))?;
    stored.or_else(|| built_in(&parsed)).ok_or_else(|| unknown(name))
}

async fn look_up(
    library: &Library,
    call: &Call<'_>,
) -> Result<(Document, DocumentVersion, Option<DocumentFormat>), Fault> {
    let members = members(call)?;
    let mut violations = Violations::default();
    let name = name(&members, &mut violations)?;
    let wanted = text(&members, "DocumentFormat")?;
    let wanted = wanted.and_then(|word| violations.one_of("documentFormat", &word, FORMATS));
    let version = text(&members, "DocumentVersion")?;
    let label = text(&members, "VersionName")?;
    let name = violations.settle(name).map_err(Fault::Violations)?;
    let document = readable(library, call, &name).await?;
    let found = match &label {
        Some(label) => document.versions.iter().find(|version| version.label.as_ref() == Some(label)).cloned(),
        None => document.version(number(&document, version.as_deref())?).cloned(),
    };
    let found = found.ok_or_else(no_version)?;
    Ok((document, found, wanted))
}

fn no_version() -> Fault {
    of_model("InvalidDocumentVersion", "The document version is not valid or does not exist.")
}

/// The version that is meant: `$DEFAULT`, `$LATEST` or a number; the default when none is named.
fn number(document: &Document, version: Option<&str>) -> Result<u32, Fault> {
    let number = match version {
        None | Some("$DEFAULT" | "") => Some(document.default_version),
        Some("$LATEST") => document.latest().map(|latest| latest.number),
        Some(number) => number.parse().ok(),
    };
    number.filter(|number| document.version(*number).is_some()).ok_or_else(no_version)
}

/// The built-in document of that name, as if somebody had written it.
fn built_in(name: &DocumentName) -> Option<Document> {
    let content = session_document::built_in(name.as_str())?;
    let version = DocumentVersion {
        number: 1,
        content: content.to_owned(),
        format: DocumentFormat::Json,
        label: None,
        created: BUILT_IN_SINCE,
        author: Actor::System,
    };
    Some(Document {
        name: name.clone(),
        display_name: None,
        default_version: 1,
        versions: vec![version],
        tags: BTreeMap::new(),
        created: BUILT_IN_SINCE,
        owner: Actor::System,
    })
}

fn built_in_head(name: DocumentName) -> DocumentHead {
    DocumentHead {
        name,
        display_name: None,
        default_version: 1,
        latest_version: 1,
        format: DocumentFormat::Json,
        created: BUILT_IN_SINCE,
        owner: Actor::System,
        tags: BTreeMap::new(),
    }
}

fn is_built_in(head: &DocumentHead) -> bool {
    head.owner == Actor::System
}

fn spelled(format: DocumentFormat) -> &'static str {
    match format {
        DocumentFormat::Json => "JSON",
        DocumentFormat::Yaml => "YAML",
    }
}

fn converted(version: &DocumentVersion, wanted: DocumentFormat) -> Result<String, Fault> {
    let unreadable = || of_model("InvalidDocument", "The document cannot be read.");
    let value = value_of(&version.content, version.format).ok_or_else(unreadable)?;
    match wanted {
        DocumentFormat::Json => serde_json::to_string(&value).map_err(|_| unreadable()),
        DocumentFormat::Yaml => serde_saphyr::to_string(&value).map_err(|_| unreadable()),
    }
}

fn owner_of(call: &Call<'_>, owner: &Actor) -> String {
    match owner {
        Actor::System => "Amazon".to_owned(),
        Actor::Principal(_) | Actor::Target(_) => call.config.account_id.clone(),
    }
}

fn in_tags(tags: &BTreeMap<String, String>) -> Vec<wire::Tag> {
    tags.iter().map(|(key, value)| wire::Tag { key: key.clone(), value: value.clone() }).collect()
}

fn identifier(call: &Call<'_>, head: &DocumentHead) -> wire::DocumentIdentifier {
    wire::DocumentIdentifier {
        name: head.name.to_string(),
        created_date: map::timestamp(head.created),
        display_name: head.display_name.clone(),
        owner: owner_of(call, &head.owner),
        platform_types: PLATFORMS,
        document_version: head.default_version.to_string(),
        document_type: "Session",
        schema_version: "1.0",
        document_format: spelled(head.format),
        tags: in_tags(&head.tags),
    }
}

const PLATFORMS: [&str; 1] = ["Linux"];

fn described(call: &Call<'_>, document: &Document, number: u32) -> Result<wire::DescribeDocumentAnswer, Fault> {
    let version = document.version(number).ok_or_else(no_version)?;
    Ok(wire::DescribeDocumentAnswer { document_description: description(call, document, version) })
}

fn description(call: &Call<'_>, document: &Document, version: &DocumentVersion) -> wire::DocumentDescription {
    let mut hash = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, version.content.as_bytes()).as_ref() {
        let _never = write!(hash, "{byte:02x}");
    }
    let value = value_of(&version.content, version.format).unwrap_or_default();
    let about = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let parameters = value.get("parameters").and_then(Value::as_object).into_iter().flatten();
    let parameters = parameters
        .map(|(name, parameter)| {
            let of = |member: &str| parameter.get(member).and_then(Value::as_str).map(str::to_owned);
            wire::DocumentParameter {
                name: name.clone(),
                kind: of("type").unwrap_or_default(),
                description: of("description"),
                default_value: of("default"),
            }
        })
        .collect();
    wire::DocumentDescription {
        hash,
        hash_type: "Sha256",
        name: document.name.to_string(),
        display_name: document.display_name.clone(),
        version_name: version.label.clone(),
        owner: owner_of(call, &document.owner),
        created_date: map::timestamp(version.created),
        status: "Active",
        document_version: version.number.to_string(),
        description: about("description").filter(|text| !text.is_empty()),
        parameters,
        platform_types: PLATFORMS,
        document_type: "Session",
        schema_version: "1.0",
        latest_version: document.latest().map_or(1, |latest| latest.number).to_string(),
        default_version: document.default_version.to_string(),
        document_format: spelled(version.format),
        tags: in_tags(&document.tags),
    }
}
