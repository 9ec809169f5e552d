//! The configuration: from what an operator wrote to what Ravelin runs on, or to everything that is wrong with it.
//!
//! Two kinds of types, and nothing in between: `file` holds what may be written (every key may be absent), [`Config`]
//! holds what is in force (nothing is absent that must be there). [`load`] leads from one to the other and reports all
//! faults at once.
//!
//! - `document`: walks TOML tables and remembers lines; knows no key.
//! - `file`: every key by name.
//! - `settle`: makes sense of the keys together: defaults, paths, what excludes what.
//! - `inventory`: principals and targets, and the secrets in the files that they name.
//! - `policies`: Cedar files.
//! - `sinks`: where the audit record goes.
//! - `far`: where whole recordings go.
//! - `session_logs`: where documents may have the output of sessions put.
//! - `fault`, `units`: messages and durations.

mod document;
mod far;
mod fault;
mod file;
#[cfg(test)]
mod golden;
mod inventory;
mod policies;
mod secret_file;
mod session_logs;
mod settle;
mod sinks;
pub(crate) mod units;

pub use fault::{Fault, Place, Weight};
pub(crate) use inventory::{alias_ids, target_id};
pub(crate) use sinks::names as sink_names;

use aws_lc_rs::digest;
use document::{Document, Written};
use fault::Faults;
use file::{ConfigFile, InventoryFile};
use ravelin_engine::Rules;
use ravelin_model::recording::Rule;
use ravelin_recordings::StoreConfig;
use ravelin_sinks::SinkConfig;
use ravelin_sinks::config::LogGroupConfig;
use rustls::sign::CertifiedKey;
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What Ravelin runs on. Everything is resolved: defaults are filled in, paths are absolute or start at the working
/// directory, and files were readable when it was made.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the node keeps its keys and its store.
    pub state_dir: PathBuf,
    /// Where clients reach the HTTPS listener from outside, without a slash at the end; `None` to take the name that
    /// each request used.
    pub public_url: Option<String>,
    /// The SSH listener, if there is one.
    pub ssh: Option<Bind>,
    /// The HTTPS listener, if there is one.
    pub https: Option<Bind>,
    /// The plain HTTP listener, if there is one.
    pub http: Option<Bind>,
    /// The metrics listener, if there is one.
    pub metrics: Option<Bind>,
    /// Where the HTTPS listener's certificate comes from.
    pub tls: Tls,
    /// What the SSH listener is set to.
    pub ssh_server: Ssh,
    /// Limits on sessions.
    pub limits: Limits,
    /// How long a stop waits for sessions to end by themselves.
    pub drain: Duration,
    /// How long ended sessions and events are kept.
    pub history_keep: Duration,
    /// What the AWS dialect calls this deployment.
    pub aws: Aws,
    /// What the Azure dialect calls this deployment.
    pub azure: Azure,
    /// What sessions are recorded with.
    pub recordings: Recordings,
    /// Where the audit record is shipped to.
    pub sinks: Vec<SinkConfig>,
}

/// What sessions are recorded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recordings {
    /// What is recorded of sessions to targets that say nothing else.
    pub rule: Rule,
    /// Where recordings are kept; `None` for the state directory.
    pub folder: Option<PathBuf>,
    /// The file with their keys; `None` for the one that the state directory keeps.
    pub key_file: Option<PathBuf>,
    /// How long a recording is kept.
    pub keep: Duration,
    /// How long those of a class are kept.
    pub keep_by_class: BTreeMap<String, Duration>,
    /// Whether what screens showed can be searched.
    pub screen_text: bool,
    /// Where whole recordings are moved to; `None` to leave them where they are made.
    pub store: Option<StoreConfig>,
}

impl Recordings {
    /// The environment variable that may hold the keys in place of a file.
    pub const KEY_VARIABLE: &'static str = "RAVELIN_RECORDINGS_KEY";

