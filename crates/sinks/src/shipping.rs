//! The tasks that ship: one for each sink, each with its own place in the record.
//!
//! INVARIANT: a sink's place moves only after its destination has taken everything up to there, and retention removes
//! nothing above the lowest place. So nothing is lost, whatever fails and whenever the process dies.

use crate::config::{Names, SinkConfig};
use crate::destination::{self, Batch, Destination, Failure, Item};
use ravelin_model::ports::{Ledger, Sinks};
use ravelin_model::sink::SinkStatus;
use ravelin_model::text::printable;
use ravelin_model::{Refusal, Time};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The first pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long the present sinks may take to finish what they are at when others take their place.
const REPLACE_MAX: Duration = Duration::from_secs(1);
/// After so many deliveries that went well, one that had to be made smaller may grow again.
const GROW_AFTER: u32 = 32;
/// How often the length of the record is looked at, at most.
const PULSE: Duration = Duration::from_millis(200);

/// The sinks of a node. Dropping it stops them where they are; [`Shipping::stop`] lets them finish first.
pub struct Shipping {
    ledger: Arc<dyn Ledger>,
    state: Arc<State>,
    names: Names,
    running: Mutex<Option<Running>>,
}

struct Running {
    tasks: JoinSet<()>,
    stopping: CancellationToken,
}

#[derive(Default)]
struct State {
    newest: AtomicU64,
    statuses: Mutex<Vec<SinkStatus>>,
}

impl State {
    fn hold(&self) -> MutexGuard<'_, Vec<SinkStatus>> {
        self.statuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, name: &str, change: impl FnOnce(&mut SinkStatus)) {
        if let Some(status) = self.hold().iter_mut().find(|status| status.name == name) {
            change(status);
        }
    }
}

impl Shipping {
    /// Gives each sink its place and begins to feed it. Sinks that have a place and are not configured any more lose it.
    ///
    /// # Errors
    /// What the ledger refuses; then nothing runs. A destination that cannot be reached, or is set up wrongly, is no
    /// error here: it shows in its sink's status, and is tried again.
    pub async fn start(ledger: Arc<dyn Ledger>, configs: Vec<SinkConfig>, names: Names) -> Result<Arc<Self>, Refusal> {
        let shipping = Arc::new(Self { ledger, state: Arc::default(), names, running: Mutex::new(None) });
        shipping.replace(configs).await?;
        Ok(shipping)
    }

    /// Puts other sinks in the place of the present ones. Those that stay go on where they were.
    ///
    /// # Errors
    /// What the ledger refuses; then the present ones go on. When it only refuses to forget the place of one that is not
    /// configured any more, the others run already. Either way the call may be made again.
    pub async fn replace(&self, configs: Vec<SinkConfig>) -> Result<(), Refusal> {
        // What may be refused comes first: without its task a sink ships nothing, and nothing would show it.
        let mut left = self.ledger.sink_places().await?;
        left.retain(|(name, _)| configs.iter().all(|config| config.name != *name));
        let mut statuses = Vec::new();
        for config in &configs {
            let position = self.ledger.join_sink(&config.name, config.start).await?;
            statuses.push(SinkStatus {
                name: config.name.clone(),
                kind: config.destination.kind(),
                destination: config.destination.shown(),
                position,
                behind: 0,
                oldest_waiting: None,
                behind_max: config.behind_max,
                delivered: 0,
                last_delivery: None,
                last_error: None,
                failures: 0,
            });
        }
        let newest = self.ledger.entries(u64::MAX >> 1, 1).await?.newest;
        self.state.newest.fetch_max(newest, Ordering::AcqRel);
        self.end(REPLACE_MAX).await;
        self.begin(configs, statuses);
        // Only now nobody notes a place there any more.
        for (name, place) in left {
            tracing::warn!(
                sink = name,
                place,
                "this sink is not configured any more; what it has not taken will not reach it"
            );
            self.ledger.leave_sink(&name).await?;
        }
        Ok(())
    }

    /// Lets every sink take what it has not taken yet, for at most `grace` and as long as its destination takes it, and
    /// stops.
    pub async fn stop(&self, grace: Duration) {
        self.end(grace).await;
    }

