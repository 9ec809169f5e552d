//! How many may stand at the door: connections that have not logged in, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts who stands at the door.
pub(super) struct Door {
    counts: Arc<Mutex<Counts>>,
    max: usize,
    per_address_max: usize,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A place at the door; given back when dropped.
pub(super) struct Ticket {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
}

impl Door {
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        Self { counts: Arc::default(), max, per_address_max }
    }

    /// A place for one more from `address`, if there is one.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Ticket> {
        let address = neighbourhood(address);
        let mut counts = hold(&self.counts);
        if counts.all >= self.max {
            return None;
        }
        let here = counts.by_address.entry(address).or_default();
        if *here >= self.per_address_max {
            return None;
        }
        *here += 1;
        counts.all += 1;
        Some(Ticket { counts: Arc::clone(&self.counts), address })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = hold(&self.counts);
        counts.all -= 1;
        if let Some(here) = counts.by_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// One host has a whole IPv6 network of 64 bits to choose addresses from.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

fn hold(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let door = Door::new(3, 2);
        let one = door.enter(ip("192.0.2.1")).expect("first");
        let _two = door.enter(ip("::ffff:192.0.2.1")).expect("second, the same host");
        assert!(door.enter(ip("192.0.2.1")).is_none(), "one address has two places");
        let _three = door.enter(ip("192.0.2.2")).expect("another address");
        assert!(door.enter(ip("192.0.2.3")).is_none(), "three in all");
        drop(one);
        let _four = door.enter(ip("192.0.2.1")).expect("a place was given back");
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let door = Door::new(10, 1);
        let _one = door.enter(ip("2001:db8::1")).expect("first");
        assert!(door.enter(ip("2001:db8::ffff:1")).is_none());
        assert!(door.enter(ip("2001:db8:0:1::1")).is_some());
    }
}
