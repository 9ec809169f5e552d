//! The shapes of the own API, spelled as they stand on the wire. No methods, no rules.
//!
//! Both directions derive both ways, because the command line is a client of this API and uses these very types.
//! Source: this crate is the specification; `openapi.json` beside it is generated from here.
//!
//! Times are RFC 3339 in UTC with microseconds: `2026-11-21T22:28:54.123456Z`.

use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};

/// A word of a closed list. The server lends it; a client owns it and must bear words that it does not know.
pub type Word = Cow<'static, str>;

/// One client's connection to one target through one protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// `<principal>-<17 hex digits>`. Public: it opens nothing.
    #[schema(example = "alice-07a16060613c408b5")]
    pub id: String,
    /// Where it is in its life.
    #[schema(schema_with = words::states)]
    pub state: Word,
    /// Whose it is.
    pub principal: String,
    /// Their groups when it started.
    pub groups: Vec<String>,
    /// How they proved who they are.
    #[schema(schema_with = words::auth_methods)]
    pub auth_method: Word,
    /// The client's IP address.
    pub client_address: String,
    /// The client's TCP port.
    pub client_port: u16,
    /// What the client calls itself; may be empty. Never trusted.
    pub client_software: String,
    /// The target as it was when the session started.
    pub target: SessionTarget,
    /// As whom on the target; null for a tunnel.
    pub login: Option<String>,
    /// What is spoken with the target.
    #[schema(schema_with = words::protocols)]
    pub protocol: Word,
    /// What the client does with it.
    #[schema(schema_with = words::kinds)]
    pub kind: Word,
    /// The document that steers it, where there is one.
    pub document: Option<String>,
    /// What the person gave as reason for connecting.
    pub reason: Option<String>,
    /// When it was admitted.
    #[schema(format = DateTime)]
    pub created: String,
    /// When the target was first reached.
    #[schema(format = DateTime)]
    pub connected: Option<String>,
    /// When bytes last went either way.
    #[schema(format = DateTime)]
    pub last_activity: String,
    /// When both sockets were closed.
    #[schema(format = DateTime)]
    pub ended: Option<String>,
    /// Bytes from the client to the target.
    pub bytes_in: u64,
    /// Bytes from the target to the client.
    pub bytes_out: u64,
    /// Why it is ending or ended.
    #[schema(schema_with = words::end_reasons_or_null)]
    pub end_reason: Option<Word>,
    /// Who ended it: a principal, `target:<name>` or `system`.
    pub actor: Option<String>,
    /// What the actor said, or what exactly happened.
    pub detail: Option<String>,
    /// How far its recording is.
    #[schema(schema_with = words::recordings)]
    pub recording: Word,
    /// SHA-256 of its recording in hex, once that is complete.
    pub recording_digest: Option<String>,
    /// Where its recording lies: `directory`, or the URL of an object. Only where one session is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_place: Option<String>,
    /// To where its recording is yet to be moved, and after a colon why that has not worked so far. Only where one
    /// session is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording_awaits: Option<String>,
    /// The process that owns it.
    pub node: String,
    /// That process's start count.
    pub epoch: u64,
    /// Free key/value pairs.
    pub tags: BTreeMap<String, String>,
}

/// A target as a session keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionTarget {
    /// Stable id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Host name or address that was dialled.
    pub address: String,
    /// TCP port that was dialled.
    pub port: u16,
    /// Labels at the start.
    pub labels: BTreeMap<String, String>,
    /// Its names in the clouds' dialects: dialect to id.
    pub aliases: BTreeMap<String, String>,
}

/// Which sessions. Every member that is set must match; a list matches when one of it does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(default, deny_unknown_fields)]
pub struct SessionFilter {
    /// State names, or `live`, `ended`, `any`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = words::state_filters)]
    #[param(schema_with = words::state_filters)]
    pub state: Vec<String>,
    /// Principals.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[param(required = false)]
    pub principal: Vec<String>,
    /// Session ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[param(required = false)]
    pub id: Vec<String>,
    /// End reasons.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(schema_with = words::end_reason_filters)]
    #[param(schema_with = words::end_reason_filters)]
    pub end_reason: Vec<String>,
    /// A target's name, id or alias, without regard to case; also of targets that left the inventory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// How the id, or its hex part, starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// What the client does with the target: `shell`, `exec`, `sftp`, `tunnel`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What is spoken: `ssh`, `rdp`, `tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The login on the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// The client's IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The owning node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Who ended it: a principal, `target:<name>` or `system`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// A label of the target at the start: `key=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A tag of the session: `key=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Created at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    #[param(format = DateTime)]
    pub created_from: Option<String>,
    /// Created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    #[param(format = DateTime)]
    pub created_before: Option<String>,
    /// Ended at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    #[param(format = DateTime)]
    pub ended_from: Option<String>,
    /// Ended before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    #[param(format = DateTime)]
    pub ended_before: Option<String>,
}

