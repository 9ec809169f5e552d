//! The event stream: follows the record for one caller, one page at a time.
//!
//! The next page is read when the one before was taken, so a slow reader holds one page and no more, and reads on
//! later. The cursor moves only over what was handed out, which is why a reader who comes back with the last id that
//! they saw misses nothing and sees nothing twice.
//!
//! Format: the HTML standard's server-sent events, <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use crate::refusal::Fault;
use crate::{map, wire};
use bytes::Bytes;
use ravelin_engine::{Caller, Control, Identity};
use ravelin_model::ports::EventPage;
use ravelin_model::query::{Cursor, Order, SessionFilter, SessionQuery};
use ravelin_model::{PrincipalName, Refusal};
use secrecy::SecretString;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A number above all that are ever given out; asking for events after it answers the record's bounds only.
pub(crate) const PAST_ALL: u64 = u64::MAX >> 1;

/// Events read, and held in memory, at once.
const EVENTS_PAGE: u32 = 100;
/// Sessions in one part of a snapshot.
const SESSIONS_PART: u32 = 100;

/// The beat of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    /// Longest silence on the wire.
    pub(crate) heartbeat: Duration,
    /// How often the caller's proof is checked again.
    pub(crate) recheck: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(15), recheck: Duration::from_secs(15) }
    }
}

/// A stream of one caller.
pub(crate) struct Feed {
    control: Control,
    identity: Identity,
    token: SecretString,
    caller: Caller,
    /// Everything up to this number was handed out or is not for this caller.
    cursor: u64,
    /// Whether a gap is followed by the live sessions.
    snapshots: bool,
    step: Step,
    checked: Instant,
    timing: Timing,
    _seat: Seat,
}

enum Step {
    /// Nothing was sent yet.
    Hello {
        /// Whether the live sessions come first.
        snapshot: bool,
    },
    /// In the middle of the live sessions.
    Snapshot {
        /// The last that was sent.
        after: Option<Cursor>,
    },
    /// The record, event by event.
    Follow,
    /// The end was sent.
    Over,
}

impl Feed {
    #[expect(clippy::too_many_arguments, reason = "what a stream needs for its whole life, taken once")]
    pub(crate) fn new(
        control: Control,
        identity: Identity,
        token: SecretString,
        caller: Caller,
        cursor: u64,
        snapshots: bool,
        begin_with_snapshot: bool,
        timing: Timing,
        seat: Seat,
    ) -> Self {
        let step = Step::Hello { snapshot: begin_with_snapshot };
        let checked = Instant::now();
        Self { control, identity, token, caller, cursor, snapshots, step, checked, timing, _seat: seat }
    }

