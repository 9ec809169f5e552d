//! Which files a transfer touches: a passive reader of the SSH file transfer protocol.
//!
//! It sees both directions as they pass and says what was done once the answer is there. It answers nothing, delays
//! nothing, and what it does not understand costs only its own account: from there on it is blind, and says so once.
//! Everything that it holds is bounded. Source: <https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-02>,
//! the version 3 that everybody speaks, and OpenSSH's extensions (PROTOCOL, section 4).

use aws_lc_rs::digest;
use ravelin_model::recording::{Act, ActKind, Flow, Source};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Longest packet that is read; OpenSSH sends at most 256 KiB.
const PACKET_BYTES_MAX: usize = 320 * 1024;
/// Requests without an answer that are remembered.
const REQUESTS_MAX: usize = 2_048;
/// Files that are open at once.
const FILES_MAX: usize = 512;

mod kind {
    pub(super) const INIT: u8 = 1;
    pub(super) const VERSION: u8 = 2;
    pub(super) const OPEN: u8 = 3;
    pub(super) const CLOSE: u8 = 4;
    pub(super) const READ: u8 = 5;
    pub(super) const WRITE: u8 = 6;
    pub(super) const SETSTAT: u8 = 9;
    pub(super) const FSETSTAT: u8 = 10;
    pub(super) const OPENDIR: u8 = 11;
    pub(super) const REMOVE: u8 = 13;
    pub(super) const MKDIR: u8 = 14;
    pub(super) const RMDIR: u8 = 15;
    pub(super) const RENAME: u8 = 18;
    pub(super) const SYMLINK: u8 = 20;
    pub(super) const EXTENDED: u8 = 200;
    pub(super) const STATUS: u8 = 101;
    pub(super) const HANDLE: u8 = 102;
    pub(super) const DATA: u8 = 103;
}

/// What a file is opened for (section 6.3).
mod open {
    pub(super) const READ: u32 = 1;
    pub(super) const WRITE: u32 = 2;
    pub(super) const CREATE: u32 = 8;
    pub(super) const TRUNCATE: u32 = 16;
}

/// Of attributes that a size is among them (section 5).
const HAS_SIZE: u32 = 1;
/// The version whose flags and attributes are read here.
const VERSION_MAX: u32 = 3;

/// The bytes of one direction, put together to packets.
#[derive(Debug, Default)]
struct Packets {
    held: Vec<u8>,
}

impl Packets {
    /// The packets that `bytes` complete; `None` when there can be none any more.
    fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) -> Option<()> {
        loop {
            if self.held.is_empty() {
                // A whole packet is read where it lies.
                let Some(length) = length(bytes)? else { break };
                let Some((packet, rest)) = bytes.split_at_checked(4 + length) else { break };
                each(&packet[4..]);
                bytes = rest;
                continue;
            }
            let missing = match length(&self.held)? {
                None => 4 - self.held.len(),
                Some(length) => 4 + length - self.held.len(),
            };
            let now = missing.min(bytes.len());
            self.held.extend_from_slice(&bytes[..now]);
            bytes = &bytes[now..];
            match length(&self.held)? {
                Some(length) if self.held.len() == 4 + length => {
                    each(&self.held[4..]);
                    self.held.clear();
                }
                Some(_) | None if bytes.is_empty() => return Some(()),
                Some(_) | None => {}
            }
        }
        self.held.extend_from_slice(bytes);
        Some(())
    }
}

/// The length that a packet says to have, once that is known; `None` outside when it is none.
fn length(bytes: &[u8]) -> Option<Option<usize>> {
    let Some((length, _)) = bytes.split_first_chunk::<4>() else { return Some(None) };
    let length = u32::from_be_bytes(*length) as usize;
    (1..=PACKET_BYTES_MAX).contains(&length).then_some(Some(length))
}

/// What waits for its answer.
enum Request {
    Open { path: String, folder: bool, flags: u32 },
    Close { handle: Vec<u8> },
    Read { handle: Vec<u8>, offset: u64 },
    Write { handle: Vec<u8> },
    Other { operation: &'static str, path: String, more: Option<(&'static str, String)> },
}

