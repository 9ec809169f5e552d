//! The file: a header, sealed frames each bound to the one before, an index at the end.
//!
//! ```text
//! header   "RAVELREC"  version:u8  0:u8  id:str8  session:str8  sealed data key:60
//! frame    body_len:u32  kind:u8  flags:u8  0:u16  raw_len:u32  at:u64 µs      20 bytes
//!          body: AES-256-GCM of the raw bytes (LZ4 if flags & 1), tag of 16 at its end
//! end      offset of the last frame (the index):u64  "RAVELEND"
//! ```
//!
//! Numbers are little-endian. A frame's nonce is its number from 0, and its flags but the lowest; what it is bound to is
//! its own head and the tag of the frame before it, or for the first the beginning of the header's SHA-256. So no frame can be changed, taken out,
//! put elsewhere or moved to another recording. `docs/wire/recording-format.md` says it in full.
//!
//! No I/O but on the one file or object, and nothing here knows what a frame means.

use crate::far::FarFile;
use crate::keys::{DataKey, FrameNonce, KeyRing, OpenFault, SEALED_BYTES, TAG_BYTES};
use aws_lc_rs::digest;
use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};
use ravelin_model::SessionId;
use ravelin_model::recording::Broken;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: &[u8; 8] = b"RAVELREC";
const END: &[u8; 8] = b"RAVELEND";
const VERSION: u8 = 1;
/// Bytes of a frame's head.
pub(crate) const HEAD_BYTES: usize = 20;
/// Bytes after the last frame.
const END_BYTES: u64 = 16;
/// Most raw bytes of one frame.
pub(crate) const RAW_BYTES_MAX: usize = 8 << 20;
/// Most raw bytes of the index: some six million frames.
const INDEX_BYTES_MAX: usize = 128 << 20;
/// Bytes that are looked through at once for a frame's head.
const SCAN_BYTES: usize = 256 * 1024;
/// Most bytes that are read twice to see whether frames follow a fault.
const TRIED_BYTES_MAX: u64 = 1 << 30;
const COMPRESSED: u8 = 1;
/// Of what is added once the events are over.
const ADDED: u8 = 2;
/// The bits above, of what is added: how often it had been begun and was cut off.
const TRIES_SHIFT: u32 = 2;
const TRIES_MAX: u8 = u8::MAX >> TRIES_SHIFT;
/// Shorter ones are not worth it.
const COMPRESS_BYTES_MIN: usize = 128;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Events, see [`crate::event`].
    Events,
    /// The screen of one channel at a moment, see [`crate::index`].
    Screen,
    /// Where the frames are.
    Index,
}

impl FrameKind {
    fn byte(self) -> u8 {
        match self {
            FrameKind::Events => 1,
            FrameKind::Screen => 2,
            FrameKind::Index => 3,
        }
    }

    fn raw_bytes_max(self) -> usize {
        match self {
            FrameKind::Events | FrameKind::Screen => RAW_BYTES_MAX,
            FrameKind::Index => INDEX_BYTES_MAX,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [FrameKind::Events, FrameKind::Screen, FrameKind::Index].into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadFault {
    /// There is none.
    #[error("there is no such recording")]
    Missing,
    /// The system says no.
    #[error("{0}")]
    Io(io::Error),
    /// No key of the ring bears this id.
    #[error("its key {0:?} is not among the keys of recordings")]
    NoKey(String),
    /// The key of this id is another one, or the header was changed.
    #[error("its key {0:?} does not open it: the key is another one, or its header was changed")]
    WrongKey(String),
    /// Something is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// The file ends within a frame, as one does that is being written.
    #[error("it was cut off")]
    Cut,
}

impl From<io::Error> for ReadFault {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => ReadFault::Missing,
            io::ErrorKind::UnexpectedEof => ReadFault::Cut,
            _ => ReadFault::Io(error),
        }
    }
}

/// Where reading or writing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The next frame's number.
    pub(crate) number: u64,
    /// Its offset.
    pub(crate) offset: u64,
    /// What it is bound to.
    pub(crate) before: [u8; TAG_BYTES],
}

