//! JSON lines in a file, with rotation by size. On the disk before it counts as delivered.
//!
//! One writer at a time has the file: it is locked, so that what an earlier delivery, or an earlier life of the sink, left
//! with a disk that stands still cannot rotate it or cut it beside another.

use super::{Batch, Blocking, Destination, Failure};
use async_trait::async_trait;
use ravelin_model::ledger::Digest;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub(super) struct File {
    path: PathBuf,
    bytes_max: u64,
    keep: u32,
    open: Option<Open>,
    writing: Blocking<io::Result<Open>>,
}

struct Open {
    file: fs::File,
    /// Where the next line begins.
    bytes: u64,
    /// What is not above this number is there already.
    last: u64,
}

/// A batch as it is written.
struct Lines {
    deployment: String,
    lines: Vec<Line>,
}

struct Line {
    seq: u64,
    hash: Digest,
    text: String,
}

impl Lines {
    fn of(batch: &Batch<'_>) -> Self {
        let line = |item: &super::Item| Line {
            seq: item.entry.event.seq,
            hash: item.entry.hash,
            text: item.record.to_string(),
        };
        Self { deployment: batch.deployment.to_owned(), lines: batch.items.iter().map(line).collect() }
    }
}

/// The last line of a file, where it is an event in our own form.
struct LastLine {
    seq: u64,
    hash: Option<Digest>,
    deployment: Option<String>,
}

impl LastLine {
    /// Whether it is of the record that this batch is of: not another deployment's, and not of a life of this one which a
    /// restored backup has undone, as far as the batch shows that.
    fn is_of(&self, batch: &Lines) -> bool {
        let same = batch.lines.iter().find(|line| line.seq == self.seq);
        self.deployment.as_deref() == Some(&batch.deployment)
            && same.is_none_or(|line| self.hash.as_ref() == Some(&line.hash))
    }
}

impl File {
    pub(super) fn new(path: PathBuf, bytes_max: u64, keep: u32) -> Self {
        Self { path, bytes_max, keep, open: None, writing: Blocking::new() }
    }
}

#[async_trait]
impl Destination for File {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let unwritable = |error: io::Error| Failure::new(format!("cannot write {}: {error}", self.path.display()));
        if let Some(outcome) = self.writing.left_over().await {
            // It knows how far it came; what of this batch is among that is not written again.
            self.open = Some(outcome.map_err(|_| gone())?.map_err(unwritable)?);
        }
        let batch = Lines::of(batch);
        let (path, bytes_max, keep, open) = (self.path.clone(), self.bytes_max, self.keep, self.open.take());
        let write = move || {
            let mut open = match open {
                Some(open) => open,
                None => Open::behind(&path, &batch)?,
            };
            open.write(&path, bytes_max, keep, &batch.lines)?;
            Ok(open)
        };
        self.open = Some(self.writing.run(write).await.ok_or_else(gone)?.map_err(unwritable)?);
        Ok(())
    }
}

fn gone() -> Failure {
    Failure::new("the task that writes the file has gone")
}

impl Open {
    /// Opens the file for what is not in it of `batch`.
    fn behind(path: &Path, batch: &Lines) -> io::Result<Self> {
        let (mut open, last) = Self::at(path)?;
        match last {
            Some(last) if last.is_of(batch) => open.last = last.seq,
            Some(last) => tracing::warn!(
                path = %path.display(), last = last.seq,
                "the file of a sink ends with events of another record; all of this one are added behind them"
            ),
            None => {}
        }
        Ok(open)
    }

    /// Opens the file, or makes it, and takes away a last line that was cut off when somebody died in the midst of it.
    fn at(path: &Path) -> io::Result<(Self, Option<LastLine>)> {
        let mut file = locked(path)?;
        let length = file.metadata()?.len();
        let (bytes, last) = last_line(&mut file, length)?;
        if bytes < length {
            file.set_len(bytes)?;
        }
        file.seek(SeekFrom::Start(bytes))?;
        Ok((Self { file, bytes, last: 0 }, last))
    }

    fn write(&mut self, path: &Path, bytes_max: u64, keep: u32, lines: &[Line]) -> io::Result<()> {
        let mut text = String::new();
        for Line { seq, text: line, .. } in lines {
            if *seq <= self.last {
                continue;
            }
            if self.bytes + text.len() as u64 + line.len() as u64 + 1 > bytes_max && self.bytes + text.len() as u64 > 0
            {
                self.append(&text)?;
                text.clear();
                let last = self.last.max(seq - 1);
                rotate(path, keep)?;
                let (fresh, _nothing) = Self::at(path)?;
                *self = Self { last, ..fresh };
            }
            text.push_str(line);
            text.push('\n');
        }
        self.append(&text)?;
        self.last = lines.last().map_or(self.last, |line| self.last.max(line.seq));
        Ok(())
    }

    /// All of it, or nothing: what a full disk took in part is taken away again.
    fn append(&mut self, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data()) {
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

/// The file at `path`, for one writer. Waits until another has let go of it.
fn locked(path: &Path) -> io::Result<fs::File> {
    loop {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                tracing::warn!(path = %path.display(), "another writer has the file of a sink; waiting for it");
                file.lock()?;
            }
            // A file system may have no locks; then there is nothing to hold on to.
            Err(TryLockError::Error(error)) => {
                tracing::debug!(path = %path.display(), %error, "the file of a sink cannot be locked");
            }
        }
        // Whoever had it may have given it another name meanwhile.
        let ours = file.metadata()?;
        if fs::metadata(path).is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
    }
}

/// Where the last whole line ends, and what it is.
fn last_line(file: &mut fs::File, length: u64) -> io::Result<(u64, Option<LastLine>)> {
    let look = length.min(crate::lines::LINE_BYTES_MAX as u64 * 2);
    file.seek(SeekFrom::Start(length - look))?;
    let mut tail = Vec::new();
    file.take(look).read_to_end(&mut tail)?;
    let Some(end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        // A line that is longer than any of ours: not our file to cut.
        return Ok((if look < length { length } else { 0 }, None));
    };
    let begin = tail[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let last = match crate::lines::parse(&tail[begin..end]) {
        Ok(crate::lines::Parsed::Event(line, told)) => {
            Some(LastLine { seq: line.seq, hash: line.hash, deployment: told.deployment })
        }
        Ok(crate::lines::Parsed::Foundation(_)) | Err(_) => None,
    };
    Ok((length - look + end as u64 + 1, last))
}

/// `name` becomes `name.1`, `name.1` becomes `name.2`, and what is beyond `keep` goes.
fn rotate(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let gone = |outcome: io::Result<()>| match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if keep == 0 {
        return gone(fs::remove_file(path));
    }
    gone(fs::remove_file(numbered(keep)))?;
    for number in (1..keep).rev() {
        gone(fs::rename(numbered(number), numbered(number + 1)))?;
    }
    gone(fs::rename(path, numbered(1)))
}
