//! The order of a start and of a stop.

use super::doors::Doors;
use super::keys::{self, Fetcher, SigningKeyFiles};
use super::signals::Signals;
use super::{front, http, metrics};
use crate::config::{Bind, Config, Recordings, Tls};
use crate::state::StateDir;
use crate::tls::{self, Authority, Certificate};
use anyhow::Context;
use ravelin_aws::LogHolder;
use ravelin_engine::{Engine, MasterKey, Rules, recording};
use ravelin_model::ports::{Archive, Ledger, Library, Store};
use ravelin_model::recording::LogKind;
use ravelin_model::{NodeId, Refusal};
use ravelin_recordings::{DirectoryRecorder, Far, KeyRing, Mover};
use ravelin_sinks::config::LogGroupConfig;
use ravelin_sinks::{LogGroup, Shipping, SinkConfig};
use ravelin_store::{SqliteConfig, SqliteStore};
use rustls::sign::CertifiedKey;
use secrecy::SecretString;
use std::fmt::Write;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// Connections that the system holds for a listener until it accepts them.
const BACKLOG: u32 = 1024;
/// How long listeners may take to close after every session has ended.
const CLOSE_MAX: Duration = Duration::from_secs(3);
/// How long the sinks may take to get the last events at a stop; what they do not get then, they get after the next
/// start.
const SHIP_MAX: Duration = Duration::from_secs(3);
/// How long the last recordings may take to be moved to the object store at a stop; the next start moves what is left.
const MOVE_MAX: Duration = Duration::from_secs(5);
/// How often the audit record is signed, if something was written.
const SIGN_EVERY: Duration = Duration::from_secs(60);
/// How often a self-made server certificate is made anew.
const RENEW_EVERY: Duration = Duration::from_secs(30 * 24 * 3600);

/// Addresses that are taken and do not listen yet: who connects now is refused, as if nothing were there.
#[derive(Debug)]
pub(crate) struct Sockets {
    ssh: Option<Taken>,
    https: Option<Taken>,
    http: Option<Taken>,
    metrics: Option<Taken>,
}

#[derive(Debug)]
struct Taken {
    socket: TcpSocket,
    address: SocketAddr,
    origin: String,
}

impl Sockets {
    /// Takes every address of the configuration.
    ///
    /// # Errors
    /// Names every listener that cannot have its address, with the reason and the fix.
    pub(crate) fn take(config: &Config) -> anyhow::Result<Self> {
        let mut wrong = String::new();
        let mut take = |bind: &Option<Bind>| {
            let bind = bind.as_ref()?;
            match taken(bind) {
                Ok(taken) => Some(taken),
                Err(error) => {
                    let line = if wrong.is_empty() { "" } else { "\n" };
                    let _never = write!(wrong, "{line}{}: {}", bind.origin, cannot_listen(bind.address, &error));
                    None
                }
            }
        };
        let sockets = Self {
            ssh: take(&config.ssh),
            https: take(&config.https),
            http: take(&config.http),
            metrics: take(&config.metrics),
        };
        anyhow::ensure!(wrong.is_empty(), wrong);
        Ok(sockets)
    }

    /// The address of the SSH listener.
    pub(crate) fn ssh(&self) -> Option<SocketAddr> {
        self.ssh.as_ref().map(|taken| taken.address)
    }

    /// The address of the HTTPS listener.
    pub(crate) fn https(&self) -> Option<SocketAddr> {
        self.https.as_ref().map(|taken| taken.address)
    }

    /// The address of the metrics listener.
    pub(crate) fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(|taken| taken.address)
    }

    /// The address of the HTTP listener.
    pub(crate) fn http(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|taken| taken.address)
    }
}

fn taken(bind: &Bind) -> io::Result<Taken> {
    let address = bind.address;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart does not wait for the connections of the last life to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let address = socket.local_addr()?;
    Ok(Taken { socket, address, origin: bind.origin.clone() })
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "cannot listen on {address}: the port is in use; stop what listens there (find it with: ss -ltnp 'sport = \
             :{port}') or choose another port"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "cannot listen on {address}: permission denied; choose a port from 1024 up, or give the process the \
             capability CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!("cannot listen on {address}: this machine has no such address; choose one that `ip addr` shows")
        }
        _ => format!("cannot listen on {address}: {error}; choose another address"),
    }
}

