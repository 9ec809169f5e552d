//! Messages as the vendor's plugin writes them, captured from it, byte for byte.

use bytes::Bytes;
use ravelin_aws::proto::channel;
use ravelin_aws::proto::message::{FIN, Message, MessageType, PayloadType, SYN};
use ravelin_aws::wire::data_channel as wire;
use std::path::Path;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/data_channel").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of hex digits as the message that it is, and the proof that we write it the same.
fn message(name: &str) -> Message {
    let digits: Vec<u8> = golden(name).into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let bytes: Bytes = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex digits"))
        .collect();
    let message = Message::decode(&bytes).unwrap_or_else(|fault| panic!("{name}: {fault}"));
    assert_eq!(message.encode(), bytes, "{name}");
    message
}

#[test]
fn what_the_plugin_writes_is_read_and_written_the_same() {
    let opening = channel::opening(&golden("opening.json")).expect("an opening");
    assert_eq!(opening.message_schema_version, "1.0");
    assert_eq!(opening.token_value, "a-token");
    assert_eq!(opening.client_version.as_deref(), Some("1.2.677.0"));
    // And its order of members is ours.
    assert_eq!(channel::encode(&opening), golden("opening.json").trim_ascii_end());

    let acknowledge = message("acknowledge.hex");
    assert_eq!((acknowledge.message_type, acknowledge.sequence), (MessageType::Acknowledge, 0));
    assert_eq!((acknowledge.flags, acknowledge.payload_type), (SYN | FIN, PayloadType::Unset));
    let content = channel::acknowledge(&acknowledge.payload).expect("an acknowledgement");
    assert_eq!((content.message_type.as_str(), content.sequence_number), ("output_stream_data", 0));
    assert_eq!(channel::encode(&content), acknowledge.payload);

    let response = message("handshake_response.hex");
    assert_eq!((response.message_type, response.sequence, response.flags), (MessageType::InputStreamData, 0, 0));
    assert_eq!(response.payload_type, PayloadType::HandshakeResponse);
    let answer = channel::handshake_response(&response.payload).expect("an answer");
    assert_eq!(answer.processed_client_actions[0].action_type, "SessionType");
    assert_eq!(answer.processed_client_actions[0].action_status, 1);

    let size = message("size.hex");
    assert_eq!((size.payload_type, size.sequence), (PayloadType::Size, 1));
    assert_eq!(channel::size(&size.payload), Ok(wire::SizeData { cols: 80, rows: 24 }));

    let input = message("input.hex");
    assert_eq!((input.payload_type, input.sequence), (PayloadType::Output, 2));
    assert_eq!(input.payload, "ls -l");
}

#[test]
fn the_halves_of_an_id_are_swapped() {
    let golden = message("input.hex");
    let bytes = golden.encode();
    assert_eq!(bytes[64..72], golden.id.as_bytes()[8..]);
    assert_eq!(bytes[72..80], golden.id.as_bytes()[..8]);
    // The plugin makes random ones: version 4 shows only when they are put right.
    assert_eq!(golden.id.get_version_num(), 4);
}
