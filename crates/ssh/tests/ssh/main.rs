//! The SSH door from outside, with real clients and servers and with a client that can misbehave.

mod dialer;
mod door;
mod kill;
mod openssh;
mod relay;
mod support;