/// The engine and, once they are open, its doors.
pub(crate) struct Node {
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn Store>,
    kept: Arc<dyn Library>,
    pub(crate) master: MasterKey,
    ledger: Arc<dyn Ledger>,
    shipping: Arc<Shipping>,
    mover: Option<Arc<Mover>>,
    listeners: JoinSet<()>,
    stopping: CancellationToken,
    certificate: Option<Arc<Certificate>>,
}

/// Where a node can be reached.
pub(crate) struct Open {
    ssh: Option<SocketAddr>,
    https: Option<SocketAddr>,
    http: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    authority: Option<PathBuf>,
}

impl Open {
    /// Each open listener with its address.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let all = [("ssh", self.ssh), ("https", self.https), ("http", self.http), ("metrics", self.metrics)];
        all.into_iter().filter_map(|(what, address)| Some((what, address?)))
    }

    /// The certificate authority that clients have to trust, where it is our own.
    pub(crate) fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }
}

impl Node {
    /// Starts the engine: sessions that an earlier life left behind are ended. Nothing listens yet.
    pub(crate) async fn start(config: &Config, rules: Rules, state: &StateDir) -> anyhow::Result<Self> {
        let master = state.master_key()?;
        let (key, key_is_new) = state.ledger_key()?;
        let store_config =
            SqliteConfig { key: Some(Arc::new(key)), key_is_new, ..SqliteConfig::new(state.store_path()) };
        let sqlite = Arc::new(SqliteStore::open(store_config)?);
        let store: Arc<dyn Store> = sqlite.clone();
        let archive: Arc<dyn Archive> = sqlite.clone();
        let ledger: Arc<dyn Ledger> = sqlite.clone();
        let kept: Arc<dyn Library> = sqlite;
        let engine_config = engine_config(config, state.node_id()?);
        let (recording, recorder) = recording(config, state, archive)?;
        let engine = Engine::start_recording(Arc::clone(&store), rules, master.clone(), engine_config, Some(recording));
        let engine = engine.await.map_err(in_full)?;
        if !engine.left_over.is_empty() {
            tracing::warn!(
                sessions = engine.left_over.len(),
                "the last run of this node did not stop in good order; its sessions were ended as node_lost"
            );
        }
        let names = crate::config::sink_names(config);
        let shipping = Shipping::start(Arc::clone(&ledger), config.sinks.clone(), names).await.map_err(in_full)?;
        engine.attach_sinks(shipping.clone());
        engine.meters.register(recorder.meter());
        let mover = recorder.mover().map(Arc::new);
        let (mut listeners, stopping) = (JoinSet::new(), CancellationToken::new());
        if let Some(mover) = mover.clone() {
            let stopping = stopping.clone();
            listeners.spawn(async move {
                stopping.run_until_cancelled(mover.run()).await;
            });
        }
        listeners.spawn(sign_now_and_then(Arc::clone(&ledger), stopping.clone()));
        Ok(Self { engine, store, kept, master, ledger, shipping, mover, listeners, stopping, certificate: None })
    }

