//! How many may stand at the door: connections that have not logged in, in all and from one address.
//!
//! A full door does not turn newcomers away, because then a few hundred idle connections would lock everybody out: the
//! one that has stood there longest has to go, and before it those that have not even said who they are.

use crate::wire::Watch;
use ravelin_engine::leg::SocketHandle;
use ravelin_engine::neighbourhood;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often it is said that the door is full.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Knows who stands at the door.
pub(super) struct Door {
    places: Arc<Mutex<Places>>,
    max: usize,
    per_address_max: usize,
}

#[derive(Default)]
struct Places {
    // By order of arrival.
    taken: BTreeMap<u64, Place>,
    next: u64,
    warned: Option<Instant>,
}

struct Place {
    address: IpAddr,
    socket: SocketHandle,
    watch: Arc<Watch>,
}

/// A place at the door; given back when dropped.
pub(super) struct Ticket {
    places: Arc<Mutex<Places>>,
    number: u64,
}

impl Door {
    pub(super) fn new(max: usize, per_address_max: usize) -> Self {
        Self { places: Arc::default(), max: max.max(1), per_address_max: per_address_max.max(1) }
    }

    /// A place for one more from `address`. Where there is none, somebody else's connection is cut for it: of the same
    /// address when that has too many, of any when there are too many in all.
    pub(super) fn enter(&self, address: IpAddr, socket: SocketHandle, watch: Arc<Watch>) -> Ticket {
        let address = neighbourhood(address);
        let mut places = hold(&self.places);
        let here = places.taken.values().filter(|place| place.address == address).count();
        let who_goes = if here >= self.per_address_max {
            places.longest_there(Some(address))
        } else if places.taken.len() >= self.max {
            places.longest_there(None)
        } else {
            None
        };
        if let Some(place) = who_goes.and_then(|number| places.taken.remove(&number)) {
            place.socket.cut();
            if places.warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
                places.warned = Some(Instant::now());
                tracing::warn!(
                    from = %place.address,
                    waiting = places.taken.len() + 1,
                    "too many connections before login; the oldest are closed (said once a minute)"
                );
            }
        }
        let number = places.next;
        places.next += 1;
        places.taken.insert(number, Place { address, socket, watch });
        Ticket { places: Arc::clone(&self.places), number }
    }
}

impl Places {
    /// Who has stood there longest, silent ones before those that have spoken.
    fn longest_there(&self, of: Option<IpAddr>) -> Option<u64> {
        let candidates = || self.taken.iter().filter(|(_, place)| of.is_none_or(|address| place.address == address));
        let silent = candidates().find(|(_, place)| place.watch.software().is_empty());
        silent.or_else(|| candidates().next()).map(|(number, _)| *number)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // It is not there any more when somebody else was given the place.
        hold(&self.places).taken.remove(&self.number);
    }
}

fn hold(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_engine::leg::guard;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// A connection at the door, and its far end.
    async fn come(door: &Door, from: &str) -> (Ticket, ravelin_engine::leg::GuardedStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (near, far) = tokio::join!(listener.accept(), TcpStream::connect(address));
        let (stream, socket) = guard(near.expect("accepted").0);
        (door.enter(ip(from), socket, Arc::default()), stream, far.expect("connected"))
    }

    async fn is_cut(far: &mut TcpStream) -> bool {
        let read = tokio::time::timeout(Duration::from_millis(200), far.read(&mut [0])).await;
        matches!(read, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn the_oldest_of_the_same_address_goes_first() {
        let door = Door::new(3, 2);
        let mut other = come(&door, "192.0.2.9").await;
        let mut first = come(&door, "192.0.2.1").await;
        let mut second = come(&door, "::ffff:192.0.2.1").await;
        let mut third = come(&door, "192.0.2.1").await;
        assert!(is_cut(&mut first.2).await, "one address has two places");
        for stays in [&mut other, &mut second, &mut third] {
            assert!(!is_cut(&mut stays.2).await);
        }
        let _fourth = come(&door, "192.0.2.2").await;
        assert!(is_cut(&mut other.2).await, "three in all, and this one was there longest");
    }

    #[tokio::test]
    async fn a_place_is_given_back_and_an_ipv6_network_counts_as_one() {
        let door = Door::new(10, 1);
        let (ticket, _stream, _far) = come(&door, "2001:db8::1").await;
        drop(ticket);
        let mut one = come(&door, "2001:db8::2").await;
        assert!(!is_cut(&mut one.2).await);
        let _other_network = come(&door, "2001:db8:0:1::1").await;
        assert!(!is_cut(&mut one.2).await);
        let _same_network = come(&door, "2001:db8::ffff:1").await;
        assert!(is_cut(&mut one.2).await);
    }
}
