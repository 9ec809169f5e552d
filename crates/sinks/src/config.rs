//! What a sink is set to.

use crate::schema::Schema;
use ravelin_model::sink::SinkStart;
use secrecy::{ExposeSecret, SecretString};
use std::path::PathBuf;
use std::time::Duration;

/// What the dialects of the sinks call this deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Azure: the tenant.
    pub tenant: String,
    /// Azure: the subscription.
    pub subscription: String,
    /// Azure: the resource group.
    pub resource_group: String,
    /// Azure: the bastion's name.
    pub bastion_name: String,
    /// Azure: the location.
    pub location: String,
    /// AWS: the account.
    pub account: String,
    /// AWS: the region that records name.
    pub region: String,
    /// This machine, for syslog.
    pub host: String,
}

/// One sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkConfig {
    /// Its name; its place in the record is kept under it.
    pub name: String,
    /// The form of what it gets.
    pub schema: Schema,
    /// Where it begins when it is new.
    pub start: SinkStart,
    /// How far behind it may be, in events, before new sessions are refused.
    pub behind_max: u64,
    /// Most events of one delivery.
    pub batch_events: u32,
    /// How long events gather before a delivery.
    pub linger: Duration,
    /// Longest that one delivery may take.
    pub timeout: Duration,
    /// Where it leads.
    pub destination: DestinationConfig,
}

impl SinkConfig {
    /// How far behind a sink may be unless something else is said.
    pub const BEHIND_MAX: u64 = 1_000_000;
    /// Events of one delivery unless something else is said.
    pub const BATCH_EVENTS: u32 = 1000;
    /// How long a delivery may take unless something else is said.
    pub const TIMEOUT: Duration = Duration::from_secs(30);

    /// A sink with the defaults.
    #[must_use]
    pub fn new(name: &str, destination: DestinationConfig) -> Self {
        Self {
            name: name.to_owned(),
            schema: destination.schema(),
            start: SinkStart::Oldest,
            behind_max: Self::BEHIND_MAX,
            batch_events: Self::BATCH_EVENTS,
            linger: destination.linger(),
            timeout: Self::TIMEOUT,
            destination,
        }
    }
}

/// Text that does not show itself.
#[derive(Clone, Debug)]
pub struct Secret(pub SecretString);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret().trim()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

/// A log group of CloudWatch Logs, and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroupConfig {
    /// The service's address, such as `https://logs.eu-central-1.amazonaws.com`.
    pub endpoint: String,
    /// The region that signatures name.
    pub region: String,
    /// The log group's name.
    pub group: String,
    /// The access key's id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: Secret,
    /// Certificates to trust in place of the system's.
    pub ca: Option<String>,
}

/// Where a sink leads. URLs are checked when they are read; certificates are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DestinationConfig {
    /// JSON lines on standard output.
    Stdout,
    /// JSON lines in a file.
    File {
        /// The file that is written; older ones lie beside it as `name.1`, `name.2` and so on.
        path: PathBuf,
        /// Size at which a new file begins, in bytes.
        bytes_max: u64,
        /// Older files that are kept.
        keep: u32,
    },
    /// RFC 5424.
    Syslog {
        /// How it gets there.
        transport: SyslogTransport,
        /// The facility's number.
        facility: u8,
    },
    /// HTTP POST, signed with HMAC.
    Webhook {
        /// Where to.
        url: String,
        /// Signs each request.
        secret: Secret,
        /// Certificates to trust in place of the system's.
        ca: Option<String>,
    },
    /// An Azure storage account, in the layout of diagnostic logs.
    AzureStorage {
        /// The account's blob endpoint, such as `https://NAME.blob.core.windows.net`.
        endpoint: String,
        /// The account's name.
        account: String,
        /// The container.
        container: String,
        /// The account's key.
        key: Secret,
        /// Certificates to trust in place of the system's.
        ca: Option<String>,
    },
    /// The Logs Ingestion API of Log Analytics.
    LogAnalytics {
        /// The data collection endpoint.
        endpoint: String,
        /// The rule's immutable id.
        rule: String,
        /// The rule's stream.
        stream: String,
        /// Where tokens come from, such as `https://login.microsoftonline.com`.
        authority: String,
        /// The tenant.
        tenant: String,
        /// The application's id.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
        /// Certificates to trust in place of the system's.
        ca: Option<String>,
    },
    /// Objects in an S3 bucket.
    S3 {
        /// The service's address, such as `https://s3.eu-central-1.amazonaws.com`; the bucket is named in the path.
        endpoint: String,
        /// The bucket.
        bucket: String,
        /// The region that signatures name.
        region: String,
        /// What each object's name begins with; empty for nothing.
        prefix: String,
        /// The access key's id.
        access_key_id: String,
        /// Its secret.
        secret_access_key: Secret,
        /// Certificates to trust in place of the system's.
        ca: Option<String>,
    },
    /// A stream of a log group of CloudWatch Logs.
    CloudWatchLogs {
        /// The log group, which must be there.
        group: LogGroupConfig,
        /// The log stream, which is made when it is not there.
        stream: String,
    },
    /// OpenTelemetry's protocol over HTTP, as JSON: a log record for each event, a span for each session.
    Otlp {
        /// The collector's address, without `/v1/logs`.
        endpoint: String,
        /// A header that goes with each request, such as an authorization.
        header: Option<(String, Secret)>,
        /// Certificates to trust in place of the system's.
        ca: Option<String>,
    },
}

