//! Sinks: from what is declared to what is shipped to.

use super::document::{Field, Section, Written};
use super::{Config, Reader, secret_file};
use ravelin_model::sink::SinkStart;
use ravelin_sinks::config::{DestinationConfig, LogGroupConfig, Secret, SyslogTransport};
use ravelin_sinks::{Names, Schema, SinkConfig};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// The types there are.
const TYPES: &[&str] =
    &["file", "stdout", "syslog", "webhook", "azure_storage", "log_analytics", "s3", "cloudwatch_logs", "otlp"];

/// RFC 5424's facilities that make sense here, with their numbers.
const FACILITIES: &[(&str, u8)] = &[
    ("user", 1),
    ("daemon", 3),
    ("auth", 4),
    ("authpriv", 10),
    ("audit", 13),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

/// The container that Azure itself writes these logs to.
const CONTAINER: &str = "insights-logs-bastionauditlogs";

/// One `[[sink]]`.
pub(super) struct SinkTable {
    here: Written<()>,
    name: Field<String>,
    kind: Field<String>,
    schema: Field<String>,
    start: Field<String>,
    behind_max: Field<u64>,
    batch_events: Field<u64>,
    linger: Field<Duration>,
    timeout: Field<Duration>,
    path: Field<String>,
    rotate_at: Field<u64>,
    keep: Field<u64>,
    address: Field<String>,
    facility: Field<String>,
    url: Field<String>,
    allow_plain_http: Field<bool>,
    ca: Field<String>,
    secret_file: Field<String>,
    account: Field<String>,
    container: Field<String>,
    key_file: Field<String>,
    rule: Field<String>,
    stream: Field<String>,
    authority: Field<String>,
    tenant: Field<String>,
    client_id: Field<String>,
    client_secret_file: Field<String>,
    bucket: Field<String>,
    group: Field<String>,
    region: Field<String>,
    prefix: Field<String>,
    access_key_id: Field<String>,
    secret_access_key_file: Field<String>,
    header: Field<String>,
    header_value_file: Field<String>,
}

impl SinkTable {
    pub(super) fn read(table: &mut Section<'_>) -> Self {
        let name = table.text("name");
        let kind = table.text("type");
        Self {
            here: table.here(),
            name: table.require("name", name, "write name = \"archive\"; its place in the record is kept under it"),
            kind: table.require("type", kind, "write type = \"file\", or another one of those in ravelin.example.toml"),
            schema: table.text("schema"),
            start: table.text("start"),
            behind_max: table.number("behind_max", 1, 1_000_000_000),
            batch_events: table.number("batch_events", 1, 10_000),
            linger: table.duration("linger"),
            timeout: table.duration("timeout"),
            path: table.text("path"),
            rotate_at: table.size("rotate_at"),
            keep: table.number("keep", 0, 10_000),
            address: table.text("address"),
            facility: table.text("facility"),
            url: table.text("url"),
            allow_plain_http: table.flag("allow_plain_http"),
            ca: table.text("ca"),
            secret_file: table.text("secret_file"),
            account: table.text("account"),
            container: table.text("container"),
            key_file: table.text("key_file"),
            rule: table.text("rule"),
            stream: table.text("stream"),
            authority: table.text("authority"),
            tenant: table.text("tenant"),
            client_id: table.text("client_id"),
            client_secret_file: table.text("client_secret_file"),
            bucket: table.text("bucket"),
            group: table.text("group"),
            region: table.text("region"),
            prefix: table.text("prefix"),
            access_key_id: table.text("access_key_id"),
            secret_access_key_file: table.text("secret_access_key_file"),
            header: table.text("header"),
            header_value_file: table.text("header_value_file"),
        }
    }

    fn reach(&self) -> Reach<'_> {
        Reach { here: &self.here, url: &self.url, allow_plain_http: &self.allow_plain_http }
    }

    /// Each key with whether it is there, by the types that it is for.
    fn particular(&self) -> [(&'static str, bool, &'static [&'static str]); 25] {
        fn there<T>(field: &Field<T>) -> bool {
            !matches!(field, Field::Absent)
        }
        const HTTP: &[&str] = &["webhook", "azure_storage", "log_analytics", "s3", "cloudwatch_logs", "otlp"];
        const AWS: &[&str] = &["s3", "cloudwatch_logs"];
        [
            ("path", there(&self.path), &["file"]),
            ("rotate_at", there(&self.rotate_at), &["file"]),
            ("keep", there(&self.keep), &["file"]),
            ("address", there(&self.address), &["syslog"]),
            ("facility", there(&self.facility), &["syslog"]),
            ("url", there(&self.url), HTTP),
            ("allow_plain_http", there(&self.allow_plain_http), HTTP),
            (
                "ca",
                there(&self.ca),
                &["syslog", "webhook", "azure_storage", "log_analytics", "s3", "cloudwatch_logs", "otlp"],
            ),
            ("secret_file", there(&self.secret_file), &["webhook"]),
            ("account", there(&self.account), &["azure_storage"]),
            ("container", there(&self.container), &["azure_storage"]),
            ("key_file", there(&self.key_file), &["azure_storage"]),
            ("rule", there(&self.rule), &["log_analytics"]),
            ("stream", there(&self.stream), &["log_analytics", "cloudwatch_logs"]),
            ("authority", there(&self.authority), &["log_analytics"]),
            ("tenant", there(&self.tenant), &["log_analytics"]),
            ("client_id", there(&self.client_id), &["log_analytics"]),
            ("client_secret_file", there(&self.client_secret_file), &["log_analytics"]),
            ("bucket", there(&self.bucket), &["s3"]),
            ("group", there(&self.group), &["cloudwatch_logs"]),
            ("region", there(&self.region), AWS),
            ("prefix", there(&self.prefix), &["s3"]),
            ("access_key_id", there(&self.access_key_id), AWS),
            ("secret_access_key_file", there(&self.secret_access_key_file), AWS),
            ("header", there(&self.header) || there(&self.header_value_file), &["otlp"]),
        ]
    }
}

/// The sinks, as far as nothing is wrong with them; faults have been reported.
pub(super) fn settle(tables: &[SinkTable], config: &Config, reader: &mut Reader) -> Vec<SinkConfig> {
    let mut names = BTreeSet::new();
    let mut sinks = Vec::new();
    for table in tables {
        if let Some(name) = table.name.given() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            if name.value.is_empty() || name.value.len() > 64 || !name.value.chars().all(plain) {
                reader.faults.push(name.fault("is not a sink's name", "use 1 to 64 small letters, digits, - and _"));
            } else if !names.insert(name.value.clone()) {
                reader.faults.push(name.fault("is the name of two sinks", "give each sink its own name"));
            }
        }
        sinks.extend(settle_one(table, config, reader));
    }
    sinks
}

fn settle_one(table: &SinkTable, config: &Config, reader: &mut Reader) -> Option<SinkConfig> {
    let kind = table.kind.given()?;
    if !TYPES.contains(&kind.value.as_str()) {
        reader.faults.push(kind.fault("is not a type of sink", format!("the types are {}", TYPES.join(", "))));
        return None;
    }
    for (key, is_there, types) in table.particular() {
        if is_there && !types.contains(&kind.value.as_str()) {
            let mut fault = table.here.fault(
                format!("a sink of type {} has no {key}", kind.value),
                format!("remove {key}; it is for the types {}", types.join(", ")),
            );
            fault.value = None;
            reader.faults.push(fault);
        }
    }
    let mut schema = None;
    if let Some(word) = table.schema.given() {
        schema = Schema::from_word(&word.value);
        if schema.is_none() {
            let known: Vec<&str> = Schema::ALL.iter().map(|schema| schema.word()).collect();
            reader.faults.push(word.fault("is not a schema", format!("the schemas are {}", known.join(", "))));
        }
    }
    let mut start = SinkStart::default();
    if let Some(word) = table.start.given() {
        match word.value.as_str() {
            "oldest" => start = SinkStart::Oldest,
            "now" => start = SinkStart::Now,
            _ => reader.faults.push(word.fault("is not where a sink can start", "write \"oldest\" or \"now\"")),
        }
    }
    if let Some(written) = table.timeout.given()
        && !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&written.value)
    {
        reader.faults.push(written.fault("is out of range", "write a duration from 1 s to 10 min"));
    }
    if let Some(written) = table.linger.given()
        && written.value > Duration::from_secs(600)
    {
        reader.faults.push(written.fault("is out of range", "write at most \"10 min\""));
    }
    let destination = destination(&kind.value, table, config, reader)?;
    let mut sink = SinkConfig::new(&table.name.given()?.value, destination);
    sink.schema = schema.unwrap_or(sink.schema);
    sink.start = start;
    sink.behind_max = table.behind_max.value_or(sink.behind_max);
    let batch = table.batch_events.value_or(u64::from(sink.batch_events));
    sink.batch_events = u32::try_from(batch).unwrap_or(sink.batch_events);
    sink.linger = table.linger.value_or(sink.linger);
    sink.timeout = table.timeout.value_or(sink.timeout);
    Some(sink)
}

