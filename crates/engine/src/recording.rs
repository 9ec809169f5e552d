//! Recording: what the relay notes goes through one bounded queue for each session to a tape, off the path of the bytes.
//!
//! - [`Tap`] is the relay's end: it clones what passes (no copy: the bytes are shared) and waits only while the queue is
//!   full.
//! - One task for each recorded session gathers notes and writes them, at the latest after [`Recordings::GATHER`], and
//!   sees the recording to its end.
//! - A tape that cannot take what comes for [`Recordings::STALL_MAX`] has failed. Then the session ends, or it goes on
//!   and its row says so, as the target's rule has it.
//!
//! A session ends without waiting for its recording: the recording's own end follows, and has its own event.

use crate::registry::Live;
pub use crate::session_logs::Outlets;
use crate::session_logs::SessionLogs;
use ravelin_model::ports::{Archive, Recorder, Store, Tape};
use ravelin_model::recording::{Broken, Counts, Flow, Head, Kept, Mode, Note, Purpose, Terminal, What, WhenBroken};
use ravelin_model::session::{Actor, EndReason, Ending, Event};
use ravelin_model::{Refusal, SessionId, Time};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What an engine records with.
#[derive(Clone)]
pub struct Setup {
    /// Makes and keeps recordings.
    pub recorder: Arc<dyn Recorder>,
    /// Knows of them.
    pub archive: Arc<dyn Archive>,
    /// How long a recording is kept.
    pub keep: Duration,
    /// How long those of a class are kept.
    pub keep_by_class: BTreeMap<String, Duration>,
    /// What takes the output of sessions whose documents ask for it.
    pub outlets: Outlets,
}

/// All recordings of this node.
pub(crate) struct Recordings {
    setup: Setup,
    store: Arc<dyn Store>,
    tasks: TaskTracker,
    failures: AtomicU64,
    logs: Arc<SessionLogs>,
}

impl Recordings {
    /// Notes that may wait; at most one unit of the relay each.
    const QUEUE_NOTES_MAX: usize = 256;
    /// Longest that a note waits for others to be written with.
    const GATHER: Duration = Duration::from_millis(250);
    /// Bytes that are written at once.
    const GATHER_BYTES: usize = 512 * 1024;
    /// Longest that something written may be lost with the machine's power.
    const SYNC_AFTER: Duration = Duration::from_secs(1);
    /// Longest that a tape may take nothing. Below the 10 s in which a session has to end.
    const STALL_MAX: Duration = Duration::from_secs(8);
    /// Longest that a recording may take to be finished after its session.
    const FINISH_MAX: Duration = Duration::from_secs(600);
    /// Between tries to write into a store that cannot be written.
    const RETRY_AFTER: Duration = Duration::from_millis(500);
    /// Recordings that one round removes.
    const SWEEP_MAX: u32 = 200;
    /// Longest that one removal may take.
    const REMOVE_MAX: Duration = Duration::from_secs(20);

    pub(crate) fn new(mut setup: Setup, store: Arc<dyn Store>, tasks: TaskTracker) -> Arc<Self> {
        let (outlets, recorder) = (std::mem::take(&mut setup.outlets), Arc::clone(&setup.recorder));
        let logs = SessionLogs::new(outlets, recorder, Arc::clone(&setup.archive), Arc::clone(&store));
        Arc::new(Self { setup, store, tasks, failures: AtomicU64::new(0), logs })
    }

    /// The places for the output of sessions.
    pub(crate) fn logs(&self) -> &Arc<SessionLogs> {
        &self.logs
    }

    pub(crate) fn recorder(&self) -> &dyn Recorder {
        self.setup.recorder.as_ref()
    }

    pub(crate) fn archive(&self) -> &dyn Archive {
        self.setup.archive.as_ref()
    }

    /// Recordings that failed in this life.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Begins the recording of a session, and the task that sees it to its end. In a task of its own: who waits for it
    /// may go away, and what has begun must be seen to its end all the same.
    async fn begin(self: &Arc<Self>, live: &Arc<Live>) -> Result<Arc<Tap>, Broken> {
        let (recordings, live) = (Arc::clone(self), Arc::clone(live));
        let beginning = self.tasks.spawn(async move { recordings.begin_now(&live).await });
        beginning.await.map_err(|died| Broken::new(format!("its beginning died: {died}")))?
    }

