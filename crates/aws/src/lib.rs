//! Edge: AWS Systems Manager Session Manager, as AWS's own command line, SDKs and session plugin call it.
//!
//! It promises: every operation of API version 2014-11-06 that concerns sessions, and the data channel behind them, over
//! AWS JSON 1.1 and WebSocket, each request proved by Signature Version 4, each fault in the service's own form. What is offered and what
//! is not, with sources: `docs/wire/aws.md`; every error: `docs/wire/aws-errors.md`.
//!
//! Start at [`server::router`]; then:
//!
//! - `server` takes one request through: proof, dispatch, answer.
//! - `api` has the operations: one file each, or one for operations on the same thing.
//! - `channel` is the data channel: seats, connections, and the task of each session.
//! - [`wire`] has the shapes, `map` turns them into ours and back, `refusal` says no.
//! - [`plugin`] is the client's side of a session's data channel, in the place of the vendor's plugin.
//! - [`proto`] verifies signatures, reads bodies and documents, and is the data channel's machine: bytes in, values out.
//! - [`client`] is the other half: it calls the service, AWS's own or another Ravelin's.
//!
//! This crate never knows: a store, the policy engine, another dialect, or how a target is spoken to.

mod api;
mod channel;
pub mod client;
#[cfg(test)]
mod golden;
mod map;
pub mod plugin;
pub mod proto;
mod refusal;
pub mod server;
pub mod wire;

use ravelin_model::policy::Action;
use std::collections::BTreeMap;
use std::time::Duration;

/// The key under which a target's name in this dialect stands in `Target::aliases`.
pub const ALIAS: &str = "aws";

/// Every operation that is offered, with the action that the policy is asked for.
pub const OPERATIONS: &[(&str, Action)] = &[
    ("DescribeSessions", Action::ListSessions),
    ("TerminateSession", Action::TerminateSession),
    ("GetConnectionStatus", Action::ReadTarget),
    // The document says which of the ways to connect it is.
    ("StartSession", Action::OpenShell),
    ("ResumeSession", Action::ResumeSession),
    ("DescribeInstanceInformation", Action::ReadTarget),
    ("DescribeInstanceProperties", Action::ReadTarget),
    ("CreateDocument", Action::ManageDocuments),
    ("UpdateDocument", Action::ManageDocuments),
    ("UpdateDocumentDefaultVersion", Action::ManageDocuments),
    ("DeleteDocument", Action::ManageDocuments),
    ("GetDocument", Action::ReadDocuments),
    ("DescribeDocument", Action::ReadDocuments),
    ("ListDocuments", Action::ReadDocuments),
    ("ListDocumentVersions", Action::ReadDocuments),
    ("AddTagsToResource", Action::ManageDocuments),
    ("RemoveTagsFromResource", Action::ManageDocuments),
    ("ListTagsForResource", Action::ReadDocuments),
    ("GetServiceSetting", Action::ReadSettings),
    ("UpdateServiceSetting", Action::ManageSettings),
    ("ResetServiceSetting", Action::ManageSettings),
];

/// Whether a path is one of this edge's, beside `/`: those of data channels.
#[must_use]
pub fn owns_path(path: &str) -> bool {
    path.starts_with(channel::upgrade::PATH)
}

/// The managed instance id that a target bears unless the inventory gives another: `mi-` and the 17 hex digits of
/// `TargetId::hex`.
#[must_use]
pub fn target_id(hex17: &str) -> String {
    format!("mi-{hex17}")
}

/// What an operator can set on this edge.
#[derive(Clone, Debug)]
pub struct Config {
    /// The account that ARNs name: 12 digits.
    pub account_id: String,
    /// Regions that a signature's scope may name; `None` accepts any, because `--endpoint-url` does not change what a
    /// client has configured.
    pub regions: Option<Vec<String>>,
    /// How far a signer's clock may be off, either way. AWS allows five minutes.
    pub skew_max: Duration,
    /// Where clients reach the listener from outside, such as `https://bastion.example.org:8443`; `None` to take the
    /// scheme and the name that each request used.
    pub public_url: Option<String>,
    /// Whether a session needs a reason.
    pub reason_required: bool,
    /// Buckets that documents may have the output of sessions put in, by name.
    pub log_buckets: BTreeMap<String, LogHolder>,
    /// Log groups that documents may have the output of sessions put in, by name.
    pub log_groups: BTreeMap<String, LogHolder>,
}

/// A bucket or a log group that documents may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogHolder {
    /// Its region.
    pub region: String,
    /// Its URL, where it is not the vendor's own service.
    pub endpoint: Option<String>,
    /// Whether the operator says that what is in it is encrypted.
    pub encrypted: bool,
}

impl Config {
    /// The defaults, for `account_id` of 12 digits.
    #[must_use]
    pub fn new(account_id: impl Into<String>) -> Self {
        Self {
            account_id: account_id.into(),
            regions: None,
            skew_max: Duration::from_secs(5 * 60),
            public_url: None,
            reason_required: false,
            log_buckets: BTreeMap::new(),
            log_groups: BTreeMap::new(),
        }
    }
}
