//! How many connections are inside: logged in, in all and of one principal. Who is still at the door is counted there.

use ravelin_model::PrincipalName;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Counts who is inside.
pub(super) struct Crowd {
    counts: Arc<Mutex<Counts>>,
    max: usize,
    per_principal_max: usize,
}

#[derive(Default)]
struct Counts {
    all: usize,
    by_principal: HashMap<PrincipalName, usize>,
}

/// A connection that is counted, until this is dropped.
pub(super) struct Seat {
    counts: Arc<Mutex<Counts>>,
    principal: PrincipalName,
}

impl Crowd {
    pub(super) fn new(max: usize, per_principal_max: usize) -> Self {
        Self { counts: Arc::default(), max, per_principal_max }
    }

    /// Room for one more connection of `principal`, or why there is none, in words for them.
    pub(super) fn seat(&self, principal: &PrincipalName) -> Result<Seat, String> {
        let mut counts = hold(&self.counts);
        if counts.all >= self.max {
            return Err(format!("there are {} connections to this bastion, which is its limit", self.max));
        }
        let theirs = counts.by_principal.entry(principal.clone()).or_default();
        if *theirs >= self.per_principal_max {
            return Err(format!("{principal} has {} connections, which is the limit", self.per_principal_max));
        }
        *theirs += 1;
        counts.all += 1;
        Ok(Seat { counts: Arc::clone(&self.counts), principal: principal.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut counts = hold(&self.counts);
        counts.all -= 1;
        if let Some(theirs) = counts.by_principal.get_mut(&self.principal) {
            *theirs -= 1;
            if *theirs == 0 {
                counts.by_principal.remove(&self.principal);
            }
        }
    }
}

fn hold(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_counted_and_given_back() {
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|name| PrincipalName::parse(name).expect("a name"));
        let crowd = Crowd::new(3, 2);
        let one = crowd.seat(&alice).expect("first");
        let _two = crowd.seat(&alice).expect("second");
        let third = crowd.seat(&alice).err();
        assert_eq!(third.as_deref(), Some("alice has 2 connections, which is the limit"));
        let _three = crowd.seat(&bob).expect("another person");
        assert!(crowd.seat(&carol).is_err(), "three in all");
        drop(one);
        let _four = crowd.seat(&carol).expect("a seat was given back");
    }
}
