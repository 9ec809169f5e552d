//! One file per operation: what it asks of its members, what it asks of the engine, what it answers.
//!
//! Nothing here knows HTTP or a signature; a [`Caller`] arrives proved.

pub(crate) mod describe_sessions;
pub(crate) mod get_connection_status;
pub(crate) mod terminate_session;

use crate::refusal::{About, Fault};
use crate::{Config, map};
use ravelin_engine::Caller;
use ravelin_model::Refusal;

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
    /// The edge's settings.
    pub(crate) config: &'a Config,
}

impl Call<'_> {
    /// The fault that a refusal is; `resource` is the ARN of what the operation was to touch.
    fn refused(&self, refusal: Refusal, resource: String) -> Fault {
        let principal = map::owner(&self.config.account_id, self.caller.name());
        Fault::Refused { refusal, about: About { operation: self.operation, principal, resource } }
    }
}
