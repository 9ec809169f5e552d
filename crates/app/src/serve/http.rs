//! The HTTP listeners: sockets, TLS, connections. Knows no path and no dialect.
//!
//! Whoever connects can hold one connection, for a bounded time, in a bounded number of places; nothing they do stops
//! the listener. A connection is held by answers that we still owe, such as an event stream, and by nothing else: not
//! by signs of life, and not by an answer that its reader does not fetch.
//!
//! A connection that an edge takes over (an HTTP/1.1 upgrade) is no longer a matter of requests: it lasts until it is
//! closed, keeps its place for so long, and ends with the node. Every request over HTTP/1.1 carries the
//! [`SocketHandle`] of its connection as an extension, so that an edge can cut what it has taken over and know that it
//! is closed. Over HTTP/2 there is none: others' requests share that socket, and nothing can be upgraded there. How
//! large frames may be is for the edge to say that decodes them.

use super::doors::{Doors, Unread};
use axum::body::{Body, Bytes};
use http::StatusCode;
use http::uri::Scheme;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ravelin_engine::leg::{SocketHandle, guard, prepare};
use ravelin_engine::neighbourhood;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Open connections of one listener.
const CONNECTIONS_MAX: usize = 4096;
/// Open connections of one network, so that one peer cannot take all of them. Loopback is not counted.
const CONNECTIONS_PER_NETWORK_MAX: usize = 512;
/// From accept to the end of the TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// From the end of one answer to the end of the next request's head.
const HEAD_MAX: Duration = Duration::from_secs(30);
/// Size of a request's head.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Requests at a time on one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// How long an idle HTTP/2 peer may stay silent before it is asked for a sign of life, and how long that may take.
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_MAX: Duration = Duration::from_secs(15);
/// How long a connection stays on which we owe no answer.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// How long an idle peer may take to say goodbye.
const GOODBYE_MAX: Duration = Duration::from_secs(5);
/// How long a peer may take none of the bytes that wait for it.
const WRITE_STALL_MAX: Duration = Duration::from_secs(30);
/// The same on a connection that was taken over: somebody's program may pause in a debugger, and be no attack.
const TAKEN_OVER_STALL_MAX: Duration = Duration::from_secs(600);
/// How long a peer is heard out that still sends what we have refused, and how much of it.
const LINGER_MAX: Duration = Duration::from_secs(10);
const LINGER_BYTES_MAX: usize = 256 << 20;
/// How long a stop waits for answers that are under way.
const FINISH_MAX: Duration = Duration::from_secs(1);
/// A pause after the system refused to give a socket.
pub(super) const BREATH: Duration = Duration::from_millis(100);

/// Serves until `stopping`; returns when every connection is closed.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    doors: Doors,
    stopping: CancellationToken,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let places = Places::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(ended) = connections.join_next() => {
                note(ended);
                continue;
            }
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.take(peer.ip()) else {
                    tracing::warn!(%peer, "too many connections; this one is closed");
                    continue;
                };
                let (acceptor, doors, stopping) = (acceptor.clone(), doors.clone(), stopping.clone());
                connections.spawn(async move {
                    let _place = place;
                    connection(stream, peer, acceptor, doors, stopping).await;
                });
            }
            Err(error) => {
                // Out of file descriptors, or the peer was gone before we came to it.
                tracing::warn!(%error, "cannot accept a connection; going on");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
    drop(listener);
    let finishing = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISH_MAX, finishing).await.is_err() {
        connections.shutdown().await;
    }
}

fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!("a connection ended in a panic");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    doors: Doors,
    stopping: CancellationToken,
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%peer, %error, "cannot have the system look after a connection");
    }
    let (stream, socket) = guard(stream);
    let line = Line { socket: Some(socket.clone()), taken_over: Mark::default(), unread: Mark::default() };
    let taken_over = line.taken_over.clone();
    let stream = Paced::new(stream, line.clone());
    match acceptor {
        None => requests(stream, peer, Scheme::HTTP, false, doors, line, stopping.clone()).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let second = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                requests(stream, peer, Scheme::HTTPS, second, doors, line, stopping.clone()).await;
            }
            Ok(Err(error)) => tracing::debug!(%peer, %error, "no TLS"),
            Err(_elapsed) => tracing::debug!(%peer, "no TLS in time"),
        },
    }
    if taken_over.is_so() {
        // The edge has it now. Sessions on it were ended before the listeners are stopped; what is left is cut.
        if stopping.run_until_cancelled(socket.closed()).await.is_none() {
            socket.cut();
            socket.closed().await;
        }
    }
}

