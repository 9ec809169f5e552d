//! What the rings need from outside: a store, a policy engine, a recorder and its archive.
//!
//! Each port has a contract suite in `testkit`; whatever stands behind a port passes it.

use crate::audit::{AuditEvent, Deed};
use crate::credential::Credential;
use crate::document::{Document, DocumentChange, DocumentHead, Setting};
use crate::id::{CredentialId, DocumentName, NodeId, SessionId};
use crate::kept::Keepsake;
use crate::ledger::{self, Foundation};
use crate::policy::{Decision, Question};
use crate::query::{Page, SessionQuery};
use crate::recording::{
    Act, Broken, Entry, Found, Head, Kept, LogKind, LogPlace, LogsBehind, Note, Request, Search, Whereabouts,
};
use crate::refusal::{Detail, Refusal};
use crate::session::{Activity, Actor, Aged, Draft, Effect, Event, Session};
use crate::sink::{SinkStart, SinkStatus};
use crate::time::Time;
use async_trait::async_trait;
use bytes::Bytes;

/// What a node learns when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStart {
    /// Count of this node's starts; fences off what an earlier life of it may still try to write.
    pub epoch: u64,
    /// Left-over sessions of earlier lives, which were ended just now as `node_lost`.
    pub ended: Vec<SessionId>,
    /// When something was last put on record before this start.
    pub latest: Option<Time>,
}

/// A session after its events, with everybody who is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The session as it is now stored.
    pub session: Session,
    /// What [`Session::apply`] said; audit effects are already written.
    pub effects: Vec<Effect>,
    /// The store's time of the write; aged events lie before it.
    pub at: Time,
}

/// A stretch of the audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventPage {
    /// In order of their numbers.
    pub events: Vec<AuditEvent>,
    /// The lowest number still kept; 1 when nothing was pruned, also for an empty record.
    pub oldest: u64,
    /// The highest number given out; 0 for an empty record.
    pub newest: u64,
}

