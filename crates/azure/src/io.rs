//! The thin driver that owns a tunnel's WebSocket: it dials, joins the two sides through the engine's relay, and says in
//! the close frame why it ended.
//!
//! What goes to the client is binary and never empty: the service's own command line breaks on a text and takes an empty
//! message for the end. There is no half-close; either end closing closes both. Source: RFC 6455; the tunnel of
//! azure-cli's extension `bastion` 1.4.

use crate::tickets::OpenTunnel;
use async_trait::async_trait;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt, SinkExt, StreamExt};
use ravelin_engine::leg::{Leg, SocketHandle, guard};
use ravelin_engine::relay::{Broken, Flow, ReadSource, Sink, Source, Stopped, Unit, WriteSink};
use ravelin_engine::{Admission, egress};
use ravelin_model::session::{EndReason, Ending};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Largest frame and message that is taken, in bytes. The service's command line sends 4 KiB at a time.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Read at once from the socket. Every open tunnel holds as much.
pub(crate) const READ_BYTES: usize = 16 << 10;
/// How long a client may take to answer a close frame.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// How long a target that takes nothing more may still say something.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);
/// Longest reason that fits into a close frame: RFC 6455, section 5.5.
const REASON_BYTES_MAX: usize = 123;
/// Messages are joined up to this size before they go to the target: a write costs more than a copy.
const GATHER_BYTES_MAX: usize = 32 << 10;

/// The client's side of a tunnel, for the engine's hand.
pub(crate) struct TunnelLeg {
    socket: SocketHandle,
    /// Cancelled when the close frame has been handed to the socket, or never will be.
    said: CancellationToken,
}

impl TunnelLeg {
    pub(crate) fn new(socket: SocketHandle) -> Arc<Self> {
        Arc::new(Self { socket, said: CancellationToken::new() })
    }
}

#[async_trait]
impl Leg for TunnelLeg {
    /// The tunnel carries another program's bytes; there is no place for words in between.
    async fn tell(&self, _text: &str) {}

    /// The words are in the close frame, which the driver sends as soon as the session's ending is known.
    async fn farewell(&self, _text: &str) {
        self.said.cancelled().await;
    }

    fn cut(&self) {
        self.socket.cut();
    }

    async fn closed(&self) {
        self.socket.closed().await;
    }
}

/// Serves one tunnel from its open socket to its end. Everything that belongs to it ends with this.
pub(crate) async fn serve(socket: WebSocket, admission: Admission, leg: Arc<TunnelLeg>, open: OpenTunnel) {
    let said = leg.said.clone().drop_guard();
    let (to_client, from_client) = socket.split();
    let mut client = Client { to: WsSink(to_client), from: WsSource::new(from_client) };
    let (reason, detail) = match carry(&mut client, &admission, &open.deleted).await {
        End::Here(reason, detail) => (reason, detail),
        End::Elsewhere(ending) => {
            client.say(close_code(ending.reason), &ending.message()).await;
            drop(said);
            // The engine closes both sockets now; to be known as closed, ours has to be let go of.
            drop(client);
            // Whoever sees the session ended finds its token gone.
            drop(open);
            admission.end(ending.reason, &ending.detail).await;
            return;
        }
    };
    let text = if detail.is_empty() { words(reason).to_owned() } else { detail.clone() };
    // Whoever ends it in the meantime need not wait for a client that does not answer.
    tokio::select! {
        () = client.part(close_code(reason), &text) => {}
        _ending = admission.ending() => {}
    }
    drop(said);
    drop(client);
    drop(open);
    admission.end(reason, &detail).await;
}

/// How a tunnel came to its end.
enum End {
    /// By something that was seen here.
    Here(EndReason, String),
    /// By somebody else's word, or a limit.
    Elsewhere(Ending),
}

