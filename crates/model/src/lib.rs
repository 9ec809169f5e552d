//! Ring 1: what Ravelin talks about, what may happen to it, and what it needs from outside.
//!
//! Start with [`session`]: it answers "when does a session end, and who is told?" in one file.
//! Then [`refusal`] (how anything says no), [`policy`] (what may be asked), [`ports`] (what a backing must do).
//!
//! This crate never knows: a socket, a runtime, a clock, a random source, a file, SQL, HTTP, or a vendor's name.
//! Time and ids come in as arguments.

pub mod audit;
pub mod credential;
pub mod document;
pub mod id;
pub mod inventory;
pub mod kept;
pub mod ledger;
pub mod meter;
pub mod policy;
pub mod ports;
pub mod principal;
pub mod query;
pub mod recording;
pub mod refusal;
pub mod session;
pub mod sink;
pub mod target;
#[cfg(feature = "testkit")]
pub mod testkit;
pub mod text;
pub mod time;

pub use id::{CredentialId, DocumentName, GroupName, Login, NodeId, PrincipalName, SessionId, TargetId, TargetName};
pub use kept::Keepsake;
pub use principal::Principal;
pub use refusal::{Detail, Refusal};
pub use session::Session;
pub use target::Target;
pub use time::Time;
