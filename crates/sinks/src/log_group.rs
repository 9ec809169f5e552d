//! A log group of CloudWatch Logs: the calls that are made to it, and the output of sessions as lines in it, a stream for
//! each session.
//!
//! A line bears a time of its own: the time of its session's beginning and, in milliseconds, its number; or, where lines
//! are sent as they come, the time at which it was shown, and at least a millisecond more than the line before. So the
//! lines stand in order, the same recording always gives the same times, and the time of the last line that is there says
//! how far a stream is. After a failure or a crash the rest is sent, and nothing twice. Where the service takes none of
//! the first lines because they are too old, all count from the time of their sending. What it finds too old later, or
//! has let go since, is older than the group keeps anything; it stays in the recording alone.
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
use ravelin_model::recording::{Broken, LogPlace};
use serde_json::{Value, json};
use std::ops::Range;
use std::time::{Duration, Instant};

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
/// The events of one call lie this close together, in milliseconds.
pub(crate) const CALL_SPAN_MAX: i64 = 24 * 3_600_000;
/// No service finds lines too old that are younger, in milliseconds: the shortest time that a group keeps them is a day.
const OLD_MIN: i64 = 12 * 3_600_000;
/// Longest that a line waits for others while a session goes on.
const LINGER: Duration = Duration::from_secs(1);
/// The stream that is made to see whether one can be.
const PROBE: &str = ".probe";
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
    account: String,
}

impl LogGroup {
    /// Prepares everything, and reaches for nothing. `account` is what the ARNs in events name.
    ///
    /// # Errors
    /// What of the configuration cannot be used, in words without secrets.
    pub fn new(config: &LogGroupConfig, account: &str) -> Result<Self, String> {
        let opened = Self::open(config).map_err(|failure| failure.because)?;
        Ok(Self { account: account.to_owned(), ..opened })
    }

    pub(crate) fn open(config: &LogGroupConfig) -> Result<Self, Failure> {
        let config = LogGroupConfig { endpoint: config.endpoint.trim_end_matches('/').to_owned(), ..config.clone() };
        let client = http::client(&config.endpoint, config.ca.as_deref())?;
        Ok(Self { client, host: http::host(&config.endpoint)?, config, account: String::new() })
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

    /// The first or the last event of a stream, if it has any.
    async fn edge(&self, stream: &str, first: bool) -> Result<Option<LogEvent>, Failure> {
        let body = json!({
            "logGroupName": self.config.group, "logStreamName": stream, "limit": 1, "startFromHead": first,
        });
        let answer = self.call("GetLogEvents", &body).await?;
        if !answer.status.is_success() {
            return Err(answer.refusal("the look at what the log stream has already"));
        }
        let said = said(&answer)?;
        Ok(said["events"].get(0).and_then(|event| {
            let message = event["message"].as_str().unwrap_or_default().to_owned();
            Some(LogEvent { at: event["timestamp"].as_i64()?, message })
        }))
    }

    /// What a stream has, and whether it was made for that.
    async fn there(&self, stream: &str) -> Result<(Option<There>, bool), Failure> {
        if self.make_stream(stream).await? {
            return Ok((None, true));
        }
        let edges = self.edge(stream, true).await?.zip(self.edge(stream, false).await?);
        let there =
            edges.map(|(first, last)| There { own: dressed_at(&first.message), first: first.at, last: last.at });
        Ok((there, false))
    }

    async fn put_lines(&self, stream: &str, form: &Form<'_>, output: &mut dyn Reading) -> Result<(), Failure> {
        let (there, is_new) = bounded(self.there(stream)).await?;
        let mut sending = Sending {
            group: self,
            stream,
            form,
            there,
            // An old stream without a line may have had some: a session can be silent for longer than a group keeps
            // them. One that is written once has not.
            may_shift: there.is_none() && (is_new || !form.streams),
            shift: None,
            before: i64::MIN,
            pending: Vec::new(),
            bytes: 0,
            since: Instant::now(),
        };
        let mut rest: Vec<u8> = Vec::new();
        loop {
            let piece = {
                let mut next = std::pin::pin!(output.next());
                match tokio::time::timeout(LINGER, next.as_mut()).await {
                    Ok(piece) => piece,
                    Err(_nothing_comes) => {
                        sending.flush().await?;
                        next.await
                    }
                }
            };
            let Some(piece) = piece.map_err(|refusal| Failure::new(refusal.to_string()))? else { break };
            for part in piece.split_inclusive(|byte| *byte == b'\n') {
                rest.extend_from_slice(part);
                if rest.ends_with(b"\n") || rest.len() >= REST_BYTES_MAX {
                    sending.line(&rest).await?;
                    rest.clear();
                }
            }
            if sending.form.streams && sending.since.elapsed() >= LINGER {
                sending.flush().await?;
            }
        }
        if !rest.is_empty() {
            sending.line(&rest).await?;
        }
        sending.flush().await
    }
}

/// What becomes of a session's lines.
struct Form<'a> {
    /// Milliseconds since 1970 at which its first line is dated, where lines have no times of their own.
    began: i64,
    /// Whether they have: each is then a line of JSON with its time and its text, and becomes an event as the vendor's
    /// agent writes it.
    streams: bool,
    /// What of such an event is the same in all of them.
    head: &'a Value,
}

