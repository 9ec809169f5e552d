//! What the engine counts about itself: sessions, their ends, kills, refused proofs, the store, and ghosts.
//!
//! Counting happens where a thing happens, by one atomic step; the gauges of live sessions are read from the registry.

use crate::gate::accountable;
use crate::registry::Registry;
use ravelin_model::Refusal;
use ravelin_model::meter::{Durations, Family, FamilyKind, LABEL_VALUES_MAX, Meter, OTHER, Sample, Value};
use ravelin_model::ports::Sinks;
use ravelin_model::principal::AuthMethod;
use ravelin_model::session::{EndReason, State};
use ravelin_model::sink::SinkStatus;
use ravelin_model::target::Protocol;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The calls of the store that are timed apart.
pub(crate) const STORE_CALLS: [&str; 10] =
    ["start", "open", "apply", "flush", "read", "list", "prune", "record", "events", "credentials"];

/// The engine's own figures.
pub(crate) struct EngineMeter {
    registry: Arc<Registry>,
    draining: Arc<AtomicBool>,
    sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
    started: Counts<Protocol>,
    ended: Counts<EndReason>,
    refused: Counts<AuthMethod>,
    kills: Durations,
    store: [StoreCall; STORE_CALLS.len()],
    store_answers: AtomicBool,
    ghosts: AtomicU64,
    ghost_checks: AtomicU64,
}

#[derive(Default)]
struct StoreCall {
    took: Durations,
    failed: AtomicU64,
}

/// One count for each word of a closed list.
struct Counts<T: 'static> {
    all: &'static [T],
    counts: Vec<AtomicU64>,
}

impl<T: Copy + PartialEq> Counts<T> {
    fn new(all: &'static [T]) -> Self {
        Self { all, counts: all.iter().map(|_| AtomicU64::new(0)).collect() }
    }

