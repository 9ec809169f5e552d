//! `GET /subscriptions` and `GET /subscriptions/{id}`: what command lines read at login. Source:
//! <https://learn.microsoft.com/rest/api/resources/subscriptions/list>.

use crate::config::Config;
use crate::map;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;

/// The one subscription.
pub(crate) async fn read(control: &Control, caller: &Caller, config: &Config) -> Result<wire::Subscription, Fault> {
    control.read_bastion(caller).await?;
    Ok(map::subscription(config))
}

/// The subscriptions that the caller may see: one or none.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
) -> Result<wire::ListResult<wire::Subscription>, Fault> {
    match control.read_bastion(caller).await {
        Ok(()) => Ok(wire::ListResult { value: vec![map::subscription(config)] }),
        Err(Refusal::Denied { .. }) => Ok(wire::ListResult { value: Vec::new() }),
        Err(refusal) => Err(refusal.into()),
    }
}