    fn begin(&self, configs: Vec<SinkConfig>, mut statuses: Vec<SinkStatus>) {
        let places: Vec<u64> = {
            let mut held = self.state.hold();
            for status in &mut statuses {
                // Its task went on until now.
                if let Some(before) = held.iter().find(|before| before.name == status.name) {
                    status.position = status.position.max(before.position);
                }
            }
            let places = statuses.iter().map(|status| status.position).collect();
            *held = statuses;
            places
        };
        let stopping = CancellationToken::new();
        let mut tasks = JoinSet::new();
        if !configs.is_empty() {
            tasks.spawn(pulse(Arc::clone(&self.ledger), Arc::clone(&self.state), stopping.clone()));
        }
        for (config, position) in configs.into_iter().zip(places) {
            let feeder = Feeder {
                ledger: Arc::clone(&self.ledger),
                state: Arc::clone(&self.state),
                names: self.names.clone(),
                size: Size { events: config.batch_events, events_max: config.batch_events, went_well: 0 },
                config,
                position,
                stopping: stopping.clone(),
            };
            tasks.spawn(feeder.run());
        }
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(Running { tasks, stopping });
    }

    async fn end(&self, grace: Duration) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { mut tasks, stopping }) = running else { return };
        stopping.cancel();
        let finish = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, finish).await.is_err() {
            // What a destination took without our knowing of it comes again; nothing is lost.
            tasks.shutdown().await;
        }
    }
}

impl Sinks for Shipping {
    fn statuses(&self) -> Vec<SinkStatus> {
        let newest = self.state.newest.load(Ordering::Acquire);
        let mut statuses = self.state.hold().clone();
        for status in &mut statuses {
            status.behind = newest.saturating_sub(status.position);
            if status.behind == 0 {
                status.oldest_waiting = None;
            }
        }
        statuses
    }

    fn full(&self) -> Option<String> {
        let newest = self.state.newest.load(Ordering::Acquire);
        let statuses = self.state.hold();
        let full = statuses.iter().find(|status| newest.saturating_sub(status.position) > status.behind_max)?;
        Some(format!(
            "sink {} is {} events behind, more than {}: {}",
            full.name,
            newest.saturating_sub(full.position),
            full.behind_max,
            full.last_error.as_deref().unwrap_or("it is slow")
        ))
    }
}

/// Keeps up with the length of the record.
async fn pulse(ledger: Arc<dyn Ledger>, state: Arc<State>, stopping: CancellationToken) {
    let keep_up = async {
        loop {
            ledger.wait_for_entry(state.newest.load(Ordering::Acquire)).await;
            match ledger.entries(u64::MAX >> 1, 1).await {
                Ok(page) => state.newest.store(page.newest, Ordering::Release),
                Err(refusal) => tracing::error!(?refusal, "cannot see how long the record is"),
            }
            tokio::time::sleep(PULSE).await;
        }
    };
    stopping.run_until_cancelled(keep_up).await;
}

/// One sink's task.
struct Feeder {
    ledger: Arc<dyn Ledger>,
    state: Arc<State>,
    names: Names,
    config: SinkConfig,
    /// It has everything up to this number.
    position: u64,
    size: Size,
    stopping: CancellationToken,
}

/// How many events go into one delivery: fewer than configured for a far end that refuses so many, or is too slow for
/// them, so that no batch stands in the way for ever.
struct Size {
    events: u32,
    events_max: u32,
    went_well: u32,
}

impl Size {
    fn was_too_much(&mut self) {
        self.events = (self.events / 2).max(1);
        self.went_well = 0;
    }

    fn went_well(&mut self) {
        self.went_well += 1;
        if self.events < self.events_max && self.went_well >= GROW_AFTER {
            self.events = self.events.saturating_mul(2).min(self.events_max);
            self.went_well = 0;
        }
    }
}

/// What a step of a sink did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    /// There was nothing to deliver.
    Nothing,
    /// Everything that was there.
    All,
    /// As much as fits into a delivery; more is waiting.
    Part,
}