/// Sessions, their audit record and the issued credentials.
///
/// Every write is durable when its call returns. Times are the store's own clock, in microseconds; they never go back
/// within one store. A call that is dropped halfway either took effect as a whole or not at all.
///
/// # Errors
/// Every method: [`Refusal::Unavailable`] when the store cannot be reached or written, [`Refusal::Internal`] when
/// what it holds cannot be read back. Others are named at the method.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Begins a life of `node`: counts it, and ends what its earlier lives left behind as [`Event::NodeLost`] says.
    async fn start_node(&self, node: &NodeId) -> Result<NodeStart, Refusal>;

    /// Writes a new session and its event.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when the id exists or `draft.epoch` is not the node's present epoch.
    async fn open(&self, draft: Draft) -> Result<Session, Refusal>;

    /// Applies events in order, all or none, judged by [`Session::apply`]; audit effects are written with them.
    ///
    /// Each event is dated as [`Aged::at`] says; what the call waited within the store counts. The audit record is in the
    /// order of writing, so its events bear the time of the write.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for an unknown id, [`Refusal::Conflict`] from the transition table.
    async fn apply_aged(&self, id: &SessionId, events: Vec<Aged>) -> Result<Applied, Refusal>;

    /// [`Store::apply_aged`] for events that happen with the write.
    ///
    /// # Errors
    /// As [`Store::apply_aged`].
    async fn apply(&self, id: &SessionId, events: Vec<Event>) -> Result<Applied, Refusal> {
        self.apply_aged(id, events.into_iter().map(Aged::from).collect()).await
    }

    /// Writes bytes and last activity of live sessions, in one transaction. Ended or unknown ids are passed over;
    /// values never go back.
    async fn flush(&self, batch: Vec<(SessionId, Activity)>) -> Result<(), Refusal>;

    /// One session.
    async fn session(&self, id: &SessionId) -> Result<Option<Session>, Refusal>;

    /// One page of sessions, ordered by creation time, then id.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when the limit is 0 or above [`SessionQuery::LIMIT_MAX`].
    async fn sessions(&self, query: &SessionQuery) -> Result<Page<Session>, Refusal>;

    /// Removes up to `limit` sessions that ended before `before`; returns how many. Live ones stay, and so do those whose
    /// recording is still kept, because whoever may play it is judged by them.
    async fn prune_sessions(&self, before: Time, limit: u32) -> Result<u64, Refusal>;

    /// Removes up to `limit` events older than `before`, from the low end; returns how many.
    async fn prune_events(&self, before: Time, limit: u32) -> Result<u64, Refusal>;

    /// Writes a deed; returns its number.
    async fn record(&self, deed: Deed) -> Result<u64, Refusal>;

    /// Up to `limit` events with numbers above `after`.
    async fn events(&self, after: u64, limit: u32) -> Result<EventPage, Refusal>;

    /// Resolves when an event with a number above `after` exists.
    async fn wait_for_event(&self, after: u64);

    /// Writes a new credential with `created` set to now, and its event.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when the id exists.
    async fn add_credential(&self, credential: Credential, by: &Actor) -> Result<Credential, Refusal>;

    /// One credential, valid or not.
    async fn credential(&self, id: &CredentialId) -> Result<Option<Credential>, Refusal>;

    /// All credentials, oldest first.
    async fn credentials(&self) -> Result<Vec<Credential>, Refusal>;

    /// Marks a credential as revoked and writes its event; revoking again changes nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for an unknown id.
    async fn revoke_credential(&self, id: &CredentialId, by: &Actor) -> Result<Credential, Refusal>;

    /// Keeps a thing, in the place of one of the same key, with `created` set to now, and writes the deed with it.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a key or a text out of its bounds, [`Refusal::LimitReached`] when the shelf is full, or
    /// has as much of this owner as it may.
    async fn keep(&self, thing: Keepsake, deed: Option<Deed>) -> Result<Keepsake, Refusal>;

    /// A kept thing that has not expired.
    async fn kept(&self, shelf: &'static str, key: &str) -> Result<Option<Keepsake>, Refusal>;

    /// All of a shelf that has not expired, oldest first.
    async fn all_kept(&self, shelf: &'static str) -> Result<Vec<Keepsake>, Refusal>;

    /// Forgets a thing; the deed is written when it was there. Whether it was.
    async fn forget(&self, shelf: &'static str, key: &str, deed: Option<Deed>) -> Result<bool, Refusal>;

    /// Removes up to `limit` things that have expired; returns how many.
    async fn prune_kept(&self, limit: u32) -> Result<u64, Refusal>;

    /// The store's clock.
    async fn now(&self) -> Result<Time, Refusal>;

    /// The chain behind the record, where this store keeps one.
    fn ledger(&self) -> Option<&dyn Ledger>;
}

/// A stretch of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryPage {
    /// In order of their numbers.
    pub entries: Vec<ledger::Entry>,
    /// What the chain that is kept stands on.
    pub foundation: Foundation,
    /// The highest number given out; 0 for an empty record.
    pub newest: u64,
}

/// The record as a chain, and the places up to which sinks have taken it.
///
/// INVARIANT: [`Store::prune_events`] removes nothing that a sink has not taken yet.
///
/// # Errors
/// As [`Store`].
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Up to `limit` entries with numbers above `after`.
    async fn entries(&self, after: u64, limit: u32) -> Result<EntryPage, Refusal>;

    /// Resolves when an event with a number above `after` exists.
    async fn wait_for_entry(&self, after: u64);

    /// Signs the chain up to now, unless nothing was written since the last time or there is no key; returns the number
    /// of the checkpoint's own event.
    async fn checkpoint(&self) -> Result<Option<u64>, Refusal>;

    /// Gives a sink its place, and puts it on record when it is new. Returns the number up to which it has everything.
    async fn join_sink(&self, name: &str, start: SinkStart) -> Result<u64, Refusal>;

    /// Notes that a sink has everything up to `through`. Never goes back.
    async fn advance_sink(&self, name: &str, through: u64) -> Result<(), Refusal>;

    /// The sinks that have a place, with the number up to which each has everything.
    async fn sink_places(&self) -> Result<Vec<(String, u64)>, Refusal>;

    /// Takes a sink's place away, and puts that on record; what it has not taken will not reach it.
    async fn leave_sink(&self, name: &str) -> Result<(), Refusal>;
}

/// How the sinks are.
pub trait Sinks: Send + Sync + 'static {
    /// Each of them, in the order of the configuration.
    fn statuses(&self) -> Vec<SinkStatus>;

    /// Why no new session may begin now: a sink is further behind than it may be. `None` when all is well.
    fn full(&self) -> Option<String>;
}

