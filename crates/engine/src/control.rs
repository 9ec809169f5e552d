//! What control dialects call: list, show, end, follow; and the credentials.
//!
//! Every method asks the policy first. What a caller may not know of is not found; what they may know of and not do is
//! denied.

use crate::deadline::within;
use crate::denials::Denials;
use crate::directory::Directory;
use crate::egress::{Probe, Sight};
use crate::gate::{accountable, revoked};
use crate::identity::{Caller, TOKEN_PREFIX};
use crate::keys::{MasterKey, random_bytes, random_secret, secret_digest};
use crate::quota::RecordQuota;
use crate::recording::Recordings;
use crate::registry::{Live, Registry};
use futures_util::stream::{self, StreamExt};
use ravelin_model::audit::{AuditEvent, AuditKind, Deed};
use ravelin_model::credential::{Credential, CredentialKind, TEMPORARY_KEY_LIFE, TEMPORARY_KEY_LIFE_MAX};
use ravelin_model::policy::{Action, Question, Resource, Scope};
use ravelin_model::ports::{EntryPage, EventPage, Reading, Sinks, Store};
use ravelin_model::query::{EventFilter, Page, SessionFilter, SessionQuery};
use ravelin_model::recording::{Act, Entry, Found, Request, Search, Whereabouts};
use ravelin_model::session::{Activity, Actor, Aged, EndReason, Ending, Event, Session};
use ravelin_model::sink::{LogPlaceStatus, SinkStatus};
use ravelin_model::text::printable;
use ravelin_model::{CredentialId, PrincipalName, Refusal, SessionId, Target, Time};
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::task::TaskTracker;

/// What came of asking a session to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Termination {
    /// Both sockets are closed.
    Confirmed {
        /// When both were closed, by the store's clock.
        closed: Time,
        /// Why it ended; another's earlier request may have been faster.
        ending: Ending,
    },
    /// It had ended before.
    AlreadyEnded {
        /// When.
        ended: Time,
        /// Why.
        ending: Ending,
    },
    /// It was asked to end, and something is still open.
    Pending {
        /// What, and what will happen.
        because: String,
    },
}

/// For what a recording is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// To see what happens, while it happens.
    Watch,
    /// To see what happened.
    Play,
    /// To take it away.
    Export,
}

impl Reader {
    fn action(self) -> Action {
        match self {
            Reader::Watch => Action::WatchSession,
            Reader::Play => Action::PlayRecording,
            Reader::Export => Action::ExportRecording,
        }
    }

    fn kind(self) -> AuditKind {
        match self {
            Reader::Watch => AuditKind::SessionWatched,
            Reader::Play => AuditKind::RecordingPlayed,
            Reader::Export => AuditKind::RecordingExported,
        }
    }
}

/// A credential with its secret, shown once.
#[derive(Debug)]
pub struct Issued {
    /// What is stored.
    pub credential: Credential,
    /// What the holder needs; for an API token the whole token.
    pub secret: SecretString,
    /// What each request of a temporary key bears beside its signature; for no other kind.
    pub session_token: Option<SecretString>,
}

/// The use cases of the control dialects. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    store: Arc<dyn Store>,
    directory: Arc<Directory>,
    registry: Arc<Registry>,
    master: MasterKey,
    probe: Arc<Probe>,
    tasks: TaskTracker,
    denials: Arc<Denials>,
    closed: Arc<AtomicBool>,
    recordings: Option<Arc<Recordings>>,
    sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
    exports: Arc<RecordQuota<PrincipalName>>,
}

impl Control {
    /// How long a caller waits for both sockets to close, unless it says otherwise.
    pub const WAIT_DEFAULT: Duration = Duration::from_secs(5);
    /// Sessions that one request ends at the same time.
    const TERMINATE_WIDTH: usize = 64;
    /// Longest that a write of the wish to end may hold up the end itself.
    const WISH_MAX: Duration = Duration::from_secs(1);
    /// Events read at once while looking for those that a caller may see.
    const EVENTS_STEP: u32 = 500;
    /// Longest that a page of an export waits for the store each time.
    const EXPORT_MAX: Duration = Duration::from_secs(10);
    /// One export asks for page after page; it is on record once in this time.
    const EXPORT_WINDOW: Duration = Duration::from_secs(60);
    /// How often that is done for one answer, so that one caller cannot hold the store's readers.
    const EVENTS_STEPS_MAX: u32 = 20;