/// A file that is open.
struct OpenFile {
    path: String,
    folder: bool,
    flags: u32,
    // Bytes came into it that did not pass here.
    copied: bool,
    // Its end was read.
    ended: bool,
    opened: Duration,
    read: Stretch,
    written: Stretch,
    failed: Option<String>,
}

/// Bytes of a file that went one way.
struct Stretch {
    bytes: u64,
    next: u64,
    digest: Option<digest::Context>,
}

impl Stretch {
    fn new() -> Self {
        Self { bytes: 0, next: 0, digest: Some(digest::Context::new(&digest::SHA256)) }
    }

    fn add(&mut self, offset: u64, data: &[u8]) {
        self.bytes += data.len() as u64;
        if offset == self.next {
            self.next += data.len() as u64;
            if let Some(digest) = &mut self.digest {
                digest.update(data);
            }
        } else {
            // Out of order: the whole has a digest that we cannot know.
            self.digest = None;
        }
    }

    /// The file has this size now, whatever was written.
    fn cut(&mut self, size: u64) {
        if size != self.next {
            self.digest = None;
        }
    }
}

/// Reads along with one file transfer channel.
#[derive(Default)]
pub(crate) struct Watcher {
    from_client: Packets,
    from_target: Packets,
    requests: HashMap<u32, Request>,
    files: HashMap<Vec<u8>, OpenFile>,
    // Once both ends have agreed on it.
    version: u32,
    blind: bool,
}

impl Watcher {
    /// Takes what passed; what is known now to have been done goes into `acts`.
    pub(crate) fn handle(&mut self, flow: Flow, bytes: &[u8], at: Duration, acts: &mut Vec<Act>) {
        if self.blind {
            return;
        }
        let mut packets = match flow {
            Flow::In => std::mem::take(&mut self.from_client),
            Flow::Out => std::mem::take(&mut self.from_target),
        };
        let read = packets.take(bytes, |packet| {
            let _unread = match flow {
                Flow::In => self.request(packet),
                Flow::Out => self.answer(packet, at, acts),
            };
        });
        match flow {
            Flow::In => self.from_client = packets,
            Flow::Out => self.from_target = packets,
        }
        if read.is_none() || self.requests.len() > REQUESTS_MAX || self.files.len() > FILES_MAX {
            self.finish(at, acts);
            self.blind = true;
            acts.push(unreadable(at));
        }
    }

    /// The channel has closed: what is still open was cut off.
    pub(crate) fn finish(&mut self, at: Duration, acts: &mut Vec<Act>) {
        self.requests.clear();
        let mut files: Vec<OpenFile> = self.files.drain().map(|(_, file)| file).collect();
        files.sort_by_key(|file| file.opened);
        for mut file in files {
            file.failed.get_or_insert_with(|| "cut off".to_owned());
            acts.extend(closed(file, at));
        }
    }

