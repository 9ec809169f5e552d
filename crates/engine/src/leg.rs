//! Legs: the two connections that a session joins, as the engine sees them.
//!
//! An edge owns the sockets and speaks their protocol; the engine must be able to close them at any moment and to
//! know when they are closed. A [`Leg`] is that ability. [`guard`] gives it for a TCP socket, whatever protocol
//! library reads from it: the socket can be shut down from outside while that library is stuck, and its drop is seen.

use async_trait::async_trait;
use bytes::{Buf, BytesMut};
use rustix::net::Shutdown;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_util::sync::{CancellationToken, DropGuard};

/// One side of a session, for the engine's hand.
#[async_trait]
pub trait Leg: Send + Sync {
    /// Shows a line to the person at this end, if there is one, and goes on. Best effort.
    async fn tell(&self, text: &str);

    /// Shows why the session ends, so that it is read, and closes in the protocol's own way. Best effort: the edge gives
    /// up on a peer that does not answer, and the engine bounds the whole and then cuts.
    async fn farewell(&self, text: &str);

    /// Closes the socket now, whatever else is going on. Must not block.
    fn cut(&self);

    /// Resolves when the socket is closed.
    async fn closed(&self);
}

/// The side of a client that has not come yet.
pub struct Absent;

#[async_trait]
impl Leg for Absent {
    async fn tell(&self, _text: &str) {}

    async fn farewell(&self, _text: &str) {}

    fn cut(&self) {}

    async fn closed(&self) {}
}

/// A socket that a [`SocketHandle`] can shut down. Reading is buffered while data flows in bulk, and the buffer is given
/// back as soon as it runs empty, so that an idle session holds none.
pub struct GuardedStream {
    // The fields' order is the order in which they are dropped: the socket is closed before anybody is told.
    read: OwnedReadHalf,
    ahead: BytesMut,
    writing: WritingHalf,
    _tells_closed: DropGuard,
}

/// The half that writes, in reach of both the stream and its handles. It is shared rather than doubled, because a second
/// descriptor of the socket would halve the sessions that a process can hold.
struct WritingHalf(Arc<Mutex<Option<OwnedWriteHalf>>>);

/// The outside hand on a [`GuardedStream`].
#[derive(Clone)]
pub struct SocketHandle {
    // Taken out when the stream is dropped, because a connection is closed with its last half only.
    write: Arc<Mutex<Option<OwnedWriteHalf>>>,
    closed: CancellationToken,
}

/// For how long nothing may be said on a socket before the system asks whether the peer's machine is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// Between two such questions.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// How many may stay unanswered.
const KEEPALIVE_TIMES: u32 = 4;

/// Has what is written go out at once, and the system find out when the peer's machine has vanished: where nothing is
/// said by either side, nobody else would.
///
/// # Errors
/// When the socket is gone already.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_TIMES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}

/// Puts a socket under guard.
#[must_use]
pub fn guard(stream: TcpStream) -> (GuardedStream, SocketHandle) {
    let (read, write) = stream.into_split();
    let write = Arc::new(Mutex::new(Some(write)));
    let closed = CancellationToken::new();
    let stream = GuardedStream {
        read,
        ahead: BytesMut::new(),
        writing: WritingHalf(Arc::clone(&write)),
        _tells_closed: closed.clone().drop_guard(),
    };
    (stream, SocketHandle { write, closed })
}

impl WritingHalf {
    fn with<T>(&self, work: impl FnOnce(Pin<&mut OwnedWriteHalf>) -> Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(half) => work(Pin::new(half)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for WritingHalf {
    fn drop(&mut self) {
        if let Some(half) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The close says what a shutdown before it would say.
            half.forget();
        }
    }
}

impl SocketHandle {
    /// Shuts both directions down at once. The peer sees the end; the owner's reads and writes fail.
    pub fn cut(&self) {
        if let Some(half) = self.write.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            // Fails only when the peer was faster, which is the same result.
            let _already_closed = rustix::net::shutdown(half.as_ref(), Shutdown::Both);
        }
    }

    /// Resolves when the socket's owner has dropped it.
    pub async fn closed(&self) {
        self.closed.cancelled().await;
    }
}

/// A leg without a person or a protocol of its own, such as a plain TCP target: it can be cut, and nothing can be said.
#[async_trait]
impl Leg for SocketHandle {
    async fn tell(&self, _text: &str) {}

