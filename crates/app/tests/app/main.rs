//! The whole binary, started as people start it.

mod data_channel;
mod metrics;
mod permissions;
mod stopping;