    fn request(&mut self, packet: &[u8]) -> Option<()> {
        let mut words = Words(packet);
        let code = words.byte()?;
        if code == kind::INIT {
            return Some(());
        }
        let id = words.number()?;
        let request = match code {
            kind::OPEN => {
                let (path, flags) = (words.text()?, words.number()?);
                Request::Open { path, folder: false, flags: if self.version <= VERSION_MAX { flags } else { 0 } }
            }
            kind::OPENDIR => Request::Open { path: words.text()?, folder: true, flags: 0 },
            kind::CLOSE => Request::Close { handle: words.bytes()?.to_vec() },
            kind::READ => Request::Read { handle: words.bytes()?.to_vec(), offset: words.long()? },
            kind::WRITE => {
                let handle = words.bytes()?.to_vec();
                let (offset, data) = (words.long()?, words.bytes()?);
                if let Some(file) = self.files.get_mut(&handle) {
                    file.written.add(offset, data);
                }
                Request::Write { handle }
            }
            kind::REMOVE => Request::Other { operation: "remove", path: words.text()?, more: None },
            kind::MKDIR => Request::Other { operation: "mkdir", path: words.text()?, more: None },
            kind::RMDIR => Request::Other { operation: "rmdir", path: words.text()?, more: None },
            kind::SETSTAT => {
                let (path, size) = (words.text()?, self.size(&mut words));
                Request::Other { operation: "setstat", path, more: size.map(|size| ("size", size.to_string())) }
            }
            kind::FSETSTAT => {
                let handle = words.bytes()?;
                let size = self.size(&mut words);
                let file = self.files.get_mut(handle);
                let path = file.as_ref().map(|file| file.path.clone()).unwrap_or_default();
                if let (Some(file), Some(size)) = (file, size) {
                    file.written.cut(size);
                }
                Request::Other { operation: "setstat", path, more: size.map(|size| ("size", size.to_string())) }
            }
            kind::RENAME => {
                Request::Other { operation: "rename", path: words.text()?, more: Some(("to", words.text()?)) }
            }
            // OpenSSH has the two the other way round than the draft: what is linked to comes first.
            kind::SYMLINK => {
                let to = words.text()?;
                Request::Other { operation: "symlink", path: words.text()?, more: Some(("to", to)) }
            }
            kind::EXTENDED => match words.bytes()? {
                b"posix-rename@openssh.com" => {
                    Request::Other { operation: "rename", path: words.text()?, more: Some(("to", words.text()?)) }
                }
                b"hardlink@openssh.com" => {
                    let to = words.text()?;
                    Request::Other { operation: "hardlink", path: words.text()?, more: Some(("to", to)) }
                }
                b"lsetstat@openssh.com" => Request::Other { operation: "setstat", path: words.text()?, more: None },
                // https://datatracker.ietf.org/doc/html/draft-ietf-secsh-filexfer-extensions-00#section-7
                b"copy-data" => {
                    let (from, _offset, _length, to) = (words.bytes()?, words.long()?, words.long()?, words.bytes()?);
                    let path_of = |file: Option<&OpenFile>| file.map(|file| file.path.clone()).unwrap_or_default();
                    let path = path_of(self.files.get(from));
                    if let Some(file) = self.files.get_mut(to) {
                        file.copied = true;
                        file.written.digest = None;
                    }
                    Request::Other { operation: "copy", path, more: Some(("to", path_of(self.files.get(to)))) }
                }
                _ => return Some(()),
            },
            // Looking is not doing.
            _ => return Some(()),
        };
        self.requests.insert(id, request);
        Some(())
    }

    fn answer(&mut self, packet: &[u8], at: Duration, acts: &mut Vec<Act>) -> Option<()> {
        let mut words = Words(packet);
        let code = words.byte()?;
        if code == kind::VERSION {
            self.version = words.number()?;
            return Some(());
        }
        let id = words.number()?;
        let request = self.requests.remove(&id)?;
        let outcome = match code {
            kind::STATUS => status(words.number()?),
            _ => "ok".to_owned(),
        };
        match request {
            Request::Open { path, folder, flags } => {
                if code == kind::HANDLE {
                    let handle = words.bytes()?.to_vec();
                    let (read, written) = (Stretch::new(), Stretch::new());
                    let (copied, ended, opened, failed) = (false, false, at, None);
                    let file = OpenFile { path, folder, flags, copied, ended, opened, read, written, failed };
                    self.files.insert(handle, file);
                } else {
                    let operation = if folder { "list" } else { "open" };
                    let mut facts = BTreeMap::from([("outcome".to_owned(), outcome)]);
                    if let Some(direction) = direction(flags) {
                        facts.insert("direction".to_owned(), direction.to_owned());
                    }
                    acts.push(act(at, operation, &path, facts));
                }
            }
            Request::Close { handle } => {
                if let Some(mut file) = self.files.remove(&handle) {
                    if outcome != "ok" {
                        file.failed.get_or_insert(outcome);
                    }
                    acts.extend(closed(file, at));
                }
            }
            Request::Read { handle, offset } => {
                if code == kind::DATA
                    && let Some(file) = self.files.get_mut(&handle)
                {
                    file.read.add(offset, words.bytes()?);
                } else if let Some(file) = self.files.get_mut(&handle)
                    && outcome != "ok"
                {
                    if outcome == END_OF_FILE {
                        file.ended = true;
                    } else {
                        file.failed.get_or_insert(outcome);
                    }
                }
            }
            Request::Write { handle } => {
                if outcome != "ok"
                    && let Some(file) = self.files.get_mut(&handle)
                {
                    file.failed.get_or_insert(outcome);
                }
            }
            Request::Other { operation, path, more } => {
                let mut facts = BTreeMap::from([("outcome".to_owned(), outcome)]);
                facts.extend(more.map(|(name, value)| (name.to_owned(), value)));
                acts.push(act(at, operation, &path, facts));
            }
        }
        Some(())
    }

