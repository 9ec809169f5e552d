//! Payloads of the data channel: bytes in, [`wire`] shapes out, and back.
//!
//! Each kind has a bound of its own, asked before anything is parsed; nesting is held by the JSON parser's limit (128
//! levels). Members that are not known are passed over.

use crate::wire::data_channel as wire;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most bytes of the frame that opens a connection. AWS's tokens have some hundred.
pub const OPENING_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of an acknowledgement's payload. The vendor's have about 200.
pub const ACKNOWLEDGE_BYTES_MAX: usize = 1024;
/// Most bytes of a handshake's payload, of each of its three kinds, and of `channel_closed`.
pub const HANDSHAKE_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a size, a flag or an exit code.
pub const SHORT_BYTES_MAX: usize = 256;
/// Before the number in a payload of type `ExitCode`.
const EXIT_CODE_PREFIX: &str = "EXIT_CODE:";

/// Why a payload cannot be read. It never holds the payload's own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Longer than its kind may be.
    #[error("{kind} of {found} bytes is longer than {max}")]
    Long {
        /// What it was read as.
        kind: &'static str,
        /// Its bytes.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// Not what its kind looks like.
    #[error("{kind} cannot be read: wrong at line {line}, column {column}")]
    Shape {
        /// What it was read as.
        kind: &'static str,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// Not the number that it should be.
    #[error("{kind} is no number that is known")]
    Number {
        /// What it was read as.
        kind: &'static str,
    },
}

/// The frame that opens a connection.
///
/// # Errors
/// [`Unreadable`].
pub fn opening(text: &[u8]) -> Result<wire::OpenDataChannelInput, Unreadable> {
    json("opening", text, OPENING_BYTES_MAX)
}

/// An acknowledgement.
///
/// # Errors
/// [`Unreadable`].
pub fn acknowledge(payload: &[u8]) -> Result<wire::AcknowledgeContent, Unreadable> {
    json("acknowledgement", payload, ACKNOWLEDGE_BYTES_MAX)
}

/// The last word of a session.
///
/// # Errors
/// [`Unreadable`].
pub fn channel_closed(payload: &[u8]) -> Result<wire::ChannelClosed, Unreadable> {
    json("channel_closed", payload, HANDSHAKE_BYTES_MAX)
}

/// What the server asks for.
///
/// # Errors
/// [`Unreadable`].
pub fn handshake_request(payload: &[u8]) -> Result<wire::HandshakeRequestPayload, Unreadable> {
    json("handshake request", payload, HANDSHAKE_BYTES_MAX)
}

/// What the client answers.
///
/// # Errors
/// [`Unreadable`].
pub fn handshake_response(payload: &[u8]) -> Result<wire::HandshakeResponsePayload, Unreadable> {
    json("handshake response", payload, HANDSHAKE_BYTES_MAX)
}

/// What begins the session.
///
/// # Errors
/// [`Unreadable`].
pub fn handshake_complete(payload: &[u8]) -> Result<wire::HandshakeCompletePayload, Unreadable> {
    json("handshake completion", payload, HANDSHAKE_BYTES_MAX)
}

/// A terminal's size.
///
/// # Errors
/// [`Unreadable`].
pub fn size(payload: &[u8]) -> Result<wire::SizeData, Unreadable> {
    json("size", payload, SHORT_BYTES_MAX)
}

/// A flag of port forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// 1, client to server: the local connection closed; close yours, and connect anew when data comes.
    DisconnectToPort,
    /// 2, client to server: end the session.
    TerminateSession,
    /// 3, server to client: the port could not be reached.
    ConnectToPortError,
    /// 4, client to server, and not AWS's: nothing more is said on the session's only stream. A client sends it only to a
    /// server whose handshake has `RavelinPayloadBytesMax`.
    EndOfInput,
}

