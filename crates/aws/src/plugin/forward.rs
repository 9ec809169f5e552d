//! A listener, whose connections go through the session: many in one smux stream, or one at a time with old servers.
//!
//! Version 1 of smux has no window for a single stream. What arrives for a connection that takes nothing waits in its own
//! short queue, then nothing more is read for anybody, and after [`super::Patience::stuck`] that connection is closed.

use super::console::{Console, Happened, Signal};
use super::line::{Line, Up};
use super::{Ended, Failure, Session};
use crate::proto::channel::Flag;
use crate::proto::client::{Begun, Event, Kind};
use crate::proto::smux::{self, Command, Decoder};
use bytes::{Bytes, BytesMut};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Connections at once; more wait to be accepted.
const CONNECTIONS_MAX: usize = 512;
/// Pieces that wait for one connection: with frames at their largest, 1 MiB.
const QUEUE: usize = 16;
/// Bytes of one read of a connection.
const READ_BYTES: usize = 32 * 1024;
/// Bytes that wait for the next connection, with servers that know one at a time.
const EARLY_BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn attend(
    session: &Session<'_>,
    begun: Begun,
    line: Line,
    console: &mut Console,
) -> Result<Ended, Failure> {
    session.greet(console, &begun).await;
    let Kind::Forward { mux, port, socket } = begun.kind else { return Err(Failure::Internal) };
    let listener = match socket {
        Some(path) => Listener::unix(Path::new(&path))?,
        None => Listener::tcp(port).await?,
    };
    let id = &session.id;
    console.announce(&format!("{} opened for sessionId {id}.\nWaiting for connections...\n", listener.place())).await;
    if mux {
        Mux::new(session, line, begun.ravelin).attend(&listener, console).await
    } else {
        one_at_a_time(session, line, &listener, console).await
    }
}

/// Where connections come from.
enum Listener {
    Tcp { first: TcpListener, second: Option<TcpListener>, port: u16 },
    Unix { listener: UnixListener, path: PathBuf },
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Halves = (ReadHalf<Box<dyn Stream>>, WriteHalf<Box<dyn Stream>>);

impl Listener {
    /// Both families of `localhost`, where the system has both.
    async fn tcp(port: u16) -> Result<Self, Failure> {
        let fault =
            |error: std::io::Error| Failure::Listen { place: format!("localhost:{port}"), because: error.to_string() };
        let first = TcpListener::bind(("127.0.0.1", port)).await.map_err(fault)?;
        let port = first.local_addr().map_err(fault)?.port();
        let second = TcpListener::bind(("::1", port)).await.ok();
        Ok(Self::Tcp { first, second, port })
    }

    /// A socket that only this user can reach.
    fn unix(path: &Path) -> Result<Self, Failure> {
        let fault =
            |error: std::io::Error| Failure::Listen { place: path.display().to_string(), because: error.to_string() };
        let listener = UnixListener::bind(path).map_err(fault)?;
        let made = Self::Unix { listener, path: path.to_owned() };
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).map_err(fault)?;
        Ok(made)
    }

    fn place(&self) -> String {
        match self {
            Self::Tcp { port, .. } => format!("Port {port}"),
            Self::Unix { path, .. } => format!("Unix socket {}", path.display()),
        }
    }

    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp { first, second, .. } => {
                let second = async {
                    match second {
                        Some(second) => second.accept().await,
                        None => std::future::pending().await,
                    }
                };
                let (stream, _from) = tokio::select! {
                    accepted = first.accept() => accepted?,
                    accepted = second => accepted?,
                };
                // Fails on a connection that is gone already.
                stream.set_nodelay(true).ok();
                Ok(Box::new(stream))
            }
            Self::Unix { listener, .. } => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // Somebody may have removed it.
            std::fs::remove_file(path).ok();
        }
    }
}