/// What a stream has already.
#[derive(Clone, Copy)]
struct There {
    /// When its first line was shown, if the line says so.
    own: Option<i64>,
    /// The times of its first and its last line, in milliseconds since 1970.
    first: i64,
    last: i64,
}

/// Lines on their way into a stream.
struct Sending<'a> {
    group: &'a LogGroup,
    stream: &'a str,
    form: &'a Form<'a>,
    there: Option<There>,
    /// Whether the lines may still be dated anew.
    may_shift: bool,
    /// By how much the lines are dated later than they are, once the first of them is known.
    shift: Option<i64>,
    /// The time of the line before.
    before: i64,
    pending: Vec<LogEvent>,
    bytes: usize,
    /// When the last call was made.
    since: Instant,
}

impl Sending<'_> {
    async fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        if self.form.streams {
            let read: Result<(i64, String), _> = serde_json::from_slice(line);
            let (at, text) = read.map_err(|_| Failure::new("the recording gives something else than lines"))?;
            return self.event(at, &self.dressed(at, &text)).await;
        }
        let text = String::from_utf8_lossy(line);
        let mut text = text.trim_end_matches(['\r', '\n']);
        loop {
            let (now, later) = text.split_at(text.floor_char_boundary(LINE_BYTES_MAX));
            // The service takes no empty message.
            self.event(self.form.began, if now.is_empty() { " " } else { now }).await?;
            text = later;
            if text.is_empty() {
                return Ok(());
            }
        }
    }

    /// A line as the vendor's agent sends it.
    fn dressed(&self, at: i64, text: &str) -> String {
        let mut event = self.form.head.clone();
        let time = Timestamp::from_millisecond(at).unwrap_or(Timestamp::UNIX_EPOCH);
        event["eventTime"] = json!(time.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string());
        event["sessionData"] = json!([text]);
        event.to_string()
    }

    /// Takes a line that is dated then, or later: no two have the same time.
    async fn event(&mut self, own: i64, message: &str) -> Result<(), Failure> {
        self.before = own.max(self.before.saturating_add(1));
        if let (None, Some(there)) = (self.shift, self.there) {
            if there.own.is_some_and(|first| own < first) {
                // It is not there any more.
                return Ok(());
            }
            // Within less than that the group has only let go of what came before.
            let later = there.first.saturating_sub(self.before);
            self.shift = Some(if later < OLD_MIN { 0 } else { later });
        }
        let at = self.before.saturating_add(*self.shift.get_or_insert(0));
        if self.there.is_some_and(|there| at <= there.last) {
            return Ok(());
        }
        let event = LogEvent { at, message: message.to_owned() };
        let is_full = self.pending.len() == CALL_EVENTS_MAX
            || self.bytes + event.bytes() > CALL_BYTES_MAX
            || self.pending.first().is_some_and(|first| event.at - first.at >= CALL_SPAN_MAX);
        if is_full {
            self.flush().await?;
        }
        self.bytes += event.bytes();
        self.pending.push(event);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.since = Instant::now();
        if self.pending.is_empty() {
            return Ok(());
        }
        let count = self.pending.len();
        let answer = bounded(self.group.put(self.stream, &self.pending)).await?;
        let mut lost = dropped(&answer, count)?;
        if lost.as_ref().is_some_and(|lost| lost.first == (0..count)) && self.may_shift {
            // Too old: all of them count from now on.
            let first = self.pending.first().map_or(0, |first| first.at);
            let later = Timestamp::now().as_millisecond().saturating_sub(first);
            self.pending.iter_mut().for_each(|event| event.at = event.at.saturating_add(later));
            self.shift = Some(self.shift.unwrap_or_default().saturating_add(later));
            let answer = bounded(self.group.put(self.stream, &self.pending)).await?;
            lost = dropped(&answer, count)?;
        }
        if let Some(lost) = lost {
            if lost.second.start < count {
                return Err(Failure::new("the service does not take the times of the lines: they are too new"));
            }
            tracing::warn!(
                group = self.group.config.group,
                stream = self.stream,
                lines = lost.first.end,
                "lines are older than the log group keeps anything; they are in the recording alone"
            );
        }
        self.may_shift = false;
        self.pending.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// The time that a line of the vendor's form bears, in milliseconds since 1970.
fn dressed_at(message: &str) -> Option<i64> {
    let event: Value = serde_json::from_str(message).ok()?;
    event["eventTime"].as_str()?.parse().ok().map(Timestamp::as_millisecond)
}

async fn bounded<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(CALL_MAX, call).await.unwrap_or_else(|_| Err(Failure::new("no answer in time")))
}

