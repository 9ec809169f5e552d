//! The socket as the SSH library sees it: guarded, counted before login, and braked while too much is held up.
//!
//! It knows bytes and nothing of the protocol, but for the first line, in which a peer says what software it is.

use crate::backlog::Backlog;
use ravelin_engine::leg::GuardedStream;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;

/// What is known of a [`Wire`] from outside.
pub(crate) struct Watch {
    logged_in: AtomicBool,
    software: OnceLock<String>,
    made: Instant,
    // Milliseconds from `made` to the moment since which the peer takes nothing, plus one; 0 while it takes.
    blocked_since_ms: AtomicU64,
    said_goodbye: CancellationToken,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            logged_in: AtomicBool::new(false),
            software: OnceLock::new(),
            made: Instant::now(),
            blocked_since_ms: AtomicU64::new(0),
            said_goodbye: CancellationToken::new(),
        }
    }
}

impl Watch {
    /// A peer that has taken nothing for this long is stuck. One that is read from in bulk takes nothing for a moment now
    /// and then.
    const STUCK_AFTER_MS: u64 = 100;

    /// From now on, bytes are not counted.
    pub(crate) fn log_in(&self) {
        self.logged_in.store(true, Ordering::Release);
    }

    pub(crate) fn is_logged_in(&self) -> bool {
        self.logged_in.load(Ordering::Acquire)
    }

    /// What the peer calls itself, without the protocol's version; empty while it has not spoken.
    pub(crate) fn software(&self) -> String {
        self.software.get().cloned().unwrap_or_default()
    }

    /// Whether the peer takes nothing any more, so that there is no use in telling it anything.
    pub(crate) fn is_stuck(&self) -> bool {
        match self.blocked_since_ms.load(Ordering::Relaxed) {
            0 => false,
            since => self.now_ms().saturating_sub(since) >= Self::STUCK_AFTER_MS,
        }
    }

    fn note_write(&self, blocked: bool) {
        let noted = self.blocked_since_ms.load(Ordering::Relaxed);
        if blocked && noted == 0 {
            self.blocked_since_ms.store(self.now_ms(), Ordering::Relaxed);
        } else if !blocked && noted != 0 {
            self.blocked_since_ms.store(0, Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        // One more, because 0 has a meaning of its own.
        self.made.elapsed().as_millis() as u64 + 1
    }

    /// Resolves when everything was written and our side of the connection is closed.
    pub(crate) async fn said_goodbye(&self) {
        self.said_goodbye.cancelled().await;
    }
}

/// A peer of which nothing is heard for so many intervals of keepalives is gone.
pub(crate) const SILENCES_MAX: u32 = 4;

/// How reading is slowed down while the backlog has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Brake {
    /// Not at all until there is room: for a peer whose windows cannot be held back.
    Stop,
    /// A little at a time: for a peer whose windows are held back, so that what comes is mostly control messages,
    /// among them the ones which the other direction waits for.
    Pace,
}

/// A guarded socket with brakes.
pub(crate) struct Wire {
    inner: GuardedStream,
    watch: Arc<Watch>,
    backlog: Arc<Backlog>,
    brake: Brake,
    // Held only while reading is slowed down.
    pause: Option<Pin<Box<Sleep>>>,
    allowance_bytes: usize,
    silence: Silence,
    // The brake has kept everything from being read.
    is_deaf: bool,
    before_login_bytes: u64,
    before_login_bytes_max: u64,
    first_line: Vec<u8>,
}

/// How long nothing may be heard of a peer. The library asks for a sign of life; its own count of what stays unanswered
/// would also run while nothing is read on purpose, and end whoever pauses.
struct Silence {
    max: Duration,
    heard: Instant,
    check: Pin<Box<Sleep>>,
}

impl Silence {
    fn of(max: Duration) -> Self {
        Self { max, heard: Instant::now(), check: Box::pin(tokio::time::sleep(max)) }
    }

    fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Ready when it has lasted too long.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        while self.check.as_mut().poll(cx).is_ready() {
            let left = self.max.saturating_sub(self.heard.elapsed());
            if left.is_zero() {
                let text = format!("nothing was heard of it for {} s", self.max.as_secs());
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            self.check.as_mut().reset(tokio::time::Instant::now() + left);
        }
        Poll::Pending
    }
}

impl Wire {
    const PAUSE: Duration = Duration::from_millis(20);
    const ALLOWANCE_BYTES: usize = 64 * 1024;
    /// RFC 4253, section 4.2: at most 255 characters with line end.
    const FIRST_LINE_BYTES_MAX: usize = 255;

    pub(crate) fn new(
        inner: GuardedStream,
        watch: Arc<Watch>,
        backlog: Arc<Backlog>,
        brake: Brake,
        silence_max: Duration,
        before_login_bytes_max: u64,
    ) -> Self {
        Self {
            inner,
            watch,
            backlog,
            brake,
            pause: None,
            allowance_bytes: 0,
            silence: Silence::of(silence_max),
            is_deaf: false,
            before_login_bytes: 0,
            before_login_bytes_max,
            first_line: Vec::new(),
        }
    }

    /// Whether the socket may be read now; if not, the task is woken when it may.
    fn poll_brake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.backlog.has_room() {
            self.pause = None;
            return Poll::Ready(());
        }
        if self.brake == Brake::Pace && self.allowance_bytes > 0 {
            return Poll::Ready(());
        }
        self.backlog.wake_when_less(cx.waker());
        if self.backlog.has_room() {
            self.pause = None;
            return Poll::Ready(());
        }
        if self.brake == Brake::Stop || self.backlog.is_full() {
            return Poll::Pending;
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(Self::PAUSE)));
        if pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pause = None;
        self.allowance_bytes = Self::ALLOWANCE_BYTES;
        Poll::Ready(())
    }

    fn note_first_line(&mut self, bytes: &[u8]) {
        let room = Self::FIRST_LINE_BYTES_MAX - self.first_line.len();
        self.first_line.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let end = self.first_line.iter().position(|b| *b == b'\n');
        if end.is_none() && self.first_line.len() < Self::FIRST_LINE_BYTES_MAX {
            return;
        }
        let line = std::mem::take(&mut self.first_line);
        let text = String::from_utf8_lossy(&line[..end.unwrap_or(line.len())]).into_owned();
        let text = text.strip_prefix("SSH-2.0-").or_else(|| text.strip_prefix("SSH-1.99-")).unwrap_or("");
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        // Set once: only this wire writes it, and only for its first line.
        let _first = self.watch.software.set(text);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.watch.said_goodbye.cancel();
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.poll_brake(cx).is_pending() {
            this.is_deaf |= this.brake == Brake::Stop || this.backlog.is_full();
            return Poll::Pending;
        }
        if std::mem::take(&mut this.is_deaf) {
            // What it said meanwhile was not listened to.
            this.silence.heard();
        }
        let before = out.filled().len();
        let read = Pin::new(&mut this.inner).poll_read(cx, out);
        if read.is_pending() {
            // Everything there was has been read: the next stretch is paused for again.
            this.allowance_bytes = 0;
            return this.silence.poll(cx).map(Err);
        }
        this.silence.heard();
        let bytes = out.filled().len() - before;
        this.allowance_bytes = this.allowance_bytes.saturating_sub(bytes);
        if this.watch.software.get().is_none() {
            let line = out.filled()[before..].to_vec();
            this.note_first_line(&line);
        }
        if !this.watch.is_logged_in() {
            this.before_login_bytes += bytes as u64;
            if this.before_login_bytes > this.before_login_bytes_max {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("more than {} bytes before login", this.before_login_bytes_max),
                )));
            }
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.inner).poll_write(cx, data);
        this.watch.note_write(written.is_pending());
        written
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = Pin::new(&mut this.inner).poll_shutdown(cx);
        if shut.is_ready() {
            this.watch.said_goodbye.cancel();
        }
        shut
    }
}
