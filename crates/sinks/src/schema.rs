//! The forms that others know: Azure's bastion logs, CloudTrail, OCSF. One event in, one record out, or none where the
//! form has no word for it.

use crate::config::Names;
use crate::lines::{self, stamp};
use ravelin_model::Time;
use ravelin_model::audit::AuditKind;
use ravelin_model::ledger::Entry;
use ravelin_model::session::EndReason;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;

/// The form of what a sink gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Our own, which can be verified.
    Ravelin,
    /// The Open Cybersecurity Schema Framework, 1.3: <https://schema.ocsf.io/1.3.0>.
    Ocsf,
    /// `BastionAuditLogs`: connects, failed logins, ends; and checkpoints of the ledger.
    Azure,
    /// CloudTrail's records.
    CloudTrail,
}

impl Schema {
    /// All of them.
    pub const ALL: &'static [Schema] = &[Schema::Ravelin, Schema::Ocsf, Schema::Azure, Schema::CloudTrail];

    /// The word in the configuration.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Schema::Ravelin => "ravelin",
            Schema::Ocsf => "ocsf",
            Schema::Azure => "azure",
            Schema::CloudTrail => "cloudtrail",
        }
    }

    /// The schema that `word` names.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|schema| schema.word() == word)
    }

    /// The event in this form; `None` where the form has none for it.
    pub(crate) fn render(self, names: &Names, deployment: &str, entry: &Entry) -> Option<Value> {
        match self {
            Schema::Ravelin => Some(lines::event(deployment, entry)),
            Schema::Ocsf => Some(ocsf(deployment, entry)),
            Schema::Azure => azure(names, deployment, entry),
            Schema::CloudTrail => Some(cloudtrail(names, entry)),
        }
    }
}

/// What an event's kind is to the others: the one place to touch when a kind is added.
pub(crate) struct Traits {
    /// How much it matters.
    pub(crate) weight: Weight,
    /// OCSF's category, class and activity.
    ocsf: (i64, i64, i64),
    /// The call of Session Manager that it stands for.
    call: Option<&'static str>,
    /// What Azure's logs tell of it.
    azure: Option<Azure>,
    /// What becomes of a session by it, for spans.
    pub(crate) ends_session: bool,
}

/// How much an event matters to somebody who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Info,
    Notice,
    /// Something was refused, or did not work.
    Warning,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Azure {
    Connected,
    Failed,
    Ended,
    Checkpoint,
}

const SSH: i64 = 4007;
const LOGIN: i64 = 3002;

/// See [`Traits`]. OCSF's classes: SSH Activity (4007), Authentication (3002), and the base event (0) for what has no
/// class of its own.
pub(crate) fn traits(kind: AuditKind) -> Traits {
    let plain = Traits { weight: Weight::Info, ocsf: (0, 0, 99), call: None, azure: None, ends_session: false };
    match kind {
        AuditKind::SessionOpened => Traits { ocsf: (4, SSH, 1), call: Some("StartSession"), ..plain },
        AuditKind::SessionConnected => Traits { ocsf: (4, SSH, 1), azure: Some(Azure::Connected), ..plain },
        AuditKind::SessionResumed => Traits { ocsf: (4, SSH, 1), call: Some("ResumeSession"), ..plain },
        AuditKind::SessionClassified => Traits { ocsf: (4, SSH, 6), ..plain },
        AuditKind::SessionDisconnected => Traits { ocsf: (4, SSH, 2), ..plain },
        AuditKind::SessionEnding => Traits { ocsf: (4, SSH, 6), weight: Weight::Notice, ..plain },
        AuditKind::SessionEnded => Traits {
            ocsf: (4, SSH, 2),
            call: Some("TerminateSession"),
            azure: Some(Azure::Ended),
            ends_session: true,
            ..plain
        },
        AuditKind::SessionFailed => Traits {
            ocsf: (4, SSH, 4),
            weight: Weight::Warning,
            azure: Some(Azure::Failed),
            ends_session: true,
            ..plain
        },
        AuditKind::LoginAccepted => Traits { ocsf: (3, LOGIN, 1), ..plain },
        AuditKind::LoginRefused => {
            Traits { ocsf: (3, LOGIN, 1), weight: Weight::Warning, azure: Some(Azure::Failed), ..plain }
        }
        AuditKind::AccessDenied | AuditKind::InventoryRefused | AuditKind::RecordingBroke => {
            Traits { weight: Weight::Warning, ..plain }
        }
        AuditKind::BastionChanged
        | AuditKind::CredentialIssued
        | AuditKind::CredentialRevoked
        | AuditKind::DocumentChanged
        | AuditKind::LinkCreated
        | AuditKind::LinkDeleted
        | AuditKind::RecordingPlayed
        | AuditKind::RecordingExported
        | AuditKind::RecordingRead
        | AuditKind::RecordingsSearched
        | AuditKind::SessionWatched
        | AuditKind::RecordingHeld
        | AuditKind::RecordingReleased
        | AuditKind::RecordingRemoved
        | AuditKind::SettingChanged
        | AuditKind::RecordExported
        | AuditKind::SinkAdded
        | AuditKind::SinkRemoved => Traits { weight: Weight::Notice, ..plain },
        AuditKind::LedgerCheckpoint => Traits { azure: Some(Azure::Checkpoint), ..plain },
        AuditKind::RecordingBegan
        | AuditKind::RecordingKept
        | AuditKind::InventoryLoaded
        | AuditKind::NodeStarted
        | AuditKind::NodeStopped => plain,
    }
}