    /// The size among the attributes that come next.
    fn size(&self, words: &mut Words<'_>) -> Option<u64> {
        let flags = words.number()?;
        if self.version <= VERSION_MAX && flags & HAS_SIZE != 0 { words.long() } else { None }
    }
}

/// Which way bytes are to go through a file that is opened so.
fn direction(flags: u32) -> Option<&'static str> {
    match (flags & open::WRITE != 0, flags & open::READ != 0) {
        (true, _) => Some("upload"),
        (false, true) => Some("download"),
        (false, false) => None,
    }
}

/// What was done with a file by the time it is closed: one act for each direction that bytes went. A file that was made or
/// emptied was written, and one whose end was read was read, without any bytes too.
fn closed(file: OpenFile, at: Duration) -> Vec<Act> {
    let outcome = file.failed.unwrap_or_else(|| "ok".to_owned());
    let facts = |more: &[(&str, String)]| {
        let mut facts = BTreeMap::from([("outcome".to_owned(), outcome.clone())]);
        facts.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        facts
    };
    if file.folder {
        return vec![act(at, "list", &file.path, facts(&[]))];
    }
    let mut acts = Vec::new();
    let empties = file.flags & open::WRITE != 0 && file.flags & (open::CREATE | open::TRUNCATE) != 0;
    let (is_written, is_read) = (empties && !file.copied, file.ended);
    for (stretch, counts, operation, direction) in
        [(file.written, is_written, "write", "upload"), (file.read, is_read, "read", "download")]
    {
        if stretch.bytes == 0 && !counts {
            continue;
        }
        let mut all = facts(&[("direction", direction.to_owned()), ("bytes", stretch.bytes.to_string())]);
        if let Some(digest) = stretch.digest {
            let hex = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            all.insert("sha256".to_owned(), hex);
        }
        acts.push(act(at, operation, &file.path, all));
    }
    if acts.is_empty() && !file.copied {
        let mut all = facts(&[("bytes", "0".to_owned())]);
        if let Some(direction) = direction(file.flags) {
            all.insert("direction".to_owned(), direction.to_owned());
        }
        acts.push(act(at, "open", &file.path, all));
    }
    acts
}

/// Says that nothing more of a transfer can be told.
pub(crate) fn unreadable(at: Duration) -> Act {
    act(at, "unreadable", "", BTreeMap::from([("outcome".to_owned(), "unknown from here on".to_owned())]))
}

fn act(at: Duration, operation: &str, path: &str, mut facts: BTreeMap<String, String>) -> Act {
    facts.insert("operation".to_owned(), operation.to_owned());
    Act { at, kind: ActKind::File, source: Source::Told, text: path.to_owned(), facts }
}

const END_OF_FILE: &str = "end of file";

fn status(code: u32) -> String {
    match code {
        0 => "ok".to_owned(),
        1 => END_OF_FILE.to_owned(),
        2 => "no such file".to_owned(),
        3 => "permission denied".to_owned(),
        4 => "failure".to_owned(),
        5 => "bad message".to_owned(),
        8 => "unsupported".to_owned(),
        other => format!("status {other}"),
    }
}

