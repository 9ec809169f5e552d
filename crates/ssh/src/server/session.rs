//! One terminating session: its admission, its target, and what its channels may ask of it.
//!
//! A task owns the [`Admission`] and nothing else does. Channels hold a [`Line`] to it: they ask for permissions, wait
//! for the target, and learn when it is over. The task holds no half of any socket, because it waits at the end until
//! both are closed.

use super::connection::{CLOSING, Connection, ConnectionLeg, Counted};
use super::forward;
use crate::client::{self, Link, Tuning, Unreached};
use crate::units::LastExit;
use crate::user::Wish;
use ravelin_engine::Admission;
use ravelin_engine::gate::Ask;
use ravelin_engine::leg::Leg;
use ravelin_engine::relay::Relay;
use ravelin_model::policy::Action;
use ravelin_model::session::{EndReason, Kind};
use ravelin_model::target::{LoginProof, LoginWay, Protocol};
use ravelin_model::{Refusal, Target};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Asked but not yet answered requests of a session's channels.
const REQUESTS_MAX: usize = 16;

/// How long a lost target's last words may take to the client.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// How long a target may take to hear that a session is over.
const LEAVE_MAX: Duration = Duration::from_millis(10);

/// How long a client may take to lend its agent.
const AGENT_MAX: Duration = Duration::from_secs(10);

/// How long a connection to nowhere may stay without opening a channel to read the reason on.
const SILENT_MAX: Duration = Duration::from_secs(2);

/// Refused forwards of one session whose reasons are kept for its first program.
const NOTES_MAX: usize = 8;

/// Why a forward is refused to whoever has not lent the agent that the target is logged in to with.
const NEEDS_AGENT: &str = "the login on this target needs your own agent, which comes with a shell or a command: open one \
                           with ssh -A, and ask for the forward then";

/// A channel's hold on its session.
#[derive(Clone)]
pub(super) struct Line {
    requests: mpsc::Sender<Request>,
    reach: watch::Receiver<Reach>,
    ended: CancellationToken,
    pumps: TaskTracker,
    exit: LastExit,
    // What the first program shows before it runs; `None` once it has.
    notes: Arc<Mutex<Option<Vec<String>>>>,
}

/// A target that is there.
pub(super) struct Up {
    pub(super) link: Link,
    pub(super) relay: Relay,
    lends_agent: AtomicBool,
}

impl Up {
    /// The client's agent may be used by the target from now on.
    pub(super) fn lend_agent(&self) {
        self.lends_agent.store(true, Ordering::Release);
    }

    pub(super) fn lends_agent(&self) -> bool {
        self.lends_agent.load(Ordering::Acquire)
    }
}

#[derive(Clone)]
enum Reach {
    Waiting,
    Up(Arc<Up>),
    Refused(Arc<str>),
    Over,
}

/// Why a channel does not get what it asked its session for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The answer is no, for this reason; the channel says so to the person.
    Refused(String),
    /// The session is over. The engine's farewell tells the person why.
    Over,
}

enum Request {
    Permit { action: Action, answer: oneshot::Sender<Result<(), Refusal>> },
    Target,
    // The same for whoever brings no agent. Answered with whether the target is there or being reached.
    TargetWithoutAgent { answer: oneshot::Sender<bool> },
}

/// The task's end of a [`Line`].
pub(super) struct LineEnd {
    requests: mpsc::Receiver<Request>,
    reach: watch::Sender<Reach>,
    ended: CancellationToken,
    pumps: TaskTracker,
    exit: LastExit,
    owns_connection: bool,
}

/// Both ends of a new line. A session that owns its connection ends with it, any other with its last channel.
pub(super) fn line(owns_connection: bool) -> (Line, LineEnd) {
    let (requests, requests_receiver) = mpsc::channel(REQUESTS_MAX);
    let (reach, reach_receiver) = watch::channel(Reach::Waiting);
    let (ended, pumps, exit) = (CancellationToken::new(), TaskTracker::new(), LastExit::default());
    let line = Line {
        requests,
        reach: reach_receiver,
        ended: ended.clone(),
        pumps: pumps.clone(),
        exit: exit.clone(),
        notes: Arc::new(Mutex::new(Some(Vec::new()))),
    };
    (line, LineEnd { requests: requests_receiver, reach, ended, pumps, exit, owns_connection })
}

