//! The binary messages of the data channel: a header of 120 bytes, big-endian, and a payload.
//!
//! [`Message::encode`] writes one, [`Message::decode`] reads one out of one WebSocket message. What a payload means is
//! the business of [`super::channel`]; in which order payloads count, of [`super::delivery`].
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | `HeaderLength`: 116, the offset of `PayloadLength` |
//! | 4 | 32 | `MessageType`, padded with spaces; readers also cut NULs |
//! | 36 | 4 | `SchemaVersion`: 1 |
//! | 40 | 8 | `CreatedDate`, milliseconds since 1970, never 0 |
//! | 48 | 8 | `SequenceNumber`, signed, never negative |
//! | 56 | 8 | `Flags` |
//! | 64 | 16 | `MessageId`: a UUID, its last eight bytes first |
//! | 80 | 32 | SHA-256 of the payload |
//! | 112 | 4 | `PayloadType` |
//! | 116 | 4 | `PayloadLength` |
//! | 120 | n | the payload |
//!
//! Source: `src/message/clientmessage.go` and `messageparser.go` of `aws/session-manager-plugin` (1.2.677), read 2026-11;
//! the goldens in `tests/golden/data_channel` were captured from that plugin.

use aws_lc_rs::digest;
use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 120;
/// Most bytes of a payload, either way. Peers send 1 KiB to 64 KiB; AWS gives no limit.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;
/// Most bytes of a whole message: what a WebSocket should be told to accept.
pub const MESSAGE_BYTES_MAX: usize = HEADER_BYTES + PAYLOAD_BYTES_MAX;
/// Flag of the first message of a stream, and of every message that is no stream data.
pub const SYN: u64 = 1;
/// Flag of the last message of a stream, and of every message that is no stream data.
pub const FIN: u64 = 2;

const HEADER_LENGTH: u32 = 116;
const SCHEMA_VERSION: u32 = 1;
const DIGEST_BYTES: usize = 32;
const TYPE_BYTES: usize = 32;

/// What a message is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// `input_stream_data`: client to server.
    InputStreamData,
    /// `output_stream_data`: server to client.
    OutputStreamData,
    /// `acknowledge`: either way.
    Acknowledge,
    /// `channel_closed`: server to client, the last word of a session.
    ChannelClosed,
    /// `start_publication`: server to client; the far side is there again.
    StartPublication,
    /// `pause_publication`: server to client; the far side is away for now.
    PausePublication,
}

impl MessageType {
    const ALL: [Self; 6] = [
        Self::InputStreamData,
        Self::OutputStreamData,
        Self::Acknowledge,
        Self::ChannelClosed,
        Self::StartPublication,
        Self::PausePublication,
    ];

    /// As it stands in the header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InputStreamData => "input_stream_data",
            Self::OutputStreamData => "output_stream_data",
            Self::Acknowledge => "acknowledge",
            Self::ChannelClosed => "channel_closed",
            Self::StartPublication => "start_publication",
            Self::PausePublication => "pause_publication",
        }
    }
}

/// What a payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadType {
    /// 0: nothing said; acknowledgements and `channel_closed` bear it.
    Unset,
    /// 1: bytes of the stream.
    Output,
    /// 2: an error's text.
    Error,
    /// 3: the terminal's size.
    Size,
    /// 4: a parameter.
    Parameter,
    /// 5: what the server asks of the client before the session begins.
    HandshakeRequest,
    /// 6: the client's answer.
    HandshakeResponse,
    /// 7: the session begins.
    HandshakeComplete,
    /// 8: proof of the encryption's key, asked for.
    EncChallengeRequest,
    /// 9: proof of the encryption's key, given.
    EncChallengeResponse,
    /// 10: a flag of port forwarding.
    Flag,
    /// 11: bytes of the stream of errors, where it is apart.
    StdErr,
    /// 12: the exit code, as text.
    ExitCode,
    /// Any other number.
    Other(u32),
}

impl From<u32> for PayloadType {
    fn from(number: u32) -> Self {
        match number {
            0 => Self::Unset,
            1 => Self::Output,
            2 => Self::Error,
            3 => Self::Size,
            4 => Self::Parameter,
            5 => Self::HandshakeRequest,
            6 => Self::HandshakeResponse,
            7 => Self::HandshakeComplete,
            8 => Self::EncChallengeRequest,
            9 => Self::EncChallengeResponse,
            10 => Self::Flag,
            11 => Self::StdErr,
            12 => Self::ExitCode,
            other => Self::Other(other),
        }
    }
}

impl From<PayloadType> for u32 {
    fn from(payload_type: PayloadType) -> Self {
        match payload_type {
            PayloadType::Unset => 0,
            PayloadType::Output => 1,
            PayloadType::Error => 2,
            PayloadType::Size => 3,
            PayloadType::Parameter => 4,
            PayloadType::HandshakeRequest => 5,
            PayloadType::HandshakeResponse => 6,
            PayloadType::HandshakeComplete => 7,
            PayloadType::EncChallengeRequest => 8,
            PayloadType::EncChallengeResponse => 9,
            PayloadType::Flag => 10,
            PayloadType::StdErr => 11,
            PayloadType::ExitCode => 12,
            PayloadType::Other(other) => other,
        }
    }
}

