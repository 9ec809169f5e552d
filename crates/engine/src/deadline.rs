//! No caller waits for the store without end: each call has an answer within a bound, or [`Refusal::Unavailable`].
//!
//! A call that is given up may still take effect, as a whole; the port says so of every call that is dropped. Where that
//! would leave something behind, its caller knows: see [`crate::supervisor`] on a row that is written too late.

use crate::meter::EngineMeter;
use async_trait::async_trait;
use ravelin_model::audit::Deed;
use ravelin_model::credential::Credential;
use ravelin_model::ports::{Applied, EventPage, Ledger, NodeStart, Store};
use ravelin_model::query::{Page, SessionQuery};
use ravelin_model::session::{Activity, Actor, Aged, Draft};
use ravelin_model::{CredentialId, Keepsake, NodeId, Refusal, Session, SessionId, Time};
use std::sync::Arc;
use std::time::Duration;

/// A store whose answers come within `max`, and are timed.
pub(crate) struct Deadline {
    inner: Arc<dyn Store>,
    max: Duration,
    meter: Arc<EngineMeter>,
}

impl Deadline {
    /// A start may have to end thousands of left-over sessions; nobody is served yet.
    const START_MAX: Duration = Duration::from_secs(120);

    pub(crate) fn new(inner: Arc<dyn Store>, max: Duration, meter: Arc<EngineMeter>) -> Self {
        Self { inner, max, meter }
    }

    /// `name` is one of [`crate::meter::STORE_CALLS`].
    async fn within<T>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        self.timed(name, within(self.max, call)).await
    }

    async fn timed<T>(&self, name: &'static str, call: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let begun = tokio::time::Instant::now();
        let answer = call.await;
        self.meter.store_answered(name, begun.elapsed(), &answer);
        answer
    }
}

/// The answer of a call to the store, or a refusal when it does not come within `max`.
pub(crate) async fn within<T>(max: Duration, call: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    match tokio::time::timeout(max, call).await {
        Ok(answer) => answer,
        Err(_elapsed) => {
            let detail = format!("no answer within {} ms", max.as_millis());
            Err(Refusal::unavailable("the store", detail))
        }
    }
}

#[async_trait]
impl Store for Deadline {
    async fn start_node(&self, node: &NodeId) -> Result<NodeStart, Refusal> {
        self.timed("start", within(Self::START_MAX.max(self.max), self.inner.start_node(node))).await
    }

    /// INVARIANT: has no bound here, because a row that is written after its caller left must find somebody who closes it.
    /// The supervisor, its one caller, waits for it in a task of its own and bounds the wait of whoever asked.
    async fn open(&self, draft: Draft) -> Result<Session, Refusal> {
        self.timed("open", self.inner.open(draft)).await
    }

    async fn apply_aged(&self, id: &SessionId, events: Vec<Aged>) -> Result<Applied, Refusal> {
        self.within("apply", self.inner.apply_aged(id, events)).await
    }

    async fn flush(&self, batch: Vec<(SessionId, Activity)>) -> Result<(), Refusal> {
        self.within("flush", self.inner.flush(batch)).await
    }

    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Refusal> {
        self.within("read", self.inner.session(id)).await
    }

    async fn sessions(&self, query: &SessionQuery) -> Result<Page<Session>, Refusal> {
        self.within("list", self.inner.sessions(query)).await
    }

    async fn prune_sessions(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.within("prune", self.inner.prune_sessions(before, limit)).await
    }

    async fn prune_events(&self, before: Time, limit: u32) -> Result<u64, Refusal> {
        self.within("prune", self.inner.prune_events(before, limit)).await
    }

    async fn record(&self, deed: Deed) -> Result<u64, Refusal> {
        self.within("record", self.inner.record(deed)).await
    }

    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, Refusal> {
        self.within("events", self.inner.events(after, limit)).await
    }

    /// A wait by its nature; who calls it has other things to wait for beside it.
    async fn wait_for_event(&self, after: u64) {
        self.inner.wait_for_event(after).await;
    }

    async fn add_credential(&self, credential: Credential, by: &Actor) -> Result<Credential, Refusal> {
        self.within("credentials", self.inner.add_credential(credential, by)).await
    }

    async fn credential(&self, id: &CredentialId) -> Result<Option<Credential>, Refusal> {
        self.within("credentials", self.inner.credential(id)).await
    }

    async fn credentials(&self) -> Result<Vec<Credential>, Refusal> {
        self.within("credentials", self.inner.credentials()).await
    }

    async fn revoke_credential(&self, id: &CredentialId, by: &Actor) -> Result<Credential, Refusal> {
        self.within("credentials", self.inner.revoke_credential(id, by)).await
    }

    async fn keep(&self, thing: Keepsake, deed: Option<Deed>) -> Result<Keepsake, Refusal> {
        self.within("record", self.inner.keep(thing, deed)).await
    }

    async fn kept(&self, shelf: &'static str, key: &str) -> Result<Option<Keepsake>, Refusal> {
        self.within("read", self.inner.kept(shelf, key)).await
    }

    async fn all_kept(&self, shelf: &'static str) -> Result<Vec<Keepsake>, Refusal> {
        self.within("list", self.inner.all_kept(shelf)).await
    }

    async fn forget(&self, shelf: &'static str, key: &str, deed: Option<Deed>) -> Result<bool, Refusal> {
        self.within("record", self.inner.forget(shelf, key, deed)).await
    }

    async fn prune_kept(&self, limit: u32) -> Result<u64, Refusal> {
        self.within("prune", self.inner.prune_kept(limit)).await
    }

    async fn now(&self) -> Result<Time, Refusal> {
        within(self.max, self.inner.now()).await
    }

    /// Whoever reads from it bounds the wait, see [`within`].
    fn ledger(&self) -> Option<&dyn Ledger> {
        self.inner.ledger()
    }
}