/// Which part of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListPage {
    /// `newest` (default) or `oldest` first, by creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<String>,
    /// At most this many items, 1 to 1000; 50 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filter and order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A page of sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionPage {
    /// In the order asked for.
    pub items: Vec<Session>,
    /// There when more may follow; good for the same caller, filter and order. A page may be shorter than the limit,
    /// even empty, and still have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// A wish to end one session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Terminate {
    /// Shown to the person at the keyboard and kept in the record; at most 400 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 400)]
    pub reason: Option<String>,
    /// How long to wait for both sockets to be closed, in milliseconds, 0 to 60000; 5000 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 60_000)]
    pub wait_ms: Option<u64>,
}

/// A wish to end many sessions by their ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminateMany {
    /// 1 to 10000 full ids.
    #[schema(min_items = 1, max_items = 10_000)]
    pub ids: Vec<String>,
    /// As in `Terminate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 400)]
    pub reason: Option<String>,
    /// As in `Terminate`; one wait for all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 60_000)]
    pub wait_ms: Option<u64>,
}

/// A wish to end all live sessions that a filter matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TerminateMatching {
    /// Which; `{}` means every live session. Only live states may be named.
    pub filter: SessionFilter,
    /// Only say what would be ended.
    #[serde(default)]
    pub dry_run: bool,
    /// Required unless `dry_run`: the number of sessions that the caller means to end. When another number matches,
    /// nothing is ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<u64>,
    /// As in `Terminate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 400)]
    pub reason: Option<String>,
    /// As in `Terminate`; one wait for all together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 60_000)]
    pub wait_ms: Option<u64>,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeWord {
    /// Both sockets are closed.
    Ended,
    /// It had ended before.
    AlreadyEnded,
    /// It was asked to end, and something is still open. Ask again to go on waiting.
    Pending,
    /// No such session, or not one that the caller may see.
    NotFound,
    /// The caller may see it and not end it.
    Denied,
    /// It could not be done; `detail` says why.
    Error,
}

/// What came of asking one session to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// Which.
    pub id: String,
    /// What came of it.
    pub outcome: OutcomeWord,
    /// When both sockets were closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub closed_at: Option<String>,
    /// Why it ended; another's earlier request may have been faster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = words::end_reasons)]
    pub end_reason: Option<Word>,
    /// Who ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// What the actor said, or why it is not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// What came of asking many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcomes {
    /// One for each id, in the order asked for; an id that was given twice counts once.
    pub items: Vec<Outcome>,
}

/// What a filter matched, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Matching {
    /// Whether nothing was touched.
    pub dry_run: bool,
    /// How many matched; the number for `expect`.
    pub matching: u64,
    /// What would be ended; only for a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Vec<Session>>,
    /// One for each that matched; only for a real run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Vec<Outcome>>,
}

/// Something that was done in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Act {
    /// When, in milliseconds since the recording began.
    pub at_ms: u64,
    /// What kind.
    #[schema(schema_with = words::act_kinds)]
    pub kind: Word,
    /// How it is known: said by whoever did it, marked by the shell, found behind a prompt, shown on a screen.
    #[schema(schema_with = words::act_sources)]
    pub source: Word,
    /// The command, the path, the destination. Never trusted.
    pub text: String,
    /// Facts, such as `exit_status`, `operation`, `direction`, `bytes`, `sha256`, `outcome`.
    pub facts: BTreeMap<String, String>,
}

/// What was done in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Acts {
    /// In order of time.
    pub items: Vec<Act>,
    /// Whether there are more: ask again, and skip these.
    #[serde(default)]
    pub more: bool,
    /// What is known of the recording; null while it is made, unless it is held.
    pub recording: Option<RecordingEntry>,
}

/// What is known of a recording that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordingEntry {
    /// Of which session.
    pub session: String,
    /// Its size; 0 while it is made.
    pub bytes: u64,
    /// From its beginning to its last event, in milliseconds.
    pub lasted_ms: u64,
    /// When it may be removed.
    #[schema(format = DateTime)]
    pub keep_until: String,
    /// Why it may not be removed whatever the time, if somebody said so.
    pub hold: Option<String>,
    /// Whether it was removed, or is being removed.
    pub removed: bool,
}

