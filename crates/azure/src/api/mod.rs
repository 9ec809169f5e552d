//! The operations: one file each, named as the service names them, and the list that says what each asks of the policy.

pub(crate) mod bastion_hosts;
pub(crate) mod cloud_metadata;
pub(crate) mod disconnect_active_sessions;
pub(crate) mod discovery;
pub(crate) mod get_active_sessions;
pub(crate) mod providers;
pub(crate) mod resource_groups;
pub(crate) mod shareable_links;
pub(crate) mod subscriptions;
pub(crate) mod token;
pub(crate) mod virtual_machines;

use crate::proto::api_version::Family;
use crate::proto::path::{ArmPath, HostAction, Resource};
use crate::refusal::Fault;
use http::Method;
use ravelin_model::policy::Action;

macro_rules! operations {
    ($($variant:ident = $name:literal, $permission:literal, $action:ident;)+) => {
        /// An operation of Azure Resource Manager that is offered here.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Operation { $($variant,)+ }

        impl Operation {
            /// The specification's `operationId`.
            pub(crate) fn name(self) -> &'static str {
                match self { $(Operation::$variant => $name,)+ }
            }

            /// The permission in the service's words.
            pub(crate) fn permission(self) -> &'static str {
                match self { $(Operation::$variant => $permission,)+ }
            }
        }

        /// Every operation under `/subscriptions` with what it asks of the policy. The token endpoint, its discovery
        /// documents and the cloud's metadata are open: they are how a caller comes by a proof.
        pub const OPERATIONS: &[(&str, Action)] = &[$(($name, Action::$action),)+];
    };
}

operations!(
    GetActiveSessions = "GetActiveSessions", "Microsoft.Network/bastionHosts/getActiveSessions/action", ListSessions;
    DisconnectActiveSessions = "DisconnectActiveSessions",
        "Microsoft.Network/bastionHosts/disconnectActiveSessions/action", TerminateSession;
    HostsGet = "BastionHosts_Get", "Microsoft.Network/bastionHosts/read", ReadBastion;
    HostsList = "BastionHosts_List", "Microsoft.Network/bastionHosts/read", ReadBastion;
    HostsListByGroup = "BastionHosts_ListByResourceGroup", "Microsoft.Network/bastionHosts/read", ReadBastion;
    HostsPut = "BastionHosts_CreateOrUpdate", "Microsoft.Network/bastionHosts/write", WriteBastion;
    HostsPatch = "BastionHosts_UpdateTags", "Microsoft.Network/bastionHosts/write", WriteBastion;
    HostsDelete = "BastionHosts_Delete", "Microsoft.Network/bastionHosts/delete", WriteBastion;
    LinksPut = "PutBastionShareableLink",
        "Microsoft.Network/bastionHosts/createShareableLinks/action", WriteBastion;
    LinksGet = "GetBastionShareableLink", "Microsoft.Network/bastionHosts/getShareableLinks/action", ReadBastion;
    LinksDelete = "DeleteBastionShareableLink",
        "Microsoft.Network/bastionHosts/deleteShareableLinks/action", WriteBastion;
    LinksDeleteByToken = "DeleteBastionShareableLinkByToken",
        "Microsoft.Network/bastionHosts/deleteShareableLinksByToken/action", WriteBastion;
    StatusGet = "AsyncOperations_Status", "Microsoft.Network/locations/operations/read", ReadBastion;
    ResultGet = "AsyncOperations_Result", "Microsoft.Network/locations/operationResults/read", ReadBastion;
    MachinesGet = "VirtualMachines_Get", "Microsoft.Compute/virtualMachines/read", ReadTarget;
    MachinesList = "VirtualMachines_List", "Microsoft.Compute/virtualMachines/read", ReadTarget;
    MachinesListAll = "VirtualMachines_ListAll", "Microsoft.Compute/virtualMachines/read", ReadTarget;
    ProvidersList = "Providers_List", "Microsoft.Resources/subscriptions/providers/read", ReadBastion;
    ProvidersGet = "Providers_Get", "Microsoft.Resources/subscriptions/providers/read", ReadBastion;
    TenantsList = "Tenants_List", "Microsoft.Resources/tenants/read", ReadBastion;
    SubscriptionsList = "Subscriptions_List", "Microsoft.Resources/subscriptions/read", ReadBastion;
    SubscriptionsGet = "Subscriptions_Get", "Microsoft.Resources/subscriptions/read", ReadBastion;
    GroupsList = "ResourceGroups_List", "Microsoft.Resources/subscriptions/resourceGroups/read", ReadBastion;
    GroupsGet = "ResourceGroups_Get", "Microsoft.Resources/subscriptions/resourceGroups/read", ReadBastion;
);

