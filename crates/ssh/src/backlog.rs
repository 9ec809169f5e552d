//! What was received and is not yet passed on, and the brakes that keep it small.
//!
//! The SSH library grants a peer new window as soon as data arrives, not when it was passed on, and its loop must never
//! wait for a slow reader: while it waits it neither writes nor hears a window adjustment, and two such loops joined
//! back to back can wait for each other for ever. So its queues are made deep enough never to fill, and what bounds them
//! is here: every received byte is counted until it is passed on, and the count works two brakes.
//!
//! - [`Backlog::window`] shrinks what the next grant gives, down to a trickle. Only the server half of the library
//!   listens to it.
//! - [`Backlog::has_room`] says whether the socket may be read at all; see [`crate::wire`].

use futures_util::task::AtomicWaker;
use russh::ChannelId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use tokio_util::sync::CancellationToken;

/// The receive window of a channel while nothing is held up, in bytes. Measured best on short paths; large enough for
/// 20 MB/s at 100 ms.
pub(crate) const WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// The window while too much is held up: little enough to be nothing, and enough to be noticed when it is used.
const TRICKLE_BYTES: u32 = 8;

/// How many messages of a channel the library's queue holds: more than can ever be in it, see the module's text.
pub(crate) const QUEUE_MESSAGES: usize = 1 << 20;

/// What a message counts as beside the texts in it, in bytes.
pub(crate) const MESSAGE_BYTES: usize = 256;

/// The counts of one connection.
pub(crate) struct Backlog {
    pause_bytes: i64,
    total: AtomicI64,
    channels: Mutex<HashMap<ChannelId, Held>>,
    reader: AtomicWaker,
}

#[derive(Default)]
struct Held {
    bytes: i64,
    // Nobody passes on what still comes for this channel, so it is not counted.
    closed: bool,
    // The far end has closed the channel, whatever of it still waits to be passed on.
    left: CancellationToken,
}

impl Backlog {
    /// More than this is too much even for a peer that keeps to its windows; nothing is read until it is less.
    const STOP_BYTES: i64 = 16 * 1024 * 1024;

    /// Reading is slowed down above `pause_bytes`.
    pub(crate) fn new(pause_bytes: u32) -> Arc<Self> {
        Arc::new(Self {
            pause_bytes: i64::from(pause_bytes),
            total: AtomicI64::new(0),
            channels: Mutex::default(),
            reader: AtomicWaker::new(),
        })
    }

    /// Bytes that have come for a channel. They may be passed on before this is called; a count below zero says so.
    pub(crate) fn received(&self, channel: ChannelId, bytes: usize) {
        let mut channels = self.channels();
        let held = channels.entry(channel).or_default();
        if !held.closed {
            held.bytes += bytes as i64;
            self.total.fetch_add(bytes as i64, Ordering::Relaxed);
        }
    }

    /// Bytes of a channel that were passed on.
    pub(crate) fn passed_on(&self, channel: ChannelId, bytes: usize) {
        {
            let mut channels = self.channels();
            let held = channels.entry(channel).or_default();
            if held.closed {
                return;
            }
            held.bytes -= bytes as i64;
            self.total.fetch_sub(bytes as i64, Ordering::Relaxed);
        }
        self.wake_reader();
    }

    /// Nothing of this channel will be passed on any more.
    pub(crate) fn close(&self, channel: ChannelId) {
        {
            let mut channels = self.channels();
            let held = channels.entry(channel).or_default();
            let left = std::mem::take(&mut held.bytes);
            held.closed = true;
            self.total.fetch_sub(left, Ordering::Relaxed);
        }
        self.wake_reader();
    }

    /// The far end has closed this channel.
    pub(crate) fn leave(&self, channel: ChannelId) {
        if let Some(held) = self.channels().get(&channel) {
            held.left.cancel();
        }
    }

    /// Cancelled when the far end has closed this channel.
    pub(crate) fn left(&self, channel: ChannelId) -> CancellationToken {
        self.channels().entry(channel).or_default().left.clone()
    }

    /// The window that a channel is to have now.
    pub(crate) fn window(&self) -> u32 {
        // From the full window when nothing is held up, in a straight line, to the trickle at the pause mark.
        let total = self.total.load(Ordering::Relaxed).clamp(0, self.pause_bytes);
        let share = (self.pause_bytes - total) as f64 / self.pause_bytes as f64;
        ((f64::from(WINDOW_BYTES) * share) as u32).max(TRICKLE_BYTES)
    }

    /// Whether reading may go on without a brake.
    pub(crate) fn has_room(&self) -> bool {
        self.total.load(Ordering::Relaxed) <= self.pause_bytes
    }

    /// Whether not even a slow reader may read.
    pub(crate) fn is_full(&self) -> bool {
        self.total.load(Ordering::Relaxed) > Self::STOP_BYTES
    }

    /// Wakes `waker` once when something is passed on. To be called before [`Backlog::has_room`] is asked for the last
    /// time.
    pub(crate) fn wake_when_less(&self, waker: &Waker) {
        self.reader.register(waker);
    }

    fn wake_reader(&self) {
        // A reader that is not braked has registered nothing, so this is one atomic load.
        if self.has_room() {
            self.reader.wake();
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<ChannelId, Held>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn total(&self) -> i64 {
        self.total.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use russh::keys::ssh_encoding::Decode;

    fn channel(number: u32) -> ChannelId {
        let bytes = number.to_be_bytes();
        ChannelId::decode(&mut bytes.as_slice()).expect("four bytes are a channel's number")
    }

    #[test]
    fn what_is_passed_on_is_forgotten() {
        let backlog = Backlog::new(1000);
        backlog.received(channel(1), 600);
        backlog.received(channel(2), 600);
        assert!(!backlog.has_room());
        backlog.passed_on(channel(1), 600);
        assert!(backlog.has_room());
        backlog.close(channel(2));
        assert_eq!(backlog.total(), 0);
        backlog.received(channel(2), 600);
        backlog.passed_on(channel(2), 100);
        assert_eq!(backlog.total(), 0, "a closed channel counts nothing");
    }

    #[test]
    fn the_window_shrinks_to_a_trickle() {
        let backlog = Backlog::new(1000);
        assert_eq!(backlog.window(), WINDOW_BYTES);
        backlog.received(channel(1), 500);
        assert_eq!(backlog.window(), WINDOW_BYTES / 2);
        backlog.received(channel(1), 5000);
        assert_eq!(backlog.window(), TRICKLE_BYTES);
        // The library grants below half of the window: at a trickle still something, but only when nothing is left.
        const { assert!(TRICKLE_BYTES / 2 > 0) };
    }

    #[test]
    fn passing_on_may_be_faster_than_counting() {
        let backlog = Backlog::new(1000);
        backlog.passed_on(channel(1), 600);
        assert_eq!(backlog.window(), WINDOW_BYTES);
        backlog.received(channel(1), 600);
        assert_eq!(backlog.total(), 0);
    }
}