/// Documents that steer sessions, and settings. Each write is one transaction with its event in the record.
///
/// # Errors
/// Every method: as those of [`Store`].
#[async_trait]
pub trait Library: Send + Sync + 'static {
    /// All documents by name, without their texts.
    async fn documents(&self) -> Result<Vec<DocumentHead>, Refusal>;

    /// One document with all its versions.
    async fn document(&self, name: &DocumentName) -> Result<Option<Document>, Refusal>;

    /// Changes a document, and returns it as it is then; after [`DocumentChange::Delete`] as it was.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when it is to be created and exists; [`Refusal::NotFound`] when it, or the version, is not
    /// there; [`Refusal::LimitReached`] beyond [`Document::VERSIONS_MAX`] or [`Document::DOCUMENTS_MAX`].
    async fn change_document(
        &self,
        name: &DocumentName,
        change: DocumentChange,
        by: &Actor,
    ) -> Result<Document, Refusal>;

    /// A setting, if somebody has set it.
    async fn setting(&self, key: &str) -> Result<Option<Setting>, Refusal>;

    /// Sets a setting; `None` takes it back.
    async fn change_setting(&self, key: &str, value: Option<&str>, by: &Actor) -> Result<Option<Setting>, Refusal>;
}

/// The policy engine could not answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the policy engine cannot answer")]
pub struct PolicyDown {
    /// For the log.
    pub detail: Detail,
}

/// Answers questions from policies. Pure computation on loaded policies; no I/O.
pub trait Policy: Send + Sync + 'static {
    /// The answer. What no policy permits is denied.
    ///
    /// # Errors
    /// [`PolicyDown`] when it cannot be computed; the caller then holds to [`crate::policy::without_engine`].
    fn decide(&self, question: &Question<'_>) -> Result<Decision, PolicyDown>;

    /// Whether [`Policy::decide`] says yes, for callers who do not ask why: thousands of times for one list.
    ///
    /// # Errors
    /// As [`Policy::decide`].
    fn permits(&self, question: &Question<'_>) -> Result<bool, PolicyDown> {
        self.decide(question).map(|decision| decision.is_allow())
    }
}

/// Makes and keeps recordings.
#[async_trait]
pub trait Recorder: Send + Sync + 'static {
    /// Begins a recording.
    ///
    /// # Errors
    /// [`Broken`] when it cannot be written; nothing of it is left then.
    async fn begin(&self, head: Head) -> Result<Box<dyn Tape>, Broken>;

    /// Finishes what an earlier life of this process left unfinished or unsettled: each recording is whole up to the last second
    /// before that life's end. One that cannot be finished is left as it is, and told with its session.
    async fn recover(&self) -> Vec<(SessionId, Result<Kept, Broken>)>;

    /// A recording that was finished is on record: it is left alone by later calls of [`Recorder::recover`].
    ///
    /// # Errors
    /// [`Broken`] when that cannot be noted.
    async fn settle(&self, session: &SessionId) -> Result<(), Broken>;

    /// Reads a recording, live or whole.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is none, [`Refusal::Conflict`] when it does not hold what is asked for or was
    /// damaged, [`Refusal::Unavailable`] when it cannot be read or its key is not there.
    async fn read(&self, session: &SessionId, request: Request) -> Result<Box<dyn Reading>, Refusal>;

    /// Where the recording of a session lies, as far as that can be told without looking elsewhere. `None` from a
    /// recorder that has one place only.
    async fn whereabouts(&self, _session: &SessionId) -> Option<Whereabouts> {
        None
    }

    /// Removes a recording; one that is not there counts as removed.
    ///
    /// # Errors
    /// [`Broken`] when it is still there.
    async fn remove(&self, session: &SessionId) -> Result<(), Broken>;
}

/// A recording while it is made. Dropping it leaves it unfinished, as a crash does.
#[async_trait]
pub trait Tape: Send {
    /// Puts notes on it, in order of their time.
    ///
    /// # Errors
    /// [`Broken`]; nothing more can be put on it then.
    async fn write(&mut self, notes: Vec<Note>) -> Result<(), Broken>;

