//! CloudWatch Logs: events in a stream of a log group.
//!
//! A call takes 10 000 events and 1 048 576 bytes, where each event counts its message and 26 bytes; its events stand in
//! the order of their times and lie within 24 hours. The service takes no time that is more than 14 days old, older than
//! the group's retention, or 2 hours ahead, and drops such events while it answers with success. So what is older than
//! 13 days, and what the answer names as dropped, is sent with the time of its sending: the message has its own time.
//!
//! Source: <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html>, as of 2026-11.

use super::{Batch, Destination, Failure};
use crate::config::{DestinationConfig, Secret};
use crate::http::{self, Answer};
use crate::sign::{SigV4, sha256_hex};
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

/// Most events of one call.
const CALL_EVENTS_MAX: usize = 10_000;
/// Most bytes of one call, as the service counts them.
const CALL_BYTES_MAX: usize = 1_048_576;
/// What each event counts beside its message.
const EVENT_BYTES: usize = 26;
/// Longest message that is sent; the service takes 1 MiB with what it counts for the event.
const MESSAGE_BYTES_MAX: usize = CALL_BYTES_MAX - EVENT_BYTES;
/// The events of one call lie this close together, in milliseconds.
const CALL_SPAN_MAX: i64 = 24 * 3_600_000;
/// Times that are older than this are not sent, in milliseconds.
const AGE_MAX: i64 = 13 * 24 * 3_600_000;

pub(super) struct CloudWatchLogs {
    client: reqwest::Client,
    endpoint: String,
    host: String,
    region: String,
    group: String,
    stream: String,
    access_key_id: String,
    secret: Secret,
}

/// One event as the service takes it.
struct LogEvent {
    seq: u64,
    /// Milliseconds since 1970.
    at: i64,
    message: String,
}

impl LogEvent {
    fn bytes(&self) -> usize {
        self.message.len() + EVENT_BYTES
    }
}

impl CloudWatchLogs {
    pub(super) fn new(config: &DestinationConfig) -> Result<Self, Failure> {
        let DestinationConfig::CloudWatchLogs { endpoint, region, group, stream, access_key_id, secret_access_key, ca } =
            config
        else {
            return Err(Failure::new("this is no configuration of CloudWatch Logs"));
        };
        Ok(Self {
            client: http::client(endpoint, ca.as_deref())?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            host: http::host(endpoint)?,
            region: region.clone(),
            group: group.clone(),
            stream: stream.clone(),
            access_key_id: access_key_id.clone(),
            secret: secret_access_key.clone(),
        })
    }

    async fn call(&self, operation: &str, body: &Value) -> Result<Answer, Failure> {
        let body = body.to_string();
        let payload_sha256 = sha256_hex(body.as_bytes());
        let now = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let target = format!("Logs_20140328.{operation}");
        let signed = SigV4 {
            method: "POST",
            host: &self.host,
            path: "/",
            region: &self.region,
            service: "logs",
            at: &now,
            payload_sha256: &payload_sha256,
            target: Some(&target),
        };
        let authorization = signed.authorization(&self.access_key_id, self.secret.expose());
        let request = self
            .client
            .post(format!("{}/", self.endpoint))
            .header("authorization", authorization)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-date", now)
            .header("x-amz-content-sha256", payload_sha256)
            .header("x-amz-target", target)
            .body(body);
        http::send(request).await
    }

    async fn put(&self, events: &[LogEvent]) -> Result<Answer, Failure> {
        let events: Vec<Value> =
            events.iter().map(|event| json!({ "timestamp": event.at, "message": event.message })).collect();
        let body = json!({ "logGroupName": self.group, "logStreamName": self.stream, "logEvents": events });
        self.call("PutLogEvents", &body).await
    }

