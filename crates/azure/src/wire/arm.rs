//! Azure Resource Manager. Source: `Microsoft.Network` `bastionHost.json`, stable versions 2019-09-01 to 2026-03-01
//! (<https://learn.microsoft.com/rest/api/virtualnetwork/get-active-sessions/get-active-sessions>), and
//! `Microsoft.Resources` `subscriptions.json` 2022-12-01, `resources.json`.

use serde::Serialize;
use std::collections::BTreeMap;

/// `CloudError`.
#[derive(Debug, Serialize)]
pub(crate) struct CloudError {
    pub(crate) error: CloudErrorBody,
}

/// `CloudErrorBody`.
#[derive(Debug, Serialize)]
pub(crate) struct CloudErrorBody {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
}

/// `BastionActiveSessionListResult`.
#[derive(Debug, Serialize)]
pub(crate) struct BastionActiveSessionListResult {
    pub(crate) value: Vec<BastionActiveSession>,
    #[serde(rename = "nextLink", skip_serializing_if = "Option::is_none")]
    pub(crate) next_link: Option<String>,
}

/// `BastionActiveSession`. `startTime` is typed `object` in the specification and is a string on the wire.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BastionActiveSession {
    pub(crate) session_id: String,
    pub(crate) start_time: String,
    pub(crate) target_subscription_id: String,
    pub(crate) resource_type: &'static str,
    pub(crate) target_host_name: String,
    pub(crate) target_resource_group: String,
    pub(crate) user_name: String,
    pub(crate) target_ip_address: String,
    pub(crate) protocol: &'static str,
    pub(crate) target_resource_id: String,
    pub(crate) session_duration_in_mins: f64,
}

/// `BastionSessionDeleteResult`.
#[derive(Debug, Serialize)]
pub(crate) struct BastionSessionDeleteResult {
    pub(crate) value: Vec<BastionSessionState>,
}

/// `BastionSessionState`; `state` is `Disconnected`, `Failed` or `NotFound`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BastionSessionState {
    pub(crate) session_id: String,
    pub(crate) message: String,
    pub(crate) state: &'static str,
}

/// Any of the plain lists: `value` and nothing else.
#[derive(Debug, Serialize)]
pub(crate) struct ListResult<T> {
    pub(crate) value: Vec<T>,
}

/// `BastionHost`.
#[derive(Debug, Serialize)]
pub(crate) struct BastionHost {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) etag: String,
    pub(crate) location: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) sku: Sku,
    pub(crate) properties: BastionHostProperties,
}

/// `Sku`.
#[derive(Debug, Serialize)]
pub(crate) struct Sku {
    pub(crate) name: &'static str,
}

/// `BastionHostPropertiesFormat`. Versions of azure-cli index `enableTunneling` without asking whether it is there.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BastionHostProperties {
    pub(crate) ip_configurations: Vec<serde_json::Value>,
    pub(crate) dns_name: String,
    pub(crate) provisioning_state: &'static str,
    pub(crate) scale_units: u32,
    pub(crate) disable_copy_paste: bool,
    pub(crate) enable_file_copy: bool,
    pub(crate) enable_ip_connect: bool,
    pub(crate) enable_shareable_link: bool,
    pub(crate) enable_tunneling: bool,
    pub(crate) enable_kerberos: bool,
    pub(crate) enable_session_recording: bool,
    pub(crate) enable_private_only_bastion: bool,
}

/// `BastionShareableLink`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BastionShareableLink {
    pub(crate) vm: SubResource,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bsl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) created_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

/// A reference to a resource.
#[derive(Debug, Serialize)]
pub(crate) struct SubResource {
    pub(crate) id: String,
}

/// `VirtualMachine`, as much of it as a target has. Source: `Microsoft.Compute` `virtualMachine.json`.
#[derive(Debug, Serialize)]
pub(crate) struct VirtualMachine {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) location: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) properties: VirtualMachineProperties,
}

/// `VirtualMachineProperties`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VirtualMachineProperties {
    pub(crate) vm_id: String,
    pub(crate) provisioning_state: &'static str,
    pub(crate) os_profile: OsProfile,
    pub(crate) storage_profile: StorageProfile,
    pub(crate) network_profile: NetworkProfile,
}

/// `OSProfile`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OsProfile {
    pub(crate) computer_name: String,
}

/// `StorageProfile`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StorageProfile {
    pub(crate) os_disk: OsDisk,
    pub(crate) data_disks: [(); 0],
}

/// `OSDisk`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OsDisk {
    pub(crate) os_type: &'static str,
    pub(crate) create_option: &'static str,
}

/// `NetworkProfile`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkProfile {
    pub(crate) network_interfaces: [(); 0],
}

/// `Provider`. Source: `Microsoft.Resources` `resources.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Provider {
    pub(crate) id: String,
    pub(crate) namespace: &'static str,
    pub(crate) registration_state: &'static str,
    pub(crate) registration_policy: &'static str,
    pub(crate) resource_types: Vec<ProviderResourceType>,
}

/// `ProviderResourceType`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProviderResourceType {
    pub(crate) resource_type: &'static str,
    pub(crate) locations: Vec<String>,
    pub(crate) api_versions: Vec<&'static str>,
    pub(crate) capabilities: &'static str,
}

/// `TenantIdDescription`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tenant {
    pub(crate) id: String,
    pub(crate) tenant_id: String,
    pub(crate) display_name: String,
    pub(crate) tenant_category: &'static str,
}

/// `AzureAsyncOperationResult`.
#[derive(Debug, Serialize)]
pub(crate) struct AsyncOperation {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<serde_json::Value>,
}

/// `Subscription`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) authorization_source: &'static str,
    pub(crate) managed_by_tenants: Vec<serde_json::Value>,
    pub(crate) subscription_id: String,
    pub(crate) tenant_id: String,
    pub(crate) display_name: String,
    pub(crate) state: &'static str,
    pub(crate) subscription_policies: SubscriptionPolicies,
}

/// `SubscriptionPolicies`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubscriptionPolicies {
    pub(crate) location_placement_id: &'static str,
    pub(crate) quota_id: &'static str,
    pub(crate) spending_limit: &'static str,
}

/// `ResourceGroup`.
#[derive(Debug, Serialize)]
pub(crate) struct ResourceGroup {
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) location: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) properties: ResourceGroupProperties,
}

/// `ResourceGroupProperties`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ResourceGroupProperties {
    pub(crate) provisioning_state: &'static str,
}
