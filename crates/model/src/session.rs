//! When does a session end, and who is told?
//!
//! This file answers. A [`Session`] is one client's connection to one target through one protocol. It moves only
//! along [`State::may_become`]:
//!
//! ```text
//! connecting ──► connected ◄──► disconnected        any live state ──► terminating ──► terminated
//!      └───────► failed                             (terminated and failed are final)
//! ```
//!
//! What can end it is the closed list [`EndReason`]; an [`Ending`] joins the reason with the [`Actor`] and a detail and
//! is set before the session may leave the live states, so that no ended session is without one.
//!
//! Who is told is the list of [`Effect`]s that [`Session::apply`] returns with the new state:
//!
//! | when | legs | person at the keyboard | audit record | whoever asked for the end |
//! |---|---|---|---|---|
//! | it is asked to end | both are closed | [`Ending::message`] | `session_ending` | – |
//! | both sockets are closed | – | – | `session_ended` | the time of it |
//! | it never got to the target | client's is closed | [`Ending::message`] | `session_failed` | – |
//! | its node died | gone with the node | nobody can | `session_ended`, at the last known activity | – |
//!
//! The store applies the same function inside its transaction, so a row obeys the same table.
//! A session is ended at the moment when both sockets were closed, however long the store could not be told: see [`Aged`].
//! The one exception to "a live session ends by being asked first" is a node's death: nobody is left to ask.

use crate::audit::AuditKind;
use crate::id::{GroupName, Login, NodeId, PrincipalName, SessionId, TargetName};
use crate::principal::AuthMethod;
use crate::recording::{LogPlace, Mode};
use crate::refusal::Refusal;
use crate::target::{Protocol, TargetSnapshot};
use crate::text::printable;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of the documents.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The word used in rows, logs and answers.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }

            /// The value that `word` names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|v| v.word() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.word()) }
        }
    };
}

pub(crate) use words;

words!(
    /// Where a session is in its life.
    State {
        /// Admitted; the target is not reached yet.
        Connecting = "connecting",
        /// Both legs are up.
        Connected = "connected",
        /// The client's leg is lost and may come back.
        Disconnected = "disconnected",
        /// Asked to end; at least one socket may still be open.
        Terminating = "terminating",
        /// Ended. Final.
        Terminated = "terminated",
        /// Never reached the target. Final.
        Failed = "failed",
    }
);

impl State {
    /// The transition table. Nothing else in the system decides this.
    #[must_use]
    pub fn may_become(self, next: State) -> bool {
        use State::{Connected, Connecting, Disconnected, Failed, Terminated, Terminating};
        matches!(
            (self, next),
            (Connecting, Connected | Failed | Terminating)
                | (Connected, Disconnected | Terminating)
                | (Disconnected, Connected | Terminating)
                | (Terminating, Terminated)
        )
    }

    /// Whether a session in this state counts as active.
    #[must_use]
    pub fn is_live(self) -> bool {
        !self.is_final()
    }

    /// Whether nothing can follow.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, State::Terminated | State::Failed)
    }
}

words!(
    /// What the client does with the target.
    Kind {
        /// An interactive shell.
        Shell = "shell",
        /// One command.
        Exec = "exec",
        /// File transfer.
        Sftp = "sftp",
        /// Forwarded bytes; also a connection on which nothing else was opened yet.
        Tunnel = "tunnel",
    }
);

words!(
    /// Why a session ended. Closed list; each value is in the history, the audit record and the message to the person.
    EndReason {
        /// The client closed its connection.
        ClientClosed = "client_closed",
        /// The target closed its connection.
        TargetClosed = "target_closed",
        /// Somebody with the right to do so ended it.
        DisconnectedByOperator = "disconnected_by_operator",
        /// Nothing was sent either way for longer than allowed.
        IdleLimit = "idle_limit",
        /// It lasted longer than allowed.
        DurationLimit = "duration_limit",
        /// The principal's rights to it went away.
        RightsRevoked = "rights_revoked",
        /// The node was stopped in an orderly way.
        NodeStopped = "node_stopped",
        /// The node died or lost its lease.
        NodeLost = "node_lost",
        /// The target could not be reached, or is not the machine that it should be.
        TargetUnreachable = "target_unreachable",
        /// The target refused Ravelin's login.
        AuthFailed = "auth_failed",
        /// The target's or our policy refused it after it was admitted.
        Denied = "denied",
        /// A recording that must be made could not be made.
        RecordingFailed = "recording_failed",
        /// A peer broke its protocol.
        ProtocolError = "protocol_error",
        /// Our own fault.
        InternalError = "internal_error",
    }
);

