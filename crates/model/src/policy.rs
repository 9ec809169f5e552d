//! Who may do what: the questions. The answers come from a backing behind [`crate::ports::Policy`].
//!
//! Deny by default: what no policy permits is denied, and an action that is not in [`Action`] cannot be asked for.

use crate::id::{PrincipalName, SessionId};
use crate::principal::Principal;
use crate::session::Session;
use crate::target::{Target, TargetSnapshot};
use std::fmt;
use std::net::IpAddr;

/// What an action is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum On {
    /// A target.
    Target,
    /// One session.
    Session,
    /// A whole list: everybody's or one's own.
    Scope,
    /// The bastion itself.
    Bastion,
}

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $on:ident, $connects:literal, $words:literal;)+) => {
        /// Everything that can be asked for, at any door.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Action { $($(#[$doc])* $variant,)+ }

        impl Action {
            /// All actions.
            pub const ALL: &'static [Action] = &[$(Action::$variant,)+];

            /// The word that policies use.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Action::$variant => $word,)+ }
            }

            /// What it is done to.
            #[must_use]
            pub fn on(self) -> On {
                match self { $(Action::$variant => On::$on,)+ }
            }

            /// Whether it is one of the ways to connect to a target: policies call all of them `connect`.
            #[must_use]
            pub fn is_connect(self) -> bool {
                match self { $(Action::$variant => $connects,)+ }
            }

            /// For a sentence: "not allowed to open a shell".
            #[must_use]
            pub fn words(self) -> &'static str {
                match self { $(Action::$variant => $words,)+ }
            }
        }
    };
}

actions!(
    /// Open an interactive shell.
    OpenShell = "open_shell", Target, true, "open a shell";
    /// Run a command.
    OpenExec = "open_exec", Target, true, "run a command";
    /// Transfer files.
    OpenSftp = "open_sftp", Target, true, "transfer files";
    /// Reach the target's own port end to end, without login by Ravelin.
    OpenTunnel = "open_tunnel", Target, true, "open a tunnel";
    /// Have the target connect somewhere for the client (`-L`, `-D`).
    ForwardLocal = "forward_local", Target, true, "forward a port through the target";
    /// Have the target listen for the client (`-R`).
    ForwardRemote = "forward_remote", Target, true, "let the target listen for you";
    /// Lend the client's agent to the target.
    ForwardAgent = "forward_agent", Target, true, "forward an agent";
    /// Know that the target exists.
    ReadTarget = "read_target", Target, false, "see the target";
    /// List sessions, of everybody or one's own.
    ListSessions = "list_sessions", Scope, false, "list sessions";
    /// Follow the record of events, of everybody or of one's own sessions.
    WatchEvents = "watch_events", Scope, false, "watch events";
    /// See one session.
    ReadSession = "read_session", Session, false, "see the session";
    /// End one session.
    TerminateSession = "terminate_session", Session, false, "end the session";
    /// Come back to one session whose client was lost.
    ResumeSession = "resume_session", Session, false, "resume the session";
    /// See the documents that steer sessions, with their tags.
    ReadDocuments = "read_documents", Bastion, false, "see documents";
    /// Write, change and remove documents that steer sessions.
    ManageDocuments = "manage_documents", Bastion, false, "change documents";
    /// See the deployment's settings.
    ReadSettings = "read_settings", Bastion, false, "see settings";
    /// Change the deployment's settings.
    ManageSettings = "manage_settings", Bastion, false, "change settings";
    /// See what happens in a live session, as it happens.
    WatchSession = "watch_session", Session, false, "watch the session";
    /// Play the session's recording, and see what was done in it.
    PlayRecording = "play_recording", Session, false, "play the recording";
    /// Take the session's recording away.
    ExportRecording = "export_recording", Session, false, "export the recording";
    /// Keep the session's recording from being removed, and give it free again.
    HoldRecording = "hold_recording", Session, false, "hold the recording";
    /// Search in what was done, in everybody's sessions or in one's own.
    SearchRecordings = "search_recordings", Scope, false, "search in recordings";
    /// See the bastion's own description.
    ReadBastion = "read_bastion", Bastion, false, "see the bastion";
    /// Change what the bastion says of itself, and give out links to targets.
    WriteBastion = "write_bastion", Bastion, false, "change the bastion";
    /// List credentials, of everybody or one's own.
    ListCredentials = "list_credentials", Scope, false, "list credentials";
    /// Issue a credential, for anybody or for oneself.
    IssueCredential = "issue_credential", Scope, false, "issue a credential";
    /// Revoke a credential, of anybody or one's own.
    RevokeCredential = "revoke_credential", Scope, false, "revoke a credential";
    /// Take a copy of the whole record with its chain.
    ExportAudit = "export_audit", Bastion, false, "export the audit record";
    /// See how far the sinks are, and what is wrong with them.
    ReadSinks = "read_sinks", Bastion, false, "see the sinks";
);

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Whose things a list or a deed is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Everybody's.
    Everyone,
    /// The asking principal's own.
    Own,
}

/// What is asked about. A session counts by its owner and target, so that answers can be kept per pair.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// A target of the inventory.
    Target(&'a Target),
    /// A session.
    Session {
        /// Its id; policies may not depend on it.
        id: &'a SessionId,
        /// Whose it is.
        owner: &'a PrincipalName,
        /// Where it leads.
        target: &'a TargetSnapshot,
    },
    /// A list or a deed on somebody's things.
    Scope(Scope),
    /// The bastion.
    Bastion,
}

impl<'a> Resource<'a> {
    /// The resource that a session is.
    #[must_use]
    pub fn of(session: &'a Session) -> Self {
        Resource::Session { id: session.id(), owner: &session.draft.principal, target: &session.draft.target }
    }
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// To do what.
    pub action: Action,
    /// To what. INVARIANT: fits [`Action::on`].
    pub resource: Resource<'a>,
    /// From where.
    pub client: IpAddr,
}

/// The answer, with the names of the policies that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Permitted by these.
    Allow {
        /// Names of the deciding policies.
        policies: Vec<String>,
    },
    /// Not permitted; forbidden by these, or by nothing when the list is empty.
    Deny {
        /// Names of the deciding policies.
        policies: Vec<String>,
    },
}

impl Decision {
    /// Whether it is a yes.
    #[must_use]
    pub fn is_allow(&self) -> bool {
        matches!(self, Decision::Allow { .. })
    }
}

/// The group whose members can end sessions when the policy engine cannot answer.
pub const BREAK_GLASS_GROUP: &str = "operators";

/// The rule that holds when the policy engine cannot answer: operators may still see and end sessions, and anybody
/// their own. Nothing else is permitted.
#[must_use]
pub fn without_engine(question: &Question<'_>) -> bool {
    let operator = question.principal.groups.iter().any(|g| g.as_str() == BREAK_GLASS_GROUP);
    match (question.action, question.resource) {
        (Action::ReadSession | Action::TerminateSession, Resource::Session { owner, .. }) => {
            operator || *owner == question.principal.name
        }
        (Action::ListSessions, Resource::Scope(scope)) => operator || scope == Scope::Own,
        _ => false,
    }
}
