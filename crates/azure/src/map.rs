//! Between our words and the service's: the only file that names both sides.

use crate::ALIAS;
use crate::config::Config;
use crate::wire::arm as wire;
use aws_lc_rs::digest;
use jiff::Timestamp;
use ravelin_engine::control::Termination;
use ravelin_engine::kept::Link;
use ravelin_model::target::{Protocol, TargetSnapshot};
use ravelin_model::{PrincipalName, Refusal, Session, Target, Time};
use std::collections::BTreeMap;

/// The Azure resource id of a target that the inventory gives none:
/// `/subscriptions/{s}/resourceGroups/{g}/providers/Microsoft.Compute/virtualMachines/{name}`.
#[must_use]
pub fn target_id(subscription_id: &str, resource_group: &str, target_name: &str) -> String {
    format!("{}/providers/Microsoft.Compute/virtualMachines/{target_name}", group_id(subscription_id, resource_group))
}

/// The resource id of a resource group.
pub(crate) fn group_id(subscription_id: &str, resource_group: &str) -> String {
    format!("/subscriptions/{subscription_id}/resourceGroups/{resource_group}")
}

/// The resource id of the bastion host.
pub(crate) fn host_id(config: &Config) -> String {
    let group = group_id(&config.subscription_id, &config.resource_group);
    format!("{group}/providers/Microsoft.Network/bastionHosts/{}", config.bastion_name)
}

/// One item of the list, at the moment `now`.
pub(crate) fn active_session(session: &Session, now: Time, config: &Config) -> wire::BastionActiveSession {
    let target = &session.draft.target;
    let resource_id = resource_id(target, config);
    let (subscription, group) = owners_of(&resource_id).unwrap_or((&config.subscription_id, &config.resource_group));
    let (subscription, group) = (subscription.to_owned(), group.to_owned());
    wire::BastionActiveSession {
        session_id: session.id().to_string(),
        start_time: instant(session.created),
        target_subscription_id: subscription,
        resource_type: "VM",
        target_host_name: target.name.to_string(),
        target_resource_group: group,
        user_name: session.draft.principal.to_string(),
        target_ip_address: target.address.clone(),
        protocol: match session.draft.protocol {
            Protocol::Ssh => "SSH",
            Protocol::Rdp => "RDP",
            Protocol::Tcp => "TCP",
        },
        target_resource_id: resource_id,
        session_duration_in_mins: minutes(now, session.created),
    }
}

/// What became of one id of a disconnect. The beginnings of the messages are the service's own.
pub(crate) fn session_state(id: &str, outcome: &Result<Termination, Refusal>) -> wire::BastionSessionState {
    let (state, message) = match outcome {
        Ok(Termination::Confirmed { .. }) => ("Disconnected", format!("session {id} invalidated!")),
        Ok(Termination::AlreadyEnded { ended, ending }) => {
            ("NotFound", format!("session {id} not found! It ended at {}: {}.", instant(*ended), ending.message()))
        }
        Ok(Termination::Pending { because }) => {
            ("Failed", format!("session {id} could not be disconnected! In time, that is: {because}."))
        }
        Err(Refusal::NotFound { .. }) => return session_not_found(id),
        Err(
            refusal @ (Refusal::Denied { .. }
            | Refusal::Unauthenticated { .. }
            | Refusal::Invalid { .. }
            | Refusal::Conflict { .. }
            | Refusal::LimitReached { .. }
            | Refusal::Unavailable { .. }
            | Refusal::Internal { .. }),
        ) => ("Failed", format!("session {id} could not be disconnected! Because: {refusal}.")),
    };
    wire::BastionSessionState { session_id: id.to_owned(), message, state }
}

/// The state of an id that names no session that the caller may know of.
pub(crate) fn session_not_found(id: &str) -> wire::BastionSessionState {
    let message = format!("session {id} not found!");
    wire::BastionSessionState { session_id: id.to_owned(), message, state: "NotFound" }
}

/// What of the bastion host is not the same for every request.
#[derive(Clone, Copy)]
pub(crate) struct HostLook<'a> {
    /// The name, perhaps with a port, under which clients reach it.
    pub(crate) dns_name: &'a str,
    /// Whether addresses may be reached that no target has.
    pub(crate) reaches_addresses: bool,
}

/// The id of a virtual machine's resource: a target's own one if it has one, else the one derived from its name.
pub(crate) fn machine_id(target: &Target, config: &Config) -> String {
    match target.aliases.get(ALIAS) {
        Some(alias) => alias.clone(),
        None => target_id(&config.subscription_id, &config.resource_group, target.name.as_str()),
    }
}

/// Whether a virtual machine's id lies in this subscription, and in this group if one is given.
pub(crate) fn machine_is_in(id: &str, subscription: &str, group: Option<&str>) -> bool {
    let same = |(s, g): (&str, &str)| {
        s.eq_ignore_ascii_case(subscription) && group.is_none_or(|group| g.eq_ignore_ascii_case(group))
    };
    owners_of(id).is_some_and(same)
}