words!(
    /// How far a session's recording is.
    Recording {
        /// None is made.
        None = "none",
        /// It is being made.
        Live = "live",
        /// It is whole.
        Complete = "complete",
        /// It could not be made or finished.
        Failed = "failed",
    }
);

/// Who made something happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// A person or service.
    Principal(PrincipalName),
    /// The far end of a session.
    Target(TargetName),
    /// Ravelin itself.
    System,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Principal(name) => write!(f, "{name}"),
            Actor::Target(name) => write!(f, "target:{name}"),
            Actor::System => f.write_str("system"),
        }
    }
}

impl Actor {
    /// The actor that its `Display` form names. `system` is the system; a principal cannot bear that name.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        if text == "system" {
            return Some(Actor::System);
        }
        match text.strip_prefix("target:") {
            Some(name) => TargetName::parse(name).ok().map(Actor::Target),
            None => PrincipalName::parse(text).ok().map(Actor::Principal),
        }
    }
}

/// The cause of an end: why, by whom, and in what words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// From the closed list.
    pub reason: EndReason,
    /// Who caused it.
    pub actor: Actor,
    /// What the actor said, or what exactly happened. Public; at most [`Ending::DETAIL_CHARS_MAX`] characters, without
    /// control characters.
    pub detail: String,
}

impl Ending {
    /// Longest detail that is kept.
    pub const DETAIL_CHARS_MAX: usize = 400;

    /// An ending whose detail is cleaned of what deceives a reader and held to its length.
    #[must_use]
    pub fn new(reason: EndReason, actor: Actor, detail: &str) -> Self {
        let detail = printable(detail, Self::DETAIL_CHARS_MAX);
        Self { reason, actor, detail }
    }

    /// What the person at the keyboard reads, without line end: `disconnected by alice: rotating keys`.
    #[must_use]
    pub fn message(&self) -> String {
        let what = match self.reason {
            EndReason::ClientClosed => "closed by the client".to_owned(),
            EndReason::TargetClosed => "closed by the target".to_owned(),
            EndReason::DisconnectedByOperator => format!("disconnected by {}", self.actor),
            EndReason::IdleLimit => "disconnected: idle limit reached".to_owned(),
            EndReason::DurationLimit => "disconnected: duration limit reached".to_owned(),
            EndReason::RightsRevoked => "disconnected: the right to this session was revoked".to_owned(),
            EndReason::NodeStopped => "disconnected: the bastion is stopping".to_owned(),
            EndReason::NodeLost => "disconnected: the bastion was lost".to_owned(),
            EndReason::TargetUnreachable => "cannot reach the target".to_owned(),
            EndReason::AuthFailed => "the target refused the login".to_owned(),
            EndReason::Denied => "denied".to_owned(),
            EndReason::RecordingFailed => "disconnected: the recording failed".to_owned(),
            EndReason::ProtocolError => "disconnected: protocol error".to_owned(),
            EndReason::InternalError => "disconnected: internal error".to_owned(),
        };
        if self.detail.is_empty() { what } else { format!("{what}: {}", self.detail) }
    }
}

/// Bytes and the last sign of life, as of the last flush; exact once the session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Activity {
    /// When bytes last went either way; the creation time when none did.
    pub last: Time,
    /// From the client to the target.
    pub bytes_in: u64,
    /// From the target to the client.
    pub bytes_out: u64,
}

impl Activity {
    /// Both of two readings; counts and times never go back.
    #[must_use]
    pub fn later_of(self, other: Activity) -> Activity {
        Activity {
            last: self.last.max(other.last),
            bytes_in: self.bytes_in.max(other.bytes_in),
            bytes_out: self.bytes_out.max(other.bytes_out),
        }
    }
}

/// The facts that are fixed when a session is admitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The session's id.
    pub id: SessionId,
    /// Who.
    pub principal: PrincipalName,
    /// Their groups at the start.
    pub groups: BTreeSet<GroupName>,
    /// How they proved it.
    pub auth: AuthMethod,
    /// From where.
    pub client_address: SocketAddr,
    /// With what, as the client names itself; may be empty.
    pub client_software: String,
    /// To what.
    pub target: TargetSnapshot,
    /// As whom on the target; `None` for a tunnel, where Ravelin does not log in.
    pub login: Option<Login>,
    /// Over what.
    pub protocol: Protocol,
    /// For what, as far as known.
    pub kind: Kind,
    /// Name of the document that steers the session, where there is one.
    pub document: Option<String>,
    /// What the person gave as reason for connecting.
    pub reason: Option<String>,
    /// The longest that this session may last, where it is bound more tightly than every other.
    pub duration_max: Option<Duration>,
    /// How much of it the target's rule wanted recorded; `None` when a release admitted it that did not note this.
    pub recording_rule: Option<Mode>,
    /// Where its output is put once it is over, as its document has it.
    pub logs: Vec<LogPlace>,
    /// The owning process.
    pub node: NodeId,
    /// The owning process's start count.
    pub epoch: u64,
    /// Free key/value pairs.
    pub tags: BTreeMap<String, String>,
}

