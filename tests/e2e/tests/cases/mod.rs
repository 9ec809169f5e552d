//! The subjects.

mod aws;
mod azure;
mod config;
mod crash;
mod first_light;
mod hostile;
mod kill;
mod ssh;