    /// The next piece of the stream; waits for it. `None` after the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        if let Step::Over = self.step {
            return None;
        }
        Some(match self.piece().await {
            Ok(chunk) => chunk,
            Err(fault) => {
                self.step = Step::Over;
                if let Fault::Refused(refusal) = &fault
                    && let Some(detail) = refusal.detail()
                {
                    tracing::error!(detail = detail.for_log(), "an event stream ends");
                }
                let mut out = Vec::new();
                write(&mut out, None, "problem", &fault.problem())?;
                out.into()
            }
        })
    }

    async fn piece(&mut self) -> Result<Bytes, Fault> {
        loop {
            if self.checked.elapsed() >= self.timing.recheck {
                self.caller = self.identity.token(&self.token, self.caller.contact().clone()).await?;
                self.checked = Instant::now();
            }
            match self.step {
                Step::Hello { snapshot } => {
                    self.step = if snapshot { Step::Snapshot { after: None } } else { Step::Follow };
                    // The id lets a client that loses the connection before the first event come back to this place.
                    // Before a snapshot there is none, so that it would be sent again.
                    let place = if snapshot { String::new() } else { format!("id: {}\n", self.cursor) };
                    return Ok(Bytes::from(format!(": ravelin events\nretry: 1000\n{place}\n")));
                }
                Step::Snapshot { ref after } => {
                    let after = after.clone();
                    return self.snapshot(after).await;
                }
                Step::Follow => {
                    if let Some(chunk) = self.follow().await? {
                        return Ok(chunk);
                    }
                }
                Step::Over => return Err(Refusal::internal("an event stream was read after its end").into()),
            }
        }
    }

    /// One part of the live sessions. The events after the cursor are still to come, so a session that changes
    /// meanwhile is seen again, never missed.
    async fn snapshot(&mut self, after: Option<Cursor>) -> Result<Bytes, Fault> {
        let query =
            SessionQuery { filter: SessionFilter::live(), order: Order::NewestFirst, after, limit: SESSIONS_PART };
        let page = self.control.list(&self.caller, query).await?;
        let part =
            wire::Snapshot { sessions: page.items.into_iter().map(map::session).collect(), more: page.next.is_some() };
        let id = if part.more { None } else { Some(self.cursor) };
        let mut out = Vec::new();
        write(&mut out, id, "snapshot", &part).ok_or_else(unwritable)?;
        self.step = match page.next {
            Some(last) => Step::Snapshot { after: Some(last) },
            None => Step::Follow,
        };
        Ok(out.into())
    }

    /// A page of events, a gap, or a heartbeat; `None` when there is reason to look again at once.
    async fn follow(&mut self) -> Result<Option<Bytes>, Fault> {
        let (page, looked) = self.control.events(&self.caller, self.cursor, EVENTS_PAGE).await?;
        let mut out = Vec::new();
        if let Some(gap) = gap(self.cursor, &page) {
            // Without an id when a snapshot follows: who loses the connection in between is told again, and gets it then.
            let id = (!self.snapshots).then_some(gap.to);
            write(&mut out, id, "gap", &gap).ok_or_else(unwritable)?;
            self.cursor = gap.to;
            if self.snapshots {
                self.step = Step::Snapshot { after: None };
            }
            return Ok(Some(out.into()));
        }
        if !page.events.is_empty() {
            for event in page.events {
                let (seq, kind) = (event.seq, event.deed.kind.word());
                write(&mut out, Some(seq), kind, &map::event(event)).ok_or_else(unwritable)?;
            }
            // Others' events that were passed over after these need no second look.
            self.cursor = looked;
            return Ok(Some(out.into()));
        }
        // Nothing for this caller up to here; what lies between was others'.
        self.cursor = self.cursor.max(looked);
        let wait = self.control.wait_for_event(self.cursor);
        // No longer than until the proof is to be shown again.
        let silence_max = self.timing.heartbeat.min(self.timing.recheck.saturating_sub(self.checked.elapsed()));
        match tokio::time::timeout(silence_max, wait).await {
            Ok(()) => Ok(None),
            // An id without data moves the client's place and shows nothing.
            Err(_elapsed) => Ok(Some(Bytes::from(format!(": heartbeat\nid: {}\n\n", self.cursor)))),
        }
    }
}

/// What is missing between `after` and the events that are still kept.
pub(crate) fn gap(after: u64, page: &EventPage) -> Option<wire::EventGap> {
    (page.oldest > after.saturating_add(1)).then(|| wire::EventGap { from: after + 1, to: page.oldest - 1 })
}

/// A place that was never given out: another deployment's, or a record that was lost.
pub(crate) fn beyond(field: &str, place: u64, newest: u64) -> Refusal {
    Refusal::invalid(field, format!("must be at most {newest}, the newest event there is, this is {place}"))
}

/// Writes one event; `None` when the data is no JSON, which wire types always are.
fn write(out: &mut Vec<u8>, id: Option<u64>, event: &str, data: &impl Serialize) -> Option<()> {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    out.extend_from_slice(format!("event: {event}\ndata: ").as_bytes());
    serde_json::to_writer(&mut *out, data).ok()?;
    out.extend_from_slice(b"\n\n");
    Some(())
}

fn unwritable() -> Fault {
    Refusal::internal("an event cannot be written as JSON").into()
}

/// The streams that are open, and how many more may be.
#[derive(Default)]
pub(crate) struct Seats {
    taken: Mutex<HashMap<PrincipalName, usize>>,
}

impl Seats {
    /// Streams at the same time.
    const TOTAL_MAX: usize = 1024;
    /// Streams of one principal at the same time.
    const PER_PRINCIPAL_MAX: usize = 64;

    /// One more stream for `principal`, until the seat is dropped.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`].
    pub(crate) fn take(self: &Arc<Self>, principal: &PrincipalName) -> Result<Seat, Refusal> {
        let full = |max: usize, whose: &str| Refusal::LimitReached {
            limit: format!("{max} event streams {whose}"),
            retry_after: Some(Duration::from_secs(15)),
        };
        let mut taken = self.hold();
        if taken.values().sum::<usize>() >= Self::TOTAL_MAX {
            return Err(full(Self::TOTAL_MAX, "in all"));
        }
        let own = taken.entry(principal.clone()).or_default();
        if *own >= Self::PER_PRINCIPAL_MAX {
            return Err(full(Self::PER_PRINCIPAL_MAX, "of one principal"));
        }
        *own += 1;
        Ok(Seat { seats: Arc::clone(self), principal: principal.clone() })
    }

    fn hold(&self) -> MutexGuard<'_, HashMap<PrincipalName, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permission to have one stream open.
pub(crate) struct Seat {
    seats: Arc<Seats>,
    principal: PrincipalName,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.hold();
        if let Some(own) = taken.get_mut(&self.principal) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.principal);
            }
        }
    }
}
