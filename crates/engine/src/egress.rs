//! Going out: the port by which an edge opens something on a target, the plain TCP dialer, whether a target can be
//! reached, and which addresses may be reached that no target of the inventory has.
//!
//! An edge that brings people in need not speak the protocol of the targets. It asks its admission to
//! [`reach`](crate::Admission::reach) the target through a [`Dialer`] and to [`open`](crate::Admission::open) there what
//! the person wants; what it gets is a [`Duct`], whose two ends the relay joins to its own.

use crate::leg::{Leg, prepare};
use crate::recording;
use crate::relay::{Broken, Sink, Source, Unit};
use async_trait::async_trait;
use aws_lc_rs::digest;
use ipnet::IpNet;
use ravelin_model::policy::Action;
use ravelin_model::recording::{Purpose, Rule};
use ravelin_model::session::EndReason;
use ravelin_model::target::{LoginWay, Protocol};
use ravelin_model::text::printable;
use ravelin_model::{GroupName, Refusal, Target, TargetId, TargetName};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long a connection to a target may take to come up.
pub const DIAL_MAX: Duration = Duration::from_secs(10);

/// How long a reachability check may take.
pub const PROBE_MAX: Duration = Duration::from_secs(2);

/// Why a target was not reached, or how it was lost, for the person and the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// From the closed list of what ends a session.
    pub reason: EndReason,
    /// What exactly happened. Public.
    pub detail: String,
}

impl Unreached {
    /// From its parts.
    pub fn new(reason: EndReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// A terminal that a program is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// What the terminal understands, such as `xterm-256color`.
    pub name: String,
    /// Columns of characters.
    pub columns: u32,
    /// Rows of characters.
    pub rows: u32,
}

/// What to open on a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The login's shell on a terminal.
    Shell {
        /// The terminal.
        terminal: Terminal,
    },
    /// One command, which the login's shell reads.
    Exec {
        /// The command.
        command: String,
        /// A terminal, if it is to have one. Without one its two streams stay apart.
        terminal: Option<Terminal>,
    },
    /// A TCP connection that the target makes.
    Connect {
        /// Host name or address, as the target knows it.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A connection to a Unix socket of the target.
    Socket {
        /// Its path there.
        path: String,
    },
}

impl Opening {
    /// What has to be permitted for it.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Opening::Shell { .. } => Action::OpenShell,
            Opening::Exec { .. } => Action::OpenExec,
            Opening::Connect { .. } | Opening::Socket { .. } => Action::ForwardLocal,
        }
    }

    /// What a recording says of it.
    pub(crate) fn purpose(&self) -> Purpose {
        const TO_CHARS_MAX: usize = 300;
        let bounded = |t: &Terminal| recording::terminal(&t.name, t.columns, t.rows);
        match self {
            Opening::Shell { terminal } => Purpose::Shell { terminal: Some(bounded(terminal)) },
            Opening::Exec { command, terminal } => {
                Purpose::Exec { command: command.clone(), terminal: terminal.as_ref().map(bounded) }
            }
            Opening::Connect { host, port } => {
                Purpose::Forward { inward: false, to: format!("{}:{port}", printable(host, TO_CHARS_MAX)) }
            }
            Opening::Socket { path } => Purpose::Forward { inward: false, to: printable(path, TO_CHARS_MAX) },
        }
    }
}

/// Why something was not opened on a target that was reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotOpened {
    /// We say no.
    Refused(Refusal),
    /// The target says no, in these words.
    Declined(String),
    /// The target's connection is gone; [`Reached::lost`] says why.
    Lost,
}

/// Goes out to targets in their protocol. Implemented by an edge, handed to the others by whoever wires them.
#[async_trait]
pub trait Dialer: Send + Sync {
    /// Connects and logs in. `hold` gets the socket for the engine's hand, before the target's first byte is used.
    ///
    /// # Errors
    /// [`Unreached`].
    async fn dial(
        &self,
        target: &Target,
        way: &LoginWay,
        hold: &(dyn Fn(Arc<dyn Leg>) + Send + Sync),
    ) -> Result<Box<dyn Far>, Unreached>;
}

