//! End to end through the bastion (`ssh -J alice@bastion root@web-1`): a channel becomes a session of its own, and the
//! bytes in it stay between the client and the target.

use super::connection::{CLOSING, ChannelLeg, Connection};
use super::forward::{Destination, prohibited, unconnected};
use super::program::is_left;
use super::session::not_found;
use crate::client;
use crate::units::{ChannelSource, ClientSink};
use ravelin_engine::gate::Ask;
use ravelin_engine::leg::GuardedStream;
use ravelin_engine::relay::{Broken, Flow, ReadSource, Sink, Stopped, Unit, WriteSink};
use ravelin_engine::{Admission, Caller, Gate};
use ravelin_model::session::{EndReason, Kind};
use ravelin_model::{Refusal, Target};
use russh::Channel;
use russh::server::{ChannelOpenHandle, Msg};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a client may still send to a target that has ended its own direction. A target that closed its socket looks
/// the same until something is sent to it.
const LAST_WORDS_MAX: Duration = Duration::from_secs(10);

/// Serves one channel from its request to its end.
pub(super) async fn serve(
    connection: Arc<Connection>,
    channel: Channel<Msg>,
    to: Destination,
    reply: ChannelOpenHandle,
) {
    let leg = ChannelLeg::new(Arc::clone(&connection), channel.id());
    let closed = leg.close_on_drop();
    let Some(counted) = connection.count_session() else {
        reply.reject(prohibited(CLOSING.to_owned())).await;
        return;
    };
    let admission = match admit(&connection, &to, Arc::clone(&leg)).await {
        Ok(admission) => admission,
        Err(text) => {
            reply.reject(prohibited(text)).await;
            return;
        }
    };
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
    drop(closed);
    admission.end(reason, &detail).await;
    drop(counted);
}

async fn admit(connection: &Connection, to: &Destination, leg: Arc<ChannelLeg>) -> Result<Admission, String> {
    let gate = &connection.shared.gate;
    let target = find(gate, &connection.caller, to)?;
    let ask =
        Ask { target, login: None, kind: Kind::Tunnel, document: None, reason: None, logs: Vec::new(), client: leg };
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
fn find(gate: &Gate, caller: &Caller, to: &Destination) -> Result<Arc<Target>, String> {
    let port = u16::try_from(to.port).map_err(|_| format!("{} is no port", to.port))?;
    match gate.find_port(caller, &to.host, port) {
        Ok(target) => Ok(target),
        Err(Refusal::Invalid { because, .. }) => Err(because),
        Err(_not_found) => gate
            .targets(caller)
            .into_iter()
            .find(|target| target.address.eq_ignore_ascii_case(&to.host) && target.port == port)
            .ok_or_else(|| not_found(&to.host)),
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
    let mut to_client = Listener::new(ClientSink::for_bytes(Arc::new(write), connection.handle.clone()));
    let (read, write) = tokio::io::split(stream);
    let (mut from_target, mut to_target) = (ReadSource::new(read), Listener::new(WriteSink::new(write)));
    let relay = admission.relay();
    let (client_said_all, target_said_all) = (to_target.said_all.clone(), to_client.said_all.clone());
    let (first, stopped) = {
        let inward = relay.pump(Flow::In, &mut from_client, &mut to_target);
        let outward = relay.pump(Flow::Out, &mut from_target, &mut to_client);
        tokio::pin!(inward, outward);
        tokio::select! {
            () = is_left(connection.entry.backlog.left(id)) => (EndReason::ClientClosed, Stopped::SourceClosed),
            stopped = &mut outward => match stopped {
                Stopped::Ended => (EndReason::TargetClosed, stopped),
                Stopped::SourceClosed | Stopped::SinkClosed if client_said_all.is_cancelled() => {
                    (EndReason::ClientClosed, stopped)
                }
                // The socket broke, or the client's channel did: there is no other half.
                Stopped::SourceClosed | Stopped::SinkClosed if !target_said_all.is_cancelled() => {
                    (EndReason::TargetClosed, stopped)
                }
                // The target has said all; what the client still sends may be wanted, until it has said all too.
                Stopped::SourceClosed | Stopped::SinkClosed => tokio::select! {
                    stopped = inward => (EndReason::TargetClosed, stopped),
                    () = client_said_all.cancelled() => (EndReason::TargetClosed, stopped),
                    () = tokio::time::sleep(LAST_WORDS_MAX) => (EndReason::TargetClosed, stopped),
                },
            },
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

/// A sink that tells when an end of file has gone into it.
struct Listener<S> {
    sink: S,
    said_all: CancellationToken,
}

impl<S> Listener<S> {
    fn new(sink: S) -> Self {
        Self { sink, said_all: CancellationToken::new() }
    }
}

impl<S: Sink> Sink for Listener<S> {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        let is_last = unit == Unit::Eof;
        self.sink.put(unit).await?;
        if is_last {
            self.said_all.cancel();
        }
        Ok(())
    }
}
