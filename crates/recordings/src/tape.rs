//! A recording while it is made: from notes to events, and from events to frames.

use crate::container::{FrameKind, Packing, Writer};
use crate::directory::Shelf;
use crate::echo::Echo;
use crate::event::{ActText, ClosedText, Encoder, Event, HeadText, OpenedText, is_plain};
use crate::{scp, sftp};
use async_trait::async_trait;
use ravelin_model::ports::Tape;
use ravelin_model::recording::{
    Act, ActKind, Broken, Counts, Flow, Head, Kept, Mode, Note, Purpose, Source, What, is_copy,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Raw bytes at which a frame is closed.
const FRAME_BYTES: usize = 1 << 20;
/// Frames of a recording that are closed with each write; after them, one is closed with each sync or when it is full.
/// So the index holds more than two months of unbroken output.
const CLOSE_FRAMES: usize = 1 << 19;

/// How far a live recording is, for those who follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes of the file that are whole frames.
    pub(crate) offset: u64,
    /// Whether nothing more comes.
    pub(crate) over: bool,
}

/// The tape of one session.
pub(crate) struct FileTape {
    // Away while a write is under way in a thread of its own.
    inner: Option<Box<Inner>>,
}

pub(crate) struct Inner {
    head: Head,
    writer: Writer,
    encoder: Encoder,
    packing: Packing,
    channels: HashMap<u32, Channel>,
    shelf: Arc<Shelf>,
    progress: watch::Sender<Progress>,
}

struct Channel {
    purpose: Purpose,
    opened: Duration,
    counts: Arc<Counts>,
    eye: Eye,
}

/// What is looked at in a channel's bytes.
enum Eye {
    /// What a terminal shows; with the echo where typed lines are kept.
    Terminal(Option<Echo>),
    Files(Box<sftp::Watcher>),
    Copy(Box<scp::Watcher>),
    /// What a program without a terminal writes.
    Plain,
    Nothing,
}

impl FileTape {
    pub(crate) fn begin(
        head: Head,
        writer: Writer,
        shelf: Arc<Shelf>,
        progress: watch::Sender<Progress>,
    ) -> Result<Self, Broken> {
        let mut inner = Inner {
            head,
            writer,
            encoder: Encoder::default(),
            packing: Packing::default(),
            channels: HashMap::new(),
            shelf,
            progress,
        };
        inner.encoder.push(0, 0, &Event::Head(HeadText::of(&inner.head)));
        inner.close_frame()?;
        inner.writer.sync()?;
        Ok(Self { inner: Some(Box::new(inner)) })
    }

    /// Does it where it may wait for the disk. When the caller gives up, what is under way is finished and dropped.
    async fn apart<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Inner) -> Result<T, Broken> + Send + 'static,
    ) -> Result<T, Broken> {
        let mut inner = self.inner.take().ok_or_else(|| Broken::new("an earlier write has failed"))?;
        let task = tokio::task::spawn_blocking(move || {
            let done = work(&mut inner);
            (inner, done)
        });
        let (inner, done) = task.await.map_err(|died| Broken::new(format!("a write died: {died}")))?;
        if done.is_ok() {
            self.inner = Some(inner);
        }
        done
    }
}

#[async_trait]
impl Tape for FileTape {
    async fn write(&mut self, notes: Vec<Note>) -> Result<(), Broken> {
        self.apart(move |inner| {
            for note in notes {
                inner.note(note)?;
            }
            if inner.writer.frames() < CLOSE_FRAMES { inner.close_frame() } else { Ok(()) }
        })
        .await
    }

    async fn sync(&mut self) -> Result<(), Broken> {
        self.apart(|inner| {
            inner.close_frame()?;
            // A session that rests needs no room.
            inner.encoder.shrink();
            inner.packing = Packing::default();
            inner.writer.sync()
        })
        .await
    }

    async fn finish(mut self: Box<Self>) -> Result<Kept, Broken> {
        let inner = self.inner.take().ok_or_else(|| Broken::new("an earlier write has failed"))?;
        let task = tokio::task::spawn_blocking(move || inner.finish());
        task.await.map_err(|died| Broken::new(format!("its end died: {died}")))?
    }
}