    /// Opens the doors.
    pub(crate) fn open(&mut self, sockets: Sockets, config: &Config, state: &StateDir) -> anyhow::Result<Open> {
        let (ssh, https, http, metrics) = (sockets.ssh(), sockets.https(), sockets.http(), sockets.metrics());
        let mut authority = None;
        let tls = match &sockets.https {
            None => None,
            Some(_) => {
                let (certificate, path) = self.present(&config.tls, state)?;
                authority = path;
                let setup = tls::server_config(Arc::clone(&certificate))?;
                self.certificate = Some(certificate);
                Some(setup)
            }
        };
        let signing_keys = self.signing_keys(state)?;
        let engine = &self.engine;
        let doors = Doors {
            aws: ravelin_aws::server::router(
                ravelin_aws::server::Handles {
                    control: engine.control.clone(),
                    gate: engine.gate.clone(),
                    identity: engine.identity.clone(),
                    pager: engine.pager.clone(),
                    library: engine.library(Arc::clone(&self.kept)),
                    dialer: Arc::new(ravelin_ssh::Dialer { keepalive_interval: config.ssh_server.keepalive }),
                },
                aws_config(config),
            ),
            azure: ravelin_azure::server::router(
                engine.control.clone(),
                engine.gate.clone(),
                engine.identity.clone(),
                engine.pager.clone(),
                signing_keys,
                Arc::new(Fetcher::default()),
                azure_config(config, ssh),
            )
            .context("the Azure edge refuses its configuration")?,
            native: ravelin_native::server::router(
                engine.control.clone(),
                engine.identity.clone(),
                engine.pager.clone(),
            ),
            front: front::Front::new(ssh.map_or(22, |address| address.port())),
        };
        if let Some(taken) = sockets.ssh {
            let listener = listen(taken)?;
            let ssh = config.ssh_server.applied(ssh_host_key(config, state)?);
            let (gate, identity) = (engine.gate.clone(), engine.identity.clone());
            let stopping = self.stopping.clone();
            self.listeners.spawn(async move {
                if let Err(error) = ravelin_ssh::server::serve(listener, gate, identity, ssh, stopping).await {
                    tracing::error!(%error, "the SSH listener cannot use its host key");
                }
            });
        }
        for (taken, tls) in [(sockets.https, tls), (sockets.http, None)] {
            if let Some(taken) = taken {
                self.listeners.spawn(http::serve(listen(taken)?, tls, doors.clone(), self.stopping.clone()));
            }
        }
        if let Some(taken) = sockets.metrics {
            let meters = Arc::clone(&self.engine.meters);
            self.listeners.spawn(metrics::serve(listen(taken)?, meters, self.stopping.clone()));
        }
        Ok(Open { ssh, https, http, metrics, authority })
    }

    /// The certificate to show, and the authority to trust where it is our own. A self-made one is renewed for as long
    /// as the node lives.
    fn present(&mut self, tls: &Tls, state: &StateDir) -> anyhow::Result<(Arc<Certificate>, Option<PathBuf>)> {
        match tls {
            Tls::Files { certified, .. } => Ok((Certificate::new(certified.clone()), None)),
            Tls::OwnAuthority { names } => {
                let authority = Authority::open(state)?;
                let certificate = Certificate::new(authority.issue(names)?);
                let path = authority.path().to_path_buf();
                let (shown, names) = (Arc::clone(&certificate), names.clone());
                let stopping = self.stopping.clone();
                self.listeners.spawn(async move {
                    let renew = async {
                        loop {
                            tokio::time::sleep(RENEW_EVERY).await;
                            match authority.issue(&names) {
                                Ok(certified) => shown.replace(certified),
                                Err(error) => tracing::error!(%error, "cannot renew the server's certificate"),
                            }
                        }
                    };
                    stopping.run_until_cancelled(renew).await;
                });
                Ok((certificate, Some(path)))
            }
        }
    }

    /// Puts other sinks in force; those that stay go on where they were.
    ///
    /// # Errors
    /// As [`Shipping::replace`].
    pub(crate) async fn replace_sinks(&self, sinks: Vec<SinkConfig>) -> Result<(), Refusal> {
        self.shipping.replace(sinks).await
    }

    /// The keys that sign the Azure edge's tokens; they are changed for as long as the node lives.
    fn signing_keys(&mut self, state: &StateDir) -> anyhow::Result<ravelin_azure::SigningKeys> {
        let ring = SigningKeyFiles::open(state)?;
        let keys = ring.keys.clone();
        let stopping = self.stopping.clone();
        self.listeners.spawn(async move {
            let look = async {
                let mut ticks = tokio::time::interval(keys::LOOK_EVERY);
                loop {
                    ticks.tick().await;
                    match ring.rotate_if_old(std::time::SystemTime::now()) {
                        Ok(true) => tracing::info!("the key that signs Azure tokens was changed"),
                        Ok(false) => {}
                        Err(error) => tracing::error!(%error, "cannot change the key that signs Azure tokens"),
                    }
                }
            };
            stopping.run_until_cancelled(look).await;
        });
        Ok(keys)
    }

    /// Puts another certificate in force.
    pub(crate) fn replace_certificate(&self, certified: CertifiedKey) {
        if let Some(certificate) = &self.certificate {
            certificate.replace(certified);
        }
    }

