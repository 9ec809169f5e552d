//! Log Analytics through the Logs Ingestion API.
//!
//! Source: <https://learn.microsoft.com/azure/azure-monitor/logs/logs-ingestion-api-overview>, as of 2026-11. A call takes
//! 1 MB; the table's columns are those of `MicrosoftAzureBastionAuditLogs`.

use super::{Batch, Destination, Failure};
use crate::config::{DestinationConfig, Secret};
use crate::http;
use crate::schema::log_analytics_row;
use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::io::Write;
use std::time::{Duration, Instant};

const API_VERSION: &str = "2023-01-01";
const SCOPE: &str = "https://monitor.azure.com/.default";
/// Most of one call, before compression; the service refuses more than 1 MB.
const CALL_BYTES_MAX: usize = 1_000_000;
/// Longest value of a column; the service cuts what is longer than 64 KiB.
const COLUMN_CHARS_MAX: usize = 16_000;
/// A token is not used in the last moments of its life.
const TOKEN_MARGIN: Duration = Duration::from_secs(60);

pub(super) struct LogAnalytics {
    client: reqwest::Client,
    url: String,
    token_url: String,
    client_id: String,
    client_secret: Secret,
    token: Option<(String, Instant)>,
}

impl LogAnalytics {
    pub(super) fn new(config: &DestinationConfig) -> Result<Self, Failure> {
        let DestinationConfig::LogAnalytics { endpoint, rule, stream, authority, tenant, client_id, client_secret, ca } =
            config
        else {
            return Err(Failure::new("this is no configuration of Log Analytics"));
        };
        let endpoint = endpoint.trim_end_matches('/');
        Ok(Self {
            client: http::client(endpoint, ca.as_deref())?,
            url: format!("{endpoint}/dataCollectionRules/{rule}/streams/{stream}"),
            token_url: format!("{}/{tenant}/oauth2/v2.0/token", authority.trim_end_matches('/')),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            token: None,
        })
    }

    async fn token(&mut self) -> Result<String, Failure> {
        if let Some((token, until)) = &self.token
            && Instant::now() < *until
        {
            return Ok(token.clone());
        }
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.client_id),
            ("client_secret", self.client_secret.expose()),
            ("scope", SCOPE),
        ];
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let body = form.map(|(name, value)| format!("{name}={}", encode(value))).join("&");
        let request = self.client.post(&self.token_url).header("content-type", "application/x-www-form-urlencoded");
        let answer = http::succeed("the request for a token", request.body(body)).await?;
        let said: Value = serde_json::from_slice(&answer.body)
            .map_err(|_| Failure::new("the token endpoint's answer is no JSON; check the authority"))?;
        let token = said["access_token"].as_str().ok_or_else(|| Failure::new("the token endpoint gave no token"))?;
        let lifetime = Duration::from_secs(said["expires_in"].as_u64().unwrap_or(300));
        let until = Instant::now() + lifetime.saturating_sub(TOKEN_MARGIN);
        self.token = Some((token.to_owned(), until));
        Ok(token.to_owned())
    }

    async fn call(&mut self, rows: &str) -> Result<(), Failure> {
        let token = self.token().await?;
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(rows.as_bytes()).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| Failure::new(format!("cannot compress: {error}")))?;
        let request = self
            .client
            .post(&self.url)
            .query(&[("api-version", API_VERSION)])
            .bearer_auth(token)
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body(packed);
        let answer = http::send(request).await?;
        match answer.status.as_u16() {
            204 => Ok(()),
            status => {
                if status == 401 {
                    self.token = None;
                }
                Err(answer.refusal("the delivery"))
            }
        }
    }
}

#[async_trait]
impl Destination for LogAnalytics {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let mut through = None;
        let mut rows = String::new();
        let mut last = None;
        for item in batch.items {
            let row = shortened(log_analytics_row(&item.record)).to_string();
            if !rows.is_empty() && rows.len() + row.len() + 2 > CALL_BYTES_MAX {
                let call = format!("[{}]", std::mem::take(&mut rows));
                self.call(&call).await.map_err(|failure| failure.after(through))?;
                through = last;
            }
            if !rows.is_empty() {
                rows.push(',');
            }
            rows.push_str(&row);
            last = Some(item.entry.event.seq);
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.call(&format!("[{rows}]")).await.map_err(|failure| failure.after(through))
    }
}

/// The row with no column longer than the service keeps.
fn shortened(mut row: Value) -> Value {
    for value in row.as_object_mut().into_iter().flat_map(|row| row.values_mut()) {
        if let Value::String(text) = value
            && text.chars().count() > COLUMN_CHARS_MAX
        {
            *text = text.chars().take(COLUMN_CHARS_MAX).collect();
        }
    }
    row
}
