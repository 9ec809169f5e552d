//! Shapes of the service, spelled as the service spells them. No rule and no meaning lives here.
//!
//! Source: service model `ssm`, API version 2014-11-06, as botocore 1.43.62 and 1.44.5 carry it, read 2026-11.
//! Every request member is optional here; what must be there is asked in `api`.

pub mod data_channel;

use serde::{Serialize, Serializer};

/// Input of `DescribeSessions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribeSessionsRequest {
    /// `State`, required: `Active` or `History`.
    pub state: Option<String>,
    /// `MaxResults`, 1 to 200.
    pub max_results: Option<i64>,
    /// `NextToken`.
    pub next_token: Option<String>,
    /// `Filters`, 1 to 6.
    pub filters: Option<Vec<SessionFilter>>,
}

/// One of the `Filters`; its members are spelled in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// `key`, required.
    pub key: Option<String>,
    /// `value`, required, 1 to 400 characters.
    pub value: Option<String>,
}

/// Output of `DescribeSessions`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeSessionsResponse {
    /// The sessions of this page.
    pub sessions: Vec<Session>,
    /// Present if and only if more follow; never empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Session {
    /// 1 to 96 characters.
    pub session_id: String,
    /// 1 to 400 characters.
    pub target: String,
    /// `Connected`, `Connecting`, `Disconnected`, `Terminated`, `Terminating` or `Failed`.
    pub status: &'static str,
    /// When it began.
    pub start_date: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end_date: Option<Timestamp>,
    /// 3 to 128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document_name: Option<String>,
    /// An ARN, 1 to 256 characters.
    pub owner: String,
    /// 1 to 256 characters, no line break.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// 1 to 1024 characters. AWS keeps it for future use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    /// Empty on active sessions, as in AWS's examples; absent on others unless their document has their output logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output_url: Option<SessionManagerOutputUrl>,
    /// Minutes as text, `1` to `1440`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_session_duration: Option<String>,
    /// `Standard` or `JustInTime`.
    pub access_type: &'static str,
}

/// Where the output of a session is. AWS keeps both members for future use; each has at most 2083 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SessionManagerOutputUrl {
    /// The object.
    #[serde(rename = "S3OutputUrl", skip_serializing_if = "Option::is_none")]
    pub s3_output_url: Option<String>,
    /// The log stream.
    #[serde(rename = "CloudWatchOutputUrl", skip_serializing_if = "Option::is_none")]
    pub cloud_watch_output_url: Option<String>,
}

/// Input of `TerminateSession`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TerminateSessionRequest {
    /// `SessionId`, required, 1 to 96 characters.
    pub session_id: Option<String>,
}

/// Output of `TerminateSession`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TerminateSessionResponse {
    /// The session that has ended.
    pub session_id: String,
}

/// Input of `GetConnectionStatus`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetConnectionStatusRequest {
    /// `Target`, required, 1 to 400 characters.
    pub target: Option<String>,
}

/// Output of `GetConnectionStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetConnectionStatusResponse {
    /// The target as it was named.
    pub target: String,
    /// `connected` or `notconnected`.
    pub status: &'static str,
}

/// Output of operations that answer nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Nothing {}

/// Output of `StartSession` and `ResumeSession`. The token is a secret: this has no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StartSessionResponse {
    /// The session.
    pub session_id: String,
    /// What opens its data channel, once; empty when the session has ended.
    pub token_value: String,
    /// Where its data channel is.
    pub stream_url: String,
}

/// Output of `DescribeInstanceInformation`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstanceInformationResponse {
    /// The targets of this page.
    pub instance_information_list: Vec<Instance>,
    /// Present if and only if more follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Output of `DescribeInstanceProperties`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeInstancePropertiesResponse {
    /// The targets of this page.
    pub instance_properties: Vec<Instance>,
    /// Present if and only if more follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A target, as both operations on instances show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Instance {
    /// `mi-` or `i-` and hex digits.
    pub instance_id: String,
    /// `Online`, `ConnectionLost` or `Inactive`.
    pub ping_status: &'static str,
    /// When it was last found to be there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_ping_date_time: Option<Timestamp>,
    /// Two to four numbers with dots.
    pub agent_version: &'static str,
    /// Whether there is no newer one.
    pub is_latest_version: bool,
    /// `Windows`, `Linux` or `MacOS`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_type: Option<&'static str>,
    /// The system's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_name: Option<&'static str>,
    /// The system's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_version: Option<String>,
    /// `ManagedInstance` or `EC2Instance`.
    pub resource_type: &'static str,
    /// The target's name.
    pub name: String,
    /// 1 to 46 characters.
    #[serde(rename = "IPAddress")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<String>,
    /// 1 to 255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub computer_name: Option<String>,
}

/// One of a resource's tags.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Tag {
    /// 1 to 128 characters.
    pub key: String,
    /// At most 256 characters.
    pub value: String,
}

/// Output of `ListTagsForResource`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListTagsResponse {
    /// All of them.
    pub tag_list: Vec<Tag>,
}

/// Output of `CreateDocument` and `UpdateDocument`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeDocumentAnswer {
    /// The document.
    pub document_description: DocumentDescription,
}

