//! The contract of every destination, through the real task that feeds it: whatever the far end does, nothing is lost,
//! and what comes twice bears the same number.
//!
//! A far end here is a server of our own that takes, is slow, is down, answers garbage, is full, or hangs up in the midst
//! of a batch. What it has acknowledged is what counts.

use async_trait::async_trait;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::ports::{EntryPage, Ledger, Sinks, Store};
use ravelin_model::session::Actor;
use ravelin_model::sink::SinkStart;
use ravelin_model::{Refusal, SessionId, Time};
use ravelin_sinks::config::{DestinationConfig, LogGroupConfig, Secret, SyslogTransport};
use ravelin_sinks::{Names, Schema, Shipping, SinkConfig};
use ravelin_store::SqliteStore;
use secrecy::SecretString;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};
use tokio::task::AbortHandle;

const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "gave up waiting: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn record(store: &SqliteStore, count: u64) {
    for number in 0..count {
        let facts = BTreeMap::from([
            ("claimed".to_owned(), format!("somebody {number}\u{1b}[2J\nx")),
            ("client_address".to_owned(), "192.0.2.9:50022".to_owned()),
        ]);
        let deed = Deed { kind: AuditKind::LoginRefused, actor: Actor::System, session: None, facts };
        store.record(deed).await.expect("a deed is written");
    }
}

fn sink(destination: DestinationConfig) -> SinkConfig {
    let mut config = SinkConfig::new("far", destination);
    config.schema = Schema::Ravelin;
    config.batch_events = 7;
    config.linger = Duration::ZERO;
    config.timeout = Duration::from_secs(2);
    config
}

async fn start(store: &Arc<SqliteStore>, config: &SinkConfig) -> Arc<Shipping> {
    let ledger: Arc<dyn Ledger> = Arc::<SqliteStore>::clone(store);
    Shipping::start(ledger, vec![config.clone()], Names::default()).await.expect("the ledger answers")
}

fn behind(shipping: &Shipping) -> u64 {
    shipping.statuses()[0].behind
}

/// Waits until the first sink has everything that is in the store by now.
async fn caught_up(what: &str, store: &SqliteStore, shipping: &Shipping) {
    let newest = store.events(0, 1).await.expect("the store answers").newest;
    eventually(what, || shipping.statuses()[0].position >= newest).await;
}

/// The numbers that arrived, from lines of our own form.
fn numbers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<u64> {
    lines.map(number).collect()
}

fn number(line: &str) -> u64 {
    let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    event["seq"].as_u64().expect("a number")
}

fn is_complete(numbers: &[u64], newest: u64) -> bool {
    numbers.iter().copied().collect::<BTreeSet<_>>() == (1..=newest).collect()
}

fn secret(text: &str) -> Secret {
    Secret(SecretString::from(text.to_owned()))
}

