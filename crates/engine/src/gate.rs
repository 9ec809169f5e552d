//! The only way in. A data plane that wants to move bytes needs an [`Admission`], and only [`Gate::admit`] makes one.
//!
//! An admission exists when the policy said yes, the limits had room, and the session's row is durable. Dropping it
//! ends the session, so a panic in an edge costs one session and leaves no zombie.

use crate::denials::Denials;
use crate::directory::{Directory, Rules};
use crate::egress::{self, Dialer, Duct, NotOpened, Opening, Reached, Unreached};
use crate::identity::{Caller, SOFTWARE_CHARS_MAX, still_known};
use crate::keys::random_bytes;
use crate::leg::Leg;
use crate::registry::Live;
use crate::relay::Relay;
use crate::supervisor::Supervisor;
use ravelin_model::policy::{Action, Question, Resource};
use ravelin_model::ports::Sinks;
use ravelin_model::recording::{LogPlace, Mode, WhenBroken};
use ravelin_model::session::{Actor, Draft, EndReason, Ending, Event, Kind};
use ravelin_model::target::{LoginWay, Protocol};
use ravelin_model::text::printable;
use ravelin_model::{CredentialId, Login, Refusal, SessionId, Target};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// What a caller wants to be admitted to.
pub struct Ask {
    /// Where to, from [`Gate::find`] or [`Gate::targets`].
    pub target: Arc<Target>,
    /// As whom Ravelin logs in on the target; `None` when it does not log in at all (a tunnel).
    pub login: Option<Login>,
    /// What is known of its purpose; [`Kind::Tunnel`] until more is known.
    pub kind: Kind,
    /// The document that steers it, where there is one.
    pub document: Option<String>,
    /// Why the person connects, if they said so.
    pub reason: Option<String>,
    /// Where its output is put once it is over. Such a session is recorded in full, whatever the target's rule is, and
    /// ends when that fails.
    pub logs: Vec<LogPlace>,
    /// The client's side.
    pub client: Arc<dyn Leg>,
}

/// Limits that one session has of its own. Where the node has one too, the tighter one holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest time without a byte either way.
    pub idle_max: Option<Duration>,
    /// Longest session. On record with it.
    pub duration_max: Option<Duration>,
}

/// Admits sessions.
#[derive(Clone)]
pub struct Gate {
    directory: Arc<Directory>,
    supervisor: Arc<Supervisor>,
    denials: Arc<Denials>,
    closed: Arc<AtomicBool>,
    sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
}

/// How sessions end whose credential was revoked.
pub(crate) fn revoked(credential: &CredentialId, by: Actor) -> Ending {
    Ending::new(EndReason::RightsRevoked, by, &format!("the credential {credential} was revoked"))
}

/// Whether what is recorded from now on can reach its sinks.
pub(crate) fn accountable(sinks: &OnceLock<Arc<dyn Sinks>>) -> Result<(), Refusal> {
    match sinks.get().and_then(|sinks| sinks.full()) {
        Some(because) => {
            Err(Refusal::unavailable("the shipping of the audit record (a sink is too far behind)", because))
        }
        None => Ok(()),
    }
}

