//! The connection of a session, its loss and its return: one task, which owns the machine.
//!
//! Queues to and from it are short: what is sent waits in the machine's window, what arrives waits until the session
//! takes it, and then the connection is not read.

use super::socket::{self, Socket};
use super::{Control, Failure, Options, Started};
use crate::proto::channel::{self, Flag};
use crate::proto::client::{CLIENT_VERSION, Client, Event};
use crate::proto::delivery::{Epoch, NotSent, Transmit};
use crate::wire::data_channel as wire;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};
use uuid::Uuid;

/// Connections in a row of which nothing comes before that is taken for the answer.
const FRUITLESS_MAX: u32 = 8;
/// A connection of a session that has begun is of use when it holds for this long, though nothing comes.
const HOLDS: Duration = Duration::from_secs(10);
/// How long what came before a loss may take to be given out before an attempt to come back.
const REST_MAX: Duration = Duration::from_secs(1);
/// The first and the longest pause between attempts to come back.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Bytes that a new connection is trusted with before anything came of it, and for each message that comes; and how long
/// that lasts. A window's worth would be in the network before the first answer can be: a connection that breaks then
/// looks like one of no use, and over a network that breaks again and again the same window would go out each time.
const UNHEARD_BYTES: usize = 64 * 1024;
const UNHEARD: Duration = Duration::from_secs(1);
/// Things to send, and events, that wait between the session and this task.
const QUEUE: usize = 8;
/// Frames that wait for the socket.
const FRAMES: usize = 4;
const KEEPALIVE: &[u8] = b"keepalive";

/// Something to send.
#[derive(Debug)]
pub(crate) enum Up {
    /// Bytes of the stream, as many as there are.
    Data(Bytes),
    /// The terminal's size in columns and rows.
    Size(u32, u32),
    /// A flag.
    Flag(Flag),
    /// Nothing; says when the server has everything that was sent before.
    Drain(oneshot::Sender<()>),
}

/// The session's hold on its connection. Dropping it closes the connection.
pub(crate) struct Line {
    up: mpsc::Sender<Up>,
    events: mpsc::Receiver<Event>,
    task: JoinSet<Result<(), Failure>>,
}

impl Line {
    pub(crate) fn open(started: Started, control: Arc<dyn Control>, options: Options) -> Self {
        let (up, from_session) = mpsc::channel(QUEUE);
        let (down, events) = mpsc::channel(QUEUE);
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis());
        let epoch = Epoch { instant: clock(), unix_ms: u64::try_from(unix_ms).unwrap_or(1).max(1) };
        let client = Client::new(options.limits, epoch, Uuid::new_v4());
        let keeper = Keeper {
            session_id: started.session_id,
            stream_url: started.stream_url,
            client_id: Uuid::new_v4().to_string(),
            control,
            options,
            client,
            up: from_session,
            up_open: true,
            waiting: None,
            down,
            event: None,
            over: false,
            fruits: false,
        };
        let mut task = JoinSet::new();
        task.spawn(keeper.keep(started.token));
        Self { up, events, task }
    }

    /// The next event.
    ///
    /// # Errors
    /// Why there is none any more. Cancelling loses nothing.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        if let Some(event) = self.events.recv().await {
            return Ok(event);
        }
        match self.task.join_next().await {
            Some(Ok(Err(failure))) => Err(failure),
            Some(Ok(Ok(())) | Err(_)) | None => Err(Failure::Internal),
        }
    }

    pub(crate) fn sender(&self) -> mpsc::Sender<Up> {
        self.up.clone()
    }
}

struct Keeper {
    session_id: String,
    stream_url: String,
    client_id: String,
    control: Arc<dyn Control>,
    options: Options,
    client: Client,
    up: mpsc::Receiver<Up>,
    up_open: bool,
    /// What the session wants sent and the machine has no room for.
    waiting: Option<Up>,
    down: mpsc::Sender<Event>,
    /// What the session has no room for.
    event: Option<Event>,
    over: bool,
    /// Whether this connection brought anything.
    fruits: bool,
}