impl Flag {
    /// As a payload.
    #[must_use]
    pub fn encode(self) -> Bytes {
        let number: u32 = match self {
            Self::DisconnectToPort => 1,
            Self::TerminateSession => 2,
            Self::ConnectToPortError => 3,
            Self::EndOfInput => 4,
        };
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    /// Out of a payload: four bytes, big-endian.
    ///
    /// # Errors
    /// [`Unreadable::Number`].
    pub fn decode(payload: &[u8]) -> Result<Self, Unreadable> {
        match <[u8; 4]>::try_from(payload).map(u32::from_be_bytes) {
            Ok(1) => Ok(Self::DisconnectToPort),
            Ok(2) => Ok(Self::TerminateSession),
            Ok(3) => Ok(Self::ConnectToPortError),
            Ok(4) => Ok(Self::EndOfInput),
            Ok(_) | Err(_) => Err(Unreadable::Number { kind: "flag" }),
        }
    }
}

/// An exit code as the agent writes it: `EXIT_CODE: 7`.
#[must_use]
pub fn encode_exit_code(code: i64) -> Bytes {
    format!("{EXIT_CODE_PREFIX} {code}").into()
}

/// The exit code of a payload.
///
/// # Errors
/// [`Unreadable`].
pub fn exit_code(payload: &[u8]) -> Result<i64, Unreadable> {
    const KIND: &str = "exit code";
    bounded(KIND, payload, SHORT_BYTES_MAX)?;
    let text = std::str::from_utf8(payload).ok().and_then(|text| text.trim().strip_prefix(EXIT_CODE_PREFIX));
    text.and_then(|number| number.trim().parse().ok()).ok_or(Unreadable::Number { kind: KIND })
}

/// Any of the shapes as a payload.
///
/// # Panics
/// Never for [`wire`]'s own shapes: they hold texts, numbers, lists and JSON only.
#[must_use]
pub fn encode<T: Serialize>(shape: &T) -> Bytes {
    serde_json::to_vec(shape).expect("shapes without maps of our own making always serialise").into()
}

fn json<T: DeserializeOwned>(kind: &'static str, bytes: &[u8], max: usize) -> Result<T, Unreadable> {
    bounded(kind, bytes, max)?;
    // The parser's own text may quote what it read; only the place leaves here.
    serde_json::from_slice(bytes).map_err(|error| Unreadable::Shape {
        kind,
        line: error.line(),
        column: error.column(),
    })
}

fn bounded(kind: &'static str, bytes: &[u8], max: usize) -> Result<(), Unreadable> {
    if bytes.len() > max { Err(Unreadable::Long { kind, found: bytes.len(), max }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_vendor_sends_is_read() {
        let request = handshake_request(
            br#"{"AgentVersion":"3.3.0.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":
            {"SessionType":"Port","Properties":{"portNumber":"22","localPortNumber":null}}}],"Unknown":1}"#,
        )
        .expect("a request");
        assert_eq!(request.requested_client_actions.len(), 1);
        assert_eq!(request.ravelin_payload_bytes_max, None);
        let session: wire::SessionTypeRequest =
            serde_json::from_value(request.requested_client_actions[0].action_parameters.clone()).expect("a session");
        let port: wire::PortProperties = serde_json::from_value(session.properties).expect("properties");
        assert_eq!((port.port_number.as_str(), port.local_port_number.as_str()), ("22", ""));

        let response = handshake_response(
            br#"{"ClientVersion":"1.2.677.0","ProcessedClientActions":[{"ActionType":"SessionType","ActionStatus":1,"ActionResult":null,"Error":""}],"Errors":null}"#,
        )
        .expect("a response");
        assert_eq!(response.processed_client_actions[0].action_status, 1);
        assert_eq!(response.errors, Vec::<String>::new());
        let none = handshake_response(br#"{"ClientVersion":"1","ProcessedClientActions":null}"#).expect("a response");
        assert_eq!(none.processed_client_actions, []);

        let complete = handshake_complete(br#"{"HandshakeTimeToComplete":1204391,"CustomerMessage":"hello"}"#);
        assert_eq!(complete.expect("a completion").customer_message, "hello");
        let closed = channel_closed(br#"{"SessionId":"s","CreatedDate":"1","Output":"bye","SchemaVersion":1}"#);
        assert_eq!(closed.expect("a last word").output, "bye");
        assert_eq!(size(br#"{"cols":80,"rows":24}"#), Ok(wire::SizeData { cols: 80, rows: 24 }));
        let opened = opening(br#"{"MessageSchemaVersion":"1.0","RequestId":"r","TokenValue":"t","ClientId":"c"}"#);
        assert_eq!(opened.expect("an opening").client_version, None);
    }

    #[test]
    fn what_is_too_long_or_misshapen_is_refused_without_its_text() {
        let long = vec![b' '; OPENING_BYTES_MAX + 1];
        assert!(matches!(opening(&long), Err(Unreadable::Long { .. })));
        let secret = opening(br#"{"MessageSchemaVersion":"1.0","TokenValue":{"secret":1}}"#).expect_err("misshapen");
        assert!(!secret.to_string().contains("secret"), "{secret}");
        let deep = format!("{{\"AgentVersion\":\"1\",\"X\":{}", "[".repeat(10_000));
        assert!(matches!(handshake_request(deep.as_bytes()), Err(Unreadable::Shape { .. })));
        assert!(size(br#"{"cols":-1,"rows":24}"#).is_err());
        assert!(size(br#"{"cols":4294967296,"rows":24}"#).is_err());
    }

    #[test]
    fn flags_and_exit_codes_go_both_ways() {
        for flag in [Flag::DisconnectToPort, Flag::TerminateSession, Flag::ConnectToPortError, Flag::EndOfInput] {
            assert_eq!(Flag::decode(&flag.encode()), Ok(flag));
        }
        for bad in [&[][..], &[0, 0, 1], &[0, 0, 0, 0], &[0, 0, 0, 5], &[1, 0, 0, 0]] {
            assert!(Flag::decode(bad).is_err(), "{bad:?}");
        }
        for code in [0, 1, 255, -1] {
            assert_eq!(exit_code(&encode_exit_code(code)), Ok(code));
        }
        assert_eq!(exit_code(b"EXIT_CODE: 7\n"), Ok(7));
        for bad in [&b"7"[..], b"EXIT_CODE: x", b"", b"\xff"] {
            assert!(exit_code(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_does_not_show_itself() {
        let opened = opening(
            &json!({"MessageSchemaVersion": "1.0", "RequestId": "r", "TokenValue": "secret", "ClientId": "c"})
                .to_string()
                .into_bytes(),
        )
        .expect("an opening");
        assert!(!format!("{opened:?}").contains("secret"));
    }
}
