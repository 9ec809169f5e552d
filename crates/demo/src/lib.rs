//! A real SSH target inside the process, for `ravelin dev` and for tests.
//!
//! [`start`] opens a listener and serves what a person expects of a machine reached over SSH: a login shell on a
//! pseudo-terminal, commands, file transfer (`sftp` and `scp`), port forwards in both directions and agent
//! forwarding. Everything runs as the user who runs this process, whatever name the client logs in with; who may
//! come in is decided by a list of public keys and nothing else.
//!
//! This crate must not know the bastion: no session model, no policy, no audit. It is the far end, and stays as
//! foreign to the rest as somebody else's `sshd` would be.
//!
//! Where to start reading: `connection` answers the client's requests; `session` runs a shell or a command on a
//! channel; `process` starts processes and guarantees that none outlives the server; `forward` joins channels and
//! sockets; `flow` keeps a slow program from stopping the whole connection; `sftp` is the file server.

mod account;
mod connection;
mod flow;
mod forward;
mod process;
mod session;
mod sftp;
mod terminal;

/// What fuzzing reaches; no part of the interface.
#[doc(hidden)]
pub mod fuzz {
    /// Takes packets of SFTP apart.
    pub fn packets(raw: &[u8]) {
        crate::sftp::take_apart(raw);
    }
}

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PrivateKey, PublicKey};
use russh::server::Config;
use russh::{MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex};
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::account::Account;
use crate::connection::{Connection, Link};
use crate::process::Children;

/// Connections which have not authenticated yet, at one time. The next one is dropped at once.
const UNAUTHENTICATED_MAX: usize = 64;
/// Connections at one time, authenticated or not.
const CONNECTIONS_MAX: usize = 1024;
/// How long a client may take to authenticate.
const LOGIN_GRACE: Duration = Duration::from_secs(120);
/// Keys a client may offer on one connection; an agent often holds more than a handful.
const AUTH_ATTEMPTS_MAX: usize = 20;
/// Messages that wait for one channel's program. Bytes are bounded by [`flow`]; this bounds a flood of tiny packets.
const CHANNEL_MESSAGES_MAX: usize = 16 * 1024;
/// How long to wait before accepting again after the operating system refused (usually: no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the target needs to know.
#[derive(Debug)]
pub struct DemoConfig {
    /// Where to listen. It should be a loopback address: whoever holds an authorised key gets a shell of this user.
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The host's private key in OpenSSH's PEM form, without a passphrase.
    pub host_key_pem: SecretString,
    /// The public keys which may log in, one line of an `authorized_keys` file each (`ssh-ed25519 AAAA…`), without
    /// options.
    pub authorized_keys: Vec<String>,
    /// Where shells start and where relative paths of file transfers begin. `None`: the user's home directory.
    pub home: Option<PathBuf>,
}

/// A running target. Dropping it stops it: every connection ends and every process it started is killed, but only
/// [`Demo::stop`] waits until they are gone.
#[derive(Debug)]
pub struct Demo {
    address: SocketAddr,
    server: Arc<Server>,
}

impl Demo {
    /// The address it listens on, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection, kills every process which was started here (also those that left their process group,
    /// where `/proc` tells of them) and returns when they are reaped.
    pub async fn stop(self) {
        self.server.stopping.cancel();
        self.server.tasks.close();
        self.server.children.kill_groups();
        self.server.tasks.wait().await;
        self.server.children.kill_strays().await;
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // The runtime may be on its way out, so nothing here may rely on a task being polled again.
        self.server.stopping.cancel();
        self.server.tasks.close();
        self.server.children.kill_groups();
        self.server.children.kill_strays_once();
    }
}

/// What all connections of one target share.
#[derive(Debug)]
struct Server {
    config: Arc<Config>,
    authorized: Vec<PublicKey>,
    account: Account,
    children: Arc<Children>,
    stopping: CancellationToken,
    tasks: TaskTracker,
    connections: Arc<Semaphore>,
    unauthenticated: Arc<Semaphore>,
}

