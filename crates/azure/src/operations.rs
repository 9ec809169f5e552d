//! Answers that come later: which are being made, and which request asks again for one of them.
//!
//! What is being made is known to this process only; what was made, and that something was begun, is in the store. So an
//! answer survives a restart, and one that a restart took away is told as lost instead of being waited for.

use aws_lc_rs::digest;
use ravelin_model::{PrincipalName, Refusal};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Who asks for what: a second request of the same kind is answered with what the first one began.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    caller: PrincipalName,
    /// Digest of the operation's name, of where the caller reaches us, which is in the links of an answer, and of the body.
    content: [u8; 32],
}

impl Question {
    pub(crate) fn new(caller: &PrincipalName, operation: &str, origin: &str, body: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [operation, origin] {
            context.update(part.as_bytes());
            context.update(&[0]);
        }
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
    shelf: Arc<Mutex<Shelf>>,
}

#[derive(Default)]
struct Shelf {
    /// What the next request for the same gets.
    by_question: HashMap<Question, Begun>,
    /// The ids of all that is being made: two requests for the same may have begun before either was told to come later.
    making: HashSet<String>,
}

#[derive(Clone)]
pub(crate) struct Begun {
    /// The operation's id, under which its answer is kept.
    pub(crate) id: String,
    /// Since when the answer is kept.
    done: watch::Receiver<Option<Instant>>,
    is_fetched: bool,
}

impl Begun {
    /// How long an answer that nobody fetched waits for the request to be repeated. What is older says too little of how
    /// things are now.
    const REPEAT_MAX: Duration = Duration::from_secs(60);

    /// Resolves when the answer is kept. Whether it is what a repeated request asks for: nobody has had it yet, and it has
    /// just been made.
    pub(crate) async fn done(&self) -> bool {
        let mut done = self.done.clone();
        // A sender that is gone has no answer to come either.
        let since = done.wait_for(Option::is_some).await.map_or(None, |since| *since);
        !self.is_fetched && since.is_some_and(|since| since.elapsed() <= Self::REPEAT_MAX)
    }

    fn is_done(&self) -> bool {
        self.done.borrow().is_some() || self.done.has_changed().is_err()
    }
}

/// An operation that is being made; told when it is done, and given up when it is dropped.
pub(crate) struct Making {
    id: String,
    done: watch::Sender<Option<Instant>>,
    shelf: Arc<Mutex<Shelf>>,
}

impl Making {
    /// The answer is kept.
    pub(crate) fn done(self) {
        self.done.send_replace(Some(Instant::now()));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        hold(&self.shelf).making.remove(&self.id);
    }
}

impl Operations {
    /// Being made, or begun and not asked for again: in all, and of one caller.
    const ALL_MAX: usize = 4096;
    const PER_CALLER_MAX: usize = 256;

    /// What an earlier request for the same began.
    pub(crate) fn begun(&self, question: &Question) -> Option<Begun> {
        hold(&self.shelf).by_question.get(question).cloned()
    }

    /// Notes that something was begun.
    ///
    /// # Errors
    /// [`Refusal::LimitReached`] when too much is being made.
    pub(crate) fn begin(&self, question: Question, id: String) -> Result<Making, Refusal> {
        let mut shelf = hold(&self.shelf);
        let is_full = |shelf: &Shelf| {
            let of_caller = shelf.by_question.keys().filter(|other| other.caller == question.caller).count();
            shelf.by_question.len().max(shelf.making.len()) >= Self::ALL_MAX || of_caller >= Self::PER_CALLER_MAX
        };
        if is_full(&shelf) {
            // Answers that are there already are in the store; only the short way to them is lost.
            shelf.by_question.retain(|_, begun| !begun.is_done());
        }
        if is_full(&shelf) {
            return Err(Refusal::LimitReached { limit: "answers that are being made".to_owned(), retry_after: None });
        }
        let (sender, done) = watch::channel(None);
        shelf.by_question.insert(question, Begun { id: id.clone(), done, is_fetched: false });
        shelf.making.insert(id.clone());
        Ok(Making { id, done: sender, shelf: Arc::clone(&self.shelf) })
    }

    /// Forgets what a question began, so that the next request for the same begins anew.
    pub(crate) fn forget(&self, question: &Question, id: &str) {
        let mut shelf = hold(&self.shelf);
        if shelf.by_question.get(question).is_some_and(|begun| begun.id == id) {
            shelf.by_question.remove(question);
        }
    }

    /// Notes that somebody has had the answer of that id.
    pub(crate) fn fetched(&self, id: &str) {
        for begun in hold(&self.shelf).by_question.values_mut().filter(|begun| begun.id == id) {
            begun.is_fetched = true;
        }
    }

    /// Whether the answer of that id is being made here.
    pub(crate) fn is_making(&self, id: &str) -> bool {
        hold(&self.shelf).making.contains(id)
    }
}

fn hold(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