impl Place {
    /// The nonce of the frame here. Where a crash left a part of a frame, another is added that bears the same number; its
    /// nonce is another.
    fn nonce(&self, flags: u8) -> FrameNonce {
        FrameNonce { number: self.number, adding: flags & !COMPRESSED }
    }
}

/// A frame as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) offset: u64,
    /// Microseconds since the recording began.
    pub(crate) at: u64,
    /// For a screen, of which channel.
    pub(crate) channel: u32,
    pub(crate) is_screen: bool,
}

/// A frame that was opened.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) at: u64,
    pub(crate) raw: Vec<u8>,
}

/// Room in which frames are put together. Whoever writes many keeps it from one to the next: fresh memory of this size
/// costs as much as the packing.
#[derive(Default)]
pub(crate) struct Packing {
    /// A head's room, a body, a tag's room, and what a longer frame has left.
    bytes: Vec<u8>,
    table: Option<CompressTable>,
}

impl Packing {
    /// Puts a frame's body in its place, packed if that makes it shorter: its flags, and its length.
    fn fill(&mut self, raw: &[u8]) -> Result<(u8, usize), Broken> {
        let packed_max = get_maximum_output_size(raw.len());
        let room = HEAD_BYTES + packed_max + TAG_BYTES;
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let body = &mut self.bytes[HEAD_BYTES..HEAD_BYTES + packed_max];
        if raw.len() >= COMPRESS_BYTES_MIN {
            let table = self.table.get_or_insert_default();
            let packed = compress_into_with_table(raw, body, table).map_err(Broken::new)?;
            if packed < raw.len() {
                return Ok((COMPRESSED, packed));
            }
        }
        body[..raw.len()].copy_from_slice(raw);
        Ok((0, raw.len()))
    }
}

/// Writes a file.
pub(crate) struct Writer {
    file: File,
    key: DataKey,
    place: Place,
    listed: Vec<Listed>,
    latest: u64,
    /// Of what is added.
    flags: u8,
}

fn header(ring: &KeyRing, session: &SessionId) -> Vec<u8> {
    let mut header = MAGIC.to_vec();
    header.extend([VERSION, 0]);
    for text in [ring.current(), session.as_str()] {
        // Both are bounded by their types, far below 256.
        header.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        header.extend_from_slice(&text.as_bytes()[..text.len().min(255)]);
    }
    header
}

fn first_place(header: &[u8]) -> Place {
    let digest = digest::digest(&digest::SHA256, header);
    let mut before = [0; TAG_BYTES];
    before.copy_from_slice(&digest.as_ref()[..TAG_BYTES]);
    Place { number: 0, offset: header.len() as u64, before }
}

impl Writer {
    /// Makes the file, which must not be there.
    pub(crate) fn create(path: &Path, ring: &KeyRing, session: &SessionId) -> Result<Self, Broken> {
        let mut header = header(ring, session);
        let (key, sealed) = ring.seal(&header)?;
        header.extend_from_slice(&sealed);
        let mut file =
            OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(path).map_err(Broken::new)?;
        file.write_all(&header).map_err(Broken::new)?;
        let place = first_place(&header);
        Ok(Self { file, key, place, listed: Vec::new(), latest: 0, flags: ADDED })
    }

    /// Goes on with a file that was cut off: what follows the last whole frame is dropped. Whoever calls it has seen that
    /// this is nothing.
    pub(crate) fn resume(
        path: &Path,
        reader: Reader,
        listed: Vec<Listed>,
        at: Place,
        latest: u64,
    ) -> Result<Self, Broken> {
        let cut_off = reader.head_at(at.offset).map_err(Broken::new)?.map_or(0, |head| head[5]);
        let tries = if cut_off & ADDED == 0 { 0 } else { (cut_off >> TRIES_SHIFT) + 1 };
        if tries > TRIES_MAX {
            return Err(Broken::new("it was to be finished too often, and was cut off each time"));
        }
        let file = OpenOptions::new().write(true).read(true).open(path).map_err(Broken::new)?;
        file.set_len(at.offset).map_err(Broken::new)?;
        Ok(Self { file, key: reader.key, place: at, listed, latest, flags: ADDED | tries << TRIES_SHIFT })
    }

