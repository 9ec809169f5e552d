//! What happened, for the record: one event for each change of state and each deed.
//!
//! An event is written in the same transaction as the change that it tells of, numbered without gaps. Logs may be
//! lost; these may not.

use crate::id::SessionId;
use crate::session::{Actor, Phase, Recording, Session};
use crate::time::Time;
use std::collections::BTreeMap;
use std::fmt;

macro_rules! audit_kinds {
    ($($(#[$doc:meta])* $variant:ident = $word:literal,)+) => {
        /// What kind of event it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AuditKind { $($(#[$doc])* $variant,)+ }

        impl AuditKind {
            /// All kinds.
            pub const ALL: &'static [AuditKind] = &[$(AuditKind::$variant,)+];

            /// The word used in rows, logs and answers.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(AuditKind::$variant => $word,)+ }
            }

            /// The kind that `word` names.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|k| k.word() == word)
            }
        }
    };
}

audit_kinds!(
    /// A session was admitted.
    SessionOpened = "session_opened",
    /// A session reached its target.
    SessionConnected = "session_connected",
    /// It became known what a session does.
    SessionClassified = "session_classified",
    /// A session lost its client's leg.
    SessionDisconnected = "session_disconnected",
    /// A session's client came back.
    SessionResumed = "session_resumed",
    /// A session was asked to end.
    SessionEnding = "session_ending",
    /// Both sockets of a session are closed.
    SessionEnded = "session_ended",
    /// A session never reached its target.
    SessionFailed = "session_failed",
    /// The recording of a session was begun.
    RecordingBegan = "recording_began",
    /// The recording of a session is whole; its digest is in the facts.
    RecordingKept = "recording_kept",
    /// The recording of a session could not be made or finished.
    RecordingBroke = "recording_broke",
    /// Somebody played a recording.
    RecordingPlayed = "recording_played",
    /// Somebody took a recording away.
    RecordingExported = "recording_exported",
    /// Somebody looked up what was done in a session.
    RecordingRead = "recording_read",
    /// Somebody searched in recordings.
    RecordingsSearched = "recordings_searched",
    /// Somebody began to watch a live session.
    SessionWatched = "session_watched",
    /// Somebody forbade that a recording be removed.
    RecordingHeld = "recording_held",
    /// Somebody gave a recording free again.
    RecordingReleased = "recording_released",
    /// A recording was removed because its time was over.
    RecordingRemoved = "recording_removed",
    /// Somebody proved who they are.
    LoginAccepted = "login_accepted",
    /// A proof was wrong.
    LoginRefused = "login_refused",
    /// A known principal asked for what they may not do.
    AccessDenied = "access_denied",
    /// A credential was issued.
    CredentialIssued = "credential_issued",
    /// A credential was revoked.
    CredentialRevoked = "credential_revoked",
    /// A document that steers sessions was written, changed or removed.
    DocumentChanged = "document_changed",
    /// A setting of the deployment was changed.
    SettingChanged = "setting_changed",
    /// A link to a target was given out.
    LinkCreated = "link_created",
    /// A link to a target was taken back.
    LinkDeleted = "link_deleted",
    /// What the bastion says of itself was changed.
    BastionChanged = "bastion_changed",
    /// The inventory or the policies were read anew.
    InventoryLoaded = "inventory_loaded",
    /// A change of the inventory or the policies was refused; what was in force stays in force.
    InventoryRefused = "inventory_refused",
    /// Somebody took a copy of the record.
    RecordExported = "record_exported",
    /// The record's chain was signed up to here.
    LedgerCheckpoint = "ledger_checkpoint",
    /// A sink began to be fed from the record.
    SinkAdded = "sink_added",
    /// A sink is no longer fed from the record.
    SinkRemoved = "sink_removed",
    /// A node started.
    NodeStarted = "node_started",
    /// A node stopped in an orderly way.
    NodeStopped = "node_stopped",
);

