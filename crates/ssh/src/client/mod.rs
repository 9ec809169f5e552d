//! Ravelin goes out: a connection to a target over SSH, with the host key pinned and the login from the inventory.
//!
//! [`dial`] opens the socket, so that the engine can have it under its hand before the target says a word;
//! [`Dialled::log_in`] does the rest. This module never knows who asked, or why.

mod dialer;
mod handler;

use crate::backlog::{Backlog, QUEUE_MESSAGES, WINDOW_BYTES};
use crate::wire::{Brake, SILENCES_MAX, Watch, Wire};
use crate::{algorithms, in_words, keys};
use async_trait::async_trait;
use handler::{Seen, TargetHandler};
use ravelin_engine::egress;
use ravelin_engine::leg::{GuardedStream, Leg, SocketHandle, guard};
use ravelin_model::Target;
use ravelin_model::session::EndReason;
use ravelin_model::target::{LoginProof, LoginWay};
use russh::client::{AuthResult, Handle, KeyboardInteractiveAuthResponse};
use russh::keys::agent::client::AgentClient;
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg};
use russh::{Channel, ChannelStream, Disconnect, MethodKind, SshId, client, server};
use secrecy::{ExposeSecret, SecretString};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

pub use dialer::Dialer;
pub(crate) use handler::Inbound;
pub use handler::WRONG_HOST_KEY;
pub(crate) use ravelin_engine::egress::Unreached;

/// How long a target may take from the first byte to the accepted login.
const LOGIN_MAX: Duration = Duration::from_secs(15);

/// Keys of an agent that are tried on a target; most servers allow six attempts.
const AGENT_KEYS_MAX: usize = 6;

/// Questions of a target's keyboard-interactive login that are answered.
const QUESTIONS_MAX: usize = 4;

/// Channels that a target has opened and that nobody has looked at yet.
const INBOUND_MAX: usize = 64;

/// Reading from a target stops above this; its windows cannot be held back.
const PAUSE_BYTES: u32 = 2 * 1024 * 1024;

/// How a target's connection is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    /// A target that was silent for this long is asked whether it is there.
    pub(crate) keepalive_interval: Duration,
    /// The receive window of a channel.
    pub(crate) window_bytes: u32,
    /// Reading stops above this; windows cannot be held back.
    pub(crate) pause_bytes: u32,
}

impl Tuning {
    /// For a client that speaks SSH as well.
    pub(crate) fn for_ssh(keepalive_interval: Duration) -> Self {
        Self { keepalive_interval, window_bytes: WINDOW_BYTES, pause_bytes: PAUSE_BYTES }
    }
}

/// A socket to a target on which nothing was said yet.
pub(crate) struct Dialled {
    stream: GuardedStream,
    leg: TargetLeg,
}

/// Opens the socket.
pub(crate) async fn dial(target: &Target) -> Result<Dialled, Unreached> {
    let unreached = |error: std::io::Error| Unreached::new(EndReason::TargetUnreachable, in_words(&error));
    let (stream, socket) = guard(egress::dial(target).await.map_err(unreached)?);
    Ok(Dialled { stream, leg: TargetLeg { socket } })
}

impl Dialled {
    /// For the engine's hand.
    pub(crate) fn leg(&self) -> Arc<dyn Leg> {
        Arc::new(self.leg.clone())
    }

    /// The bytes themselves, for a tunnel.
    pub(crate) fn into_stream(self) -> GuardedStream {
        self.stream
    }

    /// Speaks SSH and logs in. `agent` is the person's own, for the way that needs it.
    pub(crate) async fn log_in(
        self,
        target: &Target,
        way: &LoginWay,
        agent: Option<ChannelStream<server::Msg>>,
        tuning: Tuning,
    ) -> Result<Link, Unreached> {
        let seen = Arc::new(Seen::default());
        let logging_in = self.handshake(target, way, agent, tuning, Arc::clone(&seen));
        match tokio::time::timeout(LOGIN_MAX, logging_in).await {
            Ok(outcome) => outcome,
            Err(_) => {
                Err(Unreached::new(EndReason::TargetUnreachable, format!("no login within {} s", LOGIN_MAX.as_secs())))
            }
        }
    }