    /// Adds a frame; `channel` is for screens.
    pub(crate) fn frame(
        &mut self,
        kind: FrameKind,
        at: u64,
        channel: u32,
        raw: &[u8],
        packing: &mut Packing,
    ) -> Result<(), Broken> {
        if raw.len() > kind.raw_bytes_max() {
            return Err(Broken::new("a frame is too long"));
        }
        let lengths = |length: usize| u32::try_from(length).map_err(|_| Broken::new("a frame is too long"));
        let (packed, body_len) = packing.fill(raw)?;
        let flags = packed | if kind == FrameKind::Events { 0 } else { self.flags };
        let (head, body) = packing.bytes.split_at_mut(HEAD_BYTES);
        let (body, tag) = body.split_at_mut(body_len);
        head[..4].copy_from_slice(&lengths(body_len + TAG_BYTES)?.to_le_bytes());
        head[4..8].copy_from_slice(&[kind.byte(), flags, 0, 0]);
        head[8..12].copy_from_slice(&lengths(raw.len())?.to_le_bytes());
        head[12..].copy_from_slice(&at.to_le_bytes());
        let about = [&*head, &self.place.before].concat();
        self.place.before = self.key.seal(self.place.nonce(flags), &about, body)?;
        tag[..TAG_BYTES].copy_from_slice(&self.place.before);
        let bytes = &packing.bytes[..HEAD_BYTES + body_len + TAG_BYTES];
        // At its own offset: a write that failed halfway is overwritten by nothing, because the recording has failed.
        self.file.write_all_at(bytes, self.place.offset).map_err(Broken::new)?;
        if kind != FrameKind::Index {
            let is_screen = kind == FrameKind::Screen;
            self.listed.push(Listed { offset: self.place.offset, at, channel, is_screen });
        }
        self.place.offset += bytes.len() as u64;
        self.place.number += 1;
        self.latest = self.latest.max(at);
        Ok(())
    }

    /// The time of the last event, for the index.
    pub(crate) fn set_latest(&mut self, at: u64) {
        self.latest = self.latest.max(at);
    }

    /// Adds the index and the end, and waits for the disk.
    pub(crate) fn end(mut self) -> Result<(), Broken> {
        let offset = self.place.offset;
        let mut raw = Vec::with_capacity(12 + self.listed.len() * 21);
        raw.extend_from_slice(&self.latest.to_le_bytes());
        raw.extend_from_slice(&u32::try_from(self.listed.len()).map_err(Broken::new)?.to_le_bytes());
        for listed in &self.listed {
            raw.extend_from_slice(&listed.offset.to_le_bytes());
            raw.extend_from_slice(&listed.at.to_le_bytes());
            raw.extend_from_slice(&listed.channel.to_le_bytes());
            raw.push(u8::from(listed.is_screen));
        }
        let latest = self.latest;
        self.frame(FrameKind::Index, latest, 0, &raw, &mut Packing::default())?;
        let end = [offset.to_le_bytes().as_slice(), END].concat();
        self.file.write_all_at(&end, self.place.offset).map_err(Broken::new)?;
        self.file.sync_all().map_err(Broken::new)
    }

    /// Waits until the disk has what was written.
    pub(crate) fn sync(&self) -> Result<(), Broken> {
        self.file.sync_data().map_err(Broken::new)
    }

    /// How many frames there are.
    pub(crate) fn frames(&self) -> usize {
        self.listed.len()
    }

    /// Where the file ends now.
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

/// Where the bytes of a recording are.
pub(crate) enum Source {
    /// In a file.
    Near(File),
    /// In an object store.
    Far(FarFile),
}

impl Source {
    fn read_at(&self, bytes: &mut [u8], from: u64) -> io::Result<usize> {
        match self {
            Source::Near(file) => file.read_at(bytes, from),
            Source::Far(file) => file.read_at(bytes, from),
        }
    }