/// Why a connection is left.
enum Left {
    /// The session is over, or nobody is interested any more.
    Over,
    /// It broke.
    Lost(String),
    /// It is of no use.
    GivenUp(Failure),
}

impl Keeper {
    async fn keep(mut self, token: SecretString) -> Result<(), Failure> {
        let mut token = token;
        let mut fruitless = 0;
        let mut first = true;
        let mut socket = self.dial_first().await?;
        loop {
            self.fruits = false;
            let began = clock();
            let lost = match self.ride(socket, &token).await {
                Left::Over => return Ok(()),
                Left::GivenUp(failure) => return Err(failure),
                Left::Lost(lost) => lost,
            };
            self.client.detach();
            match tokio::time::timeout(REST_MAX, self.deliver_rest()).await {
                Ok(true) => return Ok(()),
                Err(_takes_nothing) if self.over => {
                    // The end is among it; there is nothing to come back for.
                    self.deliver_rest().await;
                    return Ok(());
                }
                // Whoever takes nothing for now, as a pager does, keeps nobody from coming back.
                Ok(false) | Err(_) => {}
            }
            first &= !self.fruits;
            let held = !first && clock().duration_since(began) >= HOLDS;
            fruitless = if self.fruits || held { 0 } else { fruitless + 1 };
            tracing::debug!(lost, fruitless, "the data channel was lost");
            if fruitless >= FRUITLESS_MAX {
                return Err(Failure::Fruitless(lost));
            }
            (socket, token) = match self.come_back(&lost, first, fruitless).await {
                Ok(Some(back)) => back,
                Ok(None) => return Ok(()),
                // What came before the loss may have been the end.
                Err(failure) => return if self.deliver_rest().await { Ok(()) } else { Err(failure) },
            };
        }
    }

    /// Gives the session what came before a loss. Whether that was the end, or nobody is interested any more. Cancelling
    /// it loses nothing.
    async fn deliver_rest(&mut self) -> bool {
        loop {
            if self.event.is_none() && !self.over {
                self.event = self.client.poll_event(clock());
                self.over = matches!(self.event, Some(Event::Closed(_) | Event::Broken(_)));
            }
            if self.event.is_none() {
                return self.over;
            }
            let Ok(place) = self.down.reserve().await else { return true };
            if let Some(event) = self.event.take() {
                place.send(event);
            }
        }
    }