impl Line {
    /// Asks for one more way to use the session.
    pub(super) async fn permit(&self, action: Action) -> Result<(), Missing> {
        let (answer, answered) = oneshot::channel();
        if self.requests.send(Request::Permit { action, answer }).await.is_err() {
            return Err(self.missing());
        }
        match answered.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(refusal)) => Err(Missing::Refused(refusal.to_string())),
            Err(_) => Err(self.missing()),
        }
    }

    /// Waits for the target.
    pub(super) async fn target(&self) -> Result<Arc<Up>, Missing> {
        // Fails only when the session is over, and then the wait below says so.
        let _over = self.requests.send(Request::Target).await;
        self.reached().await
    }

    /// Waits for the target on behalf of a forward, which may come before the channel that lends an agent. Where the
    /// login needs one, that must not fail the session: the forward is refused.
    pub(super) async fn target_of_forward(&self) -> Result<Arc<Up>, Missing> {
        let (answer, answered) = oneshot::channel();
        let _over = self.requests.send(Request::TargetWithoutAgent { answer }).await;
        match answered.await {
            Ok(false) => Err(Missing::Refused(NEEDS_AGENT.to_owned())),
            // No answer comes when the session is over, and then the wait says so.
            Ok(true) | Err(_) => self.reached().await,
        }
    }

    async fn reached(&self) -> Result<Arc<Up>, Missing> {
        let mut reach = self.reach.clone();
        loop {
            match &*reach.borrow_and_update() {
                Reach::Waiting => {}
                Reach::Up(up) => return Ok(Arc::clone(up)),
                Reach::Refused(text) => return Err(Missing::Refused(text.to_string())),
                Reach::Over => return Err(Missing::Over),
            }
            if reach.changed().await.is_err() {
                return Err(self.missing());
            }
        }
    }

    fn missing(&self) -> Missing {
        match &*self.reach.borrow() {
            Reach::Refused(text) => Missing::Refused(text.to_string()),
            Reach::Waiting | Reach::Up(_) | Reach::Over => Missing::Over,
        }
    }

    /// Keeps what could not be told where it happened for the first program's channel.
    pub(super) fn note(&self, text: String) {
        if let Some(notes) = &mut *self.notes.lock().unwrap_or_else(PoisonError::into_inner)
            && notes.len() < NOTES_MAX
        {
            notes.push(text);
        }
    }

    /// What was kept, for the first who asks.
    pub(super) fn take_notes(&self) -> Vec<String> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }

    /// Resolves when the session was asked to end.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// To be held while a channel may still have something from the target for the client.
    pub(super) fn pump(&self) -> tokio_util::task::task_tracker::TaskTrackerToken {
        self.pumps.token()
    }

    /// Where a program's end is noted.
    pub(super) fn exit(&self) -> LastExit {
        self.exit.clone()
    }
}

/// Runs the session of a connection whose user name says where to.
pub(super) async fn run_named(connection: Arc<Connection>, wish: Wish, end: LineEnd) {
    let Some(counted) = connection.count_session() else {
        return refuse(connection, CLOSING, end).await;
    };
    let leg = Arc::new(ConnectionLeg(Arc::clone(&connection)));
    // Boxed, as are others below: a session's task keeps room for the largest of what it ever does, and a session lasts.
    match Box::pin(admit(&connection, wish, leg)).await {
        Ok(admission) => run(connection, admission, end, counted).await,
        Err(text) => Box::pin(refuse(connection, &text, end)).await,
    }
}

/// What is said of a target that is not there or may not be seen. One text, whichever it is.
pub(super) fn not_found(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).take(128).collect();
    format!("target {name:?} was not found, or you may not use it")
}