    fn read_exact_at(&self, bytes: &mut [u8], from: u64) -> io::Result<()> {
        if read_up_to(self, bytes, from)? == bytes.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn length(&self) -> io::Result<u64> {
        match self {
            Source::Near(file) => Ok(file.metadata()?.len()),
            Source::Far(file) => Ok(file.length()),
        }
    }
}

/// Reads a file, whole or not.
pub(crate) struct Reader {
    file: Source,
    key: DataKey,
    session: String,
    first: Place,
}

impl Reader {
    /// Opens the file.
    pub(crate) fn open(path: &Path, ring: &KeyRing) -> Result<Self, ReadFault> {
        Self::over(Source::Near(File::open(path)?), ring)
    }

    /// Opens what is there.
    pub(crate) fn over(file: Source, ring: &KeyRing) -> Result<Self, ReadFault> {
        let mut start = vec![0; 10 + 2 * 256 + SEALED_BYTES];
        let length = read_up_to(&file, &mut start, 0)?;
        start.truncate(length);
        let mut rest = start.strip_prefix(MAGIC).ok_or(ReadFault::Damaged("it does not begin as a recording does"))?;
        match rest.split_first_chunk::<2>() {
            Some(([VERSION, 0], more)) => rest = more,
            Some(_) => return Err(ReadFault::Damaged("it is of a version that is not known here")),
            None => return Err(ReadFault::Cut),
        }
        let mut text = || -> Result<String, ReadFault> {
            let (length, more) = rest.split_first().ok_or(ReadFault::Cut)?;
            let (text, more) = more.split_at_checked(usize::from(*length)).ok_or(ReadFault::Cut)?;
            rest = more;
            String::from_utf8(text.to_vec()).map_err(|_| ReadFault::Damaged("its header is no text"))
        };
        let (id, session) = (text()?, text()?);
        let sealed = rest.get(..SEALED_BYTES).ok_or(ReadFault::Cut)?;
        let about_len = start.len() - rest.len();
        let key = ring.open(&id, &start[..about_len], sealed).map_err(|fault| match fault {
            OpenFault::Unknown => ReadFault::NoKey(id),
            OpenFault::Wrong => ReadFault::WrongKey(id),
        })?;
        let first = first_place(&start[..about_len + SEALED_BYTES]);
        Ok(Self { file, key, session, first })
    }

    /// Of which session it says to be.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// Where the first frame is.
    pub(crate) fn first(&self) -> Place {
        self.first
    }

    /// The frame at `place`, and the place after it. [`ReadFault::Cut`] where the file ends.
    pub(crate) fn frame(&self, place: Place) -> Result<(Frame, Place), ReadFault> {
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, place.offset)?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body_len, raw_len) = (number(0), number(8));
        let kind = FrameKind::from_byte(head[4]).ok_or(ReadFault::Damaged("a frame is of no known kind"))?;
        let most = kind.raw_bytes_max();
        if !(TAG_BYTES..=most + TAG_BYTES).contains(&body_len) || raw_len > most {
            return Err(ReadFault::Damaged("a frame has an impossible length"));
        }
        let mut at = [0; 8];
        at.copy_from_slice(&head[12..]);
        let at = u64::from_le_bytes(at);
        let mut body = vec![0; body_len];
        self.file.read_exact_at(&mut body, place.offset + HEAD_BYTES as u64)?;
        let mut before = [0; TAG_BYTES];
        before.copy_from_slice(&body[body_len - TAG_BYTES..]);
        let about = [head.as_slice(), &place.before].concat();
        let text = self.key.open(place.nonce(head[5]), &about, &mut body);
        let text = text.ok_or(ReadFault::Damaged("a frame was changed, or is not where it was written"))?;
        let raw = if head[5] & COMPRESSED == 0 {
            text.to_vec()
        } else {
            let unfit = ReadFault::Damaged("a frame cannot be unpacked");
            lz4_flex::block::decompress(text, raw_len).map_err(|_| unfit)?
        };
        if raw.len() != raw_len {
            return Err(ReadFault::Damaged("a frame has another length than it says"));
        }
        let next = Place { number: place.number + 1, offset: place.offset + (HEAD_BYTES + body_len) as u64, before };
        Ok((Frame { kind, at, raw }, next))
    }

