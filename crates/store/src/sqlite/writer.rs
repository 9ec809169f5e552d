//! The one thread that writes, and group commit.
//!
//! The thread takes whatever is queued, runs each command inside a savepoint of one transaction, commits once and then
//! answers all of them. So a hundred callers share one wait for the disk, and one command's failure undoes nothing but
//! its own work. An answer is given only after the commit: whoever has one can rely on it.

use super::clock::Clock;
use super::ledger;
use super::refusal::{from_sqlite, unavailable};
use super::write;
use ravelin_model::Refusal;
use ravelin_model::ledger::LedgerKey;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::{mpsc, oneshot, watch};

/// Commands that may wait; callers beyond it wait for room.
const QUEUE_COMMANDS_MAX: usize = 1024;
/// Commands that share one commit. Bounds how long the first of them waits for the others.
const BATCH_COMMANDS_MAX: usize = 256;

/// Handle on the writing thread. Dropping it lets the thread finish what is queued, and waits for that.
#[derive(Debug)]
pub(super) struct Writer {
    /// `None` only while dropping: closing the queue is what ends the thread.
    queue: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// What a command may use.
pub(super) struct Write<'a> {
    pub(super) tx: &'a Transaction<'a>,
    pub(super) clock: &'a Clock,
    /// Signs checkpoints and cuts, where there is one.
    pub(super) key: Option<&'a LedgerKey>,
}