/// A target as a virtual machine.
pub(crate) fn machine(target: &Target, config: &Config) -> wire::VirtualMachine {
    let id = machine_id(target, config);
    wire::VirtualMachine {
        name: id.rsplit('/').next().unwrap_or(target.name.as_str()).to_owned(),
        kind: "Microsoft.Compute/virtualMachines",
        location: config.location.clone(),
        tags: target.labels.clone(),
        properties: wire::VirtualMachineProperties {
            vm_id: stable_guid(&["machine", &id.to_ascii_lowercase()]),
            provisioning_state: "Succeeded",
            os_profile: wire::OsProfile { computer_name: target.name.to_string() },
            storage_profile: wire::StorageProfile {
                os_disk: wire::OsDisk {
                    os_type: match target.protocol {
                        Protocol::Ssh | Protocol::Tcp => "Linux",
                        Protocol::Rdp => "Windows",
                    },
                    create_option: "Attach",
                },
                data_disks: [],
            },
            network_profile: wire::NetworkProfile { network_interfaces: [] },
        },
        id,
    }
}

/// A link to a target.
pub(crate) fn shareable_link(link: &Link, vm: String, origin: &str) -> wire::BastionShareableLink {
    wire::BastionShareableLink {
        vm: wire::SubResource { id: vm },
        bsl: Some(format!("{origin}/api/shareable-url/{}", link.token)),
        created_at: Some(instant(link.created)),
        message: link.expires.map(|expires| format!("good until {}", instant(expires))),
    }
}

/// The tenant.
pub(crate) fn tenant(config: &Config) -> wire::Tenant {
    wire::Tenant {
        id: format!("/tenants/{}", config.tenant_id),
        tenant_id: config.tenant_id.clone(),
        display_name: "Ravelin".to_owned(),
        tenant_category: "Home",
    }
}

/// The bastion host itself.
pub(crate) fn bastion_host(config: &Config, look: HostLook<'_>, tags: BTreeMap<String, String>) -> wire::BastionHost {
    let dns_name = look.dns_name;
    let id = host_id(config);
    // Of all that may be another answer the next time.
    let mut content = vec!["host", &id, dns_name];
    if look.reaches_addresses {
        content.push("addresses");
    }
    content.extend(tags.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]));
    wire::BastionHost {
        etag: format!("W/\"{}\"", stable_guid(&content)),
        id,
        name: config.bastion_name.clone(),
        kind: "Microsoft.Network/bastionHosts",
        location: config.location.clone(),
        tags,
        sku: wire::Sku { name: "Standard" },
        properties: wire::BastionHostProperties {
            ip_configurations: Vec::new(),
            dns_name: dns_name.to_owned(),
            provisioning_state: "Succeeded",
            scale_units: 2,
            disable_copy_paste: false,
            enable_file_copy: false,
            enable_ip_connect: look.reaches_addresses,
            enable_shareable_link: true,
            // Clients believe this flag and the SKU's name, and stop without them.
            enable_tunneling: true,
            enable_kerberos: false,
            enable_session_recording: false,
            enable_private_only_bastion: false,
        },
    }
}

/// The one subscription.
pub(crate) fn subscription(config: &Config) -> wire::Subscription {
    wire::Subscription {
        id: format!("/subscriptions/{}", config.subscription_id),
        authorization_source: "RoleBased",
        managed_by_tenants: Vec::new(),
        subscription_id: config.subscription_id.clone(),
        tenant_id: config.tenant_id.clone(),
        display_name: "Ravelin".to_owned(),
        state: "Enabled",
        subscription_policies: wire::SubscriptionPolicies {
            location_placement_id: "Internal_2014-09-01",
            quota_id: "Internal_2014-09-01",
            spending_limit: "Off",
        },
    }
}

/// The one resource group.
pub(crate) fn resource_group(config: &Config) -> wire::ResourceGroup {
    wire::ResourceGroup {
        id: group_id(&config.subscription_id, &config.resource_group),
        name: config.resource_group.clone(),
        kind: "Microsoft.Resources/resourceGroups",
        location: config.location.clone(),
        tags: Default::default(),
        properties: wire::ResourceGroupProperties { provisioning_state: "Succeeded" },
    }
}

/// The object id of a principal in the deployment's directory: always the same for the same name.
pub(crate) fn object_id(tenant_id: &str, principal: &PrincipalName) -> String {
    stable_guid(&["object", &tenant_id.to_ascii_lowercase(), principal.as_str()])
}

/// ISO 8601 in UTC with seven fraction digits, as the service writes times.
pub(crate) fn instant(time: Time) -> String {
    match Timestamp::from_microsecond(time.as_micros()) {
        Ok(stamp) => {
            let micros = time.as_micros().rem_euclid(1_000_000);
            format!("{}.{micros:06}0Z", stamp.strftime("%Y-%m-%dT%H:%M:%S"))
        }
        // Outside of the years that the calendar has; a store's clock never says so.
        Err(_) => "9999-12-31T23:59:59.9999999Z".to_owned(),
    }
}

/// A target's own id if it has one, else the one derived from its name.
fn resource_id(target: &TargetSnapshot, config: &Config) -> String {
    match target.aliases.get(ALIAS) {
        Some(alias) => alias.clone(),
        None => target_id(&config.subscription_id, &config.resource_group, target.name.as_str()),
    }
}