/// Starts the target and returns when it accepts connections.
///
/// # Errors
///
/// When the address cannot be bound, or when a key does not parse (`InvalidInput`; the text says which one).
pub async fn start(config: DemoConfig) -> io::Result<Demo> {
    let DemoConfig { listen, host_key_pem, authorized_keys, home } = config;
    let host_key = PrivateKey::from_openssh(host_key_pem.expose_secret())
        .map_err(|error| invalid(format!("host_key_pem is not an OpenSSH private key: {error}")))?;
    if host_key.is_encrypted() {
        return Err(invalid("host_key_pem is encrypted: give a key without a passphrase".to_owned()));
    }
    let authorized = authorized_keys
        .iter()
        .enumerate()
        .map(|(index, line)| {
            PublicKey::from_openssh(line.trim())
                .map_err(|error| invalid(format!("authorized_keys[{index}] is not an OpenSSH public key: {error}")))
        })
        .collect::<io::Result<Vec<_>>>()?;

    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    process::stop_inheriting_ignored_signals()?;
    let server = Arc::new(Server {
        config: Arc::new(ssh_config(host_key)),
        authorized,
        account: Account::of_this_process(home),
        children: Arc::new(Children::new(address.port())),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
        connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        unauthenticated: Arc::new(Semaphore::new(UNAUTHENTICATED_MAX)),
    });
    server.tasks.spawn(accept(listener, server.clone()));
    Ok(Demo { address, server })
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    loop {
        let accepted = tokio::select! {
            () = server.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                server.tasks.spawn(serve(stream, peer, server.clone()));
            }
            Err(error) => {
                warn!(%error, "demo target cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection, from the first byte to the end of everything it started.
async fn serve(stream: TcpStream, peer: SocketAddr, server: Arc<Server>) {
    let (Ok(_connection), Ok(unauthenticated)) =
        (server.connections.clone().try_acquire_owned(), server.unauthenticated.clone().try_acquire_owned())
    else {
        warn!(%peer, "demo target is full: connection dropped");
        return;
    };
    let (stream, socket, local) = match prepare(stream) {
        Ok(prepared) => prepared,
        Err(error) => {
            debug!(%peer, %error, "connection was gone before it began");
            return;
        }
    };
    let link = Arc::new(Link::new(socket, peer, local, &server));
    let authenticated = CancellationToken::new();
    let handler = Connection::new(server.clone(), link.clone(), unauthenticated, authenticated.clone());

    let running = tokio::select! {
        () = server.stopping.cancelled() => return,
        running = timeout(LOGIN_GRACE, russh::server::run_stream(server.config.clone(), stream, handler)) => running,
    };
    let mut running = match running {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            debug!(%peer, %error, "no SSH client");
            return;
        }
        Err(_) => return,
    };
    let ended = tokio::select! {
        ended = &mut running => ended,
        () = reason_to_end(&server, &authenticated) => {
            link.end();
            running.await
        }
    };
    link.end();
    if let Err(error) = ended {
        debug!(%peer, %error, "connection ended");
    }
}

/// Returns when the server stops, or when the client has not authenticated in time.
async fn reason_to_end(server: &Server, authenticated: &CancellationToken) {
    let too_late = async {
        if timeout(LOGIN_GRACE, authenticated.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = server.stopping.cancelled() => {}
        () = too_late => {}
    }
}

/// Turns Nagle off and keeps a second handle of the socket: the SSH session owns the first one and cannot be ended
/// from outside but by shutting the socket down.
fn prepare(stream: TcpStream) -> io::Result<(TcpStream, std::net::TcpStream, SocketAddr)> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    Ok((TcpStream::from_std(stream)?, socket, local))
}

fn ssh_config(host_key: PrivateKey) -> Config {
    let mut methods = MethodSet::empty();
    methods.push(MethodKind::PublicKey);
    Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-RavelinDemo_", env!("CARGO_PKG_VERSION")))),
        methods,
        // Keys are public: there is nothing to hide by taking long to refuse one.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        channel_buffer_size: CHANNEL_MESSAGES_MAX,
        max_auth_attempts: AUTH_ATTEMPTS_MAX,
        window_size: flow::WINDOW_BYTES,
        inactivity_timeout: None,
        nodelay: true,
        preferred: Preferred {
            kex: Cow::Borrowed(KEY_EXCHANGES),
            key: Cow::Borrowed(SIGNATURES),
            cipher: Cow::Borrowed(CIPHERS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..Config::default()
    }
}

/// Post-quantum first. The last four are no exchanges but the announcements of RFC 8308 and of strict key exchange.
const KEY_EXCHANGES: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::DH_G16_SHA512,
    kex::DH_G18_SHA512,
    kex::DH_G14_SHA256,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_SUPPORT_AS_SERVER,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
];

/// AES-GCM first: in hardware on every machine this runs on, and about half the cost of ChaCha20.
const CIPHERS: &[cipher::Name] =
    &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305, cipher::AES_256_CTR, cipher::AES_192_CTR, cipher::AES_128_CTR];

/// Everything but RSA with SHA-1.
const SIGNATURES: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
    Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
    Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
];

fn invalid(because: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, because)
}
