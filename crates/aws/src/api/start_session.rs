//! `StartSession`: admits a session, and answers with the token and the address of its data channel.
//!
//! The session is in the list from then on, as `Connecting`; the target is reached when the channel is opened. A call that
//! the client repeats, because it lost the answer, gets the same answer and no second session.
//!
//! Source: API reference of `StartSession`, API version 2014-11-06, read 2026-11; `BadRequest` is what the service
//! answers in practice for combinations that do not fit.

use super::{Call, of_model, session_logs};
use crate::channel::Lobby;
use crate::channel::session::{Start, Way, run};
use crate::proto::host::Purpose;
use crate::proto::request::Members;
use crate::proto::session_document::{self, Destination, PREFERENCES, Plan, SessionDocument, SessionType};
use crate::proto::violations::Violations;
use crate::refusal::Fault;
use crate::wire::data_channel::PortProperties;
use crate::{map, wire};
use aws_lc_rs::digest;
use ravelin_engine::egress::{Dialer, Opening, is_never_reached};
use ravelin_engine::gate::Ask;
use ravelin_engine::leg::Absent;
use ravelin_engine::{Control, Gate, Library, SessionLimits};
use ravelin_model::policy::Action;
use ravelin_model::recording::LogPlace;
use ravelin_model::session::Kind;
use ravelin_model::target::{LoginProof, Protocol};
use ravelin_model::{DocumentName, Login, PrincipalName, Target};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const TARGET_CHARS_MAX: usize = 400;
const REASON_CHARS_MAX: usize = 256;
/// The port that clients of a secure shell ask for when nobody told them another.
const SSH_PORT: u16 = 22;
/// Names under which clouds answer their own machines with credentials.
const NEVER_REACHED: &[&str] = &["metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal"];

/// What starting a session needs.
pub(crate) struct Starter {
    pub(crate) control: Control,
    pub(crate) gate: Gate,
    pub(crate) library: Library,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) lobby: Arc<Lobby>,
    pub(crate) answers: Answers,
}

pub(crate) async fn answer(starter: &Starter, call: &Call<'_>) -> Result<wire::StartSessionResponse, Fault> {
    let Some(invocation) = call.invocation else { return starter.start(call).await };
    let body = body_digest(call.body);
    let place = starter.answers.place(call.caller.name(), invocation);
    let mut kept = place.slot.lock().await;
    if let Some(kept) = kept.as_ref().filter(|kept| kept.body == body) {
        return Ok(wire::StartSessionResponse {
            session_id: kept.session.clone(),
            token_value: kept.token.expose_secret().to_owned(),
            stream_url: call.stream_url(&kept.session),
        });
    }
    let answer = starter.start(call).await?;
    let token = SecretString::from(answer.token_value.as_str());
    *kept = Some(Kept { body, session: answer.session_id.clone(), token });
    Ok(answer)
}

impl Starter {
    async fn start(&self, call: &Call<'_>) -> Result<wire::StartSessionResponse, Fault> {
        let asked = Asked::read(call)?;
        let steering = self.steering(call, &asked.document).await?;
        let plan =
            steering.document.plan(&asked.parameters).map_err(|misfit| of_model("BadRequest", misfit.to_string()))?;
        let target = self.target(call, &asked.target).await?;
        let instance = map::instance(&target.aliases, &target.id);
        let refused =
            |refusal| call.refused(refusal, map::instance_arn(call.region, &call.config.account_id, &instance));
        let (way, login, kind, action) = way(&plan, &target, &steering.document)?;
        let logs = match way {
            Way::Shell { .. } | Way::Command { .. } => steering.logs(call)?,
            // As at AWS: what a port or an SSH connection carries is not logged.
            Way::Direct | Way::Through(_) => Vec::new(),
        };
        self.gate.permit(call.caller, action, &target).await.map_err(refused)?;
        let ask = Ask {
            target: Arc::clone(&target),
            login,
            kind,
            document: Some(asked.document.clone()),
            reason: asked.reason,
            logs,
            client: Arc::new(Absent),
        };
        let admission = self.gate.admit_within(call.caller, ask, steering.limits).await.map_err(refused)?;
        if !matches!(way, Way::Shell { .. } | Way::Command { .. }) {
            // What the session is for is known: a reload that takes this right ends it.
            admission.permit(action).await.map_err(refused)?;
        }
        let session = admission.session().clone();
        let (taken, token) = self.lobby.take(session.clone(), call.caller.name().clone());
        let purpose = purpose(&plan);
        let dialer = Arc::clone(&self.dialer);
        // It ends with its session, which its client, its limits or the engine end.
        tokio::spawn(run(Start { admission, taken, way, purpose, dialer, target: instance }));
        Ok(wire::StartSessionResponse {
            token_value: token.expose_secret().to_owned(),
            stream_url: call.stream_url(session.as_str()),
            session_id: session.to_string(),
        })
    }