/// Asks the gate, in words for the person when it says no.
pub(super) async fn admit(connection: &Arc<Connection>, wish: Wish, client: Arc<dyn Leg>) -> Result<Admission, String> {
    let (login, name) = match wish {
        Wish::Target { login, name } => (login, name),
        Wish::Unreadable { because } => return Err(format!("cannot read where you want to go: {because}")),
        Wish::Open => return Err("no target was named".to_owned()),
    };
    let gate = &connection.shared.gate;
    let target = gate.find(&connection.caller, &name).map_err(|refusal| in_words(&refusal, &name))?;
    if target.protocol != Protocol::Ssh {
        return Err(format!("{} speaks {}, not ssh: reach it with ssh -L or -J", target.name, target.protocol));
    }
    let login = match (login, target.logins.first()) {
        (Some(login), _) => login,
        (None, Some(way)) => way.login.clone(),
        (None, None) => return Err(format!("{} has no login of its own here: use ssh -J", target.name)),
    };
    let ask =
        Ask { target, login: Some(login), kind: Kind::Tunnel, document: None, reason: None, logs: Vec::new(), client };
    gate.admit(&connection.caller, ask).await.map_err(|refusal| in_words(&refusal, &name))
}

fn in_words(refusal: &Refusal, name: &str) -> String {
    match refusal {
        Refusal::NotFound { .. } => not_found(name),
        Refusal::Denied { .. }
        | Refusal::Unauthenticated { .. }
        | Refusal::Invalid { .. }
        | Refusal::Conflict { .. }
        | Refusal::LimitReached { .. }
        | Refusal::Unavailable { .. }
        | Refusal::Internal { .. } => {
            if let Some(detail) = refusal.detail() {
                tracing::error!(detail = detail.for_log(), "a session was not admitted");
            }
            refusal.to_string()
        }
    }
}

/// Says no on every channel that comes, and closes a connection that opens none.
async fn refuse(connection: Arc<Connection>, text: &str, end: LineEnd) {
    end.reach.send_replace(Reach::Refused(Arc::from(text)));
    let LineEnd { mut requests, .. } = end;
    // A request means that somebody is there to read the answer, and then leaves by themselves. Its sender learns the
    // reason from the line, once the request is dropped.
    let silent = tokio::time::timeout(SILENT_MAX, requests.recv()).await.is_err();
    requests.close();
    drop(requests);
    if !silent {
        let _gone = tokio::time::timeout(SILENT_MAX, connection.gone()).await;
    }
    connection.dismiss(text).await;
}

/// Sees an admitted session to its end.
pub(super) async fn run(connection: Arc<Connection>, admission: Admission, mut end: LineEnd, counted: Counted) {
    let (reason, detail) = carry(&connection, &admission, &mut end).await;
    // Whoever waits for a target waits no longer; whoever has one learns of the end by the next line.
    end.reach.send_replace(Reach::Over);
    end.ended.cancel();
    let ending = admission.end(reason, &detail).await;
    tracing::debug!(reason = ending.reason.word(), "a session's task is done");
    drop(counted);
}

