//! Moves whole recordings from the directory to the object store, one after the other, for as long as the node lives.
//!
//! INVARIANT: a recording leaves the directory only after all of it was read back from the store and its SHA-256 is
//! that of the file. Until then it stays, is played from there, and the move is tried again: first those that never
//! failed, so that one that cannot be moved holds up nobody, and at most [`FAILED_IN_A_ROW_MAX`] in one round, so that a
//! store that is away costs little. What waits is read from the directory itself: a crash forgets nothing.

use crate::container::digest_of;
use crate::directory::{Shelf, apart};
use crate::far::Far;
use ravelin_model::SessionId;
use ravelin_model::meter::{Family, FamilyKind, Meter, Sample, Value};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Notify;

/// How often the directory is looked through when nothing calls for it.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a failure, the first time; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// After a failure, at most.
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Failures one after the other that end a round.
const FAILED_IN_A_ROW_MAX: u32 = 3;

/// A recording in the directory that waits to be moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) session: SessionId,
    pub(crate) bytes: u64,
    /// Since when.
    pub(crate) since: SystemTime,
}

/// How a move went wrong so far.
struct Failing {
    tries: u32,
    because: String,
}

/// How far moving is, for metrics and for those who ask about one recording.
#[derive(Default)]
pub(crate) struct Moves {
    wake: Notify,
    waiting: AtomicU64,
    waiting_bytes: AtomicU64,
    oldest: Mutex<Option<SystemTime>>,
    moved: AtomicU64,
    failures: AtomicU64,
    // Only of recordings that wait, so no longer than the directory is.
    failing: Mutex<HashMap<SessionId, Failing>>,
}

impl Moves {
    /// One more recording is whole.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Why a recording has not been moved yet, as far as it was tried.
    pub(crate) fn because(&self, session: &SessionId) -> Option<String> {
        self.failing().get(session).map(|failing| failing.because.clone())
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<SessionId, Failing>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_waiting(&self, waiting: &[Waiting]) {
        self.waiting.store(waiting.len() as u64, Ordering::Relaxed);
        self.waiting_bytes.store(waiting.iter().map(|one| one.bytes).sum(), Ordering::Relaxed);
        self.note_oldest(waiting.iter().map(|one| one.since).min());
    }

    fn note_oldest(&self, oldest: Option<SystemTime>) {
        *self.oldest.lock().unwrap_or_else(PoisonError::into_inner) = oldest;
    }

    fn note_moved(&self, bytes: u64, oldest: Option<SystemTime>) {
        self.moved.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.note_oldest(oldest);
    }

    fn note_failed(&self, session: &SessionId, because: String) {
        let mut failing = self.failing();
        let tries = failing.get(session).map_or(0, |failing| failing.tries).saturating_add(1);
        failing.insert(session.clone(), Failing { tries, because });
    }
}

impl Meter for Moves {
    fn read(&self) -> Vec<Family> {
        let one = |value| vec![Sample::new(Vec::new(), value)];
        let count = |count: &AtomicU64| one(Value::Count(count.load(Ordering::Relaxed)));
        #[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
        let level = |count: &AtomicU64| one(Value::Level(count.load(Ordering::Relaxed) as f64));
        let oldest = *self.oldest.lock().unwrap_or_else(PoisonError::into_inner);
        let age = oldest.and_then(|since| since.elapsed().ok()).unwrap_or_default();
        vec![
            Family::new(
                FamilyKind::Gauge,
                "ravelin_recordings_waiting",
                "Whole recordings in the directory that wait to be moved to the object store",
                level(&self.waiting),
            ),
            Family::new(
                FamilyKind::Gauge,
                "ravelin_recordings_waiting_bytes",
                "Their size",
                level(&self.waiting_bytes),
            ),
            Family::new(
                FamilyKind::Gauge,
                "ravelin_recordings_waiting_seconds",
                "How long the oldest of them has been waiting",
                one(Value::Level(age.as_secs_f64())),
            ),
            Family::new(
                FamilyKind::Counter,
                "ravelin_recordings_moved",
                "Recordings that were moved to the object store and read back from there",
                count(&self.moved),
            ),
            Family::new(
                FamilyKind::Counter,
                "ravelin_recordings_move_failures",
                "Tries to move a recording that failed; it stays in the directory and is tried again",
                count(&self.failures),
            ),
        ]
    }
}

/// Moves recordings. Dropping its work between two recordings or in one loses nothing: the next start goes on.
pub struct Mover {
    shelf: Arc<Shelf>,
    far: Arc<Far>,
    moves: Arc<Moves>,
}

impl Mover {
    pub(crate) fn new(shelf: Arc<Shelf>, far: Arc<Far>, moves: Arc<Moves>) -> Self {
        Self { shelf, far, moves }
    }