    #[expect(clippy::too_many_arguments, reason = "narrow handles, given once, by one caller")]
    pub(crate) fn new(
        store: Arc<dyn Store>,
        directory: Arc<Directory>,
        registry: Arc<Registry>,
        master: MasterKey,
        tasks: TaskTracker,
        denials: Arc<Denials>,
        closed: Arc<AtomicBool>,
        recordings: Option<Arc<Recordings>>,
        sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
    ) -> Self {
        let exports = Arc::new(RecordQuota::new(Self::EXPORT_WINDOW, 1));
        let probe = Arc::new(Probe::new());
        Self { store, directory, registry, master, probe, tasks, denials, closed, recordings, sinks, exports }
    }

    /// One page of the sessions that the caller may list: everybody's, or else their own, less those that a policy hides
    /// from them. A page may hold fewer than the limit and still have a `next`.
    ///
    /// # Errors
    /// [`Refusal::Denied`] when they may list none; what the store refuses.
    pub async fn list(&self, caller: &Caller, mut query: SessionQuery) -> Result<Page<Session>, Refusal> {
        if self.scope(caller, Action::ListSessions).await? == Scope::Own && !narrow(&mut query.filter, caller.name()) {
            return Ok(Page { items: Vec::new(), next: None });
        }
        let mut page = self.store.sessions(&query).await?;
        // A policy may hide single sessions from somebody who may list: such a page is shorter, and its cursor goes on.
        let rules = self.directory.rules();
        let Some(principal) = caller.as_of(&rules.inventory) else {
            return Ok(Page { items: Vec::new(), next: None });
        };
        let client = caller.contact().address.ip();
        page.items.retain(|session| {
            let resource = Resource::of(session);
            rules.permit(&Question { principal, action: Action::ReadSession, resource, client })
        });
        for session in &mut page.items {
            self.freshen(session);
        }
        Ok(page)
    }

    /// One session.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when the caller may not see it; what the store refuses.
    pub async fn describe(&self, caller: &Caller, id: &SessionId) -> Result<Session, Refusal> {
        match self.store.session(id).await? {
            Some(mut session) if self.may(caller, Action::ReadSession, Resource::of(&session)) => {
                self.freshen(&mut session);
                Ok(session)
            }
            Some(_) | None => Err(Refusal::not_found("session", id)),
        }
    }

    /// Ends a session and waits up to `wait` for both of its sockets to be closed. Asking again is harmless.
    ///
    /// The wish is written first, then acted upon; when the store cannot be written the sockets are closed all the
    /// same, and the row follows as soon as it can.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when the caller may not see it, [`Refusal::Denied`] when they may see but not end it.
    pub async fn terminate(
        &self,
        caller: &Caller,
        id: &SessionId,
        reason: &str,
        wait: Duration,
    ) -> Result<Termination, Refusal> {
        let begun = tokio::time::Instant::now();
        let live = self.registry.live(id);
        let live = live.as_ref();
        // A store that is stuck must not hold up the end of a session that is at hand.
        let read = within(Self::WISH_MAX, self.store.session(id)).await;
        let session = match (read, live) {
            (Ok(Some(session)), _) => session,
            (Ok(None), _) => return Err(Refusal::not_found("session", id)),
            (Err(refusal), None) => return Err(refusal),
            (Err(refusal), Some(live)) => {
                tracing::error!(session = %id, ?refusal, "ending a session although its row cannot be read");
                return self.terminate_unread(caller, live, begun, reason, wait).await;
            }
        };
        if !self.may(caller, Action::ReadSession, Resource::of(&session)) {
            return Err(Refusal::not_found("session", id));
        }
        if let (Some(ended), Some(ending)) = (session.ended(), session.ending()) {
            return Ok(Termination::AlreadyEnded { ended, ending: ending.clone() });
        }
        if !self.may(caller, Action::TerminateSession, Resource::of(&session)) {
            return Err(self.deny(caller, Action::TerminateSession, Some(id)).await);
        }
        if let Some(live) = live {
            live.set_ordered(begun);
        }
        let order = self.clone().order_end(id.clone(), live.cloned(), by_operator(caller, reason), wait);
        // A caller who goes away must not leave a row that says terminating before a connection that goes on.
        self.tasks.spawn(order).await.map_err(|_| Refusal::internal("the task that ends a session has gone"))?
    }