    /// The document that was named, and the limits that it and the preferences set together.
    async fn steering(&self, call: &Call<'_>, name: &str) -> Result<Steering, Fault> {
        let document = self.document(call, name).await?;
        let preferences = self.document(call, PREFERENCES).await?;
        let tighter = |one: Option<Duration>, other: Option<Duration>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (limit, None) | (None, limit) => limit,
        };
        let limits = SessionLimits {
            idle_max: tighter(document.idle_max, preferences.idle_max),
            duration_max: tighter(document.duration_max, preferences.duration_max),
        };
        let mut document = document;
        document.run_as = document.run_as.or(preferences.run_as);
        document.logs.bucket = document.logs.bucket.or(preferences.logs.bucket);
        document.logs.group = document.logs.group.or(preferences.logs.group);
        Ok(Steering { name: name.to_owned(), document, limits })
    }

    async fn document(&self, call: &Call<'_>, name: &str) -> Result<SessionDocument, Fault> {
        let unknown = || of_model("InvalidDocument", format!("Document with name {name} does not exist."));
        let parsed = DocumentName::parse(name).map_err(|_no_name| unknown())?;
        let stored = self.library.steering(&parsed).await.map_err(|refusal| call.refused_document(refusal, name))?;
        let content = match &stored {
            Some(stored) => {
                let version = stored.version(stored.default_version).ok_or_else(unknown)?;
                super::documents::value_of(&version.content, version.format)
            }
            None => session_document::built_in(name).ok_or_else(unknown).map(serde_json::from_str::<Value>)?.ok(),
        };
        let content = content.ok_or_else(|| of_model("InvalidDocument", format!("Document {name} cannot be read.")))?;
        SessionDocument::read(&content)
            .map_err(|fault| of_model("InvalidDocument", format!("Document {name} cannot be used: {fault}.")))
    }

    /// The target, if the caller may know of it and it is there.
    async fn target(&self, call: &Call<'_>, name: &str) -> Result<Arc<Target>, Fault> {
        let absent = || of_model("TargetNotConnected", format!("{name} is not connected."));
        let target = self.gate.find(call.caller, name).map_err(|_unknown_or_hidden| absent())?;
        super::settings::check_tier(&self.library, call, &target).await?;
        if self.control.reaches(&target).await { Ok(target) } else { Err(absent()) }
    }
}

struct Steering {
    name: String,
    document: SessionDocument,
    limits: SessionLimits,
}

impl Steering {
    /// Where the output of a session goes: as its document has it, or the preferences.
    fn logs(&self, call: &Call<'_>) -> Result<Vec<LogPlace>, Fault> {
        let refused = |because| {
            let text = format!("Document {} (or the preferences) cannot be used: {because}.", self.name);
            of_model("InvalidDocument", text)
        };
        session_logs::places(&self.document.logs, call.config).map_err(refused)
    }
}

/// The request with its members understood.
struct Asked {
    target: String,
    document: String,
    reason: Option<String>,
    parameters: BTreeMap<String, Vec<String>>,
}

