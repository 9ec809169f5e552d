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
//!
//! The window the library grants is one number for all channels of a connection, used for whichever packet comes
//! next. A channel that keeps up beside one that does not must therefore get its window in a moment when no packet
//! of the other can arrive, and [`Backlog::next_window`] is about finding that moment.
//!
//! This module must not know what a channel is used for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

/// How often a channel that keeps up was granted next to nothing before it is known to have more to send. Once may
/// have been the last of its data.
const STARVED: u32 = 2;
/// And how often before it gets a window without waiting for the right moment, which only a channel which is behind
/// and still sends can give.
const STARVED_LONG: u32 = 10;

/// The bytes that wait for each channel's program, on one connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    accounts: Mutex<HashMap<ChannelId, Account>>,
}

#[derive(Debug, Default)]
struct Account {
    /// Bytes in the queue. Consumers count down before the reader of the connection counts up, so that it may be
    /// negative for a moment.
    waiting: Arc<AtomicI64>,
    /// How often in a row this channel kept up and was granted next to nothing.
    starved: u32,
}

impl Account {
    fn is_behind(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > BACKLOG_MAX
    }
}

impl Backlog {
    /// Opens the account of a channel. To be called before its first data can arrive; data for a channel without an
    /// account is thrown away by the library and counts nothing.
    pub(crate) fn inlet(self: &Arc<Self>, id: ChannelId, from: ChannelReadHalf) -> Inlet {
        let account = Account::default();
        let waiting = account.waiting.clone();
        self.lock().insert(id, account);
        Inlet { from, taken: 0, waiting, backlog: self.clone(), id }
    }

    /// Counts what arrived; tells whether the sender should be held back before the next packet is read.
    pub(crate) fn arrived(&self, id: ChannelId, bytes: usize) -> bool {
        let accounts = self.lock();
        let Some(account) = accounts.get(&id) else { return false };
        let bytes = as_count(bytes);
        account.waiting.fetch_add(bytes, Ordering::Relaxed);
        bytes <= i64::from(WINDOW_BYTES_BEHIND) && account.is_behind()
    }

    /// The window to grant for the next packet, after `id` has been granted `current`.
    pub(crate) fn next_window(&self, id: ChannelId, current: u32) -> u32 {
        let mut accounts = self.lock();
        let anyone_is_behind = accounts.values().any(Account::is_behind);
        let anyone_starves = accounts.values().any(|account| account.starved >= STARVED);
        let Some(account) = accounts.get_mut(&id) else { return current };
        if current != WINDOW_BYTES_BEHIND {
            account.starved = 0;
            return if anyone_is_behind { WINDOW_BYTES_BEHIND } else { WINDOW_BYTES };
        }
        if !anyone_is_behind {
            return WINDOW_BYTES;
        }
        let is_the_moment = if account.is_behind() {
            // The moment: what was granted here is not sent before `PAUSE_BEHIND` is over, so that the next packet is
            // one which a starving channel has sent already.
            anyone_starves
        } else {
            account.starved += 1;
            account.starved >= STARVED_LONG
        };
        if is_the_moment { WINDOW_BYTES } else { WINDOW_BYTES_BEHIND }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelId, Account>> {
        // A map of counters is whole after any panic.
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    use russh::keys::ssh_encoding::Decode as _;

    use super::*;

    fn channel(number: u32) -> ChannelId {
        ChannelId::decode(&mut &number.to_be_bytes()[..]).expect("a channel is a number")
    }

    fn backlog(waiting: &[i64]) -> Backlog {
        let backlog = Backlog::default();
        for (number, waiting) in (0..).zip(waiting) {
            let account = Account { waiting: Arc::new(AtomicI64::new(*waiting)), starved: 0 };
            backlog.lock().insert(channel(number), account);
        }
        backlog
    }

    const STUCK: i64 = BACKLOG_MAX + 1;

    #[test]
    fn channels_that_keep_up_get_whole_windows() {
        let backlog = backlog(&[0, BACKLOG_MAX]);
        assert_eq!(backlog.next_window(channel(0), WINDOW_BYTES), WINDOW_BYTES);
        assert_eq!(backlog.next_window(channel(1), WINDOW_BYTES), WINDOW_BYTES);
    }

    #[test]
    fn a_stuck_channel_gets_next_to_nothing_until_it_moves() {
        let backlog = backlog(&[STUCK]);
        assert_eq!(backlog.next_window(channel(0), WINDOW_BYTES), WINDOW_BYTES_BEHIND);
        for _ in 0..100 {
            assert_eq!(backlog.next_window(channel(0), WINDOW_BYTES_BEHIND), WINDOW_BYTES_BEHIND);
            assert!(backlog.arrived(channel(0), 2), "its sender is held back");
        }
        backlog.lock()[&channel(0)].waiting.store(0, Ordering::Relaxed);
        assert_eq!(backlog.next_window(channel(0), WINDOW_BYTES_BEHIND), WINDOW_BYTES);
        assert!(!backlog.arrived(channel(0), 2));
    }

    #[test]
    fn a_channel_beside_a_stuck_one_gets_its_window_when_the_stuck_one_pauses() {
        let backlog = backlog(&[STUCK, 0]);
        let (stuck, other) = (channel(0), channel(1));
        assert_eq!(backlog.next_window(stuck, WINDOW_BYTES), WINDOW_BYTES_BEHIND);
        for _ in 0..STARVED {
            assert_eq!(backlog.next_window(other, WINDOW_BYTES_BEHIND), WINDOW_BYTES_BEHIND);
        }
        assert_eq!(backlog.next_window(stuck, WINDOW_BYTES_BEHIND), WINDOW_BYTES, "for the packet after the pause");
        assert_eq!(backlog.next_window(other, WINDOW_BYTES), WINDOW_BYTES_BEHIND, "it has its window");
        assert_eq!(backlog.next_window(stuck, WINDOW_BYTES_BEHIND), WINDOW_BYTES_BEHIND);
    }

    #[test]
    fn a_channel_beside_a_stuck_and_silent_one_does_not_wait_for_ever() {
        let backlog = backlog(&[STUCK, 0]);
        let granted = (0..STARVED_LONG).map(|_| backlog.next_window(channel(1), WINDOW_BYTES_BEHIND)).last();
        assert_eq!(granted, Some(WINDOW_BYTES));
    }
}