/// From the dial to the moment at which the session has to end.
async fn carry(connection: &Arc<Connection>, admission: &Admission, end: &mut LineEnd) -> (EndReason, String) {
    let target = Arc::clone(admission.target());
    let Some(way) = admission.way().cloned() else {
        return (EndReason::InternalError, "a session that logs in has no login".to_owned());
    };
    // Whoever lends an agent has to open a channel first; nobody else waits for one.
    let mut wanted = !matches!(way.proof, LoginProof::ForwardedAgent);
    // Let go of when it is done: what logging in needs is much, and a session lasts.
    let mut reaching = Some(Box::pin(reach(connection, admission, &target, &way)));
    let mut up: Option<Arc<Up>> = None;
    let mut inbound = None;
    loop {
        let lost = async {
            match &up {
                Some(up) => up.link.lost().await,
                None => std::future::pending().await,
            }
        };
        let arrived = async {
            match &mut inbound {
                Some(inbound) => forward::next(inbound).await,
                None => std::future::pending().await,
            }
        };
        let reached = async {
            match &mut reaching {
                Some(reaching) if wanted => reaching.await,
                Some(_) | None => std::future::pending().await,
            }
        };
        tokio::select! {
            ending = admission.ending() => return (ending.reason, ending.detail),
            _gone = connection.gone() => return Box::pin(left(connection, end, up.as_deref())).await,
            reached = reached => match reached {
                Ok(link) => {
                    reaching = None;
                    if let Err(refusal) = admission.connected().await {
                        return (EndReason::InternalError, refusal.to_string());
                    }
                    inbound = link.take_inbound();
                    let there = Arc::new(Up { link, relay: admission.relay(), lends_agent: AtomicBool::new(false) });
                    end.reach.send_replace(Reach::Up(Arc::clone(&there)));
                    up = Some(there);
                }
                Err(unreached) => return (unreached.reason, unreached.detail),
            },
            unreached = lost => {
                end.pumps.close();
                let _slow = tokio::time::timeout(DRAIN_MAX, end.pumps.wait()).await;
                return (unreached.reason, unreached.detail);
            }
            arrival = arrived => match (arrival, &up) {
                (Some(arrival), Some(up)) => forward::bridge(connection, arrival, up),
                (Some(_), None) | (None, _) => inbound = None,
            },
            request = end.requests.recv() => match request {
                Some(Request::Permit { action, answer }) => {
                    let permitted = tokio::select! {
                        permitted = admission.permit(action) => permitted,
                        ending = admission.ending() => return (ending.reason, ending.detail),
                    };
                    // Whoever asked may have left.
                    let _left = answer.send(permitted);
                }
                Some(Request::Target) => wanted = true,
                Some(Request::TargetWithoutAgent { answer }) => {
                    wanted |= connection.entry.offers_agent();
                    let _left = answer.send(wanted);
                }
                None => return Box::pin(left(connection, end, up.as_deref())).await,
            },
        }
    }
}

/// The client has left: the whole connection, or the one channel that the session had.
async fn left(connection: &Connection, end: &LineEnd, up: Option<&Up>) -> (EndReason, String) {
    if let Some(up) = up {
        let _slow = tokio::time::timeout(LEAVE_MAX, up.link.take_leave()).await;
    }
    let (reason, detail) = if end.owns_connection {
        let gone = connection.gone().await;
        (gone.reason, gone.detail)
    } else {
        (EndReason::ClientClosed, String::new())
    };
    (reason, if detail.is_empty() { end.exit.text() } else { detail })
}

/// Dials the target and logs in.
async fn reach(
    connection: &Arc<Connection>,
    admission: &Admission,
    target: &Arc<Target>,
    way: &LoginWay,
) -> Result<Link, Unreached> {
    let cannot =
        |unreached: Unreached| Unreached { detail: format!("{}: {}", target.name, unreached.detail), ..unreached };
    let dialled = client::dial(target).await.map_err(cannot)?;
    admission.attach_target(dialled.leg());
    let agent = match way.proof {
        LoginProof::ForwardedAgent if connection.entry.offers_agent() => {
            let opening = connection.handle.channel_open_agent();
            tokio::time::timeout(AGENT_MAX, opening).await.ok().and_then(Result::ok)
        }
        LoginProof::ForwardedAgent | LoginProof::Key(_) | LoginProof::Password(_) => None,
    };
    let agent_id = agent.as_ref().map(russh::Channel::id);
    let agent = agent.map(russh::Channel::into_stream);
    let keepalive_interval = connection.shared.config.keepalive_interval;
    let outcome = dialled.log_in(target, way, agent, Tuning::for_ssh(keepalive_interval)).await.map_err(cannot);
    if let Some(id) = agent_id {
        connection.entry.backlog.close(id);
    }
    outcome
}