    fn note(&self, one: T) {
        if let Some(at) = self.all.iter().position(|other| *other == one) {
            self.counts[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    fn samples(&self, label: &'static str, word: impl Fn(T) -> &'static str) -> Vec<Sample> {
        let sample = |(one, count): (&T, &AtomicU64)| {
            Sample::new(vec![(label, word(*one).to_owned())], Value::Count(count.load(Ordering::Relaxed)))
        };
        self.all.iter().zip(&self.counts).map(sample).collect()
    }
}

impl EngineMeter {
    pub(crate) fn new(
        registry: Arc<Registry>,
        draining: Arc<AtomicBool>,
        sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
    ) -> Self {
        Self {
            registry,
            draining,
            sinks,
            started: Counts::new(&Protocol::ALL),
            ended: Counts::new(EndReason::ALL),
            refused: Counts::new(&AuthMethod::ALL),
            kills: Durations::default(),
            store: Default::default(),
            store_answers: AtomicBool::new(true),
            ghosts: AtomicU64::new(0),
            ghost_checks: AtomicU64::new(0),
        }
    }

    pub(crate) fn session_started(&self, protocol: Protocol) {
        self.started.note(protocol);
    }

    pub(crate) fn session_ended(&self, reason: EndReason) {
        self.ended.note(reason);
    }

    pub(crate) fn proof_refused(&self, method: AuthMethod) {
        self.refused.note(method);
    }

    /// From the request to end a session to both of its sockets closed.
    pub(crate) fn killed(&self, took: Duration) {
        self.kills.note(took);
    }

    /// One answer of the store, or that there was none. `call` is one of [`STORE_CALLS`].
    pub(crate) fn store_answered<T>(&self, call: &'static str, took: Duration, answer: &Result<T, Refusal>) {
        let failed = matches!(answer, Err(Refusal::Unavailable { .. } | Refusal::Internal { .. }));
        self.store_answers.store(!failed, Ordering::Relaxed);
        if let Some(at) = STORE_CALLS.iter().position(|name| *name == call) {
            self.store[at].took.note(took);
            self.store[at].failed.fetch_add(u64::from(failed), Ordering::Relaxed);
        }
    }

    /// What a comparison of the store with the registry found.
    pub(crate) fn ghosts_counted(&self, ghosts: usize) {
        self.ghosts.store(ghosts as u64, Ordering::Relaxed);
        self.ghost_checks.fetch_add(1, Ordering::Relaxed);
    }

    fn live(&self) -> Vec<Sample> {
        let live = self.registry.all();
        let names: BTreeSet<&str> = live.iter().map(|live| live.target.name.as_str()).collect();
        let named: BTreeSet<&str> = names.into_iter().take(LABEL_VALUES_MAX).collect();
        let mut counts: BTreeMap<(State, Protocol, &str), f64> = BTreeMap::new();
        for live in &live {
            let state = if live.ending().is_some() {
                State::Terminating
            } else if !live.connected.load(Ordering::Acquire) {
                State::Connecting
            } else if live.is_client_lost() {
                State::Disconnected
            } else {
                State::Connected
            };
            let name = named.get(live.target.name.as_str()).copied().unwrap_or(OTHER);
            *counts.entry((state, live.target.protocol, name)).or_default() += 1.0;
        }
        let sample = |((state, protocol, target), count): ((State, Protocol, &str), f64)| {
            let labels = vec![
                ("state", state.word().to_owned()),
                ("protocol", protocol.word().to_owned()),
                ("target", target.to_owned()),
            ];
            Sample::new(labels, Value::Level(count))
        };
        counts.into_iter().map(sample).collect()
    }
}

impl Meter for EngineMeter {
    fn read(&self) -> Vec<Family> {
        use FamilyKind::{Counter, Gauge, Histogram};
        let one = |value| vec![Sample::new(Vec::new(), value)];
        let level = |count: &AtomicU64| {
            #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; counts of sessions are small")]
            let level = count.load(Ordering::Relaxed) as f64;
            one(Value::Level(level))
        };
        let ready = !self.draining.load(Ordering::Acquire)
            && self.store_answers.load(Ordering::Relaxed)
            && accountable(&self.sinks).is_ok();
        let call = |name: &str| vec![("call", name.to_owned())];
        let calls = || STORE_CALLS.iter().zip(&self.store);
        let took = calls().map(|(name, c)| Sample::new(call(name), Value::Spread(c.took.spread()))).collect();
        let failed = |c: &StoreCall| Value::Count(c.failed.load(Ordering::Relaxed));
        let failed = calls().map(|(name, c)| Sample::new(call(name), failed(c))).collect();
        let checks = one(Value::Count(self.ghost_checks.load(Ordering::Relaxed)));
        vec![
            Family::new(Gauge, "ravelin_sessions", "Live sessions of this node", self.live()),
            Family::new(
                Counter,
                "ravelin_sessions_started",
                "Sessions that were admitted",
                self.started.samples("protocol", Protocol::word),
            ),
            Family::new(
                Counter,
                "ravelin_sessions_ended",
                "Sessions that ended, by the reason",
                self.ended.samples("reason", EndReason::word),
            ),
            Family::new(
                Histogram,
                "ravelin_kill_seconds",
                "From the request to end a session to both of its sockets closed",
                one(Value::Spread(self.kills.spread())),
            ),
            Family::new(
                Gauge,
                "ravelin_ghosts",
                "Sessions that the store lists as live on this node and that have no connection; must be 0",
                level(&self.ghosts),
            ),
            Family::new(Counter, "ravelin_ghost_checks", "Comparisons of the store with what is connected", checks),
            Family::new(
                Counter,
                "ravelin_logins_refused",
                "Proofs that were refused, by the method",
                self.refused.samples("method", AuthMethod::word),
            ),
            Family::new(Histogram, "ravelin_store_seconds", "How long the store took to answer, by the call", took),
            Family::new(Counter, "ravelin_store_failures", "Calls that the store did not or could not answer", failed),
            Family::new(
                Gauge,
                "ravelin_ready",
                "1 while new sessions are taken, the store answers and no sink is too far behind, otherwise 0",
                one(Value::Level(if ready { 1.0 } else { 0.0 })),
            ),
        ]
    }
}

/// Figures that are read from elsewhere when they are asked for.
pub(crate) struct Reading<F>(pub(crate) F);

impl<F: Fn() -> Vec<Family> + Send + Sync + 'static> Meter for Reading<F> {
    fn read(&self) -> Vec<Family> {
        (self.0)()
    }
}

/// How far the sinks are. The families are there without samples when there is no sink.
pub(crate) fn sink_families(statuses: &[SinkStatus]) -> Vec<Family> {
    use FamilyKind::{Counter, Gauge};
    let each = |value: fn(&SinkStatus) -> Value| {
        statuses.iter().map(|sink| Sample::new(vec![("sink", sink.name.clone())], value(sink))).collect()
    };
    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; a sink that far behind is full long before")]
    let level = |count: u64| Value::Level(count as f64);
    let levels = |count: fn(&SinkStatus) -> u64| {
        statuses.iter().map(|sink| Sample::new(vec![("sink", sink.name.clone())], level(count(sink)))).collect()
    };
    let (behind, behind_max) = (levels(|sink| sink.behind), levels(|sink| sink.behind_max));
    vec![
        Family::new(Gauge, "ravelin_sink_behind_events", "Events that a sink has not taken yet", behind),
        Family::new(
            Gauge,
            "ravelin_sink_behind_max_events",
            "Events that a sink may be behind before new sessions are refused",
            behind_max,
        ),
        Family::new(
            Counter,
            "ravelin_sink_delivered",
            "Events that a sink took since the node started",
            each(|sink| Value::Count(sink.delivered)),
        ),
        Family::new(
            Gauge,
            "ravelin_sink_failing",
            "1 while the last try of a sink has failed, otherwise 0",
            each(|sink| Value::Level(if sink.failures > 0 { 1.0 } else { 0.0 })),
        ),
    ]
}

/// Recordings that failed.
pub(crate) fn recording_families(failed: u64) -> Vec<Family> {
    let samples = vec![Sample::new(Vec::new(), Value::Count(failed))];
    vec![Family::new(
        FamilyKind::Counter,
        "ravelin_recordings_failed",
        "Recordings that could not be made or finished",
        samples,
    )]
}
