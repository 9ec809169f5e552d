//! The server's end of a data channel: any messages, in any order, over any number of connections, with streams that
//! say something in between. It must not panic, and must hold no more than it says.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::delivery::Epoch;
use ravelin_aws::proto::host::{Event, Host, Purpose, Said};
use ravelin_aws::proto::message::{Message, MessageType, PayloadType};
use std::time::{Duration, Instant};
use uuid::Uuid;

#[derive(Arbitrary, Debug)]
enum Step<'a> {
    Raw(&'a [u8]),
    Input { sequence: u8, payload_type: u8, payload: &'a [u8] },
    Acknowledge(u8),
    Say { stream: u32, bytes: &'a [u8] },
    Eof(u32),
    Closed(u32),
    Detach,
    Attach,
    Wait(u16),
}

fuzz_target!(|input: (bool, Vec<Step<'_>>)| {
    let (forwards, steps) = input;
    let start = Instant::now();
    let mut now = start;
    let purpose = Purpose {
        session_type: if forwards { "Port" } else { "Standard_Stream" },
        properties: serde_json::Value::Null,
        forwards,
        separate: true,
        welcome: String::new(),
    };
    let mut host = Host::new(purpose, Epoch { instant: start, unix_ms: 1 }, Uuid::from_u128(7));
    host.attach(now);
    for step in steps {
        match step {
            Step::Raw(bytes) => host.handle(&Bytes::copy_from_slice(bytes), now),
            Step::Input { sequence, payload_type, payload } => {
                let message = Message {
                    message_type: MessageType::InputStreamData,
                    created_ms: 1,
                    sequence: u64::from(sequence),
                    flags: 0,
                    id: Uuid::from_u128(1),
                    payload_type: PayloadType::from(u32::from(payload_type)),
                    payload: Bytes::copy_from_slice(payload),
                };
                host.handle(&message.encode(), now);
            }
            Step::Acknowledge(sequence) => {
                let payload = format!(
                    "{{\"AcknowledgedMessageType\":\"output_stream_data\",\"AcknowledgedMessageId\":\"x\",\
                     \"AcknowledgedMessageSequenceNumber\":{sequence},\"IsSequentialMessage\":true}}"
                );
                let message = Message {
                    message_type: MessageType::Acknowledge,
                    created_ms: 1,
                    sequence: 0,
                    flags: 3,
                    id: Uuid::from_u128(1),
                    payload_type: PayloadType::Unset,
                    payload: payload.into(),
                };
                host.handle(&message.encode(), now);
            }
            Step::Say { stream, bytes } if bytes.len() <= host.room() => {
                host.say(stream, Said::Output(Bytes::copy_from_slice(bytes)), now).expect("there is room");
            }
            Step::Say { .. } => {}
            Step::Eof(stream) => drop(host.say(stream, Said::Eof, now)),
            Step::Closed(stream) => drop(host.say(stream, Said::Closed, now)),
            Step::Detach => host.detach(),
            Step::Attach => host.attach(now),
            Step::Wait(ms) => now += Duration::from_millis(u64::from(ms)),
        }
        let mut events = 0;
        while let Some(event) = host.poll_event(now) {
            events += 1;
            assert!(events < 100_000, "{event:?}: events without end");
            if let Event::Open { stream } = event {
                let _refused = host.say(stream, Said::Unreachable, now);
            }
        }
        let mut written = 0;
        while host.poll_transmit(now).is_some() {
            written += 1;
            assert!(written < 100_000, "messages without end");
        }
    }
});
