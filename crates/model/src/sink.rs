//! Sinks: destinations outside of the store to which every event goes, each at its own pace.

use crate::recording::LogKind;
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
    /// Why the last try failed, or what its destination did not take although it went well otherwise; `None` when nothing
    /// is to be said.
    pub last_error: Option<String>,
    /// Tries in a row that failed.
    pub failures: u64,
}

/// How a place is that takes the output of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlaceStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What stands behind it.
    pub kind: LogKind,
    /// Where it leads, without secrets; empty when the configuration has no such place any more.
    pub destination: String,
    /// Outputs of sessions that are over and not in it yet.
    pub behind: u64,
    /// When the first of these sessions ended; `None` when it has all.
    pub oldest_waiting: Option<Time>,
    /// Outputs that it took since the node started.
    pub delivered: u64,
    /// When it took the last, if it took one since the node started.
    pub last_delivery: Option<Time>,
    /// Why the last try failed; `None` when the last try went well.
    pub last_error: Option<String>,
    /// Tries in a row that failed.
    pub failures: u64,
}
