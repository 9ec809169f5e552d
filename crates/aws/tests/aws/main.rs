//! The edge from outside: the router in this process, requests signed by AWS's own signer, the engine over the default
//! store.

mod channel;
mod clock;
mod data_channel_goldens;
mod delivery;
mod documents;
mod faults;
mod operations;
mod plugin;
mod signatures;
mod signing_suite;
mod world;
