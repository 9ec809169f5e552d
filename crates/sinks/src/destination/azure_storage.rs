//! An Azure storage account in the layout of diagnostic logs: one append blob for each hour, JSON lines.
//!
//! Sources: <https://learn.microsoft.com/azure/azure-monitor/essentials/resource-logs> (layout and form of lines) and
//! <https://learn.microsoft.com/rest/api/storageservices/append-block>, as of 2026-11.

use super::{Batch, Destination, Failure};
use crate::config::{Names, Secret};
use crate::http::{self, Answer};
use crate::schema::azure_resource;
use crate::sign::SharedKey;
use async_trait::async_trait;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use ravelin_model::Time;

const VERSION: &str = "2021-12-02";
/// Largest block that every version of the service appends.
const BLOCK_BYTES_MAX: usize = 4 << 20;
/// Blobs of one hour: a blob takes 50 000 blocks, and its name then gets a number.
const BLOBS_PER_HOUR_MAX: u32 = 100;

pub(super) struct AzureStorage {
    client: reqwest::Client,
    endpoint: String,
    account: String,
    container: String,
    key: Secret,
    resource: String,
    /// The hour that was appended to last, and the number of its blob.
    current: (String, u32),
}

impl AzureStorage {
    pub(super) fn new(
        endpoint: &str,
        account: &str,
        container: &str,
        key: Secret,
        ca: Option<&str>,
        names: &Names,
    ) -> Result<Self, Failure> {
        Ok(Self {
            client: http::client(endpoint, ca)?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            account: account.to_owned(),
            container: container.to_owned(),
            key,
            resource: azure_resource(names),
            current: (String::new(), 1),
        })
    }

    async fn append(&mut self, hour: &str, lines: String) -> Result<(), Failure> {
        if self.current.0 != hour {
            self.current = (hour.to_owned(), 1);
        }
        loop {
            let number = self.current.1;
            let name = if number == 1 { "PT1H.json".to_owned() } else { format!("PT1H-{number}.json") };
            let blob = format!("/{}/resourceId={}/{hour}/{name}", self.container, self.resource);
            let answer = self.call("PUT", &blob, &[("comp", "appendblock")], &[], "", lines.clone()).await?;
            match answer.status.as_u16() {
                201 => return Ok(()),
                404 => self.create(&blob, &answer).await?,
                409 if answer.names("BlockCountExceedsLimit") && number < BLOBS_PER_HOUR_MAX => self.current.1 += 1,
                _ => return Err(answer.refusal("an append")),
            }
        }
    }

    /// Makes the blob that was not found, and its container when that is what is missing.
    async fn create(&self, blob: &str, missing: &Answer) -> Result<(), Failure> {
        if missing.names("ContainerNotFound") {
            let container = format!("/{}", self.container);
            let made = self.call("PUT", &container, &[("restype", "container")], &[], "", String::new()).await?;
            if !made.status.is_success() && made.status.as_u16() != 409 {
                return Err(made.refusal(&format!("the container {} is missing, and making it", self.container)));
            }
        }
        let kind = [("x-ms-blob-type", "AppendBlob")];
        let made = self.call("PUT", blob, &[], &kind, "*", String::new()).await?;
        // Another process may have been faster.
        let is_there = made.status.is_success() || matches!(made.status.as_u16(), 409 | 412);
        if is_there { Ok(()) } else { Err(made.refusal("making a blob")) }
    }

    async fn call(
        &self,
        method: &'static str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        if_none_match: &str,
        body: String,
    ) -> Result<Answer, Failure> {
        let date = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        let content_type = if body.is_empty() { "" } else { "application/json" };
        let mut signed: Vec<(&str, &str)> = headers.to_vec();
        signed.extend([("x-ms-date", date.as_str()), ("x-ms-version", VERSION)]);
        signed.sort_unstable();
        // The path as it travels: an endpoint may have one of its own, and signatures cover both.
        let base = reqwest::Url::parse(&self.endpoint).map_err(|error| Failure::new(error.to_string()))?;
        let whole = format!("{}{path}", base.path().trim_end_matches('/'));
        let request = SharedKey {
            method,
            account: &self.account,
            path: &whole,
            query,
            headers: &signed,
            content_length: body.len(),
            content_type,
            if_none_match,
        };
        let authorization = request
            .authorization(self.key.expose())
            .ok_or_else(|| Failure::new("the account's key is no base64; copy it whole from the portal"))?;
        let mut put = self.client.put(format!("{}{path}", self.endpoint)).query(query);
        for (name, value) in &signed {
            put = put.header(*name, *value);
        }
        if !content_type.is_empty() {
            put = put.header("content-type", content_type);
        }
        if !if_none_match.is_empty() {
            put = put.header("if-none-match", if_none_match);
        }
        http::send(put.header("authorization", authorization).header("content-length", body.len()).body(body)).await
    }
}

/// The folder of an event's hour; minutes are always 00 there.
fn hour(at: Time) -> String {
    let timestamp = Timestamp::from_microsecond(at.as_micros()).unwrap_or(Timestamp::UNIX_EPOCH);
    timestamp.to_zoned(TimeZone::UTC).strftime("y=%Y/m=%m/d=%d/h=%H/m=00").to_string()
}

#[async_trait]
impl Destination for AzureStorage {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let mut through = None;
        let mut pending: Option<(String, String, u64)> = None;
        for item in batch.items {
            let line = format!("{}\n", item.record);
            let hour = hour(item.entry.event.at);
            let fits =
                |(of, lines, _): &(String, String, u64)| *of == hour && lines.len() + line.len() <= BLOCK_BYTES_MAX;
            match &mut pending {
                Some(block) if fits(block) => {
                    block.1.push_str(&line);
                    block.2 = item.entry.event.seq;
                }
                _ => {
                    if let Some((of, lines, last)) = pending.take() {
                        self.append(&of, lines).await.map_err(|failure| failure.after(through))?;
                        through = Some(last);
                    }
                    pending = Some((hour, line, item.entry.event.seq));
                }
            }
        }
        match pending {
            Some((of, lines, _)) => self.append(&of, lines).await.map_err(|failure| failure.after(through)),
            None => Ok(()),
        }
    }
}