#[async_trait]
impl Outlet for LogGroup {
    async fn put(&self, place: &LogPlace, of: &Session, output: &mut dyn Reading) -> Result<(), Broken> {
        let draft = &of.draft;
        // Source: `CloudWatchMessage` and `buildEventInfo` of
        // <https://github.com/aws/amazon-ssm-agent/blob/mainline/agent/agentlogstocloudwatch/cloudwatchlogspublisher/cloudwatchlogsservice.go>,
        // read 2026-11.
        let head = json!({
            "eventVersion": "1.0",
            "eventTime": "",
            "awsRegion": self.config.region,
            "target": { "id": draft.target.aliases.get("aws").cloned().unwrap_or_else(|| format!("mi-{}", draft.target.id.hex())) },
            "userIdentity": { "arn": format!("arn:aws:iam::{}:user/{}", self.account, draft.principal) },
            "runAsUser": draft.login.as_ref().map(ToString::to_string),
            "sessionId": draft.id.as_str(),
            "sessionData": [],
        });
        let form = Form { began: of.created.as_micros().div_euclid(1000), streams: place.streams, head: &head };
        let put = self.put_lines(&place.name(&draft.id), &form, output).await;
        put.map_err(|failure| Broken::new(failure.because))
    }

    fn destination(&self) -> String {
        format!("{} at {}", self.config.group, self.config.endpoint)
    }

