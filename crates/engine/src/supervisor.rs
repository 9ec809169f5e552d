//! One task per session sees it to its end; one reaper watches the limits of all.
//!
//! The end of a session, whatever caused it, runs through [`Supervisor::see_to_end`] and nowhere else.

use crate::Config;
use crate::clock_trust::{ClockTrust, wall};
use crate::deadline::within;
use crate::meter::EngineMeter;
use crate::recording::Recordings;
use crate::registry::{Done, Full, Legs, Live, Registry};
use ravelin_model::ports::Store;
use ravelin_model::query::{SessionFilter, SessionQuery};
use ravelin_model::session::{Activity, Actor, Aged, Draft, EndReason, Ending, Event, Session};
use ravelin_model::{Refusal, Time};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub(crate) struct Supervisor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: TaskTracker,
    pub(crate) config: Config,
    pub(crate) epoch: u64,
    /// When something was last put on record before this node started.
    pub(crate) latest: Option<Time>,
    pub(crate) recordings: Option<Arc<Recordings>>,
    pub(crate) meter: Arc<EngineMeter>,
}

impl Supervisor {
    /// How often limits are looked at; also the grain of a session's last activity.
    const TICK: Duration = Duration::from_secs(1);
    /// Activity goes to the store every this many ticks.
    const FLUSH_TICKS: u64 = 2;
    /// Between two searches for what is too old.
    const PRUNE_EVERY: Duration = Duration::from_secs(600);
    /// What the store lists as live is compared with what is connected every this many ticks.
    const GHOST_TICKS: u64 = 30;
    /// Rows that one transaction removes.
    const PRUNE_ROWS: u32 = 500;
    /// Between tries to write the end of a session into a store that cannot be written.
    const RETRY_AFTER: Duration = Duration::from_millis(500);