impl DestinationConfig {
    /// The word for it in the configuration and in lists.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::File { .. } => "file",
            Self::Syslog { .. } => "syslog",
            Self::Webhook { .. } => "webhook",
            Self::AzureStorage { .. } => "azure_storage",
            Self::LogAnalytics { .. } => "log_analytics",
            Self::S3 { .. } => "s3",
            Self::CloudWatchLogs { .. } => "cloudwatch_logs",
            Self::Otlp { .. } => "otlp",
        }
    }

    /// Where it leads, without secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::File { path, .. } => path.display().to_string(),
            Self::Syslog { transport, .. } => transport.shown(),
            Self::Webhook { url, .. } => without_query(url),
            Self::AzureStorage { endpoint, container, .. } => format!("{endpoint}/{container}"),
            Self::LogAnalytics { endpoint, stream, .. } => format!("{endpoint} {stream}"),
            Self::S3 { endpoint, bucket, .. } => format!("{endpoint}/{bucket}"),
            Self::CloudWatchLogs { group, stream } => format!("{} {} {stream}", group.endpoint, group.group),
            Self::Otlp { endpoint, .. } => endpoint.clone(),
        }
    }

    /// The form that is usual there.
    #[must_use]
    pub fn schema(&self) -> Schema {
        match self {
            Self::Stdout
            | Self::File { .. }
            | Self::Syslog { .. }
            | Self::Webhook { .. }
            | Self::CloudWatchLogs { .. }
            | Self::Otlp { .. } => Schema::Ravelin,
            Self::AzureStorage { .. } | Self::LogAnalytics { .. } => Schema::Azure,
            Self::S3 { .. } => Schema::CloudTrail,
        }
    }

    /// How long events gather unless something else is said: an hour's blob takes 50 000 appends, and objects are
    /// better few than many.
    #[must_use]
    pub fn linger(&self) -> Duration {
        match self {
            Self::Stdout | Self::File { .. } | Self::Syslog { .. } | Self::Webhook { .. } => Duration::ZERO,
            Self::Otlp { .. } => Duration::from_millis(500),
            Self::AzureStorage { .. } | Self::LogAnalytics { .. } | Self::CloudWatchLogs { .. } => {
                Duration::from_secs(2)
            }
            Self::S3 { .. } => Duration::from_secs(30),
        }
    }
}

/// How a syslog message gets there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SyslogTransport {
    /// RFC 6587, octet counting.
    Tcp(String),
    /// RFC 5425; the certificates to trust.
    Tls(String, String),
    /// RFC 5426. Nobody learns of a datagram that is lost on the way.
    Udp(String),
    /// A datagram socket of this machine, such as `/dev/log`.
    Unix(PathBuf),
}

impl SyslogTransport {
    fn shown(&self) -> String {
        match self {
            Self::Tcp(address) => format!("tcp://{address}"),
            Self::Tls(address, _) => format!("tls://{address}"),
            Self::Udp(address) => format!("udp://{address}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

/// A webhook's query may be its secret.
fn without_query(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or_default().to_owned()
}
