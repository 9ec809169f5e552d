//! The metrics listener: what [`Meters`] has read, in the text form that Prometheus takes.
//!
//! It answers `GET /metrics` and nothing else, over plain HTTP and without a proof, so it listens on loopback unless the
//! operator says otherwise. Figures and names of targets are all that it tells.

use super::http::BREATH;
use axum::body::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;
use ravelin_model::meter::{Family, FamilyKind, Meters, Sample, Value};
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Open connections; whoever comes beyond them is closed at once.
const CONNECTIONS_MAX: usize = 64;
/// Longest time from the opening of a connection, or the end of an answer, to the end of the next request's head.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Longest life of a connection; a collector comes back by itself.
const CONNECTION_MAX: Duration = Duration::from_secs(3600);
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until `stopping`.
pub(crate) async fn serve(listener: TcpListener, meters: Arc<Meters>, stopping: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = connections.join_next() => continue,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < CONNECTIONS_MAX => {
                let meters = Arc::clone(&meters);
                connections.spawn(async move {
                    let _ended = tokio::time::timeout(CONNECTION_MAX, connection(stream, meters)).await;
                });
            }
            Ok((_, peer)) => tracing::warn!(%peer, "too many connections to the metrics listener; this one is closed"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection to the metrics listener; going on");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    connections.shutdown().await;
}

async fn connection(stream: TcpStream, meters: Arc<Meters>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let meters = Arc::clone(&meters);
        async move { Ok::<_, Infallible>(answer(&request, &meters)) }
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection to the metrics listener broke");
    }
}

fn answer(request: &Request<Incoming>, meters: &Meters) -> Response<Full<Bytes>> {
    let plain = |status: StatusCode, text: String| {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "here is only /metrics\n".to_owned());
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        response.headers_mut().insert(ALLOW, http::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match render(meters.read()) {
        Ok(text) => {
            let mut response = plain(StatusCode::OK, text);
            response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(TEXT));
            response
        }
        Err(error) => {
            tracing::error!(%error, "cannot write down the metrics");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n".to_owned())
        }
    }
}

/// The figures as OpenMetrics text.
///
/// # Errors
/// When a family's samples are not of its kind.
fn render(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Read { families }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Read {
    families: Vec<Family>,
}

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.families {
            let kind = match family.kind {
                FamilyKind::Counter => MetricType::Counter,
                FamilyKind::Gauge => MetricType::Gauge,
                FamilyKind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for sample in &family.samples {
                encode(&mut metric, family.kind, sample)?;
            }
        }
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        let mut build = encoder.encode_descriptor("ravelin_build", "The release that runs", None, MetricType::Gauge)?;
        build.encode_family(&version)?.encode_gauge(&1_i64)
    }
}

fn encode(metric: &mut MetricEncoder<'_>, kind: FamilyKind, sample: &Sample) -> Result<(), fmt::Error> {
    if sample.labels.is_empty() {
        return figure(metric, kind, &sample.value);
    }
    figure(&mut metric.encode_family(&sample.labels)?, kind, &sample.value)
}

fn figure(metric: &mut MetricEncoder<'_>, kind: FamilyKind, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (FamilyKind::Counter, Value::Count(count)) => {
            metric.encode_counter::<NoLabelSet, _, u64>(count, None::<&Exemplar<NoLabelSet, u64>>)
        }
        (FamilyKind::Gauge, Value::Level(level)) => metric.encode_gauge(level),
        (FamilyKind::Histogram, Value::Spread(spread)) => {
            let count = spread.buckets.iter().map(|(_, count)| count).sum();
            let none = None::<&HashMap<usize, Exemplar<NoLabelSet, f64>>>;
            metric.encode_histogram::<NoLabelSet>(spread.sum, count, &spread.buckets, none)
        }
        (
            FamilyKind::Counter | FamilyKind::Gauge | FamilyKind::Histogram,
            Value::Count(_) | Value::Level(_) | Value::Spread(_),
        ) => Err(fmt::Error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::meter::Durations;

    #[test]
    fn figures_are_written_as_prometheus_reads_them() {
        let durations = Durations::default();
        durations.note(Duration::from_micros(300));
        durations.note(Duration::from_secs(60));
        let labels = || vec![("target", "we\"b\\-1\n".to_owned())];
        let text = render(vec![
            Family::new(FamilyKind::Counter, "a", "A count", vec![Sample::new(labels(), Value::Count(7))]),
            Family::new(FamilyKind::Gauge, "b", "A level", Vec::new()),
            Family::new(
                FamilyKind::Histogram,
                "c_seconds",
                "Durations",
                vec![Sample::new(Vec::new(), Value::Spread(durations.spread()))],
            ),
        ])
        .expect("it can be written");
        for line in [
            "# TYPE a counter",
            "a_total{target=\"we\\\"b\\\\-1\\n\"} 7",
            "# TYPE b gauge",
            "c_seconds_bucket{le=\"0.00025\"} 0",
            "c_seconds_bucket{le=\"0.0005\"} 1",
            "c_seconds_bucket{le=\"+Inf\"} 2",
            "c_seconds_count 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let wrong = vec![Sample::new(Vec::new(), Value::Count(1))];
        assert!(render(vec![Family::new(FamilyKind::Gauge, "d", "Wrong", wrong)]).is_err());
    }
}