    /// Nothing is recorded.
    pub(crate) fn unset() -> Self {
        Self {
            rule: Rule::default(),
            folder: None,
            key_file: None,
            keep: Config::HISTORY_KEEP,
            keep_by_class: BTreeMap::new(),
            screen_text: false,
            store: None,
        }
    }

    /// But for the rule, which is a part of each target.
    fn differs(&self, other: &Recordings) -> bool {
        Self { rule: Rule::default(), ..self.clone() } != Self { rule: Rule::default(), ..other.clone() }
    }
}

/// An address to listen on, and who said so.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The address; port 0 takes a free one.
    pub address: SocketAddr,
    /// Where it was asked for, for messages: `ravelin.toml:5: listen.ssh`, `--ssh`.
    pub origin: String,
}

impl Config {
    /// How long history is kept unless something else is said.
    pub(crate) const HISTORY_KEEP: Duration = Duration::from_secs(400 * 24 * 3600);

    /// The keys of what is set once, at the start, and differs in `other`.
    pub(crate) fn set_once_differs(&self, other: &Config) -> Vec<&'static str> {
        let address = |bind: &Option<Bind>| bind.as_ref().map(|bind| bind.address);
        let tls = match (&self.tls, &other.tls) {
            (Tls::Files { .. }, Tls::Files { .. }) => false,
            (Tls::OwnAuthority { names: before }, Tls::OwnAuthority { names: after }) => before != after,
            (Tls::Files { .. }, Tls::OwnAuthority { .. }) | (Tls::OwnAuthority { .. }, Tls::Files { .. }) => true,
        };
        let all = [
            ("node.state_dir", self.state_dir != other.state_dir),
            ("public_url", self.public_url != other.public_url),
            ("listen.ssh", address(&self.ssh) != address(&other.ssh)),
            ("listen.https", address(&self.https) != address(&other.https)),
            ("listen.http", address(&self.http) != address(&other.http)),
            ("metrics.listen", address(&self.metrics) != address(&other.metrics)),
            ("tls", tls),
            ("ssh", self.ssh_server.differs(&other.ssh_server)),
            ("limits", self.limits != other.limits),
            ("drain.period", self.drain != other.drain),
            ("history.keep", self.history_keep != other.history_keep),
            ("aws", self.aws != other.aws),
            ("azure", self.azure != other.azure),
            ("recordings", self.recordings.differs(&other.recordings)),
        ];
        all.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
    }
}

/// Where a certificate comes from.
#[derive(Clone, Debug)]
pub enum Tls {
    /// From PEM files, which are read again when they change.
    Files {
        /// The certificate with its chain and its key.
        certified: CertifiedKey,
    },
    /// From a certificate authority that the state directory keeps.
    OwnAuthority {
        /// Host names and addresses besides `localhost`, `127.0.0.1` and `::1`.
        names: Vec<String>,
    },
}

/// What the SSH listener is set to, see [`ravelin_ssh::server::Config`].
#[derive(Clone, Debug)]
pub struct Ssh {
    /// The host key; `None` for the one that the state directory keeps.
    pub host_key: Option<SecretString>,
    /// What everybody is shown before login.
    pub banner: Option<String>,
    /// How long a login may take.
    pub login_grace: Duration,
    /// What a client may send before its login is accepted, in bytes.
    pub login_bytes: u64,
    /// Connections that have not logged in.
    pub logins_pending: usize,
    /// The same, of one address.
    pub logins_pending_per_address: usize,
    /// Channels that are open at once on one connection.
    pub channels: usize,
    /// How long a client may be silent before it is asked whether it is there.
    pub keepalive: Duration,
    /// Whether chacha20-poly1305 is offered.
    pub chacha20: bool,
}

impl Ssh {
    /// The edge's own settings with these in their place.
    pub(crate) fn applied(&self, host_key: SecretString) -> ravelin_ssh::server::Config {
        let mut edge = ravelin_ssh::server::Config::new(vec![host_key]);
        edge.banner.clone_from(&self.banner);
        edge.login_grace = self.login_grace;
        edge.bytes_before_login_max = self.login_bytes;
        edge.unauthenticated_max = self.logins_pending;
        edge.unauthenticated_per_address_max = self.logins_pending_per_address;
        edge.channels_per_connection_max = self.channels;
        edge.keepalive_interval = self.keepalive;
        edge.chacha20 = self.chacha20;
        edge
    }