/// Where a session is, with exactly what is known then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// See [`State::Connecting`].
    Connecting,
    /// See [`State::Connected`].
    Connected {
        /// When the target was first reached.
        connected: Time,
    },
    /// See [`State::Disconnected`].
    Disconnected {
        /// When the target was first reached.
        connected: Time,
        /// When the client's leg was lost.
        since: Time,
    },
    /// See [`State::Terminating`].
    Terminating {
        /// When the target was first reached, if it was.
        connected: Option<Time>,
        /// Why it is ending.
        ending: Ending,
        /// When it was asked to.
        since: Time,
    },
    /// See [`State::Terminated`].
    Terminated {
        /// When the target was first reached, if it was.
        connected: Option<Time>,
        /// Why it ended.
        ending: Ending,
        /// When both sockets were closed.
        ended: Time,
    },
    /// See [`State::Failed`].
    Failed {
        /// Why it never got there.
        ending: Ending,
        /// When that was clear.
        ended: Time,
    },
}

/// One client's connection to one target through one protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// What was fixed at the start. Only `kind` changes, once, see [`Event::Classified`].
    pub draft: Draft,
    /// When it was admitted.
    pub created: Time,
    /// Bytes and last sign of life.
    pub activity: Activity,
    /// How far its recording is.
    pub recording: Recording,
    /// SHA-256 of the whole recording, 64 hex digits; there if and only if `recording` is [`Recording::Complete`].
    pub recording_digest: Option<String>,
    /// Where it is.
    pub phase: Phase,
}

/// What can happen to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The target is reached and logged in to.
    Connected,
    /// What the client does is known now.
    Classified {
        /// What it does.
        kind: Kind,
    },
    /// The client's leg was lost and may come back.
    Disconnected,
    /// The client came back.
    Resumed,
    /// The target was never reached.
    Failed {
        /// Why.
        ending: Ending,
    },
    /// It shall end. Asking again changes nothing.
    End {
        /// Why.
        ending: Ending,
    },
    /// Both sockets are closed.
    Closed {
        /// The exact counts.
        activity: Activity,
    },
    /// Its recording was begun.
    RecordingBegan,
    /// Its recording is whole, which may be known after the session's own end.
    RecordingKept {
        /// SHA-256 of it, 64 hex digits.
        digest: String,
    },
    /// Its recording could not be made or finished.
    RecordingBroke,
    /// The node that owned it is gone. Ends any live session at its last known activity; a session that had been asked
    /// to end keeps that reason.
    NodeLost,
}

/// An event and how long ago it happened, for whoever could not tell the store at once.
///
/// An age, and not a time, because the store's clock is the only clock: the event is dated by what that clock shows when
/// it is written, less the age. So a clock that was set meanwhile moves the event along with everything else that is
/// written now, and [`Session::apply`] keeps it behind the session's earlier moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aged {
    /// What happened.
    pub event: Event,
    /// How long before the store is called, by a clock that nobody can set. Zero means: it happens with the write.
    pub age: Duration,
}

impl Aged {
    /// The event, `age` ago.
    #[must_use]
    pub fn new(event: Event, age: Duration) -> Self {
        Self { event, age }
    }

    /// When it happened, for a store whose clock shows `now` and which let the call wait for `waited`.
    #[must_use]
    pub fn at(&self, now: Time, waited: Duration) -> Time {
        if self.age.is_zero() { now } else { now.minus(self.age.saturating_add(waited)) }
    }
}

impl From<Event> for Aged {
    fn from(event: Event) -> Self {
        Self { event, age: Duration::ZERO }
    }
}

/// Who has to be told of a change, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this into the audit record, in the same transaction as the state.
    Audit(AuditKind),
    /// Show this to the person at the keyboard.
    TellPerson(String),
    /// Close both sockets.
    CloseLegs,
    /// Whoever waits for the end learns that it is complete.
    Confirm,
}

