//! Answers that come later: which are being made, and which request asks again for one of them.
//!
//! What is being made is known to this process only; what was made, and that something was begun, is in the store. So an
//! answer survives a restart, and one that a restart took away is told as lost instead of being waited for.

use aws_lc_rs::digest;
use ravelin_model::{PrincipalName, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Who asks for what: a second request of the same kind is answered with what the first one began.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    caller: PrincipalName,
    /// Digest of the operation's name and of its body.
    content: [u8; 32],
}

impl Question {
    pub(crate) fn new(caller: &PrincipalName, operation: &str, body: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(operation.as_bytes());
        context.update(&[0]);
        context.update(body);
        let mut content = [0; 32];
        content.copy_from_slice(context.finish().as_ref());
        Self { caller: caller.clone(), content }
    }
}

/// An answer as it is kept.
#[derive(Deserialize, Serialize)]
pub(crate) struct KeptAnswer {
    /// The HTTP status; 0 while it is being made.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl KeptAnswer {
    /// What is kept while the answer is being made.
    pub(crate) fn begun() -> Self {
        Self { status: 0, body: String::new() }
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.status == 0
    }

    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The operations of this process whose callers were told to come later.
#[derive(Default)]
pub(crate) struct Operations {
    all: Mutex<HashMap<Question, Begun>>,
}

#[derive(Clone)]
pub(crate) struct Begun {
    /// The operation's id, under which its answer is kept.
    pub(crate) id: String,
    done: watch::Receiver<bool>,
}

impl Begun {
    /// Resolves when the answer is kept.
    pub(crate) async fn done(&self) {
        let mut done = self.done.clone();
        // A sender that is gone has no answer to come either.
        let _gone = done.wait_for(|done| *done).await.is_ok();
    }

    fn is_done(&self) -> bool {
        *self.done.borrow() || self.done.has_changed().is_err()
    }
}

/// An operation that is being made; told when it is done, and given up when it is dropped.
pub(crate) struct Making(watch::Sender<bool>);

impl Making {
    pub(crate) fn done(&self) {
        self.0.send_replace(true);
    }
}

impl Operations {
    /// Begun and not asked for again, in all and of one caller.
    const ALL_MAX: usize = 4096;
    const PER_CALLER_MAX: usize = 256;

    /// What an earlier request for the same began.
    pub(crate) fn begun(&self, question: &Question) -> Option<Begun> {
        self.hold().get(question).cloned()
    }

    /// Notes that something was begun.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`] when too much is being made.
    pub(crate) fn begin(&self, question: Question, id: String) -> Result<Making, Refusal> {
        let mut all = self.hold();
        let of_caller = |all: &HashMap<Question, Begun>| all.keys().filter(|q| q.caller == question.caller).count();
        if all.len() >= Self::ALL_MAX || of_caller(&all) >= Self::PER_CALLER_MAX {
            // Answers that are there already are in the store; only the short way to them is lost.
            all.retain(|_, begun| !begun.is_done());
        }
        if all.len() >= Self::ALL_MAX || of_caller(&all) >= Self::PER_CALLER_MAX {
            return Err(Refusal::LimitReached { limit: "answers that are being made".to_owned(), retry_after: None });
        }
        let (sender, done) = watch::channel(false);
        all.insert(question, Begun { id, done });
        Ok(Making(sender))
    }

    /// Forgets what a question began, so that the next request for the same begins anew.
    pub(crate) fn forget(&self, question: &Question, id: &str) {
        let mut all = self.hold();
        if all.get(question).is_some_and(|begun| begun.id == id) {
            all.remove(question);
        }
    }

    /// Whether the answer of that id is being made here.
    pub(crate) fn is_making(&self, id: &str) -> bool {
        self.hold().values().any(|begun| begun.id == id && !begun.is_done())
    }

    fn hold(&self) -> MutexGuard<'_, HashMap<Question, Begun>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