async fn carry(client: &mut Client, admission: &Admission, deleted: &CancellationToken) -> End {
    let target = Arc::clone(admission.target());
    let dialled = tokio::select! {
        dialled = egress::dial(&target) => dialled.map(guard),
        ending = admission.ending() => return End::Elsewhere(ending),
        () = deleted.cancelled() => return End::Here(EndReason::ClientClosed, DELETED.to_owned()),
        // Nobody waits for the target any more.
        end = client.from.end() => return end,
    };
    let (stream, handle) = match dialled {
        Ok(guarded) => guarded,
        Err(error) => {
            return End::Here(EndReason::TargetUnreachable, format!("cannot reach {}: {error}", target.name));
        }
    };
    admission.attach_target(Arc::new(handle));
    if let Err(refusal) = admission.connected().await {
        // It was asked to end meanwhile, or the store is gone; the first has a reason of its own.
        return match admission.ending().now_or_never() {
            Some(ending) => End::Elsewhere(ending),
            None => End::Here(EndReason::InternalError, refusal.to_string()),
        };
    }
    let (read, write) = tokio::io::split(stream);
    let (mut from_target, mut to_target) = (ReadSource::new(read), WriteSink::new(write));
    let relay = admission.relay();
    let (reason, stopped) = {
        let inward = relay.pump(Flow::In, &mut client.from, &mut to_target);
        let outward = relay.pump(Flow::Out, &mut from_target, &mut client.to);
        tokio::pin!(inward, outward);
        tokio::select! {
            stopped = &mut inward => match stopped {
                Stopped::SinkClosed => {
                    // What the target said before it closed is still on its way.
                    let rest = tokio::time::timeout(LAST_WORDS_MAX, outward).await;
                    (EndReason::TargetClosed, rest.unwrap_or(stopped))
                }
                Stopped::SourceClosed | Stopped::Ended => (EndReason::ClientClosed, stopped),
            },
            stopped = &mut outward => match stopped {
                Stopped::SinkClosed => (EndReason::ClientClosed, stopped),
                Stopped::SourceClosed | Stopped::Ended => (EndReason::TargetClosed, stopped),
            },
            () = deleted.cancelled() => return End::Here(EndReason::ClientClosed, DELETED.to_owned()),
        }
    };
    match (stopped, client.from.fault) {
        (Stopped::Ended, _) => End::Elsewhere(admission.ending().await),
        (Stopped::SourceClosed | Stopped::SinkClosed, Some(fault)) => {
            End::Here(EndReason::ProtocolError, fault.to_owned())
        }
        (Stopped::SourceClosed | Stopped::SinkClosed, None) => {
            if reason == EndReason::ClientClosed {
                // All that the client sent has been written; the target may see the end of it.
                let _target_gone = tokio::time::timeout(GOODBYE_MAX, to_target.put(Unit::Eof)).await;
            }
            End::Here(reason, String::new())
        }
    }
}

const DELETED: &str = "the client deleted its token";

/// Both halves of the client's WebSocket.
struct Client {
    to: WsSink,
    from: WsSource,
}

impl Client {
    /// Sends the close frame, as far as the client takes it.
    async fn say(&mut self, code: u16, text: &str) {
        let frame = CloseFrame { code, reason: Utf8Bytes::from(fitting(text)) };
        let sent = self.to.0.send(Message::Close(Some(frame)));
        if !matches!(tokio::time::timeout(GOODBYE_MAX, sent).await, Ok(Ok(()))) {
            tracing::debug!("a tunnel's client took no close frame");
        }
    }

    /// Sends the close frame and waits for the client's, so that nothing unread breaks the connection before it is seen.
    async fn part(&mut self, code: u16, text: &str) {
        self.say(code, text).await;
        let rest = async { while let Some(Ok(_)) = self.from.stream.next().await {} };
        if tokio::time::timeout(GOODBYE_MAX, rest).await.is_err() {
            tracing::debug!("a tunnel's client did not answer the close frame");
        }
    }
}

