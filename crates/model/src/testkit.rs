//! Contract suites of the ports: whatever stands behind a port passes its suite.
//!
//! A suite is a list of async functions that take the port and panic where the contract is broken. They need no runtime
//! of their own; the crate behind the port drives them with whichever it has. [`store`] is the one of
//! [`crate::ports::Store`], [`archive`] of [`crate::ports::Archive`].

pub mod archive;
pub mod store;
