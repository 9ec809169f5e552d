//! OpenTelemetry's protocol over HTTP in its JSON form: a log record for each event, a span for each session that ended.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding> and the protocol's definition, 1.5.

use super::{Batch, Destination, Failure, Item};
use crate::config::{Names, Secret};
use crate::http::{self, Answer};
use crate::schema::{Traits, Weight, event_id, traits};
use async_trait::async_trait;
use aws_lc_rs::digest;
use ravelin_model::text::printable;
use serde_json::{Value, json};

pub(super) struct Otlp {
    client: reqwest::Client,
    endpoint: String,
    header: Option<(String, Secret)>,
    host: String,
    /// The far end has the log records up to this number, of a batch whose spans it may not have yet.
    logged: u64,
    /// The last spans found nobody who takes any.
    is_without_traces: bool,
    remark: Option<String>,
}

impl Otlp {
    pub(super) fn new(
        endpoint: &str,
        header: Option<(String, Secret)>,
        ca: Option<&str>,
        names: &Names,
    ) -> Result<Self, Failure> {
        let client = http::client(endpoint, ca)?;
        Ok(Self {
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            header,
            host: names.host.clone(),
            logged: 0,
            is_without_traces: false,
            remark: None,
        })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Answer, Failure> {
        let mut request = self
            .client
            .post(format!("{}{path}", self.endpoint))
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Some((name, value)) = &self.header {
            request = request.header(name, value.expose());
        }
        http::send(request).await
    }

    /// Takes in what the far end says of an export.
    fn hear(&mut self, answer: &Answer) -> Result<(), Failure> {
        if !answer.status.is_success() {
            return Err(answer.refusal("the export"));
        }
        let said = said(answer).ok_or_else(|| answer.refusal("the export, by something that is no OTLP receiver,"))?;
        // A success may still tell of records that the far end threw away.
        let partial = &said["partialSuccess"];
        let count = |name: &str| match &partial[name] {
            Value::String(text) => text.parse::<u64>().unwrap_or(0),
            other => other.as_u64().unwrap_or(0),
        };
        let rejected = count("rejectedLogRecords") + count("rejectedSpans");
        if rejected > 0 {
            // The same records are never to be sent again: what was rejected once always is, and the rest was taken.
            // <https://opentelemetry.io/docs/specs/otlp/#partial-success-1>
            let why = printable(partial["errorMessage"].as_str().unwrap_or("it gives no reason"), 300);
            tracing::error!(endpoint = self.endpoint, rejected, why, "the far end of a sink rejected records for good");
            self.remark = Some(format!("the far end rejected {rejected} records for good: {why}"));
        }
        Ok(())
    }

    fn resource(&self, deployment: &str) -> Value {
        json!({ "attributes": [
            attribute("service.name", "ravelin"),
            attribute("service.version", env!("CARGO_PKG_VERSION")),
            attribute("service.instance.id", deployment),
            attribute("host.name", &self.host),
        ]})
    }
}

#[async_trait]
impl Destination for Otlp {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let new = batch.items.iter().filter(|item| item.entry.event.seq > self.logged);
        let records: Vec<Value> = new.map(|item| log_record(batch.deployment, item)).collect();
        if !records.is_empty() {
            self.remark = None;
            let logs = logs(&self.resource(batch.deployment), records);
            let answer = self.post("/v1/logs", &logs).await?;
            self.hear(&answer)?;
            self.logged = batch.items.last().map_or(self.logged, |item| item.entry.event.seq);
        }
        let spans: Vec<Value> = batch.items.iter().filter_map(|item| span(batch.deployment, item)).collect();
        if !spans.is_empty() {
            let traces = traces(&self.resource(batch.deployment), spans);
            let answer = self.post("/v1/traces", &traces).await?;
            // A span holds nothing that the log records do not: a far end for logs alone is no reason to stop.
            let is_without_traces = matches!(answer.status.as_u16(), 404 | 501);
            if is_without_traces && !self.is_without_traces {
                tracing::warn!(
                    endpoint = self.endpoint,
                    "the far end of a sink takes logs and no traces; it gets logs alone"
                );
            }
            self.is_without_traces = is_without_traces;
            if !is_without_traces {
                self.hear(&answer)?;
            }
        }
        if self.is_without_traces && self.remark.is_none() {
            self.remark = Some("the far end takes logs and no traces".to_owned());
        }
        Ok(())
    }

    fn remark(&self) -> Option<&str> {
        self.remark.as_deref()
    }
}

/// What an answer to an export says; `None` when it is none. Nothing to say is an empty message, which some leave out.
///
/// Source: <https://opentelemetry.io/docs/specs/otlp/#otlphttp-response>.
fn said(answer: &Answer) -> Option<Value> {
    // Those who only know the other encoding answer in it; what they say of rejected records goes unheard.
    if answer.body.is_empty() || answer.content_type.starts_with("application/x-protobuf") {
        return Some(Value::Null);
    }
    serde_json::from_slice(&answer.body).ok().filter(Value::is_object)
}

fn scope() -> Value {
    json!({ "name": "ravelin.audit", "version": env!("CARGO_PKG_VERSION") })
}

fn logs(resource: &Value, records: Vec<Value>) -> Value {
    json!({ "resourceLogs": [{ "resource": resource, "scopeLogs": [{ "scope": scope(), "logRecords": records }] }] })
}

fn traces(resource: &Value, spans: Vec<Value>) -> Value {
    json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "scope": scope(), "spans": spans }] }] })
}

fn attribute(name: &str, value: &str) -> Value {
    json!({ "key": name, "value": { "stringValue": value } })
}