    /// Stops in good order: no new sessions, up to `drain` for the present ones, then every row closed, then every
    /// socket. A second signal ends the drain at once; a third ends the process, whatever is still open.
    pub(crate) async fn stop(self, drain: Duration, signals: &mut Signals) -> anyhow::Result<()> {
        let hurry = CancellationToken::new();
        let mut stopping = pin!(self.stop_in_order(drain, hurry.clone()));
        tokio::select! {
            outcome = stopping.as_mut() => return outcome,
            () = signals.stop() => {}
        }
        tracing::warn!("told to stop again: ending every session now; a third time ends the process as it is");
        hurry.cancel();
        tokio::select! {
            outcome = stopping => outcome,
            () = signals.stop() => {
                tracing::error!("told to stop a third time: exiting at once; the next start closes what is still open");
                // Nothing that might wait, such as a destructor, may stand between this and the end.
                std::process::exit(1)
            }
        }
    }

    async fn stop_in_order(mut self, drain: Duration, hurry: CancellationToken) -> anyhow::Result<()> {
        let live = self.engine.live_count();
        tracing::info!(live, drain = crate::config::units::in_words(drain), "stopping");
        let outcome = match hurry.run_until_cancelled(self.engine.stop(drain)).await {
            Some(outcome) => outcome,
            None => self.engine.stop(Duration::ZERO).await,
        };
        self.stopping.cancel();
        let closing = async { while self.listeners.join_next().await.is_some() {} };
        if tokio::time::timeout(CLOSE_MAX, closing).await.is_err() {
            tracing::warn!("some connections did not close in time; cutting them");
            self.listeners.shutdown().await;
        }
        // The last word of this life is signed, and the sinks get it as far as they take it now.
        if let Err(refusal) = self.ledger.checkpoint().await {
            tracing::error!(?refusal, "the record could not be signed at the stop");
        }
        self.shipping.stop(SHIP_MAX).await;
        if let Some(mover) = &self.mover
            && tokio::time::timeout(MOVE_MAX, mover.round()).await != Ok(true)
        {
            tracing::warn!(
                "some recordings still wait to be moved to the object store; the next start goes on with them"
            );
        }
        outcome.map_err(in_full)?;
        tracing::info!("stopped");
        Ok(())
    }
}

async fn sign_now_and_then(ledger: Arc<dyn Ledger>, stopping: CancellationToken) {
    let sign = async {
        let mut ticks = tokio::time::interval(SIGN_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(refusal) = ledger.checkpoint().await {
                tracing::error!(?refusal, "the record could not be signed; trying again in a minute");
            }
        }
    };
    stopping.run_until_cancelled(sign).await;
}

fn listen(taken: Taken) -> anyhow::Result<TcpListener> {
    let Taken { socket, address, origin } = taken;
    socket.listen(BACKLOG).map_err(|error| anyhow::anyhow!("{origin}: {}", cannot_listen(address, &error)))
}

/// The recorder, with its keys and its object store.
fn recording(
    config: &Config,
    state: &StateDir,
    archive: Arc<dyn Archive>,
) -> anyhow::Result<(recording::Setup, Arc<DirectoryRecorder>)> {
    let settings = &config.recordings;
    let (origin, text) = match (&settings.key_file, std::env::var(Recordings::KEY_VARIABLE)) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
            (path.display().to_string(), Zeroizing::new(text))
        }
        (None, Ok(text)) => (Recordings::KEY_VARIABLE.to_owned(), Zeroizing::new(text)),
        (None, Err(_)) => {
            let make = || Ok(KeyRing::generate().to_string());
            (state.path(RECORDINGS_KEY).display().to_string(), state.keep_secret(RECORDINGS_KEY, make)?)
        }
    };
    let keys = KeyRing::parse(&text).map_err(|fault| anyhow::anyhow!("{origin}: {fault}"))?;
    let folder = settings.folder.clone().unwrap_or_else(|| state.path("recordings"));
    let far = settings.store.as_ref().map(Far::new).transpose().context("recordings.store cannot be used")?;
    let recorder = DirectoryRecorder::open(ravelin_recordings::Config {
        folder: folder.clone(),
        keys,
        screen_text: settings.screen_text,
        far,
    });
    let recorder = recorder.with_context(|| {
        format!("cannot keep recordings in {}; it must belong to the user that runs ravelin", folder.display())
    })?;
    let recorder = Arc::new(recorder);
    let setup = recording::Setup {
        recorder: recorder.clone(),
        archive,
        keep: settings.keep,
        keep_by_class: settings.keep_by_class.clone(),
        outlets: outlets(config)?,
    };
    Ok((setup, recorder))
}

