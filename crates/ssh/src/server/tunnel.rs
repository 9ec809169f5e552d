//! End to end through the bastion (`ssh -J alice@bastion root@web-1`): a channel becomes a session of its own, and the
//! bytes in it stay between the client and the target.

use super::connection::{ChannelLeg, Connection};
use super::forward::{Destination, prohibited, unconnected};
use super::session::not_found;
use crate::client;
use crate::units::{ChannelSource, ClientSink, LastExit};
use ravelin_engine::gate::Ask;
use ravelin_engine::leg::GuardedStream;
use ravelin_engine::relay::{Flow, ReadSource, Stopped, WriteSink};
use ravelin_engine::{Admission, Caller, Gate};
use ravelin_model::session::{EndReason, Kind};
use ravelin_model::{Refusal, Target};
use russh::Channel;
use russh::server::{ChannelOpenHandle, Msg};
use std::sync::Arc;

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
    let (reason, detail) = carry(&connection, &admission, &leg, channel, reply).await;
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
        () = leg.is_cut() => return (EndReason::InternalError, "cut while dialling".to_owned()),
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
        () = leg.is_cut() => (EndReason::InternalError, "cut without a reason".to_owned()),
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
    let mut to_client =
        ClientSink { write: Arc::new(write), handle: connection.handle.clone(), exit: LastExit::default() };
    let (read, write) = tokio::io::split(stream);
    let (mut from_target, mut to_target) = (ReadSource::new(read), WriteSink::new(write));
    let relay = admission.relay();
    let reason = {
        let inward = relay.pump(Flow::In, &mut from_client, &mut to_target);
        let outward = relay.pump(Flow::Out, &mut from_target, &mut to_client);
        tokio::pin!(inward, outward);
        tokio::select! {
            // The target has said all; what the client still sends may be wanted, until it closes.
            _done = &mut outward => match inward.await {
                Stopped::SourceClosed | Stopped::SinkClosed | Stopped::Ended => EndReason::TargetClosed,
            },
            stopped = &mut inward => match stopped {
                Stopped::SinkClosed => {
                    outward.await;
                    EndReason::TargetClosed
                }
                Stopped::SourceClosed | Stopped::Ended => EndReason::ClientClosed,
            },
        }
    };
    // Does not wait for a client that takes nothing: the library delivers it when it can.
    let handle = connection.handle.clone();
    tokio::spawn(async move {
        let _client_gone = handle.close(id).await;
    });
    (reason, String::new())
}
