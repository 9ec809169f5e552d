//! Whether the clock can be believed, before anything is removed because it is too old.
//!
//! A machine that wakes up years ahead, until somebody sets its clock, must not take its whole history for old: what is
//! removed does not come back, and what is too old can wait a day.

use ravelin_model::Time;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// A clock that differs by more than this from what it was plus the time that passed was set, or the machine slept.
const LEAP_MAX: Duration = Duration::from_secs(3_600);
/// A clock that lies further than this beyond what was last put on record may be wrong.
const AWAY_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How long a doubtful clock has to go on without a leap. Whoever has to set it has noticed by then.
const STEADY_MIN: Duration = Duration::from_secs(24 * 3_600);

/// The system's time.
pub(crate) fn wall() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time::EPOCH.plus(since)
}

/// What is known of the clock so far.
pub(crate) struct ClockTrust {
    seen: Time,
    at: Instant,
    doubted: Option<Instant>,
}

impl ClockTrust {
    /// At a node's start; `latest` is when something was last put on record.
    pub(crate) fn new(latest: Option<Time>, wall: Time, at: Instant) -> Self {
        let away = latest.map_or(Duration::ZERO, |latest| wall.since(latest));
        if away > AWAY_MAX {
            let days = away.as_secs() / 86_400;
            let steady = STEADY_MIN.as_secs() / 3_600;
            tracing::warn!(
                "the clock is {days} days beyond what was last put on record; if it is wrong, set it: nothing is removed \
                 for its age before it has gone on for {steady} h"
            );
        }
        Self { seen: wall, at, doubted: (away > AWAY_MAX).then_some(at) }
    }

    /// The time by which age may be told now, `None` if by none: the earlier of the store's, which never goes back, and
    /// the system's.
    pub(crate) fn oldest_of(&mut self, store: Time, wall: Time, at: Instant) -> Option<Time> {
        let expected = self.seen.plus(at.saturating_duration_since(self.at));
        let leap = wall.since(expected).max(expected.since(wall));
        if leap > LEAP_MAX {
            tracing::warn!(
                "the clock was set by {} s; nothing is removed for its age before it has gone on for {} h",
                leap.as_secs(),
                STEADY_MIN.as_secs() / 3_600
            );
            self.doubted = Some(at);
        }
        (self.seen, self.at) = (wall, at);
        if self.doubted.is_some_and(|since| at.saturating_duration_since(since) < STEADY_MIN) {
            return None;
        }
        self.doubted = None;
        Some(store.min(wall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn day(n: u32) -> Time {
        Time::EPOCH.plus(24 * HOUR * n)
    }

    #[test]
    fn a_clock_that_leaps_ages_nothing_before_it_has_been_steady_for_a_day() {
        let begun = Instant::now();
        let mut clock = ClockTrust::new(Some(day(100)), day(100), begun);
        assert_eq!(clock.oldest_of(day(100), day(100), begun), Some(day(100)));
        // A year ahead, and an hour later back.
        assert_eq!(clock.oldest_of(day(465), day(465), begun + HOUR), None);
        let back = day(100).plus(2 * HOUR);
        assert_eq!(clock.oldest_of(day(465), back, begun + 2 * HOUR), None);
        assert_eq!(clock.oldest_of(day(465), back.plus(23 * HOUR), begun + 25 * HOUR), None);
        // The store's own time stays ahead; age goes by the system's.
        let now = back.plus(24 * HOUR);
        assert_eq!(clock.oldest_of(day(465), now, begun + 26 * HOUR), Some(now));
    }

    #[test]
    fn a_clock_far_beyond_the_record_is_doubted_from_the_start() {
        let begun = Instant::now();
        let mut fresh = ClockTrust::new(None, day(100), begun);
        assert_eq!(fresh.oldest_of(day(100), day(100), begun), Some(day(100)));
        let mut clock = ClockTrust::new(Some(day(98)), day(100), begun);
        assert_eq!(clock.oldest_of(day(100), day(100), begun), None);
        assert_eq!(clock.oldest_of(day(101), day(101), begun + 24 * HOUR), Some(day(101)));
    }
}
