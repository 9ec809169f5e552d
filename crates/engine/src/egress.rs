//! Going out: the plain TCP dialer, and whether a target can be reached.

use ravelin_model::Target;
use std::io;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// How long a connection to a target may take to come up.
pub const DIAL_MAX: Duration = Duration::from_secs(10);

/// How long a reachability check may take.
pub const PROBE_MAX: Duration = Duration::from_secs(2);

/// Connects to a target with Nagle's algorithm off.
///
/// # Errors
/// The system's own error, or `TimedOut` after [`DIAL_MAX`].
pub async fn dial(target: &Target) -> io::Result<TcpStream> {
    dial_within(target, DIAL_MAX).await
}

async fn dial_within(target: &Target, limit: Duration) -> io::Result<TcpStream> {
    let connecting = TcpStream::connect((target.address.as_str(), target.port));
    let stream = tokio::time::timeout(limit, connecting)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs())))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Checks targets, a bounded number at a time.
pub(crate) struct Probe {
    slots: Semaphore,
}

impl Probe {
    const SLOTS: usize = 32;

    pub(crate) fn new() -> Self {
        Self { slots: Semaphore::new(Self::SLOTS) }
    }

    /// Whether the target takes a TCP connection now.
    pub(crate) async fn reaches(&self, target: &Target) -> bool {
        let Ok(_slot) = self.slots.acquire().await else { return false };
        dial_within(target, PROBE_MAX).await.is_ok()
    }
}
