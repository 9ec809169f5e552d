//! Backing: answers who may do what, from Cedar policies, behind [`ravelin_model::ports::Policy`].
//!
//! ```text
//! load      text of policies -> checked policies, or every fault with its place
//! question  our question -> Cedar's request, with the facts that the schema lists
//! cache     answers already computed
//! ```
//!
//! The vocabulary of policies is [`schema_text`](CedarPolicy::schema_text), the policies that hold when no others are
//! given are [`default_text`](CedarPolicy::default_text); both are written to be read by an operator.
//!
//! This crate never knows: files, the engine, an edge, a clock. It is a leaf because Cedar is the slowest dependency
//! to build.

mod cache;
mod load;
mod question;

pub use load::{Mention, MentionKind, PolicyFault, PolicySource};

use cache::{Answers, Key};
use cedar_policy::{Authorizer, Decision as CedarDecision, Effect, Entities, PolicyId, PolicySet, Request, Response};
use question::Vocabulary;
use ravelin_model::policy::{Decision, Question};
use ravelin_model::ports::{Policy, PolicyDown};
use ravelin_model::refusal::Detail;

/// Loaded and checked policies, with the answers they have given so far. Immutable: a reload is a new value.
pub struct CedarPolicy {
    policies: PolicySet,
    mentions: Vec<Mention>,
    vocabulary: Vocabulary,
    /// Whether any policy may depend on the client's address.
    asks_client: bool,
    answers: Answers,
}

impl CedarPolicy {
    /// Reads policies and checks them against the schema, strictly. All sources together are one set; without any
    /// policy in it everything is denied.
    ///
    /// # Errors
    /// Every fault that there is, by source and place. Besides what does not parse or does not fit the schema, these
    /// are faults: a policy that can never apply, a template, two policies with the same `@id`, a session's id, and
    /// text that looks like other text.
    pub fn load(sources: &[PolicySource]) -> Result<CedarPolicy, Vec<PolicyFault>> {
        let vocabulary = Vocabulary::new();
        let loaded = load::read(sources, vocabulary.schema())?;
        Ok(CedarPolicy {
            policies: loaded.policies,
            mentions: loaded.mentions,
            vocabulary,
            asks_client: loaded.asks_client,
            answers: Answers::default(),
        })
    }

    /// The policies that hold when no others are given, in Cedar's language and with comments.
    #[must_use]
    pub fn default_text() -> &'static str {
        include_str!("default.cedar")
    }

    /// What policies can speak of, in Cedar's schema language and with comments.
    #[must_use]
    pub fn schema_text() -> &'static str {
        include_str!("ravelin.cedarschema")
    }

    /// The names of all policies, in order: the `@id`, or `<source>:<line>` for a policy without one.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.policies.policies().map(|policy| policy.id().to_string()).collect();
        names.sort();
        names
    }

    /// The groups, principals and targets that policies name, so that somebody who knows the inventory can point out
    /// those which it lacks: a `forbid` for a group that is spelled wrong forbids nothing.
    #[must_use]
    pub fn mentions(&self) -> &[Mention] {
        &self.mentions
    }

    /// The answer, computed anew: what [`Policy::decide`] says, at some twenty times its price.
    ///
    /// # Errors
    /// As [`Policy::decide`].
    pub fn decide_uncached(&self, question: &Question<'_>) -> Result<Decision, PolicyDown> {
        let (request, entities) = self.vocabulary.request(question).map_err(|detail| PolicyDown { detail })?;
        let response = self.authorize(&request, &entities);
        self.certain(&response, question)
    }

    /// What `read` takes from the answer, which is kept.
    fn answer<T>(&self, question: &Question<'_>, read: impl Fn(&Decision) -> T) -> Result<T, PolicyDown> {
        let key = Key::of(question, self.asks_client);
        if let Some(answer) = self.answers.find(&key, &read) {
            return Ok(answer);
        }
        let decision = self.decide_uncached(question)?;
        self.answers.keep(key, &decision);
        Ok(read(&decision))
    }

    fn authorize(&self, request: &Request, entities: &Entities) -> Response {
        Authorizer::new().is_authorized(request, &self.policies, entities)
    }

    /// The decision, provided that no policy which failed could have changed it.
    ///
    /// Cedar passes over a policy whose evaluation fails. Passing over a `forbid` would open a door, so such an answer
    /// is not given. It is not turned into a denial either: [`PolicyDown`] makes the caller hold to
    /// [`ravelin_model::policy::without_engine`], which denies as well, except that operators can still see and end
    /// sessions. A broken policy must not take that away.
    fn certain(&self, response: &Response, question: &Question<'_>) -> Result<Decision, PolicyDown> {
        let mut policies: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        policies.sort();
        let mut failed = Vec::new();
        let mut a_permit_failed = false;
        let mut a_forbid_failed = false;
        for error in response.diagnostics().errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
            match self.policies.policy(error.policy_id()).map(cedar_policy::Policy::effect) {
                Some(Effect::Permit) => a_permit_failed = true,
                // One that cannot be found is counted as the worse of the two.
                Some(Effect::Forbid) | None => a_forbid_failed = true,
            }
            failed.push(error.to_string());
        }
        failed.sort();
        let failed = failed.join("; ");
        let decision = match response.decision() {
            CedarDecision::Allow if !a_forbid_failed => Decision::Allow { policies },
            // Forbidden by a policy: nothing outweighs that.
            CedarDecision::Deny if !policies.is_empty() => Decision::Deny { policies },
            CedarDecision::Deny if !a_permit_failed => Decision::Deny { policies },
            CedarDecision::Allow | CedarDecision::Deny => {
                return Err(PolicyDown { detail: Detail::new(format_args!("cannot evaluate policies: {failed}")) });
            }
        };
        if !failed.is_empty() {
            tracing::error!(
                action = %question.action,
                principal = %question.principal.name,
                failed,
                "a policy cannot be evaluated; the answer does not depend on it"
            );
        }
        Ok(decision)
    }
}

impl Policy for CedarPolicy {
    /// Policies are named by their `@id`; see [`CedarPolicy::names`].
    ///
    /// # Errors
    /// [`PolicyDown`] when a policy whose evaluation failed could have changed the answer, or when the question's
    /// resource does not fit its action.
    fn decide(&self, question: &Question<'_>) -> Result<Decision, PolicyDown> {
        self.answer(question, Decision::clone)
    }

    fn permits(&self, question: &Question<'_>) -> Result<bool, PolicyDown> {
        self.answer(question, Decision::is_allow)
    }
}

impl std::fmt::Debug for CedarPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CedarPolicy").field("names", &self.names()).finish_non_exhaustive()
    }
}

fn name_of(id: &PolicyId) -> &str {
    id.as_ref()
}
