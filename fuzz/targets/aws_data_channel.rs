//! The data channel from the wrong side: messages, payloads and the order of delivery, at either end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ravelin_aws::proto::channel;
use ravelin_aws::proto::delivery::{Delivery, End, Epoch, Limits};
use ravelin_aws::proto::message::Message;
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits {
    unacked_bytes_max: 1000,
    unacked_messages_max: 8,
    ahead_bytes_max: 1000,
    ahead_messages_max: 8,
    waiting_bytes_max: 1000,
    waiting_bytes_max_when_blocked: 16 * 1024,
};

fuzz_target!(|data: &[u8]| {
    let bytes = bytes::Bytes::copy_from_slice(data);
    if let Ok(message) = Message::decode(&bytes) {
        assert_eq!(Message::decode(&message.encode()), Ok(message.clone()));
        let payload = &message.payload;
        let _readable = (
            channel::acknowledge(payload).is_ok(),
            channel::channel_closed(payload).is_ok(),
            channel::size(payload).is_ok(),
            channel::Flag::decode(payload).is_ok(),
            channel::exit_code(payload).is_ok(),
        );
    }
    // Pieces of the input as messages with right digests, and as they are.
    let instant = Instant::now();
    for end in [End::Client, End::Server] {
        let mut machine = Delivery::new(end, LIMITS, Epoch { instant, unix_ms: 1 }, uuid::Uuid::nil());
        let mut now = instant;
        machine.attach(now);
        for piece in data.chunks(160) {
            let _ignored = machine.handle(&bytes::Bytes::copy_from_slice(piece), now);
            machine.handle_pong(piece, now);
            if let [kind, sequence, payload_type, payload @ ..] = piece {
                use ravelin_aws::proto::message::MessageType as T;
                let kinds = [T::InputStreamData, T::OutputStreamData, T::Acknowledge, T::ChannelClosed, T::PausePublication];
                let message = Message {
                    message_type: kinds[usize::from(*kind) % kinds.len()],
                    created_ms: 1,
                    sequence: u64::from(*sequence % 20),
                    flags: 0,
                    id: uuid::Uuid::nil(),
                    payload_type: u32::from(*payload_type).into(),
                    payload: bytes::Bytes::copy_from_slice(payload),
                };
                let _ignored = machine.handle(&message.encode(), now);
                let _full = machine.send(u32::from(*payload_type).into(), message.payload.clone(), now);
            }
            while machine.poll_transmit(now).is_some() {}
            if data.len() % 3 == 0 {
                while machine.poll_event().is_some() {}
            }
            now += Duration::from_millis(100);
        }
    }
});
