//! A log group of CloudWatch Logs: the calls that are made to it, and the output of sessions as lines in it, a stream for
//! each session.
//!
//! A line bears the time of its session's beginning and, in milliseconds, its number: so the lines stand in order, and the
//! times of the first and the last line that are there say how many are there. After a failure or a crash the rest is
//! sent, and nothing twice. Where the service does not take that time any more, because it is too old, lines count from
//! the time of their sending.
//!
//! Sources: <https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html> and
//! `API_GetLogEvents`, as of 2026-11.

use crate::config::LogGroupConfig;
use crate::destination::Failure;
use crate::http::{self, Answer};
use crate::sign::{SigV4, sha256_hex};
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ravelin_model::Session;
use ravelin_model::ports::{Outlet, Reading};
use ravelin_model::recording::Broken;
use serde_json::{Value, json};
use std::ops::Range;
use std::time::Duration;

/// Most events of one call.
pub(crate) const CALL_EVENTS_MAX: usize = 10_000;
/// Most bytes of one call, as the service counts them.
pub(crate) const CALL_BYTES_MAX: usize = 1_048_576;
/// What each event counts beside its message.
pub(crate) const EVENT_BYTES: usize = 26;
/// Longest line of a session's output; a longer one goes on in the next event. One that is read back fits into what is
/// read of an answer.
const LINE_BYTES_MAX: usize = 8 << 10;
/// As much of a line is waited for.
const REST_BYTES_MAX: usize = 1 << 20;
/// Longest that one call may take.
const CALL_MAX: Duration = Duration::from_secs(30);

/// One event as the service takes it.
pub(crate) struct LogEvent {
    /// Milliseconds since 1970.
    pub(crate) at: i64,
    pub(crate) message: String,
}

impl LogEvent {
    pub(crate) fn bytes(&self) -> usize {
        self.message.len() + EVENT_BYTES
    }
}

/// A log group.
pub struct LogGroup {
    client: reqwest::Client,
    host: String,
    config: LogGroupConfig,
}

impl LogGroup {
    /// Prepares everything, and reaches for nothing.
    ///
    /// # Errors
    /// What of the configuration cannot be used, in words without secrets.
    pub fn new(config: &LogGroupConfig) -> Result<Self, String> {
        Self::open(config).map_err(|failure| failure.because)
    }

