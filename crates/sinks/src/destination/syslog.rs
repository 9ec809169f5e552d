//! Syslog, RFC 5424: over TCP with octet counting (RFC 6587), TLS (RFC 5425), UDP (RFC 5426), or a socket of this machine.
//!
//! Syslog has no answer. Over a stream, what the far end had not read when it died is lost to it, although we wrote it;
//! so what was written last is kept, and written again on the next connection. Nobody tells us how much of it was read,
//! so as much is kept as the buffers between both programs can hold; what a far end, or a proxy before it, has read and
//! not yet put anywhere is its own to lose. Over UDP nobody learns of a loss.
//!
//! A far end that is slow keeps its connection, and what it took of a batch that did not end in time counts: else one that
//! needs longer for what is written again than a delivery may last would never come to anything new.

use super::{Batch, Destination, Failure};
use crate::config::SyslogTransport;
use crate::lines::stamp;
use crate::schema::{Weight, traits};
use async_trait::async_trait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket, UnixDatagram};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What is kept to be written again on the next connection, in bytes of memory. No message is shorter than 300 bytes, so
/// 33 MiB of it is text: as much as twice [`SEND_BUFFER_BYTES`] and what the far end's system takes for a program that does
/// not read, which is 6 MiB where Linux was left as it comes and 32 MiB where it was tuned for long ways.
const KEPT_BYTES_MAX: usize = 40 << 20;
/// What a kept message takes beside its text, in bytes.
const MESSAGE_BYTES: usize = 64;
/// What our side of a connection buffers, in bytes; Linux doubles it for its own bookkeeping.
const SEND_BUFFER_BYTES: u32 = 512 << 10;
/// Longest message in a datagram, in bytes; a longer one is cut, because no datagram could carry it.
const DATAGRAM_BYTES_MAX: usize = 60_000;

pub(super) struct Syslog {
    transport: SyslogTransport,
    facility: u8,
    host: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    line: Option<Line>,
    /// In the order of the record: what was written to the far end, perhaps in vain, and what is yet to be written.
    kept: VecDeque<Message>,
    /// The size of all of them.
    kept_bytes: usize,
}

struct Message {
    seq: u64,
    text: String,
}

impl Message {
    fn bytes(&self) -> usize {
        self.text.len() + MESSAGE_BYTES
    }
}

/// An open connection, and how far it got.
struct Line {
    connection: Connection,
    /// How many of the kept messages it has carried.
    carried: usize,
    /// How many bytes of the next one.
    offset: usize,
    /// Nothing moved since the last delivery began.
    is_stuck: bool,
}

enum Connection {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Udp(UdpSocket),
    Unix(UnixDatagram),
}

impl Syslog {
    pub(super) fn new(transport: SyslogTransport, facility: u8, host: &str) -> Result<Self, Failure> {
        let tls = match &transport {
            SyslogTransport::Tls(address, ca) => Some(tls(address, ca)?),
            SyslogTransport::Tcp(_) | SyslogTransport::Udp(_) | SyslogTransport::Unix(_) => None,
        };
        let plain = |c: &char| c.is_ascii_graphic();
        let host: String = host.chars().filter(plain).take(255).collect();
        let host = if host.is_empty() { "-".to_owned() } else { host };
        Ok(Self { transport, facility, host, tls, line: None, kept: VecDeque::new(), kept_bytes: 0 })
    }

    fn is_stream(&self) -> bool {
        matches!(self.transport, SyslogTransport::Tcp(_) | SyslogTransport::Tls(..))
    }

    fn message(&self, item: &super::Item) -> Message {
        let kind = item.entry.event.deed.kind;
        let severity = match traits(kind).weight {
            Weight::Warning => 4,
            Weight::Notice => 5,
            Weight::Info => 6,
        };
        let priority = u32::from(self.facility) * 8 + severity;
        let at = stamp(item.entry.event.at);
        // The message is JSON, which holds no line end and no control character.
        let process = std::process::id();
        let mut text = format!("<{priority}>1 {at} {} ravelin {process} {} - {}", self.host, kind.word(), item.record);
        if self.is_stream() {
            text.insert_str(0, &format!("{} ", text.len()));
        } else {
            text.truncate(datagram_length(&text));
        }
        Message { seq: item.entry.event.seq, text }
    }

