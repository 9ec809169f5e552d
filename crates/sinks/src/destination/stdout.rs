//! JSON lines on standard output, for those who let their platform collect it.

use super::{Batch, Destination, Failure};
use async_trait::async_trait;
use std::io::Write;

pub(super) struct Stdout;

#[async_trait]
impl Destination for Stdout {
    async fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Failure> {
        let mut text = String::new();
        for item in batch.items {
            text.push_str(&item.record.to_string());
            text.push('\n');
        }
        let written = tokio::task::spawn_blocking(move || {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush())
        });
        match written.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::new(format!("cannot write to standard output: {error}"))),
            Err(_) => Err(Failure::new("the task that writes to standard output has gone")),
        }
    }
}