/// What an HTTP far end does with the next requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Takes,
    Slow,
    /// Reads the request and never answers.
    Stalls,
    /// Out of service, for now.
    Full,
    /// Its disk is full.
    NoSpace,
    /// A quota is used up.
    Quota,
    /// Takes small requests only.
    TakesLittle,
    /// Sends to somewhere else.
    SendsAway,
    Garbage,
    /// Something before it answers with a page for people, and with success.
    Page,
    /// Takes what goes to this path only; nothing is there elsewhere.
    TakesOnly(&'static str),
    /// Takes all but what goes to this path.
    FailsFor(&'static str),
    /// Takes it, and says so with this body.
    Says(&'static str),
    /// Answers, and never comes to the end of its answer.
    Endless,
    /// Reads the request and hangs up without an answer.
    HangsUp,
    /// Takes it, and hangs up before it says so.
    TakesSilently,
}

/// A request that was taken.
struct Taken {
    path: String,
    headers: Vec<(String, String)>,
    /// The body as it came out of its compression.
    body: String,
}

#[derive(Clone)]
struct HttpEnd {
    url: String,
    mood: Arc<Mutex<Mood>>,
    taken: Arc<Mutex<Vec<Taken>>>,
    asked: Arc<Mutex<u64>>,
    listening: Arc<Mutex<Option<AbortHandle>>>,
}

/// As much as a far end takes that takes little, in bytes: a few events, and not seven.
const LITTLE_BYTES: usize = 3_000;

impl HttpEnd {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let mood = Arc::new(Mutex::new(Mood::Takes));
        let end = Self { url, mood, taken: Arc::default(), asked: Arc::default(), listening: Arc::default() };
        end.listen(listener);
        end
    }

    fn listen(&self, listener: TcpListener) {
        let server = self.clone();
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        *self.listening.lock().expect("not poisoned") = Some(listening.abort_handle());
    }

    /// Nobody listens any more, and what is connected is hung up on.
    fn goes_down(&self) {
        self.is(Mood::HangsUp);
        if let Some(listening) = self.listening.lock().expect("not poisoned").take() {
            listening.abort();
        }
    }

    /// It listens again where it was.
    async fn comes_back(&self) {
        let address = self.url.trim_start_matches("http://");
        let begun = Instant::now();
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.is(Mood::Takes);
        self.listen(listener);
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().expect("not poisoned") = mood;
    }

    fn asked(&self) -> u64 {
        *self.asked.lock().expect("not poisoned")
    }

    async fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = Vec::new();
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).await.ok()? == 0 {
                    return None;
                }
                if line == "\r\n" {
                    break;
                }
                head.push(line.trim_end().to_owned());
            }
            let headers: Vec<(String, String)> = head[1..]
                .iter()
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
                .collect();
            let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            let length: usize = header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            let path = head[0].split(' ').nth(1)?.to_owned();
            let mood = *self.mood.lock().expect("not poisoned");
            *self.asked.lock().expect("not poisoned") += 1;
            let text = if header("content-encoding").as_deref() == Some("gzip") || path.ends_with(".gz") {
                let mut text = String::new();
                GzDecoder::new(&body[..]).read_to_string(&mut text).expect("it is compressed");
                text
            } else {
                String::from_utf8(body).expect("text")
            };
            if path.ends_with("/token") {
                let said = r#"{"access_token":"t","expires_in":3600}"#;
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{said}", said.len());
                stream.write_all(answer.as_bytes()).await.ok()?;
                continue;
            }
            let take = || {
                let taken = Taken { path: path.clone(), headers: headers.clone(), body: text.clone() };
                self.taken.lock().expect("not poisoned").push(taken);
            };
            let good = match path.as_str() {
                path if path.contains("/dataCollectionRules/") => "204 No Content",
                path if path.contains("comp=appendblock") => "201 Created",
                _ => "200 OK",
            };
            let answer = match mood {
                Mood::Takes => {
                    take();
                    format!("HTTP/1.1 {good}\r\n")
                }
                Mood::Slow => {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    take();
                    format!("HTTP/1.1 {good}\r\n")
                }
                Mood::Stalls => {
                    tokio::time::sleep(PATIENCE).await;
                    return None;
                }
                Mood::Full => "HTTP/1.1 503 Service Unavailable\r\n".to_owned(),
                Mood::NoSpace => "HTTP/1.1 507 Insufficient Storage\r\n".to_owned(),
                Mood::Quota => {
                    let said = "QuotaExceeded\u{1b}[2J";
                    let answer = format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\n\r\n{said}", said.len());
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    continue;
                }
                Mood::TakesLittle if text.len() > LITTLE_BYTES => "HTTP/1.1 413 Content Too Large\r\n".to_owned(),
                Mood::TakesLittle => {
                    take();
                    format!("HTTP/1.1 {good}\r\n")
                }
                Mood::SendsAway => "HTTP/1.1 307 Temporary Redirect\r\nlocation: /elsewhere\r\n".to_owned(),
                Mood::Page => {
                    let said = "<!doctype html><title>Please log in</title>";
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{said}",
                        said.len()
                    );
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    continue;
                }
                Mood::TakesOnly(only) if path != only => "HTTP/1.1 404 Not Found\r\n".to_owned(),
                Mood::FailsFor(out) if path == out => "HTTP/1.1 503 Service Unavailable\r\n".to_owned(),
                Mood::TakesOnly(_) | Mood::FailsFor(_) => {
                    take();
                    format!("HTTP/1.1 {good}\r\n")
                }
                Mood::Says(said) => {
                    take();
                    let answer = format!("HTTP/1.1 {good}\r\ncontent-length: {}\r\n\r\n{said}", said.len());
                    stream.write_all(answer.as_bytes()).await.ok()?;
                    continue;
                }
                Mood::Endless => {
                    stream.write_all(b"HTTP/1.1 500 Internal Server Error\r\n\r\n").await.ok()?;
                    loop {
                        stream.write_all(&[b'x'; 4096]).await.ok()?;
                    }
                }
                Mood::Garbage => "\u{1}\u{2}garbage\r\n".to_owned(),
                Mood::HangsUp => return None,
                Mood::TakesSilently => {
                    take();
                    return None;
                }
            };
            let rest = match header("x-amz-target") {
                // A call of an AWS service in JSON has an answer in JSON.
                Some(_) => "content-length: 2\r\n\r\n{}",
                None if good.starts_with("204") && answer.contains("204") => "\r\n",
                None => "content-length: 0\r\n\r\n",
            };
            stream.write_all(format!("{answer}{rest}").as_bytes()).await.ok()?;
        }
    }

    /// The numbers that arrived, whatever the form.
    fn numbers(&self) -> Vec<u64> {
        let mut numbers = Vec::new();
        for Taken { path, body, .. } in self.taken.lock().expect("not poisoned").iter() {
            if path.contains("comp=appendblock") || path.ends_with(".jsonl.gz") {
                numbers.extend(self::numbers(body.lines()));
                continue;
            }
            if path == "/v1/traces" {
                let _spans: ExportTraceServiceRequest = serde_json::from_str(body).expect("the protocol's own form");
                continue;
            }
            if path == "/v1/logs" {
                let logs: ExportLogsServiceRequest = serde_json::from_str(body).expect("the protocol's own form");
                let scopes = logs.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
                for record in scopes.flat_map(|scope| &scope.log_records) {
                    let Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) = &record.body else {
                        panic!("{record:?} has no text");
                    };
                    numbers.push(number(text));
                }
                continue;
            }
            let body: Value = serde_json::from_str(body).expect("JSON");
            if let Some(events) = body["logEvents"].as_array() {
                assert!(events.is_sorted_by_key(|event| event["timestamp"].as_u64()), "in the order of their times");
                numbers.extend(self::numbers(events.iter().map(|event| event["message"].as_str().expect("a text"))));
            } else if let Some(rows) = body.as_array() {
                numbers.extend(self::numbers(rows.iter().map(|row| row["Message"].as_str().expect("a text"))));
            } else {
                let events = body["events"].as_array().expect("events");
                numbers.extend(events.iter().map(|event| event["seq"].as_u64().expect("a number")));
            }
        }
        numbers
    }
}