    async fn farewell(&self, _text: &str) {}

    fn cut(&self) {
        SocketHandle::cut(self);
    }

    async fn closed(&self) {
        SocketHandle::closed(self).await;
    }
}

impl GuardedStream {
    /// How much is read ahead at once.
    const AHEAD_BYTES: usize = 64 * 1024;
    /// A reader that asks for at least this much gets the socket's data without a detour.
    const DIRECT_BYTES_MIN: usize = 48 * 1024;

    /// The socket below, for its addresses and options.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        self.read.as_ref()
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.ahead.is_empty() {
            if out.remaining() >= Self::DIRECT_BYTES_MIN {
                return Pin::new(&mut this.read).poll_read(cx, out);
            }
            if this.ahead.capacity() < Self::AHEAD_BYTES {
                // First find out whether there is anything to read, so that waiting costs no buffer.
                if this.socket().poll_read_ready(cx)?.is_pending() {
                    // Used up, but still allocated: a socket that is waited for holds nothing.
                    this.ahead = BytesMut::new();
                    return Poll::Pending;
                }
                this.ahead.reserve(Self::AHEAD_BYTES);
            }
            let read = tokio_util::io::poll_read_buf(Pin::new(&mut this.read), cx, &mut this.ahead);
            if read.is_pending() {
                this.ahead = BytesMut::new();
            }
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        let n = this.ahead.len().min(out.remaining());
        out.put_slice(&this.ahead[..n]);
        this.ahead.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writing.with(|half| half.poll_write(cx, data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writing.with(|half| half.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        // A TCP socket's always is.
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.with(|half| half.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writing.with(|half| half.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn pair() -> (GuardedStream, SocketHandle, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, handle) = guard(ours.expect("connected"));
        (stream, handle, theirs.expect("accepted").0)
    }

    #[tokio::test]
    async fn a_cut_reaches_the_peer_while_the_owner_does_nothing() {
        let (stream, handle, mut peer) = pair().await;
        handle.cut();
        assert_eq!(peer.read(&mut [0; 8]).await.expect("a clean end"), 0);
        drop(stream);
        handle.closed().await;
    }

    #[tokio::test]
    async fn dropping_the_stream_closes_the_connection_although_a_handle_lives() {
        let (stream, handle, mut peer) = pair().await;
        drop(stream);
        assert_eq!(peer.read(&mut [0; 8]).await.expect("a clean end"), 0);
        handle.closed().await;
        handle.cut();
    }

    #[tokio::test]
    async fn reading_ahead_changes_nothing_of_what_is_read() {
        let (mut stream, _handle, mut peer) = pair().await;
        let sent: Vec<u8> = (0..300_000_u32).map(|i| (i % 251) as u8).collect();
        let expected = sent.clone();
        let writer = tokio::spawn(async move {
            peer.write_all(&sent).await.expect("written");
        });
        let mut got = Vec::new();
        let mut step = 0;
        loop {
            step += 1;
            let mut buffer = vec![0; [1, 4, 35_000, 70_000, 17][step % 5]];
            match stream.read(&mut buffer).await.expect("readable") {
                0 => break,
                n => got.extend_from_slice(&buffer[..n]),
            }
        }
        writer.await.expect("no panic");
        assert!(got == expected, "bytes differ");
        assert_eq!(stream.ahead.len(), 0);
    }

    #[tokio::test]
    async fn waiting_costs_no_buffer() {
        let (mut stream, _handle, mut peer) = pair().await;
        peer.write_all(b"hello").await.expect("written");
        let mut buffer = [0; 5];
        stream.read_exact(&mut buffer).await.expect("readable");
        assert!(futures_util::poll!(std::pin::pin!(stream.read(&mut buffer))).is_pending());
        assert_eq!(stream.ahead.capacity(), 0);
    }
}
