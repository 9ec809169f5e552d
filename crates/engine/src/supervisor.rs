//! One task per session sees it to its end; one reaper watches the limits of all.
//!
//! The end of a session, whatever caused it, runs through [`Supervisor::see_to_end`] and nowhere else.

use crate::Config;
use crate::registry::{Done, Full, Legs, Live, Registry};
use ravelin_model::ports::Store;
use ravelin_model::session::{Actor, Draft, EndReason, Ending, Event};
use ravelin_model::{Refusal, Time};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::task::TaskTracker;

pub(crate) struct Supervisor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tasks: TaskTracker,
    pub(crate) config: Config,
    pub(crate) epoch: u64,
}

impl Supervisor {
    /// How often limits are looked at; also the grain of a session's last activity.
    const TICK: Duration = Duration::from_secs(1);
    /// Activity goes to the store every this many ticks.
    const FLUSH_TICKS: u64 = 2;
    /// Old rows are looked for every this many ticks.
    const PRUNE_TICKS: u64 = 600;
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
        self.tasks.spawn(async move {
            match supervisor.store.open(draft).await {
                Ok(_) => {
                    // Wherever it gets lost on the way, it ends the session.
                    // What nobody waits for comes back and has to be dropped now: its drop ends the session.
                    drop(answer.send(Ok(Unclaimed(Some(Arc::clone(&live))))));
                    supervisor.see_to_end(&live).await;
                }
                Err(refusal) => {
                    supervisor.registry.remove(&live);
                    let _nobody_waits = answer.send(Err(refusal));
                }
            }
        });
        written.await.map_err(|_| Refusal::internal("the task that writes a session's row has gone"))?
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
        // A target leg that was attached while we were closing was cut by whoever attached it; wait for it too.
        if legs.target.is_none() {
            close(&live.legs()).await;
        }
        let never_connected = !live.connected.load(Ordering::Acquire);
        let failed = never_connected
            && matches!(
                ending.reason,
                EndReason::TargetUnreachable | EndReason::AuthFailed | EndReason::Denied | EndReason::ProtocolError
            );
        let closed = loop {
            match self.write_end(live, &ending, failed).await {
                Ok((closed, stored)) => {
                    live.done(Done { closed, ending: stored });
                    break closed;
                }
                Err(Refusal::Conflict { because }) => {
                    // Only a life that is over can meet this: the next start has closed the row for us.
                    tracing::warn!(session = %live.id, because, "the session's row was closed by somebody else");
                    let row = self.store.session(&live.id).await.ok().flatten();
                    let ended = row.as_ref().and_then(|row| Some((row.ended()?, row.ending()?.clone())));
                    let (closed, ending) = ended.unwrap_or_else(|| (live.look(Time::EPOCH).last, ending.clone()));
                    live.done(Done { closed, ending });
                    break closed;
                }
                Err(refusal) => {
                    tracing::error!(session = %live.id, ?refusal, "cannot write a session's end yet; trying again");
                    tokio::time::sleep(Self::RETRY_AFTER).await;
                }
            }
        };
        self.registry.remove(live);
        tracing::info!(
            session = %live.id,
            reason = ending.reason.word(),
            actor = %ending.actor,
            closed = closed.as_micros(),
            "session ended"
        );
    }

    async fn write_end(&self, live: &Live, ending: &Ending, failed: bool) -> Result<(Time, Ending), Refusal> {
        let activity = live.look(self.store.now().await?);
        let events = if failed {
            vec![Event::Failed { ending: ending.clone() }]
        } else {
            vec![Event::End { ending: ending.clone() }, Event::Closed { activity }]
        };
        let applied = self.store.apply(&live.id, events).await?;
        // The row's own ending is the truth: an operator's request may have been written first.
        let stored = applied.session.ending().cloned().unwrap_or_else(|| ending.clone());
        Ok((applied.at, stored))
    }

    /// Watches limits, writes activity, removes what is too old; for as long as the node lives.
    pub(crate) async fn reap(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(Self::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for tick in 1_u64.. {
            ticks.tick().await;
            let outcome = async {
                self.watch_limits(tick % Self::FLUSH_TICKS == 0).await?;
                if tick % Self::PRUNE_TICKS == 0 { self.prune().await } else { Ok(()) }
            };
            if let Err(refusal) = outcome.await {
                tracing::error!(?refusal, "the reaper could not do its round; it goes on with the next");
            }
        }
    }

    async fn watch_limits(&self, flush: bool) -> Result<(), Refusal> {
        let sessions = self.registry.all();
        if sessions.is_empty() {
            return Ok(());
        }
        let now = self.store.now().await?;
        let mut batch = Vec::new();
        for live in sessions {
            let activity = live.look(now);
            if let Some(limit) = self.config.duration_max
                && live.opened.elapsed() >= limit
            {
                live.end(Ending::new(EndReason::DurationLimit, Actor::System, &in_words(limit)));
            } else if let Some(limit) = self.config.idle_max
                && live.idle_for() >= limit
            {
                live.end(Ending::new(EndReason::IdleLimit, Actor::System, &in_words(limit)));
            } else if flush && live.take_unflushed() {
                batch.push((live.id.clone(), activity));
            }
        }
        if batch.is_empty() { Ok(()) } else { self.store.flush(batch).await }
    }

    async fn prune(&self) -> Result<(), Refusal> {
        let before = self.store.now().await?.minus(self.config.history_keep);
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

fn in_words(limit: Duration) -> String {
    let seconds = limit.as_secs();
    if seconds >= 120 && seconds.is_multiple_of(60) { format!("{} min", seconds / 60) } else { format!("{seconds} s") }
}