/// The far end goes through all its moods while the record grows; then it recovers, and has everything.
async fn http_contract(destination: impl Fn(&str) -> DestinationConfig) {
    let end = HttpEnd::start().await;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let config = sink(destination(&end.url));
    let shipping = start(&store, &config).await;
    record(&store, 20).await;
    caught_up("the first are there", &store, &shipping).await;
    for (mood, shown) in [
        (Mood::Full, Some("503")),
        (Mood::NoSpace, Some("507")),
        (Mood::Quota, Some("403 Forbidden: QuotaExceeded")),
        (Mood::SendsAway, Some("307")),
        (Mood::Garbage, None),
        (Mood::Page, Some("200 OK: <!doctype html>")),
        (Mood::Endless, Some("500 Internal Server Error: xxx")),
        (Mood::HangsUp, None),
        (Mood::Stalls, Some("no end within")),
        (Mood::TakesSilently, None),
        (Mood::Slow, None),
    ] {
        // To a webhook every success is one.
        if mood == Mood::Page && matches!(config.destination, DestinationConfig::Webhook { .. }) {
            continue;
        }
        end.is(mood);
        let asked = end.asked();
        record(&store, 10).await;
        eventually("it was tried", || end.asked() > asked).await;
        if let Some(shown) = shown {
            eventually(shown, || {
                let error = shipping.statuses()[0].last_error.clone().unwrap_or_default();
                assert!(!error.contains('\u{1b}'), "{error}");
                error.contains(shown)
            })
            .await;
            assert!(behind(&shipping) > 0);
        }
        end.is(Mood::Takes);
        caught_up("it caught up", &store, &shipping).await;
    }
    // What is refused because it is too much goes through in smaller pieces, without any help.
    end.is(Mood::TakesLittle);
    record(&store, 20).await;
    caught_up("it caught up in small pieces", &store, &shipping).await;
    // Nobody is there, for several tries.
    end.goes_down();
    record(&store, 10).await;
    eventually("it was tried for a while", || shipping.statuses()[0].failures >= 3).await;
    end.comes_back().await;
    caught_up("it caught up after the far end was down", &store, &shipping).await;
    assert_eq!(shipping.statuses()[0].last_error, None);
    // A restart in the midst of a batch that the far end took without our knowing.
    end.is(Mood::TakesSilently);
    record(&store, 10).await;
    let asked = end.asked();
    eventually("it was tried", || end.asked() > asked).await;
    shipping.stop(Duration::ZERO).await;
    end.is(Mood::Takes);
    let shipping = start(&store, &config).await;
    caught_up("the next life caught up", &store, &shipping).await;
    let newest = store.events(0, 1).await.expect("the store answers").newest;
    let numbers = end.numbers();
    assert!(is_complete(&numbers, newest), "{numbers:?} of {newest}");
    // What is certainly there comes once.
    assert_eq!(numbers.iter().filter(|number| **number == 3).count(), 1);
}

#[tokio::test]
async fn webhook() {
    http_contract(|url| DestinationConfig::Webhook { url: format!("{url}/hook"), secret: secret("s3cret"), ca: None })
        .await;
}

#[tokio::test]
async fn azure_storage() {
    http_contract(|url| DestinationConfig::AzureStorage {
        endpoint: url.to_owned(),
        account: "acc".to_owned(),
        container: "logs".to_owned(),
        key: secret("a2V5"),
        ca: None,
    })
    .await;
}

#[tokio::test]
async fn log_analytics() {
    http_contract(|url| DestinationConfig::LogAnalytics {
        endpoint: url.to_owned(),
        rule: "dcr-1".to_owned(),
        stream: "Custom-Bastion_CL".to_owned(),
        authority: url.to_owned(),
        tenant: "t".to_owned(),
        client_id: "id".to_owned(),
        client_secret: secret("s"),
        ca: None,
    })
    .await;
}

#[tokio::test]
async fn s3() {
    http_contract(|url| DestinationConfig::S3 {
        endpoint: url.to_owned(),
        bucket: "logs".to_owned(),
        region: "eu-central-1".to_owned(),
        prefix: "a b/".to_owned(),
        access_key_id: "AKID".to_owned(),
        secret_access_key: secret("s"),
        ca: None,
    })
    .await;
}