    pub(crate) fn open(config: &LogGroupConfig) -> Result<Self, Failure> {
        let config = LogGroupConfig { endpoint: config.endpoint.trim_end_matches('/').to_owned(), ..config.clone() };
        let client = http::client(&config.endpoint, config.ca.as_deref())?;
        Ok(Self { client, host: http::host(&config.endpoint)?, config })
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
            region: &self.config.region,
            service: "logs",
            at: &now,
            payload_sha256: &payload_sha256,
            target: Some(&target),
        };
        let authorization = signed.authorization(&self.config.access_key_id, self.config.secret_access_key.expose());
        let request = self
            .client
            .post(format!("{}/", self.config.endpoint))
            .header("authorization", authorization)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-date", now)
            .header("x-amz-content-sha256", payload_sha256)
            .header("x-amz-target", target)
            .body(body);
        http::send(request).await
    }

    pub(crate) async fn put(&self, stream: &str, events: &[LogEvent]) -> Result<Answer, Failure> {
        let events: Vec<Value> =
            events.iter().map(|event| json!({ "timestamp": event.at, "message": event.message })).collect();
        let body = json!({ "logGroupName": self.config.group, "logStreamName": stream, "logEvents": events });
        self.call("PutLogEvents", &body).await
    }

    /// Makes a stream; whether it was not there.
    pub(crate) async fn make_stream(&self, stream: &str) -> Result<bool, Failure> {
        let body = json!({ "logGroupName": self.config.group, "logStreamName": stream });
        let answer = self.call("CreateLogStream", &body).await?;
        if answer.status.is_success() {
            return Ok(true);
        }
        if answer.names("ResourceAlreadyExistsException") {
            return Ok(false);
        }
        if answer.names("ResourceNotFoundException") {
            let group = &self.config.group;
            return Err(Failure::new(format!("there is no log group {group}; make it, or name another one")));
        }
        Err(answer.refusal("the making of the log stream"))
    }

    /// The time of the first or the last event of a stream, if it has any.
    async fn edge(&self, stream: &str, first: bool) -> Result<Option<i64>, Failure> {
        let body = json!({
            "logGroupName": self.config.group, "logStreamName": stream, "limit": 1, "startFromHead": first,
        });
        let answer = self.call("GetLogEvents", &body).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal("the look at what the log stream has already"));
        }
        let said = said(&answer)?;
        Ok(said["events"].get(0).and_then(|event| event["timestamp"].as_i64()))
    }

    /// How the lines of a stream are numbered, and how many of them are there already.
    async fn place(&self, stream: &str, began: i64) -> Result<(i64, u64), Failure> {
        if self.make_stream(stream).await? {
            return Ok((began, 0));
        }
        match (self.edge(stream, true).await?, self.edge(stream, false).await?) {
            (Some(first), Some(last)) => Ok((first, last.saturating_sub(first).saturating_add(1).unsigned_abs())),
            _ => Ok((began, 0)),
        }
    }

    async fn put_lines(&self, stream: &str, began: i64, output: &mut dyn Reading) -> Result<(), Failure> {
        let (base, there) = bounded(self.place(stream, began)).await?;
        let mut sending = Sending { group: self, stream, base, there, number: 0, pending: Vec::new(), bytes: 0 };
        let mut rest: Vec<u8> = Vec::new();
        while let Some(piece) = output.next().await.map_err(|refusal| Failure::new(refusal.to_string()))? {
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                rest.extend_from_slice(part);
                if rest.ends_with(b"\n") || rest.len() >= REST_BYTES_MAX {
                    sending.line(&rest).await?;
                    rest.clear();
                }
            }
        }
        if !rest.is_empty() {
            sending.line(&rest).await?;
        }
        sending.flush().await
    }
}

/// Lines on their way into a stream.
struct Sending<'a> {
    group: &'a LogGroup,
    stream: &'a str,
    /// The time of the first line, in milliseconds since 1970.
    base: i64,
    /// Lines that were there before.
    there: u64,
    /// The number of the next line.
    number: u64,
    pending: Vec<LogEvent>,
    bytes: usize,
}

impl Sending<'_> {
    async fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(line);
        let mut text = text.trim_end_matches(['\r', '\n']);
        loop {
            let (now, later) = text.split_at(text.floor_char_boundary(LINE_BYTES_MAX));
            // The service takes no empty message.
            self.event(if now.is_empty() { " " } else { now }).await?;
            text = later;
            if text.is_empty() {
                return Ok(());
            }
        }
    }

    async fn event(&mut self, message: &str) -> Result<(), Failure> {
        let number = self.number;
        self.number += 1;
        if number < self.there {
            return Ok(());
        }
        let at = self.base.saturating_add_unsigned(number);
        let event = LogEvent { at, message: message.to_owned() };
        if self.pending.len() == CALL_EVENTS_MAX || self.bytes + event.bytes() > CALL_BYTES_MAX {
            self.flush().await?;
        }
        self.bytes += event.bytes();
        self.pending.push(event);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let answer = bounded(self.group.put(self.stream, &self.pending)).await?;
        if let Some(mut lost) = dropped(&answer, self.pending.len())? {
            let is_first = self.there == 0 && self.number == self.pending.len() as u64;
            if is_first && lost.first == (0..self.pending.len()) {
                // Too old: all of them count from now on.
                self.base = Timestamp::now().as_millisecond();
                for (number, event) in self.pending.iter_mut().enumerate() {
                    event.at = self.base.saturating_add_unsigned(number as u64);
                }
                let answer = bounded(self.group.put(self.stream, &self.pending)).await?;
                match dropped(&answer, self.pending.len())? {
                    None => lost = Dropped { first: 0..0, second: 0..0 },
                    Some(again) => lost = again,
                }
            }
            if !(lost.first.is_empty() && lost.second.is_empty()) {
                return Err(Failure::new("the service does not take the times of the lines"));
            }
        }
        self.pending.clear();
        self.bytes = 0;
        Ok(())
    }
}