/// The id that an event has everywhere and for ever.
pub(crate) fn event_id(deployment: &str, entry: &Entry) -> String {
    format!("{deployment}-{}", entry.event.seq)
}

fn fact<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry.event.deed.facts.get(name).map_or("", String::as_str)
}

fn address(entry: &Entry) -> (String, u16) {
    let text = fact(entry, "client_address");
    match text.parse::<SocketAddr>() {
        Ok(address) => (address.ip().to_canonical().to_string(), address.port()),
        Err(_) => (text.to_owned(), 0),
    }
}

fn time_fact(entry: &Entry, name: &str) -> Option<Time> {
    fact(entry, name).parse().ok().map(Time::from_micros)
}

/// What Azure writes of an event: a resource log of the category `BastionAuditLogs`.
///
/// Source: <https://learn.microsoft.com/azure/bastion/monitor-bastion-reference> and the published sample of the
/// category, as of 2026-11.
fn azure(names: &Names, deployment: &str, entry: &Entry) -> Option<Value> {
    let told = traits(entry.event.deed.kind).azure?;
    let (operation, message) = match told {
        Azure::Connected => ("connect", "Successfully Connected.".to_owned()),
        Azure::Failed => ("connect", "Login Failed".to_owned()),
        Azure::Ended => ("disconnect", format!("Session Ended: {}", fact(entry, "end_reason"))),
        Azure::Checkpoint => ("ledgerCheckpoint", json!(entry.event.deed.facts).to_string()),
    };
    let (client, port) = address(entry);
    let email = if fact(entry, "principal").is_empty() { fact(entry, "claimed") } else { fact(entry, "principal") };
    let user = if fact(entry, "login").is_empty() { email } else { fact(entry, "login") };
    let mut properties = json!({
        "userName": user,
        "userEmail": email,
        "userAgent": fact(entry, "client_software"),
        "clientIpAddress": client,
        "clientPort": port,
        "protocol": fact(entry, "protocol"),
        "targetResourceId": fact(entry, "target_azure"),
        "subscriptionId": names.subscription,
        "message": message,
        "resourceType": "VM",
        "targetVMIPAddress": fact(entry, "target_address"),
        "tunnelId": entry.event.deed.session.as_ref().map_or("", ravelin_model::SessionId::as_str),
        "eventId": event_id(deployment, entry),
    });
    let started = time_fact(entry, "connected_micros").or_else(|| time_fact(entry, "created_micros"));
    if let Some(started) = started {
        properties["sessionStartTime"] = stamp(started).into();
        if told == Azure::Ended {
            // The event itself bears the time of its writing, which may come later.
            let ended = time_fact(entry, "ended_micros").unwrap_or(entry.event.at);
            let length = ended.since(started);
            properties["sessionEndTime"] = stamp(ended).into();
            properties["duration"] = u64::try_from(length.as_millis()).unwrap_or(u64::MAX).into();
        }
    }
    Some(json!({
        "time": stamp(entry.event.at),
        "resourceId": azure_resource(names),
        "operationName": format!("Microsoft.Network/BastionHost/{operation}"),
        "category": "BastionAuditLogs",
        "level": "Informational",
        "location": names.location,
        "properties": properties,
    }))
}