    /// Goes on until it is dropped.
    pub async fn run(&self) {
        if let Err(because) = self.far.probe().await {
            let place = self.far.place();
            tracing::error!(place, %because, "recordings cannot be moved; they stay in the directory until they can");
        }
        let mut pause = PAUSE_MIN;
        loop {
            if self.round().await {
                pause = PAUSE_MIN;
                tokio::select! {
                    () = self.moves.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            } else {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Moves what waits. `false` when something could not be moved. Not while [`Mover::run`] runs.
    pub async fn round(&self) -> bool {
        let shelf = Arc::clone(&self.shelf);
        let looked = apart(move || shelf.whole()).await;
        let mut waiting = match looked {
            Ok(Ok(waiting)) => waiting,
            Ok(Err(error)) => {
                tracing::error!(%error, "the directory of recordings cannot be looked through");
                return false;
            }
            Err(because) => {
                tracing::error!(%because, "the directory of recordings cannot be looked through");
                return false;
            }
        };
        self.moves.note_waiting(&waiting);
        // The oldest that has failed so far; it comes late in the round, or not at all.
        let mut stuck: Option<SystemTime> = None;
        {
            let there: HashSet<&SessionId> = waiting.iter().map(|one| &one.session).collect();
            let mut failing = self.moves.failing();
            failing.retain(|session, _| there.contains(session));
            let failed = waiting.iter().filter(|one| failing.contains_key(&one.session));
            stuck = stuck.into_iter().chain(failed.map(|one| one.since)).min();
            waiting.sort_by_key(|one| (failing.get(&one.session).map_or(0, |failing| failing.tries), one.since));
        }
        let mut in_a_row = 0;
        for (at, Waiting { session, bytes, since }) in waiting.iter().enumerate() {
            match self.shift(session).await {
                Ok(()) => {
                    in_a_row = 0;
                    self.moves.failing().remove(session);
                    let next = waiting.get(at + 1).map(|next| next.since);
                    self.moves.note_moved(*bytes, next.into_iter().chain(stuck).min());
                    tracing::debug!(%session, bytes, place = self.far.place_of(session), "a recording was moved");
                }
                Err(because) => {
                    self.moves.failures.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(%session, because, "a recording was not moved; it stays, and is tried again");
                    self.moves.note_failed(session, because);
                    stuck = stuck.into_iter().chain([*since]).min();
                    in_a_row += 1;
                    if in_a_row >= FAILED_IN_A_ROW_MAX {
                        return false;
                    }
                }
            }
        }
        let all = self.moves.failing().is_empty();
        if all {
            self.moves.note_waiting(&[]);
        }
        all
    }

    /// Moves one: there, back for comparison, and away from here.
    async fn shift(&self, session: &SessionId) -> Result<(), String> {
        let path = self.shelf.whole_path(session);
        let of = path.clone();
        let (digest, length) = match apart(move || digest_of(&of)).await.map_err(|broken| broken.because)? {
            Ok(read) => read,
            // Its time was over meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        self.far.put(session, &path, length).await.map_err(|fault| fault.to_string())?;
        let back = self.far.digest(session).await.map_err(|fault| fault.to_string())?;
        if back != (digest, length) {
            return Err(format!("{} gives back something else than it was given", self.far.place()));
        }
        let shelf = Arc::clone(&self.shelf);
        let gone = apart(move || match fs::remove_file(&path) {
            Ok(()) => shelf.sync(&path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        });
        match gone.await.map_err(|broken| broken.because)? {
            Ok(true) => Ok(()),
            // Somebody removed it while it was moved, and may have come before it was there.
            Ok(false) => self.far.remove(session).await.map_err(|fault| fault.to_string()),
            Err(error) => Err(format!("it was moved, and cannot be removed from the directory: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::far::{AccessKey, FarFault, Secret, StoreConfig, Vendor};
    use crate::keys::KeyRing;
    use futures_util::stream::BoxStream;
    use object_store::memory::InMemory;
    use object_store::path::Path as Key;
    use object_store::{
        CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
        PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
    };
    use ravelin_model::PrincipalName;
    use std::fmt;
    use std::path::{Path, PathBuf};

    fn session(random: u64) -> SessionId {
        SessionId::new(&PrincipalName::parse("alice").expect("a name"), random)
    }

    fn mover(folder: &Path, far: Far) -> Mover {
        let keys = KeyRing::parse(&format!("k {}", "7".repeat(64))).expect("a ring");
        let far = Arc::new(far);
        let shelf = Arc::new(Shelf::new(folder.to_path_buf(), keys, false, Some(Arc::clone(&far))));
        Mover::new(shelf, far, Arc::default())
    }

    fn lay(mover: &Mover, session: &SessionId, bytes: usize) -> PathBuf {
        let path = mover.shelf.whole_path(session);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        let text: Vec<u8> = (0..bytes).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
        fs::write(&path, text).expect("written");
        path
    }

    fn figure(mover: &Mover, name: &str) -> Value {
        let family = mover.moves.read().into_iter().find(|family| family.name == name).expect("a family");
        family.samples[0].value.clone()
    }

    #[tokio::test]
    async fn small_and_large_ones_are_moved_whole_and_what_is_being_made_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(InMemory::new());
        let mover = mover(folder.path(), Far::over(store.clone()));
        let (small, large) = (session(1), session(2));
        for (session, bytes) in [(&small, 1_000), (&large, (20 << 20) + 3)] {
            let path = lay(&mover, session, bytes);
            let before = fs::read(&path).expect("there");
            assert!(mover.round().await);
            assert!(!path.exists());
            let key = mover.far.place_of(session).trim_start_matches("memory://all/").to_owned();
            assert!(key.starts_with("a/b/") && key.ends_with(".rvr"), "{key}");
            let got = store.get(&Key::from(key)).await.expect("there").bytes().await.expect("whole");
            assert!(got.as_ref() == before.as_slice());
        }
        assert_eq!(figure(&mover, "ravelin_recordings_moved"), Value::Count(2));
        assert_eq!(figure(&mover, "ravelin_recordings_waiting"), Value::Level(0.0));
        let path = lay(&mover, &session(3), 10);
        for suffix in ["part", "new"] {
            let unfinished = path.with_extension(suffix);
            fs::rename(&path, &unfinished).expect("renamed");
            assert!(mover.round().await);
            assert!(unfinished.exists(), "{suffix}");
            fs::rename(&unfinished, &path).expect("renamed");
        }
    }

    #[tokio::test]
    async fn one_that_is_removed_twice_is_gone_all_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let mover = mover(folder.path(), Far::over(Arc::new(InMemory::new())));
        let id = session(1);
        lay(&mover, &id, 1_000);
        assert!(mover.round().await);
        mover.far.remove(&id).await.expect("removed");
        mover.far.remove(&id).await.expect("removed twice");
        assert_eq!(mover.far.digest(&id).await, Err(FarFault::Missing));
        // Its time was over between the look into the directory and the move.
        assert_eq!(mover.shift(&id).await, Ok(()));
    }

    #[tokio::test]
    async fn what_cannot_be_moved_stays_and_is_told_of() {
        let folder = tempfile::tempdir().expect("a folder");
        // Nothing listens on port 1.
        let endpoint = Some("http://127.0.0.1:1".to_owned());
        let key = AccessKey { id: "AKID".to_owned(), secret: Secret("hush".to_owned().into()), token: None };
        let vendor = Vendor::S3 { bucket: "kept".to_owned(), region: "r".to_owned(), key: Some(key) };
        let far = Far::new(&StoreConfig { vendor, endpoint, prefix: String::new(), ca: None, role: Vec::new() })
            .expect("usable");
        let mover = mover(folder.path(), far);
        let id = session(1);
        let path = lay(&mover, &id, 1_000);
        assert!(!mover.round().await);
        assert!(path.exists());
        let because = mover.moves.because(&id).expect("a reason");
        assert!(because.contains("s3://kept cannot be used"), "{because}");
        assert_eq!(figure(&mover, "ravelin_recordings_waiting"), Value::Level(1.0));
        assert_eq!(figure(&mover, "ravelin_recordings_waiting_bytes"), Value::Level(1_000.0));
        assert_eq!(figure(&mover, "ravelin_recordings_move_failures"), Value::Count(1));
    }

    #[tokio::test]
    async fn a_store_that_loses_a_byte_gets_nothing_to_lose() {
        let folder = tempfile::tempdir().expect("a folder");
        let mover = mover(folder.path(), Far::over(Arc::new(Careless(InMemory::new()))));
        let (bad, good) = (session(1), session(2));
        let path = lay(&mover, &bad, 1_000);
        let other = lay(&mover, &good, 3);
        assert!(!mover.round().await);
        assert!(path.exists(), "what did not come back as it was stays here");
        assert!(!other.exists(), "and holds up nobody");
        assert!(mover.moves.because(&bad).is_some_and(|because| because.contains("something else")));
    }

    /// Changes the last byte of what is longer than a few.
    #[derive(Debug)]
    struct Careless(InMemory);

    impl fmt::Display for Careless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("careless")
        }
    }

    #[async_trait::async_trait]
    impl ObjectStore for Careless {
        async fn put_opts(&self, at: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
            let mut bytes: Vec<u8> = payload.iter().flat_map(|bytes| bytes.to_vec()).collect();
            if let (true, Some(last)) = (bytes.len() > 100, bytes.last_mut()) {
                *last ^= 1;
            }
            self.0.put_opts(at, bytes.into(), options).await
        }

        async fn put_multipart_opts(&self, at: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
            self.0.put_multipart_opts(at, options).await
        }

        async fn get_opts(&self, at: &Key, options: GetOptions) -> Result<GetResult> {
            self.0.get_opts(at, options).await
        }

        fn delete_stream(&self, at: BoxStream<'static, Result<Key>>) -> BoxStream<'static, Result<Key>> {
            self.0.delete_stream(at)
        }

        fn list(&self, prefix: Option<&Key>) -> BoxStream<'static, Result<ObjectMeta>> {
            self.0.list(prefix)
        }

        async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
            self.0.list_with_delimiter(prefix).await
        }

        async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
            self.0.copy_opts(from, to, options).await
        }
    }
}
