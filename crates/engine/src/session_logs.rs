//! Puts the output of sessions where their documents want it, once each is over or line by line: the engine's half, which
//! knows what is due, and never how a place is spoken to.
//!
//! INVARIANT: what is due is taken from the store's list only once its place has all of it, or once it is certain that
//! there is nothing to put there. The list is written with the session's own row, and the output is read from its
//! recording, so a crash in any step costs a repetition. Recordings and rows that are still due are not removed by
//! retention.
//!
//! A place that fails is left alone for the rest of a round, and what never failed comes first: neither a place that is
//! away nor one odd session holds up the rest.

use ravelin_model::meter::{Family, FamilyKind, Meter, Sample, Value};
use ravelin_model::ports::{Archive, Outlet, Recorder, Store};
use ravelin_model::recording::{Broken, Form, LogKind, LogPlace, LogsBehind, Request};
use ravelin_model::session::Recording;
use ravelin_model::sink::LogPlaceStatus;
use ravelin_model::{Refusal, Session, SessionId, Time};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Places that take the output of sessions, by their kind and their name in the configuration.
pub type Outlets = BTreeMap<(LogKind, String), Arc<dyn Outlet>>;

/// How often what is due is looked for when nothing calls for it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After a failure, the first time; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// After a failure, at most.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// What one round looks at of one place.
const ROUND_MAX: u32 = 1_000;
/// Longest that one session's output may take to one place.
const PUT_MAX: Duration = Duration::from_secs(3600);
/// How long lines go to a place before its last failure is over; longer than one call may take.
const WELL_AFTER: Duration = Duration::from_secs(40);
/// How long after its end a session without a recording may still turn out to have one.
const UNRECORDED_AFTER: Duration = Duration::from_secs(600);

type Due = (SessionId, LogKind);
/// A place, by its kind and its name in the configuration.
type Holder = (LogKind, String);

/// How a place is, as far as it is known here.
#[derive(Clone, Debug, Default)]
struct Health {
    behind: u64,
    oldest_waiting: Option<Time>,
    delivered: u64,
    last_delivery: Option<Time>,
    last_error: Option<String>,
    failures: u64,
}

/// The logs of sessions.
pub(crate) struct SessionLogs {
    outlets: Outlets,
    recorder: Arc<dyn Recorder>,
    archive: Arc<dyn Archive>,
    store: Arc<dyn Store>,
    wake: Notify,
    waiting: AtomicU64,
    delivered: AtomicU64,
    failures: AtomicU64,
    health: Mutex<BTreeMap<Holder, Health>>,
    // How often each has failed. Of what one round looks at, so no longer than that.
    failing: Mutex<HashMap<Due, u32>>,
    // Of live sessions, and of those whose last lines are on their way.
    streaming: Mutex<HashSet<Due>>,
}

impl SessionLogs {
    pub(crate) fn new(
        outlets: Outlets,
        recorder: Arc<dyn Recorder>,
        archive: Arc<dyn Archive>,
        store: Arc<dyn Store>,
    ) -> Arc<Self> {
        Arc::new(Self {
            outlets,
            recorder,
            archive,
            store,
            wake: Notify::new(),
            waiting: AtomicU64::default(),
            delivered: AtomicU64::default(),
            failures: AtomicU64::default(),
            health: Mutex::default(),
            failing: Mutex::default(),
            streaming: Mutex::default(),
        })
    }

    /// One more recording has come to its end.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Whether there is such a place.
    pub(crate) fn has(&self, place: &LogPlace) -> bool {
        self.outlets.contains_key(&(place.kind, place.holder.clone()))
    }

    /// How the places are, those of the configuration and those that something still waits for.
    pub(crate) fn statuses(&self) -> Vec<LogPlaceStatus> {
        let mut health: BTreeMap<Holder, Health> = self.health().clone();
        for holder in self.outlets.keys() {
            health.entry(holder.clone()).or_default();
        }
        let status = |((kind, name), health): (Holder, Health)| LogPlaceStatus {
            destination: self.outlets.get(&(kind, name.clone())).map(|outlet| outlet.destination()).unwrap_or_default(),
            name,
            kind,
            behind: health.behind,
            oldest_waiting: health.oldest_waiting,
            delivered: health.delivered,
            last_delivery: health.last_delivery,
            last_error: health.last_error,
            failures: health.failures,
        };
        health.into_iter().map(status).collect()
    }

