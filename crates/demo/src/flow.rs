//! Flow control towards programs which do not read.
//!
//! The SSH library grants the client new window as soon as data arrives, not when it is used, and it waits for room
//! in a channel's queue before it reads the next packet of the connection. Left alone, a program that does not read
//! its input would stop every channel of its connection, and with them the window adjustments that would let it go
//! on: `cat` in front of a slow reader would hang for ever.
//!
//! So the queue is long, [`Backlog`] counts the bytes in it, and when a channel falls behind by more than
//! [`BACKLOG_MAX`] the connection stops granting window: the library accepts any window above zero, and
//! [`WINDOW_BYTES_BEHIND`] is the least it can be told. The client then sends that little, is answered with as
//! little, and [`PAUSE_BEHIND`] sets the pace of the exchange until the program has caught up.
//! The window the library grants is one number for all channels of a connection; [`next_window`] is where that is
//! dealt with.
//!
//! This module must not know what a channel is used for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf};

/// Window granted to a channel whose program keeps up, in bytes.
pub(crate) const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Window granted while a program is behind. Half of it is one, and the library grants more when less than half is
/// left, so that it grants nothing before the client has used up all it had.
const WINDOW_BYTES_BEHIND: u32 = 2;
/// A program is behind when more bytes than this wait for it.
const BACKLOG_MAX: i64 = 4 * 1024 * 1024;
/// How long a packet which used up a window of [`WINDOW_BYTES_BEHIND`] holds the next one back.
pub(crate) const PAUSE_BEHIND: Duration = Duration::from_millis(5);

/// The bytes that wait for each channel's program, on one connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    waiting: Mutex<HashMap<ChannelId, Arc<AtomicI64>>>,
}

impl Backlog {
    /// Opens the account of a channel. To be called before its first data can arrive; data for a channel without an
    /// account is thrown away by the library and counts nothing.
    pub(crate) fn inlet(self: &Arc<Self>, id: ChannelId, from: ChannelReadHalf) -> Inlet {
        let waiting = Arc::new(AtomicI64::new(0));
        self.lock().insert(id, waiting.clone());
        Inlet { from, taken: 0, waiting, backlog: self.clone(), id }
    }

    /// Counts what arrived; tells whether the sender should be held back before the next packet is read.
    pub(crate) fn arrived(&self, id: ChannelId, bytes: usize) -> bool {
        let Some(waiting) = self.lock().get(&id).cloned() else { return false };
        let bytes = as_count(bytes);
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        bytes <= i64::from(WINDOW_BYTES_BEHIND) && before > BACKLOG_MAX
    }

    /// The window to grant from now on, after `id` has been granted `current`.
    pub(crate) fn next_window(&self, id: ChannelId, current: u32) -> u32 {
        let waiting = self.lock();
        let is_behind = |waiting: &Arc<AtomicI64>| waiting.load(Ordering::Relaxed) > BACKLOG_MAX;
        if waiting.get(&id).is_some_and(is_behind) {
            WINDOW_BYTES_BEHIND
        } else if current == WINDOW_BYTES_BEHIND {
            // This channel keeps up and was granted too little on another one's account: its next packet, which is
            // tiny and comes at once, gets it a whole window, and then this is asked again.
            WINDOW_BYTES
        } else if waiting.values().any(is_behind) {
            WINDOW_BYTES_BEHIND
        } else {
            WINDOW_BYTES
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ChannelId, Arc<AtomicI64>>> {
        // A map of counters is whole after any panic.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes out of a channel.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Bytes of the peer.
    Data(Bytes),
    /// The peer will send no more.
    Eof,
    /// The channel is gone in both directions.
    Closed,
}

/// The receiving side of a channel, with its account. Data counts as waiting until the next call of [`Inlet::next`],
/// by which it has been used.
#[derive(Debug)]
pub(crate) struct Inlet {
    from: ChannelReadHalf,
    taken: i64,
    waiting: Arc<AtomicI64>,
    backlog: Arc<Backlog>,
    id: ChannelId,
}

impl Inlet {
    /// The next event. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self) -> Incoming {
        self.waiting.fetch_sub(std::mem::take(&mut self.taken), Ordering::Relaxed);
        loop {
            match self.from.wait().await {
                // Extended data has no meaning from a client (RFC 4254, section 5.2): it is used up by ignoring it.
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    self.waiting.fetch_sub(as_count(data.len()), Ordering::Relaxed);
                }
                Some(ChannelMsg::Data { data }) => {
                    self.taken = as_count(data.len());
                    return Incoming::Data(data);
                }
                Some(ChannelMsg::Eof) => return Incoming::Eof,
                Some(ChannelMsg::Close) | None => return Incoming::Closed,
                // Requests reach us twice; the connection answers them.
                Some(_) => {}
            }
        }
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.backlog.lock().remove(&self.id);
    }
}

fn as_count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
