//! The data plane as the vendor's command line uses it: a token for each connection, then a WebSocket that carries the
//! bytes of one TCP connection.
//!
//! Source: the requests of azure-cli 2.43 and of the `bastion` extension 1.4.4, as `docs/wire/azure.md` lists them. There
//! is no half-close: either end closing closes all.

use super::{TokenSource, body};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use reqwest::header::{CONNECTION, UPGRADE};
use reqwest::{StatusCode, Url, Version};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

/// Longest time for an answer of the data plane.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes in one message to the service.
const MESSAGE_BYTES: usize = 32 * 1024;
/// Largest message that is taken from the service, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How often a silent service is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A service that says nothing for this long is gone.
const SILENCE_MAX: Duration = Duration::from_secs(90);
/// How long the service may take to answer a close.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// Where a tunnel leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Resource id of the machine.
    pub resource_id: String,
    /// TCP port on it.
    pub port: u16,
    /// Its address, when it is named by address and not by resource.
    pub address: Option<String>,
}

/// Why there is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// No token.
    #[error("no token: {0}")]
    NoToken(String),
    /// The data plane cannot be reached.
    #[error(transparent)]
    Unreachable(#[from] reqwest::Error),
    /// It said no.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The service's words.
        message: String,
    },
    /// Whatever answers does not speak as the service does.
    #[error("the answer is not what a bastion gives: {0}")]
    Strange(String),
}

/// How a tunnel ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The program on this side closed.
    Here,
    /// The service closed.
    There {
        /// The status in its close frame, RFC 6455, section 7.4; `None` when there was none.
        code: Option<u16>,
        /// Its words, which may be none.
        why: String,
    },
    /// The connection was lost.
    Lost(String),
}

/// Opens tunnels through one host. Cheap to clone.
#[derive(Clone)]
pub struct Tunnels {
    http: reqwest::Client,
    base: Url,
    tokens: Arc<dyn TokenSource>,
    /// The host's resource id, where it shares its data plane with others and has to be asked for each tunnel's place.
    shared: Option<String>,
}

/// What the service hands out for one connection. Two of them open something, so neither is shown.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ticket {
    auth_token: SecretString,
    websocket_token: SecretString,
    node_id: Option<String>,
}

/// An open tunnel: one session at the service.
pub struct Tunnel {
    socket: WebSocketStream<reqwest::Upgraded>,
    http: reqwest::Client,
    release: Url,
    node: Option<String>,
}

/// The address of a data plane of that name, which may have a port; `None` when it is more or less than a name.
#[must_use]
pub fn data_plane(scheme: &str, name: &str) -> Option<Url> {
    let url = Url::parse(&format!("{scheme}://{name}")).ok()?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    (bare && url.password().is_none() && url.host_str().is_some()).then_some(url)
}

impl Tunnels {
    /// Tunnels through the host whose data plane is at `base`, over HTTP/1.1.
    #[must_use]
    pub fn new(http: reqwest::Client, base: Url, tokens: Arc<dyn TokenSource>) -> Self {
        Self { http, base, tokens, shared: None }
    }

    /// The same for the Developer SKU, whose data plane says for each tunnel where it is reached; `bastion` is the host's
    /// resource id.
    #[must_use]
    pub fn shared(self, bastion: String) -> Self {
        Self { shared: Some(bastion), ..self }
    }

