//! What a destination promises, and the list of those there are.

mod azure_storage;
mod cloudwatch_logs;
mod file;
mod log_analytics;
mod otlp;
mod s3;
mod stdout;
mod syslog;
mod webhook;

use crate::config::{DestinationConfig, Names, SinkConfig};
use async_trait::async_trait;
use ravelin_model::ledger::Entry;
use ravelin_model::text::printable;
use serde_json::Value;
use tokio::task::{JoinError, JoinHandle};

/// Some events that follow each other, each with the record that the sink's schema makes of it. Events for which the
/// schema has no form are not among them.
pub(crate) struct Batch<'a> {
    /// Whose record it is.
    pub(crate) deployment: &'a str,
    /// The events, in order.
    pub(crate) items: &'a [Item],
}

/// One event of a batch.
pub(crate) struct Item {
    pub(crate) entry: Entry,
    pub(crate) record: Value,
}

/// Why a delivery did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For people: what happened, without secrets and without what deceives a reader.
    pub(crate) because: String,
    /// Everything up to this number has arrived all the same.
    pub(crate) through: Option<u64>,
    /// Whether fewer events at once may go through.
    pub(crate) is_too_much: bool,
}

impl Failure {
    pub(crate) fn new(because: impl Into<String>) -> Self {
        Self { because: printable(&because.into(), 500), through: None, is_too_much: false }
    }

    /// The same, when it was, or may have been, too much at once.
    pub(crate) fn too_much(mut self) -> Self {
        self.is_too_much = true;
        self
    }

    /// The same, when everything up to `seq` has arrived before it.
    pub(crate) fn after(mut self, seq: Option<u64>) -> Self {
        self.through = seq.or(self.through);
        self
    }
}

/// Takes batches to a far end.
///
/// `Ok` means that the far end has all of it, as surely as its protocol can tell. After a failure, and after a restart,
/// the same events come again.
#[async_trait]
pub(crate) trait Destination: Send {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure>;

    /// What an operator should know of the last delivery although it came to its end.
    fn remark(&self) -> Option<&str> {
        None
    }
}

/// Work that blocks a thread, one piece at a time.
///
/// A delivery that is given up leaves its piece running, for nothing can stop it. The next one waits for that piece before
/// it begins another, so a far end that stands still holds one thread, however often it is tried.
pub(crate) struct Blocking<T>(Option<JoinHandle<T>>);

impl<T: Send + 'static> Blocking<T> {
    pub(crate) fn new() -> Self {
        Self(None)
    }

    /// What came of the piece that was given up, if there is one. Given up itself, it leaves the piece where it is.
    pub(crate) async fn left_over(&mut self) -> Option<Result<T, JoinError>> {
        let outcome = self.0.as_mut()?.await;
        self.0 = None;
        Some(outcome)
    }

    /// Runs a piece, behind one that was given up. `None` when the runtime ends and took it along.
    pub(crate) async fn run(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let _nobody_asked = self.left_over().await;
        self.0 = Some(tokio::task::spawn_blocking(work));
        self.left_over().await?.ok()
    }
}

/// The destination that a configuration stands for. Nothing is opened or connected before the first delivery.
pub(crate) fn open(config: &SinkConfig, names: &Names) -> Result<Box<dyn Destination>, Failure> {
    Ok(match &config.destination {
        DestinationConfig::Stdout => Box::new(stdout::Stdout::new(std::io::stdout())),
        DestinationConfig::File { path, bytes_max, keep } => Box::new(file::File::new(path.clone(), *bytes_max, *keep)),
        DestinationConfig::Syslog { transport, facility } => {
            Box::new(syslog::Syslog::new(transport.clone(), *facility, &names.host)?)
        }
        DestinationConfig::Webhook { url, secret, ca } => {
            Box::new(webhook::Webhook::new(url, secret.clone(), ca.as_deref())?)
        }
        DestinationConfig::AzureStorage { endpoint, account, container, key, ca } => {
            Box::new(azure_storage::AzureStorage::new(endpoint, account, container, key.clone(), ca.as_deref(), names)?)
        }
        DestinationConfig::LogAnalytics { .. } => Box::new(log_analytics::LogAnalytics::new(&config.destination)?),
        DestinationConfig::CloudWatchLogs { group, stream } => {
            Box::new(cloudwatch_logs::CloudWatchLogs::new(group, stream)?)
        }
        DestinationConfig::S3 { .. } => Box::new(s3::S3::new(config, names)?),
        DestinationConfig::Otlp { endpoint, header, ca } => {
            Box::new(otlp::Otlp::new(endpoint, header.clone(), ca.as_deref(), names)?)
        }
    })
}

#[cfg(test)]
mod testing {
    use super::{Batch, Item};
    use ravelin_model::Time;
    use ravelin_model::audit::{AuditEvent, AuditKind, Deed};
    use ravelin_model::ledger::{Digest, Entry};
    use ravelin_model::session::Actor;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::ops::RangeInclusive;

    /// Events with these numbers, whose records are about a kilobyte long.
    pub(super) fn items(numbers: RangeInclusive<u64>) -> Vec<Item> {
        let item = |seq| {
            let facts = BTreeMap::new();
            let deed = Deed { kind: AuditKind::LoginRefused, actor: Actor::System, session: None, facts };
            let event = AuditEvent { seq, at: Time::EPOCH, deed };
            Item {
                entry: Entry { event, hash: Digest([0; 32]) },
                record: json!({ "seq": seq, "text": "x".repeat(1000) }),
            }
        };
        numbers.map(item).collect()
    }

    pub(super) fn batch(items: &[Item]) -> Batch<'_> {
        Batch { deployment: "d", items }
    }
}