    /// Registers the session, writes its row, and begins to watch over it.
    pub(crate) async fn open(self: &Arc<Self>, live: Arc<Live>, draft: Draft) -> Result<Unclaimed, Refusal> {
        let config = &self.config;
        self.registry.insert(&live, config.sessions_max, config.sessions_per_principal_max).map_err(|full| {
            let limit = match full {
                Full::Node => format!("{} live sessions on this node", config.sessions_max),
                Full::Principal => format!("{} live sessions of one principal", config.sessions_per_principal_max),
            };
            Refusal::LimitReached { limit, retry_after: None }
        })?;
        // The write and the watch run in a task of their own: a client that goes away while its row is being written
        // must not leave a row behind that nobody closes.
        let (answer, written) = tokio::sync::oneshot::channel();
        let supervisor = Arc::clone(self);
        let opening = Arc::clone(&live);
        self.tasks.spawn(async move {
            match supervisor.store.open(draft).await {
                Ok(_) => {
                    supervisor.meter.session_started(opening.target.protocol);
                    // Wherever it gets lost on the way, it ends the session.
                    // What nobody waits for comes back and has to be dropped now: its drop ends the session.
                    drop(answer.send(Ok(Unclaimed(Some(Arc::clone(&opening))))));
                    supervisor.see_to_end(&opening).await;
                }
                Err(refusal) => {
                    supervisor.registry.remove(&opening);
                    let _nobody_waits = answer.send(Err(refusal));
                }
            }
        });
        match tokio::time::timeout(config.store_wait_max, written).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_gone)) => Err(Refusal::internal("the task that writes a session's row has gone")),
            Err(_elapsed) => {
                // Should the row be written after all, then the task above finds the session ended, and closes it.
                live.end(Ending::new(EndReason::InternalError, Actor::System, "the store took too long"));
                Err(Refusal::unavailable("the store", "a session's row was not written in time"))
            }
        }
    }

    async fn see_to_end(&self, live: &Live) {
        live.ended.cancelled().await;
        let ending = live
            .ending()
            .unwrap_or_else(|| Ending::new(EndReason::InternalError, Actor::System, "ended without a reason"));
        let legs = live.legs();
        // INVARIANT: nothing reaches the target from here on, however long the client takes to be told.
        if let Some(target) = &legs.target {
            target.cut();
        }
        if ending.reason != EndReason::ClientClosed
            && let Some(client) = &legs.client
        {
            let _slow_client = tokio::time::timeout(self.config.farewell_max, client.farewell(&ending.message())).await;
        }
        close(&legs).await;
        // A leg that was attached while we were closing was cut by whoever attached it; wait for it too.
        close(&live.legs()).await;
        // INVARIANT: this moment is the end; the row is dated by it, however late the store can be told.
        live.set_closed();
        if let Some(took) = live.ordered_for() {
            self.meter.killed(took);
        }
        let done = self.take_down(live, &ending).await;
        let closed = done.closed;
        self.meter.session_ended(done.ending.reason);
        live.done(done);
        self.registry.remove(live);
        tracing::info!(
            session = %live.id,
            reason = ending.reason.word(),
            actor = %ending.actor,
            detail = ?ending.detail,
            closed = closed.as_micros(),
            "session ended"
        );
    }

    /// Writes the end into the row, as often as it takes.
    async fn take_down(&self, live: &Live, ending: &Ending) -> Done {
        let never_connected = !live.connected.load(Ordering::Acquire);
        let mut failed = never_connected
            && matches!(
                ending.reason,
                EndReason::TargetUnreachable | EndReason::AuthFailed | EndReason::Denied | EndReason::ProtocolError
            );
        loop {
            let refusal = match self.write_end(live, ending, failed).await {
                Ok(done) => return done,
                Err(Refusal::Conflict { because }) => match self.store.session(&live.id).await {
                    // An earlier try of ours took effect after we had given it up, or the next life of this node has
                    // closed the row for us.
                    Ok(Some(row)) if row.state().is_final() => {
                        tracing::warn!(session = %live.id, because, "the session's row is closed already");
                        return done_by(&row, ending);
                    }
                    // It had connected after all: the word of it was written after we had given it up.
                    Ok(Some(_)) if failed => {
                        failed = false;
                        continue;
                    }
                    Ok(_) => Refusal::Conflict { because },
                    Err(refusal) => refusal,
                },
                Err(Refusal::NotFound { .. }) => {
                    tracing::error!(session = %live.id, "the session's row is gone; its end is not on record");
                    return Done { closed: live.look(Time::EPOCH).last, ending: ending.clone() };
                }
                Err(refusal) => refusal,
            };
            tracing::error!(session = %live.id, ?refusal, "cannot write a session's end yet; trying again");
            tokio::time::sleep(Self::RETRY_AFTER).await;
        }
    }

    async fn write_end(&self, live: &Live, ending: &Ending, failed: bool) -> Result<Done, Refusal> {
        let now = self.store.now().await?;
        let activity = live.look(now.minus(live.closed_for()));
        let ending = ending.clone();
        let events = if failed {
            vec![Aged::new(Event::Failed { ending: ending.clone() }, live.closed_for())]
        } else {
            vec![
                Aged::new(Event::End { ending: ending.clone() }, live.asked_for()),
                Aged::new(Event::Closed { activity }, live.closed_for()),
            ]
        };
        let applied = self.store.apply_aged(&live.id, events).await?;
        Ok(done_by(&applied.session, &ending))
    }

    /// Watches limits, writes activity, removes what is too old; for as long as the node lives.
    pub(crate) async fn reap(self: Arc<Self>) {
        // Apart from each other: a store that does not answer must not keep limits from being held, nor the removal of
        // what is far away keep activity from being written.
        tokio::join!(self.watch_limits(), self.keep_house(), self.clear_out());
    }

    async fn watch_limits(&self) {
        let mut ticks = ticks();
        let mut clock = None;
        loop {
            ticks.tick().await;
            match within(Self::TICK, self.store.now()).await {
                Ok(now) => clock = Some((now, Instant::now())),
                Err(refusal) => tracing::error!(?refusal, "the store does not tell the time; going on by our own"),
            }
            let Some((read, at)) = clock else { continue };
            let now = read.plus(at.elapsed());
            // What has closed is over, and only its row is not written yet.
            for live in self.registry.all().into_iter().filter(|live| !live.is_closed()) {
                live.look(now);
                let (config, own) = (&self.config, &live.limits);
                let lost_max = config.disconnected_max;
                if let Some(limit) = tighter(config.duration_max, own.duration_max)
                    && live.opened.elapsed() >= limit
                {
                    live.end(Ending::new(EndReason::DurationLimit, Actor::System, &in_words(limit)));
                } else if let Some(limit) = tighter(config.idle_max, own.idle_max)
                    && live.idle_for() >= limit
                {
                    live.end(Ending::new(EndReason::IdleLimit, Actor::System, &in_words(limit)));
                } else if live.client_lost_for() >= lost_max {
                    let detail = format!("the client was lost and did not come back within {}", in_words(lost_max));
                    live.end(Ending::new(EndReason::ClientClosed, Actor::Principal(live.principal.clone()), &detail));
                }
            }
        }
    }

    async fn keep_house(&self) {
        let mut ticks = ticks();
        for tick in 1_u64.. {
            ticks.tick().await;
            let outcome = async {
                if tick % Self::FLUSH_TICKS == 0 {
                    self.flush().await?;
                }
                if tick % Self::GHOST_TICKS == 1 { self.look_for_ghosts().await.map(drop) } else { Ok(()) }
            };
            if let Err(refusal) = outcome.await {
                tracing::error!(?refusal, "the housekeeper could not do its round; it goes on with the next");
            }
        }
    }

    /// Removes what is too old. Soon after the start too: a node that is started often has its time over as well.
    async fn clear_out(&self) {
        let mut clock = ClockTrust::new(self.latest, wall(), Instant::now());
        loop {
            tokio::time::sleep(Self::TICK).await;
            if let Err(refusal) = self.prune(&mut clock).await {
                tracing::error!(?refusal, "what is too old could not be removed; the next round tries again");
            }
            tokio::time::sleep(Self::PRUNE_EVERY).await;
        }
    }

    /// Compares what the store lists as live on this node with the registry. There must be nothing to find.
    pub(crate) async fn look_for_ghosts(&self) -> Result<usize, Refusal> {
        let filter = SessionFilter { node: Some(self.config.node.clone()), ..SessionFilter::live() };
        let mut query = SessionQuery::first(filter, SessionQuery::LIMIT_MAX);
        let mut ghosts = 0;
        loop {
            let page = self.store.sessions(&query).await?;
            for session in page.items {
                // One that ended while we were looking is no ghost; its row says so by now.
                if self.registry.live(session.id()).is_none()
                    && let Some(row) = self.store.session(session.id()).await?
                    && row.state().is_live()
                {
                    tracing::error!(session = %row.id(), "the store lists a session as live that has no connection");
                    ghosts += 1;
                }
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => break,
            }
        }
        self.meter.ghosts_counted(ghosts);
        Ok(ghosts)
    }

    async fn flush(&self) -> Result<(), Refusal> {
        let changed: Vec<(Arc<Live>, Activity)> = self
            .registry
            .all()
            .into_iter()
            .filter(|live| !live.is_closed())
            .filter_map(|live| live.take_unflushed().map(|activity| (live, activity)))
            .collect();
        if changed.is_empty() {
            return Ok(());
        }
        let batch = changed.iter().map(|(live, activity)| (live.id.clone(), *activity)).collect();
        let outcome = self.store.flush(batch).await;
        if outcome.is_err() {
            changed.iter().for_each(|(live, _)| live.put_back_unflushed());
        }
        outcome
    }

    async fn prune(&self, clock: &mut ClockTrust) -> Result<(), Refusal> {
        while self.store.prune_kept(Self::PRUNE_ROWS).await? > 0 {}
        let now = self.store.now().await?;
        let Some(now) = clock.oldest_of(now, wall(), Instant::now()) else { return Ok(()) };
        if let Some(recordings) = &self.recordings {
            recordings.sweep(now).await?;
        }
        let before = now.minus(self.config.history_keep);
        while self.store.prune_sessions(before, Self::PRUNE_ROWS).await? > 0 {}
        while self.store.prune_events(before, Self::PRUNE_ROWS).await? > 0 {}
        Ok(())
    }
}