/// One message.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is for.
    pub message_type: MessageType,
    /// When its sender made it: milliseconds since 1970, never 0.
    pub created_ms: u64,
    /// Its place among the stream data of its direction; 0 for everything else.
    pub sequence: u64,
    /// [`SYN`] and [`FIN`]; other bits mean nothing.
    pub flags: u64,
    /// Its name in acknowledgements.
    pub id: Uuid,
    /// What the payload is.
    pub payload_type: PayloadType,
    /// At most [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
}

/// Payloads are what people type and see: only their size is shown.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("message_type", &self.message_type)
            .field("sequence", &self.sequence)
            .field("flags", &self.flags)
            .field("payload_type", &self.payload_type)
            .field("payload_bytes", &self.payload.len())
            .finish_non_exhaustive()
    }
}

/// Why bytes are no message. A receiver drops them: their sender, hearing nothing, sends them again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Less than a header.
    #[error("a message of {0} bytes is shorter than its header")]
    Short(usize),
    /// More than [`MESSAGE_BYTES_MAX`].
    #[error("a message of {0} bytes is longer than any may be")]
    Long(usize),
    /// The header's own length is another than 116.
    #[error("header length {0} is none of this protocol")]
    HeaderLength(u32),
    /// A type that nobody knows.
    #[error("unknown message type")]
    MessageType,
    /// Schema version other than 1.
    #[error("unknown schema version {0}")]
    SchemaVersion(u32),
    /// No date.
    #[error("no creation date")]
    CreatedDate,
    /// A negative sequence number.
    #[error("negative sequence number")]
    Sequence,
    /// The payload's length is not what the header says.
    #[error("the payload has {found} bytes and announces {announced}")]
    PayloadLength {
        /// What the header says.
        announced: u32,
        /// What is there.
        found: usize,
    },
    /// The payload is not the one that the header's digest was made of.
    #[error("the payload does not have the digest that the header gives")]
    Digest,
}

impl Message {
    /// Reads one. The payload is a slice of `bytes`.
    ///
    /// # Errors
    /// [`Fault`]: the first that is found. Nothing is allocated.
    pub fn decode(bytes: &Bytes) -> Result<Self, Fault> {
        if bytes.len() < HEADER_BYTES {
            return Err(Fault::Short(bytes.len()));
        }
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(Fault::Long(bytes.len()));
        }
        let header_length = be32(bytes, 0);
        if header_length != HEADER_LENGTH {
            return Err(Fault::HeaderLength(header_length));
        }
        let message_type = type_of(&bytes[4..4 + TYPE_BYTES]).ok_or(Fault::MessageType)?;
        let schema_version = be32(bytes, 36);
        if schema_version != SCHEMA_VERSION {
            return Err(Fault::SchemaVersion(schema_version));
        }
        let created_ms = be64(bytes, 40);
        if created_ms == 0 {
            return Err(Fault::CreatedDate);
        }
        let sequence = be64(bytes, 48);
        if sequence > i64::MAX.unsigned_abs() {
            return Err(Fault::Sequence);
        }
        let payload = bytes.slice(HEADER_BYTES..);
        let announced = be32(bytes, 116);
        if usize::try_from(announced) != Ok(payload.len()) {
            return Err(Fault::PayloadLength { announced, found: payload.len() });
        }
        // As the vendor's reader has it: nothing is checked of a payload that is empty, or of one that is not looked at.
        let looked_at = match message_type {
            MessageType::InputStreamData
            | MessageType::OutputStreamData
            | MessageType::Acknowledge
            | MessageType::ChannelClosed => true,
            MessageType::StartPublication | MessageType::PausePublication => false,
        };
        if looked_at && !payload.is_empty() && !is_digest(&payload, &bytes[80..112]) {
            return Err(Fault::Digest);
        }
        let mut id = [0; 16];
        id[8..].copy_from_slice(&bytes[64..72]);
        id[..8].copy_from_slice(&bytes[72..80]);
        Ok(Self {
            message_type,
            created_ms,
            sequence,
            flags: be64(bytes, 56),
            id: Uuid::from_bytes(id),
            payload_type: PayloadType::from(be32(bytes, 112)),
            payload,
        })
    }

    /// Writes it. The payload is copied once.
    ///
    /// # Panics
    /// When the payload has more than [`PAYLOAD_BYTES_MAX`] bytes; whoever makes messages cuts them.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        assert!(self.payload.len() <= PAYLOAD_BYTES_MAX, "a payload of {} bytes", self.payload.len());
        let mut out = BytesMut::with_capacity(HEADER_BYTES + self.payload.len());
        out.put_u32(HEADER_LENGTH);
        let name = self.message_type.as_str().as_bytes();
        out.put_slice(name);
        out.put_bytes(b' ', TYPE_BYTES - name.len());
        out.put_u32(SCHEMA_VERSION);
        out.put_u64(self.created_ms);
        out.put_u64(self.sequence);
        out.put_u64(self.flags);
        out.put_slice(&self.id.as_bytes()[8..]);
        out.put_slice(&self.id.as_bytes()[..8]);
        out.put_slice(sha256(&self.payload).as_ref());
        out.put_u32(self.payload_type.into());
        out.put_u32(u32::try_from(self.payload.len()).expect("checked against a bound that fits above"));
        out.put_slice(&self.payload);
        out.freeze()
    }
}