#[tokio::test]
async fn cloudwatch_logs() {
    http_contract(|url| DestinationConfig::CloudWatchLogs { group: log_group(url), stream: "ravelin".to_owned() })
        .await;
}

fn log_group(url: &str) -> LogGroupConfig {
    LogGroupConfig {
        endpoint: url.to_owned(),
        region: "eu-central-1".to_owned(),
        group: "audit".to_owned(),
        access_key_id: "AKID".to_owned(),
        secret_access_key: secret("s"),
        ca: None,
    }
}

#[tokio::test]
async fn otlp() {
    http_contract(|url| DestinationConfig::Otlp { endpoint: url.to_owned(), header: None, ca: None }).await;
}

/// Events of sessions that ended, each of which is a span.
async fn record_ends(store: &SqliteStore, count: u64) {
    for _ in 0..count {
        let facts = BTreeMap::from([("created_micros".to_owned(), "1795300134123456".to_owned())]);
        let session = SessionId::parse("alice-07a16060613c408b5").expect("an id");
        let deed = Deed { kind: AuditKind::SessionEnded, actor: Actor::System, session: Some(session), facts };
        store.record(deed).await.expect("a deed is written");
    }
}

#[tokio::test]
async fn otlp_goes_on_with_logs_where_traces_fail_and_tells_what_was_rejected() {
    let end = HttpEnd::start().await;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let config = sink(DestinationConfig::Otlp { endpoint: end.url.clone(), header: None, ca: None });
    end.is(Mood::TakesOnly("/v1/logs"));
    let shipping = start(&store, &config).await;
    record_ends(&store, 20).await;
    caught_up("the logs are there", &store, &shipping).await;
    let status = shipping.statuses().remove(0);
    let told = status.last_error.expect("it is told that there are no traces");
    assert!(told.contains("no traces") && status.failures == 0, "{told}");

    let rejects = r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"too old"}}"#;
    end.is(Mood::Says(rejects));
    record(&store, 3).await;
    caught_up("they were taken", &store, &shipping).await;
    let told = shipping.statuses()[0].last_error.clone().expect("the rejected are told");
    assert!(told.contains("rejected 3 records") && told.contains("too old"), "{told}");

    // While the traces fail for another reason, the logs of their batch are there already.
    end.is(Mood::FailsFor("/v1/traces"));
    record_ends(&store, 5).await;
    eventually("the traces fail", || shipping.statuses()[0].failures >= 3).await;
    end.is(Mood::Takes);
    caught_up("both are there", &store, &shipping).await;
    assert_eq!(shipping.statuses()[0].last_error, None);
    let numbers = end.numbers();
    let newest = store.events(0, 1).await.expect("the store answers").newest;
    assert_eq!(numbers, (1..=newest).collect::<Vec<_>>(), "each log record once");
}

#[tokio::test]
async fn a_receiver_of_webhooks_can_check_the_signature() {
    let end = HttpEnd::start().await;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let url = format!("{}/hook", end.url);
    let shipping = start(&store, &sink(DestinationConfig::Webhook { url, secret: secret("s3cret\n"), ca: None })).await;
    record(&store, 1).await;
    caught_up("it is there", &store, &shipping).await;
    let taken = end.taken.lock().expect("not poisoned");
    let Taken { headers, body, .. } = &taken[0];
    let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).expect(name);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"s3cret");
    let tag = aws_lc_rs::hmac::sign(&key, format!("{}.{body}", header("ravelin-timestamp")).as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("ravelin-signature"), format!("v1={hex}"));
}

#[tokio::test]
async fn file_with_rotation_and_a_cut_line() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("audit.jsonl");
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let destination = DestinationConfig::File { path: path.clone(), bytes_max: 4096, keep: 100 };
    let config = sink(destination);
    let shipping = start(&store, &config).await;
    record(&store, 40).await;
    caught_up("they are there", &store, &shipping).await;
    shipping.stop(Duration::ZERO).await;
    // As a process leaves it that died while it wrote.
    let mut text = std::fs::read_to_string(&path).expect("the file is there");
    text.push_str("{\"seq\":99,\"at\":\"20");
    std::fs::write(&path, text).expect("may be written");
    let shipping = start(&store, &config).await;
    record(&store, 10).await;
    caught_up("they are there", &store, &shipping).await;
    let numbers = numbers_in(folder.path(), "audit.jsonl");
    let newest = store.events(0, 1).await.expect("the store answers").newest;
    assert_eq!(numbers, (1..=newest).collect::<Vec<_>>(), "each once and in order");
    assert!(folder.path().join("audit.jsonl.2").exists(), "it was rotated");
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        assert!(entry.expect("an entry").metadata().expect("it has").len() <= 4096);
    }
}

