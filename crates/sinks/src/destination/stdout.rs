//! JSON lines on standard output, for those who let their platform collect it.
//!
//! Whoever reads it may stand still. What is being written then is not written a second time beside it.

use super::{Batch, Blocking, Destination, Failure};
use async_trait::async_trait;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

pub(super) struct Stdout<W> {
    out: Arc<Mutex<W>>,
    /// Gives the number of the last event that it wrote.
    writing: Blocking<io::Result<u64>>,
    /// What is not above this number is written already.
    last: u64,
}

impl<W: Write + Send + 'static> Stdout<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: Arc::new(Mutex::new(out)), writing: Blocking::new(), last: 0 }
    }
}

#[async_trait]
impl<W: Write + Send + 'static> Destination for Stdout<W> {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let unwritable = |error: io::Error| Failure::new(format!("cannot write to standard output: {error}"));
        if let Some(outcome) = self.writing.left_over().await {
            self.last = outcome.map_err(|_| gone())?.map_err(unwritable)?;
        }
        let mut text = String::new();
        let mut last = self.last;
        for item in batch.items.iter().filter(|item| item.entry.event.seq > self.last) {
            text.push_str(&item.record.to_string());
            text.push('\n');
            last = item.entry.event.seq;
        }
        if text.is_empty() {
            return Ok(());
        }
        let out = Arc::clone(&self.out);
        let write = move || {
            let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).map(|()| last)
        };
        self.last = self.writing.run(write).await.ok_or_else(gone)?.map_err(unwritable)?;
        Ok(())
    }
}

fn gone() -> Failure {
    Failure::new("the task that writes to standard output has gone")
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, items};
    use super::*;
    use serde_json::Value;
    use std::io::{BufRead, BufReader};
    use std::time::Duration;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_reader_that_stands_still_holds_one_thread_and_gets_each_line_once() {
        // With two threads, a second one that is stuck would leave none.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().max_blocking_threads(2).build().expect("a runtime");
        let (reader, writer) = io::pipe().expect("a pipe");
        let numbers = runtime.block_on(async {
            let mut stdout = Stdout::new(writer);
            // More than a pipe holds.
            let many = items(1..=300);
            for _ in 0..5 {
                let given_up = timeout(Duration::from_millis(20), stdout.deliver(&batch(&many))).await;
                assert!(given_up.is_err(), "nobody reads");
            }
            timeout(PATIENCE, tokio::task::spawn_blocking(|| ())).await.expect("a thread is left").expect("it ran");
            let reading = std::thread::spawn(move || {
                let number =
                    |line: String| serde_json::from_str::<Value>(&line).expect("a line is JSON")["seq"].as_u64();
                BufReader::new(reader).lines().map(|line| number(line.expect("text")).expect("a number")).collect()
            });
            // It was too much, so less is tried; what was given up has all of that.
            for few in [items(1..=150), items(151..=310), items(311..=312)] {
                timeout(PATIENCE, stdout.deliver(&batch(&few))).await.expect("somebody reads").expect("it is written");
            }
            drop(stdout);
            reading
        });
        let numbers: Vec<u64> = numbers.join().expect("the reader came to the end");
        assert_eq!(numbers, (1..=312).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_reader_that_is_gone_is_told() {
        let (reader, writer) = io::pipe().expect("a pipe");
        let mut stdout = Stdout::new(writer);
        stdout.deliver(&batch(&items(1..=2))).await.expect("it fits into the pipe");
        drop(reader);
        let failure = stdout.deliver(&batch(&items(3..=4))).await.expect_err("nobody will read it");
        assert!(failure.because.contains("cannot write to standard output"), "{}", failure.because);
    }
}
