//! How much of one kind goes on record: so many in a minute from one source, the rest is counted, and the count goes
//! with the next one that is written. What costs its doer nothing, such as a refusal or a request, must not fill the record.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(crate) struct RecordQuota<K> {
    sources: Mutex<HashMap<K, Seen>>,
    window: Duration,
    written_max: u32,
    // Whether a source that there is no room to remember is written each time. Else it is not written at all.
    writes_unknown: bool,
}

struct Seen {
    window: Instant,
    written: u32,
    passed_over: u64,
}

/// For what anybody can do from anywhere: whatever the number of sources, it is bounded.
impl<K: Eq + Hash> Default for RecordQuota<K> {
    fn default() -> Self {
        Self { sources: Mutex::default(), window: Duration::from_secs(60), written_max: 30, writes_unknown: false }
    }
}

impl<K: Eq + Hash> RecordQuota<K> {
    const SOURCES_MAX: usize = 4096;

    /// So many of one source in each window, for what only those can do who are known: with more sources than can be
    /// remembered, some are written more often, and none is left out.
    pub(crate) fn new(window: Duration, written_max: u32) -> Self {
        Self { sources: Mutex::default(), window, written_max, writes_unknown: true }
    }

    /// `Some(how many were passed over before)` when this one is to be written.
    pub(crate) fn admit(&self, source: K) -> Option<u64> {
        let now = Instant::now();
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= Self::SOURCES_MAX && !sources.contains_key(&source) {
            sources.retain(|_, seen| now.duration_since(seen.window) < self.window);
            if sources.len() >= Self::SOURCES_MAX {
                if self.writes_unknown {
                    return Some(0);
                }
                tracing::warn!("deeds of too many sources at once; this one is not on record");
                return None;
            }
        }
        let seen = sources.entry(source).or_insert(Seen { window: now, written: 0, passed_over: 0 });
        if now.duration_since(seen.window) >= self.window {
            seen.window = now;
            seen.written = 0;
        }
        if seen.written < self.written_max {
            seen.written += 1;
            Some(std::mem::take(&mut seen.passed_over))
        } else {
            seen.passed_over += 1;
            None
        }
    }
}

/// The network that counts as one source: an IPv4 address, or 64 bits of an IPv6 address, which is what one host has.
#[must_use]
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_held_back_and_others_are_not() {
        let quota = RecordQuota::default();
        let written = (0..100).filter(|_| quota.admit("a").is_some()).count();
        assert_eq!(written, 30);
        assert_eq!(quota.admit("b"), Some(0));
    }

    #[test]
    fn more_sources_than_can_be_remembered_are_written_only_where_they_are_known() {
        let (anybody, known) = (RecordQuota::default(), RecordQuota::new(Duration::from_secs(60), 1));
        for source in 0..RecordQuota::<usize>::SOURCES_MAX {
            assert_eq!((anybody.admit(source), known.admit(source)), (Some(0), Some(0)));
        }
        assert_eq!((anybody.admit(usize::MAX), known.admit(usize::MAX)), (None, Some(0)));
        assert_eq!(known.admit(1), None, "who is remembered is held back");
    }

    #[test]
    fn one_host_of_ipv6_is_one_source() {
        let network = |text: &str| neighbourhood(text.parse().expect("an address"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
    }
}