impl Session {
    /// A session that was just admitted, and who is told.
    #[must_use]
    pub fn open(draft: Draft, now: Time) -> (Session, Vec<Effect>) {
        let activity = Activity { last: now, ..Activity::default() };
        let session = Session {
            draft,
            created: now,
            activity,
            recording: Recording::None,
            recording_digest: None,
            phase: Phase::Connecting,
        };
        (session, vec![Effect::Audit(AuditKind::SessionOpened)])
    }

    /// The id.
    #[must_use]
    pub fn id(&self) -> &SessionId {
        &self.draft.id
    }

    /// The state that the phase stands for.
    #[must_use]
    pub fn state(&self) -> State {
        match self.phase {
            Phase::Connecting => State::Connecting,
            Phase::Connected { .. } => State::Connected,
            Phase::Disconnected { .. } => State::Disconnected,
            Phase::Terminating { .. } => State::Terminating,
            Phase::Terminated { .. } => State::Terminated,
            Phase::Failed { .. } => State::Failed,
        }
    }

    /// When the target was first reached, if it was.
    #[must_use]
    pub fn connected(&self) -> Option<Time> {
        match self.phase {
            Phase::Connecting | Phase::Failed { .. } => None,
            Phase::Connected { connected } | Phase::Disconnected { connected, .. } => Some(connected),
            Phase::Terminating { connected, .. } | Phase::Terminated { connected, .. } => connected,
        }
    }