impl Asked {
    fn read(call: &Call<'_>) -> Result<Self, Fault> {
        let body = Members::read(call.body).map_err(Fault::Unreadable)?;
        let text = |name| body.text(name).map_err(Fault::Unreadable);
        let (target, document, reason) = (text("Target")?, text("DocumentName")?, text("Reason")?);
        let parameters = body.text_lists("Parameters").map_err(Fault::Unreadable)?;
        let mut violations = Violations::default();
        let target = violations.text("target", target.as_deref(), 1, TARGET_CHARS_MAX).map(str::to_owned);
        let document = document.unwrap_or_else(|| PREFERENCES.to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:/".contains(c);
        if !(3..=128).contains(&document.len()) || !document.chars().all(plain) {
            violations.broken(
                "documentName",
                &document,
                "satisfy regular expression pattern: ^[a-zA-Z0-9_\\-.:/]{3,128}$",
            );
        }
        // A document may be named by its ARN.
        let document = document.rsplit_once(":document/").map_or(document.as_str(), |(_, name)| name).to_owned();
        match &reason {
            Some(reason) => {
                violations.text("reason", Some(reason), 1, REASON_CHARS_MAX);
                if reason.chars().any(char::is_control) {
                    violations.broken(
                        "reason",
                        "(with control characters)",
                        "satisfy regular expression pattern: ^.{1,256}$",
                    );
                }
            }
            None if call.config.reason_required => violations.missing("reason"),
            None => {}
        }
        for (name, values) in &parameters {
            if name.is_empty() || name.chars().count() > 255 {
                violations.broken("parameters", name, "have keys of 1 to 255 characters");
            }
            if values.iter().any(|value| value.is_empty() || value.chars().count() > 65_535) {
                violations.broken(&format!("parameters.{name}"), "(a value)", "have values of 1 to 65535 characters");
            }
        }
        let target = violations.settle(target).map_err(Fault::Violations)?;
        Ok(Self { target, document, reason, parameters })
    }
}

/// How a plan is carried out on this target, as whom, and what has to be permitted for it.
fn way(plan: &Plan, target: &Target, document: &SessionDocument) -> Result<(Way, Option<Login>, Kind, Action), Fault> {
    let own_port = |port: u16| port == target.port || (port == SSH_PORT && target.protocol == Protocol::Ssh);
    match plan {
        Plan::Shell => {
            let way = Way::Shell { profile: document.shell_profile.clone() };
            Ok((way, Some(login(target, document)?), Kind::Shell, Action::OpenShell))
        }
        Plan::Interactive { command } => {
            let way = Way::Command { command: command.clone(), terminal: true };
            Ok((way, Some(login(target, document)?), Kind::Exec, Action::OpenExec))
        }
        Plan::NonInteractive { command, separate: _ } => {
            let way = Way::Command { command: command.clone(), terminal: false };
            Ok((way, Some(login(target, document)?), Kind::Exec, Action::OpenExec))
        }
        // The target's own port is reached end to end, and Ravelin logs in nowhere.
        Plan::Stream { port } | Plan::Forward { to: Destination::Own { port }, .. } if own_port(*port) => {
            Ok((Way::Direct, None, Kind::Tunnel, Action::OpenTunnel))
        }
        Plan::Stream { port } | Plan::Forward { to: Destination::Own { port }, .. } => {
            let opening = Opening::Connect { host: "localhost".to_owned(), port: *port };
            Ok((Way::Through(opening), Some(login(target, document)?), Kind::Tunnel, Action::ForwardLocal))
        }
        Plan::Forward { to: Destination::Remote { host, port }, .. } => {
            if let Some(because) = denied(host) {
                return Err(of_model("BadRequest", format!("Forwarding to {host} is not allowed: {because}.")));
            }
            let opening = Opening::Connect { host: host.clone(), port: *port };
            Ok((Way::Through(opening), Some(login(target, document)?), Kind::Tunnel, Action::ForwardLocal))
        }
        Plan::Forward { to: Destination::Socket { path }, .. } => {
            let opening = Opening::Socket { path: path.clone() };
            Ok((Way::Through(opening), Some(login(target, document)?), Kind::Tunnel, Action::ForwardLocal))
        }
    }
}

/// Why a host is none that a target may be sent to. The target's own loopback is as good as any of its ports.
fn denied(host: &str) -> Option<&'static str> {
    const METADATA: &str = "it answers machines with their credentials";
    let host = host.trim_end_matches('.');
    let never = match address(host) {
        Ok(Some(address)) => !address.to_canonical().is_loopback() && is_never_reached(address),
        Ok(None) => NEVER_REACHED.iter().any(|name| name.eq_ignore_ascii_case(host)),
        Err(NoAddress) => return Some("it is neither a name nor an address"),
    };
    never.then_some(METADATA)
}