    /// Writes the wish to end, acts upon it, and waits for the end.
    async fn order_end(
        self,
        id: SessionId,
        live: Option<Arc<Live>>,
        ending: Ending,
        wait: Duration,
    ) -> Result<Termination, Refusal> {
        // A session that is ending already keeps its reason, and the time since when; its row may not know of it yet.
        let wish = match live.as_ref().and_then(|live| Some((live.ending()?, live.asked_for()))) {
            Some((first, since)) => Aged::new(Event::End { ending: first }, since),
            None => Aged::from(Event::End { ending: ending.clone() }),
        };
        let wish = self.store.apply_aged(&id, vec![wish]);
        match (tokio::time::timeout(Self::WISH_MAX, wish).await, live) {
            (Ok(Ok(applied)), Some(live)) => {
                live.end(applied.session.ending().cloned().unwrap_or(ending));
                Ok(confirmed(&live, wait).await)
            }
            (Ok(Ok(applied)), None) => {
                // No connection stands behind this row; whoever owned it is gone.
                let activity = applied.session.activity;
                let applied = self.store.apply(&id, vec![Event::Closed { activity }]).await?;
                tracing::error!(session = %id, "a live row without a connection was found and closed");
                let closed = applied.session.ended().unwrap_or(applied.at);
                // An earlier request stands.
                let ending = applied.session.ending().cloned().unwrap_or(ending);
                Ok(Termination::Confirmed { closed, ending })
            }
            // It ended by itself between the reading and the wish.
            (Ok(Err(Refusal::Conflict { .. })), _) => match self.store.session(&id).await? {
                Some(now) => match (now.ended(), now.ending()) {
                    (Some(ended), Some(ending)) => Ok(Termination::AlreadyEnded { ended, ending: ending.clone() }),
                    _ => Err(Refusal::internal(format!("session {id} refuses to end and has not ended"))),
                },
                None => Err(Refusal::not_found("session", &id)),
            },
            (Ok(Err(refusal)), Some(live)) => {
                tracing::error!(session = %id, ?refusal, "ending a session although its row cannot be written");
                live.end(ending);
                Ok(confirmed(&live, wait).await)
            }
            (Ok(Err(refusal)), None) => Err(refusal),
            (Err(_elapsed), Some(live)) => {
                tracing::error!(session = %id, "ending a session although the store does not answer");
                live.end(ending);
                Ok(confirmed(&live, wait).await)
            }
            (Err(_elapsed), None) => Err(Refusal::unavailable("the store", "no answer in time")),
        }
    }

    /// Many at once, in the order of `ids`; each has its own outcome.
    pub async fn terminate_many(
        &self,
        caller: &Caller,
        ids: &[SessionId],
        reason: &str,
        wait: Duration,
    ) -> Vec<(SessionId, Result<Termination, Refusal>)> {
        stream::iter(ids.iter().cloned())
            .map(|id| async move {
                let outcome = self.terminate(caller, &id, reason, wait).await;
                (id, outcome)
            })
            .buffered(Self::TERMINATE_WIDTH)
            .collect()
            .await
    }

    async fn terminate_unread(
        &self,
        caller: &Caller,
        live: &Arc<Live>,
        begun: tokio::time::Instant,
        reason: &str,
        wait: Duration,
    ) -> Result<Termination, Refusal> {
        let target = live.target.snapshot();
        let resource = Resource::Session { id: &live.id, owner: &live.principal, target: &target };
        if !self.may(caller, Action::ReadSession, resource) {
            return Err(Refusal::not_found("session", &live.id));
        }
        if !self.may(caller, Action::TerminateSession, resource) {
            return Err(self.deny(caller, Action::TerminateSession, Some(&live.id)).await);
        }
        live.set_ordered(begun);
        live.end(by_operator(caller, reason));
        Ok(confirmed(live, wait).await)
    }