#[tokio::test]
async fn a_file_that_ends_with_the_events_of_another_record_gets_all_of_this_one() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("audit.jsonl");
    let config = sink(DestinationConfig::File { path: path.clone(), bytes_max: 1 << 20, keep: 100 });
    let mut lines = 0;
    for count in [40, 10] {
        // The state was lost, or made anew; the file was not.
        let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
        let shipping = start(&store, &config).await;
        record(&store, count).await;
        caught_up("they are there", &store, &shipping).await;
        shipping.stop(Duration::ZERO).await;
        let newest = store.events(0, 1).await.expect("the store answers").newest;
        let numbers = numbers_in(folder.path(), "audit.jsonl");
        assert_eq!(numbers[lines..], (1..=newest).collect::<Vec<_>>(), "each once and in order");
        lines = numbers.len();
    }
}

fn numbers_in(folder: &Path, name: &str) -> Vec<u64> {
    let older = (1..1000).rev().map(|number| folder.join(format!("{name}.{number}")));
    let all = older.chain([folder.join(name)]).filter(|path| path.exists());
    all.flat_map(|path| numbers(std::fs::read_to_string(path).expect("readable").lines())).collect()
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_caught_up_with() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("not-yet").join("audit.jsonl");
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let config = sink(DestinationConfig::File { path: path.clone(), bytes_max: 1 << 20, keep: 1 });
    let shipping = start(&store, &config).await;
    record(&store, 10).await;
    eventually("the failure shows", || shipping.statuses()[0].last_error.is_some()).await;
    assert_eq!(store.prune_events(Time::MAX, 100).await, Ok(0), "nothing is lost meanwhile");
    std::fs::create_dir(folder.path().join("not-yet")).expect("may be made");
    caught_up("it caught up", &store, &shipping).await;
    // A disk that is full: every write to it fails.
    let full = sink(DestinationConfig::File { path: "/dev/full".into(), bytes_max: 1 << 20, keep: 1 });
    let mut full = SinkConfig { name: "full".to_owned(), ..full };
    full.behind_max = 5;
    shipping.replace(vec![config, full]).await.expect("the ledger answers");
    record(&store, 10).await;
    eventually("it is too far behind", || shipping.full().is_some()).await;
    let because = shipping.full().unwrap_or_default();
    assert!(because.contains("sink full is") && because.contains("more than 5"), "{because}");
    caught_up("the other goes on", &store, &shipping).await;
}

#[test]
fn a_file_whose_writing_stands_still_holds_one_thread_and_gets_each_line_once() {
    // The store's reads take such threads too; a second one that is stuck would leave none.
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let folder = tempfile::tempdir().expect("a scratch folder");
        let path = folder.path().join("audit.jsonl");
        let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
        let mut config = sink(DestinationConfig::File { path: path.clone(), bytes_max: 4096, keep: 100 });
        config.timeout = Duration::from_millis(50);
        // As a disk that does not answer: every write waits for as long as another writer has the file.
        let held = std::fs::File::create(&path).expect("may be made");
        held.lock().expect("nobody else has it");
        let shipping = start(&store, &config).await;
        record(&store, 20).await;
        eventually("it was tried again and again", || shipping.statuses()[0].failures >= 4).await;
        let error = shipping.statuses()[0].last_error.clone().unwrap_or_default();
        assert!(error.contains("no end within"), "{error}");
        let read = tokio::time::timeout(PATIENCE, store.events(0, 1)).await.expect("a thread is left");
        assert_eq!(read.expect("the store answers").newest, 21);
        // Another life of the sink comes behind what the first left.
        shipping.stop(Duration::ZERO).await;
        config.timeout = PATIENCE;
        held.unlock().expect("it was held");
        let shipping = start(&store, &config).await;
        caught_up("it goes on", &store, &shipping).await;
        assert_eq!(numbers_in(folder.path(), "audit.jsonl"), (1..=21).collect::<Vec<_>>(), "each once and in order");
    });
}

/// Reads octet-counted messages, each in so much time, until the far end hangs up, or `most` have come.
async fn read_frames(
    stream: &mut (impl AsyncReadExt + Unpin),
    most: usize,
    pace: Duration,
    into: &Mutex<BTreeSet<u64>>,
) {
    for _ in 0..most {
        let mut length = String::new();
        loop {
            match stream.read_u8().await {
                Ok(b' ') => break,
                Ok(digit) => length.push(char::from(digit)),
                Err(_) => return,
            }
        }
        let mut message = vec![0; length.parse().expect("a length")];
        if stream.read_exact(&mut message).await.is_err() {
            return;
        }
        into.lock().expect("not poisoned").insert(message_number(&message));
        tokio::time::sleep(pace).await;
    }
}

fn message_number(message: &[u8]) -> u64 {
    let message = str::from_utf8(message).expect("text");
    assert!(message.starts_with("<1") && !message.contains('\n') && !message.contains('\u{1b}'), "{message}");
    number(&message[message.find('{').expect("a JSON message")..])
}

fn all_are_there(taken: &Mutex<BTreeSet<u64>>, newest: u64) -> bool {
    *taken.lock().expect("not poisoned") == (1..=newest).collect()
}

