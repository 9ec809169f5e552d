//! A client's connection once somebody has logged in on it, and the engine's hand on it.

use super::Shared;
use super::crowd::Seat;
use super::handler::Entry;
use crate::in_words;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use ravelin_engine::Caller;
use ravelin_engine::leg::Leg;
use ravelin_model::session::EndReason;
use russh::server::{Handle, Msg};
use russh::{ChannelId, ChannelWriteHalf, Disconnect};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What is said to whoever asks for more on a connection that is being closed.
pub(super) const CLOSING: &str = "this connection is being closed";

/// What a program that never ran leaves behind, as OpenSSH does when it cannot connect.
pub(super) const EXIT_NOT_RUN: u32 = 255;

/// How a client's connection ended.
#[derive(Clone, Debug)]
pub(super) struct ClientEnd {
    pub(super) reason: EndReason,
    pub(super) detail: String,
}

impl ClientEnd {
    /// From what the library's loop returned.
    pub(super) fn of(outcome: Result<(), russh::Error>) -> Self {
        let (reason, detail) = match outcome {
            Ok(()) => (EndReason::ClientClosed, String::new()),
            // Its silence lasted too long, by our measure or the system's.
            Err(russh::Error::IO(error)) if error.kind() == ErrorKind::TimedOut => {
                (EndReason::ClientClosed, format!("the client was lost: {}", in_words(&error)))
            }
            Err(russh::Error::IO(_) | russh::Error::Disconnect | russh::Error::HUP) => {
                (EndReason::ClientClosed, String::new())
            }
            Err(russh::Error::Join(error)) => {
                tracing::error!(%error, "a connection's loop has failed");
                (EndReason::InternalError, String::new())
            }
            Err(error) => (EndReason::ProtocolError, format!("client: {error}")),
        };
        Self { reason, detail }
    }
}

/// Somebody's connection.
pub(super) struct Connection {
    pub(super) handle: Handle,
    pub(super) caller: Caller,
    pub(super) shared: Arc<Shared>,
    pub(super) entry: Arc<Entry>,
    faces: Mutex<HashMap<ChannelId, Face>>,
    load: watch::Sender<Load>,
    opened: AtomicUsize,
    _seat: Seat,
    gone: CancellationToken,
    end: OnceLock<ClientEnd>,
}

/// What a connection carries. One value under one lock, so that whoever decides by it decides for everybody.
#[derive(Clone, Copy, Default)]
struct Load {
    channels: usize,
    // Those that are about to be admitted count too.
    sessions: usize,
    // Nothing is taken on any more.
    closing: bool,
}

impl Load {
    fn is_idle(&self) -> bool {
        self.channels == 0 && self.sessions == 0
    }
}

/// A session channel as far as somebody can read on it.
struct Face {
    write: Arc<ChannelWriteHalf<Msg>>,
    terminal: bool,
}

impl Connection {
    pub(super) fn new(handle: Handle, caller: Caller, shared: Arc<Shared>, entry: Arc<Entry>, seat: Seat) -> Arc<Self> {
        Arc::new(Self {
            handle,
            caller,
            shared,
            entry,
            faces: Mutex::default(),
            load: watch::Sender::default(),
            opened: AtomicUsize::new(0),
            _seat: seat,
            gone: CancellationToken::new(),
            end: OnceLock::new(),
        })
    }

