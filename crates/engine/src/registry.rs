//! The live sessions of this node.
//!
//! A session is in here from before its row is written until after its row is closed, so whatever the store lists as
//! live on this node is found here.

use crate::gate::SessionLimits;
use crate::identity::Caller;
use crate::leg::Leg;
use crate::recording::Place;
use ravelin_model::policy::Action;
use ravelin_model::session::{Activity, Ending, Kind};
use ravelin_model::{CredentialId, Login, PrincipalName, SessionId, Target, Time};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// How an end went, once both sockets are closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// When both sockets were closed, by the store's clock.
    pub closed: Time,
    /// Why the session ended.
    pub ending: Ending,
}

/// A session that has, or is about to have, connections.
pub struct Live {
    pub(crate) id: SessionId,
    pub(crate) principal: PrincipalName,
    pub(crate) client: IpAddr,
    pub(crate) target: Arc<Target>,
    /// The SSH key that proved the principal, if one did.
    pub(crate) ssh_key: Option<Arc<str>>,
    /// The credential that did.
    pub(crate) credential: Option<CredentialId>,
    /// As whom Ravelin logs in on the target, if it does.
    pub(crate) login: Option<Login>,
    /// Limits of its own, beside the node's.
    pub(crate) limits: SessionLimits,
    // Since when its client's leg is lost, while it is.
    client_lost: Mutex<Option<tokio::time::Instant>>,
    used: Mutex<BTreeSet<Action>>,
    pub(crate) opened: tokio::time::Instant,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) connected: AtomicBool,
    kind: Mutex<Kind>,
    pulse: Mutex<Pulse>,
    ending: Mutex<Option<Asked>>,
    pub(crate) ended: CancellationToken,
    /// Set once, when somebody who may asks for the end: since when.
    ordered: OnceLock<tokio::time::Instant>,
    /// Set once, when both sockets are closed.
    closed: OnceLock<tokio::time::Instant>,
    legs: Mutex<Legs>,
    pub(crate) done: watch::Sender<Option<Done>>,
    pub(crate) recording: Place,
}

#[derive(Clone, Default)]
pub(crate) struct Legs {
    pub(crate) client: Option<Arc<dyn Leg>>,
    pub(crate) target: Option<Arc<dyn Leg>>,
}

/// Why a session is to end, and since when.
struct Asked {
    ending: Ending,
    at: tokio::time::Instant,
}

/// What the reaper knows of a session's life from tick to tick.
struct Pulse {
    bytes: u64,
    last: Time,
    since: tokio::time::Instant,
    unflushed: bool,
}

