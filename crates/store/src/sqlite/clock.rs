//! The store's clock: the system's time, made to grow with every reading.

use ravelin_model::Time;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Gives each reading a time of its own. When the system's clock steps back, readings go on by one microsecond each
/// until it has caught up: order is kept, at the price of times that lie ahead for a while.
#[derive(Debug)]
pub(super) struct Clock {
    last: AtomicI64,
}

impl Clock {
    /// A clock whose readings all lie after `stored`, the latest time that the store holds.
    pub(super) fn after(stored: Time) -> Self {
        Self { last: AtomicI64::new(stored.as_micros()) }
    }

    /// A time later than every earlier reading.
    pub(super) fn now(&self) -> Time {
        self.not_before(system_micros())
    }

    fn not_before(&self, system: i64) -> Time {
        let next = |last: i64| system.max(last.saturating_add(1));
        let mut last = self.last.load(Ordering::Relaxed);
        // One number is all that is shared, so no ordering with other memory is needed.
        while let Err(seen) = self.last.compare_exchange_weak(last, next(last), Ordering::Relaxed, Ordering::Relaxed) {
            last = seen;
        }
        Time::from_micros(next(last))
    }
}

fn system_micros() -> i64 {
    // A clock before 1970 counts as 1970.
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_grow_even_when_the_system_clock_steps_back() {
        let clock = Clock::after(Time::from_micros(100));
        let readings = [50, 200, 200, 10, 203].map(|system| clock.not_before(system).as_micros());
        assert_eq!(readings, [101, 200, 201, 202, 203]);
    }
}
