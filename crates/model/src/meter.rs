//! What Ravelin counts about itself. Whoever counts implements [`Meter`] and registers with [`Meters`]; whoever shows the
//! figures reads them all from there and knows nothing of what is behind them.
//!
//! Names follow the habits of the metrics world: lower case, the unit last, seconds and bytes. A family is there from the
//! start, with or without samples, so that a dashboard can be checked against a fresh node. A label's values are bounded by
//! whoever counts: words of closed lists, or at most [`LABEL_VALUES_MAX`] names and [`OTHER`] for the rest.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Most values that one label may take besides [`OTHER`].
pub const LABEL_VALUES_MAX: usize = 200;
/// Stands for all values beyond [`LABEL_VALUES_MAX`].
pub const OTHER: &str = "other";

/// Something that counts.
pub trait Meter: Send + Sync + 'static {
    /// The figures of this moment. Must not block and must not wait.
    fn read(&self) -> Vec<Family>;
}

/// How the figures of a family are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only grows while the process lives; samples are [`Value::Count`].
    Counter,
    /// Goes up and down; samples are [`Value::Level`].
    Gauge,
    /// Durations by size; samples are [`Value::Spread`].
    Histogram,
}

/// Figures of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Without the ending `_total` of counters, which the exposition adds.
    pub name: &'static str,
    /// One sentence without its final stop.
    pub help: &'static str,
    /// How they are meant.
    pub kind: FamilyKind,
    /// One for each combination of labels.
    pub samples: Vec<Sample>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Names and values.
    pub labels: Vec<(&'static str, String)>,
    /// The figure.
    pub value: Value,
}

/// A figure's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Of a counter.
    Count(u64),
    /// Of a gauge.
    Level(f64),
    /// Of a histogram.
    Spread(Spread),
}

/// Durations by size.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// All of them together, in seconds.
    pub sum: f64,
    /// Upper bound in seconds, and how many were above the bound before and not above this one. The last bound is
    /// [`f64::INFINITY`].
    pub buckets: Vec<(f64, u64)>,
}

impl Family {
    /// A family with its samples.
    #[must_use]
    pub fn new(kind: FamilyKind, name: &'static str, help: &'static str, samples: Vec<Sample>) -> Self {
        Self { name, help, kind, samples }
    }
}

impl Sample {
    /// A figure under these labels.
    #[must_use]
    pub fn new(labels: Vec<(&'static str, String)>, value: Value) -> Self {
        Self { labels, value }
    }
}

/// Everything that counts in this process.
#[derive(Default)]
pub struct Meters {
    all: Mutex<Vec<Arc<dyn Meter>>>,
}

impl Meters {
    /// Adds one. Its families must bear names of their own.
    pub fn register(&self, meter: Arc<dyn Meter>) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(meter);
    }

    /// The figures of all, in the order of registration.
    #[must_use]
    pub fn read(&self) -> Vec<Family> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.iter().flat_map(|meter| meter.read()).collect()
    }
}

/// Counts durations by size, without a lock.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [AtomicU64; Self::BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

impl Durations {
    /// Upper bounds of the classes, in microseconds: from a cached read to a call that was given up.
    pub const BOUNDS_MICROS: [u64; 14] = [
        250, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
        10_000_000,
    ];

    /// Counts one.
    pub fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let class = Self::BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(Self::BOUNDS_MICROS.len());
        self.counts[class].fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn spread(&self) -> Spread {
        let seconds = |micros: u64| Duration::from_micros(micros).as_secs_f64();
        let bounds = Self::BOUNDS_MICROS.iter().map(|micros| seconds(*micros)).chain([f64::INFINITY]);
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Spread { sum: seconds(self.sum_micros.load(Ordering::Relaxed)), buckets: bounds.zip(counts).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_one_class() {
        let durations = Durations::default();
        for micros in [0, 250, 251, 10_000_000, 10_000_001, u64::MAX / 1_000_000] {
            durations.note(Duration::from_micros(micros));
        }
        let spread = durations.spread();
        let counts: Vec<u64> = spread.buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (2, 1, 1, 2));
        assert!(spread.buckets.is_sorted_by(|a, b| a.0 < b.0));
    }
}