/// An act that a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundAct {
    /// In which session.
    pub session: String,
    /// Whose.
    pub principal: String,
    /// To which target.
    pub target: String,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// What.
    pub act: Act,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FoundActs {
    /// The newest first.
    pub items: Vec<FoundAct>,
}

/// A wish to hold a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// Why; kept with it and in the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its number in the record, from 1, without gaps.
    pub seq: u64,
    /// When.
    #[schema(format = DateTime)]
    pub at: String,
    /// What kind.
    #[schema(schema_with = words::event_kinds)]
    pub kind: Word,
    /// Who did it: a principal, `target:<name>` or `system`.
    pub actor: String,
    /// On which session, if on one.
    pub session: Option<String>,
    /// Facts; never secrets.
    pub facts: BTreeMap<String, String>,
}

/// One line of the record with its place in the chain, see `docs/wire/ledger.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerEvent {
    /// The line.
    #[serde(flatten)]
    pub event: Event,
    /// Its hash, 64 hex digits.
    pub hash: String,
}

/// What the chain that is kept stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerFoundation {
    /// The deployment's id.
    pub deployment: String,
    /// The last event that retention removed; 0 when all are kept.
    pub after: u64,
    /// That event's hash, or the deployment's genesis.
    pub head: String,
    /// The signature of the cut, where there was one.
    pub signature: Option<String>,
}

/// A stretch of the record with its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerPage {
    /// What the whole stands on.
    pub foundation: LedgerFoundation,
    /// In order of their numbers.
    pub items: Vec<LedgerEvent>,
    /// The `after` to go on with; what a filter passed over is behind it.
    pub next_after: u64,
    /// The highest number given out.
    pub newest: u64,
}

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sink {
    /// Its name in the configuration.
    pub name: String,
    /// What stands behind it, such as `file` or `syslog`; `log_bucket` and `log_group` take the output of sessions.
    pub kind: String,
    /// Where it leads.
    pub destination: String,
    /// It has every event up to this number; null for what takes the output of sessions.
    pub position: Option<u64>,
    /// Events, or outputs of sessions that are over, which it has not taken yet.
    pub behind: u64,
    /// The time of the oldest event, or the end of the first session, that it has not taken.
    #[schema(format = DateTime)]
    pub oldest_waiting: Option<String>,
    /// Further behind than this, and new sessions are refused; null for what takes the output of sessions.
    pub behind_max: Option<u64>,
    /// Events, or outputs, that it took since the node started.
    pub delivered: u64,
    /// When it took the last batch since the node started.
    #[schema(format = DateTime)]
    pub last_delivery: Option<String>,
    /// Why the last try failed, or what was not taken although it went well; null otherwise.
    pub last_error: Option<String>,
    /// Tries in a row that failed.
    pub failures: u64,
}

/// The sinks of this node, and what takes the output of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sinks {
    /// Sinks in the order of the configuration, then the rest.
    pub items: Vec<Sink>,
}

/// Events that are no longer kept, by their numbers, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventGap {
    /// The first that is missing.
    pub from: u64,
    /// The last that is missing.
    pub to: u64,
}

/// A stretch of the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventPage {
    /// In order of their numbers.
    pub items: Vec<Event>,
    /// The `after` to go on with. Others' events, which the caller may not see, are passed over.
    pub next_after: u64,
    /// The highest number given out.
    pub newest: u64,
    /// What lies between the `after` that was asked for and the oldest event still kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<EventGap>,
}

/// Data of the stream's event `snapshot`: the live sessions, in one or more parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Snapshot {
    /// A part of the live sessions, newest first.
    pub sessions: Vec<Session>,
    /// Whether another part follows. The events that come after the last part may already be contained in it.
    pub more: bool,
}

/// A machine's service that sessions can lead to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Stable id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// What is spoken there.
    #[schema(schema_with = words::protocols)]
    pub protocol: Word,
    /// Logins on it; the first is the default.
    pub logins: Vec<String>,
    /// Free key/value pairs.
    pub labels: BTreeMap<String, String>,
    /// Its names in the clouds' dialects: dialect to id.
    pub aliases: BTreeMap<String, String>,
}

/// The targets that the caller may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Targets {
    /// In the order of the inventory.
    pub items: Vec<Target>,
}

/// What a credential is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialKind {
    /// A bearer token of this API.
    Token,
    /// An AWS access key.
    Aws,
    /// An AWS access key with a session token, for 12 hours unless told otherwise and 36 at most.
    AwsTemporary,
    /// An Azure client id and secret.
    Azure,
}