    /// Reads a session's recording for this purpose, and puts on record who did.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when the caller may not see the session, [`Refusal::Denied`]; what the recorder and the
    /// store refuse.
    pub async fn read_recording(
        &self,
        caller: &Caller,
        id: &SessionId,
        purpose: Reader,
        request: Request,
    ) -> Result<Box<dyn Reading>, Refusal> {
        let session = self.session_for(caller, id, purpose.action()).await?;
        let live = self.registry.live(id);
        if purpose == Reader::Watch && live.is_none() {
            return Err(Refusal::Conflict { because: format!("session {id} is over: play its recording") });
        }
        let recordings = self.recordings(id)?;
        // First opened, then put on record, then given out: what cannot be read was not read.
        let reading = recordings.recorder().read(id, request).await?;
        let mut facts = BTreeMap::from([("form".to_owned(), request.form.word().to_owned())]);
        if !request.from.is_zero() {
            facts.insert("from_ms".to_owned(), request.from.as_millis().to_string());
        }
        self.note_use(caller, &session, purpose.kind(), facts).await?;
        if purpose == Reader::Watch
            && let Some(live) = live
            && live.target.recording.announce
        {
            live.tell(&format!("{} is watching this session", caller.name())).await;
        }
        Ok(reading)
    }

    /// Whether the caller may still watch the session, by the rules of this moment.
    ///
    /// # Errors
    /// As [`Control::read_recording`].
    pub async fn still_watches(&self, caller: &Caller, id: &SessionId) -> Result<(), Refusal> {
        self.session_for(caller, id, Action::WatchSession).await.map(|_| ())
    }

