//! What is kept of a session beside its row: by which rule, of what, and what of it can be asked for.
//!
//! The relay makes [`Note`]s of whatever passes, alike for every door. A [`crate::ports::Recorder`] puts them on a
//! [`crate::ports::Tape`] and, once the session is over, says what was done in it: its [`Act`]s.

use crate::id::{Login, PrincipalName, SessionId, TargetName};
use crate::session::words;
use crate::time::Time;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

words!(
    /// How much of a session is recorded.
    Mode {
        /// Nothing.
        None = "none",
        /// What was done: commands that were run as such, files, forwards; nothing that was on a screen.
        Metadata = "metadata",
        /// That, and everything that a terminal showed.
        Full = "full",
    }
);

words!(
    /// What happens to a session whose recording fails.
    WhenBroken {
        /// It ends, as `recording_failed`.
        End = "end",
        /// It goes on, and its row says that its recording failed.
        GoOn = "go_on",
    }
);

/// What is recorded of the sessions to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// How much.
    pub mode: Mode,
    /// Whether lines that were typed are kept too, where they were echoed.
    pub input: bool,
    /// What happens when it fails.
    pub when_broken: WhenBroken,
    /// Whether the person is told when somebody watches.
    pub announce: bool,
    /// How long it is kept: the name of a class, or empty for the usual one.
    pub class: String,
    /// Whether the output of programs without a terminal is kept too.
    pub output: bool,
}

impl Default for Rule {
    /// Nothing is recorded.
    fn default() -> Self {
        Self {
            mode: Mode::None,
            input: false,
            when_broken: WhenBroken::End,
            announce: true,
            class: String::new(),
            output: false,
        }
    }
}

/// Which way something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// From the client to the target.
    In,
    /// From the target to the client.
    Out,
}

/// A terminal as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// What it calls itself, as in the variable `TERM`.
    pub name: String,
    /// Columns of characters.
    pub columns: u32,
    /// Rows of characters.
    pub rows: u32,
}

/// What a channel of a session is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A shell.
    Shell {
        /// On this terminal, if on one.
        terminal: Option<Terminal>,
    },
    /// One command.
    Exec {
        /// As it was asked for.
        command: String,
        /// On this terminal, if on one.
        terminal: Option<Terminal>,
    },
    /// File transfer by the SSH file transfer protocol.
    Files,
    /// A connection through the session.
    Forward {
        /// Whether the target opened it (`-R`) and not the client.
        inward: bool,
        /// To where, as `host:port`.
        to: String,
    },
}

impl Purpose {
    /// The terminal, if it has one.
    #[must_use]
    pub fn terminal(&self) -> Option<&Terminal> {
        match self {
            Purpose::Shell { terminal } | Purpose::Exec { terminal, .. } => terminal.as_ref(),
            Purpose::Files | Purpose::Forward { .. } => None,
        }
    }

    /// Whether a recorder by `rule` has to see the bytes, and not their number only.
    #[must_use]
    pub fn needs_bytes(&self, rule: &Rule) -> bool {
        match self {
            Purpose::Shell { terminal } => rule.mode == Mode::Full && (terminal.is_some() || rule.output),
            Purpose::Exec { terminal: Some(_), .. } => rule.mode == Mode::Full,
            // Old copies run as a command and speak a protocol that tells of each file.
            Purpose::Exec { command, terminal: None } => is_copy(command) || (rule.mode == Mode::Full && rule.output),
            Purpose::Files => true,
            Purpose::Forward { .. } => false,
        }
    }
}

/// Whether a command is the far half of an `scp` that copies by the old protocol.
#[must_use]
pub fn is_copy(command: &str) -> bool {
    let mut words = command.split_ascii_whitespace();
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    program == "scp" && words.any(|word| word.starts_with('-') && (word.contains('t') || word.contains('f')))
}

/// Bytes that went through a channel, counted while they go.
#[derive(Debug, Default)]
pub struct Counts {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
}

