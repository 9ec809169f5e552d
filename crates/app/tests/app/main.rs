//! The whole binary, started as people start it.

mod data_channel;
mod dev;
mod metrics;
mod permissions;
mod stopping;
