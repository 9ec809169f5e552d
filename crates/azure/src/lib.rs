//! Edge: Ravelin as an Azure Bastion host.
//!
//! Scripts, SDKs and command lines that were written for Azure Bastion's session management work against this edge
//! with only the endpoint changed. It speaks
//!
//! - Azure Resource Manager under `/subscriptions`, as far as `Microsoft.Network/bastionHosts` and a client's way to it
//!   need: `getActiveSessions`, `disconnectActiveSessions`, and the reads around them;
//! - the OAuth 2.0 token endpoint with its discovery documents, so that the clients' own credentials work;
//! - the metadata document with which a command line registers a cloud;
//! - the data plane of the native client: `/api/tokens` and the WebSockets of its tunnels.
//!
//! What is offered, what is not and why, with sources: `docs/wire/azure.md`; the errors: `docs/wire/azure-errors.md`.
//!
//! | where | what |
//! |---|---|
//! | [`server`] | one constructor, [`server::router`]; the order in which a request is judged |
//! | `api` | one file per operation; the list of operations with their actions |
//! | [`proto`] | decoders of untrusted text: paths, queries, bodies, forms, tokens; no keys, no I/O |
//! | `wire` | shapes spelled as the service spells them |
//! | `map` | the only file that names both our words and theirs |
//! | `refusal` | how this dialect says no |
//! | `operations` | answers that come later |
//! | `tickets` | the secrets between a tunnel's wish and its socket |
//! | `io` | the thin driver that owns a tunnel's WebSocket |
//! | `outside` | bearer tokens of issuers that the configuration trusts |
//! | `issuer` | the key that signs tokens, and the check of what it signed |
//! | [`client`] | the other half: we call the real service, or another Ravelin |
//!
//! This crate never knows: SQL, another dialect, or a secret longer than it takes to check it.

mod api;
pub mod client;
mod config;
mod io;
mod issuer;
mod map;
mod operations;
mod outside;
pub mod proto;
mod quota;
mod refusal;
pub mod server;
mod tickets;
mod wire;

pub use api::{DATA_OPERATIONS, OPERATIONS};
pub use config::{Config, ConfigFault};
pub use issuer::{SigningKeys, generate_signing_key};
pub use map::target_id;
pub use outside::{KeyFetch, OutsideIssuer};

/// The key under which a target's resource id stands in [`ravelin_model::Target::aliases`].
pub const ALIAS: &str = "azure";

/// Whether a request to `path` belongs to this edge, whatever its method: ARM, the token endpoint, its discovery
/// documents and keys, the cloud's metadata, and the tunnels' data plane. Case is ignored and doubled slashes are tolerated, as by the service.
#[must_use]
pub fn owns_path(path: &str) -> bool {
    proto::path::parse(path) != proto::path::Route::Elsewhere
}