/// Output of `DescribeDocument`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeDocumentResponse {
    /// The document.
    pub document: DocumentDescription,
}

/// A document without its text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DocumentDescription {
    /// SHA-256 of its text, in hex.
    pub hash: String,
    /// `Sha256`.
    pub hash_type: &'static str,
    /// 3 to 128 characters.
    pub name: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// This version's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_name: Option<String>,
    /// An account, or `Amazon`.
    pub owner: String,
    /// When this version was written.
    pub created_date: Timestamp,
    /// `Active`.
    pub status: &'static str,
    /// This version's number.
    pub document_version: String,
    /// What it says of itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it can be given.
    pub parameters: Vec<DocumentParameter>,
    /// `Linux`.
    pub platform_types: [&'static str; 1],
    /// `Session`.
    pub document_type: &'static str,
    /// `1.0`.
    pub schema_version: &'static str,
    /// The newest version's number.
    pub latest_version: String,
    /// The default version's number.
    pub default_version: String,
    /// `JSON` or `YAML`.
    pub document_format: &'static str,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// A parameter of a document.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DocumentParameter {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is when it is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_value: Option<String>,
}

/// Output of `GetDocument`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GetDocumentResponse {
    /// 3 to 128 characters.
    pub name: String,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// When this version was written.
    pub created_date: Timestamp,
    /// This version's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_name: Option<String>,
    /// This version's number.
    pub document_version: String,
    /// `Active`.
    pub status: &'static str,
    /// Its text.
    pub content: String,
    /// `Session`.
    pub document_type: &'static str,
    /// `JSON` or `YAML`.
    pub document_format: &'static str,
}

/// Output of `UpdateDocumentDefaultVersion`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DefaultVersionAnswer {
    /// The document and its default.
    pub description: DocumentDefaultVersionDescription,
}

/// A document and its default version.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DocumentDefaultVersionDescription {
    /// 3 to 128 characters.
    pub name: String,
    /// Its number.
    pub default_version: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_version_name: Option<String>,
}

/// Output of `ListDocuments`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListDocumentsResponse {
    /// The documents of this page.
    pub document_identifiers: Vec<DocumentIdentifier>,
    /// Present if and only if more follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A document in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DocumentIdentifier {
    /// 3 to 128 characters.
    pub name: String,
    /// When it was first written.
    pub created_date: Timestamp,
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// An account, or `Amazon`.
    pub owner: String,
    /// `Linux`.
    pub platform_types: [&'static str; 1],
    /// The default version's number.
    pub document_version: String,
    /// `Session`.
    pub document_type: &'static str,
    /// `1.0`.
    pub schema_version: &'static str,
    /// `JSON` or `YAML`.
    pub document_format: &'static str,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// Output of `ListDocumentVersions`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListDocumentVersionsResponse {
    /// The versions of this page, newest first.
    pub document_versions: Vec<DocumentVersionInfo>,
    /// Present if and only if more follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// A version in a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DocumentVersionInfo {
    /// The document's name.
    pub name: String,
    /// Its number.
    pub document_version: String,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version_name: Option<String>,
    /// When it was written.
    pub created_date: Timestamp,
    /// Whether it is the default.
    pub is_default_version: bool,
    /// `JSON` or `YAML`.
    pub document_format: &'static str,
    /// `Active`.
    pub status: &'static str,
}

/// Output of `GetServiceSetting` and `ResetServiceSetting`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSettingResponse {
    /// The setting.
    pub service_setting: ServiceSetting,
}

/// A setting.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceSetting {
    /// Its id.
    pub setting_id: &'static str,
    /// Its value.
    pub setting_value: String,
    /// When it was set.
    pub last_modified_date: Timestamp,
    /// By whom.
    pub last_modified_user: String,
    /// Its ARN.
    #[serde(rename = "ARN")]
    pub arn: String,
    /// `Default` or `Customized`.
    pub status: &'static str,
}

/// A point in time in milliseconds since 1970, written as a JSON number of seconds with at most three decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub i64);

impl Serialize for Timestamp {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of the next 285,000 years are exact in a double")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The double next to a decimal of at most 15 digits prints as that decimal, so no fourth decimal can appear.
        serializer.serialize_f64(self.0 as f64 / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn timestamps_print_as_documented() {
        for (millis, text) in [(1_550_676_938_352, "1550676938.352"), (1_550_676_938_300, "1550676938.3"), (0, "0.0")] {
            assert_eq!(serde_json::to_string(&Timestamp(millis)).expect("a number"), text);
        }
    }

    proptest! {
        #[test]
        fn no_timestamp_has_a_fourth_decimal(millis in 0_i64..253_402_300_800_000) {
            let text = serde_json::to_string(&Timestamp(millis)).expect("a number");
            let (seconds, decimals) = text.split_once('.').expect("a decimal point");
            prop_assert!(decimals.len() <= 3, "{}", text);
            let back = seconds.parse::<i64>().expect("digits") * 1000
                + format!("{decimals:0<3}").parse::<i64>().expect("digits");
            prop_assert_eq!(back, millis);
        }
    }
}