/// A target's connection, as its protocol's edge keeps it.
#[async_trait]
pub trait Far: Send + Sync {
    /// Opens something there. INVARIANT: called by [`Reached`] only, after the policy was asked.
    ///
    /// # Errors
    /// [`NotOpened`].
    async fn open(&self, opening: Opening) -> Result<Duct, NotOpened>;

    /// Resolves when the connection is gone, with why.
    async fn lost(&self) -> Unreached;

    /// Takes leave in the protocol's own way; returns when that was written. The caller bounds the time.
    async fn take_leave(&self);
}

/// A target that was reached for one session. Dropping it lets go of the connection.
pub struct Reached {
    far: Box<dyn Far>,
    ended: CancellationToken,
}

impl Reached {
    /// `ended` is cancelled when the session is asked to end.
    pub(crate) fn new(far: Box<dyn Far>, ended: CancellationToken) -> Self {
        Self { far, ended }
    }

    pub(crate) async fn open(&self, opening: Opening) -> Result<Duct, NotOpened> {
        self.far.open(opening).await
    }

    /// Resolves when the connection is gone, with why; never once the session was asked to end.
    pub async fn lost(&self) -> Unreached {
        let unreached = self.far.lost().await;
        before_the_end(&self.ended).await;
        unreached
    }

    /// Takes leave in the protocol's own way. The caller bounds the time.
    pub async fn take_leave(&self) {
        self.far.take_leave().await;
    }
}

/// INVARIANT: the end of a session is known before its target is cut off, so what came of that cut is not taken for the
/// cause of the end: whoever would tell it waits here, and hears of the end instead.
pub(crate) async fn before_the_end(ended: &CancellationToken) {
    if ended.is_cancelled() {
        std::future::pending().await
    }
}

/// What was opened on a target: where its units come from and go to.
pub struct Duct {
    /// What the target sends.
    pub source: FarSource,
    /// What the target takes.
    pub sink: FarSink,
}

/// [`Source`] without its type.
#[async_trait]
pub trait DynSource: Send {
    /// See [`Source::next`].
    async fn next_unit(&mut self) -> Option<Unit>;
}

#[async_trait]
impl<S: Source> DynSource for S {
    async fn next_unit(&mut self) -> Option<Unit> {
        self.next().await
    }
}

/// [`Sink`] without its type, which also closes.
#[async_trait]
pub trait DynSink: Send {
    /// See [`Sink::put`].
    ///
    /// # Errors
    /// [`Broken`].
    async fn put_unit(&mut self, unit: Unit) -> Result<(), Broken>;

    /// Closes what was opened, both ways.
    async fn close(&mut self);
}

/// A target's source, whatever its protocol.
pub struct FarSource(Box<dyn DynSource>);

impl FarSource {
    /// From any source.
    pub fn new(source: impl DynSource + 'static) -> Self {
        Self(Box::new(source))
    }
}

impl Source for FarSource {
    async fn next(&mut self) -> Option<Unit> {
        self.0.next_unit().await
    }
}

/// A target's sink, whatever its protocol.
pub struct FarSink(Box<dyn DynSink>);

impl FarSink {
    /// From any sink that closes.
    pub fn new(sink: impl DynSink + 'static) -> Self {
        Self(Box::new(sink))
    }

    /// Closes what was opened, both ways.
    pub async fn close(mut self) {
        self.close_now().await;
    }

    pub(crate) async fn close_now(&mut self) {
        self.0.close().await;
    }
}

impl Sink for FarSink {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        self.0.put_unit(unit).await
    }
}

/// Connects to a target with Nagle's algorithm off.
///
/// # Errors
/// The system's own error, or `TimedOut` after [`DIAL_MAX`].
pub async fn dial(target: &Target) -> io::Result<TcpStream> {
    dial_within(target, DIAL_MAX).await
}

async fn dial_within(target: &Target, limit: Duration) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((target.address.as_str(), target.port));
    let stream = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))??;
    prepare(&stream)?;
    Ok(stream)
}

/// Which addresses may be reached by themselves, without a target of the inventory. By default none.
///
/// An address that may be reached counts as a target that is shared with [`Egress::shared_with`] and bears the label
/// [`Egress::LABEL`], so that policies speak of it as of any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Where the addresses must lie. Empty: nowhere.
    pub networks: Vec<IpNet>,
    /// The ports that may be asked for.
    pub ports: BTreeSet<u16>,
    /// The groups that such a target is shared with.
    pub shared_with: BTreeSet<GroupName>,
}