/// The words of a packet, in order.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*bytes))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        self.bytes().map(|bytes| String::from_utf8_lossy(bytes).chars().take(Act::TEXT_CHARS_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &[u8]) -> Vec<u8> {
        [(text.len() as u32).to_be_bytes().as_slice(), text].concat()
    }

    fn packet(code: u8, id: u32, rest: &[Vec<u8>]) -> Vec<u8> {
        text(&[[code].as_slice(), &id.to_be_bytes(), &rest.concat()].concat())
    }

    fn number(number: u32) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    fn at(offset: u64) -> Vec<u8> {
        offset.to_be_bytes().to_vec()
    }

    /// An upload in two pieces, a download, a refusal and a removal.
    fn conversation() -> Vec<(Flow, Vec<u8>)> {
        use Flow::{In, Out};
        vec![
            (In, text(&[1, 0, 0, 0, 3])),
            (Out, text(&[2, 0, 0, 0, 3])),
            (In, packet(kind::OPEN, 1, &[text(b"/tmp/up"), number(26), number(0)])),
            (Out, packet(kind::HANDLE, 1, &[text(b"h1")])),
            (In, packet(kind::WRITE, 2, &[text(b"h1"), at(0), text(b"hel")])),
            (In, packet(kind::WRITE, 3, &[text(b"h1"), at(3), text(b"lo")])),
            (Out, packet(kind::STATUS, 2, &[number(0)])),
            (Out, packet(kind::STATUS, 3, &[number(0)])),
            (In, packet(kind::CLOSE, 4, &[text(b"h1")])),
            (Out, packet(kind::STATUS, 4, &[number(0)])),
            (In, packet(kind::OPEN, 5, &[text(b"down"), number(1), number(0)])),
            (Out, packet(kind::HANDLE, 5, &[text(b"h2")])),
            (In, packet(kind::READ, 6, &[text(b"h2"), at(0), number(32768)])),
            (Out, packet(kind::DATA, 6, &[text(b"hello")])),
            (In, packet(kind::READ, 7, &[text(b"h2"), at(5), number(32768)])),
            (Out, packet(kind::STATUS, 7, &[number(1)])),
            (In, packet(kind::CLOSE, 8, &[text(b"h2")])),
            (Out, packet(kind::STATUS, 8, &[number(0)])),
            (In, packet(kind::OPEN, 9, &[text(b"/etc/shadow"), number(1), number(0)])),
            (Out, packet(kind::STATUS, 9, &[number(3)])),
            (In, packet(kind::REMOVE, 10, &[text(b"/tmp/up")])),
            (Out, packet(kind::STATUS, 10, &[number(0)])),
        ]
    }

    fn seen(conversation: &[(Flow, Vec<u8>)], size: usize) -> Vec<Act> {
        let mut watcher = Watcher::default();
        let mut acts = Vec::new();
        for (flow, bytes) in conversation {
            for piece in bytes.chunks(size) {
                watcher.handle(*flow, piece, Duration::ZERO, &mut acts);
            }
        }
        watcher.finish(Duration::ZERO, &mut acts);
        acts
    }

    #[test]
    fn each_operation_is_told_with_its_outcome_however_the_bytes_are_cut() {
        const HELLO: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for size in [1, 2, 3, 7, 1000] {
            let acts = seen(&conversation(), size);
            let told: Vec<_> = acts
                .iter()
                .map(|act| {
                    let fact = |name: &str| act.facts.get(name).cloned().unwrap_or_default();
                    [act.text.clone(), fact("operation"), fact("bytes"), fact("sha256"), fact("outcome")]
                })
                .collect();
            assert_eq!(
                told,
                [
                    ["/tmp/up", "write", "5", HELLO, "ok"],
                    ["down", "read", "5", HELLO, "ok"],
                    ["/etc/shadow", "open", "", "", "permission denied"],
                    ["/tmp/up", "remove", "", "", "ok"],
                ]
            );
        }
    }

    #[test]
    fn what_was_cut_off_is_told_and_what_came_out_of_order_has_no_digest() {
        let mut cut = conversation();
        cut.truncate(6);
        let acts = seen(&cut, 1000);
        assert_eq!((acts[0].facts["outcome"].as_str(), acts[0].facts["bytes"].as_str()), ("cut off", "5"));
        let mut swapped = conversation();
        swapped.swap(4, 5);
        assert_eq!(seen(&swapped, 1000)[0].facts.get("sha256"), None);
    }

    #[test]
    fn what_is_no_file_transfer_blinds_it_and_nothing_else() {
        let acts = seen(&[(Flow::Out, b"bash: warning: here is a login message\n".to_vec())], 1000);
        assert_eq!(acts.len(), 1);
        assert_eq!(acts[0].facts["operation"], "unreadable");
    }

    #[test]
    fn files_that_were_made_emptied_cut_or_copied_over_are_told_although_nothing_was_sent() {
        use Flow::{In, Out};
        const NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let mut all = vec![(In, text(&[1, 0, 0, 0, 3])), (Out, text(&[2, 0, 0, 0, 3]))];
        let mut id = 0;
        let mut ask = |code, words: &[Vec<u8>], answer: u8, rest: Vec<u8>| {
            id += 1;
            all.push((In, packet(code, id, words)));
            all.push((Out, packet(answer, id, &[rest])));
        };
        let ok = || number(0);
        for (path, flags) in [("made", 0x1a), ("emptied", 0x12), ("touched", 2), ("looked", 1), ("read", 1)] {
            ask(kind::OPEN, &[text(path.as_bytes()), number(flags), number(0)], kind::HANDLE, text(b"h"));
            if path == "read" {
                ask(kind::READ, &[text(b"h"), at(0), number(9)], kind::STATUS, number(1));
            }
            ask(kind::CLOSE, &[text(b"h")], kind::STATUS, ok());
        }
        // Written, and cut to less; then over another one, by the target itself.
        ask(kind::OPEN, &[text(b"from"), number(0x1a), number(0)], kind::HANDLE, text(b"a"));
        ask(kind::WRITE, &[text(b"a"), at(0), text(b"hello")], kind::STATUS, ok());
        ask(kind::FSETSTAT, &[text(b"a"), number(1), at(2)], kind::STATUS, ok());
        ask(kind::FSETSTAT, &[text(b"a"), number(4), number(0o600)], kind::STATUS, number(3));
        ask(kind::OPEN, &[text(b"to"), number(0x1a), number(0)], kind::HANDLE, text(b"b"));
        let copy = [text(b"copy-data"), text(b"a"), at(0), at(0), text(b"b"), at(0)];
        ask(kind::EXTENDED, &copy, kind::STATUS, ok());
        ask(kind::CLOSE, &[text(b"b")], kind::STATUS, ok());
        ask(kind::CLOSE, &[text(b"a")], kind::STATUS, ok());
        ask(kind::SETSTAT, &[text(b"from"), number(1), at(0)], kind::STATUS, ok());
        ask(kind::OPEN, &[text(b"kept"), number(0x1a), number(0)], kind::STATUS, number(3));
        let acts = seen(&all, 1000);
        let told: Vec<_> = acts
            .iter()
            .map(|act| {
                let fact = |name: &str| act.facts.get(name).map(String::as_str).unwrap_or_default();
                let (size, to) = (fact("size"), fact("to"));
                let more = if size.is_empty() { to } else { size };
                let what = [fact("operation"), fact("direction"), fact("bytes"), more, fact("outcome")];
                (act.text.as_str(), what, fact("sha256"))
            })
            .collect();
        assert_eq!(
            told,
            [
                ("made", ["write", "upload", "0", "", "ok"], NOTHING),
                ("emptied", ["write", "upload", "0", "", "ok"], NOTHING),
                ("touched", ["open", "upload", "0", "", "ok"], ""),
                ("looked", ["open", "download", "0", "", "ok"], ""),
                ("read", ["read", "download", "0", "", "ok"], NOTHING),
                ("from", ["setstat", "", "", "2", "ok"], ""),
                ("from", ["setstat", "", "", "", "permission denied"], ""),
                ("from", ["copy", "", "", "to", "ok"], ""),
                ("from", ["write", "upload", "5", "", "ok"], ""),
                ("from", ["setstat", "", "", "0", "ok"], ""),
                ("kept", ["open", "upload", "", "", "permission denied"], ""),
            ]
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fall(pieces in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..100)), 0..30)) {
            let mut watcher = Watcher::default();
            let mut acts = Vec::new();
            for (inward, bytes) in pieces {
                watcher.handle(if inward { Flow::In } else { Flow::Out }, &bytes, Duration::ZERO, &mut acts);
            }
            watcher.finish(Duration::ZERO, &mut acts);
        }
    }
}