    fn health(&self) -> MutexGuard<'_, BTreeMap<Holder, Health>> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how far each place is behind.
    fn weigh(&self, behind: &[LogsBehind]) {
        let mut health = self.health();
        for health in health.values_mut() {
            (health.behind, health.oldest_waiting) = (0, None);
        }
        for place in behind {
            let health = health.entry((place.kind, place.holder.clone())).or_default();
            (health.behind, health.oldest_waiting) = (place.sessions, Some(place.oldest));
        }
        health.retain(|holder, health| self.outlets.contains_key(holder) || health.behind > 0);
    }

    fn went_well(&self, holder: &Holder) {
        if let Some(health) = self.health().get_mut(holder) {
            (health.last_error, health.failures) = (None, 0);
        }
    }

    fn went_wrong(&self, holder: &Holder, because: &Broken) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health();
        let health = health.entry(holder.clone()).or_default();
        health.last_error = Some(because.to_string());
        health.failures += 1;
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<Due, u32>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            match self.round().await {
                Ok(true) => {
                    pause = PAUSE_MIN;
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                    continue;
                }
                Ok(false) => {}
                Err(refusal) => tracing::error!(?refusal, "what is due of sessions' logs cannot be read or noted"),
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Puts everywhere what is due. `false` when something is still due that was tried.
    async fn round(&self) -> Result<bool, Refusal> {
        self.waiting.store(self.archive.logs_waiting().await?, Ordering::Relaxed);
        let behind = self.archive.logs_behind().await?;
        self.weigh(&behind);
        let mut all = true;
        let mut looked_at: HashSet<Due> = HashSet::new();
        for place in behind {
            let mut due = self.archive.logs_due(place.kind, &place.holder, ROUND_MAX).await?;
            looked_at.extend(due.iter().map(|session| (session.draft.id.clone(), place.kind)));
            {
                let failing = self.failing();
                due.sort_by_cached_key(|session| {
                    failing.get(&(session.draft.id.clone(), place.kind)).copied().unwrap_or_default()
                });
            }
            let holder = (place.kind, place.holder);
            for session in due {
                if !self.settle(&session, &holder).await? {
                    all = false;
                    break;
                }
            }
        }
        self.failing().retain(|due, _| looked_at.contains(due));
        Ok(all)
    }

    /// Puts the output of one session where it is due. `false` when the place does not take it.
    async fn settle(&self, session: &Session, holder: &Holder) -> Result<bool, Refusal> {
        let (id, kind) = (&session.draft.id, holder.0);
        let Some(place) = session.draft.logs.iter().find(|place| place.kind == kind) else {
            // The row has the places that the list has.
            self.archive.log_done(id, kind).await?;
            return Ok(true);
        };
        if self.streaming().contains(&(id.clone(), kind)) {
            return Ok(true);
        }
        if session.recording == Recording::None {
            let now = self.store.now().await?;
            let since = session.ended().map(|ended| ended.plus(UNRECORDED_AFTER));
            if since.is_some_and(|since| since < now) {
                tracing::info!(session = %id, "a session that opened nothing has no output to log");
                self.archive.log_done(id, kind).await?;
            }
            return Ok(true);
        }
        let put = tokio::time::timeout(PUT_MAX, self.put(session, place)).await;
        match put.unwrap_or_else(|_| Err(Broken::new("it did not take it all in time"))) {
            Ok(()) => {
                self.archive.log_done(id, kind).await?;
                self.failing().remove(&(id.clone(), kind));
                self.delivered.fetch_add(1, Ordering::Relaxed);
                self.waiting.fetch_sub(1, Ordering::Relaxed);
                let now = self.store.now().await?;
                let mut health = self.health();
                let health = health.entry(holder.clone()).or_default();
                health.behind = health.behind.saturating_sub(1);
                health.delivered += 1;
                (health.last_delivery, health.last_error, health.failures) = (Some(now), None, 0);
                if health.behind == 0 {
                    health.oldest_waiting = None;
                }
                tracing::debug!(session = %id, place = place.holder, "the output of a session was put in its place");
                Ok(true)
            }
            Err(broken) => {
                self.went_wrong(holder, &broken);
                tracing::error!(
                    session = %id, place = place.holder, because = %broken,
                    "the output of a session is not in its place yet; trying again"
                );
                let mut failing = self.failing();
                let tries = failing.entry((id.clone(), kind)).or_default();
                *tries = tries.saturating_add(1);
                Ok(false)
            }
        }
    }

    /// Puts the output of one session in one place.
    async fn put(&self, session: &Session, place: &LogPlace) -> Result<(), Broken> {
        let id = &session.draft.id;
        let outlet = self.outlets.get(&(place.kind, place.holder.clone())).ok_or_else(|| {
            Broken::new(format!(
                "the configuration has no place called {} for it any more; put it back to have the output delivered",
                place.holder
            ))
        })?;
        let form = if place.streams { Form::Lines } else { Form::Text };
        let follow = place.streams && session.state().is_live();
        let request = Request { form, from: Duration::ZERO, channel: None, follow };
        let mut output = self.recorder.read(id, request).await.map_err(broken)?;
        outlet.put(place, session, output.as_mut()).await
    }

    /// The same for lines that come for as long as a session lives. When it has not failed for a while, it goes well.
    async fn put_for_long(&self, session: &Session, place: &LogPlace) -> Result<(), Broken> {
        let mut putting = std::pin::pin!(self.put(session, place));
        if let Ok(put) = tokio::time::timeout(WELL_AFTER, putting.as_mut()).await {
            return put;
        }
        self.went_well(&(place.kind, place.holder.clone()));
        putting.await
    }

    /// Puts the lines of a live session where they are wanted as they come, for as long as it lives. What this does not
    /// bring about is done with what is due.
    pub(crate) fn stream(self: &Arc<Self>, session: &Session, ended: &CancellationToken) {
        for place in session.draft.logs.iter().filter(|place| place.streams) {
            let due = (session.draft.id.clone(), place.kind);
            self.streaming().insert(due.clone());
            let streaming = Streaming { logs: Arc::clone(self), due };
            let (session, place, ended) = (session.clone(), place.clone(), ended.clone());
            tokio::spawn(async move {
                let mut pause = PAUSE_MIN;
                let holder = (place.kind, place.holder.clone());
                while let Err(broken) = streaming.logs.put_for_long(&session, &place).await {
                    streaming.logs.went_wrong(&holder, &broken);
                    tracing::error!(
                        session = %session.draft.id, place = place.holder, because = %broken,
                        "the lines of a session do not get to their place; trying again"
                    );
                    if ended.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        break;
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            });
        }
    }

    fn streaming(&self) -> MutexGuard<'_, HashSet<Due>> {
        self.streaming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lines that are on their way to a place. INVARIANT: one task at a time puts the output of one session in one place.
struct Streaming {
    logs: Arc<SessionLogs>,
    due: Due,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.logs.streaming().remove(&self.due);
        self.logs.wake();
    }
}

fn broken(refusal: Refusal) -> Broken {
    Broken::new(refusal.detail().map_or_else(|| refusal.to_string(), |detail| detail.for_log().to_owned()))
}

impl Meter for SessionLogs {
    fn read(&self) -> Vec<Family> {
        let one = |value| vec![Sample::new(Vec::new(), value)];
        let count = |count: &AtomicU64| one(Value::Count(count.load(Ordering::Relaxed)));
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let waiting = Value::Level(self.waiting.load(Ordering::Relaxed) as f64);
        vec![
            Family::new(
                FamilyKind::Gauge,
                "ravelin_session_logs_waiting",
                "Outputs of sessions that are not yet where their documents want them, live sessions among them",
                one(waiting),
            ),
            Family::new(
                FamilyKind::Counter,
                "ravelin_session_logs_delivered",
                "Outputs of sessions that were put where their documents want them",
                count(&self.delivered),
            ),
            Family::new(
                FamilyKind::Counter,
                "ravelin_session_logs_failures",
                "Tries to put the output of a session in its place that failed; it is tried again",
                count(&self.failures),
            ),
        ]
    }
}