impl Egress {
    /// The label of a target that is an address only, and its value.
    pub const LABEL: (&'static str, &'static str) = ("by", "address");

    /// Whether any address may be reached at all.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.networks.is_empty() && !self.ports.is_empty()
    }

    /// The target that an address and a port are, or `None` where these rules do not reach. What speaks there is told by
    /// the port: 22 is SSH, 3389 is RDP.
    #[must_use]
    pub fn target(&self, address: IpAddr, port: u16) -> Option<Target> {
        let address = address.to_canonical();
        let reached = self.networks.iter().any(|network| network.contains(&address)) && self.ports.contains(&port);
        if !reached || is_never_reached(address) {
            return None;
        }
        let name = TargetName::parse(&format!("ip-{}-{port}", address.to_string().replace([':', '.'], "-"))).ok()?;
        let digest = digest::digest(&digest::SHA256, name.as_str().as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Target {
            id: TargetId::from_hex(&hex[..17]).ok()?,
            name,
            address: address.to_string(),
            port,
            protocol: match port {
                22 => Protocol::Ssh,
                3389 => Protocol::Rdp,
                _ => Protocol::Tcp,
            },
            logins: Vec::new(),
            host_keys: Vec::new(),
            labels: BTreeMap::from([(Self::LABEL.0.to_owned(), Self::LABEL.1.to_owned())]),
            shared_with: self.shared_with.clone(),
            aliases: BTreeMap::new(),
            // Nobody logs in there by us, so nothing passes that could be recorded.
            recording: Rule::default(),
        })
    }
}

/// Whether an address is one that no network of [`Egress`] opens, however wide it is: this machine, what is not one
/// machine, and where clouds answer their own machines with credentials. An IPv4 address in the dress of an IPv6 one
/// counts as what it is.
#[must_use]
pub fn is_never_reached(address: IpAddr) -> bool {
    /// Metadata and host services of large clouds that are outside of the link-local range.
    const SERVICES: [IpAddr; 3] = [
        IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
        IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
        IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    ];
    if SERVICES.contains(&address) || address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return true;
    }
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240,
        IpAddr::V6(v6) => {
            let s = v6.segments();
            let v4 = |high: u16, low: u16| {
                let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
                is_never_reached(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
            };
            let dressed = match s {
                // Those of the same clouds in the private range of IPv6.
                [0xfd00, 0xec2 | 0xc1, ..] | [0xfd20, 0xce, ..] => true,
                // Mapped, and compatible in its two old forms.
                [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => v4(high, low),
                // NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
                [0x64, 0xff9b, 1, ..] => true,
                [0x2002, high, low, ..] => v4(high, low),
                _ => false,
            };
            dressed || v6.is_unicast_link_local() || (s[0] & 0xffc0) == 0xfec0
        }
    }
}

/// What a look at a target showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// How long ago it was taken.
    pub age: Duration,
    /// Whether the target took a TCP connection.
    pub reachable: bool,
    /// The first line that it said by itself, without line end; at most [`Sight::GREETING_BYTES_MAX`]. Never trusted.
    pub greeting: Option<String>,
}

impl Sight {
    /// Longest greeting that is read; RFC 4253, section 4.2, allows an SSH server 255 with its line end.
    pub const GREETING_BYTES_MAX: usize = 255;
}

/// Checks targets, a bounded number at a time.
pub(crate) struct Probe {
    slots: Semaphore,
    sights: Mutex<HashMap<TargetId, (Instant, Sight)>>,
}

impl Probe {
    const SLOTS: usize = 32;
    /// How long a look is good for.
    const SIGHT_KEEP: Duration = Duration::from_secs(30);
    /// Targets whose last sight is kept.
    const SIGHTS_MAX: usize = 10_000;
    /// How long a target that was reached may take to say something by itself.
    const GREETING_MAX: Duration = Duration::from_secs(1);

    pub(crate) fn new() -> Self {
        Self { slots: Semaphore::new(Self::SLOTS), sights: Mutex::default() }
    }

