//! The edge as its clients see it: requests through the router, over the engine and the default store.
//!
//! `world` sets up a deployment with two live sessions; `golden` replays the request files of `tests/golden`.

mod documents;
mod golden;
mod host;
mod late;
mod links;
mod login;
mod outside;
mod sessions;
mod slow;
mod tunnels;
mod world;