impl Counts {
    /// Counts `bytes` more.
    pub fn add(&self, flow: Flow, bytes: u64) {
        let counter = match flow {
            Flow::In => &self.bytes_in,
            Flow::Out => &self.bytes_out,
        };
        counter.fetch_add(bytes, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn bytes(&self, flow: Flow) -> u64 {
        match flow {
            Flow::In => self.bytes_in.load(Ordering::Relaxed),
            Flow::Out => self.bytes_out.load(Ordering::Relaxed),
        }
    }
}

/// Something that passed in a session.
#[derive(Clone, Debug)]
pub struct Note {
    /// When, since the recording began.
    pub at: Duration,
    /// In which channel; numbers are given in the order of opening, from 0.
    pub channel: u32,
    /// What.
    pub what: What,
}

/// What passed.
#[derive(Clone, Debug)]
pub enum What {
    /// The channel was opened.
    Opened {
        /// For what.
        purpose: Purpose,
        /// What goes through it, for as long as it is open.
        counts: Arc<Counts>,
    },
    /// Bytes.
    Data {
        /// Which way.
        flow: Flow,
        /// What.
        bytes: Bytes,
    },
    /// The terminal has another size.
    Resized {
        /// Columns of characters.
        columns: u32,
        /// Rows of characters.
        rows: u32,
    },
    /// The program ended: `0`, or `signal TERM`.
    Exited {
        /// How.
        status: String,
    },
    /// The channel was closed.
    Closed,
}

/// What a recording is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The session.
    pub session: SessionId,
    /// Whose.
    pub principal: PrincipalName,
    /// Where to.
    pub target: TargetName,
    /// As whom there.
    pub login: Option<Login>,
    /// When the recording began, by the store's clock.
    pub began: Time,
    /// By which rule.
    pub rule: Rule,
}

/// A recording that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// What it is of.
    pub head: Head,
    /// SHA-256 of it, 64 hex digits.
    pub digest: String,
    /// Its size.
    pub bytes: u64,
    /// From its beginning to its last event.
    pub lasted: Duration,
    /// What was done, in order of time.
    pub acts: Vec<Act>,
}

words!(
    /// What kind of act.
    ActKind {
        /// A line that a shell was given.
        Command = "command",
        /// A command that was run without a shell's prompt.
        Exec = "exec",
        /// Something was done to a file.
        File = "file",
        /// A connection went through the session.
        Forward = "forward",
        /// What a screen showed, some lines of it.
        Screen = "screen",
    }
);

words!(
    /// How it is known.
    Source {
        /// It was said so by whoever did it.
        Told = "told",
        /// The shell marked it.
        Marks = "marks",
        /// It stood behind what looks like a prompt.
        Prompt = "prompt",
        /// It was shown.
        Shown = "shown",
    }
);

/// Something that was done in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// When, since the recording began.
    pub at: Duration,
    /// What kind.
    pub kind: ActKind,
    /// How it is known.
    pub source: Source,
    /// In words that can be searched: the command, the path, the destination. At most [`Act::TEXT_CHARS_MAX`]
    /// characters; untrusted.
    pub text: String,
    /// Facts: `exit_status`, `direction`, `bytes`, `sha256`, `outcome` and their like.
    pub facts: BTreeMap<String, String>,
}

impl Act {
    /// Longest text that is kept.
    pub const TEXT_CHARS_MAX: usize = 4_000;
    /// Acts of one session that are kept.
    pub const PER_SESSION_MAX: usize = 20_000;
}

/// An act that was found, with where it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// In which session.
    pub session: SessionId,
    /// Whose.
    pub principal: PrincipalName,
    /// To where.
    pub target: TargetName,
    /// When.
    pub at: Time,
    /// What.
    pub act: Act,
}

/// A search in what was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Search {
    /// Words, all of which must be there; the last letters of a word may be left out with `*`.
    pub text: String,
    /// In sessions of this principal only.
    pub principal: Option<PrincipalName>,
    /// In sessions to the target of this name only.
    pub target: Option<TargetName>,
    /// At this time or later.
    pub from: Option<Time>,
    /// Before this time.
    pub before: Option<Time>,
    /// At most this many, newest first; 1 to [`Search::LIMIT_MAX`].
    pub limit: u32,
}

impl Search {
    /// Most that one answer holds.
    pub const LIMIT_MAX: u32 = 1_000;
}

words!(
    /// In which form a recording is read.
    Form {
        /// asciicast version 2: lines of JSON.
        Cast = "cast",
        /// asciicast version 3.
        Cast3 = "cast3",
        /// What the terminal showed, as plain text.
        Text = "text",
        /// A page that plays it, without anything from elsewhere.
        Html = "html",
        /// Each line that was shown, without what moves a cursor, as a line of JSON: its time in milliseconds since 1970,
        /// and its text.
        Lines = "lines",
        /// Every event of every channel, as lines of JSON.
        Events = "events",
    }
);