    async fn handshake(
        self,
        target: &Target,
        way: &LoginWay,
        agent: Option<ChannelStream<server::Msg>>,
        tuning: Tuning,
        seen: Arc<Seen>,
    ) -> Result<Link, Unreached> {
        let Dialled { stream, leg } = self;
        let watch = Arc::new(Watch::default());
        let backlog = Backlog::new(tuning.pause_bytes);
        let silence_max = tuning.keepalive_interval * SILENCES_MAX;
        // A target is known: its bytes before login are bounded by time only.
        let wire = Wire::new(stream, Arc::clone(&watch), Arc::clone(&backlog), Brake::Stop, silence_max, u64::MAX);
        let (inbound, inbound_receiver) = mpsc::channel(INBOUND_MAX);
        let handler = TargetHandler {
            pinned: target.host_keys.clone(),
            seen: Arc::clone(&seen),
            backlog: Arc::clone(&backlog),
            inbound,
        };
        let config = Arc::new(client::Config {
            client_id: SshId::Standard(Cow::Borrowed(crate::SOFTWARE)),
            window_size: tuning.window_bytes,
            channel_buffer_size: QUEUE_MESSAGES,
            preferred: algorithms::outgoing(&target.host_keys),
            keepalive_interval: Some(tuning.keepalive_interval),
            // The wire counts.
            keepalive_max: 0,
            nodelay: true,
            ..client::Config::default()
        });
        // Whatever goes wrong from here on, the library's loop must not outlive it.
        let cut = CutOnDrop(Some(leg.socket.clone()));
        let mut handle = client::connect_stream(config, wire, handler)
            .await
            .map_err(|error| seen.unreached_by(&target.host_keys, &error))?;
        let login = way.login.as_str();
        let accepted = match &way.proof {
            LoginProof::Key(pem) => by_key(&mut handle, login, pem).await,
            LoginProof::Password(password) => by_password(&mut handle, login, password).await,
            LoginProof::ForwardedAgent => match agent {
                Some(agent) => by_agent(&mut handle, login, agent).await,
                None => Err(Unreached::new(
                    EndReason::AuthFailed,
                    "the login on this target needs your own agent: connect with ssh -A",
                )),
            },
        }?;
        if !accepted {
            let detail = match seen.lost() {
                Some(lost) => format!("{login} was refused: {lost}"),
                None => format!("{login} was refused"),
            };
            return Err(Unreached::new(EndReason::AuthFailed, detail));
        }
        cut.keep();
        Ok(Link {
            handle,
            leg,
            watch,
            backlog,
            seen,
            inbound: Mutex::new(Some(inbound_receiver)),
            forwards: Mutex::default(),
        })
    }
}

struct CutOnDrop(Option<SocketHandle>);

impl CutOnDrop {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.cut();
        }
    }
}

fn broken(error: &russh::Error) -> Unreached {
    Unreached::new(EndReason::TargetUnreachable, format!("the connection broke during login: {error}"))
}

async fn by_key(handle: &mut Handle<TargetHandler>, login: &str, pem: &SecretString) -> Result<bool, Unreached> {
    let key = keys::read_private(pem)
        .map_err(|error| Unreached::new(EndReason::AuthFailed, format!("the key for this target: {error}")))?;
    let hash = rsa_hash(handle, &key.algorithm()).await?;
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = handle.authenticate_publickey(login, key).await.map_err(|e| broken(&e))?;
    Ok(answer.success())
}

