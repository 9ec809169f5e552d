//! `GET …/bastionHosts` and `GET …/bastionHosts/{name}`: this bastion as a resource. Source:
//! <https://learn.microsoft.com/rest/api/virtualnetwork/bastion-hosts/get>.

use crate::config::Config;
use crate::map;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};

/// The one host, as the caller reaches it.
pub(crate) async fn read(
    control: &Control,
    caller: &Caller,
    config: &Config,
    look: map::HostLook<'_>,
) -> Result<wire::BastionHost, Fault> {
    control.read_bastion(caller).await?;
    Ok(map::bastion_host(config, look))
}

/// The list of one, in the subscription as in the group.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
    look: map::HostLook<'_>,
) -> Result<wire::ListResult<wire::BastionHost>, Fault> {
    Ok(wire::ListResult { value: vec![read(control, caller, config, look).await?] })
}