    /// When it ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<Time> {
        match self.phase {
            Phase::Terminated { ended, .. } | Phase::Failed { ended, .. } => Some(ended),
            Phase::Connecting | Phase::Connected { .. } | Phase::Disconnected { .. } | Phase::Terminating { .. } => {
                None
            }
        }
    }

    /// Why it is ending or ended.
    #[must_use]
    pub fn ending(&self) -> Option<&Ending> {
        match &self.phase {
            Phase::Terminating { ending, .. } | Phase::Terminated { ending, .. } | Phase::Failed { ending, .. } => {
                Some(ending)
            }
            Phase::Connecting | Phase::Connected { .. } | Phase::Disconnected { .. } => None,
        }
    }

    /// The session after `event`, and who is told, in order.
    ///
    /// Events that change nothing (the same end asked for twice, a kind that is already known) return the session as it
    /// was and no effect, so that every caller may retry.
    ///
    /// `now` is when it happened. It may lie before the session's own times, when a clock was set back or an age was too
    /// great; the session's times never run backwards.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when the table has no such move; the session is unchanged.
    pub fn apply(&self, event: &Event, now: Time) -> Result<(Session, Vec<Effect>), Refusal> {
        // INVARIANT: created <= connected <= since <= ended, whatever the clock does.
        let now = now.max(self.latest_move());
        let mut next = self.clone();
        let effects = match event {
            Event::Connected => {
                let Phase::Connecting = self.phase else { return Err(self.no_such_move("connect")) };
                next.move_to(Phase::Connected { connected: now });
                vec![Effect::Audit(AuditKind::SessionConnected)]
            }
            Event::Classified { kind } => {
                if self.state().is_final() {
                    return Err(self.no_such_move("change kind"));
                }
                // INVARIANT: a tunnel may turn out to be more, never the other way round, and only once.
                if self.draft.kind != Kind::Tunnel || *kind == Kind::Tunnel {
                    Vec::new()
                } else {
                    next.draft.kind = *kind;
                    vec![Effect::Audit(AuditKind::SessionClassified)]
                }
            }
            Event::Disconnected => {
                let Phase::Connected { connected } = self.phase else { return Err(self.no_such_move("disconnect")) };
                next.move_to(Phase::Disconnected { connected, since: now });
                vec![Effect::Audit(AuditKind::SessionDisconnected)]
            }
            Event::Resumed => {
                let Phase::Disconnected { connected, .. } = self.phase else {
                    return Err(self.no_such_move("resume"));
                };
                next.move_to(Phase::Connected { connected });
                vec![Effect::Audit(AuditKind::SessionResumed)]
            }
            Event::Failed { ending } => match self.phase {
                Phase::Connecting => {
                    next.move_to(Phase::Failed { ending: ending.clone(), ended: now });
                    vec![
                        Effect::Audit(AuditKind::SessionFailed),
                        Effect::TellPerson(ending.message()),
                        Effect::CloseLegs,
                        Effect::Confirm,
                    ]
                }
                // A failure that comes after an end was asked for: the end stands, and its sockets never opened.
                Phase::Terminating { .. } => next.close(self.activity, now),
                Phase::Connected { .. }
                | Phase::Disconnected { .. }
                | Phase::Terminated { .. }
                | Phase::Failed { .. } => return Err(self.no_such_move("fail")),
            },
            Event::End { ending } => match &self.phase {
                Phase::Connecting | Phase::Connected { .. } | Phase::Disconnected { .. } => {
                    let connected = self.connected();
                    next.move_to(Phase::Terminating { connected, ending: ending.clone(), since: now });
                    vec![
                        Effect::Audit(AuditKind::SessionEnding),
                        Effect::TellPerson(ending.message()),
                        Effect::CloseLegs,
                    ]
                }
                Phase::Terminating { .. } => Vec::new(),
                Phase::Terminated { .. } | Phase::Failed { .. } => return Err(self.no_such_move("end")),
            },
            Event::Closed { activity } => {
                let Phase::Terminating { .. } = self.phase else { return Err(self.no_such_move("close")) };
                next.close(*activity, now)
            }
            // A recording has a life of its own: its end may be known after the session's, and changes nothing of it.
            Event::RecordingBegan => match self.recording {
                Recording::None => next.set_recording(Recording::Live, None, AuditKind::RecordingBegan),
                Recording::Live | Recording::Complete | Recording::Failed => Vec::new(),
            },
            Event::RecordingKept { digest } => match self.recording {
                Recording::Live => {
                    next.set_recording(Recording::Complete, Some(digest.clone()), AuditKind::RecordingKept)
                }
                // INVARIANT: what failed once has a gap for ever, and what is whole stays as it is.
                Recording::Complete | Recording::Failed => Vec::new(),
                Recording::None => return Err(self.no_such_move("keep a recording that was not begun")),
            },
            Event::RecordingBroke => match self.recording {
                Recording::None | Recording::Live => {
                    next.set_recording(Recording::Failed, None, AuditKind::RecordingBroke)
                }
                Recording::Complete | Recording::Failed => Vec::new(),
            },
            Event::NodeLost => {
                let ending = match &self.phase {
                    Phase::Connecting | Phase::Connected { .. } | Phase::Disconnected { .. } => {
                        Ending::new(EndReason::NodeLost, Actor::System, "")
                    }
                    Phase::Terminating { ending, .. } => ending.clone(),
                    Phase::Terminated { .. } | Phase::Failed { .. } => return Err(self.no_such_move("lose its node")),
                };
                let ended = self.activity.last.max(self.latest_move());
                let connected = self.connected();
                if !matches!(self.phase, Phase::Terminating { .. }) {
                    next.move_to(Phase::Terminating { connected, ending: ending.clone(), since: ended });
                }
                next.move_to(Phase::Terminated { connected, ending, ended });
                vec![Effect::Audit(AuditKind::SessionEnded), Effect::Confirm]
            }
        };
        Ok((next, effects))
    }

    fn set_recording(&mut self, state: Recording, digest: Option<String>, kind: AuditKind) -> Vec<Effect> {
        self.recording = state;
        self.recording_digest = digest;
        vec![Effect::Audit(kind)]
    }

    /// When its phase last changed, as far as the phase remembers.
    fn latest_move(&self) -> Time {
        match self.phase {
            Phase::Connecting => self.created,
            Phase::Connected { connected } => connected,
            Phase::Disconnected { since, .. } | Phase::Terminating { since, .. } => since,
            Phase::Terminated { ended, .. } | Phase::Failed { ended, .. } => ended,
        }
    }

    fn close(&mut self, activity: Activity, now: Time) -> Vec<Effect> {
        let Phase::Terminating { connected, ending, .. } = self.phase.clone() else {
            unreachable!("close is called in the phase terminating only, by both of its callers");
        };
        self.activity = self.activity.later_of(activity);
        // INVARIANT: no byte flows after the end.
        let ended = now.max(self.activity.last);
        self.move_to(Phase::Terminated { connected, ending, ended });
        vec![Effect::Audit(AuditKind::SessionEnded), Effect::Confirm]
    }

    fn move_to(&mut self, phase: Phase) {
        let before = self.state();
        self.phase = phase;
        // INVARIANT: every change of phase obeys the one table.
        assert!(before.may_become(self.state()), "{before} must not become {}", self.state());
    }

    fn no_such_move(&self, verb: &str) -> Refusal {
        Refusal::Conflict { because: format!("session {} is {} and cannot {verb}", self.id(), self.state()) }
    }
}