    /// Whether a whole frame lies anywhere behind `place`, where none can be read: then the file was not cut off there, but
    /// damaged. How many frames were lost in between is not known, so each number is tried that there was room for.
    pub(crate) fn goes_on_after(&self, place: Place) -> Result<bool, ReadFault> {
        let length = self.file.length()?;
        let is_added = self.head_at(place.offset)?.is_some_and(|head| head[5] & ADDED != 0);
        let (mut tried, mut offset) = (0, place.offset + (HEAD_BYTES + TAG_BYTES) as u64);
        let mut window = vec![0; SCAN_BYTES];
        while offset < length {
            let read = read_up_to(&self.file, &mut window, offset)?;
            for at in 0..read.saturating_sub(HEAD_BYTES - 1) {
                let here = offset + at as u64;
                let Some(body) = plausible(&window[at..at + HEAD_BYTES], length - here) else { continue };
                // What was being added when a crash came is made anew, so only events are a loss then.
                if is_added && window[at + 5] & ADDED != 0 {
                    continue;
                }
                let mut before = [0; TAG_BYTES];
                self.file.read_exact_at(&mut before, here - TAG_BYTES as u64)?;
                for lost in 1..=(here - place.offset) / (HEAD_BYTES + TAG_BYTES) as u64 {
                    tried += body;
                    let number = place.number + lost;
                    if tried > TRIED_BYTES_MAX || self.frame(Place { number, offset: here, before }).is_ok() {
                        return Ok(true);
                    }
                }
            }
            if read < window.len() {
                break;
            }
            offset += (read - HEAD_BYTES + 1) as u64;
        }
        Ok(false)
    }

    fn head_at(&self, offset: u64) -> Result<Option<[u8; HEAD_BYTES]>, ReadFault> {
        let mut head = [0; HEAD_BYTES];
        Ok((read_up_to(&self.file, &mut head, offset)? == HEAD_BYTES).then_some(head))
    }

    /// The index of a whole file, with the time of the last event; [`ReadFault::Cut`] when it has none.
    pub(crate) fn index(&self) -> Result<(Vec<Listed>, u64), ReadFault> {
        let length = self.file.length()?;
        let mut end = [0; END_BYTES as usize];
        self.file.read_exact_at(&mut end, length.checked_sub(END_BYTES).ok_or(ReadFault::Cut)?)?;
        if &end[8..] != END {
            return Err(ReadFault::Cut);
        }
        let mut offset = [0; 8];
        offset.copy_from_slice(&end[..8]);
        let offset = u64::from_le_bytes(offset);
        if offset < self.first.offset + TAG_BYTES as u64 || offset >= length {
            return Err(ReadFault::Damaged("its end points nowhere"));
        }
        let mut before = [0; TAG_BYTES];
        self.file.read_exact_at(&mut before, offset - TAG_BYTES as u64)?;
        // The number of the index frame is the number of frames that it lists; its length says how many.
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, offset)?;
        let raw_len = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let count = raw_len.checked_sub(12).map(|rest| rest / 21).unwrap_or_default();
        let before = if count == 0 { self.first.before } else { before };
        let (frame, _) = self.frame(Place { number: count as u64, offset, before })?;
        if frame.kind != FrameKind::Index {
            return Err(ReadFault::Damaged("its end points to no index"));
        }
        let word = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(frame.raw.get(at..at + 8)?);
            Some(u64::from_le_bytes(bytes))
        };
        let unfit = || ReadFault::Damaged("its index is none");
        let latest = word(0).ok_or_else(unfit)?;
        let mut listed = Vec::with_capacity(count);
        for entry in frame.raw.get(12..).ok_or_else(unfit)?.chunks_exact(21) {
            let mut eight = [0; 8];
            eight.copy_from_slice(&entry[..8]);
            let offset = u64::from_le_bytes(eight);
            eight.copy_from_slice(&entry[8..16]);
            let at = u64::from_le_bytes(eight);
            let channel = u32::from_le_bytes([entry[16], entry[17], entry[18], entry[19]]);
            listed.push(Listed { offset, at, channel, is_screen: entry[20] != 0 });
        }
        Ok((listed, latest))
    }

    /// The place of the frame with this number, which the index has at `offset`.
    pub(crate) fn place(&self, number: u64, offset: u64) -> Result<Place, ReadFault> {
        if number == 0 {
            return Ok(self.first);
        }
        let mut before = [0; TAG_BYTES];
        self.file.read_exact_at(&mut before, offset.checked_sub(TAG_BYTES as u64).ok_or(ReadFault::Cut)?)?;
        Ok(Place { number, offset, before })
    }
}