impl Feeder {
    async fn run(mut self) {
        let mut destination: Option<Box<dyn Destination>> = None;
        let mut failures: u32 = 0;
        let mut is_behind = false;
        loop {
            // Events gather only when there are few: what is behind goes on at once.
            if !self.stopping.is_cancelled() && !is_behind {
                let next = self.ledger.wait_for_entry(self.position);
                let _stopping = self.stopping.run_until_cancelled(next).await;
                let _stopping = self.stopping.run_until_cancelled(tokio::time::sleep(self.config.linger)).await;
            }
            let moved = match destination.as_mut() {
                Some(open) => self.step(open.as_mut()).await,
                None => match destination::open(&self.config, &self.names) {
                    Ok(mut open) => {
                        let moved = self.step(open.as_mut()).await;
                        destination = Some(open);
                        moved
                    }
                    Err(failure) => Err(failure),
                },
            };
            match moved {
                Ok(moved) => {
                    failures = 0;
                    is_behind = moved == Moved::Part;
                    if moved == Moved::Nothing && self.stopping.is_cancelled() {
                        return;
                    }
                }
                Err(failure) => {
                    // What gathered before is still there.
                    is_behind = true;
                    self.told(&failure, failures);
                    failures = failures.saturating_add(1);
                    if self.stopping.is_cancelled() {
                        return;
                    }
                    let pause = (PAUSE * 2_u32.saturating_pow(failures.min(10) - 1)).min(PAUSE_MAX);
                    let _stopping = self.stopping.run_until_cancelled(tokio::time::sleep(pause)).await;
                }
            }
        }
    }

    /// Hands over one batch.
    async fn step(&mut self, destination: &mut dyn Destination) -> Result<Moved, Failure> {
        let unreadable = |refusal: Refusal| Failure::new(format!("the record cannot be read: {}", in_full(&refusal)));
        let page = self.ledger.entries(self.position, self.size.events).await.map_err(unreadable)?;
        let Some((first, last)) = page.entries.first().zip(page.entries.last()) else {
            return Ok(Moved::Nothing);
        };
        let (oldest, last) = (first.event.at, last.event.seq);
        let count = page.entries.len() as u64;
        self.state.newest.fetch_max(page.newest, Ordering::AcqRel);
        self.state.update(&self.config.name, |status| status.oldest_waiting = Some(oldest));
        let deployment = page.foundation.deployment;
        let items: Vec<Item> = page
            .entries
            .into_iter()
            .filter_map(|entry| {
                let record = self.config.schema.render(&self.names, &deployment, &entry)?;
                Some(Item { entry, record })
            })
            .collect();
        let batch = Batch { deployment: &deployment, items: &items };
        let delivery = destination.deliver(&batch);
        let delivered = match tokio::time::timeout(self.config.timeout, delivery).await {
            Ok(delivered) => delivered,
            Err(_elapsed) => Err(Failure::new(format!("no end within {} s", self.config.timeout.as_secs())).too_much()),
        };
        match delivered {
            Ok(()) => {
                let remark = destination.remark().map(|remark| printable(remark, 500));
                self.advance(last, count, remark).await?;
                let is_full = count >= u64::from(self.size.events);
                self.size.went_well();
                Ok(if is_full { Moved::Part } else { Moved::All })
            }
            Err(failure) => {
                if failure.is_too_much {
                    self.size.was_too_much();
                }
                if let Some(through) = failure.through
                    && through > self.position
                {
                    self.advance(through, 0, None).await?;
                }
                Err(failure)
            }
        }
    }

    async fn advance(&mut self, through: u64, count: u64, remark: Option<String>) -> Result<(), Failure> {
        // What cannot be noted is delivered again: twice is allowed, never is not.
        self.ledger
            .advance_sink(&self.config.name, through)
            .await
            .map_err(|refusal| Failure::new(format!("the place cannot be noted: {}", in_full(&refusal))))?;
        self.position = through;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.state.update(&self.config.name, |status| {
            status.position = through;
            status.delivered += count;
            status.last_delivery = Some(Time::EPOCH.plus(now));
            status.last_error = remark;
            status.failures = 0;
        });
        Ok(())
    }

    fn told(&self, failure: &Failure, before: u32) {
        let name = self.config.name.as_str();
        // A far end that stays away fills no log.
        if before == 0 || (before + 1).is_power_of_two() {
            tracing::warn!(
                sink = name,
                failures = before + 1,
                because = failure.because,
                "a delivery failed; trying again"
            );
        }
        self.state.update(name, |status| {
            status.last_error = Some(failure.because.clone());
            status.failures += 1;
        });
    }
}

fn in_full(refusal: &Refusal) -> String {
    match refusal.detail() {
        Some(detail) => format!("{refusal}: {}", detail.for_log()),
        None => refusal.to_string(),
    }
}