    /// Where the data plane is.
    #[must_use]
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Opens one.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing is left open then, but for a token that lapses by itself.
    pub async fn open(&self, to: &Destination) -> Result<Tunnel, TunnelError> {
        let base = match &self.shared {
            None => self.base.clone(),
            Some(bastion) => self.place(bastion, to).await?,
        };
        let ticket = self.ticket(&base, to).await?;
        let token = ticket.websocket_token.expose_secret();
        let mut url = match self.shared {
            None => at(&base, &["webtunnelv2", token]),
            Some(_) => at(&base, &["omni", "webtunnel", token]),
        };
        if let (None, Some(node)) = (&self.shared, &ticket.node_id) {
            url.query_pairs_mut().append_pair("X-Node-Id", node);
        }
        let key = generate_key();
        let asked = self.http.get(url).version(Version::HTTP_11);
        let asked = asked.header(CONNECTION, "Upgrade").header(UPGRADE, "websocket");
        let asked = asked.header("sec-websocket-version", "13").header("sec-websocket-key", &key).send();
        // The token is in the address, and an address is what an error shows.
        let response = tokio::time::timeout(ANSWER_MAX, asked).await.map_err(|_elapsed| slow())?;
        let response = response.map_err(reqwest::Error::without_url)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(response).await);
        }
        let accepted = response.headers().get("sec-websocket-accept").map(|value| value.as_bytes());
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(TunnelError::Strange("the WebSocket handshake has a wrong key".to_owned()));
        }
        let stream = response.upgrade().await.map_err(reqwest::Error::without_url)?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX))
            .write_buffer_size(0);
        let socket = WebSocketStream::from_raw_socket(stream, Role::Client, Some(limits)).await;
        let release = at(&base, &["api", "tokens", ticket.auth_token.expose_secret()]);
        Ok(Tunnel { socket, http: self.http.clone(), release, node: ticket.node_id })
    }

    /// Where a tunnel's data plane is: the whole text of the answer is its name.
    async fn place(&self, bastion: &str, to: &Destination) -> Result<Url, TunnelError> {
        let token = self.tokens.token().await.map_err(TunnelError::NoToken)?;
        let wish = json!({
            "resourceId": to.resource_id,
            "bastionResourceId": bastion,
            "vmPort": to.port,
            "azToken": token.expose_secret(),
            "connectionType": "nativeclient",
        });
        let request = self.http.post(at(&self.base, &["api", "connection"])).timeout(ANSWER_MAX);
        let response = request.json(&wish).send().await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let bytes = body(response).await.map_err(|error| TunnelError::Strange(error.to_string()))?;
        let name = std::str::from_utf8(&bytes).unwrap_or_default().trim().trim_matches('"');
        data_plane(self.base.scheme(), name).ok_or_else(|| TunnelError::Strange("it names no data plane".to_owned()))
    }

    async fn ticket(&self, base: &Url, to: &Destination) -> Result<Ticket, TunnelError> {
        let token = self.tokens.token().await.map_err(TunnelError::NoToken)?;
        let port = to.port.to_string();
        let mut form = vec![
            ("resourceId", to.resource_id.as_str()),
            ("protocol", "tcptunnel"),
            ("workloadHostPort", port.as_str()),
            ("aztoken", token.expose_secret()),
        ];
        if let Some(address) = &to.address {
            form.push(("hostname", address));
        }
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(at(base, &["api", "tokens"])).timeout(ANSWER_MAX);
        let request = request.header("content-type", "application/x-www-form-urlencoded").body(form);
        let response = request.send().await?;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        let bytes = body(response).await.map_err(|error| TunnelError::Strange(error.to_string()))?;
        // The text of a parse error may quote the answer, which holds secrets.
        serde_json::from_slice(&bytes).map_err(|_| TunnelError::Strange("it holds no tokens".to_owned()))
    }
}

fn at(base: &Url, path: &[&str]) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path);
    }
    url
}

fn slow() -> TunnelError {
    TunnelError::Strange(format!("no answer within {} s", ANSWER_MAX.as_secs()))
}

/// The data plane's own form of a refusal is an object with a `message`.
async fn refused(response: reqwest::Response) -> TunnelError {
    #[derive(Deserialize)]
    struct Said {
        message: String,
    }
    let status = response.status();
    let bytes = match body(response).await {
        Ok(bytes) => bytes,
        Err(error) => return TunnelError::Strange(error.to_string()),
    };
    let message = match serde_json::from_slice::<Said>(&bytes) {
        Ok(said) => said.message,
        Err(_) => format!("the bastion answers {status}"),
    };
    TunnelError::Refused { status: status.as_u16(), message }
}

