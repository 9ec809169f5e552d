//! `GET …/virtualMachines` and `GET …/virtualMachines/{name}`: the targets that the caller may see, as the machines that
//! clients look for. Source: <https://learn.microsoft.com/rest/api/compute/virtual-machines/get>.

use crate::config::Config;
use crate::map;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};
use ravelin_model::Target;
use std::sync::Arc;

/// The target whose resource id this is, without regard to case. The policy is asked about that one only, however many
/// there are: a request may name hundreds.
pub(crate) fn find(control: &Control, caller: &Caller, config: &Config, id: &str) -> Option<Arc<Target>> {
    // An id that the inventory does not know may be one that was derived from a name, which stands at its end.
    let name = id.rsplit('/').next().unwrap_or_default();
    let mut found = [id, name].into_iter().filter_map(|any_name| control.target(caller, any_name).ok());
    found.find(|target| map::machine_id(target, config).eq_ignore_ascii_case(id))
}

/// Those of a subscription, and of a group if one is given.
pub(crate) fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
    subscription: &str,
    group: Option<&str>,
) -> wire::ListResult<wire::VirtualMachine> {
    let all = control.targets(caller).into_iter().map(|target| map::machine(&target, config));
    wire::ListResult { value: all.filter(|vm| map::machine_is_in(&vm.id, subscription, group)).collect() }
}