impl Gate {
    pub(crate) fn new(
        directory: Arc<Directory>,
        supervisor: Arc<Supervisor>,
        denials: Arc<Denials>,
        closed: Arc<AtomicBool>,
        sinks: Arc<OnceLock<Arc<dyn Sinks>>>,
    ) -> Self {
        Self { directory, supervisor, denials, closed, sinks }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Whether new sessions are admitted; not so while the node drains.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// The targets that the caller may see, in the order of declaration.
    #[must_use]
    pub fn targets(&self, caller: &Caller) -> Vec<Arc<Target>> {
        let rules = self.directory.rules();
        let all = rules.inventory.targets().iter();
        all.filter(|target| self.may(caller, Action::ReadTarget, target)).cloned().collect()
    }

    /// The target that a name, id or alias names.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when there is none or the caller may not see it: the two cannot be told apart.
    pub fn find(&self, caller: &Caller, any_name: &str) -> Result<Arc<Target>, Refusal> {
        let rules = self.directory.rules();
        match rules.inventory.target(any_name) {
            Some(target) if self.may(caller, Action::ReadTarget, target) => Ok(Arc::clone(target)),
            Some(_) | None => Err(Refusal::not_found("target", printable(any_name, 128))),
        }
    }

    /// The target that a name and a port of that machine mean: the target itself on its own port, or another target of
    /// the inventory on the same address. The usual port of its protocol means the target, whatever port it has.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] as of [`Gate::find`]; [`Refusal::Invalid`] when the caller may see no target on that port.
    pub fn find_port(&self, caller: &Caller, any_name: &str, port: u16) -> Result<Arc<Target>, Refusal> {
        let target = self.find(caller, any_name)?;
        if port == target.port {
            return Ok(target);
        }
        let beside = |other: &Arc<Target>| other.port == port && other.address.eq_ignore_ascii_case(&target.address);
        if let Some(other) = self.targets(caller).into_iter().find(beside) {
            return Ok(other);
        }
        let usual = match target.protocol {
            Protocol::Ssh => Some(22),
            Protocol::Rdp => Some(3389),
            Protocol::Tcp => None,
        };
        if usual == Some(port) {
            return Ok(target);
        }
        let because = format!(
            "{} has no target on port {port}, it has port {}; another port of the machine has to be in the inventory too",
            target.name, target.port
        );
        Err(Refusal::invalid("port", because))
    }

    /// The target at an address: one of the inventory that the caller may see, or else what the rules for addresses give.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] when neither is there or the caller may not see it: these cannot be told apart.
    pub fn find_address(&self, caller: &Caller, address: IpAddr, port: u16) -> Result<Arc<Target>, Refusal> {
        let address = address.to_canonical();
        let at = |target: &Arc<Target>| {
            let same = target.address.parse().is_ok_and(|own: IpAddr| own.to_canonical() == address);
            same && target.port == port
        };
        if let Some(target) = self.targets(caller).into_iter().find(at) {
            return Ok(target);
        }
        let open = self.directory.rules().egress.target(address, port).map(Arc::new);
        open.filter(|target| self.may(caller, Action::ReadTarget, target))
            .ok_or_else(|| Refusal::not_found("target", format!("{address} port {port}")))
    }

    /// Whether addresses may be reached that no target has, by anybody.
    #[must_use]
    pub fn reaches_addresses(&self) -> bool {
        self.directory.rules().egress.is_open()
    }

    /// Whether the caller may do `action` on `target` by the rules of this moment.
    ///
    /// # Errors
    /// [`Refusal::Denied`], and the denial is put on record.
    pub async fn permit(&self, caller: &Caller, action: Action, target: &Target) -> Result<(), Refusal> {
        if self.may(caller, action, target) {
            return Ok(());
        }
        Err(self.denials.deny(caller, action, None, Some(target.name.as_str())).await)
    }

    fn may(&self, caller: &Caller, action: Action, target: &Target) -> bool {
        let rules = self.directory.rules();
        // The principal as the inventory has it now: groups and keys may have changed since the proof.
        let Some(principal) = caller.as_of(&rules.inventory) else { return false };
        let client = caller.contact().address.ip();
        rules.permit(&Question { principal, action, resource: Resource::Target(target), client })
    }

    /// Admits a session: policy first (any of the ways to connect for a session whose purpose is not known yet), then
    /// the limits, then the durable row.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::Invalid`] for a login that the target has not, [`Refusal::LimitReached`],
    /// [`Refusal::Unavailable`] while the node stops or when the store cannot be written.
    pub async fn admit(&self, caller: &Caller, ask: Ask) -> Result<Admission, Refusal> {
        self.admit_within(caller, ask, SessionLimits::default()).await
    }

    /// As [`Gate::admit`], with limits of the session's own; those of the node hold beside them.
    ///
    /// # Errors
    /// As [`Gate::admit`].
    pub async fn admit_within(&self, caller: &Caller, ask: Ask, limits: SessionLimits) -> Result<Admission, Refusal> {
        if !self.is_open() {
            return Err(Refusal::unavailable("the bastion is stopping; it", "draining"));
        }
        // INVARIANT: what would be recorded must be able to reach its sinks; a session that nobody could account for
        // does not begin.
        accountable(&self.sinks).inspect_err(|refusal| {
            tracing::error!(?refusal, "a session is refused because a sink is too far behind");
        })?;
        let wanted = match (&ask.login, ask.kind) {
            (None, _) => Action::OpenTunnel,
            (Some(_), Kind::Shell) => Action::OpenShell,
            (Some(_), Kind::Exec) => Action::OpenExec,
            (Some(_), Kind::Sftp) => Action::OpenSftp,
            (Some(_), Kind::Tunnel) => Action::ALL
                .iter()
                .copied()
                .find(|action| action.is_connect() && self.may(caller, *action, &ask.target))
                .unwrap_or(Action::OpenShell),
        };
        self.permit(caller, wanted, &ask.target).await?;
        let way = match &ask.login {
            None => None,
            Some(login) => Some(
                ask.target
                    .way(Some(login))
                    .ok_or_else(|| Refusal::invalid("login", format!("{login} is not offered on {}", ask.target.name)))?
                    .clone(),
            ),
        };
        let id = SessionId::new(caller.name(), u64::from_be_bytes(random_bytes()));
        let target = self.logged(&ask)?;
        let live = Live::new(id.clone(), caller, target, ask.kind, ask.login.clone(), ask.client, limits);
        if !(ask.kind == Kind::Tunnel && ask.login.is_some()) {
            live.uses(wanted);
        }
        let draft = Draft {
            id,
            principal: caller.name().clone(),
            groups: caller.principal().groups.clone(),
            auth: caller.method(),
            client_address: canonical(caller.contact().address),
            client_software: printable(&caller.contact().software, SOFTWARE_CHARS_MAX),
            target: ask.target.snapshot(),
            login: ask.login,
            protocol: ask.target.protocol,
            kind: ask.kind,
            document: ask.document,
            reason: ask.reason,
            duration_max: limits.duration_max,
            recording_rule: Some(live.target.recording.mode),
            logs: ask.logs,
            node: self.supervisor.config.node.clone(),
            epoch: self.supervisor.epoch,
            tags: BTreeMap::default(),
        };
        let unclaimed = self.supervisor.open(Arc::clone(&live), draft).await?;
        let admission = Admission { live: unclaimed.claim(), way, caller: caller.clone(), gate: self.clone() };
        // Now that the session is in the registry, a stop or a reload sees it; one that came before is seen here.
        if !self.is_open() {
            admission.live.end(Ending::new(EndReason::NodeStopped, Actor::System, ""));
            return Err(Refusal::unavailable("the bastion is stopping; it", "draining"));
        }
        if let Err(refusal) = self.still_permits(&admission.live) {
            admission.live.end(Ending::new(EndReason::RightsRevoked, Actor::System, &refusal.to_string()));
            return Err(refusal);
        }
        if let Some(id) = caller.credential()
            && self.supervisor.store.credential(id).await?.is_some_and(|credential| credential.revoked.is_some())
        {
            admission.live.end(revoked(id, Actor::System));
            return Err(Refusal::Unauthenticated { because: "the credential is revoked" });
        }
        Ok(admission)
    }

    /// The target of a session, with a rule by which all is recorded that its logs are made of.
    ///
    /// INVARIANT: a session whose output is wanted somewhere has that output recorded, or does not begin, or ends.
    fn logged(&self, ask: &Ask) -> Result<Arc<Target>, Refusal> {
        let Some(first) = ask.logs.first() else { return Ok(Arc::clone(&ask.target)) };
        let recordings = self.supervisor.recordings.as_ref();
        let missing = match recordings {
            None => Some(first),
            Some(recordings) => ask.logs.iter().find(|place| !recordings.logs().has(place)),
        };
        if let Some(place) = missing {
            let because = format!("nothing takes the output of sessions for {}", place.holder);
            return Err(Refusal::unavailable("logging the output of the session", because));
        }
        let mut target = Target::clone(&ask.target);
        target.recording.mode = Mode::Full;
        target.recording.output = true;
        target.recording.when_broken = WhenBroken::End;
        Ok(Arc::new(target))
    }

    /// Whether a live session would still be admitted as it is used: the principal and its key are there, the target is
    /// the same machine and still offers the login, and every right in use is still given.
    pub(crate) fn still_permits(&self, live: &Live) -> Result<(), Refusal> {
        let rules = self.directory.rules();
        let Some(principal) = still_known(&rules.inventory, &live.principal, live.ssh_key.as_ref()) else {
            return Err(Refusal::not_found("principal", &live.principal));
        };
        let target = as_of(&rules, &live.target)?;
        if let Some(login) = &live.login
            && target.way(Some(login)).is_none()
        {
            return Err(Refusal::Conflict { because: format!("{} offers no login {login} any more", target.name) });
        }
        let forbidden = |action: &Action| {
            let resource = Resource::Target(&target);
            rules.forbid(&Question { principal, action: *action, resource, client: live.client })
        };
        let used = live.used();
        let lost = if used.is_empty() {
            // Nothing was opened yet: it may stay as long as any way to connect is left.
            let mut ways = Action::ALL.iter().filter(|action| action.is_connect());
            if ways.any(|action| !forbidden(action)) { None } else { Some(Action::OpenShell) }
        } else {
            used.into_iter().find(forbidden)
        };
        match lost {
            None => Ok(()),
            Some(action) => {
                Err(Refusal::Denied { action, because: format!("no policy permits it on {} any more", target.name) })
            }
        }
    }
}

/// The target of a live session as `rules` have it.
fn as_of(rules: &Rules, was: &Target) -> Result<Arc<Target>, Refusal> {
    let by_address = || was.address.parse().ok().and_then(|at| rules.egress.target(at, was.port)).map(Arc::new);
    let target = match rules.inventory.target(was.name.as_str()).cloned().or_else(by_address) {
        Some(target) if target.name == was.name => target,
        Some(_) | None => return Err(Refusal::not_found("target", &was.name)),
    };
    if (&target.address, target.port, &target.host_keys) != (&was.address, was.port, &was.host_keys) {
        return Err(Refusal::Conflict { because: format!("{} is another machine now", target.name) });
    }
    Ok(target)
}

/// An IPv4 address that came in through an IPv6 socket counts as what it is, so that filters and policies meet it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The permission to run one session, and the session itself. Not `Clone`; dropping it ends the session.
pub struct Admission {
    live: Arc<Live>,
    way: Option<LoginWay>,
    caller: Caller,
    gate: Gate,
}

impl Admission {
    /// The session's id.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.live.id
    }