    /// Room for one more channel, until what is returned is dropped.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let config = &self.shared.config;
        if self.opened.load(Ordering::Relaxed) >= config.channels_per_life_max {
            return None;
        }
        let taken = self.load.send_if_modified(|load| {
            let has_room = !load.closing && load.channels < config.channels_per_connection_max;
            load.channels += usize::from(has_room);
            has_room
        });
        taken.then(|| {
            self.opened.fetch_add(1, Ordering::Relaxed);
            Place(Arc::clone(self))
        })
    }

    /// Ends the connection once it has carried nothing for as long as it may.
    pub(super) async fn dismiss_when_idle(&self) {
        let idle_max = self.shared.config.idle_connection_max;
        let mut load = self.load.subscribe();
        loop {
            // The sender is ours, so neither wait can fail.
            drop(load.wait_for(Load::is_idle).await);
            if tokio::time::timeout(idle_max, load.wait_for(|load| !load.is_idle())).await.is_ok() {
                continue;
            }
            let closing = self.load.send_if_modified(|load| {
                load.closing |= load.is_idle();
                load.closing
            });
            if closing {
                let text = format!("disconnected: nothing was open on this connection for {} s", idle_max.as_secs());
                self.dismiss(&text).await;
                return;
            }
        }
    }

    /// Runs a task that ends with the connection. A panic in it costs the connection and nothing else.
    pub(super) fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let connection = Arc::clone(self);
        // Boxed, because a future that is moved into another counts twice, for as long as the channel lasts.
        let task = Box::pin(task);
        tokio::spawn(async move {
            let task = AssertUnwindSafe(task).catch_unwind();
            if let Some(Err(_panic)) = connection.gone.run_until_cancelled(task).await {
                let detail = "a task of the connection has failed".to_owned();
                // Set once: what the library's loop says of the cut comes later.
                let _first = connection.end.set(ClientEnd { reason: EndReason::InternalError, detail });
                connection.entry.socket.cut();
            }
        });
    }

    /// The library's loop has ended.
    pub(super) fn set_gone(&self, end: ClientEnd) {
        // Set once: there is one loop.
        let _first = self.end.set(end);
        self.gone.cancel();
    }

    /// Resolves when the library's loop has ended, with how.
    pub(super) async fn gone(&self) -> ClientEnd {
        self.gone.cancelled().await;
        self.end.get().cloned().unwrap_or_else(|| ClientEnd::of(Ok(())))
    }

    /// From now on, what is told can be read on this channel.
    pub(super) fn show_face(&self, write: &Arc<ChannelWriteHalf<Msg>>, terminal: bool) {
        self.faces().insert(write.id(), Face { write: Arc::clone(write), terminal });
    }

    pub(super) fn hide_face(&self, channel: ChannelId) {
        self.faces().remove(&channel);
    }

    fn faces(&self) -> MutexGuard<'_, HashMap<ChannelId, Face>> {
        self.faces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a line on the channels that somebody reads, or on one of them. Whether it is on its way to anybody. The
    /// caller bounds the time.
    async fn show(&self, only: Option<ChannelId>, text: &str) -> bool {
        if self.entry.watch.is_stuck() {
            return false;
        }
        let faces: Vec<_> = {
            let faces = self.faces();
            let wanted = faces.iter().filter(|(id, _)| only.is_none_or(|only| **id == only));
            wanted.map(|(_, face)| (Arc::clone(&face.write), face.terminal)).collect()
        };
        let mut shown = false;
        for (write, terminal) in faces {
            let line = line(text, terminal);
            // A channel whose reader is stuck is passed over: the others shall read it now.
            if write.writable_packet_size().await >= line.len() {
                // Fails only when the connection is gone, and nobody reads then.
                shown |= write.extended_data_bytes(1, line).await.is_ok();
            }
        }
        shown
    }

    /// Shows a line and goes on.
    async fn tell(&self, only: Option<ChannelId>, text: &str) {
        let _slow = tokio::time::timeout(self.shared.config.answer_max, self.show(only, text)).await;
    }

    /// Shows a line and returns when it was read, or when the client does not answer.
    ///
    /// OpenSSH leaves with the disconnect message at once, and drops what it has received but not shown. So that message
    /// waits for an answer to a question which came after the line: clients answer in order, and OpenSSH shows what it
    /// has before it sends.
    async fn tell_and_wait(&self, only: Option<ChannelId>, text: &str) {
        let telling = async {
            if self.show(only, text).await {
                self.ask().await;
            }
        };
        let _slow = tokio::time::timeout(self.shared.config.answer_max, telling).await;
    }

    /// Resolves when the client has answered a question that changes nothing: to take back a forward that it never gave
    /// (RFC 4254, section 7.1). Of those that every client has to answer it is the one that the library can ask.
    async fn ask(&self) {
        // That it has no such forward is an answer; a connection that is lost is none, and waits for none.
        let _answered_or_gone = self.handle.cancel_forward_tcpip(String::new(), 0).await;
    }

    /// Ends the connection in the protocol's way; returns when it was written. The caller bounds the time.
    pub(super) async fn disconnect(&self, text: &str) {
        if self.entry.watch.is_stuck() {
            return;
        }
        let sent = self.handle.disconnect(Disconnect::ByApplication, text.to_owned(), "en".to_owned()).await;
        if sent.is_ok() {
            self.entry.watch.said_goodbye().await;
        }
    }

    /// Ends a connection that shall not go on, and gives it a moment to hear why.
    pub(super) async fn dismiss(&self, text: &str) {
        const HEAR_MAX: Duration = Duration::from_secs(2);
        self.set_closing();
        let _slow = tokio::time::timeout(HEAR_MAX, async {
            self.disconnect(text).await;
            self.gone.cancelled().await;
        })
        .await;
        self.entry.socket.cut();
    }

    /// To be called before a session is admitted. `None` when the connection is being closed.
    pub(super) fn count_session(self: &Arc<Self>) -> Option<Counted> {
        let taken = self.load.send_if_modified(|load| {
            load.sessions += usize::from(!load.closing);
            !load.closing
        });
        taken.then(|| Counted(Arc::clone(self)))
    }

    /// Takes nothing on any more, if the session that asks is all there is. Whether it is.
    fn close_for_the_last(&self) -> bool {
        self.load.send_if_modified(|load| {
            let is_last = load.sessions == 1;
            load.closing |= is_last;
            is_last
        })
    }

    fn set_closing(&self) {
        self.load.send_modify(|load| load.closing = true);
    }
}

