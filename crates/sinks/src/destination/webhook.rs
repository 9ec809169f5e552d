//! HTTP POST with an HMAC over the time and the body, as many receivers know it.
//!
//! `Ravelin-Signature: v1=<hex of HMAC-SHA256(secret, timestamp "." body)>` with `Ravelin-Timestamp: <seconds>`.
//! `docs/howto/ship-logs.md` shows how a receiver checks it.

use super::{Batch, Destination, Failure};
use crate::config::Secret;
use crate::http;
use crate::sign::{hex, hmac_sha256};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::{Value, json};

pub(super) struct Webhook {
    client: reqwest::Client,
    url: String,
    secret: Secret,
}

impl Webhook {
    pub(super) fn new(url: &str, secret: Secret, ca: Option<&str>) -> Result<Self, Failure> {
        Ok(Self { client: http::client(url, ca)?, url: url.to_owned(), secret })
    }
}

#[async_trait]
impl Destination for Webhook {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (batch.items.first(), batch.items.last()) else { return Ok(()) };
        let events: Vec<&Value> = batch.items.iter().map(|item| &item.record).collect();
        let body = json!({ "deployment": batch.deployment, "events": events }).to_string();
        let timestamp = Timestamp::now().as_second().to_string();
        let signed = format!("{timestamp}.{body}");
        let signature = hex(&hmac_sha256(self.secret.expose().as_bytes(), signed.as_bytes()));
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json")
            .header("ravelin-timestamp", timestamp)
            .header("ravelin-signature", format!("v1={signature}"))
            .header("ravelin-delivery", format!("{}-{}", first.entry.event.seq, last.entry.event.seq))
            .body(body);
        http::succeed("the delivery", request).await.map(|_| ())
    }
}
