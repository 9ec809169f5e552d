//! Backing: sessions, their audit record and the issued credentials, behind [`ravelin_model::ports::Store`].
//!
//! One module per database. [`sqlite`] is the default, embedded one: a single file, one writer thread with group
//! commit, readers in parallel.
//!
//! This crate knows the model and SQL. It never knows: an edge, the engine, a socket of a session, a vendor's name, or
//! a secret (a credential arrives here as a digest).

pub mod sqlite;

pub use sqlite::{Outcome, SqliteConfig, SqliteStore, StoreOpenError, verify_file};
