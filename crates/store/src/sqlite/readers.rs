//! A few read-only connections, used in parallel off the runtime's workers.
//!
//! A reader sees the state of the last commit before it began and never waits for the writer.

use super::refusal::unavailable;
use ravelin_model::Refusal;
use rusqlite::Connection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// The pool. Callers beyond its size wait their turn, in order.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self { turns: Arc::new(Semaphore::new(connections.len())), idle: Arc::new(Mutex::new(connections)) }
    }

    /// Runs `read` within one snapshot. When the caller goes away the read is finished all the same, and its result
    /// dropped.
    pub(super) async fn read<T, F>(&self, read: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Refusal> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(unavailable)?;
        let idle = Arc::clone(&self.idle);
        let task = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let lent = Lent::take(&idle)?;
            let snapshot = lent.connection()?.unchecked_transaction().map_err(super::refusal::from_sqlite)?;
            let found = read(&snapshot)?;
            snapshot.finish().map_err(super::refusal::from_sqlite)?;
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

    fn connection(&self) -> Result<&Connection, Refusal> {
        // INVARIANT: there are as many turns as connections, so whoever has a turn finds one.
        self.connection.as_ref().ok_or_else(|| Refusal::internal("a reader had a turn but found no connection"))
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
        let readers = Readers::new(vec![Connection::open_in_memory().expect("SQLite opens in memory")]);
        for _ in 0..3 {
            let died = readers.read::<(), _>(|_| panic!("on purpose")).await;
            assert!(matches!(died, Err(Refusal::Internal { .. })), "{died:?}");
        }
        let one = readers.read(|connection| {
            connection.query_row("SELECT 1", [], |row| row.get::<_, i64>(0)).map_err(super::super::refusal::from_sqlite)
        });
        assert_eq!(one.await, Ok(1));
    }
}
