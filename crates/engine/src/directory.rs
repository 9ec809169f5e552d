//! The rules in force: one inventory and one policy set, replaced together.
//!
//! A reader takes a snapshot and works on it; a reload never changes what a reader holds.

use ravelin_model::inventory::Inventory;
use ravelin_model::policy::{Decision, Question, without_engine};
use ravelin_model::ports::Policy;
use std::sync::{Arc, PoisonError, RwLock};

/// An inventory and the policies that speak of it.
#[derive(Clone)]
pub struct Rules {
    /// Principals and targets.
    pub inventory: Arc<Inventory>,
    /// Who may do what.
    pub policy: Arc<dyn Policy>,
}

impl Rules {
    /// Whether the question is answered with yes. When the policy engine cannot answer, the built-in rule for
    /// emergencies does: sessions can be seen and ended then, nothing can be opened.
    #[must_use]
    pub fn permit(&self, question: &Question<'_>) -> bool {
        match self.policy.decide(question) {
            Ok(decision) => matches!(decision, Decision::Allow { .. }),
            Err(down) => {
                tracing::error!(
                    action = question.action.word(),
                    detail = down.detail.for_log(),
                    "policy engine cannot answer; the emergency rule decides"
                );
                without_engine(question)
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
