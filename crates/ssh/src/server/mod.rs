//! People come in: the listener, its limits, and what it is set to.
//!
//! The accept loop does nothing but accept. Each connection has a task of its own, in which everything else happens,
//! so that a slow or broken peer costs one connection.

mod connection;
mod crowd;
mod door;
mod forward;
mod handler;
mod menu;
mod program;
mod session;
mod tunnel;

use crate::backlog::{Backlog, QUEUE_MESSAGES, WINDOW_BYTES};
use crate::keys::{self, KeyError};
use crate::wire::{Brake, SILENCES_MAX, Watch, Wire};
use crate::{SOFTWARE, algorithms};
use connection::ClientEnd;
use crowd::Crowd;
use door::{Door, Ticket};
use handler::{ClientHandler, Entry};
use ravelin_engine::leg::{GuardedStream, SocketHandle, guard, prepare};
use ravelin_engine::{Gate, Identity};
use ravelin_model::principal::AuthMethod;
use russh::{MethodKind, MethodSet, SshId};
use secrecy::SecretString;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What an operator can set on the SSH listener. Every limit has a name and a unit.
#[derive(Clone)]
pub struct Config {
    /// Private keys that prove the bastion to clients, in OpenSSH form; at least one.
    pub host_keys: Vec<SecretString>,
    /// From the accepted connection to the accepted login.
    pub login_grace: Duration,
    /// What a client may send before its login is accepted.
    pub bytes_before_login_max: u64,
    /// Connections that have not logged in, in all. When there are more, the oldest is closed.
    pub unauthenticated_max: usize,
    /// The same for one address; for IPv6, for one network of 64 bits.
    pub unauthenticated_per_address_max: usize,
    /// Keys that a client may offer in vain.
    pub login_attempts_max: usize,
    /// A client that was silent for this long is asked whether it is there; after four times as long it is gone.
    pub keepalive_interval: Duration,
    /// Connections that have logged in, in all.
    pub connections_max: usize,
    /// The same for one principal.
    pub connections_per_principal_max: usize,
    /// How long a client may take to answer that it has read why its session ends. One that does not answer holds up the
    /// confirmation of the end for so long; its target is cut off before.
    pub answer_max: Duration,
    /// How long a connection may stay that has no session and no open channel. It is in no list.
    pub idle_connection_max: Duration,
    /// Channels that are open at once on one connection.
    pub channels_per_connection_max: usize,
    /// Channels that one connection may open in its life. The SSH library keeps about 3 KiB of each to the end.
    pub channels_per_life_max: usize,
    /// Ports that a target listens on for one connection.
    pub forwards_per_connection_max: usize,
    /// Environment variables for one program.
    pub variables_max: usize,
    /// Names and values of one program's environment variables, in all.
    pub variables_bytes_max: usize,
    /// Whether chacha20-poly1305 is offered. Most clients prefer it, and it costs more than twice as much as AES-GCM
    /// where the processor has AES. Without it, clients older than AES-GCM cannot connect.
    pub chacha20: bool,
    /// What everybody is shown before login.
    pub banner: Option<String>,
}

impl Config {
    /// The defaults of the example configuration.
    #[must_use]
    pub fn new(host_keys: Vec<SecretString>) -> Self {
        Self {
            host_keys,
            login_grace: Duration::from_secs(20),
            bytes_before_login_max: 256 * 1024,
            unauthenticated_max: 1024,
            unauthenticated_per_address_max: 128,
            login_attempts_max: 20,
            keepalive_interval: Duration::from_secs(30),
            connections_max: 16_384,
            connections_per_principal_max: 5_000,
            answer_max: Duration::from_millis(300),
            idle_connection_max: Duration::from_secs(60),
            channels_per_connection_max: 128,
            channels_per_life_max: 10_000,
            forwards_per_connection_max: 32,
            variables_max: 64,
            variables_bytes_max: 32 * 1024,
            chacha20: true,
            banner: None,
        }
    }
}

/// Reading from a client is slowed down above this; its windows shrink towards it.
const PAUSE_BYTES: u32 = 1024 * 1024;

/// A refused key is answered after this, whatever the reason, so that the time tells nothing.
const REJECTION: Duration = Duration::from_millis(5);

/// From the accepted connection to the client's version line.
const VERSION_MAX: Duration = Duration::from_secs(5);

