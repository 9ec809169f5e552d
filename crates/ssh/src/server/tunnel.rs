//! End to end through the bastion (`ssh -J alice@bastion root@web-1`): a channel becomes a session of its own, and the
//! bytes in it stay between the client and the target.

use super::connection::{ChannelLeg, Connection};
use super::forward::{Destination, prohibited, unconnected};
use super::session::not_found;
use crate::client;
use crate::units::{ChannelSource, ClientSink};
use ravelin_engine::gate::Ask;
use ravelin_engine::leg::GuardedStream;
use ravelin_engine::relay::{Flow, ReadSource, Stopped, WriteSink};
use ravelin_engine::{Admission, Caller, Gate};
use ravelin_model::session::{EndReason, Kind};
use ravelin_model::{Refusal, Target};
use russh::Channel;
use russh::server::{ChannelOpenHandle, Msg};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The port that clients ask for when nobody told them another.
const SSH_PORT: u32 = 22;

/// Serves one channel from its request to its end.
pub(super) async fn serve(
    connection: Arc<Connection>,
    channel: Channel<Msg>,
    to: Destination,
    reply: ChannelOpenHandle,
) {
    let leg = ChannelLeg::new(Arc::clone(&connection), channel.id());
    let admission = match admit(&connection, &to, Arc::clone(&leg)).await {
        Ok(admission) => admission,
        Err(text) => {
            reply.reject(prohibited(text)).await;
            return;
        }
    };
    let counted = connection.count_session();
    let id = channel.id();
    let (reason, detail) = tokio::select! {
        carried = carry(&connection, &admission, &leg, channel, reply) => carried,
        // Somebody ends it: the channel stays until the farewell was said.
        ending = admission.ending() => {
            leg.is_cut().await;
            (ending.reason, ending.detail)
        }
    };
    // Nothing goes through any more. The close is not waited for: the library delivers it when the client takes it.
    let handle = connection.handle.clone();
    tokio::spawn(async move {
        let _client_gone = handle.close(id).await;
    });
    leg.set_closed();
    admission.end(reason, &detail).await;
    drop(counted);
}

async fn admit(connection: &Connection, to: &Destination, leg: Arc<ChannelLeg>) -> Result<Admission, String> {
    let gate = &connection.shared.gate;
    let Some(target) = find(gate, &connection.caller, to) else {
        return Err(not_found(&to.host));
    };
    let ask = Ask { target, login: None, kind: Kind::Tunnel, document: None, reason: None, client: leg };
    gate.admit(&connection.caller, ask).await.map_err(|refusal| match refusal {
        // Not to be told from a target that is not there.
        Refusal::Denied { .. } | Refusal::NotFound { .. } => not_found(&to.host),
        Refusal::Unauthenticated { .. }
        | Refusal::Invalid { .. }
        | Refusal::Conflict { .. }
        | Refusal::LimitReached { .. }
        | Refusal::Unavailable { .. }
        | Refusal::Internal { .. } => refusal.to_string(),
    })
}

/// The target that a host and a port mean: by any of its names, or by its address.
fn find(gate: &Gate, caller: &Caller, to: &Destination) -> Option<Arc<Target>> {
    let fits = |target: &Target| to.port == SSH_PORT || to.port == u32::from(target.port);
    match gate.find(caller, &to.host) {
        Ok(target) => Some(target).filter(|target| fits(target)),
        Err(_) => gate
            .targets(caller)
            .into_iter()
            .find(|target| target.address.eq_ignore_ascii_case(&to.host) && u32::from(target.port) == to.port),
    }
}

async fn carry(
    connection: &Arc<Connection>,
    admission: &Admission,
    leg: &ChannelLeg,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
) -> (EndReason, String) {
    let target = admission.target();
    let dialled = tokio::select! {
        dialled = client::dial(target) => dialled,
        gone = connection.gone() => return (gone.reason, gone.detail),
    };
    let dialled = match dialled {
        Ok(dialled) => dialled,
        Err(unreached) => {
            let text = format!("{}: {}", target.name, unreached.detail);
            reply.reject(unconnected(format!("cannot reach {text}"))).await;
            // The client knows now; the engine's farewell would be said to siblings too.
            leg.set_closed();
            return (unreached.reason, text);
        }
    };
    admission.attach_target(dialled.leg());
    if let Err(refusal) = admission.connected().await {
        return (EndReason::InternalError, refusal.to_string());
    }
    reply.accept().await;
    tokio::select! {
        outcome = relay(connection, admission, channel, dialled.into_stream()) => outcome,
        gone = connection.gone() => (gone.reason, gone.detail),
    }
}

/// Moves bytes until one side closes. Both halves of the socket are dropped with it.
async fn relay(
    connection: &Arc<Connection>,
    admission: &Admission,
    channel: Channel<Msg>,
    stream: GuardedStream,
) -> (EndReason, String) {
    let (read, write) = channel.split();
    let id = write.id();
    let mut from_client = ChannelSource::new(read, id, Arc::clone(&connection.entry.backlog));
    let mut to_client = ClientSink::for_bytes(Arc::new(write), connection.handle.clone());
    let (read, write) = tokio::io::split(stream);
    let (mut from_target, mut to_target) = (ReadSource::new(read), WriteSink::new(write));
    let relay = admission.relay();
    let client_said_all = from_client.said_all();
    let (first, stopped) = {
        let inward = relay.pump(Flow::In, &mut from_client, &mut to_target);
        let outward = relay.pump(Flow::Out, &mut from_target, &mut to_client);
        tokio::pin!(inward, outward);
        tokio::select! {
            _ = &mut outward => {
                let first = if client_said_all.load(Ordering::Relaxed) {
                    EndReason::ClientClosed
                } else {
                    EndReason::TargetClosed
                };
                // The target has said all; what the client still sends may be wanted, until it closes.
                (first, inward.await)
            }
            stopped = &mut inward => match stopped {
                Stopped::SinkClosed => (EndReason::TargetClosed, outward.await),
                Stopped::SourceClosed | Stopped::Ended => (EndReason::ClientClosed, stopped),
            },
        }
    };
    match stopped {
        // The session's ending is known elsewhere, and says why.
        Stopped::Ended => std::future::pending().await,
        Stopped::SourceClosed | Stopped::SinkClosed => (first, String::new()),
    }
}
