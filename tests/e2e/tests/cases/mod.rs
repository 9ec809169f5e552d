//! The subjects.

mod audit;
mod aws;
mod azure;
mod azure_tunnels;
mod bastion;
mod config;
mod crash;
mod documents;
mod first_light;
mod hostile;
mod kill;
mod plugin;
mod powershell;
mod recordings;
mod sinks;
mod ssh;
mod ssm;