/// A channel that this connection counts.
pub(super) struct Place(Arc<Connection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.load.send_modify(|load| load.channels -= 1);
    }
}

/// A session that this connection counts.
pub(super) struct Counted(Arc<Connection>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.load.send_modify(|load| load.sessions -= 1);
    }
}

/// A line as a person reads it, on a terminal or in a log.
pub(super) fn line(text: &str, terminal: bool) -> Bytes {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    Bytes::from(if terminal { format!("\r\n{text}\r\n") } else { format!("{text}\n") })
}

/// The client's side of a session that owns the whole connection.
pub(super) struct ConnectionLeg(pub(super) Arc<Connection>);

#[async_trait]
impl Leg for ConnectionLeg {
    async fn tell(&self, text: &str) {
        self.0.tell(None, text).await;
    }

    async fn farewell(&self, text: &str) {
        self.0.set_closing();
        self.0.tell_and_wait(None, text).await;
        self.0.disconnect(text).await;
    }

    fn cut(&self) {
        self.0.entry.socket.cut();
    }

    async fn closed(&self) {
        self.0.entry.socket.closed().await;
    }
}

/// The client's side of a session that owns one channel: a tunnel, or what was chosen in the menu. When it is killed
/// and it was all that the connection carried, the connection goes with it, so that the client can say why.
pub(super) struct ChannelLeg {
    connection: Arc<Connection>,
    channel: ChannelId,
    cut: CancellationToken,
    closed: CancellationToken,
    took_connection: AtomicBool,
}

impl ChannelLeg {
    pub(super) fn new(connection: Arc<Connection>, channel: ChannelId) -> Arc<Self> {
        Arc::new(Self {
            connection,
            channel,
            cut: CancellationToken::new(),
            closed: CancellationToken::new(),
            took_connection: AtomicBool::new(false),
        })
    }

    /// Resolves when the engine closes this side.
    pub(super) async fn is_cut(&self) {
        self.cut.cancelled().await;
    }

    /// To be called when nothing can go through the channel any more.
    pub(super) fn set_closed(&self) {
        self.closed.cancel();
    }

    /// Sees to it that [`ChannelLeg::set_closed`] is called, also when the task that should is dropped or panics. The
    /// engine waits for it.
    pub(super) fn close_on_drop(self: &Arc<Self>) -> ClosedOnDrop {
        ClosedOnDrop(Arc::clone(self))
    }
}

/// Held by the task that serves the channel.
pub(super) struct ClosedOnDrop(Arc<ChannelLeg>);

impl Drop for ClosedOnDrop {
    fn drop(&mut self) {
        self.0.set_closed();
    }
}

#[async_trait]
impl Leg for ChannelLeg {
    async fn tell(&self, text: &str) {
        self.connection.tell(Some(self.channel), text).await;
    }

    async fn farewell(&self, text: &str) {
        if self.closed.is_cancelled() {
            return;
        }
        if self.connection.close_for_the_last() {
            self.took_connection.store(true, Ordering::Release);
            self.connection.tell_and_wait(Some(self.channel), text).await;
            self.connection.disconnect(text).await;
        } else {
            self.connection.tell(Some(self.channel), text).await;
        }
    }

    fn cut(&self) {
        self.cut.cancel();
        if self.took_connection.load(Ordering::Acquire) {
            self.connection.entry.socket.cut();
        }
    }

    async fn closed(&self) {
        tokio::select! {
            () = self.closed.cancelled() => {}
            // No channel outlives its connection.
            () = self.connection.gone.cancelled() => {}
        }
        if self.took_connection.load(Ordering::Acquire) {
            self.connection.entry.socket.closed().await;
        }
    }
}