    /// Sees to it that what was written outlives a loss of power.
    ///
    /// # Errors
    /// [`Broken`]; nothing more can be put on it then.
    async fn sync(&mut self) -> Result<(), Broken>;

    /// Makes it whole.
    ///
    /// # Errors
    /// [`Broken`]; it stays unfinished.
    async fn finish(self: Box<Self>) -> Result<Kept, Broken>;
}

/// A recording while it is read.
#[async_trait]
pub trait Reading: Send {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// As [`Recorder::read`].
    async fn next(&mut self) -> Result<Option<Bytes>, Refusal>;
}

/// A place that takes the output of sessions.
#[async_trait]
pub trait Outlet: Send + Sync + 'static {
    /// Puts the output of a session there: in [`Form::Lines`] where the place wants lines as they come, and else in
    /// [`Form::Text`]. It may be asked for again, after a failure, a crash, or an end: what is there already is replaced or
    /// left as it is.
    ///
    /// [`Form::Lines`]: crate::recording::Form::Lines
    /// [`Form::Text`]: crate::recording::Form::Text
    ///
    /// # Errors
    /// [`Broken`] when it is not all there; says nothing secret.
    async fn put(&self, place: &LogPlace, of: &Session, output: &mut dyn Reading) -> Result<(), Broken>;

    /// Where it leads, without secrets.
    fn destination(&self) -> String;

    /// Whether it takes what is put there. Something small called `.probe` may stay.
    ///
    /// # Errors
    /// [`Broken`] says why not, and nothing secret.
    async fn probe(&self) -> Result<(), Broken>;
}

/// What is known of recordings beside themselves: what was done, and how long they are kept.
///
/// # Errors
/// Every method as [`Store`]'s.
#[async_trait]
pub trait Archive: Send + Sync + 'static {
    /// Notes a recording that is whole, to be kept until `keep_until`, and what was done in it. Noting it again replaces
    /// what was noted.
    async fn note(&self, kept: &Kept, keep_until: Time) -> Result<(), Refusal>;

    /// What is known of one.
    async fn entry(&self, session: &SessionId) -> Result<Option<Entry>, Refusal>;

    /// What was done in a session, in order of time, without the first `skip` and at most `limit` acts, without the
    /// screens.
    async fn acts(&self, session: &SessionId, skip: u32, limit: u32) -> Result<Vec<Act>, Refusal>;

    /// Acts that hold all words of a search, newest first.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] when the text holds no word or the limit is out of bounds.
    async fn search(&self, search: &Search) -> Result<Vec<Found>, Refusal>;

    /// Holds a recording for this reason, or gives it free; with its event in the record. One that is still made can be
    /// held too: its entry has no bytes until it is noted.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] for a recording that is not known, was removed or is claimed for that.
    async fn hold(&self, session: &SessionId, reason: Option<&str>, by: &Actor) -> Result<Entry, Refusal>;

    /// Every place that does not have the output of some session that is over, and whose recording is whole, has failed or
    /// was never made.
    async fn logs_behind(&self) -> Result<Vec<LogsBehind>, Refusal>;

    /// Up to `limit` of the sessions that a place is behind by, oldest first.
    async fn logs_due(&self, kind: LogKind, holder: &str, limit: u32) -> Result<Vec<Session>, Refusal>;

    /// How many places there are that do not have the output of a session yet, of live sessions too.
    async fn logs_waiting(&self) -> Result<u64, Refusal>;

    /// Notes that a place has a session's output, or will never get it.
    async fn log_done(&self, session: &SessionId, kind: LogKind) -> Result<(), Refusal>;

    /// Up to `limit` recordings whose time is over, which nobody holds, and which no place for their output waits for;
    /// then those that were claimed and not removed yet.
    async fn expired(&self, now: Time, limit: u32) -> Result<Vec<SessionId>, Refusal>;

    /// Claims a recording for its removal: nobody can hold it any more. `false` when it may not be removed, because
    /// somebody holds it meanwhile. Claiming it again changes nothing.
    async fn claim(&self, session: &SessionId, now: Time) -> Result<bool, Refusal>;

    /// Notes that a recording was removed, with its event in the record; what was done in it is forgotten.
    async fn removed(&self, session: &SessionId) -> Result<(), Refusal>;
}