fn destination(kind: &str, table: &SinkTable, config: &Config, reader: &mut Reader) -> Option<DestinationConfig> {
    match kind {
        "stdout" => Some(DestinationConfig::Stdout),
        "file" => {
            if let Some(written) = table.rotate_at.given()
                && written.value < 1 << 16
            {
                reader.faults.push(written.fault("is too small", "write at least \"64 KiB\""));
            }
            let path = reader.needed(&table.here, "path", &table.path, "write path = \"audit.jsonl\"")?.path();
            let keep = u32::try_from(table.keep.value_or(10)).unwrap_or(u32::MAX);
            Some(DestinationConfig::File { path, bytes_max: table.rotate_at.value_or(100 << 20), keep })
        }
        "syslog" => {
            let facility = match table.facility.given() {
                None => Some(13),
                Some(word) => {
                    let number = FACILITIES.iter().find(|(name, _)| *name == word.value).map(|(_, number)| *number);
                    if number.is_none() {
                        let known: Vec<&str> = FACILITIES.iter().map(|(name, _)| *name).collect();
                        let fix = format!("write one of {}", known.join(", "));
                        reader.faults.push(word.fault("is not a facility", fix));
                    }
                    number
                }
            };
            let fix = "write address = \"tls://logs.example.org:6514\"";
            let address = reader.needed(&table.here, "address", &table.address, fix)?;
            let transport = transport(address, table, reader)?;
            Some(DestinationConfig::Syslog { transport, facility: facility? })
        }
        "webhook" => {
            let url = url(&table.reach(), "https://hooks.example.org/ravelin", reader);
            let secret = secret(&table.here, "secret_file", &table.secret_file, reader);
            Some(DestinationConfig::Webhook { ca: ca(&table.ca, reader)?, url: url?, secret: secret? })
        }
        "azure_storage" => {
            let account = reader.needed(&table.here, "account", &table.account, "write the storage account's name");
            let key = secret(&table.here, "key_file", &table.key_file, reader);
            let endpoint = match (&table.url, account) {
                (Field::Absent, account) => {
                    account.map(|account| format!("https://{}.blob.core.windows.net", account.value))
                }
                _ => url(&table.reach(), "https://NAME.blob.core.windows.net", reader),
            };
            Some(DestinationConfig::AzureStorage {
                ca: ca(&table.ca, reader)?,
                endpoint: endpoint?,
                account: account?.value.clone(),
                container: table.container.value_or(CONTAINER.to_owned()),
                key: key?,
            })
        }
        "log_analytics" => {
            let endpoint = url(&table.reach(), "https://NAME.REGION-1.ingest.monitor.azure.com", reader);
            let rule = reader.needed(&table.here, "rule", &table.rule, "write the rule's immutable id, such as dcr-…");
            let stream =
                reader.needed(&table.here, "stream", &table.stream, "write the rule's stream, such as Custom-…_CL");
            let client_id = reader.needed(&table.here, "client_id", &table.client_id, "write the application's id");
            let client_secret = secret(&table.here, "client_secret_file", &table.client_secret_file, reader);
            Some(DestinationConfig::LogAnalytics {
                ca: ca(&table.ca, reader)?,
                endpoint: endpoint?,
                rule: rule?.value.clone(),
                stream: stream?.value.clone(),
                authority: table.authority.value_or("https://login.microsoftonline.com".to_owned()),
                tenant: table.tenant.value_or(config.azure.tenant.clone()),
                client_id: client_id?.value.clone(),
                client_secret: client_secret?,
            })
        }
        "s3" => {
            let bucket = reader.needed(&table.here, "bucket", &table.bucket, "write the bucket's name");
            let region = reader.needed(&table.here, "region", &table.region, "write the bucket's region");
            let id = reader.needed(&table.here, "access_key_id", &table.access_key_id, "write the access key's id");
            let key = secret(&table.here, "secret_access_key_file", &table.secret_access_key_file, reader);
            let endpoint = match (&table.url, region) {
                (Field::Absent, region) => region.map(|region| format!("https://s3.{}.amazonaws.com", region.value)),
                _ => url(&table.reach(), "https://s3.eu-central-1.amazonaws.com", reader),
            };
            Some(DestinationConfig::S3 {
                ca: ca(&table.ca, reader)?,
                endpoint: endpoint?,
                bucket: bucket?.value.clone(),
                region: region?.value.clone(),
                prefix: table.prefix.value_or(String::new()),
                access_key_id: id?.value.clone(),
                secret_access_key: key?,
            })
        }
        "cloudwatch_logs" => {
            let keys = LogGroupKeys {
                reach: table.reach(),
                group: &table.group,
                region: &table.region,
                access_key_id: &table.access_key_id,
                secret_access_key_file: &table.secret_access_key_file,
                ca: &table.ca,
            };
            let group = log_group(&keys, reader)?;
            Some(DestinationConfig::CloudWatchLogs { group, stream: table.stream.value_or("ravelin".to_owned()) })
        }
        _ => {
            let endpoint = url(&table.reach(), "https://otel.example.org:4318", reader);
            let header = match table.header.given() {
                None => None,
                Some(name) => {
                    let value = secret(&table.here, "header_value_file", &table.header_value_file, reader)?;
                    Some((name.value.clone(), value))
                }
            };
            Some(DestinationConfig::Otlp { ca: ca(&table.ca, reader)?, endpoint: endpoint?, header })
        }
    }
}