#[tokio::test]
async fn syslog_over_tcp_with_a_far_end_that_dies_without_reading() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let transport = SyslogTransport::Tcp(address.to_string());
    let shipping = start(&store, &sink(DestinationConfig::Syslog { transport, facility: 13 })).await;
    let messages = Arc::new(Mutex::new(BTreeSet::new()));
    record(&store, 30).await;
    {
        // It reads some, and dies with the rest unread.
        let (mut stream, _) = listener.accept().await.expect("it connects");
        read_frames(&mut stream, 11, Duration::ZERO, &messages).await;
        caught_up("all were written", &store, &shipping).await;
    }
    record(&store, 30).await;
    let taken = Arc::clone(&messages);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            read_frames(&mut stream, usize::MAX, Duration::ZERO, &taken).await;
        }
    });
    eventually("all are there", || all_are_there(&messages, 61)).await;
}

#[tokio::test]
async fn syslog_over_tcp_with_a_far_end_that_does_not_read_for_a_while_and_talks_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let transport = SyslogTransport::Tcp(address.to_string());
    let shipping = start(&store, &sink(DestinationConfig::Syslog { transport, facility: 13 })).await;
    // More than the buffers between both hold.
    let long = "x".repeat(60_000);
    for number in 0..100 {
        let facts = BTreeMap::from([("claimed".to_owned(), format!("{number} {long}"))]);
        let deed = Deed { kind: AuditKind::LoginRefused, actor: Actor::System, session: None, facts };
        store.record(deed).await.expect("a deed is written");
    }
    let (stuck, _) = listener.accept().await.expect("it connects");
    eventually("it is told that the far end is slow", || {
        shipping.statuses()[0].last_error.as_deref().is_some_and(|error| error.contains("no end within"))
    })
    .await;
    drop(stuck);
    let messages = Arc::new(Mutex::new(BTreeSet::new()));
    let taken = Arc::clone(&messages);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // A server has nothing to say in this protocol; this one does.
            let _talks = stream.write_all(b"\x00garbage\r\n").await;
            // Slower than a delivery may last, when all that was kept comes again.
            read_frames(&mut stream, usize::MAX, Duration::from_millis(60), &taken).await;
        }
    });
    eventually("all are there", || all_are_there(&messages, 101)).await;
}

#[tokio::test]
async fn syslog_over_tcp_with_a_far_end_that_stands_still_and_dies_with_thousands_of_short_messages_unread() {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    // Little, so that it is soon full.
    socket.set_recv_buffer_size(256 << 10).expect("a size");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(8).expect("it listens");
    let address = listener.local_addr().expect("an address");
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let transport = SyslogTransport::Tcp(address.to_string());
    let mut config = sink(DestinationConfig::Syslog { transport, facility: 13 });
    config.batch_events = 500;
    let shipping = start(&store, &config).await;
    let (stuck, _) = listener.accept().await.expect("it connects");
    while shipping.statuses()[0].failures == 0 && shipping.statuses()[0].position < 20_000 {
        record(&store, 500).await;
        let written = store.events(0, 1).await.expect("the store answers").newest;
        eventually("it was written, or got stuck", || {
            let status = &shipping.statuses()[0];
            status.position >= written || status.failures > 0
        })
        .await;
    }
    let unread = shipping.statuses()[0].position;
    assert!(unread > 1000, "the buffers hold {unread} messages");
    // It dies, and is started again.
    drop(stuck);
    let newest = store.events(0, 1).await.expect("the store answers").newest;
    let messages = Arc::new(Mutex::new(BTreeSet::new()));
    let taken = Arc::clone(&messages);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            read_frames(&mut BufReader::new(stream), usize::MAX, Duration::ZERO, &taken).await;
        }
    });
    record(&store, 1).await;
    eventually("all are there", || all_are_there(&messages, newest + 1)).await;
}

#[tokio::test]
async fn syslog_over_tls_with_a_wrong_certificate_and_a_restart_in_the_midst() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let names = || vec!["localhost".to_owned()];
    let [right, wrong] =
        [(), ()].map(|()| rcgen::generate_simple_self_signed(names()).expect("a certificate can be made"));
    let acceptor = |certified: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
        let config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider knows them")
                .with_no_client_auth()
                .with_single_cert(vec![certified.cert.der().clone()], key)
                .expect("they belong together");
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    };
    let transport = SyslogTransport::Tls(format!("localhost:{port}"), right.cert.pem());
    let shipping = start(&store, &sink(DestinationConfig::Syslog { transport, facility: 13 })).await;
    record(&store, 20).await;
    let (stream, _) = listener.accept().await.expect("it connects");
    assert!(acceptor(&wrong).accept(stream).await.is_err(), "it hangs up on a stranger");
    eventually("the wrong certificate is told", || {
        shipping.statuses()[0].last_error.as_deref().is_some_and(|error| error.contains("certificate"))
    })
    .await;
    assert_eq!(shipping.statuses()[0].position, 0, "a stranger gets nothing");
    let messages = Arc::new(Mutex::new(BTreeSet::new()));
    let server = acceptor(&right);
    {
        // It reads some, and dies with the rest unread.
        let (stream, _) = listener.accept().await.expect("it connects");
        let mut stream = server.accept(stream).await.expect("it trusts the right one");
        read_frames(&mut stream, 5, Duration::ZERO, &messages).await;
    }
    record(&store, 20).await;
    let taken = Arc::clone(&messages);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = server.accept(stream).await {
                read_frames(&mut stream, usize::MAX, Duration::ZERO, &taken).await;
            }
        }
    });
    eventually("all are there", || all_are_there(&messages, 41)).await;
}

