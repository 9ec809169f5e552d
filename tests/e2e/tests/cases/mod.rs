//! The subjects.

mod audit;
mod aws;
mod azure;
mod azure_tunnels;
mod bastion;
mod config;
mod crash;
mod disk_full;
mod documents;
mod first_light;
mod hostile;
mod kill;
mod object_store;
mod plugin;
mod powershell;
mod recordings;
mod recordings_aws;
mod sinks;
mod ssh;
mod ssm;
