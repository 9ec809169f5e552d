//! Machines and decoders of this dialect: bytes and `now` in, values out.
//!
//! Everything here takes untrusted bytes and is total: no input panics, allocates without bound or reaches a key, a
//! store or a socket. A caller that holds a secret lends it to one function, [`sigv4::Claim::signature`].
//!
//! - The control API: [`sigv4`], [`request`], [`instant`], [`violations`], [`session_document`].
//! - The data channel, either end: [`message`] is its header, [`delivery`] its order, [`channel`] its JSON, [`smux`] the
//!   connections inside it. [`client`] is the client's end of it all, [`escape`] what a person types into it;
//!   [`host`] is the server's machine over them.

pub mod channel;
pub mod client;
pub mod delivery;
pub mod escape;
pub mod host;
pub mod instant;
pub mod message;
pub mod request;
pub mod session_document;
pub mod sigv4;
pub mod smux;
pub mod violations;
