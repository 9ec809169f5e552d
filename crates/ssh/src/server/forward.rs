//! Forwarded connections of a terminating session: from the client through the target (`-L`, `-D`), from the target
//! to the client (`-R`), and the client's agent lent to the target.

use super::connection::Connection;
use super::program::both;
use super::session::{Line, Missing, Up};
use crate::client::Inbound;
use crate::units::{ChannelSource, ClientSink, TargetSink};
use ravelin_engine::relay::Flow;
use ravelin_model::policy::Action;
use ravelin_model::recording::Purpose;
use ravelin_model::text::printable;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure, client};
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Where a client wants to be connected to, and from where it says that the connection comes.
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u32,
    pub(super) originator: String,
    pub(super) originator_port: u32,
}

/// What a client may be connected to by way of a target.
pub(super) enum Far {
    /// A port, seen from the target.
    Port(Destination),
    /// A Unix socket on the target, by its path; PROTOCOL of OpenSSH, section 2.4. The login's rights decide there.
    Socket(String),
}

/// Connects a client's channel to somewhere, by way of the target.
pub(super) async fn direct(
    connection: Arc<Connection>,
    channel: Channel<Msg>,
    to: Far,
    reply: ChannelOpenHandle,
    line: Line,
) {
    let reached = async {
        line.permit(Action::ForwardLocal).await?;
        line.target_of_forward().await
    };
    let up = match reached.await {
        Ok(up) => up,
        Err(missing) => {
            let text = match missing {
                Missing::Refused(text) => text,
                Missing::Over => "the session is over".to_owned(),
            };
            reply.reject(prohibited(text)).await;
            return;
        }
    };
    // Boxed, so that its memory is given back while the forward lasts.
    let opened = match &to {
        Far::Port(to) => Box::pin(up.link.open_direct(&to.host, to.port, &to.originator, to.originator_port)).await,
        Far::Socket(path) => Box::pin(up.link.open_socket(path)).await,
    };
    match opened {
        Ok(target) => {
            reply.accept().await;
            let to = match &to {
                Far::Port(to) => destination(&to.host, to.port),
                Far::Socket(path) => printable(path, DESTINATION_CHARS_MAX),
            };
            join(&connection, channel, target, &up, Some(Purpose::Forward { inward: false, to })).await;
        }
        Err(russh::Error::ChannelOpenFailure(reason)) => reply.reject(reason).await,
        Err(error) => {
            tracing::debug!(%error, "a target was lost while a forward was opened");
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    }
}

/// A refusal with words; code 1 is "administratively prohibited" (RFC 4254, section 5.1).
pub(super) fn prohibited(text: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: 1, reason: text }
}

/// A failure with words; code 2 is "connect failed".
pub(super) fn unconnected(text: String) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: 2, reason: text }
}

/// The next channel that the target opens.
pub(super) async fn next(inbound: &mut mpsc::Receiver<Box<Inbound>>) -> Option<Box<Inbound>> {
    inbound.recv().await
}

/// Connects a channel that the target opens to the client, if it was asked for.
pub(super) fn bridge(connection: &Arc<Connection>, inbound: Box<Inbound>, up: &Arc<Up>) {
    let is_wanted = match &*inbound {
        Inbound::Forwarded { port, .. } => up.link.listens(*port),
        Inbound::Agent { .. } => up.lends_agent(),
    };
    if !is_wanted {
        return;
    }
    let Some(place) = connection.place() else {
        tracing::debug!("a channel from a target was refused: too many on this connection");
        return;
    };
    let (owner, up) = (Arc::clone(connection), Arc::clone(up));
    connection.spawn(async move {
        let _place = place;
        let (target, reply, purpose, opened) = match *inbound {
            Inbound::Forwarded { channel, reply, address, port, originator, originator_port } => {
                let purpose = Some(Purpose::Forward { inward: true, to: destination(&address, port) });
                let opened =
                    owner.handle.channel_open_forwarded_tcpip(address, port, originator, originator_port).await;
                (channel, reply, purpose, opened)
            }
            Inbound::Agent { channel, reply } => {
                // What an agent signs for is said by what is logged in to.
                (channel, reply, None, owner.handle.channel_open_agent().await)
            }
        };
        match opened {
            Ok(client) => {
                reply.accept().await;
                join(&owner, client, target, &up, purpose).await;
            }
            Err(russh::Error::ChannelOpenFailure(reason)) => reply.reject(reason).await,
            Err(error) => {
                tracing::debug!(%error, "a client was lost while a channel from its target was opened");
            }
        }
    });
}

/// Longest host or path that a recording names.
const DESTINATION_CHARS_MAX: usize = 300;

/// As a recording names it: without what deceives a reader, and not too long.
fn destination(host: &str, port: u32) -> String {
    format!("{}:{port}", printable(host, DESTINATION_CHARS_MAX))
}

/// Relays two open channels until one side closes; recorded where it has a purpose to be recorded for.
async fn join(
    connection: &Arc<Connection>,
    client: Channel<Msg>,
    target: Channel<client::Msg>,
    up: &Arc<Up>,
    purpose: Option<Purpose>,
) {
    let relay = match purpose {
        Some(purpose) => Box::pin(up.relay.channel(purpose)).await,
        None => up.relay.unrecorded(),
    };
    let (read, client_write) = client.split();
    let mut from_client = ChannelSource::new(read, client_write.id(), Arc::clone(&connection.entry.backlog));
    let (read, target_write) = target.split();
    let mut from_target = ChannelSource::new(read, target_write.id(), Arc::clone(up.link.backlog()));
    let (client_write, target_write) = (Arc::new(client_write), Arc::new(target_write));
    let mut to_client = ClientSink::for_bytes(Arc::clone(&client_write), connection.handle.clone());
    let mut to_target = TargetSink { write: Arc::clone(&target_write) };
    let inward = pin!(relay.pump(Flow::In, &mut from_client, &mut to_target));
    let outward = pin!(relay.pump(Flow::Out, &mut from_target, &mut to_client));
    let left = connection.entry.backlog.left(client_write.id());
    both(inward, outward, left).await;
    // Either side may be gone, which comes to the same.
    let _closed = (target_write.close().await, client_write.close().await);
}