    /// Where it leads.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.live.target
    }

    /// How Ravelin logs in there; `None` for a tunnel.
    #[must_use]
    pub fn way(&self) -> Option<&LoginWay> {
        self.way.as_ref()
    }

    /// Whose it is.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Hands over the target's side. To be called before the first byte from the target is used.
    pub fn attach_target(&self, leg: Arc<dyn Leg>) {
        self.live.attach_target(leg);
    }

    /// The target is reached and logged in to.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when the session was asked to end meanwhile; what the store refuses.
    pub async fn connected(&self) -> Result<(), Refusal> {
        self.gate.supervisor.store.apply(&self.live.id, vec![Event::Connected]).await?;
        self.live.connected.store(true, Ordering::Release);
        Ok(())
    }

    /// Reaches the target and logs in, with the engine's hand on the socket before its first byte. A session that logs in
    /// nowhere cannot.
    ///
    /// # Errors
    /// [`Unreached`] says who is to blame. The session has not ended by it.
    pub async fn reach(&self, dialer: &dyn Dialer) -> Result<Reached, Unreached> {
        let Some(way) = &self.way else {
            return Err(Unreached::new(EndReason::InternalError, "a session that logs in has no login"));
        };
        let hold = |leg| self.live.attach_target(leg);
        match dialer.dial(&self.live.target, way, &hold).await {
            Ok(far) => Ok(Reached::new(far, self.live.ended.clone())),
            Err(unreached) => {
                egress::before_the_end(&self.live.ended).await;
                Err(unreached)
            }
        }
    }

    /// Opens something on a target that was reached, after the policy has permitted it. What the session is for is noted
    /// with the first program.
    ///
    /// # Errors
    /// [`NotOpened::Refused`] when the policy says no, or what the target says.
    pub async fn open(&self, reached: &Reached, opening: Opening) -> Result<Duct, NotOpened> {
        self.permit(opening.action()).await.map_err(NotOpened::Refused)?;
        // INVARIANT: whoever opens something on a target gets it through the recording, whatever they do with it then.
        let relay = self.relay().channel(opening.purpose()).await;
        if relay.is_over() {
            return Err(NotOpened::Lost);
        }
        Ok(relay.through(reached.open(opening).await?))
    }

    /// The client's side is there: for a session that was admitted before its client came.
    pub fn attach_client(&self, leg: Arc<dyn Leg>) {
        self.live.attach_client(leg);
    }

    /// The client's leg is lost and may come back, within [`crate::Config::disconnected_max`]. Nothing but the target's
    /// leg is held from now on, and a kill needs no other.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when the session is not connected, or was asked to end meanwhile; what the store refuses.
    pub async fn disconnected(&self) -> Result<(), Refusal> {
        self.live.detach_client();
        self.gate.supervisor.store.apply(&self.live.id, vec![Event::Disconnected]).await.map(|_| ())
    }

    /// The client came back with another leg.
    ///
    /// # Errors
    /// [`Refusal::Conflict`] when the session is not disconnected; what the store refuses.
    pub async fn resumed(&self, leg: Arc<dyn Leg>) -> Result<(), Refusal> {
        self.live.attach_client(leg);
        self.gate.supervisor.store.apply(&self.live.id, vec![Event::Resumed]).await.map(|_| ())
    }

    /// Asks for one more way to use the session, such as a channel of another kind, and notes what the session is
    /// for if that was not known.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; [`Refusal::NotFound`] or [`Refusal::Conflict`] when the target is gone or another machine now;
    /// what the store refuses.
    pub async fn permit(&self, action: Action) -> Result<(), Refusal> {
        self.permits(action).await?;
        self.live.uses(action);
        // Once more: rules that came into force before the use was noted have not looked at it.
        self.permits(action).await?;
        let kind = match action {
            Action::OpenShell => Kind::Shell,
            Action::OpenExec => Kind::Exec,
            Action::OpenSftp => Kind::Sftp,
            Action::OpenTunnel
            | Action::ForwardLocal
            | Action::ForwardRemote
            | Action::ForwardAgent
            | Action::ReadTarget
            | Action::ListSessions
            | Action::WatchEvents
            | Action::ReadSession
            | Action::TerminateSession
            | Action::ResumeSession
            | Action::ReadDocuments
            | Action::ManageDocuments
            | Action::ReadSettings
            | Action::ManageSettings
            | Action::WatchSession
            | Action::PlayRecording
            | Action::ExportRecording
            | Action::HoldRecording
            | Action::SearchRecordings
            | Action::ReadBastion
            | Action::WriteBastion
            | Action::ListCredentials
            | Action::IssueCredential
            | Action::RevokeCredential
            | Action::ExportAudit
            | Action::ReadSinks => return Ok(()),
        };
        if self.live.kind() == Kind::Tunnel {
            self.live.classify(kind);
            self.gate.supervisor.store.apply(&self.live.id, vec![Event::Classified { kind }]).await?;
        }
        Ok(())
    }

    /// Asks the rules of this moment, of the target as they have it: who shares it, and its labels, may have changed since
    /// the session began.
    async fn permits(&self, action: Action) -> Result<(), Refusal> {
        let target = as_of(&self.gate.directory.rules(), &self.live.target)?;
        self.gate.permit(&self.caller, action, &target).await
    }

    /// The relay that moves this session's units.
    #[must_use]
    pub fn relay(&self) -> Relay {
        Relay::new(Arc::clone(&self.live), self.gate.supervisor.recordings.clone())
    }

    /// Resolves when the session was asked to end, by whomever. Its sockets are being closed then.
    pub async fn ending(&self) -> Ending {
        self.live.ended.cancelled().await;
        self.live.ending().unwrap_or_else(|| Ending::new(EndReason::InternalError, Actor::System, "no reason given"))
    }

    /// Ends the session and returns when both sockets are closed and the row says so. The first reason that anybody
    /// gave stands.
    pub async fn end(self, reason: EndReason, detail: &str) -> Ending {
        let actor = match reason {
            EndReason::ClientClosed => Actor::Principal(self.live.principal.clone()),
            EndReason::TargetClosed | EndReason::TargetUnreachable | EndReason::AuthFailed => {
                Actor::Target(self.live.target.name.clone())
            }
            EndReason::DisconnectedByOperator
            | EndReason::IdleLimit
            | EndReason::DurationLimit
            | EndReason::RightsRevoked
            | EndReason::NodeStopped
            | EndReason::NodeLost
            | EndReason::Denied
            | EndReason::RecordingFailed
            | EndReason::ProtocolError
            | EndReason::InternalError => Actor::System,
        };
        self.live.end(Ending::new(reason, actor, detail));
        self.live.wait_done().await.ending
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.live.end(Ending::new(
            EndReason::InternalError,
            Actor::System,
            "the connection's task stopped without giving a reason",
        ));
    }
}