    /// A server that is just starting is waited for a moment; what will not change is not tried again.
    async fn dial_first(&self) -> Result<Socket, Failure> {
        let mut pause = PAUSE_MIN;
        loop {
            let failure = match self.dial().await {
                Ok(socket) => return Ok(socket),
                Err(failure) => failure,
            };
            if !matches!(failure, Failure::Unreachable { .. }) || pause > PAUSE_MIN * 4 {
                return Err(failure);
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn dial(&self) -> Result<Socket, Failure> {
        let Options { trust, patience, .. } = &self.options;
        socket::open(&self.stream_url, trust, self.control.as_ref(), patience.connect).await
    }

    /// A new token and a new connection; `None` when nobody is interested any more.
    async fn come_back(
        &mut self,
        lost: &str,
        first: bool,
        fruitless: u32,
    ) -> Result<Option<(Socket, SecretString)>, Failure> {
        let until = clock() + self.options.patience.resume;
        let mut pause = PAUSE_MIN * fruitless;
        loop {
            tokio::select! {
                () = self.down.closed() => return Ok(None),
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
            let resumed = tokio::select! {
                () = self.down.closed() => return Ok(None),
                resumed = self.control.resume(&self.session_id) => resumed,
            };
            let (because, again) = match resumed {
                Ok(resumed) if resumed.token.expose_secret().is_empty() => {
                    return Err(Failure::TimedOut(self.session_id.clone()));
                }
                Ok(resumed) => {
                    if let Some(url) = resumed.stream_url.filter(|url| !url.is_empty()) {
                        self.stream_url = url;
                    }
                    match self.dial().await {
                        Ok(socket) => return Ok(Some((socket, resumed.token))),
                        Err(failure @ (Failure::Unreachable { .. } | Failure::Upgrade { .. })) => {
                            (failure.to_string(), true)
                        }
                        Err(failure) => return Err(failure),
                    }
                }
                Err(not) => (not.because, not.again),
            };
            tracing::debug!(because, again, "the session was not resumed");
            if !again || clock() >= until {
                // Nothing ever came: it is the token that was not taken.
                return Err(if first {
                    Failure::Token(format!("{lost}; {because}"))
                } else {
                    Failure::NotResumed { lost: lost.to_owned(), because }
                });
            }
        }
    }

    /// One connection, from its opening to its end.
    async fn ride(&mut self, socket: Socket, token: &SecretString) -> Left {
        let (mut sink, mut stream) = socket.split();
        let (frames, mut to_write) = mpsc::channel::<Frame>(FRAMES);
        let mut writer = JoinSet::new();
        // A task of its own, so that a peer which does not read is still read.
        writer.spawn(async move {
            while let Some(frame) = to_write.recv().await {
                sink.feed(frame).await?;
                while let Ok(frame) = to_write.try_recv() {
                    sink.feed(frame).await?;
                }
                sink.flush().await?;
            }
            sink.close().await
        });
        let opening = wire::OpenDataChannelInput {
            message_schema_version: "1.0".to_owned(),
            request_id: Uuid::new_v4().to_string(),
            token_value: token.expose_secret().to_owned(),
            client_id: self.client_id.clone(),
            client_version: Some(CLIENT_VERSION.to_owned()),
        };
        let opening = String::from_utf8(channel::encode(&opening).to_vec()).unwrap_or_default();
        if frames.send(Frame::Text(Utf8Bytes::from(opening))).await.is_err() {
            return Left::Lost("the connection takes nothing".to_owned());
        }
        let mut now = clock();
        self.client.attach(now);
        let patience = self.options.patience;
        let (mut heard, mut pinged) = (now, now);
        // When the connection was last left unread: what had come by then was not heard.
        let mut unread = now;
        let mut outgoing = Some(Frame::Ping(Bytes::from_static(KEEPALIVE)));
        let (mut sent, mut trust, trusted) = (0, UNHEARD_BYTES, now + UNHEARD);
        let left = loop {
            while self.event.is_none() && !self.over {
                match self.client.poll_event(now) {
                    Some(event) => {
                        self.over = matches!(event, Event::Closed(_) | Event::Broken(_));
                        self.event = Some(event);
                    }
                    None => break,
                }
            }
            if self.over && self.event.is_none() {
                break Left::Over;
            }
            self.send_up(now);
            let holding = sent >= trust && now < trusted;
            if outgoing.is_none() && !holding {
                outgoing = match self.client.poll_transmit(now) {
                    Some(Transmit::Message(bytes)) => {
                        sent += bytes.len();
                        Some(Frame::Binary(bytes))
                    }
                    Some(Transmit::Ping(bytes)) => Some(Frame::Ping(bytes)),
                    None if now.duration_since(pinged) >= patience.silence / 3 => {
                        pinged = now;
                        Some(Frame::Ping(Bytes::from_static(KEEPALIVE)))
                    }
                    None => None,
                };
            }
            let reading = self.client.wants_read();
            if !reading {
                unread = now;
            }
            let since = |then: Instant| now.saturating_duration_since(then.max(unread));
            if self.client.owed_since().is_some_and(|owed| since(owed) >= patience.owed) {
                break Left::GivenUp(Failure::Silent(patience.owed));
            }
            if since(heard) >= patience.silence {
                break Left::Lost(format!("nothing was heard for {} s", patience.silence.as_secs()));
            }
            let tick = now + patience.silence.min(patience.owed) / 10;
            let due = if holding { Some(trusted) } else { self.client.poll_timeout() };
            let at = due.map_or(tick, |at| at.min(tick));
            tokio::select! {
                frame = stream.next(), if reading => {
                    now = clock();
                    heard = now;
                    match frame {
                        Some(Ok(Frame::Binary(bytes))) => match self.client.handle(&bytes, now) {
                            Ok(_handled) => {
                                self.fruits = true;
                                trust = trust.saturating_add(UNHEARD_BYTES);
                            }
                            Err(ignored) => tracing::debug!(%ignored, "a message was passed over"),
                        },
                        Some(Ok(Frame::Pong(payload))) => self.client.handle_pong(&payload, now),
                        Some(Ok(Frame::Close(close))) => {
                            let why = close.map_or_else(|| "closed by the service".to_owned(), |close| {
                                format!("closed by the service: {} {}", u16::from(close.code), super::harmless(&close.reason))
                            });
                            break Left::Lost(why);
                        }
                        Some(Ok(Frame::Text(_) | Frame::Ping(_) | Frame::Frame(_))) => {}
                        Some(Err(error)) => break Left::Lost(error.to_string()),
                        None => break Left::Lost("closed by the service".to_owned()),
                    }
                }
                permit = frames.reserve(), if outgoing.is_some() => match (permit, outgoing.take()) {
                    (Ok(permit), Some(frame)) => permit.send(frame),
                    (Ok(_), None) => {}
                    (Err(_), _) => {
                        let because = match writer.join_next().await {
                            Some(Ok(Err(error))) => error.to_string(),
                            Some(Ok(Ok(())) | Err(_)) | None => "the connection takes nothing".to_owned(),
                        };
                        break Left::Lost(because);
                    }
                },
                permit = self.down.reserve(), if self.event.is_some() => match (permit, self.event.take()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    (Ok(_), None) => {}
                    (Err(_), _) => break Left::Over,
                },
                up = self.up.recv(), if self.up_open && self.waiting.is_none() => {
                    self.up_open = up.is_some();
                    self.waiting = up;
                }
                () = self.down.closed() => break Left::Over,
                () = tokio::time::sleep_until(at.into()) => {}
            }
            now = clock();
        };
        if matches!(left, Left::Over) {
            // What is acknowledged last still goes out, and a proper end behind it.
            while let Some(Transmit::Message(bytes)) = self.client.poll_transmit(now) {
                if frames.try_send(Frame::Binary(bytes)).is_err() {
                    break;
                }
            }
            drop(frames);
            let _slow = tokio::time::timeout(Duration::from_millis(500), writer.join_next()).await;
        }
        left
    }

    /// Gives the machine what waits, as far as it has room.
    fn send_up(&mut self, now: Instant) {
        self.waiting = match self.waiting.take() {
            Some(Up::Data(mut bytes)) => {
                while !bytes.is_empty() {
                    let part = bytes.split_to(self.client.room().min(bytes.len()));
                    if part.is_empty() || self.client.send(part, now).is_err() {
                        break;
                    }
                }
                (!bytes.is_empty()).then_some(Up::Data(bytes))
            }
            Some(Up::Size(columns, rows)) => match self.client.resize(columns, rows, now) {
                Err(NotSent::Full) => Some(Up::Size(columns, rows)),
                Ok(()) | Err(NotSent::Long(_) | NotSent::Finished) => None,
            },
            Some(Up::Flag(flag)) => match self.client.flag(flag, now) {
                Err(NotSent::Full) => Some(Up::Flag(flag)),
                Ok(()) | Err(NotSent::Long(_) | NotSent::Finished) => None,
            },
            Some(Up::Drain(told)) => {
                if self.client.is_drained() {
                    // Whoever asked may have left.
                    told.send(()).ok();
                    None
                } else {
                    Some(Up::Drain(told))
                }
            }
            None => None,
        };
    }
}

/// Now, by the clock that timers go by.
fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}
