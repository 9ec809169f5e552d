//! The one relay: it moves units from one leg to the other, counts their bytes, and stops when the session ends.
//!
//! Limits are not checked here byte by byte: the reaper compares the counts once a second. A kill does not need the
//! pump's cooperation either; it cuts the sockets, and the pump's future is dropped at its next wake-up.

use crate::egress::{Duct, DynSink, FarSink, FarSource};
use crate::recording::{ChannelTap, Recordings};
use crate::registry::Live;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use ravelin_model::recording::Purpose;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub use ravelin_model::recording::Flow;

/// What a leg sends or takes, whatever its protocol. A plain stream knows [`Unit::Data`] and [`Unit::Eof`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of the stream.
    Data(Bytes),
    /// Bytes of the error stream.
    ErrorData(Bytes),
    /// Nothing more comes this way; the other way may go on.
    Eof,
    /// The terminal has a new size.
    Resize {
        /// Columns of characters.
        columns: u32,
        /// Rows of characters.
        rows: u32,
        /// Width in pixels, 0 when unknown.
        width_px: u32,
        /// Height in pixels, 0 when unknown.
        height_px: u32,
    },
    /// A signal for the program, by its name without `SIG`.
    Signal(String),
    /// The program ended with this status.
    Exit(u32),
    /// The program was ended by a signal.
    ExitSignal {
        /// Name without `SIG`.
        name: String,
        /// Whether a core was dumped.
        core_dumped: bool,
        /// What the far end said about it.
        message: String,
    },
}

/// Where units come from.
pub trait Source: Send {
    /// The next unit; `None` when the leg has closed.
    fn next(&mut self) -> impl Future<Output = Option<Unit>> + Send;
}

/// Where units go. Waiting in `put` is the back-pressure: nothing is buffered between a source and a sink.
pub trait Sink: Send {
    /// Hands one unit over.
    ///
    /// # Errors
    /// [`Broken`] when this leg takes nothing any more.
    fn put(&mut self, unit: Unit) -> impl Future<Output = Result<(), Broken>> + Send;
}

/// A sink whose leg has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Why a pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The source has no more.
    SourceClosed,
    /// The sink takes no more.
    SinkClosed,
    /// The session was asked to end.
    Ended,
}

/// The relay of one session. Cheap to clone: one for each channel and direction.
#[derive(Clone)]
pub struct Relay {
    live: Arc<Live>,
    recordings: Option<Arc<Recordings>>,
}

impl Relay {
    pub(crate) fn new(live: Arc<Live>, recordings: Option<Arc<Recordings>>) -> Self {
        Self { live, recordings }
    }

    /// The relay of one channel, recorded as the target's rule says. To be called before the first unit, and before what
    /// is asked for begins: where the recording cannot begin and must, the session is over when this returns, and the
    /// pumps move nothing.
    pub async fn channel(&self, purpose: Purpose) -> ChannelRelay {
        let tap = ChannelTap::open(&self.live, self.recordings.as_ref(), purpose).await;
        ChannelRelay { relay: self.clone(), tap }
    }

    /// The relay of one channel of which nothing is recorded.
    #[must_use]
    pub fn unrecorded(&self) -> ChannelRelay {
        ChannelRelay { relay: self.clone(), tap: None }
    }

    /// Moves units from `source` to `sink` until one of them closes or the session ends. Cancel-safe in the sense
    /// that dropping it loses at most the unit that is under way.
    pub async fn pump(&self, flow: Flow, source: &mut impl Source, sink: &mut impl Sink) -> Stopped {
        self.pump_by(None, flow, source, sink).await
    }

    async fn pump_by(
        &self,
        tap: Option<&ChannelTap>,
        flow: Flow,
        source: &mut impl Source,
        sink: &mut impl Sink,
    ) -> Stopped {
        let counter = match flow {
            Flow::In => &self.live.bytes_in,
            Flow::Out => &self.live.bytes_out,
        };
        // Pinned here, because a future that is handed on by value takes its room twice, for as long as the channel lasts.
        let moving = pin!(async {
            loop {
                let Some(unit) = source.next().await else { return Stopped::SourceClosed };
                if let Unit::Data(bytes) | Unit::ErrorData(bytes) = &unit {
                    counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                // Before it goes on: what somebody has seen is in the recording.
                if let Some(tap) = tap {
                    note(tap, flow, &unit).await;
                }
                if sink.put(unit).await.is_err() {
                    return Stopped::SinkClosed;
                }
            }
        });
        let stopped = self.live.ended.run_until_cancelled(moving).await.unwrap_or(Stopped::Ended);
        // INVARIANT: the end of a session is known before its legs are cut, so what closed by that cut is not taken for
        // the cause of the end.
        if self.live.ended.is_cancelled() { Stopped::Ended } else { stopped }
    }

    /// Both directions of one channel at once; returns when both have stopped.
    pub async fn join(
        &self,
        client: (&mut impl Source, &mut impl Sink),
        target: (&mut impl Source, &mut impl Sink),
    ) -> (Stopped, Stopped) {
        let (from_client, to_client) = client;
        let (from_target, to_target) = target;
        tokio::join!(self.pump(Flow::In, from_client, to_target), self.pump(Flow::Out, from_target, to_client))
    }
}

/// The relay of one channel. Dropping it closes the channel in the recording.
pub struct ChannelRelay {
    relay: Relay,
    tap: Option<ChannelTap>,
}

impl ChannelRelay {
    /// As [`Relay::pump`].
    pub async fn pump(&self, flow: Flow, source: &mut impl Source, sink: &mut impl Sink) -> Stopped {
        self.relay.pump_by(self.tap.as_ref(), flow, source, sink).await
    }