async fn bounded<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| Err(Failure::new("no answer in time")))
}

#[async_trait]
impl Outlet for LogGroup {
    async fn put(&self, name: &str, of: &Session, output: &mut dyn Reading) -> Result<(), Broken> {
        let began = of.created.as_micros().div_euclid(1000);
        self.put_lines(name, began, output).await.map_err(|failure| Broken::new(failure.because))
    }
}

/// Which events of a call were not kept, at its beginning and at its end.
pub(crate) struct Dropped {
    pub(crate) first: Range<usize>,
    pub(crate) second: Range<usize>,
}

/// What an answer says of dropped events; an answer that is none of the service's is a failure.
pub(crate) fn dropped(answer: &Answer, count: usize) -> Result<Option<Dropped>, Failure> {
    if !answer.status.is_success() {
        return Err(answer.refusal("the delivery"));
    }
    let said = said(answer)?;
    let info = &said["rejectedLogEventsInfo"];
    let index = |name: &str| info[name].as_u64().map(|index| usize::try_from(index).unwrap_or(count).min(count));
    // Both ends name the first event that was kept.
    let old = index("tooOldLogEventEndIndex").max(index("expiredLogEventEndIndex")).unwrap_or(0);
    let new = index("tooNewLogEventStartIndex").unwrap_or(count).max(old);
    Ok((old > 0 || new < count).then_some(Dropped { first: 0..old, second: new..count }))
}

