//! OpenTelemetry's protocol over HTTP in its JSON form: a log record for each event, a span for each session that ended.
//!
//! Source: <https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding> and the protocol's definition, 1.5.

use super::{Batch, Destination, Failure, Item};
use crate::config::{Names, Secret};
use crate::http;
use crate::schema::{Traits, Weight, event_id, traits};
use async_trait::async_trait;
use aws_lc_rs::digest;
use serde_json::{Value, json};

pub(super) struct Otlp {
    client: reqwest::Client,
    endpoint: String,
    header: Option<(String, Secret)>,
    host: String,
}

impl Otlp {
    pub(super) fn new(
        endpoint: &str,
        header: Option<(String, Secret)>,
        ca: Option<&str>,
        names: &Names,
    ) -> Result<Self, Failure> {
        let client = http::client(endpoint, ca)?;
        Ok(Self { client, endpoint: endpoint.trim_end_matches('/').to_owned(), header, host: names.host.clone() })
    }

    async fn post(&self, path: &str, body: &Value) -> Result<(), Failure> {
        let mut request = self
            .client
            .post(format!("{}{path}", self.endpoint))
            .header("content-type", "application/json")
            .body(body.to_string());
        if let Some((name, value)) = &self.header {
            request = request.header(name, value.expose());
        }
        let answer = http::succeed("the export", request).await?;
        // A success may still tell of records that the far end threw away.
        let said: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let partial = &said["partialSuccess"];
        let count = |name: &str| match &partial[name] {
            Value::String(text) => text.parse::<u64>().unwrap_or(0),
            other => other.as_u64().unwrap_or(0),
        };
        let rejected = count("rejectedLogRecords") + count("rejectedSpans");
        if rejected > 0 {
            // The same records are never to be sent again: what was rejected once always is, and the rest was taken.
            // <https://opentelemetry.io/docs/specs/otlp/#partial-success-1>
            let why =
                ravelin_model::text::printable(partial["errorMessage"].as_str().unwrap_or("it gives no reason"), 300);
            tracing::error!(endpoint = self.endpoint, rejected, why, "the far end of a sink rejected records for good");
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
        let scope = json!({ "name": "ravelin.audit", "version": env!("CARGO_PKG_VERSION") });
        let resource = self.resource(batch.deployment);
        let records: Vec<Value> = batch.items.iter().map(|item| log_record(batch.deployment, item)).collect();
        if !records.is_empty() {
            let logs = json!({ "resourceLogs": [{
                "resource": resource, "scopeLogs": [{ "scope": scope, "logRecords": records }]
            }]});
            self.post("/v1/logs", &logs).await?;
        }
        let spans: Vec<Value> = batch.items.iter().filter_map(|item| span(batch.deployment, item)).collect();
        if !spans.is_empty() {
            let traces = json!({ "resourceSpans": [{
                "resource": resource, "scopeSpans": [{ "scope": scope, "spans": spans }]
            }]});
            self.post("/v1/traces", &traces).await?;
        }
        Ok(())
    }
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
