//! Edge: Ravelin's own API, REST under `/api/v1` with an event stream and an OpenAPI document, and the two health
//! checks.
//!
//! This crate is the specification of that API; `openapi.json` beside it is generated from the code and pinned by a
//! test, errors stand in `docs/wire/native-errors.md`.
//!
//! ```text
//! wire      the shapes, both ways; the command line uses them too
//! map       domain <-> wire
//! refusal   Refusal -> problem+json, one total match
//! server    routes, authentication, what is answered where no operation is
//! request   parameters, bodies and path segments, checked and named when wrong
//! api/      one file per operation
//! feed      the event stream: follows the record, one page at a time
//! stream    the client half of it: puts events together from bytes
//! ```
//!
//! This crate never knows: SQL, TLS, a socket, a configuration file, a cloud's dialect, the secret of a target.

mod api;
mod feed;
#[cfg(fuzzing)]
pub mod fuzzing;
#[cfg(test)]
mod golden;
mod map;
mod refusal;
mod request;
pub mod server;
pub mod stream;
#[cfg(test)]
mod tests;
pub mod wire;

pub use api::OPERATIONS;
pub use server::openapi;
