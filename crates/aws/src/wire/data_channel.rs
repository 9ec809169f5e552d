//! Shapes of the data channel's JSON, spelled as both sides spell them. No rule and no meaning lives here.
//!
//! Source: `src/service/service.go`, `src/message/clientmessage.go` and `handshakemessage.go` of
//! `aws/session-manager-plugin` (1.2.677), read 2026-11. Members that only some versions send are optional.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The first frame of a connection, and the only one that is text: client to server.
#[derive(Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct OpenDataChannelInput {
    /// `1.0`.
    pub message_schema_version: String,
    /// A UUID.
    pub request_id: String,
    /// The token of `StartSession` or `ResumeSession`: a secret.
    pub token_value: String,
    /// A UUID: new for every run of a client, the same when it comes back. The npm package `ssm-session` sends none.
    #[serde(default)]
    pub client_id: String,
    /// Three or four numbers with dots; absent before plugin 1.2.677.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_version: Option<String>,
}

/// The token is a secret.
impl std::fmt::Debug for OpenDataChannelInput {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenDataChannelInput")
            .field("client_id", &self.client_id)
            .field("client_version", &self.client_version)
            .finish_non_exhaustive()
    }
}

/// Payload of `acknowledge`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AcknowledgeContent {
    /// The type of what was received.
    #[serde(rename = "AcknowledgedMessageType")]
    pub message_type: String,
    /// Its id, in hyphenated form.
    #[serde(rename = "AcknowledgedMessageId")]
    pub message_id: String,
    /// Its sequence number: what counts.
    #[serde(rename = "AcknowledgedMessageSequenceNumber")]
    pub sequence_number: i64,
    /// `true`.
    #[serde(rename = "IsSequentialMessage", default)]
    pub is_sequential_message: bool,
}

/// Payload of `channel_closed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ChannelClosed {
    /// `channel_closed`.
    pub message_type: String,
    /// A UUID.
    pub message_id: String,
    /// The target.
    pub destination_id: String,
    /// The session.
    pub session_id: String,
    /// 1.
    pub schema_version: i64,
    /// Milliseconds since 1970, as text.
    pub created_date: String,
    /// Why; empty when the session's program ended.
    pub output: String,
}

/// Payload of type 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct SizeData {
    /// Columns.
    pub cols: u32,
    /// Rows.
    pub rows: u32,
}

/// Payload of type 5: server to client.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeRequestPayload {
    /// Four numbers with dots; clients choose features by it.
    pub agent_version: String,
    /// What the client shall do; `null` is the same as none.
    #[serde(default, deserialize_with = "null_is_default")]
    pub requested_client_actions: Vec<RequestedClientAction>,
    /// Not AWS's: the most bytes that the server takes in one payload. Absent at AWS, where clients send 1024.
    #[serde(rename = "RavelinPayloadBytesMax", default, skip_serializing_if = "Option::is_none")]
    pub ravelin_payload_bytes_max: Option<u32>,
}

/// One of `RequestedClientActions`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct RequestedClientAction {
    /// `SessionType` or `KMSEncryption`.
    pub action_type: String,
    /// [`SessionTypeRequest`] or [`KmsEncryptionRequest`].
    #[serde(default)]
    pub action_parameters: Value,
}

/// `ActionParameters` of `SessionType`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SessionTypeRequest {
    /// `Standard_Stream`, `InteractiveCommands`, `NonInteractiveCommands` or `Port`.
    pub session_type: String,
    /// [`PortProperties`] for `Port`; whatever the session's document has, otherwise.
    #[serde(default)]
    pub properties: Value,
}

/// `ActionParameters` of `KMSEncryption`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct KmsEncryptionRequest {
    /// The key.
    #[serde(rename = "KMSKeyId")]
    pub kms_key_id: String,
}

/// `Properties` of a session of type `Port`. All are texts, numbers too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortProperties {
    /// The port at the far side.
    #[serde(deserialize_with = "null_is_default")]
    pub port_number: String,
    /// The port to listen on here; empty or `0` picks one.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub local_port_number: String,
    /// The socket to listen on here.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub local_unix_socket: String,
    /// `unix` when that socket counts.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub local_connection_type: String,
    /// Where the far side connects to, when that is not itself.
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// `LocalPortForwarding`; absent for a plain stream, which is what ssh is given.
    #[serde(rename = "type", deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub forwarding: String,
}

/// Payload of type 6: client to server.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HandshakeResponsePayload {
    /// Three or four numbers with dots; servers choose features by it.
    pub client_version: String,
    /// One for each action that was requested; `null` is the same as none.
    #[serde(default, deserialize_with = "null_is_default")]
    pub processed_client_actions: Vec<ProcessedClientAction>,
    /// What went wrong; `null` when nothing did.
    #[serde(default, deserialize_with = "null_is_default")]
    pub errors: Vec<String>,
    /// Not AWS's: the client takes the exit code of every kind of session, and does not print it.
    #[serde(rename = "RavelinExitCode", default, skip_serializing_if = "std::ops::Not::not")]
    pub ravelin_exit_code: bool,
}

/// One of `ProcessedClientActions`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessedClientAction {
    /// As requested.
    pub action_type: String,
    /// 1 done, 2 failed, 3 not supported. The vendor's plugin says 0 for what it does not know.
    pub action_status: i64,
    /// Depends on the action; 3 where the vendor's plugin does not know it.
    #[serde(default)]
    pub action_result: Value,
    /// Empty when it was done.
    #[serde(default, deserialize_with = "null_is_default")]
    pub error: String,
}

/// Payload of type 7: server to client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HandshakeCompletePayload {
    /// Nanoseconds.
    pub handshake_time_to_complete: i64,
    /// Printed by the client; empty for none.
    #[serde(deserialize_with = "null_is_default")]
    pub customer_message: String,
}

/// Go writes an empty list, text or map as `null` when nobody made one.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
