//! One connection: from a stream URL to a WebSocket over TLS, signed where there are credentials.

use super::{Control, Failure};
use crate::proto::message::MESSAGE_BYTES_MAX;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request, Uri};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// The service that signatures name.
const SERVICE: &str = "ssmmessages";
/// Bytes of a refusal's body that are shown.
const BODY_BYTES_MAX: usize = 300;

/// Whom to trust: see [`trust`] and [`trust_anybody`].
#[derive(Clone, Debug)]
pub struct Trust(Arc<ClientConfig>);

/// Trusts the certificates in `files`, or the system's when there are no files.
///
/// # Errors
/// [`Failure::Trust`].
pub fn trust(files: &[PathBuf]) -> Result<Trust, Failure> {
    let mut roots = RootCertStore::empty();
    for file in files {
        let fault = |because: String| Failure::Trust(format!("{}: {because}", file.display()));
        let certificates = CertificateDer::pem_file_iter(file).map_err(|error| fault(error.to_string()))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| fault(error.to_string()))?;
            roots.add(certificate).map_err(|error| fault(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(fault("there is no certificate in it".to_owned()));
        }
    }
    if files.is_empty() {
        let found = rustls_native_certs::load_native_certs();
        // The system may hold certificates that nobody can use; the others count.
        roots.add_parsable_certificates(found.certs);
    }
    Ok(Trust(Arc::new(builder()?.with_root_certificates(roots).with_no_client_auth())))
}

/// Trusts whoever answers, as `--no-verify-ssl` has it.
///
/// # Errors
/// [`Failure::Trust`].
pub fn trust_anybody() -> Result<Trust, Failure> {
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider().signature_verification_algorithms)))
        .with_no_client_auth();
    Ok(Trust(Arc::new(config)))
}

fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, Failure> {
    ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Trust(error.to_string()))
}

/// Takes any certificate whose key the server has.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A connection's bytes.
pub(crate) enum Bytes {
    Tls(Box<TlsStream<TcpStream>>),
    Clear(TcpStream),
}

pub(crate) type Socket = WebSocketStream<Bytes>;

/// Opens a connection.
pub(crate) async fn open(
    url: &str,
    trust: &Trust,
    control: &dyn Control,
    patience: Duration,
) -> Result<Socket, Failure> {
    let mut request = url.into_client_request().map_err(|_error| Failure::Url(without_query(url)))?;
    let uri = request.uri().clone();
    let secure = match uri.scheme_str() {
        Some("wss") => true,
        Some("ws") => false,
        Some(_) | None => return Err(Failure::Url(without_query(url))),
    };
    let name = uri.host().map(|name| name.trim_start_matches('[').trim_end_matches(']').to_owned());
    let name = name.ok_or_else(|| Failure::Url(without_query(url)))?;
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let host = format!("{name}:{port}");
    let agent = HeaderValue::from_static(concat!("ravelin/", env!("CARGO_PKG_VERSION")));
    request.headers_mut().insert(USER_AGENT, agent);
    let unreachable = |because: String| Failure::Unreachable { host: host.clone(), because };
    let dial = async {
        let tcp = TcpStream::connect((name.as_str(), port)).await.map_err(|error| unreachable(error.to_string()))?;
        if !secure && !tcp.peer_addr().is_ok_and(|address| address.ip().is_loopback()) {
            return Err(Failure::Clear(without_query(url)));
        }
        // Fails on sockets that have no such delay.
        tcp.set_nodelay(true).ok();
        sign_upgrade(&mut request, &uri, control).await;
        let stream = if secure {
            let server = ServerName::try_from(name.clone()).map_err(|_error| Failure::Url(without_query(url)))?;
            let connector = TlsConnector::from(Arc::clone(&trust.0));
            Bytes::Tls(Box::new(connector.connect(server, tcp).await.map_err(|error| tls_fault(&host, &error))?))
        } else {
            Bytes::Clear(tcp)
        };
        let config = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .max_write_buffer_size(4 * MESSAGE_BYTES_MAX);
        let (socket, _response) = tokio_tungstenite::client_async_with_config(request, stream, Some(config))
            .await
            .map_err(|error| upgrade_fault(&host, error))?;
        Ok(socket)
    };
    match tokio::time::timeout(patience, dial).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(unreachable(format!("no answer within {} s", patience.as_secs()))),
    }
}

/// Signs as the vendor's plugin does since 1.2.764. What fails is logged, and the request goes unsigned, as there.
async fn sign_upgrade(request: &mut Request<()>, uri: &Uri, control: &dyn Control) {
    // A URL that is signed already needs no more.
    if uri.query().is_some_and(|query| query.split('&').any(|pair| pair.to_ascii_lowercase().starts_with("x-amz-"))) {
        return;
    }
    let Some((credentials, region)) = control.signer().await else { return };
    let identity = credentials.into();
    let signed = (|| {
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&region)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| error.to_string())?
            .into();
        let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let signable =
            SignableRequest::new("GET", uri.to_string(), [("host", host)].into_iter(), SignableBody::Bytes(b""))
                .map_err(|error| error.to_string())?;
        sign(signable, &params).map(|output| output.into_parts().0).map_err(|error| error.to_string())
    })();
    match signed {
        Ok(instructions) => instructions.apply_to_request_http1x(request),
        Err(because) => tracing::warn!(because, "the data channel's request goes unsigned"),
    }
}

fn tls_fault(host: &str, error: &std::io::Error) -> Failure {
    let host = host.to_owned();
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(because)) => Failure::Certificate { host, because: because.to_string() },
        Some(other) => Failure::Upgrade { host, because: format!("TLS failed: {other}") },
        None => Failure::Unreachable { host, because: format!("TLS failed: {error}") },
    }
}

fn upgrade_fault(host: &str, error: tungstenite::Error) -> Failure {
    let because = match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(BODY_BYTES_MAX)]).trim().to_owned();
            let status = response.status();
            if body.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {body}") }
        }
        other => other.to_string(),
    };
    Failure::Upgrade { host: host.to_owned(), because: super::harmless(&because) }
}

/// A URL as it may be shown: what stands in a query may open something.
fn without_query(url: &str) -> String {
    super::harmless(url.split('?').next().unwrap_or_default())
}

impl AsyncRead for Bytes {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Bytes::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buf),
            Bytes::Clear(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Bytes {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Bytes::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, buf),
            Bytes::Clear(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Bytes::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Bytes::Clear(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Bytes::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Bytes::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