/// Does the work and says how it went; the answer is kept until the commit. Without a transaction it does nothing and
/// only yields its answer, for the refusal of the whole batch.
type Command = Box<dyn FnOnce(Option<&Write<'_>>) -> Outcome + Send>;

struct Outcome {
    is_done: bool,
    answer: Answer,
}

/// Tells the caller: the command's own result when given `Ok`, otherwise why nothing of it was kept.
type Answer = Box<dyn FnOnce(Result<(), Refusal>)>;

impl Writer {
    /// Starts the thread. `newest` is told the highest event number after each commit that raised it; `key` signs.
    pub(super) fn start(
        connection: Connection,
        clock: Arc<Clock>,
        newest: watch::Sender<u64>,
        key: Option<Arc<LedgerKey>>,
    ) -> io::Result<Self> {
        let (queue, commands) = mpsc::channel(QUEUE_COMMANDS_MAX);
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || run(connection, commands, &clock, &newest, key.as_deref()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Runs `command` in the next transaction; returns after the commit. A caller that goes away while it waits for
    /// room has written nothing; later, the command takes effect as a whole and its result is dropped.
    pub(super) async fn write<T, F>(&self, command: F) -> Result<T, Refusal>
    where
        T: Send + 'static,
        F: FnOnce(&Write<'_>) -> Result<T, Refusal> + Send + 'static,
    {
        let stopped = || unavailable("the writing thread has stopped");
        let (reply, replied) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or_else(stopped)?;
        queue.send(boxed(command, reply)).await.map_err(|_| stopped())?;
        replied.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's writing thread ended by a panic");
        }
    }
}

fn boxed<T, F>(command: F, reply: oneshot::Sender<Result<T, Refusal>>) -> Command
where
    T: Send + 'static,
    F: FnOnce(&Write<'_>) -> Result<T, Refusal> + Send + 'static,
{
    Box::new(move |write| {
        let result = match write {
            None => Err(unavailable("the transaction failed before this write")),
            // A panic is rolled back with its savepoint, which is all the state that a command shares with others.
            Some(write) => catch_unwind(AssertUnwindSafe(|| command(write))).unwrap_or_else(|panic| {
                Err(Refusal::internal(format!("a write panicked: {}", panic_text(panic.as_ref()))))
            }),
        };
        let is_done = result.is_ok();
        let answer: Answer = Box::new(move |kept| {
            // The caller may be gone; what was written stands all the same, as the port promises.
            drop(reply.send(kept.and(result)));
        });
        Outcome { is_done, answer }
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

fn run(
    mut connection: Connection,
    mut commands: mpsc::Receiver<Command>,
    clock: &Clock,
    newest: &watch::Sender<u64>,
    key: Option<&LedgerKey>,
) {
    let mut batch = Vec::with_capacity(BATCH_COMMANDS_MAX);
    while let Some(first) = commands.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH_COMMANDS_MAX
            && let Ok(next) = commands.try_recv()
        {
            batch.push(next);
        }
        let mut answers = Vec::with_capacity(batch.len());
        let kept = commit(&mut connection, batch.drain(..), clock, newest, key, &mut answers);
        if let Err(refusal) = &kept {
            tracing::error!(detail = ?refusal.detail(), commands = answers.len(), "the store could not commit");
        }
        for answer in answers {
            answer(kept.clone());
        }
    }
}

/// Runs all commands in one transaction. On error nothing of any of them was kept; `answers` holds one answer per
/// command in either case.
fn commit(
    connection: &mut Connection,
    batch: impl Iterator<Item = Command>,
    clock: &Clock,
    newest: &watch::Sender<u64>,
    key: Option<&LedgerKey>,
    answers: &mut Vec<Answer>,
) -> Result<(), Refusal> {
    let started = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let tx = match started {
        Ok(tx) => tx,
        Err(error) => {
            answers.extend(batch.map(refused));
            return Err(from_sqlite(error));
        }
    };
    let mut failed = None;
    for command in batch {
        if failed.is_some() {
            answers.push(refused(command));
            continue;
        }
        match in_savepoint(&tx, &Write { tx: &tx, clock, key }, command) {
            Ok(answer) => answers.push(answer),
            Err((answer, refusal)) => {
                answers.push(answer);
                failed = Some(refusal);
            }
        }
    }
    if let Some(refusal) = failed {
        return Err(refusal);
    }
    if let Some(key) = key {
        ledger::checkpoint_if_due(&tx, key, clock.now()).map_err(from_sqlite)?;
    }
    let reached = write::newest_event(&tx)?;
    tx.commit().map_err(from_sqlite)?;
    newest.send_if_modified(|known| {
        let is_news = reached > *known;
        *known = reached.max(*known);
        is_news
    });
    Ok(())
}

/// The error is for the whole batch: SQLite answers some failures (a full disk, an I/O error) by ending the
/// transaction itself, and then the work of earlier commands is gone too.
fn in_savepoint(tx: &Transaction<'_>, write: &Write<'_>, command: Command) -> Result<Answer, (Answer, Refusal)> {
    if let Err(error) = run_cached(tx, "SAVEPOINT command") {
        return Err((refused(command), from_sqlite(error)));
    }
    let Outcome { is_done, answer } = command(Some(write));
    if tx.is_autocommit() {
        return Err((answer, unavailable("a failure ended the whole transaction")));
    }
    let closed = if is_done {
        run_cached(tx, "RELEASE command")
    } else {
        run_cached(tx, "ROLLBACK TO command").and_then(|()| run_cached(tx, "RELEASE command"))
    };
    match closed {
        Ok(()) => Ok(answer),
        Err(error) => Err((answer, from_sqlite(error))),
    }
}

/// The answer of a command that is not run.
fn refused(command: Command) -> Answer {
    command(None).answer
}

fn run_cached(tx: &Transaction<'_>, sql: &str) -> rusqlite::Result<()> {
    tx.prepare_cached(sql)?.execute([]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::super::SqliteConfig;
    use super::super::file::{self, Durability};
    use super::*;
    use ravelin_model::audit::{AuditKind, Deed};
    use ravelin_model::session::Actor;
    use std::collections::BTreeMap;
    use std::pin::Pin;
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::task::{Context, Waker};

    struct Bench {
        writer: Writer,
        outside: Connection,
        newest: watch::Receiver<u64>,
        _directory: tempfile::TempDir,
    }

    fn bench() -> Bench {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = SqliteConfig::new(directory.path().join("store.db"));
        config.readers = 1;
        let mut opened = file::open(&config, Durability::None).expect("a new store opens");
        let (sender, newest) = watch::channel(0);
        let clock = Arc::new(Clock::after(opened.latest));
        let writer = Writer::start(opened.writing, clock, sender, None).expect("a thread starts");
        let outside = opened.reading.pop().expect("one reader was asked for");
        Bench { writer, outside, newest, _directory: directory }
    }

    fn record(write: &Write<'_>) -> Result<u64, Refusal> {
        let facts = BTreeMap::new();
        let deed = Deed { kind: AuditKind::InventoryLoaded, actor: Actor::System, session: None, facts };
        ledger::append(write.tx, &deed, write.clock.now()).map_err(from_sqlite)
    }

    fn count(connection: &Connection) -> i64 {
        connection.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).expect("the store answers")
    }

    /// Keeps the thread busy with a write of its own; what is written meanwhile waits for `Held::let_go`.
    struct Held<'a> {
        write: Pin<Box<dyn Future<Output = Result<u64, Refusal>> + 'a>>,
        go: SyncSender<()>,
    }

    fn hold(writer: &Writer) -> Held<'_> {
        let (go, wait) = sync_channel(1);
        let (running, is_running) = sync_channel(1);
        let mut write = Box::pin(writer.write(move |write| {
            running.send(()).expect("the test waits for it");
            wait.recv().expect("the test says when");
            record(write)
        }));
        queue(&mut write);
        is_running.recv().expect("the command runs");
        Held { write, go }
    }

    impl Held<'_> {
        async fn let_go(self) -> Result<u64, Refusal> {
            self.go.send(()).expect("the command waits");
            self.write.await
        }
    }

    /// Polled once, a write stands in the queue.
    fn queue<T>(write: &mut Pin<Box<impl Future<Output = T>>>) {
        assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }

    #[tokio::test]
    async fn what_waits_together_is_committed_together() {
        let bench = bench();
        let held = hold(&bench.writer);
        let mut waiting: Vec<_> = (0..50).map(|_| Box::pin(bench.writer.write(record))).collect();
        let outside = bench.outside;
        let mut last = Box::pin(bench.writer.write(move |write| Ok((count(write.tx), count(&outside)))));
        waiting.iter_mut().for_each(queue);
        queue(&mut last);
        assert_eq!(held.let_go().await, Ok(1));
        assert_eq!(last.await, Ok((51, 1)), "inside all are written, outside only the first transaction is seen");
        for (i, write) in waiting.into_iter().enumerate() {
            assert_eq!(write.await, Ok(i as u64 + 2));
        }
        assert_eq!(*bench.newest.borrow(), 51);
    }

    #[tokio::test]
    async fn a_failed_write_undoes_only_its_own_work() {
        let bench = bench();
        let held = hold(&bench.writer);
        let mut refused = Box::pin(bench.writer.write(|write| {
            record(write)?;
            Err::<(), _>(Refusal::not_found("session", "x"))
        }));
        let mut panicked = Box::pin(bench.writer.write(|write| -> Result<(), Refusal> {
            record(write)?;
            panic!("on purpose")
        }));
        let mut broken = Box::pin(bench.writer.write(|write| {
            record(write)?;
            write.tx.execute_batch("INSERT INTO nowhere VALUES (1)").map_err(from_sqlite)
        }));
        let mut good = Box::pin(bench.writer.write(record));
        queue(&mut refused);
        queue(&mut panicked);
        queue(&mut broken);
        queue(&mut good);
        assert_eq!(held.let_go().await, Ok(1));
        assert_eq!(refused.await, Err(Refusal::not_found("session", "x")));
        let refusal = panicked.await.expect_err("a panic is no success");
        assert!(refusal.detail().is_some_and(|detail| detail.for_log().contains("on purpose")), "{refusal:?}");
        assert!(matches!(broken.await, Err(Refusal::Internal { .. })));
        assert_eq!(good.await, Ok(2), "no number is lost");
        assert_eq!(count(&bench.outside), 2);
    }

    #[tokio::test]
    async fn a_lost_transaction_is_told_to_all_who_shared_it() {
        let bench = bench();
        let held = hold(&bench.writer);
        let mut before = Box::pin(bench.writer.write(record));
        // As SQLite does when the disk is full.
        let mut ends = Box::pin(bench.writer.write(|write| write.tx.execute_batch("ROLLBACK").map_err(from_sqlite)));
        let mut after = Box::pin(bench.writer.write(record));
        queue(&mut before);
        queue(&mut ends);
        queue(&mut after);
        assert_eq!(held.let_go().await, Ok(1));
        for lost in [before.await.map(|_| ()), ends.await, after.await.map(|_| ())] {
            assert!(matches!(lost, Err(Refusal::Unavailable { .. })), "{lost:?}");
        }
        assert_eq!(count(&bench.outside), 1);
        assert_eq!(bench.writer.write(record).await, Ok(2), "the thread goes on");
    }

    #[tokio::test]
    async fn dropping_finishes_what_is_queued() {
        let bench = bench();
        let go = {
            let held = hold(&bench.writer);
            for _ in 0..10 {
                // The caller goes away at once; the write was accepted.
                queue(&mut Box::pin(bench.writer.write(record)));
            }
            held.go
        };
        go.send(()).expect("the command waits");
        drop(bench.writer);
        assert_eq!(count(&bench.outside), 11);
    }
}