/// The bastion's resource id as diagnostic logs write it.
pub(crate) fn azure_resource(names: &Names) -> String {
    format!(
        "/SUBSCRIPTIONS/{}/RESOURCEGROUPS/{}/PROVIDERS/MICROSOFT.NETWORK/BASTIONHOSTS/{}",
        names.subscription, names.resource_group, names.bastion_name
    )
    .to_uppercase()
}

/// A row of `MicrosoftAzureBastionAuditLogs` from a record of [`azure`]; other forms are put into `Message` whole.
///
/// Source: <https://learn.microsoft.com/azure/azure-monitor/reference/tables/microsoftazurebastionauditlogs>.
pub(crate) fn log_analytics_row(record: &Value) -> Value {
    let properties = &record["properties"];
    if !properties.is_object() {
        let at = record.get("at").or_else(|| record.get("time")).or_else(|| record.get("eventTime"));
        return json!({ "TimeGenerated": at, "Message": record.to_string() });
    }
    let mut row = Map::new();
    for (column, value) in [
        ("TimeGenerated", &record["time"]),
        ("Time", &record["time"]),
        ("OperationName", &record["operationName"]),
        ("Location", &record["location"]),
        ("ResourceType", &properties["resourceType"]),
        ("Message", &properties["message"]),
        ("UserName", &properties["userName"]),
        ("UserEmail", &properties["userEmail"]),
        ("UserAgent", &properties["userAgent"]),
        ("ClientIpAddress", &properties["clientIpAddress"]),
        ("ClientPort", &properties["clientPort"]),
        ("Protocol", &properties["protocol"]),
        ("TargetResourceId", &properties["targetResourceId"]),
        ("TargetVMIPAddress", &properties["targetVMIPAddress"]),
        ("TunnelId", &properties["tunnelId"]),
        ("SessionStartTime", &properties["sessionStartTime"]),
        ("SessionEndTime", &properties["sessionEndTime"]),
        ("Duration", &properties["duration"]),
        ("EventId", &properties["eventId"]),
    ] {
        if !value.is_null() {
            row.insert(column.to_owned(), value.clone());
        }
    }
    Value::Object(row)
}

/// What CloudTrail writes of an event: Session Manager's own calls where there is one, else the kind as its name.
///
/// Source: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-event-reference-record-contents.html>.
fn cloudtrail(names: &Names, entry: &Entry) -> Value {
    let deed = &entry.event.deed;
    let actor = deed.actor.to_string();
    let Traits { call, weight, .. } = traits(deed.kind);
    let (source, name) = match call {
        Some(call) => ("ssm.amazonaws.com", call.to_owned()),
        None => ("ravelin", camel(deed.kind.word())),
    };
    let account = &names.account;
    let mut record = json!({
        "eventVersion": "1.11",
        "userIdentity": {
            "type": "IAMUser",
            "arn": format!("arn:aws:iam::{account}:user/{actor}"),
            "accountId": account,
            "userName": actor,
        },
        "eventTime": seconds(entry.event.at),
        "eventSource": source,
        "eventName": name,
        "awsRegion": names.region,
        "sourceIPAddress": address(entry).0,
        "userAgent": fact(entry, "client_software"),
        "requestParameters": {
            "target": fact(entry, "target_aws"),
            "documentName": fact(entry, "document"),
            "reason": fact(entry, "reason"),
        },
        "responseElements": { "sessionId": deed.session.as_ref().map(ravelin_model::SessionId::as_str) },
        "additionalEventData": { "seq": entry.event.seq, "hash": entry.hash.to_string(), "facts": deed.facts },
        "requestID": uuid(entry),
        "eventID": uuid(entry),
        "readOnly": deed.kind == AuditKind::RecordExported,
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": account,
        "eventCategory": "Management",
    });
    if weight == Weight::Warning {
        record["errorCode"] = error_code(entry).into();
        record["errorMessage"] = fact(entry, "detail").into();
    }
    record
}