/// As much of a text as a close frame holds, cut between characters.
fn fitting(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The status of the close frame: RFC 6455, section 7.4.1.
fn close_code(reason: EndReason) -> u16 {
    match reason {
        EndReason::ClientClosed | EndReason::TargetClosed => 1000,
        EndReason::NodeStopped | EndReason::NodeLost => 1001,
        EndReason::ProtocolError => 1003,
        EndReason::DisconnectedByOperator
        | EndReason::IdleLimit
        | EndReason::DurationLimit
        | EndReason::RightsRevoked
        | EndReason::AuthFailed
        | EndReason::Denied => 1008,
        EndReason::TargetUnreachable | EndReason::RecordingFailed | EndReason::InternalError => 1011,
    }
}

/// What a close frame says when there is nothing more exact.
fn words(reason: EndReason) -> &'static str {
    match reason {
        EndReason::TargetClosed => "the target closed the connection",
        EndReason::ClientClosed => "closed",
        EndReason::DisconnectedByOperator
        | EndReason::IdleLimit
        | EndReason::DurationLimit
        | EndReason::RightsRevoked
        | EndReason::NodeStopped
        | EndReason::NodeLost
        | EndReason::TargetUnreachable
        | EndReason::AuthFailed
        | EndReason::Denied
        | EndReason::RecordingFailed
        | EndReason::ProtocolError
        | EndReason::InternalError => reason.word(),
    }
}

/// What comes from the client.
struct WsSource {
    stream: SplitStream<WebSocket>,
    held: Option<Bytes>,
    over: bool,
    /// What the client did that it must not.
    fault: Option<&'static str>,
}

impl WsSource {
    fn new(stream: SplitStream<WebSocket>) -> Self {
        Self { stream, held: None, over: false, fault: None }
    }

    /// The end, should it come before any bytes do; those are held. Nothing is lost when this is given up.
    async fn end(&mut self) -> End {
        while self.held.is_none() && !self.over {
            let message = self.stream.next().await;
            self.held = self.bytes(message);
        }
        match (self.over, self.fault) {
            (false, _) => std::future::pending().await,
            (true, Some(fault)) => End::Here(EndReason::ProtocolError, fault.to_owned()),
            (true, None) => End::Here(EndReason::ClientClosed, String::new()),
        }
    }

    /// The bytes in a message, if it has any; notes when it is the last one.
    fn bytes(&mut self, message: Option<Result<Message, axum::Error>>) -> Option<Bytes> {
        match message {
            Some(Ok(Message::Binary(bytes))) => return Some(bytes).filter(|bytes| !bytes.is_empty()),
            // Answered by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => return None,
            Some(Ok(Message::Text(_))) => self.fault = Some("the client sent text where only binary messages may be"),
            Some(Ok(Message::Close(_))) | None => {}
            Some(Err(error)) => tracing::debug!(%error, "a tunnel's client broke off"),
        }
        self.over = true;
        None
    }
}

impl Source for WsSource {
    async fn next(&mut self) -> Option<Unit> {
        if let Some(held) = self.held.take() {
            return Some(Unit::Data(held));
        }
        let first = loop {
            if self.over {
                return None;
            }
            let message = self.stream.next().await;
            if let Some(bytes) = self.bytes(message) {
                break bytes;
            }
        };
        // Clients send small messages; what else is there already goes along.
        let mut joined = BytesMut::new();
        while !self.over && first.len().max(joined.len()) < GATHER_BYTES_MAX / 2 {
            let Some(message) = self.stream.next().now_or_never() else { break };
            let Some(more) = self.bytes(message) else { continue };
            if first.len().max(joined.len()) + more.len() > GATHER_BYTES_MAX {
                self.held = Some(more);
                break;
            }
            if joined.is_empty() {
                joined.reserve(GATHER_BYTES_MAX);
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&more);
        }
        Some(Unit::Data(if joined.is_empty() { first } else { joined.freeze() }))
    }
}

/// What goes to the client.
struct WsSink(SplitSink<WebSocket, Message>);

impl Sink for WsSink {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        let bytes = match unit {
            Unit::Data(bytes) if !bytes.is_empty() => bytes,
            // INVARIANT: no empty message goes out. The target's end is told by the close frame.
            Unit::Data(_)
            | Unit::Eof
            | Unit::ErrorData(_)
            | Unit::Resize { .. }
            | Unit::Signal(_)
            | Unit::Exit(_)
            | Unit::ExitSignal { .. } => return Ok(()),
        };
        self.0.send(Message::Binary(bytes)).await.map_err(|error| {
            tracing::debug!(%error, "a tunnel's client takes no more");
            Broken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(fitting("short"), "short");
        let long = "ä".repeat(100);
        assert_eq!(fitting(&long).len(), 122);
    }
}