    async fn begin_now(self: &Arc<Self>, live: &Arc<Live>) -> Result<Arc<Tap>, Broken> {
        let refused = |refusal: Refusal| {
            Broken::new(refusal.detail().map_or_else(|| refusal.to_string(), |detail| detail.for_log().to_owned()))
        };
        let head = Head {
            session: live.id.clone(),
            principal: live.principal.clone(),
            target: live.target.name.clone(),
            login: live.login.clone(),
            began: self.store.now().await.map_err(refused)?,
            rule: live.target.recording.clone(),
        };
        let beginning = tokio::time::timeout(Self::STALL_MAX, self.setup.recorder.begin(head));
        let tape = beginning.await.unwrap_or_else(|_| Err(Broken::new("the recorder does not answer")))?;
        let applied = self.store.apply(&live.id, vec![Event::RecordingBegan]).await.map_err(refused)?;
        self.logs.stream(&applied.session, &live.ended);
        let (sender, notes) = mpsc::channel(Self::QUEUE_NOTES_MAX);
        let tap = Arc::new(Tap {
            notes: sender,
            began: Instant::now(),
            channels: AtomicU32::new(0),
            waiting: AtomicIsize::new(0),
            hurry: Notify::new(),
            off: AtomicBool::new(false),
            failed: CancellationToken::new(),
            because: OnceLock::new(),
        });
        let (recordings, live, of) = (Arc::clone(self), Arc::clone(live), Arc::clone(&tap));
        self.tasks.spawn(async move { recordings.see_to_end(&live, &of, tape, notes).await });
        Ok(tap)
    }

    async fn see_to_end(&self, live: &Live, tap: &Tap, mut tape: Box<dyn Tape>, notes: mpsc::Receiver<Note>) {
        if let Err(broken) = Self::fill(live, tap, tape.as_mut(), notes).await {
            tap.off.store(true, Ordering::Release);
            drop(tape);
            return self.broke(live, &broken).await;
        }
        let finished = tokio::time::timeout(Self::FINISH_MAX, tape.finish()).await;
        match finished.unwrap_or_else(|_| Err(Broken::new("it could not be finished in time"))) {
            Ok(kept) => self.keep(kept).await,
            Err(broken) => self.broke(live, &broken).await,
        }
    }

    /// Writes what comes until the session is over and its last note is written.
    async fn fill(live: &Live, tap: &Tap, tape: &mut dyn Tape, mut notes: mpsc::Receiver<Note>) -> Result<(), Broken> {
        let mut closing = false;
        // When the oldest write that may still be lost was made.
        let mut unsynced: Option<Instant> = None;
        loop {
            let due = unsynced.map(|since| since + Self::SYNC_AFTER);
            let first = tokio::select! {
                note = notes.recv() => note,
                () = live.ended.cancelled(), if !closing => {
                    // The pumps stop now; what they noted before is still written.
                    closing = true;
                    notes.close();
                    continue;
                }
                () = tap.failed.cancelled() => return Err(tap.broken()),
                () = sleep_until(due), if due.is_some() => {
                    bounded(tape.sync()).await?;
                    unsynced = None;
                    continue;
                }
            };
            let Some(first) = first else { return Ok(()) };
            let mut batch = Batch { notes: Vec::new(), bytes: 0 };
            batch.push(first, tap);
            let deadline = Instant::now() + Self::GATHER;
            loop {
                batch.gather(&mut notes, tap);
                if closing || batch.is_full() {
                    break;
                }
                // Notes are not taken one by one as they come: waking this task for each would cost more than they do.
                tokio::select! {
                    () = tap.hurry.notified() => {}
                    () = tokio::time::sleep_until(deadline) => {
                        batch.gather(&mut notes, tap);
                        break;
                    }
                    () = live.ended.cancelled() => {
                        closing = true;
                        notes.close();
                    }
                }
            }
            bounded(tape.write(batch.notes)).await?;
            let since = *unsynced.get_or_insert_with(Instant::now);
            if since.elapsed() >= Self::SYNC_AFTER {
                bounded(tape.sync()).await?;
                unsynced = None;
            }
        }
    }

