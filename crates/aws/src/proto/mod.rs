//! Machines and decoders of this dialect: bytes and `now` in, values out.
//!
//! Everything here takes untrusted bytes and is total: no input panics, allocates without bound or reaches a key, a
//! store or a socket. A caller that holds a secret lends it to one function, [`sigv4::Claim::signature`].
//!
//! - The control API: [`sigv4`], [`request`], [`instant`], [`violations`].
//! - The data channel, either end: [`message`] is its header, [`delivery`] its order, [`channel`] its JSON, [`smux`] the
//!   connections inside it.

pub mod channel;
pub mod delivery;
pub mod instant;
pub mod message;
pub mod request;
pub mod sigv4;
pub mod smux;
pub mod violations;