/// A connection that could not be accepted is not the listener's end: the system may be short of descriptors.
async fn accept(listener: &Listener) -> Box<dyn Stream> {
    loop {
        match listener.accept().await {
            Ok(stream) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Connections as streams of one smux session.
struct Mux<'a> {
    session: &'a Session<'a>,
    line: Line,
    up: mpsc::Sender<Up>,
    /// Whether the far side can end one direction only.
    one_sided: bool,
    decoder: Decoder,
    next: u32,
    streams: HashMap<u32, Open>,
    tasks: JoinSet<u32>,
    /// Frames that came and are not delivered, and since when the first of them waits.
    frames: VecDeque<(u32, Bytes)>,
    waits: Option<Instant>,
    /// Frames of our own that wait for the line.
    own: VecDeque<Bytes>,
    /// Whether the first connection was told of.
    is_announced: bool,
}

/// A connection that is open.
struct Open {
    /// `None` once the far side has ended.
    down: Option<mpsc::Sender<Bytes>>,
    task: AbortHandle,
}

impl<'a> Mux<'a> {
    fn new(session: &'a Session<'a>, line: Line, one_sided: bool) -> Self {
        Self {
            session,
            up: line.sender(),
            line,
            one_sided,
            decoder: Decoder::new(),
            next: smux::FIRST_CLIENT_STREAM,
            streams: HashMap::new(),
            tasks: JoinSet::new(),
            frames: VecDeque::new(),
            waits: None,
            own: VecDeque::new(),
            is_announced: false,
        }
    }

    async fn attend(mut self, listener: &Listener, console: &mut Console) -> Result<Ended, Failure> {
        let up = self.up.clone();
        loop {
            self.deliver();
            let blocked = self.frames.front().and_then(|(stream, _)| self.streams.get(stream)?.down.clone());
            let until = self.waits.map(|since| since + self.session.patience.stuck);
            tokio::select! {
                stream = accept(listener), if self.streams.len() < CONNECTIONS_MAX && self.own.is_empty() => {
                    self.begin(stream);
                    // Of the first only, as the vendor's: nobody may read what a script's listener says for ever.
                    if !std::mem::replace(&mut self.is_announced, true) {
                        console.announce(&format!("\nConnection accepted for session [{}]\n", self.session.id)).await;
                    }
                }
                event = self.line.next(), if self.frames.is_empty() => match event? {
                    Event::Output(bytes) => {
                        self.decoder.push(bytes);
                        self.read_frames()?;
                    }
                    Event::PortRefused => console.say("\nConnection to destination port failed.\n").await,
                    Event::Closed(text) => return self.session.closed(console, &text, None).await,
                    Event::Broken(because) => return Err(Failure::Broken(because)),
                    Event::Begun(_) | Event::Errors(_) | Event::Exit(_) => {}
                },
                permit = up.reserve(), if !self.own.is_empty() => {
                    // A line that takes nothing any more says why as its next event.
                    if let (Ok(permit), Some(frame)) = (permit, self.own.pop_front()) {
                        permit.send(Up::Data(frame));
                    }
                }
                () = has_room(blocked), if !self.frames.is_empty() => {}
                () = sleep_until(until) => self.drop_stuck(),
                Some(ended) = self.tasks.join_next(), if !self.tasks.is_empty() => {
                    if let Ok(stream) = ended {
                        self.streams.remove(&stream);
                    }
                }
                happened = console.next(false) => if let Some(status) = ends(&happened?) {
                    return self.session.left(console, status).await;
                },
            }
        }
    }

    fn begin(&mut self, connection: Box<dyn Stream>) {
        let stream = self.next;
        // After two thousand million connections the numbers start again.
        self.next = stream.checked_add(2).unwrap_or(smux::FIRST_CLIENT_STREAM);
        let (down, from_far) = mpsc::channel(QUEUE);
        let (up, one_sided) = (self.up.clone(), self.one_sided);
        let task = self.tasks.spawn(async move {
            carry(stream, connection, &up, from_far, one_sided).await;
            stream
        });
        self.streams.insert(stream, Open { down: Some(down), task });
    }

    fn read_frames(&mut self) -> Result<(), Failure> {
        while let Some(frame) = self.decoder.poll_frame().map_err(|fault| Failure::Broken(fault.to_string()))? {
            match frame.command {
                // An empty piece stands for the end.
                Command::Psh if frame.data.is_empty() => {}
                Command::Psh => self.frames.push_back((frame.stream, frame.data)),
                Command::Fin => self.frames.push_back((frame.stream, Bytes::new())),
                Command::Syn | Command::Nop => {}
            }
        }
        Ok(())
    }

    /// Gives connections what arrived for them, until one has no room.
    fn deliver(&mut self) {
        while let Some((stream, data)) = self.frames.pop_front() {
            let Some(open) = self.streams.get_mut(&stream) else { continue };
            if data.is_empty() {
                open.down = None;
                continue;
            }
            match open.down.as_ref().map(|down| down.try_send(data)) {
                Some(Err(mpsc::error::TrySendError::Full(data))) => {
                    self.frames.push_front((stream, data));
                    self.waits.get_or_insert(Instant::now());
                    return;
                }
                Some(Ok(()) | Err(mpsc::error::TrySendError::Closed(_))) | None => {}
            }
            self.waits = None;
        }
        self.waits = None;
    }

    /// Closes the connection that keeps the others waiting.
    fn drop_stuck(&mut self) {
        self.waits = None;
        let Some((stream, _)) = self.frames.front() else { return };
        if let Some(open) = self.streams.remove(stream) {
            tracing::warn!(stream, "a connection took nothing for too long and is closed");
            open.task.abort();
            self.own.push_back(fin(*stream));
        }
    }
}

/// The exit status of an end from here. Ctrl-C is how such a session is meant to end.
fn ends(happened: &Happened) -> Option<u8> {
    match happened {
        Happened::Signal(Signal::Interrupt) => Some(0),
        Happened::Signal(signal) => signal.ends(),
        Happened::Input(_) | Happened::Written => None,
    }
}

/// When a connection has room again, or is gone.
async fn has_room(blocked: Option<mpsc::Sender<Bytes>>) {
    if let Some(down) = blocked {
        // Whether it is there or gone is seen by whoever delivers.
        drop(down.reserve().await);
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// One connection: what it says goes up in frames, what comes goes down, until both have ended.
async fn carry(
    stream: u32,
    connection: Box<dyn Stream>,
    up: &mpsc::Sender<Up>,
    mut from_far: mpsc::Receiver<Bytes>,
    one_sided: bool,
) {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let upward = async {
        let mut frame = BytesMut::with_capacity(READ_BYTES + 2 * smux::HEADER_BYTES);
        smux::encode(Command::Syn, stream, &mut frame);
        let mut buffer = vec![0; READ_BYTES];
        loop {
            if up.send(Up::Data(frame.split().freeze())).await.is_err() {
                return;
            }
            match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(count) => smux::encode_data(stream, &buffer[..count], &mut frame),
            }
        }
    };
    let downward = async {
        while let Some(piece) = from_far.recv().await {
            if writer.write_all(&piece).await.is_err() {
                return false;
            }
        }
        // Fails on a connection that is gone already.
        writer.shutdown().await.ok();
        true
    };
    tokio::pin!(upward, downward);
    let fin = Up::Data(fin(stream));
    tokio::select! {
        () = &mut upward => {
            up.send(fin).await.ok();
            downward.await;
        }
        orderly = &mut downward => {
            // Where the far side cannot end one direction only, its end is the end of both.
            if one_sided && orderly {
                upward.await;
            }
            up.send(fin).await.ok();
        }
    }
}

fn fin(stream: u32) -> Bytes {
    let mut frame = BytesMut::with_capacity(smux::HEADER_BYTES);
    smux::encode(Command::Fin, stream, &mut frame);
    frame.freeze()
}

/// Old servers: one connection at a time, its bytes bare in the session's stream.
async fn one_at_a_time(
    session: &Session<'_>,
    mut line: Line,
    listener: &Listener,
    console: &mut Console,
) -> Result<Ended, Failure> {
    let up = line.sender();
    let mut connection: Option<Halves> = None;
    let mut buffer = vec![0; READ_BYTES];
    let mut to_send = None;
    let mut is_announced = false;
    // What came before there was a connection: a server may speak first.
    let mut early = BytesMut::new();
    loop {
        let free = connection.is_none();
        let reading = async {
            match &mut connection {
                Some((reader, _)) => reader.read(&mut buffer).await.unwrap_or(0),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            count = reading, if to_send.is_none() => {
                if count == 0 {
                    connection = None;
                    to_send = Some(Up::Flag(Flag::DisconnectToPort));
                } else {
                    to_send = Some(Up::Data(Bytes::copy_from_slice(&buffer[..count])));
                }
            }
            permit = up.reserve(), if to_send.is_some() => {
                // A line that takes nothing any more says why as its next event.
                if let (Ok(permit), Some(next)) = (permit, to_send.take()) {
                    permit.send(next);
                }
            }
            stream = accept(listener), if free && to_send.is_none() => {
                if !std::mem::replace(&mut is_announced, true) {
                    console.announce(&format!("Connection accepted for session {}.\n", session.id)).await;
                }
                let (reader, mut writer) = tokio::io::split(stream);
                let greeted = writer.write_all(&early.split()).await.is_ok();
                connection = greeted.then_some((reader, writer));
                if connection.is_none() {
                    to_send = Some(Up::Flag(Flag::DisconnectToPort));
                }
            }
            event = line.next() => match event? {
                Event::Output(bytes) => {
                    let gone = match &mut connection {
                        Some((_, writer)) => {
                            let written = tokio::time::timeout(session.patience.stuck, writer.write_all(&bytes)).await;
                            !matches!(written, Ok(Ok(())))
                        }
                        None if early.len() + bytes.len() > EARLY_BYTES_MAX => {
                            return Err(Failure::Broken("the far side says much, and nobody has connected".to_owned()));
                        }
                        None => {
                            early.extend_from_slice(&bytes);
                            false
                        }
                    };
                    if gone {
                        connection = None;
                        to_send = Some(Up::Flag(Flag::DisconnectToPort));
                    }
                }
                Event::PortRefused => {
                    console.say("\nConnection to destination port failed.\n").await;
                    connection = None;
                }
                Event::Closed(text) => return session.closed(console, &text, None).await,
                Event::Broken(because) => return Err(Failure::Broken(because)),
                Event::Begun(_) | Event::Errors(_) | Event::Exit(_) => {}
            },
            happened = console.next(false) => if let Some(status) = ends(&happened?) {
                return session.left(console, status).await;
            },
        }
    }
}