fn hold<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    pub(crate) fn new(
        id: SessionId,
        caller: &Caller,
        target: Arc<Target>,
        kind: Kind,
        login: Option<Login>,
        client_leg: Arc<dyn Leg>,
        limits: SessionLimits,
    ) -> Arc<Self> {
        let now = tokio::time::Instant::now();
        Arc::new(Live {
            id,
            principal: caller.name().clone(),
            client: caller.contact().address.ip(),
            target,
            ssh_key: caller.ssh_key().cloned(),
            credential: caller.credential().cloned(),
            login,
            limits,
            client_lost: Mutex::default(),
            used: Mutex::default(),
            opened: now,
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            connected: AtomicBool::new(false),
            kind: Mutex::new(kind),
            pulse: Mutex::new(Pulse { bytes: 0, last: Time::EPOCH, since: now, unflushed: false }),
            ending: Mutex::new(None),
            ended: CancellationToken::new(),
            ordered: OnceLock::new(),
            closed: OnceLock::new(),
            legs: Mutex::new(Legs { client: Some(client_leg), target: None }),
            done: watch::Sender::new(None),
            recording: Place::default(),
        })
    }

    /// Asks the session to end. The first ending stands; returns whether this was it.
    pub(crate) fn end(&self, ending: Ending) -> bool {
        let first = {
            let mut slot = hold(&self.ending);
            let first = slot.is_none();
            slot.get_or_insert_with(|| Asked { ending, at: tokio::time::Instant::now() });
            first
        };
        self.ended.cancel();
        first
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        hold(&self.ending).as_ref().map(|asked| asked.ending.clone())
    }

    /// How long ago it was asked to end; zero when it was not.
    pub(crate) fn asked_for(&self) -> Duration {
        hold(&self.ending).as_ref().map_or(Duration::ZERO, |asked| asked.at.elapsed())
    }

    /// Notes that somebody who may has asked for the end, at `since`. The first one stands.
    pub(crate) fn set_ordered(&self, since: tokio::time::Instant) {
        self.ordered.get_or_init(|| since);
    }

    /// How long ago somebody asked for the end; `None` when nobody did.
    pub(crate) fn ordered_for(&self) -> Option<Duration> {
        self.ordered.get().map(tokio::time::Instant::elapsed)
    }

    /// Notes that both sockets are closed, now.
    pub(crate) fn set_closed(&self) {
        self.closed.get_or_init(tokio::time::Instant::now);
    }

    /// Whether both sockets are closed; the row may not say so yet.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.get().is_some()
    }

    /// How long ago both sockets were closed; zero when one is open.
    pub(crate) fn closed_for(&self) -> Duration {
        self.closed.get().map_or(Duration::ZERO, tokio::time::Instant::elapsed)
    }

    pub(crate) fn legs(&self) -> Legs {
        hold(&self.legs).clone()
    }

    /// Adds the target's leg. A session that was asked to end meanwhile cuts it at once.
    pub(crate) fn attach_target(&self, leg: Arc<dyn Leg>) {
        hold(&self.legs).target = Some(Arc::clone(&leg));
        // INVARIANT: whoever attaches looks at the ending afterwards, and the supervisor looks at the legs after the
        // ending is set; one of the two sees the other.
        if self.ended.is_cancelled() {
            leg.cut();
        }
    }

    /// Puts the client's leg in place. A session that was asked to end meanwhile cuts it at once.
    pub(crate) fn attach_client(&self, leg: Arc<dyn Leg>) {
        hold(&self.legs).client = Some(Arc::clone(&leg));
        *hold(&self.client_lost) = None;
        // INVARIANT: as for the target's leg.
        if self.ended.is_cancelled() {
            leg.cut();
        }
    }

    /// The client's leg is gone and may come back.
    pub(crate) fn detach_client(&self) {
        hold(&self.legs).client = None;
        *hold(&self.client_lost) = Some(tokio::time::Instant::now());
    }

    /// For how long the client's leg has been lost; zero while it is there.
    pub(crate) fn client_lost_for(&self) -> std::time::Duration {
        hold(&self.client_lost).map_or(std::time::Duration::ZERO, |since| since.elapsed())
    }

    /// Whether the client's leg is lost and may come back.
    pub(crate) fn is_client_lost(&self) -> bool {
        hold(&self.client_lost).is_some()
    }

    pub(crate) async fn tell(&self, text: &str) {
        if let Some(client) = self.legs().client {
            client.tell(text).await;
        }
    }

    /// Notes that the session makes use of a right.
    pub(crate) fn uses(&self, action: Action) {
        hold(&self.used).insert(action);
    }

    /// The rights that the session has made use of.
    pub(crate) fn used(&self) -> BTreeSet<Action> {
        hold(&self.used).clone()
    }

    pub(crate) fn kind(&self) -> Kind {
        *hold(&self.kind)
    }

    pub(crate) fn classify(&self, kind: Kind) {
        *hold(&self.kind) = kind;
    }

    fn bytes(&self) -> (u64, u64) {
        (self.bytes_in.load(Ordering::Relaxed), self.bytes_out.load(Ordering::Relaxed))
    }

    /// Notes whether bytes went since the last look, and returns the activity as of now. `now` is the store's time.
    pub(crate) fn look(&self, now: Time) -> Activity {
        let (bytes_in, bytes_out) = self.bytes();
        let mut pulse = hold(&self.pulse);
        if bytes_in + bytes_out != pulse.bytes || pulse.last == Time::EPOCH {
            pulse.bytes = bytes_in + bytes_out;
            pulse.last = now;
            pulse.since = tokio::time::Instant::now();
            pulse.unflushed = true;
        }
        Activity { last: pulse.last, bytes_in, bytes_out }
    }

    /// How long nothing has been sent either way, as of the last look.
    pub(crate) fn idle_for(&self) -> Duration {
        hold(&self.pulse).since.elapsed()
    }

    /// The activity as of the last look, if it changed since this was last asked.
    pub(crate) fn take_unflushed(&self) -> Option<Activity> {
        let (bytes_in, bytes_out) = self.bytes();
        let mut pulse = hold(&self.pulse);
        let last = pulse.last;
        std::mem::take(&mut pulse.unflushed).then_some(Activity { last, bytes_in, bytes_out })
    }

    /// What was taken could not be written.
    pub(crate) fn put_back_unflushed(&self) {
        hold(&self.pulse).unflushed = true;
    }

    pub(crate) fn done(&self, done: Done) {
        self.done.send_replace(Some(done));
    }

    /// Resolves when both sockets are closed and the row says so.
    pub(crate) async fn wait_done(&self) -> Done {
        let mut watch = self.done.subscribe();
        let done = watch.wait_for(Option::is_some).await.map(|done| done.clone());
        match done {
            Ok(Some(done)) => done,
            // The sender lives in `self`, which the caller holds.
            Ok(None) | Err(_) => unreachable!("waited for a value with its sender alive"),
        }
    }
}

/// The live sessions by id.
#[derive(Default)]
pub struct Registry {
    sessions: Mutex<Sessions>,
    emptied: Notify,
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<SessionId, Arc<Live>>,
    counts_by_principal: HashMap<PrincipalName, usize>,
}

/// Which limit stood in the way of one more session.
pub(crate) enum Full {
    Node,
    Principal,
}

impl Registry {
    pub(crate) fn insert(&self, live: &Arc<Live>, max: usize, per_principal_max: usize) -> Result<(), Full> {
        let mut sessions = hold(&self.sessions);
        if sessions.by_id.len() >= max {
            return Err(Full::Node);
        }
        let count = sessions.counts_by_principal.entry(live.principal.clone()).or_default();
        if *count >= per_principal_max {
            return Err(Full::Principal);
        }
        *count += 1;
        sessions.by_id.insert(live.id.clone(), Arc::clone(live));
        Ok(())
    }

    pub(crate) fn remove(&self, live: &Live) {
        let empty = {
            let mut sessions = hold(&self.sessions);
            if sessions.by_id.remove(&live.id).is_some()
                && let Some(count) = sessions.counts_by_principal.get_mut(&live.principal)
            {
                *count -= 1;
                if *count == 0 {
                    sessions.counts_by_principal.remove(&live.principal);
                }
            }
            sessions.by_id.is_empty()
        };
        if empty {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn live(&self, id: &SessionId) -> Option<Arc<Live>> {
        hold(&self.sessions).by_id.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Live>> {
        hold(&self.sessions).by_id.values().cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        hold(&self.sessions).by_id.len()
    }

    pub(crate) async fn wait_empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }
}
