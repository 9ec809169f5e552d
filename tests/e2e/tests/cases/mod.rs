//! The subjects.

mod audit;
mod aws;
mod azure;
mod azure_tunnels;
mod bastion;
mod channels;
mod config;
mod crash;
mod cuts;
mod disk_full;
mod documents;
mod first_light;
mod forwards;
mod hostile;
mod kill;
mod limits;
mod object_store;
mod outside_issuer;
mod plugin;
mod powershell;
mod recordings;
mod recordings_aws;
mod report;
mod sinks;
mod ssh;
mod ssm;