#[tokio::test]
async fn a_socket_of_this_machine_that_is_away_for_a_while() {
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("log");
    let destination = DestinationConfig::Syslog { transport: SyslogTransport::Unix(path.clone()), facility: 13 };
    let shipping = start(&store, &sink(destination)).await;
    record(&store, 5).await;
    eventually("the failure shows", || shipping.statuses()[0].failures >= 2).await;
    let mut taken = Vec::new();
    let mut bytes = vec![0; 65_536];
    // It comes, goes in the midst, and comes again.
    for newest in [6_u64, 16] {
        let socket = UnixDatagram::bind(&path).expect("a socket");
        while taken.iter().max() != Some(&newest) {
            let length =
                tokio::time::timeout(PATIENCE, socket.recv(&mut bytes)).await.expect("one comes").expect("a datagram");
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            taken.extend(numbers(std::iter::once(&text[text.find('{').expect("JSON")..])));
        }
        drop(socket);
        std::fs::remove_file(&path).expect("may be removed");
        if newest == 6 {
            record(&store, 10).await;
            eventually("the failure shows again", || shipping.statuses()[0].last_error.is_some()).await;
        }
    }
    assert!(is_complete(&taken, 16), "{taken:?}");
}

#[tokio::test]
async fn syslog_over_udp_with_a_far_end_that_is_away_for_a_while() {
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let address = UdpSocket::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let transport = SyslogTransport::Udp(address.to_string());
    let shipping = start(&store, &sink(DestinationConfig::Syslog { transport, facility: 13 })).await;
    record(&store, 20).await;
    // This machine says that nobody is there, after the first datagram of each try.
    eventually("it is told", || {
        let status = &shipping.statuses()[0];
        status.failures >= 2 && status.last_error.as_deref().is_some_and(|error| error.contains("cannot send"))
    })
    .await;
    let socket = UdpSocket::bind(address).await.expect("the port is still free");
    record(&store, 10).await;
    let newest = store.events(0, 1).await.expect("the store answers").newest;
    let mut taken = BTreeSet::new();
    let mut bytes = vec![0; 65_536];
    while !taken.contains(&newest) {
        let datagram = tokio::time::timeout(PATIENCE, socket.recv(&mut bytes)).await;
        let length = datagram.expect("one comes").expect("a datagram");
        taken.insert(message_number(&bytes[..length]));
    }
    // A datagram that went out before it was told that nobody is there is lost, and nothing after it.
    let first = *taken.first().expect("some came");
    assert!(first <= 21 && taken == (first..=newest).collect(), "{taken:?}");
    caught_up("it caught up", &store, &shipping).await;
    assert_eq!(shipping.statuses()[0].last_error, None);
}

#[tokio::test]
async fn what_is_behind_does_not_gather() {
    let end = HttpEnd::start().await;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    record(&store, 70).await;
    let destination = DestinationConfig::Webhook { url: format!("{}/hook", end.url), secret: secret("s"), ca: None };
    let mut config = sink(destination);
    // Ten batches wait; only the last, which is not full, has time to gather.
    config.linger = Duration::from_secs(5);
    let begun = Instant::now();
    let shipping = start(&store, &config).await;
    eventually("they are there", || shipping.statuses()[0].position >= 70).await;
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert!(end.numbers().is_sorted());
}

#[tokio::test]
async fn syslog_over_datagrams() {
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let udp = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let folder = tempfile::tempdir().expect("a scratch folder");
    let path = folder.path().join("log");
    let unix = UnixDatagram::bind(&path).expect("a socket");
    let address = udp.local_addr().expect("an address").to_string();
    let by_udp = sink(DestinationConfig::Syslog { transport: SyslogTransport::Udp(address), facility: 13 });
    let by_unix = sink(DestinationConfig::Syslog { transport: SyslogTransport::Unix(path), facility: 13 });
    let by_unix = SinkConfig { name: "unix".to_owned(), ..by_unix };
    let ledger: Arc<dyn Ledger> = Arc::<SqliteStore>::clone(&store);
    let shipping = Shipping::start(ledger, vec![by_udp, by_unix], Names::default()).await.expect("the ledger answers");
    record(&store, 20).await;
    let (over_udp, over_unix) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let mut bytes = vec![0; 65_536];
    for _ in 0..22 {
        let length = udp.recv(&mut bytes).await.expect("a datagram");
        over_udp.lock().expect("not poisoned").push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        let length = unix.recv(&mut bytes).await.expect("a datagram");
        over_unix.lock().expect("not poisoned").push(String::from_utf8_lossy(&bytes[..length]).into_owned());
    }
    let texts = |messages: &Mutex<Vec<String>>| -> Vec<u64> {
        let messages = messages.lock().expect("not poisoned");
        numbers(messages.iter().map(|message| &message[message.find('{').expect("JSON")..]))
    };
    assert!(is_complete(&texts(&over_udp), 22) && is_complete(&texts(&over_unix), 22));
    shipping.stop(Duration::from_secs(1)).await;
}

