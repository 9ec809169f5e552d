//! The recorder that keeps recordings in a directory: `DIR/<first two hex digits>/<session>.rvr`.
//!
//! While it is made a recording is called `.part`; once it is whole, `.new`, until the store knows of it. So a start
//! finds by their names what an earlier life left. Where there is an object store, a whole one is moved there by
//! [`crate::mover`]; it is read, and removed, wherever it lies.

use crate::container::{FrameKind, Packing, Place, ReadFault, Reader, Source, Writer, digest_of};
use crate::far::{Far, FarFault, shelf_of};
use crate::index::{self, Bounds};
use crate::keys::KeyRing;
use crate::mover::{Mover, Moves, Waiting};
use crate::read::FileReading;
use crate::tape::{FileTape, Progress};
use async_trait::async_trait;
use ravelin_model::meter::Meter;
use ravelin_model::ports::{Reading, Recorder, Tape};
use ravelin_model::recording::{Broken, Head, Kept, Request, Whereabouts};
use ravelin_model::{Refusal, SessionId};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Where recordings go, and who can open them.
#[derive(Debug)]
pub struct Config {
    /// The directory; it is made, open to its owner only, when it is not there.
    pub folder: PathBuf,
    /// Their keys.
    pub keys: KeyRing,
    /// Whether what screens showed can be searched. The text lies in the store then, and not sealed.
    pub screen_text: bool,
    /// Where whole recordings are moved to; they stay in the directory without.
    pub far: Option<Far>,
}

/// The directory, and how a recording in it is called.
pub(crate) struct Shelf {
    folder: PathBuf,
    keys: KeyRing,
    screen_text: bool,
    far: Option<Arc<Far>>,
}

/// How far work that nobody waits for stands back, of at most 19.
const NICE: i32 = 10;
const PART: &str = "part";
const NEW: &str = "new";
const WHOLE: &str = "rvr";

impl Shelf {
    pub(crate) fn new(folder: PathBuf, keys: KeyRing, screen_text: bool, far: Option<Arc<Far>>) -> Self {
        Self { folder, keys, screen_text, far }
    }

    fn path(&self, session: &SessionId, suffix: &str) -> PathBuf {
        // An id holds no slash and does not begin with a dot alone, so it names a file in here and nowhere else.
        self.folder.join(shelf_of(session)).join(format!("{session}.{suffix}"))
    }

    /// The file of a recording that is whole and on record.
    pub(crate) fn whole_path(&self, session: &SessionId) -> PathBuf {
        self.path(session, WHOLE)
    }

    /// Waits until the disk knows what a file's folder holds.
    pub(crate) fn sync(&self, of: &Path) -> io::Result<()> {
        sync_folder(of)
    }