/// How a far end is reached that is spoken to over HTTP.
pub(super) struct Reach<'a> {
    pub(super) here: &'a Written<()>,
    pub(super) url: &'a Field<String>,
    pub(super) allow_plain_http: &'a Field<bool>,
}

/// What names a log group, and who we are there.
pub(super) struct LogGroupKeys<'a> {
    pub(super) reach: Reach<'a>,
    pub(super) group: &'a Field<String>,
    pub(super) region: &'a Field<String>,
    pub(super) access_key_id: &'a Field<String>,
    pub(super) secret_access_key_file: &'a Field<String>,
    pub(super) ca: &'a Field<String>,
}

/// A log group, as far as nothing is wrong with it; faults have been reported.
pub(super) fn log_group(keys: &LogGroupKeys<'_>, reader: &mut Reader) -> Option<LogGroupConfig> {
    let here = keys.reach.here;
    let group = reader.needed(here, "group", keys.group, "write the log group's name");
    let region = reader.needed(here, "region", keys.region, "write the log group's region");
    let id = reader.needed(here, "access_key_id", keys.access_key_id, "write the access key's id");
    let key = secret(here, "secret_access_key_file", keys.secret_access_key_file, reader);
    let endpoint = match (keys.reach.url, region) {
        (Field::Absent, region) => region.map(|region| format!("https://logs.{}.amazonaws.com", region.value)),
        _ => url(&keys.reach, "https://logs.eu-central-1.amazonaws.com", reader),
    };
    Some(LogGroupConfig {
        ca: ca(keys.ca, reader)?,
        endpoint: endpoint?,
        region: region?.value.clone(),
        group: group?.value.clone(),
        access_key_id: id?.value.clone(),
        secret_access_key: key?,
    })
}

