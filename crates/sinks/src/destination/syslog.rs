//! Syslog, RFC 5424: over TCP with octet counting (RFC 6587), TLS (RFC 5425), UDP (RFC 5426), or a socket of this machine.
//!
//! Syslog has no answer. Over a stream, what the far end had not read when it died is lost to it, although we wrote it;
//! so what was written last is kept, and written again on the next connection. Over UDP nobody learns of a loss.

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
use tokio::net::{TcpStream, UdpSocket, UnixDatagram};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Messages that are kept to be written again on the next connection.
const UNSURE_MESSAGES_MAX: usize = 2000;
/// The same, in bytes.
const UNSURE_BYTES_MAX: usize = 4 << 20;
/// Longest message in a datagram, in bytes; a longer one is cut, because no datagram could carry it.
const DATAGRAM_BYTES_MAX: usize = 60_000;

pub(super) struct Syslog {
    transport: SyslogTransport,
    facility: u8,
    host: String,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    line: Option<Connection>,
    unsure: VecDeque<String>,
    unsure_bytes: usize,
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
        Ok(Self { transport, facility, host, tls, line: None, unsure: VecDeque::new(), unsure_bytes: 0 })
    }

    fn message(&self, item: &super::Item) -> String {
        let kind = item.entry.event.deed.kind;
        let severity = match traits(kind).weight {
            Weight::Warning => 4,
            Weight::Notice => 5,
            Weight::Info => 6,
        };
        let priority = u32::from(self.facility) * 8 + severity;
        let at = stamp(item.entry.event.at);
        // The message is JSON, which holds no line end and no control character.
        format!("<{priority}>1 {at} {} ravelin {} {} - {}", self.host, std::process::id(), kind.word(), item.record)
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

    fn remember(&mut self, message: String) {
        self.unsure_bytes += message.len();
        self.unsure.push_back(message);
        while self.unsure.len() > UNSURE_MESSAGES_MAX || self.unsure_bytes > UNSURE_BYTES_MAX {
            let Some(sure) = self.unsure.pop_front() else { return };
            self.unsure_bytes -= sure.len();
        }
    }

    async fn write(&mut self, messages: &[String]) -> io::Result<()> {
        let is_stream = matches!(self.transport, SyslogTransport::Tcp(_) | SyslogTransport::Tls(..));
        if let Some(line) = &mut self.line
            && is_stream
            && line.is_closed().await
        {
            self.line = None;
        }
        let mut line = match self.line.take() {
            Some(line) => line,
            None => {
                let mut line = self.connect().await?;
                for message in self.unsure.iter().filter(|_| is_stream) {
                    line.send(message).await?;
                }
                line
            }
        };
        for message in messages {
            line.send(message).await?;
        }
        line.flush().await?;
        if is_stream && line.is_closed().await {
            return Err(io::Error::other("the far end closed the connection"));
        }
        self.line = Some(line);
        Ok(())
    }
}

#[async_trait]
impl Destination for Syslog {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let messages: Vec<String> = batch.items.iter().map(|item| self.message(item)).collect();
        self.write(&messages).await.map_err(|error| Failure::new(format!("cannot send: {error}")))?;
        messages.into_iter().for_each(|message| self.remember(message));
        Ok(())
    }
}

impl Connection {
    async fn send(&mut self, message: &str) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => framed(stream, message).await,
            Self::Tls(stream) => framed(stream.as_mut(), message).await,
            Self::Udp(socket) => socket.send(cut(message)).await.map(|_| ()),
            Self::Unix(socket) => socket.send(cut(message)).await.map(|_| ()),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush().await,
            Self::Tls(stream) => stream.flush().await,
            Self::Udp(_) | Self::Unix(_) => Ok(()),
        }
    }

    /// Whether the far end of a stream has hung up. A syslog server says nothing, so whatever can be read is an end.
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
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn framed(stream: &mut (impl AsyncWriteExt + Unpin), message: &str) -> io::Result<()> {
    let frame = format!("{} {message}", message.len());
    stream.write_all(frame.as_bytes()).await
}

/// The message, or as much of it as a datagram can carry.
fn cut(message: &str) -> &[u8] {
    let mut end = message.len().min(DATAGRAM_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message.as_bytes()[..end]
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
