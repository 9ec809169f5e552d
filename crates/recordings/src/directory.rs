//! The recorder that keeps recordings in a directory: `DIR/<first two hex digits>/<session>.rvr`.
//!
//! While it is made a recording is called `.part`; once it is whole, `.new`, until the store knows of it. So a start
//! finds by their names what an earlier life left.

use crate::container::{FrameKind, ReadFault, Reader, Writer, digest_of};
use crate::index;
use crate::keys::KeyRing;
use crate::read::FileReading;
use crate::tape::{FileTape, Progress};
use async_trait::async_trait;
use ravelin_model::ports::{Reading, Recorder, Tape};
use ravelin_model::recording::{Broken, Head, Kept, Request};
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
}

/// The directory, and how a recording in it is called.
pub(crate) struct Shelf {
    folder: PathBuf,
    keys: KeyRing,
    screen_text: bool,
}

const PART: &str = "part";
const NEW: &str = "new";
const WHOLE: &str = "rvr";

impl Shelf {
    fn path(&self, session: &SessionId, suffix: &str) -> PathBuf {
        let id = session.as_str();
        let hex = id.rsplit_once('-').map_or(id, |(_, hex)| hex);
        let shelf = hex.get(..2).unwrap_or("00");
        // An id holds no slash and does not begin with a dot alone, so it names a file in here and nowhere else.
        self.folder.join(shelf).join(format!("{id}.{suffix}"))
    }

    /// The file of a recording, wherever it is in its life.
    fn find(&self, session: &SessionId) -> Option<PathBuf> {
        [WHOLE, NEW, PART].into_iter().map(|suffix| self.path(session, suffix)).find(|path| path.exists())
    }

    /// Makes a recording whole that is finished or was cut off: what was learnt from it and its index are added.
    pub(crate) fn complete(&self, session: &SessionId) -> Result<Kept, Broken> {
        let (part, new) = (self.path(session, PART), self.path(session, NEW));
        let path = if part.exists() { &part } else { &new };
        let reader = Reader::open(path, &self.keys).map_err(Broken::new)?;
        if reader.session() != session.as_str() {
            return Err(Broken::new("it is the recording of another session"));
        }
        let learnt = index::learn(&reader, self.screen_text).map_err(Broken::new)?;
        let head = learnt.head.into_head().ok_or_else(|| Broken::new("it does not say what it is of"))?;
        if path == &part {
            let mut writer = Writer::resume(&part, reader, learnt.listed, learnt.end, learnt.latest)?;
            for (at, channel, screen) in &learnt.screens {
                let raw = serde_json::to_vec(screen).map_err(Broken::new)?;
                writer.frame(FrameKind::Screen, *at, *channel, &raw)?;
            }
            writer.end()?;
            rename(&part, &new).map_err(Broken::new)?;
        }
        let (digest, bytes) = digest_of(&new).map_err(Broken::new)?;
        Ok(Kept { head, digest, bytes, lasted: Duration::from_micros(learnt.latest), acts: learnt.acts })
    }

    fn left_over(&self) -> io::Result<Vec<SessionId>> {
        let mut left = Vec::new();
        for shelf in fs::read_dir(&self.folder)? {
            let shelf = shelf?.path();
            if !shelf.is_dir() {
                continue;
            }
            for file in fs::read_dir(shelf)? {
                let path = file?.path();
                let suffix = path.extension().and_then(|suffix| suffix.to_str());
                if let Some(PART | NEW) = suffix
                    && let Some(id) = path.file_stem().and_then(|stem| SessionId::parse(stem.to_str()?).ok())
                {
                    left.push(id);
                }
            }
        }
        left.sort();
        left.dedup();
        Ok(left)
    }

    pub(crate) fn open(&self, session: &SessionId) -> Result<Reader, ReadFault> {
        let path = self.find(session).ok_or(ReadFault::Missing)?;
        let reader = Reader::open(&path, &self.keys)?;
        if reader.session() != session.as_str() {
            return Err(ReadFault::Damaged("it is the recording of another session"));
        }
        Ok(reader)
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
        let Config { folder, keys, screen_text } = config;
        let shelf = Arc::new(Shelf { folder, keys, screen_text });
        let left = Mutex::new(shelf.left_over()?);
        Ok(Self { shelf, left, live: Mutex::default() })
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Broken> {
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
            let outcome = apart(move || shelf.complete(&of)).await.and_then(|outcome| outcome);
            outcomes.push((id, outcome));
        }
        outcomes
    }

    async fn settle(&self, session: &SessionId) -> Result<(), Broken> {
        let (new, whole) = (self.shelf.path(session, NEW), self.shelf.path(session, WHOLE));
        apart(move || rename(&new, &whole).map_err(Broken::new)).await?
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
        apart(move || match shelf.find(&id) {
            None => Ok(()),
            Some(path) => fs::remove_file(&path).and_then(|()| sync_folder(&path)).map_err(Broken::new),
        })
        .await?
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