/// A host that looks like an address and is none.
struct NoAddress;

/// The address that a host is for the resolvers of systems, which know more forms than our parser does: a zone behind an
/// IPv6 address, and an IPv4 address of one to four numbers, each of them decimal, octal or hexadecimal. `None` for a
/// name, which never ends in a number (RFC 1123, section 2.1).
///
/// Source: `inet_aton(3)` and `getaddrinfo(3)` of Linux, read 2026-12.
fn address(host: &str) -> Result<Option<IpAddr>, NoAddress> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(Some(address));
    }
    if host.contains([':', '%']) {
        let bare = host.split_once('%').and_then(|(bare, _zone)| bare.parse::<Ipv6Addr>().ok());
        return bare.map(|address| Some(IpAddr::V6(address))).ok_or(NoAddress);
    }
    let last = host.rsplit('.').next().unwrap_or(host);
    let hexadecimal = |text: &str| text.starts_with("0x") || text.starts_with("0X");
    if !hexadecimal(last) && !last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let number = |part: &str| {
        let (digits, radix) = match part {
            _ if hexadecimal(part) => (&part[2..], 16),
            _ if part.len() > 1 && part.starts_with('0') => (&part[1..], 8),
            _ => (part, 10),
        };
        // The parser takes a sign, too.
        let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if plain { u32::from_str_radix(digits, radix).map_err(|_no_number| NoAddress) } else { Err(NoAddress) }
    };
    let mut numbers = host.split('.').map(number).collect::<Result<Vec<u32>, NoAddress>>()?;
    // The last number fills all bytes that the others leave.
    let rest = numbers.pop().filter(|_| numbers.len() < 4).ok_or(NoAddress)?;
    let mut bytes = rest.to_be_bytes();
    for (place, number) in numbers.into_iter().enumerate() {
        let byte = u8::try_from(number).map_err(|_too_large| NoAddress)?;
        if std::mem::replace(&mut bytes[place], byte) != 0 {
            return Err(NoAddress);
        }
    }
    Ok(Some(IpAddr::from(bytes)))
}

/// As whom to log in: as the document says, or by the first way that needs nobody's agent.
fn login(target: &Target, document: &SessionDocument) -> Result<Login, Fault> {
    if target.protocol != Protocol::Ssh {
        let text = format!(
            "{} speaks {}, not ssh: only a port forwarding session to port {} leads there.",
            target.name, target.protocol, target.port
        );
        return Err(of_model("BadRequest", text));
    }
    if let Some(run_as) = &document.run_as {
        let wanted = Login::parse(run_as).ok();
        return wanted.filter(|login| target.way(Some(login)).is_some()).ok_or_else(|| {
            of_model("BadRequest", format!("The document runs as {run_as}, and {} offers no such login.", target.name))
        });
    }
    let usable = target.logins.iter().find(|way| !matches!(way.proof, LoginProof::ForwardedAgent));
    usable.map(|way| way.login.clone()).ok_or_else(|| {
        let text = format!("{} has no login that works without your own agent: use AWS-StartSSHSession.", target.name);
        of_model("BadRequest", text)
    })
}

/// What the client is told of a plan.
fn purpose(plan: &Plan) -> Purpose {
    let plain = |session_type: SessionType, separate| Purpose {
        session_type: session_type.word(),
        properties: Value::Null,
        forwards: false,
        separate,
        welcome: String::new(),
    };
    match plan {
        Plan::Shell => plain(SessionType::StandardStream, false),
        Plan::Interactive { .. } => plain(SessionType::InteractiveCommands, false),
        Plan::NonInteractive { separate, .. } => plain(SessionType::NonInteractiveCommands, *separate),
        Plan::Stream { port } => {
            let properties = PortProperties { port_number: port.to_string(), ..PortProperties::default() };
            Purpose { properties: json(&properties), ..plain(SessionType::Port, false) }
        }
        Plan::Forward { to, local_port, local_socket } => {
            let (host, port) = match to {
                Destination::Own { port } => (String::new(), port.to_string()),
                Destination::Remote { host, port } => (host.clone(), port.to_string()),
                Destination::Socket { .. } => (String::new(), String::new()),
            };
            let properties = PortProperties {
                port_number: port,
                local_port_number: local_port.clone(),
                local_connection_type: if local_socket.is_empty() { String::new() } else { "unix".to_owned() },
                local_unix_socket: local_socket.clone(),
                host,
                forwarding: "LocalPortForwarding".to_owned(),
            };
            Purpose { properties: json(&properties), forwards: true, ..plain(SessionType::Port, false) }
        }
    }
}

