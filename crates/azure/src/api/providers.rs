//! `GET …/providers` and `GET …/providers/{namespace}`, `GET /tenants`: what command lines read to learn which
//! api-version a type has, and which tenants there are. Source:
//! <https://learn.microsoft.com/rest/api/resources/providers/get>, <https://learn.microsoft.com/rest/api/resources/tenants/list>.

use crate::config::Config;
use crate::map;
use crate::proto::api_version::NETWORK_VERSIONS;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;

/// The namespaces that are here, each with its types and their versions, newest first.
const PROVIDERS: [(&str, &[(&str, bool)]); 3] = [
    ("Microsoft.Network", &[("bastionHosts", true), ("locations", true)]),
    ("Microsoft.Compute", &[("virtualMachines", false)]),
    ("Microsoft.Resources", &[("subscriptions", false), ("resourceGroups", false)]),
];

/// Versions of the types that are not the network's: any day is good there, and these are asked for.
const OTHER_VERSIONS: [&str; 6] = ["2024-07-01", "2023-03-01", "2022-12-01", "2021-04-01", "2019-11-01", "2016-06-01"];

/// All providers.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
) -> Result<wire::ListResult<wire::Provider>, Fault> {
    control.read_bastion(caller).await?;
    Ok(wire::ListResult {
        value: PROVIDERS.iter().map(|(namespace, types)| provider(namespace, types, config)).collect(),
    })
}

/// One provider.
pub(crate) async fn read(
    control: &Control,
    caller: &Caller,
    config: &Config,
    namespace: &str,
) -> Result<wire::Provider, Fault> {
    control.read_bastion(caller).await?;
    let known = PROVIDERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(namespace));
    let (namespace, types) = known.ok_or_else(|| Fault::NamespaceUnknown(namespace.to_owned()))?;
    Ok(provider(namespace, types, config))
}

/// The tenants that the caller may see: one or none.
pub(crate) async fn tenants(
    control: &Control,
    caller: &Caller,
    config: &Config,
) -> Result<wire::ListResult<wire::Tenant>, Fault> {
    match control.read_bastion(caller).await {
        Ok(()) => Ok(wire::ListResult { value: vec![map::tenant(config)] }),
        Err(Refusal::Denied { .. }) => Ok(wire::ListResult { value: Vec::new() }),
        Err(refusal) => Err(refusal.into()),
    }
}

fn provider(namespace: &'static str, types: &[(&'static str, bool)], config: &Config) -> wire::Provider {
    let resource_type = |(name, of_network): &(&'static str, bool)| wire::ProviderResourceType {
        resource_type: name,
        locations: vec![config.location.clone()],
        api_versions: if *of_network {
            NETWORK_VERSIONS.iter().rev().copied().collect()
        } else {
            OTHER_VERSIONS.to_vec()
        },
        capabilities: "None",
    };
    wire::Provider {
        id: format!("/subscriptions/{}/providers/{namespace}", config.subscription_id),
        namespace,
        registration_state: "Registered",
        registration_policy: "RegistrationFree",
        resource_types: types.iter().map(resource_type).collect(),
    }
}
