//! Time under a test's hand: it stands still but for [`Clock::pass`], while sockets and threads work as ever.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Tokio's clock, stopped until this is dropped.
pub(crate) struct Clock {
    _holds: mpsc::SyncSender<()>,
}

impl Clock {
    /// Stops it. Needs a runtime of one thread.
    pub(crate) fn stop() -> Self {
        tokio::time::pause();
        let (holds, held) = mpsc::sync_channel(0);
        // A stopped clock leaps ahead when every task waits, unless something blocks.
        tokio::task::spawn_blocking(move || held.recv().ok());
        Self { _holds: holds }
    }

    pub(crate) async fn pass(&self, time: Duration) {
        tokio::time::advance(time).await;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        tokio::time::resume();
    }
}

/// Lets everybody else work until something is so. It may not take longer than a minute of the wall's clock.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} did not come");
        tokio::task::yield_now().await;
    }
}

/// Lets everybody else work for so long by the wall's clock.
pub(crate) async fn work(time: Duration) {
    let begun = Instant::now();
    until("the wall's clock", || begun.elapsed() >= time).await;
}