    /// Delivers the events of one call.
    async fn deliver_call(&self, events: &mut [LogEvent]) -> Result<(), Failure> {
        let mut answer = self.put(events).await?;
        if answer.names("ResourceNotFoundException") {
            self.make_stream().await?;
            answer = self.put(events).await?;
        }
        let Some(dropped) = dropped(&answer, events.len())? else { return Ok(()) };
        let now = Timestamp::now().as_millisecond();
        for place in [dropped.first, dropped.second] {
            let Some(again) = events.get_mut(place).filter(|again| !again.is_empty()) else { continue };
            again.iter_mut().for_each(|event| event.at = now);
            let answer = self.put(again).await?;
            if self::dropped(&answer, again.len())?.is_some() {
                return Err(Failure::new("the service takes neither the events' own times nor the present one"));
            }
        }
        Ok(())
    }

    async fn make_stream(&self) -> Result<(), Failure> {
        let body = json!({ "logGroupName": self.group, "logStreamName": self.stream });
        let answer = self.call("CreateLogStream", &body).await?;
        if answer.status.is_success() || answer.names("ResourceAlreadyExistsException") {
            return Ok(());
        }
        if answer.names("ResourceNotFoundException") {
            let group = &self.group;
            return Err(Failure::new(format!("there is no log group {group}; make it, or name another one")));
        }
        Err(answer.refusal("the making of the log stream"))
    }
}

/// Which events of a call were not kept, at its beginning and at its end.
struct Dropped {
    first: std::ops::Range<usize>,
    second: std::ops::Range<usize>,
}

/// What an answer says of dropped events; an answer that is none of the service's is a failure.
fn dropped(answer: &Answer, count: usize) -> Result<Option<Dropped>, Failure> {
    if !answer.status.is_success() {
        return Err(answer.refusal("the delivery"));
    }
    let said: Value = serde_json::from_slice(&answer.body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Failure::new("the answer to the delivery is none of CloudWatch Logs; check the address"))?;
    let info = &said["rejectedLogEventsInfo"];
    let index = |name: &str| info[name].as_u64().map(|index| usize::try_from(index).unwrap_or(count).min(count));
    // Both ends name the first event that was kept.
    let old = index("tooOldLogEventEndIndex").max(index("expiredLogEventEndIndex")).unwrap_or(0);
    let new = index("tooNewLogEventStartIndex").unwrap_or(count).max(old);
    Ok((old > 0 || new < count).then_some(Dropped { first: 0..old, second: new..count }))
}

#[async_trait]
impl Destination for CloudWatchLogs {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let now = Timestamp::now().as_millisecond();
        let mut through = None;
        let mut pending: Vec<LogEvent> = Vec::new();
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
            let event = LogEvent { seq: item.entry.event.seq, at, message };
            let is_full = pending.len() == CALL_EVENTS_MAX
                || (is_old != are_old && !pending.is_empty())
                || bytes + event.bytes() > CALL_BYTES_MAX
                || pending.first().is_some_and(|first| event.at - first.at >= CALL_SPAN_MAX);
            if is_full {
                self.deliver_call(&mut pending).await.map_err(|failure| failure.after(through))?;
                through = pending.last().map(|event| event.seq);
                pending.clear();
                bytes = 0;
            }
            bytes += event.bytes();
            are_old = is_old;
            pending.push(event);
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
    use reqwest::StatusCode;

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, body: body.as_bytes().to_vec() }
    }

    fn ranges(body: &str) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
        dropped(&answer(body), 10).expect("an answer").map(|dropped| (dropped.first, dropped.second))
    }

    #[test]
    fn what_was_dropped_is_read_from_the_answer() {
        assert_eq!(ranges("{}"), None);
        assert_eq!(ranges(r#"{"nextSequenceToken":"1"}"#), None);
        assert_eq!(ranges(r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":4}}"#), Some((0..4, 10..10)));
        let both = r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":2,"expiredLogEventEndIndex":5,"tooNewLogEventStartIndex":8}}"#;
        assert_eq!(ranges(both), Some((0..5, 8..10)));
        assert_eq!(ranges(r#"{"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":99}}"#), Some((0..10, 10..10)));
        assert!(dropped(&answer("<html>"), 1).is_err() && dropped(&answer("[]"), 1).is_err());
        let refused = Answer { status: StatusCode::BAD_REQUEST, body: Vec::new() };
        assert!(dropped(&refused, 1).is_err());
    }

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