impl Operation {
    /// Whether the specification lets its answer come later.
    pub(crate) fn may_be_late(self) -> bool {
        match self {
            Operation::GetActiveSessions
            | Operation::HostsPatch
            | Operation::LinksPut
            | Operation::LinksDelete
            | Operation::LinksDeleteByToken => true,
            // The specification knows no 202 of these, and neither do the SDKs.
            Operation::DisconnectActiveSessions
            | Operation::HostsPut
            | Operation::HostsGet
            | Operation::HostsList
            | Operation::HostsListByGroup
            | Operation::HostsDelete
            | Operation::LinksGet
            | Operation::StatusGet
            | Operation::ResultGet
            | Operation::MachinesGet
            | Operation::MachinesList
            | Operation::MachinesListAll
            | Operation::ProvidersList
            | Operation::ProvidersGet
            | Operation::TenantsList
            | Operation::SubscriptionsList
            | Operation::SubscriptionsGet
            | Operation::GroupsList
            | Operation::GroupsGet => false,
        }
    }

    /// Whether a caller who asks for it may have the answer later all the same.
    pub(crate) fn heeds_prefer(self) -> bool {
        self.may_be_late() || self == Operation::DisconnectActiveSessions
    }

    /// Whether the answer to a request is as good for one that repeats it. What changes something that can be changed
    /// back is done again: something else may have been done in between.
    pub(crate) fn may_be_answered_once(self) -> bool {
        matches!(self, Operation::GetActiveSessions | Operation::DisconnectActiveSessions)
    }

    /// Whether the only answer that the specification knows is 202.
    pub(crate) fn is_always_late(self) -> bool {
        self == Operation::LinksDeleteByToken
    }
}

/// Every operation of the data plane with what it asks of the policy, on the target. Their proofs are in forms and paths:
/// a bearer token, and then a token that was given out against it.
pub const DATA_OPERATIONS: &[(&str, Action)] = &[
    ("POST /api/tokens", Action::OpenTunnel),
    ("DELETE /api/tokens/{authToken}", Action::OpenTunnel),
    ("POST /api/connection", Action::OpenTunnel),
    ("GET /webtunnelv2/{websocketToken}", Action::OpenTunnel),
    ("GET /omni/webtunnel/{websocketToken}", Action::OpenTunnel),
    ("GET /webtunnel/{authToken}", Action::OpenTunnel),
    ("GET /api/shareable-url/{token}", Action::ReadTarget),
];

/// Whose api-versions hold for a path, and the type's name in the message about a wrong one.
pub(crate) fn family(resource: &Resource) -> (Family, &'static str) {
    match resource {
        Resource::Hosts | Resource::Host { .. } | Resource::HostAction { .. } => (Family::Network, "bastionHosts"),
        Resource::OperationStatus { .. } | Resource::OperationResult { .. } => (Family::Network, "locations"),
        Resource::Machines | Resource::Machine { .. } => (Family::Compute, "virtualMachines"),
        Resource::Providers | Resource::Provider { .. } => (Family::Resources, "providers"),
        Resource::Tenants => (Family::Resources, "tenants"),
        Resource::Subscriptions | Resource::Subscription => (Family::Resources, "subscriptions"),
        Resource::Groups | Resource::Group => (Family::Resources, "resourceGroups"),
        Resource::Foreign { .. } | Resource::Nothing => (Family::Resources, "resources"),
    }
}