impl fmt::Display for AuditKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Something done that is not a change of a session's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deed {
    /// What kind.
    pub kind: AuditKind,
    /// By whom.
    pub actor: Actor,
    /// On which session, if on one.
    pub session: Option<SessionId>,
    /// Facts, never secrets.
    pub facts: BTreeMap<String, String>,
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Position in the record, from 1, without gaps.
    pub seq: u64,
    /// When, by the store's clock.
    pub at: Time,
    /// What was done.
    pub deed: Deed,
}

/// The fact that a label of a session's target is.
#[must_use]
pub fn label_fact(name: &str) -> String {
    format!("label_{name}")
}

/// The fact that a session's tag is.
#[must_use]
pub fn tag_fact(name: &str) -> String {
    format!("tag_{name}")
}

/// The facts that an event on a session carries.
#[must_use]
pub fn session_facts(session: &Session) -> BTreeMap<String, String> {
    let draft = &session.draft;
    let mut facts = BTreeMap::from([
        ("state".to_owned(), session.state().word().to_owned()),
        ("principal".to_owned(), draft.principal.to_string()),
        ("target".to_owned(), draft.target.name.to_string()),
        ("kind".to_owned(), draft.kind.word().to_owned()),
        ("protocol".to_owned(), draft.protocol.word().to_owned()),
        ("client_address".to_owned(), draft.client_address.to_string()),
        ("client_software".to_owned(), draft.client_software.clone()),
        ("auth".to_owned(), draft.auth.word().to_owned()),
        ("target_id".to_owned(), draft.target.id.to_string()),
        ("target_address".to_owned(), draft.target.address.clone()),
        ("target_port".to_owned(), draft.target.port.to_string()),
        ("created_micros".to_owned(), session.created.as_micros().to_string()),
        ("node".to_owned(), draft.node.to_string()),
    ]);
    // Its names in other dialects, for sinks that speak one.
    for (dialect, id) in &draft.target.aliases {
        facts.insert(format!("target_{dialect}"), id.clone());
    }
    for (name, value) in &draft.target.labels {
        facts.insert(label_fact(name), value.clone());
    }
    for (name, value) in &draft.tags {
        facts.insert(tag_fact(name), value.clone());
    }
    if let Some(connected) = session.connected() {
        facts.insert("connected_micros".to_owned(), connected.as_micros().to_string());
    }
    if let Some(document) = &draft.document {
        facts.insert("document".to_owned(), document.clone());
    }
    if let Some(reason) = &draft.reason {
        facts.insert("reason".to_owned(), reason.clone());
    }
    if let Some(login) = &draft.login {
        facts.insert("login".to_owned(), login.to_string());
    }
    if let Some(ending) = session.ending() {
        facts.insert("end_reason".to_owned(), ending.reason.word().to_owned());
        facts.insert("detail".to_owned(), ending.detail.clone());
    }
    if let Phase::Terminating { since, .. } = &session.phase {
        // The event itself bears the time of its writing, which comes after the sockets are closed.
        facts.insert("asked_micros".to_owned(), since.as_micros().to_string());
    }
    if let Some(rule) = draft.recording_rule {
        facts.insert("recording_rule".to_owned(), rule.word().to_owned());
    }
    if !draft.logs.is_empty() {
        let places = draft.logs.iter().map(|place| format!("{}/{}", place.holder, place.name(&draft.id)));
        facts.insert("logs".to_owned(), places.collect::<Vec<_>>().join(" "));
    }
    if session.recording != Recording::None {
        facts.insert("recording".to_owned(), session.recording.word().to_owned());
    }
    if let Some(digest) = &session.recording_digest {
        facts.insert("recording_digest".to_owned(), digest.clone());
    }
    if let Some(ended) = session.ended() {
        // The event itself bears the time of its writing, which may come later.
        facts.insert("ended_micros".to_owned(), ended.as_micros().to_string());
        facts.insert("bytes_in".to_owned(), session.activity.bytes_in.to_string());
        facts.insert("bytes_out".to_owned(), session.activity.bytes_out.to_string());
    }
    facts
}

/// Who stands as actor in the record of a session's change.
#[must_use]
pub fn session_actor(session: &Session) -> Actor {
    match session.ending() {
        Some(ending) => ending.actor.clone(),
        None => Actor::Principal(session.draft.principal.clone()),
    }
}