fn said(answer: &Answer) -> Result<Value, Failure> {
    serde_json::from_slice(&answer.body)
        .ok()
        .filter(Value::is_object)
        .ok_or_else(|| Failure::new("the answer to the delivery is none of CloudWatch Logs; check the address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use ravelin_model::Refusal;
    use reqwest::StatusCode;
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn answer(body: &str) -> Answer {
        Answer { status: StatusCode::OK, body: body.as_bytes().to_vec() }
    }

    fn ranges(body: &str) -> Option<(Range<usize>, Range<usize>)> {
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

    /// A log group of the service's, as far as it is used: streams with their events, and what it does with a call.
    #[derive(Default)]
    struct Service {
        streams: BTreeMap<String, Vec<(i64, String)>>,
        /// Puts that are taken and not acknowledged, by their number.
        silent: Vec<usize>,
        puts: usize,
        /// Times before this are dropped.
        oldest: i64,
    }

    impl Service {
        fn answer(&mut self, operation: &str, body: &Value) -> Option<(u16, Value)> {
            let stream = body["logStreamName"].as_str().expect("a stream").to_owned();
            match operation {
                "CreateLogStream" if self.streams.contains_key(&stream) => {
                    Some((400, json!({"__type": "ResourceAlreadyExistsException"})))
                }
                "CreateLogStream" => {
                    self.streams.insert(stream, Vec::new());
                    Some((200, json!({})))
                }
                "GetLogEvents" => {
                    let events = &self.streams[&stream];
                    let one = if body["startFromHead"] == true { events.first() } else { events.last() };
                    let events: Vec<Value> =
                        one.iter().map(|(at, message)| json!({"timestamp": at, "message": message})).collect();
                    Some((200, json!({ "events": events })))
                }
                _ => {
                    let sent = body["logEvents"].as_array().expect("events");
                    assert!(sent.len() <= CALL_EVENTS_MAX);
                    let old = sent.iter().filter(|event| event["timestamp"].as_i64() < Some(self.oldest)).count();
                    let kept = sent[old..].iter().map(|event| {
                        let message = event["message"].as_str().expect("a text");
                        assert!(!message.is_empty() && message.len() <= LINE_BYTES_MAX);
                        (event["timestamp"].as_i64().expect("a time"), message.to_owned())
                    });
                    self.streams.get_mut(&stream).expect("a stream").extend(kept);
                    self.puts += 1;
                    let rejected = json!({"rejectedLogEventsInfo": {"tooOldLogEventEndIndex": old}});
                    (!self.silent.contains(&self.puts)).then(|| (200, if old > 0 { rejected } else { json!({}) }))
                }
            }
        }
    }

    /// Serves one request on each connection.
    async fn serve(service: Arc<Mutex<Service>>) -> LogGroup {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.expect("a connection");
                let mut read = Vec::new();
                let (head, body) = loop {
                    socket.read_buf(&mut read).await.expect("readable");
                    let text = String::from_utf8_lossy(&read);
                    let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    if body.len() >= length.expect("a length").parse::<usize>().expect("a number") {
                        break (head.to_owned(), serde_json::from_str::<Value>(body).expect("JSON"));
                    }
                };
                let operation = head.lines().find_map(|line| line.strip_prefix("x-amz-target: Logs_20140328."));
                let answer = service.lock().expect("no panic").answer(operation.expect("an operation"), &body);
                if let Some((status, body)) = answer {
                    let body = body.to_string();
                    let head =
                        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                    socket.write_all((head + &body).as_bytes()).await.expect("writable");
                }
            }
        });
        let config = LogGroupConfig {
            endpoint,
            region: "r".to_owned(),
            group: "g".to_owned(),
            access_key_id: "AKID".to_owned(),
            secret_access_key: Secret("hush".to_owned().into()),
            ca: None,
        };
        LogGroup::open(&config).expect("usable")
    }

    struct Pieces(Vec<Vec<u8>>);

    #[async_trait]
    impl Reading for Pieces {
        async fn next(&mut self) -> Result<Option<bytes::Bytes>, Refusal> {
            Ok((!self.0.is_empty()).then(|| self.0.remove(0).into()))
        }
    }

    fn pieces(text: &str) -> Pieces {
        Pieces(text.as_bytes().chunks(4093).map(<[u8]>::to_vec).collect())
    }

    #[tokio::test]
    async fn lines_arrive_once_whatever_is_not_acknowledged() {
        let text: String =
            (0..25_000).map(|line| if line % 100 == 0 { "\n".to_owned() } else { format!("{line}\n") }).collect();
        let text = text + &"ä".repeat(LINE_BYTES_MAX) + "\nno end";
        let service = Arc::new(Mutex::new(Service { silent: vec![1, 3], ..Service::default() }));
        let group = serve(Arc::clone(&service)).await;
        let mut failures = 0;
        while group.put_lines("s", 1_000, &mut pieces(&text)).await.is_err() {
            failures += 1;
            assert!(failures < 5);
        }
        group.put_lines("s", 1_000, &mut pieces(&text)).await.expect("again changes nothing");
        let service = service.lock().expect("no panic");
        let events = &service.streams["s"];
        let times: Vec<i64> = events.iter().map(|(at, _)| *at).collect();
        assert!(times.iter().copied().eq((1_000..).take(times.len())), "numbered without a gap or a repeat");
        let there: String = events.iter().map(|(_, message)| message.trim_end_matches(' ')).collect();
        assert_eq!(there, text.replace('\n', ""));
        assert_eq!((failures, events.len()), (2, 25_000 + 2 + 1));
    }

    #[tokio::test]
    async fn lines_that_are_too_old_count_from_their_sending() {
        let service = Arc::new(Mutex::new(Service { oldest: 1_700_000_000_000, ..Service::default() }));
        let group = serve(Arc::clone(&service)).await;
        for _twice in 0..2 {
            group.put_lines("s", 1_000, &mut pieces("one\ntwo\n")).await.expect("taken");
        }
        let service = service.lock().expect("no panic");
        let messages: Vec<&str> = service.streams["s"].iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(messages, ["one", "two"]);
        assert!(service.streams["s"][0].0 > 1_700_000_000_000);
    }
}