/// The operation that a method and a path name. A further page of a list is fetched with `GET` even where the first one
/// is a `POST`.
pub(crate) fn resolve(path: &ArmPath, method: &Method, is_next_page: bool) -> Result<Operation, Fault> {
    let (operation, allowed) = match &path.resource {
        Resource::Subscriptions => (Operation::SubscriptionsList, "GET"),
        Resource::Subscription => (Operation::SubscriptionsGet, "GET"),
        Resource::Groups => (Operation::GroupsList, "GET"),
        Resource::Group => (Operation::GroupsGet, "GET, HEAD"),
        Resource::Hosts if path.group.is_some() => (Operation::HostsListByGroup, "GET"),
        Resource::Hosts => (Operation::HostsList, "GET"),
        Resource::Host { .. } => {
            const ALLOWED: &str = "GET, PUT, PATCH, DELETE";
            match *method {
                Method::PUT => (Operation::HostsPut, ALLOWED),
                Method::PATCH => (Operation::HostsPatch, ALLOWED),
                Method::DELETE => (Operation::HostsDelete, ALLOWED),
                _ => (Operation::HostsGet, ALLOWED),
            }
        }
        Resource::HostAction { action: HostAction::CreateShareableLinks, .. } => (Operation::LinksPut, "POST"),
        Resource::HostAction { action: HostAction::GetShareableLinks, .. } => (Operation::LinksGet, "POST"),
        Resource::HostAction { action: HostAction::DeleteShareableLinks, .. } => (Operation::LinksDelete, "POST"),
        Resource::HostAction { action: HostAction::DeleteShareableLinksByToken, .. } => {
            (Operation::LinksDeleteByToken, "POST")
        }
        Resource::OperationStatus { .. } => (Operation::StatusGet, "GET"),
        Resource::OperationResult { .. } => (Operation::ResultGet, "GET"),
        Resource::Machine { .. } => (Operation::MachinesGet, "GET"),
        Resource::Machines if path.group.is_some() => (Operation::MachinesList, "GET"),
        Resource::Machines => (Operation::MachinesListAll, "GET"),
        Resource::Providers => (Operation::ProvidersList, "GET"),
        Resource::Provider { .. } => (Operation::ProvidersGet, "GET"),
        Resource::Tenants => (Operation::TenantsList, "GET"),
        Resource::HostAction { action: HostAction::GetActiveSessions, .. } if is_next_page => {
            (Operation::GetActiveSessions, "GET, POST")
        }
        Resource::HostAction { action: HostAction::GetActiveSessions, .. } => (Operation::GetActiveSessions, "POST"),
        Resource::HostAction { action: HostAction::DisconnectActiveSessions, .. } => {
            (Operation::DisconnectActiveSessions, "POST")
        }
        Resource::HostAction { action: HostAction::Other(word), .. } => {
            let kind = format!("bastionHosts/{word}");
            return Err(Fault::TypeUnknown { namespace: "Microsoft.Network".to_owned(), kind });
        }
        Resource::Foreign { namespace, kind }
            if ["Microsoft.Network", "Microsoft.Compute"].iter().any(|known| namespace.eq_ignore_ascii_case(known)) =>
        {
            return Err(Fault::TypeUnknown { namespace: namespace.clone(), kind: kind.clone() });
        }
        Resource::Foreign { namespace, .. } => return Err(Fault::NamespaceUnknown(namespace.clone())),
        Resource::Nothing => return Err(Fault::PathUnknown),
    };
    if allowed.split(", ").any(|allowed| allowed == method.as_str()) {
        Ok(operation)
    } else {
        Err(Fault::Method { allowed })
    }
}
