//! `GET …/providers` and `GET …/providers/{namespace}`, `GET /tenants`: what command lines read to learn which
//! api-version a type has, and which tenants there are. Source:
//! <https://learn.microsoft.com/rest/api/resources/providers/get>, <https://learn.microsoft.com/rest/api/resources/tenants/list>.

use crate::config::Config;
use crate::map;
use crate::proto::api_version::Family;
use crate::refusal::Fault;
use crate::wire::arm as wire;
use ravelin_engine::{Caller, Control};
use ravelin_model::Refusal;

/// The namespaces that are here, each with its types and their versions, newest first.
const PROVIDERS: [(&str, Family, &[&str]); 3] = [
    ("Microsoft.Network", Family::Network, &["bastionHosts", "locations"]),
    ("Microsoft.Compute", Family::Compute, &["virtualMachines"]),
    ("Microsoft.Resources", Family::Resources, &["subscriptions", "resourceGroups"]),
];

/// All providers.
pub(crate) async fn list(
    control: &Control,
    caller: &Caller,
    config: &Config,
) -> Result<wire::ListResult<wire::Provider>, Fault> {
    control.read_bastion(caller).await?;
    Ok(wire::ListResult {
        value: PROVIDERS.iter().map(|(namespace, family, types)| provider(namespace, *family, types, config)).collect(),
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
    let known = PROVIDERS.iter().find(|(known, _, _)| known.eq_ignore_ascii_case(namespace));
    let (namespace, family, types) = known.ok_or_else(|| Fault::NamespaceUnknown(namespace.to_owned()))?;
    Ok(provider(namespace, *family, types, config))
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

fn provider(namespace: &'static str, family: Family, types: &[&'static str], config: &Config) -> wire::Provider {
    let resource_type = |name: &&'static str| wire::ProviderResourceType {
        resource_type: name,
        locations: vec![config.location.clone()],
        api_versions: family.versions().iter().rev().copied().collect(),
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