/// The length of the body behind these bytes, if they may be the head of a frame that ends within `rest` bytes.
fn plausible(head: &[u8], rest: u64) -> Option<u64> {
    let kind = FrameKind::from_byte(*head.get(4)?)?;
    let number = |at: usize| Some(u32::from_le_bytes(*head.get(at..)?.first_chunk::<4>()?) as usize);
    let (body_len, raw_len) = (number(0)?, number(8)?);
    let most = kind.raw_bytes_max();
    let fits = (TAG_BYTES..=most + TAG_BYTES).contains(&body_len) && raw_len <= most;
    let is_one = fits && head[5] <= COMPRESSED | ADDED && head[6..8] == [0, 0];
    (is_one && (HEAD_BYTES + body_len) as u64 <= rest).then_some(body_len as u64)
}

fn read_up_to(file: &Source, bytes: &mut [u8], from: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], from + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// In lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// SHA-256 of a file, in hex, and its size.
pub(crate) fn digest_of(path: &Path) -> io::Result<(String, u64)> {
    let file = Source::Near(File::open(path)?);
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 256 * 1024];
    let mut offset = 0;
    loop {
        let n = read_up_to(&file, &mut buffer, offset)?;
        if n == 0 {
            return Ok((hex(context.finish().as_ref()), offset));
        }
        context.update(&buffer[..n]);
        offset += n as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::PrincipalName;

    fn ring(digit: &str) -> KeyRing {
        KeyRing::parse(&format!("k {}", digit.repeat(64))).expect("a ring")
    }

    fn session() -> SessionId {
        SessionId::new(&PrincipalName::parse("alice").expect("a name"), 7)
    }

    fn write(path: &Path, frames: &[(u64, Vec<u8>)], end: bool) {
        let mut writer = Writer::create(path, &ring("a"), &session()).expect("a new file");
        for (at, raw) in frames {
            writer.frame(FrameKind::Events, *at, 0, raw, &mut Packing::default()).expect("written");
        }
        if end {
            writer.end().expect("ended");
        }
    }

    fn read(path: &Path) -> Result<Vec<(u64, Vec<u8>)>, ReadFault> {
        let reader = Reader::open(path, &ring("a"))?;
        assert_eq!(reader.session(), session().as_str());
        let mut place = reader.first();
        let mut all = Vec::new();
        loop {
            match reader.frame(place) {
                Ok((frame, next)) if frame.kind == FrameKind::Events => {
                    all.push((frame.at, frame.raw));
                    place = next;
                }
                Ok(_) | Err(ReadFault::Cut) => return Ok(all),
                Err(fault) => return Err(fault),
            }
        }
    }

    fn frames() -> Vec<(u64, Vec<u8>)> {
        vec![(0, b"one".to_vec()), (5, vec![b'x'; 100_000]), (9, Vec::new()), (9, b"last".to_vec())]
    }

    #[test]
    fn what_is_written_is_read_and_found_by_the_index() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        write(&path, &frames(), true);
        assert!(std::fs::metadata(&path).expect("a file").len() < 3_000, "it is packed");
        assert_eq!(read(&path).expect("readable"), frames());
        let reader = Reader::open(&path, &ring("a")).expect("readable");
        let (listed, latest) = reader.index().expect("an index");
        assert_eq!((listed.len(), latest), (4, 9));
        let place = reader.place(3, listed[3].offset).expect("a place");
        assert_eq!(reader.frame(place).expect("a frame").0.raw, b"last");
    }

    #[test]
    fn another_key_opens_nothing_and_says_which_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        write(&path, &frames(), true);
        assert!(matches!(Reader::open(&path, &ring("b")), Err(ReadFault::WrongKey(id)) if id == "k"));
        let other = KeyRing::parse(&format!("other {}", "a".repeat(64))).expect("a ring");
        assert!(matches!(Reader::open(&path, &other), Err(ReadFault::NoKey(id)) if id == "k"));
        let bytes = std::fs::read(&path).expect("a file");
        assert!(!bytes.windows(3).any(|w| w == b"one" || w == b"xxx"), "nothing of it is readable as it lies there");
    }

    #[test]
    fn every_change_of_any_byte_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, changed) = (folder.path().join("r"), folder.path().join("changed"));
        write(&path, &[(1, b"hello".to_vec()), (2, b"world".to_vec())], true);
        let whole = std::fs::read(&path).expect("a file");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&changed, &bytes).expect("written");
            let frames = read(&changed);
            let index = Reader::open(&changed, &ring("a")).and_then(|reader| reader.index());
            let good = vec![(1, b"hello".to_vec()), (2, b"world".to_vec())];
            assert!(!matches!(&frames, Ok(all) if *all == good) || index.is_err(), "byte {at}");
            // Whatever is given out is what was written.
            assert!(frames.map_or(true, |all| good.starts_with(&all)), "byte {at}");
        }
    }

    #[test]
    fn a_file_that_was_cut_anywhere_gives_its_whole_frames() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, cut) = (folder.path().join("r"), folder.path().join("cut"));
        write(&path, &frames(), false);
        let whole = std::fs::read(&path).expect("a file");
        let mut most = 0;
        for length in 0..=whole.len() {
            std::fs::write(&cut, &whole[..length]).expect("written");
            match read(&cut) {
                Ok(all) => {
                    assert!(frames().starts_with(&all) && all.len() >= most, "{length}");
                    most = all.len();
                }
                Err(ReadFault::Cut | ReadFault::Damaged(_)) => assert_eq!(most, 0),
                Err(fault) => panic!("{length}: {fault}"),
            }
        }
        assert_eq!(most, 4);
    }

    #[test]
    fn what_is_added_again_after_a_crash_is_sealed_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        write(&path, &frames(), false);
        let end = {
            let reader = Reader::open(&path, &ring("a")).expect("readable");
            (0..4).fold(reader.first(), |place, _| reader.frame(place).expect("a frame").1)
        };
        let mut sealed: Vec<Vec<u8>> = Vec::new();
        for tries in 0..=u64::from(TRIES_MAX) + 1 {
            let reader = Reader::open(&path, &ring("a")).expect("readable");
            let writer = Writer::resume(&path, reader, Vec::new(), end, 9);
            if tries > u64::from(TRIES_MAX) {
                assert!(writer.is_err(), "there are no more nonces");
                break;
            }
            // The same text, so that the same nonce would show.
            writer
                .expect("again")
                .frame(FrameKind::Screen, 9, 0, b"a screen", &mut Packing::default())
                .expect("written");
            let reader = Reader::open(&path, &ring("a")).expect("readable");
            assert_eq!(reader.frame(end).expect("a frame").0.raw, b"a screen");
            let bytes = std::fs::read(&path).expect("a file");
            sealed.push(bytes[end.offset as usize + HEAD_BYTES..][..b"a screen".len()].to_vec());
        }
        sealed.sort();
        sealed.dedup();
        assert_eq!(sealed.len(), usize::from(TRIES_MAX) + 1);
    }

    #[test]
    fn frames_cannot_change_places() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("r");
        write(&path, &[(1, b"aaaa".to_vec()), (1, b"bbbb".to_vec())], false);
        let bytes = std::fs::read(&path).expect("a file");
        let start = Reader::open(&path, &ring("a")).expect("readable").first().offset as usize;
        let half = (bytes.len() - start) / 2;
        let swapped = [&bytes[..start], &bytes[start + half..], &bytes[start..start + half]].concat();
        std::fs::write(&path, swapped).expect("written");
        assert!(matches!(read(&path), Err(ReadFault::Damaged(_))));
    }
}