    /// Puts a whole recording on record.
    async fn keep(&self, kept: Kept) {
        let id = kept.head.session.clone();
        let keep = self.setup.keep_by_class.get(&kept.head.rule.class).copied().unwrap_or(self.setup.keep);
        let until = kept.head.began.plus(kept.lasted).plus(keep);
        loop {
            match self.setup.archive.note(&kept, until).await {
                Ok(()) => break,
                Err(refusal) if Self::is_passing(&id, &refusal) => tokio::time::sleep(Self::RETRY_AFTER).await,
                Err(_told) => return,
            }
        }
        let events = vec![Event::RecordingBegan, Event::RecordingKept { digest: kept.digest }];
        if self.apply(&id, &events).await
            && let Err(broken) = self.setup.recorder.settle(&id).await
        {
            // It is whole and on record; the next start tries again.
            tracing::error!(session = %id, because = %broken, "a recording could not be put in its last place");
        }
        self.logs.wake();
    }

    /// Applies these, however long the store cannot be written; `false` when that can never be done.
    async fn apply(&self, id: &SessionId, events: &[Event]) -> bool {
        loop {
            match self.store.apply(id, events.to_vec()).await {
                Ok(_) => return true,
                Err(refusal) if Self::is_passing(id, &refusal) => tokio::time::sleep(Self::RETRY_AFTER).await,
                Err(_told) => return false,
            }
        }
    }

    /// Whether trying again makes sense, once it was told.
    fn is_passing(id: &SessionId, refusal: &Refusal) -> bool {
        match refusal {
            Refusal::Unavailable { .. } | Refusal::LimitReached { .. } => {
                tracing::error!(session = %id, ?refusal, "cannot write a recording's end yet; trying again");
                true
            }
            Refusal::NotFound { .. }
            | Refusal::Denied { .. }
            | Refusal::Unauthenticated { .. }
            | Refusal::Invalid { .. }
            | Refusal::Conflict { .. }
            | Refusal::Internal { .. } => {
                tracing::error!(session = %id, ?refusal, "the end of a recording was refused");
                false
            }
        }
    }