fn transport(address: &Written<String>, table: &SinkTable, reader: &mut Reader) -> Option<SyslogTransport> {
    let fix = "write tcp://, tls:// or udp:// with a host and a port, or unix: with a path";
    if let Some(path) = address.value.strip_prefix("unix:") {
        return Some(SyslogTransport::Unix(path.into()));
    }
    let Some((scheme, place)) = address.value.split_once("://") else {
        reader.faults.push(address.fault("is not an address of a syslog server", fix));
        return None;
    };
    let has_port = place.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    match scheme {
        "tcp" if has_port => Some(SyslogTransport::Tcp(place.to_owned())),
        "udp" if has_port => Some(SyslogTransport::Udp(place.to_owned())),
        "tls" if has_port => {
            let fix = "name the file with the certificates to trust";
            let named = reader.needed(&table.here, "ca", &table.ca, fix)?;
            let pem = reader.text_of(&named.path(), Some(named))?;
            Some(SyslogTransport::Tls(place.to_owned(), pem))
        }
        _ => {
            reader.faults.push(address.fault("is not an address of a syslog server", fix));
            None
        }
    }
}

fn secret(here: &Written<()>, key: &str, field: &Field<String>, reader: &mut Reader) -> Option<Secret> {
    let named = reader.needed(here, key, field, &format!("write {key} = \"…\", a file of mode 0600"))?;
    secret_file::read(named, reader).map(Secret)
}