    /// Where the recording of a session lies that [`Control::describe`] has shown; `None` while there is none or no more.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn whereabouts(&self, session: &Session) -> Result<Option<Whereabouts>, Refusal> {
        let Some(recordings) = &self.recordings else { return Ok(None) };
        let id = &session.draft.id;
        match recordings.archive().entry(id).await? {
            Some(entry) if !entry.removed => Ok(recordings.recorder().whereabouts(id).await),
            Some(_) | None => Ok(None),
        }
    }

    /// What was done in a session, without the first `skip` and at most `limit` acts; whether there are more; and what is
    /// known of its recording. Puts on record who looked it up.
    ///
    /// # Errors
    /// As [`Control::read_recording`].
    pub async fn acts(
        &self,
        caller: &Caller,
        id: &SessionId,
        skip: u32,
        limit: u32,
    ) -> Result<(Vec<Act>, bool, Option<Entry>), Refusal> {
        let session = self.session_for(caller, id, Action::PlayRecording).await?;
        let recordings = self.recordings(id)?;
        let entry = recordings.archive().entry(id).await?;
        let mut acts = recordings.archive().acts(id, skip, limit.saturating_add(1)).await?;
        let more = acts.len() > limit as usize;
        acts.truncate(limit as usize);
        self.note_use(caller, &session, AuditKind::RecordingRead, BTreeMap::new()).await?;
        Ok((acts, more, entry))
    }

    /// Searches in what was done, in everybody's sessions or else in the caller's own, less those that a policy hides
    /// from them. Puts on record who searched for what.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::Invalid`]; what the store refuses.
    pub async fn search_recordings(&self, caller: &Caller, mut search: Search) -> Result<Vec<Found>, Refusal> {
        if self.scope(caller, Action::SearchRecordings).await? == Scope::Own {
            if search.principal.as_ref().is_some_and(|principal| principal != caller.name()) {
                return Ok(Vec::new());
            }
            search.principal = Some(caller.name().clone());
        }
        let Some(recordings) = &self.recordings else { return Ok(Vec::new()) };
        let mut found = recordings.archive().search(&search).await?;
        let mut shown: BTreeMap<SessionId, bool> = BTreeMap::new();
        for id in found.iter().map(|found| &found.session) {
            if !shown.contains_key(id) {
                let session = self.store.session(id).await?;
                let may = session.is_some_and(|session| self.may(caller, Action::ReadSession, Resource::of(&session)));
                shown.insert(id.clone(), may);
            }
        }
        found.retain(|found| shown.get(&found.session).copied().unwrap_or(false));
        let facts = BTreeMap::from([
            ("text".to_owned(), printable(&search.text, 200)),
            ("found".to_owned(), found.len().to_string()),
        ]);
        let actor = Actor::Principal(caller.name().clone());
        self.store.record(Deed { kind: AuditKind::RecordingsSearched, actor, session: None, facts }).await?;
        Ok(found)
    }

    /// Holds a session's recording for this reason, or gives it free.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when the caller may not see the session, [`Refusal::Denied`]; what the store refuses.
    pub async fn hold_recording(
        &self,
        caller: &Caller,
        id: &SessionId,
        reason: Option<&str>,
    ) -> Result<Entry, Refusal> {
        self.session_for(caller, id, Action::HoldRecording).await?;
        let reason = reason.map(|reason| printable(reason, Ending::DETAIL_CHARS_MAX));
        let by = Actor::Principal(caller.name().clone());
        self.recordings(id)?.archive().hold(id, reason.as_deref(), &by).await
    }

    fn recordings(&self, id: &SessionId) -> Result<&Recordings, Refusal> {
        self.recordings.as_deref().ok_or_else(|| Refusal::not_found("recording", id))
    }

    /// A session on which the caller may do `action`.
    async fn session_for(&self, caller: &Caller, id: &SessionId, action: Action) -> Result<Session, Refusal> {
        match self.store.session(id).await? {
            Some(session) if self.may(caller, Action::ReadSession, Resource::of(&session)) => {
                if self.may(caller, action, Resource::of(&session)) {
                    return Ok(session);
                }
                Err(self.deny(caller, action, Some(id)).await)
            }
            Some(_) | None => Err(Refusal::not_found("session", id)),
        }
    }

    async fn note_use(
        &self,
        caller: &Caller,
        session: &Session,
        kind: AuditKind,
        mut facts: BTreeMap<String, String>,
    ) -> Result<(), Refusal> {
        facts.insert("owner".to_owned(), session.draft.principal.to_string());
        facts.insert("target".to_owned(), session.draft.target.name.to_string());
        facts.insert("client_address".to_owned(), caller.contact().address.to_string());
        let actor = Actor::Principal(caller.name().clone());
        self.store.record(Deed { kind, actor, session: Some(session.id().clone()), facts }).await.map(|_| ())
    }

    /// Up to `limit` events after number `after` that the caller may see, with the record's bounds; and how far this answer
    /// has looked: go on from there. Where there are very many events of others, it may hold none and yet not have looked
    /// at all there are.
    ///
    /// # Errors
    /// [`Refusal::Denied`] when they may see none; what the store refuses.
    pub async fn events(&self, caller: &Caller, after: u64, limit: u32) -> Result<(EventPage, u64), Refusal> {
        let scope = self.scope(caller, Action::WatchEvents).await?;
        let end_of = |page: &EventPage| page.events.last().map(|event| event.seq);
        if scope == Scope::Everyone {
            let page = self.store.events(after, limit).await?;
            let looked = end_of(&page).unwrap_or(page.newest);
            return Ok((page, looked));
        }
        let own = |event: &AuditEvent| {
            event.deed.session.is_some()
                && event.deed.facts.get("principal").is_some_and(|p| p == caller.name().as_str())
        };
        let mut found = EventPage { events: Vec::new(), oldest: 1, newest: after };
        let mut looked = after;
        for _ in 0..Self::EVENTS_STEPS_MAX {
            let page = self.store.events(looked, Self::EVENTS_STEP).await?;
            let last = end_of(&page);
            (found.oldest, found.newest) = (page.oldest, page.newest);
            let wanted = limit as usize - found.events.len();
            found.events.extend(page.events.into_iter().filter(own).take(wanted));
            if found.events.len() == limit as usize {
                looked = end_of(&found).unwrap_or(looked);
                break;
            }
            looked = last.unwrap_or(page.newest);
            if last.is_none() {
                break;
            }
        }
        Ok((found, looked))
    }

    /// Resolves when an event with a number above `after` exists.
    pub async fn wait_for_event(&self, after: u64) {
        self.store.wait_for_event(after).await;
    }

    /// A stretch of the record with its chain: up to `limit` of the entries after number `after` that the filter selects,
    /// what the chain stands on, and how far this answer has looked (go on from there). That somebody took a copy is on
    /// record itself.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn export(
        &self,
        caller: &Caller,
        filter: &EventFilter,
        after: u64,
        limit: u32,
    ) -> Result<(EntryPage, u64), Refusal> {
        self.on_bastion(caller, Action::ExportAudit).await?;
        let Some(ledger) = self.store.ledger() else {
            return Err(Refusal::unavailable("the ledger", "this store keeps none"));
        };
        if let Some(passed_over) = self.exports.admit(caller.name().clone()) {
            let facts = BTreeMap::from([
                ("after".to_owned(), after.to_string()),
                ("filter".to_owned(), filter.to_string()),
                ("client_address".to_owned(), caller.contact().address.to_string()),
                ("passed_over_before".to_owned(), passed_over.to_string()),
            ]);
            let actor = Actor::Principal(caller.name().clone());
            self.store.record(Deed { kind: AuditKind::RecordExported, actor, session: None, facts }).await?;
        }
        let mut looked = after;
        let mut found = Vec::new();
        for _ in 1..Self::EVENTS_STEPS_MAX {
            let page = within(Self::EXPORT_MAX, ledger.entries(looked, limit.max(Self::EVENTS_STEP))).await?;
            let is_empty = page.entries.is_empty();
            for entry in page.entries {
                looked = entry.event.seq;
                if filter.matches(&entry.event) {
                    found.push(entry);
                }
                if found.len() == limit as usize {
                    break;
                }
            }
            if is_empty || found.len() == limit as usize || looked >= page.newest {
                break;
            }
        }
        // The foundation as it is now: what was read before it moved is still true of the whole.
        let bounds = within(Self::EXPORT_MAX, ledger.entries(u64::MAX >> 1, 1)).await?;
        Ok((EntryPage { entries: found, ..bounds }, looked))
    }

    /// How the sinks are.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub async fn sinks(&self, caller: &Caller) -> Result<Vec<SinkStatus>, Refusal> {
        self.on_bastion(caller, Action::ReadSinks).await?;
        Ok(self.sinks.get().map(|sinks| sinks.statuses()).unwrap_or_default())
    }

    /// How the places are that take the output of sessions.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub async fn log_places(&self, caller: &Caller) -> Result<Vec<LogPlaceStatus>, Refusal> {
        self.on_bastion(caller, Action::ReadSinks).await?;
        Ok(self.recordings.as_ref().map(|recordings| recordings.logs().statuses()).unwrap_or_default())
    }

    /// The targets that the caller may see.
    #[must_use]
    pub fn targets(&self, caller: &Caller) -> Vec<Arc<Target>> {
        let rules = self.directory.rules();
        let all = rules.inventory.targets().iter();
        all.filter(|target| self.may(caller, Action::ReadTarget, Resource::Target(target))).cloned().collect()
    }

    /// The target of that name, id or alias.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also when the caller may not see it.
    pub fn target(&self, caller: &Caller, any_name: &str) -> Result<Arc<Target>, Refusal> {
        let rules = self.directory.rules();
        match rules.inventory.target(any_name) {
            Some(target) if self.may(caller, Action::ReadTarget, Resource::Target(target)) => Ok(Arc::clone(target)),
            Some(_) | None => Err(Refusal::not_found("target", any_name)),
        }
    }

    /// Whether the target takes connections now. Bounded in time, see [`crate::egress::PROBE_MAX`].
    pub async fn reaches(&self, target: &Target) -> bool {
        self.probe.reaches(target).await
    }

    /// What is to be seen of a target from outside. Bounded in time, and kept for half a minute.
    pub async fn look(&self, target: &Target) -> Sight {
        self.probe.look(target).await
    }

    /// A live session that its owner comes back to.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also for others' sessions, whatever the policy says: a session is its owner's;
    /// [`Refusal::Denied`].
    pub async fn resumable(&self, caller: &Caller, id: &SessionId) -> Result<Session, Refusal> {
        let session = self.describe(caller, id).await?;
        if session.draft.principal != *caller.name() {
            return Err(Refusal::not_found("session", id));
        }
        if !self.may(caller, Action::ResumeSession, Resource::of(&session)) {
            return Err(self.deny(caller, Action::ResumeSession, Some(id)).await);
        }
        Ok(session)
    }

    /// Whether the caller may see the bastion's own description.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub async fn read_bastion(&self, caller: &Caller) -> Result<(), Refusal> {
        self.on_bastion(caller, Action::ReadBastion).await
    }

    pub(crate) async fn on_bastion(&self, caller: &Caller, action: Action) -> Result<(), Refusal> {
        if self.may(caller, action, Resource::Bastion) { Ok(()) } else { Err(self.deny(caller, action, None).await) }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    pub(crate) fn knows_target(&self, any_name: &str) -> bool {
        self.directory.rules().inventory.target(any_name).is_some()
    }

    /// Issues a credential for a principal of the inventory.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NotFound`] for an unknown principal; what the store refuses.
    pub async fn issue_credential(
        &self,
        caller: &Caller,
        principal: &PrincipalName,
        kind: CredentialKind,
        note: &str,
        expires: Option<Time>,
    ) -> Result<Issued, Refusal> {
        self.in_scope(caller, Action::IssueCredential, principal).await?;
        if self.directory.rules().inventory.principal(principal).is_none() {
            return Err(Refusal::not_found("principal", principal));
        }
        let by = Actor::Principal(caller.name().clone());
        issue(self.store.as_ref(), &self.master, principal, kind, note, expires, &by).await
    }

    /// The credentials that the caller may list, oldest first.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; what the store refuses.
    pub async fn credentials(&self, caller: &Caller) -> Result<Vec<Credential>, Refusal> {
        let scope = self.scope(caller, Action::ListCredentials).await?;
        let mut all = self.store.credentials().await?;
        if scope == Scope::Own {
            all.retain(|credential| credential.principal == *caller.name());
        }
        Ok(all)
    }

    /// Revokes a credential: it is refused from now on, and live sessions that began with it end as `rights_revoked`.
    /// Revoking again changes nothing.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] also for others' when the caller may only touch their own, [`Refusal::Denied`].
    pub async fn revoke_credential(&self, caller: &Caller, id: &CredentialId) -> Result<Credential, Refusal> {
        let scope = self.scope(caller, Action::RevokeCredential).await?;
        match self.store.credential(id).await? {
            Some(credential) if scope == Scope::Everyone || credential.principal == *caller.name() => {
                let by = Actor::Principal(caller.name().clone());
                let credential = self.store.revoke_credential(id, &by).await?;
                // One that begins now is seen by the gate.
                for live in self.registry.all().iter().filter(|live| live.credential.as_ref() == Some(id)) {
                    live.end(revoked(id, by.clone()));
                }
                Ok(credential)
            }
            Some(_) | None => Err(Refusal::not_found("credential", id)),
        }
    }

    /// The store's clock.
    ///
    /// # Errors
    /// What the store refuses.
    pub async fn now(&self) -> Result<Time, Refusal> {
        self.store.now().await
    }

    /// Whether people can be sent here: the store answers, the node does not drain, and no sink holds sessions back.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] while the node drains or a sink is too far behind; what the store refuses.
    pub async fn ready(&self) -> Result<(), Refusal> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Refusal::unavailable("the bastion is stopping; it", "draining"));
        }
        accountable(&self.sinks)?;
        self.store.events(u64::MAX >> 1, 1).await.map(|_| ())
    }

    fn may(&self, caller: &Caller, action: Action, resource: Resource<'_>) -> bool {
        let rules = self.directory.rules();
        // The principal as the inventory has it now: groups and keys may have changed since the proof.
        let Some(principal) = caller.as_of(&rules.inventory) else { return false };
        rules.permit(&Question { principal, action, resource, client: caller.contact().address.ip() })
    }

    /// The widest scope in which the caller may do this.
    async fn scope(&self, caller: &Caller, action: Action) -> Result<Scope, Refusal> {
        for scope in [Scope::Everyone, Scope::Own] {
            if self.may(caller, action, Resource::Scope(scope)) {
                return Ok(scope);
            }
        }
        Err(self.deny(caller, action, None).await)
    }

    async fn in_scope(&self, caller: &Caller, action: Action, whose: &PrincipalName) -> Result<(), Refusal> {
        let scope = self.scope(caller, action).await?;
        if scope == Scope::Everyone || whose == caller.name() {
            return Ok(());
        }
        Err(self.deny(caller, action, None).await)
    }

    async fn deny(&self, caller: &Caller, action: Action, session: Option<&SessionId>) -> Refusal {
        self.denials.deny(caller, action, session, None).await
    }

    /// Puts the live counts over the last flushed ones.
    fn freshen(&self, session: &mut Session) {
        if session.state().is_final() {
            return;
        }
        if let Some(live) = self.registry.live(session.id()) {
            session.activity = session.activity.later_of(live_activity(&live, session.activity.last));
        }
    }
}

