//! What the policy crate promises, from outside. One binary, because linking Cedar is slow.

mod default_policy;
mod documents;
mod faults;
mod questions;
mod world;