/// The subscription and the resource group that a resource id names.
fn owners_of(resource_id: &str) -> Option<(&str, &str)> {
    let mut parts = resource_id.strip_prefix('/')?.split('/');
    let (first, subscription, second, group) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let named = first.eq_ignore_ascii_case("subscriptions") && second.eq_ignore_ascii_case("resourceGroups");
    (named && !subscription.is_empty() && !group.is_empty()).then_some((subscription, group))
}

/// Minutes between two times, in hundredths.
fn minutes(now: Time, start: Time) -> f64 {
    (now.since(start).as_secs_f64() / 60.0 * 100.0).round() / 100.0
}

/// A GUID made of a digest, marked as custom-made (version 8 of RFC 9562).
fn stable_guid(parts: &[&str]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&context.finish().as_ref()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ravelin_model::principal::AuthMethod;
    use ravelin_model::session::{Draft, Kind};
    use ravelin_model::{NodeId, SessionId, TargetId, TargetName};

    /// The sample response of the reference, with the one time in it spelled as ISO 8601 wants it.
    const DOCUMENTED: &str = include_str!("../tests/golden/get_active_sessions/documented.json");

    #[test]
    fn the_documented_session_is_said_as_documented() {
        let documented: serde_json::Value = serde_json::from_str(DOCUMENTED).expect("JSON");
        let principal = PrincipalName::parse("user").expect("a name");
        let vm = target_id("subid", "rg1", "vm01");
        let draft = Draft {
            id: SessionId::new(&principal, 1),
            principal,
            groups: Default::default(),
            auth: AuthMethod::SshKey,
            client_address: ([192, 0, 2, 7], 4711).into(),
            client_software: String::new(),
            target: TargetSnapshot {
                id: TargetId::from_hex("0123456789abcdef0").expect("17 digits"),
                name: TargetName::parse("vm01").expect("a name"),
                address: "1.1.1.1".to_owned(),
                port: 22,
                labels: Default::default(),
                aliases: [(ALIAS.to_owned(), vm)].into(),
            },
            login: None,
            protocol: Protocol::Ssh,
            kind: Kind::Shell,
            document: None,
            reason: None,
            duration_max: None,
            recording_rule: None,
            logs: Vec::new(),
            node: NodeId::new(1),
            epoch: 1,
            tags: Default::default(),
        };
        let start = Time::from_micros(1_546_344_000_000_000);
        let (session, _told) = Session::open(draft, start);
        let said = active_session(&session, start, &Config::new("t", "s", "g", "b"));
        let mut said = serde_json::to_value(said).expect("JSON");
        assert_eq!(said["startTime"], "2019-01-01T12:00:00.0000000Z");
        said["startTime"] = documented["value"][0]["startTime"].clone();
        said["sessionId"] = documented["value"][0]["sessionId"].clone();
        assert_eq!(said["sessionDurationInMins"].as_f64(), documented["value"][0]["sessionDurationInMins"].as_f64());
        said["sessionDurationInMins"] = documented["value"][0]["sessionDurationInMins"].clone();
        assert_eq!(said, documented["value"][0]);

        let later = start.plus(std::time::Duration::from_secs(90));
        assert!(
            (active_session(&session, later, &Config::new("t", "s", "g", "b")).session_duration_in_mins - 1.5).abs()
                < 1e-9
        );
    }

    #[test]
    fn times_have_seven_fraction_digits() {
        assert_eq!(instant(Time::from_micros(1_795_298_400_000_000)), "2026-11-21T22:00:00.0000000Z");
        assert_eq!(instant(Time::from_micros(1_795_298_400_012_345)), "2026-11-21T22:00:00.0123450Z");
        assert_eq!(instant(Time::from_micros(-1)), "1969-12-31T23:59:59.9999990Z");
        assert_eq!(instant(Time::MAX), "9999-12-31T23:59:59.9999999Z");
    }

    #[test]
    fn a_resource_id_tells_its_subscription_and_group() {
        let id = target_id("subid", "rg1", "vm01");
        assert_eq!(id, "/subscriptions/subid/resourceGroups/rg1/providers/Microsoft.Compute/virtualMachines/vm01");
        assert_eq!(owners_of(&id), Some(("subid", "rg1")));
        assert_eq!(owners_of("/SUBSCRIPTIONS/s/resourcegroups/g"), Some(("s", "g")));
        for other in ["", "/", "web-1", "/subscriptions/s", "/subscriptions//resourceGroups/g", "/a/s/resourceGroups/g"]
        {
            assert_eq!(owners_of(other), None, "{other}");
        }
    }

    #[test]
    fn object_ids_are_guids_and_differ() {
        let name = |text| PrincipalName::parse(text).expect("a name");
        let alice = object_id("T", &name("alice"));
        assert!(crate::proto::is_guid(&alice), "{alice}");
        assert_eq!(alice, object_id("t", &name("alice")));
        assert_ne!(alice, object_id("T", &name("bob")));
        assert_ne!(alice, object_id("U", &name("alice")));
    }
}