    async fn connect(&self) -> io::Result<Connection> {
        Ok(match &self.transport {
            SyslogTransport::Tcp(address) => Connection::Tcp(tcp(address).await?),
            SyslogTransport::Tls(address, _) => {
                let Some((connector, name)) = &self.tls else { return Err(io::Error::other("no TLS was set up")) };
                Connection::Tls(Box::new(connector.connect(name.clone(), tcp(address).await?).await?))
            }
            SyslogTransport::Udp(address) => {
                let to = tokio::net::lookup_host(address.as_str()).await?.next();
                let to = to.ok_or_else(|| io::Error::other("the name has no address"))?;
                let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(from).await?;
                socket.connect(to).await?;
                Connection::Udp(socket)
            }
            SyslogTransport::Unix(path) => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(path)?;
                Connection::Unix(socket)
            }
        })
    }

    async fn write(&mut self) -> io::Result<()> {
        if let Some(line) = &mut self.line
            && (line.is_stuck || line.connection.is_closed().await)
        {
            self.line = None;
        }
        // A delivery that is given up leaves the line where it is, with what was done.
        let line = match &mut self.line {
            Some(line) => line,
            None => {
                let connection = self.connect().await?;
                self.line.insert(Line { connection, carried: 0, offset: 0, is_stuck: false })
            }
        };
        let carried = line.carry(&self.kept).await;
        if carried.is_err() {
            self.line = None;
        }
        carried
    }

    /// Lets go of what nobody will ask for again.
    fn forget(&mut self) {
        let bytes_max = if self.is_stream() { KEPT_BYTES_MAX } else { 0 };
        while self.kept_bytes > bytes_max {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.kept_bytes -= oldest.bytes();
            if let Some(line) = &mut self.line {
                line.carried -= 1;
            }
        }
    }
}

#[async_trait]
impl Destination for Syslog {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let newest = self.kept.back().map_or(0, |message| message.seq);
        let new = batch.items.iter().filter(|item| item.entry.event.seq > newest).map(|item| self.message(item));
        let new: Vec<Message> = new.collect();
        self.kept_bytes += new.iter().map(Message::bytes).sum::<usize>();
        self.kept.extend(new);
        let written = self.write().await;
        written.map_err(|error| Failure::new(format!("cannot send: {error}")))?;
        self.forget();
        Ok(())
    }
}

impl Line {
    /// Writes what is kept and was not carried yet. Given up, it goes on where it was.
    async fn carry(&mut self, kept: &VecDeque<Message>) -> io::Result<()> {
        self.is_stuck = true;
        while let Some(message) = kept.get(self.carried) {
            let rest = message.text.as_bytes().get(self.offset..).unwrap_or_default();
            let count = self.connection.send(rest).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.is_stuck = false;
            self.offset += count;
            if self.offset >= message.text.len() {
                self.carried += 1;
                self.offset = 0;
            }
        }
        self.connection.flush().await?;
        self.is_stuck = false;
        if self.connection.is_closed().await {
            return Err(io::Error::other("the far end closed the connection"));
        }
        Ok(())
    }
}

impl Connection {
    /// Sends as much as the system takes at once; of a datagram all.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes).await,
            Self::Tls(stream) => stream.write(bytes).await,
            Self::Udp(socket) => socket.send(bytes).await,
            Self::Unix(socket) => socket.send(bytes).await,
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush().await,
            Self::Tls(stream) => stream.flush().await,
            Self::Udp(_) | Self::Unix(_) => Ok(()),
        }
    }

    /// Whether the far end of a stream has hung up. A datagram's is never known.
    async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        let look = async {
            match self {
                Self::Tcp(stream) => stream.read(&mut byte).await,
                Self::Tls(stream) => stream.read(&mut byte).await,
                Self::Udp(_) | Self::Unix(_) => Ok(1),
            }
        };
        // One look and no waiting: a byte or a failure that is there already.
        match tokio::time::timeout(std::time::Duration::ZERO, look).await {
            Err(_nothing_yet) => false,
            Ok(Ok(count)) => count == 0,
            Ok(Err(_)) => true,
        }
    }
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for to in tokio::net::lookup_host(address).await? {
        let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        match socket.connect(to).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// How much of a message a datagram can carry, in bytes.
fn datagram_length(message: &str) -> usize {
    message.floor_char_boundary(DATAGRAM_BYTES_MAX)
}

fn tls(address: &str, ca: &str) -> Result<(TlsConnector, ServerName<'static>), Failure> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| Failure::new(format!("{host:?} is no name that a certificate could have")))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate =
            certificate.map_err(|error| Failure::new(format!("the certificates to trust cannot be read: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| Failure::new(format!("a certificate to trust cannot be used: {error}")))?;
    }
    if roots.is_empty() {
        return Err(Failure::new("the file with the certificates to trust holds none"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(format!("cannot set up TLS: {error}")))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((TlsConnector::from(Arc::new(config)), name))
}
