//! Sinks: destinations outside of the store to which every event goes, each at its own pace.

use crate::time::Time;

/// Where a new sink begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SinkStart {
    /// With the oldest event that is kept.
    #[default]
    Oldest,
    /// With what happens from now on.
    Now,
}

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What stands behind it, such as `file` or `syslog`.
    pub kind: &'static str,
    /// Where it leads, without secrets.
    pub destination: String,
    /// It has everything up to this number.
    pub position: u64,
    /// Events that it has not taken yet.
    pub behind: u64,
    /// The time of the oldest event that it has not taken; `None` when it has all.
    pub oldest_waiting: Option<Time>,
    /// Events that it may be behind before new sessions are refused.
    pub behind_max: u64,
    /// Events that it took since the node started.
    pub delivered: u64,
    /// When it took the last batch, if it took one since the node started.
    pub last_delivery: Option<Time>,
    /// Why the last try failed; `None` when the last try went well.
    pub last_error: Option<String>,
    /// Tries in a row that failed.
    pub failures: u64,
}