impl Tunnel {
    /// Carries bytes both ways until one side closes, then gives the token back.
    pub async fn carry(self, reader: impl AsyncRead + Unpin, writer: impl AsyncWrite + Unpin) -> Ended {
        let Self { socket, http, release, node } = self;
        let (mut sink, mut stream) = socket.split();
        let held_up = AtomicBool::new(false);
        let ended = {
            let mut inward = pin!(inward(&mut stream, writer, &held_up));
            // Each way has its own future: a far end that does not read must not keep us from reading.
            tokio::select! {
                ended = outward(&mut sink, reader, &held_up) => {
                    if matches!(ended, Ended::Here) {
                        let closing = async {
                            // Fails only when the far end has closed too.
                            if sink.close().await.is_ok() {
                                // What was on its way when this side closed still arrives.
                                let _theirs = inward.await;
                            }
                        };
                        let _slow = tokio::time::timeout(CLOSE_MAX, closing).await;
                    }
                    ended
                }
                ended = &mut inward => {
                    if matches!(ended, Ended::Here) {
                        let _slow = tokio::time::timeout(CLOSE_MAX, sink.close()).await;
                    }
                    ended
                }
            }
        };
        drop((sink, stream));
        let mut request = http.delete(release).timeout(CLOSE_MAX);
        if let Some(node) = node {
            request = request.header("X-Node-Id", node);
        }
        let given_back = request.send().await;
        if let Err(error) = given_back.map_err(reqwest::Error::without_url) {
            tracing::debug!(%error, "a token could not be given back; it has lapsed with its connection");
        }
        ended
    }
}

type Socket = WebSocketStream<reqwest::Upgraded>;

/// What is read here goes there; and a question from time to time whether somebody is there. `held_up` is set while what
/// was read is not taken there.
async fn outward(
    sink: &mut SplitSink<Socket, Message>,
    mut reader: impl AsyncRead + Unpin,
    held_up: &AtomicBool,
) -> Ended {
    let mut buffer = BytesMut::new();
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    loop {
        buffer.reserve(MESSAGE_BYTES);
        let message = tokio::select! {
            read = reader.read_buf(&mut buffer) => match read {
                Ok(0) => return Ended::Here,
                Ok(_) => Message::Binary(buffer.split().freeze()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ended::Here,
            },
            _ = ping.tick() => Message::Ping(Bytes::new()),
        };
        held_up.store(true, Ordering::Relaxed);
        let sent = sink.send(message).await;
        held_up.store(false, Ordering::Relaxed);
        if let Err(error) = sent {
            return lost(error);
        }
    }
}

/// What comes from there is written here.
async fn inward(stream: &mut SplitStream<Socket>, mut writer: impl AsyncWrite + Unpin, held_up: &AtomicBool) -> Ended {
    loop {
        let Ok(message) = tokio::time::timeout(SILENCE_MAX, stream.next()).await else {
            // A machine that takes nothing holds up the bastion too, which then reads no question and answers none.
            if held_up.load(Ordering::Relaxed) {
                continue;
            }
            return Ended::Lost(format!("the bastion was silent for {} s", SILENCE_MAX.as_secs()));
        };
        match message {
            Some(Ok(Message::Binary(bytes))) => {
                if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                    return Ended::Here;
                }
            }
            Some(Ok(Message::Close(frame))) => {
                return match frame {
                    Some(frame) => Ended::There { code: Some(frame.code.into()), why: frame.reason.to_string() },
                    None => Ended::There { code: None, why: String::new() },
                };
            }
            Some(Ok(Message::Text(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => return lost(error),
            None => return Ended::There { code: None, why: String::new() },
        }
    }
}

fn lost(error: tungstenite::Error) -> Ended {
    match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
            Ended::There { code: None, why: String::new() }
        }
        tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => broken_off(),
        // The TLS library has much to say of a far end that is gone, and nothing for whoever sits here.
        tungstenite::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ) =>
        {
            broken_off()
        }
        other => Ended::Lost(other.to_string()),
    }
}

fn broken_off() -> Ended {
    Ended::Lost("the bastion broke off the connection".to_owned())
}
