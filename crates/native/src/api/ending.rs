//! What the three operations that end sessions share.

use crate::map;
use crate::refusal::Fault;
use crate::wire;
use futures_util::stream::{self, StreamExt};
use ravelin_engine::{Caller, Control};
use ravelin_model::session::Ending;
use ravelin_model::{Refusal, SessionId};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

/// Sessions that one request may end.
pub(super) const SESSIONS_MAX: usize = 10_000;
/// Sessions that one request ends at the same time.
const WIDTH: usize = 256;
/// Longest wait that a client may ask for.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// What is left to a session when those before it used the time up.
const WAIT_MIN: Duration = Duration::from_millis(50);

/// The reason to note, checked.
pub(super) fn reason(text: Option<String>) -> Result<String, Refusal> {
    let text = text.unwrap_or_default();
    if text.chars().count() > Ending::DETAIL_CHARS_MAX {
        return Err(Refusal::invalid("reason", format!("must have at most {} characters", Ending::DETAIL_CHARS_MAX)));
    }
    Ok(text)
}

/// The time to wait, checked.
pub(super) fn wait(wait_ms: Option<u64>) -> Result<Duration, Refusal> {
    match wait_ms.map(Duration::from_millis) {
        None => Ok(Control::WAIT_DEFAULT),
        Some(wait) if wait <= WAIT_MAX => Ok(wait),
        Some(_) => Err(Refusal::invalid("wait_ms", format!("must be at most {}", WAIT_MAX.as_millis()))),
    }
}

/// Runs to its end even when the client hangs up meanwhile: a wish to end is never carried out by half. It is bounded,
/// because every wait in it is.
pub(super) async fn in_full<T: Send + 'static>(wish: impl Future<Output = T> + Send + 'static) -> Result<T, Fault> {
    tokio::spawn(wish).await.map_err(|died| Refusal::internal(format!("ending sessions died: {died}")).into())
}

/// Ends all of them, in the order of `ids`. The wait is one for all together.
pub(super) async fn end_all(
    control: Control,
    caller: Caller,
    ids: Vec<SessionId>,
    reason: String,
    wait: Duration,
) -> Vec<wire::Outcome> {
    let deadline = Instant::now() + wait;
    let (control, caller, reason) = (&control, &caller, reason.as_str());
    stream::iter(ids)
        .map(|id| async move {
            let left = deadline.saturating_duration_since(Instant::now()).max(WAIT_MIN.min(wait));
            let result = control.terminate(caller, &id, reason, left).await;
            map::outcome(&id, result)
        })
        .buffered(WIDTH)
        .collect()
        .await
}