    fn differs(&self, other: &Ssh) -> bool {
        let key = |ssh: &Ssh| ssh.host_key.as_ref().map(|key| key.expose_secret().to_owned());
        let rest = |ssh: &Ssh| {
            let numbers = (ssh.login_bytes, ssh.logins_pending, ssh.logins_pending_per_address, ssh.channels);
            (ssh.banner.clone(), ssh.login_grace, ssh.keepalive, ssh.chacha20, numbers)
        };
        key(self) != key(other) || rest(self) != rest(other)
    }
}

/// Limits on sessions, see [`ravelin_engine::Config`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest time without a byte; `None` for no limit.
    pub idle: Option<Duration>,
    /// Longest session; `None` for no limit.
    pub duration: Option<Duration>,
    /// How long a session waits for a client that was lost and may come back.
    pub disconnected: Duration,
    /// Live sessions on this node.
    pub sessions: usize,
    /// Live sessions of one principal.
    pub sessions_per_principal: usize,
}

/// What the AWS dialect calls this deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aws {
    /// The account, 12 digits.
    pub account: String,
    /// Regions that signatures may name; empty for any.
    pub regions: Vec<String>,
    /// Whether a session of this dialect needs a reason.
    pub reason_required: bool,
    /// Buckets that documents may have the output of sessions put in.
    pub log_buckets: Vec<LogBucket>,
    /// Log groups that documents may have the output of sessions put in.
    pub log_groups: Vec<LogGroup>,
}

/// A bucket for the output of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBucket {
    /// Its name.
    pub name: String,
    /// Its region.
    pub region: String,
    /// Whether the operator says that what is in it is encrypted.
    pub encrypted: bool,
    /// How it is reached.
    pub store: StoreConfig,
}

/// A log group for the output of sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogGroup {
    /// Whether the operator says that what is in it is encrypted.
    pub encrypted: bool,
    /// How it is reached.
    pub config: LogGroupConfig,
}

/// What the Azure dialect calls this deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Azure {
    /// The tenant, a GUID.
    pub tenant: String,
    /// The subscription, a GUID.
    pub subscription: String,
    /// The resource group that holds the bastion and the targets.
    pub resource_group: String,
    /// The bastion's name.
    pub bastion_name: String,
    /// The bastion's location.
    pub location: String,
    /// Other issuers whose bearer tokens are believed.
    pub issuers: Vec<ravelin_azure::OutsideIssuer>,
}

/// Why a configuration is not one.
#[derive(Debug)]
pub struct Refused {
    /// Everything that is wrong, by file and line; warnings are among it.
    pub faults: Vec<Fault>,
    /// Every file that was read or should have been.
    pub files: Vec<PathBuf>,
    /// What could be made out all the same.
    pub config: Option<Box<Config>>,
}

/// A configuration without error.
pub struct Loaded {
    /// What is set once, at the start.
    pub config: Config,
    /// What can change while Ravelin runs.
    pub rules: Rules,
    /// Names of the policies in force.
    pub policies: Vec<String>,
    /// Every file that was read; a change of one of them calls for a reload.
    pub files: Vec<PathBuf>,
    /// SHA-256 over the texts of those files that hold no secret, for the record.
    pub digest: String,
    /// What somebody should look at.
    pub warnings: Vec<Fault>,
}

