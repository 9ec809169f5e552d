//! Which files an old copy touches: a passive reader of what the sending side of `scp` says (`scp -t` and `scp -f`).
//!
//! It believes the sender; whether the receiver has written the file cannot be seen, so an outcome is `sent` or
//! `cut off`. What it does not understand costs only its own account: from there on it is blind, and says so once.
//! Source: OpenSSH, `scp.c`.

use crate::sftp::unreadable;
use aws_lc_rs::digest;
use ravelin_model::recording::{Act, ActKind, Flow, Source};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest line of the protocol.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// Deepest folder.
const FOLDERS_MAX: usize = 256;

/// Reads along with one old copy.
pub(crate) struct Watcher {
    sender: Flow,
    base: String,
    folders: Vec<String>,
    state: State,
}

enum State {
    Line(Vec<u8>),
    File {
        path: String,
        size: u64,
        left: u64,
        digest: digest::Context,
    },
    /// The byte after a file.
    After,
    Blind,
}

impl Watcher {
    /// For the far half of a copy, as it was started.
    pub(crate) fn new(command: &str) -> Self {
        let uploads = command.split_ascii_whitespace().any(|word| word.starts_with('-') && word.contains('t'));
        let base = command.split_ascii_whitespace().next_back().unwrap_or_default().to_owned();
        let sender = if uploads { Flow::In } else { Flow::Out };
        Self { sender, base, folders: Vec::new(), state: State::Line(Vec::new()) }
    }

    /// Takes what passed; what is known now to have been done goes into `acts`.
    pub(crate) fn handle(&mut self, flow: Flow, mut bytes: &[u8], at: Duration, acts: &mut Vec<Act>) {
        if flow != self.sender {
            return;
        }
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Blind => return,
                State::After => {
                    bytes = rest;
                    self.state = State::Line(Vec::new());
                }
                State::File { left, digest, .. } => {
                    let now = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    digest.update(&bytes[..now]);
                    *left -= now as u64;
                    bytes = &bytes[now..];
                    if *left == 0 {
                        acts.extend(self.told("sent", at));
                        self.state = State::After;
                    }
                }
                State::Line(line) => {
                    bytes = rest;
                    if *first != b'\n' && line.len() < LINE_BYTES_MAX {
                        // A zero is an acknowledgement between the lines.
                        if !(line.is_empty() && *first == 0) {
                            line.push(*first);
                        }
                        continue;
                    }
                    let line = std::mem::take(line);
                    if *first != b'\n' || self.line(&line).is_none() {
                        self.state = State::Blind;
                        acts.push(unreadable(at));
                    } else if let State::File { left: 0, .. } = self.state {
                        acts.extend(self.told("sent", at));
                        self.state = State::After;
                    }
                }
            }
        }
    }

    /// The channel has closed.
    pub(crate) fn finish(&mut self, at: Duration, acts: &mut Vec<Act>) {
        acts.extend(self.told("cut off", at));
        self.state = State::Blind;
    }

    fn line(&mut self, line: &[u8]) -> Option<()> {
        let text = String::from_utf8_lossy(line);
        let (code, rest) = text.split_at_checked(1)?;
        match code {
            "C" | "D" => {
                let mut words = rest.splitn(3, ' ');
                let (_mode, size, name) = (words.next()?, words.next()?.parse::<u64>().ok()?, words.next()?);
                if code == "D" {
                    self.folders.push(name.to_owned());
                    (self.folders.len() <= FOLDERS_MAX).then_some(())
                } else {
                    let inner = self.folders.iter().map(String::as_str).chain([name]).collect::<Vec<_>>().join("/");
                    let path = format!("{} ({inner})", self.base);
                    let digest = digest::Context::new(&digest::SHA256);
                    self.state = State::File { path, size, left: size, digest };
                    Some(())
                }
            }
            "E" => self.folders.pop().map(|_| ()),
            // Times, and errors of the sender.
            "T" | "\u{1}" | "\u{2}" => Some(()),
            _ => None,
        }
    }

    fn told(&mut self, outcome: &str, at: Duration) -> Option<Act> {
        let State::File { path, size, left, digest } = std::mem::replace(&mut self.state, State::After) else {
            return None;
        };
        let (operation, direction) = match self.sender {
            Flow::In => ("write", "upload"),
            Flow::Out => ("read", "download"),
        };
        let hex = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let facts = [
            ("operation", operation.to_owned()),
            ("direction", direction.to_owned()),
            ("bytes", (size - left).to_string()),
            ("sha256", hex),
            ("outcome", outcome.to_owned()),
        ];
        let facts: BTreeMap<_, _> = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let text = path.chars().take(Act::TEXT_CHARS_MAX).collect();
        Some(Act { at, kind: ActKind::File, source: Source::Told, text, facts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seen(command: &str, flow: Flow, bytes: &[u8], size: usize) -> Vec<(String, String, String)> {
        let mut watcher = Watcher::new(command);
        let mut acts = Vec::new();
        for piece in bytes.chunks(size) {
            watcher.handle(flow, piece, Duration::ZERO, &mut acts);
        }
        watcher.finish(Duration::ZERO, &mut acts);
        let fact = |act: &Act, name| act.facts.get(name).cloned().unwrap_or_default();
        acts.iter().map(|act| (act.text.clone(), fact(act, "bytes"), fact(act, "outcome"))).collect()
    }

    #[test]
    fn files_in_folders_are_told_however_the_bytes_are_cut() {
        let bytes = b"T1 0 1 0\nD0755 0 sub\nC0644 5 a.txt\nhello\0C0644 0 empty\n\0E\nC0600 9 cut\nhalf";
        for size in [1, 3, 1000] {
            let told = seen("scp -r -t /tmp/x", Flow::In, bytes, size);
            let told: Vec<_> = told.iter().map(|(a, b, c)| [a.as_str(), b, c]).collect();
            assert_eq!(
                told,
                [
                    ["/tmp/x (sub/a.txt)", "5", "sent"],
                    ["/tmp/x (sub/empty)", "0", "sent"],
                    ["/tmp/x (cut)", "4", "cut off"],
                ]
            );
        }
        assert_eq!(seen("scp -f /tmp/x", Flow::Out, b"C0644 1 x\na\0", 1000).len(), 1);
        assert!(seen("scp -f /tmp/x", Flow::In, b"\0\0\0", 1000).is_empty());
    }

    #[test]
    fn what_it_does_not_understand_is_said_once() {
        let (mut watcher, mut acts) = (Watcher::new("scp -t /tmp/x"), Vec::new());
        for _ in 0..2 {
            watcher.handle(Flow::In, b"hello\n", Duration::ZERO, &mut acts);
        }
        watcher.finish(Duration::ZERO, &mut acts);
        assert_eq!(acts, [unreadable(Duration::ZERO)]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_fall(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _told = seen("scp -t x", Flow::In, &bytes, 7);
        }
    }
}