/// What takes the output of sessions whose documents ask for it.
pub(crate) fn outlets(config: &Config) -> anyhow::Result<recording::Outlets> {
    let mut outlets = recording::Outlets::new();
    for bucket in &config.aws.log_buckets {
        let far = Far::new(&bucket.store).with_context(|| format!("the log bucket {} cannot be used", bucket.name))?;
        outlets.insert((LogKind::Object, bucket.name.clone()), Arc::new(far));
    }
    for group in &config.aws.log_groups {
        let name = &group.config.group;
        let opened = LogGroup::new(&group.config, &config.aws.account);
        let opened = opened.map_err(|because| anyhow::anyhow!("the log group {name} cannot be used: {because}"))?;
        outlets.insert((LogKind::Stream, name.clone()), Arc::new(opened));
    }
    Ok(outlets)
}

/// Where the state directory keeps the keys of recordings.
const RECORDINGS_KEY: &str = "recordings.key";

fn engine_config(config: &Config, node: NodeId) -> ravelin_engine::Config {
    let mut engine = ravelin_engine::Config::new(node);
    engine.idle_max = config.limits.idle;
    engine.duration_max = config.limits.duration;
    engine.disconnected_max = config.limits.disconnected;
    engine.sessions_max = config.limits.sessions;
    engine.sessions_per_principal_max = config.limits.sessions_per_principal;
    engine.history_keep = config.history_keep;
    engine
}

fn aws_config(config: &Config) -> ravelin_aws::Config {
    let mut aws = ravelin_aws::Config::new(config.aws.account.clone());
    aws.regions = (!config.aws.regions.is_empty()).then(|| config.aws.regions.clone());
    aws.public_url.clone_from(&config.public_url);
    aws.reason_required = config.aws.reason_required;
    aws.log_buckets = (config.aws.log_buckets.iter())
        .map(|bucket| {
            let (region, endpoint) = (bucket.region.clone(), bucket.store.endpoint.clone());
            (bucket.name.clone(), LogHolder { region, endpoint, encrypted: bucket.encrypted })
        })
        .collect();
    aws.log_groups = (config.aws.log_groups.iter())
        .map(|group| {
            let LogGroupConfig { region, endpoint, group: name, .. } = &group.config;
            let endpoint = (!endpoint.ends_with(".amazonaws.com")).then(|| endpoint.clone());
            (name.clone(), LogHolder { region: region.clone(), endpoint, encrypted: group.encrypted })
        })
        .collect();
    aws
}

fn azure_config(config: &Config, ssh: Option<SocketAddr>) -> ravelin_azure::Config {
    let names = &config.azure;
    let mut azure =
        ravelin_azure::Config::new(&names.tenant, &names.subscription, &names.resource_group, &names.bastion_name);
    azure.location.clone_from(&names.location);
    azure.public_url.clone_from(&config.public_url);
    azure.outside_issuers.clone_from(&names.issuers);
    azure.ssh_port = ssh.map(|address| address.port());
    azure
}

/// The host key of the SSH listener: the configured one, or the node's own.
pub(crate) fn ssh_host_key(config: &Config, state: &StateDir) -> anyhow::Result<SecretString> {
    match &config.ssh_server.host_key {
        Some(key) => Ok(key.clone()),
        None => state.ssh_key("ssh_host_ed25519_key"),
    }
}

/// A refusal with what only we may see.
pub(crate) fn in_full(refusal: Refusal) -> anyhow::Error {
    match refusal.detail() {
        Some(detail) => anyhow::anyhow!("{refusal}: {}", detail.for_log()),
        None => anyhow::anyhow!("{refusal}"),
    }
}
