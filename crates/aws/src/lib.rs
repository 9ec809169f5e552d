//! Edge: AWS Systems Manager Session Manager, the control API, as AWS's own command line and SDKs call it.
//!
//! It promises: `DescribeSessions`, `TerminateSession` and `GetConnectionStatus` of API version 2014-11-06 over AWS
//! JSON 1.1, each request proved by Signature Version 4, each fault in the service's own form. What is offered and what
//! is not, with sources: `docs/wire/aws.md`; every error: `docs/wire/aws-errors.md`.
//!
//! Start at [`server::router`]; then:
//!
//! - `server` takes one request through: proof, dispatch, answer.
//! - `api` has one file per operation.
//! - [`wire`] has the shapes, `map` turns them into ours and back, `refusal` says no.
//! - [`plugin`] is the client's side of a session's data channel, in the place of the vendor's plugin.
//! - [`proto`] verifies signatures and reads bodies: bytes in, values out.
//!
//! This crate never knows: a store, a socket, the policy engine, another dialect, or how a session moves bytes.

mod api;
#[cfg(test)]
mod golden;
mod map;
pub mod plugin;
pub mod proto;
mod refusal;
pub mod server;
pub mod wire;

use ravelin_model::policy::Action;
use std::time::Duration;

/// The key under which a target's name in this dialect stands in `Target::aliases`.
pub const ALIAS: &str = "aws";

/// Every operation that is offered, with the action that the policy is asked for.
pub const OPERATIONS: &[(&str, Action)] = &[
    ("DescribeSessions", Action::ListSessions),
    ("TerminateSession", Action::TerminateSession),
    ("GetConnectionStatus", Action::ReadTarget),
];

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
}

impl Config {
    /// The defaults, for `account_id` of 12 digits.
    #[must_use]
    pub fn new(account_id: impl Into<String>) -> Self {
        Self { account_id: account_id.into(), regions: None, skew_max: Duration::from_secs(5 * 60) }
    }
}