fn json(properties: &PortProperties) -> Value {
    // Texts only: it always has a form.
    serde_json::to_value(properties).unwrap_or_default()
}

/// The answers of calls that may be repeated.
#[derive(Default)]
pub(crate) struct Answers {
    slots: Mutex<HashMap<Key, (Instant, Slot)>>,
}

/// Whose call, and which.
type Key = (PrincipalName, String);

/// Locked while its call is under way; empty until there is an answer.
type Slot = Arc<tokio::sync::Mutex<Option<Kept>>>;

struct Kept {
    body: [u8; 32],
    session: String,
    token: SecretString,
}

/// The place of one call's answer. Dropping it without one gives it back, unless somebody waits who repeats the call.
struct Place<'a> {
    answers: &'a Answers,
    key: Key,
    slot: Slot,
}

impl Answers {
    /// SDKs give up before this.
    const KEEP: Duration = Duration::from_secs(300);
    const KEPT_MAX: usize = 4096;
    /// Of one caller, so that nobody takes the others' places.
    const KEPT_PER_CALLER_MAX: usize = 1024;
    /// Longer ids are none of an SDK's.
    const ID_CHARS_MAX: usize = 128;

    /// The place of one call's answer; whoever repeats the call while it is under way waits for it. Where there are too many
    /// answers, the oldest goes.
    fn place(&self, caller: &PrincipalName, invocation: &str) -> Place<'_> {
        let key = (caller.clone(), invocation.chars().take(Self::ID_CHARS_MAX).collect());
        let mut slots = self.slots();
        let now = Instant::now();
        slots.retain(|_, (since, slot)| now.duration_since(*since) < Self::KEEP || !is_answered(slot));
        let slot = slots.get(&key).map(|(_, slot)| Arc::clone(slot)).unwrap_or_else(|| {
            let slot = Slot::default();
            let own = slots.keys().filter(|(whose, _)| whose == caller).count();
            let has_room = if own >= Self::KEPT_PER_CALLER_MAX {
                forget_oldest(&mut slots, |(whose, _)| whose == caller)
            } else {
                slots.len() < Self::KEPT_MAX || forget_oldest(&mut slots, |_| true)
            };
            // With so many under way at once this call cannot be repeated safely, as every other server has it.
            if has_room {
                slots.insert(key.clone(), (now, Arc::clone(&slot)));
            }
            slot
        });
        Place { answers: self, key, slot }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, (Instant, Slot)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut slots = self.answers.slots();
        // Others get at it under this lock only: there are two, the map's and ours, unless somebody waits.
        if Arc::strong_count(&self.slot) == 2 && !is_answered(&self.slot) {
            slots.remove(&self.key);
        }
    }
}

fn is_answered(slot: &Slot) -> bool {
    slot.try_lock().is_ok_and(|kept| kept.is_some())
}

/// Takes the oldest answer of these away; false when there is none.
fn forget_oldest(slots: &mut HashMap<Key, (Instant, Slot)>, of: impl Fn(&Key) -> bool) -> bool {
    let answered = slots.iter().filter(|(key, (_, slot))| of(key) && is_answered(slot));
    let oldest = answered.min_by_key(|(_, (since, _))| *since).map(|(key, _)| key.clone());
    oldest.is_some_and(|key| slots.remove(&key).is_some())
}