impl Inner {
    fn note(&mut self, note: Note) -> Result<(), Broken> {
        let at = micros(note.at);
        let Inner { channels, encoder, head, .. } = self;
        match note.what {
            What::Opened { purpose, counts } => {
                encoder.push(at, note.channel, &Event::Opened(OpenedText::of(&purpose, &head.rule)));
                let eye = match &purpose {
                    Purpose::Shell { terminal: Some(_) } | Purpose::Exec { terminal: Some(_), .. } => {
                        Eye::Terminal((head.rule.input && head.rule.mode == Mode::Full).then(Echo::default))
                    }
                    Purpose::Exec { command, terminal: None } if is_copy(command) => {
                        Eye::Copy(Box::new(scp::Watcher::new(command)))
                    }
                    purpose if is_plain(purpose, &head.rule) => Eye::Plain,
                    Purpose::Files => Eye::Files(Box::default()),
                    Purpose::Shell { terminal: None }
                    | Purpose::Exec { terminal: None, .. }
                    | Purpose::Forward { .. } => Eye::Nothing,
                };
                channels.insert(note.channel, Channel { purpose, opened: note.at, counts, eye });
            }
            What::Data { flow, bytes } => {
                let Some(channel) = channels.get_mut(&note.channel) else { return Ok(()) };
                let mut acts = Vec::new();
                match (&mut channel.eye, flow) {
                    (Eye::Terminal(echo), Flow::Out) => {
                        let open = echo.as_mut().and_then(|echo| echo.shown(&bytes));
                        encoder.output(at, note.channel, &bytes);
                        if let Some(mut line) = open {
                            line.push(b'\r');
                            encoder.push(at, note.channel, &Event::Input(line));
                        }
                    }
                    (Eye::Terminal(echo), Flow::In) => {
                        // A paste may hold very many; who types ends one line at a time.
                        let ends = bytes.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).take(64);
                        for _end in ends {
                            encoder.push(at, note.channel, &Event::Enter);
                        }
                        if let Some(echo) = echo {
                            echo.typed(&bytes);
                        }
                    }
                    (Eye::Files(watcher), flow) => watcher.handle(flow, &bytes, note.at, &mut acts),
                    (Eye::Copy(watcher), flow) => watcher.handle(flow, &bytes, note.at, &mut acts),
                    (Eye::Plain, Flow::Out) => encoder.output(at, note.channel, &bytes),
                    (Eye::Plain, Flow::In) | (Eye::Nothing, _) => {}
                }
                tell(encoder, note.channel, acts);
            }
            What::Resized { columns, rows } => {
                let (columns, rows) = (columns.clamp(1, 1_000), rows.clamp(1, 1_000));
                encoder.push(at, note.channel, &Event::Resized { columns, rows });
            }
            What::Exited { status } => encoder.push(at, note.channel, &Event::Exited(status)),
            What::Closed => {
                if let Some(channel) = channels.remove(&note.channel) {
                    channel.close(encoder, note.channel, note.at);
                }
            }
        }
        if self.encoder.len() >= FRAME_BYTES {
            self.close_frame()?;
        }
        Ok(())
    }

    /// Writes what was gathered.
    fn close_frame(&mut self) -> Result<(), Broken> {
        if let Some((at, raw)) = self.encoder.frame() {
            self.writer.frame(FrameKind::Events, at, 0, raw, &mut self.packing)?;
            self.encoder.clear();
            self.writer.set_latest(self.encoder.last());
            self.progress.send_replace(Progress { offset: self.writer.place().offset, over: false });
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Kept, Broken> {
        let at = Duration::from_micros(self.encoder.last());
        let mut open: Vec<(u32, Channel)> = self.channels.drain().collect();
        open.sort_by_key(|(number, _)| *number);
        for (number, channel) in open {
            channel.close(&mut self.encoder, number, at);
        }
        self.close_frame()?;
        self.writer.sync()?;
        let Inner { head, shelf, writer, progress, .. } = self;
        let end = writer.place();
        drop(writer);
        let kept = shelf.complete(&head.session, Some(end));
        progress.send_modify(|progress| progress.over = true);
        kept
    }
}

/// Puts acts on the tape, as many as there are: each costs about as much as the bytes that it tells of.
fn tell(encoder: &mut Encoder, number: u32, acts: Vec<Act>) {
    for act in acts {
        encoder.push(micros(act.at), number, &Event::Act(ActText::of(&act)));
    }
}

impl Channel {
    fn close(mut self, encoder: &mut Encoder, number: u32, at: Duration) {
        let mut acts = Vec::new();
        match &mut self.eye {
            Eye::Files(watcher) => watcher.finish(at, &mut acts),
            Eye::Copy(watcher) => watcher.finish(at, &mut acts),
            Eye::Terminal(_) | Eye::Plain | Eye::Nothing => {}
        }
        tell(encoder, number, acts);
        let closed = ClosedText { bytes_in: self.counts.bytes(Flow::In), bytes_out: self.counts.bytes(Flow::Out) };
        if let Purpose::Forward { inward, to } = &self.purpose {
            let facts = [
                ("direction", if *inward { "inward" } else { "outward" }.to_owned()),
                ("bytes_in", closed.bytes_in.to_string()),
                ("bytes_out", closed.bytes_out.to_string()),
                ("duration_ms", at.saturating_sub(self.opened).as_millis().to_string()),
            ];
            let facts: BTreeMap<_, _> = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let text = to.chars().take(Act::TEXT_CHARS_MAX).collect();
            let act = Act { at, kind: ActKind::Forward, source: Source::Told, text, facts };
            tell(encoder, number, vec![act]);
        }
        encoder.push(micros(at), number, &Event::Closed(closed));
    }
}

pub(crate) fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}