/// The public half of a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credential {
    /// A token's id, an access key id or a client id.
    pub id: String,
    /// What it is good for.
    pub kind: CredentialKind,
    /// Whom it proves.
    pub principal: String,
    /// What the issuer noted on it.
    pub note: String,
    /// When it was issued.
    #[schema(format = DateTime)]
    pub created: String,
    /// When it stops working, if ever.
    #[schema(format = DateTime)]
    pub expires: Option<String>,
    /// When it was revoked, if it was.
    #[schema(format = DateTime)]
    pub revoked: Option<String>,
}

/// The credentials that the caller may list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Credentials {
    /// Oldest first.
    pub items: Vec<Credential>,
}

/// A wish for a new credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueCredential {
    /// What it shall be good for.
    pub kind: CredentialKind,
    /// Whom it shall prove; the caller unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1)]
    pub principal: Option<String>,
    /// A note on it, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 200)]
    pub note: Option<String>,
    /// When it stops working: a time in RFC 3339, or how long it lasts, such as `90d` or `12h`. Unless given, never, and
    /// after 12 hours for a temporary one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
}

/// A new credential with its secret, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IssuedCredential {
    /// The public half.
    pub credential: Credential,
    /// What the holder needs; for a token the whole token.
    pub secret: String,
    /// What goes with each request of a temporary AWS access key; for no other kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl std::fmt::Debug for IssuedCredential {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedCredential").field("credential", &self.credential).finish_non_exhaustive()
    }
}

/// Who is asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// Name of the principal.
    pub principal: String,
    /// Their groups.
    pub groups: Vec<String>,
    /// How they proved it.
    #[schema(schema_with = words::auth_methods)]
    pub auth_method: Word,
    /// The public id of the credential that proved it.
    pub credential: Option<String>,
    /// The IP address that the server sees.
    pub client_address: String,
}

/// How the service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `ok`.
    #[schema(value_type = String)]
    pub status: Word,
}

/// Why something was not done (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `urn:ravelin:problem:` and the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words; the same for every problem of that code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// For programs; `docs/wire/native-errors.md` lists them.
    #[schema(value_type = String)]
    pub code: Word,
    /// The parameter or member that is wrong, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// With code `count_changed`: how many sessions match now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<u64>,
}

/// The closed lists, for the document.
mod words {
    use ravelin_model::audit::AuditKind;
    use ravelin_model::principal::AuthMethod;
    use ravelin_model::recording::{ActKind, Source};
    use ravelin_model::session::{EndReason, Kind, Recording, State};
    use ravelin_model::target::Protocol;
    use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type};

    fn one_of(words: impl IntoIterator<Item = &'static str>) -> Object {
        ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
    }

    fn many_of(words: impl IntoIterator<Item = &'static str>) -> Array {
        ArrayBuilder::new().items(one_of(words)).build()
    }

    pub(super) fn states() -> Object {
        one_of(State::ALL.iter().map(|s| s.word()))
    }

    pub(super) fn state_filters() -> Array {
        many_of(["live", "ended", "any"].into_iter().chain(State::ALL.iter().map(|s| s.word())))
    }

    pub(super) fn kinds() -> Object {
        one_of(Kind::ALL.iter().map(|k| k.word()))
    }

    pub(super) fn protocols() -> Object {
        one_of(Protocol::ALL.iter().map(|p| p.word()))
    }

    pub(super) fn auth_methods() -> Object {
        one_of(AuthMethod::ALL.iter().map(|m| m.word()))
    }

    pub(super) fn recordings() -> Object {
        one_of(Recording::ALL.iter().map(|r| r.word()))
    }

    pub(super) fn act_kinds() -> Object {
        one_of(ActKind::ALL.iter().map(|k| k.word()))
    }

    pub(super) fn act_sources() -> Object {
        one_of(Source::ALL.iter().map(|s| s.word()))
    }

    pub(super) fn end_reasons() -> Object {
        one_of(EndReason::ALL.iter().map(|r| r.word()))
    }

    pub(super) fn end_reasons_or_null() -> Object {
        let words = EndReason::ALL.iter().map(|r| serde_json::Value::from(r.word()));
        ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .enum_values(Some(words.chain([serde_json::Value::Null])))
            .build()
    }

    pub(super) fn end_reason_filters() -> Array {
        many_of(EndReason::ALL.iter().map(|r| r.word()))
    }

    pub(super) fn event_kinds() -> Object {
        one_of(AuditKind::ALL.iter().map(|k| k.word()))
    }
}
