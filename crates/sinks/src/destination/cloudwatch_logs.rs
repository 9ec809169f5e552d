//! CloudWatch Logs: events in a stream of a log group.
//!
//! A call takes 10 000 events and 1 048 576 bytes, where each event counts its message and 26 bytes; its events stand in
//! the order of their times and lie within 24 hours. The service takes no time that is more than 14 days old, older than
//! the group's retention, or 2 hours ahead, and drops such events while it answers with success. So what is older than
//! 13 days, and what the answer names as dropped, is sent with the time of its sending: the message has its own time.
//!
//! Source: <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>, as of 2026-11.

use super::{Batch, Destination, Failure};
use crate::config::LogGroupConfig;
use crate::log_group::{CALL_BYTES_MAX, CALL_EVENTS_MAX, CALL_SPAN_MAX, EVENT_BYTES, LogEvent, LogGroup, dropped};
use async_trait::async_trait;
use jiff::Timestamp;

/// Longest message that is sent; the service takes 1 MiB with what it counts for the event.
const MESSAGE_BYTES_MAX: usize = CALL_BYTES_MAX - EVENT_BYTES;
/// Times that are older than this are not sent, in milliseconds.
const AGE_MAX: i64 = 13 * 24 * 3_600_000;

pub(super) struct CloudWatchLogs {
    group: LogGroup,
    stream: String,
}

impl CloudWatchLogs {
    pub(super) fn new(group: &LogGroupConfig, stream: &str) -> Result<Self, Failure> {
        Ok(Self { group: LogGroup::open(group)?, stream: stream.to_owned() })
    }

    /// Delivers the events of one call.
    async fn deliver_call(&self, events: &mut [LogEvent]) -> Result<(), Failure> {
        let mut answer = self.group.put(&self.stream, events).await?;
        if answer.names("ResourceNotFoundException") {
            self.group.make_stream(&self.stream).await?;
            answer = self.group.put(&self.stream, events).await?;
        }
        let Some(lost) = dropped(&answer, events.len())? else { return Ok(()) };
        let now = Timestamp::now().as_millisecond();
        for place in [lost.first, lost.second] {
            let Some(again) = events.get_mut(place).filter(|again| !again.is_empty()) else { continue };
            again.iter_mut().for_each(|event| event.at = now);
            let answer = self.group.put(&self.stream, again).await?;
            if dropped(&answer, again.len())?.is_some() {
                return Err(Failure::new("the service takes neither the events' own times nor the present one"));
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Destination for CloudWatchLogs {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let now = Timestamp::now().as_millisecond();
        let mut through = None;
        let mut pending: Vec<LogEvent> = Vec::new();
        let mut last = 0;
        let (mut bytes, mut are_old) = (0, false);
        for item in batch.items {
            let own = item.entry.event.at.as_micros().div_euclid(1000);
            let is_old = own < now - AGE_MAX;
            let mut at = if is_old { now } else { own.min(now) };
            if let Some(before) = pending.last().filter(|_| is_old == are_old) {
                at = at.max(before.at);
            }
            let mut message = item.record.to_string();
            shorten(&mut message);
            let event = LogEvent { at, message };
            let is_full = pending.len() == CALL_EVENTS_MAX
                || (is_old != are_old && !pending.is_empty())
                || bytes + event.bytes() > CALL_BYTES_MAX
                || pending.first().is_some_and(|first| event.at - first.at >= CALL_SPAN_MAX);
            if is_full {
                self.deliver_call(&mut pending).await.map_err(|failure| failure.after(through))?;
                through = Some(last);
                pending.clear();
                bytes = 0;
            }
            bytes += event.bytes();
            are_old = is_old;
            pending.push(event);
            last = item.entry.event.seq;
        }
        if pending.is_empty() {
            return Ok(());
        }
        self.deliver_call(&mut pending).await.map_err(|failure| failure.after(through))
    }
}

/// Cuts a message that the service would not take. No event of ours comes near.
fn shorten(message: &mut String) {
    if message.len() > MESSAGE_BYTES_MAX {
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_never_too_long() {
        let mut long = "ä".repeat(CALL_BYTES_MAX);
        shorten(&mut long);
        assert!(long.len() <= MESSAGE_BYTES_MAX && long.len() > MESSAGE_BYTES_MAX - 2);
        let mut short = "{}".to_owned();
        shorten(&mut short);
        assert_eq!(short, "{}");
    }
}
