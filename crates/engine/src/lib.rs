//! Ring 2: what Ravelin does. Edges translate into these calls; backings remember for them.
//!
//! Start here:
//!
//! - [`Engine::start`] joins a store, the rules and a configuration, and gives out three narrow handles.
//! - [`identity::Identity`] turns a proof into a [`identity::Caller`]; nothing else can make one.
//! - [`gate::Gate`] turns a caller's wish into an [`gate::Admission`]; nothing else can make one, and no data flows without.
//! - [`control::Control`] lists, shows and ends sessions; it is all that control dialects call.
//! - [`recording`] notes what passes there, off the path of the bytes.
//! - [`relay`] joins a leg in and a leg out; limits, counts and kill act there, once for all edges.
//! - [`egress`] is the port by which an edge opens something on a target without speaking the target's protocol.
//! - [`leg`] is what an edge hands over so that the engine can close both sockets and know that they are closed.
//!
//! This crate never knows: HTTP, SQL, SSH, a vendor's name, or how an answer looks on a wire.

mod clock_trust;
pub mod control;
mod deadline;
mod denials;
pub mod directory;
pub mod egress;
pub mod gate;
pub mod identity;
pub mod kept;
pub mod keys;
pub mod leg;
pub mod library;
mod meter;
pub mod pager;
mod quota;
pub mod recording;
pub mod registry;
pub mod relay;
mod session_logs;
mod supervisor;
#[cfg(feature = "testkit")]
pub mod testkit;

pub use control::Control;
pub use directory::{Directory, Rules};
pub use gate::{Admission, Gate, SessionLimits};
pub use identity::{Caller, Contact, Identity};
pub use keys::MasterKey;
pub use library::Library;
pub use pager::Pager;
pub use quota::neighbourhood;

use crate::deadline::Deadline;
use crate::denials::Denials;
use crate::meter::{EngineMeter, Reading, recording_families, sink_families};
use crate::recording::Recordings;
use crate::registry::Registry;
use crate::supervisor::Supervisor;
use futures_util::stream::{self, StreamExt};
use ravelin_model::audit::{AuditKind, Deed};
use ravelin_model::meter::Meters;
use ravelin_model::ports::{Sinks, Store};
use ravelin_model::session::{Actor, EndReason, Ending};
use ravelin_model::{NodeId, Refusal, SessionId};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What an operator can set on the engine. Every limit has a name and a unit.
#[derive(Clone, Debug)]
pub struct Config {
    /// This process's name, kept over restarts.
    pub node: NodeId,
    /// A session without a byte either way for this long is ended; `None` lets it idle for ever.
    pub idle_max: Option<Duration>,
    /// A session older than this is ended; `None` lets it last.
    pub duration_max: Option<Duration>,
    /// A session whose client's leg is lost waits this long for it to come back. Only some dialects can come back.
    pub disconnected_max: Duration,
    /// Live sessions on this node.
    pub sessions_max: usize,
    /// Live sessions of one principal on this node.
    pub sessions_per_principal_max: usize,
    /// How long a farewell may take before the client's socket is cut regardless. The target's is cut before it begins.
    pub farewell_max: Duration,
    /// How long an ended session's row is kept.
    pub history_keep: Duration,
    /// How long a caller waits for one answer of the store before it is told that the store is not available.
    pub store_wait_max: Duration,
}

impl Config {
    /// The defaults of the example configuration, for `node`.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            idle_max: None,
            duration_max: None,
            disconnected_max: Duration::from_secs(20 * 60),
            sessions_max: 10_000,
            sessions_per_principal_max: 5_000,
            farewell_max: Duration::from_millis(500),
            history_keep: Duration::from_secs(400 * 24 * 3600),
            store_wait_max: Duration::from_secs(10),
        }
    }
}

/// The running engine. Dropping it stops its tasks without ceremony; [`Engine::stop`] does it in good order.
pub struct Engine {
    /// Lists, shows and ends sessions.
    pub control: Control,
    /// Admits sessions.
    pub gate: Gate,
    /// Turns proofs into callers.
    pub identity: Identity,
    /// The rules in force.
    pub directory: Arc<Directory>,
    /// Seals and opens page tokens.
    pub pager: Pager,
    /// Everything that counts in this process; the engine is registered, others register themselves.
    pub meters: Arc<Meters>,
    /// Sessions of earlier lives of this node that were ended at this start.
    pub left_over: Vec<SessionId>,
    denials: Arc<Denials>,
    store: Arc<dyn Store>,
    registry: Arc<Registry>,
    supervisor: Arc<Supervisor>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    recordings: Option<Arc<Recordings>>,
    sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
}

