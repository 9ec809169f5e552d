//! Machines and decoders of this dialect: bytes and `now` in, values out.
//!
//! Everything here takes untrusted bytes and is total: no input panics, allocates without bound or reaches a key, a
//! store or a socket. A caller that holds a secret lends it to one function, [`sigv4::Claim::signature`].

pub mod instant;
pub mod request;
pub mod sigv4;
pub mod violations;