#[tokio::test]
async fn a_sink_has_its_place_from_life_to_life_and_loses_it_with_its_configuration() {
    let end = HttpEnd::start().await;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    record(&store, 5).await;
    let destination = DestinationConfig::Webhook { url: format!("{}/hook", end.url), secret: secret("s"), ca: None };
    let mut config = sink(destination);
    config.start = SinkStart::Now;
    let shipping = start(&store, &config).await;
    record(&store, 5).await;
    caught_up("they are there", &store, &shipping).await;
    assert_eq!(end.numbers(), (6..=11).collect::<Vec<_>>(), "from now on, its own beginning included");
    shipping.stop(Duration::from_secs(5)).await;
    record(&store, 3).await;
    let shipping = start(&store, &config).await;
    caught_up("it goes on", &store, &shipping).await;
    assert_eq!(end.numbers(), (6..=14).collect::<Vec<_>>());
    shipping.replace(Vec::new()).await.expect("the ledger answers");
    assert_eq!(store.sink_places().await, Ok(Vec::new()));
    let last = store.events(0, 1000).await.expect("the store answers").events.pop().expect("an event");
    assert_eq!(last.deed.kind, AuditKind::SinkRemoved);
}

/// The store's ledger, which may refuse to be written for a while.
struct Refusing {
    store: Arc<SqliteStore>,
    refuses: AtomicBool,
}

impl Refusing {
    fn written(&self) -> Result<&SqliteStore, Refusal> {
        if self.refuses.load(Ordering::Acquire) {
            Err(Refusal::unavailable("the store", "test"))
        } else {
            Ok(&self.store)
        }
    }
}

#[async_trait]
impl Ledger for Refusing {
    async fn entries(&self, after: u64, limit: u32) -> Result<EntryPage, Refusal> {
        self.store.entries(after, limit).await
    }

    async fn wait_for_entry(&self, after: u64) {
        self.store.wait_for_entry(after).await;
    }

    async fn checkpoint(&self) -> Result<Option<u64>, Refusal> {
        self.written()?.checkpoint().await
    }

    async fn join_sink(&self, name: &str, start: SinkStart) -> Result<u64, Refusal> {
        self.written()?.join_sink(name, start).await
    }

    async fn advance_sink(&self, name: &str, through: u64) -> Result<(), Refusal> {
        self.written()?.advance_sink(name, through).await
    }

    async fn sink_places(&self) -> Result<Vec<(String, u64)>, Refusal> {
        self.store.sink_places().await
    }

    async fn leave_sink(&self, name: &str) -> Result<(), Refusal> {
        self.written()?.leave_sink(name).await
    }
}

#[tokio::test]
async fn a_change_of_sinks_that_is_refused_leaves_the_present_ones_running() {
    let (old, new) = (HttpEnd::start().await, HttpEnd::start().await);
    let hook = |end: &HttpEnd| {
        sink(DestinationConfig::Webhook { url: format!("{}/hook", end.url), secret: secret("s"), ca: None })
    };
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let ledger = Arc::new(Refusing { store: Arc::clone(&store), refuses: AtomicBool::new(false) });
    let shipping = Shipping::start(Arc::<Refusing>::clone(&ledger), vec![hook(&old)], Names::default()).await;
    let shipping = shipping.expect("the ledger answers");
    record(&store, 5).await;
    caught_up("the first has them", &store, &shipping).await;
    let other = SinkConfig { name: "other".to_owned(), start: SinkStart::Now, ..hook(&new) };
    ledger.refuses.store(true, Ordering::Release);
    assert!(shipping.replace(vec![other.clone()]).await.is_err(), "the new one gets no place");
    record(&store, 5).await;
    eventually("the first is still asked", || behind(&shipping) > 0 && shipping.statuses()[0].last_error.is_some())
        .await;
    ledger.refuses.store(false, Ordering::Release);
    caught_up("the first goes on", &store, &shipping).await;
    assert!(is_complete(&old.numbers(), 11), "{:?}", old.numbers());
    shipping.replace(vec![other]).await.expect("the same change goes through later");
    record(&store, 1).await;
    caught_up("the new one has its place", &store, &shipping).await;
    assert_eq!(shipping.statuses()[0].name, "other");
    assert!(new.numbers().contains(&14), "{:?}", new.numbers());
    assert_eq!(store.sink_places().await.map(|places| places.len()), Ok(1));
}

#[tokio::test]
async fn a_stop_lets_a_sink_finish() {
    let end = HttpEnd::start().await;
    let store = Arc::new(SqliteStore::in_memory().expect("a temporary store opens"));
    let destination = DestinationConfig::Webhook { url: format!("{}/hook", end.url), secret: secret("s"), ca: None };
    let mut config = sink(destination);
    config.linger = Duration::from_secs(600);
    let shipping = start(&store, &config).await;
    record(&store, 20).await;
    shipping.stop(PATIENCE).await;
    assert!(is_complete(&end.numbers(), 21), "{:?}", end.numbers());
}