/// CloudTrail's word where somebody was refused, which alarms there look for; else our own word of what went wrong.
fn error_code(entry: &Entry) -> String {
    let kind = entry.event.deed.kind;
    let reason = fact(entry, "end_reason");
    if matches!(kind, AuditKind::AccessDenied | AuditKind::LoginRefused) || reason == EndReason::Denied.word() {
        return "AccessDenied".to_owned();
    }
    camel(if reason.is_empty() { kind.word() } else { reason })
}

/// An id in the form of a UUID that the same event always has.
fn uuid(entry: &Entry) -> String {
    let hex = entry.hash.to_string();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..32]].join("-")
}

fn seconds(time: Time) -> String {
    let text = stamp(time);
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

fn camel(word: &str) -> String {
    word.split('_')
        .map(|part| {
            let mut chars = part.chars();
            chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect::<String>()
        })
        .collect()
}

/// What OCSF's readers take.
fn ocsf(deployment: &str, entry: &Entry) -> Value {
    let deed = &entry.event.deed;
    let Traits { ocsf: (category, class, activity), weight, .. } = traits(deed.kind);
    let status = if weight == Weight::Warning { 2 } else { 1 };
    let (ip, port) = address(entry);
    let user = if fact(entry, "principal").is_empty() { fact(entry, "claimed") } else { fact(entry, "principal") };
    let actor = deed.actor.to_string();
    let mut record = json!({
        "activity_id": activity,
        "category_uid": category,
        "class_uid": class,
        "type_uid": class * 100 + activity,
        "time": entry.event.at.as_micros().div_euclid(1000),
        "severity_id": if status == 2 { 3 } else { 1 },
        "status_id": status,
        "message": deed.kind.word(),
        "metadata": {
            "version": "1.3.0",
            "uid": event_id(deployment, entry),
            "sequence": entry.event.seq,
            "product": { "name": "Ravelin", "vendor_name": "Ravelin", "version": env!("CARGO_PKG_VERSION") },
        },
        "actor": { "user": { "name": actor } },
        "unmapped": { "facts": deed.facts, "hash": entry.hash.to_string() },
    });
    if !ip.is_empty() {
        record["src_endpoint"] = json!({ "ip": ip, "port": port });
    }
    if class == SSH {
        record["dst_endpoint"] = json!({
            "name": fact(entry, "target"),
            "hostname": fact(entry, "target_address"),
            "port": fact(entry, "target_port").parse::<u16>().unwrap_or_default(),
        });
        record["connection_info"] = json!({
            "uid": deed.session.as_ref().map(ravelin_model::SessionId::as_str),
            "protocol_name": "tcp",
            "direction_id": 0,
        });
    }
    if class == LOGIN {
        let name = if user.is_empty() { actor } else { user.to_owned() };
        record["user"] = json!({ "name": name });
        record["auth_protocol"] = fact(entry, "method").into();
    }
    record
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ravelin_model::SessionId;
    use ravelin_model::audit::{AuditEvent, Deed};
    use ravelin_model::ledger::Digest;
    use ravelin_model::session::Actor;
    use std::collections::BTreeMap;

    fn names() -> Names {
        Names {
            subscription: "0c9ac6a9-7c2f-4d0e-8a39-5e1f6b7d2c10".to_owned(),
            resource_group: "bastion".to_owned(),
            bastion_name: "gate".to_owned(),
            location: "local".to_owned(),
            account: "111122223333".to_owned(),
            region: "eu-central-1".to_owned(),
            ..Names::default()
        }
    }

    pub(crate) fn entry(kind: AuditKind) -> Entry {
        let facts = [
            ("principal", "alice"),
            ("login", "root"),
            ("target", "web-1"),
            ("target_azure", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1"),
            ("target_aws", "mi-07a16060613c408b5"),
            ("target_address", "10.0.0.5"),
            ("target_port", "22"),
            ("protocol", "ssh"),
            ("client_address", "192.0.2.9:50022"),
            ("client_software", "SSH-2.0-OpenSSH_10.0"),
            ("connected_micros", "1795300134123456"),
            ("end_reason", "client_closed"),
        ];
        let facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let deed = Deed {
            kind,
            actor: Actor::from_text("alice").expect("a name"),
            session: Some(SessionId::parse("alice-07a16060613c408b5").expect("an id")),
            facts,
        };
        let event = AuditEvent { seq: 42, at: Time::from_micros(1_795_300_139_123_456), deed };
        Entry { event, hash: Digest([0xab; 32]) }
    }

    #[test]
    fn azure_sees_connects_failures_and_ends() {
        let connect = Schema::Azure.render(&names(), "d", &entry(AuditKind::SessionConnected)).expect("a record");
        assert_eq!(connect["operationName"], "Microsoft.Network/BastionHost/connect");
        assert_eq!(connect["properties"]["message"], "Successfully Connected.");
        assert_eq!(
            connect["resourceId"],
            "/SUBSCRIPTIONS/0C9AC6A9-7C2F-4D0E-8A39-5E1F6B7D2C10/RESOURCEGROUPS/BASTION/PROVIDERS/MICROSOFT.NETWORK/BASTIONHOSTS/GATE"
        );
        let end = Schema::Azure.render(&names(), "d", &entry(AuditKind::SessionEnded)).expect("a record");
        assert_eq!(end["properties"]["duration"], 5000);
        assert_eq!(end["properties"]["clientPort"], 50022);
        assert!(Schema::Azure.render(&names(), "d", &entry(AuditKind::NodeStarted)).is_none());
        let row = log_analytics_row(&end);
        assert_eq!(row["Duration"], 5000);
        assert_eq!(row["SessionEndTime"], "2026-11-21T22:28:59.123456Z");
        assert_eq!(row["UserEmail"], "alice");
    }

    #[test]
    fn cloudtrail_and_ocsf_have_what_their_readers_ask_for() {
        let record = Schema::CloudTrail.render(&names(), "d", &entry(AuditKind::SessionOpened)).expect("a record");
        assert_eq!(
            (&record["eventName"], &record["eventSource"]),
            (&json!("StartSession"), &json!("ssm.amazonaws.com"))
        );
        assert_eq!(record["userIdentity"]["arn"], "arn:aws:iam::111122223333:user/alice");
        assert_eq!(record["eventTime"], "2026-11-21T22:28:59Z");
        assert_eq!(record["eventID"], "abababab-abab-abab-abab-abababababab");
        let record = Schema::Ocsf.render(&names(), "d", &entry(AuditKind::SessionEnded)).expect("a record");
        assert_eq!((&record["class_uid"], &record["type_uid"]), (&json!(4007), &json!(400_702)));
        assert_eq!(record["metadata"]["uid"], "d-42");
        let code = |kind, reason: &str| {
            let mut entry = entry(kind);
            entry.event.deed.facts.insert("end_reason".to_owned(), reason.to_owned());
            let record = Schema::CloudTrail.render(&names(), "d", &entry).expect("a record");
            record["errorCode"].as_str().map(str::to_owned)
        };
        for (kind, reason, expected) in [
            (AuditKind::AccessDenied, "", Some("AccessDenied")),
            (AuditKind::LoginRefused, "", Some("AccessDenied")),
            (AuditKind::SessionFailed, "denied", Some("AccessDenied")),
            (AuditKind::SessionFailed, "target_unreachable", Some("TargetUnreachable")),
            (AuditKind::RecordingBroke, "", Some("RecordingBroke")),
            (AuditKind::InventoryRefused, "", Some("InventoryRefused")),
            (AuditKind::SessionEnded, "idle_limit", None),
        ] {
            assert_eq!(code(kind, reason).as_deref(), expected, "{kind} {reason}");
        }
        for kind in AuditKind::ALL {
            assert!(Schema::Ocsf.render(&names(), "d", &entry(*kind)).is_some());
        }
        let _: BTreeMap<String, Value> = serde_json::from_value(record).expect("an object");
    }
}