fn body_digest(body: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, body).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PrincipalName {
        PrincipalName::parse(text).expect("a name")
    }

    /// A call that is answered.
    fn answered(answers: &Answers, caller: &PrincipalName, id: &str) {
        let place = answers.place(caller, id);
        let kept = Kept { body: [0; 32], session: id.to_owned(), token: SecretString::from("a token") };
        *place.slot.try_lock().expect("nobody else has it") = Some(kept);
    }

    fn has(answers: &Answers, caller: &PrincipalName, id: &str) -> bool {
        is_answered(&answers.place(caller, id).slot)
    }

    #[test]
    fn a_call_that_fails_takes_no_place_unless_it_is_repeated_meanwhile() {
        let answers = Answers::default();
        let alice = name("alice");
        drop(answers.place(&alice, "1"));
        assert!(answers.slots().is_empty());
        let first = answers.place(&alice, "1");
        let again = answers.place(&alice, "1");
        drop(first);
        let third = answers.place(&alice, "1");
        assert!(Arc::ptr_eq(&again.slot, &third.slot), "who repeats it waits in the same place");
        drop((again, third));
        assert!(answers.slots().is_empty());
    }

    #[test]
    fn many_answers_of_one_caller_take_nobody_elses_place() {
        let answers = Answers::default();
        let (alice, mallory) = (name("alice"), name("mallory"));
        answered(&answers, &alice, "hers");
        let under_way = answers.place(&mallory, "under way");
        for n in 0..=Answers::KEPT_PER_CALLER_MAX {
            answered(&answers, &mallory, &n.to_string());
        }
        assert!(has(&answers, &alice, "hers"));
        assert!(has(&answers, &mallory, &Answers::KEPT_PER_CALLER_MAX.to_string()), "the newest are kept");
        assert!(!has(&answers, &mallory, "0"), "and the oldest are not");
        assert!(Arc::ptr_eq(&under_way.slot, &answers.place(&mallory, "under way").slot));
        assert!(answers.slots().len() <= Answers::KEPT_PER_CALLER_MAX + 1);
        // Nor do many callers take more than there is.
        for n in 0..3 {
            let caller = name(&format!("caller-{n}"));
            for id in 0..Answers::KEPT_PER_CALLER_MAX {
                answered(&answers, &caller, &id.to_string());
            }
        }
        assert_eq!(answers.slots().len(), Answers::KEPT_MAX);
        answered(&answers, &alice, "one more");
        assert!(has(&answers, &alice, "one more") && answers.slots().len() == Answers::KEPT_MAX);
        assert!(Arc::ptr_eq(&under_way.slot, &answers.place(&mallory, "under way").slot));
    }

    #[test]
    fn metadata_and_link_local_addresses_are_denied_in_any_dress() {
        for host in [
            "169.254.169.254",
            "169.254.169.254.",
            "169.254.170.2",
            "2852039166",
            "0xa9fea9fe",
            "0XA9.0xFE.43518",
            "169.16689662",
            "0251.0376.0251.0376",
            "025177524776",
            "0",
            "0x.0x.0x.0x",
            "fd00:ec2::254",
            "fd00:ec2::254%1",
            "fe80::1",
            "fe80::1%lo",
            "::ffff:169.254.169.254",
            "0.0.0.0",
            "metadata.google.internal",
            "METADATA.google.internal.",
            "169.254.169.999",
            "169.254.169.09",
            "1.169.254.169.254",
            "metadata.1",
            "127.0.0.1%lo",
            "x%1",
        ] {
            assert!(denied(host).is_some(), "{host}");
        }
        for host in [
            "localhost",
            "127.0.0.1",
            "127.1",
            "0x7f000001",
            "::1",
            "10.0.0.7",
            "10.7",
            "db.internal",
            "db-1.internal.",
            "0xa9fea9fe.internal",
            "7.example",
            "a9fea9fe",
            "2001:db8::1",
        ] {
            assert_eq!(denied(host), None, "{host}");
        }
    }

    #[test]
    fn an_address_is_what_systems_take_it_for() {
        for (host, wanted) in [
            ("10.1.2.3", [10, 1, 2, 3]),
            ("10.1.515", [10, 1, 2, 3]),
            ("10.0x10203", [10, 1, 2, 3]),
            ("167838211", [10, 1, 2, 3]),
            ("012.01.02.03", [10, 1, 2, 3]),
        ] {
            assert_eq!(address(host).ok().flatten(), Some(IpAddr::from(wanted)), "{host}");
        }
        for host in ["1.2.3.256", "1.2.65536", "1.16777216", "4294967296", "256.1", "1..2", "+1.2", "08"] {
            assert!(address(host).is_err(), "{host}");
        }
    }
}