    async fn broke(&self, live: &Live, broken: &Broken) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let ends = live.target.recording.when_broken == WhenBroken::End;
        tracing::error!(session = %live.id, because = %broken, ends, "a recording failed");
        if ends {
            live.end(Ending::new(EndReason::RecordingFailed, Actor::System, ""));
        }
        self.apply(&live.id, &[Event::RecordingBroke]).await;
    }

    /// Finishes what the last life left unfinished.
    pub(crate) async fn recover(self: Arc<Self>) {
        for (id, outcome) in self.setup.recorder.recover().await {
            match outcome {
                Ok(kept) => {
                    tracing::info!(session = %id, "a recording that was cut off was finished");
                    self.keep(kept).await;
                }
                Err(broken) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(session = %id, because = %broken, "a recording that was cut off cannot be finished");
                    self.apply(&id, &[Event::RecordingBroke]).await;
                }
            }
        }
    }

    /// Removes recordings whose time is over, and which nobody holds by the moment of their own removal. Ends with the
    /// first that lies elsewhere and cannot be removed there: the others would wait for the same place.
    pub(crate) async fn sweep(&self, now: Time) -> Result<(), Refusal> {
        for id in self.setup.archive.expired(now, Self::SWEEP_MAX).await? {
            if !self.setup.archive.claim(&id, now).await? {
                continue;
            }
            let removing = tokio::time::timeout(Self::REMOVE_MAX, self.setup.recorder.remove(&id)).await;
            let is_stuck = removing.is_err();
            match removing.unwrap_or_else(|_| Err(Broken::new("it takes too long"))) {
                Ok(()) => self.setup.archive.removed(&id).await?,
                Err(broken) => {
                    tracing::error!(session = %id, because = %broken, "a recording whose time is over cannot be removed");
                    let lies = if is_stuck { None } else { self.setup.recorder.whereabouts(&id).await };
                    if is_stuck || lies.is_some_and(|lies| lies.place.is_some()) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn bounded(work: impl Future<Output = Result<(), Broken>>) -> Result<(), Broken> {
    let done = tokio::time::timeout(Recordings::STALL_MAX, work).await;
    done.unwrap_or_else(|_| {
        Err(Broken::new(format!("nothing could be written for {} s", Recordings::STALL_MAX.as_secs())))
    })
}

/// Where a session's recording stands. It begins with the first channel.
#[derive(Default)]
pub(crate) struct Place(tokio::sync::OnceCell<Option<Arc<Tap>>>);

impl Place {
    async fn tap(&self, live: &Arc<Live>, recordings: Option<&Arc<Recordings>>) -> Option<Arc<Tap>> {
        let began = self.0.get_or_init(|| async {
            let Some(recordings) = recordings else {
                tracing::error!(session = %live.id, "a session has to be recorded and there is no recorder");
                live.end(Ending::new(EndReason::RecordingFailed, Actor::System, "there is no recorder"));
                return None;
            };
            match recordings.begin(live).await {
                Ok(tap) => Some(tap),
                Err(broken) => {
                    recordings.broke(live, &broken).await;
                    None
                }
            }
        });
        began.await.clone()
    }
}

/// The relay's end of a recording.
pub(crate) struct Tap {
    notes: mpsc::Sender<Note>,
    began: Instant,
    channels: AtomicU32,
    // What the queue holds, by weight: a note counts after it was queued, so this may be negative for a moment. And that
    // it is time to take it.
    waiting: AtomicIsize,
    hurry: Notify,
    // Nothing is noted any more, because it failed.
    off: AtomicBool,
    failed: CancellationToken,
    because: OnceLock<Broken>,
}

impl Tap {
    fn broken(&self) -> Broken {
        self.because.get().cloned().unwrap_or_else(|| Broken::new("it failed"))
    }

    /// Queues a note, and has what is queued taken when it is enough.
    fn put(&self, place: mpsc::Permit<'_, Note>, note: Note) {
        const ENOUGH: isize = Recordings::GATHER_BYTES.cast_signed();
        let weight = weight(&note);
        place.send(note);
        let before = self.waiting.fetch_add(weight, Ordering::AcqRel);
        if before < ENOUGH && before.saturating_add(weight) >= ENOUGH {
            self.hurry.notify_one();
        }
    }

    async fn note(&self, channel: u32, what: What) {
        if self.off.load(Ordering::Acquire) {
            return;
        }
        let note = Note { at: self.began.elapsed(), channel, what };
        let place = match self.notes.try_reserve() {
            Err(mpsc::error::TrySendError::Full(())) => {
                self.hurry.notify_one();
                match tokio::time::timeout(Recordings::STALL_MAX, self.notes.reserve()).await {
                    Ok(place) => place.ok(),
                    Err(_elapsed) => {
                        self.off.store(true, Ordering::Release);
                        let _first = self.because.set(Broken::new("it cannot keep up with the session"));
                        self.failed.cancel();
                        None
                    }
                }
            }
            place => place.ok(),
        };
        // None: the session is over, or the recording failed and that is told elsewhere.
        if let Some(place) = place {
            self.put(place, note);
        }
    }
}

/// What a note adds to what is worth being taken from the queue: its bytes, and so much at least that half a queue is.
fn weight(note: &Note) -> isize {
    const LEAST: usize = Recordings::GATHER_BYTES / (Recordings::QUEUE_NOTES_MAX / 2);
    isize::try_from(bytes(note).max(LEAST)).unwrap_or(isize::MAX)
}

fn bytes(note: &Note) -> usize {
    match &note.what {
        What::Data { bytes, .. } => bytes.len(),
        What::Opened { .. } | What::Resized { .. } | What::Exited { .. } | What::Closed => 0,
    }
}

/// Notes that are written at once.
struct Batch {
    notes: Vec<Note>,
    bytes: usize,
}

impl Batch {
    /// Notes, however short they are.
    const NOTES_MAX: usize = 4096;

    fn is_full(&self) -> bool {
        self.bytes >= Recordings::GATHER_BYTES || self.notes.len() >= Self::NOTES_MAX
    }

    fn push(&mut self, note: Note, tap: &Tap) {
        tap.waiting.fetch_sub(weight(&note), Ordering::AcqRel);
        self.bytes += bytes(&note);
        self.notes.push(note);
    }

    /// Takes what is queued, until it is enough.
    fn gather(&mut self, queue: &mut mpsc::Receiver<Note>, tap: &Tap) {
        while !self.is_full()
            && let Ok(note) = queue.try_recv()
        {
            self.push(note, tap);
        }
    }
}

/// What the relay of one channel notes.
pub(crate) struct ChannelTap {
    tap: Arc<Tap>,
    number: u32,
    counts: Arc<Counts>,
    wants_bytes: bool,
}

impl ChannelTap {
    /// Opens a channel in the session's recording, and begins that if it is the first. `None` when nothing is recorded.
    pub(crate) async fn open(
        live: &Arc<Live>,
        recordings: Option<&Arc<Recordings>>,
        purpose: Purpose,
    ) -> Option<ChannelTap> {
        let rule = &live.target.recording;
        if rule.mode == Mode::None {
            return None;
        }
        let tap = live.recording.tap(live, recordings).await?;
        let channel = ChannelTap {
            number: tap.channels.fetch_add(1, Ordering::Relaxed),
            counts: Arc::default(),
            wants_bytes: purpose.needs_bytes(rule),
            tap,
        };
        let counts = Arc::clone(&channel.counts);
        channel.tap.note(channel.number, What::Opened { purpose, counts }).await;
        Some(channel)
    }

    pub(crate) async fn data(&self, flow: Flow, bytes: &bytes::Bytes) {
        if self.wants_bytes {
            self.tap.note(self.number, What::Data { flow, bytes: bytes.clone() }).await;
        }
        // Last: whoever stops waiting for the note comes again with the same bytes.
        self.counts.add(flow, bytes.len() as u64);
    }

    pub(crate) async fn resized(&self, columns: u32, rows: u32) {
        if columns > 0 && rows > 0 {
            self.tap.note(self.number, What::Resized { columns, rows }).await;
        }
    }

    pub(crate) async fn exited(&self, status: String) {
        self.tap.note(self.number, What::Exited { status }).await;
    }
}

impl Drop for ChannelTap {
    fn drop(&mut self) {
        let note = Note { at: self.tap.began.elapsed(), channel: self.number, what: What::Closed };
        // Where there is no place, the end of the recording closes what is open, with the same counts.
        if let Ok(place) = self.tap.notes.try_reserve() {
            self.tap.put(place, note);
        }
    }
}

/// A terminal of these bounds, which a recorder can hold whatever a client claims.
#[must_use]
pub fn terminal(name: &str, columns: u32, rows: u32) -> Terminal {
    const CELLS_MAX: u32 = 1_000;
    let name = ravelin_model::text::printable(name, 64);
    // A client whose own terminal is none says 0.
    let side = |side: u32, usual: u32| if side == 0 { usual } else { side.min(CELLS_MAX) };
    Terminal { name, columns: side(columns, 80), rows: side(rows, 24) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use ravelin_model::ports::Reading;
    use ravelin_model::recording::{Act, Request, Whereabouts};
    use ravelin_model::{PrincipalName, TargetName};
    use ravelin_store::SqliteStore;
    use std::sync::Mutex;

    /// What a removal comes to, in order, and what was to be removed.
    struct Removals {
        archive: Arc<SqliteStore>,
        elsewhere: bool,
        outcomes: Mutex<Vec<Result<(), Broken>>>,
        tried: Mutex<Vec<SessionId>>,
        // Held while the first removal is under way, and what came of it.
        hold: Vec<SessionId>,
        held: Mutex<Vec<bool>>,
    }

    #[async_trait]
    impl Recorder for Removals {
        async fn begin(&self, _head: Head) -> Result<Box<dyn Tape>, Broken> {
            Err(Broken::new("nothing is recorded here"))
        }

        async fn recover(&self) -> Vec<(SessionId, Result<Kept, Broken>)> {
            Vec::new()
        }

        async fn settle(&self, _session: &SessionId) -> Result<(), Broken> {
            Ok(())
        }

        async fn read(&self, session: &SessionId, _request: Request) -> Result<Box<dyn Reading>, Refusal> {
            Err(Refusal::not_found("recording", session))
        }

        async fn whereabouts(&self, _session: &SessionId) -> Option<Whereabouts> {
            let place = self.elsewhere.then(|| "far://away".to_owned());
            Some(Whereabouts { place, awaits: None, because: None })
        }

        async fn remove(&self, session: &SessionId) -> Result<(), Broken> {
            let is_first = {
                let mut tried = self.tried.lock().expect("not poisoned");
                tried.push(session.clone());
                tried.len() == 1
            };
            for id in self.hold.iter().filter(|_| is_first) {
                let held = self.archive.hold(id, Some("case 7"), &Actor::System).await.is_ok();
                self.held.lock().expect("not poisoned").push(held);
            }
            let mut outcomes = self.outcomes.lock().expect("not poisoned");
            if outcomes.is_empty() { Ok(()) } else { outcomes.remove(0) }
        }
    }

    fn id(random: u64) -> SessionId {
        SessionId::new(&PrincipalName::parse("alice").expect("a name"), random)
    }

    /// Three recordings whose time is over, and what sweeps them.
    async fn over(
        elsewhere: bool,
        outcomes: Vec<Result<(), Broken>>,
        hold: Vec<SessionId>,
    ) -> (Arc<Recordings>, Arc<Removals>) {
        let store = Arc::new(SqliteStore::in_memory().expect("a store in memory"));
        for random in 1..=3 {
            let head = Head {
                session: id(random),
                principal: PrincipalName::parse("alice").expect("a name"),
                target: TargetName::parse("web-1").expect("a name"),
                login: None,
                began: Time::EPOCH,
                rule: ravelin_model::recording::Rule::default(),
            };
            let acts: Vec<Act> = Vec::new();
            let kept = Kept { head, digest: "ab".repeat(32), bytes: 1, lasted: Duration::ZERO, acts };
            let until = Time::from_micros(i64::try_from(random).expect("small"));
            store.note(&kept, until).await.expect("noted");
        }
        let removals = Arc::new(Removals {
            archive: Arc::clone(&store),
            elsewhere,
            outcomes: Mutex::new(outcomes),
            tried: Mutex::default(),
            hold,
            held: Mutex::default(),
        });
        let setup = Setup {
            recorder: Arc::clone(&removals) as Arc<dyn Recorder>,
            archive: Arc::clone(&store) as Arc<dyn Archive>,
            keep: Duration::ZERO,
            keep_by_class: BTreeMap::new(),
            outlets: Outlets::new(),
        };
        (Recordings::new(setup, store, TaskTracker::new()), removals)
    }

    #[tokio::test]
    async fn a_hold_that_was_granted_during_a_sweep_is_kept() {
        let (recordings, removals) = over(false, Vec::new(), vec![id(2), id(1)]).await;
        recordings.sweep(Time::from_micros(9)).await.expect("swept");
        assert_eq!(*removals.held.lock().expect("not poisoned"), [true, false], "what is being removed cannot be held");
        assert_eq!(*removals.tried.lock().expect("not poisoned"), [id(1), id(3)]);
        let entry = recordings.archive().entry(&id(2)).await.expect("answered").expect("known");
        assert_eq!((entry.hold.as_deref(), entry.removed), (Some("case 7"), false));
    }

    #[tokio::test]
    async fn a_place_that_does_not_answer_ends_the_round_and_a_file_here_does_not() {
        for (elsewhere, tried) in [(true, vec![id(1)]), (false, vec![id(1), id(2), id(3)])] {
            let (recordings, removals) = over(elsewhere, vec![Err(Broken::new("away"))], Vec::new()).await;
            recordings.sweep(Time::from_micros(9)).await.expect("swept");
            assert_eq!(*removals.tried.lock().expect("not poisoned"), tried);
            recordings.sweep(Time::from_micros(9)).await.expect("swept");
            let entries = async |random| recordings.archive().entry(&id(random)).await.expect("answered");
            for random in 1..=3 {
                assert!(entries(random).await.expect("known").removed);
            }
            assert_eq!(recordings.archive().expired(Time::from_micros(9), 9).await, Ok(Vec::new()));
        }
    }
}
