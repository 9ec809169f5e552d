//! The rules in force: one inventory and one policy set, replaced together.
//!
//! A reader takes a snapshot and works on it; a reload never changes what a reader holds.

use crate::egress::Egress;
use ravelin_model::inventory::Inventory;
use ravelin_model::policy::{Question, without_engine};
use ravelin_model::ports::Policy;
use std::sync::{Arc, PoisonError, RwLock};

/// An inventory and the policies that speak of it.
#[derive(Clone)]
pub struct Rules {
    /// Principals and targets.
    pub inventory: Arc<Inventory>,
    /// Who may do what.
    pub policy: Arc<dyn Policy>,
    /// What may be reached beside the inventory's targets.
    pub egress: Egress,
}

impl Rules {
    /// Whether the question is answered with yes. When the policy engine cannot answer, the built-in rule for
    /// emergencies does: sessions can be seen and ended then, nothing can be opened.
    #[must_use]
    pub fn permit(&self, question: &Question<'_>) -> bool {
        self.answer(question).unwrap_or_else(|| without_engine(question))
    }

    /// Whether what is running must stop: only a clear no says so, a policy engine that cannot answer does not.
    #[must_use]
    pub fn forbid(&self, question: &Question<'_>) -> bool {
        self.answer(question) == Some(false)
    }

    fn answer(&self, question: &Question<'_>) -> Option<bool> {
        match self.policy.permits(question) {
            Ok(answer) => Some(answer),
            Err(down) => {
                tracing::error!(
                    action = question.action.word(),
                    detail = down.detail.for_log(),
                    "the policy engine cannot answer"
                );
                None
            }
        }
    }
}

/// Holder of the present [`Rules`].
pub struct Directory {
    rules: RwLock<Arc<Rules>>,
}

impl Directory {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules: RwLock::new(Arc::new(rules)) }
    }

    /// The rules as of now.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }
}
