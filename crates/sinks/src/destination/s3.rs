//! Objects in an S3 bucket: CloudTrail's layout and form, or compressed lines of another schema by day.
//!
//! A batch's object is named after its first and its last event. So the same batch, sent again after a failure, takes
//! the place of what was there; and a batch that was given up and arrives late never takes the place of one that holds
//! more.
//!
//! Sources: <https://docs.aws.amazon.com/awscloudtrail/latest/userguide/cloudtrail-log-file-examples.html> and
//! <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, as of 2026-11.

use super::{Batch, Destination, Failure, Item};
use crate::config::{DestinationConfig, Names, Secret, SinkConfig};
use crate::http;
use crate::schema::Schema;
use crate::sign::{SigV4, sha256_hex};
use async_trait::async_trait;
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::io::Write;

/// What a path may hold as it is, see SigV4's encoding of URIs.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

pub(super) struct S3 {
    client: reqwest::Client,
    endpoint: String,
    host: String,
    bucket: String,
    region: String,
    prefix: String,
    access_key_id: String,
    secret: Secret,
    schema: Schema,
    account: String,
}

impl S3 {
    pub(super) fn new(config: &SinkConfig, names: &Names) -> Result<Self, Failure> {
        let DestinationConfig::S3 { endpoint, bucket, region, prefix, access_key_id, secret_access_key, ca } =
            &config.destination
        else {
            return Err(Failure::new("this is no configuration of S3"));
        };
        Ok(Self {
            client: http::client(endpoint, ca.as_deref())?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            host: http::host(endpoint)?,
            bucket: bucket.clone(),
            region: region.clone(),
            prefix: prefix.clone(),
            access_key_id: access_key_id.clone(),
            secret: secret_access_key.clone(),
            schema: config.schema,
            account: names.account.clone(),
        })
    }

    async fn put(&self, items: &[&Item]) -> Result<(), Failure> {
        let Some((first, last)) = items.first().zip(items.last()) else { return Ok(()) };
        let hashes = [first, last].map(|item| item.entry.hash.to_string()[..8].to_owned()).concat();
        let at = zoned(first);
        let day = at.strftime("%Y/%m/%d");
        let (name, text) = match self.schema {
            Schema::CloudTrail => {
                let (account, region) = (&self.account, &self.region);
                let minute = at.strftime("%Y%m%dT%H%MZ");
                let name = format!(
                    "AWSLogs/{account}/CloudTrail/{region}/{day}/{account}_CloudTrail_{region}_{minute}_{hashes}.json.gz"
                );
                let records: Vec<&Value> = items.iter().map(|item| &item.record).collect();
                (name, json!({ "Records": records }).to_string())
            }
            Schema::Ravelin | Schema::Ocsf | Schema::Azure => {
                let name =
                    format!("{day}/{:020}-{:020}-{hashes}.jsonl.gz", first.entry.event.seq, last.entry.event.seq);
                (name, items.iter().map(|item| format!("{}\n", item.record)).collect())
            }
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        let packed = packed.map_err(|error| Failure::new(format!("cannot compress: {error}")))?;
        let path = format!("/{}/{}{name}", self.bucket, self.prefix);
        let path = utf8_percent_encode(&path, PATH).to_string();
        let payload_sha256 = sha256_hex(&packed);
        let now = Timestamp::now().to_zoned(TimeZone::UTC).strftime("%Y%m%dT%H%M%SZ").to_string();
        let signed = SigV4 {
            method: "PUT",
            host: &self.host,
            path: &path,
            region: &self.region,
            service: "s3",
            at: &now,
            payload_sha256: &payload_sha256,
            target: None,
        };
        let authorization = signed.authorization(&self.access_key_id, self.secret.expose());
        let request = self
            .client
            .put(format!("{}{path}", self.endpoint))
            .header("authorization", authorization)
            .header("x-amz-date", now)
            .header("x-amz-content-sha256", payload_sha256)
            .body(packed);
        let answer = http::send(request).await?;
        if answer.status.is_success() {
            // A page for people, such as a login's, comes from something before the store.
            let is_page = !answer.body.is_empty() && answer.content_type.starts_with("text/html");
            return if is_page { Err(answer.refusal("the upload, by something that is no store,")) } else { Ok(()) };
        }
        if answer.names("NoSuchBucket") {
            return Err(Failure::new(format!("there is no bucket {}; make it, or name another one", self.bucket)));
        }
        Err(answer.refusal("the upload"))
    }
}

fn zoned(item: &Item) -> Zoned {
    Timestamp::from_microsecond(item.entry.event.at.as_micros())
        .unwrap_or(Timestamp::UNIX_EPOCH)
        .to_zoned(TimeZone::UTC)
}

#[async_trait]
impl Destination for S3 {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let mut through = None;
        let mut pending: Vec<&Item> = Vec::new();
        for item in batch.items {
            if let Some(first) = pending.first()
                && zoned(first).date() != zoned(item).date()
            {
                self.put(&pending).await.map_err(|failure| failure.after(through))?;
                through = pending.last().map(|item| item.entry.event.seq);
                pending.clear();
            }
            pending.push(item);
        }
        self.put(&pending).await.map_err(|failure| failure.after(through))
    }
}