/// Makes and stores a credential. The one place where secrets of credentials are born; also for the command that
/// issues a deployment's first credential before anything serves.
///
/// A temporary key lasts [`TEMPORARY_KEY_LIFE`] unless `expires` says otherwise.
///
/// # Errors
/// [`Refusal::Invalid`] for a temporary key that would last longer than [`TEMPORARY_KEY_LIFE_MAX`]; what the store
/// refuses.
pub async fn issue(
    store: &dyn Store,
    master: &MasterKey,
    principal: &PrincipalName,
    kind: CredentialKind,
    note: &str,
    expires: Option<Time>,
    by: &Actor,
) -> Result<Issued, Refusal> {
    let random: [u8; 16] = random_bytes();
    let key_id = |prefix: &str| {
        let tail: String = random.iter().map(|b| char::from(BASE32[usize::from(b % 32)])).collect();
        format!("{prefix}{tail}")
    };
    let (mut expires, mut session_token) = (expires, None);
    let (id, secret, digest) = match kind {
        CredentialKind::Token => {
            let id = hex(&random[..8]);
            let secret = random_secret();
            let digest = secret_digest(&secret);
            let token = format!("{TOKEN_PREFIX}{id}_{secret}");
            (id, SecretString::from(token), Some(digest))
        }
        CredentialKind::SigningKey => {
            let id = key_id("RVLK");
            let secret = master.signing_secret(&id);
            (id, secret, None)
        }
        CredentialKind::TemporaryKey => {
            let now = store.now().await?;
            let at = *expires.get_or_insert(now.plus(TEMPORARY_KEY_LIFE));
            if at > now.plus(TEMPORARY_KEY_LIFE_MAX) {
                let hours = TEMPORARY_KEY_LIFE_MAX.as_secs() / 3600;
                return Err(Refusal::invalid("expires", format!("a temporary key lasts at most {hours} hours")));
            }
            let id = key_id("RVLT");
            let secret = master.signing_secret(&id);
            session_token = Some(master.session_token(&id));
            (id, secret, None)
        }
        CredentialKind::ClientSecret => {
            let secret = random_secret();
            let digest = secret_digest(&secret);
            (guid(random), SecretString::from(secret), Some(digest))
        }
    };
    let id = CredentialId::parse(&id).map_err(Refusal::internal)?;
    let note = printable(note, 200);
    let credential = Credential {
        id,
        kind,
        principal: principal.clone(),
        digest,
        note,
        created: Time::EPOCH,
        expires,
        revoked: None,
    };
    let credential = store.add_credential(credential, by).await?;
    Ok(Issued { credential, secret, session_token })
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A random GUID, version 4.
fn guid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let all = hex(&bytes);
    [&all[..8], &all[8..12], &all[12..16], &all[16..20], &all[20..]].join("-")
}