    /// Whether the target takes a TCP connection now.
    pub(crate) async fn reaches(&self, target: &Target) -> bool {
        let Ok(_slot) = self.slots.acquire().await else { return false };
        dial_within(target, PROBE_MAX).await.is_ok()
    }

    /// What is to be seen of the target from outside, now or a short time ago.
    pub(crate) async fn look(&self, target: &Target) -> Sight {
        if let Some(kept) = self.kept(&target.id) {
            return kept;
        }
        let Ok(_slot) = self.slots.acquire().await else {
            return Sight { age: Duration::ZERO, reachable: false, greeting: None };
        };
        let (reachable, greeting) = match dial_within(target, PROBE_MAX).await {
            Ok(mut stream) => (true, greeting(&mut stream).await),
            Err(_unreachable) => (false, None),
        };
        let sight = Sight { age: Duration::ZERO, reachable, greeting };
        let mut sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        if sights.len() >= Self::SIGHTS_MAX {
            sights.retain(|_, (taken, _)| taken.elapsed() < Self::SIGHT_KEEP);
        }
        if sights.len() < Self::SIGHTS_MAX {
            sights.insert(target.id.clone(), (Instant::now(), sight.clone()));
        }
        sight
    }

    fn kept(&self, id: &TargetId) -> Option<Sight> {
        let sights = self.sights.lock().unwrap_or_else(PoisonError::into_inner);
        let (taken, sight) = sights.get(id)?;
        let age = taken.elapsed();
        (age < Self::SIGHT_KEEP).then(|| Sight { age, ..sight.clone() })
    }
}

async fn greeting(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let reading = async {
        let mut piece = [0; Sight::GREETING_BYTES_MAX];
        while !line.contains(&b'\n') && line.len() < Sight::GREETING_BYTES_MAX {
            match stream.read(&mut piece[line.len()..]).await {
                Ok(0) | Err(_) => break,
                Ok(n) => line.extend_from_slice(&piece[line.len()..][..n]),
            }
        }
    };
    // Who says nothing in time says nothing.
    let _silent = tokio::time::timeout(Probe::GREETING_MAX, reading).await;
    let line = line.split(|b| matches!(b, b'\r' | b'\n')).next()?;
    let text = printable(&String::from_utf8_lossy(line), Sight::GREETING_BYTES_MAX);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn open(network: &str) -> Egress {
        Egress {
            networks: vec![network.parse().expect(network)],
            ports: [22, 3389, 5432].into(),
            shared_with: BTreeSet::default(),
        }
    }

    #[test]
    fn nothing_is_open_by_default() {
        assert!(!Egress::default().is_open());
        assert!(Egress::default().target(ip("10.0.0.7"), 22).is_none());
    }

    #[test]
    fn an_address_is_reached_in_its_network_on_its_ports_only() {
        let egress = open("10.0.0.0/8");
        let target = egress.target(ip("10.1.2.3"), 22).expect("open");
        assert_eq!((target.address.as_str(), target.port, target.protocol), ("10.1.2.3", 22, Protocol::Ssh));
        assert_eq!(target.name.as_str(), "ip-10-1-2-3-22");
        assert_eq!(egress.target(ip("::ffff:10.1.2.3"), 3389).expect("the same machine").protocol, Protocol::Rdp);
        assert_eq!(egress.target(ip("10.1.2.3"), 5432).expect("open").protocol, Protocol::Tcp);
        assert!(egress.target(ip("10.1.2.3"), 80).is_none());
        assert!(egress.target(ip("11.1.2.3"), 22).is_none());
    }

    #[test]
    fn the_widest_network_does_not_open_this_machine_nor_a_clouds_own_services() {
        let (four, six) = (open("0.0.0.0/0"), open("::/0"));
        for never in [
            "169.254.169.254",
            "169.254.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fec0::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "::ffff:127.0.0.1",
        ] {
            for egress in [&four, &six] {
                assert!(egress.target(ip(never), 22).is_none(), "{never}");
            }
        }
        assert!(four.target(ip("192.0.2.1"), 22).is_some());
        assert!(six.target(ip("2001:db8::1"), 22).is_some());
        assert!(six.target(ip("64:ff9b::c000:201"), 22).is_some());
    }
}