/// After a failure to accept, such as no descriptor being left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What every connection of a listener shares.
pub(crate) struct Shared {
    pub(crate) gate: Gate,
    pub(crate) identity: Identity,
    crowd: Crowd,
    pub(crate) config: Config,
}

/// Accepts people until `stopping` is cancelled. Connections that are there then go on; the engine ends their sessions.
///
/// # Errors
/// [`KeyError`] when a host key cannot be used; nothing was accepted then.
pub async fn serve(
    listener: TcpListener,
    gate: Gate,
    identity: Identity,
    config: Config,
    stopping: CancellationToken,
) -> Result<(), KeyError> {
    let keys = config.host_keys.iter().map(keys::read_private).collect::<Result<Vec<_>, _>>()?;
    let protocol = Arc::new(russh::server::Config {
        server_id: SshId::Standard(Cow::Borrowed(SOFTWARE)),
        methods: MethodSet::from([MethodKind::PublicKey].as_slice()),
        auth_rejection_time: REJECTION,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        window_size: WINDOW_BYTES,
        channel_buffer_size: QUEUE_MESSAGES,
        preferred: algorithms::incoming(config.chacha20),
        max_auth_attempts: config.login_attempts_max,
        inactivity_timeout: None,
        keepalive_interval: Some(config.keepalive_interval),
        // The wire counts.
        keepalive_max: 0,
        nodelay: true,
        ..russh::server::Config::default()
    });
    let door = Door::new(config.unauthenticated_max, config.unauthenticated_per_address_max);
    let crowd = Crowd::new(config.connections_max, config.connections_per_principal_max);
    let shared = Arc::new(Shared { gate, identity, crowd, config });
    loop {
        let accepted = tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%address, %error, "a connection was lost before it began");
                    continue;
                }
                let (stream, socket) = guard(stream);
                let watch = Arc::new(Watch::default());
                let ticket = door.enter(address.ip(), socket.clone(), Arc::clone(&watch));
                let arrival = Arrival { stream, socket, address, watch, ticket };
                // It ends with its socket, which the client, the login limit or the engine closes.
                tokio::spawn(attend(arrival, Arc::clone(&protocol), Arc::clone(&shared)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept SSH connections; trying again");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A connection on which nothing was said yet.
struct Arrival {
    stream: GuardedStream,
    socket: SocketHandle,
    address: SocketAddr,
    watch: Arc<Watch>,
    ticket: Ticket,
}

/// One connection from its first byte to its last.
async fn attend(arrival: Arrival, protocol: Arc<russh::server::Config>, shared: Arc<Shared>) {
    let Arrival { stream, socket, address, watch, ticket } = arrival;
    let config = &shared.config;
    let backlog = Backlog::new(PAUSE_BYTES);
    let silence_max = config.keepalive_interval * SILENCES_MAX;
    let before_login_max = config.bytes_before_login_max;
    let wire = Wire::new(stream, Arc::clone(&watch), Arc::clone(&backlog), Brake::Pace, silence_max, before_login_max);
    let entry = Arc::new(Entry::new(address, socket.clone(), Arc::clone(&watch), Arc::clone(&backlog), ticket));
    let handler = ClientHandler::new(Arc::clone(&entry), Arc::clone(&shared));
    let grace = tokio::time::sleep(config.login_grace);
    tokio::pin!(grace);
    // Boxed, so that its memory is given back: this task lasts as long as the connection.
    let running = tokio::select! {
        running = Box::pin(russh::server::run_stream(protocol, wire, handler)) => running,
        // Up to here the client has said nothing but its version, which takes no thought.
        () = tokio::time::sleep(VERSION_MAX.min(config.login_grace)) => return,
    };
    let end = match running {
        Ok(mut running) => {
            let outcome = tokio::select! {
                outcome = &mut running => outcome,
                () = async { grace.await; entry.forget_the_slow().await } => running.await,
            };
            ClientEnd::of(outcome)
        }
        Err(error) => ClientEnd::of(Err(error)),
    };
    if let Some(claimed) = entry.refused_claim() {
        // Put on record here, once for each connection, and not for each key that an agent offers.
        let _same_answer_for_all = shared.identity.refuse(&entry.contact(), AuthMethod::SshKey, &claimed).await;
    }
    tracing::debug!(%address, end = %end.detail, "a connection ended");
    entry.ended(end);
}