fn by_operator(caller: &Caller, reason: &str) -> Ending {
    Ending::new(EndReason::DisconnectedByOperator, Actor::Principal(caller.name().clone()), reason)
}

async fn confirmed(live: &Live, wait: Duration) -> Termination {
    match tokio::time::timeout(wait, live.wait_done()).await {
        Ok(done) => Termination::Confirmed { closed: done.closed, ending: done.ending },
        Err(_elapsed) => {
            let after = format!("after {} ms", wait.as_millis());
            let because = if live.is_closed() {
                format!("both sockets are closed, and {after} the store has not taken that down yet")
            } else {
                format!("the end was ordered, and {after} something is still open")
            };
            Termination::Pending { because }
        }
    }
}

fn live_activity(live: &Live, last: Time) -> Activity {
    Activity {
        last,
        bytes_in: live.bytes_in.load(Ordering::Relaxed),
        bytes_out: live.bytes_out.load(Ordering::Relaxed),
    }
}

/// Narrows a filter to one owner; `false` when nothing can match any more.
fn narrow(filter: &mut SessionFilter, owner: &PrincipalName) -> bool {
    if !filter.principals.is_empty() && !filter.principals.contains(owner) {
        return false;
    }
    filter.principals = BTreeSet::from([owner.clone()]);
    true
}
