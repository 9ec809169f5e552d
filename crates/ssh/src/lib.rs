//! The SSH edge: people come in with the client they have, and Ravelin goes out to targets.
//!
//! Where to start:
//!
//! - [`server`] accepts connections, checks who comes, and opens what they may open. One file for each thing that a
//!   person can open: a program, a tunnel, a forward, the menu.
//! - `client` connects to a target, its host key pinned. [`Dialer`] is that connection for edges that are not SSH.
//! - `units` turns channels into sources and sinks of the engine's relay; `backlog` and `wire` keep memory small and
//!   the library's loops free.
//! - [`keys`] and [`user`] read what configuration and clients give as text.
//!
//! Specifications: RFC 4250 to 4254, 8308, 8332, and OpenSSH's PROTOCOL file for strict key exchange, agent forwarding
//! and keepalives. `docs/adr/0003-ssh-relay-shape.md` says why the relay works on channels.
//!
//! This crate never knows: HTTP, SQL, a vendor's name, a policy's text, or how a list of sessions looks.

mod algorithms;
mod backlog;
mod client;
pub mod keys;
pub mod server;
mod units;
pub mod user;
mod wire;

pub use client::{Dialer, WRONG_HOST_KEY};

/// How Ravelin names itself in SSH, to people and to targets.
pub(crate) const SOFTWARE: &str = concat!("SSH-2.0-Ravelin_", env!("CARGO_PKG_VERSION"));

/// What the system says, without its number.
fn in_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