impl Engine {
    /// How long a stop waits for sockets to close once every session was asked to end.
    const CLOSE_MAX: Duration = Duration::from_secs(5);
    /// Sessions that are told at once that the node stops, so that a few slow clients hold up nobody's drain.
    const TELL_WIDTH: usize = 64;

    /// Starts a life of this node: ends what an earlier life left behind, then begins to serve.
    ///
    /// # Errors
    /// Whatever the store refuses; nothing is accepted before its left-over sessions are ended.
    pub async fn start(
        store: Arc<dyn Store>,
        rules: Rules,
        master: MasterKey,
        config: Config,
    ) -> Result<Engine, Refusal> {
        Self::start_recording(store, rules, master, config, None).await
    }

    /// As [`Engine::start`], with what sessions are recorded with. Without, targets whose rule asks for a recording
    /// cannot be used.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub async fn start_recording(
        store: Arc<dyn Store>,
        rules: Rules,
        master: MasterKey,
        config: Config,
        recording: Option<recording::Setup>,
    ) -> Result<Engine, Refusal> {
        let registry = Arc::new(Registry::default());
        let closed = Arc::new(AtomicBool::new(false));
        let sinks: Arc<OnceLock<Arc<dyn Sinks>>> = Arc::new(OnceLock::new());
        let meter = Arc::new(EngineMeter::new(Arc::clone(&registry), Arc::clone(&closed), Arc::clone(&sinks)));
        let meters = Arc::new(Meters::default());
        meters.register(Arc::clone(&meter) as Arc<dyn ravelin_model::meter::Meter>);
        let store: Arc<dyn Store> = Arc::new(Deadline::new(store, config.store_wait_max, Arc::clone(&meter)));
        let start = store.start_node(&config.node).await?;
        let directory = Arc::new(Directory::new(rules));
        let tasks = TaskTracker::new();
        let stopping = CancellationToken::new();
        let recordings = recording.map(|setup| Recordings::new(setup, Arc::clone(&store), tasks.clone()));
        if let Some(recordings) = &recordings {
            tasks.spawn(Arc::clone(recordings).recover());
            // What is not put in its place when the node stops is by its next life.
            let (logs, stop) = (Arc::clone(recordings.logs()), stopping.clone());
            meters.register(Arc::clone(&logs) as Arc<dyn ravelin_model::meter::Meter>);
            tokio::spawn(async move {
                stop.run_until_cancelled(logs.run()).await;
            });
        }
        let supervisor = Arc::new(Supervisor {
            store: Arc::clone(&store),
            registry: Arc::clone(&registry),
            tasks: tasks.clone(),
            config: config.clone(),
            epoch: start.epoch,
            latest: start.latest,
            recordings: recordings.clone(),
            meter: Arc::clone(&meter),
        });
        let reaper = Arc::clone(&supervisor);
        let reaper_stop = stopping.clone();
        // The reaper is tracked apart from the sessions' tasks: those end by themselves, this one by `stopping`.
        tokio::spawn(async move {
            reaper_stop.run_until_cancelled(reaper.reap()).await;
        });
        let denials = Arc::new(Denials::new(Arc::clone(&store)));
        let (shipped, recorded) = (Arc::clone(&sinks), recordings.clone());
        meters.register(Arc::new(Reading(move || {
            sink_families(&shipped.get().map(|sinks| sinks.statuses()).unwrap_or_default())
        })));
        meters.register(Arc::new(Reading(move || {
            recording_families(recorded.as_ref().map_or(0, |recordings| recordings.failures()))
        })));
        Ok(Engine {
            control: Control::new(
                Arc::clone(&store),
                Arc::clone(&directory),
                Arc::clone(&registry),
                master.clone(),
                tasks.clone(),
                Arc::clone(&denials),
                Arc::clone(&closed),
                recordings.clone(),
                Arc::clone(&sinks),
            ),
            gate: Gate::new(
                Arc::clone(&directory),
                Arc::clone(&supervisor),
                Arc::clone(&denials),
                closed,
                Arc::clone(&sinks),
            ),
            supervisor,
            identity: Identity::new(Arc::clone(&store), Arc::clone(&directory), master.clone(), meter),
            pager: Pager::new(&master),
            meters,
            left_over: start.ended,
            directory,
            denials,
            store,
            registry,
            tasks,
            stopping,
            recordings,
            sinks,
        })
    }

    /// Makes the sinks known: from then on they can be looked at, and a full one holds new sessions back. To be called
    /// once, before anything is admitted; a second call changes nothing.
    pub fn attach_sinks(&self, sinks: Arc<dyn Sinks>) {
        if self.sinks.set(sinks).is_err() {
            tracing::error!("the sinks were made known twice; the first stay");
        }
    }

    /// Puts on record with what rules the node started. `facts` go with it, such as the digest of the files.
    ///
    /// # Errors
    /// When the record of it cannot be written.
    pub async fn record_rules(&self, facts: BTreeMap<String, String>) -> Result<(), Refusal> {
        let rules = self.directory.rules();
        self.store.record(loaded(&rules, facts)).await.map(|_| ())
    }

    /// Puts on record that new rules were refused; what was in force stays in force.
    ///
    /// # Errors
    /// When the record of it cannot be written.
    pub async fn record_refused_rules(&self, facts: BTreeMap<String, String>) -> Result<(), Refusal> {
        let deed = Deed { kind: AuditKind::InventoryRefused, actor: Actor::System, session: None, facts };
        self.store.record(deed).await.map(|_| ())
    }

    /// Puts new rules in force. Live sessions whose rights are gone end as `rights_revoked`; all others go on.
    /// Returns how many were ended.
    ///
    /// # Errors
    /// When the record of it cannot be written; the rules are in force all the same.
    pub async fn reload(&self, rules: Rules) -> Result<usize, Refusal> {
        self.reload_with(rules, BTreeMap::default()).await
    }

    /// As [`Engine::reload`], with further facts for the record of it.
    ///
    /// # Errors
    /// See there.
    pub async fn reload_with(&self, rules: Rules, facts: BTreeMap<String, String>) -> Result<usize, Refusal> {
        let mut deed = loaded(&rules, facts);
        self.directory.replace(rules);
        let mut ended = 0;
        for live in self.registry.all() {
            if let Err(refusal) = self.gate.still_permits(&live) {
                // One that was ending already is not ended by this.
                let ending = Ending::new(EndReason::RightsRevoked, Actor::System, &refusal.to_string());
                ended += usize::from(live.end(ending));
            }
        }
        deed.facts.insert("sessions_ended".to_owned(), ended.to_string());
        self.store.record(deed).await?;
        Ok(ended)
    }

    /// Stops in good order: admits nobody, tells everybody, waits up to `drain` for sessions to end by themselves, ends
    /// the rest as `node_stopped` and returns when every row is closed.
    ///
    /// # Errors
    /// When the record of it cannot be written.
    pub async fn stop(&self, drain: Duration) -> Result<(), Refusal> {
        self.gate.close();
        let live = self.registry.all();
        if !live.is_empty() && !drain.is_zero() {
            let text = format!("the bastion stops in {} s: finish what you are doing", drain.as_secs());
            let text = text.as_str();
            stream::iter(&live).for_each_concurrent(Self::TELL_WIDTH, |session| session.tell(text)).await;
            let _elapsed = tokio::time::timeout(drain, self.registry.wait_empty()).await;
        }
        for session in self.registry.all() {
            session.end(Ending::new(EndReason::NodeStopped, Actor::System, ""));
        }
        self.tasks.close();
        if tokio::time::timeout(Self::CLOSE_MAX, self.tasks.wait()).await.is_err() {
            // Their rows stay `terminating`; the next start ends them, with the reason they have.
            let open: Vec<String> = self.registry.all().iter().map(|live| live.id.to_string()).collect();
            tracing::error!(sessions = open.join(" "), "stopping although these sessions have not closed");
        }
        self.stopping.cancel();
        let deed =
            Deed { kind: AuditKind::NodeStopped, actor: Actor::System, session: None, facts: BTreeMap::default() };
        self.store.record(deed).await?;
        Ok(())
    }

    /// Documents and settings behind the policy. `kept` is where they are.
    #[must_use]
    pub fn library(&self, kept: Arc<dyn ravelin_model::ports::Library>) -> Library {
        Library::new(kept, Arc::clone(&self.directory), Arc::clone(&self.denials))
    }

    /// Recordings that failed since this start.
    #[must_use]
    pub fn recordings_failed(&self) -> u64 {
        self.recordings.as_ref().map_or(0, |recordings| recordings.failures())
    }

    /// Compares what the store lists as live on this node with what is connected, as the node does every half minute, and
    /// says how many have no connection. It must be none.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn look_for_ghosts(&self) -> Result<usize, Refusal> {
        self.supervisor.look_for_ghosts().await
    }

    /// Live sessions on this node.
    #[must_use]
    pub fn live_count(&self) -> usize {
        self.registry.count()
    }
}

fn loaded(rules: &Rules, mut facts: BTreeMap<String, String>) -> Deed {
    facts.insert("principals".to_owned(), rules.inventory.principals().count().to_string());
    facts.insert("targets".to_owned(), rules.inventory.targets().len().to_string());
    Deed { kind: AuditKind::InventoryLoaded, actor: Actor::System, session: None, facts }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}