/// Reads `path` and every file that it names.
///
/// # Errors
/// [`Refused`] holds everything that is wrong.
pub fn load(path: &Path) -> Result<Loaded, Refused> {
    let mut reader = Reader::default();
    let Some(text) = reader.text_of(path, None) else { return Err(reader.refuse()) };
    let document = Document::new(path, text);
    let Some(mut file) = document.read(&mut reader.faults, ConfigFile::read) else { return Err(reader.refuse()) };
    let mut config = settle::settle(&file, &mut reader);
    config.sinks = sinks::settle(&file.sinks, &config, &mut reader);

    let mut declared = vec![std::mem::take(&mut file.declared)];
    let mut legible = true;
    for name in file.inventory.given().map(|list| list.value.as_slice()).unwrap_or_default() {
        if let Some(text) = reader.text_of(&name.path(), Some(name)) {
            let document = Document::new(&name.path(), text);
            match document.read(&mut reader.faults, InventoryFile::read) {
                Some(file) => declared.push(file),
                None => legible = false,
            }
        }
    }
    let inventory = inventory::settle(&declared, legible, &config, &mut reader);
    let egress = settle::egress(&file.addresses, &mut reader);
    let policy = policies::load(&file.policies, &inventory, &mut reader);

    match (inventory, policy) {
        (Some(inventory), Some(policy)) if !reader.faults.any_error() => Ok(Loaded {
            config,
            policies: policy.names(),
            rules: Rules { inventory: inventory.into(), policy: std::sync::Arc::new(policy), egress },
            digest: reader.digest(),
            files: reader.files,
            warnings: reader.faults.into_sorted(),
        }),
        _ => Err(Refused { config: Some(Box::new(config)), ..reader.refuse() }),
    }
}

/// Reads files and remembers which, and what was wrong.
#[derive(Default)]
struct Reader {
    faults: Faults,
    files: Vec<PathBuf>,
    texts: Vec<u8>,
}

impl Reader {
    fn refuse(self) -> Refused {
        Refused { faults: self.faults.into_sorted(), files: self.files, config: None }
    }

    /// A key that a table of this kind must have, and that another kind would not.
    fn needed<'a>(
        &mut self,
        table: &document::Written<()>,
        key: &str,
        field: &'a document::Field<String>,
        fix: &str,
    ) -> Option<&'a document::Written<String>> {
        if let document::Field::Absent = field {
            let mut fault = table.fault("is missing", fix);
            fault.key = format!("{}.{key}", table.key);
            fault.value = None;
            self.faults.push(fault);
        }
        field.given()
    }

    /// Largest file that is read; inventories of many thousand targets are far below it.
    const FILE_BYTES_MAX: u64 = 64 << 20;

    /// What the texts that were read amount to: it changes when one of them does.
    fn digest(&self) -> String {
        let digest = digest::digest(&digest::SHA256, &self.texts);
        digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The text of a file, which `named` named.
    fn text_of(&mut self, path: &Path, named: Option<&Written<String>>) -> Option<String> {
        // Also when it cannot be read: it may be there by the next look.
        self.files.push(path.to_path_buf());
        let because = match std::fs::metadata(path) {
            Ok(meta) if meta.is_dir() => "is a directory".to_owned(),
            // Reading from a pipe could wait for ever, and it could not be read again.
            Ok(meta) if !meta.is_file() => "is not a regular file".to_owned(),
            Ok(meta) if meta.len() > Self::FILE_BYTES_MAX => format!("has more than {} bytes", Self::FILE_BYTES_MAX),
            Ok(_) => match std::fs::read_to_string(path) {
                Ok(text) => {
                    let whole = digest::digest(&digest::SHA256, text.as_bytes());
                    self.texts.extend_from_slice(whole.as_ref());
                    return Some(text);
                }
                Err(error) => format!("cannot be read: {}", in_short(&error)),
            },
            Err(error) => format!("cannot be read: {}", in_short(&error)),
        };
        self.faults.push(match named {
            Some(named) => named.fault(format!("{} {because}", path.display()), "name a file that Ravelin can read"),
            None => Fault {
                weight: Weight::Error,
                place: Place { file: path.display().to_string().into(), line: 0 },
                key: String::new(),
                value: None,
                what: because,
                fix: "name the configuration with -c FILE; ravelin.example.toml is one to start from".to_owned(),
            },
        });
        None
    }
}

/// An I/O error without the system's number.
pub(crate) fn in_short(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    }
}