/// The connection that requests come over, as far as they may know of it.
#[derive(Clone)]
struct Line {
    /// `None` where there is no socket, in tests.
    socket: Option<SocketHandle>,
    /// An edge has taken it over.
    taken_over: Mark,
    /// An answer went out before its request was read.
    unread: Mark,
}

/// Something that happened to a connection, for whoever looks after it.
#[derive(Clone, Default)]
struct Mark(Arc<AtomicBool>);

impl Mark {
    fn note(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_so(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

async fn requests<S>(
    stream: S,
    peer: SocketAddr,
    scheme: Scheme,
    second: bool,
    doors: Doors,
    line: Line,
    stopping: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let owed = Owed::default();
    let counted = owed.clone();
    let service = service_fn(move |mut request: http::Request<Incoming>| {
        let (doors, scheme, owed, debt) = (doors.clone(), scheme.clone(), counted.clone(), counted.incur());
        let Line { taken_over, unread, .. } = line.clone();
        if let (Some(socket), false) = (&line.socket, second) {
            request.extensions_mut().insert(socket.clone());
        }
        async move {
            let response = doors.answer(request.map(Body::new), peer, scheme).await;
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                taken_over.note();
            }
            if response.extensions().get::<Unread>().is_some() {
                unread.note();
            }
            drop(debt);
            Ok::<_, Infallible>(response.map(|body| OwedBody { body, debt: None, owed }))
        }
    });
    let io = TokioIo::new(stream);
    let outcome = if second {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_MAX);
        let mut connection = pin!(builder.serve_connection(io, service));
        let end = tokio::select! {
            outcome = connection.as_mut() => End::Over(outcome),
            () = stopping.cancelled() => End::Stop,
            () = owed.idle() => End::Idle,
        };
        match end {
            End::Over(outcome) => outcome,
            End::Stop => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            End::Idle => {
                connection.as_mut().graceful_shutdown();
                owed.goodbye(connection).await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX).max_buf_size(HEAD_BYTES_MAX);
        let mut connection = pin!(builder.serve_connection(io, service).with_upgrades());
        let end = tokio::select! {
            outcome = connection.as_mut() => End::Over(outcome),
            () = stopping.cancelled() => End::Stop,
            () = owed.idle() => End::Idle,
        };
        match end {
            End::Over(outcome) => outcome,
            End::Stop => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            End::Idle => {
                connection.as_mut().graceful_shutdown();
                owed.goodbye(connection).await
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%peer, %error, "a connection broke");
    }
}

/// Why serving a connection came to its end.
enum End {
    Over(hyper::Result<()>),
    Stop,
    Idle,
}

/// What we owe the peer of one connection: answers that are being made, and streams that wait for something to tell.
#[derive(Clone, Default)]
struct Owed(watch::Sender<usize>);

impl Owed {
    /// One thing more, until the debt is dropped.
    fn incur(&self) -> Debt {
        self.0.send_modify(|debts| *debts += 1);
        Debt(self.0.clone())
    }

    /// The peer took something: it is not idle.
    fn progress(&self) {
        self.0.send_modify(|_same| {});
    }

    /// Resolves when nothing was owed and nothing was taken for [`IDLE_MAX`].
    async fn idle(&self) {
        let mut debts = self.0.subscribe();
        loop {
            // The sender is ours, so both waits end with a change only.
            let _clear = debts.wait_for(|debts| *debts == 0).await.is_ok();
            if tokio::time::timeout(IDLE_MAX, debts.changed()).await.is_err() {
                return;
            }
        }
    }

    /// Lets a connection that was told to close do so; what its peer asked for at the last moment is still answered.
    async fn goodbye(&self, mut connection: impl Future<Output = hyper::Result<()>> + Unpin) -> hyper::Result<()> {
        loop {
            match tokio::time::timeout(GOODBYE_MAX, &mut connection).await {
                Ok(outcome) => return outcome,
                Err(_elapsed) if *self.0.borrow() == 0 => return Ok(()),
                Err(_elapsed) => {}
            }
        }
    }
}

/// Something owed.
struct Debt(watch::Sender<usize>);

impl Drop for Debt {
    fn drop(&mut self) {
        self.0.send_modify(|debts| *debts -= 1);
    }
}

/// A body that is owed while it waits for us. While it waits for its reader it is not: who does not read holds nothing.
struct OwedBody {
    body: Body,
    debt: Option<Debt>,
    owed: Owed,
}

impl hyper::body::Body for OwedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            this.debt.get_or_insert_with(|| this.owed.incur());
        } else {
            this.debt = None;
            this.owed.progress();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that breaks when its peer takes nothing for [`WRITE_STALL_MAX`] while something waits to be written; for
/// [`TAKEN_OVER_STALL_MAX`] once it was taken over.
///
/// It is not closed on a peer that is still sending what we do not want: the system would break the connection, and the
/// peer lose the answer with it. Such a peer is heard out after our last word, within [`LINGER_MAX`] and
/// [`LINGER_BYTES_MAX`] (RFC 9112, section 9.6).
struct Paced<S> {
    stream: S,
    line: Line,
    stalled: Option<Pin<Box<Sleep>>>,
    lingering: Option<Lingering>,
}

/// What a peer may still send that nobody reads.
struct Lingering {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl<S> Paced<S> {
    fn new(stream: S, line: Line) -> Self {
        Self { stream, line, stalled: None, lingering: None }
    }

    /// `polled`, unless it has been pending for too long.
    fn paced<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let limit = if self.line.taken_over.is_so() { TAKEN_OVER_STALL_MAX } else { WRITE_STALL_MAX };
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Reads and forgets, until the peer ends or a limit is reached.
    fn hear_out(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            until: Box::pin(tokio::time::sleep(LINGER_MAX)),
            bytes_left: LINGER_BYTES_MAX,
        });
        let mut bytes = [0; 8 << 10];
        loop {
            if lingering.until.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let mut read = ReadBuf::new(&mut bytes);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read)) {
                Ok(()) if !read.filled().is_empty() => {
                    let Some(left) = lingering.bytes_left.checked_sub(read.filled().len()) else {
                        return Poll::Ready(());
                    };
                    lingering.bytes_left = left;
                }
                Ok(()) | Err(_) => return Poll::Ready(()),
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.paced(polled, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.paced(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        // What a flush finds done says nothing of a write that is still stalled.
        if polled.is_ready() { polled } else { this.paced(polled, cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.paced(polled, cx))?;
            if !this.line.unread.is_so() || this.line.taken_over.is_so() {
                return Poll::Ready(Ok(()));
            }
        }
        this.hear_out(cx).map(Ok)
    }
}

/// Counts open connections.
#[derive(Clone, Default)]
struct Places {
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_network: HashMap<IpAddr, usize>,
}

impl Places {
    fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let network = (!address.is_loopback()).then(|| neighbourhood(address));
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= CONNECTIONS_MAX {
            return None;
        }
        if let Some(network) = network {
            let of_network = taken.by_network.entry(network).or_default();
            if *of_network >= CONNECTIONS_PER_NETWORK_MAX {
                return None;
            }
            *of_network += 1;
        }
        taken.all += 1;
        Some(Place { places: self.clone(), network })
    }
}

/// One open connection's place; dropping it gives it back.
struct Place {
    places: Places,
    /// `None` for loopback.
    network: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        let Some(network) = self.network else { return };
        if let Some(of_network) = taken.by_network.get_mut(&network) {
            *of_network -= 1;
            if *of_network == 0 {
                taken.by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::front::Front;
    use super::*;
    use axum::Router;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    fn doors(native: Router) -> Doors {
        Doors { aws: Router::new(), azure: Router::new(), native, front: Front::new(22) }
    }

    fn line() -> Line {
        Line { socket: None, taken_over: Mark::default(), unread: Mark::default() }
    }

    const UPGRADE: &[u8] = b"GET /api/v1/echo HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

    /// An edge that takes connections over and sends back what it gets, or does nothing with them for ever.
    fn upgrading(idles: bool) -> Router {
        let handler = move |mut request: axum::extract::Request| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let upgraded = upgrade.await.expect("it is upgraded");
                if idles {
                    std::future::pending::<()>().await;
                }
                let (mut from, mut to) = tokio::io::split(TokioIo::new(upgraded));
                let _bytes = tokio::io::copy(&mut from, &mut to).await;
            });
            (StatusCode::SWITCHING_PROTOCOLS, [("connection", "upgrade"), ("upgrade", "echo")])
        };
        Router::new().route("/api/v1/echo", axum::routing::get(handler))
    }

    /// Reads a head to its empty line.
    async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        String::from_utf8(head).expect("a head is text")
    }

    /// A connection over a real socket, served by itself.
    async fn connected(native: Router, stopping: &CancellationToken) -> (TcpStream, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (theirs, peer) = accepted.expect("accepted");
        let serving = tokio::spawn(connection(theirs, peer, None, doors(native), stopping.clone()));
        (ours.expect("connected"), serving)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_taken_over_is_not_idle() {
        let (mut ours, theirs) = tokio::io::duplex(1 << 16);
        let peer = "192.0.2.1:1".parse().expect("an address");
        let line = line();
        let served = requests(
            theirs,
            peer,
            Scheme::HTTP,
            false,
            doors(upgrading(false)),
            line.clone(),
            CancellationToken::new(),
        );
        tokio::spawn(served);
        ours.write_all(UPGRADE).await.expect("it reads");
        assert!(head(&mut ours).await.starts_with("HTTP/1.1 101 "));
        assert!(line.taken_over.is_so());
        tokio::time::sleep(IDLE_MAX * 10).await;
        ours.write_all(b"still there?").await.expect("it reads");
        let mut echo = [0; 12];
        ours.read_exact(&mut echo).await.expect("it answers");
        assert_eq!(&echo, b"still there?");
    }

    #[tokio::test]
    async fn a_connection_that_was_taken_over_keeps_its_place_until_it_is_closed() {
        let (mut ours, mut serving) = connected(upgrading(false), &CancellationToken::new()).await;
        ours.write_all(UPGRADE).await.expect("it reads");
        assert!(head(&mut ours).await.starts_with("HTTP/1.1 101 "));
        // Were the place given back with the upgrade, it would be by now.
        ours.write_all(b"x").await.expect("it reads");
        assert_eq!(ours.read_u8().await.expect("it answers"), b'x');
        tokio::time::timeout(Duration::from_millis(50), &mut serving).await.expect_err("it holds");
        drop(ours);
        serving.await.expect("it ends with its socket");
    }

    #[tokio::test]
    async fn a_stop_cuts_what_was_taken_over_although_nobody_looks_after_it() {
        let stopping = CancellationToken::new();
        let (mut ours, serving) = connected(upgrading(true), &stopping).await;
        ours.write_all(UPGRADE).await.expect("it reads");
        assert!(head(&mut ours).await.starts_with("HTTP/1.1 101 "));
        stopping.cancel();
        assert_eq!(ours.read(&mut [0; 8]).await.expect("a clean end"), 0);
        serving.abort();
    }

    #[tokio::test]
    async fn an_edge_can_cut_the_connection_of_a_request() {
        use axum::Extension;
        let cut = |Extension(socket): Extension<SocketHandle>| async move { socket.cut() };
        let native = Router::new().route("/api/v1/cut", axum::routing::get(cut));
        let (mut ours, serving) = connected(native, &CancellationToken::new()).await;
        ours.write_all(b"GET /api/v1/cut HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it reads");
        assert_eq!(ours.read(&mut [0; 8]).await.expect("a clean end"), 0);
        serving.await.expect("it ends");
    }

    /// Speaks just enough HTTP/2 to live: says hello, sends `first`, answers every PING, and counts until it is left
    /// alone or `patience` is over.
    async fn stays(first: &[u8], native: Router, patience: Duration) -> Option<Duration> {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let peer = "192.0.2.1:1".parse().expect("an address");
        let begun = Instant::now();
        tokio::spawn(requests(theirs, peer, Scheme::HTTPS, true, doors(native), line(), CancellationToken::new()));
        ours.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("it reads");
        ours.write_all(first).await.expect("it reads");
        let life = async {
            loop {
                let mut head = [0; 9];
                if ours.read_exact(&mut head).await.is_err() {
                    return begun.elapsed();
                }
                let [a, b, c, kind, flags, ..] = head;
                let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
                ours.read_exact(&mut payload).await.expect("a whole frame");
                if kind == 6 && flags == 0 {
                    let ack = [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &payload].concat();
                    if ours.write_all(&ack).await.is_err() {
                        return begun.elapsed();
                    }
                }
            }
        };
        tokio::time::timeout(patience, life).await.ok()
    }

    #[tokio::test(start_paused = true)]
    async fn signs_of_life_do_not_hold_a_connection() {
        let lived = stays(&[], Router::new(), Duration::from_secs(600)).await.expect("it is closed");
        assert!(lived >= IDLE_MAX && lived <= IDLE_MAX + GOODBYE_MAX, "{lived:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_stream_holds_its_connection() {
        use axum::routing::get;
        let silent = || async { Body::from_stream(futures_util::stream::pending::<Result<Bytes, io::Error>>()) };
        // GET, https, :authority a and :path /api/v1, in HPACK without a table.
        let block = b"\x82\x87\x01\x01a\x04\x07/api/v1";
        let mut first = vec![0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1];
        first.extend_from_slice(block);
        let lived = stays(&first, Router::new().route("/api/v1", get(silent)), Duration::from_secs(600)).await;
        assert_eq!(lived, None);
    }

    #[tokio::test]
    async fn whoever_sends_far_too_much_still_reads_the_answer() {
        let refusing = Router::new().route("/api/v1", axum::routing::post(|| async { StatusCode::PAYLOAD_TOO_LARGE }));
        let (mut ours, serving) = connected(refusing, &CancellationToken::new()).await;
        let body = vec![0; 64 << 20];
        let head_of_request = format!("POST /api/v1 HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        ours.write_all(head_of_request.as_bytes()).await.expect("it reads");
        ours.write_all(&body).await.expect("it is heard out");
        assert!(head(&mut ours).await.starts_with("HTTP/1.1 413 "));
        drop(ours);
        serving.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_sends_without_end_is_left() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let line = line();
        line.unread.note();
        let sender = tokio::spawn(async move {
            let (_answers, mut sending) = tokio::io::split(ours);
            while sending.write_all(&[0; 16]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let (begun, mut stream) = (Instant::now(), Paced::new(theirs, line));
        stream.shutdown().await.expect("it ends");
        assert!((LINGER_MAX..LINGER_MAX * 2).contains(&begun.elapsed()));
        drop(stream);
        sender.await.expect("no panic");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_left() {
        let (ours, theirs) = tokio::io::duplex(16);
        let begun = Instant::now();
        let error = Paced::new(theirs, line()).write_all(&[0; 32]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), begun.elapsed() >= WRITE_STALL_MAX), (io::ErrorKind::TimedOut, true));
        drop(ours);
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_behind_a_connection_that_was_taken_over_may_pause_for_longer() {
        let (ours, theirs) = tokio::io::duplex(16);
        let begun = Instant::now();
        let line = line();
        line.taken_over.note();
        let error = Paced::new(theirs, line).write_all(&[0; 32]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), begun.elapsed() >= TAKEN_OVER_STALL_MAX), (io::ErrorKind::TimedOut, true));
        drop(ours);
    }

    #[test]
    fn one_network_cannot_take_all_places() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let places = Places::default();
        let mut held: Vec<Place> = Vec::new();
        let greedy = |host: usize| address(&format!("2001:db8::{host:x}"));
        while let Some(place) = places.take(greedy(held.len())) {
            held.push(place);
        }
        assert_eq!(held.len(), CONNECTIONS_PER_NETWORK_MAX);
        let others = ["2001:db8:0:1::1", "192.0.2.1", "192.0.2.2"];
        let others = others.map(|other| places.take(address(other)).expect("room for another network"));
        held.pop();
        assert!(places.take(greedy(0)).is_some());
        assert_eq!(neighbourhood(address("::ffff:192.0.2.1")), address("192.0.2.1"));
        drop((held, others));
        let taken = places.taken.lock().expect("not poisoned");
        assert!(taken.all == 0 && taken.by_network.is_empty());
    }
}