    async fn probe(&self) -> Result<(), Broken> {
        // The three calls that it takes, so that no right is missing later.
        let probe = async {
            self.make_stream(PROBE).await?;
            let event = LogEvent { at: Timestamp::now().as_millisecond(), message: "ravelin check".to_owned() };
            if dropped(&self.put(PROBE, &[event]).await?, 1)?.is_some() {
                return Err(Failure::new("the service does not take the time of this machine's clock"));
            }
            self.edge(PROBE, false).await
        };
        bounded(probe).await.map(|_last| ()).map_err(|failure| Broken::new(failure.because))
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
        .ok_or_else(|| answer.refusal("the delivery, by something that is not CloudWatch Logs,"))
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
        Answer { status: StatusCode::OK, content_type: String::new(), body: body.as_bytes().to_vec() }
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
        let refused = Answer { status: StatusCode::BAD_REQUEST, ..answer("") };
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
                    let events: Vec<_> = self.streams[&stream].iter().filter(|(at, _)| *at >= self.oldest).collect();
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

    async fn put(group: &LogGroup, streams: bool, text: &str) -> Result<(), Failure> {
        let head = json!({"eventVersion": "1.0"});
        group.put_lines("s", &Form { began: 1_000, streams, head: &head }, &mut pieces(text)).await
    }

    #[tokio::test]
    async fn lines_with_times_of_their_own_arrive_once_as_the_vendors_events() {
        let service = Arc::new(Mutex::new(Service { silent: vec![2], ..Service::default() }));
        let group = serve(Arc::clone(&service)).await;
        // Two at the same moment, one in the next millisecond, one later than a call may span.
        let text = "[5000,\"a\"]\n[5000,\"\"]\n[5001,\"c\"]\n[99999999,\"d\"]\n";
        put(&group, true, &text[..21]).await.expect("what there is so far");
        put(&group, true, text).await.expect_err("it was not acknowledged");
        put(&group, true, text).await.expect("the rest");
        let service = service.lock().expect("no panic");
        let events: Vec<(i64, Value)> =
            service.streams["s"].iter().map(|(at, text)| (*at, serde_json::from_str(text).expect("JSON"))).collect();
        let shown: Vec<(i64, &Value)> = events.iter().map(|(at, event)| (*at, &event["sessionData"][0])).collect();
        assert_eq!(shown, [(5_000, &json!("a")), (5_001, &json!("")), (5_002, &json!("c")), (99_999_999, &json!("d"))]);
        assert_eq!(events[2].1["eventTime"], "1970-01-01T00:00:05.001Z");
        assert_eq!(events[0].1["eventVersion"], "1.0");
    }

    #[tokio::test]
    async fn lines_arrive_once_whatever_is_not_acknowledged() {
        let text: String =
            (0..25_000).map(|line| if line % 100 == 0 { "\n".to_owned() } else { format!("{line}\n") }).collect();
        let text = text + &"ä".repeat(LINE_BYTES_MAX) + "\nno end";
        let service = Arc::new(Mutex::new(Service { silent: vec![1, 3], ..Service::default() }));
        let group = serve(Arc::clone(&service)).await;
        let mut failures = 0;
        while put(&group, false, &text).await.is_err() {
            failures += 1;
            assert!(failures < 5);
        }
        put(&group, false, &text).await.expect("again changes nothing");
        let service = service.lock().expect("no panic");
        let events = &service.streams["s"];
        let times: Vec<i64> = events.iter().map(|(at, _)| *at).collect();
        assert!(times.iter().copied().eq((1_000..).take(times.len())), "numbered without a gap or a repeat");
        let there: String = events.iter().map(|(_, message)| message.trim_end_matches(' ')).collect();
        assert_eq!(there, text.replace('\n', ""));
        assert_eq!((failures, events.len()), (2, 25_000 + 2 + 1));
    }

    #[tokio::test]
    async fn what_a_group_has_let_go_or_takes_no_more_is_left_out_and_nothing_comes_twice() {
        let day = 24 * 3_600_000;
        let line = |at: i64, text: &str| format!("[{at},\"{text}\"]\n");
        let began = 20_000 * day;
        let service = Arc::new(Mutex::new(Service::default()));
        let group = serve(Arc::clone(&service)).await;
        let first = line(began, "a") + &line(began, "b") + &line(began, "c") + &line(began + day, "d");
        put(&group, true, &first).await.expect("what there is so far");
        // The first two lines are let go, later all that there were; the group was away, too.
        let mut text = first + &line(began + day, "e");
        service.lock().expect("no panic").oldest = began + 2;
        put(&group, true, &text).await.expect("the next");
        text += &(line(began + day + 2, "f") + &line(began + 2 * day, "g"));
        service.lock().expect("no panic").oldest = began + day + 3;
        put(&group, true, &text).await.expect("what is not too old");
        put(&group, true, &text).await.expect("again changes nothing");
        service.lock().expect("no panic").oldest = began + 3 * day;
        text += &line(began + 3 * day, "h");
        put(&group, true, &text).await.expect("the rest, into what looks empty");
        let service = service.lock().expect("no panic");
        let events = service.streams["s"].iter().map(|(at, message)| {
            let event: Value = serde_json::from_str(message).expect("JSON");
            (*at, event["sessionData"][0].as_str().expect("a text").to_owned())
        });
        let shown: Vec<(i64, String)> = events.collect();
        let all = [(began, "a"), (began + 1, "b"), (began + 2, "c"), (began + day, "d"), (began + day + 1, "e")];
        let later = [(began + 2 * day, "g"), (began + 3 * day, "h")];
        let expected: Vec<(i64, String)> =
            all.iter().chain(&later).map(|(at, text)| (*at, (*text).to_owned())).collect();
        assert_eq!(shown, expected);
    }

    #[tokio::test]
    async fn lines_that_are_too_old_count_from_their_sending() {
        let service = Arc::new(Mutex::new(Service { oldest: 1_700_000_000_000, ..Service::default() }));
        let group = serve(Arc::clone(&service)).await;
        for _twice in 0..2 {
            put(&group, false, "one\ntwo\n").await.expect("taken");
        }
        let service = service.lock().expect("no panic");
        let messages: Vec<&str> = service.streams["s"].iter().map(|(_, message)| message.as_str()).collect();
        assert_eq!(messages, ["one", "two"]);
        assert!(service.streams["s"][0].0 > 1_700_000_000_000);
    }
}
