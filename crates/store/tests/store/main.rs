//! The store and the archive on real files.

mod contract;
mod ledger;
mod library;
mod sqlite;