    /// Whether the session was asked to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.relay.live.ended.is_cancelled()
    }
}

impl ChannelRelay {
    /// The same duct, with everything that passes through it noted.
    pub(crate) fn through(self, duct: Duct) -> Duct {
        let Some(tap) = self.tap.map(Arc::new) else { return duct };
        let source = NotedSource { inner: duct.source, tap: Arc::clone(&tap), held: None };
        Duct { source: FarSource::new(source), sink: FarSink::new(NotedSink { inner: duct.sink, tap }) }
    }
}

struct NotedSource {
    inner: FarSource,
    tap: Arc<ChannelTap>,
    // Taken and not given out yet: whoever stops waiting for it loses nothing.
    held: Option<Unit>,
}

impl Source for NotedSource {
    async fn next(&mut self) -> Option<Unit> {
        if self.held.is_none() {
            self.held = Some(self.inner.next().await?);
        }
        if let Some(unit) = &self.held {
            note(&self.tap, Flow::Out, unit).await;
        }
        self.held.take()
    }
}

struct NotedSink {
    inner: FarSink,
    tap: Arc<ChannelTap>,
}

#[async_trait]
impl DynSink for NotedSink {
    async fn put_unit(&mut self, unit: Unit) -> Result<(), Broken> {
        note(&self.tap, Flow::In, &unit).await;
        self.inner.put(unit).await
    }

    async fn close(&mut self) {
        self.inner.close_now().await;
    }
}

async fn note(tap: &ChannelTap, flow: Flow, unit: &Unit) {
    match unit {
        // A terminal has one stream; without one, the error stream's bytes count like the others.
        Unit::Data(bytes) | Unit::ErrorData(bytes) => tap.data(flow, bytes).await,
        Unit::Resize { columns, rows, .. } => tap.resized(*columns, *rows).await,
        Unit::Exit(status) => tap.exited(status.to_string()).await,
        Unit::ExitSignal { name, .. } => tap.exited(format!("signal {name}")).await,
        Unit::Eof | Unit::Signal(_) => {}
    }
}

/// A byte stream as a source.
pub struct ReadSource<R> {
    reader: R,
    buffer: BytesMut,
    at_end: bool,
}

impl<R: AsyncRead + Unpin + Send> ReadSource<R> {
    /// Largest unit that is made of one read.
    pub const UNIT_BYTES: usize = 32 * 1024;

    /// A source of what `reader` gives.
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: BytesMut::new(), at_end: false }
    }
}

impl<R: AsyncRead + Unpin + Send> Source for ReadSource<R> {
    async fn next(&mut self) -> Option<Unit> {
        if self.at_end {
            return None;
        }
        self.buffer.reserve(Self::UNIT_BYTES);
        match self.reader.read_buf(&mut self.buffer).await {
            Ok(0) => {
                self.at_end = true;
                Some(Unit::Eof)
            }
            Ok(_) => Some(Unit::Data(self.buffer.split().freeze())),
            Err(error) => {
                tracing::debug!(%error, "a stream broke while reading");
                None
            }
        }
    }
}

/// A byte stream as a sink. Units that a plain stream has no form for are dropped.
pub struct WriteSink<W> {
    writer: W,
}

impl<W: AsyncWrite + Unpin + Send> WriteSink<W> {
    /// A sink that writes to `writer`.
    pub fn new(writer: W) -> Self {
        Self { writer }
    }
}

impl<W: AsyncWrite + Unpin + Send> Sink for WriteSink<W> {
    async fn put(&mut self, unit: Unit) -> Result<(), Broken> {
        let outcome: io::Result<()> = match unit {
            Unit::Data(bytes) => self.writer.write_all(&bytes).await,
            Unit::Eof => self.writer.shutdown().await,
            Unit::ErrorData(_) | Unit::Resize { .. } | Unit::Signal(_) | Unit::Exit(_) | Unit::ExitSignal { .. } => {
                Ok(())
            }
        };
        outcome.map_err(|error| {
            tracing::debug!(%error, "a stream broke while writing");
            Broken
        })
    }
}