/// A session whose row is written and which nobody has taken over yet. Dropping it ends the session.
pub(crate) struct Unclaimed(Option<Arc<Live>>);

impl Unclaimed {
    pub(crate) fn claim(mut self) -> Arc<Live> {
        self.0.take().expect("it is taken here only, and this consumes it")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(live) = &self.0 {
            let actor = Actor::Principal(live.principal.clone());
            live.end(Ending::new(EndReason::ClientClosed, actor, "the client left before it was admitted"));
        }
    }
}

async fn close(legs: &Legs) {
    let both = [&legs.client, &legs.target];
    for leg in both.into_iter().flatten() {
        leg.cut();
    }
    for leg in both.into_iter().flatten() {
        leg.closed().await;
    }
}

/// What a closed row says of the end.
fn done_by(row: &Session, ours: &Ending) -> Done {
    // The row's own ending is the truth: an operator's request may have been written first.
    let ending = row.ending().unwrap_or(ours).clone();
    Done { closed: row.ended().unwrap_or(row.activity.last), ending }
}

fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Supervisor::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// The tighter of two limits, each of which may not be there.
fn tighter(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (limit, None) | (None, limit) => limit,
    }
}

fn in_words(limit: Duration) -> String {
    let seconds = limit.as_secs();
    if seconds >= 120 && seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}
