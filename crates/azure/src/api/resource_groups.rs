//! `GET …/resourceGroups` and `GET …/resourceGroups/{name}`. Source:
//! <https://learn.microsoft.com/rest/api/resources/resource-groups/get>.

use crate::config::Config;
use crate::map;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};

/// The one resource group.
pub(crate) async fn read(control: &Control, caller: &Caller, config: &Config) -> Result<wire::ResourceGroup, Fault> {
    control.read_bastion(caller).await?;
    Ok(map::resource_group(config))
}

/// The list of one.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
) -> Result<wire::ListResult<wire::ResourceGroup>, Fault> {
    Ok(wire::ListResult { value: vec![read(control, caller, config).await?] })
}
