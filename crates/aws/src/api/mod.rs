//! The operations: what each asks of its members, what it asks of the engine, what it answers.
//!
//! Nothing here knows HTTP or a signature; a [`Caller`] arrives proved.

pub(crate) mod describe_instances;
pub(crate) mod describe_sessions;
pub(crate) mod documents;
pub(crate) mod get_connection_status;
pub(crate) mod resume_session;
mod session_logs;
pub(crate) mod settings;
pub(crate) mod start_session;
pub(crate) mod terminate_session;

use crate::refusal::{About, Fault};
use crate::{Config, map};
use ravelin_engine::{Caller, Pager};
use ravelin_model::query::Cursor;
use ravelin_model::{Refusal, SessionId, Time};
use std::fmt::Debug;

/// A proved request on its way to an operation.
pub(crate) struct Call<'a> {
    /// The operation's name.
    pub(crate) operation: &'static str,
    /// Who asks.
    pub(crate) caller: &'a Caller,
    /// The region that their signature names.
    pub(crate) region: &'a str,
    /// The body, not read yet.
    pub(crate) body: &'a [u8],
    /// What all tries of one call have in common, where the client says so.
    pub(crate) invocation: Option<&'a str>,
    /// Where data channels are reached: scheme and host, `wss://bastion.example.org:8443`.
    pub(crate) channels: &'a str,
    /// The edge's settings.
    pub(crate) config: &'a Config,
}

impl Call<'_> {
    /// The fault that a refusal is; `resource` is the ARN of what the operation was to touch.
    fn refused(&self, refusal: Refusal, resource: String) -> Fault {
        let principal = map::owner(&self.config.account_id, self.caller.name());
        Fault::Refused { refusal, about: About { operation: self.operation, principal, resource } }
    }

    /// The same, for what touches a document.
    fn refused_document(&self, refusal: Refusal, name: &str) -> Fault {
        self.refused(refusal, map::document_arn(self.region, &self.config.account_id, name))
    }

    /// Where the data channel of a session is.
    fn stream_url(&self, session: &str) -> String {
        format!("{}{}{session}?role=publish_subscribe", self.channels, crate::channel::upgrade::PATH)
    }
}

/// An error of the service model.
fn of_model(code: &'static str, text: impl Into<String>) -> Fault {
    Fault::OfModel { code, text: text.into() }
}

/// Pages of a list that is made anew for each: a token says how much of it went before, to one caller of one question.
struct Pages<'a> {
    pager: &'a Pager,
    caller: &'a Caller,
    question: String,
}

impl<'a> Pages<'a> {
    /// `bound` is what of the question has to stay the same from page to page.
    fn new(pager: &'a Pager, call: &Call<'a>, bound: &impl Debug) -> Self {
        let question = format!("aws {} {} {bound:?}", call.operation, call.caller.name());
        Self { pager, caller: call.caller, question }
    }

    /// How much went before.
    fn skip(&self, token: Option<&str>) -> Result<usize, Fault> {
        let Some(token) = token else { return Ok(0) };
        let place = self.pager.open(token, &self.question).ok_or(Fault::NextToken)?;
        Ok(usize::try_from(place.created.as_micros()).unwrap_or(usize::MAX))
    }

    /// The token of what comes after so much.
    fn after(&self, count: usize) -> String {
        // In the form that tokens carry.
        let created = Time::from_micros(i64::try_from(count).unwrap_or(i64::MAX));
        self.pager.seal(&Cursor { created, id: SessionId::new(self.caller.name(), 0) }, &self.question)
    }
}