fn nanos(micros: i64) -> String {
    (i128::from(micros) * 1000).to_string()
}

fn attributes(deployment: &str, item: &Item) -> Vec<Value> {
    let event = &item.entry.event;
    let mut attributes = vec![
        attribute("log.record.uid", &event_id(deployment, &item.entry)),
        attribute("event.name", &format!("ravelin.{}", event.deed.kind)),
        attribute("ravelin.seq", &event.seq.to_string()),
        attribute("ravelin.hash", &item.entry.hash.to_string()),
        attribute("ravelin.actor", &event.deed.actor.to_string()),
    ];
    attributes.extend(event.deed.facts.iter().map(|(name, value)| attribute(&format!("ravelin.{name}"), value)));
    if let Some(session) = &event.deed.session {
        attributes.push(attribute("session.id", session.as_str()));
    }
    attributes
}

fn log_record(deployment: &str, item: &Item) -> Value {
    let event = &item.entry.event;
    let (number, text) = match traits(event.deed.kind).weight {
        Weight::Warning => (13, "WARN"),
        Weight::Notice => (10, "INFO2"),
        Weight::Info => (9, "INFO"),
    };
    let mut record = json!({
        "timeUnixNano": nanos(event.at.as_micros()),
        "observedTimeUnixNano": nanos(event.at.as_micros()),
        "severityNumber": number,
        "severityText": text,
        "body": { "stringValue": item.record.to_string() },
        "attributes": attributes(deployment, item),
    });
    if let Some(session) = &event.deed.session {
        let (trace, span) = ids(session.as_str());
        record["traceId"] = trace.into();
        record["spanId"] = span.into();
    }
    record
}

/// The span of a session, once it has ended: from its admission to its end.
fn span(deployment: &str, item: &Item) -> Option<Value> {
    let event = &item.entry.event;
    let Traits { ends_session: true, weight, .. } = traits(event.deed.kind) else { return None };
    let failed = weight == Weight::Warning;
    let fact = |name: &str| event.deed.facts.get(name).map_or("", String::as_str);
    let (trace, span) = ids(event.deed.session.as_ref()?.as_str());
    let begun: i64 = fact("created_micros").parse().ok()?;
    let status = if failed { json!({ "code": 2, "message": fact("detail") }) } else { json!({ "code": 1 }) };
    Some(json!({
        "traceId": trace,
        "spanId": span,
        "name": format!("{} {}", fact("kind"), fact("target")),
        "kind": 2,
        "startTimeUnixNano": nanos(begun),
        "endTimeUnixNano": nanos(fact("ended_micros").parse().unwrap_or(event.at.as_micros())),
        "attributes": attributes(deployment, item),
        "status": status,
    }))
}

/// The trace's and the span's id of a session: the same whenever they are made.
fn ids(session: &str) -> (String, String) {
    let hash = digest::digest(&digest::SHA256, session.as_bytes());
    let hex = crate::sign::hex(hash.as_ref());
    (hex[..32].to_owned(), hex[32..48].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::tests::entry;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use ravelin_model::audit::AuditKind;
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    /// A request as the protocol's own types have it, which leave nothing out of it.
    fn read<T: DeserializeOwned + Serialize>(sent: &Value) -> T {
        let read = serde_json::from_value(sent.clone()).expect("the protocol's types take it");
        assert_holds(&serde_json::to_value(&read).expect("JSON"), sent);
        read
    }

    fn assert_holds(whole: &Value, part: &Value) {
        match (whole, part) {
            (Value::Object(whole), Value::Object(part)) => {
                for (name, value) in part {
                    assert_holds(whole.get(name).unwrap_or_else(|| panic!("{name} is lost")), value);
                }
            }
            (Value::Array(whole), Value::Array(part)) => {
                assert_eq!(whole.len(), part.len());
                whole.iter().zip(part).for_each(|(whole, part)| assert_holds(whole, part));
            }
            (whole, part) => assert_eq!(whole, part),
        }
    }

    #[test]
    fn the_protocols_own_types_read_what_is_sent() {
        let names = Names::default();
        let item = |kind| {
            let mut entry = entry(kind);
            for (fact, value) in [("created_micros", "1795300133000000"), ("ended_micros", "1795300139000000")] {
                entry.event.deed.facts.insert(fact.to_owned(), value.to_owned());
            }
            let record = crate::Schema::Ravelin.render(&names, "d", &entry).expect("a record");
            Item { entry, record }
        };
        let otlp = Otlp::new("http://127.0.0.1:4318", None, None, &names).expect("usable");
        let resource = otlp.resource("d");
        for kind in AuditKind::ALL {
            let sent = logs(&resource, vec![log_record("d", &item(*kind))]);
            let read: ExportLogsServiceRequest = read(&sent);
            let record = &read.resource_logs[0].scope_logs[0].log_records[0];
            assert_eq!(record.time_unix_nano, 1_795_300_139_123_456_000);
            assert_eq!((record.trace_id.len(), record.span_id.len()), (16, 8));
            let of_session = span("d", &item(*kind));
            assert_eq!(of_session.is_some(), traits(*kind).ends_session, "{kind}");
            let Some(of_session) = of_session else { continue };
            let read: ExportTraceServiceRequest = self::read(&traces(&resource, vec![of_session]));
            let span = &read.resource_spans[0].scope_spans[0].spans[0];
            assert_eq!((&span.trace_id, &span.span_id), (&record.trace_id, &record.span_id));
            assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 6_000_000_000);
        }
    }
}
