//! Backing: ships the audit record to where people already look for it.
//!
//! Each sink is one task. It reads the record behind [`ravelin_model::ports::Ledger`] from its own durable place on, hands
//! a batch to its destination, and moves its place when the destination has everything. So a sink that is slow, down or
//! wrong holds up nothing but itself, and loses nothing: it goes on where it was. An event may arrive twice, always with
//! the same number; it never fails to arrive. When a sink is further behind than it may be, new sessions are refused.
//!
//! - [`shipping`]: the tasks, their places, their state; start here.
//! - [`config`]: what a sink is set to.
//! - [`lines`]: our own form of an event, written and read. `schema`: the others'.
//! - `destination`: what a destination promises; one module below it for each.
//! - `log_group`: a log group of CloudWatch Logs, which takes the output of sessions too.
//! - `http`, `sign`: requests, and what proves who sends them.
//!
//! This crate knows the model and wires. It never knows: the engine, a session's bytes, SQL, or an edge.

pub mod config;
mod destination;
mod http;
pub mod lines;
mod log_group;
mod schema;
pub mod shipping;
mod sign;

pub use config::{Names, SinkConfig};
pub use log_group::LogGroup;
pub use schema::Schema;
pub use shipping::Shipping;
