//! A few read-only connections, used in parallel off the runtime's workers.
//!
//! A reader sees the state of the last commit before it began and never waits for the writer. A read that takes too long
//! is stopped, so that a question which costs more than it should never takes a connection from the others for good.

use super::refusal::{from_sqlite, unavailable};
use ravelin_model::Refusal;
use rusqlite::Connection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How long one read may take. Below what callers wait, so that they hear of it from here.
pub(super) const READ_MAX: Duration = Duration::from_secs(8);
/// SQLite's own steps between two looks at the time; some tens of microseconds.
const STEPS_PER_LOOK: i32 = 10_000;

/// The pool. Callers beyond its size wait their turn, in order.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
    read_max: Duration,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>, read_max: Duration) -> Self {
        let turns = Arc::new(Semaphore::new(connections.len()));
        Self { turns, idle: Arc::new(Mutex::new(connections)), read_max }
    }

    /// Runs `read` within one snapshot. When the caller goes away the read is finished all the same, and its result
    /// dropped.
    ///
    /// # Errors
    /// What `read` refuses; [`Refusal::Unavailable`] when it takes longer than a read may.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(unavailable)?;
        let (idle, read_max) = (Arc::clone(&self.idle), self.read_max);
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let mut lent = Lent::take(&idle)?;
            let connection = lent.connection()?;
            let end = Instant::now() + read_max;
            connection.progress_handler(STEPS_PER_LOOK, Some(move || Instant::now() >= end)).map_err(from_sqlite)?;
            let snapshot = connection.unchecked_transaction().map_err(from_sqlite)?;
            let found = read(&snapshot)?;
            snapshot.finish().map_err(from_sqlite)?;
            Ok(found)
        });
        task.await.map_err(|died| Refusal::internal(format!("a read of the store died: {died}")))?
    }
}

/// A connection that goes back to the pool whatever happens, a panic included.
struct Lent<'a> {
    connection: Option<Connection>,
    idle: &'a Mutex<Vec<Connection>>,
}

impl<'a> Lent<'a> {
    fn take(idle: &'a Mutex<Vec<Connection>>) -> Result<Self, Refusal> {
        Ok(Self { connection: lock(idle).pop(), idle })
    }

    fn connection(&mut self) -> Result<&mut Connection, Refusal> {
        // INVARIANT: there are as many turns as connections, so whoever has a turn finds one.
        self.connection.as_mut().ok_or_else(|| Refusal::internal("a reader had a turn but found no connection"))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            lock(self.idle).push(connection);
        }
    }
}

/// A panic cannot leave the list half-changed: it is only pushed to and popped from.
fn lock(idle: &Mutex<Vec<Connection>>) -> MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_read_and_no_connection() {
        let readers = one(READ_MAX);
        for _ in 0..3 {
            let died = readers.read::<(), _>(|_| panic!("on purpose")).await;
            assert!(matches!(died, Err(Refusal::Internal { .. })), "{died:?}");
        }
        assert_eq!(number(&readers, "SELECT 1").await, Ok(1));
    }

    #[tokio::test]
    async fn a_read_without_end_is_stopped_and_costs_no_connection() {
        let readers = one(Duration::from_millis(100));
        let endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
        for _ in 0..3 {
            let stopped = number(&readers, endless).await;
            assert!(matches!(stopped, Err(Refusal::Unavailable { .. })), "{stopped:?}");
            assert_eq!(number(&readers, "SELECT 1").await, Ok(1));
        }
    }

    fn one(read_max: Duration) -> Readers {
        Readers::new(vec![Connection::open_in_memory().expect("SQLite opens in memory")], read_max)
    }

    async fn number(readers: &Readers, sql: &'static str) -> Result<i64, Refusal> {
        readers.read(move |connection| connection.query_row(sql, [], |row| row.get(0)).map_err(from_sqlite)).await
    }
}
