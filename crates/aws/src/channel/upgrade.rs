//! A data channel's connection, from its request to the seat that its token leads to.
//!
//! Whoever is refused after the upgrade is told so by the protocol's own last word, because clients show nothing else.
//! It is one text, whatever was wrong: an id is no secret, and whether a session of that id exists is.

use super::{Arrival, Lobby};
use crate::proto::channel;
use crate::proto::message::{FIN, MESSAGE_BYTES_MAX, Message, MessageType, PayloadType, SYN};
use crate::wire::data_channel as wire;
use axum::extract::ws::{Message as Frame, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use bytes::Bytes;
use ravelin_engine::leg::SocketHandle;
use ravelin_model::PrincipalName;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

/// Where data channels are, before the session's id.
pub(crate) const PATH: &str = "/v1/data-channel/";
/// How long a connection may take to show its token.
const OPENING_MAX: Duration = Duration::from_secs(10);
/// How long a refusal may take to go out.
const REFUSAL_MAX: Duration = Duration::from_secs(2);
/// What whoever is refused is told.
const REFUSED: &str = "this data channel cannot be opened: its token is not valid, was used, or is older than a minute; \
                       start the session again";

/// The answer to an upgrade; what comes after it is done when the connection is ours.
pub(crate) fn answer(
    upgrade: WebSocketUpgrade,
    id: String,
    signer: Result<Option<PrincipalName>, &'static str>,
    handle: SocketHandle,
    lobby: Arc<Lobby>,
) -> Response {
    upgrade
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        // Nothing is gathered: a message is written when it is there, and the next one when that went out.
        .write_buffer_size(0)
        .on_upgrade(move |socket| open(socket, id, signer, handle, lobby))
}

async fn open(
    mut socket: WebSocket,
    id: String,
    signer: Result<Option<PrincipalName>, &'static str>,
    handle: SocketHandle,
    lobby: Arc<Lobby>,
) {
    let Ok(Some(text)) = tokio::time::timeout(OPENING_MAX, first(&mut socket)).await else {
        return;
    };
    let claimed = signer.and_then(|signer| {
        let opening = channel::opening(text.as_bytes()).map_err(|_unreadable| REFUSED)?;
        lobby.claim(&id, &opening.token_value, signer.as_ref()).ok_or(REFUSED)
    });
    match claimed {
        // A session that ended in this moment drops what it is given, and the client comes again and is told.
        Ok(arrivals) => drop(arrivals.send(Arrival { socket, handle }).await),
        Err(because) => {
            tracing::info!(because, "a data channel was refused");
            let _slow = tokio::time::timeout(REFUSAL_MAX, refuse(&mut socket, &id, because)).await;
        }
    }
}

/// The first frame, which has to be text.
async fn first(socket: &mut WebSocket) -> Option<String> {
    loop {
        match socket.recv().await? {
            Ok(Frame::Text(text)) => return Some(text.to_string()),
            Ok(Frame::Ping(_) | Frame::Pong(_)) => {}
            Ok(Frame::Binary(_) | Frame::Close(_)) | Err(_) => return None,
        }
    }
}

async fn refuse(socket: &mut WebSocket, id: &str, because: &str) -> Result<(), axum::Error> {
    let id: String = id.chars().filter(char::is_ascii_graphic).take(96).collect();
    let word = last_word(&closed(&id, "", because));
    socket.send(Frame::Binary(word)).await?;
    socket.send(Frame::Close(None)).await?;
    // Whoever closes first may lose what was said last.
    while let Some(Ok(_)) = socket.recv().await {}
    Ok(())
}

/// The last word of a session.
pub(crate) fn closed(session: &str, target: &str, output: &str) -> wire::ChannelClosed {
    wire::ChannelClosed {
        message_type: MessageType::ChannelClosed.as_str().to_owned(),
        message_id: Uuid::new_v4().to_string(),
        destination_id: target.to_owned(),
        session_id: session.to_owned(),
        schema_version: 1,
        created_date: unix_ms().to_string(),
        output: output.to_owned(),
    }
}

/// The last word as a message that waits for nothing.
pub(crate) fn last_word(closed: &wire::ChannelClosed) -> Bytes {
    Message {
        message_type: MessageType::ChannelClosed,
        created_ms: unix_ms(),
        sequence: 0,
        flags: SYN | FIN,
        id: Uuid::new_v4(),
        payload_type: PayloadType::Unset,
        payload: channel::encode(closed),
    }
    .encode()
}

/// Milliseconds since 1970, for the header's sake: nothing depends on it.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1)
}