fn type_of(field: &[u8]) -> Option<MessageType> {
    let end = field.iter().rposition(|byte| !matches!(byte, b' ' | 0)).map_or(0, |last| last + 1);
    let start = field[..end].iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(end);
    MessageType::ALL.into_iter().find(|known| known.as_str().as_bytes() == &field[start..end])
}

/// Whether the field holds the payload's digest: all of it, or its first half in hexadecimal digits, which fills the
/// field as well and is what the npm package `ssm-session` writes.
///
/// Source: `ssm-session` 1.0.6, read 2026-11.
fn is_digest(payload: &[u8], field: &[u8]) -> bool {
    let digest = sha256(payload);
    let digest = digest.as_ref();
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| b"0123456789abcdef"[usize::from(digit)]);
    digest == field || digest.iter().take(DIGEST_BYTES / 2).flat_map(digits).eq(field.iter().copied())
}

fn sha256(payload: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, payload)
}

/// The caller has checked that the header is there.
fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// The caller has checked that the header is there.
fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message() -> impl Strategy<Value = Message> {
        (
            prop::sample::select(&MessageType::ALL[..]),
            1..=u64::MAX,
            0..=i64::MAX.unsigned_abs(),
            any::<u64>(),
            any::<u128>(),
            any::<u32>(),
            prop::collection::vec(any::<u8>(), 0..2048),
        )
            .prop_map(|(message_type, created_ms, sequence, flags, id, payload_type, payload)| Message {
                message_type,
                created_ms,
                sequence,
                flags,
                id: Uuid::from_u128(id),
                payload_type: payload_type.into(),
                payload: payload.into(),
            })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(message in message()) {
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn a_changed_payload_is_noticed(message in message(), at in any::<prop::sample::Index>(), bit in 0..8_u32) {
            prop_assume!(!message.payload.is_empty());
            let mut bytes = message.encode().to_vec();
            let at = HEADER_BYTES + at.index(message.payload.len());
            bytes[at] ^= 1 << bit;
            let unread = matches!(message.message_type, MessageType::StartPublication | MessageType::PausePublication);
            prop_assert_eq!(Message::decode(&bytes.into()).is_ok(), unread);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _whatever = Message::decode(&bytes.into());
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        let whole = Message {
            message_type: MessageType::InputStreamData,
            created_ms: 1,
            sequence: 7,
            flags: 0,
            id: Uuid::from_u128(1),
            payload_type: PayloadType::Output,
            payload: Bytes::from_static(b"ls\n"),
        }
        .encode();
        let with = |at: usize, value: &[u8]| {
            let mut bytes = whole.to_vec();
            bytes[at..at + value.len()].copy_from_slice(value);
            Message::decode(&bytes.into())
        };
        assert_eq!(Message::decode(&whole.slice(..119)), Err(Fault::Short(119)));
        assert_eq!(Message::decode(&vec![0; MESSAGE_BYTES_MAX + 1].into()), Err(Fault::Long(MESSAGE_BYTES_MAX + 1)));
        assert_eq!(with(0, &[0, 0, 0, 120]), Err(Fault::HeaderLength(120)));
        assert_eq!(with(4, b"output_stream_dat "), Err(Fault::MessageType));
        assert_eq!(with(36, &[0, 0, 0, 2]), Err(Fault::SchemaVersion(2)));
        assert_eq!(with(40, &[0; 8]), Err(Fault::CreatedDate));
        assert_eq!(with(48, &[0x80]), Err(Fault::Sequence));
        assert_eq!(with(116, &[255; 4]), Err(Fault::PayloadLength { announced: u32::MAX, found: 3 }));
        assert_eq!(with(80, &[0]), Err(Fault::Digest));
        assert_eq!(with(120, b"L"), Err(Fault::Digest));
        // Padding may be NULs, too, and on the other side.
        assert!(with(4 + "input_stream_data".len(), &[0; 15]).is_ok());
        assert!(with(4, &[&[0; 15][..], b"input_stream_data"].concat()).is_ok());
        // The first half of the digest in digits is as good, and nothing shorter.
        let digits = sha256(b"ls\n").as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert!(with(80, &digits.as_bytes()[..32]).is_ok());
        assert_eq!(with(80, &digits.as_bytes()[32..]), Err(Fault::Digest));
        assert_eq!(with(80, &digits.to_uppercase().as_bytes()[..32]), Err(Fault::Digest));
        assert_eq!(with(80, &digits.as_bytes()[..16]), Err(Fault::Digest));
    }
}