    /// A recording, wherever it is in its life.
    fn find(&self, session: &SessionId) -> Result<Source, ReadFault> {
        // In the order of its life, twice: it may go on to its next name between two looks.
        for suffix in [PART, NEW, WHOLE, PART, NEW, WHOLE] {
            match File::open(self.path(session, suffix)) {
                Ok(file) => return Ok(Source::Near(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ReadFault::Io(error)),
            }
        }
        let Some(far) = &self.far else { return Err(ReadFault::Missing) };
        match far.open(session) {
            Ok(file) => Ok(Source::Far(file)),
            Err(FarFault::Missing) => Err(ReadFault::Missing),
            Err(FarFault::Failed(because)) => Err(ReadFault::Io(io::Error::other(because))),
        }
    }

    /// Makes a recording whole that is finished, at `end`, or was cut off: what was learnt from it and its index are added.
    ///
    /// INVARIANT: nothing is cut away but what a crash left of the last frame. One that is damaged elsewhere stays as it
    /// is, and is none that was kept.
    pub(crate) fn complete(&self, session: &SessionId, end: Option<Place>) -> Result<Kept, Broken> {
        let (part, new) = (self.path(session, PART), self.path(session, NEW));
        let path = if part.exists() { &part } else { &new };
        let reader = Reader::open(path, &self.keys).map_err(Broken::new)?;
        if reader.session() != session.as_str() {
            return Err(Broken::new("it is the recording of another session"));
        }
        let learnt = unhurried(|| index::learn(&reader, self.screen_text, &Bounds::USUAL)).map_err(Broken::new)?;
        let is_damaged = match (end, &learnt.fault) {
            (Some(end), _) => learnt.end != end,
            (None, None) => false,
            (None, Some(_)) => path == &new || reader.goes_on_after(learnt.end).map_err(Broken::new)?,
        };
        if is_damaged {
            let because = learnt.fault.map_or_else(|| "it is damaged".to_owned(), |fault| fault.to_string());
            let from = learnt.end.offset;
            return Err(Broken::new(format!(
                "{because}, from byte {from} on; it stays as it is, to be played up to there"
            )));
        }
        let head = learnt.head.into_head().ok_or_else(|| Broken::new("it does not say what it is of"))?;
        if path == &part {
            let mut writer = Writer::resume(&part, reader, learnt.listed, learnt.end, learnt.latest)?;
            let mut packing = Packing::default();
            for (at, channel, screen) in &learnt.screens {
                let raw = serde_json::to_vec(screen).map_err(Broken::new)?;
                writer.frame(FrameKind::Screen, *at, *channel, &raw, &mut packing)?;
            }
            writer.end()?;
            rename(&part, &new).map_err(Broken::new)?;
        }
        let (digest, bytes) = digest_of(&new).map_err(Broken::new)?;
        Ok(Kept { head, digest, bytes, lasted: Duration::from_micros(learnt.latest), acts: learnt.acts })
    }

    /// Every file of a recording, by what it is called.
    fn files(&self, mut each: impl FnMut(SessionId, &str, &fs::DirEntry) -> io::Result<()>) -> io::Result<()> {
        for shelf in fs::read_dir(&self.folder)? {
            let shelf = shelf?.path();
            if !shelf.is_dir() {
                continue;
            }
            for file in fs::read_dir(shelf)? {
                let file = file?;
                let path = file.path();
                if let Some(suffix) = path.extension().and_then(|suffix| suffix.to_str())
                    && let Some(id) = path.file_stem().and_then(|stem| SessionId::parse(stem.to_str()?).ok())
                {
                    each(id, suffix, &file)?;
                }
            }
        }
        Ok(())
    }

    fn left_over(&self) -> io::Result<Vec<SessionId>> {
        let mut left = Vec::new();
        self.files(|id, suffix, _| {
            if [PART, NEW].contains(&suffix) {
                left.push(id);
            }
            Ok(())
        })?;
        left.sort();
        left.dedup();
        Ok(left)
    }

    /// The recordings in the directory that are whole and on record.
    pub(crate) fn whole(&self) -> io::Result<Vec<Waiting>> {
        let mut whole = Vec::new();
        self.files(|session, suffix, file| {
            if suffix == WHOLE {
                match file.metadata() {
                    Ok(meta) => whole.push(Waiting { session, bytes: meta.len(), since: meta.modified()? }),
                    // Removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        })?;
        Ok(whole)
    }

    pub(crate) fn open(&self, session: &SessionId) -> Result<Reader, ReadFault> {
        let reader = Reader::over(self.find(session)?, &self.keys)?;
        if reader.session() != session.as_str() {
            return Err(ReadFault::Damaged("it is the recording of another session"));
        }
        Ok(reader)
    }

    /// Removes what the directory has of a recording.
    fn remove(&self, session: &SessionId) -> io::Result<()> {
        for suffix in [PART, NEW, WHOLE] {
            let path = self.path(session, suffix);
            match fs::remove_file(&path) {
                Ok(()) => sync_folder(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(to)
}

fn sync_folder(of: &Path) -> io::Result<()> {
    match of.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

type Live = HashMap<SessionId, watch::Receiver<Progress>>;

/// Recordings in a directory.
pub struct DirectoryRecorder {
    shelf: Arc<Shelf>,
    left: Mutex<Vec<SessionId>>,
    live: Mutex<Live>,
    moves: Arc<Moves>,
}

impl DirectoryRecorder {
    /// Opens the directory and notes what an earlier life left in it.
    ///
    /// # Errors
    /// When it cannot be made, read and written.
    pub fn open(config: Config) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.folder)?;
        let probe = config.folder.join(".probe");
        fs::write(&probe, b"")?;
        fs::remove_file(&probe)?;
        let Config { folder, keys, screen_text, far } = config;
        let shelf = Arc::new(Shelf::new(folder, keys, screen_text, far.map(Arc::new)));
        let left = Mutex::new(shelf.left_over()?);
        Ok(Self { shelf, left, live: Mutex::default(), moves: Arc::default() })
    }

    /// How far whole recordings are on their way to the object store; all zero where there is none.
    #[must_use]
    pub fn meter(&self) -> Arc<dyn Meter> {
        self.moves.clone()
    }

    /// What moves whole recordings to the object store, where there is one; nothing moves unless it is run.
    #[must_use]
    pub fn mover(&self) -> Option<Mover> {
        let far = self.shelf.far.as_ref()?;
        Some(Mover::new(Arc::clone(&self.shelf), Arc::clone(far), Arc::clone(&self.moves)))
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does work that nobody waits for, behind everything else that wants the processor: what is learnt from a session's
/// output takes longer than its relay did.
fn unhurried<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let worker = || {
        // Of this thread alone, as Linux has it. Where it is refused, the work is done all the same.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "learning from a recording competes with everything else");
        }
        work()
    };
    std::thread::scope(|scope| scope.spawn(worker).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

pub(crate) async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Broken> {
    tokio::task::spawn_blocking(work).await.map_err(|died| Broken::new(format!("it died: {died}")))
}

#[async_trait]
impl Recorder for DirectoryRecorder {
    async fn begin(&self, head: Head) -> Result<Box<dyn Tape>, Broken> {
        let session = head.session.clone();
        let (sender, progress) = watch::channel(Progress { offset: 0, over: false });
        let shelf = Arc::clone(&self.shelf);
        let tape = apart(move || {
            let path = shelf.path(&head.session, PART);
            let folder = path.parent().ok_or_else(|| Broken::new("a recording has no folder"))?;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Broken::new)?;
            let writer = Writer::create(&path, &shelf.keys, &head.session)?;
            let begun = FileTape::begin(head, writer, Arc::clone(&shelf), sender).and_then(|tape| {
                sync_folder(&path).map_err(Broken::new)?;
                Ok(tape)
            });
            if begun.is_err() {
                // What is left of it would be taken for a recording.
                let _gone = fs::remove_file(&path);
            }
            begun
        })
        .await??;
        let mut live = self.live();
        live.retain(|_, progress| progress.has_changed().is_ok());
        live.insert(session, progress);
        Ok(Box::new(tape))
    }

    async fn recover(&self) -> Vec<(SessionId, Result<Kept, Broken>)> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        let mut outcomes = Vec::new();
        for id in left {
            let (shelf, of) = (Arc::clone(&self.shelf), id.clone());
            let outcome = apart(move || shelf.complete(&of, None)).await.and_then(|outcome| outcome);
            outcomes.push((id, outcome));
        }
        outcomes
    }

    async fn settle(&self, session: &SessionId) -> Result<(), Broken> {
        let (new, whole) = (self.shelf.path(session, NEW), self.shelf.path(session, WHOLE));
        apart(move || rename(&new, &whole).map_err(Broken::new)).await??;
        self.moves.wake();
        Ok(())
    }

    async fn whereabouts(&self, session: &SessionId) -> Option<Whereabouts> {
        let paths = [PART, NEW, WHOLE].map(|suffix| self.shelf.path(session, suffix));
        let is_here = apart(move || paths.iter().any(|path| path.exists())).await.ok()?;
        let there = self.shelf.far.as_ref().map(|far| far.place_of(session));
        Some(match there {
            Some(place) if !is_here => Whereabouts { place: Some(place), awaits: None, because: None },
            awaits => {
                let because = awaits.is_some().then(|| self.moves.because(session)).flatten();
                Whereabouts { place: None, awaits, because }
            }
        })
    }

    async fn read(&self, session: &SessionId, request: Request) -> Result<Box<dyn Reading>, Refusal> {
        let progress = self.live().get(session).cloned();
        let (shelf, id) = (Arc::clone(&self.shelf), session.clone());
        let opened = apart(move || shelf.open(&id)).await.map_err(Refusal::internal)?;
        let reader = opened.map_err(|fault| refusal(session, fault))?;
        Ok(Box::new(FileReading::new(session.clone(), reader, request, progress)))
    }

    async fn remove(&self, session: &SessionId) -> Result<(), Broken> {
        let (shelf, id) = (Arc::clone(&self.shelf), session.clone());
        // First here: what is being moved this moment is seen to be gone, and is not left there.
        apart(move || shelf.remove(&id).map_err(Broken::new)).await??;
        match &self.shelf.far {
            Some(far) => far.remove(session).await.map_err(Broken::new),
            None => Ok(()),
        }
    }
}

/// Why a recording is not given out.
pub(crate) fn refusal(session: &SessionId, fault: ReadFault) -> Refusal {
    match fault {
        ReadFault::Missing => Refusal::not_found("recording", session),
        ReadFault::Io(error) => Refusal::unavailable("the recording", error),
        fault @ (ReadFault::NoKey(_) | ReadFault::WrongKey(_)) => {
            tracing::error!(%session, %fault, "a recording cannot be opened");
            Refusal::Conflict { because: format!("the recording of {session} cannot be opened: {fault}") }
        }
        fault @ (ReadFault::Damaged(_) | ReadFault::Cut) => {
            tracing::error!(%session, %fault, "a recording cannot be read");
            Refusal::Conflict { because: format!("the recording of {session} cannot be read: {fault}") }
        }
    }
}