/// SHA-2 for RSA, the strongest that the target names; SHA-1 never.
async fn rsa_hash(handle: &Handle<TargetHandler>, algorithm: &Algorithm) -> Result<Option<HashAlg>, Unreached> {
    if !matches!(algorithm, Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    let best = handle.best_supported_rsa_hash().await.map_err(|e| broken(&e))?;
    Ok(Some(best.flatten().unwrap_or(HashAlg::Sha256)))
}

async fn by_password(
    handle: &mut Handle<TargetHandler>,
    login: &str,
    password: &SecretString,
) -> Result<bool, Unreached> {
    let answer = handle.authenticate_password(login, password.expose_secret()).await.map_err(|error| broken(&error))?;
    match answer {
        AuthResult::Success => Ok(true),
        AuthResult::Failure { remaining_methods, .. }
            if remaining_methods.contains(&MethodKind::KeyboardInteractive) =>
        {
            by_question(handle, login, password).await
        }
        AuthResult::Failure { .. } => Ok(false),
    }
}

/// Many servers ask for the password as a question. Answered once, when it is the only one and is not echoed.
async fn by_question(
    handle: &mut Handle<TargetHandler>,
    login: &str,
    password: &SecretString,
) -> Result<bool, Unreached> {
    let mut answer =
        handle.authenticate_keyboard_interactive_start(login, None).await.map_err(|error| broken(&error))?;
    let mut given = false;
    for _ in 0..QUESTIONS_MAX {
        let prompts = match answer {
            KeyboardInteractiveAuthResponse::Success => return Ok(true),
            KeyboardInteractiveAuthResponse::Failure { .. } => return Ok(false),
            KeyboardInteractiveAuthResponse::InfoRequest { prompts, .. } => prompts,
        };
        let answers = match prompts.as_slice() {
            [] => Vec::new(),
            [only] if !only.echo && !given => {
                given = true;
                vec![password.expose_secret().to_owned()]
            }
            _ => return Ok(false),
        };
        answer = handle.authenticate_keyboard_interactive_respond(answers).await.map_err(|error| broken(&error))?;
    }
    Ok(false)
}

async fn by_agent(
    handle: &mut Handle<TargetHandler>,
    login: &str,
    agent: ChannelStream<server::Msg>,
) -> Result<bool, Unreached> {
    let failed = |error: russh::keys::Error| Unreached::new(EndReason::AuthFailed, format!("your agent: {error}"));
    let mut agent = AgentClient::connect(agent);
    let identities = agent.request_identities().await.map_err(failed)?;
    if identities.is_empty() {
        return Err(Unreached::new(EndReason::AuthFailed, "your agent holds no key: add one with ssh-add"));
    }
    for identity in identities.iter().take(AGENT_KEYS_MAX) {
        let key = identity.public_key().into_owned();
        let hash = rsa_hash(handle, &key.algorithm()).await?;
        match handle.authenticate_publickey_with(login, key, hash, &mut agent).await {
            Ok(answer) if answer.success() => return Ok(true),
            Ok(_) => {}
            // An agent may refuse one key, because it asks its owner, and sign with the next.
            Err(error) => tracing::debug!(%error, "the person's agent did not sign"),
        }
    }
    Ok(false)
}

/// A connection to a target, logged in.
pub(crate) struct Link {
    handle: Handle<TargetHandler>,
    leg: TargetLeg,
    watch: Arc<Watch>,
    backlog: Arc<Backlog>,
    seen: Arc<Seen>,
    inbound: Mutex<Option<mpsc::Receiver<Box<Inbound>>>>,
    // Address and port of what the target listens on for the client.
    forwards: Mutex<HashSet<(String, u32)>>,
}

impl Link {
    /// The counts of what came from the target.
    pub(crate) fn backlog(&self) -> &Arc<Backlog> {
        &self.backlog
    }

    /// Channels that the target opens, given once.
    pub(crate) fn take_inbound(&self) -> Option<mpsc::Receiver<Box<Inbound>>> {
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) async fn open_session(&self) -> Result<Channel<client::Msg>, russh::Error> {
        self.handle.channel_open_session().await
    }

    pub(crate) async fn open_direct(
        &self,
        host: &str,
        port: u32,
        originator: &str,
        originator_port: u32,
    ) -> Result<Channel<client::Msg>, russh::Error> {
        self.handle.channel_open_direct_tcpip(host, port, originator, originator_port).await
    }

    pub(crate) async fn open_socket(&self, path: &str) -> Result<Channel<client::Msg>, russh::Error> {
        self.handle.channel_open_direct_streamlocal(path).await
    }

    /// Has the target listen; returns the port.
    pub(crate) async fn listen(&self, address: &str, port: u32, forwards_max: usize) -> Result<u32, russh::Error> {
        if self.forwards().len() >= forwards_max {
            return Err(russh::Error::RequestDenied);
        }
        let given = self.handle.tcpip_forward(address, port).await?;
        let port = if port == 0 { given } else { port };
        self.forwards().insert((address.to_owned(), port));
        Ok(port)
    }

    /// Has the target stop listening.
    pub(crate) async fn stop_listening(&self, address: &str, port: u32) -> Result<(), russh::Error> {
        if !self.forwards().remove(&(address.to_owned(), port)) {
            return Err(russh::Error::RequestDenied);
        }
        self.handle.cancel_tcpip_forward(address, port).await
    }

    /// Whether the target was asked to listen on this port.
    pub(crate) fn listens(&self, port: u32) -> bool {
        self.forwards().iter().any(|(_, asked)| *asked == port)
    }

    fn forwards(&self) -> std::sync::MutexGuard<'_, HashSet<(String, u32)>> {
        self.forwards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes leave in the protocol's way; returns when it was written. The caller bounds the time.
    pub(crate) async fn take_leave(&self) {
        // Fails only when the target was faster.
        if self.handle.disconnect(Disconnect::ByApplication, "session ended", "en").await.is_ok() {
            self.watch.said_goodbye().await;
        }
    }

    /// Resolves when the connection is gone, with why.
    pub(crate) async fn lost(&self) -> Unreached {
        self.leg.socket.closed().await;
        self.seen.lost_reason()
    }
}

/// A target's socket for the engine's hand. Nobody sits at it, so nothing is told.
#[derive(Clone)]
struct TargetLeg {
    socket: SocketHandle,
}

#[async_trait]
impl Leg for TargetLeg {
    async fn tell(&self, _text: &str) {}

    async fn farewell(&self, _text: &str) {}

    fn cut(&self) {
        self.socket.cut();
    }

    async fn closed(&self) {
        self.socket.closed().await;
    }
}