/// Which part of a recording, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// In which form.
    pub form: Form,
    /// From this moment on; the screen of the moment comes first.
    pub from: Duration,
    /// Of this channel; of the first that has a terminal unless given.
    pub channel: Option<u32>,
    /// Whether to go on with what comes, until the session is over. For [`Form::Cast`] and
    /// [`Form::Lines`] only.
    pub follow: bool,
}

/// A recorder could not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// For the log.
    pub because: String,
}

impl Broken {
    /// With this text.
    pub fn new(because: impl fmt::Display) -> Self {
        Self { because: because.to_string() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.because)
    }
}

impl std::error::Error for Broken {}

words!(
    /// What kind of place takes the output of sessions.
    LogKind {
        /// A place for objects, one for each session.
        Object = "object",
        /// A place for lines, in a stream for each session.
        Stream = "stream",
    }
);

/// Where the output of one session is put once it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// What kind of place.
    pub kind: LogKind,
    /// What it is called in the configuration: a bucket, a group.
    pub holder: String,
    /// What stands before the session's id in the name there; may be empty.
    pub prefix: String,
    /// What stands before the name in the URL by which people find it.
    pub url: String,
    /// Whether each line is put there as it comes, with its time, and not all of them once the session is over.
    pub streams: bool,
}

/// How far a place is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogsBehind {
    /// Its kind.
    pub kind: LogKind,
    /// Its name in the configuration.
    pub holder: String,
    /// Sessions that are over and whose output it does not have.
    pub sessions: u64,
    /// When the first of them ended.
    pub oldest: Time,
}

impl LogPlace {
    /// The name of a session's output there.
    #[must_use]
    pub fn name(&self, session: &SessionId) -> String {
        match (self.kind, self.prefix.is_empty()) {
            (LogKind::Object, true) => format!("{session}.log"),
            (LogKind::Object, false) => format!("{}/{session}.log", self.prefix),
            (LogKind::Stream, true) => session.to_string(),
            (LogKind::Stream, false) => format!("{}/{session}", self.prefix),
        }
    }
}

/// Where a recording lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// In which place elsewhere; `None` while it lies with the node that made it.
    pub place: Option<String>,
    /// To where it is moved once it is whole, if to anywhere.
    pub awaits: Option<String>,
    /// Why that has not worked so far, if it was tried.
    pub because: Option<String>,
}

/// What the archive knows of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Of which session.
    pub session: SessionId,
    /// Its size in bytes; 0 while it is made.
    pub bytes: u64,
    /// From its beginning to its last event.
    pub lasted: Duration,
    /// When it may be removed; while it is made, when its session began.
    pub keep_until: Time,
    /// Why it may not be removed whatever the time, if somebody said so.
    pub hold: Option<String>,
    /// Whether it was removed, or is being removed.
    pub removed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_copy_is_told_from_another_command() {
        for yes in ["scp -t /tmp/x", "scp -r -p -f .", "/usr/bin/scp -qt --  x", "scp -prt d"] {
            assert!(is_copy(yes), "{yes}");
        }
        for no in ["scp", "scp a b", "rsync -t x", "echo scp -t", ""] {
            assert!(!is_copy(no), "{no}");
        }
    }

    #[test]
    fn bytes_are_looked_at_only_where_the_rule_asks_for_it() {
        let terminal = Some(Terminal { name: "xterm".to_owned(), columns: 80, rows: 24 });
        let full = Rule { mode: Mode::Full, ..Rule::default() };
        let metadata = Rule { mode: Mode::Metadata, ..Rule::default() };
        let shell = Purpose::Shell { terminal: terminal.clone() };
        assert!(shell.needs_bytes(&full) && !shell.needs_bytes(&metadata));
        assert!(!Purpose::Shell { terminal: None }.needs_bytes(&full));
        let exec = |terminal| Purpose::Exec { command: "rsync --server".to_owned(), terminal };
        assert!(exec(terminal).needs_bytes(&full) && !exec(None).needs_bytes(&full));
        assert!(Purpose::Files.needs_bytes(&metadata));
        let logged = Rule { output: true, ..full.clone() };
        assert!(exec(None).needs_bytes(&logged) && Purpose::Shell { terminal: None }.needs_bytes(&logged));
        assert!(!Purpose::Forward { inward: false, to: "db:5432".to_owned() }.needs_bytes(&full));
    }
}