fn ca(field: &Field<String>, reader: &mut Reader) -> Option<Option<String>> {
    match field.given() {
        None => Some(None),
        Some(named) => reader.text_of(&named.path(), Some(named)).map(Some),
    }
}

fn url(reach: &Reach<'_>, example: &str, reader: &mut Reader) -> Option<String> {
    let written = reader.needed(reach.here, "url", reach.url, &format!("write url = \"{example}\""))?;
    let fix = format!("write it as \"{example}\"");
    let Ok(uri) = written.value.parse::<http::Uri>() else {
        reader.faults.push(written.fault("is not a URL", fix));
        return None;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Some(written.value.clone()),
        Some("http") if is_loopback || reach.allow_plain_http.value_or(false) => Some(written.value.clone()),
        Some("http") => {
            let fix = "use https, or set allow_plain_http = true";
            reader.faults.push(written.fault("would send the record without encryption", fix));
            None
        }
        _ => {
            reader.faults.push(written.fault("is not an http or https URL", fix));
            None
        }
    }
}

/// What the sinks' dialects call the deployment.
pub(crate) fn names(config: &Config) -> Names {
    let azure = &config.azure;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Names {
        tenant: azure.tenant.clone(),
        subscription: azure.subscription.clone(),
        resource_group: azure.resource_group.clone(),
        bastion_name: azure.bastion_name.clone(),
        location: azure.location.clone(),
        account: config.aws.account.clone(),
        region: config.aws.regions.first().cloned().unwrap_or_else(|| "local".to_owned()),
        host: host.trim().to_owned(),
    }
}
